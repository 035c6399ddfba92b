"""A directory with the public keys of those who may connect.

Rules of this file
  1. It is read and checked whole, then the new table takes the place of the old one: nobody sees
     half of it.
  2. A file that is broken lets nobody in, and keeps nobody in: all others hold as they are now. It
     is named.
  3. A directory that cannot be listed says nothing about anybody, so what held before holds on; one
     that is gone lets nobody in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import ConfigError
from .certificates import PUBLIC, read


class Identity(NamedTuple):
    """A client that has connected.

    Attributes:
        user_id: what ``request.user_id`` says.
        role: what ``request.role`` says, or None.
    """

    user_id: str
    role: str | None = None


class KeyDirectory:
    """The keys in a directory: each ``*.key`` in it, as pyzmq and czmq write them.

    Args:
        path: of the directory.
    Attributes:
        known: public key (40 Z85 characters) -> Identity; empty before ``load``.
        problems: what is wrong, a sentence for each file.
        gone: whether there is no such directory.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.known: dict[bytes, Identity] = {}
        self.problems: list[str] = []
        self.gone = False

    def load(self) -> set[bytes]:
        """Read it. **Blocks** for as long as the file system takes.

        Returns:
            The keys that were known and are not any more, or that are somebody else's now.
        """
        before = self.known
        self.problems, self.gone = [], False
        try:
            names = sorted(name for name in os.listdir(self.path) if name.endswith(PUBLIC))
        except (FileNotFoundError, NotADirectoryError):
            self.problems = [f"{self.path}: no such directory"]
            self.known, self.gone = {}, True
        except OSError as error:
            self.problems = [
                f"{self.path}: it cannot be listed ({error.strerror}); what it said before holds on"
            ]
        else:
            self.known = self._read(names)
        return {key for key, identity in before.items() if self.known.get(key) != identity}

    def _read(self, names: Iterable[str]) -> dict[bytes, Identity]:
        known: dict[bytes, Identity] = {}
        first: dict[bytes, str] = {}
        for name in names:
            path = os.path.join(self.path, name)
            try:
                certificate = read(path)
                if certificate.public is None:
                    raise ValueError("it has no public key")
                if certificate.public in first:
                    raise ValueError(f"it has the same key as {first[certificate.public]}")
                identity = _identity(name, certificate.metadata)
            except ValueError as error:
                self.problems.append(f"{path}: {error}")
                continue
            first[certificate.public] = name
            known[certificate.public] = identity
        return known

    def check(self) -> None:
        """Raise ConfigError that names all that is wrong."""
        if self.problems:
            raise ConfigError(
                "authorized_keys",
                self.path,
                f"a directory of key files; {'; '.join(self.problems)}",
            )


def _identity(name: str, metadata: dict[str, str]) -> Identity:
    """The file's name says who it is, unless its metadata do."""
    user_id = metadata.get("user_id", name.removesuffix(PUBLIC))
    role = metadata.get("role")
    return identity_of(user_id, role)


def identity_of(user_id: str, role: str | None) -> Identity:
    """Return an Identity that libzmq can carry. Raises ValueError, as the end of a sentence."""
    for what, text in (("user_id", user_id), ("role", role)):
        if text is not None and (not text or len(text.encode()) > 255 or not text.isprintable()):
            raise ValueError(f"its {what} must be a printable text of 1 to 255 bytes")
    return Identity(user_id, role)
