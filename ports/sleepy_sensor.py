"""A sensor on a battery: posts readings, and sleeps until it is time for the next or the protocol has something to do.

    micropython ports/sleepy_sensor.py coap://127.0.0.1:5683/readings [readings [interval_ms [con]]]

Readings go as NON and are lost with their datagram; with `con` they are repeated until acknowledged. No-Response
(RFC 7967) tells the server that nobody listens for more. On a board let the radio sleep between beacons:

    wlan.config(pm=wlan.PM_POWERSAVE)
    sleepy_sensor.run("coap://192.0.2.1/readings", read, count, 60000, sleep_ms=time.sleep_ms)

What arrives meanwhile has to wait in the socket: the radio must stay connected. An ESP32's does not in
machine.lightsleep; a sleep_ms with that has to join the network again.
"""

import sys
import time

try:
    import coap
except ImportError:  # not installed: started in the project's folder
    sys.path.append("lib")
    import coap

_NOTHING_AT_ALL = 26  # No-Response: neither 2.xx, 4.xx nor 5.xx


def _sleep_ms(ms):
    time.sleep_ms(ms) if hasattr(time, "sleep_ms") else time.sleep(ms / 1000)


def nap_ms(endpoint, most_ms):
    """Return (ms, why): how long `endpoint`, which has sent what was due, can be left alone, at most `most_ms`."""
    next_ms = endpoint.next_event_ms()
    if next_ms is None or next_ms > most_ms or endpoint.next_event_reason == "housekeeping":
        return most_ms, "reading"  # what is to be forgotten can wait
    return next_ms, endpoint.next_event_reason


def run(uri, read, count, interval_ms, mtype=coap.NON, sleep_ms=_sleep_ms):
    """Post what `read()` returns to `uri`, `count` times, one each `interval_ms`; prints why it wakes.

    Raises OSError if the name in `uri` is not known at the beginning; later, that costs a reading.
    """
    with coap.Endpoint() as endpoint:
        for number in range(count):
            reading_ms = coap.ticks_add(coap.ticks_ms(), interval_ms)
            message = coap.Message(coap.POST, uri=uri, payload=read(), mtype=mtype, no_response=_NOTHING_AT_ALL)
            try:
                endpoint.send(message)
            except (coap.Full, OSError) as problem:  # the server acknowledges nothing; or its name is not known now
                if not number:
                    raise
                print("skips a reading: %s" % problem)
            left_ms = interval_ms
            while left_ms > 0:
                while endpoint.process(0):  # sends what is due, reads what came: here nothing is expected
                    pass
                ms, why = nap_ms(endpoint, left_ms)
                print("sleeps %d ms until %s" % (ms, why))
                sleep_ms(ms)
                left_ms = coap.ticks_diff(reading_ms, coap.ticks_ms())


def main(words):
    """Send what the command line asks for; returns the exit code."""
    words = words + ["3", "10000", "non"][len(words) - 1 :]
    counts = [coap._number(word) for word in words[1:3]]
    is_right = len(words) == 4 and counts[0] >= 0 and words[3] in ("con", "non")
    if not is_right or not 0 < counts[1] < 100000000:  # 27 hours; ticks do not reach much further
        print("usage: sleepy_sensor.py URI [READINGS [INTERVAL_MS [con]]]")
        return 1
    try:
        run(words[0], lambda: "22.5", *counts, coap.CON if words[3] == "con" else coap.NON)
    except ValueError as problem:
        print(problem)
    except OSError as problem:
        print("%s cannot be reached: %s" % (words[0], problem))
    except KeyboardInterrupt:
        print("stopped")
        return 0
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
