"""What a handler may return, and what the client gets: the table of the README, row by row."""

from __future__ import annotations

import array
import concurrent.futures
import ctypes
import functools
import mmap
import types

import gevent
import gevent.event
import gevent.threadpool
import pytest
import zmq

from green_router import ConfigError, Reject, Server, offload, until_ready
from green_router.testing import eventually, settled

ROWS = [
    ("bytes", lambda r: b"reply", [b"reply"]),
    ("empty bytes", lambda r: b"", [b""]),
    ("bytes subclass", lambda r: type("B", (bytes,), {})(b"reply"), [b"reply"]),
    ("bytearray", lambda r: bytearray(b"reply"), [b"reply"]),
    ("memoryview", lambda r: memoryview(b"xreplyx")[1:-1], [b"reply"]),
    ("list", lambda r: [b"a", bytearray(b"b"), memoryview(b"c")], [b"a", b"b", b"c"]),
    ("list of one", lambda r: [b"a"], [b"a"]),
    ("pair", lambda r: (r.routing_id, b"reply"), [b"reply"]),
    ("pair with a list", lambda r: (r.routing_id, [b"a", b"b"]), [b"a", b"b"]),
    (
        "unpacked as in the loop",
        lambda r: (lambda client_id, data: (client_id, data.upper()))(*r),
        [b"QUESTION"],
    ),
    ("indexed as in the loop", lambda r: (r[0], r[1].upper()), [b"QUESTION"]),
    ("reply called", lambda r: r.reply(b"reply"), [b"reply"]),
    ("reply called with frames", lambda r: r.reply(b"a", bytearray(b"b")), [b"a", b"b"]),
    ("reply called without frames", lambda r: r.reply(), [b""]),
    (
        "reply called later",
        lambda r: gevent.spawn_later(0.01, r.reply, b"reply") and None,
        [b"reply"],
    ),
]


@pytest.mark.parametrize(
    ("handler", "frames"), [pytest.param(h, f, id=name) for name, h, f in ROWS]
)
@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER], ids=["REQ", "DEALER"])
def test_results(serve, handler, frames, kind):
    server = serve(handler)
    client = server.client(kind)
    before = [b""] if kind == zmq.DEALER else []
    for _ in range(3):  # a reused greenlet is as good as a new one
        client.send_multipart([*before, b"question"])
        assert client.recv_multipart() == [*before, *frames]
    assert settled(server, "answered") == 3


def mapped():
    area = mmap.mmap(-1, 5)
    area.write(b"reply")
    return area


def held(kind):
    """An object of a class whose buffer is ``reply``."""
    return type(kind.__name__.title(), (kind,), {"__bytes__": lambda self: b"no"})(b"reply")


BUFFERS = {
    b"bytes": lambda: b"reply",
    b"a bytes subclass": lambda: held(bytes),
    b"bytearray": lambda: bytearray(b"reply"),
    b"a bytearray subclass": lambda: held(bytearray),
    b"memoryview": lambda: memoryview(b"xreplyx")[1:-1],
    b"a memoryview of two dimensions": lambda: memoryview(b"reply").cast("B", (1, 5)),
    b"array": lambda: array.array("B", b"reply"),
    b"ctypes": lambda: (ctypes.c_char * 5)(*b"reply"),
    b"Frame": lambda: zmq.Frame(b"reply"),
    b"mmap": mapped,
}


def by_future(make):
    future = concurrent.futures.Future()
    future.set_result(make())
    return future


def by_stream(make):
    yield make()


def by_reject(make):
    raise Reject(make())


WAYS = {
    "alone": lambda r, make: make(),
    "list": lambda r, make: [make()],
    "list of two": lambda r, make: [make(), b""],
    "pair": lambda r, make: (r.routing_id, make()),
    "pair with a list": lambda r, make: (r.routing_id, [make(), b""]),
    "reply": lambda r, make: r.reply(make()),
    "reply, then another": lambda r, make: r.reply(b"", final=False) or r.reply(make()),
    "future": lambda r, make: by_future(make),
    "greenlet": lambda r, make: gevent.spawn(make),
    "stream": lambda r, make: by_stream(make),
    "Reject": lambda r, make: by_reject(make),
    "on_error": lambda r, make: 1 / 0,
}
"""How a body can come."""


def given(way, makers):
    """The settings of a server whose handler gives, in that way, what is asked for by its name."""

    def giving(request):
        return WAYS[way](request, makers[request.data])

    return {
        "handler": giving,
        "on_error": lambda request, error: (
            makers[request.data]()
            if way == "on_error" and isinstance(error, ZeroDivisionError)
            else str(error).encode()
        ),
    }


@pytest.mark.parametrize("way", WAYS)
def test_whatever_has_a_buffer_is_a_body(serve, way):
    server = serve(**given(way, BUFFERS))
    client = server.client(zmq.DEALER)
    for name in BUFFERS:
        client.send_multipart([b"", name])
        if way == "reply, then another":
            assert client.recv_multipart() == [b"", b""]
        assert client.recv_multipart() == [
            b"",
            b"reply",
            *([b""] if way in ("list of two", "pair with a list") else []),
        ], name


def test_whatever_has_a_buffer_can_be_pushed_and_be_the_busy_reply(serve):
    server = serve(lambda request: b"ok")
    client = server.client(zmq.DEALER, routing_id=held(bytes))
    client.send_multipart([b"", b"x"])
    assert client.recv_multipart() == [b"", b"ok"]
    for make in BUFFERS.values():
        server.send(b"reply", make(), make())
        assert client.recv_multipart() == [b"", b"reply", b"reply"]
        assert server.settings.__class__(busy_reply=make()).busy_reply == [b"reply"]
        assert server.settings.__class__(busy_reply=(make(), b"")).busy_reply == [b"reply", b""]
    server.send(held(bytes), b"the id, too")
    assert client.recv_multipart() == [b"", b"the id, too"]


def test_a_body_is_copied(serve):
    """What the handler does with its buffer afterwards is nobody's business: mostly it uses it
    again."""
    buffer = bytearray(b"first")

    def handler(request):
        request.reply(buffer, final=False)
        buffer[:] = b"again"
        return buffer

    client = serve(handler).client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    assert [client.recv_multipart()[1] for _ in range(2)] == [b"first", b"again"]


class Proxy:
    """Says that it is of another class, as a proxy of wrapt, werkzeug or unittest.mock does."""

    def __init__(self, claimed):
        self.claimed = claimed

    @property
    def __class__(self):
        return self.claimed

    @__class__.setter
    def __class__(self, kind):
        raise AttributeError


def closed_map():
    area = mapped()
    area.close()
    return area


NO_BODIES = {
    **{
        b"claims %s" % kind.__name__.encode(): (lambda kind=kind: Proxy(kind), "Proxy: a reply is")
        for kind in (
            bytes,
            bytearray,
            memoryview,
            list,
            tuple,
            str,
            types.GeneratorType,
            types.CoroutineType,
        )
    },
    b"steps": (
        lambda: memoryview(b"r-e-p-l-y")[::2],
        "memoryview that is not contiguous: copy it first",
    ),
    b"closed": (closed_map, "mmap that cannot be read: mmap closed"),
    b"text": (lambda: "reply", "str, .encode() it: a reply is"),
    b"a text that has a buffer": (lambda: type("Text", (str,), {})("reply"), "Text: a reply is"),
}
"""By name: what makes it, and what is said of it behind "returned"."""


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_body_is_a_failure_that_names_its_type(serve, way):
    """However it comes. The server goes on, and nothing is left to warn of."""
    server = serve(**given(way, {name: make for name, (make, _) in NO_BODIES.items()}))
    for number, (name, (_, words)) in enumerate(NO_BODIES.items(), start=1):
        client = server.client(zmq.DEALER)
        client.send_multipart([b"", name])
        if way == "reply, then another":
            assert client.recv_multipart() == [b"", b""]
        if way == "on_error":
            eventually(lambda number=number: server.stats()["events"]["callback_errors"] == number)
        else:
            assert (
                client.recv_multipart()[1]
                .decode()
                .startswith(f"given.<locals>.giving returned {words}")
            ), name
    assert settled(server, "failed") == len(NO_BODIES)


@pytest.mark.parametrize("claimed", [bytes, str, list])
def test_a_first_item_that_lies_is_no_client(serve, claimed):
    server = serve(
        lambda request: (Proxy(claimed), b"reply"),
        on_error=lambda request, error: str(error).encode(),
    )
    assert b"returned tuple of Proxy and bytes: a tuple is (client_id, data)" in server.ask(b"x")
    with pytest.raises(ValueError, match="not Proxy"):
        server.send(Proxy(bytes), b"x")


def test_a_stream(serve):
    def count(request):
        for number in range(int(request.data)):
            if number % 100 == 50:
                gevent.sleep(0)
            yield b"%d" % number

    server = serve(count)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"1000"])
    assert [client.recv_multipart()[1] for _ in range(1000)] == [b"%d" % n for n in range(1000)]
    eventually(lambda: settled(server, "answered"))
    assert server.stats()["events"]["stream_items"] == 1000


def test_an_empty_stream_is_no_reply(serve):
    server = serve(lambda request: iter(()))
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "no_reply"))


def test_a_stream_by_reply_more(serve):
    def handler(request):
        request.reply(b"1", final=False)
        request.reply(b"2", b"2b", final=False)
        assert not request.replied
        request.reply(b"3")
        assert request.replied

    server = serve(handler)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    assert [client.recv_multipart()[1:] for _ in range(3)] == [[b"1"], [b"2", b"2b"], [b"3"]]
    eventually(lambda: settled(server, "answered"))


def test_a_pair_for_another_client_reaches_it(serve):
    server = serve(lambda request: (b"listener", request.data))
    listener = server.client(zmq.DEALER, routing_id=b"listener")
    listener.send_multipart([b"", b"hello"])
    assert listener.recv_multipart() == [b"", b"hello"]
    asker = server.client(zmq.DEALER)
    asker.send_multipart([b"", b"from another"])
    assert listener.recv_multipart() == [b"", b"from another"]
    assert settled(server, "answered") == 1
    assert settled(server, "no_reply") == 1


def test_a_push_to_a_client_that_has_gone_is_only_counted(serve, caplog):
    """By ``send`` nobody can mean a reply; and who has been there may go."""
    server = serve(lambda request: b"ok")
    server.send(b"nobody", b"x")
    eventually(lambda: server.stats()["events"]["lost_pushes"] == 1)
    assert server.ask(b"x") == b"ok"
    assert not caplog.records


@pytest.mark.parametrize(
    ("result", "named"),
    [
        ("text", "str"),
        (5, "int"),
        ({"a": 1}, "dict"),
        (object(), "object"),
        (1.5, "float"),
        (True, "bool"),
        (["text"], "str"),
        ([], "list without an item: a reply has at least one frame"),
        ([b"a", None], "NoneType"),
        (
            (b"id",),
            "tuple of 1: a tuple is (client_id, data); several frames of one reply are a list",
        ),
        ((b"id", "text"), "str"),
        (("id", b"x"), "tuple of str and bytes: a tuple is (client_id, data), client_id as bytes"),
        ((1, 2, 3), "tuple of 3"),
        (set(), "set"),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],  # the same in each process
)
def test_anything_else_is_a_failure_that_names_type_and_handler(serve, caplog, result, named):
    seen = []

    def wrong_handler(request):
        return result

    server = serve(wrong_handler, on_error=lambda request, error: seen.append(error) or b"failed")
    assert server.ask(b"x") == b"failed"
    assert named in str(seen[0])
    assert "wrong_handler" in str(seen[0])
    assert settled(server, "failed") == 1


@pytest.mark.parametrize("frames", [("text",), (b"a", 5), (None,)], ids=repr)
def test_reply_with_something_else_raises_in_the_caller_and_sends_nothing(serve, frames):
    def handler(request):
        with pytest.raises(TypeError, match="handler"):
            request.reply(*frames)
        return b"still mine to answer"

    assert serve(handler).ask(b"x") == b"still mine to answer"


async def answer(request):
    yield b"never"


class Service:
    async def __call__(self, request):
        return b"never"

    async def handle(self, request):
        return b"never"


ASYNC = [
    answer,
    Service(),
    Service().handle,
    functools.partial(functools.partial(Service().handle), b""),
    functools.partial(Service()),
]


@pytest.mark.parametrize(
    "handler", ASYNC, ids=["generator", "__call__", "method", "partials", "partial of __call__"]
)
def test_an_async_function_is_refused_where_a_greenlet_needs_what_it_returns(handler):
    for name, use in (
        ("until_ready", until_ready),
        ("offload", offload),
        ("on_error", lambda function: Server(len, on_error=function)),
    ):
        with pytest.raises(
            ConfigError, match=f"^{name} = .*: must be made with def, not with async def"
        ):
            use(handler)


def test_a_class_whose_objects_are_async_is_none_itself():
    assert Server(Service)


def test_jobs_may_be_kept_by_the_pair(serve):
    """As loops do: a thread that knows only the tuple says what is done, the handler looks its
    request up."""
    pool, begun, done = gevent.threadpool.ThreadPool(1), set(), {}

    def work(client_id, data):
        done[client_id, data] = data.upper()

    def handle_request(request):
        if request not in begun:
            begun.add(tuple(request))
            pool.spawn(work, *request)
        return request in done and (request[0], done.pop(request))

    assert serve(until_ready(handle_request)).ask(b"question") == b"QUESTION"
    assert not done
    pool.kill()


def test_reject_answers_with_exactly_that(serve):
    def handler(request):
        raise Reject(b"busy", b"try later")

    server = serve(handler, on_error=lambda *_: pytest.fail("a refusal is no error"))
    client = server.client()
    client.send(b"x")
    assert client.recv_multipart() == [b"busy", b"try later"]
    assert settled(server, "rejected") == 1


def test_a_kept_request_is_in_flight_until_it_is_forgotten(serve):
    kept = []
    server = serve(kept.append)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"a"])
    client.send_multipart([b"", b"b"])
    eventually(lambda: len(kept) == 2)
    gevent.sleep(0)
    assert server.stats()["in_flight"] == 2
    kept.pop(0).reply(b"late")
    assert client.recv_multipart() == [b"", b"late"]
    kept.clear()
    eventually(lambda: settled(server, "no_reply") == 1)
    assert server.stats()["in_flight"] == 0
