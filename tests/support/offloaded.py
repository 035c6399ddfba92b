"""Functions that tests have called elsewhere: there this module is imported."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from green_router import Request, offload


def echo(*arguments: Any, **named: Any) -> Any:
    return (arguments, named) if named or len(arguments) != 1 else arguments[0]


def pid(*_: object) -> int:
    return os.getpid()


def length(data: Any) -> int:
    return len(data[0]) if isinstance(data, list) else len(data)


def upper(request: Request) -> bytes:
    return request.data.upper()


def fail(text: str) -> None:
    raise Refusal(text, 7)


def end(code: int) -> None:
    os._exit(code)


def crash() -> None:
    ctypes.string_at(0)


def wait(path: str) -> int:
    """Until there is no such file."""
    while os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


def note(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def cannot_be_pickled() -> Any:
    return lambda: None


class Refusal(Exception):
    def __init__(self, text: str, number: int) -> None:
        super().__init__(text, number)


class NeverAgain(Exception):
    """Can be pickled, and not made again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__("never again")


def fail_strangely() -> None:
    raise NeverAgain("one", "two")


@offload
def decorated(number: int) -> int:
    return 2 * number
