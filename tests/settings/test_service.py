"""The settings around a server: they are a set of their own."""

from __future__ import annotations

import pytest

from green_router import ConfigError
from green_router.settings import Service


def test_a_service_knows_its_own_settings_only() -> None:
    assert Service(workers=2).workers == 2
    with pytest.raises(ConfigError, match=r"^grace = 1: must be a setting: application, bind, "):
        Service(grace=1)


def test_who_connects_to_a_proxy_binds_nothing_unless_that_is_said() -> None:
    assert Service().bind == ("tcp://127.0.0.1:5555",)
    assert Service(connect=["tcp://proxy:5556"]).bind == ()
    assert Service(connect=["tcp://proxy:5556"], bind=["tcp://*:1"]).bind == ("tcp://*:1",)
