"""-v: each datagram sent or received as one line on stderr."""

import time

import click

import coap

from . import formats
from .names import option_name
from .readable import printable

PREVIEW_LEN = 32
ADDRESSING = (3, 7, 11, 15)  # Uri-Host, Uri-Port, Uri-Path, Uri-Query: shown as path and query
FORMATS = (12, 17)  # Content-Format, Accept
BLOCKS = (23, 27)
TYPES = ("CON", "NON", "ACK", "RST")


def block_text(value):
    """The value of Block1 or Block2 as number, more, size (RFC 7959 section 2.2)."""
    return f"{value >> 4}/{'more' if value & 8 else 'last'}/{16 << (value & 7)}"


def value_text(number, value):
    """An option's value."""
    if isinstance(value, bytes):
        return value.hex() or "empty"
    if number in FORMATS:
        return formats.name_of(value)
    if number in BLOCKS:
        return block_text(value)
    return str(value)


def path_text(message):
    """The path and query of a request, as in its URI."""
    uri = message.copy(remote="-", uri_host=None, uri_port=None).get_request_uri()
    return uri.removeprefix("coap://-")


def payload_text(payload):
    """How long the payload is, and how it begins if that is text."""
    text = f"{len(payload)} bytes"
    try:
        shown = payload[:PREVIEW_LEN].decode(errors="ignore" if len(payload) > PREVIEW_LEN else "strict")
    except UnicodeDecodeError:
        return text
    if not shown or not shown.isprintable():
        return text
    return f"{text}: {shown}{'...' if len(payload) > PREVIEW_LEN else ''}"


def message_text(data):
    """What a datagram says, without a line end; raises coap.FormatError."""
    message = coap.Message.decode(data)
    words = [TYPES[message.mtype], coap.code_text(message.code), f"mid={message.mid}"]
    if message.token:
        words.append(f"token={message.token.hex()}")
    if 0 < message.code < 32:
        words.append(path_text(message))
    for number, value in message.options:
        if number not in ADDRESSING:
            words.append(f"{option_name(number)}={value_text(number, value)}")
    line = " ".join(words)
    return printable(f"{line}, {payload_text(message.payload)}" if message.payload else line).replace("\n", "\\n")


def host_text(peer):
    """An address of a socket as in a URI."""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


class Trace:
    """Prints datagrams, with the seconds since the first one, and which of them are repeated."""

    def __init__(self):
        self.begin_s = None
        self.sent = {}  # (peer, datagram) -> how often it went
        self.received = set()  # (peer, type, message ID)

    def note_sent(self, data, peer):
        """Print a datagram that goes to `peer`."""
        times = self.sent.get((peer, data), 0)
        self.sent[peer, data] = times + 1
        is_con = data[0] >> 4 & 3 == coap.CON
        again = f", retransmission {times}" if is_con else ", again"
        self.line("->", data, peer, again if times else "")

    def note_received(self, data, peer):
        """Print a datagram that came from `peer`."""
        key = (peer, data[:1], data[2:4])
        again = ", duplicate" if key in self.received else ""
        self.received.add(key)
        self.line("<-", data, peer, again)

    def line(self, arrow, data, peer, again):
        """Print the line of a datagram."""
        try:
            text = message_text(data)
        except (coap.FormatError, ValueError) as error:
            text = f"{error}: {data.hex()}"
        self.note(f"{arrow} {host_text(peer)}  {text}{again}")

    def note(self, text):
        """Print a line with the time."""
        now_s = time.monotonic()
        self.begin_s = self.begin_s or now_s
        click.echo(f"{now_s - self.begin_s:8.3f} {text}", err=True)
