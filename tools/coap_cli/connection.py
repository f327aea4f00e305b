"""The endpoint behind a command: names looked up, errors of the network told at once, datagrams traced."""

import contextlib
import functools
import os
import socket
import struct

import coap
import coap_block

from .exits import NAME_UNKNOWN, WRONG_USE, Failure, Unreachable
from .trace import Trace, host_text

GROUPS = {False: "224.0.1.187", True: "[ff02::fd]"}  # All CoAP Nodes (RFC 7252 section 12.8); whether of IPv6
BODY_LEN = 1 << 26  # of a response that is assembled in memory
ANSWERS = 4096  # taken from a group
COAPS_CLIENT = "coap-client-openssl -u IDENTITY -k KEY"  # apt-get install libcoap3-bin
# linux/in.h, linux/in6.h: have ICMP errors told to a socket that is not connected; Python knows no names for them
RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}


class Transport:
    """A UDP socket for a coap.Endpoint that raises Unreachable for what the endpoint would try again for minutes.

    Once something was received, errors are lost packets to it, too: a host that restarts is to be found again.
    trace: a Trace, or None
    """

    def __init__(self, family, trace=None):
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.trace = trace
        self.peer = None  # to which the latest datagram went
        self.has_received = False
        if hasattr(socket, "MSG_ERRQUEUE"):
            self.socket.setsockopt(*RECVERR[family], 1)

    def fileno(self):
        """For select."""
        return self.socket.fileno()

    def close(self):
        """Close the socket."""
        self.socket.close()

    def send_through(self, interface):
        """Send what goes to groups through a network interface, by name; raises Failure."""
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            names = ", ".join([name for _, name in socket.if_nameindex()])
            raise Failure(WRONG_USE, f"no interface is called {interface}; there are {names}") from None
        if self.socket.family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"", b"", index))

    def sendto(self, data, peer):
        """Send a datagram; raises Unreachable."""
        data = bytes(data)
        self.peer = peer
        if self.trace:
            self.trace.note_sent(data, peer)
        try:
            self.socket.sendto(data, peer)
        except OSError as error:
            self.fail(error)

    def recvfrom(self, size):
        """(datagram, address), or None if there is nothing; raises Unreachable."""
        try:
            data, peer = self.socket.recvfrom(size)
        except BlockingIOError:
            self.drop_errors()
            return None
        except OSError as error:
            self.drop_errors()
            self.fail(error)
            return None
        self.has_received = True
        if self.trace and data:
            self.trace.note_received(data, peer)
        return data, peer

    def drop_errors(self):
        """Empty the queue of ICMP errors: what is in there makes select return at once."""
        with contextlib.suppress(OSError, AttributeError):
            while True:
                self.socket.recvmsg(512, 512, socket.MSG_ERRQUEUE)

    def fail(self, error):
        """Raise Unreachable, unless the host was there before and may come back."""
        if self.trace:
            self.trace.note(os.strerror(error.errno))
        if not self.has_received:
            raise Unreachable(f"{host_text(self.peer)}: {os.strerror(error.errno)}")


class Endpoint(coap.Endpoint):
    """An endpoint that takes host names by `look_up`, which knows zones and one sentence for what fails.

    dropped, numbers: see security.py, None without --oscore
    """

    dropped = numbers = None

    def resolve(self, remote):
        """The address of "host[:port]"; raises Failure."""
        if not isinstance(remote, str):
            return remote
        return look_up(remote, self._family == socket.AF_INET6)[1]


@functools.lru_cache(maxsize=None)  # so that a name with several addresses stays with one
def look_up(authority, is_ipv6):
    """(family, address) of "host:port"; of a name that has both, IPv4 unless `is_ipv6`. Raises Failure."""
    host, _, port = authority.rpartition(":")
    host = host.strip("[]").replace("%25", "%")  # of a zone, as in fe80::1%eth0 (RFC 6874)
    try:
        entries = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Failure(NAME_UNKNOWN, f"the host {host} is not known: {reason}") from None
    wanted = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    fitting = [entry for entry in entries if entry[0] == wanted]
    if is_ipv6 and not fitting:
        raise Failure(NAME_UNKNOWN, f"the host {host} has no IPv6 address")
    family, _, _, _, address = (fitting or entries)[0]
    if family == socket.AF_INET6 and address[0].lower().startswith("fe80:") and not address[3]:
        raise Failure(WRONG_USE, f"{host} is on every link; say on which, as in [{host}%25eth0]")
    return family, address


def base_uri(response):
    """Scheme and authority of the URI at which a response's host is: of a link-local one with zone (RFC 6874)."""
    peer = response.remote
    if len(peer) < 4 or not peer[3]:
        return "/".join(response.get_request_uri().split("/")[:3])
    port = f":{peer[1]}" if peer[1] != 5683 else ""
    return f"coap://[{peer[0].partition('%')[0]}%25{socket.if_indextoname(peer[3])}]{port}"


def whole_uri(text):
    """The URI that the user wrote, with coap:// if it has no scheme; raises Failure for what cannot be asked."""
    uri = text if "://" in text else "coap://" + text
    scheme = uri.partition("://")[0].lower()
    if text.lower().startswith(("coap:", "coaps:")) and "://" not in text and not text.partition(":")[2][:1].isdigit():
        scheme = None  # "coap:/host", and no host of that name with a port
    if scheme == "coaps":
        raise Failure(WRONG_USE, f"coaps needs DTLS, which Python does not have; libcoap has it: {COAPS_CLIENT} {uri}")
    if scheme != "coap":
        raise Failure(WRONG_USE, f"write coap://host[:port]/path?query, not {text}")
    try:
        coap.Message(coap.GET, uri=uri)
    except ValueError as error:
        raise Failure(WRONG_USE, str(error)) from None
    return uri


def authority_of(uri):
    """ "host:port" of a URI."""
    return coap.Message(coap.GET, uri=uri).remote


@contextlib.contextmanager
def connected(uri, is_verbose=False, is_ipv6=False, interface=None, oscore_path=None):
    """An Endpoint for requests to the host of `uri`, with blocks, closed at the end; raises Failure, OSError.

    oscore_path: a file of contexts, with one of which all requests are protected
    """
    family, _ = look_up(authority_of(uri), is_ipv6)
    transport = Transport(family, Trace() if is_verbose else None)
    with Endpoint(sock=transport, family=family, group_responses=ANSWERS) as endpoint:
        if interface:
            transport.send_through(interface)
        endpoint.blocks = coap_block.attach(endpoint, body_len=BODY_LEN)
        if oscore_path is not None:
            try:
                from .security import protect
            except ImportError as error:
                raise Failure(WRONG_USE, f"{error.name} is missing, which --oscore needs: make venv") from None
            protect(endpoint, oscore_path, authority_of(uri))
        yield endpoint
