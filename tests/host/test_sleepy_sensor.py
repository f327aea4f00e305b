"""ports/sleepy_sensor.py sends its readings and wakes only when something is due."""

import functools
import importlib
import re
import resource
import signal
import socket
import subprocess

import pytest

import coap
from peers import HOST, RUNTIMES, interpreter, our_server, replies, url
from programs import ROOT

MOST_CPU_S = 1
TIME_LIMIT_S = 20


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    """What the sensor runs on."""
    return request.param


@pytest.fixture
def server():
    """A socket that answers only what the test lets it answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.settimeout(TIME_LIMIT_S)
        yield sock


def sensor(runtime, port, *words):
    """The sensor as a running process."""
    command = [interpreter(runtime), ROOT / "ports/sleepy_sensor.py", url(port, "/readings"), *words]
    words = [str(word) for word in command]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cpu_s():
    """The processor time of all processes that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


@functools.cache
def start_s(program):
    """The processor time of a sensor without readings on an interpreter."""
    before_s = cpu_s()
    subprocess.run([program, ROOT / "ports/sleepy_sensor.py", "coap://127.0.0.1", "0"], cwd=ROOT, check=True)
    return cpu_s() - before_s


def naps(process):
    """Waits for the sensor's end; returns (ms, why) of each sleep. Fails if it ended badly or was busy meanwhile."""
    before_s = cpu_s()
    output, errors = process.communicate(timeout=TIME_LIMIT_S)
    assert process.returncode == 0, errors
    assert cpu_s() - before_s < MOST_CPU_S + start_s(process.args[0])
    return [(int(ms), why) for ms, why in re.findall(r"^sleeps (\d+) ms until (.*)$", output, re.MULTILINE)]


def received(sock):
    """The next (message, peer)."""
    datagram, peer = sock.recvfrom(2048)
    return coap.Message.decode(datagram), peer


def remaining(sock):
    """Datagrams that nobody has read yet."""
    sock.setblocking(False)
    datagrams = []
    try:
        while True:
            datagrams.append(sock.recv(2048))
    except BlockingIOError:
        return datagrams


def test_readings_go_once_each_and_it_wakes_for_them_only(runtime, server):
    with sensor(runtime, server.getsockname()[1], 3, 200) as process:
        readings = [received(server)[0] for _ in range(3)]
        slept = naps(process)
    for reading in readings:
        assert (reading.code, reading.mtype, reading.opt.no_response) == (coap.POST, coap.NON, 26)
        assert (reading.opt.uri_path, reading.payload) == (("readings",), b"22.5")
    assert len({reading.mid for reading in readings}) == 3
    assert remaining(server) == []
    assert [why for _, why in slept] == ["reading"] * 3
    assert all(0 < ms <= 200 for ms, _ in slept)


def test_a_reading_is_repeated_until_acknowledged_and_it_wakes_for_that_only(runtime, server):
    with sensor(runtime, server.getsockname()[1], 1, 4000, "con") as process:
        first, _ = received(server)
        second, peer = received(server)
        server.sendto(coap.Message(0, mtype=coap.ACK, mid=second.mid).encode(), peer)
        slept = naps(process)
    assert second == first and first.mtype == coap.CON
    assert [why for _, why in slept] == ["retransmit", "reading"]
    assert 0 < slept[0][0] <= 3000  # from its beginning, 2000 at least; from when the program looks, less
    assert remaining(server) == []


def test_an_acknowledgement_ends_the_repetition(runtime, server):
    with sensor(runtime, server.getsockname()[1], 2, 3200, "con") as process:
        mids = []
        for _ in range(2):
            reading, peer = received(server)
            server.sendto(coap.Message(0, mtype=coap.ACK, mid=reading.mid).encode(), peer)
            while mids and reading.mid == mids[-1]:  # sent before the acknowledgement was read
                reading, peer = received(server)
            mids.append(reading.mid)
        slept = naps(process)
    assert len(set(mids)) == 2
    assert len(slept) <= 4


def test_a_reading_that_finds_the_queue_full_is_skipped_and_said(runtime, server):
    with sensor(runtime, server.getsockname()[1], 12, 20, "con") as process:
        output, errors = process.communicate(timeout=TIME_LIMIT_S)
    assert (process.returncode, errors) == (0, "")
    assert output.count("skips a reading: 8 messages are queued") == 3, output


def test_a_name_that_nobody_knows_for_a_while_costs_a_reading_and_not_the_sensor(server, monkeypatch, capsys):
    """After a timeout a name is looked up again, perhaps while the router starts anew."""
    monkeypatch.syspath_prepend(ROOT / "ports")
    sleepy_sensor = importlib.import_module("sleepy_sensor")
    resolve = coap.Endpoint.resolve
    asked = []

    def resolve_not_the_second(endpoint, remote):
        asked.append(remote)
        if len(asked) == 2:
            raise OSError("no name server")
        return resolve(endpoint, remote)

    monkeypatch.setattr(coap.Endpoint, "resolve", resolve_not_the_second)
    sleepy_sensor.run(url(server.getsockname()[1], "/readings"), lambda: "22.5", 3, 10)
    assert "skips a reading: no name server" in capsys.readouterr().out
    assert len(asked) == 3 and len(remaining(server)) == 2
    asked[:] = ["one"]  # from the first reading on it is a mistake
    with pytest.raises(OSError, match="no name server"):
        sleepy_sensor.run(url(server.getsockname()[1], "/readings"), lambda: "22.5", 3, 10)


USAGE = "usage: sleepy_sensor.py URI [READINGS [INTERVAL_MS [con]]]"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), USAGE),
        (("coap://127.0.0.1/x", "abc"), USAGE),
        (("coap://127.0.0.1/x", "-1"), USAGE),
        (("coap://127.0.0.1/x", "1", "1.5"), USAGE),
        (("coap://127.0.0.1/x", "1", "999999999999"), USAGE),
        (("coap://127.0.0.1/x", "²"), USAGE),
        (("coap://127.0.0.1/x", "1", "²"), USAGE),
        (("coap://127.0.0.1/x", "1", "10", "ack"), USAGE),
        (("coap://127.0.0.1/x", "1", "10", "con", "more"), USAGE),
        (("foo", "1", "10"), "not 'foo'"),
        (("coaps://127.0.0.1/x", "1", "10"), "coaps needs a DTLS transport"),
        (("coap://nosuch.invalid/x", "1", "10"), "coap://nosuch.invalid/x cannot be reached: "),
    ],
)
def test_a_command_line_that_is_wrong_is_told_in_a_sentence(runtime, words, sentence):
    command = [str(interpreter(runtime)), "ports/sleepy_sensor.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    assert (done.returncode, done.stderr) == (1, "")
    assert len(done.stdout.splitlines()) == 1 and sentence in done.stdout


def test_ctrl_c_ends_it_in_a_word(runtime, server):
    with sensor(runtime, server.getsockname()[1]) as process:
        received(server)
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=TIME_LIMIT_S)
    assert (process.returncode, output, errors) == (0, "stopped\n", "")


def test_our_server_takes_the_readings_and_is_silent(runtime):
    with our_server("cpython") as port:
        with sensor(runtime, port, 2, 150, "con") as process:
            assert [why for _, why in naps(process)] == ["reading"] * 2
        assert len(replies(port)) == 1
