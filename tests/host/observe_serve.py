"""A server with our library that is observed, for test_observe_peers.py, on CPython and MicroPython.

PYTHONPATH=lib python tests/host/observe_serve.py PORT

obs      a text; PUT sets it, DELETE removes it; observers are told by CON
obs-non  the same text; observers are told by NON
large    3000 bytes, made of the text; in blocks
drive    PUT n: n changes of the text to 1, 2 ... n, one each 10 ms; PUT ct: another Content-Format
count    how many observers there are
"""

import sys

import coap
import coap_block
import coap_observe

CHANGE_MS = 10
LARGE_LEN = 3000
QUICK = coap.Tuning(ack_timeout_ms=150, max_retransmit=3)  # a CON is given up after 2.3 to 3.4 s

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1", tuning=QUICK)
observers = coap_observe.attach(endpoint, interval_ms=CHANGE_MS)
coap_block.attach(endpoint, unverified_len=None)
state = {"text": b"0", "ct": coap.TEXT, "changes": 0, "last": 0}


def changed():
    for path, confirmable in (("obs", True), ("obs-non", False), ("large", False)):
        endpoint.notify(path, confirmable)


def read(request, response):
    if state["text"] is None:
        return coap.NOT_FOUND
    response.opt.content_format = state["ct"]
    response.opt.max_age = 5
    return state["text"]


def read_large(request, response):
    return state["text"] * (LARGE_LEN // len(state["text"]))


def write(request, response):
    state["text"] = request.payload
    changed()


def remove(request, response):
    state["text"] = None
    changed()


def drive(request, response):
    """Begins a series of changes, or changes the Content-Format."""
    if request.payload == b"ct":
        state["ct"] = coap.JSON
        changed()
    else:
        state["changes"] = 0
        state["last"] = int(request.payload)


def count(request, response):
    return str(len(observers.observers))


def go_on():
    """The next change of a series."""
    if state["changes"] < state["last"]:
        state["changes"] += 1
        state["text"] = b"%d" % state["changes"]
        changed()


for path in ("obs", "obs-non"):
    resource = endpoint.resource(path, obs=True)
    resource.get(read)
    resource.put(write)
    resource.delete(remove)
endpoint.resource("large", obs=True).get(read_large)
endpoint.resource("drive").put(drive)
endpoint.resource("count", ct=coap.TEXT).get(count)

due_ms = coap.ticks_ms()
while True:
    endpoint.process(max(0, coap.ticks_diff(due_ms, coap.ticks_ms())))
    if coap.ticks_diff(coap.ticks_ms(), due_ms) >= 0:
        go_on()
        due_ms = coap.ticks_add(coap.ticks_ms(), CHANGE_MS)
