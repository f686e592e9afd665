"""The Python interpreters that run the servers and clients under measurement."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.contestants import packages

_LIBRARIES = ("streamws", "picows", "aiohttp", "websockets", "websocket-client", "wse-server", "msgspec", "pydantic")
_ASGI = ("uvicorn", "fastapi", "wsproto", "hypercorn", "granian")
_CHANNELS = ("litestar", "starlette", "broadcaster")
_REDIS = ("hiredis", "redis")
PACKAGES = (*_LIBRARIES, *_ASGI, *_CHANNELS, *_REDIS, "uvloop", "aiofastnet", "zlib-ng", "isal")
OLDEST_FOR_WSE = (3, 12)
"""wse-server has no packages for older versions of Python, so it is not measured with them."""

_PROBE = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = None
try:
    from streamws.about import COMPILED
except ImportError:
    COMPILED = None
numbers = ".".join(map(str, sys.version_info[:3]))
print(json.dumps({"version": numbers, "full": sys.version, "compiled": COMPILED, "packages": found}))
"""


class UnusableInterpreter(Exception):
    """An interpreter cannot run the libraries that were chosen; the text says why, and what to do."""


class Interpreter(NamedTuple):
    """A Python interpreter, with the versions of the packages in its environment."""

    path: str
    label: str
    """Its version. If several interpreters have the same version, a number follows."""
    full_version: str
    compiled: bool | None
    """Whether its streamws is the compiled build; None if it has none."""
    packages: dict[str, str | None]

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.label.split(" ")[0].split("."))

    def runs(self, server: str) -> bool:
        """Return whether a library can be installed for this version of Python."""
        return not server.startswith("wse-server") or self.version >= OLDEST_FOR_WSE


def find(paths: Sequence[str], servers: Iterable[str]) -> list[Interpreter]:
    """Look at the interpreters, and check that each has the packages of these libraries.

    :raises UnusableInterpreter: If one cannot be started, or lacks a package.
    """
    return label([probe(path, servers) for path in paths or [sys.executable]])


def probe(path: str, servers: Iterable[str]) -> Interpreter:
    """Look at one interpreter; see `find`."""
    try:
        # `-I`: do not import from the current folder, which may be another checkout.
        done = subprocess.run([path, "-I", "-c", _PROBE, *PACKAGES], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnusableInterpreter(f"cannot run {path}: {error}; --python needs the path of an interpreter") from None
    if done.returncode:
        raise UnusableInterpreter(f"{path} failed: {(done.stderr.strip() or 'without a message').splitlines()[-1]}")
    seen = json.loads(done.stdout)
    found = Interpreter(path, seen["version"], seen["full"], seen["compiled"], seen["packages"])
    check(found, servers)
    return found


def check(interpreter: Interpreter, servers: Iterable[str]) -> None:
    """Check that an interpreter has the packages of these libraries.

    :raises UnusableInterpreter: If it lacks one.
    """
    needed = [name for server in servers if interpreter.runs(server) for name in packages(server)]
    missing = [name for name in dict.fromkeys(needed) if interpreter.packages.get(name) is None]
    if missing:
        raise UnusableInterpreter(
            f"{interpreter.path} (Python {interpreter.label}) lacks {', '.join(missing)}: run "
            f"`{interpreter.path} -m pip install '.[bench]'` in this repository, or choose libraries with --servers"
        )


def label(interpreters: Sequence[Interpreter]) -> list[Interpreter]:
    """Return the interpreters with different labels, in the same order."""
    versions = [interpreter.label for interpreter in interpreters]
    return [
        interpreter._replace(label=f"{version} #{versions[: number + 1].count(version)}")
        if versions.count(version) > 1
        else interpreter
        for number, (interpreter, version) in enumerate(zip(interpreters, versions, strict=True))
    ]
