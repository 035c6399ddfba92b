"""What a service tells the interpreter: to leave what the application's import has made out of
garbage collections, and to let threads that wait have their turn soon."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from .conftest import Service

TELLS = """
import gc
made = [[] for _ in range(10_000)]
def handle_request(request):
    return b"%d %d" % (gc.get_freeze_count() >= 10_000, gc.get_threshold()[0])
"""

SHARES = """
import sys
imported_at = sys.getswitchinterval()
%s
def handle_request(request):
    return b"%%.4f %%.4f" %% (imported_at, sys.getswitchinterval())
"""

WAYS = pytest.mark.parametrize(
    "way",
    [[], ["--workers", "1"], ["--workers", "1", "--dispatch", "direct"]],
    ids=["one process", "front", "direct"],
)


def python_s(what: str) -> float:
    """What a fresh interpreter has: other tests, and hypothesis, set it in this one."""
    program = f"import gc, sys\nprint({what})"
    return float(subprocess.check_output([sys.executable, "-c", program], timeout=60))


@WAYS
def test_what_the_import_has_made_is_frozen(
    service: Callable[..., Service], way: list[str]
) -> None:
    assert service(TELLS, *way).ask(b"") == b"1 %d" % python_s("gc.get_threshold()[0]")


@WAYS
def test_both_can_be_set(service: Callable[..., Service], way: list[str]) -> None:
    assert service(TELLS, *way, "--no-gc-freeze", "--gc-threshold", "5000").ask(b"") == b"0 5000"


@WAYS
def test_threads_that_wait_have_their_turn_soon(
    service: Callable[..., Service], way: list[str]
) -> None:
    assert service(SHARES % "", *way).ask(b"") == b"0.0005 0.0005"


@WAYS
def test_how_soon_can_be_set(service: Callable[..., Service], way: list[str]) -> None:
    served = service(SHARES % "", *way, "--switch-interval", "0.002")
    assert served.ask(b"") == b"0.0020 0.0020"


@WAYS
def test_an_application_may_set_another(service: Callable[..., Service], way: list[str]) -> None:
    own = "sys.setswitchinterval(0.003)"
    assert service(SHARES % own, *way).ask(b"") == b"0.0005 0.0030"


@WAYS
def test_python_s_own_can_be_kept(service: Callable[..., Service], way: list[str]) -> None:
    served = service(SHARES % "", *way, "--switch-interval", "none")
    assert served.ask(b"") == b"%.4f %.4f" % (2 * (python_s("sys.getswitchinterval()"),))


def test_the_library_leaves_the_interpreter_alone() -> None:
    program = (
        "import gc, sys\nfrom green_router.testing import running_server\n"
        "def told(): return gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()\n"
        "before = told()\n"
        "with running_server(lambda request: b'') as server: server.ask()\n"
        "assert told() == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_full_collection_has_nothing_to_look_at() -> None:
    """Counted, not timed: how many objects the collector knows before and after."""
    program = (
        "import gc\nfrom green_router.processes.interpreter import settle\n"
        "made = [[] for _ in range(100_000)]\nbefore = len(gc.get_objects())\nsettle(True, None)\n"
        "assert before > 100_000 and len(gc.get_objects()) < 100, len(gc.get_objects())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
