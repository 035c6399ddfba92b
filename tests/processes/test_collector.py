"""What a service tells Python's garbage collector: to leave alone what the application's import has
made."""

from __future__ import annotations

import gc
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

WAYS = pytest.mark.parametrize(
    "way",
    [[], ["--workers", "1"], ["--workers", "1", "--dispatch", "direct"]],
    ids=["one process", "front", "direct"],
)


@WAYS
def test_what_the_import_has_made_is_frozen(
    service: Callable[..., Service], way: list[str]
) -> None:
    assert service(TELLS, *way).ask(b"") == b"1 %d" % gc.get_threshold()[0]


@WAYS
def test_both_can_be_set(service: Callable[..., Service], way: list[str]) -> None:
    assert service(TELLS, *way, "--no-gc-freeze", "--gc-threshold", "5000").ask(b"") == b"0 5000"


def test_the_library_leaves_the_collector_alone() -> None:
    program = (
        "import gc\nbefore = gc.get_threshold(), gc.get_freeze_count()\nfrom green_router.testing "
        "import running_server\n"
        "with running_server(lambda request: b'') as server: server.ask()\n"
        "assert (gc.get_threshold(), gc.get_freeze_count()) == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_full_collection_has_nothing_to_look_at() -> None:
    """Counted, not timed: how many objects the collector knows before and after."""
    program = (
        "import gc\nfrom green_router.processes.collector import settle\n"
        "made = [[] for _ in range(100_000)]\nbefore = len(gc.get_objects())\nsettle(True, None)\n"
        "assert before > 100_000 and len(gc.get_objects()) < 100, len(gc.get_objects())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
