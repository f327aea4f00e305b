"""What the programs beside this file share: the library's paths, must, rest, the heap, the command line.

Every program here proves figures of the message layer with `run(scale)`: 1.0 is the whole figure, less is a part of
it. It prints its figures and raises AssertionError when one is missed. The same files run on CPython and MicroPython:

    python tests/prove/timers.py 0.1
    micropython tests/prove/timers.py 0.1

Nothing here may use `assert`: `mpy-cross -O3` drops it. This file is short, for it shares a small heap with the rest.
"""

import gc
import sys

_HERE = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
for _folder in ("/../../lib", "/.."):  # at the end: what MICROPYPATH or PYTHONPATH names goes first
    sys.path.append(_HERE + _folder)

import coap  # noqa: E402

IS_MICROPYTHON = sys.implementation.name == "micropython"
MOST_IDLE = 1000  # turns without time passing: an engine that asks for more is in a loop
LIFETIME_MS = 247000  # EXCHANGE_LIFETIME, RFC 7252 section 4.8.2


def must(condition, text, *values):
    """Raises AssertionError with `text` % `values` unless `condition` holds."""
    if not condition:
        raise AssertionError(text % values if values else text)


def free_heap():
    """Bytes of heap that are free after a collection; 0 on CPython, where nobody counts."""
    gc.collect()
    gc.collect()
    return gc.mem_free() if IS_MICROPYTHON else 0


def reset_all(engine, now_ms):
    """Send what is due, each is answered with a Reset, which ends it; returns whether there was anything."""
    first = datagram = engine.due(now_ms)
    while datagram is not None:
        engine.receive(b"\x70\x00" + bytes(datagram[2:4]), engine.peer, now_ms)
        datagram = engine.due(now_ms)
    engine.received = None
    return first is not None


def come_to_rest(engine, now_ms):
    """Let time pass while only Resets come; the engine must be at rest a lifetime after the last message it sent.

    Without Resets, 8 messages in the queue would wait up to 93 s each for the one before. Returns the time then.
    """
    end_ms = coap.ticks_add(now_ms, LIFETIME_MS)
    step_ms = idle = 0
    while idle < MOST_IDLE and step_ms is not None and coap.ticks_diff(end_ms, now_ms) >= step_ms:
        now_ms = coap.ticks_add(now_ms, step_ms)
        if reset_all(engine, now_ms):
            end_ms = coap.ticks_add(now_ms, LIFETIME_MS)
        step_ms = engine.next_ms(now_ms)
        idle = 0 if step_ms else idle + 1
    must(step_ms is None, "still something to come after 247 s: %s", engine.next_event_reason)
    return now_ms


def command_line(run):
    """Runs a program with the scale of the command line, 1.0 if there is none."""
    run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
