"""The settings of ``green-router serve`` around the server.

Rules of this file
  1. A setting is a field. Those of the server itself are in server.py; no name is in both.
  2. Where gunicorn has an option for the same thing, its name is a further one of ours (``flags``).
"""

from __future__ import annotations

from typing import Any

from .fields import Values, setting
from .kinds import Choice, Count, Engine, Seconds, Switch, Text, Texts
from .server import INT_MAX, YEAR

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


class Service(Values):
    """A complete and checked set of the settings around a server, one attribute a setting.

    Args and Raises as those of Values.
    """

    application = setting(
        None,
        Text("MODULE:CALLABLE"),
        "What is served: module:callable or path/file.py:callable.",
        absent="the argument of the command",
    )
    bind = setting(
        ("tcp://127.0.0.1:5555",),
        Texts(),
        "Where to serve; may be repeated. Port 0 or * takes a free one; fd://3 or fd://NAME is a "
        "listening socket that systemd has passed (LISTEN_FDS).",
        flags=("-b",),
    )
    connect = setting(
        None,
        Texts(),
        "A proxy to serve the clients of (green-router proxy, --backend), tcp://host:port; may be "
        "repeated. Without bind, nothing is bound.",
        absent="none",
    )
    until_ready = setting(
        False,
        Switch(),
        "The handler follows the poll loop's convention: None, False or () means not ready, and "
        "it is asked again.",
    )
    patch = setting(
        None,
        Switch(),
        "Whether gevent patches the standard library before the application is loaded; without, "
        "blocking calls block the whole server. An async def needs it unpatched.",
        absent="unless the application is an async def",
    )

    offload = setting(
        None,
        Engine(),
        "Where offload(function) has functions called: in native threads, in processes, or by a "
        "cluster of Dask. Each worker has its own.",
        absent="nowhere",
    )

    # the processes
    workers = setting(
        None,
        Count(1, 1024),
        "How many processes run the handler.",
        absent="it runs in the serving process",
        flags=("-w",),
    )
    dispatch = setting(
        "front",
        Choice("front", "direct"),
        "How the work is spread: front (one process serves the clients and hands requests to the "
        "workers) or direct (each worker serves clients itself).",
    )
    worker_window = setting(
        128,
        Count(1),
        "How many requests one worker has in hand at the most (front): what is lost with it; the "
        "others wait for the next that is free.",
    )
    retry_lost = setting(
        0,
        Count(0, 100),
        "To how many further workers a request is given when the one that held it dies (front); "
        "for handlers that may run twice for one request only.",
    )
    boot_timeout = setting(
        120.0,
        Seconds(0.1, YEAR),
        "A worker that has not loaded the application after so long is killed, as one that cannot "
        "boot, and its stacks are logged.",
        absent="off",
    )
    worker_timeout = setting(
        30.0,
        Seconds(0.1, YEAR),
        "A worker whose loop has been blocked for so long is killed and replaced, and its stacks "
        "are logged.",
        absent="off",
        flags=("-t", "--timeout"),
    )
    worker_grace = setting(
        None,
        Seconds(0, YEAR),
        "How long a worker that has been replaced (SIGHUP, max_requests), or is one too many, may "
        "stay to finish what it has in hand.",
        absent="as grace",
    )
    max_requests = setting(
        None, Count(1), "After so many requests a worker is replaced.", absent="never"
    )
    max_requests_jitter = setting(
        0, Count(), "Up to so many more, by chance, so that workers are not replaced all at once."
    )
    gc_freeze = setting(
        True,
        Switch(),
        "Leave what the application's import has made out of further garbage collections: a full "
        "one stops the loop.",
    )
    gc_threshold = setting(
        None,
        Count(0, INT_MAX),
        "How many new objects there may be before Python looks for garbage among them "
        "(gc.set_threshold); 0 for never.",
        absent="as Python has it",
    )
    switch_interval = setting(
        0.0005,
        Seconds(1e-6, 3600),
        "A thread that waits for the interpreter gets it after so long from one that computes "
        "(sys.setswitchinterval).",
        absent="as Python has it",
    )
    reload = setting(
        False,
        Switch(),
        "For development: replace the workers whenever a file of the application changes.",
    )
    control = setting(
        None,
        Text("FILE"),
        "Path of the socket that green-router stats asks.",
        absent="named after the process, in the user's runtime directory",
    )

    pid_file = setting(
        None,
        Text("FILE"),
        "A file for the process id of the service; written when it serves, removed at its end.",
        absent="none",
        flags=("-p", "--pid"),
    )

    # the log
    log_level = setting("info", Choice(*LOG_LEVELS), "What to log.")
    log_format = setting(
        "text", Choice("text", "json"), "Log lines as text, or as JSON, an object a line."
    )
    log_file = setting(
        None,
        Text("FILE"),
        "A file to append the log to; SIGUSR1 opens it again.",
        absent="standard error",
        flags=("--error-logfile",),
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.connect and "bind" not in values:
            vars(self)["bind"] = ()
