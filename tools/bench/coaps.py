"""Prints what coaps costs our client, as JSON: coaps.py PORT N; MicroPython only.

The first GET of serve_coaps.py, with the handshake, then N more, one after the other. request_bytes and response_bytes
are what DTLS adds to each datagram, handshake_datagrams and handshake_bytes those of the handshake, both ways.
"""

import json
import sys
import time

import coap
import coap_dtls

KEY = bytes(range(16))
APPLICATION_DATA = 23  # the type of a record


class Udp:
    """The socket below DTLS; counts bytes, and apart from them the handshake."""

    def __init__(self, sock):
        self.sock = sock
        self.sent = self.received = self.handshake_datagrams = self.handshake_bytes = 0

    def note(self, data):
        if data[0] != APPLICATION_DATA:
            self.handshake_datagrams += 1
            self.handshake_bytes += len(data)

    def sendto(self, data, peer):
        self.note(data)
        self.sent += len(data)
        return self.sock.sendto(data, peer)

    def recvfrom(self, n):
        data, peer = self.sock.recvfrom(n)
        self.note(data)
        self.received += len(data)
        return data, peer


class Transport(coap_dtls.Transport):
    """DTLS; counts bytes above it."""

    sent = received = 0

    def sendto(self, data, remote):
        self.sent += len(data)
        return super().sendto(data, remote)

    def recvfrom(self, n):
        message = super().recvfrom(n)
        if message:
            self.received += len(message[0])
        return message


uri, n = "coaps://127.0.0.1:%s/temp" % sys.argv[1], int(sys.argv[2])
transport = Transport(psk_identity="bench", psk_key=KEY)
endpoint = coap.Endpoint(sock=transport)
transport.udp = udp = Udp(transport.udp)
begin_us = time.ticks_us()
endpoint.get(uri)
handshake_ms = (time.ticks_us() - begin_us) / 1000
transport.sent = transport.received = udp.sent = udp.received = 0
begin_us, begin_cpu_s = time.ticks_us(), time.clock()
for _ in range(n):
    if endpoint.get(uri).payload != b"22.5C":
        raise ValueError("not answered as expected")
took_us, took_cpu_s = time.ticks_us() - begin_us, time.clock() - begin_cpu_s
found = {
    "handshake_ms": handshake_ms,
    "handshake_datagrams": udp.handshake_datagrams,
    "handshake_bytes": udp.handshake_bytes,
    "rps": n * 1000000 / took_us,
    "cpu_us": took_cpu_s * 1000000 / n,
    "request_bytes": (udp.sent - transport.sent) / n,
    "response_bytes": (udp.received - transport.received) / n,
}
print(json.dumps(found))
