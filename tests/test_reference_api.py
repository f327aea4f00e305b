"""What the messages of aiocoap and CoAPy promise, exercised on ours; reference_api.py is the map.

Each docstring names the API and the member. Where ours differs on purpose, the test says so and shows how. End points
and records are in test_reference_endpoint.py.
"""

from binascii import hexlify, unhexlify

import check
import coap
import fake
from coap import ACK, CON, CONTENT, FETCH, GET, NON, POST, PUT, RST, Message
from fake import EXACT, PEER, ask, due, empty, head, packet

GROUP = ("224.0.1.187", 5683)
UNIX_IPV4 = unhexlify("020016fdc00002010000000000000000")  # MicroPython's unix port: 192.0.2.1 port 5885
UNIX_IPV6 = unhexlify("0a00163300000000" + "20010db8000000000000000000000002" + "00000000")


def get(**fields):
    return Message(GET, uri_path=("t",), **fields)


def wire(message, **changes):
    """The datagram of `message` in hexadecimal digits, as a CON with message ID 1 unless it has its own."""
    fields = {"mtype": CON, "mid": 1}
    fields.update(changes)
    return hexlify(message.copy(**fields).encode()).decode()


def received(datagram, remote=PEER):
    return Message.decode(datagram, remote)


# ---- Message: construction and fields ----


def test_message_when_made_without_arguments_then_every_field_is_open():
    """aiocoap Message(): the library fills in what is None."""
    message = Message()
    check.eq((message.code, message.mtype, message.mid), (None, None, None))
    check.eq((message.token, message.payload, message.options), (b"", b"", ()))
    check.eq((message.remote, message.request, message.transport_tuning), (None, None, None))


def test_message_when_made_with_every_field_then_it_has_them():
    """aiocoap Message(mtype, mid, code, payload, token, uri, transport_tuning, option=...): all by name."""
    message = Message(
        code=PUT, mtype=NON, mid=7, token=b"tk", payload=b"p", uri="coap://h/a?q", transport_tuning=EXACT, accept=50
    )
    check.eq((message.code, message.mtype, message.mid), (PUT, NON, 7))
    check.eq((message.token, message.payload, message.transport_tuning), (b"tk", b"p", EXACT))
    check.eq(message.options, ((3, "h"), (11, "a"), (15, "q"), (17, 50)))
    check.eq(message.remote, "h:5683")


def test_message_when_made_then_all_but_the_code_is_by_name():
    """aiocoap Message(*, ...): arguments by position would be mixed up."""
    check.raises(TypeError, Message, GET, CON)


def test_message_when_a_keyword_is_unknown_then_type_error():
    """aiocoap Message(**kwargs), CoAPy Message.OptionKeywords: a misspelt option is not lost in silence."""
    check.raises(TypeError, Message, GET, uri_pth=("a",), contains="uri_pth")
    check.raises(TypeError, get().copy, uri_pth=("a",), contains="uri_pth")


def test_message_when_made_with_coapys_keywords_then_the_options():
    """CoAPy Message.OptionKeywords: content_type and location have their RFC 7252 names."""
    message = Message(
        CONTENT, content_format=40, max_age=60, proxy_uri="http://h/", etag=b"e", uri_host="h", uri_port=61616,
        uri_query=("q",), location_path=("l",), uri_path=("p",),
    )  # fmt: skip
    expected = (3, "h"), (4, b"e"), (7, 61616), (8, "l"), (11, "p"), (12, 40), (14, 60), (15, "q"), (35, "http://h/")
    check.eq(message.options, expected)


def test_version_when_read_then_1():
    """aiocoap, CoAPy Message.version: always 1, on the class too."""
    check.eq((Message.version, Message(GET).version, received(packet(GET, 1)).version), (1, 1, 1))
    check.eq(Message(GET, mtype=CON, mid=0).encode()[0] >> 6, 1)


def test_types_when_read_then_0_to_3():
    """CoAPy Message.CON, NON, ACK, RST: names of the module."""
    check.eq((coap.CON, coap.NON, coap.ACK, coap.RST), (0, 1, 2, 3))


def test_mtype_when_assigned_then_it_is_on_the_wire():
    """aiocoap Message.mtype, CoAPy Message.transaction_type: and changeable, also to None."""
    message = Message(CONTENT, mid=1)
    for mtype in CON, NON, ACK, RST:
        message.mtype = mtype
        check.eq((message.mtype, message.encode()[0]), (mtype, 0x40 | mtype << 4))
    message.mtype = None
    check.eq(message.mtype, None)
    check.raises(ValueError, Message, GET, mtype=4, contains="mtype")
    check.raises(TypeError, Message, GET, mtype="CON", contains="mtype")


def test_mtype_when_none_then_con_to_one_peer_and_non_to_a_group():
    """aiocoap Message.mtype None: the library decides."""
    for remote, mtype in ((PEER, CON), (GROUP, NON)):
        engine = fake.engine()
        engine.send(get(), remote)
        check.eq(head(due(engine, 0)[0])[0], mtype)


def test_mtype_when_a_request_is_non_then_the_response_is_non():
    """aiocoap Message.mtype None of a response: as the request."""
    engine = fake.engine()
    engine.resource("t").get(lambda request, response: "x")
    check.eq(ask(engine, packet(GET, 1, NON, uri_path=("t",))).mtype, NON)
    check.eq(ask(engine, packet(GET, 2, CON, uri_path=("t",))).mtype, ACK)


def test_code_when_assigned_then_class_and_detail_are_on_the_wire():
    """aiocoap, CoAPy Message.code: an int, class << 5 | detail, or None."""
    message = Message(mtype=NON, mid=1)
    for code in GET, coap.IPATCH, CONTENT, coap.PROXYING_NOT_SUPPORTED:
        message.code = code
        check.eq((message.code, message.encode()[1]), (code, code))
    check.eq((coap.CONTENT, coap.NOT_FOUND), (2 << 5 | 5, 4 << 5 | 4))
    check.raises(ValueError, Message, 256, contains="code")
    check.raises(TypeError, Message, "GET", contains="code")


def test_code_when_a_handler_sets_none_then_by_method():
    """aiocoap Message.code None of a response: 2.05 to GET and FETCH, 2.02 to DELETE; to PUT 2.04, to POST 2.01."""
    engine = fake.engine()
    engine.resource("t")(lambda request, response: None)
    codes = (GET, CONTENT), (FETCH, CONTENT), (coap.DELETE, coap.DELETED), (PUT, coap.CHANGED), (POST, coap.CREATED)
    for method, code in codes:
        check.eq(ask(engine, packet(method, method, uri_path=("t",))).code, code, "answer to %d" % method)


def test_mid_when_none_then_counted_up_from_a_random_start():
    """aiocoap Message.mid, CoAPy's XID: given at the first transmission; the message itself is not changed."""
    engine = fake.engine()
    message = get(mtype=NON, no_response=26)
    records = [engine.send(message, PEER) for _ in range(3)]
    check.eq([record.mid for record in records], [None] * 3)
    mids = [head(datagram)[2] for datagram in due(engine, 0)]
    check.eq(mids, [mids[0], mids[0] + 1 & 65535, mids[0] + 2 & 65535])
    check.eq([record.mid for record in records], mids)
    check.eq(message.mid, None)


def test_mid_when_given_then_it_is_sent():
    """aiocoap Message(mid=...): a preset ID is kept, aiocoap clears it."""
    engine = fake.engine()
    record = engine.send(get(mid=65535), PEER)
    check.eq((head(due(engine, 0)[0])[2], record.mid), (65535, 65535))
    for mid in -1, 65536:
        check.raises(ValueError, Message, GET, mid=mid, contains="mid")
    check.raises(TypeError, Message, GET, mid="1")


def test_token_when_assigned_then_0_to_8_bytes():
    """aiocoap Message.token: bytes."""
    message = Message(GET, mtype=CON, mid=1)
    for token in b"", b"t", b"\0\0", b"12345678":
        message.token = token
        check.eq(message.token, token)
        check.eq(message.encode(), bytes((0x40 | len(token), 1, 0, 1)) + token)
    check.raises(ValueError, Message, GET, token=b"123456789", contains="token")
    check.raises(TypeError, Message, GET, token="t", contains="token")


def test_token_when_none_is_given_then_64_bits_drawn():
    """aiocoap Message.token: managed by the library; ours are random, not counted."""
    engine = fake.engine()
    message = get(mtype=NON)
    tokens = [engine.send(message, PEER).token for _ in range(4)]
    check.eq([len(token) for token in tokens], [8] * 4)
    check.eq(len(set(tokens)), 4)
    check.eq(message.token, b"")


def test_payload_when_assigned_then_bytes():
    """aiocoap, CoAPy Message.payload: bytes, or a str as UTF-8; never None."""
    for given, expected in (
        (b"\0\xff", b"\0\xff"),
        ("\u00b0C", b"\xc2\xb0C"),
        ("", b""),
        (bytearray(b"ba"), b"ba"),
        (memoryview(b"memory")[1:3], b"em"),
    ):
        message = Message(PUT, mtype=CON, mid=1, payload=given)
        check.eq(bytes(message.payload), expected)
        check.eq(received(message.encode()).payload, expected)
    for wrong in None, 5, ("a",):
        check.raises(TypeError, Message, PUT, payload=wrong, contains="payload")


def test_remote_when_assigned_then_not_on_the_wire():
    """aiocoap Message.remote: where to and where from, any form the socket takes; not serialised."""
    for remote in "h", "h:61616", PEER, UNIX_IPV4, None:
        message = get(remote=remote)
        check.eq(message.remote, remote)
        check.eq(wire(message), "40010001b174")
    check.eq(received(packet(GET, 1), "from").remote, "from")
    check.eq(received(packet(GET, 1), None).remote, None)


def test_remote_when_assigned_then_it_overrides_where_the_uri_goes():
    """aiocoap Message.unresolved_remote: sent there, while Uri-Host stays as the URI has it."""
    message = Message(GET, uri="coap://name.example/t")
    message.remote = PEER
    engine = fake.engine()
    engine.send(message)
    datagram = due(engine, 0)[0]
    check.eq(engine.peer, PEER)
    check.eq(received(datagram).opt.uri_host, "name.example")


def test_remote_when_received_then_it_is_where_the_answer_goes():
    """aiocoap Message.remote, .as_response_address(): the address itself, nothing to convert."""
    seen = []
    engine = fake.engine()
    engine.resource("t").get(lambda request, response: seen.append((request.remote, response.remote)))
    ask(engine, packet(GET, 1, uri_path=("t",)))
    check.eq(seen, [(PEER, PEER)])


def test_remote_when_of_an_own_transport_then_any_hashable():
    """aiocoap Remote.blockwise_key, .authenticated_claims: a peer may be whatever a transport calls it."""
    for peer in 7, b"\1\2\3\4\5\6", "node 3", ("lora", 5), (5, 6), (), coap:
        engine = fake.engine()
        engine.resource("t").get(lambda request, response, peer=peer: repr(request.remote is peer))
        check.eq(ask(engine, packet(GET, 1, uri_path=("t",)), 0, peer).payload, b"True")
        record = engine.send(get(), peer)
        check.eq((len(due(engine, 0)), engine.peer is peer), (1, True))
        engine.receive(packet(CONTENT, record.mid, ACK, record.token), peer, 1)
        check.eq((record.is_done(), record.response.remote is peer), (True, True))


def test_transport_tuning_when_of_a_message_then_its_times_hold():
    """aiocoap Message.transport_tuning, ACK_TIMEOUT, ACK_RANDOM_FACTOR, MAX_RETRANSMIT: obeyed, not advisory."""
    tuning = coap.Tuning(ack_timeout_ms=500, ack_random_percent=100, max_retransmit=1)
    engine = fake.engine()
    record = engine.send(get(transport_tuning=tuning), PEER)
    check.eq([now_ms for now_ms, _ in fake.run(engine, 0, 9999)], [0, 500])
    check.eq((record.is_done(), record.tuning is tuning), (True, True))
    check.eq(wire(get(transport_tuning=tuning)), "40010001b174")


def test_tuning_when_made_then_the_defaults_of_the_rfc():
    """aiocoap TransportTuning: integers, times in ms, factors in percent."""
    tuning = coap.Tuning()
    times = tuning.ack_timeout_ms, tuning.ack_random_percent, tuning.max_retransmit, tuning.nstart
    check.eq(times, (2000, 150, 4, 1))
    derived = tuning.max_transmit_span_ms, tuning.max_transmit_wait_ms, tuning.exchange_lifetime_ms
    check.eq(derived, (45000, 93000, 247000))
    check.eq(tuning.exchange_lifetime_ms - tuning.max_transmit_span_ms - tuning.ack_timeout_ms, 200000, "MAX_RTT")
    check.eq(tuning.non_lifetime_ms - tuning.max_transmit_span_ms, 100000, "MAX_LATENCY")


def test_nstart_when_of_the_endpoint_then_so_many_are_outstanding():
    """aiocoap TransportTuning.NSTART: aiocoap does not obey it."""
    for nstart in 1, 2:
        engine = fake.engine(tuning=coap.Tuning(nstart=nstart))
        for _ in range(3):
            engine.send(get(), PEER)
        check.eq(len(due(engine, 0)), nstart)


def test_empty_ack_when_the_application_is_late_then_at_the_next_process():
    """aiocoap TransportTuning.EMPTY_ACK_DELAY: no timer; the application's turn ends with the next process()."""
    transport = fake.Transport((packet(GET, 9), PEER))
    endpoint = coap.Endpoint(sock=transport)
    check.eq(endpoint.process(0).message.mid, 9)
    check.eq(transport.sent, [])
    check.eq(endpoint.process(0), None)
    check.eq(transport.sent, [(empty(ACK, 9), PEER)])


def test_request_when_a_response_came_then_the_message_that_was_sent():
    """aiocoap Message.request, .requested_scheme, _proxy_uri, _hostinfo, _path, _query: all that was asked."""
    engine = fake.engine()
    message = Message(GET, uri="coap://192.0.2.1/a/b?q")
    record = engine.send(message, PEER)
    due(engine, 0)
    engine.receive(packet(CONTENT, record.mid, ACK, record.token), PEER, 1)
    request = record.response.message.request
    check.eq(request is message, True)
    check.eq((request.opt.proxy_scheme, request.opt.proxy_uri, request.remote), (None, None, PEER))
    check.eq((request.opt.uri_path, request.opt.uri_query), (("a", "b"), ("q",)))


def test_equality_when_contents_are_the_same_then_equal():
    """aiocoap Options ==, Message ==: code, type, ID, token, options in their order, payload; not the remote."""
    fields = {"mtype": CON, "mid": 1, "token": b"t", "payload": b"p", "uri_path": ("a", "b"), "accept": 50}
    message = Message(PUT, **fields)
    check.eq(message == Message(PUT, remote=PEER, **fields), True)
    check.eq(message == received(message.encode()), True)
    check.eq(message != received(message.encode()), False)
    for name, other in (
        ("code", POST), ("mtype", NON), ("mid", 2), ("token", b"u"), ("payload", b"q"), ("uri_path", ("b", "a")),
        ("accept", None),
    ):
        check.eq(message == message.copy(**{name: other}), False, name)
        check.eq(message != message.copy(**{name: other}), True, name)
    for other in None, 5, "message", message.encode():
        check.eq(message == other, False)


def test_equality_when_an_option_is_not_utf_8_then_no_error():
    """aiocoap Options ==: received messages that cannot be read can be compared, put in lists, counted."""
    message = received(unhexlify("40010001b1ff"))
    check.eq(message == received(unhexlify("40010001b1ff")), True)
    check.eq(message == received(unhexlify("40010001b1fe")), False)


def test_repr_when_a_message_is_logged_then_all_in_one_line():
    """aiocoap Message.__repr__, .payload_html: code, type, ID, token, options by name, bytes of payload."""
    line = repr(Message(PUT, mtype=CON, mid=7, token=b"\x01\xab", payload=b"four", uri_path=("a", "b"), accept=50))
    for part in "Message", "PUT", "CON", "7", "01ab", "uri_path", "a", "b", "accept", "50", "4 bytes":
        check.eq(part in line, True, "%s in %s" % (part, line))
    check.eq("\n" in line, False)
    check.eq("2.05" in repr(Message(CONTENT)), True)
    for message in Message(), Message(0), Message(31), Message(255), received(unhexlify("40010001b1ff")):
        check.eq(repr(message)[:8], "<Message")


# ---- options ----

SINGLE = (  # name, number, value, its bytes
    ("uri_host", 3, "h", b"h"),
    ("etag", 4, b"\0e", b"\0e"),
    ("observe", 6, 0, b""),
    ("uri_port", 7, 61616, b"\xf0\xb0"),
    ("oscore", 9, b"", b""),
    ("content_format", 12, 50, b"2"),
    ("max_age", 14, 86400, b"\x01\x51\x80"),
    ("hop_limit", 16, 16, b"\x10"),
    ("accept", 17, 0, b""),
    ("block2", 23, 2 << 4 | 8 | 6, b"\x2e"),
    ("block1", 27, 1 << 4 | 6, b"\x16"),
    ("size2", 28, 1000, b"\x03\xe8"),
    ("proxy_uri", 35, "http://h/", b"http://h/"),
    ("proxy_scheme", 39, "http", b"http"),
    ("size1", 60, 65536, b"\x01\0\0"),
    ("echo", 252, b"e" * 40, b"e" * 40),
    ("no_response", 258, 26, b"\x1a"),
)
REPEATED = (
    ("if_match", 1, (b"", b"12345678")),
    ("etags", 4, (b"a", b"b")),
    ("location_path", 8, ("l", "")),
    ("uri_path", 11, ("", "a/b", "\u00e9")),
    ("uri_query", 15, ("a=1", "a=1", "&")),
    ("location_query", 20, ("q", "r")),
    ("request_tag", 292, (b"", b"12345678")),
)


def test_opt_when_a_single_value_is_assigned_then_on_the_wire_and_back():
    """aiocoap Options: a view for each option that is not repeated."""
    for name, number, value, raw in SINGLE:
        message = Message(GET, mtype=CON, mid=1, **{name: value})
        check.eq(getattr(message.opt, name), value, name)
        check.eq(getattr(received(message.encode()).opt, name), value, name)
        check.eq(message.options, ((number, value),), name)
        check.eq(message.encode()[-len(raw) :] if raw else b"", raw, name)


def test_opt_when_a_single_value_is_absent_or_none_then_none():
    """aiocoap Options: reading gives None, assigning None removes, assigning again replaces."""
    for name, number, value, _ in SINGLE:
        message = Message(GET, if_none_match=True)
        check.eq(getattr(message.opt, name), None, name)
        setattr(message.opt, name, value)
        setattr(message.opt, name, value)
        check.eq(message.find_option(number), (value,), name)
        setattr(message.opt, name, None)
        check.eq(message.options, ((5, True),), name)


def test_opt_when_a_tuple_is_assigned_then_each_is_an_option():
    """aiocoap Options.uri_path, uri_query, location_path, location_query, etags, if_match, request_tag: tuples."""
    for name, number, values in REPEATED:
        message = Message(GET, mtype=CON, mid=1)
        check.eq(getattr(message.opt, name), (), name)
        for iterable in values, list(values), (value for value in values):
            setattr(message.opt, name, iterable)
            check.eq(getattr(message.opt, name), values, name)
        check.eq(getattr(received(message.encode()).opt, name), values, name)
        check.eq(message.options, tuple([(number, value) for value in values]), name)
        setattr(message.opt, name, ())
        check.eq(message.options, (), name)


def test_opt_when_text_is_assigned_where_a_tuple_belongs_then_type_error():
    """aiocoap Options.uri_path = "ab" makes two segments; ours refuses it."""
    for name, _, _ in REPEATED:
        check.raises(TypeError, setattr, Message(GET).opt, name, "ab", contains=name)


def test_opt_when_deleted_then_gone():
    """aiocoap Options: `del message.opt.etag` removes, like assigning None."""
    message = Message(GET, etag=b"e", uri_path=("a", "b"), accept=50)
    del message.opt.etag
    del message.opt.uri_path
    check.eq(message.options, ((17, 50),))


def test_opt_when_if_none_match_then_a_bool():
    """aiocoap Options.if_none_match: presence."""
    message = Message(PUT)
    check.eq(message.opt.if_none_match, False)
    message.opt.if_none_match = True
    check.eq((message.opt.if_none_match, message.options), (True, ((5, True),)))
    check.eq(wire(message), "4003000150")
    message.opt.if_none_match = False
    check.eq((message.opt.if_none_match, message.options), (False, ()))


def test_opt_when_etag_and_etags_then_two_views_of_option_4():
    """aiocoap Options.etag, .etags: that of a response is the first of a request's."""
    message = Message(GET, etags=(b"a", b"b"))
    check.eq((message.opt.etag, message.opt.etags), (b"a", (b"a", b"b")))
    message.opt.etag = b"c"
    check.eq((message.opt.etag, message.opt.etags), (b"c", (b"c",)))


def test_opt_when_block_then_the_uint_of_the_rfc():
    """aiocoap Options.block1, .block2: a named tuple there; here number << 4 | more << 3 | size exponent."""
    value = received(packet(GET, 1, block2=5 << 4 | 1 << 3 | 2)).opt.block2
    check.eq((value >> 4, value >> 3 & 1, value & 7, 16 << (value & 7)), (5, 1, 2, 64))


def test_opt_when_the_name_is_unknown_then_attribute_error():
    """aiocoap Options: no attribute is made by a misspelling."""
    opt = Message(GET).opt
    check.raises(AttributeError, getattr, opt, "uri_pth", contains="uri_pth")
    check.raises(AttributeError, setattr, opt, "uri_pth", ("a",), contains="uri_pth")


def test_opt_when_there_is_no_name_for_it_then_by_number():
    """aiocoap Options.uri_path_abbrev (13), edhoc (21), request_hash (548): drafts have no name here."""
    message = get()
    message.add_option(13, 1).add_option(21, b"").add_option(548, b"hash")
    read = received(unhexlify(wire(message)))
    check.eq([read.find_option(number) for number in (13, 21, 548)], [(b"\x01",), (b"",), (b"hash",)])


def test_add_option_when_called_then_behind_those_of_its_number():
    """aiocoap Options.add_option, CoAPy Message.addOption: several values too; returns the message."""
    message = Message(GET)
    check.eq(message.add_option(15, "q") is message, True)
    message.add_option(11, "a").add_option(11, b"b").add_option(17, 0).add_option(5, True).add_option(65000, b"x")
    check.eq(message.options, ((5, True), (11, "a"), (11, "b"), (15, "q"), (17, 0), (65000, b"x")))
    check.eq(wire(message), "4001000150" + "6161" + "0162" + "4171" + "20" + "e1fcca78")


def test_find_option_when_called_then_a_tuple_of_values():
    """aiocoap Options.get_option(number), CoAPy Message.findOption: values; empty if there is none."""
    message = Message(GET, uri_path=("a", "b"), accept=50)
    check.eq([message.find_option(n) for n in (11, 17, 12, 65535)], [("a", "b"), (50,), (), ()])
    check.eq(received(packet(GET, 1, uri_path=("a", "b"))).find_option(11), ("a", "b"))


def test_replace_option_when_called_then_all_values_are_new():
    """CoAPy Message.replaceOption: with several values, too; returns the message."""
    message = Message(GET, uri_path=("a", "b"), accept=50, etag=b"e")
    check.eq(message.replace_option(11, "c") is message, True)
    check.eq(message.replace_option(4).options, ((11, "c"), (17, 50)))
    check.eq(message.replace_option(11, "d", "e").replace_option(12, 0).options[:3], ((11, "d"), (11, "e"), (12, 0)))


def test_delete_option_when_called_then_none_is_left():
    """aiocoap Options.delete_option(number), CoAPy Message.deleteOption: absent ones raise nothing."""
    message = received(packet(GET, 1, uri_path=("a", "b"), accept=50))
    check.eq(message.delete_option(11) is message, True)
    check.eq(message.delete_option(11).delete_option(12).options, ((17, 50),))
    check.eq(message.opt.uri_path, ())


def test_options_when_read_then_sorted_by_number_and_repeats_in_order():
    """aiocoap Options.option_list(), CoAPy Message.options: pairs of number and value."""
    message = Message(GET, no_response=26, uri_query=("z", "a"), uri_path=("b", "a"), if_match=(b"x",))
    expected = (1, b"x"), (11, "b"), (11, "a"), (15, "z"), (15, "a"), (258, 26)
    check.eq(message.options, expected)
    check.eq(received(unhexlify(wire(message))).options, expected)


def test_option_when_its_value_cannot_be_held_then_error():
    """aiocoap Options, CoAPy options: a value of the wrong type or length is refused where it is given."""
    for number, value in ((11, 5), (12, "text"), (4, "text"), (5, 1), (60, 2.0), (11, None)):
        check.raises(TypeError, Message(GET).add_option, number, value)
    for number, value in ((11, "s" * 256), (12, 65536), (4, b""), (4, b"123456789"), (14, -1), (0, b""), (65536, b"")):
        check.raises(ValueError, Message(GET).add_option, number, value)


# ---- the wire ----


def test_decode_when_given_a_datagram_then_every_field():
    """aiocoap Message.decode(raw, remote), CoAPy Message.decode(packed) -> (xid, message): the ID is in `mid`."""
    message = Message.decode(unhexlify("6245abcd74 6bc1 32 ff 68 69".replace(" ", "")), PEER)
    check.eq((message.mtype, message.code, message.mid, message.token), (ACK, CONTENT, 0xABCD, b"tk"))
    check.eq((message.options, message.payload, message.remote), (((12, 50),), b"hi", PEER))
    for kind in bytearray, memoryview:
        check.eq(Message.decode(kind(packet(GET, 1, payload=b"p"))).payload, b"p")


def test_decode_when_the_datagram_is_broken_then_format_error():
    """aiocoap Message.decode, UnparsableMessage: also for what aiocoap lets through."""
    for digits, what in (
        ("", "empty"), ("400100", "3 bytes"), ("80010001", "version 2"), ("00010001", "version 0"),
        ("40010001f0", "delta 15"), ("400100010f", "length 15"), ("40010001b5", "option cut off"),
        ("40010001d0", "extension cut off"), ("49010001" + "00" * 9, "token of 9"), ("42010001aa", "token cut off"),
        ("40010001ff", "marker without payload"), ("4000000100", "empty message with more"),
        ("40010001e0fff3", "number 65536"), ("40c00001", "class 6"), ("40200001", "class 1"),
    ):  # fmt: skip
        try:
            Message.decode(unhexlify(digits))
        except coap.FormatError:
            continue
        raise AssertionError(what + " was taken")


def test_encode_when_given_options_then_sorted_and_the_marker_only_before_payload():
    """aiocoap Message.encode(): bytes."""
    message = Message(GET, mtype=CON, mid=0x1234, token=b"t", accept=50, uri_path=("a",))
    check.eq(message.encode(), unhexlify("4101123474b1616132"))
    message.payload = b"p"
    check.eq(message.encode(), unhexlify("4101123474b1616132ff70"))
    check.eq(isinstance(message.encode(), bytes), True)


def test_encode_when_code_type_or_id_is_missing_then_value_error():
    """aiocoap Message.encode(): TypeError there."""
    for fields in {"mtype": CON, "mid": 1}, {"code": GET, "mid": 1}, {"code": GET, "mtype": CON}:
        check.raises(ValueError, Message(**fields).encode, contains="code, mtype and mid")


def test_encode_when_received_then_the_same_bytes():
    """aiocoap Message.direction: there is none; what was received is encoded as it came."""
    datagram = packet(PUT, 5, NON, uri_path=("a", "b"), payload=b"p")
    check.eq(received(datagram).encode(), datagram)


def test_encode_when_given_a_buffer_then_the_message_lies_in_it():
    """aiocoap Message.encode(), CoAPy TransmissionRecord.packed: the caller may keep the memory."""
    kept = bytearray(32)
    message = Message(GET, mtype=CON, mid=1, uri_path=("t",), buffer=kept)
    check.eq(message.encode() is kept, True)
    check.eq(bytes(kept), unhexlify("40010001b174"))
    message.payload = b"p" * 40
    check.raises(ValueError, message.encode, contains="32")


def test_copy_when_made_then_nothing_is_shared():
    """aiocoap Message.copy(): fields and options of its own."""
    message = Message(PUT, mtype=NON, mid=3, token=b"t", payload=b"p", uri="coap://h/a", transport_tuning=EXACT)
    copy = message.copy()
    check.eq(copy == message, True)
    check.eq((copy.remote, copy.transport_tuning), ("h:5683", EXACT))
    copy.opt.uri_path = ("b",)
    copy.payload, copy.token, copy.remote = b"q", b"u", None
    check.eq((message.opt.uri_path, message.payload, message.token, message.remote), (("a",), b"p", b"t", "h:5683"))


def test_copy_when_changes_are_given_then_they_hold():
    """aiocoap Message.copy(**kw): fields, uri, options; None clears."""
    message = Message(PUT, mtype=NON, mid=3, token=b"t", payload=b"p", uri="coap://h/a", etag=b"e")
    copy = message.copy(
        code=POST, mtype=None, mid=None, token=b"", payload="q", remote=None, transport_tuning=EXACT, etag=None,
        accept=0,
    )  # fmt: skip
    check.eq((copy.code, copy.mtype, copy.mid, copy.token, copy.payload), (POST, None, None, b"", b"q"))
    check.eq((copy.remote, copy.transport_tuning), (None, EXACT))
    check.eq(copy.options, ((3, "h"), (11, "a"), (17, 0)))
    copy = message.copy(uri="coap://192.0.2.1:61616/b?q")
    check.eq((copy.remote, copy.options), ("192.0.2.1:61616", ((4, b"e"), (11, "b"), (15, "q"))))
    check.eq(message.opt.uri_path, ("a",))


def test_copy_when_of_a_received_message_then_it_can_be_changed():
    """aiocoap Message.copy(): the datagram stays as it is."""
    message = received(packet(PUT, 1, uri_path=("a",), payload=b"p"))
    copy = message.copy(uri_path=("b", "c"))
    check.eq((copy.opt.uri_path, copy.payload, copy.token, copy.remote), (("b", "c"), b"p", b"tk", PEER))
    check.eq(message.opt.uri_path, ("a",))


# ---- cache key ----


def key(code=GET, ignore=(), **fields):
    return Message(code, **fields).get_cache_key(ignore)


def test_cache_key_when_asked_then_hashable_and_by_code_and_options():
    """aiocoap Message.get_cache_key(): not by type, ID, token, remote; of a GET not by payload."""
    first = key(uri_path=("s", "1"))
    check.eq({first: "found"}[key(uri_path=("s", "1"))], "found")
    check.eq(first, key(uri_path=("s", "1"), mtype=NON, mid=5, token=b"t", remote=PEER, payload=b"p"))
    check.eq(first, received(packet(GET, 1, uri_path=("s", "1"))).get_cache_key())
    for other in key(FETCH, uri_path=("s", "1")), key(uri_path=("1", "s")), key(uri_path=("s", "1"), accept=0):
        check.eq(first == other, False)


def test_cache_key_when_an_option_is_no_cache_key_then_it_does_not_count():
    """aiocoap Message.get_cache_key(): Size1 is NoCacheKey; unsafe options are none, whatever their bits."""
    check.eq(key(size1=10), key(size1=20))
    check.eq(key(size1=10), key())
    check.eq(key(size2=10), key(), "Size2, 28, is NoCacheKey too")
    check.eq(key(no_response=2) == key(), False, "No-Response, 258, is unsafe")
    check.eq(key(max_age=2) == key(), False, "Max-Age, 14, is unsafe")


def test_cache_key_when_etags_differ_then_it_does_unless_ignored():
    """aiocoap Message.get_cache_key(ignore_options): by number, any container."""
    check.eq(key(etag=b"000") == key(), False)
    for ignore in (4,), [4, 60], {4}:
        check.eq(key(etag=b"000", ignore=ignore), key(ignore=ignore))
    check.eq(key(etag=b"000", accept=0, ignore=(4,)) == key(ignore=(4,)), False)


def test_cache_key_when_observe_then_it_does_not_count():
    """aiocoap Message.get_cache_key() counts it, against RFC 7641 section 2."""
    check.eq(key(observe=0), key())


def test_cache_key_when_fetch_then_the_payload_counts():
    """aiocoap Message.get_cache_key() leaves it out, against RFC 8132 section 2."""
    check.eq(key(FETCH, payload=b"a") == key(FETCH, payload=b"b"), False)
    check.eq(key(FETCH, payload=b"a"), key(FETCH, payload=b"a"))


# ---- request URI ----

KEPT = (  # these come back letter by letter
    "coap://h/", "coap://h/a", "coap://h/a/", "coap://h/a/b/c", "coap://h//", "coap://h//a", "coap://h/a//b",
    "coap://h/a//", "coap://h///", "coap://h/a%2Fb", "coap://h/%2F", "coap://h/a%2Fb//c", "coap://h/%20",
    "coap://h/%25", "coap://h/%2525", "coap://h/%3F", "coap://h/%23", "coap://h/%00", "coap://h/%7F",
    "coap://h/%C3%A9", "coap://h/%E3%81%93%E3%82%93", "coap://h/%F0%9F%8C%A1", "coap://h/%5B%5D", "coap://h/%22%3C%3E",
    "coap://h/%5C%5E%60%7B%7C%7D", "coap://h/-._~", "coap://h/!$&'()*+,;=:@", "coap://h/a:b", "coap://h/...",
    "coap://h/.a/a.", "coap://h/A/a", "coap://h/?q", "coap://h/?a&b", "coap://h/?a&&b", "coap://h/?a&", "coap://h/?&",
    "coap://h/?a=1&a=1", "coap://h/?a=b=c", "coap://h/?%26", "coap://h/?%26&%26", "coap://h/?a%20b", "coap://h/?a+b",
    "coap://h/?/a?b", "coap://h/?!$'()*+,;=:@/?", "coap://h/?%23%25", "coap://h/?%C3%A9", "coap://h/a?b", "coap://h/a/?b",
    "coap://h//?b", "coap://h:61616/", "coap://h:1/a?b", "coap://h:65535/", "coap://192.0.2.1/", "coap://192.0.2.1:61616/a",
    "coap://[2001:db8::1]/a", "coap://[2001:db8::1]:61616/", "coap://[::1]/", "coap://1.2.3/", "coap://h.example/t",
    "coap://xn--18j4d.example/t", "coap://h-1_2~3/t", "coap://h!$&'()*+,;=/t",
    "http://h/a?b", "https://[2001:db8::1]:8443/%2f", "coap+tcp://h/t",
)  # fmt: skip
NORMALISED = (  # RFC 7252 section 6.1, 6.3
    ("coap://h", "coap://h/"),
    ("coap://h?q", "coap://h/?q"),
    ("COAP://H/A", "coap://h/A"),
    ("coap://h:5683/t", "coap://h/t"),
    ("coap://h:05683/t", "coap://h/t"),
    ("coap://h:/t", "coap://h/t"),
    ("coap://h/%61%2d", "coap://h/a-"),
    ("coap://h/%2f%c3%a9", "coap://h/%2F%C3%A9"),
    ("coap://h/ \u00e9\"", "coap://h/%20%C3%A9%22"),
    ("coap://h/?%2F%3F%61", "coap://h/?/?a"),
    ("coap://b%C3%BCcher.example/", "coap://b%C3%BCcher.example/"),
    ("coap://h/a/../b/./c", "coap://h/b/c"),
    ("coap://[2001:DB8::1]:5683/", "coap://[2001:db8::1]/"),
)


def there_and_back(uri):
    """`uri` through set_request_uri, the wire and get_request_uri."""
    message = Message(GET, uri=uri)
    check.eq(message.get_request_uri(), Message(GET, uri=message.get_request_uri()).get_request_uri())
    return received(unhexlify(wire(message)), message.remote).get_request_uri()


def test_request_uri_when_set_and_read_then_the_same():
    """aiocoap Message.set_request_uri, .get_request_uri: percent-encoding, empty segments, ports, hosts."""
    for uri in KEPT:
        check.eq(there_and_back(uri), uri)


def test_request_uri_when_set_and_read_then_normalised():
    """aiocoap Message.get_request_uri: the path is "/" if empty, the default port is left out."""
    for uri, expected in NORMALISED:
        check.eq(there_and_back(uri), expected, uri)


def test_request_uri_when_of_a_proxy_then_proxy_uri_or_proxy_scheme():
    """aiocoap Message.get_request_uri: Proxy-Uri as it is; Proxy-Scheme before Uri-Host, Uri-Path."""
    check.eq(Message(GET, proxy_uri="HTTP://h/%2f?", uri_path=("a",)).get_request_uri(), "HTTP://h/%2f?")
    message = Message(GET, proxy_scheme="http", uri_host="h", uri_port=8080, uri_path=("a",), remote="proxy")
    check.eq(message.get_request_uri(), "http://h:8080/a")


def test_request_uri_when_proxy_scheme_then_only_its_own_default_port_is_left_out():
    """aiocoap Message.get_request_uri: RFC 7252 section 6.5 step 5, 5683 is not the default port of http."""
    message = Message(GET, proxy_scheme="http", uri_host="h", uri_port=5683, remote="proxy")
    check.eq(message.get_request_uri(), "http://h:5683/")


def test_request_uri_when_there_are_uri_host_and_uri_port_then_they_come_before_the_remote():
    """aiocoap Message.get_request_uri(local_is_server): at the server, too, with no argument."""
    for options, expected in (
        ({}, "coap://192.0.2.1/t"),
        ({"uri_host": "name"}, "coap://name/t"),
        ({"uri_port": 61616}, "coap://192.0.2.1:61616/t"),
        ({"uri_host": "name", "uri_port": 61616}, "coap://name:61616/t"),
    ):
        check.eq(get(remote=PEER, **options).get_request_uri(), expected)
        check.eq(received(packet(GET, 1, uri_path=("t",), **options)).get_request_uri(), expected)


def test_request_uri_when_uri_host_holds_what_no_name_does_then_it_cannot_be_mistaken():
    """aiocoap Message.get_request_uri: RFC 7252 section 6.5 step 3; no port, user or path out of a Uri-Host."""
    for host in "a:1", "u@h", "h/p", "h?q", "h#f":
        message = get(uri_host=host, remote=PEER)
        try:
            uri = message.get_request_uri()
        except ValueError:
            continue
        read = Message(GET, uri=uri)
        check.eq((read.opt.uri_host, read.opt.uri_path), (host, ("t",)), uri)


def test_request_uri_when_set_uri_host_is_false_then_the_host_is_in_the_remote_only():
    """aiocoap Message.set_request_uri(set_uri_host=False), .unresolved_remote: not on the wire."""
    message = Message(GET)
    message.set_request_uri("coap://name.example:61616/t", set_uri_host=False)
    check.eq((message.remote, message.options), ("name.example:61616", ((11, "t"),)))
    check.eq(message.get_request_uri(), "coap://name.example:61616/t")


def test_request_uri_when_of_a_response_then_that_of_its_request():
    """aiocoap Message.get_request_uri of a response: whatever the response's own options."""
    response = Message(CONTENT, location_path=("l",), remote=("192.0.2.9", 5683))
    check.raises(ValueError, response.get_request_uri, contains="request")
    response.request = Message(GET, uri="coap://name.example/t?q")
    check.eq(response.get_request_uri(), "coap://name.example/t?q")


def test_request_uri_when_a_group_was_asked_then_the_responders_address():
    """aiocoap Message.get_request_uri of a response to a group's request, Remote.is_multicast."""
    for remote, expected in (
        (PEER, "coap://192.0.2.1/t"),
        (("192.0.2.1", 61616), "coap://192.0.2.1:61616/t"),
        (("2001:db8::1", 5683, 0, 0), "coap://[2001:db8::1]/t"),
        (UNIX_IPV4, "coap://192.0.2.1:5885/t"),
    ):
        response = Message(CONTENT, remote=remote)
        response.request = get(remote=GROUP, uri_host="all.example")
        check.eq(response.get_request_uri(), expected)


def test_request_uri_when_the_remote_is_an_address_then_host_and_port_of_it():
    """aiocoap Remote.hostinfo, .uri, .uri_base, .scheme: of tuples and of the bytes of MicroPython's unix port."""
    for remote, expected in (
        (("192.0.2.1", 5683), "coap://192.0.2.1/t"),
        (("2001:db8::2", 61616, 0, 0), "coap://[2001:db8::2]:61616/t"),
        (UNIX_IPV4, "coap://192.0.2.1:5885/t"),
        ("host", "coap://host/t"),
        ("[2001:db8::2]:1", "coap://[2001:db8::2]:1/t"),
    ):
        check.eq(get(remote=remote).get_request_uri(), expected)
    uri = get(remote=UNIX_IPV6).get_request_uri()
    check.eq(uri in ("coap://[2001:db8:0:0:0:0:0:2]/t", "coap://[2001:db8::2]/t"), True, uri)


def test_request_uri_when_neither_host_nor_remote_is_known_then_value_error():
    """aiocoap Message.get_request_uri: a URI cannot be without host."""
    for remote in None, b"", 5:
        check.raises(ValueError, get(remote=remote).get_request_uri, contains="Uri-Host")
    check.eq(get(uri_host="h").get_request_uri(), "coap://h/t")


def test_request_uri_when_it_is_no_request_uri_then_value_error():
    """aiocoap Message.set_request_uri, IncompleteUrlError, MalformedUrlError: one error, which quotes the URI."""
    for uri in "t", "//h/t", "coap:t", "coap://", "coap://h/t#f", "coap://u@h/t", "coap://h:x/t", "coap://h/%ff":
        check.raises(ValueError, Message(GET).set_request_uri, uri)


def test_request_uri_when_coaps_then_it_stays_coaps():
    """aiocoap Message.get_request_uri, Remote.scheme: RFC 7252 section 6.5 step 1."""
    for uri in "coaps://h/t", "coaps://h:5683/t":
        message = Message(GET, uri=uri)
        response = Message(CONTENT)
        response.request = message
        check.eq((message.get_request_uri(), response.get_request_uri()), (uri, uri))
    check.eq(Message(GET, uri="coaps://h:5684").get_request_uri(), "coaps://h/")
    check.eq(message.copy(uri="coap://h/t").get_request_uri(), "coap://h/t")
