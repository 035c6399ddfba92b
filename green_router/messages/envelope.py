"""Where a message's envelope ends and its body begins.

Rules of this file
  1. Only this file knows what a delimiter is.
  2. Nothing is guessed. A policy is chosen once, by name; a message fits it or is malformed.
  3. The envelope is kept verbatim, routing id first, and goes back verbatim: whatever a client or a
     proxy put there (a request id, several hops) returns to it.

Why the choice is explicit
  Real services disagree. REQ sends ``[id, b"", body]``, with REQ_CORRELATE ``[id, 4 bytes, b"",
  body]``, through a proxy ``[id, id, b"", body]``; DEALERs leave the delimiter out, or use an empty
  second frame as an empty field. A rule that serves all of them breaks some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import MalformedMessage

Frames = list[bytes]


class EnvelopePolicy:
    """One way to find the envelope.

    Args:
        name: as in the setting, ``fixed:2``.
        measure: given the frames of a message, returns how many of them are the envelope (at least
            1); raises ValueError when there is no such place.
        reason: the code of MalformedMessage for that ValueError.
        closing: the frames between the routing id and the body of a message that the server itself
            begins (a push).
        plain: a message of this many frames that fits has one frame of its sender's choosing;
            libzmq has bounded that.
    """

    __slots__ = ("closing", "measure", "name", "plain", "reason")

    def __init__(
        self,
        name: str,
        measure: Callable[[Frames], int],
        reason: str,
        closing: Sequence[bytes] = (),
        plain: int = 2,
    ) -> None:
        self.name, self.measure, self.reason, self.closing, self.plain = (
            name,
            measure,
            reason,
            list(closing),
            plain,
        )

    def __repr__(self) -> str:
        return f"EnvelopePolicy({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EnvelopePolicy) and (self.name, self.closing) == (
            other.name,
            other.closing,
        )

    def __hash__(self) -> int:
        return hash(self.name)

    def length(self, frames: Frames) -> int:
        """Count the frames of the envelope.

        Args:
            frames: the whole message, 2..n frames; ``frames[0]`` is the routing id.
        Returns:
            n with ``frames[:n]`` the envelope and ``frames[n:]`` the body, both of at least one
            frame.
        Raises:
            MalformedMessage: the policy does not fit; ``reason`` names why. No other exception.
        Source: RFC 28, "REP"; zguide chapter 3, "The Simple Reply Envelope".
        """
        try:
            count = self.measure(frames)
        except ValueError:
            raise MalformedMessage(self.reason, list(map(len, frames))) from None
        if count >= len(frames):
            raise MalformedMessage("no_body", list(map(len, frames)))
        return count

    def split(self, frames: Frames) -> tuple[Frames, Frames]:
        """Separate envelope and body: ``envelope + body == frames``. Raises as ``length`` does."""
        count = self.length(frames)
        return frames[:count], frames[count:]

    def address(self, routing_id: bytes) -> Frames:
        """The envelope of a message that the server begins: a push to that peer, one hop away."""
        return [routing_id, *self.closing]


def _after(frame: bytes) -> Callable[[Frames], int]:
    return lambda frames: frames.index(frame, 1) + 1


def delimiter() -> EnvelopePolicy:
    """Everything up to and including the first empty frame: REQ, and whoever speaks as REQ does."""
    return EnvelopePolicy("delimiter", _after(b""), "no_delimiter", [b""], plain=3)


def bare() -> EnvelopePolicy:
    """The routing id alone: DEALERs that send no delimiter."""
    return EnvelopePolicy("bare", lambda frames: 1, "no_body")


def last() -> EnvelopePolicy:
    """All but the last frame: any envelope, as long as the body is one frame."""
    return EnvelopePolicy("last", lambda frames: len(frames) - 1, "no_body", [b""])


def fixed(count: int) -> EnvelopePolicy:
    """The first ``count`` frames, routing id included."""
    if not 1 <= count <= 255:
        raise ValueError(f"fixed:{count}: the count must be from 1 to 255")

    def measure(frames: Frames) -> int:
        if len(frames) <= count:
            raise ValueError
        return count

    return EnvelopePolicy(f"fixed:{count}", measure, "too_few_frames", [b""] * (count - 1))


def marker(frame: bytes) -> EnvelopePolicy:
    """Everything up to and including the first frame that equals ``frame``, as Jupyter's
    ``<IDS|MSG>``."""
    if not frame:
        raise ValueError("marker: the marker must not be empty; that is the delimiter policy")
    return EnvelopePolicy(
        f"marker:{frame.decode('utf-8', 'backslashreplace')}",
        _after(frame),
        "no_marker",
        [frame],
        plain=3,
    )


def policy_of(value: str | EnvelopePolicy) -> EnvelopePolicy:
    """Return the policy that a setting names: ``delimiter``, ``bare``, ``last``, ``fixed:N``,
    ``marker:TEXT``.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(value, EnvelopePolicy):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} names no envelope policy")
    name, colon, argument = value.partition(":")
    if not colon and name in ("delimiter", "bare", "last"):
        return {"delimiter": delimiter, "bare": bare, "last": last}[name]()
    if name == "fixed" and argument.isdecimal():
        return fixed(int(argument))
    if name == "marker" and argument:
        return marker(argument.encode())
    raise ValueError(f"{value!r} names no envelope policy")
