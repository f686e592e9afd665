"""Mistakes of programs: each error says what to write, or the log does, and the client gets the error 100."""

import asyncio
from typing import Any

import pytest

from streamws import Client
from streamws.messages import Json
from streamws.topics import CentrifugoEndpoint, Connected, JsonValue, MemoryBroker, Rpc, Topic, Topics
from topics.centrifugo.endpoints import Open, allow, same

INTERNAL = '"error":{"code":100,"message":"internal server error","temporary":true}'


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"topics": MemoryBroker()}, "topics must be a Topics, not <MemoryBroker, 0 topics>"),
        ({"topics": CentrifugoEndpoint}, "topics must be a Topics, not <class"),
        ({"find": allow}, "find must be a function that returns at once: write `def`, not `async def`"),
        ({"rpc": {"same": same}}, "rpc['same'] must be an Rpc, not <function same at "),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        CentrifugoEndpoint(**{"topics": Topics(MemoryBroker()), **options})
    assert text in str(caught.value)


def test_user_that_is_not_text_is_refused() -> None:
    user: Any = 5
    with pytest.raises(TypeError, match=r"^user must be str, not 5$"):
        Connected(user)


def connect(client: Client, token: str, data: JsonValue) -> Connected:
    return Connected("ada")


async def test_plain_function_for_connect_is_logged(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    peer = await (await open_endpoint(connect=connect)).visit()
    await peer.ask('{"id":1,"connect":{}}', f'{{"id":1,{INTERNAL}}}')
    assert "TypeError: connect must be a coroutine function (async def); it returned Connected" in caplog.text


async def test_plain_function_for_authorize_is_logged(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    peer = await (await open_endpoint(authorize=lambda client, action, topic: True)).visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', f'{{"id":2,{INTERNAL}}}')
    assert "TypeError: authorize must be a coroutine function (async def); it returned bool" in caplog.text


def count(client: Client, data: object) -> Any:
    return 5


@pytest.mark.parametrize("codecs", [(), (Json(int), Json(int))], ids=["json", "codecs"])
async def test_plain_function_for_rpc_is_logged(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture, codecs: tuple[Any, ...]
) -> None:
    peer = await (await open_endpoint(rpc={"count": Rpc(count, *codecs)})).visit("")
    await peer.ask('{"id":2,"rpc":{"method":"count","data":1}}', f'{{"id":2,{INTERNAL}}}')
    assert "TypeError: count must be a coroutine function (async def); it returned int" in caplog.text


async def test_plain_function_for_messages_is_logged(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    peer = await (await open_endpoint(message=count, rpc={"same": Rpc(same)})).visit("")
    await peer.say('{"send":{"data":1}}')
    await peer.ask('{"id":2,"rpc":{"method":"same","data":1}}', '{"id":2,"rpc":{"data":1}}')
    assert "TypeError: message must be a coroutine function (async def); it returned int" in caplog.text


async def test_find_that_returns_no_topic_is_logged(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    future: asyncio.Future[Topic[str]] = asyncio.get_running_loop().create_future()
    peer = await (await open_endpoint(authorize=allow, find=lambda name: future)).visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', f'{{"id":2,{INTERNAL}}}')
    assert "TypeError: find must return Topic, not Future" in caplog.text
