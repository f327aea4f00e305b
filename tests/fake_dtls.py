"""What coap_dtls stands on, played: a module `tls` whose DTLS protects nothing, and a network of UDP sockets.

The records have the form of RFC 6347, the handshake its flights, and errors the numbers of mbedTLS; there is no
cipher: a record carries eight bytes that depend on the key and the client's random. With fake.Clock it is all virtual.
"""

import errno
import hashlib
import io
import sys

import coap
import coap_dtls
import fake

PROTOCOL_DTLS_CLIENT = 2
PROTOCOL_DTLS_SERVER = 3
CERT_NONE = 0

ALERT_UNKNOWN_IDENTITY = b"\2\x73"
CLOSE_NOTIFY = b"\1\0"
RETRANSMIT_MS = 1000


def record(kind, epoch, number, body):
    """The bytes of a record."""
    header = bytes((kind, 0xFE, 0xFD)) + epoch.to_bytes(2, "big") + number.to_bytes(6, "big")
    return header + len(body).to_bytes(2, "big") + body


def handshake(kind, body=b""):
    """The bytes of a handshake message."""
    return bytes((kind,)) + b"\0" * 11 + body


def records(datagram):
    """[(type, epoch, sequence number, body)] of a datagram; what is cut off is left away."""
    found = []
    at = 0
    while at + 13 <= len(datagram):
        size = int.from_bytes(datagram[at + 11 : at + 13], "big")
        if at + 13 + size > len(datagram):
            break
        epoch = int.from_bytes(datagram[at + 3 : at + 5], "big")
        number = int.from_bytes(datagram[at + 5 : at + 11], "big")
        found.append((datagram[at], epoch, number, datagram[at + 13 : at + 13 + size]))
        at += 13 + size
    return found


def hello(random, cookie=b""):
    """The datagram of a ClientHello."""
    return record(22, 0, 0, handshake(1, b"\xfe\xfd" + random + b"\0" + bytes((len(cookie),)) + cookie))


class SSLContext:
    """As tls.SSLContext, as far as coap_dtls uses it.

    wrapped: counts its sockets; open_most: how many of them fit into memory; failure: raised by wrap_socket.
    """

    def __init__(self, protocol):
        self.protocol = protocol
        self.psk_identity = self.psk_key = self.server_psk_keys = None
        self.verify_mode = 2
        self.ciphers = None
        self.wrapped = 0
        self.made = []
        self.open_most = self.failure = None

    def get_ciphers(self):
        return ["TLS-PSK-WITH-AES-128-GCM-SHA256", "TLS-PSK-WITH-AES-128-CBC-SHA256", "TLS-RSA-WITH-AES-128-GCM-SHA256"]

    def set_ciphers(self, ciphers):
        self.ciphers = ciphers

    def wrap_socket(self, stream, server_side=False, do_handshake_on_connect=True, client_id=None):
        if do_handshake_on_connect or server_side != (self.protocol == PROTOCOL_DTLS_SERVER):
            raise OSError(errno.EINVAL)
        if self.failure:
            raise self.failure
        self.made = [made for made in self.made if made.state != "closed"]
        if len(self.made) == self.open_most:
            raise OSError(errno.ENOMEM)  # as modtls_mbedtls.c says MBEDTLS_ERR_SSL_ALLOC_FAILED
        self.wrapped += 1
        self.made.append(SSLSocket(self, stream, client_id))
        return self.made[-1]


class SSLSocket:
    """As what wrap_socket returns. `state` is "start", "hello", "key", "open" or "closed".

    failure: raised by recv and send.
    """

    def __init__(self, context, stream, client_id):
        self.context = context
        self.stream = stream
        self.client_id = client_id
        self.is_server = context.protocol == PROTOCOL_DTLS_SERVER
        self.state = "start"
        self.records = []
        self.seen = set()
        self.sent = 0
        self.flight = None
        self.flight_ms = self.wait_ms = 0
        self.random = self.proof = self.failure = None

    # -- what coap_dtls calls

    def _may_fail(self):
        if self.failure:
            raise self.failure

    def recv(self, n):
        self._may_fail()
        data = self._work()
        if data is not None and len(data) > n:
            raise AssertionError("recv takes %d of %d bytes: the rest would look like another message" % (n, len(data)))
        return data

    def send(self, data):
        self._may_fail()
        if self.state != "open":
            self._work()
        if self.state != "open":
            return None
        self._protect(23, bytes(data))
        return len(data)

    def close(self):
        self.state = "closed"

    # -- out

    def _record(self, kind, epoch, body):
        self.sent += 1
        return record(kind, epoch, self.sent, body)

    def _protect(self, kind, body):
        self.stream.write(self._record(kind, 1, self.proof + body))

    def notify(self):
        """Send a close_notify, which MicroPython's tls does not."""
        self._protect(21, CLOSE_NOTIFY)

    def _send_flight(self, *parts):
        self.flight = parts
        self.wait_ms = RETRANSMIT_MS
        self._repeat_flight()

    def _repeat_flight(self):
        self.flight_ms = coap.ticks_ms()
        self.stream.write(b"".join([self._record(*part) for part in self.flight]))

    def _fail(self, number, alert=None):
        if alert:
            self.stream.write(self._record(21, 0, alert))
        self.state = "closed"
        raise OSError(number)

    # -- in

    def _work(self):
        """Handle records until one has data; returns the data, b"" of a close_notify, None if there is no more."""
        if self.state == "closed":
            raise OSError(errno.EINVAL)
        if self.state == "start" and not self.is_server:
            self.random = hashlib.sha256(str(id(self)).encode() + str(self.context.wrapped).encode()).digest()
            self.state = "hello"
            self._send_flight((22, 0, hello(self.random)[13:]))
        while True:
            if not self.records and not self._fetch():
                if self.state != "open" and self.flight:
                    self._retransmit()
                return None
            data = self._take(*self.records.pop(0))
            if data is not None:
                return data

    def _fetch(self):
        buffer = bytearray(2000)
        n = self.stream.readinto(buffer)
        self.records = records(bytes(buffer[:n])) if n else []
        return self.records

    def _retransmit(self):
        if coap.ticks_diff(coap.ticks_ms(), self.flight_ms) >= self.wait_ms:
            self.wait_ms *= 2
            self._repeat_flight()

    def _take(self, kind, epoch, number, body):
        if epoch:
            return self._take_protected(kind, number, body)
        if self.state == "open":
            raise AssertionError("a record of epoch 0 reached a session")
        if kind == 21:
            self._fail(-30592)
        elif kind == 22 and self.is_server:
            self._take_from_client(body)
        elif kind == 22:
            self._take_from_server(body)
        return None

    def _take_from_client(self, body):
        if body[0] == 1:
            cookie = hashlib.sha256(self.client_id + b"secret").digest()[:8]
            if body[48:] != cookie:
                self.stream.write(self._record(22, 0, handshake(3, cookie)))
                self._fail(-27264)
            self.random = body[14:46]
            self.state = "hello"
            self._send_flight((22, 0, handshake(14)))
        elif body[0] == 16 and self.state == "hello":
            key = self.context.server_psk_keys.get(body[12:])
            if key is None:
                self._fail(-27776, ALERT_UNKNOWN_IDENTITY)
            self._know(key)
            self.state = "key"

    def _take_from_server(self, body):
        if body[0] == 3:
            self._send_flight((22, 0, hello(self.random, body[12:])[13:]))
        elif body[0] == 14:
            self._know(self.context.psk_key)
            key_exchange = handshake(16, self.context.psk_identity)
            self.state = "key"
            self._send_flight((22, 0, key_exchange), (20, 0, b"\1"), (22, 1, self.proof))

    def _know(self, key):
        self.proof = hashlib.sha256(key + self.random).digest()[:8]

    def _take_protected(self, kind, number, body):
        if self.state not in ("key", "open"):
            return None
        if body[:8] != self.proof:
            if self.state == "key":
                self._fail(-29056)
            return None
        if number in self.seen:
            return None
        self.seen.add(number)
        if kind == 22 and self.is_server:
            self.state = "open"
            self._send_flight((20, 0, b"\1"), (22, 1, self.proof))
        elif kind == 22:
            self.state = "open"
        elif kind == 21:
            return b""
        return body[8:] if kind == 23 else None


# ---- a network ----


class Udp(object if sys.implementation.name == "cpython" else io.IOBase):
    """A UDP socket of a Net, as coap_dtls uses one."""

    def __init__(self, net, address):
        self.net = net
        self.address = address
        self.inbox = []
        net.sockets[address] = self

    def sendto(self, data, address):
        self.net.post(self.address, address, bytes(data))
        return len(data)

    def recvfrom(self, n):
        if not self.inbox:
            raise OSError(errno.EAGAIN)
        data, address = self.inbox.pop(0)
        return data[:n], address

    def ioctl(self, request, argument):
        if request == 3:  # POLL
            return argument & 1 if self.inbox else 0
        return -errno.EINVAL

    def close(self):
        self.net.sockets.pop(self.address, None)


class Net(fake.Clock):
    """In a `with`: sockets, Endpoints with DTLS over them, a virtual clock, and tls played."""

    def __init__(self):
        super().__init__(1000)
        self.sockets = {}
        self.endpoints = []
        self.trace = []  # (from, to, datagram)
        self.lose = None  # a function of a datagram: whether it is lost

    def __enter__(self):
        self.tls = coap_dtls.tls
        coap_dtls.tls = sys.modules[__name__]
        return super().__enter__()

    def __exit__(self, *error):
        coap_dtls.tls = self.tls
        super().__exit__(*error)

    def post(self, source, destination, data):
        self.trace.append((source, destination, data))
        if destination in self.sockets and not (self.lose and self.lose(data)):
            self.sockets[destination].inbox.append((data, source))

    def endpoint(self, address, **arguments):
        """An Endpoint at `address`; what it logs is in its `said`."""
        endpoint = coap.Endpoint(sock=coap_dtls.Transport(sock=Udp(self, address), **arguments))
        endpoint.said = []
        endpoint.log = lambda text, value: endpoint.said.append((text, value))
        self.endpoints.append(endpoint)
        return endpoint

    def settle(self):
        """Handle all datagrams that are there, and what is due; let no time pass."""
        for _ in range(200):
            for endpoint in self.endpoints:
                endpoint.process(0)
            if not any([endpoint.socket.udp.inbox for endpoint in self.endpoints]):
                return
        raise AssertionError("datagrams without end")

    def run(self, until=None, most_ms=200000):
        """Let time pass until `until()` is true or `most_ms` have gone; returns the ms."""
        begin_ms = self.now_ms
        while True:
            self.settle()
            passed_ms = coap.ticks_diff(self.now_ms, begin_ms)
            waits = [endpoint.next_event_ms() for endpoint in self.endpoints]
            waits = [wait_ms for wait_ms in waits if wait_ms is not None]
            if until is not None and until() or not waits or passed_ms + min(waits) > most_ms:
                return passed_ms
            self.now_ms = coap.ticks_add(self.now_ms, max(1, min(waits)))
