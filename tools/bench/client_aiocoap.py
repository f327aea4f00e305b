"""Prints how many requests a second aiocoap's client does, as JSON: client_aiocoap.py URI N

One after the other, each from the URI as text, from a fresh context. cpu_us is the CPU time of each.
"""

import asyncio
import json
import sys
import time

import aiocoap


async def get(context, uri):
    response = await context.request(aiocoap.Message(code=aiocoap.GET, uri=uri)).response
    if response.code != aiocoap.CONTENT:
        raise ValueError("not answered 2.05")


async def main(uri, n):
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    await get(context, uri)
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    for _ in range(n):
        await get(context, uri)
    took_s, took_cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    print(json.dumps({"rps": n / took_s, "cpu_us": took_cpu_s * 1e6 / n}))
    await context.shutdown()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
