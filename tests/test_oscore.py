"""OSCORE (RFC 8613): the RFC's vectors, contexts, sequence numbers, and protected exchanges on the virtual network."""

import os
import sys
from binascii import hexlify, unhexlify

import coap
import coap_aes
import coap_oscore
import coap_oscore_keys
import coap_oscore_rtc
import fake
from check import eq, raises
from oscore_pair import SECRET, Memory

SALT = unhexlify("9e7ca92223786340")
ID_CONTEXT = unhexlify("37cbf3210017a2d3")
CLIENT = ("192.0.2.9", 40000)
SERVER = ("192.0.2.1", 5683)


def context_1(is_client=True, server=None):
    """The context of Appendix C.1."""
    ids = (b"", b"\x01") if is_client else (b"\x01", b"")
    return coap_oscore_keys.context(SECRET, ids[0], ids[1], SALT, server=server)


def context_2(is_client=True, server=None):
    """The context of Appendix C.2."""
    ids = (b"\x00", b"\x01") if is_client else (b"\x01", b"\x00")
    return coap_oscore_keys.context(SECRET, ids[0], ids[1], server=server)


def context_3(is_client=True, server=None):
    """The context of Appendix C.3."""
    ids = (b"", b"\x01") if is_client else (b"\x01", b"")
    return coap_oscore_keys.context(SECRET, ids[0], ids[1], SALT, ID_CONTEXT, server)


def hexed(data):
    return hexlify(data).decode()


# ---- Appendix C.1 to C.3 ----

# context, sender key, recipient key, sender nonce and recipient nonce of number 0
DERIVED = (
    (context_1, "f0910ed7295e6ad4b54fc793154302ff", "ffb14e093c94c9cac9471648b4f98710",
     "4622d4dd6d944168eefb54987c", "4722d4dd6d944169eefb54987c"),
    (context_2, "321b26943253c7ffb6003b0b64d74041", "e57b5635815177cd679ab4bcec9d7dda",
     "bf35ae297d2dace910c52e99f9", "bf35ae297d2dace810c52e99f9"),
    (context_3, "af2a1300a5e95788b356336eeecd2b92", "e39a0c7c77b43f03b4b39ab9a268699f",
     "2ca58fb85ff1b81c0b7181b85e", "2da58fb85ff1b81d0b7181b85e"),
)  # fmt: skip


def test_keys_when_derived_then_those_of_the_rfc():
    """RFC 8613 Appendix C.1.1, C.2.1, C.3.1: the client's side."""
    for make, sender_key, recipient_key, sender_nonce, recipient_nonce in DERIVED:
        context = make()
        eq(hexed(context.sender_key), sender_key)
        eq(hexed(context.recipient_key), recipient_key)
        eq(hexed(context.sender_nonce(0)), sender_nonce)
        eq(hexed(context.recipient_nonce(0)), recipient_nonce)


def test_keys_of_the_server_when_derived_then_the_other_way_round():
    """RFC 8613 Appendix C.1.2, C.2.2, C.3.2: the server's side."""
    for make, sender_key, recipient_key, sender_nonce, recipient_nonce in DERIVED:
        context = make(False)
        eq(hexed(context.sender_key), recipient_key)
        eq(hexed(context.recipient_key), sender_key)
        eq(hexed(context.sender_nonce(0)), recipient_nonce)
        eq(hexed(context.recipient_nonce(0)), sender_nonce)


# ---- Appendix C.4 to C.8 ----

# context, unprotected request, protected request, AAD, nonce; the number is 20
REQUESTS = (
    (context_1, "44015d1f00003974396c6f63616c686f737483747631",
     "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e",
     "8368456e63727970743040488501810a40411440", "4622d4dd6d944168eefb549868"),
    (context_2, "440171c30000b932396c6f63616c686f737483747631",
     "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0",
     "8368456e63727970743040498501810a4100411440", "bf35ae297d2dace910c52e99ed"),
    (context_3, "44012f8eef9bbf7a396c6f63616c686f737483747631",
     "44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3",
     "8368456e63727970743040488501810a40411440", "2ca58fb85ff1b81c0b7181b84a"),
)  # fmt: skip
RESPONSE = "64455d1f00003974ff48656c6c6f20576f726c6421"
PROTECTED_RESPONSE = "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106"
RESPONSE_WITH_NUMBER = "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e"


def client_of(context, number=20):
    """An engine whose requests to SERVER are protected with `context`, the next number set."""
    engine = fake.engine()
    oscore = coap_oscore.attach(engine, [context], Memory())
    oscore.sequence.next = number
    return engine, oscore


def server_of(context, number=0):
    """An engine with a resource `tv1`, protected with `context`."""
    engine = fake.engine()
    engine.resource("tv1")(lambda request, response: b"Hello World!")
    oscore = coap_oscore.attach(engine, [context], Memory())
    oscore.sequence.next = number
    return engine, oscore


def send_vector(engine, request):
    """Send the request of a vector; returns its record and the datagram."""
    message = coap.Message.decode(unhexlify(request))
    record = engine.send(message, SERVER)
    return record, fake.due(engine, 0)[0]


def test_requests_when_protected_then_the_bytes_of_the_rfc():
    """RFC 8613 Appendix C.4, C.5, C.6."""
    for make, unprotected, protected, aad, nonce in REQUESTS:
        engine, _ = client_of(make(server=SERVER))
        record, datagram = send_vector(engine, unprotected)
        eq(hexed(datagram), protected)
        eq(hexed(record.exchange.aad), aad)
        eq(hexed(record.exchange.nonce), nonce)


def test_requests_when_verified_then_those_that_were_protected():
    """RFC 8613 Appendix C.4, C.5, C.6: at the server."""
    for make, unprotected, protected, _, _ in REQUESTS:
        engine, _ = server_of(make(False))
        seen = []
        engine.resources[-1](lambda request, response, seen=seen: seen.append(request.copy().encode()))
        eq(fake.ask(engine, unhexlify(protected)).code, coap.CHANGED)
        eq(hexed(seen[0]), unprotected)


def test_response_when_protected_then_the_bytes_of_the_rfc():
    """RFC 8613 Appendix C.7."""
    engine, _ = server_of(context_1(False))
    eq(hexed(engine.receive(unhexlify(REQUESTS[0][2]), CLIENT, 0)), PROTECTED_RESPONSE)


def test_response_with_a_number_when_protected_then_the_bytes_of_the_rfc():
    """RFC 8613 Appendix C.8."""
    context = context_1(False)
    oscore = coap_oscore.Oscore(fake.engine(), Memory(), False, 1, 64)
    exchange = coap_oscore.Exchange(context, unhexlify(REQUESTS[0][3]), None)
    response = coap.Message.decode(unhexlify(RESPONSE))
    oscore._protect(exchange, response.packet)
    eq(hexed(response.encode()), RESPONSE_WITH_NUMBER)


def test_responses_when_verified_then_those_that_were_protected():
    """RFC 8613 Appendix C.7, C.8: at the client."""
    for protected in (PROTECTED_RESPONSE, RESPONSE_WITH_NUMBER):
        engine, _ = client_of(context_1(server=SERVER))
        record, _ = send_vector(engine, REQUESTS[0][1])
        engine.receive(unhexlify(protected), SERVER, 0)
        eq(hexed(record.response.message.encode()), RESPONSE)
        eq(record.error, None)


def test_aad_when_made_then_that_of_the_rfc():
    """RFC 8613 section 5.4."""
    eq(hexed(coap_oscore._aad(b"\0", b"\x25")), "8368456e63727970743040498501810a4100412540")


def test_option_when_made_then_those_of_the_rfc():
    """RFC 8613 section 6.3."""
    eq(hexed(coap_oscore._option_value(b"\5", b"\x25")), "090525")
    eq(hexed(coap_oscore._option_value(b"\0", b"")), "0900")
    eq(hexed(coap_oscore._option_value(b"\5", b"", b"Dalek")), "19050544616c656b")
    eq(hexed(coap_oscore._option_value(b"")), "")
    eq(hexed(coap_oscore._option_value(b"\7")), "0107")


# ---- cryptography ----


def test_plain_python_aes_when_used_then_the_vector_of_fips_197():
    """FIPS 197 Appendix C.1."""
    block = bytearray(unhexlify("00112233445566778899aabbccddeeff"))
    coap_aes.aes(bytes(range(16)), 1).encrypt(block, block)
    eq(hexed(block), "69c4e0d86a7b0430d8cdb78070b4c55a")


def sealed_and_opened(length):
    """What a message of `length` bytes is when sealed; opening it is checked."""
    message = bytes([k * 7 & 255 for k in range(length)])
    sealed = coap_oscore._seal(SECRET, bytes(13), b"aad", message)
    eq(coap_oscore._open(SECRET, bytes(13), b"aad", sealed), message)
    return sealed


def test_all_kinds_of_aes_when_used_then_the_same_bytes():
    """RFC 3610: what this interpreter has, and plain Python."""
    saved = coap_oscore.AESCCM, getattr(coap_oscore, "aes", None)
    lengths = (1, 15, 16, 17, 100)
    usual = [sealed_and_opened(length) for length in lengths]
    coap_oscore.AESCCM, coap_oscore.aes = None, coap_aes.aes
    try:
        eq([sealed_and_opened(length) for length in lengths], usual)
    finally:
        coap_oscore.AESCCM, coap_oscore.aes = saved


def test_opening_when_anything_was_changed_then_nothing():
    """RFC 8613 section 8.2: decryption fails."""
    sealed = sealed_and_opened(20)
    for k in range(len(sealed) * 8):
        forged = bytearray(sealed)
        forged[k >> 3] ^= 1 << (k & 7)
        eq(coap_oscore._open(SECRET, bytes(13), b"aad", bytes(forged)), None)
    eq(coap_oscore._open(SECRET, bytes(12) + b"\1", b"aad", sealed), None)
    eq(coap_oscore._open(SECRET, bytes(13), b"aaD", sealed), None)
    for length in range(len(sealed)):
        eq(coap_oscore._open(SECRET, bytes(13), b"aad", sealed[:length]), None)


def test_nonces_when_made_then_as_the_rfc_says_byte_by_byte():
    """RFC 8613 section 5.2: length and ID of who made the Partial IV, the Partial IV, XOR the Common IV."""
    iv = bytes(range(243, 256))
    number = 0x0102030405
    for length in range(8):
        name = bytes([201 + n for n in range(length)])
        plain = bytes((length,)) + bytes(7 - length) + name + number.to_bytes(5, "big")
        nonce = bytes([plain[k] ^ iv[k] for k in range(13)])
        sender = coap_oscore.Context(name, b"other", None, None, bytes(16), bytes(16), iv)
        recipient = coap_oscore.Context(b"other", name, None, None, bytes(16), bytes(16), iv)
        eq((sender.sender_nonce(number), recipient.recipient_nonce(number)), (nonce, nonce), length)


def test_context_when_printed_then_without_keys():
    """Key material is never shown."""
    context = context_1()
    for key in (SECRET, context.sender_key, context.recipient_key):
        eq(hexed(key) in repr(context) or repr(key) in repr(context), False)


def test_context_when_wrong_then_says_what_to_change():
    """RFC 8613 section 3.3."""
    raises(ValueError, coap_oscore_keys.context, bytes(15), b"", b"\1", contains="secret has 16 to 64 bytes, not 15")
    raises(ValueError, coap_oscore_keys.context, SECRET, bytes(8), b"\1", contains="sender_id has 0 to 7 bytes")
    raises(ValueError, coap_oscore_keys.context, SECRET, b"\1", bytes(8), contains="recipient_id has 0 to 7 bytes")
    raises(ValueError, coap_oscore_keys.context, SECRET, b"", b"\1", bytes(65), contains="salt has 0 to 64 bytes")
    raises(ValueError, coap_oscore_keys.context, SECRET, b"", b"\1", b"", bytes(65), contains="id_context has 0 to 64")
    raises(ValueError, coap_oscore_keys.context, SECRET, b"\1", b"\1", contains="must differ")
    raises(TypeError, coap_oscore_keys.context, "0102030405060708", b"", b"\1", contains="secret is bytes")


# ---- the file of contexts ----

FILE = "oscore_test.json"
GOOD = """[
  {
    "secret": "0102030405060708090a0b0c0d0e0f10",
    "salt": "9e7ca92223786340",
    "sender_id": "",
    "recipient_id": "01",
    "server": "192.0.2.1"
  },
  {
    "secret": "0102030405060708090a0b0c0d0e0f10",
    "sender_id": "00",
    "recipient_id": "01",
    "id_context": null
  }
]
"""


def loaded(text):
    """What load() makes of a file with this content."""
    with open(FILE, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    try:
        return coap_oscore_keys.load(FILE)
    finally:
        os.remove(FILE)


def test_file_when_good_then_its_contexts():
    """load(): bytes are hexadecimal digits."""
    first, second = loaded(GOOD)
    eq((first.sender_id, first.recipient_id, first.id_context, first.server), (b"", b"\x01", None, "192.0.2.1"))
    eq(hexed(first.sender_key), DERIVED[0][1])
    eq(second.server, None)
    eq(hexed(second.sender_key), DERIVED[1][1])


# what is put in the place of what, the line and the sentence
MISTAKES = (
    ('"9e7ca92223786340"', '"9e7ca9222378634"', 4, "salt is an even number of hexadecimal digits"),
    ('"9e7ca92223786340"', '"9e7ca922237863zz"', 4, "salt is an even number of hexadecimal digits"),
    ('"9e7ca92223786340"', "9", 4, "salt is an even number of hexadecimal digits"),
    ('"00"', '"0102030405060708"', 11, "sender_id has 0 to 7 bytes, not 8"),
    ('"00"', '"01"', 11, "sender_id and recipient_id must differ"),
    ('"192.0.2.1"', "1", 7, 'server is "host"'),
    ('"salt"', '"sallt"', 4, "sallt is no field; there are secret, salt"),
    ('    "sender_id": "00",\n', "", 9, "sender_id is missing"),
    ("null\n  }", "null\n  }, 5", 2, "a context is written {...}"),
    ("[", '{"a": ', 0, ""),
    ('[\n  {\n    "secret"', "[\n  {\n    secret", 3, "this is not JSON"),
    (GOOD, "{}", 1, "write a list of contexts"),
    (GOOD, "[]", 1, "write a list of contexts"),
    (GOOD, "", 1, "this is not JSON"),
)


def test_file_when_wrong_then_the_line_is_named():
    """load(): one sentence, the line, no key."""
    for old, new, line, sentence in MISTAKES:
        error = str(raises(ValueError, loaded, GOOD.replace(old, new, 1), contains=sentence))
        if line > 2:
            eq(error.startswith("%s line %d: " % (FILE, line)), True, error)
        eq("0102030405060708090a" in error or "9e7ca9" in error, False, error)


def test_file_when_it_is_no_text_then_said():
    """load(): a file of another kind, as one of keys in binary."""
    for data in (b"[\xff\xfe", b"\x80" * 32, b"[{\n\xe4"):
        error = str(raises(ValueError, loaded, data))
        eq(error.startswith(FILE + " line ") and "this is not" in error, True, error)


def test_secret_when_too_short_then_the_line_is_named():
    """load(): the secret itself is not shown."""
    text = GOOD.replace("0102030405060708090a0b0c0d0e0f10", "0a0b0c", 1)
    error = str(raises(ValueError, loaded, text))
    eq(error, FILE + " line 3: secret has 16 to 64 bytes, not 3")


# ---- sequence numbers (Appendix B.1.1) ----


class Flash(coap_oscore.Store):
    """A Store whose memory is a list, and whose power fails when `left` bytes were written."""

    def __init__(self, records):
        self.records = records
        self.left = None

    def read(self, k):
        return self.records[k]

    def write(self, k, record):
        if self.left is not None and self.left < len(record):
            self.records[k] = record[: self.left]
            raise OSError("power")
        self.records[k] = record


def test_store_when_not_created_then_value_error():
    """Without a number nothing may be sent: it might be used twice."""
    raises(ValueError, coap_oscore.Sequence, Flash([b"", b""]), contains="call coap_oscore_keys.create")


def test_store_when_created_twice_then_value_error():
    """A number that may have been used is not replaced."""
    flash = Flash([b"", b""])
    coap_oscore_keys.create(flash)
    eq(flash.load(), 0)
    raises(ValueError, coap_oscore_keys.create, flash, contains="only new keys")


def test_record_when_torn_anywhere_then_the_other_counts():
    """Appendix B.1.1: whatever was written when the power failed."""
    for left in range(16):
        records = [b"", b""]
        coap_oscore_keys.create(Flash(records))
        sequence = coap_oscore.Sequence(Flash(records))
        used = [sequence.take() for _ in range(64)]
        sequence.store.left = left
        raises(coap_oscore.Exhausted, sequence.take)
        again = coap_oscore.Sequence(Flash(records))
        eq(again.take() > used[-1], True)
        for _ in range(200):
            again.take()
        eq(coap_oscore.Sequence(Flash(records)).take() > again.next - 1, True)


class Worn(Flash):
    """A memory that keeps nothing new, and does not say so."""

    def write(self, k, record):
        pass


def test_store_when_its_memory_fails_in_silence_then_no_number_is_used_that_is_not_stored():
    """Appendix B.1.1: what was written is read back; what was there may be gone."""
    for records, sentence in (([b"", b""], "no sequence number is stored"), (None, "was not stored")):
        kept = [b"", b""]
        coap_oscore_keys.create(Flash(kept))
        sequence = coap_oscore.Sequence(Flash(kept))
        for _ in range(64):
            sequence.take()
        sequence.store = Worn(records or kept)
        raises(coap_oscore.Exhausted, sequence.take, contains=sentence)


def test_record_when_a_bit_is_wrong_then_not_accepted():
    """Torn-write detection."""
    record = coap_oscore._record(1234567)
    for k in range(128):
        torn = bytearray(record)
        torn[k >> 3] ^= 1 << (k & 7)
        eq(Flash([bytes(torn), b""]).numbers(), [None, None])
    eq(Flash([record, record + b"x"]).numbers(), [1234567, None])


def test_sequence_when_restarted_then_behind_what_was_reserved():
    """Appendix B.1.1: SSN2 = SSN1 + K + F."""
    memory = Memory()
    sequence = coap_oscore.Sequence(memory)
    eq((sequence.is_new, memory.number, memory.saves), (True, 64, 2))
    eq([sequence.take() for _ in range(65)], list(range(65)))
    eq((memory.number, memory.saves), (128, 3))
    sequence = coap_oscore.Sequence(memory)
    eq((sequence.is_new, memory.saves), (False, 3))
    eq(sequence.take(), 128 + 64)
    eq((memory.number, memory.saves), (256, 5))


def test_store_when_two_endpoints_use_it_then_no_number_twice():
    """Appendix B.1.1: the second that was started goes on, the first is told before it would use the second's."""
    for ahead in (0, 1, 64, 65, 200, -1, -64, -65):  # numbers that the first has used by then; < 0: of one object
        records = [b"", b""]
        coap_oscore_keys.create(Flash(records))
        first = coap_oscore.Sequence(Flash(records))
        used = [first.take() for _ in range(abs(ahead))]
        second = coap_oscore.Sequence(first.store if ahead < 0 else Flash(records))
        used += [second.take() for _ in range(300)]
        used += [first.take() for _ in range(0 if first.limit is None else first.limit - first.next)]
        raises(coap_oscore.Exhausted, first.take, contains="another endpoint uses the same store")
        eq(len(set(used)), len(used), ahead)
        used.append(second.take())


def test_store_when_two_endpoints_start_at_once_then_no_number_twice():
    """Appendix B.1.1: both have loaded the same number before one of them stores another."""
    records = [b"", b""]
    coap_oscore_keys.create(Flash(records))
    coap_oscore.Sequence(Flash(records)).take()
    store = Flash(records)
    for stores in (store, store), (Flash(records), Flash(records)):
        first, second = [coap_oscore.Sequence(each) for each in stores]
        used = [first.take() for _ in range(3)]
        raises(coap_oscore.Exhausted, second.take, contains="another endpoint uses the same store")
        used += [first.take() for _ in range(200)]
        eq(len(set(used)), 203)


class Doubtful(Flash):
    """A memory that writes and says it did not, or the other way round, as often as `faults` has entries."""

    def __init__(self, records):
        super().__init__(records)
        self.faults = []

    def write(self, k, record):
        fault = self.faults.pop(0) if self.faults else None
        if fault is None or fault[0]:
            self.records[k] = record
        elif fault[0] is None:
            self.records[k] = record[:7]
        if fault is not None:
            raise fault[1]


def test_store_when_a_write_failed_or_seemed_to_then_it_goes_on_and_no_number_twice():
    """Appendix B.1.1: an error after the writing, as of a sync, or no memory, must not stop the endpoint for good."""
    for error in (OSError(5), MemoryError()):
        for is_written in (True, False, None):
            records = [b"", b""]
            coap_oscore_keys.create(Flash(records))
            used = []
            for _ in range(3):  # behind a restart, too
                flash = Doubtful(records)
                sequence = coap_oscore.Sequence(flash)
                flash.faults += [None, (is_written, error)] * 2 + [(is_written, error)] * 2
                for _ in range(400):
                    try:
                        used.append(sequence.take())
                    except (coap_oscore.Exhausted, MemoryError):
                        pass
            eq(len(used), 3 * (400 - 4), is_written)
            eq(len(set(used)), len(used), is_written)


def test_store_when_a_write_failed_near_the_last_number_then_none_is_longer():
    """RFC 8613 section 7.2.1: what is skipped must not lead beyond 2**40 - 1."""
    flash = Doubtful([coap_oscore._record((1 << 40) - 140), b""])
    sequence = coap_oscore.Sequence(flash)
    eq(sequence.take(), (1 << 40) - 76)
    sequence.next = sequence.limit
    flash.faults.append((True, OSError(5)))
    raises(coap_oscore.Exhausted, sequence.take, contains="cannot be stored")
    for _ in range(3):
        raises(coap_oscore.Exhausted, sequence.take, contains="all sequence numbers are used")


def test_attach_when_an_argument_is_out_of_range_then_said_and_nothing_is_stored():
    """Appendix B.1.1: with a step of 0 the numbers of before would come again after a restart."""
    for name, value in (("step", 0), ("step", -1), ("step", (1 << 20) + 1), ("observations", -1)):
        memory = Memory(0)
        raises(ValueError, coap_oscore.attach, fake.engine(), [], memory, contains=name, **{name: value})
        eq(memory.saves, 0)
    for name in ("step", "observations"):
        raises(TypeError, coap_oscore.attach, fake.engine(), [], Memory(), contains=name + " is an int", **{name: 1.5})


def test_store_when_it_loads_what_is_no_number_then_said():
    """Store: any object with load() and save() serves, also one of a person."""
    raises(TypeError, coap_oscore.Sequence, Memory(None), contains="the stored sequence number is an int")
    for number in (-1, 1 << 40):
        raises(ValueError, coap_oscore.Sequence, Memory(number), contains="the stored sequence number is 0 to")


def test_attach_when_done_already_then_value_error():
    """attach(): of two, each would refuse what is protected with the contexts of the other."""
    engine = fake.engine()
    coap_oscore.attach(engine, [], Memory())
    memory = Memory(0)
    raises(ValueError, coap_oscore.attach, engine, [], memory, contains="attached already")
    eq((memory.saves, len(engine._extensions)), (0, 1))


def test_attach_when_given_names_of_files_then_reads_them_and_lets_the_reader_go():
    """attach(): contexts and store as names; coap_oscore_keys is needed at the start only."""
    path = "oscore_test.seq"
    try:
        coap_oscore_keys.create(coap_oscore.FileStore(path))
        with open(FILE, "w") as file:
            file.write(GOOD)
        oscore = coap_oscore.attach(fake.engine(), FILE, path)
        eq([context.recipient_id for context in oscore.contexts], [b"\x01", b"\x01"])
        eq("coap_oscore_keys" in sys.modules, False)
        eq(coap_oscore.FileStore(path).load(), 64)
    finally:
        sys.modules["coap_oscore_keys"] = coap_oscore_keys
        for name in (FILE, path + "0", path + "1"):
            if name in os.listdir():
                os.remove(name)


class Cache(Memory):
    """A store whose latest write is lost when the power fails."""

    before = None

    def save(self, number):
        self.before = self.number
        super().save(number)

    def fail(self):
        if self.before is not None:
            self.number = self.before


def test_sequence_when_the_latest_write_was_lost_then_no_number_twice():
    """Appendix B.1.1: F covers one write that the memory had promised."""
    for count in range(1, 140):
        cache = Cache(1000)
        used = set()
        for _ in range(4):
            sequence = coap_oscore.Sequence(cache)
            for _ in range(count):
                number = sequence.take()
                eq(number in used, False, (count, number))
                used.add(number)
            cache.fail()


class Cached:
    """A store that loads what a sync has failed to store, too; the latest write that did not fail may be lost."""

    def __init__(self):
        self.number = self.stored = self.latest = 1000
        self.fails = False

    def load(self):
        return self.number

    def save(self, number):
        self.number = number
        if self.fails:
            raise OSError(5)
        self.stored = self.latest
        self.latest = number

    def lose(self):
        self.number = self.latest = self.stored


def test_sequence_when_a_sync_failed_and_the_write_after_it_was_lost_then_no_number_twice():
    """Appendix B.1.1: what can be read after an error is not stored for good; F covers one write besides."""
    for failures in (1, 2, 3):
        cached = Cached()
        used = []
        for life in range(3):
            sequence = coap_oscore.Sequence(cached, 4)
            for n in range(16):
                cached.fails = life == 0 and 12 <= n < 12 + failures
                try:
                    used.append(sequence.take())
                except coap_oscore.Exhausted:
                    pass
            cached.lose()
        eq(len(used), 3 * 16 - failures)
        eq(len(set(used)), len(used), failures)


def test_file_store_when_used_then_its_two_files():
    """FileStore."""
    path = "oscore_test.seq"
    try:
        store = coap_oscore.FileStore(path)
        raises(ValueError, store.load)
        coap_oscore_keys.create(store)
        for number in (5, 6, 7, (1 << 40) - 1):
            store.save(number)
            eq(coap_oscore.FileStore(path).load(), number)
        with open(path + str(store.latest), "wb") as file:
            file.write(b"torn")
        eq(coap_oscore.FileStore(path).load(), 7)
    finally:
        for k in "01":
            if path + k in os.listdir():
                os.remove(path + k)


class Rtc:
    """machine.RTC, of which only memory() is used."""

    def __init__(self):
        self.content = b""

    def memory(self, content=None):
        if content is None:
            return self.content
        self.content = bytes(content)


def test_rtc_store_when_used_then_beside_what_others_keep():
    """RtcStore."""
    rtc = Rtc()
    rtc.memory(b"other")
    store = coap_oscore_rtc.RtcStore(rtc, 5)
    raises(ValueError, store.load)
    coap_oscore_keys.create(store)
    for number in (5, 6, 7):
        store.save(number)
        eq(coap_oscore_rtc.RtcStore(rtc, 5).load(), number)
    eq((rtc.content[:5], len(rtc.content)), (b"other", 37))
