"""Prints how many requests a second aiocoap's client does, as JSON: client_aiocoap.py URI N

One after the other, each from the URI as text, from a fresh context.
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
    begin_s = time.perf_counter()
    for _ in range(n):
        await get(context, uri)
    print(json.dumps({"rps": n / (time.perf_counter() - begin_s)}))
    await context.shutdown()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
