"""The compiled modules. Everything else about the package is in pyproject.toml.

`STREAMWS_PURE=1` builds without them, and so does a machine on which they cannot be compiled: all or none, since the
compiled modules call one another in C.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

COMPILED = [
    "wire/kernels.pyx",
    "wire/parser.py",
    "wire/deflate.py",
    "wire/protocol.py",
    "streams/waiter.py",
    "streams/inbox.py",
    "streams/outbox.py",
    "streams/writer.py",
    "network.py",
    "selector.py",
    "connection.py",
    "tls/engine.py",
    "tls/openssl.pyx",
    "tls/layer.py",
    "client.py",
]
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # only the .pxd files give C types
    "boundscheck": False,
    "wraparound": True,
    "cdivision": True,
    "binding": False,
}


def extensions() -> list[Extension]:
    if os.environ.get("STREAMWS_PURE") or sys.implementation.name != "cpython":
        return []
    from Cython.Build import cythonize

    flags = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0"]
    modules = [
        Extension(
            "streamws." + str(Path(source).with_suffix("")).replace("/", "."),
            [f"streamws/{source}"],
            extra_compile_args=flags,
        )
        for source in COMPILED
    ]
    return cythonize(modules, compiler_directives=DIRECTIVES, build_dir="build/cython", nthreads=os.cpu_count() or 1)


class BuildAllOrNone(build_ext):
    """Build every extension, or warn and leave the package pure Python."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []
            print(f"warning: streamws is installed as pure Python, it could not be compiled: {error}", file=sys.stderr)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildAllOrNone})
