"""The tests of chat_service.py: `pytest docs/examples/test_chat_service.py`."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from chat_service import TO_CLIENTS, Chat, Here, Member, Missing, Said

from streamws import Client, Connecting, HandshakeRefused, connect
from streamws.topics import Position

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def chat() -> AsyncIterator[Chat]:
    service = Chat("127.0.0.1", 0, secret=b"secret")
    async with service.server:
        yield service


def join(chat: Chat, token: str) -> Connecting:
    return connect(f"ws://127.0.0.1:{chat.server.port}/rooms/garden?token={token}")


async def heard(client: Client) -> Said | Here | Member | Missing:
    return await client.typed(TO_CLIENTS).read_message()


async def test_room_hears_what_its_members_say_and_who_leaves(chat: Chat) -> None:
    async with join(chat, chat.token("Ann")) as ann:
        assert [await heard(ann), await heard(ann)] == [Member("Ann", here=True), Here(["Ann"])]
        async with join(chat, chat.token("Bob")) as bob:
            assert await heard(ann) == await heard(bob) == Member("Bob", here=True)
            assert await heard(bob) == Here(["Ann", "Bob"])
            await bob.send('{"type": "say", "text": "hi"}')
            said = await heard(ann)
            assert isinstance(said, Said)
            assert (said.user, said.text, said.position.offset) == ("Bob", "hi", 1)
            assert await heard(bob) == said
        assert await heard(ann) == Member("Bob", here=False)


async def test_client_that_comes_back_gets_what_it_has_missed(chat: Chat) -> None:
    async with join(chat, chat.token("Ann")) as ann:
        assert [await heard(ann), await heard(ann)] == [Member("Ann", here=True), Here(["Ann"])]
        for text in ("one", "two"):
            await ann.send(f'{{"type": "say", "text": "{text}"}}')
        one, two = await heard(ann), await heard(ann)
        assert isinstance(one, Said)
        epoch, offset = one.position
        async with join(chat, f"{chat.token('Bob')}&epoch={epoch}&offset={offset}") as bob:
            assert await heard(bob) == two
        async with join(chat, f"{chat.token('Bob')}&epoch=other&offset=7") as bob:
            assert [await heard(bob), await heard(bob)] == [one, two]
            assert await heard(bob) == Missing(Position("other", 7))


async def test_token_that_is_not_valid_is_refused(chat: Chat) -> None:
    for token in ("", "Ann.99999999999.00", chat.token("Ann", -1)):
        with pytest.raises(HandshakeRefused, match="401"):
            await join(chat, token)
