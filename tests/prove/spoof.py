"""Proves that a response is accepted only from the peer that was asked, with its token and, in an ACK, its message ID.

Forged: other address, other port; token wrong in one bit, cut, extended, empty; ACK or Reset with another message ID;
to requests that wait for an ACK, have one, or are NON; and to requests that ended or were cancelled. None may reach
the application, end an exchange or move a timer; afterwards the genuine response is accepted. And tokens, 8 bytes
from os.urandom: none twice, each bit as often 0 as 1 (RFC 7252 section 5.3.1).
"""

import os

from proving import command_line, must
from sigma import SIGMAS, deviation

# isort: split
import check
import coap
import fake

FORGERIES = 1000000
PER_ROUND = 2000
TOKENS = 100000
PEER = ("192.0.2.1", 5683)
STRANGERS = ("192.0.2.2", 5683), ("192.0.2.1", 5684), ("192.0.2.1", 56830), ("192.0.2.10", 5683), ("::1", 5683)
CONTENT = b"\x45"


class Round:
    """An engine with requests in every state, and a forger who knows all but one thing."""

    def __init__(self, seed):
        self.random = fake.Random(seed)
        self.engine = coap.Engine(self.random.bytes, tuning=coap.Tuning(nstart=4), transmissions=4)
        self.now_ms = self.random.below(1 << 29)
        self.late = self.send(coap.CON)
        while not self.late.is_done():
            self.now_ms = coap.ticks_add(self.now_ms, self.engine.next_ms(self.now_ms))
            self.engine.due(self.now_ms)
        self.cancelled = self.send(coap.CON)
        self.cancelled.cancel()
        self.waiting = self.send(coap.CON)
        self.acknowledged = self.send(coap.CON)
        self.non = self.send(coap.NON)
        self.short = self.send(coap.CON, b"%c%c%c" % (1 + seed % 255, seed >> 8 & 255, 7))
        self.receive(b"\x60\x00" + mid_of(self.acknowledged), PEER)
        self.open = self.waiting, self.acknowledged, self.non, self.short
        self.timers = [record.next_event_ms for record in self.open]

    def send(self, mtype, token=b""):
        """A request on its way; returns its record."""
        record = self.engine.send(coap.Message(coap.GET, mtype=mtype, token=token, uri_path=("t",)), PEER)
        must(self.engine.due(self.now_ms) is not None, "nothing was sent")
        return record

    def receive(self, data, peer):
        """Give a datagram to the engine; returns its reply."""
        return self.engine.receive(data, peer, self.now_ms)

    def forged(self):
        """A forged datagram and where it seems to come from."""
        random = self.random
        record = self.open[random.below(4)]
        token = bytes(record.token)
        mid = mid_of(record)
        kind = random.below(8)
        mtype = random.below(3)  # CON, NON, ACK
        peer = PEER
        if kind == 0:
            peer = STRANGERS[random.below(len(STRANGERS))]
        elif kind == 1:
            token = self.wrong(token)
        elif kind == 2:
            token = token[: random.below(len(token))]  # a prefix, or empty
        elif kind == 3:
            token += random.bytes(1 + random.below(3))  # of the long ones this is a format error
        elif kind == 4:
            mtype, mid = 2, self.other_mid()
        elif kind == 5:
            return bytes((0x60 | random.below(2) << 4, 0)) + self.other_mid(), PEER  # an empty ACK or Reset
        elif kind == 6:
            return bytes((0x60 | random.below(2) << 4, 0)) + mid, STRANGERS[random.below(len(STRANGERS))]
        else:
            record = (self.late, self.cancelled)[random.below(2)]
            token, mid = bytes(record.token), mid_of(record)
            if not random.below(4):
                return bytes((0x60 | random.below(2) << 4, 0)) + mid, PEER
        if mtype != 2:
            mid = random.bytes(2)
        options = (b"", b"\xff22.5", b"\xc0\xff22.5", b"\x91x")[random.below(4)]
        return bytes((0x40 | mtype << 4 | len(token),)) + CONTENT + mid + token + options, peer

    def wrong(self, token):
        """`token` with one bit changed."""
        at = self.random.below(len(token))
        return token[:at] + bytes((token[at] ^ 1 << self.random.below(8),)) + token[at + 1 :]

    def other_mid(self):
        """A message ID that no open request has."""
        while True:
            mid = self.random.bytes(2)
            if mid not in [mid_of(record) for record in self.open]:
                return mid

    def run(self, n):
        """`n` forgeries, none accepted; then the genuine responses are."""
        for _ in range(n):
            data, peer = self.forged()
            reply = self.receive(data, peer)
            must(self.engine.received is None, "accepted: %r from %r", data, peer)
            if reply is not None:
                must(data[0] >> 4 == 4 and bytes(reply[:2]) == b"\x70\x00", "%r was answered %r", data, bytes(reply))
        for record in self.open:
            must(not record.is_done() and record.response is None, "a forgery ended a transaction")
        must(self.timers == [record.next_event_ms for record in self.open], "a forgery moved a timer")
        must(self.late.response is None and self.cancelled.response is None, "accepted after the end")
        self.accept_genuine()

    def accept_genuine(self):
        """What the peer answers to the open requests is accepted."""
        for record in self.open:
            token = bytes(record.token)
            mtype = 0x60 if record in (self.waiting, self.short) else 0x50
            mid = mid_of(record) if mtype == 0x60 else b"\x00\x01"
            self.receive(bytes((mtype | len(token),)) + CONTENT + mid + token, PEER)
            must(record.is_done() and record.error is None, "a genuine response was not accepted")


def mid_of(record):
    """The message ID of a record as in a datagram."""
    return bytes((record.mid >> 8, record.mid & 255))


def prove_forgeries(n):
    """`n` forged responses, the requests renewed every PER_ROUND."""
    rounds = n // PER_ROUND
    for seed in range(rounds):
        Round(seed + 1).run(PER_ROUND)
    line = (
        "spoof: %d forged responses to %d requests: 0 accepted, 0 exchanges ended, 0 timers moved; %d genuine accepted"
    )
    print(line % (rounds * PER_ROUND, rounds * 6, rounds * 4))


class Tokens:
    """A set of 8 byte tokens in one piece of memory: a MicroPython heap must not be strewn with 100,000 objects."""

    def __init__(self, n):
        self.mask = 1
        while self.mask < 2 * n:
            self.mask = self.mask << 1 | 1
        self.table = bytearray(8 * (self.mask + 1))  # a free place is zero

    def add(self, token):
        """Add a token; returns whether it was there."""
        free = bytes(8)
        place = (token[0] << 16 | token[1] << 8 | token[2]) & self.mask
        while True:
            there = self.table[8 * place : 8 * place + 8]
            if there == free:
                self.table[8 * place : 8 * place + 8] = token
                return False
            if there == token:
                return True
            place = place + 1 & self.mask


def draw_tokens(n, ones):
    """Draw `n` tokens as requests do, from several engines, count the ones of each bit; raises for a repeat."""
    seen = Tokens(n)
    for k in range(n):
        if k % 1000 == 0:
            engine = coap.Engine(os.urandom)
        record = engine.send(coap.Message(coap.GET, mtype=coap.NON), PEER)
        record.cancel()
        token = bytes(record.token)
        must(len(token) == 8, "a token of %d bytes", len(token))
        must(not seen.add(token), "a token came twice")
        for place in range(64):
            ones[place] += token[place >> 3] >> (place & 7) & 1


def prove_tokens(n):
    """No repeat; all ones within 3 sigma, else drawn once more; each bit within 4.5, as there are 64 of them."""
    for _ in range(2):
        ones = [0] * 64
        draw_tokens(n, ones)
        off = deviation(sum(ones), 64 * n, 0.5)
        bit_off = max([deviation(count, n, 0.5) for count in ones])
        if off <= SIGMAS and bit_off <= 1.5 * SIGMAS:
            break
    print("spoof: %d tokens: 0 repeats, ones within %.1f sigma of half, of each bit within %.1f" % (n, off, bit_off))
    must(off <= SIGMAS and bit_off <= 1.5 * SIGMAS, "tokens are not balanced")


def run(scale=1.0):
    """1,000,000 forgeries; 100,000 tokens."""
    prove_forgeries(max(2 * PER_ROUND, int(FORGERIES * scale)))
    if not hasattr(os, "urandom"):
        raise check.Skip("tokens: this port has no os.urandom")
    prove_tokens(max(1000, int(TOKENS * scale)))


if __name__ == "__main__":
    command_line(run)
