"""CoAP (RFC 7252, RFC 6690) in one file, server and client at once, for MicroPython and CPython.

After `import coap` this is a server:

    endpoint = coap.Endpoint(port=5683)
    temperature = endpoint.resource("sensors/temp", rt="temperature", ct=coap.TEXT)

    @temperature.get
    def read(request, response):
        return "22.5 C"

    while True:
        endpoint.process()

and a client: `coap.Endpoint().get("coap://192.0.2.1/sensors/temp").payload`.

The file reads from the leaf to the facade: constants, errors, the codec and `Message`, URIs, the records of the
message layer, resources and discovery, the table of duplicates, the protocol `Engine` (bytes and a time in, bytes
and the time of the next event out, no I/O), and from `I/O` on the `Endpoint`, which puts the engine on a socket.

Names that begin with _ are private, but the coap_*.py files beside this one use some of them: search there, too,
before you change one. `p`, `q` and `r` are packets (see _DATA below); `r` is the response's.

RFC 7252: server and client over UDP, no proxy. RFC 6690: discovery. RFC 7967: No-Response. RFC 8132: FETCH, PATCH,
iPATCH. Times are milliseconds of `ticks_ms`, which wrap: compare them by `ticks_diff`.
"""

import gc
import os
import sys

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


try:
    import select
    import socket
except ImportError:  # firmware without a network: the protocol still works over an injected transport
    select = socket = None

try:
    from time import sleep_ms, ticks_add, ticks_diff, ticks_ms

    _ON_CPYTHON = False
except ImportError:  # the same 30 bit milliseconds as on a board, so that they wrap alike
    import time

    _ON_CPYTHON = True

    def sleep_ms(wait_ms):
        time.sleep(wait_ms / 1000)

    def ticks_ms():
        return time.monotonic_ns() // 1000000 & 0x3FFFFFFF

    def ticks_add(now_ms, wait_ms):
        return now_ms + wait_ms & 0x3FFFFFFF

    def ticks_diff(until_ms, now_ms):
        return (until_ms - now_ms + 0x20000000 & 0x3FFFFFFF) - 0x20000000


# MicroPython looks for a builtin among the module's names first, and takes long to find that there is none: so these
# are names of the module
bytearray, bytes, isinstance, len, str, tuple, type = bytearray, bytes, isinstance, len, str, tuple, type

VERSION = "0.1.0"

# Message types (RFC 7252 section 3)
CON = const(0)
NON = const(1)
ACK = const(2)
RST = const(3)

# Methods (RFC 7252 section 12.1.1, RFC 8132)
GET = const(1)
POST = const(2)
PUT = const(3)
DELETE = const(4)
FETCH = const(5)
PATCH = const(6)
IPATCH = const(7)

# Response codes: class << 5 | detail (RFC 7252 section 12.1.2, 7959, 8132, 8516)
CREATED = const(65)
DELETED = const(66)
VALID = const(67)
CHANGED = const(68)
CONTENT = const(69)
CONTINUE = const(95)
BAD_REQUEST = const(128)
UNAUTHORIZED = const(129)
BAD_OPTION = const(130)
FORBIDDEN = const(131)
NOT_FOUND = const(132)
METHOD_NOT_ALLOWED = const(133)
NOT_ACCEPTABLE = const(134)
REQUEST_ENTITY_INCOMPLETE = const(136)
CONFLICT = const(137)
PRECONDITION_FAILED = const(140)
REQUEST_ENTITY_TOO_LARGE = const(141)
UNSUPPORTED_CONTENT_FORMAT = const(143)
UNPROCESSABLE_ENTITY = const(150)
TOO_MANY_REQUESTS = const(157)
INTERNAL_SERVER_ERROR = const(160)
NOT_IMPLEMENTED = const(161)
BAD_GATEWAY = const(162)
SERVICE_UNAVAILABLE = const(163)
GATEWAY_TIMEOUT = const(164)
PROXYING_NOT_SUPPORTED = const(165)

_CLASSES = const(0x3D)  # bit n: codes of class n are understood, 0, 2, 3, 4 and 5

# Content-Formats (RFC 7252 section 12.3, RFC 7049)
TEXT = const(0)
LINKS = const(40)
OCTETS = const(42)
JSON = const(50)
CBOR = const(60)

# What a handler may return besides a response
LATER = object()  # the response follows: endpoint.send(later), where later = response.copy(). Too many: 5.03 goes out
NO_RESPONSE = object()  # there is none (RFC 7967); a CON is acknowledged all the same

# Options the code below names (RFC 7252 section 12.2)
_URI_HOST = const(3)
_ETAG = const(4)
_IF_NONE_MATCH = const(5)
_OBSERVE = const(6)
_URI_PORT = const(7)
_OSCORE = const(9)  # RFC 8613
_URI_PATH = const(11)
_CONTENT_FORMAT = const(12)
_URI_QUERY = const(15)
_HOP_LIMIT = const(16)
_ACCEPT = const(17)
_PROXY_URI = const(35)
_PROXY_SCHEME = const(39)
_NO_RESPONSE = const(258)  # RFC 7967
_NO_ERROR = const(8 | 16)  # its value for no 4.xx and no 5.xx
_NOTHING = const(2 | 8 | 16)  # ... and no 2.xx: no response at all

# A packet is what a Message is made of, and what the engine works on: a list of these slots. It is one of two kinds:
# received (p[_START] is not 0) is a datagram, with the offsets of its parts; being built (p[_START] is 0) are encoded
# options, with the header's fields, the token and the payload beside them. _own makes the second of the first.
_DATA = const(0)  # bytes: the datagram received; or bytearray: the encoded options of a message being built
_START = const(1)  # offset of the first option in _DATA; 0 in a message being built, and only there
_END = const(2)  # offset behind the last option
_CODE = const(3)
_MTYPE = const(4)
_MID = const(5)
_TOKEN = const(6)  # of a message being built; None: that of the request it answers
_PAYLOAD = const(7)  # None: still in _DATA
_SEEN = const(8)  # bit n: option n is there and well-formed, for n up to 28; and the three bits below
_PATH = const(9)  # offset of the first Uri-Path's value; 0: there is none
_PATH_END = const(10)  # offset behind the last Uri-Path's value
_FIRST_LEN = const(11)  # length of the first Uri-Path
_NUMBER = const(12)  # the cursor of _step: number of the option
_STOP = const(13)  # ... and offset behind its value
_LAST = const(14)  # number of the last option of a message being built; 65536: not known
_REMOTE = const(15)
_REQUEST = const(16)  # of a response: the Message that it answers
_TUNING = const(17)
_OPT = const(18)  # its Options, None: not asked for yet
_SCHEME = const(19)  # of the URI it was given, None: coap
_SLOTS = const(20)  # how many there are

_MAX_KNOWN = const(28)  # options up to here have a bit in _SEEN and a place in the tables below
_MALFORMED_CRITICAL = const(1)  # bit 0: a critical option with a bad length, or repeated where it must not be
_HAS_NO_RESPONSE = const(1 << 2)  # bit 2: No-Response; option 2 is not assigned
_LARGE_CRITICAL = const(1 << 29)  # bit 29: a critical option above 28
# Critical options understood in requests: Uri-Host, Uri-Port, Uri-Path, Uri-Query, Accept
_UNDERSTOOD = const(1 << 3 | 1 << 7 | 1 << 11 | 1 << 15 | 1 << 17)
_CRITICAL = const(0x2AAAAAAB)  # the odd numbers, RFC 7252 section 5.4.6, and bits 0 and 29
_CONDITIONAL = const(1 << 1 | 1 << 5)  # If-Match, If-None-Match
# A request with one of these options is looked at by Engine._refusal before its handler is called
_JUDGED = const(_CRITICAL & ~_UNDERSTOOD | 1 << _ACCEPT | 1 << _CONTENT_FORMAT | 1 << _HOP_LIMIT)
_BYTES = (bytes, bytearray, memoryview)
_NOT_SEVERAL = (str, dict) + _BYTES  # what can be iterated, but is not the values of an option
# If-Match, ETag, Location-Path, Uri-Path, Uri-Query, Location-Query
_REPEATABLE = const(1 << 1 | 1 << 4 | 1 << 8 | 1 << 11 | 1 << 15 | 1 << 20)

# Formats of option values
_UINT = const(0x75)  # u
_STRING = const(0x73)  # s
_EMPTY = const(0x65)  # e
_ANY = const(0x3F)  # ?, an unknown option; and o is opaque

# Two tables by place: the format of an option, and the lengths that its value may have, bit n for n bytes; -1 has all
# bits, -2 all but that of an empty value, and _LONGEST says how long it may be then. The place of an option is its
# number, up to 28; those of _LARGE follow in its order; place 0 is that of all options not known. To add an option, put
# it here, one above 28 with its number into _LARGE; name it in _NAMES and in tools/coap_cli/names.py; and put it into
# _REPEATABLE and _UNDERSTOOD if it is repeatable, or critical and understood.
_FORMAT = b"?o?soeuuso?su?usuu??s??u???uussuouo"
_LENGTHS = (
    -1, 0x1FF, -1, -2, 0x1FE, 1, 0xF, 7, -1, -1, -1, -1, 7, -1, 0x1F, -1, 2, 7, -1, -1, -1, -1, -1, 0xF, -1, -1, -1,
    0xF, 0x1F, -2, -2, 0x1F, -2, 3, 0x1FF,
)  # fmt: skip
_LARGE = (35, 39, 60, 252, 258, 292)  # numbers of the places 29 to 34
_LONGEST = {29: 1034, 32: 40}  # by place, where it is not 255: Proxy-Uri and Echo
_NO_OPTION = const("no field or option is named ")
# The options by name; the number is negative where `opt` reads and takes a tuple of several values
_NAMES = {
    "if_match": -1,
    "uri_host": 3,
    "etag": 4,
    "etags": -4,
    "if_none_match": 5,
    "observe": 6,
    "uri_port": 7,
    "location_path": -8,
    "oscore": 9,
    "uri_path": -11,
    "content_format": 12,
    "max_age": 14,
    "uri_query": -15,
    "hop_limit": 16,
    "accept": 17,
    "location_query": -20,
    "block2": 23,
    "block1": 27,
    "size2": 28,
    "proxy_uri": 35,
    "proxy_scheme": 39,
    "size1": 60,
    "echo": 252,
    "no_response": 258,
    "request_tag": -292,
}


class Error(Exception):
    """Base of this module's errors, except the caller's own (ValueError, TypeError)."""


class FormatError(Error):
    """The peer sent bytes that are not a CoAP message, or an option that cannot be read."""


class Timeout(Error):
    """No acknowledgement or no response came in time."""


class Reset(Error):
    """The peer answered with a Reset: it could not make sense of the message."""


class Rejected(Error):
    """The response has a critical option that is not understood (RFC 7252 section 5.4.1)."""


class Full(Error):
    """A table of ours is full; its size is an argument of Endpoint."""


class Closed(Error):
    """The endpoint was closed before the exchange ended."""


# ---- codec ----


def _step(p, at):
    """Move the cursor of packet `p` over the option header at offset `at`; returns where its value starts."""
    data = p[_DATA]
    delta = data[at] >> 4
    length = data[at] & 15
    at += 1
    if delta == 13:
        delta += data[at]
        at += 1
    elif delta == 14:
        delta = 269 + (data[at] << 8 | data[at + 1])
        at += 2
    if length == 13:
        length += data[at]
        at += 1
    elif length == 14:
        length = 269 + (data[at] << 8 | data[at + 1])
        at += 2
    p[_NUMBER] += delta
    p[_STOP] = at + length
    return at


def _index(p, data):
    """Check the datagram `data` and note in packet `p` where its parts are; allocates nothing.

    Returns -1, or an offset near which the format of RFC 7252 section 3 is broken; the packet is then not to be
    used. Critical options repeated or sized wrongly are no format errors: they set bit 0 of p[_SEEN].
    """
    n = len(data)
    if n < 4:
        return 0
    b = data[0]
    # where the token ends; the type is masked out, and any version but 1, which is 0x40, leaves more than 8 here
    at = (b & 0xCF ^ 0x40) + 4
    if at > 12:
        return 0
    number = data[1]  # the code; from the first option on it is the option's number, and b the delta
    if not _CLASSES >> (number >> 5) & 1 or not number and n > 4:
        return 1
    p[_DATA] = data
    p[_MTYPE] = b >> 4 & 3
    p[_CODE] = number
    p[_MID] = data[2] << 8 | data[3]
    p[_PAYLOAD] = None
    p[_START] = at
    p[_PATH] = 0
    number = seen = 0
    while at < n:
        b = data[at]
        at += 1
        length = b & 15
        if length < 13 and b < 0xD0:
            b >>= 4
        elif b == 0xFF:
            if at == n:
                return at
            n = at = at - 1
            break
        else:  # 13 and 14 in place of delta or length: the 1 or 2 bytes that follow tell it, less 13 or 269 (256 + 13)
            b >>= 4
            if b > 12:
                at += b - 12
                if at > n or b == 15:
                    return at
                b = 0 if b == 13 else data[at - 2] + 1 << 8
                b = data[at - 1] + 13 + b
            if length > 12:
                at += length - 12
                if at > n or length == 15:
                    return at
                length = 0 if length == 13 else data[at - 2] + 1 << 8
                length = data[at - 1] + 13 + length
                # _LENGTHS cannot tell these: no critical option up to 28 is longer than 255
                if length > 255 and number + b <= _MAX_KNOWN and number + b & 1:
                    seen |= _MALFORMED_CRITICAL
        number += b
        if number == _URI_PATH:
            seen |= 1 << _URI_PATH
            if b:
                p[_PATH] = at
                p[_FIRST_LEN] = length
            p[_PATH_END] = at + length
        elif number > _MAX_KNOWN:
            if number > 65535:
                return at
            if number & 1:
                seen |= _LARGE_CRITICAL
            elif number == _NO_RESPONSE:
                seen |= _HAS_NO_RESPONSE
        elif _LENGTHS[number] >> length & 1 and (b or _REPEATABLE >> number & 1):
            seen |= 1 << number
        elif number & 1:
            seen |= _MALFORMED_CRITICAL
        at += length
    p[_END] = n
    p[_SEEN] = seen
    return -1 if at == n else n  # else the last value is longer than the datagram


def _find(p, number):
    """Set the cursor of `p` on the first option `number`; returns where its value starts, or -1."""
    data = p[_DATA]
    at = p[_START]
    end = p[_END]
    found = 0
    while at < end:
        b = data[at]
        if b < 0xD0 and b & 15 < 13:  # the usual header; what _step would do
            found += b >> 4
            at += 1
            stop = at + (b & 15)
        else:
            p[_NUMBER] = found
            at = _step(p, at)
            found = p[_NUMBER]
            stop = p[_STOP]
        if found >= number:
            p[_NUMBER] = found
            p[_STOP] = stop
            return at if found == number else -1
        at = stop
    return -1


def _uint(data, start, stop):
    """The unsigned integer in data[start:stop], most significant byte first; 0 if empty (RFC 7252 section 3.2)."""
    value = 0
    while start < stop:
        value = value << 8 | data[start]
        start += 1
    return value


def _uint_option(p, number):
    """The value of the uint option `number`; `p` must have it, see _SEEN."""
    at = _find(p, number)
    return _uint(p[_DATA], at, p[_STOP])


def _place(number):
    """The place of option `number` in _FORMAT and _LENGTHS; 0 for one that is not known."""
    if number <= _MAX_KNOWN:
        return number
    return _MAX_KNOWN + 1 + _LARGE.index(number) if number in _LARGE else 0


def _fits(place, length):
    """Whether a value of the option at `place` may have `length` bytes."""
    if not _LENGTHS[place] >> length & 1:
        return False
    # up to 40, the least of these limits, none has to be looked up; a header can tell no more than 65804
    return length <= 40 or length <= (65804 if _FORMAT[place] == _ANY else _LONGEST.get(place, 255))


def _read_value(p, start, place):
    """The value under the cursor of `p`, of the option at `place`; None if it may not have that length.

    Raises FormatError if it is text and not UTF-8.
    """
    stop = p[_STOP]
    if not _fits(place, stop - start):
        return None
    kind = _FORMAT[place]
    if kind == _UINT:
        return _uint(p[_DATA], start, stop)
    value = p[_DATA][start:stop]
    if kind == _STRING:
        try:
            return str(value, "utf-8")
        except ValueError:
            raise FormatError("option %d is not UTF-8" % p[_NUMBER]) from None
    return kind == _EMPTY or bytes(value)


def _values(p, number, is_one):
    """The values of option `number` in `p` as a tuple, in their order; if `is_one` only the first.

    Values of a forbidden length are left out.
    """
    if p[_START] and number <= _MAX_KNOWN and not p[_SEEN] >> number & 1:
        return ()
    place = _place(number)
    values = []
    at = _find(p, number)
    while at >= 0:
        value = _read_value(p, at, place)
        if value is not None:
            values.append(value)
        at = p[_STOP]
        if at >= p[_END] or p[_DATA][at] >> 4 or is_one and values:  # a delta above 0: another option
            break
        at = _step(p, at)
    return tuple(values)


def _raw_options(p):
    """All options of `p` as a list of (number, bytes), in their order."""
    pairs = []
    at = p[_START]
    p[_NUMBER] = 0
    while at < p[_END]:
        at = _step(p, at)
        pairs.append((p[_NUMBER], bytes(p[_DATA][at : p[_STOP]])))
        at = p[_STOP]
    return pairs


def _check_type(name, value, kind):
    """Raise TypeError unless `value` is of the class `kind`."""
    if not isinstance(value, kind):
        raise TypeError("%s is a %s, not %r" % (name, kind.__name__, value))


def _check(name, value, min, max):
    """Return `value`; raises TypeError or ValueError unless it is an int from `min` to `max`."""
    if not isinstance(value, int):
        raise TypeError("%s is an int, not %r" % (name, value))
    if not min <= value <= max:
        raise ValueError("%s is %d to %d, not %d" % (name, min, max, value))
    return value


def _uint_bytes(value):
    """The fewest bytes that hold `value`, 0 to 2**32 - 1 (RFC 7252 section 3.2)."""
    if 0 <= value < 256:
        return value.to_bytes(1, "big") if value else b""
    _check("an option value", value, 0, 0xFFFFFFFF)
    return value.to_bytes(4, "big").lstrip(b"\0")


def _encode_value(number, value):
    """`value` as the bytes of option `number`; raises TypeError or ValueError if the option cannot hold it."""
    place = number
    if not 0 < number <= _MAX_KNOWN:
        _check("option number", number, 1, 65535)
        place = _place(number)
    kind = _FORMAT[place]
    if (kind == _STRING or kind == _ANY) and isinstance(value, str):
        value = value.encode()
    elif (kind == _UINT or kind == _ANY) and isinstance(value, int) and value is not True:
        value = _uint_bytes(value)
    elif kind == _EMPTY and value is True:
        value = b""
    elif not isinstance(value, _BYTES):
        raise TypeError("option %d cannot be %r" % (number, value))
    if not _fits(place, len(value)):
        raise ValueError("option %d cannot have %d bytes" % (number, len(value)))
    return value


def _put_extension(buffer, n):
    """Append what of `n` (a delta or a length) does not fit into four bits; returns these four bits."""
    if n < 13:
        return n
    if n < 269:
        buffer.append(n - 13)
        return 13
    buffer.append(n - 269 >> 8)
    buffer.append(n - 269 & 255)
    return 14


def _put_header(buffer, delta, length):
    """Append an option's header to the bytearray `buffer`; allocates nothing while `buffer` has the capacity."""
    at = len(buffer)
    buffer.append(0)
    buffer[at] = _put_extension(buffer, delta) << 4 | _put_extension(buffer, length)


def _token(p):
    """The token of `p` as bytes; that of its request for a response that a handler is filling (_TOKEN is None)."""
    if p[_START]:
        return p[_DATA][4 : p[_START]]
    return _token(p[_REQUEST].packet) if p[_TOKEN] is None else p[_TOKEN]


def _payload(p):
    """The payload of `p`."""
    return p[_DATA][p[_END] + 1 :] if p[_PAYLOAD] is None else p[_PAYLOAD]


def _own(p):
    """Give the options of a received packet a buffer of their own, to be changed."""
    p[_TOKEN] = _token(p)
    p[_PAYLOAD] = _payload(p)
    p[_DATA] = bytearray(p[_DATA][p[_START] : p[_END]])
    p[_START] = 0
    p[_END] = len(p[_DATA])
    p[_LAST] = 65536  # unknown: the first option added goes the long way


def _add(p, number, value):
    """Add an option, its `value` encoded, to `p` behind those of the same number."""
    if p[_START]:
        _own(p)
    data = p[_DATA]
    delta = number - p[_LAST]
    if delta >= 0:
        length = len(value)
        if delta < 13 and length < 13:
            data.append(delta << 4 | length)
        else:
            _put_header(data, delta, length)
        data += value
        p[_LAST] = number
        p[_END] = len(data)
    else:
        _splice(p, number, value)


def _remove(p, number):
    """Remove all options `number` from `p`."""
    if p[_START]:
        _own(p)
    if number <= p[_LAST]:
        _splice(p, number, None)


def _splice(p, number, value):
    """Add an option behind those up to `number`, or, if `value` is None, remove those of that number."""
    data = p[_DATA]
    # `first`: the offset from which on something changes; `before`: the number of the option in front of that
    at = first = p[_NUMBER] = before = 0
    while at < len(data):
        start = _step(p, at)
        if p[_NUMBER] > number:  # the option in front of this one changes, so its header must tell another delta
            piece = bytearray()
            if value is not None:
                _put_header(piece, number - before, len(value))
                piece += value
                before = number
            _put_header(piece, p[_NUMBER] - before, p[_STOP] - start)
            data[first:start] = piece
            break
        at = p[_STOP]
        if value is not None or p[_NUMBER] < number:
            before = p[_NUMBER]
            first = at
    else:
        data[first:] = b""
        p[_LAST] = before
        if value is not None:  # it comes last: _add had no _LAST to know that by
            _add(p, number, value)
    p[_END] = len(data)


def _replace(p, number, values):
    """Put `values` in the place of all options `number` in `p`; if one cannot be encoded, `p` stays as it is."""
    values = list(values)
    for at in range(len(values)):  # by index: with an iterator the frame would lie on the heap
        values[at] = _encode_value(number, values[at])
    if p[_START] or number <= p[_LAST]:
        _remove(p, number)
    for at in range(len(values)):
        _add(p, number, values[at])


def _cache_options(p, ignore_options):
    """The options of `p` that count for a cache, encoded; see Message.get_cache_key."""
    out = bytearray()
    at = p[_START]
    before = p[_NUMBER] = 0
    while at < p[_END]:
        at = _step(p, at)
        number = p[_NUMBER]
        # 0x1C: NoCacheKey (RFC 7252 section 5.4.6)
        if number & 0x1E != 0x1C and number != _OBSERVE and number not in ignore_options:
            _put_header(out, number - before, p[_STOP] - at)
            out += p[_DATA][at : p[_STOP]]
            before = number
        at = p[_STOP]
    return bytes(out)


def _packed_len(p, token):
    """How many bytes the datagram of `p` has, with this token."""
    payload_len = len(_payload(p))
    return 4 + len(token) + p[_END] - p[_START] + payload_len + (payload_len > 0)


# ---- messages ----


def _field(index):
    """A property of Message: packet[index]. What is assigned to code, mtype and mid is checked: None or an int."""

    # index=index: with a default value these are smaller than closures
    def read(self, index=index):
        return self.packet[index]

    def assign(self, value, index=index):
        if value is not None and index <= _MID:
            _check(("code", "mtype", "mid")[index - _CODE], value, 0, (255, 3, 65535)[index - _CODE])
        self.packet[index] = value

    return property(read, assign)


def _view(packet):
    """A Message of a copy of the list `packet`; the buffers in it are the same."""
    message = object.__new__(Message)
    message.packet = packet = packet[:]
    packet[_OPT] = None
    return message


def _set_option(p, name, value, error=TypeError):
    """Put `value` in the place of all options of that name, as Options has it; raises `error` if there is none."""
    number = _NAMES.get(name)
    if number is None:
        raise error(_NO_OPTION + name)
    if value is None or value is False:
        _remove(p, abs(number))
    elif number < 0:
        if isinstance(value, _NOT_SEVERAL):
            raise TypeError("%s takes a tuple of values" % name)
        _replace(p, -number, value)
    else:
        value = _encode_value(number, value)
        if p[_START] or number <= p[_LAST]:
            _remove(p, number)
        _add(p, number, value)


class Options:
    """The options of a message by name, as attributes: `message.opt.uri_path = ("a", "b")`.

    An option that may be repeated reads as a tuple, empty if there is none; any other as its first value or None,
    If-None-Match as a bool. Assigning writes it into the message, assigning None (False) removes it. Names are
    those of the RFCs in lower case, with _ for -. `etag` is the first ETag, `etags` are all. Each access allocates.
    Reading raises FormatError for text that is not UTF-8, assigning ValueError or TypeError for what the option
    cannot hold.
    """

    def __getattr__(self, name):
        number = _NAMES.get(name)
        if number is None:
            raise AttributeError(_NO_OPTION + name)
        if number < 0:
            return _values(self.packet, -number, False)
        values = _values(self.packet, number, True)
        if values:
            return values[0]
        return False if number == _IF_NONE_MATCH else None

    def __setattr__(self, name, value=None):
        _set_option(self.packet, name, value, AttributeError)

    __delattr__ = __setattr__  # without a value: None, which removes it


class Message:
    """A CoAP message: a view of a datagram received, or a message being built in wire format.

    Message(code=None, *, mtype=None, mid=None, token=b"", payload=b"", uri=None, remote=None,
    transport_tuning=None, buffer=None, **options)

      code    a method (GET) or response code (CONTENT), 0 to 255; 0 is the empty message
      mtype   CON, NON, ACK, RST; None lets the endpoint choose
      mid     message ID, 0 to 65535; None lets the endpoint choose
      token   0 to 8 bytes; not that of another open request to the same peer. A request without one gets a random one
      payload bytes, or str, which is encoded as UTF-8
      uri     see set_request_uri
      remote  where it goes or came from: "host[:port]", or an address of the socket; it is used, not that in `uri`
      transport_tuning  a Tuning, for this message's retransmission; it and `remote` are looked at by send
      buffer  a bytearray kept by the caller: encode() writes into it, up to its present length
      options by name, see Options: content_format=JSON, uri_path=("a", "b")

    Raises ValueError or TypeError for a value that the field or option cannot hold.
    A received message refers to the datagram; reading token or payload makes a copy. The request and response
    that a handler is given are used again for the next exchange: keep one by copy().
    Options are set at `opt`: `message.etag = b"1"` raises AttributeError on CPython, and sets no option on MicroPython.
    Allocates about 150 bytes on a board, and the options.
    """

    version = 1
    kept = None  # (the argument `buffer`, how long it may become)

    def __init__(
        self,
        code=None,
        *,
        mtype=None,
        mid=None,
        token=b"",
        payload=b"",
        uri=None,
        remote=None,
        transport_tuning=None,
        buffer=None,
        **options
    ):
        # in the order of the slots, from _DATA to _SCHEME
        self.packet = p = [
            bytearray(), 0, 0, code, mtype, mid, token, payload, 0, 0, 0, 0, 0, 0, 0, remote, None, transport_tuning,
            None, None,
        ]  # fmt: skip
        if buffer is not None:
            self.kept = buffer, len(buffer)
        # Only what may be wrong is assigned by its property, which checks and converts it, but takes longer
        if code is not None and (type(code) is not int or not 0 <= code <= 255):
            self.code = code
        if mtype is not None and (type(mtype) is not int or not 0 <= mtype <= RST):
            self.mtype = mtype
        if mid is not None and (type(mid) is not int or not 0 <= mid <= 65535):
            self.mid = mid
        if type(token) is not bytes or len(token) > 8:
            self.token = token
        if type(payload) is not bytes:
            self.payload = payload
        if uri is not None:
            self.set_request_uri(uri)
            if remote is not None:
                p[_REMOTE] = remote
        if options:
            for name in options:
                _set_option(p, name, options[name])

    code = _field(_CODE)
    mtype = _field(_MTYPE)
    mid = _field(_MID)
    remote = _field(_REMOTE)
    request = _field(_REQUEST)
    transport_tuning = _field(_TUNING)

    @property
    def token(self):
        """The token, 0 to 8 bytes."""
        return _token(self.packet)

    @token.setter
    def token(self, value):
        if not isinstance(value, _BYTES):
            raise TypeError("a token is bytes, not %r" % (value,))
        value = bytes(value)
        _check("token_len", len(value), 0, 8)
        if self.packet[_START]:
            _own(self.packet)
        self.packet[_TOKEN] = value

    @property
    def payload(self):
        """The payload: bytes, empty if there is none. Assigning a str encodes it as UTF-8."""
        return _payload(self.packet)

    @payload.setter
    def payload(self, value):
        if not isinstance(value, _BYTES):
            if not isinstance(value, str):
                raise TypeError("a payload is str or bytes: %r" % (value,))
            value = value.encode()
        elif type(value) is memoryview:  # whose items may be larger than bytes
            value = bytes(value)
        self.packet[_PAYLOAD] = value

    @property
    def opt(self):
        """The options by name, see Options."""
        p = self.packet
        if p[_OPT] is None:
            opt = object.__new__(Options)
            object.__setattr__(opt, "packet", p)
            p[_OPT] = opt  # only now: there may have been no memory for the line above
        return p[_OPT]

    @property
    def options(self):
        """All options as a tuple of (number, value), sorted by number, repeats in order; values by their format.

        A value of a length that the option does not allow is bytes. Raises FormatError for text that is no UTF-8.
        """
        p = self.packet
        found = []
        at = p[_START]
        p[_NUMBER] = 0
        while at < p[_END]:
            at = _step(p, at)
            value = _read_value(p, at, _place(p[_NUMBER]))
            if value is None:
                value = bytes(p[_DATA][at : p[_STOP]])
            found.append((p[_NUMBER], value))
            at = p[_STOP]
        return tuple(found)

    def find_option(self, number):
        """The values of option `number`, a tuple in the order of the message; without those of a forbidden length.

        Raises FormatError for text that is no UTF-8.
        """
        return _values(self.packet, number, False)

    def add_option(self, number, value):
        """Add one value of option `number` (1 to 65535) behind those there; returns self.

        `value` is what the option's format takes: int, str, True, or bytes for any; int or str for an unknown one, too.
        In ascending order of numbers it is appended, else what follows is shifted.
        """
        _add(self.packet, number, _encode_value(number, value))
        return self

    def replace_option(self, number, *values):
        """Put `values` in the place of all values of option `number`; returns self."""
        _replace(self.packet, number, values)
        return self

    def delete_option(self, number):
        """Remove all values of option `number`, if any; returns self."""
        _remove(self.packet, number)
        return self

    def clear(self):
        """Make it a message without options, token and payload that keeps its buffers; returns self."""
        p = self.packet
        if p[_START]:
            _own(p)
        p[_DATA][:] = p[_TOKEN] = p[_PAYLOAD] = b""
        p[_END] = p[_LAST] = 0
        return self

    @staticmethod
    def decode(data, remote=None):
        """The message in the datagram `data`; raises FormatError if there is none (RFC 7252 section 3)."""
        message = object.__new__(Message)
        message.packet = p = [None] * _SLOTS
        p[_REMOTE] = remote
        at = _index(p, data if type(data) is bytes else bytes(data))
        if at >= 0:
            raise FormatError("not CoAP: wrong at byte %d" % at)
        return message

    def index(self, data):
        """Make this message a view of the datagram `data` (bytes) without allocating; not one that a handler is given.

        Raises FormatError; then the message must not be used before another index() has succeeded.
        """
        at = _index(self.packet, data)
        if at >= 0:
            raise FormatError("not CoAP: wrong at byte %d" % at)

    def encode(self):
        """The message as bytes for the wire, or the bytearray given as `buffer`, cut to the message.

        Raises ValueError if code, mtype or mid is missing, or if the buffer is too small.
        """
        if self.kept is None:
            out = bytearray(64)  # room for most messages: a bytearray that grows is copied
            self.write(out)
            return bytes(out)
        buffer, buffer_len = self.kept
        packed_len = _packed_len(self.packet, self.token)
        if packed_len > buffer_len:
            raise ValueError("the message needs %d bytes, its buffer has %d" % (packed_len, buffer_len))
        self.write(buffer)
        return buffer

    def write(self, buffer, mtype=None, mid=None, token=None):
        """Write the message into the bytearray `buffer`, whose length becomes the message's.

        Allocates nothing if the buffer has the capacity and the message was built, not received. Raises ValueError if
        code, mtype or mid is missing. mtype, mid and token are for the engine, which gives all three: they are written
        in the place of the message's own, and nothing is checked.
        """
        p = self.packet
        if token is None:
            mtype = p[_MTYPE]
            mid = p[_MID]
            if p[_CODE] is None or mtype is None or mid is None:
                raise ValueError("a message to encode needs code, mtype and mid")
            token = _token(p) if p[_START] or p[_TOKEN] is None else p[_TOKEN]
            if not p[_CODE] and _packed_len(p, token) > 4:
                raise ValueError("an empty message takes only code, mtype and mid")
        if len(buffer) < 4:
            buffer[:] = b"0000"
        buffer[0] = 0x40 | mtype << 4 | len(token)
        buffer[1] = p[_CODE]
        buffer[2] = mid >> 8
        buffer[3] = mid & 255
        buffer[4:] = token
        part = p[_DATA]
        if p[_START]:
            part = part[p[_START] : p[_END]]
        buffer += part
        part = p[_PAYLOAD]
        if part is None:
            part = _payload(p)
        if part:
            buffer += b"\xff"
            buffer += part

    def copy(self, **changes):
        """A message of its own with the same content; `changes` are fields, uri or options by name."""
        copy = _view(self.packet)
        p = copy.packet
        if not p[_START]:
            p[_DATA] = bytearray(p[_DATA])
            p[_PAYLOAD] = bytes(p[_PAYLOAD])
            if p[_TOKEN] is None:  # the response of a handler: its request, whose token it has, will be used again
                p[_TOKEN] = self.token
                p[_REQUEST] = p[_MID] = None  # it is sent later, and a handler may have set its request's ID
        if "uri" in changes:  # first: a dict of MicroPython has no order
            copy.set_request_uri(changes.pop("uri"))
        for name in changes:
            if name in ("code", "mtype", "mid", "token", "payload", "remote", "transport_tuning"):
                setattr(copy, name, changes[name])
            else:
                _set_option(p, name, changes[name])
        return copy

    def set_request_uri(self, uri, set_uri_host=True):
        """Take remote, Uri-Host, Uri-Path and Uri-Query from `uri` (RFC 7252 section 6.4).

        Uri-Host is left out for an IP literal, and if `set_uri_host` is False. Uri-Port is never needed: the port is
        that of remote. A URI of another scheme than coap and coaps goes whole into Proxy-Uri, and remote stays.
        Raises ValueError for what is no absolute URI or has a fragment or userinfo.
        """
        _check_type("a URI", uri, str)
        if _PARSED[0] != uri:
            _PARSED[1] = _parse_uri(uri)
            _PARSED[0] = uri
        p = self.packet
        q = _PARSED[1]
        if set_uri_host and not p[_START] and not p[_END]:
            p[_DATA][:] = q[_DATA]
            p[_END] = q[_END]
            p[_LAST] = q[_LAST]
        else:
            for number in (_URI_HOST, _URI_PORT, _URI_PATH, _URI_QUERY, _PROXY_URI, _PROXY_SCHEME):
                _remove(p, number)
            for number, value in _raw_options(q):
                if set_uri_host or number != _URI_HOST:
                    _add(p, number, value)
        p[_REMOTE] = q[_REMOTE] or p[_REMOTE]
        p[_SCHEME] = q[_SCHEME]

    def get_request_uri(self):
        """The URI that a request asks for (RFC 7252 section 6.5), of a response that of its request.

        Host and port come from Uri-Host and Uri-Port, else from remote; for a response to a request that went to
        a group they are those of the host that responded. Raises ValueError if there is neither, FormatError for an
        option that is not UTF-8. In a handler request.remote is the client: request.copy(remote="host:port"), with the
        server's own, has the URI that was asked for.
        """
        request = self.request if self.code and self.code >= 64 else self
        if request is None:
            raise ValueError("the response knows no request")
        opt = request.opt
        if opt.proxy_uri:
            return opt.proxy_uri
        is_group = request is not self and is_multicast(request.remote)
        host, port = _host_and_port(request.remote if self.remote is None else self.remote)
        name = opt.uri_host
        if name is not None and not is_group:
            # _PLAIN[:-2]: a host has no ":" or "@" of its own
            host = name if _is_ip_literal(name) else _quote((name,), "", _PLAIN[:-2])
        if host is None:
            raise ValueError("the request has neither Uri-Host nor remote")
        port = opt.uri_port or port
        scheme = opt.proxy_scheme or request.packet[_SCHEME] or "coap"
        uri = "%s://%s" % (scheme, host)
        if port and port != {"coaps": 5684, "http": 80, "https": 443}.get(scheme, 5683):
            uri += ":%d" % port
        uri += _quote(opt.uri_path, "/", _PLAIN) or "/"
        query = _quote(opt.uri_query, "&", b"-._~!$'()*+,;=:@/?")
        return uri + "?" + query[1:] if query else uri

    def get_cache_key(self, ignore_options=()):
        """A hashable that two requests to one server share if one's response may answer both (RFC 7252 section 5.6).

        It has the code and all options but Observe (RFC 7641 section 2), those that are NoCacheKey, and the numbers
        in `ignore_options`; of a FETCH the payload, too (RFC 8132 section 2).
        """
        code = self.code
        return code, bytes(self.payload) if code == FETCH else b"", _cache_options(self.packet, ignore_options)

    def __eq__(self, other):
        """Whether both have the same code, type, message ID, token, options and payload."""
        if not isinstance(other, Message):
            return False
        p = self.packet
        q = other.packet
        return (
            p[_CODE : _MID + 1] == q[_CODE : _MID + 1]
            and p[_DATA][p[_START] : p[_END]] == q[_DATA][q[_START] : q[_END]]
            and self.token == other.token
            and self.payload == other.payload
        )

    def __repr__(self):
        """One line for a log: code, type, message ID, token, options by name, length of the payload."""
        p = self.packet
        line = "<Message " + code_text(p[_CODE])
        if p[_MTYPE] is not None:
            line += " " + ("CON", "NON", "ACK", "RST")[p[_MTYPE]]
        if p[_MID] is not None:
            line += " mid=%d" % p[_MID]
        line += " token=" + (bytes(self.token).hex() or "")  # or: up to MicroPython 1.27 b"".hex() is b"", no str
        for number, value in _raw_options(p):
            if _FORMAT[_place(number)] == _UINT:
                value = _uint(value, 0, len(value))
            for name in _NAMES:
                if abs(_NAMES[name]) == number and name != "etags":
                    number = name
            line += " %s=%r" % (number, value)
        return "%s, %d bytes>" % (line, len(self.payload))


# message.etag where message.opt.etag is meant: CPython raises. On MicroPython the check would cost time in each message
if _ON_CPYTHON:

    def _miss(self, value=None):
        """Raise AttributeError, with what Options is for."""
        raise AttributeError(Options.__doc__.split("\n")[0])

    for _ in _NAMES:
        setattr(Message, _, property(_miss, _miss))


def code_text(code):
    """A code as in `2.05 Content` or `GET`, in the words of the RFCs."""
    if not code:
        return "Empty" if code == 0 else "no code"
    if code < 8:
        return ("GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "iPATCH")[code - 1]
    text = "%d.%02d" % (code >> 5, code & 31)
    for name in globals():  # the words are those of the constants above: NOT_FOUND
        if globals()[name] == code > 63 and name[0] != "_":
            for word in name.split("_"):
                text += " " + word[0] + word[1:].lower()
    return text


# ---- URIs ----


def _number(text):
    """The number that `text` is in decimal digits, or -1."""
    return int(text) if text.isdigit() and len(text) == len(text.encode()) else -1  # CPython knows other digits, too


def _is_ip_literal(host):
    """Whether `host` is [IPv6] or four numbers up to 255."""
    parts = host.split(".")
    for part in parts:
        if not 0 <= _number(part) < 256:
            return host[:1] == "["
    return len(parts) == 4


def _split_authority(text):
    """(host, port or 0) of host[:port] or [IPv6][:port]; raises ValueError. The host is in lower case.

    One with a zone is as written: "[fe80::1%eth0]", for the names of networks are case sensitive.
    """
    host, mark, port = text.rpartition(":")
    if not mark or "]" in port:
        host, port = text, ""
    is_ipv6 = host[:1] == "[" and host[-1:] == "]"
    name = host[1:-1] if is_ipv6 else host
    if not name or is_ipv6 != (":" in name) or "[" in name or "]" in name or "@" in name or port and _number(port) < 0:
        raise ValueError("a host is name[:port] or [IPv6][:port], not %r" % text)
    if port:
        _check("a port", int(port), 1, 65535)
    return host if host[0] == "[" and "%" in host else host.lower(), int(port or 0)


def _unquote(text):
    """`text` percent-decoded; raises ValueError if it cannot be."""
    parts = text.split("%")
    out = bytearray(parts.pop(0).encode())
    try:
        for part in parts:
            out.append(bytes.fromhex(part[:2])[0])  # IndexError: there are no digits
            out += part[2:].encode()
        return str(out, "utf-8")
    except (IndexError, ValueError):
        raise ValueError("% takes two hexadecimal digits of UTF-8, not " + text) from None


def _split_path(path):
    """The decoded segments of a URI's path, without "." and ".." (RFC 3986 section 5.2.4)."""
    segments = []
    for segment in path.split("/"):
        segment = _unquote(segment)
        if segment == "..":
            segments = segments[:-1]
        elif segment != ".":
            segments.append(segment)
    if segments and (segment == ".." or segment == "."):
        segments.append("")
    return segments


_PARSED = [None, None]  # the last URI and its packet: a client that asks again and again parses it once


def _parse_uri(uri):
    """The packet of a request to `uri`, see Message.set_request_uri."""
    scheme, mark, rest = uri.partition("://")
    scheme = scheme.lower()
    if not mark or "#" in uri or "/" in scheme or "?" in scheme or not scheme[:1].isalpha():
        raise ValueError("write coap://host[:port]/path?query without fragment, not %r" % uri)
    p = Message().packet
    if scheme != "coap" and scheme != "coaps":
        _replace(p, _PROXY_URI, (uri,))
        return p
    rest, mark, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    host, port = _split_authority(authority)
    if not _is_ip_literal(host):
        host = _unquote(host)
        _replace(p, _URI_HOST, (host,))
    if path:
        _replace(p, _URI_PATH, _split_path(path))
    if mark:
        _replace(p, _URI_QUERY, map(_unquote, query.split("&")))
    p[_REMOTE] = "%s:%d" % (host, port or (5683 if scheme == "coap" else 5684))
    p[_SCHEME] = scheme
    return p


_PLAIN = b"-._~!$&'()*+,;=:@"  # what needs no % in a path segment, besides letters and digits (RFC 3986)


def _quote(values, start, kept):
    """The texts `values` percent-encoded, but for letters, digits and the bytes `kept`; `start` goes before each."""
    out = ""
    for text in values:
        out += start
        for b in text.encode():
            is_plain = 48 <= b < 58 or 65 <= b < 91 or 97 <= b < 123 or b in kept
            out += chr(b) if is_plain else "%%%02X" % b
    return out


def _host_and_port(remote):
    """(host as in a URI, port) of an address of a socket or of "host:port"; (None, 0) if that cannot be told.

    A link-local host has its zone behind %25 (RFC 6874): without one the address may be on any network.
    """
    if isinstance(remote, str):
        return _split_authority(remote)
    if isinstance(remote, tuple) and isinstance(remote[0], str):
        host = remote[0]
        if ":" in host:
            host = "[%s%%25%d]" % (host, remote[3]) if remote[3:] and remote[3] else "[%s]" % host
        return host, remote[1]
    if not isinstance(remote, bytes) or len(remote) < 16:
        return None, 0
    port = _uint(remote, 2, 4)
    if len(remote) == 16:
        return "%d.%d.%d.%d" % tuple(remote[4:8]), port
    host = ""
    for at in range(8, 24, 2):
        host += ":%x" % _uint(remote, at, at + 2)
    return _host_and_port((host[1:], port, 0, int.from_bytes(remote[24:], sys.byteorder)))


def is_multicast(address):
    """Whether `address`, an address of a socket on any port, is a group's; looks up no name.

    A tuple is (host, port, ...), bytes are the unix port's sockaddr; anything else, a str too, is no group.
    """
    host = address[0] if isinstance(address, tuple) and address else None
    if isinstance(host, str):
        if ":" in host:
            return host[:2].lower() == "ff"
        first = host[:4]
        return "224." <= first < "240." and first[3:] == "." and first[:3].isdigit()
    if isinstance(address, _BYTES):
        return len(address) == 16 and address[4] >> 4 == 14 or len(address) == 28 and address[8] == 255
    return False


# ---- message layer: tuning, records of what was sent and received ----

_MAX_LATENCY_MS = const(100000)  # RFC 7252 section 4.8.2
_LATE_MS = const(2000)  # so late is in time for a retransmission; later the peer may not know the message any more
_FAR_MS = const(1 << 28)  # 3 days: much further apart, ticks cannot be compared


class Tuning:
    """Transmission parameters (RFC 7252 section 4.8) of an endpoint or of one message.

    ack_timeout_ms      ACK_TIMEOUT, 1 to 600000, the shortest time to the first retransmission
    ack_random_percent  ACK_RANDOM_FACTOR in percent, 100 to 1000: the longest one is so much of ack_timeout_ms
    max_retransmit      MAX_RETRANSMIT, 0 to 10; each wait is twice the one before
    nstart              NSTART, 1 to 65535, interactions open with one peer at a time. With more than 1, requests that
                        follow may push one that is being retransmitted out of the server's table (kept_per_host), which
                        then executes it twice: a gateway's server needs a large one
    leisure_ms          DEFAULT_LEISURE, 0 to 600000, up to which an answer to a group's request is delayed

    and derived from them (section 4.8.2) max_transmit_span_ms, max_transmit_wait_ms, exchange_lifetime_ms,
    non_lifetime_ms. Give a server no shorter ones than its clients: it knows a duplicate for its own
    exchange_lifetime_ms, and executes a POST that is retransmitted later once more.
    Raises TypeError or ValueError, too, if max_transmit_wait_ms is longer than 3 days.
    """

    def __init__(self, ack_timeout_ms=2000, ack_random_percent=150, max_retransmit=4, nstart=1, leisure_ms=5000):
        self.ack_timeout_ms = _check("ack_timeout_ms", ack_timeout_ms, 1, 600000)
        self.ack_random_percent = _check("ack_random_percent", ack_random_percent, 100, 1000)
        self.max_retransmit = _check("max_retransmit", max_retransmit, 0, 10)
        self.nstart = _check("nstart", nstart, 1, 65535)
        self.leisure_ms = _check("leisure_ms", leisure_ms, 0, 600000)
        longest_ms = ack_timeout_ms * ack_random_percent // 100
        self.max_transmit_span_ms = longest_ms * ((1 << max_retransmit) - 1)
        wait_ms = longest_ms * ((2 << max_retransmit) - 1)
        self.max_transmit_wait_ms = _check("max_transmit_wait_ms", wait_ms, 0, _FAR_MS)
        self.non_lifetime_ms = self.max_transmit_span_ms + _MAX_LATENCY_MS
        self.exchange_lifetime_ms = self.non_lifetime_ms + _MAX_LATENCY_MS + ack_timeout_ms


# Life of a TransmissionRecord
_QUEUED = const(0)
_SENT = const(1)  # a CON without ACK, or a NON request without response: counts for NSTART
_ACKED = const(2)  # the empty ACK came, the response is to follow
_PARKED = const(3)  # kept open by an extension
_ENDED = const(4)


class TransmissionRecord:
    """A message given to send and what became of it. Times are ticks in ms.

    endpoint, message (a copy, if an extension is attached), remote, token
    packed               the datagram, from when it is queued
    mid                  message ID, None before the first transmission
    transmitted_ms       time of the first transmission, None before
    last_event_ms        time of the latest transmission or answer
    next_event_ms        time of the next retransmission or give-up; None when nothing is due
    transmissions_left   how often it will be sent at most, from when it is queued
    tuning               the Tuning of the message, None: that of the endpoint
    response_type        how it was answered first: ACK, RST, CON or NON; None: not yet, or never
    response             ReceptionRecord of the response or Reset that came first, of an observation the latest
    responses            a tuple of all of them: several if `remote` is a group; of an observation empty
    is_unacknowledged    True: a CON that was given up without ACK
    error                None, or the exception class it ended with: Timeout, Reset, Rejected, Closed, or one that
                         an extension names
    part                 the TransmissionRecord of what an extension sends for it now; it ends with this one

    and, for extensions:

    mtype, timeout_ms    type and timeout of the exchange
    is_request           whether a response is waited for
    outer                the Message that is sent in the place of `message`, or None
    on_end               called with this record when it has ended, in the place of the endpoint's on_end; or None
    """

    # Until they are set these lie in the class: a record has 17 attributes of its own in most cases, and for one more
    # its dict would grow by six places
    transmitted_ms = last_event_ms = next_event_ms = None
    response_type = response = error = tuning = None
    responses = ()
    is_unacknowledged = False
    state = _QUEUED
    outer = on_end = part = None

    def __init__(self, endpoint, message, remote, mtype, token, timeout_ms):
        p = message.packet
        self.endpoint = endpoint
        self.message = message
        self.remote = remote
        self.mtype = mtype
        self.token = token
        self.mid = p[_MID]
        if p[_TUNING]:
            self.tuning = p[_TUNING]
        if timeout_ms is None:
            timeout_ms = (self.tuning or endpoint.tuning).max_transmit_wait_ms
        self.timeout_ms = timeout_ms
        # a request that wants no response at all (RFC 7967 section 2.1) ends when it has been sent, or acknowledged
        self.is_request = 0 < p[_CODE] < 32 and _unwanted(p) & _NOTHING != _NOTHING

    def is_done(self):
        """Whether the exchange has ended: with a response or `error`, or sent with nothing to come."""
        return self.state == _ENDED

    def park(self):
        """Keep it open without retransmission or timeout, until an extension ends it."""
        self.state = _PARKED
        self.transmissions_left = 0
        self.next_event_ms = None

    def cancel(self):
        """Give it up: no retransmission; a CON response still coming is answered with Reset."""
        self.endpoint.end(self, None)


class ReceptionRecord:
    """A message received for the application: a response or Reset to a record of send, or a request.

    endpoint, message, remote
    mid              its message ID
    pertains_to      the TransmissionRecord it answers; None for a request
    is_acknowledged  whether an empty ACK went
    has_responded    whether it was answered by respond or reset
    answer_ms        None, or of a request to a group when its answer may leave: after the leisure
    """

    is_acknowledged = has_responded = True
    answer_ms = None

    def __init__(self, endpoint, message, pertains_to, slot=-1):
        self.endpoint = endpoint
        self.message = message
        self.remote = message.packet[_REMOTE]
        self.mid = message.packet[_MID]
        self.pertains_to = pertains_to
        self.slot = slot  # in the table of duplicates
        if pertains_to is None:
            self.is_acknowledged = self.has_responded = False

    def ack(self, message=None):
        """Acknowledge the CON with nothing; sent by the next process. With a `message` it is respond(message).

        After an empty one respond() goes as a message of its own. Raises ValueError if it was answered or acknowledged,
        or is no CON.
        """
        if message is not None:
            self.respond(message)
        elif self.message.mtype != CON or self.is_acknowledged or self.has_responded:
            raise ValueError("ack is for a CON without answer")
        else:
            self.is_acknowledged = True
            self.endpoint.answer(self, bytes(self.endpoint.empty(ACK, self.mid)))

    def reset(self):
        """Answer with a Reset: the message makes no sense here; sent by the next process.

        What came to a group gets none (RFC 7252 section 8.1). Raises ValueError if it was answered or acknowledged.
        """
        if self.has_responded or self.is_acknowledged:
            raise ValueError("the message was answered")
        self.has_responded = True
        if self.answer_ms is None:
            self.endpoint.answer(self, bytes(self.endpoint.empty(RST, self.mid)))

    def respond(self, code=CONTENT, payload=b"", **options):
        """Answer the request with a response Message, or one made of `code`, `payload` and options by name.

        It is piggybacked on the ACK of a CON, or a message of its own if that went before. To a request to a group it
        goes after the leisure, and not at all while as many as `queued` wait for that.
        Raises ValueError if it was answered, its code is not that of a response, or it is too long; TypeError if
        something is beside a Message; Full if that of its own finds the queue full: try again.
        """
        if self.has_responded:
            raise ValueError("the message was answered")
        response = code
        if not isinstance(code, Message):
            response = Message(code, payload=payload, **options)
        elif payload or options:
            raise TypeError("a Message has its payload and options already")
        engine = self.endpoint
        request = self.message
        token = request.token
        is_con = request.mtype == CON
        if response.code is None or not 64 <= response.code < 192:
            raise ValueError("a response code is 2.00 to 5.31")
        if engine.hooks:
            response = response.copy()  # an extension may change it, and it may be used again
            engine.extend(request, response)
        if _packed_len(response.packet, token) > engine.datagram_len:
            raise ValueError("the response is longer than datagram_len")
        if _unwanted(request.packet) >> (response.code >> 5) - 1 & 1:
            if is_con and not self.is_acknowledged:
                self.ack()
        elif self.is_acknowledged:
            engine.enqueue(response, self.remote, CON, token, None)
        else:
            packed = bytearray(4)
            mid = self.mid if is_con else engine.reply_mid()
            response.write(packed, ACK if is_con else NON, mid, token)
            engine.answer(self, packed)
        self.has_responded = True


def _unwanted(p):
    """The No-Response of the request `p`: bit n - 1 for the class n of responses it does not want (RFC 7967).

    Of a datagram it counts if its bit in _SEEN is set: coap_oscore clears that of an outer one.
    """
    if p[_START] and not p[_SEEN] & _HAS_NO_RESPONSE:
        return 0
    at = _find(p, _NO_RESPONSE)
    return _uint(p[_DATA], at, p[_STOP]) if at >= 0 and p[_STOP] - at <= 1 else 0


def _host(peer):
    """The address in `peer` without the port: of a tuple, or of a sockaddr of the unix port; else `peer` itself."""
    if isinstance(peer, tuple):
        return peer[0]
    if isinstance(peer, bytes) and len(peer) >= 16:
        return peer[4:8] if len(peer) == 16 else peer[8:24]
    return peer


# ---- resources and discovery ----

_STATE = const(-1)  # in the place of a method: the function that tells the ETag


def _several(value):
    """`value` as a tuple: of the items of a tuple or list, else of one value alone; None stays None."""
    if isinstance(value, (tuple, list)):
        return tuple(value)
    return None if value is None else (value,)


class Resource:
    """What Engine.resource returns: a path, and a handler for each method.

    Used as a decorator it sets the handler of all methods; `get`, `put`, `post`, `delete` set that of one, and
    `on(method)` that of any (FETCH, PATCH, IPATCH). A handler is called with the request and the response, two
    Messages. It reads the request, of which it may change a copy(), and fills the response, whose code is preset, or
    returns one of

      None                 the response as filled in
      an int               the code
      str, bytes, ...      the payload; its Content-Format is the resource's `ct`
      (code, payload)      both; of an error the payload is a short text for people
      NO_RESPONSE, LATER   none, or one that follows: see the constants. `ct` and `etag` add nothing to that one

    Options of the response are at its `opt`. What a handler raises goes to the endpoint's log, and 5.00 to the client.
    `etag` sets a function that returns the ETag of the present state. With it a GET whose ETag is still right is
    answered by 2.03, and a request whose If-Match or If-None-Match does not hold by 4.12. Without it requests with
    If-Match or If-None-Match are refused with 4.02.
    """

    def __init__(self, path, first_len, link, ct, takes, groups, secure, obs):
        self.path = path  # the raw Uri-Path options behind the first header
        self.first_len = first_len  # length of the first Uri-Path, which that header tells
        self.link = link  # in /.well-known/core; None: it is not listed
        self.formats = _several(ct) or ()
        self.content_format = Message(content_format=self.formats[0]).packet[_DATA] if self.formats else None
        self.takes = _several(takes)
        for each in self.formats + (self.takes or ()):
            _encode_value(_CONTENT_FORMAT, each)
        self.groups = groups
        self.is_secure = secure
        self.is_observable = obs
        self.handlers = [None] * 8  # by method; 0: of all others
        self.state = None  # the function that etag() was given
        # Engine.resource sets `next`: the Resource before this one with the same routing key, or None

    def on(self, method):
        """A decorator that sets the handler of `method`, 1 to 7; returns it. Raises TypeError or ValueError."""
        _check("method", method, 1, 7)
        return lambda handler: self(handler, method)

    def __call__(self, handler, method=0):
        """Set the handler of all methods without one of their own, None takes it away; returns it.

        Raises TypeError for what is no function.
        """
        if handler is not None and not callable(handler):
            raise TypeError("a handler is a function, not %r" % (handler,))
        if method == _STATE:
            self.state = handler
        else:
            self.handlers[method] = handler
        return handler

    def get(self, handler):
        """Set the handler of GET; returns it."""
        return self(handler, GET)

    def put(self, handler):
        """Set the handler of PUT; returns it."""
        return self(handler, PUT)

    def post(self, handler):
        """Set the handler of POST; returns it."""
        return self(handler, POST)

    def delete(self, handler):
        """Set the handler of DELETE; returns it."""
        return self(handler, DELETE)

    def etag(self, state):
        """Set `state(request)`, which returns the ETag, 1 to 8 bytes, or None if there is nothing now; returns it.

        Raises TypeError for what is no function.
        """
        return self(state, _STATE)


def _segments(path):
    """The segments of a resource's `path`, before which a slash makes no difference, as before a URI's."""
    if path[:1] == "/":
        path = path[1:]
    return path.split("/") if path else []


def _path_key(p):
    """The routing key of `p`: a small integer of its raw Uri-Path options, by which resources are looked up."""
    if not p[_PATH] or p[_PATH_END] <= p[_PATH]:
        return 0
    return (p[_PATH_END] - p[_PATH]) << 16 | p[_FIRST_LEN] << 8 | p[_DATA][p[_PATH_END] - 1]


def _link(path, attributes):
    """A link of RFC 6690: `</path>;name=value...`; a str is quoted, True is a name alone, a tuple is a list."""
    link = "<%s>" % (_quote(path, "/", _PLAIN) or "/")
    for name in sorted(attributes):
        value = attributes[name]
        if value is None or value is False:
            continue
        if isinstance(value, (tuple, list)):
            value = " ".join(map(str, value))
        link += ";" + name.rstrip("_")
        if isinstance(value, str):
            if '"' in value or "\\" in value:
                raise ValueError("a link cannot have quotes or backslashes: " + value)
            link += '="%s"' % value
        elif value is not True:
            link += "=%d" % value
    return link


def _matches(link, query):
    """Whether `link` passes the filter `name=value` or `name=prefix*` (RFC 6690 section 4.1)."""
    name, _, wanted = query.partition("=")
    target, _, rest = link[1:].partition(">")
    values = [target] if name == "href" else []
    while rest:
        rest = rest[1:]
        attribute = rest.partition(";")[0]
        if '="' in attribute:
            key, _, rest = rest.partition('="')
            value, _, rest = rest.partition('"')
        else:
            key, _, value = attribute.partition("=")
            rest = rest[len(attribute) :]
        if key == name:
            values = value.split(" ") + [value]
    for value in values:
        if value == wanted or wanted[-1:] == "*" and value.startswith(wanted[:-1]):
            return True
    return False


# ---- the table of duplicates ----

_REPLY_LEN = const(32)  # a reply up to this length is kept in its slot
_IS_NON = const(1)  # marks of a message that is kept; 1 is NON itself
_IS_FOLLOWED = const(2)  # ... after which its sender has sent another
_NON_SHORTER_MS = const(102000)  # so much sooner than a CON of the same age a NON is forgotten, with a usual Tuning


class _Duplicates:
    """The messages received lately, so that none is executed twice (RFC 7252 section 4.5).

    The first `recent` slots are direct-mapped by message ID and overwritten freely: they are for messages that may be
    handled twice. The `kept` others hold their message until its lifetime is over, `kept_per_host` of them for one
    address. A slot is an index of the lists below.
    """

    def __init__(self, recent, kept, kept_per_host):
        self.recent = _check("recent", recent, 1, 4096)
        self.kept_per_host = _check("kept_per_host", kept_per_host, 1, 4096)
        slots = recent + _check("kept", kept, 0, 4096)
        self.pending = []  # (peer, token, message ID, until_ms, No-Response) of what handlers promised
        self.mids = [-1] * slots  # -1: free
        self.marks = bytearray(slots)  # of the `kept` only, see keep
        self.peers = [None] * slots
        self.hosts = [None] * slots  # of the `kept` only
        self.until_ms = [0] * slots
        self.replies = [None] * slots  # bytearrays, to a CON; empty: none
        for slot in range(slots):
            self.free(slot)

    def find(self, p, now_ms):
        """The slot of the message `p`, or -1."""
        mid = p[_MID]
        slot = mid % self.recent
        if self.mids[slot] == mid and self.peers[slot] == p[_REMOTE] and ticks_diff(self.until_ms[slot], now_ms) > 0:
            return slot
        if mid not in self.mids:
            return -1
        for slot in range(self.recent, len(self.mids)):
            if self.mids[slot] == mid and self.peers[slot] == p[_REMOTE]:
                if ticks_diff(self.until_ms[slot], now_ms) > 0:
                    return slot
        return -1

    def is_promised(self, mid, peer):
        """Whether a response to the message `mid` of `peer` was promised."""
        for entry in self.pending:
            if entry[2] == mid and entry[0] == peer:
                return True
        return False

    def keep(self, p, now_ms, until_ms):
        """Fill one of the `kept` slots; returns it, or -1 if none is free and none may be taken from another message.

        Not taken are those of other hosts, and of requests to which a response was promised.
        """
        host = _host(p[_REMOTE])
        taken = oldest = -1
        oldest_ms = mine = 0
        for slot in range(self.recent, len(self.mids)):
            left_ms = ticks_diff(self.until_ms[slot], now_ms)
            if self.mids[slot] < 0 or left_ms <= 0:
                taken = slot
            elif self.hosts[slot] == host:
                mine += 1
                if self.marks[slot] & _IS_NON:
                    left_ms += _NON_SHORTER_MS
                # Messages after which their port has sent others are taken before those which are its last, and may
                # still be retransmitted; but a last one that is 100 s older is not retransmitted any more, either
                if self.peers[slot] == p[_REMOTE]:
                    self.marks[slot] |= _IS_FOLLOWED
                if self.marks[slot] & _IS_FOLLOWED:
                    left_ms -= _MAX_LATENCY_MS
                is_oldest = oldest < 0 or left_ms < oldest_ms
                if is_oldest and not self.is_promised(self.mids[slot], self.peers[slot]):
                    oldest = slot
                    oldest_ms = left_ms
        if taken < 0 or mine >= self.kept_per_host:
            taken = oldest
        if taken >= 0:
            self.free(taken)
            self.mids[taken] = p[_MID]
            self.marks[taken] = p[_MTYPE]
            self.peers[taken] = p[_REMOTE]
            self.hosts[taken] = host
            self.until_ms[taken] = until_ms
        return taken

    def free(self, slot):
        """Empty a slot, and let go of the memory of a long reply."""
        self.mids[slot] = -1
        self.peers[slot] = self.hosts[slot] = None
        reply = self.replies[slot]
        if reply is None or len(reply) > _REPLY_LEN:
            reply = self.replies[slot] = bytearray(_REPLY_LEN)
        reply[:] = b""

    def remember(self, slot, packed):
        """Keep the reply to a CON for its duplicates; a long one only in the `kept`, for it must not be made again."""
        if len(packed) <= _REPLY_LEN:
            self.replies[slot][:] = packed
        elif slot >= self.recent:
            self.replies[slot] = bytearray(packed)


# ---- protocol engine ----

_RETRY_S = const(60)  # Max-Age of a refusal because a table is full
_RETRY_MS = const(1000)  # after which a tick that raised is tried again
_BESIDE_LEN = const(32)  # of header, token and usual options, beside a payload
_FILTERS = const(8)  # that discovery takes at once
_IN_HANDLER = const("inside a handler use send, or return LATER")
# The code that a response has before its handler runs, by method. Those that are not assigned (8 to 31) come only to
# an endpoint without resources
_PRESET = bytes((0, CONTENT, CREATED, CHANGED, DELETED, CONTENT)) + bytes((CHANGED,)) * 26

# What the `request` and `incoming` of an extension return, besides None to let the message pass; see Engine.attach
REPLY = const(1)  # the response is filled, and goes out
CONSUMED = const(2)  # the message was taken: nothing goes out now

# Indexes of Engine._limits: how many entries its tables may have
_MAX_OPEN = const(0)
_MAX_QUEUED = const(1)  # coap_observe and coap_aio know this one, too
_MAX_PENDING = const(2)
_MAX_RESPONSES = const(3)

# What _serving is asked to do with the request in hand (`asked`); a code from 128 on: refuse it with that
_ANSWER = const(0)
_ANSWER_TO_GROUP = const(-1)
_RENDER = const(-2)  # to fill the response, no more


def _prepare(r, p, code):
    """Empty the response packet `r` and address it to the request packet `p`."""
    # _DATA without _END: an option whose value found no memory; _END without _DATA: a Ctrl-C between the lines below
    if r[_DATA] or r[_END]:
        r[_DATA][:] = b""
        r[_END] = r[_LAST] = 0
    r[_CODE] = code
    r[_MTYPE] = p[_MTYPE]
    r[_TOKEN] = None
    r[_PAYLOAD] = b""
    r[_REMOTE] = p[_REMOTE]


def _serving(engine):
    """A generator that is sent what to do with the request in hand, and yields the datagram to send back or None.

    Asked to _RENDER it yields None when the response is filled. It is one long generator, not several functions, to be
    fast: MicroPython reads locals several times as fast as attributes, and it would allocate a frame of this size
    in each call of a function, while that of a generator stays. The methods that it calls are Engine's, below.
    """
    # these first: the first 16 locals are read faster
    reply = result = resource = refusal = asked = code = slot = seen = mid = start = None
    request = engine._request
    response = engine._response
    p = request.packet
    r = response.packet
    begin = engine._begin
    if r[_START]:  # a handler has called its index(), which ended the generator before
        _own(r)
    routes = engine._routes
    duplicates = engine._duplicates
    recent = duplicates.recent
    mids = duplicates.mids
    peers = duplicates.peers
    until_ms = duplicates.until_ms
    replies = duplicates.replies
    hooks = engine.hooks
    out = engine._out
    try:
        # a loop must not come first here: to CPython a Ctrl-C at its end is one before the `try`
        pending = engine._pending
        while True:
            refusal = asked = yield reply
            reply = result = None
            slot = -1  # its place in the table of duplicates; -1: none
            mid = p[_MID]
            if asked <= 0:
                code = p[_CODE]
                # Was it answered before?
                if (code != GET or mids[mid % recent] == mid or pending) and asked != _RENDER:
                    slot = duplicates.find(p, engine.now_ms)
                    if slot >= 0 and (p[_MTYPE] == NON or slot >= recent or replies[slot]):
                        reply = replies[slot] or None  # None: to a NON, or the reply to a kept request is still to come
                        continue
                    # ... or promised, in a slot that another GET has taken meanwhile?
                    if pending and duplicates.is_promised(mid, p[_REMOTE]):
                        if p[_MTYPE] == CON:
                            reply = engine.empty(ACK, mid)
                        continue
                # Who is to answer it, or why not?
                refusal = 0
                if hooks and asked != _RENDER:
                    data = p[_DATA]
                    for hook in hooks["unwrap"]:
                        refusal = hook(request)
                        engine._is_unwrapped = p[_DATA] is not data
                        if refusal:
                            break
                    data = None  # the frame of a generator stays
                    code = p[_CODE]
                    if asked:  # a request to a group begins no observation: its sender may never get the answer
                        p[_SEEN] &= ~(1 << _OBSERVE)
                seen = p[_SEEN]
                start = p[_PATH]
                stop = p[_PATH_END]
                # _path_key, and the first step of _route, which does the rest
                resource = routes.get((stop - start) << 16 | p[_FIRST_LEN] << 8 | p[_DATA][stop - 1] if start else 0)
                if resource is None or not p[_DATA].startswith(resource.path, start):
                    resource = engine._route(p)
                if asked or refusal or resource is None or resource.is_secure or seen & _JUDGED or code > IPATCH:
                    refusal = refusal or engine._refusal(p, resource, asked)
                    if refusal < 0:
                        continue
                    if refusal == BAD_OPTION and p[_MTYPE] == NON:
                        reply = engine.empty(RST, mid)
                        continue
                elif not resource.handlers[code] and not resource.handlers[0]:
                    refusal = METHOD_NOT_ALLOWED
                # Note it, so that its duplicates are known. GET, FETCH and what is refused may be handled twice; what
                # was unwrapped must not
                if asked != _RENDER:
                    tuning = engine.tuning
                    lifetime_ms = tuning.non_lifetime_ms if p[_MTYPE] else tuning.exchange_lifetime_ms
                    forget_ms = ticks_add(engine.now_ms, lifetime_ms)
                    if (code == GET or code == FETCH or refusal) and not engine._is_unwrapped:
                        slot = mid % recent
                        replies[slot][:] = b""
                        mids[slot] = mid
                        peers[slot] = p[_REMOTE]
                        until_ms[slot] = forget_ms
                        if engine._wake_ms is None:
                            engine._wake_ms = forget_ms
                    else:
                        slot = duplicates.keep(p, engine.now_ms, engine.wake(forget_ms))
                        if slot < 0:
                            if p[_MTYPE] == NON:
                                continue
                            refusal = SERVICE_UNAVAILABLE
            # What is the response?
            preset = refusal or _PRESET[code]
            if r[_DATA] or r[_END]:  # what _prepare does
                r[_DATA][:] = b""
                r[_END] = r[_LAST] = 0
            r[_CODE] = preset
            r[_MTYPE] = p[_MTYPE]
            r[_TOKEN] = None
            r[_PAYLOAD] = b""
            r[_REMOTE] = p[_REMOTE]
            r[_TUNING] = None  # which the handler before may have set
            if refusal:
                result = REPLY
                if refusal == SERVICE_UNAVAILABLE:
                    response.opt.max_age = _RETRY_S
                elif refusal == REQUEST_ENTITY_TOO_LARGE and not engine.sends_blocks:
                    response.opt.size1 = engine.datagram_len - _BESIDE_LEN
            elif (hooks or resource is None) and asked != _RENDER:
                try:  # the extensions take it, or the application where there are no resources
                    if hooks:
                        for hook in hooks["request"]:
                            result = hook(request, response)
                            if result is not None:
                                break
                    if resource is None and result is None:
                        engine._hand_over(p, slot)
                except BaseException:
                    duplicates.free(slot)  # no handler has run: who sends it again is served
                    raise
            if result is None:
                if resource is None:
                    continue
                data = p[_DATA]
                body = p[_PAYLOAD]
                handler = engine._call_if_expected if seen & _CONDITIONAL else resource.handlers[code]
                engine._is_in_handler = True
                try:
                    result = (handler or resource.handlers[0])(request, response)
                    if type(result) is str:
                        result = result.encode()
                except BaseException as error:
                    result = error
                if p[_DATA] is not data:  # the handler has changed its request, whose header the response takes
                    _index(p, data)
                    p[_SEEN] = seen
                    p[_PAYLOAD] = body
                    p[_REMOTE] = r[_REMOTE]
                    p[_SCHEME] = "coaps" if engine.is_secure else None
                data = body = None  # the frame stays, and a body may be large
                if type(result) is bytes:
                    r[_PAYLOAD] = result
                    result = None
                if result is not None or resource.state or seen & 1 << _ETAG or r[_CODE] != preset:
                    result = engine._settle(p, resource, result)
                engine._is_in_handler = False
                if r[_PAYLOAD] and resource.formats and r[_CODE] < BAD_REQUEST:  # an error's is a text for people
                    if not r[_END] and not seen & 1 << _ACCEPT:
                        r[_DATA][:] = resource.content_format
                        r[_END] = len(resource.content_format)
                        r[_LAST] = _CONTENT_FORMAT
                    elif _find(r, _CONTENT_FORMAT) < 0:
                        value = _uint_option(p, _ACCEPT) if seen & 1 << _ACCEPT else resource.formats[0]
                        _add(r, _CONTENT_FORMAT, _uint_bytes(value))
            elif result is REPLY:
                result = None
            if asked == _RENDER:
                reply = result
                continue
            if result is LATER:
                if len(pending) < engine._limits[_MAX_PENDING]:
                    engine.wake(forget_ms)
                    # a group gets no errors: of it asked is -1, and this adds the bits of _NO_ERROR
                    pending.append((p[_REMOTE], _token(p), mid, forget_ms, _unwanted(p) | asked & _NO_ERROR))
                else:
                    result = None
                    _prepare(r, p, SERVICE_UNAVAILABLE)
                    response.opt.max_age = _RETRY_S
            # The datagram
            if hooks and result is None:
                engine.extend(request, response)
            start = p[_START]
            stop = start + r[_END]
            if stop + len(r[_PAYLOAD]) >= engine.datagram_len and result is None:
                if engine.log:
                    engine.log("the response is longer than datagram_len", len(r[_PAYLOAD]))
                _prepare(r, p, INTERNAL_SERVER_ERROR)
            if p[_SEEN] & _HAS_NO_RESPONSE and _unwanted(p) >> (r[_CODE] >> 5) - 1 & 1:
                result = NO_RESPONSE
            if result is not None:  # NO_RESPONSE or LATER
                if p[_MTYPE] == NON:
                    continue
                reply = engine.empty(ACK, mid)
            else:
                reply = out
                out[:] = p[_DATA]  # its header and token are right but for the type, the code, in a NON the message ID
                out[1] = r[_CODE]
                out[start:] = r[_DATA]
                if r[_PAYLOAD]:
                    out += b"\xff"
                    out += r[_PAYLOAD]
                if p[_MTYPE] == NON:
                    mid = engine.reply_mid()
                    out[2] = mid >> 8
                    out[3] = mid & 255
                    continue
                out[0] |= ACK << 4
            if slot >= 0:
                if len(reply) <= _REPLY_LEN:
                    replies[slot][:] = reply
                else:
                    duplicates.remember(slot, reply)
    finally:  # Ctrl-C or no memory has ended this generator. The next request makes another: now that may fail, too
        engine._serve = begin
        engine._is_in_handler = False


class Engine:
    """The protocol without I/O: give it datagrams and the time, send what it gives back.

    `receive` takes a datagram and returns the immediate reply; `due` returns what is to be sent at a time, and
    `next_ms` when that will be. An Endpoint is an Engine on a socket. For the arguments see Endpoint; `random(n)`
    returns n bytes nobody can guess.
    """

    # In the class until they are set: the dict of an instance has 48 attributes in 59 places, so that MicroPython finds
    # soon that a method is not among them. In a fuller one, as one of 47 attributes in 47 places, it would have to look
    # further for each method that is called
    is_secure = False  # whether the transport protects all that comes and goes
    overhead_len = 0  # bytes of a datagram that a response has to leave to an extension

    def __init__(
        self,
        random,
        tuning=None,
        transmissions=4,
        queued=8,
        recent=16,
        kept=32,
        kept_per_host=8,
        pending=4,
        group_responses=16,
        datagram_len=1152
    ):
        if not _ON_CPYTHON:
            gc.collect()  # what importing has left lies in the way of what is to stay in one piece
        self.random = random
        self.tuning = tuning or Tuning()
        self.datagram_len = _check("datagram_len", datagram_len, 48, 65507)
        self.log = self.on_end = self.next_event_reason = self.peer = None  # peer: see due
        self.received = None  # the ReceptionRecord of the latest receive, if it is for the application
        self.now_ms = 0  # the time of the latest receive or due
        self.resources = []
        self.hooks = {}  # methods of the extensions: name -> list in the order in which they are called
        self.sends_blocks = None  # set by coap_block, which sends sources in blocks: makes one of a list of links
        self._extensions = []
        self._names = {}  # "host:port" -> address, as an Endpoint has looked it up
        self._critical = _CRITICAL  # critical options that no extension understands
        self.is_closed = self._is_in_handler = False
        self._is_unwrapped = False  # whether an extension has unwrapped the request in hand
        self._routes = {}  # _path_key -> the latest Resource with it; None -> that of those whose last segment varies
        self._limits = (  # see _MAX_OPEN
            _check("transmissions", transmissions, 1, 4096),
            _check("queued", queued, 1, 4096),
            _check("pending", pending, 0, 4096),
            _check("group_responses", group_responses, 0, 4096),
        )
        self._open = []  # TransmissionRecords sent and not ended
        self._queue = []  # TransmissionRecords not sent yet
        self._answers = []  # (datagram, peer, time or None for at once): sent once, without a record
        self._is_calm = False  # whether these three are as they were when an Endpoint last looked at them
        self._duplicates = _Duplicates(recent, kept, kept_per_host)
        self._pending = self._duplicates.pending
        self._wake_ms = None  # when the next thing is to be forgotten or an extension has something to do
        self._first_mid = self._reply_mid = _uint(random(2), 0, 2)  # _take_mid counts up, reply_mid down
        self._mids_used = 0  # since _first_mid, modulo 65536
        self._mids_free_ms = [None] * 16  # when each block of 4096 IDs may be used again; None: now
        self._out = bytearray(datagram_len + 1)
        self._request, self._response = Message(), Message()
        self._response.request = self._request  # whose token it has
        self._begin(None)

    def attach(self, extension):
        """Add what goes beyond this file: an object with `rank`, `understood` and some of these methods.

        rank         order from the wire upwards: coaps 0, OSCORE 10, Echo 20, blocks 30, Observe 40
        understood   bit n set for each critical option n up to 28 that it understands

        called from the lowest rank upwards, where nothing else is said:

        unwrap(request)             before a request is looked at; may replace it; returns a code to refuse it, or None
        request(request, response)  before its handler runs; returns None, REPLY or CONSUMED
        response(request, response) before a response leaves, from the highest rank downwards; request is None if the
                                    response is a separate one: its remote and token tell which request it answers
        outgoing(record)            before a request is queued, from the highest rank downwards; may set record.outer,
                                    the Message that goes in the place of record.message
        wrap(record, message)       before a request is packed, also by resend(), from the highest rank downwards;
                                    returns the Message that goes in its place, or None
        incoming(record, message)   a response came; returns None or CONSUMED: the exchange goes on
        reset(peer, mid)            a Reset of a message that is forgotten here
        tick(now_ms)                at the time asked for by wake() or told by next_ms, or later
        next_ms(now_ms)             milliseconds until its next tick, or None; asked after each tick, so call wake()
                                    for the first one
        """
        extensions = self._extensions
        at = 0
        for each in extensions:
            at += each.rank < extension.rank
        extensions.insert(at, extension)
        self._critical &= ~extension.understood
        for name in ("unwrap", "request", "response", "outgoing", "wrap", "incoming", "reset", "tick", "next_ms"):
            hooks = self.hooks[name] = []
            for each in extensions:
                if hasattr(each, name):
                    hooks.append(getattr(each, name))
            if name in ("response", "outgoing", "wrap"):
                hooks.reverse()

    def wake(self, at_ms):
        """Have what is too old forgotten and the extensions' `tick` called at `at_ms` or before; returns `at_ms`."""
        if self._wake_ms is None or ticks_diff(at_ms, self._wake_ms) < 0:
            self._wake_ms = at_ms
        return at_ms

    # -- resources

    def resource(self, path, ct=None, takes=None, groups=True, secure=False, **attributes):
        """Serve `path` ("sensors/temp"); returns the Resource, a decorator for its handlers.

        path    as in a URI: "sensors/temp" and "/sensors/temp" are the same, "" is the root; a last segment in angle
                brackets ("files/<name>") stands for any segment, which is request.opt.uri_path[-1]
        ct      Content-Format of the payloads, or a tuple of several, from which Accept chooses
        takes   Content-Format of the requests' payloads, or a tuple; another is refused with 4.15; None: any
        groups  whether requests to a group are answered
        secure  whether requests are answered only if the transport is secure (coap_dtls) or an extension unwrapped
                them (coap_oscore), else with 4.01
        `ct` and `attributes` (rt="temperature", if_="sensor", sz=12, title="...", obs=True, ...) are listed in
        /.well-known/core, unless the last segment varies; that path may be given, too, and is answered by your handlers
        then. Raises ValueError if the path is served already, ValueError or TypeError for what a path, a Content-Format
        or an attribute cannot be.
        """
        _check_type("a path", path, str)
        segments = _segments(path)
        if not self.resources and segments != [".well-known", "core"]:
            self.resource(".well-known/core", ct=LINKS).get(self._discover)
            self.resources[0].link = None  # it does not list itself
        is_prefix = path[-1:] == ">" and segments[-1][0] == "<"
        if ">/" in path:
            raise ValueError("only the last segment may vary: " + path)
        if is_prefix:
            segments.pop()
        request = Message(GET, mtype=CON, mid=0, uri_path=segments)
        request.index(request.encode())
        p = request.packet
        raw = p[_DATA][p[_PATH] or p[_END] :]
        attributes["ct"] = ct
        if secure and not self.is_secure:
            attributes["osc"] = True  # RFC 8613 section 9
        key = link = None
        if not is_prefix:
            key = _path_key(p)
            link = _link(segments, attributes)
        resource = Resource(raw, p[_FIRST_LEN], link, ct, takes, groups, secure, attributes.get("obs", False))
        other = resource.next = self._routes.get(key)  # the one before with this key
        while other is not None:  # our own /.well-known/core, which has no link, may be replaced
            if other.path == raw and other.first_len == resource.first_len and (other.link or is_prefix):
                raise ValueError("%r is served already: keep what resource() returned" % path)
            other = other.next
        self.resources.append(resource)
        self._routes[key] = resource
        if not _ON_CPYTHON:
            gc.collect()  # else the garbage of many registrations leaves holes too small for a datagram
        return resource

    def _route(self, p):
        """The resource that the Uri-Path of `p` names, or None: first those of this very path, then "files/<name>"."""
        start = p[_PATH]
        resource = self._routes.get(_path_key(p))
        while resource is not None and not p[_DATA].startswith(resource.path, start):
            resource = resource.next
        if resource is not None or not start:
            return resource
        resource = self._routes.get(None)
        while resource is not None:
            at = start + len(resource.path)
            if not resource.path:  # "<name>": the first segment must be the only one
                if p[_FIRST_LEN] == p[_PATH_END] - start:
                    break
            elif p[_FIRST_LEN] == resource.first_len and p[_DATA].startswith(resource.path, start):
                if at < p[_PATH_END] and _step(p, at) and p[_STOP] == p[_PATH_END]:  # one more segment, the last
                    break
            resource = resource.next
        return resource

    def _discover(self, request, response):
        """Handler of /.well-known/core (RFC 6690): the links that pass all filters, of which there may be 8.

        Without an extension that sends it in blocks, as many as fit whole.
        """
        links = []
        queries = request.opt.uri_query
        if len(queries) > _FILTERS:  # 200 in a datagram, with 20 resources, would take a quarter of a second on a PC
            return BAD_REQUEST
        for resource in self.resources:
            link = resource.link
            for query in queries:
                if link and not _matches(link, query):
                    link = None
            if link:
                links.append(link)
        if self.sends_blocks:
            return self.sends_blocks(links, len(self.resources))
        document = bytearray()
        for link in links:
            link = ("," + link if document else link).encode()
            if len(document) + len(link) > self.datagram_len - self.overhead_len - _BESIDE_LEN:
                break
            document += link
        return document

    # -- receiving requests

    def receive(self, data, peer, now_ms, is_multicast=False):
        """Take the datagram `data` (bytes) that came from `peer`, to a group if `is_multicast`.

        Returns the datagram to send back to `peer` at once, or None; it is valid until the next call. What is for
        the application is in `received`. Raises RuntimeError inside a handler; nothing that a peer can send makes it
        raise.
        """
        if self._is_in_handler:
            raise RuntimeError(_IN_HANDLER)
        self.received = None
        self.now_ms = now_ms
        p = self._request.packet
        p[_REMOTE] = peer
        if is_multicast:
            return self._receive_from_group(p, data)
        if len(data) > self.datagram_len:
            return self._receive_too_large(p, data)
        if _index(p, data) >= 0:
            if len(data) < 4 or data[0] >> 4 != 4:
                return None
            p[_MID] = data[2] << 8 | data[3]
            return self.empty(RST, p[_MID])  # it claims to be a CON
        if p[_MTYPE] > NON or not 0 < p[_CODE] < 32:
            return self._receive_other(p)
        return self._serve(_ANSWER)

    def _receive_too_large(self, p, data):
        """Answer a datagram longer than datagram_len, of which only header and token are looked at."""
        if _index(p, data[: 4 + (data[0] & 15)]) >= 0:
            return self.receive(data[:5], p[_REMOTE], self.now_ms)  # its first bytes are as malformed, and short
        if p[_MTYPE] <= NON and 0 < p[_CODE] < 32:
            return self._serve(REQUEST_ENTITY_TOO_LARGE)
        return self.empty(RST, p[_MID]) if p[_MTYPE] == CON else None

    def _receive_from_group(self, p, data):
        """Answer a request to a group after its leisure, if there is something to say (RFC 7252 section 8.2)."""
        if len(data) > self.datagram_len or _index(p, data) >= 0 or p[_MTYPE] != NON or not 0 < p[_CODE] < 32:
            return
        reply = self._serve(_ANSWER_TO_GROUP)
        at_ms = ticks_add(self.now_ms, _uint(self.random(2), 0, 2) * (self.tuning.leisure_ms + 1) >> 16)
        if self.received is not None:
            self.received.answer_ms = at_ms
        # 96: an ACK, the reply to a CON that had this message ID
        if reply is not None and reply[0] < 96 and 64 <= reply[1] < 128 and self._response.packet[_PAYLOAD]:
            if len(self._answers) < self._limits[_MAX_QUEUED]:
                self._answers.append((bytes(reply), p[_REMOTE], at_ms))
                self._is_calm = False

    def _refusal(self, p, resource, asked):
        """The code with which the request is refused before a handler sees it, or 0; -1: by silence."""
        if asked == _RENDER:
            return 0 if resource else NOT_FOUND
        seen = p[_SEEN]
        code = p[_CODE]
        refused = seen & self._critical & ~_UNDERSTOOD
        if resource is not None and resource.state:
            refused &= ~_CONDITIONAL
        if refused:
            if refused != _LARGE_CRITICAL:
                return BAD_OPTION
            at = p[_START]  # are there others than Proxy-Uri and Proxy-Scheme?
            p[_NUMBER] = 0
            while at < p[_END]:
                _step(p, at)
                at = p[_STOP]
                if p[_NUMBER] > _MAX_KNOWN and p[_NUMBER] & 1 and p[_NUMBER] not in (_PROXY_URI, _PROXY_SCHEME):
                    return BAD_OPTION
            return PROXYING_NOT_SUPPORTED
        if seen & 1 << _HOP_LIMIT and not _uint_option(p, _HOP_LIMIT):
            return BAD_REQUEST  # RFC 8768 section 3
        if not self.resources:
            return 0
        if code > IPATCH:
            return METHOD_NOT_ALLOWED
        if resource is None:
            return NOT_FOUND
        if resource.is_secure and not self._is_unwrapped and not self.is_secure:
            return UNAUTHORIZED
        if asked == _ANSWER_TO_GROUP and not resource.groups:
            return -1
        if not resource.handlers[code] and not resource.handlers[0]:
            return METHOD_NOT_ALLOWED
        if seen & 1 << _ACCEPT and resource.formats and _uint_option(p, _ACCEPT) not in resource.formats:
            return NOT_ACCEPTABLE
        if seen & 1 << _CONTENT_FORMAT and resource.takes is not None and code != GET and code != DELETE:
            if _uint_option(p, _CONTENT_FORMAT) not in resource.takes:
                return UNSUPPORTED_CONTENT_FORMAT
        return 0

    # -- answering

    def _begin(self, asked):
        """Serve by a new generator, at first and after an exception has ended the one before."""
        serving = _serving(self)
        next(serving)
        self._serve = serving.send
        return None if asked is None else serving.send(asked)

    def _hand_over(self, p, slot):
        """Give the request to the application. Not in _serving: its frame stays, and what was in it once, too."""
        self.received = ReceptionRecord(self, _view(p), None, slot)

    def render(self, data, peer):
        """Answer the request in the datagram `data` (bytes) of `peer` once more, for a notification.

        Returns the response without what extensions add, a Message that is used again; None if there is none now.
        """
        if self._is_in_handler:
            raise RuntimeError(_IN_HANDLER)
        p = self._request.packet
        _index(p, data)
        p[_REMOTE] = peer
        return None if self._serve(_RENDER) is not None else self._response

    def _call_if_expected(self, request, response):
        """The handler of a request with If-Match or If-None-Match."""
        p = request.packet
        opt = request.opt
        resource = self._route(p)
        etag = resource.state(request)
        if etag is None:
            is_met = not opt.if_match
        else:
            etag = _encode_value(_ETAG, etag)  # what is none raises here, as where a GET is answered
            # without If-None-Match there is an If-Match, else this would not have been called
            is_met = not opt.if_none_match and (b"" in opt.if_match or etag in opt.if_match)
        if not is_met:
            return PRECONDITION_FAILED
        return (resource.handlers[p[_CODE]] or resource.handlers[0])(request, response)

    def _settle(self, p, resource, result):
        """Fill the response by what a handler returned or raised; returns LATER, NO_RESPONSE or None."""
        response = self._response
        r = response.packet
        try:
            if isinstance(result, BaseException):
                raise result
            if result is LATER or result is NO_RESPONSE:
                return result
            if isinstance(result, int):
                response.code = result
            elif result is not None:
                if isinstance(result, tuple):
                    response.code, result = result
                if self.sends_blocks and hasattr(result, "readinto_at"):
                    r[_PAYLOAD] = result
                else:
                    response.payload = result
            code = r[_CODE]
            if not 64 <= code < 192:
                raise ValueError("a response code is 2.00 to 5.31")
            if code == CONTENT and (resource.state or p[_SEEN] & 1 << _ETAG):  # RFC 7252 section 5.10.6
                opt = response.opt
                if resource.state and opt.etag is None:
                    opt.etag = resource.state(self._request)
                if opt.etag in self._request.opt.etags:
                    r[_CODE] = VALID
                    r[_PAYLOAD] = b""
                    opt.content_format = None
        except FormatError:  # the handler has read an option of the request that is malformed
            _prepare(r, p, BAD_OPTION)
        except Exception as error:
            if self.log:
                self.log("handler of %s" % resource.path, error)
            _prepare(r, p, INTERNAL_SERVER_ERROR)
        finally:
            result = None  # CPython: an exception, whose traceback holds this frame, would live until a collection
        return None

    def reply_mid(self):
        """A message ID for a NON response: they count down, so that NON requests do not use up those of _take_mid."""
        self._reply_mid = self._reply_mid - 1 & 0xFFFF
        return self._reply_mid

    def empty(self, mtype, mid):
        """An empty message as a datagram; it is in _out, so valid until the next reply."""
        out = self._out
        out[:] = b"\x40\0\0\0"
        out[0] |= mtype << 4
        out[2] = mid >> 8
        out[3] = mid & 255
        return out

    def answer(self, record, packed):
        """Send the datagram `packed` in answer to `record`, a ReceptionRecord, and to its duplicates.

        Not so to a request to a group, if as many as `queued` wait for their leisure: a flood would fill the memory.
        """
        if record.answer_ms is None or len(self._answers) < self._limits[_MAX_QUEUED]:
            self._answers.append((packed, record.remote, record.answer_ms))
            self._is_calm = False
        slot = record.slot
        duplicates = self._duplicates
        # ... unless another message has taken its slot
        if record.message.mtype == CON and duplicates.mids[slot] == record.mid:
            if duplicates.peers[slot] == record.remote:
                duplicates.remember(slot, packed)

    def acknowledge(self):
        """Acknowledge the request that the application was given last, if it is a CON that was left unanswered."""
        record = self.received
        if record and not record.is_acknowledged and not record.has_responded and record.message.mtype == CON:
            record.ack()
        self.received = None

    # -- receiving what is no request

    def _receive_other(self, p):
        """Take an empty message or a response; returns the ACK or Reset to send back, or None."""
        mtype = p[_MTYPE]
        reply = RST if mtype == CON else None  # a ping, or what makes no sense
        if not p[_CODE]:
            if mtype >= ACK:
                self._receive_empty(p)
        elif p[_CODE] > 31 and mtype != RST:
            if mtype == CON and self._duplicates.find(p, self.now_ms) >= 0:
                return self.empty(ACK, p[_MID])
            record = self._requester(p)
            if record is None or not self._accept(record, p):
                if mtype == ACK:
                    self._receive_empty(p)
                elif p[_SEEN] & 1 << _OBSERVE:  # a notification: its server then stops
                    reply = RST
            elif mtype == CON:
                until_ms = self.wake(ticks_add(self.now_ms, self.tuning.exchange_lifetime_ms))
                self._duplicates.keep(p, self.now_ms, until_ms)
                reply = ACK
        return self.empty(reply, p[_MID]) if reply else None

    def _accept(self, record, p):
        """Deliver the response `p` to `record`; returns False if it is to be rejected."""
        if p[_SEEN] & self._critical:
            if record.remote == p[_REMOTE]:
                self.end(record, Rejected)
            return False
        if record.remote != p[_REMOTE]:  # the request went to a group: one response of each member counts
            if len(record.responses) >= self._limits[_MAX_RESPONSES]:
                return True
            for response in record.responses:
                if response.remote == p[_REMOTE]:
                    return True
        self._deliver(record, p, None)
        return True

    def _receive_empty(self, p):
        """Take an empty ACK or a Reset: it must come from the peer and carry the ID of an unanswered message.

        If that is a response, what its ACK brings is ignored (RFC 7252 section 5.2.2).
        """
        for record in self._open:
            if p[_CODE] and record.message.packet[_CODE] < 64:
                continue
            if record.mid == p[_MID] and record.state == _SENT and record.remote == p[_REMOTE]:
                if p[_MTYPE] == RST:
                    self._deliver(record, p, Reset)
                elif record.mtype != NON:
                    record.response_type = ACK
                    record.last_event_ms = self.now_ms
                    record.transmissions_left = 0
                    record.state = _ACKED
                    record.next_event_ms = ticks_add(record.transmitted_ms, record.timeout_ms)
                    self._is_calm = False
                    if not record.is_request:
                        self.end(record, None)
                return
        if self.hooks and p[_MTYPE] == RST:
            for hook in self.hooks["reset"]:
                hook(p[_REMOTE], p[_MID])

    def _requester(self, p):
        """The open request that the response `p` answers, or None.

        It has the token of `p`, went to its sender or to a group, and if `p` is an ACK it has its message ID. An ACK
        may bring a response also to a request that wants none: its server does not know No-Response then.
        """
        for record in self._open:
            if not record.is_request and (p[_MTYPE] != ACK or _unwanted(record.message.packet) & _NOTHING != _NOTHING):
                continue
            if p[_START] == 4 + len(record.token) and p[_DATA].startswith(record.token, 4):
                if record.remote == p[_REMOTE] or is_multicast(record.remote):
                    if p[_MTYPE] == ACK and (p[_MID] != record.mid or record.mtype == NON):
                        return None
                    return record
        return None

    def _deliver(self, record, p, error):
        """Hand the message `p` to the extensions and, unless one takes it, to the application, by deliver."""
        message = _view(p)
        message.packet[_REQUEST] = record.message
        record.last_event_ms = self.now_ms
        if record.response_type is None:
            record.response_type = p[_MTYPE]
        if self.hooks and error is None:
            for hook in self.hooks["incoming"]:
                if hook(record, message) is CONSUMED:
                    return
        self.deliver(record, message, error)

    def deliver(self, record, message, error):
        """Hand a response or Reset to the application; it ends the exchange, unless that is with a group or parked."""
        received = self.received = ReceptionRecord(self, message, record)
        if record.state == _PARKED:
            record.response = received
            return
        record.response = record.response or received
        # without a sum of two tuples where it is the only one, as in most cases: that takes memory for a third
        record.responses = record.responses + (received,) if record.responses else (received,)
        if record.remote == received.remote:
            self.end(record, error)

    # -- sending

    def send(self, message, remote=None, timeout_ms=None):
        """Queue `message` for `remote` (default: message.remote, which it becomes); returns its TransmissionRecord.

        A request gets a token if it has none. mtype None means CON, to a group NON. A request ends with a response,
        or after `timeout_ms`, 0 to 2**28, from its first transmission (default: MAX_TRANSMIT_WAIT of its tuning, 93 s);
        a CON that is never acknowledged may end earlier, with the wait after its last retransmission. A response is
        one that a handler promised by LATER.
        Raises ValueError or TypeError for what cannot be sent, Full if the queue is full. Allocates about 190 bytes
        on a board, and the datagram; with an extension as much for a copy, so that `message` may be used again at once.
        """
        if message is self._request or message is self._response:
            raise ValueError("what a handler was given is used again: send a copy()")
        p = message.packet
        peer = p[_REMOTE] if remote is None else remote
        mtype = p[_MTYPE]
        code = p[_CODE]
        token = message.token
        is_group = is_multicast(peer)
        if peer is None:
            raise ValueError("the message has no remote: name the proxy, if its URI is not coap's")
        if mtype is None:
            mtype = NON if is_group else CON
        if is_group and mtype == CON:
            raise ValueError("a group takes NON only (RFC 7252 section 8.1)")
        is_other = mtype > NON or code is None or not _CLASSES >> (code >> 5) & 1
        if is_other or not code and (mtype == NON or _packed_len(p, token) > 4):
            raise ValueError("send takes requests, responses, empty CONs; for ACK and RST see ReceptionRecord")
        p[_REMOTE] = peer
        if timeout_ms is not None:
            _check("timeout_ms", timeout_ms, 0, _FAR_MS)
        if self.hooks:
            message = message.copy()  # an extension changes it, or sends it again when the application's is another
        if code < 64:
            return self.enqueue(message, peer, mtype, token or (self.random(8) if code else b""), timeout_ms)
        for entry in self._pending:
            if entry[1] == token and entry[0] == peer:
                self._check_room()
                self.extend(None, message)  # which may make it a NON
                if message.mtype is not None:
                    mtype = message.mtype
                record = self.enqueue(message, peer, mtype, token, timeout_ms)
                self._pending.remove(entry)
                if entry[4] >> (code >> 5) - 1 & 1:  # the request does not want it
                    self.end(record, None)
                return record
        raise ValueError("no request of this remote and token awaits it")

    def _check_room(self):
        """Raise Full if the queue is full."""
        if len(self._queue) >= self._limits[_MAX_QUEUED]:
            raise Full("%d messages are queued; see Endpoint(queued=)" % len(self._queue))

    def enqueue(self, message, peer, mtype, token, timeout_ms):
        """Queue `message` with type and token as given; returns its TransmissionRecord. Raises as send."""
        self._check_room()
        tuning = message.packet[_TUNING]
        if tuning:
            _check_type("transport_tuning", tuning, Tuning)
        record = TransmissionRecord(self, message, peer, mtype, token, timeout_ms)
        if self.hooks and 0 < message.code < 32:
            for hook in self.hooks["outgoing"]:
                hook(record)
        self.append(record)
        return record

    def append(self, record):
        """Pack the message of `record` and put it into the queue, full or not; raises ValueError if it is too long.

        For an extension's next message of an exchange that has begun; `outgoing` is not called.
        """
        message = record.outer or record.message
        if self.hooks and 0 < message.code < 32:
            for hook in self.hooks["wrap"]:
                message = hook(record, message) or message
        p = message.packet
        packed_len = _packed_len(p, record.token)
        if packed_len > self.datagram_len:
            raise ValueError("the message has %d bytes, datagram_len is %d" % (packed_len, self.datagram_len))
        packed = bytearray(4)
        message.write(packed, record.mtype, 0, record.token)
        record.packed = packed  # only now: without memory for all of it the earlier one (see resend) must stay whole
        record.transmissions_left = 1 if record.mtype == NON else 1 + (record.tuning or self.tuning).max_retransmit
        self._queue.append(record)
        self._is_calm = False

    def resend(self, record, message):
        """Send `message` in the place of what the open exchange of `record` sent, with a new token and message ID.

        Its retransmission and its timeout start anew. It is for an extension's `incoming`, which then returns CONSUMED.
        Raises ValueError if `message` is too long.
        """
        record.outer = message
        record.token = self.random(8)
        self.append(record)
        self._open.remove(record)
        record.mid = record.response_type = None
        record.state = _QUEUED

    def extend(self, request, response):
        """Have the extensions change a response before it leaves; `request` is None for a separate one."""
        if self.hooks:
            for hook in self.hooks["response"]:
                hook(request, response)

    def end(self, record, error):
        """End the exchange of `record`, with an exception class as its error or None."""
        records = self._open if record in self._open else self._queue
        if record in records:
            records.remove(record)
            self._is_calm = False
            record.state = _ENDED
            record.next_event_ms = None
            if error:
                record.is_unacknowledged = error is Timeout and record.response_type is None and record.mtype != NON
                record.error = error
            if record.part or record.on_end or self.on_end:
                self._tell_end(record)

    def _tell_end(self, record):
        """End what was sent for `record`, call on_end.

        Nothing waits in an on_end, as in a handler: another datagram would overwrite the message in hand.
        """
        if record.part:
            self.end(record.part, None)
        on_end = record.on_end or self.on_end
        if on_end:
            is_in_handler = self._is_in_handler
            self._is_in_handler = True
            try:
                on_end(record)
            finally:
                self._is_in_handler = is_in_handler

    def due(self, now_ms):
        """The next datagram to send at `now_ms`, to the address in `peer`; None when there is no more."""
        self.now_ms = now_ms
        if self._wake_ms is not None and ticks_diff(now_ms, self._wake_ms) >= 0:
            self._tick(now_ms)
        for answer in self._answers:
            packed, self.peer, at_ms = answer
            if at_ms is None or ticks_diff(now_ms, at_ms) >= 0:
                self._answers.remove(answer)
                return packed
        at = 0
        while at < len(self._open):
            record = self._open[at]
            at += 1
            if record.next_event_ms is not None and ticks_diff(now_ms, record.next_event_ms) >= 0:
                most_ms = min(record.timeout_ms, (record.tuning or self.tuning).max_transmit_span_ms + _LATE_MS)
                if record.transmissions_left and ticks_diff(now_ms, record.transmitted_ms) < most_ms:
                    return self._transmit(record, now_ms)
                if not record.responses and not self.hooks.get("wrap"):  # keys belong to an address
                    self._names.clear()  # the peer may have another address by now
                self.end(record, None if record.responses else Timeout)
                at = 0  # it has gone, and its on_end may have ended others
        record = self._startable(now_ms) if self._queue else None
        if record is None:
            return None
        # due now: if there is no memory for what follows, it is tried again
        record.transmitted_ms = record.last_event_ms = record.next_event_ms = now_ms
        self._open.append(record)
        self._queue.remove(record)
        return self._transmit(record, now_ms)

    def _transmit(self, record, now_ms):
        """Note a transmission of `record` and when its next event is due; returns the datagram."""
        if record.state == _QUEUED:
            if record.mid is None:
                record.mid = self._take_mid(now_ms)
            record.packed[2] = record.mid >> 8
            record.packed[3] = record.mid & 255
            tuning = record.tuning or self.tuning
            wait_ms = tuning.ack_timeout_ms * (tuning.ack_random_percent - 100) // 100  # at most above ACK_TIMEOUT
            wait_ms = tuning.ack_timeout_ms + (_uint(self.random(2), 0, 2) * (wait_ms + 1) >> 16)
            record.state = _SENT
        else:
            wait_ms = 2 * ticks_diff(record.next_event_ms, record.last_event_ms)
        record.transmissions_left -= 1
        record.last_event_ms = now_ms
        left_ms = record.timeout_ms - ticks_diff(now_ms, record.transmitted_ms)
        record.next_event_ms = ticks_add(now_ms, left_ms if record.mtype == NON else min(wait_ms, left_ms))
        self.peer = record.remote
        if record.mtype == NON and not record.is_request:
            self.end(record, None)
        return record.packed

    def _take_mid(self, now_ms):
        """The next message ID; each goes out at most once in EXCHANGE_LIFETIME (RFC 7252 section 4.4)."""
        used = self._mids_used  # _startable has seen that its block is free
        self._mids_free_ms[used >> 12] = self.wake(ticks_add(now_ms, self.tuning.exchange_lifetime_ms))
        self._mids_used = used + 1 & 0xFFFF
        return self._first_mid + used & 0xFFFF

    def _startable(self, now_ms):
        """The first queued record that may go now, or None.

        There must be room among the open exchanges, a message ID that is free, and less than NSTART open with its peer.
        """
        # IDs are given block by block: only the first of a block of 4096 may have to wait
        free_ms = None if self._mids_used & 0xFFF else self._mids_free_ms[self._mids_used >> 12]
        busy = 0
        for record in self._open:
            busy += record.state != _PARKED
        if busy < self._limits[_MAX_OPEN] and free_ms is None:
            for record in self._queue:
                outstanding = 0
                for other in self._open:
                    outstanding += other.state == _SENT and other.remote == record.remote
                if outstanding < (record.tuning or self.tuning).nstart or record.mtype == NON and not record.is_request:
                    return record
        return None

    def _tick(self, now_ms):
        """Forget what is too old, let the extensions do what is due; note when to do so again, soon if one raised."""
        self._wake_ms = None
        duplicates = self._duplicates
        try:
            for slot in range(len(duplicates.mids)):
                if duplicates.mids[slot] >= 0:
                    if ticks_diff(duplicates.until_ms[slot], now_ms) <= 0:
                        duplicates.free(slot)
                    else:
                        self.wake(duplicates.until_ms[slot])
            for block in range(16):
                free_ms = self._mids_free_ms[block]
                if free_ms is not None:
                    if ticks_diff(free_ms, now_ms) <= 0:
                        self._mids_free_ms[block] = None
                    else:
                        self.wake(free_ms)
            for entry in list(self._pending):
                if ticks_diff(entry[3], now_ms) <= 0:
                    self._pending.remove(entry)
                else:
                    self.wake(entry[3])
            if self.hooks:
                for hook in self.hooks["tick"]:
                    hook(now_ms)
                for hook in self.hooks["next_ms"]:
                    left_ms = hook(now_ms)
                    if left_ms is not None:
                        self.wake(ticks_add(now_ms, left_ms))
        except BaseException:
            self.wake(ticks_add(now_ms, _RETRY_MS))
            raise

    def next_ms(self, now_ms):
        """Milliseconds until `due` has something to do, None if nothing is to come; next_event_reason says what."""
        if self._queue and self._startable(now_ms) is not None:
            self.next_event_reason = "send"
            return 0
        reason = None
        soonest_ms = 1 << 29  # longer than any difference of ticks
        for _, _, at_ms in self._answers:
            left_ms = 0 if at_ms is None else ticks_diff(at_ms, now_ms)
            if left_ms < soonest_ms:
                soonest_ms = left_ms
                reason = "send"
        if self._wake_ms is not None:
            left_ms = ticks_diff(self._wake_ms, now_ms)
            if left_ms < soonest_ms:
                soonest_ms = left_ms
                reason = "housekeeping"
        for record in self._open:
            if record.next_event_ms is not None:
                left_ms = ticks_diff(record.next_event_ms, now_ms)
                if left_ms < soonest_ms:
                    soonest_ms = left_ms
                    reason = "retransmit" if record.transmissions_left else "response timeout"
        self.next_event_reason = reason
        return max(0, soonest_ms) if reason else None


# ---- I/O ----

_BURST = const(16)  # datagrams that one process() handles at most
_MAX_SENT = const(64)  # datagrams that are sent at most before sockets and clock are looked at
_ASK_MS = const(10)  # how often a transport is asked that cannot be polled
_REOPEN_MS = const(1000)  # how often an endpoint tries to replace a lost socket
_IPV6 = const(41)  # this and the next four as Linux numbers them; MicroPython has no names for most
_ADD_MEMBERSHIP = const(35)  # boards have a name for it, the unix port of 1.26 has none
_JOIN_GROUP = const(20)
_MULTICAST_ALL = const(49)
_MULTICAST_ALL_IPV6 = const(29)
_POLLIN = const(1)  # everywhere; CPython has no name for it on Windows
_SEND_ERRORS = (OSError, TypeError, ValueError)  # the latter two for an address the port does not take
_HELD = const(8)  # records that wait for process() while request() blocks
_MAX_NAMES = const(8)  # whose addresses are kept


if _ON_CPYTHON:

    class _Poll(dict):
        """select.poll() as MicroPython has it: ipoll returns sockets, where CPython's poll returns their numbers."""

        def __init__(self):
            self.poll = select.poll()

        def register(self, sock, _):
            self.poll.register(sock, _POLLIN)  # TypeError: it cannot be polled
            self[sock.fileno()] = sock

        def unregister(self, sock):
            for number in list(self):  # one that was closed does not know its number any more
                if self[number] is sock:
                    self.poll.unregister(number)
                    del self[number]

        def ipoll(self, wait_ms):
            return [(self[number],) for number, _ in self.poll.poll(wait_ms)]

    class _Select(list):
        """The same for a system without poll, as Windows."""

        def register(self, sock, _):
            sock.fileno()  # AttributeError: it cannot be polled
            self.append(sock)

        def unregister(self, sock):
            self.remove(sock)

        def ipoll(self, wait_ms):
            return [(sock,) for sock in select.select(self, (), (), wait_ms / 1000)[0]]

    if not hasattr(select, "poll"):
        _Poll = _Select


class Endpoint(Engine):
    """A CoAP endpoint on a UDP socket, client and server: the Engine and what reads, writes and waits.

    Endpoint(port=None, host="0.0.0.0", family=None, sock=None, random=None, **tables)

      port    UDP port to serve, usually 5683; None for a client: any
      host    address of its own to bind, a number: "0.0.0.0" for all (an empty one receives nothing on a Pico W). A
              computer with several in one network needs the one that clients ask: else answers leave from the one that
              the system prefers, and clients ignore them. On Linux "::" serves IPv4, too, but no IPv4 groups
      family  socket.AF_INET or AF_INET6, of what is sent to; default: as `host`, of a transport either
      sock    a bound socket or a transport, see below, to use instead, whatever port and host are
      random  a function: random(n) returns n bytes that nobody can guess; default os.urandom

    The tables have a fixed size; each is an argument. With the sizes below an endpoint takes 6 KB on a 32 bit board.
    The last numbers are bytes there for each slot (make size); an address, where one is held, takes some 60 more:

      transmissions   4    messages sent and not yet answered; 250 each in use, and the datagram
      queued          8    messages waiting for their turn; more: send raises Full; 190 in use, and the datagram
      recent          16   duplicates of GET and FETCH known; an older one is executed again, unless an answer to it is
                           promised by LATER; 68, and an address
      kept            32   duplicates of other methods, known for 247 s; full: 5.03, to a NON silence; 68, an address,
                           and a reply of more than 32 bytes
      kept_per_host   8    of them for one address; more: the oldest is forgotten; those after which their port has
                           sent another count as 100 s older than they are
      pending         4    responses promised by LATER; more: 5.03; 80 in use, and an address
      group_responses 16   responses to one request to a group; more are ignored; 250 in use, and the datagram
      datagram_len    1152 longest datagram in bytes, 48 to 65507; a longer request is answered 4.13; 1 each
      tuning               Tuning of all messages that have none of their own; 80

    A transport carries datagrams in another way than UDP, as ports/serial_line.py does. It has

      sendto(data, peer)   `data` is written again afterwards: copy what has to wait. OSError, TypeError and ValueError
                           lose the datagram, and `log` is told
      recvfrom(n)          returns (bytes, peer), or None, no empty datagram, if there is none; it never waits. What was
                           damaged it drops, for CoAP has no checksum. An OSError is ignored
      fileno()             if it is there (on MicroPython ioctl, of an io.IOBase), the transport is polled; fileno is
                           not for one that keeps datagrams it has read. Any other is asked every 10 ms
      attach(endpoint)     is called if it is there
      is_secure            if it is there and true, all is coaps, as with coap_dtls

    A peer is anything but None and str that can be hashed and compared, with None, too; sendto may be given one that is
    equal instead of the very same. A request goes to it by remote=peer beside the URI. A group is one of IP, see
    is_multicast: sendto makes it a broadcast; what came by broadcast another object hands over, which
    register_socket(it, True) is given.

    `log`, if set, is called as log(text, value) when a handler raised, a datagram could not be sent or there was no
    memory for what one asks. `on_end`, if set, is called with each TransmissionRecord that has ended: answered, given
    up or cancelled; it may send, as a handler may. What these two raise comes out of process(), but for MemoryError.
    Raises OSError if the port is taken.
    """

    def __init__(self, port=None, host="0.0.0.0", family=None, sock=None, random=None, **tables):
        super().__init__(random or os.urandom, **tables)
        _check_type("tuning", self.tuning, Tuning)
        self.now_ms = ticks_ms()
        self._held = []  # ReceptionRecords that came while wait() was waiting for another
        self._left = 0  # datagrams that process() may still handle
        self._due_ms = None  # when due() has something to do, as long as the engine is calm (_is_calm)
        self._asked = []  # transports that cannot be polled: they are asked every _ASK_MS
        self._polled = []  # sockets, and transports, that can
        self._poller = select and (_Poll() if _ON_CPYTHON else select.poll())
        self._ready = select and self._poller.ipoll
        self._groups = {}  # socket registered as receiving for a group -> what join() was given
        self._bound_to = self._reopened_ms = None  # the address that the socket is bound to; when _reopen tried last
        # An empty datagram makes an ESP32's socket deaf: https://github.com/micropython/micropython-lib/issues/736
        self.reopens_on_empty = sys.platform == "esp32"
        if sock is not None:
            self._family = family or getattr(sock, "family", None)  # None: whatever an address is of
            self.reopens_on_empty = False
        elif socket is None:
            raise ValueError("this firmware has no sockets; give Endpoint a transport, sock=")
        else:
            _check_type("host", host, str)
            self._family = family or (socket.AF_INET6 if ":" in host else socket.AF_INET)
            if port is not None or host.strip("0.:"):  # else it is "0.0.0.0" or "::", that is all
                self._bound_to = self._look_up(host, _check("port", 0 if port is None else port, 0, 65535))
            sock = self._open_socket(self._bound_to, ())
        self.socket = sock
        if getattr(sock, "is_secure", False):
            self.is_secure = True
            self._request.packet[_SCHEME] = "coaps"
        self.register_socket(sock)
        if hasattr(sock, "attach"):
            sock.attach(self)

    receive = Engine.receive  # found at once here: MicroPython searches all of a class before its base

    def _open_socket(self, address, group):
        """A socket bound to `address`, if that is not None.

        group: the arguments of setsockopt that join a group, else empty.
        """
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            if sys.platform == "linux":  # else datagrams to groups that other programs joined come here, too
                sock.setsockopt(0, _MULTICAST_ALL, 0)
                sock.setsockopt(_IPV6, _MULTICAST_ALL_IPV6, 0)
        except OSError:  # the second one on a socket of IPv4, or an old kernel
            pass
        try:
            if group or self._groups:  # several sockets are bound to the same port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if group:
                sock.setsockopt(*group)
            if address is not None:
                sock.bind(address)
        except OSError:
            sock.close()
            raise
        return sock

    def resolve(self, remote):
        """The address of "host[:port]", an address as it is; a bytearray as bytes.

        A name is looked up once, and again after a timeout, though not with coap_oscore, whose keys belong to an
        address. Looking up blocks: for 10 s on Linux if the resolver is silent.
        A link-local host needs its network's name or number: "[fe80::1%eth0]", in a URI "[fe80::1%25eth0]".
        In firmware without sockets there is nothing to look it up: then it is (host, port), for the transport.
        Raises OSError if the name is not known or of the other IP version, ValueError if `remote` is no host.
        """
        if not isinstance(remote, str):
            return bytes(remote) if isinstance(remote, bytearray) else remote
        names = self._names
        if remote not in names:
            host, port = _split_authority(remote)
            if len(names) >= _MAX_NAMES:
                names.clear()
            host = host.strip("[]").replace("%25", "%")
            names[remote] = self._look_up(host, port or (5684 if self.is_secure else 5683))
        return names[remote]

    def _look_up(self, host, port):
        """The address of `host` in the form that this port's sockets take; raises OSError as resolve."""
        if socket is None:  # the transport knows what to do with them
            return host, port
        is_ipv6 = ":" in host
        family = self._family or (socket.AF_INET6 if is_ipv6 else socket.AF_INET)
        if is_ipv6 == (family != socket.AF_INET) or not is_ipv6 and not _is_ip_literal(host):
            if _ON_CPYTHON:
                return socket.getaddrinfo(host, port, family)[0][-1]
            entries = socket.getaddrinfo(host, port)  # with more arguments a Pico W prints a warning
            for entry in entries:
                # a Pico W has but one and calls it AF_INET, whatever it is
                if entry[0] == family or len(entries) == 1 and isinstance(entry[-1], tuple):
                    return self.resolve(entry[-1])  # the unix port's is a bytearray, which cannot be hashed
        raise OSError("%s is of the other IP version; see host of Endpoint" % host)

    def register_socket(self, sock, is_group=False):
        """Receive from `sock` too, to which groups send if `is_group`; answers leave from `socket`.

        Raises TypeError for what is no socket or transport, ValueError if it or the endpoint is secure.
        """
        if not hasattr(sock, "recvfrom"):
            raise TypeError("a socket or transport has sendto and recvfrom, not %r" % (sock,))
        if sock is not self.socket and (self.is_secure or getattr(sock, "is_secure", False)):
            raise ValueError("coaps has one socket: make two endpoints")
        if is_group:
            self._groups[sock] = None
        try:
            if not _ON_CPYTHON:
                # What cannot be registered leaves an entry in the poller all the same, and ipoll crashes on that: so it
                # is tried on another poller first
                # https://github.com/micropython/micropython/pull/12443
                select.poll().register(sock, _POLLIN)
            self._poller.register(sock, _POLLIN)
            self._polled.append(sock)
        except (AttributeError, OSError, TypeError):  # nothing that can be polled
            self._asked.append(sock)

    def send(self, message, remote=None, timeout_ms=None):
        """Queue `message` for `remote`, "host[:port]" or an address; see Engine.send. process() sends it.

        Raises as Engine.send; Closed after close(), TypeError for what is no Message, OSError as resolve.
        """
        if self.is_closed:
            raise Closed("the endpoint was closed")
        if not isinstance(message, Message):
            raise TypeError("send takes a Message, not %r; for a URI there is request" % (message,))
        scheme = message.packet[_SCHEME]
        if scheme and (scheme == "coaps") != self.is_secure:
            raise ValueError("this endpoint speaks coaps" if self.is_secure else "coaps needs a DTLS transport")
        return Engine.send(self, message, self.resolve(message.remote if remote is None else remote), timeout_ms)

    def process(self, timeout_ms=None):
        """Send what is due and handle datagrams; returns the ReceptionRecord of one for the application, or None.

        Returns at the first such record, after `timeout_ms` (0: at once, 2**28 at most; None: never), or after 16
        datagrams if there is a timeout. Of more than 64 that are due, process(0) leaves the rest to the next call.
        For the application are: a response or Reset to what send() sent, and, on an endpoint without resources, every
        request. Requests that resources serve come back as None.
        Raises RuntimeError inside a handler, Closed after close(), MemoryError if the heap has no room for a datagram
        in one piece.
        """
        if self._is_in_handler:
            raise RuntimeError(_IN_HANDLER)
        if self.received is not None:
            self.acknowledge()
        if self._held:
            return self._held.pop(0)
        self._left = _BURST
        if self._open:  # read before anything is sent: an ACK that waits in the socket saves a retransmission
            if self._polled:
                self._receive_ready(0)
            if self._asked and self.received is None:
                self._ask_transports(0)
        begin_ms = now_ms = ticks_ms()
        wait_ms = _FAR_MS if timeout_ms is None else max(0, timeout_ms)
        while True:
            left = self._left
            self._turn(now_ms, wait_ms)
            if self.received is not None:
                return self.received
            if self._left <= 0 and timeout_ms is not None or self._left == left and not wait_ms:
                return None
            now_ms = ticks_ms()
            if timeout_ms is None:
                self._left = _BURST
            else:
                wait_ms = timeout_ms - ticks_diff(now_ms, begin_ms)
                if wait_ms < 0:
                    wait_ms = 0

    def _turn(self, now_ms, wait_ms):
        """Send what is due, wait until the next event at most, handle a datagram of each socket.

        If one is for the application, the other sockets wait.
        """
        left_ms = _FAR_MS if self._wake_ms is None else ticks_diff(self._wake_ms, now_ms)
        due_ms = left_ms if self._due_ms is None else ticks_diff(self._due_ms, now_ms)
        if due_ms < left_ms:
            left_ms = due_ms
        if left_ms <= 0 or not self._is_calm or self.socket is None:
            wait_ms = self._send_due(now_ms, wait_ms)
        elif left_ms < wait_ms:
            wait_ms = left_ms
        if self._asked and self.received is None:  # a tick may have received something
            wait_ms = self._ask_transports(wait_ms)
        if self.received is not None:
            return
        if self._polled:
            self._receive_ready(wait_ms)
        else:
            if self.is_closed:
                raise Closed("the endpoint was closed")
            sleep_ms(wait_ms)

    def _receive_ready(self, wait_ms):
        """Handle datagrams: wait for the first one for up to `wait_ms`, stop at one for the application or after 16."""
        left = None
        while left != self._left:
            left = self._left
            for ready in self._ready(wait_ms):
                before = self._left
                try:
                    self._receive_from(ready[0])
                except (MemoryError, OSError) as error:
                    self._lose(error, before)
                if self.received is not None or self._left <= 0:
                    return
            wait_ms = 0

    def _send_due(self, now_ms, wait_ms):
        """Send what is due; returns how long to wait for a datagram then, at most `wait_ms`."""
        if self.socket is None and not self.is_closed:
            self._reopen(None)
            wait_ms = min(wait_ms, _REOPEN_MS)
        self._is_calm = True
        self._due_ms = now_ms  # if this raises, the next turn tries again
        exchanges = len(self._open) + len(self._queue)
        for _ in range(_MAX_SENT):  # not for ever: what is told of one that it has ended may send the next at once
            packed = self.due(now_ms)
            if packed is None:
                break
            self._send_datagram(packed)
        left_ms = self.next_ms(now_ms)
        self._due_ms = None
        if left_ms is not None:
            self._due_ms = ticks_add(now_ms, left_ms)
            wait_ms = min(wait_ms, left_ms)
        # an exchange has ended: do not wait, for the caller may be waiting for just that one
        return 0 if len(self._open) + len(self._queue) < exchanges else wait_ms

    def _ask_transports(self, wait_ms):
        """Handle a datagram of each transport that cannot be polled; returns how long to wait then."""
        left = self._left
        for transport in self._asked:
            before = self._left
            try:
                self._receive_from(transport)
            except (MemoryError, OSError) as error:
                self._lose(error, before)
            if self.received is not None:
                break
        return min(wait_ms, _ASK_MS) if self._left == left else 0

    def _lose(self, error, left):
        """Go on after `error` of _receive_from, or raise it; `left` is what _left was before.

        An OSError of recvfrom, before a datagram was taken, is ignored: there was none after all, or the error tells
        what became of one that was sent before. A later OSError is the application's, and raised.
        A MemoryError with a datagram in hand is logged, and the datagram lost. One of recvfrom is raised: there is no
        room to read the datagram, and the error would come again at once.
        """
        if (self._left == left) != isinstance(error, OSError):
            raise error
        if self.log and self._left != left:
            self.log("no memory for what a datagram asks for", error)

    def _receive_from(self, sock):
        """Read one datagram, if there is one, handle it and answer; raises OSError if recvfrom does."""
        got = sock.recvfrom(self.datagram_len + 1)
        if got is None:
            return
        self._left -= 1
        if not got[0]:
            if self.reopens_on_empty:
                self._reopen(sock)
            return
        peer = got[1]
        # Each datagram brings a new object for its sender's address. If all were held they would lie all over the heap,
        # and might leave no piece of it large enough for the next datagram: so of equal ones the first is used
        if peer == self.peer:
            peer = self.peer
        elif peer in self._duplicates.peers:
            peer = self._duplicates.peers[self._duplicates.peers.index(peer)]
        if self._groups and sock in self._groups:
            reply = self.receive(got[0], peer, ticks_ms(), True)
        else:
            reply = self.receive(got[0], peer, ticks_ms())
        if reply is not None:
            self.peer = peer
            self._send_datagram(reply)

    def _send_datagram(self, packed):
        """Send to `peer`; an error is a lost packet, for which retransmission is there."""
        try:
            if self.socket is not None:
                self.socket.sendto(packed, self.peer)
            return
        except _SEND_ERRORS:
            pass  # logged below: a call in here makes the frame so large that MicroPython takes it from the heap
        if self.log:
            self.log("not sent to", self.peer)

    def join(self, group, interface=None):
        """Receive what is sent to the `group` "224.0.1.187" (all CoAP nodes) or "ff02::fd", on this endpoint's port.

        interface: on which network, its own IPv4 address or for IPv6 its number; None: what the system chooses, but
        not for ff01 and ff02.
        Joining again renews it, which an ESP32 needs when its WiFi was lost. Raises ValueError without a `port`, or
        for IPv6 on a board, whose firmware cannot; OSError if the system refuses.
        """
        port = _host_and_port(self._bound_to)[1]
        if not port:
            raise ValueError("a group sends to a port; give one to Endpoint")
        if self.socket is None:
            raise OSError("the endpoint has no socket now")
        if group[:2].lower() == "ff" and "1" <= group[3:4] <= "2" and interface is None:
            raise ValueError(group + " is on each network: join() takes an interface")
        is_ipv6 = ":" in group
        scope = "%%%d" % interface if interface and is_ipv6 else ""
        address = self._look_up(group + scope, port)
        if not is_multicast(address):
            raise ValueError("a group is 224.0.0.0 to 239.255.255.255 or begins with ff, not " + group)
        if not is_ipv6:
            member = bytes(map(int, group.split(".") + (interface or "0.0.0.0").split(".")))
            option = (0, getattr(socket, "IP_ADD_MEMBERSHIP", _ADD_MEMBERSHIP), member)
        elif hasattr(socket, "inet_pton"):
            member = socket.inet_pton(socket.AF_INET6, group) + (interface or 0).to_bytes(4, sys.byteorder)
            option = (_IPV6, _JOIN_GROUP, member)
        else:
            raise ValueError("no IPv6 groups on this firmware")
        for sock in list(self._groups):
            if self._groups[sock] == (group, interface):
                self._forget(sock)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock = self._open_socket(address, option)
        self.register_socket(sock, True)
        self._groups[sock] = (group, interface)

    def _reopen(self, sock):
        """Replace `sock`: that of a group by joining again; that of the endpoint, at most once a second.

        sock: None if that of the endpoint is closed already. `socket` is None until one could be opened.
        """
        group = self._groups.get(sock)
        try:
            if group:
                self.join(*group)
                return
            now_ms = ticks_ms()
            if self._reopened_ms is not None and 0 <= ticks_diff(now_ms, self._reopened_ms) < _REOPEN_MS:
                return
            self._reopened_ms = now_ms
            if self.socket is not None:
                self._forget(self.socket)
            self.socket = None
            self.socket = self._open_socket(self._bound_to, ())
        except OSError as error:  # no network: who serves a group joins again when it is back
            if self.log:
                self.log("group left" if group else "the endpoint has no socket now", error)
            return
        self.register_socket(self.socket)

    def _forget(self, sock):
        """Receive from `sock` no more, and close it."""
        if sock in self._asked:
            self._asked.remove(sock)
        else:
            self._polled.remove(sock)
            self._groups.pop(sock, None)
            self._poller.unregister(sock)
        if hasattr(sock, "close"):
            sock.close()

    def next_event_ms(self):
        """How many ms the program may sleep before process() has something to do; None: until a datagram comes.

        `next_event_reason` says what that will be, a str: "received" (a record to return, or a request to acknowledge,
        now), "send", "retransmit", "response timeout", "housekeeping" (to forget what is too old, or what an extension
        does); None with None.
        """
        record = self.received
        if self._held or record and not record.is_acknowledged and not record.has_responded:
            self.next_event_reason = "received"
            return 0
        return self.next_ms(ticks_ms())

    def request(self, method, uri, payload=b"", timeout_ms=None, **options):
        """Send a request and wait for the response, serving meanwhile; returns the response Message, any code.

        For a request that wants no response (no_response=26) it returns None once that has gone, or been acknowledged;
        a response that a server sends in its ACK all the same is returned.

        method, uri, payload and options (fields, too: mtype=NON) as in Message; timeout_ms from its first
        transmission, default MAX_TRANSMIT_WAIT (93 s).
        Raises Timeout, Reset, Rejected, Closed, Full, or what an extension names; OSError if the name is not known;
        TypeError and ValueError as Message and send; RuntimeError in a handler.
        """
        record = self._exchange(Message(method, uri=uri, payload=payload, **options), timeout_ms)
        if record.error:
            raise record.error(uri)
        return record.response and record.response.message

    def _exchange(self, message, timeout_ms):
        """Send `message` to its remote and serve until that has ended; returns its record."""
        if self._is_in_handler:
            raise RuntimeError(_IN_HANDLER)
        record = self.send(message, None, timeout_ms)
        try:
            self.wait(record)
        finally:
            record.cancel()  # unless it has ended
        return record

    def wait(self, record):
        """Serve until the exchange of `record`, a TransmissionRecord, has ended; what else comes is for process().

        Raises RuntimeError in a handler, ValueError if `record` is of another endpoint.
        """
        if self._is_in_handler:
            raise RuntimeError(_IN_HANDLER)
        if record.endpoint is not self:
            raise ValueError("the record is of another endpoint")
        self.acknowledge()
        while not record.is_done():
            self._left = _BURST
            self._turn(ticks_ms(), _FAR_MS)
            other = self.received
            if other is not None and other.pertains_to is not record:
                if len(self._held) < _HELD:
                    self.acknowledge()
                    self._held.append(other)
                elif other.pertains_to is None:
                    other.respond(SERVICE_UNAVAILABLE, max_age=_RETRY_S)
            self.received = None

    def get(self, uri, **options):
        """request(GET, ...)"""
        return self.request(GET, uri, **options)

    def put(self, uri, payload=b"", **options):
        """request(PUT, ...)"""
        return self.request(PUT, uri, payload, **options)

    def post(self, uri, payload=b"", **options):
        """request(POST, ...)"""
        return self.request(POST, uri, payload, **options)

    def delete(self, uri, **options):
        """request(DELETE, ...)"""
        return self.request(DELETE, uri, **options)

    def fetch(self, uri, payload=b"", **options):
        """request(FETCH, ...)"""
        return self.request(FETCH, uri, payload, **options)

    def patch(self, uri, payload=b"", **options):
        """request(PATCH, ...)"""
        return self.request(PATCH, uri, payload, **options)

    def ipatch(self, uri, payload=b"", **options):
        """request(IPATCH, ...)"""
        return self.request(IPATCH, uri, payload, **options)

    def ping(self, remote, timeout_ms=None):
        """Ask whether somebody is at `remote`, "host[:port]" or an address (RFC 7252 section 4.3), serving meanwhile.

        Returns how many ms the answer took. Raises as request, Timeout if there is none.
        """
        record = self._exchange(Message(0, remote=remote), timeout_ms)
        if record.error and record.error is not Reset:  # an empty ACK is a sign of life, too
            raise record.error(remote)
        return ticks_diff(record.last_event_ms, record.transmitted_ms)

    def close(self):
        """Close the sockets and end every open exchange with Closed, which send and process raise from now on."""
        self.is_closed = True
        for sock in self._polled + self._asked:
            self._forget(sock)
        try:
            for record in self._open + self._queue:
                try:
                    self.end(record, Closed)
                except Closed:  # its on_end wanted to send
                    pass
        finally:  # its on_end may raise something else, and then the others are to end all the same
            if self._open or self._queue:
                self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
