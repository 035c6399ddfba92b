"""The errors of green_router, as one tree.

Rules of this file
  1. Every error that this package raises on purpose is here, and each class has a ``code``: a short
     constant for metric labels and log keys. Nobody needs to parse a message.
  2. A message says what is wrong, where, and what to do. It is built from fields, which stay
     readable.

::

    GreenRouterError
    ├── ConfigError            a setting is wrong                      (also a ValueError)
    ├── BindError              an endpoint cannot be served            (also an OSError)
    ├── ApplicationError       the application cannot be loaded        (command line)
    ├── StateError             called at the wrong time                (also a RuntimeError)
    │   ├── WrongProcess         ... or in another process, after a fork
    │   ├── WrongThread          ... or by someone who does not own the socket
    │   └── ContextClosed        the ROUTER was closed by somebody else
    ├── MalformedMessage       a message does not fit the envelope policy
    ├── ReplyError             a reply cannot leave; nothing was sent  (also a RuntimeError)
    │   ├── AlreadyReplied       the request has been replied to, or given up
    │   └── ServerStopped        the server has ended
    ├── Reject                 raised BY a handler: answer with exactly this
    └── HandlerError           what happened to a request, for ``on_error``
        ├── HandlerTimeout       the handler took longer than handler_timeout
        ├── WorkerLost           the worker process that held it ended
        ├── PeerGone             the client's connection has ended; only thrown into its handler
        ├── OffloadFailed        an offloaded call could not be made, or its process ended
        └── BadReply             the handler returned something that is no reply  (also a TypeError)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class GreenRouterError(Exception):
    """The base of every error of this package."""

    code = "error"


class ConfigError(GreenRouterError, ValueError):
    """A setting that breaks its rule.

    Args:
        setting: its name.
        value: what was given.
        rule: what it must be, as the end of a sentence: "an integer of at least 1".
    """

    code = "config"

    def __init__(self, setting: str, value: object, rule: str) -> None:
        super().__init__(setting, value, rule)
        self.setting, self.value, self.rule = setting, value, rule

    def __str__(self) -> str:
        return f"{self.setting} = {self.value!r}: must be {self.rule}"


class BindError(GreenRouterError, OSError):
    """An endpoint that cannot be served.

    Args:
        endpoint: the endpoint as it was given.
        reason: why, and what to do.
        errno: of the failed call, where there was one.
    """

    code = "bind"

    def __init__(self, endpoint: str, reason: str, errno: int | None = None) -> None:
        super().__init__(errno, reason)
        self.endpoint, self.reason = endpoint, reason

    def __reduce__(self) -> tuple[Any, ...]:
        # ``args`` are those of OSError, which are others.
        return type(self), (self.endpoint, self.reason, self.errno)

    def __str__(self) -> str:
        return f"cannot bind {self.endpoint}: {self.reason}"


class ApplicationError(GreenRouterError):
    """An application that cannot be loaded: no such module, a module broken inside, no such
    attribute."""

    code = "application"


class StateError(GreenRouterError, RuntimeError):
    """A call at the wrong time: started twice, bound after it stopped."""

    code = "state"


class WrongProcess(StateError):
    """Used in another process than the one that started it. Sockets, hubs and threads do not
    survive a fork."""

    code = "wrong_process"

    def __init__(self, what: str, owner_pid: int, pid: int) -> None:
        super().__init__(what, owner_pid, pid)
        self.what, self.owner_pid, self.pid = what, owner_pid, pid

    def __str__(self) -> str:
        return (
            f"{self.what} belongs to process {self.owner_pid} and cannot be used in process "
            f"{self.pid}: sockets, hubs and threads do not survive a fork; make a new Server "
            "there, or start by exec"
        )


class WrongThread(StateError):
    """Something belongs to another greenlet or OS thread: ``bind`` on a started server; in debug
    mode, a bug of this package."""

    code = "wrong_thread"


class ContextClosed(StateError):
    """The ZeroMQ context of a server was terminated, or its ROUTER closed, by somebody else, while
    it served."""

    code = "context_closed"

    def __str__(self) -> str:
        return (
            "the ROUTER is gone: somebody has terminated or destroyed its ZeroMQ context, or "
            "closed it, while the server served; stop the server first"
        )


class MalformedMessage(GreenRouterError):
    """A message that does not fit the envelope policy.

    Args:
        reason: a short constant: ``no_delimiter``, ``no_body``, ``too_few_frames``, ``no_marker``,
            ``too_many_frames`` or ``too_large``.
        sizes: the frames' sizes in bytes, the routing id's first. Never their content.
    """

    code = "malformed"

    def __init__(self, reason: str, sizes: Sequence[int]) -> None:
        super().__init__(reason, tuple(sizes))
        self.reason, self.sizes = reason, tuple(sizes)

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.sizes[:8])) + (", ..." if len(self.sizes) > 8 else "")
        return f"{self.reason}: {len(self.sizes)} frames of {shown} bytes{self._what_would_fit()}"

    def _what_would_fit(self) -> str:
        """Which policy takes such a message, and how to choose it; nothing where no other one
        would."""
        count = len(self.sizes)
        if self.reason == "too_few_frames":
            return (
                '. envelope="fixed:N" counts the routing id and needs a frame behind the N: '
                f'"fixed:{count - 1}" at the most'
            )
        if self.reason == "no_marker" and 0 in self.sizes[1:-1]:
            return (
                '. One is empty: envelope="delimiter" (--envelope delimiter) takes what stands '
                "behind it"
            )
        if self.reason not in ("no_delimiter", "no_marker") or 0 in self.sizes:
            return ""
        bare = 'envelope="bare" (--envelope bare) takes'
        if count == 2:
            return (
                ", none of them empty. The client sends its data alone, as many DEALERs do: "
                f"{bare} that"
            )
        return (
            f", none of them empty. {bare} all behind the routing id as the body, "
            '"last" the last one, "fixed:N" those behind N'
        )


class ReplyError(GreenRouterError, RuntimeError):
    """A reply that cannot leave. Nothing was sent."""

    code = "reply"


class AlreadyReplied(ReplyError):
    """The request has had its one reply, or was given up (deadline, stop).

    A second reply would reach a REQ client as the answer to its next request.
    """

    code = "already_replied"


class ServerStopped(ReplyError):
    """The server has ended, or has not started: there is no socket to send through."""

    code = "stopped"


class Reject(GreenRouterError):
    """Raise it in a handler to answer with exactly these frames; the request is counted
    ``rejected``.

    Args:
        frames: the body of the reply, one or more objects with the buffer protocol; none gives one
            empty frame.
    """

    code = "rejected"

    def __init__(self, *frames: Any) -> None:
        kept = [_picklable(frame) for frame in frames]
        super().__init__(*kept)
        self.frames = kept or [b""]


class HandlerError(GreenRouterError):
    """The failure of a request, as ``on_error`` gets it."""

    code = "failed"


class HandlerTimeout(HandlerError):
    """The handler took longer than ``handler_timeout``. Thrown into its greenlet, and given to
    ``on_error``.

    Args:
        seconds: the limit.
    """

    code = "timed_out"

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"no reply after {self.seconds:g} s (handler_timeout)"


class WorkerLost(HandlerError):
    """The worker process that had the request ended before it answered. Given to ``on_error``, in
    another worker.

    The handler may have run, in part or whole: ``retry_lost`` gives such requests to another worker
    instead, and is for handlers that may run twice for one request.

    Args:
        pid: of the worker.
        cause: why it ended, as the end of a sentence: "was killed by SIGKILL".
    """

    code = "worker_lost"

    def __init__(self, pid: int, cause: str) -> None:
        super().__init__(pid, cause)
        self.pid, self.cause = pid, cause

    def __str__(self) -> str:
        return f"worker process {self.pid}, which held this request, {self.cause}"


class PeerGone(HandlerError):
    """The client's connection has ended. Thrown into the handler's greenlet where
    ``cancel_on_disconnect`` is set; ``on_error`` is not asked, for nobody waits for an answer.
    """

    code = "peer_gone"

    def __str__(self) -> str:
        return "the client's connection has ended"


class OffloadFailed(HandlerError):
    """An offloaded call has no result: its process ended, the cluster is gone, or something cannot
    be pickled.

    The function may have run, in part or whole. What it raised itself comes out of the future as it
    is.
    """

    code = "offload_failed"


class BadReply(HandlerError, TypeError):
    """The handler returned, or passed to ``reply``, something that is no reply.

    Args:
        value: what it was; only its type is named.
        handler: the handler's name.
        why: what is wrong with it and what to do, to stand behind the type's name; none for what is
            no reply at all.
    """

    code = "bad_reply"

    def __init__(self, value: object, handler: str, why: str = "") -> None:
        super().__init__(type(value).__name__, handler)
        self.type_name, self.handler, self.why = type(value).__name__, handler, why

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, vars(self))  # what the value was is not kept

    def __str__(self) -> str:
        if self.why:
            return f"{self.handler} returned {self.type_name} {self.why}"
        hint = ", .encode() it" if self.type_name == "str" else ""
        return (
            f"{self.handler} returned {self.type_name}{hint}: a reply is bytes, a list of bytes, "
            "(client_id, data), a generator of these, a future, or None"
        )


def _picklable(frame: Any) -> Any:
    """The bytes of an object with the buffer protocol; what has none, or cannot be read, as it is:
    it is refused later."""
    if isinstance(frame, str):
        return frame
    try:
        view = memoryview(frame)
        return bytes(view) if view.c_contiguous else frame
    except Exception:
        return frame


def _revive(
    kind: type[BaseException], arguments: tuple[Any, ...], fields: dict[str, Any]
) -> BaseException:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error
