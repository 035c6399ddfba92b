"""Key files: who can read them, what they say, and that other programs understand them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zmq
import zmq.auth

from green_router.errors import ConfigError
from green_router.security.certificates import Certificate, exposure, make_pairs, read

PUBLIC, SECRET = zmq.curve_keypair()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)  # nothing is left to the umask
    try:
        paths = list(map(Path, make_pairs(str(tmp_path / "keys"), ["server"], {})))
    finally:
        os.umask(before)
    assert [(path.name, mode(path)) for path in paths] == [
        ("server.key", 0o644),
        ("server.key_secret", 0o600),
    ]
    assert mode(tmp_path / "keys") == 0o700
    assert exposure(str(paths[1])) is None
    paths[1].chmod(0o640)
    assert "chmod 0600" in str(exposure(str(paths[1])))


def test_pyzmq_reads_what_is_made_and_the_reverse(tmp_path: Path) -> None:
    _, path = make_pairs(str(tmp_path), ["alice"], {"role": "admin # of all"})
    ours = read(path)
    assert ours.secret is not None
    assert zmq.auth.load_certificate(path) == (ours.public, ours.secret.reveal())
    assert list(zmq.auth.load_certificates(tmp_path)) == [ours.public]
    assert ours.metadata == {"role": "admin # of all"}
    _, theirs = zmq.auth.create_certificates(tmp_path, "bob", {"role": "guest"})
    certificate = read(str(theirs))
    assert certificate.secret is not None
    assert (certificate.public, certificate.secret.reveal()) == zmq.auth.load_certificate(theirs)
    assert certificate.metadata == {"role": "guest"}


def test_nothing_is_overwritten_and_nothing_half_is_left(tmp_path: Path) -> None:
    (tmp_path / "client.key_secret").write_text("mine")
    with pytest.raises(ConfigError, match=r"client\.key_secret, which exists"):
        make_pairs(str(tmp_path), ["server", "client"], {})
    assert [path.name for path in tmp_path.iterdir()] == ["client.key_secret"]
    assert (tmp_path / "client.key_secret").read_text() == "mine"


@pytest.mark.parametrize(
    ("names", "metadata"),
    [
        (["../x"], {}),
        ([""], {}),
        (["x.key"], {}),
        (["x"], {"a b": "c"}),
        (["x"], {"a": 'b"'}),
        (["x"], {"a": "b\nc"}),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, names: list[str], metadata: dict[str, str]
) -> None:
    with pytest.raises(ConfigError):
        make_pairs(str(tmp_path), names, metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('curve\n    public-key = "abc"\n', "line 2 has no public-key"),
        (f'curve\n    public-key = "{PUBLIC.decode()[:-1]} "\n', "line 2 has no public-key"),
        (
            f'curve\n    public-key = "{PUBLIC.decode()}"\n    public-key = "{PUBLIC.decode()}"\n',
            "line 3 is a second",
        ),
        (
            (
                f'curve\n    public-key = "{zmq.curve_keypair()[0].decode()}"\n    secret-key = '
                f'"{SECRET.decode()}"\n'
            ),
            "not that of",
        ),
        ("}{\n", "line 1 is not"),
    ],
)
def test_a_broken_file_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        Certificate(text)
    assert PUBLIC.decode() not in str(caught.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * 100_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("fifo", "large", "binary", "absent", "."):
        with pytest.raises(ValueError, match="it "):
            read(str(tmp_path / name))
