"""Serving: what is ended in the midst of a request harms no other; a burst leaves sockets and timers their turn."""

import sys

import check
import coap
import fake
from fake import PEER, ask, due, empty, packet, raiser

OTHER = ("192.0.2.2", 5683)
LIFE_MS = 247000
DAY_MS = 86400000
BEFORE_WRAP_MS = 0x3FFFFFFF - 1000  # one second before the ticks begin anew


class Stop(BaseException):
    """What no handler's `except Exception` takes, as KeyboardInterrupt."""


class Server:
    """An engine with /usual, which answers how often it was called, and /odd, which does what `act` says."""

    def __init__(self, **tables):
        self.engine = fake.engine(tuning=fake.EXACT, **tables)
        self.calls = 0
        self.act = None
        self.logged = []
        self.engine.log = lambda text, value: self.logged.append(text)
        self.engine.resource("usual", ct=coap.TEXT)(self.usual)
        self.engine.resource("odd", ct=coap.TEXT)(self.odd)
        self.mid = 1000

    def usual(self, request, response):
        self.calls += 1
        return "%d" % self.calls

    def odd(self, request, response):
        self.calls += 1
        return self.act(request, response)

    def ask(self, code=coap.GET, path="odd", mid=1, now_ms=0, **fields):
        return ask(self.engine, packet(code, mid, uri_path=(path,), **fields), now_ms)

    def stopped(self, exception_class, code=coap.GET, **fields):
        """Check that a request to /odd raises, and what comes after it is served."""
        check.raises(exception_class, self.ask, code, **fields)
        self.serves()

    def serves(self, now_ms=0):
        """Check that other requests are answered as ever."""
        check.eq(self.engine._is_in_handler, False)
        for code, expected in (coap.GET, coap.CONTENT), (coap.PUT, coap.CHANGED), (coap.GET, coap.CONTENT):
            self.mid += 1
            calls = self.calls
            token = b"t%d" % self.mid
            reply = self.ask(code, "usual", self.mid, now_ms, token=token)
            check.eq((reply.code, reply.mid, reply.token), (expected, self.mid, token))
            check.eq((reply.payload, reply.opt.content_format), (b"%d" % (calls + 1), coap.TEXT))


class Extension:
    """What can be attached; `fail` is the name of the hook that raises, once."""

    rank = 50
    understood = 0

    def __init__(self, fail=None, error=None):
        self.fail = fail
        self.error = error

    def raise_in(self, hook):
        if self.fail == hook:
            self.fail = None
            raise self.error

    def unwrap(self, request):
        self.raise_in("unwrap")

    def request(self, request, response):
        self.raise_in("request")

    def response(self, request, response):
        self.raise_in("response")


# ---- what ends in the midst of a request ----


def test_request_when_the_handler_is_interrupted_then_raises_and_the_next_is_served():
    """Ctrl-C, sys.exit, and what ends a generator, which serving is."""
    for error in KeyboardInterrupt, SystemExit, GeneratorExit, Stop:
        for code in coap.GET, coap.PUT:
            server = Server()
            server.act = raiser(error())
            server.stopped(error, code)


def test_request_when_the_handler_raises_what_ends_iterations_then_5_00():
    """RFC 7252 section 5.9.3.1: serving is a generator, and yet goes on."""
    for error in StopIteration(), MemoryError(), ValueError():
        server = Server()
        server.act = raiser(error)
        check.eq(server.ask().code, coap.INTERNAL_SERVER_ERROR)
        server.serves()


def test_response_when_there_was_no_memory_for_all_of_an_option_then_it_and_the_next_are_whole():
    """RFC 7252 section 3.1: the header of an option without its value would lead the client astray, ever after."""

    def half(request, response):
        response.packet[0].append(0x68)  # what Message.add_option has done by then
        raise MemoryError

    server = Server()
    server.act = half
    check.eq(server.ask().code, coap.INTERNAL_SERVER_ERROR)
    server.serves()


def test_request_when_etag_or_log_is_interrupted_then_the_next_is_served():
    """RFC 7252 section 5.10.6: the other functions that the application gives."""
    for error in KeyboardInterrupt, Stop:
        server = Server()
        server.act = raiser(ValueError())
        server.engine.log = raiser(error())
        server.stopped(error)
        server = Server()
        server.act = lambda request, response: "text"
        server.engine.resources[-1].etag(raiser(error()))
        server.stopped(error)
        server.stopped(error, coap.PUT, mid=2, if_match=(b"a",))


def test_request_when_an_extension_raises_then_the_next_is_served():
    """Engine.attach: what has no room to be decrypted, or in a block, is a MemoryError."""
    for hook in "unwrap", "request", "response":
        for error in MemoryError, KeyboardInterrupt, StopIteration:
            for code in coap.GET, coap.PUT:
                server = Server()
                server.act = lambda request, response: "text"
                server.engine.attach(Extension(hook, error()))
                try:
                    server.ask(code)
                except (error, RuntimeError):  # a generator's StopIteration is one in CPython, and none in MicroPython
                    pass
                server.serves()
                check.eq(server.ask(coap.GET, mid=3).payload, b"text", hook)


class Polled(fake.Transport):
    """A transport as one that can be polled; what `failure` is comes out of recvfrom."""

    failure = None

    def recvfrom(self, n):
        if self.failure:
            raise self.failure
        return super().recvfrom(n)

    def ready(self, wait_ms):
        return [(self,)] if self.inbox else []

    def endpoint(self, is_polled):
        endpoint = coap.Endpoint(sock=self)
        if is_polled:
            endpoint._asked.clear()
            endpoint._polled.append(self)
            endpoint._ready = self.ready
        return endpoint


def test_process_when_there_is_no_memory_for_what_a_datagram_asks_then_it_is_lost_and_logged():
    """RFC 7252 section 4.2: as if it had been lost on its way; what came behind it is handled."""
    requests = [packet(coap.GET, mid, uri_path=("r",)) for mid in (1, 2, 3)]
    told = []
    for is_polled in False, True:
        transport = Polled(*[(request, PEER) for request in requests])
        endpoint = transport.endpoint(is_polled)
        endpoint.resource("r").get(lambda request, response: "text")
        endpoint.attach(Extension("request", MemoryError()))
        endpoint.log = lambda text, value: told.append((text, type(value)))
        while transport.inbox:
            endpoint.process(0)
        check.eq([datagram[2:4] for datagram, _ in transport.sent], [b"\0\x02", b"\0\x03"])
    check.eq(told, 2 * [("no memory for what a datagram asks for", MemoryError)])


def test_process_when_no_datagram_of_a_flood_finds_memory_then_it_returns_as_ever():
    """Endpoint.process: after 16 datagrams, lost or not, what else the program does has its turn."""
    for is_polled in False, True:
        transport = Polled(*[(packet(coap.GET, mid, uri_path=("r",)), PEER) for mid in range(40)])
        endpoint = transport.endpoint(is_polled)
        endpoint.resource("r").get(lambda request, response: "text")
        extension = Extension()
        extension.raise_in = raiser(MemoryError())
        endpoint.attach(extension)
        check.eq(endpoint.process(0), None)
        check.eq(len(transport.inbox), 24)


def test_process_when_one_socket_takes_all_memory_then_the_other_has_its_turn():
    """Endpoint.register_socket: a flood of one, each of whose datagrams is lost, holds the other up for 16 of them."""
    for is_polled in False, True:
        flood = Polled(*[(packet(coap.PUT, mid, uri_path=("r",)), PEER) for mid in range(40)])
        other = Polled((packet(coap.GET, 100, uri_path=("r",)), OTHER))
        endpoint = flood.endpoint(is_polled)
        (endpoint._polled if is_polled else endpoint._asked).append(other)
        endpoint._ready = lambda wait_ms, both=(flood, other): [(sock,) for sock in both if sock.inbox]
        endpoint.resource("r").get(lambda request, response: "text")
        extension = Extension()
        extension.unwrap = lambda request: raiser(MemoryError())(request) if request.code == coap.PUT else None
        endpoint.attach(extension)
        endpoint.process(0)
        check.eq([datagram[2:4] for datagram, peer in flood.sent if peer == OTHER], [b"\0\x64"])


def test_process_when_there_is_no_room_for_a_datagram_then_memory_error():
    """Endpoint.process: it stays in the socket, so going on would be a loop without end."""
    for is_polled in False, True:
        transport = Polled((packet(coap.GET, 1), PEER))
        transport.failure = MemoryError()
        check.raises(MemoryError, transport.endpoint(is_polled).process, None)


def test_process_when_requests_keep_coming_then_what_is_due_leaves_all_the_same():
    """Endpoint.process: it sends what is due first, also where a request is open and each call returns another one."""
    transport = Polled()
    endpoint = transport.endpoint(True)
    endpoint.send(coap.Message(coap.GET, token=b"t"), OTHER)
    endpoint.process(0)
    transport.inbox += [(packet(coap.GET, mid), PEER) for mid in (1, 2, 3)]
    endpoint.process(0).respond(coap.CONTENT)
    endpoint.send(coap.Message(coap.GET, mid=9, token=b"u"), PEER)
    check.eq(endpoint.process(0).mid, 2)
    check.eq([datagram[2:4] for datagram, peer in transport.sent if peer == PEER], [b"\0\x01", b"\0\x09"])


def test_process_when_on_end_raises_oserror_then_it_comes_out():
    """Endpoint.on_end: a file that could not be written is not taken for a recvfrom that failed."""
    for is_polled, error in (False, OSError), (True, OSError), (False, KeyboardInterrupt), (True, KeyboardInterrupt):
        transport = Polled()
        endpoint = transport.endpoint(is_polled)
        endpoint.on_end = raiser(error(28))
        record = endpoint.send(coap.Message(coap.GET, token=b"t"), PEER)
        endpoint.process(0)
        transport.inbox.append((packet(coap.CONTENT, record.mid, coap.ACK, b"t"), PEER))
        check.raises(error, endpoint.process, 0)


def test_request_when_the_heap_is_locked_then_memory_error_and_later_ones_are_served():
    """RFC 7252 section 4.2: not even a new generator has room."""
    server = Server()
    server.act = lambda request, response: response.copy().payload + b"text"
    datagrams = [packet(code, mid, uri_path=("odd",)) for mid, code in enumerate((2, 3, 1, 2))]
    failed = 0
    for datagram in datagrams:
        check.heap_lock()
        try:
            server.engine.receive(datagram, PEER, 0)
        except MemoryError:
            failed += 1
        finally:
            check.heap_unlock()
    if sys.implementation.name == "micropython":
        check.eq(failed > 0, True)
    server.serves()


def test_request_when_serving_cannot_begin_anew_then_that_is_tried_again():
    """A generator takes 300 bytes: a full heap may not have them."""
    server = Server()
    server.act = raiser(Stop())
    check.raises(Stop, server.ask)
    serving = coap._serving
    coap._serving = raiser(MemoryError())
    try:
        for mid in range(10, 13):
            check.raises(MemoryError, server.ask, coap.GET, "usual", mid)
    finally:
        coap._serving = serving
    server.serves()


def test_write_when_its_handler_was_interrupted_then_is_not_executed_again():
    """RFC 7252 section 4.5: nobody knows how far it came."""
    for code in coap.POST, coap.PUT, coap.DELETE, coap.PATCH, coap.IPATCH:
        server = Server()
        server.act = raiser(Stop())
        server.stopped(Stop, code)
        calls = server.calls
        check.eq(server.ask(code), None)
        check.eq(server.calls, calls)


def test_read_when_its_handler_was_interrupted_then_is_executed_again():
    """RFC 7252 section 4.5: safe to repeat."""
    for code in coap.GET, coap.FETCH:
        server = Server()
        server.act = raiser(Stop())
        server.stopped(Stop, code)
        server.act = lambda request, response: "text"
        check.eq(server.ask(code).payload, b"text")


def test_write_when_no_handler_had_run_then_is_executed_when_it_comes_again():
    """RFC 7252 section 4.2: silence would be for good."""
    for error in MemoryError, KeyboardInterrupt:
        server = Server()
        server.act = lambda request, response: "text"
        server.engine.attach(Extension("request", error()))
        server.stopped(error, coap.POST)
        check.eq(server.ask(coap.POST).payload, b"text")


def test_request_for_the_application_when_there_was_no_room_for_it_then_is_given_when_it_comes_again():
    """RFC 7252 section 4.2."""
    engine = fake.engine()
    datagram = packet(coap.POST, 1, uri_path=("a",))
    record = coap.ReceptionRecord
    coap.ReceptionRecord = raiser(MemoryError())
    try:
        check.raises(MemoryError, engine.receive, datagram, PEER, 0)
    finally:
        coap.ReceptionRecord = record
    check.eq((engine.receive(datagram, PEER, 0), engine.received.message.opt.uri_path), (None, ("a",)))


# ---- handlers that call back ----


def test_handler_when_it_calls_its_own_engine_then_runtime_error_and_its_answer_is_right():
    """RFC 7252 section 5.3.1: the request in hand keeps its token and ID."""
    inner = packet(coap.GET, 99, token=b"inner", uri_path=("usual",))
    for call in (
        lambda engine: engine.receive(inner, OTHER, 0),
        lambda engine: engine.receive(inner, OTHER, 0, True),
        lambda engine: engine.render(inner, OTHER),
    ):
        server = Server()
        errors = []

        def act(request, response, server=server, call=call, errors=errors):
            errors.append(check.raises(RuntimeError, call, server.engine, contains="inside a handler"))
            return request.payload

        server.act = act
        reply = server.ask(coap.POST, token=b"outer", payload="text")
        check.eq((reply.mid, reply.token, reply.payload, len(errors)), (1, b"outer", b"text", 1))
        server.serves()


def test_handler_when_it_sends_then_it_is_sent_later_and_the_answer_is_right():
    """RFC 7252 section 5.2: send is for handlers."""
    server = Server()

    def act(request, response):
        server.engine.send(coap.Message(coap.GET, uri_path=("there",)), OTHER)
        return "text"

    server.act = act
    check.eq((server.ask().payload, [datagram[1] for datagram in due(server.engine, 0)]), (b"text", [coap.GET]))
    server.serves()


def test_handler_when_it_uses_another_engine_then_both_answer():
    """Two endpoints in one program."""
    server = Server()
    other = Server()

    def act(request, response):
        return other.ask(coap.GET, "usual", request.mid, token=b"inner").payload + request.token

    server.act = act
    for mid in range(3):
        reply = server.ask(coap.GET, mid=mid, token=b"outer")
        check.eq((reply.mid, reply.token, reply.payload), (mid, b"outer", b"%douter" % (mid + 1)))


# ---- memory, on CPython ----


# ---- what a handler gives ----


def test_payload_when_a_memoryview_of_wide_items_then_its_bytes():
    """RFC 7252 section 5.5.1: a reading of 16 bits a sample."""
    import array

    samples = array.array("H", [1, 2, 3])
    server = Server(datagram_len=64)
    server.act = lambda request, response: memoryview(samples)
    check.eq(server.ask().payload, bytes(memoryview(samples)))
    server.act = lambda request, response: memoryview(array.array("H", range(30)))  # 60 bytes and what is before them
    check.eq(server.ask(mid=2).code, coap.INTERNAL_SERVER_ERROR)
    check.eq(len(coap.Message(coap.PUT, mtype=coap.CON, mid=1, payload=memoryview(samples)).encode()), 4 + 1 + 6)
    server.serves()


def test_token_when_set_on_a_message_received_then_its_options_are_as_before():
    """RFC 7252 section 5.3.1: what passes a request on sets another token."""
    message = coap.Message.decode(packet(coap.GET, 1, uri_path=("a", "b"), accept=0, payload="text"))
    options = message.options
    message.token = b"another"
    check.eq((message.options, message.payload), (options, b"text"))
    check.eq(message.encode(), packet(coap.GET, 1, token=b"another", uri_path=("a", "b"), accept=0, payload="text"))


# ---- methods that are not assigned ----


def test_request_when_its_method_is_not_assigned_and_there_are_no_resources_then_the_application_has_it():
    """RFC 7252 section 5.8: 0.08 to 0.31 from the network, to a client too."""
    for mtype in coap.CON, coap.NON:
        for extensions in (), (Extension(),):
            engine = fake.engine()
            for extension in extensions:
                engine.attach(extension)
            for code in range(1, 32):
                check.eq(engine.receive(packet(code, code, mtype, no_response=2), PEER, 0), None)
                check.eq((engine.received.message.code, engine.received.mid), (code, code))
                engine.acknowledge()
                check.eq(len(due(engine, 0)), 1 if mtype == coap.CON else 0)


def test_request_when_its_method_is_not_assigned_then_4_05():
    """RFC 7252 section 5.8."""
    server = Server()
    for code in range(8, 32):
        check.eq(server.ask(code, mid=code).code, coap.METHOD_NOT_ALLOWED)
    server.serves()


# ---- bursts ----


class Readable(fake.Transport):
    """A transport that poll always finds readable; each recvfrom takes a millisecond of the clock.

    forever: what recvfrom gives when the inbox is empty, None or an OSError.
    """

    def __init__(self, clock, *inbox, forever=None):
        super().__init__(*inbox)
        self.clock = clock
        self.forever = forever
        self.reads = 0

    def recvfrom(self, n):
        self.reads += 1
        self.clock.now_ms = coap.ticks_add(self.clock.now_ms, 1)
        if self.reads > 100000:
            raise AssertionError("read without end")
        if self.forever is not None and not self.inbox:
            raise self.forever
        return super().recvfrom(n)


class Flood(Readable):
    """There is always another request of PEER, and its answers are counted; `sent` is what others got."""

    answered = 0

    def recvfrom(self, n):
        self.inbox.append((packet(coap.GET, self.reads & 0xFFFF, coap.NON, uri_path=("r",)), PEER))
        return super().recvfrom(n)

    def sendto(self, data, peer):
        if peer == PEER:
            self.answered += 1
        else:
            super().sendto(data, peer)


def polling(*transports, **tables):
    """An endpoint to which poll() says that the transports can be read, always."""
    endpoint = coap.Endpoint(sock=transports[0], **tables)
    endpoint._asked = []
    endpoint._polled = list(transports)
    endpoint._ready = lambda wait_ms: [(transport,) for transport in transports]
    endpoint.resource("r")(lambda request, response: "text")
    return endpoint


def brief(timeout_ms):
    """A request that ends unanswered after that time."""
    return coap.Message(coap.GET, remote=OTHER, uri_path=("there",)), None, timeout_ms


def waiting(clock):
    """An endpoint on a transport that poll knows, the transport, and a list of how long poll was to wait."""
    transport = fake.Transport()
    endpoint = polling(transport, tuning=fake.EXACT)
    waits = []

    def ready(wait_ms):
        waits.append(wait_ms)
        if transport.inbox:
            return [(transport,)]
        clock.sleep_ms(wait_ms)
        return []

    endpoint._ready = ready
    return endpoint, transport, waits


def test_process_when_something_is_due_before_its_time_is_over_then_waits_until_that():
    """RFC 7252 section 4.2: also if nothing has changed since it looked last."""
    with fake.Clock(BEFORE_WRAP_MS) as clock:
        endpoint, transport, waits = waiting(clock)
        endpoint.send(*brief(None))
        endpoint.process(500)
        del waits[:]
        endpoint.process(2000)
        check.eq((waits, len(transport.sent)), ([0, 1500, 500, 0], 2))


def test_process_when_a_datagram_came_then_does_not_wait_for_another():
    """RFC 7252 section 4.2: something may have become due."""
    with fake.Clock(BEFORE_WRAP_MS) as clock:
        endpoint, transport, waits = waiting(clock)
        transport.inbox.append((packet(coap.GET, 1, uri_path=("r",)), PEER))
        endpoint.process(100)
        check.eq(waits[:2], [100, 0])


def test_process_when_an_ack_is_in_the_socket_then_nothing_is_sent_again():
    """RFC 7252 section 4.2: the program was busy when the retransmission became due."""
    with fake.Clock(BEFORE_WRAP_MS) as clock:
        endpoint, transport, _ = waiting(clock)
        record = endpoint.send(*brief(None))
        endpoint.process(0)
        clock.sleep_ms(2500)
        transport.inbox.append((fake.empty(coap.ACK, record.mid), OTHER))
        endpoint.process(0)
        check.eq((record.response_type, len(transport.sent)), (coap.ACK, 1))


def test_process_when_poll_finds_nothing_to_read_for_ever_then_returns_in_time():
    """RFC 7252 section 4.2: an error that a socket has is no datagram."""
    for forever in None, OSError(11), OSError(111):
        with fake.Clock(BEFORE_WRAP_MS) as clock:
            transport = Readable(clock, forever=forever)
            endpoint = polling(transport)
            check.eq((endpoint.process(0), transport.reads <= 2), (None, True))
            begin_ms = clock.now_ms
            check.eq(endpoint.process(50), None)
            check.eq(50 <= coap.ticks_diff(clock.now_ms, begin_ms) <= 52, True)


def test_wait_when_poll_finds_nothing_to_read_for_ever_then_retransmits_and_ends():
    """RFC 7252 section 4.2: 4 retransmissions, 31 times the first wait."""
    for forever in None, OSError(11):
        with fake.Clock(BEFORE_WRAP_MS) as clock:
            transport = Readable(clock, forever=forever)
            endpoint = polling(transport, tuning=coap.Tuning(100, 100, 4))
            record = endpoint.send(*brief(None))
            endpoint.wait(record)
            check.eq((record.error, len(transport.sent)), (coap.Timeout, 5))
            check.eq(0 <= coap.ticks_diff(clock.now_ms, coap.ticks_add(BEFORE_WRAP_MS, 3100)) <= 3, True)


def flooded(clock, run):
    """What became of a request, by run(endpoint, record), while there was always a datagram to read."""
    transport = Flood(clock)
    endpoint = polling(transport, tuning=coap.Tuning(100, 100, 2))
    ticks = []

    class Ticking:
        rank = 50
        understood = 0

        def tick(self, now_ms):
            ticks.append(now_ms)
            endpoint.wake(coap.ticks_add(now_ms, 50))

    endpoint.attach(Ticking())
    endpoint.wake(clock.now_ms)
    record = endpoint.send(*brief(None))
    run(endpoint, record)
    check.eq(record.error, coap.Timeout)
    return transport, ticks


def test_flood_when_timers_are_due_then_they_are_served_between_bursts():
    """RFC 7252 section 4.2: retransmissions and ticks, at most 17 datagrams late; and what floods is answered."""

    def with_process(endpoint, record):
        while not record.is_done():
            check.eq(endpoint.process(0), None)

    for run in with_process, lambda endpoint, record: endpoint.wait(record):
        with fake.Clock(BEFORE_WRAP_MS) as clock:
            transport, ticks = flooded(clock, run)
            check.eq(len(transport.sent), 3)
            passed_ms = coap.ticks_diff(clock.now_ms, BEFORE_WRAP_MS)
            check.eq(700 <= passed_ms <= 700 + 4 * 20, True, passed_ms)
            check.eq(len(ticks) >= passed_ms // 70, True, ticks)
            check.eq(transport.answered, transport.reads)


def test_flood_when_there_is_a_second_socket_then_it_has_its_turn():
    """RFC 7252 section 8.2: a group's beside one's own; in process(), which does not return, and in wait(), too."""

    def for_ever(endpoint, record):
        endpoint.on_end = raiser(Stop())
        check.raises(Stop, endpoint.process)

    for run in for_ever, lambda endpoint, record: endpoint.wait(record):
        with fake.Clock() as clock:
            transports = Flood(clock), Flood(clock), Flood(clock)
            endpoint = polling(*transports)
            run(endpoint, endpoint.send(*brief(3000)))
            for transport in transports:
                check.eq(900 < transport.reads < 1200, True, [each.reads for each in transports])


def test_process_when_bursts_came_before_then_reads_as_many_in_a_turn():
    """process() without a timeout, as a server calls it, still looks for what is due only once in 16 datagrams."""
    with fake.Clock() as clock:
        transport = Flood(clock)
        endpoint = polling(transport)
        turns = []
        send_due = endpoint._send_due

        def counted(*args):
            turns.append(transport.reads)
            return send_due(*args)

        endpoint._send_due = counted
        record = endpoint.send(*brief(1000))
        endpoint.wait(record)
        check.eq(len(turns) <= 1000 // 16 + 4, True, len(turns))


def test_endpoint_when_it_asks_itself_then_answers():
    """RFC 7252 section 1.2: a client and a server at once."""

    class Loop(fake.Transport):
        def sendto(self, data, peer):
            self.inbox.append((bytes(data), OTHER))

    with fake.Clock() as clock:
        transport = Loop()
        endpoint = polling(transport)
        for _ in range(3):
            record = endpoint.send(*brief(None))
            endpoint.wait(record)
            check.eq(record.response.message.code, coap.NOT_FOUND)
        check.eq((transport.inbox, clock.now_ms), ([], 0))


def test_handler_when_it_closes_the_endpoint_then_process_returns():
    """Endpoint.close, with datagrams left to read."""
    with fake.Clock() as clock:
        transports = Flood(clock), Flood(clock)
        endpoint = polling(*transports)
        endpoint._poller = type("Poller", (), {"unregister": lambda self, sock: None})()
        endpoint.resources[-1].get(lambda request, response: endpoint.close())
        check.eq((endpoint.process(0), endpoint._polled), (None, []))
        check.eq([transport.closed for transport in transports], [1, 1])


def test_handler_when_it_waits_then_runtime_error():
    """Endpoint.process, wait and request are for the program, not for handlers."""
    errors = []
    with fake.Clock():
        transport = fake.Transport((packet(coap.GET, 1, uri_path=("r",)), PEER))
        endpoint = coap.Endpoint(sock=transport)
        endpoint.resolve = lambda remote: OTHER

        @endpoint.resource("r")
        def handle(request, response):
            record = endpoint.send(*brief(None))
            for call, args in (endpoint.process, (0,)), (endpoint.wait, (record,)), (endpoint.get, ("coap://h/x",)):
                errors.append(check.raises(RuntimeError, call, *args, contains="inside a handler"))
            return "text"

        check.eq((endpoint.process(0), len(errors)), (None, 3))
        check.eq(transport.sent[0][0], packet(coap.CONTENT, 1, coap.ACK, payload="text"))


# ---- time ----


class Waker:
    """An extension that has something to do at `at_ms` and notes when it ticks; `fails` of these raise."""

    rank = 50
    understood = 0

    def __init__(self, engine, at_ms, fails=0):
        self.engine = engine
        self.at_ms = at_ms
        self.ticks = []
        self.fails = fails
        engine.attach(self)
        engine.wake(at_ms)

    def tick(self, now_ms):
        self.ticks.append(now_ms)
        if self.fails:
            self.fails -= 1
            raise MemoryError()
        if coap.ticks_diff(self.at_ms, now_ms) > 0:
            self.engine.wake(self.at_ms)


def run_for(engine, now_ms, most_ms):
    """Let time pass as next_ms says; returns the time."""
    end_ms = coap.ticks_add(now_ms, most_ms)
    for _ in range(100):
        due(engine, now_ms)
        step_ms = engine.next_ms(now_ms)
        if step_ms is None or coap.ticks_diff(end_ms, now_ms) < step_ms:
            return end_ms
        now_ms = coap.ticks_add(now_ms, step_ms)
    raise AssertionError("something is due for ever: " + engine.next_event_reason)


def test_tick_when_requests_come_before_then_on_time():
    """Engine.wake: neither a GET, which is forgotten later, nor the end of the ticks moves it."""
    for wait_ms in 1, 100, 100000, 3 * DAY_MS:
        server = Server()
        server.engine.now_ms = BEFORE_WRAP_MS
        waker = Waker(server.engine, coap.ticks_add(BEFORE_WRAP_MS, wait_ms))
        server.serves(BEFORE_WRAP_MS)
        run_for(server.engine, BEFORE_WRAP_MS, wait_ms + 1)
        check.eq(coap.ticks_add(BEFORE_WRAP_MS, wait_ms) in waker.ticks, True, waker.ticks)


def test_tick_when_it_raised_then_comes_again_in_a_second():
    """Engine.attach: no memory for a notification must not end all notifications."""
    server = Server()
    waker = Waker(server.engine, 10, fails=2)
    for now_ms in 10, 1010:
        check.raises(MemoryError, server.engine.due, now_ms)
        check.eq(server.engine.next_ms(now_ms), 1000)
        server.serves(now_ms)
    due(server.engine, 2010)
    check.eq(waker.ticks, [10, 1010, 2010])


def test_duplicate_of_a_get_when_housekeeping_is_far_off_then_known_for_its_time_only():
    """RFC 7252 section 4.8.2: EXCHANGE_LIFETIME, 232 s here; whoever may sweep the table."""
    server = Server()
    begin_ms = BEFORE_WRAP_MS
    Waker(server.engine, coap.ticks_add(begin_ms, 3 * DAY_MS))
    for later_ms, payload in (0, b"1"), (231999, b"1"), (232000, b"2"), (232001, b"2"), (2 * DAY_MS, b"3"):
        now_ms = coap.ticks_add(begin_ms, later_ms)
        due(server.engine, now_ms)
        check.eq(server.ask(coap.GET, "usual", 5, now_ms).payload, payload, later_ms)


def test_table_of_duplicates_when_only_gets_came_then_empty_after_their_time():
    """RFC 7252 section 4.5: what is swept late would be taken for a duplicate when the ticks begin anew."""
    server = Server()
    now_ms = BEFORE_WRAP_MS
    server.engine.now_ms = now_ms
    for mid in range(20):
        server.ask(coap.GET, "usual", mid, now_ms)
    run_for(server.engine, now_ms, LIFE_MS)
    check.eq([mid for mid in server.engine._duplicates.mids if mid >= 0], [])
    check.eq(server.engine.next_ms(coap.ticks_add(now_ms, LIFE_MS)), None)


def test_promise_of_a_get_when_housekeeping_is_far_off_then_forgotten_in_time():
    """RFC 7252 section 5.2.2: a full table of promises is 5.03 to others, not for three days."""
    server = Server(pending=1)
    server.act = lambda request, response: coap.LATER
    now_ms = BEFORE_WRAP_MS
    Waker(server.engine, coap.ticks_add(now_ms, 3 * DAY_MS))
    check.eq(server.ask(coap.GET, now_ms=now_ms).code, 0)
    check.eq(server.ask(coap.GET, now_ms=now_ms, mid=2).code, coap.SERVICE_UNAVAILABLE)
    now_ms = run_for(server.engine, now_ms, 232000)
    check.eq(server.engine._pending, [])
    check.eq(bytes(server.engine.receive(packet(coap.GET, 3, uri_path=("odd",)), PEER, now_ms)), empty(coap.ACK, 3))


def test_endpoint_when_made_then_knows_the_time():
    """Engine.wake: what an extension asks for when it is attached is not compared with the ticks of the boot."""
    with fake.Clock(700000000):
        endpoint = coap.Endpoint(sock=fake.Transport())
        waker = Waker(endpoint, coap.ticks_add(endpoint.now_ms, 10))
        check.eq(endpoint.next_event_ms(), 10)
        check.eq((endpoint.process(20), waker.ticks), (None, [700000010]))


def test_attributes_when_made_then_their_dict_has_room():
    """MicroPython's dict grows only when it is full, and looks through all of it for a method that is not there."""
    endpoint = coap.Endpoint(sock=fake.Transport())
    endpoint.process(0)
    places = [n for n in (2, 4, 6, 8, 10, 12, 17, 23, 29, 37, 47, 59, 73) if n >= len(endpoint.__dict__)][0]
    check.eq(len(endpoint.__dict__) / places < 0.86, True, "%d in %d" % (len(endpoint.__dict__), places))


def test_respond_when_protected_then_the_code_inside_decides_whether_it_is_wanted():
    """RFC 8613 section 4.1.3.6, RFC 7967: an application's answer, of which 2.04 is seen outside."""
    from oscore_pair import CLIENT, SERVER, Pair

    for no_response, code, is_wanted in (2, 132, True), (2, 69, False), (8, 132, False), (8, 69, True):
        pair = Pair()
        pair.server.resources.clear()
        pair.server._routes.clear()
        pair.client.send(coap.Message(coap.GET, uri_path=("a",), no_response=no_response, mtype=coap.NON), SERVER)
        pair.server.receive(due(pair.client, 0)[-1], CLIENT, 0)
        pair.server.received.respond(code, "text")
        check.eq([datagram[1] for datagram in due(pair.server, 0)], [coap.CHANGED] if is_wanted else [])
