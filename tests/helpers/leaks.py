"""What a test left behind on its loop."""

import asyncio
import gc
import os
from collections.abc import Mapping
from typing import Any


def open_sockets() -> int:
    """How many sockets this process has open; 0 on systems without /proc."""
    count = 0
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return 0
    for number in numbers:
        try:
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:  # the one that listed the folder
            continue
    return count


class LeakCheck:
    """Notices the tasks, sockets and errors that a test leaves behind, and ends a test that never ends."""

    def __init__(self, patience: float) -> None:
        """`patience`: seconds after which the test's tasks are cancelled."""
        gc.freeze()  # what is there already need not be looked through when the test ends
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
        """What was left behind."""
        self._alarm.cancel()
        for _ in range(20):  # turns of the loop: a transport that was closed lets go of its socket in a later one
            if not self._left():
                break
            await asyncio.sleep(0)
        gc.collect()  # a future that no one awaited tells of its exception when it goes
        self._loop.set_exception_handler(None)
        return self._left() + self._reported

    def _left(self) -> list[str]:
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        left = [f"a task: {task!r}" for task in tasks]
        # Counted, not named: uvloop has a new pair of its own each time it runs.
        if (more := open_sockets() - self._sockets) > 0:
            left.append(f"{more} open sockets")
        return left
