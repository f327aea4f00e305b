"""coap download and coap upload: bodies of any size between a file and a resource, in blocks (RFC 7959)."""

import os
import sys
import time

import coap

from . import exits
from .exits import Failure, PipeClosed
from .output import note, put
from .progress import Bar
from .requests import BLOCK_LEN, begin, finish, show

STDOUT = "-"


class FileSink:
    """Takes a body into a file; raises OSError. Keeps that as `error`, since the endpoint makes its own of it."""

    def __init__(self, path, offset):
        self.path = path
        self.offset = offset
        self.file = None
        self.error = None

    def write_at(self, offset, data):
        """Store the bytes `data`; the file is opened when the first come, and what it has behind them is cut off."""
        try:
            if self.file is None:
                self.file = open(self.path, "r+b" if self.offset else "wb", buffering=0)
            self.file.seek(offset)
            self.file.truncate()
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def close(self):
        """Close the file."""
        if self.file:
            self.file.close()


class StdoutSink:
    """Takes a body to standard output, which cannot begin anew."""

    def __init__(self):
        self.written = 0
        self.error = None

    def write_at(self, offset, data):
        """Write the bytes `data`; raises OSError."""
        try:
            if offset != self.written:
                raise OSError(0, "the body changed on the server while it was downloaded; download it to a file")
            put(data)
            self.written += len(data)
        except (OSError, PipeClosed) as error:
            self.error = error
            raise

    def close(self):
        """Nothing is open."""


class FileSource:
    """Gives the bytes of a file."""

    def __init__(self, file):
        self.file = file
        self.size = os.fstat(file.fileno()).st_size

    def readinto_at(self, buffer, offset):
        """Fill the buffer from `offset` on; returns how many bytes were there."""
        self.file.seek(offset)
        return self.file.readinto(buffer)


def file_name(uri):
    """The last segment of the path; raises Failure if that cannot be the name of a file here."""
    path = coap.Message(coap.GET, uri=uri).opt.uri_path
    name = path[-1] if path else ""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Failure(exits.WRONG_USE, f"the path of {uri} ends in no file name; say which FILE it is to be")
    return name


def said_rate(done_len, begin_s):
    """How much has gone in what time."""
    took_s = max(time.monotonic() - begin_s, 0.001)
    return f"{done_len} bytes in {took_s:.2f} s, {done_len / took_s / 1000:.1f} kB/s"


def present_len(path, is_continued):
    """How many bytes of the file `path` stay, a multiple of all blocks; raises Failure."""
    if path == STDOUT and is_continued:
        raise Failure(exits.WRONG_USE, "--continue needs a file to go on with")
    return os.path.getsize(path) & -BLOCK_LEN if is_continued and os.path.exists(path) else 0


def remainder(record, path):
    """How to go on with a download that has failed."""
    transfer = record.transfer
    if path == STDOUT or not transfer.offset:
        return ""
    etag = f" --etag {transfer.etag.hex()}" if transfer.etag else ""
    return f"{transfer.offset} bytes are in {path}; for the rest give the same command with --continue{etag}"


def fetch(endpoint, record, path, sink):
    """Wait for a download; returns the response. Raises Failure, OSError of the file, KeyboardInterrupt."""
    try:
        return finish(endpoint, record)
    except Failure as failure:
        if sink.error:
            raise sink.error from None
        rest = remainder(record, path)
        raise Failure(failure.exit_code, f"{failure.sentence}; {rest}" if rest else failure.sentence) from None
    except KeyboardInterrupt:
        rest = remainder(record, path)
        if rest:
            note(rest)
        raise
    finally:
        sink.close()


def download(endpoint, uri, path, is_continued, etag, timeout_s, is_verbose):
    """Download `uri` into the file `path`, None: named as it is there; returns the exit code."""
    path = path or file_name(uri)
    offset = present_len(path, is_continued)
    sink = StdoutSink() if path == STDOUT else FileSink(path, offset)
    is_shown = not is_verbose and not (path == STDOUT and sys.stdout.isatty())
    begin_s = time.monotonic()
    with Bar(is_shown=is_shown) as bar:
        request = coap.Message(coap.GET, uri=uri)
        record = begin(endpoint, request, timeout_s, bar.update, sink=sink, offset=offset, etag=etag or None)
        response = fetch(endpoint, record, path, sink)
    if exits.by_code(response.code) != exits.DONE:
        return show(response, None)
    if bar.done < offset:  # another ETag: it was begun anew
        offset = 0
    note(f"{path}: {said_rate(bar.done - offset, begin_s)}")
    return exits.DONE


def upload(endpoint, request, path, timeout_s, output, is_verbose):
    """Send the file `path` as the body of a request and show the response; returns the exit code."""
    begin_s = time.monotonic()
    with open(path, "rb") as file, Bar(is_shown=not is_verbose) as bar:
        source = FileSource(file)
        response = finish(endpoint, begin(endpoint, request, timeout_s, bar.update, source=source))
    if exits.by_code(response.code) == exits.DONE:
        note(f"{path}: {said_rate(source.size, begin_s)}")
    return show(response, output)
