"""Proves that bodies which never end starve nobody, in the heap of a small board: 3,000 begun, slow-loris, and more.

The server has coap_block with its default limits. The honest client uploads 3 blocks of 64 bytes, one after the
other, as a client does; who floods sends what it likes, and does not wait for answers. Every refusal must be the
documented one: 5.03 with Max-Age when the table is full, 4.08 to a block that continues nothing, 4.13 to a body that
grows for ever, 4.00 to what makes no sense. At rest nothing is held.
"""

import os

from proving import IS_MICROPYTHON, come_to_rest, command_line, free_heap, must

# isort: split
import coap
import coap_block

BODIES = 3000
HONEST = ("198.51.100.1", 5683)
HEAP_DRIFT = 256
PUT_T = b"\x40\x03%c%c\xb1t\xd3\x03%c%c%c\xff"  # Block1 with three bytes
HELD_LEN = 8192


class Scene:
    """A server, and what came of what was sent to it."""

    def __init__(self):
        self.server = coap.Engine(os.urandom)
        self.blocks = coap_block.attach(self.server)
        self.now_ms = 0
        self.mid = 0
        self.handled = 0
        self.server.resource("t").put(self.write)

    def write(self, request, response):
        """Handler of PUT: counts the honest client's bodies."""
        if request.payload == b"a" * 64 + b"b" * 64 + b"c" * 64:
            self.handled += 1

    def put(self, peer, block, payload, pause_ms=1):
        """The code that a block is answered with; `block` is the value of Block1."""
        self.mid = mid = self.mid + 1 & 0xFFFF
        head = PUT_T % (mid >> 8, mid & 255, block >> 16, block >> 8 & 255, block & 255)
        self.now_ms = coap.ticks_add(self.now_ms, pause_ms)
        left_ms = self.server.next_ms(self.now_ms)
        if left_ms is not None and left_ms <= 0:
            must(self.server.due(self.now_ms) is None, "the server sends by itself")
        reply = self.server.receive(head + payload, peer, self.now_ms)
        return reply[1]

    def begin(self, peer):
        """The code that a first block of 16 bytes is answered with."""
        return self.put(peer, 8, b"0123456789abcdef")

    def upload(self, step, peer=HONEST):
        """Send block `step` of the honest body; returns the code."""
        return self.put(peer, (step << 4 | 8 | 2) & ~(8 if step == 2 else 0), b"abc"[step : step + 1] * 64)

    def rest(self):
        """Bytes of heap that are free when all is forgotten."""
        self.now_ms = come_to_rest(self.server, self.now_ms)
        must(not self.blocks.bodies, "a body is held after its lifetime")
        return free_heap()


def prove_from_one_host(scene, n):
    """Bodies begun from many ports of one host: it has its share, the honest client is served all the time."""
    step = served = refused = 0
    for k in range(n):
        code = scene.begin(("203.0.113.1", 1024 + k))
        must(code in (coap.CONTINUE, coap.SERVICE_UNAVAILABLE), "a body begun is answered %d", code)
        refused += code == coap.SERVICE_UNAVAILABLE
        must(len(scene.blocks.bodies) <= 2, "%d bodies are held", len(scene.blocks.bodies))
        if k % 10 == 9:
            code = scene.upload(step)
            must(code == (coap.CONTINUE if step < 2 else coap.CHANGED), "the honest client is answered %d", code)
            served += step == 2
            step = (step + 1) % 3
    must(scene.handled == served, "%d bodies of the honest client were handled, not %d", scene.handled, served)
    print("block_flood: %d bodies begun from one host: %d refused with 5.03; honest client: %d of %d bodies served"
          % (n, refused, served, served))  # fmt: skip


def prove_from_many_hosts(scene, n):
    """Bodies begun from as many hosts: who has begun goes on; who has not is refused, or served within 11 s."""
    served = longest_ms = 0
    for _ in range(3):
        for k in range(n // 9):
            scene.begin(("203.0.%d.%d" % (k >> 8, k & 255), 5683))
        begun_ms = scene.now_ms
        while scene.upload(0) == coap.SERVICE_UNAVAILABLE:
            scene.now_ms = coap.ticks_add(scene.now_ms, 100)
        longest_ms = max(longest_ms, coap.ticks_diff(scene.now_ms, begun_ms))
        for step in (1, 2):
            for k in range(n // 9 * step, n // 9 * (step + 1)):
                scene.begin(("203.0.%d.%d" % (k >> 8, k & 255), 5683))
            code = scene.upload(step)
            must(code == (coap.CONTINUE, coap.CHANGED)[step - 1], "the honest body was dropped: %d", code)
        served += 1
    print("block_flood: %d bodies begun from as many hosts: %d of %d honest bodies served, after %.1f s at most"
          % (n, served, served, longest_ms / 1000))  # fmt: skip
    must(longest_ms <= 11000, "the honest client waited %d ms", longest_ms)


def prove_slow_loris(scene, seconds):
    """Two hosts that keep both places by a block every 5 s: they give way after 10 s, to an honest client."""
    offsets = [0, 0]
    served = lost = step = 0
    for second in range(seconds):
        for n in range(2):
            if second % 5 == n:
                code = scene.put(("203.0.113.%d" % (n + 1), 5683), offsets[n] << 4 | 8, b"0123456789abcdef")
                lost += code == coap.REQUEST_ENTITY_INCOMPLETE
                offsets[n] = offsets[n] + 1 if code == coap.CONTINUE else 0
        code = scene.upload(step)
        if code == coap.SERVICE_UNAVAILABLE or code == coap.REQUEST_ENTITY_INCOMPLETE:
            step = 0
        else:
            served += step == 2
            step = (step + 1) % 3
        scene.now_ms = coap.ticks_add(scene.now_ms, 998)
    print("block_flood: slow-loris for %d s: it lost its place %d times; honest client: %d bodies served"
          % (seconds, lost, served))  # fmt: skip
    must(served >= seconds // 15, "the honest client was not served")


def prove_refusals(scene):
    """Bodies that grow for ever, spliced ones, far block numbers, wrong lengths."""
    scene.rest()
    peer = ("203.0.113.9", 5683)
    length = 0
    while True:
        code = scene.put(peer, length // 16 << 4 | 8, b"0123456789abcdef")
        if code != coap.CONTINUE:
            break
        length += 16
    must(code in (coap.REQUEST_ENTITY_TOO_LARGE, coap.INTERNAL_SERVER_ERROR), "ended with %d", code)
    must(code == coap.INTERNAL_SERVER_ERROR or length == HELD_LEN, "%d bytes were held", length)
    for num in (1, 2, 511, 0xFFFFF):
        must(scene.put(peer, num << 4 | 8, bytes(16)) == coap.REQUEST_ENTITY_INCOMPLETE, "block %d was taken", num)
    must(scene.put(peer, 7, b"x") == coap.BAD_REQUEST, "SZX 7 was taken")
    must(scene.put(peer, 8, bytes(15)) == coap.BAD_REQUEST, "a short block was taken")
    must(scene.begin(peer) == coap.CONTINUE, "a new body was refused")
    must(scene.put((peer[0], 5684), 16, b"x") == coap.REQUEST_ENTITY_INCOMPLETE, "two bodies were spliced")
    must(scene.put(peer, 2 << 4 | 8, bytes(16)) == coap.REQUEST_ENTITY_INCOMPLETE, "a gap was taken")
    print("block_flood: a body that grows for ever ended with %d.%02d after %d bytes; 8 others refused as documented"
          % (code >> 5, code & 31, length))  # fmt: skip


def run(scale=1.0):
    """All of it; `scale` is the share of the 3,000 bodies."""
    n = max(300, int(BODIES * scale))
    scene = Scene()
    scene.begin(HONEST)
    free_before = scene.rest()
    prove_from_one_host(scene, n)
    prove_from_many_hosts(scene, n)
    prove_slow_loris(scene, max(120, int(600 * scale)))
    prove_refusals(scene)
    drift = free_before - scene.rest()
    if IS_MICROPYTHON:
        print("block_flood: at rest %+d bytes of heap, %d free" % (-drift, free_heap()))
        must(drift <= HEAP_DRIFT, "%d bytes of heap are lost", drift)


if __name__ == "__main__":
    command_line(run)
