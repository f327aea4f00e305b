"""A server with coap_echo for test_echo_peers.py, on CPython and MicroPython.

    MICROPYPATH=lib micropython tests/host/echo_serve.py PORT

The resource /large answers with 800 bytes; /lock counts what it was told, and demands freshness.
"""

import sys

import coap
import coap_echo

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
echo = coap_echo.attach(endpoint)
commands = []
large = endpoint.resource("large", ct=coap.OCTETS)
lock = endpoint.resource("lock", ct=coap.TEXT)
echo.demand_freshness(lock)


@large.get
def read(request, response):
    return b"l" * 800


@lock.get
def count(request, response):
    return str(len(commands))


@lock.put
def turn(request, response):
    commands.append(request.payload)


while True:
    endpoint.process()
