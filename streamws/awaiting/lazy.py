"""A coroutine whose result may be ignored without a warning."""

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from .operation import raised

_Result = TypeVar("_Result", covariant=True)


class LazyCoroutine(Coroutine[object, None, _Result]):
    """A coroutine that is created when it is first awaited. Python does not warn if it is never awaited."""

    __slots__ = ("_cancelled_unstarted", "_coroutine", "_make")

    def __init__(
        self,
        make: Callable[[], Coroutine[Any, None, _Result]],
        cancelled_unstarted: Callable[[], object] | None = None,
    ) -> None:
        """Create a lazy coroutine.

        :param make: creates the coroutine.
        :param cancelled_unstarted: called if the task that runs the coroutine is cancelled before it has started.
        """
        self._make = make
        self._cancelled_unstarted = cancelled_unstarted
        self._coroutine: Coroutine[Any, None, _Result] | None = None

    def _made(self) -> Coroutine[Any, None, _Result]:
        if self._coroutine is None:
            self._coroutine = self._make()
        return self._coroutine

    def __await__(self) -> Generator[Any, None, _Result]:
        return self._made().__await__()

    def send(self, value: None) -> object:
        return self._made().send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> object:
        if self._coroutine is None and self._cancelled_unstarted is not None:
            self._cancelled_unstarted()
        return self._made().throw(raised(typ, val, tb))

    def close(self) -> None:
        self._made().close()
