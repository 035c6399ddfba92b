"""Listening sockets of the supervisor: one a slot on one port, none that blocks, and a stranger's
port is refused."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from green_router import BindError
from green_router.sockets.listeners import Listeners


def test_every_slot_has_a_socket_on_the_one_port() -> None:
    made = Listeners(["tcp://127.0.0.1:0"], 10)
    (endpoint,) = made.endpoints
    first, second = made.of(1), made.of(2)
    assert [name for name, _ in first + second] == [endpoint] * 2
    assert first == made.of(1)
    assert first[0][1] != second[0][1]
    for _, descriptor in first + second:
        assert not os.get_blocking(descriptor)
        assert not os.get_inheritable(descriptor)
    made.release(2)
    made.close()


def test_a_place_that_was_closed_can_be_made_again() -> None:
    made = Listeners(["tcp://127.0.0.1:0"], 10)
    made.of(2)
    made.release(1)
    made.release(1)
    ((endpoint, descriptor),) = made.of(1)
    assert endpoint == made.endpoints[0]
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    made.close()


def test_a_place_that_cannot_be_made_is_not_made_by_half(open_files: Callable[[], int]) -> None:
    """A stranger has taken one of two ports meanwhile: the next try must not find the other one
    alone."""
    made = Listeners(["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"], 10)
    address = ("127.0.0.1", int(made.endpoints[1].rpartition(":")[2]))
    before = open_files()
    made.release(1)
    with socket.socket() as stranger:
        stranger.bind(address)
        stranger.listen(1)
        for _ in range(2):
            with pytest.raises(BindError, match="the address is in use"):
                made.of(1)
    assert len(made.of(1)) == 2
    assert open_files() == before
    made.close()


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("tcp://127.0.0.1", "the port is missing; write tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:70000", "'70000' is no port"),
        ("tcp://:5555", "the address is missing; write tcp://*:5555"),
        ("tcp://192.0.2.1:0", "this machine has no such address"),
        ("inproc://x", "need tcp://address:port or ipc://path"),
        ("ipc:///no/such/directory/s", "no such directory"),
    ],
)
def test_what_cannot_be_served(endpoint: str, words: str) -> None:
    with pytest.raises(BindError) as caught:
        Listeners(["tcp://127.0.0.1:0", endpoint], 10)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "served"),
    [
        ("tcp://lo:0", "tcp://127.0.0.1:"),
        ("tcp://localhost:*", "tcp://127.0.0.1:"),
        ("tcp://*:*", "tcp://0.0.0.0:"),
        ("tcp://[*]:*", "tcp://[::]:"),
        ("tcp://[::1]:0", "tcp://[::1]:"),
    ],
)
def test_an_address_is_that_of_libzmq(endpoint: str, served: str) -> None:
    if "localhost" in endpoint and zmq.zmq_version_info() < (4, 3, 5):
        pytest.skip("libzmq binds no host names before 4.3.5")
    made = Listeners([endpoint], 10)
    assert [name.rpartition(":")[0] + ":" for name in made.endpoints] == [served]
    assert [name for name, _ in made.of(2)] == [*made.endpoints]
    made.close()


def test_a_port_of_somebody_else_is_refused_even_if_he_would_share() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(BindError, match="the address is in use"):
            Listeners([f"tcp://127.0.0.1:{taken.getsockname()[1]}"], 10)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:{}", "ipc://{}/s", "ipc://@{}"])
def test_what_is_given_twice_is_refused(tmp_path: Path, endpoint: str) -> None:
    """And nobody is told to stop another process."""
    with socket.socket() as keeps:  # the port for this test; who may share it can have it too
        keeps.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeps.bind(("127.0.0.1", 0))
        endpoint = endpoint.format(
            keeps.getsockname()[1] if endpoint.startswith("tcp") else tmp_path
        )
        with pytest.raises(BindError, match="it is given twice; leave one out"):
            Listeners([endpoint, endpoint], 10)
        Listeners([endpoint], 10).close()


def test_a_path_is_shared_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made = Listeners([f"ipc://{path}"], 10)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert made.of(1) == made.of(2)
    with pytest.raises(BindError, match="another process serves this path"):
        Listeners([f"ipc://{path}"], 10)
    made.close()
    assert not path.exists()


def test_a_path_that_was_left_over_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    Listeners([f"ipc://{path}"], 10).close()


def test_a_path_that_has_become_somebody_elses_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    made = Listeners([f"ipc://{path}"], 10)
    path.unlink()
    path.write_text("")
    made.close()
    assert path.exists()
