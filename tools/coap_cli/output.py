"""Where payloads go: standard output or a file, readable or as they came; everything else goes to stderr."""

import errno
import os
import sys

import click

from .exits import PipeClosed
from .readable import printable, readable


def note(sentence):
    """Tell the user something, on stderr."""
    click.echo(f"coap: {printable(sentence)}", err=True)


class Output:
    """Takes payloads.

    path        None or "-": standard output
    is_raw      bytes as they came, in a terminal too
    is_pretty   readable, in a pipe or file too; without either: readable in a terminal only

    Raises FileNotFoundError where the folder of `path` is not there.
    """

    def __init__(self, path=None, is_raw=False, is_pretty=False):
        self.path = None if path == "-" else path
        if self.path and not os.path.isdir(os.path.dirname(self.path) or "."):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        self.is_readable = is_pretty or not is_raw and self.path is None and sys.stdout.isatty()

    def write(self, payload, content_format):
        """Write a payload, bytes; raises OSError."""
        if self.is_readable and payload:
            text, wrong = readable(payload, content_format)
            if wrong:
                note(wrong)
            payload = (text + "\n").encode()
        if self.path:
            with open(self.path, "wb") as file:
                file.write(payload)
        else:
            put(payload)


def put(data):
    """Write bytes to standard output, at once; raises PipeClosed."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise PipeClosed from None


def put_line(text):
    """Write a line of text to standard output, at once."""
    put((text + "\n").encode())
