"""Event loops that count how often they call the callbacks of `add_reader`."""

import asyncio
import os
import selectors
from collections.abc import Callable
from pathlib import Path
from typing import Any


def counting_loop(kind: str) -> Any:
    """Return a new loop with the attribute `calls`.

    A loop does not watch its own sockets by `add_reader`, nor those of its transports and of `sock_recv`. So it only
    counts the calls of a poll, or of the transports of streamws where there is no poll.

    :param kind: "asyncio", "uvloop", or "poll" for a loop of asyncio that uses no epoll, as on other systems.
    """
    base: Any
    if kind == "uvloop":
        import uvloop

        base = uvloop.Loop
    else:
        base = asyncio.SelectorEventLoop

    class CountingLoop(base):  # type: ignore[misc]
        calls = 0

        def add_reader(self, fd: int, callback: Callable[..., object], *args: object) -> None:
            def counted() -> None:
                self.calls += 1
                callback(*args)

            super().add_reader(fd, counted)

    return CountingLoop(selectors.PollSelector()) if kind == "poll" else CountingLoop()


def descriptors(kind: str) -> int:
    """Return the number of descriptors of this process to files of a kind, such as "eventpoll" or "socket"."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += kind in os.readlink(entry)
        except FileNotFoundError:  # the descriptor with which the folder was listed
            continue
    return count
