"""The tests of fastapi_chat.py, with real connections: `pytest docs/examples/test_fastapi_chat.py`."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvicorn
from fastapi_chat import ChatProtocol, app, token_of

from streamws import Client, Connecting, ConnectionClosedError, HandshakeRefused, connect

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws=ChatProtocol, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


def join(port: int, token: str) -> Connecting:
    return connect(f"ws://127.0.0.1:{port}/rooms/garden?token={token}", proxy=None)


async def heard(client: Client) -> tuple[str, str]:
    message = json.loads(await client.read_message())
    return message["user"], message["text"]


async def test_room_hears_what_its_members_say_and_who_leaves(port: int) -> None:
    async with join(port, token_of("Ann")) as ann:
        assert await heard(ann) == ("", "Ann is here")
        async with join(port, token_of("Bob")) as bob:
            assert await heard(ann) == await heard(bob) == ("", "Bob is here")
            await bob.send('{"text": "hi"}')
            assert await heard(ann) == await heard(bob) == ("Bob", "hi")
        assert await heard(ann) == ("", "Bob has left")


async def test_token_that_is_not_valid_is_refused(port: int) -> None:
    for token in ("", "Ann.00", token_of("Ann")[:-1]):
        with pytest.raises(HandshakeRefused, match="403"):
            await join(port, token)


async def test_message_that_is_not_valid_closes_the_connection(port: int) -> None:
    async with join(port, token_of("Ann")) as ann:
        await heard(ann)
        await ann.send("not JSON")
        with pytest.raises(ConnectionClosedError, match="1007"):
            await ann.read_message()
