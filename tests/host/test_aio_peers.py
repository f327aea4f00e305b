"""coap_aio with peers: requests to servers of aiocoap, libcoap and node-coap at once, and their clients' requests.

Our side runs on CPython and on MicroPython.
"""

import contextlib
import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from peers import (
    ENVIRONMENT,
    RUNTIMES,
    Answer,
    aiocoap_server,
    ask_by_aiocoap,
    ask_by_libcoap,
    ask_by_node,
    free_port,
    interpreter,
    libcoap_server,
    node_server,
    running,
    url,
    wait_until_answering,
)

TIME_LIMIT_S = 30

# Where MicroPython has its asyncio; MICROPYPATH, when it is set, replaces the path that has it
FROZEN = """
import sys

sys.path.append(".frozen")
"""

# Sends all requests at once, prints [index, result] of each as JSON, as they end. Arguments: file of URIs, one a line.
ASK = (
    FROZEN
    + """
import asyncio
import json

import coap
import coap_aio


async def ask(aio, n, uri, ended):
    try:
        response = await aio.get(uri, timeout_ms=1500 if uri.endswith("/unreachable") else 20000)
    except (coap.Error, OSError, ValueError) as error:
        return ended.append([n, type(error).__name__])
    ended.append([n, "%s %s" % (coap.code_text(response.code)[:4], str(response.payload, "utf-8"))])


async def main():
    aio = coap_aio.Aio(coap.Endpoint())
    with open(sys.argv[1]) as lines:
        uris = lines.read().split()
    ended = []
    await asyncio.gather(*[ask(aio, n, uri, ended) for n, uri in enumerate(uris)])
    print(json.dumps(ended))
    aio.close()


asyncio.run(main())
"""
)

# A server whose "slow" answers from a task, "ask" with what the URI in argument 2 answers. Argument 1: its port.
SERVE = (
    FROZEN
    + """
import asyncio

import coap
import coap_aio

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
aio = coap_aio.Aio(endpoint)
text = endpoint.resource("t", ct=coap.TEXT)


@text.get
def read(request, response):
    return "hello"


async def answer_slow(later):
    await asyncio.sleep(0.2)
    later.payload = "done"
    aio.send(later)


async def answer_asked(later):
    response = await aio.get(sys.argv[2])
    later.payload = response.payload
    aio.send(later)


def promise(answer):
    def handle(request, response):
        asyncio.create_task(answer(response.copy(content_format=coap.TEXT)))
        return coap.LATER

    return handle


endpoint.resource("slow").get(promise(answer_slow))
endpoint.resource("ask").get(promise(answer_asked))
asyncio.run(aio.serve())
"""
)


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    """What our side runs on."""
    return request.param


def ask_at_once(runtime, folder, uris):
    """([result of each], the first to end): a code and payload, or the name of the exception."""
    (folder / "ask.py").write_text(ASK)
    (folder / "uris").write_text("\n".join(uris))
    command = [interpreter(runtime), folder / "ask.py", folder / "uris"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    ended = json.loads(done.stdout)
    return [result for _, result in sorted(ended)], uris[ended[0][0]]


@contextlib.contextmanager
def aio_server(runtime, folder, asked="coap://127.0.0.1"):
    """A server on our asyncio; gives its port."""
    (folder / "serve.py").write_text(SERVE)
    port = free_port()
    with running(interpreter(runtime), folder / "serve.py", port, asked, port=port):
        yield port


def test_requests_to_many_servers_at_once_end_each_in_its_own_way(runtime, tmp_path):
    """RFC 7252: piggybacked, separate, an error, nobody there, a name that is none; none waits for another's end"""
    with aiocoap_server() as aiocoap, libcoap_server() as libcoap, node_server() as node:
        expected = {
            url(free_port(), "/unreachable"): "Timeout",
            url(aiocoap, "/t"): "2.05 hello",
            url(aiocoap, "/slow"): "2.05 done",
            url(node, "/t"): "2.05 hello",
            url(node, "/slow"): "2.05 done",
            url(aiocoap, "/none"): "4.04 ",
            "coap://does-not-exist.invalid/t": "OSError",
            "http:/x": "ValueError",
        }
        results, first = ask_at_once(runtime, tmp_path, [*expected, url(libcoap, "/")])
    results = [result.replace("gaierror", "OSError") for result in results]
    assert dict(zip(expected, results)) == expected
    assert results[-1].startswith("2.05 This is a test server")
    assert not first.endswith("/unreachable")


def test_sixty_requests_at_once_are_all_answered(runtime, tmp_path):
    """RFC 7252 section 4.7: more than the tables hold, to several servers"""
    with aiocoap_server() as aiocoap, node_server() as node:
        uris = [url(aiocoap, "/t"), url(node, "/t"), url(aiocoap, "/t")] * 20
        results, _ = ask_at_once(runtime, tmp_path, uris)
    assert results == ["2.05 hello"] * 60


@pytest.mark.parametrize("ask", [ask_by_aiocoap, ask_by_libcoap, ask_by_node])
def test_server_in_asyncio_answers_each_client(runtime, ask, tmp_path):
    """RFC 7252 section 5.2: piggybacked, and separate from a task"""
    with aio_server(runtime, tmp_path) as port:
        assert ask(url(port, "/t")) == Answer("2.05", "ACK", 0, b"hello")
        assert ask(url(port, "/slow")) == Answer("2.05", "CON", 0, b"done")
        assert ask(url(port, "/none")).code == "4.04"


def test_server_in_asyncio_asks_another_while_it_serves(runtime, tmp_path):
    """Server and client on one endpoint"""
    with node_server() as node, aio_server(runtime, tmp_path, url(node, "/slow")) as port:
        assert ask_by_libcoap(url(port, "/ask")).payload == b"done"


def test_server_in_asyncio_when_idle_then_it_sleeps(runtime, tmp_path):
    """No busy polling: the process is not woken"""
    (tmp_path / "serve.py").write_text(SERVE)
    port = free_port()
    with subprocess.Popen([interpreter(runtime), tmp_path / "serve.py", str(port)], env=ENVIRONMENT) as server:
        try:
            wait_until_answering(server, port)
            ask_by_libcoap(url(port, "/slow"))
            woken = []
            while woken[-2:] != [0, 0]:  # the client's last ACK may come late; what polls finds no such second
                assert len(woken) < 10, woken
                before = wakings(server.pid)
                time.sleep(0.5)
                woken.append(wakings(server.pid) - before)
        finally:
            server.kill()


def wakings(pid):
    """How often a process has stopped for something to wait for, or for others (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return sum([int(number) for number in re.findall(r"ctxt_switches:\s*(\d+)", status)])


def test_server_on_cpython_when_interrupted_then_it_ends(tmp_path):
    """Ctrl-C of asyncio.run"""
    (tmp_path / "serve.py").write_text(SERVE)
    port = free_port()
    command = [interpreter("cpython"), tmp_path / "serve.py", str(port)]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as server:
        try:
            wait_until_answering(server, port)
        finally:
            server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=TIME_LIMIT_S)
    assert errors.strip().endswith("KeyboardInterrupt") and "never retrieved" not in errors
