"""The seam for what goes beyond coap.py: ranks, hooks of requests, responses and exchanges, time."""

import check
import coap
import fake
from fake import PEER, ask, due, empty, head, packet, run

OTHER = ("192.0.2.2", 5683)
HOOKS = "unwrap", "request", "response", "outgoing", "incoming", "reset", "tick", "next_ms"


class Spy:
    """An extension with all hooks; `seen` is what was called, `results` what a hook returns."""

    understood = 0

    def __init__(self, rank, seen, **results):
        self.rank = rank
        self.seen = seen
        self.results = results

    def note(self, name):
        self.seen.append((name, self.rank))
        return self.results.get(name)

    def unwrap(self, request):
        return self.note("unwrap")

    def request(self, request, response):
        return self.note("request")

    def response(self, request, response):
        self.note("response")

    def outgoing(self, record):
        self.note("outgoing")

    def incoming(self, record, message):
        return self.note("incoming")

    def reset(self, peer, mid):
        self.note("reset")

    def tick(self, now_ms):
        self.note("tick")

    def next_ms(self, now_ms):
        return self.note("next_ms")


class Plain:
    """The base of an extension that has only the hooks that a test adds."""

    rank = 30
    understood = 0


def attached(*extensions, **tables):
    """An engine with the extensions and the resource /r, and the list of executions."""
    engine = fake.engine(**tables)
    runs = []
    for extension in extensions:
        engine.attach(extension)
    engine.resource("r")(lambda request, response: runs.append(request.code) or "own")
    return engine, runs


def spies(ranks, **results):
    """(engine, seen, runs) of an engine to which spies of these ranks were attached in this order."""
    seen = []
    engine, runs = attached(*[Spy(rank, seen, **results) for rank in ranks], tuning=fake.EXACT)
    return engine, seen, runs


def calls(seen, name):
    """The ranks that were called under this name, in their order."""
    return [rank for called, rank in seen if called == name]


def get(mid=1, mtype=coap.CON, **fields):
    return packet(coap.GET, mid, mtype, uri_path=("r",), **fields)


# ---- ranks ----


def test_rank_when_attached_in_any_order_then_the_hooks_are_called_in_theirs():
    """From the wire upwards for what comes in, downwards for what goes out."""
    up, down = [10, 20, 30, 40], [40, 30, 20, 10]
    for ranks in ((10, 20, 30, 40), (40, 30, 20, 10), (30, 10, 40, 20), (20, 40, 10, 30)):
        engine, seen, _ = spies(ranks)
        ask(engine, get())
        record = engine.send(coap.Message(coap.GET), PEER)
        due(engine, 0)
        engine.receive(packet(coap.CONTENT, record.mid, coap.ACK, token=record.token), PEER, 5)
        engine.receive(empty(coap.RST, 99), PEER, 6)
        engine.wake(7)
        due(engine, 7)
        for name in HOOKS:
            check.eq(calls(seen, name), down if name in ("response", "outgoing") else up, (ranks, name))


def test_rank_when_two_are_equal_then_both_are_called():
    """In the order in which they were attached."""
    first, second = [], []
    engine, _ = attached(Spy(30, first), Spy(30, second))
    ask(engine, get())
    check.eq((calls(first, "request"), calls(second, "request")), ([30], [30]))


def test_hooks_when_an_extension_lacks_them_then_the_others_have_theirs():
    """A hook is looked up once, when it is attached."""

    class Ticking(Plain):
        def tick(self, now_ms):
            pass

    seen = []
    engine, runs = attached(Ticking(), Spy(10, seen))
    check.eq(ask(engine, get()).payload, b"own")
    check.eq(calls(seen, "request"), [10])
    check.eq([len(engine.hooks[name]) for name in HOOKS], [1, 1, 1, 1, 1, 1, 2, 1])


def test_hooks_when_nothing_is_attached_then_the_engine_has_none():
    """What is not attached costs one truth test: no lists are walked, the wire is the same."""
    plain, _ = attached()
    check.eq(bool(plain.hooks), False)
    spied, _, _ = spies((10, 20, 30, 40))
    for datagram in (get(1), get(2, coap.NON), packet(coap.PUT, 3, uri_path=("x",)), empty(coap.CON, 4), b"\x40\x01"):
        replies = [engine.receive(datagram, PEER, 0) for engine in (plain, spied)]
        check.eq(replies[0] and bytes(replies[0]), replies[1] and bytes(replies[1]))


# ---- requests ----


def test_request_when_a_hook_passes_then_the_handler_runs():
    """All hooks are asked, then the handler, then the response goes through all."""
    engine, seen, runs = spies((10, 40))
    check.eq((ask(engine, get()).payload, runs), (b"own", [coap.GET]))
    expected = [("unwrap", 10), ("unwrap", 40), ("request", 10), ("request", 40), ("response", 40), ("response", 10)]
    check.eq(seen, expected)


def test_request_when_a_hook_replies_then_nobody_above_it_and_no_handler():
    """REPLY: the response as the extension filled it in, preset by method, through the response hooks."""

    class Answering(Plain):
        rank = 20

        def request(self, request, response):
            response.opt.max_age = response.code
            response.payload = b"from the extension to " + request.token
            return coap.REPLY

    seen = []
    for mtype in (coap.CON, coap.NON):
        engine, runs = attached(Spy(30, seen), Answering(), Spy(10, seen))
        reply = ask(engine, get(mtype=mtype))
        check.eq((reply.code, reply.payload), (coap.CONTENT, b"from the extension to tk"))
        check.eq((reply.opt.max_age, runs), (coap.CONTENT, []))
    check.eq((calls(seen, "request"), calls(seen, "response")), ([10, 10], [30, 10, 30, 10]))


def test_request_when_the_reply_of_a_hook_is_too_long_then_5_00():
    """RFC 7252 section 4.6: as that of a handler."""

    class Answering(Plain):
        def request(self, request, response):
            response.payload = bytes(2000)
            return coap.REPLY

    check.eq(ask(attached(Answering())[0], get()).code, coap.INTERNAL_SERVER_ERROR)


def test_request_when_a_hook_consumes_it_then_an_empty_ack_and_a_non_gets_nothing():
    """CONSUMED: nothing to say now; the duplicate of a CON has its ACK again."""
    engine, seen, runs = spies((30,), request=coap.CONSUMED)
    check.eq(bytes(engine.receive(get(7), PEER, 0)), empty(coap.ACK, 7))
    check.eq(bytes(engine.receive(get(7), PEER, 1)), empty(coap.ACK, 7))
    check.eq(engine.receive(get(8, coap.NON), PEER, 2), None)
    check.eq((runs, calls(seen, "request"), calls(seen, "response")), ([], [30, 30], []))


def test_request_when_it_is_refused_or_doubled_then_no_hook_sees_it():
    """4.04, 4.05, 4.02 come before; but their responses pass the response hooks."""
    engine, seen, runs = spies((30,))
    engine.resource("get").get(lambda request, response: "x")
    critical = coap.Message.decode(get(5)).add_option(2049, b"").encode()
    for datagram, code in (
        (packet(coap.GET, 1, uri_path=("nosuch",)), coap.NOT_FOUND),
        (packet(coap.PUT, 2, uri_path=("get",)), coap.METHOD_NOT_ALLOWED),
        (critical, coap.BAD_OPTION),
    ):
        check.eq(ask(engine, datagram).code, code)
    check.eq((calls(seen, "request"), calls(seen, "response"), runs), ([], [30, 30, 30], []))
    put = packet(coap.PUT, 9, uri_path=("r",))
    first = bytes(engine.receive(put, PEER, 0))
    del seen[:]
    check.eq((bytes(engine.receive(put, PEER, 1)), seen, runs), (first, [], [coap.PUT]))


def test_request_when_a_group_sent_it_then_the_hooks_see_it_and_errors_stay_silent():
    """RFC 7252 section 8.2: a REPLY waits for its leisure; an error that the hook filled in goes nowhere."""

    class Answering(Plain):
        def __init__(self, code):
            self.code = code

        def request(self, request, response):
            response.code = self.code
            response.payload = b"x"
            return coap.REPLY

    for code, count in ((coap.CONTENT, 1), (coap.UNAUTHORIZED, 0)):
        engine, _ = attached(Answering(code))
        check.eq(engine.receive(get(1, coap.NON), PEER, 0, True), None)
        check.eq(len(run(engine, 0, 6000)), count)


def test_request_when_the_body_is_replaced_then_the_handler_reads_that():
    """An assembled body is put into the request that is used again; the next has its own."""

    class Assembling(Plain):
        def request(self, request, response):
            if request.payload == b"last":
                request.payload = b"first and last"

    engine = fake.engine()
    engine.attach(Assembling())
    bodies = []
    engine.resource("r").put(lambda request, response: bodies.append(request.payload))
    for n, payload in enumerate((b"last", b"other", b"last")):
        ask(engine, packet(coap.PUT, n, uri_path=("r",), payload=payload))
    check.eq(bodies, [b"first and last", b"other", b"first and last"])


def test_request_when_the_engine_has_no_resources_then_the_hooks_come_before_the_application():
    """A request that a hook takes is not handed over."""
    for result, handed_over in ((None, True), (coap.CONSUMED, False), (coap.REPLY, False)):
        engine = fake.engine()
        engine.attach(Spy(30, [], request=result))
        engine.receive(get(), PEER, 0)
        check.eq(engine.received is not None, handed_over)


# ---- unwrap and understood ----


def test_unwrap_when_it_replaces_the_request_then_that_is_routed_and_judged():
    """The path inside counts, not that outside."""

    class Unwrapping(Plain):
        def unwrap(self, request):
            inner = coap.Message(request.code, uri_path=("r",), payload=b"inner").packet
            plain = coap.Message.decode(coap._view(inner).copy(mtype=request.mtype, mid=request.mid).encode())
            request.index(request.packet[0][:4] + plain.packet[0][4:])

    engine, runs = attached(Unwrapping())
    request = packet(coap.PUT, 5, token=b"", uri_path=("nosuch",))
    check.eq((ask(engine, request).payload, runs), (b"own", [coap.PUT]))


def test_unwrap_when_it_refuses_then_that_code_and_nothing_runs():
    """RFC 8613 section 8.2: 4.01, 4.00 or 4.02, remembered for duplicates; the first refusal counts."""
    for code in (coap.UNAUTHORIZED, coap.BAD_REQUEST, coap.BAD_OPTION):
        engine, seen, runs = spies((10, 20), unwrap=code)
        for _ in range(2):
            check.eq(ask(engine, get(5)).code, code)
        check.eq((runs, calls(seen, "unwrap"), calls(seen, "request")), ([], [10], []))
    check.eq(head(engine.receive(get(6, coap.NON), PEER, 0))[0], coap.RST)  # RFC 7252 section 5.4.1


def test_understood_when_an_extension_names_a_critical_option_then_it_is_no_4_02():
    """RFC 7252 section 5.4.1: in requests and responses; without it refused and rejected."""
    for understood in (0, 1 << 23, 1 << 23 | 1 << 27):

        class Blocks(Plain):
            pass

        Blocks.understood = understood
        engine, runs = attached(Blocks())
        for n, name in ((23, "block2"), (27, "block1")):
            reply = ask(engine, get(n, **{name: 6}))
            check.eq(reply.code, coap.CONTENT if understood >> n & 1 else coap.BAD_OPTION, (understood, n))
        record = engine.send(coap.Message(coap.GET), PEER)
        due(engine, 0)
        response = packet(coap.CONTENT, record.mid, coap.ACK, token=record.token, block2=6)
        engine.receive(response, PEER, 5)
        check.eq(record.error, None if understood else coap.Rejected)


def test_understood_when_two_name_others_then_both_hold():
    """What one understands the other does not take away."""

    class One(Plain):
        understood = 1 << 23

    class Other(Plain):
        understood = 1 << 9

    engine, _ = attached(One(), Other())
    check.eq([ask(engine, get(n, **{name: b"" if n == 9 else 1})).code for n, name in ((23, "block2"), (9, "oscore"))],
             [coap.CONTENT, coap.CONTENT])  # fmt: skip


# ---- responses ----


def test_response_when_a_hook_changes_it_then_the_change_goes_out():
    """Of handlers, refusals, the application's respond and what was promised: request is None for the last."""
    requests = []

    class Aging(Plain):
        def response(self, request, response):
            requests.append(request)
            response.opt.max_age = 9

    copies = []
    engine, _ = attached(Aging())
    engine.resource("later").get(lambda request, response: copies.append(response.copy()) or coap.LATER)
    check.eq(ask(engine, get(1)).opt.max_age, 9)
    check.eq(ask(engine, packet(coap.GET, 2, uri_path=("nosuch",))).opt.max_age, 9)
    check.eq(ask(engine, packet(coap.GET, 3, token=b"abc", uri_path=("later",))).code, 0)
    check.eq(len(requests), 2)
    engine.send(copies[0])
    separate = coap.Message.decode(due(engine, 0)[0])
    check.eq((separate.opt.max_age, separate.token, requests[2]), (9, b"abc", None))

    application = fake.engine()
    application.attach(Aging())
    application.receive(get(4), PEER, 0)
    application.received.respond(coap.CONTENT, "x")
    check.eq(coap.Message.decode(due(application, 0)[0]).opt.max_age, 9)
    check.eq(requests[3].token, b"tk")


def test_response_when_the_application_uses_it_again_then_a_hook_has_not_changed_it():
    """RFC 7252 section 5.10.5: what is added for one client is not sent to the next."""

    class Aging(Plain):
        def response(self, request, response):
            response.opt.max_age = 9

    engine = fake.engine()
    engine.attach(Aging())
    response = coap.Message(coap.CONTENT, payload="x")
    engine.receive(get(), PEER, 0)
    engine.received.respond(response)
    check.eq((response.opt.max_age, coap.Message.decode(due(engine, 0)[0]).opt.max_age), (None, 9))


def test_response_when_a_hook_makes_it_an_error_then_that_is_remembered_for_duplicates():
    """RFC 7252 section 4.5: what went out, not what the handler said."""

    class Refusing(Plain):
        def response(self, request, response):
            response.clear()
            response.code = coap.UNAUTHORIZED

    engine, runs = attached(Refusing())
    put = packet(coap.PUT, 5, uri_path=("r",))
    for _ in range(2):
        reply = ask(engine, put)
        check.eq((reply.code, reply.payload, reply.token), (coap.UNAUTHORIZED, b"", b"tk"))
    check.eq(runs, [coap.PUT])


# ---- requests of ours ----


def test_outgoing_when_it_is_a_ping_then_no_hook_is_called():
    """RFC 7252 section 4.3: an empty message is no request, and stays empty."""
    engine = fake.engine()
    seen = []
    engine.attach(Spy(10, seen))

    class Wrapping:
        rank = 20
        understood = 0

        def wrap(self, record, message):
            seen.append("wrap")

    engine.attach(Wrapping())
    record = engine.send(coap.Message(0), PEER)
    check.eq((due(engine, 0), seen), ([empty(coap.CON, record.mid)], []))


def test_outgoing_when_a_hook_sets_outer_then_that_is_sent_in_its_place():
    """The wire has the outer message with the record's token; the record keeps the application's."""

    class Wrapping(Plain):
        def outgoing(self, record):
            record.outer = coap.Message(coap.POST, payload=b"wrapped " + record.message.payload)

    engine, _ = attached(Wrapping())
    message = coap.Message(coap.PUT, uri_path=("x",), payload=b"body")
    record = engine.send(message, PEER)
    sent = coap.Message.decode(due(engine, 0)[0])
    check.eq((sent.code, sent.payload, sent.options, sent.token), (coap.POST, b"wrapped body", (), record.token))
    check.eq((record.message == message, message.payload), (True, b"body"))


def test_message_when_changed_after_send_then_the_record_has_what_was_sent():
    """An extension may send it again; without one the record has the application's own."""
    for engine in (fake.engine(), attached(Plain())[0]):
        message = coap.Message(coap.PUT, uri_path=("x",), payload=b"first")
        record = engine.send(message, PEER)
        check.eq((message.remote, record.message.remote), (PEER, PEER))
        message.payload = b"second"
        message.opt.uri_path = ("y",)
        is_kept = bool(engine.hooks)
        check.eq(record.message.payload, b"first" if is_kept else b"second")
        check.eq(record.message.opt.uri_path, ("x",) if is_kept else ("y",))


def test_outgoing_when_it_is_no_request_then_no_hook():
    """A promised response, a ping."""

    class Wrapping(Plain):
        def wrap(self, record, message):
            seen.append(("wrap", 30))

    engine, seen, _ = spies((30,))
    engine.attach(Wrapping())
    copies = []
    engine.resource("later").get(lambda request, response: copies.append(response.copy()) or coap.LATER)
    ask(engine, packet(coap.GET, 3, uri_path=("later",)))
    engine.send(copies[0])
    engine.send(coap.Message(0, mtype=coap.CON), PEER)
    check.eq((calls(seen, "outgoing"), calls(seen, "wrap")), ([], []))


def exchange(engine, code=coap.CONTENT, payload=b"answer", mtype=coap.ACK, now_ms=5, **fields):
    """A request of ours and its response; returns the record."""
    record = engine.send(coap.Message(coap.GET, uri_path=("x",)), PEER)
    due(engine, now_ms - 5)
    mid = record.mid if mtype == coap.ACK else 4660
    engine.receive(packet(code, mid, mtype, token=record.token, payload=payload, **fields), PEER, now_ms)
    return record


def test_incoming_when_it_passes_then_the_application_has_it():
    """The exchange ends as without an extension."""
    engine, seen, _ = spies((10, 30))
    record = exchange(engine)
    check.eq((record.is_done(), record.response.message.payload, calls(seen, "incoming")), (True, b"answer", [10, 30]))
    check.eq(engine.received is record.response, True)


def test_incoming_when_consumed_then_nobody_above_and_the_exchange_goes_on():
    """The response is not delivered; a CON is acknowledged all the same; another response comes through again."""
    engine, seen, _ = spies((10, 30))
    engine._extensions[0].results["incoming"] = coap.CONSUMED
    record = exchange(engine, mtype=coap.CON)
    check.eq((record.is_done(), record.response, engine.received), (False, None, None))
    check.eq(calls(seen, "incoming"), [10])
    engine._extensions[0].results["incoming"] = None
    engine.receive(packet(coap.CONTENT, 4661, coap.CON, token=record.token, payload=b"next"), PEER, 6)
    check.eq((record.is_done(), record.response.message.payload), (True, b"next"))


def test_incoming_when_the_message_is_a_reset_or_of_others_then_no_hook():
    """What is forged or resets the exchange is not for the extensions."""
    engine, seen, _ = spies((30,))
    record = engine.send(coap.Message(coap.GET), PEER)
    due(engine, 0)
    engine.receive(packet(coap.CONTENT, record.mid, coap.ACK, token=b"wrong"), PEER, 1)
    engine.receive(packet(coap.CONTENT, record.mid, coap.ACK, token=record.token), ("192.0.2.2", 5683), 1)
    engine.receive(empty(coap.RST, record.mid), PEER, 2)
    check.eq((calls(seen, "incoming"), record.error), ([], coap.Reset))


class Parking(Plain):
    """Keeps every exchange open after its first response."""

    def __init__(self):
        self.kept = []

    def incoming(self, record, message):
        self.kept.append((record, message))
        record.park()
        return coap.CONSUMED


def test_park_when_an_exchange_is_kept_then_nothing_is_repeated_and_nothing_times_out():
    """RFC 7641 section 3.3: an observation may be silent for hours; it takes no place among transmissions."""
    parking = Parking()
    engine, _ = attached(parking, transmissions=1, tuning=fake.EXACT)
    record = exchange(engine)
    check.eq((run(engine, 10, 500000), record.is_done(), record.transmissions_left), ([], False, 0))
    other = engine.send(coap.Message(coap.GET), PEER)
    check.eq(len(due(engine, 500000)), 1)
    check.eq(other.mid is not None, True)


def test_park_when_further_responses_come_then_each_reaches_the_extension():
    """RFC 7641 section 3.2: by token and peer, CON and NON; a CON is acknowledged."""
    parking = Parking()
    engine, _ = attached(parking)
    record = exchange(engine)
    for n, mtype in ((1, coap.CON), (2, coap.NON), (3, coap.CON)):
        reply = engine.receive(packet(coap.CONTENT, n, mtype, token=record.token, payload=b"%d" % n), PEER, 10 * n)
        check.eq(reply and bytes(reply), empty(coap.ACK, n) if mtype == coap.CON else None)
    check.eq([bytes(message.payload) for _, message in parking.kept], [b"answer", b"1", b"2", b"3"])


def test_deliver_when_the_exchange_is_parked_then_the_application_has_it_and_it_stays_open():
    """Each delivery is `received` once; end() ends it, with an error or without."""
    for error in (None, coap.Timeout):
        parking = Parking()
        engine, _ = attached(parking)
        ended = []
        record = exchange(engine)
        record.on_end = ended.append
        message = parking.kept[0][1]
        for _ in range(2):
            engine.received = None
            engine.deliver(record, message, None)
            check.eq((engine.received is record.response, record.response.message is message), (True, True))
            check.eq((record.response.pertains_to is record, record.is_done()), (True, False))
        engine.end(record, error)
        check.eq((record.is_done(), record.error, ended), (True, error, [record]))
        late = packet(coap.CONTENT, 99, coap.CON, token=record.token)
        check.eq(bytes(engine.receive(late, PEER, 50)), empty(coap.RST, 99))


def test_deliver_when_the_exchange_is_not_parked_then_it_ends():
    """An extension that took a response and delivers another, an assembled one."""

    class Assembling(Plain):
        def incoming(self, record, message):
            whole = message.copy(payload=message.payload + b" and more")
            record.endpoint.deliver(record, whole, None)
            return coap.CONSUMED

    engine, _ = attached(Assembling())
    record = exchange(engine)
    check.eq((record.is_done(), record.response.message.payload), (True, b"answer and more"))


def test_enqueue_when_an_extension_sends_of_its_own_then_the_application_sees_nothing():
    """A request for the next block: its own token and on_end; the endpoint's on_end is for the application."""
    ended = []

    class Following(Plain):
        def __init__(self):
            self.of = {}

        def incoming(self, record, message):
            engine = record.endpoint
            if record.message.opt.uri_query:
                first = self.of.pop(record.token)
                engine.end(record, None)
                engine.deliver(first, message, None)
                engine.end(first, None)
                return coap.CONSUMED
            record.park()
            follower = coap.Message(coap.GET, uri_query=("2",))
            sub = engine.enqueue(follower, PEER, coap.CON, engine.random(8), None)
            sub.on_end = ended.append
            self.of[sub.token] = record
            return coap.CONSUMED

    engine, _ = attached(Following())
    told = []
    engine.on_end = told.append
    record = exchange(engine)
    check.eq((engine.received, record.is_done()), (None, False))
    sub = engine._queue[0]
    sent = coap.Message.decode(due(engine, 10)[0])
    check.eq((sent.token == sub.token, sent.token != record.token, sent.opt.uri_query), (True, True, ("2",)))
    engine.receive(packet(coap.CONTENT, sub.mid, coap.ACK, token=sub.token, payload=b"second"), PEER, 20)
    check.eq((record.is_done(), record.response.message.payload), (True, b"second"))
    check.eq((engine.received is record.response, ended, told), (True, [sub], [record]))


def test_enqueue_when_the_token_is_given_then_the_message_has_it():
    """A notification: a response with a token kept from the request; a NON ends when it is sent."""
    for mtype in (coap.CON, coap.NON):
        engine, _ = attached(Plain())
        ended = []
        record = engine.enqueue(coap.Message(coap.CONTENT, payload="x"), PEER, mtype, b"kept", None)
        record.on_end = ended.append
        sent = coap.Message.decode(due(engine, 0)[0])
        check.eq((sent.mtype, sent.token, sent.mid), (mtype, b"kept", record.mid))
        check.eq(ended, [] if mtype == coap.CON else [record])
        engine.receive(empty(coap.RST, record.mid), PEER, 5)
        check.eq((record.error, len(ended)), (coap.Reset if mtype == coap.CON else None, 1))


# ---- resets, notifications ----


def test_reset_when_no_exchange_is_open_then_the_extensions_are_told():
    """RFC 7641 section 3.6: of a NON notification that is forgotten here; not for an ACK, not what ended a CON."""

    class Listening(Plain):
        def __init__(self):
            self.told = []

        def reset(self, peer, mid):
            self.told.append((peer, mid))

    listening = Listening()
    engine, _ = attached(listening)
    engine.receive(empty(coap.RST, 7), PEER, 0)
    engine.receive(empty(coap.ACK, 8), PEER, 0)
    record = engine.send(coap.Message(coap.GET), PEER)
    due(engine, 0)
    engine.receive(empty(coap.RST, record.mid), PEER, 1)
    check.eq(listening.told, [(PEER, 7)])


def test_render_when_a_stored_request_is_asked_again_then_the_handler_runs():
    """RFC 7641 section 4.2: the same as its GET, without what extensions add; None if it promises or is gone."""
    seen = []
    engine, runs = attached(Spy(40, seen))
    remotes = []
    states = ["a", "b", coap.NOT_FOUND, coap.LATER, coap.NO_RESPONSE]

    def read(request, response):
        remotes.append(request.remote)
        return states.pop(0)

    engine.resource("state", ct=coap.TEXT).get(read)
    request = packet(coap.GET, 5, uri_path=("state",), token=b"kept")
    check.eq(ask(engine, request).payload, b"a")
    ask(engine, get(6), 0, OTHER)
    del seen[:]
    response = engine.render(request, PEER)
    check.eq((response.code, response.payload, response.opt.content_format, response.token), (69, b"b", 0, b"kept"))
    check.eq((response.remote, remotes), (PEER, [PEER, PEER]))
    check.eq(engine.render(request, PEER).code, coap.NOT_FOUND)
    check.eq((engine.render(request, PEER), engine.render(request, PEER)), (None, None))
    check.eq(engine.render(packet(coap.GET, 5, uri_path=("gone",)), PEER).code, coap.NOT_FOUND)
    check.eq((seen, due(engine, 0)), ([], []))


def test_render_when_a_request_is_asked_again_then_it_is_not_known_as_a_duplicate():
    """RFC 7252 section 4.5: its message ID may come again by now."""
    for code in coap.GET, coap.FETCH:
        engine, _ = attached(Plain())
        request = packet(code, 5, coap.NON, uri_path=("r",))
        check.eq(engine.render(request, PEER).payload, b"own")
        check.eq(ask(engine, request).payload, b"own")


def test_part_when_its_exchange_ends_then_it_ends():
    """RFC 7959 section 2.4: what is fetched for a response that nobody awaits any more."""
    engine = fake.engine()
    record, record.part = [engine.send(coap.Message(coap.GET), PEER) for _ in range(2)]
    record.cancel()
    check.eq((record.part.is_done(), due(engine, 0)), (True, []))


def test_extend_when_called_then_the_response_goes_through_all_hooks():
    """RFC 7641 section 4.2: of a notification; request is None."""
    engine, seen, _ = spies((10, 40))
    engine.extend(None, coap.Message(coap.CONTENT))
    check.eq(seen, [("response", 40), ("response", 10)])


def test_response_when_the_queue_is_full_then_no_hook_sees_it():
    """RFC 8613 section 7.2.1: a number that OSCORE spends on what never goes is lost."""
    engine, seen, _ = spies((10,))
    promised = []

    def late(request, response):
        promised.append(response.copy(payload="late"))
        return coap.LATER

    engine.resource("late").get(late)
    engine.receive(packet(coap.GET, 1, uri_path=("late",)), PEER, 0)
    while len(engine._queue) < 8:
        engine.send(coap.Message(coap.GET), ("192.0.2.7", 5683))
    del seen[:]
    check.raises(coap.Full, engine.send, promised[0])
    check.eq(calls(seen, "response"), [])
    due(engine, 0)
    engine.send(promised[0])
    check.eq(calls(seen, "response"), [10])


# ---- time ----


class Ticking(Plain):
    def __init__(self, interval_ms):
        self.interval_ms = interval_ms
        self.ticks = []

    def tick(self, now_ms):
        self.ticks.append(now_ms)

    def next_ms(self, now_ms):
        return self.interval_ms


def test_tick_when_next_ms_says_then_it_comes_then():
    """It is asked after each tick; None: none is due."""
    ticking = Ticking(1000)
    engine, _ = attached(ticking)
    check.eq(engine.next_ms(0), None)
    engine.wake(500)
    check.eq((engine.next_ms(0), engine.next_event_reason), (500, "housekeeping"))
    run(engine, 0, 4000)
    check.eq(ticking.ticks, [500, 1500, 2500, 3500])
    ticking.interval_ms = None
    run(engine, 3500, 9000)
    check.eq((ticking.ticks[4:], engine.next_ms(9000)), ([4500], None))


def test_wake_when_asked_twice_then_the_earlier_time_counts():
    """In whatever order; the tick is called once."""
    for times in ((300, 700), (700, 300), (300, 300)):
        ticking = Ticking(None)
        engine, _ = attached(ticking)
        for at_ms in times:
            engine.wake(at_ms)
        run(engine, 0, 5000)
        check.eq(ticking.ticks, [300])


def test_wake_when_asked_inside_a_tick_then_it_comes_again():
    """The usual way of an extension with one timer."""

    class Waking(Ticking):
        def tick(self, now_ms):
            self.ticks.append(now_ms)
            if len(self.ticks) < 4:
                self.engine.wake(coap.ticks_add(now_ms, 250))

    waking = Waking(None)
    waking.engine, _ = attached(waking)
    waking.engine.wake(0)
    run(waking.engine, 0, 5000)
    check.eq(waking.ticks, [0, 250, 500, 750])


def test_wake_when_the_clock_wraps_then_it_comes_in_time():
    """Ticks start again at 2**30."""
    ticking = Ticking(None)
    engine, _ = attached(ticking)
    start_ms = coap.ticks_add(0, -100)
    engine.wake(coap.ticks_add(start_ms, 300))
    check.eq(engine.next_ms(start_ms), 300)
    due(engine, coap.ticks_add(start_ms, 299))
    check.eq(ticking.ticks, [])
    due(engine, coap.ticks_add(start_ms, 300))
    check.eq(ticking.ticks, [200])


def test_tick_when_it_enqueues_then_the_message_goes_in_the_same_turn():
    """A notification that is due; now_ms is the time of the call in hooks, too."""
    times = []

    class Notifying(Plain):
        def tick(self, now_ms):
            times.append((now_ms, self.engine.now_ms))
            self.engine.enqueue(coap.Message(coap.CONTENT), PEER, coap.NON, b"t", None)

        def response(self, request, response):
            times.append(self.engine.now_ms)

    notifying = Notifying()
    notifying.engine, _ = attached(notifying)
    notifying.engine.wake(40)
    sent = run(notifying.engine, 0, 1000)
    check.eq(([(at_ms, head(datagram)[:2]) for at_ms, datagram in sent]), [(40, (coap.NON, coap.CONTENT))])
    ask(notifying.engine, get(), 70)
    check.eq(times, [(40, 40), 70])
