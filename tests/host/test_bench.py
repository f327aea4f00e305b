"""make bench: the load counts what is answered, the programs it runs work, what is missing is said in a sentence."""

import binascii
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time

import pytest

from programs import ROOT, node_package, program

sys.path.insert(0, str(ROOT / "tools"))

import bench  # noqa: E402
import bench_against  # noqa: E402
import bench_blocks  # noqa: E402
import bench_client  # noqa: E402
import bench_coaps  # noqa: E402
import bench_codec  # noqa: E402
import bench_load  # noqa: E402
import bench_oscore  # noqa: E402
import bench_plot  # noqa: E402
import bench_process  # noqa: E402
import bench_server  # noqa: E402
import budgets  # noqa: E402

# A program that works until it is killed.
BUSY = (sys.executable, "-c", "while True: pass")


@pytest.fixture(scope="module")
def library():
    """The compiled library."""
    program("micropython")
    bench_process.library()


@pytest.fixture
def echo_port():
    """A port that sends back every datagram but each seventh. Read one after the other, these are the 7th, 14th ..."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(10)

    def serve():
        count = 0
        data, peer = sock.recvfrom(2048)
        while data:
            count += 1
            if count % 7:
                sock.sendto(data, peer)
            data, peer = sock.recvfrom(2048)

    thread = threading.Thread(target=serve)
    thread.start()
    yield sock.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
        stop.sendto(b"", sock.getsockname())
    thread.join()
    sock.close()


def test_request_when_made_then_aiocoap_reads_it():
    """The load's datagrams, RFC 7252 section 3."""
    aiocoap = pytest.importorskip("aiocoap")
    message = aiocoap.Message.decode(bench_load.request(0x1234, "temp"))
    assert (message.code, message.mtype, message.mid) == (aiocoap.GET, aiocoap.CON, 0x1234)
    assert message.token == b"\x12\x34" and message.opt.uri_path == ("temp",)
    registration = aiocoap.Message.decode(bench_load.request(7, "temp", bench_server.REGISTER))
    assert (registration.opt.observe, registration.opt.uri_path) == (0, ("temp",))


def test_requests_when_many_then_no_two_share_a_message_id():
    """At most 60,000 of a socket, RFC 7252 section 4.4."""
    assert len({datagram[2:4] for datagram in bench_load.requests(60000, "temp")}) == 60000
    with pytest.raises(ValueError):
        bench_load.requests(60001, "temp")


def test_load_when_datagrams_are_lost_then_only_answers_are_counted(echo_port, monkeypatch):
    """Lost requests are given up, and have no latency."""
    monkeypatch.setattr(bench_load, "WAIT_S", 0.05)
    assert len(bench_load.alone(echo_port, bench_load.requests(20, "temp")).took_s) == 18
    # the 21st to the 70th
    assert bench_load.together(echo_port, bench_load.requests(50, "temp"), 1, bench_load.GET).answered == 42


def test_load_when_the_answer_is_another_then_it_is_not_counted(echo_port, monkeypatch):
    """An answer counts if it has the code it should have, and once."""
    monkeypatch.setattr(bench_load, "WAIT_S", 0.05)
    datagrams = bench_load.requests(6, "temp")
    assert bench_load.together(echo_port, datagrams, 3, bench_load.CONTENT).answered == 0
    bench_load.alone(echo_port, bench_load.requests(1, "temp"))  # the lost one
    assert bench_load.together(echo_port, [datagrams[0]] * 5, 3, bench_load.GET).answered == 1


def test_waiting_when_another_works_on_the_processor_then_it_is_seen():
    """What disturbs a turn is told by Linux."""
    with bench_process.on_cpu(0), subprocess.Popen(BUSY) as other:
        begin_s = time.monotonic()
        before_s = after_s = bench_load.waited_s(os.getpid())
        while after_s - before_s <= 0.02:  # until the other has started and had its turns
            after_s = bench_load.waited_s(os.getpid())
            assert time.monotonic() - begin_s < 30
        other.kill()
    assert after_s - before_s < time.monotonic() - begin_s


def turn(disturbed=0.0):
    """A Turn of 3 requests alone and 10 together."""
    alone = bench_load.Alone([0.001, 0.002, 0.003], 0.006)
    return bench_server.Turn(alone, bench_load.Together(10, 0.1), 0.00005, disturbed)


def test_turn_when_it_was_disturbed_then_it_is_done_again(monkeypatch):
    """Up to TRIES, then the least disturbed counts."""
    monkeypatch.setattr(bench_server, "PROCESSORS", [0, 1])
    found = [turn(0.5), turn(0.01), turn(0.9), turn(0.4), turn(0.2)]
    monkeypatch.setattr(bench_server, "try_turn", lambda server, up: found.pop(0))
    assert bench_server.one_turn(None, None).disturbed == 0.01
    assert len(found) == 3
    assert bench_server.one_turn(None, None).disturbed == 0.2
    assert not found


def test_figures_when_a_server_stops_answering_then_it_is_an_error():
    """Nothing is divided by nothing."""
    silent = bench_server.Turn(bench_load.Alone([], 1.0), bench_load.Together(0, 1.0), 0.0, 0.0)
    with pytest.raises(bench_process.BenchError, match="stopped"):
        bench_server.figures_of([silent])


def test_figures_when_turns_are_summed_then_they_are_per_request():
    """Of two turns alike."""
    figures = bench_server.figures_of([turn(), turn(0.02)])
    expected = {"rps_w1": 500, "latency_us": 2000, "rps_w16": 100, "cpu_us": 5, "busy": 0.0005, "disturbed": 0.02}
    assert figures == pytest.approx(expected)


def test_cpu_when_a_process_works_then_its_time_grows():
    """The clock of another process."""
    before_s = bench_process.cpu_s(os.getpid())
    begin_s = time.process_time()
    while time.process_time() - begin_s < 0.05:
        pass
    assert 0.05 <= bench_process.cpu_s(os.getpid()) - before_s < 1


LOADED = (
    "server echo",
    "server echo with poll",
    "server ours",
    "server 100 resources",
    "server 16 open exchanges",
    "server 64 observers",
)


@pytest.mark.parametrize("group", LOADED)
def test_server_when_loaded_then_all_is_answered(library, group):
    """Each program, from start to end."""
    server = (bench_server.MAIN | bench_server.PEERS | bench_server.GROWTH)[group]
    with bench_server.serving(server.command) as up, bench_server.observing(up.port, "temp", server.observers):
        assert bench_load.together(up.port, bench_load.requests(200, "temp"), 16, server.code).answered == 200
        done = bench_server.try_turn(server._replace(count=200), up)
    assert len(done.alone.took_s) == 200 // bench_server.TURNS // 4 and done.cpu_s > 0


def test_observers_when_the_server_takes_none_then_it_is_an_error(library):
    """RFC 7641 section 4.1: a response without Observe."""
    with bench_server.serving(bench_server.ours().command) as up:
        with pytest.raises(bench_process.BenchError, match="observer 1 of 2"):
            with bench_server.observing(up.port, "temp", 2):
                pass


def test_names_when_rounds_begin_then_they_are_numbered_otherwise(library):
    """A round's numbering is in the commands, no two of seven rounds have the same."""
    commands = set()
    for number in range(7):
        bench_process.begin_round(number)
        commands.add(tuple(bench_process.micropython("codec.py", 40)))
    bench_process.begin_round(0)
    assert len(commands) == 7


def test_client_when_it_asks_libcoap_then_it_has_its_rates(library):
    """Both interpreters, one processor and two."""
    program("coap-server-notls")
    for command, place in ((bench_process.micropython, 0), (bench_process.cpython, -1)):
        assert set(bench_client.measure(command, "client.py", 20, place)) == {"rps", "cpu_us"}


def test_blocks_when_a_megabyte_goes_both_ways_then_it_has_its_rates(library):
    """RFC 7959: our client with libcoap's server, libcoap's client with our server; both compare the bodies."""
    program("coap-server-notls")
    program("coap-client-notls")
    for figures in (
        bench_blocks.from_libcoap(bench_process.micropython, "blocks.py"),
        bench_blocks.to_libcoap(bench_blocks.ours),
    ):
        assert min(figures.values()) > 0
        assert set(figures) == {"up_mb_s", "up_cpu_s", "down_mb_s", "down_cpu_s"}


def test_coaps_when_there_is_no_dtls_then_that_is_said(monkeypatch, capsys):
    """RFC 7252 section 9.1; a firmware may lack it."""
    monkeypatch.setattr(bench_coaps, "micropython", lambda *_: [sys.executable, "-c", "raise ValueError('no DTLS')"])
    assert bench_coaps.measure_all() == {}
    assert "coaps is not measured" in (said := capsys.readouterr().err) and "no DTLS" in said


def test_coaps_when_measured_then_the_handshake_has_its_flights_and_each_datagram_grows_alike(monkeypatch, capsys):
    """RFC 6347 section 4.2.4: six flights; 13 bytes of header, 8 of nonce and 16 of tag for AES-GCM (RFC 5288)."""
    monkeypatch.setattr(bench_coaps, "COUNT", 20)
    found = bench_coaps.measure_all()
    figures = found["coaps protected"]
    assert (figures["handshake_datagrams"], figures["request_bytes"], figures["response_bytes"]) == (6, 37, 37)
    assert 400 < figures["handshake_bytes"] < 800
    bench_coaps.print_table(found)
    assert f"the handshake: 6 datagrams, {figures['handshake_bytes']} bytes" in capsys.readouterr().out


def test_against_when_a_revision_is_measured_then_each_row_has_its_figures(library, monkeypatch):
    """--against, with the compiled library of now in the place of that of git."""
    program("coap-server-notls")
    folders = bench_process.library()
    begun = []

    def library_of_then(revision=None):
        begun.append(revision)
        return folders

    monkeypatch.setattr(bench_process, "library", library_of_then)
    monkeypatch.setattr(bench_server, "TURNS", 1)
    monkeypatch.setattr(bench_server, "TRIES", 1)
    monkeypatch.setattr(bench_client, "COUNT", 50)
    figures = bench_against.measure_all("then")
    assert begun == [None, "then", None, None, None, "then", "then", "then"]  # servers; codec, libcoap and client
    assert all(entry["n"] == 1 for entry in budgets.judge([figures], bench_against.ROWS))


def test_library_when_git_has_no_such_revision_then_the_error_says_so():
    """--against with a name that is none."""
    with pytest.raises(bench_process.BenchError, match="nosuch"):
        bench_process.library("nosuch")


def test_body_when_read_by_offset_then_it_is_the_whole():
    """The source, in blocks that do not divide a piece."""
    body = runpy.run_path(str(bench_process.PROGRAMS / "body.py"))
    source, buffer, read = body["Source"](), bytearray(1025), b""
    while (count := source.readinto_at(buffer, len(read))) == len(buffer):
        read += buffer
    read += buffer[:count]
    assert read == bench_blocks.whole()[0] and binascii.crc32(read) == body["crc"]()


def test_oscore_when_measured_then_protection_costs_bytes_and_time(library, capsys):
    """RFC 8613."""
    found = bench_oscore.measure_all()
    plain, protected = (found[f"{budgets.OSCORE} {kind}"] for kind in bench_oscore.KINDS)
    assert all(protected[name] > plain[name] for name in bench_oscore.COLUMNS)
    assert found["oscore MicroPython context"]["kept"] > 0
    bench_oscore.print_table(found)
    assert capsys.readouterr().out.count("protected") == 2


def test_codec_when_run_on_both_interpreters_then_it_has_every_rate(library):
    names = {"index", "write", "decode", "build", "engine"}
    assert set(bench_process.json_of(bench_process.micropython("codec.py", 40))) == names
    assert set(bench_process.json_of(bench_process.cpython("codec.py", 40))) == names


def test_codec_when_node_parses_the_corpus_then_it_has_its_rates():
    node_package("coap-packet")
    rates = bench_process.json_of(bench_process.node("codec_node.js", 10, *bench_codec.datagrams()))
    assert set(rates) == {"index", "write"}


def test_corpus_when_read_by_aiocoap_then_it_encodes_to_the_same_bytes():
    aiocoap = pytest.importorskip("aiocoap")
    datagrams = [bytes.fromhex(text) for text in bench_codec.datagrams()]
    assert len(datagrams) == 12
    for datagram in datagrams:
        message = aiocoap.Message.decode(datagram)
        message.direction = aiocoap.message.Direction.OUTGOING
        assert message.encode() == datagram


def test_memory_when_measured_then_every_budget_has_its_figure(library):
    figures = {"memory 32 bits": bench_process.json_of(bench_process.micropython("memory.py", heap="2m"))}
    assert all(entry["n"] for entry in budgets.judge([figures], budgets.ALLOCATED))


def test_program_when_it_fails_then_the_error_is_its_last_line(library):
    with pytest.raises(bench_process.BenchError, match="invalid literal"):
        bench_process.json_of(bench_process.cpython("codec.py", "many"))


def test_server_when_it_does_not_start_then_the_error_names_it(library):
    with pytest.raises(bench_process.BenchError, match="does not answer"):
        with bench_server.serving(lambda port: bench_process.cpython("serve.py", "nowhere")):
            pass


def test_medians_when_a_group_is_measured_once_then_it_is_there():
    rounds = [{"a": {"x": 1}, "b": {"x": 5}}, {"a": {"x": 3}}, {"a": {"x": 2}}]
    assert bench.medians(rounds) == {"a": {"x": 2}, "b": {"x": 5}}


def test_rows_when_groups_are_named_then_something_measures_them(monkeypatch):
    """A row whose group is misspelt would be "not measured" for ever."""
    for module, name in ((bench_client, "measure"), (bench_codec, "json_of"), (bench_blocks, "json_of")):
        monkeypatch.setattr(module, name, lambda *_: {})
    for name in ("from_libcoap", "to_libcoap", "to_aiocoap"):
        monkeypatch.setattr(bench_blocks, name, lambda *_: {})
    monkeypatch.setattr(bench_oscore, "json_of", lambda _: {"plain": {}, "protected": {}, "context": 1})
    measured = set(bench_server.MAIN | bench_server.PEERS | bench_server.GROWTH)
    measured |= {"coaps plain", "coaps protected"}
    for part in ("codec", "client", "blocks", "oscore"):
        measured |= set(bench.PARTS[part]())
    groups = {name.rpartition(".")[0] for row in budgets.SPEED for name in (row.over, row.below)}
    assert groups <= measured
    drawn = {group for _, *points in bench_plot.GROWTH for _, group in points}
    drawn |= {group for pairs in (bench_plot.SERVERS, bench_plot.CODECS, bench_plot.CLIENTS) for _, group in pairs}
    assert drawn <= measured


def test_summary_when_rows_are_missed_then_they_are_named():
    """The last line of the report."""
    rows = [
        budgets.Row("good", "a.x", None, "<=", 5, 2),
        budgets.Row("bad", "a.x", None, "<=", 1, 0),
        budgets.Row("gone", "b.x", None, "<=", 1, 0),
        budgets.Row("free", "a.x", None),
    ]
    sentence = budgets.summary(budgets.judge([{"a": {"x": 2}}], rows))
    assert sentence == "1 of 2 rows are met, 1 of them reach the aim; not measured: gone; not met: bad"


def test_doubts_when_the_load_was_slow_or_disturbed_then_they_are_said(capsys):
    """What may make figures wrong is said, else nothing."""
    bench.print_doubts({"server a": {"busy": 0.95, "disturbed": 0.01}, "codec b": {"index": 1.0}}, 7)
    assert capsys.readouterr().out == ""
    bench.print_doubts({"server a": {"busy": 0.5, "disturbed": 0.2}, "server b": {"busy": 0.5, "disturbed": 0.0}}, 3)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in said] == ["something", "the", "medians"]
    assert "server a" in said[0] and "server b" in said[1]


def test_versions_when_told_then_none_is_a_complaint():
    """build/bench.json says what was measured."""
    found = bench.versions()
    assert found["micropython"].startswith("MicroPython ") and found["aiocoap"][0].isdigit()
    assert all("\n" not in version for version in found.values())


def test_plot_when_drawn_then_it_is_an_svg_and_the_same_again(tmp_path):
    """One picture for the README, under version control."""
    pytest.importorskip("matplotlib")
    server = {"rps_w1": 1.0, "rps_w16": 2.0, "cpu_us": 3.0, "latency_us": 4.0}
    medians = {group: server for _, group in (*bench_plot.SERVERS, bench_plot.ECHO)}
    medians |= {group: server for _, *points in bench_plot.GROWTH for _, group in points}
    medians |= {group: {"index": 5.0, "write": 6.0} for _, group in bench_plot.CODECS}
    medians |= {group: {"rps": 7.0} for _, group in bench_plot.CLIENTS}
    for name in ("a.svg", "b.svg"):
        bench_plot.draw(medians, tmp_path / name, "a caption")
    text = (tmp_path / "a.svg").read_text()
    assert text.startswith("<?xml") and "a caption" in text
    assert text == (tmp_path / "b.svg").read_text()


def test_record_when_written_then_it_is_json(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_process, "ROOT", tmp_path)
    bench.record({"processors": 2}, [{"a": {"x": 1.5}}], [])
    content = json.loads((tmp_path / "build/bench.json").read_text())
    assert content["rounds"] == [{"a": {"x": 1.5}}] and content["computer"]["processors"] == 2
