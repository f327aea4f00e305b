"""Bodies larger than a datagram: block-wise transfers (RFC 7959) and Request-Tag (RFC 9175), server and client.

    import coap
    import coap_block

    endpoint = coap.Endpoint(port=5683)
    blocks = coap_block.attach(endpoint)

From here on a handler may return a payload of any size, or an object that is read by offset, and `endpoint.get`,
`put`, `post` and `send` take and give whole bodies, up to `body_len` bytes. What is larger goes by offset:

    blocks.download("coap://192.0.2.1/firmware", sink)
    blocks.upload(coap.PUT, "coap://192.0.2.1/log", source)

    sink     write_at(offset, data): store the bytes `data`, which are valid for good. Offset 0 begins anew
             abort(), if it has one: the body will not be completed; called on a server only
             limit_len, if it has one: the longest body, instead of attach's `sink_len`
    source   readinto_at(buffer, offset): fill the bytearray from byte `offset` on, return how many bytes were there
             size, if it has one: the length of the body; etag, if it has one: its ETag, 1 to 8 bytes

A server stores what is sent to a resource in a sink, too, if it is told how to open one; the handler runs once, when
the body is whole, and finds the sink as request.payload:

    @blocks.sink(firmware)
    def open_slot(request):
        return Slot()              # or None: assemble the body in memory; or a code, to refuse it

The handler of a GET or FETCH runs once for each block that is fetched: what it returns must not depend on that. An
ETag tells the client when it has changed in between; where neither the handler nor Resource.etag nor a source gives
one, it is a checksum of the payload. A source without `etag` must not change while it is read. What another method
answers is kept until it is fetched.

A client whose address was not proved may be a victim: somebody else asked in its name. So it gets datagrams of at
most `unverified_len` bytes, which makes blocks of 64, whatever it asks for, unless `blocks.is_verified(peer)` is true
(RFC 7252 section 11.3). Block numbers prove nothing, for they can be guessed. coap_echo proves addresses; without it
assign a function there, or switch the limit off by unverified_len=None where no strangers send datagrams.
"""

from binascii import crc32

import coap

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


# Slots of a packet, see coap.py
_DATA = const(0)
_END = const(2)
_CODE = const(3)
_PAYLOAD = const(7)
_SEEN = const(8)
_ASKED = const(9)  # of a response: the datagram that it answers and who sent that; copy() takes both along
_ASKER = const(10)
_LAST = const(14)
_REMOTE = const(15)

_BLOCK2 = const(1 << 23)
_BLOCK1 = const(1 << 27)
_BLOCKS = const(_BLOCK2 | _BLOCK1)
_MORE = const(8)
_SMALL_LEN = const(64)  # a payload up to this length is never split unless that was asked for
_OPTIONS_LEN = const(20)  # what Block1, Block2, Size2, an ETag of ours and the payload's marker take at most
_PARKED = const(3)

_GRACE_MS = const(10000)  # a body this old gives way to a newcomer
_PACE = const(64)  # ... if it came slower than this, in bytes a second
_RESTARTS = const(3)  # how often a client begins anew

_TOO_LONG = const(1)
_FAILED = const(-1)


def _key(engine, request, is_answer):
    """What the requests for the blocks of one body have in common, besides their peer (RFC 9175 section 3.3).

    That is their security context, too, if coap_oscore is attached. When an answer is fetched there is no payload any
    more, so nor is its Content-Format.
    """
    context_of = getattr(engine, "context_of", None)
    key = request.get_cache_key((12, 23, 27) if is_answer else (23, 27))
    return (is_answer, key[0], context_of and context_of(request)) + key[2:]  # without the payload, which a FETCH has


class _Body:
    """What a server holds for a peer: a body that comes in, or an answer that is fetched."""

    def __init__(self, peer, key, payload, now_ms):
        self.peer = peer
        self.key = key
        self.payload = payload  # the sink, or what is answered
        self.length = 0  # how far it has come
        self.began_ms = self.until_ms = now_ms
        self.response = None  # of an answer: code and options


class Transfer:
    """A body on its way to or from a server, as record.transfer.

    offset  how many bytes have gone or come
    total   the length of the body, None if it is not known
    etag    the ETag of what is downloaded, None if there is none
    """

    def __init__(self, sink, source, offset, etag, progress, szx):
        self.sink = sink
        self.source = source
        self.offset = offset & -(16 << szx)  # where a block begins
        self.etag = etag
        self.progress = progress
        self.szx = szx
        self.total = len(source) if isinstance(source, bytes) else getattr(source, "size", None)
        self.record = None  # that of the application
        self.current = None  # the record of the block on its way
        self.first = None  # the response to the first block, without payload
        self.block_len = -1  # of the block sent last
        self.is_last = False  # whether that was the last
        self.tag = None  # Request-Tag
        self.restarts = _RESTARTS
        self.observe = None  # the sequence number of a notification
        self.keeps_open = False  # whether its failure leaves the record open, an observation


class Blocks:
    """The extension that `attach` adds to an endpoint."""

    rank = 30
    understood = _BLOCKS

    def __init__(self, engine, szx, transfers, per_host, body_len, sink_len, idle_ms, unverified_len, reuse_token):
        while szx and (16 << szx) + 64 > engine.datagram_len:
            szx -= 1
        self.engine = engine
        self.szx = szx
        self.limits = transfers, per_host
        self.body_len = body_len
        self.sink_len = sink_len
        self.idle_ms = idle_ms
        self.unverified_len = unverified_len
        self.reuse_token = reuse_token
        self.bodies = []
        self.sinks = {}  # Resource -> what opens a sink for it
        self._finished = None  # (sink, datagram) of the body that has just become whole
        self._next = None  # the Transfer of the request about to be sent
        self._tags = int.from_bytes(engine.random(3), "big")

    def is_verified(self, peer):
        """Whether the address `peer` was proved to be the sender's; assign another function."""
        return False

    def sink(self, resource):
        """A decorator for `open(request)`, which returns the sink of what is sent to `resource`, None or a code."""

        def set_opener(opener):
            self.sinks[resource] = opener
            return opener

        return set_opener

    def _call(self, function, *args):
        """What a function of the application returns, -1 if it raised."""
        engine = self.engine
        was_in_handler = engine._is_in_handler
        engine._is_in_handler = True
        try:
            return function(*args)
        except Exception as error:
            if engine.log:
                engine.log("block-wise transfer", error)
            return -1
        finally:
            engine._is_in_handler = was_in_handler

    # -- server: bodies that come in

    def request(self, request, response):
        """Take a block of a body, or continue an answer; see Engine.attach."""
        p = request.packet
        r = response.packet
        r[_ASKED] = p[_DATA]
        r[_ASKER] = p[_REMOTE]
        self._finished = None
        code = p[_CODE]
        seen = p[_SEEN] & _BLOCKS
        has_body = seen & _BLOCK1 or self.sinks and code != coap.GET and code != coap.DELETE
        if not seen and not has_body:
            return None
        block2 = request.opt.block2 or 0
        if block2 & 7 == 7:
            result = coap.BAD_REQUEST
        elif block2 >> 4 and code != coap.GET and not seen & _BLOCK1:
            return self._continue(request, r)
        else:
            result = self._receive(request, response) if has_body else None
        if result is None:
            return None
        r[_CODE] = result
        return coap.REPLY

    def _receive(self, request, response):
        """Take a block of a request's body; returns the code to answer with, None if there is a body to handle."""
        p = request.packet
        block = request.opt.block1
        if block is None:
            if self.engine._route(p) not in self.sinks:
                return None
            block = 6
        payload = request.payload
        block_len = len(payload)
        more = block & _MORE
        if block & 7 == 7 or block_len > 16 << (block & 7) and p[_SEEN] & _BLOCK1:
            return coap.BAD_REQUEST
        if more and block_len < 16 << (block & 7):
            return coap.BAD_REQUEST
        offset = block >> 4 << (block & 7) + 4
        key = _key(self.engine, request, False)
        body = self._find(p[_REMOTE], key)
        if not offset:
            if body is not None:
                self._drop(body)
            body = self._begin(request, response, key, more)
            if not isinstance(body, _Body):
                return body
        elif body is None:
            return coap.REQUEST_ENTITY_INCOMPLETE
        elif more and offset + block_len == body.length:
            return coap.CONTINUE  # the same block once more: its answer was lost
        return self._store(request, response, body, offset, payload)

    def _store(self, request, response, body, offset, payload):
        """Put a block into its body; returns as _receive."""
        sink = body.payload
        if offset != body.length:
            if offset > body.length:
                self._drop(body)
            return coap.REQUEST_ENTITY_INCOMPLETE
        fault = self._write(sink, offset, payload)
        if fault or (request.opt.size1 or 0) > self._limit_len(sink):
            self._drop(body)
            if fault == _FAILED:
                return coap.INTERNAL_SERVER_ERROR
            response.opt.size1 = self._limit_len(sink)
            return coap.REQUEST_ENTITY_TOO_LARGE
        body.length += len(payload)
        if (request.opt.block1 or 0) & _MORE:
            self._keep(body)
            return coap.CONTINUE
        self.bodies.remove(body)
        p = request.packet
        p[_PAYLOAD] = bytes(sink) if isinstance(sink, bytearray) else sink
        self._finished = sink, p[_DATA]
        return None

    def _begin(self, request, response, key, more):
        """A place for the body whose first block came, the code of its refusal, or None: it is whole already."""
        p = request.packet
        opener = self.sinks.get(self.engine._route(p))
        if not more and not opener:
            return None
        wait_s = self._admit(p[_REMOTE])
        if wait_s:
            response.opt.max_age = wait_s
            return coap.SERVICE_UNAVAILABLE
        sink = self._call(opener, request) if opener else None
        if isinstance(sink, int):
            return sink if sink > 0 else coap.INTERNAL_SERVER_ERROR
        if sink is None:
            if not more:
                return None
            sink = bytearray()
        body = _Body(p[_REMOTE], key, sink, self.engine.now_ms)
        self.bodies.append(body)
        return body

    def _write(self, sink, offset, data):
        """Put a block into a sink, a bytearray or one of the application; returns 0, _TOO_LONG or _FAILED."""
        if offset + len(data) > self._limit_len(sink):
            return _TOO_LONG
        if not data and offset:
            return 0
        if not isinstance(sink, bytearray):
            return self._call(sink.write_at, offset, data) == _FAILED and _FAILED
        try:
            sink[offset:] = data
        except MemoryError:
            return _FAILED
        return 0

    def _limit_len(self, sink):
        """How many bytes a sink takes."""
        return self.body_len if isinstance(sink, bytearray) else getattr(sink, "limit_len", self.sink_len)

    def _read(self, source, offset, block_len):
        """(how long a body is at least, its block at `offset`); the block is None if it cannot be read."""
        if not hasattr(source, "readinto_at"):
            return len(source), source[offset : offset + block_len]
        buffer = bytearray(block_len + 1)  # a byte more, to see whether there is another block
        filled = self._call(source.readinto_at, buffer, offset)
        if filled < 0:
            return 0, None
        return offset + filled, bytes(buffer[: min(filled, block_len)])

    # -- server: the table

    def _find(self, peer, key):
        """The body of `peer` with that key, or None."""
        for body in self.bodies:
            if body.peer == peer and body.key == key:
                return body
        return None

    def _keep(self, body):
        """Keep `body` until it has been idle."""
        body.until_ms = coap.ticks_add(self.engine.now_ms, self.idle_ms)
        self.engine.wake(body.until_ms)

    def _drop(self, body):
        """Forget `body`, and tell its sink."""
        self.bodies.remove(body)
        self._abort(body.payload)

    def _abort(self, sink):
        """Tell a sink that its body will not be completed."""
        abort = getattr(sink, "abort", None)
        if abort:
            self._call(abort)

    def _admit(self, peer):
        """Make room for a body of `peer`; returns the seconds after which to ask again, 0 if there is room.

        When the table is full, or the host has its share, the slowest gives way: one that came with less than
        _PACE bytes a second since it began, at least _GRACE_MS ago, or whose sender is not verified while `peer` is.
        """
        host = coap._host(peer)
        crowd = [body for body in self.bodies if coap._host(body.peer) == host]
        if len(crowd) < self.limits[1]:
            crowd = self.bodies
            if len(crowd) < self.limits[0]:
                return 0
        now_ms = self.engine.now_ms
        soonest_ms = self.idle_ms
        slowest = None
        for body in crowd:
            left_ms = max(_GRACE_MS, body.length * 1000 // _PACE) - coap.ticks_diff(now_ms, body.began_ms)
            left_ms = min(left_ms, coap.ticks_diff(body.until_ms, now_ms))
            if not self.is_verified(body.peer) and self.is_verified(peer):
                left_ms = 0
            if left_ms <= soonest_ms:
                soonest_ms = left_ms
                slowest = body
        if soonest_ms > 0:
            return 1 + soonest_ms // 1000
        self._drop(slowest)
        return 0

    def tick(self, now_ms):
        """Forget what has been idle; see Engine.attach."""
        for body in self.bodies[:]:
            if coap.ticks_diff(body.until_ms, now_ms) <= 0:
                self._drop(body)

    def next_ms(self, now_ms):
        """Milliseconds until the next is forgotten, or None; see Engine.attach."""
        soonest_ms = None
        for body in self.bodies:
            left_ms = coap.ticks_diff(body.until_ms, now_ms)
            if soonest_ms is None or left_ms < soonest_ms:
                soonest_ms = left_ms
        return soonest_ms

    # -- server: what goes out

    def response(self, request, response):
        """Add what the blocks of the request need, cut the payload; see Engine.attach."""
        r = response.packet
        payload = r[_PAYLOAD]
        if request is None:
            request = self._asked(response)
        elif not request.packet[_SEEN] & _BLOCKS and type(payload) is bytes and len(payload) <= _SMALL_LEN:
            if r[_CODE] < coap.REQUEST_ENTITY_TOO_LARGE and not self._finished:
                return
        code = r[_CODE]
        finished = self._finished
        if finished and request is not None and finished[1] is request.packet[_DATA]:
            self._finished = None
            if code >= coap.BAD_REQUEST:
                self._abort(finished[0])
        block1 = request and request.opt.block1
        if block1 is None and code == coap.REQUEST_ENTITY_TOO_LARGE:
            block1 = 0  # the whole was too large for a datagram: blocks would not be
        if block1 is not None and block1 & 7 < 7:
            szx = min(block1 & 7 if block1 else 6, self.szx)
            response.opt.block1 = block1 & ~15 | (_MORE if code == coap.CONTINUE else 0) | szx
        if code < coap.BAD_REQUEST and request is not None and request.packet[_SEEN] & _BLOCK2:
            self._cut(request, response, payload, request.opt.block2)
        elif payload or type(payload) is not bytes:
            self._cut(request, response, payload, None)

    def _asked(self, response):
        """The request that a separate response answers, None if that is not known."""
        r = response.packet
        if not r[_ASKED] or r[_ASKER] != r[_REMOTE]:
            return None
        request = coap.Message.decode(r[_ASKED], r[_ASKER])
        return request if request.token == response.token else None

    def _cut(self, request, response, payload, block2):
        """Put the block that was asked for into the response: `block2` of the request, None if it has none."""
        r = response.packet
        limit_len = self.engine.datagram_len - 1
        if self.unverified_len and not self.is_verified(r[_REMOTE]):
            limit_len = min(limit_len, self.unverified_len)
        room = limit_len - 5 - len(response.token) - r[_END]
        is_source = hasattr(payload, "readinto_at")
        if block2 is None and not is_source and len(payload) <= room:
            return
        szx = self.szx if block2 is None else min(block2 & 7, self.szx)
        while szx and (16 << szx) + _OPTIONS_LEN > room + 1:
            szx -= 1
        offset = 0
        opt = response.opt
        if block2 is not None and opt.observe is None:  # of a notification only block 0 is observed
            offset = block2 >> 4 << (block2 & 7) + 4
        total, data = self._read(payload, offset, 16 << szx)
        if data is None or offset and total <= offset:
            r[_CODE] = coap.INTERNAL_SERVER_ERROR if data is None else coap.BAD_REQUEST
            r[_DATA][:] = r[_PAYLOAD] = b""
            r[_END] = r[_LAST] = 0
            return
        r[_PAYLOAD] = data
        end = offset + len(data)
        more = total > end
        if block2 is None and not more:
            return
        if (more or offset) and opt.etag is None:
            opt.etag = getattr(payload, "etag", None) if is_source else crc32(payload).to_bytes(4, "big")
        if request is not None and request.code != coap.GET and opt.observe is None:
            self._keep_answer(request, response, payload, end, more)
        opt.block2 = offset >> szx + 4 << 4 | (_MORE if more else 0) | szx
        if not offset:
            opt.size2 = getattr(payload, "size", None) if is_source else total

    def _keep_answer(self, request, response, payload, end, more):
        """Keep what cannot be asked for twice, or forget it when its last block goes."""
        peer = response.packet[_REMOTE]
        key = _key(self.engine, request, True)
        body = self._find(peer, key)
        if body is not None and (not more or not request.opt.block2):
            self._drop(body)
            body = None
        if body is None and more and not (request.opt.block2 or 0) >> 4 and not self._admit(peer):
            body = _Body(peer, key, payload if hasattr(payload, "readinto_at") else bytes(payload), self.engine.now_ms)
            body.response = response.copy(payload=b"", block1=None)
            self.bodies.append(body)
        if body is not None:
            body.length = end
            self._keep(body)

    def _continue(self, request, r):
        """Answer from what was kept; returns None if the handler is to run again."""
        p = request.packet
        body = self._find(p[_REMOTE], _key(self.engine, request, True))
        if p[_CODE] == coap.FETCH and request.payload:
            if body is not None:
                self._drop(body)  # the client repeats its payload: the handler can run for each block
            return None
        if body is None:
            r[_CODE] = coap.REQUEST_ENTITY_INCOMPLETE
        else:
            q = body.response.packet
            r[_DATA][:] = q[_DATA]
            r[_END] = q[_END]
            r[_LAST] = q[_LAST]
            r[_CODE] = q[_CODE]
            r[_PAYLOAD] = body.payload
        return coap.REPLY

    # -- client

    def send(self, message, remote=None, timeout_ms=None, sink=None, source=None, offset=0, etag=None, progress=None):
        """Send a request with a body from `source`, or one whose response's body goes to `sink`, or both.

        Returns its TransmissionRecord, which ends when all blocks have gone and come; record.transfer is the
        Transfer. The arguments are those of Engine.send, whose timeout_ms holds for each block, and of download.
        Raises as Engine.send.
        """
        return self._with(
            Transfer(sink, source, offset, etag, progress, self.szx), self.engine.send, message, remote, timeout_ms
        )

    def download(self, uri, sink, offset=0, etag=None, progress=None, timeout_ms=None, **options):
        """GET `uri` into `sink`, block by block, serving meanwhile; returns the response, without payload.

        offset      where to go on after a failure, in bytes: `offset` of the coap.Error that was raised
        etag        `etag` of that error: if the server's is another by now, all is fetched again from offset 0
        progress    called as progress(bytes so far, length of the body or None) after each block
        timeout_ms  for each block, see Engine.request, which the rest is for, too
        Raises as Endpoint.request; coap.Full, if the response must be assembled and is too large; FormatError if the
        server's blocks do not fit together; coap.Error if the body changes all the time. Errors have `offset` and
        `etag`. A response of 4.xx or 5.xx is returned, and nothing more is written.
        """
        transfer = Transfer(sink, None, offset, etag, progress, self.szx)
        return self._with(transfer, self.engine.request, coap.GET, uri, b"", timeout_ms, **options)

    def upload(self, method, uri, source, progress=None, timeout_ms=None, **options):
        """Send what is in `source` as the body of a request, block by block; returns the response.

        Arguments and errors are those of download. A server that lost the first blocks gets all of them again.
        """
        transfer = Transfer(None, source, 0, None, progress, self.szx)
        return self._with(transfer, self.engine.request, method, uri, b"", timeout_ms, **options)

    def _with(self, transfer, function, *args, **options):
        """Call `function`, which sends one request, for `transfer`."""
        self._next = transfer
        try:
            return function(*args, **options)
        except coap.Error as error:
            error.offset = transfer.offset
            error.etag = transfer.etag
            raise
        finally:
            self._next = None

    def outgoing(self, record):
        """Send the first block in the place of a large body; see Engine.attach."""
        transfer = self._next
        self._next = None
        message = record.message
        opt = message.opt
        if opt.block1 is not None:
            return
        if transfer is None and len(message.payload) > 16 << self.szx:
            transfer = Transfer(None, bytes(message.payload), 0, None, None, self.szx)
        if transfer is not None:
            transfer.record = record
            record.transfer = transfer
            if transfer.source is not None:
                record.outer = self._block_up(transfer)
                if record.outer is None:
                    raise ValueError("the source cannot be read, see the log")
                return
        offset = transfer.offset if transfer else 0
        if opt.block2 is None and (offset or self.szx < 6):
            record.outer = message.copy(block2=offset >> self.szx + 4 << 4 | self.szx)

    def incoming(self, record, message):
        """Take a response to a block, or the first block of a large response; see Engine.attach."""
        transfer = getattr(record, "transfer", None)
        if transfer is None or transfer.record is record and transfer.observe is not None:
            if transfer is None and not message.packet[_SEEN] & _BLOCKS or message.remote != record.remote:
                return None
            if transfer is not None and transfer.current is not None and not self._is_newer(transfer, message):
                return coap.CONSUMED
            transfer = self._recognise(record, message)
            if transfer is None:
                return None
        elif transfer.record is not record:
            if self.reuse_token and self._is_late(transfer, message):
                return coap.CONSUMED
            is_current = transfer.current is record
            self.engine.end(record, None)
            if not is_current or transfer.record.is_done():
                return coap.CONSUMED
        elif transfer.current is not None:
            return coap.CONSUMED  # the response to the first block once more
        return self._advance(transfer, message, record)

    def _is_newer(self, transfer, message):
        """Whether a notification replaces the one whose blocks are being fetched, which then ends."""
        observe = message.opt.observe
        if observe is not None and not 0 < observe - transfer.observe & 0xFFFFFF < 1 << 23:
            return False
        sub = transfer.current
        transfer.current = None
        self.engine.end(sub, None)
        return True

    def _is_late(self, transfer, message):
        """Whether `message` answers the request for an earlier block, which had the same token."""
        opt = message.opt
        block = opt.block2 if transfer.source is None else opt.block1
        return block is not None and block >> 4 << (block & 7) + 4 < transfer.offset

    def _recognise(self, record, message):
        """The Transfer that the response `message` begins, or None."""
        opt = message.opt
        block2 = opt.block2
        if message.code < coap.BAD_REQUEST and block2 is not None and block2 >> 3 == 1:  # NUM 0 and more
            transfer = Transfer(None, None, 0, None, None, self.szx)
            transfer.keeps_open = record.state == _PARKED
        else:
            block1 = opt.block1
            payload = record.message.payload
            if message.code != coap.REQUEST_ENTITY_TOO_LARGE or block1 is None or len(payload) <= 16 << (block1 & 7):
                return None
            transfer = Transfer(None, bytes(payload), 0, None, None, self.szx + 1)
        transfer.record = record
        record.transfer = transfer
        return transfer

    def _advance(self, transfer, message, record):
        """Take a response to a block, and send the next block or end the transfer; returns as incoming."""
        step = self._uploaded(transfer, message) if transfer.source is not None else None
        if step is None:
            step = self._downloaded(transfer, message)
        if isinstance(step, type):
            self._fail(transfer, step)
        elif step.code < 32:
            self._send(transfer, step)
        elif record is transfer.record and step is message:
            return None
        else:
            self._pass_on(transfer, step)
        return coap.CONSUMED

    def _send(self, transfer, request):
        """Queue the request for a block."""
        engine = self.engine
        record = transfer.record
        token = engine.random(8)
        if self.reuse_token and not transfer.keeps_open:
            token = record.token
            record.is_request = False  # so that a response with its token is that of the block on its way
        try:
            sub = engine.enqueue(request, record.remote, record.mtype, token, record.timeout_ms)
        except (coap.Full, ValueError):
            self._fail(transfer, coap.Full)
            return
        sub.transfer = transfer
        sub.on_end = self._ended
        transfer.current = sub
        engine.park(record)

    def _ended(self, sub):
        """The request for a block has ended."""
        if sub.error is not None and sub.transfer.current is sub:
            self._fail(sub.transfer, sub.error)

    def _fail(self, transfer, error):
        """End a transfer with an exception class; of an observation only the notification is lost."""
        transfer.current = None
        if not transfer.keeps_open:
            self.engine.end(transfer.record, error)

    def _pass_on(self, transfer, message):
        """Hand the response of a transfer that has ended to the extensions above this one, and to the application."""
        engine = self.engine
        record = transfer.record
        transfer.current = None
        message.request = record.message
        for extension in engine._extensions:
            if extension.rank > self.rank and hasattr(extension, "incoming"):
                if extension.incoming(record, message) is coap.CONSUMED:
                    return
        engine.deliver(record, message, None)
        engine.end(record, None)

    # -- client: bodies that go up

    def _uploaded(self, transfer, message):
        """Take the response to a block that went; returns the next, an exception class, or None: all have gone."""
        block = message.opt.block1
        code = message.code
        if code == coap.REQUEST_ENTITY_INCOMPLETE and transfer.restarts:
            transfer.restarts -= 1
            transfer.offset = 0
        elif code == coap.REQUEST_ENTITY_TOO_LARGE and block is not None and block & 7 < transfer.szx:
            transfer.szx = block & 7
            transfer.offset = 0
        elif code != coap.CONTINUE and (code >= coap.BAD_REQUEST or block is None or transfer.is_last):
            transfer.source = None
            if code < coap.BAD_REQUEST:
                self._progress(transfer, transfer.block_len)
            return None
        elif transfer.is_last or block is None or block >> 4 != transfer.offset >> transfer.szx + 4:
            return coap.FormatError
        else:
            self._progress(transfer, transfer.block_len)
            transfer.szx = min(transfer.szx, block & 7)
        return self._block_up(transfer) or coap.Error

    def _progress(self, transfer, block_len):
        """Count a block."""
        transfer.offset += block_len
        if transfer.progress:
            self._call(transfer.progress, transfer.offset, transfer.total)

    def _block_up(self, transfer):
        """The request with the next block of the source; None if the source has not what it should."""
        offset = transfer.offset
        szx = transfer.szx
        end, data = self._read(transfer.source, offset, 16 << szx)
        if data is None or offset >> szx + 4 > 0xFFFFF:
            return None
        transfer.block_len = len(data)
        transfer.is_last = end == offset + len(data)
        if transfer.is_last and transfer.total is not None and end != transfer.total:
            return None
        message = transfer.record.message.copy(payload=data, mid=None, token=b"")
        opt = message.opt
        if not offset:
            if transfer.is_last:
                return message
            self._tags += 1
            transfer.tag = (self._tags & 0xFFFFFF).to_bytes(3, "big")
            opt.size1 = transfer.total
        opt.block1 = offset >> szx + 4 << 4 | (0 if transfer.is_last else _MORE) | szx
        opt.request_tag = (transfer.tag,)
        return message

    # -- client: bodies that come down

    def _downloaded(self, transfer, message):
        """Take a block that came; returns the next request, the response to end with, or an exception class."""
        opt = message.opt
        block = opt.block2
        if message.code >= coap.BAD_REQUEST:
            return message
        if transfer.first is None:
            if block is None and transfer.sink is None:
                return message
            if block is None or transfer.tag is not None:
                transfer.offset = 0
            if transfer.etag is None:
                transfer.etag = opt.etag
        elif block is None:
            return coap.FormatError
        if opt.etag != transfer.etag:
            return self._again(transfer)
        if transfer.first is None:
            self._begin_down(transfer, message)
        error = self._store_down(transfer, block, message.payload)
        if error:
            return error
        if block is not None and block & _MORE:
            transfer.szx = min(transfer.szx, block & 7)
            return self._next_down(transfer)
        sink = transfer.sink
        transfer.first.payload = bytes(sink) if isinstance(sink, bytearray) else b""
        return transfer.first

    def _begin_down(self, transfer, message):
        """Keep what the first block tells."""
        opt = message.opt
        transfer.first = message.copy(payload=b"", block2=None)
        if transfer.observe is None:
            transfer.observe = opt.observe
        else:
            transfer.first.opt.observe = transfer.observe
        if transfer.sink is None:
            transfer.sink = bytearray()
        if opt.size2 is not None:
            transfer.total = opt.size2

    def _store_down(self, transfer, block, data):
        """Put a block into the sink; returns an exception class if that cannot be."""
        offset = transfer.offset
        if block is not None:
            block_len = 16 << (block & 7)
            if block & 7 == 7 or block >> 4 << (block & 7) + 4 != offset or len(data) > block_len:
                return coap.FormatError
            if block & _MORE and len(data) < block_len:
                return coap.FormatError
        fault = self._write(transfer.sink, offset, data)
        if fault:
            return coap.Full if fault == _TOO_LONG or isinstance(transfer.sink, bytearray) else coap.Error
        self._progress(transfer, len(data))
        return None

    def _next_down(self, transfer):
        """The request for the next block."""
        message = transfer.record.message
        num = transfer.offset >> transfer.szx + 4
        if num > 0xFFFFF:
            return coap.FormatError
        request = message.copy(mid=None, token=b"", observe=None, etags=(), block2=num << 4 | transfer.szx)
        if message.code != coap.FETCH or transfer.tag is not None:
            request.payload = b""
        if transfer.tag is not None:
            request.opt.request_tag = (transfer.tag,)
        return request

    def _again(self, transfer):
        """The request for the first block once more, because the body has changed; or an exception class."""
        code = transfer.record.message.code
        if not transfer.restarts or code != coap.GET and code != coap.FETCH or transfer.tag is not None:
            return coap.Error
        transfer.restarts -= 1
        transfer.offset = 0
        transfer.first = transfer.etag = transfer.total = None
        return self._next_down(transfer)


def attach(
    endpoint,
    szx=6,
    transfers=2,
    per_host=1,
    body_len=8192,
    sink_len=2 << 20,
    idle_ms=30000,
    unverified_len=136,
    reuse_token=False,
):
    """Have `endpoint` send and take bodies in blocks; returns the Blocks, its methods are for clients.

    szx             the largest block: 16 << szx bytes, 0 to 6; less if datagram_len asks for it
    transfers       2      bodies that a server holds: on their way in, or answers that are fetched; more: 5.03, Max-Age
    per_host        1      of them for one address
    body_len        8192   bytes of a body that is assembled, on both sides; longer: 4.13 with Size1, coap.Full
    sink_len        2 MiB  bytes of a body that goes to a sink, on both sides; longer: as above
    idle_ms         30000  after which a body is forgotten of which nothing comes; its blocks get 4.08 then
    unverified_len  136    the longest datagram in answer to a peer that is not verified, None: no limit
    reuse_token     False  as a client, use the token of the first block for all: some servers know a body by that, as
                           node-coap; less safe, for a late answer may be taken for the next (RFC 9175 section 4.1)

    A body is known by its peer, method, options and Request-Tag. Allocates what came of it, not what Size1 announces;
    where the heap has no room for that in one piece the answer is 5.00.
    """
    blocks = Blocks(endpoint, szx, transfers, per_host, body_len, sink_len, idle_ms, unverified_len, reuse_token)
    blocks.is_verified = getattr(endpoint, "is_verified", blocks.is_verified)  # of coap_echo
    endpoint.attach(blocks)
    endpoint.sends_blocks = True
    return blocks
