"""Serves a text of 5 bytes at /temp with aiocoap: serve_aiocoap.py PORT"""

import asyncio
import sys

import aiocoap
from aiocoap.resource import Resource, Site


class Temperature(Resource):
    async def render_get(self, request):
        return aiocoap.Message(payload=b"22.5C", content_format=0)


async def main(port):
    site = Site()
    site.add_resource(["temp"], Temperature())
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port), transports=["udp6"])
    await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))
