"""OSCORE (RFC 8613) below Echo, block-wise transfers and Observe: all of it is inside."""

import coap
import coap_block
import coap_echo
import coap_observe
import coap_oscore
import coap_oscore_keys
import fake
from check import eq
from oscore_pair import SECRET, Memory

CLIENT = "client"
SERVER = "server"
BODY = b"0123456789abcdef" * 200


class Pair:
    """A client and a server with all extensions, attached in any order; `wire` is what was delivered."""

    def __init__(self, server_number=0, server_echo=False, datagram_len=1152, **conditions):
        self.network = fake.Network(**conditions)
        self.network.trace = self.wire = []
        self.server = self.network.add(SERVER, datagram_len=datagram_len)
        self.client = self.network.add(CLIENT, tuning=coap.Tuning(nstart=2))
        coap_observe.attach(self.client)
        coap_block.attach(self.client)
        ours = coap_oscore_keys.context(SECRET, b"c", b"s", server=SERVER)
        coap_oscore.attach(self.client, [ours], Memory())
        coap_echo.attach(self.client)
        theirs = coap_oscore_keys.context(SECRET, b"s", b"c")
        self.at_server = coap_oscore.attach(self.server, [theirs], Memory(server_number))
        coap_block.attach(self.server, unverified_len=136 if server_echo else None)
        coap_observe.attach(self.server, interval_ms=100)
        if server_echo:
            coap_echo.attach(self.server)
        self.body = BODY
        self.stored = []
        resource = self.server.resource("secret", ct=coap.OCTETS, obs=True, secure=True)
        resource.get(lambda request, response: self.body)
        resource.put(lambda request, response: self.stored.append(request.payload))

    def ask(self, code=coap.GET, **fields):
        """The record of a request, after it has ended."""
        record = self.client.send(coap.Message(code, uri_path=("secret",), **fields), SERVER)
        self.network.run(until=record.is_done)
        return record

    def must_be_protected(self):
        """Whatever was on the wire is protected, or empty."""
        for _, _, datagram in self.wire:
            message = coap.Message.decode(datagram)
            numbers = [number for number, _ in message.options]
            eq(numbers in ([], [9], [6, 9]), True, repr(message))
            eq(message.code and numbers == [], message.code and False, repr(message))
            eq(b"secret" in datagram or b"0123456789" in datagram, False)


def test_large_response_when_protected_then_in_inner_blocks():
    """RFC 8613 section 4.1.3.4.1."""
    pair = Pair()
    record = pair.ask()
    eq((record.error, record.response.message.payload), (None, BODY))
    eq(len(pair.wire), 8)
    pair.must_be_protected()


def test_response_when_protection_makes_it_too_large_then_in_inner_blocks():
    """RFC 8613 section 4.1.3.4.1: whole or in blocks, each body is served, also with short datagrams."""
    for datagram_len, lens in ((128, range(16, 130, 4)), (1152, range(1000, 1156, 4))):
        for body_len in lens:
            pair = Pair(datagram_len=datagram_len)
            pair.body = b"y" * body_len
            record = pair.ask()
            eq((record.error, record.response.message.code), (None, coap.CONTENT), body_len)
            eq(record.response.message.payload, pair.body)
            eq(max([len(datagram) for _, _, datagram in pair.wire]) <= datagram_len, True, body_len)


def test_large_request_when_protected_then_in_inner_blocks():
    """RFC 8613 section 4.1.3.4.1."""
    pair = Pair()
    record = pair.ask(coap.PUT, payload=BODY)
    eq((record.error, record.response.message.code, pair.stored), (None, coap.CHANGED, [BODY]))
    pair.must_be_protected()


def test_large_transfers_when_datagrams_are_lost_and_doubled_then_each_is_done_once():
    """RFC 8613 section 7.4 and RFC 7252 section 4.5."""
    for seed in range(5):
        pair = Pair(seed=seed, loss=15, duplication=20, reordering=20)
        record = pair.ask(coap.PUT, payload=BODY)
        eq((record.error, pair.stored), (None, [BODY]))
        record = pair.ask()
        eq((record.error, record.response.message.payload), (None, BODY))
        pair.must_be_protected()


def must_recover(pair):
    """The first GET and PUT after a restart of the server are answered."""
    record = pair.ask()
    eq((record.error, record.response.message.code), (None, coap.CONTENT))
    eq(record.response.message.payload, BODY)
    record = pair.ask(coap.PUT, payload=b"1")
    eq((record.error, pair.stored), (None, [b"1"]))
    pair.must_be_protected()


def test_server_when_restarted_then_the_client_repeats_by_itself():
    """RFC 8613 Appendix B.1.2."""
    must_recover(Pair(server_number=500))


def test_server_with_echo_when_restarted_then_one_challenge_serves_both():
    """RFC 8613 Appendix B.1.2 and RFC 9175 section 2.4: the address is proved, too."""
    pairs = [Pair(server_number=500, server_echo=with_echo) for with_echo in (False, True)]
    for pair in pairs:
        must_recover(pair)
    eq(len(pairs[1].wire), len(pairs[0].wire))


def test_observation_when_protected_then_notified_until_cancelled():
    """RFC 8613 section 4.1.3.5."""
    for server_number in (0, 500):
        pair = Pair(server_number)
        heard = []
        pair.body = b"one"
        observation = observe(pair, heard)
        for text in (b"two", b"three"):
            pair.body = text
            pair.server.notify("secret", True)
            pair.network.run(5000)
        eq(heard, [b"one", b"two", b"three"])
        observation.cancel()
        pair.network.run(5000)
        eq((observation.is_done(), pair.server.observing.observers), (True, []))
        pair.must_be_protected()


def observe(pair, heard):
    """An Observation of `secret`, begun."""
    send = pair.client.send
    pair.client.send = lambda message: send(message, SERVER)  # an Engine looks up no name
    uri = "coap://192.0.2.1/secret"
    observation = coap_observe.observe(pair.client, uri, lambda message: heard.append(message.payload))
    pair.client.send = send
    pair.network.run(5000)
    return observation


def test_large_notifications_when_protected_then_their_blocks_are_fetched():
    """RFC 7959 section 2.6, inside."""
    pair = Pair()
    heard = []
    observe(pair, heard)
    pair.body = BODY + b"!"
    pair.server.notify("secret")
    pair.network.run(20000)
    eq(heard, [BODY, BODY + b"!"])
    pair.must_be_protected()


def test_observer_when_gone_then_its_entry_makes_room():
    """A Reset of a notification ends the observation and, in time, its key material."""
    pair = Pair()
    pair.body = b"one"
    for _ in range(40):
        heard = []
        observation = observe(pair, heard)
        eq(heard, [b"one"])
        observation.record.cancel()
        pair.server.notify("secret", True)
        pair.network.run(5000)
        eq(pair.server.observing.observers, [])
    eq(len(pair.at_server._exchanges) <= 12, True)
    pair.must_be_protected()


def test_error_that_ends_an_observation_when_protected_then_inside():
    """RFC 8613 section 8.3.1: without Observe, with a Partial IV."""
    pair = Pair()
    heard = []
    pair.body = b"one"
    observation = observe(pair, heard)
    pair.server.resources[-1].get(lambda request, response: (coap.SERVICE_UNAVAILABLE, "gone"))
    pair.server.notify("secret", True)
    pair.network.run(5000)
    eq(heard, [b"one", b"gone"])
    eq((observation.is_done(), pair.at_server._exchanges), (True, []))
    pair.must_be_protected()




def test_blocks_of_two_contexts_when_from_one_address_then_not_put_together():
    """RFC 9175 section 3.2: behind a proxy, or with a forged address; nobody adds to a body of another."""
    server = fake.engine()
    theirs = [coap_oscore_keys.context(SECRET, b"s", b"a")]
    theirs.append(coap_oscore_keys.context(SECRET, b"s", b"b", id_context=b"1"))
    at_server = coap_oscore.attach(server, theirs, Memory())
    coap_block.attach(server)
    bodies = []
    resource = server.resource("settings", secure=True)
    resource.put(lambda request, response: bodies.append((at_server.context_of(request), request.payload)))

    def put(name, id_context, block1, payload):
        client = clients.setdefault(name, fake.engine())
        if not client.hooks:
            ours = coap_oscore_keys.context(SECRET, name, b"s", id_context=id_context, server=SERVER)
            coap_oscore.attach(client, [ours], Memory())
        message = coap.Message(coap.PUT, uri_path=("settings",), mtype=coap.NON, block1=block1, payload=payload)
        record = client.send(message, SERVER)
        datagram = fake.due(client, 0)[-1]
        record.cancel()
        mids.append(0)
        server.receive(datagram[:2] + bytes((0, len(mids))) + datagram[4:], "proxy", 0)

    clients, mids = {}, []
    put(b"b", b"1", 8, b"B" * 16)
    put(b"a", None, 16, b"A" * 16)
    eq(bodies, [])
    put(b"b", b"1", 16, b"b" * 16)
    eq(bodies, [(theirs[1], b"B" * 16 + b"b" * 16)])


def test_request_that_wants_no_response_when_the_server_was_restarted_then_served():
    """RFC 8613 Appendix B.1.2 and RFC 7967: as CON its 4.01 comes with the ACK, and the client repeats it with Echo."""
    pair = Pair(server_number=500)
    record = pair.client.send(coap.Message(coap.PUT, uri_path=("secret",), payload=b"1", no_response=26), SERVER)
    pair.network.run(10000)
    eq((pair.stored, record.is_done(), record.error), ([b"1"], True, None))
    eq(len(pair.wire) <= 4, True)
    pair.must_be_protected()
