"""The `coap` command: each of its commands with our server and others', in a pipe and in a terminal; how it ends."""

import contextlib
import fcntl
import json
import os
import pty
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

import filelock
import pytest

import coap
import coap_oscore
import coap_oscore_keys
from coap_cli import exits, names, readable, security
from coap_cli.commands import main
from coap_cli.plot import number_in
from coap_cli.trace import Trace, message_text
from peers import (
    HERE,
    HOST,
    RUNTIMES,
    aiocoap_server,
    doubling_relay,
    free_port,
    interpreter,
    libcoap_server,
    require_aiocoap,
    running,
    url,
)
from programs import ROOT, program

COMMAND = [sys.executable, str(ROOT / "tools/coap")]
END_TIMEOUT_S = 20
BODY = bytes([i % 251 for i in range(20000)])
JSON = '{"value": 22.5, "unit": "\u00b0C"}'
CBOR = bytes.fromhex("a26576616c7565f94da064756e697461" + "43")
TEXT, LINKS, OCTETS = coap.TEXT, coap.LINKS, coap.OCTETS

# Arguments: port, and for OSCORE the file of contexts and the path of its sequence numbers
SERVER = """
import sys

import coap
import coap_block
import coap_observe
import coap_oscore

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
coap_block.attach(endpoint, body_len=100000, unverified_len=None)
coap_observe.attach(endpoint, interval_ms=20)
if sys.argv[2:]:
    coap_oscore.attach(endpoint, sys.argv[2], sys.argv[3], secure=True)
value = endpoint.resource("value", rt="temperature", ct=(coap.TEXT, coap.JSON, coap.CBOR), obs=True)
stored = endpoint.resource("stored", ct=coap.OCTETS)
made = endpoint.resource("made")
search = endpoint.resource("search", ct=coap.CBOR)
body = b""
celsius = 20


@value.get
def read_value(request, response):
    if request.opt.accept == coap.JSON:
        return %r
    if request.opt.accept == coap.CBOR:
        return %r
    return "%%d C" %% celsius


@stored.get
def read_stored(request, response):
    return body


@stored.put
def write_stored(request, response):
    global body
    body = bytes(request.payload)


@stored.delete
def delete_stored(request, response):
    global body
    body = b""


@made.post
def make(request, response):
    response.opt.location_path = ("made", "7")


@made.get
def fail(request, response):
    raise RuntimeError


@search.on(coap.FETCH)
def fetch(request, response):
    return request.payload


due_ms = coap.ticks_ms()
while True:
    endpoint.process(20)
    if coap.ticks_diff(due_ms, coap.ticks_ms()) <= 0:
        due_ms = coap.ticks_add(due_ms, 100)
        celsius += 1
        endpoint.notify("value")
""" % (JSON, CBOR)

# A member of a group on a network of its own. Arguments: its address.
MEMBER = """
import sys

import coap
import coap_block

endpoint = coap.Endpoint(port=5683, tuning=coap.Tuning(leisure_ms=300))
endpoint.join("224.0.1.187", sys.argv[1])
endpoint.resource("light", rt="light", title="of " + sys.argv[1])
if sys.argv[1] == "10.7.7.4":
    coap_block.attach(endpoint)
    endpoint.resource("lamp", rt="light", title="the list has more than 64 bytes, the first block")
print("joined")
while True:
    endpoint.process()
"""


@pytest.fixture(scope="module", params=RUNTIMES)
def server(request, tmp_path_factory):
    """The port of SERVER, on each runtime."""
    path = tmp_path_factory.mktemp("server") / "server.py"
    path.write_text(SERVER)
    port = free_port()
    with running(interpreter(request.param), path, port, port=port):
        yield port


@pytest.fixture(scope="module")
def libcoap():
    """The port of libcoap's server."""
    with libcoap_server() as port:
        yield port


@pytest.fixture
def run(capfdbinary):
    """run(*words) runs the command in this process; gives exit code, standard output as bytes, stderr as text."""

    def call(*words):
        capfdbinary.readouterr()
        exit_code = main([str(word) for word in words])
        out, err = capfdbinary.readouterr()
        return exit_code, out, err.decode()

    return call


def in_pipe(*words, stdin=b""):
    """Runs the command as a process of its own with pipes; returns exit code, output, text of stderr."""
    done = subprocess.run([*COMMAND, *[str(word) for word in words]], input=stdin, capture_output=True, timeout=20)
    return done.returncode, done.stdout, done.stderr.decode()


def begin_in_terminal():
    """The child's side: its terminal becomes the controlling one, so that Ctrl-C there is a signal."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def in_terminal(*words, rows=24, columns=90, interrupt_at=None):
    """Runs the command in a terminal; returns exit code and what the terminal got, as text.

    interrupt_at: a regular expression; when it is there, Ctrl-C is pressed.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    command = [*COMMAND, *[str(word) for word in words]]
    streams = {"stdin": its, "stdout": its, "stderr": its}
    with subprocess.Popen(command, env=environment, preexec_fn=begin_in_terminal, **streams) as process:
        os.close(its)
        try:
            text = read_terminal(ours, interrupt_at)
            return process.wait(END_TIMEOUT_S), text
        finally:
            process.kill()
            os.close(ours)


def read_terminal(terminal, interrupt_at):
    """What comes from a terminal until its process has ended."""
    shown = b""
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # the other side is closed
            return shown.decode()
        if interrupt_at and re.search(interrupt_at, shown.decode(errors="ignore")):
            os.write(terminal, b"\x03")
            interrupt_at = None
    raise AssertionError(f"it has not ended: {shown[-500:]}")


@contextlib.contextmanager
def peer(answer, family=socket.AF_INET, host=HOST):
    """A port on which answer(datagram) is sent back for each datagram, unless it is None."""

    def serve():
        is_last = False
        while not is_last:
            is_last = ended.is_set()  # then what has come is still taken
            while select.select([sock], [], [], 0 if is_last else 0.05)[0]:
                datagram, sender = sock.recvfrom(2048)
                reply = answer(datagram)
                if reply is not None:
                    sock.sendto(reply, sender)

    ended = threading.Event()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def answer_with(code, *options, payload=b""):
    """A function for `peer`: a piggybacked response."""

    def answer(datagram):
        request = coap.Message.decode(datagram)
        response = coap.Message(code, mtype=coap.ACK, mid=request.mid, token=request.token, payload=payload)
        for number, value in options:
            response.add_option(number, value)
        return response.encode()

    return answer


# ---- each command, with our server and with those of others ----


def test_get_in_a_pipe_gives_the_payload_as_it_came_and_nothing_else(server):
    """payload to stdout, exit code 0; the scheme may be left out"""
    assert in_pipe("get", "-A", "cbor", f"{HOST}:{server}/value") == (0, CBOR, "")
    assert in_pipe("get", "-A", "50", url(server, "/value")) == (0, JSON.encode(), "")


def test_get_in_a_terminal_shows_cbor_and_json_readable(server):
    """and as they came with --raw"""
    readable_line = '{"value": 22.5, "unit": "C"}\r\n'
    assert in_terminal("get", "-A", "application/cbor", url(server, "/value")) == (0, readable_line)
    assert in_terminal("get", "--raw", "-A", "json", url(server, "/value")) == (0, JSON)


def test_put_post_delete_and_fetch_have_the_server_do_it(server, run, tmp_path):
    """what the server says without payload goes to stderr; -d takes text, @file and standard input"""
    (tmp_path / "data").write_bytes(BODY)
    stored = url(server, "/stored")
    assert run("put", "-d", "hi", stored) == (0, b"", "coap: 2.04 Changed\n")
    assert run("get", stored) == (0, b"hi", "")
    assert run("put", "-d", f"@{tmp_path / 'data'}", stored)[0] == 0
    assert run("get", stored) == (0, BODY, "")
    assert in_pipe("put", "-d", "@-", stored, stdin=b"\x00\xff")[0] == 0
    assert run("get", "-o", tmp_path / "out", stored) == (0, b"", "")
    assert (tmp_path / "out").read_bytes() == b"\x00\xff"
    assert run("delete", stored) == (0, b"", "coap: 2.02 Deleted\n")
    assert run("post", url(server, "/made")) == (0, b"", "coap: 2.01 Created, at /made/7\n")
    assert run("fetch", "--pretty", "-f", "cbor", "-d", "\x01", url(server, "/search")) == (0, b"1\n", "")


def test_discover_gives_a_line_for_each_link_in_a_pipe_and_a_table_in_a_terminal(server):
    """RFC 6690; filters are sent and applied"""
    exit_code, out, err = in_pipe("discover", f"{HOST}:{server}", "rt=temp*")
    line = f"{url(server, '/value')}\ttemperature\t\t0 50 60\t\tyes\n"
    assert (exit_code, out.decode(), err) == (0, line, "coap: 1 link\n")
    exit_code, shown = in_terminal("discover", f"{HOST}:{server}")
    assert exit_code == 0 and "coap: 4 links" in shown
    assert re.search(r"URI.*rt.*if.*ct.*obs", shown)
    assert re.search(rf"{url(server, '/value')} +temperature +0 50 60 +yes", shown)


def test_ping_says_how_long_each_answer_took(server, run):
    """RFC 7252 section 4.3"""
    exit_code, out, err = run("ping", "-c", 2, "-i", 0.01, f"{HOST}:{server}")
    assert exit_code == 0 and re.fullmatch(rf"({HOST}:{server}  \d+\.\d ms\n){{2}}", out.decode())
    assert "2 of 2 answered" in err


def test_observe_in_a_pipe_prints_a_line_for_each_value_and_says_goodbye(server):
    """RFC 7641 section 3.6: the server is told that no more is wanted"""
    exit_code, out, err = in_pipe("observe", "-v", "-n", 3, url(server, "/value"))
    values = [int(line.split()[0]) for line in out.decode().splitlines()]
    assert exit_code == 0 and len(values) == 3 and values == sorted(values) and values[0] < values[2]
    assert re.search(r"-> .* CON GET .*Observe=0", err) and re.search(r"-> .* CON GET .*Observe=1", err)


def test_observe_in_a_terminal_ends_with_ctrl_c(server):
    """that is how it ends, so the exit code is 0"""
    exit_code, shown = in_terminal("observe", "-A", "json", url(server, "/value"), interrupt_at=r"(?s)(value.*){2}")
    assert exit_code == 0 and shown.count(JSON) >= 1 and "Traceback" not in shown


def test_observe_plot_draws_a_curve_in_the_terminal(server):
    """braille characters, axes and the latest value; in a pipe it is refused"""
    exit_code, shown = in_terminal("observe", "--plot", "-n", 4, url(server, "/value"))
    assert exit_code == 0
    last = shown[shown.rindex(url(server, "/value")) :]
    assert re.search(r"[\u2801-\u28ff]", last) and "┤" in last and "seconds" in last
    exit_code, out, err = in_pipe("observe", "--plot", url(server, "/value"))
    assert (exit_code, out) == (1, b"") and err.count("\n") == 1 and "terminal" in err


def test_upload_and_download_move_a_file_and_show_a_bar_in_a_terminal(server, tmp_path):
    """RFC 7959: bodies larger than a datagram"""
    here, there = tmp_path / "here", tmp_path / "there"
    here.write_bytes(BODY)
    exit_code, out, err = in_pipe("upload", here, url(server, "/stored"))
    assert (exit_code, out) == (0, b"") and f"{len(BODY)} bytes in" in err and "2.04" in err
    exit_code, shown = in_terminal("download", url(server, "/stored"), there)
    assert exit_code == 0 and there.read_bytes() == BODY
    assert "20.0/20.0 kB" in shown and f"{len(BODY)} bytes in" in shown
    assert in_pipe("download", url(server, "/stored"), "-")[:2] == (0, BODY)


def test_download_goes_on_behind_what_is_there_if_it_is_still_the_same(server, run, tmp_path):
    """--continue and --etag"""
    path = tmp_path / "file"
    path.write_bytes(BODY)
    run("upload", path, url(server, "/stored"))
    etag = re.search("ETag=([0-9a-f]+)", run("get", "-v", url(server, "/stored"))[2])[1]
    path.write_bytes(BODY[:5000])
    exit_code, _, err = run("download", "-v", "-C", "--etag", etag, url(server, "/stored"), path)
    assert exit_code == 0 and path.read_bytes() == BODY and "Block2=4/" in err and "Block2=1/" not in err
    path.write_bytes(b"\x00" * 5000)
    exit_code, _, err = run("download", "-C", "--etag", "0102", url(server, "/stored"), path)
    assert exit_code == 0 and path.read_bytes() == BODY


def test_commands_with_libcoaps_server(libcoap, run, tmp_path):
    """get, put, delete, discover, ping, observe, upload and download, on another implementation"""
    host = f"{HOST}:{libcoap}"
    assert run("get", host)[1].startswith(b"This is a test server made with libcoap")
    assert run("put", "-d", "new", f"{host}/fresh") == (0, b"", "coap: 2.01 Created\n")
    assert run("get", f"{host}/fresh")[:2] == (0, b"new")
    assert run("delete", f"{host}/fresh") == (0, b"", "coap: 2.02 Deleted\n")
    assert run("discover", host, "rt=ticks")[1].startswith(f"coap://{host}/time\tticks\tclock\t0".encode())
    assert run("ping", "-c", 1, host)[0] == 0
    exit_code, out, _ = run("observe", "-n", 2, f"{host}/time")
    assert exit_code == 0 and len(out.splitlines()) == 2
    path = tmp_path / "file"
    path.write_bytes(BODY)
    assert run("upload", path, f"{host}/large")[0] == 0
    assert run("download", f"{host}/large", tmp_path / "back")[0] == 0
    assert (tmp_path / "back").read_bytes() == BODY


def test_commands_with_aiocoaps_server(run):
    """get, of a separate response too, put and ping"""
    with aiocoap_server() as port:
        assert run("put", "-d", "new", url(port, "/t"))[0] == 0
        assert run("get", url(port, "/t")) == (0, b"new", "")
        exit_code, out, err = run("get", "-v", url(port, "/slow"))
        assert (exit_code, out) == (0, b"done") and "<-" in err and "ACK Empty" in err and "CON 2.05" in err
        assert run("ping", "-c", 1, f"{HOST}:{port}")[0] == 0


# ---- OSCORE ----

SECRET = "00112233445566778899aabbccddeeff"
OURS = {"secret": SECRET, "sender_id": "01", "recipient_id": ""}
THEIRS = {"secret": SECRET, "sender_id": "", "recipient_id": "01"}


def ours(n):
    """A context of the command's, which has a store of numbers of its own."""
    return OURS | {"secret": SECRET[:-1] + str(n), "sender_id": f"0{n}"}


def write_contexts(path, *contexts):
    """A file of contexts; returns its path."""
    path.write_text(json.dumps(contexts, indent=2))
    return path


@contextlib.contextmanager
def secured_server(runtime, folder, *contexts, number=0):
    """SERVER with contexts in a new folder, after a restart if a number was stored; gives its port."""
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    store = coap_oscore.FileStore(str(folder / "server.seq"))
    coap_oscore_keys.create(store)
    store.save(number)
    port = free_port()
    words = [port, write_contexts(folder / "server.json", *contexts), folder / "server.seq"]
    with running(interpreter(runtime), folder / "server.py", *words, port=port):
        yield port


@pytest.fixture(scope="module", params=RUNTIMES)
def secured(request, tmp_path_factory):
    """The port of a server that answers protected requests only, on each runtime."""
    contexts = [ours(n) | {"sender_id": "", "recipient_id": f"0{n}"} for n in (2, 3, 4)]
    with secured_server(request.param, tmp_path_factory.mktemp("secured") / "server", THEIRS, *contexts) as port:
        yield port


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """The path of the command's file of contexts."""
    return write_contexts(tmp_path_factory.mktemp("contexts") / "context.json", OURS)


def test_oscore_commands_have_a_secured_server_do_it(secured, contexts, run, tmp_path):
    """RFC 8613: get, put, post, delete, fetch, discover, observe, upload, download, of which nothing is in the clear"""
    (tmp_path / "data").write_bytes(BODY)
    oscore = ["--oscore", contexts]
    stored = url(secured, "/stored")
    assert run("put", *oscore, "-d", "hi", stored) == (0, b"", "coap: 2.04 Changed\n")
    assert run("get", *oscore, stored) == (0, b"hi", "")
    assert run("delete", *oscore, stored) == (0, b"", "coap: 2.02 Deleted\n")
    assert run("post", *oscore, url(secured, "/made")) == (0, b"", "coap: 2.01 Created, at /made/7\n")
    assert run("fetch", *oscore, "-N", "-d", "what", url(secured, "/search")) == (0, b"what", "")
    exit_code, out, err = run("discover", *oscore, f"{HOST}:{secured}", "rt=temperature")
    assert (exit_code, err) == (0, "coap: 1 link\n") and out.startswith(url(secured, "/value").encode())
    exit_code, out, err = run("observe", *oscore, "-n", 3, "-v", url(secured, "/value"))
    values = [int(line.split()[0]) for line in out.decode().splitlines()]
    assert exit_code == 0 and values == sorted(set(values)) and len(values) == 3
    assert "FETCH" in err and "GET" not in err and "/value" not in err
    exit_code, _, err = run("upload", *oscore, "-v", tmp_path / "data", stored)
    assert exit_code == 0 and len(re.findall("-> .* CON POST .* / OSCORE=", err)) == 20 and "/stored" not in err
    assert run("download", *oscore, stored, tmp_path / "back")[0] == 0
    assert (tmp_path / "back").read_bytes() == BODY
    assert run("get", *oscore, stored) == (0, BODY, "")
    assert run("get", stored) == (4, b"", "coap: 4.01 Unauthorized: OSCORE needed\n")
    assert run("get", *oscore, url(secured, "/nothing")) == (4, b"", "coap: 4.04 Not Found\n")
    assert run("ping", "-c", 1, f"{HOST}:{secured}")[0] == 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_oscore_when_the_server_was_restarted_then_it_is_answered(runtime, contexts, run, tmp_path):
    """RFC 8613 Appendix B.1.2: the server asks with an Echo who is there"""
    with secured_server(runtime, tmp_path / "server", THEIRS, number=1000) as port:
        exit_code, out, err = run("get", "-v", "--oscore", contexts, "-A", "json", url(port, "/value"))
        assert (exit_code, out) == (0, JSON.encode()) and err.count("->") == 2
        assert run("put", "--oscore", contexts, "-d", "1", url(port, "/stored"))[0] == 0


def test_oscore_commands_with_aiocoaps_server(run, tmp_path):
    """another implementation, and its file of a context; a body in blocks, too"""
    require_aiocoap()
    settings = {"secret_hex": SECRET, "salt_hex": "aabb", "sender-id_hex": "0a", "recipient-id_hex": "0b"}
    (tmp_path / "server").mkdir()
    (tmp_path / "server/settings.json").write_text(json.dumps(settings))
    port = free_port()
    context = {"secret": SECRET, "salt": "aabb", "sender_id": "0b", "recipient_id": "0a", "server": f"{HOST}:{port}"}
    oscore = ["--oscore", write_contexts(tmp_path / "context.json", context)]
    with running(sys.executable, HERE / "aiocoap_oscore_serve.py", port, tmp_path / "server", port=port):
        assert run("get", *oscore, url(port, "/t")) == (0, b"hello", "")
        assert run("put", *oscore, "-d", "new", url(port, "/t"))[0] == 0
        assert run("post", *oscore, "-d", "abc", url(port, "/t")) == (0, b"cba", "")
        exit_code, out, _ = run("observe", *oscore, "-n", 3, url(port, "/ticks"))
        assert exit_code == 0 and len(out.splitlines()) == 3
        (tmp_path / "data").write_bytes(BODY)
        assert run("upload", *oscore, tmp_path / "data", url(port, "/t"))[0] == 0
        assert run("get", *oscore, url(port, "/t")) == (0, BODY, "")
        assert run("delete", *oscore, url(port, "/t")) == (0, b"", "coap: 2.02 Deleted\n")


def test_oscore_errors_of_the_server_are_told_in_a_sentence(secured, run, libcoap, tmp_path):
    """RFC 8613 sections 7.4 and 8.2: what it answered, what that means; then a server without OSCORE"""

    def ask(name, port=secured, context=OURS):
        path = write_contexts(tmp_path / name, context)
        return run("get", "--oscore", path, url(port, "/value"))

    host = f"coap: {HOST}:{secured} answers unprotected: "
    exit_code, out, err = ask("key.json", context=ours(2) | {"secret": SECRET[::-1]})
    assert (exit_code, out) == (4, b"")
    assert err == host + "4.00 Bad Request: Decryption failed; the server has other keys for these IDs\n"
    exit_code, _, err = ask("id.json", context=ours(5))
    assert exit_code == 4 and err == (
        host + "4.01 Unauthorized: Security context not found; the server has no context with these IDs\n"
    )
    assert ask("old.json", context=ours(3))[0] == 0
    (tmp_path / "old.seq1").unlink()
    old = coap_oscore.FileStore(str(tmp_path / "old.seq"))
    old.save(1)
    exit_code, _, err = ask("old.json", context=ours(3))
    assert exit_code == 4 and "4.01 Unauthorized: Replay detected; the server has seen the number before: was " in err
    assert f"{tmp_path}/old.seq put back" in err and err.count("\n") == 1
    exit_code, _, err = ask("none.json", libcoap)
    assert exit_code == 4 and err.startswith(f"coap: {HOST}:{libcoap} answers unprotected: 4.02 Bad Option")
    assert err.endswith("; the server does not speak OSCORE\n")
    exit_code, _, err = run("observe", "--oscore", tmp_path / "key.json", url(secured, "/value"))
    assert exit_code == 4 and "Decryption failed" in err
    exit_code, _, err = run("upload", "--oscore", tmp_path / "key.json", __file__, url(secured, "/stored"))
    assert exit_code == 4 and "Decryption failed" in err


def test_oscore_answers_that_do_not_verify_are_told_after_the_timeout(secured, run, tmp_path):
    """RFC 8613 section 8.4: they are dropped; and one in the clear is not taken"""
    with secured_server("cpython", tmp_path / "server", THEIRS) as port:
        record = coap_oscore_keys.context

        def other_key(*words, **fields):
            context = record(*words, **fields)
            context.recipient_key = bytes(16)
            return context

        coap_oscore_keys.context = other_key
        try:
            path = write_contexts(tmp_path / "context.json", OURS)
            exit_code, _, err = run("get", "--oscore", path, "-t", "0.3", url(port, "/value"))
        finally:
            coap_oscore_keys.context = record
    assert exit_code == exits.TIMEOUT and err.endswith("; answers came that do not verify with these keys\n")
    with peer(answer_with(coap.CONTENT, payload=b"forged")) as port:
        exit_code, out, err = run("get", "--oscore", tmp_path / "context.json", url(port, "/"))
    assert (exit_code, out) == (exits.BAD_RESPONSE, b"")
    assert err == f"coap: {HOST}:{port} answers unprotected: 2.05 Content\n"


BAD_CONTEXTS = (
    ("{", "line 1: this is not JSON"),
    ('[\n{"secret": "00112233445566778899aabbccddeeff",\n"sender_id": "1"}]', "line 2: recipient_id is missing"),
    (
        '[\n{"secret": "00112233445566778899aabbccddeeff",\n"sender_id": "1",\n"recipient_id": ""}]',
        "line 3: sender_id is an even number",
    ),
    (json.dumps([OURS | {"server": "192.0.2.1"}]), "no context for 127.0.0.1:5683; its servers: 192.0.2.1:5683"),
    (json.dumps([OURS | {"server": "a:b:c"}]), "a host is name[:port]"),
    (json.dumps([OURS, OURS | {"sender_id": "02"}]), 'several contexts for 127.0.0.1:5683: give each the "server"'),
    ("[]", "line 1: write a list of contexts"),
)


@pytest.mark.parametrize("text, sentence", BAD_CONTEXTS)
def test_oscore_file_that_cannot_be_used_ends_with_1_and_one_sentence(text, sentence, run, tmp_path):
    """that names file and line, and shows no key; nothing is sent"""
    path = tmp_path / "context.json"
    path.write_text(text)
    for words in (["get"], ["observe"], ["discover"]):
        exit_code, out, err = run(*words, "--oscore", path, HOST)
        assert (exit_code, out) == (exits.WRONG_USE, b"")
        assert err.startswith(f"coap: {path}") and sentence in err and err.count("\n") == 1
        assert SECRET not in err and not (tmp_path / "context.seq0").exists()


def test_oscore_use_that_is_wrong_ends_with_1_and_one_sentence(contexts, run, tmp_path):
    """no file, a folder, a group, ping; numbers that cannot be stored, that are used up, that another program locks"""

    def ask(path, *words):
        exit_code, out, err = run(*words or ["get"], "--oscore", path, HOST)
        assert (exit_code, out, err.count("\n")) == (exits.WRONG_USE, b"", 1)
        return err

    assert "/nowhere: No such file or directory" in ask("/nowhere")
    assert f"{tmp_path}: Is a directory" in ask(tmp_path)
    assert "protects requests to one host" in run("discover", "-m", "--oscore", contexts)[2]
    assert "No such option" in ask(contexts, "ping")
    full = write_contexts(tmp_path / "full.json", OURS)
    (tmp_path / "full.seq0").symlink_to("/dev/full")
    assert f"numbers in {tmp_path}/full.seq cannot be stored: No space left on device" in ask(full)
    used = write_contexts(tmp_path / "used.json", OURS)
    coap_oscore.FileStore(str(tmp_path / "used.seq")).save((1 << 40) - 10)
    assert f"the 2**40 sequence numbers of {tmp_path}/used.seq are used up; write new keys" in ask(used)
    locked = write_contexts(tmp_path / "locked.json", OURS)
    security.LOCK_WAIT_S, wait_s = 0.1, security.LOCK_WAIT_S
    with filelock.FileLock(tmp_path / "locked.seq.lock"):
        assert f"another program holds {tmp_path}/locked.seq.lock; end it" in ask(locked)
    security.LOCK_WAIT_S = wait_s


def test_oscore_file_with_several_contexts_takes_that_of_the_server(secured, run, tmp_path):
    """by address, whatever its name; one without server is for all others"""
    other = OURS | {"secret": SECRET[::-1]}
    open_to_all = ours(4)
    named = open_to_all | {"server": f"localhost:{secured}"}
    unknown = other | {"sender_id": "07", "server": "host.invalid"}
    for contexts in ([other, named, unknown], [other | {"server": "192.0.2.1"}, open_to_all]):
        path = write_contexts(tmp_path / "context.json", *contexts)
        assert run("get", "--oscore", path, "-A", "json", url(secured, "/value")) == (0, JSON.encode(), "")


def test_oscore_when_many_run_at_once_then_no_number_comes_twice(tmp_path):
    """RFC 8613 section 7.2.1: eight processes with the same file, each with a request and its repetition"""
    path = write_contexts(tmp_path / "context.json", OURS)
    received = []
    with peer(received.append) as port:
        command = [*COMMAND, "get", "--oscore", path, "-N", "-t", "0.5", url(port, "/value")]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        processes = [subprocess.Popen(command, **streams) for _ in range(8)]
        for process in processes:
            assert b"no answer from" in process.communicate(timeout=END_TIMEOUT_S)[1]
    options = [coap.Message.decode(datagram).opt.oscore for datagram in received]
    assert len(options) == 8 == len(set(options))
    assert {option[-1:] for option in options} == {b"\x01"}


def test_oscore_numbers_when_taken_by_turns_or_after_a_lost_store_then_none_comes_twice(tmp_path, monkeypatch):
    """RFC 8613 Appendix B.1.1: three who share a store; a store that is removed, and a record that is torn"""
    path = str(tmp_path / "context.seq")
    turns = random.Random(1)
    used = set()
    for life in range(4):
        sharers = [security.Numbers(path) for _ in range(3)]
        for _ in range(1000):
            number = turns.choice(sharers).take()
            assert number not in used
            used.add(number)
        latest = coap_oscore.FileStore(path)
        latest.load()
        (tmp_path / f"context.seq{latest.latest}").write_bytes(b"torn")
        if life == 2:
            for k in (0, 1):
                (tmp_path / f"context.seq{k}").unlink(missing_ok=True)
            later_s = time.time() + 60
            monkeypatch.setattr(security.time, "time", lambda later_s=later_s: later_s)


# ---- how it ends ----


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["get"], "Missing argument 'URI'; see coap get --help"),
        (["got", "coap://localhost/"], "No such command 'got'. Did you mean 'get'? See coap --help"),
        (["put", "localhost/led", "on"], "Got unexpected extra argument (on); see coap put --help"),
        (["get", "coap:localhost/"], "write coap://host[:port]/path?query, not coap:localhost/"),
        (["get", "coap:/localhost/"], "write coap://host[:port]/path?query, not coap:/localhost/"),
        (["get", "coap://"], "a host is name[:port] or [IPv6][:port], not ''"),
        (["get", "coap://[::1/x"], "not '[::1'"),
        (["get", "coap://localhost:99999/"], "a port is 1 to 65535, not 99999"),
        (["get", "coap://localhost/%zz"], "% takes two hexadecimal digits"),
        (["get", "http://localhost/"], "write coap://"),
        (["get", "coaps://h/x"], "libcoap has it: coap-client-openssl -u IDENTITY -k KEY coaps://h/x"),
        (["observe", "COAPS://h/x"], "coaps needs DTLS, which Python does not have; libcoap has it: "),
        (["get", "-O", "colour=red", "localhost"], "no option is called 'colour'"),
        (["get", "-O", "70000=1", "localhost"], "an option's number is 1 to 65535, not 70000"),
        (["get", "-O", "etag=0x", "localhost"], "option etag=0x: option 4 cannot have 0 bytes"),
        (["get", "-O", "etag=0xzz", "localhost"], "option etag=0xzz: write hexadecimal digits, two for each byte"),
        (["get", "-O", "etag=ab", "localhost"], "option etag=ab: ETag takes bytes, as 0x1f2e"),
        (["get", "-O", "max-age=soon", "localhost"], "option max-age=soon: Max-Age takes a number"),
        (["get", "-O", "if-none-match=1", "localhost"], "If-None-Match takes no value: write its name alone"),
        (["get", "-A", "jsn", "localhost"], "no Content-Format is called jsn"),
        (["get", "-t", "soon", "localhost"], "a time is a number of seconds above 0"),
        (["get", "--token", "xy", "localhost"], "hexadecimal digits"),
        (["get", "--interface", "none9", "localhost"], "no interface is called none9; there are lo"),
        (["get", "-o", "/nowhere/x", "{server}/value"], "/nowhere/x: No such file or directory"),
        (["put", "-d", "@/nowhere", "localhost"], "/nowhere: No such file or directory"),
        (["upload", "/nowhere", "localhost/x"], "/nowhere"),
        (["download", "localhost/a/"], "say which FILE"),
        (["discover"], "give a host, or --multicast"),
        (["discover", "localhost", "temperature"], "a filter is NAME=VALUE"),
        (["discover", "-m", "localhost"], "is no group"),
    ],
)
def test_wrong_use_ends_with_1_and_one_sentence(words, sentence, server, run):
    """that says what to change, and sends nothing"""
    exit_code, out, err = run(*[word.format(server=f"{HOST}:{server}") for word in words])
    assert (exit_code, out) == (exits.WRONG_USE, b"")
    assert sentence in err and err.startswith("coap: ") and err.count("\n") == 1


def test_output_that_has_no_folder_ends_before_anything_is_sent(run):
    """or the server would have done what is then called wrong use"""
    received = []
    with peer(received.append) as port:
        exit_code, _, err = run("put", "-d", "on", "-o", "/nowhere/x", "-t", "0.2", url(port, "/"))
    assert (exit_code, err, received) == (exits.WRONG_USE, "coap: /nowhere/x: No such file or directory\n", [])


def test_without_a_command_its_help_is_shown_and_it_ends_with_1(run):
    """as click has it, without our name before it"""
    exit_code, out, err = run()
    assert (exit_code, out) == (exits.WRONG_USE, b"") and err.startswith("Usage: coap ") and "Exit codes:" in err


def test_output_that_is_closed_ends_without_a_traceback(server):
    """as by >&- in a shell"""
    command = f"exec {COMMAND[0]} {COMMAND[1]} get {url(server, '/nothing')} >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=END_TIMEOUT_S)
    assert (done.returncode, done.stderr) == (exits.CLIENT_ERROR, "coap: 4.04 Not Found\n")


def test_body_in_blocks_that_is_refused_says_that_they_may_be_why(run, tmp_path):
    """RFC 7959 section 2.2: Block1 is critical"""
    (tmp_path / "body").write_bytes(BODY)
    with peer(answer_with(coap.BAD_OPTION)) as port:
        for words in (["upload", tmp_path / "body"], ["put", "-d", f"@{tmp_path}/body"]):
            exit_code, _, err = run(*words, url(port, "/"))
            assert exit_code == exits.CLIENT_ERROR and "longer than a datagram goes in blocks" in err
        exit_code, _, err = run("put", "-d", "short", url(port, "/"))
        assert (exit_code, err) == (exits.CLIENT_ERROR, "coap: 4.02 Bad Option\n")


def test_error_responses_end_with_their_class(server, run):
    """4.xx and 5.xx; a diagnostic payload is a message for people (RFC 7252 section 5.5.2)"""
    assert run("get", url(server, "/nothing")) == (4, b"", "coap: 4.04 Not Found\n")
    assert run("get", url(server, "/made")) == (5, b"", "coap: 5.00 Internal Server Error\n")
    assert run("download", url(server, "/nothing")) == (4, b"", "coap: 4.04 Not Found\n")
    assert run("observe", url(server, "/nothing")) == (4, b"", "coap: 4.04 Not Found\n")
    with peer(answer_with(coap.BAD_REQUEST, payload=b"no\x1b[31m")) as port:
        assert run("get", url(port, "/")) == (4, b"", "coap: 4.00 Bad Request: no\\x1b[31m\n")
        assert run("discover", url(port, "/"))[0] == 4
    with peer(answer_with(coap.CONFLICT, (12, 50), payload=b"{}")) as port:
        assert run("get", url(port, "/")) == (4, b"{}", "coap: 4.09 Conflict\n")


def test_requests_that_get_no_response_end_with_a_code_each(run):
    """timeout, Reset, unknown critical option, unreachable, unknown name"""
    with peer(lambda datagram: None) as port:
        sentence = f"coap: no answer from {HOST}:{port} within 0.2 s\n"
        assert run("get", "-t", "0.2", url(port, "/")) == (exits.TIMEOUT, b"", sentence)
        assert run("get", "-N", "-t", "0.2", url(port, "/")) == (exits.TIMEOUT, b"", sentence)
        assert run("ping", "-c", 1, "-t", "0.2", url(port, "/"))[0] == exits.TIMEOUT
    with peer(lambda datagram: b"\x70\0" + datagram[2:4]) as port:
        exit_code, out, err = run("get", url(port, "/"))
        assert (exit_code, out) == (exits.RESET, b"") and "Reset" in err and err.count("\n") == 1
    with peer(answer_with(coap.CONTENT, (9001, b"x"))) as port:
        exit_code, out, err = run("get", url(port, "/"))
        assert (exit_code, out) == (exits.BAD_RESPONSE, b"") and "critical option" in err
    exit_code, _, err = run("get", f"{HOST}:{free_port()}")
    assert exit_code == exits.UNREACHABLE and err.endswith("Connection refused\n")
    exit_code, _, err = run("get", "host.invalid")
    assert exit_code == exits.NAME_UNKNOWN and "the host host.invalid is not known" in err
    assert run("get", "a..b")[0] == exits.NAME_UNKNOWN


def test_observe_of_what_cannot_be_observed_gives_the_value_and_says_so(server, run):
    """RFC 7641 section 2: the server answers without Observe"""
    exit_code, out, err = run("observe", url(server, "/.well-known/core"))
    assert exit_code == exits.BAD_RESPONSE and b"</value>" in out and "does not notify" in err


def test_ctrl_c_during_a_request_ends_with_130_and_no_traceback():
    """Ctrl-C in a terminal"""
    with peer(lambda datagram: None) as port:
        exit_code, shown = in_terminal("get", "-v", url(port, "/"), interrupt_at="CON GET")
    assert exit_code == exits.INTERRUPTED and shown.endswith("coap: interrupted\r\n") and "Traceback" not in shown


def test_reader_of_the_output_that_goes_ends_it_quietly(server):
    """as in coap observe ... | head -1"""
    command = [*COMMAND, "observe", url(server, "/value")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(END_TIMEOUT_S) == exits.PIPE_CLOSED
        assert process.stderr.read() == b""


def test_terminated_process_leaves_no_traceback(server):
    """SIGINT from another process while it waits for values"""
    command = [*COMMAND, "observe", url(server, "/value")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT_S) == 0
        assert process.stderr.read() == b""


def test_help_lists_the_exit_codes(run):
    """coap --help"""
    exit_code, out, _ = run("--help")
    listed = [int(code) for code in re.findall(r"^    (\d+) ", out.decode(), re.MULTILINE)]
    assert exit_code == 0 and listed == [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 141]


# ---- what is sent, and what -v shows ----


def test_options_of_the_command_are_in_the_message(run):
    """-N, -A, -f, -O by name and number, --token; and over IPv6"""
    received = []

    def answer(datagram):
        received.append(coap.Message.decode(datagram))
        return answer_with(coap.CONTENT)(datagram)

    options = ["-O", "if-match=0x0102", "-O", "2048=text", "-O", "size1=7", "-O", "If-None-Match", "--token", "0a0b"]
    options += ["-O", "hop-limit=5"]
    with peer(answer, socket.AF_INET6, "::1") as port:
        uri = f"coap://[::1]:{port}/a%2Fb/?q=1"
        assert run("put", "-A", "cbor", "-f", "json", "-d", "{}", *options, uri)[0] == 0
    request = received[0]
    assert request.token == b"\x0a\x0b" and request.mtype == coap.CON and request.payload == b"{}"
    assert request.opt.accept == coap.CBOR and request.opt.content_format == coap.JSON and request.opt.size1 == 7
    assert request.opt.if_match == (b"\x01\x02",) and request.opt.if_none_match and request.opt.hop_limit == 5
    assert request.find_option(2048) == (b"text",)
    assert request.opt.uri_path == ("a/b", "") and request.opt.uri_query == ("q=1",)
    with peer(answer) as port:
        run("get", "-N", "-t", "0.1", url(port, "/"))
    assert received[-1].mtype == coap.NON


def test_options_of_the_library_have_a_name_here():
    """the same, but with hyphens"""
    listed = {name.replace("_", "-"): abs(number) for name, number in coap._NAMES.items() if name != "etags"}
    assert listed == names.NUMBERS


def test_verbose_shows_each_message_in_a_line(server, run):
    """sent and received, with type, code, message ID, token, options and payload"""
    _, out, err = run("get", "-v", "-A", "json", url(server, "/value?x=1"))
    assert out == JSON.encode()
    sent, received = err.splitlines()
    pattern = rf" +0\.000 -> {HOST}:{server}  CON GET mid=(\d+) token=(\w+) /value\?x=1 Accept=application/json"
    mid, token = re.fullmatch(pattern, sent).groups()
    assert re.fullmatch(
        rf" +\d+\.\d+ <- {HOST}:{server}  ACK 2\.05 Content mid={mid} token={token} Content-Format=application/json, "
        r"30 bytes: {.*",
        received,
    )


def test_verbose_shows_retransmissions(run):
    """RFC 7252 section 4.2"""
    seen = []

    def answer_second(datagram):
        seen.append(datagram)
        return answer_with(coap.CONTENT)(datagram) if len(seen) == 2 else None

    with peer(answer_second) as port:
        exit_code, _, err = run("get", "-v", url(port, "/"))
    assert exit_code == 0 and len(seen) == 2 and seen[0] == seen[1]
    assert [line.endswith(", retransmission 1") for line in err.splitlines()] == [False, True, False, False]


def test_verbose_shows_duplicates(server, run):
    """RFC 7252 section 4.5"""
    with doubling_relay(server) as (port, _):
        err = run("observe", "-v", "-n", "3", url(port, "/value"))[2]
    assert re.search(r"<- .* NON 2.05 Content .*, duplicate$", err, re.MULTILINE)


def test_verbose_shows_what_is_no_message(capfd):
    """a datagram that is not CoAP, and one whose text would move the cursor"""
    Trace().note_received(b"\xff\x1b[2J", ("192.0.2.1", 5683))
    assert "wrong at byte 0: ff1b5b324a" in capfd.readouterr().err
    message = coap.Message(coap.GET, mtype=coap.CON, mid=1, uri_path=("\x1b[2J",), payload="a\nb")
    assert message_text(message.encode()) == "CON GET mid=1 /%1B%5B2J, 3 bytes"


# ---- readable payloads ----


def test_readable_shows_json_cbor_links_and_text():
    """RFC 8949 section 8 for CBOR"""
    cases = (
        (b'{"a":[1,2.50]}', 50, '{"a": [1, 2.5]}'),
        (bytes.fromhex("a3016161024101f6f5"), 60, "{1: \"a\", 2: h'01', null: true}"),
        (bytes.fromhex("c11a514b67b0"), 60, "1(1363896240)"),
        (bytes.fromhex("83f7f97e00e7"), 60, "[undefined, NaN, simple(7)]"),
        (b'</a>;rt="x y";ct=0;obs,</b>', 40, '</a>;rt="x y";ct=0;obs,\n</b>'),
        (b"22.5 \xc2\xb0C\n", 0, "22.5 \u00b0C"),
        (b"\x00\x01AB", 42, "000000  00 01 41 42                                      ..AB"),
    )
    for payload, content_format, text in cases:
        assert readable.readable(payload, content_format) == (text, None)
    long = readable.readable(b"[" + b'"0123456789",' * 9 + b"1]", 50)[0]
    assert long.splitlines()[:2] == ["[", '  "0123456789",']


def test_readable_shows_bytes_of_what_is_not_what_it_says():
    """with a note; no control character reaches the terminal"""
    text, note = readable.readable(b"\xff\xff", 60)
    assert text.startswith("000000  ff ff") and "no application/cbor" in note
    text, note = readable.readable(b"[1, ", 50)
    assert text == "[1, " and "no application/json" in note
    assert readable.readable(b"\x1b[31m\xc2\x9b", 0)[0] == "\\x1b[31m\\x9b"
    assert readable.readable(b'"\x7f\xc2\x9b"', 50)[0] == '"\\x7f\\x9b"'


def test_readable_of_any_bytes_ends_soon_and_is_printable():
    """random bytes, deep nesting, references that would multiply"""
    laughs = b"\xd8\x1c\x82\x01\x02"
    for n in range(22, 0, -1):  # shared value n, and a reference to it: 2 ** 22 leaves
        laughs = b"\xd8\x1c\x82" + laughs + b"\xd8\x1d" + bytes([n])
    randomness = random.Random(7)
    payloads = [laughs, b"\x81" * 5000, b"[" * 100000, b"1" * 5000, b"\xc2\x59\x08\x00" + b"\xff" * 2048]
    payloads += [randomness.randbytes(randomness.randrange(1, 40)) for _ in range(1000)]
    begin_s = time.monotonic()
    for payload in payloads:
        for content_format in (None, 0, 40, 50, 60):
            for is_one_line in (False, True):
                text, _ = readable.readable(payload, content_format, is_one_line)
                assert all([c.isprintable() or c in "\n\t" for c in text])
            number_in(payload, content_format)
    assert time.monotonic() - begin_s < 60


def test_number_in_finds_the_value_to_draw():
    """text, JSON, CBOR, SenML (RFC 8428)"""
    cases = (
        (b"22.5 C", 0, 22.5),
        (b"-1e3", None, -1000),
        (JSON.encode(), 50, 22.5),
        (CBOR, 60, 22.5),
        (b'[{"bt": 5, "n": "t", "v": 7}]', 110, 7),
        (bytes.fromhex("81a2006174021819"), 112, 25),
        (b"warm", 0, None),
        (b"{}", 50, None),
        (b"true", 50, None),
        (b"1e999", 50, None),
        (b"\xff", 60, None),
    )
    for payload, content_format, number in cases:
        assert number_in(payload, content_format) == number


# ---- groups ----


def ip(*words):
    """Runs ip of iproute2; skips the test where it may not."""
    done = subprocess.run([program("ip"), *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"ip {' '.join(words)}: {done.stderr.strip()}")


def inside(namespace, *command):
    """A command, run inside a network namespace."""
    return [program("ip"), "netns", "exec", namespace, *[str(word) for word in command]]


@contextlib.contextmanager
def network(members):
    """Network namespaces joined by a bridge: gives that of the bridge, 10.7.7.1, and those of members, 10.7.7.2..."""
    hub = f"coap{os.getpid()}"
    names = [f"{hub}m{n}" for n in range(members)]
    with contextlib.ExitStack() as stack:
        for name in (hub, *names):
            ip("netns", "add", name)
            stack.callback(subprocess.run, [program("ip"), "netns", "del", name])
        ip("-n", hub, "link", "add", "field", "type", "bridge", "mcast_snooping", "0")
        ip("-n", hub, "addr", "add", "10.7.7.1/24", "dev", "field")
        ip("-n", hub, "link", "set", "field", "up")
        for n, name in enumerate(names):
            ip("-n", hub, "link", "add", f"port{n}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", hub, "link", "set", f"port{n}", "master", "field", "up")
            ip("-n", name, "addr", "add", f"10.7.7.{n + 2}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield hub, names


def test_discover_multicast_finds_three_servers_across_network_namespaces(tmp_path):
    """RFC 7252 section 8: each server in a network namespace of its own, the command in a fourth"""
    path = tmp_path / "member.py"
    path.write_text(MEMBER)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "lib"), "MICROPYPATH": str(ROOT / "lib")}
    with network(3) as (hub, names), contextlib.ExitStack() as stack:
        for n, name in enumerate(names):
            runtime = interpreter(RUNTIMES[n % 2])
            command = inside(name, "env", "PYTHONUNBUFFERED=1", runtime, path, f"10.7.7.{n + 2}")
            member = stack.enter_context(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
            stack.callback(member.kill)
            assert member.stdout.readline() == b"joined\n"
        words = ["discover", "--multicast", "--interface", "field", "-t"]
        for wait_s in (1, 5, 20):  # to a busy computer the answers come later
            command = inside(hub, *COMMAND, *words, wait_s, "rt=light")
            done = subprocess.run(command, capture_output=True, text=True)
            if "3 hosts" in done.stderr:
                break
        nobody = subprocess.run(inside(hub, *COMMAND, *words, 1, "rt=none"), capture_output=True, text=True)
    lines = [f"coap://10.7.7.{n}/light\tlight\t\t\tof 10.7.7.{n}\t" for n in (2, 3, 4)]
    lines.append("coap://10.7.7.4/lamp\tlight\t\t\tthe list has more than 64 bytes, the first block\t")
    assert (done.returncode, done.stdout.splitlines()) == (0, lines)
    assert done.stderr == "coap: 4 links of 3 hosts\n"
    assert (nobody.returncode, nobody.stdout) == (exits.TIMEOUT, "")
    assert nobody.stderr == "coap: nobody in 224.0.1.187:5683 answered in time\n"
