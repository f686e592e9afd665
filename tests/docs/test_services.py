"""The examples chat_service.py and market_data.py, with clients that behave well and badly."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chat_service import TO_CLIENTS, Chat, Here, Member, Missing, Said
from market_data import FROM_CLIENTS, Feed, Follow, Market, Price
from market_data import TO_CLIENTS as PRICES

from helpers.processes import free_port
from helpers.programs import SECONDS, Program
from helpers.waiting import until
from streamws import Client, Connecting, ConnectionClosedError, HandshakeRefused, connect

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


# The chat service -------------------------------------------------------------------------------------------


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    service = Chat("127.0.0.1", 0, secret=b"secret")
    async with asyncio.timeout(SECONDS), service.server:
        yield service
        await until(lambda: not service.topics.followed)


def join(chat: Chat, token: str, room: str = "garden") -> Connecting:
    return connect(f"ws://127.0.0.1:{chat.server.port}/rooms/{room}?token={token}", proxy=None)


async def heard(client: Client) -> Said | Here | Member | Missing:
    return await client.typed(TO_CLIENTS).read_message()


async def entered(client: Client, user: str, *others: str) -> None:
    """Read what a client gets when its user has entered a room."""
    assert [await heard(client), await heard(client)] == [Member(user, here=True), Here([*others, user])]


async def said(client: Client) -> tuple[str, str]:
    message = await heard(client)
    assert isinstance(message, Said)
    return message.user, message.text


async def test_tests_of_chat_service_pass() -> None:
    file = str(EXAMPLES / "test_chat_service.py")
    async with Program("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", file) as program:
        assert await program.end() == 0, program.stdout
        assert "3 passed" in program.stdout


async def test_tests_of_fastapi_chat_pass() -> None:
    file = str(EXAMPLES / "test_fastapi_chat.py")
    async with Program("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", file) as program:
        assert await program.end() == 0, program.stdout
        assert "3 passed" in program.stdout


async def test_fastapi_chat_prints_urls_and_serves() -> None:
    port = free_port()
    async with Program("-u", str(EXAMPLES / "fastapi_chat.py"), "127.0.0.1", str(port)) as program:
        url = await program.says("^(ws://.*Ann.*)$")
        await program.logs("Uvicorn running on")
        async with connect(url, proxy=None) as client:
            assert await client.read_message() == '{"user":"","text":"Ann is here"}'
        assert await program.interrupt() == 0
        assert "Traceback" not in program.stderr


async def test_chat_service_prints_links_and_serves_page() -> None:
    async with Program("-u", str(EXAMPLES / "chat_service.py"), "localhost", "0") as program:
        token = await program.says("^http://localhost:0/#(Ann[.].*)$")
        await program.says("^http://localhost:0/#Bob[.].*$")
        port = await program.logs(r"serving ws://localhost:(\d+)")
        async with connect(f"ws://localhost:{port}/rooms/garden?token={token}", proxy=None) as client:
            await entered(client, "Ann")
        with pytest.raises(HandshakeRefused) as page:
            await connect(f"ws://localhost:{port}/", proxy=None)
        assert page.value.status == 200
        assert page.value.body.startswith(b"<!doctype html>")
        assert await program.interrupt() == 0
        assert "Traceback" not in program.stderr


async def test_chat_service_keeps_rooms_apart(chat: Chat) -> None:
    async with join(chat, chat.token("Ann")) as ann, join(chat, chat.token("Bob"), "the%20kitchen") as bob:
        await entered(ann, "Ann")
        await entered(bob, "Bob")
        assert chat.topics.find("room:the kitchen") is not None
        await bob.send('{"type":"say","text":"soup"}')
        assert await said(bob) == ("Bob", "soup")
        await ann.send('{"type":"say","text":"tea"}')
        assert await said(ann) == ("Ann", "tea")


async def test_user_with_two_tabs_is_there_until_both_are_closed(chat: Chat) -> None:
    async with join(chat, chat.token("Ann")) as ann:
        await entered(ann, "Ann")
        async with join(chat, chat.token("Bob")) as bob:
            await entered(bob, "Bob", "Ann")
            async with join(chat, chat.token("Bob")) as other:
                await entered(other, "Bob", "Ann")
        seen = [await heard(ann) for _ in range(4)]
        assert seen == [Member("Bob", here=here) for here in (True, True, True, False)]


async def test_chat_service_ends_connection_when_token_expires(chat: Chat) -> None:
    async with join(chat, chat.token("Bob")) as bob:
        await entered(bob, "Bob")
        async with join(chat, chat.token("Ann", 2)) as ann:
            assert [await heard(ann), await heard(ann)] == [Member("Ann", here=True), Here(["Ann", "Bob"])]
            assert await heard(bob) == Member("Ann", here=True)
            with pytest.raises(ConnectionClosedError) as ended:
                await heard(ann)
        assert ended.value.outcome.received is not None
        assert (ended.value.outcome.received.code, ended.value.outcome.received.reason) == (
            4401,
            "the token has expired",
        )
        assert await heard(bob) == Member("Ann", here=False)


@pytest.mark.parametrize("token", ["Ann", "..", "Ann.9999999999.", "Ann.9999999999.é", "Ann.9999999999.00"])
async def test_chat_service_refuses_token_that_it_has_not_made(chat: Chat, token: str) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        await join(chat, token)
    assert (refused.value.status, refused.value.body) == (401, b"no valid token\n")


async def test_chat_service_refuses_token_that_has_expired(chat: Chat) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        await join(chat, chat.token("Ann", -1))
    assert (refused.value.status, refused.value.body) == (401, b"the token has expired\n")


@pytest.mark.parametrize("path", ["garden/corner", "x" * 101])
async def test_chat_service_refuses_path_without_room(path: str, chat: Chat) -> None:
    with pytest.raises(HandshakeRefused, match="404"):
        await join(chat, chat.token("Ann"), path)


@pytest.mark.parametrize("message", ["hello", "{}", '{"type":"say"}', '{"type":"shout","text":"hi"}', b"\xff"])
async def test_chat_service_closes_connection_of_bad_message(
    chat: Chat, message: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with join(chat, chat.token("Ann")) as ann, join(chat, chat.token("Bob")) as bob:
        await bob.send(message)
        await bob.wait_closed()
        assert bob.outcome is not None
        assert bob.outcome.code == 1007
        while await heard(ann) != Member("Bob", here=False):
            pass
    assert not [record for record in caplog.records if record.exc_info], "no traceback"


# The feed of market data ------------------------------------------------------------------------------------


@pytest.fixture
async def market() -> AsyncIterator[Market]:
    market = Market("127.0.0.1", 0, seconds=0.001)
    async with asyncio.timeout(SECONDS), market.server:
        yield market
        await until(lambda: not market.feeds)


def feed_of(market: Market) -> Connecting:
    return connect(f"ws://127.0.0.1:{market.server.port}/feed", proxy=None, compression=None)


async def test_client_gets_prices_that_it_follows(market: Market) -> None:
    async with feed_of(market) as client:
        await client.typed(FROM_CLIENTS).send(Follow({"EUR/USD", "no such symbol"}))
        prices = client.typed(PRICES)
        first = await prices.read_message()
        assert [type(price) for price in first] == [Price]
        for _ in range(10):
            assert {price.symbol for price in await prices.read_message()} == {"EUR/USD"}
        await client.typed(FROM_CLIENTS).send(Follow({"GBP/USD", "USD/JPY"}))
        while {price.symbol for price in await prices.read_message()} != {"GBP/USD", "USD/JPY"}:
            pass


async def test_slow_client_gets_latest_prices_and_number_of_those_left_out() -> None:
    sent: list[list[Price]] = []
    go_on = asyncio.Event()

    class SlowClient:
        async def send(self, data: bytes, *, text: bool) -> None:
            assert text
            sent.append(PRICES.decode(data))
            await go_on.wait()

    feed = Feed(SlowClient())  # type: ignore[arg-type]
    feed.symbols = {"EUR/USD", "GBP/USD"}
    sending = asyncio.create_task(feed.run())
    feed.put("EUR/USD", 1.0)
    await until(lambda: sent)
    for number in range(1, 4):
        feed.put("EUR/USD", 1.0 + number)
    feed.put("GBP/USD", 2.0)
    feed.put("USD/JPY", 3.0)
    go_on.set()
    await until(lambda: len(sent) == 2)
    assert sent == [[Price("EUR/USD", 1.0)], [Price("EUR/USD", 4.0, skipped=2), Price("GBP/USD", 2.0)]]
    sending.cancel()


async def test_client_that_reads_nothing_costs_others_nothing(market: Market) -> None:
    async with feed_of(market) as slow, feed_of(market) as client:
        for each in (slow, client):
            await each.typed(FROM_CLIENTS).send(Follow({"EUR/USD"}))
        prices = client.typed(PRICES)
        for _ in range(50):
            await prices.read_message()
        slow.abort()


async def test_feed_closes_connection_of_bad_message(market: Market) -> None:
    async with feed_of(market) as client:
        await client.send('{"symbols": 5}')
        await client.wait_closed()
        assert client.outcome is not None
        assert client.outcome.code == 1007


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/feeds", 404)])
async def test_feed_serves_page_and_nothing_else(market: Market, path: str, status: int) -> None:
    with pytest.raises(HandshakeRefused) as answer:
        await connect(f"ws://127.0.0.1:{market.server.port}{path}", proxy=None)
    assert answer.value.status == status


async def test_prices_stop_with_the_server() -> None:
    market = Market("127.0.0.1", 0, seconds=0.001)
    async with market.server:
        assert len(asyncio.all_tasks()) > 2
    await until(lambda: len(asyncio.all_tasks()) == 1)
