"""Arguments and options that commands share, with their checks."""

import math
import sys

import click

from . import formats
from .connection import whole_uri
from .names import split_option


class Uri(click.ParamType):
    """A coap URI, whose scheme may be left out."""

    name = "URI"

    def convert(self, value, param, ctx):
        return whole_uri(value)


class ContentFormat(click.ParamType):
    """A Content-Format by number, short name or media type."""

    name = "FORMAT"

    def convert(self, value, param, ctx):
        if isinstance(value, int):
            return value
        try:
            return formats.number_of(value)
        except ValueError as error:
            raise click.UsageError(str(error)) from None


class Option(click.ParamType):
    """NAME=VALUE of an option of the message."""

    name = "NAME=VALUE"

    def convert(self, value, param, ctx):
        try:
            split_option(value)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        return value


class HexBytes(click.ParamType):
    """Up to 8 bytes in hexadecimal digits: a token, an ETag."""

    name = "HEX"

    def convert(self, value, param, ctx):
        if isinstance(value, bytes):
            return value
        try:
            data = bytes.fromhex(value)
        except ValueError:
            data = bytes(9)
        if len(data) > 8:
            raise click.UsageError(f"write up to 8 bytes in hexadecimal digits, as 1f2e, not {value}")
        return data


class Data(click.ParamType):
    """The payload: text, @FILE or @- for standard input; bytes."""

    name = "DATA|@FILE|@-"

    def convert(self, value, param, ctx):
        if isinstance(value, bytes):
            return value
        if not value.startswith("@"):
            return value.encode(errors="surrogateescape")  # what the shell gave, byte by byte
        if value == "@-":
            return sys.stdin.buffer.read()
        with open(value[1:], "rb") as file:
            return file.read()


class Seconds(click.ParamType):
    """A time above 0, up to three days: what the library's clock can tell apart."""

    name = "SECONDS"

    def convert(self, value, param, ctx):
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= 250000:
            raise click.UsageError(f"a time is a number of seconds above 0, up to 250000, not {value}")
        return seconds


def several(*decorators):
    """One decorator of several, in the order in which --help lists them."""

    def decorate(function):
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


uri = click.argument("uri", type=Uri())
timeout = click.option("-t", "--timeout", "timeout_s", type=Seconds(), help="Wait this long, default 93 s.")
plain_connection = several(
    click.option("-v", "--verbose", "is_verbose", is_flag=True, help="Show each message on stderr."),
    click.option("-6", "is_ipv6", is_flag=True, help="Take the IPv6 address of a name that has both."),
    click.option("--interface", metavar="NAME", help="Network interface for requests to a group."),
)
connection = several(
    plain_connection,
    click.option("--oscore", "oscore_path", metavar="FILE", help="Protect it with a context of FILE (RFC 8613)."),
)
request = several(
    click.option("-N", "--non", is_flag=True, help="Send it non-confirmable, once."),
    click.option("-A", "--accept", type=ContentFormat(), help="Ask for this Content-Format: number or name."),
    click.option("-O", "--option", type=Option(), multiple=True, help="Add an option; 0x... is bytes."),
    click.option("--token", type=HexBytes(), default=b"", help="Token, up to 8 bytes; default: random."),
)
payload = several(
    click.option("-d", "--data", "payload", type=Data(), default=b"", help="Payload: text, a file, or stdin."),
    click.option("-f", "--content-format", type=ContentFormat(), help="Content-Format of it: number or name."),
)
rendering = several(
    click.option("--raw", "is_raw", is_flag=True, help="Payload as it came, in a terminal too."),
    click.option("--pretty", "is_pretty", is_flag=True, help="Payload readable, in a pipe or file too."),
)
output = several(click.option("-o", "--output", "path", metavar="FILE", help="Write the payload there."), rendering)
