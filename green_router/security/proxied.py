"""The keys by which a server that connects to a proxy shows who it is, and knows the proxy.

Rules of this file
  1. Without ``proxy_key`` there is no CURVE with a proxy, and nothing is read.
  2. A server that has no key pair for this makes one for itself: whatever it says is encrypted, and
     it knows that the proxy is the right one; a proxy lets it in only if it lets in every key.
"""

from __future__ import annotations

from typing import Any

import zmq

from ..errors import ConfigError
from ..settings.secret_key import SecretKey
from .certificates import read, secret_key


def keys_for_proxies(settings: Any) -> dict[int, bytes]:
    """Return the socket options for a connection to a proxy: none, or those of CURVE.

    Args:
        settings: of the server.
    Raises:
        ConfigError: a key file that cannot be read or has not the key, a key pair without
            ``proxy_key``, a libzmq without CURVE.
    """
    if settings.proxy_key is None:
        if settings.proxy_secret_key is not None:
            raise ConfigError(
                "proxy_key",
                None,
                "given where proxy_secret_key is: without it there is no CURVE with a proxy",
            )
        return {}
    if not zmq.has("curve"):
        raise ConfigError(
            "proxy_key", "...", "left out: this libzmq has no CURVE (zmq.has('curve') is false)"
        )
    own = (
        SecretKey(zmq.curve_keypair()[1])
        if settings.proxy_secret_key is None
        else secret_key("proxy_secret_key", settings.proxy_secret_key)
    )
    try:
        public = read(settings.proxy_key).public
        if public is None:
            raise ValueError("it has no public key")
    except ValueError as error:
        raise ConfigError("proxy_key", settings.proxy_key, f"a public key file: {error}") from None
    return {
        zmq.CURVE_SERVERKEY: public,
        zmq.CURVE_PUBLICKEY: own.public,
        zmq.CURVE_SECRETKEY: own.reveal(),
    }
