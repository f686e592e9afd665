"""Awaitables that are polled for their result, in plain Python.

`operation.pyx` is the same in C: the same names, results and exceptions.
"""

from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class _Pending:
    __slots__ = ()

    def __repr__(self) -> str:
        return "PENDING"


class _Failed:
    __slots__ = ()

    def __repr__(self) -> str:
        return "FAILED"


PENDING = _Pending()
"""What `Operation.poll` returns while there is no result."""

FAILED = _Failed()
"""What `Operation.poll` returns when `Operation.error` is to be raised."""


def run_in(context: Context, callback: Callable[[Any], object], argument: object) -> bool:
    """Call `callback(argument)`, which is a task's wake-up, in a context; False if that is entered already."""
    try:
        context.run(callback, argument)
    except RuntimeError:  # a wake-up raises none: what a task raises is for those who await it
        return False
    return True


class Operation:
    """An awaitable that is polled until it has a result; to asyncio it is a coroutine.

    A subclass gives `poll`, sets `future` when it answers `PENDING`, and `error` when it answers `FAILED`: raised from
    there, it has a traceback that begins in the code of the user.
    """

    __slots__ = ("error", "finished", "future")

    future: Any
    """The asyncio.Future to wait on before the next poll."""
    error: BaseException

    def __init__(self) -> None:
        self.finished: bool = False

    def poll(self) -> object:
        """The result, `PENDING` or `FAILED`."""
        raise NotImplementedError

    def abandon(self) -> None:
        """No one waits for the result any longer."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self

    def __iter__(self) -> "Operation":
        return self

    def __next__(self) -> Any:
        if self.finished:
            raise RuntimeError("cannot reuse already awaited coroutine")
        try:
            result = self.poll()
        except BaseException:
            self.finished = True
            raise
        if result is PENDING:
            future = self.future
            # What tells a task that it is to wait on what it is given (asyncio.Future.__await__ does the same).
            future._asyncio_future_blocking = True
            return future
        self.finished = True
        if result is FAILED:
            raise self.error
        raise StopIteration(result)

    def send(self, value: None) -> Any:
        return self.__next__()

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        self.finished = True
        self.abandon()
        if val is None:
            val = typ() if isinstance(typ, type) else typ
        if tb is not None:
            val = val.with_traceback(tb)
        raise val

    def close(self) -> None:
        if not self.finished:
            self.finished = True
            self.abandon()


class Done(Operation):
    """An operation that needs no waiting. One object may be awaited any number of times."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: object = value

    def __next__(self) -> Any:
        raise StopIteration(self.value)

    def close(self) -> None:
        pass
