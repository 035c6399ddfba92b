"""Messages that fit no rule: too many frames, too large together, or not of the envelope policy's
shape.

Rules of this file
  1. Counting and dropping is the owner's. Here is decided what fits, and said why something does
     not.
  2. Of many such messages some are logged; in a handler greenlet, because logging may block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..errors import MalformedMessage
from ..hub.log import Log
from ..hub.log_throttle import LogThrottle
from ..messages.envelope import EnvelopePolicy

log = Log("server")


class MessageRules:
    """The rules that messages must fit.

    Args:
        policy: of the envelope.
        max_frames, max_bytes: of a message; bytes None for no limit.
        run: ``run(task)``, call this in a handler greenlet.
    """

    def __init__(
        self,
        policy: EnvelopePolicy,
        max_frames: int,
        max_bytes: int | None,
        run: Callable[[Callable[[], None]], None],
    ) -> None:
        self._policy, self._max_frames, self._max_bytes, self._run = (
            policy,
            max_frames,
            max_bytes,
            run,
        )
        self._throttle = LogThrottle()

    def bound(self, frames: list[bytes]) -> None:
        """Raise ValueError if these are too many, or too large together: libzmq's limit is for each
        alone."""
        if len(frames) > self._max_frames or (
            self._max_bytes is not None and sum(map(len, frames)) > self._max_bytes
        ):
            raise ValueError

    def complain(self, frames: list[bytes]) -> None:
        """OWNER. Say why this message was dropped."""
        if self._throttle.worth_saying(frames[0]):
            self._run(
                partial(
                    log.warning,
                    "dropped a malformed message from %s: %s%s",
                    frames[0].hex(),
                    self._reason(frames),
                    self._throttle.others(),
                )
            )

    def _reason(self, frames: list[bytes]) -> MalformedMessage:
        if len(frames) > self._max_frames:
            return MalformedMessage("too_many_frames", list(map(len, frames)))
        try:
            self._policy.length(frames)
        except MalformedMessage as reason:
            return reason
        return MalformedMessage("too_large", list(map(len, frames)))
