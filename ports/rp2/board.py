"""A Raspberry Pi Pico W or Pico 2 W as a board: its WiFi, its temperature, its LED. See README.md beside it.

    board = Board()
    board.connect()     # joins the network that wifi_secrets.py names
    while True:
        board.poll()    # often: joins it again when it was lost

MicroPython only, 1.23 or newer.
"""

import sys
import time

import machine
from micropython import const

try:
    import network
except ImportError:  # the firmware of a Pico without W
    network = None

_LIMIT_MS = const(30000)  # to join the network
_REFUSALS = const(3)  # of a network that are believed
_PAUSE_MS = const(1000)  # after a refusal
_LOOK_MS = const(100)  # between looks at whether it has joined
_WATCH_MS = const(2000)  # between looks at whether it still is
_REJOIN_MS = const(10000)  # from one attempt to join again to the next, unless it is still under way
_LOST_MS = const(300000)  # without network; then a restart may help

_NO_POWERSAVE = const(0xA11140)  # pm of firmware that has no name for it

_JOINING = (1, 2)  # what status() is meanwhile: STAT_CONNECTING, and joined but without address

_NO_WIFI = "this firmware or board has no WiFi: take a Pico W or Pico 2 W, with the firmware of that name"

# A wrong password may also look like joining for ever: https://github.com/georgerobotics/cyw43-driver/issues/62
_FAULTS = {
    # The first of a good password may be refused: https://github.com/georgerobotics/cyw43-driver/pull/150
    -3: 'the network "%s" refuses the password in wifi_secrets.py',  # STAT_WRONG_PASSWORD
    -2: 'there is no network "%s" at 2.4 GHz here: check SSID and COUNTRY in wifi_secrets.py',  # STAT_NO_AP_FOUND
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


def _set_country():
    """Tell the radio the country of wifi_secrets.py, if that has one; without it, channels 12 and 13 are not used.

    Raises ValueError: what to do.
    """
    import wifi_secrets

    country = getattr(wifi_secrets, "COUNTRY", "")
    try:
        if country:
            network.country(country)
    except (TypeError, ValueError):  # without a word
        raise ValueError('COUNTRY in wifi_secrets.py is two letters, as in "DE", or ""')


def _find_led():
    """The pin that the firmware calls LED, or None; that of a Pico W hangs on the WiFi chip and has no number."""
    try:
        return machine.Pin("LED", machine.Pin.OUT)
    except (TypeError, ValueError):
        return None


class Board:
    """What sensor_server.py asks for, on a Pico W.

    led: what lights the LED, with a method value(is_on): a machine.Pin, or a machine.Signal for one that is lit at 0.
    """

    def __init__(self, led=None):
        self.name = sys.implementation._machine
        self.is_led_on = False
        self._led = _find_led() if led is None else led
        # 4 is right on an RP2040 only: https://github.com/micropython/micropython/issues/15687
        self._sensor = machine.ADC(machine.ADC.CORE_TEMP)
        self._wlan = None
        self._ssid = self._password = None
        self._lost_ms = None  # since when there is no network
        self._rejoined_ms = 0

    def temperature(self):
        """Return (value, unit, source): that of the chip in C; the formula is the RP2040 datasheet's, 4.9.5."""
        volts = self._sensor.read_u16() * 3.3 / 65535
        return 27 - (volts - 0.706) / 0.001721, "C", "the processor's own sensor"

    def set_led(self, is_on):
        """Switch the LED, if there is one."""
        if self._led:
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
        if network is None or not hasattr(network, "WLAN"):
            raise ValueError(_NO_WIFI)
        self._ssid, self._password = _credentials()
        _set_country()
        self._open()
        # A soft reset keeps the network, and joining it once more stops multicast:
        # https://github.com/micropython/micropython/issues/11294
        if self._wlan.isconnected() and self._wlan.config("ssid") == self._ssid:
            return
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
        """Switch the radio on, as a server needs it; raises ValueError if it does not answer."""
        self._wlan = network.WLAN(network.STA_IF)
        try:
            self._wlan.active(True)
            # Sleep between beacons, the default, delays each request by up to 200 ms:
            # https://github.com/georgerobotics/cyw43-driver/pull/126
            self._wlan.config(pm=getattr(self._wlan, "PM_NONE", _NO_POWERSAVE))
        except OSError:  # firmware of a Pico W on a Pico
            raise ValueError(_NO_WIFI)

    def _join(self):
        """Begin to join the network, leaving what was left of it; takes some milliseconds."""
        try:
            self._wlan.disconnect()
            self._wlan.connect(self._ssid, self._password)
        except OSError:  # the chip is busy; there will be another attempt
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
