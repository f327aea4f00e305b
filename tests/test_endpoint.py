"""The endpoint: process and request over transports of the test, faults of the network, and real sockets."""

import check
import coap
import fake
from fake import PEER, empty, packet
from loopback import bound_endpoint

OTHER = ("192.0.2.2", 5683)
# EPERM, EAGAIN, ENOMEM, ENETUNREACH, ETIMEDOUT (an ESP32 has 116), EHOSTUNREACH
FAULTS = 1, 11, 12, 101, 110, 116, 113


def serve(*inbox, **tables):
    """(endpoint, transport): it serves /r, of which GET gives a text, and has the datagrams `inbox` from PEER."""
    transport = fake.Transport(*[(datagram, PEER) for datagram in inbox])
    endpoint = coap.Endpoint(sock=transport, **tables)
    endpoint.resource("r").get(lambda request, response: "text")
    return endpoint, transport


def get(mid, **fields):
    return packet(coap.GET, mid, uri_path=("r",), **fields)


def reply(mid):
    return packet(coap.CONTENT, mid, coap.ACK, payload="text")


def application(*inbox, **tables):
    """(endpoint, transport) of an endpoint without resources."""
    transport = fake.Transport(*[(datagram, PEER) for datagram in inbox])
    return coap.Endpoint(sock=transport, **tables), transport


class Wire(fake.Transport):
    """Joins two endpoints: what one sends the other receives, and whoever waits lets the other run."""

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.is_asking = False
        self.endpoint = coap.Endpoint(sock=self)

    def sendto(self, data, peer):
        self.other.inbox.append((bytes(data), self.address))
        return super().sendto(data, peer)

    def recvfrom(self, n):
        if not self.inbox and not self.other.is_asking:
            self.is_asking = True
            self.other.endpoint.process(0)
            self.is_asking = False
        return super().recvfrom(n)


def wired():
    """Two endpoints, each the other's peer, and their wires; /r and /nosuch are at 192.0.2.2."""
    here = Wire("192.0.2.1")
    there = Wire("192.0.2.2")
    here.other = there
    there.other = here
    for wire in (here, there):
        wire.endpoint.resolve = Resolver(wire.other.address)
    return here.endpoint, there.endpoint, here, there


class Resolver:
    """Replaces name resolution: whatever name, it is this peer."""

    def __init__(self, peer):
        self.peer = peer

    def __call__(self, remote):
        return self.peer


# ---- process ----


def test_process_when_nothing_comes_then_none_at_once():
    """RFC 7252 section 4.2: process(0) polls."""
    with fake.Clock() as clock:
        endpoint, transport = serve()
        check.eq((endpoint.process(0), transport.sent, clock.now_ms), (None, [], 0))


def test_process_when_it_waits_then_until_its_time():
    """RFC 7252 section 4.2: not longer, not shorter; asked every 10 ms."""
    with fake.Clock() as clock:
        endpoint, _ = serve()
        check.eq((endpoint.process(55), clock.now_ms), (None, 55))


def test_process_when_a_request_is_served_then_there_is_no_record():
    """RFC 7252 section 5.2: and the reply goes to where it came from."""
    endpoint, transport = serve(get(1))
    check.eq(endpoint.process(0), None)
    check.eq(transport.sent, [(reply(1), PEER)])


def test_process_when_many_datagrams_wait_then_16_are_handled():
    """RFC 7252 section 4.2: the program has its turn, too."""
    endpoint, transport = serve(*[get(mid) for mid in range(40)])
    for handled in (16, 32, 40):
        check.eq((endpoint.process(0), len(transport.sent)), (None, handled))


def test_process_when_there_are_records_then_one_at_a_time():
    """RFC 7252 section 5.2: in the order of arrival, also without a limit of time; none is lost."""
    for timeout_ms in (0, 100, None):
        endpoint, _ = application(*[get(mid) for mid in range(1, 6)])
        check.eq([endpoint.process(timeout_ms).mid for _ in range(5)], [1, 2, 3, 4, 5])


def test_process_when_a_record_was_ignored_then_its_con_is_acknowledged():
    """RFC 7252 section 4.2: by the next process; what was answered is not."""
    endpoint, transport = application(get(1), get(2), get(3, mtype=coap.NON))
    first = endpoint.process(0)
    check.eq((first.mid, transport.sent), (1, []))
    second = endpoint.process(0)
    second.respond(coap.CONTENT, "text")
    check.eq(transport.sent, [(empty(coap.ACK, 1), PEER)])
    endpoint.process(0)
    endpoint.process(0)
    check.eq(transport.sent[1:], [(reply(2), PEER)])


def test_process_when_what_was_sent_is_answered_then_the_record_tells():
    """RFC 7252 section 5.3.2: a response and a Reset; the message goes out by process."""
    endpoint, transport = serve()
    for kind in (coap.CONTENT, 0):
        record = endpoint.send(coap.Message(coap.GET), PEER)
        endpoint.process(0)
        check.eq(transport.sent[-1], (bytes(record.packed), PEER))
        answer = packet(kind, record.mid, coap.ACK, record.token) if kind else empty(coap.RST, record.mid)
        transport.inbox.append((answer, PEER))
        got = endpoint.process(0)
        check.eq((got.pertains_to is record, got is record.response), (True, True))
        check.eq((got.is_acknowledged, got.has_responded, got.remote), (True, True, PEER))
    check.eq(endpoint.process(0), None)


def test_process_when_a_retransmission_is_due_meanwhile_then_it_is_sent():
    """RFC 7252 section 4.2: while process waits."""
    with fake.Clock():
        endpoint, transport = serve(tuning=fake.EXACT)
        record = endpoint.send(coap.Message(coap.GET), PEER)
        endpoint.process(1999)
        check.eq(len(transport.sent), 1)
        endpoint.process(1)
        check.eq(len(transport.sent), 2)
        endpoint.process(100000)
        check.eq((len(transport.sent), record.error), (5, coap.Timeout))


def test_process_when_the_peer_is_free_again_then_the_next_message_goes_at_once():
    """RFC 7252 section 4.7: NSTART; freed by an empty ACK, a response or a Reset, not by the next retransmission."""
    with fake.Clock() as clock:
        endpoint, transport = serve(tuning=fake.EXACT)
        records = [endpoint.send(coap.Message(coap.GET), PEER) for _ in range(4)]
        endpoint.process(100)
        for number in range(3):
            check.eq(len(transport.sent), number + 1)
            record = records[number]
            token = record.token
            answers = empty(coap.ACK, record.mid), packet(coap.CONTENT, record.mid, coap.ACK, token), None
            transport.inbox.append((answers[number] or empty(coap.RST, record.mid), PEER))
            endpoint.process(100)
            endpoint.process(100)
        check.eq((len(transport.sent), clock.now_ms < 2000), (4, True))


def test_process_when_there_was_no_memory_to_send_then_tried_again_at_once():
    """RFC 7252 section 4.2: what is due must not wait for something else to happen, nor request() for ever."""
    with fake.Clock() as clock:
        endpoint, transport = serve(tuning=fake.EXACT)
        record = endpoint.send(coap.Message(coap.GET), PEER)
        random = endpoint.random
        endpoint.random = fake.raiser(MemoryError())
        for _ in range(3):
            check.raises(MemoryError, endpoint.process, 0)
        endpoint.random = random
        endpoint.process(0)
        check.eq((len(transport.sent), record.is_done()), (1, False))
        begin_ms = clock.now_ms
        while not record.is_done() and clock.now_ms - begin_ms < 100000:
            endpoint.process(1000)
        check.eq((len(transport.sent), record.error), (5, coap.Timeout))


def test_process_when_an_extension_resends_then_it_goes_at_once():
    """RFC 9175 section 2.4: as the answer to a challenge does."""

    class Again:
        rank = 20
        understood = 0

        def incoming(self, record, message):
            if message.code == coap.UNAUTHORIZED:
                endpoint.resend(record, record.message)
                return coap.CONSUMED

    with fake.Clock() as clock:
        endpoint, transport = serve(tuning=fake.EXACT)
        endpoint.attach(Again())
        record = endpoint.send(coap.Message(coap.GET), PEER)
        endpoint.process(100)
        transport.inbox.append((packet(coap.UNAUTHORIZED, record.mid, coap.ACK, record.token), PEER))
        endpoint.process(100)
        check.eq((len(transport.sent), clock.now_ms < 2000), (2, True))


def test_process_when_exchanges_are_open_then_a_request_does_not_look_through_them():
    """A server that asks others, too, answers as fast as without."""

    class Counting(coap.Endpoint):
        count = 0

        def due(self, now_ms):
            self.count += 1
            return super().due(now_ms)

    with fake.Clock():
        transport = fake.Transport()
        endpoint = Counting(sock=transport, tuning=fake.EXACT)
        endpoint.resource("r").get(lambda request, response: "text")
        endpoint.send(coap.Message(coap.GET), OTHER)
        endpoint.process(0)
        endpoint.count = 0
        transport.inbox += [(get(mid), PEER) for mid in range(9)]
        endpoint.process(0)
        check.eq((len(transport.sent), endpoint.count), (10, 0))


def test_next_event_when_something_is_open_then_the_time_until_it():
    """RFC 7252 section 4.2: None if only a datagram can wake the program."""
    with fake.Clock() as clock:
        endpoint, _ = serve(tuning=fake.EXACT)
        check.eq(endpoint.next_event_ms(), None)
        endpoint.send(coap.Message(coap.GET), PEER)
        check.eq((endpoint.next_event_ms(), endpoint.next_event_reason), (0, "send"))
        endpoint.process(0)
        clock.sleep_ms(500)
        check.eq((endpoint.next_event_ms(), endpoint.next_event_reason), (1500, "retransmit"))


def test_next_event_when_a_record_waits_then_now_until_it_is_acknowledged():
    """RFC 7252 section 5.2.2: one that process() returned, and one that request() has kept for it."""
    with fake.Clock():
        endpoint, _ = application(get(1), get(2))
        record = endpoint.process(0)
        check.eq((endpoint.next_event_ms(), endpoint.next_event_reason), (0, "received"))
        record.ack()
        check.eq((endpoint.next_event_ms(), endpoint.next_event_reason), (0, "send"))
        check.raises(coap.Timeout, endpoint.ping, OTHER, timeout_ms=100)
        check.eq((endpoint.next_event_ms(), endpoint.next_event_reason), (0, "received"))


# ---- memory ----


def test_receive_when_peers_are_known_then_the_address_of_each_is_held_once():
    """A new address with each datagram, held in each slot of the duplicates, would leave the heap full of holes."""
    received = [(get(mid), tuple(["192.0.2.%d" % (mid % 3), 5683])) for mid in range(16)]
    endpoint, transport = serve()
    transport.inbox.extend(received)
    for _ in received:
        endpoint.process(0)
    check.eq([peer for _, peer in transport.sent], [peer for _, peer in received])
    peers = [peer for peer in endpoint._duplicates.peers if peer is not None]
    check.eq((len(peers), len(set([id(peer) for peer in peers]))), (16, 3))


def test_process_when_called_seldom_then_what_came_meanwhile_is_read_before_a_request_is_given_up():
    """RFC 7252 section 4.2: nor is anything sent again that was answered, of a transport that cannot be polled, too."""
    for slept_ms in 3100, 60000, 600000:
        with fake.Clock() as clock:
            endpoint, transport = application()
            record = endpoint.send(coap.Message(coap.POST, token=b"tk"), PEER)
            endpoint.process(0)
            clock.sleep_ms(slept_ms)
            transport.inbox.append((packet(coap.CHANGED, record.mid, coap.ACK, b"tk"), PEER))
            check.eq(endpoint.process(0).pertains_to, record)
            check.eq((record.error, len(transport.sent)), (None, 1))


def test_wait_when_the_exchange_ends_as_the_next_to_its_peer_begins_then_it_returns_at_once():
    """RFC 7252 section 4.7: NSTART 1; the caller does not wait until the other is retransmitted."""
    endpoint, transport = application(tuning=fake.EXACT)
    with fake.Clock() as clock:
        first = endpoint.send(coap.Message(coap.GET), PEER, 1000)
        endpoint.send(coap.Message(coap.GET), PEER)
        endpoint.wait(first)
        check.eq((first.error, clock.now_ms, len(transport.sent)), (coap.Timeout, 1000, 2))


def test_wait_when_process_gave_a_record_before_then_it_is_not_given_again():
    """RFC 7252 section 4.5: what came once is handled once, a request and a response; and section 4.2: an empty ACK."""
    for is_answered in False, True:
        with fake.Clock():
            endpoint, transport = application(get(7))
            first = endpoint.process(0)
            if is_answered:
                first.respond(payload="text")
            record = endpoint.send(coap.Message(coap.GET, mtype=coap.NON), PEER, 1000)
            endpoint.wait(record)
            check.eq([data for data, _ in transport.sent][0], reply(7) if is_answered else empty(coap.ACK, 7))
            check.eq((first.mid, record.error, endpoint.process(0)), (7, coap.Timeout, None))


# ---- several transports ----


def test_register_when_a_socket_is_beside_what_cannot_be_polled_then_it_is_polled():
    """Endpoint.register_socket: MicroPython's poll keeps an entry of what it could not register, and crashes on it."""
    if coap.socket is None:
        raise check.Skip("a firmware with sockets")
    endpoint, _ = application(get(1))
    sock = coap.socket.socket(coap.socket.AF_INET, coap.socket.SOCK_DGRAM)
    sock.setblocking(False)
    endpoint.register_socket(sock)
    check.eq((endpoint.process(0).mid, endpoint.process(0)), (1, None))
    endpoint.close()


def test_register_when_there_are_two_then_both_are_served_and_no_record_is_lost():
    """RFC 7252 section 8: answers leave from the first."""
    endpoint, transport = application(get(1), get(2))
    second = fake.Transport((get(3), OTHER), (get(4), OTHER))
    endpoint.register_socket(second)
    records = [endpoint.process(0) for _ in range(4)]
    check.eq(sorted([record.mid for record in records]), [1, 2, 3, 4])
    check.eq(endpoint.process(0), None)
    check.eq(len(transport.sent), 4)
    check.eq(second.sent, [])


def test_process_when_a_tick_has_received_something_then_what_the_transport_has_waits():
    """RFC 7252 section 5.3.2: nothing is lost."""

    class Delivering:
        rank = 50
        understood = 0

        def tick(self, now_ms):
            endpoint.receive(get(1), OTHER, now_ms)

    endpoint, _ = application(get(2))
    endpoint.attach(Delivering())
    endpoint.wake(coap.ticks_ms())
    check.eq([endpoint.process(0).mid for _ in range(2)], [1, 2])


def test_register_when_it_is_a_groups_then_errors_are_silent():
    """RFC 7252 section 8.2: and a CON is ignored; the endpoint's own socket is no group's."""
    endpoint, transport = serve(packet(coap.GET, 1))
    second = fake.Transport((packet(coap.GET, 2, coap.NON), PEER), (get(3), PEER), (get(4, mtype=coap.NON), PEER))
    endpoint.register_socket(second, is_group=True)
    endpoint.tuning = coap.Tuning(leisure_ms=0)
    endpoint.process(0)
    endpoint.process(0)
    check.eq([fake.head(datagram)[:2] for datagram, _ in transport.sent], [(2, coap.NOT_FOUND), (1, coap.CONTENT)])


def test_close_when_there_are_two_then_both_are_closed():
    """RFC 7252 section 4.2: with a transport that has no close, too."""

    class Mute:
        def recvfrom(self, n):
            return None

    endpoint, transport = serve()
    endpoint.register_socket(Mute())
    second = fake.Transport()
    endpoint.register_socket(second)
    endpoint.close()
    check.eq((transport.closed, second.closed), (1, 1))


# ---- faults ----


def test_sendto_when_it_always_fails_then_timeout_and_the_loop_lives():
    """RFC 7252 section 4.2: a datagram not sent is a datagram lost; the hook is told."""
    for fault in [OSError(code) for code in FAULTS]:
        with fake.Clock():
            endpoint, transport = serve(tuning=fake.EXACT)
            told = []
            endpoint.log = lambda text, value, told=told: told.append(value)
            transport.faults = [fault] * 5
            record = endpoint.send(coap.Message(coap.GET), PEER)
            check.eq(endpoint.process(70000), None)
            check.eq((record.error, transport.faults), (coap.Timeout, []))
            check.eq(told, [PEER] * 5)
            transport.inbox.append((get(1), PEER))
            endpoint.process(0)
            check.eq(transport.sent, [(reply(1), PEER)])


def test_sendto_when_it_fails_once_then_retransmission_helps():
    """RFC 7252 section 4.2: at each of the transmissions; without a hook."""
    for nth in range(5):
        with fake.Clock():
            endpoint, transport = serve(tuning=fake.EXACT)
            transport.faults = [None] * nth + [OSError(12)]
            endpoint.send(coap.Message(coap.GET), PEER)
            endpoint.process(70000)
            check.eq(len(transport.sent), 4)


def test_sendto_when_a_reply_fails_then_the_duplicate_gets_it():
    """RFC 7252 section 4.5: short ones, and a Reset."""
    for request, answer in ((get(1), reply(1)), (empty(coap.CON, 2), empty(coap.RST, 2))):
        endpoint, transport = serve(request, request)
        transport.faults = [OSError(11)]
        check.eq(endpoint.process(0), None)
        check.eq(transport.sent, [(answer, PEER)])


def test_sendto_when_it_returns_less_then_the_exchange_goes_on():
    """RFC 7252 section 4.2: a datagram cut is a datagram lost."""
    with fake.Clock():
        endpoint, transport = serve(tuning=fake.EXACT)
        transport.faults = [3, 0]
        endpoint.send(coap.Message(coap.GET), PEER)
        endpoint.process(70000)
        check.eq(len(transport.sent), 3)


def test_recvfrom_when_it_raises_then_the_loop_lives():
    """RFC 7252 section 4.2: ECONNREFUSED of an ICMP message, EAGAIN; what comes behind is served."""
    for fault in (OSError(111), OSError(11), OSError(104)):
        endpoint, transport = serve(get(1))
        transport.inbox[:0] = [fault, None, fault]
        endpoint.log = fake.raiser(AssertionError("nothing was lost"))
        for _ in range(4):
            check.eq(endpoint.process(0), None)
        check.eq(transport.sent, [(reply(1), PEER)])


def test_datagram_when_empty_then_dropped():
    """RFC 7252 section 3: no message; on all ports but one nothing else is to be done."""
    endpoint, transport = serve(b"", get(1), b"", b"")
    check.eq(endpoint.process(0), None)
    check.eq((transport.sent, endpoint.socket is transport), ([(reply(1), PEER)], True))


def test_datagram_when_too_large_then_4_13():
    """RFC 7252 section 5.9.2.9: cut by recvfrom at datagram_len + 1; just fitting it is served."""
    for payload_len, code in ((1143, coap.CONTENT), (1144, coap.REQUEST_ENTITY_TOO_LARGE), (3000, 0x8D)):
        request = get(1, payload=b"x" * payload_len)
        check.eq(len(request), payload_len + 9)
        endpoint, transport = serve(request)
        endpoint.process(0)
        check.eq(fake.head(transport.sent[0][0]), (coap.ACK, code, 1))


# ---- sockets of the test ----


class FakeSocket(fake.Transport):
    """A socket as on an ESP32: an empty datagram makes it deaf, and recvfrom returns at once for ever."""

    is_deaf = False
    bound_to = None

    def __init__(self):
        super().__init__()
        self.options = []

    def setblocking(self, flag):
        pass

    def setsockopt(self, *option):
        self.options.append(option)

    def bind(self, address):
        self.bound_to = address

    def recvfrom(self, n):
        got = None if self.is_deaf else super().recvfrom(n)
        self.is_deaf = self.is_deaf or got is not None and got[0] == b""
        return (b"", ("0.0.0.0", 0)) if self.is_deaf else got


class Sockets:
    """In a `with`, the socket module of coap."""

    AF_INET = 2
    AF_INET6 = 10
    SOCK_DGRAM = 2
    SOL_SOCKET = 1
    SO_REUSEADDR = 2
    host = "192.0.2.9"  # whatever the name is

    def __init__(self):
        self.opened = []
        self.looked_up = []
        self.faults = 0  # how many times socket() is to fail

    def socket(self, family, kind):
        if self.faults:
            self.faults -= 1
            raise OSError(12)
        self.opened.append(FakeSocket())
        return self.opened[-1]

    def getaddrinfo(self, host, port, family=None):
        self.looked_up.append((host, port))
        if host == "nosuch":
            raise OSError(-2)
        entries = [(10, 2, 0, "", ("2001:db8::1", port, 0, 0)), (2, 2, 0, "", (self.host, port))]
        return [entry for entry in entries if family in (None, entry[0])]

    def __enter__(self):
        self.saved = coap.socket
        coap.socket = self
        return self

    def __exit__(self, *_):
        coap.socket = self.saved


def deaf_endpoint(sockets):
    """An endpoint whose socket got an empty datagram."""
    endpoint = coap.Endpoint(port=5683)
    endpoint.reopens_on_empty = True
    endpoint.resource("r").get(lambda request, response: "text")
    sockets.opened[0].inbox.append((b"", PEER))
    return endpoint


def test_join_when_the_firmware_has_no_name_for_it_then_linux_number():
    """RFC 7252 section 12.8: the unix port of MicroPython 1.26; boards have IP_ADD_MEMBERSHIP, each its own."""
    for name, number in (None, 35), ("IP_ADD_MEMBERSHIP", 3):
        with Sockets() as sockets:
            endpoint = coap.Endpoint(port=5683)
            sockets.host = "224.0.1.187"
            if name:
                setattr(sockets, name, number)
            endpoint.join("224.0.1.187")
            member = b"\xe0\x00\x01\xbb\0\0\0\0"
            check.eq((0, number, member) in sockets.opened[1].options, True)


def test_esp32_when_a_datagram_is_empty_then_the_socket_is_replaced():
    """RFC 7252 section 11: one datagram must not make a server deaf; bound again, the old one closed."""
    with fake.Clock(), Sockets() as sockets:
        endpoint = deaf_endpoint(sockets)
        check.eq(endpoint.process(0), None)
        check.eq(len(sockets.opened), 2)
        old, new = sockets.opened
        check.eq((old.closed, new.closed, new.bound_to == old.bound_to), (1, 0, True))
        check.eq(new.bound_to, ("192.0.2.9", 5683))
        new.inbox.append((get(1), PEER))
        endpoint.process(0)
        check.eq((endpoint.socket is new, new.sent), (True, [(reply(1), PEER)]))


def test_esp32_when_empty_datagrams_go_on_then_replaced_once_a_second():
    """RFC 7252 section 11: a flood costs no more than that, and process returns."""
    with fake.Clock() as clock, Sockets() as sockets:
        endpoint = deaf_endpoint(sockets)
        endpoint.process(0)
        sockets.opened[1].inbox.append((b"", PEER))
        for _ in range(3):
            check.eq((endpoint.process(0), len(sockets.opened)), (None, 2))
        clock.sleep_ms(999)
        check.eq((endpoint.process(0), len(sockets.opened)), (None, 2))
        clock.sleep_ms(1)
        check.eq((endpoint.process(0), len(sockets.opened)), (None, 3))
        sockets.opened[2].inbox.append((get(1), PEER))
        endpoint.process(0)
        check.eq(sockets.opened[2].sent, [(reply(1), PEER)])


def test_esp32_when_the_ticks_have_come_round_then_it_is_replaced_all_the_same():
    """RFC 7252 section 11: a period of ticks after the last time, less 5 s, the difference is negative."""
    with fake.Clock() as clock, Sockets() as sockets:
        endpoint = deaf_endpoint(sockets)
        endpoint.process(0)
        sockets.opened[1].inbox.append((b"", PEER))
        clock.now_ms = coap.ticks_add(clock.now_ms, -5000)
        check.eq((endpoint.process(0), len(sockets.opened)), (None, 3))


def test_esp32_when_no_socket_can_be_opened_then_it_tries_again():
    """RFC 7252 section 11: the loop lives, and a second later the server."""
    with fake.Clock() as clock, Sockets() as sockets:
        endpoint = deaf_endpoint(sockets)
        sockets.faults = 2
        for n in range(4):
            if n == 1:
                endpoint.send(coap.Message(coap.GET, mtype=coap.NON), PEER)  # lost
            check.eq((endpoint.process(0), clock.now_ms), (None, 1000 * n))  # it does not wait itself
            clock.sleep_ms(1000)
        sockets.opened[-1].inbox.append((get(1), PEER))
        endpoint.process(0)
        check.eq(sockets.opened[-1].sent, [(reply(1), PEER)])


def test_esp32_when_no_socket_can_be_opened_then_process_tries_again_while_it_waits():
    """RFC 7252 section 11: each second."""
    with fake.Clock(), Sockets() as sockets:
        endpoint = deaf_endpoint(sockets)
        sockets.faults = 2
        endpoint.process(3000)
        check.eq((endpoint.socket is sockets.opened[-1], len(sockets.opened)), (True, 2))


def test_socket_when_it_cannot_be_bound_then_it_is_closed():
    """RFC 7252 section 6.1: else a board, which has few, loses one with each attempt."""
    with Sockets() as sockets:
        bind = FakeSocket.bind
        FakeSocket.bind = fake.raiser(OSError(98))
        try:
            check.raises(OSError, coap.Endpoint, port=5683)
        finally:
            FakeSocket.bind = bind
        check.eq([sock.closed for sock in sockets.opened], [1])


def test_join_when_a_groups_request_comes_then_the_endpoints_own_socket_answers():
    """RFC 7252 section 8.2: an error is not; joining again takes another socket, and closes the one before."""
    with fake.Clock(), Sockets() as sockets:
        sockets.host = "224.0.1.187"
        endpoint = coap.Endpoint(port=5683, tuning=coap.Tuning(leisure_ms=0))
        endpoint.resource("r").get(lambda request, response: "text")
        for address in "224.0.1.187", "224.0.1.187", "224.0.1.188":
            endpoint.join(address)
        own, before, group, other = sockets.opened
        for mid, path in (1, "r"), (2, "nosuch"):
            group.inbox.append((packet(coap.GET, mid, coap.NON, uri_path=(path,)), PEER))
        endpoint.process(1000)
        check.eq((before.closed, group.closed, other.closed, group.sent), (1, 0, 0, []))
        check.eq([fake.head(datagram)[:2] for datagram, peer in own.sent], [(coap.NON, coap.CONTENT)])


def test_esp32_when_a_groups_datagram_is_empty_then_it_is_joined_again():
    """RFC 7252 section 11: its socket is deaf, that of the endpoint is not."""
    with fake.Clock(), Sockets() as sockets:
        sockets.host = "224.0.1.187"
        endpoint = coap.Endpoint(port=5683)
        endpoint.reopens_on_empty = True
        endpoint.join("224.0.1.187")
        sockets.opened[1].inbox.append((b"", PEER))
        endpoint.process(0)
        check.eq([sock.closed for sock in sockets.opened], [0, 1, 0])
        check.eq(endpoint.socket is sockets.opened[0], True)


def test_host_when_no_port_is_given_then_a_client_leaves_from_there():
    """RFC 7252 section 6.4: on a computer with several addresses; what is not its own is told by bind, at once."""
    with Sockets() as sockets:
        sockets.host = "192.0.2.7"
        coap.Endpoint(host="192.0.2.7")
        for host in "0.0.0.0", "::":
            coap.Endpoint(host=host)
        check.eq([each.bound_to for each in sockets.opened], [("192.0.2.7", 0), None, None])


def test_join_when_it_cannot_be_then_it_is_said():
    """RFC 7252 section 12.8: no port, no group, a group of which each network has its own, no socket now."""
    with Sockets() as sockets:
        for port in None, 0:  # any port: nobody sends to that
            check.raises(ValueError, coap.Endpoint(port=port).join, "224.0.1.187", contains="port")
        endpoint = coap.Endpoint(port=5683)
        check.raises(ValueError, endpoint.join, "192.0.2.1", contains="224.0.0.0")
        check.raises(ValueError, endpoint.join, "ff02::fd", contains="interface")
        endpoint.socket = None
        check.raises(OSError, endpoint.join, "224.0.1.187")
        check.eq(len(sockets.opened), 3)


def test_random_when_given_then_it_is_used():
    """RFC 7252 sections 4.4 and 5.3.1: of message IDs and tokens."""
    transport = fake.Transport()
    endpoint = coap.Endpoint(sock=transport, random=lambda n: b"\1" * n)
    endpoint.send(coap.Message(coap.GET), PEER)
    endpoint.process(0)
    check.eq(transport.sent, [(b"\x48\1\1\1" + b"\1" * 8, PEER)])


def test_scheme_when_the_transport_is_secure_then_requests_are_of_coaps():
    """RFC 7252 section 6.2."""
    transport = fake.Transport((get(1), PEER))
    transport.is_secure = True
    endpoint = coap.Endpoint(sock=transport)
    uris = []
    endpoint.resource("r").get(lambda request, response: uris.append(request.get_request_uri()))
    endpoint.process(0)
    check.eq(uris, ["coaps://192.0.2.1:5683/r"])


def test_empty_datagram_when_it_is_no_esp32_then_the_socket_stays():
    """RFC 7252 section 3: not even a deaf one is replaced there."""
    with Sockets() as sockets:
        endpoint = deaf_endpoint(sockets)
        endpoint.reopens_on_empty = False
        check.eq((endpoint.process(0), len(sockets.opened)), (None, 1))


def test_port_when_it_is_none_then_the_socket_is_not_bound():
    """RFC 7252 section 5.3: a client's port is the system's choice."""
    with Sockets() as sockets:
        coap.Endpoint()
        check.eq((sockets.opened[0].bound_to, sockets.looked_up), (None, []))


def test_names_when_used_again_then_they_are_looked_up_once():
    """RFC 7252 section 6.4: by host and port; of the endpoint's family."""
    with Sockets() as sockets:
        for family, address in ((None, ("192.0.2.9", 5683)), (10, ("2001:db8::1", 5683, 0, 0))):
            endpoint = coap.Endpoint(family=family)
            sockets.looked_up = []
            for _ in range(3):
                check.eq(endpoint.send(coap.Message(coap.GET, uri="coap://name/x")).remote, address)
            check.eq(endpoint.send(coap.Message(coap.GET), "name:5684").remote[1], 5684)
            check.eq(sockets.looked_up, [("name", 5683), ("name", 5684)])
            check.eq(endpoint.resolve(address), address)
        check.eq(hash(endpoint.resolve(bytearray(b"\2\0address"))), hash(b"\2\0address"))  # of getaddrinfo, unix port


def test_names_when_there_are_many_then_the_latest_are_kept():
    """RFC 7252 section 6.4: a program that asks a thousand hosts does not fill the heap."""
    with Sockets() as sockets:
        endpoint = coap.Endpoint()
        for n in range(20):
            endpoint.resolve("host%d" % n)
        check.eq(len(endpoint._names) <= 8, True)
        sockets.looked_up = []
        endpoint.resolve("host18")
        endpoint.resolve("host19")
        check.eq(sockets.looked_up, [])


def test_names_when_a_transport_is_given_then_ipv4_is_the_default():
    """RFC 7252 section 6.4: as without one."""
    with Sockets():
        check.eq(coap.Endpoint(sock=fake.Transport()).resolve("name:5684"), ("192.0.2.9", 5684))


def test_names_when_a_request_is_not_answered_then_they_are_looked_up_again():
    """RFC 7252 section 6.4: the server may have got another address since; else only a restart would find it."""
    with fake.Clock() as clock, Sockets() as sockets:
        endpoint = coap.Endpoint()
        for is_answered, looked_up in (True, 1), (False, 1), (False, 2):
            record = endpoint.send(coap.Message(coap.GET, uri="coap://name/x"), None, 1000)
            check.eq(sockets.looked_up, looked_up * [("name", 5683)])
            endpoint.process(0)
            if is_answered:
                answer = packet(coap.CONTENT, record.mid, coap.ACK, record.token)
                endpoint.socket.inbox.append((answer, record.remote))
                endpoint.process(0)
            clock.sleep_ms(1000)
            endpoint.process(0)
            check.eq((record.is_done(), record.error), (True, None if is_answered else coap.Timeout))


def test_names_when_the_time_of_a_group_is_over_then_they_stay_as_they_were():
    """RFC 7252 section 8.2: who answered has not moved, and each look-up may block for seconds."""
    with fake.Clock() as clock, Sockets() as sockets:
        endpoint = coap.Endpoint()
        endpoint.resolve("name")
        record = endpoint.send(coap.Message(coap.GET), ("224.0.1.187", 5683), 1000)
        endpoint.process(0)
        endpoint.socket.inbox.append((packet(coap.CONTENT, 1, coap.NON, record.token), PEER))
        endpoint.process(0)
        clock.sleep_ms(1000)
        endpoint.process(0)
        endpoint.resolve("name")
        check.eq((record.is_done(), len(record.responses), sockets.looked_up), (True, 1, [("name", 5683)]))


class Wrapping:
    """An extension that knows by the address what to protect."""

    rank = 10
    understood = 0

    def wrap(self, record, message):
        return None


def test_names_when_requests_are_protected_then_they_stay_as_they_were():
    """RFC 8613: keys belong to an address; a name that leads elsewhere would have requests go in the clear."""
    with fake.Clock() as clock, Sockets() as sockets:
        endpoint = coap.Endpoint()
        endpoint.attach(Wrapping())
        for _ in range(2):
            record = endpoint.send(coap.Message(coap.GET, uri="coap://name/x"), None, 1000)
            endpoint.process(0)
            clock.sleep_ms(1000)
            endpoint.process(0)
            check.eq((record.error, sockets.looked_up), (coap.Timeout, [("name", 5683)]))


def test_names_when_only_the_other_ip_version_is_known_then_os_error():
    """RFC 7252 section 6.4: from send, instead of a request that times out."""
    entry = []
    with Sockets() as sockets:
        sockets.getaddrinfo = lambda host, port, family=None: _of_family(entry, family)
        for host, kind, address in ("0.0.0.0", 10, bytearray(28)), ("0.0.0.0", 10, None), ("::", 2, bytearray(16)):
            endpoint = coap.Endpoint(host=host)
            entry[:] = [(kind, 2, 0, "", address)]  # None is of an ESP32
            check.raises(OSError, endpoint.resolve, "name")


def _of_family(entries, family):
    """What getaddrinfo returns of `entries`."""
    if family not in (None, entries[0][0]):
        raise OSError(-5)
    return entries


def test_names_when_a_pico_w_calls_an_ipv6_address_af_inet_then_it_is_taken():
    """RFC 7252 section 6.4: lwIP has one address of a name, and calls it so whatever it is."""
    if coap._ON_CPYTHON:  # which asks for the family
        return
    with Sockets() as sockets:
        sockets.getaddrinfo = lambda host, port: [(2, 1, 0, "", ("2001:db8::1", port))]
        check.eq(coap.Endpoint(host="::").resolve("name"), ("2001:db8::1", 5683))


def test_names_when_an_address_has_a_zone_then_it_is_looked_up_with_it():
    """RFC 6874 section 2: %25 in a URI is the % of a zone; that alone is what one writes elsewhere."""
    with Sockets() as sockets:
        endpoint = coap.Endpoint(host="::")
        for uri in "coap://[fe80::1%25eth0]/x", "coap://[fe80::1%eth0]/x":
            endpoint.send(coap.Message(coap.GET, uri=uri))
        check.eq(sockets.looked_up, 2 * [("fe80::1%eth0", 5683)])


def test_names_when_not_known_then_os_error():
    """RFC 7252 section 6.4: from send and request; nothing is queued."""
    with Sockets():
        endpoint = coap.Endpoint()
        check.raises(OSError, endpoint.get, "coap://nosuch/x")
        check.raises(OSError, endpoint.send, coap.Message(coap.GET, uri="coap://nosuch/x"))
        check.raises(ValueError, endpoint.send, coap.Message(coap.GET))
        check.eq(endpoint.next_event_ms(), None)


def test_sockets_when_there_are_none_then_value_error():
    """RFC 7252 section 1: a firmware without network takes a transport."""
    sockets = Sockets()
    with sockets:
        coap.socket = None
        check.raises(ValueError, coap.Endpoint, contains="sock")
        coap.Endpoint(sock=fake.Transport())


def test_host_when_there_are_no_sockets_then_the_transport_gets_it_with_its_port():
    """RFC 7252 section 6.2: a firmware without network cannot look up a name; who made the transport knows it."""
    transport = fake.Transport()
    with Sockets():
        coap.socket = None
        endpoint = coap.Endpoint(sock=transport, family=2)
        endpoint.send(coap.Message(coap.GET, uri="coap://192.0.2.9/x"))
        endpoint.send(coap.Message(coap.GET, uri="coap://[2001:db8::1]:61616/x"))
        endpoint.process(0)
        endpoint.process(0)
    check.eq([peer for _, peer in transport.sent], [("192.0.2.9", 5683), ("2001:db8::1", 61616)])


# ---- request ----


class Answering(fake.Transport):
    """A peer that answers each request or ping by what `answer` makes of its Message, and then what `later` holds."""

    later = ()

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def sendto(self, data, peer):
        if data[1] or data[0] == 0x40:
            self.inbox.append((self.answer(coap.Message.decode(bytes(data))), peer))
            self.inbox += self.later
        return super().sendto(data, peer)


def test_request_when_answered_then_the_response():
    """RFC 7252 section 5.2: piggybacked; any code; CON and NON; with payload and options."""
    here, there, _, _ = wired()
    seen = []

    @there.resource("r")
    def handler(request, response):
        seen.append((request.code, request.payload, request.mtype, request.opt.uri_query))
        return "text"

    check.eq(here.get("coap://there/r").payload, b"text")
    check.eq(here.process(0), None)  # not once more
    check.eq(here.get("coap://there/nosuch").code, coap.NOT_FOUND)
    check.eq(here.get("coap://there/r", mtype=coap.NON).code, coap.CONTENT)
    check.eq(here.put("coap://there/r?a=1", "in").code, coap.CHANGED)
    check.eq(here.post("coap://there/r", b"in").code, coap.CREATED)
    check.eq(here.delete("coap://there/r").code, coap.DELETED)
    check.eq(here.fetch("coap://there/r", b"in", content_format=0).code, coap.CONTENT)
    check.eq(here.patch("coap://there/r", "in").code, coap.CHANGED)
    check.eq(here.ipatch("coap://there/r", b"in", content_format=0).code, coap.CHANGED)
    check.eq([item[0] for item in seen], [1, 1, 3, 2, 4, 5, 6, 7])
    check.eq((seen[1][2], seen[2][1], seen[2][3]), (coap.NON, b"in", ("a=1",)))


def test_request_when_the_response_is_separate_then_it_waits_for_it():
    """RFC 7252 section 5.2.2: the empty ACK does not end it; the response is acknowledged in its turn."""
    transport = Answering(lambda request: empty(coap.ACK, request.mid))
    endpoint = coap.Endpoint(sock=transport)
    endpoint.resolve = Resolver(PEER)
    separate = packet(coap.CONTENT, 77, coap.CON, b"tk", payload="late")
    transport.later = [None, None, (separate, PEER)]
    with fake.Clock() as clock:
        check.eq(endpoint.get("coap://x/r", token=b"tk").payload, b"late")
        check.eq(clock.now_ms, 20)
    check.eq(transport.sent[1:], [(empty(coap.ACK, 77), PEER)])


def test_request_when_nobody_answers_then_timeout():
    """RFC 7252 section 4.8.2: after MAX_TRANSMIT_WAIT or the caller's time; nothing stays open."""
    quick = coap.Tuning(ack_timeout_ms=500, ack_random_percent=100)
    for timeout_ms, tuning, expected in ((None, fake.EXACT, 62000), (3000, None, 3000), (None, quick, 15500)):
        with fake.Clock() as clock:
            endpoint, _ = serve()
            endpoint.resolve = Resolver(PEER)
            check.raises(coap.Timeout, endpoint.get, "coap://x/r", timeout_ms=timeout_ms, transport_tuning=tuning)
            check.eq(clock.now_ms, expected)
            check.eq((endpoint.next_event_ms() > 100000, endpoint.next_event_reason), (True, "housekeeping"))


def test_request_when_non_and_nobody_answers_then_timeout_after_93_s():
    """RFC 7252 section 4.8.2: sent once."""
    with fake.Clock() as clock:
        endpoint, transport = serve()
        endpoint.resolve = Resolver(PEER)
        check.raises(coap.Timeout, endpoint.get, "coap://x/r", mtype=coap.NON)
        check.eq((clock.now_ms, len(transport.sent)), (93000, 1))


def test_request_when_it_is_reset_then_reset():
    """RFC 7252 section 4.2: raised; and Rejected for a critical option that is not understood."""
    for answer, error in (
        (lambda request: empty(coap.RST, request.mid), coap.Reset),
        (lambda request: packet(coap.CONTENT, request.mid, coap.ACK, request.token, if_match=(b"x",)), coap.Rejected),
    ):
        endpoint = coap.Endpoint(sock=Answering(answer))
        endpoint.resolve = Resolver(PEER)
        check.raises(error, endpoint.get, "coap://x/r")


def test_ping_when_answered_then_how_long_it_took():
    """RFC 7252 section 4.3: a Reset is the answer; an empty ACK, which is none of CoAP's, shows life as well."""
    for mtype in coap.RST, coap.ACK:
        with fake.Clock() as clock:

            def answer(message, mtype=mtype, clock=clock):
                clock.sleep_ms(30)
                return empty(mtype, message.mid)

            transport = Answering(answer)
            check.eq(coap.Endpoint(sock=transport).ping(PEER), 30)
        check.eq([datagram[:2] for datagram, _ in transport.sent], [b"\x40\x00"])


def test_ping_when_nobody_answers_then_timeout_and_in_a_handler_runtime_error():
    """RFC 7252 section 4.3: retransmitted as any CON; nothing stays open."""
    with fake.Clock() as clock:
        endpoint, transport = serve()
        check.raises(coap.Timeout, endpoint.ping, "192.0.2.1", timeout_ms=4000)
        check.eq((clock.now_ms, len(transport.sent) > 1, endpoint.next_event_ms() > 100000), (4000, True, True))
        check.raises(ValueError, endpoint.ping, "coap://192.0.2.1")
        endpoint.resource("r2").get(lambda *_: str(check.raises(RuntimeError, endpoint.ping, "192.0.2.1")))
        transport.inbox.append((packet(coap.GET, 1, uri_path=("r2",)), PEER))
        endpoint.process(0)
        check.eq(fake.head(transport.sent[-1][0])[:2], (coap.ACK, coap.CONTENT))
        check.eq(len(endpoint._queue), 0)


def test_request_when_it_wants_no_response_then_none_once_it_has_gone():
    """RFC 7967 section 2.1: sent as NON, or acknowledged as CON, is all that can be known."""
    endpoint, transport = serve()
    endpoint.resolve = Resolver(OTHER)
    with fake.Clock():
        check.eq(endpoint.post("coap://x/r", mtype=coap.NON, no_response=26), None)
    check.eq([fake.head(datagram)[:2] for datagram, _ in transport.sent], [(coap.NON, coap.POST)])


def test_request_when_the_argument_is_wrong_then_it_is_said_at_once():
    """RFC 7252 section 6.4: a URI that is none, an option that does not exist, no method."""
    endpoint, transport = serve()
    check.raises(ValueError, endpoint.get, "x/r")
    check.raises(TypeError, endpoint.get, "coap://192.0.2.1/r", nosuch=1)
    check.raises(ValueError, endpoint.request, None, "coap://192.0.2.1/r")
    check.eq((endpoint.process(0), transport.sent), (None, []))


def test_request_when_others_ask_meanwhile_then_they_are_served():
    """RFC 7252 section 5.2: the endpoint stays a server while it waits."""
    endpoint, transport = serve(get(1), get(2))
    endpoint.resolve = Resolver(OTHER)
    with fake.Clock():
        check.raises(coap.Timeout, endpoint.get, "coap://x/r", timeout_ms=100)
    check.eq([datagram for datagram, peer in transport.sent if peer is PEER], [reply(1), reply(2)])


def test_request_when_records_come_meanwhile_then_process_returns_them():
    """RFC 7252 section 5.2: requests, acknowledged at once, and another message's response; beyond 8 it is 5.03."""
    endpoint, transport = application(*[get(mid) for mid in range(1, 11)])
    endpoint.resolve = Resolver(OTHER)
    with fake.Clock():
        check.raises(coap.Timeout, endpoint.get, "coap://x/r", timeout_ms=100)
        sent = [fake.head(datagram) for datagram, peer in transport.sent if peer is PEER]
        check.eq(sent, [(coap.ACK, 0 if mid < 9 else coap.SERVICE_UNAVAILABLE, mid) for mid in range(1, 11)])
        records = [endpoint.process(0) for _ in range(9)]
        check.eq([record and record.mid for record in records], [1, 2, 3, 4, 5, 6, 7, 8, None])
        records[0].respond(coap.CONTENT, "late")
        endpoint.process(0)
        check.eq(fake.head(transport.sent[-1][0])[:2], (coap.CON, coap.CONTENT))


def test_request_when_another_is_answered_meanwhile_then_process_returns_it():
    """RFC 7252 section 5.3.2: nothing that was asked for is lost."""
    here, there, _, _ = wired()
    there.resource("r").get(lambda request, response: request.opt.uri_query[0])
    record = here.send(coap.Message(coap.GET, uri="coap://there/r?first"))
    check.eq(here.get("coap://there/r?second").payload, b"second")
    check.eq(here.process(0) is record.response, True)
    check.eq(record.response.message.payload, b"first")


def test_request_when_a_record_is_unanswered_then_its_con_is_acknowledged():
    """RFC 7252 section 4.2: what process returned before is not forgotten."""
    endpoint, transport = application(get(1))
    endpoint.resolve = Resolver(OTHER)
    endpoint.process(0)
    with fake.Clock():
        check.raises(coap.Timeout, endpoint.get, "coap://x/r", timeout_ms=100)
        check.eq(endpoint.process(0), None)  # not once more
    check.eq([datagram for datagram, peer in transport.sent if peer is PEER], [empty(coap.ACK, 1)])


def test_request_when_it_is_interrupted_then_it_has_ended():
    """RFC 7252 section 4.2: nobody waits for it any more, so it is not retransmitted."""
    endpoint, transport = application()
    endpoint.resolve = Resolver(OTHER)
    transport.recvfrom = fake.raiser(KeyboardInterrupt())
    with fake.Clock() as clock:
        check.raises(KeyboardInterrupt, endpoint.get, "coap://x/r")
        transport.recvfrom = lambda n: None
        clock.sleep_ms(3000)
        check.eq((endpoint.process(0), len(transport.sent)), (None, 1))


# ---- real sockets ----


def loop_back(server, client, record):
    """Let both run until `record` is done, for about a second."""
    for _ in range(100):
        if record.is_done():
            return
        client.process(5)
        server.process(5)
    raise AssertionError("not done: %r" % record.message)


def test_loopback_when_asked_then_answered():
    """RFC 7252 section 5.2: two sockets, a GET, a ping, a long PUT, the catalogue."""
    server, port = bound_endpoint()
    with server, coap.Endpoint() as client:
        stored = []
        resource = server.resource("r", rt="x")
        resource.get(lambda request, response: "text")
        resource.put(lambda request, response: stored.append(request.payload))
        uri = "coap://127.0.0.1:%d/" % port
        for message, kind in (
            (coap.Message(coap.GET, uri=uri + "r"), (coap.ACK, coap.CONTENT)),
            (coap.Message(0, remote="127.0.0.1:%d" % port), (coap.RST, 0)),
            (coap.Message(coap.PUT, uri=uri + "r", payload=b"x" * 1024), (coap.ACK, coap.CHANGED)),
            (coap.Message(coap.GET, uri=uri + ".well-known/core", mtype=coap.NON), (coap.NON, coap.CONTENT)),
        ):
            record = client.send(message)
            loop_back(server, client, record)
            check.eq((record.response.message.mtype, record.response.message.code), kind)
        check.eq((record.response.message.payload, stored), (b'</r>;rt="x"', [b"x" * 1024]))


def test_loopback_when_it_asks_itself_then_it_serves_while_it_waits():
    """RFC 7252 section 5.2: request and handler on one socket."""
    endpoint, port = bound_endpoint()
    with endpoint:
        endpoint.resource("r").get(lambda request, response: "mine")
        check.eq(endpoint.get("coap://127.0.0.1:%d/r" % port).payload, b"mine")
        check.eq(endpoint.get("coap://127.0.0.1:%d/none" % port, mtype=coap.NON).code, coap.NOT_FOUND)


def test_loopback_when_nobody_answers_then_timeout_in_time():
    """RFC 7252 section 4.8.2: real time, real sockets; it does not sleep until the next event."""
    silent, port = bound_endpoint()
    with silent, coap.Endpoint() as endpoint:
        begin_ms = coap.ticks_ms()
        check.raises(coap.Timeout, endpoint.get, "coap://127.0.0.1:%d/r" % port, timeout_ms=20)
        check.eq(20 <= coap.ticks_diff(coap.ticks_ms(), begin_ms) < 2000, True)


def test_loopback_when_two_sockets_are_registered_then_no_record_is_lost():
    """RFC 7252 section 8: each datagram of both comes out of process once."""
    first, first_port = bound_endpoint()
    second, second_port = bound_endpoint()
    with first, second, coap.Endpoint(transmissions=8) as client:
        first.register_socket(second.socket)
        message = coap.Message(coap.POST, mtype=coap.NON, transport_tuning=coap.Tuning(nstart=9))
        for port in (first_port, second_port) * 3:
            client.send(message, "127.0.0.1:%d" % port)
        client.process(0)
        records = [record for record in [first.process(20) for _ in range(8)] if record]
        check.eq(len(records), 6)
        check.eq(len(set([record.mid for record in records])), 6)


def test_loopback_when_a_socket_and_a_transport_have_records_then_none_is_lost():
    """RFC 7252 section 5.3.2: while an exchange is open, process reads both before it sends."""
    server, port = bound_endpoint()
    with server, coap.Endpoint() as client:
        server.send(coap.Message(coap.GET), PEER)
        server.process(0)
        transport = fake.Transport()
        server.register_socket(transport)
        tuning = coap.Tuning(nstart=9)
        for n in range(3):
            message = coap.Message(coap.POST, mid=n, mtype=coap.NON, transport_tuning=tuning)
            client.send(message, "127.0.0.1:%d" % port)
            client.process(0)
            transport.inbox.append((packet(coap.POST, 100 + n, coap.NON), OTHER))
            records = [record for record in [server.process(20), server.process(20)] if record]
            check.eq(sorted([record.mid for record in records]), [n, 100 + n])


def test_loopback_when_a_datagram_is_empty_or_too_large_then_the_endpoint_lives():
    """RFC 7252 section 4.6: dropped, and answered 4.13."""
    server, port = bound_endpoint(datagram_len=100)
    with server, coap.Endpoint(datagram_len=500) as client:
        server.resource("r")(lambda request, response: "text")
        address = client.resolve("127.0.0.1:%d" % port)
        client.socket.sendto(b"", address)
        for payload, code in ((b"x" * 200, coap.REQUEST_ENTITY_TOO_LARGE), (b"x", coap.CHANGED)):
            record = client.send(coap.Message(coap.PUT, uri_path=("r",), payload=payload), address)
            loop_back(server, client, record)
            check.eq(record.response.message.code, code)


def test_port_when_taken_then_os_error():
    """RFC 7252 section 6.1: said by the constructor."""
    endpoint, port = bound_endpoint()
    with endpoint:
        check.raises(OSError, coap.Endpoint, port=port, host="127.0.0.1")


# ---- the end of process, and of the endpoint ----


def test_process_when_the_time_is_over_then_it_does_not_wait():
    """A deadline minus the time is below 0 after a slow handler."""
    endpoint, transport = serve(get(1))
    check.eq(endpoint.process(-5), None)
    check.eq(len(transport.sent), 1)
    check.eq(endpoint.process(-5), None)  # with nothing to read, too


def test_close_when_something_is_asked_later_then_closed():
    """RFC 7252 section 4.2: nothing waits for what cannot come."""
    endpoint, transport = serve()
    endpoint.close()
    message = coap.Message(coap.GET)
    check.raises(coap.Closed, endpoint.process)
    check.raises(coap.Closed, endpoint.send, message, PEER)
    check.raises(coap.Closed, endpoint.get, "coap://192.0.2.1/")
    endpoint.close()
    check.eq(transport.closed, 1)


def test_close_when_a_handler_does_then_process_ends():
    """RFC 7252 section 4.2: the main loop does not sleep for ever."""
    endpoint, _ = serve(packet(coap.GET, 1, uri_path=("stop",)))
    endpoint.resource("stop").get(lambda request, response: endpoint.close())
    check.raises(coap.Closed, endpoint.process)


def test_close_when_on_end_raises_then_the_sockets_are_closed_and_every_exchange_ends():
    """RFC 7252 section 4.2: the port is free, and nobody waits for what cannot come."""
    endpoint, transport = application()
    records = [endpoint.send(coap.Message(coap.GET), PEER) for _ in range(3)]
    endpoint.on_end = fail
    check.raises(KeyError, endpoint.close)
    check.eq(([record.error for record in records], transport.closed), ([coap.Closed] * 3, 1))


def fail(record):
    raise KeyError("a hook")


def test_close_when_on_end_sends_then_every_exchange_ends():
    """RFC 7252 section 4.2: what would ask again cannot."""
    endpoint, transport = application()
    endpoint.on_end = lambda record: endpoint.send(coap.Message(coap.GET), PEER)
    records = [endpoint.send(coap.Message(coap.GET), PEER) for _ in range(3)]
    endpoint.close()
    check.eq(([record.error for record in records], transport.closed), ([coap.Closed] * 3, 1))


def test_close_when_there_was_no_socket_then_none_is_opened():
    """RFC 7252 section 6.1: as after a network that was gone."""
    endpoint, _ = serve()
    endpoint._forget(endpoint.socket)
    endpoint.socket = None
    endpoint.close()
    endpoint._reopen = fail
    check.raises(coap.Closed, endpoint.process, 0)


def test_on_end_when_it_waits_then_runtime_error():
    """RFC 7252 section 4.2: the message that ended the exchange is still to be acknowledged."""
    here, there, _, _ = wired()
    there.resource("r").get(lambda request, response: "text")
    caught = []

    def ask_again(record):
        try:
            here.get("coap://192.0.2.2/r")
        except RuntimeError as error:
            caught.append(error)

    here.on_end = ask_again
    check.eq(here.get("coap://192.0.2.2/r").code, coap.CONTENT)
    check.eq(len(caught), 1)
    here.on_end = None
    check.eq(here.get("coap://192.0.2.2/r").code, coap.CONTENT)


def chained(hook, faults):
    """(endpoint, transport) on which each datagram has another sent, by what is told of it: its on_end or log."""
    transport = fake.Transport()
    transport.faults = [OSError(101)] * faults
    endpoint = coap.Endpoint(sock=transport)

    def send_another(*_):
        if len(transport.sent) + faults - len(transport.faults) < 1000:
            endpoint.send(coap.Message(coap.POST, mtype=coap.NON, no_response=26), PEER)

    setattr(endpoint, hook, send_another)
    send_another()
    return endpoint, transport


def test_process_when_each_datagram_has_the_next_sent_then_it_returns_in_time():
    """RFC 7252 section 4.3: who sends in on_end, or tells a server by log what could not be sent, did it for ever."""
    for hook, faults in (("on_end", 0), ("log", 1000)):
        endpoint, transport = chained(hook, faults)
        check.eq(endpoint.process(0), None)
        check.eq(len(transport.sent) + faults - len(transport.faults), 64, hook)
        check.eq(endpoint.next_event_ms(), 0)
        endpoint.process(0)
        check.eq(len(transport.sent) + faults - len(transport.faults), 128, hook)


def test_process_when_each_datagram_has_the_next_sent_then_it_serves_meanwhile():
    """RFC 7252 section 4.2: a request that waits in the socket is answered between them."""
    endpoint, transport = chained("on_end", 0)
    endpoint.resource("r").get(lambda request, response: "text")
    transport.inbox.append((get(1), PEER))
    endpoint.process(0)
    check.eq((reply(1), PEER) in transport.sent, True)
