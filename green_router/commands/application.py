"""Load the application that a command line names.

Rules of this file
  1. Every failure is an ApplicationError, and each kind has a sentence of its own: no such module
     or file, a module that is broken inside (with its traceback), no such attribute, not a handler.
  2. A traceback shows the application's frames, not ours and not the import system's.
  3. The standard library is patched before this is called, or not at all: nothing here cares.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..async_functions import is_async
from ..errors import ApplicationError
from ..serving.asyncio_thread import is_patched


def load(target: str) -> Callable[..., Any]:
    """Import what a target names.

    A module is looked for in the current directory first. A file runs as a module of its own name,
    and what lies beside it can be imported, as when Python runs it.

    Args:
        target: ``module:callable`` or ``path/file.py:callable``; the callable may be dotted
            (``app:service.handle``).
    Raises:
        ApplicationError: it cannot be loaded; the text says why, and what was probably meant. No
            other exception, but what is no Exception (KeyboardInterrupt) passes through.
    """
    source, _, attribute = target.rpartition(":")
    is_file = source.endswith(".py") or os.sep in source
    if (
        not source
        or not all(part.isidentifier() for part in attribute.split("."))
        or not (is_file or all(part.isidentifier() for part in source.split(".")))
    ):
        raise ApplicationError(
            f"{target!r} does not name a callable: write module:callable or path/file.py:callable, "
            f"for example {_example(target)}"
        )
    module = _guarded(source, lambda: _import_file(source) if is_file else _import_module(source))
    handler: Callable[..., Any] = _guarded(source, lambda: _attribute(module, source, attribute))
    if not callable(handler):
        raise ApplicationError(f"{target} is not callable: it is {_a(type(handler).__name__)}")
    if is_async(handler) and is_patched():
        raise ApplicationError(
            f"{target} is an async function, and this process was patched before that could be "
            "known: add --no-patch, because asyncio does not work in a patched process"
        )
    return handler


def _guarded(source: str, step: Callable[[], Any]) -> Any:
    try:
        return step()
    except ApplicationError:
        raise
    except SystemExit as error:
        raise ApplicationError(
            f"{source} ended by itself while it was imported, with exit code {error.code}: keep "
            'what a program does when it is run below if __name__ == "__main__":\n\n'
            f"{_application_traceback(error)}"
        ) from error
    except Exception as error:
        raise ApplicationError(
            f"{source} was found, but is broken inside:\n\n{_application_traceback(error)}"
        ) from error


def _import_module(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not _frames(error) and (name == missing or name.startswith(f"{missing}.")):
            raise ApplicationError(_no_such_module(missing, here)) from None
        raise


def _no_such_module(name: str, here: str) -> str:
    parent, _, last = name.rpartition(".")
    package = sys.modules.get(parent)
    if parent and not hasattr(package, "__path__"):
        hint = (
            f"did you mean {parent}:{last}?" if hasattr(package, last) else "write module:callable"
        )
        return f"there is no module {name}: {parent} is a module, not a package; {hint}"
    paths = list(getattr(package, "__path__", [here]))
    known = [module.name for module in pkgutil.iter_modules(paths)]
    return f"there is no module {name}, neither in {paths[0]} nor where Python looks" + _meant(
        last, known
    )


def _import_file(path: str) -> ModuleType:
    file = Path(path).resolve()
    if not file.is_file():
        known = [other.name for other in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise ApplicationError(f"there is no file {path}" + _meant(file.name, known))
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    # A file may be named as a module that is loaded already (queue.py); that one must stay what it
    # is.
    name = file.stem if file.stem not in sys.modules else f"{file.stem}_application"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ApplicationError(f"{path} is no Python file: its name must end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _attribute(module: ModuleType, source: str, path: str) -> Any:
    found: Any = module
    for depth, part in enumerate(path.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            owner = ".".join([source, *path.split(".")[:depth]])
            public = [name for name in dir(found) if not name.startswith("_")]
            raise ApplicationError(
                f"{owner} has no attribute {part}" + _meant(part, public)
            ) from None
    return found


def _application_traceback(error: BaseException) -> str:
    shown = traceback.TracebackException.from_exception(error)
    chain: list[traceback.TracebackException | None] = [shown]
    while chain:
        link = chain.pop()
        if link is not None:
            link.stack = traceback.StackSummary.from_list(
                [frame for frame in link.stack if _is_application(frame.filename)]
            )
            chain += [link.__cause__, link.__context__, *(getattr(link, "exceptions", None) or ())]
    return "".join(shown.format()).rstrip()


def _frames(error: BaseException) -> list[str]:
    return [
        frame.filename
        for frame in traceback.extract_tb(error.__traceback__)
        if _is_application(frame.filename)
    ]


def _is_application(filename: str) -> bool:
    return not filename.startswith("<frozen importlib") and filename not in (
        __file__,
        importlib.__file__,
    )


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _example(target: str) -> str:
    source, colon, _ = target.partition(":")
    package, _, last = source.rpartition(".")
    if package and not colon and last != "py":
        return f"{package}:{last}"
    return f"{source or 'app'}:handle_request"


def _a(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
