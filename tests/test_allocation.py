"""What allocates nothing on MicroPython: proved with the heap locked, where any allocation raises MemoryError."""

import check
import coap
import corpus
import fake

PEER = ("192.0.2.1", 5683)
PAYLOAD = b"22.5 C"


def request(method, path, mid, mtype=coap.CON, payload=b""):
    message = coap.Message(method, mtype=mtype, mid=mid, token=b"tk", uri_path=path, payload=payload)
    return message.encode()


def server():
    engine = coap.Engine(fake.Random(3).bytes)
    temperature = engine.resource("sensors/temp", ct=coap.TEXT)
    led = engine.resource("led")

    @temperature.get
    def read(request, response):
        response.payload = PAYLOAD

    @led.put
    def switch(request, response):
        response.code = coap.CHANGED

    return engine


def exchange_all(engine, datagrams):
    """Each is answered 2.05: with the heap locked a handler that allocates is answered 5.00."""
    for datagram in datagrams:
        if engine.receive(datagram, PEER, 1000)[1] != coap.CONTENT:
            raise ValueError("not answered 2.05")


def test_index_when_the_message_is_valid_then_nothing_is_allocated():
    """RFC 7252 section 3: one pass that notes offsets."""
    message = coap.Message()
    for datagram in corpus.VALID:
        check.no_alloc(message.index, datagram)


def test_write_when_the_buffer_is_kept_then_nothing_is_allocated():
    """RFC 7252 section 3: options already encoded, payload and token copied in place."""
    buffer = bytearray(1152)
    message = coap.Message(coap.POST, mtype=coap.CON, mid=7, token=b"token123", payload=b"p" * 64)
    message.add_option(11, "a" * 20).add_option(300, b"b" * 300).add_option(2000, b"")
    check.no_alloc(message.write, buffer)
    check.eq(bytes(buffer), coap.Message.decode(bytes(buffer)).encode())


def test_add_option_when_headers_are_extended_then_nothing_is_allocated():
    """RFC 7252 section 3.1: a message built again in its own buffers, values as bytes."""
    message = coap.Message(coap.POST, mtype=coap.CON, mid=7)
    buffer = bytearray(1152)
    path = b"a" * 20
    value = b"b" * 300

    def build():
        message.clear()
        message.code = coap.POST
        message.add_option(11, path)
        message.add_option(300, value)
        message.add_option(65535, path)
        message.payload = PAYLOAD
        message.write(buffer)

    check.no_alloc(build)
    check.eq(len(buffer), 4 + 2 + 20 + 5 + 300 + 4 + 20 + 1 + 6)


def test_tick_when_idle_then_nothing_is_allocated():
    """RFC 7252 section 4: nothing is due, with and without remembered messages."""
    engine = server()
    check.no_alloc(engine.due, 1000)
    check.no_alloc(engine.next_ms, 1000)
    engine.receive(request(coap.GET, ("sensors", "temp"), 1), PEER, 1000)
    check.no_alloc(engine.due, 2000)
    check.no_alloc(engine.next_ms, 2000)


def test_exchange_when_the_handler_assigns_a_constant_then_nothing_is_allocated():
    """RFC 7252 section 5.2.1: bytes in, handler, bytes out; each time another message ID."""
    engine = server()
    datagrams = [request(coap.GET, ("sensors", "temp"), mid) for mid in range(1, 40)]
    engine.receive(datagrams[0], PEER, 1000)

    check.no_alloc(exchange_all, engine, datagrams)
    check.eq(bytes(engine.receive(datagrams[5], PEER, 1000)), b"\x62\x45\x00\x06tk\xc0\xff22.5 C")


def test_exchange_when_non_then_nothing_is_allocated():
    """RFC 7252 section 5.2.3: a NON answered by a NON."""
    engine = server()
    datagrams = [request(coap.GET, ("sensors", "temp"), mid, coap.NON) for mid in range(1, 40)]

    check.no_alloc(exchange_all, engine, datagrams)


def test_duplicate_when_answered_then_nothing_is_allocated():
    """RFC 7252 section 4.5: the same bytes again, for GET and PUT, CON and NON."""
    engine = server()
    for mid, method, path in ((1, coap.GET, ("sensors", "temp")), (2, coap.PUT, ("led",))):
        datagram = request(method, path, mid)
        first = bytes(engine.receive(datagram, PEER, 1000))
        check.eq(bytes(check.no_alloc(engine.receive, datagram, PEER, 1000)), first)
    datagram = request(coap.PUT, ("led",), 3, coap.NON)
    engine.receive(datagram, PEER, 1000)
    check.eq(check.no_alloc(engine.receive, datagram, PEER, 1000), None)


def test_retransmission_when_due_then_nothing_is_allocated():
    """RFC 7252 section 4.2: the same datagram again."""
    engine = coap.Engine(fake.Random(3).bytes)
    engine.send(coap.Message(coap.GET, uri_path=("t",)), PEER)
    first = bytes(engine.due(0))
    engine.due(0)

    def retransmit():
        engine.next_ms(3000)
        return engine.due(3000)

    check.eq(retransmit(), first)
    engine.due(3000)

    def again():
        engine.next_ms(9000)
        return engine.due(9000)

    check.eq(check_once(again), first)


def check_once(function):
    """no_alloc for what can be done only once."""
    check.heap_lock()
    try:
        return function()
    finally:
        check.heap_unlock()


def test_exchange_when_it_ends_then_nothing_is_allocated():
    """RFC 7252 section 4.2: what there was no memory for is given up, too."""
    engine = fake.engine(tuning=coap.Tuning(nstart=2))
    records = [engine.send(coap.Message(coap.GET, uri_path=("t",)), PEER) for _ in range(2)]
    check.eq(len(fake.due(engine, 0)), 2)
    check.no_alloc(lambda: engine.end(records.pop(), None))
    check.eq(engine._open, [])


def test_malformed_when_answered_then_nothing_is_allocated():
    """RFC 7252 section 4.2: a Reset, and a ping's Reset."""
    engine = server()
    check.eq(bytes(check.no_alloc(engine.receive, b"\x40\x01\x00\x09\xff", PEER, 0)), b"\x70\x00\x00\x09")
    check.eq(bytes(check.no_alloc(engine.receive, b"\x40\x00\x00\x09", PEER, 0)), b"\x70\x00\x00\x09")


def test_error_when_answered_then_nothing_is_allocated():
    """RFC 7252 section 5.8: 4.04 and 4.05."""
    engine = server()
    for mid, method, path in ((1, coap.GET, ("nosuch",)), (2, coap.POST, ("led",))):
        check.no_alloc(engine.receive, request(method, path, mid), PEER, 0)
