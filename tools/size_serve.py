"""Measures the heap that ports/sensor_server.py needs: the smallest that serves, and what it keeps on WebAssembly."""

import select
import socket
import struct
import subprocess

from size_heap import ROOT, beside_python, compile_to, environment, lines_of, run_on_32_bits, smallest_heap_kb
from udp_ports import free_port

EXCHANGES = 100
ANSWER_TIMEOUT_S = 1

# As main.py of a board does before it imports anything; SERVES has what it does afterwards
COLLECTS_OFTEN = """
import gc
gc.threshold(gc.mem_free() // 16)
"""
BOARD = """
class Board:
    name = "a board"
    is_led_on = False

    def temperature(self):
        return 22.5, "C", "the processor's own sensor"

    def set_led(self, is_on):
        self.is_led_on = is_on

    def connect(self):
        pass

    def address(self):
        return "127.0.0.1"

    def poll(self):
        return 3600000
"""
# Has the server send and take bodies of several blocks, too, which it does not need.
ATTACHES_BLOCKS = """
import coap_block
import sensor_server

build = sensor_server.build


def build_with_blocks(board, endpoint):
    coap_block.attach(endpoint)
    build(board, endpoint)


sensor_server.build = build_with_blocks
"""
SERVES = """
import sensor_server
if gc.threshold() > 0:
    gc.threshold(gc.mem_free() // 4)
sensor_server.run(Board(), {port}, "127.0.0.1")
"""
# On WebAssembly there is no socket: a transport that is played answers. Collects at the top level as ever.
KEPT_SCRIPT = (
    BOARD
    + """
import gc

PEER = ("192.0.2.1", 5683)
before = between = 0


class Transport:
    def __init__(self, requests):
        self.arriving = [(request, PEER) for request in requests]
        self.at = 0
        self.refused = 0

    def recvfrom(self, n):
        if self.at == len(self.arriving):
            return None
        self.at += 1
        return self.arriving[self.at - 1]

    def sendto(self, data, peer):
        if data[1] >> 5 != 2:
            self.refused += 1
        return len(data)


transport = Transport({requests!r})
gc.collect()
gc.collect()
before = gc.mem_alloc()
import coap
import sensor_server

endpoint = coap.Endpoint(sock=transport, random=lambda n: bytes(n))
sensor_server.build(Board(), endpoint)
gc.collect()
gc.collect()
between = gc.mem_alloc()
while transport.at < len(transport.arriving):
    endpoint.process(0)
if transport.refused:
    raise ValueError("%d requests were refused" % transport.refused)
print((gc.mem_alloc() - between) // transport.at)
gc.collect()
gc.collect()
print(gc.mem_alloc() - before)
"""
)


def requests():
    """Returns EXCHANGES datagrams: every resource in turn, each with a message ID of its own."""
    kinds = (
        (1, b"\xb7sensors\x04temp"),
        (1, b"\xb7sensors\x04temp\x61\x32"),  # Accept: JSON
        (3, b"\xb3led\xffon"),
        (1, b"\xb3led"),
        (1, b"\xb4info"),
        (1, b"\xbb.well-known\x04core"),
    )
    made = []
    for mid in range(EXCHANGES):
        code, rest = kinds[mid % len(kinds)]
        made.append(struct.pack(">BBHH", 0x42, code, mid, mid) + rest)
    return made


def compile_port(folder):
    """Compiles the sensor server beside the library."""
    compile_to(folder, ROOT / "ports/sensor_server.py")


def answers(sock, request):
    """Sends a request; returns whether it is answered with 2.xx."""
    try:
        sock.send(request)
        return bool(select.select([sock], [], [], ANSWER_TIMEOUT_S)[0]) and sock.recv(2048)[1] >> 5 == 2
    except ConnectionRefusedError:
        return False


def is_served(process, port):
    """Returns whether the server comes up and answers every request; the heap may be too small for either."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        line = process.stdout.readline()
        return line.startswith("serving") and all(answers(sock, request) for request in requests())


def serves(folder, heap_kb, program=None, prelude=""):
    """Returns whether the sensor server serves in a heap of this size, on the 64-bit MicroPython or on `program`."""
    port = free_port()
    script = folder / "serves.py"
    script.write_text(COLLECTS_OFTEN + prelude + BOARD + SERVES.format(port=port))
    command = [program or beside_python("micropython"), "-X", f"heapsize={heap_kb}k", script]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=environment(folder), **pipes) as process:
        try:
            return is_served(process, port)
        finally:
            process.kill()


def smallest_heap_to_serve_kb(folder, program=None, prelude=""):
    """Returns the smallest heap in KB in which the sensor server serves, with a socket.

    folder: of .mpy with the library and the server, by compile_port, unless `prelude` or `program` has them
    """
    return smallest_heap_kb(lambda heap_kb: serves(folder, heap_kb, program, prelude))


def kept_on_32_bits(folder):
    """Returns (bytes allocated per exchange, bytes kept by library, server and tables after all) on 32 bits."""
    script = folder / "kept.py"
    script.write_text(KEPT_SCRIPT.replace("{requests!r}", repr(requests())))
    allocated, kept = lines_of(run_on_32_bits(script, folder))
    return int(allocated), int(kept)
