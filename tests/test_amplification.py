"""What strangers can make a server send: bytes out over bytes in, for all resources, methods and hostile datagrams.

Who forges a source address aims the answers at a victim. Everything that leaves is counted: replies, separate
responses with their retransmissions, answers to groups. RFC 9175 section 2.4 allows a factor of 3.
"""

import check
import coap
import coap_block
import coap_echo
import fake
from fake import packet

try:
    from test_hostile import SERVER_TABLES, from_hex
except MemoryError:
    SERVER_TABLES = None

FACTOR = 3
SAFE_LEN = 136  # bytes of UDP payload of one datagram to a peer that is not verified
FRAME_LEN = 66  # around each UDP payload: Ethernet (18), IPv6 (40) and UDP (8)
SHORTEST_FRAME_LEN = 84  # Ethernet fills a shorter one up, and its gap
TRANSMISSIONS = 5  # of a CON that nobody acknowledges
METHODS = tuple(range(1, 8)) + (31,)
PATHS = (
    (),
    ("t",),
    ("large",),
    ("source",),
    ("later",),
    ("files", "a"),
    ("nosuch",),
    (".well-known", "core"),
)
FIELDS = (
    {},
    {"payload": b"p"},
    {"observe": 0},
    {"block2": 6},
    {"block2": 2},
    {"block1": 14, "payload": b"p" * 64},
    {"uri_query": ("rt=*",)},
    {"accept": 0},
    {"echo": b"123456789012"},
    {"no_response": 0},
)


class Source:
    """2,000 bytes that are read by offset."""

    def readinto_at(self, buffer, offset):
        filled = max(0, min(len(buffer), 2000 - offset))
        buffer[:filled] = b"s" * filled
        return filled


def frame_len(datagram):
    return max(SHORTEST_FRAME_LEN, FRAME_LEN + len(datagram))


class Target:
    """A server with resources of all kinds, and what was counted."""

    def __init__(self, *extensions):
        self.engine = fake.engine(tuning=fake.EXACT, pending=1, kept=4, recent=4)
        for attach in extensions:
            attach(self.engine)
        sends_blocks = coap_block.attach in extensions
        self.engine.resource("t", ct=coap.TEXT, rt="text", obs=True)(lambda request, response: "22.5")
        self.engine.resource("large", ct=coap.OCTETS)(lambda request, response: b"l" * 1000)
        self.engine.resource("source")(lambda request, response: Source() if sends_blocks else b"s" * 1000)
        self.engine.resource("later")(self.promise)
        self.engine.resource("files/<name>")(lambda request, response: (coap.FORBIDDEN, "because " * 20))
        for n in range(20):
            self.engine.resource("n/%d" % n, rt="link", title="a title of some length %d" % n)
        self.copies = []
        self.now_ms = 0
        self.host = 0
        self.received_len = self.sent_len = 0  # UDP payload
        self.received_frames_len = self.sent_frames_len = 0  # the same on the wire
        self.longest = 0

    def promise(self, request, response):
        self.copies.append(response.copy())
        return coap.LATER

    def count(self, datagram):
        self.sent_len += len(datagram)
        self.sent_frames_len += frame_len(datagram)
        self.longest = max(self.longest, len(datagram))

    def attack(self, datagram, is_multicast=False):
        """Send `datagram` from a new forged address, and let all come that follows from it."""
        self.host += 1
        self.received_len += len(datagram)
        self.received_frames_len += frame_len(datagram)
        reply = self.engine.receive(datagram, ("192.0.2.%d" % (self.host % 250), self.host), self.now_ms, is_multicast)
        if reply is not None:
            self.count(reply)
        while self.copies:
            copy = self.copies.pop()
            copy.payload = b"d" * 200
            self.engine.send(copy)
        for _, late in fake.run(self.engine, self.now_ms, self.now_ms + 300000):
            self.count(late)
        self.now_ms = coap.ticks_add(self.now_ms, 300000)

    def factor(self):
        return self.sent_len / self.received_len

    def wire_factor(self):
        return self.sent_frames_len / self.received_frames_len


def requests():
    """A request for each resource, method, type and set of options."""
    for path in PATHS:
        for method in METHODS:
            for mtype in (coap.CON, coap.NON):
                for fields in FIELDS:
                    yield packet(method, 1, mtype, token=b"", uri_path=path, **fields)


def hostile():
    """The datagrams of test_hostile."""
    if SERVER_TABLES is None:
        raise check.Skip("the tables of test_hostile need 60 KB")
    for table in SERVER_TABLES:
        for row in table:
            yield from_hex(row[1])


SETTINGS = {
    "blocks": (coap_block.attach,),
    "echo": (coap_echo.attach,),
    "blocks and echo": (coap_block.attach, coap_echo.attach),
}


def attacked(datagrams, *extensions):
    """The Target after all of these datagrams."""
    target = Target(*extensions)
    for datagram in datagrams:
        target.attack(datagram)
    return target


def test_answers_when_requests_are_forged_then_at_most_three_times_the_bytes():
    """RFC 9175 section 2.4: the sum of UDP payloads, in each setting; no datagram longer than 136 bytes."""
    for name in SETTINGS:
        target = attacked(requests(), *SETTINGS[name])
        found = target.factor(), target.longest
        check.eq((found[0] <= FACTOR, found[1] <= SAFE_LEN), (True, True), (name, found))


def test_answers_when_hostile_datagrams_come_then_at_most_three_times_the_bytes():
    """RFC 9175 section 2.4: malformed, refused and odd ones, with nothing attached, too: errors have no payload."""
    for extensions in ((), (coap_block.attach,), (coap_echo.attach,), (coap_block.attach, coap_echo.attach)):
        target = attacked(hostile(), *extensions)
        check.eq(target.factor() <= FACTOR, True, target.factor())


def test_each_request_when_forged_then_its_own_answers_are_at_most_three_times_its_frame():
    """RFC 9175 section 2.4: the most rewarding one on the wire, with a token of 8 bytes and with none."""
    for name in SETTINGS:
        for path in PATHS:
            for method in METHODS:
                for token in (b"", b"12345678"):
                    target = Target(*SETTINGS[name])
                    target.attack(packet(method, 1, token=token, uri_path=path))
                    found = target.wire_factor()
                    if path == ("later",) and name == "blocks":  # only coap_echo knows whom not to send a CON
                        check.eq(target.sent_len <= 4 + TRANSMISSIONS * SAFE_LEN, True, target.sent_len)
                    else:
                        check.eq(found <= FACTOR, True, (name, path, method, found))


def test_groups_when_requests_are_forged_then_at_most_three_times_the_bytes():
    """RFC 7252 section 11.3: each member by itself; errors are silent."""
    for name in SETTINGS:
        target = Target(*SETTINGS[name])
        for datagram in requests():
            if datagram[0] >> 4 & 3 == coap.NON:
                target.attack(datagram, True)
        check.eq((target.wire_factor() <= 1, target.longest <= SAFE_LEN), (True, True), (name, target.wire_factor()))


def test_answers_when_nothing_is_attached_then_what_the_handlers_give_goes_out():
    """README: without coap_block and coap_echo an answer is as long as the handler makes it, up to datagram_len."""
    target = attacked(requests())
    check.eq((target.factor() > FACTOR, 1000 < target.longest <= 1152), (True, True), (target.factor(), target.longest))


def test_answers_when_there_is_nothing_to_answer_then_no_byte():
    """RFC 7252 section 3: fewer than four bytes, other versions, ACK and Reset."""
    for datagram in (b"", b"@", b"@\1", b"@\1\0", b"\x80\1\0\1\xb1t", b"\x60\1\0\1\xb1t", b"\x70\0\0\1", b"\xff" * 64):
        for extensions in ((), (coap_block.attach, coap_echo.attach)):
            check.eq(attacked([datagram], *extensions).sent_len, 0)
