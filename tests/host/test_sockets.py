"""Sockets of CPython: how they are polled, and closed when asyncio has ended."""

import asyncio
import resource
import select
import socket

import pytest

import coap
from test_aio import loopback, observable

GET_X = b"\x40\x01\x00\x01\xb1x"


def serve(patch, poll):
    """Has an endpoint, polled by `poll`, answer on two sockets, of which it is to close one that is closed already."""
    patch.setattr(coap, "_Poll", poll)
    with coap.Endpoint(port=0, host="127.0.0.1") as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        server.register_socket(other)
        server.resource("x").get(lambda request, response: "here")
        for sock in server.socket, other:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(GET_X, sock.getsockname())
                server.process(0)
                client.settimeout(5)
                assert client.recv(100).endswith(b"here")
    assert not server._polled


@pytest.mark.parametrize("poll", [coap._Poll, coap._Select])
def test_endpoint_when_polled_then_serves(monkeypatch, poll):
    serve(monkeypatch, poll)


def test_poll_when_the_socket_has_a_number_above_1023_then_serves(monkeypatch):
    """select.select() raises ValueError for one."""
    if not hasattr(select, "poll"):
        pytest.skip("no select.poll() here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    held = []
    try:
        while not held or held[-1].fileno() < 1100:
            held.append(socket.socket())
        serve(monkeypatch, coap._Poll)
    finally:
        for sock in held:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_aio_when_the_loop_was_closed_before_then_closes_its_socket():
    """A loop closes without the tasks in it, here those of an iteration that nobody has ended."""
    client, server, uri = loopback()
    observable(server)

    async def main():
        serving = asyncio.create_task(server.serve())
        await client.observe(uri).__anext__()
        serving.cancel()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    client.close()
    assert client.endpoint.is_closed and not client._readers
    server.close()
