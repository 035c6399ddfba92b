"""Signals are noted between catch and restore, and the program has its own before and after."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import gevent
import pytest

from green_router.hub.signals import Signals, heeded
from green_router.testing import DEADLINE, eventually


@pytest.fixture(autouse=True)
def programs_own() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_was_ignored_is_not_heeded() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    assert heeded(signal.SIGUSR1, signal.SIGUSR2) == [signal.SIGUSR2]


def test_a_signal_is_noted_while_greenlets_wait() -> None:
    noted: list[int] = []
    signals = Signals(noted.append, signal.SIGUSR1)
    signals.catch()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        eventually(lambda: noted == [signal.SIGUSR1])
    finally:
        signals.restore()


def test_the_programs_own_are_restored_but_not_over_a_newer_one(
    open_files: Callable[[], int],
) -> None:
    def own(number: int, frame: object) -> None:
        pass

    def newer(number: int, frame: object) -> None:
        pass

    signal.signal(signal.SIGUSR1, own)
    signal.signal(signal.SIGUSR2, own)
    gevent.sleep(0)
    files, wakeup = open_files(), signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    signals = Signals(print, signal.SIGUSR1, signal.SIGUSR2)
    signals.catch()
    signal.signal(signal.SIGUSR2, newer)
    signals.restore()
    signals.restore()
    assert signal.getsignal(signal.SIGUSR1) is own
    assert signal.getsignal(signal.SIGUSR2) is newer
    assert signal.set_wakeup_fd(wakeup) == wakeup
    assert open_files() == files


def test_another_thread_catches_nothing() -> None:
    before = signal.getsignal(signal.SIGUSR1)

    def catch() -> None:
        signals = Signals(print, signal.SIGUSR1)
        signals.catch()
        assert signal.getsignal(signal.SIGUSR1) is before
        signals.restore()

    gevent.get_hub().threadpool.spawn(catch).get(timeout=DEADLINE)
