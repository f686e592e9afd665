"""The compiled modules. Everything else about the package is in pyproject.toml.

`STREAMWS_PURE=1` builds without them, and so does a machine on which they cannot be compiled: all or none, since the
compiled modules call one another in C.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # only the .pxd files give C types
    "boundscheck": False,
    "wraparound": True,
    "cdivision": True,
    "binding": False,
}


def compiled_sources() -> list[Path]:
    """The modules to compile: those with a `.pyx`, and those whose `.py` has a `.pxd` beside it."""
    typed = [
        path.with_suffix(".py") for path in Path("streamws").rglob("*.pxd") if not path.with_suffix(".pyx").exists()
    ]
    return sorted([*Path("streamws").rglob("*.pyx"), *typed])


def extensions() -> list[Extension]:
    if os.environ.get("STREAMWS_PURE") or sys.implementation.name != "cpython":
        return []
    from Cython.Build import cythonize

    flags = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0"]
    modules = [
        Extension(
            ".".join(source.with_suffix("").parts),
            [source.as_posix()],
            include_dirs=["streamws/awaiting"],
            depends=["streamws/awaiting/internals.h"],
            extra_compile_args=flags,
        )
        for source in compiled_sources()
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
