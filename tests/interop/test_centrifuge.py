"""The library `centrifuge-python`, with `CentrifugoEndpoint`."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    ClientInfo,
    ReplyError,
    StreamPosition,
    SubscriptionEventHandler,
)

from interop.centrifugo import service

Note = tuple[Any, ...]

MEMBER = ("ada", {"role": "author"})


def member(info: ClientInfo) -> Note:
    return info.user, info.conn_info


class Diary(ClientEventHandler, SubscriptionEventHandler):  # type: ignore[misc]
    """Notes what happens to a client and its subscription."""

    def __init__(self) -> None:
        self._notes: asyncio.Queue[Note] = asyncio.Queue()

    async def next(self, count: int) -> list[Note]:
        """Return what happens next."""
        return [await self._notes.get() for _ in range(count)]

    async def on_connected(self, context: Any) -> None:
        self._notes.put_nowait(("connected", context.data))

    async def on_connecting(self, context: Any) -> None:
        self._notes.put_nowait(("connecting", context.code, context.reason))

    async def on_disconnected(self, context: Any) -> None:
        self._notes.put_nowait(("disconnected", context.code, context.reason))

    async def on_subscribed(self, context: Any) -> None:
        position = context.stream_position
        self._notes.put_nowait(("subscribed", context.was_recovering, context.recovered, position.offset))

    async def on_subscribing(self, context: Any) -> None:
        self._notes.put_nowait(("subscribing", context.code, context.reason))

    async def on_unsubscribed(self, context: Any) -> None:
        self._notes.put_nowait(("unsubscribed", context.code, context.reason))

    async def on_publication(self, context: Any) -> None:
        self._notes.put_nowait(("publication", context.pub.data, context.pub.offset))

    async def on_join(self, context: Any) -> None:
        self._notes.put_nowait(("join", member(context.info)))

    async def on_leave(self, context: Any) -> None:
        self._notes.put_nowait(("leave", member(context.info)))

    async def on_error(self, context: Any) -> None:
        self._notes.put_nowait(("error", context))


async def failure(call: Awaitable[Any]) -> Note:
    with pytest.raises(ReplyError) as caught:
        await call
    return caught.value.code, caught.value.message


async def test_client_uses_everything_that_is_served() -> None:
    tokens = 0

    async def get_token() -> str:
        nonlocal tokens
        tokens += 1
        return f"ada {tokens - 1}"

    diary = Diary()
    async with service() as made:
        client = Client(made.url, events=diary, get_token=get_token, data={"from": "Python"}, min_reconnect_delay=0.001)
        news = client.new_subscription("news", events=diary, join_leave=True)
        await client.connect()
        await news.subscribe()
        connected = ("connected", {"user": "ada", "data": {"from": "Python"}})
        assert sorted(await diary.next(5)) == sorted(
            [
                ("connecting", 0, "connect called"),
                ("subscribing", 0, "subscribe called"),
                connected,
                ("subscribed", False, False, 0),
                ("join", MEMBER),
            ]
        )

        await news.publish({"n": 1})
        await client.publish("news", {"n": 2})
        assert await diary.next(2) == [("publication", {"n": 1}, 1), ("publication", {"n": 2}, 2)]
        assert await failure(news.publish({"n": "two"})) == (107, "bad request: Expected `int`, got `str` - at `$.n`")
        assert [member(info) for info in (await news.presence()).clients.values()] == [MEMBER]
        stats = await client.presence_stats("news")
        assert (stats.num_clients, stats.num_users) == (1, 1)
        history = await news.history(limit=10)
        assert [publication.data for publication in history.publications] == [{"n": 1}, {"n": 2}]
        assert history.offset == 2
        later = await news.history(limit=10, since=StreamPosition(offset=1, epoch=history.epoch))
        assert [publication.offset for publication in later.publications] == [2]
        newest = await client.history("news", limit=1, reverse=True)
        assert [publication.offset for publication in newest.publications] == [2]

        assert (await client.rpc("double", 21)).data == 42
        assert await failure(client.rpc("halve", 1)) == (104, "method not found")
        secret = client.new_subscription("secret", events=diary)
        await secret.subscribe()
        assert await diary.next(2) == [
            ("subscribing", 0, "subscribe called"),
            ("unsubscribed", 103, "permission denied"),
        ]

        with pytest.raises(CentrifugeError):
            await client.rpc("cut", 2)
        lost = [("connecting", 3011, "force reconnect"), ("subscribing", 1, "transport closed"), connected]
        assert sorted(await diary.next(3)) == sorted(lost)
        assert await diary.next(4) == [
            ("subscribed", True, True, 2),
            ("publication", {"n": 3}, 3),
            ("publication", {"n": 4}, 4),
            ("join", MEMBER),
        ]
        with pytest.raises(CentrifugeError):
            await client.rpc("cut", 9)
        assert sorted(await diary.next(3)) == sorted(lost)
        assert await diary.next(2) == [("subscribed", True, False, 13), ("join", MEMBER)]

        before = tokens
        assert (await client.rpc("refreshed", before)).data is True
        assert tokens > before

        await news.unsubscribe()
        assert await diary.next(1) == [("unsubscribed", 0, "unsubscribe called")]
        assert (await client.presence("news")).clients == {}
        with pytest.raises(CentrifugeError):
            await client.rpc("end", None)
        assert await diary.next(1) == [("disconnected", 4500, "the end")]
