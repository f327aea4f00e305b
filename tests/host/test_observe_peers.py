"""Observe with real peers: clients of libcoap, aiocoap, node-coap and our own at our server, ours at their servers.

Ours runs on CPython and on MicroPython; the resources are those of observe_serve.py, observe_aiocoap.py and
node/observe.js, and one that libcoap's server makes of a PUT. Cases OBS_nn are those of the ETSI/IPSO/OMA plugtests
(there is no OBS_03).
"""

import contextlib
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import coap
from peers import (
    ENVIRONMENT,
    HERE,
    RUNTIMES,
    free_port,
    interpreter,
    libcoap_server,
    relay,
    require_aiocoap,
    running,
    url,
)
from programs import node_package, program

PATIENCE_S = 30
AGAIN_S = 1 + 15  # Max-Age, and what a client waits at most before it registers again
LARGE_LEN = 3000


# ---- programs ----


def our_command(runtime, uri):
    return [interpreter(runtime), HERE / "observe_ask.py", uri]


def aiocoap_command(uri):
    require_aiocoap()
    return [sys.executable, HERE / "observe_aiocoap.py", "client", uri]


def node_command(uri):
    node_package("coap")
    return [program("node"), HERE / "node/observe.js", "client", uri]


def libcoap_command(uri, duration_s=60):
    return [program("coap-client-notls"), "-s", str(duration_s), "-w", uri]


CLIENTS = {
    "libcoap": libcoap_command,
    "aiocoap": aiocoap_command,
    "node": node_command,
    "cpython": lambda uri: our_command("cpython", uri),
    "micropython": lambda uri: our_command("micropython", uri),
}


def our_server(runtime):
    port = free_port()
    return running(interpreter(runtime), HERE / "observe_serve.py", port, port=port)


def aiocoap_server(port=None):
    require_aiocoap()
    port = port or free_port()
    return running(sys.executable, HERE / "observe_aiocoap.py", "server", port, port=port)


def node_server():
    node_package("coap")
    port = free_port()
    return running(program("node"), HERE / "node/observe.js", "server", port, port=port)


SERVERS = {"libcoap": libcoap_server, "aiocoap": aiocoap_server, "node": node_server}


class Client:
    """A client in another process; what it prints of notifications, as the texts of their payloads."""

    def __init__(self, process, output):
        self.process = process
        self.output = output

    def lines(self):
        return Path(self.output).read_text(errors="replace").splitlines()

    def heard(self):
        """The payloads in order; of a long one its first 20 bytes."""
        found = []
        for line in self.lines():
            match = re.fullmatch(r"2\.\d\d (\S+) \d+", line) or re.fullmatch(r"(\w+)", line)
            if match:
                found.append(match[1])
        return found

    def excerpt(self):
        """The last lines, for a message."""
        return f"printed: {[line[:60] for line in self.lines()[-5:]]}"

    def await_line(self, text):
        """Wait until a line has `text` in it."""
        wait_until(lambda: any(text in line for line in self.lines()), self.excerpt)

    def await_last(self, text):
        """Wait until the last payload is `text`."""
        wait_until(lambda: self.heard()[-1:] == [text], self.excerpt)


@contextlib.contextmanager
def observing(command):
    """A client that observes, until the end of the block."""
    with tempfile.NamedTemporaryFile() as output:
        words = [str(word) for word in command]
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        with subprocess.Popen(words, env=ENVIRONMENT, **streams) as process:
            try:
                yield Client(process, output.name)
            finally:
                process.kill()


def wait_until(is_true, describe, patience_s=PATIENCE_S):
    """Raises AssertionError when it does not become true in time."""
    deadline_s = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < deadline_s, describe()
        time.sleep(0.02)


def tell(port, path, payload=b"", method=coap.PUT):
    """Send a request to a server; returns the payload of the answer."""
    with coap.Endpoint() as endpoint:
        response = endpoint.request(method, url(port, path), payload, timeout_ms=5000)
    assert response.code < 128, response
    return response.payload


def observers(port):
    return int(tell(port, "/count", method=coap.GET))


def await_observers(port, number):
    wait_until(lambda: observers(port) == number, lambda: f"{observers(port)} observers, not {number}")


@pytest.fixture(params=RUNTIMES)
def server(request):
    """The port of our server, on each runtime."""
    with our_server(request.param) as port:
        yield port


@pytest.fixture
def small_server():
    """The port of our server on MicroPython."""
    with our_server("micropython") as port:
        yield port


@pytest.fixture(params=CLIENTS)
def client_command(request):
    """The command line of a client for a URI, of each kind."""
    return CLIENTS[request.param]


@pytest.fixture(params=SERVERS)
def peer(request):
    """The port of a server of others with the resource dyn, which is "0"."""
    with SERVERS[request.param]() as port:
        tell(port, "/dyn", b"0")
        yield port


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return request.param


# ---- our server ----


@pytest.mark.parametrize("path", ["/obs", "/obs-non"])
def test_obs_01_02_the_client_is_told_of_100_changes_and_is_dropped_after_it_has_died(server, client_command, path):
    """OBS_01, 02, 05: by CON and NON; in order, the last state arrives; one CON timeout after its death it is gone."""
    with observing(client_command(url(server, path))) as client:
        client.await_last("0")
        assert observers(server) == 1
        tell(server, "/drive", b"100")
        client.await_last("100")
        numbers = [int(text) for text in client.heard()]
        assert numbers == sorted(set(numbers))
        client.process.kill()
        client.process.wait()
        tell(server, "/obs", b"dead")
        if path == "/obs-non":  # a closed port answers nothing: only a CON, an hour later, would tell
            return
        await_observers(server, 0)


def test_obs_07_when_the_resource_is_deleted_the_observers_hear_4_04_and_are_gone(small_server, client_command):
    """OBS_07: an error is the last notification."""
    with observing(client_command(url(small_server, "/obs"))) as client:
        client.await_last("0")
        tell(small_server, "/obs", method=coap.DELETE)
        await_observers(small_server, 0)
        if client_command is not node_command:  # which tells its application nothing
            client.await_line("4.04")


def test_obs_08_when_the_content_format_changes_the_observers_are_gone(small_server, client_command):
    """OBS_08: 4.06, and nothing more."""
    with observing(client_command(url(small_server, "/obs"))) as client:
        client.await_last("0")
        tell(small_server, "/drive", b"ct")
        await_observers(small_server, 0)


def test_obs_09_10_an_update_is_heard_and_a_get_changes_nothing(small_server, client_command):
    """OBS_09, 10: a PUT of another client is notified; a GET without Observe does not end the observation."""
    with observing(client_command(url(small_server, "/obs"))) as client:
        client.await_last("0")
        tell(small_server, "/obs", b"new")
        client.await_last("new")
        assert tell(small_server, "/obs", method=coap.GET) == b"new"
        assert observers(small_server) == 1
        tell(small_server, "/obs", b"newer")
        client.await_last("newer")


def test_obs_06_12_when_the_client_cancels_it_is_gone(small_server, client_command):
    """OBS_06, 12: by Observe 1 (libcoap and ours), or by a Reset of the next notification (aiocoap, node-coap)."""
    is_libcoap = client_command is libcoap_command
    command = libcoap_command(url(small_server, "/obs"), 1) if is_libcoap else client_command(url(small_server, "/obs"))
    with observing(command) as client:
        client.await_last("0")
        if not is_libcoap:
            tell(small_server, "/obs", b"cancel")
            client.await_last("cancel")
            deadline_s = time.monotonic() + PATIENCE_S
            while observers(small_server):  # aiocoap acknowledges one more
                assert time.monotonic() < deadline_s
                tell(small_server, "/obs", b"after")
                time.sleep(0.02)
        await_observers(small_server, 0)
        assert client.heard()[-1] != "after"


def test_obs_06_when_ours_forgets_its_reset_ends_it(small_server, runtime):
    """OBS_06: a passive cancel; the next notification, a NON, is reset."""
    with observing(our_command(runtime, url(small_server, "/obs-non"))) as client:
        client.await_last("0")
        tell(small_server, "/obs", b"forget")
        client.await_line("end None")
        tell(small_server, "/obs", b"after")
        await_observers(small_server, 0)


@pytest.mark.parametrize("name", ["libcoap", "aiocoap", "cpython", "micropython"])
def test_obs_13_a_large_resource_is_heard_whole(server, name):
    """OBS_13: the notification has block 0, plain GETs fetch the others; the last state comes whole."""
    with observing(CLIENTS[name](url(server, "/large"))) as client:
        client.await_line("0" * 20)
        for text in ("a", "b", "c"):
            tell(server, "/obs", text.encode())
            whole = f"2.05 {text * 20} {LARGE_LEN}"
            if name == "libcoap":  # prints block by block
                whole = text * LARGE_LEN
            wait_until(lambda whole=whole: "".join(client.lines()).endswith(whole), client.excerpt)


def lossy_relay(server_port, loss, seed=1):
    """A port that passes datagrams on to a server and back, but loses so many percent each way."""
    chance = random.Random(seed)
    return relay(server_port, lambda datagram, is_request: (datagram,) if chance.random() * 100 >= loss else ())


@pytest.mark.parametrize("name", CLIENTS)
def test_obs_11_a_lossy_network_delays_but_the_last_state_arrives(small_server, name):
    """OBS_11: CON notifications, a tenth of the datagrams lost each way."""
    with lossy_relay(small_server, 10) as port, observing(CLIENTS[name](url(port, "/obs"))) as client:
        client.await_last("0")
        tell(small_server, "/drive", b"100")
        client.await_last("100")
        numbers = [int(text) for text in client.heard()]
        assert numbers == sorted(numbers)


# ---- our client ----


def test_obs_01_ours_hears_what_is_put_at_their_servers_and_cancels(peer, runtime):
    """OBS_01, 09, 12: each of 20 states, one after the other; then GET with Observe 1."""
    with observing(our_command(runtime, url(peer, "/dyn"))) as client:
        client.await_last("0")
        for number in range(1, 21):
            tell(peer, "/dyn", b"%d" % number)
            client.await_last(str(number))
        assert client.heard() == [str(number) for number in range(21)]
        tell(peer, "/dyn", b"cancel")
        client.await_line("end None")


def test_obs_04_ours_registers_again_when_the_server_has_lost_it(runtime):
    """OBS_04: aiocoap's server starts anew; Max-Age (1 s) and 5 to 15 s later it knows our client."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(aiocoap_server(port))
        client = stack.enter_context(observing(our_command(runtime, url(port, "/dyn"))))
        client.await_last("0")
        tell(port, "/dyn", b"before")
        client.await_last("before")
        first.close()
        stack.enter_context(aiocoap_server(port))
        tell(port, "/dyn", b"unheard")
        wait_until(lambda: client.heard()[-1] == "unheard", client.excerpt, AGAIN_S + PATIENCE_S)
        tell(port, "/dyn", b"after")
        client.await_last("after")
