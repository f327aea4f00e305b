"""The clock's wrap: ticks start again from 0 after 12 days, and nothing may notice.

One script of everything that has a time, on a network that loses, doubles and reorders, is played from several
times on the clock: the datagrams and the moments at which they are sent are the same.
"""

from binascii import crc32

import check
import coap
import fake

SERVER = ("192.0.2.1", 5683)
CLIENT = ("192.0.2.2", 5683)
OTHER = ("192.0.2.3", 5683)
NOBODY = ("192.0.2.9", 5683)
QUICK = coap.Tuning(ack_timeout_ms=700, max_retransmit=2)
# Before the wrap: a moment after which all wraps at once, one within the retransmissions, one within the lifetimes
STARTS_MS = 0, -1, -1000, -100000, -247000


class Traced(fake.Network):
    """A network that notes when, from where to where and what is sent."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.start_ms = self.now_ms
        self.sent = []

    def age_ms(self, ticks):
        """Time from the start to `ticks`; None of None."""
        return None if ticks is None else coap.ticks_diff(ticks, self.start_ms)

    def post(self, source, destination, datagram):
        self.sent.append((self.age_ms(self.now_ms), source[0], destination[0], bytes(datagram)))
        super().post(source, destination, datagram)


class Script:
    """A server, two clients, and what they do."""

    def __init__(self, start_ms):
        self.network = Traced(seed=5, start_ms=start_ms, loss=25, duplication=25, reordering=30)
        self.server = self.network.add(SERVER, recent=4, kept=6, kept_per_host=3)
        self.client = self.network.add(CLIENT)
        self.other = self.network.add(OTHER)
        self.laters = []
        self.stored = []
        self.records = []
        resource = self.server.resource("r")
        resource.get(lambda request, response: "text")
        resource.post(self.store)
        self.server.resource("slow")(self.promise)

    def store(self, request, response):
        self.stored.append(bytes(request.payload))

    def promise(self, request, response):
        self.laters.append(response.copy(payload="late"))
        return coap.LATER

    def send(self, client, code, path, remote=SERVER, **fields):
        message = coap.Message(code, uri_path=path, **fields)
        self.records.append(client.send(message, remote))

    def keep_promises(self):
        while self.laters:
            self.records.append(self.server.send(self.laters.pop(0)))

    def first_part(self):
        """Queues of both clients, a ping, a NON, a peer that is not there, a promise."""
        for n in range(3):
            self.send(self.client, coap.POST, ("r",), payload=b"%d" % n)
            self.send(self.other, coap.POST, ("r",), payload=b"%d" % (n + 5))
        self.send(self.client, coap.GET, ("slow",))
        self.send(self.client, coap.GET, ("r",), mtype=coap.NON)
        self.send(self.other, coap.GET, ("r",), NOBODY)
        self.send(self.other, 0, ())
        self.network.run(20000)
        self.keep_promises()

    def second_part(self):
        """When the first entries are about to be forgotten, and after."""
        for _ in range(3):
            self.network.run(95000)
            self.send(self.client, coap.POST, ("r",), payload=b"later")
            self.send(self.other, coap.PUT, ("slow",), transport_tuning=QUICK)
            self.network.run(30000)
            self.keep_promises()
        self.network.run(600000)

    def outcome(self):
        """What is left of it, with times from the start."""
        age_ms = self.network.age_ms
        rows = [crc32(repr(item).encode()) for item in self.network.sent]  # a board has no room for two traces
        for record in self.records:
            payload = record.response and record.response.message.payload
            ended = record.error and record.error.__name__
            row = age_ms(record.transmitted_ms), age_ms(record.last_event_ms), record.mid, ended, payload
            rows.append(crc32(repr(row).encode()))
        return rows + self.stored + [engine.next_ms(self.network.now_ms) for engine in (self.server, self.client)]


def played(start_ms):
    script = Script(start_ms)
    script.first_part()
    script.second_part()
    return script


def test_script_when_played_then_it_has_everything():
    """RFC 7252 section 4: retransmissions, time-outs, separate responses, no request executed twice."""
    script = played(0)
    sent = [item[3] for item in script.network.sent]
    check.eq(len(sent) > len(set(sent)) > 30, True, len(sent))
    ends = [record.error for record in script.records]
    check.eq((coap.Timeout in ends, coap.Reset in ends, None in ends), (True, True, True))
    check.eq(len([record for record in script.records if record.response_type == coap.ACK]) > 5, True)
    check.eq([len([item for item in script.stored if item == b"%d" % n]) <= 1 for n in range(9)], [True] * 9)
    check.eq(script.outcome()[-2:], [None, None])


def compare(outcome, expected, start_ms):
    for n in range(len(expected)):
        check.eq(outcome[n], expected[n], "from %d ms, row %d" % (start_ms, n))
    check.eq(len(outcome), len(expected))


def test_script_when_the_clock_wraps_then_the_traces_are_the_same():
    """RFC 7252 section 4.8: every time is a difference of ticks."""
    expected = played(STARTS_MS[0]).outcome()
    for start_ms in STARTS_MS[1:]:
        compare(played(start_ms).outcome(), expected, start_ms)


def test_lifetimes_when_the_clock_wraps_then_they_end_in_time():
    """RFC 7252 section 4.8.2: a duplicate known across the wrap, forgotten 247 s after its first."""
    for start_ms in STARTS_MS:
        engine = fake.engine()
        request = fake.packet(coap.POST, 1)
        now_ms = coap.ticks_add(0, start_ms)
        engine.receive(request, SERVER, now_ms)
        for later_ms, is_new in ((1, False), (246999, False), (247000, True)):
            engine.receive(request, SERVER, coap.ticks_add(now_ms, later_ms))
            check.eq(engine.received is not None, is_new, later_ms)


def test_timeout_when_the_clock_wraps_then_it_comes_in_time():
    """RFC 7252 section 4.2: the caller's time ends between two retransmissions."""
    for start_ms in (0, -1000, -3000, -4999, -5000):
        engine = fake.engine(tuning=fake.EXACT)
        record = engine.send(coap.Message(coap.GET), SERVER, 5000)
        ages_ms = []
        age_ms = 0
        while not record.is_done() and len(ages_ms) < 5:
            now_ms = coap.ticks_add(0, start_ms + age_ms)
            fake.due(engine, now_ms)
            ages_ms.append(age_ms)
            age_ms += engine.next_ms(now_ms)
        check.eq((ages_ms, record.error), ([0, 2000, 5000], coap.Timeout), start_ms)


def test_duplicates_when_they_are_forgotten_late_and_the_clock_wraps_then_nothing_is_due():
    """RFC 7252 section 4.8.2: a program that slept over the end of the lifetime."""
    for start_ms in (0, -247001, -247500, -248000):
        engine = fake.engine()
        engine.receive(fake.packet(coap.POST, 1), SERVER, coap.ticks_add(0, start_ms))
        now_ms = coap.ticks_add(0, start_ms + 248000)
        check.eq((engine.due(now_ms), engine.next_ms(now_ms)), (None, None), start_ms)


def test_wait_when_the_clock_wraps_then_process_returns_in_time():
    """RFC 7252 section 4.2: an endpoint that waits across the wrap retransmits there."""
    for start_ms in STARTS_MS:
        with fake.Clock(coap.ticks_add(0, start_ms)) as clock:
            transport = fake.Transport()
            endpoint = coap.Endpoint(sock=transport, tuning=fake.EXACT)
            record = endpoint.send(coap.Message(coap.GET), SERVER)
            begin_ms = clock.now_ms
            check.eq(endpoint.process(3000), None)
            check.eq((coap.ticks_diff(clock.now_ms, begin_ms), len(transport.sent)), (3000, 2))
            check.eq(endpoint.process(60000), None)
            check.eq((record.error, len(transport.sent)), (coap.Timeout, 5))
