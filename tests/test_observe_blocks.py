"""Observe and blocks together (RFC 7959 sections 2.6, 3.4): only block 0 is notified, the rest is fetched."""

import check
import coap
import coap_block
import coap_observe
import fake

SERVER = ("192.0.2.99", 5683)
CLIENT = ("192.0.2.1", 5683)
BODY_LEN = 3000


class Large:
    """A server with a resource of 3000 bytes that change, and a client that observes it, both with blocks."""

    def __init__(self, is_blocks_first=True, seed=1, **network):
        self.network = fake.Network(seed, **network)
        self.network.trace = []
        self.state = 0
        self.heard = []  # the first byte of each body, None if it is not whole
        self.server = self.network.add(SERVER)
        self.client = self.network.add(CLIENT, transmissions=8)
        for engine in (self.server, self.client):
            self.attach(engine, is_blocks_first)
        self.server.resource("t", obs=True).get(lambda request, response: bytes((self.state,)) * BODY_LEN)
        self.observation = coap_observe.observe(self.client, None, self.hear, remote=SERVER, uri_path=("t",))

    def attach(self, engine, is_blocks_first):
        if is_blocks_first:
            coap_block.attach(engine)
        coap_observe.attach(engine, interval_ms=100)
        if not is_blocks_first:
            coap_block.attach(engine)

    def answer(self, response):
        """The body, stale at once."""
        response.opt.max_age = 0
        return bytes(BODY_LEN)

    def hear(self, message):
        body = message.payload
        self.heard.append(body[0] if body == body[:1] * BODY_LEN else None)

    def run(self, ms):
        """Let exactly `ms` pass."""
        left_ms = ms - self.network.run(ms)
        self.network.now_ms = coap.ticks_add(self.network.now_ms, left_ms)

    def change(self):
        self.state += 1
        self.server.notify("t")

    def to_server(self):
        """The requests that have arrived at the server, Messages."""
        trace = [coap.Message.decode(data) for _, destination, data in self.network.trace if destination == SERVER]
        return [message for message in trace if 0 < message.code < 32]


def fetch_four_bodies(is_blocks_first):
    """One pair, and nothing of it stays: a board has no room for two."""
    large = Large(is_blocks_first)
    large.run(5000)
    for _ in range(3):
        large.change()
        large.run(5000)
    check.eq(large.heard, [0, 1, 2, 3])
    requests = large.to_server()
    token = large.observation.record.token
    check.eq([message.opt.observe for message in requests if message.token == token], [0])
    others = [message for message in requests if message.token != token]
    check.eq(len(others) > 8, True)
    check.eq([message for message in others if message.opt.observe is not None or not message.opt.block2], [])
    check.eq((large.observation.is_done(), len(large.client._open)), (False, 1))


def test_large_when_it_changes_then_each_body_comes_whole_whatever_the_order_of_attach():
    """RFC 7959 section 2.6: the notification has block 0, plain GETs with other tokens fetch the others."""
    for is_blocks_first in (True, False):
        fetch_four_bodies(is_blocks_first)


def test_large_when_it_changes_during_the_fetch_then_the_newest_is_heard_and_none_is_mixed():
    """RFC 7959 section 2.6: a newer notification gives the fetch up; the ETag keeps states apart."""
    large = Large()
    large.run(5000)
    for _ in range(20):
        large.change()
        large.run(130)
    large.run(30000)
    check.eq(large.heard[-1], 20)
    check.eq([state for state in large.heard if state is None], [])
    check.eq(large.heard, sorted(large.heard))


def test_large_when_the_same_state_is_notified_during_the_fetch_then_the_fetch_goes_on():
    """RFC 7959 section 2.6: a newer notification of the same ETag has the same blocks; else no slow fetch would end."""
    large = Large()
    large.run(5000)
    large.change()
    for _ in range(50):  # a fetch takes 5 s
        large.run(130)
        large.server.notify("t")
    check.eq(large.heard, [0, 1])
    large.run(10000)
    check.eq((large.heard, large.observation.is_done()), ([0, 1, 1], False))


def test_large_when_datagrams_are_lost_then_the_last_state_arrives_whole():
    """RFC 7641 section 1.3: eventual consistency, 20 % loss, doubling and reordering."""
    for seed in range(3):
        large = Large(seed=seed, loss=20, duplication=10, reordering=20)
        large.run(5000)
        for _ in range(10):
            large.change()
            large.run(4000)
        large.run(400000)
        check.eq(large.heard[-1:], [10], "seed %d" % seed)
        check.eq([state for state in large.heard if state is None], [])


def test_large_when_it_becomes_small_then_it_comes_in_one():
    """A notification that fits is whole, also while the blocks of the one before are fetched."""
    large = Large()
    large.run(5000)
    large.change()
    large.run(120)
    large.server.resources[1].get(lambda request, response: b"small")
    large.change()
    large.run(10000)
    check.eq(large.heard[-1], None)
    check.eq(large.observation.record.is_done(), False)


def test_large_when_its_blocks_change_before_it_is_notified_then_the_new_ones_are_fetched():
    """RFC 7959 section 2.4: a body of another ETag, or so short that there is no such block any more."""
    for length in (BODY_LEN, 1500, 10):
        large = Large()
        large.server.resources[1].get(lambda request, response, large=large: bytes((large.state,)) * large.length)
        large.observation.on_notification = lambda message, large=large: large.heard.append(bytes(message.payload))
        large.length = BODY_LEN
        large.run(5000)
        large.change()
        large.run(120)
        large.state = 9
        large.length = length
        large.run(5000)
        check.eq(large.heard[-1] == bytes((9,)) * length, True, length)
        check.eq((large.observation.is_done(), large.observation.error), (False, None), length)
        large.change()
        large.run(5000)
        check.eq(large.heard[-1] == bytes((10,)) * length, True, length)


def test_large_when_a_block_is_refused_then_only_that_notification_is_lost():
    """RFC 7641 section 3.2: what ends an observation is a notification."""
    large = Large()
    large.run(5000)
    large.change()
    large.run(120)
    read = large.server.resources[1].handlers[coap.GET]
    large.server.resources[1].get(lambda request, response: coap.SERVICE_UNAVAILABLE)
    said = []
    large.client.log = lambda *words: said.append(words)
    large.run(5000)
    check.eq((large.heard, large.observation.is_done()), ([0], False))
    check.eq(said, [("a notification was lost", coap.SERVICE_UNAVAILABLE)])
    large.server.resources[1].get(read)
    large.change()
    large.run(5000)
    check.eq((large.heard, large.observation.is_done()), ([0, 2], False))


def test_large_when_cancelled_during_the_fetch_then_nothing_remains():
    """No request outlives its observation for longer than its exchange."""
    large = Large()
    large.run(5000)
    large.change()
    large.run(120)
    large.observation.cancel()
    large.run(10000)
    check.eq((large.heard, large.observation.is_done(), large.observation.error), ([0], True, None))
    check.eq((large.client._open, large.client._queue), ([], []))


def test_large_when_the_fetch_takes_longer_than_max_age_then_it_is_not_begun_anew():
    """A registration while blocks are on their way would throw them away, again and again."""
    large = Large(delay_ms=900)
    resource = large.server.resources[1]
    resource.get(lambda request, response: large.answer(response))
    large.run(140000)
    check.eq(large.heard[0], 0)
