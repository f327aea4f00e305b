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
answers is kept until it is fetched. No-Response is left out of a body that goes in blocks, which are to be answered.

A client whose address was not proved may be a victim: somebody else asked in its name. So it gets datagrams of at
most `unverified_len` bytes, which makes blocks of 64, whatever it asks for, unless `blocks.is_verified(peer)` is true
(RFC 7252 section 11.3). Block numbers prove nothing, for they can be guessed. coap_echo proves addresses; without it
assign a function there, or switch the limit off by unverified_len=None where no strangers send datagrams.
"""

from binascii import crc32

import coap
from coap import ticks_add, ticks_diff

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


# Names of the module, for MicroPython looks for a builtin there first, and takes long where there is none
bytes, len, type = bytes, len, type

# Slots of a packet, see coap.py
_DATA = const(0)
_END = const(2)
_CODE = const(3)
_PAYLOAD = const(7)
_SEEN = const(8)
# In slots that only a request uses, for its path: of a response the datagram that it answers, and who sent that. They
# are in the packet so that copy() takes them along
_ASKED = const(9)
_ASKER = const(10)
_LAST = const(14)
_REMOTE = const(15)

# The values of coap.py: MicroPython would look coap.GET up at each use
_GET = const(1)
_DELETE = const(4)
_FETCH = const(5)
_VALID = const(67)
_CONTINUE = const(95)
_BAD_REQUEST = const(128)
_REQUEST_ENTITY_INCOMPLETE = const(136)
_REQUEST_ENTITY_TOO_LARGE = const(141)
_INTERNAL_SERVER_ERROR = const(160)
_SERVICE_UNAVAILABLE = const(163)
_REPLY = const(1)
_CONSUMED = const(2)
_PARKED = const(3)

_BLOCK2 = const(23)
_BLOCK1 = const(27)
_BLOCKS = const(17)  # both of them, in _SEEN >> _BLOCK2
_MORE = const(8)  # M in the value of a Block option: NUM << 4 | M << 3 | SZX (RFC 7959 section 2.2)
_LAST_NUM = const(0xFFFFF)
_SMALL_LEN = const(64)  # a payload up to this length is never split unless that was asked for
_OPTIONS_LEN = const(20)  # what Block1, Block2, Size2, an ETag of ours and the payload's marker take at most

_GRACE = const(5)  # a body that has so many ACK_TIMEOUT gives way to a newcomer
_PACE = const(128)  # ... if it came slower than this, in bytes for each of them
_LEAST_MS = const(2000)  # which count as this at least
_IDLE_MS = const(60000)  # a body of which nothing comes is forgotten: MAX_TRANSMIT_SPAN, 45 s, and some more
_RESTARTS = const(3)  # how often a client begins anew

_FAILED = const(-1)

# What a server holds for a peer, a body that comes in or an answer that is fetched, is a list. Slots:
_KEY = const(0)  # a tuple, the peer first
_BODY = const(1)  # the sink, or what is answered
_LENGTH = const(2)  # how far it has come
_BEGAN_MS = const(3)
_UNTIL_MS = const(4)
_ANSWER = const(5)  # of an answer: code and options; of a body that is whole: the datagram with its end


class Transfer:
    """A body on its way to or from a server, as record.transfer.

    offset  how many bytes have gone or come
    total   the length of the body, None if it is not known
    etag    the ETag of what is downloaded, None if there is none
    """

    tag = None  # Request-Tag
    observe = None  # the sequence number of a notification

    def __init__(self, sink, source, offset, etag, progress):
        self.sink = sink
        self.source = source  # None when all has gone
        self.offset = offset
        self.etag = etag
        self.progress = progress
        self.total = len(source) if isinstance(source, bytes) else getattr(source, "size", None)


class Links:
    """The source of /.well-known/core: a list of links, of which the document is never in memory as a whole.

    resources  how many there are. They are only added, so that is the ETag
    """

    def __init__(self, links, resources):
        self.links = links
        self.etag = resources.to_bytes(2, "big")

    def readinto_at(self, buffer, offset):
        """Fill `buffer` with the document from byte `offset` on; returns how many bytes it has there."""
        filled = at = 0
        for link in self.links:
            data = ("," + link if at else link).encode()
            if filled < len(buffer):
                begin = max(0, offset - at)
                piece = data[begin : begin + len(buffer) - filled]
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
            at += len(data)
        return filled


class Blocks:
    """The extension that `attach` adds to an endpoint."""

    rank = 30
    understood = _BLOCKS << _BLOCK2

    def __init__(self, engine, szx, transfers, per_host, body_len, sink_len, idle_ms, unverified_len, reuse_token):
        coap._check("szx", szx, 0, 6)
        self.transfers = coap._check("transfers", transfers, 1, 4096)
        self.per_host = coap._check("per_host", per_host, 1, 4096)
        self.body_len = coap._check("body_len", body_len, 0, 1 << 32)
        self.sink_len = coap._check("sink_len", sink_len, 0, 1 << 32)
        if idle_ms is None:
            idle_ms = max(_IDLE_MS, engine.tuning.max_transmit_span_ms)
        self.idle_ms = coap._check("idle_ms", idle_ms, 1, 1 << 28)
        if unverified_len is not None:
            coap._check("unverified_len", unverified_len, 64, 65507)
        self.unverified_len = unverified_len
        while szx and (16 << szx) + 64 > engine.datagram_len:
            szx -= 1
        self.engine = engine
        self.szx = szx
        self.reuse_token = reuse_token
        self.bodies = {}  # by key
        self.handlers = {}  # Resource -> what opens a sink for it
        self.received = None  # the body that has just become whole
        self.next = None  # the Transfer of the request about to be sent
        self.tag = int.from_bytes(engine.random(3), "big")  # the latest Request-Tag

    def is_verified(self, peer):
        """Whether the address `peer` was proved to be the sender's; assign another function."""
        return False

    def sink(self, resource):
        """A decorator for `open(request)`, which returns the sink of what is sent to `resource`, None or a code.

        What raises in it or in the sink, or is no sink, is answered by 5.00. Raises ValueError if `resource` is not
        what endpoint.resource() returned.
        """
        if resource not in self.engine.resources:
            raise ValueError("give what endpoint.resource() returned, not %r" % (resource,))

        def set_handler(handler):
            self.handlers[resource] = handler
            return handler

        return set_handler

    def _ask(self, handler, *args):
        """What a function of the application returns, -1 if it raised."""
        engine = self.engine
        was_in_handler = engine._is_in_handler
        engine._is_in_handler = True
        try:
            return handler(*args)
        except Exception as error:
            if engine.log:
                engine.log("block-wise transfer", error)
            return _FAILED
        finally:
            engine._is_in_handler = was_in_handler

    def _write(self, sink, offset, data, total):
        """Put a block of a body of at least `total` bytes into a sink, a bytearray or one of the application.

        Returns None, -1 if that failed, or how many bytes the sink takes if these are too many.
        """
        is_memory = isinstance(sink, bytearray)
        limit_len = self.body_len if is_memory else getattr(sink, "limit_len", self.sink_len)
        if max(offset + len(data), total) > limit_len:
            return limit_len
        if is_memory:
            try:
                sink[offset:] = data
            except MemoryError:
                return _FAILED
        elif (data or not offset) and self._ask(sink.write_at, offset, data) == _FAILED:
            return _FAILED
        return None

    def _read(self, source, offset, room_len):
        """(how long a body is at least, its block of `room_len` at `offset`); the length is -1 if it cannot be read."""
        if not hasattr(source, "readinto_at"):
            return len(source), source[offset : offset + room_len]
        buffer = bytearray(room_len + 1)  # a byte more, to see whether there is another block
        filled = self._ask(source.readinto_at, buffer, offset)
        if filled < 0:
            return -1, b""
        return offset + filled, bytes(buffer[: min(filled, room_len)])

    def _key(self, request, answer):
        """What the requests for the blocks of one body have in common (RFC 9175 section 3.3), and only they.

        That is their peer and their security context, too, if coap_oscore is attached. When an answer is fetched there
        is no payload any more, so nor is its Content-Format.
        """
        context_of = getattr(self.engine, "context_of", None)
        options = coap._cache_options(request.packet, (12, 23, 27) if answer else (23, 27))
        return request.remote, answer, request.code, context_of and context_of(request), options

    # -- server: bodies that come in

    def request(self, request, response):
        """Take a block of a body, or continue an answer; see Engine.attach."""
        p = request.packet
        r = response.packet
        r[_ASKED] = p[_DATA]
        r[_ASKER] = p[_REMOTE]
        self.received = None
        if not p[_SEEN] >> _BLOCK2 & _BLOCKS and not self.handlers:
            return None
        block2 = request.opt.block2 or 0
        if block2 & 7 == 7:  # a reserved SZX
            result = _BAD_REQUEST
        elif block2 >> 4 and p[_CODE] != _GET and not p[_SEEN] & 1 << _BLOCK1:
            result = self._serve(request, r)
        else:
            result = self._take(request, response)
        if result is None:
            return None
        r[_CODE] = result
        return _REPLY

    def _take(self, request, response):
        """Take a block of a request's body; returns the code to answer with, None if there is a body to handle."""
        p = request.packet
        block = request.opt.block1
        if block is None:
            if p[_CODE] == _GET or p[_CODE] == _DELETE or self.engine._route(p) not in self.handlers:
                return None
            block = 6  # all of it is one block
        payload = request.payload
        more = block & _MORE
        block_len = 16 << (block & 7)
        offset = (block >> 4) * block_len
        if block & 7 == 7 or len(payload) > block_len and p[_SEEN] & 1 << _BLOCK1 or more and len(payload) < block_len:
            return _BAD_REQUEST
        key = self._key(request, False)
        body = self.bodies.get(key)
        if not offset:
            if body:
                self._forget(body)
            body = self._begin(request, response, key, more)
            if not isinstance(body, list):
                return body
        elif not body:
            return _REQUEST_ENTITY_INCOMPLETE
        elif more and offset + block_len <= body[_LENGTH]:
            # The same block once more, for its answer was lost; or one before, if it is surely of this body: libcoap's
            # client sends block n + 1 again when it hears twice that block n has come
            if offset + block_len == body[_LENGTH] or request.opt.request_tag:
                return _CONTINUE
            return _REQUEST_ENTITY_INCOMPLETE
        elif offset != body[_LENGTH]:
            if offset > body[_LENGTH]:
                self._forget(body)
            return _REQUEST_ENTITY_INCOMPLETE
        sink = body[_BODY]
        fault = self._ask(self._write, sink, offset, payload, request.opt.size1 or 0)
        if fault is not None:
            self._forget(body)
            if fault == _FAILED:
                return _INTERNAL_SERVER_ERROR
            response.opt.size1 = fault
            return _REQUEST_ENTITY_TOO_LARGE
        body[_LENGTH] += len(payload)
        if more:
            body[_UNTIL_MS] = self.engine.wake(ticks_add(self.engine.now_ms, self.idle_ms))
            return _CONTINUE
        del self.bodies[key]
        if isinstance(sink, bytearray):
            sink = self._ask(bytes, sink)
            if sink == _FAILED:  # no memory
                return _INTERNAL_SERVER_ERROR
        p[_PAYLOAD] = sink
        body[_ANSWER] = p[_DATA]
        self.received = body
        return None

    def _begin(self, request, response, key, more):
        """A place for the body whose first block came, the code of its refusal, or None: it is whole already."""
        handler = self.handlers.get(self.engine._route(request.packet))
        if not more and not handler:
            return None
        wait_s = self._admit(request.remote)
        if wait_s:
            response.opt.max_age = wait_s
            return _SERVICE_UNAVAILABLE
        sink = self._ask(handler, request) if handler else None
        if isinstance(sink, int):
            return sink if 64 <= sink < 192 else _INTERNAL_SERVER_ERROR
        if sink is None:
            if not more:
                return None
            sink = bytearray()
        now_ms = self.engine.now_ms
        body = self.bodies[key] = [key, sink, 0, now_ms, now_ms, None]
        return body

    # -- server: the table

    def _forget(self, body):
        """Forget `body`, if it is not forgotten yet, and tell its sink that it will not be completed."""
        self.bodies.pop(body[_KEY], None)
        abort = getattr(body[_BODY], "abort", None)
        if abort:
            self._ask(abort)

    def _admit(self, peer):
        """Make room for a body of `peer`; returns the seconds after which to ask again, 0 if there is room.

        When the table is full, or the host has its share, the slowest gives way: one that came with less than
        _PACE bytes in ACK_TIMEOUT since it began, at least _GRACE of them ago, or whose sender is not verified while
        `peer` is. To the host's own next one, which most likely is a program started anew, also one that was silent for
        so long. A network with a longer ACK_TIMEOUT is as much slower.
        """
        bodies = self.bodies.values()
        host = coap._host(peer)
        crowd = []
        pace_ms = max(_LEAST_MS, self.engine.tuning.ack_timeout_ms)
        early_ms = max(0, self.idle_ms - _GRACE * pace_ms)
        for body in bodies:
            if coap._host(body[_KEY][0]) == host:
                crowd.append(body)
        if len(crowd) < self.per_host:
            crowd = bodies
            early_ms = 0
            if len(self.bodies) < self.transfers:
                return 0
        now_ms = self.engine.now_ms
        soonest_ms = self.idle_ms
        slowest = None
        for body in crowd:
            left_ms = max(_GRACE * pace_ms, body[_LENGTH] * pace_ms // _PACE) - ticks_diff(now_ms, body[_BEGAN_MS])
            left_ms = min(left_ms, ticks_diff(body[_UNTIL_MS], now_ms) - early_ms)
            if not self.is_verified(body[_KEY][0]) and self.is_verified(peer):
                left_ms = 0
            if left_ms <= soonest_ms:
                soonest_ms = left_ms
                slowest = body
        if soonest_ms > 0:
            return 1 + soonest_ms // 1000
        self._forget(slowest)
        return 0

    def tick(self, now_ms):
        """Forget what has been idle; see Engine.attach."""
        for body in list(self.bodies.values()):
            if ticks_diff(body[_UNTIL_MS], now_ms) <= 0:
                self._forget(body)
            else:
                self.engine.wake(body[_UNTIL_MS])

    # -- server: what goes out

    def response(self, request, response):
        """Add what the blocks of the request need, cut the payload; see Engine.attach."""
        r = response.packet
        if request is not None and not self.received and not request.packet[_SEEN] >> _BLOCK2 & _BLOCKS:
            if r[_CODE] < _REQUEST_ENTITY_TOO_LARGE and type(r[_PAYLOAD]) is bytes and len(r[_PAYLOAD]) <= _SMALL_LEN:
                if self.szx:  # else even that may be more than a datagram of datagram_len takes
                    return
        self._settle(request, response, r)

    def _settle(self, request, response, r):
        """As response, of what may need blocks."""
        payload = r[_PAYLOAD]
        code = r[_CODE]
        if not request and r[_ASKED] and r[_ASKER] == r[_REMOTE]:  # a separate response
            request = coap.Message.decode(r[_ASKED], r[_ASKER])
            if request.token != response.token:
                request = None
        block1 = block2 = None
        if request:
            block1 = request.opt.block1
            if code < _BAD_REQUEST and code != _VALID and code != _CONTINUE:
                block2 = request.opt.block2
            body = self.received
            if body and body[_ANSWER] is request.packet[_DATA]:
                self.received = None
                if code >= _BAD_REQUEST:
                    self._forget(body)
        if block1 is None and code == _REQUEST_ENTITY_TOO_LARGE:
            block1 = 6  # the whole was too large for a datagram: blocks would not be
        if block1 is not None and block1 & 7 < 7:
            response.opt.block1 = block1 & ~15 | (code == _CONTINUE) * _MORE | min(block1 & 7, self.szx)
        if block2 is not None or payload != b"":
            fault = self._ask(self._cut, request, response, payload, block2)
            if fault:
                r[_CODE] = fault if fault > 0 else _INTERNAL_SERVER_ERROR
                r[_DATA][:] = r[_PAYLOAD] = b""
                r[_END] = r[_LAST] = 0

    def _cut(self, request, response, payload, block2):
        """Put the block that was asked for into the response: `block2` of the request, None if it has none.

        Returns None, a code to answer with instead, or -1 if the source cannot be read.
        """
        r = response.packet
        opt = response.opt
        limit_len = self.engine.datagram_len - self.engine.overhead_len - 1
        if self.unverified_len is not None and not self.is_verified(r[_REMOTE]):
            limit_len = min(limit_len, self.unverified_len)
        room = limit_len - 5 - len(response.token) - r[_END]
        is_source = hasattr(payload, "readinto_at")
        szx = self.szx
        offset = 0
        if block2 is not None:
            szx = min(block2 & 7, szx)
            if opt.observe is None:  # of a notification only block 0 is observed
                offset = block2 >> 4 << (block2 & 7) + 4
        elif not is_source and len(payload) <= room:
            return
        while szx and (16 << szx) + _OPTIONS_LEN > room + 1:
            szx -= 1
        total, data = self._read(payload, offset, 16 << szx)
        if total < 0:
            return _FAILED
        if offset and total <= offset:
            return _BAD_REQUEST
        r[_PAYLOAD] = data
        end = offset + len(data)
        more = total > end
        if block2 is None and not more:
            return
        if (more or offset) and not opt.etag:
            opt.etag = getattr(payload, "etag", None) if is_source else crc32(payload).to_bytes(4, "big")
        if request and request.code != _GET and opt.observe is None:
            if not self._hold(request, response, payload, end, more):
                r[_PAYLOAD] = b""  # the handler has run, and cannot again: the client gets no more than its code
                opt.content_format = opt.etag = None
                return
        opt.block2 = offset >> szx + 4 << 4 | more * _MORE | szx
        if not offset:
            opt.size2 = getattr(payload, "size", None) if is_source else total

    def _hold(self, request, response, payload, end, more):
        """Keep what cannot be asked for twice, or forget it when its last block goes; returns False without room."""
        engine = self.engine
        key = self._key(request, True)
        body = self.bodies.get(key)
        is_later = (request.opt.block2 or 0) >> 4
        if body and not (more and is_later):
            self._forget(body)
            body = None
        if not body:
            if not more or is_later:
                return True
            if self._admit(request.remote):
                return request.code == _FETCH  # whose payload may come with each block
            if not hasattr(payload, "readinto_at"):
                payload = bytes(payload)
            body = self.bodies[key] = [key, payload, 0, engine.now_ms, 0, response.copy(payload=b"", block1=None)]
        body[_LENGTH] = end
        body[_UNTIL_MS] = engine.wake(ticks_add(engine.now_ms, self.idle_ms))
        return True

    def _serve(self, request, r):
        """Answer from what was kept; returns the code, None if the handler is to run again."""
        body = self.bodies.get(self._key(request, True))
        if request.code == _FETCH and request.payload:
            if body:
                self._forget(body)  # the client repeats its payload: the handler can run for each block
            return None
        if not body:
            return _REQUEST_ENTITY_INCOMPLETE
        q = body[_ANSWER].packet
        r[_DATA][:] = q[_DATA]
        r[_END] = q[_END]
        r[_LAST] = q[_LAST]
        r[_PAYLOAD] = body[_BODY]
        return q[_CODE]

    # -- client

    def send(self, message, remote=None, timeout_ms=None, sink=None, source=None, offset=0, etag=None, progress=None):
        """Send a request with a body from `source`, or one whose response's body goes to `sink`, or both.

        Returns its TransmissionRecord, which ends when all blocks have gone and come; record.transfer is the
        Transfer. The arguments are those of Engine.send, whose timeout_ms holds for each block, and of download; its
        error may also be one that download raises. Raises as Engine.send; ValueError for a group (RFC 7959 section 2.8)
        """
        return self._with(self.engine.send, (message, remote, timeout_ms), {}, sink, source, offset, etag, progress)

    def download(self, uri, sink, offset=0, etag=None, progress=None, timeout_ms=None, **options):
        """GET `uri` into `sink`, block by block, serving meanwhile; returns the response, without payload.

        offset      where to go on after a failure, in bytes: `offset` of the coap.Error that was raised
        etag        `etag` of that error: if the server's is another by now, all is fetched again from offset 0
        progress    called as progress(bytes so far, length of the body or None) after each block; its errors are logged
        timeout_ms  for each block, see Engine.request, which the rest is for, too
        Raises as Endpoint.request; coap.Full, if the response must be assembled and is too large; FormatError if the
        server's blocks do not fit together; coap.Error if the body changes all the time. Errors have `offset` and
        `etag`. A response of 4.xx or 5.xx is returned, and nothing more is written; but after a 4.00 to a later block,
        as of a body that has become shorter, all is fetched again from offset 0, once.
        """
        args = (_GET, uri, b"", timeout_ms)
        return self._with(self.engine.request, args, options, sink, None, offset, etag, progress)

    def upload(self, method, uri, source, progress=None, timeout_ms=None, **options):
        """Send what is in `source` as the body of a request, block by block; returns the response.

        Arguments and errors are those of download. A server that lost the first blocks gets all of them again.
        """
        args = (method, uri, b"", timeout_ms)
        if not hasattr(source, "readinto_at"):
            source = coap.Message(payload=source).payload  # TypeError: without a source it would be a download
        return self._with(self.engine.request, args, options, None, source, 0, None, progress)

    def _with(self, send, args, options, sink, source, offset, etag, progress):
        """Call `send`, which sends one request, for a Transfer. Raises TypeError for what is no sink or source."""
        for given, method in ((sink, "write_at"), (source, "readinto_at")):
            if given is not None and not isinstance(given, (bytes, bytearray)) and not hasattr(given, method):
                raise TypeError("a body goes by %s(), which is not in %r" % (method, given))
        # an offset is where a block begins
        transfer = self.next = Transfer(sink, source, offset & -(16 << self.szx), etag, progress)
        try:
            return send(*args, **options)
        except coap.Error as error:
            error.offset = transfer.offset
            error.etag = transfer.etag
            raise
        finally:
            self.next = None

    def outgoing(self, record):
        """Send the first block in the place of a large body; see Engine.attach."""
        transfer = self.next
        self.next = None
        message = record.message
        szx = self.szx
        if message.opt.block1 is not None:
            return
        if not transfer and len(message.payload) > 16 << szx:
            transfer = Transfer(None, bytes(message.payload), 0, None, None)
        block2 = szx
        if transfer:
            if coap.is_multicast(record.remote):
                raise ValueError("a group takes no body in blocks (RFC 7959 section 2.8)")
            record.outer = self._request(transfer, record, szx)
            block2 |= transfer.offset >> szx + 4 << 4
        if not record.outer and message.opt.block2 is None and block2 != 6:  # which is what a server begins with
            record.outer = message.copy(block2=block2)

    def _request(self, transfer, record, szx):
        """Begin a transfer; returns the request with the first block, None if that is the record's message."""
        transfer.record = record  # that of the application
        transfer.state = record.state  # parked: an observation, of which only a notification is lost if it fails
        steps = self._download(transfer, None) if transfer.source is None else self._upload(transfer, szx)
        transfer.send = steps.send  # takes the response to a block, returns the next request; None: it has ended
        record.transfer = transfer  # not sooner: there may be no memory for the generator
        return transfer.send(None)

    def incoming(self, record, message):
        """Take a response to a block, or the first block of a large response; see Engine.attach."""
        transfer = getattr(record, "transfer", None)
        if transfer is None and not message.packet[_SEEN] >> _BLOCK2 & _BLOCKS:
            return None
        if transfer and transfer.record is not record:
            block = message.opt.block2 if transfer.source is None else message.opt.block1
            if self.reuse_token and block is not None and block >> 4 << (block & 7) + 4 < transfer.offset:
                return _CONSUMED  # to the request for an earlier block, which had the same token
            transfer.record.part = None
            self.engine.end(record, None)
        elif not transfer or not transfer.send or transfer.observe is not None:
            return self._accept(transfer, message, record)
        elif record.part:
            return _CONSUMED  # the response to the first block once more
        return self._step(transfer, message, record)

    def _accept(self, transfer, message, record):
        """Begin a transfer if the response `message` asks for it; returns as incoming."""
        if message.remote != record.remote:  # of a group
            return None
        opt = message.opt
        part = record.part
        if part:  # the blocks of a notification are being fetched, which ends if this one is newer and another body
            is_same = transfer.etag is not None and opt.etag == transfer.etag
            if opt.observe is not None and (is_same or not 0 < opt.observe - transfer.observe & 0xFFFFFF < 1 << 23):
                return _CONSUMED
            record.part = None
            self.engine.end(part, None)
        block1 = opt.block1
        block2 = opt.block2
        payload = record.message.payload
        szx = self.szx
        source = None
        if message.code == _REQUEST_ENTITY_TOO_LARGE and block1 is not None and len(payload) > 16 << (block1 & 7):
            source = bytes(payload)
            szx += 1  # above any SZX of the 4.13: it is a smaller block size for _upload
        elif message.code >= _BAD_REQUEST or block2 is None or block2 >> 3 != 1:  # NUM 0 and more
            return None
        transfer = Transfer(None, source, 0, None, None)
        self._request(transfer, record, szx)
        return self._step(transfer, message, record)

    def _step(self, transfer, message, record):
        """Take a response to a block, and send the next block or end the transfer; returns as incoming."""
        engine = self.engine
        owner = transfer.record
        response = None
        fault = coap.Error
        try:
            token = engine.random(8)
            request = transfer.send(message)
            if owner.is_done():  # `progress` has cancelled it
                return _CONSUMED
            if self.reuse_token and transfer.state != _PARKED:
                token = owner.token
                owner.is_request = False  # so that a response with its token is that of the block on its way
            part = coap.TransmissionRecord(engine, request, owner.remote, owner.mtype, token, owner.timeout_ms)
            part.transfer = transfer
            part.on_end = self.on_end
            engine.append(part)  # a queue that others have filled must not end what has begun
            owner.part = part
            owner.park()
            return _CONSUMED
        except StopIteration as end:
            response = end.value
        except coap.Error as error:
            fault = type(error)
        except Exception as error:  # no room for the request, or what the application's source or sink made of it
            if engine.log:
                engine.log("block-wise transfer", error)
        transfer.send = None
        if not response or owner.is_done() or transfer.state == _PARKED and response.code >= _BAD_REQUEST:
            if transfer.state != _PARKED:
                engine.end(owner, fault)
            elif engine.log:
                engine.log("a notification was lost", response and response.code)
            return _CONSUMED
        if record is owner and response is message:
            return None
        response.request = owner.message
        for extension in engine._extensions:  # those above this one come first
            if extension.rank > self.rank and hasattr(extension, "incoming"):
                if extension.incoming(owner, response) is _CONSUMED:
                    return _CONSUMED
        try:
            engine.deliver(owner, response, None)
            fault = None
        finally:  # a parked exchange ends here or never
            engine.end(owner, fault)
        return _CONSUMED

    def on_end(self, record):
        """The request for a block has ended without a response."""
        transfer = record.transfer
        owner = transfer.record
        if owner.part is record:
            transfer.send = owner.part = None
            if transfer.state != _PARKED:
                self.engine.end(owner, record.error)

    def _upload(self, transfer, szx):
        """A generator that yields the request for each block and is sent the response to it; returns the last.

        Raises an exception class of coap.py if the body cannot go, or its answer cannot come.
        """
        restarts = _RESTARTS
        while True:
            offset = transfer.offset
            total = transfer.total
            end, data = self._read(transfer.source, offset, 16 << szx)
            is_last = end == offset + len(data)
            if end < 0 or offset >> szx + 4 > _LAST_NUM or is_last and total not in (None, end):
                raise ValueError("the source cannot be read, see the log")
            request = transfer.record.message.copy(payload=data, mid=None, token=b"")
            opt = request.opt
            if offset or not is_last:
                if not offset:
                    transfer.record.is_request = True
                    self.tag = self.tag + 1 & 0xFFFFFF
                    transfer.tag = self.tag.to_bytes(3, "big")
                    opt.size1 = total
                opt.block1 = offset >> szx + 4 << 4 | (not is_last) * _MORE | szx
                opt.request_tag = (transfer.tag,)
                opt.no_response = None  # a response says that the next block may go; and it is part of a body's key
            message = yield request
            block = message.opt.block1
            if block is None:
                block = -1
            code = message.code
            if code == _REQUEST_ENTITY_INCOMPLETE and restarts:
                restarts -= 1
                transfer.offset = 0
            elif code == _REQUEST_ENTITY_TOO_LARGE and block & 7 < szx:
                szx = block & 7
                transfer.offset = 0
            else:
                is_done = code != _CONTINUE and (block < 0 or is_last or code >= _BAD_REQUEST)
                if not is_done and (is_last or block >> 4 != offset >> szx + 4):
                    raise coap.FormatError
                if code < _BAD_REQUEST:
                    transfer.offset += len(data)
                    if transfer.progress:
                        self._ask(transfer.progress, transfer.offset, total)
                if is_done:
                    break
                szx = min(szx, block & 7)
        transfer.source = None
        return (yield from self._download(transfer, message))

    def _download(self, transfer, answer):
        """A generator as _upload; `answer` is the first response, None if it is to come; the last has the body."""
        restarts = _RESTARTS
        szx = self.szx
        tag = transfer.tag
        message = transfer.record.message
        can_repeat = not tag and (message.code == _GET or message.code == _FETCH)
        reply = None  # the response to the first block, without payload
        response = answer or (yield)
        while True:
            opt = response.opt
            block = opt.block2
            is_shorter = response.code == _BAD_REQUEST and transfer.offset and can_repeat and restarts == _RESTARTS
            if response.code >= _BAD_REQUEST:
                if not is_shorter:  # else the body may have become so: it has no such block any more
                    break
            elif not reply:
                if block is None and transfer.sink is None:
                    break
                if block is None or answer:
                    transfer.offset = 0
                if not transfer.etag:
                    transfer.etag = opt.etag
            elif block is None:
                raise coap.FormatError
            if is_shorter or opt.etag != transfer.etag:  # the body has changed: its first block once more
                if not restarts or not can_repeat:
                    raise coap.Error
                restarts -= 1
                transfer.offset = 0
                reply = transfer.etag = transfer.total = None
            else:
                reply = self._insert(transfer, response, opt, reply)
                if block is None or not block & _MORE:
                    sink = transfer.sink
                    reply.payload = bytes(sink) if isinstance(sink, bytearray) else b""
                    return reply
                szx = min(szx, block & 7)
            num = transfer.offset >> szx + 4
            if num > _LAST_NUM:
                raise coap.FormatError
            request = message.copy(mid=None, token=b"", observe=None, etags=(), block2=num << 4 | szx)
            if tag:
                request.opt.request_tag = (tag,)
            if tag or message.code != _FETCH:
                request.payload = b""
            response = yield request
        return response

    def _insert(self, transfer, response, opt, reply):
        """Put the block of a response into the sink; returns the `reply`, which is None if that is the first block."""
        data = response.payload
        offset = transfer.offset
        block = opt.block2
        if not reply:
            reply = response.copy(payload=b"", block2=None)
            if transfer.observe is not None:
                reply.opt.observe = transfer.observe
            elif hasattr(transfer.record, "observation"):  # else nobody takes notifications
                transfer.observe = opt.observe
            if transfer.sink is None:
                transfer.sink = bytearray()
            if opt.size2 is not None:
                transfer.total = opt.size2
        if block is not None:
            block_len = 16 << (block & 7)
            is_short = len(data) < block_len and block & _MORE
            if block & 7 == 7 or (block >> 4) * block_len != offset or len(data) > block_len or is_short:
                raise coap.FormatError
        fault = self._write(transfer.sink, offset, data, 0)
        if fault is not None:
            raise coap.Error if fault == _FAILED and not isinstance(transfer.sink, bytearray) else coap.Full
        transfer.offset += len(data)
        if transfer.progress:
            self._ask(transfer.progress, transfer.offset, transfer.total)
        return reply


def attach(
    endpoint,
    szx=6,
    transfers=2,
    per_host=1,
    body_len=8192,
    sink_len=2 << 20,
    idle_ms=None,
    unverified_len=136,
    reuse_token=False,
):
    """Have `endpoint` send and take bodies in blocks; returns the Blocks.

    szx             the largest block: 16 << szx bytes, 0 to 6; less if datagram_len asks for it
    transfers       2      bodies that a server holds: that come in, or answers that are fetched. With more a request
                           gets 5.03 and Max-Age, but one whose handler has run gets its code without the payload (one
                           by FETCH can be asked again: it gets the first block)
    per_host        1      of them for one address
    body_len        8192   bytes of a body that is assembled, on both sides; longer: 4.13 with Size1, coap.Full
    sink_len        2 MiB  bytes of a body that goes to a sink, on both sides; longer: as above
    idle_ms         None   a body of which nothing comes for so long is forgotten; its next block gets 4.08 then. None:
                           60000, or MAX_TRANSMIT_SPAN if that is longer, for which a client may be silent under loss
    unverified_len  136    the longest datagram in answer to a peer that is not verified, None: no limit
    reuse_token     False  as a client, use the token of the first block for all: some servers know a body by that, as
                           node-coap; less safe, for a late answer may be taken for the next (RFC 9175 section 4.1)

    A body is known by its peer, method, options and Request-Tag. Allocates what came of it, not what Size1 announces;
    where the heap has no room for that in one piece the answer is 5.00. Raises TypeError for what is no int, ValueError
    for one out of range, and if it is attached already.
    """
    if endpoint.sends_blocks:
        raise ValueError("coap_block is attached already")
    blocks = Blocks(endpoint, szx, transfers, per_host, body_len, sink_len, idle_ms, unverified_len, reuse_token)
    blocks.is_verified = getattr(endpoint, "is_verified", blocks.is_verified)  # of coap_echo
    endpoint.attach(blocks)
    endpoint.sends_blocks = Links
    return blocks
