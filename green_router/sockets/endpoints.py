"""Checks endpoints, and says what to write instead of a wrong one.

Rules of this file
  1. Endpoints are checked before bind: libzmq would misread some, and take away others' ipc paths.
  2. What libzmq or the kernel says is told with what to do about it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat

import zmq

from ..errors import BindError
from .probe import listens

MAX_IPC_PATH_BYTES = 107
"""sockaddr_un's room for a path (unix(7)), without the closing NUL."""


def check_type(endpoint: object) -> None:
    """Raise BindError for what is no text."""
    if not isinstance(endpoint, str):
        raise BindError(
            repr(endpoint), f"an endpoint is a text, {_instead_of(endpoint)}", errno.EINVAL
        )


def check_text(endpoint: str) -> None:
    """Raise BindError for what cannot be handed to libzmq."""
    check_type(endpoint)
    try:
        endpoint.encode()
    except UnicodeEncodeError:
        raise BindError(endpoint, "libzmq needs UTF-8; choose another name", errno.EINVAL) from None
    if "\0" in endpoint:
        raise BindError(endpoint, "there is a zero byte in it; leave it out", errno.EINVAL)


def _instead_of(value: object) -> str:
    """Return what to write in place of what is no endpoint, as the end of a sentence."""
    if isinstance(value, (bytes, bytearray)):
        return "and these are bytes; decode them"
    if isinstance(value, os.PathLike):
        return f"and this is a path; write ipc://{os.fspath(value)!s}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"and this is a number; write tcp://127.0.0.1:{value} for a port"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "and these are several; give each one for itself, as bind(*endpoints)"
    return f"and this is {type(value).__name__}; write tcp://host:port, ipc://path or inproc://name"


_PORT = re.compile(r"\*|0|[1-9][0-9]{0,4}")


def host_and_port(endpoint: str) -> tuple[str, str]:
    """The two parts of a TCP endpoint, as they are written.

    Raises:
        BindError: it has not both, or a port that libzmq would take for another one: 70000 for
            4464, 5570-5571 for 5570.
    """
    address = endpoint.removeprefix("tcp://")
    if "://" in address:
        raise BindError(
            endpoint, "there is another endpoint in it; give each one for itself", errno.EINVAL
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port or address.endswith("]"):
        whole = address.removesuffix(":")
        raise BindError(
            endpoint,
            f"the port is missing; write tcp://{whole or '*'}:5555, or * for any port",
            errno.EINVAL,
        )
    if not _PORT.fullmatch(port) or (port != "*" and int(port) > 65535):
        raise BindError(
            endpoint,
            f"{port!r} is no port; write a number from 1 to 65535, or * for any port",
            errno.EINVAL,
        )
    if not host:
        raise BindError(
            endpoint,
            f"the address is missing; write tcp://*:{port} for all addresses",
            errno.EINVAL,
        )
    if ":" in host and not host.startswith("["):
        raise BindError(
            endpoint,
            f"{host!r} is no address; one of IPv6 has brackets, tcp://[::1]:{port}",
            errno.EINVAL,
        )
    return host, port


def check_connectable(endpoint: str) -> None:
    """Raise BindError for what one cannot connect to: only tcp and ipc reach another process, at
    one known place."""
    check_text(endpoint)
    if endpoint.startswith("tcp://"):
        host, port = host_and_port(endpoint)
        if host == "*" or port in ("*", "0"):
            raise BindError(
                endpoint, "one connects to a host and a port; write tcp://broker:5556", errno.EINVAL
            )
    elif not endpoint.startswith("ipc://") or endpoint[6:] in ("", "*"):
        raise BindError(
            endpoint,
            "one cannot connect to this; write tcp://broker:5556 or ipc://path",
            errno.EINVAL,
        )


def check_ipc_path(endpoint: str, path: str) -> None:
    """Raise BindError for a path that a living server has: libzmq would take it away from it
    without a word."""
    if len(os.fsencode(path)) > MAX_IPC_PATH_BYTES:
        raise BindError(
            endpoint,
            f"the path has more than {MAX_IPC_PATH_BYTES} bytes; choose a shorter one",
            errno.ENAMETOOLONG,
        )
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(
            endpoint,
            "there is a file of another kind at this path; choose another path or remove it",
            errno.EEXIST,
        )
    if listens(socket.AF_UNIX, path):  # if not, it is left over by a process that was killed
        raise BindError(
            endpoint,
            "another process serves this path; stop it or choose another path",
            errno.EADDRINUSE,
        )


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


def cannot_bind(endpoint: str, error: OSError | zmq.ZMQError) -> BindError:
    """Return the BindError of a failed call."""
    number = error.errno or 0
    if "://" not in endpoint:
        reason = _ADVICE[errno.EINVAL]
    else:
        reason = _ADVICE.get(number) or (zmq.strerror(number) if number else str(error))
    return BindError(endpoint, reason, number or None)
