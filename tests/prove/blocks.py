"""Proves block-wise transfers under loss: what ends without error is right to the last byte, and all else is reported.

A transfer is a body of 64 KiB, down (Block2) or up (Block1), over fake.Network, which loses 30 % of the datagrams each
way and doubles 5 %. Two go at the same time between the same two addresses. Every size of blocks from 16 to 1024 bytes
has its turn; in a third of the pairs the server halves it when half of the body has gone. Half of the pairs have the
transmission parameters of RFC 7252, with which 3.5 % of the blocks get no answer in five attempts, so that few bodies
arrive whole at once; the others try eleven times, ten times as often.

A download that failed is resumed with the offset and the ETag that were reported, until it is whole; in a fifth of
the pairs the body changes in between, which the ETag must tell. An upload fails by Timeout, or by 4.08 when four times
nothing came for 60 s; it must not have reached the handler as anything but the whole body. After each pair both sides
must come to rest and hold nothing.
"""

from proving import command_line, must

# isort: split
import coap
import coap_block
import fake

TRANSFERS = 1000
BODY_LEN = 65536
LOSS = 30
DUPLICATION = 5
SERVER = ("192.0.2.99", 5683)
CLIENT = ("192.0.2.1", 5683)
STANDARD = coap.Tuning(nstart=4)
PATIENT = coap.Tuning(ack_timeout_ms=200, max_retransmit=10, nstart=4)
SIZES = b"\6\0\6\1\6\2\6\3\6\4\6\5\6\1\5\2\5\3\5\4\5\2\5\3\4\4\3\4"  # SZX: large ones more often, they are quick
MOST_TRIES = 1000


class Source:
    """Bytes that are read by offset, with a size and an ETag."""

    def __init__(self, data, etag):
        self.data = data
        self.size = len(data)
        self.etag = etag

    def readinto_at(self, buffer, offset):
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


class Sink:
    """What came, in the order of the offsets."""

    def __init__(self):
        self.data = bytearray()

    def write_at(self, offset, data):
        must(offset <= len(self.data), "a block at %d, only %d bytes before", offset, len(self.data))
        self.data[offset:] = data


def make_body(number):
    """A body whose blocks are all different, and other than those of the body before."""
    random = fake.Random(number)
    piece = random.bytes(1024)
    parts = [b"%08d" % (number * 64 + n) + (piece[n:] + piece)[:1016] for n in range(BODY_LEN // 1024)]
    return b"".join(parts)


class Totals:
    """What came of all transfers."""

    def __init__(self):
        self.transfers = self.whole = self.failures = self.resumed = self.changed = 0
        self.by_szx = [0] * 7


class Run:
    """A pair of transfers."""

    def __init__(self, number, totals):
        self.totals = totals
        random = fake.Random(number)
        self.szx = SIZES[number % len(SIZES)]
        self.kind = random.below(3)  # down and up, both up, both down
        self.changes_size = random.below(3) == 0
        self.changes_left = 2 if random.below(5) == 0 else 0  # how often a body changes
        self.tuning = random.below(2) and PATIENT or STANDARD
        self.network = fake.Network(number + 1, 0, LOSS, DUPLICATION)
        self.server = self.network.add(SERVER)
        self.client = self.network.add(CLIENT)
        limits = {"transfers": 4, "per_host": 4, "body_len": BODY_LEN, "szx": self.szx, "unverified_len": None}
        self.server_blocks = coap_block.attach(self.server, **limits)
        self.client_blocks = coap_block.attach(self.client, **limits)
        self.bodies = [make_body(2 * number), make_body(2 * number + 1)]
        self.received = [[], []]  # bodies that a handler was given
        self.judged = [None, None]  # the records that were looked at last
        for index in range(2):
            self.serve(index)

    def serve(self, index):
        """A resource to read, as a source or as bytes, and to write."""
        resource = self.server.resource("t%d" % index)

        @resource.get
        def read(request, response):
            body = self.bodies[index]
            return Source(body, body[:8]) if self.szx < 4 else body

        @resource.put
        def write(request, response):
            self.received[index].append(request.payload)

    def start(self, index, transfer=None):
        """Begin a transfer, or go on with one that failed; returns its record."""
        is_up = self.kind == 1 or self.kind == 0 and index
        message = coap.Message(
            coap.PUT if is_up else coap.GET, uri_path=("t%d" % index,), transport_tuning=self.tuning
        )
        if is_up:
            return self.client_blocks.send(message, SERVER, source=Source(self.bodies[index], None), progress=self.note)
        if transfer is None:
            return self.client_blocks.send(message, SERVER, sink=Sink(), progress=self.note)
        return self.client_blocks.send(
            message, SERVER, sink=transfer.sink, offset=transfer.offset, etag=transfer.etag, progress=self.note
        )

    def note(self, done_len, total_len):
        """Half-way the server takes and gives smaller blocks."""
        must(total_len is None or done_len <= total_len == BODY_LEN, "progress %s of %s", done_len, total_len)
        if self.changes_size and done_len > BODY_LEN // 2 and self.szx:
            self.server_blocks.szx = self.szx - 1

    def run(self):
        """Both transfers, with what failed resumed; returns when all is at rest."""
        records = [self.start(0), self.start(1)]
        self.totals.transfers += 2
        for _ in range(MOST_TRIES):
            self.network.run(1 << 28, lambda: all([record.is_done() for record in records]))
            for index in range(2):
                must(records[index].is_done(), "a transfer never ended")
                if self.judge(index, records[index]):
                    records[index] = self.start(index, records[index].transfer)
            if all([record.is_done() for record in records]):
                break
        self.network.run(1 << 28)
        for record in records:
            must(record.message.code == coap.PUT or record.error is None, "a download was not completed")
        must(self.network.next_ms() is None, "the network does not come to rest")
        must(not self.server_blocks.bodies and not self.client._open, "something is left")

    def judge(self, index, record):
        """Look at what ended; returns whether to go on with it."""
        if record is self.judged[index]:
            return False
        self.judged[index] = record
        totals = self.totals
        is_up = record.message.code == coap.PUT
        code = record.error is None and record.response.message.code
        if code and not (is_up and code == coap.REQUEST_ENTITY_INCOMPLETE):
            must(code == (coap.CHANGED if is_up else coap.CONTENT), "code %d", code)
            must(not is_up or len(self.received[index]) == 1, "the handler ran %d times", len(self.received[index]))
            body = self.received[index][0] if is_up else bytes(record.transfer.sink.data)
            must(body == self.bodies[index], "a corrupted body of %d bytes, SZX %d", len(body), self.szx)
            totals.whole += 1
            totals.by_szx[self.szx] += 1
            return False
        must(code or record.error is coap.Timeout, "ended with %r", record.error)
        totals.failures += 1
        if is_up:  # the handler may have had it: the answer to the last block was lost
            must(self.received[index] in ([], [self.bodies[index]]), "a corrupted body was handled")
            return False
        totals.resumed += 1
        if self.changes_left:
            self.changes_left -= 1
            self.bodies[index] = make_body(1000000 + totals.resumed)
            totals.changed += 1
        return True


def run(scale=1.0):
    """1,000 transfers, or a share of them."""
    totals = Totals()
    for number in range(max(len(SIZES), int(TRANSFERS // 2 * scale))):
        Run(number, totals).run()
    values = totals.transfers, totals.whole, totals.by_szx, totals.failures, totals.resumed, totals.changed
    print(
        "blocks: %d transfers of 64 KiB, two at a time, 30 %% loss: %d whole (by SZX %s), 0 corrupted; %d failures "
        "reported, %d of them of downloads, which were resumed, %d times with another body by then" % values
    )


if __name__ == "__main__":
    command_line(run)
