"""Ten times the load that a server can carry."""
from __future__ import annotations

import json
import time

import pytest
from processes_apart import sized, until

from green_router.testing import PATIENCE

MB = 1_000_000
AT_ONCE, SECONDS_EACH = 25, 0.2
CAPACITY = AT_ONCE / SECONDS_EACH
"""125 requests a second, however fast the machine is: what is measured is the server's care, not its speed."""

CROWDS = {
    "pause": (10 * AT_ONCE, 0),         # ten times as many clients as it serves at once, each with a request on its way
    "refuse": (50, 10 * CAPACITY),      # ten times as many requests, whatever becomes of them
}


@pytest.mark.parametrize("overload", CROWDS)
def test_ten_times_the_load(scene, measured, overload):
    """Memory is bounded, what is admitted is served at 0.9 of the peak rate at least, and it is over at once."""
    seconds = sized(3, 30)
    server = scene.server(max_in_flight=AT_ONCE, overload=overload, busy_reply="busy", heartbeat_interval=1.0)
    few = scene.load(server, AT_ONCE, 0, f"sleep {SECONDS_EACH}")
    many = scene.load(server, *CROWDS[overload], f"sleep {SECONDS_EACH}")
    peak = rate_during(server, few, sized(2, 10))["rate"]
    memory = server.resident_bytes()
    server.forget_peak()
    under = rate_during(server, many, seconds)
    grown = server.peak_bytes() - memory
    after = few.ask(1)
    measured(f"{overload}: requests served under 10 x the load", f"{under['rate']:.0f}/s, {under['rate'] / peak:.2f} of the peak")
    measured(f"{overload}: memory under 10 x the load", f"{grown / MB:.1f} MB more")
    measured(f"{overload}: p50 in the second after it, where the handler takes {1000 * SECONDS_EACH:.0f} ms",
             f"{1000 * after['p50']:.0f} ms")
    assert under["disconnected"] == after["disconnected"] == 0, "heartbeats found healthy clients dead"
    assert under["received"] + under["refused"] == under["sent"]
    assert under["rate"] >= 0.9 * peak
    assert grown < 60 * MB
    assert after["p50"] < SECONDS_EACH + 0.05 * PATIENCE
    stats = server.stats()
    assert stats["fates"]["refused"] == under["refused"]
    assert (stats["fates"]["refused"] > 0) == (overload == "refuse")
    assert stats["in_flight"] == stats["waiting"] == 0
    until(lambda: any("over after" in line for line in server.ask("lines")))
    said = [line for line in server.ask("lines") if "overload" in line]
    assert len(said) <= 4, "when it begins and when it ends, not for each message"


def rate_during(server, load, seconds):
    """What a load tells of itself, and at what rate requests were answered while all of it was there."""
    load.say(seconds)
    begun = time.monotonic()
    time.sleep(seconds / 5)
    first, since = server.stats()["fates"]["answered"], time.monotonic()
    time.sleep(max(0.0, begun + 0.95 * seconds - since))
    last, till = server.stats()["fates"]["answered"], time.monotonic()
    return {"rate": (last - first) / (till - since), **json.loads(load.line())}
