"""CoAP peers for the interop tests: starts servers, sends requests with clients, ours and others'.

Servers are context managers: each gives a port of 127.0.0.1 on which it answers, and is killed at the end.
CLIENTS are functions ask(uri, ...) that send one request and return its Answer; `request_line` explains the
arguments.
"""

import asyncio
import collections
import contextlib
import functools
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from programs import ROOT, node_package, program
from udp_ports import free_port

HOST = "127.0.0.1"
HERE = Path(__file__).resolve().parent
RUNTIMES = ("cpython", "micropython")  # what our library runs on
PING = bytes.fromhex("4000fffe")
START_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 5
CLIENT_TIMEOUT_S = 30
ENVIRONMENT = dict(os.environ, PYTHONPATH=str(ROOT / "lib"), MICROPYPATH=f"{ROOT}/lib:.frozen")

# code: "2.05"; mtype: "ACK" (piggybacked), "CON" or "NON"; content_format: int or None; payload: bytes
Answer = collections.namedtuple("Answer", "code mtype content_format payload")


def url(port, path):
    """The URI of a resource of a server started here."""
    return f"coap://{HOST}:{port}{path}"


# ---- datagrams ----


def replies(port, *datagrams, timeout_s=ANSWER_TIMEOUT_S):
    """Sends datagrams and a ping from one socket; returns what comes back, up to the answer to the ping.

    Raises TimeoutError when the ping is not answered.
    """
    received = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        for datagram in (*datagrams, PING):
            sock.sendto(datagram, (HOST, port))
        while not received or received[-1][2:4] != PING[2:4]:
            received.append(sock.recv(2048))
            if received[-1] == PING:  # nobody had the port, and the system gave it to this very socket
                raise TimeoutError("only this socket itself hears what is sent there")
    return received


@contextlib.contextmanager
def relay(server_port, change):
    """A port that passes datagrams on between a server and its clients, one at a time; gives that port.

    change: called as change(datagram, is_request), returns the datagrams that go on in its place.
    """
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as front,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back,
    ):
        front.bind((HOST, 0))
        back.connect((HOST, server_port))
        ended = threading.Event()
        thread = threading.Thread(target=pass_on, args=(front, back, change, ended))
        thread.start()
        try:
            yield front.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def pass_on(front, back, change, ended):
    """Passes on until `ended` is set and what came before has gone: a client may end right after its last ACK."""
    client = None
    is_last = False
    while not is_last:
        is_last = ended.is_set()
        while ready := select.select([front, back], [], [], 0 if is_last else 0.02)[0]:
            if front in ready:
                datagram, client = front.recvfrom(2048)
                for changed in change(datagram, True):
                    back.send(changed)
            if back in ready:
                for changed in change(back.recv(2048), False):
                    front.sendto(changed, client)


@contextlib.contextmanager
def doubling_relay(server_port):
    """A relay that doubles every datagram; gives its port and a list of what the client sends, once each."""
    sent = []

    def double(datagram, is_request):
        if is_request:
            sent.append(datagram)
        return datagram, datagram

    with relay(server_port, double) as port:
        yield port, sent


# ---- servers ----


@contextlib.contextmanager
def running(*command, port):
    """Runs a server until the end of the block; gives its port as soon as it answers.

    Prints what the server printed, for pytest to show when the test fails.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        with subprocess.Popen(words, env=ENVIRONMENT, **streams) as server:
            try:
                wait_until_answering(server, port)
                yield port
            finally:
                server.kill()
                output.seek(0)
                print(output.read().decode(errors="replace"), end="")


def wait_until_answering(server, port):
    """Pings until the server answers; raises AssertionError when it ends or never does."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        assert server.poll() is None, f"{server.args} ended with {server.returncode}"
        with contextlib.suppress(TimeoutError):
            replies(port, timeout_s=0.03)
            return
    raise AssertionError(f"{server.args} does not answer")


def interpreter(runtime):
    """The path of the program that runs Python on `runtime`."""
    return sys.executable if runtime == "cpython" else program("micropython")


def our_server(runtime):
    """serve.py on a runtime."""
    port = free_port()
    return running(interpreter(runtime), HERE / "serve.py", port, port=port)


def libcoap_server():
    """libcoap's example server, with room for 5 resources that clients create by PUT."""
    port = free_port()
    return running(program("coap-server-notls"), "-A", HOST, "-p", port, "-d", "5", port=port)


def aiocoap_server():
    """aiocoap_serve.py"""
    require_aiocoap()
    port = free_port()
    return running(sys.executable, HERE / "aiocoap_serve.py", port, port=port)


def node_server():
    """node/serve.js"""
    node_package("coap")
    port = free_port()
    return running(program("node"), HERE / "node/serve.js", port, port=port)


# ---- clients ----


def require_aiocoap():
    """Returns the module aiocoap; skips the test when it is missing."""
    return pytest.importorskip("aiocoap", reason="aiocoap is missing: make venv")


def request_line(uri, method="get", payload=b"", mtype="CON", accept=None, options=()):
    """A request as a client in another process reads it, a line of JSON; bytes are hexadecimal digits.

    method: get, post, put or delete; mtype: CON or NON; options: (number, bytes) to add.
    """
    fields = {"uri": uri, "method": method, "payload": payload.hex(), "mtype": mtype}
    if accept is not None:
        fields["accept"] = accept
    if options:
        fields["options"] = [(number, value.hex()) for number, value in options]
    return json.dumps(fields) + "\n"


def ask_process(*command, requests):
    """Has a client in another process send requests, each a dict for request_line; returns the Answers."""
    lines = "".join([request_line(**request) for request in requests])
    done = subprocess.run(
        command, input=lines, env=ENVIRONMENT, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [Answer(**json.loads(line)) for line in done.stdout.splitlines()]
    return [answer._replace(payload=bytes.fromhex(answer.payload)) for answer in answers]


def ask_ours(runtime, *requests):
    """Sends requests, each a dict for request_line, with our client; returns the Answers."""
    return ask_process(interpreter(runtime), HERE / "ask.py", requests=requests)


def ask_by_ours(runtime, uri, **fields):
    """Sends one request with our client; see request_line."""
    return ask_ours(runtime, {"uri": uri, **fields})[0]


def ask_by_node(uri, **fields):
    """Sends one request with node-coap; see request_line."""
    node_package("coap")
    return ask_process(program("node"), HERE / "node/ask.js", requests=[{"uri": uri, **fields}])[0]


def ask_by_aiocoap(uri, **fields):
    """Sends one request with aiocoap; see request_line."""
    require_aiocoap()
    return asyncio.run(ask_aiocoap(uri, **fields))


async def ask_aiocoap(uri, method="get", payload=b"", mtype="CON", accept=None, options=()):
    """Sends one request in the running event loop."""
    import aiocoap
    from aiocoap.optiontypes import OpaqueOption

    tuning = aiocoap.Unreliable if mtype == "NON" else None
    code = getattr(aiocoap, method.upper())
    request = aiocoap.Message(code=code, uri=uri, payload=payload, accept=accept, transport_tuning=tuning)
    for number, value in options:
        request.opt.add_option(OpaqueOption(number, value))
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    try:
        waiting = context.request(request, handle_blockwise=False).response
        response = await asyncio.wait_for(waiting, ANSWER_TIMEOUT_S)
    finally:
        await context.shutdown()
    content_format = response.opt.content_format
    content_format = None if content_format is None else int(content_format)
    return Answer(response.code.dotted, response.mtype.name, content_format, response.payload)


LIBCOAP_FORMATS = {
    "text/plain": 0,
    "application/link-format": 40,
    "application/xml": 41,
    "application/octet-stream": 42,
    "application/json": 50,
}


def ask_by_libcoap(uri, method="get", payload=b"", mtype="CON", accept=None, options=(), words=()):
    """Sends one request with libcoap's example client; see request_line. `words` are added to its command."""
    words = [*words, "-m", method, "-v", "7", "-B", str(ANSWER_TIMEOUT_S)]
    if payload:
        words += ["-f", "-"]
    if mtype == "NON":
        words.append("-N")
    if accept is not None:
        words += ["-A", str(accept)]
    for number, value in options:
        words += ["-O", f"{number},0x{value.hex()}"]
    with tempfile.NamedTemporaryFile() as received:
        command = [program("coap-client-notls"), *words, "-o", received.name, uri]
        done = subprocess.run(command, input=payload, capture_output=True, timeout=CLIENT_TIMEOUT_S)
        log = (done.stdout + done.stderr).decode(errors="replace")
        return libcoap_answer(log, received.read())


def libcoap_answer(log, payload):
    """The Answer in the log of libcoap's client."""
    responses = re.findall(r"^v:1 t:(\w+) c:([245]\.\d\d) i:\w+ {\w*} \[ (.*?) ?\]", log, re.MULTILINE)
    assert len(responses) == 1, log
    mtype, code, options = responses[0]
    name = re.search(r"Content-Format:([^ ,]+)", options)
    return Answer(code, mtype, name and LIBCOAP_FORMATS[name[1]], payload)


CLIENTS = {
    "libcoap": ask_by_libcoap,
    "aiocoap": ask_by_aiocoap,
    "node": ask_by_node,
    "cpython": functools.partial(ask_by_ours, "cpython"),
    "micropython": functools.partial(ask_by_ours, "micropython"),
}
SERVERS = {"aiocoap": aiocoap_server, "node": node_server}  # with the resources "t" and "slow"
