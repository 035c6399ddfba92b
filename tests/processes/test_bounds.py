"""A service serves at the bounds of every number that it takes, in front and direct."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from command_line import CommandLine

from green_router.settings import SERVICE, SETTINGS
from green_router.settings.kinds import Number

from .conftest import ANY_PORT, DISPATCH, PID, Service

HUGE = 10**18
"""In the place of no bound."""

NUMBERS = [row for row in [*SERVICE.values(), *SETTINGS.values()] if isinstance(row.kind, Number)]

MAXIMUM = {
    row.name: row.kind.maximum if row.kind.maximum != math.inf else HUGE for row in NUMBERS
} | {"workers": 2}
"""But for 1,024 workers."""

MINIMUM = {
    row.name: row.kind.minimum
    for row in NUMBERS
    if row.name
    not in (
        "boot_timeout",
        "worker_timeout",
        "handler_timeout",
        "handshake_timeout",
        "heartbeat_interval",
        "max_in_flight_bytes_per_peer",
    )
}
"""But for times within which no worker, handler or client of a busy machine is ready, and bytes
that no request has."""


def options(values: dict[str, float]) -> list[str]:
    """These, on the command line."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


@DISPATCH
@pytest.mark.parametrize("values", [MINIMUM, MAXIMUM], ids=["minimum", "maximum"])
def test_a_service_serves_at_all_its_bounds(
    service: Callable[..., Service], dispatch: str, values: dict[str, float]
) -> None:
    server = service(
        PID, *options(values), "--dispatch", dispatch, "--duplicate-routing-id", "reject"
    )
    assert server.ask(b"")
    assert not [line for line in server.stop() if "Traceback" in line or "Error" in line]


def test_a_check_tries_what_the_kernel_takes(command_line: CommandLine) -> None:
    command_line.write("app.py", PID)
    month = str(30 * 86_400)
    done = command_line.run(
        "serve", "app:handle_request", "--check", "--bind", ANY_PORT, "--park-timeout", month
    )
    assert (done.returncode, done.stderr) == (0, b"")
    done = command_line.run(
        "serve", "app:handle_request", "--check", "--bind", ANY_PORT, "--tcp-keepalive-idle", month
    )
    assert done.returncode == 2
    assert done.stderr.decode().endswith(
        "must be a number of seconds from 1 to 32,767, or None (off)\n"
    )


def test_a_worker_without_time_to_boot_is_an_error_and_no_traceback(
    command_line: CommandLine,
) -> None:
    command_line.write("app.py", "import time; time.sleep(60)\n" + PID)
    done = command_line.run(
        "serve", "app:handle_request", "--workers", "1", "--bind", ANY_PORT, "--boot-timeout", "0.1"
    )
    assert done.returncode == 4
    assert "Traceback" not in done.stderr.decode()
