"""An application that is an ``async def``, in one process and in workers: nothing is patched, and
the rest is alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import zmq

from .conftest import Service, balanced

APPLICATION = """
import asyncio
from gevent import monkey
import green_router

events = []

async def handle_request(request):
    if request.data == b"events":
        return b" ".join(events) or b"none"
    if request.data == b"patched":
        return b"%d" % monkey.is_module_patched("socket")
    if request.data == b"resolve":
        return (await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80))[0][4][0].encode()
    if request.data == b"push":
        await asyncio.to_thread(green_router.send, request.routing_id, b"pushed")
        green_router.send(request.routing_id, b"pushed")
        return request.peer_address.encode()
    if request.data == b"hang":
        try:
            await asyncio.sleep(100)
        finally:
            events.append(b"cancelled")
    raise ValueError(request.data)

def on_error(request, error):
    return type(error).__name__.encode()
"""

MODES = pytest.mark.parametrize(
    "options",
    [[], ["--workers", "1"], ["--workers", "1", "--dispatch", "direct"]],
    ids=["one process", "front", "direct"],
)


@MODES
def test_a_service(service: Callable[..., Service], options: list[str]) -> None:
    server = service(
        APPLICATION, *options, "--handler-timeout", "1.5", "--on-error", "app:on_error"
    )
    hanging = server.client()
    hanging.send(b"hang")
    assert server.ask(b"patched") == b"0"
    assert server.ask(b"resolve") == b"127.0.0.1"
    assert server.ask(b"fail") == b"ValueError"
    dealer = server.client(zmq.DEALER)
    dealer.send_multipart([b"", b"push"])
    assert [dealer.recv_multipart()[1] for _ in range(3)] == [b"pushed", b"pushed", b"127.0.0.1"]
    assert hanging.recv() == b"HandlerTimeout"
    while (events := server.ask(b"events")) == b"none":
        pass
    assert events == b"cancelled"
    if options:
        assert balanced(server.stats())
    server.stop()


@pytest.mark.parametrize("options", [["--workers", "1"]], ids=["front"])
def test_a_stream_and_a_drain(service: Callable[..., Service], options: list[str]) -> None:
    """What was begun is finished before the worker goes."""
    server = service(
        """
import asyncio
async def handle_request(request):
    for number in range(4):
        yield b"%d" % number
        await asyncio.sleep(0.05)
""",
        *options,
    )
    dealer = server.client(zmq.DEALER)
    dealer.send_multipart([b"", b""])
    assert dealer.recv_multipart()[1] == b"0"
    server.stop()
    assert [dealer.recv_multipart()[1] for _ in range(3)] == [b"1", b"2", b"3"]
