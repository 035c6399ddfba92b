"""Asks the application's callables who may connect, for the serving process.

Rules of this file
  1. It takes no longer than a handshake may: then nobody waits for the answer.
  2. What is said of a client goes on as plain data; what cannot is no answer. No words of an error
     are logged: they may have a password in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gevent

from ...hub.log import Log
from ...security.zap import raised_at
from ...settings import Settings
from ..channel import protocol
from ..channel.protocol import Message, Route

log = Log("security")

NO_ANSWER = 0
"""What is said in the place of what is none."""


class Authorizers:
    """The callables of one application. Made in the serving thread of a worker.

    Args:
        settings: of the server.
        run: runs a callable in a greenlet where it may block.
        say: tells the serving process.
    """

    def __init__(
        self,
        settings: Settings,
        run: Callable[[Callable[[], None]], None],
        say: Callable[[Message], None],
    ) -> None:
        self._settings, self._run, self._say = settings, run, say

    @property
    def route(self) -> Route:
        """The messages that are taken here."""
        return protocol.authorize.to(self._asked)

    def _asked(self, token: int, setting: str, words: tuple[str, ...]) -> None:
        """HUB."""
        self._run(partial(self._ask, token, setting, words))

    def _ask(self, token: int, setting: str, words: tuple[str, ...]) -> None:
        """HANDLER."""
        said: Any = None
        returned = True
        try:
            with gevent.Timeout(self._settings.handshake_timeout, False):  # type: ignore[arg-type]
                said = _plain(getattr(self._settings, setting)(*words))
        except Exception as error:
            returned = False
            log.error(
                "who may connect: %s raised %s%s", setting, type(error).__name__, raised_at(error)
            )
        self._say(protocol.authorized(token, returned, said))


def _plain(said: Any) -> Any:
    """Return it as a channel carries it, or NO_ANSWER."""
    if said is None or type(said) in (bool, str):
        return said
    if not isinstance(said, Mapping):
        return NO_ANSWER
    known = dict(said)
    texts = all(
        type(name) is str and type(value) in (str, type(None)) for name, value in known.items()
    )
    return known if texts else NO_ANSWER
