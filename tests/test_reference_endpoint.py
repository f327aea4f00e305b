"""What CoAPy's end points and records promise, and what aiocoap does with sent messages, exercised on ours.

Each docstring names the API and the member; see test_reference_api.py for messages, reference_api.py for the map.
"""

from binascii import unhexlify

import check
import coap
import fake
from coap import ACK, CON, CONTENT, GET, NON, PUT, RST, Message
from fake import EXACT, PEER, ask, due, empty, head, packet
from loopback import bound_endpoint

GROUP = ("224.0.1.187", 5683)
UNIX_IPV4 = unhexlify("020016fdc00002010000000000000000")  # MicroPython's unix port: 192.0.2.1 port 5885
UNIX_IPV6 = unhexlify("0a00163300000000" + "20010db8000000000000000000000002" + "00000000")


def get(**fields):
    return Message(GET, uri_path=("t",), **fields)


def received(datagram, remote=PEER):
    return Message.decode(datagram, remote)


# ---- Endpoint ----


def endpoint_with(*inbox, **tables):
    """(endpoint, transport) with `inbox` waiting to be read."""
    transport = fake.Transport(*inbox)
    return coap.Endpoint(sock=transport, random=fake.Random(5).bytes, **tables), transport


def test_endpoint_when_made_with_a_port_then_bound():
    """CoAPy EndPoint(address_family, socket_type, socket_proto), .bind, .address: port, host, family."""
    endpoint, port = bound_endpoint(family=getattr(coap.socket, "AF_INET", None))
    with endpoint:
        check.eq(hasattr(endpoint.socket, "sendto"), True)
        check.raises(OSError, coap.Endpoint, port, "127.0.0.1")


def test_socket_when_read_then_the_one_that_sends():
    """CoAPy EndPoint.socket: the given transport, or the socket made."""
    endpoint, transport = endpoint_with()
    check.eq(endpoint.socket is transport, True)


def test_send_when_called_then_queued_until_process():
    """CoAPy EndPoint.send(message, remote) -> TransmissionRecord: sends nothing itself."""
    endpoint, transport = endpoint_with()
    record = endpoint.send(get(), PEER)
    check.eq(isinstance(record, coap.TransmissionRecord), True)
    check.eq(transport.sent, [])
    check.eq(endpoint.process(0), None)
    check.eq(transport.sent, [(bytes(record.packed), PEER)])


def test_send_when_no_remote_is_given_then_that_of_the_message():
    """CoAPy EndPoint.send, aiocoap Message.remote: the argument comes first."""
    endpoint, transport = endpoint_with()
    check.eq(endpoint.send(get(remote=PEER)).remote, PEER)
    check.eq(endpoint.send(get(remote="elsewhere"), PEER).remote, PEER)
    check.raises(ValueError, endpoint.send, get(), contains="remote")


def test_endpoint_when_a_message_is_too_long_then_value_error():
    """aiocoap Remote.maximum_payload_size, .maximum_block_size_exp: one limit, of whole datagrams."""
    engine = fake.engine(datagram_len=64)
    check.eq(engine.datagram_len, 64)
    engine.send(Message(PUT, payload=b"p" * (64 - 4 - 8 - 1)), PEER)
    check.eq(len(due(engine, 0)[0]), 64)
    check.raises(ValueError, engine.send, Message(PUT, payload=b"p" * (64 - 4 - 8)), PEER, contains="datagram_len")


def test_send_when_ack_or_reset_then_value_error():
    """CoAPy EndPoint.send: CON and NON only."""
    endpoint, _ = endpoint_with()
    for mtype in ACK, RST:
        check.raises(ValueError, endpoint.send, Message(CONTENT, mtype=mtype, mid=1, token=b"t"), PEER)


def test_process_when_nothing_comes_then_none_at_the_timeout():
    """CoAPy EndPoint.process(timeout_ms): 0 is one pass."""
    endpoint, _ = endpoint_with()
    with fake.Clock() as clock:
        for timeout_ms, now_ms in ((0, 0), (15, 15), (1000, 1015)):
            check.eq((endpoint.process(timeout_ms), clock.now_ms), (None, now_ms))


def test_process_when_a_response_comes_then_its_record_without_a_timeout():
    """CoAPy EndPoint.process(None) -> ReceptionRecord: waits until there is one."""
    endpoint, transport = endpoint_with()
    record = endpoint.send(get(), PEER)
    endpoint.process(0)
    transport.inbox += [None, (packet(CONTENT, record.mid, ACK, record.token, payload=b"x"), PEER)]
    reception = endpoint.process()
    check.eq(isinstance(reception, coap.ReceptionRecord), True)
    check.eq((reception.pertains_to is record, reception.message.payload), (True, b"x"))
    check.eq(endpoint.process(0), None)


def test_process_when_it_is_late_then_due_packets_go_in_the_same_pass():
    """CoAPy EndPoint.process: transmits everything due, then receives, at least once."""
    endpoint, transport = endpoint_with((packet(CONTENT, 1, NON, b"none"), PEER), (empty(CON, 7), PEER))
    endpoint.send(get(mtype=NON, no_response=26), PEER)
    endpoint.send(get(mtype=NON, no_response=26), PEER)
    endpoint.process(0)
    check.eq([head(sent)[:2] for sent, _ in transport.sent], [(NON, GET), (NON, GET), (RST, 0)])


def test_process_when_datagrams_are_broken_then_nothing_is_raised():
    """CoAPy EndPoint.process lets a malformed datagram raise; ours drops it or answers Reset."""
    broken = b"", b"\x40", b"\xff" * 20, b"\x40\x01\0\x05\xff"
    endpoint, transport = endpoint_with(*[(datagram, PEER) for datagram in broken])
    check.eq(endpoint.process(0), None)
    check.eq((transport.inbox, transport.sent), ([], [(empty(RST, 5), PEER)]))


def test_process_when_the_socket_fails_then_nothing_is_raised():
    """CoAPy EndPoint.process lets ICMP errors raise; ours takes them for loss."""
    endpoint, transport = endpoint_with(OSError(111), (packet(GET, 3), PEER))
    transport.faults.append(OSError(113))
    record = endpoint.send(get(), PEER)
    for _ in range(3):
        reception = endpoint.process(0)
        if reception is not None:
            break
    check.eq(reception.message.mid, 3)
    check.eq((record.is_done(), record.transmissions_left), (False, 4))


def test_process_when_inside_a_handler_then_runtime_error():
    """CoAPy EndPoint.process: not re-entrant, and it says so."""
    caught = []
    endpoint, _ = endpoint_with((packet(GET, 1, uri_path=("t",)), PEER))

    @endpoint.resource("t")
    def handle(request, response):
        caught.append(check.raises(RuntimeError, endpoint.process, 0))

    endpoint.process(0)
    check.eq(len(caught), 1)


def test_process_when_two_sockets_can_be_read_then_no_record_is_lost():
    """CoAPy EndPoint.process loses the first of two; ours returns one after the other."""
    endpoint, _ = endpoint_with((packet(GET, 1), PEER), (packet(GET, 2), PEER))
    second = fake.Transport((packet(GET, 3), PEER), (packet(GET, 4), PEER))
    endpoint.register_socket(second)
    mids = [endpoint.process(0).message.mid for _ in range(4)]
    check.eq(sorted(mids), [1, 2, 3, 4])


def test_register_socket_when_called_then_received_there_and_answered_from_socket():
    """CoAPy EndPoint.register_socket, .register: answers leave from the primary one."""
    endpoint, transport = endpoint_with()
    second = fake.Transport((packet(GET, 3, uri_path=("t",)), PEER))
    endpoint.register_socket(second)
    endpoint.resource("t").get(lambda request, response: "x")
    endpoint.process(0)
    check.eq([head(sent) for sent, _ in transport.sent], [(ACK, CONTENT, 3)])
    check.eq(second.sent, [])


def test_register_socket_when_of_a_group_then_the_rules_of_groups():
    """CoAPy EndPoint.bindDiscovery(address): errors are not answered, CON is ignored, no Reset is sent."""
    endpoint, transport = endpoint_with()
    found, missing = packet(GET, 1, NON, uri_path=("t",)), packet(GET, 2, NON)
    requests = found, missing, packet(GET, 3, CON, uri_path=("t",)), empty(CON, 4)
    endpoint.register_socket(fake.Transport(*[(request, PEER) for request in requests]), is_group=True)
    endpoint.resource("t").get(lambda request, response: "x")
    endpoint.tuning = coap.Tuning(leisure_ms=0)
    for _ in requests:
        endpoint.process(0)
    check.eq([head(sent)[:2] for sent, _ in transport.sent], [(NON, CONTENT)])


def test_close_when_called_then_sockets_are_closed_and_exchanges_end():
    """CoAPy EndPoint.socket.close(): ours tells the records."""
    endpoint, transport = endpoint_with()
    second = fake.Transport()
    endpoint.register_socket(second)
    records = [endpoint.send(get(), PEER), endpoint.send(get(), PEER)]
    endpoint.process(0)
    endpoint.close()
    check.eq([record.error for record in records], [coap.Closed] * 2)
    check.eq((transport.closed, second.closed), (1, 1))


def test_endpoint_when_its_block_ends_then_closed():
    """CoAPy EndPoint: as a context manager, an exception passes through."""
    endpoint, transport = endpoint_with()
    try:
        with endpoint as same:
            check.eq(same is endpoint, True)
            raise KeyError("passes")
    except KeyError:
        check.eq(transport.closed, 1)
    else:
        raise AssertionError("the exception was swallowed")


def test_next_event_ms_when_a_message_waits_then_how_long_to_sleep():
    """CoAPy EndPoint's poll timeout: for a program that sleeps by itself, with the reason."""
    endpoint, _ = endpoint_with(tuning=EXACT)
    with fake.Clock() as clock:
        check.eq((endpoint.next_event_ms(), endpoint.next_event_reason), (None, None))
        endpoint.send(get(), PEER)
        check.eq((endpoint.next_event_ms(), endpoint.next_event_reason), (0, "send"))
        endpoint.process(0)
        check.eq((endpoint.next_event_ms(), endpoint.next_event_reason), (2000, "retransmit"))
        clock.sleep_ms(500)
        check.eq(endpoint.next_event_ms(), 1500)


# ---- TransmissionRecord ----


def sent(message=None, remote=PEER, now_ms=0, **tables):
    """(engine, record) of a message sent at `now_ms`; the first wait is 2 s."""
    tables.setdefault("tuning", EXACT)
    engine = fake.engine(**tables)
    record = engine.send(message or get(), remote)
    due(engine, now_ms)
    return engine, record


def answer(record, mtype=ACK, mid=None, code=CONTENT, **fields):
    return packet(code, record.mid if mid is None else mid, mtype, record.token, **fields)


def test_transmission_when_made_then_end_point_message_remote_packed():
    """CoAPy TransmissionRecord.end_point, .message, .remote, .packed: bytes made by send, a live message."""
    engine = fake.engine()
    message = get(mid=7, token=b"t")
    record = engine.send(message, PEER)
    message.payload = b"changed since"
    check.eq((record.endpoint is engine, record.message is message, record.remote), (True, True, PEER))
    check.eq(due(engine, 0), [unhexlify("4101000774b174")])
    check.eq(bytes(record.packed), unhexlify("4101000774b174"))


def test_transmission_when_not_sent_yet_then_no_time_and_no_id():
    """CoAPy TransmissionRecord.transaction_id, .transmission_time, .last_event_time, .transmissions_left: 1 + 4."""
    record = fake.engine().send(get(), PEER)
    check.eq((record.mid, record.transmitted_ms, record.last_event_ms), (None, None, None))
    check.eq(record.transmissions_left, 5)
    check.eq((record.response_type, record.response, record.responses, record.error), (None, None, (), None))
    check.eq((record.is_unacknowledged, record.is_done()), (False, False))


def test_transmission_when_repeated_then_times_and_count_follow():
    """CoAPy TransmissionRecord.transmission_time, .last_event_time, .next_event_time, .transmissions_left: in ms."""
    engine, record = sent(now_ms=100)
    mid = record.mid
    seen = []
    for now_ms in 100, 2100, 6100, 14100, 30100:
        check.eq(len(due(engine, now_ms)), 0 if now_ms == 100 else 1)
        seen.append((record.transmitted_ms, record.last_event_ms, record.next_event_ms, record.transmissions_left))
    check.eq(seen, [
        (100, 100, 2100, 4),
        (100, 2100, 6100, 3),
        (100, 6100, 14100, 2),
        (100, 14100, 30100, 1),
        (100, 30100, 62100, 0),
    ])  # fmt: skip
    check.eq(record.mid, mid)


def test_transmission_when_it_is_given_up_then_unacknowledged():
    """CoAPy TransmissionRecord.is_unacknowledged: nothing came and nothing is due any more."""
    engine, record = sent()
    fake.run(engine, 0, 99999)
    check.eq((record.is_unacknowledged, record.next_event_ms, record.response_type), (True, None, None))
    check.eq((record.is_done(), record.error), (True, coap.Timeout))


def test_transmission_when_non_then_sent_once_and_never_unacknowledged():
    """CoAPy TransmissionRecord.transmissions_left, .response_type of a NON: 1; answered by what comes."""
    engine, record = sent(get(mtype=NON))
    check.eq((record.transmissions_left, record.response_type), (0, None))
    check.eq(fake.run(engine, 0, 99999), [])
    check.eq((record.is_unacknowledged, record.error), (False, coap.Timeout))


def test_transmission_when_to_a_group_then_sent_once():
    """CoAPy TransmissionRecord.transmissions_left to a group, is_multicast: a CON to it is refused."""
    engine, record = sent(remote=GROUP)
    check.eq((record.transmissions_left, fake.run(engine, 0, 99999)), (0, []))
    check.raises(ValueError, engine.send, get(mtype=CON), GROUP, contains="group")


def test_transmission_when_answered_then_response_type_and_responses():
    """CoAPy TransmissionRecord.response_type, .response, .responses, .transmissions_left: 0 when answered."""
    for mtype, mid in ((ACK, None), (CON, 77), (NON, 78)):
        engine, record = sent()
        engine.receive(answer(record, mtype, mid, payload=b"x"), PEER, 30)
        check.eq((record.response_type, record.response.message.payload), (mtype, b"x"))
        check.eq((record.responses, record.response is engine.received), ((record.response,), True))
        check.eq((record.is_done(), record.error, record.is_unacknowledged), (True, None, False))
        check.eq((record.last_event_ms, record.next_event_ms, due(engine, 99999)), (30, None, []))


def test_transmission_when_acknowledged_only_then_response_type_but_no_response():
    """CoAPy TransmissionRecord.response_type ACK, .transmissions_left: not repeated; the response is to follow."""
    engine, record = sent()
    engine.receive(empty(ACK, record.mid), PEER, 40)
    check.eq((record.response_type, record.response, record.is_done()), (ACK, None, False))
    check.eq((record.transmissions_left, record.last_event_ms), (0, 40))
    engine.receive(answer(record, CON, 99), PEER, 50)
    check.eq((record.response_type, record.response.message.mtype, record.is_done()), (ACK, CON, True))


def test_transmission_when_reset_then_response_type_rst():
    """CoAPy TransmissionRecord.response_type RST, .response: the Reset itself."""
    engine, record = sent()
    engine.receive(empty(RST, record.mid), PEER, 1)
    check.eq((record.response_type, record.error, record.response.message.mtype), (RST, coap.Reset, RST))
    check.eq(record.is_unacknowledged, False)


def test_transmission_when_another_peer_or_token_answers_then_it_stays_open():
    """CoAPy matched by transaction ID alone; ours by peer, token and, for ACK and RST, the ID."""
    engine, record = sent()
    for datagram, peer in (
        (answer(record), ("192.0.2.2", 5683)),
        (answer(record), ("192.0.2.1", 5684)),
        (packet(CONTENT, record.mid, ACK, b"other"), PEER),
        (answer(record, mid=record.mid ^ 1), PEER),
        (empty(RST, record.mid ^ 1), PEER),
        (empty(RST, record.mid), ("192.0.2.2", 5683)),
    ):
        engine.receive(datagram, peer, 1)
        check.eq((engine.received, record.is_done()), (None, False))


def test_transmission_when_several_of_a_group_answer_then_responses_has_all():
    """CoAPy TransmissionRecord.responses: RFC 7252 section 8.2, each from its own address, matched by token."""
    engine, record = sent(remote=GROUP)
    for n in 1, 2, 3:
        engine.receive(answer(record, NON, n, payload=b"%d" % n), ("192.0.2.%d" % n, 5683), n)
    came = [(response.message.payload, response.remote[0]) for response in record.responses]
    check.eq(came, [(b"1", "192.0.2.1"), (b"2", "192.0.2.2"), (b"3", "192.0.2.3")])
    check.eq(record.response.message.get_request_uri(), "coap://192.0.2.1/t")


def test_transmission_when_a_late_duplicate_comes_then_nothing_happens_twice():
    """CoAPy EndPoint.MAX_TX_HISTORY_SEC: late answers are known for EXCHANGE_LIFETIME, not 10 s."""
    engine, record = sent()
    response = answer(record, CON, 50)
    check.eq(head(engine.receive(response, PEER, 10)), (ACK, 0, 50))
    for now_ms in 20, 11000, 200000:
        check.eq(head(engine.receive(response, PEER, now_ms)), (ACK, 0, 50))
        check.eq(engine.received, None)
    check.eq(len(record.responses), 1)


def test_transmission_when_cancelled_then_it_ends_without_error():
    """CoAPy EndPoint._removeTransmission: the application's way to give up."""
    engine, record = sent()
    record.cancel()
    check.eq((record.is_done(), record.error, record.is_unacknowledged), (True, None, False))
    check.eq(fake.run(engine, 0, 99999), [])


def test_hook_when_an_exchange_ends_then_called_once_with_the_record():
    """CoAPy EndPoint._markAsUnacknowledged, ._removeTransmission: on_end(record), the record says how it ended."""
    engine = fake.engine(tuning=EXACT)
    ended = []
    engine.on_end = ended.append
    answered, reset, lost = [engine.send(get(), ("192.0.2.%d" % n, 5683)) for n in (1, 2, 3)]
    plain = engine.send(get(mtype=NON, no_response=26), PEER)
    cancelled = engine.send(get(), ("192.0.2.4", 5683))
    due(engine, 0)
    engine.receive(answer(answered), answered.remote, 1)
    engine.receive(empty(RST, reset.mid), reset.remote, 2)
    cancelled.cancel()
    fake.run(engine, 3, 99999)
    expected = [plain, answered, reset, cancelled, lost]
    check.eq([expected.index(record) for record in ended], [0, 1, 2, 3, 4])
    check.eq([record.error for record in ended], [None, None, coap.Reset, None, coap.Timeout])
    check.eq([record.is_unacknowledged for record in ended], [False] * 4 + [True])


def test_hook_when_it_is_called_then_the_record_says_how_it_ended():
    """CoAPy EndPoint._removeTransmission: what the hook sees of a Reset is what stays."""
    engine, record = sent()
    seen = []
    engine.on_end = lambda record: seen.append((record.is_done(), record.response_type, record.error))
    engine.receive(empty(RST, record.mid), PEER, 1)
    check.eq(seen, [(True, RST, coap.Reset)])


# ---- ReceptionRecord ----


def reception(datagram, **tables):
    """(engine, record) of a request handed to the application."""
    engine = fake.engine(**tables)
    check.eq(engine.receive(datagram, PEER, 0), None)
    return engine, engine.received


def test_reception_when_a_request_comes_then_its_parts():
    """CoAPy ReceptionRecord.end_point, .message, .remote, .transaction_id, .pertains_to, .has_responded."""
    engine, record = reception(packet(GET, 9, uri_path=("t",)))
    check.eq((record.endpoint is engine, record.remote, record.mid), (True, PEER, 9))
    check.eq((record.message.opt.uri_path, record.message.remote), (("t",), PEER))
    check.eq((record.pertains_to, record.has_responded, record.is_acknowledged), (None, False, False))


def test_reception_when_kept_then_the_next_does_not_change_it():
    """CoAPy ReceptionRecord.message, .packed: its own."""
    engine, record = reception(packet(GET, 9, uri_path=("t",), payload=b"first"))
    engine.receive(packet(PUT, 10, uri_path=("u",), payload=b"second"), PEER, 1)
    check.eq((record.message.code, record.message.payload, record.message.opt.uri_path), (GET, b"first", ("t",)))
    check.eq(record.message.encode(), packet(GET, 9, uri_path=("t",), payload=b"first"))


def test_reception_when_of_a_response_then_it_pertains_to_the_record():
    """CoAPy ReceptionRecord.pertains_to: set by the engine; nothing is left to answer."""
    engine, record = sent()
    engine.receive(answer(record), PEER, 1)
    check.eq((engine.received.pertains_to is record, engine.received.has_responded), (True, True))
    check.raises(ValueError, engine.received.respond)
    check.raises(ValueError, engine.received.ack)


def test_ack_when_called_then_empty_and_once():
    """CoAPy ReceptionRecord.ack(): same ID; sent by the next process, a second one raises."""
    engine, record = reception(packet(GET, 9))
    record.ack()
    check.eq((due(engine, 1), record.is_acknowledged), ([empty(ACK, 9)], True))
    check.raises(ValueError, record.ack)
    record.respond(payload=b"later")
    late = received(due(engine, 2)[0])
    check.eq((late.mtype, late.token, late.payload), (CON, b"tk", b"later"))
    check.raises(ValueError, record.respond)


def test_ack_when_of_a_non_then_value_error():
    """CoAPy ReceptionRecord.ack(): a NON is not acknowledged."""
    _, record = reception(packet(GET, 9, NON))
    check.raises(ValueError, record.ack, contains="CON")


def test_ack_when_given_a_response_then_piggybacked():
    """CoAPy ReceptionRecord.ack(response_msg): with the request's ID and token."""
    engine, record = reception(packet(GET, 9))
    record.ack(Message(CONTENT, payload=b"x"))
    check.eq(due(engine, 1), [packet(CONTENT, 9, ACK, payload=b"x")])
    check.eq(record.has_responded, True)
    check.raises(ValueError, record.ack)


def test_respond_when_called_then_by_code_payload_and_options():
    """CoAPy ReceptionRecord.ack(response_msg): respond() takes the parts of the message, for NON too."""
    engine, record = reception(packet(GET, 9))
    record.respond(coap.NOT_FOUND, "no", max_age=5)
    check.eq(due(engine, 1), [packet(coap.NOT_FOUND, 9, ACK, payload=b"no", max_age=5)])
    engine, record = reception(packet(GET, 9, NON))
    record.respond(payload="x")
    response = received(due(engine, 1)[0])
    check.eq((response.mtype, response.code, response.token, response.payload), (NON, CONTENT, b"tk", b"x"))


def test_reset_when_called_then_rst_with_the_id():
    """CoAPy ReceptionRecord.reset(): for CON and NON."""
    for mtype in CON, NON:
        engine, record = reception(packet(GET, 9, mtype))
        record.reset()
        check.eq((due(engine, 1), record.has_responded), ([empty(RST, 9)], True))


def test_reset_when_it_was_answered_then_value_error():
    """CoAPy ReceptionRecord.reset(), .has_responded: the second answer raises, as it does for ack and respond."""
    for answer in "respond", "ack", "reset":
        engine, record = reception(packet(GET, 9))
        getattr(record, answer)()
        check.raises(ValueError, record.reset)
        check.eq(len(due(engine, 1)), 1, answer)


# ---- URIs of what was sent ----


def test_request_uri_when_coaps_and_the_transport_is_not_secure_then_value_error():
    """aiocoap Remote.scheme: nothing goes out in the clear; a transport with DTLS says is_secure."""
    endpoint, transport = endpoint_with()
    check.raises(ValueError, endpoint.send, Message(GET, uri="coaps://h/t"), PEER, contains="coaps")
    endpoint.is_secure = True
    endpoint.send(Message(GET, uri="coaps://h/t"), PEER)


def test_request_uri_when_another_scheme_follows_coaps_then_it_is_forgotten():
    """aiocoap Message.set_request_uri: called again, nothing of the first URI stays."""
    message = Message(GET, uri="coaps://h/t")
    message.set_request_uri("http://h/t")
    endpoint_with()[0].send(message, PEER)


def test_request_uri_when_one_message_went_to_two_then_each_response_has_its_own():
    """aiocoap Message.request, .get_request_uri of a response: of the exchange it belongs to."""
    engine = fake.engine()
    message = get()
    records = [engine.send(message, ("192.0.2.%d" % n, 5683)) for n in (1, 2)]
    due(engine, 0)
    for record in records:
        engine.receive(answer(record), record.remote, 1)
        check.eq(record.response.message.get_request_uri(), "coap://%s/t" % record.remote[0])


# ---- groups, No-Response ----


def test_is_multicast_when_asked_then_by_the_address_and_without_lookup():
    """CoAPy is_multicast(address), aiocoap Remote.is_multicast: tuples and the unix port's bytes."""
    for address, expected in (
        (GROUP, True), (("239.255.255.255", 1), True), (PEER, False), (("240.0.0.1", 5683), False),
        (("ff02::fd", 5683, 0, 0), True), (("FF05::FD", 5683), True), (("2001:db8::ff02", 5683, 0, 0), False),
        (UNIX_IPV4, False), (UNIX_IPV6, False), (UNIX_IPV4[:4] + b"\xe0" + UNIX_IPV4[5:], True),
        (UNIX_IPV6[:8] + b"\xff\x02" + UNIX_IPV6[10:], True), ("224.0.1.187", False), (None, False),
        (("2250.example", 5683), False), (("23a.example", 5683), False),
    ):  # fmt: skip
        check.eq(coap.is_multicast(address), expected, repr(address))


def test_no_response_when_a_handler_returns_it_then_a_con_is_acknowledged_only():
    """aiocoap NoResponse, Options.no_response of a response: nothing is sent but the ACK of a CON."""
    engine = fake.engine()
    engine.resource("t").get(lambda request, response: coap.NO_RESPONSE)
    for _ in range(2):  # a duplicate, too
        check.eq(ask(engine, packet(GET, 1, CON, uri_path=("t",))), Message(0, mtype=ACK, mid=1))
        check.eq(ask(engine, packet(GET, 2, NON, uri_path=("t",))), None)


BY_CLASS = tuple([  # value of No-Response, code, whether it is sent: RFC 7967 section 2.1
    (value, code, not value >> (code >> 5) - 1 & 1)
    for value in (0, 2, 8, 10, 16, 18, 24, 26)
    for code in (CONTENT, coap.CHANGED, coap.NOT_FOUND, coap.INTERNAL_SERVER_ERROR)
])  # fmt: skip


def test_no_response_when_a_request_has_it_then_by_the_class_of_the_response():
    """aiocoap Options.no_response of a request, at the server: 2 no 2.xx, 8 no 4.xx, 16 no 5.xx, and sums."""
    for value, code, is_sent in BY_CLASS:
        engine = fake.engine()
        engine.resource("t").get(lambda request, response, code=code: code)
        fields = {"uri_path": ("t",), "no_response": value}
        check.eq(head(engine.receive(packet(GET, 1, CON, **fields), PEER, 0))[:2], (ACK, code if is_sent else 0))
        reply = engine.receive(packet(GET, 2, NON, **fields), PEER, 0)
        check.eq(reply and head(reply)[:2], (NON, code) if is_sent else None)


def test_no_response_when_the_application_responds_then_by_the_class_too():
    """aiocoap Options.no_response of a request, CoAPy ReceptionRecord.ack(response_msg): RFC 7967 section 2."""
    for value, code, is_sent in BY_CLASS:
        engine, record = reception(packet(GET, 1, CON, no_response=value))
        record.respond(code)
        check.eq([head(datagram)[:2] for datagram in due(engine, 1)], [(ACK, code if is_sent else 0)])
        engine, record = reception(packet(GET, 1, NON, no_response=value))
        record.respond(code)
        check.eq([head(datagram)[:2] for datagram in due(engine, 1)], [(NON, code)] if is_sent else [])


def test_no_response_when_the_response_is_later_then_by_the_class_too():
    """aiocoap Options.no_response of a request, a separate response: it ends unsent."""
    for value, code, is_sent in BY_CLASS:
        later = []
        engine = fake.engine()

        def promise(request, response, later=later):
            later.append(response.copy())
            return coap.LATER

        engine.resource("t").get(promise)
        check.eq(head(engine.receive(packet(GET, 1, uri_path=("t",), no_response=value), PEER, 0)), (ACK, 0, 1))
        record = engine.send(later[0].copy(code=code))
        check.eq([head(datagram)[:2] for datagram in due(engine, 1)], [(CON, code)] if is_sent else [])
        check.eq((record.is_done(), record.error), (not is_sent, None))


def test_no_response_when_all_classes_are_unwanted_then_done_when_sent_or_acknowledged():
    """aiocoap Options.no_response of a request, at the client: 26 waits for no response."""
    engine, record = sent(get(mtype=NON, no_response=26))
    check.eq((record.is_done(), record.error), (True, None))
    engine, record = sent(get(mtype=CON, no_response=26))
    check.eq(record.is_done(), False)
    engine.receive(empty(ACK, record.mid), PEER, 1)
    check.eq((record.is_done(), record.error), (True, None))


def test_no_response_when_some_classes_are_wanted_then_they_are_delivered():
    """aiocoap Options.no_response of a request, at the client: an error still ends it."""
    engine, record = sent(get(mtype=NON, no_response=2))
    check.eq(record.is_done(), False)
    engine.receive(answer(record, NON, 1, coap.NOT_FOUND), PEER, 1)
    check.eq((record.is_done(), record.response.message.code), (True, coap.NOT_FOUND))


def test_log_when_set_then_told_what_could_not_be_sent():
    """CoAPy EndPoint prints; ours calls log(text, value), and is silent without."""
    endpoint, transport = endpoint_with()
    told = []
    endpoint.log = lambda text, value: told.append(value)
    transport.faults.append(OSError(101))
    endpoint.send(get(), PEER)
    endpoint.process(0)
    check.eq(told, [PEER])
