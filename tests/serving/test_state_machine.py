"""The whole server: whatever happens, in whatever order, the laws hold.

Most of it against the edge-triggered fake ROUTER, where all is exact and time costs nothing; then
the same machine against real sockets, so that the fake is not what it proves.
"""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import rule
from whole_server import FakeWorld, Machine, RealWorld, profile


class FakeMachine(Machine):
    """Here the far sides can also act in the middle of the owner's turn: that is how edges are
    lost."""

    World = FakeWorld

    @rule(
        who=st.integers(0, 3),
        actions=st.lists(
            st.tuples(
                st.integers(0, 12), st.sampled_from(["take", "take all", "send", "send", "kill"])
            ),
            min_size=1,
            max_size=4,
        ),
    )
    def meanwhile(self, who, actions):
        client, router = self.living(who), self.world.router
        for calls, what in actions if client is not None else ():
            if what == "kill":
                self.mid_deaths += 1
                client.alive = False
                router.meanwhile(calls, client.peer.disconnect)
            elif what == "send":
                router.meanwhile(calls, partial(client.send, *[b"x"] * 12))
            else:
                router.meanwhile(calls, partial(client.drain, 1 if what == "take" else None))

    @rule(who=st.integers(0, 3))
    def take_over(self, who):
        """Another peer connects with the same routing id; it gets what was meant for the former
        one."""
        client = self.living(who)
        if client is not None:
            client.alive = False
            self.clients.append(self.world.connect(self, client.routing_id))
            self.clients[-1].made = client.made
            self.clients[-1].torn = client.torn + 1
            self.mid_deaths += 1


TestFake = FakeMachine.TestCase
TestFake.settings = profile(examples=150, full_examples=5000, steps=30)


class RealMachine(Machine):
    World = RealWorld


TestReal = RealMachine.TestCase
TestReal.settings = profile(examples=15, full_examples=300, steps=15)
