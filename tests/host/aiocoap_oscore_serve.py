"""A server with aiocoap that takes protected requests: python tests/host/aiocoap_oscore_serve.py PORT FOLDER

FOLDER has a settings.json with the context.
"""

import asyncio
import sys

import aiocoap
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from aiocoap.resource import ObservableResource, Site

import aiocoap_serve

STEP_S = 0.1


class Text(aiocoap_serve.Text):
    """GET, PUT, POST and DELETE of a text of any length."""

    async def render_post(self, request):
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload[::-1])

    async def render_delete(self, request):
        self.text = b""
        return aiocoap.Message(code=aiocoap.DELETED)


class Ticks(ObservableResource):
    """A number that grows."""

    number = 0

    async def count(self):
        while True:
            await asyncio.sleep(STEP_S)
            self.number += 1
            self.updated_state()

    async def render_get(self, request):
        return aiocoap.Message(payload=b"%d" % self.number, content_format=0)


async def main(port, folder):
    ticks = Ticks()
    site = Site()
    site.add_resource(["t"], Text())
    site.add_resource(["ticks"], ticks)
    credentials = CredentialsMap()
    credentials.load_from_dict({":peer": {"oscore": {"basedir": folder}}})
    secured = OscoreSiteWrapper(site, credentials)
    await aiocoap.Context.create_server_context(secured, bind=("127.0.0.1", port), transports=["udp6", "oscore"])
    await ticks.count()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
