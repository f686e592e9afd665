"""Connections that are not of streamws."""

import asyncio
import gc

import pytest

from helpers.waiting import until
from streamws import ConnectionClosed
from streamws.messages import Json
from streamws.topics import CentrifugoEndpoint, History, JsonValue, MemoryBroker, Rpc, Topics
from streamws.wire.frames import Buffer
from topics.centrifugo.endpoints import POSITION
from topics.channels import Channel


class Foreign(Channel):
    """A connection that is not of streamws. Its `send` does nothing before it is awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.received: asyncio.Queue[str | None] = asyncio.Queue()

    async def send(self, data: str | Buffer, *, text: bool = False) -> None:
        await super().send(data)

    async def read_message(self) -> str:
        message = await self.received.get()
        if message is None:
            self.end()
            assert self.outcome is not None
            raise ConnectionClosed(self.outcome)
        return message


@pytest.mark.usefixtures("known_ids")
async def test_connection_that_is_not_of_streamws_is_served() -> None:
    async def allow_any(client: object, action: str, topic: str) -> bool:
        return True

    async with asyncio.timeout(10), Topics(MemoryBroker()) as topics:
        topic = topics.topic("news", Json(int), history=History())
        foreign = Foreign()
        serving = asyncio.create_task(CentrifugoEndpoint(topics, authorize=allow_any)(foreign))
        foreign.received.put_nowait('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}')
        await until(lambda: len(foreign.sent) == 2)
        await topic.publish(1)
        foreign.received.put_nowait('{"id":3,"presence_stats":{"channel":"news"}}')
        await until(lambda: len(foreign.sent) == 4)
        assert foreign.sent[1:] == [
            f'{{"id":2,"subscribe":{{{POSITION},"offset":0,"positioned":true}}}}',
            '{"push":{"channel":"news","pub":{"data":1,"offset":1}}}',
            '{"id":3,"presence_stats":{"num_clients":1,"num_users":1}}',
        ]
        foreign.received.put_nowait(None)
        await serving
        await until(lambda: topics.followed == 0)
        assert await topic.presence.connections() == {}


async def test_function_that_has_not_begun_when_the_connection_ends_is_never_called() -> None:
    calls: list[JsonValue] = []

    async def note(client: Foreign, data: JsonValue) -> object:
        calls.append(data)
        return None

    async with asyncio.timeout(10), Topics(MemoryBroker()) as topics:
        foreign = Foreign()
        for message in ('{"id":1,"connect":{}}', '{"id":2,"rpc":{"method":"note"}}', None):
            foreign.received.put_nowait(message)
        await CentrifugoEndpoint(topics, rpc={"note": Rpc(note)})(foreign)
    assert calls == []
    gc.collect()  # a coroutine that was never awaited would warn now
