"""The supervisor as its operator knows it: signals, deaths, blocked loops, reloads, settings,
statistics, logs."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Callable

import pytest
import zmq
from command_line import CommandLine

from ..conftest import ANY_PORT, DISPATCH, PID, Service, alive, balanced, ready, workers_of

BLOCKS = """
import os, time
def handle_request(request):
    if request.data == b"pid":
        return b"%d" % os.getpid()
    until = time.monotonic() + 60
    while time.monotonic() < until: pass
"""

VERSION = "def handle_request(request):\n    return b'{}'\n"


@DISPATCH
def test_a_dead_worker_is_replaced(service: Callable[..., Service], dispatch: str) -> None:
    server = service(PID, "--workers", "2", "--dispatch", dispatch)
    first = frozenset(server.workers())
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    server.running.err.until(f"[{victim}] was killed by SIGKILL; the next starts in 0.1 s")
    stats = server.wait_for(ready(2, frozenset([victim])))
    assert [row["deaths"] for row in stats["workers"]].count(1) == 1
    assert int(server.ask(b"")) in server.workers()
    log = server.stop()
    assert not any("ERROR" in line for line in log if str(victim) not in line)


@DISPATCH
def test_pauses_double(service: Callable[..., Service], dispatch: str) -> None:
    server = service(
        """
import os, threading, time
if os.path.exists("die"):
    threading.Thread(target=lambda: (time.sleep(0.001), os._exit(7)), daemon=True).start()
def handle_request(request):
    return b""
""",
        "--workers",
        "1",
        "--dispatch",
        dispatch,
    )
    server.line.write("die", "")
    os.kill(server.workers()[0], signal.SIGKILL)
    for pause in ("0.1", "0.2", "0.4", "0.8"):
        server.running.err.until(f"; the next starts in {pause} s")


@DISPATCH
def test_hup_reloads(service: Callable[..., Service], dispatch: str) -> None:
    server = service(VERSION.format(1), "--workers", "2", "--dispatch", dispatch)
    first = frozenset(server.workers())
    assert server.ask(b"") == b"1"
    server.line.write("app.py", VERSION.format(2))
    server.signal(signal.SIGHUP)
    server.wait_for(ready(2, first))
    assert server.ask(b"") == b"2"
    assert not any(map(alive, first))


@DISPATCH
def test_a_reload_that_fails_leaves_the_old_ones(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(PID, "--workers", "2", "--dispatch", dispatch)
    first = sorted(server.workers())
    server.line.write("app.py", "raise RuntimeError('no database')")
    server.signal(signal.SIGHUP)
    server.running.err.until("did not boot: app was found, but is broken inside")
    assert sorted(server.wait_for(ready(2))["workers"][slot]["pid"] for slot in (0, 1)) == first
    assert int(server.ask(b"")) in first
    server.line.write("app.py", PID)
    server.signal(signal.SIGHUP)
    server.wait_for(ready(2, frozenset(first)))


@DISPATCH
def test_ttin_and_ttou(service: Callable[..., Service], dispatch: str) -> None:
    server = service(PID, "--workers", "1", "--dispatch", dispatch)
    server.signal(signal.SIGTTIN)
    server.wait_for(ready(2))
    clients = [server.client() for _ in range(20)]
    for client in clients:
        client.send(b"")
    for client in clients:
        client.recv()
    server.signal(signal.SIGTTOU)
    # Also what the one that went has counted.
    assert server.wait_for(ready(1))["sum"]["fates"]["answered"] == 20
    server.signal(signal.SIGTTOU)
    server.running.err.until("one worker fewer")
    server.running.err.until("one worker fewer")
    assert len(server.workers()) == 1
    server.ask(b"")
    server.stop()


@DISPATCH
def test_a_blocked_worker_is_named_and_replaced(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(BLOCKS, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", "0.6")
    pid = server.workers()[0]
    server.client(zmq.DEALER).send_multipart([b"", b"block"])
    server.running.err.until(f"[{pid}]: its loop has been blocked for 0.6 s")
    # The stack comes by way of the worker's standard error, the cause from the supervisor: in
    # either order.
    cause, stack = (
        f"[{pid}] had blocked its loop for 0.6 s and was killed by SIGABRT",
        'app.py", line 7 in handle_request',
    )
    first = server.running.err.until(cause, stack)
    server.running.err.until(stack if cause in first else cause)
    assert int(server.ask(b"pid")) != pid


@DISPATCH
def test_statistics_while_every_loop_is_blocked(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(BLOCKS, "--workers", "1", "--dispatch", dispatch)
    assert int(server.ask(b"pid")) == server.workers()[0]
    server.client(zmq.DEALER).send_multipart([b"", b"block"])
    stats = server.wait_for(lambda stats: not stats["workers"][0]["answers"])
    assert stats["sum"]["received"] >= 1
    assert stats["workers"][0]["silent"] > 0
    done = server.line.run("stats", str(server.pid))
    assert b"blocked for" in done.stdout
    assert json.loads(server.line.run("stats", "--json").stdout)["pid"] == server.pid
    server.signal(signal.SIGTERM)
    server.running.err.until("draining")
    server.signal(signal.SIGTERM)
    assert server.running.ends() == 0


def test_a_blocked_worker_is_shown_beside_one_that_is_not(service: Callable[..., Service]) -> None:
    server = service(BLOCKS, "--workers", "2")
    server.client(zmq.DEALER).send_multipart([b"", b"block"])
    stats = server.wait_for(
        lambda stats: {row["answers"] for row in stats["workers"]} == {True, False}
    )
    free = next(row["pid"] for row in stats["workers"] if row["answers"])
    assert int(server.ask(b"pid")) == free
    lines = server.line.run("stats", str(server.pid)).stdout.decode().splitlines()
    assert lines[0].startswith(f"{server.endpoint}  dispatch front, pid {server.pid}, serving for ")
    table = {
        line.split()[1]: line.split()
        for line in lines[1:]
        if str(server.pid) in line or " ready " in line
    }
    assert table[str(server.pid)][:6] == ["sum", str(server.pid), "serving", "2", "1", "0"]
    assert table[str(free)][2:] == ["ready", "1", "0", "0", "turns"]
    (blocked,) = table.keys() - {str(server.pid), str(free)}
    assert table[blocked][2:8] == ["ready", "1", "1", "0", "blocked", "for"]
    assert ["answered", "1"] in [line.split() for line in lines]
    os.kill(server.pid, signal.SIGKILL)


@DISPATCH
def test_workers_are_recycled_and_what_they_counted_stays(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(PID, "--workers", "1", "--dispatch", dispatch, "--max-requests", "10")
    seen: set[int] = set()
    for _ in range(4):
        # none while a worker is replaced: direct promises nothing to who does not ask again
        for _ in range(11 if dispatch == "front" else 10):
            seen.add(int(server.ask(b"")))
        server.wait_for(ready(1, frozenset(seen)))
    assert len(seen) == 4
    server.ask(b"")
    stats = server.wait_for(ready(1))
    assert (
        stats["sum"]["received"]
        == stats["sum"]["fates"]["answered"]
        == (45 if dispatch == "front" else 41)
    )
    assert sum(row["stats"]["received"] for row in stats["workers"]) == stats["sum"]["received"]
    assert stats["workers"][0]["deaths"] == 0
    assert balanced(stats)


@pytest.mark.parametrize(
    ("dispatch", "number"),
    [("front", signal.SIGTERM), ("direct", signal.SIGTERM), ("front", signal.SIGINT)],
)
def test_the_first_signal_finishes_what_was_begun(
    service: Callable[..., Service], dispatch: str, number: int
) -> None:
    server = service(
        """
import os, gevent
def handle_request(request):
    os.write(1, b"taken\\n")
    gevent.sleep(0.5)
    return request.data
""",
        "--workers",
        "2",
        "--dispatch",
        dispatch,
    )
    clients = [server.client() for _ in range(4)]
    for client in clients:
        client.send(b"finished")
    for _ in clients:
        server.running.out.until("taken")
    server.stop(number)
    assert [client.recv() for client in clients] == [b"finished"] * 4


@DISPATCH
def test_a_second_signal_ends_it_at_once(service: Callable[..., Service], dispatch: str) -> None:
    server = service(
        """
import os, gevent
def handle_request(request):
    os.write(1, b"taken\\n")
    gevent.sleep(3600)
""",
        "--workers",
        "2",
        "--dispatch",
        dispatch,
        "--grace",
        "3600",
    )
    server.client().send(b"")
    server.running.out.until("taken")
    pids = workers_of(server.pid)
    server.signal(signal.SIGTERM)
    server.running.err.until("draining")
    server.signal(signal.SIGINT)
    assert server.running.ends() == 0
    assert not any(map(alive, pids))


@DISPATCH
def test_nothing_leaks(service: Callable[..., Service], dispatch: str) -> None:
    server = service(PID, "--workers", "2", "--dispatch", dispatch)
    server.wait_for(ready(2))

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{server.pid}/fd"))

    for _ in range(2):  # the first round opens what stays
        before = descriptors()
        for _ in range(3):
            first = frozenset(server.workers())
            server.signal(signal.SIGHUP)
            server.wait_for(ready(2, first))
        os.kill(min(server.workers()), signal.SIGKILL)
        server.running.err.until("the next starts")
        server.wait_for(ready(2))
    assert descriptors() <= before
    assert len(workers_of(server.pid)) == 2
    server.stop()


def test_the_control_socket_is_for_its_owner(service: Callable[..., Service]) -> None:
    server = service(PID, "--workers", "1")
    directory = server.line.directory / "green-router"
    (path,) = directory.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    server.stop()
    assert not path.exists()


def test_logs_as_json_in_a_file_that_is_opened_again(service: Callable[..., Service]) -> None:
    server = service(
        """
import logging
def handle_request(request):
    logging.getLogger("app").warning("asked for %s", request.data.decode())
    raise ValueError("broken")
""",
        "--workers",
        "1",
        "--log-format",
        "json",
        "--log-file",
        "log",
    )
    path = server.line.directory / "log"
    pid = server.workers()[0]
    server.client().send(b"one")
    server.wait_for(lambda stats: stats["sum"]["fates"]["failed"] == 1)
    path.rename(server.line.directory / "log.1")
    server.signal(signal.SIGUSR1)
    server.wait_for(lambda stats: path.exists())
    server.client().send(b"two")
    server.wait_for(lambda stats: stats["sum"]["fates"]["failed"] == 2)
    server.stop()
    old, new = (
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (server.line.directory / "log.1", path)
    )
    asked = next(line for line in old if line["logger"] == "app")
    assert (asked["message"], asked["level"], asked["worker"], asked["pid"]) == (
        "asked for one",
        "warning",
        1,
        pid,
    )
    assert any("ValueError: broken" in line.get("exception", "") for line in old)
    assert "asked for two" in [line["message"] for line in new]
    assert {line["pid"] for line in new} == {pid, server.pid}


LOGS = """
import logging
def handle_request(request):
    logging.getLogger('app').warning('asked')
    return b''
"""


@DISPATCH
def test_text_logs_name_the_process(service: Callable[..., Service], dispatch: str) -> None:
    server = service(LOGS, "--workers", "1", "--dispatch", dispatch)
    (pid,) = server.workers()
    server.ask(b"")
    log = server.stop()
    assert any(
        f" supervisor [{server.pid}] INFO green_router.supervisor: worker 1 [{pid}]: ready" in line
        for line in log
    )
    assert any(f" worker 1 [{pid}] WARNING app: asked" in line for line in log)


@DISPATCH
def test_json_logs_on_standard_error(service: Callable[..., Service], dispatch: str) -> None:
    """Every line of every process."""
    server = service(LOGS, "--workers", "2", "--dispatch", dispatch, "--log-format", "json")
    pids = server.workers()
    server.ask(b"")
    log = [json.loads(line) for line in server.stop()]
    (asked,) = [line for line in log if line["logger"] == "app"]
    assert (asked["message"], asked["pid"]) == ("asked", pids[asked["worker"] - 1])
    assert {line["pid"] for line in log} <= {server.pid, *pids}
    assert not [line for line in log if line["pid"] == server.pid and "worker" in line]


def test_it_tells_systemd(command_line: CommandLine) -> None:
    command_line.write("app.py", PID)
    path = command_line.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(30)
        command_line.env["NOTIFY_SOCKET"] = str(path)
        running = command_line.start(
            "serve", "app:handle_request", "--bind", ANY_PORT, "--workers", "1"
        )
        assert heard.recv(1000).startswith(b"READY=1\nSTATUS=1 workers serve tcp://127.0.0.1:")
        running.process.send_signal(signal.SIGHUP)
        assert heard.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert heard.recv(1000).startswith(b"READY=1")
        running.process.terminate()
        assert heard.recv(1000).startswith(b"STOPPING=1")
        assert running.ends() == 0


def test_settings_come_from_three_places(
    command_line: CommandLine, service: Callable[..., Service]
) -> None:
    """The file alone says four, of which each has an effect; of the others, the first that says
    something holds."""
    command_line.write(
        "service.toml",
        """
workers = 1
worker_window = 5
grace = 0.4
dispatch = "direct"
max-message-bytes = "1KiB"
log_level = "error"
""",
    )
    command_line.env |= {
        "GREEN_ROUTER_WORKERS": "2",
        "GREEN_ROUTER_DISPATCH": "front",
        "GREEN_ROUTER_LOG_LEVEL": "info",
    }
    server = service(
        """
import gevent
def handle_request(request):
    if request.data == b"wait":
        gevent.sleep(3600)
    return request.data
""",
        "--config",
        "service.toml",
        "--workers",
        "3",
    )
    stats = server.stats()
    assert (stats["wanted"], stats["dispatch"]) == (3, "front")
    dealer = server.client(zmq.DEALER)
    for _ in range(20):
        dealer.send_multipart([b"", b"wait"])
    stats = server.wait_for(lambda stats: stats["sum"]["in_flight"] + stats["sum"]["waiting"] == 20)
    assert [row["stats"]["in_flight"] for row in stats["workers"]] == [5, 5, 5]
    large = server.client(zmq.DEALER)
    large.send_multipart([b"", b"x" * 600, b"x" * 600])
    server.wait_for(lambda stats: stats["sum"]["fates"]["malformed"] == 1)
    lines = server.stop()
    assert any("abandoned 20 requests of " in line and " after 0.4" in line for line in lines), (
        lines
    )


def test_a_port_in_use(command_line: CommandLine) -> None:
    command_line.write("app.py", PID)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        for dispatch in ("front", "direct"):
            done = command_line.run(
                "serve",
                "app:handle_request",
                "--bind",
                endpoint,
                "--workers",
                "2",
                "--dispatch",
                dispatch,
            )
            assert (done.returncode, done.stdout) == (3, b"")
            assert f"Error: cannot bind {endpoint}: the address is in use" in done.stderr.decode()


def test_the_table_of_settings(command_line: CommandLine) -> None:
    for option in ([], ["--markdown"]):
        text = command_line.run("settings", *option).stdout.decode()
        for name in ("worker_window", "envelope", "log_format", "grace"):
            assert name in text


@DISPATCH
def test_a_handler_that_leaves_ends_its_worker_alone(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(
        """
def handle_request(request):
    if request.data == b"leave":
        raise SystemExit(5)
    return request.data
""",
        "--workers",
        "1",
        "--dispatch",
        dispatch,
    )
    server.client(zmq.DEALER).send_multipart([b"", b"leave"])
    server.running.err.until("ended with exit code 5")
    server.wait_for(ready(1))
    assert server.ask(b"x") == b"x"


def test_a_handler_that_blocks_a_worker_is_named(service: Callable[..., Service]) -> None:
    server = service(
        """
import time
def handle_request(request):
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        pass
    return b"done"
""",
        "--workers",
        "1",
        "--block-warning",
        "0.1",
    )
    assert server.ask(b"") == b"done"
    server.running.err.until("handle_request blocks the loop for more than 0.1 s")
