"""coap observe: the values of a resource as they change (RFC 7641)."""

import contextlib
import sys
import time

import coap
import coap_observe

from . import exits
from .exits import Failure
from .output import note, put, put_line
from .plot import Plot, number_in
from .readable import readable
from .requests import show
from .trace import host_text

LOOK_MS = 50  # how often it is looked whether there is anything of which process() does not tell
FAREWELL_S = 2  # for the answer to the request that ends the observation


class Values:
    """Shows each value: as a line, as bytes, or in a plot."""

    def __init__(self, is_raw, plot):
        self.is_raw = is_raw
        self.plot = plot
        self.count = 0

    def add(self, message):
        """Show the value in a notification."""
        self.count += 1
        if self.is_raw:
            put(message.payload)
            return
        text, wrong = readable(message.payload, message.opt.content_format, is_one_line=True)
        number = number_in(message.payload, message.opt.content_format) if self.plot else None
        if wrong or self.plot and number is None:
            note(wrong or f"no number to draw in {text!r}")
        if number is not None:
            self.plot.add(number, text)
        elif not self.plot:
            put_line(text)


def observe(endpoint, uri, count, duration_s, is_plot, is_raw, **options):
    """Show the values of `uri` until Ctrl-C, `count` values or `duration_s`; returns the exit code."""
    if is_plot and not sys.stdout.isatty():
        raise Failure(exits.WRONG_USE, "--plot draws in a terminal, and the output is none; leave it out")
    coap_observe.attach(endpoint)
    observation = coap_observe.observe(endpoint, uri, **options)
    until_s = None if duration_s is None else time.monotonic() + duration_s
    with Plot(uri) if is_plot else contextlib.nullcontext() as plot:
        values = Values(is_raw, plot)
        try:
            ended_by = follow(endpoint, observation, values, count, until_s)
        except KeyboardInterrupt:
            ended_by = None
    if observation.is_done():
        return ended(endpoint, observation, ended_by)
    stop(endpoint, observation)
    return exits.DONE if values.count else exits.TIMEOUT


def follow(endpoint, observation, values, count, until_s):
    """Show notifications until there are enough or none will come; returns the message that ended them, or None."""
    while not observation.is_done() and (count is None or values.count < count):
        received = endpoint.process(LOOK_MS)
        if received is not None and received.pertains_to is observation.record:
            message = received.message
            if exits.by_code(message.code) != exits.DONE:
                return message
            values.add(message)
        if until_s is not None and time.monotonic() >= until_s:
            break
    return None


def stop(endpoint, observation):
    """Tell the server that no more is wanted; wait a little for its answer."""
    observation.cancel()
    until_s = time.monotonic() + FAREWELL_S
    while not observation.is_done() and time.monotonic() < until_s:
        endpoint.process(LOOK_MS)


def ended(endpoint, observation, message):
    """Say why the observation has ended by itself; returns the exit code."""
    if message is not None:
        return show(message, None)
    if observation.error is coap.Timeout:
        sentence = f"no answer from {host_text(observation.record.remote)} any more"
        raise Failure(exits.TIMEOUT, sentence + (endpoint.dropped.sentence() if endpoint.dropped else ""))
    if observation.error is coap_observe.NotObserved:
        raise Failure(exits.BAD_RESPONSE, "the server does not notify of this resource; get asks for its value")
    raise exits.of_record(observation.record)
