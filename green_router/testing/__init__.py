"""For tests of programs that use green_router: a running server with clients, a ROUTER without
sockets, a clock."""

from .clock import FakeClock, run_until_idle
from .peer import FakePeer
from .router import FakeRouter
from .running import (
    DEADLINE,
    PATIENCE,
    RunningServer,
    assert_balanced,
    eventually,
    running_server,
    settled,
)

__all__ = [
    "DEADLINE",
    "PATIENCE",
    "FakeClock",
    "FakePeer",
    "FakeRouter",
    "RunningServer",
    "assert_balanced",
    "eventually",
    "run_until_idle",
    "running_server",
    "settled",
]
