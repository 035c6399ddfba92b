"""The settings of a server: it refuses at once what is wrong, and what does not go together."""

from __future__ import annotations

import pytest
import zmq
import zmq.green
from setting_rows import assert_refused

from green_router import ConfigError, Server
from green_router.settings import SETTINGS, Settings


def test_a_large_bound_is_readable() -> None:
    assert SETTINGS["send_high_water_mark"].rule == "an integer from 1 to 2,147,483,647"


def test_refuses_seconds_that_no_float_holds() -> None:
    assert_refused(SETTINGS["grace"], 10**400)


def test_a_server_refuses_at_once() -> None:
    """Construction, not start: a service with a wrong setting does not come up."""
    with pytest.raises(
        ConfigError, match=r"^grace = -1: must be a number of seconds from 0 to 31,536,000$"
    ):
        Server(print, grace=-1)
    with pytest.raises(ConfigError, match=r"^handler = None: must be a callable"):
        Server(None)  # type: ignore[arg-type]


def test_what_does_not_go_together_is_refused() -> None:
    """libzmq would abort: tests/reliability/test_overloaded.py."""
    with pytest.raises(
        ConfigError,
        match=r"^duplicate_routing_id = 'handover': must be reject where heartbeat_interval is set",
    ):
        Settings(heartbeat_interval=5.0)
    assert Settings(heartbeat_interval=5.0, duplicate_routing_id="reject").heartbeat_interval == 5.0


def test_a_context_is_passed_on_as_it_is() -> None:
    with zmq.green.Context() as context:
        assert Settings(context=context).context is context
