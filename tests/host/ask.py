"""A client with our library for the interop tests, on CPython and MicroPython.

    PYTHONPATH=lib python tests/host/ask.py
    MICROPYPATH=lib micropython tests/host/ask.py

Reads a request from each line, as JSON, and prints the answer as a line of JSON; all from one endpoint.
request_line in peers.py says what the fields are.
"""

import json
import sys

import coap

METHODS = {"get": coap.GET, "post": coap.POST, "put": coap.PUT, "delete": coap.DELETE}
TYPES = ("CON", "NON", "ACK", "RST")
TIMEOUT_MS = 5000


def call(endpoint, method, uri, payload, **fields):
    """Sends by the blocking call."""
    return endpoint.request(METHODS[method], uri, payload, timeout_ms=TIMEOUT_MS, **fields)


def send(endpoint, options, method, uri, payload, **fields):
    """Sends by send and process, with options by number."""
    message = coap.Message(METHODS[method], uri=uri, payload=payload, **fields)
    for number, value in options:
        message.add_option(number, bytes.fromhex(value))
    record = endpoint.send(message, timeout_ms=TIMEOUT_MS)
    while not record.is_done():
        endpoint.process(100)
    if record.error:
        raise record.error(uri)
    return record.response.message


def ask(endpoint, options=(), **fields):
    """Sends the request that JSON described; returns the response Message."""
    fields["payload"] = bytes.fromhex(fields["payload"])
    fields["mtype"] = TYPES.index(fields["mtype"])
    return send(endpoint, options, **fields) if options else call(endpoint, **fields)


def describe(response):
    """The response as JSON."""
    fields = {
        "code": "%d.%02d" % (response.code >> 5, response.code & 31),
        "mtype": TYPES[response.mtype],
        "content_format": response.opt.content_format,
        "payload": response.payload.hex(),
    }
    return json.dumps(fields)


endpoint = coap.Endpoint()
for line in sys.stdin:
    print(describe(ask(endpoint, **json.loads(line))))
endpoint.close()
