"""Discovery (RFC 6690): the links of /.well-known/core, their attributes, filters, and reading them by offset."""

import gc

import check
import coap
import coap_block
import fake
from fake import ask, packet


def discover(engine, *queries):
    """(code, links) that /.well-known/core answers."""
    high, low = engine.random(2)
    request = packet(coap.GET, high << 8 | low, uri_path=(".well-known", "core"), uri_query=queries)
    reply = ask(engine, request)
    return reply.code, str(reply.payload, "utf-8")


def links(engine, *queries):
    code, text = discover(engine, *queries)
    check.eq(code, coap.CONTENT)
    return text


def targets(engine, *queries):
    """The paths of the links that pass."""
    text = links(engine, *queries)
    return [link[: link.index(">")] for link in text[1:].split(",<")] if text else []


def attributes(engine):
    """The set of attributes of the one link there is."""
    return set(links(engine).split(";")[1:])


# ---- attributes ----


def test_link_when_it_has_the_attributes_of_the_rfc_then_each_in_its_form():
    """RFC 6690 section 2: rt, if and title quoted, ct and sz numbers, obs a flag, anchor a quoted URI."""
    for given, expected in (
        ({"rt": "temperature"}, 'rt="temperature"'),
        ({"if_": "sensor"}, 'if="sensor"'),
        ({"title": "Outside"}, 'title="Outside"'),
        ({"title": "\u00c4u\u00dfen"}, 'title="\u00c4u\u00dfen"'),
        ({"ct": 0}, "ct=0"),
        ({"ct": 65535}, "ct=65535"),
        ({"ct": (0, 50)}, 'ct="0 50"'),
        ({"sz": 1024}, "sz=1024"),
        ({"sz": 0}, "sz=0"),
        ({"obs": True}, "obs"),
        ({"anchor": "/sensors/temp"}, 'anchor="/sensors/temp"'),
        ({"rel": "describedby"}, 'rel="describedby"'),
        ({"rt": ("core.rd", "core.s")}, 'rt="core.rd core.s"'),
        ({"osc": True}, "osc"),
        ({"x_my_own": "v"}, 'x_my_own="v"'),
        ({"x": 5}, "x=5"),
    ):
        engine = fake.engine()
        engine.resource("r", **given)
        check.eq(links(engine), "</r>;" + expected)


def test_link_when_an_attribute_is_false_or_none_then_it_is_left_out():
    """RFC 6690 section 2: a flag is there or not."""
    engine = fake.engine()
    engine.resource("r", obs=False, title=None, sz=0, rt="t")
    check.eq(attributes(engine), {"sz=0", 'rt="t"'})


def test_link_when_its_text_cannot_be_quoted_then_value_error():
    """RFC 6690 section 2: a quote, and a backslash, which would escape the quote behind it."""
    for text in ('a"b', "a\\", 'a\\"b'):
        check.raises(ValueError, fake.engine().resource, "r", title=text)


def test_link_when_there_are_several_attributes_then_each_once():
    """RFC 6690 section 2: in whatever order."""
    engine = fake.engine()
    engine.resource("r", ct=(coap.TEXT, coap.CBOR), rt="a b", if_="i", sz=7, title="T", obs=True, anchor="/x")
    expected = {'ct="0 60"', 'rt="a b"', 'if="i"', "sz=7", 'title="T"', "obs", 'anchor="/x"'}
    check.eq(attributes(engine), expected)


def test_link_when_the_path_has_other_characters_then_they_are_percent_encoded():
    """RFC 6690 section 2: UTF-8, spaces, brackets, quotes; the root; an empty segment."""
    for path, target in (
        ("", "/"),
        ("a/b", "/a/b"),
        ("a b/\u00e9", "/a%20b/%C3%A9"),
        ('<x>y"', "/%3Cx%3Ey%22"),
        ("a//b/", "/a//b/"),
        ("50%", "/50%25"),
        ("a?b#c", "/a%3Fb%23c"),
    ):
        engine = fake.engine()
        engine.resource(path)
        check.eq(links(engine), "<%s>" % target)


def test_link_when_the_last_segment_varies_then_it_is_not_listed():
    """RFC 6690 section 4: there is no path that could be asked for."""
    engine = fake.engine()
    engine.resource("a")
    engine.resource("files/<name>", rt="file", ct=coap.TEXT)
    engine.resource("<name>")
    engine.resource("b")
    check.eq(links(engine), "</a>,</b>")
    check.eq(links(engine, "rt=file"), "")


# ---- filters ----


def catalogue():
    engine = fake.engine()
    engine.resource("s/t", ct=coap.TEXT, rt="temp core.s", if_="sensor", obs=True, title="Temperature, room; 1")
    engine.resource("s/h", ct=(coap.TEXT, coap.JSON), rt="hum", if_="sensor", sz=4)
    engine.resource("led", rt="light", if_="actuator", anchor="/s/t", x="special")
    engine.resource("plain")
    return engine


def test_filter_when_it_names_an_attribute_then_the_links_with_that_value():
    """RFC 6690 section 4.1: every attribute, those of our own too; a list has several values."""
    engine = catalogue()
    t, h, led, plain = "/s/t", "/s/h", "/led", "/plain"
    for query, expected in (
        ("rt=temp", [t]),
        ("rt=core.s", [t]),
        ("rt=temp core.s", [t]),
        ("rt=core", []),
        ("if=sensor", [t, h]),
        ("ct=0", [t, h]),
        ("ct=50", [h]),
        ("ct=5", []),
        ("sz=4", [h]),
        ("sz=40", []),
        ("title=Temperature, room; 1", [t]),
        ("title=Temperature", []),
        ("obs", [t]),
        ("anchor=/s/t", [led]),
        ("x=special", [led]),
        ("x=", []),
        ("href=/s/t", [t]),
        ("href=/plain", [plain]),
        ("href=s/t", []),
        ("RT=temp", []),
        ("room=1", []),
        ("", []),
        ("=", []),
        ("nosuch=1", []),
        ("f=sensor", []),
    ):
        check.eq(targets(engine, query), expected, query)


def test_filter_when_it_ends_with_an_asterisk_then_a_beginning_is_enough():
    """RFC 6690 section 4.1: on each attribute; an asterisk elsewhere is a character."""
    engine = catalogue()
    engine.resource("star", rt="a*b")
    t, h, led, star = "/s/t", "/s/h", "/led", "/star"
    for query, expected in (
        ("rt=te*", [t]),
        ("rt=temp*", [t]),
        ("rt=core.*", [t]),
        ("rt=*", [t, h, led, star]),
        ("if=se*", [t, h]),
        ("ct=5*", [h]),
        ("ct=*", [t, h]),
        ("sz=*", [h]),
        ("title=Temp*", [t]),
        ("title=room*", [t]),
        ("anchor=/s*", [led]),
        ("href=/s/*", [t, h]),
        ("href=/s*", [t, h, star]),
        ("href=*", [t, h, led, "/plain", star]),
        ("rt=*mp", []),
        ("rt=t*p", []),
        ("rt=a*b", [star]),
        ("rt=temp**", []),
        ("nosuch=*", []),
    ):
        check.eq(targets(engine, query), expected, query)


def test_filter_when_there_are_several_then_all_must_hold():
    """RFC 6690 section 4.1: on different attributes and on the same one."""
    engine = catalogue()
    for queries, expected in (
        (("if=sensor", "ct=50"), ["/s/h"]),
        (("if=sensor", "ct=50", "sz=4", "rt=h*", "href=/s/*"), ["/s/h"]),
        (("rt=temp", "rt=core.s"), ["/s/t"]),
        (("rt=temp", "rt=hum"), []),
        (("if=sensor", "nosuch=1"), []),
    ):
        check.eq(targets(engine, *queries), expected, queries)


def test_filter_when_there_are_more_than_8_then_4_00():
    """RFC 6690 section 4.1: hundreds in a datagram would take as long as thousands of other requests."""
    engine = fake.engine()
    engine.resource("t", rt="text")(lambda request, response: "x")
    check.eq(targets(engine, *("rt=*",) * 8), ["/t"])
    check.eq(discover(engine, *("rt=*",) * 9), (coap.BAD_REQUEST, ""))
    check.eq(discover(engine, *("",) * 100), (coap.BAD_REQUEST, ""))


def test_filter_when_nothing_passes_then_an_empty_2_05_and_to_a_group_silence():
    """RFC 6690 section 4.1 and RFC 7252 section 8.2."""
    engine = catalogue()
    check.eq(discover(engine, "rt=nosuch"), (coap.CONTENT, ""))
    for query, count in (("rt=nosuch", 0), ("rt=temp", 1)):
        request = packet(coap.GET, 4660 + count, coap.NON, uri_path=(".well-known", "core"), uri_query=(query,))
        check.eq(engine.receive(request, fake.PEER, 0, True), None)
        check.eq(len(fake.run(engine, 0, 10000)), count)


def test_filter_when_hostile_then_nothing_breaks():
    """RFC 7252 section 5.10.1: any bytes as Uri-Query; what is not UTF-8 is refused."""
    engine = catalogue()
    for query in ("=" * 255, '"', 'title="', "<", ">", ";", "%s%d", "rt=" + "a" * 252, "\0", "\u00e9=\u00e9"):
        check.eq(discover(engine, query), (coap.CONTENT, ""), query)
    for query in (b"\xff", b"rt=\xc3", b"\x80=x"):
        request = packet(coap.GET, 4660 + query[0], uri_path=(".well-known", "core"), uri_query=("rt=temp", query))
        check.eq(ask(engine, request).code, coap.BAD_OPTION)


# ---- as much as fits, or all of it by offset ----


def many(count, **tables):
    engine = fake.engine(**tables)
    for n in range(count):
        engine.resource("r/%d" % n, rt="kind%d \u00e9" % (n % 3), sz=10**n)
    return engine


def whole_document(count):
    each = ['</r/%d>;rt="kind%d \u00e9";sz=%d' % (n, n % 3, 10**n) for n in range(count)]
    return each, ",".join(each).encode()


def test_discovery_when_nothing_sends_blocks_then_whole_links_only():
    """RFC 6690 section 2: at every limit a document that ends behind a link, and one link more would not fit."""
    each, document = whole_document(9)
    lengths = [len(",".join(each[:n]).encode()) for n in range(10)]
    for datagram_len in range(64, 32 + len(document) + 3):
        engine = many(0, datagram_len=datagram_len)
        for n in range(9):
            engine.resource("r/%d" % n, rt="kind%d \u00e9" % (n % 3), sz=10**n)
        got = links(engine).encode()
        check.eq(got, document[: len(got)])
        check.eq(len(got) in lengths, True, datagram_len)
        fitting = max([length for length in lengths if length <= datagram_len - 32])
        check.eq(len(got), fitting, datagram_len)


def test_discovery_when_the_request_fills_its_token_then_the_answer_still_fits():
    """RFC 7252 section 4.6: the links leave room for header, longest token and options."""
    for datagram_len in (64, 100, 256):
        engine = many(9, datagram_len=datagram_len)
        request = packet(coap.GET, 1, token=b"12345678", uri_path=(".well-known", "core"))
        reply = engine.receive(request, fake.PEER, 0)
        check.eq((reply[1], len(reply) <= datagram_len), (coap.CONTENT, True))


class Source:
    """An extension that takes what the handler of /.well-known/core returns where coap_block is attached."""

    rank = 30
    understood = 0

    def __init__(self, engine):
        self.payload = None
        engine.attach(self)
        engine.sends_blocks = coap_block.Links

    def response(self, request, response):
        self.payload = response.packet[7]
        response.packet[7] = b""


def source_of(engine, *queries):
    """The object that discovery gives to an extension that sends blocks."""
    source = Source(engine)
    discover(engine, *queries)
    return source.payload


def test_discovery_when_something_sends_blocks_then_it_can_be_read_at_any_offset():
    """RFC 6690 section 4: each offset and length gives that piece of the document, longer than a datagram."""
    _, document = whole_document(9)
    source = source_of(many(9, datagram_len=64))
    for length in (1, 2, 7, 16, 64, len(document), len(document) + 5):
        for offset in range(len(document) + 3):
            buffer = bytearray(b"?" * length)
            filled = source.readinto_at(buffer, offset)
            piece = document[offset : offset + length]
            check.eq((filled, bytes(buffer[:filled])), (len(piece), piece), (length, offset))
            check.eq(bytes(buffer[filled:]), b"?" * (length - filled))


def test_discovery_when_read_by_offset_then_filters_and_prefix_resources_count():
    """RFC 6690 section 4.1: the source is of the filtered document; what varies is not in it."""
    for queries, expected in (
        ((), whole_document(4)[1]),
        (("sz=100",), b'</r/2>;rt="kind2 \xc3\xa9";sz=100'),
        (("rt=kind0",), b'</r/0>;rt="kind0 \xc3\xa9";sz=1,</r/3>;rt="kind0 \xc3\xa9";sz=1000'),
        (("rt=none",), b""),
    ):
        engine = many(4)
        engine.resource("files/<name>", rt="kind0 \u00e9")
        source = source_of(engine, *queries)
        buffer = bytearray(400)
        check.eq(bytes(buffer[: source.readinto_at(buffer, 0)]), expected)
        check.eq(source.readinto_at(buffer, len(expected)), 0)


def heap_used():
    """Bytes in use, on MicroPython; 0 elsewhere, where nobody counts."""
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0


def test_discovery_when_read_by_offset_then_the_document_is_not_in_memory():
    """RFC 6690 section 4: what is kept for 60 links of 60 bytes is a list of them; a piece costs nothing that stays."""
    engine = fake.engine()
    for n in range(60):
        engine.resource("r/%d" % n, title="t" * 45)
    source = source_of(engine)
    buffer = bytearray(16)
    source.readinto_at(buffer, 3000)
    before = heap_used()
    for offset in range(0, 3600, 16):
        source.readinto_at(buffer, offset)
    check.eq(heap_used() - before < 200, True)
    del source
    engine._extensions[0].payload = None
    check.eq(before - heap_used() < 1200, True)  # 60 references, not 3.6 KB of links


def test_discovery_when_the_resource_is_there_under_another_method_then_4_05():
    """RFC 6690 section 4: /.well-known/core answers GET; FETCH, POST and others are refused."""
    engine = catalogue()
    for method in (coap.POST, coap.PUT, coap.DELETE, coap.FETCH, coap.PATCH, coap.IPATCH):
        request = packet(method, method, uri_path=(".well-known", "core"))
        check.eq(ask(engine, request).code, coap.METHOD_NOT_ALLOWED)


def test_discovery_when_another_format_is_wanted_then_4_06():
    """RFC 6690 section 4: application/link-format is the one there is."""
    engine = catalogue()
    for accept, code in ((coap.LINKS, coap.CONTENT), (coap.JSON, coap.NOT_ACCEPTABLE)):
        reply = ask(engine, packet(coap.GET, accept, uri_path=(".well-known", "core"), accept=accept))
        check.eq(reply.code, code)
