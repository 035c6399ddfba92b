"""The settings of ``Server(...)``.

Rules of this file
  1. A setting is a field, and said nowhere else but as a keyword for type checkers (keywords.py),
     which a test compares.
  2. A bound has its reason beside it, where it is not obvious. Durations are seconds, sizes are
     bytes.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .access import Access, KeyFile, check_access
from .fields import Values, setting
from .kinds import (
    Body,
    Choice,
    Context,
    Count,
    Function,
    Policy,
    RoutingId,
    Seconds,
    Size,
    Switch,
    Text,
)

MIB = 1024 * 1024

YEAR = 31_536_000
"""Seconds: the longest of durations that only timers measure. They take more; what goes to the
kernel does not."""

TCP_LONGEST = 32_767
"""Seconds: Linux's MAX_TCP_KEEPIDLE. With more, no connection would be accepted."""

SMALLEST_LIMIT = 1000
"""Bytes: libzmq applies max_message_bytes to the handshake too, which takes up to 547 (CURVE, a
routing id of 255)."""

INT_MAX = 2**31 - 1
"""The largest C int, which socket options and system calls take."""


class Settings(Values):
    """A complete and checked set of the settings of a server, one attribute a setting.

    Args:
        values: those that differ from the defaults, by name.
    Raises:
        ConfigError: an unknown name, a value that breaks its rule, or two that do not go together.
    """

    # the messages
    envelope = setting(
        "delimiter",
        Policy(),
        "Where a message's envelope ends and its body begins: delimiter (after the first empty "
        "frame), bare (after the routing id), last (before the last frame), fixed:N (after N "
        "frames) or marker:TEXT (after that frame).",
    )
    max_message_bytes = setting(
        64 * MIB,
        Size(SMALLEST_LIMIT, 2**63 - 1),
        "The largest message that is taken, all frames together; a peer that sends a larger frame "
        "is disconnected.",
        absent="no limit",
    )
    max_frames = setting(
        1024,
        Count(2),
        "The most frames that a message may have, envelope included; one with more is dropped as "
        "malformed.",
    )

    # the work
    max_in_flight = setting(
        10_000,
        Count(1),
        "How many requests may be unanswered at once; beyond it the server takes no more until a "
        "reply has left (it only reads ahead, about one of each connection), and clients feel it "
        "through their high-water marks.",
    )
    proxy_window = setting(
        256,
        Count(1, INT_MAX),
        "How many requests a proxy that the server is connected to (serve --connect) may have "
        "given it beyond those that are settled: what is lost with it.",
    )
    concurrency = setting(
        None,
        Count(1),
        "How many handlers run at once in a process; further requests wait in order of arrival, "
        "and that is no overload. One of until_ready runs while it is asked. With 1 they are "
        "handled one after the other, as in the loop.",
        absent="no limit",
    )
    max_in_flight_bytes = setting(
        None,
        Size(1),
        "The same for the bytes that those requests take: all frames, and what the objects around "
        "them cost.",
        absent="no limit",
    )
    max_in_flight_per_peer = setting(
        None,
        Count(1),
        "How many requests of one peer may be unanswered at once; beyond it its requests are "
        "refused.",
        absent="no limit",
    )
    max_in_flight_bytes_per_peer = setting(
        None, Size(1), "The same for the bytes of those requests.", absent="no limit"
    )
    overload = setting(
        "pause",
        Choice("pause", "refuse"),
        "At max_in_flight: pause (take no more until a reply has left) or refuse (answer with "
        "busy_reply at once).",
    )
    busy_reply = setting(
        None,
        Body(),
        "What a refused request is answered with: bytes, or a list of bytes.",
        absent="nothing",
    )
    block_warning = setting(
        None,
        Seconds(0.01, 3600),
        "After how long a handler that blocks the whole loop is logged, with the request's age "
        "and the stack.",
        absent="off",
    )
    handler_timeout = setting(
        None,
        Seconds(0.001, YEAR),
        "The age at which a request is answered by on_error with HandlerTimeout and its handler's "
        "greenlet is killed; a later result is dropped.",
        absent="off",
    )
    on_error = setting(
        None,
        Function(),
        "on_error(request, exception) decides what a client gets when its handler failed or timed "
        "out: bytes, a list of bytes, or None for no reply. It has handler_timeout for that, from "
        "when it is asked.",
        absent="the client gets no reply",
    )
    on_disconnect = setting(
        None,
        Function(),
        "on_disconnect(routing_id) is called when the connection of a client has ended that had "
        "asked something, for services that keep state for their clients; with workers, in each "
        "of them. It has handler_timeout for that.",
        absent="off",
    )
    cancel_on_disconnect = setting(
        False,
        Switch(),
        "End a handler when its client's connection has ended, as at a deadline; otherwise it goes "
        "on. Requests that no handler has begun with are dropped in any case.",
    )

    # the replies
    max_parked_bytes_per_peer = setting(
        16 * MIB,
        Size(0),
        "How many bytes of replies, envelopes included, may wait for one peer that does not read; "
        "further ones are dropped as peer_stalled. A larger reply waits where nothing else does "
        "for that peer. Streams stop before that.",
    )
    max_parked_bytes = setting(
        256 * MIB, Size(0), "The same for all peers together; a larger reply never waits."
    )
    park_timeout = setting(
        60.0,
        Seconds(0.001, YEAR),
        "How long a reply may wait for a peer that does not read before it is dropped as "
        "peer_stalled.",
        absent="for ever",
    )
    send_high_water_mark = setting(
        1000,
        Count(1, INT_MAX),
        "How many messages libzmq queues for one peer before replies are parked (ZMQ_SNDHWM). It "
        "counts no bytes: where replies are large, lower it, or that many wait for each peer that "
        "does not read, beside max_parked_bytes.",
    )
    receive_high_water_mark = setting(
        1000,
        Count(1, INT_MAX),
        "How many messages of one peer libzmq queues before that peer has to wait (ZMQ_RCVHWM).",
    )

    # the end
    grace = setting(
        30.0,
        Seconds(0, YEAR),
        "How long stop() and SIGTERM wait for requests in flight, parked replies, and handlers at "
        "work after their replies.",
        flags=("--graceful-timeout",),
    )
    linger = setting(
        0.75,
        Seconds(0, 3600),
        "How long replies that libzmq has taken may still leave after the socket is closed "
        "(ZMQ_LINGER).",
    )

    # the connections
    backlog = setting(
        1024, Count(1, INT_MAX), "How many connections may wait to be accepted (ZMQ_BACKLOG)."
    )
    handshake_timeout = setting(
        10.0,
        Seconds(0.001, 86400),
        "How long a connection may take to say what it is (ZMQ_HANDSHAKE_IVL).",
    )
    tcp_keepalive_idle = setting(
        60.0,
        Seconds(1, TCP_LONGEST),
        "After how much silence TCP asks whether a peer is still there; one that is gone is "
        "noticed after about one and a half times as long (ZMQ_TCP_KEEPALIVE).",
        absent="off",
    )
    max_connection_age = setting(
        None,
        Seconds(0.1, YEAR),
        "After how long, and up to a tenth more by chance, a connection is closed, between "
        "requests if it can be: its client connects again, through a balancer to another server. "
        "A request on its way just then is lost, so it is for clients that ask again.",
        absent="off",
    )
    heartbeat_interval = setting(
        None,
        Seconds(0.1, 86400),
        "How often ZMTP asks a silent peer whether it is there; it is disconnected after three "
        "times as long (ZMQ_HEARTBEAT_IVL). libzmq then ignores receive_high_water_mark, old "
        "clients cannot answer, and duplicate_routing_id must be reject.",
        absent="off",
    )
    duplicate_routing_id = setting(
        "handover",
        Choice("handover", "reject"),
        "When a client connects with the routing id of another one: handover (it takes the place: "
        "a client that restarts is served at once, but anybody can take a known id) or reject (it "
        "is ignored until the other has gone).",
    )
    replies_follow_routing_id = setting(
        False,
        Switch(),
        "A client that has chosen its routing id gets the replies to what it asked before when it "
        "connects again with it. For DEALERs that number their requests: a REQ client takes such a "
        "reply for the answer to its next request.",
    )
    routing_id = setting(
        None,
        RoutingId(),
        "The server's own routing id, for clients that are ROUTERs and address it by name "
        "(ZMQ_ROUTING_ID): bytes, a text on the command line. REQ and DEALER clients do not see "
        "it.",
        absent="none",
    )
    descriptor_limit = setting(
        None,
        Count(0, INT_MAX),
        "The soft limit of open descriptors is raised to the hard one, but to no more than this; "
        "0 leaves it alone. It holds for the whole process, and its children inherit it.",
        absent="the hard limit",
    )

    # who may connect (access.py)
    curve_secret_key = Access.curve_secret_key
    authorized_keys = Access.authorized_keys
    plain = Access.plain
    allow_addresses = Access.allow_addresses
    allow_users = Access.allow_users
    allow_groups = Access.allow_groups
    require_curve = Access.require_curve
    ipc_mode = Access.ipc_mode

    # the proxies that the server connects to
    proxy_key = setting(
        None,
        Text("FILE"),
        "The public key file of the proxies that the server is connected to (serve --connect): it "
        "speaks CURVE with them, and with nobody else in their place.",
        absent="no CURVE",
    )
    proxy_secret_key = setting(
        None,
        KeyFile(),
        "This server's own key pair for that, the path of its secret file: what a proxy's "
        "--authorized-servers knows it by.",
        absent="a new pair at each start",
    )

    # ZeroMQ itself
    io_threads = setting(
        1, Count(1, 64), "libzmq's I/O threads; its guide counts one for each GB/s in or out."
    )
    context = setting(
        None,
        Context(),
        "The zmq.green.Context to make the socket in, for clients over inproc; it is not closed "
        "with the server.",
        absent="one of its own",
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        check_access(self)
        if self.heartbeat_interval is not None and self.duplicate_routing_id != "reject":
            # What a connection whose id was taken over still says, libzmq does not take any more;
            # when it breaks off then, the next heartbeat aborts the process
            # (stream_engine_base.cpp, in 4.3.5).
            raise ConfigError(
                "duplicate_routing_id",
                self.duplicate_routing_id,
                "reject where heartbeat_interval is set: libzmq would abort the "
                "process when a client goes whose routing id another one has taken",
            )
