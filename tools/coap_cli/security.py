"""--oscore FILE: requests protected end to end (RFC 8613), with a context of the file and numbers kept beside it."""

import contextlib
import os
import time

import filelock

import coap
import coap_echo
import coap_oscore
import coap_oscore_keys

from .exits import BAD_RESPONSE, WRONG_USE, Failure, by_code
from .trace import host_text

STEPS = (2, 64)  # numbers that are reserved at a time: at first, and at most
LOCK_WAIT_S = 10
EPOCH_S = 1735689600  # 2025-01-01
PER_S = 256  # of the 2**40 numbers, for a second: they last for 136 years
MEANINGS = {
    b"Security context not found": "the server has no context with these IDs",
    b"Decryption failed": "the server has other keys for these IDs",
    b"Replay detected": "the server has seen the number before: was {store} put back, or do two have the same IDs?",
}


class Numbers:
    """The sequence numbers of all who use the same file, at the same time, too; in the place of coap_oscore.Sequence.

    Whoever needs numbers reserves some while it holds a lock. If a record of the store is torn, as many as the latest
    write may have reserved are left out. A store that is not there begins with a number that follows the clock, so
    that it lies above whatever was used if only that file was lost.
    """

    def __init__(self, path):
        self.path = path
        self.store = coap_oscore.FileStore(path)
        self.next = self.limit = 0
        self.step = STEPS[0]

    def take(self):
        """The next number; raises Failure."""
        if self.next == self.limit:
            self._reserve()
        self.next += 1
        return self.next - 1

    def _reserve(self):
        with self._locked():
            numbers = self.store.numbers()
            if numbers == [None, None]:
                self.store.save(max(0, int(time.time()) - EPOCH_S) * PER_S)
            self.next = self.store.load() + (STEPS[1] if None in numbers else 0)
            self.limit = self.next + self.step
            if self.limit >> 40:
                raise Failure(WRONG_USE, f"the 2**40 sequence numbers of {self.path} are used up; write new keys")
            self.store.save(self.limit)
            self.step = min(2 * self.step, STEPS[1])

    @contextlib.contextmanager
    def _locked(self):
        """Nobody else reserves numbers meanwhile; raises Failure."""
        try:
            with filelock.FileLock(self.path + ".lock", timeout=LOCK_WAIT_S):
                yield
        except filelock.Timeout:
            raise Failure(WRONG_USE, f"another program holds {self.path}.lock; end it, and try again") from None
        except OSError as error:
            reason = error.strerror or error
            raise Failure(WRONG_USE, f"the sequence numbers in {self.path} cannot be stored: {reason}") from None


class Started:
    """A store for coap_oscore.attach, until Numbers takes its place."""

    def load(self):
        return 1

    def save(self, number):
        raise OSError("no numbers are stored here")


def context_for(path, authority, resolve):
    """The context of the file `path` for requests to `authority`, "host:port"; raises Failure, OSError.

    resolve: gives the address of an authority
    """
    try:
        contexts = coap_oscore_keys.load(path)
        for context in contexts:
            if context.server is not None:
                context.server = coap.Message(coap.GET, uri="coap://" + context.server).remote
    except ValueError as error:
        text = str(error)
        raise Failure(WRONG_USE, text if text.startswith(path) else f"{path}: {text}") from None
    found = [context for context in contexts if context.server is not None and is_same(context, authority, resolve)]
    found = found or [context for context in contexts if context.server is None]
    if len(found) == 1:
        return found[0]
    if found:
        raise Failure(WRONG_USE, f'{path} has several contexts for {authority}: give each the "server" that it is for')
    servers = ", ".join(sorted({context.server for context in contexts}))
    raise Failure(WRONG_USE, f"{path} has no context for {authority}; its servers: {servers}")


def is_same(context, authority, resolve):
    """Whether a context is for the server at `authority`."""
    try:
        return context.server == authority or resolve(context.server) == resolve(authority)
    except Failure:  # a name that is not known
        return False


def protect(endpoint, path, authority):
    """Have `endpoint` protect what goes to `authority`, and send nothing else; raises Failure, OSError."""
    if coap.is_multicast(endpoint.resolve(authority)):
        raise Failure(WRONG_USE, "--oscore protects requests to one host; leave it out to ask a group")
    context = context_for(path, authority, endpoint.resolve)
    context.server = authority
    coap_echo.attach(endpoint)
    oscore = coap_oscore.attach(endpoint, [context], Started(), secure=True)
    oscore.sequence = endpoint.numbers = Numbers(os.path.splitext(path)[0] + ".seq")
    endpoint.log = endpoint.dropped = Dropped()


class Dropped:
    """Endpoint.log, which counts answers that did not verify."""

    count = 0

    def __call__(self, text, value):
        self.count += text == "response dropped that does not verify"

    def sentence(self):
        """What to say of them after a timeout, or ""."""
        return "; answers came that do not verify with these keys" if self.count else ""


def unprotected(record):
    """The Failure of a request whose answer was not protected."""
    answer = getattr(record, "unprotected", None)
    host = host_text(record.remote)
    if answer is None:
        return Failure(BAD_RESPONSE, f"{host} answers unprotected in the middle of a transfer")
    meaning = MEANINGS.get(bytes(answer.payload))
    if meaning:
        meaning = meaning.format(store=record.endpoint.numbers.path)
    elif answer.code == coap.BAD_OPTION:
        meaning = "the server does not speak OSCORE"
    said = coap.code_text(answer.code)
    if answer.payload and answer.code >= coap.BAD_REQUEST:
        said += ": " + answer.payload.decode(errors="replace")
    sentence = f"{host} answers unprotected: {said}"
    exit_code = by_code(answer.code) if answer.code >= coap.BAD_REQUEST else BAD_RESPONSE
    return Failure(exit_code, f"{sentence}; {meaning}" if meaning else sentence)
