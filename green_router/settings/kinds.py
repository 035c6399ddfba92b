"""Kinds of value that a setting can have, one class each.

Rules of this file
  1. A kind says what it takes (``rule``), checks a value, reads one from a text and shows one.
     Nothing outside asks which kind a setting has in order to do one of these.
  2. ``check`` raises TypeError, ValueError or OverflowError for a wrong value, ``parse`` ValueError
     or KeyError for a wrong text; the setting makes one error of them, with its name, the value and
     the rule.
  3. Durations are float seconds, sizes are bytes.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import zmq

from ..async_functions import refuse_async
from ..messages.body import body_of
from ..messages.envelope import EnvelopePolicy, policy_of

T = TypeVar("T")

UNITS = {"": 1, "B": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
"""What a size may end with in a text, and how many bytes that is."""

SWITCHES = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
"""What a switch may be in a text."""


class Kind(Generic[T]):
    """A kind of value; ``T`` is the type of the checked value."""

    metavar = "TEXT"
    """How help and tables call a value."""
    written = True
    """False for what no text can name."""
    repeated = False
    """True where an option of this kind may be given several times."""

    @property
    def rule(self) -> str:
        """The rule for a value, as the end of a sentence."""
        raise NotImplementedError

    def check(self, value: Any, name: str) -> T:
        """Return the value in its final form; ``name`` is the setting's, for errors of its own."""
        raise NotImplementedError

    def parse(self, text: str) -> Any:
        """Read a text; the result is still to be checked."""
        return text

    def read(self, value: Any) -> Any:
        """Read a value of a file or the environment: a text, or what TOML has; still to be
        checked."""
        return self.parse(value) if isinstance(value, str) else value

    def show(self, value: T) -> str:
        """Show a value as one would write it on the command line."""
        return f"{value}"

    def told(self, value: Any) -> Any:
        """Return what an error may show of a wrong value."""
        return value


class Number(Kind[T]):
    """A number between two inclusive bounds."""

    noun = ""
    types: tuple[type, ...] = (int,)

    def __init__(self, minimum: float = 0, maximum: float = math.inf) -> None:
        self.minimum, self.maximum = minimum, maximum

    @property
    def rule(self) -> str:
        if self.maximum == math.inf:
            return f"{self.noun}, {self.minimum:,} or more"
        return f"{self.noun} from {self.minimum:,} to {self.maximum:,}"

    def check(self, value: Any, name: str) -> T:
        if isinstance(value, bool) or not isinstance(value, self.types):
            raise TypeError
        if not self.minimum <= value <= self.maximum:  # type: ignore[operator]
            raise ValueError
        return self._final(value)

    def _final(self, value: Any) -> T:
        return value  # type: ignore[no-any-return]


class Count(Number[int]):
    """A whole number."""

    metavar, noun = "N", "an integer"

    def parse(self, text: str) -> int:
        return int(text)


class Size(Number[int]):
    """A number of bytes; a text may end in KiB, MiB or GiB."""

    metavar, noun = "SIZE", "a whole number of bytes"

    def parse(self, text: str) -> int:
        found = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", text)
        if found is None:
            raise ValueError
        return int(found[1]) * UNITS[found[2].upper()]

    def show(self, value: int) -> str:
        unit = next(name for name in ("MiB", "KiB", "B") if value % UNITS[name.upper()] == 0)
        return f"{value // UNITS[unit.upper()]}{unit}"


class Seconds(Number[float]):
    """A duration; a maximum is always named, because timers and the kernel end somewhere."""

    metavar, noun, types = "SECONDS", "a number of seconds", (int, float)

    def __init__(self, minimum: float, maximum: float) -> None:
        super().__init__(minimum, maximum)

    def parse(self, text: str) -> float:
        return float(text)

    def _final(self, value: Any) -> float:
        return float(value)

    def show(self, value: float) -> str:
        return f"{value:g}"


class Choice(Kind[str]):
    """One of a few words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.metavar = "|".join(choices)
        self._rule = "one of " + ", ".join(choices)

    @property
    def rule(self) -> str:
        return self._rule

    def check(self, value: Any, name: str) -> str:
        if value not in self.choices:
            raise ValueError
        return value  # type: ignore[no-any-return]

    def parse(self, text: str) -> str:
        return text.lower()


class Switch(Kind[bool]):
    """On or off."""

    rule = "true or false"

    def check(self, value: Any, name: str) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    def parse(self, text: str) -> bool:
        return SWITCHES[text.lower()]

    def show(self, value: bool) -> str:
        return "on" if value else "off"


class Text(Kind[str]):
    """A text that is not empty."""

    rule = "a text"

    def __init__(self, metavar: str = "TEXT") -> None:
        self.metavar = metavar

    def check(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError
        return value


class Engine(Kind[str]):
    """Where functions are called that are offloaded: a kind, a colon, and a number or an
    address."""

    metavar = "ENGINE"
    most = 1024

    @property
    def rule(self) -> str:
        return f"threads:N, processes:N (N from 1 to {self.most:,}) or dask:ADDRESS, as dask:tcp://scheduler:8786"

    def check(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise TypeError
        kind, _, rest = value.partition(":")
        if kind == "dask":
            if "://" not in rest:
                raise ValueError
        elif (
            kind not in ("threads", "processes")
            or not rest.isascii()
            or not 1 <= int(rest) <= self.most
        ):
            raise ValueError
        return value


class Texts(Kind[tuple[str, ...]]):
    """Several texts; in one text they are divided by spaces or commas."""

    rule, repeated = "a list of texts", True

    def check(self, value: Any, name: str) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        if not all(isinstance(text, str) and text for text in value):
            raise ValueError
        return tuple(value)

    def parse(self, text: str) -> list[str]:
        return text.replace(",", " ").split()

    def show(self, value: tuple[str, ...]) -> str:
        return " ".join(value)


class Policy(Kind[EnvelopePolicy]):
    """An envelope policy, by its name or itself."""

    metavar = "POLICY"
    rule = "delimiter, bare, last, fixed:N, marker:TEXT or an EnvelopePolicy"

    def check(self, value: Any, name: str) -> EnvelopePolicy:
        return policy_of(value)


class Body(Kind[list[bytes]]):
    """The body of a message: one frame, or a list of them."""

    rule = "bytes, or a list of them"

    def check(self, value: Any, name: str) -> list[bytes]:
        body = body_of(list(value) if isinstance(value, (list, tuple)) else value, name)
        return body if isinstance(body, list) else [body]

    def parse(self, text: str) -> bytes:
        return os.fsencode(text)


class RoutingId(Kind[bytes]):
    """A routing id that its owner may choose: libzmq keeps those that begin with a zero for
    itself."""

    rule = "1 to 255 bytes, the first of them not zero"

    def check(self, value: Any, name: str) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError
        routing_id = bytes(value)
        if not 0 < len(routing_id) < 256 or not routing_id[0]:
            raise ValueError
        return routing_id

    def parse(self, text: str) -> bytes:
        return os.fsencode(text)


class Function(Kind[Callable[..., Any]]):
    """A callable; a text names it, and it is loaded later (commands/application.py)."""

    metavar, rule = "MODULE:CALLABLE", "a callable"

    def check(self, value: Any, name: str) -> Callable[..., Any]:
        refuse_async(name, value)
        if not callable(value):
            raise TypeError
        return value  # type: ignore[no-any-return]


class Context(Kind["zmq.Context[Any]"]):
    """A ZeroMQ context, which only a program can hand over."""

    rule, written = "a zmq.green.Context", False

    def check(self, value: Any, name: str) -> zmq.Context[Any]:
        if not isinstance(value, zmq.Context):
            raise TypeError
        return value
