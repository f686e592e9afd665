"""Connections that are not of streamws, as topics see them."""

import asyncio

from streamws import Cause, Close, CloseOutcome, ConnectionClosed, Side
from streamws.wire.frames import Buffer


class Channel:
    """A connection that notes what is sent. While it is `stuck`, sending waits."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.closed_with: tuple[int, str] | None = None
        self._ended = asyncio.Event()
        self._moving = asyncio.Event()
        self._moving.set()
        self._outcome: CloseOutcome | None = None

    def stick(self) -> None:
        """Let sending wait until `move`."""
        self._moving.clear()

    def move(self) -> None:
        """Let what waits be sent."""
        self._moving.set()

    def move_one(self) -> None:
        """Let one message be sent, if it is waiting."""
        self.move()
        self.stick()

    def end(self, code: int = 1006) -> None:
        """End the connection."""
        if self._outcome is None:
            close = None if code == 1006 else Close(code, "")
            self._outcome = CloseOutcome(Cause.RESET, Side.REMOTE, close, None)
        self._ended.set()
        self._moving.set()

    async def send(self, data: str | Buffer) -> None:
        await self._moving.wait()
        if self._outcome is not None:
            raise ConnectionClosed(self._outcome)
        assert isinstance(data, str | bytes)
        self.sent.append(data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = code, reason
        self.end(code)

    async def wait_closed(self) -> None:
        await self._ended.wait()

    @property
    def outcome(self) -> CloseOutcome | None:
        return self._outcome
