"""The server of the plugtests with aiocoap: python tests/host/plugtest_aiocoap_serve.py PORT

A CON of its own is repeated after half a second, to keep the lossy cases short.
"""

import asyncio
import sys

import aiocoap
from aiocoap.resource import Resource, Site, WKCResource, hashing_etag

SEPARATE_S = 0.3  # more than the 0.1 s after which aiocoap acknowledges without the response
XML = 41


class Quick(aiocoap.TransportTuning):
    ACK_TIMEOUT = 0.5


class Linked(Resource):
    """A resource that answers a GET with `answer(request)`; `attributes` are those of its link."""

    def __init__(self, answer=lambda request: b"", **attributes):
        super().__init__()
        self.answer = answer
        self.attributes = {name.rstrip("_"): value for name, value in attributes.items()}

    def get_link_description(self):
        return self.attributes

    async def render_get(self, request):
        return aiocoap.Message(payload=self.answer(request), content_format=0)


class Test(Linked):
    async def render_put(self, request):
        return aiocoap.Message(code=aiocoap.CHANGED)

    async def render_delete(self, request):
        return aiocoap.Message(code=aiocoap.DELETED)

    async def render_post(self, request):
        path = ("location1", "location2", "location3")
        return aiocoap.Message(code=aiocoap.CREATED, location_path=path)


class Separate(Linked):
    async def render_get(self, request):
        await asyncio.sleep(SEPARATE_S)
        return aiocoap.Message(payload=b"separate", content_format=0, transport_tuning=Quick())


class LocationQuery(Linked):
    async def render_post(self, request):
        return aiocoap.Message(code=aiocoap.CREATED, location_query=("first=1", "second=2"))


class MultiFormat(Linked):
    async def render_get(self, request):
        accept = request.opt.accept
        if accept not in (None, 0, XML):
            return aiocoap.Message(code=aiocoap.NOT_ACCEPTABLE)
        payload = b"<text/>" if accept == XML else b"text"
        return aiocoap.Message(payload=payload, content_format=accept or 0)


class Stored(Linked):
    """A text with an ETag; None when it is not there."""

    def __init__(self, text, **attributes):
        super().__init__(**attributes)
        self.text = text

    async def render_get(self, request):
        if self.text is None:
            return aiocoap.Message(code=aiocoap.NOT_FOUND)
        response = aiocoap.Message(code=aiocoap.CONTENT, payload=self.text, content_format=0)
        hashing_etag(request, response)
        return response

    def etag(self):
        response = aiocoap.Message(code=aiocoap.CONTENT, payload=self.text or b"")
        hashing_etag(aiocoap.Message(code=aiocoap.GET), response)
        return response.opt.etag

    async def render_put(self, request):
        match = request.opt.if_match
        if (match and self.etag() not in match) or (request.opt.if_none_match and self.text is not None):
            return aiocoap.Message(code=aiocoap.PRECONDITION_FAILED)
        code = aiocoap.CREATED if self.text is None else aiocoap.CHANGED
        self.text = request.payload
        return aiocoap.Message(code=code)

    async def render_delete(self, request):
        self.text = None
        return aiocoap.Message(code=aiocoap.DELETED)


class Path(Linked):
    async def render_get(self, request):
        return aiocoap.Message(payload=b"</path/sub1>,</path/sub2>,</path/sub3>", content_format=40)


def plugtest_site():
    site = Site()
    resources = {
        ".well-known/core": WKCResource(site.get_resources_as_linkheader, impl_info=None),
        "test": Test(lambda request: b"a test", rt="Type1"),
        "seg1/seg2/seg3": Linked(lambda request: b"seg1/seg2/seg3"),
        "query": Linked(lambda request: "&".join(request.opt.uri_query).encode()),
        "separate": Separate(),
        "location-query": LocationQuery(),
        "multi-format": MultiFormat(),
        "validate": Stored(b"first", sz="5"),
        "create1": Stored(None),
        "link1": Linked(rt="Type1 Type2", if_="If1"),
        "link2": Linked(rt="Type2 Type3", if_="If2"),
        "link3": Linked(rt="Type1 Type3", if_="foo"),
        "path": Path(ct="40"),
    }
    for name in ("sub1", "sub2", "sub3"):
        resources["path/" + name] = Linked(lambda request, name=name: name.encode())
    for path, resource in resources.items():
        site.add_resource(path.split("/"), resource)
    return site


async def main(port):
    address = ("127.0.0.1", port)
    await aiocoap.Context.create_server_context(plugtest_site(), bind=address, transports=["udp6"])
    await asyncio.get_running_loop().create_future()


asyncio.run(main(int(sys.argv[1])))
