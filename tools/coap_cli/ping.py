"""coap ping: empty confirmable messages, which a host answers with a Reset (RFC 7252 section 4.3)."""

import time

import coap

from . import exits
from .connection import authority_of
from .output import note, put_line
from .requests import milliseconds, wait
from .trace import host_text


def ping(endpoint, uri, count, interval_s, timeout_s):
    """Ping `count` times and print each answer; Ctrl-C ends it earlier. Returns the exit code."""
    times_ms = []
    sent = 0
    try:
        for sent in range(1, count + 1):
            begin_s = time.monotonic()
            times_ms += once(endpoint, endpoint.resolve(authority_of(uri)), timeout_s)
            if sent < count:
                time.sleep(max(0, begin_s + interval_s - time.monotonic()))
    except KeyboardInterrupt:
        note("interrupted")
    if times_ms:
        mean_ms = sum(times_ms) / len(times_ms)
        times = f", {min(times_ms):.1f}/{mean_ms:.1f}/{max(times_ms):.1f} ms least/mean/most"
    else:
        times = ""
    note(f"{len(times_ms)} of {sent} answered{times}")
    return exits.DONE if times_ms else exits.TIMEOUT


def once(endpoint, peer, timeout_s):
    """Ping once; returns a list of the time that it took in ms, empty if there is no answer."""
    begin_s = time.perf_counter()
    record = endpoint.send(coap.Message(0, mtype=coap.CON), peer, milliseconds(timeout_s))
    tries = record.transmissions_left
    wait(endpoint, record)
    took_ms = (time.perf_counter() - begin_s) * 1000
    if record.error is not coap.Reset:
        put_line(f"{host_text(peer)}  no answer within {timeout_s:g} s")
        return []
    again = tries - record.transmissions_left - 1
    put_line(f"{host_text(peer)}  {took_ms:.1f} ms" + (f", sent {again + 1} times" if again else ""))
    return [took_ms]
