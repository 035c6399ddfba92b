"""The messages between a proxy and a connected server, beside the work.

Rules of this file
  1. A message between them that begins with an empty frame is such a word. Every other one begins,
     behind what the sockets add, with the routing id of a client, which is never empty: so nothing
     that a client sends is taken for one.
  2. A server says how much it has in hand, and how many requests it has taken since it was greeted.
     A proxy that has sent more than that knows what is on its way. So a word that is lost, or is
     said twice, does no harm.
  3. A greeting begins an epoch: what was sent before it, over a connection that broke, is not on
     its way any more.

What is said, in one frame behind the empty one
  by the server  LOAD: (epoch, 0 before the first greeting; requests taken in it; requests in hand;
  window), at the end
                 of each turn that has settled something, and once a second; BYE: give me nothing
                 more
  by the proxy   GREET: (epoch,), to whom it does not know; BYE: nothing will follow
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError

LOAD, GREET, BYE = b"green-router/1 load ", b"green-router/1 greet ", b"green-router/1 bye"

_LOAD = Struct("<QQQQ")
_GREET = Struct("<Q")


def load_of(epoch: int, taken: int, in_hand: int, window: int) -> bytes:
    """The frame by which a server says how much it has."""
    return LOAD + _LOAD.pack(epoch, taken, in_hand, window)


def greeting(epoch: int) -> bytes:
    """The frame by which a proxy greets a server."""
    return GREET + _GREET.pack(epoch)


def read(word: bytes) -> tuple[bytes, tuple[int, ...]] | None:
    """Parse a frame: LOAD, GREET or BYE, and the numbers; None if it is none of them."""
    try:
        if word == BYE:
            return BYE, ()
        if word.startswith(LOAD):
            return LOAD, _LOAD.unpack(word[len(LOAD) :])
        if word.startswith(GREET):
            return GREET, _GREET.unpack(word[len(GREET) :])
    except StructError:
        pass
    return None
