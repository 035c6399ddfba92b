"""The context of a server: made when it is needed, ended once, and only by whoever has made it."""

from __future__ import annotations

import errno
import time

import pytest
import zmq
import zmq.green

from green_router.errors import ContextClosed
from green_router.settings import Settings
from green_router.sockets import context as module
from green_router.sockets.context import ServerContext, end_context, make_context


def test_its_own_is_made_when_it_is_asked_for_and_ended() -> None:
    server = ServerContext(Settings(io_threads=2))
    context = server.open()
    assert context is server.open() and not context.closed
    assert context.get(zmq.IO_THREADS) == 2
    server.close()
    assert context.closed
    server.close()


def test_where_nobody_has_asked_for_it_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(module, "make_context")
    ServerContext(Settings()).close()


def test_one_that_was_given_is_left_open() -> None:
    with zmq.green.Context() as given:
        server = ServerContext(Settings(context=given))
        assert server.open() is given
        server.close()
        assert not given.closed


def test_one_that_somebody_else_ends_is_left_to_that() -> None:
    """Two threads that end one context abort the process."""
    server = ServerContext(Settings())
    context = server.open()
    assert isinstance(server.crashed(zmq.ZMQError(zmq.ETERM)), ContextClosed)
    server.close()
    assert not context.closed
    context.term()


def test_other_errors_are_as_they_were() -> None:
    server = ServerContext(Settings())
    context = server.open()
    for error in (zmq.ZMQError(errno.EINVAL), OSError(errno.EBADF, "bad"), SystemExit(3)):
        assert server.crashed(error) is error
    assert isinstance(server.crashed(zmq.ZMQError(zmq.ENOTSOCK)), ContextClosed)
    server.close()
    assert context.closed


def test_a_socket_that_is_open_keeps_nobody_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TERM_MARGIN", 0.05)
    context = make_context(Settings())
    left = context.socket(zmq.PAIR, socket_class=zmq.Socket)
    begun = time.monotonic()
    end_context(context, 0.0)
    assert time.monotonic() - begun < 5
    assert "did not end within" in caplog.text
    left.close(0)  # now the thread that ends it goes on
