"""coap_dtls: coaps with pre-shared keys, many peers over one UDP socket; tls is played, see fake_dtls."""

import sys

import coap
import coap_dtls
import coap_observe
import fake_dtls
from check import Skip, eq, raises
from fake_dtls import Net, hello

KEY = b"0123456789abcdef"
SERVER = ("192.0.2.1", 5684)
CLIENT = ("192.0.2.2", 40000)
URI = "coaps://192.0.2.1/t"
NO_TLS = "coaps needs MicroPython 1.29"


def serve(net, keys=None, **arguments):
    """A server with the resource "t", whose answer is who asked."""
    endpoint = net.endpoint(SERVER, keys=keys or {"sensor": KEY, "pump": b"other"}, **arguments)
    endpoint.asked = []

    def read(request, response):
        endpoint.asked.append(request.remote)
        return endpoint.socket.identity(request.remote)

    endpoint.resource("t", secure=True).get(read)
    return endpoint


def ask(net, address=CLIENT, identity="sensor", key=KEY, **arguments):
    """A client that knows one key."""
    return net.endpoint(address, psk_identity=identity, psk_key=key, **arguments)


def send(endpoint, uri=URI, **fields):
    """A request on its way: resolved here, for the boards look up no names without a network."""
    message = coap.Message(coap.GET, uri=uri, **fields)
    return endpoint.send(message, SERVER)


def get(net, endpoint):
    """Have a request answered; returns the payload, or the error."""
    record = send(endpoint)
    net.run(record.is_done)
    return record.response.message.payload if record.response else record.error


def sessions(endpoint):
    """The addresses of the sessions of an endpoint that are done."""
    return [session.address for session in endpoint.socket._sessions if session.is_open]


def handshakes(endpoint):
    """The addresses of those that are not."""
    return [session.address for session in endpoint.socket._sessions if not session.is_open]


def random(n):
    """32 bytes for a ClientHello."""
    return n.to_bytes(4, "big") * 8


def knock(net, server, address, n=1):
    """Send ClientHellos from `address` as far as the cookie, and then nothing."""
    udp = net.sockets.get(address) or fake_dtls.Udp(net, address)
    udp.sendto(hello(random(n)), SERVER)
    server.socket.recvfrom(1153)
    cookie = udp.inbox.pop()[0][25:]
    udp.sendto(hello(random(n), cookie), SERVER)
    server.socket.recvfrom(1153)
    udp.close()
    net.trace.clear()


# ---- construction ----


def test_transport_when_there_is_no_tls_then_one_sentence():
    """CPython, and firmware without tls."""
    kept = coap_dtls.tls
    coap_dtls.tls = None
    try:
        raises(ValueError, coap_dtls.Transport, keys={"a": KEY}, contains=NO_TLS)
        raises(ValueError, coap_dtls.Transport, psk_identity="a", psk_key=KEY, contains=NO_TLS)
    finally:
        coap_dtls.tls = kept


def test_transport_when_tls_knows_no_shared_keys_then_the_same_sentence():
    """MicroPython 1.25 to 1.28 has DTLS with certificates only, before that none."""

    class Context:
        def __init__(self, protocol):
            pass

    class Older:
        SSLContext = Context

    kept = coap_dtls.tls
    coap_dtls.tls = Older
    try:
        raises(ValueError, coap_dtls.Transport, keys={"a": KEY}, contains=NO_TLS)
        Older.PROTOCOL_DTLS_SERVER = 3
        raises(ValueError, coap_dtls.Transport, keys={"a": KEY}, contains=NO_TLS)
    finally:
        coap_dtls.tls = kept


def test_transport_when_arguments_cannot_be_then_a_sentence_without_the_key():
    """What the caller passes wrongly."""
    with Net():
        for arguments, text in (
            ({}, "keys={identity: key}"),
            ({"psk_identity": "a"}, "psk_key"),
            ({"psk_key": KEY}, "psk_identity"),
            ({"keys": {"a": b""}}, "a key has 1 to 48 bytes, not 0"),
            ({"keys": {"a": b"s" * 49}}, "a key has 1 to 48 bytes, not 49"),
            ({"keys": {"": KEY}}, "an identity"),
            ({"psk_identity": "a", "psk_key": b"s" * 49}, "psk_key has 1 to 48 bytes, not 49"),
            ({"psk_identity": "a" * 129, "psk_key": KEY}, "psk_identity"),
            ({"keys": {"a": KEY}, "sessions": 0}, "sessions"),
            ({"keys": {"a": KEY}, "handshakes": 0}, "handshakes"),
            ({"keys": {"a": KEY}, "handshake_ms": 1}, "handshake_ms"),
            ({"keys": {"a": KEY}, "idle_ms": -1}, "idle_ms"),
        ):
            error = raises(ValueError, coap_dtls.Transport, contains=text, **arguments)
            eq("sss" in str(error) or "0123" in str(error), False, "the key is in the sentence")
        raises(TypeError, coap_dtls.Transport, keys={"a": 5}, contains="a key is bytes or str")
        raises(TypeError, coap_dtls.Transport, keys=["a", KEY], contains="keys is a dict")


def test_transport_when_datagrams_are_longer_than_a_record_then_value_error():
    """mbedTLS sends records of 4096 bytes on a board; a longer write would break the session."""
    with Net() as net:
        transport = coap_dtls.Transport(sock=fake_dtls.Udp(net, SERVER), keys={"a": KEY})
        raises(ValueError, coap.Endpoint, sock=transport, datagram_len=4097, contains="4096")


def test_context_when_made_then_aes_128_without_cbc_and_no_certificates():
    """RFC 7252 section 9.1.3.1: TLS_PSK_WITH_AES_128_CCM_8, or what comes next to it."""
    if coap.socket is None:
        raise Skip("no sockets")
    with Net():
        transport = coap_dtls.Transport(sock=None, keys={"a": KEY}, psk_identity="a", psk_key=KEY)
        for context in (transport._server, transport._client):
            eq(context.ciphers, ["TLS-PSK-WITH-AES-128-GCM-SHA256"])
        eq(transport._client.verify_mode, fake_dtls.CERT_NONE)
        transport.close()


def test_keys_when_shown_or_logged_then_no_key():
    """Key material is neither in a repr nor in the log."""
    with Net() as net:
        server = serve(net)
        client = ask(net, key=b"wrong-key")
        get(net, client)
        said = "%r %r %r %r" % (server.socket, client.socket, server.said, client.said)
        eq([word in said for word in ("0123", "wrong-key")], [False, False])


# ---- requests ----


def test_request_when_the_key_is_known_then_answered_and_the_handler_knows_who():
    """RFC 7252 section 9.1: the resource is secure, and its URI begins with coaps."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        record = send(client)
        net.run(record.is_done)
        eq((record.response.message.code, record.response.message.payload), (coap.CONTENT, b"sensor"))
        eq(record.response.message.get_request_uri(), URI)
        eq([datagram[0] for _, _, datagram in net.trace[-2:]], [23, 23], "types of the last records")
        eq((sessions(server), sessions(client)), ([CLIENT], [SERVER]))
        eq(net.now_ms, 1000, "the clock")


def test_request_when_a_handshake_is_under_way_then_it_waits_once():
    """Up to 4 datagrams wait; a retransmission is not kept twice."""
    with Net() as net:
        serve(net)
        client = ask(net)
        net.lose = lambda datagram: True
        client.socket.sendto(b"\x40\1\0\1", SERVER)
        for n in (1, 2, 3, 4, 5, 6):
            client.socket.sendto(bytearray((0x40, 1, 0, n)), SERVER)
        eq([packed[3] for packed in client.socket._sessions[0].waiting], [1, 2, 3, 4])


def test_request_when_several_wait_for_the_handshake_then_all_go():
    """In one session, in their order."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        for n in (1, 2, 3):
            client.socket.sendto(bytes((0x51, 1, 0, n, n, 0xB1)) + b"t", SERVER)
        net.settle()
        eq(len(server.asked), 3)


def test_response_when_long_then_whole():
    """mbedTLS would give the rest of a record as another."""
    with Net() as net:
        serve(net).resource("long").get(lambda request, response: b"x" * 1100)
        record = send(ask(net), "coaps://192.0.2.1/long")
        net.run(record.is_done)
        eq(record.response.message.payload, b"x" * 1100)


def test_request_when_two_are_on_both_ends_then_each_is_client_and_server():
    """Both roles on one socket, also with the same peer."""
    with Net() as net:
        keys = {"keys": {"sensor": KEY}, "psk_identity": "sensor", "psk_key": KEY}
        ends = [net.endpoint(address, **keys) for address in (SERVER, CLIENT)]
        for endpoint in ends:
            endpoint.resource("t").get(lambda request, response: "hi")
        for _ in range(2):
            records = [
                ends[0].send(coap.Message(coap.GET, uri="coaps://h/t"), CLIENT),
                ends[1].send(coap.Message(coap.GET, uri="coaps://h/t"), SERVER),
            ]
            net.run(lambda: all([record.is_done() for record in records]))  # noqa: B023
            eq([record.response.message.payload for record in records], [b"hi", b"hi"])
        eq([len(sessions(endpoint)) for endpoint in ends], [2, 2])
        eq([endpoint.socket._client.wrapped for endpoint in ends], [1, 1], "handshakes begun")


def test_request_when_it_comes_in_a_session_then_it_can_be_answered_by_a_request():
    """The server asks back in the session of the client."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        client.resource("back").get(lambda request, response: "mine")
        get(net, client)
        record = server.send(coap.Message(coap.GET, uri_path=("back",)), server.asked[0])
        net.run(record.is_done)
        eq(record.response.message.payload, b"mine")


def test_response_when_its_session_has_ended_then_not_sent_and_no_handshake():
    """RFC 7252 section 9.1.1: a response goes in the session of its request, or not at all."""
    with Net() as net:
        server = serve(net, psk_identity="x", psk_key=KEY)
        client = ask(net)
        get(net, client)
        remote = server.asked[0]
        server.socket._end(server.socket._sessions[0])
        sent = len(net.trace)
        for datagram in (b"\x60\x45\0\1", b"\x50\x45\0\1", b"\x40\x45\0\1", b"\x70\0\0\1"):
            raises(OSError, server.socket.sendto, datagram, remote)
            raises(OSError, server.socket.sendto, datagram, CLIENT)
        eq(len(net.trace), sent)


def test_request_when_to_a_group_then_not_sent():
    """RFC 7252 section 8: groups are NoSec."""
    with Net() as net:
        client = ask(net)
        raises(OSError, client.socket.sendto, b"\x50\1\0\1", ("224.0.1.187", 5684))
        eq(net.trace, [])


def test_request_when_the_scheme_is_coap_then_value_error():
    """coap and coaps do not mix, neither in a request nor among the sockets of an endpoint."""
    with Net() as net:
        client = ask(net)
        raises(ValueError, send, client, "coap://192.0.2.1/t", contains="coaps")
        raises(ValueError, client.register_socket, fake_dtls.Udp(net, SERVER), contains="coaps")
        plain = coap.Endpoint(sock=fake_dtls.Udp(net, SERVER))
        raises(ValueError, send, plain, contains="coaps")
        raises(ValueError, plain.register_socket, client.socket, contains="coaps")


def test_endpoint_when_a_host_has_no_port_then_5684():
    """RFC 7252 section 6.2: the default port of coaps."""
    with Net() as net:
        client = ask(net)
        looked_up = []
        client._look_up = lambda host, port: looked_up.append((host, port))
        client.resolve("192.0.2.9")
        client.resolve("192.0.2.9:1234")
        eq(looked_up, [("192.0.2.9", 5684), ("192.0.2.9", 1234)])


def test_endpoint_when_secure_then_peers_are_verified_and_links_promise_no_oscore():
    """The cookie has proved the address (RFC 6347 section 4.2.1); ;osc is for OSCORE (RFC 8613 section 9)."""
    with Net() as net:
        server = serve(net)
        eq(server.is_verified(CLIENT), True)
        eq("osc" in server.resources[-1].link, False)


# ---- failures ----


def test_handshake_when_the_key_differs_then_refused_at_once():
    """The server sends decrypt_error; the log says why on both ends, without the key."""
    with Net() as net:
        server = serve(net)
        client = ask(net, key=b"wrong")
        eq(get(net, client), coap_dtls.Refused)
        eq(net.now_ms, 1000)
        eq(client.said, [("handshake failed, the peer refused", SERVER)])
        eq(server.said, [("handshake failed, its key differs", CLIENT)])
        eq((server.socket._sessions, client.socket._sessions), ([], []))


def test_handshake_when_the_identity_is_unknown_then_refused_at_once():
    """RFC 4279 section 2: unknown_psk_identity."""
    with Net() as net:
        server = serve(net)
        client = ask(net, identity="nobody")
        eq(get(net, client), coap_dtls.Refused)
        eq(server.said, [("handshake failed, no such identity", CLIENT)])
        raises(coap_dtls.Refused, send_and_raise, net, client)


def send_and_raise(net, endpoint):
    record = send(endpoint)
    net.run(record.is_done)
    if record.error:
        raise record.error(URI)


def test_handshake_when_nobody_answers_then_timeout():
    """The request ends as one without DTLS does, and each attempt after `handshake_ms`."""
    with Net() as net:
        client = ask(net, handshake_ms=5000)
        record = send(client)
        net.run(record.is_done)
        eq(record.error, coap.Timeout)
        eq(client.said[0], ("handshake not answered", SERVER))
        eq(client.socket._sessions, [])


def test_handshake_when_the_peer_is_silent_at_the_end_then_the_log_names_the_key():
    """OpenSSL drops a Finished that it cannot decrypt without a word."""
    with Net() as net:
        serve(net)
        net.lose = lambda datagram: datagram[0] == 20 or datagram[0] == 21
        client = ask(net, key=b"wrong", handshake_ms=3000)
        send(client)
        net.run(lambda: client.said)
        eq(client.said[0], ("handshake not finished, its key may differ", SERVER))


def test_handshake_when_each_flight_is_lost_once_then_it_is_sent_again():
    """RFC 6347 section 4.2.4, driven by next_event_ms."""
    with Net() as net:
        serve(net)
        client = ask(net)
        seen = []

        def lose(datagram):
            kinds = [
                (kind, body[0] if kind == 22 and not epoch else 0)
                for kind, epoch, _, body in fake_dtls.records(datagram)
            ]
            if kinds in seen or datagram[0] == 23:
                return False
            seen.append(kinds)
            return True

        net.lose = lose
        record = send(client)
        begin_ms = net.now_ms
        net.run(record.is_done)
        eq(record.error, None)
        eq(len(seen), 5, "flights lost")
        eq(net.now_ms - begin_ms >= 5000, True, "a second each")


def test_keys_when_an_object_then_it_is_asked_and_may_fail():
    """Keys from elsewhere: str is taken, an exception refuses and is logged."""

    class Keys:
        def get(self, identity):
            if identity == b"bad":
                raise KeyError("bad")
            return {b"sensor": "0123456789abcdef"}.get(identity)

    with Net() as net:
        server = serve(net, keys=Keys())
        eq(get(net, ask(net)), b"sensor")
        eq(get(net, ask(net, ("192.0.2.3", 1), identity="bad")), coap_dtls.Refused)
        eq([text for text, _ in server.said], ["keys.get raised", "handshake failed, no such identity"])


# ---- floods ----


def test_hello_when_without_cookie_then_nothing_is_kept_and_the_answer_is_short():
    """RFC 6347 section 4.2.1: 1,000 senders, no state; a forged one gets no more than was sent in its name."""
    with Net() as net:
        server = serve(net)
        for n in range(1000):
            udp = fake_dtls.Udp(net, ("198.51.100.%d" % (n & 255), n))
            udp.sendto(hello(random(n)), SERVER)
            server.socket.recvfrom(1153)
            source, _, answer = net.trace.pop()
            eq((source, len(answer) <= len(hello(b"0" * 32))), (SERVER, True))
            udp.close()
            net.trace.clear()
        eq((server.socket._sessions, server.said), ([], []))
        eq(get(net, ask(net)), b"sensor")


def test_hello_when_its_cookie_is_another_ones_then_nothing_is_kept():
    """A cookie is good for the address that it was sent to."""
    with Net() as net:
        server = serve(net)
        udp = fake_dtls.Udp(net, CLIENT)
        udp.sendto(hello(random(1)), SERVER)
        server.socket.recvfrom(1153)
        cookie = udp.inbox.pop()[0][25:]
        fake_dtls.Udp(net, ("192.0.2.66", 1)).sendto(hello(random(1), cookie), SERVER)
        server.socket.recvfrom(1153)
        eq(server.socket._sessions, [])


def test_hello_when_it_is_none_then_nothing_is_kept():
    """What begins like a ClientHello, and is cut, or longer than it says: mbedTLS ignores that, and says nothing."""
    with Net() as net:
        server = serve(net)
        whole = hello(random(1), b"12345678")
        for datagram in (whole[:20], whole[:58], whole[:59], whole[:-1], whole[:12] + b"\xff" + whole[13:]):
            net.post(CLIENT, SERVER, datagram)
            server.socket.recvfrom(1153)
            eq(server.socket._sessions, [])
        eq(server.socket._server.wrapped, 3, "those that are long enough to be one cost 24 KB for a moment")


def test_hello_when_it_comes_again_then_answered_again():
    """The server's flight was lost, and the client asks before the server repeats it."""
    with Net() as net:
        server = serve(net)
        net.lose = lambda datagram: datagram[13] == 14
        client = ask(net)
        send(client)
        net.settle()
        eq([datagram[13] for _, _, datagram in net.trace], [1, 3, 1, 14])
        net.post(*net.trace[2])
        server.process(0)
        eq([datagram[13] for _, _, datagram in net.trace[4:]], [1, 14])


def test_handshakes_when_one_address_begins_anew_then_it_has_one():
    """A client that restarted in the middle."""
    with Net() as net:
        server = serve(net)
        for n in range(3):
            knock(net, server, CLIENT, n)
        eq(handshakes(server), [CLIENT])


def test_handshake_when_data_of_an_older_session_comes_then_it_goes_on():
    """A client that restarted waits for the server's Finished while notifications for its predecessor come."""
    with Net() as net:
        serve(net)
        client = ask(net)
        net.lose = lambda datagram: datagram[0] == 20
        record = send(client)
        net.settle()
        net.lose = None
        net.post(SERVER, CLIENT, fake_dtls.record(23, 1, 9, b"of another session"))
        net.run(record.is_done)
        eq((record.error, client.said), (None, []))


def test_handshakes_when_half_open_from_one_host_then_bounded_and_others_get_through():
    """1,000 with a cookie, and then silence: of two places one host takes the second only while it is free."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        for n in range(1000):
            knock(net, server, ("198.51.100.1", n), n)
            eq(len(server.socket._sessions) <= 2, True)
        eq(len(handshakes(server)), 2)
        knock(net, server, ("198.51.100.2", 1))
        for n in range(10):
            knock(net, server, ("198.51.100.1", n), n)
        eq(sorted([host for host, _ in handshakes(server)]), ["198.51.100.1", "198.51.100.2"])
        eq(get(net, client), b"sensor")


def test_handshakes_when_half_open_then_they_expire():
    """After handshake_ms nothing is left, and nothing is due."""
    with Net() as net:
        server = serve(net, handshake_ms=4000)
        knock(net, server, CLIENT)
        eq(server.next_event_ms() <= 250, True)
        net.run(most_ms=4200)
        eq((server.socket._sessions, server.next_event_ms()), ([], None))


def test_handshakes_when_half_open_then_no_session_is_evicted():
    """Who has not proved a key ends no session, not even an idle one."""
    with Net() as net:
        server = serve(net, sessions=1, idle_ms=0)
        client = ask(net)
        get(net, client)
        for n in range(100):
            knock(net, server, ("198.51.100.%d" % n, n), n)
        eq(sessions(server), [CLIENT])


# ---- sessions ----


def test_sessions_when_full_then_the_one_longest_idle_gives_way():
    """Only one that was unused for idle_ms."""
    with Net() as net:
        server = serve(net, keys={"c%d" % n: KEY for n in range(4)}, sessions=2, idle_ms=10000)
        clients = [ask(net, ("192.0.2.%d" % (10 + n), 1), "c%d" % n) for n in range(4)]
        get(net, clients[0])
        net.now_ms += 1000
        get(net, clients[1])
        net.now_ms += 1000
        get(net, clients[0])
        record = send(clients[2])
        net.run(record.is_done, most_ms=3000)
        eq(sessions(server), [("192.0.2.10", 1), ("192.0.2.11", 1)])
        eq(server.said[0], ("no room for a session", ("192.0.2.12", 1)))
        record.cancel()
        net.now_ms += 10000
        eq(get(net, clients[3]), b"c3")
        eq(sessions(server), [("192.0.2.10", 1), ("192.0.2.13", 1)])


def test_sessions_when_full_then_an_older_one_of_the_same_identity_gives_way():
    """A device that has forgotten its session, and comes from another port, needs not wait for idle_ms."""
    with Net() as net:
        server = serve(net, keys={"a": KEY, "b": KEY}, sessions=2)
        for address, identity in ((("192.0.2.10", 1), "a"), (("192.0.2.11", 1), "b"), (("192.0.2.10", 2), "a")):
            eq(get(net, ask(net, address, identity)), identity.encode())
            net.now_ms += 1000
        eq(sessions(server), [("192.0.2.11", 1), ("192.0.2.10", 2)])


def test_sessions_when_full_of_one_identity_then_its_oldest_gives_way_to_another():
    """Who comes from ever new ports leaves room for others."""
    with Net() as net:
        server = serve(net, keys={"a": KEY, "b": KEY, "c": KEY}, sessions=3)
        for port, identity in ((1, "c"), (2, "a"), (3, "a"), (4, "b")):
            eq(get(net, ask(net, ("192.0.2.10", port), identity)), identity.encode())
            net.now_ms += 1000
        eq([port for _, port in sessions(server)], [1, 3, 4])


def test_sessions_when_a_client_has_all_in_use_then_its_oldest_gives_way():
    """A client of many servers goes on, with a handshake more."""
    with Net() as net:
        client = ask(net, sessions=2)
        net.lose = lambda datagram: True
        for n in range(2):
            client.socket.sendto(b"\x40\1\0\1", ("192.0.2.%d" % (20 + n), 5684))
        raises(OSError, client.socket.sendto, b"\x40\1\0\1", ("192.0.2.30", 5684))  # handshakes of ours do not
        client.socket._sessions[1].is_open = True
        client.socket.sendto(b"\x40\1\0\1", ("192.0.2.30", 5684))
        eq([session.address[0] for session in client.socket._sessions], ["192.0.2.20", "192.0.2.30"])


def test_sessions_when_unused_for_a_day_then_forgotten():
    """Nothing stays for a peer that vanished."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        net.endpoints.remove(client)
        net.now_ms += 86399000
        net.run(most_ms=0)
        eq(sessions(server), [CLIENT])
        net.run(most_ms=1001)
        eq((server.socket._sessions, server.next_event_ms()), ([], None))


def test_session_when_the_peer_closes_it_then_forgotten():
    """RFC 5246 section 7.2.1: close_notify; the next request begins another."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        server.socket._sessions[0].tls.notify()
        net.settle()
        eq((client.socket._sessions, client.said), ([], []))
        client.socket.sendto(b"\x40\0\0\1", SERVER)
        client.socket._sessions[0].tls.notify = None
        eq(get(net, client), b"sensor")


def test_session_when_the_client_vanished_and_comes_back_then_a_new_one_and_the_old_remote_is_gone():
    """RFC 6347 section 4.2.8: same address and port; what was promised in the old session stays there."""
    with Net() as net:
        server = serve(net)
        get(net, ask(net))
        old = server.asked[0]
        net.endpoints.pop()
        eq(get(net, ask(net)), b"sensor")
        eq(sessions(server), [CLIENT])
        eq(server.asked[1] != old, True)
        eq((server.socket.identity(old), server.socket.identity(server.asked[1])), (None, b"sensor"))
        raises(OSError, server.socket.sendto, b"\x50\x45\0\1", old)


def test_session_when_another_hello_has_its_address_then_it_goes_on():
    """RFC 6347 section 4.2.8: forged, without cookie; and with one, but without a key."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        net.post(CLIENT, SERVER, hello(random(1)))
        net.settle()
        eq((handshakes(server), get(net, client)), ([], b"sensor"))
        client.socket.udp.inbox.clear()
        cookie = fake_dtls.hashlib.sha256(str(CLIENT).encode() + b"secret").digest()[:8]
        net.post(CLIENT, SERVER, hello(random(1), cookie))
        net.settle()
        eq((handshakes(server), get(net, client)), ([CLIENT], b"sensor"))
        net.run(most_ms=20000)
        eq((handshakes(server), get(net, client), len(server.asked)), ([], b"sensor", 4))
        eq(server.asked[0], server.asked[3])


def test_session_when_its_own_hello_comes_again_then_ignored():
    """A datagram that the network doubled and delayed."""
    with Net() as net:
        server = serve(net)
        get(net, ask(net))
        hellos = [datagram for _, to, datagram in net.trace if to == SERVER and (datagram[0], datagram[13]) == (22, 1)]
        net.post(CLIENT, SERVER, hellos[-1])
        net.settle()
        eq((len(hellos), handshakes(server), sessions(server)), (2, [], [CLIENT]))


def test_session_when_nothing_comes_back_then_the_next_confirmable_message_begins_anew():
    """A server that has restarted knows no session, and drops our records."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        server.socket._end(server.socket._sessions[0])
        record = send(client)
        begin_ms = net.now_ms
        net.run(record.is_done)
        eq(record.response.message.payload, b"sensor")
        eq(8000 < net.now_ms - begin_ms < 30000, True, "ms")


def test_observation_when_the_server_has_restarted_then_renewed_after_max_age():
    """RFC 7641 section 3.3.1; the server's close_notify, which would tell the client before, does not exist."""
    with Net() as net:
        state = [1]
        client = ask(net)
        coap_observe.attach(client)
        client.resolve = lambda remote: SERVER
        heard = []

        def start():
            server = net.endpoint(SERVER, keys={"sensor": KEY})
            coap_observe.attach(server)
            server.resource("t", obs=True).get(lambda request, response: str(state[0]))
            return server

        server = start()
        observation = coap_observe.observe(client, URI, lambda message: heard.append(message.payload))
        net.run(lambda: heard)
        net.endpoints.remove(server)
        server.close()
        state[0] = 2
        start()
        passed_ms = net.run(lambda: len(heard) > 1)
        eq((heard, observation.is_done()), ([b"1", b"2"], False))
        eq(60000 <= passed_ms < 100000, True, "%d ms" % passed_ms)


def test_session_when_only_non_confirmable_messages_go_then_silence_means_nothing():
    """Nobody answers a sensor that pushes by NON with No-Response."""
    with Net() as net:
        serve(net)
        client = ask(net)
        get(net, client)
        for _ in range(10):
            client.socket.sendto(b"\x50\1\0\1", SERVER)
            net.now_ms += 10000
        eq(sessions(client), [SERVER])


# ---- records ----


def test_records_when_merged_into_a_datagram_then_each_is_a_message():
    """RFC 6347 section 4.1.1: several records in a datagram."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        net.lose = lambda datagram: True
        sent = len(net.trace)
        for n in (1, 2, 3):
            client.socket.sendto(bytes((0x51, 1, 0, n, n, 0xB1)) + b"t", SERVER)
        net.lose = None
        net.post(CLIENT, SERVER, b"".join([datagram for _, _, datagram in net.trace[sent:]]))
        eq(server.socket.recvfrom(1153)[0][3], 1)
        for n in (3, 4):
            eq(server.next_event_ms(), 0)
            server.due(net.now_ms)
            eq(len(server.asked), n - 1)


def test_records_when_replayed_or_cut_then_dropped():
    """RFC 6347 section 4.1.2.6; a record is whole in its datagram, section 4.1.1."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        request = [datagram for _, to, datagram in net.trace if to == SERVER][-1]
        for datagram in (request, request[:20], request[20:], b"", b"\x17", request[:13]):
            net.post(CLIENT, SERVER, datagram)
        net.settle()
        eq((len(server.asked), sessions(server)), (1, [CLIENT]))


def test_records_when_longer_than_a_datagram_may_be_then_dropped():
    """A UDP datagram of 3000 bytes, which is cut when it is received; the session goes on."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        net.post(CLIENT, SERVER, fake_dtls.record(23, 1, 99, server.socket._sessions[0].tls.proof + b"x" * 3000))
        net.settle()
        eq((len(server.asked), get(net, client), sessions(server)), (1, b"sensor", [CLIENT]))


def test_records_when_anything_comes_then_nothing_is_raised():
    """Bytes of chance, from strangers, for a handshake and for a session; the session goes on."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        knock(net, server, ("192.0.2.77", 7))
        seed = fake_dtls.fake.Random(11)
        for n in range(600):
            body = seed.bytes(seed.below(60))
            kind = (20, 21, 22, 23, seed.below(256))[n % 5]
            datagram = fake_dtls.record(kind, (0, 1)[n & 1], n, body) if n % 7 else body
            net.post((CLIENT, ("192.0.2.77", 7), ("203.0.113.1", 9))[n % 3], SERVER, datagram)
            server.socket.recvfrom(1153)
            net.trace.clear()
            client.socket.udp.inbox.clear()
        eq(get(net, client), b"sensor")


def test_records_when_of_epoch_0_then_a_session_does_not_see_them():
    """An alert that anybody can forge ends no session."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        for source, destination in ((CLIENT, SERVER), (SERVER, CLIENT)):
            net.post(source, destination, fake_dtls.record(21, 0, 99, b"\2\x28"))
            net.post(source, destination, fake_dtls.record(21, 0, 99, b"\1\0"))
        net.settle()
        eq((sessions(server), sessions(client)), ([CLIENT], [SERVER]))


# ---- remotes and sockets ----


def test_remote_when_named_then_host_and_port_stay():
    """A tuple, or a sockaddr of the unix port for IPv4 and IPv6; another for each session."""
    v4 = bytes((2, 0, 22, 52, 192, 0, 2, 1)) + bytes(8)
    v6 = bytes((10, 0, 22, 52)) + bytes(4) + bytes(range(16)) + bytes(4)
    for address in (SERVER, v4, v6):
        a, b = coap_dtls._remote(address, 1), coap_dtls._remote(address, 2)
        eq(len({address, a, b}), 3)
        eq(coap._host_and_port(a), coap._host_and_port(address))
        eq(coap._host(a), coap._host(address))


def test_socket_when_an_empty_datagram_made_it_deaf_then_another_is_opened():
    """https://github.com/micropython/micropython-lib/issues/736, on an ESP32 only, at most once a second."""
    if coap.socket is None:
        raise Skip("no sockets")

    class Board:
        platform = "esp32"

    with Net() as net:
        transport = coap_dtls.Transport(keys={"a": KEY})
        opened = []
        transport.udp.close()
        transport.udp = fake_dtls.Udp(net, SERVER)
        transport._open = lambda: opened.append(net.now_ms)
        transport._poller = Poller()
        kept = coap_dtls.sys
        coap_dtls.sys = Board
        try:
            net.post(CLIENT, SERVER, b"")
            transport.recvfrom(100)
            eq((opened, transport.udp), ([1000], None))
            eq(transport.recvfrom(100), None)
            net.now_ms += 500
            transport.tick(net.now_ms)
            eq(len(opened), 1)
            net.now_ms += 500
            transport.tick(net.now_ms)
            eq(len(opened), 2)
        finally:
            coap_dtls.sys = kept
        transport.close()


class Poller:
    def unregister(self, sock):
        pass

    def ipoll(self, timeout_ms):
        return []


def test_poll_when_a_datagram_is_there_then_ready():
    """What select.poll asks on MicroPython; the system's own poll gets the descriptor."""
    if sys.implementation.name == "cpython":
        return  # there it is asked every 10 ms, see coap.Endpoint
    with Net() as net:
        server = serve(net)
        eq((server.socket.ioctl(3, 1), server.socket.ioctl(10, 0) < 0), (0, True))
        net.post(CLIENT, SERVER, b"x")
        eq(server.socket.ioctl(3, 1), 1)


def test_close_when_the_endpoint_closes_then_socket_and_sessions_go():
    """Endpoint.close."""
    with Net() as net:
        server = serve(net)
        get(net, ask(net))
        transport = server.socket
        server.close()
        eq((transport._sessions, transport.udp, SERVER in net.sockets), ([], None, False))
        raises(OSError, transport.sendto, b"\x40\1\0\1", CLIENT)


# ---- no memory, and the end ----


def test_hello_when_memory_is_short_then_an_idle_session_gives_way_for_the_next_try():
    """mbedTLS finds no 24 KB before `sessions` are taken: only what is unused for idle_ms gives way to a stranger."""
    with Net() as net:
        server = serve(net, keys={"a": KEY, "b": KEY, "c": KEY}, idle_ms=10000)
        server.socket._server.open_most = 2
        for host, identity in ((10, "a"), (11, "b")):
            eq(get(net, ask(net, ("192.0.2.%d" % host, 1), identity)), identity.encode())
            net.now_ms += 3000
        record = send(ask(net, ("192.0.2.12", 1), "c"))
        net.run(record.is_done, most_ms=2000)
        eq((sessions(server), server.said), (
            [("192.0.2.10", 1), ("192.0.2.11", 1)],
            [("handshake failed, no memory", ("192.0.2.12", 1))],
        ))  # fmt: skip
        net.run(record.is_done, most_ms=93000)
        eq((record.is_done(), record.error, sessions(server)), (True, None, [("192.0.2.11", 1), ("192.0.2.12", 1)]))


def test_hello_when_memory_is_short_then_no_session_of_our_own_gives_way():
    """Not the one that a request of ours is waiting in."""
    with Net() as net:
        ends = {"psk_identity": "sensor", "psk_key": KEY}
        both = net.endpoint(CLIENT, keys={"sensor": KEY}, **ends)
        serve(net)
        get(net, both)
        both.socket._server.failure = OSError(12)
        net.post(("192.0.2.66", 1), CLIENT, hello(random(1)))
        net.settle()
        eq(sessions(both), [SERVER])


def test_hello_when_memory_is_short_then_who_only_claims_an_identity_ends_no_session():
    """In a handshake whose end never comes; the key is proved by that end."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        knock(net, server, ("192.0.2.66", 1))
        claim = fake_dtls.record(22, 0, 9, fake_dtls.handshake(16, b"sensor"))
        net.post(("192.0.2.66", 1), SERVER, claim)
        net.settle()
        eq([session.identity for session in server.socket._sessions], [b"sensor", b"sensor"])
        server.socket._server.failure = OSError(12)
        net.post(("192.0.2.66", 2), SERVER, hello(random(2)))
        net.settle()
        eq(sessions(server), [CLIENT])


def test_handshake_when_memory_ends_within_it_then_tried_again():
    """A server, and a client, whose request is not refused but goes on; each part of mbedTLS has a code for it."""
    for at in (SERVER, CLIENT):
        for code in (12, -32512, -24960, -20864, -16):
            with Net() as net:
                server = serve(net)
                client = ask(net)
                record = send(client)
                client.process(0)
                server.process(0)
                client.process(0)
                if at == SERVER:
                    server.process(0)
                endpoint = server if at == SERVER else client
                endpoint.socket._sessions[0].tls.failure = OSError(code, "what mbedTLS calls it")
                net.run(record.is_done)
                eq((record.error, endpoint.said[0][0]), (None, "handshake failed, no memory"), code)


def test_handshake_when_the_heap_has_no_room_within_it_then_it_goes_on_when_there_is():
    """MemoryError out of recv or send, for a datagram and at a tick: mbedTLS has not seen anything yet."""
    with Net() as net:
        serve(net)
        client = ask(net)
        record = send(client)
        client.process(0)
        (session,) = client.socket._sessions
        session.tls.failure = MemoryError()
        net.run(record.is_done, most_ms=1500)
        eq(client.socket._sessions, [session])
        session.tls.failure = None
        net.run(record.is_done)
        eq((record.error, client.socket._sessions), (None, [session]))


def test_memory_when_there_is_none_then_nothing_is_raised_and_the_endpoint_lives_on():
    """MemoryError of the heap, and ENOMEM of mbedTLS, wherever they may come from."""
    for failure in (MemoryError(), OSError(12)):
        with Net() as net:
            server = serve(net)
            client = ask(net)
            for context in (client.socket._client, server.socket._server):
                context.failure = failure
                record = send(client)
                net.run(record.is_done, most_ms=500)
                context.failure = None
                net.run(record.is_done)
                eq(record.response.message.payload, b"sensor")
                client.socket._end(client.socket._sessions[0])
                server.socket._end(server.socket._sessions[0])


def test_memory_when_there_is_none_for_a_datagram_of_a_session_then_it_is_lost():
    """It is asked again; the session goes on."""
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        for endpoint in (client, server):
            session = endpoint.socket._sessions[0]
            session.tls.failure = MemoryError()
            record = send(client)
            net.run(record.is_done, most_ms=500)
            session.tls.failure = None
            net.run(record.is_done)
            eq((record.error, endpoint.socket._sessions), (None, [session]))


def test_tls_when_it_raises_any_error_then_the_session_ends_and_nothing_else():
    """Numbers of mbedTLS, of the system, with and without text; the peer is served again in another session."""
    for number in (-1, -76, -80, 5, 110, -32640, -30592, -29312, -26880, -24576):
        with Net() as net:
            server = serve(net)
            client = ask(net)
            get(net, client)
            for endpoint in (client, server):
                for session in endpoint.socket._sessions:
                    session.tls.failure = OSError(number, "text") if number & 256 else OSError(number)
            record = send(client)
            net.run(record.is_done)
            eq((record.error, len(server.asked)), (None, 2), "error %d" % number)


def test_key_when_an_object_returns_none_that_can_be_then_said():
    """tls refuses the handshake; the log says whose fault it is, without the key."""
    for key in (5, b"", b"s" * 49, ["s"]):

        class Keys:
            def get(self, identity):
                return key  # noqa: B023

        with Net() as net:
            server = serve(net, keys=Keys())
            eq(get(net, ask(net)), coap_dtls.Refused)
            text, error = server.said[0]
            eq((text, "ss" in str(error)), ("keys.get returned no key", False))


def test_keys_when_empty_then_value_error():
    """Nobody could be served."""
    with Net():
        raises(ValueError, coap_dtls.Transport, keys={}, contains="keys is empty")


def test_datagram_when_several_messages_are_for_the_application_then_none_is_lost():
    """Records in one datagram, and something to send at the same time."""
    if sys.implementation.name == "cpython":
        return  # there no transport with DTLS can be polled
    with Net() as net:
        server = net.endpoint(SERVER, keys={"sensor": KEY})
        client = ask(net)
        for n in range(5):
            client.socket.sendto(bytes((0x51, 1, 0, n, n, 0xB1)) + b"t", SERVER)
        while client.socket.udp.inbox or server.socket.udp.inbox:
            server.socket.recvfrom(1153)
            client.socket.recvfrom(1153)
        server.socket._messages.clear()
        net.trace.clear()
        net.lose = lambda datagram: True
        for n in range(5):
            client.socket.sendto(bytes((0x51, 1, 1, n, n, 0xB1)) + b"t", SERVER)
        net.lose = None
        net.post(CLIENT, SERVER, b"".join([datagram for _, _, datagram in net.trace]))
        mids = []
        for _ in range(9):
            ours = server.send(coap.Message(coap.GET, mtype=coap.NON), server.socket._sessions[0].remote)
            record = server.process(0)
            ours.cancel()
            if record and record.message.code == coap.GET:
                mids.append(record.mid)
            net.now_ms += 10
        eq(mids, [256, 257, 258, 259, 260])


def test_end_when_the_application_closes_the_endpoint_in_on_end_then_no_exception():
    """A handshake failed, and its session ends while others are looked at."""
    with Net() as net:
        client = ask(net)
        net.lose = lambda datagram: True
        for n in range(3):
            client.send(coap.Message(coap.GET, uri=URI), ("192.0.2.%d" % (20 + n), 5684))
        net.run(most_ms=10)
        eq(len(client.socket._sessions), 3)
        for session in client.socket._sessions:
            session.tls.failure = OSError(-30592)
        client.on_end = lambda record: client.close()
        net.endpoints.clear()
        client.socket.tick(net.now_ms)
        eq(client.socket._sessions, [])


def test_close_when_handshakes_are_open_then_requests_end_and_it_stays_closed():
    """Nothing opens the socket again, whatever is asked of the endpoint later."""
    with Net() as net:
        server = serve(net)
        knock(net, server, CLIENT)
        client = ask(net, ("192.0.2.9", 9))
        net.lose = lambda datagram: True
        record = send(client)
        net.settle()
        net.endpoints.clear()
        for endpoint in (client, server):
            transport = endpoint.socket
            made = [session.tls for session in transport._sessions]
            endpoint.close()
            eq((transport._sessions, [each.state for each in made]), ([], ["closed"]))
            for _ in range(3):
                net.now_ms += 5000
                raises(coap.Closed, endpoint.process, 0)
                transport.tick(net.now_ms)
            eq((transport.udp, transport.next_ms(net.now_ms), transport.recvfrom(9)), (None, None, None))
            endpoint.close()
        eq(record.error, coap.Closed)


def test_socket_when_it_cannot_be_opened_again_then_tried_until_it_can():
    """Whatever else wakes the endpoint meanwhile; a network that is gone comes back."""

    class Board:
        platform = "esp32"

    def refuse():
        refused.append(net.now_ms)
        raise OSError(105)

    refused = []
    with Net() as net:
        server = net.endpoint(SERVER, keys={"a": KEY})
        transport = server.socket
        transport._at, transport._open = (None,), refuse
        transport._poller = Poller()
        kept = coap_dtls.sys
        coap_dtls.sys = Board
        try:
            net.post(CLIENT, SERVER, b"")
            transport.recvfrom(1153)
            for n in range(10):
                server.process(0)
                if n == 1:
                    server.wake(coap.ticks_add(net.now_ms, 400))
                wait_ms = server.next_event_ms()
                eq(wait_ms is not None and wait_ms <= 1000, True, "waits for %r ms" % wait_ms)
                net.now_ms += max(1, wait_ms)
        finally:
            coap_dtls.sys = kept
        eq(len(refused) >= 4, True, "attempts")


def test_ticks_when_they_wrap_then_sessions_live_on():
    """MicroPython's ticks begin anew after 12 days."""
    with Net() as net:
        net.now_ms = coap.ticks_add(0, -2000)
        server = serve(net, idle_ms=1000)
        client = ask(net)
        for _ in range(8):
            eq(get(net, client), b"sensor")
            net.now_ms = coap.ticks_add(net.now_ms, 700)
        eq((sessions(server), sessions(client), len(set(server.asked))), ([CLIENT], [SERVER], 1))


# ---- the endpoint that it belongs to ----


def test_endpoint_when_the_address_is_of_the_other_ip_version_then_oserror():
    """As without DTLS; it was a handshake that nobody answered, and a Timeout."""
    if coap.socket is None:
        raise Skip("no sockets")
    with Net():
        client = coap.Endpoint(sock=coap_dtls.Transport(psk_identity="a", psk_key=KEY))
        raises(OSError, client.send, coap.Message(coap.GET, uri="coaps://[::1]/t"), contains="other IP version")
        client.close()


def test_transport_when_the_port_is_none_then_value_error():
    """MicroPython's getaddrinfo takes 70000 for 4464."""
    with Net():
        raises(ValueError, coap_dtls.Transport, 70000, keys={"a": KEY}, contains="port")


def test_host_when_no_port_is_given_then_a_client_leaves_from_there():
    """As of an Endpoint; it was ignored."""
    if coap.socket is None:
        raise Skip("no sockets")
    with Net():
        for host, is_bound in ("127.0.0.1", True), ("0.0.0.0", False):
            transport = coap_dtls.Transport(host=host, psk_identity="a", psk_key=KEY)
            eq(transport._at[0] is not None, is_bound, host)
            transport.close()


def test_endpoint_when_given_another_transport_of_coaps_then_value_error():
    """Answers leave from one socket, in whose sessions those of another are unknown."""
    with Net() as net:
        server = serve(net)
        other = coap_dtls.Transport(sock=fake_dtls.Udp(net, CLIENT), keys={"a": KEY})
        raises(ValueError, server.register_socket, other, contains="coaps")


def test_socket_when_there_is_no_memory_to_open_it_then_tried_until_there_is():
    """As when the network is gone: what is left is woken."""

    def refuse():
        tried.append(net.now_ms)
        raise MemoryError

    tried = []
    with Net() as net:
        server = net.endpoint(SERVER, keys={"a": KEY})
        transport = server.socket
        transport._at, transport._open, transport._poller = (None,), refuse, Poller()
        transport._reopen()
        for _ in range(9):
            server.due(net.now_ms)
            wait_ms = server.next_event_ms()
            eq(wait_ms is not None and wait_ms <= 1000, True, "waits for %r ms" % wait_ms)
            net.now_ms += max(1, wait_ms)
        eq(len(tried) >= 4, True, "attempts")


def test_records_when_one_is_left_of_a_datagram_that_met_no_memory_then_a_message():
    """A client sends a request behind its Finished; the server answers that at the next tick."""
    with Net() as net:
        server = serve(net)
        knock(net, server, CLIENT)
        udp = fake_dtls.Udp(net, CLIENT)
        proof = fake_dtls.hashlib.sha256(KEY + random(1)).digest()[:8]
        parts = (
            (22, 0, 2, fake_dtls.handshake(16, b"sensor")),
            (20, 0, 3, b"\1"),
            (22, 1, 4, proof),
            (23, 1, 5, proof + b"\x51\1\0\1\1\xb1t"),
        )
        (session,) = server.socket._sessions
        kept = fake_dtls.SSLSocket._repeat_flight

        def fail(self):
            fake_dtls.SSLSocket._repeat_flight = kept
            raise MemoryError

        fake_dtls.SSLSocket._repeat_flight = fail
        try:
            udp.sendto(b"".join([fake_dtls.record(*part) for part in parts]), SERVER)
            net.settle()
        finally:
            fake_dtls.SSLSocket._repeat_flight = kept
        session.tls._repeat_flight()  # mbedTLS sends what is left when it is called next
        net.run(lambda: server.asked, most_ms=3000)
        eq((session.is_open, len(server.asked)), (True, 1))


def test_request_when_the_port_refuses_the_address_then_nothing_of_its_handshake_stays():
    """A tuple on the unix port, a name on an ESP32: TypeError and ValueError through mbedTLS, which has 24 KB."""
    for error in (TypeError("no buffer"), ValueError("no address")):
        with Net() as net:
            client = ask(net)

            def fail(data, address):
                raise error  # noqa: B023

            client.socket.udp.sendto = fail
            send(client)
            client.process(0)
            eq([made.state for made in client.socket._client.made], ["closed"])
            eq((client.socket._sessions, client.said), ([], [("not sent to", SERVER)]))


def test_socket_when_it_has_no_memory_to_send_then_the_datagram_is_lost():
    """Through mbedTLS, which is in the middle of something, nothing is raised."""
    with Net() as net:
        serve(net)
        client = ask(net)
        kept = client.socket.udp.sendto
        left = [2]

        def fail(data, address):
            left[0] -= 1
            if left[0] >= 0:
                raise MemoryError
            return kept(data, address)

        client.socket.udp.sendto = fail
        record = send(client)
        net.run(record.is_done)
        eq((record.error, client.said), (None, []))


def once(method):
    """How often a request is executed while all answers are lost for 10 s: (its error, how often, that of the next)."""
    with Net() as net:
        server = serve(net)
        done = []
        server.resources[-1](lambda request, response: done.append(request.code))
        client = ask(net)
        get(net, client)
        end_ms = net.now_ms + 10000
        net.lose = lambda datagram: net.trace[-1][0] == SERVER and net.now_ms < end_ms
        record = client.send(coap.Message(method, uri=URI), SERVER)
        net.run(record.is_done)
        return record.error, done.count(method)


def test_request_when_it_must_not_be_repeated_then_a_silent_session_is_not_left_for_it():
    """RFC 7252 section 4.5: in another session a server cannot know a POST or PATCH again; a PUT may come twice."""
    eq([once(method) for method in (coap.POST, coap.PATCH)], [(None, 1)] * 2)
    eq(once(coap.PUT)[0], None)
    with Net() as net:
        server = serve(net)
        client = ask(net)
        get(net, client)
        server.socket._end(server.socket._sessions[0])
        record = client.send(coap.Message(coap.POST, uri=URI), SERVER)
        net.run(record.is_done)
        eq(record.error, coap.Timeout, "nobody knows whether it was executed")
        record = client.send(coap.Message(coap.POST, uri=URI), SERVER)
        net.run(record.is_done, most_ms=1000)
        eq(record.error, None, "the next begins another session")


def twice(nstart, timeout_ms):
    """How often a POST is executed whose answers are lost for 20 s, as are those of one `timeout_ms` before it."""
    with Net() as net:
        server = serve(net)
        done = []
        server.resources[-1].post(lambda request, response: done.append(bytes(request.payload)))
        client = ask(net)
        client.tuning = coap.Tuning(nstart=nstart)
        get(net, client)
        end_ms = net.now_ms + 20000
        net.lose = lambda datagram: net.trace[-1][0] == SERVER and net.now_ms < end_ms
        first = client.send(coap.Message(coap.POST, uri=URI, payload="a"), SERVER, timeout_ms)
        second = client.send(coap.Message(coap.POST, uri=URI, payload="b"), SERVER)
        net.run(lambda: first.is_done() and second.is_done())
        return done.count(b"a"), done.count(b"b")


def test_post_when_another_was_unanswered_before_it_then_neither_is_executed_twice():
    """RFC 7252 section 4.5: the session is silent since the first, and the second has gone in it, too"""
    eq([twice(1, 5000), twice(2, 90000)], [(1, 1)] * 2)
