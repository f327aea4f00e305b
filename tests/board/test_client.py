"""The board asks, and sleeps; this computer answers late, twice, wrongly or not at all."""

import pytest
from peer import TOLERANCE_MS, TUNING_MS, Peer, assert_gaps, on_time, reply

import coap

BEGIN = """
import coap, time
QUICK = coap.Tuning(ack_timeout_ms={timeout_ms}, ack_random_percent=100, max_retransmit=2)
def get():
    return coap.Message(coap.GET, uri="coap://{address}:{port}/text", transport_tuning=QUICK)
"""
ASK = """
with coap.Endpoint() as endpoint:
    begin_ms = time.ticks_ms()
    try:
        print(bytes(endpoint.request(coap.GET, "coap://{address}:{port}/text", transport_tuning=QUICK).payload))
    except coap.Error as error:
        print(type(error).__name__, time.ticks_diff(time.ticks_ms(), begin_ms))
"""
# Wakes only when next_event_ms says so, as a node does that sleeps between.
SLEEP = """
with coap.Endpoint() as endpoint:
    record = endpoint.send(get())
    endpoint.process(0)
    while not record.is_done():
        ms = endpoint.next_event_ms()
        print("sleeps", ms)
        time.sleep_ms(ms)
        while endpoint.process(0):
            pass
    print(record.error.__name__)
"""


@pytest.fixture
def peer(board, host):
    """A socket of this computer, to which a program of the board will send."""
    board.device.reset()
    with Peer(host) as peer:
        yield peer


def start(board, peer, program):
    board.device.start((BEGIN + program).format(address=peer.address, port=peer.port, timeout_ms=TUNING_MS))


@on_time
def test_request_when_the_first_answers_are_lost_then_repeated_in_time_and_answered(board, peer):
    """RFC 7252 section 4.2: the same datagram after 1 and 3 times ACK_TIMEOUT, by the board's clock."""
    start(board, peer, ASK)
    received = [peer.receive(10 if n == 0 else 3) for n in range(3)]
    peer.send(reply(received[0][0], "at last"))
    assert [datagram for _, datagram, _ in received] == [received[0][1]] * 3
    assert_gaps([time_ms for _, _, time_ms in received], [TUNING_MS, 2 * TUNING_MS])
    assert board.device.finish() == "b'at last'\n"


@on_time
def test_request_when_nobody_answers_then_timeout_in_time(board, peer):
    """RFC 7252 section 4.8.2: MAX_TRANSMIT_WAIT is 7 times ACK_TIMEOUT here."""
    start(board, peer, ASK)
    name, ms = board.device.finish(20).split()
    assert name == "Timeout" and abs(int(ms) - 7 * TUNING_MS) <= TOLERANCE_MS


@on_time
def test_request_when_reset_then_ended_at_once(board, peer):
    """RFC 7252 section 4.2."""
    start(board, peer, ASK)
    message = peer.receive(10)[0]
    peer.send(b"\x70\x00" + message.mid.to_bytes(2, "big"))
    name, ms = board.device.finish().split()
    assert name == "Reset" and int(ms) < TUNING_MS


def test_request_when_answers_are_forged_and_empty_then_only_the_right_one_counts(board, peer):
    """RFC 7252 sections 4.4 and 5.3.2: wrong token, wrong message ID, nothing at all, then the answer."""
    start(board, peer, ASK)
    message = peer.receive(10)[0]
    peer.send(coap.Message(coap.CONTENT, mtype=coap.ACK, mid=message.mid, token=b"forged", payload="forged"))
    peer.send(coap.Message(coap.CONTENT, mtype=coap.ACK, mid=message.mid ^ 1, token=message.token, payload="forged"))
    peer.send(b"")
    peer.receive(1)  # the request again: until then an ESP32 has replaced its socket
    peer.remote = None
    message = peer.receive(3)[0] or message
    peer.send(reply(message, "right"))
    assert board.device.finish() == "b'right'\n"


@on_time
def test_request_when_answered_apart_and_twice_then_both_are_acknowledged(board, peer):
    """RFC 7252 sections 4.5 and 5.2.2: an empty ACK, later a CON, whose ACK is lost."""
    start(board, peer, ASK + "    for _ in range(10): endpoint.process(50)\n")
    message = peer.receive(10)[0]
    peer.send(b"\x60\x00" + message.mid.to_bytes(2, "big"))
    answer = coap.Message(coap.CONTENT, mtype=coap.CON, mid=0x4242, token=message.token, payload="later")
    acks = []
    for _ in range(2):
        peer.send(answer)
        acks.append(peer.receive()[1])
    assert acks[0] == b"\x60\x00\x42\x42" and acks[1][2:] == b"\x42\x42"
    assert board.device.finish() == "b'later'\n"


@on_time
def test_retransmission_when_asleep_by_next_event_ms_then_in_time(board, peer):
    """RFC 7252 section 4.2: who sleeps as long as next_event_ms allows misses nothing."""
    start(board, peer, SLEEP)
    times_ms = [peer.receive(10)[2] for _ in range(3)]
    said = board.device.finish(20).splitlines()
    assert_gaps(times_ms, [TUNING_MS, 2 * TUNING_MS])
    assert said[-1] == "Timeout" and len(said) <= 8, said


@on_time
def test_ticks_when_a_second_passes_then_a_second_is_counted(board, peer):
    """The board's clock and sleep, against this computer's."""
    start(
        board,
        peer,
        "print('go')\nbegin = coap.ticks_ms()\ntime.sleep_ms(1000)\nprint(coap.ticks_diff(coap.ticks_ms(), begin))\n",
    )
    assert board.device.read_line() == "go"
    assert abs(int(board.device.finish()) - 1000) <= 20
