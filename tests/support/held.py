"""A handler whose requests go on when they are told to, and clients that go meanwhile.

Rules of this file
  1. Nothing ends by itself: the test says when.
"""

from __future__ import annotations

from typing import Any

import zmq
from gevent.event import Event


class Held:
    """A handler whose requests go on when they are told to; b"now" does at once."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.ended: list[Any] = []
        self.go = Event()

    def __call__(self, request: Any) -> Any:
        if request.data == b"now":
            return b"done"
        self.began.append(request)
        try:
            self.go.wait()
        except BaseException as error:
            self.ended.append(type(error))
            raise
        self.ended.append(request.connected)
        return b"late " + request.data


def ask(server: Any, data: bytes, kind: int = zmq.REQ, **options: Any) -> Any:
    client = server.client(kind, **options)
    client.send_multipart([b"", data] if kind == zmq.DEALER else [data])
    return client
