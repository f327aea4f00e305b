"""Prints how many messages a second aiocoap's codec does, as JSON: codec_aiocoap.py N

index, write, decode and build are what codec.py explains; index here is decode without reading, and write makes
each message, since neither keeps one.
"""

import json
import sys

import aiocoap
import representative


def index():
    for datagram in representative.DATAGRAMS:
        aiocoap.Message.decode(datagram)


def write():
    for m in messages:
        made = aiocoap.Message(code=m.code, payload=m.payload, _mtype=m.mtype, _mid=m.mid, _token=m.token)
        for option in m.opt.option_list():
            made.opt.add_option(option)
        made.encode()


def decode():
    for datagram in representative.DATAGRAMS:
        m = aiocoap.Message.decode(datagram)
        _ = m.code, m.token, m.opt.uri_path, m.opt.uri_query, m.payload


def build():
    m = aiocoap.Message(code=aiocoap.GET, payload=b"", _mtype=aiocoap.CON, _mid=7, _token=b"toke")
    m.opt.uri_path = ("sensors", "temp")
    m.opt.accept = 50
    m.encode()


n = int(sys.argv[1])
size = len(representative.DATAGRAMS)
messages = [aiocoap.Message.decode(datagram) for datagram in representative.DATAGRAMS]
rates = {
    "index": representative.per_second(n, size, index),
    "write": representative.per_second(n, size, write),
    "decode": representative.per_second(n, size, decode),
    "build": representative.per_second(4 * n, 1, build),
}
print(json.dumps(rates))
