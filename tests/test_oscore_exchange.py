"""OSCORE (RFC 8613) between two engines: what is on the wire, what is refused, and what follows a restart."""

import coap
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

# ---- protected exchanges ----


def test_get_when_protected_then_answered_and_nothing_is_in_the_clear():
    """RFC 8613 section 4."""
    pair = Pair()
    record = pair.ask(uri_query=("unit=C",))
    response = record.response.message
    eq((record.error, response.code, response.payload), (None, coap.CONTENT, b"22.5 C"))
    eq(response.options, ((12, 0),))
    eq(pair.calls, [b""])
    eq(outer_of(pair.sent(CLIENT)[0]), (coap.POST, [9]))
    eq(outer_of(pair.sent(SERVER)[0]), (coap.CHANGED, [9]))
    for _, _, datagram in pair.wire:
        eq([text in datagram for text in (b"temp", b"unit", b"22.5")], [False] * 3)


def test_options_when_protected_then_inner_except_host_and_port():
    """RFC 8613 section 4.1: class E and class U."""
    pair = Pair()
    seen = []
    pair.server.resources[-1].put(lambda request, response: seen.append(request.options))
    options = ((1, b"tag"), (3, "host"), (7, 61616), (11, "temp"), (12, 0), (15, "a=1"), (17, 0), (60, 9), (2048, b"x"))
    message = coap.Message(coap.PUT, payload=b"1")
    for number, value in options:
        message.add_option(number, value)
    message.delete_option(1)
    record = pair.client.send(message, SERVER)
    pair.network.run(until=record.is_done)
    eq(outer_of(pair.sent(CLIENT)[0]), (coap.POST, [3, 7, 9]))
    eq(seen, [options[1:]])


def test_error_of_a_resource_when_protected_then_inside():
    """RFC 8613 section 8.3: errors of CoAP processing are protected."""
    pair = Pair()
    record = pair.ask(path=("none",))
    eq((record.error, record.response.message.code), (None, coap.NOT_FOUND))
    eq(outer_of(pair.sent(SERVER)[0]), (coap.CHANGED, [9]))


def test_request_of_another_server_when_sent_then_as_it_is():
    """Only requests to a context's server are protected."""
    pair = Pair()
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), "elsewhere")
    fake.due(pair.client, 0)
    eq(hasattr(record, "exchange"), False)


def test_unprotected_request_when_resource_is_open_then_answered_unprotected():
    """A resource without secure=True answers as it was asked."""
    pair = Pair()
    reply = pair.receive(fake.packet(coap.GET, 1, uri_path=("temp",)))
    eq((reply.code, reply.payload, reply.options), (coap.CONTENT, b"22.5 C", ((12, 0),)))


def test_unprotected_request_when_resource_is_secure_then_401():
    """secure=True and its link attribute, RFC 8613 section 9."""
    pair = Pair()
    pair.server.resource("door", secure=True)(pair.handle)
    pair.server.resource("open")(lambda request, response: b"hello")
    eq(pair.receive(fake.packet(coap.GET, 6, uri_path=("door",))).code, coap.UNAUTHORIZED)
    eq(pair.receive(fake.packet(coap.DELETE, 2, uri_path=("door",))).code, coap.UNAUTHORIZED)
    eq(pair.receive(fake.packet(coap.GET, 3, uri_path=("open",))).payload, b"hello")
    eq(pair.receive(fake.packet(coap.GET, 4, uri_path=("none",))).code, coap.NOT_FOUND)
    links = pair.receive(fake.packet(coap.GET, 5, uri_path=(".well-known", "core"))).payload
    eq(links, b"</temp>;ct=0,</door>;osc,</open>")
    eq(pair.calls, [])
    eq(pair.ask().response.message.payload, b"22.5 C")
    eq(pair.ask(path=("door",)).response.message.payload, b"22.5 C")


def test_unprotected_request_when_all_is_protected_then_401():
    """attach(secure=True)."""
    pair = Pair()
    pair.at_server._needs_all = True
    reply = pair.receive(fake.packet(coap.GET, 4, uri_path=("none",)))
    eq(refused_with(reply), (coap.UNAUTHORIZED, b"OSCORE needed"))
    eq(pair.ask(path=("none",)).response.message.code, coap.NOT_FOUND)


def test_handler_when_it_asks_who_then_the_context():
    """Oscore.context_of."""
    pair = Pair()
    who = []
    pair.server.resources[-1](lambda request, response: who.append(pair.at_server.context_of(request)))
    pair.ask()
    pair.receive(fake.packet(coap.GET, 1, uri_path=("temp",)))
    eq([context and context.recipient_id for context in who], [b"c", None])


def promise(pair, **fields):
    """Has the server of `pair` promise all its answers; returns the list in which they are kept."""
    held = []

    def answer_later(request, response):
        held.append(response.copy(**fields))
        return coap.LATER

    pair.server.resources[-1](answer_later)
    return held


def test_late_response_when_promised_then_protected():
    """RFC 8613 section 8.3: separate responses."""
    pair = Pair()
    held = promise(pair)
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
    pair.network.run(until=lambda: held)
    pair.receive(pair.protected(path=("none",)))  # others come between
    held[0].payload = b"late"
    pair.server.send(held[0])
    pair.network.run(until=record.is_done)
    eq(record.response.message.payload, b"late")
    eq([b"late" in item[2] for item in pair.wire], [False] * len(pair.wire))
    eq([pair.at_server._is_live(each) for each in pair.at_server._exchanges], [False])


def test_request_when_doubled_later_then_its_answer_again_and_no_replay():
    """RFC 7252 section 4.5: whatever is inside, it cannot be executed once more, for its number was used."""
    for code, path in (coap.GET, "temp"), (coap.FETCH, "temp"), (coap.GET, "nothing"):
        pair = Pair()
        pair.client.send(coap.Message(code, uri_path=(path,)), SERVER)
        datagram = fake.due(pair.client, 0)[0]
        answer = bytes(pair.server.receive(datagram, CLIENT, 0))
        mid = datagram[2] << 8 | datagram[3]
        for n in range(1, 40):  # from others; each may take the place of a GET in the table of duplicates
            pair.server.receive(fake.packet(coap.GET, mid + n & 0xFFFF, uri_path=("temp",)), fake.PEER, n)
        eq(bytes(pair.server.receive(datagram, CLIENT, 50)), answer, path)
        eq(len(pair.calls), 39 + (path == "temp"))


def no_memory(record):
    raise MemoryError


def test_late_response_when_there_was_no_room_then_protected_all_the_same():
    """RFC 8613 section 8.3: a response that found no room does not leave in the clear when it is sent once more."""
    pair = Pair()
    held = promise(pair, payload=b"secret")
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
    pair.network.run(until=lambda: held)
    others = [pair.server.send(coap.Message(coap.GET), "silent") for _ in range(8)]
    raises(coap.Full, pair.server.send, held[0])
    for other in others:
        other.cancel()
    pair.server.append = no_memory
    raises(MemoryError, pair.server.send, held[0])
    del pair.server.append
    pair.server.send(held[0])
    pair.network.run(until=record.is_done)
    eq(record.response.message.payload, b"secret")
    eq([b"secret" in item[2] for item in pair.wire], [False] * len(pair.wire))


def test_response_when_there_is_no_memory_to_encrypt_it_then_500_and_not_silence():
    """RFC 7252 section 5.9.3.1: the handler has run and must not again; who asked need not wait for 93 s."""
    pair = Pair()
    seal = coap_oscore._seal

    def fail_at_server(key, *args):
        return no_memory(None) if key == pair.at_server.contexts[0].sender_key else seal(key, *args)

    coap_oscore._seal = fail_at_server
    try:
        record = pair.ask(payload=b"1")
        eq((record.error, record.response.message.code), (coap_oscore.Unprotected, coap.INTERNAL_SERVER_ERROR))
        eq((record.response.message.payload, pair.calls), (b"", [b"1"]))
        held = promise(pair, payload=b"secret")  # of what can be sent once more it is said to who sends it
        record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
        pair.network.run(until=lambda: held)
        raises(MemoryError, pair.server.send, held[0])
    finally:
        coap_oscore._seal = seal
    pair.server.send(held[0])
    pair.network.run(until=record.is_done)
    eq((record.error, record.response.message.payload), (None, b"secret"))


def test_promised_responses_when_they_are_many_then_what_was_answered_is_forgotten():
    """Oscore._hold: at the latest when the next request comes."""
    pair = Pair()
    held = promise(pair, payload=b"late")
    for n in range(30):
        record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
        pair.network.run(until=lambda before=n: len(held) > before)
        pair.server.send(held[n])
        pair.network.run(until=record.is_done)
        eq(record.response.message.payload, b"late")
        assert len(pair.at_server._exchanges) <= 1


def test_token_of_a_promise_when_used_again_then_refused():
    """Tokens are not protected: a promised response must not leave as the answer to another request."""
    pair = Pair()
    held = []

    def answer_later(request, response):
        held.append(response.copy(payload=b"secret"))
        return coap.LATER

    pair.server.resources[-1].get(answer_later)
    pair.server.resource("open").get(answer_later)
    Observer(pair.server)
    pair.receive(pair.protected(token=b"tk"), 1)
    eq(refused_with(pair.receive(fake.packet(coap.GET, 2, uri_path=("open",)))), (coap.BAD_REQUEST, b"Token in use"))
    again = pair.protected(coap.POST, token=b"tk", observe=0)
    eq(refused_with(pair.receive(again, 3)), (coap.BAD_REQUEST, b"Token in use"))
    eq((len(held), len(pair.server._pending)), (1, 1))
    pair.server.send(held[0])
    reply = coap.Message.decode(fake.due(pair.server, 0)[0])
    eq((outer_of(reply), b"secret" in reply.payload), ((coap.CHANGED, [9]), False))
    eq(pair.receive(again, 4).opt.oscore, b"")


def test_application_without_resources_when_it_responds_then_protected():
    """ReceptionRecord.respond, after other requests have come."""
    pair = Pair()
    pair.server = fake.engine()
    coap_oscore.attach(pair.server, [coap_oscore_keys.context(SECRET, b"s", b"c")], Memory())
    first = pair.protected(payload=b"1")
    pair.server.receive(first, CLIENT, 0)
    reception = pair.server.received
    pair.server.receive(pair.protected(), CLIENT, 0)
    eq(reception.message.payload, b"1")
    reception.respond(coap.CONTENT, b"secret")
    reply = coap.Message.decode(fake.due(pair.server, 0)[0])
    eq(outer_of(reply), (coap.CHANGED, [9]))
    eq(b"secret" in reply.payload, False)


def test_no_response_when_inside_then_the_inner_code_decides():
    """RFC 8613 section 4.1.3.6."""
    cases = (2, "temp", False), (2, "none", True), (8, "temp", True), (8, "none", False)
    for no_response, path, is_answered in cases:
        pair = Pair()
        reply = pair.receive(pair.protected(path=(path,), no_response=no_response))
        eq(reply is not None, is_answered, (no_response, path))


def test_no_response_when_outside_then_ignored():
    """RFC 8613 section 4.1.3.6: the server ignores the outer one."""
    pair = Pair()
    message = coap.Message.decode(pair.protected())
    message.add_option(258, 26)
    eq(pair.receive(message.encode()).code, coap.CHANGED)
    message.mid += 1
    eq(refused_with(pair.receive(message.encode())), (coap.UNAUTHORIZED, REPLAYED))
    restarted = Pair(server_number=500)
    eq(restarted.receive(message.encode()).opt.oscore is None, False)  # a challenge


def test_request_that_wants_no_response_when_sent_then_protected():
    """RFC 8613 section 4.1.3.6."""
    pair = Pair()
    pair.client.send(coap.Message(coap.PUT, uri_path=("temp",), payload=b"secret", no_response=26), SERVER)
    pair.network.run()
    eq(pair.calls, [b"secret"])
    eq(outer_of(pair.sent(CLIENT)[0]), (coap.POST, [9]))


def test_response_when_too_large_then_protected_500():
    """What does not fit is no reason to send in the clear."""
    pair = Pair()
    pair.server.resources[-1](lambda request, response: bytes(1120))
    record = pair.ask()
    eq((record.error, record.response.message.code), (None, coap.INTERNAL_SERVER_ERROR))


def test_response_with_proxy_uri_when_it_cannot_be_protected_then_500_and_nothing_in_the_clear():
    """RFC 8613 section 4.1.3.3: what a handler returned by mistake."""
    pair = Pair()
    pair.server.resources[-1](lambda request, response: response.add_option(35, b"coap://a") and None)
    reply = pair.receive(pair.protected())
    eq((reply.code, reply.options, reply.payload), (coap.INTERNAL_SERVER_ERROR, (), b""))


def test_discovery_when_the_links_are_many_then_as_many_as_fit_protected():
    """RFC 8613 section 5 and RFC 6690: the list leaves room for what protection adds, whatever its links."""
    for title_len in range(0, 40, 3):
        pair = Pair()
        for k in range(60):
            pair.server.resource("sensors/number%02d" % k, title="t" * title_len).get(pair.handle)
        answer = pair.ask(path=(".well-known", "core")).response.message
        eq((answer.code, len(answer.payload) > 950), (coap.CONTENT, True), title_len)


def test_request_with_oscore_or_proxy_uri_when_sent_then_value_error():
    """RFC 8613 section 4.1.3.7: no nesting; section 4.1.3.3."""
    pair = Pair()
    raises(ValueError, pair.client.send, coap.Message(coap.GET, oscore=b""), SERVER, contains="Proxy-Scheme")
    raises(ValueError, pair.client.send, coap.Message(coap.GET, proxy_uri="coap://a/b"), SERVER)


def test_acknowledgement_when_lost_then_the_retransmission_gets_the_same_answer():
    """RFC 7252 section 4.5: the message layer's duplicates are no replays."""
    for length in (6, 200):
        pair = Pair()
        pair.server.resources[-1](lambda request, response, length=length: bytes(length))
        pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
        datagram = fake.due(pair.client, 0)[0]
        first = bytes(pair.server.receive(datagram, CLIENT, 0))
        for _ in range(20):
            pair.receive(pair.protected())
        eq(bytes(pair.server.receive(datagram, CLIENT, 3000)), first)


# ---- what is refused ----


def test_replay_when_received_then_401():
    """RFC 8613 section 7.4."""
    pair = Pair()
    datagram = pair.protected()
    eq(pair.receive(datagram, 1).code, coap.CHANGED)
    eq(refused_with(pair.receive(datagram, 2)), (coap.UNAUTHORIZED, REPLAYED))
    eq(refused_with(pair.receive(datagram, 3, "elsewhere")), (coap.UNAUTHORIZED, REPLAYED))
    eq(len(pair.calls), 1)


def test_reordered_requests_when_within_the_window_then_accepted_once():
    """RFC 8613 section 3.2.2: a window of 32."""
    pair = Pair()
    datagrams = [pair.protected(payload=b"%d" % k) for k in range(40)]
    order = [39, 8, 20, 7, 38, 20, 39, 8, 9, 0]
    codes = [pair.receive(datagrams[order[k]], 1000 + k).code for k in range(len(order))]
    eq([code == coap.CHANGED for code in codes], [True, True, True, False, True, False, False, False, True, False])
    eq(pair.calls, [b"39", b"8", b"20", b"38", b"9"])


def test_replay_window_when_a_far_number_comes_then_older_ones_are_refused():
    """RFC 8613 section 7.4, the arithmetic of the window."""
    context = coap_oscore_keys.context(SECRET, b"s", b"c")
    context.highest = -1
    new = 0, 31, 1, 32, 2, 1 << 39, (1 << 39) - 31
    old = {0: 0, 31: 0, 32: 1, 1 << 39: 32, (1 << 39) - 31: (1 << 39) - 32}
    for number in new:
        eq(context.is_replay(number), False, number)
        context.accept(number)
        eq(context.is_replay(number), True, number)
        eq(context.is_replay(old.get(number, 0)), True, number)


def test_tampered_request_when_received_then_400_and_the_genuine_one_is_accepted():
    """RFC 8613 section 8.2 step 6."""
    pair = Pair()
    datagram = pair.protected()
    forged = datagram[:-1] + bytes((datagram[-1] ^ 1,))
    eq(refused_with(pair.receive(forged, 1)), (coap.BAD_REQUEST, FORGED))
    eq(refused_with(pair.receive(datagram[:-9], 2)), (coap.BAD_REQUEST, FORGED))
    eq(pair.calls, [])
    eq(pair.receive(datagram, 3).code, coap.CHANGED)


def test_option_when_malformed_then_402():
    """RFC 8613 section 6.1."""
    pair = Pair()
    datagram = pair.protected()
    values = [b"", b"\x29\0c", b"\x49\0c", b"\x89\0c", b"\x0e\0\0\0\0\0\0c", b"\x0f\0\0\0\0\0\0\0c", b"\x0a\0"]
    values += [b"\x01\0c", b"\x01\0", b"\x08c", b"\x00", b"\x19\0", b"\x19\0\5c", b"\x19\0\2c", b"\x1d\0\0\0"]
    values += [bytes(256)]
    for k in range(len(values)):
        message = coap.Message.decode(with_option(datagram, values[k]))
        message.mtype = coap.CON
        reply = pair.receive(message.encode(), 100 + k)
        if len(values[k]) < 256:  # longer, it is no OSCORE option
            eq(refused_with(reply), (coap.BAD_OPTION, UNDECODABLE), values[k])
        eq(reply.code, coap.BAD_OPTION)
    eq(pair.receive(with_option(datagram, b""), 200).mtype, coap.RST)  # RFC 7252 section 5.4.1: a NON
    eq(pair.receive(datagram, 201).code, coap.CHANGED)


def test_unknown_context_when_named_then_401():
    """RFC 8613 section 8.2 step 2."""
    pair = Pair()
    datagram = pair.protected()
    for k, value in enumerate((b"\x09\0d", b"\x09\0", b"\x09\0longer than", b"\x19\0\1xc")):
        eq(refused_with(pair.receive(with_option(datagram, value), 100 + k)), (coap.UNAUTHORIZED, NOT_FOUND))
    eq(pair.receive(datagram, 201).code, coap.CHANGED)


def test_contexts_with_the_same_recipient_id_when_asked_then_each_is_tried():
    """RFC 8613 section 3.3: without kid context."""
    pair = Pair()
    other = coap_oscore_keys.context(SECRET, b"s", b"c", id_context=b"x")
    pair.at_server.contexts.insert(0, other)
    other.highest = -1
    datagram = pair.protected()
    eq(pair.receive(datagram, 1).code, coap.CHANGED)
    for mid in (2, 3):
        eq(refused_with(pair.receive(datagram, mid)), (coap.UNAUTHORIZED, REPLAYED))
        eq(pair.receive(pair.protected(), 10 + mid).code, coap.CHANGED)
        pair.at_server.contexts.reverse()
    eq(len(pair.calls), 3)
    eq(pair.ask().response.message.payload, b"22.5 C")
    pair.at_client.contexts.clear()
    pair.at_client._servers.clear()
    pair.at_client.add(coap_oscore_keys.context(SECRET, b"c", b"s", id_context=b"x", server=SERVER))
    eq(pair.ask().response.message.payload, b"22.5 C")
    eq(pair.sent(CLIENT)[-1].opt.oscore, b"\x19\4\1xc")


def test_contexts_when_their_keys_or_servers_are_the_same_then_value_error():
    """RFC 8613 section 3.3: a nonce would come twice, a request be accepted twice."""
    pair = Pair()
    for make in (
        lambda: coap_oscore_keys.context(SECRET, b"s", b"c"),
        lambda: coap_oscore_keys.context(SECRET, b"c", b"x"),
        lambda: coap_oscore_keys.context(SECRET, b"x", b"s"),
    ):
        raises(ValueError, pair.at_server.add, make(), contains="these keys")
    other = coap_oscore_keys.context(SECRET, b"1", b"2", server=SERVER)
    raises(ValueError, pair.at_client.add, other, contains="this server")


def test_too_large_datagram_when_it_has_the_token_of_a_promise_then_that_is_not_answered():
    """A forged datagram must not be answered as if it were the protected request."""
    pair = Pair()
    pair.server.resources[-1](lambda request, response: coap.LATER)
    datagram = pair.protected(token=b"tk")
    pair.receive(datagram)
    for server in (pair, Pair()):  # the other has received nothing before
        reply = server.receive(datagram[:1] + b"\2\0\5tk\xff" + bytes(1200))
        eq((reply.code, reply.options), (coap.REQUEST_ENTITY_TOO_LARGE, ((60, 1120),)))  # Size1: 32 less


def test_code_inside_when_no_request_then_refused():
    """RFC 8613 section 4.2: a response or an empty code as request."""
    pair = Pair()
    context = pair.at_client.contexts[0]
    for number, plaintext in ((0, b"\0"), (1, b"\x45"), (2, b"\x01\xff"), (3, b"\x01\x90"), (4, b"\x1f")):
        piv = bytes((number,))
        aad = coap_oscore._aad(b"c", piv)
        sealed = coap_oscore._seal(context.sender_key, context.sender_nonce(number), aad, plaintext)
        reply = pair.receive(fake.packet(coap.POST, 100 + number, oscore=b"\x09" + piv + b"c", payload=sealed))
        eq(reply.opt.oscore, b"" if number == 4 else None)
    eq(pair.calls, [])


# ---- what a client refuses ----


def test_unprotected_error_when_received_then_unprotected_is_raised():
    """RFC 8613 section 8.2: the server's OSCORE errors are not protected."""
    for kid, answer in ((b"x", (coap.UNAUTHORIZED, NOT_FOUND)), (b"c", (coap.BAD_REQUEST, FORGED))):
        pair = Pair()
        pair.at_server.contexts.clear()
        pair.at_server.add(coap_oscore_keys.context(SECRET, b"s", kid, salt=b"another"))
        record = pair.ask()
        eq(record.error, coap_oscore.Unprotected)
        eq((record.response.message.code, record.response.message.payload), answer)
        eq(record.unprotected.payload, answer[1])


def test_server_without_oscore_when_asked_then_402():
    """RFC 7252 section 5.4.1: the OSCORE option is critical."""
    pair = Pair()
    pair.network.engines[SERVER] = plain = fake.engine()
    plain.resource("temp")(lambda request, response: b"open")
    record = pair.ask()
    eq((record.error, record.response.message.code), (coap_oscore.Unprotected, coap.BAD_OPTION))


def test_unprotected_content_when_received_then_not_delivered():
    """An answer in the clear is no answer to a protected request."""
    pair = Pair()
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
    mid = fake.head(fake.due(pair.client, 0)[0])[2]
    reply = fake.packet(coap.CONTENT, mid, coap.ACK, record.token, payload=b"forged")
    pair.client.receive(reply, SERVER, 0)
    eq((record.error, record.response, pair.client.received), (coap_oscore.Unprotected, None, None))
    eq(record.unprotected.payload, b"forged")


def test_protected_response_when_the_request_was_not_then_rejected():
    """A response with OSCORE to a request without."""
    pair = Pair()
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), "elsewhere")
    mid = fake.head(fake.due(pair.client, 0)[0])[2]
    reply = fake.packet(coap.CHANGED, mid, coap.ACK, record.token, oscore=b"", payload=b"x" * 20)
    pair.client.receive(reply, "elsewhere", 0)
    eq((record.error, record.response), (coap.Rejected, None))


def test_tampered_response_when_received_then_dropped_and_the_genuine_one_is_accepted():
    """RFC 8613 section 8.4 step 8."""
    pair = Pair()
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
    reply = bytes(pair.server.receive(fake.due(pair.client, 0)[0], CLIENT, 0))
    for k in range(8 * 12 + 16, 8 * len(reply)):
        forged = bytearray(reply)
        forged[k >> 3] ^= 1 << (k & 7)
        pair.client.receive(bytes(forged), SERVER, 0)
        eq((record.is_done(), pair.client.received), (False, None), k)
    pair.client.receive(reply, SERVER, 0)
    eq(record.response.message.payload, b"22.5 C")


def test_response_when_its_option_is_malformed_then_dropped_and_the_genuine_one_is_accepted():
    """RFC 8613 sections 6.1 and 8.4."""
    pair = Pair()
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
    reply = bytes(pair.server.receive(fake.due(pair.client, 0)[0], CLIENT, 0))
    for value in (b"\xff", b"\x20", b"\x06\0\0\0\0\0\0", b"\x01", b"\x10"):
        pair.client.receive(with_option(reply, value), SERVER, 0)
        eq((record.is_done(), pair.client.received), (False, None), value)
    pair.client.receive(reply, SERVER, 0)
    eq(record.response.message.payload, b"22.5 C")


def test_response_when_there_was_no_memory_for_it_then_accepted_when_it_comes_again():
    """RFC 8613 section 7.4.1 is for notifications: any other response belongs to one request."""

    class Hungry:
        rank = 30
        understood = 0
        fails = 2

        def incoming(self, record, message):
            self.fails -= 1
            if self.fails >= 0:
                raise MemoryError

    for server_number in (0, 500):  # a response without Partial IV, and one with
        pair = Pair(server_number=server_number)
        pair.client.attach(Hungry())
        record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",)), SERVER)
        reply = bytes(pair.server.receive(fake.due(pair.client, 0)[0], CLIENT, 0))
        for _ in range(2):
            raises(MemoryError, pair.client.receive, reply, SERVER, 0)
        pair.client.receive(reply, SERVER, 0)
        code = coap.UNAUTHORIZED if server_number else coap.CONTENT
        eq((record.error, record.response and record.response.message.code), (None, code))


def test_response_to_another_request_when_received_then_dropped():
    """RFC 8613 section 7.1: a response is bound to its request."""
    pair = Pair()
    first = pair.client.send(coap.Message(coap.GET, uri_path=("temp",), token=b"1"), SERVER)
    reply = bytes(pair.server.receive(fake.due(pair.client, 0)[0], CLIENT, 0))
    first.cancel()
    second = pair.client.send(coap.Message(coap.GET, uri_path=("temp",), token=b"1"), SERVER)
    mid = fake.due(pair.client, 0)[0][2:4]
    pair.client.receive(reply[:2] + mid + reply[4:], SERVER, 0)
    eq((second.is_done(), pair.client.received), (False, None))


def test_critical_option_inside_when_unknown_then_rejected_or_402():
    """RFC 7252 section 5.4.1, of what is inside."""
    pair = Pair()
    eq(pair.ask(path=("temp",), proxy_scheme=None).error, None)
    message = coap.Message(coap.GET, uri_path=("temp",)).add_option(2049, b"")
    record = pair.client.send(message, SERVER)
    pair.network.run(until=record.is_done)
    eq((record.error, record.response.message.code), (None, coap.BAD_OPTION))
    pair.server.resources[-1](lambda request, response: response.add_option(2049, b"") and None)
    eq(pair.ask().error, coap.Rejected)


# ---- after a restart ----


def test_server_when_restarted_then_accepts_only_what_repeats_its_echo():
    """RFC 8613 Appendix B.1.2."""
    pair = Pair()
    old = pair.protected(payload=b"old")
    pair = Pair(client_number=1000, server_number=500)
    reply = pair.receive(old, 1)
    eq(outer_of(reply), (coap.CHANGED, [9]))
    number = pair.at_server.sequence.next - 1
    eq(reply.opt.oscore, b"\2" + number.to_bytes(2, "big"))
    first = pair.ask(payload=b"1").response.message
    eq((first.code, first.payload, [option for option, _ in first.options]), (coap.UNAUTHORIZED, b"", [252]))
    eq(pair.ask(payload=b"2", echo=b"12345678").response.message.code, coap.UNAUTHORIZED)
    skipped = pair.protected(payload=b"skipped")
    eq(pair.calls, [])
    seen = []
    pair.server.resources[-1](lambda request, response: seen.append((request.payload, request.opt.echo)))
    eq(pair.ask(payload=b"3", echo=first.opt.echo).response.message.code, coap.CONTENT)
    eq(refused_with(pair.receive(old, 2)), (coap.UNAUTHORIZED, REPLAYED))
    eq(refused_with(pair.receive(skipped, 3)), (coap.UNAUTHORIZED, REPLAYED))
    eq(pair.ask(payload=b"4").response.message.code, coap.CONTENT)
    eq(pair.ask(payload=b"5", echo=first.opt.echo).response.message.code, coap.CONTENT)
    eq(seen, [(b"3", None), (b"4", None), (b"5", None)])


def test_challenge_when_another_context_has_the_same_recipient_id_then_made_with_the_right_one():
    """RFC 8613 section 3.3 and Appendix B.1.2."""
    pair = Pair(server_number=500)
    pair.at_server.add(coap_oscore_keys.context(SECRET, b"s", b"c", id_context=b"x"))
    for _ in range(2):
        answer = pair.ask().response.message
        eq((answer.code, len(answer.opt.echo)), (coap.UNAUTHORIZED, 8))
        pair.at_server.contexts.reverse()


def test_context_when_added_with_fresh_keys_after_a_restart_then_asked_for_no_echo():
    """Oscore.add: is_new."""
    for is_new, highest in ((True, -1), (False, None)):
        pair = Pair(server_number=500)
        context = coap_oscore_keys.context(SECRET, b"s", b"x")
        pair.at_server.contexts.clear()
        eq(pair.at_server.add(context, is_new) is context, True)
        eq(context.highest, highest)


def test_challenge_when_asked_twice_then_each_has_a_number_of_its_own():
    """RFC 8613 Appendix B.1.2: the request's nonce may have been used before the restart."""
    pair = Pair(server_number=500)
    datagram = pair.protected()
    replies = [pair.receive(datagram, mid) for mid in (1, 2, 3)]
    eq(len({reply.opt.oscore for reply in replies}), 3)
    eq(len({reply.payload for reply in replies}), 3)


def test_old_store_when_put_back_then_the_peer_refuses():
    """A sequence store that was copied and put back: what it makes us send is a replay to the peer."""
    pair = Pair()
    for _ in range(5):
        pair.ask()
    number = pair.at_client.sequence.next
    pair.at_client.sequence = coap_oscore.Sequence(Memory(0))
    record = pair.ask()
    eq((record.error, record.response.message.payload), (coap_oscore.Unprotected, REPLAYED))
    pair.at_client.sequence.next = number
    eq(pair.ask().error, None)


def test_numbers_when_used_up_then_refused():
    """RFC 8613 section 7.2.1."""
    pair = Pair()
    pair.at_client.sequence.next = (1 << 40) - 1
    eq(pair.ask().response.message.payload, b"22.5 C")
    raises(coap_oscore.Exhausted, pair.client.send, coap.Message(coap.GET), SERVER)
    eq(pair.stores[1].number, (1 << 40) - 1)
    raises(coap_oscore.Exhausted, coap_oscore.Sequence(Memory((1 << 40) - 1)).take)


def test_store_when_it_fails_then_nothing_is_sent():
    """RFC 8613 Appendix B.1.1: a number that is not stored is not used."""
    pair = Pair(server_number=500)
    pair.stores[0].fails = pair.stores[1].fails = True
    pair.at_client.sequence.next = pair.at_client.sequence.limit
    raises(coap_oscore.Exhausted, pair.client.send, coap.Message(coap.GET), SERVER, contains="flash full")
    pair.stores[1].fails = False
    reply = pair.receive(pair.protected(), 1)
    eq((reply.code, reply.options, reply.payload), (coap.INTERNAL_SERVER_ERROR, (), b""))


# ---- observation ----


class Observer:
    """The least of an extension for observations, at both sides."""

    rank = 40
    understood = 0

    def __init__(self, engine):
        self.engine = engine
        self.observed = []  # (datagram, peer, token)
        self.orders = []
        engine.attach(self)
        engine.observing = self

    def response(self, request, response):
        if request is not None and request.opt.observe == 0 and response.code == coap.CONTENT:
            self.observed.append((request.packet[0], request.remote, request.token))
            response.opt.observe = 5

    def notify(self):
        """Send a notification to each."""
        for datagram, peer, token in self.observed:
            response = self.engine.render(datagram, peer).copy()
            response.token = token
            response.opt.observe = 6
            self.engine.extend(None, response)
            self.engine.enqueue(response, peer, coap.NON, token, None)

    def holds(self, peer, token):
        return (peer, token) in [(entry[1], entry[2]) for entry in self.observed]

    def incoming(self, record, message):
        if message.opt.observe is None:
            return None
        self.orders.append(message.opt.observe)
        record.park()
        self.engine.deliver(record, message, None)
        return coap.CONSUMED


def observing_pair():
    """A Pair with an observation; returns it, the two Observers and the client's record."""
    pair = Pair()
    at_server, at_client = Observer(pair.server), Observer(pair.client)
    record = pair.client.send(coap.Message(coap.GET, uri_path=("temp",), observe=0), SERVER)
    pair.network.run(10000)
    return pair, at_server, at_client, record


def test_notifications_when_protected_then_each_has_a_number_and_their_order():
    """RFC 8613 sections 4.1.3.5 and 8.3.1."""
    pair, at_server, at_client, record = observing_pair()
    for k in range(3):
        pair.server.resources[-1](lambda request, response, k=k: b"state %d" % k)
        at_server.notify()
        pair.network.run(10000)
    eq(outer_of(pair.sent(CLIENT)[0]), (coap.FETCH, [6, 9]))
    eq([outer_of(message) for message in pair.sent(SERVER)], [(coap.CONTENT, [6, 9])] * 4)
    eq([message.opt.oscore for message in pair.sent(SERVER)], [b"", b"\1\0", b"\1\1", b"\1\2"])
    eq(at_client.orders, [1, 2, 3, 4])
    context = pair.at_client.contexts[0]
    sealed = pair.sent(SERVER)[1].payload
    inside = coap_oscore._open(context.recipient_key, context.recipient_nonce(0), coap_oscore._aad(b"c", b"\0"), sealed)
    eq(bytes(inside[:2]), b"\x45\x60")  # Observe inside is empty
    eq(record.response.message.payload, b"state 2")
    eq([b"state" in item[2] for item in pair.wire], [False] * len(pair.wire))


def test_notification_when_replayed_or_late_then_dropped():
    """RFC 8613 section 7.4.1."""
    pair, at_server, at_client, _ = observing_pair()
    for _ in range(2):
        at_server.notify()
        pair.network.run(10000)
    datagrams = [item[2] for item in pair.wire if item[0] == SERVER]
    eq(at_client.orders, [1, 2, 3])
    for k in (0, 1, 2):
        datagram = b"\x58\x45\x77" + bytes((k,)) + datagrams[k][4:]
        pair.client.receive(datagram, SERVER, pair.network.now_ms)
        eq(pair.client.received, None)
    forged = b"\x58\x45\x77\x09" + datagrams[2][4:12] + b"\xffopen"
    pair.client.receive(forged, SERVER, pair.network.now_ms)
    eq((pair.client.received, at_client.orders), (None, [1, 2, 3]))
    at_server.notify()
    pair.network.run(10000)
    eq(at_client.orders, [1, 2, 3, 4])


def test_observe_in_a_response_when_not_asked_for_then_dropped():
    """RFC 8613 section 4.1.3.5.2."""
    pair = Pair()

    def observed(request, response):
        response.opt.observe = 3

    pair.server.resources[-1](observed)
    eq(pair.ask().error, coap.Timeout)


def test_observations_when_there_are_too_many_then_answered_once():
    """The table of exchanges is bounded; entries of ended observations make room."""
    pair = Pair()
    at_server = Observer(pair.server)
    replies = []
    for k in range(20):
        replies.append(pair.receive(pair.protected(observe=0, token=bytes((k,))), k))
    eq([reply.code == coap.CONTENT for reply in replies], [True] * 12 + [False] * 8)
    eq(len(pair.at_server._exchanges), 12)
    at_server.observed.clear()
    eq(pair.receive(pair.protected(observe=0), 30).code, coap.CONTENT)
    eq(len(pair.at_server._exchanges), 1)


def test_observation_when_registered_again_with_its_token_then_one_entry():
    """RFC 7641 section 4.1."""
    pair = Pair()
    Observer(pair.server)
    for k in range(5):
        pair.receive(pair.protected(observe=0, token=b"same"), k)
    eq(len(pair.at_server._exchanges), 1)


def test_observations_when_two_peers_chose_the_same_token_then_each_is_notified_protected():
    """RFC 7252 section 5.3.1: a token is of one peer."""
    pair = Pair()
    at_server = Observer(pair.server)
    for mid, peer in ((1, CLIENT), (2, "elsewhere")):
        pair.receive(pair.protected(observe=0, token=b"same"), mid, peer)
    at_server.notify()
    sent = fake.due(pair.server, pair.network.now_ms)
    eq([outer_of(coap.Message.decode(datagram)) for datagram in sent], [(coap.CONTENT, [6, 9])] * 2)


def test_token_of_an_observation_when_the_application_notifies_by_itself_then_refused():
    """Tokens are not protected: without coap_observe nobody says that an observation has ended."""
    pair = Pair()

    def observed(request, response):
        response.opt.observe = 3

    pair.server.resources[-1](observed)
    pair.receive(pair.protected(observe=0, token=b"tk"), 1)
    reply = pair.receive(fake.packet(coap.GET, 2, token=b"tk", uri_path=("temp",)))
    eq(refused_with(reply), (coap.BAD_REQUEST, b"Token in use"))
