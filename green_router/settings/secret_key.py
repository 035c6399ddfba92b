"""CURVE keys as values: what is one, and how a secret one is kept from being shown.

Rules of this file
  1. No error, repr or pickle has a secret key in it.

Source: zmq_curve(7); RFC 32 (Z85).
"""

from __future__ import annotations

import zmq
from zmq.utils import z85

KEY_BYTES, KEY_CHARACTERS = 32, 40
"""A CURVE key, and the same in Z85."""


class SecretKey:
    """A secret key, and the public one that belongs to it.

    Args:
        secret: 40 Z85 characters, or 32 bytes.
    Raises:
        ValueError: it is no key; nothing of it is in the error.
    Attributes:
        public: the public key, 40 Z85 characters.
    """

    __slots__ = ("_secret", "public")

    def __init__(self, secret: bytes | str) -> None:
        self._secret = as_z85(secret)
        self.public = zmq.curve_public(self._secret)

    def reveal(self) -> bytes:
        """Return the secret key, 40 Z85 characters, for libzmq."""
        return self._secret

    def __repr__(self) -> str:
        return "<a secret key>"

    def __reduce__(self) -> str:
        raise TypeError("a secret key is not pickled")


def as_z85(key: bytes | str) -> bytes:
    """Return a key as 40 Z85 characters. Raises ValueError, without the key, where it is none."""
    try:
        raw = key.encode("ascii") if isinstance(key, str) else bytes(key)
        if len(raw) == KEY_BYTES and not isinstance(key, str):
            return bytes(z85.encode(raw))
        if len(raw) == KEY_CHARACTERS and len(z85.decode(raw)) == KEY_BYTES:
            return raw
    except Exception:  # pyzmq raises KeyError, struct.error and others, some with the key
        pass
    raise ValueError("not a CURVE key: 40 characters of Z85, or 32 bytes")


class Hidden:
    """Stands in an error for a value that may be a key."""

    def __repr__(self) -> str:
        return "<not shown>"
