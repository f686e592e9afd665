"""Other threads, for tests of blocking clients."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from helpers.waiting import PATIENCE


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that another thread brings about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Background(threading.Thread):
    """Calls a function in another thread; `get` returns its result or raises its exception."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, name: str | None = None) -> None:
        super().__init__(name=name, daemon=True)
        self._call = partial(function, *arguments)
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def get(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._result
