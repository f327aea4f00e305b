"""Proves that bytes from the network raise nothing but FormatError, cost no more than their size, and leave no trace.

Stateless: mutated datagrams into Message.decode, and all that can be read of those that decode. Cost: the worst of
several shapes against a valid message of the same size with as many short options as fit. Stateful: into a live
engine, in virtual time: mutated valid requests, noise, and answers to what the engine itself sends.
"""

import time

from proving import IS_MICROPYTHON, come_to_rest, command_line, free_heap, must

# isort: split
import coap
import corpus
import fake

STATELESS = 200000 if IS_MICROPYTHON else 1000000
STATEFUL = 100000
COST_RATIO = 5
HEAP_DRIFT = 256
LONGEST = 1160

NAMES = (
    "if_match", "uri_host", "etag", "etags", "if_none_match", "observe", "uri_port", "location_path", "oscore",
    "uri_path", "content_format", "max_age", "uri_query", "hop_limit", "accept", "location_query", "block2", "block1",
    "size2", "proxy_uri", "proxy_scheme", "size1", "echo", "no_response", "request_tag",
)  # fmt: skip


# ---- mutation ----


def mutated(random, data):
    """`data` (bytes) after one to three random changes."""
    out = bytearray(data)
    for _ in range(1 + random.below(3)):
        change(random, out, random.below(len(out) + 1), random.below(8))
    return bytes(out[:LONGEST] if len(out) > LONGEST else out)


def change(random, out, at, kind):
    """One random change of the bytearray `out` at offset `at`."""
    if kind <= 1 and at < len(out):
        out[at] = out[at] ^ 1 << random.below(8) if kind else random.below(256)
    elif kind == 2:
        out[at:at] = random.bytes(1 + random.below(4))
    elif kind == 3:
        out[at : at + 1 + random.below(8)] = b""
    elif kind == 4:
        out[at:] = b""
    elif kind == 5:
        out[at:at] = bytes(out[at : at + 1 + random.below(16)]) * (1 + random.below(3))
    elif kind == 6:  # an option header with extensions, whole or not
        header = (random.below(3) + 13 << 4 | random.below(16)) if random.below(2) else random.below(16) << 4 | 13
        out[at:at] = bytes((header,)) + random.bytes(random.below(5))
    elif kind == 7:
        other = corpus.VALID[random.below(len(corpus.VALID))]
        out[at:] = other[random.below(len(other)) :]


# ---- stateless ----


def read_all(message):
    """Read everything of a message in every way."""
    opt = message.opt
    for name in NAMES:
        try:
            getattr(opt, name)
        except coap.FormatError:
            pass
    for read in (repr, lambda m: m.find_option(11), lambda m: m.options):
        try:
            read(message)
        except coap.FormatError:
            pass


def parts(message):
    """What must survive encoding, options as bytes; values that cannot be read count by their FormatError."""
    try:
        options = message.options
    except coap.FormatError:
        options = None
    return message.code, message.mtype, message.mid, message.token, options, message.payload


def prove_stateless(n):
    """`n` mutated datagrams through decode, all reading, encode and decode."""
    random = fake.Random(21)
    decoded = 0
    for _ in range(n):
        data = mutated(random, corpus.VALID[random.below(len(corpus.VALID))])
        try:
            message = coap.Message.decode(data)
        except coap.FormatError:
            continue
        decoded += 1
        read_all(message)
        encoded = message.encode()
        if encoded != data:
            must(parts(coap.Message.decode(encoded)) == parts(message), "encoded as something else: %r", data)
    line = "fuzz: stateless: %d mutated datagrams, %d decode, read and encode to the same; nothing but FormatError"
    print(line % (n, decoded))


# ---- cost ----

HEAD = b"\x40\x01\x12\x34"


def filled(pattern, size):
    """A GET of `size` bytes: as many copies of `pattern` as fit, then as much payload as is left."""
    body = pattern * ((size - len(HEAD)) // len(pattern))
    left_len = size - len(HEAD) - len(body)
    return HEAD + body + (b"\xff" + b"p" * (left_len - 1) if left_len > 1 else b"\x00" * left_len)


def shapes(size):
    """Datagrams of `size` bytes that might be expensive, by name."""
    random = fake.Random(size)
    found = {
        "empty options": filled(b"\x00", size),
        "empty options, one of each": filled(b"\x10", size),
        "empty segments": HEAD + b"\xb0" + b"\x00" * (size - 5),
        "unknown critical": HEAD + b"\x90" + b"\x00" * (size - 5),
        "large critical": HEAD + b"\xd0\xff" + b"\x00" * (size - 6),
        "extended delta": filled(b"\xd0\x00", size),
        "doubly extended delta": filled(b"\xe0\x00\x00", size),
        "extended length": filled(b"\x0d\x00" + b"a" * 13, size),
        "cut at the end": filled(b"\x00", size - 1) + b"\xd0",
        "marker at the end": filled(b"\x00", size - 1) + b"\xff",
        "noise": HEAD + random.bytes(size - 4),
    }
    for n in range(20):
        data = b""
        while len(data) < size:
            data += mutated(random, corpus.VALID[random.below(len(corpus.VALID))])[4:]
        found["mutated %d" % n] = HEAD + data[: size - 4]
    return found


def _ticks_us():
    return time.ticks_us() if IS_MICROPYTHON else time.perf_counter_ns() // 1000


def decode(data):
    """Decode, whatever comes of it."""
    try:
        coap.Message.decode(data)
    except coap.FormatError:
        pass


def cost_us(function, data, repeats):
    """The time of function(data), the best of nine measurements."""
    best_us = None
    for _ in range(9):
        begin_us = _ticks_us()
        for _ in range(repeats):
            function(data)
        took_us = _ticks_us() - begin_us
        if best_us is None or took_us < best_us:
            best_us = took_us
    return best_us / repeats


def make_receive():
    """A function that gives a datagram to an engine, each time from another peer."""
    engine = coap.Engine(fake.Random(3).bytes)
    engine.resource("t").get(lambda request, response: None)
    count = [0]

    def receive(data):
        count[0] += 1
        engine.receive(data, ("192.0.2.1", count[0]), 0)

    return receive


def ratio_of(function, data, valid, repeats):
    """How many times as long `data` takes as `valid`; what seems too much is measured again, for others run, too."""
    ratio = cost_us(function, data, repeats) / cost_us(function, valid, repeats)
    for _ in range(3):
        if ratio > COST_RATIO:
            ratio = min(ratio, cost_us(function, data, repeats) / cost_us(function, valid, repeats))
    return ratio


def prove_cost():
    """The worst shape against the valid message of its size, for decoding and for receiving."""
    for what, function in (("decode", decode), ("receive", make_receive())):
        worst = 0, ""
        for size in (16, 64, 256, 1152):
            repeats = 1 + 3000 // size
            valid = filled(b"\xb1a", 6) + b"\x01a" * ((size - 6) // 2)
            found = shapes(size)
            for name in found:
                ratio = ratio_of(function, found[name], valid, repeats)
                worst = max(worst, (ratio, "%s, %d bytes" % (name, size)))
        line = "fuzz: %s: the most expensive shape (%s) takes %.2f times a valid message of its size (at most %d)"
        print(line % (what, worst[1], worst[0], COST_RATIO))
        must(worst[0] <= COST_RATIO, "%s takes %.1f times a valid message: %s", what, worst[0], worst[1])


# ---- stateful ----

PEERS = tuple([("192.0.2.%d" % (n // 2), 5683 + n) for n in range(8)])
PATHS = (b"text", b"late", b"fail", b"none", b"big", b"nosuch")


class Victim:
    """A live engine, server and client, and an attacker who sees what it sends."""

    def __init__(self, is_serving, seed):
        self.random = fake.Random(seed)
        self.engine = coap.Engine(fake.Random(seed + 1).bytes)
        self.is_serving = is_serving
        self.promised = [None] * 4  # responses to be sent later, or requests to be answered later
        self.overheard = [None] * 8  # (datagram, peer) the engine sent last
        self.now_ms = 0
        self.replies = self.sent = 0
        if is_serving:
            self.add_resources()

    def add_resources(self):
        """Handlers of every kind."""
        add = self.engine.resource
        add("text", ct=coap.TEXT)(lambda request, response: "22.5 C")
        add("late")(self.promise)
        add("fail")(lambda request, response: request.opt.no_such_option)
        add("none")(lambda request, response: coap.NO_RESPONSE)
        add("big")(lambda request, response: b"x" * 200)

    def promise(self, request, response):
        """A handler whose response is sent later, or never."""
        self.promised[self.random.below(4)] = response.copy()
        return coap.LATER

    def datagram(self):
        """What the attacker sends next, and from where."""
        random = self.random
        peer = PEERS[random.below(8)]
        kind = random.below(10)
        if kind < 4:
            data = self.request()
        elif kind == 4:
            data = corpus.VALID[random.below(len(corpus.VALID))]
        elif kind == 5:
            return random.bytes(random.below(40)), peer
        else:
            heard = self.overheard[random.below(8)]
            if heard is None:
                return b"", peer
            data = self.answer_to(heard[0])
            if random.below(8):
                peer = heard[1]
        return (mutated(random, data) if random.below(2) else data), peer

    def request(self):
        """A valid request; its message ID is often one that was there before."""
        random = self.random
        path = PATHS[random.below(len(PATHS))]
        mid = random.below(40) if random.below(2) else random.below(65536)
        head = bytes((0x42 | random.below(2) << 4, 1 + random.below(8), mid >> 8, mid & 255))
        return head + random.bytes(2) + bytes((0xB0 | len(path),)) + path

    def answer_to(self, heard):
        """An answer to a datagram of the engine: ACK, Reset or response, its message ID and token mostly right."""
        random = self.random
        kind = random.below(8)
        mid = heard[2:4] if random.below(4) else random.bytes(2)
        if kind == 0:
            return b"\x60\x00" + mid
        if kind == 1:
            return b"\x70\x00" + mid
        token_len = heard[0] & 15
        if kind > 5:
            mid = random.bytes(2)
        mtype = (2, 2, 2, 2, 0, 0, 0, 1)[kind]
        head = bytes((0x40 | mtype << 4 | token_len, 64 + random.below(8))) + mid
        return head + heard[4 : 4 + token_len] + (b"", b"\xff22.5", b"\xc0\xffhello", b"\x91x")[random.below(4)]

    def round(self):
        """One datagram, and what becomes due; then some time passes."""
        data, peer = self.datagram()
        is_to_group = not self.random.below(16)
        reply = self.engine.receive(data, peer, self.now_ms, is_to_group)
        if reply is not None:
            self.replies += 1
            must(not is_to_group or data[0] >> 4 == 5, "a reply to %r, which was sent to a group", data)
            must(len(reply) >= 4, "a reply of %d bytes to %r", len(reply), data)
            must(len(data) >= 4 and data[0] >> 4 in (4, 5), "a reply to %r", data)
        if self.engine.received is not None:
            self.take(self.engine.received)
        if not self.random.below(5):
            self.act()
        self.drain()
        self.now_ms = coap.ticks_add(self.now_ms, self.random.below(400))

    def take(self, record):
        """The application is given a record: answers, resets or leaves a request, now or later."""
        if record.pertains_to is None:
            kind = self.random.below(4)
            if kind == 0:
                record.respond(coap.CONTENT, b"x" * (self.random.below(2) * 100))
            elif kind == 1:
                record.reset()
            elif kind == 2 and record.message.mtype == coap.CON:
                record.ack()
                self.promised[self.random.below(4)] = record
        self.engine.acknowledge()

    def act(self):
        """The application sends a request, or a response that it owes."""
        owed = self.promised[self.random.below(4)]
        try:
            if owed is None:
                mtype = self.random.below(2)
                peer = PEERS[self.random.below(8)]
                record = self.engine.send(coap.Message(coap.GET, mtype=mtype, uri_path=("t",)), peer)
                if not self.random.below(10):
                    record.cancel()
            else:
                self.promised[self.promised.index(owed)] = None
                if self.is_serving:
                    self.engine.send(owed)
                else:
                    owed.respond(coap.CONTENT, b"late")
        except (coap.Full, ValueError):  # ValueError: its promise has expired
            pass

    def drain(self):
        """Send what is due; a serving engine answers only by the return value of receive."""
        datagram = self.engine.due(self.now_ms)
        while datagram is not None:
            must(not self.is_serving or datagram[0] >> 4 in (4, 5), "an ACK or Reset out of turn")
            self.overheard[self.sent & 7] = bytes(datagram), self.engine.peer
            self.sent += 1
            datagram = self.engine.due(self.now_ms)

    def rest(self):
        """Nobody sends any more, and all that was overheard is forgotten; the last messages are well known."""
        for mid, path in ((b"\xff\xfe", b"\xb4text"), (b"\xff\xff", b"\xb6nosuch")):
            self.engine.receive(b"\x40\x01" + mid + path, PEERS[0], self.now_ms)
        self.now_ms = come_to_rest(self.engine, self.now_ms)
        for place in range(8):
            self.overheard[place] = self.promised[place & 3] = None

    def prove_empty(self):
        """All tables have their places free: 32 POSTs of four hosts, four promises, eight requests of our own."""
        post = b"\x40\x02%c%c\xb4text"
        accepted = 0
        for n in range(32):
            reply = self.engine.receive(post % (9, n), ("203.0.113.%d" % (n // 8), 1), self.now_ms)
            accepted += reply is not None and reply[1] < 128 if self.is_serving else self.engine.received is not None
        must(accepted == 32, "only %d of 32 places are free after the lifetime", accepted)
        if self.is_serving:
            for n in range(4):
                reply = self.engine.receive(b"\x40\x01\x0a%c\xb4late" % n, ("203.0.113.9", 1), self.now_ms)
                must(bytes(reply) == b"\x60\x00\x0a%c" % n, "not all promises were forgotten")
        for _ in range(8):
            self.engine.send(coap.Message(coap.GET), ("203.0.113.9", 1))


def prove_stateful(n, is_serving, seed):
    """`n` datagrams into one engine, then silence."""
    victim = Victim(is_serving, seed)
    free_before = free_heap()
    for _ in range(n):
        victim.round()
    victim.rest()
    drift = free_before - free_heap()
    name = "server with resources" if is_serving else "application"
    line = "fuzz: stateful, %s: %d datagrams, %d replies, %d sent by itself; nothing raised, none to an ACK or Reset, "
    line += "at rest after 247 s"
    line %= name, n, victim.replies, victim.sent
    print(line + ", heap %+d bytes" % -drift if IS_MICROPYTHON else line)
    must(drift <= HEAP_DRIFT, "%d bytes of heap are lost", drift)
    victim.prove_empty()


def run(scale=1.0):
    """1,000,000 (MicroPython: 200,000) datagrams without and 100,000 with state."""
    prove_stateless(max(1000, int(STATELESS * scale)))
    prove_cost()
    n = max(1000, int(STATEFUL * scale) // 2)
    prove_stateful(n, True, 31)
    prove_stateful(n, False, 32)


if __name__ == "__main__":
    command_line(run)
