"""A server for the OSCORE plugtest, on CPython and MicroPython; aiocoap's plugtest-client runs against it.

    PYTHONPATH=lib python tests/host/oscore_serve.py PORT CONTEXTS STORE [lost]
    MICROPYPATH=lib micropython tests/host/oscore_serve.py PORT CONTEXTS STORE [lost]

CONTEXTS is the file of the server's contexts, STORE the path of a new store. With `lost` the server has run before,
and what it received then is forgotten: it demands an Echo first (RFC 8613 Appendix B.1.2).
"""

import sys

import coap
import coap_observe
import coap_oscore
import coap_oscore_keys

HELLO = "Hello World!"
STEP_MS = 500  # between the states of what is observed
STATES = ("one", "two", None)  # None: an error, which ends the observation

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
endpoint.log = print
store = coap_oscore.FileStore(sys.argv[3])
coap_oscore_keys.create(store)
if sys.argv[4:] == ["lost"]:
    store.save(1000)
coap_oscore.attach(endpoint, sys.argv[2], store)
coap_observe.attach(endpoint, interval_ms=1)
observed = {}  # path -> (number of the state, time of the next)


def hello(request, response):
    return HELLO


def hello_2(request, response):
    if request.opt.uri_query != ("first=1",):
        return coap.BAD_REQUEST
    response.opt.etag = b"\x2b"
    return HELLO


def hello_3(request, response):
    if request.opt.accept != coap.TEXT:
        return coap.BAD_REQUEST
    response.opt.max_age = 5
    return HELLO


def repeat(request, response):
    if (request.payload, request.opt.content_format) != (b"\x4a", coap.TEXT):
        return coap.BAD_REQUEST
    return coap.CHANGED, request.payload


def put(request, response):
    if request.opt.content_format != coap.TEXT:
        return coap.BAD_REQUEST


def delete(request, response):
    return coap.DELETED


def state_of(path):
    """A handler that begins with the first state and goes on while it is observed."""

    def handler(request, response):
        if path not in observed:
            observed[path] = (0, coap.ticks_add(coap.ticks_ms(), STEP_MS))
        text = STATES[observed[path][0]]
        if text is None:
            del observed[path]
            return coap.INTERNAL_SERVER_ERROR, "Terminate Observe"
        return text

    return handler


def step(path):
    """Goes on to the next state when it is time."""
    number, at_ms = observed[path]
    if coap.ticks_diff(at_ms, coap.ticks_ms()) <= 0:
        if number + 1 < len(STATES):
            observed[path] = (number + 1, coap.ticks_add(at_ms, STEP_MS))
            endpoint.notify(path, True)
        else:
            del observed[path]


endpoint.resource("oscore/hello/coap", ct=coap.TEXT).get(hello)
endpoint.resource("oscore/hello/1", ct=coap.TEXT, secure=True).get(hello)
endpoint.resource("oscore/hello/2", ct=coap.TEXT, secure=True).get(hello_2)
endpoint.resource("oscore/hello/3", ct=coap.TEXT, secure=True).get(hello_3)
endpoint.resource("oscore/hello/6", ct=coap.TEXT, secure=True).post(repeat)
stored = endpoint.resource("oscore/hello/7", ct=coap.TEXT, secure=True)
stored.put(put)
stored.etag(lambda request: b"\x7b")
endpoint.resource("oscore/test", secure=True).delete(delete)
for name in ("oscore/observe1", "oscore/observe2"):
    endpoint.resource(name, ct=coap.TEXT, obs=True, secure=True).get(state_of(name))

while True:
    endpoint.process(50)
    for name in list(observed):
        step(name)
