"""Serves a text of 5 bytes at /temp with our library; CPython and MicroPython.

    serve.py PORT [RESOURCES [OPEN [OBSERVERS [PART]]]]

RESOURCES is how many there are beside /temp, which is the last of them. OPEN is how many requests of its own, to
addresses that do not answer, the server has open for a minute and a half. OBSERVERS is for how many there is room;
without it coap_observe is not attached. PART is after which part of the free heap the collector runs, a quarter as
README.md has it: 4; without it when the heap is full.
"""

import gc
import sys

import coap

port, resources, open_exchanges, observers, part = [int(word) for word in sys.argv[1:] + ["0"] * 4][:5]
endpoint = coap.Endpoint(port=port, host="127.0.0.1", transmissions=max(4, open_exchanges))
if observers:
    import coap_observe

    coap_observe.attach(endpoint, observers=observers, per_host=observers)
for number in range(resources):
    endpoint.resource("other/%d" % number)
    if number % 10 == 0:
        gc.collect()  # or what they are made of lies between them, and no room is left in one piece for a datagram
temperature = endpoint.resource("temp", ct=coap.TEXT, obs=bool(observers))


@temperature.get
def read(request, response):
    return b"22.5C"


for number in range(open_exchanges):
    silent = "127.0.0.%d" % (2 + number)
    endpoint.send(coap.Message(coap.GET, transport_tuning=coap.Tuning(ack_timeout_ms=90000)), silent)
    endpoint.process(0)  # sends it, and makes room in the queue
if part:
    gc.collect()
    gc.threshold(gc.mem_free() // part)
while True:
    endpoint.process(1000)
