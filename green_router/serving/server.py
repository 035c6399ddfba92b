"""The server: what a user starts and stops.

Rules of this file
  1. The verbs are gevent's: bind, start, stop, serve_forever. ``start`` returns bound and serving,
     or raises what went wrong in the caller.
  2. Everything that belongs to a hub is made by ``start``, in the thread that calls it: that thread
     serves.
  3. What it is made of is in wiring.py, how it ends in shutdown.py. Nothing here blocks the hub.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import zmq
from greenlet import getcurrent, greenlet

from ..async_functions import is_async
from ..errors import ConfigError, ServerStopped, StateError, WrongProcess, WrongThread
from ..hub.latch import Latch
from ..hub.log import Log
from ..hub.signals import Signals, heeded
from ..messages.ledger import Ledger
from ..messages.request import BytesLike, Request
from ..security.control import AccessControl
from ..settings import Access, ServerKeywords, Settings, Unpack
from ..sockets.context import ServerContext
from ..sockets.endpoints import check_type
from ..sockets.inherited import listening_at
from ..sockets.router import Router
from ..sockets.tuning import raise_descriptor_limit
from .asyncio_thread import PATCHED, is_patched
from .current import SERVERS
from .links import check
from .mailbox import get_ident
from .parts import USUAL, Parts
from .shutdown import Shutdown
from .wiring import wire

log = Log("server")

NEW, STARTING, SERVING, STOPPING, STOPPED = "new", "starting", "serving", "stopping", "stopped"


class Server:
    """Serves a handler on a ROUTER.

    ::

        def handle_request(request):
            client_id, data = request
            return client_id, data.upper()

        Server(handle_request).serve_forever("tcp://127.0.0.1:5555")

    Args:
        handler: called with a Request, in a greenlet of its own for as long as it blocks. It
            returns bytes (one reply), a list of bytes (several frames), ``(client_id, data)``, a
            generator (a stream), a future, or None (``request.reply`` was or will be called, or
            never). An ``async def``, or its coroutine, is run by asyncio.
        settings: those of ``green_router.settings.ServerKeywords``; ``green-router settings``
            prints what each does.
    Raises:
        ConfigError: a setting that is wrong, with its name, the value and the rule.

    A server serves once: after ``stop`` make a new one. It belongs to the process that made it and,
    from ``start`` on, to the OS thread that called ``start``; ``send`` and ``stop`` may be called
    from any thread, as ``Request.reply`` may.
    """

    def __init__(
        self,
        handler: Callable[[Request], Any],
        parts: Parts = USUAL,
        /,
        **settings: Unpack[ServerKeywords],
    ) -> None:
        if not callable(handler):
            raise ConfigError("handler", handler, "a callable that takes a Request")
        if is_async(handler) and is_patched():
            raise ConfigError("handler", handler, f"served in another process: {PATCHED}")
        self.settings = Settings(**settings)
        self._handler, self._parts = handler, parts
        self._name = (
            parts.name or getattr(handler, "__qualname__", None) or type(handler).__qualname__
        )
        # Whether somebody raises what has broken the server.
        self._awaited = parts.crashed is not None
        self._pid, self._state = os.getpid(), NEW
        self._begun, self._ended = count(), Latch()
        self._shutdown: Shutdown | None = None
        self._stop_wanted: deque[float | None] = deque()
        self._starting: greenlet | None = None
        self._wanted, self._proxies = list[str](), list[str]()
        self._adopted: list[tuple[str, int]] = []
        self._context = ServerContext(self.settings)
        self._ledger, self.access = Ledger(), AccessControl(self.settings, parts.warns)

    # -- starting ----------------------------------------------------------------------------------

    def bind(self, *endpoints: str, access: Access | None = None) -> None:
        """Serve these endpoints: at once if the server is started, otherwise from ``start`` on.

        Args:
            endpoints: ``tcp://host:port`` (port 0 or * for any free one), ``tcp://[::1]:port``,
                ``ipc://path``, ``inproc://name`` (clients use ``server.context``); ``fd://3``, a
                listening socket that another program has made, or ``fd://NAME``, one that systemd
                has passed by that name. Its descriptor is closed with the server.
            access: who may connect to these; None for what the server's settings say.
        Raises:
            BindError: one of them cannot be served, or not to these clients; those before it are.
            StateError: the server has stopped.
            WrongThread: another OS thread has started it.
        """
        self._check_process()
        for endpoint in endpoints:
            check_type(endpoint)
        if self._state in (STOPPING, STOPPED):
            raise StateError(f"bind on a server that is {self._state}; make a new one")
        if self._state == STARTING:
            raise StateError("bind on a server that is starting: before, or when it serves")
        self.access.note(endpoints, access)
        if self._state == NEW:
            self._wanted.extend(endpoints)
            return
        if get_ident() != self._mailbox.thread:
            raise WrongThread("bind on a started server belongs in the OS thread that serves")
        for endpoint in endpoints:
            self._router.bind(endpoint)
            self._mailbox.ring()  # binding handles libzmq's commands too, and can swallow an edge

    def adopt(self, endpoint: str, descriptor: int) -> None:
        """Serve, from ``start`` on, on a socket that listens already:
        ``bind(f"fd://{descriptor}")``, of a known transport.

        Args:
            endpoint: ``tcp://...`` or ``ipc://...``, for the transport alone.
            descriptor: of the listening socket (``socket.detach()``), which does not block from now
                on, and is closed with the server.
        Raises:
            BindError: it is not open, no socket, does not listen, or is of another transport.
            StateError: the server has started.
        """
        self._check_process()
        if self._state != NEW:
            raise StateError(f"adopt on a server that is {self._state}")
        listening_at(endpoint, descriptor)
        self._adopted.append((endpoint, descriptor))

    def connect(self, *endpoints: str) -> None:
        """Serve, from ``start`` on, the clients of proxies (``green-router proxy``,
        ``tcp://broker:5556``). Raises BindError and ConfigError as ``links.check`` does; StateError
        where the server has started."""
        self._check_process()
        if self._state != NEW:
            raise StateError(f"connect on a server that is {self._state}")
        check(endpoints, self.settings)
        self._proxies.extend(endpoints)

    def start(self) -> None:
        """Bind and begin to serve; returns when both are done.

        Raises:
            BindError: an endpoint cannot be served; nothing is left open.
            StateError: started before.
        """
        self._check_process()
        if self._state != NEW or next(self._begun):
            raise StateError(f"start on a server that is {self._state}; make a new one")
        self._state, self._starting = STARTING, getcurrent()
        router = None
        try:
            raise_descriptor_limit(self.settings.descriptor_limit)
            router = self._parts.router(self._context.open, self.settings, self.access)
            for endpoint in self._wanted:
                router.bind(endpoint)
            for endpoint, descriptor in self._adopted:
                router.adopt(endpoint, descriptor)
            self._shutdown = self._wire(router)
        except BaseException:
            if router is not None:
                router.close()
            self._end_unstarted()
            raise
        self._state = SERVING
        SERVERS.enter(self)
        log.info("serving on %s", " ".join((*self.endpoints, *self._proxies)))
        while self._stop_wanted:  # asked for meanwhile, by a signal handler or another thread
            self._shutdown.begin(self._stop_wanted.popleft())
        self._starting = None

    def _wire(self, router: Router) -> Shutdown:
        self._router = router
        wired = wire(
            self._handler,
            self._name,
            self.settings,
            self._parts,
            self.access,
            router,
            self._proxies,
            self._ledger,
            self._crash,
        )
        self._mailbox, self._in_flight = wired.mailbox, wired.in_flight
        self._results, self._failures = wired.results, wired.failures
        self._handlers, self._owner, self._own = wired.workplace, wired.owner, wired.owning
        self._stats = wired.stats
        return Shutdown(
            self._name,
            self.settings.grace,
            wired,
            self._ledger,
            self._begin_stop,
            (self._context.close, self._have_stopped),
            self._ended,
        )

    @property
    def started(self) -> bool:
        """True while it serves: after ``start``, until ``stop`` is called."""
        return self._state == SERVING and os.getpid() == self._pid

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it is bound, with the real ports; before ``start``, what was asked for."""
        return tuple(self._wanted) if self._shutdown is None else tuple(self._router.endpoints)

    @property
    def context(self) -> zmq.Context[Any]:
        """The zmq.green Context of the ROUTER, for clients over inproc in this process
        (WrongProcess in another)."""
        self._check_process()
        return self._context.open()

    # -- serving -----------------------------------------------------------------------------------

    def serve_forever(self, *endpoints: str, handle_signals: bool = True) -> None:
        """Bind, start, and serve until ``stop`` is called or SIGTERM or SIGINT comes. **Blocks**
        the calling greenlet.

        Args:
            endpoints: as for ``bind``.
            handle_signals: whether SIGTERM and SIGINT are caught: the first lets the requests in
                flight finish, for ``grace`` seconds at the most, a second one ends at once. One
                that the program ignores stays ignored; its own handlers are restored afterwards.
                False leaves signals alone, as they are in another thread than the main one:
                ``gevent.signal_handler(signal.SIGTERM, server.stop)`` does the same by hand.

        Raises:
            BindError, StateError: as ``bind`` and ``start`` do; StateError also where there is no
            endpoint to serve.
            ContextClosed: somebody else has terminated the context.
            Whatever broke the server: an error outside handlers, or a SystemExit or
                KeyboardInterrupt inside one.
        """
        self.bind(*endpoints)
        if not self.endpoints and not self._adopted and not self._proxies:
            raise StateError(
                'nothing to serve: name an endpoint, serve_forever("tcp://127.0.0.1:5555"), or '
                "bind one before"
            )
        if self._state == NEW:
            self.start()
        assert self._shutdown is not None
        signals = Signals(
            self._shutdown.signalled,
            *(heeded(signal.SIGTERM, signal.SIGINT) if handle_signals else ()),
        )
        signals.catch()
        self._awaited = True
        try:
            self._ended.wait()
        finally:
            signals.restore()
            self.stop()
        if self._shutdown.error is not None:
            raise self._shutdown.error

    def send(self, routing_id: bytes, *frames: BytesLike) -> None:
        """Push a message to a client, without a request. **Thread-safe**; it returns before the
        message has left, but **blocks** the calling greenlet or OS thread while 1,024 pushes, or 1
        MiB, wait for the server's next turn; never in the hub.
        Args:
            routing_id: of a client that is connected, ``request.routing_id`` of an earlier request.
            frames: the body; the delimiter that the envelope policy has goes before it. None gives
                one empty frame.
        Raises:
            ServerStopped: the server does not serve.
            BadReply: a frame is not bytes-like.
            ValueError: a routing id of no possible length.
        A client that has gone loses the message; ``stats()["events"]["lost_pushes"]`` counts that.
        """
        if self._state not in (SERVING, STOPPING):
            raise ServerStopped(f"send on a server that is {self._state}")
        self._results.send(routing_id, frames)

    def stats(self) -> dict[str, Any]:
        """Return what has happened to every message so far. **Thread-safe.**

        Returns:
            ``received`` messages; ``fates``, how many ended as each; ``waiting`` for a handler;
            ``in_flight``, with one, or with a reply that has not left (``received == sum(fates) +
            in_flight + waiting``); ``parked`` replies and ``parked_bytes``; ``connections`` now;
            ``events``; ``latency``, a histogram (green_router.messages.ledger); ``auth_failures``:
            connections that were not let in, by cause (green_router.security.failures).
        """
        if self._shutdown is None:
            return self._ledger.snapshot(
                waiting=0,
                in_flight=0,
                parked=0,
                parked_bytes=0,
                loop_lag=0.0,
                connections=0,
                auth_failures={},
            )
        return self._stats()

    # -- stopping ----------------------------------------------------------------------------------

    def stop(self, timeout: float | None = None) -> None:
        """Finish what was taken, then close. **Blocks** the calling greenlet; **thread-safe**;
        harmless when repeated.

        Args:
            timeout: seconds to wait for requests in flight and parked replies, 0 for not at all;
                None for ``grace``. What is cut off then is counted ``abandoned``. A second call may
                shorten the time.

        It takes up to ``linger`` longer, while the last replies leave. In a handler it returns at
        once and the server stops when the handler has returned; in a forked child nothing is
        stopped. From another thread it waits for the one that serves, whose loop does the work;
        where that has ended, or its hub was destroyed, what is open is closed all the same.
        """
        if os.getpid() != self._pid:
            return
        if self._state == NEW and not next(self._begun):
            self._end_unstarted()
            return
        self._stop_wanted.append(timeout)  # first: ``start`` looks for it last
        if self._shutdown is not None:
            self._shutdown.stop(timeout)
        elif getcurrent() is not self._starting:
            self._ended.wait()

    def _end_unstarted(self) -> None:
        self._state, self._starting = STOPPED, None
        self._context.close()
        self._ended.set()

    def _begin_stop(self) -> None:
        if self._state != STOPPED:
            self._state = STOPPING
            self._parts.stopping()

    def _have_stopped(self) -> None:
        self._state = STOPPED
        SERVERS.leave(self)

    def _crash(self, error: BaseException) -> None:
        """Any greenlet of the serving thread. Something that must not happen has, or the program
        shall end."""
        error = self._context.crashed(error)
        if self._shutdown is not None:
            self._shutdown.crash(error, self._awaited)
        if self._parts.crashed is not None:
            self._parts.crashed(error)

    # -- the rest ----------------------------------------------------------------------------------

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise WrongProcess("this server", self._pid, os.getpid())

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Server {self._name} {self._state} {' '.join(self.endpoints)}>".replace(" >", ">")
