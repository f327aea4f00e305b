"""Proves what coap_oscore must never do: use a nonce twice, accept a message twice, accept one that was changed.

Power cuts: a client and a server live from one power cut to the next, each with a store of two records; the power
fails within a write (which is torn), before it, after it, or so that the latest complete write is lost, too. Every
(key, nonce) that ever encrypted something is kept: none may come twice.

Replays: protected requests in any order, several times each, from several peers; the handler runs once for each that
the window of 32 lets pass, as a model says, and never after a restart without a new Echo.

Changes: option and ciphertext changed in bits, cut, extended, exchanged between messages; nothing may come of it,
and the genuine message is accepted afterwards.
"""

from proving import command_line, must

# isort: split
import coap
import coap_oscore
import coap_oscore_keys
import fake

CUTS = 10000
REPLAYS = 100000
CHANGES = 100000
SECRET = bytes(range(16))
SERVER = "server"
CLIENT = "client"
STEP = 8  # numbers that a write reserves: few, so that there are many writes
WINDOW = 32
TORN, BEFORE, AFTER, LOST = range(4)  # how the power fails at a write


class PowerCut(BaseException):
    """The power has failed. No Exception: nothing may catch it."""


class Flash(coap_oscore.Store):
    """A Store whose records outlive a power cut."""

    def __init__(self, records, random):
        self.records = records
        self.random = random
        self.before = None  # the records before the latest write
        self.writes_left = None

    def read(self, k):
        return self.records[k]

    def write(self, k, record):
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                self.fail(k, record)
        self.before = list(self.records)
        self.records[k] = record

    def fail(self, k, record):
        """The power fails around the writing of record `k`."""
        how = self.random.below(4)
        if how == TORN:
            self.records[k] = record[: self.random.below(16)]
        elif how == AFTER:
            self.records[k] = record
        elif how == LOST and self.before:
            self.records[:] = self.before
        raise PowerCut


class Nonces:
    """Every (key, nonce) that was used to encrypt; stands in the place of coap_oscore._seal."""

    def __init__(self):
        self.seal = coap_oscore._seal
        self.used = {}  # two keys, and of the nonces what comes before the number -> the numbers, as they are encoded
        self.count = 0

    def __call__(self, key, nonce, aad, plaintext):
        numbers = self.used.setdefault(key + nonce[:-5], set())
        number = int.from_bytes(nonce[-5:], "big")
        must(number not in numbers, "a nonce came twice: %r", nonce)
        numbers.add(number)
        self.count += 1
        return self.seal(key, nonce, aad, plaintext)

    def __enter__(self):
        coap_oscore._seal = self
        return self

    def __exit__(self, *_):
        coap_oscore._seal = self.seal


def engine_with(random, context, store, **tables):
    """An Engine and its Oscore."""
    engine = coap.Engine(random.bytes, **tables)
    return engine, coap_oscore.attach(engine, [context], store, step=STEP)


def client_context():
    return coap_oscore_keys.context(SECRET, b"c", b"s", server=SERVER)


def server_context():
    return coap_oscore_keys.context(SECRET, b"s", b"c")


# ---- power cuts ----


class Life:
    """A client and a server from one start to the power cut of one or both."""

    def __init__(self, random, client_store, server_store):
        self.random = random
        self.client, _ = engine_with(random, client_context(), client_store)
        self.server, self.at_server = engine_with(random, server_context(), server_store)
        self.promised = []
        self.server.resource("r")(self.handle)
        self.echo = None

    def handle(self, request, response):
        if self.random.below(4):
            return b"now"
        self.promised.append(response.copy(payload=b"later"))
        return coap.LATER

    def exchange(self):
        """A request, its response, and now and then a promised response or one with a number of the server."""
        message = coap.Message(coap.POST, mtype=coap.NON, uri_path=("r",), echo=self.echo)
        record = self.client.send(message, SERVER)
        for datagram in fake.due(self.client, 0):
            reply = self.server.receive(datagram, CLIENT, 0)
            if reply is not None and self.random.below(4):
                self.client.receive(bytes(reply), SERVER, 0)
        if record.response and record.response.message.opt.echo:
            self.echo = record.response.message.opt.echo
        record.cancel()
        self.answer_late()

    def answer_late(self):
        while self.promised:
            later = self.promised.pop()
            exchange = self.at_server._exchange_for(later.packet)
            later.opt.observe = 1  # so that the exchange lives on
            self.server.send(later)
            for _ in range(self.random.below(3)):
                coap_oscore.Oscore.response(self.at_server, None, self.notification(exchange))
            exchange.is_observed = False
            for datagram in fake.due(self.server, 0):
                self.server.receive(b"\x60\x00" + datagram[2:4], CLIENT, 0)
            self.server._open.clear()

    def notification(self, exchange):
        return coap.Message(coap.CONTENT, token=exchange.token, remote=exchange.remote, observe=2, payload=b"n")


def live(random, flashes):
    """Live until the power of one of the two fails, at a write of its or between two."""
    unlucky = flashes[random.below(2)]
    unlucky.writes_left = random.below(5)
    try:
        life = Life(random, *flashes)
        for _ in range(random.below(60) + 1):
            life.exchange()
    except PowerCut:
        return True
    if not random.below(4) and unlucky.before:
        unlucky.records[:] = unlucky.before  # the latest write had not reached the flash
    return False


def prove_power_cuts(n):
    """`n` power cuts; no nonce twice."""
    random = fake.Random(613)
    records = [[b"", b""], [b"", b""]]
    for each in records:
        coap_oscore_keys.create(Flash(each, random))
    in_writes = 0
    with Nonces() as nonces:
        for _ in range(n):
            in_writes += live(random, [Flash(each, random) for each in records])
    line = "oscore: %d power cuts, %d of them within a write: %d messages encrypted, 0 nonces used twice"
    print(line % (n, in_writes, nonces.count))
    must(in_writes * 3 > n and nonces.count > 3 * n, "too few of these")


# ---- replays ----


class Memory:
    """A store in RAM."""

    def __init__(self, number=0):
        self.number = number

    def load(self):
        return self.number

    def save(self, number):
        self.number = number


class Recipient:
    """A server that notes what reaches its handler."""

    def __init__(self, random, number):
        self.engine, self.oscore = engine_with(random, server_context(), Memory(number), recent=1, kept=1)
        self.accepted = []
        self.mid = 0
        self.engine.resource("r")(lambda request, response: self.accepted.append(bytes(request.payload)))

    def receive(self, datagram, peer=CLIENT):
        """The reply's bytes; each datagram is a new message to the layer below."""
        self.mid = self.mid + 1 & 0xFFFF
        self.engine._duplicates.free(0)
        self.engine._duplicates.free(1)
        datagram = datagram[:2] + bytes((self.mid >> 8, self.mid & 255)) + datagram[4:]
        reply = self.engine.receive(datagram, peer, 0)
        return reply and bytes(reply)


class Sender:
    """A client whose requests are taken down."""

    def __init__(self, random):
        self.engine, self.oscore = engine_with(random, client_context(), Memory())

    def request(self, payload, echo=None, keeps_open=False):
        """A protected request as a datagram, and its record, which is cancelled unless it is kept open."""
        message = coap.Message(coap.POST, mtype=coap.NON, uri_path=("r",), payload=payload, echo=echo)
        record = self.engine.send(message, SERVER)
        datagram = fake.due(self.engine, 0)[0]
        if not keeps_open:
            record.cancel()
        return datagram, record


class Window:
    """What a replay window must do, written as a set."""

    def __init__(self, lowest=-1):
        self.seen = set()
        self.highest = lowest

    def accepts(self, number):
        if number in self.seen or number <= self.highest - WINDOW:
            return False
        self.seen.add(number)
        self.highest = max(self.highest, number)
        return True


def prove_replays(n):
    """`n` deliveries of requests in any order; each is accepted once at most, and as often as the model says."""
    random = fake.Random(7)
    sender = Sender(random)
    delivered = accepted = replays = 0
    while delivered < n:
        recipient, window, old = restarted(random, sender)
        batch = [sender.request(b"%d" % k)[0] for k in range(1, 201)]
        numbers = [sender.oscore.sequence.next - 200 + k for k in range(200)]
        at = 0
        for _ in range(1000):
            at = min(199, at + random.below(2)) if random.below(50) else random.below(200)
            k = max(0, at - random.below(50))
            expected = window.accepts(numbers[k])
            recipient.receive(batch[k], random.below(5))
            got = recipient.accepted
            must(got == ([b"%d" % (k + 1)] if expected else []), "%r was accepted, the model says %r", got, expected)
            got.clear()
            accepted += expected
            replays += not expected
        for datagram in old:
            recipient.receive(datagram)
        must(not recipient.accepted, "a request from before the restart was accepted")
        delivered += 1000 + len(old)
    line = "oscore: %d replayed or reordered requests: %d accepted, as the model says, 0 twice"
    print(line % (delivered, accepted))
    must(accepted > 1000 * n // 20000 and replays > accepted // 2, "too few of these")


def restarted(random, sender):
    """A server that has lost its window and then made sure who is there; a model of the window; old requests."""
    recipient = Recipient(random, 1000)
    old = [sender.request(b"old")[0] for _ in range(20)]
    for datagram in old:
        recipient.receive(datagram)
    first, record = sender.request(b"who", keeps_open=True)
    sender.engine.receive(recipient.receive(first), SERVER, 0)
    must(not recipient.accepted, "accepted without Echo")
    echo = record.response.message.opt.echo
    recipient.receive(sender.request(b"0", echo)[0])
    must(recipient.accepted == [b"0"], "a fresh Echo was not accepted")
    recipient.accepted.clear()
    window = Window(sender.oscore.sequence.next - 1)
    for number in range(window.highest - WINDOW, window.highest + 1):
        window.seen.add(number)
    return recipient, window, old + [first]


# ---- changes ----


def changed(random, datagram, others):
    """`datagram` with its OSCORE option or its payload changed."""
    message = coap.Message.decode(datagram)
    option = message.opt.oscore
    payload = message.payload
    other = coap.Message.decode(others[random.below(len(others))])
    kind = random.below(6)
    if kind == 0 and option:
        option = flipped(random, option)
    elif kind == 1:
        payload = payload[: random.below(len(payload))]
    elif kind == 2:
        payload += random.bytes(1 + random.below(9))
    elif kind == 3 and other.payload != payload:
        payload = other.payload
    elif kind == 4 and other.opt.oscore != option:
        option = other.opt.oscore
    else:
        payload = flipped(random, payload)
    message.replace_option(9, option)
    message.payload = payload
    return message.encode()


def flipped(random, data):
    """`data` with one to three bits changed."""
    data = bytearray(data)
    bits = set([random.below(len(data) * 8) for _ in range(1 + random.below(3))])
    for bit in bits:
        data[bit >> 3] ^= 1 << (bit & 7)
    return bytes(data)


def prove_changes(n):
    """`n` changed messages, requests and responses; none is accepted, the genuine ones are."""
    random = fake.Random(3)
    sender = Sender(random)
    recipient = Recipient(random, 0)
    done = genuine = 0
    old = [sender.request(b"other")[0]]
    old_replies = [b"\x58\x44\0\0" + bytes(8) + b"\x90\xff" + random.bytes(20)]
    while done < n:
        datagram, record = sender.request(b"%d" % genuine, keeps_open=True)
        for _ in range(25):
            recipient.receive(changed(random, datagram, old))
        must(not recipient.accepted, "a changed request was accepted")
        reply = recipient.receive(datagram)
        must(recipient.accepted == [b"%d" % genuine], "a genuine request was not accepted")
        recipient.accepted.clear()
        for _ in range(25):
            sender.engine.receive(changed(random, reply, old_replies), SERVER, 0)
            must(not record.is_done() and sender.engine.received is None, "a changed response was accepted")
        sender.engine.receive(reply, SERVER, 0)
        must(record.is_done() and record.error is None, "a genuine response was not accepted")
        old = [datagram] + old[:9]
        old_replies = [reply] + old_replies[:9]
        genuine += 1
        done += 50
    print("oscore: %d changed requests and responses: 0 accepted; %d genuine ones were" % (done, 2 * genuine))


def run(scale=1.0):
    """10,000 power cuts, 100,000 replays, 100,000 changes."""
    prove_power_cuts(max(50, int(CUTS * scale)))
    prove_replays(max(1000, int(REPLAYS * scale)))
    prove_changes(max(100, int(CHANGES * scale)))


if __name__ == "__main__":
    command_line(run)
