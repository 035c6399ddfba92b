"""Keys as values: what is none is refused, and no secret is shown."""

from __future__ import annotations

import pickle

import pytest
import zmq
import zmq.auth

from green_router.settings.secret_key import SecretKey, as_z85

PUBLIC, SECRET = zmq.curve_keypair()


def test_a_secret_key_shows_itself_nowhere() -> None:
    key = SecretKey(SECRET)
    assert key.public == PUBLIC
    assert SECRET.decode() not in f"{key} {key!r} {vars(SecretKey)}"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    for wrong in (SECRET[:-1], SECRET.decode()[:32], b"~" * 40, b"#####" * 8):
        with pytest.raises(ValueError, match="not a CURVE key") as caught:
            as_z85(wrong)
        assert SECRET.decode()[:32] not in f"{caught.value} {caught.value.__context__!r}"
