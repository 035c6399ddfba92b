"""A service in one process: the handler runs in the serving process, there are no workers.

Rules of this file
  1. It is the ordinary Server; here it answers the signals that a service is sent, and tells the
     service manager how it is.
  2. SIGTERM and SIGINT end it, and no other signal that a service with workers understands does.
     What needs workers is said in the log.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent.hub import get_hub

from ..hub.log import Log
from ..hub.signals import ENDING, Signals, heeded
from ..serving.parts import Parts
from ..serving.server import Server
from . import logs
from .systemd import notify

log = Log("server")

NEED_WORKERS = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
"""Reload the application, one worker more, one worker fewer."""


def listen_to_signals() -> None:
    """From now on, nothing but SIGTERM and SIGINT ends this process. In the main thread."""
    loop = get_hub().loop

    def note(number: int) -> None:
        loop.run_callback_threadsafe(gevent.spawn, _obey, number)

    Signals(note, signal.SIGUSR1, *NEED_WORKERS).catch()


def _obey(number: int) -> None:
    name = signal.Signals(number).name
    if number == signal.SIGUSR1:
        logs.reopen()
        log.info("%s: opened the log again", name)
    else:
        log.warning("%s ignored: it needs --workers", name)


def serve(
    handler: Callable[[Any], Any],
    endpoints: tuple[str, ...],
    proxies: tuple[str, ...],
    settings: dict[str, Any],
    announce: Callable[[tuple[str, ...]], None],
) -> None:
    """Serve until a signal ends it. **Blocks** the calling greenlet; for the main thread of a
    process that ends then.

    Args:
        endpoints, proxies: to bind, and to connect to.
        announce: called with the endpoints as soon as they are served.
    Raises:
        ConfigError, BindError: it could not begin.
        Whatever ``Server.serve_forever`` raises.
    """
    server = Server(handler, Parts(stopping=partial(notify, "STOPPING=1")), **settings)
    server.bind(*endpoints)
    server.connect(*proxies)
    server.start()
    if server.access.has_directory:
        Signals(partial(_read_keys_again, get_hub().loop, server), signal.SIGHUP).catch()
    # A greenlet runs when serve_forever waits, and then signals are handled: who is told may signal
    # at once.
    gevent.spawn(_tell, server.endpoints, announce)
    Signals(partial(_unless_it_has_stopped, server), *heeded(*ENDING)).catch()
    try:
        server.serve_forever()
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)


def _tell(endpoints: tuple[str, ...], announce: Callable[[tuple[str, ...]], None]) -> None:
    notify("READY=1", f"STATUS=serving on {' '.join(endpoints)}")
    announce(endpoints)


def _read_keys_again(loop: Any, server: Server, _: int) -> None:
    """SIGNAL."""
    loop.run_callback_threadsafe(gevent.spawn, server.access.reload)


def _unless_it_has_stopped(server: Server, number: int) -> None:
    """SIGNAL, before serve_forever catches it or after that has restored it: afterwards it must not
    change the exit code."""
    if server.started:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
