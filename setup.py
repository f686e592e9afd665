"""The compiled modules. Everything else about the package is in pyproject.toml.

`STREAMWS_PURE=1` builds without them, and so does a machine that cannot compile them: all or none, since the compiled
modules call one another in C. pip shows the output of a build only with `--verbose`; `streamws --version` tells later
which build was installed. `STREAMWS_CFLAGS` replaces the compiler's flags for optimization and debugging.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Remove build/ after a change here: Cython translates only changed sources again.
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # only the .pxd files give C types
    "auto_pickle": False,  # nothing that is compiled can be pickled: it belongs to a socket and a loop
    "binding": False,
    "boundscheck": False,
    "cdivision": True,
    # Signatures for help() and inspect.signature(). `binding` would add the types, but makes every call dearer.
    "embedsignature": True,
    "embedsignature.format": "clinic",
    # On a free-threaded CPython, importing a module enables the GIL: no lock protects what connections share.
    "freethreading_compatible": False,
    "wraparound": True,
}


def compiled_sources() -> list[Path]:
    """Return the modules to compile: those with a `.pyx`, and those whose `.py` has a `.pxd` beside it."""
    typed = [
        path.with_suffix(".py") for path in Path("streamws").rglob("*.pxd") if not path.with_suffix(".pyx").exists()
    ]
    return sorted([*Path("streamws").rglob("*.pyx"), *typed])


def extensions() -> list[Extension]:
    """Return the extensions, translated to C; none if the package is to be pure Python."""
    if os.environ.get("STREAMWS_PURE", "") not in ("", "0") or sys.implementation.name != "cpython":
        return []
    from Cython.Build import cythonize

    flags = os.environ.get("STREAMWS_CFLAGS", "/O2" if sys.platform == "win32" else "-O3 -g0").split()
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

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []
            print(f"warning: streamws is installed as pure Python, it could not be compiled: {error}", file=sys.stderr)


if __name__ == "__main__":  # Cython's processes import this file too
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildAllOrNone})
