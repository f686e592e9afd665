"""What is under way whether or not anyone awaits it."""

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

_Result = TypeVar("_Result", covariant=True)


class Later(Coroutine[object, None, _Result]):
    """A coroutine that need not be awaited, since what it waits for happens in any case."""

    __slots__ = ("_begin", "_coroutine", "_given_up")

    def __init__(
        self, begin: Callable[[], Coroutine[Any, None, _Result]], given_up: Callable[[], object] | None = None
    ) -> None:
        """`given_up` is called where a task that was to await it is cancelled before it has begun to."""
        self._begin = begin
        self._given_up = given_up
        self._coroutine: Coroutine[Any, None, _Result] | None = None

    def _begun(self) -> Coroutine[Any, None, _Result]:
        if self._coroutine is None:
            self._coroutine = self._begin()
        return self._coroutine

    def __await__(self) -> Generator[Any, None, _Result]:
        return self._begun().__await__()

    def send(self, value: None) -> object:
        return self._begun().send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> object:
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        if self._coroutine is None and self._given_up is not None:
            self._given_up()
        return self._begun().throw(error if tb is None else error.with_traceback(tb))

    def close(self) -> None:
        self._begun().close()
