"""The board serves; this computer asks, loses ACKs, repeats itself and sends what no peer should."""

import random

import pytest
from peer import SERVER, TUNING_MS, Peer, assert_gaps, make, on_time

import coap
import corpus
from udp_ports import free_port

PING = b"\x40\x00\xff\xfe"
PONG = b"\x70\x00\xff\xfe"


@pytest.fixture(scope="module")
def address(board, host):
    """(host, port) of a server that runs on the board."""
    port = free_port()
    board.device.reset()
    board.device.start(SERVER.format(port=port, timeout_ms=TUNING_MS))
    assert board.device.read_line() == "up"
    yield host, port
    board.device.stop()


@pytest.fixture
def peer(address):
    """A socket of this computer; after the test the server must answer it still."""
    with Peer(*address) as peer:
        yield peer
    with Peer(*address) as another:
        assert another.ask(make(coap.GET, "text")).payload == b"22.5 C"


def free_bytes(peer):
    return int(peer.ask(make(coap.GET, "free")).payload)


def test_get_when_asked_then_answered_on_the_ack(peer):
    """RFC 7252 section 5.2.1, over the board's own socket."""
    request = make(coap.GET, "text")
    answer = peer.ask(request)
    assert (answer.code, answer.mtype, answer.mid, answer.payload) == (coap.CONTENT, coap.ACK, request.mid, b"22.5 C")


def test_get_when_nothing_is_there_then_4_04(peer):
    """RFC 7252 section 5.9.2.5."""
    assert peer.ask(make(coap.GET, "nosuch")).code == coap.NOT_FOUND


def test_discovery_when_asked_then_all_resources_are_listed(peer):
    """RFC 6690 section 4."""
    links = bytes(peer.ask(make(coap.GET, ".well-known/core")).payload)
    assert [name for name in (b"</text>", b"</count>", b"</slow>") if name not in links] == []


def test_post_when_repeated_then_the_same_bytes_and_executed_once(peer):
    """RFC 7252 section 4.5: a lost ACK makes the client repeat itself."""
    request = make(coap.POST, "count").encode()
    answers = []
    for _ in range(4):
        peer.send(request)
        answers.append(peer.receive()[1])
    after = int(peer.ask(make(coap.POST, "count")).payload)
    assert answers == [answers[0]] * 4 and int(coap.Message.decode(answers[0]).payload) == after - 1


@on_time
def test_separate_response_when_its_acks_are_lost_then_repeated_with_doubling_time(peer):
    """RFC 7252 sections 4.2 and 5.2.2: real time; the ACK of the fourth copy ends it."""
    request = make(coap.GET, "slow")
    peer.send(request)
    assert peer.receive()[1] == bytes((0x60, 0)) + request.mid.to_bytes(2, "big")
    received = [peer.receive(5) for _ in range(4)]
    message = received[0][0]
    assert (message.mtype, message.token, message.payload) == (coap.CON, request.token, b"late")
    assert [datagram for _, datagram, _ in received] == [received[0][1]] * 4
    assert_gaps([time_ms for _, _, time_ms in received], [TUNING_MS, 2 * TUNING_MS, 4 * TUNING_MS])
    peer.send(bytes((0x60, 0)) + message.mid.to_bytes(2, "big"))
    assert peer.receive(1)[0] is None


@on_time
def test_separate_response_when_acknowledged_then_not_repeated(peer):
    """RFC 7252 section 4.2."""
    peer.send(make(coap.GET, "slow"))
    peer.receive()
    message = peer.receive(5)[0]
    peer.send(bytes((0x60, 0)) + message.mid.to_bytes(2, "big"))
    assert peer.receive(3 * TUNING_MS / 1000)[0] is None


def test_ping_when_sent_then_reset(peer):
    """RFC 7252 section 4.3."""
    peer.send(PING)
    assert peer.receive()[1] == PONG


def test_datagram_when_empty_then_the_socket_lives(peer):
    """RFC 7252 section 4.2; on an ESP32 an empty datagram ends a socket that is not replaced."""
    for _ in range(3):
        peer.send(b"")
    # A replaced socket may lose what came meanwhile, and is replaced once a second: ask() repeats itself.
    assert peer.ask(make(coap.GET, "text")).payload == b"22.5 C"
    peer.send(b"")
    assert peer.ask(make(coap.GET, "text")).payload == b"22.5 C"


def test_payload_when_1_kb_then_received_and_sent_whole(peer):
    """RFC 7252 section 4.6: a payload of 1024 bytes fits."""
    assert peer.ask(make(coap.PUT, "len", payload=bytes(1024))).payload == b"1024"
    assert peer.ask(make(coap.GET, "big")).payload == bytes(1000)


def test_datagram_when_longer_than_any_buffer_then_4_13_or_dropped(peer):
    """RFC 7252 section 4.6; a board may drop what comes in fragments."""
    peer.send(make(coap.PUT, "len", payload=bytes(1400)))
    answer = peer.receive(0.5)[0]
    assert answer is None or answer.code == coap.REQUEST_ENTITY_TOO_LARGE


def test_requests_when_four_come_at_once_then_all_are_answered(peer):
    """An RP2040 keeps four datagrams (firmware before 1.26: one), an ESP32 six; who loses one repeats it."""
    requests = [make(coap.GET, "text") for _ in range(4)]
    for request in requests:
        peer.send(request)
    tokens = {bytes(message.token) for message, _, _ in (peer.receive(1) for _ in requests) if message}
    for request in requests:
        if request.token not in tokens:
            assert peer.ask(request).payload == b"22.5 C"
    assert tokens


def mutated(source, datagram):
    """One of the ways in which bytes arrive broken."""
    data = bytearray(datagram)
    way = source.randrange(3)
    if way == 0:
        data[source.randrange(len(data))] = source.randrange(256)
    elif way == 1:
        del data[source.randrange(1, len(data)) :]
    else:
        data += source.randbytes(source.randrange(1, 20))
    return bytes(data)


def test_datagrams_when_hostile_then_the_server_answers_and_keeps_no_memory(peer):
    """RFC 7252 section 3: 300 broken datagrams; between them requests are answered."""
    source = random.Random(7252)
    peer.ask(make(coap.GET, "text"))
    before = free_bytes(peer)
    for n in range(300):
        peer.send(mutated(source, source.choice(corpus.VALID)))
        if n % 3 == 2:
            while peer.receive(0.01)[1]:
                pass
        if n % 50 == 49:
            assert peer.ask(make(coap.GET, "text")).payload == b"22.5 C"
    assert free_bytes(peer) > before - 8192
