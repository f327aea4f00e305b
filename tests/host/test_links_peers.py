"""coap_links with peers: resource directories of aiocoap and libcoap, discovery of others' servers and of a group.

Our side runs on CPython and on MicroPython. Sections are those of RFC 9176 where no other RFC is named.
"""

import contextlib
import json
import subprocess
import threading

import pytest

from peers import (
    ENVIRONMENT,
    HOST,
    RUNTIMES,
    aiocoap_server,
    ask_by_aiocoap,
    ask_by_libcoap,
    free_port,
    interpreter,
    libcoap_server,
    node_server,
    require_aiocoap,
    running,
    url,
)
from programs import program

LINE_TIMEOUT_S = 20

# A device with a sensor: registers, prints the code of each answer; POST /stop has the registration removed.
# Arguments: its port, the directory.
DEVICE = """
import sys

import coap
import coap_links

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
temperature = endpoint.resource("sensors/temp", rt="temperature sensor", if_="s", ct=coap.TEXT)
stop = endpoint.resource("stop")


@temperature.get
def read(request, response):
    return "22.5"


@stop.post
def end(request, response):
    registration.remove()


registration = coap_links.Registration(endpoint, sys.argv[2], "node-" + sys.argv[1], lt_s=2, et="thermo")
while True:
    received = endpoint.process(registration.tick())
    if received is not None:
        sys.stdout.write("%d\\n" % received.message.code)
"""

# Prints the links of discover(), as a line of JSON. Arguments: host, timeout_ms, most, filters as JSON.
DISCOVER = """
import json
import sys

import coap
import coap_links

with coap.Endpoint() as endpoint:
    if sys.argv[1][:3] == "224":  # IP_MULTICAST_IF: through the loopback interface
        endpoint.socket.setsockopt(0, 32, b"\\x7f\\0\\0\\1")
    links = coap_links.discover(endpoint, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), **json.loads(sys.argv[4]))
    print(json.dumps([(link.uri, link.rt) for link in links]))
"""

# Asks a directory for all temperatures and those for their values. Argument: the directory.
FLEET = """
import sys

import coap
import coap_links

with coap.Endpoint() as endpoint:
    lookup = coap_links.discover(endpoint, sys.argv[1], rt="core.rd-lookup-res")[0]
    response = endpoint.get(lookup.uri, uri_query=("rt=temperature",))
    for link in coap_links.find(coap_links.parse(response.payload), if_="s"):
        print(link.uri, str(endpoint.get(link.uri).payload, "utf-8"))
"""

# A server that joins a group on the loopback interface. Arguments: its port, the group's port, rt.
MEMBER = """
import socket
import sys

import coap

endpoint = coap.Endpoint(port=int(sys.argv[1]), host="127.0.0.1")
group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
group.bind(socket.getaddrinfo("224.0.1.187", int(sys.argv[2]))[0][-1])
group.setsockopt(0, 35, b"\\xe0\\0\\1\\xbb\\x7f\\0\\0\\1")  # IP_ADD_MEMBERSHIP
group.setblocking(False)
endpoint.register_socket(group, is_group=True)
endpoint.resource("t", rt=sys.argv[3])
while True:
    endpoint.process()
"""
CREATED, DELETED, CHANGED, CONTENT, NOT_FOUND = "65", "66", "68", "69", "132"


def script(folder, text):
    """The path of a file in `folder` with this text."""
    path = folder / f"script{len(list(folder.iterdir()))}.py"
    path.write_text(text)
    return path


def run_script(runtime, folder, text, *words):
    """Runs a script of ours to its end; returns what it printed."""
    command = [interpreter(runtime), script(folder, text), *[str(word) for word in words]]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LINE_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def directory(port):
    """aiocoap-rd on this port."""
    require_aiocoap()
    return running(program("aiocoap-rd"), "--bind", f"{HOST}:{port}", port=port)


@contextlib.contextmanager
def device(runtime, folder, rd):
    """A device that registers with the directory `rd`; gives its port and its process."""
    port = free_port()
    command = [interpreter(runtime), script(folder, DEVICE), str(port), rd]
    environment = ENVIRONMENT | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(LINE_TIMEOUT_S * 3, process.kill)
        watchdog.start()
        try:
            yield port, process
        finally:
            watchdog.cancel()
            process.kill()


def codes_until(process, last, count=1):
    """The codes that the device received, up to the `count`-th `last`."""
    codes = []
    while codes.count(last) < count:
        line = process.stdout.readline()
        assert line, f"the device ended after {codes}"
        codes.append(line.strip())
    return codes


def lookup(port, query):
    """The links that the directory lists, as text."""
    answer = ask_by_aiocoap(url(port, "/resource-lookup/?" + query))
    assert answer.code == "2.05"
    return answer.payload.decode()


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    """What our side runs on."""
    return request.param


def test_registration_with_aiocoap_rd_is_made_updated_and_removed(runtime, tmp_path):
    """Sections 5, 5.3.1, 5.3.2 and 6: found by the existing infrastructure, and serving all the while"""
    rd = free_port()
    with directory(rd), device(runtime, tmp_path, f"coap://{HOST}:{rd}") as (port, process):
        assert codes_until(process, CREATED) == [CONTENT, CREATED]
        assert f"<coap://{HOST}:{port}/sensors/temp>" in lookup(rd, "rt=temperature")
        assert ask_by_libcoap(url(port, "/sensors/temp")).payload == b"22.5"
        endpoints = ask_by_aiocoap(url(rd, "/endpoint-lookup/?et=thermo")).payload.decode()
        assert f'ep="node-{port}"' in endpoints and f"coap://{HOST}:{port}" in endpoints
        assert codes_until(process, CHANGED, 2) == [CHANGED, CHANGED]
        assert ask_by_libcoap(url(port, "/stop"), method="post").code == "2.01"
        assert codes_until(process, DELETED)[-1] == DELETED
        assert lookup(rd, "rt=temperature") == ""


def test_registration_with_aiocoap_rd_survives_its_restart(runtime, tmp_path):
    """Section 5.3.1: a directory that has forgotten everything answers 4.04"""
    rd = free_port()
    with device(runtime, tmp_path, f"coap://{HOST}:{rd}") as (port, process):
        with directory(rd):
            codes_until(process, CREATED)
        with directory(rd):
            assert NOT_FOUND in codes_until(process, CREATED)
            assert f"<coap://{HOST}:{port}/sensors/temp>" in lookup(rd, "rt=temperature")


def test_registration_with_libcoaps_directory_is_made(runtime, tmp_path):
    """Section 5: a second implementation, whose resource is named in the URI

    No more is asked of it: that of libcoap 4.3.1 knows no update, and a DELETE ends it with a double free.
    """
    rd = free_port()
    server = running(program("coap-rd-notls"), "-A", HOST, "-p", rd, port=rd)
    with server, device(runtime, tmp_path, f"coap://{HOST}:{rd}/rd") as (port, process):
        assert codes_until(process, CREATED) == [CREATED]
        links = discovered(runtime, tmp_path, f"{HOST}:{rd}")
        assert [url(rd, "/rd"), ["core.rd"]] in links and len(links) == 2


def test_fleet_registered_with_aiocoap_rd_is_found_and_read(runtime, tmp_path):
    """Section 6: lookup by our client, of devices on both runtimes"""
    rd = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(directory(rd))
        ports = []
        for device_runtime in RUNTIMES:
            port, process = stack.enter_context(device(device_runtime, tmp_path, f"coap://{HOST}:{rd}"))
            codes_until(process, CREATED)
            ports.append(port)
        lines = run_script(runtime, tmp_path, FLEET, f"{HOST}:{rd}").splitlines()
        assert sorted(lines) == sorted([f"coap://{HOST}:{port}/sensors/temp 22.5" for port in ports])


def discovered(runtime, folder, host, timeout_ms=5000, most=16, **filters):
    """[[URI, rt]] of what discover() found."""
    return json.loads(run_script(runtime, folder, DISCOVER, host, timeout_ms, most, json.dumps(filters)))


@pytest.mark.parametrize("start", [aiocoap_server, libcoap_server, node_server])
def test_discover_of_another_server_gives_links_or_none(runtime, start, tmp_path):
    """RFC 6690: LINK of the plugtests; aiocoap's example lists nothing, node's has no .well-known/core"""
    with start() as port:
        links = discovered(runtime, tmp_path, f"{HOST}:{port}")
        if start is libcoap_server:
            assert url(port, "/time") in [uri for uri, _ in links]
            assert discovered(runtime, tmp_path, f"{HOST}:{port}", rt="ticks") == [[url(port, "/time"), ["ticks"]]]
            assert discovered(runtime, tmp_path, f"{HOST}:{port}", rt="nothing") == []
        else:
            assert links == []


def test_discover_of_a_group_gives_the_links_of_three_hosts(runtime, tmp_path):
    """RFC 7252 section 8: multicast on the loopback interface, hosts on both runtimes"""
    group = free_port()
    with contextlib.ExitStack() as stack:
        ports = []
        for n, member_runtime in enumerate((*RUNTIMES, "micropython", "cpython")):
            port = free_port()
            path = script(tmp_path, MEMBER)
            rt = "light" if n == 3 else "temperature"
            stack.enter_context(running(interpreter(member_runtime), path, port, group, rt, port=port))
            ports.append(port)
        host = f"224.0.1.187:{group}"
        found = discovered(runtime, tmp_path, host, 6000, rt="temperature")
        assert sorted(found) == sorted([[url(port, "/t"), ["temperature"]] for port in ports[:3]])
        assert len(discovered(runtime, tmp_path, host, 6000, 2)) == 2
