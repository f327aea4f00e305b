"""The plugtests of ETSI, IPSO and OMA with our client: TD_COAP_CORE_01 to 23, TD_COAP_LINK_01 to 09.

Our client is plugtest_ask.py on MicroPython, for some cases on CPython, too. The servers are libcoap's
coap-server-notls, plugtest_aiocoap_serve.py and node/plugtest_serve.js; the relay of test_plugtests_core.py notes
what is sent and loses datagrams.

Cases that a server does not offer:

    case         server   reason
    CORE_04, 08  libcoap  coap-server has no resource with POST
    CORE_12      all      not tested here: these cases all send a token
    CORE_14      libcoap  coap-server has no resource that takes several Uri-Query
    CORE_18, 19  libcoap  no POST, so no Location-Path and no Location-Query
    CORE_20      libcoap  no resource with several formats
    CORE_21-23   libcoap  no resource with an ETag, none that minds If-Match or If-None-Match
    CORE_17      libcoap  not tested here: the other two have it
    LINK_02-08   node     node-coap filters no links, the server script lists all
    LINK_03      aiocoap  its rt=* lists links without rt, too
    LINK_04, 06, 09  libcoap  no link with several rt, none with sz, none with ct=40
"""

import subprocess
import sys

import pytest

import coap
from peers import (
    ENVIRONMENT,
    HERE,
    RUNTIMES,
    free_port,
    interpreter,
    libcoap_server,
    request_line,
    require_aiocoap,
    running,
    url,
)
from programs import node_package, program
from test_plugtests_core import ACK, CON, METHODS, NON, XML, assert_text, links, relaying

ASK_TIMEOUT_S = 60
QUICK_MS = 300  # ACK_TIMEOUT of our client where something is lost, to keep these cases short
OCTETS = [(12, b"*")]  # Content-Format 42, for libcoap: coap-server leaves out a Content-Format of 0


def aiocoap_server():
    require_aiocoap()
    port = free_port()
    return running(sys.executable, HERE / "plugtest_aiocoap_serve.py", port, port=port)


def node_server():
    node_package("coap")
    port = free_port()
    return running(program("node"), HERE / "node/plugtest_serve.js", port, port=port)


SERVERS = {"libcoap": libcoap_server, "aiocoap": aiocoap_server, "node": node_server}
on_all = pytest.mark.parametrize("server", ["libcoap", "aiocoap", "node"], indirect=True)
on_scripts = pytest.mark.parametrize("server", ["aiocoap", "node"], indirect=True)
on_filtering = pytest.mark.parametrize("server", ["libcoap", "aiocoap"], indirect=True)
on_aiocoap = pytest.mark.parametrize("server", ["aiocoap"], indirect=True)
on_both = pytest.mark.parametrize("runtime", RUNTIMES)
on_libcoap = pytest.mark.parametrize("server", ["libcoap"], indirect=True)


class Peer:
    """A server of others, asked by our client through a relay."""

    def __init__(self, name, port, runtime):
        self.name = name
        self.port = port
        self.runtime = runtime
        self.content_format = 42 if name == "libcoap" else 0
        # libcoap's separate response: a resource that waits for so many seconds
        self.separate = "/async?1" if name == "libcoap" else "/separate"
        self.separate_payload = b"done" if name == "libcoap" else b"separate"

    def ask(self, path, loses=(), **fields):
        """(response, Datagrams): the Message that our client gave to its caller, and what was sent."""
        with relaying(self.port, loses) as (port, passed):
            command = [interpreter(self.runtime), HERE / "plugtest_ask.py", *[str(QUICK_MS)] * bool(loses)]
            streams = {"capture_output": True, "text": True, "env": ENVIRONMENT, "timeout": ASK_TIMEOUT_S}
            done = subprocess.run(command, input=request_line(url(port, path), **fields), **streams)
            assert done.returncode == 0, done.stdout + done.stderr
        return coap.Message.decode(bytes.fromhex(done.stdout)), passed

    def exchange(self, path, **fields):
        """(request, response as our client saw it), after the checks of types, message IDs and tokens."""
        seen, passed = self.ask(path, **fields)
        (to_server, request), (from_server, response) = passed[:2]
        assert (to_server, from_server, len(passed)) == (True, False, 2)
        assert request.code == METHODS[fields.get("method", "get")]
        assert request.payload == fields.get("payload", b"")
        if fields.get("mtype") == "NON":
            assert (request.mtype, response.mtype) == (NON, NON)
        else:
            assert (request.mtype, response.mtype, response.mid) == (CON, ACK, request.mid)
        assert response.token == request.token
        assert seen == response
        return request, seen


@pytest.fixture(scope="module")
def server(request):
    """The name and the port of a server, one for all its cases."""
    with SERVERS[request.param]() as port:
        yield request.param, port


@pytest.fixture
def runtime():
    """What our client runs on, unless the test has on_both."""
    return "micropython"


@pytest.fixture
def peer(runtime, server):
    """A server, asked by our client; libcoap's gets by PUT the resources that it lacks."""
    peer = Peer(*server, runtime)
    if peer.name == "libcoap":
        for path, payload in (("/test", b"a test"), ("/seg1/seg2/seg3", b"seg1/seg2/seg3")):
            peer.exchange(path, method="put", payload=payload, options=OCTETS)
    return peer


def assert_given(peer, response, payload):
    """2.05 with this payload and the Content-Format of the server's text."""
    assert (response.code, response.opt.content_format, response.payload) == (
        coap.CONTENT,
        peer.content_format,
        payload,
    )


# ---- TD_COAP_CORE: methods ----


@on_both
@on_all
@pytest.mark.parametrize("mtype", ["CON", "NON"])
def test_td_coap_core_01_05_get(peer, mtype):
    """CORE_01 and 05, GET: 2.05 with Content-Format and payload."""
    assert_given(peer, peer.exchange("/test", mtype=mtype)[1], b"a test")


@on_all
@pytest.mark.parametrize("mtype", ["CON", "NON"])
def test_td_coap_core_02_06_delete(peer, mtype):
    """CORE_02 and 06, DELETE: 2.02."""
    assert peer.exchange("/test", method="delete", mtype=mtype)[1].code == coap.DELETED


@on_all
@pytest.mark.parametrize("mtype", ["CON", "NON"])
def test_td_coap_core_03_07_put(peer, mtype):
    """CORE_03 and 07, PUT: 2.04."""
    assert peer.exchange("/test", method="put", payload=b"new", mtype=mtype)[1].code == coap.CHANGED


@on_scripts
@pytest.mark.parametrize("mtype", ["CON", "NON"])
def test_td_coap_core_04_08_18_post_location_path(peer, mtype):
    """CORE_04, 08 and 18, POST: 2.01 with a Location-Path option for each segment."""
    _, response = peer.exchange("/test", method="post", payload=b"new", mtype=mtype)
    assert (response.code, response.opt.location_path) == (coap.CREATED, ("location1", "location2", "location3"))


# ---- TD_COAP_CORE: separate responses, tokens, options, loss ----


@on_both
@on_all
def test_td_coap_core_09_11_get_separate_with_token(peer):
    """CORE_09 and 11: an empty ACK, a CON with the token, which our client acknowledges."""
    seen, passed = peer.ask(peer.separate)
    request, ack, response, confirmation = [datagram.message for datagram in passed[:4]]
    assert [datagram.is_request for datagram in passed[:4]] == [True, False, False, True]
    assert (ack.mtype, ack.code, ack.mid, ack.token) == (ACK, 0, request.mid, b"")
    assert (response.mtype, response.token) == (CON, request.token) and 1 <= len(request.token) <= 8
    assert (confirmation.mtype, confirmation.code, confirmation.mid) == (ACK, 0, response.mid)
    assert (seen, seen.code, seen.payload) == (response, coap.CONTENT, peer.separate_payload)


@on_all
def test_td_coap_core_10_get_with_token(peer):
    """CORE_10: a non-empty token, which comes back."""
    request, response = peer.exchange("/test")
    assert 1 <= len(request.token) <= 8 and response.token == request.token


@on_all
def test_td_coap_core_13_get_several_uri_path(peer):
    """CORE_13: an Uri-Path option for each segment."""
    request, response = peer.exchange("/seg1/seg2/seg3")
    assert request.opt.uri_path == ("seg1", "seg2", "seg3")
    assert_given(peer, response, b"seg1/seg2/seg3")


@on_scripts
def test_td_coap_core_14_get_several_uri_query(peer):
    """CORE_14: an Uri-Query option for each parameter."""
    request, response = peer.exchange("/query?first=1&second=2&third=3")
    assert request.opt.uri_query == ("first=1", "second=2", "third=3")
    assert_text(response, b"first=1&second=2&third=3")


@on_all
@pytest.mark.parametrize("lost", ["request", "response"])
def test_td_coap_core_15_get_piggybacked_lossy(peer, lost):
    """CORE_15: the request or the response is lost; our client repeats its request as it was."""
    seen, passed = peer.ask("/test", loses=[lost])
    assert_given(peer, seen, b"a test")
    requests = [datagram.message for datagram in passed if datagram.is_request]
    assert len(requests) >= 2 and requests == [requests[0]] * len(requests)


@on_all
@pytest.mark.parametrize("lost", ["request", "acknowledgement", "response"])
def test_td_coap_core_16_get_separate_lossy(peer, lost):
    """CORE_16: the request, the acknowledgement or the response is lost; one response is seen."""
    seen, passed = peer.ask(peer.separate, loses=[lost])
    assert (seen.code, seen.payload) == (coap.CONTENT, peer.separate_payload)
    requests = [datagram.message for datagram in passed if datagram.message.code == coap.GET]
    responses = [datagram.message for datagram in passed if datagram.message.code == coap.CONTENT]
    assert len({request.mid for request in requests}) == 1
    assert len({response.token for response in responses}) == 1
    assert lost != "request" or len(requests) >= 2
    assert lost != "response" or len(responses) >= 2


@on_scripts
def test_td_coap_core_17_get_separate_non(peer):
    """CORE_17: NON, a response that takes its time: no ACK, then a NON with the token."""
    assert_text(peer.exchange("/separate", mtype="NON")[1], b"separate")


@on_scripts
def test_td_coap_core_19_post_location_query(peer):
    """CORE_19: 2.01 with a Location-Query option for each parameter."""
    _, response = peer.exchange("/location-query", method="post", payload=b"new")
    assert (response.code, response.opt.location_query) == (coap.CREATED, ("first=1", "second=2"))


@on_scripts
def test_td_coap_core_20_accept(peer):
    """CORE_20: Accept chooses the format; one that is not there gives 4.06."""
    for accept, payload in ((0, b"text"), (XML, b"<text/>")):
        request, response = peer.exchange("/multi-format", accept=accept)
        assert (request.opt.accept, response.opt.content_format, response.payload) == (accept, accept, payload)
    assert peer.exchange("/multi-format", accept=50)[1].code == coap.NOT_ACCEPTABLE


@on_both
@on_scripts
def test_td_coap_core_21_etag(peer):
    """CORE_21: a right ETag gives 2.03 without payload; after an update 2.05 with another ETag."""
    peer.exchange("/validate", method="put", payload=b"first")
    _, first = peer.exchange("/validate")
    request, valid = peer.exchange("/validate", options=[(4, first.opt.etag)])
    assert request.opt.etag == valid.opt.etag == first.opt.etag
    assert (valid.code, valid.payload) == (coap.VALID, b"")
    peer.exchange("/validate", method="put", payload=b"second")
    _, second = peer.exchange("/validate", options=[(4, first.opt.etag)])
    assert_text(second, b"second")
    assert second.opt.etag not in (None, first.opt.etag)


@on_scripts
def test_td_coap_core_22_if_match(peer):
    """CORE_22: If-Match with the ETag of the state gives 2.04, with an older one 4.12."""
    peer.exchange("/validate", method="put", payload=b"first")
    match = [(1, peer.exchange("/validate")[1].opt.etag)]
    request, changed = peer.exchange("/validate", method="put", payload=b"second", options=match)
    assert (request.opt.if_match, changed.code) == ((match[0][1],), coap.CHANGED)
    _, refused = peer.exchange("/validate", method="put", payload=b"third", options=match)
    assert refused.code == coap.PRECONDITION_FAILED


@on_scripts
def test_td_coap_core_23_if_none_match(peer):
    """CORE_23: If-None-Match creates once (2.01), then 4.12."""
    fields = {"method": "put", "payload": b"one", "options": [(5, b"")]}
    peer.exchange("/create1", method="delete")
    request, created = peer.exchange("/create1", **fields)
    assert (request.opt.if_none_match, created.code) == (True, coap.CREATED)
    assert peer.exchange("/create1", **fields)[1].code == coap.PRECONDITION_FAILED


# ---- TD_COAP_LINK ----


@on_all
def test_td_coap_link_01_discovery(peer):
    """LINK_01: all resources, as link format."""
    assert {"/test", "/seg1/seg2/seg3"} <= set(links(peer))


@on_both
@on_filtering
def test_td_coap_link_02_05_07_08_filters(peer):
    """LINK_02, 05, 07 and 08: by rt, by the beginning of if, by href and by its beginning."""
    if peer.name == "libcoap":
        queries = {"?rt=ticks": 1, "?if=clo*": 1, "?href=/time": 1, "?href=/ti*": 1}
        expected = {query: ["/time"] for query in queries}
    else:
        three = ["/link1", "/link2", "/link3"]
        expected = {"?rt=Type1": ["/test", "/link1", "/link3"], "?if=If*": three[:2]}
        expected |= {"?href=/link1": three[:1], "?href=/link*": three}
    assert {query: links(peer, query) for query in expected} == expected


@on_libcoap
def test_td_coap_link_03_any_rt(peer):
    """LINK_03: whatever has a type."""
    assert links(peer, "?rt=*") == ["/time"]


@on_aiocoap
def test_td_coap_link_04_06_several_rt_and_sz(peer):
    """LINK_04 and 06: one of several types; whatever tells its size."""
    assert links(peer, "?rt=Type2") == ["/link1", "/link2"]
    assert links(peer, "?sz=*") == ["/validate"]


@on_scripts
def test_td_coap_link_09_hierarchy(peer):
    """LINK_09: /path lists what is below it; each of these is there."""
    _, response = peer.exchange("/path")
    assert response.opt.content_format == 40
    below = [link.strip("<>") for link in response.payload.decode().split(",")]
    assert below == ["/path/sub1", "/path/sub2", "/path/sub3"]
    for path in below:
        assert_text(peer.exchange(path)[1], path.split("/")[-1].encode())
