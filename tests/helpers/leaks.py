"""Find tasks, sockets and exceptions that a test leaves behind."""

import asyncio
import gc
import os
from collections.abc import Mapping
from typing import Any


def open_sockets() -> int:
    """Return the number of open sockets of this process; 0 on systems without /proc."""
    count = 0
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return 0
    for number in numbers:
        try:
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:  # the descriptor with which the folder was listed
            continue
    return count


class LeakCheck:
    """Finds what a test leaves behind, and cancels a test that takes too long."""

    def __init__(self, patience: float) -> None:
        """:param patience: seconds after which the test's tasks are cancelled."""
        gc.freeze()  # so that the collection at the end of the test skips older objects
        self._loop = asyncio.get_running_loop()
        self._sockets = open_sockets()
        self._reported: list[str] = []
        self._loop.set_exception_handler(self._report)
        self._patience = patience
        self._alarm = self._loop.call_later(patience, self._expire)

    def _report(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        self._reported.append(f"{context['message']}: {context.get('exception')!r}")

    def _expire(self) -> None:
        self._reported.append(f"the test took over {self._patience} s")
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def findings(self) -> list[str]:
        """Return a line for each thing that was left behind."""
        self._alarm.cancel()
        for _ in range(20):  # loop iterations: a closed transport closes its socket in a later one
            if not self._left():
                break
            await asyncio.sleep(0)
        gc.collect()  # a future that was never awaited reports its exception when it is freed
        self._loop.set_exception_handler(None)
        return self._left() + self._reported

    def _left(self) -> list[str]:
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        left = [f"a task: {task!r}" for task in tasks]
        # Only counted, because uvloop opens a new socket pair each time it runs.
        if (more := open_sockets() - self._sockets) > 0:
            left.append(f"{more} open sockets")
        return left
