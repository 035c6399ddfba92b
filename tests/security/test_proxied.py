"""The keys for connections to a proxy: none, a pair made for it, or that of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
import zmq.auth
from key_pairs import KeyPairs

from green_router import ConfigError
from green_router.security.proxied import keys_for_proxies
from green_router.settings import Settings


def test_without_the_proxys_key_there_is_no_curve() -> None:
    assert keys_for_proxies(Settings()) == {}


def test_a_server_without_a_key_pair_makes_one_each_time(keys: KeyPairs) -> None:
    proxy = keys.server.removesuffix("_secret")
    one, other = (keys_for_proxies(Settings(proxy_key=proxy)) for _ in range(2))
    assert zmq.curve_public(one[zmq.CURVE_SECRETKEY]) == one[zmq.CURVE_PUBLICKEY]
    assert one[zmq.CURVE_SERVERKEY] == other[zmq.CURVE_SERVERKEY]
    assert one[zmq.CURVE_PUBLICKEY] != other[zmq.CURVE_PUBLICKEY]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_its_own_key_pair_is_used(keys: KeyPairs, as_bytes: bool) -> None:
    public, secret = zmq.auth.load_certificate(keys.server)
    options = keys_for_proxies(
        Settings(
            proxy_key=keys.server.removesuffix("_secret"),
            proxy_secret_key=secret if as_bytes else keys.server,
        )
    )
    assert options == {
        zmq.CURVE_SERVERKEY: public,
        zmq.CURVE_PUBLICKEY: public,
        zmq.CURVE_SECRETKEY: secret,
    }


def test_what_cannot_be_used_names_the_setting(keys: KeyPairs, tmp_path: Path) -> None:
    proxy = keys.server.removesuffix("_secret")
    for settings, named in (
        (Settings(proxy_secret_key=keys.server), "proxy_key"),
        (Settings(proxy_key=str(tmp_path / "absent")), "proxy_key"),
        (Settings(proxy_key=proxy, proxy_secret_key=proxy), "proxy_secret_key"),
    ):
        with pytest.raises(ConfigError) as caught:
            keys_for_proxies(settings)
        assert caught.value.setting == named
