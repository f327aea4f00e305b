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

# As in coap.py, where each use would be looked up
_GET = const(1)
_POST = const(2)
_PUT = const(3)
_DELETE = const(4)
_FETCH = const(5)
_PATCH = const(6)
_IPATCH = const(7)
_NOT_FOUND = const(132)

_BURST = const(16)  # messages for the application taken before other tasks have their turn
_ASK_S = 0.01  # how often a transport is asked that cannot be polled
_REOPEN_S = const(1)  # how often an endpoint tries to replace a lost socket
_MESSAGES = const(4)  # notifications that wait for a task
_ON_CPYTHON = sys.implementation.name == "cpython"


def _is_pollable(sock):
    """Whether the loop can wait for `sock`."""
    if _ON_CPYTHON:
        return hasattr(sock, "fileno")
    import select

    try:
        select.poll().register(sock, select.POLLIN)
    except (AttributeError, OSError, TypeError):
        return False
    return True


def _readable(sock):
    """Wait on MicroPython until `sock` can be read, as asyncio's own streams do."""
    yield asyncio.core._io_queue.queue_read(sock)


class Aio:
    """An Endpoint in asyncio. One Aio for an endpoint: two tasks cannot wait for the same socket.

    Aio(endpoint, sockets=())

      endpoint  a coap.Endpoint; what is awaited here goes through it, and while anything is awaited it serves
      sockets   those that were given to endpoint.register_socket besides its own

    Requests may be awaited by many tasks at once; what exceeds the endpoint's tables waits for room. A task that is
    cancelled takes its request with it and nothing else. Names are looked up blocking (asyncio has nothing
    else on a board). On Windows CPython needs a SelectorEventLoop. Do not use the endpoint's blocking calls in a
    task, and end it by close() here.
    Keeps about 170 bytes on a board, 300 more while something is awaited, and 430 for each request besides its record.
    """

    def __init__(self, endpoint, sockets=()):
        self.endpoint = endpoint
        self.sockets = sockets
        self._users = 0  # calls that wait at present
        self.error = None  # why it has ended
        self._changed = None  # an Event, set whenever the endpoint has done something; new with the first user
        self._tasks = []  # while there are users: one for each socket
        self._polled = []  # on CPython: sockets that the loop watches instead
        self._timer = None  # the task that sleeps until until_ms
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
        self._enter()
        try:
            while record is None:
                try:
                    record = self.send(message, remote, timeout_ms)
                except coap.Full as full:
                    if type(full) is not coap.Full:  # there will never be room: coap_oscore.Exhausted
                        raise
                    await self._change()
            while not record.is_done():
                await self._change()
        finally:
            try:
                if record is not None:
                    record.cancel()
            finally:
                self._leave()
        return record

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
        self._enter()
        try:
            while self.error is None:
                await self._changed.wait()
            if not isinstance(self.error, coap.Closed):
                raise self.error
        finally:
            self._leave()

    def close(self):
        """Close the endpoint: what is awaited ends with coap.Closed, serve() returns. Not to be called in a handler."""
        self._stop(coap.Closed("the endpoint was closed"))
        self._forget()
        self.endpoint.close()

    def wake(self):
        """Let the endpoint do what is due now, for instance send what it was given by other ways than send() here."""
        if self._is_processing:  # called from a handler: it is sent when that returns
            return
        if self.endpoint._is_in_handler:  # called from an on_end
            if self._users:
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
        if self._users:
            self._changed.set()
            self._changed.clear()
            self._wake()

    # -- waiting

    async def _change(self):
        """Await that the endpoint has done something; raises if it never will again."""
        if self.error is None:
            await self._changed.wait()
        if self.error is not None:
            raise self.error

    def _enter(self):
        """Begin to wait for the sockets if nobody does yet."""
        if self.error is not None:
            raise self.error
        self._users += 1
        if self._users == 1:
            self._changed = asyncio.Event()
            self._watch(self.endpoint.socket)
            for sock in self.sockets:
                self._watch(sock)
            self._wake()

    def _watch(self, sock):
        if not _is_pollable(sock):
            self._tasks.append(asyncio.create_task(self._ask()))
        elif _ON_CPYTHON:
            loop = asyncio.get_running_loop()
            loop.add_reader(sock, self._turn)
            self._polled.append((loop, sock))
        else:
            self._tasks.append(asyncio.create_task(self._read(sock)))

    async def _read(self, sock):
        """Wait for `sock` and have what comes handled, until _forget."""
        tasks = self._tasks
        is_own = sock is self.endpoint.socket
        while tasks is self._tasks:
            await _readable(sock)
            self._turn()
            if is_own:  # an ESP32's is replaced sometimes
                sock = self.endpoint.socket
                while sock is None:
                    await asyncio.sleep(_REOPEN_S)
                    self._turn()
                    sock = self.endpoint.socket

    async def _ask(self):
        """Ask a transport that nobody can wait for, until _forget."""
        tasks = self._tasks
        while tasks is self._tasks:
            await asyncio.sleep(_ASK_S)
            self._turn()

    def _turn(self):
        """wake(), for which a hook's exception ends what is awaited."""
        try:
            self.wake()
        except Exception as error:
            self._stop(error)

    def _wake(self):
        """Have _turn called at the endpoint's next event."""
        wait_ms = self.endpoint.next_event_ms()
        if wait_ms is None:
            return
        due_ms = coap.ticks_add(coap.ticks_ms(), wait_ms)
        if self._timer is not None:
            if coap.ticks_diff(self.until_ms, due_ms) <= 0:
                return
            self._timer.cancel()
        self.until_ms = due_ms
        self._timer = asyncio.create_task(self._sleep(wait_ms))

    async def _sleep(self, wait_ms):
        await asyncio.sleep(wait_ms / 1000)
        self._timer = None
        self._turn()

    def _stop(self, error):
        """End what is awaited with `error`."""
        self.error = error
        if self._changed is not None:
            self._changed.set()

    def _leave(self):
        """Wait for the sockets no longer if nobody else does."""
        self._users -= 1
        if not self._users:
            self._changed.set()  # an iteration that a handler has ended waits for it
            self._forget()
            if not isinstance(self.error, coap.Closed):
                self.error = None

    def _forget(self):
        for task in self._tasks + [self._timer]:
            try:
                if task is not None:
                    task.cancel()
            except RuntimeError:
                pass  # MicroPython: a handler ends it in its own turn, after which it ends; CPython: its loop is closed
        for loop, sock in self._polled:
            loop.remove_reader(sock)
        self._tasks = []
        self._polled = []
        self._timer = None


class Observing:
    """What Aio.observe returns, to be iterated once: the present state of a resource, then each change, as Messages.

    A task that falls behind gets the latest 4. The iteration ends by cancel(), or raises what ended the observation:
    coap_observe.NotObserved, coap.Timeout, Reset, Rejected; OSError if the name is not known, ValueError; coap.Closed.
    A task that is cancelled in it ends the observation; one that leaves the loop by `break` calls cancel().
    """

    def __init__(self, aio, uri, options):
        self.aio = aio
        self.uri = uri
        self.options = options
        self.received = []
        self.observation = None
        self._is_waiting = False  # counts among the users of the Aio

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.observation is None:
            self._begin()
        try:
            while not self.received:
                if self.observation.is_done() or not self._is_waiting:
                    raise self._end()
                await self.aio._change()
        except BaseException:
            self.cancel()
            raise
        return self.received.pop(0)

    def _begin(self):
        import coap_observe

        self.aio._enter()
        self._is_waiting = True
        try:
            self.observation = coap_observe.observe(self.aio.endpoint, self.uri, self._take, **self.options)
            self.aio.wake()
        except BaseException:
            self.cancel()
            raise

    def _take(self, message):
        self.received.append(message)
        if len(self.received) > _MESSAGES:
            self.received.pop(0)

    def _end(self):
        """What __anext__ raises when no message will come."""
        error = self.observation.error
        return error(self.uri) if error else StopAsyncIteration()

    def cancel(self):
        """End the observation: the server is told, and the iteration ends."""
        if self._is_waiting:
            self._is_waiting = False
            try:
                if self.observation is not None:
                    self.observation.cancel()
                    if self.aio.error is None:
                        self.aio.wake()
            finally:
                self.aio._leave()
