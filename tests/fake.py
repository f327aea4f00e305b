"""A virtual network and clock: engines joined by datagrams that are lost, doubled, reordered and delayed by a seed.

No socket, no waiting: 247 seconds of protocol take as long as their datagrams. The same file on CPython and
MicroPython.
"""

import coap


class Random:
    """A small generator, the same numbers on every interpreter for a seed (a 31 bit linear congruential one)."""

    def __init__(self, seed):
        self.state = seed * 2654435 + 12345 & 0x7FFFFFFF

    def below(self, n):
        """An int from 0 to n - 1."""
        self.state = self.state * 1103515245 + 12345 & 0x7FFFFFFF
        return (self.state >> 8) % n

    def percent(self, p):
        """True in `p` of a hundred calls."""
        return self.below(10000) < p * 100

    def bytes(self, n):
        """`n` bytes, the source of randomness of an engine."""
        return bytes([self.below(256) for _ in range(n)])


def raiser(error):
    """A function that raises `error`, whatever it is called with."""

    def fail(*_):
        raise error

    return fail


class Network:
    """Engines by address, and what is on its way between them.

    start_ms    the first time on the clock, in ticks
    loss        percent of datagrams lost, each way
    duplication percent of the surviving datagrams delivered twice, each copy subject to nothing more
    reordering  percent of datagrams that take up to `reorder_ms` more than `delay_ms`
    """

    def __init__(self, seed=1, start_ms=0, loss=0, duplication=0, reordering=0, delay_ms=50, reorder_ms=400):
        self.random = Random(seed)
        self.now_ms = coap.ticks_add(0, start_ms)
        self.loss = loss
        self.duplication = duplication
        self.reordering = reordering
        self.delay_ms = delay_ms
        self.reorder_ms = reorder_ms
        self.engines = {}
        self.flights = []  # [arrival, source, destination, datagram]
        self.trace = None  # a list, to note everything that is delivered
        self.received = []  # ReceptionRecords for applications

    def add(self, address, **tables):
        """A new engine at `address`, any hashable; returns it."""
        engine = coap.Engine(Random(len(self.engines) + 7).bytes, **tables)
        self.engines[address] = engine
        return engine

    def post(self, source, destination, datagram):
        """Put a datagram on its way."""
        if self.random.percent(self.loss):
            return
        copies = 2 if self.random.percent(self.duplication) else 1
        for _ in range(copies):
            delay_ms = self.delay_ms
            if self.random.percent(self.reordering):
                delay_ms += self.random.below(self.reorder_ms)
            self.flights.append((coap.ticks_add(self.now_ms, delay_ms), source, destination, bytes(datagram)))

    def _send_due(self):
        for address in self.engines:
            engine = self.engines[address]
            packet = engine.due(self.now_ms)
            while packet is not None:
                self.post(address, engine.peer, packet)
                packet = engine.due(self.now_ms)

    def _deliver(self):
        for flight in [flight for flight in self.flights if coap.ticks_diff(flight[0], self.now_ms) <= 0]:
            self.flights.remove(flight)
            _, source, destination, datagram = flight
            engine = self.engines.get(destination)
            if engine is None:
                continue
            if self.trace is not None:
                self.trace.append((source, destination, datagram))
            reply = engine.receive(datagram, source, self.now_ms)
            if reply is not None:
                self.post(destination, source, reply)
            if engine.received is not None:
                self.received.append(engine.received)

    def next_ms(self):
        """Time until something happens, None if nothing will."""
        soonest_ms = None
        for flight in self.flights:
            left_ms = coap.ticks_diff(flight[0], self.now_ms)
            if soonest_ms is None or left_ms < soonest_ms:
                soonest_ms = left_ms
        for address in self.engines:
            left_ms = self.engines[address].next_ms(self.now_ms)
            if left_ms is not None and (soonest_ms is None or left_ms < soonest_ms):
                soonest_ms = left_ms
        return soonest_ms

    def run(self, most_ms=400000, until=None):
        """Let time pass until nothing is left to happen, `until()` is true, or `most_ms` have gone; returns the ms."""
        passed_ms = idle = 0
        while True:
            self._send_due()
            self._deliver()
            if until is not None and until():
                return passed_ms
            step_ms = self.next_ms()
            if step_ms is None or passed_ms + step_ms > most_ms:
                return passed_ms
            step_ms = max(0, step_ms)
            idle = 0 if step_ms else idle + 1
            if idle > 1000:
                raise AssertionError("something is due for ever")
            passed_ms += step_ms
            self.now_ms = coap.ticks_add(self.now_ms, step_ms)


# ---- one engine, its peer played by the test ----

PEER = ("192.0.2.1", 5683)
EXACT = coap.Tuning(ack_random_percent=100)  # the first retransmission after 2000 ms, not after 2000 to 3000


def engine(**tables):
    """An engine with a reproducible source of randomness."""
    return coap.Engine(Random(3).bytes, **tables)


def packet(code, mid, mtype=coap.CON, token=b"tk", **fields):
    """The datagram of a message; `fields` are payload, uri and options by name."""
    return coap.Message(code, mtype=mtype, mid=mid, token=token, **fields).encode()


def empty(mtype, mid):
    """The datagram of an empty message: an ACK, a Reset, a ping."""
    return bytes((0x40 | mtype << 4, 0, mid >> 8, mid & 255))


def head(datagram):
    """(type, code, message ID) of a datagram, None of none."""
    return datagram and (datagram[0] >> 4 & 3, datagram[1], datagram[2] << 8 | datagram[3])


def due(engine, now_ms):
    """All datagrams that `engine` sends at `now_ms`."""
    sent = []
    datagram = engine.due(now_ms)
    while datagram is not None:
        sent.append(bytes(datagram))
        datagram = engine.due(now_ms)
    return sent


def run(engine, from_ms, to_ms):
    """[(time, datagram)] of what `engine` sends from `from_ms` to `to_ms` while nobody answers."""
    sent = []
    now_ms = from_ms
    for _ in range(1000):
        sent += [(now_ms, datagram) for datagram in due(engine, now_ms)]
        step_ms = engine.next_ms(now_ms)
        if step_ms is None or now_ms + step_ms > to_ms:
            return sent
        now_ms += step_ms
    raise AssertionError("something is due for ever: " + engine.next_event_reason)


def ask(engine, datagram, now_ms=0, peer=PEER, is_multicast=False):
    """The reply of `engine` to `datagram`: a Message, or None."""
    reply = engine.receive(datagram, peer, now_ms, is_multicast)
    return None if reply is None else coap.Message.decode(bytes(reply))


class Transport:
    """What an Endpoint takes instead of a socket: `inbox` holds what arrives, `sent` what went out.

    An item of `inbox` is (datagram, peer), None, or an OSError to raise; an item of `faults` is what a sendto does
    in its turn: an OSError to raise, an int to return, or None to send.
    """

    def __init__(self, *inbox):
        self.inbox = list(inbox)
        self.sent = []  # (datagram, peer)
        self.faults = []
        self.closed = 0

    def sendto(self, data, peer):
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, OSError):
            raise fault
        if fault is None:
            self.sent.append((bytes(data), peer))
        return len(data) if fault is None else fault

    def recvfrom(self, n):
        item = self.inbox.pop(0) if self.inbox else None
        if isinstance(item, OSError):
            raise item
        return item and (item[0][:n], item[1])

    def close(self):
        self.closed += 1


class Clock:
    """In a `with`, the clock of coap: it stands still, and waiting sets it forward."""

    def __init__(self, now_ms=0):
        self.now_ms = now_ms
        self.left_ms = 1000000

    def ticks_ms(self):
        return self.now_ms

    def sleep_ms(self, ms):
        self.now_ms = coap.ticks_add(self.now_ms, ms)
        self.left_ms -= ms + 1
        if self.left_ms < 0:
            raise AssertionError("waited for more than 1000 s, or without end")

    def __enter__(self):
        self.saved = coap.ticks_ms, coap.sleep_ms
        coap.ticks_ms = self.ticks_ms
        coap.sleep_ms = self.sleep_ms
        return self

    def __exit__(self, *_):
        coap.ticks_ms, coap.sleep_ms = self.saved
