"""What is installed is what the source tree has, and setup.cfg promises no more than is tested.

Rules of this file
  1. It looks at the distribution as it is installed; where nothing is (green_router on PYTHONPATH),
     it skips.
  2. In a tox environment it insists on the wheel: a test run that imports the source tree tests
     something else.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest

import green_router
from green_router.commands import main

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "green_router"
INSTALLED = Path(green_router.__file__).parent

in_tox = pytest.mark.skipif("TOX_ENV_DIR" not in os.environ, reason="not in a tox environment")


@pytest.fixture(scope="module")
def distribution() -> metadata.Distribution:
    try:
        return metadata.distribution("green-router")
    except metadata.PackageNotFoundError:
        pytest.skip("green-router is not installed")


def files(package: Path) -> set[str]:
    """The modules and data of a package."""
    return {
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }


BUILD = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", "made"]


def tags(wheel: Iterable[str]) -> set[str]:
    return {line.partition(": ")[2].strip() for line in wheel if line.startswith("Tag: ")}


@pytest.mark.parametrize("compiler", [None, "false"])
def test_a_wheel_says_what_is_in_it(compiler: str | None, tmp_path: Path) -> None:
    """Without a compiler it is built too, and is one of pure Python."""
    pytest.importorskip("setuptools.command.bdist_wheel")
    tree = tmp_path / "tree"
    shutil.copytree(
        ROOT,
        tree,
        ignore=shutil.ignore_patterns(".*", "*.so", "build", "*.egg-info", "tests", "docs"),
    )
    environment = os.environ | ({} if compiler is None else {"CC": compiler})
    subprocess.run(BUILD, cwd=tree, env=environment, check=True, capture_output=True, timeout=300)
    (built,) = (tree / "made").iterdir()
    with zipfile.ZipFile(built) as wheel:
        compiled = [name for name in wheel.namelist() if name.endswith(".so")]
        (about,) = (name for name in wheel.namelist() if name.endswith("/WHEEL"))
        told = wheel.read(about).decode().splitlines()
    if compiler is not None:
        assert not compiled
    if compiled:
        assert sorted(compiled) == [
            "green_router/messages/_fields.abi3.so",
            "green_router/serving/_polling.abi3.so",
            "green_router/sockets/_frames.abi3.so",
        ]
        assert {tag.rpartition("-")[0] for tag in tags(told)} == {"cp310-abi3"}
    else:
        assert tags(told) == {"py3-none-any"}
        assert "Root-Is-Purelib: true" in told


@in_tox
def test_the_tag_of_the_wheel_is_true(distribution: metadata.Distribution) -> None:
    compiled = [path for path in INSTALLED.rglob("_*.*") if path.suffix in (".so", ".pyd")]
    assert ({"py3-none-any"} == tags((distribution.read_text("WHEEL") or "").splitlines())) == (
        not compiled
    )


@in_tox
def test_the_tests_import_the_wheel() -> None:
    assert INSTALLED.is_relative_to(os.environ["TOX_ENV_DIR"])


@in_tox
def test_the_wheel_has_all_files_and_no_others() -> None:
    strategies = {
        f"strategies/{path.name}" for path in (ROOT / "examples" / "strategies").glob("*.py")
    }
    assert len(strategies) == 10
    assert files(INSTALLED) == files(SOURCE) | strategies, (
        "if it has files that are no more, remove build/"
    )


def test_the_package_is_typed() -> None:
    assert "py.typed" in files(INSTALLED)


def test_the_versions_agree(distribution: metadata.Distribution) -> None:
    assert distribution.version == green_router.__version__


def test_the_command_is_the_click_group(distribution: metadata.Distribution) -> None:
    (script,) = distribution.entry_points.select(group="console_scripts")
    assert (script.name, script.load()) == ("green-router", main)


def test_every_lower_bound_is_the_version_that_is_tested() -> None:
    setup, tox = (
        configparser.ConfigParser(interpolation=None),
        configparser.ConfigParser(interpolation=None),
    )
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    bounds = dict(re.findall(r"^(\w+)>=([\d.]+)", setup["options"]["install_requires"], re.M))
    pins = dict(re.findall(r"^(\w+)==([\d.]+)", tox["testenv:oldest"]["deps"], re.M))
    assert bounds
    assert pins == {
        name: version if version.count(".") > 1 else f"{version}.0"
        for name, version in bounds.items()
    }


def test_every_python_that_is_named_is_tested() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = re.findall(r":: 3\.(\d+)$", setup["metadata"]["classifiers"], re.M)
    (tested,) = re.findall(
        r"^env_list.*py3\{([\d, ]+)\}", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.M
    )
    assert named == tested.replace(" ", "").split(",")


def test_no_test_is_in_no_environment() -> None:
    """What has no mark runs on every Python; each mark that is left out there has an environment of
    its own."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    run = [section["commands"] for name, section in tox.items() if name.startswith("testenv:")]
    for mark in tox["tests"]["once"].split(" or "):
        assert f"\n{mark}: " in setup["tool:pytest"]["markers"]
        chosen = "{[tests]all}{/}processes -m " if mark == "workers" else f" -m {mark} "
        assert any(chosen in command for command in run)
