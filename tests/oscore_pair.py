"""A client and a server that share an OSCORE context, on the virtual network, for the tests of OSCORE."""

import coap
import coap_oscore
import coap_oscore_keys
import fake
from check import eq

SECRET = bytes(range(1, 17))
CLIENT = "client"
SERVER = "server"
REPLAYED = b"Replay detected"
NOT_FOUND = b"Security context not found"
FORGED = b"Decryption failed"
UNDECODABLE = b"Failed to decode COSE"


class Memory:
    """A store that forgets nothing, and counts what is saved."""

    def __init__(self, number=0):
        self.number = number
        self.saves = 0
        self.fails = False

    def load(self):
        return self.number

    def save(self, number):
        if self.fails:
            raise OSError("flash full")
        self.saves += 1
        self.number = number


class Pair:
    """A client and a server that share a context, on a virtual network; `wire` is what was delivered."""

    def __init__(self, client_number=0, server_number=0, **conditions):
        self.network = fake.Network(**conditions)
        self.network.trace = self.wire = []
        self.server = self.network.add(SERVER)
        self.client = self.network.add(CLIENT, tuning=coap.Tuning(nstart=4))
        self.calls = []
        self.server.resource("temp", ct=coap.TEXT)(self.handle)
        self.stores = Memory(server_number), Memory(client_number)
        theirs = coap_oscore_keys.context(SECRET, b"s", b"c")
        ours = coap_oscore_keys.context(SECRET, b"c", b"s", server=SERVER)
        self.at_server = coap_oscore.attach(self.server, [theirs], self.stores[0])
        self.at_client = coap_oscore.attach(self.client, [ours], self.stores[1])

    def handle(self, request, response):
        self.calls.append(request.payload)
        return b"22.5 C"

    def ask(self, code=coap.GET, path=("temp",), **fields):
        """The record of a request, after it has ended."""
        record = self.client.send(coap.Message(code, uri_path=path, **fields), SERVER)
        self.network.run(until=record.is_done)
        return record

    def sent(self, source):
        """The messages that `source` sent and that arrived."""
        return [coap.Message.decode(item[2]) for item in self.wire if item[0] == source]

    def receive(self, datagram, mid=None, peer=CLIENT):
        """The reply of the server to a datagram, its message ID changed."""
        if mid is not None:
            datagram = datagram[:2] + bytes((mid >> 8, mid & 255)) + datagram[4:]
        return fake.ask(self.server, datagram, self.network.now_ms, peer)

    def protected(self, code=coap.GET, path=("temp",), **fields):
        """The datagram of a protected request that does not arrive by itself."""
        record = self.client.send(coap.Message(code, uri_path=path, mtype=coap.NON, **fields), SERVER)
        datagrams = fake.due(self.client, self.network.now_ms)
        record.cancel()
        return datagrams[-1]


def outer_of(message):
    """(code, numbers of the options) of a message on the wire."""
    return message.code, [number for number, _ in message.options]


def refused_with(reply):
    """(code, payload) of a reply that must be unprotected and not cached."""
    eq([number for number, _ in reply.options], [14])
    eq(reply.opt.max_age, 0)
    return reply.code, reply.payload


def with_option(datagram, value):
    """A protected request with another OSCORE option."""
    message = coap.Message.decode(datagram)
    message.delete_option(9)
    if len(value) > 255:
        coap._add(message.packet, 9, value)
        return message.encode()
    return message.add_option(9, value).encode()
