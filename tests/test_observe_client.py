"""Observe at the client (RFC 7641): what is newer, when to register again, and how an observation ends."""

import check
import coap
import coap_observe
import fake
from fake import EXACT, PEER, packet

OTHER = ("192.0.2.2", 5683)
CON, NON, RST, ACK = coap.CON, coap.NON, coap.RST, coap.ACK
STALE_MS = 60000 + 5000  # default Max-Age and the least of 5 to 15 s


class Observing:
    """A client that observes; the test plays the server and the clock. `heard` is what the application was given."""

    def __init__(self, is_called=True, limits=None, observes=True, **options):
        self.engine = fake.engine(tuning=EXACT, transmissions=8)
        self.extension = coap_observe.attach(self.engine, **(limits or {}))
        self.now_ms = 1000
        self.mid = 0x500
        self.heard = []
        self.log = []
        self.engine.log = lambda text, value: self.log.append((text, value))
        self.observation = None
        if observes:
            options.setdefault("uri_path", ("t",))
            callback = self.hear if is_called else None
            self.observation = coap_observe.observe(self.engine, None, callback, remote=PEER, **options)
            self.request = self.due()[0]

    def hear(self, message):
        self.heard.append(message.payload)

    def due(self):
        """What is sent now, as Messages."""
        return [coap.Message.decode(data) for data in fake.due(self.engine, self.now_ms)]

    def run(self, ms):
        """[(ms from now, Message)] of what is sent while nobody answers; the time is then `ms` later."""
        begin_ms = self.now_ms
        end_ms = coap.ticks_add(begin_ms, ms)
        sent = []
        for _ in range(2000):
            passed_ms = coap.ticks_diff(self.now_ms, begin_ms)
            sent += [(passed_ms, message) for message in self.due()]
            step_ms = self.engine.next_ms(self.now_ms)
            if step_ms is None or coap.ticks_diff(end_ms, self.now_ms) < step_ms:
                self.now_ms = end_ms
                return sent
            self.now_ms = coap.ticks_add(self.now_ms, step_ms)
        raise AssertionError("something is due for ever")

    def receive(self, data):
        """A datagram of the server; returns the reply (type, code, mid), and takes what process() would return."""
        reply = self.engine.receive(data, PEER, self.now_ms)
        received = self.engine.received
        if received is not None:
            check.eq(received.pertains_to, self.observation.record)
            self.heard.append(received.message.payload)
        return fake.head(reply and bytes(reply))

    def answer(self, request=None, number=1, payload=b"first", code=coap.CONTENT, **options):
        """The piggybacked response to a request (the registration), with Observe unless `number` is None."""
        request = request or self.request
        if number is not None:
            options["observe"] = number
        return self.receive(packet(code, request.mid, ACK, request.token, payload=payload, **options))

    def notify(self, number, payload=b"x", mtype=NON, code=coap.CONTENT, **options):
        """A notification."""
        self.mid += 1
        if number is not None:
            options["observe"] = number
        return self.receive(packet(code, self.mid, mtype, self.request.token, payload=payload, **options))


# ---- the reordering rule ----

HALF = 1 << 23


def rfc_says(v1, v2, passed_ms):
    """The condition of RFC 7641 section 3.4, word by word."""
    return v1 < v2 and v2 - v1 < HALF or v1 > v2 and v1 - v2 > HALF or passed_ms > 128000


EDGES = (0, 1, 2, HALF - 2, HALF - 1, HALF, HALF + 1, HALF + 2, 2 * HALF - 2, 2 * HALF - 1)


def test_newer_when_at_the_edges_then_as_the_rfc_says():
    """RFC 7641 section 3.4: 24 bits, half of them, 128 s, exhaustive at the edges."""
    for v1 in EDGES:
        for v2 in EDGES:
            for passed_ms in (0, 1, 127999, 128000, 128001, 1 << 28):
                is_newer = coap_observe.is_newer(v2, v1, passed_ms)
                check.eq(is_newer, rfc_says(v1, v2, passed_ms), (v1, v2, passed_ms))


def test_newer_when_a_late_one_comes_then_it_is_not_passed_on():
    """RFC 7641 section 3.4: also the same number again, also as a CON, which is acknowledged all the same."""
    for is_called in (True, False):
        client = Observing(is_called)
        client.answer(number=5)
        client.notify(7, b"seven")
        check.eq(client.notify(6, b"late"), None)
        check.eq(client.notify(7, b"twice"), None)
        check.eq(client.notify(6, b"late", CON), (ACK, 0, client.mid))
        client.notify(8, b"eight", CON)
        check.eq(client.heard, [b"first", b"seven", b"eight"])


def test_newer_when_128_s_have_passed_then_any_number_is():
    """RFC 7641 section 3.4: T2 > T1 + 128 s, T1 the time of the newest, not of what was ignored."""
    client = Observing()
    client.answer(number=5, max_age=1000)
    client.now_ms += 100000
    client.notify(4, b"old", max_age=1000)
    client.now_ms += 28000
    client.notify(4, b"old", max_age=1000)
    client.now_ms += 1
    client.notify(4, b"new", max_age=1000)
    check.eq(client.heard, [b"first", b"new"])


def test_newer_when_the_clock_wraps_then_time_goes_on():
    """RFC 7641 section 3.4: 128 s across the end of ticks."""
    for before_ms in (1, 127999, 128000):
        client = Observing(observes=False)
        client.now_ms = coap.ticks_add(0, -before_ms)
        client.observation = coap_observe.observe(client.engine, None, client.hear, remote=PEER, uri_path=("t",))
        client.request = client.due()[0]
        client.answer(number=5, max_age=1000)
        client.now_ms = coap.ticks_add(client.now_ms, 128000)
        client.notify(4, b"old", max_age=1000)
        client.now_ms = coap.ticks_add(client.now_ms, 1)
        client.notify(4, b"new", max_age=1000)
        check.eq(client.heard, [b"first", b"new"])


def test_newer_when_a_notification_overtakes_the_answer_then_the_answer_is_late():
    """RFC 7641 section 3.4: the response to the registration is ordered, too."""
    client = Observing()
    client.notify(2, b"two")
    client.answer(number=1, payload=b"one")
    check.eq(client.heard, [b"two"])
    check.eq(client.run(3000), [])


# ---- registration and delivery ----


def test_register_when_observed_then_a_get_with_observe_0_goes():
    """RFC 7641 section 3.1: an empty Observe option is 0; options and method are the caller's."""
    client = Observing(accept=coap.JSON)
    check.eq((client.request.code, client.request.mtype), (coap.GET, CON))
    check.eq((client.request.opt.observe, client.request.opt.uri_path, client.request.opt.accept), (0, ("t",), 50))
    check.eq(client.request.find_option(6), (0,))
    client = Observing(method=coap.FETCH, payload=b"body", mtype=NON)
    check.eq((client.request.code, client.request.mtype, client.request.payload), (coap.FETCH, NON, b"body"))


def test_register_when_answered_then_notifications_come_by_the_callback_or_by_process():
    """RFC 7641 section 3.2: all have the token of the registration; each is a Message."""
    for is_called in (True, False):
        client = Observing(is_called)
        check.eq(client.answer(), None)
        check.eq(client.notify(2, b"two"), None)
        check.eq(client.notify(3, b"three", CON), (ACK, 0, client.mid))
        check.eq(client.notify(4, b"", code=coap.VALID), None)
        check.eq(client.heard, [b"first", b"two", b"three", b""])
        check.eq((client.observation.is_done(), client.observation.error), (False, None))


def test_register_when_acknowledged_first_then_the_separate_response_counts():
    """RFC 7252 section 5.2.2: an empty ACK, then the response as a CON."""
    client = Observing()
    client.receive(fake.empty(ACK, client.request.mid))
    check.eq(client.notify(1, b"one", CON), (ACK, 0, client.mid))
    client.notify(2, b"two")
    check.eq(client.heard, [b"one", b"two"])


def test_register_when_a_con_comes_twice_then_it_is_acknowledged_twice_and_heard_once():
    """RFC 7252 section 4.5: duplicates."""
    client = Observing()
    client.answer()
    client.notify(2, b"two", CON)
    client.mid -= 1
    check.eq(client.notify(2, b"two", CON), (ACK, 0, client.mid))
    check.eq(client.heard, [b"first", b"two"])


def test_register_when_the_answer_has_no_observe_then_it_has_ended():
    """RFC 7641 section 3.1: the server does not observe, or its list is full; the representation is passed on."""
    for is_called in (True, False):
        client = Observing(is_called)
        client.answer(number=None, payload=b"only")
        check.eq(client.heard, [b"only"])
        check.eq((client.observation.is_done(), client.observation.error), (True, coap_observe.NotObserved))
        check.eq((client.extension.observations, client.engine._open), ([], []))
        check.eq(client.run(300000), [])


def test_register_when_nobody_answers_then_it_ends_with_timeout():
    """RFC 7252 section 4.2: five transmissions, then 93 s at most."""
    client = Observing()
    check.eq([passed_ms for passed_ms, _ in client.run(93000)], [2000, 6000, 14000, 30000])
    check.eq((client.observation.is_done(), client.observation.error), (True, coap.Timeout))
    check.eq(client.extension.observations, [])


def test_register_when_reset_then_it_ends_with_reset():
    """RFC 7252 section 4.2: the server could not make sense of it."""
    client = Observing()
    client.engine.receive(fake.empty(RST, client.request.mid), PEER, client.now_ms)
    check.eq((client.observation.is_done(), client.observation.error), (True, coap.Reset))


def test_register_when_the_slots_are_used_then_the_caller_is_told():
    """Bounded: observations=2."""
    client = Observing(limits={"observations": 2})
    second = coap_observe.observe(client.engine, None, remote=PEER, uri_path=("u",))
    check.raises(coap.Full, coap_observe.observe, client.engine, None, remote=PEER, contains="2 resources")
    second.record.cancel()
    check.eq((second.is_done(), second.error), (True, None))
    coap_observe.observe(client.engine, None, remote=PEER, uri_path=("v",))


def test_register_when_nothing_was_attached_then_it_is():
    """A client needs one line."""
    engine = fake.engine()
    coap_observe.observe(engine, None, remote=PEER)
    coap_observe.observe(engine, None, remote=PEER)
    check.eq((len(engine.observing.observations), len(engine._extensions)), (2, 1))


def test_register_when_the_remote_is_a_group_then_the_caller_is_told():
    """RFC 7641 is for one server."""
    client = Observing(observes=False)
    group = ("224.0.1.187", 5683)
    check.raises(ValueError, coap_observe.observe, client.engine, None, remote=group, contains="group")
    check.eq((client.engine._queue, client.extension.observations), ([], []))


def test_register_when_two_resources_then_each_hears_its_own():
    """Several observations of one server differ by their tokens."""
    client = Observing()
    client.answer()
    heard = []
    second = coap_observe.observe(client.engine, None, heard.append, remote=PEER, uri_path=("u",))
    first_request = client.request
    client.request = client.due()[0]
    check.eq(client.request.token == first_request.token, False)
    client.answer(number=9, payload=b"u")
    client.notify(10, b"v")
    client.request = first_request
    client.notify(2, b"two")
    check.eq([message.payload for message in heard], [b"u", b"v"])
    check.eq(client.heard, [b"first", b"two"])
    check.eq(second.is_done(), False)


def test_callback_when_it_raises_then_the_log_is_told_and_the_next_comes():
    """An error of the application does not stop the endpoint."""
    client = Observing()

    def fail(message):
        client.heard.append(message.payload)
        raise KeyError("no")

    client.observation.on_notification = fail
    client.answer()
    client.notify(2, b"two")
    check.eq(client.heard, [b"first", b"two"])
    check.eq([text for text, _ in client.log], ["on_notification"] * 2)


def test_callback_when_it_calls_process_then_it_is_told():
    """As in a handler: process() and request() are not for callbacks."""
    client = Observing()
    client.observation.on_notification = lambda message: client.heard.append(client.engine._is_in_handler)
    client.answer()
    check.eq((client.heard, client.engine._is_in_handler), ([True], False))


# ---- registering again ----


def renewal(client, most_ms=200000):
    """(ms until the client registers again, the request)."""
    sent = client.run(most_ms)
    return sent[0] if sent else None


def test_renew_when_max_age_and_5_to_15_s_are_over_then_registered_again_with_the_same_token():
    """RFC 7641 section 3.3.1: spread at random, so that not all clients ask at once."""
    for byte, late_ms in ((0, 5000), (128, 10020), (255, 15000)):
        client = Observing()
        client.engine.random = lambda n, byte=byte: bytes((byte,)) * n
        client.answer(max_age=30)
        passed_ms, request = renewal(client)
        check.eq(passed_ms, 30000 + late_ms)
        check.eq(request.token, client.request.token)
        check.eq(request.mid == client.request.mid, False)
        check.eq((request.opt.observe, request.opt.uri_path), (0, ("t",)))


def test_renew_when_there_is_no_max_age_then_it_is_60_s():
    """RFC 7252 section 5.10.5: the default."""
    client = Observing()
    client.answer()
    passed_ms, _ = renewal(client)
    check.eq(65000 <= passed_ms <= 75000, True)


def test_renew_when_notifications_come_then_not_before_the_latest_is_stale():
    """RFC 7641 section 3.3.1: each notification starts anew; one that is late does not."""
    client = Observing()
    client.engine.random = lambda n: bytes(n)
    client.answer()
    for n in range(10):
        check.eq(client.run(60000), [])
        client.notify(n + 2)
    client.run(30000)
    client.notify(3)
    check.eq(renewal(client)[0], 35000)


def test_renew_when_max_age_is_0_or_for_ever_then_within_bounds():
    """RFC 7252 section 5.10.5: 0 to 136 years; a clock of 12 days is not confused by it."""
    client = Observing()
    client.engine.random = lambda n: bytes(n)
    client.answer(max_age=0)
    check.eq(renewal(client)[0], 5000)
    client = Observing()
    client.engine.random = lambda n: bytes(n)
    client.answer(max_age=0xFFFFFFFF)
    check.eq(renewal(client, 200000000)[0], 172800000 + 5000)


def test_renew_when_answered_then_it_goes_on_even_with_a_smaller_number():
    """RFC 7641 section 3.3.1: the server has rebooted and numbers anew."""
    client = Observing()
    client.answer(number=5000)
    _, again = renewal(client, 75000)
    client.answer(again, number=3, payload=b"rebooted")
    client.notify(4, b"four")
    client.notify(3, b"late")
    check.eq(client.heard, [b"first", b"rebooted", b"four"])
    check.eq(client.observation.is_done(), False)


def test_renew_when_nobody_answers_then_it_ends_with_timeout():
    """A definite end: the application knows 93 s later that the server is gone."""
    client = Observing()
    client.answer()
    client.run(75000 + 93000)
    check.eq((client.observation.is_done(), client.observation.error), (True, coap.Timeout))
    check.eq(client.run(300000), [])


def test_renew_when_the_queue_is_full_then_tried_again():
    """A full queue of ours is no reason to end."""
    client = Observing()
    client.engine.random = lambda n: bytes(n)
    client.answer()
    client.engine._limits = (0,) + client.engine._limits[1:]
    for _ in range(8):
        client.engine.send(coap.Message(coap.GET, uri_path=("x",)), OTHER)
    check.eq(client.run(STALE_MS + 5000), [])
    check.eq((client.observation.is_done(), client.observation.error), (False, None))
    for record in list(client.engine._queue):
        record.cancel()
    client.engine._limits = (8,) + client.engine._limits[1:]
    check.eq([message.token for _, message in client.run(1000)], [client.request.token])


# ---- the end ----


def test_end_when_a_notification_is_an_error_then_it_is_passed_on_and_it_has_ended():
    """RFC 7641 section 3.2: a non-2.xx notification is the last."""
    for is_called in (True, False):
        for mtype in (CON, NON):
            client = Observing(is_called)
            client.answer()
            reply = client.notify(2 if is_called else None, b"gone", mtype, coap.NOT_FOUND)  # with Observe, too
            check.eq(reply, (ACK, 0, client.mid) if mtype == CON else None)
            check.eq(client.heard, [b"first", b"gone"])
            client.observation.cancel()
            check.eq(client.due(), [])
            check.eq((client.observation.is_done(), client.observation.error), (True, coap_observe.NotObserved))
            check.eq(client.run(300000), [])


def test_end_when_an_unknown_critical_option_is_in_it_then_rejected():
    """RFC 7252 section 5.4.1: such a response is rejected, by a Reset that ends it at the server, too."""
    client = Observing()
    client.answer()
    data = coap.Message(coap.CONTENT, mtype=CON, mid=9, token=client.request.token, observe=2)
    data.add_option(25, b"x")
    reply = client.engine.receive(data.encode(), PEER, client.now_ms)
    check.eq(fake.head(bytes(reply)), (RST, 0, 9))
    check.eq((client.observation.is_done(), client.observation.error), (True, coap.Rejected))


def test_cancel_when_called_then_a_get_with_observe_1_ends_it():
    """RFC 7641 section 3.6: same token, other options the same; what comes until the answer is not passed on."""
    client = Observing(accept=50)
    client.answer()
    client.observation.cancel()
    client.observation.cancel()
    request = client.due()[0]
    check.eq((request.token, request.opt.observe, request.opt.accept), (client.request.token, 1, 50))
    check.eq(client.notify(2, b"two", CON), (ACK, 0, client.mid))
    check.eq(client.observation.is_done(), False)
    client.observation.cancel()
    check.eq(client.due(), [])
    client.answer(request, number=None, payload=b"last")
    check.eq((client.observation.is_done(), client.observation.error), (True, None))
    check.eq(client.heard, [b"first"])
    check.eq(client.run(300000), [])
    client.observation.cancel()
    check.eq(client.due(), [])


def test_cancel_when_nobody_answers_then_it_ends_without_error():
    """The server will hear by Reset, should it come back."""
    client = Observing()
    client.answer()
    client.observation.cancel()
    client.run(93000)
    check.eq((client.observation.is_done(), client.observation.error), (True, None))


def test_cancel_when_the_registration_is_on_its_way_then_it_is_cancelled_too():
    """RFC 7641 section 3.6: the answer to the registration comes late and means nothing."""
    client = Observing()
    client.observation.cancel()
    request = client.due()[0]
    check.eq(request.opt.observe, 1)
    check.eq(client.answer(), None)
    client.answer(request, number=None)
    check.eq((client.heard, client.observation.is_done()), ([], True))


def test_cancel_when_the_queue_is_full_then_it_ends_at_once():
    """There is no room to tell the server: its next notification is reset."""
    client = Observing()
    client.answer()
    client.engine._limits = (0,) + client.engine._limits[1:]
    for _ in range(8):
        client.engine.send(coap.Message(coap.GET, uri_path=("x",)), OTHER)
    client.observation.cancel()
    check.eq((client.observation.is_done(), client.observation.error), (True, None))


class NoMemory:
    """In a `with`, an Observation finds no memory for the time of its next registration, or `error` comes there."""

    def __init__(self, engine, error=MemoryError):
        self.engine = engine
        self.error = error
        self.random = engine.random

    def draw(self, n):
        if n == 2:
            raise self.error
        return self.random(n)

    def __enter__(self):
        self.engine.random = self.draw

    def __exit__(self, *_):
        self.engine.random = self.random


def test_observe_when_there_is_no_memory_or_a_ctrl_c_then_nothing_is_sent():
    """observe(): what it could not return must not go on; the response to it would raise out of process()."""
    for error in MemoryError, KeyboardInterrupt:
        client = Observing(observes=False)
        with NoMemory(client.engine, error):
            check.raises(error, coap_observe.observe, client.engine, None, client.hear, remote=PEER)
        check.eq((client.due(), client.engine._queue, client.extension.observations), ([], [], []))


def test_registration_when_there_was_no_memory_or_a_ctrl_c_then_it_is_repeated_later():
    """RFC 7641 section 3.3.1: the observation is as it was, and lasts."""
    for error in MemoryError, KeyboardInterrupt:
        client = Observing()
        client.answer()
        client.now_ms = coap.ticks_add(client.now_ms, STALE_MS + 10000)
        with NoMemory(client.engine, error):
            check.raises(error, client.engine.due, client.now_ms)
            check.eq((client.engine._queue, client.observation.is_done()), ([], False))
        client.now_ms = coap.ticks_add(client.now_ms, 1000)
        client.request = client.due()[0]
        check.eq(client.request.opt.observe, 0)
        client.answer(payload=b"again")
        check.eq((client.heard, len(client.engine._open)), ([b"first", b"again"], 1))


def test_cancel_when_there_was_no_memory_then_it_ends_when_it_would_register_again():
    """RFC 7641 section 3.6."""
    client = Observing()
    client.answer()
    with NoMemory(client.engine):
        check.raises(MemoryError, client.observation.cancel)
    check.eq(client.due(), [])
    client.now_ms = coap.ticks_add(client.now_ms, STALE_MS + 10000)
    request = client.due()[0]
    check.eq((request.opt.observe, client.observation.is_done()), (1, False))
    client.answer(request, None)
    check.eq((client.observation.is_done(), client.engine._open), (True, []))


def test_forget_when_the_record_is_cancelled_then_the_next_notification_is_reset():
    """RFC 7641 section 3.6: passive cancel, for CON and NON alike."""
    for mtype in (CON, NON):
        client = Observing()
        client.answer()
        client.observation.record.cancel()
        check.eq((client.observation.is_done(), client.observation.error), (True, None))
        check.eq(client.notify(2, b"two", mtype), (RST, 0, client.mid))
        check.eq(client.heard, [b"first"])


def test_reboot_when_a_notification_was_never_asked_for_then_it_is_reset():
    """RFC 7641 section 3.6: the client that has rebooted knows no observation."""
    client = Observing(observes=False)
    client.request = coap.Message(coap.GET, token=b"old")
    for mtype in (CON, NON):
        reply = client.engine.receive(packet(coap.CONTENT, 77, mtype, b"old", observe=3), PEER, client.now_ms)
        check.eq(fake.head(reply and bytes(reply)), (RST, 0, 77))


def test_close_when_the_endpoint_is_closed_then_it_ends_with_closed():
    """Endpoint.close ends every exchange."""
    with fake.Clock(1000):
        endpoint = coap.Endpoint(sock=fake.Transport())
        coap_observe.attach(endpoint)
        observation = coap_observe.observe(endpoint, "coap://192.0.2.1/t")
        endpoint.process(0)
        endpoint.close()
    check.eq((observation.is_done(), observation.error), (True, coap.Closed))


# ---- notifications larger than a block ----


def test_blocks_when_nobody_fetches_them_then_block_0_is_passed_on_as_it_is():
    """Without coap_block an application that understands Block2 sees it and does what it likes."""
    client = Observing()
    client.engine._critical &= ~(1 << 23)
    client.answer()
    client.notify(2, b"block 0", block2=8)
    check.eq((client.heard, client.due()), ([b"first", b"block 0"], []))


# ---- hostile ----


def test_flood_when_the_server_notifies_without_end_then_nothing_is_kept():
    """5,000 notifications of any number and kind: the tables stay as they were."""
    client = Observing(limits={"observations": 2})
    client.answer()
    client.observation.on_notification = lambda message: None  # what is kept here would cut the heap into pieces
    for n in range(5000):
        client.now_ms += 1
        client.notify(n * 7919 & 0xFFFFFF, b"x" * (n % 50), CON if n & 1 else NON)
        client.due()
    check.eq((len(client.engine._open), len(client.engine._queue), len(client.extension.observations)), (1, 0, 1))
    check.eq(client.observation.record.responses, ())
    check.eq(client.observation.is_done(), False)


def test_forged_when_from_another_address_or_token_then_not_heard():
    """RFC 7252 section 5.3.2: token and endpoint must match."""
    client = Observing()
    client.answer()
    data = packet(coap.CONTENT, 9, NON, client.request.token, observe=2, payload=b"forged")
    for forged, peer in (
        (data, OTHER),
        (data, (PEER[0], 1)),
        (packet(coap.CONTENT, 9, NON, client.request.token[:-1], observe=2), PEER),
        (packet(coap.CONTENT, 9, ACK, client.request.token, observe=2), PEER),
        (packet(coap.NOT_FOUND, 10, NON, client.request.token), OTHER),
    ):
        client.engine.receive(forged, peer, client.now_ms)
    check.eq((client.heard, client.observation.is_done()), ([b"first"], False))


# ---- both sides on a network ----

SERVER = ("192.0.2.99", 5683)
CLIENT = ("192.0.2.1", 5683)


class Pair:
    """A server and a client on fake.Network."""

    def __init__(self, interval_ms=3000, **network):
        self.network = fake.Network(**network)
        self.interval_ms = interval_ms
        self.state = 0
        self.heard = []
        self.boot_server()
        self.client = self.network.add(CLIENT, transmissions=8)
        coap_observe.attach(self.client)
        self.observation = self.observe()

    def boot_server(self):
        """A new server in the place of the old one."""
        self.server = self.network.add(SERVER)
        self.extension = coap_observe.attach(self.server, interval_ms=self.interval_ms)
        self.server.resource("t", obs=True).get(lambda request, response: str(self.state))

    def observe(self, **options):
        return coap_observe.observe(self.client, None, self.hear, remote=SERVER, uri_path=("t",), **options)

    def hear(self, message):
        self.heard.append(int(message.payload))

    def run(self, ms, until=None):
        """Let exactly `ms` pass, or less if `until()` is true before."""
        left_ms = ms - self.network.run(ms, until)
        if until is None:
            self.network.now_ms = coap.ticks_add(self.network.now_ms, left_ms)

    def has_heard_the_last(self):
        return self.heard[-1:] == [self.state]

    def change(self, **options):
        self.state += 1
        self.server.notify("t", **options)


def test_pair_when_the_state_changes_100_times_under_loss_then_the_last_state_arrives():
    """RFC 7641 section 1.3: eventual consistency, with 30 % loss, doubling and reordering; in order, none twice."""
    for seed in range(4):
        pair = Pair(100, seed=seed, loss=30, duplication=10, reordering=30)
        for n in range(100):
            pair.change(confirmable=n % 10 == 9)
            pair.run(500)
        pair.run(400000, pair.has_heard_the_last)
        check.eq(pair.heard[-1], 100, "seed %d" % seed)
        check.eq(pair.heard, sorted(set(pair.heard)))
        check.eq(pair.observation.is_done(), False)


def test_pair_when_the_server_reboots_then_the_client_registers_again():
    """RFC 7641 section 3.3.1: after Max-Age and 5 to 15 s the new server knows it."""
    pair = Pair()
    pair.change()
    pair.run(1000)
    check.eq(pair.heard[-1], 1)
    pair.boot_server()
    pair.change()
    pair.run(10000)
    check.eq(pair.heard[-1], 1)
    pair.run(66000)
    check.eq(pair.heard[-1], 2)
    pair.run(4000)
    pair.change()
    pair.run(1000)
    check.eq(pair.heard[-1], 3)


def test_pair_when_the_client_reboots_then_the_server_forgets_it():
    """RFC 7641 section 3.6: the first notification to a client that knows nothing is reset."""
    for confirmable in (True, False):
        pair = Pair()
        pair.run(1000)
        check.eq(len(pair.extension.observers), 1)
        pair.network.add(CLIENT)
        pair.change(confirmable=confirmable)
        pair.run(1000)
        check.eq(len(pair.extension.observers), 0)


def test_pair_when_the_client_cancels_then_the_server_forgets_it():
    """RFC 7641 section 3.6: both sides are at rest a lifetime later."""
    pair = Pair()
    pair.run(1000)
    pair.observation.cancel()
    pair.run(1000)
    check.eq((pair.observation.is_done(), len(pair.extension.observers)), (True, 0))
    pair.run(300000)
    check.eq(pair.network.next_ms(), None)


def test_pair_when_the_clock_wraps_then_the_observation_lasts():
    """12.4 days of ticks: an observation of two hours across their end, a change each 7 minutes."""
    pair = Pair(start_ms=-3600000)
    for _ in range(17):
        pair.change()
        pair.run(420000)
    check.eq(pair.heard[-1], 17)
    check.eq((pair.observation.is_done(), len(pair.extension.observers)), (False, 1))
