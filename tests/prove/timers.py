"""Proves the retransmission timers: the first timeout is uniform in ACK_TIMEOUT * [1, ACK_RANDOM_FACTOR], each
further one twice the one before, to the millisecond (RFC 7252 section 4.2).
"""

import math

from proving import command_line, must

# isort: split
import coap
import fake

PEER = ("192.0.2.1", 5683)
TIMEOUTS = 10000
KOLMOGOROV = 1.628  # sqrt(n) * D is above in 1 of 100 samples that are uniform


def first_timeout_ms(engine, tuning, begin_ms):
    """Send one CON that nobody answers, check each of its events; returns the first timeout."""
    record = engine.send(coap.Message(coap.GET, uri_path=("t",), transport_tuning=tuning), PEER)
    first = bytes(engine.due(begin_ms))
    must(engine.due(begin_ms) is None, "sent twice at once")
    wait_ms = coap.ticks_diff(record.next_event_ms, begin_ms)
    for n in range(1, tuning.max_retransmit + 2):
        event_ms = coap.ticks_add(begin_ms, ((1 << n) - 1) * wait_ms)
        must(engine.due(coap.ticks_add(event_ms, -1)) is None, "something was sent before its time")
        must(not record.is_done(), "given up too early")
        datagram = engine.due(event_ms)
        if n <= tuning.max_retransmit:
            must(datagram == first, "retransmission %d was not sent at %d times T, or not the same", n, (1 << n) - 1)
    must(datagram is None and record.error is coap.Timeout, "not given up after the last timeout")
    return wait_ms


def kolmogorov(counts):
    """sqrt(n) * D of a histogram of equally likely values."""
    n = sum(counts)
    seen = 0
    largest = 0
    for place in range(len(counts)):
        seen += counts[place]
        largest = max(largest, abs(seen / n - (place + 1) / len(counts)))
    return largest * math.sqrt(n)


def prove(name, n, **parameters):
    """Draw `n` first timeouts with a Tuning of `parameters` and print a line."""
    tuning = coap.Tuning(**parameters)
    engine = coap.Engine(fake.Random(11).bytes)
    lowest_ms = tuning.ack_timeout_ms
    counts = [0] * (lowest_ms * (tuning.ack_random_percent - 100) // 100 + 1)
    now_ms = 0
    for _ in range(n):
        timeout_ms = first_timeout_ms(engine, tuning, now_ms)
        must(lowest_ms <= timeout_ms < lowest_ms + len(counts), "first timeout %d ms", timeout_ms)
        counts[timeout_ms - lowest_ms] += 1
        now_ms = coap.ticks_add(now_ms, 100000)
    largest = kolmogorov(counts)
    line = "timers: %s: %d first timeouts in [%d, %d] ms, sqrt(n) D = %.3f (at most %.3f: p > 0.01)"
    print(line % (name, n, lowest_ms, lowest_ms + len(counts) - 1, largest, KOLMOGOROV))
    must(largest <= KOLMOGOROV, "%s: the first timeouts are not uniform", name)


def run(scale=1.0):
    """10,000 with the RFC's parameters, a tenth of that with others."""
    n = max(200, int(TIMEOUTS * scale))
    prove("RFC 7252, sent at 0, T, 3T, 7T, 15T, given up at 31T", n)
    few = max(100, n // 10)
    prove("given up at 15T", few, ack_timeout_ms=500, ack_random_percent=200, max_retransmit=3)
    prove("never sent again", few, ack_timeout_ms=1000, ack_random_percent=130, max_retransmit=0)
    prove("no randomness", few, ack_timeout_ms=3000, ack_random_percent=100, max_retransmit=5)


if __name__ == "__main__":
    command_line(run)
