"""Prints how many bytes of heap each thing allocates, as JSON: memory.py, MicroPython only, also WebAssembly.

Counted while nothing is collected, over an endpoint whose transport is played by this file; what that transport
allocates itself is taken off. Where there is a socket, `recvfrom` is what one datagram of 21 bytes takes by itself,
which no library can avoid.
"""

import gc
import json

import coap

try:
    import socket
except ImportError:
    socket = None

PEER = ("192.0.2.1", 5683)
ROUNDS = 20
COUNTS = (1, 10, 100, 1000)


def zeros(n):
    """Randomness that allocates what real randomness does."""
    return b"\0" * n


class Endpoint(coap.Endpoint):
    """Knows one address, so that nothing has to be looked up."""

    def resolve(self, remote):
        return PEER


class Requests:
    """A transport on which `datagrams` arrive, made beforehand; what is sent is dropped."""

    def __init__(self, datagrams):
        self.arriving = [(datagram, PEER) for datagram in datagrams]
        self.at = 0

    def recvfrom(self, n):
        if self.at == len(self.arriving):
            return None
        self.at += 1
        return self.arriving[self.at - 1]

    def sendto(self, data, peer):
        return len(data)


class Responder:
    """A transport that answers each request with a piggybacked 2.05."""

    def __init__(self):
        self.response = None

    def sendto(self, data, peer):
        token_len = data[0] & 15
        self.response = b"%c\x45%s\xc0\xff22.5C" % (0x60 | token_len, bytes(data[2 : 4 + token_len])), peer
        return len(data)

    def recvfrom(self, n):
        response = self.response
        self.response = None
        return response


def allocated(function, *args):
    """Bytes that function(*args) allocates."""
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    function(*args)
    after = gc.mem_alloc()
    gc.enable()
    return after - before


def times(n, function, *args):
    """Calls without allocating; takes up to two arguments."""
    count = len(args)
    a, b = args + (None,) * (2 - count)
    for _ in range(n):
        if count == 0:
            function()
        elif count == 1:
            function(a)
        else:
            function(a, b)


def each(function, *args):
    """Bytes per call, the first one not counted: it fills caches."""
    function(*args)
    overhead = allocated(times, 0, function, *args)
    return (allocated(times, ROUNDS, function, *args) - overhead) / ROUNDS


def request(mid, path=("temp",)):
    return coap.Message(coap.GET, mtype=coap.CON, mid=mid, token=b"tk", uri_path=path).encode()


def server(endpoint):
    """Registers /temp, a constant, and /text, formatted in each call."""
    temp = endpoint.resource("temp", ct=coap.TEXT, obs=True)
    text = endpoint.resource("text", ct=coap.TEXT)

    @temp.get
    def read(request, response):
        response.payload = b"22.5C"

    @text.get
    def read_text(request, response):
        return "%.1f C" % 22.5

    return endpoint


def per_server_exchange(path=("temp",)):
    """Bytes per GET, from recvfrom to sendto without both, for a handler that answers with a constant."""
    endpoint = server(Endpoint(sock=Requests([request(mid, path) for mid in range(ROUNDS + 1)]), random=zeros))
    return each(endpoint.process, 0)


def per_server_exchange_beside(resources=0, open_exchanges=0, observers=0):
    """The same beside that many other resources, exchanges of the server's own that are open, and observers."""
    registrations = [observation(30000 + number) for number in range(observers)]
    asked = [request(mid) for mid in range(ROUNDS + 1)]
    room = {"transmissions": open_exchanges + 1, "queued": open_exchanges + 1}
    endpoint = Endpoint(sock=Requests(registrations + asked), random=zeros, **room)
    if observers:
        import coap_observe

        coap_observe.attach(endpoint, observers=observers, per_host=observers)
    for number in range(resources):
        endpoint.resource("other/%d" % number)
        gc.collect()
    for number in range(open_exchanges):
        coap.Engine.send(endpoint, coap.Message(coap.GET), ("192.0.2.%d" % number, 5683))
    server(endpoint)
    while endpoint.socket.at < observers:
        endpoint.process(0)
    if observers and len(endpoint.observing.observers) != observers:
        raise ValueError("not all observers were registered")
    return each(endpoint.process, 0)


def observation(mid):
    """A GET of /temp that registers an observer."""
    message = coap.Message(coap.GET, mtype=coap.CON, mid=mid, token=mid.to_bytes(2, "big"), uri_path=("temp",))
    message.opt.observe = 0
    return message.encode()


def per_duplicate():
    endpoint = server(Endpoint(sock=Requests([request(7)] * (ROUNDS + 1)), random=zeros))
    return each(endpoint.process, 0)


def per_tick():
    endpoint = server(Endpoint(sock=Requests([request(7)]), random=zeros))
    endpoint.process(0)
    return each(endpoint.process, 0)


def per_retransmission():
    """Bytes of what the clock makes due, the first transmission not counted."""
    engine = coap.Engine(zeros)
    message = coap.Message(coap.GET, uri_path=("temp",), transport_tuning=coap.Tuning(max_retransmit=4))
    engine.send(message, PEER)

    def transmit(now_ms):
        engine.next_ms(now_ms)
        if engine.due(now_ms) is None:
            raise ValueError("no retransmission was due")

    transmit(0)
    transmit(2000)
    return sum([allocated(transmit, now_ms) for now_ms in (6000, 14000, 30000)]) / 3


def per_client_exchange(ask):
    """Bytes per request, without those of the transport."""
    transport = Responder()
    endpoint = Endpoint(sock=transport, random=zeros)
    packed = request(7)

    def transport_alone():
        transport.sendto(packed, PEER)
        transport.recvfrom(1153)

    return each(ask, endpoint) - each(transport_alone)


def prepared():
    """A function that sends one kept message and waits."""
    message = coap.Message(coap.GET, uri_path=("temp",))

    def ask(endpoint):
        record = endpoint.send(message, PEER)
        while not record.is_done():
            endpoint.process(0)
        if record.response.message.code != coap.CONTENT:
            raise ValueError("not answered 2.05")

    return ask


def from_uri(endpoint):
    if endpoint.get("coap://192.0.2.1/temp").code != coap.CONTENT:
        raise ValueError("not answered 2.05")


def per_recvfrom():
    """Bytes that recvfrom takes for a datagram of 21 bytes."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    address = socket.getaddrinfo("127.0.0.1", 45683)[0][-1]
    receiver.bind(address)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram = b"d" * 21
    for _ in range(ROUNDS + 1):
        sender.sendto(datagram, address)
    return each(receiver.recvfrom, 1153)


def per_resource(count):
    """Bytes of heap kept by each of `count` resources with a handler."""
    endpoint = Endpoint(sock=Requests([]), random=zeros)
    gc.collect()
    before = gc.mem_alloc()
    for number in range(count):
        endpoint.resource("sensors/%d" % number, ct=coap.TEXT).get(len)
    gc.collect()
    return (gc.mem_alloc() - before) / count


datagram = request(7, ("sensors", "temp"))
message = coap.Message.decode(datagram)
figures = {
    "index": each(coap.Message().index, datagram),
    "write": each(coap.Message(coap.GET, mtype=coap.CON, mid=7, uri_path=("sensors", "temp")).write, bytearray(1152)),
    "decode": each(coap.Message.decode, datagram),
    "server": per_server_exchange(),
    "handler_text": per_server_exchange(("text",)) - per_server_exchange(),
    "duplicate": per_duplicate(),
    "tick": per_tick(),
    "retransmission": per_retransmission(),
    "client_prepared": per_client_exchange(prepared()),
    "client_uri": per_client_exchange(from_uri),
    "server_1000_resources": per_server_exchange_beside(resources=1000),
    "server_16_open": per_server_exchange_beside(open_exchanges=16),
    "server_64_observers": per_server_exchange_beside(observers=64),
}
if socket:
    figures["recvfrom"] = per_recvfrom()
    for count in COUNTS:
        figures["resource_of_%d" % count] = per_resource(count)
print(json.dumps(figures))
