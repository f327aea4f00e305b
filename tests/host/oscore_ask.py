"""The client's side of the OSCORE plugtest, on CPython and MicroPython; aiocoap's plugtest-server answers.

    PYTHONPATH=lib python tests/host/oscore_ask.py PORT PLAIN_PORT OUR_PORT CONTEXTS STORE
    MICROPYPATH=lib micropython tests/host/oscore_ask.py PORT PLAIN_PORT OUR_PORT CONTEXTS STORE

PLAIN_PORT is a server without OSCORE (TEST_16), OUR_PORT is oscore_serve.py (TEST_17: plugtest-server has it not),
CONTEXTS the file of the client's contexts a and c, STORE a path for stores.
Prints a line for each test, its number and `ok` or what went wrong.
"""

import sys

import coap
import coap_echo
import coap_observe
import coap_oscore
import coap_oscore_keys

HOST = "127.0.0.1:"
SERVER = HOST + sys.argv[1]
PLAIN = HOST + sys.argv[2]
OURS = HOST + sys.argv[3]
TIMEOUT_MS = 5000
HELLO = (coap.CONTENT, b"Hello World!")
ALTERED = bytes([255 - b for b in bytes(16)])


class Store(coap_oscore.FileStore):
    """One store for all endpoints here, one after the other."""

    def load(self):
        if self.numbers() == [None, None]:
            coap_oscore_keys.create(self)
        return super().load()


store = Store(sys.argv[5])


def context(name):
    """Context a or c, as in the file."""
    return coap_oscore_keys.load(sys.argv[4])["ac".find(name)]


def endpoint_with(*contexts, server=SERVER):
    """An endpoint whose requests to `server` are protected with the first context."""
    endpoint = coap.Endpoint()
    endpoint.log = lambda text, value: dropped.append(text)
    dropped.clear()
    coap_echo.attach(endpoint)
    coap_observe.attach(endpoint)
    for each in contexts:
        each.server = server
    coap_oscore.attach(endpoint, contexts, store)
    return endpoint


dropped = []


def ask(endpoint, path, method=coap.GET, server=SERVER, timeout_ms=TIMEOUT_MS, **fields):
    """(code, payload, options) of the response; or (name of the error, code of the response)."""
    message = coap.Message(method, uri="coap://%s/oscore/%s" % (server, path), **fields)
    record = endpoint.send(message, timeout_ms=timeout_ms)
    while not record.is_done():
        endpoint.process(100)
    response = record.response and record.response.message
    if record.error:
        return record.error.__name__, response and response.code
    return response.code, response.payload, response.options


def must(actual, expected):
    if actual != expected:
        raise AssertionError("%r instead of %r" % (actual, expected))


def test_0():
    must(ask(endpoint_with(), "hello/coap"), HELLO + (((12, 0),),))


def test_1():
    must(ask(endpoint_with(context("a")), "hello/1"), HELLO + (((12, 0),),))


def test_2():
    must(ask(endpoint_with(context("c")), "hello/1"), HELLO + (((12, 0),),))


def test_3():
    must(ask(endpoint_with(context("a")), "hello/2?first=1"), HELLO + (((4, b"\x2b"), (12, 0)),))


def test_4():
    must(ask(endpoint_with(context("a")), "hello/3", accept=coap.TEXT), HELLO + (((12, 0), (14, 5)),))


def test_5():
    must(ask(endpoint_with(context("a")), "hello/1", observe=0), HELLO + (((12, 0),),))


def observe(path, count):
    """The payloads of `count` notifications, and the Observation."""
    endpoint = endpoint_with(context("a"))
    heard = []
    observation = coap_observe.observe(endpoint, "coap://%s/oscore/%s" % (SERVER, path), heard.append)
    begin_ms = coap.ticks_ms()
    while len(heard) < count and coap.ticks_diff(coap.ticks_ms(), begin_ms) < 3 * TIMEOUT_MS:
        endpoint.process(100)
    return endpoint, [message.payload for message in heard], observation


def test_6():
    _, heard, observation = observe("observe1", 3)
    must(heard, [b"one", b"two", b"Terminate Observe"])
    must((observation.is_done(), observation.error), (True, coap_observe.NotObserved))


def test_7():
    endpoint, heard, observation = observe("observe2", 2)
    must(heard, [b"one", b"two"])
    observation.cancel()
    begin_ms = coap.ticks_ms()
    while not observation.is_done() and coap.ticks_diff(coap.ticks_ms(), begin_ms) < TIMEOUT_MS:
        endpoint.process(100)
    must((observation.is_done(), observation.error), (True, None))


def test_8():
    endpoint = endpoint_with(context("a"))
    answer = ask(endpoint, "hello/6", coap.POST, payload=b"\x4a", content_format=coap.TEXT)
    must(answer, (coap.CHANGED, b"\x4a", ((12, 0),)))


def test_9():
    endpoint = endpoint_with(context("a"))
    answer = ask(endpoint, "hello/7", coap.PUT, payload=b"\x7a", content_format=coap.TEXT, if_match=(b"\x7b",))
    must(answer, (coap.CHANGED, b"", ()))


def test_10():
    endpoint = endpoint_with(context("a"))
    answer = ask(endpoint, "hello/7", coap.PUT, payload=b"\x8a", content_format=coap.TEXT, if_none_match=True)
    must(answer, (coap.PRECONDITION_FAILED, b"", ()))


def test_11():
    must(ask(endpoint_with(context("a")), "test", coap.DELETE), (coap.DELETED, b"", ()))


def test_12():
    altered = context("a")
    altered.sender_id = b"spam"
    must(ask(endpoint_with(altered), "hello/1"), ("Unprotected", coap.UNAUTHORIZED))


def test_13():
    altered = context("a")
    altered.sender_key = ALTERED
    must(ask(endpoint_with(altered), "hello/1"), ("Unprotected", coap.BAD_REQUEST))


def test_14():
    altered = context("a")
    altered.recipient_key = ALTERED
    must(ask(endpoint_with(altered), "hello/1", timeout_ms=2000), ("Timeout", None))
    must("response dropped that does not verify" in dropped, True)


def test_15():
    endpoint = endpoint_with(context("a"))
    must(ask(endpoint, "hello/1")[0], coap.CONTENT)
    coap_oscore_of(endpoint).sequence.next -= 1
    must(ask(endpoint, "hello/1"), ("Unprotected", coap.UNAUTHORIZED))


def coap_oscore_of(endpoint):
    """The Oscore of an endpoint."""
    return [each for each in endpoint._extensions if isinstance(each, coap_oscore.Oscore)][0]


def test_16():
    endpoint = endpoint_with(context("a"), server=PLAIN)
    must(ask(endpoint, "hello/coap", server=PLAIN), ("Unprotected", coap.BAD_OPTION))


def test_17():
    must(ask(endpoint_with(), "hello/1", server=OURS)[0], coap.UNAUTHORIZED)


for n, test in enumerate((
    test_0, test_1, test_2, test_3, test_4, test_5, test_6, test_7, test_8,
    test_9, test_10, test_11, test_12, test_13, test_14, test_15, test_16, test_17,
)):  # fmt: skip
    try:
        test()
        print(n, "ok")
    except Exception as error:
        print(n, type(error).__name__, error)
