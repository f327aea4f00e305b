"""Prints what a body of 1 MB takes aiocoap's client, as JSON: blocks_aiocoap.py URI

It is uploaded (Block1, PUT) and downloaded (Block2), kept in memory: figures as those of blocks.py.
"""

import asyncio
import json
import sys
import time

import aiocoap
import body

WHOLE = body.PIECE * (body.SIZE // len(body.PIECE))


async def measure(context, message):
    """Returns (MB/s, CPU seconds per MB, response)."""
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    response = await context.request(message).response
    took_s, took_cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    megabytes = body.SIZE / 1e6
    return megabytes / took_s, took_cpu_s / megabytes, response


async def main(uri):
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    put = aiocoap.Message(code=aiocoap.PUT, uri=uri, payload=WHOLE, content_format=42)
    up = await measure(context, put)
    if not up[2].code.is_successful():
        raise ValueError(f"not stored: {up[2].code}")
    down = await measure(context, aiocoap.Message(code=aiocoap.GET, uri=uri))
    if down[2].payload != WHOLE:
        raise ValueError("what came back is not what went")
    print(json.dumps({"up_mb_s": up[0], "up_cpu_s": up[1], "down_mb_s": down[0], "down_cpu_s": down[1]}))
    await context.shutdown()


asyncio.run(main(sys.argv[1]))
