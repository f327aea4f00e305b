"""An adversary: whole classes of hostile datagrams, made by a seed, to an engine in each of its states.

What the rules allow in answer is worked out here from the bytes alone, with nothing of the library. Where a number
stands alone, it is the section of RFC 7252. To try more: ROUNDS = 100, or another SEED.
"""

import gc
import sys

import check
import coap
import corpus
import fake
from fake import PEER, Random, due, empty, head, packet

ROUNDS = 1  # of 60 datagrams of each class, for each state
SEED = 1
PATH = b"\xb1t"  # Uri-Path "t"
# number: (shortest, longest, repeatable), of the options that a server without extensions understands
UNDERSTOOD = {3: (1, 255, 0), 7: (0, 2, 0), 11: (0, 255, 1), 15: (0, 255, 1), 17: (0, 2, 0)}
NUMBERS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 19, 20, 21, 23, 27, 28, 35, 39, 60, 252, 258, 292, 65535
LENGTHS = 0, 0, 1, 1, 2, 3, 4, 5, 8, 9, 12, 13, 14, 40, 41, 255, 256, 268, 269, 1034, 1035


# ---- what the rules allow ----


def number_of(data, at, nibble):
    """(a delta or length, offset behind it) of a nibble 0 to 14 and its extension; (None, at): bytes are missing."""
    size = max(0, nibble - 12)
    if nibble == 15 or at + size > len(data):
        return None, at
    if not size:
        return nibble, at
    return (data[at] + 13 if size == 1 else (data[at] << 8 | data[at + 1]) + 269), at + 2 - (size == 1)


def options_of(data, at):
    """[(number, value)] of a well-formed message whose options begin at `at`, or None (section 3.1)."""
    options = []
    number = 0
    while at < len(data):
        first = data[at]
        if first == 255:
            return options if at + 1 < len(data) else None
        delta, at = number_of(data, at + 1, first >> 4)
        length, at = (None, at) if delta is None else number_of(data, at, first & 15)
        if length is None or at + length > len(data) or number + delta > 65535:
            return None
        number += delta
        options.append((number, data[at : at + length]))
        at += length
    return options


def parsed(data):
    """[(number, value)] of a message, or None if its format is broken (sections 3 and 4.1, 4.2)."""
    token_len = data[0] & 15
    if token_len > 8 or len(data) < 4 + token_len or data[1] >> 5 in (1, 6, 7) or not data[1] and len(data) > 4:
        return None
    return options_of(data, 4 + token_len)


def has_bad_option(options):
    """Whether a critical option is not understood, too long or short, or once too often (5.4.1, 5.4.3, 5.4.5)."""
    seen = []
    for number, value in options:
        if number & 1 and number not in (35, 39):
            shortest, longest, repeatable = UNDERSTOOD.get(number, (1, 0, 0))
            if not shortest <= len(value) <= longest or number in seen and not repeatable:
                return True
            seen.append(number)
    return False


def first_uint(options, number, lengths):
    """The value of the first option `number`; None if there is none, or its length is not one of `lengths`."""
    for found, value in options:
        if found == number:
            return int.from_bytes(value, "big") if len(value) in lengths else None
    return None


def code_for(method, options):
    """The code of the response of a server with GET and PUT of /t in text."""
    if has_bad_option(options):
        return "4.02"
    if [0 for number, _ in options if number in (35, 39)]:
        return "5.05"
    if first_uint(options, 16, (1,)) == 0:
        return "4.00"
    if method > 7:
        return "4.05"
    path = [value for number, value in options if number == 11]
    if path == [b".well-known", b"core"]:
        return "4.05" if method != coap.GET else "2.05, 4.00, 4.02, 4.06"  # as the filters are
    if path != [b"t"]:
        return "4.04"
    if method != coap.GET and method != coap.PUT:
        return "4.05"
    if first_uint(options, 17, (0, 1, 2)):
        return "4.06"
    return "2.05" if method == coap.GET else "2.04"


def is_unwanted(options, code):
    """Whether No-Response asks for no response of that class (RFC 7967 section 2.1)."""
    return (first_uint(options, 258, (0, 1)) or 0) >> int(code[0]) - 1 & 1


def allowed(data):
    """The outcomes, as `outcome` has them, that the rules have for `data` to a server that waits for nothing."""
    if len(data) < 4 or data[0] >> 6 != 1 or data[0] & 0x20:
        return "ignore"
    is_con = data[0] < 0x50
    reject = "RST" if is_con else "ignore, RST" if 64 <= data[1] < 192 else "ignore"
    is_too_long = len(data) > 1152
    options = parsed(data[: 4 + (data[0] & 15)] if is_too_long else data)
    if options is None:
        return "RST" if is_con else "ignore"
    if not 0 < data[1] < 32:
        return reject
    if is_too_long:
        return "4.13"
    code = code_for(data[1], options)
    if not is_con and code == "4.02":
        return "RST"  # 5.4.1; a NON may be rejected so
    if is_unwanted(options, code):
        return "ACK" if is_con else "ignore"
    return code


def outcome(data, reply):
    """What `reply` is to `data`: "ignore", "ACK", "RST" or a code; anything else is wrong in itself."""
    if reply is None:
        return "ignore"
    is_con = data[0] < 0x50
    if not reply[1]:
        right = len(reply) == 4 and reply[2:4] == data[2:4] and reply[0] in (0x60, 0x70)
        return ("ACK" if reply[0] == 0x60 else "RST") if right else "another empty message"
    token_end = 4 + (data[0] & 15)
    if reply[4:token_end] != data[4:token_end] or reply[0] != (0x60 if is_con else 0x50) | data[0] & 15:
        return "another token, type or version"
    if is_con and reply[2:4] != data[2:4]:
        return "ACK of another message"
    is_too_large = reply[1] == coap.REQUEST_ENTITY_TOO_LARGE
    if reply[1] > 127 and len(reply) > token_end + 3 + is_too_large:  # Max-Age 60; Size1, which fits in 3 bytes and 1
        return "an error longer than its option"
    return "%d.%02d" % (reply[1] >> 5, reply[1] & 31)


# ---- the classes; each is called with a Random ----


def header(r, code=None):
    """A header of CON or NON with a token of any bytes."""
    token_len = r.below(9)
    if code is None:
        code = (1, 1, 1, 3, 3, 2, 4, 5, 7, 8, 31)[r.below(11)]
    return bytes((0x40 | r.below(2) << 4 | token_len, code, 0, 0)) + r.bytes(token_len)


def put_option(out, delta, value):
    """Append an option as section 3.1 has it."""
    parts = []
    nibbles = 0
    for n in delta, len(value):
        size = (n > 12) + (n > 268)
        nibbles = nibbles << 4 | (n if not size else 12 + size)
        parts.append((n - (0, 13, 269)[size]).to_bytes(size, "big") if size else b"")
    out += bytes((nibbles,)) + parts[0] + parts[1] + value


def with_options(r, pairs):
    """A request of /t with `pairs` of (number, value) and perhaps a payload."""
    out = bytearray(header(r))
    before = 0
    for number, value in sorted(pairs, key=lambda pair: pair[0]):
        put_option(out, number - before, value)
        before = number
    return bytes(out) + (b"", b"", b"\xffpayload", b"\xff")[r.below(4)]


def any_header(r):
    """Any version, type, token length and code; the length too short, right or too long."""
    version = 0x40 if r.below(4) else r.below(4) << 6
    code = r.below(256) if r.below(2) else r.below(3)
    out = bytes((version | r.below(4) << 4 | r.below(16), code, 0, 0)) + r.bytes(r.below(18)) + PATH
    return out[: r.below(len(out)) if r.below(3) else len(out)]


def known_options(r):
    """Options of all numbers with lengths in and out of their bounds, some repeated, some not in UTF-8."""
    pairs = [(11, b"t")] if r.below(5) else []
    for _ in range(r.below(4)):
        number = NUMBERS[r.below(len(NUMBERS))]
        length = LENGTHS[r.below(12 if r.below(6) else len(LENGTHS))]
        for _ in range(1 + (not r.below(4))):
            pairs.append((number, r.bytes(length)))
    return with_options(r, pairs)


def elective_options(r):
    """Nothing but electives, any number of bytes: all are to be ignored."""
    return with_options(r, [(11, b"t")] + [(2 * r.below(32768), r.bytes(r.below(20))) for _ in range(r.below(5))])


def critical_options(r):
    """One critical option that nobody knows among others."""
    pairs = [(2 * r.below(32768) + 1, r.bytes(r.below(20))), (11, b"t"), (2 * r.below(200), b"")]
    return with_options(r, pairs)


def long_options(r):
    """Uri-Path and the like at 255 bytes and beyond, where they are not to be understood any more."""
    number = (3, 8, 11, 12, 15, 20, 35, 60)[r.below(8)]
    return with_options(r, [(11, b"t"), (number, b"a" * (255 + r.below(16)))])


def beyond_any_packet(r):
    """Longer than an engine takes: requests, responses, and what is none."""
    return (header(r), any_header(r), unasked(r))[r.below(3)] + b"\xff" + bytes(1152 + r.below(300))


def many_options(r):
    """More options than any table has, empty ones too, which have sent parsers round for ever."""
    number = (11, 15, 4, 8, 1, 20, 65534, 3)[r.below(8)]
    return with_options(r, [(11, b"t")] + [(number, b"x"[: r.below(2)])] * (20 + r.below(200)))


def wrapping_options(r):
    """Numbers and lengths that pass 65535 and come to a known option again if they are cut to 16 bits."""
    out = bytearray(header(r))
    for _ in range(1 + r.below(3)):
        out += bytes((0xE0 | (0, 1, 14)[r.below(3)], 0xFE + r.below(2), r.below(256))) + r.bytes(r.below(3))
    return bytes(out) + PATH + b"\xffp"[: r.below(3)]


def any_bytes_for_options(r):
    """Any nibbles, extensions cut off, values past the end."""
    return header(r) + (PATH if r.below(2) else b"") + r.bytes(1 + r.below(12))


def changed(r):
    """A valid message of which bytes are changed, left out, put in or doubled."""
    data = bytearray(corpus.VALID[r.below(len(corpus.VALID))])
    for _ in range(1 + r.below(3)):
        at = r.below(len(data))
        data[at : at + r.below(3)] = (r.bytes(r.below(3)), b"\xff", b"\0", b"\xdd\0")[r.below(4)]
        if not data:
            break
    return bytes(data)


def cut(r):
    """A valid message that ends early."""
    data = corpus.VALID[r.below(len(corpus.VALID))]
    return data[: r.below(len(data))]


def garbage(r):
    """Any bytes; one byte many times."""
    if r.below(2):
        return bytes((r.below(256),)) * r.below(200)
    return r.bytes(r.below(40))


def unasked(r):
    """Responses, ACKs and Resets, with and without content, to nothing."""
    code = (0, 0, 65, 69, 95, 132, 160, 191, 1, 3, 0x25, 0xE1)[r.below(12)]
    out = bytearray(header(r, code))
    out[0] = out[0] & 0x4F | r.below(4) << 4
    return bytes(out) + (b"", b"\xffx", PATH, b"\xff")[r.below(4)]


CLASSES = (
    any_header, known_options, elective_options, critical_options, long_options, beyond_any_packet, many_options,
    wrapping_options, any_bytes_for_options, changed, cut, garbage, unasked,
)  # fmt: skip


def sealed(data, n):
    """`data` with message ID `n`, so that none is a duplicate of another."""
    return data[:2] + bytes((n >> 8 & 255, n & 255)) + data[4:] if len(data) > 3 else data


# ---- the states ----


class Target:
    """A server of /t, /later and /fails; `made` counts how often a handler of PUT ran, `promised` has the copies."""

    def __init__(self, **tables):
        self.engine = engine = fake.engine(tuning=fake.EXACT, **tables)
        self.made = 0
        self.promised = []
        self.record = self.first = None
        text = engine.resource("t", ct=coap.TEXT)
        text.get(lambda request, response: "text")
        text.put(self.put)
        engine.resource("later")(self.later)
        self.now_ms = 0
        self.is_full = False

    def put(self, request, response):
        self.made += 1

    def later(self, request, response):
        self.promised.append(response.copy())
        return coap.LATER

    def open(self, message, peer=PEER):
        """Send a message of the engine's own; `first` is its datagram."""
        self.record = self.engine.send(message, peer)
        self.first = due(self.engine, self.now_ms)[0]
        return self


def with_request():
    return Target().open(coap.Message(coap.POST, uri_path=("x",)))


def with_acknowledged_request():
    target = with_request()
    target.engine.receive(empty(coap.ACK, head(target.first)[2]), PEER, 0)
    return target


def with_non_request():
    return Target().open(coap.Message(coap.GET, mtype=coap.NON))


def with_group_request():
    return Target().open(coap.Message(coap.GET), ("224.0.1.187", 5683))


def with_ping():
    return Target().open(coap.Message(0))


def with_promise():
    target = Target()
    check.eq(head(target.engine.receive(packet(2, 9, uri_path=("later",)), PEER, 0)), (coap.ACK, 0, 9))
    return target


def with_separate_response():
    target = with_promise()
    target.record = target.engine.send(target.promised.pop())
    target.first = due(target.engine, 0)[0]
    return target


def with_full_tables():
    """All that others may fill: promises, the table of duplicates but for this host's share, answers to groups."""
    target = Target(kept=8, kept_per_host=4, pending=2, queued=2)
    for n in range(8):
        request = packet(coap.PUT, n, uri_path=("later" if n < 3 else "t",))
        target.engine.receive(request, ("192.0.2.%d" % (100 + n // 4), 5683), 0)
    for n in range(4):
        target.engine.receive(packet(coap.GET, 100 + n, coap.NON, uri_path=("t",)), PEER, 0, True)
    target.is_full = True
    return target


STATES = (
    Target, with_request, with_acknowledged_request, with_non_request, with_group_request, with_ping, with_promise,
    with_separate_response, with_full_tables,
)  # fmt: skip


# ---- the attack ----


def misjudged(target, data, peer):
    """What is wrong with how the engine of `target` takes `data`, or None."""
    made = target.made
    found = outcome(data, target.engine.receive(data, peer, target.now_ms))
    expected = allowed(data)
    if found not in expected.split(", "):
        # a table of others is full: 5.03, and silence to a NON
        is_refused = found == "5.03" or found == "ignore" and data[0] >= 0x50
        if not (target.is_full and is_refused and expected in ("2.04", "ACK", "ignore")):
            return "%s, not %s" % (found, expected)
    if target.made != made and not (found == "2.04" or found in ("ACK", "ignore")):
        return found + ", but it was executed"
    return "for the application" if target.engine.received is not None else None


def attack(target, r, count):
    """Send `count` datagrams of each class; returns the first that were taken otherwise than allowed."""
    wrong = []
    n = r.below(60000)
    for make in CLASSES:
        for _ in range(count):
            n += 1
            data = sealed(make(r), n)
            what = misjudged(target, data, ("192.0.2.%d" % (2 + n % 4), 1024 + n % 60000))
            if what:
                wrong.append((make.__name__, what, data[:80]))
    return wrong[:4]


def test_server_when_attacked_in_any_state_then_as_the_rules_have_it():
    """RFC 7252 section 3, 4.2, 4.3, 5.4, 5.8: every class, in every state."""
    for state in STATES:
        target = state()
        check.eq(attack(target, Random(SEED), 60 * ROUNDS), [], state.__name__)


# ---- answers forged to what the engine has sent ----


def forged(r, first, is_request):
    """(datagram, peer) that resembles an answer to `first`, and has one thing wrong or is none; 5.3.2, 4.4, 4.2."""
    token = first[4 : 4 + (first[0] & 15)]
    mid = first[2] << 8 | first[3]
    right = bytes((0x40 | len(token), 69, mid >> 8, mid & 255)) + token + b"\xc0\xffx"
    kind = r.below(12 if first[0] & 0x10 else 11)
    if kind < 3:  # right in all, but from elsewhere
        mtype = r.below(4)
        right = empty(mtype, mid) if r.below(2) else bytes((right[0] | mtype << 4,)) + right[1:]
        return right, (("192.0.2.2", 5683), ("192.0.2.1", 5684), ("192.0.2.1", 5683, 0, 2))[kind]
    if kind == 3:  # another message ID
        mid ^= 1 << r.below(16)
        another = bytes((0x60 | len(token), 69, mid >> 8, mid & 255)) + right[4:]
        return empty(2 + r.below(2), mid) if r.below(2) else another, PEER
    if kind == 4:  # another token: cut, longer, none, changed
        tokens = token[:-1], token + b"x", b"", token[:-1] + bytes((token[-1] ^ 1 << r.below(8),)) if token else b"y"
        token = tokens[r.below(4)][:8] if is_request and token != tokens[1][:8] else b"zz"
        mtype = r.below(3 if is_request else 2)
        return bytes((0x40 | mtype << 4 | len(token),)) + right[1:4] + token + b"\xffx", PEER
    if kind == 5:  # a code that is none of a response
        code = (1, 2, 8, 31, 0x25, 0xC0, 0xE1, 0xFF)[r.below(8)]
        return bytes((0x60 | r.below(2) << 4 | len(token), code)) + right[2:], PEER
    if kind == 6:  # a Reset with content, a response as a Reset
        return bytes((0x70 | len(token), r.below(2) * 69)) + right[2:], PEER
    if kind == 7:  # an empty ACK or Reset with content
        return empty(2 + r.below(2), mid) + r.bytes(1 + r.below(9)), PEER
    if kind == 8:  # cut off, which leaves an option or a payload that is none
        end = (b"\xff", b"\xd0", b"\x0f", b"\xf0")[r.below(4)]
        return bytes((right[0] | r.below(4) << 4,)) + right[1:-3] + end, PEER
    if kind == 9:  # token length 9 to 15
        return bytes((0x49 + r.below(7) | r.below(4) << 4,)) + right[1:], PEER
    if kind == 11:  # a NON has no ACK, not even one with the response
        return bytes((0x60 | len(token), r.below(2) * 69)) + right[2 : None if r.below(2) else -1], PEER
    return bytes((r.below(4) << 6 & ~0x40 | r.below(4) << 4 | len(token),)) + right[1:], PEER  # another version


def misled(target, r, count):
    """Send `count` forged answers to the message of `target`; returns what was taken otherwise than ignored."""
    wrong = []
    record, first = target.record, target.first
    state = record.state, record.next_event_ms
    for _ in range(count):
        data, peer = forged(r, first, bool(first[1]) and first[1] < 32)
        found = outcome(data, target.engine.receive(data, peer, 0))
        if found not in allowed(data).split(", "):
            wrong.append((found, data, peer))
        if (record.state, record.next_event_ms) != state or target.engine.received is not None:
            return wrong + [("the exchange has changed", data, peer)]
    return wrong[:4]


def test_exchange_when_answers_are_forged_then_it_goes_on_and_the_right_one_ends_it():
    """RFC 7252 section 5.3.2, 4.2, 4.4: of a request, an acknowledged one, a NON, a ping, a separate response."""
    for state in with_request, with_acknowledged_request, with_non_request, with_ping, with_separate_response:
        target = state()
        check.eq(misled(target, Random(SEED), 300 * ROUNDS), [], state.__name__)
        mtype, code, mid = head(target.first)
        if state is not with_acknowledged_request and mtype == coap.CON:
            check.eq(due(target.engine, 2000), [target.first], state.__name__)
        is_request = 0 < code < 32
        answer = packet(coap.CONTENT, 7, coap.NON, token=target.first[4:12]) if is_request else empty(coap.RST, mid)
        target.engine.receive(answer, PEER, 2100)
        check.eq((target.record.is_done(), target.record.error), (True, None if is_request else coap.Reset))


# ---- duplicates, groups ----


def test_request_when_an_attackers_datagram_comes_twice_then_the_same_answer_and_one_execution():
    """RFC 7252 section 4.5: to a CON the same ACK or Reset, a NON is ignored, and nothing runs twice."""
    r = Random(SEED)
    for make in CLASSES:
        target = Target(kept=32 * ROUNDS, kept_per_host=32 * ROUNDS)
        for n in range(30 * ROUNDS):
            data = sealed(make(r), n)
            first = target.engine.receive(data, PEER, 0)
            first = first and bytes(first)
            made = target.made
            again = target.engine.receive(data, PEER, 10)
            again = again and bytes(again)
            if first and first[0] >> 4 == 5:  # a NON; one that was too long to be read is not known
                again = None if first[1] == coap.REQUEST_ENTITY_TOO_LARGE else again
                first = None
            check.eq((again, target.made), (first, made), (make.__name__, data))


def test_write_when_an_attacker_repeats_it_after_others_then_the_same_answer_and_one_execution():
    """RFC 7252 section 4.5: as long as the message ID may not be used again."""
    r = Random(SEED)
    target = Target(kept=128 * ROUNDS, kept_per_host=128 * ROUNDS)
    replies = []
    for n in range(100 * ROUNDS):
        data = sealed(elective_options(r), n)
        replies.append((data, bytes(target.engine.receive(data, PEER, 0) or b"")))
    made = target.made
    late_ms = fake.EXACT.non_lifetime_ms - 1
    for data, reply in replies:
        again = bytes(target.engine.receive(data, PEER, late_ms) or b"")
        if len(reply) > 1 and reply[1] == coap.CHANGED:
            check.eq(again, reply if data[0] < 0x50 else b"")
    check.eq(target.made, made)


def test_group_when_attacked_then_nothing_but_successes_and_they_are_few():
    """RFC 7252 section 8.1, 8.2: no Reset, no ACK, no error, at no time; no more than are kept for a group."""
    r = Random(SEED)
    target = Target()
    for n in range(100 * ROUNDS):
        for make in CLASSES:
            data = sealed(make(r), n)
            check.eq(target.engine.receive(data, ("192.0.2.9", 1024 + r.below(60000)), 0, True), None, data)
    answers = fake.run(target.engine, 0, 6000)
    check.eq(len(answers) <= 8, True, len(answers))
    for _, answer in answers:
        check.eq(head(answer)[:2], (coap.NON, coap.CONTENT))


# ---- afterwards ----


def tables(engine):
    """How many entries the tables have."""
    used = [mid for mid in engine._duplicates.mids if mid >= 0]
    return len(engine._open), len(engine._queue), len(engine._answers), len(engine._pending), len(used)


def used_bytes():
    """Heap in use; 0 where nobody counts, or collects before the program has ended."""
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") and sys.platform != "webassembly" else 0


def test_engine_when_the_attack_is_over_then_it_serves_and_its_tables_are_empty():
    """RFC 7252 section 4.8.2: a good request is answered at once; after the lifetimes nothing is left."""
    for state in STATES:
        target = state()
        attack(target, Random(SEED + 1), 10 * ROUNDS)
        good = target.engine.receive(packet(coap.GET, 7, uri_path=("t",)), ("192.0.2.77", 5683), 0)
        check.eq((head(good), good[-4:]), ((coap.ACK, coap.CONTENT, 7), b"text"), state.__name__)
        fake.run(target.engine, 0, 600000)
        check.eq(tables(target.engine), (0, 0, 0, 0, 0), state.__name__)
        check.eq(target.record is None or target.record.is_done(), True)


def test_heap_when_attacks_follow_one_another_then_no_byte_is_lost():
    """RFC 7252 section 11: after each attack, and the lifetimes, no more is in use than after the first ones."""
    target = Target()
    before = 0
    for n in range(9):
        attack(target, Random(n), 20)
        for _, datagram in fake.run(target.engine, target.now_ms, target.now_ms + 300000):
            raise AssertionError(datagram)
        target.now_ms += 300000
        check.eq(tables(target.engine), (0, 0, 0, 0, 0))
        if n == 2:
            before = used_bytes()
    lost = used_bytes() - before
    check.eq(lost <= 128, True, lost)  # the collector takes a stale word on the stack for an address at times
