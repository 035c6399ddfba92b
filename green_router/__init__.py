"""green_router: a request/reply server on a ZeroMQ ROUTER, with greenlets.

The map of the house; a room imports only from the rooms above it:

    errors        what can go wrong, as one tree
    compiled      which compiled parts there are, and whether they are wanted
    messages/     what a message is, and what becomes of it: pure, no socket, no clock
    async_functions  what a greenlet cannot call
    settings      every knob, once
    security/     who may connect: CURVE key files, ZAP, address filters
    sockets/      endpoints, listening sockets, whole messages from and to the ROUTER
    serving/      the greenlets and the one socket
    offload/      functions called in other threads, processes, on other machines
    testing/      a server and a fake ROUTER for other people's tests
    processes/    workers: who starts them, who hands them requests, and what runs in them
    commands/     the command line
"""

from .errors import (
    AlreadyReplied,
    ApplicationError,
    BadReply,
    BindError,
    ConfigError,
    ContextClosed,
    GreenRouterError,
    HandlerError,
    HandlerTimeout,
    MalformedMessage,
    OffloadFailed,
    PeerGone,
    Reject,
    ReplyError,
    ServerStopped,
    StateError,
    WorkerLost,
    WrongProcess,
    WrongThread,
)
from .messages.request import Request
from .offload.engines import offload
from .serving.current import send
from .serving.server import Server
from .serving.until_ready import until_ready
from .settings import Access

__version__ = "0.1.0"

__all__ = [
    "Access",
    "AlreadyReplied",
    "ApplicationError",
    "BadReply",
    "BindError",
    "ConfigError",
    "ContextClosed",
    "GreenRouterError",
    "HandlerError",
    "HandlerTimeout",
    "MalformedMessage",
    "OffloadFailed",
    "PeerGone",
    "Reject",
    "ReplyError",
    "Request",
    "Server",
    "ServerStopped",
    "StateError",
    "WorkerLost",
    "WrongProcess",
    "WrongThread",
    "__version__",
    "offload",
    "send",
    "until_ready",
]
