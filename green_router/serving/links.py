"""The proxies that a server has connected to, and what it says to them.

Rules of this file
  1. A proxy sends no more than ``proxy_window`` requests beyond what this server has settled: it is
     told after each turn that has settled something, and once a second (messages/credit.py). A
     plain DEALER does not listen to that, and shares out as libzmq does: the next one to the next.
  2. Who leaves says so, takes what is on its way, and only then takes no more. A proxy answers
     behind the last request, in the same pipe; a plain DEALER does not answer, and is not waited
     for.
  3. What a proxy says is recognized by the empty frame behind its name. The names are made here, by
     chance: no client can take one over.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

import gevent
from gevent.hub import get_hub

from ..errors import ConfigError
from ..hub import forked
from ..hub.log import Log
from ..messages.credit import BYE, GREET, load_of, read
from ..messages.envelope import EnvelopePolicy
from ..messages.ledger import Ledger
from ..security.proxied import keys_for_proxies
from ..settings import Settings
from ..sockets.endpoints import check_connectable

log = Log("proxy")

TELL_EVERY = 1.0
"""Seconds between two accounts to a proxy while nothing happens: it takes a server for gone that is
silent for three."""

ANSWER_WITHIN = 2.0
"""Seconds that a proxy has to answer a goodbye. It answers at once; but its host, or the network,
may be gone."""


def check(endpoints: Sequence[str], settings: Settings) -> None:
    """Check that a server of these settings can work for proxies there: ``tcp://host:port`` or
    ``ipc://path``.

    Raises:
        BindError: one cannot connect to such an endpoint.
        ConfigError: an envelope that leaves no room for the client's routing id, a routing_id, or a
            key that cannot be read.
    """
    for endpoint in endpoints:
        check_connectable(endpoint)
    if endpoints and settings.envelope.name in ("bare", "fixed:1"):
        raise ConfigError(
            "envelope",
            settings.envelope.name,
            "fixed:2 behind a proxy, for clients of bare: it puts their routing id before the body",
        )
    if endpoints and settings.routing_id is not None:
        raise ConfigError(
            "routing_id",
            settings.routing_id,
            "None behind a proxy, which tells its servers apart itself",
        )
    keys_for_proxies(settings)


class Link:
    """One proxy.

    Attributes:
        name: the routing id by which it is addressed.
        epoch: of its last greeting; 0 before the first.
        taken: requests since then.
        done: whether nothing will come from it any more.
    """

    __slots__ = ("done", "endpoint", "epoch", "name", "taken")

    def __init__(self, endpoint: str) -> None:
        self.endpoint, self.name = endpoint, b"proxy " + secrets.token_bytes(16)
        self.epoch = self.taken = 0
        self.done = False


class Links:
    """The connections to all proxies, and what has come by them. ``policy`` is the server's
    envelope policy, for which what a proxy says is malformed.

    Args:
        endpoints: where the proxies are.
        settings: of the server.
        connect: the ROUTER's, called with an endpoint, the name that it gets, and options of CURVE.
    Raises:
        BindError: one of them is no endpoint that libzmq can connect to.
    Attributes:
        by_name: each, by its routing id.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        settings: Settings,
        connect: Callable[[str, bytes, Mapping[int, bytes]], None],
    ) -> None:
        policy = settings.envelope
        self.by_name = {link.name: link for link in map(Link, endpoints)}
        self._measure = policy.measure
        self.policy = EnvelopePolicy(
            policy.name, self._measured, policy.reason, policy.closing, policy.plain
        )
        keys = keys_for_proxies(settings)
        for link in self.by_name.values():
            connect(link.endpoint, link.name, keys)

    def _measured(self, frames: list[bytes]) -> int:
        link = self.by_name.get(frames[0])
        if link is None:
            return self._measure(frames)
        if not frames[1]:
            raise ValueError
        count = self._measure(frames)
        link.taken += 1
        return count


class LinkProtocol:
    """Speaks with the proxies: how much is in hand, and goodbye. Made in the serving thread.

    Args:
        links: to them.
        settings: of the server.
        ledger: likewise.
        tell: the owner's, for a word to a proxy.
        put: of the mailbox.
    Attributes:
        gone: whether all have been told goodbye, and nothing comes any more.
    """

    def __init__(
        self,
        links: Links,
        settings: Settings,
        ledger: Ledger,
        tell: Callable[[list[bytes], bytes], object],
        put: Callable[[Callable[[], None]], object],
    ) -> None:
        self._links, self._ledger, self._tell, self._put = links.by_name, ledger, tell, put
        self._window = min(settings.proxy_window, settings.max_in_flight)
        self._told = 0
        self._leaving: Callable[[], None] | None = None
        self.gone = False
        self._loop = get_hub().loop
        timer = self._loop.timer(TELL_EVERY, TELL_EVERY)
        timer.start(put, self._report)
        self._timers = [timer]
        put(self._report)
        forked.arm(self)

    @classmethod
    def of(
        cls,
        links: Links | None,
        settings: Settings,
        ledger: Ledger,
        tell: Callable[[list[bytes], bytes], object],
        put: Callable[[Callable[[], None]], object],
    ) -> LinkProtocol | None:
        """Return that of these links, or None if there are none."""
        return None if links is None else cls(links, settings, ledger, tell, put)

    # -- in the owner's turn -----------------------------------------------------------------------

    def settled(self) -> None:
        """OWNER, when it has sent what there was. It still looks at the socket afterwards."""
        if self._ledger.settled != self._told:
            self._report()

    def heard(self, frames: list[bytes]) -> bool:
        """OWNER. Do what a proxy says; False if it is none, or this is a malformed request by way
        of it."""
        link = self._links.get(frames[0])
        if link is None:
            return False
        if frames[1]:
            link.taken += 1
            return False
        said = read(frames[2]) if len(frames) == 3 else None
        if said is not None and said[0] == GREET:
            if link.epoch != said[1][0]:
                link.epoch, link.taken = said[1][0], 0
                gevent.spawn(log.info, "%s gives requests", link.endpoint)
            self._report()
            if self._leaving is not None and not link.done:
                self._tell([link.name, b""], BYE)
        elif said is not None and said[0] == BYE and self._leaving is not None:
            link.done = True
            self._check_done()
        return True

    def _report(self) -> None:
        """OWNER."""
        self._told = settled = self._ledger.settled
        in_hand = max(0, self._ledger.received - settled)
        for link in self._links.values():
            self._tell([link.name, b""], load_of(link.epoch, link.taken, in_hand, self._window))

    # -- the end -----------------------------------------------------------------------------------

    def leave(self, then: Callable[[], None]) -> None:
        """OWNER. Say goodbye; call back, from the owner, when nothing will come any more."""
        self._leaving = then
        for link in self._links.values():
            link.done = not link.epoch
            if link.epoch:
                self._tell([link.name, b""], BYE)
        timer = self._loop.timer(ANSWER_WITHIN)
        timer.start(self._put, self._no_answer)
        self._timers.append(timer)
        self._check_done()

    def _check_done(self) -> None:
        then = self._leaving
        if then is not None and all(link.done for link in self._links.values()):
            self._leaving, self.gone = None, True
            then()

    def _no_answer(self) -> None:
        """OWNER."""
        if self._leaving is not None:
            silent = [link for link in self._links.values() if not link.done]
            gevent.spawn(
                log.warning,
                "leaving without an answer from %s: what is on its way from there is lost",
                " ".join(link.endpoint for link in silent),
            )
            for link in silent:
                link.done = True
            self._check_done()

    def close(self) -> None:
        """HUB or OWNER. Let go of the timers."""
        while self._timers:
            timer = self._timers.pop()
            timer.stop()
            timer.close()

    disarm = close
