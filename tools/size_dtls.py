"""Measures what a session of coap_dtls, and a handshake under way, keep on 64-bit MicroPython: of its heap, the libc's.

On unix mbedTLS has its buffers in the libc's heap; on an RP2040 they are in MicroPython's, on an ESP32 in the IDF's,
each about as large: 16 KB to receive, 4 KB to send.
"""

import json

from size_heap import lines_of, run_on_64_bits

COUNT = 20
SCRIPT = """
import errno
import gc
import io
import json

import coap
import coap_dtls

SERVER = ("192.0.2.1", 5684)
KEY = bytes(16)
sockets = {}


class Udp(io.IOBase):
    def __init__(self, address):
        self.address = address
        self.inbox = []
        sockets[address] = self

    def sendto(self, data, address):
        sockets[address].inbox.append((bytes(data), self.address))

    def recvfrom(self, n):
        if not self.inbox:
            raise OSError(errno.EAGAIN)
        return self.inbox.pop(0)

    def ioctl(self, request, argument):
        return -errno.EINVAL


def endpoint_at(address, **arguments):
    return coap.Endpoint(sock=coap_dtls.Transport(sock=Udp(address), **arguments))


def begin(n):
    client = endpoint_at(("192.0.2.2", n), psk_identity="sensor", psk_key=KEY)
    client.socket.sendto(b"\\x40\\0\\0\\1", SERVER)
    server.socket.recvfrom(1153)
    client.socket.recvfrom(1153)
    server.socket.recvfrom(1153)
    while {is_whole} and (client.socket.udp.inbox or server.socket.udp.inbox):
        client.socket.recvfrom(1153)
        server.socket.recvfrom(1153)
    client.socket._sessions[0].tls.close()
    del sockets["192.0.2.2", n]
    client = None
    gc.collect()  # what clients have in the libc's heap is free for the next


def kept():
    gc.collect()
    gc.collect()
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmRSS"):
                return gc.mem_alloc(), int(line.split()[1]) * 1024


server = endpoint_at(SERVER, keys={"sensor": KEY}, sessions={count} + 1, handshakes={count} + 1)
begin(0)
before = kept()
for n in range({count}):
    begin(n + 1)
after = kept()
if [session.is_open for session in server.socket._sessions] != [{is_whole}] * ({count} + 1):
    raise ValueError("the handshakes did not come as far as they should")
print(json.dumps([(after[i] - before[i]) / {count} for i in (0, 1)]))
"""


def kept_by_each(folder, is_whole):
    """Returns the bytes that a session, or else a handshake under way, keeps: (heap, libc's heap).

    folder: of the compiled library. Raises MeasureError, as where MicroPython has no DTLS with pre-shared keys.
    """
    script = folder / "session.py"
    script.write_text(SCRIPT.replace("{count}", str(COUNT)).replace("{is_whole}", str(is_whole)))
    return tuple(json.loads(lines_of(run_on_64_bits(script, folder, "-X", "heapsize=2m"))[-1]))


def print_each(session, handshake):
    """Prints what kept_by_each returned for both, or why that cannot be told."""
    for what, kept in (("a session of coap_dtls", session), ("a handshake of a client", handshake)):
        text = kept if isinstance(kept, str) else "%d bytes of heap, %.1f KB of the libc's" % (kept[0], kept[1] / 1024)
        print("%-24s 64 bits: %s" % (what, text))
    print("    on a board mbedTLS takes the latter from MicroPython's heap (RP2040) or beside it (ESP32)")
    print()
