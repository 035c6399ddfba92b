"""Everything at once, for as long as it is wanted: ``tox -e soak``, ``tox -e soak -- --hours 8``.

Clients of all kinds with random faults: a steady crowd that must get every reply, clients that interleave bursts of mixed
sizes, random messages, slow readers, frozen and killed processes, attacks on the port; and handlers that wait, fail, stream,
answer from threads, block the loop and overrun their deadline. It ends with a report, and with exit code 1 if a message has
no fate or two, a healthy client missed a reply, or something has leaked.
"""
from __future__ import annotations

import json
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

sys.path.insert(0, str(Path(__file__).parents[1]))

from attacks import EVERY
from processes_apart import Program, Scene, ServerProcess, until

from green_router.messages.ledger import quantile

MB = 1_000_000
SETTINGS = {
    "handler_timeout": 2.0, "explain": True, "block_warning": 0.2, "max_frames": 200, "max_message_bytes": 2 * MB,
    "max_parked_bytes_per_peer": 16 * MB, "max_parked_bytes": 400 * MB, "park_timeout": 5.0, "send_high_water_mark": 20,
    "handshake_timeout": 2.0, "max_in_flight_per_peer": 2000, "busy_reply": "busy", "heartbeat_interval": 5.0,
}
WORDS = [
    "echo", "size 10", "size 5000", "size 50000", "sleep 0.01", "sleep 0.5", "sleep 3", "keep", "fail", "silence", "text",
    "stream 20 1000", "stream 300 20000", "thread 1", "thread 2", "stubborn sleep", "size x", "spin 0.05",
]
LEAKED_BYTES = 40 * MB
"""What memory may grow by between the end of the first tenth and the end: allocators keep some."""


class Soak:
    """One run.

    Args:
        seconds: how long.
        seed: of all that is random here.
    """

    def __init__(self, scene: Scene, directory: str, seconds: float, seed: int) -> None:
        self.scene, self.seconds, self.seed = scene, seconds, seed
        self.server: ServerProcess = scene.server("tcp://127.0.0.1:0", f"ipc://{directory}/s", **SETTINGS)
        self.end = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.latencies: list[dict[str, float]] = []

    def run(self) -> int:
        """Run to the end, and report."""
        base = self.server.descriptors()
        threads = [threading.Thread(target=self._repeat, args=(what, self.seed + number))
                   for number, what in enumerate((self._steady, self._interleave, self._babble, self._ask, self._ask, self._attack))]
        for thread in threads:
            thread.start()
        memory = [self.server.resident_bytes()]
        while time.monotonic() < self.end:
            time.sleep(min(5.0, self.seconds / 20))
            memory.append(self.server.resident_bytes())
            self._look()
        for thread in threads:
            thread.join()
        self.server.ask("release")
        self._expect("everything comes to rest", lambda: until(self._at_rest, 60))
        self._expect("descriptors come back", lambda: until(lambda: self.server.descriptors() <= base + 16, 30))
        wake_ups = self.server.idle_wake_ups()
        descriptors = self.server.descriptors() - base
        grown = self.server.resident_bytes() - memory[len(memory) // 10]
        lines = Counter(line.split()[0] for line in self.server.ask("lines"))
        final = self.server.stop()
        if grown > LEAKED_BYTES:
            self.wrong.append(f"memory has grown by {grown / MB:.0f} MB")
        self._report(final, memory, descriptors, grown, wake_ups, lines)
        return 1 if self.wrong else 0

    def _repeat(self, what: Callable[[random.Random], None], seed: int) -> None:
        pick = random.Random(seed)
        while time.monotonic() < self.end:
            try:
                what(pick)
            except Exception as error:
                self.wrong.append(f"{what.__name__.strip('_')}: {type(error).__name__}: {error}")
                time.sleep(1)

    def _expect(self, what: str, condition: Callable[[], object]) -> None:
        try:
            condition()
        except AssertionError:
            self.wrong.append(f"not so: {what}: {self.server.stats()}")

    def _look(self) -> None:
        """The accounts balance at any time, and nothing is kept for ever."""
        self.server.ask("release")
        try:
            self.server.stats()
        except AssertionError as error:
            self.wrong.append(f"the accounts do not balance: {error}")

    def _at_rest(self) -> bool:
        stats = self.server.stats()
        return not stats["in_flight"] + stats["waiting"] + stats["parked"] + stats["peers"] + stats["deferred"]

    # -- what goes on ----------------------------------------------------------------------------------------------

    def _steady(self, pick: random.Random) -> None:
        """Clients that are well: each of their requests is answered."""
        load = Program("load.py", pick.choice(self.server.endpoints), pick.choice([1, 10, 50]), pick.choice([20, 100, 400]),
                             pick.choice(["echo", "sleep 0.01", "size 100"]))
        try:
            load.line()
            result = load.ask(min(pick.uniform(2, 20), max(1.0, self.end - time.monotonic())))
        finally:
            load.close()
        self.counts["requests of steady clients"] += result["sent"]
        self.latencies.append(result)
        if result["received"] + result["timed out"] != result["sent"] or result["disconnected"]:
            self.wrong.append(f"a steady client: {result}")

    def _interleave(self, pick: random.Random) -> None:
        clients = Program("interleaved.py", pick.choice(self.server.endpoints), pick.randint(1, 20), pick.randint(100, 20_000),
                                pick.randrange(10**9))
        try:
            result = json.loads(clients.line())
        finally:
            clients.close()
        self.counts["requests of clients that interleave"] += result["sent"]
        if result["received"] != result["sent"]:
            self.wrong.append(f"clients that interleave: {result}")

    def _babble(self, pick: random.Random) -> None:
        messages = pick.randint(100, 5000)
        babble = Program("babble.py", pick.choice(self.server.endpoints), pick.randint(1, 10), messages, pick.randrange(10**9))
        try:
            time.sleep(pick.uniform(0, 3))
            if pick.random() < 0.5:
                babble.line()
            self.counts["random messages, at the most"] += messages
        finally:
            babble.close()          # by SIGKILL, if it has not ended
        time.sleep(pick.uniform(0, 3))

    def _ask(self, pick: random.Random) -> None:
        """Clients that ask and read late, or never: slow, frozen, killed, back with the same routing id."""
        clients, requests = pick.randint(1, 20), pick.randint(1, 100)
        asker = Program("asker.py", pick.choice(self.server.endpoints), clients, requests,
                              pick.choice(["-", "me", f"r{pick.randint(0, 5)}"]), 0, *pick.choice(WORDS).split())
        try:
            asker.line()
            fate = pick.choice(["kill", "freeze", "freeze and go on", "read", "slow"])
            self.counts[f"clients: {fate}"] += clients
            if fate.startswith("freeze"):
                time.sleep(pick.uniform(0, 0.5))
                asker.signal(signal.SIGSTOP)
                time.sleep(pick.choice([0.1, 1.0, 3.0, 8.0]))
                asker.signal(signal.SIGCONT)
            if fate == "slow":
                time.sleep(pick.uniform(0, 3))
            if fate not in ("kill", "freeze"):
                asker.say(requests)
                time.sleep(pick.uniform(0, 2))
        finally:
            asker.close()

    def _attack(self, pick: random.Random) -> None:
        peers = []
        for attack in pick.sample(EVERY, pick.randint(1, len(EVERY))):
            self.counts["attacks on the port"] += 1
            try:
                peers.append(attack(self.server.address))
            except (OSError, AssertionError):       # it has hung up
                self.counts["attacks that were cut short"] += 1
        time.sleep(pick.choice([0.0, 0.1, 1.0]))
        for peer in filter(None, peers):
            peer.close()

    # -- the end ---------------------------------------------------------------------------------------------------

    def _report(self, final: dict, memory: list[int], descriptors: int, grown: int, wake_ups: int, lines: Counter[str]) -> None:
        click.echo(f"\nsoak: {self.seconds:.0f} s, seed {self.seed}")
        click.echo(f"  received             {final['received']:,}")
        for kind in ("fates", "events"):
            for name, count in final[kind].items():
                click.echo(f"    {name:<18} {count:,}")
        for name, count in sorted(self.counts.items()):
            click.echo(f"  {name:<36} {count:,}")
        click.echo("  latency in the server: " + ", ".join(
            f"p{100 * share:g} under {1000 * quantile(final['latency'], share):.2f} ms" for share in (0.5, 0.99, 0.999)))
        if self.latencies:
            for name in ("p50", "p99", "max"):
                values = sorted(1000 * one[name] for one in self.latencies)
                click.echo(f"  steady clients, {name}: median of their runs {values[len(values) // 2]:.2f} ms, worst {values[-1]:.1f} ms")
        click.echo(f"  memory: {memory[0] / MB:.0f} MB at first, {max(memory) / MB:.0f} MB at the most, {grown / MB:+.1f} MB from "
                   "the first tenth to the end")
        click.echo(f"  left behind: {descriptors} descriptors, {sum(final['where'].values())} table entries; "
                   f"{wake_ups} wake-ups in the idle second after it")
        click.echo(f"  logged: {dict(lines)}")
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
            code = Soak(scene, directory, 3600 * hours if hours is not None else 60 * minutes, seed).run()
        finally:
            scene.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
