"""Serving ended at each instruction, by signals, and with its engine: what only CPython can show."""

import dis
import gc
import signal
import sys
import weakref

import check
import coap
from fake import PEER, head, packet
from test_serving import Extension, Server, Stop, raiser


def _stop_at(frame, left, event):
    """Raise Stop at the instruction after `left[0]` others of coap.py."""
    if event == "opcode" and dis.opname[frame.f_code.co_code[frame.f_lasti]] != "NOP":
        left[0] -= 1
        if not left[0]:
            sys.settrace(None)
            raise Stop()


def _interrupted(server, datagram, left):
    """Hand over a datagram and raise Stop after `left` instructions; returns whether there were so many."""

    def trace(frame, event, arg):
        if not frame.f_code.co_filename.endswith("coap.py"):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        _stop_at(frame, left, event)
        return trace

    frame = server.engine._serve.__self__.gi_frame
    frame.f_trace = trace
    frame.f_trace_opcodes = True
    before = sys.gettrace()
    gc.disable()  # engines of the steps before end their generators, which is not what is traced
    sys.settrace(trace)
    try:
        server.engine.receive(datagram, PEER, 0)
    except Stop:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
        frame.f_trace = None
    return False


def test_request_when_interrupted_anywhere_then_the_next_and_its_duplicate_are_served():
    """RFC 7252 section 4.5: at each instruction; the reply to an earlier request is not taken for its own."""
    for code in coap.GET, coap.FETCH, coap.PUT:
        datagram = packet(code, 1, uri_path=("odd",))
        step = 1
        is_interrupted = True
        while is_interrupted:
            server = Server(recent=1, kept=4)
            server.act = lambda request, response: "text"
            server.ask(coap.GET, "usual", 7)
            is_interrupted = _interrupted(server, datagram, [step])
            reply = server.engine.receive(datagram, PEER, 1)
            check.eq(reply is None or head(reply)[2] == 1, True, step)
            server.serves()
            step += 1
        check.eq(step > 200, True)


def test_requests_when_interrupted_by_signals_then_all_others_are_served():
    """Ctrl-C on CPython, which looks for it at the end of loops and at calls."""
    server = Server(kept=4)
    interrupts = []

    def interrupt(*_):
        interrupts.append(1)
        raise Stop()

    before = signal.signal(signal.SIGVTALRM, interrupt)
    datagrams = [packet(code, mid, uri_path=("usual",)) for mid in range(4) for code in (coap.GET, coap.PUT)]
    try:
        for _ in range(100):
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.0001)
                while True:
                    for datagram in datagrams:
                        server.engine.receive(datagram, PEER, 0)
            except Stop:
                check.eq(server.engine._is_in_handler, False)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    check.eq(len(interrupts), 100)
    server.serves()


def test_engine_when_dropped_then_is_collected():
    """Its generator knows it, and it knows its generator."""
    gc.collect()
    alive = []
    for _ in range(100):
        server = Server(recent=1, kept=1)
        server.serves()
        server.act = raiser(Stop())
        server.stopped(Stop)
        alive.append(weakref.ref(server.engine))
    del server
    gc.collect()
    check.eq([each() for each in alive], [None] * 100)


def test_handler_when_it_has_raised_then_its_locals_are_freed_at_once():
    """An open file of a handler is not left to the next collection."""
    server = Server()
    alive = []

    def act(request, response):
        local = Extension()
        alive.append(weakref.ref(local))
        raise ValueError("after %r" % local)

    server.act = act
    gc.disable()
    try:
        check.eq(server.ask().code, coap.INTERNAL_SERVER_ERROR)
        check.eq(alive[0](), None)
    finally:
        gc.enable()
