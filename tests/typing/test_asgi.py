"""Types of connections of ASGI servers. mypy and pyright check the assertions; pytest checks the public names."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Literal, TypedDict, assert_type

import pytest
from fastapi import WebSocket as FastAPIWebSocket
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

import streamws.asgi
from streamws import CloseOutcome, DecodeError, Key, PeerCertificate, Request, Response, State
from streamws.asgi import AsgiClient, from_scope, from_websocket
from streamws.messages import Channel, Json, Typed

NUMBER: Key[int] = Key("number")


class WebSocketScope(TypedDict):
    type: Literal["websocket"]
    path: str


class ReceiveEvent(TypedDict):
    type: Literal["websocket.receive"]
    text: str | None


class DisconnectEvent(TypedDict):
    type: Literal["websocket.disconnect"]
    code: int


class SendEvent(TypedDict):
    type: Literal["websocket.send"]
    text: str | None


class CloseEvent(TypedDict):
    type: Literal["websocket.close"]
    code: int


async def starlette(scope: Scope, receive: Receive, send: Send) -> None:
    assert_type(from_scope(scope, receive, send), AsgiClient)
    async with from_scope(scope, receive, send, accepted=True) as client:
        assert_type(client, AsgiClient)


async def typed_dictionaries(
    scope: WebSocketScope,
    receive: Callable[[], Awaitable[ReceiveEvent | DisconnectEvent]],
    send: Callable[[SendEvent | CloseEvent], Awaitable[None]],
) -> None:
    """Servers and frameworks with types such as those of asgiref."""
    assert_type(from_scope(scope, receive, send), AsgiClient)


async def untyped(
    scope: dict[str, Any],
    receive: Callable[[], Coroutine[Any, Any, MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Coroutine[Any, Any, None]],
) -> None:
    assert_type(from_scope(scope, receive, send), AsgiClient)


def websockets(websocket: WebSocket, other: FastAPIWebSocket) -> None:
    assert_type(from_websocket(websocket), AsgiClient)
    assert_type(from_websocket(other), AsgiClient)


async def using(client: AsgiClient) -> None:
    channel: Channel = client
    await channel.close()
    assert_type(await client.accept("chat", [("Set-Cookie", "a=1")]), None)
    await client.accept(headers={"X": "1"})
    await client.refuse(Response(401))
    assert_type(aiter(client), AsyncIterator[str | bytes])
    async for message in client:
        assert_type(message, str | bytes)
    async for text in client.text():
        assert_type(text, str)
    async for data in client.binary():
        assert_type(data, bytes)
    await assert_type(client.read_message(), Coroutine[object, None, str | bytes])
    await assert_type(client.send("text"), Coroutine[object, None, None])
    await client.send(bytearray(), text=True)
    await client.close(4000, "why", timeout=None)
    await client.wait_closed()
    assert_type(client.outcome, CloseOutcome | None)
    assert_type(client.state, State)
    assert_type(client.request, Request)
    assert_type(client.remote, tuple[str, int])
    assert_type(client.subprotocol, str | None)
    assert_type(client.backlog, int)
    assert_type(client.get_extra_info("peercert"), PeerCertificate | None)
    assert_type(client.get_extra_info("peername"), object)
    client[NUMBER] = 1
    assert_type(client[NUMBER], int)
    assert_type(client.get(NUMBER), int | None)
    assert_type(client.get(NUMBER, ""), int | str)


def registering(client: AsgiClient) -> None:
    @client.closed
    async def on_closed(outcome: CloseOutcome) -> None: ...

    unchanged: Callable[[CloseOutcome], Coroutine[object, object, None]] = on_closed
    client.closed(unchanged)
    client.closed(print)


def typing_messages(client: AsgiClient) -> None:
    async def on_error(client: AsgiClient, message: str | bytes, error: DecodeError) -> None: ...

    assert_type(client.typed(Json(int)), Typed[int, int])
    assert_type(client.typed(Json(int), on_error), Typed[int, int])


def mistakes(client: AsgiClient, websocket: WebSocket) -> None:
    client.writer  # type: ignore[attr-defined]  # noqa: B018
    client.stats  # type: ignore[attr-defined]  # noqa: B018
    from_websocket(client)  # type: ignore[arg-type]
    from_scope(websocket.scope, websocket.send, websocket.receive)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", streamws.asgi.__all__)
def test_public_name_exists(name: str) -> None:
    assert getattr(streamws.asgi, name) is not None


@pytest.mark.parametrize("value", [AsgiClient, from_scope, from_websocket, streamws.asgi.WebSocket])
def test_public_names_and_methods_have_docstrings(value: object) -> None:
    assert inspect.getdoc(value)
    bare = [
        name
        for name, member in vars(value).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property)) and not member.__doc__
    ]
    assert bare == []


def test_public_names_are_sorted() -> None:
    assert streamws.asgi.__all__ == sorted(streamws.asgi.__all__)
