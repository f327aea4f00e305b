"""An endpoint of coap.py in asyncio, on CPython and MicroPython alike: requests are awaited, a server is a task.

    import asyncio
    import coap
    import coap_aio

    async def main():
        aio = coap_aio.Aio(coap.Endpoint())
        response = await aio.get("coap://192.0.2.1/sensors/temp", timeout_ms=5000)
        print(response.payload)
        both = await asyncio.gather(aio.get("coap://192.0.2.1/a"), aio.get("coap://192.0.2.2/b"))

    asyncio.run(main())

and a server, whose handlers are plain functions as ever:

    endpoint = coap.Endpoint(port=5683)
    aio = coap_aio.Aio(endpoint)
    slow = endpoint.resource("slow", ct=coap.TEXT)

    @slow.get
    def read_slow(request, response):  # one that takes its time answers from a task
        asyncio.create_task(answer(response.copy()))
        return coap.LATER

    async def answer(later):
        await asyncio.sleep(2)
        later.payload = "22.5 C"
        later.opt.content_format = coap.TEXT
        aio.send(later)

    asyncio.run(aio.serve())

With coap_observe.py beside it, changes are awaited, and told by `aio.notify("sensors/temp")`:

    async for message in aio.observe("coap://192.0.2.1/sensors/temp"):
        print(message.payload)

Beside coap.py this file is optional. It needs the firmware's asyncio, and polls nothing: it sleeps until a datagram
comes or the endpoint has something to do.
"""

import asyncio
import sys

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


import coap

# The values of coap.py: MicroPython would look coap.GET up at each use
_GET = const(1)
_POST = const(2)
_PUT = const(3)
_DELETE = const(4)
_FETCH = const(5)
_PATCH = const(6)
_IPATCH = const(7)
_NOT_FOUND = const(132)

_BURST = const(16)  # messages for the application taken before other tasks have their turn
_ASK_MS = const(10)  # how often a transport is asked that cannot be polled
_REOPEN_MS = const(1000)  # how often an endpoint tries to replace a lost socket
_MESSAGES = const(4)  # notifications that wait for a task
_ON_CPYTHON = sys.implementation.name == "cpython"


if _ON_CPYTHON:
    _loop = asyncio._get_running_loop  # None: there is none
else:

    def _loop():
        """The queue of tasks, of which each loop has its own."""
        return asyncio.core._task_queue


def _readable(sock):
    """Wait on MicroPython until `sock` can be read, as asyncio's own streams do."""
    yield asyncio.core._io_queue.queue_read(sock)


class Aio:
    """An Endpoint in asyncio. One Aio for an endpoint: two tasks cannot wait for the same socket.

    Aio(endpoint)

      endpoint  a coap.Endpoint; what is awaited here goes through it, and while anything is awaited it serves, on all
                its sockets, those of groups and of register_socket, too

    Requests may be awaited by many tasks at once; what exceeds the endpoint's tables waits for room. A task that is
    cancelled takes its request with it and nothing else. Names are looked up blocking (asyncio has nothing
    else on a board). On Windows CPython needs a SelectorEventLoop. Do not use the endpoint's blocking calls in a
    task, and end it by close() here.
    Keeps about 160 bytes on a board, 300 more while something is awaited, and 430 for each request besides its record.
    """

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self._loop = None  # that of the users
        self._users = 0  # calls that wait at present
        self.error = None  # why it has ended
        self._changed = None  # an Event, set whenever the endpoint has done something; new with the first user
        self._sockets = []  # of the endpoint, as they were when they began to be watched
        self._readers = []  # one for each of these: a task on MicroPython, the descriptor on CPython
        self._timer = None  # what calls _expire at until_ms
        self.until_ms = 0
        self._is_processing = False

    # -- requests

    async def request(self, method, uri, payload=b"", timeout_ms=None, **options):
        """Send a request and await the response Message, of any code; arguments as in Endpoint.request.

        None is returned for a request that wants no response (no_response=26), once it has gone; what a server answers
        in its ACK all the same is returned.
        Raises coap.Timeout, Reset, Rejected; OSError if the name is not known; ValueError; coap.Closed.
        """
        record = await self.exchange(coap.Message(method, uri=uri, payload=payload, **options), None, timeout_ms)
        if record.error:
            raise record.error(uri)
        return record.response and record.response.message

    def get(self, uri, **options):
        """request(GET, ...)"""
        return self.request(_GET, uri, **options)

    def put(self, uri, payload=b"", **options):
        """request(PUT, ...)"""
        return self.request(_PUT, uri, payload, **options)

    def post(self, uri, payload=b"", **options):
        """request(POST, ...)"""
        return self.request(_POST, uri, payload, **options)

    def delete(self, uri, **options):
        """request(DELETE, ...)"""
        return self.request(_DELETE, uri, **options)

    def fetch(self, uri, payload=b"", **options):
        """request(FETCH, ...)"""
        return self.request(_FETCH, uri, payload, **options)

    def patch(self, uri, payload=b"", **options):
        """request(PATCH, ...)"""
        return self.request(_PATCH, uri, payload, **options)

    def ipatch(self, uri, payload=b"", **options):
        """request(IPATCH, ...)"""
        return self.request(_IPATCH, uri, payload, **options)

    def observe(self, uri, **options):
        """Observe the resource `uri`: `async for message in aio.observe(uri)`, see Observing.

        options as in coap_observe.observe, whose file is needed.
        """
        return Observing(self, uri, options)

    async def exchange(self, message, remote=None, timeout_ms=None):
        """Send `message` as Endpoint.send does and await the end of its exchange; returns the TransmissionRecord.

        So a request to a group is awaited, whose `responses` are several, or a ping. While the endpoint's queue is
        full it waits for room. Raises what send raises but coap.Full itself, and coap.Closed.
        """
        record = None
        changed = self._enter()
        try:
            while record is None:
                try:
                    record = self.endpoint.send(message, remote, timeout_ms)
                except coap.Full as full:
                    await self._room(full)
            self.wake()
            while not record.is_done():
                await self._change()
        finally:
            try:
                if record is not None and not record.is_done():
                    record.cancel()
                    self._tell()  # there is room for others
                    self._wake()
            finally:
                self._leave(changed)
        return record

    async def ping(self, remote, timeout_ms=None):
        """Ask whether somebody is at `remote`; returns how many ms the answer took, raises as Endpoint.ping."""
        record = await self.exchange(coap.Message(0, remote=remote), None, timeout_ms)
        if record.error and record.error is not coap.Reset:  # an empty ACK is a sign of life, too
            raise record.error(remote)
        return coap.ticks_diff(record.last_event_ms, record.transmitted_ms)

    def send(self, message, remote=None, timeout_ms=None):
        """Send `message` as Endpoint.send does, without waiting; returns the TransmissionRecord.

        For what handlers promised by LATER, and in handlers. It is retransmitted, and its answer taken, while
        something is awaited, serve() for instance. Raises what Endpoint.send raises.
        """
        record = self.endpoint.send(message, remote, timeout_ms)
        self.wake()
        return record

    def notify(self, path, confirmable=False):
        """Tell the observers of `path` that it has changed, as coap_observe's endpoint.notify does; it goes at once."""
        self.endpoint.notify(path, confirmable)
        self.wake()

    # -- serving

    async def serve(self):
        """Serve until close() or until the task is cancelled, after which the endpoint can be used again.

        Raises what a hook of the application (log, on_end) raised.
        """
        changed = self._enter()
        try:
            while self.error is None:
                await changed.wait()
            if not isinstance(self.error, coap.Closed):
                raise self.error
        finally:
            self._leave(changed)

    def close(self):
        """Close the endpoint: what is awaited ends with coap.Closed, serve() returns. Not to be called in a handler."""
        self._stop(coap.Closed("the endpoint was closed"))
        self._forget()
        self.endpoint.close()

    def wake(self):
        """Let the endpoint do what is due now.

        It is to be called after what a task does with the endpoint itself, as endpoint.send, join or register_socket:
        that is sent, and that socket is read, from then on. Raises what a hook of the application raised.
        """
        if self._is_processing:  # called from a handler: it is sent when that returns
            return
        if self.endpoint._is_in_handler:  # called from an on_end
            self._wake()
            return
        self._is_processing = True
        try:
            for _ in range(_BURST):
                record = self.endpoint.process(0)
                if record is None:
                    break
                if record.pertains_to is None:  # a request to an endpoint without resources
                    record.respond(_NOT_FOUND)
        finally:
            self._is_processing = False
            self._tell()
            self._wake()

    # -- waiting

    async def _change(self):
        """Await that the endpoint has done something; raises if it never will again."""
        if self.error is None:
            await self._changed.wait()
        if self.error is not None:
            raise self.error

    async def _room(self, full):
        """Await a change if the queue is full; if it is not, there is another reason, and `full` is raised."""
        if len(self.endpoint._queue) < self.endpoint._limits[1]:
            raise full
        await self._change()

    def _tell(self):
        """Have each task that waits look whether what it waits for has come."""
        if self._users and _loop() is self._loop:
            self._changed.set()
            self._changed.clear()

    def _enter(self):
        """Count one user more; the first has the sockets watched. Returns what _leave takes."""
        if self.endpoint.is_closed:
            self._stop(coap.Closed("the endpoint was closed"))
        if self.error is not None:
            raise self.error
        if _loop() is not self._loop:  # the one before has ended, and who waited in it never leaves
            self._forget()
            self._users = 0
            self._loop = _loop()
        if not self._users:
            self._changed = asyncio.Event()
            self._watch()
        self._users += 1
        self._wake()
        return self._changed

    def _watch(self):
        """Wait for all sockets that the endpoint has now."""
        self._unwatch()
        self._sockets = list(self.endpoint._polled)
        for sock in self._sockets:
            if _ON_CPYTHON:
                self._loop.add_reader(sock, self._turn)
                self._readers.append(sock.fileno())
            else:
                self._readers.append(asyncio.create_task(self._read(sock)))

    async def _read(self, sock):
        """Wait on MicroPython for `sock` and have what comes handled, until _unwatch."""
        readers = self._readers
        while readers is self._readers:
            await _readable(sock)
            self._turn()

    def _turn(self):
        """wake(), for which a hook's exception ends what is awaited."""
        try:
            self.wake()
        except Exception as error:
            if not self._users:  # a handler has ended what was awaited last: asyncio reports the error
                raise
            self._stop(error)

    def _wake(self):
        """See to it that _turn is called at the endpoint's next event, and for all sockets that it has now."""
        if not self._users or _loop() is not self._loop:
            return
        endpoint = self.endpoint
        if self._sockets != endpoint._polled:  # one was replaced, or a group was joined
            self._watch()
        wait_ms = endpoint.next_event_ms()
        if endpoint._asked or endpoint.socket is None:
            at_most_ms = _ASK_MS if endpoint._asked else _REOPEN_MS
            wait_ms = at_most_ms if wait_ms is None else min(wait_ms, at_most_ms)
        if wait_ms is None:
            return
        due_ms = coap.ticks_add(coap.ticks_ms(), wait_ms)
        if self._timer is not None:
            if coap.ticks_diff(self.until_ms, due_ms) <= 0:
                return
            self._timer.cancel()
        self.until_ms = due_ms
        if _ON_CPYTHON:  # not a task: a program that cancels all tasks would cancel it, and what is awaited never ends
            self._timer = self._loop.call_later(wait_ms / 1000, self._expire)
        else:
            self._timer = asyncio.create_task(self._sleep(wait_ms))

    async def _sleep(self, wait_ms):
        await asyncio.sleep_ms(wait_ms)
        self._expire()

    def _expire(self):
        self._timer = None
        self._turn()

    def _stop(self, error):
        """End what is awaited with `error`."""
        self.error = error
        self._tell()

    def _leave(self, changed):
        """Count one user less; after the last nothing is watched. `changed`: what _enter returned."""
        if changed is not self._changed:  # another loop has begun since
            return
        self._users -= 1
        if not self._users:
            if _loop() is self._loop:
                changed.set()  # an `async for` that a handler has ended by cancel() waits for it
            self._forget()
            if not isinstance(self.error, coap.Closed):
                self.error = None

    def _forget(self):
        """Watch no socket and set no timer any more."""
        self._unwatch()
        if self._timer is not None:
            self._cancel(self._timer)
            self._timer = None

    def _unwatch(self):
        for reader in self._readers:
            if _ON_CPYTHON:
                self._loop.remove_reader(reader)
            else:
                self._cancel(reader)
        self._readers = []

    def _cancel(self, timer):
        """Cancel a timer, or a task of MicroPython."""
        if not _ON_CPYTHON and _loop() is not self._loop:  # MicroPython's queues must not be mixed
            return
        try:
            timer.cancel()
        except RuntimeError:
            pass  # MicroPython: a handler ends the task that called it; that looks whether it has ended


class Observing:
    """What Aio.observe returns, to be iterated once: the present state of a resource, then each change, as Messages.

    A task that falls behind gets the latest 4. The iteration ends by cancel(), or raises what ended the observation:
    coap_observe.NotObserved, coap.Timeout, Reset, Rejected; OSError if the name is not known, ValueError; coap.Closed;
    coap.Full if as many resources are observed as may be. A task that is cancelled while it waits here ends the
    observation. Who may leave the loop otherwise calls cancel(), or has `with` do that:

        with aio.observe(uri) as states:
            async for message in states:
                break
    """

    def __init__(self, aio, uri, options):
        self.aio = aio
        self.uri = uri
        self.options = options
        self.received = []
        self.observation = None  # False: cancel() came before it
        self._changed = None  # while it counts among the users of the Aio: what _leave takes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cancel()

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            if self.observation is None:
                await self._begin()
            while not self.received:
                if self._changed is None or self.observation.is_done():
                    raise self._end()
                await self.aio._change()
        except BaseException:
            self.cancel()
            raise
        return self.received.pop(0)

    async def _begin(self):
        import coap_observe

        aio = self.aio
        self._changed = aio._enter()
        while self.observation is None:
            try:
                self.observation = coap_observe.observe(aio.endpoint, self.uri, self._take, **self.options)
            except coap.Full as full:
                await aio._room(full)
        aio.wake()

    def _take(self, message):
        self.received.append(message)
        if len(self.received) > _MESSAGES:
            self.received.pop(0)

    def _end(self):
        """What __anext__ raises when no message will come."""
        error = self.observation and self.observation.error
        return error(self.uri) if error else StopAsyncIteration()

    def cancel(self):
        """End the observation: the server is told, and the iteration ends."""
        changed = self._changed
        self.received.clear()
        self.observation = self.observation or False
        if changed:
            self._changed = None
            try:
                if self.observation:
                    self.observation.cancel()
                    if self.aio.error is None:
                        self.aio.wake()
            finally:
                self.aio._leave(changed)
