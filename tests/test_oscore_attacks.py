"""OSCORE (RFC 8613) against who is on the way, without keys: sees, keeps back, repeats, changes, invents datagrams."""

import gc

import coap
import coap_echo
import coap_observe
import coap_oscore
import coap_oscore_keys
import fake
from check import eq, raises
from oscore_pair import (
    CLIENT,
    FORGED,
    NOT_FOUND,
    REPLAYED,
    SECRET,
    SERVER,
    UNDECODABLE,
    Memory,
    Pair,
    outer_of,
    refused_with,
    with_option,
)

IN_USE = b"Token in use"


def changed(datagram, mid, token=None, **options):
    """A datagram with another message ID, and another token or outer options."""
    message = coap.Message.decode(datagram).copy(mid=mid, **options)
    if token is not None:
        message.token = token
    return message.encode()


def insert(datagram, number, value):
    """A datagram with one option more."""
    return coap.Message.decode(datagram).copy().add_option(number, value).encode()


def sealed(pair, number, plaintext, mtype=coap.CON, **fields):
    """A request that who has the client's keys could make: number and plaintext as given."""
    context = pair.at_client.contexts[0]
    piv = coap_oscore._partial_iv(number)
    aad = coap_oscore._aad(b"c", piv)
    payload = coap_oscore._seal(context.sender_key, context.sender_nonce(number), aad, plaintext)
    option = coap_oscore._option_value(piv, b"c")
    return fake.packet(coap.POST, 7000 + (number & 0xFFF), mtype, oscore=option, payload=payload, **fields)


def opened(pair, number, reply):
    """(code, payload) of the response to request `number`, as the client reads it."""
    context = pair.at_client.contexts[0]
    header = coap_oscore._parse(reply.packet)
    nonce = context.sender_nonce(number)
    if header[0] is not None:
        nonce = context.recipient_nonce(int.from_bytes(header[0], "big"))
    aad = coap_oscore._aad(b"c", coap_oscore._partial_iv(number))
    plaintext = coap_oscore._open(context.recipient_key, nonce, aad, reply.payload)
    eq(plaintext is None, False, "the response is not authentic")
    message = coap.Message.decode(b"\x40" + plaintext[:1] + b"\0\0" + plaintext[1:])
    return message.code, message.payload


class Watched:
    """A client that observes the secure resource `door` of a server, which has an open resource, too."""

    def __init__(self, server_number=0):
        self.pair = pair = Pair(server_number=server_number)
        self.heard = []
        self.held = []
        self.text = b"closed"
        coap_observe.attach(pair.server, interval_ms=1)
        coap_observe.attach(pair.client)
        pair.server.resource("door", obs=True, secure=True).get(lambda request, response: self.text)
        pair.server.resource("open", obs=True).get(lambda request, response: b"of the open one")
        pair.server.resource("late").get(self.promise)
        self.observation = self.observe("door", self.heard)
        self.token = self.observation.record.token

    def observe(self, path, heard):
        """An Observation, begun."""
        client = self.pair.client
        send = client.send
        client.send = lambda message: send(message, SERVER)  # an Engine looks up no name
        uri = "coap://192.0.2.1/" + path
        observation = coap_observe.observe(client, uri, lambda message: heard.append((message.code, message.payload)))
        client.send = send
        self.pair.network.run(5000)
        return observation

    def promise(self, request, response):
        self.held.append(response.copy(payload=b"of the open one"))
        return coap.LATER

    def notify(self, text):
        """Have the door notify of a change."""
        self.text = text
        self.pair.server.notify("door", True)
        self.pair.network.run(5000)


# ---- tokens, which nothing protects ----


def test_token_of_a_protected_observation_when_used_unprotected_then_refused():
    """RFC 8613 section 7.1: what an open resource says must not arrive as a notification of a secure one."""
    watched = Watched()
    pair = watched.pair
    for path, fields in (("late", {}), ("open", {"observe": 0}), ("open", {}), ("none", {})):
        request = fake.packet(coap.GET, 9000 + len(path) + len(fields), token=watched.token, uri_path=(path,), **fields)
        eq(refused_with(pair.receive(request)), (coap.BAD_REQUEST, IN_USE), path)
    for response in watched.held:
        pair.server.send(response)
    pair.network.run(5000)
    watched.notify(b"open")
    eq(watched.heard, [(coap.CONTENT, b"closed"), (coap.CONTENT, b"open")])


def test_token_of_a_protected_observation_when_used_with_another_context_then_refused():
    """RFC 8613 section 7.1: nobody else who has keys takes its place."""
    watched = Watched()
    pair = watched.pair
    pair.at_server.add(coap_oscore_keys.context(SECRET, b"s", b"x", id_context=b"1"))
    other = fake.engine()
    coap_oscore.attach(other, [coap_oscore_keys.context(SECRET, b"x", b"s", id_context=b"1", server=SERVER)], Memory())
    other.send(coap.Message(coap.GET, uri_path=("door",), observe=0, token=watched.token), SERVER)
    eq(refused_with(pair.receive(fake.due(other, 0)[0])), (coap.BAD_REQUEST, IN_USE))
    watched.notify(b"open")
    eq(watched.heard, [(coap.CONTENT, b"closed"), (coap.CONTENT, b"open")])


def test_token_of_a_protected_observation_when_given_to_another_request_then_that_is_answered_as_itself():
    """RFC 8613 section 7.1: a token was changed on the way; each response verifies with its own request only."""
    watched = Watched()
    pair = watched.pair
    record = pair.client.send(coap.Message(coap.GET, uri_path=("late",), mtype=coap.NON), SERVER)
    request = fake.due(pair.client, pair.network.now_ms)[0]
    pair.receive(changed(request, 9100, watched.token))
    watched.notify(b"open")
    eq(watched.heard[1:], [(coap.CONTENT, b"open")])
    for response in watched.held:
        pair.server.send(response)
    for datagram in fake.due(pair.server, pair.network.now_ms):
        pair.client.receive(datagram, SERVER, pair.network.now_ms)  # as an answer to the observation: dropped
        eq(watched.heard[2:], [])
        mid = coap.Message.decode(datagram).mid
        pair.client.receive(changed(datagram, mid, record.token), SERVER, pair.network.now_ms)
    eq(record.response.message.payload, b"of the open one")


def test_promises_when_two_peers_chose_the_same_token_then_each_gets_the_answer_to_its_own():
    """RFC 8613 section 7.1: a token is of one peer; another token of a peer, or the same of another, is free."""
    pair = Pair()
    held = []

    def promise(request, response):
        held.append(response.copy(payload=b"answer %d" % len(held)))
        return coap.LATER

    pair.server.resource("late").get(promise)
    peers = CLIENT, "elsewhere"
    for k in (0, 1):
        pair.receive(sealed(pair, k, b"\x01\xb4late", coap.NON, token=b"tk"), peer=peers[k])
    for peer, token in ((CLIENT, b"other"), ("third", b"tk")):
        request = fake.packet(coap.GET, 9300, token=token, uri_path=("temp",))
        eq(pair.receive(request, peer=peer).code, coap.CONTENT, peer)
    for k in (0, 1):
        pair.server.send(held[k])
        reply = coap.Message.decode(fake.due(pair.server, pair.network.now_ms)[-1])
        eq(opened(pair, k, reply), (coap.CONTENT, b"answer %d" % k))


def test_request_without_an_answer_when_its_token_is_used_again_then_that_is_answered_in_the_clear():
    """RFC 8613 section 7.1: of what is answered by silence nothing is kept that could encrypt another answer."""
    for fields in ({"no_response": 26}, {"path": ("silent",)}):
        watched = Watched()
        pair = watched.pair
        pair.server.resource("silent").get(lambda request, response: coap.NO_RESPONSE)
        pair.receive(pair.protected(token=b"tk", **fields))
        pair.receive(fake.packet(coap.GET, 9200, coap.NON, b"tk", uri_path=("late",)))
        pair.server.send(watched.held[-1])
        reply = coap.Message.decode(fake.due(pair.server, pair.network.now_ms)[-1])
        eq((reply.code, reply.payload), (coap.CONTENT, b"of the open one"), fields)


def test_observation_that_wants_no_answer_when_notified_then_not_in_the_clear():
    """RFC 8613 section 4.1.3.6: No-Response suppresses the answer, and must not suppress encryption."""
    notified = (coap.CONTENT, [6, 9])
    ended = (coap.CHANGED, [9])
    missing = (coap.NOT_FOUND, b"secret")
    for text, is_forgotten, expected in (
        (b"secret", False, notified),
        (b"secret", True, (coap.INTERNAL_SERVER_ERROR, [])),
        (missing, False, ended),
        (missing, True, (coap.INTERNAL_SERVER_ERROR, [])),
    ):
        watched = Watched()
        pair = watched.pair
        eq(pair.receive(pair.protected(path=("door",), observe=0, no_response=2, token=b"quiet"), 1), None)
        if is_forgotten:  # whatever the reason
            pair.at_server._exchanges.clear()
            pair.ask()
        watched.text = text
        del pair.wire[:]
        pair.server.notify("door")
        pair.network.run(10000)
        sent = [(message.token, outer_of(message)) for message in pair.sent(SERVER) if message.token]
        eq((b"quiet", expected) in sent, True, sent)
        eq([b"secret" in item[2] for item in pair.wire], [False] * len(pair.wire))


# ---- notifications ----


def notifications_of(pair):
    """The datagrams of the notifications that arrived."""
    return [item[2] for item in pair.wire if item[0] == SERVER and 6 in outer_of(coap.Message.decode(item[2]))[1]]


def test_notifications_when_exchanged_between_two_observations_then_dropped():
    """RFC 8613 section 7.1: same context, each is bound to its registration."""
    watched = Watched()
    pair = watched.pair
    pair.server.resource("gate", obs=True, secure=True).get(lambda request, response: b"gate")
    heard = []
    other = watched.observe("gate", heard)
    watched.notify(b"open")
    datagram = notifications_of(pair)[-1]
    for mid, token in ((9300, other.record.token), (9301, watched.token)):  # the second is a replay
        pair.client.receive(changed(datagram, mid, token), SERVER, pair.network.now_ms)
    eq((heard, len(watched.heard)), ([(coap.CONTENT, b"gate")], 2))
    pair.server.notify("gate", True)
    pair.network.run(5000)
    eq(len(heard), 2)


def test_notification_when_there_is_no_memory_to_encrypt_it_then_sent_later():
    """RFC 7641 section 1.3: the client hears of the latest state, and of nothing in the clear."""
    watched = Watched()
    pair = watched.pair
    seal = coap_oscore._seal

    def fail(*_):
        raise MemoryError

    coap_oscore._seal = fail
    watched.text = b"secret"
    pair.server.notify("door", True)
    try:
        raises(MemoryError, pair.network.run, 5000)
    finally:
        coap_oscore._seal = seal
    pair.network.run(5000)
    eq(watched.heard, [(coap.CONTENT, b"closed"), (coap.CONTENT, b"secret")])
    eq([b"secret" in item[2] for item in pair.wire], [False] * len(pair.wire))


def test_notifications_when_reordered_then_only_newer_ones_count():
    """RFC 8613 section 7.4.1: by their Partial IV, whatever the outer Observe says."""
    watched = Watched()
    pair = watched.pair
    deliver = pair.client.receive
    kept = []
    pair.client.receive = lambda datagram, peer, now_ms: kept.append(bytes(datagram))
    for text in (b"1", b"2", b"3"):
        watched.text = text
        pair.server.notify("door")
        pair.network.run(400)
    pair.client.receive = deliver
    kept = [datagram for datagram in kept if datagram[1] == coap.CONTENT]
    eq(len(kept), 3)
    for k, observe in ((1, 100), (0, 0xFFFFFF), (1, 101), (2, 0), (0, 102), (2, 103)):
        deliver(changed(kept[k], 9400 + (observe & 255), observe=observe), SERVER, pair.network.now_ms)
    eq([payload for _, payload in watched.heard], [b"closed", b"2", b"3"])


def test_answer_to_a_registration_when_it_comes_again_as_a_notification_then_dropped():
    """RFC 8613 section 7.4.1: it has no Partial IV, and only the first of those counts."""
    watched = Watched()
    pair = watched.pair
    answer = notifications_of(pair)[0]
    eq(coap.Message.decode(answer).opt.oscore, b"")
    for k in range(3):
        again = changed(answer, 9500 + k, mtype=coap.NON, observe=500 + k)
        pair.client.receive(again, SERVER, pair.network.now_ms)
    eq(watched.heard, [(coap.CONTENT, b"closed")])
    watched.notify(b"open")
    pair.client.receive(changed(answer, 9510, mtype=coap.NON, observe=600), SERVER, pair.network.now_ms)
    eq(len(watched.heard), 2)


# ---- what is outside, which nothing protects ----


def test_outer_options_when_put_on_a_protected_request_then_they_change_nothing():
    """RFC 8613 section 8.2 step 1: those of class E and unknown ones are discarded."""
    pair = Pair()
    pair.server.resource("other").get(lambda request, response: b"other")
    for number, value in ((11, "other"), (15, "a=1"), (17, 60), (1, b"x"), (6, b""), (2049, b"x"), (35, "coap://a/b")):
        datagram = insert(pair.protected(), number, value)
        reply = pair.receive(datagram, 100 + number)
        eq(opened(pair, pair.at_client.sequence.next - 1, reply), (coap.CONTENT, b"22.5 C"), number)
    eq(pair.calls, [b""] * 7)


def test_outer_options_when_put_on_a_protected_response_then_they_change_nothing():
    """RFC 8613 section 4.1: what a client reads was inside."""
    pair = Pair()
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
    reply = bytes(pair.server.receive(fake.due(pair.client, 0)[0], CLIENT, 0))
    pair.client.receive(insert(insert(reply, 14, b"\x3c"), 16, b"\5"), SERVER, 0)
    eq([number for number, _ in record.response.message.options], [12])


def test_outer_proxy_scheme_and_host_when_put_on_a_protected_request_then_they_count():
    """RFC 8613 section 4.1: class U is what a proxy may act on, and we are none."""
    pair = Pair()
    hosts = []
    pair.server.resources[-1](lambda request, response: hosts.append(request.opt.uri_host))
    pair.receive(insert(pair.protected(), 3, "forged"), 1)
    eq(hosts, ["forged"])
    message = coap.Message.decode(insert(pair.protected(), 39, "coap"))
    message.mtype = coap.CON
    reply = pair.receive(message.encode(), 2)
    eq(opened(pair, pair.at_client.sequence.next - 1, reply)[0], coap.PROXYING_NOT_SUPPORTED)


def test_host_inside_when_another_is_outside_then_there_is_one():
    """RFC 8613 section 4.1.3.2: Uri-Host is outside; who has keys may put it inside, too."""
    pair = Pair()
    hosts = []
    pair.server.resources[-1](lambda request, response: hosts.append(request.options))
    inside = bytes((coap.GET,)) + b"\x36inside\x84temp"
    eq(pair.receive(sealed(pair, 0, inside)).opt.oscore, b"")
    eq(pair.receive(insert(sealed(pair, 1, inside), 3, "out")).opt.oscore, b"")
    eq(hosts, [((3, "inside"), (11, "temp")), ((3, "out"), (11, "temp"))])


def test_option_when_repeated_then_refused():
    """RFC 7252 section 5.4.5: one too many is an unknown critical option."""
    pair = Pair()
    for again in (b"", b"\x09\0c", b"\x09\5x"):
        message = coap.Message.decode(insert(pair.protected(), 9, again))
        message.mtype = coap.CON
        reply = pair.receive(message.encode(), 100 + len(again) + again.count(b"x"))
        eq((reply.code, pair.calls), (coap.BAD_OPTION, []))


def test_option_when_repeated_in_a_response_then_nothing_is_accepted():
    """RFC 7252 section 5.4.5."""
    pair = Pair()
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
    reply = bytes(pair.server.receive(fake.due(pair.client, 0)[0], CLIENT, 0))
    pair.client.receive(insert(reply, 9, b""), SERVER, 0)
    eq((record.response, pair.client.received), (None, None))


# ---- what is inside, made by who has the keys ----


def test_request_inside_when_it_is_none_then_refused_and_its_number_unused():
    """RFC 8613 section 8.2: 0.00, a response's code, no option number, a second OSCORE option, no end."""
    pair = Pair()
    wrong = [b"\0", b"\x45", b"\xe1", b"\x20", b"\x01\xff", b"\x01\xf1x", b"\x01\xbftemp"]
    wrong += [b"\x01\x90", b"\x01\x93\x09\0c", b"\x01\x90\xd1\xec\x1a"]  # the last says No-Response, too
    for k in range(len(wrong)):
        eq(refused_with(pair.receive(sealed(pair, k, wrong[k]))), (coap.BAD_OPTION, UNDECODABLE), wrong[k])
    eq((pair.calls, pair.at_server.contexts[0].highest), ([], -1))


def test_critical_option_inside_when_unknown_then_402_inside():
    """RFC 7252 section 5.4.1."""
    pair = Pair()
    inside = bytes((coap.GET,)) + b"\xb4temp\xe1\x06\xe9x"  # option 2049
    eq(opened(pair, 3, pair.receive(sealed(pair, 3, inside)))[0], coap.BAD_OPTION)
    eq(pair.calls, [])


def test_number_when_the_last_then_accepted_once_and_nothing_behind_it():
    """RFC 8613 section 7.2.1: 2**40 - 1."""
    pair = Pair()
    last = (1 << 40) - 1
    inside = bytes((coap.GET,)) + b"\xb4temp"
    for number in (last, last - 31):
        eq(opened(pair, number, pair.receive(sealed(pair, number, inside)))[0], coap.CONTENT)
    for number in (last, last - 31, last - 32, 0):
        reply = pair.receive(changed(sealed(pair, number, inside), 10))
        eq(refused_with(reply), (coap.UNAUTHORIZED, REPLAYED))
        pair.network.now_ms += 300000
    eq(len(pair.calls), 2)
    option = b"\x0d" + b"\xff" * 5 + b"c"
    eq(refused_with(pair.receive(with_option(pair.protected(), option), 11)), (coap.UNAUTHORIZED, REPLAYED))


# ---- contexts ----


def test_kid_context_when_another_then_no_context():
    """RFC 8613 section 8.2 step 2: the right kid with the wrong, an unexpected, a missing kid context."""
    pair = Pair()
    named = coap_oscore_keys.context(SECRET, b"s", b"n", id_context=b"one")
    named.highest = -1
    pair.at_server.contexts.append(named)
    datagram = pair.protected()
    cases = ((b"\x19\0\3onec", NOT_FOUND), (b"\x19\0\0c", NOT_FOUND), (b"\x19\0\3twon", NOT_FOUND))
    cases += ((b"\x19\0\3onen", FORGED), (b"\x09\0n", FORGED))
    for k in range(len(cases)):
        code = coap.UNAUTHORIZED if cases[k][1] is NOT_FOUND else coap.BAD_REQUEST
        eq(refused_with(pair.receive(with_option(datagram, cases[k][0]), 100 + k)), (code, cases[k][1]))
    eq(pair.receive(datagram, 200).opt.oscore, b"")


def test_request_when_it_comes_back_to_who_sent_it_then_no_context():
    """RFC 8613 section 3.3: an endpoint that is client and server does not take its own for the other's."""
    pair = Pair()
    pair.client.resource("temp")(pair.handle)
    reply = fake.ask(pair.client, pair.protected(), 0, SERVER)
    eq(refused_with(reply), (coap.UNAUTHORIZED, NOT_FOUND))
    eq(pair.calls, [])


def test_context_when_for_a_group_then_value_error():
    """RFC 8613 section 1: two members would answer with the same key and nonce."""
    engine = fake.engine()
    group = coap_oscore_keys.context(SECRET, b"c", b"s", server=("224.0.1.187", 5683))
    raises(ValueError, coap_oscore.attach, engine, [group], Memory(), contains="group")


def test_request_to_elsewhere_when_all_is_to_be_protected_then_not_sent():
    """attach(secure=True): a name that leads to another address must not have the request sent in the clear."""
    engine = fake.engine()
    ours = coap_oscore_keys.context(SECRET, b"c", b"s", server=SERVER)
    coap_oscore.attach(engine, [ours], Memory(), secure=True)
    raises(ValueError, engine.send, coap.Message(coap.GET), "elsewhere", contains="no context")
    eq(fake.due(engine, 0), [])
    engine.send(coap.Message(coap.GET), SERVER)
    eq(outer_of(coap.Message.decode(fake.due(engine, 0)[0])), (coap.POST, [9]))


# ---- groups ----


def test_protected_request_when_sent_to_a_group_then_handled_once_and_replays_are_met_with_silence():
    """RFC 7252 section 8.2: what was meant for one server, sent to all on the way."""
    pair = Pair()
    datagram = pair.protected()
    eq(fake.ask(pair.server, datagram, 0, CLIENT, True), None)
    again = datagram[:2] + b"\x7f\x7f" + datagram[4:]
    forged = datagram[:2] + b"\x7f\x7e" + datagram[4:-1] + b"\0"
    unknown = changed(with_option(datagram, b"\x09\0d"), 0x7F7D)
    for each in (again, forged, unknown):
        eq(fake.ask(pair.server, each, 0, CLIENT, True), None)
    eq((pair.calls, len(pair.server._answers)), ([b""], 1))


# ---- many ----


def allocated():
    """Bytes in use on MicroPython, objects on CPython."""
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else len(gc.get_objects())


def test_forged_kids_when_ten_thousand_come_then_nothing_grows_and_who_has_keys_is_served():
    """Nothing is kept of a request that does not verify."""
    pair = Pair()
    pair.network.trace = None
    eq(pair.ask().error, None)
    number = pair.at_client.sequence.next
    before = None
    for k in range(10000):
        kid = bytes((k & 255, k >> 8)) + bytes(k % 6)
        option = b"\x09" + bytes((k & 255,)) + kid
        forged = fake.packet(coap.POST, k, coap.CON if k & 1 else coap.NON, oscore=option, payload=b"0123456789")
        pair.server.receive(forged, ("192.0.2.%d" % (k & 63), k), k)
        if k == 1000:
            before = allocated()
    grown = allocated() - before
    eq(grown < 2000, True, "%d more are in use" % grown)
    tables = pair.at_server._exchanges, pair.server._pending, pair.server._answers
    eq([len(table) for table in tables], [0, 0, 0])
    pair.network.now_ms = 10000
    eq((pair.ask().error, pair.at_client.sequence.next - number), (None, 1))


def test_observations_when_unprotected_ones_take_their_tokens_then_the_table_still_makes_room():
    """The table of exchanges is bounded, and nobody without keys fills it."""
    watched = Watched()
    pair = watched.pair
    watched.observation.record.cancel()
    for k in range(30):
        token = bytes((k, k))
        pair.receive(pair.protected(path=("door",), observe=0, token=token), k)
        pair.receive(fake.packet(coap.GET, 500 + k, token=token, uri_path=("open",), observe=0))
        pair.server.receive(fake.empty(coap.RST, 0), CLIENT, 0)
        observer = pair.server.observing.holds(CLIENT, token)
        if observer:
            pair.server.observing._remove(observer)
    eq(len(pair.at_server._exchanges) <= 12, True)
    reply = pair.receive(pair.protected(path=("door",), observe=0, token=b"last"), 900)
    eq(reply.opt.observe is None, False)


def test_requests_from_before_a_restart_when_a_thousand_come_then_a_write_for_64_and_who_has_keys_is_served():
    """RFC 8613 Appendix B.1.2: each challenge takes a number, and numbers are reserved by writes to the flash."""
    pair = Pair(client_number=2000, server_number=500)
    old = [pair.protected() for _ in range(10)]
    for k in range(1000):
        eq(outer_of(pair.receive(old[k % 10], k)), (coap.CHANGED, [9]))
    eq((pair.calls, pair.stores[0].saves <= 2 + 1000 // 64), ([], True))
    coap_echo.attach(pair.client)
    eq((pair.ask().error, pair.calls), (None, [b""]))
    for k in range(10):
        eq(refused_with(pair.receive(old[k], 2000 + k)), (coap.UNAUTHORIZED, REPLAYED))


def test_request_that_was_asked_for_an_echo_when_it_comes_again_then_asked_again_and_handled_once():
    """RFC 8613 Appendix B.1.2: its sender repeats it with Echo; so what was recorded of it must never be executed.

    Here a request with Echo is kept back until the next one has come without.
    """
    pair = Pair(client_number=1000, server_number=500)
    coap_echo.attach(pair.client)

    def put(payload):
        record = pair.client.send(coap.Message(coap.PUT, uri_path=("temp",), payload=payload), SERVER)
        return record, fake.due(pair.client, 0)[0]

    first, datagram = put(b"1")
    pair.client.receive(bytes(pair.server.receive(datagram, CLIENT, 0)), SERVER, 0)
    with_echo = fake.due(pair.client, 0)[0]
    second, datagram = put(b"2")
    asked = bytes(pair.server.receive(datagram, CLIENT, 0))
    pair.client.receive(bytes(pair.server.receive(with_echo, CLIENT, 0)), SERVER, 0)
    eq((first.is_done(), pair.calls), (True, [b"1"]))
    for again in (datagram, changed(datagram, 7), changed(datagram, 8, b"tk")):  # from the client, or from others
        eq(outer_of(coap.Message.decode(bytes(pair.server.receive(again, CLIENT, 0)))), (coap.CHANGED, [9]))
    eq(pair.calls, [b"1"])
    pair.client.receive(asked, SERVER, 0)
    pair.network.run(until=second.is_done)
    eq((second.error, second.response.message.code, pair.calls), (None, coap.CHANGED, [b"1", b"2"]))
    eq((outer_of(pair.receive(datagram, 9)), pair.calls), ((coap.CHANGED, [9]), [b"1", b"2"]))


# ---- Echo (RFC 9175) ----


def test_echo_when_its_peer_was_pushed_out_of_the_table_then_not_used_twice():
    """RFC 9175 section 2.3: who verifies many ports must not make a request that was recorded fresh again."""
    engine = fake.engine()
    echo = coap_echo.attach(engine, verified=2)
    calls = []
    lock = echo.demand_freshness(engine.resource("lock"))
    lock.put(lambda request, response: calls.append(request.remote))

    def put(peer, mid, now_ms, value=None):
        return fake.ask(engine, fake.packet(coap.PUT, mid, uri_path=("lock",), echo=value), now_ms, peer)

    value = put("victim", 1, 1000).opt.echo
    eq(put("victim", 2, 1001, value).code, coap.CHANGED)
    for k in range(3):
        port = ("attacker", k)
        mine = put(port, 10 + k, 1002).opt.echo
        eq(put(port, 20 + k, 1003, mine).code, coap.CHANGED)
    eq(put("victim", 3, 1004, value).code, coap.UNAUTHORIZED)
    eq(calls.count("victim"), 1)
    again = put("victim", 4, 1005).opt.echo
    eq(put("victim", 5, 1006, again).code, coap.CHANGED)
    eq(calls.count("victim"), 2)


def test_lock_that_wants_freshness_when_its_server_was_restarted_then_the_client_opens_it():
    """RFC 8613 Appendix B.1.2 and RFC 9175 section 2.3: two challenges, one after the other."""
    pair = Pair(server_number=500)
    coap_echo.attach(pair.client)
    echo = coap_echo.attach(pair.server)
    lock = echo.demand_freshness(pair.server.resource("lock", secure=True))
    lock.put(pair.handle)
    record = pair.ask(coap.PUT, ("lock",), payload=b"1")
    eq((record.error, record.response.message.code, pair.calls), (None, coap.CHANGED, [b"1"]))


def test_challenges_without_end_when_a_server_sends_them_then_the_client_gives_up():
    """RFC 9175 section 2.3: no loop."""
    network = fake.Network()
    server = network.add(SERVER)
    client = network.add(CLIENT)
    coap_echo.attach(client)
    asked = []

    def challenge(request, response):
        asked.append(request.opt.echo)
        response.opt.echo = b"%d" % len(asked)
        return coap.UNAUTHORIZED

    server.resource("lock")(challenge)
    record = client.send(coap.Message(coap.GET, uri_path=("lock",)), SERVER)
    network.run(until=record.is_done)
    eq((record.error, record.response.message.code), (None, coap.UNAUTHORIZED))
    eq(asked, [None, b"1", b"2"])
