"""One policy: what the settings of access say, loaded, and laid down in a socket before it is
bound.

Rules of this file
  1. Files are read and names are looked up when a policy is made; what is wrong is a ConfigError.
  2. Every option of libzmq that says who may connect is set here, before each bind: a listening
     socket keeps those that it was made with.
  3. libzmq's filters of addresses and users only grow: no call takes one away. So an endpoint
     that needs a narrower one than those before it is refused.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, ip_address, ip_network
from itertools import count
from typing import Any

import zmq

from ..errors import BindError, ConfigError
from ..settings.access import ANY_KEY
from ..settings.secret_key import SecretKey
from .certificates import exposure, secret_key
from .keys import Identity, KeyDirectory
from .zap import Ask, Question

numbers = count()

PRIVATE, SHARED = 0o600, 0o666
"""Modes of an ipc socket's file: for its owner, and where libzmq looks at who connects."""

NOBODY = "255.255.255.255/32"
"""An address that no peer has, where a list has none that could connect."""

SAFE_LIBZMQ = (4, 3, 3)
"""Before it, one raw connection could starve all clients of a CURVE endpoint (CVE-2020-15166), and
a greeting overflow a buffer (GHSA-fc3w-qxf5-7hp6)."""


class Policy:
    """Says who may connect. It asks nobody and binds nothing.

    Args:
        access: Settings or Access, checked.
    Raises:
        ConfigError: a file that cannot be read, a user that is not known, a libzmq without CURVE.
    Attributes:
        domain: of ZAP's questions.
        kind: ``curve``, ``plain`` or None: what ZAP is asked about.
        keys: the directory of keys, or None.
        ask: the callable, or None.
        ipc_mode: of the files of ipc sockets.
        problems: what is wrong, but lets others in: a sentence each.
    """

    def __init__(self, access: Any) -> None:
        self.domain = b"green_router/%d" % next(numbers)
        self.kind: str | None = None
        self.keys: KeyDirectory | None = None
        self.ask: Ask | None = None
        self.problems: list[str] = []
        self._any_key = access.authorized_keys == ANY_KEY
        self._secret = _secret_of(access.curve_secret_key, self.problems)
        self._require_curve = access.require_curve
        self._networks = tuple(map(ip_network, access.allow_addresses or ()))
        self._users = [_number("allow_users", name, _user) for name in access.allow_users or ()]
        self._groups = [_number("allow_groups", name, _group) for name in access.allow_groups or ()]
        mode = access.ipc_mode
        self.ipc_mode = (
            mode if mode is not None else SHARED if self._users or self._groups else PRIVATE
        )
        if self._secret is not None:
            self.kind = "curve"
            if callable(access.authorized_keys):
                self.ask = _asking(access.authorized_keys)
            elif not self._any_key:
                self.keys = KeyDirectory(access.authorized_keys)
                self.keys.load()
                if self.keys.gone:
                    self.keys.check()
        elif access.plain is not None:
            self.kind, self.ask = "plain", _asking(access.plain)

    @property
    def restricts(self) -> bool:
        """True if somebody may not connect."""
        return bool(self.kind or self._networks or self._users or self._groups)

    def known(self, key: bytes) -> Identity | None:
        """Return who has this key (40 Z85 characters); None for nobody."""
        if self.keys is not None:
            return self.keys.known.get(key)
        return Identity(key.decode()) if self._any_key else None

    def check_endpoint(self, endpoint: str) -> str | None:
        """Look at an endpoint before it is bound.

        Args:
            endpoint: ``tcp://...``, with the real address where it is known; others are local.
        Returns:
            What to warn of, as a sentence, or None.
        Raises:
            BindError: it may not be served like this.
        """
        if not is_public(endpoint):
            return None
        if zmq.zmq_version_info() < SAFE_LIBZMQ:
            raise BindError(
                endpoint,
                f"libzmq {zmq.zmq_version()} has known holes (CVE-2020-15166); 4.3.3 is the "
                "oldest for an address that others reach",
            )
        if self.kind == "curve":
            return None
        if self._require_curve:
            raise BindError(
                endpoint,
                "others can reach this address, and require_curve is set: give curve_secret_key "
                "(green-router keygen), or bind to 127.0.0.1",
            )
        return (
            f"{endpoint}: whoever reaches this address can "
            f"{'send passwords' if self.kind else 'send requests'}, and all is sent in the clear: "
            "see curve_secret_key, or bind to 127.0.0.1"
        )

    def warn(self, endpoints: Iterable[str], say: Callable[..., object]) -> None:
        """Say what there is to warn of. Raises BindError as ``check_endpoint`` does."""
        for problem in [*self.problems, *(self.keys.problems if self.keys is not None else ())]:
            say("%s", problem)
        for endpoint in endpoints:
            warning = self.check_endpoint(endpoint)
            if warning is not None:
                say("%s", warning)

    def apply(self, socket: zmq.Socket[Any], endpoint: str, laid: Laid) -> None:
        """Lay this policy down in the ROUTER, for the endpoint that is bound next.

        Args:
            laid: what was laid down in this socket before.
        Raises:
            BindError: an endpoint before it has let in fewer.
        """
        socket.setsockopt(zmq.CURVE_SERVER, 0)  # and with it PLAIN_SERVER: the mechanism is NULL
        # libzmq does not take an empty domain: then ZAP is asked about NULL too.
        if self.kind is not None or laid.asks:
            socket.setsockopt(zmq.ZAP_DOMAIN, self.domain)
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            laid.asks = True
        if self._secret is not None:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret.reveal())
        elif self.kind == "plain":
            socket.setsockopt(zmq.PLAIN_SERVER, 1)
        if endpoint.startswith("tcp://"):
            ipv6 = "[" in endpoint
            wanted = {text for network in self._networks for text in _forms(network, ipv6)}
            if self._networks and not wanted:
                wanted = {NOBODY}
            everybody = {"::/0"} if ipv6 else {"0.0.0.0/0"}
            laid.add(socket, zmq.TCP_ACCEPT_FILTER, wanted, everybody, endpoint)
        elif endpoint.startswith("ipc://"):
            if laid.ipc is not None and laid.ipc != (self._users, self._groups):
                raise BindError(
                    endpoint,
                    "the ipc endpoints of a server have the same allow_users and allow_groups: "
                    "libzmq takes none of them back",
                )
            if laid.ipc is None:
                for option, numbers_ in (
                    (zmq.IPC_FILTER_UID, self._users),
                    (zmq.IPC_FILTER_GID, self._groups),
                ):
                    for number in numbers_:
                        socket.setsockopt(option, number)
            laid.ipc = self._users, self._groups

    def __repr__(self) -> str:
        return f"<Policy {self.kind or 'without authentication'}>"


class Laid:
    """Remembers what was laid down in one socket, and cannot be taken back.

    Attributes:
        ipc: the users and groups of its ipc endpoints, once there is one.
        asks: whether ZAP is asked.
    """

    def __init__(self) -> None:
        self.asks = False
        self.ipc: tuple[list[int], list[int]] | None = None
        self._filters: dict[bool, set[str]] = {False: set(), True: set()}

    def add(
        self,
        socket: zmq.Socket[Any],
        option: int,
        wanted: set[str],
        everybody: set[str],
        endpoint: str,
    ) -> None:
        """Let these addresses in, and no others, or raise BindError. Without any, everybody."""
        laid = self._filters["[" in endpoint]
        others = self._filters["[" not in endpoint]
        if not wanted:
            if not laid and not others:
                return
            wanted = laid | everybody
        if not laid <= wanted:
            raise BindError(
                endpoint,
                "an endpoint before it lets more addresses in, and libzmq takes none of them "
                "back; bind those with fewer addresses first",
            )
        for text in sorted(wanted - laid):
            socket.setsockopt(option, text.encode())
        laid |= wanted


def _forms(network: Any, ipv6: bool) -> list[str]:
    """How libzmq sees a network on a socket of that family: an IPv6 one has IPv4 peers as
    ``::ffff:10.0.0.1``."""
    if isinstance(network, IPv4Network):
        return [
            f"::ffff:{network.network_address}/{96 + network.prefixlen}" if ipv6 else str(network)
        ]
    return [str(network)] if ipv6 else []


def is_public(endpoint: str) -> bool:
    """Tell whether others than this machine may reach an endpoint: a TCP address that is not
    loopback.

    A name counts as public, but localhost and the interface lo.
    """
    if not endpoint.startswith("tcp://"):
        return False
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]").partition("%")[0]
    if host in ("localhost", "lo"):
        return False
    with suppress(ValueError):
        address = ip_address(host)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return not (mapped or address).is_loopback
    return True


def _secret_of(value: Any, problems: list[str]) -> SecretKey | None:
    if value is None:
        return None
    if not zmq.has("curve"):
        raise ConfigError(
            "curve_secret_key",
            "...",
            "left out: this libzmq has no CURVE (zmq.has('curve') is false)",
        )
    secret = secret_key("curve_secret_key", value)
    exposed = None if value is secret else exposure(value)
    if exposed is not None:
        problems.append(f"curve_secret_key: {exposed}")
    return secret


def _asking(asked: Callable[..., Any]) -> Ask:
    def ask(question: Question) -> Any:
        return asked(*question.credentials, question.address)

    return ask


def _number(setting: str, account: str | int, look_up: Callable[[str], int]) -> int:
    if isinstance(account, str) and account.isascii() and account.isdigit():
        return int(account)
    try:
        return account if isinstance(account, int) else look_up(account)
    except (KeyError, ValueError):
        raise ConfigError(setting, account, "known on this machine, or a number") from None


def _user(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _group(name: str) -> int:
    return grp.getgrnam(name).gr_gid
