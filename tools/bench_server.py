"""Measures servers: requests per second, latency and CPU time, by the load of bench_load.

The server runs on the first processor, the load on the last. Loopback, GET, a socket of its own for each measurement.
CPU time is that of the server's process, from the operating system, user and system, to the nanosecond.
"""

import collections
import contextlib
import os
import select
import socket
import statistics
import subprocess
import tempfile
import time

from bench_load import (
    CONTENT,
    GET,
    HOST,
    alone,
    connect,
    receive,
    request,
    requests,
    together,
    waited_s,
    waited_since,
)
from bench_process import (
    HEAP,
    PROCESSORS,
    BenchError,
    cpu_s,
    cpython,
    environment,
    library_of,
    micropython,
    node,
    on_cpu,
    program,
)
from udp_ports import free_port

# command: makes the words that start the server from a port; count: requests per round, with 16 outstanding
# code: of its answers; observers: how many register before the load; revision: of git, whose lib/ it runs
Server = collections.namedtuple(
    "Server", "command count path code observers revision", defaults=("temp", CONTENT, 0, None)
)
# said: the file with what it printed
Up = collections.namedtuple("Up", "process port said")
# alone: an Alone; together: a Together; cpu_s: CPU seconds of that; disturbed: share of the time without a processor
Turn = collections.namedtuple("Turn", "alone together cpu_s disturbed")

START_TIMEOUT_S = 10
WINDOW = 16
TURNS = 4
MOST_DISTURBED = 0.05  # of the time a turn took; beyond that it is done again
TRIES = 3
REGISTER = b"\x60"  # Observe 0


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
def started(command):
    """Gives an Up, a server that may not answer yet; `command` makes its words from a port."""
    port = free_port()
    with tempfile.TemporaryFile() as said:
        with on_cpu(0):
            process = subprocess.Popen(command(port), env=environment(), stdout=said, stderr=said)
        with process:
            try:
                yield Up(process, port, said)
            finally:
                process.kill()


@contextlib.contextmanager
def serving(command, path="temp"):
    """Gives an Up, a server that answers; `command` makes its words from a port."""
    with started(command) as up:
        wait_until_up(up, path)
        yield up


@contextlib.contextmanager
def observing(port, path, count):
    """Registers `count` observers of a resource, each with a token of its own; they stay until the end of the block."""
    with connect(port) as sock:
        for number in range(count):
            sock.send(request(65000 + number, path, REGISTER))
            answer = receive(sock)
            if not answer or answer[1] != CONTENT or answer[6] >> 4 != 6:
                raise BenchError(f"observer {number + 1} of {count} was not registered")
        yield


def try_turn(server, up):
    """Puts the load of one turn on a server; returns a Turn."""
    pid, count = up.process.pid, server.count // TURNS
    begin_s, waited_before_s = time.perf_counter(), waited_s(pid) + waited_s(os.getpid())
    one = alone(up.port, requests(count // 4, server.path))
    before_s = cpu_s(pid)
    many = together(up.port, requests(count, server.path), WINDOW, server.code)
    took_s = cpu_s(pid) - before_s
    return Turn(one, many, took_s, waited_since(pid, waited_before_s) / (time.perf_counter() - begin_s))


def one_turn(server, up):
    """Returns the least disturbed Turn of a server; up to TRIES are made if something else took the processor."""
    tries = []
    try:
        while len(tries) < (TRIES if len(PROCESSORS) > 1 else 1):
            tries.append(try_turn(server, up))
            if tries[-1].disturbed <= MOST_DISTURBED:
                break
    except (OSError, ValueError):  # no such process, no such port
        raise failure(up) from None
    return min(tries, key=lambda turn: turn.disturbed)


def figures_of(turns):
    """Returns what a server's turns come to: rps_w1, latency_us, rps_w16, and of the latter cpu_us per request, busy.

    busy is the share of the time in which the server worked; where it is below 0.9 the load was too slow for it.
    disturbed is the largest share of a turn in which server or load had no processor.
    """
    answered = sum(turn.together.answered for turn in turns)
    took_s = [seconds for turn in turns for seconds in turn.alone.took_s]
    if not answered or not took_s:
        raise BenchError("a server stopped answering")
    seconds = sum(turn.together.seconds for turn in turns)
    return {
        "rps_w1": len(took_s) / sum(turn.alone.seconds for turn in turns),
        "latency_us": statistics.median(took_s) * 1e6,
        "rps_w16": answered / seconds,
        "cpu_us": sum(turn.cpu_s for turn in turns) / answered * 1e6,
        "busy": sum(turn.cpu_s for turn in turns) / seconds,
        "disturbed": max(turn.disturbed for turn in turns),
    }


def measure(servers):
    """Starts all servers, puts load on one after the other, TURNS times; returns {group: figures_of its turns}.

    servers: {group: Server}. One that waits takes no CPU time, so they can all be up at once.
    """
    turns = {group: [] for group in servers}
    with contextlib.ExitStack() as stack:
        up = {}
        for group, server in servers.items():
            with library_of(server.revision):
                up[group] = stack.enter_context(serving(server.command, server.path))
            stack.enter_context(observing(up[group].port, server.path, server.observers))
        with on_cpu(-1):
            for turn in range(TURNS + 1):
                for group, server in servers.items():
                    done = one_turn(server, up[group])
                    if turn:  # the first one warms up
                        turns[group].append(done)
    return {group: figures_of(turns[group]) for group in servers}


def ours(*arguments, heap=HEAP, observers=0):
    """Returns our server on MicroPython; arguments as of tools/bench/serve.py after the port."""
    return Server(lambda port: micropython("serve.py", port, *arguments, heap=heap), 16000, observers=observers)


def observed(observers):
    """Returns our server with coap_observe and that many observers of the resource that is asked for."""
    return ours(0, 0, max(observers, 1), observers=observers)


def echo(runtime, script="echo.py"):
    """Returns the server that sends each datagram back; `runtime` is micropython or cpython."""
    return Server(lambda port: runtime(script, port), 16000, code=GET)


def libcoap(port):
    """Returns the command that starts libcoap's example server, which serves its own /time."""
    return [program("coap-server-notls", "apt-get install libcoap3-bin"), "-A", HOST, "-p", str(port), "-d", "4"]


# What the main ratios need: our server, the least that any server does, and one in C.
MAIN = {
    "server echo": echo(micropython),
    "server ours": ours(),
    "server libcoap": Server(libcoap, 16000, "time"),
}
# How many requests the others get depends on how fast they are.
PEERS = {
    "server echo with poll": echo(micropython, "echo_poll.py"),
    "server echo CPython": echo(cpython),
    "server ours CPython": Server(lambda port: cpython("serve.py", port), 16000),
    "server node-coap": Server(lambda port: node("serve_node.js", port), 4000),
    "server aiocoap": Server(lambda port: cpython("serve_aiocoap.py", port), 2000),
    "server CoAPthon3": Server(lambda port: cpython("serve_coapthon.py", port), 1000),
}
# What the cost of a request could grow with: heap, resources, exchanges open meanwhile, observers. They are measured by
# themselves: a turn behind that of a large server, which leaves nothing of ours in the processor's caches, costs more.
GROWTH = {
    "server 256 KB": ours(),
    "server 2 MB quarters": ours(0, 0, 0, 4, heap="2m"),  # else memory is new to the caches until all is used
    "server ours 2 MB": ours(heap="2m"),
    "server 10 resources": ours(9, heap="2m"),
    "server 100 resources": ours(99, heap="2m"),
    "server 1000 resources": ours(999, heap="2m"),
    "server 1 open exchange": ours(0, 1),
    "server 4 open exchanges": ours(0, 4),
    "server 16 open exchanges": ours(0, 16),
    "server 0 observers": observed(0),
    "server 1 observer": observed(1),
    "server 8 observers": observed(8),
    "server 64 observers": observed(64),
}


def measure_main():
    """Measures what the main ratios need."""
    return measure(MAIN)


def measure_all():
    """Measures every server."""
    return measure(MAIN | PEERS) | measure(GROWTH)
