"""Access control of one server: its policies, who answers ZAP, and what is counted.

Rules of this file
  1. Where no policy restricts anybody, there is no ZAP handler, no monitor and no option of libzmq:
     it costs nothing.
  2. ZAP is bound before an endpoint that needs it; where it cannot be, that endpoint is not served.
  3. Warnings are for the one who serves: a line each, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import zmq

from ..hub.log import Log
from ..settings.access import Access
from .failures import Failures
from .keys import Identity
from .policy import Laid, Policy
from .zap import Zap

log = Log("security")


class AccessControl:
    """Decides who may connect to a server.

    Args:
        settings: of the server: the policy of endpoints that have none of their own.
    Raises:
        ConfigError: as Policy does.
    Attributes:
        default: that policy.
        failures: the counts.
        has_directory: whether an endpoint is served whose clients a directory of keys names.
        warns: whether to warn of endpoints that others can reach; False where somebody else does.
    """

    def __init__(self, settings: Any, warns: bool = True) -> None:
        self.warns, self.has_directory = warns, False
        self._revoke: Callable[[set[bytes]], object] = len
        self.default = Policy(settings)
        self.failures = Failures(settings.handshake_timeout)
        self._seconds = settings.handshake_timeout
        self._policies: list[Policy] = []
        self._own: dict[str, Policy] = {}
        self._laid = Laid()
        self._zap: Zap | None = None
        self._say: Callable[..., None] = log.warning
        self._watch: Callable[[], None] = _nothing

    def note(self, endpoints: Iterable[str], access: Access | None) -> None:
        """These endpoints have a policy of their own, or, with None, that of the server. Raises
        ConfigError as Policy does."""
        policy = self.default if access is None else Policy(access)
        self._own.update(dict.fromkeys(endpoints, policy))

    def policy_of(self, endpoint: str) -> Policy:
        """Return the policy of an endpoint, as it was given."""
        return self._own.get(endpoint, self.default)

    def open(self, say: Callable[..., None], watch: Callable[[], None]) -> None:
        """The server starts.

        Args:
            say: ``say(address, text, *arguments)``: what is worth a line, but can come in floods.
            watch: called once, when there is something to be counted.
        """
        self._say, self._watch = say, watch

    def admit_to(
        self, context: zmq.Context[Any], socket: zmq.Socket[Any], endpoint: str, policy: Policy
    ) -> None:
        """See to it that the endpoint that is bound next lets in whom its policy lets in.

        Raises:
            BindError: it may not be served like this.
            StateError: there is another ZAP handler.
        """
        if self.warns:
            policy.warn([endpoint], log.warning)
        else:
            policy.check_endpoint(endpoint)
        if policy not in self._policies:
            self._policies.append(policy)
            self.has_directory |= policy.keys is not None
        if not self.restricts:
            return
        if policy.kind is not None and self._zap is None:
            self._zap = Zap(context, self._seconds, self.failures, self._say)
        if self._zap is not None:
            self._zap.policies[policy.domain] = policy
        watch, self._watch = self._watch, _nothing
        watch()
        policy.apply(socket, endpoint, self._laid)

    def admit_links(self, context: zmq.Context[Any], socket: zmq.Socket[Any]) -> None:
        """The ROUTER connects to somebody next: whom it chose itself is asked nothing, as if nobody
        were kept out."""
        if self.restricts:
            self.admit_to(context, socket, "", Policy(Access()))

    @property
    def restricts(self) -> bool:
        """True if somebody may not connect."""
        return any(policy.restricts for policy in self._policies)

    def reload(self) -> None:
        """Read the directories of keys again, and disconnect whose key is gone, or says somebody
        else now. In the thread that serves. **Blocks** for as long as the file system takes. What
        is wrong with a file is logged; ``check`` raises it.
        """
        gone: set[bytes] = set()
        for policy in self._policies:
            if policy.keys is not None:
                gone |= policy.keys.load()
                for problem in policy.keys.problems:
                    log.error("%s", problem)
        log.info(
            "read the authorized keys again: %d hold, %d are revoked",
            sum(len(policy.keys.known) for policy in self._policies if policy.keys is not None),
            len(gone),
        )
        if gone:
            self._revoke(gone)

    def call_when_revoked(self, told: Callable[[set[bytes]], object]) -> None:
        """Call this with the public keys that are not let in any more, at each ``reload``."""
        self._revoke = told

    def identity_of(self, key: bytes) -> Identity | None:
        """Return who has this key in one of the directories, now."""
        known = (policy.keys.known.get(key) for policy in self._policies if policy.keys is not None)
        return next(filter(None, known), None)

    def addresses_of(self, keys: Iterable[bytes]) -> set[str]:
        """Return from which addresses these keys were let in; ``localhost`` for ipc."""
        known = self._zap.addresses if self._zap is not None else {}
        return {address for key in keys for address in known.pop(key, ())}

    def check(self) -> None:
        """Raise ConfigError where a directory of keys has something wrong in it."""
        for policy in [self.default, *self._policies]:
            if policy.keys is not None:
                policy.keys.check()

    def snapshot(self) -> dict[str, int]:
        """Return how many connections were not let in, by cause; nothing where nobody is kept
        out."""
        return self.failures.snapshot() if self.restricts else {}

    def close(self) -> None:
        """Answer nothing more. After the ROUTER is closed."""
        if self._zap is not None:
            with suppress(zmq.ZMQError):
                self._zap.close()
            self._zap = None


def _nothing() -> None:
    """Nobody watches."""
