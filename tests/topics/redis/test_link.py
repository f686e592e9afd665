"""One connection to Redis, and servers that do not behave."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from helpers.waiting import iterations, until, within
from streamws import BrokerError, BrokerUnavailable
from streamws.options import MiB
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
    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=MiB) as server:
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


async def test_silent_server_may_lack_tls() -> None:
    async with served(answering(b"")) as url:
        broker = RedisBroker(url.replace("redis://", "rediss://"), timeout=0.2)
        await broker.open(Collector())
        with pytest.raises(BrokerUnavailable, match=r": no answer within 0\.2 s; a server without TLS does not answer"):
            await broker.publish([MESSAGE])
        await broker.close()


async def test_server_that_closes_during_the_tls_handshake_is_not_said_to_be_silent() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with served(serve) as url:
        broker = RedisBroker(url.replace("redis://", "rediss://"), timeout=10)
        await broker.open(Collector())
        with pytest.raises(BrokerUnavailable) as caught:
            await broker.publish([MESSAGE])
        assert "no answer" not in str(caught.value)
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
    time.sleep(0.8)  # noqa: ASYNC251
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


async def test_nothing_is_sent_on_a_connection_whose_caller_was_cancelled_as_it_was_made(
    redis_server: RedisServer,
) -> None:
    class Made(Link):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connecting.cancel()

    link = Made(10)
    connecting = asyncio.create_task(Address(redis_server.url).connect(lambda: link, 10))
    with pytest.raises(asyncio.CancelledError):
        await connecting
    with pytest.raises(BrokerUnavailable, match="Redis is not available: not connected"):
        link.call("PING")


async def test_nothing_is_written_to_a_connection_that_was_lost_in_the_same_loop_iteration() -> None:
    class Lost(asyncio.Transport):
        """A transport of uvloop whose connection was lost."""

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def is_closing(self) -> bool:
            return True

        def write(self, data: bytes | bytearray | memoryview) -> None:
            raise RuntimeError("the handler is closed")

    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    link = Link(10)
    link.connection_made(Lost())
    call = link.call("PING")
    await iterations()
    link.connection_lost(None)
    assert isinstance(await within(call), BrokerError)
    assert not errors


async def test_server_that_is_slow_to_take_a_large_publication_is_not_taken_for_dead() -> None:
    size = 24 * MiB

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"$10\r\nrun_id:run\r\n")
        left = size
        while left > 0:
            await asyncio.sleep(0.02)
            left -= len(await reader.read(MiB))
        writer.write(b"+OK\r\n" * 10)  # to the publication, and pings
        writer.close()

    async with served(serve) as url:
        link = await Address(url).connect(lambda: Link(0.3), 10)
        call = link.call("SET", "key", b"x" * size)
        await within(asyncio.wait([call, link.ended], return_when=asyncio.FIRST_COMPLETED))
        assert await call == b"OK"
        await within(link.ended)
