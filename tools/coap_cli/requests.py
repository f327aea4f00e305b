"""Requests: made from what the user wrote, sent, waited for, and their responses shown."""

import coap

from . import exits
from .exits import Failure
from .names import add_option
from .output import note
from .progress import Bar
from .trace import host_text

BLOCK_LEN = 1024  # what is longer goes in blocks
GROUP_S = 6  # hosts answer a group within DEFAULT_LEISURE, 5 s (RFC 7252 section 8.2)
LOCATION_PATH, LOCATION_QUERY = 8, 20


def build(method, uri, payload=b"", non=False, accept=None, content_format=None, option=(), token=b""):
    """The request as the user's options have it; raises Failure.

    non: whether as NON; accept, content_format: numbers or None; option: NAME=VALUE each; token: bytes
    """
    try:
        request = coap.Message(method, uri=uri, payload=payload, token=token, mtype=coap.NON if non else None)
        request.opt.accept = accept
        request.opt.content_format = content_format
        for text in option:
            add_option(request, text)
    except ValueError as error:
        raise Failure(exits.WRONG_USE, str(error)) from None
    return request


def milliseconds(timeout_s):
    """What the library takes for the user's seconds."""
    return None if timeout_s is None else max(1, round(timeout_s * 1000))


def wait(endpoint, record):
    """Wait until the exchange of `record` has ended; Ctrl-C gives it up."""
    try:
        endpoint.wait(record)
    finally:
        record.cancel()


def wait_for_group(endpoint, record):
    """Collect what a group answers until the exchange of `record` has ended; Ctrl-C gives it up."""
    try:
        while not record.is_done():
            endpoint.process(endpoint.next_event_ms())
    finally:
        record.cancel()


def begin(endpoint, request, timeout_s, progress=None, **transfer):
    """Send a request to one host; returns its record.

    progress: called with the bytes so far and the length of a body in blocks; transfer: see coap_block.Blocks.send
    """
    if len(request.payload) > BLOCK_LEN:
        transfer["source"] = Source(request.payload)
    return endpoint.blocks.send(request, None, milliseconds(timeout_s), progress=progress, **transfer)


def finish(endpoint, record):
    """Wait for the response to a request; returns it, None if none is wanted. Raises Failure."""
    wait(endpoint, record)
    if record.error is coap.Timeout:
        sentence = f"no answer from {host_text(record.remote)} within {record.timeout_ms / 1000:g} s"
        raise Failure(exits.TIMEOUT, sentence + (endpoint.dropped.sentence() if endpoint.dropped else ""))
    if record.error:
        raise exits.of_record(record)
    response = record.response and record.response.message
    if response and response.code == coap.BAD_OPTION and (record.transfer.total or 0) > BLOCK_LEN:
        note("a body that is longer than a datagram goes in blocks, which this server may not take")
    return response


def ask(endpoint, request, timeout_s, progress=None):
    """Send a request to one host and wait; returns the response, None if none is wanted. Raises Failure."""
    return finish(endpoint, begin(endpoint, request, timeout_s, progress))


class Source:
    """A payload, to be sent in blocks."""

    def __init__(self, payload):
        self.payload = payload
        self.size = len(payload)

    def readinto_at(self, buffer, offset):
        """Fill the buffer from `offset` on; returns how many bytes were there."""
        piece = self.payload[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


def ask_group(endpoint, request, timeout_s):
    """Send a request to a group; returns the responses of those who answer in time."""
    record = endpoint.send(request, None, milliseconds(timeout_s or GROUP_S))
    wait_for_group(endpoint, record)
    if not record.responses:
        raise Failure(exits.TIMEOUT, f"nobody in {host_text(record.remote)} answered in time")
    return [received.message for received in record.responses]


def show(response, output):
    """Write the payload of a response, and on stderr what else there is to say; returns the exit code."""
    exit_code = exits.by_code(response.code)
    is_diagnostic = exit_code != exits.DONE and response.opt.content_format is None  # RFC 7252 section 5.5.2
    sentence = coap.code_text(response.code)
    text = response.payload.decode(errors="replace")
    if is_diagnostic and text and not sentence.endswith(" " + text):
        sentence += ": " + text
    location = location_of(response)
    if location:
        sentence += f", at {location}"
    if exit_code != exits.DONE or location or not response.payload:
        note(sentence)
    if not is_diagnostic:
        output.write(response.payload, response.opt.content_format)
    return exit_code


def location_of(response):
    """Path and query of what was created, as in a URI, or "" (RFC 7252 section 5.10.7)."""
    path = response.find_option(LOCATION_PATH)
    query = response.find_option(LOCATION_QUERY)
    if not path and not query:
        return ""
    message = coap.Message(coap.GET, remote="-", uri_path=path, uri_query=query)
    return message.get_request_uri().removeprefix("coap://-")


def perform(endpoint, request, timeout_s, output):
    """Send a request and show what comes; returns the exit code."""
    request.remote = endpoint.resolve(request.remote)
    if not coap.is_multicast(request.remote):
        with Bar(after_s=1) as bar:
            response = ask(endpoint, request, timeout_s, bar.update)
        return exits.DONE if response is None else show(response, output)
    exit_codes = []
    for response in ask_group(endpoint, request, timeout_s):
        note(f"{host_text(response.remote)} answers")
        exit_codes.append(show(response, output))
    return min(exit_codes)
