"""Echo (RFC 9175): limits on what an unverified peer is sent, freshness, and the client that answers a challenge."""

import check
import coap
import coap_block
import coap_echo
import coap_observe
import fake
from fake import PEER, ask, due, packet, run

OTHER = ("192.0.2.2", 5683)
LARGE = b"x" * 500


class Served:
    """An engine with Echo and some resources; `runs` are the methods that handlers saw."""

    def __init__(self, verified=8, **limits):
        self.engine = fake.engine(tuning=fake.EXACT)
        self.echo = coap_echo.attach(self.engine, verified, **limits)
        self.runs = []
        self.copies = []
        self.now_ms = 0
        self.mid = 0
        self.engine.resource("large", ct=coap.OCTETS)(self.give(LARGE))
        self.engine.resource("small", ct=coap.TEXT)(self.give(b"22.5"))
        self.lock = self.engine.resource("lock")
        self.lock(self.give(b""))
        self.engine.resource("later")(self.promise)
        self.echo.demand_freshness(self.lock)

    def give(self, payload):
        def handler(request, response):
            self.runs.append(request.code)
            return payload

        return handler

    def promise(self, request, response):
        self.copies.append(response.copy())
        return coap.LATER

    def ask(self, path, method=coap.GET, peer=PEER, mtype=coap.CON, is_multicast=False, **fields):
        """The reply to a new request: a Message, or None."""
        self.mid += 1
        request = packet(method, self.mid, mtype, uri_path=(path,), **fields)
        return ask(self.engine, request, self.now_ms, peer, is_multicast)

    def challenge(self, path="large", method=coap.GET, peer=PEER, **fields):
        """The Echo of the 4.01 that a request is answered by."""
        reply = self.ask(path, method, peer, **fields)
        check.eq(reply.code, coap.UNAUTHORIZED)
        check.eq((reply.payload, [number for number, _ in reply.options]), (b"", [252]))
        return reply.opt.echo

    def code(self, path, method=coap.GET, peer=PEER, **fields):
        return self.ask(path, method, peer, **fields).code


# ---- amplification ----


def test_answer_when_it_is_short_then_nobody_is_challenged():
    """RFC 9175 section 2.4: 136 bytes of UDP payload, or three times the request, whatever is more."""
    for request_len, largest in ((20, 136), (45, 136), (46, 138), (100, 300), (400, 1152)):
        for extra in (0, 1):
            engine = fake.engine(datagram_len=1200)
            coap_echo.attach(engine)
            engine.resource("r").put(lambda request, response: 1 // 0)
            engine.resources[-1].on(coap.FETCH)(lambda request, response: b"y" * length)  # noqa: B023
            request = packet(coap.FETCH, 1, uri_path=("r",), payload=b"p" * (request_len - 9))
            check.eq(len(request), request_len)
            length = largest + extra - 4 - 2 - 1
            reply = engine.receive(request, PEER, 0)
            is_short = not extra or largest == 1152
            check.eq(reply[1], coap.CONTENT if is_short else coap.UNAUTHORIZED, (request_len, extra))
            check.eq(len(reply), largest + extra if is_short else 4 + 2 + 2 + 12)


def test_answer_when_it_is_long_then_4_01_with_echo_and_the_repeated_request_is_served():
    """RFC 9175 section 2.3: GET and FETCH, CON piggybacked and NON, never a CON of its own."""
    for method in (coap.GET, coap.FETCH):
        for mtype, reply_type in ((coap.CON, coap.ACK), (coap.NON, coap.NON)):
            served = Served()
            reply = served.ask("large", method, mtype=mtype)
            check.eq((reply.mtype, reply.code, reply.token), (reply_type, coap.UNAUTHORIZED, b"tk"))
            check.eq(8 <= len(reply.opt.echo) <= 40, True)
            reply = served.ask("large", method, mtype=mtype, echo=reply.opt.echo)
            check.eq((reply.code, reply.payload, reply.opt.echo), (coap.CONTENT, LARGE, None))
            check.eq(served.code("large", method), coap.CONTENT)
            check.eq(run(served.engine, 0, 60000), [])


def test_answer_when_another_method_makes_it_long_then_its_code_without_payload():
    """RFC 9175 section 2.4: it has run, so it must not be asked for again; a verified peer has the payload."""
    for method, code in ((coap.POST, coap.CREATED), (coap.PUT, coap.CHANGED), (coap.DELETE, coap.DELETED)):
        served = Served()
        reply = served.ask("large", method)
        check.eq((reply.code, reply.payload, reply.options, reply.token), (code, b"", (), b"tk"))
        check.eq(served.runs, [method])
        served.code("large", echo=served.challenge())
        check.eq(served.ask("large", method).payload, LARGE)


def test_answer_when_it_is_an_error_then_it_is_limited_too():
    """RFC 9175 section 2.4: a long diagnostic text does not go to a victim either."""
    served = Served()
    served.engine.resource("why")(lambda request, response: (coap.FORBIDDEN, "because " * 40))
    check.eq(len(served.challenge("why")), 12)
    check.eq(served.ask("why", coap.PUT).payload, b"")


def test_answer_when_the_application_gives_it_then_it_is_limited_too():
    """RFC 9175 section 2.4: on an endpoint without resources; the Echo comes back to it as an option."""
    engine = fake.engine()
    coap_echo.attach(engine)
    echo = None
    for code in (coap.UNAUTHORIZED, coap.CONTENT):
        fields = {"echo": echo} if echo else {}
        engine.receive(packet(coap.GET, code, uri_path=("r",), **fields), PEER, 0)
        engine.received.respond(coap.CONTENT, LARGE)
        reply = coap.Message.decode(due(engine, 0)[0])
        check.eq((reply.code, len(reply.payload)), (code, 500 if echo else 0))
        echo = reply.opt.echo


def test_request_when_it_is_refused_then_it_needs_no_echo():
    """RFC 9175 section 2.4: 4.04 and 4.05 are short."""
    served = Served()
    check.eq(served.code("nosuch"), coap.NOT_FOUND)
    served.engine.resource("get").get(lambda request, response: "x")
    check.eq(served.code("get", coap.PUT), coap.METHOD_NOT_ALLOWED)


def test_duplicate_when_it_was_challenged_then_the_same_challenge():
    """RFC 7252 section 4.5: the handler of a POST does not run again."""
    served = Served()
    request = packet(coap.PUT, 77, uri_path=("lock",))
    first = bytes(served.engine.receive(request, PEER, 0))
    check.eq(bytes(served.engine.receive(request, PEER, 1)), first)
    request = packet(coap.POST, 78, uri_path=("large",))
    first = bytes(served.engine.receive(request, PEER, 0))
    check.eq((bytes(served.engine.receive(request, PEER, 1)), served.runs), (first, [coap.POST]))


# ---- who is verified ----


def test_peer_when_its_address_or_port_changes_then_it_is_unverified():
    """RFC 9175 section 2.4: the proof is of one address; another peer's Echo proves nothing."""
    served = Served()
    echo = served.challenge()
    check.eq(served.code("large", echo=echo), coap.CONTENT)
    for peer in (OTHER, ("192.0.2.1", 5684), ("192.0.2.11", 5683)):
        served.challenge(peer=peer)
        served.challenge(peer=peer, echo=echo)
        check.eq(served.echo.is_verified(peer), False)
    check.eq(served.code("large"), coap.CONTENT)


def test_peer_when_bytes_like_the_unix_ports_then_it_works():
    """A sockaddr as MicroPython's unix port gives it."""
    served = Served()
    peer = b"\x02\x00\x16\x33\xc0\x00\x02\x01" + bytes(8)
    check.eq(served.code("large", peer=peer, echo=served.challenge(peer=peer)), coap.CONTENT)
    served.challenge(peer=peer[:3] + b"\x34" + peer[4:])


def test_peer_when_its_time_is_over_then_it_is_challenged_again():
    """RFC 9175 section 2.4: an address may have gone to somebody else."""
    for verified_s in (1, 300, 86400):
        served = Served(verified_s=verified_s)
        check.eq(served.code("large", echo=served.challenge()), coap.CONTENT)
        served.now_ms = verified_s * 1000 - 1
        check.eq(served.code("large"), coap.CONTENT)
        served.now_ms += 1
        served.challenge()


def test_peers_when_there_are_too_many_then_the_oldest_is_forgotten():
    """RFC 9175 section 2.4: the set is bounded, and who was not verified takes no place in it."""
    served = Served(verified=3)
    peers = [("192.0.2.%d" % n, 5683) for n in range(5)]
    for n in range(1000):
        served.challenge(peer=("203.0.113.9", n))
    check.eq(len(served.echo.peers), 0)
    for n, peer in enumerate(peers):
        served.now_ms = n * 100
        check.eq(served.code("large", peer=peer, echo=served.challenge(peer=peer)), coap.CONTENT)
    check.eq([served.echo.is_verified(peer) for peer in peers], [False, False, True, True, True])


# ---- Echo values ----


def test_peers_when_one_of_a_full_table_proves_itself_again_then_nobody_goes():
    """It has its place; and of those forgotten the latest Echo counts."""
    served = Served(verified=2)
    for peer in (PEER, OTHER, OTHER):
        served.now_ms += 10
        echo = served.challenge("lock", coap.PUT, peer)
        check.eq(served.code("lock", coap.PUT, peer, echo=echo), coap.CHANGED)
    check.eq((served.echo.is_verified(PEER), served.echo.is_verified(OTHER)), (True, True))


def test_echo_when_anything_in_it_is_changed_then_it_proves_nothing():
    """RFC 9175 section 2.2.1: each bit, each length, that of another server, none at all."""
    served = Served()
    echo = served.challenge()
    forged = [echo[:n] + bytes((echo[n] ^ 1 << bit,)) + echo[n + 1 :] for n in range(len(echo)) for bit in range(8)]
    forged += [echo[:n] for n in range(1, len(echo))] + [echo + b"\0", bytes(12), b"\xff" * 12, b"\xff" * 40]
    other = coap.Engine(fake.Random(99).bytes)
    coap_echo.attach(other)
    other.resource("large")(lambda request, response: LARGE)
    forged.append(ask(other, packet(coap.GET, 1, uri_path=("large",))).opt.echo)
    for value in forged:
        served.challenge(echo=value)
    check.eq(served.echo.is_verified(PEER), False)
    check.eq(served.code("large", echo=echo), coap.CONTENT)


def test_echo_when_the_option_is_empty_or_too_long_then_it_is_ignored():
    """RFC 9175 section 2.2.1: 1 to 40 bytes; an elective option that is not understood."""
    served = Served()
    for length in (0, 41, 100):
        request = coap.Message.decode(packet(coap.GET, 900 + length, uri_path=("large",)))
        coap._add(request.packet, 252, bytes(length))
        check.eq(ask(served.engine, request.encode()).code, coap.UNAUTHORIZED)


def test_echo_when_it_is_old_then_it_is_not_fresh():
    """RFC 9175 section 2.3: at most fresh_s; the time wraps; one from the future is none of ours."""
    for start_ms in (0, 1 << 29, 0x3FFFFFFF - 4999):
        for age_ms, code in ((0, coap.CONTENT), (10000, coap.CONTENT), (10001, coap.UNAUTHORIZED), (600000, 129)):
            served = Served()
            served.now_ms = start_ms
            echo = served.challenge()
            served.now_ms = coap.ticks_add(served.now_ms, age_ms)
            check.eq(served.code("large", echo=echo), code, (start_ms, age_ms))


def test_echo_when_many_are_made_then_no_two_are_alike():
    """RFC 9175 section 5: unguessable, 64 bits; by peer and by time."""
    served = Served()
    values = set()
    for n in range(90):
        served.now_ms = n // 3
        values.add(served.challenge(peer=("192.0.2.1", n % 3)))
    check.eq(len(values), 90)
    check.eq(len(set([value[4:] for value in values])), 90)


def test_key_when_a_day_has_gone_then_it_is_another():
    """RFC 9175 section 5: what was made of the old one is worth nothing, twelve days later neither."""
    served = Served()
    echo = served.challenge()
    run(served.engine, 0, 86400000)
    served.now_ms = 0  # the ticks are the same once more
    served.challenge(echo=echo)
    idle = fake.engine()
    key = coap_echo.attach(idle)._key
    run(idle, 0, 86399999)
    check.eq(idle._extensions[0]._key == key, True)
    run(idle, 86399999, 86400000)
    check.eq(idle._extensions[0]._key == key, False)


def test_peer_when_a_day_has_gone_then_all_are_forgotten():
    """RFC 9175 section 2.4: nobody is verified again when the ticks are the same once more, twelve days later."""
    served = Served()
    check.eq(served.code("large", echo=served.challenge()), coap.CONTENT)
    run(served.engine, 0, 86400000)
    served.now_ms = 0
    served.challenge()


# ---- freshness ----


def test_lock_when_the_request_is_not_fresh_then_nothing_happens():
    """RFC 9175 section 2.3: PUT, POST, DELETE, PATCH, iPATCH need an Echo, verified or not; GET and FETCH do not."""
    served = Served()
    check.eq(served.code("large", echo=served.challenge()), coap.CONTENT)
    del served.runs[:]
    for method in (coap.PUT, coap.POST, coap.DELETE, coap.PATCH, coap.IPATCH):
        echo = served.challenge("lock", method, payload=b"open")
        check.eq(served.runs, [])
        check.eq(served.code("lock", method, payload=b"open", echo=echo) < 128, True)
        check.eq(served.runs, [method])
        del served.runs[:]
        served.challenge("lock", method, payload=b"open", echo=echo)  # replayed
        check.eq(served.runs, [])
        served.now_ms += 5
    for method in (coap.GET, coap.FETCH):
        check.eq(served.code("lock", method), coap.CONTENT)


def test_lock_when_it_is_used_often_within_a_millisecond_then_each_echo_works_once():
    """RFC 9175 section 2.3: a challenge after a use is another one, at the same time too."""
    served = Served()
    used = []
    for _ in range(20):
        echo = served.challenge("lock", coap.PUT)
        check.eq(echo in used, False)
        check.eq(served.code("lock", coap.PUT, echo=echo), coap.CHANGED)
        used.append(echo)
    for echo in used:
        served.challenge("lock", coap.PUT, echo=echo)
    check.eq(len(served.runs), 20)


def test_lock_when_the_peer_was_verified_long_ago_then_its_challenge_is_of_now():
    """RFC 9175 section 2.3: a minute, and four, after its last Echo."""
    served = Served()
    for now_ms in (0, 60000, 300000):
        served.now_ms = now_ms
        check.eq(served.code("lock", coap.PUT, echo=served.challenge("lock", coap.PUT)), coap.CHANGED)


def test_lock_when_the_echo_is_of_another_peer_or_old_then_4_01():
    """RFC 9175 section 2.3: delayed on its way for longer than fresh_s."""
    served = Served(fresh_s=2)
    echo = served.challenge("lock", coap.PUT)
    served.challenge("lock", coap.PUT, peer=OTHER, echo=echo)
    served.now_ms = 2001
    echo = served.challenge("lock", coap.PUT, echo=echo)
    served.now_ms = 4001
    check.eq(served.code("lock", coap.PUT, echo=echo), coap.CHANGED)


def test_lock_when_the_clock_is_anywhere_then_an_echo_holds_once_and_for_fresh_s():
    """RFC 9175 section 2.3: also where ticks wrap, and beyond 2**30, to which they count on a 64 bit MicroPython."""
    clocks = [0, (1 << 29) - 50, 0x3FFFFFFF - 49]  # 1 << 30, less 50, is no small int to MicroPython 1.23
    if coap.ticks_add(0x3FFFFFFF, 1):  # 12 days after the start of a computer, 25, 50 and 1,000
        clocks += [1 << 30, (1 << 31) - 50, (1 << 32) - 50, 1 << 33, 86400000000]
    for begin_ms in clocks:
        served = Served(fresh_s=2)
        served.now_ms = begin_ms
        first = served.challenge("lock", coap.PUT)
        for stamp in (0, 1 << 28, 1 << 29, (1 << 30) - 1, 0xFFFFFFFF):
            served.challenge("lock", coap.PUT, echo=stamp.to_bytes(4, "big") + bytes(8))
        served.now_ms = coap.ticks_add(begin_ms, 100)
        check.eq(served.code("lock", coap.PUT, echo=first), coap.CHANGED, begin_ms)
        second = served.challenge("lock", coap.PUT, echo=first)
        check.eq(served.code("lock", coap.PUT, echo=second), coap.CHANGED, begin_ms)
        third = served.challenge("lock", coap.PUT, echo=second)
        served.now_ms = coap.ticks_add(begin_ms, 2110)
        check.eq(served.code("lock", coap.PUT, echo=third), coap.UNAUTHORIZED, begin_ms)


def test_lock_when_a_group_is_asked_then_silence_and_nothing_happens():
    """RFC 7252 section 8.2: a 4.01 is an error."""
    served = Served()
    check.eq(served.ask("lock", coap.PUT, mtype=coap.NON, is_multicast=True), None)
    check.eq((run(served.engine, 0, 10000), served.runs), ([], []))


# ---- observations and promises ----


def test_observation_when_the_peer_is_unverified_then_4_01():
    """RFC 9175 section 2.4: one forged request must not bring a stream; deregistering and plain GETs are free."""
    served = Served()
    echo = served.challenge("small", observe=0)
    check.eq(served.runs, [])
    for fields in ({}, {"observe": 1}):
        check.eq(served.code("small", **fields), coap.CONTENT)
    check.eq(served.code("small", coap.PUT, observe=0), coap.CHANGED)  # no observation: there is none by PUT
    check.eq(served.code("small", observe=0, echo=echo), coap.CONTENT)
    check.eq(served.code("small", observe=0), coap.CONTENT)


def later(payload, peer=PEER, **fields):
    """What leaves when a promised response is sent: [(type, code, payload length, has Echo)]."""
    served = Served()
    served.ask("later", peer=peer)
    for name in fields:
        setattr(served.copies[0], name, fields[name])
    served.copies[0].payload = payload
    served.engine.send(served.copies[0])
    sent = [coap.Message.decode(datagram) for _, datagram in run(served.engine, 0, 100000)]
    return [(message.mtype, message.code, len(message.payload), message.opt.echo is not None) for message in sent]


def test_promised_response_when_the_peer_is_unverified_then_at_most_136_bytes_in_all():
    """RFC 9175 section 2.4: a CON of 27 bytes five times, or a NON, or a challenge as a NON."""
    check.eq(later(b"x" * 20), [(coap.CON, coap.CONTENT, 20, False)] * 5)
    check.eq(later(b"x" * 21), [(coap.NON, coap.CONTENT, 21, False)])
    check.eq(later(b"x" * 129), [(coap.NON, coap.CONTENT, 129, False)])
    check.eq(later(b"x" * 130), [(coap.NON, coap.UNAUTHORIZED, 0, True)])
    check.eq(later(b"x" * 130, code=coap.CHANGED), [(coap.NON, coap.CHANGED, 0, False)])


def test_promised_response_when_the_peer_is_verified_then_it_is_a_con():
    """RFC 7252 section 5.2.2: of any length, with retransmission."""
    served = Served()
    served.code("large", echo=served.challenge())
    served.ask("later")
    served.copies[0].payload = LARGE
    served.engine.send(served.copies[0])
    sent = due(served.engine, 0)
    check.eq((fake.head(sent[0])[:2], len(sent[0])), ((coap.CON, coap.CONTENT), 507))


def test_promised_response_when_it_is_replaced_then_extensions_below_find_its_request():
    """RFC 8613 section 4.1.3.5: OSCORE knows a separate response by its remote and token."""
    seen = []

    class Below:
        rank = 10
        understood = 0

        def response(self, request, response):
            seen.append((response.token, response.remote, response.code))

    served = Served()
    served.engine.attach(Below())
    served.ask("later", token=b"abc")
    served.copies[0].payload = LARGE
    served.engine.send(served.copies[0])
    check.eq(seen, [(b"abc", PEER, coap.UNAUTHORIZED)])


def test_notification_when_it_goes_then_it_is_not_limited():
    """RFC 9175 section 2.4: its observer was verified when it registered, maybe long ago."""
    for extend in (coap_observe.attach, lambda engine: coap_observe.attach(engine) and coap_block.attach(engine)):
        served = Served()
        extend(served.engine)
        served.engine.resource("log", obs=True).get(served.give(LARGE))
        echo = served.challenge("log", observe=0)
        check.eq(served.code("log", observe=0, echo=echo), coap.CONTENT)
        served.now_ms = 400000  # verified_s is 300
        fake.due(served.engine, served.now_ms)
        check.eq(served.echo.is_verified(PEER), False)
        served.engine.notify("log")
        sent = [coap.Message.decode(datagram) for datagram in due(served.engine, served.now_ms)]
        check.eq([(message.code, message.opt.observe is not None) for message in sent], [(coap.CONTENT, True)])


# ---- the client ----


class Pair:
    """A client and a server, both with Echo, and the network between them."""

    def __init__(self, **quality):
        self.network = fake.Network(**quality)
        self.client = self.network.add("client", tuning=fake.EXACT)
        self.server = self.network.add("server")
        coap_echo.attach(self.client)
        self.echo = coap_echo.attach(self.server)
        self.runs = []
        self.server.resource("large").get(lambda request, response: LARGE)
        self.lock = self.server.resource("lock")
        self.lock.put(lambda request, response: self.runs.append(bytes(request.payload)))
        self.echo.demand_freshness(self.lock)

    def request(self, method, path, **fields):
        record = self.client.send(coap.Message(method, uri_path=(path,), **fields), "server")
        self.network.run(until=record.is_done)
        return record


def test_client_when_it_is_challenged_then_the_application_sees_the_answer():
    """RFC 9175 section 2.3: CON and NON, the payload and options again, another token and message ID."""
    for mtype in (coap.CON, coap.NON):
        pair = Pair()
        pair.network.trace = []
        record = pair.request(coap.PUT, "lock", mtype=mtype, payload=b"open", uri_query=("a=1",))
        check.eq((record.error, record.response.message.code, pair.runs), (None, coap.CHANGED, [b"open"]))
        sent = [coap.Message.decode(datagram) for source, _, datagram in pair.network.trace if source == "client"]
        check.eq(len(sent), 2)
        first, second = sent
        check.eq((first.opt.echo, len(second.opt.echo)), (None, 12))
        check.eq((first.token != second.token, first.mid != second.mid, second.mtype), (True, True, mtype))
        check.eq((second.payload, second.opt.uri_query), (b"open", ("a=1",)))
        check.eq(record.message.opt.echo, None)


def test_client_when_it_was_verified_then_the_next_request_needs_one_round_trip():
    """RFC 9175 section 2.4: the server knows the address for a while."""
    pair = Pair()
    check.eq(pair.request(coap.GET, "large").response.message.payload, LARGE)
    pair.network.trace = []
    check.eq(pair.request(coap.GET, "large").response.message.payload, LARGE)
    check.eq(len(pair.network.trace), 2)


def test_client_when_it_is_challenged_again_then_it_gives_up_with_4_01():
    """RFC 9175 section 2.3: once; what the server says then is for the application."""
    engine = fake.engine()
    coap_echo.attach(engine)
    record = engine.send(coap.Message(coap.GET), PEER)
    for n in range(2):
        sent = due(engine, n)
        check.eq(len(sent), 1)
        challenge = packet(coap.UNAUTHORIZED, record.mid, coap.ACK, token=record.token, echo=b"again")
        engine.receive(challenge, PEER, n)
    check.eq((record.is_done(), record.response.message.code, due(engine, 9)), (True, coap.UNAUTHORIZED, []))
    check.eq(record.response.message.opt.echo, b"again")


def test_client_when_a_4_01_has_no_echo_then_it_is_an_answer():
    """RFC 7252 section 5.9.2.2: nothing is repeated; another code with Echo neither."""
    for code, fields in ((coap.UNAUTHORIZED, {}), (coap.CONTENT, {"echo": b"1"}), (coap.FORBIDDEN, {"echo": b"1"})):
        engine = fake.engine()
        coap_echo.attach(engine)
        record = engine.send(coap.Message(coap.GET), PEER)
        due(engine, 0)
        engine.receive(packet(code, record.mid, coap.ACK, token=record.token, **fields), PEER, 1)
        check.eq((record.is_done(), record.response.message.code, due(engine, 2)), (True, code, []))
    engine = fake.engine()
    coap_echo.attach(engine)
    record = engine.send(coap.Message(coap.GET), PEER)
    for n, fields in enumerate(({"echo": b"1"}, {})):  # nor after a challenge
        check.eq(len(due(engine, n)), 1)
        engine.receive(packet(coap.UNAUTHORIZED, record.mid, coap.ACK, token=record.token, **fields), PEER, n)
    check.eq((record.is_done(), due(engine, 9)), (True, []))


def test_client_when_the_repeated_request_is_lost_then_it_is_retransmitted():
    """RFC 7252 section 4.2: its time and its five transmissions start anew; then Timeout."""
    engine = fake.engine(tuning=fake.EXACT)
    coap_echo.attach(engine)
    record = engine.send(coap.Message(coap.GET), PEER)
    due(engine, 0)
    run(engine, 0, 2000)
    engine.receive(packet(coap.UNAUTHORIZED, record.mid, coap.ACK, token=record.token, echo=b"12345678"), PEER, 2500)
    sent = run(engine, 2500, 500000)
    check.eq([at_ms - 2500 for at_ms, _ in sent], [0, 2000, 6000, 14000, 30000])
    check.eq((record.error, record.is_unacknowledged), (coap.Timeout, True))


def test_client_when_the_challenge_is_a_con_or_doubled_then_one_more_request():
    """RFC 7252 section 4.2: acknowledged; its copy finds no exchange and changes nothing."""
    engine = fake.engine()
    coap_echo.attach(engine)
    record = engine.send(coap.Message(coap.GET), PEER)
    due(engine, 0)
    challenge = packet(coap.UNAUTHORIZED, 4660, coap.CON, token=record.token, echo=b"12345678")
    for now_ms in (1, 2):
        check.eq(bytes(engine.receive(challenge, PEER, now_ms)), fake.empty(coap.ACK, 4660))
    check.eq((len(due(engine, 3)), record.is_done()), (1, False))


def test_client_when_there_is_no_room_for_the_echo_then_the_4_01_is_the_answer():
    """RFC 7252 section 4.6: a request that fills datagram_len."""
    engine = fake.engine(datagram_len=64)
    coap_echo.attach(engine)
    record = engine.send(coap.Message(coap.PUT, payload=b"x" * 50), PEER)
    due(engine, 0)
    engine.receive(packet(coap.UNAUTHORIZED, record.mid, coap.ACK, token=record.token, echo=b"12345678"), PEER, 1)
    check.eq((record.is_done(), record.response.message.code), (True, coap.UNAUTHORIZED))


def test_client_when_a_group_member_challenges_then_it_is_a_response_like_others():
    """RFC 9175 section 2.3: a request to a group is not repeated for one member."""
    engine = fake.engine()
    coap_echo.attach(engine)
    record = engine.send(coap.Message(coap.GET), ("224.0.1.187", 5683), 1000)
    due(engine, 0)
    engine.receive(packet(coap.UNAUTHORIZED, 5, coap.NON, token=record.token, echo=b"12345678"), PEER, 1)
    check.eq((len(record.responses), due(engine, 2)), (1, []))


def test_client_when_the_message_is_used_again_then_what_was_sent_is_repeated():
    """What is given to send may be changed as soon as that returns: no door opens that was not meant."""
    network = fake.Network()
    server = network.add("s")
    client = network.add("c")
    echo = coap_echo.attach(server)
    coap_echo.attach(client)
    done = []
    for name in ("door1", "door2"):
        door = echo.demand_freshness(server.resource(name))
        door.put(lambda request, response: done.append((request.opt.uri_path, request.payload)))
    message = coap.Message(coap.PUT)
    records = []
    for name, payload in (("door1", b"open"), ("door2", b"close")):
        message.opt.uri_path = (name,)
        message.payload = payload
        records.append(client.send(message, "s"))
    network.run(until=lambda: all([record.is_done() for record in records]))
    check.eq(done, [(("door1",), b"open"), (("door2",), b"close")])
    check.eq([record.message.payload for record in records], [b"open", b"close"])


def test_exchange_when_datagrams_are_lost_then_the_lock_moves_once_for_each_answer():
    """RFC 7252 section 4.5: 20 % lost, 20 % doubled, reordered: 100 PUTs; no command runs twice."""
    pair = Pair(seed=5, loss=20, duplication=20, reordering=20)
    answered = 0
    for n in range(100):
        record = pair.request(coap.PUT, "lock", payload=b"%d" % n)
        pair.network.run(300000)
        del pair.network.received[:]
        answered += record.error is None and record.response.message.code == coap.CHANGED
    check.eq(len(set(pair.runs)), len(pair.runs))
    check.eq(answered > 90, True, answered)


# ---- limits ----


def test_attach_when_a_limit_is_out_of_range_then_value_error():
    """The sentence says what is allowed."""
    for limits in ({"verified": 0}, {"verified": 4097}, {"verified_s": 0}, {"verified_s": 86401}, {"fresh_s": 0}):
        check.raises(ValueError, coap_echo.attach, fake.engine(), contains="1 to", **limits)


def test_engine_when_hostile_requests_come_then_it_holds():
    """RFC 9175 section 5: 1,000 from forged addresses with forged Echoes: nothing is kept, an honest client served."""
    served = Served()
    chance = fake.Random(8)
    for _ in range(1000):
        peer = ("203.0.113.%d" % chance.below(256), chance.below(65536))
        reply = served.ask("large", peer=peer, echo=chance.bytes(1 + chance.below(40)))
        check.eq(reply.code, coap.UNAUTHORIZED)
        served.now_ms += 1
    check.eq(len(served.echo.peers), 0)
    check.eq(served.code("large", echo=served.challenge()), coap.CONTENT)


# ---- with blocks ----


def block_server(attach_order, **limits):
    """An engine with Echo and blocks, attached in this order, and a resource of 300 bytes."""
    import coap_block

    engine = fake.engine()
    for name in attach_order:
        if name == "echo":
            coap_echo.attach(engine)
        else:
            coap_block.attach(engine, **limits)
    engine.resource("large")(lambda request, response: b"z" * 300)
    return engine


def test_blocks_when_the_peer_is_unverified_then_4_01_in_the_place_of_64_bytes():
    """RFC 9175 section 2.4: whatever was attached first; verified it has all of them at once."""
    for order in (("echo", "block"), ("block", "echo")):
        engine = block_server(order)
        reply = ask(engine, packet(coap.GET, 1, uri_path=("large",)))
        check.eq((reply.code, reply.payload), (coap.UNAUTHORIZED, b""), order)
        reply = ask(engine, packet(coap.GET, 2, uri_path=("large",), echo=reply.opt.echo))
        check.eq((reply.code, len(reply.payload)), (coap.CONTENT, 300), order)
        check.eq(len(ask(engine, packet(coap.GET, 3, uri_path=("large",))).payload), 300)
        check.eq(ask(engine, packet(coap.GET, 4, uri_path=("large",)), 0, OTHER).code, coap.UNAUTHORIZED)


def test_blocks_when_the_client_asks_for_small_ones_then_it_is_not_challenged():
    """RFC 7959 section 2.2: 16 << 2 bytes and fewer are safe; every block of them; a larger size is challenged."""
    engine = block_server(("block", "echo"))
    for szx, code in ((0, coap.CONTENT), (2, coap.CONTENT), (3, coap.UNAUTHORIZED), (6, coap.UNAUTHORIZED)):
        reply = ask(engine, packet(coap.GET, 10 + szx, uri_path=("large",), block2=szx))
        check.eq(reply.code, code, szx)
        check.eq(len(reply.payload), 16 << szx if code == coap.CONTENT else 0)
    engine.resource("small")(lambda request, response: b"z" * 50)
    check.eq(ask(engine, packet(coap.GET, 29, uri_path=("small",), block2=6)).payload, b"z" * 50)
    reply = ask(engine, packet(coap.GET, 30, uri_path=("large",), block2=3 << 4 | 2))
    check.eq((reply.code, len(reply.payload)), (coap.CONTENT, 64))
    reply = ask(engine, packet(coap.GET, 31, uri_path=("large",), block2=4 << 4 | 2))
    check.eq((reply.code, len(reply.payload)), (coap.CONTENT, 44))


def test_blocks_when_a_non_asks_then_it_has_64_bytes():
    """RFC 7252 section 8.2: it may be a group's request, whose 4.01 would not go out."""
    engine = block_server(("block", "echo"))
    reply = ask(engine, packet(coap.GET, 1, coap.NON, uri_path=("large",)))
    check.eq((reply.code, len(reply.payload)), (coap.CONTENT, 64))
    engine.receive(packet(coap.GET, 2, coap.NON, uri_path=("large",)), PEER, 0, True)
    (answer,) = run(engine, 0, 6000)
    check.eq(len(answer[1]) <= 136, True)


def test_blocks_when_our_client_asks_then_it_has_the_whole_body():
    """RFC 9175 and RFC 7959: 4.01, then blocks of full size, 3,000 bytes; the application sees one answer."""
    import coap_block

    network = fake.Network()
    client = network.add("client")
    server = network.add("server")
    for engine in (client, server):
        coap_block.attach(engine)
        coap_echo.attach(engine)
    body = bytes([n % 251 for n in range(3000)])
    server.resource("large").get(lambda request, response: body)
    network.trace = []
    record = client.send(coap.Message(coap.GET, uri_path=("large",)), "server")
    network.run(until=record.is_done)
    check.eq((record.error, record.response.message.code), (None, coap.CONTENT))
    check.eq(record.response.message.payload == body, True)
    check.eq(len(network.trace), 2 * (1 + 3))


def test_blocks_of_a_post_when_the_peer_is_forgotten_then_it_is_challenged_and_has_the_whole_body():
    """RFC 9175 section 2.4, RFC 7959 section 3.3: its handler has run, but 4.01 to a later block repeats nothing."""
    import coap_block

    for code in (coap.POST, coap.FETCH):
        network = fake.Network()
        client = network.add("client")
        server = network.add("server")
        for engine in (client, server):
            coap_block.attach(engine)
        coap_echo.attach(client)
        echo = coap_echo.attach(server)
        echo.trust("client")
        body = bytes([n % 251 for n in range(3000)])
        calls = []
        server.resource("large")(lambda request, response, calls=calls, body=body: calls.append(1) or body)
        record = client.send(coap.Message(code, uri_path=("large",), payload=b"q"), "server")
        network.run(until=lambda record=record: record.part)
        echo.peers.clear()
        network.run(until=record.is_done)
        check.eq((record.error, record.response.message.code >> 5), (None, 2))
        check.eq(record.response.message.payload == body, True)
        check.eq(len(calls) == 1 or code == coap.FETCH, True)


def test_discovery_when_a_group_is_asked_then_long_lists_of_links_need_blocks():
    """RFC 7252 section 8.2: a group gets no 4.01, and more would amplify; a first block does not."""
    import coap_block

    for has_blocks in (False, True):
        engine = fake.engine()
        coap_echo.attach(engine)
        if has_blocks:
            coap_block.attach(engine)
        for number in range(12):
            engine.resource("sensors/number%d" % number, rt="temp").get(lambda request, response: b"x")
        query = packet(coap.GET, 5, coap.NON, uri_path=(".well-known", "core"))
        check.eq(engine.receive(query, PEER, 0, True), None)
        sent = [len(coap.Message.decode(datagram).payload) for _, datagram in run(engine, 0, 10000)]
        check.eq(sent, [64] if has_blocks else [])


def test_client_when_a_challenge_comes_while_blocks_are_fetched_then_it_changes_nothing():
    """A second answer to the first block, a 4.01 with Echo: the first counted, its token is in use for nothing."""
    import coap_block

    engine = fake.engine(tuning=fake.EXACT)
    coap_block.attach(engine)
    coap_echo.attach(engine)
    record = engine.send(coap.Message(coap.GET, uri_path=("t",)), PEER)
    first = coap.Message.decode(due(engine, 0)[0])
    engine.receive(packet(coap.CONTENT, first.mid, coap.ACK, first.token, block2=14, payload=bytes(1024)), PEER, 1)
    second = coap.Message.decode(due(engine, 2)[0])
    engine.receive(packet(coap.UNAUTHORIZED, 7, coap.NON, first.token, echo=b"12345678"), PEER, 3)
    check.eq(engine._queue, [])
    engine.receive(packet(coap.CONTENT, second.mid, coap.ACK, second.token, block2=30, payload=bytes(1024)), PEER, 4)
    third = coap.Message.decode(due(engine, 5)[0])
    check.eq((third.opt.block2, third.opt.echo), (0x26, None))
    engine.receive(packet(coap.CONTENT, third.mid, coap.ACK, third.token, block2=0x26, payload=b"end"), PEER, 6)
    check.eq((record.error, len(record.response.message.payload)), (None, 2051))
    check.eq((engine._open, due(engine, 7)), ([], []))
