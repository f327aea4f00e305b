"""Proves that blocks, Observe, Echo and OSCORE live together: random histories of a server and three clients.

Each history has a seed: it says which losses, doubles and delays the network has, where its clock begins (it wraps in
some), how large tables and blocks are, and what happens: bodies that go and come, promised answers, observations,
changes, cancellations, clients that vanish and begin anew at the same address. Then the network becomes quiet, and

  - no handler has run twice for one request, and none of a request answered by 2.xx not at all
  - each request has ended once, with an answer of its own and of one piece, or with an error that is documented
  - what observes has heard of the latest state
  - all tables are empty when the observations have been cancelled

The table of duplicates has room for all: what a smaller one forgets is said in coap.Endpoint.
"""

import hashlib

from proving import command_line, must

# isort: split
from blocks import Sink
from oscore import Memory

import coap
import coap_block
import coap_echo
import coap_observe
import coap_oscore
import coap_oscore_keys
import fake

HISTORIES = 100
STEPS = 40
SERVER = ("192.0.2.99", 5683)
CLIENTS = (("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1))
NETWORKS = ((0, 0, 0), (10, 10, 20), (30, 20, 30), (0, 30, 50))  # loss, duplication, reordering
LENGTHS = (16, 60, 64, 65, 200, 1024, 1025, 2048, 5000, 8192)
STATES = (("small", 16), ("middle", 200), ("large", 3000))
WRITES = (("post", coap.POST), ("put", coap.PUT), ("later", coap.POST), ("fetch", coap.FETCH))
REFUSALS = (coap.UNAUTHORIZED, coap.REQUEST_ENTITY_INCOMPLETE, coap.SERVICE_UNAVAILABLE)
ERRORS = (coap.Timeout, coap.Error, coap_oscore.Unprotected)
QUIET_MS = 300000


def make_body(number, length):
    """A body that says which one it is and how long, in each of its parts."""
    parts = [b"%08d:%06d:%04d:" % (number, length, n) for n in range(length // 20 + 1)]
    return b"".join(parts)[:length]


def number_of(data):
    """The number of a body, which must be whole."""
    data = bytes(data)
    number = int(data[:8])
    must(data == make_body(number, int(data[9:15])), "body %d is spliced or cut", number)
    return number


class Unrepeated:
    """A source of random bytes: no token comes twice, as with the generator of fake.py one would."""

    def __init__(self, seed):
        self.seed = seed
        self.count = 0

    def bytes(self, n):
        self.count += 1
        return hashlib.sha256(b"%d %d" % (self.seed, self.count)).digest()[:n]


class History:
    """One history; run() raises AssertionError if a rule was broken."""

    def __init__(self, seed):
        self.random = fake.Random(seed)
        loss, duplication, reordering = self.any(NETWORKS)
        start_ms = self.any((0, -20000, -400000, 1 << 29))
        self.network = fake.Network(seed, start_ms, loss, duplication, reordering, self.any((1, 50)))
        self.seed = seed * 1000
        self.has_echo = self.random.below(2)
        self.has_oscore = not self.random.below(4)
        self.secrets = [b"%016d" % n for n in range(3)]
        self.stores = [Memory(), Memory(), Memory()]
        self.said = []  # what went wrong in handlers
        self.runs = {}  # by number of the request
        self.replies = {}  # length of the answer by number of the request
        self.laters = []  # (time, response)
        self.states = {}
        self.requests = []  # [record, kind, number, how often it ended]
        self.observations = []  # [Observation, name, latest state, client]
        self.server = self.new_server()
        self.clients = [self.new_client(n) for n in range(3)]

    def any(self, choices):
        return choices[self.random.below(len(choices))]

    # -- engines

    def new_engine(self, address, **tables):
        self.seed += 1
        engine = self.network.engines[address] = coap.Engine(Unrepeated(self.seed).bytes, **tables)
        engine.now_ms = self.network.now_ms
        engine.log = self.note
        return engine

    def note(self, text, error):
        if isinstance(error, Exception) and not isinstance(error, coap.Error):
            self.said.append("%s: %r" % (text, error))

    def new_server(self):
        engine = self.new_engine(SERVER, kept=256, kept_per_host=256)
        transfers = 1 + self.random.below(4)
        coap_observe.attach(engine, 1 + self.random.below(8), interval_ms=100, confirm_ms=self.any((20000, 3600000)))
        limits = {"szx": self.any((0, 2, 4, 6)), "transfers": transfers, "per_host": 1 + self.random.below(transfers)}
        blocks = coap_block.attach(engine, unverified_len=136 if self.has_echo else None, **limits)
        if self.has_echo:
            coap_echo.attach(engine, 1 + self.random.below(4), self.any((5, 300)))
        if self.has_oscore:
            contexts = [coap_oscore_keys.context(self.secrets[n], b"s", b"c%d" % n) for n in (0, 2)]
            coap_oscore.attach(engine, contexts, Memory())
        for name, length in STATES:
            self.states[name] = 0
            engine.resource(name, obs=True).get(self.reader(name, length))
        for name, code in WRITES:
            engine.resource(name).on(code)(self.fetched if name == "fetch" else self.written)
        sink = engine.resource("sink")
        sink.put(self.written)
        blocks.sink(sink)(lambda request: Sink())
        return engine

    def new_client(self, n):
        tuning = coap.Tuning(nstart=self.any((1, 2, 4)))
        engine = self.new_engine(CLIENTS[n], tuning=tuning, transmissions=3 + self.random.below(6))
        coap_observe.attach(engine, observations=3)
        engine.blocks = coap_block.attach(engine, szx=self.any((0, 2, 4, 6)))
        coap_echo.attach(engine)
        if self.has_oscore and n != 1:
            context = coap_oscore_keys.context(self.secrets[n], b"c%d" % n, b"s", server=SERVER)
            coap_oscore.attach(engine, [context], self.stores[n])
        engine.on_end = self.count_end
        return engine

    def count_end(self, record):
        for request in self.requests:
            request[3] += request[0] is record

    # -- handlers

    def reader(self, name, length):
        def read(request, response):
            response.opt.max_age = 30
            return make_body(self.states[name], length)

        return read

    def fetched(self, request, response):
        response.opt.etag = b"%d" % number_of(request.payload)
        return make_body(number_of(request.payload), self.replies[number_of(request.payload)])

    def written(self, request, response):
        data = request.payload
        number = number_of(data.data if isinstance(data, Sink) else data)
        self.runs[number] = self.runs.get(number, 0) + 1
        if self.runs[number] > 1:
            self.said.append("request %d ran twice" % number)
        path = request.opt.uri_path[0]
        if path == "post":
            return make_body(number, self.replies[number])
        if path == "later":
            answer = coap.Message(coap.CHANGED, token=request.token, payload=make_body(number, self.replies[number]))
            answer.remote = request.remote
            self.laters.append((coap.ticks_add(self.network.now_ms, self.random.below(20000)), answer))
            return coap.LATER
        return None

    # -- what happens

    def request(self, client):
        kind = self.any(("read", "download", "sink", "upload", "post", "put", "later", "fetch"))
        number = len(self.replies) + 1
        self.replies[number] = self.any(LENGTHS)
        message = coap.Message(dict(WRITES).get(kind, coap.PUT), mtype=self.any((None, None, None, coap.NON)))
        message.opt.uri_path = (kind,)
        limits = {}
        if kind in ("read", "download"):
            message = coap.Message(coap.GET, uri_path=(self.any(STATES)[0],))
            limits = {"sink": Sink()} if kind == "download" else {}
        elif kind == "upload":
            message.opt.uri_path = ("sink",)
            limits = {"source": make_body(number, self.any(LENGTHS))}
        else:
            message.payload = make_body(number, self.any(LENGTHS))
        if not self.random.below(4):
            message.opt.block2 = self.random.below(7)
        try:
            record = client.blocks.send(message, SERVER, **limits) if limits else client.send(message, SERVER)
        except coap.Full:
            return
        self.requests.append([record, kind, number, 0])

    def observe(self, client):
        entry = [None, self.any(STATES)[0], None, client]

        def hear(message):
            if message.code == coap.CONTENT:
                entry[2] = number_of(message.payload)

        try:
            entry[0] = coap_observe.observe(client, None, hear, remote=SERVER, uri_path=(entry[1],))
            self.observations.append(entry)
        except coap.Full:
            pass

    def change(self, client):
        name = self.any(STATES)[0]
        self.states[name] += 1
        self.server.notify(name, not self.random.below(3))

    def unobserve(self, client):
        if self.observations:
            observation = self.observations.pop(self.random.below(len(self.observations)))[0]
            (observation.record if self.random.below(2) else observation).cancel()

    def cancel(self, client):
        if self.requests:
            self.requests.pop(self.random.below(len(self.requests)))[0].cancel()

    def begin_anew(self, client):
        if not self.random.below(4):
            self.requests = [request for request in self.requests if request[0].endpoint is not client]
            self.observations = [entry for entry in self.observations if entry[3] is not client]
            n = self.clients.index(client)
            self.clients[n] = self.new_client(n)

    def wait(self, client):
        self.pass_time(self.random.below(8000))

    def pass_time(self, left_ms):
        """Let exactly so much time pass, answer what was promised when that is due."""
        while left_ms > 0:
            step_ms = min(left_ms, 200) if self.laters else left_ms
            passed_ms = self.network.run(step_ms)
            self.network.now_ms = coap.ticks_add(self.network.now_ms, step_ms - passed_ms)
            left_ms -= step_ms
            for later in list(self.laters):
                if coap.ticks_diff(later[0], self.network.now_ms) <= 0:
                    self.answer(later)
            must(not self.said, "%r", self.said)

    def answer(self, later):
        try:
            self.server.send(later[1])
        except coap.Full:
            return
        except ValueError:  # its promise is forgotten
            pass
        self.laters.remove(later)

    # -- what must hold

    def judge(self, record, kind, number, ends):
        """A request after the network has become quiet."""
        must(record.is_done() and ends == 1, "%s %d ended %d times", kind, number, ends)
        if record.error:
            must(record.error in ERRORS, "%s %d: %r", kind, number, record.error)
            return
        message = record.response.message
        if message.code >= coap.BAD_REQUEST:
            must(message.code in REFUSALS, "%s %d: %d", kind, number, message.code)
            return
        if kind in ("read", "download"):
            number_of(record.transfer.sink.data if kind == "download" else message.payload)
            return
        if message.payload:
            must(message.payload == make_body(number, self.replies[number]), "%s %d: another's answer", kind, number)
        must(kind == "fetch" or self.runs.get(number) == 1, "%s %d has not run", kind, number)
        must(kind != "fetch" or message.payload, "fetch %d without payload", number)

    def must_be_empty(self):
        """The tables, a lifetime after the last message."""
        for address in self.network.engines:
            engine = self.network.engines[address]
            must(not (engine._open or engine._queue or engine._answers or engine._pending), "%r is at work", address)
            must(max(engine._duplicates.mids) < 0, "%r remembers duplicates", address)
            must(not engine.observing.observations and not engine.observing.pending, "%r observes", address)
            must(not engine.observing.observers and not engine.observing.hosts, "%r is observed", address)
            for extension in engine._extensions:
                must(not getattr(extension, "bodies", None), "%r holds bodies", address)

    def run(self):
        """All of it; returns how many requests were made, and how many observations went on to the end."""
        acts = [self.request] * 6 + [self.observe] * 2 + [self.change] * 3 + [self.wait] * 5
        acts += [self.unobserve, self.cancel, self.begin_anew]
        for _ in range(STEPS):
            self.any(acts)(self.any(self.clients))
        self.network.loss = self.network.duplication = self.network.reordering = 0
        self.pass_time(2 * QUIET_MS)
        for request in self.requests:
            self.judge(*request)
        went_on = 0
        for observation, name, state, _ in self.observations:
            if not observation.is_done():
                went_on += 1
                must(state == self.states[name], "the observer of %s knows %r, not %d", name, state, self.states[name])
            observation.cancel()
        self.pass_time(QUIET_MS)
        for name in self.states:  # who is there no more, has not said so
            self.server.notify(name, True)
        self.pass_time(QUIET_MS)
        self.must_be_empty()
        return len(self.replies), went_on


def run(scale=1.0):
    """100 histories, or a share of them."""
    requests = observations = 0
    for seed in range(int(HISTORIES * scale)):
        try:
            count, went_on = History(seed).run()
        except Exception:
            print("together: seed %d" % seed)
            raise
        requests += count
        observations += went_on
    values = int(HISTORIES * scale), requests, observations
    print("together: %d histories, %d requests, each ended once; %d observers know the latest state" % values)


if __name__ == "__main__":
    command_line(run)
