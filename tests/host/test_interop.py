"""Our server with the clients of libcoap, aiocoap and node-coap and our own; our client with their servers.

Ours runs on CPython and on MicroPython. The resources are those of serve.py, aiocoap_serve.py, node/serve.js.
Sections are those of RFC 7252.
"""

import collections
import random
import time

import pytest

from peers import (
    CLIENTS,
    RUNTIMES,
    SERVERS,
    Answer,
    ask_by_libcoap,
    ask_ours,
    doubling_relay,
    libcoap_server,
    our_server,
    replies,
    url,
)

COUNTER_LINK = b'</count>;ct=0;rt="counter"'
TEMPERATURE_LINK = b'</sensors/temp>;ct="0 50";if="sensor";rt="temperature"'
LINKS = b"</t>;ct=0,%b,%b,</a/b/c>;ct=0,</e//f/>;ct=0,</%%C3%%A4%%20%%C3%%B6/+&=%%25>;ct=0," % (
    COUNTER_LINK,
    TEMPERATURE_LINK,
)
LINKS += b"</query>;ct=0,</options>;ct=0,</slow>;ct=0,</large>;ct=42"


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    """What our client runs on."""
    return request.param


@pytest.fixture(params=RUNTIMES)
def server(request):
    """The port of our server, on each runtime."""
    with our_server(request.param) as port:
        yield port


@pytest.fixture(params=CLIENTS)
def ask(request):
    """The function that sends a request, of each client."""
    return CLIENTS[request.param]


@pytest.fixture(params=SERVERS)
def peer(request):
    """The port of a server of others that has the resources "t" and "slow"."""
    with SERVERS[request.param]() as port:
        yield port


@pytest.fixture
def libcoap():
    """The port of libcoap's server."""
    with libcoap_server() as port:
        yield port


def text(payload):
    """The answer to a GET of a text."""
    return Answer("2.05", "ACK", 0, payload)


# ---- our server ----


def test_get_gives_the_text(server, ask):
    """A GET is answered by a piggybacked 2.05 with Content-Format and payload (RFC 7252 section 5.2.1)."""
    assert ask(url(server, "/t")) == text(b"hello")


def test_accept_chooses_the_representation(server, ask):
    """Accept selects the Content-Format; without it the first one is given (section 5.10.4)."""
    assert ask(url(server, "/sensors/temp")) == text(b"22.5")
    assert ask(url(server, "/sensors/temp"), accept=0) == text(b"22.5")
    assert ask(url(server, "/sensors/temp"), accept=50) == Answer("2.05", "ACK", 50, b'{"celsius": 22.5}')


def test_a_representation_that_is_not_there_is_refused_with_4_06(server, ask):
    """An Accept that cannot be met gives 4.06 (section 5.10.4)."""
    assert ask(url(server, "/sensors/temp"), accept=60) == Answer("4.06", "ACK", None, b"")


def test_an_unknown_path_is_refused_with_4_04(server, ask):
    """A path that is no resource gives 4.04 (section 5.9.2.5)."""
    assert ask(url(server, "/nothing/here")) == Answer("4.04", "ACK", None, b"")


def test_a_method_without_handler_is_refused_with_4_05(server, ask):
    """A method that the resource lacks gives 4.05 (section 5.8)."""
    assert ask(url(server, "/t"), method="delete") == Answer("4.05", "ACK", None, b"")


def test_what_was_put_is_read_back(server, ask):
    """A PUT of all 256 byte values gives 2.04, and a GET the same bytes (section 5.8.3)."""
    data = bytes(range(256))
    assert ask(url(server, "/t"), method="put", payload=data) == Answer("2.04", "ACK", None, b"")
    assert ask(url(server, "/t")) == text(data)


def test_post_put_and_delete_are_executed_once_each(server, ask):
    """Each method runs once and answers by its own code: 2.01, 2.04, 2.02 (section 5.8)."""
    answers = [ask(url(server, "/count"), method=method, payload=b"x") for method in ("post", "put")]
    answers.append(ask(url(server, "/count"), method="delete"))
    assert [answer.code for answer in answers] == ["2.01", "2.04", "2.02"]
    assert [answer.payload for answer in answers] == [b"1", b"2", b"3"]
    assert ask(url(server, "/count")) == text(b"3")


def test_the_segments_of_a_path_arrive_in_order(server, ask):
    """Uri-Path options keep their order (section 5.10.1)."""
    assert ask(url(server, "/a/b/c")) == text(b"a\nb\nc")


# node-coap's client sends percent-encoded segments as they are and leaves out empty ones.
ASKS_ANY_PATH = pytest.mark.parametrize("ask", [name for name in CLIENTS if name != "node"], indirect=True)


@ASKS_ANY_PATH
def test_percent_encoded_segments_arrive_decoded(server, ask):
    """Segments are UTF-8 without percent-encoding on the wire (section 6.4)."""
    assert ask(url(server, "/%C3%A4%20%C3%B6/+&=%25")) == text("ä ö\n+&=%".encode())


@ASKS_ANY_PATH
def test_a_path_cut_into_other_segments_is_another_path(server, ask):
    """Where one segment ends and the next begins is part of the path (section 5.10.1)."""
    for path in ("/a%2Fb/c", "/a/b%2Fc", "/a%01b%01c", "/a/b%01c", "/a/b/c/", "//a/b/c"):
        assert (path, ask(url(server, path)).code) == (path, "4.04")


@ASKS_ANY_PATH
def test_empty_segments_arrive(server, ask):
    """Empty Uri-Path options are kept, in the middle and at the end (section 5.10.1)."""
    assert ask(url(server, "/e//f/")) == text(b"e\n\nf\n")
    assert ask(url(server, "/e/f")).code == "4.04"


def test_repeated_queries_arrive_in_order(server, ask):
    """Uri-Query options keep order and repetitions (section 5.10.1)."""
    assert ask(url(server, "/query?b=2&a=1&b=1&flag&b=2")) == text(b"b=2\na=1\nb=1\nflag\nb=2")


def test_repeated_options_arrive_in_order(server, ask):
    """Five ETags that are not sorted by value keep their order (section 5.4.5)."""
    etags = [(4, bytes([n])) for n in (5, 1, 4, 2, 3)]
    answer = ask(url(server, "/options"), options=etags)
    assert answer == text(b"4=05\n4=01\n4=04\n4=02\n4=03")


def test_unknown_elective_options_arrive_in_order(server, ask):
    """Elective options with two-byte deltas are left to the handler (sections 3.1, 5.4.1)."""
    unknown = [(2048, b"\xff" * 20), (2048, b"\0"), (65000, b"end")]
    answer = ask(url(server, "/options"), options=unknown)
    assert answer == text(f"2048={'ff' * 20}\n2048=00\n65000=656e64".encode())


def test_an_unknown_critical_option_is_refused_with_4_02(server, ask):
    """A critical option that nobody understands gives 4.02 (section 5.4.1)."""
    assert ask(url(server, "/options"), options=[(2049, b"x")]) == Answer("4.02", "ACK", None, b"")


def test_a_separate_response_arrives(server, ask):
    """An empty ACK, then a CON with the response, which the client takes (section 5.2.2)."""
    assert ask(url(server, "/slow")) == Answer("2.05", "CON", 0, b"done")


def test_a_non_is_answered_by_a_non(server, ask):
    """A NON request gets a NON, at once, later and as an error (section 5.2.3)."""
    assert ask(url(server, "/t"), mtype="NON") == Answer("2.05", "NON", 0, b"hello")
    assert ask(url(server, "/slow"), mtype="NON") == Answer("2.05", "NON", 0, b"done")
    assert ask(url(server, "/nothing"), mtype="NON") == Answer("4.04", "NON", None, b"")


def test_an_answer_of_1000_bytes_arrives_whole(server, ask):
    """A payload that nearly fills a datagram arrives in one (section 4.6)."""
    assert ask(url(server, "/large")) == Answer("2.05", "ACK", 42, bytes(i % 251 for i in range(1000)))


def test_discovery_lists_the_resources(server, ask):
    """/.well-known/core gives every resource but itself as a link (RFC 6690 section 4)."""
    assert ask(url(server, "/.well-known/core")) == Answer("2.05", "ACK", 40, LINKS)


def test_discovery_lists_the_resources_that_pass_a_filter(server, ask):
    """A query on an attribute or href, exact or by prefix, selects links (RFC 6690 section 4.1)."""
    filters = [("rt=temperature", TEMPERATURE_LINK), ("rt=count*", COUNTER_LINK), ("ct=50", TEMPERATURE_LINK)]
    filters += [("href=/count", COUNTER_LINK), ("rt=humidity", b"")]
    for query, links in filters:
        answer = ask(url(server, "/.well-known/core?" + query))
        assert (query, answer.code, answer.payload) == (query, "2.05", links)


def test_libcoap_gets_its_token_back(server):
    """The answer carries an 8-byte token that the client chose (section 5.3.1)."""
    answer = ask_by_libcoap(url(server, "/t"), words=["-T", "token-8b"])
    assert answer == text(b"hello")


# ---- our server, byte by byte ----

GET_TEXT = bytes.fromhex("40011234 b174")
TEXT = bytes.fromhex("60451234 c0 ff") + b"hello"
PONG = bytes.fromhex("7000fffe")


def test_an_answer_is_these_bytes(server):
    """The answers to a GET and to a ping, bit for bit (section 3)."""
    get_with_token = bytes.fromhex("48011235 0001020304050607 b174")
    text_with_token = bytes.fromhex("68451235 0001020304050607 c0 ff") + b"hello"
    assert replies(server, GET_TEXT, get_with_token) == [TEXT, text_with_token, PONG]


def test_datagrams_shorter_than_a_header_are_ignored(server):
    """0 to 3 bytes get no reply, and the next request is answered (section 3)."""
    assert replies(server, b"", b"\x40", b"", b"\x40\x01", b"\x40\x01\x12", GET_TEXT) == [TEXT, PONG]


def test_garbage_leaves_the_server_answering(server):
    """After 1000 random datagrams and one of 1500 bytes the server answers as before."""
    chance = random.Random(7252)
    for _ in range(10):
        replies(server, *[chance.randbytes(chance.randrange(40)) for _ in range(50)])
        replies(server, *[b"\x40" + chance.randbytes(chance.randrange(40)) for _ in range(50)])
    assert replies(server, b"\xff" * 1500, GET_TEXT) == [TEXT, PONG]


def test_a_put_received_twice_is_executed_once_and_answered_twice(server):
    """A duplicate CON gets the first answer again, and nothing is executed (section 4.5)."""
    put = bytes.fromhex("41031235 ee") + b"\xb5count"
    put_again = bytes.fromhex("41031236 ef") + b"\xb5count"
    get = bytes.fromhex("41011237 f0") + b"\xb5count"
    first, second = b"\x61\x44\x12\x35\xee\xc0\xff1", b"\x61\x44\x12\x36\xef\xc0\xff2"
    assert replies(server, put, put, put_again, put, put_again, get) == [
        *(first, first, second, first, second),
        b"\x61\x45\x12\x37\xf0\xc0\xff2",
        PONG,
    ]


def test_a_non_put_received_twice_is_executed_once_and_answered_once(server):
    """A duplicate NON is ignored (section 4.5)."""
    put = bytes.fromhex("51031235 ee") + b"\xb5count"
    get = bytes.fromhex("41011237 f0") + b"\xb5count"
    answer, count, pong = replies(server, put, put, put, get)
    assert answer[:2] + answer[4:] == b"\x51\x44\xee\xc0\xff1"
    assert (count, pong) == (b"\x61\x45\x12\x37\xf0\xc0\xff1", PONG)


# ---- our server and our client ----


def test_a_put_is_executed_once_when_every_datagram_comes_twice(server, runtime):
    """Both ends of ours ignore duplicates of requests and of answers (section 4.5)."""
    with doubling_relay(server) as (port, _):
        put = {"uri": url(port, "/count"), "method": "put"}
        answers = ask_ours(runtime, put, put, {**put, "mtype": "NON"}, {"uri": url(port, "/count")})
    assert [answer.payload for answer in answers] == [b"1", b"2", b"3", b"3"]
    assert [answer.mtype for answer in answers] == ["ACK", "ACK", "NON", "ACK"]


def test_a_separate_response_is_acknowledged_as_often_as_it_comes(server, runtime):
    """A duplicate of a CON response gets an ACK, not a Reset, after the exchange too (section 4.2)."""
    with doubling_relay(server) as (port, sent):
        slow = {"uri": url(port, "/slow")}
        assert ask_ours(runtime, slow, slow, slow) == [Answer("2.05", "CON", 0, b"done")] * 3
    replies_sent = [datagram for datagram in sent if datagram[1] == 0]
    assert {datagram[0] for datagram in replies_sent} == {0x60}
    acks_by_mid = collections.Counter(datagram[2:] for datagram in replies_sent)
    assert list(acks_by_mid.values())[:2] == [2, 2]  # the client ends before the last duplicate comes


# ---- our client and the servers of aiocoap and node-coap ----


def test_our_client_gets_a_text(runtime, peer):
    """A piggybacked response of theirs reaches the caller (section 5.2.1)."""
    assert ask_ours(runtime, {"uri": url(peer, "/t")}) == [text(b"hello")]


def test_our_client_reads_back_what_it_put(runtime, peer):
    """All 256 byte values go to their server and back (section 5.8.3)."""
    data = bytes(range(256))
    put = {"uri": url(peer, "/t"), "method": "put", "payload": data}
    answers = ask_ours(runtime, put, {"uri": url(peer, "/t")})
    assert answers == [Answer("2.04", "ACK", None, b""), text(data)]


def test_our_client_returns_4_04(runtime, peer):
    """An error is returned like any response, not raised."""
    assert ask_ours(runtime, {"uri": url(peer, "/nothing")})[0].code == "4.04"


def test_our_client_takes_a_separate_response(runtime, peer):
    """Our client waits on after their empty ACK and takes the CON (section 5.2.2)."""
    assert ask_ours(runtime, {"uri": url(peer, "/slow")}) == [Answer("2.05", "CON", 0, b"done")]


def test_our_client_takes_the_answer_to_a_non(runtime, peer):
    """Our NON request is answered by their NON (section 5.2.3)."""
    get = {"uri": url(peer, "/t"), "mtype": "NON"}
    assert ask_ours(runtime, get) == [Answer("2.05", "NON", 0, b"hello")]


def test_our_client_sends_several_requests_in_a_row(runtime, peer):
    """Ten requests of one endpoint each get their own answer (section 5.3.2)."""
    puts = [{"uri": url(peer, "/t"), "method": "put", "payload": b"%d" % n} for n in range(5)]
    get = {"uri": url(peer, "/t")}
    answers = ask_ours(runtime, *[request for put in puts for request in (put, get)])
    assert answers[1::2] == [text(b"%d" % n) for n in range(5)]
    assert {answer.code for answer in answers[::2]} == {"2.04"}


def test_our_client_finds_localhost(runtime, peer):
    """A name is looked up, and its Uri-Host does not disturb their server (section 5.10.1)."""
    assert ask_ours(runtime, {"uri": f"coap://localhost:{peer}/t"}) == [text(b"hello")]


# ---- our client and libcoap's server ----

LIBCOAP_LINKS = (
    b'</>;title="General Info";ct=0,</time>;if="clock";rt="ticks";title="Internal Clock";ct=0;obs,'
    b'</async>;ct=0,</example_data>;title="Example Data";ct=0;obs'
)


def test_our_client_gets_what_libcoap_serves(runtime, libcoap):
    """Text, query, links and 4.04 of libcoap's server reach the caller."""
    paths = ("/", "/time?ticks", "/.well-known/core", "/nothing")
    begin_s = time.time()
    root, ticks, links, nothing = ask_ours(runtime, *[{"uri": url(libcoap, path)} for path in paths])
    assert root.payload.startswith(b"This is a test server made with libcoap")
    assert begin_s - 2 <= int(ticks.payload) <= time.time() + 2
    assert links == Answer("2.05", "ACK", 40, LIBCOAP_LINKS)
    assert nothing == Answer("4.04", "ACK", None, b"Not Found")


def test_our_client_reads_back_what_it_put_into_libcoap(runtime, libcoap):
    """PUT creates and changes resources there: 2.01, then 2.04 (section 5.8.3)."""
    data = bytes(range(256))
    get = {"uri": url(libcoap, "/example_data")}
    new = {"uri": url(libcoap, "/new/one"), "method": "put", "payload": b"created"}
    put, got, created, changed, read = ask_ours(
        runtime,
        {**get, "method": "put", "payload": data},
        get,
        new,
        {**new, "payload": b"changed"},
        {"uri": new["uri"]},
    )
    assert (put.code, got.code, got.payload) == ("2.01", "2.05", data)
    assert (created.code, changed.code, read.code, read.payload) == ("2.01", "2.04", "2.05", b"changed")


def test_our_client_takes_a_separate_response_of_libcoap(runtime, libcoap):
    """Our client waits a second after its empty ACK and takes the CON (section 5.2.2)."""
    assert ask_ours(runtime, {"uri": url(libcoap, "/async?1")}) == [Answer("2.05", "CON", None, b"done")]


def test_our_client_takes_libcoaps_answer_to_a_non(runtime, libcoap):
    """Our NON request is answered by libcoap's NON (section 5.2.3)."""
    answers = ask_ours(runtime, {"uri": url(libcoap, "/nothing"), "mtype": "NON"})
    assert answers == [Answer("4.04", "NON", None, b"Not Found")]


def test_our_client_finds_localhost_at_libcoap(runtime, libcoap):
    """A name is looked up, and its Uri-Host does not disturb libcoap (section 5.10.1)."""
    answers = ask_ours(runtime, {"uri": f"coap://localhost:{libcoap}/.well-known/core"})
    assert answers == [Answer("2.05", "ACK", 40, LIBCOAP_LINKS)]
