"""Handlers run in the context of the program: what it has set, they see; what they set is gone with
the request."""

from __future__ import annotations

import contextvars
import decimal
import subprocess
import sys

import gevent
import pytest
import zmq

from green_router.serving.contexts import StartContext
from green_router.testing import DEADLINE, eventually, running_server, settled

tenant = contextvars.ContextVar("tenant", default="nobody")


@pytest.fixture
def own_context():
    """``own_context(function)``: called in a context that begins as the program's and is gone at
    the end."""
    return contextvars.Context().run


def blocked(handle):
    def handler(request):
        gevent.sleep(0)
        return handle(request)

    return handler


both = pytest.mark.parametrize("shape", [lambda handle: handle, blocked], ids=["quick", "blocking"])


@both
def test_a_handler_sees_what_was_set_before_start(own_context, shape):
    def handle(request):
        before = tenant.get()
        tenant.set(request.data.decode())
        return f"{before} {1 / decimal.Decimal(3)}".encode()

    def program():
        tenant.set("acme")
        decimal.getcontext().prec = 5
        with running_server(shape(handle)) as server:
            tenant.set("too late")
            decimal.getcontext().prec = 9
            client = server.client(zmq.DEALER)
            for _ in range(20):
                client.send_multipart([b"", b"other"])
            return [client.recv_multipart()[1] for _ in range(20)]

    replies = own_context(program)
    # The program's decimal context is an object, and was changed in place: that is seen, as it is
    # everywhere.
    assert {reply.split()[0] for reply in replies} == {b"acme"}
    assert len({reply.split()[1] for reply in replies}) == 1


@both
def test_precision_is_the_program_s_and_what_a_handler_changes_is_its_own(own_context, shape):
    def handle(request):
        before = 1 / decimal.Decimal(3)
        decimal.getcontext().prec = 2
        return str(before).encode()

    def program():
        decimal.getcontext().prec = 7
        with running_server(shape(handle)) as server:
            replies = {server.ask() for _ in range(5)}
        return replies, str(1 / decimal.Decimal(3))

    assert own_context(program) == ({b"0.3333333"}, "0.3333333")


def test_a_program_that_has_set_nothing_pays_nothing(own_context):
    def program():
        assert StartContext().empty
        1 / decimal.Decimal(3)  # makes a context that says what every new one says
        assert StartContext().empty
        decimal.getcontext().prec = 5
        assert not StartContext().empty

    own_context(program)


def test_on_error_runs_in_it_too(own_context):
    def program():
        tenant.set("acme")
        with running_server(
            lambda request: 1 // 0, on_error=lambda request, error: tenant.get().encode()
        ) as server:
            return server.ask()

    assert own_context(program) == b"acme"


def test_a_stream_and_a_handler_that_is_asked_again_keep_theirs(own_context):
    from green_router import until_ready

    asked = {}

    def stream(request):
        tenant.set(request.data.decode())
        for _ in range(3):
            gevent.sleep(0)
            yield tenant.get().encode()

    def ask_again(request):
        if request not in asked:
            asked[request] = tenant.get()
            tenant.set(request.data.decode())
            return None
        return f"{asked[request]} {tenant.get()}".encode()

    def program():
        tenant.set("acme")
        with running_server(stream) as server:
            clients = [server.client(zmq.DEALER) for _ in range(3)]
            for number, client in enumerate(clients):
                client.send_multipart([b"", b"%d" % number])
            parts = [[client.recv_multipart()[1] for _ in range(3)] for client in clients]
            eventually(lambda: settled(server, "answered") == 3)
        with running_server(until_ready(ask_again)) as server:
            return parts, server.ask(b"other")

    assert own_context(program) == ([[b"0"] * 3, [b"1"] * 3, [b"2"] * 3], b"acme other")


def test_nothing_of_a_request_stays_in_an_idle_greenlet(serve):
    import gc
    import weakref

    class Kept:
        pass

    alive = weakref.WeakSet()
    variable = contextvars.ContextVar("variable")

    def handle(request):
        kept = Kept()
        alive.add(kept)
        variable.set(kept)
        gevent.sleep(0)
        return b""

    server = serve(handle)
    for _ in range(3):
        server.ask()
    gc.collect()
    eventually(lambda: not alive)


APPLICATION = """
import contextvars, decimal
decimal.getcontext().prec = 4
tenant = contextvars.ContextVar("tenant")
tenant.set("acme")

def handle(request):
    before = tenant.get()
    tenant.set("other")
    return f"{before} {1 / decimal.Decimal(3)}".encode()
"""


@pytest.mark.parametrize(
    "workers",
    [[], ["--workers", "1"], ["--workers", "1", "--dispatch", "direct"]],
    ids=["one process", "front", "direct"],
)
def test_a_service_runs_in_the_context_that_the_import_has_left(tmp_path, workers):
    (tmp_path / "application.py").write_text(APPLICATION)
    service = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "green_router",
            "serve",
            "application.py:handle",
            "--bind",
            "tcp://127.0.0.1:*",
            *workers,
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        endpoint = service.stdout.readline().split()[-1]
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-m", "green_router", "request", endpoint, "x"],
                capture_output=True,
                text=True,
                timeout=6 * DEADLINE,
                check=False,
            )
            assert done.stdout == "acme 0.3333", done.stderr
    finally:
        service.terminate()
        service.communicate(timeout=6 * DEADLINE)
