"""Hints, logged once, about results that are likely to be a mistake and are no error.

Rules of this file
  1. Each sentence says what was seen, what became of it, and what to write instead.
"""

from __future__ import annotations

from typing import Any

ENVELOPE_IN_BODY = (
    "%s gave a list that begins with the routing id of the client that asked, as a loop sends its "
    "frames. A list is the frames of the body; what stands before it goes back by itself, so that "
    "client has its own id in the reply. Give data alone, or (client_id, data). Not logged again."
)

UNKNOWN_CLIENT = (
    "%s returned a tuple of two whose first item (%s) is the routing id of no client that is "
    "connected to this process: a tuple is (client_id, data), a message to that client, so nobody "
    "got it, and the client that asked got no reply. Several frames of one reply are a list. Not "
    "logged again."
)

NOBODY_CAN_REPLY = (
    "%s returned None for a request and nothing can reply to it any more: counted as no_reply. If "
    "its client is a REQ it waits for ever. Return bytes, or keep the request and call "
    "request.reply(...). Not logged again."
)


def wrong_tuple(routing_id: bytes, pair: tuple[Any, ...]) -> str:
    """Say what is wrong with a tuple that is no ``(client_id, data)``, behind its type's name."""
    if len(pair) == 2:
        kinds = " and ".join(type(item).__name__ for item in pair)
        return f"of {kinds}: a tuple is (client_id, data), client_id as bytes"
    if len(pair) > 2 and type(pair[0]) is bytes and pair[0] == routing_id:
        return (
            f"of {len(pair)}, as a loop sends them: what stands before the data, the delimiter "
            "too, goes back by itself; return data, or (client_id, data)"
        )
    return f"of {len(pair)}: a tuple is (client_id, data); several frames of one reply are a list"
