"""The soft limit of descriptors is raised when a server starts, as far as it may be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from green_router.testing import PATIENCE

resource = pytest.importorskip("resource")

PROGRAM = """
import logging, resource, sys
from green_router import Server

soft, hard, most = (None if word == "none" else int(word) for word in sys.argv[1:])
logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
server = Server(lambda request: b"x", descriptor_limit=most)
server.bind("tcp://127.0.0.1:0")
server.start()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
server.stop()
"""


@pytest.mark.parametrize(
    ("soft", "most", "then", "said"),
    [
        (100, "none", 200, "raised the soft limit from 100 to the hard one, 200"),
        (200, "none", 200, ""),
        (100, "150", 150, "raised the soft limit from 100 to 150"),
        (100, "1000", 200, "from 100 to the hard one, 200"),
        (100, "0", 100, ""),
        (150, "120", 150, ""),
    ],
)
def test_the_soft_limit_is_raised_and_that_is_logged(soft, most, then, said):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), "200", most],
        env=os.environ,
        text=True,
        check=True,
        stdout=subprocess.PIPE,
        timeout=30 * PATIENCE,
    )
    assert f"({then}, 200)" in done.stdout
    assert said in done.stdout
    assert ("descriptors:" in done.stdout) == bool(said)
