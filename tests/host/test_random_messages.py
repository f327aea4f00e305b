"""Random messages and URIs through ours and the codecs of others: aiocoap and npm's coap-packet.

RANDOM_MESSAGES=100000 in the environment tries more than the usual 3000. A message is written as a line: see
build_messages.py; "raw" lines have the bytes of options, as node/packets.js reads and writes them.
"""

import os
import random
import re
import subprocess

import pytest

import build_messages
import coap
from build_messages import REPEATED, build
from peers import ENVIRONMENT, HERE, require_aiocoap
from programs import node_package, program

COUNT = int(os.environ.get("RANDOM_MESSAGES", "3000"))
ON_MICROPYTHON = 300
URIS = 200
TIME_LIMIT_S = 100 + COUNT // 100
SEED = 7252
LETTERS = "abcXYZ019-._~/?&=%#:@ \0\u00e9\u3053\U0001f321"

# Option: type of its value, shortest and longest (RFC 7252 section 5.10 and the RFCs of the others)
FORMATS = {
    1: ("b", 0, 8), 3: ("s", 1, 255), 4: ("b", 1, 8), 5: ("e", 0, 0), 6: ("u", 0, 3), 7: ("u", 0, 2), 8: ("s", 0, 255),
    9: ("b", 0, 255), 11: ("s", 0, 255), 12: ("u", 0, 2), 14: ("u", 0, 4), 15: ("s", 0, 255), 16: ("u", 1, 1),
    17: ("u", 0, 2), 20: ("s", 0, 255), 23: ("u", 0, 3), 27: ("u", 0, 3), 28: ("u", 0, 4), 35: ("s", 1, 1034),
    39: ("s", 1, 255), 60: ("u", 0, 4), 252: ("b", 1, 40), 258: ("u", 0, 1), 292: ("b", 0, 8),
}  # fmt: skip
UNKNOWN = ("b", 0, 300)
ABBREV = 13  # aiocoap takes it for a uint (Uri-Path-Abbrev, a draft) and drops zeros in front


# ---- making messages ----


def random_length(rng, shortest, longest):
    """A length, often a short one or one where the header grows."""
    lengths = [n for n in (0, 1, 2, 8, 12, 13, 14, 268, 269, 270) if shortest <= n <= longest]
    return rng.choice(lengths) if lengths and rng.random() < 0.8 else rng.randint(shortest, longest)


def random_text(rng, shortest, longest):
    """A str of so many bytes in UTF-8, or a few less."""
    text = ""
    length = random_length(rng, shortest, longest)
    for letter in rng.choices(LETTERS, k=length):
        if len((text + letter).encode()) <= length:
            text += letter
    return text or "a" * shortest


def random_value(rng, number):
    """A value that the option may have."""
    kind, shortest, longest = FORMATS.get(number, UNKNOWN)
    if kind == "s":
        return random_text(rng, shortest, longest)
    if kind == "u":
        return rng.getrandbits(8 * rng.randint(shortest, longest)) or shortest
    return True if kind == "e" else rng.randbytes(random_length(rng, shortest, longest))


def random_options(rng):
    """(number, value) pairs in any order of numbers, among them some that nobody knows."""
    options = []
    numbers = set(rng.sample(sorted(FORMATS), rng.randint(0, 6)))
    numbers |= {rng.choice((2, 10, 19, 30, 31, 269, 281, 282, 2049, 65000, 65535, rng.randint(1, 65535)))}
    for number in numbers - {ABBREV}:
        repeats = rng.randint(1, 4) if number in REPEATED or number not in FORMATS else 1
        options += [(number, random_value(rng, number)) for _ in range(repeats)]
    rng.shuffle(options)
    return options


def random_message(rng):
    """(code, type, message ID, token, payload, options); now and then an empty one."""
    mid, mtype = rng.getrandbits(16), rng.randint(0, 3)
    if rng.random() < 0.04:
        return 0, mtype, mid, b"", b"", []
    code = rng.choice((*range(1, 8), rng.randint(8, 31), rng.randint(64, 95), rng.randint(128, 191)))
    payload = rng.randbytes(rng.choice((0, 1, 12, 300)))
    return code, mtype, mid, rng.randbytes(rng.randint(0, 8)), payload, random_options(rng)


def messages(count):
    """`count` random messages, the same every time."""
    rng = random.Random(SEED)
    return [random_message(rng) for _ in range(count)]


# ---- writing them down ----


def raw(value):
    """The bytes of an option's value (RFC 7252 section 3.2)."""
    if value is True:
        return b""
    if isinstance(value, int):
        return value.to_bytes((value.bit_length() + 7) // 8, "big")
    return value.encode() if isinstance(value, str) else value


def line_of(message, words):
    """The line of a message whose options are written as `words`."""
    code, mtype, mid, token, payload, _ = message
    return " ".join([str(code), str(int(mtype)), str(mid), token.hex() or "-", payload.hex() or "-", *words])


def typed_line(message):
    """The line that build_messages.py reads."""
    words = []
    for number, value in message[5]:
        kind = FORMATS.get(number, UNKNOWN)[0]
        words.append(f"{number}:{kind}" + (str(value) if kind == "u" else raw(value).hex()))
    return line_of(message, words)


def in_order(message):
    """The options as they have to be on the wire: by number, repeats as they were added."""
    return sorted(message[5], key=lambda option: option[0])


def raw_line(message):
    """The line that the other codecs have to make of it."""
    return line_of(message, [f"{number}:{raw(value).hex() or '-'}" for number, value in in_order(message)])


def by_node(word, lines):
    """What node/packets.js prints for `lines`."""
    node_package("coap-packet")
    command = [program("node"), HERE / "node/packets.js", word]
    text = "".join([line + "\n" for line in lines])
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def raw_line_by_aiocoap(datagram):
    """The raw line of what aiocoap reads in a datagram."""
    message = require_aiocoap().Message.decode(datagram)
    words = [f"{int(option.number)}:{option.encode().hex() or '-'}" for option in message.opt.option_list()]
    return line_of((int(message.code), message.mtype, message.mid, message.token, message.payload, None), words)


def encoded_by_aiocoap(message):
    """The datagram that aiocoap makes of a message."""
    aiocoap = require_aiocoap()
    code, mtype, mid, token, payload, options = message
    theirs = aiocoap.Message(code=code, payload=payload, _mtype=mtype, _mid=mid, _token=token)
    for number, value in options:
        theirs.opt.add_option(aiocoap.OptionNumber(number).create_option(decode=raw(value)))
    return theirs.encode()


def read_by_ours(datagram):
    """What ours reads in a datagram, as random_message has it."""
    message = coap.Message.decode(datagram)
    return message.code, message.mtype, message.mid, message.token, message.payload, list(message.options)


# ---- the messages ----


def first_difference(actual, expected):
    """The first of two lists' pairs that differ, or None."""
    assert len(actual) == len(expected)
    return next(((a, b) for a, b in zip(actual, expected) if a != b), None)


@pytest.fixture(scope="module")
def sample():
    """The random messages."""
    return messages(COUNT)


@pytest.fixture(scope="module")
def datagrams(sample):
    """The random messages built with our API."""
    return [build(typed_line(message)) for message in sample]


def test_the_messages_are_of_all_kinds(sample):
    numbers = {number for message in sample for number, _ in message[5]}
    assert set(FORMATS) <= numbers and len(numbers) > len(FORMATS) + 10 and ABBREV not in numbers
    assert {message[1] for message in sample} == {0, 1, 2, 3}
    assert {len(message[3]) for message in sample} == set(range(9))
    assert {0, 1, 7, 69, 132, 160} <= {message[0] for message in sample}
    assert {len(raw(value)) for message in sample for _, value in message[5]} >= {0, 12, 13, 268, 269, 300}


def test_ours_are_read_by_ours(sample, datagrams):
    expected = [(*message[:5], in_order(message)) for message in sample]
    assert first_difference([read_by_ours(datagram) for datagram in datagrams], expected) is None


def test_ours_are_read_by_aiocoap(sample, datagrams):
    actual = [raw_line_by_aiocoap(datagram) for datagram in datagrams]
    assert first_difference(actual, [raw_line(message) for message in sample]) is None


def test_aiocoaps_are_the_same_bytes(sample, datagrams):
    assert first_difference([encoded_by_aiocoap(message) for message in sample], datagrams) is None


def test_ours_are_read_by_coap_packet(sample, datagrams):
    actual = by_node("decode", [datagram.hex() for datagram in datagrams])
    assert first_difference(actual, [raw_line(message) for message in sample]) is None


def test_coap_packets_are_the_same_bytes(sample, datagrams):
    actual = by_node("encode", [raw_line(message) for message in sample])
    assert first_difference(actual, [datagram.hex() for datagram in datagrams]) is None


def test_micropython_builds_the_same_bytes():
    lines = [typed_line(message) for message in messages(ON_MICROPYTHON)]
    command = [program("micropython"), build_messages.__file__]
    text = "".join([line + "\n" for line in lines])
    done = subprocess.run(command, input=text, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert first_difference(done.stdout.splitlines(), [build(line).hex() for line in lines]) is None


# ---- URIs ----

HOSTS = (
    "h", "Sensor.Example", "xn--18j4d.example", "b%C3%BCcher.example", "a%2Db", "a_b~c!$&'()*+,;=", "1.2.3",
    "1.2.3.256", "192.0.2.1", "[2001:db8::1]", "[::1]", "[2001:DB8::A]", "[::ffff:192.0.2.1]", "[fe80::1]",
)  # fmt: skip
PORTS = "", "", ":", ":5683", ":61616", ":05684", ":1"
PIECES = (
    "a", "B", "0", "-._~", "%20", "%2F", "%2f", "%25", "%3F", "%23", "%26", "%C3%A9", "%e3%81%93", "%00", "%7f", "+",
    "=", "!$'()*,;:@", "%41", "&",
)  # fmt: skip
SEGMENTS = "", "a", ".", "..", "...", ".a", "%2E", "sensors", "x;y"


def random_uri(rng):
    """A URI of coap, with what is legal in each place."""
    uri = rng.choice(("coap://", "coap://", "COAP://")) + rng.choice(HOSTS) + rng.choice(PORTS)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 4))):
        segment = rng.choice(SEGMENTS) if rng.random() < 0.4 else "".join(rng.choices(PIECES, k=rng.randint(1, 4)))
        uri += "/" + segment
    if rng.random() < 0.5:
        uri += "?" + "".join(rng.choices((*PIECES, "/", "?"), k=rng.randint(0, 5)))
    return uri


def uris(count):
    """`count` random URIs, the same every time."""
    rng = random.Random(SEED)
    return [random_uri(rng) for _ in range(count)]


def uri_by_ours(uri):
    """`uri` set and read again."""
    return coap.Message(coap.GET, uri=uri).get_request_uri()


def without_dots(path):
    """`path` without dot segments, step by step as RFC 3986 section 5.2.4 has it."""
    out = ""
    while path:
        if path.startswith("/./") or path == "/.":
            path = "/" + path[3:]
        elif path.startswith("/../") or path == "/..":
            path = "/" + path[4:]
            out = out.rpartition("/")[0]
        else:
            end = path.find("/", 1)
            end = len(path) if end < 0 else end
            out += path[:end]
            path = path[end:]
    return out


# aiocoap 0.4.17 leaves undone what these do to its argument. Sections are those of RFC 7252.


def resolved(path):
    """Without dot segments, encoded ones too (6.4 step 2 refers to RFC 3986; 5.10.1: no Uri-Path is "." or "..")."""
    return without_dots(re.sub("%2e", ".", path, flags=re.IGNORECASE))


def with_plain_port(authority):
    """Without the default port (6.5 step 5), without zeros before a port and a colon alone (6.3)."""
    host, port = re.fullmatch(r"(\[.*\]|[^:]*):?(\d*)", authority).groups()
    return host if port in ("", "5683") else f"{host}:{int(port)}"


def uri_by_aiocoap(uri):
    """`uri` set and read again, what aiocoap does wrong put right."""
    aiocoap = require_aiocoap()
    rest, mark, query = uri.partition("://")[2].partition("?")
    authority, slash, path = rest.partition("/")
    repaired = "coap://" + with_plain_port(authority) + resolved(slash + path) + mark + query
    message = aiocoap.Message(code=aiocoap.GET, uri=repaired)
    lost = "?" if mark and not query else ""  # an empty query is one argument, not none (6.4 step 9)
    return message.get_request_uri() + lost


def same_host(uri):
    """An IPv4 address in an IPv6 one as aiocoap writes it: other text of the same address (RFC 4291 section 2.2)."""
    return uri.replace("[::ffff:192.0.2.1]", "[::ffff:c000:201]")


def test_uris_come_back_as_from_aiocoap():
    sample = uris(URIS)
    actual = [same_host(uri_by_ours(uri)) for uri in sample]
    assert first_difference(actual, [uri_by_aiocoap(uri) for uri in sample]) is None


def test_uris_do_not_change_any_more_when_they_come_back():
    for uri in uris(URIS):
        once = uri_by_ours(uri)
        assert uri_by_ours(once) == once


def test_uris_on_micropython_come_back_the_same():
    program_text = "import sys, coap\nfor line in sys.stdin: print(coap.Message(1, uri=line[:-1]).get_request_uri())"
    text = "".join([uri + "\n" for uri in uris(URIS)])
    command = [program("micropython"), "-c", program_text]
    done = subprocess.run(command, input=text, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert first_difference(done.stdout.splitlines(), [uri_by_ours(uri) for uri in uris(URIS)]) is None
