"""The keywords of ``Server(handler, ...)``, for editors and type checkers.

Rules of this file
  1. These are the settings of server.py, in the same order, with the types that they take (a test
     compares them): what is wrong is seen while it is written. What holds is checked when the
     server is made.
  2. Nothing here runs: there are no defaults, no bounds and no sentences.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import zmq

from ..messages.envelope import EnvelopePolicy
from ..messages.request import BytesLike, Request
from .secret_key import SecretKey

if TYPE_CHECKING:
    from typing_extensions import Unpack
elif sys.version_info >= (3, 11):
    from typing import Unpack
else:

    class Unpack:
        """Stands in for typing.Unpack where Python has none, for who evaluates annotations."""

        def __class_getitem__(cls, item: Any) -> Any:
            return item


__all__ = ["ServerKeywords", "Unpack"]


Accounts = list[str | int] | list[str] | list[int] | tuple[str | int, ...]


class ServerKeywords(TypedDict, total=False):
    """The keywords of ``Server(handler, ...)``; all of them may be left out."""

    envelope: str | EnvelopePolicy
    max_message_bytes: int | None
    max_frames: int
    max_in_flight: int
    proxy_window: int
    concurrency: int | None
    max_in_flight_bytes: int | None
    max_in_flight_per_peer: int | None
    max_in_flight_bytes_per_peer: int | None
    overload: Literal["pause", "refuse"]
    busy_reply: BytesLike | list[BytesLike] | tuple[BytesLike, ...] | None
    block_warning: float | None
    handler_timeout: float | None
    on_error: Callable[[Request, Any], Any] | None
    on_disconnect: Callable[[bytes], object] | None
    cancel_on_disconnect: bool
    max_parked_bytes_per_peer: int
    max_parked_bytes: int
    park_timeout: float | None
    send_high_water_mark: int
    receive_high_water_mark: int
    grace: float
    linger: float
    backlog: int
    handshake_timeout: float
    tcp_keepalive_idle: float | None
    max_connection_age: float | None
    heartbeat_interval: float | None
    duplicate_routing_id: Literal["handover", "reject"]
    replies_follow_routing_id: bool
    routing_id: bytes | bytearray | memoryview | None
    descriptor_limit: int | None
    curve_secret_key: str | os.PathLike[str] | bytes | SecretKey | None
    authorized_keys: str | os.PathLike[str] | Callable[[str, str], Any] | None
    plain: Callable[[str, str, str], Any] | None
    allow_addresses: list[str] | tuple[str, ...] | None
    allow_users: Accounts | None
    allow_groups: Accounts | None
    require_curve: bool
    ipc_mode: int | None
    proxy_key: str | None
    proxy_secret_key: str | os.PathLike[str] | bytes | SecretKey | None
    io_threads: int
    context: zmq.Context[Any] | None
