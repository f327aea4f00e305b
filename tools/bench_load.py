"""Loads a server: raw datagrams made beforehand, no CoAP library, and no work between an answer and the next request.

One request at a time is asked as a client asks: it sleeps until the answer is there. Many outstanding are asked
without sleeping, where there is a processor for that: to wake a sleeper is work for the kernel, done on the server's
account, and it would be the more the slower the server is.
"""

import collections
import functools
import os
import socket
import struct
import time
from pathlib import Path

from bench_process import PROCESSORS

HOST = "127.0.0.1"
WAIT_S = 1.0  # for an answer
MOST_REQUESTS = 60000  # of one socket: message IDs and tokens repeat then
GET, CONTENT = 0x01, 0x45
_ACCEPTED_LEN = 2048

# took_s: of each answer, in their order; a request without an answer within WAIT_S has none. seconds: altogether
Alone = collections.namedtuple("Alone", "took_s seconds")
# answered: how many requests have the answer they should have
Together = collections.namedtuple("Together", "answered seconds")


def request(mid, path, options=b""):
    """Returns a CON GET of a path of one segment of up to 12 characters, its message ID in its token too.

    options: encoded options with numbers below that of Uri-Path, as Observe.
    """
    delta = 11 - 6 if options else 11
    return struct.pack(">BBHH", 0x42, GET, mid, mid) + options + bytes((delta << 4 | len(path),)) + path.encode()


@functools.cache
def requests(count, path):
    """Returns `count` requests; no two of them have the same message ID. Raises ValueError for more than 60,000."""
    if count > MOST_REQUESTS:
        raise ValueError("message IDs repeat: use another socket for more than %d requests" % MOST_REQUESTS)
    return [request(mid, path) for mid in range(count)]


def connect(port):
    """Returns a socket that waits at most WAIT_S in recv, without a poll of its own before each."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((HOST, port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(WAIT_S), int(WAIT_S % 1 * 1e6)))
    return sock


def receive(sock):
    """Returns the next datagram, or None when none comes for WAIT_S; asks all the time if the socket never blocks."""
    until_s = time.perf_counter() + WAIT_S
    while True:
        try:
            return sock.recv(_ACCEPTED_LEN)
        except BlockingIOError:
            if time.perf_counter() >= until_s:
                return None


def alone(port, datagrams):
    """Sends the datagrams one after the other, each when the one before is answered; returns an Alone."""
    now_s = time.perf_counter
    took_s = []
    with connect(port) as sock:
        begin_s = now_s()
        for datagram in datagrams:
            sent_s = now_s()
            sock.send(datagram)
            if receive(sock) is not None:
                took_s.append(now_s() - sent_s)
        return Alone(took_s, now_s() - begin_s)


def together(port, datagrams, window, code=CONTENT):
    """Sends the datagrams, `window` of them outstanding, and waits for the answers; returns a Together.

    When no answer comes for WAIT_S all that are outstanding are given up. code: of a right answer.
    """
    answers, outstanding = [], 0
    with connect(port) as sock:
        if len(PROCESSORS) > 1:
            sock.setblocking(False)
        begin_s = time.perf_counter()
        for datagram in datagrams:
            if outstanding == window:
                outstanding = take(sock, answers, outstanding)
            sock.send(datagram)
            outstanding += 1
        while outstanding:
            outstanding = take(sock, answers, outstanding)
        seconds = time.perf_counter() - begin_s
    return Together(len({answer[4:6] for answer in answers if answer[1:2] == bytes((code,))}), seconds)


def take(sock, answers, outstanding):
    """Adds an answer to `answers`; returns how many are outstanding then, 0 if none came."""
    answer = receive(sock)
    if answer is None:
        return 0
    answers.append(answer)
    return outstanding - 1


def waited_s(pid):
    """Returns the seconds in which a process could have run but had no processor; 0 where Linux does not count them.

    It grows when something else runs on its processor. 0, too, for one with several threads: they wait for each other.
    """
    try:
        if len(os.listdir(f"/proc/{pid}/task")) > 1:
            return 0.0
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def waited_since(pid, before_s):
    """Returns how long the server `pid` and this process together have waited for a processor since `before_s`."""
    return waited_s(pid) + waited_s(os.getpid()) - before_s
