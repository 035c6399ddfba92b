"""Where an endpoint is: a TCP port or a path, as a socket of the kernel has it.

Rules of this file
  1. An address means what it means to libzmq, which is asked.
  2. Nothing here listens on a port that clients know: they would connect, and lose what they ask.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import zmq

from ..errors import BindError
from .endpoints import cannot_bind, check_ipc_path, check_text, host_and_port
from .probe import listens


class TcpAddress(NamedTuple):
    """A TCP port of an address, in numbers.

    Attributes:
        host: as libzmq writes it, an IPv6 address in brackets.
        port: 0 for one that the system chooses.
    """

    host: str
    port: int

    @property
    def endpoint(self) -> str:
        """``tcp://host:port``."""
        return f"tcp://{self.host}:{self.port}"

    @property
    def address(self) -> tuple[Any, ...]:
        """As the socket module has it. A pair would lose the interface of a link-local address."""
        return socket.getaddrinfo(
            self.host.strip("[]"), self.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0][4]

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        """The address; an IPv4 one that is written as an IPv6 one (``::ffff:127.0.0.1``) as what it
        is."""
        ip = ip_address(self.host.strip("[]"))
        return getattr(ip, "ipv4_mapped", None) or ip

    @property
    def family(self) -> socket.AddressFamily:
        """Of its sockets."""
        return socket.AF_INET6 if self.host.startswith("[") else socket.AF_INET

    def bound(self, endpoint: str, *options: int) -> socket.socket:
        """A socket there that does not listen: nobody can connect.

        Args:
            endpoint: how it was written, for the error.
            options: of SOL_SOCKET, to be switched on.
        Raises:
            BindError: there can be none.
        """
        try:
            with ExitStack() as unless_bound:
                made = unless_bound.enter_context(socket.socket(self.family))
                for option in (socket.SO_REUSEADDR, *options):
                    made.setsockopt(socket.SOL_SOCKET, option, 1)
                if self.family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                made.bind(self.address)
                unless_bound.pop_all()
                return made
        except OSError as error:
            raise cannot_bind(endpoint, error) from None

    def try_out(self, endpoint: str) -> None:
        """Raise BindError where there can be no socket. Nothing is left."""
        self.bound(endpoint).close()

    @property
    def listening(self) -> bool:
        """True if something accepts connections here; assumed for wildcards."""
        return self.ip.is_unspecified or listens(self.family, self.address)


class IpcAddress(NamedTuple):
    """A path, or, where it begins with ``@``, a name that is in no directory."""

    path: str

    @property
    def abstract(self) -> bool:
        """True if it is such a name."""
        return self.path.startswith("@")

    @property
    def family(self) -> socket.AddressFamily:
        """Of its sockets."""
        return socket.AF_UNIX

    @property
    def address(self) -> str:
        """As the socket module has it."""
        return "\0" + self.path[1:] if self.abstract else self.path

    @property
    def real(self) -> str:
        """The same for all paths that lead there."""
        return self.path if self.abstract else os.path.realpath(self.path)

    def try_out(self, endpoint: str) -> None:
        """Raise BindError where there can be no socket. Nothing is left, nor was at the path, where
        a service may be."""
        try:
            if self.abstract:
                with socket.socket(self.family) as bound:
                    bound.bind(self.address)
            else:
                check_ipc_path(endpoint, self.path)
                with TemporaryFile(dir=os.path.dirname(self.path) or os.curdir):
                    pass
        except BindError:
            raise
        except OSError as error:
            raise cannot_bind(endpoint, error) from None

    @property
    def listening(self) -> bool:
        """True if something accepts connections here."""
        return listens(self.family, self.address)


Address = TcpAddress | IpcAddress


def has_place(endpoint: str) -> bool:
    """True if it is a TCP port, or an ipc path that is given: neither in one process alone, nor
    made up by libzmq."""
    transport, _, address = endpoint.partition("://")
    return (
        address != ""
        if transport == "tcp"
        else transport == "ipc" and address not in ("", "*", "@")
    )


def place_of(endpoint: str) -> Address:
    """Where an endpoint is.

    Raises:
        BindError: it has no place, or none on this machine. Whether another process has it is not
            looked at.
    """
    if not has_place(endpoint):
        raise BindError(
            endpoint,
            "workers that serve clients themselves need tcp://address:port or ipc://path",
            errno.EPROTONOSUPPORT,
        )
    transport, _, address = endpoint.partition("://")
    check_text(endpoint)
    if transport == "ipc":
        return IpcAddress(address)
    host, port = host_and_port(endpoint)
    try:
        with zmq.Context() as context, context.socket(zmq.REP) as asked:
            asked.setsockopt(zmq.IPV6, int(host.startswith("[")))
            asked.bind(f"tcp://{host}:0")
            meant: bytes = asked.getsockopt(zmq.LAST_ENDPOINT)  # type: ignore[assignment]
    except zmq.ZMQError as error:
        raise cannot_bind(endpoint, error) from None
    return TcpAddress(
        meant.decode().removeprefix("tcp://").rpartition(":")[0], 0 if port == "*" else int(port)
    )


def refuse_second(endpoint: str, place: Address, given: Iterable[tuple[str, Address]]) -> None:
    """Raise BindError where the place of an endpoint is that of one of these, too."""
    for other, taken in given:
        if _are_one(place, taken):
            reason = (
                "it is given twice"
                if other == endpoint
                else f"{other}, which is given too, has the same place"
            )
            raise BindError(endpoint, f"{reason}; leave one out", errno.EADDRINUSE)


def _are_one(place: Address, other: Address) -> bool:
    if isinstance(place, IpcAddress) or isinstance(other, IpcAddress):
        return (
            isinstance(place, IpcAddress)
            and isinstance(other, IpcAddress)
            and place.real == other.real
        )
    one, two = place.ip, other.ip
    return place.port == other.port != 0 and (
        one == two or _includes(one, two) or _includes(two, one)
    )


def _includes(wildcard: IPv4Address | IPv6Address, ip: IPv4Address | IPv6Address) -> bool:
    """IPv6's wildcard is IPv4's too."""
    return wildcard.is_unspecified and wildcard.version >= ip.version
