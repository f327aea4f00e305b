"""Prints how many messages a second CoAPthon3's codec does, as JSON: codec_coapthon.py N

index, write and decode are what codec.py explains; index is deserialize without reading, and write serializes messages
that it keeps. It does not know Request-Tag, an elective option: that message goes without it.
"""

import json
import logging
import sys

import representative
from coapthon.messages.message import Message
from coapthon.serializer import Serializer

logging.disable()


def index():
    for datagram in representative.DATAGRAMS:
        Serializer.deserialize(datagram, ("127.0.0.1", 5683))


def write():
    for message in messages:
        Serializer.serialize(message)


def decode():
    for datagram in representative.DATAGRAMS:
        m = Serializer.deserialize(datagram, ("127.0.0.1", 5683))
        _ = m.code, m.token, getattr(m, "uri_path", None), getattr(m, "uri_query", None), m.payload


n = int(sys.argv[1])
size = len(representative.DATAGRAMS)
messages = [Serializer.deserialize(datagram, ("127.0.0.1", 5683)) for datagram in representative.DATAGRAMS]
refused = [datagram for datagram, m in zip(representative.DATAGRAMS, messages) if not isinstance(m, Message)]
if refused:
    raise SystemExit(f"CoAPthon3 does not decode {refused}")
rates = {
    "index": representative.per_second(n, size, index),
    "write": representative.per_second(n, size, write),
    "decode": representative.per_second(n, size, decode),
}
print(json.dumps(rates))
