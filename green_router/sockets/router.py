"""The ROUTER: made, bound and closed.

Rules of this file
  1. Seconds become milliseconds only here, and settings become socket options only here.
  2. It hands out the calls of the socket (sockets/frames.py); only the owner calls them.
  3. A failed bind says which endpoint, why, and what to do (endpoints.py).

Why not the methods of zmq.green's socket
  Its ``recv`` and ``send`` read EVENTS around each frame, and wait with a timeout of 11.6 s in case
  an edge was lost. The owner needs neither: it never waits in a socket call. So the calls are those
  of pyzmq's compiled base class, bound to the green socket, always with NOBLOCK. zmq.green's own
  watcher on the descriptor is stopped as well: it would read EVENTS at every edge, a second reader
  of what the owner waits for, and cost a wake-up each time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq
import zmq.green
from gevent.monkey import get_original
from greenlet import getcurrent

from ..errors import BindError, WrongThread
from ..hub.log import Log
from ..security.control import AccessControl
from ..settings import Settings
from .connections import Connections
from .endpoints import cannot_bind, check_connectable, check_text, host_and_port
from .frames import IN_USE, frames_of
from .inherited import SCHEME, descriptor_of, listening_at
from .paths import ListeningPath
from .refusals import Refusals

log = Log("sockets")

get_ident = get_original("_thread", "get_ident")

KEEPALIVE_PROBES = 3
"""Unanswered TCP probes after which a peer is gone, sent at a sixth of the idle time: 1.5 times the
idle time in all."""

HEARTBEATS_MISSED = 3
"""Intervals without an answer after which a peer is disconnected; libzmq's default of one drops
peers that are only busy."""

CONNECTED: dict[int, Any] = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 5,
    zmq.TCP_KEEPALIVE_INTVL: 2,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 11_000,
}
"""Options of a connection that this end has made: after 11 s without a sign of life it is made
anew. A host that has gone, and has come again under its address, is found that way."""

LONGEST_MS = 2**31 - 1
"""Milliseconds, 25 days: what a socket option of libzmq takes at the most."""


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded up, so that a short time never becomes 0, which means "none" or
    "for ever"."""
    return -int(-seconds * 1000 // 1)


class NoticedSocket(zmq.green.Socket):  # type: ignore[type-arg]
    """A green socket that tells when it is about to be closed: ``Context.destroy`` closes what it
    finds."""

    when_closed: Callable[[], None] | None = None

    def close(self, linger: int | None = None) -> None:
        """Say so, once, and close."""
        if self.when_closed is not None:
            when_closed, self.when_closed = self.when_closed, None
            when_closed()
        super().close(linger)


class Router:
    """A ROUTER with its options set.

    Args:
        context: a zmq.green.Context.
        settings: of the server.
        kind: ROUTER, or DEALER for the servers' side of libzmq's own proxy.
        access: who may connect; None for what the settings say.
        peers: whether ``connections`` shall be known: then somebody must look, always.
    Attributes:
        receive, skip, send: whole messages, as ``sockets.frames_pure.PureFrames`` says.
        readable: ``readable()`` -> true if there is something to receive; it processes libzmq's
            commands.
        fd: its descriptor, which becomes readable at an edge (zmq_getsockopt(3), ZMQ_FD).
        connections: of its peers.
        access: who may connect.
        endpoints: where it is bound, with real ports.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        settings: Settings,
        kind: int = zmq.ROUTER,
        access: AccessControl | None = None,
        peers: bool = False,
    ) -> None:
        self.socket = socket_ = context.socket(kind, socket_class=NoticedSocket)
        self.linger_ms = milliseconds(settings.linger)
        self._context, self.access = context, access or AccessControl(settings)
        listeners = self.access.failures.listeners
        self.connections = Connections(socket_ if peers else None, listeners)
        self._refusals = Refusals(socket_, self.access, self.connections)
        self._when_closed: Callable[[], None] | None = None
        socket_.when_closed = self._about_to_be_closed
        self.endpoints: list[str] = []
        self._backlog = settings.backlog
        self._paths: list[ListeningPath] = []
        self._adopted: set[int] = set()
        _silence_green(socket_)
        options: dict[int, int | bytes] = {
            zmq.SNDHWM: settings.send_high_water_mark,
            zmq.RCVHWM: settings.receive_high_water_mark,
            zmq.LINGER: self.linger_ms,
            zmq.BACKLOG: settings.backlog,
            zmq.HANDSHAKE_IVL: milliseconds(settings.handshake_timeout),
            zmq.MAXMSGSIZE: settings.max_message_bytes
            if settings.max_message_bytes is not None
            else -1,
        }
        if kind == zmq.ROUTER:
            options[zmq.ROUTER_MANDATORY] = 1
            options[zmq.ROUTER_HANDOVER] = int(settings.duplicate_routing_id == "handover")
        if settings.routing_id is not None:
            options[zmq.ROUTING_ID] = settings.routing_id
        if settings.heartbeat_interval is not None:
            options |= {
                zmq.HEARTBEAT_IVL: milliseconds(settings.heartbeat_interval),
                zmq.HEARTBEAT_TIMEOUT: milliseconds(
                    HEARTBEATS_MISSED * settings.heartbeat_interval
                ),
                # libzmq must never stop reading a peer: it would not see that peer's answers, and
                # cut it off; and where the peer goes meanwhile, the next heartbeat aborts the
                # process (libzmq#4364, in 4.3.5).
                zmq.RCVHWM: 0,
            }
        if settings.tcp_keepalive_idle is not None:
            idle = settings.tcp_keepalive_idle
            options |= {
                zmq.TCP_KEEPALIVE: 1,
                zmq.TCP_KEEPALIVE_IDLE: round(idle),
                zmq.TCP_KEEPALIVE_INTVL: max(1, round(idle / 6)),
                zmq.TCP_KEEPALIVE_CNT: KEEPALIVE_PROBES,
            }
            # Keepalive asks only while nothing is on its way: with a reply unacknowledged, a peer
            # whose packets are dropped would keep its descriptor for a quarter of an hour (tcp(7),
            # TCP_USER_TIMEOUT). A peer that is frozen acknowledges, but takes no more; it keeps its
            # connection for as long as its replies are kept.
            if settings.park_timeout is not None:
                options[zmq.TCP_MAXRT] = min(
                    milliseconds(max(1.5 * idle, settings.park_timeout)), LONGEST_MS
                )
        for option, value in options.items():
            socket_.setsockopt(option, value)
        log.debug("frames: %s", IN_USE)
        frames = frames_of(socket_, body_second=settings.envelope.plain == 2)
        calls: list[Callable[..., Any]] = [
            frames.receive,
            frames.skip,
            frames.send,
            frames.readable,
        ]
        if os.environ.get("GREEN_ROUTER_DEBUG"):
            calls = list(map(OwnedCalls().guard, calls))
        self.receive: Callable[[int], tuple[list[bytes], Any] | None] = calls[0]
        self.skip: Callable[[int], bool] = calls[1]
        self.send: Callable[[Sequence[bytes], int, Any], int] = calls[2]
        self.readable: Callable[[], object] = calls[3]
        self.fd: int = socket_.getsockopt(zmq.FD)

    def bind(self, endpoint: str) -> str:
        """Serve an endpoint.

        Args:
            endpoint: ``tcp://host:port`` (0 or * for any port), ``tcp://[::1]:port``,
                ``ipc://path``, ``inproc://name``, ``fd://3`` or ``fd://NAME``.
        Returns:
            The endpoint as it is, with the real port.
        Raises:
            BindError: it cannot be served.
        Source: zmq_tcp(7), zmq_ipc(7), zmq_inproc(7).
        """
        check_text(endpoint)
        if endpoint.startswith(SCHEME):
            return self.adopt(endpoint, descriptor_of(endpoint))
        # An abstract name is no file, and for * libzmq makes one up, which it removes together with
        # its directory.
        if endpoint.startswith("ipc://") and endpoint[6:] not in ("", "*") and endpoint[6] != "@":
            return self._listen_at(endpoint)
        if endpoint.startswith("tcp://"):
            host_and_port(endpoint)
        return self._bind(endpoint, endpoint)

    @property
    def secured(self) -> bool:
        """True if somebody is asked who may connect, so that peers may have user ids."""
        return (
            self.access.restricts
            or bool(self.socket.getsockopt(zmq.ZAP_DOMAIN))
            or self.socket.getsockopt(zmq.MECHANISM) != zmq.NULL
        )

    def connect(self, endpoint: str, name: bytes, keys: Mapping[int, bytes]) -> None:
        """Connect to somebody who is bound, a DEALER or a ROUTER; it may come later, and go and
        come again.

        Args:
            endpoint: as ``check_connectable`` wants it.
            name: the routing id by which it is addressed.
            keys: options of CURVE for this connection, or none.
        Source: zmq_setsockopt(3), ZMQ_CONNECT_ROUTING_ID.
        """
        check_connectable(endpoint)
        self.access.admit_links(self._context, self.socket)
        self.connections.lasting.add(name)
        options = (
            {zmq.CONNECT_ROUTING_ID: name, zmq.IPV6: int("[" in endpoint)} | CONNECTED | dict(keys)
        )
        before = {option: self.socket.getsockopt(option) for option in CONNECTED}
        for option, value in options.items():
            self.socket.setsockopt(option, value)
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise cannot_bind(endpoint, error) from None
        finally:
            for option, value in (before | {zmq.CURVE_SERVER: 0} if keys else before).items():
                self.socket.setsockopt(option, value)

    def adopt(self, endpoint: str, descriptor: int) -> str:
        """Serve on a socket that listens already; libzmq closes the descriptor.

        Args:
            endpoint: ``fd://...``; or ``tcp://...`` or ``ipc://...``, for the transport alone.
            descriptor: of a listening socket.
        Returns:
            The endpoint as it is.
        Raises:
            BindError: it cannot be served; the descriptor is still open.
        """
        real = listening_at(endpoint, descriptor)
        if descriptor in self._adopted:
            raise BindError(
                endpoint, f"descriptor {descriptor} is given twice; leave one out", errno.EADDRINUSE
            )
        self._adopted.add(descriptor)
        return self._bind(real, endpoint, descriptor)

    def _listen_at(self, endpoint: str) -> str:
        mode = self.access.policy_of(endpoint).ipc_mode
        listening = ListeningPath(endpoint, self._backlog, log.warning, mode)
        self._paths.append(listening)
        return self._bind(endpoint, endpoint, listening.socket.detach())

    def _bind(self, endpoint: str, given: str, descriptor: int = -1) -> str:
        """Let libzmq serve it; on this descriptor, where there is one. Source: zmq_setsockopt(3),
        ZMQ_USE_FD."""
        # Only where asked for: on a machine without IPv6, a wildcard would fail with it.
        self.socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        self.access.admit_to(self._context, self.socket, endpoint, self.access.policy_of(given))
        self.socket.setsockopt(zmq.USE_FD, descriptor)
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise cannot_bind(endpoint, error) from None
        finally:
            self.socket.setsockopt(zmq.USE_FD, -1)
        real: str = self.socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self.endpoints.append(real)
        return real

    def call_when_closed(self, told: Callable[[], None]) -> None:
        """Call this, in whichever OS thread that happens, just before somebody else than ``close``
        closes the socket."""
        self._when_closed = told

    def _about_to_be_closed(self) -> None:
        """ANY THREAD."""
        if self._when_closed is not None:
            self._when_closed()

    def close(self) -> None:
        """Close the socket. What libzmq has taken may still leave, for the linger time. Does not
        block."""
        self._when_closed = None
        self.connections.close()
        while self._paths:
            self._paths.pop().remove()
        self._refusals.close()
        self.socket.close(self.linger_ms)
        self.access.close()


class OwnedCalls:
    """Debug mode (GREEN_ROUTER_DEBUG=1): the calls of a socket, for the first greenlet and thread
    that makes one."""

    def __init__(self) -> None:
        self._owner: tuple[Any, int] | None = None

    def guard(self, call: Callable[..., Any]) -> Any:
        """The call, asserting who makes it."""

        def guarded(*arguments: Any) -> Any:
            caller = (getcurrent(), get_ident())
            if self._owner is None:
                self._owner = caller
            if caller != self._owner:
                raise WrongThread(
                    f"the ROUTER belongs to {self._owner}, and was touched by {caller}"
                )
            return call(*arguments)

        return guarded


def _silence_green(green: Any) -> None:
    """Stop zmq.green's own watcher on the descriptor; its ``close`` copes with that."""
    watcher = getattr(green, "_state_event", None)
    if watcher is not None:
        watcher.stop()
        watcher.close()
        green._state_event = None
