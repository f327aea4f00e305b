"""This computer as a board: it measures something real; its LED is a variable, whose changes it prints."""

import os

_THERMAL = "/sys/class/thermal"
_LOAD = "/proc/loadavg"
_HOUR_MS = 3600000


def _read(path):
    with open(path) as file:
        return file.read().strip()


def _find_zone(folder):
    """The path of the first thermal zone that can be read, or None: virtual machines often have none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None
    for name in names:
        zone = folder + "/" + name
        try:
            int(_read(zone + "/temp"))
        except (OSError, ValueError):
            continue
        return zone
    return None


class Board:
    """What sensor_server.py asks for, on Linux.

    thermal_folder: where the system shows its thermal zones.
    """

    def __init__(self, thermal_folder=_THERMAL):
        self.name = "this computer"
        self.is_led_on = False
        self._zone = _find_zone(thermal_folder)

    def temperature(self):
        """Return (value, unit, source): a thermal zone's temperature in C, else the load average in percent.

        Raises OSError if neither can be read.
        """
        if self._zone:
            return int(_read(self._zone + "/temp")) / 1000, "C", self._zone
        one_minute = float(_read(_LOAD).split()[0])
        return one_minute * 100, "%", "load average of 1 minute, there is no thermal sensor"

    def set_led(self, is_on):
        """Switch the LED."""
        if is_on != self.is_led_on:
            print("LED", "on" if is_on else "off")
        self.is_led_on = is_on

    def connect(self):
        """Nothing is to be done: the system keeps the network up."""

    def address(self):
        """Return "0.0.0.0", which stands for all its addresses: MicroPython's unix port cannot tell them."""
        return "0.0.0.0"

    def poll(self):
        """Return the ms after which to call it again; there is nothing to keep up."""
        return _HOUR_MS
