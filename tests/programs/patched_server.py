"""obedient_server.py where gevent has patched the standard library, at one time or another.

Usage: patched_server.py SETTINGS ENDPOINT..., with WHEN in the environment: ``never``, ``before``
zmq is imported, ``after`` that, or ``last``, after green_router is imported too.
"""

from __future__ import annotations

import os
import runpy
import warnings
from pathlib import Path

when = os.environ["WHEN"]
if when in ("after", "last"):
    import zmq.green  # noqa: F401
if when == "last":
    import green_router  # noqa: F401
if when != "never":
    from gevent import monkey

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)  # that ssl was imported before
        monkey.patch_all()
runpy.run_path(str(Path(__file__).with_name("obedient_server.py")), run_name="__main__")
