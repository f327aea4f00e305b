"""Prints how many requests a second our client does, as JSON: client.py URI N; CPython and MicroPython.

One after the other, each by Endpoint.get with the URI as text, from a fresh endpoint. cpu_us is the CPU time of each.
"""

import json
import sys
import time

import coap

ticks_us = time.ticks_us if hasattr(time, "ticks_us") else lambda: time.perf_counter_ns() // 1000
cpu_s = time.clock if hasattr(time, "clock") else time.process_time
uri, n = sys.argv[1], int(sys.argv[2])
with coap.Endpoint() as endpoint:
    endpoint.get(uri)
    begin_us, begin_cpu_s = ticks_us(), cpu_s()
    for _ in range(n):
        if endpoint.get(uri).code != coap.CONTENT:
            raise ValueError("not answered 2.05")
    took_us, took_cpu_s = ticks_us() - begin_us, cpu_s() - begin_cpu_s
    print(json.dumps({"rps": n * 1000000 / took_us, "cpu_us": took_cpu_s * 1000000 / n}))
