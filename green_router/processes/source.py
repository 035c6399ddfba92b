"""Tells whether an application is asynchronous from its source: that must be known before it is
imported.

Rules of this file
  1. Nothing is imported and nothing is run: an import before the standard library is patched would
     defeat the patch, and one after that would be too late for asyncio.
  2. What a source does not show (a handler that a decorator or a factory makes) counts as not
     asynchronous, and so does what cannot be read. The application is loaded next: that finds an
     async function all the same (application.py), and says what is wrong with the rest.
"""

from __future__ import annotations

import ast
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from ..errors import ConfigError

MOST_STEPS = 16
"""Names and modules that are followed to what a target means."""


def is_asynchronous(target: str) -> bool:
    """Return whether ``module:callable`` or ``path/file.py:callable`` names an ``async def``, in
    words that can be read.

    It follows imports (``from .handlers import handle``), other names of the same (``handle =
    other``, ``partial(other)``), and objects of classes (``service = Service()``:
    ``service.handle``, or its ``__call__``).
    """
    source, _, attribute = target.rpartition(":")
    is_file = source.endswith(".py") or os.sep in source
    try:
        path = [str(Path(source).resolve().parent) if is_file else os.getcwd(), *sys.path]
        module = Path(source) if is_file else _find(source, path)
        return module is not None and Reader(path).reads(
            module, "" if is_file else source, attribute.split(".")
        )
    except (OSError, ValueError, SyntaxError, RecursionError):
        return False


def patches(asked: bool | None, target: str | None) -> bool:
    """Return whether the standard library is to be patched for an application.

    Args:
        asked: the setting ``patch``: None leaves it to the source.
        target: as above, or None.
    Raises:
        ConfigError: it is asked for, and cannot be.
    """
    asynchronous = asked is not False and target is not None and is_asynchronous(target)
    if asked and asynchronous:
        raise ConfigError(
            "--patch",
            target,
            "left out: the handler is an async def, and asyncio does not work in a process that "
            "gevent has patched",
        )
    return asked is not False and not asynchronous


def _find(module: str, path: list[str]) -> Path | None:
    """The file of a module, without an import of the packages above it."""
    folders: list[str] | None = path
    spec = None
    parts = module.split(".")
    for depth in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), folders)
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or ())
    return (
        Path(spec.origin)
        if spec is not None and spec.origin and spec.origin.endswith(".py")
        else None
    )


class Reader:
    """Follows a name through sources. Args: path, where modules are looked for."""

    def __init__(self, path: list[str]) -> None:
        self._path, self._steps = path, 0

    def reads(self, file: Path, module: str, names: list[str]) -> bool:
        """True if these names, dotted, are asynchronous in that file, which is of that module."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            return False
        meaning = _last(ast.parse(file.read_bytes()).body, names[0])
        if isinstance(meaning, ast.ImportFrom):
            return self._imported(meaning, file, module, names)
        # A class itself is called to make an object: only what is in it.
        if isinstance(meaning, ast.ClassDef):
            return len(names) == 2 and _in_class(meaning, names[1])
        if isinstance(meaning, (ast.Assign, ast.AnnAssign)):
            return self._assigned(meaning.value, file, module, names)
        return isinstance(meaning, ast.AsyncFunctionDef) and len(names) == 1

    def _imported(
        self, statement: ast.ImportFrom, file: Path, module: str, names: list[str]
    ) -> bool:
        alias = next(alias for alias in statement.names if (alias.asname or alias.name) == names[0])
        package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
        above = package[: len(package) + 1 - statement.level] if statement.level else []
        source = ".".join([*filter(None, above), *filter(None, [statement.module])])
        found = _find(source, self._path) if source else None
        if found is not None and self.reads(found, source, [alias.name, *names[1:]]):
            return True
        inside = f"{source}.{alias.name}" if source else alias.name
        found = _find(inside, self._path) if len(names) > 1 else None  # from package import module
        return found is not None and self.reads(found, inside, names[1:])

    def _assigned(self, value: ast.expr | None, file: Path, module: str, names: list[str]) -> bool:
        """``handle = other``, ``= partial(other, ...)``, ``= Service(...)``, ``=
        service.handle``."""
        if isinstance(value, ast.Call):
            called = ast.unparse(value.func)
            if called.rpartition(".")[2] == "partial" and value.args:
                return self._assigned(value.args[0], file, module, names)
            if isinstance(value.func, ast.Name):
                return self.reads(
                    file, module, [called, names[1] if len(names) > 1 else "__call__"]
                )
            return False
        if isinstance(value, (ast.Name, ast.Attribute)):
            return self.reads(file, module, [*ast.unparse(value).split("."), *names[1:]])
        return False


def _last(body: list[ast.stmt], name: str) -> ast.stmt | None:
    """The statement, at the top or below an ``if`` or a ``try``, that gives the name its meaning:
    the last one, and of branches the first."""
    meaning: ast.stmt | None = None
    for statement in body:
        if isinstance(statement, (ast.If, ast.Try, ast.With)):
            branches = (
                _last(getattr(statement, below, []), name)
                for below in ("body", "orelse", "finalbody")
            )
            meaning = next(filter(None, branches), meaning)
        elif name in _defines(statement):
            meaning = statement
    return meaning


def _defines(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    targets = (
        statement.targets
        if isinstance(statement, ast.Assign)
        else [getattr(statement, "target", None)]
    )
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _in_class(node: ast.ClassDef, name: str) -> bool:
    return isinstance(_last(node.body, name), ast.AsyncFunctionDef)
