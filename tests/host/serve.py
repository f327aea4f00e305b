"""A server with our library for the interop tests, on CPython and MicroPython.

    PYTHONPATH=lib python tests/host/serve.py PORT
    MICROPYPATH=lib micropython tests/host/serve.py PORT
"""

import sys

import coap

SLOW_MS = 200
# Options of every request that the resource "options" does not repeat: Uri-Host, Uri-Port, Uri-Path, Accept
ADDRESSING = (3, 7, 11, 17)

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
stored = endpoint.resource("t", ct=coap.TEXT)
counter = endpoint.resource("count", ct=coap.TEXT, rt="counter")
thermometer = endpoint.resource("sensors/temp", ct=(coap.TEXT, coap.JSON), rt="temperature", if_="sensor")
text = b"hello"
executions = 0
waiting = []  # (time in ticks, response) of what "slow" promised


@stored.get
def read_text(request, response):
    return text


@stored.put
def write_text(request, response):
    global text
    text = request.payload


@counter.get
def read_count(request, response):
    return str(executions)


def execute(request, response):
    """Counts its executions and gives back their number."""
    global executions
    executions += 1
    response.payload = str(executions)


for method in (coap.POST, coap.PUT, coap.DELETE):
    counter.on(method)(execute)


@thermometer.get
def temperature(request, response):
    return '{"celsius": 22.5}' if request.opt.accept == coap.JSON else "22.5"


def path(request, response):
    """Gives back the segments of the path, a line for each."""
    return "\n".join(request.opt.uri_path)


def query(request, response):
    """Gives back the Uri-Query options, a line for each."""
    return "\n".join(request.opt.uri_query)


def options(request, response):
    """Gives back the options as NUMBER=HEX, a line for each."""
    return "\n".join(["%d=%s" % (n, value.hex()) for n, value in request.options if n not in ADDRESSING])


def slow(request, response):
    """Answers after SLOW_MS with a separate response."""
    due_ms = coap.ticks_add(coap.ticks_ms(), SLOW_MS)
    waiting.append((due_ms, response.copy(payload="done", content_format=coap.TEXT)))
    return coap.LATER


def large(request, response):
    """1000 bytes."""
    return bytes([i % 251 for i in range(1000)])


for name in ("a/b/c", "e//f/", "\u00e4 \u00f6/+&=%"):
    endpoint.resource(name, ct=coap.TEXT).get(path)
endpoint.resource("query", ct=coap.TEXT).get(query)
endpoint.resource("options", ct=coap.TEXT).get(options)
endpoint.resource("slow", ct=coap.TEXT).get(slow)
endpoint.resource("large", ct=coap.OCTETS).get(large)


def send_due():
    """Sends the promised responses whose time has come."""
    while waiting and coap.ticks_diff(waiting[0][0], coap.ticks_ms()) <= 0:
        endpoint.send(waiting.pop(0)[1])


while True:
    endpoint.process(20)
    send_due()
