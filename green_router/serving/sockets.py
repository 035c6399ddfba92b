"""The ROUTER: made, bound and closed.

Rules of this file
  1. Seconds become milliseconds only here, and settings become socket options only here.
  2. It hands out the calls of the socket; only the owner calls them.
  3. A failed bind says which endpoint, why, and what to do.

Why not the methods of zmq.green's socket
  Its ``recv`` and ``send`` read EVENTS around each frame, and wait with a timeout of 11.6 s in case an edge was lost.
  The owner needs neither: it never waits in a socket call. So the calls are those of pyzmq's compiled base class, bound
  to the green socket, always with NOBLOCK. zmq.green's own watcher on the descriptor is stopped as well: it would read
  EVENTS at every edge, a second reader of what the owner waits for, and cost a wake-up each time.
"""
from __future__ import annotations

import errno
import logging
import os
import re
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import MethodType
from typing import Any

import zmq
import zmq.green
from gevent.hub import get_hub
from gevent.monkey import get_original
from greenlet import getcurrent
from zmq.backend import Socket as Compiled
from zmq.backend import zmq_poll

from ..errors import BindError, WrongThread
from ..settings import Settings
from .memory import keep_freed_memory

log = logging.getLogger("green_router.sockets")

get_ident = get_original("_thread", "get_ident")

ZERO_COPY_RECV = 10
"""A context option of libzmq that its stable header leaves out. Switched off, a frame has memory of its own; on, every
frame of 34 to 8,192 bytes keeps a shared buffer of 18 kB alive for as long as somebody keeps the frame (libzmq#2969),
and requests keep their first one, for ``peer_address``."""

KEEPALIVE_PROBES = 3
"""Unanswered TCP probes after which a peer is gone, sent at a sixth of the idle time: 1.5 times the idle time in all."""

HEARTBEATS_MISSED = 3
"""Intervals without an answer after which a peer is disconnected; libzmq's default of one drops peers that are only busy."""

MAX_IPC_PATH_BYTES = 107
"""sockaddr_un's room for a path (unix(7)), without the closing NUL."""


TERM_MARGIN = 1.0
"""Seconds that closing a context may take beyond the linger time."""


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded up, so that a short time never becomes 0, which means "none" or "for ever"."""
    return -int(-seconds * 1000 // 1)


def make_context(settings: Settings) -> zmq.Context[Any]:
    """A zmq.green context for one server."""
    keep_freed_memory()
    context = zmq.green.Context(io_threads=settings.io_threads)
    with suppress(zmq.ZMQError):        # a libzmq that does not know the option
        context.set(ZERO_COPY_RECV, 0)
    return context


def end_context(context: zmq.Context[Any], linger: float) -> None:
    """Terminate a context in an OS thread: term() blocks its caller until the last reply has left, or been given up.

    **Blocks** the calling greenlet only, for at most ``linger`` and a second.
    """
    ended = get_hub().threadpool.spawn(context.term)
    ended.wait(linger + TERM_MARGIN)
    if not ended.ready():
        log.warning("the ZeroMQ context did not end within %g s: somebody has a socket of it open; it is left to the end of "
                    "the process", linger + TERM_MARGIN)


class Router:
    """A ROUTER with its options set.

    Args:
        context: a zmq.green.Context.
        settings: of the server.
    Attributes:
        recv: ``recv(flags)`` -> bytes, ``recv(flags, False)`` -> Frame.
        send: ``send(bytes, flags)``.
        readable: ``readable()`` -> true if there is something to receive; it processes libzmq's commands.
        fd: its descriptor, which becomes readable at an edge (zmq_getsockopt(3), ZMQ_FD).
        endpoints: where it is bound, with real ports.
    """

    def __init__(self, context: zmq.Context[Any], settings: Settings) -> None:
        self.socket = socket_ = context.socket(zmq.ROUTER)
        self.linger_ms = milliseconds(settings.linger)
        self.endpoints: list[str] = []
        self._paths: list[tuple[str, int]] = []
        _silence_green(socket_)
        options = {
            zmq.ROUTER_MANDATORY: 1,
            zmq.ROUTER_HANDOVER: int(settings.duplicate_routing_id == "handover"),
            zmq.SNDHWM: settings.send_high_water_mark,
            zmq.RCVHWM: settings.receive_high_water_mark,
            zmq.LINGER: self.linger_ms,
            zmq.BACKLOG: settings.backlog,
            zmq.HANDSHAKE_IVL: milliseconds(settings.handshake_timeout),
            zmq.MAXMSGSIZE: settings.max_message_bytes if settings.max_message_bytes is not None else -1,
        }
        if settings.heartbeat_interval is not None:
            options |= {
                zmq.HEARTBEAT_IVL: milliseconds(settings.heartbeat_interval),
                zmq.HEARTBEAT_TIMEOUT: milliseconds(HEARTBEATS_MISSED * settings.heartbeat_interval),
                # libzmq must never stop reading a peer: it would not see that peer's answers, and cut it off; and where the peer
                # goes meanwhile, the next heartbeat aborts the process (libzmq#4364, in 4.3.5).
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
            # Keepalive asks only while nothing is on its way: with a reply unacknowledged, a peer whose packets are
            # dropped would keep its descriptor for a quarter of an hour (tcp(7), TCP_USER_TIMEOUT). A peer that is frozen
            # acknowledges, but takes no more; it keeps its connection for as long as its replies are kept.
            if settings.park_timeout is not None:
                options[zmq.TCP_MAXRT] = milliseconds(max(1.5 * idle, settings.park_timeout))
        for option, value in options.items():
            socket_.setsockopt(option, value)
        # zmq_poll without waiting reads EVENTS, at a third of what ``get(EVENTS)`` takes: that looks the option up in an Enum.
        calls: list[Callable[..., Any]] = [MethodType(Compiled.recv, socket_), MethodType(Compiled.send, socket_),
                                           partial(zmq_poll, [(socket_, int(zmq.POLLIN))], 0)]
        if os.environ.get("GREEN_ROUTER_DEBUG"):
            calls = list(map(OwnedCalls().guard, calls))
        self.recv: Callable[..., Any] = calls[0]
        self.send: Callable[..., Any] = calls[1]
        self.readable: Callable[[], object] = calls[2]
        self.fd: int = socket_.getsockopt(zmq.FD)

    def bind(self, endpoint: str) -> str:
        """Serve an endpoint.

        Args:
            endpoint: ``tcp://host:port`` (0 or * for any port), ``tcp://[::1]:port``, ``ipc://path``, ``inproc://name``.
        Returns:
            The endpoint as it is, with the real port.
        Raises:
            BindError: it cannot be served.
        Source: zmq_tcp(7), zmq_ipc(7), zmq_inproc(7).
        """
        check_text(endpoint)
        path = endpoint[6:] if endpoint.startswith("ipc://") else ""
        if path == "*" or path.startswith("@"):
            path = ""       # no file, or one that libzmq makes up, and removes together with its directory
        if path:
            check_ipc_path(endpoint, path)
        elif endpoint.startswith("tcp://"):
            host_and_port(endpoint)
        # Only where asked for: on a machine without IPv6, a wildcard would fail with it.
        self.socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise BindError(endpoint, _reason(endpoint, error), error.errno) from None
        real: str = self.socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self.endpoints.append(real)
        if path:
            with suppress(OSError):
                self._paths.append((real[6:], os.stat(real[6:]).st_ino))
        return real

    def adopt(self, endpoint: str, descriptor: int) -> str:
        """Serve on a socket that listens already; libzmq closes the descriptor.

        Args:
            endpoint: ``tcp://...`` or ``ipc://...``, for the transport alone.
            descriptor: of a listening socket that does not block, or one that loses a race hangs in accept.
        Returns:
            The endpoint as it is.
        Raises:
            BindError: it cannot be served.
        Source: zmq_setsockopt(3), ZMQ_USE_FD.
        """
        self.socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        self.socket.setsockopt(zmq.USE_FD, descriptor)
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise BindError(endpoint, _reason(endpoint, error), error.errno) from None
        finally:
            self.socket.setsockopt(zmq.USE_FD, -1)
        real: str = self.socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self.endpoints.append(real)
        return real

    def close(self) -> None:
        """Close the socket. What libzmq has taken may still leave, for the linger time. Does not block."""
        ours = [(path, inode) for path, inode in self._paths if _inode(path) == inode]
        self.socket.close(self.linger_ms)
        for path, inode in ours:
            if _inode(path) == inode:
                with suppress(OSError):
                    os.unlink(path)


class OwnedCalls:
    """Debug mode (GREEN_ROUTER_DEBUG=1): the calls of a socket, for the first greenlet and thread that makes one."""

    def __init__(self) -> None:
        self._owner: tuple[Any, int] | None = None

    def guard(self, call: Callable[..., Any]) -> Any:
        """The call, asserting who makes it."""
        def guarded(*arguments: Any) -> Any:
            caller = (getcurrent(), get_ident())
            if self._owner is None:
                self._owner = caller
            if caller != self._owner:
                raise WrongThread(f"the ROUTER belongs to {self._owner}, and was touched by {caller}")
            return call(*arguments)

        return guarded


def _silence_green(green: Any) -> None:
    """Stop zmq.green's own watcher on the descriptor; its ``close`` copes with that."""
    watcher = getattr(green, "_state_event", None)
    if watcher is not None:
        watcher.stop()
        watcher.close()
        green._state_event = None


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def check_text(endpoint: str) -> None:
    """Refuse what cannot be handed to libzmq."""
    try:
        endpoint.encode()
    except UnicodeEncodeError:
        raise BindError(endpoint, "libzmq needs UTF-8; choose another name", errno.EINVAL) from None
    if "\0" in endpoint:
        raise BindError(endpoint, "there is a zero byte in it; leave it out", errno.EINVAL)


PORT = re.compile(r"\*|0|[1-9][0-9]{0,4}")


def host_and_port(endpoint: str) -> tuple[str, str]:
    """Divide a TCP endpoint, and refuse a port that libzmq would take for another one: 70000 for 4464, 5570-5571 for 5570."""
    address = endpoint.removeprefix("tcp://")
    if "://" in address:
        raise BindError(endpoint, "there is another endpoint in it; give each one for itself", errno.EINVAL)
    host, colon, port = address.rpartition(":")
    if not colon or not port or address.endswith("]"):
        whole = address.removesuffix(":")
        raise BindError(endpoint, f"the port is missing; write tcp://{whole or '*'}:5555, or * for any port", errno.EINVAL)
    if not PORT.fullmatch(port) or (port != "*" and int(port) > 65535):
        raise BindError(endpoint, f"{port!r} is no port; write a number from 1 to 65535, or * for any port", errno.EINVAL)
    if not host:
        raise BindError(endpoint, f"the address is missing; write tcp://*:{port} for all addresses", errno.EINVAL)
    if ":" in host and not host.startswith("["):
        raise BindError(endpoint, f"{host!r} is no address; one of IPv6 has brackets, tcp://[::1]:{port}", errno.EINVAL)
    return host, port


def check_ipc_path(endpoint: str, path: str) -> None:
    """Refuse an ipc path that a living server has: libzmq would take it away from it without a word."""
    if len(os.fsencode(path)) > MAX_IPC_PATH_BYTES:
        raise BindError(endpoint, f"the path has more than {MAX_IPC_PATH_BYTES} bytes; choose a shorter one",
                        errno.ENAMETOOLONG)
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(endpoint, "there is a file of another kind at this path; choose another path or remove it",
                        errno.EEXIST)
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.setblocking(False)
    try:
        probe.connect(path)
    except (BlockingIOError, PermissionError):
        pass                        # somebody listens, its queue is full; or it is another user's, and may live
    except OSError:
        return                      # nobody listens: left over by a process that was killed
    finally:
        probe.close()
    raise BindError(endpoint, "another process serves this path; stop it or choose another path", errno.EADDRINUSE)


_ADVICE = {
    errno.EADDRINUSE: "the address is in use; stop the other process or choose another port",
    errno.EACCES: "permission denied; choose a port above 1023 or a path that you may write to",
    errno.EADDRNOTAVAIL: "this machine has no such address; use one of its own, or * for all",
    errno.ENODEV: "this machine has no such address or interface; use one of its own, or * for all",
    errno.EINVAL: "not an endpoint; write tcp://host:port, ipc://path or inproc://name",
    errno.EPROTONOSUPPORT: "no such transport; use tcp, ipc or inproc",
    zmq.ENOCOMPATPROTO: "a ROUTER cannot use this transport; use tcp, ipc or inproc",
    errno.ENOENT: "no such directory; make it first",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}


def advice(number: int) -> str | None:
    """What an errno of a failed bind means, and what to do; None where there is nothing to say."""
    return _ADVICE.get(number)


def _reason(endpoint: str, error: zmq.ZMQError) -> str:
    if "://" not in endpoint:
        return _ADVICE[errno.EINVAL]
    return advice(error.errno or 0) or (zmq.strerror(error.errno) if error.errno else str(error))
