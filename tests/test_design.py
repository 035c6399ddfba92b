"""docs/design.md is true.

Rules of this file
  1. A law that sources cite is in the document, and a law of the document is cited by a test.
  2. What looks like a file, a name or a setting in the document is one.
  3. The drawings are those of a run on this machine; the frames in pure Python ask the socket less
     often.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import green_router
from green_router.sockets.frames import IN_USE

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
LAWS = {int(number) for number in re.findall(r"^(\d+)\. \*\*", DESIGN, re.MULTILINE)}
TESTS = [path for path in Path(__file__).parent.rglob("*.py") if path != Path(__file__)]
SOURCES = [*Path(green_router.__file__).parent.rglob("*.py"), *TESTS]

CITED = re.compile(r"\b[Ll]aws? (\d+)")


def test_the_laws_are_numbered_from_one() -> None:
    assert set(range(1, len(LAWS) + 1)) == LAWS and LAWS


def test_a_law_that_is_cited_is_there() -> None:
    cited = {
        (path.name, int(number))
        for path in SOURCES
        for number in CITED.findall(path.read_text(encoding="utf-8"))
    }
    assert cited
    assert {number for _, number in cited} <= LAWS


def test_each_law_is_cited_by_a_test() -> None:
    cited = {
        int(number) for path in TESTS for number in CITED.findall(path.read_text(encoding="utf-8"))
    }
    assert cited >= LAWS


def test_no_file_cites_a_document_that_is_not_there() -> None:
    known = {
        path.name
        for path in ROOT.rglob("*.md")
        if ".tox" not in path.parts and ".venv" not in path.parts
    }
    for path in SOURCES:
        for name in re.findall(r"\b([A-Z]{3,}\.md|\w+\.md)\b", path.read_text(encoding="utf-8")):
            assert name in known, (path, name)


def test_what_looks_like_a_file_is_one() -> None:
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", DESIGN):
        assert (ROOT / name).exists() or (Path(green_router.__file__).parent / name).exists(), name
    for link in re.findall(r"\]\(([^)#]+)\)", DESIGN):
        assert (ROOT / "docs" / link).exists(), link


def names() -> set[str]:
    """Every class, method and function of the package, as ``Class.method``; and its modules'
    constants."""
    found: set[str] = set()
    for info in pkgutil.walk_packages(green_router.__path__, "green_router."):
        if "__main__" in info.name or ".strategies" in info.name or ".programs" in info.name:
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            found.add(name)
            if isinstance(value, type):
                found |= {f"{name}.{inner}" for inner in dir(value)}
    return found


def test_what_looks_like_a_name_is_one() -> None:
    known = names()
    for name in re.findall(r"`([A-Z]\w+\.\w+|[A-Z]{4,})`", DESIGN):
        assert name in known or name in ("ZMQ_FD", "ROUTER_MANDATORY"), name


def life() -> Any:
    spec = importlib.util.spec_from_file_location("life", ROOT / "docs" / "life.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def comparable(drawing: str) -> str:
    """A drawing; where the frames are not compiled, without the calls that these leave out."""
    return drawing if "compiled" in IN_USE else re.sub(r"\n.*: readable(?=\n)", "", drawing)


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="functions have no qualified names to be noted"
)
def test_the_drawings_are_those_of_a_run() -> None:
    """To renew them: ``python docs/life.py draw``."""
    told = life()
    for name, drawing in told.drawings().items():
        _, shown, _ = told.marked(DESIGN, name)
        assert comparable(drawing) == comparable(shown), name
