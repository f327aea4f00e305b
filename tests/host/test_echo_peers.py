"""Echo (RFC 9175) with the clients of libcoap and aiocoap and our own, against our server on both interpreters."""

import asyncio
import subprocess

import pytest

from peers import (
    ANSWER_TIMEOUT_S,
    ENVIRONMENT,
    HERE,
    RUNTIMES,
    ask_by_libcoap,
    ask_by_node,
    free_port,
    interpreter,
    require_aiocoap,
    running,
    url,
)
from programs import program

OUR_CLIENT = """
import coap
import coap_echo

with coap.Endpoint() as endpoint:
    coap_echo.attach(endpoint)
    for _ in range(2):
        print(endpoint.put("{0}/lock", "open", timeout_ms=5000).code)
    print(len(endpoint.get("{0}/large", timeout_ms=5000).payload))
    print(str(endpoint.get("{0}/lock", timeout_ms=5000).payload, "utf-8"))
"""


@pytest.fixture(params=RUNTIMES)
def server(request):
    """The port of our server with Echo, on each runtime."""
    port = free_port()
    with running(interpreter(request.param), HERE / "echo_serve.py", port, port=port):
        yield port


def by_libcoap(*words):
    """What libcoap's client prints and logs."""
    command = [program("coap-client-notls"), "-v", "7", "-B", str(ANSWER_TIMEOUT_S), *words]
    done = subprocess.run(command, capture_output=True, timeout=30)
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_our_client_is_challenged_then_the_program_does_not_notice(server, runtime):
    """RFC 9175 section 2.3: two commands to the lock, each executed once, and an answer of 800 bytes."""
    command = [interpreter(runtime), "-c", OUR_CLIENT.format(url(server, ""))]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["68", "68", "800", "2"], done.stderr


def test_libcoap_is_challenged_then_it_repeats_by_itself(server):
    """RFC 9175 section 2.3: GET of a long answer, PUT to the lock."""
    log = by_libcoap("-m", "get", url(server, "/large"))
    assert "4.01" in log and "l" * 800 in log
    log = by_libcoap("-m", "put", "-e", "open", url(server, "/lock"))
    assert "4.01" in log and "2.04" in log
    assert ask_by_libcoap(url(server, "/lock")).payload == b"1"


async def ask_aiocoap(uri, method, payload=b""):
    """(codes, the last payload) of a request by aiocoap, repeated once with the Echo it was answered with."""
    import aiocoap

    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    try:
        codes = []
        request = aiocoap.Message(code=method, uri=uri, payload=payload)
        response = await asyncio.wait_for(context.request(request).response, ANSWER_TIMEOUT_S)
        codes.append(response.code.dotted)
        if response.opt.echo:
            again = aiocoap.Message(code=method, uri=uri, payload=payload, echo=response.opt.echo)
            response = await asyncio.wait_for(context.request(again).response, ANSWER_TIMEOUT_S)
            codes.append(response.code.dotted)
    finally:
        await context.shutdown()
    return codes, response.payload


def test_aiocoap_repeats_with_the_echo_then_it_is_served(server):
    """RFC 9175 section 2.3: its program repeats the request, for the library does not."""
    require_aiocoap()
    import aiocoap

    assert asyncio.run(ask_aiocoap(url(server, "/large"), aiocoap.GET)) == (["4.01", "2.05"], b"l" * 800)
    assert asyncio.run(ask_aiocoap(url(server, "/lock"), aiocoap.PUT, b"open")) == (["4.01", "2.04"], b"")
    assert asyncio.run(ask_aiocoap(url(server, "/lock"), aiocoap.GET)) == (["2.05"], b"1")


def test_node_coap_knows_no_echo_then_short_answers_still_come(server):
    """RFC 9175 section 2.4: what is short is for everybody; the rest is refused, and nothing is executed."""
    assert ask_by_node(url(server, "/lock")).payload == b"0"
    assert ask_by_node(url(server, "/large")).code == "4.01"
    assert ask_by_node(url(server, "/lock"), method="put", payload=b"open").code == "4.01"
    assert ask_by_node(url(server, "/lock")).payload == b"0"
