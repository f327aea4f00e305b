"""Options of messages by name and number, as the user writes them and as they are shown."""

import coap

NAMES = {
    1: "If-Match",
    3: "Uri-Host",
    4: "ETag",
    5: "If-None-Match",
    6: "Observe",
    7: "Uri-Port",
    8: "Location-Path",
    9: "OSCORE",
    11: "Uri-Path",
    12: "Content-Format",
    14: "Max-Age",
    15: "Uri-Query",
    16: "Hop-Limit",
    17: "Accept",
    20: "Location-Query",
    23: "Block2",
    27: "Block1",
    28: "Size2",
    35: "Proxy-Uri",
    39: "Proxy-Scheme",
    60: "Size1",
    252: "Echo",
    258: "No-Response",
    292: "Request-Tag",
}
NUMBERS = {name.lower(): number for number, name in NAMES.items()}


def option_name(number):
    """The option's name as in the RFCs, or its number."""
    return NAMES.get(number, str(number))


def split_option(text):
    """(number, value as text or None) of NAME=VALUE or NAME; raises ValueError."""
    name, mark, value = text.partition("=")
    number = NUMBERS.get(name.lower().replace("_", "-"))
    if number is None and name.isascii() and name.isdigit() and 0 < int(name) < 65536:
        number = int(name)
    if number is None:
        raise ValueError(f"no option is called {name!r}; write its number, or one of {', '.join(NAMES.values())}")
    return number, value if mark else None


def add_option(message, text):
    """Add the option NAME=VALUE to a message; raises ValueError with a sentence.

    A value is text or a number, as the option's format asks for; 0x... are bytes for any option.
    """
    number, value = split_option(text)
    try:
        if value is None:
            message.add_option(number, b"")
        elif value[:2].lower() == "0x":
            message.add_option(number, bytes.fromhex(value[2:]))
        elif value.isascii() and value.isdigit() and is_uint(number):
            message.add_option(number, int(value))
        else:
            message.add_option(number, value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"option {text}: {error}") from None


def is_uint(number):
    """Whether the option's value is a number."""
    probe = coap.Message()
    try:
        return number in NAMES and probe.add_option(number, 0) is probe
    except (TypeError, ValueError):
        return False
