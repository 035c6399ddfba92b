"""Records the life of a request, and draws it in design.md.

Usage: python docs/life.py [draw]     prints the drawings; with ``draw``, writes them into design.md
(Python 3.11 or newer)

Rules of this file
  1. Nothing is told, all is recorded: a real client asks a real server, and a profile function
     notes which functions of green_router are crossed, and in which greenlet, from the moment the
     descriptor fires until the reply is sent.
  2. A function is drawn where it is crossed for the first time. Which processes rest, and for how
     long, is chance: what looks after that is left out (CHANCE).
  3. tests/test_design.py compares the drawings in design.md with a run.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gevent
import zmq.green
from gevent.hub import get_hub
from greenlet import getcurrent

import green_router
from green_router import Server

HERE = Path(__file__).resolve()
PACKAGE = str(Path(green_router.__file__).parent) + os.sep

Step = tuple[str, str]
"""A greenlet, and a function that is crossed in it."""

CHANCE = (
    "serving.peers",
    "serving.disconnects",
    "serving.departures",
    "sockets.connections",
    "processes.supervisor.",
    "processes.worker.activity",
    "hub.",
    "serving.turns",
    "serving.room",
)
"""Modules whose functions are crossed now and then, or only measure and count."""

LOOKS = os.path.join("sockets", "connections.py")

GREENLETS = {"HandlerGreenlet": "handler", "Greenlet": "owner"}

OUT = "GREEN_ROUTER_LIFE"
"""In the environment of a service that is recorded: the directory for what was crossed."""


class Recorder:
    """Notes each function of green_router that this thread calls, and the greenlet that calls
    it."""

    def __init__(self) -> None:
        self.crossed: list[Step] = []

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if (
            event == "c_call"
            and type(getattr(argument, "__self__", None)).__name__ == "CompiledFrames"
            # A look at the events of connections, which have frames of their own, is chance.
            and not frame.f_code.co_filename.endswith(LOOKS)
        ):
            self.note(f"sockets.frames.{argument.__name__}")
        elif event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            module = frame.f_code.co_filename[len(PACKAGE) : -3].replace(os.sep, ".")
            if module == "messages.envelope":
                # A function without a name of its own.
                self.note("messages.envelope.EnvelopePolicy.measure")
            elif module == "sockets.frames_pure":
                self.note(f"sockets.frames.{frame.f_code.co_name}")
            elif "<" not in frame.f_code.co_name and module != "messages.fields":  # mostly compiled
                self.note(f"{module}.{frame.f_code.co_qualname}")

    def note(self, function: str) -> None:
        """Note a step of the greenlet that runs."""
        me = getcurrent()
        name = "hub" if me is get_hub() else GREENLETS.get(type(me).__name__, "main")
        self.crossed.append((name, function))


RECORDER = Recorder()


def handle_request(request: Any) -> bytes:
    """Answer; in a worker that is recorded, record from the end of the first request on."""
    RECORDER.note("handle_request")
    if os.environ.get(OUT) and sys.getprofile() is None:
        sys.setprofile(RECORDER)
        gevent.spawn_later(0.5, _write, "worker")
    reply: bytes = request.data.upper()
    return reply


def _write(who: str) -> None:
    sys.setprofile(None)
    Path(os.environ[OUT], who).write_text(json.dumps(RECORDER.crossed), encoding="utf-8")


def _ask(endpoint: str) -> None:
    """Ask a few times: the first requests make what is kept for those after them."""
    context = zmq.green.Context()
    client = context.socket(zmq.REQ)
    client.connect(endpoint)
    try:
        for _ in range(3):
            client.send(b"hello")
            assert client.poll(30_000), "no reply came"
            assert client.recv() == b"HELLO"
            gevent.sleep(0.1)
    finally:
        context.destroy(linger=0)


def one_process() -> list[Step]:
    """Record a request that is served in one process."""
    RECORDER.crossed.clear()
    server = Server(handle_request)
    server.bind("tcp://127.0.0.1:0")
    server.start()
    sys.setprofile(RECORDER)
    try:
        _ask(server.endpoints[0])
    finally:
        sys.setprofile(None)
        server.stop()
    return _once(*_split(_serving(RECORDER.crossed), "handle_request"))


def with_a_worker() -> tuple[list[Step], list[Step], list[Step]]:
    """Record a request that a worker handles: the way there, in the worker, and the way back."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable,
            str(HERE),
            "serve",
            f"{HERE}:handle_request",
            "--workers",
            "1",
            "--no-patch",
            "--bind",
            "tcp://127.0.0.1:0",
            "--log-level",
            "error",
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {OUT: directory}
        ) as service:
            assert service.stdout is not None
            try:
                _ask(service.stdout.readline().split()[-1])
                worker = Path(directory, "worker")
                with gevent.Timeout(30):
                    while not worker.exists():
                        gevent.sleep(0.01)
            finally:
                service.terminate()
        crossed = [
            [
                (who, what)
                for who, what in json.loads(Path(directory, name).read_text(encoding="utf-8"))
            ]
            for name in ("service", "worker")
        ]
    there, _ = _split(_serving(crossed[0]), "Channel._readable")
    _, back = _split(_serving(crossed[0]), "Channel._readable", last=True)
    worker = _between(crossed[1], "Channel._readable", "handle_request", "Channel.send")
    return _once(there), _once(*_split(worker, "handle_request")), _once(back)


def _serving(crossed: list[Step]) -> list[Step]:
    return _between(crossed, "Owner._fired", "EnvelopePolicy.measure", "frames.send")


def _between(crossed: list[Step], first: str, within: str, last: str) -> list[Step]:
    """The steps of the last request: from the ``first`` before the last ``within``, to the ``last``
    after that."""
    middle = max(at for at, (_, what) in enumerate(crossed) if what.endswith(within))
    begin = max(at for at, (_, what) in enumerate(crossed[:middle]) if what.endswith(first))
    end = next(at for at, (_, what) in enumerate(crossed) if at > middle and what.endswith(last))
    return [step for step in crossed[begin : end + 1] if not step[1].startswith(CHANCE)]


def _once(*stretches: list[Step]) -> list[Step]:
    """What is crossed several times in a stretch, once."""
    return [step for stretch in stretches for step in dict.fromkeys(stretch)]


def _split(steps: list[Step], function: str, last: bool = False) -> tuple[list[Step], list[Step]]:
    """The steps up to a function, and those from it on."""
    found = [at for at, (_, what) in enumerate(steps) if what.endswith(function)]
    at = found[-1 if last else 0]
    return steps[:at], steps[at:]


# -- drawing ---------------------------------------------------------------------------------------


def _label(function: str) -> str:
    if function == "handle_request":
        return "handle_request (the application)"
    module, *rest = (
        function.rsplit(".", 2) if function.split(".")[-2][0].isupper() else function.rsplit(".", 1)
    )
    return f"{'.'.join(rest)} ({module.replace('.', '/')}.py)"


def _arrows(steps: Iterable[Step], before: str, process: str = "") -> list[str]:
    lines = []
    for who, function in steps:
        name = process + who
        if function.startswith("sockets.frames."):
            call = function.rpartition(".")[2]
            lines.append(
                f"    ROUTER->>{name}: {call}"
                if call == "receive"
                else f"    {name}->>ROUTER: {call}"
            )
        else:
            lines.append(f"    {before}->>{name}: {_label(function)}")
        before = name
    return lines


def draw_one_process(steps: list[Step]) -> str:
    """Draw a request in one process, as a sequence diagram for mermaid."""
    lines = ["sequenceDiagram", "    participant client", "    participant ROUTER"]
    lines += [f"    participant {who}" for who in dict.fromkeys(who for who, _ in steps)]
    lines.append("    client->>ROUTER: a request")
    return "\n".join([*lines, *_arrows(steps, "ROUTER"), "    ROUTER->>client: its reply"])


def draw_with_a_worker(there: list[Step], worker: list[Step], back: list[Step]) -> str:
    """Draw a request that a worker handles, as a sequence diagram for mermaid."""
    lines = [
        "sequenceDiagram",
        "    participant client",
        "    participant ROUTER",
        "    box the serving process",
    ]
    lines += [f"    participant {who}" for who in dict.fromkeys(who for who, _ in there)]
    lines += ["    end", "    box a worker process"]
    lines += [
        f"    participant worker_{who} as {who}" for who in dict.fromkeys(who for who, _ in worker)
    ]
    lines += ["    end", "    client->>ROUTER: a request"]
    lines += (
        _arrows(there, "ROUTER") + _arrows(worker, "hub", "worker_") + _arrows(back, "worker_owner")
    )
    return "\n".join([*lines, "    ROUTER->>client: its reply"])


def drawings() -> dict[str, str]:
    """Record and draw; by the mark that design.md has for each."""
    return {
        "one process": draw_one_process(one_process()),
        "with a worker": draw_with_a_worker(*with_a_worker()),
    }


def marked(text: str, name: str) -> tuple[str, str, str]:
    """Divide a document: before a drawing, the drawing, and after it."""
    before, mark, rest = text.partition(f"<!-- drawn by life.py: {name} -->\n```mermaid\n")
    assert mark, f"design.md has no mark for {name}"
    drawing, end, after = rest.partition("\n```\n")
    return before + mark, drawing, end + after


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        from green_router.commands import main

        atexit.register(_write, "service")
        sys.setprofile(RECORDER)
        main()
    else:
        document = HERE.with_name("design.md")
        text = document.read_text(encoding="utf-8") if document.exists() else ""
        for name, drawing in drawings().items():
            before, _, after = marked(text, name)
            text = before + drawing + after
            print(drawing, end="\n\n")
        if sys.argv[1:2] == ["draw"]:
            document.write_text(text, encoding="utf-8")
