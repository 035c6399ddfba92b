"""The body of a reply: whatever has the buffer protocol, or a list of such.

Rules of this file
  1. There is one function for all ways by which a body can come: returned, in a pair, an item of a
     stream, passed to ``request.reply`` or ``server.send``, in a Reject, from on_error, as
     ``busy_reply``.
  2. What comes out is ``bytes`` and nothing that only looks like it: it goes to libzmq, and to
     other processes by marshal.
  3. ``type(x)`` is asked, never ``x.__class__`` or ``isinstance``: a proxy answers these two with
     the class of what it stands for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from typing import Any

from ..errors import BadReply


def body_of(value: Any, source: str) -> bytes | list[bytes]:
    """The body of a reply: bytes for one frame, a list of bytes for several.

    Args:
        value: an object with the buffer protocol, or a list of at least one. It is copied unless it
            is bytes: the caller may change it before the reply has left.
        source: the name of the handler that it comes from, for the error.
    Raises:
        BadReply: it is something else, or its buffer cannot be read as it is.
    """
    if not issubclass(type(value), list):
        return frame_of(value, source)
    try:
        frames = [frame_of(frame, source) for frame in value]
    except BadReply:
        for frame in value:
            _let_go(frame)
        raise
    if not frames:
        raise BadReply(
            value,
            source,
            "without an item: a reply has at least one frame; b'' is an empty one, and None is no "
            "reply",
        )
    return frames if len(frames) > 1 else frames[0]


def plain(result: Any, routing_id: bytes) -> bytes | list[bytes] | None:
    """The body of the replies that most handlers return, without a look at what else there may be.

    Args:
        result: what a handler has returned.
        routing_id: of the client that asked.
    Returns:
        The body of ``[bytes, ...]`` and of the loop's ``(client_id, data)`` for that client; None
        for everything else, and for a list that begins with the client's own id, which somebody has
        to look at.
    """
    kind = type(result)
    if kind is tuple and len(result) == 2 and type(result[0]) is bytes and result[0] == routing_id:
        result = result[1]
        kind = type(result)
        if kind is bytes:
            return result  # type: ignore[no-any-return]
    if kind is not list or not result:
        return None
    for frame in result:
        if type(frame) is not bytes:
            return None
    if len(result) == 1:
        return result[0]  # type: ignore[no-any-return]
    # The caller may change it before it has left.
    return None if result[0] == routing_id else result[:]


def frame_of(value: Any, source: str) -> bytes:
    """One frame, as bytes. Arguments and errors as ``body_of``, for what is no list."""
    kind = type(value)
    if kind is bytes:
        frame: bytes = value
        return frame
    if issubclass(kind, str):  # numpy's str_ has a buffer, of four bytes a character
        raise BadReply(value, source)
    try:
        view = memoryview(value)
    except TypeError:
        raise no_reply(value, source) from None
    except Exception as error:  # a closed mmap, a released memoryview
        raise BadReply(value, source, f"that cannot be read: {error}") from error
    with view:
        if not view.c_contiguous:
            raise BadReply(value, source, "that is not contiguous: copy it first, with .tobytes()")
        return bytes(view)


def no_reply(value: Any, source: str) -> BadReply:
    """The error for what is neither a body nor anything else that a handler may return."""
    if issubclass(type(value), (Coroutine, AsyncGenerator)):
        _let_go(value)
        return BadReply(value, source, "and nothing awaits it here: await it where it was made")
    return BadReply(value, source)


def _let_go(value: Any) -> None:
    """Close a coroutine that nobody will await, so that Python does not warn of it later, somewhere
    else."""
    if issubclass(type(value), Coroutine):
        with suppress(Exception):
            value.close()
