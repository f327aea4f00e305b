"""Prints how many requests a second our client does, as JSON: client.py URI N; CPython and MicroPython.

One after the other, each by Endpoint.get with the URI as text, from a fresh endpoint.
"""

import json
import sys
import time

import coap

ticks_us = time.ticks_us if hasattr(time, "ticks_us") else lambda: time.perf_counter_ns() // 1000
uri, n = sys.argv[1], int(sys.argv[2])
with coap.Endpoint() as endpoint:
    endpoint.get(uri)
    begin_us = ticks_us()
    for _ in range(n):
        if endpoint.get(uri).code != coap.CONTENT:
            raise ValueError("not answered 2.05")
    print(json.dumps({"rps": n * 1000000 / (ticks_us() - begin_us)}))
