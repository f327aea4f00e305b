"""Options of messages by name and number, as the user writes them and as they are shown."""

import contextlib

import coap

UINT = "a number"
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
    if number is None and name.lstrip("-").isdigit():
        raise ValueError(f"an option's number is 1 to 65535, not {name}")
    if number is None:
        raise ValueError(f"no option is called {name!r}; write its number, or one of {', '.join(NAMES.values())}")
    return number, value if mark else None


def add_option(message, text):
    """Add the option NAME=VALUE to a message; raises ValueError with a sentence.

    A value is text or a number, as the option's format asks for; 0x... are bytes for any option.
    """
    number, value = split_option(text)
    try:
        message.add_option(number, value_of(number, value))
    except TypeError:
        raise ValueError(f"option {text}: {option_name(number)} takes {form_of(number)}") from None
    except ValueError as error:
        raise ValueError(f"option {text}: {error}") from None


def value_of(number, text):
    """The value of an option that the user wrote as `text`, None for none; raises ValueError."""
    if text is None:
        return b""
    if text[:2].lower() == "0x":
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            raise ValueError("write hexadecimal digits, two for each byte, behind 0x") from None
    if text.isascii() and text.isdigit() and form_of(number) == UINT:
        return int(text)
    return text


def form_of(number):
    """What the option's value is, in words; of an unknown option text."""
    for form, value in (("text", "1"), (UINT, 1), ("no value: write its name alone", True)):
        with contextlib.suppress(TypeError, ValueError):
            coap.Message().add_option(number, value)
            return form
    return "bytes, as 0x1f2e"
