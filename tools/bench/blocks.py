"""Prints what a body of 1 MB takes our client, as JSON: blocks.py URI; CPython and MicroPython.

It is uploaded from a source (Block1, PUT) and downloaded into a sink (Block2), neither of which keeps it: MB/s of
wall time, and CPU seconds per MB. What comes back must be what went.
"""

import json
import sys
import time
from binascii import crc32

import body

import coap
import coap_block

ticks_us = time.ticks_us if hasattr(time, "ticks_us") else lambda: time.perf_counter_ns() // 1000
cpu_s = time.clock if hasattr(time, "clock") else time.process_time


class Sink:
    """Counts, and sums up, what is written in order."""

    def __init__(self):
        self.size = self.crc = 0

    def write_at(self, offset, data):
        if offset != self.size:
            raise ValueError("not in order")
        self.size += len(data)
        self.crc = crc32(data, self.crc)


def measure(function, *args, **options):
    """Returns [MB/s, CPU seconds per MB, response]."""
    begin_us, begin_cpu_s = ticks_us(), cpu_s()
    response = function(*args, **options)
    took_s, took_cpu_s = (ticks_us() - begin_us) / 1000000, cpu_s() - begin_cpu_s
    megabytes = body.SIZE / 1000000
    return megabytes / took_s, took_cpu_s / megabytes, response


uri = sys.argv[1]
with coap.Endpoint() as endpoint:
    blocks = coap_block.attach(endpoint)
    sink = Sink()
    up = measure(blocks.upload, coap.PUT, uri, body.Source(), content_format=coap.OCTETS)
    if up[2].code not in (coap.CREATED, coap.CHANGED):
        raise ValueError("not stored: %d" % up[2].code)
    down = measure(blocks.download, uri, sink)
    if down[2].code != coap.CONTENT or (sink.size, sink.crc) != (body.SIZE, body.crc()):
        raise ValueError("what came back is not what went")
print(json.dumps({"up_mb_s": up[0], "up_cpu_s": up[1], "down_mb_s": down[0], "down_cpu_s": down[1]}))
