"""A sensor and an LED over CoAP: the application, the same on every board.

    import board, machine, sensor_server

    sensor_server.start(board.Board(), machine.reset)    # in main.py of a board: connects, serves, survives
    sensor_server.run(board.Board())                     # serves

    GET      /sensors/temp  the reading, as text or, with Accept, as JSON
    GET PUT  /led           on or off; PUT takes 1, 0, on, off
    GET      /info          the state of the board, as JSON
    GET      /.well-known/core  this list, by coap itself

Where coap_observe.py is there, too, temperature and LED can be observed. All answers fit into a datagram, so blocks
are not used: /info changes from one to the next, and could not be put together from several.

With OSCORE set, below, only requests that are protected with a key of that file are answered (RFC 8613), all others
with 4.01: reading, switching and discovery alike; see oscore_setup.py. With COAPS set it speaks coaps, on port 5684
and with those who have a key of that file, and nothing else; see coaps_setup.py. It is the one or the other.

A board is an object with

    name             what it is, for people
    temperature()    returns (value, unit, source): 22.5, "C", "the processor's own sensor"; raises OSError if there
                     is no reading now
    is_led_on        whether the LED is lit
    set_led(is_on)   lights or darkens it
    connect()        brings the network up; raises ValueError if only a person can help, OSError if the network does
                     not come; the text of both is a sentence for people
    address()        returns its IP address, as text
    poll()           keeps the network up, without waiting; returns the ms after which to call it again, at most a day
"""

import gc
import json
import sys
import time

import coap

try:
    import coap_observe
except ImportError:  # was not copied
    coap_observe = None

OSCORE = None  # or "oscore.json": the file with the keys, see oscore_example.json; its numbers are kept beside it
COAPS = None  # or "coaps.json": the file with the keys, see coaps_example.json; needs MicroPython 1.29

_LOOK_MS = 5000  # between looks at whether the temperature has changed, if it can be observed
_PAUSE_S = 10  # before a restart: time for Ctrl-C, and a network is not asked in vain too often
_SWITCH = {b"1": True, b"on": True, b"0": False, b"off": False}


class SetupError(Exception):
    """The server cannot start before a person has done something; the text is a sentence that says what."""


class Uptime:
    """Counts seconds since it was made; not with time.time(), which jumps when a board's clock is set."""

    def __init__(self):
        self._total_ms = 0
        self._last_ms = coap.ticks_ms()

    def seconds(self):
        """Return the seconds; call it every few days at least, for ticks wrap after 12."""
        now_ms = coap.ticks_ms()
        self._total_ms += coap.ticks_diff(now_ms, self._last_ms)
        self._last_ms = now_ms
        return self._total_ms // 1000


_uptime = Uptime()


def _interpreter():
    """As in `micropython 1.29.0`."""
    return "%s %d.%d.%d" % ((sys.implementation.name,) + tuple(sys.implementation.version[:3]))


def describe(board):
    """Return what /info says of `board`, as a dict."""
    info = {
        "board": board.name,
        "platform": sys.platform,
        "interpreter": _interpreter(),
        "version": coap.VERSION,
        "uptime_s": _uptime.seconds(),
        "sensor": board.temperature()[2],
    }
    if hasattr(gc, "mem_free"):  # CPython does not know
        info["heap_free_bytes"] = gc.mem_free()
    return info


def _text(board):
    """The temperature as text, with its unit."""
    value, unit, _ = board.temperature()
    return "%.1f %s" % (value, unit)


def build(board, endpoint):
    """Register the resources of `board` (see the top of this file) on `endpoint`, a coap.Endpoint."""
    if coap_observe:
        coap_observe.attach(endpoint)
    obs = coap_observe is not None
    temp = endpoint.resource("sensors/temp", ct=(coap.TEXT, coap.JSON), rt="temperature", if_="sensor", obs=obs)
    led = endpoint.resource("led", ct=coap.TEXT, rt="light", if_="actuator", obs=obs)
    info = endpoint.resource("info", ct=coap.JSON, rt="info")

    @temp.get
    def read_temp(request, response):
        if request.opt.accept == coap.JSON:
            return '{"value": %.1f, "unit": "%s"}' % board.temperature()[:2]
        return _text(board)

    @led.get
    def read_led(request, response):
        return "on" if board.is_led_on else "off"

    @led.put
    def switch_led(request, response):
        is_on = _SWITCH.get(request.payload.strip().lower())
        if is_on is None:
            return coap.BAD_REQUEST, "1, 0, on or off"
        board.set_led(is_on)
        if coap_observe:
            endpoint.notify("led")

    @info.get
    def read_info(request, response):
        return json.dumps(describe(board))


def _protect(endpoint, oscore):
    """Have `endpoint` answer only what is protected with keys of the file `oscore`; raises SetupError."""
    try:
        import oscore_setup
    except ImportError:
        raise SetupError("OSCORE is set, and oscore_setup or coap_oscore is missing: copy them to the board")
    oscore_setup.protect(endpoint, oscore)


def _transport(port, host, coaps):
    """A transport of coaps with keys of the file `coaps`; raises SetupError, OSError if the port is taken."""
    try:
        import coaps_setup
    except ImportError:
        raise SetupError("COAPS is set, and coaps_setup is missing: copy it to the board")
    return coaps_setup.transport(port, host, coaps)


def choose(oscore=None, coaps=None):
    """Returns (OSCORE's file of keys, that of coaps, the usual port), None for what is off, or for both.

    oscore, coaps: a file in the place of what is set above. Raises SetupError if it is both.
    """
    if not oscore and not coaps:
        oscore, coaps = OSCORE, COAPS
    if oscore and coaps:
        raise SetupError("OSCORE and COAPS are both set in sensor_server.py: set one of them to None")
    return oscore, coaps, 5684 if coaps else 5683


def run(board, port=None, host="0.0.0.0", oscore=None, coaps=None):
    """Serve `board`, which is connected, on UDP `port` of the address `host` ("0.0.0.0": all); does not return.

    port: None: 5683, of coaps 5684; oscore, coaps: a file of keys in the place of OSCORE and COAPS.
    Raises SetupError, for these; OSError if the port is taken, the address is none of this machine's, or board.poll()
    gives the network up.
    """
    oscore, coaps, usual_port = choose(oscore, coaps)
    port = port or usual_port
    with coap.Endpoint(port, host, sock=_transport(port, host, coaps) if coaps else None) as endpoint:
        endpoint.log = print  # a handler that raised, a datagram that could not be sent, a client that was refused
        if oscore:
            _protect(endpoint, oscore)
        build(board, endpoint)
        shown = board.address() if host == "0.0.0.0" else host
        shown = "[%s]" % shown if ":" in shown else shown
        about = ("coaps" if coaps else "coap", shown, port, board.name, _interpreter())
        print("serving %s://%s:%d/ on %s, %s" % about + (", by OSCORE only" if oscore else ""))
        text = None
        while True:
            wait_ms = board.poll()
            if coap_observe:
                wait_ms = min(wait_ms, _LOOK_MS)
                before = text
                try:
                    text = _text(board)
                except OSError:  # not now: an ESP32 without sensor reads the WiFi's signal, and that is lost
                    pass
                if text != before:
                    endpoint.notify("sensors/temp")
            endpoint.process(wait_ms)
            _uptime.seconds()


def _report(fault, is_sentence):
    """Print what ended the server: with the traceback, unless it is a sentence."""
    try:
        if is_sentence:
            print(fault)
        else:
            sys.print_exception(fault)
    except MemoryError:  # what ended the server may be just that
        pass


def _connect_and_run(board, port):
    """Returns when that has ended: whether to restart may help."""
    has_served = False
    try:
        board.connect()
        has_served = True
        run(board, port)
    except SetupError as fault:
        _report(fault, True)
        return False
    except Exception as fault:
        _report(fault, not has_served)
        return has_served or not isinstance(fault, ValueError)


def start(board, restart, port=None):
    """Connect `board` and serve it on UDP `port`, for good; None: see run.

    What ends that is printed, and after a pause `restart()` is called: a reset also mends a heap in pieces and a radio
    that hangs. Returns, to the prompt of a board, at Ctrl-C and when a restart cannot help: WiFi, OSCORE or coaps are
    not set up.
    """
    try:
        if _connect_and_run(board, port):
            print("restarts in %d s, unless you press Ctrl-C" % _PAUSE_S)
            time.sleep(_PAUSE_S)
            restart()
    except KeyboardInterrupt:
        print("stopped")
