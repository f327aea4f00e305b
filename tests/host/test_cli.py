"""The `coap` command: each of its commands with our server and others', in a pipe and in a terminal; how it ends."""

import contextlib
import fcntl
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

import pytest

import coap
from coap_cli import exits, readable
from coap_cli.commands import main
from coap_cli.plot import number_in
from coap_cli.trace import Trace, message_text
from peers import HOST, RUNTIMES, aiocoap_server, doubling_relay, free_port, interpreter, libcoap_server, running, url
from programs import ROOT, program

COMMAND = [sys.executable, str(ROOT / "tools/coap")]
END_TIMEOUT_S = 20
BODY = bytes([i % 251 for i in range(20000)])
JSON = '{"value": 22.5, "unit": "\u00b0C"}'
CBOR = bytes.fromhex("a26576616c7565f94da064756e697461" + "43")
TEXT, LINKS, OCTETS = coap.TEXT, coap.LINKS, coap.OCTETS

# Arguments: port
SERVER = """
import sys

import coap
import coap_block
import coap_observe

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
coap_block.attach(endpoint, body_len=100000, unverified_len=None)
coap_observe.attach(endpoint, interval_ms=20)
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
        while not ended.is_set():
            if select.select([sock], [], [], 0.05)[0]:
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


# ---- how it ends ----


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["get"], "Missing argument 'URI'"),
        (["got", "coap://localhost/"], "No such command 'got'"),
        (["get", "coap://"], "a host is name[:port] or [IPv6][:port], not ''"),
        (["get", "coap://[::1/x"], "not '[::1'"),
        (["get", "coap://localhost:99999/"], "a port is 1 to 65535, not 99999"),
        (["get", "coap://localhost/%zz"], "% takes two hexadecimal digits"),
        (["get", "http://localhost/"], "write coap://"),
        (["get", "coaps://localhost/"], "DTLS"),
        (["get", "-O", "colour=red", "localhost"], "no option is called 'colour'"),
        (["get", "-O", "etag=0x", "localhost"], "option etag=0x: option 4 cannot have 0 bytes"),
        (["get", "-O", "max-age=soon", "localhost"], "option max-age=soon"),
        (["get", "-O", "etag=0xzz", "localhost"], "option etag=0xzz"),
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
    with peer(answer, socket.AF_INET6, "::1") as port:
        uri = f"coap://[::1]:{port}/a%2Fb/?q=1"
        assert run("put", "-A", "cbor", "-f", "json", "-d", "{}", *options, uri)[0] == 0
    request = received[0]
    assert request.token == b"\x0a\x0b" and request.mtype == coap.CON and request.payload == b"{}"
    assert request.opt.accept == coap.CBOR and request.opt.content_format == coap.JSON and request.opt.size1 == 7
    assert request.opt.if_match == (b"\x01\x02",) and request.opt.if_none_match
    assert request.find_option(2048) == (b"text",)
    assert request.opt.uri_path == ("a/b", "") and request.opt.uri_query == ("q=1",)
    with peer(answer) as port:
        run("get", "-N", "-t", "0.1", url(port, "/"))
    assert received[-1].mtype == coap.NON


def test_verbose_shows_each_message_in_a_line(server, run):
    """sent and received, with type, code, message ID, token, options and payload"""
    _, out, err = run("get", "-v", "-A", "json", url(server, "/value?x=1"))
    assert out == JSON.encode()
    sent, received = err.splitlines()
    pattern = rf" +0\.000 -> {HOST}:{server}  CON GET mid=(\d+) token=(\w+) /value\?x=1 Accept=application/json"
    mid, token = re.fullmatch(pattern, sent).groups()
    assert re.fullmatch(
        rf" +0\.\d+ <- {HOST}:{server}  ACK 2\.05 Content mid={mid} token={token} Content-Format=application/json, "
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
    assert time.monotonic() - begin_s < 5


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
        words = ["discover", "--multicast", "--interface", "field", "-t", "1", "rt=light"]
        done = subprocess.run(inside(hub, *COMMAND, *words), capture_output=True, text=True, timeout=END_TIMEOUT_S)
        nobody = subprocess.run(inside(hub, *COMMAND, *words[:-1], "rt=none"), capture_output=True, text=True)
    lines = [f"coap://10.7.7.{n}/light\tlight\t\t\tof 10.7.7.{n}\t" for n in (2, 3, 4)]
    lines.append("coap://10.7.7.4/lamp\tlight\t\t\tthe list has more than 64 bytes, the first block\t")
    assert (done.returncode, done.stdout.splitlines()) == (0, lines)
    assert done.stderr == "coap: 4 links of 3 hosts\n"
    assert (nobody.returncode, nobody.stdout) == (exits.TIMEOUT, "")
    assert nobody.stderr == "coap: nobody in 224.0.1.187:5683 answered in time\n"
