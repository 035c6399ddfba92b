"""Listening sockets that another program has made: a service manager, most of the time.

Rules of this file
  1. What libzmq is given is looked at before: it takes any descriptor, and aborts the process when
     it cannot accept.
  2. systemd's convention (sd_listen_fds(3)): LISTEN_FDS of them, from descriptor 3 on, for the
     process LISTEN_PID, with LISTEN_FDNAMES. The environment is left as it is; LISTEN_PID says to
     our children that it does not concern them.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

from ..errors import BindError
from .endpoints import check_text

SCHEME = "fd://"

FIRST = 3
"""SD_LISTEN_FDS_START."""

TRANSPORTS = {socket.AF_INET: "tcp", socket.AF_INET6: "tcp", socket.AF_UNIX: "ipc"}


def passed(environ: Mapping[str, str] = os.environ) -> dict[int, str]:
    """The descriptors that a service manager has passed to this process, with their names."""
    try:
        count = int(environ["LISTEN_FDS"]) if int(environ["LISTEN_PID"]) == os.getpid() else 0
    except (KeyError, ValueError):
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return {FIRST + index: names[index] if index < len(names) else "" for index in range(count)}


def check_form(endpoint: str) -> str:
    """Return what is behind ``fd://``: a number or a name. Raises BindError where there is
    nothing."""
    check_text(endpoint)
    text = endpoint.removeprefix(SCHEME)
    if not text:
        raise BindError(
            endpoint,
            f"say which one: fd://{FIRST}, or fd://NAME as in LISTEN_FDNAMES",
            errno.EINVAL,
        )
    return text


def descriptor_of(endpoint: str) -> int:
    """The descriptor that ``fd://3`` or ``fd://NAME`` means.

    Raises:
        BindError: it means none, or several.
    """
    text = check_form(endpoint)
    if text.isascii() and text.isdigit():
        return int(text)
    found = [descriptor for descriptor, name in passed().items() if name == text]
    if len(found) > 1:
        several = ", ".join(f"{SCHEME}{descriptor}" for descriptor in found)
        raise BindError(
            endpoint, f"{len(found)} descriptors have this name; write {several}", errno.EINVAL
        )
    if not found:
        raise BindError(
            endpoint, f"no descriptor of this name was passed; {_what_was_passed()}", errno.EBADF
        )
    return found[0]


def _what_was_passed() -> str:
    names = [name for name in passed().values() if name]
    pid = os.environ.get("LISTEN_PID", "")
    if names:
        return f"there are {', '.join(names)}"
    if pid and pid != str(os.getpid()):
        return (
            f"LISTEN_PID says that they are for process {pid}, and this is {os.getpid()}: start it "
            "without a shell, or by exec"
        )
    return "LISTEN_FDNAMES and LISTEN_FDS say none"


def listening_at(endpoint: str, descriptor: int) -> str:
    """Where a descriptor listens, which does not block from now on, and is not inherited any more.

    Args:
        endpoint: ``fd://...``; or ``tcp://...`` or ``ipc://...``, which it has to be then.
    Returns:
        ``tcp://address:port`` or ``ipc://path``.
    Raises:
        BindError: libzmq could not accept from it.
    """
    check_text(endpoint)
    if isinstance(descriptor, bool) or not isinstance(descriptor, int):
        raise BindError(
            endpoint,
            f"{descriptor!r} is no descriptor; give a number, as of socket.detach()",
            errno.EBADF,
        )
    try:
        looked_at = socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        if error.errno == errno.ENOTSOCK:
            raise BindError(
                endpoint, f"descriptor {descriptor} is no socket", error.errno
            ) from None
        if error.errno != errno.EBADF:
            raise BindError(
                endpoint, f"descriptor {descriptor}: {error.strerror}", error.errno
            ) from None
        raise BindError(
            endpoint,
            f"descriptor {descriptor} is not open; a service manager passes it, or the program "
            "that starts this one",
            error.errno,
        ) from None
    except OverflowError:
        raise BindError(endpoint, f"{descriptor} is no descriptor", errno.EBADF) from None
    with looked_at:
        real = _where(endpoint, descriptor, looked_at)
    # libzmq waits in accept where it loses a race for a connection.
    os.set_blocking(descriptor, False)
    os.set_inheritable(descriptor, False)
    return real


def _where(endpoint: str, descriptor: int, looked_at: socket.socket) -> str:
    transport = TRANSPORTS.get(looked_at.family)
    if transport is None or looked_at.type != socket.SOCK_STREAM:
        raise BindError(
            endpoint,
            f"descriptor {descriptor} is a socket of another kind; one of a stream over TCP or at "
            "a path is needed (ListenStream=)",
            errno.EPROTONOSUPPORT,
        )
    asked = endpoint.partition("://")[0]
    if asked not in ("fd", transport):
        raise BindError(
            endpoint,
            f"descriptor {descriptor} is a socket of {transport}, not of {asked}",
            errno.EPROTONOSUPPORT,
        )
    if not looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise BindError(
            endpoint,
            f"descriptor {descriptor} does not listen; call listen() on it first, and with "
            "systemd leave out Accept=yes",
            errno.EINVAL,
        )
    address = looked_at.getsockname()
    if transport == "tcp":
        host, port = address[:2]
        return (
            f"tcp://[{host}]:{port}"
            if looked_at.family == socket.AF_INET6
            else f"tcp://{host}:{port}"
        )
    path = (
        address if isinstance(address, str) else "@" + address[1:].decode(errors="surrogateescape")
    )
    real = f"ipc://{path}"
    check_text(real)
    return real
