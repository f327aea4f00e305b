"""Measures servers: requests per second, latency and CPU time, under a load of datagrams made beforehand.

The server runs on the first processor, the load on the last. Loopback, GET, one socket for each measurement.
"""

import collections
import contextlib
import functools
import select
import socket
import statistics
import struct
import subprocess
import tempfile
import time

from bench_process import HEAP, BenchError, cpu_s, cpython, environment, micropython, node, on_cpu, program

# command: makes the words that start the server from a port; count: requests per round, with 16 outstanding
Server = collections.namedtuple("Server", "command count path", defaults=("temp",))
# said: the file with what it printed
Up = collections.namedtuple("Up", "process port said")
# took_s: of each answer, in their order; a request without an answer within WAIT_S has none. seconds: altogether
Load = collections.namedtuple("Load", "took_s seconds")

HOST = "127.0.0.1"
WAIT_S, WAIT_US = 1, 0  # for an answer
START_TIMEOUT_S = 10
WINDOW = 16
TURNS = 4


def free_port():
    """Returns a UDP port of 127.0.0.1 that was free just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        return sock.getsockname()[1]


def request(mid, path):
    """Returns a CON GET of a path of one segment of up to 12 characters, its message ID in its token too."""
    return struct.pack(">BBHHB", 0x42, 1, mid, mid, 0xB0 | len(path)) + path.encode()


@functools.cache
def requests(count, path):
    """Returns `count` requests; no two of them have the same message ID. Raises ValueError for more than 65,536."""
    if count > 65536:
        raise ValueError("there are 65,536 message IDs: use another socket for more requests")
    return [request(mid, path) for mid in range(count)]


def connect(port):
    """Returns a socket that waits at most WAIT_S in recv, without a poll of its own before each."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((HOST, port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", WAIT_S, WAIT_US))
    return sock


def load(port, datagrams, window):
    """Sends the datagrams, `window` of them outstanding, and waits for the answers; returns a Load."""
    with connect(port) as sock:
        now_s = time.perf_counter
        sent_s, took_s = collections.deque(), []
        begin_s = now_s()
        for datagram in datagrams:
            if len(sent_s) == window:
                receive(sock, sent_s, took_s)
            sent_s.append(now_s())
            sock.send(datagram)
        while sent_s:
            receive(sock, sent_s, took_s)
        return Load(took_s, now_s() - begin_s)


def receive(sock, sent_s, took_s):
    """Waits for an answer and notes how long it took; when none comes, gives up all that are outstanding."""
    try:
        sock.recv(2048)
    except BlockingIOError:
        sent_s.clear()
    else:
        took_s.append(time.perf_counter() - sent_s.popleft())


def wait_until_up(up, path):
    """Returns when the server answers; raises BenchError when it does not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HOST, up.port))
        until_s = time.monotonic() + START_TIMEOUT_S
        while up.process.poll() is None and time.monotonic() < until_s:
            try:
                sock.send(request(65535, path))
                if select.select([sock], [], [], 0.05)[0] and sock.recv(2048):
                    return
            except ConnectionRefusedError:
                time.sleep(0.02)
    raise failure(up)


def failure(up):
    """Returns the BenchError that says which server does not answer, and what it said last."""
    up.process.kill()
    status = up.process.wait()
    up.said.seek(0)
    last = (up.said.read().decode().strip().splitlines() or [f"nothing was said, status {status}"])[-1]
    return BenchError(f"{' '.join(up.process.args[:8])} does not answer: {last}")


@contextlib.contextmanager
def serving(command, path="temp"):
    """Gives an Up, a server that answers; `command` makes its words from a port."""
    port = free_port()
    with tempfile.TemporaryFile() as said:
        with on_cpu(0):
            process = subprocess.Popen(command(port), env=environment(), stdout=said, stderr=said)
        with process:
            up = Up(process, port, said)
            try:
                wait_until_up(up, path)
                yield up
            finally:
                process.kill()


def one_turn(server, up):
    """Puts the load of one turn on a server; returns (Load with 1 outstanding, Load with 16, CPU seconds of that)."""
    try:
        alone = load(up.port, requests(server.count // TURNS // 4, server.path), 1)
        before_s = cpu_s(up.process.pid)
        together = load(up.port, requests(server.count // TURNS, server.path), WINDOW)
        return alone, together, cpu_s(up.process.pid) - before_s
    except (OSError, ValueError):  # no such process, no such port
        raise failure(up) from None


def figures_of(turns):
    """Returns what a server's turns come to: rps_w1, latency_us, rps_w16, and cpu_us per request of the latter."""
    alone, together, cpu_seconds = zip(*turns)
    answered = sum(len(one.took_s) for one in together)
    took_s = [seconds for one in alone for seconds in one.took_s]
    if not answered or not took_s:
        raise BenchError("a server stopped answering")
    return {
        "rps_w1": len(took_s) / sum(one.seconds for one in alone),
        "latency_us": statistics.median(took_s) * 1e6,
        "rps_w16": answered / sum(one.seconds for one in together),
        "cpu_us": sum(cpu_seconds) / answered * 1e6,
    }


def measure(servers):
    """Starts all servers, puts load on one after the other, TURNS times; returns {group: figures_of its turns}.

    servers: {group: Server}. One that waits takes no CPU time, so they can all be up at once.
    """
    turns = {group: [] for group in servers}
    with contextlib.ExitStack() as stack:
        up = {group: stack.enter_context(serving(server.command, server.path)) for group, server in servers.items()}
        with on_cpu(-1):
            for turn in range(TURNS + 1):
                for group, server in servers.items():
                    done = one_turn(server, up[group])
                    if turn:  # the first one warms up
                        turns[group].append(done)
    return {group: figures_of(turns[group]) for group in servers}


def ours(*arguments, heap=HEAP):
    """Returns our server on MicroPython; arguments as of tools/bench/serve.py after the port."""
    return Server(lambda port: micropython("serve.py", port, *arguments, heap=heap), 16000)


def libcoap(port):
    """Returns the command that starts libcoap's example server, which serves its own /time."""
    return [program("coap-server-notls", "apt-get install libcoap3-bin"), "-A", HOST, "-p", str(port)]


# What the main ratios need: our server, and the least that any server does.
MAIN = {
    "server echo": Server(lambda port: micropython("echo.py", port), 16000),
    "server ours": ours(),
}
# How many requests the others get depends on how fast they are.
PEERS = {
    "server echo CPython": Server(lambda port: cpython("echo.py", port), 16000),
    "server ours CPython": Server(lambda port: cpython("serve.py", port), 16000),
    "server libcoap": Server(libcoap, 16000, "time"),
    "server node-coap": Server(lambda port: node("serve_node.js", port), 4000),
    "server aiocoap": Server(lambda port: cpython("serve_aiocoap.py", port), 2000),
    "server CoAPthon3": Server(lambda port: cpython("serve_coapthon.py", port), 1000),
}
# What the cost of a request could grow with: heap, resources, exchanges open meanwhile.
GROWTH = {
    "server ours 2 MB": ours(heap="2m"),
    "server 10 resources": ours(9, heap="2m"),
    "server 100 resources": ours(99, heap="2m"),
    "server 1000 resources": ours(999, heap="2m"),
    "server 4 open exchanges": ours(0, 4),
}


def measure_main():
    """Measures what the main ratios need."""
    return measure(MAIN)


def measure_all():
    """Measures every server."""
    return measure(MAIN | PEERS | GROWTH)
