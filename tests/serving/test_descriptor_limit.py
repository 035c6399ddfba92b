"""The soft limit of descriptors is raised when a server starts."""
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

soft, hard = map(int, sys.argv[1:])
logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
server = Server(lambda request: b"x")
server.bind("tcp://127.0.0.1:0")
server.start()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
server.stop()
"""


@pytest.mark.parametrize(("soft", "hard", "said"), [(100, 200, True), (200, 200, False)])
def test_the_soft_limit_becomes_the_hard_one_and_that_is_logged(soft, hard, said):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(soft), str(hard)], env=os.environ, text=True, check=True,
                          stdout=subprocess.PIPE, timeout=30 * PATIENCE)
    assert "(200, 200)" in done.stdout
    assert ("descriptors: raised the soft limit from 100 to the hard one, 200" in done.stdout) == said
