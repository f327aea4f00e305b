"""A client with our library for test_block_peers.py, on any interpreter.

    MICROPYPATH=lib micropython tests/host/block_ask.py < lines

Reads a request from each line, as JSON, and prints what came of it as a line of JSON, all from one endpoint:

    call     "get", "put", "post", or by offset "download", "upload"
    uri
    payload  the file to send, or the file for what comes
    szx      the largest block, -1: no wish
    reuse_token  as in coap_block.attach
    ack_timeout_ms   and 8 retransmissions, for a network that loses much; 0: what a usual Tuning has
"""

import json
import sys
from binascii import hexlify
from hashlib import sha256

import coap
import coap_block


class FileSource:
    """A file that is read by offset."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.size = self.file.seek(0, 2)

    def readinto_at(self, buffer, offset):
        self.file.seek(offset)
        return self.file.readinto(buffer)


class FileSink:
    """A file that is written by offset."""

    def __init__(self, path):
        self.file = open(path, "wb")

    def write_at(self, offset, data):
        self.file.seek(offset)
        self.file.write(data)


def ask(endpoint, blocks, call, uri, payload, szx):
    """The response to a request."""
    if call == "download":
        sink = FileSink(payload)
        response = blocks.download(uri, sink)
        sink.file.close()
        return response
    if call == "upload":
        return blocks.upload(coap.PUT, uri, FileSource(payload), content_format=coap.OCTETS)
    if call == "get":
        # node-coap's server takes an option without bytes, which is block 0 of 16 bytes, for a body without bytes
        return endpoint.get(uri) if szx < 0 else endpoint.get(uri, block2=bytes((szx,)))
    with open(payload, "rb") as file:
        data = file.read()
    method = {"put": coap.PUT, "post": coap.POST}[call]
    return endpoint.request(method, uri, data, content_format=coap.OCTETS)


for line in sys.stdin:
    fields = json.loads(line)
    ack_timeout_ms = fields.pop("ack_timeout_ms")
    tuning = coap.Tuning(ack_timeout_ms=ack_timeout_ms, max_retransmit=8) if ack_timeout_ms else None
    with coap.Endpoint(tuning=tuning) as endpoint:
        szx = 6 if fields["szx"] < 0 else fields["szx"]
        blocks = coap_block.attach(endpoint, szx, body_len=100000, reuse_token=fields.pop("reuse_token"))
        response = ask(endpoint, blocks, **fields)
    digest = str(hexlify(sha256(response.payload).digest()), "ascii")
    print(json.dumps({"code": "%d.%02d" % (response.code >> 5, response.code & 31), "sha256": digest,
                      "length": len(response.payload)}))  # fmt: skip
