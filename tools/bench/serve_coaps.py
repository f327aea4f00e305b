"""Serves a text of 5 bytes at /temp by coaps with our library: serve_coaps.py PORT; MicroPython only."""

import sys

import coap
import coap_dtls

KEY = bytes(range(16))

endpoint = coap.Endpoint(sock=coap_dtls.Transport(port=int(sys.argv[1]), host="127.0.0.1", keys={"bench": KEY}))
temperature = endpoint.resource("temp", ct=coap.TEXT)


@temperature.get
def read(request, response):
    response.payload = b"22.5C"


while True:
    endpoint.process(1000)
