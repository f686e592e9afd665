"""The server's task in the cases `topics-*`: clients join and leave topics, and one client tells it to publish.

Each client sends commands as text. `join` and `leave`, with names of topics, are answered with `OK`. `return` joins a
topic too, and is answered with the publications that its history has. `publish` with a number makes one publication in
each of so many topics, whose names are numbers. Between two publications, a library yields to the event loop once, as
if different tasks published them.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Sequence
from contextlib import AsyncExitStack
from typing import Any

PUBLICATION = "b" * 256
OK = "ok"
HISTORY = 10
"""The number of publications that a topic keeps in the cases with a history, and that each `return` brings."""


class Member(ABC):
    """One client, and the topics that it has joined."""

    @abstractmethod
    async def join(self, topics: Sequence[str], returning: bool) -> None:
        """Join topics.

        :param returning: Whether the client gets what is in the history.
        """

    @abstractmethod
    async def leave(self, topics: Sequence[str]) -> None:
        """Leave topics."""

    @abstractmethod
    async def publish(self, topic: str) -> None:
        """Publish in a topic."""

    @abstractmethod
    async def send(self, message: str) -> None:
        """Send a message to the client alone."""

    async def obey(self, commands: AsyncIterable[Any]) -> None:
        """Carry out the commands of the client, until the connection ends."""
        async for command in commands:
            verb, *names = command.split()
            if verb == "publish":
                for number in range(int(names[0])):
                    await self.publish(str(number))
                    await asyncio.sleep(0)
            elif verb == "return":
                await self.join(names, True)
            else:
                await (self.leave(names) if verb == "leave" else self.join(names, False))
                await self.send(OK)


class MemberInTasks(Member):
    """A client of a library with an async context manager for each subscription, and a task that sends."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, AsyncExitStack] = {}

    @abstractmethod
    async def subscribe(self, stack: AsyncExitStack, topics: Sequence[str], returning: bool) -> None:
        """Subscribe, and send what arrives, until the stack is closed."""

    async def join(self, topics: Sequence[str], returning: bool) -> None:
        stack = AsyncExitStack()
        await self.subscribe(stack, topics, returning)
        self._subscriptions[" ".join(topics)] = stack

    async def leave(self, topics: Sequence[str]) -> None:
        await self._subscriptions.pop(" ".join(topics)).aclose()

    async def close(self) -> None:
        """Leave all topics."""
        for stack in self._subscriptions.values():
            await stack.aclose()
