"""Echo (RFC 9175) for coap.py: nobody is flooded in another's name, and an actuator obeys only requests made just now.

    import coap
    import coap_echo

    endpoint = coap.Endpoint(port=5683)
    echo = coap_echo.attach(endpoint)
    lock = endpoint.resource("lock")
    echo.demand_freshness(lock)

A datagram's source address can be forged; a large answer then hits a victim. With this file attached, an answer to a
peer that has not proved its address has at most three times the bytes of its request, or 136 bytes. In the place of a
longer one goes 4.01 with an Echo option; who repeats the request with that has proved where it is, and is trusted for
`verified_s`. A client of coap.py with this file attached does that by itself, so `endpoint.get` just works; so do
libcoap's. For a peer that is not verified

  - a GET or FETCH with a longer answer, or one that coap_block has cut for that reason, gets 4.01 and Echo; so does
    a request for a later block of another method's answer
  - another method, which has run by then, gets its code without the payload
  - an observation is not begun: 4.01 and Echo
  - a promised response goes as a NON; a longer one is replaced likewise
  - a longer answer to a request to a group is not sent, for a group gets no 4.01: discovery by multicast finds a server
    with many resources only if coap_block is attached, too, for then the first block is sent

A resource that demands freshness executes PUT, POST, DELETE, PATCH and iPATCH only if the request has an Echo that is
not older than `fresh_s` and was not used before: what was recorded or delayed on its way does nothing. This is also
the way for a resource whose POST answers with much.
"""

import hashlib

import coap
from coap import ticks_add, ticks_diff

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


# Slots of a packet, see coap.py
_DATA = const(0)
_END = const(2)
_CODE = const(3)
_PAYLOAD = const(7)
_LAST = const(14)

# The values of coap.py: MicroPython would look coap.GET up at each use
_GET = const(1)
_POST = const(2)
_FETCH = const(5)
_CONTENT = const(69)
_UNAUTHORIZED = const(129)
_CON = const(0)
_NON = const(1)
_REPLY = const(1)
_CONSUMED = const(2)

_MORE = const(8)  # in Block2
_SAFE_LEN = const(136)  # bytes of UDP payload that amplify nothing once the frames around are counted: section 2.4
_FACTOR = const(3)
_CON_LEN = const(27)  # of a CON: it goes out five times
_MAC_LEN = const(8)
_STAMP = const(0x3FFFFFFF)  # what an Echo has of its time: on 64 bits MicroPython's ticks count beyond
_AHEAD_MS = const(1000)  # the time in an Echo is later than now by so much at most, see _ask
_REPEATS = const(2)  # how often a client repeats a request
_KEY_MS = const(86400000)  # a key lives for a day: ticks wrap after 12, and an old Echo would look fresh


class Echo:
    """The extension that `attach` adds to an endpoint."""

    rank = 20
    understood = 0

    def __init__(self, engine, verified, verified_s, fresh_s):
        self.engine = engine
        self._limits = verified, verified_s * 1000, fresh_s * 1000
        self.peers = {}  # verified peer -> (until_ms, the time in the latest Echo that it used)
        # the latest such time of a peer that had to make room: an Echo of this time or before may have been used
        self._forgotten = None
        self.resources = []  # resources that demand freshness
        self._key_ms = ticks_add(engine.now_ms, -_KEY_MS)
        self.tick(engine.now_ms)

    def demand_freshness(self, resource):
        """Have what changes `resource` answered with 4.01 and Echo unless it brings a fresh one; returns it.

        Raises ValueError if it is not what endpoint.resource() returned.
        """
        if resource not in self.engine.resources:
            raise ValueError("give what endpoint.resource() returned, not %r" % (resource,))
        self.resources.append(resource)
        return resource

    def is_verified(self, peer):
        """Whether the address `peer` was proved to be the sender's lately; another port is another peer."""
        entry = self.peers.get(peer)
        return entry is not None and ticks_diff(entry[0], self.engine.now_ms) > 0

    def _value(self, stamp_ms, peer):
        """The Echo made for `peer` at that time: the time, and what only we can have made of both, 12 bytes."""
        stamp = (stamp_ms & _STAMP).to_bytes(4, "big")
        return stamp + hashlib.sha256(self._key + stamp + repr(peer).encode()).digest()[:_MAC_LEN]

    def _ask(self, response, peer):
        """Make the response, whose options and payload are gone, 4.01 with an Echo for `peer`."""
        stamp_ms = self.engine.now_ms
        used_ms = self.peers.get(peer, (0, self._forgotten))[1]
        if used_ms is not None and ticks_diff(stamp_ms, used_ms) <= 0:
            stamp_ms = ticks_add(used_ms, 1)  # the Echo of this millisecond was used: take that of the next
        response.code = _UNAUTHORIZED
        response.opt.echo = self._value(stamp_ms, peer)

    def _accept(self, request):
        """Whether the request has a fresh Echo that was made for its sender and not used; the peer is verified then."""
        peer = request.remote
        echo = request.opt.echo
        if echo is None:
            return False
        now_ms = self.engine.now_ms
        age_ms = (now_ms - int.from_bytes(echo[:4], "big") + _AHEAD_MS & _STAMP) - _AHEAD_MS
        if age_ms > self._limits[2]:  # fresh_s
            return False
        stamp_ms = ticks_add(now_ms, -age_ms)
        used_ms = self.peers.get(peer, (0, self._forgotten))[1]
        if echo != self._value(stamp_ms, peer) or used_ms is not None and ticks_diff(stamp_ms, used_ms) <= 0:
            return False
        self._note(peer, stamp_ms)
        return True

    def trust(self, peer):
        """Note that `peer` has proved its address in another way: to coap_oscore, by an Echo of its own."""
        entry = self.peers.get(peer)
        self._note(peer, entry[1] if entry else ticks_add(self.engine.now_ms, -1 - self._limits[2]))

    def _note(self, peer, stamp_ms):
        """Note that `peer` is verified, by an Echo made at `stamp_ms`."""
        peers = self.peers
        if peer not in peers and len(peers) >= self._limits[0]:  # verified
            # the one that was verified longest ago, unless ticks have wrapped since
            used_ms = peers.pop(min(peers, key=peers.get))[1]
            if self._forgotten is None or ticks_diff(used_ms, self._forgotten) > 0:
                self._forgotten = used_ms
        peers[peer] = ticks_add(self.engine.now_ms, self._limits[1]), stamp_ms

    # -- server

    def request(self, request, response):
        """Challenge what must be fresh, and observations of unverified peers; see Engine.attach."""
        code = request.packet[_CODE]
        changes = code != _GET and code != _FETCH
        demands = changes and self.resources and self.engine._route(request.packet) in self.resources
        if not demands and self.is_verified(request.remote) or self._accept(request):
            return None
        if demands or not changes and request.opt.observe == 0:
            self._ask(response, request.remote)
            return _REPLY
        return None

    def response(self, request, response):
        """Keep a response to an unverified peer short; see Engine.attach."""
        peer = (request or response).remote
        if not self.is_verified(peer):
            self._settle(request, response, peer)

    def _settle(self, request, response, peer):
        """Replace the response by a challenge, or leave nothing but its code, if it is too long for `peer`."""
        if response.opt.observe is not None:  # a notification: who observes was verified when it registered
            return
        r = response.packet
        length = 5 + len((request or response).token) + r[_END] + len(r[_PAYLOAD])
        if request is None:
            if length <= _CON_LEN:
                return
            response.mtype = _NON
            code = _GET if r[_CODE] == _CONTENT else _POST
            is_long = length > _SAFE_LEN
        else:
            code = request.code
            is_long = length > max(_SAFE_LEN, _FACTOR * len(request.packet[_DATA]))
            block2 = response.opt.block2
            if block2 and block2 >> 4 and request.opt.block1 is None:
                code = _GET  # the rest of what a handler that has run had answered: asking again repeats nothing
            if block2 and block2 & _MORE and request.mtype == _CON:  # to a group's NON no 4.01 would go
                wanted = request.opt.block2
                is_long |= wanted is None or wanted & 7 > block2 & 7
        if is_long:
            r[_DATA][:] = r[_PAYLOAD] = b""
            r[_END] = r[_LAST] = 0
            if code == _GET or code == _FETCH:  # else the handler has run, and cannot again: its code is all that goes
                self._ask(response, peer)

    # -- client

    def incoming(self, record, message):
        """Repeat a request that was answered by 4.01 with Echo, twice: coap_oscore may ask, too; see Engine.attach."""
        if message.code != _UNAUTHORIZED or record.part or message.remote != record.remote:
            return None  # or it was answered, and the rest of the body is on its way; or a group's member
        value = message.opt.echo
        sent = record.outer or record.message
        repeats = getattr(record, "echo_repeats", 0)
        if value is None or value == sent.opt.echo or repeats == _REPEATS:
            return None
        try:
            self.engine.resend(record, sent.copy(echo=value))
            record.echo_repeats = repeats + 1
            return _CONSUMED
        except (ValueError, coap.Error):  # no room for the option, or none to protect it
            return None

    def tick(self, now_ms):
        """Once a day forget who was verified, and draw another key; see Engine.attach."""
        if ticks_diff(now_ms, self._key_ms) >= _KEY_MS:
            self.peers.clear()
            self._forgotten = None
            self._key = self.engine.random(16)
            self._key_ms = now_ms
        self.engine.wake(ticks_add(self._key_ms, _KEY_MS))


def attach(endpoint, verified=8, verified_s=300, fresh_s=10):
    """Have `endpoint` challenge peers it does not know, and answer such challenges; returns the Echo.

    verified    8    peers known to be where they say, 42 bytes each and an address; more: the oldest is forgotten
    verified_s  300  how long, in seconds, 1 to 86400; at most until the key changes, once a day
    fresh_s     10   how old an Echo may be, in seconds, 1 to 3600: the client's way there and back, retransmissions
                     included: more with a Tuning whose ack_timeout_ms is longer than the default's

    Raises TypeError or ValueError for what is out of these ranges, ValueError if it is attached already. An Echo is a
    time and 64 bits of SHA-256 over it, the peer and a key of the day: nothing is kept for a peer before it has proved
    its address.
    """
    coap._check("verified", verified, 1, 4096)
    coap._check("verified_s", verified_s, 1, 86400)
    coap._check("fresh_s", fresh_s, 1, 3600)
    echo = Echo(endpoint, verified, verified_s, fresh_s)
    for extension in endpoint._extensions:
        if isinstance(extension, Echo):
            raise ValueError("coap_echo is attached already")
        if hasattr(extension, "is_verified"):
            extension.is_verified = echo.is_verified
    endpoint.is_verified = echo.is_verified
    endpoint.attach(echo)
    return echo
