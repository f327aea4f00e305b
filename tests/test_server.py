"""The server: what handlers return, negotiation, routing, discovery, groups, and requests for the application."""

import check
import coap
import fake
from fake import PEER, ask, due, empty, packet, run


class Served:
    """An engine with one resource whose handler serves all methods; `log` is what the hook was told."""

    def __init__(self, handler, path="r", ct=None, **tables):
        self.engine = fake.engine(**tables)
        self.log = []
        self.engine.log = self.note
        self.resource = self.engine.resource(path, ct)
        self.resource(handler)
        self.mid = 0

    def note(self, text, value):
        self.log.append((text, value))

    def ask(self, method=coap.GET, mtype=coap.CON, is_multicast=False, **fields):
        """The answer to a new request: a Message, or None."""
        self.mid += 1
        fields.setdefault("uri_path", ("r",))
        return ask(self.engine, packet(method, self.mid, mtype, **fields), self.mid, PEER, is_multicast)


def returning(result, **tables):
    return Served(lambda request, response: result, **tables)


def summary(message):
    return message and (message.mtype, message.code, message.mid, message.token, message.payload)


# ---- results of handlers ----


def test_result_when_it_is_content_then_it_is_the_payload():
    """RFC 7252 section 5.2.1: str, bytes, bytearray, memoryview, (code, payload), an int, None."""
    for result, code, payload in (
        ("22.5 \u00b0C", coap.CONTENT, b"22.5 \xc2\xb0C"),
        (b"\0\xff", coap.CONTENT, b"\0\xff"),
        (bytearray(b"ba"), coap.CONTENT, b"ba"),
        (memoryview(b"memory")[1:3], coap.CONTENT, b"em"),
        ("", coap.CONTENT, b""),
        ((coap.VALID, "x"), coap.VALID, b"x"),
        ((coap.NOT_FOUND, memoryview(b"gone")), coap.NOT_FOUND, b"gone"),
        (coap.FORBIDDEN, coap.FORBIDDEN, b""),
        (None, coap.CONTENT, b""),
    ):
        served = returning(result)
        check.eq(summary(served.ask()), (coap.ACK, code, 1, b"tk", payload))
        check.eq(served.log, [])


def test_result_when_none_then_the_response_is_as_filled_in():
    """RFC 7252 section 5.2.1: code, payload and options that the handler assigned."""

    def handler(request, response):
        response.code = coap.NOT_FOUND
        response.payload = b"no " + request.payload
        response.opt.max_age = 5

    reply = Served(handler).ask(payload=b"body")
    check.eq((reply.code, reply.payload, reply.options), (coap.NOT_FOUND, b"no body", ((14, 5),)))


def test_result_when_no_response_then_the_ack_is_empty():
    """RFC 7967 section 2: a CON is acknowledged, a NON not answered."""
    served = returning(coap.NO_RESPONSE)
    check.eq(summary(served.ask()), (coap.ACK, 0, 1, b"", b""))
    check.eq(served.ask(mtype=coap.NON), None)


def test_result_when_it_is_wrong_then_5_00_and_the_hook_is_told():
    """RFC 7252 section 5.9.3.1: no response code, or no payload."""
    for result in (0, 1, 31, 63, 192, 255, 256, -1, True, 2.5, [69], {}, (), (69,), (69, "a", 1), (300, "a"), (69, 5)):
        served = returning(result)
        check.eq(summary(served.ask()), (coap.ACK, coap.INTERNAL_SERVER_ERROR, 1, b"tk", b""), repr(result))
        check.eq(len(served.log), 1)
        check.eq("r" in served.log[0][0], True)
        check.eq(isinstance(served.log[0][1], Exception), True)


def test_result_when_the_code_is_none_of_a_response_then_5_00():
    """RFC 7252 section 5.9: a request's code or none, returned in a tuple or assigned, never goes out."""

    def assigning(code):
        def handler(request, response):
            response.code = code

        return handler

    for code in (0, 1, 31, 63, 192, 255, None):
        for served in (returning((code, b"x")), Served(assigning(code))):
            reply = served.ask()
            check.eq((reply.code, len(served.log)), (coap.INTERNAL_SERVER_ERROR, 1), repr(code))


def test_handler_when_it_raises_then_5_00_and_nothing_of_its_response():
    """RFC 7252 section 5.9.3.1: the options and payload it had filled in are gone; the engine lives."""
    for error in (RuntimeError("x"), ValueError("x"), KeyError("x"), OSError(5), MemoryError(), coap.Full("x")):

        def handler(request, response, error=error):
            response.opt.etag = b"12"
            response.payload = b"half"
            raise error

        served = Served(handler)
        for mtype, reply_type in ((coap.CON, coap.ACK), (coap.NON, coap.NON)):
            reply = served.ask(mtype=mtype)
            check.eq((reply.mtype, reply.code), (reply_type, coap.INTERNAL_SERVER_ERROR))
            check.eq((reply.payload, reply.options), (b"", ()))
        check.eq([value is error for _, value in served.log], [True, True])


def test_handler_when_it_raises_and_there_is_no_hook_then_5_00():
    """RFC 7252 section 5.9.3.1: `log` is None at first."""
    served = Served(lambda request, response: 1 // 0)
    served.engine.log = None
    check.eq(served.ask().code, coap.INTERNAL_SERVER_ERROR)


def test_handler_when_it_reads_what_cannot_be_read_then_4_02():
    """RFC 7252 section 5.4.1: a FormatError is the peer's fault, not the handler's."""
    served = Served(lambda request, response: request.opt.uri_query[0])
    check.eq(served.ask(uri_query=(b"\xff",)).code, coap.BAD_OPTION)
    check.eq(served.log, [])


def test_preset_when_the_handler_says_nothing_then_the_code_follows_the_method():
    """RFC 7252 section 5.8 and RFC 8132: 2.05, 2.01, 2.04, 2.02."""
    served = returning(None)
    expected = coap.CONTENT, coap.CREATED, coap.CHANGED, coap.DELETED, coap.CONTENT, coap.CHANGED, coap.CHANGED
    check.eq(tuple([served.ask(method).code for method in range(1, 8)]), expected)


def test_response_when_the_request_was_non_then_it_is_non_with_its_own_id():
    """RFC 7252 section 5.2.3: no two alike, none the request's; they count down."""
    served = returning("x")
    mid = served.engine.reply_mid()
    replies = [served.ask(mtype=coap.NON, token=b"12345678") for _ in range(20)]
    check.eq([reply.mtype for reply in replies], [coap.NON] * 20)
    check.eq([reply.token for reply in replies], [b"12345678"] * 20)
    check.eq([mid - reply.mid & 0xFFFF for reply in replies], list(range(1, 21)))


def test_token_when_0_to_8_bytes_then_echoed():
    """RFC 7252 section 5.3.1: whatever it holds."""
    served = returning("x")
    for length in range(9):
        for mtype in (coap.CON, coap.NON):
            token = bytes([0xFF - n for n in range(length)])
            reply = served.ask(mtype=mtype, token=token)
            check.eq((reply.token, reply.payload), (token, b"x"))


def test_response_when_it_just_fits_then_it_is_sent_else_5_00():
    """RFC 7252 section 4.6: the limit is datagram_len, and the hook is told."""
    served = returning(b"x" * 53, datagram_len=64)
    check.eq(len(served.ask(token=b"123456").encode()), 64)
    check.eq(served.log, [])
    reply = served.ask(token=b"1234567")
    check.eq((reply.code, reply.payload, reply.token), (coap.INTERNAL_SERVER_ERROR, b"", b"1234567"))
    check.eq(served.log, [("the response is longer than datagram_len", 53)])


def test_result_when_the_payload_beside_a_code_is_a_number_then_5_00():
    """RFC 7252 section 5.9: a reading of 70 was sent as 2.06 and one of 132 as 4.04: a number is no payload."""
    for number in (7, 70, 132, True, None):
        served = returning((coap.CONTENT, number))
        check.eq(served.ask().code, coap.INTERNAL_SERVER_ERROR, number)
        check.eq([type(error) for _, error in served.log], [TypeError], number)


def test_result_when_it_is_a_source_and_nothing_sends_blocks_then_5_00():
    """RFC 7959: without coap_block there is no other way than one datagram."""

    class Source:
        def readinto_at(self, at, buffer):
            return 0

    check.eq(returning(Source()).ask().code, coap.INTERNAL_SERVER_ERROR)


def test_response_when_its_options_make_it_too_large_then_5_00():
    """RFC 7252 section 4.6: 4 bytes of header, 2 of token, 9 of the ETag, the marker and the payload are 64."""

    def handler(request, response):
        response.opt.etag = b"12345678"
        return payload_len * b"x"

    payload_len = 48
    served = Served(handler, datagram_len=64)
    check.eq(served.ask().code, coap.CONTENT)
    payload_len = 49
    check.eq(served.ask().code, coap.INTERNAL_SERVER_ERROR)


def test_response_when_too_large_and_5_00_is_unwanted_then_nothing():
    """RFC 7967 section 2.1: No-Response 16 holds for the 5.00 that goes in the place of what does not fit, too."""
    served = returning(b"x" * 60, datagram_len=64)
    check.eq(summary(served.ask(no_response=16)), (coap.ACK, 0, 1, b"", b""))
    check.eq(served.ask(mtype=coap.NON, no_response=16), None)
    check.eq(served.ask(no_response=2).code, coap.INTERNAL_SERVER_ERROR)
    check.eq(len(served.log), 3)


def test_later_and_no_response_when_the_response_was_filled_too_long_then_nobody_is_told():
    """RFC 7252 section 5.2.2, RFC 7967 section 2: what was filled in does not go out, so it is not too long."""
    results = [coap.LATER, coap.NO_RESPONSE]

    def fill(request, response):
        response.payload = b"x" * 100
        return results[0]

    while results:
        served = Served(fill, datagram_len=64)
        check.eq(summary(served.ask()), (coap.ACK, 0, 1, b"", b""), results.pop(0))
        check.eq(served.log, [])


def test_request_when_too_large_then_4_13():
    """RFC 7252 section 5.9.2.9: CON and NON; the handler is not called; a response is ignored."""
    served = returning("x", datagram_len=64)
    check.eq(len(packet(coap.POST, 1, payload=b"x" * 57)), 64)
    check.eq(served.ask(coap.POST, uri_path=(), payload=b"x" * 57).code, coap.NOT_FOUND)
    for mtype, reply_type in ((coap.CON, coap.ACK), (coap.NON, coap.NON)):
        reply = served.ask(coap.POST, mtype, payload=b"x" * 57)
        check.eq((reply.mtype, reply.code, reply.token), (reply_type, coap.REQUEST_ENTITY_TOO_LARGE, b"tk"))
        check.eq(served.ask(coap.POST, mtype, payload=b"x" * reply.opt.size1).code, coap.CREATED)
    for mtype in (coap.NON, coap.ACK):
        check.eq(served.ask(coap.CONTENT, mtype, payload=b"x" * 57), None)


def test_request_when_too_large_then_the_reply_to_the_one_before_stays():
    """RFC 7252 section 4.5: a duplicate of that gets the same bytes; a GET's with ID 16 lie in the first slot."""
    for method, mid in ((coap.PUT, 7), (coap.GET, 16)):
        served = returning("x", datagram_len=64)
        request = packet(method, mid, uri_path=("r",))
        first = bytes(served.engine.receive(request, PEER, 0))
        served.ask(coap.PUT, payload=b"x" * 57)
        check.eq(bytes(served.engine.receive(request, PEER, 0)), first)


def test_request_when_too_large_and_cut_within_an_option_then_4_13():
    """RFC 7252 section 5.9.2.9: the endpoint reads datagram_len + 1 bytes, so an option may seem to be malformed."""
    served = returning("x", datagram_len=64)
    request = packet(coap.POST, 16, uri_path=("r", "x" * 200))[:65]
    reply = ask(served.engine, request)
    check.eq((reply.mtype, reply.code, reply.token), (coap.ACK, coap.REQUEST_ENTITY_TOO_LARGE, b"tk"))


def test_empty_message_when_too_large_then_a_reset():
    """RFC 7252 section 4.1: with bytes behind its message ID it is malformed; and 4.13 answers requests only."""
    served = returning("x", datagram_len=64)
    ping = fake.empty(coap.CON, 4660)
    check.eq(bytes(served.engine.receive(ping + bytes(61), PEER, 0)), fake.empty(coap.RST, 4660))


# ---- Content-Format and Accept ----


def formats(ct, **fields):
    """(code, Content-Format) of the answer from a resource with `ct`."""
    reply = returning("x", ct=ct).ask(**fields)
    return reply.code, reply.opt.content_format


def test_content_format_when_the_resource_has_one_then_it_labels_the_payload():
    """RFC 7252 section 5.5.1: ct, the first of several, or what Accept chose."""
    check.eq(formats(None), (coap.CONTENT, None))
    check.eq(formats(coap.TEXT), (coap.CONTENT, 0))
    check.eq(formats(coap.CBOR), (coap.CONTENT, 60))
    check.eq(formats(11542), (coap.CONTENT, 11542))
    check.eq(formats((coap.JSON, coap.CBOR)), (coap.CONTENT, 50))
    check.eq(formats((coap.JSON, coap.CBOR), accept=60), (coap.CONTENT, 60))
    check.eq(formats((coap.JSON, coap.TEXT), accept=0), (coap.CONTENT, 0))
    check.eq(formats(None, accept=60), (coap.CONTENT, None))


def test_accept_when_it_cannot_be_met_then_4_06():
    """RFC 7252 section 5.10.4: the handler is not called."""
    check.eq(formats(coap.TEXT, accept=50), (coap.NOT_ACCEPTABLE, None))
    check.eq(formats((coap.JSON, coap.CBOR), accept=0), (coap.NOT_ACCEPTABLE, None))
    served = Served(lambda request, response: 1 // 0, ct=coap.TEXT)
    check.eq((served.ask(coap.PUT, accept=50).code, served.log), (coap.NOT_ACCEPTABLE, []))


def test_content_format_when_there_is_no_payload_or_an_error_then_none():
    """RFC 7252 section 5.5.2: a diagnostic payload has no Content-Format."""
    for result in (None, "", coap.NOT_FOUND, (coap.NOT_FOUND, "gone"), coap.VALID):
        check.eq(returning(result, ct=coap.JSON).ask().opt.content_format, None)


def test_content_format_when_the_payload_is_of_a_post_or_put_then_it_is_labelled():
    """RFC 7252 section 5.5.1: the representation in a 2.01 or 2.04 has a format, too."""
    served = returning("x", ct=coap.JSON)
    for method in (coap.GET, coap.POST, coap.PUT, coap.DELETE, coap.FETCH):
        check.eq(served.ask(method).opt.content_format, coap.JSON)


def test_content_format_when_the_handler_gave_one_then_it_stays():
    """RFC 7252 section 5.10.3: with and without Accept, beside options around it."""

    def handler(request, response):
        response.opt.content_format = coap.CBOR
        response.opt.max_age = 3
        return "x"

    served = Served(handler, ct=(coap.JSON, coap.CBOR))
    check.eq(served.ask().options, ((12, 60), (14, 3)))
    check.eq(served.ask(accept=50).options, ((12, 60), (14, 3)))


def test_content_format_when_the_resource_has_several_and_the_handler_other_options_then_the_first():
    """RFC 7252 section 5.10.3: without Accept, whether there are other options or not."""

    def handler(request, response):
        response.opt.max_age = 5
        return "x"

    check.eq(Served(handler, ct=(coap.JSON, coap.CBOR)).ask().opt.content_format, coap.JSON)


def test_content_format_when_the_handler_added_other_options_then_it_is_put_in_order():
    """RFC 7252 section 3.1: an option before and one behind."""

    def handler(request, response):
        response.opt.etag = b"e"
        response.opt.max_age = 3
        return "x"

    check.eq(Served(handler, ct=coap.JSON).ask().options, ((4, b"e"), (12, 50), (14, 3)))


# ---- LATER ----


class Later:
    """A served resource that promises its responses; `copies` are these."""

    def __init__(self, **tables):
        self.copies = []
        self.served = Served(self.handler, tuning=fake.EXACT, **tables)
        self.engine = self.served.engine

    def handler(self, request, response):
        self.copies.append(response.copy())
        return coap.LATER


def test_later_when_returned_then_empty_ack_and_the_copy_knows_where_to():
    """RFC 7252 section 5.2.2: remote, token and preset code; other requests do not change it."""
    later = Later()
    check.eq(summary(later.served.ask(token=b"first")), (coap.ACK, 0, 1, b"", b""))
    check.eq(later.served.ask(coap.PUT, coap.NON, token=b"second"), None)
    check.eq([copy.token for copy in later.copies], [b"first", b"second"])
    check.eq([copy.remote for copy in later.copies], [PEER, PEER])
    check.eq([copy.code for copy in later.copies], [coap.CONTENT, coap.CHANGED])
    check.eq([copy.request for copy in later.copies], [None, None])  # that is another by now


def test_later_when_sent_then_it_is_of_the_requests_type():
    """RFC 7252 section 5.2.2 and 5.2.3: CON to a CON, NON to a NON; filled in afterwards."""
    for mtype in (coap.CON, coap.NON):
        later = Later()
        later.served.ask(mtype=mtype, token=b"abc")
        copy = later.copies[0]
        copy.payload = "done"
        copy.opt.max_age = 9
        record = later.engine.send(copy)
        reply = coap.Message.decode(due(later.engine, 5)[0])
        check.eq((later.engine.peer, summary(reply)), (PEER, (mtype, coap.CONTENT, record.mid, b"abc", b"done")))
        check.eq(reply.opt.max_age, 9)
        check.eq(record.is_done(), mtype == coap.NON)


def test_later_when_the_type_is_left_open_then_it_is_con():
    """RFC 7252 section 5.2.2: as of every message to one peer."""
    later = Later()
    later.served.ask()
    later.engine.send(later.copies[0].copy(mtype=None))
    check.eq(fake.head(due(later.engine, 5)[0])[:2], (coap.CON, coap.CONTENT))


def test_later_when_sent_twice_then_value_error():
    """RFC 7252 section 5.2.2: one response to a request; nothing is queued by the second."""
    later = Later()
    later.served.ask()
    later.engine.send(later.copies[0]).cancel()
    check.raises(ValueError, later.engine.send, later.copies[0], contains="awaits")
    check.eq(due(later.engine, 1), [])


def test_later_when_nothing_was_promised_then_value_error():
    """RFC 7252 section 5.3.2: a copy of a response that went, another token, another peer."""
    copies = []
    served = Served(lambda request, response: copies.append(response.copy()))
    served.ask()
    check.raises(ValueError, served.engine.send, copies[0])
    later = Later()
    later.served.ask()
    check.raises(ValueError, later.engine.send, later.copies[0].copy(token=b"other"))
    check.raises(ValueError, later.engine.send, later.copies[0].copy(remote=("192.0.2.9", 5683)))
    later.engine.send(later.copies[0])


def test_later_when_its_time_is_over_then_value_error():
    """RFC 7252 section 4.8.2: the peer has given up after EXCHANGE_LIFETIME."""
    for mtype, life_ms in ((coap.CON, 232000), (coap.NON, 130000)):
        later = Later()
        later.served.ask(mtype=mtype)
        run(later.engine, 1, life_ms)
        later.engine.send(later.copies[0].copy(), None).cancel()
        later = Later()
        later.served.ask(mtype=mtype)
        run(later.engine, 1, life_ms + 1)
        check.raises(ValueError, later.engine.send, later.copies[0])


def test_later_when_the_table_is_full_then_5_03():
    """RFC 7252 section 5.9.3.4: with Max-Age; a sent one makes room."""
    later = Later(pending=2)
    check.eq([later.served.ask().code for _ in range(2)], [0, 0])
    for mtype, reply_type in ((coap.CON, coap.ACK), (coap.NON, coap.NON)):
        reply = later.served.ask(mtype=mtype)
        check.eq((reply.mtype, reply.code, reply.opt.max_age), (reply_type, coap.SERVICE_UNAVAILABLE, 60))
    later.engine.send(later.copies[0])
    check.eq(later.served.ask().code, 0)


def test_later_when_the_queue_is_full_then_the_promise_stays():
    """RFC 7252 section 5.2.2: after Full the response can be sent again."""
    later = Later(queued=1)
    later.served.ask()
    blocking = later.engine.send(coap.Message(coap.GET), ("192.0.2.9", 1))
    check.raises(coap.Full, later.engine.send, later.copies[0])
    blocking.cancel()
    later.engine.send(later.copies[0])


def test_later_when_it_is_too_large_then_the_promise_stays():
    """RFC 7252 section 5.2.2: after ValueError a shorter one can be sent."""
    later = Later(datagram_len=64)
    later.served.ask()
    copy = later.copies[0]
    copy.payload = b"x" * 64
    check.raises(ValueError, later.engine.send, copy, contains="datagram_len")
    copy.payload = b"x"
    later.engine.send(copy)


# ---- request and response objects ----


def test_response_when_used_again_then_nothing_is_left_of_the_last():
    """RFC 7252 section 5.2: code, options and payload are those of this exchange."""

    def handler(request, response):
        if request.payload:
            response.code = coap.NOT_FOUND
            response.opt.etag = b"1"
            response.opt.location_path = ("a", "b")
            response.payload = b"full"

    served = Served(handler)
    check.eq(len(served.ask(payload=b"x").options), 3)
    reply = served.ask()
    check.eq((reply.code, reply.options, reply.payload), (coap.CONTENT, (), b""))


def test_request_when_copied_then_it_survives_the_next():
    """RFC 7252 section 5.1: the objects are used again, a copy is the handler's."""
    requests = []
    copies = []

    def handler(request, response):
        requests.append(request)
        copies.append((request.copy(), response.copy(payload="kept")))

    served = Served(handler)
    served.ask(coap.PUT, token=b"one", payload=b"first", uri_query=("a=1",))
    served.ask(coap.POST, token=b"two", payload=b"second")
    check.eq(requests[0] is requests[1], True)
    request, response = copies[0]
    check.eq((request.code, request.token, request.payload), (coap.PUT, b"one", b"first"))
    check.eq((request.opt.uri_path, request.opt.uri_query, request.remote), (("r",), ("a=1",), PEER))
    check.eq((response.token, response.payload, response.remote), (b"one", b"kept", PEER))


def test_handler_when_it_sends_then_the_message_goes_after_the_reply():
    """RFC 7252 section 5.2: a server that is a client; neither disturbs the other."""
    records = []

    def handler(request, response):
        message = coap.Message(coap.POST, uri_path=("other",), payload=b"out")
        records.append(served.engine.send(message, ("192.0.2.9", 1)))
        return "answer"

    served = Served(handler)
    check.eq(served.ask().payload, b"answer")
    sent = coap.Message.decode(due(served.engine, 2)[0])
    check.eq((sent.payload, served.engine.peer, records[0].mid), (b"out", ("192.0.2.9", 1), sent.mid))


def test_handler_when_it_waits_then_runtime_error():
    """RFC 7252 section 5.2: process and request inside a handler; afterwards they work again."""
    errors = []
    transport = fake.Transport((packet(coap.GET, 1, uri_path=("r",)), PEER))
    endpoint = coap.Endpoint(sock=transport)

    @endpoint.resource("r")
    def handler(request, response):
        for function, arguments in ((endpoint.process, (0,)), (endpoint.get, ("coap://192.0.2.9/x",))):
            errors.append(check.raises(RuntimeError, function, *arguments, contains="LATER"))
        return "ok"

    check.eq(endpoint.process(0), None)
    check.eq((len(errors), transport.sent), (2, [(packet(coap.CONTENT, 1, coap.ACK, payload=b"ok"), PEER)]))
    check.eq(endpoint.process(0), None)


# ---- methods and routing ----


def test_method_when_it_has_no_handler_then_4_05():
    """RFC 7252 section 5.9.2.6: GET, PUT, POST, DELETE have decorators, `on` has the rest."""
    engine = fake.engine()
    resource = engine.resource("r")
    setters = resource.get, resource.post, resource.put, resource.delete
    for method in range(1, 8):
        check.eq(ask(engine, packet(method, method, uri_path=("r",))).code, coap.METHOD_NOT_ALLOWED)
    for method in range(1, 8):
        setter = setters[method - 1] if method < 5 else resource.on(method)
        setter(lambda request, response, method=method: "%d" % method)
    for method in range(1, 8):
        reply = ask(engine, packet(method, 100 + method, uri_path=("r",)))
        check.eq((reply.payload, reply.code < 128), (b"%d" % method, True))


def test_method_when_a_handler_serves_all_then_its_own_comes_first():
    """RFC 7252 section 5.8: the resource as decorator."""
    served = returning("any")
    check.eq(served.resource.get(len), len)
    served.resource.get(lambda request, response: "get")
    check.eq([served.ask(method).payload for method in (1, 2, 5)], [b"get", b"any", b"any"])


def test_method_when_unknown_then_4_05():
    """RFC 7252 section 5.8: codes 0.08 to 0.31, with a handler for all methods too."""
    served = returning("x")
    for method in range(8, 32):
        for mtype, reply_type in ((coap.CON, coap.ACK), (coap.NON, coap.NON)):
            reply = served.ask(method, mtype)
            check.eq((reply.mtype, reply.code), (reply_type, coap.METHOD_NOT_ALLOWED))
        request = packet(method, 100 + method, uri_path=("nowhere",))
        check.eq(ask(served.engine, request).code, coap.METHOD_NOT_ALLOWED)


def routed(engine, *path):
    """The payload or the code that answers a GET of `path`."""
    reply = ask(engine, packet(coap.GET, 1 + engine.random(1)[0], uri_path=path), 0, ("192.0.2.3", id(path)))
    return str(reply.payload, "utf-8") if reply.code == coap.CONTENT else reply.code


def serve_paths(*paths):
    engine = fake.engine()
    for path in paths:
        engine.resource(path).get(lambda request, response, path=path: "at " + path)
    return engine


def test_route_when_paths_look_alike_then_each_is_found():
    """RFC 7252 section 6.5: equal lengths and ends, prefixes, case, bytes that look like a header."""
    paths = ["abcd", "acbd", "aXXd", "abc", "abcde", "ABCD", "a", "b", "a/b", "a\x01b", "a/b/c", "a/b\x01c"]
    paths += ["a\x01b/c", "a\x01b\x01c", "sensors/temp", "sensors/tamp", "sensor/stemp", "x/y/z", "x/z/z", "\u00e9"]
    engine = serve_paths(*paths)
    for path in paths:
        check.eq(routed(engine, *path.split("/")), "at " + path)
    for path in (("ab",), ("abd",), ("c", "b"), ("a", "b", "c", "d"), ("a/b",), ("A", "b"), ("x", "y"), ("x",)):
        check.eq(routed(engine, *path), coap.NOT_FOUND)


def test_route_when_a_segment_is_empty_then_it_counts():
    """RFC 7252 section 6.5: a/, //a and a//b are paths of their own."""
    paths = "a", "a/", "//a", "a//b", "a/b", "a/b/", "///a", "//"
    engine = serve_paths(*paths)
    for path in paths:
        check.eq(routed(engine, *(path[1:] if path[0] == "/" else path).split("/")), "at " + path)
    check.eq(routed(engine, "a", "", ""), coap.NOT_FOUND)
    check.eq(routed(engine, "", "", "", "a"), coap.NOT_FOUND)


def test_route_when_a_slash_is_before_the_path_then_it_makes_no_difference():
    """RFC 7252 section 6.4: coap://host/a has one segment, and with "/a" whoever writes it means just that."""
    paths = "/a", "/a/b", "/<name>", "/c/<name>"
    engine = serve_paths(*paths)
    for path, asked in zip(paths, (("a",), ("a", "b"), ("x",), ("c", "d"))):
        check.eq(routed(engine, *asked), "at " + path)
    check.eq(engine.resources[1].link, "</a>")
    check.raises(ValueError, engine.resource, "a", contains="served")
    check.eq(routed(serve_paths("/"), *()), "at /")
    core = fake.engine().resource("/.well-known/core")  # the application's own, not one beside ours
    check.eq(core.link, "</.well-known/core>")


def test_route_when_it_is_the_root_then_no_path_finds_it():
    """RFC 7252 section 6.5: coap://host and coap://host/ have no Uri-Path."""
    check.eq(routed(serve_paths("a")), coap.NOT_FOUND)
    engine = serve_paths("", "a")
    check.eq((routed(engine), routed(engine, "a")), ("at ", "at a"))
    check.eq(routed(engine, ""), "at ")  # one empty Uri-Path is coap://host/, too


def serve_300(asked):
    """An engine with the resources r/000/x to r/299/x, of which the `asked` tell their number."""
    engine = fake.engine()

    def other(request, response):
        return "another"

    for n in range(300):
        handler = (lambda request, response, n=n: "%d" % n) if n in asked else other
        engine.resource("r/%03d/x" % n).get(handler)
    return engine


def test_route_when_there_are_300_then_each_is_found():
    """RFC 7252 section 6.5: many with the same length, first and last letters."""
    asked = 0, 1, 99, 100, 150, 298, 299
    try:
        engine = serve_300(asked)
    except MemoryError:
        raise check.Skip("300 resources need 100 KB")
    for n in asked:
        check.eq(routed(engine, "r", "%03d" % n, "x"), "%d" % n)
    check.eq(routed(engine, "r", "300", "x"), coap.NOT_FOUND)


def test_route_when_a_segment_is_long_then_it_is_found():
    """RFC 7252 section 3.1: lengths around those where the header grows, first and later segments."""
    lengths = 12, 13, 14, 254, 255
    paths = ["s" * n for n in lengths] + ["a/" + "s" * n for n in lengths] + ["s" * n + "/a" for n in lengths]
    engine = serve_paths(*paths)
    for path in paths:
        check.eq(routed(engine, *path.split("/")), "at " + path)
    check.eq(routed(engine, "s" * 253), coap.NOT_FOUND)


def test_route_when_other_options_are_around_then_it_is_found():
    """RFC 7252 section 5.10: Uri-Host, Uri-Port and Content-Format, Uri-Query, extended headers behind."""
    engine = serve_paths("a/b")
    request = coap.Message(coap.GET, mtype=coap.CON, mid=5, uri_host="h", uri_port=1, uri_path=("a", "b"))
    request.opt.uri_query = ("q" * 100, "r")
    request.opt.content_format = 0
    check.eq(ask(engine, request.encode()).payload, b"at a/b")


# ---- discovery ----


def discover(engine, *queries, **fields):
    """The links that /.well-known/core lists."""
    request = packet(coap.GET, engine.random(1)[0], uri_path=(".well-known", "core"), uri_query=queries)
    reply = ask(engine, request, 0, ("192.0.2.3", id(queries)), **fields)
    return reply and str(reply.payload, "utf-8")


def catalogue():
    engine = fake.engine()
    engine.resource("sensors/temp", rt="temperature", if_="sensor", ct=coap.TEXT)
    engine.resource("sensors/hum", rt="humidity core.s", if_="sensor", ct=(coap.TEXT, coap.JSON))
    engine.resource("led", rt="light", if_="actuator", obs=True)
    engine.resource("info", title="What it is", sz=120)
    return engine


def paths_of(links):
    return [link[1 : link.index(">")] for link in links.split(",")] if links else []


def test_discovery_when_asked_then_links_in_the_order_of_registration():
    """RFC 6690 section 2: and Content-Format 40; not the catalogue itself."""
    engine = serve_paths("z", "a", "m/n", "")
    check.eq(discover(engine), "</z>,</a>,</m/n>,</>")
    reply = ask(engine, packet(coap.GET, 1, uri_path=(".well-known", "core")))
    check.eq((reply.code, reply.opt.content_format), (coap.CONTENT, 40))
    check.eq(ask(engine, packet(coap.POST, 2, uri_path=(".well-known", "core"))).code, coap.METHOD_NOT_ALLOWED)


def test_discovery_when_there_are_attributes_then_each_in_its_form():
    """RFC 6690 section 2: quoted text, numbers, flags, lists."""
    engine = fake.engine()
    engine.resource("a", ct=coap.TEXT, rt="x y", if_="i", sz=12, obs=True, title="T, t; t")
    engine.resource("b", ct=(coap.TEXT, coap.JSON), rt=("one", "two"))
    engine.resource("c d/\u00e9/;,>")
    first, rest = discover(engine).split(",</b>")
    attributes = first.split(";", 1)[1]
    for attribute in ("ct=0", 'rt="x y"', 'if="i"', "sz=12", "obs", 'title="T, t; t"'):
        check.eq(";" + attribute in ";" + attributes, True, attribute)
    check.eq(first.startswith("</a>;"), True)
    link, path = rest.split(",", 1)
    check.eq(sorted(link.split(";")), sorted(["", 'ct="0 50"', 'rt="one two"']))
    check.eq(path, "</c%20d/%C3%A9/%3B,%3E>".replace("%3B", ";"))


def test_discovery_when_filtered_then_what_matches():
    """RFC 6690 section 4.1: values, one of a list, prefixes, href, flags, several filters at once."""
    engine = catalogue()
    temp, hum, led, info = "/sensors/temp", "/sensors/hum", "/led", "/info"
    for queries, expected in (
        (("rt=temperature",), [temp]),
        (("rt=core.s",), [hum]),
        (("rt=humidity",), [hum]),
        (("rt=humidity core.s",), [hum]),
        (("rt=temp",), []),
        (("rt=temp*",), [temp]),
        (("rt=core*",), [hum]),
        (("rt=*",), [temp, hum, led]),
        (("if=sensor",), [temp, hum]),
        (("if=sensor", "rt=temp*"), [temp]),
        (("if=sensor", "rt=light"), []),
        (("href=/sensors/*",), [temp, hum]),
        (("href=/led",), [led]),
        (("href=/le",), []),
        (("href=led",), []),
        (("ct=50",), [hum]),
        (("ct=0",), [temp, hum]),
        (("ct=5*",), [hum]),
        (("sz=120",), [info]),
        (("sz=12",), []),
        (("title=What it is",), [info]),
        (("title=What*",), [info]),
        (("r=temperature",), []),
        (("t=*",), []),
        (("nosuch=*",), []),
    ):
        check.eq(paths_of(discover(engine, *queries)), expected, queries)


def test_discovery_when_a_value_holds_what_looks_like_an_attribute_then_it_is_none():
    """RFC 6690 section 2: a semicolon inside quotes separates nothing."""
    engine = fake.engine()
    engine.resource("a", title="x;rt=y;z", ct=0)
    check.eq(paths_of(discover(engine, "rt=y")), [])
    check.eq(paths_of(discover(engine, "title=x;rt=y;z")), ["/a"])


def test_discovery_when_the_filter_is_not_utf_8_then_4_02():
    """RFC 7252 section 5.10.1: a bad value of a critical option."""
    request = packet(coap.GET, 1, uri_path=(".well-known", "core"), uri_query=(b"rt=\xff",))
    check.eq(ask(catalogue(), request).code, coap.BAD_OPTION)


def test_discovery_when_not_all_fit_then_it_ends_with_a_whole_link():
    """RFC 7252 section 4.6: as many as fit into one datagram; a filter brings the others."""
    engine = fake.engine(datagram_len=256)
    for n in range(40):
        engine.resource("resource/%02d" % n, rt="kind%d" % (n % 20))
    links = discover(engine)
    count = len(links.split(","))
    expected = ['</resource/%02d>;rt="kind%d"' % (n, n % 20) for n in range(count)]
    check.eq(links, ",".join(expected))
    check.eq(256 - 32 - 28 < len(links) <= 256 - 4 - 2 - 2 - 1, True, len(links))
    check.eq(paths_of(discover(engine, "rt=kind19")), ["/resource/19", "/resource/39"])


# ---- groups ----


def test_group_when_a_request_is_served_then_a_non_answers():
    """RFC 7252 section 8.2: NON only; a CON is ignored and not executed."""
    calls = []
    served = Served(lambda request, response: calls.append(1))
    check.eq(served.ask(is_multicast=True), None)
    check.eq(calls, [])
    check.eq(served.ask(mtype=coap.NON, is_multicast=True), None)
    check.eq(calls, [1])


def test_group_when_it_would_be_an_error_then_silence():
    """RFC 7252 section 8.2: no 4.xx and 5.xx, no Reset, neither to what is malformed nor to a ping."""
    served = Served(lambda request, response: 1 // 0, ct=coap.TEXT, datagram_len=200)
    for method, fields in (
        (coap.GET, {}),
        (coap.GET, {"uri_path": ("nosuch",)}),
        (coap.GET, {"accept": 50}),
        (8, {}),
        (coap.GET, {"proxy_uri": "coap://h/"}),
        (coap.PUT, {"payload": b"x" * 200}),
        (coap.CONTENT, {}),
    ):
        check.eq(served.ask(method, coap.NON, True, **fields), None, fields)
    critical = coap.Message.decode(packet(coap.GET, 50, coap.NON, uri_path=("r",))).add_option(2049, b"").encode()
    malformed = packet(coap.GET, 51, coap.NON) + b"\xff"
    for datagram in (critical, malformed, packet(coap.GET, 52) + b"\xff", empty(coap.CON, 53), b"", b"@"):
        check.eq(served.engine.receive(datagram, PEER, 9, True), None)


def test_group_when_the_response_follows_then_it_is_non():
    """RFC 7252 section 8.2: LATER works for a group's request."""
    later = Later()
    check.eq(later.served.ask(mtype=coap.NON, is_multicast=True), None)
    later.engine.send(later.copies[0])
    check.eq(fake.head(due(later.engine, 5)[0])[:2], (coap.NON, coap.CONTENT))


# ---- requests for the application ----


def application(method=coap.GET, mtype=coap.CON, **tables):
    """(engine, record) of an engine without resources that received a request with message ID 4660."""
    engine = fake.engine(tuning=fake.EXACT, **tables)
    request = packet(method, 4660, mtype, uri_path=("a",), payload=b"in")
    check.eq(engine.receive(request, PEER, 0), None)
    return engine, engine.received


def test_application_when_a_request_comes_then_it_is_in_received():
    """RFC 7252 section 5.2: any method; the record's fields."""
    for method in (coap.GET, coap.POST, coap.IPATCH):
        engine, record = application(method)
        check.eq((record.mid, record.remote, record.pertains_to), (4660, PEER, None))
        check.eq((record.is_acknowledged, record.has_responded), (False, False))
        check.eq((record.message.code, record.message.token, record.message.payload), (method, b"tk", b"in"))
        check.eq((record.message.opt.uri_path, record.endpoint is engine), (("a",), True))
        check.eq((record.message.remote, due(engine, 0)), (PEER, []))


def test_application_when_it_responds_at_once_then_piggybacked():
    """RFC 7252 section 5.2.1: in the ACK of a CON; with options; a message or its parts."""
    for arguments in ((coap.CONTENT, "out"), (coap.Message(coap.CONTENT, payload="out", max_age=1),)):
        engine, record = application()
        record.respond(*arguments, **({"max_age": 1} if len(arguments) > 1 else {}))
        check.eq((engine.next_ms(5), engine.next_event_reason), (0, "send"))
        sent = due(engine, 5)
        check.eq(sent, [packet(coap.CONTENT, 4660, coap.ACK, payload="out", max_age=1)])
        check.eq((engine.peer, record.has_responded), (PEER, True))
        check.raises(ValueError, record.respond, contains="answered")
        check.raises(ValueError, record.ack)


def test_application_when_its_response_is_none_or_too_long_then_valueerror_and_it_can_respond_again():
    """RFC 7252 section 5.2: a response has a response's code; nothing is sent that the peer cannot take."""
    for mtype in coap.CON, coap.NON:
        engine, record = application(mtype=mtype)
        for wrong in (coap.GET, 0, 192, coap.Message(), coap.Message(coap.CONTENT, payload=bytes(3000))):
            check.raises(ValueError, record.respond, wrong)
        check.eq((due(engine, 5), record.has_responded), ([], False))
        record.respond(coap.CONTENT, "out")
        check.eq(len(due(engine, 5)), 1)


def test_application_when_the_request_was_non_then_the_response_is_non():
    """RFC 7252 section 5.2.3: with a message ID of its own; there is nothing to acknowledge."""
    engine, record = application(mtype=coap.NON)
    check.raises(ValueError, record.ack)
    record.respond(coap.CHANGED)
    mtype, code, mid = fake.head(due(engine, 5)[0])
    check.eq((mtype, code, mid != 4660), (coap.NON, coap.CHANGED, True))
    check.eq(run(engine, 5, 100000), [])


def test_application_when_it_acknowledges_first_then_the_response_is_separate():
    """RFC 7252 section 5.2.2: a CON of its own, repeated until acknowledged."""
    engine, record = application()
    record.ack()
    engine.acknowledge()  # once is enough
    check.eq((record.is_acknowledged, due(engine, 1)), (True, [empty(coap.ACK, 4660)]))
    check.raises(ValueError, record.ack)
    record.respond(payload="late")
    sent = run(engine, 10, 3000)
    mtype, code, mid = fake.head(sent[0][1])
    check.eq((mtype, code, mid != 4660), (coap.CON, coap.CONTENT, True))
    check.eq((len(sent), sent[0][1], sent[0][1][4:6]), (2, sent[1][1], b"tk"))
    engine.receive(empty(coap.ACK, mid), PEER, 3000)
    check.eq(run(engine, 3000, 100000), [])


def test_application_when_it_acknowledges_first_and_no_response_is_wanted_then_nothing_follows():
    """RFC 7967 section 2.1."""
    engine = fake.engine()
    engine.receive(packet(coap.GET, 4660, no_response=2), PEER, 0)
    engine.received.ack()
    engine.received.respond(payload="late")
    check.eq(run(engine, 1, 100000), [(1, empty(coap.ACK, 4660))])


def test_application_when_ack_takes_a_response_then_it_is_piggybacked():
    """RFC 7252 section 5.2.1: ack(message) is respond(message)."""
    engine, record = application()
    record.ack(coap.Message(coap.CHANGED))
    check.eq(due(engine, 1), [packet(coap.CHANGED, 4660, coap.ACK)])


def test_application_when_it_resets_then_reset_and_again_to_a_duplicate():
    """RFC 7252 section 4.2: the message makes no sense."""
    engine, record = application(coap.POST)
    record.reset()
    check.eq(due(engine, 1), [empty(coap.RST, 4660)])
    check.raises(ValueError, record.respond)
    check.eq(bytes(engine.receive(packet(coap.POST, 4660), PEER, 5)), empty(coap.RST, 4660))


def test_application_when_it_ignores_a_con_then_acknowledge_acknowledges():
    """RFC 7252 section 4.2: once; not a NON, not what was answered."""
    engine, record = application()
    engine.acknowledge()
    check.eq((engine.received, record.is_acknowledged), (None, True))
    check.eq(due(engine, 1), [empty(coap.ACK, 4660)])
    engine.acknowledge()
    check.eq(due(engine, 1), [])
    engine, record = application(mtype=coap.NON)
    engine.acknowledge()
    check.eq((due(engine, 1), record.is_acknowledged), ([], False))
    engine, record = application()
    record.respond(coap.CHANGED)
    engine.acknowledge()
    check.eq(due(engine, 1), [packet(coap.CHANGED, 4660, coap.ACK)])


def test_application_when_a_duplicate_comes_then_the_answer_again():
    """RFC 7252 section 4.5: response, long response, empty ACK; no second record; before the answer nothing."""
    for method in (coap.GET, coap.POST):
        for payload in (b"x", b"x" * 100):
            engine, record = application(method)
            if method == coap.POST:
                check.eq(engine.receive(packet(method, 4660), PEER, 1), None)
                check.eq(engine.received, None)
            record.respond(coap.CONTENT, payload)
            sent = due(engine, 2)
            if method == coap.POST or len(payload) < 10:
                check.eq([bytes(engine.receive(packet(method, 4660), PEER, 3))], sent)
                check.eq(engine.received, None)
        engine, record = application(method)
        record.ack()
        due(engine, 2)
        record.respond(coap.CONTENT)
        due(engine, 2)
        check.eq(bytes(engine.receive(packet(method, 4660), PEER, 3)), empty(coap.ACK, 4660))


def test_application_when_it_answers_after_others_then_their_duplicates_do_not_get_that():
    """RFC 7252 section 4.5: another message has its place among the duplicates by then, or it is a NON."""
    for peer, mid in (PEER, 2), (("192.0.2.7", 5683), 1):
        engine = fake.engine(recent=1)
        engine.receive(packet(coap.GET, 1), PEER, 0)
        first = engine.received
        engine.receive(packet(coap.GET, mid), peer, 1)
        first.respond(payload="first")
        check.eq(engine.receive(packet(coap.GET, mid), peer, 2), None)
    engine, record = application(mtype=coap.NON)
    record.respond(payload="once")
    check.eq(engine.receive(packet(coap.GET, 4660, coap.NON), PEER, 1), None)


def test_application_when_the_queue_is_full_then_it_can_respond_again():
    """RFC 7252 section 5.2.2: after Full the request is still unanswered."""
    engine, record = application(queued=1)
    record.ack()
    blocking = engine.send(coap.Message(coap.GET), ("192.0.2.9", 1))
    check.raises(coap.Full, record.respond)
    blocking.cancel()
    record.respond()
    check.eq([datagram[1] for datagram in due(engine, 1)], [0, coap.CONTENT])


def test_application_when_a_critical_option_is_unknown_then_4_02():
    """RFC 7252 section 5.4.1: judged before the application sees it; a NON is reset."""
    for mtype in (coap.CON, coap.NON):
        engine = fake.engine()
        request = coap.Message.decode(packet(coap.POST, 5, mtype)).add_option(2049, b"").encode()
        reply = ask(engine, request)
        check.eq((reply.mtype, reply.code), (coap.ACK, coap.BAD_OPTION) if mtype == coap.CON else (coap.RST, 0))
        check.eq(engine.received, None)


def test_application_when_the_table_is_full_then_5_03():
    """RFC 7252 section 5.9.3.4: the application is not bothered."""
    engine, _ = application(coap.POST, kept=1)
    reply = ask(engine, packet(coap.POST, 7), 1, ("192.0.2.7", 5683))
    check.eq((reply.code, engine.received), (coap.SERVICE_UNAVAILABLE, None))


# ---- a handler that changes its request ----


def test_request_when_its_handler_changes_it_then_the_response_has_its_header():
    """RFC 7252 section 5.3.2: a proxy may rewrite it, to send it on."""

    def rewrite(request):
        request.set_request_uri("coap://h/x")

    def clear(request):
        request.clear()

    def edit(request):
        request.opt.accept = None

    def take_token(request):
        request.token = b""

    for change in (rewrite, clear, edit, take_token):
        served = Served(lambda request, response, change=change: change(request) or "text")
        for mtype, answer in ((coap.CON, coap.ACK), (coap.NON, coap.NON)):
            reply = served.ask(mtype=mtype, accept=0)
            check.eq((reply.mtype, reply.code, reply.token, reply.payload), (answer, coap.CONTENT, b"tk", b"text"))


def test_request_when_its_handler_changes_it_and_promises_then_the_response_is_to_the_original():
    """RFC 7252 section 5.2.2: its token, and whether it wants a response."""
    promised = []

    def promise(request, response):
        promised.append(response.copy())
        request.set_request_uri("coaps://192.0.2.9/x")
        request.token = b""
        request.clear()
        return coap.LATER

    served = Served(promise)
    served.ask()
    promised[0].payload = "done"
    served.engine.send(promised[0])
    check.eq([coap.Message.decode(datagram).token for datagram in due(served.engine, 10)], [b"tk"])


def test_request_when_its_handler_changes_it_then_the_next_has_its_own_scheme():
    """RFC 7252 section 6.5: of coap or coaps, as the endpoint is."""
    uris = []

    def rewrite(request, response):
        uris.append(request.get_request_uri())
        request.set_request_uri("coap://h/x" if served.engine.is_secure else "coaps://h/x")

    for is_secure, uri in (False, "coap://192.0.2.1/r"), (True, "coaps://192.0.2.1:5683/r"):
        served = Served(rewrite)
        served.engine.is_secure = is_secure
        served.ask()
        served.ask()
        check.eq(uris[-1], uri)


def test_request_of_a_group_when_its_handler_changes_it_then_the_answer_goes_to_who_asked():
    """RFC 7252 section 8.2: not to where the handler would send it on."""

    def rewrite(request, response):
        request.set_request_uri("coap://192.0.2.9/x")
        return "text"

    served = Served(rewrite, tuning=coap.Tuning(leisure_ms=0))
    served.ask(mtype=coap.NON, is_multicast=True)
    check.eq((len(due(served.engine, 10)), served.engine.peer), (1, PEER))
