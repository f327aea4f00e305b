"""An ESP32, -S2, -S3, -C3 or -C6 as a board: its WiFi, its temperature, its LED. See README.md beside it.

    board = Board()
    board.connect()     # joins the network that wifi_secrets.py names
    while True:
        board.poll()    # often: joins it again when it was lost

MicroPython only, 1.23 or newer.
"""

import sys
import time

import machine
import network
from micropython import const

import esp32

_LIMIT_MS = const(30000)  # to join the network
_REFUSALS = const(3)  # of a network that are believed
_PAUSE_MS = const(1000)  # after a refusal
_LOOK_MS = const(100)  # between looks at whether it has joined
_WATCH_MS = const(2000)  # between looks at whether it still is
_REJOIN_MS = const(10000)  # from one attempt to join again to the next, unless it is still under way
_LOST_MS = const(300000)  # without network; then a restart may help

_LED_PIN = const(2)  # of most development boards

_JOINING = (1001,)  # what status() is meanwhile, STAT_CONNECTING

_REFUSED = 'the network "%s" refuses the password in wifi_secrets.py'
_ABSENT = 'there is no network "%s" at 2.4 GHz here: check SSID in wifi_secrets.py'

# Reasons of a failure, which status() returns as they come from ESP-IDF; network has names for some of them.
# A wrong password may show as any of these: https://github.com/micropython/micropython/issues/11625
_FAULTS = {
    15: _REFUSED,  # 4-way handshake timeout
    202: _REFUSED,  # authentication failed, STAT_WRONG_PASSWORD
    204: _REFUSED,  # handshake timeout, STAT_HANDSHAKE_TIMEOUT
    201: _ABSENT,  # STAT_NO_AP_FOUND
    210: _ABSENT,  # none with a security that this chip has
    211: _ABSENT,  # none as secure as asked for
    212: _ABSENT,  # none with enough signal
}


def _credentials():
    """The (ssid, password) of wifi_secrets.py, password None for an open network; raises ValueError: what to do."""
    try:
        import wifi_secrets

        ssid, password = wifi_secrets.SSID, wifi_secrets.PASSWORD
        ssid_len, password_len = len(ssid.encode()), len(password.encode())
    except (ImportError, AttributeError, NameError, SyntaxError):
        raise ValueError("wifi_secrets.py is missing or wrong: fill in wifi_secrets_example.py, copy it to the board")
    if not 0 < ssid_len <= 32 or password_len and not 8 <= password_len <= 64:
        raise ValueError('wifi_secrets.py needs an SSID of 1 to 32 bytes, a PASSWORD of 8 to 64 or, if it is open, ""')
    return ssid, password or None


def _find_led():
    """The pin that the firmware calls LED, else the usual one."""
    try:
        return machine.Pin("LED", machine.Pin.OUT)
    except (TypeError, ValueError):
        return machine.Pin(_LED_PIN, machine.Pin.OUT)


class Board:
    """What sensor_server.py asks for, on an ESP32.

    led: what lights the LED, with a method value(is_on): a machine.Pin, or a machine.Signal for one that is lit at 0.
    """

    def __init__(self, led=None):
        self.name = sys.implementation._machine
        self.is_led_on = False
        self._led = _find_led() if led is None else led
        self._wlan = None
        self._ssid = self._password = None
        self._lost_ms = None  # since when there is no network
        self._rejoined_ms = 0

    def temperature(self):
        """Return (value, unit, source): that of the chip in C, else the strength of the network's signal in dBm."""
        if hasattr(esp32, "mcu_temperature"):  # https://github.com/micropython/micropython/pull/13276
            return esp32.mcu_temperature(), "C", "the processor's own sensor"
        raw = esp32.raw_temperature() if hasattr(esp32, "raw_temperature") else 128
        if raw != 128:  # some chips give this always: https://github.com/espressif/arduino-esp32/issues/2422
            return (raw - 32) / 1.8, "C", "the processor's own sensor"
        return self._wlan.status("rssi"), "dBm", "signal of the WiFi, this chip has no thermal sensor"

    def set_led(self, is_on):
        """Switch the LED."""
        self._led.value(is_on)
        self.is_led_on = is_on

    def address(self):
        """Return the IPv4 address, as text; "0.0.0.0" without network."""
        return self._wlan.ifconfig()[0]

    def connect(self, limit_ms=_LIMIT_MS):
        """Join the network of wifi_secrets.py within `limit_ms`.

        Raises ValueError if only a person can help: there is no WiFi, or wifi_secrets.py is missing or wrong; OSError
        if the network is absent, refuses the password or gives no address. The text of both is a sentence.
        """
        self._ssid, self._password = _credentials()
        self._open()
        if self._wlan.isconnected() and self._wlan.config("ssid") == self._ssid:
            return  # a soft reset keeps the network
        self._leave()
        print('joining the network "%s"' % self._ssid)
        self._join()
        self._await(limit_ms)

    def poll(self):
        """Join the network again if it was lost, without waiting; returns the ms after which to call it again.

        Allocates nothing while the network is there. Raises OSError when it has tried for five minutes.
        """
        if self._wlan.isconnected():
            if self._lost_ms is not None:
                self._lost_ms = None
                print("the network is back, the address is", self.address())
            return _WATCH_MS
        now_ms = time.ticks_ms()
        if self._lost_ms is None:
            print("the network is lost")
            self._lost_ms = now_ms
        else:
            pause_ms = _LIMIT_MS if self._wlan.status() in _JOINING else _REJOIN_MS
            if time.ticks_diff(now_ms, self._rejoined_ms) < pause_ms:
                return _WATCH_MS
            if time.ticks_diff(now_ms, self._lost_ms) >= _LOST_MS:
                raise OSError("the network does not come back")
        self._rejoined_ms = now_ms
        self._join()
        return _WATCH_MS

    def _open(self):
        """Switch the radio on, as a server needs it; raises ValueError if there is none."""
        if not hasattr(network, "WLAN"):
            raise ValueError("this chip has no WiFi: take an ESP32, -S2, -S3, -C3 or -C6")
        self._wlan = network.WLAN(network.STA_IF)
        self._wlan.active(True)
        # Sleep between beacons, the default, delays each request: https://github.com/micropython/micropython/pull/8993
        self._wlan.config(pm=self._wlan.PM_NONE)
        # While the driver tries again by itself, status() hides why it failed, and connect() raises:
        # https://github.com/micropython/micropython/issues/12315, /17661. So it does not, and we do.
        self._wlan.config(reconnects=0)

    def _leave(self):
        try:
            self._wlan.disconnect()
        except OSError:  # it was in no network
            pass

    def _join(self):
        """Begin to join the network; returns at once."""
        try:
            self._wlan.connect(self._ssid, self._password)
        except OSError:  # "Wifi Internal State Error": it is about to join, or to leave
            pass

    def _await(self, limit_ms):
        """Wait until the network is joined, beginning anew after a refusal; raises OSError."""
        begin_ms = time.ticks_ms()
        refusals = 0  # the first is often wrong, so it takes three
        while not self._wlan.isconnected():
            if time.ticks_diff(time.ticks_ms(), begin_ms) >= limit_ms:
                text = 'the network "%s" gave no address within %d s: check its signal, its DHCP, the password'
                raise OSError(text % (self._ssid, limit_ms // 1000))
            status = self._wlan.status()
            if status in _JOINING:
                time.sleep_ms(_LOOK_MS)
                continue
            if status in _FAULTS:
                refusals += 1
                if refusals == _REFUSALS:
                    raise OSError(_FAULTS[status] % self._ssid)
            time.sleep_ms(_PAUSE_MS)
            self._join()
