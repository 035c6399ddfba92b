"""Functions made with async def are known without a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from green_router import ConfigError
from green_router.async_functions import is_async, refuse_async


async def coroutine(_: object) -> None:
    raise AssertionError("called")


async def generator(_: object) -> AsyncIterator[bytes]:
    raise AssertionError("called")
    yield b""


class Called:
    async def __call__(self) -> None:
        raise AssertionError("called")

    def method(self) -> None:
        raise AssertionError("called")

    async def awaited(self) -> None:
        raise AssertionError("called")


@pytest.mark.parametrize(
    "function",
    [
        coroutine,
        generator,
        partial(coroutine, 1),
        partial(partial(generator), 1),
        Called(),
        Called().awaited,
    ],
)
def test_what_is_async(function: object) -> None:
    assert is_async(function)
    with pytest.raises(ConfigError, match="made with def, not with async def") as caught:
        refuse_async("on_error", function)
    assert (caught.value.setting, caught.value.value) == ("on_error", function)


@pytest.mark.parametrize("function", [print, len, Called, Called().method, partial(print), 5, None])
def test_what_is_not(function: object) -> None:
    assert not is_async(function)
    refuse_async("on_error", function)
