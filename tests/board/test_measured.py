"""Heap and time on the board, for the report at the end."""

import statistics
import time

from peer import SERVER, TUNING_MS, Peer, make

import coap
from udp_ports import free_port

EXCHANGES = 100


def test_heap_when_coap_is_imported_then_there_is_some_left(board, board_report):
    """Free heap of a fresh interpreter, before and after the import."""
    before, after = board.heap()
    sizes = ", ".join(f"{name} {size}" for name, size in board.library_sizes.items())
    board_report += [
        f"  firmware                   {board.device.about}",
        f"  bytes of .mpy              {sizes}",
        f"  free heap before import    {before} bytes",
        f"  free heap after import     {after} bytes ({before - after} kept)",
    ]
    assert after > 0.2 * before


def test_exchange_when_repeated_then_its_time_is_measured(board, host, board_report):
    """A GET with its answer, as this computer sees it: network and board together."""
    port = free_port()
    board.device.reset()
    board.device.start(SERVER.format(port=port, timeout_ms=TUNING_MS))
    assert board.device.read_line() == "up"
    times_ms = []
    with Peer(host, port) as peer:
        for _ in range(EXCHANGES):
            begin_s = time.perf_counter()
            assert peer.ask(make(coap.GET, "text")).code == coap.CONTENT
            times_ms.append((time.perf_counter() - begin_s) * 1000)
    board.device.stop()
    ordered = sorted(times_ms)
    board_report.append(
        f"  time of a GET from here    {statistics.median(ordered):.2f} ms (median of {EXCHANGES}; "
        f"95 %: {ordered[EXCHANGES * 95 // 100]:.2f} ms)"
    )
    assert statistics.median(ordered) < 1000
