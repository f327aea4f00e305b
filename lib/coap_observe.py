"""Observe (RFC 7641) for coap.py, server and client: who asks once is told of every change.

    import coap
    import coap_observe

    endpoint = coap.Endpoint(port=5683)
    coap_observe.attach(endpoint)
    temperature = endpoint.resource("sensors/temp", obs=True)

    @temperature.get
    def read(request, response):
        return "22.5 C"

    endpoint.notify("sensors/temp")  # whenever it has changed, from anywhere, handlers too

and a client, in a program that calls endpoint.process():

    def show(message):
        print(message.payload)

    observation = coap_observe.observe(endpoint, "coap://192.0.2.1/sensors/temp", show)

Beside coap.py this file is optional. A resource with obs=True can be observed by GET and by FETCH. Its handler is
called once more for each observer and change; an answer other than 2.xx ends the observation. One that answers LATER
or NO_RESPONSE registers nobody and, when called for a notification, sends none: what it promised then cannot be sent.

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
_MIDS = const(4)  # message IDs of NON notifications that are remembered for a Reset
_UNKNOWN = const(-1)

_CHANGED = const(1)  # what an observer is to be told
_CONFIRM = const(2)


class NotObserved(coap.Error):
    """The server answered without Observe: it does not notify of this resource, or has ended it."""


def is_newer(number, earlier, passed_ms):
    """Whether a notification with the sequence `number` is newer than the `earlier` one (RFC 7641 section 3.4).

    passed_ms: how long after that one it came. 24 bits of the numbers count.
    """
    return 0 < (number - earlier & _NUMBERS) < _HALF or passed_ms > _REORDER_MS


# ---- server ----


class Observer:
    """An entry of the list of observers: what to answer again, and to whom."""

    mark = 0  # 0: it knows the present state; _CHANGED, _CONFIRM
    record = None  # of the CON notification on its way
    mids = ()  # of the latest NON notifications
    content_format = _UNKNOWN  # of all its notifications
    earliest_ms = 0  # when the next NON may go
    confirm_ms = 0  # when it is asked whether it is still there

    def __init__(self, peer):
        self.peer = peer
        self.data = None  # the datagram of the request
        self.resource = None  # None: removed

    def token(self):
        """The token of the request, bytes."""
        return self.data[4 : 4 + (self.data[0] & 15)]


class Observe:
    """The extension that attach() adds to an endpoint."""

    rank = 40
    understood = 0

    def __init__(self, engine, observers, per_host, observations, interval_ms, confirm_ms, request_len):
        coap._check("observers", observers, 0, 4096)
        coap._check("per_host", per_host, 1, 4096)
        coap._check("observations", observations, 0, 4096)
        coap._check("interval_ms", interval_ms, 1, 600000)
        coap._check("confirm_ms", confirm_ms, 1, _DAY_MS)
        self.engine = engine
        self.observations = []  # the Observations that have not ended
        self._limits = observers, per_host, observations, request_len
        self._interval_ms = interval_ms
        self._confirm_ms = confirm_ms
        self._observers = []  # the one looked at longest ago first
        self._hosts = {}  # address without port -> those of its Observers
        self._number = coap._uint(engine.random(3), 0, 3)  # of the latest notification
        self._rendered = None  # the Observer whose notification is being made
        self._in_flight = 0  # CON notifications

    # -- the list of observers

    def notify(self, path, confirmable=False):
        """Tell the observers of `path` ("sensors/temp") that it has changed; the next process() sends what it is then.

        confirmable: by CON, sent again until it is acknowledged. Otherwise by NON, at most one in `interval_ms` to
        each observer: states between are skipped. Allowed everywhere. Allocates about 600 bytes for a moment.
        Raises ValueError if there is no resource with obs=True at `path`.
        """
        message = coap.Message(coap.GET, mtype=coap.CON, mid=0, uri_path=path.split("/") if path else ())
        message.index(message.encode())
        p = message.packet
        resource = self.engine._route(p)
        if resource is None or not resource.is_observable:
            raise ValueError("there is no resource %r with obs=True" % path)
        raw = p[_DATA][p[_PATH] :]
        for observer in self._observers:  # where the last segment varies, resource.link is None: the path must be there
            if observer.resource is resource and (resource.link is not None or observer.data.find(raw) >= 0):
                observer.mark = max(observer.mark, _CONFIRM if confirmable else _CHANGED)
                self.engine.wake(self.engine.now_ms)

    def holds(self, peer, token):
        """The Observer of this endpoint and token, to which notifications may go; or None."""
        for observer in self._hosts.get(coap._host(peer), ()):
            if observer.peer == peer and observer.token() == token:
                return observer
        return None

    def _admit(self, peer):
        """A new Observer in the list; None if it is full, or its host's share."""
        host = coap._host(peer)
        mine = self._hosts.get(host, ())
        if len(mine) >= self._limits[1] or len(self._observers) >= self._limits[0]:
            self._doubt(mine if len(mine) >= self._limits[1] else self._observers)
            return None
        observer = Observer(peer)
        observer.earliest_ms = self.engine.now_ms
        self._observers.append(observer)
        self._hosts[host] = [observer] + list(mine)
        return observer

    def _doubt(self, observers):
        """Have the one that was confirmed longest ago asked by a CON: it may be gone, and its place is wanted."""
        oldest = None
        for observer in observers:
            if oldest is None or ticks_diff(observer.confirm_ms, oldest.confirm_ms) < 0:
                oldest = observer
        now_ms = self.engine.now_ms
        if oldest and self._confirm_ms - ticks_diff(oldest.confirm_ms, now_ms) > _DOUBT_MS:
            oldest.confirm_ms = now_ms
            self.engine.wake(now_ms)

    def _remove(self, observer):
        """Take it from the list, unless it is out already; a notification on its way is given up."""
        if observer.resource is None:
            return
        observer.resource = None
        self._observers.remove(observer)
        host = coap._host(observer.peer)
        mine = self._hosts[host]
        mine.remove(observer)
        if not mine:
            del self._hosts[host]
        record = observer.record
        if record is not None:
            observer.record = None
            self.engine.end(record, None)

    def reset(self, peer, mid):
        """Hook: a Reset of a NON notification, or of a CON that a newer one has replaced, ends the observation."""
        for observer in self._hosts.get(coap._host(peer), ()):
            if observer.peer == peer and mid in observer.mids:
                self._remove(observer)
                return

    # -- responses

    def response(self, request, response):
        """Hook: registers and deregisters with the answer to the request, and numbers the notifications."""
        if self._rendered is not None:
            self._number_it(self._rendered, response)
        elif request is not None and request.packet[_SEEN] & 1 << _OBSERVE:
            self._answer(request, response)

    def _answer(self, request, response):
        """Register, or deregister, whom the request with Observe came from."""
        p = request.packet
        value = coap._uint_option(p, _OBSERVE)
        observer = self.holds(p[_REMOTE], request.token)
        is_kept = value == _REGISTER and self._register(p, observer, response)
        if observer is not None and value <= _DEREGISTER and not is_kept:
            self._remove(observer)

    def _register(self, p, observer, response):
        """Put the request `p` into the list, in the place of `observer`, which has its token; returns whether it may.

        It must be one that can be answered again from its datagram, and from the first block on. An error ends it.
        """
        resource = self.engine._route(p)
        if resource is None or not resource.is_observable or len(p[_DATA]) > self._limits[3]:
            return False
        if p[_PAYLOAD] is not None or p[_CODE] != coap.GET and p[_CODE] != coap.FETCH:
            return False
        if p[_SEEN] & 1 << _BLOCK2 and coap._uint_option(p, _BLOCK2) > 15:
            return False
        observer = observer or self._admit(p[_REMOTE])
        if observer is None:
            return False
        observer.data = p[_DATA]
        observer.resource = resource
        observer.content_format = _UNKNOWN
        observer.confirm_ms = ticks_add(self.engine.now_ms, self._confirm_ms)
        self.engine.wake(observer.confirm_ms)
        self._number_it(observer, response)
        return True

    def _number_it(self, observer, response):
        """Give a notification its sequence number; one that is an error, or of another format, is the last."""
        code = response.code
        content_format = response.opt.content_format
        if observer.content_format == _UNKNOWN and code != coap.VALID:
            observer.content_format = content_format
        if code >> 5 == 2 and code != coap.VALID and content_format != observer.content_format:
            coap._prepare(response.packet, response.request.packet, coap.NOT_ACCEPTABLE)  # RFC 7641 section 4.2
            code = coap.NOT_ACCEPTABLE
        if code >> 5 == 2:
            # 2**23 of them in 256 s are 32768 a second: more than any network takes from here
            self._number = self._number + 1 & _NUMBERS
            response.opt.observe = self._number
        else:
            self._remove(observer)

    # -- notifications

    def tick(self, now_ms):
        """Hook: sends one notification that is due, and the registrations of what has become stale."""
        wake = self.engine.wake
        for observation in self.observations:
            if observation.record.state == _PARKED:
                wake(ticks_add(now_ms, observation._renew(now_ms)))
        for _ in range(len(self._observers)):
            observer = self._observers.pop(0)
            self._observers.append(observer)
            left_ms = self._left_ms(observer, now_ms)
            if left_ms is not None:
                wake(ticks_add(now_ms, left_ms))
                if left_ms <= 0:  # one at a time: due() sends it before the next is made
                    self._notify(observer, now_ms)
                    return

    def _left_ms(self, observer, now_ms):
        """Milliseconds until the observer is to get a notification; None: nothing to do before something happens."""
        record = observer.record
        if record is not None:  # the newest state goes in the place of a retransmission
            if not observer.mark or not record.transmissions_left:
                return None
            return 0 if record.next_event_ms is None else ticks_diff(record.next_event_ms, now_ms)
        left_ms = ticks_diff(observer.confirm_ms, now_ms)
        if observer.mark == _CONFIRM or left_ms <= 0:
            if self._has_room():
                return 0
            left_ms = _RETRY_MS
        if observer.mark == _CHANGED:
            left_ms = min(left_ms, ticks_diff(observer.earliest_ms, now_ms))
        return left_ms

    def _has_room(self):
        """Whether a CON may go: half of the endpoint's table is left to others, for silent peers hold it for 93 s."""
        transmissions, queued = self.engine._limits[:2]
        return self._in_flight < (transmissions + 1) // 2 and len(self.engine._queue) < queued

    def _notify(self, observer, now_ms):
        """Make and send the notification of the present state."""
        engine = self.engine
        is_con = self._has_room() and (observer.mark == _CONFIRM or ticks_diff(observer.confirm_ms, now_ms) <= 0)
        observer.mark = 0
        observer.earliest_ms = ticks_add(now_ms, self._interval_ms)
        if is_con:
            observer.confirm_ms = ticks_add(now_ms, self._confirm_ms)
        response = engine.render(observer.data, observer.peer)
        if response is None:
            return
        self._rendered = observer
        engine.extend(engine._request, response)
        self._rendered = None
        token = observer.token()
        if coap._packed_len(response.packet, token) > engine.datagram_len:
            if engine.log:
                engine.log("notification too large", len(response.payload))
            coap._prepare(response.packet, response.request.packet, coap.INTERNAL_SERVER_ERROR)
            self._remove(observer)
        if observer.record is None and (is_con or observer.resource is None and self._has_room()):
            record = engine.enqueue(response.copy(), observer.peer, coap.CON, token, None)
            record.on_end = self._ended
            self._in_flight += 1
            observer.record = record
        else:
            self._write(observer, response.packet, token, now_ms)

    def _write(self, observer, packet, token, now_ms):
        """Send a NON; or have the CON on its way go on with this state, another ID and the same counter (4.5.2)."""
        engine = self.engine
        packed = bytearray(4)
        record = observer.record
        if record is None:
            mid = remembered = engine.reply_mid()
            engine._answers.append((packed, observer.peer, None))
        else:
            remembered = record.mid
            record.mid = mid = engine._take_mid(now_ms)
            record.packed = packed
        coap._write(packet, packed, coap.CON if record else coap.NON, mid, token)
        observer.mids = (remembered,) + observer.mids[: _MIDS - 1]

    def _ended(self, record):
        """A CON notification has come to its end: acknowledged, or the observer is gone."""
        engine = self.engine
        self._in_flight -= 1
        if engine.received is not None and engine.received.pertains_to is record:
            engine.received = None  # its Reset is nothing for the application
        observer = self.holds(record.remote, record.token)
        if observer is None or observer.record is not record:
            return
        observer.record = None
        if record.error:
            self._remove(observer)
        engine.wake(engine.now_ms)

    # -- client

    def incoming(self, record, message):
        """Hook: a response to a request of an Observation is that one's."""
        observation = getattr(record, "observation", None)
        return None if observation is None else observation._receive(message)


# ---- client ----

_FRESH_S = const(172800)  # two days: a longer Max-Age is as good


class Observation:
    """What observe() returns: the observation of one resource, until it has ended.

    record  the TransmissionRecord of its latest registration: what process() returns for it has it as pertains_to
    error   why it has ended: NotObserved, coap.Timeout (a registration was not answered), Reset, Rejected or Closed;
            None while it runs and after cancel()
    """

    error = None
    _is_cancelled = False

    def __init__(self, extension, record, on_notification):
        self._extension = extension
        self._on_notification = on_notification
        self._adopt(record)

    def _adopt(self, record):
        self.record = record
        self._is_registered = False
        record.observation = self
        record.on_end = self._ended
        self._stay_fresh(None)

    def is_done(self):
        """Whether it has ended: no notification will come."""
        return self not in self._extension.observations

    def cancel(self):
        """Tell the server to end it, by a GET with Observe 1; is_done() when that is answered, or was not in time.

        record.cancel() says nothing: it ends here at once, and the server's next notification is answered with Reset.
        """
        if not self.is_done() and not self._is_cancelled:
            self._is_cancelled = True
            self.record.message.opt.observe = _DEREGISTER
            try:
                self._send()
            except coap.Full:
                self.record.cancel()

    def _send(self):
        """Queue the registration (or its end) once more, with the same token. Raises Full."""
        earlier = self.record
        engine = earlier.endpoint
        self._adopt(engine.enqueue(earlier.message, earlier.remote, earlier.mtype, earlier.token, None))
        engine.end(earlier, None)

    def _ended(self, record):
        """The exchange of `record` has ended; with the latest one the observation has."""
        if record is self.record:
            if not self._is_cancelled and self.error is None:
                self.error = record.error
            self._extension.observations.remove(self)

    def _renew(self, now_ms):
        """Register again if nothing was heard for so long; returns the ms until it is to be looked at again."""
        left_ms = ticks_diff(self._stale_ms, now_ms)
        if left_ms > 0:
            return left_ms
        transfer = getattr(self.record, "transfer", None)
        if transfer is None or transfer.current is None:  # else coap_block fetches what a notification began
            try:
                self._send()
            except coap.Full:
                pass
        return _RETRY_MS

    def _receive(self, message):
        """A response to the registration came, or a notification; always CONSUMED."""
        p = message.packet
        record = self.record
        engine = record.endpoint
        if p[_CODE] >> 5 != 2 or not p[_SEEN] & 1 << _OBSERVE:
            if not self._is_cancelled:
                self.error = NotObserved
                self._give(message)
            engine.end(record, None)
        elif not self._is_cancelled:
            number = coap._uint_option(p, _OBSERVE)
            # the answer to a registration counts even after a reboot of the server, which numbers anew
            if not self._is_registered or is_newer(number, self._number, ticks_diff(engine.now_ms, self._heard_ms)):
                engine.park(record)
                self._is_registered = True
                self._number = number
                self._heard_ms = engine.now_ms
                self._stay_fresh(message.opt.max_age)
                self._give(message)
        return coap.CONSUMED

    def _stay_fresh(self, max_age_s):
        """Register again when the notification is stale and 5 to 15 s more have passed (RFC 7641 section 3.3.1)."""
        engine = self.record.endpoint
        fresh_ms = (60 if max_age_s is None else min(max_age_s, _FRESH_S)) * 1000
        spread_ms = coap._uint(engine.random(2), 0, 2) * 10001 >> 16
        self._stale_ms = ticks_add(engine.now_ms, fresh_ms + 5000 + spread_ms)
        engine.wake(self._stale_ms)

    def _give(self, message):
        """Hand a notification to the application."""
        engine = self.record.endpoint
        if self._on_notification is None:
            engine.deliver(self.record, message, None)
            return
        engine._is_in_handler = True
        try:
            self._on_notification(message)
        except Exception as error:
            if engine.log:
                engine.log("on_notification", error)
        engine._is_in_handler = False


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
    extension = Observe(endpoint, observers, per_host, observations, interval_ms, confirm_ms, request_len)
    endpoint.attach(extension)
    endpoint.notify = extension.notify
    endpoint.observing = extension
    return extension


def observe(endpoint, uri, on_notification=None, method=coap.GET, **options):
    """Observe the resource `uri` from `endpoint`, attached with the defaults if it was not; returns the Observation.

    on_notification  called with each notification, a Message, within process(), the first is the present state; what
                     it raises goes to endpoint.log. None: process() returns them, pertains_to is observation.record
    method           GET or FETCH
    options          by name, and fields, as in coap.Message: accept=JSON, payload=..., mtype=NON

    Notifications that overtook a newer one are not passed on. What has ended it is passed on, too, if it is a message.
    Max-Age and 5 to 15 s after the last notification it registers again; when that is not answered, either, in 93 s,
    it has ended. Raises Full if `observations` are there, or as endpoint.send; ValueError for a group.
    """
    extension = getattr(endpoint, "observing", None) or attach(endpoint)
    if len(extension.observations) >= extension._limits[2]:
        raise coap.Full("%d resources are observed; see coap_observe.attach" % len(extension.observations))
    record = endpoint.send(coap.Message(method, uri=uri, observe=_REGISTER, **options))
    if coap.is_multicast(record.remote):
        record.cancel()
        raise ValueError("a group cannot be observed")
    observation = Observation(extension, record, on_notification)
    extension.observations.append(observation)
    return observation
