"""A coaps client with our library for test_dtls_peers.py, on MicroPython.

    MICROPYPATH=lib micropython tests/host/dtls_ask.py IDENTITY KEY [PORT]

It sends from PORT of 127.0.0.1, else from any, and serves "mine" to IDENTITY with KEY there. Reads requests as
lines of JSON, {"uri": ..., "method": "get", "payload": "", "do": "ask", "timeout_ms": 5000}, all but uri may be left
out, and prints an answer for each as a line of JSON, {"code": ..., "payload": ...} or {"error": ...}. `do` may be

    ask        by the blocking call
    pair       two requests at once, each a NON; prints the answer to the second
    aio        the same request three times at once in asyncio
    observe    prints a line for each notification until its payload is "3"
"""

import asyncio
import json
import sys

import coap
import coap_aio
import coap_block
import coap_dtls
import coap_observe

METHODS = {"get": coap.GET, "post": coap.POST, "put": coap.PUT, "delete": coap.DELETE}
TUNING = coap.Tuning(ack_random_percent=100, nstart=2)

identity, key = sys.argv[1:3]
port = int(sys.argv[3]) if sys.argv[3:] else None
transport = coap_dtls.Transport(port, "127.0.0.1", {identity: key} if port else None, identity, key)
endpoint = coap.Endpoint(sock=transport, tuning=TUNING)
endpoint.log = lambda *words: print(*words, file=sys.stderr)
blocks = coap_block.attach(endpoint)
coap_observe.attach(endpoint)
endpoint.resource("mine").get(lambda request, response: "mine")


def show(message):
    """Prints a response."""
    code = "%d.%02d" % (message.code >> 5, message.code & 31)
    print(json.dumps({"code": code, "payload": message.payload.hex()}))


def ask(method, uri, payload, timeout_ms):
    return endpoint.request(METHODS[method], uri, payload, timeout_ms)


def pair(method, uri, payload, timeout_ms):
    messages = [coap.Message(METHODS[method], uri=uri, payload=payload, mtype=coap.NON) for _ in range(2)]
    records = [endpoint.send(message, timeout_ms=timeout_ms) for message in messages]
    for record in records:
        endpoint.wait(record)
        if record.error:
            raise record.error(uri)
    return records[1].response.message


async def ask_three(method, uri, payload, timeout_ms):
    aio = coap_aio.Aio(endpoint)
    return await asyncio.gather(*[aio.request(METHODS[method], uri, payload, timeout_ms) for _ in range(3)])


def aio(method, uri, payload, timeout_ms):
    return asyncio.run(ask_three(method, uri, payload, timeout_ms))[-1]


def observe(method, uri, payload, timeout_ms):
    heard = []

    def take(message):
        show(message)
        heard.append(message.payload)

    observation = coap_observe.observe(endpoint, uri, take)
    while not observation.is_done() and heard[-1:] != [b"3"]:
        endpoint.process(50)
    observation.cancel()
    endpoint.process(50)
    return None


for line in sys.stdin:
    fields = json.loads(line)
    function = {"ask": ask, "pair": pair, "aio": aio, "observe": observe}[fields.get("do", "ask")]
    payload = bytes.fromhex(fields.get("payload", ""))
    try:
        response = function(fields.get("method", "get"), fields["uri"], payload, fields.get("timeout_ms", 5000))
    except (coap.Error, OSError) as error:
        print(json.dumps({"error": type(error).__name__}))
        continue
    if response is not None:
        show(response)
endpoint.close()
