"""What a soak is made of beside its long-lived server: what is counted, clients, and what comes and
goes under load.

Rules of this file
  1. A part is called again and again in a thread, with a Soak and what is random; when it returns,
     all that it started has ended.
  2. What is wrong it raises as AssertionError, in words that name the numbers; what it has seen it
     counts.
  3. A client that has died is told as that: with its exit code and what it said.
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from command_line import CommandLine
from processes_apart import ANY_PORT, LIMIT_SECONDS, PROGRAMS, Program, ServerProcess, until

from green_router.processes.control import ask
from green_router.testing import PATIENCE

LAST_WORDS = 300
"""So many characters of what a dead client said are told."""


class Tally:
    """Counts by name. **Thread-safe.**"""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self.counts[name] += number

    def add_fates(self, whose: str, stats: dict[str, Any]) -> None:
        """What a server has done in its life."""
        self.add(f"{whose}: received", stats["received"])
        for name, number in (stats["fates"] | stats["events"]).items():
            if number:
                self.add(f"{whose}: {name}", number)


class Seen(Protocol):
    """What the parts need of the Soak."""

    directory: str
    tally: Tally

    def left(self) -> float:
        """Seconds to the end."""


class Client(Program):
    """A program of tests/programs that asks. Its standard error is kept."""

    def __init__(self, directory: str, name: str, *arguments: object) -> None:
        handle, path = tempfile.mkstemp(prefix=name, dir=directory)
        os.close(handle)
        self._name, self._said = name, Path(path)
        super().__init__(name, *arguments, before=("sh", "-c", 'exec "$@" 2>"$0"', path))

    def line(self) -> str:
        """The next line that it prints. **Blocks.** Raises AssertionError if it has ended
        instead."""
        if text := super().line():
            return text
        raise AssertionError(
            f"{self._name} has ended with {self.ends()}: "
            f"...{self._said.read_text()[-LAST_WORDS:].strip()!r}"
        )

    def say(self, text: object) -> None:
        with suppress(BrokenPipeError):  # it has died: line() tells
            super().say(text)

    def close(self) -> None:
        super().close()
        self._said.unlink(missing_ok=True)


@contextmanager
def client(soak: Seen, name: str, *arguments: object) -> Iterator[Client]:
    """A client, which ends with the block: by SIGKILL, if it has not ended."""
    one = Client(soak.directory, name, *arguments)
    try:
        yield one
    finally:
        one.close()


# -- a server that is stopped under load -----------------------------------------------------------


def restart(soak: Seen, pick: random.Random) -> None:
    """A server with random settings, which SIGTERM ends while clients ask: each request that it
    took has its reply."""
    settings = {
        "overload": pick.choice(["pause", "refuse"]),
        "busy_reply": "busy",
        "max_in_flight": pick.choice([5, 100, 10_000]),
        "max_in_flight_per_peer": pick.choice([3, 1000]),
        "duplicate_routing_id": pick.choice(["handover", "reject"]),
        "send_high_water_mark": pick.choice([1, 1000]),
        "grace": 10.0 * PATIENCE,
        "linger": 10.0 * PATIENCE,
    }
    with tempfile.TemporaryDirectory(dir=soak.directory) as directory:
        path = Path(directory) / "s"
        server = ServerProcess(pick.choice([ANY_PORT, f"ipc://{path}"]), **settings)
        try:
            final = _stop_under_load(soak, pick, server, settings)
        finally:
            server.close()
        assert not path.exists(), f"left behind: {path}"
    soak.tally.add("servers that were stopped under load")
    soak.tally.add_fates("servers that were stopped", final)


def _stop_under_load(
    soak: Seen, pick: random.Random, server: ServerProcess, settings: dict[str, Any]
) -> dict[str, Any]:
    words = pick.choice(["echo", "sleep 0.05", "future 0.02", "later 0.05"])
    clients, rate, twins = pick.choice([1, 5, 20]), pick.choice([100, 300]), pick.random() < 0.3
    with client(soak, "load.py", server.endpoint, clients, rate, *words.split()) as load:
        load.line()
        load.say("on")
        if twins:
            _ask_as_twins(soak, pick, server)
        time.sleep(min(pick.uniform(0.2, 2.0), max(0.2, soak.left())))
        final = server.stop()  # its accounts balance, or this raises
        taken = final["fates"]["answered"] + final["fates"]["refused"]
        load.say(0 if twins else taken)
        result = load.next()
    came = result["received"] + result["refused"]
    told = f"stopped under load, {settings}, {words}: {result}, {final['fates']}"
    assert final["in_flight"] + final["waiting"] + final["fates"]["abandoned"] == 0, told
    assert twins or came == taken == final["received"], told
    assert (
        settings["overload"] == "refuse"
        or settings["max_in_flight_per_peer"] == 3
        or not result["refused"]
    ), told
    return final


def _ask_as_twins(soak: Seen, pick: random.Random, server: ServerProcess) -> None:
    """Two programs whose clients have the same routing ids, one after the other."""
    for _ in range(2):
        with client(
            soak, "asker.py", server.endpoint, pick.randint(1, 5), 20, "twin", 0, "sleep", "0.02"
        ) as asker:
            asker.line()
            time.sleep(pick.uniform(0, 0.2))
    soak.tally.add("clients with the same routing id")


# -- a service with workers ------------------------------------------------------------------------


def workers(soak: Seen, pick: random.Random) -> None:
    """``green-router serve --workers 2`` whose workers are killed, replaced, added and taken away
    while clients ask.

    With front, and requests that are given to another worker, no client notices anything. With
    direct, they may.
    """
    dispatch = pick.choice(["front", "front", "front", "direct"])
    options = ["--retry-lost", "5"] if dispatch == "front" else []
    with tempfile.TemporaryDirectory(dir=soak.directory) as directory:
        line = CommandLine(Path(directory))
        line.env |= {"XDG_RUNTIME_DIR": directory}
        running = line.start(
            "serve",
            f"{PROGRAMS}/obedient_server.py:handle",
            "--bind",
            ANY_PORT,
            "--workers",
            "2",
            "--dispatch",
            dispatch,
            "--worker-window",
            "32",
            "--log-level",
            "warning",
            *options,
        )
        try:
            service = Service(line, running.process.pid)
            _disturb_under_load(soak, pick, service, running.endpoint(), dispatch)
            pids = [row["pid"] for row in service.stats()["workers"]]
            os.kill(service.pid, signal.SIGTERM)
            code = running.ends()
            assert code == 0, f"a service has ended with {code}: {running.err.rest()[-5:]}"
            assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], (
                f"workers are left of {pids}"
            )
        finally:
            line.close()
    soak.tally.add("services with workers")


class Service:
    """A service with workers that runs; asked by its control socket, and by the command."""

    def __init__(self, line: CommandLine, pid: int) -> None:
        self._line, self.pid = line, pid
        self._path = str(line.directory / "green-router" / f"{pid}.sock")

    def stats(self) -> dict[str, Any]:
        answer: dict[str, Any] = ask(self._path, "stats")
        return answer

    def told(self) -> dict[str, Any]:
        """By ``green-router stats --json``."""
        done = self._line.run("stats", "--json", str(self.pid))
        assert done.returncode == 0, f"stats has ended with {done.returncode}: {done.stderr!r}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def ready(self, count: int, but: set[int]) -> set[int]:
        """The pids of the workers, once there are just so many, all ready and none of these.
        **Blocks.**"""

        def look() -> set[int]:
            rows = self.stats()["workers"]
            pids = {row["pid"] for row in rows if row["state"] == "ready"}
            return pids if len(pids) == len(rows) == count and not pids & but else set()

        found: set[int] = until(look, LIMIT_SECONDS)
        return found


def _disturb_under_load(
    soak: Seen, pick: random.Random, service: Service, endpoint: str, dispatch: str
) -> None:
    clients, rate, words = (
        pick.choice([2, 20]),
        pick.choice([50, 200]),
        pick.choice(["echo", "sleep 0.05", "later 0.05"]),
    )
    done: list[str] = []
    count, pids = 2, service.ready(2, set())
    with client(soak, "load.py", endpoint, clients, rate, *words.split()) as load:
        load.line()
        load.say("on")
        for _ in range(pick.randint(1, 4)):
            time.sleep(pick.uniform(0.1, 1.0))
            if soak.left() < 0 and done:
                break
            done.append(
                pick.choice(
                    [
                        "kill",
                        "kill",
                        "HUP",
                        "TTIN" if count < 3 else "TTOU",
                        "TTOU" if count > 1 else "TTIN",
                    ]
                )
            )
            if done[-1] == "kill":
                gone = {pick.choice(sorted(pids))}
                os.kill(min(gone), signal.SIGKILL)
            else:
                gone = pids if done[-1] == "HUP" else set()
                os.kill(service.pid, signal.Signals[f"SIG{done[-1]}"])
            count += {"TTIN": 1, "TTOU": -1}.get(done[-1], 0)
            pids = service.ready(count, gone)
            soak.tally.add(f"to services with workers: {done[-1]}")
        load.say("end" if dispatch == "front" else 0)
        result = load.next()
    until(
        lambda: not any(service.stats()["sum"][name] for name in ("in_flight", "waiting")),
        LIMIT_SECONDS,
    )
    total = service.told()["sum"]
    soak.tally.add_fates("services with workers", total)
    told = f"workers, {dispatch}, {done}, {words}: {result}, {total}"
    # With direct a request can still come, of a client that has gone: the load did not wait for all
    # of its replies.
    assert (
        total["received"] == sum(total["fates"].values()) + total["in_flight"] + total["waiting"]
    ), told
    if dispatch == "front":
        assert (
            result["sent"] == result["received"] == total["received"] == total["fates"]["answered"]
        ), told
        assert (
            result["disconnected"] == 0 and total["events"]["lost"] == total["events"]["retried"]
        ), told
