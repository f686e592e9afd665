"""One connection to Redis, and servers that do not behave."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from helpers.waiting import until, within
from streamws import BrokerError, BrokerUnavailable
from streamws.topics import Outgoing, RedisBroker
from streamws.topics.redis.address import Address
from streamws.topics.redis.link import Link
from topics.broker_contract import Collector
from topics.redis_server import RedisServer

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MESSAGE = Outgoing("t", "1", None, None, None)


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[str]:
    """Run a server; yields its URL."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answering(answer: bytes) -> Serve:
    """Return the function of a server that gives this answer to everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
        writer.close()

    return serve


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "received invalid data"),
        (b"$60\r\nrun_id:", "no answer within 0.2 s"),
        (b"", "no answer within 0.2 s"),
        (b"$11\r\nrole:master\r\n", "INFO has no run_id"),
        (b"-ERR max number of clients reached\r\n", "max number of clients"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        (b"+OK\r\n+OK\r\n", "received a reply without a request: b'OK'|INFO has no run_id"),
    ],
    ids=["http", "half", "silent", "no run", "clients", "loading", "surplus"],
)
async def test_server_that_cannot_be_used_is_tried_again(answer: bytes, error: str) -> None:
    async with served(answering(answer)) as url:
        broker = RedisBroker(url, timeout=0.2)
        await broker.open(Collector())
        with pytest.raises(BrokerUnavailable, match=error):
            await broker.publish([MESSAGE])
        await broker.close()


async def test_server_that_refuses_connections_is_an_error() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-DENIED Redis is running in protected mode\r\n")
        writer.close()

    async with served(serve) as url:
        with pytest.raises(BrokerError, match=r"cannot be used: .*DENIED Redis is running in protected mode"):
            await RedisBroker(url).open(Collector())


async def test_loop_that_was_blocked_does_not_end_the_connection(redis_server: RedisServer) -> None:
    link = await Address(redis_server.url).connect(lambda: Link(0.6), 10)
    redis_server.signal(signal.SIGSTOP)
    await until(lambda: link._ping is not None)
    time.sleep(0.45)  # noqa: ASYNC251
    redis_server.signal(signal.SIGCONT)
    await until(lambda: link._ping is None)
    assert await within(link.call("PING")) == b"PONG"
    link.abort("the end")
    await within(link.ended)


async def test_calls_under_way_when_the_connection_ends_get_errors_of_their_own(redis_server: RedisServer) -> None:
    link = await Address(redis_server.url).connect(lambda: Link(10), 10)
    calls = [link.call("BLPOP", "nothing", 0) for _ in range(2)]
    link.abort("the end")
    one, two = [await within(call) for call in calls]
    for error in (one, two):
        assert str(error) == "no answer from Redis, the request may have been carried out: the end"
    assert one is not two
