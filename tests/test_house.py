"""The laws of the house that its sources can show, read from the sources.

Rules of this file
  1. Sources are read with ``ast``, never run and never searched as text: a word in a comment breaks
     no law.
  2. It reads the green_router that is imported, so in a tox environment what the wheel has.
  3. A law that has exceptions names each of them here, with its reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import green_router

PACKAGE = Path(green_router.__file__).parent

ROOMS = (
    "errors",
    "compiled",
    "messages",
    "async_functions",
    "settings",
    "hub",
    "security",
    "sockets",
    "serving",
    "offload",
    "__init__",
    "testing",
    "processes",
    "proxy",
    "commands",
    "__main__",
)
"""From the ground up: a room imports from itself and from those before it. ``__init__`` is the
front door."""

LONGEST_MODULE = 400
"""Lines: what one reads in a sitting."""

LONGER = {"commands.bench.load": 450}
"""A plain script, which can import nothing of its package."""

IMPURE = {
    "gevent",
    "greenlet",
    "zmq",
    "time",
    "datetime",
    "logging",
    "threading",
    "socket",
    "select",
    "os",
    "random",
}
"""Sockets, clocks, logs, and what else makes the same call give another result."""


class Module:
    """One file of the package: ``name`` is dotted, without the package; ``tree`` is its source."""

    def __init__(self, path: Path) -> None:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        self.name = ".".join(parts)
        self.room = parts[0]
        self.folder = parts[:-1]
        self.source = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.source)
        self.doc = ast.get_docstring(self.tree) or ""

    def walk(self, kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kind))

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef]]:
        """Every function and method, by its qualified name."""
        yield from _functions(self.tree, "")

    def imports(self) -> Iterator[str]:
        """Every module that it names in an import, wherever that stands; ours as
        ``green_router.messages.ledger``."""
        for node in self.walk((ast.Import, ast.ImportFrom)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = (
                    ["green_router", *self.folder][: len(self.folder) + 2 - node.level]
                    if node.level
                    else []
                )
                source = ".".join([*above, *filter(None, [node.module])])
                yield from (f"{source}.{alias.name}" for alias in node.names)


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield from _functions(node, f"{prefix}{node.name}.")
        else:
            yield from _functions(node, prefix)


def read() -> dict[str, Module]:
    """Every module of the package; a folder without ``__init__`` is no room, but something that is
    carried along."""
    paths = [
        path for path in sorted(PACKAGE.rglob("*.py")) if (path.parent / "__init__.py").exists()
    ]
    return {module.name: module for module in map(Module, paths)}


MODULES = read()

every_module = pytest.mark.parametrize("module", MODULES.values(), ids=list(MODULES))


def ours(imported: str) -> str | None:
    """The module of this package that an import reaches, or None."""
    path = imported.split(".")
    if path[0] != "green_router":
        return None
    for length in range(len(path), 0, -1):
        name = ".".join(path[1:length])
        if name in MODULES:
            return name
        if (package := ".".join([*filter(None, [name]), "__init__"])) in MODULES:
            return package
    raise AssertionError(f"{imported} reaches nothing")


def dotted(node: ast.AST) -> str:
    """``self._mailbox.get`` for such an expression."""
    return ast.unparse(node)


# -- what imports what -----------------------------------------------------------------------------


def test_there_is_a_house() -> None:
    assert len(MODULES) > 20
    rooms = {module.room for module in MODULES.values()}
    assert rooms <= set(ROOMS), "a new room gets its place in ROOMS"


@pytest.mark.parametrize(
    "module",
    [each for each in MODULES.values() if each.room in ("messages", "errors")],
    ids=lambda module: module.name,
)
def test_pure_parts_stay_pure(module: Module) -> None:
    """Law 7: no socket, no clock, no log; ``now`` is an argument."""
    assert not {imported.split(".")[0] for imported in module.imports()} & IMPURE


@every_module
def test_imports_go_down(module: Module) -> None:
    for imported in module.imports():
        target = ours(imported)
        if target is not None:
            assert ROOMS.index(MODULES[target].room) <= ROOMS.index(module.room), imported


def test_nothing_is_imported_in_a_circle() -> None:
    graph = {
        name: {
            target
            for imported in module.imports()
            if (target := ours(imported)) not in (None, name)
        }
        for name, module in MODULES.items()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


# -- the ROUTER has one owner ----------------------------------------------------------------------


SOCKET_CALLS = {
    f"{verb}{form}"
    for verb in ("recv", "send")
    for form in ("", "_multipart", "_string", "_json", "_pyobj", "_serialized", "_into")
} | {"receive", "skip", "poll"}

# ... handed out.
TOUCHES = {
    "sockets.frames": {"Compiled.recv", "Compiled.send"},  # for whole messages ...
    "sockets.router": {
        f"{of}.{call}" for of in ("frames", "self") for call in ("receive", "skip", "send")
    },
    "serving.owner": {"router.receive", "router.skip", "router.send"},  # ... and taken here
    "sockets.connections": {"self._events.recv"},  # the monitor's PAIR
}
"""Where the rooms of the ROUTER name what sends or receives on it, or on what libzmq tells of
it."""

NO_SOCKETS = {"self._results.send", "SERVERS.only().send", "done.send"}
"""Pushes, which go through the mailbox; a libev watcher."""

# The owner's, handed to parking, which runs in its greenlet.
MAY_CALL = {
    "recv": {"sockets.frames_pure", "sockets.connections"},
    "receive": {"serving.owner"},
    "skip": {"serving.owner"},
    "transmit": {"serving.owner", "sockets.frames_pure"},
    "deliver": {"serving.owner", "serving.parking", "serving.undelivered"},
}
"""By the names that these calls have in the room: who may have them, and so call them or hand them
on."""

SERVING = [module for module in MODULES.values() if module.room in ("sockets", "serving")]


def test_only_the_owner_takes_the_calls_of_the_socket() -> None:
    """Law 1."""
    found = {
        module.name: {
            dotted(node) for node in module.walk(ast.Attribute) if node.attr in SOCKET_CALLS
        }
        - NO_SOCKETS
        for module in SERVING
    }
    assert {name: touches for name, touches in found.items() if touches} == TOUCHES


@pytest.mark.parametrize("call", MAY_CALL)
def test_only_the_owner_sends_and_receives(call: str) -> None:
    """Law 1. Parking, which another file makes, decides when; what it calls is the owner's."""
    having = {
        module.name
        for module in SERVING
        for node in module.walk((ast.Name, ast.Attribute))
        if getattr(node, "id", getattr(node, "attr", "")) in (call, f"_{call}")
        and dotted(node) not in TOUCHES["sockets.router"] | TOUCHES["sockets.frames"]
    }
    assert having == MAY_CALL[call]


def test_one_place_makes_the_router_and_one_wires_it() -> None:
    made = {
        module.name
        for module in MODULES.values()
        if module.room != "commands"  # the demo has the original loop
        for node in module.walk(ast.Attribute)
        if dotted(node) == "zmq.ROUTER"
    }
    # The latter answers libzmq, and sees no message.
    assert made == {"sockets.router", "security.zap"}
    wired = {
        module.name
        for module in MODULES.values()
        for node in module.walk(ast.Call)
        if dotted(node.func) == "Router"
    }
    # The last two bind and close it.
    assert wired == {"serving.parts", "proxy.service", "commands.proxy", "commands.check"}


@every_module
def test_nobody_reaches_through_the_server_for_the_socket(module: Module) -> None:
    for node in module.walk(ast.Attribute):
        if node.attr in SOCKET_CALLS:
            assert not dotted(node.value).endswith(("_router", "_router.socket")), dotted(node)


# -- one line blocks -------------------------------------------------------------------------------


def owners(function: str) -> ast.FunctionDef:
    return dict(MODULES["serving.owner"].functions())[f"Owner.{function}"]


def test_the_owner_waits_in_one_line() -> None:
    """Law 2: without a timeout, so without an argument."""
    waits = [
        node
        for node in MODULES["serving.owner"].walk(ast.Call)
        if dotted(node.func).endswith("mailbox.get")
    ]
    assert [dotted(wait) for wait in waits] == ["mailbox.get()"]
    loop = next(node for node in owners("run").body if isinstance(node, ast.While))
    assert dotted(loop.test) == "True"
    assert waits[0] in ast.walk(loop.body[0]), "the first thing of a turn"
    assert not [
        node
        for statement in loop.body
        for node in ast.walk(statement)
        if isinstance(node, (ast.While, ast.For))
    ]


def test_a_turn_sends_before_it_takes() -> None:
    """Law 5; both within the budget."""
    calls = [
        (node.lineno, dotted(node.func))
        for node in ast.walk(owners("run"))
        if isinstance(node, ast.Call)
    ]
    sends = [line for line, call in calls if call == "self._send"]
    takes = [line for line, call in calls if call == "self._take"]
    assert sends and takes and max(sends) < min(takes)
    for function in ("run", "_send"):
        assert "BUDGET" in {
            node.id for node in ast.walk(owners(function)) if isinstance(node, ast.Name)
        }


def test_further_mail_is_taken_only_where_there_is_some() -> None:
    """So it is asked first how much there is."""
    taken = [
        node for node in MODULES["serving.owner"].walk(ast.Call) if dotted(node) == "take_out()"
    ]
    assert len(taken) == 1
    send = owners("_send")
    loop = next(node for node in send.body if isinstance(node, ast.While))
    leave, count, take = loop.body[-3:]
    assert isinstance(leave, ast.If)
    assert (dotted(leave.test), dotted(leave.body[0])) == ("not budget", "return woken")
    assert dotted(count) == "budget -= 1"
    assert taken[0] in ast.walk(take)
    counted = [
        dotted(node.value)
        for node in ast.walk(send)
        if isinstance(node, ast.Assign) and "budget" in map(dotted, ast.walk(node.targets[0]))
    ]
    assert counted
    assert all("ready" in value or "len(queue)" in value for value in counted)


def test_the_owner_has_no_other_way_to_wait() -> None:
    ways = {
        "sleep",
        "wait",
        "join",
        "select",
        "poll",
        "acquire",
        "Timeout",
        "with_timeout",
        "idle",
        "switch",
    }
    named = {node.attr for node in MODULES["serving.owner"].walk(ast.Attribute)} | {
        node.id for node in MODULES["serving.owner"].walk(ast.Name)
    }
    assert not named & ways


def test_only_the_owner_takes_mail_out() -> None:
    """And what counts the rest, once the owner has ended."""
    takers = {
        (module.name, dotted(node))
        for module in SERVING
        for node in module.walk(ast.Attribute)
        if node.attr in ("get", "queue") and dotted(node.value).endswith("mailbox")
    }
    assert takers == {
        ("serving.owner", "mailbox.get"),
        ("serving.owner", "mailbox.queue"),
        ("serving.owner", "self._mailbox.queue"),
        ("serving.shutdown", "self._mailbox.get"),
    }


# -- the standard library is left alone ------------------------------------------------------------


MAY_PATCH = ("commands.", "processes.worker.main")
"""Programs of their own; a worker is one that the command line has started."""


@every_module
def test_the_library_never_patches(module: Module) -> None:
    """Law 8."""
    if module.name.startswith(MAY_PATCH):
        return
    named = (
        {node.attr for node in module.walk(ast.Attribute)}
        | {node.id for node in module.walk(ast.Name)}
        | {imported.rpartition(".")[2] for imported in module.imports()}
    )
    assert not {name for name in named if name.startswith("patch_")}


# -- the log ---------------------------------------------------------------------------------------


MAY_LOG = {
    "hub.log",  # the one place
    "processes.logs",  # where the lines of a service go
}


@every_module
def test_one_place_writes_to_the_log(module: Module) -> None:
    """What others have hung into it may raise, and may wait."""
    if module.name not in MAY_LOG:
        assert not [
            imported for imported in module.imports() if imported.split(".")[0] == "logging"
        ]


# -- how a file is made ----------------------------------------------------------------------------


@every_module
def test_a_file_has_its_rules_at_its_head(module: Module) -> None:
    if module.name.rpartition(".")[2] not in ("__init__", "__main__"):
        assert "\n\nRules of this file\n  1. " in module.doc


@every_module
def test_a_file_begins_with_a_sentence(module: Module) -> None:
    first = module.doc.split("\n\n")[0]
    assert first.endswith((".", "?")), "what it is, before its rules"
    assert len(first) < 250


@every_module
def test_a_file_is_read_in_one_sitting(module: Module) -> None:
    longest = LONGER.get(module.name, LONGEST_MODULE)
    assert len(module.source.splitlines()) <= longest


Described = ast.ClassDef | ast.FunctionDef

CLASSES = {node.name: node for module in MODULES.values() for node in module.walk(ast.ClassDef)}


def public(body: list[ast.stmt]) -> Iterator[Described]:
    return (
        node
        for node in body
        if isinstance(node, Described)
        and not node.name.startswith("_")
        and "overload" not in map(dotted, node.decorator_list)
    )


def described_above(node: ast.ClassDef) -> set[str]:
    """Methods that a class of ours above this one describes, or a Protocol: what is said there
    holds here too."""
    above = [
        CLASSES[name] for base in node.bases if (name := dotted(base).split("[")[0]) in CLASSES
    ]
    above += [each for each in CLASSES.values() if "Protocol" in map(dotted, each.bases)]
    return {
        method.name for each in above for method in public(each.body) if ast.get_docstring(method)
    }.union(*(described_above(each) for each in above if "Protocol" not in map(dotted, each.bases)))


@every_module
def test_what_is_public_says_what_it_is(module: Module) -> None:
    """Classes and functions; and methods, but those of a class whose base is somebody else's."""
    silent = [node.name for node in public(module.tree.body) if not ast.get_docstring(node)]
    for node in public(module.tree.body):
        if isinstance(node, ast.ClassDef) and all(
            dotted(base).split("[")[0] in {*CLASSES, "Protocol", "Generic"} for base in node.bases
        ):
            known = described_above(node)
            silent += [
                f"{node.name}.{method.name}"
                for method in public(node.body)
                if method.name not in known and not ast.get_docstring(method)
            ]
    assert not silent


# -- tests stand where their modules stand ---------------------------------------------------------


TESTS = Path(__file__).parent

ELSEWHERE = {
    # The whole of the serving core, by the scenarios that drive it; and how it is put together, by
    # putting something else in.
    "serving.server": "support/whole_server.py",
    "serving.wiring": "serving/test_parts.py",
    # One of two that must do the same, by one test of both.
    "sockets.frames_pure": "sockets/test_frames.py",
    # A thread, a process or a cluster, by what is called there.
    "serving.asyncio_thread": "serving/test_coroutines.py",
    "offload.child": "offload/test_processes.py",
    "offload.dask_client": "offload/test_cluster.py",
    # A program, by running it.
    "processes.single": "processes/test_activation.py",
    "proxy.native": "commands/test_proxy.py",
}
"""Modules that no file of their name tests, and where they are tested; a module that is added is
tested by its name."""


@every_module
def test_a_module_is_tested_where_its_name_says(module: Module) -> None:
    if module.name.rpartition(".")[2] not in ("__init__", "__main__"):
        *folders, name = module.name.split(".")
        own = TESTS.joinpath(*folders, f"test_{name}.py")
        assert own.exists() != (module.name in ELSEWHERE), (
            f"make {own.relative_to(TESTS)}, or say in ELSEWHERE who tests it"
        )
        assert own.exists() or (TESTS / ELSEWHERE[module.name]).exists()


def test_no_exception_has_outlived_its_module() -> None:
    assert ELSEWHERE.keys() <= MODULES.keys()


WORLD = re.compile(r"^([A-Z]{3,}[A-Z ,]*( or )?)+\.? ")
"""In which greenlet or thread a function runs, before what it does: ``OWNER.``, ``ANY THREAD.``"""

NO_SUBJECT = re.compile(
    r"^(What|Whether|It|Its|Who|Whom|Whose|All of|Such|the|Those|They|Them|That|One that|Others)\b"
)


def described(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Whatever has a docstring: its name, and the docstring's first line."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (
            doc := ast.get_docstring(node)
        ):
            yield getattr(node, "name", "the file"), WORLD.sub("", doc.splitlines()[0])


@every_module
def test_a_first_line_has_its_subject(module: Module) -> None:
    """It says what the thing is or does, as far as its first word tells: nobody has to look for
    what ``It`` is."""
    assert not [(name, line) for name, line in described(module.tree) if NO_SUBJECT.match(line)]
