"""Groups with real sockets: two network namespaces of this computer, a cable between them, a server in one.

CPython and MicroPython, IPv4 and IPv6. Needs root and `ip` (Debian: iproute2).
"""

import collections
import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import sys

import pytest

import coap
from peers import ENVIRONMENT, HERE, RUNTIMES, interpreter

PORT = 5683
NODEV = "OSError: [Errno %d]" % errno.ENODEV
# The server's addresses in its namespace, and what the client sends to
Network = collections.namedtuple("Network", "any unicast group interface")
Reply = collections.namedtuple("Reply", "after_ms sender message")
GET = coap.Message(coap.GET, mtype=coap.NON, token=b"tk", uri_path=("count",))
MIDS = itertools.count(1)  # no ID twice, for a port may come twice
LEISURE_MS = 300
WAIT_S = 0.55  # for an answer too many: the leisure, and something on top


def run_ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def two_namespaces():
    """Gives the names of two namespaces joined by a cable, whose ends are called `wire`; removes them at the end."""
    server, client = names = ["coap-%d-%s" % (os.getpid(), role) for role in ("server", "client")]
    try:
        for name in names:
            run_ip("netns", "add", name)
        run_ip("link", "add", "wire", "netns", server, "type", "veth", "peer", "name", "wire", "netns", client)
        for n, name in enumerate(names, 1):
            run_ip("-n", name, "address", "add", f"10.77.0.{n}/24", "dev", "wire")
            run_ip("-n", name, "link", "set", "wire", "addrgenmode", "none")
            run_ip("-n", name, "link", "set", "wire", "up")
            run_ip("-n", name, "link", "set", "lo", "up")
            run_ip("-n", name, "address", "add", f"fe80::{n}/64", "dev", "wire", "nodad")
        yield server, client
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture(scope="module")
def namespaces():
    if shutil.which("ip") is None:
        pytest.skip("ip is missing: apt-get install iproute2")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with two_namespaces() as names:
        yield names


@pytest.fixture(params=["IPv4", "IPv6"])
def network(request, namespaces):
    """The Network of each family."""
    if request.param == "IPv4":
        return Network("0.0.0.0", "10.77.0.1", "224.0.1.187", "10.77.0.1")
    index = in_namespace(namespaces[0], sys.executable, "-c", "import socket; print(socket.if_nametoindex('wire'))")
    return Network("::", "fe80::1", "ff02::fd", index.strip())


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    """What the server runs on."""
    return request.param


def in_namespace(name, *command):
    """The output of a command."""
    words = ["ip", "netns", "exec", name, *map(str, command)]
    return subprocess.run(words, check=True, capture_output=True, text=True, env=ENVIRONMENT, timeout=30).stdout


@contextlib.contextmanager
def serving(name, runtime, network, times=1):
    """Runs join_serve.py in the namespace; gives the line it prints, which for a failure is the exception's."""
    command = [interpreter(runtime), HERE / "join_serve.py", PORT, *network[:1], *network[2:], times]
    words = ["ip", "netns", "exec", name, *map(str, command)]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(words, env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}, text=True, **streams) as server:
        try:
            line = server.stdout.readline().strip()
            yield line if not line.startswith("Traceback") else server.stdout.read().strip().splitlines()[-1]
        finally:
            server.kill()


def ask(namespaces, address, *messages, count=1):
    """The replies to messages, which get IDs; at least `count` of them, if they come at all."""
    datagrams = [message.copy(mid=next(MIDS)).encode().hex() for message in messages]
    command = [sys.executable, HERE / "join_ask.py", address, PORT, "wire", count, WAIT_S, *datagrams]
    lines = [line.split() for line in in_namespace(namespaces[1], *command).splitlines()]
    return [Reply(int(ms), sender, coap.Message.decode(bytes.fromhex(data))) for ms, sender, data in lines]


def test_a_group_and_its_member_are_asked_then_each_request_is_answered_once(namespaces, network, runtime):
    """RFC 7252 section 8.2: from the member's own address, and as often executed as asked."""
    with serving(namespaces[0], runtime, network):
        for address, payload in ((network.group, b"1"), (network.unicast, b"2"), (network.group, b"3")):
            (reply,) = ask(namespaces, address, GET)
            assert (reply.message.code, reply.message.payload, reply.message.token) == (coap.CONTENT, payload, b"tk")
            assert (reply.message.mtype, reply.sender.split("%")[0]) == (coap.NON, network.unicast)


def test_an_error_is_for_who_asks_alone(namespaces, network, runtime):
    """RFC 7252 section 8.2: to a group 4.04, 4.05, Reset and ACK are silent; the same unicast is answered."""
    messages = [
        GET.copy(uri_path=("nosuch",)),
        GET.copy(code=coap.PUT),
        GET.copy(mtype=coap.CON),
        coap.Message(0, mtype=coap.CON),
    ]
    with serving(namespaces[0], runtime, network):
        assert ask(namespaces, network.group, *messages, count=0) == []
        codes = sorted([reply.message.code for reply in ask(namespaces, network.unicast, *messages, count=4)])
    assert codes == [0, coap.CONTENT, coap.NOT_FOUND, coap.METHOD_NOT_ALLOWED]


def test_no_group_is_joined_then_what_is_sent_to_one_is_not_answered(namespaces, network, runtime):
    """RFC 7252 section 8.2: all nodes are in 224.0.0.1 and ff02::1; no errors, no ACK, nothing without leisure."""
    messages = [GET, GET.copy(uri_path=("nosuch",)), GET.copy(mtype=coap.CON), coap.Message(0, mtype=coap.CON)]
    groups = ["224.0.0.1", "ff02::1"] if network.any == "::" else ["224.0.0.1"]  # which serves IPv4, too
    with serving(namespaces[0], runtime, network, times=0):
        for group in groups:
            assert ask(namespaces, group, *messages, count=0) == []
        assert len(ask(namespaces, network.unicast, GET)) == 1


def test_a_group_is_joined_twice_then_it_is_one_membership(namespaces, network, runtime):
    """Renewing replaces the group's socket: two sockets in all, one answer."""
    with serving(namespaces[0], runtime, network, times=3) as line:
        assert line.startswith("sockets=2 ")
        (reply,) = ask(namespaces, network.group, GET)
        assert reply.message.payload == b"1"


def test_a_group_is_discovered_then_the_links_can_be_asked(namespaces, network, runtime):
    """RFC 6690 section 4, RFC 6874: those of a link-local host name its network."""
    group = network.group if network.any != "::" else "[%s%%25wire]" % network.group
    run_ip("-n", namespaces[1], "route", "replace", "224.0.0.0/4", "dev", "wire")
    with serving(namespaces[0], runtime, network):
        found = in_namespace(namespaces[1], interpreter(runtime), HERE / "join_discover.py", group)
    uri, payload = found.split()
    assert uri.endswith("/count") and payload == "1", found


def test_a_port_is_taken_then_another_endpoint_is_told(namespaces, network, runtime):
    """Sharing the port with the group's socket must not hide a second server: OSError before and after join()."""
    with serving(namespaces[0], runtime, network) as line:
        assert line.endswith(" taken=True,True")


def test_ten_ask_a_group_then_their_answers_are_spread(namespaces, network, runtime):
    """RFC 7252 section 8.2: `queued` of them wait, each for its own leisure."""
    messages = [GET.copy(token=bytes([n])) for n in range(10)]
    spreads_ms = []
    with serving(namespaces[0], runtime, network):
        while max(spreads_ms, default=0) <= LEISURE_MS / 10:  # a busy computer may bring all of them together
            assert len(spreads_ms) < 5, spreads_ms
            replies = ask(namespaces, network.group, *messages, count=8)
            assert 8 <= len(replies) <= 10  # more where the first went before the last request came
            spreads_ms.append(replies[-1].after_ms - replies[0].after_ms)


def test_no_interface_is_given_then_the_system_chooses_or_says_that_it_cannot(namespaces, network, runtime):
    """IPv4 goes by the routing table; a link-local IPv6 group is on no interface in particular: one sentence."""
    anywhere = network._replace(interface="-")
    with serving(namespaces[0], runtime, anywhere) as line:
        if network.any == "::":
            assert "interface" in line, line
            return
        assert line.startswith(NODEV) or "ENODEV" in line, line
    run_ip("-n", namespaces[0], "route", "add", "224.0.0.0/4", "dev", "wire")
    try:
        with serving(namespaces[0], runtime, anywhere):
            (reply,) = ask(namespaces, network.group, GET)
            assert reply.message.payload == b"1"
    finally:
        run_ip("-n", namespaces[0], "route", "delete", "224.0.0.0/4", "dev", "wire")
