"""Prints what protection by OSCORE costs, as JSON: oscore.py ROUNDS, on CPython and MicroPython, also WebAssembly.

Engines only, no socket: a GET with a path of two segments and a 2.05 with 6 bytes, both ends in this process.
`server_us` is receiving a request and answering it, `client_us` making one and taking its response; `context` is what
a security context keeps, `allocated` what a server allocates for an exchange (MicroPython). WebAssembly has no AES
and a coarse clock: of what it prints only `context` counts.
"""

import gc
import json
import sys
import time

import coap
import coap_oscore
import coap_oscore_keys

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
SERVER = ("192.0.2.1", 5683)
CLIENT = ("192.0.2.2", 40000)
SECRET = bytes(range(16))
ON_MICROPYTHON = sys.implementation.name == "micropython"


class Memory:
    """A store in RAM."""

    def __init__(self):
        self.number = 0

    def load(self):
        return self.number

    def save(self, number):
        self.number = number


def zeros(n):
    return bytes(n)


def now_us():
    return time.ticks_us() if ON_MICROPYTHON else time.perf_counter_ns() // 1000


def pair(is_protected):
    """A client and a server, engines."""
    server = coap.Engine(zeros)
    server.resource("sensors/temp", ct=coap.TEXT).get(lambda request, response: b"22.5 C")
    client = coap.Engine(zeros)
    if is_protected:
        coap_oscore.attach(server, [coap_oscore_keys.context(SECRET, b"s", b"c")], Memory())
        coap_oscore.attach(client, [coap_oscore_keys.context(SECRET, b"c", b"s", server=SERVER)], Memory())
    return client, server


def exchanges(is_protected):
    """[client us, server us, bytes of a request, of a response, bytes the server allocates], the least of ROUNDS."""
    client, server = pair(is_protected)
    found = None
    for _ in range(ROUNDS):
        gc.collect()
        if ON_MICROPYTHON:
            gc.disable()
        begin_us = now_us()
        record = client.send(coap.Message(coap.GET, uri_path=("sensors", "temp")), SERVER)
        request = bytes(client.due(0))
        sent_us = now_us()
        before = gc.mem_alloc() if ON_MICROPYTHON else 0
        begin_server_us = now_us()
        reply = server.receive(request, CLIENT, 0)
        served_us = now_us()
        allocated = gc.mem_alloc() - before if ON_MICROPYTHON else 0
        response = bytes(reply)
        copied_us = now_us()
        client.receive(response, SERVER, 0)
        end_us = now_us()
        gc.enable()
        if record.error or record.response.message.payload != b"22.5 C":
            raise AssertionError("no response")
        took = [
            end_us - copied_us + sent_us - begin_us,
            served_us - begin_server_us,
            len(request),
            len(response),
            allocated,
        ]
        found = took if found is None else [min(a, b) for a, b in zip(found, took)]
    return found


def figures(is_protected):
    names = ("client_us", "server_us", "request_bytes", "response_bytes", "allocated")
    return dict(zip(names, exchanges(is_protected)))


contexts = [coap_oscore_keys.context(SECRET, b"s", b"c")] * 21
before = 0
gc.collect()
before = gc.mem_alloc() if ON_MICROPYTHON else 0
for k in range(1, 21):
    contexts[k] = coap_oscore_keys.context(bytes((k,)) * 16, b"s", b"c")
gc.collect()
context_len = (gc.mem_alloc() - before) // 20 if ON_MICROPYTHON else 0
print(json.dumps({"plain": figures(False), "protected": figures(True), "context": context_len}))
