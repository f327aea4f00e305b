"""Resources: methods, paths whose last segment varies, negotiation, preconditions, validation, diagnostics."""

import check
import coap
import fake
from fake import ask, packet

METHODS = coap.GET, coap.POST, coap.PUT, coap.DELETE, coap.FETCH, coap.PATCH, coap.IPATCH


class Client:
    """Asks an engine, each time with another message ID and five minutes later."""

    def __init__(self, engine):
        self.engine = engine
        self.mid = 0
        self.now_ms = 0

    def ask(self, method, *path, mtype=coap.CON, **fields):
        """The reply to a request: a Message, or None."""
        return self.exchange(packet(method, self.mid, mtype, uri_path=path, **fields))

    def exchange(self, datagram):
        self.mid += 1
        self.now_ms = coap.ticks_add(self.now_ms, 300000)
        return ask(self.engine, datagram, self.now_ms)

    def code(self, method, *path, **fields):
        return self.ask(method, *path, **fields).code

    def raw(self, data):
        """The code of the reply to a GET whose options are the bytes `data`."""
        return self.exchange(b"\x40\x01" + bytes((self.mid >> 8, self.mid & 255)) + data).code


def serving(handler=None, path="r", **parameters):
    """A client of an engine with one resource, and the resource."""
    engine = fake.engine()
    resource = engine.resource(path, **parameters)
    if handler:
        resource(handler)
    return Client(engine), resource


def last_segment(request, response):
    """What a prefix resource's handler sees."""
    return "<%s>" % request.opt.uri_path[-1]


# ---- methods ----


def test_method_when_it_is_fetch_patch_or_ipatch_then_the_handler_has_the_payload():
    """RFC 8132 sections 2 and 3: three methods with a payload; 2.05 and 2.04."""
    client, resource = serving()
    for method in (coap.FETCH, coap.PATCH, coap.IPATCH):
        resource.on(method)(lambda request, response, method=method: b"%d:" % method + request.payload)
    for method, code in ((coap.FETCH, coap.CONTENT), (coap.PATCH, coap.CHANGED), (coap.IPATCH, coap.CHANGED)):
        reply = client.ask(method, "r", payload=b"body", content_format=coap.CBOR)
        check.eq((reply.code, reply.payload), (code, b"%d:body" % method))
    for method in (coap.GET, coap.POST, coap.PUT, coap.DELETE):
        check.eq(client.code(method, "r"), coap.METHOD_NOT_ALLOWED)


def test_method_when_it_is_patch_or_ipatch_and_doubled_then_it_runs_once():
    """RFC 7252 section 4.5: what changes state is kept; FETCH, which does not, may run again."""
    for method, expected in ((coap.PATCH, 1), (coap.IPATCH, 1), (coap.FETCH, 2)):
        runs = []
        client, _ = serving(lambda request, response, runs=runs: runs.append(1) or b"x" * 100)
        request = packet(method, 7, uri_path=("r",))
        replies = [bytes(client.engine.receive(request, fake.PEER, 0)) for _ in range(2)]
        check.eq((len(runs), replies[0] == replies[1]), (expected, True), method)


def test_method_when_there_is_no_handler_then_4_05_of_every_kind_of_request():
    """RFC 7252 section 5.9.2.6: CON and NON, plain, with Accept and Content-Format, before 4.06 and 4.15."""
    client, resource = serving(ct=coap.TEXT, takes=coap.TEXT)
    resource.get(lambda request, response: "x")
    for method in METHODS[1:]:
        for fields in ({}, {"mtype": coap.NON}, {"accept": coap.CBOR}, {"content_format": coap.CBOR}):
            check.eq(client.code(method, "r", **fields), coap.METHOD_NOT_ALLOWED, (method, fields))


# ---- prefix resources ----


def prefixed(*paths):
    engine = fake.engine()
    for path in paths:
        engine.resource(path)(last_segment)
    return Client(engine)


def test_prefix_when_one_segment_follows_then_the_handler_reads_it():
    """RFC 7252 section 5.10.1: any name, in any length of header, with other options around."""
    client = prefixed("files/<name>")
    for name in ("a", "b.txt", "<name>", "n" * 12, "n" * 13, "n" * 255, "\u00e9", "..", "a/b", "a\\b", "\0", "x\x01y"):
        reply = client.ask(coap.GET, "files", name, uri_query=("q",))
        check.eq((reply.code, reply.payload), (coap.CONTENT, ("<%s>" % name).encode()), repr(name))
    request = coap.Message(coap.PUT, mtype=coap.CON, mid=9999, uri_host="h", uri_path=("files", "x"), content_format=0)
    check.eq(ask(client.engine, request.encode()).payload, b"<x>")


def test_prefix_when_the_depth_differs_then_4_04():
    """RFC 7252 section 5.9.2.5: the prefix alone, deeper paths, another prefix of the same length or beginning."""
    client = prefixed("files/<name>", "a/b/<name>")
    for path in (
        (),
        ("files",),
        ("files", "a", "b"),
        ("files", "a", ""),
        ("files", "", ""),
        ("filex", "a"),
        ("file", "sa"),
        ("filesa",),
        ("Files", "a"),
        ("", "files", "a"),
        ("x", "files", "a"),
        ("a", "b"),
        ("a", "c", "x"),
        ("a", "b", "x", "y"),
    ):
        check.eq(client.code(coap.GET, *path), coap.NOT_FOUND, path)
    check.eq(client.ask(coap.GET, "a", "b", "x").payload, b"<x>")


def test_prefix_when_the_last_segment_is_empty_then_the_name_is_empty():
    """RFC 7252 section 6.4: "files/" has a second, empty segment; the handler decides what that is."""
    client = prefixed("files/<name>")
    check.eq(client.ask(coap.GET, "files", "").payload, b"<>")


def test_prefix_when_a_path_is_served_itself_then_it_comes_first():
    """RFC 7252 section 5.10.1: in either order of registration, also for what is registered later."""
    for paths in (("files/<name>", "files/index"), ("files/index", "files/<name>")):
        engine = fake.engine()
        for path in paths:
            engine.resource(path)(lambda request, response, path=path: path)
        client = Client(engine)
        check.eq(client.ask(coap.GET, "files", "index").payload, b"files/index")
        check.eq(client.ask(coap.GET, "files", "indey").payload, b"files/<name>")


def test_prefix_when_it_is_at_the_root_then_each_path_of_one_segment():
    """RFC 7252 section 6.4: "<name>"; no path, two segments and /.well-known/core are others."""
    client = prefixed("<name>")
    check.eq(client.ask(coap.GET, "abc").payload, b"<abc>")
    check.eq(client.code(coap.GET), coap.NOT_FOUND)
    check.eq(client.code(coap.GET, "a", "b"), coap.NOT_FOUND)
    check.eq(client.code(coap.GET, "", "a"), coap.NOT_FOUND)
    client.engine.resource("abc")(lambda request, response: "itself")
    check.eq(client.ask(coap.GET, "abc").payload, b"itself")
    check.eq(client.ask(coap.GET, ".well-known", "core").payload, b"</abc>")


def test_prefix_when_the_bytes_are_alike_then_the_segments_tell():
    """RFC 7252 section 3.1: "a\\x01b" looks like "a", "b" but for the first segment's length."""
    client = prefixed("a/b/<name>", "c\x01d/<name>")
    check.eq(client.ask(coap.GET, "a", "b", "x").payload, b"<x>")
    check.eq(client.code(coap.GET, "a\x01b", "x"), coap.NOT_FOUND)
    check.eq(client.code(coap.GET, "a", "b\x01x"), coap.NOT_FOUND)
    check.eq(client.code(coap.GET, "a\x01b\x01x"), coap.NOT_FOUND)
    check.eq(client.ask(coap.GET, "c\x01d", "x").payload, b"<x>")
    check.eq(client.code(coap.GET, "c", "d", "x"), coap.NOT_FOUND)
    client.engine.resource("c/d/<name>")(lambda request, response: b"another")
    check.eq(client.ask(coap.GET, "c", "d", "x").payload, b"another")


def test_prefix_when_there_is_no_path_then_4_04():
    """RFC 7252 section 6.5: of the very first request, too."""
    client, _ = serving(last_segment, "<name>")
    check.eq(client.code(coap.GET), coap.NOT_FOUND)


def test_prefix_when_two_match_then_the_longer_one_does():
    """RFC 7252 section 5.10.1: each depth has its own resource."""
    client = prefixed("<name>", "a/<name>", "a/b/<name>")
    client.engine.resource("a/b/c/<name>").get(lambda request, response: "deep")
    for path, payload in ((("a",), b"<a>"), (("a", "b"), b"<b>"), (("a", "b", "c"), b"<c>")):
        check.eq(client.ask(coap.GET, *path).payload, payload)
    check.eq(client.ask(coap.GET, "a", "b", "c", "d").payload, b"deep")


def test_prefix_when_the_method_or_format_is_not_served_then_it_is_refused_as_elsewhere():
    """RFC 7252 section 5.9.2: 4.05, 4.06, 4.15."""
    client, resource = serving(path="files/<name>", ct=coap.TEXT, takes=coap.TEXT)
    resource.put(last_segment)
    check.eq(client.code(coap.GET, "files", "a"), coap.METHOD_NOT_ALLOWED)
    check.eq(client.code(coap.PUT, "files", "a", accept=coap.CBOR), coap.NOT_ACCEPTABLE)
    check.eq(client.code(coap.PUT, "files", "a", content_format=coap.CBOR), coap.UNSUPPORTED_CONTENT_FORMAT)
    check.eq(client.code(coap.PUT, "files", "a", content_format=coap.TEXT), coap.CHANGED)


def test_prefix_when_the_name_is_not_utf_8_then_4_02():
    """RFC 7252 section 5.10.1: a critical option with a bad value, wherever it is read."""
    client = prefixed("files/<name>")
    check.eq(client.raw(b"\xb5files\x02\xff\xfe"), coap.BAD_OPTION)


# ---- paths that lead nowhere ----


def test_path_when_nothing_is_there_then_4_04_before_anything_else():
    """RFC 7252 section 5.9.2.5: whatever method and formats the request has."""
    client, _ = serving(lambda request, response: "x", ct=coap.TEXT, takes=coap.TEXT)
    for method in METHODS:
        for fields in ({}, {"accept": 60}, {"content_format": 60}, {"mtype": coap.NON}):
            reply = client.ask(method, "s", **fields)
            check.eq((reply.code, reply.payload, reply.options), (coap.NOT_FOUND, b"", ()))


# ---- Accept and Content-Format ----


def test_hop_limit_when_it_is_not_0_then_served():
    """RFC 8768 section 3: 0 is 4.00; it is for proxies."""
    client, _ = serving(lambda request, response: b"x")
    check.eq([client.code(coap.GET, "r", hop_limit=n) for n in (1, 255)], [coap.CONTENT] * 2)


def test_proxy_uri_when_elective_options_are_beside_it_then_5_05():
    """RFC 7252 section 5.7.2: they do not matter."""
    client, _ = serving(lambda request, response: b"x")
    reply = client.ask(coap.GET, proxy_uri="coap://h/", size1=5, no_response=0)
    check.eq(reply.code, coap.PROXYING_NOT_SUPPORTED)


def test_proxy_uri_when_it_is_longer_than_255_bytes_then_5_05():
    """RFC 7252 section 5.10.2: it may have 1034; critical options up to 28 may not have more than 255."""
    client, _ = serving(lambda request, response: b"x")
    for length in 255, 256, 1034:
        check.eq(client.code(coap.GET, proxy_uri="coap://h/" + "x" * (length - 9)), coap.PROXYING_NOT_SUPPORTED)


def test_groups_when_the_resource_is_for_none_then_who_asks_alone_is_served():
    """RFC 7252 section 8.2: whatever options the request has."""
    client, _ = serving(lambda request, response: b"x", groups=False)
    check.eq(client.code(coap.GET, "r", accept=0, hop_limit=9), coap.CONTENT)


def test_no_response_when_it_has_2_bytes_then_it_is_ignored():
    """RFC 7967 section 2: 0 or 1; RFC 7252 section 5.4.3: as if it were not there."""
    client, _ = serving(lambda request, response: b"x")
    check.eq((client.raw(b"\xb1r\xd2\xea\0\x1a"), client.exchange(b"\x40\1\1\1\xb1r\xd1\xea\x1a").code), (69, 0))


def test_accept_when_no_format_is_declared_then_the_handler_decides():
    """RFC 7252 section 5.10.4: without `ct` nothing is refused; an error that it returns goes out."""
    client, _ = serving(lambda request, response: coap.NOT_ACCEPTABLE if request.opt.accept == 60 else "x")
    check.eq([client.code(coap.GET, "r", accept=accept) for accept in (60, 0)], [coap.NOT_ACCEPTABLE, coap.CONTENT])


def test_accept_when_it_has_leading_zeros_then_it_is_the_same_format():
    """RFC 7252 section 3.2: 0x003C is 60, an empty one is 0."""
    client, _ = serving(lambda request, response: "x", ct=(coap.TEXT, coap.CBOR))
    check.eq(client.raw(b"\xb1r\x62\x00\x3c"), coap.CONTENT)
    check.eq(client.raw(b"\xb1r\x60"), coap.CONTENT)
    check.eq(client.raw(b"\xb1r\x61\x3d"), coap.NOT_ACCEPTABLE)


def test_content_format_when_the_resource_does_not_take_it_then_4_15():
    """RFC 7252 section 5.9.2.10: one format, several, none declared, none given; the handler is not called."""
    for takes, accepted, refused in (
        (coap.CBOR, (None, 60), (0, 50, 11542)),
        (coap.TEXT, (None, 0), (60,)),
        ((coap.JSON, coap.CBOR), (None, 50, 60), (0, 61)),
        (None, (None, 0, 60, 11542), ()),
    ):
        runs = []
        client, _ = serving(lambda request, response, runs=runs: runs.append(1), takes=takes)
        for method in (coap.PUT, coap.POST, coap.FETCH, coap.PATCH):
            for format in accepted + refused:
                fields = {} if format is None else {"content_format": format}
                code = client.code(method, "r", payload=b"x", **fields)
                check.eq(code == coap.UNSUPPORTED_CONTENT_FORMAT, format in refused, (takes, format))
        check.eq(len(runs), 4 * len(accepted))


def test_content_format_when_the_method_has_no_payload_then_it_is_ignored():
    """RFC 7252 section 5.4, 5.5: it is not defined for GET and DELETE, whose payload counts for nothing."""
    client, _ = serving(lambda request, response: "x", takes=coap.TEXT)
    for method, code in (coap.GET, coap.CONTENT), (coap.DELETE, coap.DELETED):
        for payload in b"", b"x":
            check.eq(client.code(method, "r", payload=payload, content_format=coap.CBOR), code)


# ---- If-Match and If-None-Match ----


def conditional(state, **parameters):
    """A client of a resource whose ETag is `state`, and the list of executions."""
    runs = []
    client, resource = serving(lambda request, response: runs.append(request.code), **parameters)
    resource.etag(lambda request: state)
    return client, runs


def test_if_match_when_it_names_the_state_then_the_request_runs_else_4_12():
    """RFC 7252 section 5.10.8.1: one ETag, one of several, the empty one that asks for any state."""
    for state, if_match, expected in (
        (b"s", (b"s",), True),
        (b"s", (b"t",), False),
        (b"s", (b"t", b"s", b"u"), True),
        (b"s", (b"t", b"u"), False),
        (b"s", (b"",), True),
        (b"s", (b"t", b""), True),
        (b"state678", (b"state678",), True),
        (b"state678", (b"state67",), False),
        (None, (b"s",), False),
        (None, (b"",), False),
    ):
        client, runs = conditional(state)
        for method in METHODS:
            reply = client.ask(method, "r", if_match=if_match, payload=b"x")
            check.eq(reply.code == coap.PRECONDITION_FAILED, not expected, (state, if_match, method))
            check.eq(reply.payload, b"")
        check.eq(len(runs), len(METHODS) if expected else 0)


def test_if_match_when_the_method_has_its_own_handler_then_that_runs():
    """RFC 7252 section 5.10.8."""
    client, resource = serving()
    resource.put(lambda request, response: b"put")
    resource.etag(lambda request: b"s")
    check.eq(client.ask(coap.PUT, "r", if_match=(b"s",)).payload, b"put")


def test_if_none_match_when_there_is_a_state_then_4_12():
    """RFC 7252 section 5.10.8.2: it creates, but does not overwrite; both kinds at once."""
    for state, fields, expected in (
        (None, {"if_none_match": True}, True),
        (b"s", {"if_none_match": True}, False),
        (b"s", {"if_none_match": True, "if_match": (b"s",)}, False),
        (None, {"if_none_match": True, "if_match": (b"s",)}, False),
    ):
        client, runs = conditional(state)
        code = client.code(coap.PUT, "r", **fields)
        check.eq((code, len(runs)), (coap.CHANGED, 1) if expected else (coap.PRECONDITION_FAILED, 0), (state, fields))


def test_precondition_when_the_resource_has_no_state_then_4_02():
    """RFC 7252 section 5.4.1: what nobody looks at must not pass; a NON is reset; the handler is not called."""
    runs = []
    client, _ = serving(lambda request, response: runs.append(1))
    for fields in ({"if_match": (b"s",)}, {"if_match": (b"",)}, {"if_none_match": True}):
        check.eq(client.code(coap.PUT, "r", **fields), coap.BAD_OPTION)
        check.eq(fake.head(client.ask(coap.PUT, "r", mtype=coap.NON, **fields).encode())[0], coap.RST)
        check.eq(client.code(coap.PUT, "nosuch", **fields), coap.BAD_OPTION)
    check.eq(runs, [])


def test_precondition_when_its_length_is_wrong_then_4_02():
    """RFC 7252 section 5.4.3: If-Match of 9 bytes, If-None-Match with a value, twice."""
    client, runs = conditional(b"s")
    for options in (b"\x19123456789\xa1r", b"\x51x\x61r", b"\x50\x00\x61r"):
        check.eq(client.raw(options), coap.BAD_OPTION)
    check.eq(runs, [])


def test_precondition_when_it_fails_then_the_duplicate_has_the_same_answer():
    """RFC 7252 section 4.5: the state changed in between, the request is still refused."""
    states = [b"new", b"old"]
    client, resource = serving(lambda request, response: None)
    resource.etag(lambda request: states.pop(0))
    request = packet(coap.PUT, 4660, uri_path=("r",), if_match=(b"old",))
    codes = [ask(client.engine, request).code for _ in range(2)]
    check.eq((codes, states), ([coap.PRECONDITION_FAILED] * 2, [b"old"]))


def test_precondition_when_the_hook_raises_or_returns_no_etag_then_5_00_and_the_log_is_told():
    """RFC 7252 section 5.9.3.1: nothing is executed, the engine lives; a 4.12 for ever would tell nobody why."""
    for hook in (lambda request: 1 // 0, lambda request: "text", lambda request: 7, lambda request: b""):
        client, runs = conditional(b"s")
        told = []
        client.engine.log = lambda text, value: told.append(value)  # noqa: B023
        client.engine.resources[-1].etag(hook)
        check.eq(client.code(coap.PUT, "r", if_match=(b"s",)), coap.INTERNAL_SERVER_ERROR)
        check.eq((runs, len(told)), ([], 1))


# ---- ETag: validation ----


def test_etag_when_the_client_has_it_then_2_03_without_payload():
    """RFC 7252 section 5.10.6.2: GET and FETCH, one of several; Max-Age stays, no Content-Format."""

    def handler(request, response):
        response.opt.max_age = 7
        return "text"

    for method in (coap.GET, coap.FETCH):
        client, resource = serving(handler, ct=coap.TEXT)
        resource.etag(lambda request: b"v2")
        for etags in ((b"v2",), (b"v1", b"v2", b"v3")):
            reply = client.ask(method, "r", etags=etags)
            check.eq((reply.code, reply.payload, reply.options), (coap.VALID, b"", ((4, b"v2"), (14, 7))))
        for fields in ({}, {"etags": (b"v1", b"v3")}, {"etags": (b"v",)}):
            reply = client.ask(method, "r", **fields)
            check.eq((reply.code, reply.payload), (coap.CONTENT, b"text"))
            check.eq(reply.options, ((4, b"v2"), (12, 0), (14, 7)))


def test_etag_when_the_handler_sets_it_then_it_is_compared_too():
    """RFC 7252 section 5.10.6.1: without the hook, and before it."""

    def handler(request, response):
        response.opt.etag = b"own"
        return "text"

    for with_hook in (False, True):
        client, resource = serving(handler, ct=coap.TEXT)
        if with_hook:
            resource.etag(lambda request: b"hook")
        for method in (coap.GET, coap.FETCH):
            reply = client.ask(method, "r", etags=(b"own",))
            check.eq((reply.code, reply.payload, reply.options), (coap.VALID, b"", ((4, b"own"),)))
            check.eq(client.code(method, "r", etags=(b"hook",)), coap.CONTENT)


def test_etag_when_the_handler_labels_the_payload_then_a_2_03_has_no_content_format():
    """RFC 7252 section 5.10.3: there is no payload that it would describe."""

    def handler(request, response):
        response.opt.content_format = coap.CBOR
        response.opt.etag = b"e"
        return b"\xa0"

    client, _ = serving(handler)
    check.eq(client.ask(coap.GET, "r").options, ((4, b"e"), (12, 60)))
    check.eq(client.ask(coap.GET, "r", etags=(b"e",)).options, ((4, b"e"),))


def test_etag_when_there_is_no_state_now_then_no_option():
    """RFC 7252 section 5.10.6: the hook returns None."""
    client, resource = serving(lambda request, response: "text")
    resource.etag(lambda request: None)
    reply = client.ask(coap.GET, "r", etags=(b"x",))
    check.eq((reply.code, reply.options), (coap.CONTENT, ()))


def test_etag_when_the_answer_is_no_2_05_then_it_is_left_alone():
    """RFC 7252 section 5.10.6.1: 2.04 and errors have no ETag of their own."""
    client, resource = serving(lambda request, response: coap.NOT_FOUND if request.code == coap.GET else None)
    resource.etag(lambda request: b"s")
    for method, code in ((coap.GET, coap.NOT_FOUND), (coap.PUT, coap.CHANGED), (coap.POST, coap.CREATED)):
        reply = client.ask(method, "r", etags=(b"s",))
        check.eq((reply.code, reply.options), (code, ()))


def test_etag_when_it_is_too_long_then_it_is_ignored():
    """RFC 7252 section 5.4.3: 0 and 9 bytes; an elective option that is not understood."""
    client, resource = serving(lambda request, response: "text")
    resource.etag(lambda request: b"12345678")
    check.eq(client.raw(b"\x49123456789\x71r"), coap.CONTENT)
    check.eq(client.raw(b"\x40\x71r"), coap.CONTENT)
    check.eq(client.raw(b"\x4812345678\x71r"), coap.VALID)


def test_etag_when_the_hook_fails_after_the_handler_then_5_00():
    """RFC 7252 section 5.9.3.1: it raises, returns no bytes or 9 of them; the engine lives."""

    def raising(request):
        raise KeyError("state")

    for state in (raising, lambda request: b"123456789", lambda request: 5, lambda request: "text"):
        client, resource = serving(lambda request, response: "text", ct=coap.TEXT)
        resource.etag(state)
        told = []
        client.engine.log = lambda text, value, told=told: told.append(value)
        reply = client.ask(coap.GET, "r")
        check.eq((reply.code, reply.payload, reply.options, len(told)), (coap.INTERNAL_SERVER_ERROR, b"", (), 1))


def test_etag_when_the_hook_reads_a_name_that_is_not_utf_8_then_4_02():
    """RFC 7252 section 5.4.1: a FormatError is the peer's fault, in the hook too."""
    client, resource = serving(lambda request, response: "text", path="files/<name>")
    resource.etag(lambda request: request.opt.uri_path[-1].encode()[:8])
    check.eq(client.ask(coap.GET, "files", "a").opt.etag, b"a")
    check.eq(client.raw(b"\xb5files\x02\xff\xfe"), coap.BAD_OPTION)


# ---- what handlers say beside the payload ----


def test_created_when_the_handler_names_the_location_then_it_goes_out():
    """RFC 7252 section 5.8.2: Location-Path and Location-Query in their order, empty and long segments."""

    def handler(request, response):
        response.opt.location_path = ("a", "", "b" * 255)
        response.opt.location_query = ("x=1", "y")

    client, _ = serving(handler)
    reply = client.ask(coap.POST, "r")
    check.eq((reply.code, reply.opt.location_path), (coap.CREATED, ("a", "", "b" * 255)))
    check.eq(reply.opt.location_query, ("x=1", "y"))


def test_max_age_when_set_then_it_goes_out():
    """RFC 7252 section 5.10.5: 0 to 2**32 - 1, in a success and in an error."""
    for seconds in (0, 1, 60, 0xFFFFFFFF):

        def handler(request, response, seconds=seconds):
            response.opt.max_age = seconds
            return "x" if request.code == coap.GET else coap.SERVICE_UNAVAILABLE

        client, _ = serving(handler, ct=coap.TEXT)
        check.eq(client.ask(coap.GET, "r").options, ((12, 0), (14, seconds)))
        check.eq(client.ask(coap.PUT, "r").options, ((14, seconds),))


def test_too_many_requests_when_returned_then_max_age_says_when():
    """RFC 8516 section 2: 4.29 with the seconds to wait, and a text."""

    def handler(request, response):
        response.opt.max_age = 30
        return coap.TOO_MANY_REQUESTS, "one per 30 s"

    client, _ = serving(handler, ct=coap.JSON)
    reply = client.ask(coap.GET, "r")
    check.eq((reply.code, reply.payload, reply.options), (0x9D, b"one per 30 s", ((14, 30),)))


def test_diagnostic_when_an_error_has_a_payload_then_it_is_text_without_content_format():
    """RFC 7252 section 5.5.2: whatever the resource's format and the Accept; one that the handler set stays."""
    for ct in (None, coap.CBOR, (coap.TEXT, coap.CBOR)):
        for code in (coap.BAD_REQUEST, coap.FORBIDDEN, coap.CONFLICT, coap.UNPROCESSABLE_ENTITY, coap.BAD_GATEWAY):
            client, _ = serving(lambda request, response, code=code: (code, "because \u00e9"), ct=ct)
            for fields in ({}, {"accept": coap.CBOR}):
                reply = client.ask(coap.GET, "r", **fields)
                check.eq((reply.code, reply.payload, reply.options), (code, "because \u00e9".encode(), ()))

    def problem(request, response):
        response.opt.content_format = 257
        return coap.BAD_REQUEST, b"\xa0"

    check.eq(serving(problem, ct=coap.TEXT)[0].ask(coap.GET, "r").options, ((12, 257),))


# ---- a file server ----

ROOT = "/srv/"


def traversal_names():
    """More than 200 last segments with which a client may try to leave a folder, each once."""
    yield from ("", ".", "..", "...", "~", "~root", "a/..", "\0", "a\0", "a\0.txt", "con", "C:", "C:\\", "\\\\h\\s")
    for up in ("..", ".", "..;", "..%00", "%2e%2e", "%252e%252e", ".\0.", "\u2025", "\uff0e\uff0e", "..\u2215"):
        for mark in ("/", "\\", "//", "\\/", "%2f", "%5c", "\u2215", ":"):
            for target in ("etc/passwd", "boot.py", ""):
                yield up + mark + target
    for depth in range(2, 8):
        yield "../" * depth + "etc/passwd"
        yield "..\\" * depth + "boot.py"


def is_name(name):
    """Whether `name` is a file's in one folder: what an example may allow."""
    return 0 < len(name) <= 64 and all([c.isalpha() or c.isdigit() or c in "-_." for c in name]) and name[0] != "."


def test_file_server_when_the_name_leads_elsewhere_then_4_03_and_nothing_is_touched():
    """RFC 7252 section 11.1: 200 names with GET, PUT and DELETE; a segment may hold any byte."""
    touched = []

    def serve(request, response):
        name = request.opt.uri_path[-1]
        if not is_name(name):
            return coap.FORBIDDEN
        touched.append(ROOT + name)

    client, resource = serving(path="files/<name>")
    resource(serve)
    count = 0
    for name in traversal_names():
        count += 1
        for method in (coap.GET, coap.PUT, coap.DELETE):
            code = client.code(method, "files", name)
            check.eq(code == coap.FORBIDDEN, name != "con", repr(name))
    check.eq((count > 200, touched), (True, ["/srv/con"] * 3))
    check.eq(client.code(coap.GET, "files", "data-1.txt"), coap.CONTENT)
