"""Observe at the server (RFC 7641): the list of observers, notifications, and how an observation ends."""

import check
import coap
import coap_observe
import fake
from fake import EXACT, PEER, empty, packet

OTHER = ("192.0.2.2", 5683)
THIRD = ("192.0.2.3", 5683)
DAY_MS = 86400000
CON, NON, RST, ACK = coap.CON, coap.NON, coap.RST, coap.ACK


class Observed:
    """A server whose resource "t" is observable; the test plays its observers and the clock."""

    def __init__(self, limits=None, **tables):
        tables.setdefault("tuning", EXACT)
        self.engine = fake.engine(**tables)
        self.extension = coap_observe.attach(self.engine, **(limits or {}))
        self.state = b"0"
        self.now_ms = 1000
        self.mid = 0x100
        self.log = []
        self.engine.log = self.note
        self.engine.resource("t", obs=True)(self.read)
        self.engine.resource("other", obs=True).get(self.read)
        self.engine.resource("plain").get(self.read)

    def note(self, text, value):
        self.log.append((text, value))

    def read(self, request, response):
        """The handler: what `state` says, or does."""
        return self.state(request, response) if callable(self.state) else self.state

    def ask(self, observe=0, token=b"tk", peer=PEER, method=coap.GET, path=("t",), mtype=CON, **fields):
        """The answer to a request, with Observe unless that is None."""
        self.mid += 1
        if observe is not None:
            fields["observe"] = observe
        data = packet(method, self.mid, mtype, token, uri_path=path, **fields)
        return fake.ask(self.engine, data, self.now_ms, peer)

    def change(self, state, path="t", **options):
        """Set the state, notify, and return what is sent at once: Messages with remote set."""
        self.state = state
        self.engine.notify(path, **options)
        return self.due()

    def due(self):
        """What is sent now, as Messages."""
        sent = []
        data = self.engine.due(self.now_ms)
        while data is not None:
            sent.append(coap.Message.decode(bytes(data), self.engine.peer))
            data = self.engine.due(self.now_ms)
        return sent

    def wait(self, ms):
        """Let time pass while nobody answers; returns what is sent meanwhile."""
        end_ms = coap.ticks_add(self.now_ms, ms)
        sent = self.due()
        for _ in range(2000):
            step_ms = self.engine.next_ms(self.now_ms)
            if step_ms is None or coap.ticks_diff(end_ms, self.now_ms) < step_ms:
                self.now_ms = end_ms
                return sent
            self.now_ms = coap.ticks_add(self.now_ms, step_ms)
            sent += self.due()
        raise AssertionError("something is due for ever")

    def reply(self, mtype, message, peer=PEER):
        """An ACK or Reset of `message` arrives."""
        self.engine.receive(empty(mtype, message.mid), peer, self.now_ms)

    def count(self):
        return len(self.extension.observers)


def shown(message):
    """(type, code, has Observe, payload)"""
    return message and (message.mtype, message.code, message.opt.observe is not None, message.payload)


def all_shown(messages):
    return [shown(message) for message in messages]


CONTENT_0 = (ACK, coap.CONTENT, True, b"0")


# ---- registration ----


def test_register_when_get_has_observe_0_then_answered_with_observe_and_notified():
    """RFC 7641 sections 3.1, 4.1, 4.2: a notification has the token of the request and a message ID of its own."""
    server = Observed()
    answer = server.ask(token=b"\1\2\3")
    check.eq(shown(answer), CONTENT_0)
    sent = server.change(b"1")
    check.eq(all_shown(sent), [(NON, coap.CONTENT, True, b"1")])
    check.eq((sent[0].token, sent[0].remote), (b"\1\2\3", PEER))
    check.eq(server.due(), [])


def test_register_when_fetch_has_observe_0_then_its_body_is_asked_again():
    """RFC 8132 section 2.4: FETCH is observed with the payload it had."""
    server = Observed()
    server.state = lambda request, response: b"<%s>" % request.payload
    answer = server.ask(method=coap.FETCH, payload=b"body")
    check.eq(shown(answer), (ACK, coap.CONTENT, True, b"<body>"))
    server.engine.notify("t")
    check.eq(all_shown(server.due()), [(NON, coap.CONTENT, True, b"<body>")])


def test_register_when_not_observable_or_not_meant_then_answered_without_observe():
    """RFC 7641 section 4.1: the option is ignored for other resources, methods and values."""
    server = Observed()
    for fields in (
        {"path": ("plain",)},
        {"observe": None},
        {"observe": 2},
        {"observe": 0xFFFFFF},
        {"method": coap.POST},
        {"method": coap.PUT},
        {"uri_query": ("q" * 250,)},
    ):
        check.eq(server.ask(**fields).opt.observe, None, fields)
        check.eq(server.count(), 0, fields)


def test_register_when_the_option_is_longer_than_3_bytes_then_ignored():
    """RFC 7252 section 5.4.1: an elective option of a bad length is as if it were not there."""
    server = Observed()
    data = b"\x42\x01\x12\x34tk\x64\0\0\0\0\x51t"
    answer = fake.ask(server.engine, data, 1000)
    check.eq((answer.code, answer.opt.observe, server.count()), (coap.CONTENT, None, 0))


def test_register_when_the_value_is_unknown_then_what_is_registered_stays():
    """RFC 7641 section 4.1: another value is ignored, with a token that is in the list, too."""
    server = Observed()
    server.ask()
    check.eq(server.ask(2).opt.observe, None)
    check.eq(server.count(), 1)


class Assembler:
    """An extension that gives a request another payload than its datagram has, as coap_block does with Block1."""

    rank = 30
    understood = 0

    def request(self, request, response):
        request.payload = b"whole"


def test_register_when_the_body_is_not_in_the_datagram_then_not_observed():
    """A body put together from blocks cannot be asked for again."""
    server = Observed()
    server.engine.attach(Assembler())
    answer = server.ask(method=coap.FETCH, payload=b"last block")
    check.eq((answer.code, answer.opt.observe, server.count()), (coap.CONTENT, None, 0))


def test_register_when_again_with_another_accept_then_the_format_may_be_another():
    """RFC 7641 section 4.2: a new registration has a Content-Format of its own."""
    server = Observed()
    server.engine.resource("two", ct=(coap.TEXT, coap.JSON), obs=True).get(server.read)
    server.ask(path=("two",), accept=coap.JSON)
    server.ask(path=("two",), accept=coap.TEXT)
    sent = server.change(b"1", "two")
    check.eq((sent[0].code, sent[0].opt.content_format), (coap.CONTENT, coap.TEXT))


def test_register_when_the_first_block_is_asked_for_then_observed():
    """RFC 7959 section 3.4: Block2 with NUM 0 tells the size only."""
    server = Observed()
    shortener = Shortener()
    server.engine.attach(shortener)
    check.eq(server.ask(block2=2).opt.observe is not None, True)
    check.eq(server.ask(1).opt.observe, None)
    check.eq(server.ask(block2=1 << 4 | 2).opt.observe, None)


def test_register_when_the_answer_is_an_error_then_not_observed():
    """RFC 7641 section 4.1: only 2.xx registers; an earlier registration of the token is gone."""
    server = Observed()
    server.state = coap.SERVICE_UNAVAILABLE
    check.eq(shown(server.ask()), (ACK, coap.SERVICE_UNAVAILABLE, False, b""))
    check.eq(server.count(), 0)
    server.state = b"0"
    server.ask()
    check.eq(server.count(), 1)
    check.eq(server.ask(path=("nowhere",)).code, coap.NOT_FOUND)
    check.eq(server.count(), 0)


def test_register_when_the_handler_answers_later_then_not_observed():
    """An answer that comes later has no Observe: the client knows."""
    server = Observed()
    later = []

    def promise(request, response):
        later.append(response.copy(payload=b"late"))
        return coap.LATER

    server.state = promise
    check.eq(server.ask().code, 0)
    server.engine.send(later[0])
    check.eq(all_shown(server.due()), [(CON, coap.CONTENT, False, b"late")])
    check.eq(server.count(), 0)


def test_register_when_the_same_token_again_then_it_replaces():
    """RFC 7641 section 4.1: one entry per endpoint and token, even for another resource; no second notification."""
    server = Observed()
    server.ask()
    server.ask()
    check.eq(server.count(), 1)
    check.eq(len(server.change(b"1")), 1)
    server.ask(path=("other",))
    check.eq(server.count(), 1)
    check.eq(server.change(b"2"), [])
    server.now_ms += 3000
    check.eq(len(server.change(b"3", "other")), 1)


def test_register_when_the_same_token_is_for_another_resource_then_that_one_is_observed():
    """RFC 7641 section 4.1: the entry is replaced."""
    server = Observed()
    server.ask()
    server.ask(path=("other",))
    server.wait(3000)
    check.eq((server.count(), server.change(b"1")), (1, []))
    check.eq(len(server.change(b"2", "other")), 1)


def test_register_when_another_token_or_port_or_host_then_another_entry():
    """RFC 7641 section 4.1: the endpoint is address and port."""
    server = Observed()
    for token, peer in ((b"tk", PEER), (b"tl", PEER), (b"", PEER), (b"tk", (PEER[0], 9)), (b"tk", OTHER)):
        check.eq(shown(server.ask(token=token, peer=peer)), CONTENT_0)
    sent = server.change(b"1")
    check.eq(
        sorted([(message.remote[0], message.remote[1], message.token) for message in sent]),
        [
            (PEER[0], 9, b"tk"),
            (PEER[0], 5683, b""),
            (PEER[0], 5683, b"tk"),
            (PEER[0], 5683, b"tl"),
            (OTHER[0], 5683, b"tk"),
        ],
    )


def test_register_when_the_datagram_comes_twice_then_one_entry():
    """RFC 7252 section 4.5: a duplicate is answered, not registered again."""
    server = Observed()
    first = server.ask()
    server.mid -= 1
    check.eq(server.ask().payload, first.payload)
    check.eq(server.count(), 1)


def test_register_when_non_then_notified_too():
    """RFC 7641 section 3.1: the type of the request does not matter."""
    server = Observed()
    check.eq(shown(server.ask(mtype=NON)), (NON, coap.CONTENT, True, b"0"))
    check.eq(all_shown(server.change(b"1")), [(NON, coap.CONTENT, True, b"1")])


def test_register_when_the_request_is_a_groups_then_it_is_a_plain_one():
    """RFC 7641 section 4.1 lets a server refuse: one datagram is not to have every device notify an address."""
    for state in (b"0", b""):  # an answer without payload stays here: RFC 7252 section 8.2
        observed = Observed()
        observed.state = state
        data = packet(coap.GET, 1, NON, b"tk", uri_path=("t",), observe=0)
        observed.engine.receive(data, PEER, 1000, True)
        sent = [coap.Message.decode(item[1]) for item in fake.run(observed.engine, 1000, 10000)]
        check.eq([(answer.payload, answer.opt.observe) for answer in sent], [(b"0", None)] if state else [])
        check.eq((observed.extension.observers, observed.change(b"1")), ([], []))
    observed.ask()
    observed.engine.receive(packet(coap.GET, 2, NON, b"tk", uri_path=("t",), observe=1), PEER, 1000, True)
    check.eq(len(observed.extension.observers), 1)  # nor does a group's request end it


# ---- limits ----


def test_limit_when_a_host_has_its_share_then_2_05_without_observe():
    """RFC 7641 section 4.1: a server that is unable to add an entry answers as if Observe were not there."""
    server = Observed({"observers": 5, "per_host": 2})
    for n in range(4):
        answer = server.ask(token=b"%d" % n, peer=(PEER[0], n))
        check.eq(shown(answer), (ACK, coap.CONTENT, n < 2, b"0"))
    check.eq(server.count(), 2)
    check.eq(shown(server.ask(peer=OTHER)), CONTENT_0)


def test_limit_when_the_list_is_full_then_2_05_without_observe_until_one_goes():
    """RFC 7641 section 4.1: the limit in total; who is there may register again."""
    server = Observed({"observers": 3})
    for n in range(5):
        answer = server.ask(peer=("192.0.2.%d" % n, 5683))
        check.eq(shown(answer), (ACK, coap.CONTENT, n < 3, b"0"))
    check.eq(shown(server.ask(peer=("192.0.2.1", 5683))), CONTENT_0)
    server.ask(1, peer=("192.0.2.1", 5683))
    check.eq(shown(server.ask(peer=("192.0.2.4", 5683))), CONTENT_0)
    check.eq(server.count(), 3)


def test_limit_when_a_place_is_wanted_then_the_oldest_is_asked_whether_it_is_there():
    """Dead observers do not hold their places: a CON finds out, at most once a minute for each."""
    server = Observed({"observers": 2})
    server.ask(peer=OTHER)
    server.now_ms += 10
    server.ask(peer=THIRD)
    server.now_ms += 59000
    server.ask()
    check.eq(server.due(), [])
    server.now_ms += 1000
    server.ask()
    sent = server.due()
    check.eq([(message.mtype, message.remote) for message in sent], [(CON, OTHER)])
    server.ask()
    check.eq(server.wait(1000), [])
    server.wait(93000)
    check.eq(server.count(), 1)
    check.eq(shown(server.ask()), CONTENT_0)


def test_limit_when_a_place_is_wanted_then_who_registered_again_lately_is_not_asked():
    """The one asked is that which was heard of longest ago, wherever it stands in the list."""
    server = Observed({"observers": 2})
    for peer in (OTHER, THIRD, OTHER):
        server.ask(peer=peer)
        server.now_ms += 70000
    server.ask()
    check.eq([(message.mtype, message.remote) for message in server.due()], [(CON, THIRD)])


def test_register_when_there_is_no_memory_for_the_host_then_there_is_no_observer():
    """Both tables have it or none: it would be notified for ever, and no Reset find it."""

    class Starved(dict):
        def __setitem__(self, host, observers):
            raise MemoryError

    server = Observed()
    server.extension.hosts = Starved()
    check.raises(MemoryError, server.ask)
    check.eq(server.count(), 0)


def test_limit_when_0_observers_then_nobody_registers():
    """A table of size 0."""
    server = Observed({"observers": 0})
    check.eq(server.ask().opt.observe, None)


def test_limit_when_it_is_no_number_in_range_then_the_caller_is_told():
    """The caller's fault."""
    for limits in (
        {"observers": -1},
        {"observations": -1},
        {"per_host": 0},
        {"interval_ms": 0},
        {"confirm_ms": DAY_MS + 1},
    ):
        check.raises(ValueError, Observed, limits)
    check.raises(TypeError, Observed, {"observers": "8"})


# ---- deregistration ----


def test_deregister_when_get_has_observe_1_then_answered_without_and_removed():
    """RFC 7641 sections 3.6, 4.1: same endpoint and token."""
    server = Observed()
    server.ask()
    server.ask(1, token=b"xx")
    server.ask(1, peer=OTHER)
    server.ask(None)
    check.eq(server.count(), 1)
    check.eq(shown(server.ask(1)), (ACK, coap.CONTENT, False, b"0"))
    check.eq(server.count(), 0)
    check.eq(server.change(b"1"), [])
    check.eq(shown(server.ask(1)), (ACK, coap.CONTENT, False, b"1"))


def test_deregister_when_a_con_is_on_its_way_then_it_is_given_up():
    """RFC 7641 section 4.5: no retransmission to who left."""
    server = Observed()
    server.ask()
    check.eq(len(server.change(b"1", confirmable=True)), 1)
    server.ask(1)
    check.eq(server.wait(100000), [])


# ---- sequence numbers ----


def test_number_when_notified_then_it_grows_and_stays_within_24_bits():
    """RFC 7641 section 4.4: each notification is newer than the one before, also across the wrap and registrations."""
    server = Observed({"interval_ms": 1})
    server.extension.number = 0xFFFFFD
    numbers = [server.ask().opt.observe]
    for n in range(4):
        server.now_ms += 10
        numbers.append(server.change(b"%d" % n)[0].opt.observe)
    server.ask(1)
    numbers.append(server.ask().opt.observe)
    check.eq(numbers, [0xFFFFFE, 0xFFFFFF, 0, 1, 2, 3])


# ---- pace ----


def test_pace_when_changes_are_frequent_then_one_non_in_3_s_with_the_newest_state():
    """RFC 7641 section 4.5.1: at most one NON in 3 s without an estimate of the round trip; states are skipped."""
    server = Observed()
    server.ask()
    begin_ms = server.now_ms
    times = []
    for n in range(100):
        server.now_ms += 100
        for message in server.change(b"%d" % n):
            times.append((server.now_ms - begin_ms, message.payload))
    check.eq([message.payload for message in server.wait(10000)], [b"99"])
    check.eq([passed_ms for passed_ms, _ in times], [100, 3100, 6100, 9100])
    check.eq([payload for _, payload in times], [b"0", b"30", b"60", b"90"])


def test_pace_when_nothing_changed_then_silence_and_no_wakeup_before_the_confirmation():
    """The board may sleep: the next event is the confirmation after an hour."""
    server = Observed()
    server.ask()
    check.eq(server.wait(300000), [])  # the table of duplicates is swept meanwhile
    check.eq(server.engine.next_ms(server.now_ms), 3600000 - 300000)


def test_pace_when_the_interval_is_shorter_then_notified_as_often():
    """RFC 7641 section 4.5.1: who knows the round trip may send more."""
    server = Observed({"interval_ms": 10})
    server.ask()
    sent = []
    for n in range(100):
        sent += server.change(b"%d" % n)
        server.now_ms += 10
    check.eq([message.payload for message in sent], [b"%d" % n for n in range(100)])


# ---- a handler that changes its request ----


class Assembling:
    """Replaces the payload, as blocks do."""

    rank = 30
    understood = 0

    def request(self, request, response):
        request.payload = b"assembled"


def clear(request, response):
    request.opt.accept = None
    return b"x"


def test_register_when_a_group_is_asked_and_the_handler_changes_its_request_then_no_observation():
    """RFC 7641 section 4.1: as without the change."""
    server = Observed(tuning=coap.Tuning(leisure_ms=0))
    server.state = clear
    server.engine.receive(packet(coap.GET, 1, NON, uri_path=("t",), observe=0, accept=0), PEER, server.now_ms, True)
    check.eq((all_shown(server.due()), server.count()), ([(NON, coap.CONTENT, False, b"x")], 0))


def test_register_when_a_body_was_assembled_and_the_handler_changes_its_request_then_no_observation():
    """RFC 7641 section 4.1: its datagram has but the last block."""
    server = Observed()
    server.engine.attach(Assembling())
    server.state = clear
    check.eq(server.ask(method=coap.FETCH, payload=b"last", accept=0).opt.observe, None)
    check.eq(server.count(), 0)


# ---- CON notifications ----


def test_confirmable_when_asked_for_then_retransmitted_until_acknowledged():
    """RFC 7641 section 4.5: a CON notification follows RFC 7252 section 4.2."""
    server = Observed()
    server.ask()
    first = server.change(b"1", confirmable=True)
    check.eq(all_shown(first), [(CON, coap.CONTENT, True, b"1")])
    again = server.wait(2000)
    check.eq(again, first)
    server.reply(ACK, again[0])
    check.eq(server.wait(100000), [])
    check.eq(server.count(), 1)


def test_confirmable_when_nobody_acknowledges_then_removed_within_93_s():
    """RFC 7641 section 4.5: a CON that times out ends the observation."""
    server = Observed(tuning=coap.Tuning())
    server.ask()
    check.eq(len(server.change(b"1", confirmable=True) + server.wait(92999)), 5)
    server.wait(1)
    check.eq(server.count(), 0)
    check.eq(server.change(b"2"), [])


def test_confirmable_when_reset_then_removed_and_the_application_hears_nothing():
    """RFC 7641 section 3.6: a Reset of a notification ends it."""
    server = Observed()
    server.ask()
    server.reply(RST, server.change(b"1", confirmable=True)[0])
    check.eq((server.count(), server.engine.received), (0, None))
    check.eq(server.wait(100000), [])


def test_confirmable_when_the_newer_state_is_non_then_con_stays_the_type():
    """RFC 7641 section 4.5.2: while a CON is on its way the newer state goes with its retransmission."""
    server = Observed()
    server.ask()
    first = server.change(b"1", confirmable=True)[0]
    check.eq(server.change(b"2") + server.wait(1999), [])
    second = server.wait(1)[0]
    check.eq(shown(second), (CON, coap.CONTENT, True, b"2"))
    check.eq(second.mid == first.mid, False)
    check.eq(second.opt.observe > first.opt.observe, True)


def test_confirmable_when_the_state_keeps_changing_then_the_attempts_are_counted_on():
    """RFC 7641 section 4.5.2: new message IDs, but 5 transmissions and doubled waits in all, then removed."""
    server = Observed()
    server.ask()
    begin_ms = server.now_ms
    rendered = []
    server.state = lambda request, response: rendered.append(0) or b"x"
    server.engine.notify("t", confirmable=True)
    sent = server.due()
    times = [0]
    for _ in range(70):
        server.engine.notify("t")
        got = server.wait(1000)
        times += [(server.now_ms - begin_ms) // 1000] * len(got)
        sent += got
    check.eq(times, [0, 2, 6, 14, 30])
    check.eq((len(set([message.mid for message in sent])), len(rendered)), (5, 5))
    check.eq(server.count(), 0)


def test_confirmable_when_asked_for_again_while_one_is_on_its_way_then_that_one_goes_on():
    """RFC 7641 section 4.5.2: not two at a time for an observer."""
    server = Observed()
    server.ask()
    first = server.change(b"1", confirmable=True)
    second = server.change(b"2", confirmable=True) + server.wait(2500)
    check.eq([message.payload for message in first + second], [b"1", b"2"])
    check.eq((server.extension.pending, len(server.engine._open), len(server.engine._queue)), (1, 1, 0))


def test_confirmable_when_asked_for_with_and_without_then_con():
    """What is wanted by CON stays so when another change follows before it goes."""
    server = Observed()
    server.ask()
    server.engine.notify("t", confirmable=True)
    server.engine.notify("t")
    check.eq([message.mtype for message in server.due()], [CON])


def test_confirmable_when_the_newest_is_acknowledged_then_there_is_nothing_more_to_send():
    """RFC 7641 section 4.5.2: only the latest state matters."""
    server = Observed()
    server.ask()
    server.change(b"1", confirmable=True)
    server.change(b"2")
    latest = server.wait(2000)[0]
    server.reply(ACK, latest)
    check.eq(server.wait(100000), [])
    check.eq(server.count(), 1)


def test_confirmable_when_the_older_is_acknowledged_then_the_newer_state_follows():
    """RFC 7641 section 4.5.2: an ACK in time frees the way for the newer state."""
    server = Observed()
    server.ask()
    first = server.change(b"1", confirmable=True)[0]
    server.change(b"2", confirmable=True)
    server.reply(ACK, first)
    check.eq(all_shown(server.due()), [(CON, coap.CONTENT, True, b"2")])


def test_confirmable_when_the_replaced_one_is_reset_then_removed():
    """RFC 7641 section 3.6: a Reset that was on its way when the newer state went."""
    server = Observed()
    server.ask()
    first = server.change(b"1", confirmable=True)[0]
    server.change(b"2")
    server.wait(2000)
    server.reply(RST, first)
    check.eq(server.count(), 0)
    check.eq(server.wait(100000), [])


def test_confirmable_when_half_of_the_table_is_used_then_others_wait_and_non_go():
    """Silent observers do not keep the others from being served."""
    server = Observed({"observers": 8}, transmissions=4)
    for n in range(6):
        server.ask(peer=("192.0.2.%d" % n, 5683))
    sent = server.change(b"1", confirmable=True)
    check.eq(len(sent), 2)
    server.ask(peer=("192.0.2.9", 5683), path=("other",))
    check.eq(all_shown(server.change(b"2", "other")), [(NON, coap.CONTENT, True, b"2")])
    for message in sent:
        server.reply(ACK, message, message.remote)
    check.eq(len(server.due()), 2)


def test_confirmable_when_the_queue_is_full_then_sent_when_it_has_room():
    """The application's own messages fill the queue: nothing raises, nothing is lost."""
    server = Observed(queued=1, transmissions=1)
    server.ask()
    records = [server.engine.send(coap.Message(coap.GET, uri_path=("x",)), OTHER)]
    server.due()
    records.append(server.engine.send(coap.Message(coap.GET, uri_path=("x",)), OTHER))
    server.state = b"1"
    server.engine.notify("t", confirmable=True)
    check.eq([message for message in server.wait(10000) if message.remote == PEER], [])
    for record in records:
        record.cancel()
    check.eq(all_shown(server.wait(1000)), [(CON, coap.CONTENT, True, b"1")])


def test_confirmable_when_the_time_is_short_then_one_is_sent_at_that_time():
    """RFC 7641 section 4.5: confirm_ms below the time for which the request is remembered."""
    server = Observed({"confirm_ms": 60000})
    server.ask()
    check.eq(server.wait(59999), [])
    check.eq([message.mtype for message in server.wait(1)], [CON])


def test_confirmable_when_an_hour_is_over_then_one_is_sent_unasked_and_the_dead_go():
    """RFC 7641 section 4.5: a CON now and then (24 h at most) removes who is gone."""
    server = Observed({"confirm_ms": DAY_MS})
    server.ask()
    server.ask(peer=OTHER)
    for n in range(23):
        check.eq(len(server.change(b"%d" % n)), 2)
        check.eq(server.wait(3600000), [])
    sent = server.wait(3600000)
    check.eq(sorted([(message.mtype, message.remote) for message in sent]), [(CON, PEER), (CON, OTHER)])
    server.reply(ACK, sent[0], sent[0].remote)
    server.wait(93000)
    check.eq(server.count(), 1)
    check.eq(len(server.wait(DAY_MS - 93000)), 1)


# ---- Reset of a NON ----


def test_reset_when_it_is_of_a_late_non_then_removed():
    """RFC 7641 section 3.6: the IDs of the latest 4 NON notifications are remembered."""
    server = Observed({"interval_ms": 1})
    server.ask()
    sent = []
    for n in range(5):
        sent += server.change(b"%d" % n)
        server.now_ms += 10
    server.reply(RST, sent[0])
    check.eq(server.count(), 1)
    server.reply(RST, sent[1])
    check.eq(server.count(), 0)
    check.eq(server.change(b"9"), [])


def test_reset_when_from_elsewhere_or_of_another_id_then_ignored():
    """A forged Reset needs the exact endpoint and a message ID that is in use."""
    server = Observed()
    server.ask()
    server.ask(peer=OTHER)
    sent = [message for message in server.change(b"1") if message.remote == PEER][0]
    server.reply(RST, sent, OTHER)
    server.reply(RST, sent, (PEER[0], 1))
    server.reply(RST, coap.Message(mid=sent.mid - 1 & 0xFFFF))
    server.reply(ACK, sent)
    check.eq(server.count(), 2)


# ---- what ends an observation ----


def test_error_when_the_handler_gives_one_then_it_is_the_last_notification():
    """RFC 7641 section 4.2: without Observe, by CON so that it arrives."""
    for state, code in (
        (coap.NOT_FOUND, coap.NOT_FOUND),
        (lambda request, response: 1 // 0, coap.INTERNAL_SERVER_ERROR),
        (lambda request, response: bytes(2000), coap.INTERNAL_SERVER_ERROR),
        (lambda request, response: (coap.NOT_FOUND, bytes(2000)), coap.INTERNAL_SERVER_ERROR),
    ):
        server = Observed()
        server.ask()
        sent = server.change(state)
        check.eq(all_shown(sent), [(CON, code, False, b"")])
        check.eq(server.count(), 0)
        server.reply(ACK, sent[0])
        check.eq(server.wait(100000), [])


def test_error_when_a_con_was_on_its_way_then_only_the_error_remains():
    """RFC 7641 section 4.5.2: the newest state is that there is none."""
    server = Observed()
    server.ask()
    server.change(b"1", confirmable=True)
    server.change(coap.NOT_FOUND)
    sent = server.wait(2000)
    check.eq(all_shown(sent), [(CON, coap.NOT_FOUND, False, b"")])
    check.eq(len(server.wait(100000)), 4)


def test_error_when_many_observers_then_all_are_told():
    """Half of the table by CON, the others by NON."""
    server = Observed()
    for n in range(8):
        server.ask(peer=("192.0.2.%d" % n, 5683))
    sent = server.change(coap.NOT_FOUND)
    check.eq(sorted([message.remote[0] for message in sent]), ["192.0.2.%d" % n for n in range(8)])
    check.eq([message.mtype for message in sent].count(CON), 2)
    check.eq(server.count(), 0)


def test_format_when_it_changes_then_4_06_and_removed():
    """RFC 7641 section 4.2: all notifications have the Content-Format of the first."""
    server = Observed()

    def read(request, response):
        response.opt.content_format = server.format
        return b"x"

    server.state = read
    server.format = coap.JSON
    server.ask()
    server.engine.notify("t")
    check.eq(server.due()[0].opt.content_format, coap.JSON)
    for content_format in (coap.CBOR, None):
        server.format = coap.JSON
        server.ask()
        server.format = content_format
        server.now_ms += 3000
        server.engine.notify("t")
        check.eq(all_shown(server.due()), [(CON, coap.NOT_ACCEPTABLE, False, b"")])
        check.eq(server.count(), 0)


def test_accept_when_it_was_in_the_request_then_notifications_have_that_format():
    """RFC 7641 section 4.2: the request is answered again as it was."""
    server = Observed()
    server.engine.resource("two", ct=(coap.TEXT, coap.JSON), obs=True).get(server.read)
    server.ask(path=("two",), accept=coap.JSON)
    check.eq(server.change(b"1", "two")[0].opt.content_format, coap.JSON)


def test_etag_when_the_client_has_it_then_the_notification_is_2_03():
    """RFC 7641 section 4.3.2: a 2.03 notification says which stored representation is right again."""
    server = Observed()
    resource = server.engine.resource("e", ct=coap.TEXT, obs=True)
    resource.get(server.read)
    resource.etag(lambda request: server.state)
    check.eq(shown(server.ask(path=("e",), etags=(b"0", b"2"))), (ACK, coap.VALID, True, b""))
    check.eq(all_shown(server.change(b"1", "e")), [(NON, coap.CONTENT, True, b"1")])
    server.now_ms += 3000
    sent = server.change(b"2", "e")
    check.eq(all_shown(sent), [(NON, coap.VALID, True, b"")])
    check.eq(sent[0].opt.etag, b"2")


def test_silence_when_the_handler_has_no_answer_then_nothing_is_sent_and_it_stays():
    """NO_RESPONSE is for a state that nobody needs to hear of."""
    server = Observed()
    server.ask()
    check.eq(server.change(lambda request, response: coap.NO_RESPONSE), [])
    check.eq(server.wait(3600000 + 3000), [])
    server.now_ms += 3000
    check.eq(all_shown(server.change(b"1")), [(NON, coap.CONTENT, True, b"1")])


# ---- notify ----


def test_notify_when_called_in_a_handler_then_it_only_marks():
    """A PUT that changes the state notifies; the notification follows the response."""
    server = Observed()
    server.ask()

    def write(request, response):
        server.state = request.payload
        server.engine.notify("t")
        return coap.CHANGED

    server.engine.resources[1].put(write)
    check.eq(shown(server.ask(None, method=coap.PUT, payload=b"7", peer=OTHER)), (ACK, coap.CHANGED, False, b""))
    check.eq(all_shown(server.due()), [(NON, coap.CONTENT, True, b"7")])


def test_notify_when_a_ctrl_c_ends_the_handler_then_the_state_is_sent_by_the_next_process():
    """RFC 7641 section 1.3: the last state arrives, whoever has interrupted the program meanwhile."""
    server = Observed()
    server.ask()
    server.state = fake.raiser(KeyboardInterrupt())
    server.engine.notify("t")
    check.raises(KeyboardInterrupt, server.due)
    server.state = b"1"
    server.now_ms += 3000
    check.eq([message.payload for message in server.due()], [b"1"])


def test_notify_when_the_path_is_not_observable_then_the_caller_is_told():
    """A typing error must not be silent."""
    server = Observed()
    for path in ("T", "plain", "", "t/", ".well-known/core"):
        check.raises(ValueError, server.engine.notify, path, contains="obs=True")


def test_notify_when_the_last_segment_varies_then_only_its_observers_are_told():
    """files/<name>: each name is a resource of its own."""
    server = Observed()
    server.engine.resource("files/<name>", obs=True).get(lambda request, response: request.opt.uri_path[-1])
    server.ask(path=("files", "a"), token=b"a")
    server.ask(path=("files", "b"), token=b"b")
    server.engine.notify("/files/b")  # a slash before a path makes no difference
    check.eq([(message.token, message.payload) for message in server.due()], [(b"b", b"b")])


def test_notify_when_there_are_other_resources_then_only_its_observers_are_told():
    """RFC 7641 section 1.1: an observer registers with one resource."""
    server = Observed()
    server.ask(token=b"a")
    server.ask(token=b"b", path=("other",))
    check.eq([message.token for message in server.change(b"1", "other")], [b"b"])


def test_attach_when_done_in_any_order_then_resources_are_found():
    """The extension looks resources up when a request comes."""
    engine = fake.engine()
    engine.resource("r", obs=True).get(lambda request, response: b"x")
    coap_observe.attach(engine)
    answer = fake.ask(engine, packet(coap.GET, 1, observe=0, uri_path=("r",)))
    check.eq(answer.opt.observe is not None, True)


def test_without_the_extension_observe_is_ignored():
    """RFC 7641 section 4.1: a server that does not implement it answers a plain response."""
    engine = fake.engine()
    engine.resource("r", obs=True).get(lambda request, response: b"x")
    answer = fake.ask(engine, packet(coap.GET, 1, observe=0, uri_path=("r",)))
    check.eq((answer.code, answer.opt.observe), (coap.CONTENT, None))


# ---- with others ----


class Half:
    """In a `with`, a message is packed but for its payload, for which there is no memory."""

    def __enter__(self):
        self.write = write = coap.Message.write

        def write_half(message, buffer, *args):
            write(message.copy(payload=b""), buffer, *args)
            raise MemoryError

        coap.Message.write = write_half

    def __exit__(self, *_):
        coap.Message.write = self.write


def test_notification_when_the_handler_gives_its_response_an_id_then_each_has_its_own():
    """RFC 7252 section 4.4: the ID of the registration's datagram would be that of all, and all but one duplicates."""
    for confirmable in (False, True):
        observed = Observed()

        def state(request, response):
            response.mid = request.mid
            return b"x"

        observed.state = state
        observed.ask()
        told = []
        for _ in range(3):
            for message in observed.change(state, confirmable=confirmable):
                told.append(message.mid)
                observed.reply(ACK, message)
            observed.now_ms += 4000
        check.eq((len(told), len(set(told)), observed.mid in told), (3, 3, False))


def test_notification_when_there_was_no_memory_to_pack_it_then_it_is_sent_later_and_whole():
    """RFC 7641 section 4.5: its payload is the state; half of one would be another, none is told of later."""
    for confirmable in (False, True):
        observed = Observed()
        observed.ask()
        if confirmable:
            check.eq(len(observed.change(b"1", confirmable=True)), 1)
        observed.now_ms += 2000 if confirmable else 0  # the next state goes in the place of a retransmission
        observed.state = b"2"
        observed.engine.notify("t")
        with Half():
            check.raises(MemoryError, observed.due)
        told = []
        for _ in range(4):
            observed.now_ms += 1000
            told += [message.payload for message in observed.due()]
        check.eq(told, [b"2"])


class Crowded(coap.TransmissionRecord):
    """A record that finds no memory for an attribute that it has not in the beginning."""

    def __setattr__(self, name, value):
        if name == "on_end":
            raise MemoryError
        object.__setattr__(self, name, value)


def test_notification_when_there_was_no_memory_to_follow_a_con_then_later_ones_are_sent():
    """RFC 7641 section 4.5: an observer must not wait for ever for the end of a CON that nobody tells of."""
    observed = Observed()
    observed.ask()
    kept = coap.TransmissionRecord
    coap.TransmissionRecord = Crowded
    try:
        check.raises(MemoryError, observed.change, b"1", confirmable=True)
    finally:
        coap.TransmissionRecord = kept
    told = []
    for state in b"1", b"2", b"3", b"4":
        observed.now_ms += 5000
        for message in observed.change(state):
            told.append(message.payload)
            observed.reply(ACK, message)
    check.eq((told[-1:], observed.count()), ([state], 1))


class Shortener:
    """An extension of the rank of blocks: it cuts long payloads, and keeps what Observe has put into the response."""

    rank = 30
    understood = 1 << 23

    def __init__(self):
        self.seen = []

    def response(self, request, response):
        self.seen.append((request and request.token, response.opt.observe is not None))
        if len(response.payload) > 16:
            response.payload = response.payload[:16]
            response.opt.block2 = 8


def test_blocks_when_attached_before_or_after_then_a_notification_passes_their_hook():
    """RFC 7959 section 2.6: block 0 with Observe; the hooks run from the highest rank downwards."""
    for is_first in (False, True):
        server = Observed() if not is_first else None
        shortener = Shortener()
        if is_first:
            engine = fake.engine()
            engine.attach(shortener)
            coap_observe.attach(engine)
            engine.resource("t", obs=True).get(lambda request, response: bytes(100))
        else:
            engine = server.engine
            engine.attach(shortener)
            server.state = bytes(100)
        fake.ask(engine, packet(coap.GET, 1, observe=0, uri_path=("t",)))
        engine.notify("t")
        sent = coap.Message.decode(fake.due(engine, 10)[0])
        check.eq((len(sent.payload), sent.opt.block2, sent.opt.observe is not None), (16, 8, True))
        check.eq(shortener.seen, [(b"tk", True), (b"tk", True)])


# ---- hostile ----


def test_flood_when_5000_register_then_the_list_is_bounded_and_the_first_are_served():
    """Observe exhaustion: nobody beyond the limits gets a place, and nothing is kept of them."""
    server = Observed()
    server.ask(peer=OTHER)
    for n in range(5000):
        answer = server.ask(token=b"%d" % n, peer=("203.0.113.%d" % (n % 200), n))
        check.eq(answer.code, coap.CONTENT)
    check.eq(server.count(), 8)
    check.eq(len(server.extension.hosts) <= 8, True)
    sent = server.change(b"1")
    check.eq(len([message for message in sent if message.remote == OTHER]), 1)


def test_flood_when_all_observers_are_silent_then_all_are_gone_after_the_lifetimes():
    """After confirm_ms and the time of a CON for each pair of them nobody is left."""
    server = Observed()
    for n in range(8):
        server.ask(peer=("203.0.113.%d" % n, 5683))
    server.wait(3600000 + 4 * 93000)
    check.eq((server.count(), server.extension.hosts), (0, {}))
    server.wait(247000)
    check.eq(server.engine.next_ms(server.now_ms), None)


class Address:
    """A peer that counts how often one was compared."""

    compared = 0

    def __init__(self, number):
        self.number = number

    def __hash__(self):
        return self.number

    def __eq__(self, other):
        Address.compared += 1
        return isinstance(other, Address) and self.number == other.number


def comparisons(observers):
    """How many comparisons of peers a registration, a Reset and a notification's end take with so many observers."""
    server = Observed({"observers": 64})
    peers = [Address(n) for n in range(observers)]
    for peer in peers:
        server.ask(peer=peer)
    Address.compared = 0
    server.ask(peer=peers[-1])
    server.reply(RST, coap.Message(mid=9), peers[-1])
    server.ask(1, peer=peers[-1])
    return Address.compared


def test_lookup_when_64_observers_then_a_datagram_is_compared_with_no_more_than_when_1():
    """O(1) per datagram: only the entries of the sender's host are looked at."""
    check.eq(comparisons(64) - comparisons(1) < 8, True)


# ---- the clock ----


def test_clock_when_it_wraps_then_notified_and_confirmed_all_the_same():
    """Ticks wrap after 12.4 days: what is due before and after is sent."""
    for before_ms in (1, 1000, 3599999, 3600001):
        server = Observed()
        server.now_ms = coap.ticks_add(0, -before_ms)
        server.ask()
        check.eq(len(server.change(b"1")), 1)
        check.eq(len(server.change(b"2")), 0)
        check.eq(all_shown(server.wait(3000)), [(NON, coap.CONTENT, True, b"2")])
        check.eq(server.wait(3596999), [])
        check.eq([message.mtype for message in server.wait(1)], [CON])


def test_clock_when_a_month_passes_then_an_idle_observer_is_asked_every_hour():
    """No deadline is further away than ticks can tell."""
    server = Observed({"confirm_ms": DAY_MS})
    server.ask()
    asked = 0
    for _ in range(30):
        for message in server.wait(DAY_MS):
            asked += 1
            server.reply(ACK, message)
    check.eq(asked, 30)
    check.eq(server.count(), 1)
