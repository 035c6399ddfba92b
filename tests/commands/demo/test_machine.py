"""A busy machine is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demo_figures import quiet

pytestmark = pytest.mark.measures

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="this system has no /proc"
)


@needs_proc
def test_other_programs_are_noticed() -> None:
    """A child is another program until it has ended: then what it has used was this one's."""

    def seconds() -> float:
        return (machine.taken() or 0) * (time.monotonic() - begun) * (os.cpu_count() or 1)

    with quiet() as machine:
        begun = time.monotonic()
        program = (
            "import time\nwhile time.process_time() < 0.5: pass\n"
            "print('done', flush=True)\ntime.sleep(1000)"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as busy:
            assert busy.stdout and busy.stdout.readline() == b"done\n"
            machine.wait(0.05)
            before = seconds()
            busy.kill()
        assert before - seconds() > 0.2
    assert machine.late
    assert min(machine.late) > -0.001
