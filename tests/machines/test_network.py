"""Hosts with addresses of their own: what clients notice of a link that is cut, and of a host that
is gone.

Rules of this file
  1. What is measured are the clients' own counts (programs/counting_clients.py). REQ clients that
     ask again lose nothing, whatever happens; what they notice is time. What a DEALER that does not
     ask again misses is what is lost.
  2. By default one link is cut, for a second. With GREEN_ROUTER_TEST_FULL (tox -e machines) all of
     it happens, for as long as docs/scaling.md says.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from signal import SIGTERM

import pytest
from network import Network, unavailable

from green_router.testing import PATIENCE

FULL = os.environ.get("GREEN_ROUTER_TEST_FULL") == "1"

CUT_SECONDS = 5.0 if FULL else 1.0

TIMEOUT = 1.0 * PATIENCE

APPLICATION = """
import gevent
def handle_request(request):
    gevent.sleep(0.005)
    return request.data
"""

at_full_size = pytest.mark.skipif(
    not FULL, reason="takes its time: GREEN_ROUTER_TEST_FULL=1, tox -e machines"
)

why_not = functools.cache(unavailable)


@pytest.fixture
def network(tmp_path):
    """A broker, two servers and a host for clients."""
    if why_not() is not None:
        pytest.skip(str(why_not()))
    (tmp_path / "app.py").write_text(APPLICATION)
    made = Network(tmp_path, "broker", "one", "two", "clients")
    yield made
    made.close()


def proxied(network):
    """The proxy serves both servers; returns where clients connect."""
    broker = network.address("broker")
    network.start(
        "broker",
        "-m",
        "green_router",
        "proxy",
        "--frontend",
        "tcp://*:5555",
        "--backend",
        "tcp://*:5556",
    ).out.until("for servers on")
    servers = [
        network.start(
            host,
            "-m",
            "green_router",
            "serve",
            "app:handle_request",
            "--connect",
            f"tcp://{broker}:5556",
        )
        for host in ("one", "two")
    ]
    for server in servers:
        server.err.until("gives requests")
    return f"tcp://{broker}:5555"


def direct(network):
    """One server, without anything between."""
    network.start(
        "one", "-m", "green_router", "serve", "app:handle_request", "--bind", "tcp://*:5555"
    ).endpoint()
    return f"tcp://{network.address('one')}:5555"


class Asking:
    """The clients' program, on its host."""

    def __init__(self, network, endpoint):
        self._running = network.start(
            "clients",
            str(Path(__file__).parents[1] / "programs" / "counting_clients.py"),
            endpoint,
            str(TIMEOUT),
        )
        self.more(1)

    def more(self, times):
        """Wait until so many times fifty further replies have come."""
        for _ in range(times):
            self._running.out.until("answered")

    def end(self):
        """What came of it."""
        self._running.process.send_signal(SIGTERM)
        counts = json.loads(self._running.out.until("{"))
        print(counts)
        assert counts["answered"] == counts["asked"]
        assert counts["wrong"] == 0
        assert counts["came"] + counts["missing"] == counts["sent"]
        return counts


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        pytest.param(proxied, "one", id="proxy-server"),
        pytest.param(proxied, "clients", id="proxy-clients", marks=at_full_size),
        pytest.param(direct, "one", id="direct-server", marks=at_full_size),
    ],
)
def test_a_link_is_cut_and_healed_and_nothing_is_lost(network, pattern, host):
    """TCP sends again what was on its way. Who cannot wait asks again, and gets one reply."""
    clients = Asking(network, pattern(network))
    network.cut(host)
    time.sleep(CUT_SECONDS)
    network.heal(host)
    clients.more(4)
    counts = clients.end()
    assert counts["missing"] == 0


@at_full_size
def test_a_host_is_gone_and_the_other_goes_on(network):
    """What it had in hand is lost; who asks again gets its reply from the other one."""
    clients = Asking(network, proxied(network))
    network.lose("two")
    clients.more(10)
    counts = clients.end()
    assert counts["missing"] <= 10, "what was under way"


@at_full_size
def test_the_host_of_the_proxy_is_gone_and_comes_again(network):
    """Servers and clients find it by themselves, under its address."""
    clients = Asking(network, proxied(network))
    network.lose("broker")
    network.heal("broker")
    network.start(
        "broker",
        "-m",
        "green_router",
        "proxy",
        "--frontend",
        "tcp://*:5555",
        "--backend",
        "tcp://*:5556",
    ).out.until("for servers on")
    clients.more(4)
    clients.end()
