"""Values drawn live in the terminal."""

import collections
import json
import math
import re
import time

from . import formats
from .readable import from_cbor, printable

POINTS = 2000  # kept
VALUE_NAMES = ("value", "v")  # of SenML and its like, before others
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def is_number(item):
    """Whether an item of JSON or CBOR is a number that can be drawn."""
    return isinstance(item, (int, float)) and not isinstance(item, bool) and math.isfinite(item)


def first_number(item):
    """The number in an item of JSON or CBOR: of "value" or "v" if there is one, else the first; or None."""
    if is_number(item):
        return float(item)
    if isinstance(item, dict):
        named = [item[name] for name in VALUE_NAMES + (2,) if name in item]  # 2: v in SenML's CBOR (RFC 8428)
        item = named + list(item.values())
    for part in item if isinstance(item, (list, tuple)) else ():
        number = first_number(part)
        if number is not None:
            return number
    return None


def number_in(payload, content_format):
    """The number that a payload says, or None."""
    try:
        if formats.is_cbor(content_format):
            return first_number(from_cbor(payload))
        if formats.is_json(content_format):
            return first_number(json.loads(payload))
        return float(NUMBER.search(payload.decode())[0])
    except (ValueError, TypeError, OverflowError, RecursionError):  # whatever a peer sent
        return None


class Plot:
    """Context manager that draws a curve over the seconds since the first value, anew with each."""

    def __init__(self, title):
        from rich.console import Console
        from rich.live import Live

        self.title = title
        self.console = Console()
        self.live = Live(console=self.console, auto_refresh=False)
        self.times_s = collections.deque(maxlen=POINTS)
        self.values = collections.deque(maxlen=POINTS)
        self.begin_s = None

    def __enter__(self):
        self.live.start()
        return self

    def __exit__(self, *_):
        self.live.stop()

    def add(self, value, text):
        """Draw a value; `text` is shown in the title."""
        now_s = time.monotonic()
        self.begin_s = self.begin_s or now_s
        self.times_s.append(now_s - self.begin_s)
        self.values.append(value)
        self.live.update(self.drawn(text), refresh=True)

    def drawn(self, text):
        """The plot as text for the terminal, as large as that is now."""
        import plotext
        from rich.text import Text

        width, height = self.console.size
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.plotsize(width, max(8, min(height - 2, 24)))
        plotext.plot(list(self.times_s), list(self.values), marker="braille")
        plotext.title(f"{printable(self.title)}  {text}")
        plotext.xlabel("seconds")
        return Text.from_ansi(plotext.build(), no_wrap=True)
