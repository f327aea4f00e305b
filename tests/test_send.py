"""The sending side of the message layer: back-off, NSTART, message IDs, tokens, and how an exchange ends."""

import sys

import check
import coap
import fake
from fake import EXACT, PEER, due, empty, packet, raiser, run

OTHER = ("192.0.2.2", 5683)


def get(code=coap.GET, **fields):
    return coap.Message(code, uri_path=("t",), **fields)


def started(message=None, remote=PEER, timeout_ms=None, **tables):
    """(engine, record, datagram) of a request sent at time 0 whose first wait is 2 s."""
    tables.setdefault("tuning", EXACT)
    engine = fake.engine(**tables)
    record = engine.send(message or get(), remote, timeout_ms)
    return engine, record, due(engine, 0)[0]


def times(sent):
    return [now_ms for now_ms, _ in sent]


def response(record, mtype=coap.ACK, mid=None, code=coap.CONTENT, **fields):
    """The datagram that answers `record`."""
    return packet(code, record.mid if mid is None else mid, mtype, record.token, **fields)


def same_byte(byte):
    """An engine for which chance is always this byte."""
    return coap.Engine(lambda n: byte * n)


def given_up_ms(engine, record, latest_ms):
    """When `record` ends with nobody answering."""
    now_ms = 0
    while not record.is_done() and now_ms <= latest_ms:
        due(engine, now_ms)
        now_ms += 0 if record.is_done() else engine.next_ms(now_ms)
    return now_ms


# ---- retransmission ----


def test_backoff_when_nobody_answers_then_sent_5_times_the_wait_doubled():
    """RFC 7252 section 4.2: at 0, T, 3T, 7T, 15T, T from 2 to 3 s."""
    for random_byte, first_ms in ((b"\0", 2000), (b"\x80", 2502), (b"\xff", 3000)):
        engine = same_byte(random_byte)
        engine.send(get(), PEER)
        check.eq(times(run(engine, 0, 300000)), [first_ms * n for n in (0, 1, 3, 7, 15)])


def test_backoff_when_nobody_answers_then_given_up_after_31_waits():
    """RFC 7252 section 4.2: Timeout, and known to be unacknowledged."""
    for random_byte, first_ms in ((b"\0", 2000), (b"\xff", 3000)):
        engine = same_byte(random_byte)
        record = engine.send(get(), PEER)
        run(engine, 0, 31 * first_ms - 1)
        check.eq((record.is_done(), record.error, record.transmissions_left), (False, None, 0))
        check.eq(due(engine, 31 * first_ms), [])
        check.eq((record.is_done(), record.error, record.is_unacknowledged), (True, coap.Timeout, True))
        check.eq((record.response, record.response_type, record.next_event_ms), (None, None, None))


def test_retransmission_when_sent_then_the_bytes_are_the_same():
    """RFC 7252 section 4.2: the same message ID, token, options and payload."""
    engine, _, first = started(coap.Message(coap.POST, uri_path=("a", "b"), payload=b"p" * 100))
    sent = run(engine, 2000, 100000)
    check.eq(len(sent), 4)
    for _, datagram in sent:
        check.eq(datagram, first)


def test_retransmission_when_the_message_is_changed_meanwhile_then_the_bytes_are_the_same():
    """RFC 7252 section 4.2: the datagram is made by send."""
    message = get()
    engine, _, first = started(message)
    message.payload = "another"
    message.opt.uri_path = ("other",)
    check.eq(due(engine, 2000), [first])


def test_retransmission_when_the_clock_is_asked_late_then_it_goes_once_and_waits_anew():
    """RFC 7252 section 4.2: a program that slept does not send a burst."""
    engine, record, first = started()
    check.eq(due(engine, 9000), [first])
    check.eq(record.next_event_ms, 13000)


def test_retransmission_when_the_program_slept_too_long_then_there_is_none():
    """RFC 7252 section 4.2, 4.8.2: all within MAX_TRANSMIT_SPAN, or the server may have forgotten the first one."""
    for slept_ms, timeout_ms, count in ((30000, None, 1), (31999, None, 1), (32000, None, 0), (600000, 3600000, 0)):
        for begin_ms in 0, coap.ticks_add(0, -5000):
            engine = fake.engine(tuning=fake.EXACT)
            record = engine.send(coap.Message(coap.POST), PEER, timeout_ms)
            engine.due(begin_ms)
            sent = due(engine, coap.ticks_add(begin_ms, slept_ms))
            check.eq((len(sent), record.error), (count, None if count else coap.Timeout), slept_ms)


def test_jitter_when_many_messages_go_then_it_stays_in_its_bounds_and_spreads():
    """RFC 7252 section 4.2: ACK_TIMEOUT to ACK_TIMEOUT times ACK_RANDOM_FACTOR."""
    engine = fake.engine(transmissions=1)
    waits = []
    for _ in range(60):
        record = engine.send(get(), PEER)
        engine.due(0)
        waits.append(record.next_event_ms)
        record.cancel()
    check.eq(2000 <= min(waits) < 2200, True, min(waits))
    check.eq(2800 < max(waits) <= 3000, True, max(waits))


def test_tuning_when_of_the_message_then_its_times_hold():
    """RFC 7252 section 4.8: ACK_TIMEOUT, ACK_RANDOM_FACTOR and MAX_RETRANSMIT of one message."""
    tuning = coap.Tuning(ack_timeout_ms=500, ack_random_percent=100, max_retransmit=2)
    engine, record, _ = started(get(transport_tuning=tuning))
    check.eq(times(run(engine, 0, 300000)), [500, 1500])
    check.eq(record.error, coap.Timeout)
    engine, record, _ = started(get(transport_tuning=tuning))
    check.eq(given_up_ms(engine, record, 10000), 3500)


def test_tuning_when_of_the_message_and_longer_or_shorter_then_its_times_hold():
    """RFC 7252 section 4.8.2: MAX_TRANSMIT_SPAN and MAX_TRANSMIT_WAIT of one message."""
    for timeout_ms, given_up in (10000, 310000), (100, 3100):
        tuning = coap.Tuning(timeout_ms, 100)
        engine, record, _ = started(get(transport_tuning=tuning))
        check.eq(times(run(engine, 0, 400000)), [timeout_ms * n for n in (1, 3, 7, 15)])
        engine, record, _ = started(get(transport_tuning=tuning))
        check.eq(given_up_ms(engine, record, 400000), given_up)
    engine, record, _ = started(get(transport_tuning=tuning), timeout_ms=90000)
    check.eq(given_up_ms(engine, record, 400000), 3100)


def test_tuning_when_that_of_the_message_has_more_retransmissions_then_as_many():
    """RFC 7252 section 4.8: MAX_RETRANSMIT of the message, not the endpoint's 4."""
    tuning = coap.Tuning(ack_timeout_ms=100, ack_random_percent=100, max_retransmit=6)
    engine = fake.engine()
    engine.send(get(transport_tuning=tuning), PEER)
    check.eq(times(run(engine, 0, 100000)), [0, 100, 300, 700, 1500, 3100, 6300])


def test_tuning_when_max_retransmit_is_0_then_sent_once():
    """RFC 7252 section 4.8: given up after one wait."""
    tuning = coap.Tuning(ack_random_percent=100, max_retransmit=0)
    engine, record, _ = started(tuning=tuning)
    check.eq(given_up_ms(engine, record, 10000), 2000)
    check.eq((record.error, record.is_unacknowledged), (coap.Timeout, True))


def test_tuning_when_derived_then_the_times_are_those_of_the_table():
    """RFC 7252 section 4.8.2: 45, 93, 247 and 145 s; and for other parameters."""
    for arguments, expected in (
        ((), (45000, 93000, 247000, 145000)),
        ((2000, 100), (30000, 62000, 232000, 130000)),
        ((1000, 150, 2), (4500, 10500, 205500, 104500)),
        ((5000, 200, 0), (0, 10000, 205000, 100000)),
    ):
        tuning = coap.Tuning(*arguments)
        times_ms = tuning.max_transmit_span_ms, tuning.max_transmit_wait_ms
        check.eq(times_ms + (tuning.exchange_lifetime_ms, tuning.non_lifetime_ms), expected)


def test_tuning_when_out_of_range_then_value_error():
    """RFC 7252 section 4.8.1: ACK_RANDOM_FACTOR is not below 1."""
    for name, value in (
        ("ack_timeout_ms", 0),
        ("ack_random_percent", 99),
        ("max_retransmit", -1),
        ("max_retransmit", 11),
        ("nstart", 0),
    ):
        check.raises(ValueError, coap.Tuning, **{name: value})
    check.raises(TypeError, coap.Tuning, ack_timeout_ms=2.0)


# ---- NSTART and tables ----


def test_nstart_when_requests_are_queued_then_one_after_the_other_in_order():
    """RFC 7252 section 4.7: one interaction with a peer at a time."""
    engine = fake.engine(tuning=EXACT)
    records = [engine.send(get(token=bytes((n,))), PEER) for n in range(3)]
    for n in range(3):
        sent = due(engine, 100 * n)
        check.eq([datagram[4] for datagram in sent], [n])
        engine.receive(response(records[n]), PEER, 100 * n)
    check.eq([record.error for record in records], [None] * 3)
    check.eq([record.transmitted_ms for record in records], [0, 100, 200])


def test_nstart_when_the_empty_ack_came_then_the_next_may_go():
    """RFC 7252 section 4.7: an acknowledged request is not outstanding."""
    engine, first, _ = started()
    second = engine.send(get(), PEER)
    check.eq(due(engine, 10), [])
    engine.receive(empty(coap.ACK, first.mid), PEER, 20)
    check.eq(engine.next_ms(20), 0)
    check.eq(len(due(engine, 20)), 1)
    check.eq((first.is_done(), second.transmitted_ms), (False, 20))


def test_nstart_when_non_then_a_request_holds_its_slot_until_answered():
    """RFC 7252 section 4.7: a NON request is outstanding until its response."""
    engine, first, _ = started(get(mtype=coap.NON))
    second = engine.send(get(mtype=coap.NON), PEER)
    check.eq(due(engine, 10), [])
    engine.receive(response(first, coap.NON, 77), PEER, 20)
    check.eq((first.error, first.response_type), (None, coap.NON))
    check.eq((len(due(engine, 20)), second.transmitted_ms), (1, 20))


def test_nstart_when_non_then_a_request_holds_its_slot_until_it_times_out():
    """RFC 7252 section 4.7: ... or is no longer expected; sent once, and no ACK was due."""
    engine, first, _ = started(get(mtype=coap.NON))
    second = engine.send(get(mtype=coap.NON), PEER)
    check.eq(run(engine, 10, 61999), [])
    check.eq(len(due(engine, 62000)), 1)
    check.eq((first.error, first.is_unacknowledged, second.transmitted_ms), (coap.Timeout, False, 62000))


def test_nstart_when_non_then_an_empty_ack_does_not_free_the_slot():
    """RFC 7252 section 4.3: a NON is never acknowledged."""
    engine, first, _ = started(get(mtype=coap.NON))
    engine.receive(empty(coap.ACK, first.mid), PEER, 10)
    engine.send(get(), PEER)
    check.eq((due(engine, 10), first.response_type), ([], None))


def test_nstart_when_there_are_two_peers_then_they_do_not_wait_for_each_other():
    """RFC 7252 section 4.7: NSTART is per peer; the port belongs to it."""
    engine, _, _ = started()
    engine.send(get(), PEER)
    for remote in (OTHER, (PEER[0], 61616)):
        record = engine.send(get(), remote)
        check.eq((len(due(engine, 5)), engine.peer, record.transmitted_ms), (1, remote, 5))


def test_nstart_when_2_then_two_are_outstanding():
    """RFC 7252 section 4.7: of the endpoint and of a message."""
    engine, _, _ = started(tuning=coap.Tuning(nstart=2))
    engine.send(get(), PEER)
    engine.send(get(), PEER)
    check.eq(len(due(engine, 0)), 1)
    engine, _, _ = started()
    engine.send(get(transport_tuning=coap.Tuning(nstart=2)), PEER)
    engine.send(get(), PEER)
    check.eq(len(due(engine, 0)), 1)


def test_nstart_when_a_response_is_non_then_it_does_not_wait():
    """RFC 7252 section 4.7: what expects neither ACK nor response is no outstanding interaction."""
    engine, _, _ = started()
    laters = []

    @engine.resource("slow")
    def slow(request, response):
        laters.append(response.copy(payload="done"))
        return coap.LATER

    engine.receive(packet(coap.GET, 1, coap.NON, uri_path=("slow",)), PEER, 5)
    engine.send(laters[0])
    check.eq([datagram[1] for datagram in due(engine, 6)], [coap.CONTENT])


def test_table_when_transmissions_are_all_used_then_the_next_waits():
    """RFC 7252 section 4.7: the number of open exchanges is the caller's choice."""
    engine = fake.engine(transmissions=2, tuning=EXACT)
    records = [engine.send(get(), ("192.0.2.%d" % n, 5683)) for n in range(3)]
    check.eq(len(due(engine, 0)), 2)
    engine.receive(empty(coap.ACK, records[0].mid), records[0].remote, 10)
    check.eq(due(engine, 10), [])
    engine.receive(response(records[1]), records[1].remote, 20)
    check.eq((len(due(engine, 20)), records[2].transmitted_ms), (1, 20))


def test_queue_when_full_then_send_raises_full():
    """RFC 7252 section 4.7: a queue of a fixed size, and it recovers."""
    engine, first, _ = started(queued=2)
    engine.send(get(), PEER)
    last = engine.send(get(), PEER)
    check.raises(coap.Full, engine.send, get(), PEER, contains="queued")
    last.cancel()
    engine.send(get(), PEER)
    first.cancel()
    check.eq(len(due(engine, 1)), 1)
    engine.send(get(), PEER)


# ---- message IDs and tokens ----


def test_mid_when_messages_go_then_they_count_up_from_a_random_start():
    """RFC 7252 section 4.4: one counter for all peers."""
    firsts = []
    for seed in (1, 2):
        engine = coap.Engine(fake.Random(seed).bytes, transmissions=9, queued=9)
        records = [engine.send(get(), ("192.0.2.%d" % n, 5683)) for n in range(5)]
        due(engine, 0)
        firsts.append(records[0].mid)
        check.eq([record.mid for record in records], [firsts[-1] + n & 0xFFFF for n in range(5)])
    check.eq(firsts[0] != firsts[1], True)


def test_mid_when_it_passes_65535_then_0_follows():
    """RFC 7252 section 4.4: 16 bits."""
    engine = same_byte(b"\xff")
    records = [engine.send(get(), remote) for remote in (PEER, OTHER)]
    sent = due(engine, 0)
    check.eq([record.mid for record in records], [65535, 0])
    check.eq([datagram[2:4] for datagram in sent], [b"\xff\xff", b"\0\0"])


def test_mid_when_a_message_waits_then_it_has_none():
    """RFC 7252 section 4.4: drawn by the first transmission."""
    engine = fake.engine()
    record = engine.send(get(), PEER)
    check.eq((record.mid, record.transmitted_ms), (None, None))


def test_mid_when_given_then_it_is_used():
    """RFC 7252 section 4.4: the caller's message ID goes out and is matched."""
    engine, record, datagram = started(get(mid=4660))
    check.eq((record.mid, datagram[2:4]), (4660, b"\x12\x34"))
    engine.receive(response(record), PEER, 10)
    check.eq(record.error, None)
    check.eq(record.is_done(), True)


def test_mid_when_65536_went_within_the_lifetime_then_the_next_waits():
    """RFC 7252 section 4.4: none is used again within EXCHANGE_LIFETIME, 247 s."""
    if sys.platform not in ("linux", "darwin", "win32"):
        raise check.Skip("65,536 messages take minutes on a board")
    engine = fake.engine()
    message = get(mtype=coap.NON, token=b"t")
    first_mid = None
    for n in range(65536):
        record = engine.send(message, PEER)
        engine.due(n >> 9)
        if first_mid is None:
            first_mid = record.mid
        record.cancel()
    check.eq((record.mid, record.transmitted_ms), (first_mid - 1 & 0xFFFF, 127))
    waiting = engine.send(message, PEER)
    engine.wake(900)  # for something else
    check.eq(engine.due(1000), None)
    check.eq(run(engine, 1000, 246999), [])
    check.eq(len(run(engine, 247000, 247127)), 1)
    check.eq(waiting.mid, first_mid)
    check.eq(run(engine, 247127, 600000), [])
    check.eq(engine._mids_free_ms, [None] * 16)  # the last 4096, too


def test_token_when_none_is_given_then_it_has_8_unique_bytes():
    """RFC 7252 section 5.3.1: 64 random bits; in the record, not in the message."""
    engine = fake.engine(queued=40)
    message = get()
    tokens = [engine.send(message, PEER).token for _ in range(40)]
    check.eq([len(token) for token in tokens], [8] * 40)
    check.eq(len(set(tokens)), 40)
    check.eq(message.token, b"")


def test_token_when_given_then_it_is_kept():
    """RFC 7252 section 5.3.1: 1 to 8 bytes of the caller's."""
    for token in (b"\0", b"tk", b"12345678"):
        _, record, datagram = started(get(token=token))
        check.eq((record.token, datagram[0] & 15, datagram[4 : 4 + len(token)]), (token, len(token), token))


# ---- what send refuses ----


def test_send_when_the_message_cannot_be_sent_then_value_error():
    """RFC 7252 section 4.3: ACK, Reset, no code, a NON ping, a ping with content, a response nobody awaits."""
    engine = fake.engine()
    for message in (
        coap.Message(coap.GET, mtype=coap.ACK),
        coap.Message(coap.GET, mtype=coap.RST),
        coap.Message(0, mtype=coap.RST),
        coap.Message(0, mtype=coap.ACK),
        coap.Message(),
        coap.Message(0, mtype=coap.NON),
        coap.Message(0, mtype=coap.CON, payload=b"x"),
        coap.Message(0, mtype=coap.CON, token=b"x"),
        coap.Message(coap.CONTENT),
    ):
        check.raises(ValueError, engine.send, message, PEER)
    check.eq(engine.next_ms(0), None)


def test_send_when_there_is_no_remote_then_value_error():
    """RFC 7252 section 5.3: a message without destination would end in the transport, far from its cause."""
    check.raises(ValueError, fake.engine().send, get())


def test_send_when_to_a_group_then_non_and_never_con():
    """RFC 7252 section 8.1: NON is chosen, CON refused."""
    for group in (("224.0.1.187", 5683), ("ff02::fd", 5683, 0, 0), b"\x02\x00\x16\x33\xe0\x00\x01\xbb" + bytes(8)):
        engine = fake.engine()
        check.raises(ValueError, engine.send, get(mtype=coap.CON), group, contains="group")
        engine.send(get(), group)
        check.eq(fake.head(due(engine, 0)[0])[0], coap.NON)


def test_send_when_too_large_then_value_error():
    """RFC 7252 section 4.6: no datagram longer than datagram_len."""
    engine = fake.engine(datagram_len=64)
    message = coap.Message(coap.POST, token=b"12345678", payload=b"x" * 51)
    record = engine.send(message, PEER)
    check.eq(len(record.packed), 64)
    message.payload = b"x" * 52
    check.raises(ValueError, engine.send, message, PEER, contains="65 bytes")


# ---- how an exchange ends ----


def test_response_when_piggybacked_then_the_exchange_ends():
    """RFC 7252 section 5.2.1: message ID and token match."""
    engine, record, _ = started()
    check.eq(engine.receive(response(record, payload=b"22.5"), PEER, 700), None)
    check.eq((record.is_done(), record.error, record.response_type), (True, None, coap.ACK))
    check.eq((engine.received is record.response, record.response.pertains_to is record), (True, True))
    check.eq((record.response.message.payload, record.response.message.code), (b"22.5", coap.CONTENT))
    check.eq(record.response.message.request is record.message, True)
    check.eq((record.transmitted_ms, record.last_event_ms, record.next_event_ms), (0, 700, None))
    check.eq(run(engine, 700, 400000), [])


def test_response_when_it_is_an_error_then_it_is_a_response():
    """RFC 7252 section 5.9: 4.04 and 5.00 end the exchange without an exception."""
    for code in (coap.NOT_FOUND, coap.INTERNAL_SERVER_ERROR):
        engine, record, _ = started()
        engine.receive(response(record, code=code), PEER, 10)
        check.eq((record.error, record.response.message.code), (None, code))


def test_response_when_it_matches_in_part_only_then_it_is_ignored_and_the_timer_runs():
    """RFC 7252 section 5.3.2: peer, token and, in an ACK, the message ID."""
    engine, record, first = started()
    other_token = bytes((record.token[0] ^ 1,)) + record.token[1:]
    for datagram, peer in (
        (response(record, mid=record.mid ^ 1), PEER),
        (response(record), OTHER),
        (response(record), (PEER[0], 5684)),
        (packet(coap.CONTENT, record.mid, coap.ACK, other_token), PEER),
        (packet(coap.CONTENT, record.mid, coap.ACK, record.token[:7]), PEER),
        (empty(coap.ACK, record.mid ^ 1), PEER),
        (empty(coap.ACK, record.mid), OTHER),
        (empty(coap.RST, record.mid), OTHER),
        (empty(coap.RST, record.mid ^ 1), PEER),
    ):
        check.eq(engine.receive(datagram, peer, 10), None)
        check.eq((engine.received, record.is_done(), record.next_event_ms), (None, False, 2000))
    check.eq(due(engine, 2000), [first])


def test_response_when_it_comes_before_the_ack_then_the_exchange_ends():
    """RFC 7252 section 5.2.2: the ACK was lost; CON is acknowledged, NON is not."""
    engine, record, _ = started()
    check.eq(bytes(engine.receive(response(record, coap.CON, 99), PEER, 10)), empty(coap.ACK, 99))
    check.eq((record.is_done(), record.error, record.response_type), (True, None, coap.CON))
    check.eq(engine.receive(empty(coap.ACK, record.mid), PEER, 20), None)
    check.eq(run(engine, 20, 400000), [])
    engine, record, _ = started()
    check.eq(engine.receive(response(record, coap.NON, 99), PEER, 10), None)
    check.eq((record.is_done(), record.response_type), (True, coap.NON))


def test_response_when_separate_then_the_ack_stops_retransmission():
    """RFC 7252 section 5.2.2: empty ACK, later a CON that is acknowledged."""
    engine, record, _ = started()
    check.eq(engine.receive(empty(coap.ACK, record.mid), PEER, 10), None)
    check.eq((record.is_done(), record.response_type, record.transmissions_left), (False, coap.ACK, 0))
    check.eq((engine.received, record.last_event_ms, record.next_event_ms), (None, 10, 62000))
    check.eq(run(engine, 10, 60000), [])
    check.eq(bytes(engine.receive(response(record, coap.CON, 7), PEER, 60000)), empty(coap.ACK, 7))
    check.eq((engine.received is record.response, record.error, record.response_type), (True, None, coap.ACK))


def test_response_when_separate_and_repeated_then_acknowledged_again_and_delivered_once():
    """RFC 7252 section 4.5: remembered for EXCHANGE_LIFETIME, then a stranger's."""
    engine, record, _ = started(tuning=coap.Tuning())
    engine.receive(empty(coap.ACK, record.mid), PEER, 10)
    datagram = response(record, coap.CON, 7)
    engine.receive(datagram, PEER, 1000)
    for now_ms in (1100, 50000, 247999):
        run(engine, now_ms, now_ms)
        check.eq(bytes(engine.receive(datagram, PEER, now_ms)), empty(coap.ACK, 7))
        check.eq(engine.received, None)
    check.eq(bytes(engine.receive(datagram, PEER, 248001)), empty(coap.RST, 7))


def test_response_when_separate_and_lost_then_timeout_at_the_deadline():
    """RFC 7252 section 5.2.2: the deadline counts from the first transmission; it was acknowledged."""
    for timeout_ms, deadline_ms in ((None, 62000), (5000, 5000), (200000, 200000)):
        engine, record, _ = started(timeout_ms=timeout_ms)
        engine.receive(empty(coap.ACK, record.mid), PEER, 1500)
        check.eq(given_up_ms(engine, record, 400000), deadline_ms)
        check.eq((record.error, record.is_unacknowledged), (coap.Timeout, False))


def test_response_when_the_request_was_non_then_any_type_but_ack_answers_it():
    """RFC 7252 section 5.2.3: a NON or a CON."""
    engine, record, _ = started(get(mtype=coap.NON))
    engine.receive(response(record), PEER, 10)
    check.eq(record.is_done(), False)
    check.eq(bytes(engine.receive(response(record, coap.CON, 8), PEER, 20)), empty(coap.ACK, 8))
    check.eq((record.is_done(), record.response_type), (True, coap.CON))


def test_response_when_it_has_a_critical_option_then_rejected():
    """RFC 7252 section 5.4.1: Reset to a CON, silence to an ACK and a NON."""
    for mtype, mid, reply in ((coap.CON, 9, empty(coap.RST, 9)), (coap.ACK, None, None), (coap.NON, 9, None)):
        engine, record, _ = started()
        datagram = coap.Message.decode(response(record, mtype, mid)).add_option(9999, b"").encode()
        got = engine.receive(datagram, PEER, 10)
        check.eq(got and bytes(got), reply)
        check.eq((record.error, record.is_done(), engine.received), (coap.Rejected, True, None))


def test_response_when_nobody_waits_then_reset_to_a_con():
    """RFC 7252 section 4.2: ACK and NON are ignored."""
    engine = fake.engine()
    check.eq(bytes(engine.receive(packet(coap.CONTENT, 5), PEER, 0)), empty(coap.RST, 5))
    check.eq(engine.receive(packet(coap.CONTENT, 5, coap.NON), PEER, 0), None)
    check.eq(engine.receive(packet(coap.CONTENT, 5, coap.ACK), PEER, 0), None)


def test_reset_when_it_answers_a_request_then_the_error_is_reset():
    """RFC 7252 section 4.2: for CON and NON; a record for the application."""
    for mtype in (coap.CON, coap.NON):
        engine, record, _ = started(get(mtype=mtype))
        check.eq(engine.receive(empty(coap.RST, record.mid), PEER, 30), None)
        check.eq((record.error, record.is_done(), record.response_type), (coap.Reset, True, coap.RST))
        check.eq((engine.received is record.response, record.is_unacknowledged), (True, False))
        check.eq(record.response.message.mtype, coap.RST)
        check.eq(due(engine, 300000), [])


def test_reset_when_the_request_was_acknowledged_then_it_is_ignored():
    """RFC 7252 section 4.2: a message is acknowledged or rejected, not both."""
    engine, record, _ = started()
    engine.receive(empty(coap.ACK, record.mid), PEER, 10)
    engine.receive(empty(coap.RST, record.mid), PEER, 20)
    check.eq((record.is_done(), engine.received), (False, None))


def test_ping_when_answered_then_it_ends_with_reset():
    """RFC 7252 section 4.3: an empty CON of 4 bytes without token."""
    engine, record, datagram = started(coap.Message(0, mtype=coap.CON))
    check.eq(datagram, empty(coap.CON, record.mid))
    engine.receive(empty(coap.RST, record.mid), PEER, 10)
    check.eq((record.error, record.response.message.mtype), (coap.Reset, coap.RST))
    check.eq(engine.received is record.response, True)


def test_ping_when_unanswered_then_timeout():
    """RFC 7252 section 4.3: repeated like every CON."""
    engine, record, first = started(coap.Message(0))
    check.eq(run(engine, 0, 100000), [(n, first) for n in (2000, 6000, 14000, 30000)])
    check.eq((record.error, record.is_unacknowledged), (coap.Timeout, True))


def test_cancel_when_sent_then_no_retransmission_and_a_late_response_is_reset():
    """RFC 7252 section 4.2: giving up; the ACK that still comes is ignored."""
    engine, record, _ = started()
    record.cancel()
    check.eq((record.is_done(), record.error, record.is_unacknowledged), (True, None, False))
    check.eq(run(engine, 0, 300000), [])
    check.eq(engine.receive(empty(coap.ACK, record.mid), PEER, 10), None)
    check.eq(bytes(engine.receive(response(record, coap.CON, 6), PEER, 20)), empty(coap.RST, 6))
    check.eq(engine.receive(response(record), PEER, 30), None)
    check.eq((engine.received, record.response), (None, None))
    record.cancel()


def test_cancel_when_queued_then_it_is_never_sent():
    """RFC 7252 section 4.2: and the queue has room again."""
    engine, _, _ = started(queued=1)
    engine.send(get(), PEER).cancel()
    record = engine.send(get(token=b"last"), PEER)
    run(engine, 0, 30000)
    sent = run(engine, 31000, 62000)
    check.eq((record.transmitted_ms, sent[-1][1][4:8], len(sent)), (62000, b"last", 1))


def test_cancel_when_sent_then_the_next_may_go():
    """RFC 7252 section 4.7: it is no longer outstanding."""
    engine, record, _ = started()
    engine.send(get(), PEER)
    check.eq(due(engine, 5), [])
    record.cancel()
    check.eq(len(due(engine, 5)), 1)


def test_timeout_when_shorter_than_the_back_off_then_it_ends_there():
    """RFC 7252 section 4.2: the application gives up first; it was not acknowledged."""
    engine, record, first = started(timeout_ms=5000)
    check.eq(run(engine, 0, 4999), [(2000, first)])
    check.eq(due(engine, 5000), [])
    check.eq((record.error, record.is_unacknowledged), (coap.Timeout, True))
    engine, record, _ = started(timeout_ms=1)
    check.eq((engine.next_ms(0), due(engine, 1), record.error), (1, [], coap.Timeout))


def test_timeout_when_longer_than_the_back_off_then_it_ends_with_the_back_off():
    """RFC 7252 section 4.2: after MAX_RETRANSMIT without ACK nothing is to be expected."""
    engine, record, _ = started(timeout_ms=500000)
    check.eq(given_up_ms(engine, record, 600000), 62000)
    check.eq((record.error, record.is_unacknowledged), (coap.Timeout, True))


def test_timeout_when_queued_then_it_counts_from_the_first_transmission():
    """RFC 7252 section 4.7: waiting for one's turn takes nothing from it."""
    engine, first, _ = started()
    second = engine.send(get(), PEER, 3000)
    run(engine, 0, 61000)
    check.eq((first.is_done(), second.is_done()), (False, False))
    run(engine, 62000, 64999)
    check.eq((second.transmitted_ms, second.is_done()), (62000, False))
    due(engine, 65000)
    check.eq(second.error, coap.Timeout)


def test_request_when_there_was_no_memory_to_send_it_then_sent_later_and_it_ends():
    """RFC 7252 section 4.2: whatever is not there when its turn comes, it is neither lost nor open for ever."""
    for mtype in (coap.CON, coap.NON):
        engine = fake.engine(tuning=EXACT)
        record = engine.send(get(mtype=mtype), PEER, 3000)
        random = engine.random
        engine.random = raiser(MemoryError())
        for now_ms in (10, 20, 30):
            check.raises(MemoryError, engine.due, now_ms)
            check.eq((engine.next_ms(now_ms), record.is_done()), (0, False))
        engine.random = random
        datagram = due(engine, 40)[0]
        check.eq((datagram[1], len(due(engine, 2040))), (coap.GET, int(mtype == coap.CON)))
        run(engine, 2040, 4000)
        check.eq((record.error, engine._open), (coap.Timeout, []))


def test_message_when_there_was_no_memory_to_pack_another_then_the_one_on_its_way_is_whole():
    """Engine.resend: half of a request, as a PUT without its payload, must not leave as a retransmission."""
    engine, record, first = started(get(code=coap.PUT, payload=b"on"))
    broken = get(code=coap.PUT, payload=b"on")
    broken.packet[7] = [0x6F, "n"]  # a payload that cannot be packed
    check.raises(TypeError, engine.resend, record, broken)
    check.eq(due(engine, 2000), [first])


def test_separate_response_when_sent_then_repeated_until_acknowledged():
    """RFC 7252 section 5.2.2: a CON with the request's token and a message ID of its own; its ACK ends it."""
    engine = fake.engine(tuning=EXACT)
    laters = []

    @engine.resource("slow")
    def slow(request, response):
        laters.append(response.copy(payload="done"))
        return coap.LATER

    engine.receive(packet(coap.GET, 1, uri_path=("slow",)), PEER, 0)
    record = engine.send(laters[0])
    sent = run(engine, 0, 7000)
    check.eq(times(sent), [0, 2000, 6000])
    check.eq(sent[0][1], packet(coap.CONTENT, record.mid, coap.CON, payload="done"))
    engine.receive(empty(coap.ACK, record.mid), PEER, 7000)
    check.eq((record.is_done(), record.error, record.response_type), (True, None, coap.ACK))
    check.eq((run(engine, 7000, 300000), engine.received), ([], None))


# ---- the time of the next event ----


def test_next_ms_when_a_message_lives_then_it_names_time_and_reason():
    """RFC 7252 section 4.2: how long a program may sleep."""
    engine = fake.engine(tuning=EXACT)
    check.eq((engine.next_ms(0), engine.next_event_reason), (None, None))
    record = engine.send(get(), PEER)
    check.eq((engine.next_ms(0), engine.next_event_reason), (0, "send"))
    due(engine, 0)
    check.eq((engine.next_ms(500), engine.next_event_reason), (1500, "retransmit"))
    check.eq(engine.next_ms(2500), 0)
    engine.receive(empty(coap.ACK, record.mid), PEER, 600)
    check.eq((engine.next_ms(600), engine.next_event_reason), (61400, "response timeout"))
    engine.receive(response(record, coap.NON, 9), PEER, 700)
    check.eq((engine.next_ms(700), engine.next_event_reason), (231300, "housekeeping"))
    check.eq(run(engine, 700, 400000), [])
    check.eq((engine.next_ms(400000), engine.next_event_reason), (None, None))


def test_next_ms_when_the_last_transmission_went_then_the_reason_is_the_timeout():
    """RFC 7252 section 4.2: the wait of 16 T; and a NON has no other."""
    engine, _, _ = started()
    run(engine, 0, 30000)
    check.eq((engine.next_ms(30000), engine.next_event_reason), (32000, "response timeout"))
    engine, _, _ = started(get(mtype=coap.NON))
    check.eq((engine.next_ms(0), engine.next_event_reason), (62000, "response timeout"))


def test_next_ms_when_a_message_must_wait_for_its_turn_then_it_is_not_0():
    """RFC 7252 section 4.7: the program sleeps until the other one's event."""
    engine, _, _ = started()
    engine.send(get(), PEER)
    check.eq(engine.next_ms(500), 1500)


def test_next_ms_when_two_messages_are_open_then_the_sooner_event():
    """RFC 7252 section 4.2: whichever was sent first."""
    engine, _, _ = started()
    engine.send(get(), OTHER)
    due(engine, 500)
    check.eq(engine.next_ms(600), 1400)


def test_close_when_exchanges_are_open_then_they_end_with_closed():
    """RFC 7252 section 4.2: sent, acknowledged and queued ones, and the transport is closed."""
    transport = fake.Transport()
    with coap.Endpoint(sock=transport) as endpoint:
        records = [endpoint.send(get(), PEER), endpoint.send(get(), OTHER)]
        endpoint.process(0)
        endpoint.receive(empty(coap.ACK, records[0].mid), PEER, coap.ticks_ms())
        records += [endpoint.send(get(), OTHER)]
    check.eq([record.error for record in records], [coap.Closed] * 3)
    check.eq([(record.is_done(), record.is_unacknowledged) for record in records], [(True, False)] * 3)
    check.eq(transport.closed, 1)
    endpoint.close()
    check.eq(transport.closed, 1)


# ---- groups ----


def asked_group(count):
    """(engine, record) of a group's request that `count` of its members have answered."""
    engine = fake.engine()
    record = engine.send(get(), ("224.0.1.187", 5683))
    due(engine, 0)
    for n in range(count):
        engine.receive(response(record, coap.NON, n, payload=bytes((n,))), ("192.0.2.%d" % n, 5683), n)
        check.eq(engine.received.message.payload, bytes((n,)))
    return engine, record


def test_group_when_members_answer_then_each_once_until_the_time_is_over():
    """RFC 7252 section 8.2: of any address, with the token; no Timeout then."""
    engine, record = asked_group(3)
    check.eq(engine.receive(response(record, coap.NON, 9), ("192.0.2.1", 5683), 50), None)
    check.eq((engine.received, record.is_done(), len(record.responses)), (None, False, 3))
    check.eq(engine.receive(packet(coap.CONTENT, 9, coap.NON, b"other"), ("192.0.2.8", 5683), 60), None)
    check.eq((run(engine, 60, 92999), record.is_done()), ([], False))
    due(engine, 93000)
    check.eq((record.is_done(), record.error, record.response is record.responses[0]), (True, None, True))


def test_group_when_a_response_is_rejected_then_the_others_count():
    """RFC 7252 section 5.4.1: one member's critical option does not end the exchange."""
    engine, record = asked_group(0)
    engine.receive(response(record, coap.NON, 1, if_match=(b"x",)), ("192.0.2.1", 5683), 1)
    check.eq((engine.received, record.is_done()), (None, False))
    engine.receive(response(record, coap.NON, 1), ("192.0.2.2", 5683), 1)
    check.eq(len(record.responses), 1)


def test_group_when_a_member_answers_again_or_too_many_do_then_acknowledged_and_ignored():
    """RFC 7252 section 5.2.2: a CON, which a Reset would tell that nobody awaits it."""
    for host, limit in ("192.0.2.1", 16), ("192.0.2.2", 1):
        engine = fake.engine(group_responses=limit)
        record = engine.send(get(), ("224.0.1.187", 5683))
        due(engine, 0)
        engine.receive(response(record, coap.CON, 1), ("192.0.2.1", 5683), 1)
        reply = bytes(engine.receive(response(record, coap.CON, 2), (host, 5683), 2))
        check.eq((reply, len(record.responses)), (empty(coap.ACK, 2), 1))


def test_group_when_no_responses_are_kept_then_those_of_one_peer_are():
    """RFC 7252 section 8.2: the table is for groups."""
    engine, record, _ = started(group_responses=0)
    engine.receive(response(record), PEER, 1)
    check.eq((record.is_done(), len(record.responses)), (True, 1))


def test_group_when_nobody_answers_then_timeout():
    """RFC 7252 section 8.2: sent once."""
    engine, record = asked_group(0)
    check.eq(run(engine, 0, 93000), [])
    check.eq((record.error, record.responses, record.is_unacknowledged), (coap.Timeout, (), False))


# ---- rare cases ----


def test_no_response_when_the_server_answers_all_the_same_then_its_ack_ends_the_exchange():
    """RFC 7967 section 2: the option is elective; RFC 7252 section 4.2: the ACK ends the retransmission."""
    message = coap.Message(coap.PUT, uri_path=("t",), payload="x", no_response=26)
    engine, record, _ = started(message)
    engine.receive(response(record, code=coap.CHANGED), PEER, 50)
    check.eq(run(engine, 60, 200000), [])
    check.eq((record.is_done(), record.error, record.response.message.code), (True, None, coap.CHANGED))


def test_no_response_when_a_response_comes_before_the_ack_then_the_exchange_goes_on():
    """RFC 7967 section 2: it is not waited for; RFC 7252 section 4.2: the ACK is."""
    engine, record, _ = started(coap.Message(coap.PUT, uri_path=("t",), payload="x", no_response=26))
    check.eq(engine.receive(response(record, coap.NON, 9, coap.CHANGED), PEER, 50), None)
    check.eq((record.is_done(), engine.received), (False, None))


def test_response_when_an_ack_brings_one_to_a_ping_then_it_is_none():
    """RFC 7252 section 4.3: a ping has no request to be answered."""
    engine, record, _ = started(coap.Message(0, mtype=coap.CON))
    engine.receive(response(record), PEER, 50)
    check.eq((record.is_done(), engine.received), (False, None))


def test_token_when_it_is_a_bytearray_then_the_response_is_found():
    """RFC 7252 section 5.3.1: and what the caller does with it later changes nothing."""
    token = bytearray(b"ab")
    engine, record, _ = started(get(token=token))
    token[0] = 0
    engine.receive(packet(coap.CONTENT, record.mid, coap.ACK, b"ab"), PEER, 50)
    check.eq((record.is_done(), record.error), (True, None))


class Counting(coap.Engine):
    """Counts the calls of due that have not returned."""

    depth = deepest = 0

    def due(self, now_ms):
        self.depth += 1
        self.deepest = max(self.depth, self.deepest)
        datagram = super().due(now_ms)
        self.depth -= 1
        return datagram


def test_due_when_many_exchanges_end_at_once_then_it_does_not_call_itself():
    """RFC 7252 section 4.2: 4096 may be open, and the stack of a board ends before."""
    engine = Counting(fake.Random(3).bytes, transmissions=8)
    records = [engine.send(get(mtype=coap.NON), ("192.0.2.%d" % n, 5683), 1000) for n in range(8)]
    due(engine, 0)
    check.eq((due(engine, 1000), engine.deepest), ([], 1))
    check.eq(set([record.error for record in records]), {coap.Timeout})


def test_on_end_when_it_ends_another_then_the_rest_goes_on():
    """RFC 7252 section 4.2: three exchanges time out at once, the first ends the second."""
    engine = fake.engine(transmissions=3, tuning=EXACT)
    records = [engine.send(get(mtype=coap.NON), ("192.0.2.%d" % n, 5683), 1000) for n in range(3)]
    records[0].on_end = lambda record: records[1].cancel()
    due(engine, 0)
    due(engine, 1000)
    check.eq([record.error for record in records], [coap.Timeout, None, coap.Timeout])
    check.eq([record.is_done() for record in records], [True, True, True])


def test_timeout_when_ticks_cannot_tell_it_then_value_error():
    """RFC 7252 section 4.8: at once, not when it is due."""
    engine = fake.engine()
    for timeout_ms in (-1, 1 << 29):
        check.raises(ValueError, engine.send, get(), PEER, timeout_ms, contains="timeout_ms")
    check.raises(TypeError, engine.send, get(), PEER, 1.5)
    for ack_timeout_ms, max_retransmit in (600000, 10), (424000, 6):
        check.raises(ValueError, coap.Tuning, ack_timeout_ms, 1000, max_retransmit, contains="max_transmit_wait_ms")


def test_timeout_when_the_tuning_is_the_longest_then_in_that_time():
    """RFC 7252 section 4.8.2: a NON request waits for MAX_TRANSMIT_WAIT, a CON is sent again for as long at most."""
    tuning = coap.Tuning(422000, 1000, 5)
    for mtype in coap.CON, coap.NON:
        engine = fake.engine(tuning=tuning)
        record = engine.send(get(mtype=mtype), PEER)
        sent = run(engine, 0, tuning.max_transmit_wait_ms - 1)
        check.eq((len(sent), record.is_done()), (6, True) if mtype == coap.CON else (1, False))
        due(engine, tuning.max_transmit_wait_ms)
        check.eq(record.error, coap.Timeout)


def test_send_when_the_code_is_of_class_1_then_value_error():
    """RFC 7252 section 12.1: it is no request's and no response's."""
    engine = fake.engine()
    for code in (32, 63):
        check.raises(ValueError, engine.send, coap.Message(code), PEER)


class Short(list):
    """A list that finds no memory for its next item."""

    is_short = True

    def append(self, item):
        if self.is_short:
            self.is_short = False
            raise MemoryError
        super().append(item)


class Crowded(coap.TransmissionRecord):
    """A record that finds no memory for a new attribute, once."""

    short = None

    def __setattr__(self, name, value):
        if name == Crowded.short:
            Crowded.short = None
            raise MemoryError
        object.__setattr__(self, name, value)


def test_send_when_there_is_no_memory_for_the_first_transmission_then_it_goes_when_there_is():
    """RFC 7252 section 4.2: a request that waits in request() for its end has one, wherever memory ends"""

    def fail(n):
        engine.random = random
        raise MemoryError

    kept = coap.TransmissionRecord
    coap.TransmissionRecord = Crowded
    try:
        for short in (None, "random", "last_event_ms", "transmitted_ms", "next_event_ms", "state"):
            for mtype in (coap.CON, coap.NON):
                engine = fake.engine()
                random = engine.random
                record = engine.send(coap.Message(coap.GET, mtype=mtype, uri_path=("t",)), fake.PEER)
                if short is None:
                    engine._open = Short()
                elif short == "random":
                    engine.random = fail
                else:
                    Crowded.short = short
                check.raises(MemoryError, engine.due, 7)
                check.eq(engine.next_ms(7), 0, short)
                sent = fake.run(engine, 8, 200000)
                check.eq((len(sent), sent[0][0]), (5 if mtype == coap.CON else 1, 8), short)
                check.eq((record.error, record.is_done(), engine._open, engine._queue), (coap.Timeout, True, [], []))
    finally:
        coap.TransmissionRecord = kept
