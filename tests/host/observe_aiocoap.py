"""aiocoap as observer and as observed, for test_observe_peers.py.

python tests/host/observe_aiocoap.py client URI    prints as observe_ask.py; at `cancel` it cancels
python tests/host/observe_aiocoap.py server PORT   a resource "dyn" that can be observed, PUT sets it
"""

import asyncio
import sys

import aiocoap
from aiocoap.resource import ObservableResource, Site


def show(response):
    payload = response.payload
    print(response.code.dotted, payload[:20].decode(), len(payload), flush=True)
    return payload == b"cancel"


async def observe(uri):
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    message = aiocoap.Message(code=aiocoap.GET, uri=uri, observe=0)
    request = context.request(message, handle_blockwise=uri.endswith("large"))  # with blocks it cannot be cancelled
    show(await request.response)
    try:
        async for response in request.observation:
            if show(response):
                request.observation.cancel()
                break
    except aiocoap.error.Error as error:
        print("end", type(error).__name__, flush=True)
    await asyncio.get_running_loop().create_future()


class Dynamic(ObservableResource):
    """A text that is observed."""

    text = b"0"

    async def render_get(self, request):
        return aiocoap.Message(payload=self.text, content_format=0, max_age=1)

    async def render_put(self, request):
        self.text = request.payload
        self.updated_state()
        return aiocoap.Message(code=aiocoap.CHANGED)


async def serve(port):
    site = Site()
    site.add_resource(["dyn"], Dynamic())
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port), transports=["udp6"])
    await asyncio.get_running_loop().create_future()


if sys.argv[1] == "client":
    asyncio.run(observe(sys.argv[2]))
else:
    asyncio.run(serve(int(sys.argv[2])))
