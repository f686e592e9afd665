"""Awaitables that are polled for their result, in plain Python.

`operation.pyx` has the same names, results and exceptions in C.
"""

from collections.abc import Generator
from typing import Any

from .internals import (
    RECORDS_AWAITING,
    YIELDS_FUTURES,
    add_to_awaited_by,
    callbacks_of,
    discard_from_awaited_by,
    mark_yielded,
    task_of,
)


class _Pending:
    __slots__ = ()

    def __repr__(self) -> str:
        return "PENDING"


class _Failed:
    __slots__ = ()

    def __repr__(self) -> str:
        return "FAILED"


PENDING = _Pending()
"""Returned by `Operation.poll` while there is no result."""

FAILED = _Failed()
"""Returned by `Operation.poll` to raise `Operation.error`."""


def count_callbacks(future: Any) -> int:
    """Return the number of callbacks of a pending future. The compiled build counts no further than 2."""
    return len(callbacks_of(future))


def wake_by(future: Any, argument: object) -> bool:
    """Call the only callback of a pending future, which wakes the task that awaits it, in the task's context.

    The callback gets `argument`, a future that is done, instead of the awaited one, and is removed from that.

    :returns: False if the context is entered already; then nothing was called, and nothing is removed.
    """
    callback, context = callbacks_of(future)[0]
    future.remove_done_callback(callback)
    if RECORDS_AWAITING:
        discard_from_awaited_by(future, task_of(callback))
    try:
        context.run(callback, argument)
    except RuntimeError:  # raised by `Context.run`: waking a task raises nothing, the task keeps its own exceptions
        future.add_done_callback(callback, context=context)
        if RECORDS_AWAITING:
            add_to_awaited_by(future, task_of(callback))
        return False
    return True


def keep_results(kept: bool) -> None:
    """Say whether the results of operations may be handed over by one exception object, again and again.

    Only the compiled build does that, and only on Python 3.12 to 3.14, where the interpreter takes each result out of a
    `StopIteration`. The object keeps the last result alive until `keep_results(False)` is called.
    """


def keep_results_of(kind: type) -> None:
    """Let `keep_results` apply to the objects of one more type, besides `str` and `bytes`. They need no finalizer."""


def reuse_freed(kind: type) -> bool:
    """Let new objects of a type take the memory of those that were freed, which saves time.

    :param kind: a compiled class, without a finalizer.
    :returns: whether this is possible. Four types can have it.
    """
    return False


def raised(typ: Any, val: Any, tb: Any) -> BaseException:
    """Return the exception that the arguments of a coroutine's `throw` describe."""
    error: BaseException = val if val is not None else typ() if isinstance(typ, type) else typ
    return error if tb is None else error.with_traceback(tb)


def drive(operation: "Operation") -> Generator[Any, None, Any]:
    """Poll an operation to its end; the plain way to await it."""
    try:
        while True:
            result = operation.poll()
            if result is FAILED:
                try:
                    raise operation.error
                finally:
                    del operation.error  # as in `Operation.__next__`
            if result is not PENDING:
                return result
            try:
                yield from operation.future
            except BaseException:
                operation.abandon()
                raise
    finally:
        operation.finished = True


class Operation:
    """An awaitable that is polled until it has a result. To asyncio it is a coroutine.

    A subclass defines `poll`, which sets `future` before it returns `PENDING`, and `error` before it returns `FAILED`.
    The error is raised here, not in `poll`, so that its traceback shows only the application's code.
    """

    __slots__ = ("_driver", "error", "finished", "future")

    future: Any
    """The `asyncio.Future` to wait for before the next poll."""
    error: BaseException
    _driver: Any

    def __init__(self) -> None:
        self.finished: bool = False

    def poll(self) -> object:
        """Return the result, `PENDING` or `FAILED`."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Stop waiting: the task that awaited the result was cancelled."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self

    def __iter__(self) -> "Operation":
        return self

    def __next__(self) -> Any:
        if not YIELDS_FUTURES:
            return self._drive().send(None)
        if self.finished:
            raise RuntimeError("cannot reuse already awaited coroutine")
        try:
            result = self.poll()
        except BaseException:
            self.finished = True
            raise
        if result is PENDING:
            future = self.future
            mark_yielded(future)
            return future
        self.finished = True
        if result is FAILED:
            try:
                raise self.error
            finally:
                del self.error  # its traceback refers to this operation: both would live until the next collection
        raise StopIteration(result)

    def _drive(self) -> Any:
        """Return the generator of the plain way; create it at first use."""
        if self.finished:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if getattr(self, "_driver", None) is None:
            self._driver = drive(self)
        return self._driver

    def send(self, value: None) -> Any:
        return self.__next__()

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        error = raised(typ, val, tb)
        if getattr(self, "_driver", None) is not None and not self.finished:
            return self._driver.throw(error)
        self.finished = True
        self.abandon()
        raise error

    def close(self) -> None:
        if not self.finished:
            self.finished = True
            driver = getattr(self, "_driver", None)
            if driver is None:
                self.abandon()
            else:
                driver.close()


class Done(Operation):
    """An operation whose result is known already. One object may be awaited any number of times."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: object = value

    def __next__(self) -> Any:
        raise StopIteration(self.value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        raise raised(typ, val, tb)

    def close(self) -> None:
        pass
