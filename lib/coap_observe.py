"""Observe (RFC 7641) for coap.py, server and client: who asks once is told of every change.

    import coap
    import coap_observe

    endpoint = coap.Endpoint(port=5683)
    coap_observe.attach(endpoint)
    temperature = endpoint.resource("sensors/temp", obs=True)

    @temperature.get
    def read(request, response):
        return "22.5 C"

    endpoint.notify("sensors/temp")  # whenever it has changed, from handlers, too

and a client, in a program that calls endpoint.process():

    def show(message):
        print(message.payload)

    observation = coap_observe.observe(endpoint, "coap://192.0.2.1/sensors/temp", show)

Beside coap.py this file is optional. A resource with obs=True can be observed by GET and by FETCH. Its handler is
called once more for each observer and change; an answer other than 2.xx ends the observation. One that answers LATER
or NO_RESPONSE registers nobody and, when called for a notification, sends none: what it promised then cannot be sent.
A request to a group registers nobody, either.

Clients that hear nothing for Max-Age ask again: set `max_age` (default 60 s) of a resource that changes seldom.
"""

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


import coap
from coap import ticks_add, ticks_diff

# Slots of a packet, see coap.py
_DATA = const(0)
_CODE = const(3)
_PAYLOAD = const(7)
_SEEN = const(8)
_PATH = const(9)
_REMOTE = const(15)

# The values of coap.py: MicroPython would look coap.GET up at each use
_CON = const(0)
_NON = const(1)
_GET = const(1)
_FETCH = const(5)
_VALID = const(67)
_NOT_ACCEPTABLE = const(134)
_INTERNAL_SERVER_ERROR = const(160)
_CONSUMED = const(2)
_PARKED = const(3)  # state of a TransmissionRecord

_OBSERVE = const(6)  # options
_BLOCK2 = const(23)

_REGISTER = const(0)  # values of Observe in a request
_DEREGISTER = const(1)

_NUMBERS = const(0xFFFFFF)  # sequence numbers have 24 bits
_HALF = const(0x800000)
_REORDER_MS = const(128000)  # RFC 7641 section 3.4
_DAY_MS = const(86400000)
_RETRY_MS = const(1000)  # how often a full queue is asked again
_DOUBT_MS = const(60000)  # an observer heard of so lately keeps its place without being asked
_REMEMBERED = const(4)  # message IDs of NON notifications that are remembered for a Reset
_UNKNOWN = const(-1)

# An observer is an entry of the list of observers (RFC 7641 section 4.1): a request that is answered again at each
# change, and its sender. It is a list; slots:
_REQUEST = const(0)  # the datagram
_PEER = const(1)
_RESOURCE = const(2)  # None: the observer was removed
_MARK = const(3)  # 0: it was sent the present state; else _CHANGED, with _CONFIRM if it is to be sent by a CON
_RECORD = const(4)  # the TransmissionRecord of the CON notification on its way, or None
_MIDS = const(5)  # message IDs of its latest NON notifications, and of CONs that newer ones have replaced
_FORMAT = const(6)  # Content-Format of all its notifications; _UNKNOWN before the first
_EARLIEST_MS = const(7)  # when the next NON may go
_CONFIRM_MS = const(8)  # when it is asked whether it is still there

_CHANGED = const(1)  # bits of _MARK
_CONFIRM = const(2)


class NotObserved(coap.Error):
    """The server answered without Observe: it does not notify of this resource, or has ended it."""


def is_newer(number, recent, wait_ms):
    """Whether a notification with the sequence `number` is newer than the `recent` one (RFC 7641 section 3.4).

    wait_ms: how long after that one it came. 24 bits of the numbers count.
    """
    return 0 < (number - recent & _NUMBERS) < _HALF or wait_ms > _REORDER_MS


# ---- server ----


class Observe:
    """The extension that attach() adds to an endpoint."""

    rank = 40
    understood = 0

    def __init__(self, engine, observers, per_host, observations, interval_ms, confirm_ms, request_len):
        self._limits = (
            coap._check("observers", observers, 0, 4096),
            coap._check("per_host", per_host, 1, 4096),
            coap._check("observations", observations, 0, 4096),
            coap._check("request_len", request_len, 0, 65507),
        )
        self.interval_ms = coap._check("interval_ms", interval_ms, 1, 600000)
        self.confirm_ms = coap._check("confirm_ms", confirm_ms, 1, _DAY_MS)
        self.engine = engine
        self.observations = []  # the Observations that have not ended
        self.observers = []  # the one looked at longest ago first
        self.hosts = {}  # address without port -> those of its observers
        self.number = coap._uint(engine.random(3), 0, 3)  # of the latest notification
        self.observer = None  # the one whose notification is being made
        self.pending = 0  # CON notifications on their way

    # -- the list of observers

    def notify(self, path, confirmable=False):
        """Tell the observers of `path` ("sensors/temp") that it has changed; the next process() sends what it is then.

        confirmable: by CON, sent again until it is acknowledged. Otherwise by NON, at most one in `interval_ms` to
        each observer: states between are skipped. Allowed in handlers, but not in what a timer, a pin or
        micropython.schedule calls: it may be overlooked until the next event there. Allocates about 600 bytes for a
        moment.
        Raises ValueError if there is no resource with obs=True at `path`, TypeError if `confirmable` is no bool.
        """
        coap._check_type("confirmable", confirmable, bool)
        message = coap.Message(_GET, mtype=_CON, mid=0, uri_path=coap._segments(path))
        message.index(message.encode())
        p = message.packet
        resource = self.engine._route(p)
        if not resource or not resource.is_observable:
            raise ValueError("there is no resource %r with obs=True" % path)
        raw = p[_DATA][p[_PATH] :]
        for observer in self.observers:
            # where the last segment varies, resource.link is None: the path must be there
            if observer[_RESOURCE] is resource and (resource.link is not None or observer[_REQUEST].find(raw) >= 0):
                observer[_MARK] |= _CHANGED | _CONFIRM if confirmable else _CHANGED
                self.engine.wake(self.engine.now_ms)

    def holds(self, peer, token):
        """The observer of this endpoint and token, to which notifications may go; or None."""
        for observer in self.hosts.get(coap._host(peer), ()):
            data = observer[_REQUEST]
            if observer[_PEER] == peer and data[4 : 4 + (data[0] & 15)] == token:
                return observer
        return None

    def _add(self, p, resource):
        """A new observer in the list, for the request `p`; None if the list is full, or the share of the host is.

        Then the observer that was confirmed longest ago, of those in the way, is sent a CON: it may be gone.
        """
        now_ms = self.engine.now_ms
        host = coap._host(p[_REMOTE])
        crowd = mine = self.hosts.get(host, ())
        if len(mine) < self._limits[1]:  # per_host
            crowd = self.observers
            if len(crowd) < self._limits[0]:  # observers
                observer = [p[_DATA], p[_REMOTE], resource, 0, None, (), None, now_ms, now_ms]
                crowd.append(observer)
                try:
                    self.hosts[host] = [observer] + list(mine)
                except BaseException:  # no memory: it is in both or in none
                    crowd.pop()
                    raise
                return observer
        oldest = None
        for observer in crowd:
            if not oldest or ticks_diff(observer[_CONFIRM_MS], oldest[_CONFIRM_MS]) < 0:
                oldest = observer
        if oldest and self.confirm_ms - ticks_diff(oldest[_CONFIRM_MS], now_ms) > _DOUBT_MS:
            oldest[_CONFIRM_MS] = now_ms
            self.engine.wake(now_ms)
        return None

    def _remove(self, observer):
        """Take it from the list, unless it is out already; a notification on its way is given up."""
        if not observer[_RESOURCE]:
            return
        observer[_RESOURCE] = None
        self.observers.remove(observer)
        host = coap._host(observer[_PEER])
        mine = self.hosts[host]
        mine.remove(observer)
        if not mine:
            del self.hosts[host]
        record = observer[_RECORD]
        observer[_RECORD] = None
        self.engine.end(record, None)

    def reset(self, peer, mid):
        """Hook: a Reset of a NON notification, or of a CON that a newer one has replaced, ends the observation."""
        for observer in self.hosts.get(coap._host(peer), ()):
            if observer[_PEER] == peer and mid in observer[_MIDS]:
                self._remove(observer)
                return

    # -- responses

    def response(self, request, response):
        """Hook: registers and deregisters with the answer to the request, and numbers the notifications."""
        if self.observer is not None:
            self._label(self.observer, response)
        elif request is not None and request.packet[_SEEN] & 1 << _OBSERVE:
            self._accept(request.packet, request.token, response)

    def _accept(self, p, token, response):
        """Register or deregister the sender of the request `p`, which has Observe.

        Only a request that can be answered again from its datagram, and from its first block on, is registered. An
        error in answer to it ends the observation.
        """
        engine = self.engine
        value = coap._uint_option(p, _OBSERVE)
        observer = self.holds(p[_REMOTE], token)
        resource = engine._route(p)
        if (
            value != _REGISTER
            or not resource
            or not resource.is_observable
            or len(p[_DATA]) > self._limits[3]  # request_len
            or p[_PAYLOAD] is not None
            or p[_CODE] != _GET
            and p[_CODE] != _FETCH
            or p[_SEEN] & 1 << _BLOCK2
            and coap._uint_option(p, _BLOCK2) > 15  # its block number is above 0
        ):
            if observer and value <= _DEREGISTER:
                self._remove(observer)
            return
        observer = observer or self._add(p, resource)
        if observer:
            observer[_REQUEST] = p[_DATA]
            observer[_RESOURCE] = resource
            observer[_FORMAT] = _UNKNOWN
            confirm_ms = observer[_CONFIRM_MS] = ticks_add(engine.now_ms, self.confirm_ms)
            engine.wake(confirm_ms)
            self._label(observer, response)

    def _label(self, observer, response):
        """Give a notification its sequence number; one that is an error, or of another format, is the last."""
        r = response.packet
        code = r[_CODE]
        content_format = response.opt.content_format
        if code != _VALID:
            if observer[_FORMAT] == _UNKNOWN:
                observer[_FORMAT] = content_format
            elif code >> 5 == 2 and content_format != observer[_FORMAT]:
                code = _NOT_ACCEPTABLE  # RFC 7641 section 4.2
                coap._prepare(r, response.request.packet, code)
        if code >> 5 == 2:
            # One counter for all observers: it takes 32768 notifications a second to reach 2**23 in 256 s, from where
            # on a client could not tell their order
            number = self.number = self.number + 1 & _NUMBERS
            response.opt.observe = number
        else:
            self._remove(observer)

    # -- notifications

    def tick(self, now_ms):
        """Hook: sends one notification that is due, and the registrations of what has become stale."""
        wake = self.engine.wake
        for observation in self.observations:
            if observation.record.state == _PARKED:
                left_ms = ticks_diff(observation.until_ms, now_ms)
                if left_ms <= 0:
                    left_ms = _RETRY_MS
                    if not observation.record.part:  # else coap_block fetches what a notification began
                        observation._transmit()
                wake(ticks_add(now_ms, left_ms))
        observers = self.observers
        for _ in range(len(observers)):
            observer = observers.pop(0)
            observers.append(observer)
            record = observer[_RECORD]
            mark = observer[_MARK]
            left_ms = None  # nothing to do before something happens
            if not record:
                left_ms = ticks_diff(observer[_CONFIRM_MS], now_ms)
                if mark > _CHANGED or left_ms <= 0:
                    left_ms = 0 if self._startable() else _RETRY_MS
                if mark == _CHANGED:
                    left_ms = min(left_ms, ticks_diff(observer[_EARLIEST_MS], now_ms))
            elif mark and record.transmissions_left:  # the newest state goes in the place of a retransmission
                left_ms = 0 if record.next_event_ms is None else ticks_diff(record.next_event_ms, now_ms)
            if left_ms is not None:
                wake(ticks_add(now_ms, left_ms))
                if left_ms <= 0:  # one at a time: due() sends it before the next is made
                    try:
                        self._transmit(observer, now_ms)
                    except (MemoryError, KeyboardInterrupt):
                        observer[_MARK] |= mark
                        raise
                    return

    def _startable(self):
        """Whether a CON may go: half of the endpoint's table is left to others, for silent peers hold it for 93 s."""
        transmissions, queued = self.engine._limits[:2]
        return self.pending < (transmissions + 1) // 2 and len(self.engine._queue) < queued

    def _transmit(self, observer, now_ms):
        """Make and send the notification of the present state.

        It is a NON or a CON. If a CON is on its way already, that goes on with this state and another message ID; its
        retransmissions are counted on (RFC 7641 section 4.5.2).
        """
        engine = self.engine
        may_be_con = self._startable()
        is_con = may_be_con and (observer[_MARK] > _CHANGED or ticks_diff(observer[_CONFIRM_MS], now_ms) <= 0)
        observer[_MARK] = 0
        observer[_EARLIEST_MS] = ticks_add(now_ms, self.interval_ms)
        if is_con:
            observer[_CONFIRM_MS] = ticks_add(now_ms, self.confirm_ms)
        response = engine.render(observer[_REQUEST], observer[_PEER])
        if not response:
            return
        token = response.token
        self.observer = observer
        try:
            engine.extend(engine._request, response)
        finally:  # also without memory: the next response is not this observer's
            self.observer = None
        r = response.packet
        if coap._packed_len(r, token) > engine.datagram_len:
            if engine.log:
                engine.log("notification too large", len(response.payload))
            coap._prepare(r, response.request.packet, _INTERNAL_SERVER_ERROR)
            self._remove(observer)
        record = observer[_RECORD]
        if not record and (is_con or may_be_con and not observer[_RESOURCE]):
            record = engine.enqueue(response.copy(), observer[_PEER], _CON, token, None)
            record.on_end = self.on_end
            observer[_RECORD] = record  # only now: without on_end it would stay there for ever
            self.pending += 1
            return
        packed = bytearray(4)
        mid = remembered = engine._take_mid(now_ms) if record else engine.reply_mid()
        response.write(packed, _CON if record else _NON, mid, token)
        if record:  # a Reset of what is replaced must be understood as well
            remembered = record.mid
            record.mid = mid
            record.packed = packed
        else:
            engine._answers.append((packed, observer[_PEER], None))
        observer[_MIDS] = (remembered,) + observer[_MIDS][: _REMEMBERED - 1]

    def on_end(self, record):
        """A CON notification has come to its end: acknowledged, or the observer is gone."""
        engine = self.engine
        self.pending -= 1
        if engine.received and engine.received.pertains_to is record:
            engine.received = None  # its Reset is nothing for the application
        observer = self.holds(record.remote, record.token)
        if observer and observer[_RECORD] is record:
            observer[_RECORD] = None
            if record.error:
                self._remove(observer)
            engine.wake(engine.now_ms)

    # -- client

    def incoming(self, record, message):
        """Hook: a response to a request of an Observation is that one's."""
        observation = getattr(record, "observation", None)
        return None if observation is None else observation._take(message)


# ---- client ----

_FRESH_S = const(172800)  # two days: a longer Max-Age is as good


class Observation:
    """What observe() returns: the observation of one resource, until it has ended.

    record  the TransmissionRecord of its latest registration: what process() returns for it has it as pertains_to
    error   why it has ended: NotObserved, coap.Timeout (a registration was not answered), Reset, Rejected or Closed;
            None while it runs and after cancel()
    """

    record = error = None
    _is_cancelled = False

    def __init__(self, extension, record, on_notification):
        self.extension = extension
        self.on_notification = on_notification
        self._begin(record)

    def _begin(self, record):
        self.last_event_ms = None  # when the latest notification came
        record.observation = self
        record.on_end = self.on_end
        self._until(None)
        self.record = record  # last: if memory ends above, the registration before goes on

    def is_done(self):
        """Whether it has ended: no notification will come."""
        return self not in self.extension.observations

    def cancel(self):
        """Tell the server to end it, by a GET with Observe 1; is_done() when that is answered, or was not in time.

        record.cancel() says nothing: it ends here at once, and the server's next notification is answered with Reset.
        """
        if not self.is_done() and not self._is_cancelled:
            self._is_cancelled = True
            self.record.message.opt.observe = _DEREGISTER
            if not self._transmit():
                self.record.cancel()

    def _transmit(self):
        """Queue the registration (or its end) once more, with the same token; returns False if there is no room."""
        earlier = self.record
        engine = earlier.endpoint
        try:
            record = engine.enqueue(earlier.message, earlier.remote, earlier.mtype, earlier.token, None)
        except coap.Full:
            return False
        try:
            self._begin(record)
        except BaseException:  # no memory, or Ctrl-C
            record.cancel()
            raise
        engine.end(earlier, None)
        return True

    def on_end(self, record):
        """The exchange of `record` has ended; with the latest one the observation has."""
        if record is self.record and not self.is_done():
            if not self._is_cancelled and not self.error:
                self.error = record.error
            self.extension.observations.remove(self)

    def _take(self, message):
        """A response to the registration came, or a notification; always CONSUMED."""
        record = self.record
        engine = record.endpoint
        number = message.opt.observe
        is_last = message.code >> 5 != 2 or number is None
        if self._is_cancelled:
            if is_last:
                engine.end(record, None)
            return _CONSUMED
        if is_last:
            self.error = NotObserved
        else:
            heard_ms = self.last_event_ms
            # the answer to a registration counts even after a reboot of the server, which numbers anew
            if heard_ms is not None and not is_newer(number, self.number, ticks_diff(engine.now_ms, heard_ms)):
                return _CONSUMED
            record.park()
            self.number = number
            self.last_event_ms = engine.now_ms
            self._until(message.opt.max_age)
        if self.on_notification:
            engine._is_in_handler = True
            try:
                self.on_notification(message)
            except Exception as error:
                if engine.log:
                    engine.log("on_notification", error)
            finally:
                engine._is_in_handler = False
        else:
            engine.deliver(record, message, None)
        if is_last:
            engine.end(record, None)
        return _CONSUMED

    def _until(self, max_age):
        """Register again when the notification is stale and 5 to 15 s more have passed (RFC 7641 section 3.3.1)."""
        engine = self.extension.engine
        fresh_ms = (60 if max_age is None else min(max_age, _FRESH_S)) * 1000
        spread_ms = coap._uint(engine.random(2), 0, 2) * 10001 >> 16
        self.until_ms = ticks_add(engine.now_ms, fresh_ms + 5000 + spread_ms)
        engine.wake(self.until_ms)


# ---- attach, observe ----


def attach(endpoint, observers=8, per_host=4, observations=4, interval_ms=3000, confirm_ms=3600000, request_len=256):
    """Add Observe to `endpoint`, a coap.Endpoint; returns the extension. endpoint.notify(path) is there afterwards.

      observers    8        entries in the list of observers; a client that finds it full is answered without Observe
      per_host     4        of them for one address
      observations 4        resources that this endpoint observes at a time, as a client
      interval_ms  3000     between two NON notifications to an observer, 1 to 600000. RFC 7641 section 4.5.1 asks for
                            3 s where the round trip is not known; take less where it is
      confirm_ms   3600000  after which a notification is a CON, 1 to 86400000 (the RFC's 24 h), or sent as one though
                            nothing changed: an observer that is gone goes from the list. One whose place is wanted
                            is asked sooner
      request_len  256      longest datagram of a request that is kept; a longer one is answered without Observe

    Raises ValueError or TypeError. An observer takes 200 bytes on a 32 bit board, a request of 24 bytes and an
    address included.
    """
    if hasattr(endpoint, "observing"):
        raise ValueError("coap_observe is attached already, by attach() or by observe()")
    extension = Observe(endpoint, observers, per_host, observations, interval_ms, confirm_ms, request_len)
    endpoint.attach(extension)
    endpoint.notify = extension.notify
    endpoint.observing = extension
    return extension


def observe(endpoint, uri, on_notification=None, method=_GET, **options):
    """Observe the resource `uri` from `endpoint`, attached with the defaults if it was not; returns the Observation.

    on_notification  called with each notification, a Message, within process(), the first is the present state; what
                     it raises goes to endpoint.log. None: process() returns them, pertains_to is observation.record
    method           GET or FETCH
    options          by name, and fields, as in coap.Message: accept=JSON, payload=..., mtype=NON

    A notification that comes after a newer one is not passed on. The message that ends it, if it is one, is passed on.
    Max-Age and 5 to 15 s after the last notification it registers again; when that is not answered, either, in 93 s,
    it has ended. Raises Full if `observations` are there, or as endpoint.send; ValueError for a group.
    """
    if on_notification is not None and not callable(on_notification):
        raise TypeError("on_notification is a function, not %r" % (on_notification,))
    extension = getattr(endpoint, "observing", None) or attach(endpoint)
    if len(extension.observations) >= extension._limits[2]:  # observations
        raise coap.Full("%d resources are observed; see coap_observe.attach" % len(extension.observations))
    record = endpoint.send(coap.Message(method, uri=uri, observe=_REGISTER, **options))
    if coap.is_multicast(record.remote):
        record.cancel()
        raise ValueError("a group cannot be observed")
    try:
        observation = Observation(extension, record, on_notification)
        extension.observations.append(observation)
    except BaseException:  # no memory, or Ctrl-C: its record without it would raise at each response
        record.cancel()
        raise
    return observation
