"""The protocol between the supervisor and its workers: each message once, with its direction and
its fields.

Rules of this file
  1. A message is a tuple of plain data: the name of its kind, then its fields. A kind is declared
     as a function is, and called with its fields it makes the message.
  2. Requests and what becomes of them are most of what is said. They have no name: a message that
     begins with a number is one of them, and the number is the key by which the serving process
     knows the request. To a worker ``(key, envelope_length, received_at, frames, address, known)``;
     from a worker ``(key, fate, body)``.
  3. Each end says in a table who takes which kind (``Routes``). Both ends are of one installation,
     so nothing that is said may be passed over: a message that is not in the table, or has not its
     fields, is an error, the channel is closed (stream.py), and the worker is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, ParamSpec

P = ParamSpec("P")

Message = tuple[Any, ...]

Body = bytes | list[bytes] | None


class UnknownMessage(Exception):
    """A message that nobody expects at this end, or not with these fields."""

    def __init__(self, message: Message) -> None:
        super().__init__(
            f"{message[0]!r} with {len(message) - 1} fields is no message that is expected here"
        )


class Route(NamedTuple):
    """A row of a table: the messages of a kind are given to ``take(*fields)``."""

    kind: Kind[Any]
    take: Callable[..., object]


class Kind(Generic[P]):
    """A kind of message: ``kind(field, ...)`` makes one.

    Attributes:
        name: what its messages begin with.
        fields: the names of what follows.
    """

    def __init__(self, declared: Callable[P, None]) -> None:
        code: Any = declared.__code__
        self.name: str = code.co_name
        self.fields: tuple[str, ...] = code.co_varnames[: code.co_argcount]
        self.__doc__ = declared.__doc__

    def __call__(self, *fields: P.args, **_: P.kwargs) -> Message:
        return self.name, *fields

    def to(self, take: Callable[P, object]) -> Route:
        """A row of a table: these messages are taken by ``take``, which is called with their
        fields."""
        return Route(self, take)


class Routes:
    """The table of one end of a channel.

    Args:
        routes: its rows.
    """

    def __init__(self, *routes: Route) -> None:
        self._routes: dict[Any, Route] = {}
        self.add(*routes)

    def add(self, *routes: Route) -> None:
        """Take these messages too from now on."""
        for route in routes:
            assert route.kind.name not in self._routes, route.kind.name
            self._routes[route.kind.name] = route

    def take(self, message: Message) -> None:
        """Call whoever takes this message. Raises UnknownMessage."""
        name, *fields = message
        route = self._routes.get(name)
        if route is None or len(fields) != len(route.kind.fields):
            raise UnknownMessage(message)
        route.take(*fields)

    def take_all(self, batch: list[Message]) -> None:
        """The same with a batch, in order."""
        for message in batch:
            self.take(message)


TO_WORKER: dict[str, Kind[Any]] = {}
TO_SUPERVISOR: dict[str, Kind[Any]] = {}
"""All kinds, by their names."""


def to_worker(declared: Callable[P, None]) -> Kind[P]:
    """Declare a message that the supervisor sends."""
    kind = TO_WORKER[declared.__name__] = Kind(declared)
    return kind


def to_supervisor(declared: Callable[P, None]) -> Kind[P]:
    """Declare a message that a worker sends."""
    kind = TO_SUPERVISOR[declared.__name__] = Kind(declared)
    return kind


# -- the life of a worker --------------------------------------------------------------------------


@to_worker
def boot(configuration: dict[str, Any]) -> None:
    """Load the application. First and alone; it is read before this package can be imported
    (worker/main.py)."""


@to_supervisor
def ready(files: list[str]) -> None:
    """The worker has booted. These source files of the application are loaded, where they are
    watched."""


@to_supervisor
def failed(code: str, arguments: tuple[Any, ...], files: list[str]) -> None:
    """The worker cannot boot: the error, as its code and arguments, and what was loaded until
    then."""


@to_supervisor
def files_loaded(files: list[str]) -> None:
    """Further source files were loaded since the worker booted."""


@to_worker
def serve() -> None:
    """Serve clients, from the listening sockets that it was given."""


@to_worker
def ping(number: int) -> None:
    """Does the loop turn? Asks for a ``pong`` of the same number."""


@to_supervisor
def pong(number: int, snapshot: dict[str, Any] | None) -> None:
    """The loop turns. With the ledger, where the worker keeps one."""


@to_supervisor
def idle() -> None:
    """The loop has nothing to do: it need not be asked."""


@to_supervisor
def active() -> None:
    """The loop was idle and begins to turn again."""


@to_supervisor
def counted(snapshot: dict[str, Any]) -> None:
    """The worker's ledger as it is now: something has happened."""


@to_worker
def where() -> None:
    """Write down what the boot waits for: it takes too long."""


@to_worker
def reopen_logs() -> None:
    """Go on in new log files."""


@to_supervisor
def recycle() -> None:
    """Replace me: I have done my share, or was sent a signal to go."""


@to_supervisor
def closing() -> None:
    """Give me nothing more: I am about to end."""


@to_worker
def stop(seconds: float) -> None:
    """Finish what is in hand within that time, and end. A second one may shorten the time."""


@to_supervisor
def bye(snapshot: dict[str, Any] | None) -> None:
    """All is done, and this is the last message."""


# -- requests, beside (key, ...) -------------------------------------------------------------------


@to_worker
def peer_gone(key: int) -> None:
    """The client of the request is gone: say what became of it, as always."""


@to_worker
def disconnected(routing_id: bytes) -> None:
    """A client is gone: call on_disconnect."""


@to_worker
def end(key: int, seconds: float | None) -> None:
    """The request has been settled elsewhere: end its handler. With its timeout, if that is why."""


@to_supervisor
def ended(key: int) -> None:
    """The answer to ``end``: the request is given up."""


@to_supervisor
def failing(key: int) -> None:
    """The handler has failed, and on_error is being called: its deadline is none any more."""


@to_supervisor
def unsendable(key: int, reason: str) -> None:
    """The reply to the request cannot be carried on a channel."""


@to_supervisor
def push(envelope: list[bytes], body: Body) -> None:
    """A message to a client, without a request."""


@to_supervisor
def pair(envelope: list[bytes], body: Body) -> None:
    """The same, where a handler has returned ``(client_id, data)``: the client may be unknown."""


@to_supervisor
def event(index: int, count: int) -> None:
    """Something to be counted in the ledger."""


@to_supervisor
def when_clear(token: int, peer: bytes) -> None:
    """Tell me by ``clear`` when that peer has taken everything."""


@to_worker
def clear(token: int) -> None:
    """The answer to ``when_clear``."""


@to_worker
def call_on_error(
    token: int,
    error: tuple[str, tuple[Any, ...]],
    envelope_length: int,
    received_at: float,
    frames: list[bytes],
    address: str | None,
    known: dict[str, Any] | None,
) -> None:
    """Ask the application's on_error what a client gets whose request has failed elsewhere."""


@to_supervisor
def on_error_ended(token: int, returned: bool, answer: Body | str) -> None:
    """The answer to ``call_on_error``: the body, or what went wrong, in words."""


# -- who may connect -------------------------------------------------------------------------------


@to_worker
def authorize(token: int, setting: str, words: tuple[str, ...]) -> None:
    """Ask the application's callable of that setting whether a client may connect."""


@to_supervisor
def authorized(token: int, returned: bool, answer: Any) -> None:
    """The answer to ``authorize``; None where the callable has raised."""


@to_worker
def read_keys() -> None:
    """Read the directories of authorized keys again."""
