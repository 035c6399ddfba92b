"""Key pairs of a server and its clients, and clients that get no reply."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import zmq
import zmq.green

from green_router.security.certificates import make_pairs, read
from green_router.testing import PATIENCE

SILENCE = 0.3 * PATIENCE
"""Seconds without a reply after which a client is taken to have none: a wait that always ends so,
kept short."""


class KeyPairs:
    """A server's key pair, and a directory of authorized ones."""

    def __init__(self, path: Path) -> None:
        _, self.server = make_pairs(str(path / "own"), ["server"], {})
        self.server_public = read(self.server).public
        self.directory = path / "authorized"
        self._secrets = path / "clients"
        self.directory.mkdir()

    def add(self, name: str, **metadata: str) -> dict[str, Any]:
        """Authorize a client; returns its socket options."""
        options = self.stranger(name, **metadata)
        os.rename(self._secrets / f"{name}.key", self.directory / f"{name}.key")
        return options

    def stranger(self, name: str, **metadata: str) -> dict[str, Any]:
        """A client that nobody has authorized."""
        _, secret = make_pairs(str(self._secrets), [name], metadata)
        pair = read(secret)
        assert pair.secret is not None
        return {
            "curve_serverkey": self.server_public,
            "curve_publickey": pair.public,
            "curve_secretkey": pair.secret.reveal(),
        }

    def remove(self, name: str) -> None:
        """Take its key away."""
        (self.directory / f"{name}.key").unlink()

    @property
    def settings(self) -> dict[str, Any]:
        """Of a server that lets these in."""
        return {"curve_secret_key": self.server, "authorized_keys": str(self.directory)}


def reply_of(socket: zmq.Socket[Any], seconds: float) -> bytes | None:
    """The last frame of a reply within that time, or None."""
    with gevent.Timeout(seconds, False):  # type: ignore[arg-type]
        frames: list[bytes] = socket.recv_multipart()
        return frames[-1]
    return None


def silent(socket: zmq.Socket[Any]) -> bool:
    """Whether a client gets no reply."""
    return reply_of(socket, SILENCE) is None


class Watched:
    """A DEALER that knows whether its connection lasts. Attributes: socket; events, what its
    monitor has said."""

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self.socket = socket
        self.events: list[int] = []
        self._monitor = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        )

    def saw(self, event: int) -> bool:
        """Whether this has happened."""
        while self._monitor.poll(0):
            self.events.append(int.from_bytes(self._monitor.recv_multipart()[0][:2], "little"))
        return event in self.events

    def asks_in_vain(self) -> bool:
        """Whether it gets no reply. One that was refused for good cannot even send: libzmq lets go
        of its connection."""
        with suppress(zmq.Again):
            self.socket.send_multipart([b"", b"again"], zmq.NOBLOCK)
        return silent(self.socket)

    def close(self) -> None:
        """Close the monitor."""
        self.socket.disable_monitor()
        self._monitor.close(0)
