"""For tests of programs that use green_router: a running server with clients, a ROUTER without sockets, a clock."""
from .clock import FakeClock, quiet
from .router import FakePeer, FakeRouter
from .running import DEADLINE, PATIENCE, RunningServer, check_accounts, eventually, running, settled

__all__ = [
    "DEADLINE",
    "PATIENCE",
    "FakeClock",
    "FakePeer",
    "FakeRouter",
    "RunningServer",
    "check_accounts",
    "eventually",
    "quiet",
    "running",
    "settled",
]
