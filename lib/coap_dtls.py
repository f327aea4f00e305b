"""coaps (RFC 7252 section 9.1) with pre-shared keys on MicroPython: DTLS 1.2 below an Endpoint, client and server.

    import coap
    import coap_dtls

    endpoint = coap.Endpoint(sock=coap_dtls.Transport(port=5684, keys={"sensor": KEY}))

serves each who knows one of the keys by its identity; endpoint.socket.identity(request.remote) tells a handler which.
A client names the key it has:

    endpoint = coap.Endpoint(sock=coap_dtls.Transport(psk_identity="sensor", psk_key=KEY))
    endpoint.get("coaps://192.0.2.1/sensors/temp")

With all three an endpoint is both, on one socket. Everything goes through DTLS: a coap:// URI is refused, resources
with secure=True are served; coap_observe, coap_block and coap_aio work as ever; groups are not reached. A key is 16
bytes that nobody can guess, another for each device: os.urandom(16).

The DTLS is mbedTLS, by the firmware's `tls`, with TLS_PSK_WITH_AES_128_GCM_SHA256 and, where the firmware has them,
CCM and the CCM_8 of RFC 7252. It needs MicroPython 1.29; CPython has no such module.

Client. The first request to a peer begins a handshake; up to 4 datagrams wait until it is done. If the peer refuses
it, its requests end with coap_dtls.Refused, and `endpoint.log` is told why; if it is silent, they end with
coap.Timeout. A server that has restarted does not know our session any more: after 8 s in which nothing came back, the
next confirmable message begins a new handshake, but for a POST or PATCH that went in the silent session: a server does
not know it again in another, and might execute it twice (RFC 7252 section 4.5). It ends with coap.Timeout.

Server. Nothing is kept of a ClientHello before its sender has returned the cookie that was sent to it (RFC 6347
section 4.2.1). Then its handshake takes one of `handshakes` places: if they are taken, the oldest of the same host
gives way, else the oldest. A session that is done takes one of `sessions`: if they are taken, the one unused for
longest gives way, of those unused for `idle_ms`, those with the newcomer's identity, and those whose identity has
several; else the newcomer is left unanswered. So who has no key ends no session, and who has one takes nobody the last
session that is in use. A ClientHello from the address of a session begins another; the first lives until that is done
(RFC 6347 section 4.2.8).

Where mbedTLS finds no memory for a handshake, the same is done at once, to make room for the next attempt; so where
`sessions` is more than fits, a stranger can end one that was unused for `idle_ms`, or that its identity has twice.

Each session is another `remote`, also from the same address: what was promised or is observed in one (LATER,
coap_observe) ends with it and never reaches another (RFC 7252 section 9.1.1).

RAM: on a board mbedTLS is configured to take about 24 KB (16 KB to receive, 4 KB to send) for each session, for each
handshake under way, and for the moment in which a ClientHello is answered; on an ESP32 outside of MicroPython's heap.
With the defaults these are 170 KB at most: allow fewer there, as ports/coaps_setup.py does.
MicroPython's `tls` sends no close_notify (https://github.com/micropython/micropython/pull/10783): a peer is not told
that its session has ended, and notices it when it is not answered any more.
"""

import errno
import io
import sys

try:
    import select
    import socket

    import tls
except ImportError:  # CPython has no tls
    tls = None

import coap
from coap import ticks_add, ticks_diff

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


_HANDSHAKE = const(22)  # types of records (RFC 6347 section 4.3.1)
_CHANGE_CIPHER_SPEC = const(20)
_APPLICATION_DATA = const(23)
_CLIENT_HELLO = const(1)  # types of handshake messages
_CLIENT_KEY_EXCHANGE = const(16)
_HEADER_LEN = const(13)  # of a record: type, version, epoch, sequence number, length
_RANDOM = const(27)  # where the random of a ClientHello begins, behind both headers and its version
_OVERHEAD = const(64)  # bytes that a cipher suite adds to a datagram at most, rounded up
_MTU = const(1500)  # a datagram of the handshake, or of several records, is not longer
_MOST_LEN = const(4096)  # what mbedTLS sends in one record on a board
_KEY_LEN = const(48)  # what mbedTLS takes
_WAITING = const(4)  # datagrams that wait for a handshake
_STEP_MS = const(250)  # between looks at whether mbedTLS wants to send a flight again: it does after 1, 2, 4, ... s
_SILENT_MS = const(8000)
_ONCE = const(16)  # message IDs of POST and PATCH that a session knows
_DAY_MS = const(86400000)  # a session unused for so long ends; less than the 6 days that ticks_diff can tell
_POST = const(2)
_PATCH = const(6)
_REOPEN_MS = const(1000)
_POLL = const(3)  # requests to ioctl
_FILENO = const(10)
_VERIFY_REQUIRED = const(-27264)  # mbedTLS: a ClientHello without a valid cookie was answered
_KEY_DIFFERS = const(-29056)
_NO_MEMORY = (-32512, -24960, -20864, -16)  # mbedTLS: for a session, a cipher, a digest, a large number
_DECRYPT_ERROR = b"\x15\xfe\xfd\0\0\0\0\0\0\xff\xff\0\2\2\x33"  # a fatal alert, in a record of epoch 0
_ERRORS = (OSError, MemoryError)
_REASONS = {
    errno.ENOMEM: "no memory",
    -30592: "the peer refused",
    -29056: "its key differs",
    -28160: "no common cipher",
    -27776: "no such identity",
}
_IS_CPYTHON = sys.implementation.name == "cpython"
_Stream = object if _IS_CPYTHON else io.IOBase  # CPython's would close itself


class Refused(coap.Error):
    """The peer refused the DTLS handshake: mostly because it does not know the identity, or has another key for it."""


def _octets(what, value, longest):
    """`value`, bytes or str, as bytes; raises TypeError or ValueError, which never quotes it."""
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes):
        raise TypeError(what + " is bytes or str")
    if not 0 < len(value) <= longest:
        raise ValueError("%s has 1 to %d bytes, not %d" % (what, longest, len(value)))
    return value


def _number(error):
    """The number of an error of `tls`; ENOMEM for each that means it."""
    number = error.args[0] if error.args else 0
    return errno.ENOMEM if isinstance(error, MemoryError) or number in _NO_MEMORY else number


def _remote(address, number):
    """Who is behind `address` in the session of that number: another for each session, with the same host and port."""
    if isinstance(address, tuple):
        return address + (number,)
    if len(address) == 16:  # the unix port's sockaddr, where IPv4 has 8 bytes to spare and IPv6 the flow
        return address[:8] + number.to_bytes(8, "little")
    return address[:4] + number.to_bytes(4, "little") + address[8:]


def _protected(data):
    """What follows the leading records of epoch 0 in a datagram: they were sent before there was a key."""
    at = 0
    while at + _HEADER_LEN < len(data) and not (data[at + 3] or data[at + 4]):
        at += _HEADER_LEN + (data[at + 11] << 8 | data[at + 12])
    return data[at:] if at + _HEADER_LEN < len(data) else b""


class _Session(_Stream):
    """A session with one peer: the socket that mbedTLS reads and writes, and what is known of the peer."""

    def __init__(self, transport, address, is_client, until_ms):
        self.transport = transport
        self.address = self.remote = address
        self.is_client = is_client
        self.until_ms = until_ms  # when the handshake must be done
        self.used_ms = until_ms
        # the socket of `tls`; the datagram that it is to read; the random of the ClientHello; the peer's identity
        self.tls = self.inbound = self.hello = self.identity = None
        self.asked_ms = None  # when the first confirmable message went since something came
        self.once = ()  # the IDs of the latest POST and PATCH: in another session they could be executed twice
        self.has_sent = False  # whether mbedTLS has written anything
        self.is_done = False  # whether our last flight has gone; that of a server shows that the client has the key
        self.is_open = False  # whether the handshake is done
        self.waiting = [] if is_client else None  # datagrams to send when the handshake is done

    def readinto(self, buffer):
        """The datagram that came, once; None: there is none. For mbedTLS, through which nothing may be raised."""
        data = self.inbound
        if data is None:
            return None
        self.inbound = None
        if len(data) > len(buffer):
            return None
        buffer[: len(data)] = data
        return len(data)

    def write(self, data):
        """Send a datagram of mbedTLS; an error is a lost packet."""
        if data[0] == _CHANGE_CIPHER_SPEC or data[0] == _HANDSHAKE and data[_HEADER_LEN] == _CLIENT_KEY_EXCHANGE:
            self.is_done = True
        self.has_sent = True
        udp = self.transport.udp
        try:
            if udp is not None:  # else an ESP32's cannot be opened
                udp.sendto(data, self.address)
        except _ERRORS:
            pass
        return len(data)

    def ioctl(self, request, argument):
        return 0


class Transport(_Stream):
    """A UDP socket with DTLS, for coap.Endpoint(sock=...).

    Transport(port=None, host="0.0.0.0", keys=None, psk_identity=None, psk_key=None, *, sessions=4, handshakes=2,
              idle_ms=60000, handshake_ms=15000, sock=None)

      port, host    as of an Endpoint; coaps is usually on 5684
      keys          server: a dict of identity: key, or an object whose get(identity) returns the key or None;
                    identities and keys are bytes of the peer's, or str
      psk_identity  client: the identity, 1 to 128 bytes or str
      psk_key       client: its key, 1 to 48 bytes or str
      sessions      4      sessions at a time, and handshakes of ours
      handshakes    2      handshakes of clients under way
      idle_ms       60000  how long a session must be unused to give way to another
      handshake_ms  15000  how long a handshake may take
      sock                 a bound socket that never blocks, in the place of one on `port`

    Raises ValueError where the firmware has no DTLS with pre-shared keys, TypeError or ValueError for arguments that
    cannot be, OSError if the port is taken.
    """

    rank = 0  # for Engine.attach
    understood = 0
    is_secure = True

    def __init__(
        self,
        port=None,
        host="0.0.0.0",
        keys=None,
        psk_identity=None,
        psk_key=None,
        *,
        sessions=4,
        handshakes=2,
        idle_ms=60000,
        handshake_ms=15000,
        sock=None
    ):
        coap._check("port", port or 0, 0, 65535)
        coap._check("sessions", sessions, 1, 256)
        coap._check("handshakes", handshakes, 1, 256)
        coap._check("idle_ms", idle_ms, 0, _DAY_MS)
        coap._check("handshake_ms", handshake_ms, 1000, 600000)
        if keys is None and psk_key is None or (psk_identity is None) != (psk_key is None):
            raise ValueError("give keys={identity: key} to serve, psk_identity and psk_key to ask, or all three")
        self._limits = sessions, handshakes, idle_ms, handshake_ms
        self._server = self._client = None
        self._keys = keys
        if keys is not None:
            if isinstance(keys, dict):
                if not keys:
                    raise ValueError("keys is empty: give the identity and the key of each client")
                self._keys = {_octets("an identity", i, 128): _octets("a key", keys[i], _KEY_LEN) for i in keys}
            elif not hasattr(keys, "get"):
                raise TypeError("keys is a dict of identity: key, or has get(identity)")
            self._server = self._context("PROTOCOL_DTLS_SERVER")
            self._server.server_psk_keys = self
        if psk_key is not None:
            self._client = self._context("PROTOCOL_DTLS_CLIENT")
            self._client.psk_identity = _octets("psk_identity", psk_identity, 128)
            self._client.psk_key = _octets("psk_key", psk_key, _KEY_LEN)
            self._client.verify_mode = tls.CERT_NONE  # there is no certificate: the key proves who it is
        self._sessions = []
        self._messages = []  # (datagram, remote) that were in one datagram
        self._current = None  # the session that mbedTLS is working for
        self._count = 0  # sessions so far
        self._told = []  # numbers of the errors of ClientHellos that were logged
        self._endpoint = None
        self._opened_ms = None
        self._poller = None if _IS_CPYTHON else select.poll()
        self._at = None  # (what the socket is bound to,); None: it is not ours to open again
        self.udp = sock
        self.family = getattr(sock, "family", None)  # for Endpoint.resolve
        if sock is None:
            self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
            # unbound without a port and for "0.0.0.0" or "::", that is all, as an Endpoint
            self._at = (socket.getaddrinfo(host, port or 0)[0][-1] if port or host.strip("0.:") else None,)
            self._open()
        elif self._poller:
            self._poller.register(sock, select.POLLIN)

    def _context(self, protocol):
        """An SSLContext for pre-shared keys and AES-128 with GCM or CCM."""
        context = tls.SSLContext(getattr(tls, protocol)) if hasattr(tls, protocol) else None
        if not hasattr(context, "psk_key"):
            raise ValueError("coaps needs MicroPython 1.29 or newer: there is no DTLS with pre-shared keys here")
        names = context.get_ciphers()
        context.set_ciphers([name for name in names if name.startswith("TLS-PSK-WITH-AES-128-") and "CBC" not in name])
        return context

    def _open(self):
        """Open and bind the socket."""
        sock = socket.socket(self.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if self._at[0]:
                sock.bind(self._at[0])
            if self._poller:
                self._poller.register(sock, select.POLLIN)
        except _ERRORS:
            sock.close()
            raise
        self.udp = sock

    def _reopen(self):
        """Replace a socket that an empty datagram made deaf, at most once a second; see coap.Endpoint.

        udp is None until one can be opened; next_ms says when to try again.
        """
        now_ms = coap.ticks_ms()
        if self._opened_ms is not None and 0 <= ticks_diff(now_ms, self._opened_ms) < _REOPEN_MS:
            return
        self._opened_ms = now_ms
        if self.udp is not None:
            self._poller.unregister(self.udp)
            self.udp.close()
            self.udp = None
        try:
            self._open()
        except _ERRORS as error:
            self._endpoint.wake(now_ms)
            self._log("socket not opened", error)

    def attach(self, endpoint):
        """Belong to `endpoint`, which calls this itself. Raises ValueError if its datagrams are too long for DTLS."""
        if endpoint.datagram_len > _MOST_LEN:
            raise ValueError("a datagram of coaps has %d bytes at most; see datagram_len" % _MOST_LEN)
        self._endpoint = endpoint
        endpoint.is_verified = lambda remote: True  # the cookie has proved each address; for coap_block
        endpoint.attach(self)

    def identity(self, remote):
        """The identity of the client that `remote` is, as bytes; None if it has no session, or is a server."""
        for session in self._sessions:
            if session.remote == remote:
                return session.identity
        return None

    def get(self, identity):
        """For `tls`: the key of an identity that a client says it has, or None."""
        self._current.identity = identity
        try:
            key = self._keys.get(identity)
        except Exception as error:
            self._log("keys.get raised", error)
            return None
        try:
            return None if key is None else _octets("a key", key, _KEY_LEN)
        except (TypeError, ValueError) as error:
            self._log("keys.get returned no key", error)
            return None

    def _log(self, text, value):
        log = self._endpoint.log
        if log:
            log(text, value)

    # -- to the network

    def sendto(self, data, remote):
        """Send a datagram in the session with `remote`; a request begins one where there is none.

        Raises OSError if there is none, or no room for one.
        """
        try:
            self._send_to(data, remote)
        except MemoryError:
            raise OSError(errno.ENOMEM)
        return len(data)

    def _send_to(self, data, remote):
        now_ms = coap.ticks_ms()
        session = None
        for session in self._sessions:
            if session.remote == remote:
                break
        else:
            session = None
        if session is not None and session.is_client:
            session.used_ms = now_ms
            if session.is_open and not data[0] & 0x30:  # confirmable
                mid = bytes(data[2:4])
                is_known = mid in session.once
                if session.asked_ms is None:
                    session.asked_ms = now_ms
                elif ticks_diff(now_ms, session.asked_ms) > _SILENT_MS and not is_known:
                    self._end(session)
                    session = None
                if session is not None and not is_known and data[1] in (_POST, _PATCH):
                    session.once = (mid,) + session.once[: _ONCE - 1]
        if session is None:
            if data[0] & 0x20 or data[1] > 31 or self._client is None or coap.is_multicast(remote):
                raise OSError(errno.ENOTCONN)  # only a request, or a ping, begins a session
            self._connect(data, remote, now_ms)
        elif session.is_open:
            self._send(session, data)
        elif len(session.waiting) < _WAITING and data not in session.waiting:
            session.waiting.append(bytes(data))

    def _send(self, session, data):
        try:
            session.tls.send(data)
        except OSError as error:
            self._end(session, error)
            raise

    def _connect(self, data, remote, now_ms):
        """Begin a handshake with a server; `data` waits for it."""
        session = _Session(self, remote, True, ticks_add(now_ms, self._limits[3]))  # handshake_ms
        session.used_ms = now_ms
        if not self._has_room(session, now_ms):
            raise OSError(errno.ENOBUFS)
        session.waiting.append(bytes(data))
        try:
            session.tls = self._client.wrap_socket(session, do_handshake_on_connect=False)
            session.tls.send(session.waiting[0])
        except Exception as error:  # also those of a port that does not take the address
            self._drop(session, error)
            raise
        self._sessions.append(session)
        self._endpoint.wake(ticks_add(now_ms, _STEP_MS))

    # -- from the network

    def recvfrom(self, n):
        """The next message as (datagram, remote), or None if there is none in the next datagram; never blocks."""
        if not self._messages:
            try:
                data, address = self.udp.recvfrom(max(n + _OVERHEAD, _MTU))
            except (OSError, AttributeError):
                return None
            if data:
                self._take(data, address)
            elif self._at and sys.platform == "esp32":
                self._reopen()
            if not self._messages:
                return None
        message = self._messages.pop(0)
        if self._messages:
            self._endpoint.wake(coap.ticks_ms())
        return message

    def _take(self, data, address):
        try:
            self._receive(data, address)
        except MemoryError:  # nothing has come of it in mbedTLS: it is as if it had been lost
            self._log("no memory for a datagram", address)

    def _receive(self, data, address):
        """Give a datagram to the session that it belongs to, or begin one."""
        if len(data) <= _HEADER_LEN:
            return
        is_plain = not (data[3] or data[4])  # epoch 0: anybody may have sent it
        if is_plain and data[0] == _HANDSHAKE and data[_HEADER_LEN] == _CLIENT_HELLO:
            if self._server and len(data) >= _RANDOM + 32:
                self._greet(data, address)
            return
        for session in self._sessions:
            if session.address == address:
                part = data
                if session.is_open:
                    if is_plain:
                        part = _protected(data)
                elif data[0] == _APPLICATION_DATA:
                    continue
                elif is_plain and data[0] == _HANDSHAKE:
                    if (data[_HEADER_LEN] == _CLIENT_KEY_EXCHANGE) == session.is_client:
                        continue  # it is for a handshake in which we have the other role
                if part and self._feed(session, part):
                    return

    def _greet(self, data, address):
        """Answer a ClientHello with a cookie and forget it; if it has that cookie, keep the session that begins."""
        hello = data[_RANDOM : _RANDOM + 32]
        for session in self._sessions:
            if session.address == address and session.hello == hello:
                if not session.is_open:
                    self._feed(session, data)  # what we answered was lost
                return
        now_ms = coap.ticks_ms()
        session = self._current = _Session(self, address, False, ticks_add(now_ms, self._limits[3]))
        session.hello = hello
        session.inbound = data
        try:
            whose = address if isinstance(address, bytes) else str(address).encode()
            session.tls = self._server.wrap_socket(
                session, server_side=True, do_handshake_on_connect=False, client_id=whose
            )
            session.tls.recv(len(data))
        except _ERRORS as error:
            self._drop(session, error)
            number = _number(error)
            if number != _VERIFY_REQUIRED and number not in self._told:
                self._told.append(number)  # once: anybody can cause it
                self._log_failure(session, error)
            return
        if not session.has_sent:  # mbedTLS took it for noise
            session.tls.close()
            return
        self._displace(session)
        self._count += 1
        session.remote = _remote(address, self._count)
        self._sessions.append(session)
        self._endpoint.wake(ticks_add(now_ms, _STEP_MS))

    def _displace(self, newcomer):
        """End the handshake that gives way to another, if one must."""
        host = coap._host(newcomer.address)
        victim = None
        count = 0
        for session in self._sessions:
            if not session.is_open and not session.is_client:
                count += 1
                if session.address == newcomer.address:
                    victim = session
                    count = self._limits[1]  # handshakes: as if all were taken
                    break
                if victim is None or coap._host(victim.address) != host == coap._host(session.address):
                    victim = session
        if count >= self._limits[1]:
            self._end(victim)

    def _feed(self, session, data):
        """Have mbedTLS work on a datagram, or without one on what is due; returns whether anything came of it."""
        self._current = session
        session.inbound = data
        size = len(data) if data else _OVERHEAD
        result = False
        try:
            got = session.tls.recv(size)
            if not session.is_open:
                result = self._advance(session)
            while got is not None and session.is_open:
                result = True
                if not got:  # close_notify
                    self._end(session)
                    break
                session.used_ms = coap.ticks_ms()
                session.asked_ms = None
                self._messages.append((got, session.remote))
                if not data or _HEADER_LEN + (data[11] << 8 | data[12]) == size:  # there is no other record
                    break
                got = session.tls.recv(size)
        except OSError as error:
            self._end(session, error)
            return True
        session.inbound = None
        return result

    def _advance(self, session):
        """Look whether a handshake is done; returns whether it is."""
        if session.is_client:
            if session.tls.send(session.waiting[0]) is None:
                return False
            session.is_open = True
            for data in session.waiting[1:]:
                session.tls.send(data)
            session.waiting = None
            return True
        if not session.is_done:
            return False
        for other in self._sessions:
            if other.address == session.address and other is not session and not other.is_client:
                self._end(other)
                break
        now_ms = coap.ticks_ms()
        if self._has_room(session, now_ms):
            session.is_open = True
            session.used_ms = now_ms
        else:
            self._log("no room for a session", session.address)
            self._end(session)
        return True

    # -- sessions

    def _has_room(self, newcomer, now_ms):
        """Whether there is room for a session more; another gives way, if one must and may."""
        # _limits[0]: sessions
        taken = sum([session.is_open or session.is_client for session in self._sessions])
        return taken < self._limits[0] or self._give_way(newcomer.identity, now_ms)

    def _give_way(self, identity, now_ms):
        """End the session unused for longest, of those that may give way; returns whether there is one.

        identity: of the newcomer; None: it is ours; b"": it is not known yet
        """
        opened = [session for session in self._sessions if session.is_open]  # the others have not proved who they are
        names = [session.identity for session in opened]
        victim = None
        longest_ms = -1
        for session in opened:
            idle_ms = ticks_diff(now_ms, session.used_ms)
            name = session.identity
            has_several = name is not None and names.count(name) > 1
            if idle_ms > longest_ms and (idle_ms >= self._limits[2] or name == identity or has_several):
                victim = session
                longest_ms = idle_ms
        if victim is not None:
            self._end(victim)
        return victim is not None

    def _drop(self, session, error):
        """Free a session that is in no list; if there was no memory for it, another gives way for the next attempt."""
        if session.tls:
            session.tls.close()
        if _number(error) == errno.ENOMEM:
            self._give_way(None if session.is_client else b"", coap.ticks_ms())

    def _end(self, session, error=None):
        """Forget a session; `error` is why its handshake failed, if it did."""
        if session not in self._sessions:  # on_end, which is called below, may have closed the endpoint
            return
        self._sessions.remove(session)
        if error is None or session.is_open:
            session.tls.close()
            return
        self._drop(session, error)
        self._log_failure(session, error)
        number = _number(error)
        if not session.is_client and number == _KEY_DIFFERS:
            session.write(_DECRYPT_ERROR)  # MicroPython's mbedTLS is silent here, and the client would go on waiting
        if session.is_client and number != errno.ENOMEM:
            endpoint = self._endpoint
            for record in endpoint._open + endpoint._queue:
                if record.remote == session.remote:
                    endpoint.end(record, Refused)

    def _log_failure(self, session, error):
        reason = _REASONS.get(_number(error)) or str(error)
        self._log("handshake failed, %s" % reason, session.address)

    def tick(self, now_ms):
        """Send again what a handshake waits for, end what lasts too long; see Engine.attach."""
        if self.udp is None and self._at:
            self._reopen()
        for session in list(self._sessions):
            if session not in self._sessions:  # another has ended it
                continue
            if session.is_open:
                if ticks_diff(now_ms, session.used_ms) >= _DAY_MS:
                    self._end(session)
            elif ticks_diff(now_ms, session.until_ms) >= 0:
                if session.is_client:
                    text = "handshake not finished, its key may differ" if session.is_done else "handshake not answered"
                    self._log(text, session.address)
                self._end(session)
            else:
                self._step(session)
        if self._messages and self._endpoint.received is None:  # else the application takes that first
            try:
                self._endpoint._receive_from(self)
            except MemoryError:  # lost, as the endpoint does with what it reads
                pass

    def _step(self, session):
        try:
            self._feed(session, None)
        except MemoryError:  # tried again at the next tick
            pass

    def next_ms(self, now_ms):
        """Milliseconds until the next tick, or None; see Engine.attach."""
        if self._messages:
            return 0
        soonest_ms = _REOPEN_MS if self.udp is None and self._at else None
        for session in self._sessions:
            left_ms = _STEP_MS
            if session.is_open:
                left_ms = max(0, _DAY_MS - ticks_diff(now_ms, session.used_ms))
            if soonest_ms is None or left_ms < soonest_ms:
                soonest_ms = left_ms
        return soonest_ms

    def ioctl(self, request, argument):
        """For select.poll: whether there is something to receive; and the descriptor, where the system waits for it."""
        if request == _POLL:
            if not self._messages:
                for _ in self._poller.ipoll(0):
                    return argument & select.POLLIN
                return 0
            return argument & select.POLLIN
        if request == _FILENO and hasattr(self.udp, "fileno"):
            return self.udp.fileno()
        return -errno.EINVAL

    def close(self):
        """Close the socket and forget all sessions."""
        self._at = None  # it is not opened again
        while self._sessions:
            self._end(self._sessions[0])
        if self.udp is not None:
            self.udp.close()
            self.udp = None
