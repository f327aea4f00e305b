"""OSCORE (RFC 8613): requests and responses encrypted and authenticated end to end, for client and server.

    import coap, coap_oscore

    endpoint = coap.Endpoint(port=5683)
    coap_oscore.attach(endpoint, "oscore.json", "oscore.seq")
    door = endpoint.resource("door", secure=True)

`oscore.json` is written by a person, see coap_oscore_keys. `oscore.seq` keeps our sequence numbers over restarts; it is
made once, with new keys: `coap_oscore_keys.create(coap_oscore.FileStore("oscore.seq"))`.

Requests to a context's `server` leave protected, all others as they are, unless attach(secure=True): then they do not
leave. `server` is looked up once: where a name may lead elsewhere one day, give secure=True. Resources answer protected
requests protected. A client of servers that may restart attaches coap_echo as well: after a restart a server asks who
is there before it accepts anything (Appendix B.1.2). NON requests that want no response (RFC 7967) never hear of that:
now and then send one that does.

AES-CCM-16-64-128 and HKDF-SHA-256. AES comes from `cryptolib`, on CPython from the package `cryptography`, else
from coap_aes. Not here: outer block-wise transfers that a proxy makes, Appendix B.2, Group OSCORE.
"""

import os
import sys
from hashlib import sha256

import coap

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


# Names of the module, for MicroPython looks for a builtin there first, and takes long where there is none
bytearray, bytes, getattr, int, len = bytearray, bytes, getattr, int, len

AESCCM = None
try:
    from cryptolib import aes
except ImportError:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESCCM
    except ImportError:
        from coap_aes import aes

# Slots of a packet, see coap.py. A protected request has its Exchange in _REQUEST, which requests do not use.
_DATA = const(0)
_START = const(1)
_END = const(2)
_CODE = const(3)
_PAYLOAD = const(7)
_SEEN = const(8)
_STOP = const(13)
_LAST = const(14)
_REMOTE = const(15)
_REQUEST = const(16)

_OBSERVE = const(6)
_OSCORE = const(9)
_ECHO = const(252)
_PROXY_URI = const(35)
_HAS_OBSERVE = const(1 << 6)
_HAS_OSCORE = const(1 << 9)
_MALFORMED_CRITICAL = const(1)
_HAS_NO_RESPONSE = const(1 << 2)
_OUTER = (3, 7, 16, 39)  # Uri-Host, Uri-Port, Hop-Limit, Proxy-Scheme: class U (section 4.1, RFC 8768)
_MAY_HAVE_OUTER = const(1 << 3 | 1 << 7 | 1 << 16 | 1 << 29)

_TAG_LEN = const(8)
_NONCE_LEN = const(13)
_LAST_NUMBER = const((1 << 40) - 1)  # section 7.2.1
_WINDOW = const(32)  # section 3.2.2
_ECHO_LEN = const(8)
_PARKED = const(3)  # state of a record: an observation
_OVERHEAD_LEN = const(48)  # at most of a response: header, token, outer options, tag

# Answers to what is not accepted (sections 7.4 and 8.2): code, and a text for people
_UNDECODABLE = const(1)
_NO_CONTEXT = const(2)
_REPLAYED = const(3)
_FORGED = const(4)
_UNPROTECTED = const(5)
_TOKEN_IN_USE = const(6)
_CHALLENGED = const(7)
_REFUSALS = (
    None,
    (coap.BAD_OPTION, b"Failed to decode COSE"),
    (coap.UNAUTHORIZED, b"Security context not found"),
    (coap.UNAUTHORIZED, b"Replay detected"),
    (coap.BAD_REQUEST, b"Decryption failed"),
    (coap.UNAUTHORIZED, b"OSCORE needed"),
    (coap.BAD_REQUEST, b"Token in use"),
    (coap.UNAUTHORIZED, b""),
)

# The values of coap.py: MicroPython would look coap.GET up at each use
_POST = const(2)
_FETCH = const(5)
_CHANGED = const(68)
_CONTENT = const(69)
_BAD_REQUEST = const(128)
_INTERNAL_SERVER_ERROR = const(160)
_CONSUMED = const(2)


class Unprotected(coap.Error):
    """The answer to a protected request was not protected: an error of the server's OSCORE, or a forgery.

    It is there as record.unprotected, a Message.
    """


class Exhausted(coap.Full):
    """There is no sequence number: all 2**40 are used (section 7.2.1), or the store cannot be written."""


# ---- cryptography ----


def _bstr(value):
    """`value`, up to 23 bytes, as a byte string of CBOR."""
    return bytes((0x40 | len(value),)) + value


def _aad(kid, piv):
    """The additional authenticated data of a request and of its responses (section 5.4)."""
    # CBOR: [1, [10], kid, piv, h'']: version, AES-CCM-16-64-128, no class I options; in ["Encrypt0", h'', external]
    external = b"\x85\x01\x81\x0a" + _bstr(kid) + _bstr(piv) + b"\x40"
    return b"\x83\x68Encrypt0\x40" + _bstr(external)


def _tag(key, nonce, aad, message):
    """The CBC-MAC of CCM (RFC 3610 section 2.2), not encrypted yet."""
    # 0x59: there is an aad, a tag of 8 bytes, and 2 bytes for the length
    blocks = b"\x59" + nonce + len(message).to_bytes(2, "big") + len(aad).to_bytes(2, "big") + aad
    blocks += bytes(-len(blocks) % 16)
    blocks = bytearray(blocks + message + bytes(-len(message) % 16))
    aes(key, 2, bytes(16)).encrypt(blocks, blocks)
    return blocks[-16 : _TAG_LEN - 16]


def _stream(key, nonce, length):
    """The key stream of CCM for `length` bytes (RFC 3610 section 2.3), behind the 16 bytes for the tag."""
    blocks = bytearray()
    for k in range(1 + (length + 15) // 16):
        blocks += b"\x01" + nonce + k.to_bytes(2, "big")
    aes(key, 1).encrypt(blocks, blocks)
    return blocks


def _xor(a, b):
    """The bytes `a` XOR the bytes `b`, of one length."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")


def _seal(key, nonce, aad, plaintext):
    """`plaintext` (1 byte and more) encrypted, and the tag, by AES-CCM-16-64-128."""
    if AESCCM:
        return AESCCM(key, tag_length=_TAG_LEN).encrypt(nonce, bytes(plaintext), aad)
    stream = _stream(key, nonce, len(plaintext))
    tag = _xor(_tag(key, nonce, aad, plaintext), stream[:_TAG_LEN])
    return _xor(plaintext, stream[16 : 16 + len(plaintext)]) + tag


def _open(key, nonce, aad, sealed):
    """The plaintext in `sealed`, None if it is not authentic."""
    length = len(sealed) - _TAG_LEN
    if length < 1:
        return None
    if AESCCM:
        try:
            return AESCCM(key, tag_length=_TAG_LEN).decrypt(nonce, sealed, aad)
        except InvalidTag:
            return None
    stream = _stream(key, nonce, length)
    plaintext = _xor(sealed[:length], stream[16 : 16 + length])
    wanted = _xor(_tag(key, nonce, aad, plaintext), stream[:_TAG_LEN])
    differing = 0
    for k in range(_TAG_LEN):  # all of them: the time must not tell where they differ
        differing |= wanted[k] ^ sealed[length + k]
    return None if differing else plaintext


# ---- security contexts ----


class Context:
    """A security context: what this endpoint and one other share (section 3). coap_oscore_keys.context makes it.

    sender_id, recipient_id   what this endpoint is called, and the other: 0 to 7 bytes, not the same
    id_context                bytes or None
    server                    "host[:port]" or an address: requests that go there are protected with it; None: none are
    sender_key, recipient_key 16 bytes; nothing here shows them
    """

    echo = None  # the Echo that the other has to repeat after a restart of ours
    # the highest number of a request that came without; it is repeated with another, so this must not be accepted later
    asked = -1
    highest = None  # the highest number accepted; -1: none yet; None: unknown, after a restart
    seen = 0  # bit n: highest - n was accepted

    def __init__(self, sender_id, recipient_id, id_context, server, sender_key, recipient_key, common_iv):
        self.sender_id = sender_id
        self.recipient_id = recipient_id
        self.id_context = id_context
        self.server = server
        self.sender_key = sender_key
        self.recipient_key = recipient_key
        iv = int.from_bytes(common_iv, "big")
        self.sender_iv = iv ^ len(sender_id) << 96 ^ int.from_bytes(sender_id, "big") << 40
        self.recipient_iv = iv ^ len(recipient_id) << 96 ^ int.from_bytes(recipient_id, "big") << 40

    def sender_nonce(self, number):
        """The nonce of our number (section 5.2)."""
        return (self.sender_iv ^ number).to_bytes(_NONCE_LEN, "big")

    def recipient_nonce(self, number):
        """The nonce of the other's number."""
        return (self.recipient_iv ^ number).to_bytes(_NONCE_LEN, "big")

    def is_replay(self, number):
        """Whether `number` was accepted, or is too old to tell (section 7.4)."""
        if self.highest is None or number > self.highest:
            return False
        age = self.highest - number
        return age >= _WINDOW or self.seen >> age & 1 != 0

    def accept(self, number):
        """Note that `number` was accepted; the first one after a restart is the lower limit (Appendix B.1.2)."""
        if self.highest is None:
            self.seen = (1 << _WINDOW) - 1
        elif number > self.highest:
            step = number - self.highest
            self.seen = (self.seen << step if step < _WINDOW else 0) & (1 << _WINDOW) - 1 | 1
        else:
            self.seen |= 1 << self.highest - number
            return
        self.highest = number


# ---- sequence numbers ----


class Store:
    """Keeps one number over restarts: two records, written in turn, so that one is whole at any time.

    A subclass has read(k), the bytes of record k, 0 or 1, any bytes if there is none, and write(k, record), which
    returns when the 16 bytes are in the memory for good; it may raise OSError. Anything with load() and save(number)
    serves as a store. RFC 8613 Appendix B.1.1: a memory that cannot promise this must not be used.
    """

    latest = 1  # the record that was written last

    def numbers(self):
        """What the two records hold, None if that is torn or missing."""
        numbers = []
        for k in (0, 1):
            record = bytes(self.read(k))
            number = int.from_bytes(record[:5], "big")
            numbers.append(number if record == _record(number) else None)
        return numbers

    def load(self):
        """The number saved last. Raises ValueError if there is none."""
        first, second = self.numbers()
        if first is None and second is None:
            raise ValueError("no sequence number is stored; with new keys, and only then, call coap_oscore_keys.create")
        self.latest = 0 if second is None or first is not None and first > second else 1
        return second if self.latest else first

    def save(self, number):
        """Keep `number`; raises OSError if it cannot be read back."""
        k = 1 - self.latest
        self.write(k, _record(number))
        if bytes(self.read(k)) != _record(number):
            raise OSError("the sequence number was not stored")
        self.latest = k


def _record(number):
    """The 16 bytes that keep `number`: 5 bytes, and 11 by which a torn record is told."""
    data = number.to_bytes(5, "big")
    return data + sha256(b"OSCORE" + data).digest()[:11]


class FileStore(Store):
    """A Store in two files, named `path` and 0 or 1."""

    def __init__(self, path):
        self.path = path

    def read(self, k):
        """The content of file `k`."""
        try:
            with open(self.path + str(k), "rb") as file:
                return file.read(17)
        except OSError:
            return b""

    def write(self, k, record):
        """Write file `k` and wait until it is stored."""
        with open(self.path + str(k), "wb") as file:
            file.write(record)
            file.flush()
            if hasattr(os, "fsync"):
                os.fsync(file.fileno())
        if hasattr(os, "sync") and not hasattr(os, "fsync"):  # MicroPython
            os.sync()


class Sequence:
    """Our sequence numbers, each given once whenever the power fails (Appendix B.1.1).

    One sequence serves all contexts. One write reserves `step` of them (K in the RFC). After a restart it goes on
    `step` (F in the RFC) behind the last number that was reserved, so that one write may have been lost.
    """

    def __init__(self, store, step=64):
        self.store = store
        self.step = step
        self.stored = stored = store.load()
        coap._check("the stored sequence number", stored, 0, _LAST_NUMBER)
        self.is_new = stored == 0  # no endpoint has used this store
        self.next = stored and stored + step
        self.limit = None  # numbers from here on are not reserved
        if self.is_new:
            self.reserve()

    def reserve(self):
        """Store how far the numbers may go; the first time of a run twice, as that write must not be lost.

        Raises OSError if that fails, or if another endpoint has stored a number there since.
        """
        stored = self.store.load()
        if self.stored is None:  # what failed may have been stored, or may be in a cache only: on as after a restart
            self.next = stored + self.step
            self.limit = None
        elif stored != self.stored:
            raise OSError("another endpoint uses the same store")
        limit = self.next + self.step
        number = min(limit, _LAST_NUMBER)
        self.stored = None
        self.store.save(number)
        if self.limit is None:
            self.store.save(number)
        self.stored = number
        self.limit = limit

    def take(self):
        """The next number. Raises Exhausted."""
        if self.limit is None or self.next >= self.limit:
            try:
                self.reserve()
            except (OSError, ValueError) as error:
                raise Exhausted("the sequence number cannot be stored: %s" % error) from None
        number = self.next
        if number > _LAST_NUMBER:
            raise Exhausted("all sequence numbers are used; install new keys")
        self.next = number + 1
        return number


def _partial_iv(number):
    """`number` as a Partial IV, 1 to 5 bytes (section 5)."""
    length = 1
    while number >> 8 * length:
        length += 1
    return number.to_bytes(length, "big")


# ---- messages ----


class Exchange:
    """What binds responses to their protected request (section 7.1); at the client and at the server.

    context, aad
    nonce    of the request; a server uses it for one response only, then it is None
    remote, token, data   at the server: whose request it is, and the request as it was decrypted
    number   at the client: the highest Partial IV of a response; -1: it had none; -2: none came yet
    """

    remote = token = data = None
    is_challenge = False  # the response asks for an Echo
    is_observed = False
    number = -2
    notifications = 0

    def __init__(self, context, aad, nonce):
        self.context = context
        self.aad = aad
        self.nonce = nonce


def _option_value(piv, kid=None, id_context=None):
    """The value of the OSCORE option (section 6.1)."""
    flags = len(piv) | (kid is not None) << 3 | (id_context is not None) << 4
    if not flags:
        return b""
    value = bytes((flags,)) + piv
    if id_context is not None:
        value += bytes((len(id_context),)) + id_context
    return value + kid if kid is not None else value


def _parse(p):
    """(Partial IV, kid, kid context) of the OSCORE option of `p`, None for each not there; None if malformed."""
    at = coap._find(p, _OSCORE)
    value = p[_DATA][at : p[_STOP]]
    if not value:
        return None, None, None
    flags = value[0]  # bits 0 to 2: length of the Partial IV; 3: there is a kid; 4: there is a kid context
    piv_len = flags & 7
    at = 1 + piv_len
    if flags & 0xE0 or piv_len > 5 or at > len(value):
        return None
    piv = value[1:at] if piv_len else None
    id_context = None
    if flags & 16:
        if at == len(value) or at + 1 + value[at] > len(value):
            return None
        id_context = value[at + 1 : at + 1 + value[at]]
        at += 1 + len(id_context)
    if flags & 8:
        return piv, value[at:], id_context
    return (piv, None, id_context) if at == len(value) else None


def _split(p, outer, is_response):
    """The plaintext of `p` (section 5.3): code, inner options, payload; outer options go into the packet `outer`."""
    plaintext = bytearray((p[_CODE],))
    before = 0
    for number, value in coap._raw_options(p):
        if number == _OSCORE or number == _PROXY_URI:
            raise ValueError("OSCORE takes no message with OSCORE or Proxy-Uri; write Proxy-Scheme and Uri-Host")
        if number in _OUTER or number == _OBSERVE:
            coap._add(outer, number, value)
        if number not in _OUTER:
            if number == _OBSERVE and is_response:
                value = b""  # section 4.1.3.5.2
            coap._put_header(plaintext, number - before, len(value))
            plaintext += value
            before = number
    payload = coap._payload(p)
    if payload:
        plaintext.append(0xFF)
        plaintext += payload
    return plaintext


def _join(p, plaintext):
    """The datagram of `p` with the code, the options and the payload in `plaintext`."""
    return p[_DATA][:1] + plaintext[:1] + p[_DATA][2 : p[_START]] + plaintext[1:]


def _edited(data, number, value):
    """The datagram `data` without its options `number`, or with one of this value, if that is not None."""
    message = coap.Message.decode(data)
    coap._remove(message.packet, number)
    if value is not None:
        coap._add(message.packet, number, value)
    return message.encode()


def _decrypt(p, context, aad, nonce, lowest_code, highest_code):
    """Make of the packet `p` what is protected in it; returns 0, or why that is refused: `p` is as it was."""
    received = p[_DATA]
    plaintext = _open(context.recipient_key, nonce, aad, coap._payload(p))
    if plaintext is None:
        return _FORGED
    outer = []
    if p[_SEEN] & _MAY_HAVE_OUTER and highest_code < 64:
        for pair in coap._raw_options(p):
            if pair[0] in _OUTER:
                outer.append(pair)
    data = _join(p, plaintext)
    if coap._index(p, data) < 0 and lowest_code <= p[_CODE] <= highest_code and not p[_SEEN] & _HAS_OSCORE:
        for number, value in outer:
            data = _edited(data, number, value)
        coap._index(p, data)
        return 0
    coap._index(p, received)
    return _UNDECODABLE


# ---- the extension ----


class Oscore:
    """What attach() returns: protects the requests and responses of an engine."""

    rank = 10
    understood = 1 << 9

    def __init__(self, engine, store, secure, observations, step):
        self.engine = engine
        self.sequence = Sequence(store, step)
        self.observations = observations
        self.contexts = []
        self._servers = {}  # address -> Context
        self._exchanges = []  # of requests that may still be answered
        self._refusal = 0  # why the request in hand is refused, see _REFUSALS
        self._needs_all = secure

    def add(self, context, is_new=False):
        """Use `context`, too; is_new: its keys are fresh, nothing was ever received with them. Returns it.

        Raises ValueError if there is one with the same keys or for a group, OSError if its server's name is not known.
        """
        for other in self.contexts:
            keys = (other.sender_key, other.recipient_key)
            if context.sender_key in keys or context.recipient_key in keys:
                raise ValueError("a context with these keys is there already: each needs a secret of its own")
        if context.server is not None:
            resolve = getattr(self.engine, "resolve", None)
            address = resolve(context.server) if resolve else context.server
            if address in self._servers:
                raise ValueError("a context for this server is there already")
            if coap.is_multicast(address):  # its members would answer with the same key and nonce
                raise ValueError("a context is for one server, and %s is a group" % (context.server,))
            self._servers[address] = context
        if is_new or self.sequence.is_new:
            context.highest = -1
        self.contexts.append(context)
        return context

    def context_of(self, request):
        """The Context with which `request`, which a handler is given, was protected; None: it was not.

        It is there as endpoint.context_of, too.
        """
        exchange = self._exchange_of(request.packet)
        return exchange and exchange.context

    # -- server

    def unwrap(self, request):
        """Hook: decrypt the request; returns the code with which it is refused, or None (section 8.2)."""
        p = request.packet
        p[_REQUEST] = None
        if self.engine._pending and self._is_promised(p[_REMOTE], coap._token(p)):
            # tokens are not protected: whoever can change them could have a response that was promised to one request
            # sent as that to another
            self._refusal = _TOKEN_IN_USE
        elif p[_SEEN] & _HAS_OSCORE:
            p[_SEEN] &= ~_HAS_NO_RESPONSE  # the outer one is ignored, section 4.1.3.6
            self._refusal = self._unwrap(p)
        elif self._needs_all:
            self._refusal = _UNPROTECTED
        else:
            self._refusal = _TOKEN_IN_USE if self._exchanges and self._is_taken(p, None) else 0
        if self._refusal:
            p[_SEEN] &= ~_HAS_OBSERVE  # it is not to end an observation with its token
            return _REFUSALS[self._refusal][0]
        return None

    def _unwrap(self, p):
        """Decrypt the request `p`; returns 0, or why it is refused."""
        header = None if p[_SEEN] & _MALFORMED_CRITICAL else _parse(p)
        if header is None or header[0] is None or header[1] is None:
            return _UNDECODABLE
        piv, kid, id_context = header
        refused = _NO_CONTEXT
        for context in self.contexts:
            if context.recipient_id == kid and (id_context is None or id_context == context.id_context):
                result = self._verify(p, context, piv)
                if not result or result == _CHALLENGED:
                    return result
                if refused != _REPLAYED:  # with the others it cannot be decrypted
                    refused = result
        return refused

    def _verify(self, p, context, piv):
        """Decrypt the request `p` with `context`; returns 0, or why it is refused."""
        number = int.from_bytes(piv, "big")
        if context.is_replay(number):
            return _REPLAYED
        if self._is_taken(p, context):
            return _TOKEN_IN_USE
        received = p[_DATA]
        exchange = Exchange(context, _aad(context.recipient_id, piv), context.recipient_nonce(number))
        refused = _decrypt(p, context, exchange.aad, exchange.nonce, 1, 31)
        if refused:
            return refused
        at = coap._find(p, _ECHO) if context.echo else -1
        has_echo = at >= 0 and p[_DATA][at : p[_STOP]] == context.echo
        if not has_echo and (context.highest is None or number <= context.asked):
            # ask who sent it to repeat it with an Echo (Appendix B.1.2)
            context.asked = max(context.asked, number)
            coap._index(p, received)
            p[_SEEN] &= ~_HAS_NO_RESPONSE
            context.echo = context.echo or self.engine.random(_ECHO_LEN)
            exchange.nonce = None  # the request may be a replay, its nonce used
            exchange.is_challenge = True
            exchange.data = p[_DATA]
            p[_REQUEST] = exchange
            return _CHALLENGED
        context.accept(number)
        if has_echo:
            coap._index(p, _edited(p[_DATA], _ECHO, None))
            for each in self.engine._extensions:
                if hasattr(each, "trust"):  # coap_echo need not ask again
                    each.trust(p[_REMOTE])
        self._hold(p, exchange)
        return 0

    def _hold(self, p, exchange):
        """Keep the exchange of the request `p` until it is answered; with no room the request is not observed."""
        is_full = len(self._exchanges) >= self.observations
        for each in list(self._exchanges):
            if (is_full or each.data is None) and not self._is_live(each):
                self._exchanges.remove(each)
        if p[_SEEN] & _HAS_OBSERVE and len(self._exchanges) >= self.observations:
            coap._index(p, _edited(p[_DATA], _OBSERVE, None))
        exchange.remote = p[_REMOTE]
        exchange.token = coap._token(p)
        exchange.data = p[_DATA]
        p[_REQUEST] = exchange
        self._exchanges.append(exchange)

    def _is_live(self, exchange):
        """Whether a response may still go out for `exchange`: it was promised, or is a notification."""
        if exchange.is_observed:
            observing = getattr(self.engine, "observing", None)  # of coap_observe
            return observing is None or observing.holds(exchange.remote, exchange.token)
        return self._is_promised(exchange.remote, exchange.token)

    def _is_taken(self, p, context):
        """Whether the request `p`, of `context` (None: not protected), has the token of an exchange of another context.

        Tokens are not protected: the answer to `p` would be encrypted as that to the other request.
        """
        for exchange in list(self._exchanges):
            if exchange.context is not context and exchange.remote == p[_REMOTE] and exchange.token == coap._token(p):
                if self._is_live(exchange):
                    return True
                self._exchanges.remove(exchange)
        return False

    def _is_promised(self, remote, token):
        """Whether a response is to follow to the request of this token, bytes."""
        for entry in self.engine._pending:
            if entry[1] == token and entry[0] == remote:
                return True
        return False

    def _exchange_of(self, p):
        """The exchange of the request `p`, None if that was not protected."""
        exchange = p[_REQUEST]
        if exchange is not None and exchange.data is p[_DATA]:
            return exchange
        for exchange in self._exchanges:
            if exchange.data is p[_DATA]:
                return exchange
        return None

    def _exchange_for(self, r):
        """The exchange that the separate response `r` answers, None if its request was not protected."""
        token = coap._token(r)
        for k in range(len(self._exchanges) - 1, -1, -1):
            exchange = self._exchanges[k]
            if exchange.token == token and exchange.remote == r[_REMOTE]:
                return exchange
        return None

    def response(self, request, response):
        """Hook: encrypt a response to a protected request (section 8.3)."""
        r = response.packet
        exchange = self._exchange_for(r) if request is None else self._exchange_of(request.packet)
        if exchange is None:
            if request is not None:
                self._leave_open(request.packet, response)
            return
        if request is not None:
            if not coap._unwanted(request.packet) >> (r[_CODE] >> 5) - 1 & 1:
                request.packet[_SEEN] &= ~_HAS_NO_RESPONSE  # what is inside decides, not the outer code
            elif not exchange.is_observed and coap._find(r, _OBSERVE) < 0:  # it will not leave
                _replace(r, coap.Message(r[_CODE]).packet)
                self._note(exchange, False)
                return
        self._protect(exchange, r)

    def _leave_open(self, p, response):
        """Leave the response unprotected; say in it why the request `p` was refused, if it was.

        Otherwise it must not tell anything of a secure resource: 5.00 takes its place.
        """
        r = response.packet
        refusal = _REFUSALS[self._refusal]
        if refusal and refusal[0] == r[_CODE]:
            response.opt.max_age = 0
            response.payload = refusal[1]
            self._refusal = 0
        elif p[_SEEN] & _HAS_OBSERVE and (r[_CODE] < _BAD_REQUEST or r[_PAYLOAD]):
            resource = self.engine._route(p)
            if resource and resource.is_secure:
                self._log("response not protected", "its exchange is forgotten")
                _replace(r, coap.Message(_INTERNAL_SERVER_ERROR).packet)

    def _protect(self, exchange, r):
        """Encrypt the response packet `r`; if that cannot be, an empty 5.00 takes its place."""
        if exchange.is_challenge:
            coap._add(r, _ECHO, exchange.context.echo)
        is_notification = coap._find(r, _OBSERVE) >= 0
        outer = coap.Message(_CONTENT if is_notification else _CHANGED).packet
        try:
            plaintext = _split(r, outer, True)
            if len(plaintext) + _OVERHEAD_LEN > self.engine.datagram_len:
                self._log("response too large", len(plaintext))
                plaintext = bytes((_INTERNAL_SERVER_ERROR,))
            piv = b""
            nonce = exchange.nonce
            if nonce is None:
                number = self.sequence.take()
                piv = _partial_iv(number)
                nonce = exchange.context.sender_nonce(number)
            exchange.nonce = None
            outer[_PAYLOAD] = _seal(exchange.context.sender_key, nonce, exchange.aad, plaintext)
            coap._add(outer, _OSCORE, _option_value(piv))
        except (Exhausted, MemoryError, ValueError) as error:
            if isinstance(error, MemoryError):
                if exchange.is_observed or self._is_promised(exchange.remote, exchange.token):
                    raise  # it can be sent once more
            self._log("response not protected", error)
            outer = coap.Message(_INTERNAL_SERVER_ERROR).packet
        _replace(r, outer)
        self._note(exchange, is_notification)

    def _note(self, exchange, is_notification):
        """Forget an exchange that was answered; one that is observed takes the place of that with the same token."""
        if not is_notification:
            if self._is_promised(exchange.remote, exchange.token):
                exchange.data = None  # the heap may have no room for the response: it must find this once more
            elif exchange in self._exchanges:
                self._exchanges.remove(exchange)
        elif not exchange.is_observed:
            for other in list(self._exchanges):
                if other.is_observed and other.token == exchange.token and other.remote == exchange.remote:
                    self._exchanges.remove(other)
            exchange.is_observed = True

    def _log(self, text, value):
        if self.engine.log:
            self.engine.log(text, value)

    # -- client

    def wrap(self, record, message):
        """Hook: the OSCORE message of a request to the server of a context (section 8.1); None of others.

        Raises ValueError for a request that cannot be protected, Exhausted.
        """
        context = self._servers.get(record.remote)
        if context is None:
            if self._needs_all:
                raise ValueError("no context has this server, and all is to be protected")
            return None
        is_observed = coap._find(message.packet, _OBSERVE) >= 0
        outer = coap.Message(_FETCH if is_observed else _POST)
        plaintext = _split(message.packet, outer.packet, False)
        number = self.sequence.take()
        piv = _partial_iv(number)
        exchange = Exchange(context, _aad(context.sender_id, piv), context.sender_nonce(number))
        exchange.is_observed = is_observed
        coap._add(outer.packet, _OSCORE, _option_value(piv, context.sender_id, context.id_context))
        outer.payload = _seal(context.sender_key, exchange.nonce, exchange.aad, plaintext)
        record.exchange = exchange
        return outer

    def incoming(self, record, message):
        """Hook: decrypt the response to a protected request (section 8.4); what is not authentic is dropped."""
        exchange = getattr(record, "exchange", None)
        p = message.packet
        is_protected = p[_SEEN] & _HAS_OSCORE != 0
        if exchange is None and not is_protected:
            return None
        if exchange is None or not is_protected:  # this ends the exchange, unless it is an observation
            if record.state != _PARKED:
                record.unprotected = message
                if exchange is None:
                    self.engine.end(record, coap.Rejected)
                elif message.code >= _BAD_REQUEST and record.on_end is None:
                    self.engine.deliver(record, message, Unprotected)
                else:
                    self.engine.end(record, Unprotected)
        elif not self._accept(exchange, p):
            self._log("response dropped that does not verify", message.remote)
        elif p[_SEEN] & self.engine._critical:
            self.engine.end(record, coap.Rejected)
        else:
            return None
        return _CONSUMED

    def _accept(self, exchange, p):
        """Decrypt the response `p`; returns False if it is to be dropped."""
        header = None if p[_SEEN] & _MALFORMED_CRITICAL else _parse(p)
        if header is None:
            return False
        number = -1
        nonce = exchange.nonce
        if header[0] is not None:
            number = int.from_bytes(header[0], "big")
            nonce = exchange.context.recipient_nonce(number)
        is_late = exchange.is_observed and number <= exchange.number
        if is_late or _decrypt(p, exchange.context, exchange.aad, nonce, 64, 191):
            return False
        if p[_SEEN] & _HAS_OBSERVE:
            if not exchange.is_observed:
                return False
            exchange.notifications += 1  # their order, section 4.1.3.5.2
            value = coap._uint_bytes(exchange.notifications & 0xFFFFFF)
            coap._index(p, _edited(p[_DATA], _OBSERVE, value))
        exchange.number = number
        return True


def _replace(r, other):
    """Put code, options and payload of the packet `other` into `r`."""
    if r[_START]:
        coap._own(r)
    r[_DATA][:] = other[_DATA]
    r[_END] = other[_END]
    r[_LAST] = other[_LAST]
    r[_CODE] = other[_CODE]
    r[_PAYLOAD] = other[_PAYLOAD]


def attach(engine, contexts, store, secure=False, observations=12, step=64):
    """Protect what `engine`, an Endpoint, sends and receives; returns the Oscore.

    contexts      a list of Contexts, or the path of a file that coap_oscore_keys.load reads; of this endpoint alone:
                  of two with the same keys each would encrypt with the other's numbers
    store         a Store, or the path of a FileStore, that coap_oscore_keys.create has begun once; of this alone, too
    secure        whether all requests must be protected, those received, for discovery, too, and those sent: what goes
                  to an address that no context has is a ValueError. Otherwise those for resources that say secure=True
    observations  observations and promised responses (LATER) of protected requests at a time; 150 bytes each. One more
                  is answered without being observed
    step          numbers that one write of the store reserves, 1 to 2**20; only requests, notifications and the first
                  responses after a restart take one. Not less than it was

    Raises ValueError, TypeError, OSError.
    """
    coap._check("observations", observations, 0, 4096)
    coap._check("step", step, 1, 1 << 20)
    if hasattr(engine, "context_of"):
        raise ValueError("coap_oscore is attached already; see Oscore.add")
    if isinstance(contexts, str):
        import coap_oscore_keys

        contexts = coap_oscore_keys.load(contexts)
        del sys.modules["coap_oscore_keys"]  # its memory is free again
    if isinstance(store, str):
        store = FileStore(store)
    oscore = Oscore(engine, store, secure, observations, step)
    for context in contexts:
        oscore.add(context)
    engine.attach(oscore)
    engine.overhead_len = _OVERHEAD_LEN
    engine.context_of = oscore.context_of  # coap_block asks: a body's blocks are all of one context
    if "wrap" not in engine.hooks:
        raise ValueError("this coap.py is too old for coap_oscore")
    return oscore
