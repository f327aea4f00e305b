"""A server with aiocoap for the interop tests: python tests/host/aiocoap_serve.py PORT"""

import asyncio
import sys

import aiocoap
from aiocoap.resource import Resource, Site

SLOW_S = 0.2  # more than the 0.1 s after which aiocoap acknowledges without the response


class Text(Resource):
    """GET and PUT of a text."""

    text = b"hello"

    async def render_get(self, request):
        return aiocoap.Message(payload=self.text, content_format=0)

    async def render_put(self, request):
        self.text = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)


class Slow(Resource):
    """A separate response."""

    async def render_get(self, request):
        await asyncio.sleep(SLOW_S)
        return aiocoap.Message(payload=b"done", content_format=0)


async def main(port):
    site = Site()
    site.add_resource(["t"], Text())
    site.add_resource(["slow"], Slow())
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port), transports=["udp6"])
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
