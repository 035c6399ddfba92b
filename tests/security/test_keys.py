"""The directory of keys: read whole, and what is broken in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from green_router.errors import ConfigError
from green_router.security.certificates import make_pairs, read
from green_router.security.keys import Identity, KeyDirectory


def public(directory: Path, name: str, **metadata: str) -> bytes:
    path, secret = make_pairs(str(directory), [name], metadata)
    os.unlink(secret)
    key = read(path).public
    assert key is not None
    return key


def test_files_say_who_their_keys_are(tmp_path: Path) -> None:
    alice = public(tmp_path, "alice")
    bob = public(tmp_path, "bob", user_id="robert", role="admin")
    (tmp_path / "notes.txt").write_text("no key")
    directory = KeyDirectory(str(tmp_path))
    assert directory.load() == set()
    directory.check()
    assert directory.known == {alice: Identity("alice"), bob: Identity("robert", "admin")}


def test_who_is_removed_or_changed_is_told_of(tmp_path: Path) -> None:
    alice, bob, carol = (
        public(tmp_path, "alice"),
        public(tmp_path, "bob"),
        public(tmp_path, "carol"),
    )
    directory = KeyDirectory(str(tmp_path))
    directory.load()
    assert directory.load() == set()
    (tmp_path / "alice.key").unlink()
    text = (tmp_path / "bob.key").read_text()
    (tmp_path / "bob.key").write_text(text.replace("metadata\n", 'metadata\n    role = "guest"\n'))
    assert directory.load() == {alice, bob}
    assert directory.known == {bob: Identity("bob", "guest"), carol: Identity("carol")}


def test_a_broken_file_keeps_nobody_in_who_was_removed(tmp_path: Path) -> None:
    alice, bob, carol = (
        public(tmp_path, "alice"),
        public(tmp_path, "bob"),
        public(tmp_path, "carol"),
    )
    directory = KeyDirectory(str(tmp_path))
    directory.load()
    (tmp_path / "alice.key").unlink()
    (tmp_path / "bob.key").write_text('curve\n    public-key = "abc"\n')
    assert directory.load() == {alice, bob}
    assert list(directory.known) == [carol]
    with pytest.raises(ConfigError, match=r"bob\.key: line 2 has no public-key"):
        directory.check()


def test_the_same_key_twice_is_named(tmp_path: Path) -> None:
    alice = public(tmp_path, "alice")
    (tmp_path / "zoe.key").write_text((tmp_path / "alice.key").read_text())
    directory = KeyDirectory(str(tmp_path))
    directory.load()
    assert directory.known == {alice: Identity("alice")}
    assert len(directory.problems) == 1
    assert "zoe.key: it has the same key as alice.key" in directory.problems[0]


def test_a_directory_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    alice = public(keys, "alice")
    directory = KeyDirectory(str(keys))
    directory.load()
    keys.rename(tmp_path / "elsewhere")
    assert directory.load() == {alice}
    assert "no such directory" in directory.problems[0]


def test_a_link_is_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts secrets."""
    (tmp_path / "data").mkdir()
    (tmp_path / "keys").mkdir()
    alice = public(tmp_path / "data", "alice")
    (tmp_path / "keys" / "alice.key").symlink_to(tmp_path / "data" / "alice.key")
    directory = KeyDirectory(str(tmp_path / "keys"))
    directory.load()
    assert list(directory.known) == [alice]


def test_what_cannot_be_carried_is_named(tmp_path: Path) -> None:
    public(tmp_path, "alice", role="x" * 256)
    directory = KeyDirectory(str(tmp_path))
    directory.load()
    assert not directory.known
    assert "its role must be" in directory.problems[0]
