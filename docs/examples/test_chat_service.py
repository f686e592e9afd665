"""The tests of chat_service.py: `pytest docs/examples/test_chat_service.py`."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from chat_service import TO_CLIENTS, Chat, Here, Said

from streamws import Client, Connecting, HandshakeRefused, connect

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def chat() -> AsyncIterator[Chat]:
    service = Chat("127.0.0.1", 0, secret=b"secret")
    async with service.server:
        yield service


def join(chat: Chat, token: str) -> Connecting:
    return connect(f"ws://127.0.0.1:{chat.server.port}/rooms/garden?token={token}")


async def heard(client: Client) -> Said | Here:
    return await client.typed(TO_CLIENTS).read_message()


async def test_room_hears_what_its_members_say_and_who_leaves(chat: Chat) -> None:
    async with join(chat, chat.token("Ann")) as ann:
        assert await heard(ann) == Here(["Ann"])
        async with join(chat, chat.token("Bob")) as bob:
            assert await heard(ann) == await heard(bob) == Here(["Ann", "Bob"])
            await bob.send('{"type": "say", "text": "hi"}')
            assert await heard(ann) == await heard(bob) == Said("Bob", "hi")
        assert await heard(ann) == Here(["Ann"])


async def test_token_that_is_not_valid_is_refused(chat: Chat) -> None:
    for token in ("", "Ann.99999999999.00", chat.token("Ann", -1)):
        with pytest.raises(HandshakeRefused, match="401"):
            await join(chat, token)
