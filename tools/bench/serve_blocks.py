"""Serves a body of 1 MB at /body with our library, and takes one: serve_blocks.py PORT; CPython and MicroPython.

A GET reads it from a source, a PUT writes it to a sink; neither keeps it.
"""

import sys
from binascii import crc32

import body

import coap
import coap_block


class Sink:
    """Counts and sums up what is written in order."""

    def __init__(self):
        self.size = self.crc = 0

    def write_at(self, offset, data):
        if offset == 0:
            self.size = self.crc = 0
        if offset != self.size:
            raise ValueError("not in order")
        self.size += len(data)
        self.crc = crc32(data, self.crc)


endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
blocks = coap_block.attach(endpoint, unverified_len=None)
resource = endpoint.resource("body", ct=coap.OCTETS)
source, crc = body.Source(), body.crc()


@resource.get
def read(request, response):
    return source


@resource.put
def write(request, response):
    is_whole = request.payload.size == body.SIZE and request.payload.crc == crc
    return coap.CHANGED if is_whole else coap.BAD_REQUEST


@blocks.sink(resource)
def open_sink(request):
    return Sink()


while True:
    endpoint.process(1000)
