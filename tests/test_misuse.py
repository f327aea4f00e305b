"""The caller's mistakes: each is told at once, by a ValueError or TypeError whose sentence says what to change."""

import check
import coap
import coap_block
import coap_echo
import coap_observe
import fake
from coap import CONTENT, GET, POST, PUT, Message


def endpoint(**tables):
    return coap.Endpoint(sock=fake.Transport(), **tables)


def tell(mistakes):
    """Has each of `mistakes`, (error, part of its sentence, function), made."""
    for error, sentence, mistake in mistakes:
        try:
            check.raises(error, mistake, contains=sentence)
        except AssertionError:
            raise AssertionError("not told: " + sentence)


# ---- sizes of tables ----


def test_endpoint_when_a_size_is_out_of_range_then_valueerror_at_once():
    """RFC 7252 section 4.5: what a table cannot hold would come out of process() at a peer's datagram, days later."""
    for name, wrong in (
        ("transmissions", 0), ("queued", 0), ("recent", 0), ("kept", -1), ("kept_per_host", 0), ("pending", -1),
        ("group_responses", -1), ("datagram_len", 47),
    ):  # fmt: skip
        check.raises(ValueError, endpoint, contains=name, **{name: wrong})
        check.raises(TypeError, endpoint, contains=name, **{name: None})
    check.raises(TypeError, endpoint, contains="Tuning", tuning=5)


def test_endpoint_when_nothing_is_kept_or_promised_then_refuses_by_5_03():
    """Tables may be empty: PUT and promises are refused, GET is served."""
    engine = fake.engine(kept=0, pending=0)
    led = engine.resource("led")
    led(lambda request, response: coap.LATER if request.code == GET else None)
    check.eq(fake.ask(engine, fake.packet(PUT, 1, uri_path=("led",))).code, coap.SERVICE_UNAVAILABLE)
    check.eq(fake.ask(engine, fake.packet(GET, 2, uri_path=("led",))).code, coap.SERVICE_UNAVAILABLE)


def test_extension_when_a_size_is_out_of_range_then_told_at_once():
    """RFC 7959 section 2.2: SZX 7 is reserved; sizes of coap_block, coap_observe and coap_echo."""
    for name, wrong in (
        ("szx", 7), ("szx", -1), ("transfers", 0), ("per_host", 0), ("body_len", -1), ("sink_len", -1), ("idle_ms", 0),
        ("idle_ms", 1 << 31), ("unverified_len", 0),
    ):  # fmt: skip
        check.raises(ValueError, coap_block.attach, endpoint(), contains=name, **{name: wrong})
        if name != "unverified_len" and name != "idle_ms":
            check.raises(TypeError, coap_block.attach, endpoint(), contains=name, **{name: None})
    check.raises(TypeError, coap_observe.attach, endpoint(), contains="request_len", request_len="a")
    check.raises(TypeError, coap_echo.attach, endpoint(), contains="verified", verified=1.5)


def test_extension_when_attached_twice_then_valueerror():
    """Two of a kind would refuse what the other has begun."""
    for module in coap_block, coap_observe, coap_echo:
        twice = endpoint()
        module.attach(twice)
        check.raises(ValueError, module.attach, twice, contains="attached")


# ---- ports and addresses ----


def test_endpoint_when_the_port_is_none_then_told():
    """RFC 768: ports are 16 bits."""
    if coap.socket is None:
        raise check.Skip("no sockets")
    tell((
        (ValueError, "port", lambda: coap.Endpoint(port=65536)),
        (ValueError, "port", lambda: coap.Endpoint(port=-1)),
        (TypeError, "port", lambda: coap.Endpoint(port="5683")),
        (TypeError, "host is a str", lambda: coap.Endpoint("0.0.0.0", 5683)),  # in the order of bind
    ))  # fmt: skip


def test_request_when_the_host_is_of_the_other_ip_version_then_oserror():
    """The socket could never reach it: a sentence now, in place of a timeout after 93 s."""
    if coap.socket is None:
        raise check.Skip("no sockets")
    with coap.Endpoint() as client:
        check.raises(OSError, client.get, "coap://[::1]/x", contains="IP")
        check.raises(OSError, client.send, Message(GET), "[2001:db8::1]:5683", contains="IP")
    client = coap.Endpoint(sock=fake.Transport(), family=coap.socket.AF_INET6)
    check.raises(OSError, client.get, "coap://127.0.0.1/x", contains="IP")


def test_transport_when_no_family_is_given_then_takes_addresses_of_both():
    """It may be a socket of IPv6, or of no IP at all."""
    client = endpoint()
    for literal in "[::1]:5683", "127.0.0.1:5683":
        host, port = coap._host_and_port(client.resolve(literal))
        check.eq((host[-2:], port), (literal[-7:-5], 5683))


def test_request_when_remote_is_given_beside_the_uri_then_goes_there():
    """RFC 7252 section 5.10.1: Uri-Host names the host, the datagram may go elsewhere."""
    message = Message(GET, uri="coap://sensor.example/x", remote="192.0.2.9:7777")
    check.eq((message.remote, message.opt.uri_host), ("192.0.2.9:7777", "sensor.example"))


# ---- wrong arguments ----


def test_message_when_given_what_is_none_then_told():
    """A URI is text, a Tuning a Tuning."""
    tell((
        (TypeError, "URI", lambda: Message(GET, uri=5)),
        (TypeError, "URI", lambda: Message(GET).set_request_uri(None)),
        (TypeError, "URI", lambda: coap_observe.observe(endpoint(), b"coap://192.0.2.1/x")),
        (TypeError, "function", lambda: coap_observe.observe(endpoint(), "coap://192.0.2.1/x", GET)),
    ))  # fmt: skip


def test_send_when_its_tuning_is_none_then_typeerror_at_once():
    """RFC 7252 section 4.8: process() would raise AttributeError for a NON until its timeout."""
    client = endpoint()
    for mtype in coap.CON, coap.NON:
        message = Message(GET, mtype=mtype, remote=fake.PEER, transport_tuning=2000)
        check.raises(TypeError, client.send, message, contains="Tuning")
        check.raises(TypeError, client.send, message, None, 100, contains="Tuning")
    check.eq(client.process(0), None)


def test_respond_when_the_tuning_of_a_message_of_its_own_is_none_then_typeerror():
    """RFC 7252 section 5.2.2: it is retransmitted."""
    server = endpoint()
    server.receive(fake.packet(GET, 1), fake.PEER, 0)
    record = server.received
    record.ack()
    check.raises(TypeError, record.respond, Message(CONTENT, transport_tuning=2000), contains="Tuning")
    record.respond(payload="again")


def test_option_when_it_is_set_beside_opt_then_attributeerror_on_cpython():
    """RFC 7252 section 5.10: MicroPython takes any attribute, and the option does not leave."""
    message = Message(GET)
    for name in "uri_path", "max_age", "etags":
        if coap._ON_CPYTHON:
            check.raises(AttributeError, setattr, message, name, ("a",), contains="message.opt.")
        check.raises(AttributeError, getattr, message, name)
    check.eq(message.options, ())


def test_option_when_its_values_are_no_tuple_then_typeerror():
    """RFC 7252 section 5.10.1: of a dict only the names would leave."""
    for wrong in {"rt": "temp"}, "rt=temp", b"rt=temp":
        check.raises(TypeError, Message, GET, uri_query=wrong, contains="tuple of values")
    check.eq(Message(GET, uri_query=["a=1", "b"]).opt.uri_query, ("a=1", "b"))


def test_option_when_a_number_is_true_then_typeerror():
    """RFC 7641 section 2: observe=True would be 1, which ends an observation; to MicroPython True is no int."""
    for name in "observe", "max_age", "accept":
        check.raises(TypeError, Message, GET, contains="True", **{name: True})
    check.raises(TypeError, Message(GET).add_option, 2048, True, contains="True")


def test_send_when_given_no_message_then_typeerror():
    """send takes a Message; request takes a URI."""
    client = endpoint()
    tell((
        (TypeError, "Message", lambda: client.send("coap://192.0.2.1/x")),
        (TypeError, "Message", lambda: client.send(None)),
        (ValueError, "remote", lambda: client.get("http://example.org/x")),
    ))  # fmt: skip


def test_send_when_given_what_a_handler_was_given_then_valueerror():
    """It is used again: by the time it is sent it may answer somebody else."""
    engine = fake.engine()
    kept = []

    def handler(request, response):
        kept.append((request, response))
        return coap.LATER

    engine.resource("slow").get(handler)
    engine.receive(fake.packet(GET, 1, token=b"A", uri_path=("slow",)), ("192.0.2.1", 1), 0)
    engine.receive(fake.packet(GET, 2, token=b"B", uri_path=("slow",)), ("192.0.2.2", 2), 0)
    for message in kept[0]:
        check.raises(ValueError, engine.send, message, contains="copy()")


def test_index_when_called_on_the_response_of_a_handler_then_the_next_request_is_served():
    """It is a datagram's from then on, which no response can be written into."""
    engine = fake.engine()
    kept = fake.packet(CONTENT, 7, coap.ACK, payload="kept")
    engine.resource("bad").get(lambda request, response: response.index(kept))
    engine.resource("good").get(lambda request, response: "22.5 C")
    for mid in 1, 2:
        check.raises(TypeError, engine.receive, fake.packet(GET, mid, uri_path=("bad",)), fake.PEER, 0)
        check.eq(fake.ask(engine, fake.packet(GET, 9 + mid, uri_path=("good",))).payload, b"22.5 C")


def test_wait_when_the_record_is_another_endpoints_then_valueerror():
    """It would never end."""
    client = endpoint()
    record = endpoint().send(Message(GET), ("192.0.2.1", 5683))
    check.raises(ValueError, client.wait, record, contains="endpoint")


def test_resource_when_given_what_is_none_then_told():
    """A path is text, a handler a function, a method 1 to 7; a list of formats is as good as a tuple."""
    server = endpoint()
    led = server.resource("led", ct=[coap.TEXT, coap.JSON], rt=["a", "b"], takes=[coap.TEXT])
    led.get(None)
    check.eq((led.link, led.formats, led.takes), ('</led>;ct="0 50";rt="a b"', (0, 50), (0,)))
    tell((
        (TypeError, "path", lambda: server.resource(5)),
        (TypeError, "path", lambda: server.resource(("a", "b"))),
        (TypeError, "handler", lambda: led.get("22.5")),
        (TypeError, "method", lambda: led.on("GET")),
        (ValueError, "method", lambda: led.on(CONTENT)),
        (ValueError, "method", lambda: led.on(-1)),
        (TypeError, "function", lambda: led.etag(b"1")),
    ))  # fmt: skip


def test_resource_when_a_content_format_is_none_then_told():
    """RFC 7252 section 12.3: a number of 16 bits; a name in `takes` would refuse all that is put there, by 4.15."""
    server = endpoint()
    for error, wrong in (
        (TypeError, "application/json"), (TypeError, 1.5), (TypeError, (0, "application/json")),
        (ValueError, -1), (ValueError, 65536), (ValueError, [50, 65536]),
    ):  # fmt: skip
        check.raises(error, server.resource, "led", ct=wrong, contains="option")
        check.raises(error, server.resource, "led", takes=wrong, contains="option")
    led = server.resource("led", ct=0, takes=65535)
    check.eq((led.formats, led.takes), ((0,), (65535,)))


def test_resource_when_its_path_is_served_then_valueerror():
    """The later one would hide the handlers of the first."""
    server = endpoint()
    for path in "led", "", "files/<name>", "<name>":
        server.resource(path)
        check.raises(ValueError, server.resource, path, contains="served")
    mine = server.resource(".well-known/core")  # the engine's own makes room
    check.eq(server._route(coap.Message.decode(fake.packet(GET, 1, uri_path=(".well-known", "core"))).packet), mine)
    check.raises(ValueError, server.resource, ".well-known/core", contains="served")
    check.raises(ValueError, server.resource, "led/<name>/state", contains="last segment")
    for path in "led/", "lee", "//led", "files/", "file/<name>", "files", "files/x/<name>":
        server.resource(path)


def test_extension_when_given_a_path_for_a_resource_then_valueerror():
    """RFC 9175 section 2.3: a lock that opens unasked is no lock."""
    server = endpoint()
    echo = coap_echo.attach(server)
    blocks = coap_block.attach(server)
    lock = server.resource("lock")
    check.eq(echo.demand_freshness(lock), lock)
    other = endpoint().resource("lock")
    for wrong in "lock", None, other:
        check.raises(ValueError, echo.demand_freshness, wrong, contains="resource()")
        check.raises(ValueError, blocks.sink, wrong, contains="resource()")


def test_notify_when_given_a_value_then_typeerror():
    """RFC 7641 section 4.2: its handler tells the state; the value would be lost, and each notification a CON."""
    server = endpoint()
    server.resource("temp", obs=True)
    coap_observe.attach(server)
    for value in "22.5", 22.5, b"22.5":
        check.raises(TypeError, server.notify, "temp", value, contains="confirmable")
    server.notify("temp", True)


def test_transfer_when_given_no_sink_or_source_then_typeerror_and_nothing_is_sent():
    """RFC 7959 section 2.4: an open file has no write_at; the first block would be lost in it."""
    client = endpoint()
    blocks = coap_block.attach(client)
    for wrong in "file.bin", 5, [1], object(), Message.decode:
        check.raises(TypeError, blocks.download, "coap://192.0.2.1/r", wrong, contains="write_at")
        check.raises(TypeError, blocks.send, Message(PUT), "192.0.2.1", source=wrong, contains="readinto_at")
    check.eq((client.socket.sent, len(client._queue)), ([], 0))


def test_upload_when_given_no_source_then_typeerror_and_nothing_is_sent():
    """RFC 7959 section 2.5: None made it a request without payload, which empties what is there."""
    client = endpoint()
    blocks = coap_block.attach(client)
    for wrong in None, 5, [1], object():
        check.raises(TypeError, blocks.upload, PUT, "coap://192.0.2.1/r", wrong, timeout_ms=0, contains="a payload is")
    check.eq(client.socket.sent, [])


def test_register_socket_when_given_no_socket_then_typeerror():
    """What cannot receive would be found at the next process()."""
    check.raises(TypeError, coap.Endpoint, sock=5, contains="recvfrom")
    check.raises(TypeError, endpoint().register_socket, None, contains="recvfrom")


# ---- sleeping ----


def test_next_event_when_a_request_waits_for_its_acknowledgement_then_now():
    """RFC 7252 section 4.2: who sleeps meanwhile is sent it again."""
    transport = fake.Transport((fake.packet(POST, 1, uri_path=("x",)), fake.PEER))
    server = coap.Endpoint(sock=transport)
    record = server.process(0)
    check.eq((server.next_event_ms(), server.next_event_reason), (0, "received"))
    record.respond()
    check.eq((server.next_event_ms(), server.next_event_reason), (0, "send"))
    server.process(0)
    check.eq(len(transport.sent), 1)
    assert server.next_event_ms() > 1000


# ---- responding ----


def test_respond_when_something_is_beside_a_message_then_typeerror_and_it_may_be_answered_still():
    """RFC 7252 section 5.2: a payload beside a Message would be left out in silence."""
    transport = fake.Transport((fake.packet(GET, 1, uri_path=("x",)), fake.PEER))
    server = coap.Endpoint(sock=transport)
    record = server.process(0)
    tell((
        (TypeError, "payload and options", lambda: record.respond(Message(CONTENT), "late")),
        (TypeError, "payload and options", lambda: record.respond(Message(CONTENT), max_age=5)),
    ))  # fmt: skip
    record.respond(Message(CONTENT, payload="in time"))
    server.process(0)
    check.eq([Message.decode(bytes(sent[0])).payload for sent in transport.sent], [b"in time"])
