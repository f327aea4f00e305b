"""Prints how many messages a second our codec does, as JSON: codec.py N; CPython and MicroPython.

index   the datagrams of the corpus, into a kept Message
write   the messages of the corpus, into a kept buffer
decode  the datagrams of the corpus by Message.decode, then code, token, path, query and payload are read
build   a GET with a path of two segments and Accept, from its constructor to its datagram
engine  a GET answered by Engine.receive, without a socket: 5 bytes of text, each with a message ID of its own
"""

import json
import sys
import time

import representative

import coap

# CPU time: neither the sleep nor the work of others counts. On MicroPython in milliseconds: N makes them enough.
seconds = time.clock if hasattr(time, "clock") else time.process_time


def index(n, message):
    for _ in range(n):
        for datagram in representative.DATAGRAMS:
            message.index(datagram)


def write(n, messages, buffer):
    for _ in range(n):
        for message in messages:
            message.write(buffer)


def decode(n):
    for _ in range(n):
        for datagram in representative.DATAGRAMS:
            m = coap.Message.decode(datagram)
            _ = m.code, m.token, m.opt.uri_path, m.opt.uri_query, m.payload


def build(n):
    for _ in range(n):
        coap.Message(coap.GET, mtype=0, mid=7, token=b"toke", uri_path=("sensors", "temp"), accept=50).encode()


def server():
    """An engine with a resource whose payload does not change."""
    engine = coap.Engine(lambda n: b"\0" * n)
    temperature = engine.resource("temp", ct=coap.TEXT)

    @temperature.get
    def read(request, response):
        response.payload = b"22.5C"

    return engine


def receive(n, engine, requests, peer):
    for _ in range(n):
        for request in requests:
            engine.receive(request, peer, 1000)


def per_second(count, function, *args):
    begin = seconds()
    function(*args)
    return count / max(seconds() - begin, 1e-6)  # a clock may stand still for so few as in a test


def sendable(datagram):
    """A message to be written that has the datagram's content."""
    m = coap.Message.decode(datagram)
    made = coap.Message(m.code, mtype=m.mtype, mid=m.mid, token=m.token, payload=bytes(m.payload))
    for number, value in m.options:
        made.add_option(number, value)
    if made.encode() != datagram:
        raise ValueError("the codec changes " + repr(datagram))
    return made


n = int(sys.argv[1])
requests = [coap.Message(coap.GET, mtype=0, mid=mid, token=b"tk", uri_path=("temp",)).encode() for mid in range(64)]
messages = [sendable(datagram) for datagram in representative.DATAGRAMS]
size = len(representative.DATAGRAMS)
print(
    json.dumps(
        {
            "index": per_second(n * size, index, n, coap.Message()),
            "write": per_second(n * size, write, n, messages, bytearray(1152)),
            "decode": per_second(n // 4 * size, decode, n // 4),
            "build": per_second(n * 2, build, n * 2),
            "engine": per_second(n // 20 * 64, receive, n // 20, server(), requests, ("192.0.2.1", 5683)),
        }
    )
)
