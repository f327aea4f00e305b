"""Proves that a flood starves nobody: with every table full, an honest client is served and no memory is lost.

First one host sends requests from many ports, half GET, half POST, half CON, half NON: it may fill only its share of
the table of duplicates. Then more hosts do than the table has places: POST may be refused with 5.03 then, GET not.
After the lifetime all places are free. Tables have their default size; the library is to be the one for a board,
in a small heap.
"""

import os

from proving import IS_MICROPYTHON, come_to_rest, command_line, free_heap, must

# isort: split
import coap

DATAGRAMS = 65536
HOSTS = 200
HONEST_EVERY = 48  # datagrams of the flood between two requests of the honest client
SERVED = 0.99
HEAP_DRIFT = 256
HONEST = ("198.51.100.1", 5683)
HEADS = (b"\x40\x01%c%c\xb1t", b"\x40\x02%c%c\xb1t", b"\x50\x01%c%c\xb1t", b"\x50\x02%c%c\xb1t")


class Scene:
    """A server, an honest client and the counts of what it got.

    The client is as small as can be: it writes its datagrams itself. Its messages are CON, over a network without
    loss, so that each must be answered at once.
    """

    def __init__(self):
        self.server = coap.Engine(os.urandom)
        self.now_ms = 0
        self.mid = 0xFF00
        resource = self.server.resource("t")
        resource.get(self.read)
        resource.post(self.write)
        self.reset_counts()

    def reset_counts(self):
        """Start counting."""
        self.asked = [0, 0]  # GET, POST
        self.served = [0, 0]
        self.refused = 0  # POST with 5.03

    def read(self, request, response):
        """Handler of GET."""
        response.payload = b"22.5 C"

    def write(self, request, response):
        """Handler of POST."""
        response.code = coap.CHANGED

    def ask(self):
        """One honest request, GET or POST in turn."""
        kind = (self.asked[0] + self.asked[1]) & 1
        self.mid = mid = self.mid + 1 & 0xFFFF
        reply = self.server.receive(HEADS[kind] % (mid >> 8, mid & 255), HONEST, self.now_ms)
        self.asked[kind] += 1
        if reply is not None and reply[0] == 0x60 and reply[2] << 8 | reply[3] == mid:
            if reply[1] == (coap.CONTENT, coap.CHANGED)[kind]:
                self.served[kind] += 1
            elif kind and reply[1] == coap.SERVICE_UNAVAILABLE:
                self.refused += 1

    def flood(self, n, hosts):
        """`n` datagrams, 1 ms apart, no two with the same port and message ID, from so many hosts."""
        for k in range(n):
            mid = k * 5 & 0xFFFF
            data = HEADS[k & 3] % (mid >> 8, mid & 255)
            self.server.receive(data, ("203.0.113.%d" % ((k >> 2) % hosts), 1024 + k % 60000), self.now_ms)
            self.now_ms = coap.ticks_add(self.now_ms, 1)
            if k % HONEST_EVERY == HONEST_EVERY - 1:
                self.ask()

    def free_heap(self):
        """Bytes of heap that are free at rest, with an honest request the last that the engine has seen."""
        for _ in range(2):
            self.ask()
        self.now_ms = come_to_rest(self.server, self.now_ms)
        return free_heap()

    def prove_empty(self):
        """Every place in the table of duplicates is free: 32 POSTs of four hosts are accepted, the 33rd is not."""
        for k in range(33):
            data = HEADS[1] % (k, k)
            reply = self.server.receive(data, ("192.0.2.%d" % (k // 8), 5683), self.now_ms)
            expected = coap.SERVICE_UNAVAILABLE if k == 32 else coap.CHANGED
            must(reply[1] == expected, "POST %d after the flood is answered %d", k + 1, reply[1])


def prove(scene, what, n, hosts):
    """One flood and a line."""
    free_before = scene.free_heap()
    scene.reset_counts()
    scene.flood(n, hosts)
    (gets, posts), (read, written), refused = scene.asked, scene.served, scene.refused
    drift = free_before - scene.free_heap()
    line = "flood: %s: %d requests; honest GET %d of %d, POST %d of %d, %d answered 5.03; at rest after 247 s"
    line %= what, n, read, gets, written, posts, refused
    print(line + ", heap %+d bytes" % -drift if IS_MICROPYTHON else line)
    must(read >= SERVED * gets, "GET was not served")
    must(written + refused == posts, "a POST got neither an answer nor 5.03")
    must(hosts > 1 or written >= SERVED * posts, "POST was not served")
    must(drift <= HEAP_DRIFT, "%d bytes of heap are lost", drift)


def run(scale=1.0):
    """65,536 from one host, and again from 200."""
    n = max(2000, int(DATAGRAMS * scale))
    scene = Scene()
    prove(scene, "from one host", n, 1)
    prove(scene, "from %d hosts" % HOSTS, n, HOSTS)
    scene.prove_empty()
    if IS_MICROPYTHON:
        print("flood: %d bytes of heap free at the end, no MemoryError" % free_heap())


if __name__ == "__main__":
    command_line(run)
