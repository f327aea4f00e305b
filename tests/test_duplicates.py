"""Duplicates (RFC 7252 section 4.5): answered with the same bytes, executed once, forgotten in time."""

import check
import coap
import fake
from fake import PEER, ask, due, empty, packet, run

WRITES = (coap.POST, coap.PUT, coap.DELETE, coap.PATCH, coap.IPATCH)
READS = (coap.GET, coap.FETCH)
LIFE_MS = 247000
NON_LIFE_MS = 145000
EXACT_LIFE_MS = 232000  # with fake.EXACT, which retransmits for 30 s, not for 45
EXACT_NON_LIFE_MS = 130000


def host(n, port=5683):
    return ("192.0.2.%d" % n, port)


class Server:
    """An engine whose replies tell how often its handlers were called; `laters` are the responses promised.

    The last segment of the path says what the handler does: short, long, later, none, bad, fail.
    """

    def __init__(self, **tables):
        self.engine = fake.engine(tuning=fake.EXACT, **tables)
        self.calls = 0
        self.laters = []
        for name in ("short", "long", "later", "none", "bad", "fail"):
            self.engine.resource(name)(self.handler(name))

    def handler(self, name):
        def handle(request, response):
            self.calls += 1
            return self.act(name, response, "%05d" % self.calls)

        return handle

    def act(self, name, response, text):
        if name == "later":
            self.laters.append(response.copy(payload=text))
            return coap.LATER
        if name == "fail":
            raise RuntimeError(text)
        if name == "none":
            return coap.NO_RESPONSE
        if name == "bad":
            return coap.BAD_REQUEST, text
        return text if name == "short" else text * 20

    def receive(self, method, name, mid, now_ms=0, peer=PEER, mtype=coap.CON, token=b"tk"):
        """The datagram that answers a request, or None."""
        reply = self.engine.receive(packet(method, mid, mtype, token, uri_path=(name,)), peer, now_ms)
        return None if reply is None else bytes(reply)

    def is_duplicate(self, method, name, mid, now_ms=0, peer=PEER, mtype=coap.CON):
        """Whether the request is not executed."""
        before = self.calls
        self.receive(method, name, mid, now_ms, peer, mtype)
        return self.calls == before


# ---- the same bytes ----


def test_con_when_repeated_then_the_same_bytes_and_no_second_execution():
    """RFC 7252 section 4.5: every method, short and long replies, errors; the last two need no state to be sure."""
    for name in ("short", "long", "bad", "fail", "none", "later"):
        for n, method in enumerate(WRITES):
            server = Server()
            first = server.receive(method, name, 100 + n)
            for now_ms in (1, 50000, EXACT_LIFE_MS - 1):
                check.eq(server.receive(method, name, 100 + n, now_ms), first, name)
            check.eq(server.calls, 1, name)


def test_get_when_repeated_then_the_same_short_bytes():
    """RFC 7252 section 4.5: GET and FETCH, while their slot is not taken by another."""
    for name in ("short", "bad", "fail", "none", "later"):
        for method in READS:
            server = Server()
            first = server.receive(method, name, 100)
            for now_ms in (1, 50000, EXACT_LIFE_MS - 1):
                check.eq(server.receive(method, name, 100, now_ms), first, name)
            check.eq(server.calls, 1, name)


def test_get_when_the_reply_is_long_then_it_may_be_executed_again():
    """RFC 7252 section 4.5: a safe method; what matters is that it is answered."""
    server = Server()
    server.receive(coap.GET, "long", 100)
    reply = coap.Message.decode(server.receive(coap.GET, "long", 100, 10))
    check.eq((reply.code, len(reply.payload), reply.mid), (coap.CONTENT, 100, 100))


def test_con_when_repeated_after_others_then_the_same_bytes():
    """RFC 7252 section 4.5: replies do not share memory."""
    server = Server()
    requests = [(WRITES[n % 5], ("short", "long")[n & 1], 100 + n) for n in range(8)]
    firsts = [server.receive(*request) for request in requests]
    for _ in range(2):
        check.eq([server.receive(*request) for request in requests], firsts)
    check.eq(server.calls, 8)


def test_con_when_the_reply_is_just_short_or_just_long_then_the_same_bytes():
    """RFC 7252 section 4.5: around the length that a slot holds, and in a slot used again."""
    engine = fake.engine(kept=1, kept_per_host=1)
    calls = []
    resource = engine.resource("n")

    @resource.put
    def put(request, response):
        calls.append(1)
        return "%02d" % len(calls) + "x" * request.payload[0]

    mid = 0
    for payload_len in (18, 19, 20, 21, 22, 23, 24, 25, 26, 0, 200, 0):
        mid += 1
        request = packet(coap.PUT, mid, payload=bytes((payload_len,)), uri_path=("n",))
        first = bytes(engine.receive(request, PEER, mid))
        check.eq(first[7:], ("%02d" % mid + "x" * payload_len).encode())
        check.eq(bytes(engine.receive(request, PEER, mid)), first)
    check.eq(len(calls), mid)


def test_con_when_the_response_is_to_follow_then_the_empty_ack_again():
    """RFC 7252 section 5.2.2: before and after the separate response, never a piggybacked one."""
    for method in (coap.GET, coap.POST):
        server = Server()
        for now_ms in (0, 10):
            check.eq(server.receive(method, "later", 5, now_ms), empty(coap.ACK, 5))
        record = server.engine.send(server.laters[0])
        due(server.engine, 20)
        check.eq(server.receive(method, "later", 5, 30), empty(coap.ACK, 5))
        server.engine.receive(empty(coap.ACK, record.mid), PEER, 40)
        check.eq(server.receive(method, "later", 5, 50), empty(coap.ACK, 5))
        check.eq((server.calls, len(server.laters)), (1, 1))


def test_non_when_repeated_then_silence():
    """RFC 7252 section 4.5: a duplicate NON is ignored."""
    for method in READS + WRITES:
        for name in ("short", "long", "bad", "fail", "later", "none"):
            server = Server()
            server.receive(method, name, 7, 0, PEER, coap.NON)
            for now_ms in (0, EXACT_NON_LIFE_MS - 1):
                check.eq(server.receive(method, name, 7, now_ms, PEER, coap.NON), None)
            check.eq(server.calls, 1)


def test_duplicate_when_it_comes_then_there_is_no_record():
    """RFC 7252 section 4.5: the application hears of it once."""
    for kept in 1, 32:
        engine = fake.engine(kept=kept)
        request = packet(coap.POST, 1)
        engine.receive(request, PEER, 0)
        check.eq(engine.received is None, False)
        engine.receive(request, PEER, 1)
        check.eq(engine.received, None)


# ---- what is a duplicate ----


def test_duplicate_when_the_message_id_is_the_same_then_whatever_it_holds():
    """RFC 7252 section 4.5: source endpoint and message ID, not token, method or path."""
    server = Server()
    first = server.receive(coap.POST, "short", 9)
    check.eq(server.receive(coap.POST, "short", 9, 1, PEER, coap.CON, b"other"), first)
    check.eq(server.receive(coap.PUT, "long", 9, 1), first)
    check.eq(server.calls, 1)


def test_duplicate_when_host_port_or_message_id_differ_then_it_is_none():
    """RFC 7252 section 4.5: executed, the token being the same."""
    server = Server()
    for method in (coap.GET, coap.POST):
        before = server.calls
        for peer, mid in ((PEER, 9), (PEER, 10), (host(1, 5684), 9), (host(2), 9)):
            server.receive(method, "short", mid + method * 100, 0, peer)
        check.eq(server.calls - before, 4)


def test_get_when_its_slot_was_taken_then_it_is_executed_again():
    """RFC 7252 section 4.5: `recent` slots by message ID; the others keep theirs."""
    server = Server(recent=4)
    for mid in (0, 1, 2, 3):
        server.receive(coap.GET, "short", mid)
    check.eq([server.is_duplicate(coap.GET, "short", mid) for mid in (0, 1, 2, 3)], [True] * 4)
    server.receive(coap.GET, "short", 6)
    check.eq([server.is_duplicate(coap.GET, "short", mid) for mid in (0, 1, 3, 6, 2)], [True] * 4 + [False])


def test_get_when_many_come_then_they_do_not_displace_a_post():
    """RFC 7252 section 4.5: two tables."""
    server = Server(recent=4)
    first = server.receive(coap.POST, "short", 1)
    for mid in range(2, 1000):
        server.receive(coap.GET, "short", mid)
    check.eq(server.receive(coap.POST, "short", 1), first)


# ---- how long ----


def test_write_when_its_lifetime_is_over_then_it_is_executed_again():
    """RFC 7252 section 4.8.2: 247 s for a CON, 145 s for a NON, whether or not somebody swept meanwhile."""
    for is_swept in (False, True):
        for mtype, life_ms in ((coap.CON, LIFE_MS), (coap.NON, NON_LIFE_MS)):
            for method in WRITES:
                server = Server()
                server.engine.tuning = coap.Tuning()
                server.receive(method, "short", 3, 1000, PEER, mtype)
                check.eq(server.is_duplicate(method, "short", 3, 1000 + life_ms - 1, PEER, mtype), True)
                if is_swept:
                    run(server.engine, 1000, 1000 + life_ms)
                check.eq(server.is_duplicate(method, "short", 3, 1000 + life_ms, PEER, mtype), False)


def test_write_when_others_expire_first_then_it_is_still_known():
    """RFC 7252 section 4.5: each entry has its own time."""
    server = Server()
    server.receive(coap.POST, "short", 1, 0, PEER, coap.NON)
    server.receive(coap.POST, "long", 2, 0)
    server.receive(coap.POST, "short", 3, 100000)
    server.receive(coap.GET, "short", 4, 100000)
    for now_ms in (EXACT_NON_LIFE_MS, EXACT_LIFE_MS - 1):
        run(server.engine, now_ms, now_ms)
        check.eq(server.is_duplicate(coap.POST, "long", 2, now_ms), True)
    run(server.engine, EXACT_LIFE_MS, EXACT_LIFE_MS)
    check.eq(server.is_duplicate(coap.POST, "short", 3, EXACT_LIFE_MS), True)
    check.eq(server.is_duplicate(coap.GET, "short", 4, EXACT_LIFE_MS), True)
    check.eq(server.is_duplicate(coap.POST, "long", 2, EXACT_LIFE_MS), False)


def test_write_when_its_id_is_0_and_the_clock_wraps_after_its_lifetime_then_it_is_executed_again():
    """RFC 7252 section 4.5: it was forgotten; else six days later its time would seem to be to come."""
    server = Server()
    server.receive(coap.POST, "short", 0)
    run(server.engine, 0, EXACT_LIFE_MS)
    check.eq(server.is_duplicate(coap.POST, "short", 0, EXACT_LIFE_MS + (1 << 29) + 1), False)


def test_get_when_its_lifetime_is_over_then_it_is_executed_again():
    """RFC 7252 section 4.4: the peer may use the message ID for another request."""
    server = Server()
    server.receive(coap.GET, "short", 3, 0)
    check.eq(server.is_duplicate(coap.GET, "short", 3, EXACT_LIFE_MS - 1), True)
    check.eq(server.is_duplicate(coap.GET, "short", 3, EXACT_LIFE_MS), False)


def test_duplicate_when_it_comes_again_and_again_then_the_lifetime_is_that_of_the_first():
    """RFC 7252 section 4.8.2: EXCHANGE_LIFETIME counts from the first transmission."""
    server = Server()
    for now_ms in range(0, EXACT_LIFE_MS, 10000):
        server.receive(coap.POST, "short", 3, now_ms)
    check.eq(server.calls, 1)
    check.eq(server.is_duplicate(coap.POST, "short", 3, EXACT_LIFE_MS), False)


def test_tables_when_everything_is_too_old_then_nothing_is_due():
    """RFC 7252 section 4.8.2: no entry lives for ever."""
    server = Server()
    mid = 0
    for mtype in (coap.CON, coap.NON):
        for method in (coap.GET, coap.POST):
            for name in ("short", "long", "later", "none", "fail"):
                mid += 1
                server.receive(method, name, mid, 100 * mid, PEER, mtype)
    check.eq(server.engine.next_ms(2000) > 0, True)
    check.eq(server.engine.next_event_reason, "housekeeping")
    check.eq(run(server.engine, 2000, LIFE_MS + 2000), [])
    check.eq((server.engine.next_ms(LIFE_MS + 2000), server.engine.next_event_reason), (None, None))
    check.raises(ValueError, server.engine.send, server.laters[0])


def test_tables_when_places_are_free_then_they_are_never_due():
    """RFC 7252 section 4.8.2: however far the ticks are."""
    server = Server()
    for start_ms in coap.ticks_add(0, -300000), 0, 1 << 28:
        server.receive(coap.POST, "short", 1, start_ms)
        end_ms = coap.ticks_add(start_ms, EXACT_LIFE_MS)
        check.eq((due(server.engine, end_ms), server.engine.next_ms(end_ms)), ([], None))


def test_promise_when_its_slot_was_taken_then_it_is_forgotten_too():
    """RFC 7252 section 5.2.2: a promise has its own time, not that of what came into its slot."""
    server = Server(recent=1)
    server.receive(coap.GET, "short", 1, 0, PEER, coap.NON)
    server.receive(coap.GET, "later", 2, 10)
    server.receive(coap.GET, "short", 3, 20, PEER, coap.NON)
    run(server.engine, 0, 2 * LIFE_MS)
    check.raises(ValueError, server.engine.send, server.laters[0])


# ---- shares ----


def test_share_when_a_host_used_it_then_its_own_oldest_is_forgotten():
    """RFC 7252 section 4.5: nobody else's."""
    server = Server(kept=8, kept_per_host=3)
    server.receive(coap.POST, "short", 50, 0, host(2))
    for mid in (1, 2, 3, 4):
        server.receive(coap.POST, "short", mid, mid)
    check.eq(server.is_duplicate(coap.POST, "short", 50, 10, host(2)), True)
    check.eq([server.is_duplicate(coap.POST, "short", mid, 10) for mid in (4, 3, 2)], [True] * 3)
    check.eq(server.is_duplicate(coap.POST, "short", 1, 10), False)


def test_share_when_the_oldest_is_not_the_first_slot_then_it_is_the_oldest():
    """RFC 7252 section 4.5: by when they came, though a NON's time ends before that of a CON that came earlier."""
    server = Server(kept=8, kept_per_host=3)
    server.receive(coap.POST, "short", 1, 0)
    server.receive(coap.POST, "short", 2, 10, PEER, coap.NON)
    server.receive(coap.POST, "short", 3, 20)
    server.receive(coap.POST, "short", 4, 30)
    check.eq(server.is_duplicate(coap.POST, "short", 2, 40, PEER, coap.NON), True)
    check.eq([server.is_duplicate(coap.POST, "short", mid, 40) for mid in (3, 4)], [True] * 2)
    server.receive(coap.POST, "short", 5, 50, PEER, coap.NON)
    check.eq(server.is_duplicate(coap.POST, "short", 2, 60, PEER, coap.NON), False)
    check.eq(server.is_duplicate(coap.POST, "short", 4, 60), True)
    check.eq(server.is_duplicate(coap.POST, "short", 1, 60), False)


def test_share_when_a_response_is_to_follow_then_it_is_not_forgotten():
    """RFC 7252 section 5.2.2: the oldest finished one goes instead."""
    server = Server(kept=8, kept_per_host=3)
    server.receive(coap.POST, "later", 1, 1)
    for mid in (2, 3, 4, 5):
        server.receive(coap.POST, "short", mid, mid)
    check.eq([server.is_duplicate(coap.POST, "short", mid, 10) for mid in (1, 5, 4)], [True] * 3)
    check.eq(server.is_duplicate(coap.POST, "short", 2, 10), False)


def test_share_when_a_response_is_to_follow_to_another_with_the_same_id_then_it_is_forgotten():
    """RFC 7252 section 4.4: message IDs are of one peer."""
    server = Server(kept=8, kept_per_host=1)
    server.receive(coap.POST, "later", 1, 1)
    server.receive(coap.POST, "short", 1, 2, host(2))
    check.eq(server.is_duplicate(coap.POST, "short", 2, 3, host(2)), False)


def test_share_when_all_responses_are_to_follow_then_refused():
    """RFC 7252 section 5.9.3.4: 5.03 with Max-Age to a CON, silence to a NON; until one is answered."""
    server = Server(kept=8, kept_per_host=2)
    server.receive(coap.POST, "later", 1, 1)
    server.receive(coap.POST, "later", 2, 2)
    reply = coap.Message.decode(server.receive(coap.POST, "short", 3, 3))
    check.eq((reply.code, reply.opt.max_age), (coap.SERVICE_UNAVAILABLE, 60))
    check.eq(server.receive(coap.POST, "short", 4, 3, PEER, coap.NON), None)
    check.eq(server.calls, 2)
    server.engine.send(server.laters[0])
    check.eq(server.is_duplicate(coap.POST, "short", 3, 4), False)


def test_share_when_the_port_changes_then_it_is_the_same_host():
    """RFC 7252 section 4.5: of tuples, and of the unix port's 16 and 28 bytes."""
    four = [b"\x02\x00" + bytes((20, n)) + b"\xc0\x00\x02\x01" + bytes(8) for n in range(3)]
    six = [b"\x0a\x00" + bytes((20, n)) + bytes(4) + b"\x20\x01\x0d\xb8" + bytes(16) for n in range(3)]
    tuples = [("2001:db8::1", port, 0, 0) for port in range(3)]
    for peers in ([host(1, port) for port in range(3)], tuples, four, six):
        server = Server(kept=8, kept_per_host=2)
        for n in range(3):
            server.receive(coap.POST, "short", n, n, peers[n])
        check.eq([server.is_duplicate(coap.POST, "short", n, 5, peers[n]) for n in (2, 1)], [True] * 2)
        check.eq(server.is_duplicate(coap.POST, "short", 0, 5, peers[0]), False)


def test_share_when_others_behind_the_address_go_on_then_they_forget_their_own():
    """RFC 7252 section 4.5: who goes on repeats no earlier one; who lost an ACK does."""
    server = Server(kept=8, kept_per_host=3)
    server.receive(coap.POST, "short", 50, 0, host(1, 1))
    for mid in range(20):
        server.receive(coap.POST, "short", mid, mid, host(1, 2))
        server.receive(coap.POST, "short", mid, mid, host(1, 3))
    for peer, mid in (1, 50), (2, 19), (3, 19):
        check.eq(server.is_duplicate(coap.POST, "short", mid, 2000, host(1, peer)), True, peer)


def test_share_when_another_port_had_it_then_a_newcomer_has_more_than_one_place():
    """RFC 7252 section 4.5: a program was started anew; of the port before only the last may come again."""
    server = Server(kept=8, kept_per_host=4)
    for mid in range(4):
        server.receive(coap.POST, "short", mid, mid, host(1, 1))
    for mid in 50, 51, 52:
        server.receive(coap.POST, "short", mid, 1000, host(1, 2))
    for port, mid in (2, 50), (2, 51), (2, 52), (1, 3):
        check.eq(server.is_duplicate(coap.POST, "short", mid, 2000, host(1, port)), True, mid)


def test_share_when_others_behind_the_address_are_long_done_then_theirs_are_forgotten():
    """RFC 7252 section 4.8.2: nobody repeats after 93 s, but who has two requests open repeats the first of them."""
    server = Server(kept=8, kept_per_host=3)
    for mid in range(3):
        server.receive(coap.POST, "short", mid, mid, host(1, 1))
    for mid in 50, 51:
        server.receive(coap.POST, "short", mid, 110000, host(1, 2))
    check.eq(server.is_duplicate(coap.POST, "short", 50, 112000, host(1, 2)), True)


def test_share_when_the_address_differs_then_it_is_another_host():
    """RFC 7252 section 4.5: the last byte of each form of address."""
    four = [b"\x02\x00\x16\x33\xc0\x00\x02" + bytes((n,)) + bytes(8) for n in range(2)]
    six = [b"\x0a\x00\x16\x33" + bytes(4) + bytes(15) + bytes((n,)) + bytes(4) for n in range(2)]
    for peers in ([host(1), host(2)], four, six, [b"node 1", b"node 2"]):
        server = Server(kept=8, kept_per_host=1)
        for n in range(2):
            server.receive(coap.POST, "short", n, n, peers[n])
        check.eq([server.is_duplicate(coap.POST, "short", n, 5, peers[n]) for n in range(2)], [True] * 2)


# ---- full ----


def full_server():
    """A server whose table holds what two hosts sent at time 0."""
    server = Server(kept=4, kept_per_host=2)
    for n in range(4):
        server.receive(coap.POST, "short", n, 0, host(10 + n // 2))
    return server


def test_full_when_another_host_comes_then_refused_without_execution():
    """RFC 7252 section 5.9.3.4: CON 5.03 with Max-Age, NON silence; nothing is forgotten for it."""
    server = full_server()
    for method in WRITES:
        reply = coap.Message.decode(server.receive(method, "short", 60 + method, 1))
        check.eq((reply.mtype, reply.code, reply.opt.max_age), (coap.ACK, coap.SERVICE_UNAVAILABLE, 60))
        check.eq((reply.mid, reply.token, reply.payload), (60 + method, b"tk", b""))
        check.eq(server.receive(method, "short", 70 + method, 1, PEER, coap.NON), None)
    check.eq(server.calls, 4)
    for n in range(4):
        check.eq(server.is_duplicate(coap.POST, "short", n, 2, host(10 + n // 2)), True)


def test_full_when_another_host_reads_then_it_is_served():
    """RFC 7252 section 4.5: safe methods need no room; neither do refusals and pings."""
    server = full_server()
    for n, method in enumerate(READS):
        check.eq(server.receive(method, "short", 60 + n, 1)[1], coap.CONTENT)
    check.eq(server.receive(coap.POST, "nosuch", 65, 1)[1], coap.NOT_FOUND)
    check.eq(bytes(server.engine.receive(empty(coap.CON, 66), PEER, 1)), empty(coap.RST, 66))


def test_full_when_a_host_has_entries_then_it_is_served_at_their_cost():
    """RFC 7252 section 4.5: it loses its own oldest."""
    server = full_server()
    check.eq(server.is_duplicate(coap.POST, "short", 90, 1, host(10)), False)
    check.eq(server.is_duplicate(coap.POST, "short", 2, 1, host(11)), True)
    check.eq(server.is_duplicate(coap.POST, "short", 3, 1, host(11)), True)


def test_full_when_a_host_has_less_than_its_share_then_it_is_served_at_its_cost():
    """RFC 7252 section 4.5: it loses its own, for there is no other it may have."""
    server = Server(kept=3, kept_per_host=2)
    for n in range(3):
        server.receive(coap.POST, "short", n, 0, host(10 + n // 2))
    check.eq(server.receive(coap.POST, "short", 90, 1, host(11))[1], coap.CREATED)
    check.eq(server.is_duplicate(coap.POST, "short", 90, 2, host(11)), True)
    for n in range(2):
        check.eq(server.is_duplicate(coap.POST, "short", n, 2, host(10)), True)


def test_full_when_the_entries_are_too_old_then_others_are_served():
    """RFC 7252 section 4.8.2: the refusal was not remembered, and nobody had to sweep."""
    server = full_server()
    check.eq(server.receive(coap.POST, "short", 60, EXACT_LIFE_MS - 1)[1], coap.SERVICE_UNAVAILABLE)
    check.eq(server.receive(coap.POST, "short", 60, EXACT_LIFE_MS)[1], coap.CREATED)


def test_full_when_a_separate_response_comes_then_it_is_delivered():
    """RFC 7252 section 5.2.2: what was asked for arrives, even if its duplicate will be a stranger's."""
    server = full_server()
    record = server.engine.send(coap.Message(coap.GET), PEER)
    due(server.engine, 1)
    server.engine.receive(empty(coap.ACK, record.mid), PEER, 2)
    reply = server.engine.receive(packet(coap.CONTENT, 8, coap.CON, record.token), PEER, 3)
    check.eq((bytes(reply), record.error, record.is_done()), (empty(coap.ACK, 8), None, True))


# ---- responses, refusals ----


def test_separate_response_when_repeated_then_acknowledged_from_its_endpoint_only():
    """RFC 7252 section 4.5: another port is a stranger, and a stranger gets a Reset."""
    engine = fake.engine()
    record = engine.send(coap.Message(coap.GET), PEER)
    due(engine, 0)
    datagram = packet(coap.CONTENT, 8, coap.CON, record.token)
    engine.receive(datagram, PEER, 1)
    check.eq(bytes(engine.receive(datagram, PEER, 2)), empty(coap.ACK, 8))
    check.eq(bytes(engine.receive(datagram, host(1, 1), 3)), empty(coap.RST, 8))
    check.eq(bytes(engine.receive(packet(coap.CONTENT, 9, coap.CON, record.token), PEER, 4)), empty(coap.RST, 9))


def test_refusal_when_repeated_then_the_same_bytes():
    """RFC 7252 section 4.5: 4.04, 4.05 and 4.02 too."""
    engine = fake.engine()
    resource = engine.resource("r")

    @resource.get
    def read(request, response):
        return "x"

    for mid, path, method, option in ((1, "x", coap.POST, 2048), (2, "r", coap.PUT, 2048), (3, "r", coap.GET, 2049)):
        request = coap.Message(method, mtype=coap.CON, mid=mid, uri_path=(path,)).add_option(option, b"").encode()
        first = ask(engine, request)
        check.eq(ask(engine, request, 10).encode(), first.encode())
        check.eq(first.code, (coap.NOT_FOUND, coap.METHOD_NOT_ALLOWED, coap.BAD_OPTION)[mid - 1])
