"""Separate responses: LATER, the empty ACK, the response of its own with retransmission, and what bounds them."""

import check
import coap
import fake
from fake import PEER, ask, due, empty, head, packet, run


class Slow:
    """An engine whose resource /slow promises, and /fast answers; `copies` are the promised responses."""

    def __init__(self, **tables):
        tables.setdefault("tuning", fake.EXACT)
        self.engine = fake.engine(**tables)
        self.copies = []
        self.engine.resource("slow", ct=coap.TEXT)(self.promise)
        self.engine.resource("fast")(lambda request, response: "now")

    def promise(self, request, response):
        if len(self.copies) < 8:  # those beyond are refused
            self.copies.append(response.copy())
        return coap.LATER

    def ask(self, mid, path="slow", mtype=coap.CON, method=coap.GET, now_ms=0, peer=PEER, **fields):
        return ask(self.engine, packet(method, mid, mtype, uri_path=(path,), **fields), now_ms, peer)

    def send(self, payload="done", n=-1):
        """Fill in and send the promised response `n`; returns its record."""
        self.copies[n].payload = payload
        return self.engine.send(self.copies[n])


# ---- the exchange ----


def test_ack_when_the_response_is_to_follow_then_it_is_empty_and_immediate():
    """RFC 7252 section 5.2.2: no options, no token; before the client's first timeout."""
    for method in range(1, 8):
        slow = Slow()
        reply = slow.engine.receive(packet(method, 4660, uri_path=("slow",)), PEER, 0)
        check.eq(bytes(reply), empty(coap.ACK, 4660))
        check.eq(run(slow.engine, 0, 60000), [])


def test_response_when_sent_then_it_is_a_con_with_its_own_id_and_the_requests_token():
    """RFC 7252 section 5.2.2: to who asked; the ACK of it ends the exchange."""
    slow = Slow()
    slow.ask(4660, token=b"12345678")
    record = slow.send()
    (datagram,) = due(slow.engine, 3000)
    response = coap.Message.decode(datagram)
    check.eq((response.mtype, response.code, response.token), (coap.CON, coap.CONTENT, b"12345678"))
    check.eq((response.payload, response.mid != 4660, slow.engine.peer), (b"done", True, PEER))
    check.eq(slow.engine.receive(empty(coap.ACK, response.mid), PEER, 3100), None)
    check.eq((record.is_done(), record.error, run(slow.engine, 3100, 400000)), (True, None, []))


def test_response_when_another_handler_has_set_id_and_tuning_of_its_own_then_not_those():
    """RFC 7252 section 4.4: the object that handlers fill is used again, and two CONs of one ID would be duplicates."""
    slow = Slow()

    @slow.engine.resource("other")
    def answer(request, response):
        response.mid = request.mid
        response.transport_tuning = coap.Tuning(max_retransmit=0)

    slow.ask(7777, "other")
    slow.ask(4660)
    record = slow.send()
    check.eq((head(due(slow.engine, 3000)[0])[2] != 7777, record.tuning), (True, None))


def test_response_when_its_code_is_of_class_6_or_7_then_valueerror_and_the_promise_stays():
    """RFC 7252 section 12.1: reserved, who asked would drop it or answer with a Reset."""
    slow = Slow()
    slow.ask(4660)
    for code in 192, 255:
        slow.copies[0].code = code
        check.raises(ValueError, slow.send, contains="responses")
    slow.copies[0].code = coap.NOT_FOUND
    slow.send()
    check.eq([datagram[1] for datagram in due(slow.engine, 3000)], [coap.NOT_FOUND])


def test_response_when_no_ack_comes_then_it_is_repeated_and_given_up():
    """RFC 7252 section 4.2: after 2, 4, 8 and 16 s the same bytes, and the end 32 s later is a Timeout."""
    slow = Slow()
    slow.ask(4660)
    record = slow.send()
    sent = run(slow.engine, 1000, 400000)
    check.eq([at_ms for at_ms, _ in sent], [1000, 3000, 7000, 15000, 31000])
    check.eq(len(set([datagram for _, datagram in sent])), 1)
    check.eq((record.is_done(), record.error, record.is_unacknowledged), (True, coap.Timeout, True))


def test_response_when_it_is_reset_then_it_ends():
    """RFC 7252 section 4.2: the client has forgotten its request."""
    slow = Slow()
    slow.ask(4660)
    record = slow.send()
    mid = head(due(slow.engine, 0)[0])[2]
    slow.engine.receive(empty(coap.RST, mid), PEER, 10)
    check.eq((record.error, run(slow.engine, 10, 400000)), (coap.Reset, []))


def test_response_when_the_ack_is_forged_then_it_is_repeated():
    """RFC 7252 section 4.4: from another address or with another message ID it ends nothing."""
    slow = Slow()
    slow.ask(4660)
    slow.send()
    mid = head(due(slow.engine, 0)[0])[2]
    for mtype in (coap.ACK, coap.RST):
        slow.engine.receive(empty(mtype, mid), ("192.0.2.1", 5684), 10)
        slow.engine.receive(empty(mtype, mid ^ 1), PEER, 10)
    check.eq(len(run(slow.engine, 10, 400000)), 4)


def test_response_when_the_ack_brings_a_response_then_it_is_acknowledged_all_the_same():
    """RFC 7252 section 5.2.2: any matching ACK stops retransmission, its code and payload are ignored; 4.2: not so one
    with a method or a reserved class."""
    slow = Slow()
    slow.ask(4660)
    record = slow.send()
    mid = head(due(slow.engine, 0)[0])[2]
    for code, peer, ends in (
        (coap.GET, PEER, False),
        (0x25, PEER, False),
        (0xE1, PEER, False),
        (coap.CONTENT, ("192.0.2.1", 5684), False),
        (coap.NOT_FOUND, PEER, True),
    ):
        acknowledgement = bytes((0x62, code, mid >> 8, mid & 255)) + b"tk\xffx"
        check.eq(slow.engine.receive(acknowledgement, peer, 10), None)
        check.eq((record.is_done(), slow.engine.received), (ends, None), code)
    check.eq((record.error, run(slow.engine, 10, 240000)), (None, []))


def test_request_when_it_is_doubled_then_the_empty_ack_again_and_no_second_execution():
    """RFC 7252 section 4.5: before the response went, after, and when it is acknowledged; never a piggyback."""
    for method in (coap.GET, coap.POST):
        slow = Slow()
        slow.ask(4660, method=method)
        request = packet(method, 4660, uri_path=("slow",))
        check.eq(bytes(slow.engine.receive(request, PEER, 5)), empty(coap.ACK, 4660))
        slow.send()
        mid = head(due(slow.engine, 10)[0])[2]
        check.eq(bytes(slow.engine.receive(request, PEER, 15)), empty(coap.ACK, 4660))
        slow.engine.receive(empty(coap.ACK, mid), PEER, 20)
        check.eq(bytes(slow.engine.receive(request, PEER, 25)), empty(coap.ACK, 4660))
        check.eq(len(slow.copies), 1)


def test_request_when_it_is_doubled_after_many_others_then_the_empty_ack_again_and_no_second_execution():
    """RFC 7252 section 5.2.2: what takes the place of other GETs is not forgotten while a response is to follow."""
    for method in (coap.GET, coap.FETCH, coap.POST):
        slow = Slow()
        slow.ask(4660, method=method)
        for mid in range(4661, 4661 + 40):
            slow.ask(mid, "fast", peer=("192.0.2.9", mid))
        request = packet(method, 4660, uri_path=("slow",))
        check.eq(bytes(slow.engine.receive(request, PEER, 5)), empty(coap.ACK, 4660), method)
        check.eq((len(slow.copies), len(slow.engine._pending)), (1, 1), method)


def test_request_when_it_is_a_get_then_its_promise_takes_no_place_of_what_must_not_be_executed_twice():
    """RFC 7252 section 4.5, 5.2.2: known again where nothing is kept, and a POST of another host finds room."""
    for kept, code in ((0, coap.SERVICE_UNAVAILABLE), (1, coap.CREATED)):
        for mtype in coap.CON, coap.NON:
            slow = Slow(kept=kept)
            for _ in range(2):
                reply = slow.engine.receive(packet(coap.GET, 4660, mtype, uri_path=("slow",)), PEER, 0)
                check.eq(reply and bytes(reply), empty(coap.ACK, 4660) if mtype == coap.CON else None)
                for mid in range(4661, 4661 + 40):
                    slow.ask(mid, "fast", peer=("192.0.2.9", mid))
            check.eq(len(slow.copies), 1)
            slow.ask(4660, mtype=mtype, peer=("192.0.2.9", 5683))
            check.eq(len(slow.copies), 2)  # another host's
            check.eq(slow.ask(5000, "fast", method=coap.POST, peer=("192.0.2.9", 5000)).code, code)


def test_request_when_there_is_no_memory_for_the_promise_then_its_duplicate_is_executed():
    """RFC 7252 section 5.2.2: an empty ACK would promise what nobody remembers."""
    slow = Slow()
    unwanted = coap._unwanted
    coap._unwanted = fake.raiser(MemoryError())
    try:
        check.raises(MemoryError, slow.ask, 4660)
    finally:
        coap._unwanted = unwanted
    check.eq(len(slow.engine._pending), 0)
    check.eq(bytes(slow.engine.receive(packet(coap.GET, 4660, uri_path=("slow",)), PEER, 9)), empty(coap.ACK, 4660))
    check.eq(len(slow.engine._pending), 1)


def test_request_when_it_is_non_then_nothing_at_once_and_a_non_later():
    """RFC 7252 section 5.2.3: sent once, with nothing to wait for."""
    slow = Slow()
    check.eq(slow.ask(4660, mtype=coap.NON), None)
    record = slow.send()
    sent = run(slow.engine, 0, 400000)
    check.eq((len(sent), head(sent[0][1])[:2], record.is_done()), (1, (coap.NON, coap.CONTENT), True))


def test_response_when_the_request_does_not_want_it_then_it_is_not_sent():
    """RFC 7967 section 2.1: the class is known only when it is filled in; the promise is fulfilled."""
    ok, error = coap.CONTENT, coap.NOT_FOUND
    for value, code, count in ((2, ok, 0), (2, error, 1), (8, error, 0), (0, ok, 1)):
        slow = Slow()
        slow.ask(4660, no_response=value)
        slow.copies[0].code = code
        slow.send(b"")
        check.eq((len(due(slow.engine, 0)), len(slow.engine._pending)), (count, 0), (value, code))


def test_responses_when_several_go_to_one_peer_then_one_at_a_time():
    """RFC 7252 section 4.7: NSTART holds for separate responses; to other peers they go at once."""
    slow = Slow()
    other = ("192.0.2.2", 5683)
    for mid, peer in ((1, PEER), (2, PEER), (3, other)):
        slow.ask(mid, peer=peer, token=bytes((mid,)))
    for n in range(3):
        slow.send("done", n)
    first = due(slow.engine, 0)
    check.eq([datagram[4] for datagram in first], [1, 3])
    slow.engine.receive(empty(coap.ACK, head(first[0])[2]), PEER, 10)
    check.eq([datagram[4] for datagram in due(slow.engine, 20)], [2])


def test_exchange_when_a_client_of_ours_waits_then_it_has_the_response_under_loss():
    """RFC 7252 section 5.2.2: 30 % lost, 10 % doubled each way, 100 requests: each ends right, none runs twice."""
    network = fake.Network(seed=11, loss=30, duplication=10, reordering=20)
    client = network.add("client")
    server = network.add("server")
    runs = []
    copies = []

    def promise(request, response):
        runs.append(request.payload)
        copies.append(response.copy(payload=request.payload))
        return coap.LATER

    server.resource("slow").post(promise)
    answered = 0
    for n in range(100):
        record = client.send(coap.Message(coap.POST, uri_path=("slow",), payload=b"%d" % n), "server")
        while not record.is_done():
            if copies:
                server.send(copies.pop())
            network.run(2000, until=lambda record=record: record.is_done() or copies)
            if not record.is_done() and not copies:
                network.now_ms = coap.ticks_add(network.now_ms, 100)
        network.run(300000)
        del network.received[:]
        if record.error is None:
            answered += 1
            check.eq(record.response.message.payload, b"%d" % n)
            check.eq(record.response_type in (coap.ACK, coap.CON), True)
        else:
            check.eq(record.error, coap.Timeout)
    check.eq(len(set(runs)), len(runs))
    check.eq(answered > 85, True, answered)


# ---- bounds ----


def test_promises_when_1000_are_asked_for_then_5_03_and_an_honest_client_is_served():
    """RFC 7252 section 5.9.3.4: `pending` of them, Max-Age 60 for the others; GETs and duplicates go on."""
    for mtype in (coap.CON, coap.NON):
        slow = Slow()
        refused = 0
        for n in range(1000):
            peer = ("198.51.100.%d" % (n % 250), 1024 + n)
            reply = slow.ask(n, mtype=mtype, now_ms=n, peer=peer, token=b"%d" % n)
            if n < 4:
                check.eq(reply and reply.code, 0 if mtype == coap.CON else None)
            else:
                check.eq((reply.code, reply.opt.max_age), (coap.SERVICE_UNAVAILABLE, 60))
                refused += 1
            if n % 10 == 0:
                check.eq(slow.ask(2000 + n, "fast", now_ms=n).payload, b"now")
        check.eq((refused, len(slow.engine._pending)), (996, 4))
        check.eq(slow.copies[0].token, b"0")
        slow.send("x", 0)
        check.eq(slow.ask(5000, mtype=mtype, now_ms=1001) is None, mtype == coap.NON)


def test_promises_when_their_time_is_over_then_all_are_gone():
    """RFC 7252 section 4.8.2: EXCHANGE_LIFETIME for a CON, NON_LIFETIME for a NON; then there is room."""
    for mtype, life_ms in ((coap.CON, 232000), (coap.NON, 130000)):
        slow = Slow()
        for n in range(1000):
            slow.ask(n, mtype=mtype, now_ms=n, peer=("198.51.100.9", n))
        check.eq(len(slow.engine._pending), 4)
        run(slow.engine, 1000, 1000 + life_ms)
        check.eq(len(slow.engine._pending), 0)
        check.raises(ValueError, slow.send, "too late", 0)
        reply = slow.ask(7, mtype=mtype, now_ms=1000 + life_ms)
        check.eq(reply and reply.code, None if mtype == coap.NON else 0)


def test_promise_when_other_things_are_forgotten_before_then_it_stays():
    """RFC 7252 section 4.8.2: a NON's message ID is free after 130 s, the CON's response may be sent for 232 s."""
    slow = Slow()
    slow.ask(8, "fast", mtype=coap.NON)
    slow.ask(7)
    check.eq(run(slow.engine, 0, 231999), [])
    slow.send()
    check.eq(len(due(slow.engine, 231999)), 1)


def test_promises_when_an_extension_wakes_late_then_they_are_forgotten_in_time():
    """RFC 7252 section 4.8.2: a tick in a day does not put off what is due in four minutes."""

    class Daily:
        rank = 40
        understood = 0

        def next_ms(self, now_ms):
            return 86400000

    slow = Slow()
    slow.engine.attach(Daily())
    slow.engine.wake(0)
    due(slow.engine, 0)
    slow.ask(4660, now_ms=1000)
    run(slow.engine, 1000, 1000 + 232000)
    check.eq(len(slow.engine._pending), 0)


def test_promises_when_a_post_is_promised_then_its_duplicate_is_known_as_long():
    """RFC 7252 section 4.5: a flood of one host's other POSTs does not push it out of the table."""
    slow = Slow(kept=8, kept_per_host=4)
    slow.ask(4660, method=coap.POST)
    for n in range(50):
        slow.ask(n, "fast", method=coap.POST, now_ms=n)
    check.eq(slow.ask(4660, method=coap.POST, now_ms=60).code, 0)
    check.eq(len(slow.copies), 1)


def test_promises_when_the_queue_of_responses_is_full_then_full_and_the_promise_stays():
    """RFC 7252 section 4.7: a caller sees coap.Full and can try again."""
    slow = Slow(pending=16, queued=2)
    for n in range(5):
        slow.ask(n, token=b"%d" % n)
    slow.send("a", 0)
    slow.send("b", 1)
    check.raises(coap.Full, slow.send, "c", 2)
    check.eq(len(slow.engine._pending), 3)
    due(slow.engine, 0)
    slow.send("c", 2)


def test_promise_when_the_response_is_an_error_then_it_goes_like_any():
    """RFC 7252 section 5.2.2: 5.04 after all, with a text and without Content-Format."""
    slow = Slow()
    slow.ask(4660)
    slow.copies[0].code = coap.GATEWAY_TIMEOUT
    slow.send("the sensor is silent")
    response = coap.Message.decode(due(slow.engine, 0)[0])
    check.eq((response.code, response.payload, response.options), (coap.GATEWAY_TIMEOUT, b"the sensor is silent", ()))
