"""Messages in wire format: RFC 7252's examples, the limits of option headers and values, broken datagrams."""

from array import array
from binascii import unhexlify

import check
import coap
from coap import ACK, CON, CONTENT, GET, NON, RST, Message

# RFC 7252 Appendix A: figure, fields, datagram
APPENDIX_A = (
    (16, CON, GET, 0x7D34, b"", b"", "40017d34 bb 74656d7065726174757265"),
    (16, ACK, CONTENT, 0x7D34, b"", b"22.3 C", "60457d34 ff 32322e332043"),
    (17, CON, GET, 0x7D35, b"\x20", b"", "41017d35 20 bb 74656d7065726174757265"),
    (17, ACK, CONTENT, 0x7D35, b"\x20", b"22.3 C", "61457d35 20 ff 32322e332043"),
    (18, CON, GET, 0x7D36, b"\x31", b"", "41017d36 31 bb 74656d7065726174757265"),
    (18, ACK, CONTENT, 0x7D36, b"\x31", b"22.3 C", "61457d36 31 ff 32322e332043"),
    (19, CON, GET, 0x7D37, b"\x42", b"", "41017d37 42 bb 74656d7065726174757265"),
    (19, ACK, CONTENT, 0x7D37, b"\x42", b"22.3 C", "61457d37 42 ff 32322e332043"),
    (20, CON, GET, 0x7D38, b"\x53", b"", "41017d38 53 bb 74656d7065726174757265"),
    (20, ACK, 0, 0x7D38, b"", b"", "60007d38"),
    (20, CON, CONTENT, 0xAD7B, b"\x53", b"22.3 C", "4145ad7b 53 ff 32322e332043"),
    (20, ACK, 0, 0xAD7B, b"", b"", "6000ad7b"),
    (21, CON, GET, 0x7D39, b"\x64", b"", "41017d39 64 bb 74656d7065726174757265"),
    (21, ACK, 0, 0x7D39, b"", b"", "60007d39"),
    (21, CON, CONTENT, 0xAD7C, b"\x64", b"22.3 C", "4145ad7c 64 ff 32322e332043"),
    (21, RST, 0, 0xAD7C, b"", b"", "7000ad7c"),
    (22, NON, GET, 0x7D40, b"\x75", b"", "51017d40 75 bb 74656d7065726174757265"),
    (22, NON, CONTENT, 0xAD7D, b"\x75", b"22.3 C", "5145ad7d 75 ff 32322e332043"),
    (23, NON, GET, 0x7D41, b"\x86", b"", "51017d41 86 bb 74656d7065726174757265"),
    (23, NON, CONTENT, 0x60B1, b"\x86", b"20.9 C", "514560b1 86 ff 32302e392043"),
    (23, NON, CONTENT, 0x01A0, b"\x86", b"20.9 C", "514501a0 86 ff 32302e392043"),
)


def from_hex(text):
    return unhexlify(text.replace(" ", ""))


def test_message_when_built_as_in_appendix_a_then_its_bytes():
    """RFC 7252 appendix A: every message of figures 16 to 23."""
    for figure, mtype, code, mid, token, payload, text in APPENDIX_A:
        options = {"uri_path": ("temperature",)} if code == GET else {}
        message = Message(code, mtype=mtype, mid=mid, token=token, payload=payload, **options)
        check.eq(message.encode(), from_hex(text), "figure %d" % figure)
        check.eq(message.encode(), from_hex(text), "figure %d, again" % figure)


def test_datagram_when_decoded_as_in_appendix_a_then_its_fields():
    """RFC 7252 appendix A: every message of figures 16 to 23."""
    for figure, mtype, code, mid, token, payload, text in APPENDIX_A:
        message = Message.decode(from_hex(text), ("192.0.2.1", 5683))
        found = message.mtype, message.code, message.mid, message.token, message.payload
        check.eq(found, (mtype, code, mid, token, payload), "figure %d" % figure)
        check.eq(message.opt.uri_path, ("temperature",) if code == GET else (), "figure %d" % figure)
        check.eq((message.version, message.remote), (1, ("192.0.2.1", 5683)))
        check.eq(message.encode(), from_hex(text), "figure %d" % figure)


# ---- option headers ----

# delta or length, its nibble, its extension (RFC 7252 section 3.1)
EXTENSIONS = (
    (0, 0, ""),
    (1, 1, ""),
    (12, 12, ""),
    (13, 13, "00"),
    (14, 13, "01"),
    (268, 13, "ff"),
    (269, 14, "0000"),
    (270, 14, "0001"),
    (524, 14, "00ff"),
    (525, 14, "0100"),
    (1023, 14, "02f2"),
)
BASE = 30  # number of an option before it, unknown and elective


def test_option_when_delta_and_length_are_at_a_boundary_then_header_is_exact():
    """RFC 7252 section 3.1: 0 to 12 in the nibble, 13 to 268 in one byte more, 269 and up in two."""
    for delta, delta_nibble, delta_extension in EXTENSIONS:
        for length, length_nibble, length_extension in EXTENSIONS:
            number = BASE + delta
            value = b"v" * length
            message = Message(GET, mtype=CON, mid=1).add_option(BASE, b"").add_option(number, value)
            expected = b"\x40\x01\x00\x01\xd0\x11" + bytes((delta_nibble << 4 | length_nibble,))
            expected += from_hex(delta_extension + length_extension) + value
            what = "delta %d, length %d" % (delta, length)
            data = message.encode()
            assert data == expected, what
            read = Message.decode(data)
            if delta:
                check.eq(read.find_option(BASE), (b"",), what)
                assert read.find_option(number) == (value,), what
            else:
                assert read.find_option(number) == (b"", value), what
            assert read.copy().add_option(65533, b"").delete_option(65533).encode() == data, what


def test_option_when_delta_is_the_largest_then_header_is_exact():
    """RFC 7252 section 3.1: two bytes hold up to 65535 + 269."""
    for number, extension in (65524, "fee7"), (65534, "fef1"):
        data = Message(GET, mtype=CON, mid=1).add_option(number, b"v").encode()
        check.eq(data, from_hex("40010001 e1" + extension + "76"))
        check.eq(Message.decode(data).options, ((number, b"v"),))


def test_option_when_length_is_the_largest_then_header_is_exact():
    """RFC 7252 section 3.1: two bytes hold up to 65535 + 269."""
    for length, extension in (65535, "fef2"), (65804, "ffff"):
        try:
            value = bytes(length)
            data = Message(GET, mtype=CON, mid=1).add_option(12 + 2048, value).encode()
            read = Message.decode(data).find_option(2060)
        except MemoryError:
            raise check.Skip("memory for an option of 64 KiB")
        check.eq(data[:9], from_hex("40010001 ee 06ff" + extension))
        assert len(data) == 9 + length and read == (value,)


def test_option_when_number_is_65535_then_it_round_trips():
    """RFC 7252 section 5.4.6: numbers are 16 bits."""
    data = Message(GET, mtype=CON, mid=1).add_option(65535, b"x").encode()
    check.eq(data, from_hex("40010001 e1fef2 78"))
    check.eq(Message.decode(data).options, ((65535, b"x"),))


def test_option_when_65535_is_added_to_a_received_message_then_it_is_65535():
    """RFC 7252 section 5.4.6: the last number is one like any other."""
    for text in "40010001", "40010001 a0", "40010001 b174 ff70":
        message = Message.decode(from_hex(text)).add_option(65535, b"x")
        check.eq(message.options[-1], (65535, b"x"), text)
        check.eq(Message.decode(message.encode()).options, message.options, text)
        check.eq(message.delete_option(65535).encode(), from_hex(text))


def test_option_when_longer_than_a_header_can_say_then_valueerror():
    """RFC 7252 section 3.1: the longest value has 269 + 65535 bytes."""
    message = Message(GET, mtype=CON, mid=1)
    before = message.encode()
    try:
        value = bytes(65805)
    except MemoryError:
        raise check.Skip("memory for an option of 64 KiB")
    check.raises(ValueError, message.add_option, 65000, value)
    check.eq(message.encode(), before, "after the error")


def test_options_when_added_in_any_order_then_sorted_and_repeats_in_order():
    """RFC 7252 section 3.1, 5.4.5: ascending numbers; values of a repeated option in the order of adding."""
    pairs = ((15, "q1"), (3, "host"), (11, "a"), (2000, b"z"), (11, "b"), (15, "q2"), (11, ""), (60, 5))
    message = Message(GET, mtype=CON, mid=1)
    for number, value in pairs:
        message.add_option(number, value)
    expected = (3, "host"), (11, "a"), (11, "b"), (11, ""), (15, "q1"), (15, "q2"), (60, 5), (2000, b"z")
    check.eq(message.options, expected)
    wanted = "40010001 34686f7374 8161 0162 00 427131 027132 d12005 e1 0687 7a"
    check.eq(message.encode(), from_hex(wanted))
    check.eq(Message.decode(message.encode()).options, expected)


def test_option_when_repeated_five_times_then_five_in_order():
    """RFC 7252 section 5.4.5: repeatable options keep their order."""
    segments = ("e", "d", "c", "b", "a")
    by_name = Message(GET, mtype=CON, mid=1, uri_path=segments)
    by_number = Message(GET, mtype=CON, mid=1)
    for segment in segments:
        by_number.add_option(11, segment)
    check.eq(by_name.encode(), from_hex("40010001 b165 0164 0163 0162 0161"))
    check.eq(by_number.encode(), by_name.encode())
    check.eq(Message.decode(by_name.encode()).opt.uri_path, segments)
    etags = (b"1", b"22", b"333", b"4444", b"55555")
    message = Message.decode(Message(GET, mtype=CON, mid=1, etags=etags).encode())
    check.eq((message.opt.etags, message.opt.etag, message.find_option(4)), (etags, b"1", etags))


def test_option_when_repeated_a_thousand_times_and_read_as_one_then_the_others_are_not_read():
    """RFC 7252 section 5.4.5: a list of them would take the heap of a board, at a stranger's datagram."""
    read_value = coap._read_value
    read = []

    def counted(p, start, place):
        read.append(start)
        return read_value(p, start, place)

    coap._read_value = counted
    try:
        message = Message.decode(b"\x40\x01\0\1\x60" + 1000 * b"\0" + b"\xb1a" + 100 * b"\x01b")
        check.eq((message.opt.observe, message.opt.proxy_uri, len(read)), (0, None, 1))
        check.eq((len(message.find_option(6)), len(message.find_option(17))), (1001, 101))
    finally:
        coap._read_value = read_value


class NoRoom:
    """In the place of `object`: there is memory for an object, but none for its first attribute."""

    @staticmethod
    def __new__(cls):
        return object.__new__(cls)

    @staticmethod
    def __setattr__(*args):
        raise MemoryError


def test_opt_when_there_was_no_memory_for_it_then_it_is_there_later():
    """RFC 7252 section 5.4: the message of an Endpoint's requests is used for all of them."""
    message = Message(GET, uri_path=("a",))
    coap.object = NoRoom
    try:
        check.raises(MemoryError, lambda: message.opt)
    finally:
        del coap.object
    check.eq(message.opt.uri_path, ("a",))


def test_option_when_replaced_or_deleted_then_the_others_stay():
    """RFC 7252 section 3.1: deltas follow."""
    message = Message(GET, mtype=CON, mid=1, uri_host="h", uri_path=("a", "b"), uri_query=("q",))
    message.replace_option(11, "x", "y", "z")
    check.eq(message.options, ((3, "h"), (11, "x"), (11, "y"), (11, "z"), (15, "q")))
    message.delete_option(3).delete_option(15).delete_option(14)
    check.eq(message.encode(), from_hex("40010001 b178 0179 017a"))
    message.replace_option(11)
    check.eq(message.encode(), from_hex("40010001"))
    message.opt.uri_port = 61616
    message.opt.uri_host = "i"
    check.eq(message.options, ((3, "i"), (7, 61616)))
    message.opt.uri_host = None
    check.eq(message.options, ((7, 61616),))


def test_option_when_the_first_is_malformed_then_a_repeat_of_it_is_ignored_too():
    """RFC 7252 sections 5.4.3 and 5.4.5: Content-Format of 3 bytes, and again of 1."""
    message = coap.Message.decode(b"\x40\x01\x00\x01\xc3\0\0\0\x01\x32")
    check.eq(message.opt.content_format, None)


def test_options_when_set_in_a_received_message_then_the_datagram_is_unchanged():
    """RFC 7252 section 3: a received message is a view; changing it makes a message of its own."""
    data = from_hex("42031234 abcd b174 11 2a ff 6162")
    message = Message.decode(data)
    message.opt.uri_path = ("x", "y")
    message.add_option(4, b"tag")
    message.payload = "z"
    message.token = b"t"
    check.eq(message.encode(), from_hex("41031234 74 43746167 7178 0179 112a ff 7a"))
    check.eq(data, from_hex("42031234 abcd b174 11 2a ff 6162"))
    check.eq(Message.decode(data).payload, b"ab")


# ---- option values ----

# value, Size1 (number 60) of it
UINTS = (
    (0, ""),
    (1, "01"),
    (255, "ff"),
    (256, "0100"),
    (65535, "ffff"),
    (65536, "010000"),
    ((1 << 24) - 1, "ffffff"),
    (1 << 24, "01000000"),
    ((1 << 30) - 1, "3fffffff"),
    (1 << 30, "40000000"),
    ((1 << 32) - 1, "ffffffff"),
)


def test_uint_when_encoded_then_minimal_and_read_back():
    """RFC 7252 section 3.2: as few bytes as possible, none for 0."""
    for value, text in UINTS:
        data = Message(GET, mtype=CON, mid=1, size1=value).encode()
        check.eq(data, from_hex("40010001 d%d2f %s" % (len(text) // 2, text)), "size1 %d" % value)
        check.eq(Message.decode(data).opt.size1, value)
        check.eq(Message.decode(data).options, ((60, value),))


def test_uint_when_it_has_leading_zeros_then_they_do_not_count():
    """RFC 7252 section 3.2: a recipient must be prepared for leading zero bytes."""
    for text, value in (("00", 0), ("0000", 0), ("00000000", 0), ("01", 1), ("0001", 1), ("00000100", 256)):
        data = from_hex("40010001 d%d2f %s" % (len(text) // 2, text))
        check.eq(Message.decode(data).opt.size1, value, text)
    check.eq(Message.decode(from_hex("40010001 c20028")).opt.content_format, 40)
    check.eq(Message.decode(from_hex("40010001 620000")).opt.observe, 0)
    check.eq(Message.decode(from_hex("40010001 720050")).opt.uri_port, 80)


# option number, shortest and longest value by its RFC
LENGTHS = (
    ("if_match", 1, 0, 8),
    ("uri_host", 3, 1, 255),
    ("etag", 4, 1, 8),
    ("if_none_match", 5, 0, 0),
    ("observe", 6, 0, 3),
    ("uri_port", 7, 0, 2),
    ("location_path", 8, 0, 255),
    ("uri_path", 11, 0, 255),
    ("content_format", 12, 0, 2),
    ("max_age", 14, 0, 4),
    ("uri_query", 15, 0, 255),
    ("hop_limit", 16, 1, 1),
    ("accept", 17, 0, 2),
    ("location_query", 20, 0, 255),
    ("block2", 23, 0, 3),
    ("block1", 27, 0, 3),
    ("size2", 28, 0, 4),
    ("proxy_uri", 35, 1, 1034),
    ("proxy_scheme", 39, 1, 255),
    ("size1", 60, 0, 4),
    ("echo", 252, 1, 40),
    ("no_response", 258, 0, 1),
    ("request_tag", 292, 0, 8),
)


def raw_message(number, value):
    """A datagram with option `number`, made by hand: the codec refuses bad lengths."""
    header = bytearray(1)
    for n, shift in (number, 4), (len(value), 0):
        header[0] |= (n if n < 13 else 13 if n < 269 else 14) << shift
        if n >= 269:
            header += bytes((n - 269 >> 8, n - 269 & 255))
        elif n >= 13:
            header.append(n - 13)
    return b"\x40\x01\x00\x01" + bytes(header) + value


def test_option_when_length_is_allowed_then_it_is_read():
    """RFC 7252 section 5.10 and the options' own RFCs: shortest and longest value."""
    for name, number, shortest, longest in LENGTHS:
        for length in shortest, longest:
            message = Message.decode(raw_message(number, b"a" * length))
            what = "%s of %d bytes" % (name, length)
            check.eq(len(message.find_option(number)), 1, what)
            value = getattr(message.opt, name)
            assert value is not None and value != (), what
            data = Message(GET, mtype=CON, mid=1, **{name: value}).encode()
            check.eq(data, raw_message(number, b"a" * length), what)


def test_option_when_length_is_not_allowed_then_it_is_as_if_unknown():
    """RFC 7252 section 5.4.3: a value of a wrong length is treated like an unrecognised option."""
    for name, number, shortest, longest in LENGTHS:
        for length in shortest - 1, longest + 1:
            if length < 0 or length == 1035:  # Proxy-Uri is for the proxy to judge
                continue
            message = Message.decode(raw_message(number, b"a" * length))
            what = "%s of %d bytes" % (name, length)
            check.eq(message.find_option(number), (), what)
            value = getattr(message.opt, name)
            assert value is None or value == () or value is False, what
            check.eq(message.options, ((number, b"a" * length),), what)
            check.eq(message.encode(), raw_message(number, b"a" * length), what)


def test_option_when_value_is_too_short_or_too_long_then_valueerror():
    """RFC 7252 section 5.10: what an option cannot hold is not built."""
    for name, number, shortest, longest in LENGTHS:
        for length in shortest - 1, longest + 1:
            if length >= 0 and length != 1035:  # Proxy-Uri is for the proxy to judge
                message = Message(GET, mtype=CON, mid=1)
                check.raises(ValueError, message.add_option, number, b"a" * length, contains=str(length))
                check.eq(message.encode(), b"\x40\x01\x00\x01", "%s of %d bytes" % (name, length))


def test_option_when_unknown_then_bytes_by_number():
    """RFC 7252 section 5.4.1: options without a name are bytes."""
    message = Message(GET, mtype=CON, mid=1)
    message.add_option(2049, b"\xff\x00").add_option(65000, b"").add_option(2049, b"2")
    read = Message.decode(message.encode())
    check.eq(read.options, ((2049, b"\xff\x00"), (2049, b"2"), (65000, b"")))
    check.eq(read.find_option(2049), (b"\xff\x00", b"2"))
    check.eq(read.find_option(65000), (b"",))
    for number in 1, 2048, 2050, 64999, 65001, 65535:
        check.eq(read.find_option(number), (), "option %d" % number)
    check.raises(AttributeError, getattr, read.opt, "uri_paht", contains="uri_paht")
    check.raises(AttributeError, setattr, read.opt, "uri_paht", ("a",), contains="uri_paht")


def test_option_when_unknown_and_long_then_bytes():
    """RFC 7252 section 3.1, 5.4.1: no length is wrong for an option that nobody knows."""
    for number in 2, 10, 26, 30, 2048:
        data = raw_message(number, b"v" * 300)
        check.eq(len(Message.decode(data).find_option(number)), 1, "option %d" % number)
        check.eq(Message(GET, mtype=CON, mid=1).add_option(number, b"v" * 300).encode(), data)


def test_option_when_absent_then_none_or_empty():
    """RFC 7252 section 5.10: reading what is not there."""
    message = Message.decode(from_hex("40010001"))
    options = message.opt
    check.eq((options.uri_path, options.uri_query, options.etags, options.if_match), ((), (), (), ()))
    check.eq((options.etag, options.uri_host, options.max_age, options.observe), (None,) * 4)
    check.eq(options.if_none_match, False)
    check.eq(message.options, ())


def test_option_when_empty_format_then_bool():
    """RFC 7252 section 5.10.8.2: If-None-Match is there or not."""
    message = Message(GET, mtype=CON, mid=1, if_none_match=True)
    check.eq(message.encode(), from_hex("40010001 50"))
    check.eq(Message.decode(message.encode()).opt.if_none_match, True)
    message.opt.if_none_match = False
    check.eq(message.encode(), from_hex("40010001"))


def test_option_when_not_utf_8_then_formaterror_and_others_readable():
    """RFC 7252 section 3.2: strings are UTF-8; the error is the peer's."""
    message = Message.decode(from_hex("40010001 32ffc0 8174 417a ff61"))
    check.raises(coap.FormatError, getattr, message.opt, "uri_host", contains="3")
    check.raises(coap.FormatError, message.find_option, 3)
    check.eq((message.opt.uri_path, message.opt.uri_query, message.payload), (("t",), ("z",), b"a"))


def test_code_text_when_a_code_is_known_or_not_then_the_words_of_the_rfcs_or_the_number():
    """RFC 7252 section 12.1: requests by name, responses as class.detail with their name."""
    for code, text in (
        (None, "no code"),
        (0, "Empty"),
        (coap.GET, "GET"),
        (coap.IPATCH, "iPATCH"),
        (8, "0.08"),
        (coap.CBOR, "1.28"),
        (coap.ACK << 5, "2.00"),
        (coap.CONTENT, "2.05 Content"),
        (coap.METHOD_NOT_ALLOWED, "4.05 Method Not Allowed"),
        (coap.PROXYING_NOT_SUPPORTED, "5.05 Proxying Not Supported"),
        (191, "5.31"),
    ):
        check.eq(coap.code_text(code), text)


def test_option_when_text_is_beyond_ascii_then_utf_8():
    """RFC 7252 section 3.2: Net-Unicode in UTF-8; the length counts bytes."""
    data = Message(GET, mtype=CON, mid=1, uri_path=("\u00e9\u3053",)).encode()
    check.eq(data, from_hex("40010001 b5 c3a9e38193"))
    check.eq(Message.decode(data).opt.uri_path, ("\u00e9\u3053",))
    check.raises(ValueError, Message, GET, uri_path=("\u00e9" * 128,), contains="256")


# ---- payload, token, copy ----


def test_payload_when_empty_then_no_marker():
    """RFC 7252 section 3: no marker without a payload."""
    for payload in b"", "", bytearray():
        message = Message(CONTENT, mtype=ACK, mid=2, payload=payload)
        check.eq(message.encode(), from_hex("60450002"))
    check.eq(Message.decode(from_hex("60450002")).payload, b"")
    message.payload = "\u00e9"
    check.eq(message.encode(), from_hex("60450002 ff c3a9"))
    message.payload = b"\xff\xff"
    check.eq(message.encode(), from_hex("60450002 ff ffff"))
    check.eq(Message.decode(message.encode()).payload, b"\xff\xff")
    message.payload = b""
    check.eq(message.encode(), from_hex("60450002"))


def test_token_when_0_to_8_bytes_then_kept():
    """RFC 7252 section 3: token length 0 to 8."""
    for length in range(9):
        token = bytes(range(0xF8, 0xF8 + length))
        data = Message(GET, mtype=CON, mid=1, token=token, uri_path=("t",)).encode()
        check.eq(data, bytes((0x40 | length, 1, 0, 1)) + token + b"\xb1t")
        check.eq(Message.decode(data).token, token)


def test_copy_when_one_is_changed_then_the_other_is_not():
    """RFC 7252 section 3: a copy is a message of its own."""
    for original in (
        Message(GET, mtype=CON, mid=1, token=b"t", uri_path=("a",), payload=b"p"),
        Message.decode(from_hex("41010001 74 b161 ff70")),
    ):
        copy = original.copy()
        check.eq(copy.encode(), from_hex("41010001 74 b161 ff70"))
        copy.opt.uri_path = ("b", "c")
        copy.token = b"u"
        copy.mid = 2
        copy.payload = b"q"
        check.eq(original.encode(), from_hex("41010001 74 b161 ff70"))
        check.eq(copy.encode(), from_hex("41010002 75 b162 0163 ff71"))
        original.add_option(15, "x")
        check.eq(copy.encode(), from_hex("41010002 75 b162 0163 ff71"))
        changed = copy.copy(code=CONTENT, mtype=ACK, uri_path=(), content_format=0, payload="")
        check.eq(changed.encode(), from_hex("61450002 75 c0"))
        check.raises(TypeError, copy.copy, colour=1, contains="colour")


def test_clear_when_called_then_an_empty_message():
    """RFC 7252 section 3: clear removes options, payload and token."""
    for message in (
        Message(GET, mtype=CON, mid=1, token=b"t", uri_path=("a",), payload=b"p"),
        Message.decode(from_hex("41010001 74 b161 ff70")),
    ):
        message.clear()
        check.eq((message.options, message.payload, message.token), ((), b"", b""))
        message.code, message.mtype, message.mid = GET, NON, 7
        check.eq(message.add_option(11, "x").encode(), from_hex("50010007 b178"))


# ---- what cannot be built ----


def test_message_when_a_field_cannot_hold_it_then_an_error_that_says_so():
    """RFC 7252 section 3: fields have their ranges."""
    for error, fields in (
        (ValueError, {"token": bytes(9)}),
        (ValueError, {"mid": 70000}),
        (ValueError, {"mid": 65536}),
        (ValueError, {"mid": -1}),
        (ValueError, {"mtype": 4}),
        (ValueError, {"code": 256}),
        (TypeError, {"token": "text"}),
        (TypeError, {"token": 5}),
        (TypeError, {"mid": "1"}),
        (TypeError, {"code": "GET"}),
        (TypeError, {"mtype": 1.5}),
        (TypeError, {"payload": 5}),
        (TypeError, {"payload": None}),
        (TypeError, {"colour": 1}),
        (TypeError, {"uri_path": "a/b"}),
        (TypeError, {"uri_query": b"a=b"}),
        (TypeError, {"max_age": "60"}),
        (TypeError, {"uri_host": 5}),
        (TypeError, {"etag": "text"}),
        (TypeError, {"echo": 7}),
        (TypeError, {"if_none_match": 1}),
        (ValueError, {"uri_port": 65536}),
        (ValueError, {"uri_port": -1}),
        (ValueError, {"observe": 1 << 24}),
        (ValueError, {"max_age": 1 << 32}),
        (ValueError, {"uri_host": "h" * 256}),
        (ValueError, {"uri_host": ""}),
        (ValueError, {"etag": b"123456789"}),
    ):
        try:
            Message(**fields)
        except error as found:
            assert len(str(found).split(" ")) > 3, "no sentence for %r: %s" % (fields, found)
            continue
        raise AssertionError("%r was taken" % fields)


def test_option_when_number_is_out_of_range_then_valueerror():
    """RFC 7252 section 5.4.6, 12.2: numbers are 1 to 65535; 0 is reserved."""
    message = Message(GET)
    for number in 0, -1, 65536, 1 << 31:
        check.raises(ValueError, message.add_option, number, b"", contains=str(number))
    check.raises(TypeError, message.add_option, 3, None)
    check.eq(message.options, ())


def test_encode_when_a_field_is_missing_then_valueerror():
    """RFC 7252 section 3: code, type and message ID have no default."""
    for fields in ({"code": GET, "mtype": CON}, {"code": GET, "mid": 1}, {"mtype": CON, "mid": 1}, {}):
        check.raises(ValueError, Message(**fields).encode, contains="mid")


def test_encode_when_code_is_0_with_content_then_valueerror():
    """RFC 7252 section 4.1: an empty message ends behind the message ID."""
    for fields in ({"token": b"t"}, {"payload": b"p"}, {"uri_path": ("a",)}):
        check.raises(ValueError, Message(0, mtype=CON, mid=1, **fields).encode, contains="empty")
    check.eq(Message(0, mtype=CON, mid=1).encode(), from_hex("40000001"))


def test_buffer_when_too_small_then_valueerror_with_the_bytes_needed():
    """RFC 7252 section 4.6: encoding into a buffer of the caller's."""
    fields = {"mtype": CON, "mid": 1, "token": b"tt", "uri_path": ("a",), "payload": b"pp"}
    expected = from_hex("42010001 7474 b161 ff7070")
    for size in 1, 4, 10:
        message = Message(GET, buffer=bytearray(size), **fields)
        check.raises(ValueError, message.encode, contains="11 bytes")
    for size in 11, 12, 64:
        buffer = bytearray(size)
        message = Message(GET, buffer=buffer, **fields)
        for _ in range(2):
            assert message.encode() is buffer
            check.eq(bytes(buffer), expected)
        message.payload = bytes(size - 9)
        check.eq(len(message.encode()), size)
        message.payload = bytes(size - 8)
        check.raises(ValueError, message.encode, contains="%d bytes" % (size + 1))


# ---- broken datagrams ----

SAMPLES = (
    "40000001",
    "40010001 b174",
    "60450001 ff 74657874",
    "48017d34 0001020304050607 bb2e77656c6c2d6b6e6f776e 04636f7265 47 72743d74656d70",
    "52450023 bbbb c0 2101 ff 61",
    "42031234 abcd 3161 42 1633 41 74 1100 6100 ff 6162",
    "40030001 19" + "61" * 9 + "a174 dd150f" + "62" * 28,
    "40010057 dd1603 636f61703a2f2f782f61616161616161",
    "44014d32 c98669bf 410d 756173796e63 43623d30 11e4 711943558ec1d014",
    "40010035 b174 e1fcd161",
    "40010043 be0001" + "61" * 270,
    "50450001 6201ff 61 2a 810a ff" + "00" * 20,
)


def read_everything(message):
    """Touch all that can be read; FormatError may come of text that is none."""
    assert len(repr(message)) > 10
    for reading in (
        lambda: (message.token, message.payload, message.mtype, message.code, message.mid),
        lambda: message.options,
        lambda: message.opt.uri_path,
        lambda: message.opt.uri_host,
        lambda: message.opt.etags,
        lambda: message.opt.max_age,
        lambda: message.find_option(11),
    ):
        try:
            reading()
        except coap.FormatError:
            pass


def decode_or_refuse(data, is_read=True):
    """1 if `data` decodes, and then encodes to itself, 0 if it is refused by FormatError."""
    try:
        message = Message.decode(data)
    except coap.FormatError as error:
        assert " " in str(error), "an error without a sentence"
        return 0
    if is_read:
        read_everything(message)
    assert message.encode() == data, data
    return 1


def test_decode_when_cut_anywhere_then_a_message_or_formaterror():
    """RFC 7252 section 3: every prefix of a dozen messages."""
    for text in SAMPLES:
        data = from_hex(text)
        check.eq(decode_or_refuse(data), 1, text)
        for length in range(len(data)):
            if decode_or_refuse(data[:length]):
                assert length >= 4
    for length in range(4):
        check.eq(decode_or_refuse(b"\x40\x01\x00"[:length]), 0, "%d bytes" % length)


def test_decode_when_one_byte_is_changed_then_a_message_or_formaterror():
    """RFC 7252 section 3: every single-byte mutation of a dozen messages."""
    counts = [0, 0]
    for text in SAMPLES:
        data = bytearray(from_hex(text))
        for at in range(min(len(data), 60)):
            kept = data[at]
            for value in range(256):
                data[at] = value
                counts[decode_or_refuse(bytes(data), value & 15 == at & 15)] += 1
            data[at] = kept
    assert counts[0] > 10000 and counts[1] > 10000, counts


def test_decode_when_format_is_broken_then_formaterror():
    """RFC 7252 section 3, 3.1, 4.1, 4.2: what is a message format error."""
    for text in (
        "", "40", "400100",
        "00010001", "80010001", "c0010001",
        "49010001" + "00" * 9, "4f010001" + "00" * 15, "41010001", "4801000100010203040506",
        "4100000161", "40000001b0", "40000001ff61", "4000000100",
        "40200001", "403f0001", "40c00001", "40ff0001",
        "40010001ff", "40010001b174ff", "40010001f0", "400100010f", "40010001b1", "40010001b27400"[:-2],
        "40010001d0", "40010001e0", "40010001e000", "400100010d", "400100010e00", "40010001ddff",
        "40010001e0fef3", "40010001e0fef210", "40010001e0fffe", "400100010effff",
        "40010001f0000000", "40010001fe00000000", "400100010f" + "00" * 300, "400100011f" + "00" * 300,
    ):
        check.eq(decode_or_refuse(from_hex(text)), 0, text)


def test_decode_when_data_is_no_bytes_object_then_the_same():
    """RFC 7252 section 3: a bytearray or memoryview is copied, so that nobody rewrites it."""
    buffer = bytearray(from_hex("41010001 74 b161 ff70"))
    for data in buffer, memoryview(buffer):
        message = Message.decode(data)
        buffer[-1] = 0
        check.eq((message.token, message.opt.uri_path, message.payload), (b"t", ("a",), b"p"))
        buffer[-1] = 0x70


# ---- random messages ----


def random_source(seed):
    """A function n -> 0 to n - 1, the same on every run."""
    state = [seed]

    def draw(n):
        state[0] = (state[0] * 16807 + 11) % 2147483647
        return (state[0] >> 8) % n

    return draw


def random_pairs(draw):
    """Up to 12 options as (number, raw value), in no order, no bad lengths."""
    pairs = []
    for _ in range(draw(13)):
        name, number, shortest, longest = LENGTHS[draw(len(LENGTHS))]
        if draw(4) == 0:
            number, shortest, longest = 300 + draw(65236), 0, 300
        length = shortest + draw(min(longest - shortest, 300) + 1)
        pairs.append((number, bytes([97 + draw(26) for _ in range(length)])))
    return pairs


def encode_by_hand(head, token, pairs, payload):
    """The datagram, written the plain way: insertion sort, one option after the other."""
    ordered = []
    for pair in pairs:
        place = len(ordered)
        while place and ordered[place - 1][0] > pair[0]:
            place -= 1
        ordered.insert(place, pair)
    out = head + token
    last = 0
    for number, value in ordered:
        out += raw_message(number - last, value)[4:]
        last = number
    return out + (b"\xff" + payload if payload else b"")


def test_message_when_random_then_equal_bytes_by_every_way():
    """RFC 7252 section 3: 300 messages, built by hand and by the codec, decoded and encoded again."""
    draw = random_source(20140601)
    for number in range(300):
        pairs = random_pairs(draw)
        token = bytes([draw(256) for _ in range(draw(9))])
        payload = bytes([draw(256) for _ in range(draw(3) * draw(40))])
        mtype, code, mid = draw(4), (1, 2, 3, 4, 5, 65, 69, 132, 160)[draw(9)], draw(65536)
        head = bytes((0x40 | mtype << 4 | len(token), code, mid >> 8, mid & 255))
        expected = encode_by_hand(head, token, pairs, payload)
        message = Message(code, mtype=mtype, mid=mid, token=token, payload=payload)
        for option, value in pairs:
            message.add_option(option, value)
        what = "message %d" % number
        assert message.encode() == expected, what
        read = Message.decode(expected)
        check.eq((read.mtype, read.code, read.mid, read.token), (mtype, code, mid, token), what)
        check.eq(read.payload, payload, what)
        assert read.encode() == expected and read.copy().encode() == expected, what
        again = Message(code, mtype=mtype, mid=mid, token=token, payload=payload)
        for option, value in read.options:
            again.add_option(option, value)
        check.eq(again.options, read.options, what)


def test_opt_when_set_in_a_message_received_then_only_the_message_changes():
    """RFC 7252 section 3.1: a received message may be changed and sent on; the datagram stays."""
    datagram = bytes.fromhex("44025d1f00003974620914ffaa")
    message = coap.Message.decode(datagram)
    check.eq(message.copy(oscore=b"").opt.oscore, b"")
    message.opt.max_age = 5
    check.eq((message.opt.max_age, message.payload, datagram[4:5]), (5, b"\xaa", b"\x00"))


def test_token_when_its_items_are_wider_than_bytes_then_its_bytes_count():
    """RFC 7252 section 3: a token has 0 to 8 bytes."""
    check.raises(ValueError, Message, GET, token=memoryview(array("I", (1, 2, 3))), contains="12")
    check.eq(len(Message(GET, token=memoryview(array("I", (1, 2)))).token), 8)
