"""Everything at once, for as long as it is wanted: ``tox -e soak``, ``tox -e soak -- --hours 8``.

One server lives from the beginning to the end. It has clients of all kinds with random faults: a
steady crowd that must get every reply, clients that interleave bursts of mixed sizes, random
messages, slow readers, frozen and killed processes, attacks on the port; and handlers that wait,
fail, stream, push, answer from threads or by futures, block the loop and overrun their deadline.
Beside it servers with random settings are stopped under load, and workers of services killed and
replaced: soak_parts.py.

Rules of this file
  1. It ends with a report, and with exit code 1 if a message has no fate or two, a healthy client
     missed a reply, or something has leaked: each of that is a line that begins with WRONG.
  2. Leaks are what is more at rest in the end than at rest after each attack and each word was
     tried once: what allocators and pools keep is there by then, and what is free is given back
     before it is measured.
  3. How late a reply came is reported, never judged: the machine may be busy. What never came is
     wrong.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from attacks import EVERY, a_message_of_a_million_frames, a_message_without_an_end
from processes_apart import ANY_PORT, Scene, ServerProcess, until
from soak_parts import Tally, client, restart, workers

from green_router.messages.ledger import quantile
from green_router.testing import PATIENCE

MB = 1_000_000
SETTINGS = {
    "handler_timeout": 2.0,
    "explain": True,
    "block_warning": 0.2,
    "max_frames": 200,
    "max_message_bytes": 150_000,
    "max_parked_bytes_per_peer": 16 * MB,
    "max_parked_bytes": 400 * MB,
    "park_timeout": 5.0,
    "send_high_water_mark": 20,
    "handshake_timeout": 2.0,
    "max_in_flight_per_peer": 2000,
    "busy_reply": "busy",
}
DUPLICATES = (
    {"duplicate_routing_id": "handover"},
    {"duplicate_routing_id": "reject", "heartbeat_interval": 5.0},
)
"""What becomes of clients that come back with their routing id while their first connection is
there; one of these, by the seed. With reject nobody comes back so: libzmq would keep what they
say."""

WORDS = [
    "echo",
    "size 10",
    "size 5000",
    "size 50000",
    "sleep 0.01",
    "sleep 0.5",
    "sleep 3",
    "keep",
    "fail",
    "silence",
    "text",
    "stream 20 1000",
    "stream 300 20000",
    "thread 1",
    "thread 2",
    "stubborn briefly",
    "size x",
    "spin 0.05",
    "future 0.005",
    "future 0.005 fail",
    "later 0.1",
    "later 3",
    "push",
    "push gone",
]
STEADY_WORDS = ["echo", "sleep 0.01", "future 0.005", "later 0.01"]
"""Those whose reply ends with the frame that the request ended with: load.py takes the time by
it."""

MOST_REQUESTS = {"spin 0.05": 5, "stream 300 20000": 10}
"""Of one client: with a hundred, what the steady ones measure would be these blocks and nothing
else."""

HEAVY = (a_message_without_an_end, a_message_of_a_million_frames)
"""libzmq has 50 MB and more in hand for each while its connection lasts."""

HEAVY_SHARE = 0.05
"""Of the rounds of attacks, those with one of the heavy ones."""

LEAKED = {"heap": 8 * MB, "blocks": 40_000, "resident": 100 * MB}
"""What memory may grow by from rest to rest: bytes of the C heap that are in use, Python's blocks,
and resident bytes, which hold what the allocators cannot give back as well: pages that are in use
here and there."""

LEAKED_DESCRIPTORS = 16

NICENESS = 5
"""Of all that is not the server or a steady client, inherited from the thread that starts it: else
those two would tell how long they waited for a processor."""


class Soak:
    """One run.

    Args:
        seconds: how long, beside the first round of everything and the end.
        seed: of all that is random here.
    """

    def __init__(self, scene: Scene, directory: str, seconds: float, seed: int) -> None:
        self.scene, self.directory, self.seconds, self.seed = scene, directory, seconds, seed
        duplicates = random.Random(seed).choice(DUPLICATES)
        self._ids = (
            ["-", "me", *(f"r{number}" for number in range(6))]
            if duplicates is DUPLICATES[0]
            else ["-"]
        )
        click.echo(f"soak: seed {seed}, {duplicates}")
        self.server: ServerProcess = scene.server(
            ANY_PORT, f"ipc://{directory}/s", **SETTINGS, **duplicates
        )
        self.end = time.monotonic()
        self.tally = Tally()
        self.logged: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.latencies: list[dict[str, float]] = []

    def left(self) -> float:
        """Seconds to the end."""
        return self.end - time.monotonic()

    def run(self) -> int:
        """Run to the end, and report."""
        before = self.server.descriptors()
        self._each_once()
        base = self._rest(before)
        memory = [base["resident"]]
        self.end = time.monotonic() + self.seconds
        parts = (
            self._steady,
            self._interleave,
            self._babble,
            self._ask,
            self._ask,
            self._attack,
            lambda pick: restart(self, pick),
            lambda pick: workers(self, pick),
        )
        names = ("steady", "interleave", "babble", "ask", "ask", "attack", "restart", "workers")
        threads = [
            threading.Thread(target=self._repeat, args=(name, what, self.seed + number))
            for number, (name, what) in enumerate(zip(names, parts, strict=True))
        ]
        for thread in threads:
            thread.start()
        while self.left() > 0:
            time.sleep(min(5.0, self.seconds / 20))
            if self.server.process.poll() is not None:
                self.end = time.monotonic()
                raise click.ClickException(
                    f"the server has ended with {self.server.process.poll()}, seed {self.seed}"
                )
            memory.append(self.server.resident_bytes())
            self._look()
        for thread in threads:
            thread.join()
        grown = {name: number - base[name] for name, number in self._rest(before).items()}
        wake_ups = self.server.idle_wake_ups()
        descriptors = self.server.descriptors() - before
        final = self.server.stop()
        self.wrong += [
            f"memory has grown: {name} by {grown[name]:,}"
            for name, bound in LEAKED.items()
            if grown[name] > bound
        ]
        self._report(final, memory, descriptors, grown, wake_ups)
        return 1 if self.wrong else 0

    def _repeat(self, name: str, what: Callable[[random.Random], None], seed: int) -> None:
        if name != "steady":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        pick = random.Random(seed)
        while self.left() > 0:
            try:
                what(pick)
            except Exception as error:
                self.wrong.append(f"{name}: {type(error).__name__}: {error}")
                time.sleep(1)

    def _expect(self, what: str, condition: Callable[[], object]) -> None:
        try:
            condition()
        except AssertionError as error:
            self.wrong.append(f"not so: {what}: {error}: {self.server.ask('stats')}")

    def _look(self) -> None:
        """The accounts balance at any time, and nothing is kept for ever."""
        self.server.ask("release")
        self.logged.update(line.split()[0] for line in self.server.ask("lines"))
        self.server.ask("forget")
        try:
            self.server.stats()
        except AssertionError as error:
            self.wrong.append(f"the accounts do not balance: {error}")

    def _each_once(self) -> None:
        """Each attack and each word."""
        for attack in EVERY:
            self._attack_by(attack, seconds=0.0)
        asking = self.scene.client(self.server.endpoint)
        for words in WORDS:
            asking.send_multipart([b"", words.encode()])
        while asking.poll(1000 * 3):  # longer than a handler may take
            asking.recv_multipart()
        asking.close()

    def _rest(self, descriptors: int) -> dict[str, int]:
        """Wait until nothing goes on.

        Args:
            descriptors: how many are open at rest.
        Returns:
            ``resident`` bytes; of these, those of the C ``heap`` that are in use, and the number of
            Python's ``blocks``.
        """
        self._look()
        self._expect("everything comes to rest", lambda: until(self._at_rest, 60 * PATIENCE))
        self._expect(
            "descriptors come back",
            lambda: until(
                lambda: self.server.descriptors() <= descriptors + LEAKED_DESCRIPTORS, 30 * PATIENCE
            ),
        )
        self._look()
        used: dict[str, int] = self.server.ask("memory")
        return used | {"resident": self.server.resident_bytes()}

    def _at_rest(self) -> bool:
        stats = self.server.stats()
        return (
            not stats["in_flight"]
            + stats["waiting"]
            + stats["parked"]
            + stats["peers"]
            + stats["deferred"]
            + stats["stubborn"]
        )

    # -- what goes on ------------------------------------------------------------------------------

    def _steady(self, pick: random.Random) -> None:
        """Clients that are well: each of their requests is answered."""
        with client(
            self,
            "load.py",
            pick.choice(self.server.endpoints),
            pick.choice([1, 10, 50]),
            pick.choice([20, 100, 400]),
            *pick.choice(STEADY_WORDS).split(),
        ) as load:
            load.line()
            result = load.ask(min(pick.uniform(2, 20), max(1.0, self.left())))
        self.tally.add("steady clients: requests", result["sent"])
        self.tally.add("steady clients: timed out, and told so", result["timed out"])
        self.latencies.append(result)
        if result["received"] + result["timed out"] != result["sent"] or result["disconnected"]:
            self.wrong.append(f"a steady client: {result}")

    def _interleave(self, pick: random.Random) -> None:
        most = max(200, min(20_000, int(500 * self.left())))
        with client(
            self,
            "interleaved.py",
            pick.choice(self.server.endpoints),
            pick.randint(1, 20),
            pick.randint(100, most),
            pick.randrange(10**9),
        ) as clients:
            result = clients.next()
        self.tally.add("clients that interleave: requests", result["sent"])
        self.tally.add("clients that interleave: a second without a reply", result["missed"])
        if result["received"] != result["sent"]:
            self.wrong.append(f"clients that interleave: {result}")

    def _babble(self, pick: random.Random) -> None:
        messages = pick.randint(100, 5000)
        with client(
            self,
            "babble.py",
            pick.choice(self.server.endpoints),
            pick.randint(1, 10),
            messages,
            pick.randrange(10**9),
        ) as babble:
            self._pause(pick.uniform(0, 3))
            if pick.random() < 0.5:
                babble.line()
            self.tally.add("random messages, at the most", messages)
        self._pause(pick.uniform(0, 3))  # by SIGKILL, if it had not ended

    def _ask(self, pick: random.Random) -> None:
        """Clients that ask and read late, or never: slow, frozen, killed, back with the same
        routing id."""
        words = pick.choice(WORDS)
        clients, requests = pick.randint(1, 20), pick.randint(1, MOST_REQUESTS.get(words, 100))
        with client(
            self,
            "asker.py",
            pick.choice(self.server.endpoints),
            clients if requests > 5 else 1,
            requests,
            pick.choice(self._ids),
            0,
            *words.split(),
        ) as asker:
            asker.line()
            fate = pick.choice(["kill", "freeze", "freeze and go on", "read", "slow"])
            self.tally.add(f"clients that ask: {fate}", clients)
            if fate.startswith("freeze"):
                time.sleep(pick.uniform(0, 0.5))
                asker.signal(signal.SIGSTOP)
                self._pause(pick.choice([0.1, 1.0, 3.0, 8.0]))
                asker.signal(signal.SIGCONT)
            if fate == "slow":
                self._pause(pick.uniform(0, 3))
            if fate not in ("kill", "freeze"):
                asker.say(requests)
                self._pause(pick.uniform(0, 2))

    def _attack(self, pick: random.Random) -> None:
        light = [attack for attack in EVERY if attack not in HEAVY]
        attacks = pick.sample(light, pick.randint(1, len(light)))
        if pick.random() < HEAVY_SHARE:
            attacks.append(pick.choice(HEAVY))
        self._attack_by(*attacks, seconds=pick.choice([0.0, 0.1, 1.0]))

    def _attack_by(self, *attacks: Callable[..., object], seconds: float) -> None:
        """Each of them, connected for so long after the last."""
        peers = []
        for attack in attacks:
            self.tally.add("attacks on the port")
            try:
                peers.append(attack(self.server.address))
            except (OSError, AssertionError):  # it has hung up
                self.tally.add("attacks on the port: cut short")
        time.sleep(seconds)
        for peer in filter(None, peers):
            peer.close()

    def _pause(self, seconds: float) -> None:
        """So long, and not beyond the end."""
        time.sleep(max(0.0, min(seconds, self.left())))

    # -- the end -----------------------------------------------------------------------------------

    def _report(
        self, final: dict, memory: list[int], descriptors: int, grown: dict[str, int], wake_ups: int
    ) -> None:
        click.echo(f"\nsoak: {self.seconds:.0f} s, seed {self.seed}")
        click.echo(
            f"  requests: {final['received']:,} received, by the server that lived from the "
            "beginning to the end"
        )
        for kind in ("fates", "events"):
            click.echo(
                f"  {kind}: "
                + ", ".join(f"{name} {count:,}" for name, count in final[kind].items())
            )
        for name, count in sorted(self.tally.counts.items()):
            click.echo(f"  {name:<54} {count:>12,}")
        click.echo(
            "  latency in the server: "
            + ", ".join(
                f"p{100 * share:g} under {1000 * quantile(final['latency'], share):.2f} ms"
                for share in (0.5, 0.99, 0.999)
            )
        )
        for name in ("p50", "p99", "max") if self.latencies else ():
            values = sorted(1000 * one[name] for one in self.latencies)
            click.echo(
                f"  latency of steady clients, {name}: median of their {len(values)} runs "
                f"{values[len(values) // 2]:.2f} ms, worst {values[-1]:.1f} ms"
            )
        click.echo(
            f"  leaks: memory {grown['resident'] / MB:+.1f} MB from rest to rest, of it "
            f"{grown['heap'] / MB:+.1f} MB of the heap in use, {grown['blocks']:+,} Python "
            f"blocks; {memory[0] / MB:.0f} MB at first, {max(memory) / MB:.0f} MB at the most"
        )
        click.echo(
            f"  left behind: {descriptors} descriptors, {sum(final['where'].values())} table "
            f"entries; {wake_ups} wake-ups in an idle second"
        )
        click.echo(
            f"  logged: {', '.join(f'{number:,} {level}' for level, number in self.logged.items())}"
        )
        for sentence in self.wrong:
            click.echo(f"  WRONG: {sentence}")
        click.echo("  " + ("failed" if self.wrong else "passed"))


@click.command()
@click.option("--minutes", type=float, default=10.0, show_default=True, help="How long.")
@click.option("--hours", type=float, default=None, help="The same in hours.")
@click.option("--seed", type=int, default=None, help="Of what is random; one is chosen and told.")
def main(minutes: float, hours: float | None, seed: int | None) -> None:
    """Everything at once, for as long as it is wanted."""
    seed = random.randrange(10**6) if seed is None else seed
    scene = Scene()
    with tempfile.TemporaryDirectory() as directory:
        try:
            code = Soak(
                scene, directory, 3600 * hours if hours is not None else 60 * minutes, seed
            ).run()
        finally:
            scene.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
