"""CoAP (RFC 7252, RFC 6690) in one file, server and client at once, for MicroPython and CPython.

    import coap

    endpoint = coap.Endpoint(port=5683)
    temperature = endpoint.resource("sensors/temp", rt="temperature", ct=coap.TEXT)

    @temperature.get
    def read(request, response):
        return "22.5 C"

    while True:
        endpoint.process()

and a client: `coap.Endpoint().get("coap://192.0.2.1/sensors/temp").payload`.

The file reads from the leaf to the facade: constants, errors, the codec and `Message`, URIs, the records and
tables of the message layer, resources, the protocol `Engine` (bytes and a time in, bytes and the time of the
next event out, no I/O), and below the ruler the `Endpoint`, which puts the engine on a socket.

RFC 7252: server and client over UDP, no proxy. RFC 6690: discovery. RFC 7967: No-Response. RFC 8132: FETCH, PATCH,
iPATCH. Times are milliseconds of `ticks_ms`, which wrap: compare them by `ticks_diff`.
"""

import os
import sys
import time

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
    from time import ticks_add, ticks_diff, ticks_ms
except ImportError:  # CPython: the same 30 bit milliseconds as on a board, so that they wrap alike

    def ticks_ms():
        return time.monotonic_ns() // 1000000 & 0x3FFFFFFF

    def ticks_add(now_ms, wait_ms):
        return now_ms + wait_ms & 0x3FFFFFFF

    def ticks_diff(until_ms, now_ms):
        return (until_ms - now_ms + 0x20000000 & 0x3FFFFFFF) - 0x20000000


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
_OBSERVE = const(6)
_URI_PORT = const(7)
_URI_PATH = const(11)
_CONTENT_FORMAT = const(12)
_URI_QUERY = const(15)
_ACCEPT = const(17)
_PROXY_URI = const(35)
_PROXY_SCHEME = const(39)
_NO_RESPONSE = const(258)  # RFC 7967

# A packet is a list: a datagram, or the options of a message to be sent, and what is known of it. The engine
# works on these lists; `Message` is their friendly face. Slots:
_DATA = const(0)  # bytes: the datagram received; or bytearray: the encoded options of a message being built
_START = const(1)  # offset of the first option in _DATA; 0 only in a message being built
_END = const(2)  # offset behind the last option
_CODE = const(3)
_MTYPE = const(4)
_MID = const(5)
_TOKEN = const(6)  # None: still in _DATA
_PAYLOAD = const(7)  # None: still in _DATA
_SEEN = const(8)  # bit n: option n is there and well-formed, for n up to 28; and the three bits below
_PATH = const(9)  # offset of the first Uri-Path's value; 0: there is none
_PATH_END = const(10)  # offset behind the last Uri-Path's value
_FIRST_LEN = const(11)  # length of the first Uri-Path
_NUMBER = const(12)  # the cursor of _step: number of the option
_STOP = const(13)  # ... and offset behind its value
_LAST = const(14)  # number of the last option of a message being built
_REMOTE = const(15)
_REQUEST = const(16)
_TUNING = const(17)
_BUFFER = const(18)
_SCHEME = const(19)  # of the URI it was given, None: coap

_MAX_KNOWN = const(28)  # options up to here have a bit in _SEEN and a place in the tables below
_MALFORMED_CRITICAL = const(1)  # bit 0: a critical option with a bad length, or repeated where it must not be
_HAS_NO_RESPONSE = const(1 << 2)  # bit 2: No-Response; option 2 is not assigned
_LARGE_CRITICAL = const(1 << 29)  # bit 29: a critical option above 28
# Critical options understood in requests: Uri-Host, Uri-Port, Uri-Path, Uri-Query, Accept
_UNDERSTOOD = const(1 << 3 | 1 << 7 | 1 << 11 | 1 << 15 | 1 << 17)
_CRITICAL = const(0x2AAAAAAB)  # the odd numbers, RFC 7252 section 5.4.6, and bits 0 and 29
_REFUSED = const(_CRITICAL & ~_UNDERSTOOD)
_JUDGED = const(_REFUSED | 1 << _ACCEPT)  # what is looked at before a handler is called
_BYTES = (bytes, bytearray, memoryview)
_REPEATABLE = const(1 << 1 | 1 << 4 | 1 << 8 | 1 << 11 | 1 << 15 | 1 << 20)

# Formats of option values
_UINT = const(0x75)  # u
_STRING = const(0x73)  # s
_EMPTY = const(0x65)  # e
_ANY = const(0x3F)  # ?, an unknown option; and o is opaque

# By option number, 0 to 28: format, shortest and longest value
_FORMAT = b"?o?soeuuso?su?usuu??s??u???uu"
_MIN_LEN = b"\0\0\0\1\1\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0"
_MAX_LEN = b"\xff\x08\xff\xff\x08\0\3\2\xff\xff\xff\xff\2\xff\4\xff\1\2\xff\xff\xff\xff\xff\3\xff\xff\xff\3\4"
# Above 28: number (2 bytes), format, shortest and longest value; Proxy-Uri's longest is 1034
_LARGE = b"\0\x23s\1\xff\0\x27s\1\xff\0\x3cu\0\4\0\xfco\1\x28\1\2u\0\1\1\x24o\0\x08"
_NAMES = {
    "if_match": 1,
    "uri_host": 3,
    "etag": 4,
    "etags": 4,
    "if_none_match": 5,
    "observe": 6,
    "uri_port": 7,
    "location_path": 8,
    "oscore": 9,
    "uri_path": 11,
    "content_format": 12,
    "max_age": 14,
    "uri_query": 15,
    "hop_limit": 16,
    "accept": 17,
    "location_query": 20,
    "block2": 23,
    "block1": 27,
    "size2": 28,
    "proxy_uri": 35,
    "proxy_scheme": 39,
    "size1": 60,
    "echo": 252,
    "no_response": 258,
    "request_tag": 292,
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

    Returns -1, or the offset at which the format of RFC 7252 section 3 is broken; the packet is then not to be
    used. Critical options repeated or sized wrongly are no format errors: they set bit 0 of p[_SEEN].
    """
    n = len(data)
    if n < 4 or data[0] & 0xC0 != 0x40 or data[0] & 15 > 8:
        return 0
    code = data[1]
    if 31 < code < 64 or code > 191 or not code and n > 4:
        return 1
    at = 4 + (data[0] & 15)
    if at > n:
        return 4
    p[_DATA] = data
    p[_MTYPE] = data[0] >> 4 & 3
    p[_CODE] = code
    p[_MID] = data[2] << 8 | data[3]
    p[_TOKEN] = p[_PAYLOAD] = None
    p[_START] = at
    return _index_options(p, data, at, n)


def _index_options(p, data, at, n):
    """The rest of _index: options from offset `at`, and the payload, which ends at `n`."""
    p[_PATH] = number = seen = 0
    while at < n:
        b = data[at]
        at += 1
        delta = b >> 4
        length = b & 15
        if delta > 12 or length > 12:
            if b == 0xFF:
                if at == n:
                    return at
                n = at = at - 1
                break
            extended_len = (delta > 12) + (delta > 13) + (length > 12) + (length > 13)
            if delta == 15 or length == 15 or at + extended_len > n:
                return at
            p[_NUMBER] = 0
            at = _step(p, at - 1)
            delta = p[_NUMBER]
            length = p[_STOP] - at
        number += delta
        if number > _MAX_KNOWN:
            if number > 65535:
                return at
            if number & 1:
                seen |= _LARGE_CRITICAL
            elif number == _NO_RESPONSE:
                seen |= _HAS_NO_RESPONSE
        elif _MIN_LEN[number] <= length <= _MAX_LEN[number] and (delta or _REPEATABLE >> number & 1):
            seen |= 1 << number
        elif number & 1:
            seen |= _MALFORMED_CRITICAL
        if number == _URI_PATH:
            if delta:
                p[_PATH] = at
                p[_FIRST_LEN] = length
            p[_PATH_END] = at + length
        at += length
    p[_END] = n
    p[_SEEN] = seen
    return -1 if at == n else n


def _find(p, number):
    """Set the cursor of `p` on the first option `number`; returns where its value starts, or -1."""
    at = p[_START]
    p[_NUMBER] = 0
    while at < p[_END]:
        at = _step(p, at)
        if p[_NUMBER] >= number:
            return at if p[_NUMBER] == number else -1
        at = p[_STOP]
    return -1


def _uint(data, start, stop):
    """The unsigned integer in data[start:stop], most significant byte first; 0 if empty (RFC 7252 section 3.2)."""
    value = 0
    while start < stop:
        value = value << 8 | data[start]
        start += 1
    return value


def _kind(number):
    """The format of option `number`'s values."""
    if number <= _MAX_KNOWN:
        return _FORMAT[number]
    at = _large_at(number)
    return _LARGE[at + 2] if at >= 0 else _ANY


def _fits(number, kind, length):
    """Whether a value of option `number` of this format may have `length` bytes."""
    if kind == _ANY:
        return length <= 65804
    if number == _PROXY_URI:
        return 1 <= length <= 1034
    if number <= _MAX_KNOWN:
        return _MIN_LEN[number] <= length <= _MAX_LEN[number]
    at = _large_at(number)
    return _LARGE[at + 3] <= length <= _LARGE[at + 4]


def _large_at(number):
    """Where `number` is in _LARGE, or -1."""
    for at in range(0, len(_LARGE), 5):
        if _LARGE[at] << 8 | _LARGE[at + 1] == number:
            return at
    return -1


def _read_value(p, start):
    """The value under the cursor of `p`, by its format; raises FormatError if it is text and not UTF-8."""
    kind = _kind(p[_NUMBER])
    if not _fits(p[_NUMBER], kind, p[_STOP] - start):
        kind = _ANY
    if kind == _UINT:
        return _uint(p[_DATA], start, p[_STOP])
    if kind == _EMPTY:
        return True
    value = bytes(p[_DATA][start : p[_STOP]])
    if kind != _STRING:
        return value
    try:
        return str(value, "utf-8")
    except ValueError:
        raise FormatError("option %d is not UTF-8" % p[_NUMBER]) from None


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


def _encode_value(number, value):
    """`value` as the bytes of option `number`; raises TypeError or ValueError if the option cannot hold it."""
    _check("an option's number", number, 1, 65535)
    kind = _kind(number)
    if kind == _EMPTY and value is True:
        value = b""
    elif isinstance(value, str) and (kind == _STRING or kind == _ANY):
        value = value.encode()
    elif isinstance(value, int) and (kind == _UINT or kind == _ANY):
        value = _uint_bytes(value)
    elif not isinstance(value, _BYTES):
        raise TypeError("option %d cannot be %r" % (number, value))
    if not _fits(number, kind, len(value)):
        raise ValueError("option %d cannot have %d bytes" % (number, len(value)))
    return value


def _uint_bytes(value):
    """The fewest bytes that hold `value`, 0 to 2**32 - 1 (RFC 7252 section 3.2)."""
    _check("an option's value", value, 0, 0xFFFFFFFF)
    length = 0
    while value >> 8 * length:
        length += 1
    return value.to_bytes(length, "big")


def _check(what, value, lowest, highest):
    """Raise TypeError or ValueError unless `value` is an int from `lowest` to `highest`."""
    if not isinstance(value, int):
        raise TypeError("%s is an int, not %r" % (what, value))
    if not lowest <= value <= highest:
        raise ValueError("%s is %d to %d, not %d" % (what, lowest, highest, value))


def _put_header(out, delta, length):
    """Append an option's header to the bytearray `out`; allocates nothing while `out` has the capacity."""
    if delta < 13 and length < 13:
        out.append(delta << 4 | length)
        return
    high = delta if delta < 13 else 13 if delta < 269 else 14
    out.append(high << 4 | (length if length < 13 else 13 if length < 269 else 14))
    _put_extension(out, delta)
    _put_extension(out, length)


def _put_extension(out, n):
    """Append what of `n` does not fit into four bits."""
    if n >= 269:
        out.append(n - 269 >> 8)
        out.append(n - 269 & 255)
    elif n >= 13:
        out.append(n - 13)


def _token(p):
    """The token of `p` as bytes."""
    return p[_DATA][4 : p[_START]] if p[_TOKEN] is None else p[_TOKEN]


def _payload(p):
    """The payload of `p`."""
    return p[_DATA][p[_END] + 1 :] if p[_PAYLOAD] is None else p[_PAYLOAD]


def _own(p):
    """Give the options of a received packet a buffer of their own, to be changed."""
    p[_TOKEN] = _token(p)
    p[_PAYLOAD] = _payload(p)
    p[_DATA] = bytearray(p[_DATA][p[_START] : p[_END]])
    p[_START] = 0
    p[_LAST] = 65536  # unknown: the first option added goes the long way


def _add(p, number, value):
    """Add an option, its `value` encoded, to `p` behind those of the same number."""
    if p[_START]:
        _own(p)
    data = p[_DATA]
    if number >= p[_LAST]:
        _put_header(data, number - p[_LAST], len(value))
        data[len(data) :] = value
        p[_LAST] = number
        p[_END] = len(data)
        return
    at = p[_NUMBER] = before = 0
    while at < len(data):
        start = _step(p, at)
        if p[_NUMBER] > number:  # this one goes behind, its header counts from the new one
            piece = bytearray()
            _put_header(piece, number - before, len(value))
            piece += value
            _put_header(piece, p[_NUMBER] - number, p[_STOP] - start)
            data[at:start] = piece
            p[_END] = len(data)
            return
        before = p[_NUMBER]
        at = p[_STOP]
    p[_LAST] = before  # so it was unknown, and is not above the new one
    _add(p, number, value)


def _remove(p, number):
    """Remove all options `number` from `p`."""
    if p[_START]:
        _own(p)
    if number > p[_LAST]:
        return
    data = p[_DATA]
    at = first = p[_NUMBER] = before = 0
    while at < len(data):
        start = _step(p, at)
        if p[_NUMBER] > number:  # its header counts from the one before those removed
            piece = bytearray()
            _put_header(piece, p[_NUMBER] - before, p[_STOP] - start)
            data[first:start] = piece
            break
        at = p[_STOP]
        if p[_NUMBER] < number:
            before = p[_NUMBER]
            first = at
    else:
        data[first:] = b""
        p[_LAST] = before
    p[_END] = len(data)


def _replace(p, number, values):
    """Put `values` in the place of all options `number` in `p`; not half of them if one cannot be encoded."""
    encoded = []
    for value in values:
        encoded.append(_encode_value(number, value))
    _remove(p, number)
    for value in encoded:
        _add(p, number, value)


def _packed_len(p, token):
    """How many bytes `p` has as a datagram."""
    payload_len = len(_payload(p))
    return 4 + len(token) + p[_END] - p[_START] + payload_len + (payload_len > 0)


def _write(p, out, mtype, mid, token):
    """Write packet `p` into the bytearray `out`, whose length becomes the packet's.

    Allocates nothing while `out` has the capacity and `p` is a message being built.
    """
    payload = _payload(p)
    if len(out) < 4:
        out[:] = b"0000"
    out[0] = 0x40 | mtype << 4 | len(token)
    out[1] = p[_CODE]
    out[2] = mid >> 8
    out[3] = mid & 255
    out[4:] = token
    out[len(out) :] = p[_DATA][p[_START] : p[_END]] if p[_START] else p[_DATA]
    if payload:
        out.append(0xFF)
        out[len(out) :] = payload


# ---- messages ----


def _field(name, index, highest):
    """A property of Message: packet[index], None or an int from 0 to `highest` (None: anything)."""

    def read(self):
        return self.packet[index]

    def assign(self, value):
        if highest is not None and value is not None:
            _check(name, value, 0, highest)
        self.packet[index] = value

    return property(read, assign)


def _view(packet):
    """A Message of an existing packet."""
    message = object.__new__(Message)
    message.packet = packet
    return message


def _option_number(name):
    """The number of the option of that name; raises AttributeError if there is none."""
    if name not in _NAMES:
        raise AttributeError("no option is named " + name)
    return _NAMES[name]


def _is_repeatable(number, name):
    """Whether the option has several values under this name."""
    return name != "etag" and (number == 292 or number <= _MAX_KNOWN and _REPEATABLE >> number & 1)


class Options:
    """The options of a message by name, as attributes: `message.opt.uri_path = ("a", "b")`.

    An option that may be repeated reads as a tuple, empty if there is none; any other as its first value or None,
    If-None-Match as a bool. Assigning writes it into the message, assigning None (False) removes it. Names are
    those of the RFCs in lower case. `etag` is the first ETag, `etags` are all. Each access allocates.
    """

    def __init__(self, message):
        object.__setattr__(self, "message", message)

    def __getattr__(self, name):
        number = _option_number(name)
        values = self.message.find_option(number)
        if _is_repeatable(number, name):
            return values
        if values:
            return values[0]
        return False if _kind(number) == _EMPTY else None

    def __delattr__(self, name):
        _remove(self.message.packet, _option_number(name))

    def __setattr__(self, name, value):
        number = _option_number(name)
        p = self.message.packet
        if value is None or value is False:
            _remove(p, number)
        elif not _is_repeatable(number, name):
            value = _encode_value(number, value)
            _remove(p, number)
            _add(p, number, value)
        elif isinstance(value, (str, bytes)):
            raise TypeError("%s takes a tuple of values" % name)
        else:
            _replace(p, number, value)


class Message:
    """A CoAP message: a view of a datagram received, or a message being built in wire format.

    Message(code=None, *, mtype=None, mid=None, token=b"", payload=b"", uri=None, remote=None,
    transport_tuning=None, buffer=None, **options)

      code    a method (GET) or response code (CONTENT), 0 to 255; 0 is the empty message
      mtype   CON, NON, ACK, RST; None lets the endpoint choose
      mid     message ID, 0 to 65535; None lets the endpoint choose
      token   0 to 8 bytes; the endpoint draws one for a request without
      payload bytes, or str, which is encoded as UTF-8
      uri     see set_request_uri
      remote  where it goes or came from: "host[:port]", or an address of the socket
      transport_tuning  a Tuning, for this message's retransmission
      buffer  a bytearray kept by the caller: encode() writes into it, up to its present length
      options by name, see Options: content_format=JSON, uri_path=("a", "b")

    Raises ValueError or TypeError for a value that the field or option cannot hold.
    A received message refers to the datagram; reading token or payload makes a copy. The request and response
    that a handler is given are used again for the next exchange: keep one by copy().
    Allocates about 150 bytes on a board, and the options.
    """

    version = 1

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
        self.packet = [
            bytearray(), 0, 0, code, mtype, mid, token, payload, 0, 0, 0, 0, 0, 0, 0, remote, None, transport_tuning,
            None if buffer is None else (buffer, len(buffer)), None,
        ]  # fmt: skip
        if code is not None:
            _check("code", code, 0, 255)
        if mtype is not None:
            _check("mtype", mtype, 0, 3)
        if mid is not None:
            _check("mid", mid, 0, 65535)
        if type(token) is not bytes or len(token) > 8:
            self.token = token
        if type(payload) is not bytes:
            self.payload = payload
        if uri is not None:
            self.set_request_uri(uri)
        if options:
            opt = Options(self)
            for name in options:
                if name not in _NAMES:
                    raise TypeError("a message has no field or option named " + name)
                setattr(opt, name, options[name])

    code = _field("code", _CODE, 255)
    mtype = _field("mtype", _MTYPE, 3)
    mid = _field("mid", _MID, 65535)
    remote = _field("", _REMOTE, None)
    request = _field("", _REQUEST, None)
    transport_tuning = _field("", _TUNING, None)

    @property
    def token(self):
        """The token, 0 to 8 bytes."""
        p = self.packet
        if p[_TOKEN] is None and not p[_START]:  # a response that a handler is filling: its request has it
            p = p[_REQUEST].packet
        return _token(p)

    @token.setter
    def token(self, value):
        if not isinstance(value, _BYTES):
            raise TypeError("a token is bytes, not %r" % (value,))
        _check("a token's length", len(value), 0, 8)
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
                raise TypeError("a payload is bytes or str, not %r" % (value,))
            value = value.encode()
        self.packet[_PAYLOAD] = value

    @property
    def opt(self):
        """The options by name, see Options; allocates the view."""
        return Options(self)

    @property
    def options(self):
        """All options as a tuple of (number, value), sorted by number, repeats in order; values by their format.

        A value of a length that the option does not allow is bytes.
        """
        p = self.packet
        found = []
        at = p[_START]
        p[_NUMBER] = 0
        while at < p[_END]:
            at = _step(p, at)
            found.append((p[_NUMBER], _read_value(p, at)))
            at = p[_STOP]
        return tuple(found)

    def find_option(self, number):
        """The values of option `number`, a tuple in the order of the message; without those of a forbidden length."""
        p = self.packet
        values = []
        at = _find(p, number)
        while at >= 0:
            if _fits(number, _kind(number), p[_STOP] - at):
                values.append(_read_value(p, at))
            at = p[_STOP]
            if at >= p[_END] or p[_DATA][at] >> 4:
                break
            at = _step(p, at)
        return tuple(values)

    def add_option(self, number, value):
        """Add one value of option `number` (1 to 65535) behind those there; returns self.

        `value` is what the option's format takes: int, str, True, or bytes for any; anything for an unknown option.
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
        p[_DATA][:] = b""
        p[_END] = p[_LAST] = 0
        p[_TOKEN] = p[_PAYLOAD] = b""
        return self

    @staticmethod
    def decode(data, remote=None):
        """The message in the datagram `data`; raises FormatError if there is none (RFC 7252 section 3)."""
        message = _view([None] * 20)
        message.packet[_REMOTE] = remote
        message.index(data if isinstance(data, bytes) else bytes(data))
        return message

    def index(self, data):
        """Make this message a view of the datagram `data` (bytes) without allocating; raises FormatError."""
        at = _index(self.packet, data)
        if at >= 0:
            raise FormatError("no CoAP message: wrong at byte %d" % at)

    def encode(self):
        """The message as bytes for the wire, or the bytearray given as `buffer`, cut to the message.

        Raises ValueError if code, mtype or mid is missing, or if the buffer is too small.
        """
        kept = self.packet[_BUFFER]
        if kept is not None:
            needed_len = _packed_len(self.packet, self.token)
            if needed_len > kept[1]:
                raise ValueError("the message needs %d bytes, its buffer has %d" % (needed_len, kept[1]))
            self.write(kept[0])
            return kept[0]
        out = bytearray(4)
        self.write(out)
        return bytes(out)

    def write(self, buffer):
        """Write the message into the bytearray `buffer`, whose length becomes the message's.

        Allocates nothing if the buffer has the capacity. Raises ValueError if code, mtype or mid is missing.
        """
        p = self.packet
        if p[_CODE] is None or p[_MTYPE] is None or p[_MID] is None:
            raise ValueError("a message to encode needs code, mtype and mid")
        token = self.token if p[_TOKEN] is None else p[_TOKEN]
        if not p[_CODE] and _packed_len(p, token) > 4:
            raise ValueError("an empty message has no token, options or payload")
        _write(p, buffer, p[_MTYPE], p[_MID], token)

    def copy(self, **changes):
        """A message of its own with the same content; `changes` are fields, uri or options by name."""
        p = list(self.packet)
        p[_BUFFER] = None
        if not p[_START]:
            p[_DATA] = bytearray(p[_DATA])
            p[_PAYLOAD] = bytes(p[_PAYLOAD])
            if p[_TOKEN] is None:  # the response of a handler: the request it hangs on will be used again
                p[_TOKEN] = self.token
                p[_REQUEST] = None
        copy = _view(p)
        for name in changes:
            if name == "uri":
                copy.set_request_uri(changes[name])
            elif name in _NAMES:
                setattr(copy.opt, name, changes[name])
            elif name in ("code", "mtype", "mid", "token", "payload", "remote", "transport_tuning"):
                setattr(copy, name, changes[name])
            else:
                raise TypeError("a message has no field or option named " + name)
        return copy

    def set_request_uri(self, uri, set_uri_host=True):
        """Take remote, Uri-Host, Uri-Path and Uri-Query from `uri` (RFC 7252 section 6.4).

        Uri-Host is left out for an IP literal, and if `set_uri_host` is False. A scheme other than coap and coaps
        goes whole into Proxy-Uri. Raises ValueError for what is no absolute URI or has a fragment or userinfo.
        """
        scheme, mark, rest = uri.partition("://")
        scheme = scheme.lower()
        if not mark or "#" in uri or "/" in scheme or "?" in scheme or not scheme[:1].isalpha():
            raise ValueError("write coap://host[:port]/path?query without fragment, not %r" % uri)
        p = self.packet
        if scheme != "coap" and scheme != "coaps":
            values = {_PROXY_URI: [_encode_value(_PROXY_URI, uri)]}
            p[_SCHEME] = None
        else:
            rest, mark, query = rest.partition("?")
            authority, _, path = rest.partition("/")
            host, port = _split_authority(authority)
            values = {
                _URI_PATH: [_encode_value(_URI_PATH, segment) for segment in _split_path(path)] if path else (),
                _URI_QUERY: [_encode_value(_URI_QUERY, _unquote(part)) for part in query.split("&")] if mark else (),
            }
            if set_uri_host and not _is_ip_literal(host):
                values[_URI_HOST] = [_encode_value(_URI_HOST, _unquote(host))]
            p[_REMOTE] = "%s:%d" % (host, port or _default_port(scheme))
            p[_SCHEME] = scheme
        for number in (_URI_HOST, _URI_PORT, _URI_PATH, _URI_QUERY, _PROXY_URI, _PROXY_SCHEME):
            _remove(p, number)
            for value in values.get(number, ()):
                _add(p, number, value)

    def get_request_uri(self):
        """The URI that a request asks for (RFC 7252 section 6.5), of a response that of its request.

        Host and port come from Uri-Host and Uri-Port, else from remote; a response to a group's request has the
        responder's address. Raises ValueError if there is neither.
        """
        request = self.request if self.code and self.code >= 64 else self
        if request is None:
            raise ValueError("the response knows no request")
        opt = request.opt
        if opt.proxy_uri:
            return opt.proxy_uri
        is_group = request is not self and is_multicast(request.remote)
        host, port = _host_and_port(request.remote if self.remote is None else self.remote)
        if opt.uri_host is not None and not is_group:
            host = opt.uri_host if _is_ip_literal(opt.uri_host) else _quote(opt.uri_host, _PLAIN[:-2])
        if host is None:
            raise ValueError("the request has neither Uri-Host nor remote")
        port = opt.uri_port or port
        scheme = opt.proxy_scheme or request.packet[_SCHEME] or "coap"
        uri = "%s://%s" % (scheme, host)
        if port and port != _default_port(scheme):
            uri += ":%d" % port
        uri += "/" + "/".join([_quote(segment, _PLAIN) for segment in opt.uri_path])
        query = "&".join([_quote(part, _PLAIN_QUERY) for part in opt.uri_query])
        return uri + "?" + query if opt.uri_query else uri

    def get_cache_key(self, ignore_options=()):
        """A hashable that two requests share if one's response may answer the other (RFC 7252 section 5.6).

        It has the code and all options but Observe (RFC 7641 section 2), those that are NoCacheKey, and the numbers
        in `ignore_options`; of a FETCH the payload, too (RFC 8132 section 2).
        """
        key = [self.code, bytes(self.payload) if self.code == FETCH else b""]
        for pair in _raw_options(self.packet):
            if pair[0] & 0x1E != 0x1C and pair[0] != _OBSERVE and pair[0] not in ignore_options:
                key.append(pair)
        return tuple(key)

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
        line += " token=" + "".join(["%02x" % b for b in self.token])
        for number, value in _raw_options(p):
            name = [name for name in _NAMES if _NAMES[name] == number and name != "etags"]
            if _kind(number) == _UINT:
                value = _uint(value, 0, len(value))
            line += " %s=%r" % (name[0] if name else number, value)
        return "%s, %d bytes>" % (line, len(self.payload))


def code_text(code):
    """A code as in `2.05 Content` or `GET`, the name as in the RFCs."""
    if not code:
        return "Empty" if code == 0 else "no code"
    if code < 8:
        return ("GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "iPATCH")[code - 1]
    text = "%d.%02d" % (code >> 5, code & 31)
    for name in globals():
        if globals()[name] == code and name.isupper() and name[0] != "_":
            text += "".join([" " + word[0] + word[1:].lower() for word in name.split("_")])
    return text


# ---- URIs ----


def _split_authority(authority):
    """(host in lower case, port or 0) of host[:port] or [IPv6][:port]; raises ValueError."""
    host, mark, port = authority.rpartition(":")
    if not mark or "]" in port:
        host, port = authority, ""
    name = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host.replace(":", "[")
    if not name or "[" in name or "]" in name or "@" in name or port and not _is_digits(port):
        raise ValueError("a host is name[:port] or [IPv6][:port], not %r" % authority)
    if port:
        _check("a port", int(port), 1, 65535)
    return host.lower(), int(port or 0)


def _is_digits(text):
    return text.isdigit() and len(text) == len(text.encode())  # CPython has other scripts' digits, too


def _is_ip_literal(host):
    """Whether `host` is [IPv6] or four numbers up to 255."""
    parts = host.split(".")
    return host[0] == "[" or len(parts) == 4 and all([_is_digits(part) and int(part) < 256 for part in parts])


def _split_path(path):
    """The decoded segments of a URI's path, without "." and ".." (RFC 3986 section 5.2.4)."""
    segments = []
    segment = ""
    for segment in [_unquote(part) for part in path.split("/")]:
        if segment == "..":
            segments = segments[:-1]
        elif segment != ".":
            segments.append(segment)
    if segments and (segment == ".." or segment == "."):
        segments.append("")
    return segments


def _unquote(text):
    """`text` percent-decoded; raises ValueError if that is no UTF-8."""
    parts = text.split("%")
    out = bytearray(parts.pop(0).encode())
    for part in parts:
        digits = "0123456789abcdef"
        high = digits.find(part[:1].lower()) if part else -1
        low = digits.find(part[1:2].lower()) if len(part) > 1 else -1
        if high < 0 or low < 0:
            raise ValueError("% takes two hexadecimal digits in " + text)
        out.append(high << 4 | low)
        out += part[2:].encode()
    return str(out, "utf-8")


def _default_port(scheme):
    """The port that a URI of this scheme need not name."""
    return {"coaps": 5684, "http": 80, "https": 443}.get(scheme, 5683)


_PLAIN = b"-._~!$&'()*+,;=:@"  # what a path segment has as it is, besides letters and digits (RFC 3986)
_PLAIN_QUERY = b"-._~!$'()*+,;=:@/?"


def _quote(text, plain):
    """`text` percent-encoded."""
    out = ""
    for b in text.encode():
        is_plain = 48 <= b < 58 or 65 <= b < 91 or 97 <= b < 123 or b in plain
        out += chr(b) if is_plain else "%%%02X" % b
    return out


def _host_and_port(remote):
    """(host as in a URI, port) of an address of a socket or of "host:port"; (None, 0) if that cannot be told."""
    if isinstance(remote, str):
        return _split_authority(remote)
    if isinstance(remote, tuple):
        return ("[%s]" if ":" in remote[0] else "%s") % remote[0], remote[1]
    if not isinstance(remote, bytes) or len(remote) < 16:
        return None, 0
    if len(remote) == 16:
        host = ".".join([str(b) for b in remote[4:8]])
    else:
        host = "[%s]" % ":".join(["%x" % _uint(remote, at, at + 2) for at in range(8, 24, 2)])
    return host, _uint(remote, 2, 4)


def is_multicast(address):
    """Whether `address`, an address of a socket on any port, is a group's; looks up no name.

    A tuple is (host, port, ...), bytes are the unix port's sockaddr; anything else, a str too, is no group.
    """
    host = address[0] if isinstance(address, tuple) and address else None
    if isinstance(host, str):
        if ":" in host:
            return host[:2].lower() == "ff"
        first = host.split(".")[0]
        return _is_digits(first) and 224 <= int(first) <= 239
    if isinstance(address, _BYTES):
        return len(address) == 16 and address[4] >> 4 == 14 or len(address) == 28 and address[8] == 255
    return False


# ---- message layer: tuning, records ----

_MAX_LATENCY_MS = const(100000)  # RFC 7252 section 4.8.2


class Tuning:
    """Transmission parameters (RFC 7252 section 4.8) of an endpoint or of one message.

    ack_timeout_ms      ACK_TIMEOUT, time to the first retransmission at least
    ack_random_percent  ACK_RANDOM_FACTOR in percent, 100 or more: that time at most
    max_retransmit      MAX_RETRANSMIT, 0 to 10; each wait is twice the one before
    nstart              NSTART, interactions open with one peer at a time

    and derived from them (section 4.8.2) max_transmit_span_ms, max_transmit_wait_ms, exchange_lifetime_ms,
    non_lifetime_ms.
    """

    def __init__(self, ack_timeout_ms=2000, ack_random_percent=150, max_retransmit=4, nstart=1):
        _check("ack_timeout_ms", ack_timeout_ms, 1, 600000)
        _check("ack_random_percent", ack_random_percent, 100, 1000)
        _check("max_retransmit", max_retransmit, 0, 10)
        _check("nstart", nstart, 1, 65535)
        self.ack_timeout_ms = ack_timeout_ms
        self.ack_random_percent = ack_random_percent
        self.max_retransmit = max_retransmit
        self.nstart = nstart
        longest_ms = ack_timeout_ms * ack_random_percent // 100
        self.max_transmit_span_ms = longest_ms * ((1 << max_retransmit) - 1)
        self.max_transmit_wait_ms = longest_ms * ((2 << max_retransmit) - 1)
        self.non_lifetime_ms = self.max_transmit_span_ms + _MAX_LATENCY_MS
        self.exchange_lifetime_ms = self.non_lifetime_ms + _MAX_LATENCY_MS + ack_timeout_ms


# Life of a TransmissionRecord
_QUEUED = const(0)
_SENT = const(1)  # a CON without ACK, or a NON request without response: counts for NSTART
_ACKED = const(2)  # the empty ACK came, the response is to follow
_ENDED = const(3)


class TransmissionRecord:
    """A message given to send and what became of it. Times are ticks in ms.

    endpoint, message, remote, packed (the datagram), token
    mid                  message ID, None before the first transmission
    transmitted_ms       time of the first transmission, None before
    last_event_ms        time of the latest transmission or answer
    next_event_ms        time of the next retransmission or give-up; None when nothing is due
    transmissions_left   how often it will be sent at most
    response_type        how it was answered first: ACK, RST, CON or NON; None: not yet, or never
    response             ReceptionRecord of the response or Reset that came first
    responses            a tuple of all of them: several if `remote` is a group
    is_unacknowledged    a CON given up without ACK
    error                None, or the exception class it ended with: Timeout, Reset, Rejected, Closed
    """

    # Until they are set these lie in the class, which keeps a new record small
    transmitted_ms = last_event_ms = next_event_ms = wait_ms = None
    response_type = response = error = None
    responses = ()
    is_unacknowledged = False
    state = _QUEUED

    def __init__(self, endpoint, message, remote, packed, token, timeout_ms):
        self.endpoint = endpoint
        self.message = message
        self.remote = remote
        self.packed = packed
        self.token = token
        self.mid = message.mid
        self.timeout_ms = self.tuning.max_transmit_wait_ms if timeout_ms is None else timeout_ms
        # a request that wants no response at all (RFC 7967 section 2.1) has ended when it is sent or acknowledged
        self.is_request = 0 < packed[1] < 32 and (message.opt.no_response or 0) & 26 != 26
        self.transmissions_left = 1 if self.is_non() else 1 + self.tuning.max_retransmit

    @property
    def tuning(self):
        """The Tuning of the message, else that of the endpoint."""
        return self.message.transport_tuning or self.endpoint.tuning

    def is_non(self):
        """Whether it goes as a NON."""
        return self.packed[0] & 0x30 != 0

    def is_done(self):
        """Whether the exchange has ended: with a response or `error`, or sent with nothing to come."""
        return self.state == _ENDED

    def cancel(self):
        """Give it up: no retransmission; a response still coming is answered with Reset."""
        self.endpoint.end(self, None)


class ReceptionRecord:
    """A message received for the application: a response or Reset to a record of send, or a request.

    endpoint, message, remote
    mid              its message ID
    pertains_to      the TransmissionRecord it answers; None for a request
    is_acknowledged  whether an empty ACK went
    has_responded    whether it was answered by respond or reset
    """

    def __init__(self, endpoint, message, remote, pertains_to, slot=-1):
        self.endpoint = endpoint
        self.message = message
        self.remote = remote
        self.mid = message.mid
        self.pertains_to = pertains_to
        self.is_acknowledged = self.has_responded = pertains_to is not None
        self.slot = slot  # in the table of duplicates

    def ack(self, message=None):
        """Acknowledge the CON, with nothing or with the response `message`; sent by the next process.

        After an empty one respond() goes as a message of its own. Raises ValueError if it is no CON or answered.
        """
        if message is not None:
            self.respond(message)
        elif self.message.mtype != CON or self.is_acknowledged or self.has_responded:
            raise ValueError("ack is for a CON without answer")
        else:
            self.is_acknowledged = True
            self.endpoint.answer(self, bytes(self.endpoint.empty(ACK, self.mid)))

    def reset(self):
        """Answer with a Reset: the message makes no sense here; sent by the next process. Raises ValueError twice."""
        if self.has_responded:
            raise ValueError("the message was answered")
        self.has_responded = True
        self.endpoint.answer(self, bytes(self.endpoint.empty(RST, self.mid)))

    def respond(self, code=CONTENT, payload=b"", **options):
        """Answer the request with a response Message, or one made of `code`, `payload` and options by name.

        It is piggybacked on the ACK of a CON, or a message of its own if that went before.
        Raises ValueError if it was answered, or the response is none or too long.
        """
        if self.has_responded:
            raise ValueError("the request was answered")
        response = code if isinstance(code, Message) else Message(code, payload=payload, **options)
        request = self.message
        if response.code is None or not 64 <= response.code < 192:
            raise ValueError("a response has a code of 2.00 to 5.31")
        if _packed_len(response.packet, request.token) > self.endpoint.datagram_len:
            raise ValueError("the response is longer than datagram_len")
        if _is_unwanted(request.packet, response.code):
            if request.mtype == CON and not self.is_acknowledged:
                self.ack()
        elif request.mtype == CON and self.is_acknowledged:
            self.endpoint.enqueue(response, self.remote, CON, request.token, None)
        else:
            packed = bytearray(4)
            mtype, mid = (ACK, self.mid) if request.mtype == CON else (NON, self.endpoint.reply_mid())
            _write(response.packet, packed, mtype, mid, request.token)
            self.endpoint.answer(self, packed)
        self.has_responded = True


def _is_unwanted(p, code):
    """Whether the request `p` wants no response of the class of `code` (RFC 7967 section 2.1)."""
    if not p[_SEEN] & _HAS_NO_RESPONSE:
        return False
    at = _find(p, _NO_RESPONSE)
    return at >= 0 and p[_STOP] - at <= 1 and _uint(p[_DATA], at, p[_STOP]) >> (code >> 5) - 1 & 1 != 0


def _has_answered(record, peer):
    """Whether a response of `peer` to the group's request `record` is there."""
    for response in record.responses:
        if response.remote == peer:
            return True
    return False


def _host(peer):
    """The address in `peer` without the port: of a tuple, or of a sockaddr of the unix port."""
    if isinstance(peer, tuple):
        return peer[0]
    if isinstance(peer, bytes) and len(peer) >= 16:
        return peer[4:8] if len(peer) == 16 else peer[8:24]
    return peer


# ---- resources and discovery ----


class Resource:
    """What Engine.resource returns: a path, and a handler for each method.

    Used as a decorator it sets the handler of all methods; `get`, `put`, `post`, `delete` set that of one, and
    `on(method)` that of any (FETCH, PATCH, IPATCH). A handler is called with the request and the response, two
    Messages; it fills the response, whose code is preset, or returns one of

      None                 the response as filled in
      an int               the code
      str, bytes, ...      the payload; its Content-Format is the resource's `ct`
      (code, payload)      both
      NO_RESPONSE, LATER   none, or one that follows: see the constants
    """

    def __init__(self, path, ct, link):
        self.path = path  # the raw Uri-Path options behind the first header
        self.link = link
        self.formats = () if ct is None else ct if isinstance(ct, tuple) else (ct,)
        self.content_format = None  # the first of them, as an option
        if self.formats:
            self.content_format = Message(content_format=self.formats[0]).packet[_DATA]
        self.handlers = {}  # by method; 0: of all others
        self.next = None  # resource with the same routing key

    def on(self, method):
        """A decorator that sets the handler of `method`."""

        def set_handler(handler):
            self.handlers[method] = handler
            return handler

        return set_handler

    def __call__(self, handler):
        """Set the handler of all methods without one of their own; returns it."""
        return self.on(0)(handler)

    def get(self, handler):
        """Set the handler of GET; returns it."""
        return self.on(GET)(handler)

    def put(self, handler):
        """Set the handler of PUT; returns it."""
        return self.on(PUT)(handler)

    def post(self, handler):
        """Set the handler of POST; returns it."""
        return self.on(POST)(handler)

    def delete(self, handler):
        """Set the handler of DELETE; returns it."""
        return self.on(DELETE)(handler)


def _path_key(data, start, stop, first_len):
    """A small integer of the raw Uri-Path options data[start:stop], by which resources are looked up."""
    return (stop - start) << 16 | first_len << 8 | data[stop - 1] if stop > start else 0


def _link(path, attributes):
    """A link of RFC 6690: `</path>;name=value...`; a str is quoted, True is a name alone, a tuple is a list."""
    link = "</%s>" % "/".join([_quote(segment, _PLAIN) for segment in path])
    for name in sorted(attributes):
        value = attributes[name]
        if isinstance(value, tuple):
            value = " ".join([str(item) for item in value])
        link += ";" + name.rstrip("_")
        if isinstance(value, str):
            if '"' in value:
                raise ValueError("a link's attribute cannot have quotes: " + value)
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


# ---- protocol engine ----

_REPLY_LEN = const(32)  # a reply up to this length is kept in its slot
_FAR_MS = const(1 << 28)  # 3 days: much further apart, ticks cannot be compared
_RETRY_S = const(60)  # Max-Age of a refusal because a table is full
_PRESET = bytes((0, CONTENT, CREATED, CHANGED, DELETED, CONTENT, CHANGED, CHANGED))  # code by method


def _new_reply():
    """An empty bytearray with the capacity of a short reply."""
    reply = bytearray(_REPLY_LEN)
    reply[:] = b""
    return reply


class Engine:
    """The protocol without I/O: give it datagrams and the time, send what it gives back.

    `receive` takes a datagram and returns the immediate reply; `due` returns what is to be sent at a time, and
    `next_ms` when that will be. An Endpoint is an Engine on a socket. For the arguments see Endpoint; `random(n)`
    returns n bytes nobody can guess.
    """

    def __init__(
        self,
        random,
        *,
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
        _check("transmissions", transmissions, 1, 4096)
        _check("recent", recent, 1, 4096)
        _check("datagram_len", datagram_len, 64, 65507)
        self.random = random
        self.tuning = tuning or Tuning()
        self.datagram_len = datagram_len
        self.log = self.on_end = None
        self._is_in_handler = False
        self.received = None  # the ReceptionRecord of the latest receive, if it is for the application
        self.peer = None  # where the datagram that due() returned goes
        self.next_event_reason = None
        self.resources = []
        self._routes = {}  # routing key -> the latest Resource with it
        self._limits = transmissions, queued, pending, group_responses
        self._open = []  # TransmissionRecords sent and not ended
        self._queue = []  # ... not sent yet
        self._answers = []  # (datagram, peer) that the application gave
        self._pending = []  # (peer, token, message ID, until_ms, No-Response) of what handlers promised
        # Messages received, by slot. The first `recent` are direct-mapped by message ID and overwritten freely: they
        # may be handled twice. The others are kept until their time (RFC 7252 section 4.5).
        slots = recent + kept
        self._recent, self._kept_per_host = recent, kept_per_host
        self._mids = [-1] * slots  # -1: free
        self._peers = [None] * slots
        self._hosts = [None] * slots
        self._until_ms = [0] * slots
        self._replies = [_new_reply() for _ in range(slots)]  # to a CON; empty: none
        self._sweep_ms = None  # when the first of them is to be forgotten
        self._first_mid = _uint(random(2), 0, 2)
        self._mids_used = 0  # since _first_mid, modulo 65536
        self._mids_free_ms = [None] * 16  # when each block of 4096 may be used again
        self._reply_mid = self._first_mid  # counts down, so that who sends NON requests does not use up the others
        self._out = bytearray(datagram_len + 1)
        self._request = Message()
        self._response = Message()
        self._response.request = self._request  # whose token it has

    # -- resources

    def resource(self, path, ct=None, **attributes):
        """Serve `path` ("sensors/temp"); returns the Resource, a decorator for its handlers.

        ct: Content-Format of the payloads, or a tuple of several, from which Accept chooses. It and `attributes`
        (rt="temperature", if_="sensor", sz=12, title="...", obs=True, ...) are listed in /.well-known/core.
        """
        if not self.resources and path != ".well-known/core":
            self.resource(".well-known/core", ct=LINKS).get(self._discover)
        segments = path.split("/") if path else []
        options = Message(uri_path=segments).packet
        start = max(0, _find(options, _URI_PATH))
        raw = bytes(options[_DATA][start:])
        first_len = options[_STOP] - start if segments else 0
        if ct is not None:
            attributes["ct"] = ct
        resource = Resource(raw, ct, _link(segments, attributes))
        key = _path_key(raw, 0, len(raw), first_len)
        resource.next = self._routes.get(key)
        self._routes[key] = resource
        self.resources.append(resource)
        return resource

    def _route(self, p):
        """The resource that the Uri-Path of `p` names, or None."""
        start = p[_PATH]
        if not start:
            return self._routes.get(0)
        data = p[_DATA]
        resource = self._routes.get(_path_key(data, start, p[_PATH_END], p[_FIRST_LEN]))
        while resource is not None and not data.startswith(resource.path, start):
            resource = resource.next
        return resource

    def _discover(self, request, response):
        """Handler of /.well-known/core (RFC 6690): the links that pass all filters, as many as fit whole."""
        queries = request.opt.uri_query
        room_len = self.datagram_len - 32
        links = b""
        for resource in self.resources[1:]:  # the first is this one
            if all([_matches(resource.link, query) for query in queries]):
                link = resource.link.encode()
                if len(links) + 1 + len(link) > room_len:
                    break
                links += b"," + link if links else link
        return links

    # -- receiving requests

    def receive(self, data, peer, now_ms, is_multicast=False):
        """Take the datagram `data` (bytes) that came from `peer`, to a group if `is_multicast`.

        Returns the datagram to send back to `peer` at once, or None; it is valid until the next call. What is for
        the application is in `received`. Nothing that a peer can send makes it raise.
        """
        self.received = None
        p = self._request.packet
        is_too_large = len(data) > self.datagram_len
        if is_too_large:
            data = data[: 4 + (data[0] & 15)]  # the rest may be cut off
        if _index(p, data) >= 0:
            if len(data) < 4 or data[0] >> 4 != 4 or is_multicast:  # only a CON is reset
                return None
            return self.empty(RST, data[2] << 8 | data[3])
        p[_REMOTE] = peer
        is_request = p[_MTYPE] <= NON and 0 < p[_CODE] < 32
        if is_multicast and (p[_MTYPE] == CON or not is_request or is_too_large):
            return None
        if is_too_large:
            if is_request:
                return self._refuse(p, REQUEST_ENTITY_TOO_LARGE, -1)
            return self.empty(RST, p[_MID]) if p[_MTYPE] == CON else None
        if not is_request:
            return self._receive_other(p, peer, now_ms)
        reply = self._receive_request(p, peer, now_ms)
        if p[_SEEN] & _HAS_NO_RESPONSE and reply is not None and reply[1] and _is_unwanted(p, reply[1]):
            reply = self.empty(ACK, p[_MID]) if p[_MTYPE] == CON else None
        return None if is_multicast and reply is not None and not 64 <= reply[1] < 128 else reply

    def _receive_request(self, p, peer, now_ms):
        """Answer the request `p`: from the table of duplicates, with a refusal, or by its handler."""
        mid = p[_MID]
        is_con = p[_MTYPE] == CON
        is_safe = p[_CODE] == GET or p[_CODE] == FETCH
        slot = mid % self._recent
        if self._mids[slot] != mid or self._peers[slot] != peer or ticks_diff(self._until_ms[slot], now_ms) <= 0:
            slot = -1 if is_safe else self._find_kept(mid, peer, now_ms)
        if slot >= 0:
            if not is_con:
                return None
            if self._replies[slot] or slot >= self._recent:
                return self._replies[slot] or None
        resource = self._route(p)
        handler = None
        if resource is not None:
            handler = resource.handlers.get(p[_CODE]) or resource.handlers.get(0)
        refusal = 0
        if handler is None or p[_SEEN] & _JUDGED or p[_CODE] > IPATCH:
            refusal = self._refusal(p, resource, handler)
            if refusal == BAD_OPTION and not is_con:
                return self.empty(RST, mid)
        until_ms = self._until(now_ms, self.tuning.exchange_lifetime_ms if is_con else self.tuning.non_lifetime_ms)
        if is_safe or refusal:
            slot = self._note(mid % self._recent, mid, peer, until_ms)
        else:
            slot = self._keep(mid, peer, now_ms, until_ms)
            if slot < 0:
                return self._refuse(p, SERVICE_UNAVAILABLE, slot) if is_con else None
        if refusal:
            return self._refuse(p, refusal, slot)
        if handler is None:
            self.received = ReceptionRecord(self, _view(list(p)), peer, None, slot)
            return None
        return self._handle(p, resource, handler, slot, until_ms)

    def _refusal(self, p, resource, handler):
        """The code with which the request is refused before a handler sees it, or 0."""
        if p[_SEEN] & _REFUSED:
            is_proxied = p[_SEEN] & _REFUSED == _LARGE_CRITICAL and not self._has_unknown(p)
            return PROXYING_NOT_SUPPORTED if is_proxied else BAD_OPTION
        if not self.resources:
            return 0
        if resource is None:
            return NOT_FOUND
        if handler is None or p[_CODE] > IPATCH:
            return METHOD_NOT_ALLOWED
        if p[_SEEN] & 1 << _ACCEPT and resource.formats and self._accepted(p) not in resource.formats:
            return NOT_ACCEPTABLE
        return 0

    def _has_unknown(self, p):
        """Whether a critical option above 28 is another than Proxy-Uri and Proxy-Scheme."""
        at = p[_START]
        p[_NUMBER] = 0
        while at < p[_END]:
            _step(p, at)
            at = p[_STOP]
            if p[_NUMBER] > _MAX_KNOWN and p[_NUMBER] & 1 and p[_NUMBER] | 4 != 39:
                return True
        return False

    def _accepted(self, p):
        """The Content-Format that Accept asks for."""
        at = _find(p, _ACCEPT)
        return _uint(p[_DATA], at, p[_STOP])

    def _find_kept(self, mid, peer, now_ms):
        """The slot of a message that is kept, or -1."""
        if mid in self._mids:
            for slot in range(self._recent, len(self._mids)):
                if self._mids[slot] == mid and self._peers[slot] == peer:
                    if ticks_diff(self._until_ms[slot], now_ms) > 0:
                        return slot
        return -1

    def _note(self, slot, mid, peer, until_ms):
        """Fill a slot; its reply is empty."""
        self._mids[slot] = mid
        self._peers[slot] = peer
        self._until_ms[slot] = until_ms
        self._replies[slot][:] = b""
        return slot

    def _keep(self, mid, peer, now_ms, until_ms):
        """Fill one of the slots that are kept; returns it, or -1: all have what must not be forgotten.

        That is what other hosts sent, and the requests to which a response was promised.
        """
        host = _host(peer)
        free = oldest = -1
        oldest_ms = mine = 0
        for slot in range(self._recent, len(self._mids)):
            left_ms = ticks_diff(self._until_ms[slot], now_ms)
            if self._mids[slot] < 0 or left_ms <= 0:
                free = slot
            elif self._hosts[slot] == host:
                mine += 1
                if (oldest < 0 or left_ms < oldest_ms) and not self._is_pending(slot):
                    oldest = slot
                    oldest_ms = left_ms
        if free < 0 or mine >= self._kept_per_host:
            free = oldest
        if free >= 0:
            self._free(free)
            self._hosts[free] = host
            self._note(free, mid, peer, until_ms)
        return free

    def _is_pending(self, slot):
        """Whether the response to the message in `slot` is to follow."""
        for entry in self._pending:
            if entry[2] == self._mids[slot] and entry[0] == self._peers[slot]:
                return True
        return False

    def _free(self, slot):
        """Empty a slot, without the memory of a long reply."""
        self._mids[slot] = -1
        self._peers[slot] = self._hosts[slot] = None
        if len(self._replies[slot]) > _REPLY_LEN:
            self._replies[slot] = _new_reply()
        self._replies[slot][:] = b""

    def _until(self, now_ms, lifetime_ms):
        """The time `lifetime_ms` from now, when something is to be forgotten."""
        until_ms = ticks_add(now_ms, lifetime_ms)
        if self._sweep_ms is None:
            self._sweep_ms = until_ms
        return until_ms

    # -- answering

    def _prepare(self, p, code):
        """Empty the response and address it to the request `p`; returns its packet."""
        r = self._response.packet
        if r[_END]:
            r[_DATA][:] = b""
            r[_END] = r[_LAST] = 0
        r[_CODE] = code
        r[_MTYPE] = p[_MTYPE]
        r[_TOKEN] = None
        r[_PAYLOAD] = b""
        r[_REMOTE] = p[_REMOTE]
        return r

    def _refuse(self, p, code, slot):
        """An answer without a handler."""
        self._prepare(p, code)
        if code == SERVICE_UNAVAILABLE:
            self._response.opt.max_age = _RETRY_S
        return self._reply(p, slot)

    def _handle(self, p, resource, handler, slot, until_ms):
        """Run the handler and return its reply."""
        r = self._prepare(p, _PRESET[p[_CODE]])
        self._is_in_handler = True
        try:
            result = handler(self._request, self._response)
            if result is not None and result is not LATER and result is not NO_RESPONSE:
                self._take(result)
                result = None
            if not 64 <= r[_CODE] < 192:
                raise ValueError("a response's code is 2.00 to 5.31, not %d" % r[_CODE])
        except FormatError:
            return self._refuse(p, BAD_OPTION, slot)
        except Exception as error:
            if self.log:
                self.log("handler of " + resource.link, error)
            return self._refuse(p, INTERNAL_SERVER_ERROR, slot)
        finally:
            self._is_in_handler = False
        if result is not None:
            return self._answer_nothing(p, result, slot, until_ms)
        if r[_PAYLOAD] and resource.formats and r[_CODE] < BAD_REQUEST:  # an error's payload is a diagnostic text
            self._label(p, r, resource)
        return self._reply(p, slot)

    def _label(self, p, r, resource):
        """Give the response the Content-Format that Accept chose, or the resource's first, unless it has one."""
        if p[_SEEN] & 1 << _ACCEPT or r[_END]:
            if _find(r, _CONTENT_FORMAT) < 0:
                is_chosen = p[_SEEN] & 1 << _ACCEPT
                _add(r, _CONTENT_FORMAT, _uint_bytes(self._accepted(p) if is_chosen else resource.formats[0]))
        else:
            r[_DATA][:] = resource.content_format
            r[_END] = len(resource.content_format)
            r[_LAST] = _CONTENT_FORMAT

    def _take(self, result):
        """Put what a handler returned into the response."""
        response = self._response
        if isinstance(result, tuple):
            response.code, response.payload = result
        elif isinstance(result, int):
            response.code = result
        else:
            response.payload = result

    def _answer_nothing(self, p, result, slot, until_ms):
        """The empty ACK for NO_RESPONSE, and for LATER, which is noted; None for a NON."""
        if result is LATER:
            if len(self._pending) >= self._limits[2]:
                return self._refuse(p, SERVICE_UNAVAILABLE, slot)
            self._pending.append((p[_REMOTE], _token(p), p[_MID], until_ms, self._request.opt.no_response or 0))
        return self._remember(slot, self.empty(ACK, p[_MID])) if p[_MTYPE] == CON else None

    def _reply(self, p, slot):
        """The response as a datagram: an ACK, or a NON to a NON; remembered in `slot`."""
        r = self._response.packet
        payload = r[_PAYLOAD]
        start = p[_START]
        reply_len = start + r[_END] + len(payload) + 1
        if reply_len > self.datagram_len:
            if self.log:
                self.log("response too large", reply_len)
            return self._refuse(p, INTERNAL_SERVER_ERROR, slot)
        out = self._out
        out[:] = p[_DATA]  # the reply has the request's header and token but for type, code, in a NON message ID
        out[1] = r[_CODE]
        out[start:] = r[_DATA]
        if payload:
            out.append(0xFF)
            out[len(out) :] = payload
        if p[_MTYPE] == CON:
            out[0] |= ACK << 4
            return self._remember(slot, out)
        mid = self.reply_mid()
        out[2] = mid >> 8
        out[3] = mid & 255
        return out

    def reply_mid(self):
        """A message ID for a NON response."""
        self._reply_mid = self._reply_mid - 1 & 0xFFFF
        return self._reply_mid

    def empty(self, mtype, mid):
        """An empty message as a datagram, valid until the next reply."""
        out = self._out
        out[:] = b"\x40\0\0\0"
        out[0] |= mtype << 4
        out[2] = mid >> 8
        out[3] = mid & 255
        return out

    def _remember(self, slot, reply):
        """Keep the reply to a CON for its duplicates: a long one only where it must not be made again."""
        if slot >= 0:
            if len(reply) <= _REPLY_LEN:
                self._replies[slot][:] = reply
            elif slot >= self._recent:
                self._replies[slot] = bytearray(reply)
        return reply

    def answer(self, record, packed):
        """Send the datagram `packed` in answer to `record`, a ReceptionRecord, and to its duplicates."""
        self._answers.append((packed, record.remote))
        slot = record.slot
        if record.message.mtype == CON and slot >= 0:
            if self._mids[slot] == record.mid and self._peers[slot] == record.remote:
                self._remember(slot, packed)

    def acknowledge(self):
        """Acknowledge the request handed to the application last, if it is a CON that was left unanswered."""
        record = self.received
        if record is not None and not record.is_acknowledged and not record.has_responded:
            if record.message.mtype == CON:
                record.ack()
        self.received = None

    # -- receiving what is no request

    def _receive_other(self, p, peer, now_ms):
        """Take an empty message or a response; returns the ACK or Reset to send back, or None."""
        mid = p[_MID]
        is_con = p[_MTYPE] == CON
        if not p[_CODE]:
            if p[_MTYPE] >= ACK:
                self._receive_empty(p, peer, now_ms)
            return self.empty(RST, mid) if is_con else None  # a ping
        if p[_CODE] < 32 or p[_MTYPE] == RST:
            return None
        if is_con and self._find_kept(mid, peer, now_ms) >= 0:
            return self.empty(ACK, mid)
        record = self._requester(p, peer)
        if record is None:
            return self.empty(RST, mid) if is_con else None
        is_group = record.remote != peer
        if p[_SEEN] & _CRITICAL:
            if not is_group:
                self.end(record, Rejected)
            return self.empty(RST, mid) if is_con else None
        if is_group and (len(record.responses) >= self._limits[3] or _has_answered(record, peer)):
            return None
        self._deliver(record, p, peer, now_ms, None)
        if not is_con:
            return None
        self._keep(mid, peer, now_ms, self._until(now_ms, self.tuning.exchange_lifetime_ms))
        return self.empty(ACK, mid)

    def _receive_empty(self, p, peer, now_ms):
        """Take an empty ACK or a Reset: it must come from the peer and carry the ID of an unanswered message."""
        for record in self._open:
            if record.mid == p[_MID] and record.state == _SENT and record.remote == peer:
                if p[_MTYPE] == RST:
                    self._deliver(record, p, peer, now_ms, Reset)
                elif not record.is_non():
                    record.response_type = ACK
                    record.last_event_ms = now_ms
                    record.transmissions_left = 0
                    record.state = _ACKED
                    record.next_event_ms = ticks_add(record.transmitted_ms, record.timeout_ms)
                    if not record.is_request:
                        self.end(record, None)
                return

    def _requester(self, p, peer):
        """The open request that the response `p` answers: of this token, this peer or a group, for an ACK this ID."""
        for record in self._open:
            token = record.token
            if record.is_request and p[_START] == 4 + len(token) and p[_DATA].startswith(token, 4):
                if record.remote == peer or is_multicast(record.remote):
                    is_other = p[_MTYPE] == ACK and (p[_MID] != record.mid or record.is_non())
                    return None if is_other else record
        return None

    def _deliver(self, record, p, peer, now_ms, error):
        """Hand the message `p` to the application; it ends the exchange of `record`, unless that is with a group."""
        message = _view(list(p))
        message.request = record.message
        record.last_event_ms = now_ms
        if record.response_type is None:
            record.response_type = p[_MTYPE]
        self.received = ReceptionRecord(self, message, peer, record)
        record.responses += (self.received,)
        if record.response is None:
            record.response = self.received
        if record.remote == peer:
            self.end(record, error)

    # -- sending

    def send(self, message, remote=None, timeout_ms=None):
        """Queue `message` for `remote` (default: message.remote, which it becomes); returns its TransmissionRecord.

        A request gets a token if it has none. mtype None means CON, to a group NON. A request ends with a response,
        or after `timeout_ms` from its first transmission (default: MAX_TRANSMIT_WAIT of its tuning, 93 s). A
        response is one that a handler promised by LATER.
        Raises ValueError for a message that cannot be sent, Full if the queue is full. Allocates about 190 bytes
        on a board, and the datagram.
        """
        peer = message.remote if remote is None else remote
        mtype = message.mtype
        code = message.code
        token = message.token
        is_group = is_multicast(peer)
        if peer is None:
            raise ValueError("the message has no remote")
        if mtype is None:
            mtype = NON if is_group else CON
        if is_group and mtype == CON:
            raise ValueError("a group takes NON only (RFC 7252 section 8.1)")
        if mtype > NON or code is None or not code and (mtype == NON or _packed_len(message.packet, token) > 4):
            raise ValueError("send takes requests, responses and the empty CON; for ACK and RST see ReceptionRecord")
        message.remote = peer
        if code < 64:
            return self.enqueue(message, peer, mtype, token or (self.random(8) if code else b""), timeout_ms)
        for entry in self._pending:
            if entry[1] == token and entry[0] == peer:
                record = self.enqueue(message, peer, mtype, token, timeout_ms)
                self._pending.remove(entry)
                if entry[4] >> (code >> 5) - 1 & 1:  # the request does not want it
                    self.end(record, None)
                return record
        raise ValueError("no request with this remote and token awaits a response")

    def enqueue(self, message, peer, mtype, token, timeout_ms):
        """Queue `message` with type and token as given; returns its TransmissionRecord. Raises as send."""
        if len(self._queue) >= self._limits[1]:
            raise Full("%d messages are queued; see Endpoint(queued=...)" % len(self._queue))
        packed_len = _packed_len(message.packet, token)
        if packed_len > self.datagram_len:
            raise ValueError("the message has %d bytes, datagram_len is %d" % (packed_len, self.datagram_len))
        packed = bytearray(4)
        _write(message.packet, packed, mtype, 0, token)
        record = TransmissionRecord(self, message, peer, packed, token, timeout_ms)
        self._queue.append(record)
        return record

    def end(self, record, error):
        """End the exchange of `record`, with an exception class as its error or None."""
        for records in (self._open, self._queue):
            if record in records:
                records.remove(record)
                record.is_unacknowledged = error is Timeout and record.response_type is None and not record.is_non()
                record.state = _ENDED
                record.next_event_ms = None
                record.error = error
                if self.on_end:
                    self.on_end(record)

    def due(self, now_ms):
        """The next datagram to send at `now_ms`, to the address in `peer`; None when there is no more."""
        if self._answers:
            packed, self.peer = self._answers.pop(0)
            return packed
        for record in self._open:
            if ticks_diff(now_ms, record.next_event_ms) >= 0:
                deadline_ms = ticks_add(record.transmitted_ms, record.timeout_ms)
                if record.transmissions_left and ticks_diff(now_ms, deadline_ms) < 0:
                    return self._transmit(record, now_ms)
                self.end(record, None if record.responses else Timeout)
                return self.due(now_ms)
        if self._queue:
            record = self._startable(now_ms)
            if record is not None:
                self._queue.remove(record)
                self._open.append(record)
                return self._transmit(record, now_ms)
        if self._sweep_ms is not None and ticks_diff(now_ms, self._sweep_ms) >= 0:
            self._sweep(now_ms)
        return None

    def _transmit(self, record, now_ms):
        """Note a transmission of `record` and when its next event is due; returns the datagram."""
        if record.state == _QUEUED:
            record.state = _SENT
            record.transmitted_ms = now_ms
            if record.mid is None:
                record.mid = self._take_mid(now_ms)
            record.packed[2] = record.mid >> 8
            record.packed[3] = record.mid & 255
            tuning = record.tuning
            spread_ms = tuning.ack_timeout_ms * (tuning.ack_random_percent - 100) // 100
            record.wait_ms = tuning.ack_timeout_ms + (_uint(self.random(2), 0, 2) * (spread_ms + 1) >> 16)
        else:
            record.wait_ms *= 2
        record.transmissions_left -= 1
        record.last_event_ms = now_ms
        left_ms = record.timeout_ms - ticks_diff(now_ms, record.transmitted_ms)
        record.next_event_ms = ticks_add(now_ms, left_ms if record.is_non() else min(record.wait_ms, left_ms))
        self.peer = record.remote
        if record.is_non() and not record.is_request:
            self.end(record, None)
        return record.packed

    def _take_mid(self, now_ms):
        """The next message ID; each goes out at most once in EXCHANGE_LIFETIME (RFC 7252 section 4.4)."""
        used = self._mids_used
        self._mids_free_ms[used >> 12] = self._until(now_ms, self.tuning.exchange_lifetime_ms)
        self._mids_used = used + 1 & 0xFFFF
        return self._first_mid + used & 0xFFFF

    def _startable(self, now_ms):
        """The first queued record that may go now: a slot and an ID free, its peer below NSTART; or None."""
        free_ms = None if self._mids_used & 0xFFF else self._mids_free_ms[self._mids_used >> 12]
        if len(self._open) < self._limits[0] and (free_ms is None or ticks_diff(now_ms, free_ms) >= 0):
            for record in self._queue:
                outstanding = 0
                for other in self._open:
                    outstanding += other.state == _SENT and other.remote == record.remote
                if outstanding < record.tuning.nstart or record.is_non() and not record.is_request:
                    return record
        return None

    def _sweep(self, now_ms):
        """Forget what is too old, and note when the next will be."""
        soonest_ms = _FAR_MS
        for slot in range(len(self._mids)):
            if self._mids[slot] >= 0:
                left_ms = ticks_diff(self._until_ms[slot], now_ms)
                if left_ms <= 0:
                    self._free(slot)
                else:
                    soonest_ms = min(soonest_ms, left_ms)
        for block in range(16):
            if self._mids_free_ms[block] is not None:
                left_ms = ticks_diff(self._mids_free_ms[block], now_ms)
                if left_ms <= 0:
                    self._mids_free_ms[block] = None
                else:
                    soonest_ms = min(soonest_ms, left_ms)
        self._pending = [entry for entry in self._pending if ticks_diff(entry[3], now_ms) > 0]
        for entry in self._pending:
            soonest_ms = min(soonest_ms, ticks_diff(entry[3], now_ms))
        self._sweep_ms = None if soonest_ms == _FAR_MS else ticks_add(now_ms, soonest_ms)

    def next_ms(self, now_ms):
        """Milliseconds until `due` has something to do, None if nothing is to come; next_event_reason says what."""
        if self._answers or self._queue and self._startable(now_ms) is not None:
            self.next_event_reason = "send"
            return 0
        soonest_ms = self.next_event_reason = None
        if self._sweep_ms is not None:
            soonest_ms = ticks_diff(self._sweep_ms, now_ms)
            self.next_event_reason = "forget duplicates"
        for record in self._open:
            left_ms = ticks_diff(record.next_event_ms, now_ms)
            if soonest_ms is None or left_ms < soonest_ms:
                soonest_ms = left_ms
                self.next_event_reason = "retransmit" if record.transmissions_left else "response timeout"
        return soonest_ms if soonest_ms is None or soonest_ms > 0 else 0


# ---- I/O ----

_ON_CPYTHON = sys.implementation.name == "cpython"
_BURST = const(16)  # datagrams that one process() handles at most
_ASK_MS = const(10)  # how often a transport is asked that cannot be polled
_REOPEN_MS = const(1000)
_HELD = const(8)  # records that wait for process() while request() blocks


def _random(n):
    """`n` bytes from the port's source of randomness."""
    return os.urandom(n)


def _sleep_ms(ms):
    if _ON_CPYTHON:
        time.sleep(ms / 1000)
    else:
        time.sleep_ms(ms)


class Endpoint(Engine):
    """A CoAP endpoint on a UDP socket, client and server: the Engine and what reads, writes and waits.

    Endpoint(port=None, host="0.0.0.0", family=None, sock=None, **tables)

      port    UDP port to serve, usually 5683; None for a client: any
      host    address to bind, a number: "0.0.0.0" for all (an empty one receives nothing on a Pico W)
      family  socket.AF_INET or AF_INET6; default: as `host`
      sock    a bound socket or a transport to use instead: sendto(data, peer), and recvfrom(n), which returns
              (bytes, peer) or None and never blocks

    The tables have a fixed size; each is an argument. With these sizes an endpoint takes 5.5 KB on a 32 bit board;
    a slot's price is in bytes there (make size), that of an address some 60 more where one is held:

      transmissions   4    messages sent and not yet answered; 250 each in use, and the datagram
      queued          8    messages waiting for their turn; more: send raises Full; 190 in use, and the datagram
      recent          16   duplicates of GET and FETCH known; an older one is executed again; 68, and an address
      kept            32   duplicates of other methods, known for 247 s; full: 5.03, to a NON silence; 68, an address,
                           and a reply of more than 32 bytes
      kept_per_host   8    of them for one address; more: its oldest is forgotten
      pending         4    responses promised by LATER; more: 5.03; 80 in use, and an address
      group_responses 16   responses to one request to a group; more are ignored; 250 in use, and the datagram
      datagram_len    1152 longest datagram in bytes; a longer request is answered 4.13; 1 each
      tuning               Tuning of all messages that have none of their own; 80

    `log`, if set, is called as log(text, value) when a handler raised or a datagram could not be sent; `on_end`, if
    set, with each TransmissionRecord that has ended: answered, given up or cancelled.
    Raises OSError if the port is taken.
    """

    def __init__(self, port=None, host="0.0.0.0", family=None, sock=None, random=_random, **tables):
        super().__init__(random, **tables)
        self._names = {}  # "host:port" -> address, as resolved
        self._held = []
        self._asked = []  # transports that cannot be polled
        self._polled = []
        self._poller = None if _ON_CPYTHON or not select else select.poll()
        self._groups = []  # sockets registered as receiving for a group
        self._bound_to = None
        self._reopened_ms = None
        # An empty datagram makes an ESP32's socket deaf: https://github.com/micropython/micropython-lib/issues/736
        self.reopens_on_empty = sys.platform == "esp32"
        if family is None and socket:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._family = family
        if sock is not None:
            self.reopens_on_empty = False
        elif socket is None:
            raise ValueError("this firmware has no sockets; give Endpoint a transport: sock=...")
        else:
            if port is not None:
                self._bound_to = self._look_up(host, port)
            sock = self._open_socket()
        self.socket = sock
        self.register_socket(sock)

    def _open_socket(self):
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            if self._bound_to is not None:
                sock.bind(self._bound_to)
        except OSError:
            sock.close()
            raise
        return sock

    def resolve(self, remote):
        """The address of "host[:port]", looked up once (blocking); an address is returned as it is.

        Raises OSError if the name is not known, ValueError if `remote` is no host.
        """
        if not isinstance(remote, str):
            return remote
        address = self._names.get(remote)
        if address is None:
            host, port = _split_authority(remote)
            address = self._look_up(host.strip("[]"), port or 5683)
            if len(self._names) >= _HELD:
                self._names.clear()
            self._names[remote] = address
        return address

    def _look_up(self, host, port):
        """The address of `host` in the form that this port's sockets take; raises OSError."""
        entries = socket.getaddrinfo(host, port)  # with more arguments a Pico W prints a warning
        fitting = [entry[-1] for entry in entries if entry[0] == self._family]
        if not fitting and _ON_CPYTHON:
            raise OSError(host + " has no address of the socket's family")
        address = fitting[0] if fitting else entries[0][-1]  # a Pico W calls all of them AF_INET
        return bytes(address) if isinstance(address, bytearray) else address  # the unix port's cannot be hashed

    def register_socket(self, sock, is_group=False):
        """Receive from `sock` too, to which groups send if `is_group`; answers leave from `socket`."""
        if is_group:
            self._groups.append(sock)
        if _ON_CPYTHON:
            (self._polled if hasattr(sock, "fileno") else self._asked).append(sock)
            return
        try:
            self._poller.register(sock, select.POLLIN)
            self._polled.append(sock)
        except (AttributeError, OSError, TypeError):  # nothing that can be polled
            self._asked.append(sock)

    def send(self, message, remote=None, timeout_ms=None):
        """Queue `message` for `remote`, "host[:port]" or an address; see Engine.send. process() sends it."""
        if message.packet[_SCHEME] == "coaps" and not getattr(self.socket, "is_secure", False):
            raise ValueError("coaps needs a transport with DTLS")
        return super().send(message, self.resolve(message.remote if remote is None else remote), timeout_ms)

    def process(self, timeout_ms=None):
        """Send what is due and handle datagrams; returns the ReceptionRecord of one for the application, or None.

        Returns at the first such record, after `timeout_ms` (0: at once, None: never), or after 16 datagrams if
        there is a timeout. For the application are: a response or Reset to what send() sent, and, on an endpoint
        without resources, every request. Requests that resources serve come back as None.
        Raises RuntimeError inside a handler.
        """
        if self._is_in_handler:
            raise RuntimeError("inside a handler use send, or return LATER")
        if self.received is not None:
            self.acknowledge()
        if self._held:
            return self._held.pop(0)
        if self._open and self._receive_ready(0) and self.received is not None:
            return self.received  # read first: an ACK that waits in the socket saves a retransmission
        begin_ms = now_ms = ticks_ms()
        wait_ms = _FAR_MS if timeout_ms is None else timeout_ms
        left = _BURST
        while True:
            if self._turn(now_ms, wait_ms):
                if self.received is not None:
                    return self.received
                left -= 1
                if not left and timeout_ms is not None:
                    return None
            elif not wait_ms:
                return None
            now_ms = ticks_ms()
            if timeout_ms is not None:
                wait_ms = timeout_ms - ticks_diff(now_ms, begin_ms)
                if wait_ms < 0:
                    wait_ms = 0

    def _turn(self, now_ms, wait_ms):
        """Send what is due, wait until the next event at most for a datagram, handle it; whether one came."""
        left_ms = _FAR_MS if self._sweep_ms is None else ticks_diff(self._sweep_ms, now_ms)
        if self._open or self._queue or self._answers or left_ms <= 0:
            exchanges = len(self._open) + len(self._queue)
            packed = self.due(now_ms)
            while packed is not None:
                self._send_datagram(packed, self.peer)
                packed = self.due(now_ms)
            if len(self._open) + len(self._queue) < exchanges:
                wait_ms = 0  # one has ended, and somebody may wait for that
            left_ms = self.next_ms(now_ms)
        if left_ms is not None and left_ms < wait_ms:
            wait_ms = left_ms
        if self.socket is None:
            self._reopen()
            wait_ms = min(wait_ms, _REOPEN_MS)
        return self._receive_ready(wait_ms)

    def _receive_ready(self, wait_ms):
        """Handle a datagram of each socket that can be read, at the latest after `wait_ms`; whether one came.

        If one is for the application, the other sockets wait.
        """
        has_come = False
        for transport in self._asked:
            if self._receive_from(transport):
                has_come = True
                if self.received is not None:
                    return True
        if self._asked:
            wait_ms = 0 if has_come else min(wait_ms, _ASK_MS)
        if not self._polled:
            _sleep_ms(wait_ms)
            return has_come
        for ready in self._wait(wait_ms):
            if self._receive_from(ready if _ON_CPYTHON else ready[0]):
                has_come = True
                if self.received is not None:
                    break
        return has_come

    def _wait(self, wait_ms):
        """The sockets that can be read, at the latest after `wait_ms`; on MicroPython as tuples that begin with it."""
        if _ON_CPYTHON:
            return select.select(self._polled, (), (), wait_ms / 1000)[0]
        return self._poller.ipoll(wait_ms)

    def _receive_from(self, sock):
        """Read one datagram, handle it and answer; whether there was one."""
        self.received = None
        try:
            got = sock.recvfrom(self.datagram_len + 1)
        except OSError:  # nothing there after all, or an ICMP error of what was sent
            return False
        if got is None:
            return False
        data, peer = got
        if data:
            reply = self.receive(data, peer, ticks_ms(), sock in self._groups)
            if reply is not None:
                self._send_datagram(reply, peer)
        elif self.reopens_on_empty:
            self._reopen()
        return True

    def _send_datagram(self, packed, peer):
        """Send; an error is a lost packet, for which retransmission is there."""
        if self.socket is None:
            return
        try:
            self.socket.sendto(packed, peer)
        except (OSError, TypeError, ValueError) as error:  # the latter two for an address the port does not take
            if self.log:
                self.log("not sent", error)

    def _reopen(self):
        """Replace the socket, at most once a second; None until it can be opened."""
        now_ms = ticks_ms()
        if self._reopened_ms is not None and 0 <= ticks_diff(now_ms, self._reopened_ms) < _REOPEN_MS:
            return
        self._reopened_ms = now_ms
        if self.socket is not None:
            self._forget(self.socket)
        self.socket = None
        try:
            self.socket = self._open_socket()
        except OSError as error:
            if self.log:
                self.log("socket not opened", error)
            return
        self.register_socket(self.socket)

    def _forget(self, sock):
        if sock in self._asked:
            self._asked.remove(sock)
        else:
            self._polled.remove(sock)
            if not _ON_CPYTHON:
                self._poller.unregister(sock)
        if hasattr(sock, "close"):
            sock.close()

    def next_event_ms(self):
        """How long the program may sleep before process() has something to do; None: until a datagram comes.

        `next_event_reason` says why.
        """
        return self.next_ms(ticks_ms())

    def request(self, method, uri, payload=b"", timeout_ms=None, **options):
        """Send a request and wait for the response, serving meanwhile; returns the response Message, any code.

        None is returned for a request that wants no response (no_response=26), once it has gone.

        method, uri, payload and options (fields, too: mtype=NON) as in Message; timeout_ms from its first
        transmission, default MAX_TRANSMIT_WAIT (93 s).
        Raises Timeout, Reset or Rejected, OSError if the name is not known, ValueError, RuntimeError in a handler.
        """
        if self._is_in_handler:
            raise RuntimeError("inside a handler use send, or return LATER")
        self.acknowledge()
        record = self.send(Message(method, uri=uri, payload=payload, **options), None, timeout_ms)
        try:
            while not record.is_done():
                if self._turn(ticks_ms(), _FAR_MS) and self.received is not None:
                    if self.received.pertains_to is not record:
                        self._hold(self.received)
        finally:
            if not record.is_done():
                record.cancel()
        if record.error:
            raise record.error(uri)
        return record.response and record.response.message

    def _hold(self, record):
        """Keep a record for the next process(); with no room left, a request is refused."""
        if len(self._held) < _HELD:
            self.acknowledge()
            self._held.append(record)
        elif record.pertains_to is None:
            record.respond(SERVICE_UNAVAILABLE, max_age=_RETRY_S)

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

    def close(self):
        """Close the sockets and end every open exchange with Closed."""
        for record in self._open + self._queue:
            self.end(record, Closed)
        for sock in self._polled + self._asked:
            self._forget(sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
