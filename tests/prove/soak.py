"""Proves that running on loses no memory: mixed traffic in a small heap, server and client at once.

GET, PUT and POST by CON and NON, duplicates, errors, pings, malformed messages, separate responses, own requests that
are answered, reset, acknowledged only or left alone: 250 messages a second from six peers, in virtual time. At each
tenth the engine comes to rest, and the heap that is then free must be that of the first time.
"""

import gc
import random

from proving import IS_MICROPYTHON, come_to_rest, command_line, free_heap, must

# isort: split
import coap

REQUESTS = 200000
STEP_MS = 4  # 250 messages a second, of the 265 for which message IDs suffice
HEAP_DRIFT = 256
BLOCK_LEN = 4096
MOST_OWED = 4
SELDOM = 1200  # one of so many is never answered and holds one of four places for up to 93 s
PEERS = tuple([("192.0.2.%d" % (n // 2), 5683 + n) for n in range(6)])
SILENT = ("192.0.2.9", 5683)
RESET = b"\x70"

# What a peer sends, how often of 32, and the reply to a CON: code, 0 is an empty ACK
REQUEST_KINDS = (
    (8, b"\x01", b"\xb4text", coap.CONTENT),
    (2, b"\x01", b"\xb3big", coap.CONTENT),
    (4, b"\x03", b"\xb4text\xff23.0 C", coap.CHANGED),
    (5, b"\x02", b"\xb4text\xff1", coap.CHANGED),
    (3, b"\x01", b"\xb4late", 0),
    (2, b"\x02", b"\xb4late", 0),
    (2, b"\x01", b"\xb6nosuch", coap.NOT_FOUND),
    (2, b"\x04", b"\xb4text", coap.METHOD_NOT_ALLOWED),
    (2, b"\x01", b"\xb4fail", coap.INTERNAL_SERVER_ERROR),
    (1, b"\x01", b"\xbb.well-known\x04core", coap.CONTENT),
    (1, b"\x02", b"\xb4none", 0),
)


def below(n):
    """An int from 0 to n - 1; the interpreter's own generator, which takes none of the heap."""
    return random.getrandbits(24) % n


def random_bytes(n):
    """The source of randomness of the engine."""
    return bytes([below(256) for _ in range(n)])


class Peers:
    """The engine under test and six peers around it."""

    def __init__(self):
        gc.collect()  # what imports left is in the way of what stays
        self.engine = coap.Engine(random_bytes)
        self.mids = [65536 - 500 * n for n in range(len(PEERS))]
        self.owed = []  # promised responses
        self.live = []  # own records
        self.now_ms = 0
        self.requests = self.duplicates = self.separate = self.refused = self.asked = self.answered = 0
        self.add_resources()

    def add_resources(self):
        """Handlers of every kind."""
        text = self.resource("text", ct=coap.TEXT, rt="temperature")
        text.get(lambda request, response: "22.5 C")
        text.put(lambda request, response: coap.CHANGED)
        text.post(lambda request, response: coap.CHANGED)
        self.resource("big", ct=coap.TEXT)(lambda request, response: b"x" * 300)
        self.resource("late")(self.promise)
        self.resource("fail")(lambda request, response: request.opt.no_such_option)
        self.resource("none")(lambda request, response: coap.NO_RESPONSE)

    def resource(self, path, **attributes):
        """A resource, made while the heap is tidy, for it stays."""
        gc.collect()
        return self.engine.resource(path, **attributes)

    def promise(self, request, response):
        """A handler whose response is sent later, or that is busy."""
        if len(self.owed) == MOST_OWED:
            return coap.SERVICE_UNAVAILABLE
        self.owed.append(response.copy(payload=b"done"))
        return coap.LATER

    def step(self):
        """One message from a peer, and what the engine has to send."""
        kind = below(40)
        if kind < 32:
            self.request(below(len(PEERS)), kind)
        elif kind < 37:
            self.ask()
        else:
            self.nonsense(kind)
        if self.owed:
            self.keep_promise()
        self.deliver()
        for record in self.live:
            if record.is_done():
                self.live.remove(record)
                break
        self.now_ms = coap.ticks_add(self.now_ms, STEP_MS)

    def request(self, n, kind):
        """A request of peer `n`, one of eight twice; the reply must be what it should."""
        method, rest, code = request_kind(kind)
        self.mids[n] = mid = self.mids[n] + 1 & 0xFFFF
        is_con = below(4) > 0
        data = b"%c%s%c%cto%s" % (0x42 if is_con else 0x52, method, mid >> 8, mid & 255, rest)
        reply = self.engine.receive(data, PEERS[n], self.now_ms)
        self.requests += 1
        first = None if reply is None else bytes(reply)
        self.judge(first, is_con, code, data)
        if not below(8):
            reply = self.engine.receive(data, PEERS[n], self.now_ms)
            self.requests += 1
            self.duplicates += 1
            must((None if reply is None else bytes(reply)) == (first if is_con else None), "%r answered anew", data)

    def judge(self, reply, is_con, code, data):
        """Raises unless `reply` is as expected; a promise may be refused."""
        if is_late(data) and reply is not None and reply[1] == coap.SERVICE_UNAVAILABLE:
            self.refused += 1
        elif code or is_con:
            must(reply is not None and reply[1] == code, "%r is answered %r", data, reply)
            must(reply[0] >> 4 == (6 if is_con else 5), "%r is answered by another type: %r", data, reply)
        else:
            must(reply is None, "%r is answered %r", data, reply)

    def nonsense(self, kind):
        """A ping, a malformed message or an unknown critical option: what else must be answered."""
        data, code = ((b"\x40\x00ab", 0), (b"\x40\x01ab\xff", 0), (b"\x40\x01ab\x91x", coap.BAD_OPTION))[kind - 37]
        reply = self.engine.receive(data, SILENT, self.now_ms)
        must(reply is not None and reply[1] == code, "%r is answered %r", data, reply)
        self.requests += 1

    def ask(self):
        """A request of our own; two of the four places are left to responses."""
        if len(self.live) == 2:
            return
        kind = below(SELDOM)
        peer = PEERS[below(len(PEERS))] if kind else SILENT
        message = coap.Message(1 + kind % 3, mtype=kind & 1, uri_path=("sensors", "temp"), payload=b"on" * (kind % 3))
        try:
            self.live.append(self.engine.send(message, peer))
        except coap.Full:
            return
        self.requests += 1
        self.asked += 1

    def keep_promise(self):
        """Send a promised response, if the queue has room for it."""
        try:
            self.engine.send(self.owed[0])
        except coap.Full:
            return
        self.owed.pop(0)
        self.separate += 1

    def deliver(self):
        """What the engine sends arrives at once."""
        datagram = self.engine.due(self.now_ms)
        while datagram is not None:
            if self.engine.peer != SILENT:
                self.answer(bytes(datagram), self.engine.peer)
            datagram = self.engine.due(self.now_ms)

    def answer(self, datagram, peer):
        """A peer answers a CON or a request, mostly."""
        mid = datagram[2:4]
        is_con = datagram[0] >> 4 == 4
        kind = below(SELDOM)
        reply = None
        if datagram[1] >= 64:
            if is_con and kind > 10:
                reply = b"\x60\x00" + mid
        elif kind == 1 and is_con:
            reply = b"\x60\x00" + mid  # and the response never comes
        elif kind < 50:
            reply = b"\x70\x00" + mid
        elif kind & 3 and is_con:
            token_len = datagram[0] & 15
            reply = b"%c\x45%s%s\xffhello" % (0x60 | token_len, mid, datagram[4 : 4 + token_len])
        else:
            reply = self.respond(datagram, peer, is_con and kind & 4)
        if reply is not None:
            self.engine.receive(reply, peer, self.now_ms)
            self.answered += self.engine.received is not None

    def respond(self, datagram, peer, is_acknowledged_first):
        """The separate response of a peer to a request, CON or NON."""
        if is_acknowledged_first:
            self.engine.receive(b"\x60\x00" + datagram[2:4], peer, self.now_ms)
        n = PEERS.index(peer)
        self.mids[n] = mid = self.mids[n] + 1 & 0xFFFF
        head = (0x40 | below(2) << 4) + (datagram[0] & 15)
        return b"%c\x45%c%c%s\xff%s" % (head, mid >> 8, mid & 255, datagram[4 : 4 + (head & 15)], b"x" * 40)

    def rest(self):
        """Promises are kept, all exchanges end, lifetimes pass; the last message seen is always the same."""
        while self.owed:
            self.keep_promise()
            self.deliver()
            self.now_ms = coap.ticks_add(self.now_ms, 1000)
        self.engine.receive(b"\x40\x01ab\xb4text", SILENT, self.now_ms)
        self.now_ms = come_to_rest(self.engine, self.now_ms)
        while self.live:
            must(self.live.pop().is_done(), "an exchange never ended")


def request_kind(number):
    """Method, options and payload, and the code of the reply of request kind 0 to 31."""
    place = 0
    while number >= REQUEST_KINDS[place][0]:
        number -= REQUEST_KINDS[place][0]
        place += 1
    return REQUEST_KINDS[place][1:]


def is_late(data):
    """Whether a request is for the resource that promises."""
    return data.endswith(b"late")


def run(scale=1.0):
    """200,000 requests in ten parts."""
    part = max(2000, int(REQUESTS * scale)) // 10
    random.seed(51)
    peers = Peers()
    drift = 0
    for tenth in range(1, 11):
        while peers.requests < tenth * part:
            peers.step()
        peers.rest()
        if tenth == 1:
            free_first = free_heap()
        drift = max(drift, free_first - free_heap())
    bytearray(BLOCK_LEN)
    line = "soak: %d requests (%d duplicates, %d separate responses, %d own, %d answered), %d refused; all ended"
    print(line % (peers.requests, peers.duplicates, peers.separate, peers.asked, peers.answered, peers.refused))
    if IS_MICROPYTHON:
        line = "soak: heap: at most %d bytes fewer than at 10 %% (%d free); %d in one piece at the end; no MemoryError"
        print(line % (drift, free_first, BLOCK_LEN))
    must(drift <= HEAP_DRIFT, "%d bytes of heap are lost", drift)


if __name__ == "__main__":
    command_line(run)
