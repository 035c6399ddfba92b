"""examples/deploy under a real systemd: as the first process of namespaces of its own, with no unit
but those of the test.

Rules of this file
  1. Nothing outside the namespaces is touched but a control group, which goes with the test.
  2. It needs root, systemd, and the control groups of version 1 (name=systemd); elsewhere it skips,
     and says why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import LIMIT_SECONDS

import green_router

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
GROUPS = Path("/sys/fs/cgroup/systemd")
SYSTEMD = "/usr/lib/systemd/systemd"

TARGETS = (
    "sysinit",
    "basic",
    "sockets",
    "network-online",
    "network",
    "shutdown",
    "umount",
    "multi-user",
    "test",
)
"""What a unit depends on by default; here each is empty."""

PROGRAM = f"""#!/bin/sh
export LD_LIBRARY_PATH=/srv/python/lib PYTHONHOME=/srv/python
export PYTHONPATH=/srv/package:/srv/site PYTHONDONTWRITEBYTECODE=1
exec /srv/python/bin/python{sys.version_info[0]}.{sys.version_info[1]} \\
    -c 'from green_router.commands import main; main()' "$@"
"""
"""The unit hides homes and /tmp, where this Python may be: all that it needs is bound below
/srv."""

INSIDE = f"""
set -e
mount --make-rprivate /
for group in /sys/fs/cgroup/*; do umount $group 2>/dev/null || true; done
mount -t cgroup -o none,name=systemd cgroup {GROUPS}
mount --bind "$1/units" /usr/lib/systemd/system
mount -t tmpfs tmpfs /usr/lib/systemd/system-generators
mount -t tmpfs tmpfs /etc/systemd
mkdir -p /etc/systemd/system/green-router.service.d
printf "[Service]\\nStandardOutput=append:/run/log\\nStandardError=append:/run/log\\n" \\
    > /etc/systemd/system/green-router.service.d/log.conf
mount -t tmpfs tmpfs /srv
mkdir /srv/app /srv/python /srv/site /srv/package
mount --bind "$1/app" /srv/app
mount --bind {sys.base_prefix} /srv/python
mount --bind {sysconfig.get_path("platlib")} /srv/site
mount --bind {Path(green_router.__file__).parents[1]} /srv/package
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /run
exec env -i container=test PATH=/usr/bin:/bin {SYSTEMD} --system --unit=test.target \\
    --log-target=null --show-status=no
"""

Inside = Callable[..., str]


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    """``inside(program, *arguments)``: run it where systemd is; returns what it prints."""
    missing = [
        name for name in ("unshare", "nsenter", "systemctl", SYSTEMD) if shutil.which(name) is None
    ]
    if missing or os.getuid() != 0 or not os.access(GROUPS / "cgroup.procs", os.W_OK):
        pytest.skip(
            "no systemd of our own here: "
            f"{missing or 'needs root, and the control groups of version 1'}"
        )
    make_files(tmp_path)
    group = GROUPS / f"green-router-test-{os.getpid()}"
    group.mkdir()
    with subprocess.Popen(
        [
            "sh",
            "-c",
            f'echo $$ > {group}/cgroup.procs; exec "$@"',
            "sh",
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--mount-proc",
            "--uts",
            "--ipc",
            "--cgroup",
            "sh",
            "-c",
            INSIDE,
            "sh",
            str(tmp_path),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as outside:

        def run(*command: str) -> str:
            started = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
            if not started:
                return ""
            done = subprocess.run(
                ["nsenter", "--target", *started, "--mount", "--pid", *command],
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
                check=False,
            )
            return done.stdout if done.returncode == 0 else f"{done.stdout}{done.stderr}"

        try:
            wait_for(
                lambda: (
                    outside.poll() is not None
                    or run("systemctl", "is-active", "test.target") == "active\n"
                )
            )
            if outside.poll() is not None:
                assert outside.stderr is not None
                pytest.skip(f"it does not run here: {outside.stderr.read().decode()}")
            yield run
        finally:
            outside.kill()
            outside.wait()
            wait_for(lambda: not any(path.read_text() for path in group.rglob("cgroup.procs")))
            for path in sorted(group.rglob("*/"), reverse=True):
                if path.is_dir():
                    path.rmdir()
            group.rmdir()


def make_files(directory: Path) -> None:
    """The unit and the targets; the application and its settings, on a port that the system
    chooses."""
    units, app = directory / "units", directory / "app"
    units.mkdir()
    shutil.copy(DEPLOY / "green-router.service", units)
    socket = (DEPLOY / "green-router.socket").read_text()
    (units / "green-router.socket").write_text(socket.replace("=127.0.0.1:5555", "=/run/app.sock"))
    for target in TARGETS:
        (units / f"{target}.target").write_text(
            f"[Unit]\nDescription={target}\nDefaultDependencies=no\n"
        )
    (app / "venv" / "bin").mkdir(parents=True)
    settings = (DEPLOY / "service.toml").read_text()
    (app / "service.toml").write_text(settings.replace("tcp://127.0.0.1:5555", "tcp://127.0.0.1:0"))
    (app / "app.py").write_text("def handle_request(request):\n    return request.data.upper()\n")
    program = app / "venv" / "bin" / "green-router"
    program.write_text(PROGRAM)
    program.chmod(0o755)


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds."""
    until = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_unit_does_what_it_promises(inside: Inside) -> None:
    """It starts, is reloaded, survives signals to all of its processes, starts again when it was
    killed, and ends."""

    def shown(name: str) -> str:
        return inside("systemctl", "show", "--value", "--property", name, "green-router").strip()

    def stats() -> dict:
        answer: dict = json.loads(
            inside("/srv/app/venv/bin/green-router", "stats", "--json", "/run/green-router/control")
        )
        return answer

    def workers() -> set[int]:
        return {row["pid"] for row in stats()["workers"]}

    def answers() -> bool:
        (endpoint,) = stats()["endpoints"]
        return inside("/srv/app/venv/bin/green-router", "request", endpoint, "hello") == "HELLO"

    assert inside("systemctl", "start", "green-router") == "", inside("cat", "/run/log")
    assert (shown("ActiveState"), shown("SubState")) == ("active", "running")
    assert shown("StatusText").startswith("2 workers serve tcp://127.0.0.1:")
    assert answers()
    first = workers()
    assert len(first) == 2

    assert inside("systemctl", "reload", "green-router") == ""
    wait_for(lambda: shown("StatusText") == "reloaded" and len(workers()) == 2)
    second = workers()
    assert not first & second
    assert answers()

    assert inside("systemctl", "kill", "--signal=USR1", "green-router") == ""
    assert answers()
    assert workers() == second
    assert shown("NRestarts") == "0"

    main = shown("MainPID")
    assert inside("systemctl", "kill", "--kill-who=main", "--signal=KILL", "green-router") == ""
    wait_for(lambda: shown("MainPID") not in (main, "0") and shown("ActiveState") == "active")
    assert shown("NRestarts") == "1"
    assert answers()
    assert len(workers()) == 2

    assert inside("systemctl", "stop", "green-router") == ""
    assert (shown("ActiveState"), shown("Result"), shown("ExecMainStatus")) == (
        "inactive",
        "success",
        "0",
    )
    assert "green_router" not in inside("ps", "-eo", "args")


def test_a_wrong_setting_is_not_tried_again(inside: Inside) -> None:
    inside("sh", "-c", "echo 'workers = 0' >> /srv/app/service.toml")
    assert "failed" in inside("systemctl", "start", "green-router")
    assert (
        inside("systemctl", "show", "--value", "--property", "NRestarts", "green-router") == "0\n"
    )
    assert inside("systemctl", "is-failed", "green-router") == "failed\n"


def test_a_socket_that_systemd_keeps(inside: Inside) -> None:
    """It starts the service when somebody connects, and has who connects wait while the service
    starts again."""

    def shown(name: str, unit: str = "green-router.service") -> str:
        return inside("systemctl", "show", "--value", "--property", name, unit).strip()

    def ask() -> str:
        return inside(
            "/srv/app/venv/bin/green-router",
            "request",
            "--timeout",
            str(LIMIT_SECONDS),
            "ipc:///run/app.sock",
            "hello",
        )

    settings = inside("cat", "/srv/app/service.toml")
    inside("sh", "-c", "sed -i 's|^bind = .*|bind = [\"fd://3\"]|' /srv/app/service.toml")
    assert settings != inside("cat", "/srv/app/service.toml")
    assert inside("systemctl", "start", "green-router.socket") == ""
    assert shown("ActiveState") == "inactive"
    assert ask() == "HELLO", inside("cat", "/run/log")
    assert shown("StatusText") == "2 workers serve ipc:///run/app.sock"

    first = shown("MainPID")
    assert (
        inside("systemctl", "kill", "--kill-who=main", "--signal=KILL", "green-router.service")
        == ""
    )
    assert ask() == "HELLO"
    assert shown("MainPID") not in (first, "0")

    assert inside("systemctl", "stop", "green-router.service") == ""
    assert (shown("ActiveState"), shown("Result")) == ("inactive", "success")
    assert (
        inside(
            "sh",
            "-c",
            "sed -i 's/^workers = .*/workers = 2\\ndispatch = \"direct\"/' /srv/app/service.toml",
        )
        == ""
    )
    assert inside("ls", "/run/app.sock") == "/run/app.sock\n", "it is systemd's"
    assert ask() == "HELLO", inside("cat", "/run/log")
    assert inside("systemctl", "stop", "green-router.socket", "green-router.service") == ""
