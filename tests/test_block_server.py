"""Block-wise transfers, the server (RFC 7959): what goes out in blocks, what comes in, what is refused."""

from binascii import crc32

import check
import coap
import coap_block
import fake

BODY = bytes([i * 7 % 251 for i in range(1000)])
OTHER = ("198.51.100.7", 5683)
MORE = 8


def block(num, more, szx):
    """The value of a Block option."""
    return num << 4 | (MORE if more else 0) | szx


class Source:
    """Bytes that are read by offset."""

    def __init__(self, data, etag=None):
        self.data = data
        if etag:
            self.etag = etag

    def readinto_at(self, buffer, offset):
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


class Sink:
    """What came, and whether it was aborted."""

    def __init__(self):
        self.data = bytearray()
        self.aborted = 0

    def write_at(self, offset, data):
        self.data[offset:] = data

    def abort(self):
        self.aborted += 1


class Server:
    """An engine with blocks that serves /t; `answer` is what GET returns, `bodies` what came by other methods."""

    def __init__(self, tables=None, **limits):
        self.engine = fake.engine(**(tables or {}))
        limits.setdefault("unverified_len", None)
        self.blocks = coap_block.attach(self.engine, **limits)
        self.resource = self.engine.resource("t", ct=coap.OCTETS)
        self.resource.get(self.read)
        for method in (coap.PUT, coap.POST, coap.FETCH):
            self.resource.on(method)(self.write)
        self.answer = BODY
        self.result = None
        self.reads = 0
        self.bodies = []
        self.mid = 0

    def read(self, request, response):
        self.reads += 1
        return self.answer

    def write(self, request, response):
        self.bodies.append(request.payload)
        return self.result

    def ask(self, code=coap.GET, payload=b"", now_ms=0, peer=fake.PEER, mtype=coap.CON, **options):
        """The reply to a request for /t with an ID of its own."""
        self.mid += 1
        options.setdefault("uri_path", ("t",))
        datagram = fake.packet(code, self.mid, mtype, payload=payload, **options)
        return fake.ask(self.engine, datagram, now_ms, peer)

    def put(self, num, szx, body=BODY, **options):
        """The reply to the PUT of a block of `body`."""
        size = 16 << szx
        piece = body[num * size : num * size + size]
        more = len(body) > num * size + size
        return self.ask(options.pop("code", coap.PUT), piece, block1=block(num, more, szx), **options)

    def put_all(self, szx, body=BODY, **options):
        """The reply to the last of all blocks of `body`."""
        for num in range((len(body) - 1) // (16 << szx)):
            check.eq(self.put(num, szx, body, **options).code, coap.CONTINUE, "block %d" % num)
        return self.put((len(body) - 1) // (16 << szx), szx, body, **options)

    def get_all(self, szx, code=coap.GET, begin=0, **options):
        """The body that is fetched block by block."""
        body = b""
        num = begin
        while True:
            reply = self.ask(code, block2=block(num, False, szx), **options)
            check.eq(reply.code, coap.CONTENT if code == coap.GET else coap.CHANGED)
            check.eq(reply.opt.block2 >> 4, num)
            body += reply.payload
            if not reply.opt.block2 & MORE:
                return body
            num += 1

    def forget(self, now_ms):
        """Let the time come."""
        fake.due(self.engine, now_ms)


# ---- Block2 ----


def test_payload_when_larger_than_a_datagram_then_is_cut():
    """RFC 7959 section 2.4: block 0 comes unasked, with M, the size of the body, an ETag."""
    server = Server()
    server.answer = bytes(3000)
    reply = server.ask()
    check.eq(reply.code, coap.CONTENT)
    check.eq(reply.opt.block2, block(0, True, 6))
    check.eq(reply.opt.size2, 3000)
    check.eq(len(reply.payload), 1024)
    check.eq(reply.opt.content_format, coap.OCTETS)
    assert reply.opt.etag


def test_payload_when_it_fits_then_has_no_option():
    """RFC 7959 section 2.4: what fits goes as it is."""
    reply = Server().ask()
    check.eq(reply.payload, BODY)
    check.eq(reply.opt.block2, None)
    check.eq(reply.opt.etag, None)
    check.eq(reply.opt.size2, None)


def test_payload_when_it_fits_the_block_asked_for_then_has_the_option():
    """RFC 7959 section 2.4: early negotiation is answered though there is one block only."""
    server = Server()
    server.answer = b"short"
    reply = server.ask(block2=block(0, False, 2))
    check.eq(reply.payload, b"short")
    check.eq(reply.opt.block2, block(0, False, 2))


def test_body_when_fetched_in_blocks_then_is_whole():
    """RFC 7959 section 2.4: every size, each block by a run of the handler, one ETag."""
    for szx in range(7):
        server = Server()
        check.eq(server.get_all(szx), BODY)
        check.eq(server.reads, -(-1000 // (16 << szx)))


def test_etag_when_body_is_cut_then_is_the_same_in_each_block_and_another_of_another_body():
    """RFC 7959 section 2.4: the ETag tells whether blocks belong together."""
    server = Server()
    etags = [server.ask(block2=block(num, False, 4)).opt.etag for num in range(4)]
    check.eq(etags, [crc32(BODY).to_bytes(4, "big")] * 4)
    server.answer = BODY[:-1] + b"!"
    assert server.ask(block2=block(2, False, 4)).opt.etag != etags[0]


def test_etag_when_the_handler_set_one_then_is_kept():
    """RFC 7252 section 5.10.6: the application's ETag goes out."""
    server = Server()

    @server.resource.get
    def read(request, response):
        response.opt.etag = b"v1"
        return BODY

    check.eq(server.ask(block2=block(1, False, 4)).opt.etag, b"v1")


def test_block_when_any_is_asked_for_then_is_that():
    """RFC 7959 section 2.4: random access."""
    server = Server()
    reply = server.ask(block2=block(3, False, 3))
    check.eq(reply.payload, BODY[384:512])
    check.eq(reply.opt.block2, block(3, True, 3))
    check.eq(reply.opt.size2, None)
    check.eq(server.ask(block2=block(7, True, 3)).payload, BODY[896:])


def test_block_when_smaller_ones_are_served_then_begins_where_it_was_asked_for():
    """RFC 7959 section 2.4: the server's size is smaller, NUM counts in it."""
    server = Server(szx=3)
    reply = server.ask(block2=block(1, False, 5))
    check.eq(reply.opt.block2, block(4, True, 3))
    check.eq(reply.payload, BODY[512:640])


def test_block_when_datagram_len_is_small_then_fits():
    """Blocks are as large as datagram_len allows."""
    server = Server({"datagram_len": 256})
    reply = server.ask(block2=block(0, False, 6))
    check.eq(reply.opt.block2, block(0, True, 3))
    check.eq(server.get_all(3), BODY)


def test_block_when_datagram_len_is_the_least_then_each_body_fits():
    """RFC 7959 section 1: 51 bytes are what LoRaWAN carries; a payload that is short elsewhere is too long there."""
    for datagram_len in (48, 51, 64, 77, 96):
        server = Server({"datagram_len": datagram_len})
        for body_len in range(30, 70):
            server.answer = BODY[:body_len]
            reply = server.ask()
            check.eq((reply.code, len(reply.encode()) <= datagram_len), (coap.CONTENT, True), (datagram_len, body_len))
            check.eq(reply.payload, BODY[: len(reply.payload)])
            check.eq(len(reply.payload) < body_len, (reply.opt.block2 or 0) & MORE == MORE, (datagram_len, body_len))
        server.answer = BODY
        check.eq(server.get_all(0), BODY)


def test_block_when_it_is_behind_the_end_then_is_refused():
    """RFC 7959 section 2.4: far block numbers."""
    server = Server()
    for num in (63, 64, 1000, 0xFFFFF):
        reply = server.ask(block2=block(num, False, 0))
        check.eq(reply.code, coap.CONTENT if num < 63 else coap.BAD_REQUEST, num)
    check.eq(server.ask(block2=block(62, False, 0)).payload, BODY[992:])
    check.eq(server.ask(block2=block(0xFFFFF, True, 6)).code, coap.BAD_REQUEST)
    server.answer = bytes(1024)
    check.eq(server.ask(block2=block(1, False, 6)).code, coap.BAD_REQUEST)  # just behind it


def test_block_when_szx_is_7_then_is_refused():
    """RFC 7959 section 2.2: SZX 7 is reserved."""
    server = Server()
    check.eq(server.ask(block2=7).code, coap.BAD_REQUEST)
    check.eq(server.ask(block2=block(3, False, 7)).code, coap.BAD_REQUEST)
    check.eq(server.ask(coap.PUT, b"a", block1=7).code, coap.BAD_REQUEST)
    check.eq(server.ask(coap.PUT, b"a", block1=0, block2=7).code, coap.BAD_REQUEST)
    check.eq((server.reads, server.bodies), (0, []))


def test_last_block_when_the_body_went_on_behind_it_then_4_08():
    """RFC 7959 section 2.9.2: that is another body, not the same block once more."""
    server = Server()
    for num in (0, 1):
        check.eq(server.put(num, 0).code, coap.CONTINUE)
    check.eq(server.ask(coap.PUT, BODY[16:32], block1=block(1, False, 0)).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(server.bodies, [])


def test_error_when_a_block_is_asked_for_then_is_the_error():
    """RFC 7959 section 2.4: an error has no blocks."""
    server = Server()
    server.answer = (coap.NOT_FOUND, b"gone")
    reply = server.ask(block2=block(5, False, 4))
    check.eq((reply.code, reply.payload, reply.opt.block2), (coap.NOT_FOUND, b"gone", None))


def test_source_when_served_then_is_read_by_offset():
    """A body that never lies in memory as a whole; without length, without ETag."""
    server = Server()
    for length in (0, 1, 63, 64, 65, 128, 1000):
        server.answer = Source(BODY[:length])
        check.eq(server.get_all(2), BODY[:length], length)
    reply = server.ask(block2=block(1, False, 2))
    check.eq((reply.opt.etag, reply.opt.size2), (None, None))
    server.answer = Source(b"small")
    check.eq(server.ask().opt.block2, None)


def test_block_when_the_body_is_that_of_the_etag_then_2_03_without_block_and_size():
    """RFC 7252 section 5.9.1.3: a 2.03 has no payload, of which there is neither a block nor a size."""
    server = Server()
    server.resource.etag(lambda request: b"v1")
    for num in range(2):
        reply = server.ask(etag=b"v1", block2=block(num, False, 2))
        check.eq((reply.code, reply.payload, reply.options), (coap.VALID, b"", ((4, b"v1"),)))
    check.eq(server.ask(etag=b"v0", block2=block(1, False, 2)).opt.block2, block(1, True, 2))


def test_body_when_its_first_block_has_1000_options_then_what_is_held_is_as_large_as_that():
    """RFC 7959 section 2.4: the options of a body tell it from others; on a board they must not fill the heap."""
    options = {"uri_query": ("",) * 1000}
    server = Server()
    check.eq(server.put(0, 2, **options).code, coap.CONTINUE)
    (key,) = server.blocks.bodies
    check.eq(sum([len(part) for part in key if isinstance(part, (bytes, tuple))]) < 1200, True)
    check.eq(server.put(1, 2, uri_query=("",) * 999).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(server.put(1, 2, **options).code, coap.CONTINUE)


def test_body_when_the_heap_has_no_room_for_it_in_one_piece_then_5_00():
    """README: no datagram raises; the last block of a body of 8 KB takes another 8 KB for a moment."""

    kept = coap_block.bytes

    def fail(data):
        if len(data) == 100:
            raise MemoryError
        return kept(data)

    server = Server()
    check.eq(server.put(0, 2, bytes(100)).code, coap.CONTINUE)
    coap_block.bytes = fail
    try:
        check.eq(server.put(1, 2, bytes(100)).code, coap.INTERNAL_SERVER_ERROR)
    finally:
        coap_block.bytes = kept
    check.eq((server.bodies, server.blocks.bodies), ([], {}))
    server.put_all(2, bytes(100))
    check.eq(server.bodies, [bytes(100)])


def test_body_when_options_differ_then_it_is_another():
    """RFC 7959 section 2.4, RFC 7252 section 5.6: all but Block1, Block2, Observe and those that are NoCacheKey."""
    for other, is_another in (
        ({"uri_query": ("a",)}, True),
        ({"accept": coap.OCTETS}, True),
        ({"content_format": 0}, True),
        ({"request_tag": (b"",)}, True),
        ({"block2": 2}, False),
        ({"size1": 5000}, False),
        ({"echo": b"1"}, False),
    ):
        server = Server()
        check.eq(server.put(0, 2).code, coap.CONTINUE)
        expected = coap.REQUEST_ENTITY_INCOMPLETE if is_another else coap.CONTINUE
        check.eq(server.put(1, 2, **other).code, expected, other)


def test_source_when_it_has_size_and_etag_then_these_are_sent():
    """RFC 7959 section 4: Size2 with the first block."""
    server = Server()
    server.answer = Source(BODY, b"\x01\x02")
    server.answer.size = 1000
    reply = server.ask(block2=block(0, False, 2))
    check.eq((reply.opt.etag, reply.opt.size2), (b"\x01\x02", 1000))
    check.eq(server.ask(block2=block(1, False, 2)).opt.etag, b"\x01\x02")


def test_source_when_it_raises_then_answers_5_00():
    """The application's fault is told, and the server lives on."""

    class Broken:
        def readinto_at(self, buffer, offset):
            raise OSError(5)

    server = Server()
    told = []
    server.engine.log = lambda text, value: told.append(value)
    server.answer = Broken()
    reply = server.ask()
    check.eq((reply.code, reply.payload, len(told)), (coap.INTERNAL_SERVER_ERROR, b"", 1))
    server.answer = b"fine"
    check.eq(server.ask().payload, b"fine")


def test_discovery_when_long_then_comes_in_blocks():
    """RFC 6690 section 4: /.well-known/core of any length."""
    server = Server()
    for n in range(80):
        server.engine.resource("sensor/%d" % n, rt="temperature")
    body = server.get_all(4, uri_path=(".well-known", "core"))
    check.eq(body.count(b"</sensor/"), 80)
    check.eq(body[-28:], b'</sensor/79>;rt="temperature"'[-28:])


def test_notification_when_large_then_has_block_0():
    """RFC 7959 section 2.6: of a notification only block 0, with what a separate response has."""
    server = Server()
    message = coap.Message(coap.CONTENT, token=b"o", remote=fake.PEER, payload=bytes(3000), observe=7)
    server.engine.extend(None, message)
    check.eq((message.opt.block2, len(message.payload), message.opt.observe), (block(0, True, 6), 1024, 7))
    assert message.opt.etag
    request = coap.Message.decode(fake.packet(coap.GET, 1, uri_path=("t",), block2=block(2, False, 4)), fake.PEER)
    message = coap.Message(coap.CONTENT, token=b"tk", remote=fake.PEER, payload=bytes(3000), observe=7)
    server.engine.extend(request, message)
    check.eq(message.opt.block2, block(0, True, 4))


# ---- amplification ----


def test_unverified_peer_when_the_answer_is_large_then_gets_136_bytes_at_most():
    """RFC 9175 section 2.4, RFC 7252 section 11.3: whatever it asks for."""
    server = Server(unverified_len=136)
    for options in ({}, {"block2": 6}, {"block2": block(1, False, 5)}, {"block2": 2}):
        reply = server.ask(**options)
        check.eq(reply.opt.block2 & 7, 2)
        assert len(reply.encode()) <= 136, len(reply.encode())
    check.eq(server.get_all(2), BODY)


def test_unverified_peer_when_the_answer_is_small_then_gets_it_whole():
    """What fits into 136 bytes is not cut."""
    server = Server(unverified_len=136)
    for length in range(60, 200):
        server.answer = bytes(length)
        reply = server.ask()
        assert len(reply.encode()) <= 136
        if len(reply.payload) == length:
            check.eq(reply.opt.block2, None)
        else:
            assert length > 100


def test_verified_peer_when_it_asks_then_gets_large_blocks():
    """The function assigned to is_verified decides."""
    server = Server(unverified_len=136)
    server.blocks.is_verified = lambda peer: peer == OTHER
    check.eq(len(server.ask(block2=6).payload), 64)
    check.eq(len(server.ask(block2=6, peer=OTHER).payload), 1000)


# ---- Block1 ----


def test_body_when_it_comes_in_blocks_then_the_handler_runs_once():
    """RFC 7959 section 2.5: 2.31 for each but the last, the handler's code for that."""
    for szx in range(7):
        server = Server()
        reply = server.put(0, szx)
        if szx < 6:
            check.eq((reply.code, reply.opt.block1), (coap.CONTINUE, block(0, True, szx)))
        reply = server.put_all(szx)
        last = 999 // (16 << szx)
        check.eq((reply.code, reply.opt.block1), (coap.CHANGED, block(last, False, szx)))
        check.eq(server.bodies[-1], BODY)
        check.eq(len(server.bodies), 1 if szx < 6 else 2)
        check.eq(server.blocks.bodies, {})


def test_block_when_block2_is_in_its_request_then_2_31_has_none():
    """RFC 7959 sections 2.9.1, 3.3: 2.31 has no payload, of which there is neither a block nor a size."""
    server = Server()
    reply = server.ask(coap.POST, BODY[:64], block1=block(0, True, 2), block2=2)
    check.eq((reply.code, reply.opt.block1), (coap.CONTINUE, block(0, True, 2)))
    check.eq((reply.opt.block2, reply.opt.size2), (None, None))


def test_body_when_smaller_blocks_are_asked_for_then_goes_on_in_them():
    """RFC 7959 section 2.3: the answer to block 0 names the size."""
    server = Server(szx=3)
    reply = server.ask(coap.PUT, BODY[:512], block1=block(0, True, 5))
    check.eq(reply.opt.block1, block(0, True, 3))
    for num in range(4, 8):
        reply = server.put(num, 3)
    check.eq((reply.code, server.bodies), (coap.CHANGED, [BODY]))


def test_block_when_one_is_missing_then_4_08():
    """RFC 7959 section 2.9.2: after a gap the client begins anew; an old block does no harm."""
    server = Server()
    for num in range(3):
        server.put(num, 4)
    check.eq(server.put(1, 4).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(server.put(3, 4).code, coap.CHANGED)
    server.put(0, 4)
    check.eq(server.put(2, 4).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(server.blocks.bodies, {})
    check.eq(server.put(1, 4).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(server.bodies, [BODY])


def test_block_when_nothing_came_before_then_4_08():
    """RFC 7959 section 2.9.2: the middle of a body that is not known, also far numbers."""
    server = Server()
    for num in (1, 5, 0xFFFFF):
        reply = server.ask(coap.PUT, bytes(1024), block1=block(num, True, 6))
        check.eq((reply.code, reply.opt.block1), (coap.REQUEST_ENTITY_INCOMPLETE, block(num, False, 6)))
    check.eq(server.ask(coap.PUT, b"x", block1=block(0xFFFFF, False, 6)).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq((server.bodies, server.blocks.bodies), ([], {}))


def test_block_when_it_came_twice_then_counts_once():
    """A block whose answer was lost and that comes with another message ID."""
    server = Server()
    server.put(0, 4)
    for _ in range(3):
        check.eq(server.put(1, 4, mtype=coap.NON).code, coap.CONTINUE)
    server.put(2, 4)
    check.eq(server.put(3, 4).code, coap.CHANGED)
    check.eq(server.bodies, [BODY])


def test_block_0_when_it_comes_again_then_begins_anew():
    """RFC 7959 section 2.5: NUM 0 overwrites what came before."""
    server = Server()
    server.put(0, 4)
    server.put(1, 4)
    body = bytes(reversed(BODY))
    check.eq(server.put_all(4, body).code, coap.CHANGED)
    check.eq(server.bodies, [body])


def test_block_when_its_length_is_wrong_then_4_00():
    """RFC 7959 section 2.2: with M the payload has the size, without at most."""
    server = Server()
    for payload, value in (
        (bytes(63), block(0, True, 2)),
        (bytes(65), block(0, True, 2)),
        (b"", block(0, True, 2)),
        (bytes(65), block(0, False, 2)),
        (bytes(100), block(1, True, 2)),
    ):
        check.eq(server.ask(coap.PUT, payload, block1=value).code, coap.BAD_REQUEST)
    check.eq((server.bodies, server.blocks.bodies), ([], {}))


def test_bodies_when_interleaved_then_are_kept_apart():
    """RFC 9175 section 3.3: by peer, method, path, options and Request-Tag."""
    server = Server(transfers=8, per_host=8)
    bodies = [bytes([n]) * 100 for n in range(6)]
    ways = [
        {},
        {"request_tag": (b"",)},
        {"request_tag": (b"a",)},
        {"uri_query": ("q",)},
        {"code": coap.POST},
        {"peer": ("192.0.2.1", 5684)},
    ]
    for num in range(7):
        for body, way in zip(bodies, ways):
            reply = server.put(num, 0, body, **way)
    assert reply.code < coap.BAD_REQUEST
    check.eq(server.bodies, bodies)


def test_bodies_when_spliced_then_are_not():
    """RFC 9175 section 3.3: a block of another tag, format or peer is no continuation."""
    server = Server(transfers=8, per_host=8)
    server.put(0, 4, request_tag=(b"a",), content_format=0)
    for way in (
        {"request_tag": (b"b",), "content_format": 0},
        {"content_format": 0},
        {"request_tag": (b"a",), "content_format": 50},
        {"request_tag": (b"a", b"b"), "content_format": 0},
        {"request_tag": (b"a",), "content_format": 0, "peer": OTHER},
        {"request_tag": (b"a",), "content_format": 0, "code": coap.POST},
    ):
        check.eq(server.put(1, 4, **way).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(server.put(1, 4, request_tag=(b"a",), content_format=0).code, coap.CONTINUE)


def test_body_when_too_long_then_4_13():
    """RFC 7959 section 2.9.3: Size1 says what would do; announced or not."""
    server = Server(body_len=600)
    reply = server.put(0, 4, size1=1000)
    check.eq((reply.code, reply.opt.size1), (coap.REQUEST_ENTITY_TOO_LARGE, 600))
    server.put(0, 4)
    server.put(1, 4)
    reply = server.put(2, 4)
    check.eq((reply.code, reply.opt.size1), (coap.REQUEST_ENTITY_TOO_LARGE, 600))
    check.eq(reply.opt.block1, block(2, False, 4))
    check.eq(server.blocks.bodies, {})
    check.eq(server.put_all(4, BODY[:600]).code, coap.CHANGED)


def test_datagram_when_too_long_then_4_13_asks_for_blocks():
    """RFC 7959 section 2.9.3: the answer names the size of blocks, and not that of a datagram, no limit here."""
    server = Server({"datagram_len": 256})
    reply = server.ask(coap.PUT, bytes(400))
    check.eq((reply.code, reply.opt.block1), (coap.REQUEST_ENTITY_TOO_LARGE, block(0, False, 3)))
    check.eq(reply.opt.size1, None)


def test_size1_when_it_is_huge_then_allocates_nothing():
    """RFC 7959 section 4: Size1 is an estimate, of anybody."""
    server = Server(sink_len=1 << 32, body_len=1 << 32)
    check.eq(server.put(0, 4, size1=0xFFFFFFFF).code, coap.CONTINUE)
    check.eq([len(body[1]) for body in server.blocks.bodies.values()], [256])


def test_body_when_nothing_comes_then_is_forgotten():
    """60 s after its latest block its next gets 4.08; RFC 7252 section 4.8.2: one may be repeated for 45 s before."""
    server = Server()
    server.put(0, 4, now_ms=0)
    server.forget(59000)
    check.eq(server.put(1, 4, now_ms=59000).code, coap.CONTINUE)
    server.forget(118000)
    check.eq(server.put(2, 4, now_ms=118000).code, coap.CONTINUE)
    server.forget(178000)
    check.eq(server.blocks.bodies, {})
    check.eq(server.put(3, 4, now_ms=178000).code, coap.REQUEST_ENTITY_INCOMPLETE)
    server.put(0, 4, now_ms=180000)
    server.put(0, 4, now_ms=185000, peer=OTHER)
    fake.run(server.engine, 185000, 250000)  # each at its time, though nothing comes
    check.eq(server.blocks.bodies, {})


def test_table_when_full_then_refuses_with_5_03():
    """A host has its share, the rest is for others; Max-Age tells when to come again."""
    server = Server()
    check.eq(server.put(0, 4).code, coap.CONTINUE)
    reply = server.put(0, 4, peer=("192.0.2.1", 9))
    check.eq((reply.code, reply.opt.max_age), (coap.SERVICE_UNAVAILABLE, 11))
    check.eq(server.put(0, 4, peer=OTHER).code, coap.CONTINUE)
    check.eq(server.put(0, 4, peer=("203.0.113.1", 1)).code, coap.SERVICE_UNAVAILABLE)
    check.eq(server.put_all(4).code, coap.CHANGED)
    check.eq(server.put(0, 4, peer=("203.0.113.1", 1)).code, coap.CONTINUE)


def test_body_when_slow_then_gives_way():
    """Slow-loris: one that came with less than 64 B/s for 10 s loses its place when another wants it."""
    server = Server()
    loris = ("203.0.113.66", 1)
    for second in range(0, 11):
        server.put(second, 0, now_ms=second * 1000, peer=loris)
    server.put(0, 4, now_ms=5000, peer=OTHER)
    server.put(1, 4, now_ms=6000, peer=OTHER)
    check.eq(server.put(0, 4, now_ms=9000).code, coap.SERVICE_UNAVAILABLE)
    check.eq(server.put(0, 4, now_ms=10500).code, coap.CONTINUE)
    check.eq(server.put(11, 0, now_ms=11000, peer=loris).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(server.put(2, 4, now_ms=11000, peer=OTHER).code, coap.CONTINUE)


def test_body_when_it_comes_fast_then_keeps_its_place():
    """One that came with 64 B/s and more does not give way, however old it is."""
    server = Server(body_len=20000, transfers=1)
    body = bytes(20000)
    server.put(0, 6, body)
    server.put(1, 6, body, now_ms=20000)
    check.eq(server.put(0, 4, now_ms=25000, peer=OTHER).code, coap.SERVICE_UNAVAILABLE)
    check.eq(server.put(2, 6, body, now_ms=26000).code, coap.CONTINUE)
    for num in range(3, 8):
        check.eq(server.put(num, 6, body, now_ms=27000).code, coap.CONTINUE)
    reply = server.put(0, 4, now_ms=85000, peer=OTHER)
    check.eq((reply.code, reply.opt.max_age), (coap.SERVICE_UNAVAILABLE, 3))  # after 60 s of silence it is forgotten


def test_body_when_its_host_begins_another_then_gives_way_after_10_s_of_silence():
    """A program that was ended and started again has another port; while blocks come it is another program."""
    server = Server(body_len=20000)
    body = bytes(20000)
    again = ("192.0.2.1", 9)
    for num in range(6):
        server.put(num, 6, body, now_ms=1000 * num)
    reply = server.put(0, 6, body, now_ms=12000, peer=again)
    check.eq((reply.code, reply.opt.max_age), (coap.SERVICE_UNAVAILABLE, 4))
    check.eq(server.put(0, 6, body, now_ms=15000, peer=again).code, coap.CONTINUE)
    check.eq(server.put(6, 6, body, now_ms=15000).code, coap.REQUEST_ENTITY_INCOMPLETE)
    server = Server(idle_ms=5000)  # less than 10 s is for all alike
    server.put(0, 4, now_ms=0)
    check.eq(server.put(0, 4, now_ms=4900, peer=again).code, coap.SERVICE_UNAVAILABLE)


def test_block_when_an_earlier_one_comes_again_then_goes_on():
    """RFC 9175 section 3.1: with a Request-Tag it is surely of this body; without, it may be of another."""
    for tags, code in (((b"a",), coap.CONTINUE), ((), coap.REQUEST_ENTITY_INCOMPLETE)):
        server = Server()
        for num in range(5):
            server.put(num, 2, request_tag=tags)
        check.eq(server.put(1, 2, bytes(1000), request_tag=tags).code, code)
        check.eq(server.put(2, 3, request_tag=tags).code, coap.REQUEST_ENTITY_INCOMPLETE)  # half of it is new
        for num in range(5, 16):
            server.put(num, 2, request_tag=tags)
        check.eq(server.bodies, [BODY])


def test_body_when_the_network_is_slow_then_keeps_its_place():
    """RFC 7252 section 4.8.1: with an ACK_TIMEOUT of 15 s nobody sends 64 B/s; three senders would stop each other."""
    for ack_timeout_ms, code in ((2000, coap.CONTINUE), (100, coap.CONTINUE), (15000, coap.SERVICE_UNAVAILABLE)):
        server = Server({"tuning": coap.Tuning(ack_timeout_ms)}, transfers=1)
        for num in range(8):  # 1024 bytes in 21 s, 8.5 bytes a second until 120 s
            server.put(num, 3, BODY * 2, now_ms=num * 3000)
        check.eq(server.put(0, 3, now_ms=24000, peer=OTHER).code, code, ack_timeout_ms)
    check.eq(server.put(0, 3, now_ms=119000, peer=OTHER).code, coap.SERVICE_UNAVAILABLE)
    check.eq(server.put(0, 3, now_ms=120000, peer=OTHER).code, coap.CONTINUE)
    check.eq(server.blocks.idle_ms, 337500)  # MAX_TRANSMIT_SPAN


def test_body_when_its_peer_is_unverified_then_gives_way_to_a_verified_one():
    """Spoofed addresses cannot hold the table against those that were proved."""
    server = Server()
    server.blocks.is_verified = lambda peer: peer == OTHER
    server.put(0, 4)
    server.put(0, 4, peer=("203.0.113.66", 1))
    check.eq(server.put(0, 4, peer=OTHER).code, coap.CONTINUE)
    check.eq(server.put(0, 4, peer=("203.0.113.67", 1)).code, coap.SERVICE_UNAVAILABLE)
    server.blocks.is_verified = lambda peer: True  # none of these gives way
    check.eq(server.put(0, 4, peer=("203.0.113.67", 1)).code, coap.SERVICE_UNAVAILABLE)


def test_duplicate_of_the_last_block_when_it_comes_then_runs_no_handler():
    """RFC 7252 section 4.5: the table of duplicates answers."""
    server = Server()
    server.put_all(4)
    datagram = fake.packet(coap.PUT, 900, payload=b"x", uri_path=("t",), block1=block(0, False, 0))
    first = fake.ask(server.engine, datagram)
    check.eq(fake.ask(server.engine, datagram), first)
    check.eq(len(server.bodies), 2)


# ---- sinks ----


def serve_sink(server, sink):
    """Have `sink`, or what it returns, take what is sent to /t."""
    server.blocks.sink(server.resource)(lambda request: sink)
    return sink


def test_sink_when_a_body_comes_then_has_it_and_the_handler_gets_the_sink():
    """A body of any length goes by offset."""
    server = Server(body_len=64)
    sink = serve_sink(server, Sink())
    check.eq(server.put_all(2).code, coap.CHANGED)
    check.eq((bytes(sink.data), sink.aborted), (BODY, 0))
    assert server.bodies[0] is sink


def test_sink_when_a_body_comes_without_blocks_then_has_it():
    """One datagram, with Block1 or without, or empty."""
    server = Server()
    sink = serve_sink(server, Sink())
    check.eq(server.ask(coap.PUT, b"one").code, coap.CHANGED)
    check.eq(bytes(sink.data), b"one")
    check.eq(server.ask(coap.PUT, b"two", block1=2).opt.block1, 2)
    check.eq(bytes(sink.data), b"two")
    check.eq(server.ask(coap.PUT).code, coap.CHANGED)
    check.eq(bytes(sink.data), b"")
    check.eq(server.ask(coap.PUT, bytes(1100)).code, coap.CHANGED)  # more than a block has
    check.eq(bytes(sink.data), bytes(1100))
    check.eq(server.bodies, [sink] * 4)
    check.eq(server.ask().code, coap.CONTENT)
    check.eq(server.get_all(4), BODY)
    check.eq((server.bodies, server.blocks.bodies), ([sink] * 4, {}))


def test_sink_when_the_body_does_not_come_whole_then_is_aborted():
    """After its idle time, when it begins anew, when it is too long, when the handler fails."""
    server = Server()
    sink = serve_sink(server, Sink())
    sink.limit_len = 600
    server.put(0, 4)
    server.put(0, 4)
    check.eq(sink.aborted, 1)
    server.forget(60000)
    check.eq(sink.aborted, 2)
    check.eq(server.put(0, 4, size1=601).opt.size1, 600)
    check.eq(sink.aborted, 3)
    server.put(0, 4)
    server.put(1, 4)
    check.eq(server.put(2, 4).code, coap.REQUEST_ENTITY_TOO_LARGE)
    check.eq(sink.aborted, 4)
    server.result = coap.FORBIDDEN
    check.eq(server.put_all(4, BODY[:600]).code, coap.FORBIDDEN)
    check.eq(sink.aborted, 5)
    server.result = coap.CHANGED
    check.eq(server.put_all(4, BODY[:600]).code, coap.CHANGED)
    check.eq((sink.aborted, server.blocks.bodies), (5, {}))


def test_sink_when_it_raises_then_answers_5_00():
    """A full disk ends the transfer, not the server."""

    class Full(Sink):
        def write_at(self, offset, data):
            if offset:
                raise OSError(28)

    server = Server()
    sink = serve_sink(server, Full())
    check.eq(server.put(0, 4).code, coap.CONTINUE)
    check.eq(server.put(1, 4).code, coap.INTERNAL_SERVER_ERROR)
    check.eq((sink.aborted, server.blocks.bodies, server.bodies), (1, {}, []))


def test_sink_when_it_is_none_then_answers_5_00():
    """What open() returned cannot be written to, or its limit is no number."""

    class Unlimited(Sink):
        limit_len = None

    for sink in ("a path", Unlimited(), object()):
        server = Server()
        serve_sink(server, sink)
        check.eq(server.put(0, 4).code, coap.INTERNAL_SERVER_ERROR)
        check.eq((server.blocks.bodies, server.bodies), ({}, []))
        check.eq(server.ask().code, coap.CONTENT)


def test_source_when_what_it_says_of_itself_cannot_be_sent_then_answers_5_00():
    """A mistake in one handler is logged and ends nothing but its answer."""

    class Forgetful(Source):
        def readinto_at(self, buffer, offset):
            Source.readinto_at(self, buffer, offset)

    sources = [Forgetful(BODY)]
    for name, value in (("size", -1), ("size", 1e6), ("size", 5 << 30), ("etag", "abc"), ("etag", bytes(9))):
        sources.append(Source(BODY * 5))
        setattr(sources[-1], name, value)
    for source in sources:
        server = Server()
        logged = []
        server.engine.log = lambda text, value: logged.append(value)  # noqa: B023
        server.answer = source
        reply = server.ask()
        check.eq((reply.code, reply.payload, reply.options), (coap.INTERNAL_SERVER_ERROR, b"", ()))
        check.eq((len(logged), server.engine._is_in_handler), (1, False))
        server.answer = b"well"
        check.eq(server.ask().payload, b"well")


def test_opener_when_it_returns_a_code_or_none_then_refuses_or_assembles():
    """A sink is chosen for each request."""
    server = Server()
    serve_sink(server, coap.FORBIDDEN)
    check.eq(server.put(0, 4).code, coap.FORBIDDEN)
    check.eq(server.ask(coap.PUT, b"x").code, coap.FORBIDDEN)
    serve_sink(server, None)
    check.eq(server.put_all(4).code, coap.CHANGED)
    check.eq(server.ask(coap.PUT, b"x").code, coap.CHANGED)
    check.eq(server.bodies, [BODY, b"x"])
    for opener in (lambda request: 1 // 0, lambda request: 7, lambda request: 192, lambda request: True):
        server.blocks.sink(server.resource)(opener)
        check.eq(server.put(0, 4).code, coap.INTERNAL_SERVER_ERROR)
        check.eq(server.blocks.bodies, {})


# ---- large answers to what must not run twice ----


def test_answer_to_a_post_when_large_then_is_kept_until_fetched():
    """RFC 7959 section 3.3: a body up, an answer down, the handler once."""
    server = Server()
    server.result = (coap.CHANGED, bytes(reversed(BODY)) * 3)
    reply = server.put_all(4, code=coap.POST, block2=4)
    check.eq((reply.code, reply.opt.block1, reply.opt.block2), (coap.CHANGED, block(3, False, 4), block(0, True, 4)))
    check.eq((reply.opt.size2, reply.opt.content_format), (3000, coap.OCTETS))
    etag = reply.opt.etag
    body = reply.payload
    for num in range(1, 12):
        reply = server.ask(coap.POST, block2=block(num, False, 4))
        check.eq((reply.code, reply.opt.etag, reply.opt.content_format), (coap.CHANGED, etag, coap.OCTETS))
        body += reply.payload
    check.eq(body, bytes(reversed(BODY)) * 3)
    check.eq(reply.opt.block2 & MORE, 0)
    check.eq((len(server.bodies), server.blocks.bodies), (1, {}))
    check.eq(server.ask(coap.POST, block2=block(1, False, 4)).code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(len(server.bodies), 1)


def test_answer_to_a_post_when_its_buffer_is_used_again_then_the_rest_is_of_the_first():
    """What is kept is a copy; a payload that comes with a later block runs no handler."""
    server = Server()
    server.result = buffer = bytearray(BODY)
    check.eq(server.ask(coap.POST, b"q", block2=4).payload, BODY[:256])
    buffer[:] = bytes(1000)
    check.eq(server.ask(coap.POST, block2=block(1, False, 4)).payload, BODY[256:512])
    check.eq(server.ask(coap.POST, b"q", block2=block(2, False, 4)).payload, BODY[512:768])
    check.eq(server.bodies, [b"q"])


def test_answer_to_a_post_when_it_has_long_options_then_each_block_fits_a_datagram():
    """RFC 7959 section 2.4: blocks become smaller."""
    server = Server({"datagram_len": 128})

    def answer(request, response):
        response.opt.location_path = ("x" * 50,)
        return BODY * 4

    server.resource.post(answer)
    for num in range(4):
        reply = server.ask(coap.POST, block2=block(num, False, 6))
        check.eq((reply.opt.location_path, len(reply.encode()) <= 128), (("x" * 50,), True))
        check.eq(reply.payload, (BODY * 4)[num * 1024 :][: len(reply.payload)])


def test_answer_when_it_is_asked_for_anew_then_the_blocks_of_the_new_one_are_kept():
    """RFC 7959 section 2.4: whether block 0 is asked for by a Block2 option, of any size, or by none."""
    for block2 in (None, 0, 2, 6, MORE | 4):
        server = Server()
        szx = 6 if block2 is None else block2 & 7
        for result in (bytes(3000), bytes(reversed(BODY)) * 3):
            server.result = result
            reply = server.ask(coap.POST, b"q", block2=block2)
        etag = reply.opt.etag
        reply = server.ask(coap.POST, block2=block(1, False, szx))
        check.eq((reply.payload, reply.opt.etag), (result[16 << szx : 32 << szx], etag), block2)


def test_answer_when_there_is_no_room_to_keep_it_then_its_code_goes_without_payload():
    """It has run: 5.03 would say that it has not, and of a first block the rest could not be fetched."""
    for code in (coap.POST, coap.PUT):
        server = Server()
        server.result = (coap.CREATED, bytes(3000))
        for host in ("192.0.2.1", "192.0.2.2"):
            check.eq(server.ask(code, b"q", peer=(host, 1)).opt.block2, block(0, True, 6))
        for options in ({}, {"block2": 4}, {"block1": 6}):
            reply = server.ask(code, b"q", peer=("192.0.2.3", 1), **options)
            check.eq((reply.code, reply.payload, reply.opt.block2), (coap.CREATED, b"", None))
            check.eq((reply.opt.etag, reply.opt.content_format, reply.opt.size2), (None, None, None))
            check.eq(reply.opt.block1, options.get("block1"))
        check.eq((len(server.bodies), len(server.blocks.bodies)), (5, 2))
        server.result = (coap.CREATED, b"short")
        check.eq(server.ask(code, b"q", peer=("192.0.2.3", 1), block2=4).payload, b"short")
        server.result = BODY
        reply = server.ask(coap.FETCH, b"q", peer=("192.0.2.3", 1), block2=4)  # who repeats its payload gets the rest
        check.eq((reply.payload, reply.opt.block2), (BODY[:256], block(0, True, 4)))


def test_answer_when_it_is_not_fetched_then_is_forgotten():
    """60 s idle."""
    server = Server()
    server.result = Source(BODY)
    check.eq(server.ask(coap.POST, b"q", block2=4).opt.block2, block(0, True, 4))
    check.eq(server.ask(coap.POST, block2=block(1, False, 4), now_ms=59000).payload, BODY[256:512])
    server.forget(118000)
    check.eq(server.ask(coap.POST, block2=block(2, False, 4), now_ms=118000).payload, BODY[512:768])
    server.forget(178000)
    check.eq(server.ask(coap.POST, block2=block(3, False, 4), now_ms=178000).code, coap.REQUEST_ENTITY_INCOMPLETE)


def test_answer_to_a_fetch_when_large_then_comes_with_and_without_payload():
    """RFC 8132 section 2: clients repeat the payload for each block, or they do not."""
    server = Server()
    server.result = (coap.CHANGED, BODY)
    server.ask(coap.FETCH, b"all", block2=4)
    check.eq(server.ask(coap.FETCH, b"all", block2=block(1, False, 4)).payload, BODY[256:512])
    check.eq((len(server.bodies), server.blocks.bodies), (2, {}))
    server.ask(coap.FETCH, b"all", block2=4)
    body = b"".join([server.ask(coap.FETCH, block2=block(num, False, 4)).payload for num in range(1, 4)])
    check.eq((body, len(server.bodies), server.blocks.bodies), (BODY[256:], 3, {}))


def test_separate_response_when_large_then_is_cut_as_its_request_asks():
    """LATER: blocks, Block1 and the kept answer come with the separate response, too."""
    server = Server()
    promised = []

    def write(request, response):
        promised.append(response.copy(code=coap.CHANGED, payload=request.payload))
        return coap.LATER

    server.resource.post(write)
    check.eq(fake.head(server.put_all(4, code=coap.POST, block2=3).encode())[1], 0)
    server.ask(coap.GET, block2=6)  # another request in between
    server.engine.send(promised.pop())
    message = coap.Message.decode(fake.due(server.engine, 10)[0])
    check.eq((message.opt.block1, message.opt.block2), (block(3, False, 4), block(0, True, 3)))
    check.eq(message.payload, BODY[:128])
    check.eq(server.ask(coap.POST, block2=block(1, False, 3)).payload, BODY[128:256])


def promising(server):
    """Have GET answer later; returns the list of the promised responses, each with BODY."""
    promised = []

    @server.resource.get
    def read(request, response):
        promised.append(response.copy(payload=BODY))
        return coap.LATER

    return promised


def test_separate_response_when_a_later_block_was_asked_for_then_is_that_block():
    """A GET whose handler always answers later."""
    server = Server()
    promised = promising(server)
    server.ask(block2=block(2, False, 4))
    server.engine.send(promised.pop())
    message = coap.Message.decode(fake.due(server.engine, 10)[0])
    check.eq((message.payload, message.opt.block2), (BODY[512:768], block(2, True, 4)))


def test_separate_response_when_the_queue_was_full_then_the_second_try_sends_the_whole_body():
    """RFC 7959 section 2.2: what was cut for the first try is not taken for the body."""
    server = Server()
    promised = promising(server)
    server.ask(block2=block(0, False, 2))
    for _ in range(8):
        server.engine.send(coap.Message(coap.GET), OTHER)
    check.raises(coap.Full, server.engine.send, promised[0])
    fake.due(server.engine, 10)
    server.engine.send(promised[0])
    message = coap.Message.decode(fake.due(server.engine, 10)[0])
    check.eq((message.payload, message.opt.block2), (BODY[:64], block(0, True, 2)))


def test_separate_response_when_it_answers_something_else_then_begins_with_block_0():
    """A message made from the response of a request, but for another token or peer, as notifications are."""
    server = Server()
    copies = []

    @server.resource.get
    def read(request, response):
        copies.append(response.copy(payload=BODY * 2))
        return b""

    for changes in ({"token": b"other"}, {"remote": OTHER}, {}):
        server.ask(block2=block(2, False, 4))
        message = copies.pop().copy(**changes)
        server.engine.extend(None, message)
        check.eq(message.opt.block2, block(0, True, 6) if changes else block(2, True, 4), changes)


def test_notification_of_a_fetch_when_large_then_keeps_nothing():
    """Its later blocks are FETCHes with their payload."""
    server = Server()
    request = coap.Message.decode(fake.packet(coap.FETCH, 1, payload=b"q", uri_path=("t",), observe=0), fake.PEER)
    message = coap.Message(coap.CONTENT, token=b"tk", remote=fake.PEER, payload=bytes(3000), observe=7)
    server.engine.extend(request, message)
    check.eq((message.opt.block2, server.blocks.bodies), (block(0, True, 6), {}))


def test_application_when_it_answers_itself_then_gets_whole_bodies_and_is_cut():
    """An endpoint without resources: respond() takes any payload."""
    engine = fake.engine()
    coap_block.attach(engine, unverified_len=None)
    for num in range(4):
        fake.ask(engine, fake.packet(coap.PUT, num, payload=BODY[num * 256 : num * 256 + 256],
                                     block1=block(num, num < 3, 4)))  # fmt: skip
    record = engine.received
    check.eq(record.message.payload, BODY)
    record.respond(coap.CHANGED, bytes(2000))
    reply = coap.Message.decode(fake.due(engine, 0)[0])
    check.eq((reply.opt.block1, reply.opt.block2, len(reply.payload)), (block(3, False, 4), block(0, True, 6), 1024))


# ---- hostile ----

_UP = b"a" * 1024
HOSTILE = (  # name, datagram to /t, allowed codes
    ("far NUM", b"\x40\x03\0\x50\xb1t\xd1\x03\x5e\xff" + _UP, (coap.REQUEST_ENTITY_INCOMPLETE,)),
    ("SZX 7", b"\x40\x03\0\x52\xb1t\xd1\x03\x07\xffa", (coap.BAD_REQUEST,)),
    ("Size1 2**32-1", b"\x40\x03\0\x54\xb1t\xd1\x03\x0e\xd4\x14\xff\xff\xff\xff\xff" + _UP,
     (coap.CONTINUE, coap.REQUEST_ENTITY_TOO_LARGE)),
    ("4 bytes of Block1", b"\x40\x03\0\x55\xb1t\xd4\x03\0\0\0\x08\xff" + b"a" * 16, (coap.BAD_OPTION,)),
    ("4 bytes of Block2", b"\x40\x01\0\x56\xb1t\xc4\0\0\0\x08", (coap.BAD_OPTION,)),
    ("Block1 twice", b"\x40\x03\0\x57\xb1t\xd1\x03\x08\x01\x08\xff" + b"a" * 16, (coap.BAD_OPTION,)),
    ("Block2 twice", b"\x40\x01\0\x58\xb1t\xc1\x00\x01\x00", (coap.BAD_OPTION,)),
    ("Block1 of a GET", b"\x40\x01\0\x59\xb1t\xd1\x03\x18\xff" + b"a" * 16, (coap.REQUEST_ENTITY_INCOMPLETE,)),
    ("largest NUM", b"\x40\x01\0\x5a\xb1t\xc3\xff\xff\xfe", (coap.BAD_REQUEST,)),
    ("leading zeros", b"\x40\x01\0\x5b\xb1t\xc3\0\0\x02", (coap.CONTENT,)),
    ("M without payload", b"\x40\x03\0\x5c\xb1t\xd1\x03\x08", (coap.BAD_REQUEST,)),
    ("both, far", b"\x40\x02\0\x5d\xb1t\xc3\x05\x58\xe6\x43\x05\x58\xe6\xff" + _UP, (coap.REQUEST_ENTITY_INCOMPLETE,)),
)  # fmt: skip


def test_hostile_datagrams_when_they_come_then_get_the_documented_answer():
    """RFC 7959 section 7: nothing raises, nothing stays."""
    for name, datagram, allowed in HOSTILE:
        server = Server()
        reply = fake.ask(server.engine, datagram)
        assert reply is not None and reply.code in allowed, (name, reply)
        server.forget(60000)
        check.eq(server.blocks.bodies, {}, name)
        check.eq(fake.head(server.engine.receive(fake.empty(coap.CON, 7), fake.PEER, 60000)), (coap.RST, 0, 7))


def test_request_without_blocks_when_answered_allocates_nothing():
    """The extension costs no memory per exchange."""
    server = Server(unverified_len=136)
    server.resource.get(lambda request, response: b"22.5 C")
    datagram = fake.packet(coap.GET, 77, coap.NON, uri_path=("t",))
    engine = server.engine
    peer = fake.PEER

    def exchange():
        engine._duplicates.mids[77 % engine._duplicates.recent] = -1
        return engine.receive(datagram, peer, 0)

    check.no_alloc(exchange)
