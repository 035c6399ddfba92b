"""What a source tells of an application before it is imported: whether it is asynchronous."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from green_router import ConfigError
from green_router.processes.source import is_asynchronous, patches

FILES = {
    "app.py": """
from functools import partial
from house.room import handle as moved
from house import room, Later as Renamed
import nowhere

async def handle(request): pass

async def items(request):
    yield b""

def ordinary(request): pass

class Service:
    async def __call__(self, request): pass
    async def handle(self, request): pass
    def ordinary(self, request): pass

service = Service()
method: object = service.handle
bound = partial(partial(handle), 1)
again = handle
there = Renamed()
through = room.handle

if True:
    try:
        async def nested(request): pass
    except ImportError:
        nested = None

async def replaced(request): pass
replaced = ordinary

circle = circles
circles = circle
made = nowhere.make()
raise SystemExit("imported")
""",
    "house/__init__.py": "from .room import Later\nraise SystemExit('imported')",
    "house/room.py": "from ..house.cellar import handle\n"
    "class Later:\n    async def __call__(self, request): pass\n",
    "house/cellar.py": "async def handle(request): pass",
    "broken.py": "async def handle(",
}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "handle",
        "items",
        "service",
        "service.handle",
        "method",
        "bound",
        "again",
        "moved",
        "there",
        "through",
        "room.handle",
        "nested",
    ],
)
def test_what_is_asynchronous(name: str) -> None:
    assert is_asynchronous(f"app:{name}")
    if name not in ("moved", "there", "through", "room.handle"):
        assert is_asynchronous(f"./app.py:{name}")
    assert "app" not in sys.modules


@pytest.mark.parametrize(
    "target",
    [
        "app:ordinary",
        "app:service.ordinary",
        "app:Service",
        "app:replaced",
        "app:circle",
        "app:made",
        "app:nope",
        "nope:handle",
        "nope.py:handle",
        "broken:handle",
        "house:nope",
        "handle",
        "",
    ],
)
def test_what_is_not_or_cannot_be_told(target: str) -> None:
    assert not is_asynchronous(target)


def test_what_is_patched() -> None:
    assert patches(None, "app:ordinary")
    assert patches(True, "app:ordinary")
    assert patches(None, None)
    assert not patches(None, "app:handle")
    assert not patches(False, "app:ordinary")
    assert not patches(False, "app:handle")
    with pytest.raises(
        ConfigError, match=r"^--patch = 'app:handle': must be left out: the handler is an async def"
    ):
        patches(True, "app:handle")
