"""The `streamws` command."""

import argparse
from collections.abc import Sequence

from .connect import add_connect
from .echo import add_echo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    :param arguments: those of the process by default.
    :raises SystemExit: with code 2 for arguments that make no sense.
    """
    parser = argparse.ArgumentParser(prog="streamws", description="WebSocket streams for asyncio.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_echo(commands)
    add_connect(commands)
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code
