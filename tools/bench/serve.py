"""Serves a text of 5 bytes at /temp with our library: serve.py PORT [RESOURCES [OPEN]]; CPython and MicroPython.

RESOURCES is how many there are beside /temp, which is the last of them. OPEN is how many requests of its own, to an
address that does not answer, the server has open for a minute and a half.
"""

import gc
import sys

import coap

port, resources, open_exchanges = [int(word) for word in sys.argv[1:] + ["0", "0"]][:3]
endpoint = coap.Endpoint(port=port, host="127.0.0.1")
for number in range(resources):
    endpoint.resource("other/%d" % number)
    if number % 10 == 0:
        gc.collect()  # or what they are made of lies between them, and no room is left in one piece for a datagram
for number in range(open_exchanges):
    silent = "127.0.0.%d" % (2 + number)
    endpoint.send(coap.Message(coap.GET, transport_tuning=coap.Tuning(ack_timeout_ms=90000)), silent)
temperature = endpoint.resource("temp", ct=coap.TEXT)


@temperature.get
def read(request, response):
    response.payload = b"22.5C"


while True:
    endpoint.process(1000)
