"""Requests to a group of servers: leisure, silence where there is nothing to say, bounds."""

import os

import check
import coap
import fake
from fake import PEER, packet

LEISURE_MS = 5000


class Group:
    """A server that receives a group's requests, each from another host and with another message ID."""

    def __init__(self, random=None, **tables):
        tables.setdefault("queued", 8)
        self.engine = coap.Engine(random or fake.Random(5).bytes, **tables)
        self.mid = 0

    def post(self, method, *path, mtype=coap.NON, now_ms=0, **fields):
        """Deliver a request to the group; asserts that nothing leaves at once."""
        self.mid += 1
        request = packet(method, self.mid, mtype, uri_path=path, **fields)
        check.eq(self.engine.receive(request, ("192.0.2.%d" % (self.mid % 200), self.mid), now_ms, True), None)

    def answers(self, now_ms=0):
        """[(time, datagram)] of what leaves within a minute."""
        return fake.run(self.engine, now_ms, now_ms + 60000)


def serving(handler, **parameters):
    group = Group()
    group.engine.resource("r", **parameters)(handler)
    return group


# ---- leisure ----


def leisures(count, random):
    """After how many ms each of `count` requests is answered."""
    group = Group(random)
    group.engine.resource("r")(lambda request, response: "here")
    now_ms = 0
    for _ in range(count):
        group.post(coap.GET, "r", now_ms=now_ms)
        (answer,) = fake.run(group.engine, now_ms, now_ms + 10000)
        yield answer[0] - now_ms
        now_ms += 10000


def test_leisure_when_2000_are_drawn_then_they_are_uniform_over_5_s():
    """RFC 7252 section 8.2: by the test of Kolmogorov and Smirnov, p > 0.0001, with the system's randomness."""
    count = 2000
    below = [0] * 101  # how many are below n * 50 ms
    lowest, highest = LEISURE_MS, 0
    for leisure_ms in leisures(count, os.urandom):
        check.eq(0 <= leisure_ms <= LEISURE_MS, True, leisure_ms)
        lowest, highest = min(lowest, leisure_ms), max(highest, leisure_ms)
        for n in range(leisure_ms // 50 + 1, 101):
            below[n] += 1
    distance = max([abs(below[n] / count - n / 100) for n in range(101)])
    check.eq(distance < 2.23 / count**0.5, True, distance)
    check.eq((lowest < 60, highest > LEISURE_MS - 60), (True, True), (lowest, highest))


def test_leisure_when_the_draw_is_extreme_then_0_and_5_s():
    """RFC 7252 section 8.2: both ends belong to it, nothing beyond."""
    for byte, expected_ms in ((b"\0", 0), (b"\xff", LEISURE_MS), (b"\x80", 2510)):
        check.eq(list(leisures(1, lambda n, byte=byte: byte * n)), [expected_ms])


def test_leisure_when_the_tuning_has_another_then_that():
    """RFC 7252 section 4.8: DEFAULT_LEISURE is a parameter; 0 answers at once."""
    for leisure_ms in (0, 1, 200, 60000):
        engine = coap.Engine(lambda n: b"\xff" * n, tuning=coap.Tuning(leisure_ms=leisure_ms))
        engine.resource("r")(lambda request, response: "here")
        engine.receive(packet(coap.GET, 1, coap.NON, uri_path=("r",)), PEER, 0, True)
        check.eq(engine.next_ms(0), leisure_ms)


def test_leisure_when_two_answers_wait_then_the_sooner_is_told():
    """RFC 7252 section 8.2: whichever was asked for first."""
    group = serving(lambda request, response: "here")
    for byte in b"\x80", b"\xff":
        group.engine.random = lambda n, byte=byte: byte * n
        group.post(coap.GET, "r")
    check.eq(group.engine.next_ms(0), 2510)


def test_leisure_when_the_clock_wraps_meanwhile_then_it_is_as_long():
    """RFC 7252 section 8.2: ticks start again at 2**30."""
    group = serving(lambda request, response: "here")
    start_ms = coap.ticks_add(0, -1000)
    group.engine.random = lambda n: b"\x80" * n
    group.post(coap.GET, "r", now_ms=start_ms)
    check.eq(fake.due(group.engine, coap.ticks_add(start_ms, 2509)), [])
    check.eq(len(fake.due(group.engine, coap.ticks_add(start_ms, 2510))), 1)


def test_leisure_when_the_request_is_unicast_then_there_is_none():
    """RFC 7252 section 8.2: it is for groups only."""
    group = serving(lambda request, response: "here")
    reply = fake.ask(group.engine, packet(coap.GET, 99, coap.NON, uri_path=("r",)))
    check.eq((reply.payload, group.answers()), (b"here", []))


def test_leisure_when_the_application_answers_then_the_same():
    """RFC 7252 section 8.2: on an endpoint without resources, too; one that took its time answers at once."""
    for answered_ms, sent_ms in ((10, 2510), (3000, 3000)):
        group = Group(lambda n: b"\x80" * n)
        group.post(coap.GET, "r")
        group.engine.due(answered_ms)
        group.engine.received.respond(payload="here")
        check.eq([now_ms for now_ms, _ in group.answers(answered_ms)], [sent_ms])


def test_datagram_when_it_is_no_request_or_too_long_then_nobody_hears_of_it():
    """RFC 7252 section 8.2: on an endpoint without resources, too."""
    for code, payload in (coap.CONTENT, b"x"), (coap.PUT, bytes(60)):
        group = Group(datagram_len=64)
        group.post(code, "r", payload=payload)
        check.eq((group.engine.received, group.answers()), (None, []))


def test_datagram_when_it_is_empty_or_cut_then_there_is_no_record():
    """RFC 7252 section 8.2: an endpoint without resources has none of an empty message, nor of the message before."""
    engine = fake.engine()
    engine.receive(fake.empty(coap.NON, 1), PEER, 0, True)
    check.eq(engine.received, None)
    engine.receive(packet(coap.GET, 2, coap.NON), PEER, 0, True)
    check.eq(engine.received.message.mid, 2)
    for length in range(4):
        engine.receive(packet(coap.GET, 3, coap.NON)[:length], ("192.0.2.2", 5683), 0, True)
        check.eq(engine.received, None)


def test_answer_when_it_is_4_00_with_a_text_then_none_goes():
    """RFC 7252 section 8.2: the first code of the errors."""
    group = serving(lambda request, response: (coap.BAD_REQUEST, "text"))
    group.post(coap.GET, "r")
    check.eq(group.answers(), [])


def test_request_when_as_long_as_a_datagram_may_be_then_answered():
    """RFC 7252 section 4.6: a group's, and the answer to another by the application."""
    group = Group(datagram_len=64)
    group.engine.resource("r")(lambda request, response: "here")
    check.eq(len(packet(coap.PUT, 1, coap.NON, uri_path=("r",), payload=bytes(55))), 64)
    group.post(coap.PUT, "r", payload=bytes(55))
    check.eq(len(group.answers()), 1)
    engine = fake.engine(datagram_len=64)
    engine.receive(packet(coap.GET, 1), PEER, 0)
    engine.received.respond(payload=bytes(57))
    check.eq([len(datagram) for datagram in fake.due(engine, 1)], [64])


def test_leisure_when_many_are_answered_by_the_application_then_no_more_wait_than_queued():
    """RFC 7252 section 8.2: a flood of requests to a group takes no more memory than one to resources."""
    group = Group()
    for _ in range(50):
        group.post(coap.GET, "r")
        group.engine.received.respond(payload="here")
    check.eq(len(group.answers()), 8)


def test_response_when_many_of_groups_wait_then_one_to_a_single_request_goes():
    """RFC 7252 section 8.2: only what waits for its leisure is bounded, the application's other responses are not."""
    group = Group()
    for _ in range(9):
        group.post(coap.GET, "r")
        group.engine.received.respond(payload="here")
    check.eq(group.engine.receive(packet(coap.GET, 4660), PEER, 0), None)
    group.engine.received.respond(payload="here")
    check.eq([fake.head(datagram)[2] for datagram in fake.due(group.engine, 0)], [4660])


def test_reset_when_the_request_is_a_groups_then_none_goes():
    """RFC 7252 section 8.1: nor may one, sent to a program that resets what it does not know, raise there."""
    group = Group()
    group.post(coap.GET, "r")
    group.engine.received.reset()
    check.eq((group.engine.received.has_responded, group.answers()), (True, []))
    check.raises(ValueError, group.engine.received.respond)


def test_answer_when_it_leaves_then_it_is_what_the_handler_said():
    """RFC 7252 section 8.2: a NON with the request's token, its own message ID, to who asked; several at once."""
    group = serving(lambda request, response: b"for " + request.token, ct=coap.TEXT)
    for token in (b"one", b"two", b""):
        group.post(coap.GET, "r", token=token)
    replies = [coap.Message.decode(datagram) for _, datagram in group.answers()]
    check.eq(set([(reply.mtype, reply.code) for reply in replies]), {(coap.NON, coap.CONTENT)})
    contents = set([(reply.token, reply.payload) for reply in replies])
    check.eq(contents, {(b"one", b"for one"), (b"two", b"for two"), (b"", b"for ")})
    check.eq(len(set([reply.mid for reply in replies])), 3)


# ---- silence ----


def test_error_when_the_request_is_a_groups_then_silence():
    """RFC 7252 section 8.2: 4.04, 4.05, 4.06, 4.15, 4.12, 4.02, 5.00, an error's text, whatever No-Response says."""
    group = Group()
    resource = group.engine.resource("r", ct=coap.TEXT, takes=coap.TEXT)
    resource.get(lambda request, response: 1 // 0)
    resource.put(lambda request, response: (coap.FORBIDDEN, "why"))
    resource.post(lambda request, response: (coap.SERVICE_UNAVAILABLE, "why"))
    resource.etag(lambda request: b"s")
    for method, path, fields in (
        (coap.GET, ("nosuch",), {}),
        (coap.DELETE, ("r",), {}),
        (coap.GET, ("r",), {"accept": 60}),
        (coap.PUT, ("r",), {"content_format": 60}),
        (coap.PUT, ("r",), {"if_match": (b"t",)}),
        (coap.PUT, ("r",), {"if_none_match": True}),
        (coap.GET, ("r",), {}),
        (coap.PUT, ("r",), {}),
        (coap.POST, ("r",), {}),
        (31, ("r",), {}),
        (coap.GET, ("r",), {"proxy_uri": "coap://h/"}),
        (coap.GET, ("r",), {"no_response": 0}),
    ):
        group.post(method, *path, **fields)
    check.eq(group.answers(), [])


def test_empty_reply_when_the_request_is_a_groups_then_silence():
    """RFC 7252 section 8.2: a success without a payload says nothing; 2.03 neither."""
    group = Group()
    resource = group.engine.resource("r")
    resource(lambda request, response: None)
    etagged = group.engine.resource("e")
    etagged(lambda request, response: "same")
    etagged.etag(lambda request: b"s")
    for method in range(1, 8):
        group.post(method, "r")
    group.post(coap.GET, "e", etags=(b"s",))
    check.eq(group.answers(), [])
    group.post(coap.GET, "e", etags=(b"t",))
    check.eq(len(group.answers()), 1)


def test_con_when_it_comes_to_a_group_then_it_is_ignored():
    """RFC 7252 section 8.1: not executed, not acknowledged, not reset."""
    runs = []
    group = serving(lambda request, response: runs.append(1) or "x")
    group.post(coap.GET, "r", mtype=coap.CON)
    check.eq(group.engine.receive(fake.empty(coap.CON, 1), PEER, 0, True), None)
    check.eq(group.engine.receive(b"\x40\x01\0\1\xff", PEER, 0, True), None)
    check.eq((group.answers(), runs), ([], []))


def test_resource_when_groups_is_false_then_it_is_neither_run_nor_answered():
    """RFC 7252 section 8.2: each resource decides; a unicast request is served."""
    runs = []
    group = Group()
    group.engine.resource("led", groups=False)(lambda request, response: runs.append(request.code) or "x")
    group.engine.resource("files/<name>", groups=False)(lambda request, response: runs.append(0) or "x")
    group.engine.resource("temp")(lambda request, response: "warm")
    for method in range(1, 8):
        group.post(method, "led", payload=b"on")
    group.post(coap.GET, "files", "a")
    check.eq((group.answers(), runs), ([], []))
    group.post(coap.GET, "temp")
    check.eq(len(group.answers()), 1)
    check.eq(fake.ask(group.engine, packet(coap.PUT, 999, uri_path=("led",))).payload, b"x")
    check.eq(runs, [coap.PUT])


def test_request_when_it_is_doubled_then_one_answer():
    """RFC 7252 section 4.5: also if the copy comes while the answer waits; one execution of a PUT."""
    for method in (coap.GET, coap.PUT):
        runs = []
        group = serving(lambda request, response, runs=runs: runs.append(1) or "x")
        request = packet(method, 7, coap.NON, uri_path=("r",))
        for now_ms in (0, 1, 100):
            group.engine.receive(request, PEER, now_ms, True)
        check.eq((len(group.answers(100)), len(runs)), (1, 1))


# ---- bounds ----


def test_request_when_it_has_the_message_id_of_a_con_then_no_acknowledgement_leaves():
    """RFC 7252 section 4.5: it counts as a duplicate, and what the CON was answered is no answer of a group."""
    group = serving(lambda request, response: "here")
    con = packet(coap.POST, 7, coap.CON, uri_path=("r",))
    check.eq(group.engine.receive(con, PEER, 0)[0] >> 4, 6)
    check.eq(group.engine.receive(packet(coap.POST, 7, coap.NON, uri_path=("r",)), PEER, 0, True), None)
    check.eq(group.answers(), [])


def test_answers_when_too_many_wait_then_the_rest_is_dropped():
    """RFC 7252 section 8.2: at most `queued` wait; when they have gone there is room again."""
    for queued in (1, 3, 8):
        group = Group(queued=queued)
        group.engine.resource("r")(lambda request, response: "x" * 50)
        for _ in range(100):
            group.post(coap.GET, "r")
        check.eq(len(group.answers()), queued)
        group.post(coap.GET, "r", now_ms=60000)
        check.eq(len(group.answers(60000)), 1)


def test_answers_when_they_wait_then_unicast_is_served_at_once():
    """RFC 7252 section 8.2: a group's flood does not delay who asks alone."""
    group = serving(lambda request, response: "x")
    for _ in range(20):
        group.post(coap.GET, "r")
    for n in range(10):
        check.eq(fake.ask(group.engine, packet(coap.GET, 500 + n, uri_path=("r",)), 5).payload, b"x")


def test_group_when_1000_ask_for_what_is_promised_then_silence_and_all_is_forgotten():
    """RFC 7252 section 8.2: promises to a group fill the same bounded table, and their refusals are silent."""
    group = serving(lambda request, response: coap.LATER)
    for n in range(1000):
        group.post(coap.GET, "r", now_ms=n)
    check.eq((len(group.engine._pending), group.answers(1000)), (4, []))
    fake.run(group.engine, 1000, 146000)
    check.eq(len(group.engine._pending), 0)


def test_group_when_what_was_promised_is_an_error_then_silence():
    """RFC 7252 section 8.2: as if the handler had returned it at once; with No-Response no success goes either."""
    for code, value, count in ((coap.CONTENT, 0, 1), (coap.CONTENT, 2, 0), (coap.NOT_FOUND, 0, 0), (0xA0, 0, 0)):
        later = []

        def promise(request, response, later=later):
            later.append(response.copy())
            return coap.LATER

        group = serving(promise)
        group.post(coap.GET, "r", no_response=value)
        record = group.engine.send(later[0].copy(code=code, payload="text"))
        check.eq((len(group.answers()), record.is_done(), record.error), (count, True, None), (code, value))


# ---- No-Response (RFC 7967) ----


def test_no_response_when_it_covers_success_then_silence():
    """RFC 7967 section 2.1: a group's GET with 2; with 8 and 16 the success is wanted."""
    for value, count in ((0, 1), (2, 0), (8, 1), (16, 1), (24, 1), (26, 0)):
        group = serving(lambda request, response: "x")
        group.post(coap.GET, "r", no_response=value)
        check.eq(len(group.answers()), count, value)


# ---- the client ----


def test_client_when_members_answer_then_all_are_collected_within_its_time():
    """RFC 7252 section 8.2: 8 servers, their leisures spread; the request ends when its time is over."""
    network = fake.Network(delay_ms=10)
    group = ("224.0.1.187", 5683)
    client = network.add(("192.0.2.100", 5683), group_responses=8)
    servers = []
    for n in range(8):
        server = network.add(("192.0.2.%d" % n, 5683), recent=1, kept=1, datagram_len=128)
        server.resource("r")(lambda request, response, n=n: "server %d" % n)
        servers.append(server)
    record = client.send(coap.Message(coap.GET, uri_path=("r",)), group, 8000)
    datagram = client.due(network.now_ms)
    for server in servers:
        server.receive(bytes(datagram), ("192.0.2.100", 5683), network.now_ms, True)
    network.run(until=record.is_done)
    check.eq((record.error, len(record.responses)), (None, 8))
    payloads = set([bytes(response.message.payload) for response in record.responses])
    check.eq(payloads, set([b"server %d" % n for n in range(8)]))
    check.eq(8000 <= network.now_ms <= 8050, True, network.now_ms)


def test_client_when_more_members_answer_than_its_bound_then_the_rest_is_ignored():
    """RFC 7252 section 8.2: group_responses; a second answer of the same member counts once."""
    engine = coap.Engine(fake.Random(3).bytes, group_responses=3)
    record = engine.send(coap.Message(coap.GET, token=b"tk"), ("224.0.1.187", 5683), 5000)
    fake.due(engine, 0)
    for n in range(10):
        for copy in range(2):
            response = packet(coap.CONTENT, 100 + 2 * n + copy, coap.NON, payload=b"%d" % n)
            engine.receive(response, ("192.0.2.%d" % n, 5683), 10)
    check.eq([bytes(each.message.payload) for each in record.responses], [b"0", b"1", b"2"])
    fake.run(engine, 10, 6000)
    check.eq((record.is_done(), record.error), (True, None))
