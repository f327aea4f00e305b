"""The server of the ETSI, IPSO and OMA CoAP plugtests with our library, on CPython and MicroPython.

    MICROPYPATH=lib micropython tests/host/plugtest_server.py PORT

The resources that the test descriptions TD_COAP_CORE and TD_COAP_LINK name. A CON of its own is repeated after half
a second, to keep the lossy cases short.
"""

import sys

import coap

XML = 41
SEPARATE_MS = 300

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1", tuning=coap.Tuning(ack_timeout_ms=500))
waiting = []  # (time in ticks, response) of what /separate promised
stored = {"validate": b"first", "create1": None}

test = endpoint.resource("test", ct=coap.TEXT, rt="Type1", title="Default test resource")
segments = endpoint.resource("seg1/seg2/seg3", ct=coap.TEXT)
query = endpoint.resource("query", ct=coap.TEXT)
separate = endpoint.resource("separate", ct=coap.TEXT)
location_query = endpoint.resource("location-query")
multi_format = endpoint.resource("multi-format", ct=(coap.TEXT, XML))
validate = endpoint.resource("validate", ct=coap.TEXT, sz=5)
create1 = endpoint.resource("create1", ct=coap.TEXT)
endpoint.resource("link1", rt="Type1 Type2", if_="If1")
endpoint.resource("link2", rt="Type2 Type3", if_="If2")
endpoint.resource("link3", rt="Type1 Type3", if_="foo")
path = endpoint.resource("path", ct=coap.LINKS)
for name in ("sub1", "sub2", "sub3"):
    endpoint.resource("path/" + name, ct=coap.TEXT).get(lambda request, response: request.opt.uri_path[-1])


@test
def default(request, response):
    """GET gives a text; the others have their codes, POST tells a location, too."""
    if request.code == coap.POST:
        response.opt.location_path = ("location1", "location2", "location3")
    return "a test" if request.code == coap.GET else None


@segments.get
def of_several_segments(request, response):
    return "/".join(request.opt.uri_path)


@query.get
def what_was_asked(request, response):
    return "&".join(request.opt.uri_query)


@separate.get
def later(request, response):
    due_ms = coap.ticks_add(coap.ticks_ms(), SEPARATE_MS)
    waiting.append((due_ms, response.copy(payload="separate", content_format=coap.TEXT)))
    return coap.LATER


@location_query.post
def created_elsewhere(request, response):
    response.opt.location_query = ("first=1", "second=2")


@multi_format.get
def in_two_formats(request, response):
    return "<text/>" if request.opt.accept == XML else "text"


def is_stored(resource, name):
    """Have `resource` hold stored[name]: None means that it does not exist."""

    def etag(request):
        return stored[name] and stored[name][:8]

    def get(request, response):
        return stored[name] or coap.NOT_FOUND

    def put(request, response):
        response.code = coap.CHANGED if stored[name] else coap.CREATED
        stored[name] = request.payload

    resource.etag(etag)
    resource.get(get)
    resource.put(put)


is_stored(validate, "validate")
is_stored(create1, "create1")


@path.get
def links_below(request, response):
    return "</path/sub1>,</path/sub2>,</path/sub3>"


def send_due():
    """Sends the promised responses whose time has come."""
    while waiting and coap.ticks_diff(waiting[0][0], coap.ticks_ms()) <= 0:
        endpoint.send(waiting.pop(0)[1])


while True:
    endpoint.process(20)
    send_due()
