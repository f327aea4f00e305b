"""This computer as the peer of a board: a socket of prebuilt datagrams, and programs that run on the board."""

import functools
import socket
import time

import coap

TUNING_MS = 300  # ACK_TIMEOUT of the board's programs, so that a test takes seconds
TOLERANCE_MS = 200  # an ESP32 may notice a datagram 10 ms late, WiFi may delay it by some 100 ms
TRIES = 4
SETTLED_S = 2.6  # longer than the program waits between two copies

SERVER = """
import coap, gc, time
QUICK = coap.Tuning(ack_timeout_ms={timeout_ms}, ack_random_percent=100, max_retransmit=3)
endpoint = coap.Endpoint(port={port})
laters = []
calls = [0]
def count(request, response):
    calls[0] += 1
    return coap.CHANGED, str(calls[0])
def free(request, response):
    gc.collect()
    return str(gc.mem_free())
def slow(request, response):
    laters.append(response.copy(payload="late", transport_tuning=QUICK))
    return coap.LATER
endpoint.resource("text").get(lambda request, response: "22.5 C")
endpoint.resource("big").get(lambda request, response: bytes(1000))
endpoint.resource("len").put(lambda request, response: (coap.CHANGED, str(len(request.payload))))
endpoint.resource("count").post(count)
endpoint.resource("free").get(free)
endpoint.resource("slow").get(slow)
print("up")
while True:
    endpoint.process(100)
    while laters:
        endpoint.send(laters.pop(0))
"""


class Peer:
    """A UDP socket connected to `host`, `port`; `address` is what the board has to send to.

    Without `port` it takes datagrams from everywhere and sends to who sent last.
    """

    def __init__(self, host, port=None):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
            route.connect((host, 9))
            self.address = route.getsockname()[0]
        self.sock.bind(("0.0.0.0", 0))
        self.port = self.sock.getsockname()[1]
        self.given = self.remote = (host, port) if port else None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.sock.close()

    def send(self, datagram):
        """Sends bytes, or a coap.Message."""
        self.sock.sendto(datagram if isinstance(datagram, bytes) else datagram.encode(), self.remote)

    def receive(self, wait_s=2.0):
        """Returns (coap.Message, datagram, time in ms), or (None, b"", time) after `wait_s` seconds."""
        self.sock.settimeout(wait_s)
        try:
            datagram, remote = self.sock.recvfrom(2048)
        except TimeoutError:
            return None, b"", time.monotonic() * 1000
        if self.remote is None:
            self.remote = remote
        return coap.Message.decode(datagram), datagram, time.monotonic() * 1000

    def ask(self, message):
        """Sends a request, three times at most, and returns the Message that answers; fails if none does."""
        datagram = message.encode()
        for _ in range(3):
            self.send(datagram)
            answer = self.receive()[0]
            while answer is not None and answer.token != message.token:
                answer = self.receive()[0]
            if answer is not None:
                return answer
        raise AssertionError("the board does not answer")

    def settle(self):
        """Waits until nothing comes any more, and forgets who sent."""
        while self.receive(SETTLED_S)[1]:
            pass
        self.remote = self.given


class Requests:
    """Makes CON requests with message IDs and tokens of their own."""

    def __init__(self):
        self.mid = 0x1000

    def __call__(self, code, path, mtype=coap.CON, **fields):
        self.mid += 1
        token = self.mid.to_bytes(2, "big")
        return coap.Message(code, mtype=mtype, mid=self.mid, token=token, uri_path=tuple(path.split("/")), **fields)


make = Requests()


def reply(request, payload):
    """The piggybacked 2.05 that answers a Message."""
    return coap.Message(coap.CONTENT, mtype=coap.ACK, mid=request.mid, token=request.token, payload=payload)


def on_time(test):
    """Makes a test that goes by the clock: it has TRIES, for a busy computer misses some, and a wrong board all.

    The test has a `peer`, and `board` if each try has to begin with a fresh interpreter.
    """

    @functools.wraps(test)
    def tried(**fixtures):
        for left in reversed(range(TRIES)):
            try:
                return test(**fixtures)
            except Exception:
                if not left:
                    raise
            if "board" in fixtures:
                fixtures["board"].device.reset()
            fixtures["peer"].settle()

    return tried


def gaps_ms(times_ms):
    """Returns the differences of successive times."""
    return [later - sooner for sooner, later in zip(times_ms, times_ms[1:])]


def assert_gaps(times_ms, expected_ms):
    """Fails unless times are as far apart as expected, but for TOLERANCE_MS."""
    gaps = gaps_ms(times_ms)
    assert len(gaps) == len(expected_ms), gaps
    for gap, expected in zip(gaps, expected_ms):
        assert abs(gap - expected) <= TOLERANCE_MS, gaps
