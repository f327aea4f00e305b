"""Measures block-wise transfers: a body of 1 MB each way, ours and aiocoap's client against libcoap's server, and
libcoap's and aiocoap's client against our server on MicroPython. MB/s, and CPU seconds per MB of the side named.

The server runs on the first processor, the client on the last. The body is in no file but libcoap's client's.
"""

import runpy
import subprocess
import tempfile
import time
from pathlib import Path

from bench_load import HOST
from bench_process import PROGRAMS, BenchError, cpu_s, cpython, json_of, micropython, on_cpu, program
from bench_server import libcoap, serving

WAIT_S = 30


def from_libcoap(command, script):
    """Returns the figures of a client that sends a body to libcoap's server and fetches it again."""
    with serving(libcoap, "time") as up:
        return json_of(command(script, f"coap://{HOST}:{up.port}/body"))


def whole():
    """Returns (the body, its size in MB)."""
    body = runpy.run_path(str(PROGRAMS / "body.py"))
    return body["PIECE"] * (body["SIZE"] // len(body["PIECE"])), body["SIZE"] / 1e6


def run_libcoap(up, *words):
    """Runs libcoap's client; returns (seconds, CPU seconds of the server)."""
    client = program("coap-client-notls", "apt-get install libcoap3-bin")
    command = [client, "-b", "1024", "-B", str(WAIT_S), *words, f"coap://{HOST}:{up.port}/body"]
    before_s, begin_s = cpu_s(up.process.pid), time.perf_counter()
    with on_cpu(-1):
        done = subprocess.run([str(word) for word in command], capture_output=True, timeout=WAIT_S + 5)
    if done.returncode or done.stderr:
        raise BenchError(f"libcoap's client failed: {done.stderr.decode().strip()[-200:]}")
    return time.perf_counter() - begin_s, cpu_s(up.process.pid) - before_s


def ours(port):
    """Returns the command that starts our server on MicroPython."""
    return micropython("serve_blocks.py", port)


def to_libcoap(command):
    """Returns the figures of a server with libcoap's client."""
    sent, megabytes = whole()
    with tempfile.TemporaryDirectory() as name, serving(command, "body") as up:
        source, sink = Path(name) / "sent", Path(name) / "received"
        source.write_bytes(sent)
        put_s, put_cpu_s = run_libcoap(up, "-m", "put", "-t", "42", "-f", source)
        get_s, get_cpu_s = run_libcoap(up, "-o", sink)
        if sink.read_bytes() != sent:
            raise BenchError("what libcoap's client received is not what it sent")
    return {
        "up_mb_s": megabytes / put_s,
        "up_cpu_s": put_cpu_s / megabytes,
        "down_mb_s": megabytes / get_s,
        "down_cpu_s": get_cpu_s / megabytes,
    }


def to_aiocoap(command):
    """Returns the figures of a server with aiocoap's client; its CPU time is a mean of both ways."""
    with serving(command, "body") as up:
        before_s = cpu_s(up.process.pid)
        figures = json_of(cpython("blocks_aiocoap.py", f"coap://{HOST}:{up.port}/body"))
        both_cpu_s = (cpu_s(up.process.pid) - before_s) / (2 * whole()[1])
        return {"up_mb_s": figures["up_mb_s"], "down_mb_s": figures["down_mb_s"], "mean_cpu_s": both_cpu_s}


def measure_all():
    """Returns {group: MB/s and CPU seconds per MB, up and down}."""
    return {
        "blocks client ours": from_libcoap(micropython, "blocks.py"),
        "blocks client aiocoap": from_libcoap(cpython, "blocks_aiocoap.py"),
        "blocks client ours CPython": from_libcoap(cpython, "blocks.py"),
        "blocks server ours": to_libcoap(ours),
        "blocks server libcoap": to_libcoap(libcoap),
        "blocks server ours, aiocoap asks": to_aiocoap(ours),
    }
