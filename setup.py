"""The compiled parts of the distribution; everything else about it is in setup.cfg.

They are optional: where they cannot be built, the same in Python serves, and the wheel is one of
pure Python.
"""

import os
import sys
import sysconfig

from setuptools import Extension, setup

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

COMPILED = [
    Extension(
        f"green_router.{directory}.{name}",
        [f"green_router/{directory}/{name}.c"],
        py_limited_api=True,
        optional=True,
    )
    for directory, name in [
        ("messages", "_fields"),
        ("serving", "_polling"),
        ("sockets", "_frames"),
    ]
]


class HonestWheel(bdist_wheel):
    """A wheel whose tag tells what is in it; setuptools would name it after what could not be
    built, too."""

    def run(self):
        if self.distribution.ext_modules:
            self.run_command("build_ext")
            built = self.get_finalized_command("build_ext").get_ext_fullpath
            if not all(os.path.exists(built(part.name)) for part in COMPILED):
                self.distribution.ext_modules = None
                self.root_is_pure, self.py_limited_api = True, False
        super().run()


# The limited API is CPython's, and of its builds with a GIL.
has_limited_api = sys.implementation.name == "cpython" and not sysconfig.get_config_var(
    "Py_GIL_DISABLED"
)

setup(
    ext_modules=COMPILED if has_limited_api else [],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if has_limited_api else {},
    cmdclass={"bdist_wheel": HonestWheel},
)
