"""The `streamws` command."""

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..about import BUILD, PLAIN, __version__
from ..net.transports import new_loop
from ..wire.deflate import codec, igzip
from .connect import add_connect
from .demo import add_demo
from .echo import add_echo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param arguments: the arguments; those of the process by default.
    :returns: the exit code.
    :raises SystemExit: with code 2 for invalid arguments; with code 0 after `--help` and `--version`.
    """
    parser = argparse.ArgumentParser(prog="streamws", description="WebSocket streams for asyncio.")
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and the build, and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_echo(commands)
    add_connect(commands)
    add_demo(commands)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


class _ShowVersion(argparse.Action):
    """Print the version report and exit."""

    # Not argparse's own "version" action: that would need the text at every start, and making it takes time.
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(_version_report())
        parser.exit()


def _version_report() -> str:
    """Return the facts that decide how fast this installation is: the build, Python, the event loop, the codecs."""
    loop = new_loop()
    loop.close()
    codecs = [module.__name__ for module in (igzip, codec) if module is not None]
    lines = [
        f"streamws {__version__}, {BUILD}",
        f"  installed in   {Path(__file__).parents[1]}",
        f"  Python         {platform.python_implementation()} {platform.python_version()}",
        f"  loop of run()  {_with_version(type(loop).__module__)}",
        f"  compression    {', '.join(_with_version(name) for name in codecs)}",
    ]
    if PLAIN:
        lines.append("  plain ways     yes, STREAMWS_PLAIN is set")
    return "\n".join(lines)


def _with_version(module: str) -> str:
    """Return the name of the package that a module belongs to, with its version unless it is Python's own."""
    package = module.partition(".")[0]
    return package if package in sys.stdlib_module_names else f"{package} {version(package)}"
