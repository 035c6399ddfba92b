"""load: what it finds, and what it says when it finds nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from green_router import ApplicationError
from green_router.commands.application import load

APPLICATION = """
import sister

class Service:
    def handle(self, request):
        return b"dotted"

service = Service()
number = 7

def handle_request(request):
    return sister.REPLY

async def handle_later(request):
    return b""

async def handle_in_parts(request):
    yield b""

class Later:
    async def __call__(self, request):
        return b""

later = Later()
"""

BROKEN = """
def connect():
    return {}["database"]

connect()
"""

BROKEN_CHAIN = """
try:
    {}["a"]
except KeyError as error:
    raise ValueError("bad configuration") from error
"""

FILES = {
    "apple.py": APPLICATION,
    "sister.py": "REPLY = b'from beside it'",
    "broken.py": BROKEN,
    "broken_import.py": "import no_such_library",
    "broken_chain.py": BROKEN_CHAIN,
    "broken_syntax.py": "def handle_request(request)\n    return b''\n",
    "ending.py": "import sys\nsys.exit(7)\n",
    "queue.py": "def handle_request(request): return b'not the standard one'",
    "house/__init__.py": "",
    "house/room.py": "def handle_request(request): return b'in a package'",
    "deep/down/alone.py": "def handle_request(request): return b'elsewhere'",
    "text.txt": "",
}


NO_CALLABLE = (
    "does not name a callable: write module:callable or path/file.py:callable, for example"
)
ASYNC = (
    "is an async function, and this process was patched before that could be known: add --no-patch"
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with applications, which leaves no module behind."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "reply"),
    [
        ("apple:handle_request", b"from beside it"),
        ("apple:service.handle", b"dotted"),
        ("apple.py:handle_request", b"from beside it"),
        ("./apple.py:service.handle", b"dotted"),
        ("house.room:handle_request", b"in a package"),
        ("house/room.py:handle_request", b"in a package"),
        ("deep/down/alone.py:handle_request", b"elsewhere"),
        ("queue.py:handle_request", b"not the standard one"),
    ],
)
def test_finds_a_handler(target: str, reply: bytes) -> None:
    assert load(target)(None) == reply


def test_a_file_named_as_a_loaded_module_does_not_replace_it() -> None:
    import queue

    load("queue.py:handle_request")
    assert sys.modules["queue"] is queue


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (
            "aple:handle_request",
            (
                "there is no module aple, neither in {here} nor where Python looks; "
                "did you mean apple?"
            ),
        ),
        ("zzz:handle_request", "there is no module zzz, neither in {here} nor where Python looks"),
        (
            "house.rom:handle_request",
            (
                "there is no module house.rom, neither in {here}/house nor where Python looks; "
                "did you mean room?"
            ),
        ),
        (
            "hose.room:handle_request",
            (
                "there is no module hose, neither in {here} nor where Python looks; "
                "did you mean house?"
            ),
        ),
        (
            "apple.service:handle",
            (
                "there is no module apple.service: apple is a module, not a package; did you mean "
                "apple:service?"
            ),
        ),
        ("aple.py:handle_request", "there is no file aple.py; did you mean apple.py?"),
        ("no/such/apple.py:handle_request", "there is no file no/such/apple.py"),
        ("./text.txt:handle_request", "./text.txt is no Python file: its name must end in .py"),
        (
            "apple:handel_request",
            "apple has no attribute handel_request; did you mean handle_request?",
        ),
        ("apple.py:zzz", "apple.py has no attribute zzz"),
        ("apple:service.handel", "apple.service has no attribute handel; did you mean handle?"),
        ("apple:number", "apple:number is not callable: it is an int"),
        ("apple:sister", "apple:sister is not callable: it is a module"),
        ("apple.handle_request", f"'apple.handle_request' {NO_CALLABLE} apple:handle_request"),
        ("apple.py", f"'apple.py' {NO_CALLABLE} apple.py:handle_request"),
        ("apple", f"'apple' {NO_CALLABLE} apple:handle_request"),
        ("apple:", f"'apple:' {NO_CALLABLE} apple:handle_request"),
        ("apple:7", f"'apple:7' {NO_CALLABLE} apple:handle_request"),
        ("", f"'' {NO_CALLABLE} app:handle_request"),
    ],
)
def test_says_what_is_missing(target: str, sentence: str, directory: Path) -> None:
    with pytest.raises(ApplicationError) as caught:
        load(target)
    assert str(caught.value) == sentence.format(here=directory)


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        ("broken", ["Traceback", "connect()", 'return {}["database"]', "KeyError: 'database'"]),
        (
            "broken_import",
            ["Traceback", "import no_such_library", "No module named 'no_such_library'"],
        ),
        ("broken_chain", ["KeyError: 'a'", "direct cause", "ValueError: bad configuration"]),
        ("broken_syntax", ["broken_syntax.py", "line 1", "SyntaxError"]),
    ],
)
@pytest.mark.parametrize("form", ["{}", "{}.py"])
def test_shows_what_is_broken_inside(module: str, parts: list[str], form: str) -> None:
    source = form.format(module)
    with pytest.raises(ApplicationError) as caught:
        load(f"{source}:handle_request")
    text = str(caught.value)
    assert text.startswith(f"{source} was found, but is broken inside:\n\n")
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)
    assert "importlib" not in text
    assert "application.py" not in text
    assert module not in sys.modules


def test_an_async_function_needs_a_process_that_is_not_patched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where its source did not show it: otherwise nothing is patched (processes/source.py)."""
    for name in ("handle_later", "handle_in_parts", "later"):
        assert load(f"apple:{name}")
        with monkeypatch.context() as patch:
            patch.setattr("green_router.commands.application.is_patched", lambda: True)
            with pytest.raises(ApplicationError, match=f"^apple:{name} {ASYNC}"):
                load(f"apple:{name}")


def test_names_a_module_that_ends_the_program() -> None:
    with pytest.raises(
        ApplicationError, match="ended by itself while it was imported, with exit code 7"
    ) as caught:
        load("ending:handle_request")
    assert "sys.exit(7)" in str(caught.value)


def test_what_is_no_exception_passes_through(directory: Path) -> None:
    (directory / "interrupted.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("interrupted:handle_request")
