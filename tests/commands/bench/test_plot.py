"""The figures of a bench as a picture; what keeps one from being drawn is found before anything is
measured."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from bench_figures import LOAD, outcomes, words
from click.testing import CliRunner
from command_line import CommandLine

from green_router.commands import main
from green_router.commands.bench import plot as bench_plot
from green_router.commands.bench.report import Report

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)


@needs_matplotlib
@pytest.mark.parametrize(
    ("suffix", "beginning"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
@pytest.mark.parametrize("cpu", [5.0, None])
def test_the_picture(tmp_path: Path, suffix: str, beginning: bytes, cpu: float | None) -> None:
    file = tmp_path / f"bench.{suffix}"
    bench_plot.draw(Report(LOAD, 2, None, outcomes(cpu)), file)
    assert file.read_bytes().startswith(beginning)


@needs_matplotlib
def test_a_picture_in_no_known_format(tmp_path: Path) -> None:
    for name in ("bench.doc", "bench"):
        done = CliRunner().invoke(main, ["bench", "--plot", str(tmp_path / name)])
        assert done.exit_code == 2
        assert "must end in one of" in done.output


def test_the_picture_needs_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(main, ["bench", "--plot", str(tmp_path / "bench.png")])
    assert done.exit_code == 2
    assert (
        "--plot needs matplotlib, which is not installed: python -m pip install "
        "'green-router[bench]'" in words(done.output)
    )


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('numpy is too old')", "RuntimeError: numpy is too old"),
    ],
)
def test_a_matplotlib_that_does_not_work_is_noticed_at_once(
    command_line: CommandLine, broken: str, why: str
) -> None:
    command_line.write("broken/matplotlib/__init__.py", broken)
    command_line.env["PYTHONPATH"] = os.pathsep.join(
        [str(command_line.directory / "broken"), command_line.env["PYTHONPATH"]]
    )
    done = command_line.run("bench", "--plot", "bench.png")
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"Error: --plot needs matplotlib, which is installed but does not work: {why}" in words(
        done.stderr.decode()
    )
