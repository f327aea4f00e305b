"""Keys for coap_oscore (RFC 8613 section 3.2): contexts from secrets, or from a file that a person writes.

    [
      {
        "secret": "0102030405060708090a0b0c0d0e0f10",
        "salt": "9e7ca92223786340",
        "sender_id": "01",
        "recipient_id": "",
        "server": "192.0.2.1"
      }
    ]

The fields are those of context(), bytes as hexadecimal digits; secret, sender_id and recipient_id must be there. The
other endpoint has the two IDs the other way round. Whoever has the file has the keys.

This is needed at the start only: coap_oscore.attach imports it when it is given the name of such a file, and lets
its memory go afterwards.
"""

from hashlib import sha256

from coap_oscore import Context

_FIELDS = ("secret", "salt", "sender_id", "recipient_id", "id_context", "server")


def _hmac(key, data):
    """HMAC-SHA-256 (RFC 2104); `key` has up to 64 bytes."""
    key = key + bytes(64 - len(key))
    inner = sha256(bytes([b ^ 0x36 for b in key]) + data).digest()
    return sha256(bytes([b ^ 0x5C for b in key]) + inner).digest()


def _bstr(value):
    """`value`, bytes or None, as a byte string or null of CBOR."""
    if value is None:
        return b"\xf6"
    head = bytes((0x40 | len(value),)) if len(value) < 24 else bytes((0x58, len(value)))
    return head + value


def _derive(pseudorandom_key, name_id, id_context, kind, length):
    """HKDF-Expand for a key or the Common IV (section 3.2.1); `kind` is "Key" or "IV"."""
    # CBOR: [id, id_context, 10 for AES-CCM-16-64-128, "Key" or "IV", length]
    info = b"\x85" + _bstr(name_id) + _bstr(id_context) + b"\x0a" + bytes((0x60 | len(kind),)) + kind.encode()
    return _hmac(pseudorandom_key, info + bytes((length, 1)))[:length]


def _check_len(what, value, lowest, highest):
    """Raise TypeError or ValueError unless `value` is bytes of that length."""
    if not isinstance(value, bytes):
        raise TypeError("%s is bytes" % what)
    if not lowest <= len(value) <= highest:
        raise ValueError("%s has %d to %d bytes, not %d" % (what, lowest, highest, len(value)))


def context(secret, sender_id, recipient_id, salt=b"", id_context=None, server=None):
    """The coap_oscore.Context of what this endpoint and one other share.

      secret        Master Secret, 16 to 64 random bytes
      sender_id     what this endpoint is called, 0 to 7 bytes; the other has the two IDs the other way round
      recipient_id  what the other is called, 0 to 7 bytes, not the same
      salt          Master Salt, up to 64 bytes
      id_context    ID Context, up to 64 bytes, or None
      server        "host[:port]" or an address: requests that go there are protected with it; None: none are

    Raises ValueError or TypeError. The secret is not kept.
    """
    _check_len("secret", secret, 16, 64)
    _check_len("salt", salt, 0, 64)
    _check_len("sender_id", sender_id, 0, 7)
    _check_len("recipient_id", recipient_id, 0, 7)
    if id_context is not None:
        _check_len("id_context", id_context, 0, 64)
    if sender_id == recipient_id:
        raise ValueError("sender_id and recipient_id must differ")
    key = _hmac(salt, secret)
    sender_key = _derive(key, sender_id, id_context, "Key", 16)
    recipient_key = _derive(key, recipient_id, id_context, "Key", 16)
    common_iv = _derive(key, b"", id_context, "IV", 13)
    return Context(sender_id, recipient_id, id_context, server, sender_key, recipient_key, common_iv)


def load(path):
    """The Contexts in the JSON file `path`, a list.

    Raises ValueError with a sentence that names the line and shows no key, OSError if there is no such file.
    """
    import io
    import json

    try:
        with open(path) as file:
            text = file.read()
    except UnicodeError:
        raise ValueError("%s line 1: this is not text" % path) from None
    stream = io.StringIO(text)
    try:
        entries = json.load(stream)
    except ValueError as error:
        line = getattr(error, "lineno", None) or text[: stream.tell()].count("\n") + 1
        raise ValueError("%s line %d: this is not JSON" % (path, line)) from None
    contexts = []
    if not isinstance(entries, list) or not entries:
        raise ValueError("%s line 1: write a list of contexts, [{...}, {...}]" % path)
    for n, entry in enumerate(entries):
        try:
            contexts.append(_context_of(entry))
        except (TypeError, ValueError) as error:
            line = _line_of(text, n, str(error).split(" ")[0])
            raise ValueError("%s line %d: %s" % (path, line, error)) from None
    return contexts


def _context_of(entry):
    """The Context that the dict `entry` describes; raises TypeError or ValueError that begins with a field's name."""
    if not isinstance(entry, dict):
        raise ValueError("a context is written {...}")
    for name in entry:
        if name not in _FIELDS:
            raise ValueError("%s is no field; there are %s" % (name, ", ".join(_FIELDS)))
    for name in ("secret", "sender_id", "recipient_id"):
        if name not in entry:
            raise ValueError("%s is missing" % name)
    values = {name: _unhex(name, entry[name]) for name in entry if name != "server" and entry[name] is not None}
    server = entry.get("server")
    if server is not None and not isinstance(server, str):
        raise ValueError('server is "host" or "host:port"')
    return context(server=server, **values)


def _unhex(name, text):
    """The bytes that `text` writes in hexadecimal digits."""
    from binascii import unhexlify

    try:
        return unhexlify(text.encode())
    except (AttributeError, ValueError):
        raise ValueError("%s is an even number of hexadecimal digits in quotes" % name) from None


def _line_of(text, n, name):
    """The line of the field `name` in the n-th object of `text`, of the object if it is not there."""
    at = -1
    for _ in range(n + 1):
        at = text.find("{", at + 1)
    end = text.find("}", at)
    field_at = text.find('"%s"' % name, at, end if end >= 0 else len(text))
    return text[: max(0, at if field_at < 0 else field_at)].count("\n") + 1


def create(store):
    """Begin the sequence numbers of `store`, a coap_oscore.Store, with 0: for new keys and only for those.

    With the keys of before, numbers would come twice, and with them what was encrypted could be read. Raises
    ValueError if there is a number, OSError if it cannot be stored.
    """
    if store.numbers() != [None, None]:
        raise ValueError("there is a sequence number already, which only new keys may replace")
    store.save(0)
