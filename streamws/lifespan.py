"""The lifespan of a server: the application's context manager around the time in which the server serves."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context, ContextVar, copy_context

_current: ContextVar["Lifespan | None"] = ContextVar("streamws.lifespan", default=None)


class Lifespan:
    """Enters and leaves a context manager in one task of its own, because task groups must be left by their own task.

    If that task is cancelled meanwhile, for example by a task group that has failed, the server stops.
    """

    def __init__(self, manager: AbstractAsyncContextManager[None], cancelled: Callable[[], None]) -> None:
        """Create a lifespan on the running loop.

        :param manager: the context manager.
        :param cancelled: called if the task is cancelled while the server serves.
        """
        self._manager = manager
        self._cancelled = cancelled
        self._loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[None] = self._loop.create_future()
        self._leaving = asyncio.Event()
        self.context: Context = Context()
        """The context for handlers: it has the variables that the context manager has set when it was entered."""
        self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        _current.set(self)
        async with self._manager:
            self.context = copy_context()
            self.context.run(_current.set, None)
            self._entered.set_result(None)
            try:
                await self._leaving.wait()
            except asyncio.CancelledError:
                if not self._leaving.is_set():
                    self._cancelled()
                    # Let the handlers end first. A cancelled scope of anyio cancels this wait too.
                    await self._leaving.wait()
                raise

    async def enter(self) -> bool:
        """Enter the context manager; return whether that has succeeded. If not, it was cancelled.

        :raises BaseException: if the context manager raises it.
        """
        try:
            await asyncio.wait([self._task, self._entered], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._leaving.set()
            self._task.cancel()
            await self._end()
            raise
        if self._task.done():
            await self._end()
        return not self._task.done()

    def cancel_entering(self) -> None:
        """Cancel the context manager if it is still being entered. May be called in any thread."""
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._cancel_entering)

    def _cancel_entering(self) -> None:
        if not self._entered.done():
            self._task.cancel()

    async def leave(self) -> None:
        """Leave the context manager, and wait until it has ended.

        :raises BaseException: if the context manager raises it.
        """
        self._leaving.set()
        await self._end()

    async def _end(self) -> None:
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    def cancel_leaving(self) -> None:
        """Cancel the context manager if it is being left."""
        if self._leaving.is_set():
            self._task.cancel()

    def is_inside(self) -> bool:
        """Return whether the current task is that of the context manager, or was started by it."""
        return _current.get() is self
