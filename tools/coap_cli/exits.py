"""How the command ends: exit codes, and the one sentence that says why."""

import socket

import click

import coap

DONE = 0
WRONG_USE = 1
TIMEOUT = 2
RESET = 3
CLIENT_ERROR = 4
SERVER_ERROR = 5
NAME_UNKNOWN = 6
UNREACHABLE = 7
BAD_RESPONSE = 8
INTERRUPTED = 130
PIPE_CLOSED = 141

TABLE = """\b
Exit codes:
  0    2.xx, and what is no request succeeded
  1    wrong use: command, URI, option or file
  2    no answer in time
  3    the host answered with a Reset
  4    4.xx, the request is refused
  5    5.xx, the server failed
  6    the name of the host is not known
  7    the host cannot be reached, or nothing listens there
  8    an answer that cannot be used, or not what was asked for
  130  Ctrl-C; but observe and ping end by it, with 0 or 2
  141  the reader of the output has gone
"""


class Failure(Exception):
    """The command ends with `exit_code`; `sentence` says why and, if the user can, what to change."""

    def __init__(self, exit_code, sentence):
        super().__init__(sentence)
        self.exit_code = exit_code
        self.sentence = sentence


class Unreachable(Exception):
    """A datagram cannot be sent, or did not arrive: no OSError, which an endpoint takes for a lost packet."""


class PipeClosed(Exception):
    """The reader of standard output has gone: no OSError, which click ends by itself, with another code."""


def of_record(record):
    """The Failure of a request that ended with an error."""
    if record.endpoint.numbers is not None:  # with --oscore
        from . import security

        if record.error is security.coap_oscore.Unprotected:
            return security.unprotected(record)
    return failure(record.error())


def by_code(code):
    """The exit code of a response's code."""
    return {2: DONE, 4: CLIENT_ERROR, 5: SERVER_ERROR}.get(code >> 5, BAD_RESPONSE)


def failure(error):
    """The Failure that tells an exception of the library, of click or of the system; None for any other."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, click.UsageError) and error.ctx:
        sentence = error.format_message().rstrip(".")
        end = " See" if sentence.endswith("?") else "; see"
        return Failure(WRONG_USE, f"{sentence}{end} {error.ctx.command_path} --help")
    if isinstance(error, click.ClickException):
        return Failure(WRONG_USE, error.format_message())
    if isinstance(error, Unreachable):
        return Failure(UNREACHABLE, str(error))
    if isinstance(error, socket.gaierror):
        return Failure(NAME_UNKNOWN, error.strerror)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return Failure(WRONG_USE, name + (error.strerror or str(error)))
    return of_library(error)


def of_library(error):
    """The Failure that tells an exception of the library, None for any other."""
    kinds = (
        (coap.Timeout, TIMEOUT, "no answer in time"),
        (coap.Reset, RESET, "the host answered with a Reset: it does not take this message"),
        (coap.Rejected, BAD_RESPONSE, "the response has a critical option that is not understood"),
        (coap.Full, BAD_RESPONSE, "the response is larger than this command holds; download takes any size"),
        (coap.FormatError, BAD_RESPONSE, str(error) or "the blocks of the response do not fit together"),
        (coap.Error, BAD_RESPONSE, str(error) or "the body changed while it was on its way, or could not be stored"),
        (ValueError, WRONG_USE, str(error)),
    )
    for kind, exit_code, sentence in kinds:
        if isinstance(error, kind):
            return Failure(exit_code, sentence)
    return None
