"""ports/serial_line.py: a server on each interpreter behind a pty, whose line damages what it carries."""

import os
import pty
import random
import select
import subprocess
import sys
import threading
import tty

import pytest

import coap
import coap_block
from peers import ENVIRONMENT, RUNTIMES, interpreter
from programs import ROOT

sys.path.append(str(ROOT / "ports"))
import serial_line  # noqa: E402

URI = "coap://192.0.2.1"
BODY = bytes(range(256)) * 6  # with all that SLIP escapes
QUICK = coap.Tuning(ack_timeout_ms=100, max_retransmit=8)
SERVER = f"""
import select, sys
sys.path.append({str(ROOT / "ports")!r})
import coap, coap_block, serial_line

class Stream:
    def __init__(self, path):
        self.file = open(path, "r+b", buffering=0)
        self.poller = select.poll()
        self.poller.register(self.file, 1)

    def read(self, n):
        return self.file.read(1) if self.poller.poll(0) else None

    def write(self, data):
        self.file.write(data)

endpoint = coap.Endpoint(sock=serial_line.Transport(Stream(sys.argv[1])), datagram_len=256)
coap_block.attach(endpoint, unverified_len=None)
body = endpoint.resource("body")
state = [b""]

@body.get
def read(request, response):
    return state[0]

@body.put
def write(request, response):
    state[0] = request.payload

while True:
    endpoint.process()
"""


class Stream:
    """The other end of the line."""

    def __init__(self, file):
        self.file = file

    def read(self, n):
        return os.read(self.file, n) if select.select([self.file], (), (), 0)[0] else b""

    def write(self, data):
        os.write(self.file, data)


def carry(ends, damaged, random_source):
    """Carry bytes between the two `ends`, of which one in `damaged` becomes another, until one end is closed."""
    try:
        while True:
            for end in select.select(ends, (), ())[0]:
                data = bytearray(os.read(end, 1024))
                for at in range(len(data)):
                    if damaged and not random_source.randrange(damaged):
                        data[at] ^= random_source.randrange(1, 256)
                os.write(ends[end == ends[0]], data)
    except OSError:
        pass


@pytest.mark.parametrize("damaged", (0, 2000))
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_body_when_the_line_damages_bytes_then_comes_whole_both_ways(runtime, damaged, tmp_path):
    """RFC 1055, RFC 7252 section 4.2: what the CRC finds is lost, and sent again."""
    (tmp_path / "server.py").write_text(SERVER)
    lines = [pty.openpty() for _ in range(2)]
    for line in lines:
        tty.setraw(line[1])
    ends = [line[0] for line in lines]
    carrier = threading.Thread(target=carry, args=(ends, damaged, random.Random(7)), daemon=True)
    carrier.start()
    command = [interpreter(runtime), tmp_path / "server.py", os.ttyname(lines[0][1])]
    server = subprocess.Popen([str(word) for word in command], env=ENVIRONMENT)
    try:
        sock = serial_line.Transport(Stream(lines[1][1]))
        with coap.Endpoint(sock=sock, datagram_len=256, tuning=QUICK) as client:
            coap_block.attach(client)
            assert client.put(f"{URI}/body", BODY, remote=serial_line.PEER).code == coap.CHANGED
            assert client.get(f"{URI}/body", remote=serial_line.PEER).payload == BODY
    finally:
        server.kill()
        server.wait()
        for line in lines:
            os.close(line[1])
        carrier.join(5)
        for end in ends:
            os.close(end)


class Script:
    """A stream that gives what the test puts into it, in pieces."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.written = b""

    def read(self, n):
        return self.pieces.pop(0) if self.pieces else None

    def write(self, data):
        self.written += data


def test_frames_when_in_one_piece_or_in_many_then_each_comes_once_and_noise_does_not():
    """RFC 1055: END, ESC, and frames cut by the reads."""
    datagrams = [bytes((1, 2, 3)), b"\xc0\xdb\xdc\xdd" * 16, b"\xdb" * 64, bytes(range(256))]
    writer = serial_line.Transport(Script())
    for datagram in datagrams:
        writer.sendto(bytearray(datagram), serial_line.PEER)
        writer.stream.write(b"console says \xdb hello")
    wire = writer.stream.written
    for size in (1, 2, 7, len(wire)):
        reader = serial_line.Transport(Script(*[wire[at : at + size] for at in range(0, len(wire), size)]))
        got = []
        item = reader.recvfrom(1000)
        while item:
            assert item[1] == serial_line.PEER
            got.append(item[0])
            item = reader.recvfrom(1000)
        assert got == datagrams, size


def test_noise_when_no_frame_ends_then_does_not_fill_the_memory():
    """RFC 7252 section 11: a line left open."""
    reader = serial_line.Transport(Script(*[b"x" * 256] * 1000))
    assert reader.recvfrom(100) is None
    assert len(reader.unread) <= 2 * 104 + 256
