"""The plugtests of ETSI, IPSO and OMA: TD_COAP_CORE_01 to 23 and 31, TD_COAP_LINK_01 to 09, with real clients.

The server is plugtest_server.py on MicroPython. libcoap, aiocoap and node-coap send the requests through a relay,
which notes every datagram, so that what a test description checks is checked on the wire; and which loses the
datagrams that the lossy cases name.
"""

import collections
import contextlib

import pytest

import coap
from peers import CLIENTS, HERE, PING, free_port, interpreter, relay, replies, running, url

CLIENT_NAMES = ("libcoap", "aiocoap", "node")
XML = 41
CON, NON, ACK, RST = coap.CON, coap.NON, coap.ACK, coap.RST
METHODS = {"get": coap.GET, "post": coap.POST, "put": coap.PUT, "delete": coap.DELETE}
Datagram = collections.namedtuple("Datagram", "is_request message")  # is_request: it goes to the server


def kind(datagram):
    """Its place in an exchange: request, acknowledgement (without response), response or confirmation (its ACK)."""
    if datagram.message.code:
        return "request" if datagram.message.code < coap.CREATED else "response"
    return "confirmation" if datagram.is_request else "acknowledgement"


@contextlib.contextmanager
def relaying(server_port, loses=()):
    """A relay; gives its port and the Datagrams that came. loses: names of what vanishes, each once, see kind()."""
    passed = []
    left = set(loses)

    def pass_on(data, is_request):
        datagram = Datagram(is_request, coap.Message.decode(data))
        passed.append(datagram)
        if kind(datagram) not in left:
            return (data,)
        left.remove(kind(datagram))
        return ()

    with relay(server_port, pass_on) as port:
        yield port, passed


@pytest.fixture
def server():
    """The port of the plugtests' server on MicroPython."""
    port = free_port()
    with running(interpreter("micropython"), HERE / "plugtest_server.py", port, port=port):
        yield port


class Client:
    """Asks the server through a relay."""

    def __init__(self, name, server):
        self.send = CLIENTS[name]
        self.server = server

    def ask(self, path, loses=(), **fields):
        """(Answer, Datagrams) of a request, see peers.request_line."""
        with relaying(self.server, loses) as (port, passed):
            answer = self.send(url(port, path), **fields)
        return answer, passed

    def exchange(self, path, **fields):
        """(request, response) of a request with a piggybacked or NON response, after the checks of every such case."""
        answer, passed = self.ask(path, **fields)
        (to_server, request), (from_server, response) = passed[:2]
        assert (to_server, from_server, len(passed)) == (True, False, 2)
        assert request.code == METHODS[fields.get("method", "get")]
        if request.mtype == CON:
            assert (response.mtype, response.mid) == (ACK, request.mid)
        else:
            assert (request.mtype, response.mtype) == (NON, NON)
        assert response.token == request.token
        assert answer.payload == response.payload
        assert answer.code == "%d.%02d" % (response.code >> 5, response.code & 31)
        return request, response


@pytest.fixture(params=CLIENT_NAMES)
def client(request, server):
    return Client(request.param, server)


def assert_text(response, payload):
    assert (response.code, response.opt.content_format, response.payload) == (coap.CONTENT, 0, payload)


# ---- TD_COAP_CORE: methods ----


def test_td_coap_core_01_get_con(client):
    """GET, CON: 2.05 with Content-Format and payload, type 0 answered by type 2 with the same message ID."""
    request, response = client.exchange("/test")
    assert request.mtype == CON
    assert_text(response, b"a test")


def test_td_coap_core_02_delete_con(client):
    """DELETE, CON: 2.02."""
    request, response = client.exchange("/test", method="delete")
    assert (request.mtype, response.code, response.payload) == (CON, coap.DELETED, b"")


def test_td_coap_core_03_put_con(client):
    """PUT, CON, with a payload: 2.04."""
    request, response = client.exchange("/test", method="put", payload=b"new")
    assert (request.mtype, request.payload, response.code) == (CON, b"new", coap.CHANGED)


def test_td_coap_core_04_post_con(client):
    """POST, CON, with a payload: 2.01."""
    request, response = client.exchange("/test", method="post", payload=b"new")
    assert (request.mtype, request.payload, response.code) == (CON, b"new", coap.CREATED)


def test_td_coap_core_05_get_non(client):
    """GET, NON: 2.05 as a NON."""
    request, response = client.exchange("/test", mtype="NON")
    assert request.mtype == NON
    assert_text(response, b"a test")


def test_td_coap_core_06_delete_non(client):
    """DELETE, NON: 2.02 as a NON."""
    request, response = client.exchange("/test", method="delete", mtype="NON")
    assert (request.mtype, response.code) == (NON, coap.DELETED)


def test_td_coap_core_07_put_non(client):
    """PUT, NON: 2.04 as a NON."""
    request, response = client.exchange("/test", method="put", payload=b"new", mtype="NON")
    assert (request.mtype, response.code) == (NON, coap.CHANGED)


def test_td_coap_core_08_post_non(client):
    """POST, NON: 2.01 as a NON."""
    request, response = client.exchange("/test", method="post", payload=b"new", mtype="NON")
    assert (request.mtype, response.code) == (NON, coap.CREATED)


# ---- TD_COAP_CORE: separate responses and tokens ----


def assert_separate(passed):
    """Request, empty ACK, CON with the response, empty ACK."""
    request, ack, response, confirmation = [datagram.message for datagram in passed[:4]]
    assert [datagram.is_request for datagram in passed[:4]] == [True, False, False, True]
    assert (ack.mtype, ack.code, ack.mid, ack.token) == (ACK, 0, request.mid, b"")
    assert (response.mtype, response.token) == (CON, request.token)
    assert (confirmation.mtype, confirmation.code, confirmation.mid) == (ACK, 0, response.mid)
    assert_text(response, b"separate")


def test_td_coap_core_09_get_separate(client):
    """GET, CON: an empty ACK, then a CON with the response, which the client acknowledges."""
    answer, passed = client.ask("/separate")
    assert_separate(passed)
    assert answer.payload == b"separate"


def test_td_coap_core_10_get_with_token(client):
    """A non-empty token comes back in the piggybacked response."""
    request, response = client.exchange("/test")
    assert 1 <= len(request.token) <= 8
    assert_text(response, b"a test")


def test_td_coap_core_11_get_with_token_separate(client):
    """A non-empty token comes back in the separate response, not in the ACK."""
    _, passed = client.ask("/separate")
    assert 1 <= len(passed[0].message.token) <= 8
    assert_separate(passed)


def test_td_coap_core_12_get_without_token(server):
    """No token: none in the response. These clients always send one, so the datagrams are written here."""
    piggybacked, pong = replies(server, coap.Message(coap.GET, mtype=CON, mid=7, uri_path=("test",)).encode())
    response = coap.Message.decode(piggybacked)
    assert (response.mtype, response.mid, response.token, pong[0] >> 4) == (ACK, 7, b"", 7)
    assert_text(response, b"a test")


# ---- TD_COAP_CORE: options of requests ----


def test_td_coap_core_13_get_several_uri_path(client):
    """An Uri-Path option for each segment."""
    request, response = client.exchange("/seg1/seg2/seg3")
    assert request.opt.uri_path == ("seg1", "seg2", "seg3")
    assert_text(response, b"seg1/seg2/seg3")


def test_td_coap_core_14_get_several_uri_query(client):
    """An Uri-Query option for each parameter."""
    request, response = client.exchange("/query?first=1&second=2&third=3")
    assert request.opt.uri_query == ("first=1", "second=2", "third=3")
    assert_text(response, b"first=1&second=2&third=3")


# ---- TD_COAP_CORE: loss ----


@pytest.mark.parametrize("lost", ["request", "response"])
def test_td_coap_core_15_get_piggybacked_lossy(client, lost):
    """One datagram is lost: the client repeats its request as it was; the answer is the same."""
    answer, passed = client.ask("/test", loses=[lost])
    assert (answer.code, answer.payload) == ("2.05", b"a test")
    requests = [datagram.message for datagram in passed if datagram.is_request]
    responses = [datagram.message for datagram in passed if not datagram.is_request]
    assert len(requests) >= 2 and requests == [requests[0]] * len(requests)
    assert len(responses) >= (1 if lost == "request" else 2)
    assert responses == [responses[0]] * len(responses)


@pytest.mark.parametrize("lost", ["request", "acknowledgement", "response", "confirmation"])
def test_td_coap_core_16_get_separate_lossy(client, lost):
    """One of the four datagrams is lost: who did not hear repeats; one response reaches the application."""
    answer, passed = client.ask("/separate", loses=[lost])
    assert (answer.code, answer.mtype, answer.payload) == ("2.05", "CON", b"separate")
    responses = [datagram.message for datagram in passed if datagram.message.code == coap.CONTENT]
    assert len({(response.mid, response.token, response.payload) for response in responses}) == 1
    requests = [datagram.message for datagram in passed if datagram.message.code == coap.GET]
    assert len({request.mid for request in requests}) == 1
    if lost == "request":
        assert len(requests) >= 2
    if lost == "response":
        assert len(responses) >= 2


def test_td_coap_core_17_get_separate_non(client):
    """GET, NON, with a response that takes its time: no ACK, then a NON with the token."""
    answer, passed = client.ask("/separate", mtype="NON")
    (_, request), (_, response) = passed
    assert (request.mtype, response.mtype, response.token) == (NON, NON, request.token)
    assert_text(response, b"separate")
    assert answer.payload == b"separate"


# ---- TD_COAP_CORE: options of responses ----


def test_td_coap_core_18_post_location_path(client):
    """POST: 2.01 with the path of what was created, an option for each segment."""
    _, response = client.exchange("/test", method="post", payload=b"new")
    assert (response.code, response.opt.location_path) == (coap.CREATED, ("location1", "location2", "location3"))


def test_td_coap_core_19_post_location_query(client):
    """POST: 2.01 with Location-Query, an option for each parameter."""
    _, response = client.exchange("/location-query", method="post", payload=b"new")
    assert (response.code, response.opt.location_query) == (coap.CREATED, ("first=1", "second=2"))


def test_td_coap_core_20_accept(client):
    """Accept 0 gives a text, Accept 41 XML; another one 4.06."""
    for accept, code, content_format, payload in (
        (0, coap.CONTENT, 0, b"text"),
        (XML, coap.CONTENT, XML, b"<text/>"),
        (50, coap.NOT_ACCEPTABLE, None, b""),
    ):
        request, response = client.exchange("/multi-format", accept=accept)
        assert request.opt.accept == accept
        assert (response.code, response.opt.content_format, response.payload) == (code, content_format, payload)


def test_td_coap_core_21_etag(client):
    """An ETag that is still right gives 2.03 without payload; after an update 2.05 with another ETag."""
    _, first = client.exchange("/validate")
    assert_text(first, b"first")
    request, valid = client.exchange("/validate", options=[(4, first.opt.etag)])
    assert (request.opt.etag, valid.opt.etag) == (first.opt.etag, first.opt.etag)
    assert (valid.code, valid.payload) == (coap.VALID, b"")
    client.exchange("/validate", method="put", payload=b"second")
    _, second = client.exchange("/validate", options=[(4, first.opt.etag)])
    assert_text(second, b"second")
    assert second.opt.etag not in (None, first.opt.etag)


def test_td_coap_core_22_if_match(client):
    """A PUT with the ETag of the state is executed; with one of an older state 4.12, and nothing changes."""
    _, first = client.exchange("/validate")
    match = [(1, first.opt.etag)]
    request, changed = client.exchange("/validate", method="put", payload=b"second", options=match)
    assert (request.opt.if_match, changed.code) == ((first.opt.etag,), coap.CHANGED)
    client.exchange("/validate", method="put", payload=b"third")
    _, refused = client.exchange("/validate", method="put", payload=b"fourth", options=match)
    assert refused.code == coap.PRECONDITION_FAILED
    assert_text(client.exchange("/validate")[1], b"third")


def test_td_coap_core_23_if_none_match(client):
    """A PUT with If-None-Match creates what is not there (2.01); the second gets 4.12, and nothing changes."""
    none = [(5, b"")]
    request, created = client.exchange("/create1", method="put", payload=b"one", options=none)
    assert (request.opt.if_none_match, created.code) == (True, coap.CREATED)
    _, refused = client.exchange("/create1", method="put", payload=b"two", options=none)
    assert refused.code == coap.PRECONDITION_FAILED
    assert_text(client.exchange("/create1")[1], b"one")


def test_td_coap_core_31_ping(server):
    """An empty CON is answered by an empty Reset. These clients have no ping, so the datagram is written here."""
    (pong,) = replies(server)
    reset = coap.Message.decode(pong)
    assert (reset.mtype, reset.code, reset.mid, len(pong)) == (RST, 0, PING[2] << 8 | PING[3], 4)


# ---- TD_COAP_LINK ----


def links(client, query=""):
    """The targets that /.well-known/core lists, after the checks of every such case."""
    request, response = client.exchange("/.well-known/core" + query)
    assert request.opt.uri_path == (".well-known", "core")
    assert request.opt.uri_query == ((query[1:],) if query else ())
    assert (response.code, response.opt.content_format) == (coap.CONTENT, 40)
    return [link[: link.index(">")] for link in response.payload.decode()[1:].split(",<")]


def test_td_coap_link_01_discovery(client):
    """All resources, as link format."""
    found = links(client)
    assert found[:2] == ["/test", "/seg1/seg2/seg3"]
    assert {"/link1", "/link2", "/link3", "/path", "/path/sub1", "/separate", "/validate"} <= set(found)


def test_td_coap_link_02_rt(client):
    """rt=Type1: one type of a resource, or one of its several."""
    assert links(client, "?rt=Type1") == ["/test", "/link1", "/link3"]


def test_td_coap_link_03_any_rt(client):
    """rt=*: whatever has a type."""
    assert links(client, "?rt=*") == ["/test", "/link1", "/link2", "/link3"]


def test_td_coap_link_04_one_of_several_rt(client):
    """rt=Type2: resources with several types of which this is one."""
    assert links(client, "?rt=Type2") == ["/link1", "/link2"]


def test_td_coap_link_05_if(client):
    """if=If*: interfaces that begin so."""
    assert links(client, "?if=If*") == ["/link1", "/link2"]


def test_td_coap_link_06_sz(client):
    """sz=*: whatever tells its size."""
    assert links(client, "?sz=*") == ["/validate"]


def test_td_coap_link_07_href(client):
    """href=/link1: that resource."""
    assert links(client, "?href=/link1") == ["/link1"]


def test_td_coap_link_08_href_prefix(client):
    """href=/link*: those that begin so."""
    assert links(client, "?href=/link*") == ["/link1", "/link2", "/link3"]


def test_td_coap_link_09_hierarchy(client):
    """ct=40: /path, which lists what is below it; each of these is there."""
    assert links(client, "?ct=40") == ["/path"]
    _, response = client.exchange("/path")
    assert (response.code, response.opt.content_format) == (coap.CONTENT, 40)
    below = [link.strip("<>") for link in response.payload.decode().split(",")]
    assert below == ["/path/sub1", "/path/sub2", "/path/sub3"]
    for path in below:
        assert_text(client.exchange(path)[1], path.split("/")[-1].encode())
