"""`from_websocket` and `from_scope` in applications of Starlette and FastAPI, under uvicorn."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketException
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket as StarletteWebSocket
from starlette.websockets import WebSocketDisconnect

from asgi.test_under_uvicorn import serving
from helpers.waiting import within
from messages.kinds import StructMove
from streamws import (
    Cause,
    CloseOutcome,
    ConnectionClosed,
    HandshakeRefused,
    Response,
    Side,
    State,
    UsageError,
    connect,
)
from streamws.asgi import AsgiClient, from_scope, from_websocket
from streamws.messages import Json

app = FastAPI()
OUTCOMES: "list[asyncio.Future[CloseOutcome]]" = []


async def opened(websocket: WebSocket) -> AsyncIterator[AsgiClient]:
    async with from_websocket(websocket) as client:
        yield client


Opened = Annotated[AsgiClient, Depends(opened)]


@app.websocket("/rooms/{name}")
async def room(client: Opened, name: str) -> None:
    async for message in client:
        await client.send(f"{name}: {message!r}")


@app.websocket("/accepted")
async def accepted(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="chat")
    await websocket.send_text("from Starlette")
    async with from_websocket(websocket) as client:
        assert client.state is State.OPEN
        async for message in client:
            await client.send(message)


@app.websocket("/connected")
async def connected(websocket: WebSocket) -> None:
    assert (await websocket.receive())["type"] == "websocket.connect"
    async with from_websocket(websocket) as client:
        await client.accept("chat")
        await client.send(await client.read_message())


@app.websocket("/scope")
async def scope(websocket: WebSocket) -> None:
    async with from_scope(websocket.scope, websocket.receive, websocket.send) as client:
        await client.send(str(client.scope["path_params"]))


@app.websocket("/typed/{number}")
async def typed(client: Opened, number: int) -> None:
    moves = client.typed(Json(StructMove))
    await moves.send(StructMove(x=number))


@app.websocket("/policy")
async def policy(client: Opened) -> None:
    await client.read_message()
    raise WebSocketException(1008, "too loud")


@app.websocket("/unauthorized")
async def unauthorized(client: Opened) -> None:
    raise HTTPException(401, "token expired")


@app.websocket("/late")
async def late(client: Opened) -> None:
    await client.read_message()
    raise HTTPException(403, "no")


@app.websocket("/refused")
async def refused(client: Opened) -> None:
    await client.refuse(Response(402, "pay first"))


@app.websocket("/broken")
async def broken(client: Opened) -> None:
    await client.read_message()
    raise ZeroDivisionError


@app.websocket("/closed")
async def closed(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(4000)
    try:
        from_websocket(websocket)
    except UsageError as error:
        OUTCOMES[0].set_exception(error)


@app.websocket("/flood")
async def flood(websocket: WebSocket) -> None:
    client = from_websocket(websocket)
    try:
        while True:
            await client.send(bytes(1000))
            await asyncio.sleep(0)
    except ConnectionClosed as error:
        OUTCOMES[0].set_result(error.outcome)


@app.websocket("/ticks")
async def ticks(client: Opened) -> None:
    client.closed(OUTCOMES[0].set_result)
    while True:
        await client.send("tick")
        await asyncio.sleep(0)


@app.websocket("/loop")
async def loop(client: Opened) -> None:
    client.closed(OUTCOMES[0].set_result)
    while True:
        await client.send(await client.read_message())


@app.websocket("/expires")
async def expires(websocket: WebSocket) -> None:
    with anyio.move_on_after(0.01):
        async with from_websocket(websocket) as client:
            await client.read_message()


@app.websocket("/returns")
async def returns(websocket: WebSocket) -> None:
    client = from_websocket(websocket)
    await client.send("bye")
    client.closed(OUTCOMES[0].set_result)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    OUTCOMES[:] = [asyncio.get_running_loop().create_future()]
    async with serving(app, "websockets-sansio") as url:
        yield url


async def test_room_with_a_dependency_and_a_path_parameter(url: str) -> None:
    async with connect(f"{url}/rooms/red", proxy=None) as client:
        await client.send("a")
        assert await client.read_message() == "red: 'a'"
        await client.send(b"b")
        assert await client.read_message() == "red: b'b'"


@pytest.mark.parametrize("path", ["/accepted", "/connected"])
async def test_websocket_that_starlette_has_begun(url: str, path: str) -> None:
    async with connect(url + path, subprotocols=["chat"], proxy=None) as client:
        assert client.subprotocol == "chat"
        if path == "/accepted":
            assert await client.read_message() == "from Starlette"
        await client.send("a")
        assert await client.read_message() == "a"


async def test_from_scope_with_the_functions_of_a_websocket(url: str) -> None:
    async with connect(f"{url}/scope", proxy=None) as client:
        assert await client.read_message() == "{}"


async def test_typed_messages(url: str) -> None:
    async with connect(f"{url}/typed/7", proxy=None) as client:
        assert await client.typed(Json(StructMove)).read_message() == StructMove(x=7)


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [("/policy", 1008, "too loud"), ("/broken", 1011, ""), ("/late", 1011, ""), ("/expires", 1011, "")],
)
async def test_exception_closes(url: str, path: str, code: int, reason: str) -> None:
    async with connect(url + path, proxy=None) as client:
        if path != "/expires":
            await client.send("a")
        await client.wait_closed()
    assert client.outcome is not None
    assert (client.outcome.code, client.outcome.reason) == (code, reason)


@pytest.mark.parametrize(
    ("path", "status", "text"), [("/unauthorized", 401, "token expired"), ("/refused", 402, "pay first")]
)
async def test_refusal(url: str, path: str, status: int, text: str) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        await connect(url + path, proxy=None)
    assert caught.value.status == status
    assert text in caught.value.body.decode()


async def test_closed_websocket_is_an_error(url: str) -> None:
    async with connect(f"{url}/closed", proxy=None) as client:
        await client.wait_closed()
    with pytest.raises(UsageError, match="it was closed or refused already"):
        await within(OUTCOMES[0])


async def test_sender_sees_that_the_peer_has_gone(url: str) -> None:
    async with connect(f"{url}/flood", proxy=None) as client:
        await client.read_message()
        client.abort()
    assert (await within(OUTCOMES[0])).initiator is Side.REMOTE


@pytest.mark.parametrize("path", ["/ticks", "/loop"])
async def test_lost_connection_is_not_logged_as_an_error(path: str, caplog: pytest.LogCaptureFixture) -> None:
    OUTCOMES[:] = [asyncio.get_running_loop().create_future()]
    async with serving(app, "websockets-sansio") as url, connect(url + path, proxy=None) as client:
        await client.send("a")
        await client.read_message()
        client.abort()
        await within(OUTCOMES[0])
    # The server has waited for the application.
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_connection_of_a_handler_that_returns_without_a_block_has_ended(url: str) -> None:
    async with connect(f"{url}/returns", proxy=None) as client:
        assert await client.read_message() == "bye"
        await client.wait_closed()
    assert (await within(OUTCOMES[0])).cause is Cause.LOCAL_CANCEL


async def echo(websocket: StarletteWebSocket) -> None:
    async with from_websocket(websocket) as client:
        async for message in client:
            await client.send(f"{client.request.path}: {message!r}")


starlette = Starlette(routes=[Mount("/api", routes=[WebSocketRoute("/echo", echo)])])


async def test_starlette_with_a_mounted_route() -> None:
    async with serving(starlette, "websockets-sansio") as url, connect(f"{url}/api/echo", proxy=None) as client:
        await client.send("a")
        assert await client.read_message() == "/api/echo: 'a'"


def test_test_client_of_starlette() -> None:
    with TestClient(starlette).websocket_connect("/api/echo") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "/api/echo: 'a'"
    with TestClient(app).websocket_connect("/policy") as websocket:
        websocket.send_text("a")
        with pytest.raises(WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (1008, "too loud")
