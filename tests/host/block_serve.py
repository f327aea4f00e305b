"""A server with our library for test_block_peers.py: the resources of the plugtest's block cases, on any interpreter.

    MICROPYPATH=lib micropython tests/host/block_serve.py PORT UNVERIFIED_LEN

UNVERIFIED_LEN 0 is no limit.
"""

import sys

import coap
import coap_block

LARGE = bytes([i * 7 % 251 for i in range(2000)])

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
coap_block.attach(endpoint, unverified_len=int(sys.argv[2]) or None, body_len=100000)
stored = {"large-update": b"", "large-create": b""}


def read_large(request, response):
    return LARGE


def read(request, response):
    return stored[request.opt.uri_path[0]]


def update(request, response):
    stored["large-update"] = request.payload


def create(request, response):
    stored["large-create"] = request.payload
    response.opt.location_path = ("large-create",)


def exchange(request, response):
    return coap.CHANGED, bytes(reversed(request.payload))


endpoint.resource("large", ct=coap.OCTETS).get(read_large)
large_update = endpoint.resource("large-update", ct=coap.OCTETS)
large_update.get(read)
large_update.put(update)
large_create = endpoint.resource("large-create", ct=coap.OCTETS)
large_create.get(read)
large_create.post(create)
endpoint.resource("large-post", ct=coap.OCTETS).post(exchange)

while True:
    endpoint.process()
