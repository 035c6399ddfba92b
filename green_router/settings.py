"""Every setting of a server, once.

Rules of this file
  1. A setting is one row: name, kind, default, bounds, unit, a sentence. SETTINGS are those of ``Server(...)``, SERVICE
     those of ``green-router serve`` around it. The command line, the environment, the configuration file and the
     documentation are all made from these rows.
  2. Checking is all there is here: a wrong value raises ConfigError with setting, value and rule. Nothing is applied.
  3. Durations are float seconds, sizes are bytes.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .async_functions import refuse_async
from .errors import ConfigError
from .messages.body import body_of
from .messages.envelope import EnvelopePolicy, policy_of

Number = int | float


@dataclass(frozen=True, slots=True)
class Setting:
    """One knob.

    Attributes:
        name: as in ``Server(name=...)``, ``--name`` and ``GREEN_ROUTER_NAME``.
        kind: ``integer``, ``seconds``, ``bytes``, ``choice``, ``switch``, ``text``, ``texts``, ``envelope``, ``frames``,
            ``name``, ``callable`` or ``object``.
        default: what holds when nothing is said; must pass the check itself.
        doc: a sentence.
        minimum, maximum: inclusive bounds of a number.
        choices: the values of a choice.
        optional: whether None is a value.
        absent: what None means, for the documentation.
    """

    name: str
    kind: str
    default: Any
    doc: str
    minimum: Number = 0
    maximum: Number = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False
    absent: str = "off"

    @property
    def rule(self) -> str:
        """What a value must be, as the end of a sentence."""
        if self.kind == "choice":
            rule = "one of " + ", ".join(self.choices)
        elif self.kind == "envelope":
            rule = "delimiter, bare, last, fixed:N, marker:TEXT or an EnvelopePolicy"
        elif self.kind == "frames":
            rule = "bytes, or a list of them"
        elif self.kind == "name":
            rule = "1 to 255 bytes, the first of them not zero"
        elif self.kind == "switch":
            rule = "true or false"
        elif self.kind == "text":
            rule = "a text"
        elif self.kind == "texts":
            rule = "a list of texts"
        elif self.kind == "callable":
            rule = "a callable"
        elif self.kind == "object":
            rule = "an object of the type that the documentation names"
        else:
            noun = {"integer": "an integer", "bytes": "a whole number of bytes", "seconds": "a number of seconds"}[self.kind]
            if self.maximum != math.inf:
                rule = f"{noun} from {self.minimum:,} to {self.maximum:,}"
            else:
                rule = f"{noun}, {self.minimum:,} or more"
        return rule + (f", or None ({self.absent})" if self.optional else "")

    def check(self, value: Any) -> Any:
        """Return the value in its final form.

        Raises:
            ConfigError: it breaks the rule. No other exception.
        """
        if value is None and self.optional:
            return None
        if self.kind == "callable":
            refuse_async(self.name, value)
        try:
            return self._checked(value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(self.name, value, self.rule) from None

    def _checked(self, value: Any) -> Any:
        if self.kind in ("integer", "bytes", "seconds"):
            exact = int if self.kind != "seconds" else (int, float)
            if isinstance(value, bool) or not isinstance(value, exact) or not self.minimum <= value <= self.maximum:
                raise ValueError
            return float(value) if self.kind == "seconds" else value
        if self.kind == "choice":
            if value not in self.choices:
                raise ValueError
        elif self.kind in ("switch", "text"):
            if not isinstance(value, bool if self.kind == "switch" else str) or value == "":
                raise ValueError
        elif self.kind == "texts":
            if not isinstance(value, (list, tuple)) or not value or not all(isinstance(text, str) and text for text in value):
                raise ValueError
            return tuple(value)
        elif self.kind == "callable":
            if not callable(value):
                raise ValueError
        elif self.kind == "envelope":
            return policy_of(value)
        elif self.kind == "frames":
            body = body_of(list(value) if isinstance(value, (list, tuple)) else value, self.name)
            return body if isinstance(body, list) else [body]
        elif self.kind == "name":
            if not isinstance(value, (bytes, bytearray, memoryview)) or not 0 < len(name := bytes(value)) < 256 or not name[0]:
                raise ValueError
            return name
        return value


def _rows(*rows: Setting) -> dict[str, Setting]:
    return {row.name: row for row in rows}


MIB = 1024 * 1024

YEAR = 31_536_000
"""Seconds: the longest of durations that only timers measure. They take more; what goes to the kernel does not."""

TCP_LONGEST = 32_767
"""Seconds: Linux's MAX_TCP_KEEPIDLE. With more, no connection would be accepted."""

SMALLEST_LIMIT = 1000
"""Bytes: libzmq applies max_message_bytes to the handshake too, which takes up to 547 (CURVE, a routing id of 255)."""

SETTINGS: Mapping[str, Setting] = _rows(
    # the messages
    Setting("envelope", "envelope", "delimiter",
            "Where a message's envelope ends and its body begins: delimiter (after the first empty frame), bare (after "
            "the routing id), last (before the last frame), fixed:N (after N frames) or marker:TEXT (after that frame)."),
    Setting("max_message_bytes", "bytes", 64 * MIB,
            "The largest message that is taken, all frames together; a peer that sends a larger frame is disconnected.",
            minimum=SMALLEST_LIMIT, maximum=2**63 - 1, optional=True, absent="no limit"),
    Setting("max_frames", "integer", 1024,
            "The most frames that a message may have, envelope included; one with more is dropped as malformed.",
            minimum=2),
    # the work
    Setting("max_in_flight", "integer", 10_000,
            "How many requests may be unanswered at once; beyond it the server takes no more until a reply has left, and "
            "clients feel it through their high-water marks.", minimum=1),
    Setting("concurrency", "integer", None,
            "How many handlers run at once in a process; further requests wait in order of arrival, and that is no overload. "
            "With 1 they are handled one after the other, as in the loop.", minimum=1, optional=True, absent="no limit"),
    Setting("max_in_flight_bytes", "bytes", None,
            "The same for the bytes that those requests take: all frames, and what the objects around them cost.", minimum=1,
            optional=True, absent="no limit"),
    Setting("max_in_flight_per_peer", "integer", None,
            "How many requests of one peer may be unanswered at once; beyond it its requests are refused.", minimum=1,
            optional=True, absent="no limit"),
    Setting("max_in_flight_bytes_per_peer", "bytes", None,
            "The same for the bytes of those requests.", minimum=1, optional=True, absent="no limit"),
    Setting("overload", "choice", "pause",
            "At max_in_flight: pause (take no more until a reply has left) or refuse (answer with busy_reply at once).",
            choices=("pause", "refuse")),
    Setting("busy_reply", "frames", None,
            "What a refused request is answered with: bytes, or a list of bytes.", optional=True, absent="nothing"),
    Setting("block_warning", "seconds", None,
            "After how long a handler that blocks the whole loop is logged, with the request's age and the stack.",
            minimum=0.01, maximum=3600, optional=True),
    Setting("handler_timeout", "seconds", None,
            "The age at which a request is answered by on_error with HandlerTimeout and its handler's greenlet is "
            "killed; a later result is dropped.", minimum=0.001, maximum=YEAR, optional=True),
    Setting("on_error", "callable", None,
            "on_error(request, exception) decides what a client gets when its handler failed or timed out: bytes, a list "
            "of bytes, or None for no reply. It has handler_timeout for that, from when it is asked.", optional=True,
            absent="the client gets no reply"),
    # the replies
    Setting("max_parked_bytes_per_peer", "bytes", 16 * MIB,
            "How many bytes of replies, envelopes included, may wait for one peer that does not read; further ones are dropped "
            "as peer_stalled. A larger reply waits where nothing else does for that peer. Streams stop before that.", minimum=0),
    Setting("max_parked_bytes", "bytes", 256 * MIB,
            "The same for all peers together; a larger reply never waits.", minimum=0),
    Setting("park_timeout", "seconds", 60.0,
            "How long a reply may wait for a peer that does not read before it is dropped as peer_stalled.",
            minimum=0.001, maximum=YEAR, optional=True, absent="for ever"),
    Setting("send_high_water_mark", "integer", 1000,
            "How many messages libzmq queues for one peer before replies are parked (ZMQ_SNDHWM). It counts no bytes: where "
            "replies are large, lower it, or that many wait for each peer that does not read, beside max_parked_bytes.", minimum=1,
            maximum=2**31 - 1),
    Setting("receive_high_water_mark", "integer", 1000,
            "How many messages of one peer libzmq queues before that peer has to wait (ZMQ_RCVHWM).", minimum=1,
            maximum=2**31 - 1),
    # the end
    Setting("grace", "seconds", 30.0,
            "How long stop() and SIGTERM wait for requests in flight, parked replies, and handlers at work after their replies.",
            minimum=0, maximum=YEAR),
    Setting("linger", "seconds", 0.75,
            "How long replies that libzmq has taken may still leave after the socket is closed (ZMQ_LINGER).",
            minimum=0, maximum=3600),
    # the connections
    Setting("backlog", "integer", 1024,
            "How many connections may wait to be accepted (ZMQ_BACKLOG).", minimum=1, maximum=2**31 - 1),
    Setting("handshake_timeout", "seconds", 10.0,
            "How long a connection may take to say what it is (ZMQ_HANDSHAKE_IVL).", minimum=0.001, maximum=86400),
    Setting("tcp_keepalive_idle", "seconds", 60.0,
            "After how much silence TCP asks whether a peer is still there; one that is gone is noticed after about one "
            "and a half times as long (ZMQ_TCP_KEEPALIVE).", minimum=1, maximum=TCP_LONGEST, optional=True),
    Setting("heartbeat_interval", "seconds", None,
            "How often ZMTP asks a silent peer whether it is there; it is disconnected after three times as long "
            "(ZMQ_HEARTBEAT_IVL). libzmq then ignores receive_high_water_mark, old clients cannot answer, and "
            "duplicate_routing_id must be reject.", minimum=0.1, maximum=86400, optional=True),
    Setting("duplicate_routing_id", "choice", "handover",
            "When a client connects with the routing id of another one: handover (it takes the place: a client that restarts "
            "is served at once, but anybody can take a known id) or reject (it is ignored until the other has gone).",
            choices=("handover", "reject")),
    Setting("routing_id", "name", None,
            "The server's own routing id, for clients that are ROUTERs and address it by name (ZMQ_ROUTING_ID): bytes, a text on "
            "the command line. REQ and DEALER clients do not see it.", optional=True, absent="none"),
    Setting("descriptor_limit", "integer", None,
            "The soft limit of open descriptors is raised to the hard one, but to no more than this; 0 leaves it alone. It holds "
            "for the whole process, and its children inherit it.", maximum=2**31 - 1, optional=True, absent="the hard limit"),
    Setting("io_threads", "integer", 1,
            "libzmq's I/O threads; its guide counts one for each GB/s in or out.", minimum=1, maximum=64),
    Setting("context", "object", None,
            "The zmq.green.Context to make the socket in, for clients over inproc; it is not closed with the server.",
            optional=True, absent="one of its own"),
)

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

SERVICE: Mapping[str, Setting] = _rows(
    Setting("application", "text", None, "What is served: module:callable or path/file.py:callable.", optional=True,
            absent="the argument of the command"),
    Setting("bind", "texts", ("tcp://127.0.0.1:5555",), "Where to serve; may be repeated. Port 0 or * takes a free "
            "one; fd://3 or fd://NAME is a listening socket that systemd has passed (LISTEN_FDS)."),
    Setting("until_ready", "switch", False,
            "The handler follows the poll loop's convention: None, False or () means not ready, and it is asked again."),
    Setting("patch", "switch", True,
            "Let gevent patch the standard library before the application is loaded; without, blocking calls block the "
            "whole server."),
    # the processes
    Setting("workers", "integer", None,
            "How many processes run the handler.", minimum=1, maximum=1024, optional=True,
            absent="it runs in the serving process"),
    Setting("dispatch", "choice", "front",
            "How the work is spread: front (one process serves the clients and hands requests to the workers) or direct "
            "(each worker serves clients itself).", choices=("front", "direct")),
    Setting("worker_window", "integer", 128,
            "How many requests one worker has in hand at the most (front): what is lost with it; the others wait for the "
            "next that is free.", minimum=1),
    Setting("retry_lost", "integer", 0,
            "To how many further workers a request is given when the one that had it dies (front); for handlers that may "
            "run twice for one request only.", maximum=100),
    Setting("boot_timeout", "seconds", 120.0,
            "A worker that has not loaded the application after so long is killed, as one that cannot boot, and its stacks "
            "are logged.", minimum=0.1, maximum=YEAR, optional=True),
    Setting("worker_timeout", "seconds", 30.0,
            "A worker whose loop has not turned for so long is killed and replaced, and its stacks are logged.",
            minimum=0.1, maximum=YEAR, optional=True),
    Setting("worker_grace", "seconds", None,
            "How long a worker that has been replaced (SIGHUP, max_requests), or is one too many, may stay to finish what "
            "it has in hand.", maximum=YEAR, optional=True, absent="as grace"),
    Setting("max_requests", "integer", None,
            "After so many requests a worker is replaced.", minimum=1, optional=True, absent="never"),
    Setting("max_requests_jitter", "integer", 0,
            "Up to so many more, by chance, so that workers are not replaced all at once."),
    Setting("gc_freeze", "switch", True,
            "Leave what the application's import has made out of further garbage collections: a full one stops the loop."),
    Setting("gc_threshold", "integer", None,
            "How many new objects there may be before Python looks for garbage among them (gc.set_threshold); 0 for never.",
            maximum=2**31 - 1, optional=True, absent="as Python has it"),
    Setting("reload", "switch", False,
            "For development: replace the workers whenever a file of the application changes."),
    Setting("control", "text", None,
            "Path of the socket that green-router stats asks.", optional=True,
            absent="named after the process, in the user's runtime directory"),
    # the log
    Setting("log_level", "choice", "info", "What to log.", choices=LOG_LEVELS),
    Setting("log_format", "choice", "text", "Log lines as text, or as JSON, an object a line.", choices=("text", "json")),
    Setting("log_file", "text", None, "A file to append the log to; SIGUSR1 opens it again.", optional=True,
            absent="standard error"),
)
"""The settings of a service: what is around the server."""


class Service:
    """A complete and checked set of the settings in SERVICE, one attribute a setting. Arguments and errors as Settings."""

    application: str | None
    bind: tuple[str, ...]
    until_ready: bool
    patch: bool
    workers: int | None
    dispatch: str
    worker_window: int
    retry_lost: int
    boot_timeout: float | None
    worker_timeout: float | None
    worker_grace: float | None
    max_requests: int | None
    max_requests_jitter: int
    gc_freeze: bool
    gc_threshold: int | None
    reload: bool
    control: str | None
    log_level: str
    log_format: str
    log_file: str | None

    def __init__(self, **values: Any) -> None:
        _set_all(self, SERVICE, values)


def _set_all(target: object, rows: Mapping[str, Setting], values: Mapping[str, Any]) -> None:
    for name in values:
        if name not in rows:
            raise ConfigError(name, values[name], f"a setting: {', '.join(rows)}")
    for name, setting in rows.items():
        setattr(target, name, setting.check(values.get(name, setting.default)))


class Settings:
    """A complete and checked set of values, one attribute a setting.

    Args:
        values: those that differ from the defaults, by name.
    Raises:
        ConfigError: an unknown name, a value that breaks its rule, or two that do not go together.
    """

    envelope: EnvelopePolicy
    max_message_bytes: int | None
    max_frames: int
    max_in_flight: int
    concurrency: int | None
    max_in_flight_bytes: int | None
    max_in_flight_per_peer: int | None
    max_in_flight_bytes_per_peer: int | None
    overload: str
    busy_reply: list[bytes] | None
    block_warning: float | None
    handler_timeout: float | None
    on_error: Callable[[Any, BaseException], Any] | None
    max_parked_bytes_per_peer: int
    max_parked_bytes: int
    park_timeout: float | None
    send_high_water_mark: int
    receive_high_water_mark: int
    grace: float
    linger: float
    backlog: int
    handshake_timeout: float
    tcp_keepalive_idle: float | None
    heartbeat_interval: float | None
    duplicate_routing_id: str
    routing_id: bytes | None
    descriptor_limit: int | None
    io_threads: int
    context: Any

    def __init__(self, **values: Any) -> None:
        _set_all(self, SETTINGS, values)
        if self.heartbeat_interval is not None and self.duplicate_routing_id != "reject":
            # What a connection whose id was taken over still says, libzmq does not take any more; when it breaks off then, the
            # next heartbeat aborts the process (stream_engine_base.cpp, in 4.3.5).
            raise ConfigError("duplicate_routing_id", self.duplicate_routing_id,
                              "reject where heartbeat_interval is set: libzmq would abort the process when a client goes whose "
                              "routing id another one has taken")

    def __repr__(self) -> str:
        changed = (f"{n}={getattr(self, n)!r}" for n, s in SETTINGS.items() if getattr(self, n) != s.check(s.default))
        return f"Settings({', '.join(changed)})"
