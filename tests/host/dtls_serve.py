"""A coaps server with our library for test_dtls_peers.py, on MicroPython.

    MICROPYPATH=lib micropython tests/host/dtls_serve.py PORT [SESSIONS [HANDSHAKES [HANDSHAKE_MS]]]

It knows the identity "sensor", and is known as "sensor" itself, with the key KEY; and ten more, "c0" to "c9".
"""

import gc
import json
import sys

import coap
import coap_block
import coap_dtls
import coap_observe

KEY = "0123456789abcdef"
LARGE = bytes([i * 7 % 251 for i in range(3000)])

numbers = [int(word) for word in sys.argv[2:]] + [4, 2, 15000][len(sys.argv) - 2 :]
keys = {"c%d" % n: KEY for n in range(10)}
keys["sensor"] = KEY
transport = coap_dtls.Transport(
    int(sys.argv[1]),
    "127.0.0.1",
    keys,
    "sensor",
    KEY,
    sessions=numbers[0],
    handshakes=numbers[1],
    handshake_ms=numbers[2],
)
endpoint = coap.Endpoint(sock=transport)
endpoint.log = print
coap_block.attach(endpoint)
coap_observe.attach(endpoint, interval_ms=1)
count = 0
stored = b""
waiting = []  # (our request, the promised response)


def read_who(request, response):
    return "%s %s" % (str(transport.identity(request.remote), "utf-8"), request.get_request_uri())


def read_count(request, response):
    return str(count)


def add(request, response):
    global count
    count += 1
    endpoint.notify("count")
    return coap.CHANGED, str(count)


def read_stored(request, response):
    return stored


def store(request, response):
    global stored
    stored = request.payload


def ask_back(request, response):
    """Asks the sender's address, in a session of our own, and answers with that answer."""
    later = response.copy()
    raw = bytes(request.remote[:8]) + bytes(8)
    record = endpoint.send(coap.Message(coap.GET, uri_path=("mine",)), raw, 5000)
    waiting.append((record, later))
    return coap.LATER


def read_state(request, response):
    gc.collect()
    state = {"heap": gc.mem_alloc(), "count": count}
    state["open"] = sum([session.is_open for session in transport._sessions])
    state["half_open"] = len(transport._sessions) - state["open"]
    return json.dumps(state)


endpoint.resource("who", ct=coap.TEXT, secure=True).get(read_who)
counter = endpoint.resource("count", ct=coap.TEXT, obs=True)
counter.get(read_count)
counter.put(add)
endpoint.resource("large", ct=coap.OCTETS).get(lambda request, response: LARGE)
store_resource = endpoint.resource("stored", ct=coap.OCTETS)
store_resource.get(read_stored)
store_resource.put(store)
endpoint.resource("back").post(ask_back)
endpoint.resource("state", ct=coap.JSON).get(read_state)
print("serving")

while True:
    endpoint.process(100)
    for record, later in list(waiting):
        if record.is_done():
            waiting.remove((record, later))
            later.payload = record.response.message.payload if record.response else record.error.__name__
            endpoint.send(later)
