"""A server with aiocoap for test_block_peers.py: python tests/host/aiocoap_block_serve.py PORT"""

import asyncio
import sys

import aiocoap
from aiocoap.resource import Resource, Site

LARGE = bytes([i * 7 % 251 for i in range(2000)])


class Store(Resource):
    """GET, and PUT or POST, of a body of any size."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    async def render_get(self, request):
        return aiocoap.Message(payload=self.data)

    async def render_put(self, request):
        self.data = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)

    async def render_post(self, request):
        self.data = request.payload
        return aiocoap.Message(code=aiocoap.CREATED)


class Exchange(Resource):
    """POST answers the body backwards."""

    async def render_post(self, request):
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload[::-1])


async def main(port):
    site = Site()
    site.add_resource(["large"], Store(LARGE))
    site.add_resource(["large-update"], Store(b""))
    site.add_resource(["large-create"], Store(b""))
    site.add_resource(["large-post"], Exchange())
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port), transports=["udp6"])
    await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))
