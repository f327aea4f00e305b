"""Block-wise transfers, the client (RFC 7959): whole bodies through the usual calls, sinks and sources by offset."""

import check
import coap
import coap_block
import fake

SERVER = ("192.0.2.99", 5683)
CLIENT = ("192.0.2.1", 5683)
BODY = bytes([i * 7 % 251 for i in range(5000)])
MORE = 8


def block(num, more, szx):
    """The value of a Block option."""
    return num << 4 | (MORE if more else 0) | szx


class Source:
    """Bytes that are read by offset."""

    def __init__(self, data, size=None):
        self.data = data
        if size is not None:
            self.size = size

    def readinto_at(self, buffer, offset):
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


class Sink:
    """What came, and at which offsets."""

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.offsets = []

    def write_at(self, offset, data):
        self.offsets.append(offset)
        self.data[offset:] = data


def noting(told):
    """A progress callback that appends to the list `told`."""
    return lambda done_len, total_len: told.append((done_len, total_len))


class Pair:
    """A client and a server with /t on a virtual network, both with blocks."""

    def __init__(self, server_limits=None, network=None, tables=None, **limits):
        self.network = fake.Network(**(network or {}))
        self.server = self.network.add(SERVER)
        self.client = self.network.add(CLIENT, **(tables or {}))
        server_limits = dict(server_limits or {})
        server_limits.setdefault("unverified_len", None)
        server_limits.setdefault("body_len", 100000)
        self.server_blocks = coap_block.attach(self.server, **server_limits)
        limits.setdefault("body_len", 100000)
        self.blocks = coap_block.attach(self.client, **limits)
        self.resource = self.server.resource("t")
        self.resource.get(self.read)
        self.resource.put(self.write)
        self.resource.post(self.write)
        self.resource.on(coap.FETCH)(self.write)
        self.answer = BODY
        self.result = None
        self.bodies = []
        self.network.trace = []

    def read(self, request, response):
        return self.answer

    def write(self, request, response):
        self.bodies.append(request.payload)
        return self.result

    def send(self, code=coap.GET, payload=b"", until=None, **fields):
        """The record of a request that has ended; `fields` of Blocks.send or of the message."""
        by_send = {}
        for name in ("sink", "source", "offset", "etag", "progress", "timeout_ms"):
            if name in fields:
                by_send[name] = fields.pop(name)
        message = coap.Message(code, payload=payload, uri_path=("t",), **fields)
        if "sink" in by_send or "source" in by_send:
            record = self.blocks.send(message, SERVER, **by_send)
        else:
            record = self.client.send(message, SERVER, **by_send)
        self.network.run(4000000, until or record.is_done)
        return record

    def messages(self, source):
        """What came from `source`, as messages."""
        return [coap.Message.decode(item[2]) for item in self.network.trace if item[0] == source]


class Script:
    """A client whose server is played by a list of functions, request -> (code, fields)."""

    def __init__(self, *answers, **limits):
        self.engine = fake.engine()
        self.blocks = coap_block.attach(self.engine, **limits)
        self.answers = list(answers)
        self.asked = []

    def send(self, code=coap.GET, payload=b"", mtype=coap.CON, **fields):
        """The record of a request after all answers."""
        message = coap.Message(code, payload=payload, uri_path=("t",), mtype=mtype)
        if fields:
            record = self.blocks.send(message, SERVER, **fields)
        else:
            record = self.engine.send(message, SERVER)
        self.mid = 100
        self.answer_all(0)
        return record

    def answer_all(self, now_ms):
        """Answer what is sent at `now_ms`, until there is nothing or no answer is left."""
        packed = self.engine.due(now_ms)
        while packed is not None:
            request = coap.Message.decode(bytes(packed))
            if request.code:
                self.asked.append(request)
                if not self.answers:
                    return
                code, fields = self.answers.pop(0)(request)
                mtype = coap.ACK if request.mtype == coap.CON else coap.NON
                self.mid += 1
                mid = request.mid if mtype == coap.ACK else self.mid
                self.engine.receive(fake.packet(code, mid, mtype, request.token, **fields), SERVER, now_ms)
            packed = self.engine.due(now_ms)


def piece(num, more, szx=0, body=BODY, code=coap.CONTENT, **fields):
    """An answer: block `num` of a body."""
    size = 16 << szx
    fields["payload"] = body[num * size : num * size + size]
    return lambda request: (code, dict(fields, block2=block(num, more, szx)))


def taken(code=coap.CONTINUE, szx=None):
    """An answer: the block was taken."""

    def answer(request):
        value = request.opt.block1
        return code, {"block1": value & ~7 | (value & 7 if szx is None else szx)}

    return answer


# ---- down ----


def test_body_when_it_comes_in_blocks_then_the_response_has_it_whole():
    """RFC 7959 section 2.4: send() and the record, nothing else to be seen."""
    pair = Pair()
    record = pair.send()
    message = record.response.message
    check.eq((record.error, message.code, message.payload), (None, coap.CONTENT, BODY))
    check.eq((message.opt.block2, message.request), (None, record.message))
    assert message.opt.etag and pair.client.received is record.response
    numbers = [request.opt.block2 for request in pair.messages(CLIENT)]
    check.eq(numbers, [None] + [block(num, False, 6) for num in range(1, 5)])
    tokens = [request.token for request in pair.messages(CLIENT)]
    check.eq(len(set(tokens)), 5)


def test_body_when_asked_for_in_small_blocks_then_comes_in_those():
    """RFC 7959 section 2.4: early negotiation."""
    pair = Pair()
    pair.answer = BODY[:1000]
    check.eq(pair.send(block2=2).response.message.payload, pair.answer)
    check.eq(len(pair.messages(CLIENT)), 16)
    pair = Pair(szx=3)
    pair.answer = BODY[:1000]
    check.eq(pair.send().response.message.payload, pair.answer)
    check.eq([request.opt.block2 & 7 for request in pair.messages(CLIENT)], [3] * 8)


def test_body_when_it_goes_by_non_then_all_blocks_do():
    """RFC 7252 section 4.3: the type of the request is that of its blocks."""
    pair = Pair()
    check.eq(pair.send(mtype=coap.NON).response.message.payload, BODY)
    check.eq([request.mtype for request in pair.messages(CLIENT)], [coap.NON] * 5)


def test_body_when_the_server_takes_smaller_blocks_then_numbers_count_in_them():
    """RFC 7959 section 2.4: the size changes half-way."""
    script = Script(piece(0, True, 2), piece(4, True, 0), piece(5, False, 0))
    record = script.send()
    check.eq(record.response.message.payload, BODY[:96])
    check.eq([request.opt.block2 for request in script.asked], [None, block(1, False, 2), block(5, False, 0)])


def test_body_when_too_long_then_the_record_ends_with_full():
    """A body that grows for ever is not assembled."""
    pair = Pair(body_len=3000)
    record = pair.send()
    check.eq((record.error, record.response), (coap.Full, None))
    check.eq(len(pair.messages(CLIENT)), 3)


def test_blocks_when_they_do_not_fit_together_then_format_error():
    """RFC 7959 section 2.4: another number, a wrong length, the reserved size, no block at all."""
    for answer in (
        piece(2, True),
        piece(0, True),
        lambda request: (coap.CONTENT, {"block2": block(1, True, 0), "payload": b"short"}),
        lambda request: (coap.CONTENT, {"block2": block(1, True, 0), "payload": bytes(17)}),
        lambda request: (coap.CONTENT, {"block2": block(1, False, 0), "payload": bytes(17)}),
        lambda request: (coap.CONTENT, {"block2": block(1, True, 7), "payload": bytes(2048)[:1000]}),
        lambda request: (coap.CONTENT, {"payload": b"whole"}),
    ):
        script = Script(piece(0, True), answer)
        record = script.send()
        check.eq((record.error, record.response, script.engine.received), (coap.FormatError, None, None))
        check.eq((script.engine._open, script.engine._queue), ([], []))


def test_error_when_it_comes_for_a_later_block_then_is_the_response():
    """RFC 7959 section 2.4: what a block is answered with is what the caller learns."""
    record = Script(piece(0, True), lambda request: (coap.NOT_FOUND, {"payload": b"gone"})).send()
    message = record.response.message
    check.eq((record.error, message.code, message.payload), (None, coap.NOT_FOUND, b"gone"))


def test_body_when_it_has_become_shorter_than_the_blocks_that_came_then_all_is_fetched_again():
    """RFC 7959 section 2.4: there is no such block any more; a 4.00 to the first block is the response."""

    def refusal(request):
        return coap.BAD_REQUEST, {}

    script = Script(piece(0, True, etag=b"1"), piece(1, True, etag=b"1"), refusal, piece(0, False, etag=b"2"))
    message = script.send().response.message
    check.eq((message.code, message.payload, message.opt.etag), (coap.CONTENT, BODY[:16], b"2"))
    check.eq([request.opt.block2 for request in script.asked[1:]], [16, 32, 0])
    script = Script(piece(0, True, etag=b"1"), refusal, refusal)
    check.eq((script.send().response.message.code, len(script.asked)), (coap.BAD_REQUEST, 3))
    first = piece(0, True, etag=b"1")
    script = Script(first, refusal, first, refusal, first, refusal)  # it has another reason: once is enough
    check.eq((script.send().response.message.code, len(script.asked)), (coap.BAD_REQUEST, 4))


def test_etag_when_it_changes_then_all_is_fetched_again():
    """RFC 7959 section 2.4: blocks of two representations are never joined."""
    other = bytes(reversed(BODY))
    script = Script(
        piece(0, True, etag=b"1"),
        piece(1, True, etag=b"1"),
        piece(2, True, body=other, etag=b"2"),
        piece(0, True, body=other, etag=b"2"),
        piece(1, False, body=other, etag=b"2"),
    )
    message = script.send().response.message
    check.eq((message.payload, message.opt.etag), (other[:32], b"2"))
    check.eq([request.opt.block2 for request in script.asked[1:]], [16, 32, 0, 16])


def test_etag_when_it_changes_all_the_time_then_error():
    """It ends after three new beginnings."""
    answers = [piece(n & 1, True, etag=bytes([n])) for n in range(20)]
    script = Script(*answers)
    check.eq(script.send().error, coap.Error)
    check.eq(len(script.asked), 8)


def test_etag_of_an_answer_when_it_changes_then_error():
    """A POST is not executed again."""
    script = Script(piece(0, True, code=coap.CHANGED, etag=b"1"), piece(1, True, code=coap.CHANGED, etag=b"2"))
    check.eq(script.send(coap.POST, b"x").error, coap.Error)
    check.eq([request.payload for request in script.asked], [b"x", b""])


def test_peer_when_it_falls_silent_then_timeout():
    """RFC 7252 section 4.2: each block has the time of a request."""
    script = Script(piece(0, True))
    record = script.send()
    check.eq(record.is_done(), False)
    fake.run(script.engine, 0, 100000)
    check.eq((record.error, script.engine._open), (coap.Timeout, []))


def test_record_when_cancelled_then_no_block_is_asked_for():
    """The block on its way is the last."""
    script = Script(piece(0, True))
    record = script.send()
    record.cancel()
    script.engine.receive(fake.packet(coap.CONTENT, script.asked[1].mid, coap.ACK, script.asked[1].token,
                                      payload=BODY[:16], block2=block(1, True, 0)), SERVER, 10)  # fmt: skip
    check.eq((script.engine._open, script.engine._queue, script.engine.received), ([], [], None))


def test_record_when_cancelled_then_its_block_does_not_go_again_and_the_peer_is_free():
    """NSTART: a request for a block that nobody waits for would hold up others for 93 s."""
    for code, payload, answer in ((coap.GET, b"", piece(0, True)), (coap.PUT, BODY, taken())):
        script = Script(answer)
        record = script.send(code, payload)
        ended = []
        script.engine.on_end = ended.append
        record.cancel()
        check.eq((ended, record.error), ([record], None))
        other = script.engine.send(coap.Message(coap.GET, uri_path=("other",)), SERVER)
        sent = [coap.Message.decode(datagram) for _, datagram in fake.run(script.engine, 10, 100000)]
        check.eq([message.opt.uri_path for message in sent], [("other",)] * 5)
        check.eq((other.error, script.engine._open), (coap.Timeout, []))


def test_record_when_progress_cancels_it_then_no_more_blocks():
    """From within a callback, in the middle and at the end."""
    for code, payload, answers in (
        (coap.GET, None, (piece(0, True), piece(1, False))),
        (coap.PUT, BODY[:1500], (taken(), taken(coap.CHANGED))),
    ):
        for calls in (1, 2):
            script = Script(*answers)
            told = []

            def progress(done_len, total_len):
                told.append(done_len)  # noqa: B023
                if len(told) == calls:  # noqa: B023
                    script.engine._open[-1 if calls == 1 else 0].cancel()  # noqa: B023

            source = Source(payload) if payload else None
            record = script.send(code, source=source, progress=progress)
            check.eq((len(script.asked), len(told)), (calls, calls))
            check.eq((record.is_done(), record.response, record.error), (True, None, None))
            check.eq((script.engine._open, script.engine._queue, script.engine.received), ([], [], None))


def test_plain_get_when_its_answer_has_observe_then_it_is_no_observation():
    """RFC 7641 section 3.1: only who has registered gets notifications; a later one does not keep it open."""
    for observe in (None, 0):  # 0: asked for by hand, and nobody takes notifications
        for late in ({}, {"observe": 7}, {"observe": 7, "block2": block(0, True, 6)}):
            engine = fake.engine()
            coap_block.attach(engine)
            message = coap.Message(coap.GET, uri_path=("t",), observe=observe)
            record = engine.send(message, SERVER, 5000)
            first = fake.head(fake.due(engine, 0)[0])[2]
            answer = fake.packet(coap.CONTENT, first, coap.ACK, record.token, observe=5, block2=block(0, True, 6),
                                 payload=bytes(1024))  # fmt: skip
            engine.receive(answer, SERVER, 1)
            fake.due(engine, 2)
            engine.receive(fake.packet(coap.CONTENT, 7, coap.NON, record.token, payload=bytes(1024), **late), SERVER, 3)
            fake.run(engine, 4, 100000)
            check.eq((record.error, engine._open, engine._queue), (coap.Timeout, [], []), (observe, late))


def test_message_when_used_again_at_once_then_each_body_goes_where_it_was_sent():
    """What is given to send may be changed as soon as that returns."""
    pair = Pair()
    pair.server.resource("b").put(lambda request, response: pair.bodies.append((request.payload, b"b")))
    message = coap.Message(coap.PUT, uri_path=("t",), payload=BODY)
    records = [pair.client.send(message, SERVER)]
    message.opt.uri_path = ("b",)
    message.payload = b"small"
    records.append(pair.client.send(message, SERVER))
    message.payload = b"never sent"
    pair.network.run(100000, lambda: all([record.is_done() for record in records]))
    check.eq(pair.bodies, [(b"small", b"b"), BODY])
    check.eq([record.response.message.code for record in records], [coap.CHANGED] * 2)
    check.eq([record.message.payload for record in records], [BODY, b"small"])


def test_block_when_others_fill_the_queue_then_it_goes_all_the_same():
    """coap.Full is for what has not begun."""
    script = Script()
    record = script.send()
    first = script.asked.pop()
    others = []
    while len(others) < 8:
        others.append(script.engine.send(coap.Message(coap.GET), ("192.0.2.200", 5683)))
    check.raises(coap.Full, script.engine.send, coap.Message(coap.GET), ("192.0.2.200", 5683))
    code, fields = piece(0, True)(first)
    script.engine.receive(fake.packet(code, first.mid, coap.ACK, first.token, **fields), SERVER, 0)
    check.eq((record.error, len(script.engine._queue)), (None, 9))
    sent = [coap.Message.decode(datagram).opt.block2 for datagram in fake.due(script.engine, 0)]
    check.eq(sent, [None, block(1, False, 0)])


def test_body_when_it_is_large_and_for_a_group_then_value_error():
    """RFC 7959 section 2.8 has Block2 in mind; Block1 needs somebody who says to go on."""
    engine = fake.engine()
    blocks = coap_block.attach(engine)
    group = ("224.0.1.187", 5683)
    message = coap.Message(coap.PUT, uri_path=("t",), payload=bytes(1025))
    check.raises(ValueError, engine.send, message, group, contains="group")
    message.payload = bytes(1024)
    check.raises(ValueError, blocks.send, message, group, sink=Sink(), contains="group")
    engine.send(message, group)
    check.eq([datagram[1] for datagram in fake.due(engine, 0)], [coap.PUT])


def test_first_response_when_doubled_then_counts_once():
    """A NON that the network doubles."""
    script = Script(piece(0, True))
    record = script.send(mtype=coap.NON)
    datagram = fake.packet(coap.CONTENT, 900, coap.NON, record.token, payload=BODY[:16], block2=block(0, True, 0))
    script.engine.receive(datagram, SERVER, 0)
    check.eq((len(script.engine._open), record.is_done(), script.engine.received), (2, False, None))


def test_group_when_it_answers_in_blocks_then_the_first_are_given():
    """RFC 7959 section 2.8: the rest is for a unicast request."""
    engine = fake.engine()
    coap_block.attach(engine)
    record = engine.send(coap.Message(coap.GET, uri_path=("t",)), ("224.0.1.187", 5683))
    fake.due(engine, 0)
    engine.receive(fake.packet(coap.CONTENT, 1, coap.NON, record.token, payload=bytes(16), block2=8), SERVER, 1)
    check.eq(engine.received.message.opt.block2, 8)


# ---- sinks ----


def test_download_when_it_goes_well_then_the_sink_has_the_body():
    """By offset, with progress; the response has no payload."""
    pair = Pair()
    sink = Sink()
    told = []
    record = pair.send(sink=sink, progress=noting(told))
    message = record.response.message
    check.eq((record.error, message.payload, bytes(sink.data)), (None, b"", BODY))
    check.eq(sink.offsets, [0, 1024, 2048, 3072, 4096])
    check.eq(told, [(offset, 5000) for offset in (1024, 2048, 3072, 4096, 5000)])
    check.eq((record.transfer.offset, record.transfer.total), (5000, 5000))


def test_download_when_the_body_is_small_or_empty_then_the_sink_has_it():
    """No blocks, one block, no body."""
    for body in (b"", b"small", bytes(1024)):
        for fields in ({}, {"block2": 6}):
            pair = Pair()
            pair.answer = body
            sink = Sink(b"old")
            record = pair.send(sink=sink, **fields)
            check.eq((record.error, bytes(sink.data), record.response.message.payload), (None, body, b""))


def test_download_when_it_is_resumed_then_goes_on_at_the_offset():
    """Block2 NUM above 0 in the first request."""
    pair = Pair()
    sink = Sink(BODY[:2048])
    record = pair.send(sink=sink, offset=2048)
    check.eq((record.error, bytes(sink.data), sink.offsets), (None, BODY, [2048, 3072, 4096]))
    sink = Sink(BODY[:2050])
    record = pair.send(sink=sink, offset=2050)
    check.eq((record.error, bytes(sink.data), sink.offsets), (None, BODY, [2048, 3072, 4096]))


def test_download_when_resumed_with_the_etag_of_another_body_then_begins_anew():
    """RFC 7959 section 2.4: the ETag tells whether the old part is still right."""
    pair = Pair()
    etag = pair.send(sink=Sink()).response.message.opt.etag
    sink = Sink(BODY[:2048])
    pair.send(sink=sink, offset=2048, etag=etag)
    check.eq((bytes(sink.data), sink.offsets), (BODY, [2048, 3072, 4096]))
    pair.answer = bytes(reversed(BODY))
    sink = Sink(BODY[:2048])
    pair.send(sink=sink, offset=2048, etag=etag)
    check.eq((bytes(sink.data), sink.offsets), (pair.answer, [0, 1024, 2048, 3072, 4096]))


def test_download_when_the_sink_raises_or_is_full_then_error():
    """What the application cannot store ends the transfer, and not the client."""

    class Broken:
        def write_at(self, offset, data):
            raise OSError(28)

    pair = Pair()
    check.eq(pair.send(sink=Broken()).error, coap.Error)
    sink = Sink()
    sink.limit_len = 3000
    check.eq((pair.send(sink=sink).error, len(sink.data)), (coap.Full, 2048))

    class Starved(bytearray):
        def __setitem__(self, at, data):
            raise MemoryError

    check.eq(pair.send(sink=Starved()).error, coap.Full)


def test_transfer_when_a_sink_or_source_does_not_work_then_error():
    """What is wrong with them is found when the answer comes: it ends this transfer and is logged."""

    class Unlimited(Sink):
        limit_len = None

    class Wrong(Sink):
        write_at = None

    class Forgetful(Source):
        def readinto_at(self, buffer, offset):
            Source.readinto_at(self, buffer, offset)
            return None if offset else len(buffer)

    for fields in ({"sink": Wrong()}, {"sink": Unlimited()}, {"source": Forgetful(BODY)}):
        script = Script(taken() if "source" in fields else piece(0, True))
        logged = []
        script.engine.log = lambda text, value: logged.append(type(value))  # noqa: B023
        record = script.send(coap.PUT if "source" in fields else coap.GET, **fields)
        check.eq((record.error, record.response, len(logged)), (coap.Error, None, 1), fields)
        check.eq((script.engine._open, script.engine._queue, script.engine.received), ([], [], None))


def test_download_when_numbers_are_used_up_then_error():
    """RFC 7959 section 2.2: NUM has 20 bits."""
    sink = Sink()
    sink.limit_len = 1 << 30
    script = Script(lambda request: (coap.CONTENT, {"block2": request.opt.block2 | MORE, "payload": bytes(16)}), szx=0)
    record = script.send(sink=sink, offset=0xFFFFF * 16)
    check.eq((script.asked[0].opt.block2, record.error), (0xFFFFF0, coap.FormatError))


def test_download_when_refused_then_nothing_is_written():
    """4.xx and 5.xx are returned."""
    pair = Pair()
    pair.answer = (coap.FORBIDDEN, b"no")
    sink = Sink(b"old")
    record = pair.send(sink=sink)
    check.eq((record.response.message.code, record.response.message.payload), (coap.FORBIDDEN, b"no"))
    check.eq(bytes(sink.data), b"old")


# ---- up ----


def test_body_when_it_is_large_then_goes_in_blocks():
    """RFC 7959 section 2.5, RFC 9175 section 3: Size1, one Request-Tag, the handler once."""
    pair = Pair()
    record = pair.send(coap.PUT, BODY, content_format=coap.OCTETS)
    message = record.response.message
    check.eq((record.error, message.code, pair.bodies), (None, coap.CHANGED, [BODY]))
    asked = pair.messages(CLIENT)
    check.eq([request.opt.block1 for request in asked], [block(num, num < 4, 6) for num in range(5)])
    check.eq([request.opt.size1 for request in asked], [5000, None, None, None, None])
    check.eq(len(set([request.opt.request_tag for request in asked])), 1)
    check.eq([request.opt.content_format for request in asked], [coap.OCTETS] * 5)
    pair.send(coap.PUT, BODY)
    assert pair.messages(CLIENT)[-1].opt.request_tag != asked[0].opt.request_tag


def test_body_when_no_response_is_wanted_then_all_of_it_goes_all_the_same():
    """RFC 7967 section 2, RFC 7959 section 2.3: a block goes when the one before was answered, so each is."""
    for mtype in (coap.CON, coap.NON):
        pair = Pair()
        record = pair.send(coap.PUT, BODY, mtype=mtype, no_response=26)
        check.eq((pair.bodies, record.error, record.response.message.code), ([BODY], None, coap.CHANGED))
        check.eq([message.opt.no_response for message in pair.messages(CLIENT)], [None] * 5)
        pair = Pair()
        check.eq(pair.send(coap.PUT, b"x", mtype=mtype, no_response=26).error, None)
        pair.network.run()  # a NON is done when it is sent
        check.eq((pair.bodies, pair.messages(CLIENT)[0].opt.no_response), ([b"x"], 26))


def test_body_when_the_server_takes_smaller_blocks_then_goes_on_in_them():
    """RFC 7959 section 2.3: NUM is converted."""
    script = Script(taken(szx=0), taken(), taken(coap.CHANGED), szx=1)
    record = script.send(coap.PUT, BODY[:64])
    check.eq(record.response.message.code, coap.CHANGED)
    check.eq([r.opt.block1 for r in script.asked], [block(0, True, 1), block(2, True, 0), block(3, False, 0)])
    check.eq(b"".join([request.payload for request in script.asked]), BODY[:64])


def test_upload_when_the_server_lost_it_then_begins_anew():
    """RFC 7959 section 2.9.2: 4.08, with another Request-Tag; three times."""
    lost = taken(coap.REQUEST_ENTITY_INCOMPLETE)
    script = Script(taken(), lost, taken(), taken(), taken(coap.CHANGED), szx=0)
    record = script.send(coap.PUT, BODY[:48])
    check.eq(record.response.message.code, coap.CHANGED)
    check.eq([request.opt.block1 >> 4 for request in script.asked], [0, 1, 0, 1, 2])
    assert script.asked[0].opt.request_tag == script.asked[1].opt.request_tag != script.asked[2].opt.request_tag
    script = Script(*[lost] * 9, szx=0)
    check.eq(script.send(coap.PUT, BODY[:48]).response.message.code, coap.REQUEST_ENTITY_INCOMPLETE)
    check.eq(len(script.asked), 4)


def test_upload_when_4_13_asks_for_smaller_blocks_then_begins_anew_in_them():
    """RFC 7959 section 2.9.3: in the middle, or to a body that went whole; without a size it is the end."""
    small = taken(coap.REQUEST_ENTITY_TOO_LARGE, 0)
    script = Script(taken(), small, taken(), taken(), taken(), taken(coap.CHANGED), szx=1)
    check.eq(script.send(coap.PUT, BODY[:64]).response.message.code, coap.CHANGED)
    check.eq([request.opt.block1 for request in script.asked][2:], [block(num, num < 3, 0) for num in range(4)])
    hint = lambda request: (coap.REQUEST_ENTITY_TOO_LARGE, {"block1": 0})  # noqa: E731
    script = Script(hint, taken(), taken(coap.CHANGED))
    check.eq(script.send(coap.PUT, BODY[:32]).response.message.code, coap.CHANGED)
    refused = lambda request: (coap.REQUEST_ENTITY_TOO_LARGE, {"size1": 16})  # noqa: E731
    message = Script(refused, szx=0).send(coap.PUT, BODY[:32]).response.message
    check.eq((message.code, message.opt.size1), (coap.REQUEST_ENTITY_TOO_LARGE, 16))


def test_upload_when_4_13_asks_for_blocks_of_the_same_size_then_it_has_ended():
    """RFC 7959 section 2.9.3: who says so each time must not keep the client busy for ever."""
    for szx in (1, 2, 6):
        script = Script(taken(), *[taken(coap.REQUEST_ENTITY_TOO_LARGE, szx)] * 5, szx=1)
        record = script.send(coap.PUT, BODY[:80])
        check.eq((record.response.message.code, len(script.asked)), (coap.REQUEST_ENTITY_TOO_LARGE, 2), szx)


def test_answer_when_its_block_options_ask_for_nothing_then_it_is_the_response():
    """RFC 7959 sections 2.4 and 2.9.3: what went whole goes again only if 4.13 asks for smaller blocks."""
    for code, fields in (
        (coap.REQUEST_ENTITY_TOO_LARGE, {"block2": 0}),
        (coap.REQUEST_ENTITY_TOO_LARGE, {"block1": 2}),
        (coap.CHANGED, {"block1": 0}),
        (coap.NOT_FOUND, {"block2": block(0, True, 0), "payload": BODY[:16]}),
    ):
        script = Script(*[lambda request, reply=(code, fields): reply] * 3)
        record = script.send(coap.PUT, BODY[:32])
        check.eq((record.error, len(script.asked)), (None, 1), fields)
        check.eq(record.response.message.code, code)


def test_progress_when_called_then_nothing_may_be_received_meanwhile():
    """As in a handler: another datagram would overwrite the message in hand."""
    pair = Pair()
    told = []
    pair.send(progress=lambda done_len, total_len: told.append(pair.client._is_in_handler), sink=Sink())
    check.eq((told, pair.client._is_in_handler), ([True] * 5, False))


def test_request_when_one_before_or_within_a_transfer_failed_or_is_none_then_it_is_no_transfer():
    """Blocks.send: the Transfer is of the request that it sends, of no other."""
    pair = Pair()
    check.raises(ValueError, pair.blocks.send, coap.Message(coap.CONTENT), SERVER, sink=Sink())
    check.eq(getattr(pair.send(), "transfer", None).sink, BODY)
    inner = []

    class Asking(Source):
        def readinto_at(self, buffer, offset):
            if not inner:
                inner.append(pair.client.send(coap.Message(coap.POST, payload=b"inner", uri_path=("t",)), SERVER))
            return Source.readinto_at(self, buffer, offset)

    check.eq(pair.send(coap.PUT, source=Asking(BODY)).error, None)
    pair.network.run(until=inner[0].is_done)
    check.eq((hasattr(inner[0], "transfer"), len(pair.bodies)), (False, 2))
    check.eq(sorted(pair.bodies), [BODY, b"inner"])


def test_upload_when_the_answer_makes_no_sense_then_format_error():
    """RFC 7959 section 2.5: another number, 2.31 to the last, 2.31 without Block1."""
    for answers in (
        (lambda request: (coap.CONTINUE, {"block1": block(1, True, 0)}),),
        (lambda request: (coap.CONTINUE, {}),),
        (taken(), taken(), taken()),
    ):
        check.eq(Script(*answers, szx=0).send(coap.PUT, BODY[:48]).error, coap.FormatError)


def test_upload_when_refused_in_the_middle_then_ends_with_that():
    """RFC 7959 section 2.9: any other error is the response."""
    script = Script(taken(), taken(coap.FORBIDDEN), szx=0)
    check.eq(script.send(coap.PUT, BODY[:48]).response.message.code, coap.FORBIDDEN)
    check.eq(len(script.asked), 2)


def test_upload_when_from_a_source_then_is_read_by_offset():
    """With and without its size; progress."""
    for size in (None, 5000):
        pair = Pair()
        told = []
        record = pair.send(coap.PUT, source=Source(BODY, size), progress=noting(told))
        check.eq((record.error, record.response.message.code, pair.bodies), (None, coap.CHANGED, [BODY]))
        check.eq((record.transfer.source, record.response.message.request is record.message), (None, True))
        check.eq(told, [(offset, size) for offset in (1024, 2048, 3072, 4096, 5000)])
        check.eq(pair.messages(CLIENT)[0].opt.size1, size)


def test_upload_when_the_body_is_small_then_is_one_request():
    """No block option where none is needed."""
    for length in (0, 1, 1023, 1024):
        pair = Pair()
        record = pair.send(coap.PUT, source=Source(BODY[:length]))
        check.eq((record.response.message.code, pair.bodies), (coap.CHANGED, [BODY[:length]]))
        check.eq([request.opt.block1 for request in pair.messages(CLIENT)], [None])


def test_upload_when_the_source_ends_early_or_fails_then_error():
    """What was announced did not come: the server must not take it for whole."""
    pair = Pair()
    check.eq((pair.send(coap.PUT, source=Source(BODY[:4000], 5000)).error, pair.bodies), (coap.Error, []))

    class Failing(Source):
        def readinto_at(self, buffer, offset):
            if offset:
                raise OSError(5)
            return super().readinto_at(buffer, offset)

    pair = Pair()
    check.eq((pair.send(coap.PUT, source=Failing(BODY)).error, pair.bodies), (coap.Error, []))


def test_body_when_large_both_ways_then_goes_and_comes():
    """RFC 7959 section 3.3: POST with blocks up and down; FETCH, too."""
    for code in (coap.POST, coap.FETCH):
        pair = Pair()
        answer = bytes(reversed(BODY))
        pair.result = (coap.CONTENT, answer)
        record = pair.send(code, BODY)
        check.eq((record.error, record.response.message.payload, pair.bodies), (None, answer, [BODY]))
        check.eq(pair.server_blocks.bodies, {})
        sink = Sink()
        record = pair.send(code, sink=sink, source=Source(BODY))
        check.eq((record.error, bytes(sink.data), len(pair.bodies)), (None, answer, 2))


def test_fetch_when_its_payload_is_small_and_its_answer_large_then_the_handler_runs_for_each_block():
    """RFC 7959 section 3.3: the payload goes with each block that is asked for."""
    pair = Pair()
    pair.result = BODY
    record = pair.send(coap.FETCH, b"small")
    check.eq((record.response.message.payload, pair.bodies), (BODY, [b"small"] * 5))


def test_body_when_it_is_small_and_its_answer_large_then_goes_and_comes():
    """RFC 7959 section 3.3: the blocks of the answer count from 0, whatever went before."""
    for code in (coap.PUT, coap.POST):
        pair = Pair()
        pair.result = (coap.CONTENT, BODY)
        sink = Sink()
        record = pair.send(code, sink=sink, source=Source(b"small"))
        check.eq((record.error, bytes(sink.data), pair.bodies), (None, BODY, [b"small"]))
        record = pair.send(code, source=Source(b"small"))
        check.eq((record.error, record.response.message.payload), (None, BODY))


def test_memory_when_there_is_none_then_error_and_late_answers_change_nothing():
    """A transfer that cannot go on ends, it does not stay open."""

    def fail(*args):
        raise MemoryError

    script = Script(piece(0, True))
    script.blocks._insert = fail
    record = script.send()
    check.eq((record.error, script.engine._open), (coap.Error, []))
    check.eq(script.engine.receive(fake.packet(coap.CONTENT, 200, coap.NON, record.token), SERVER, 0), None)


def test_option_when_the_caller_cuts_the_body_itself_then_is_left_alone():
    """Who sets Block1, or asks for a later block, wants just that."""
    pair = Pair()
    check.eq(pair.send(coap.PUT, BODY[:16], block1=block(0, True, 0)).response.message.code, coap.CONTINUE)
    message = pair.send(block2=block(2, False, 4)).response.message
    check.eq((message.payload, message.opt.block2), (BODY[512:768], block(2, True, 4)))


def test_token_when_reused_then_is_that_of_the_first_block_and_late_answers_count_for_none():
    """RFC 7959 section 3.4 leaves tokens to the client; node-coap's server knows a body by its token."""
    pair = Pair(reuse_token=True)
    pair.result = (coap.CONTENT, BODY)
    for code in (coap.GET, coap.POST):
        pair.network.trace.clear()
        record = pair.send(code, BODY if code == coap.POST else b"")
        check.eq((record.error, record.response.message.payload), (None, BODY))
        check.eq(set([request.token for request in pair.messages(CLIENT)]), {record.token})
    script = Script(piece(0, True), reuse_token=True)
    record = script.send(mtype=coap.NON)
    for num in (0, 1, 0):
        script.mid += 1
        datagram = fake.packet(coap.CONTENT, script.mid, coap.NON, record.token,
                               payload=BODY[num * 16 : num * 16 + 16], block2=block(num, True, 0))  # fmt: skip
        script.engine.receive(datagram, SERVER, 0)
        fake.due(script.engine, 0)
    script.answers = [piece(2, False)]
    script.mid += 1
    script.engine.receive(fake.packet(coap.CONTENT, script.mid, coap.NON, record.token,
                                      payload=BODY[32:40], block2=block(2, False, 0)), SERVER, 0)  # fmt: skip
    check.eq((record.error, record.response.message.payload), (None, BODY[:40]))


# ---- both ----


def test_body_when_datagrams_are_lost_then_comes_and_goes_whole():
    """30 % loss: what ends without error is right."""
    for seed in range(10):
        pair = Pair(network={"seed": seed, "loss": 30, "duplication": 10})
        record = pair.send()
        if record.error:
            check.eq(record.error, coap.Timeout)
        else:
            check.eq(record.response.message.payload, BODY)
        record = pair.send(coap.PUT, BODY)
        if record.error:
            check.eq(record.error, coap.Timeout)
        else:
            check.eq((record.response.message.code, pair.bodies), (coap.CHANGED, [BODY]))


def test_two_transfers_when_interleaved_then_both_are_right():
    """Each has its own tokens and tags."""
    pair = Pair({"transfers": 4, "per_host": 4}, tables={"tuning": coap.Tuning(nstart=4)})
    records = []
    for payload in (BODY, bytes(reversed(BODY))):
        records.append(pair.client.send(coap.Message(coap.PUT, payload=payload, uri_path=("t",)), SERVER))
    records.append(pair.client.send(coap.Message(coap.GET, uri_path=("t",)), SERVER))
    pair.network.run(100000, lambda: all([record.is_done() for record in records]))
    check.eq([record.error for record in records], [None] * 3)
    check.eq(sorted(pair.bodies), sorted([BODY, bytes(reversed(BODY))]))
    check.eq(records[2].response.message.payload, BODY)


class Observing:
    """What observing a resource needs of the seam: it keeps the record open and notes what comes."""

    rank = 40
    understood = 0

    def __init__(self, engine):
        self.engine = engine
        self.notes = []

    def outgoing(self, record):
        record.observation = self

    def incoming(self, record, message):
        if message.opt.observe is None or record.message.opt.observe is None:
            return None
        self.notes.append(message)
        record.park()
        return coap.CONSUMED


def test_notification_when_large_then_is_fetched_by_plain_gets():
    """RFC 7959 section 2.6: later blocks are GETs without Observe; a newer notification ends the fetch."""
    script = Script()
    observing = Observing(script.engine)
    script.engine.attach(observing)
    record = script.engine.send(coap.Message(coap.GET, uri_path=("t",), observe=0), SERVER)

    def notify(sequence, etag, first):
        script.mid = script.mid + 1 if hasattr(script, "mid") else 500
        script.engine.receive(fake.packet(coap.CONTENT, script.mid, coap.NON, record.token, observe=sequence,
                                          payload=first, etag=etag, block2=block(0, True, 0)), SERVER, 0)  # fmt: skip

    fake.due(script.engine, 0)
    script.mid = 500
    notify(5, b"5", b"5" * 16)
    notify(7, b"7", b"7" * 16)
    notify(6, b"6", b"6" * 16)
    script.answers = [piece(1, False, body=b"7" * 20, etag=b"7")]
    script.answer_all(0)
    note = observing.notes.pop()
    check.eq((note.payload, note.opt.observe, note.opt.block2), (b"7" * 20, 7, None))
    check.eq((observing.notes, record.is_done(), script.engine._open), ([], False, [record]))
    check.eq([(request.opt.observe, request.opt.block2) for request in script.asked], [(None, 16)])
    notify(8, b"8", b"8" * 16)
    script.answers = [piece(1, True, body=b"9" * 40, etag=b"9"), piece(0, True, body=b"9" * 40, etag=b"9"),
                      piece(1, False, body=b"9" * 32, etag=b"9")]  # fmt: skip
    script.answer_all(0)
    note = observing.notes.pop()
    check.eq((note.payload, note.opt.observe), (b"9" * 32, 8))
    notify(10, b"a", b"a" * 16)
    fake.run(script.engine, 0, 100000)
    check.eq((observing.notes, record.is_done(), script.engine._open), ([], False, [record]))


# ---- the blocking calls, on an Endpoint ----

URI = "coap://192.0.2.99/t"


class Served:
    """A transport behind which a server answers at once; `mute` drops what comes from the count of datagrams on."""

    def __init__(self):
        self.engine = fake.engine()
        coap_block.attach(self.engine, unverified_len=None)
        self.inbox = []
        self.count = 0
        self.mute = 1 << 30

    def sendto(self, data, peer):
        self.count += 1
        if self.count >= self.mute:
            return
        reply = self.engine.receive(bytes(data), CLIENT, 0)
        if reply is not None:
            self.inbox.append((bytes(reply), peer))

    def recvfrom(self, n):
        return self.inbox.pop(0) if self.inbox else None


def make_endpoint(transport):
    """An endpoint on a transport, whose addresses are tuples; and its blocks."""
    endpoint = coap.Endpoint(sock=transport, random=fake.Random(5).bytes)
    endpoint._names["192.0.2.99:5683"] = SERVER
    return endpoint, coap_block.attach(endpoint)


def test_blocking_calls_when_bodies_are_large_then_take_and_return_them():
    """endpoint.get, put, download, upload."""
    transport = Served()
    resource = transport.engine.resource("t")
    stored = []
    resource.get(lambda request, response: BODY)
    resource.put(lambda request, response: stored.append(request.payload))
    with fake.Clock():
        endpoint, blocks = make_endpoint(transport)
        check.eq(endpoint.get(URI).payload, BODY)
        check.eq(endpoint.put(URI, BODY).code, coap.CHANGED)
        sink = Sink()
        check.eq(blocks.download(URI, sink).code, coap.CONTENT)
        check.eq(blocks.upload(coap.PUT, URI, Source(BODY), content_format=coap.OCTETS).code, coap.CHANGED)
        check.eq(blocks.upload(coap.PUT, URI, "\u00e4" * 1000).code, coap.CHANGED)
    check.eq((bytes(sink.data), stored), (BODY, [BODY, BODY, b"\xc3\xa4" * 1000]))


def test_download_when_it_fails_then_the_error_says_where_to_go_on():
    """offset and etag of the exception are arguments of the next try."""
    transport = Served()
    transport.engine.resource("t").get(lambda request, response: BODY)
    transport.mute = 4
    sink = Sink()
    with fake.Clock():
        endpoint, blocks = make_endpoint(transport)
        error = check.raises(coap.Timeout, blocks.download, URI, sink)
        check.eq((error.offset, len(sink.data)), (3072, 3072))
        transport.mute = 1 << 30
        blocks.download(URI, sink, error.offset, error.etag)
    check.eq((bytes(sink.data), sink.offsets), (BODY, [0, 1024, 2048, 3072, 4096]))


def test_upload_when_the_source_cannot_be_read_then_raises_value_error():
    """The caller's fault before anything is sent."""

    class Broken:
        def readinto_at(self, buffer, offset):
            raise OSError(5)

    with fake.Clock():
        _, blocks = make_endpoint(Served())
        check.raises(ValueError, blocks.upload, coap.PUT, URI, Broken(), contains="source")


def test_attach_when_in_any_order_then_blocks_come_before_observe():
    """The rank decides."""
    engine = fake.engine()
    engine.attach(Observing(engine))
    blocks = coap_block.attach(engine)
    assert engine._extensions[0] is blocks


# ---- no memory ----


def once(function):
    """`function`, but the first call raises MemoryError."""
    calls = []

    def call(*args):
        calls.append(args)
        if len(calls) == 1:
            raise MemoryError
        return function(*args)

    return call


def test_download_when_no_memory_begins_it_then_the_response_that_is_repeated_does():
    """RFC 7252 section 4.2: the first response is as if it had been lost, and no datagram raises anything else."""
    pair = Pair()
    pair.blocks._download = once(pair.blocks._download)
    check.raises(MemoryError, pair.send)
    record = pair.client._open[0]
    pair.network.run(400000, record.is_done)
    check.eq((record.error, record.response.message.payload), (None, BODY))


def test_transfer_when_there_is_no_memory_for_a_response_then_it_ends():
    """Engine.park: nothing else would end what waits for its blocks."""
    for fields in {}, {"code": coap.PUT, "payload": BODY}:
        pair = Pair()
        random = pair.client.random
        draw_token = once(random)
        pair.client.random = lambda n, random=random, draw_token=draw_token: draw_token(8) if n == 8 else random(n)
        record = pair.send(token=b"own", **fields)
        check.eq((record.error, pair.client._open), (coap.Error, []))
        pair = Pair()
        saved = coap.ReceptionRecord
        coap.ReceptionRecord = once(saved)
        try:
            check.raises(MemoryError, pair.send, **fields)
        finally:
            coap.ReceptionRecord = saved
        check.eq(pair.client._open, [])
