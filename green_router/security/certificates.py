"""CURVE key pairs as files, in the format that pyzmq and czmq read and write.

Rules of this file
  1. A secret file has mode 0600 from the moment it exists; no file is ever overwritten, and where
     one of several cannot be made, none is left.
  2. What is read is checked whole: a key that is not one, a file that has none, gets an error with
     its name.
  3. No error, repr or log line has a key in it.

Source: RFC 4 (ZPL), zmq_curve(7).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress

import zmq

from ..errors import ConfigError
from ..settings.secret_key import KEY_CHARACTERS, SecretKey, as_z85

PUBLIC, SECRET = ".key", ".key_secret"
"""What the names of the files end with. pyzmq loads only ``*.key`` from a directory."""

MOST_BYTES = 65_536
"""The largest file that is read: a certificate has a few hundred bytes, and the name may be that of
anything."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")

_LINE = re.compile(
    r"""
    (?P<indent>\s*)
    (?P<name>[A-Za-z0-9$\-_@.&+/]+) \s*
    (?: = \s* (?P<value> "[^"]*" | '[^']*' | [^"'\#\s][^\#]* ) )? \s*
    (?: \#.* )?""",
    re.VERBOSE,
)


def make_pairs(directory: str, names: list[str], metadata: Mapping[str, str]) -> list[str]:
    """Make a key pair for each name: NAME.key, and NAME.key_secret with both keys.

    Args:
        directory: made, for its owner alone, where there is none.
        names: of the pairs.
        metadata: written into each file.
    Returns:
        The paths, in the order of the names, the public file first.
    Raises:
        ConfigError: a name or metadata that cannot be written, a file that exists, a directory that
            cannot be written to; none of the files is left.
    """
    for name in names:
        if not _NAME.fullmatch(name) or name.endswith((PUBLIC, SECRET)):
            raise ConfigError(
                "NAME", name, "letters, digits and . _ @ + -, without the ending of a file"
            )
    for key, value in metadata.items():
        if not _NAME.fullmatch(key) or '"' in value or not value.isprintable():
            raise ConfigError(
                "metadata",
                f"{key}={value}",
                "name=value, without double quotes and line breaks in the value",
            )
    if not zmq.has("curve"):
        raise ConfigError(
            "DIR", directory, "left alone: this libzmq has no CURVE (zmq.has('curve') is false)"
        )
    made: list[str] = []
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for name in names:
            public, secret = zmq.curve_keypair()
            path = os.path.join(directory, name)
            _write(path + PUBLIC, 0o644, _text("Public", metadata, public, None), made)
            _write(path + SECRET, 0o600, _text("Secret", metadata, public, secret), made)
    except BaseException as error:
        for path in made:
            with suppress(OSError):
                os.unlink(path)
        if isinstance(error, FileExistsError):
            raise ConfigError(
                "DIR",
                directory,
                f"without {os.path.basename(error.filename)}, which exists: nothing is "
                "overwritten; remove it, or choose another name or directory",
            ) from None
        if isinstance(error, OSError):
            raise ConfigError(
                "DIR", directory, f"a directory that can be written to ({error.strerror})"
            ) from None
        raise
    return made


def _text(kind: str, metadata: Mapping[str, str], public: bytes, secret: bytes | None) -> str:
    warning = (
        "#   Keep it secret: whoever has it can pass for its owner."
        if secret
        else "#   It is no secret, but whoever can change it decides who is let in."
    )
    lines = [f"#   ZeroMQ CURVE {kind} Certificate", warning, "", "metadata"]
    lines += [f'    {name} = "{value}"' for name, value in metadata.items()]
    lines += ["curve", f'    public-key = "{public.decode()}"']
    if secret is not None:
        lines.append(f'    secret-key = "{secret.decode()}"')
    return "".join(f"{line}\n" for line in lines)


def _write(path: str, mode: int, text: str, made: list[str]) -> None:
    descriptor = os.open(
        path,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0),
        mode,
    )
    made.append(path)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


class Certificate:
    """The contents of a key file.

    Args:
        text: the whole of it.
    Raises:
        ValueError: what is wrong, as the end of a sentence, without a key.
    Attributes:
        public: the public key, 40 Z85 characters, or None.
        secret: the SecretKey, or None.
        metadata: names and values.
    """

    __slots__ = ("metadata", "public", "secret")

    def __init__(self, text: str) -> None:
        self.metadata: dict[str, str] = {}
        self.public: bytes | None = None
        self.secret: SecretKey | None = None
        section = ""
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = _LINE.fullmatch(line)
            if found is None:
                raise ValueError(f"line {number} is not 'name = \"value\"'")
            name, value = found["name"], found["value"]
            if not found["indent"]:
                section = name
            if value is None:
                continue
            value = value.strip()
            value = value[1:-1] if value[0] in "\"'" else value
            if section == "metadata" and found["indent"]:
                self.metadata[name] = value
            elif section == "curve" and name in ("public-key", "secret-key"):
                self._take(name, value, number)
        self._check_pair()

    def _check_pair(self) -> None:
        if self.secret is not None and self.public not in (None, self.secret.public):
            raise ValueError("its public key is not that of its secret key")

    def _take(self, name: str, value: str, number: int) -> None:
        if getattr(self, name.partition("-")[0]) is not None:
            raise ValueError(f"line {number} is a second {name}")
        try:
            if name == "public-key":
                self.public = as_z85(value)
            else:
                self.secret = SecretKey(value)
        except ValueError:
            raise ValueError(
                f"line {number} has no {name} of {KEY_CHARACTERS} Z85 characters"
            ) from None

    def __repr__(self) -> str:
        return f"<Certificate with {'a secret and ' if self.secret else ''}a public key>"


def read(path: str) -> Certificate:
    """Read a key file.

    Raises:
        ValueError: it cannot be read, or is none; the text is the end of a sentence, without a key.
    """
    try:
        # A FIFO of that name would wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("it is no file")
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    if len(data) > MOST_BYTES:
        raise ValueError("it is too large for a key file")
    try:
        return Certificate(data.decode())
    except UnicodeDecodeError:
        raise ValueError("it is no text") from None


def secret_key(setting: str, given: str | SecretKey) -> SecretKey:
    """Return the secret key that a setting gives, by itself or in a file. Raises ConfigError."""
    if isinstance(given, SecretKey):
        return given
    try:
        secret = read(given).secret
        if secret is None:
            raise ValueError("it has no secret key")
    except ValueError as error:
        raise ConfigError(setting, given, f"a secret key file: {error}") from None
    return secret


def exposure(path: str) -> str | None:
    """Return what is wrong with the mode of a secret file, as the end of a sentence, or None.

    It is no error: Kubernetes mounts secrets as links to files of other modes.
    """
    with suppress(OSError):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & 0o077:
            return f"others can reach it (mode {mode:04o}); chmod 0600 {path}"
    return None
