"""A server whose handlers fork, in every way there is, and tell what the children did.

Usage: forking_server.py ENDPOINT, with PATCH=1 in the environment where the standard library shall
be patched. Its first line of output is the endpoint, its last one, after SIGTERM, what became of
every message. A request is ``VERB [ARGUMENT...]``: see ``VERBS``. Most have HOW, the way to fork:
see ``forked``.
"""

from __future__ import annotations

import os

if os.environ["PATCH"] == "1":
    from gevent import monkey

    monkey.patch_all()

import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import gevent
import gevent.os
from gevent.event import Event

from green_router import Request, Server, WrongProcess

PARENT = os.getpid()
MEANINGS = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
RAW = {"raw": gevent.monkey.get_original("os", "fork"), "gevent": gevent.os.fork}

server: Server
went_on: list[str] = []
release = Event()


def forked(how: str, function, *arguments) -> int:
    """Call a function in a child; returns the child's pid. A raw child goes on where it is, in the
    handler."""
    if how == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
        process.start()
        return process.pid
    pid = RAW[how]()
    if pid == 0:
        function(*arguments)
    return pid


def exit_code(pid: int) -> int:
    with suppress(ChildProcessError):  # multiprocessing's: it has waited for it itself
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return next(each.exitcode for each in multiprocessing.active_children() if each.pid == pid)


def told(how: str, function, *arguments):
    """What a function returns in a child, which then ends."""
    reading, writing = os.pipe()

    def tell() -> None:
        os.close(reading)
        os.write(writing, json.dumps(function(*arguments)).encode())
        os._exit(0)

    pid = forked(how, tell)
    answer = os.read(reading, 65536)  # one write: an end is not waited for
    assert exit_code(pid) == 0
    os.close(reading)
    os.close(writing)
    return json.loads(answer)


def end(how: str, way: str) -> int | None:
    """The exit code of a child that ends in some way; None where it has left the handler."""
    pid = forked(how, ENDS[way])
    if os.getpid() != PARENT:
        return None
    return exit_code(pid)


def fail() -> None:
    raise ValueError("on purpose, in a child")


ENDS = {
    "return": lambda: None,
    "exit": lambda: sys.exit(3),
    "_exit": lambda: os._exit(4),
    "error": fail,
    "signal": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    "slept": lambda: (gevent.sleep(0.02), sys.exit(5)),
}


def terminated(how: str, number: str) -> int:
    """The exit code of a child that sleeps, and gets a signal at once."""
    pid = forked(how, time.sleep, 60)
    if os.getpid() != PARENT:
        os._exit(99)
    os.kill(pid, int(number))
    return exit_code(pid)


def look() -> dict[str, object]:
    """CHILD. Let the loop turn for a while, and tell what has happened meanwhile."""
    before = time.process_time()
    release.set()  # a greenlet of the parent waits for it
    gevent.sleep(0.15)
    wakeup_fd = signal.set_wakeup_fd(-1)
    profiled = []
    sys.setprofile(lambda *event: profiled.append(event))
    len("")
    sys.setprofile(None)
    return {
        "seconds": time.process_time() - before,
        "went on": went_on,
        "wakeup": wakeup_fd,
        "profiled": bool(profiled),
        "meanings": [
            number.name
            for number, meaning in MEANINGS.items()
            if signal.getsignal(number) is not meaning
        ],
    }


def serve_anew() -> str:
    """CHILD. A server of its own, as the error tells one to make it; asked by a client here."""
    with Server(lambda request: request.data.upper()) as own:
        own.bind("inproc://x")
        client = own.context.socket(3)  # REQ
        client.connect("inproc://x")
        client.send(b"served")
        reply = client.recv().decode()
        client.close()
    return reply


def wait(seconds: str) -> bytes:
    """In flight while others fork."""
    try:
        if seconds == "release":
            release.wait()
        else:
            gevent.sleep(float(seconds))
        if os.getpid() != PARENT:
            went_on.append("handler")
        return b"waited"
    finally:
        if os.getpid() != PARENT:
            went_on.append("finally")


def afterwards(request: Request) -> None:
    """The same, but its request has its reply."""
    request.reply(b"replied")
    wait("0.05")


def executed(number: str) -> int:
    """The exit code of another program, started by way of Python code in a child, which kills
    itself."""
    return subprocess.run(
        ["sh", "-c", f"kill -{number} $$; sleep 60"], preexec_fn=lambda: None, check=False
    ).returncode


def in_thread(how: str) -> object:
    """Fork in another OS thread than the serving one."""
    answers: list[object] = []
    thread = gevent.monkey.get_original("threading", "Thread")(
        target=lambda: answers.append(
            told(how, lambda: [signal.getsignal(signal.SIGTERM) is MEANINGS[signal.SIGTERM]])
        )
    )
    thread.start()
    while not answers:
        gevent.sleep(0.005)
    return answers[0]


VERBS = {
    "end": end,
    "terminated": terminated,
    "look": lambda how: told(how, look),
    "anew": lambda how: told(how, serve_anew),
    "wait": wait,
    "executed": executed,
    "thread": in_thread,
    "orphan": lambda how: forked(how, time.sleep, 60),
    "echo": lambda text: text,
}


def handle_request(request: Request):
    verb, *arguments = request.data.decode().split()
    if verb == "afterwards":
        return afterwards(request)
    result = VERBS[verb](*arguments)
    if os.getpid() != PARENT:
        return None  # a raw child comes back
    return result if isinstance(result, bytes) else json.dumps(result).encode()


if __name__ == "__main__":
    assert threading.current_thread() is threading.main_thread()
    server = Server(handle_request)
    server.bind(sys.argv[1])
    server.start()
    print(json.dumps(server.endpoints), flush=True)
    try:
        server.serve_forever()
    except WrongProcess as error:
        assert os.getpid() != PARENT
        os._exit(6 if "what a handler returned" in str(error) else 7)
    print(json.dumps(server.stats()), flush=True)
