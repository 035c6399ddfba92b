"""Answers what libzmq asks about those who connect (ZAP).

Rules of this file
  1. A ROUTER in the context of the server's, bound before that, and read in the hub: libzmq asks
     nobody else, and where it cannot be bound the server does not start.
  2. A directory of keys is looked up at once; a callable is asked in a greenlet of its own for each
     question, so that a slow one delays nobody else.
  3. A clear no is 400: the client does not try again. Whatever cannot be said now (the callable
     raised, took too long, returned nonsense) is 300: it comes back after ``handshake_timeout``.
  4. The domain of a question says which policy it is about; of an unknown one nobody gets in.
  5. No key, user name or password is logged, kept or counted.

Why not pyzmq's Authenticator
  Its ``start`` makes a blocking REP, which serves one client after the other; it logs PLAIN's
  passwords at debug level, and keeps its whole old list of keys where one file is broken.

Source: RFC 27 (ZAP).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import gevent
import zmq
from gevent.hub import get_hub
from zmq.utils import z85

from ..errors import StateError
from ..hub import forked
from . import failures
from .failures import Failures
from .keys import Identity, KeyDirectory, identity_of

ENDPOINT = "inproc://zeromq.zap.01"

BUDGET = 64
"""Questions that are taken at once at the most; the rest after the other things that the hub has to
do."""

MOST_QUESTIONS = 1000
"""Callables that are asked at once at the most; beyond, clients are told to come back."""

SHARE = 0.9
"""Of ``handshake_timeout``, after which a callable is not waited for: just before libzmq gives the
connection up."""

KEY = "Client-Key"
"""The property of a connection (zmq_msg_gets(3)) that has the public key of its client, in Z85,
where a directory of keys has let it in."""

ROLE = "Role"


class Question(NamedTuple):
    """Somebody wants to connect.

    Attributes:
        kind: ``curve`` or ``plain``.
        credentials: the public key (40 Z85 characters); or user name and password.
        address: the IP address of the peer, or ``localhost:UID:GID:PID`` over ipc.
    """

    kind: str
    credentials: tuple[str, ...]
    address: str

    def __repr__(self) -> str:
        return f"<Question of {self.kind}>"


Ask = Callable[[Question], Any]
"""The application's callable; it may block its greenlet."""


class Asked(Protocol):
    """A policy, as far as it is asked here (policy.py)."""

    kind: str | None
    """``curve`` or ``plain``."""
    ask: Ask | None
    """The application's callable, or None."""
    keys: KeyDirectory | None
    """The directory that says whose keys are let in, or None."""

    def known(self, key: bytes) -> Identity | None:
        """Return who has this key, where there is no callable; None for nobody."""


class Refusal(Exception):
    """Somebody is not let in. Attributes: cause, one of ``failures.CAUSES``; again, whether it may
    try again."""

    def __init__(self, cause: str, again: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.again = cause, again


class Zap:
    """The answering ROUTER. Made in the serving thread.

    Args:
        context: of the server's ROUTER.
        seconds: ``handshake_timeout``.
        counted: the counts of those who are not let in.
        report: ``report(address, text, *arguments, error=None)``: what is worth a line in the log.
            In the hub too.
    Raises:
        StateError: the context has a ZAP handler.
    Attributes:
        policies: by domain.
        addresses: from where keys of directories were let in, by key.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        seconds: float,
        counted: Failures,
        report: Callable[..., None],
    ) -> None:
        self._seconds, self._counted, self._report = SHARE * seconds, counted, report
        self.policies: dict[bytes, Asked] = {}
        self.addresses: dict[bytes, set[str]] = {}
        self._socket = context.socket(zmq.ROUTER, socket_class=zmq.Socket)
        for option in (zmq.LINGER, zmq.RCVHWM, zmq.SNDHWM):
            self._socket.setsockopt(option, 0)
        try:
            self._socket.bind(ENDPOINT)
        except zmq.ZMQError as error:
            self._socket.close(0)
            if error.errno != errno.EADDRINUSE:
                raise
            raise StateError(
                "the context has a ZAP handler, so this server could not say who may connect: "
                "give each server a context of its own, and start no authenticator beside it"
            ) from None
        self._asking: set[gevent.Greenlet[..., None]] = set()
        self._loop = get_hub().loop
        self._watcher = self._loop.io(self._socket.getsockopt(zmq.FD), 1)
        self._watcher.start(self._look)
        self._scheduled = False
        forked.arm(self)

    def _look(self) -> None:
        """HUB. Take what there is; ZMQ_FD is edge-triggered, so until there is nothing."""
        self._scheduled = False
        if self._socket.closed:
            return
        try:
            for _ in range(BUDGET):
                self._answer(self._socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return
        except zmq.ZMQError:  # the context is being ended
            return
        self._soon()

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self._look)

    def _answer(self, frames: list[bytes]) -> None:
        """HUB. Answer one question, or see to it that it is answered."""
        head, words = _split(frames)
        address = "?"
        try:
            version, _, domain, raw_address, _, mechanism, *credentials = words
            address = raw_address.decode(errors="replace")
            policy = self.policies.get(domain)
            if (
                version != b"1.0"
                or policy is None
                or mechanism.decode(errors="replace").lower() != (policy.kind or "null")
            ):
                raise Refusal(failures.MECHANISM)
            if policy.kind is None:
                self._reply(head, words, b"200")
                return
            if policy.kind == "curve":
                key = bytes(z85.encode(credentials[0]))
                question = Question("curve", (key.decode(),), address)
                if policy.ask is None:
                    identity = policy.known(key)
                    if identity is None:
                        raise Refusal(failures.UNKNOWN_KEY)
                    if policy.keys is None:
                        key = b""
                    else:  # over ipc the address goes on: localhost:UID:GID:PID
                        known = self.addresses.setdefault(key, set())
                        known.add("localhost" if address.startswith("localhost:") else address)
                    self._let_in(head, words, identity, key)
                    return
            else:
                name, password = (text.decode(errors="replace") for text in credentials)
                question = Question("plain", (name, password), address)
            if policy.ask is None or len(self._asking) >= MOST_QUESTIONS:
                raise Refusal(failures.OVERLOAD, again=True)
        except Refusal as refusal:
            self._refuse(head, words, address, refusal)
        except Exception:  # libzmq asks in no other form
            self._refuse(head, words, address, Refusal(failures.PROTOCOL))
        else:
            greenlet = gevent.spawn(self._ask, head, words, question, policy.ask)
            self._asking.add(greenlet)
            greenlet.rawlink(self._asking.discard)

    def _ask(self, head: list[bytes], words: list[bytes], question: Question, ask: Ask) -> None:
        """A greenlet. Ask the application."""
        timeout = gevent.Timeout(self._seconds)
        try:
            with timeout:
                answer = ask(question)
            self._let_in(head, words, judged(answer, question))
            return
        except Refusal as refusal:
            reason = refusal
        except gevent.Timeout as error:
            reason = Refusal(failures.CALLBACK_TIMEOUT, again=True)
            if error is not timeout:
                self._report(
                    question.address, "who may connect: the callable raised a Timeout of its own"
                )
        except Exception as error:
            reason = Refusal(failures.CALLBACK_ERROR, again=True)
            # The words of the error may have what the callable was given: its type and place only.
            self._report(
                question.address,
                "who may connect: the callable raised %s%s",
                type(error).__name__,
                raised_at(error),
            )
        self._refuse(head, words, question.address, reason)

    def _let_in(
        self, head: list[bytes], words: list[bytes], identity: Identity, key: bytes = b""
    ) -> None:
        properties = b""
        if key:
            properties += _property(KEY, key)
        if identity.role is not None:
            properties += _property(ROLE, identity.role.encode())
        self._reply(head, words, b"200", identity.user_id.encode(), properties)

    def _refuse(
        self, head: list[bytes], words: list[bytes], address: str, refusal: Refusal
    ) -> None:
        self._counted.count(refusal.cause)
        self._report(address, "refused a client at %s: %s", address, WORDS[refusal.cause])
        self._reply(head, words, b"300" if refusal.again else b"400")

    def _reply(
        self,
        head: list[bytes],
        words: list[bytes],
        status: bytes,
        user_id: bytes = b"",
        properties: bytes = b"",
    ) -> None:
        sequence = words[1] if len(words) > 1 else b""
        text = {b"200": b"OK", b"300": b"cannot say now"}.get(status, b"refused")
        try:
            self._socket.send_multipart(
                [*head, b"1.0", sequence, status, text, user_id, properties], zmq.NOBLOCK
            )
        except zmq.ZMQError:  # who asked has gone, or the context is being ended
            return
        self._soon()  # sending handles libzmq's commands too, and can swallow an edge

    def disarm(self) -> None:
        """In a forked child: nothing is answered."""
        self._watcher.stop()
        self._watcher.close()

    def close(self) -> None:
        """Answer nothing more. After the ROUTER is closed."""
        self.disarm()
        gevent.killall(list(self._asking), block=False)
        self._socket.close(0)


WORDS = {
    failures.MECHANISM: "it does not speak what this endpoint needs",
    failures.UNKNOWN_KEY: "its key is not authorized",
    failures.DENIED: "the callable says no",
    failures.CALLBACK_ERROR: "the callable raised; it may try again",
    failures.CALLBACK_TIMEOUT: "the callable took too long; it may try again",
    failures.CALLBACK_ANSWER: "the callable returned no answer; it may try again",
    failures.OVERLOAD: "too many are asked about at once; it may try again",
    failures.PROTOCOL: "libzmq asked in an unknown form",
}
"""What the log says of each cause."""


def judged(answer: Any, question: Question) -> Identity:
    """Return who it is, by what the callable has returned.

    Args:
        answer: true or false; a text, the user id; or a mapping with ``user_id`` and ``role``.
    Raises:
        Refusal: it says no, or nothing that can be understood.
    """
    if answer is None or answer is False:
        raise Refusal(failures.DENIED)
    if answer is True:
        answer = {}
    elif isinstance(answer, str):
        answer = {"user_id": answer}
    try:
        if not isinstance(answer, Mapping) or not answer.keys() <= {"user_id", "role"}:
            raise ValueError
        return identity_of(answer.get("user_id", question.credentials[0]), answer.get("role"))
    except (ValueError, TypeError, AttributeError):
        raise Refusal(failures.CALLBACK_ANSWER, again=True) from None


def _split(frames: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Separate the envelope, up to the empty frame, from the question."""
    end = frames.index(b"") + 1 if b"" in frames else len(frames)
    return frames[:end], frames[end:]


def _property(name: str, value: bytes) -> bytes:
    return struct.pack("B", len(name)) + name.encode() + struct.pack(">I", len(value)) + value


def raised_at(error: BaseException) -> str:
    """Return where an error was raised, as the end of a sentence, without its words: they may have
    a password."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    code = trace.tb_frame.f_code
    return f" in {code.co_name}, {code.co_filename}:{trace.tb_lineno}"
