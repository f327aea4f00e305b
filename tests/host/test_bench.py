"""make bench: the load counts what is answered, the programs it runs work, what is missing is said in a sentence."""

import json
import socket
import sys
import threading

import pytest

from programs import ROOT, node_package, program

sys.path.insert(0, str(ROOT / "tools"))

import bench  # noqa: E402
import bench_codec  # noqa: E402
import bench_plot  # noqa: E402
import bench_process  # noqa: E402
import bench_server  # noqa: E402
import budgets  # noqa: E402


@pytest.fixture(scope="module")
def library():
    """The compiled library."""
    program("micropython")
    bench_process.library()


@pytest.fixture
def echo_port():
    """A port that sends back every datagram but each seventh."""
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
    aiocoap = pytest.importorskip("aiocoap")
    message = aiocoap.Message.decode(bench_server.request(0x1234, "temp"))
    assert (message.code, message.mtype, message.mid) == (aiocoap.GET, aiocoap.CON, 0x1234)
    assert message.token == b"\x12\x34" and message.opt.uri_path == ("temp",)


def test_requests_when_many_then_no_two_share_a_message_id():
    assert len({datagram[2:4] for datagram in bench_server.requests(65536, "temp")}) == 65536
    with pytest.raises(ValueError):
        bench_server.requests(65537, "temp")


def test_load_when_datagrams_are_lost_then_only_answers_are_counted(echo_port, monkeypatch):
    monkeypatch.setattr(bench_server, "WAIT_S", 0)
    monkeypatch.setattr(bench_server, "WAIT_US", 50000)
    got = bench_server.load(echo_port, bench_server.requests(20, "temp"), 1)
    assert len(got.took_s) == 18  # the 7th and the 14th have no answer


def test_figures_when_a_server_stops_answering_then_it_is_an_error():
    silent = bench_server.Load([], 1.0)
    with pytest.raises(bench_process.BenchError, match="stopped"):
        bench_server.figures_of([(silent, silent, 0.0)])


def test_figures_when_turns_are_summed_then_they_are_per_request():
    alone = bench_server.Load([0.001, 0.002, 0.003], 0.006)
    together = bench_server.Load([0.01] * 10, 0.1)
    figures = bench_server.figures_of([(alone, together, 0.00005)] * 2)
    expected = {"rps_w1": 500, "latency_us": 2000, "rps_w16": 100, "cpu_us": 5}
    assert figures == pytest.approx(expected)


def test_cpu_when_a_process_works_then_its_time_grows():
    import os
    import time

    before_s = bench_process.cpu_s(os.getpid())
    begin_s = time.process_time()
    while time.process_time() - begin_s < 0.05:
        pass
    assert 0.05 <= bench_process.cpu_s(os.getpid()) - before_s < 1


@pytest.mark.parametrize("group", ["server echo", "server ours", "server 100 resources", "server 4 open exchanges"])
def test_server_when_loaded_then_all_is_answered(library, group, monkeypatch):
    monkeypatch.setattr(bench_server, "TURNS", 1)
    server = (bench_server.MAIN | bench_server.GROWTH)[group]._replace(count=200)
    figures = bench_server.measure({group: server})[group]
    assert figures["cpu_us"] > 0 and figures["rps_w16"] > 0 and figures["latency_us"] > 0


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


def test_rows_when_groups_are_named_then_something_measures_them():
    """A row whose group is misspelt would be "not measured" for ever."""
    servers = bench_server.MAIN | bench_server.PEERS | bench_server.GROWTH
    later = {"server 0 observers", "server 64 observers"}
    groups = {name.rpartition(".")[0] for row in budgets.SPEED for name in (row.over, row.below) if name}
    assert {group for group in groups if group.startswith("server")} <= set(servers) | later


def test_plot_when_drawn_then_it_is_an_svg_and_the_same_again(tmp_path):
    pytest.importorskip("matplotlib")
    server = {"rps_w1": 1.0, "rps_w16": 2.0, "cpu_us": 3.0, "latency_us": 4.0}
    codec = {"index": 5.0, "write": 6.0}
    medians = {group: server for _, group in (*bench_plot.SERVERS, *bench_plot.GROWTH)}
    medians |= {group: codec for _, group in bench_plot.CODECS}
    for name in ("a.svg", "b.svg"):
        bench_plot.draw(medians, tmp_path / name)
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_record_when_written_then_it_is_json(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_process, "ROOT", tmp_path)
    bench.record(bench.computer(), [{"a": {"x": 1.5}}], [])
    content = json.loads((tmp_path / "build/bench.json").read_text())
    assert content["rounds"] == [{"a": {"x": 1.5}}] and content["computer"]["processors"] >= 1
