"""The example programs, run as their docstrings say, with real clients."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from helpers.programs import SECONDS, Program

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

Join = Callable[..., Awaitable[ClientConnection]]


@pytest.fixture
async def join(request: pytest.FixtureRequest) -> AsyncIterator[Join]:
    """Connects to the example that the test asks for, and says things; the example must end well."""
    async with (
        asyncio.timeout(SECONDS),
        Program("-u", str(EXAMPLES / request.param), "127.0.0.1", "0") as program,
        AsyncExitStack() as stack,
    ):
        address = await program.logs("serving on (.*)")

        async def joined(path: str, *said: str) -> ClientConnection:
            peer = await stack.enter_async_context(connect(f"ws://{address}{path}", proxy=None))
            for text in said:
                await peer.send(text)
            return peer

        yield joined
        await stack.aclose()
        assert await program.interrupt() == 0
        assert "Traceback" not in program.stderr


@asynccontextmanager
async def chatting(port: int) -> AsyncIterator[int]:
    """A chat server on a port, 0 for any; gives the port."""
    async with Program("-u", str(EXAMPLES / "chat_server.py"), "127.0.0.1", str(port)) as program:
        yield int(await program.logs(r"serving on .*:(\d+)"))
        assert await program.interrupt() == 0


@asynccontextmanager
async def staying(port: int, name: str) -> AsyncIterator[Program]:
    async with Program("-u", str(EXAMPLES / "client.py"), f"ws://127.0.0.1:{port}/garden", name) as program:
        yield program


async def heard(peer: ClientConnection, count: int) -> list[str | bytes]:
    return [await peer.recv() for _ in range(count)]


chat = pytest.mark.parametrize("join", ["chat_server.py"], indirect=True)


@pytest.mark.parametrize("join", ["echo_server.py"], indirect=True)
async def test_echo_server_sends_back_text_and_bytes(join: Join) -> None:
    peer = await join("/")
    for message in ("hello", b"\x00\x01", ""):
        await peer.send(message)
        assert await peer.recv() == message


@chat
async def test_chat_server_tells_all_in_a_room_what_one_says(join: Join) -> None:
    ann = await join("/garden", "Ann")
    assert await heard(ann, 1) == ["* Ann joined; in this room: Ann"]
    bob = await join("/garden", "Bob")
    assert await heard(bob, 1) == ["* Bob joined; in this room: Ann, Bob"]
    await ann.send("hi Bob")
    assert await heard(ann, 2) == ["* Bob joined; in this room: Ann, Bob", "Ann: hi Bob"]
    assert await heard(bob, 1) == ["Ann: hi Bob"]
    await bob.close()
    assert await heard(ann, 1) == ["* Bob left"]


@chat
async def test_chat_server_keeps_rooms_apart(join: Join) -> None:
    ann = await join("/garden", "Ann")
    other = await join("/kitchen", "Ann", "anyone?")
    assert await heard(other, 2) == ["* Ann joined; in this room: Ann", "Ann: anyone?"]
    await ann.send("nobody")
    assert await heard(ann, 2) == ["* Ann joined; in this room: Ann", "Ann: nobody"]


@chat
async def test_chat_server_survives_a_client_that_vanishes(join: Join) -> None:
    ann = await join("/garden", "Ann")
    bob = await join("/garden", "Bob")
    await heard(bob, 1)
    bob.transport.abort()
    await heard(ann, 2)
    assert await heard(ann, 1) == ["* Bob left"]
    again = await join("/garden", "Bob")
    assert await heard(again, 1) == ["* Bob joined; in this room: Ann, Bob"]


@chat
@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [("Ann", 1008, "this name is taken"), ("  ", 1008, "a name is missing"), (b"Ann", 1003, None)],
)
async def test_chat_server_refuses_a_name_and_goes_on(
    join: Join, said: str | bytes, code: int, reason: str | None
) -> None:
    ann = await join("/garden", "Ann")
    await heard(ann, 1)
    other = await join("/garden")
    await other.send(said)
    with pytest.raises(ConnectionClosed) as closed:
        await other.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert reason in (None, closed.value.rcvd.reason)
    await ann.send("still here")
    assert await heard(ann, 1) == ["Ann: still here"]


async def test_client_tells_the_time_and_comes_back_to_the_server() -> None:
    async with asyncio.timeout(SECONDS), AsyncExitStack() as stack:
        async with chatting(0) as port:
            clock = await stack.enter_async_context(staying(port, "Clock"))
            await clock.says(r"^\* Clock joined; in this room: Clock$")
            async with connect(f"ws://127.0.0.1:{port}/garden", proxy=None) as peer:
                await peer.send("Ann")
                await clock.says("Ann joined")
                await peer.send("what time is it?")
                await clock.says(r"^Clock: \d\d:\d\d$")
        await clock.logs("reconnecting in")
        async with chatting(port):
            await clock.says(r"^\* Clock joined; in this room: Clock$")
            assert await clock.interrupt() == 0
            assert "Traceback" not in clock.stderr


async def test_client_gives_up_if_its_name_is_not_taken() -> None:
    async with asyncio.timeout(SECONDS), chatting(0) as port, staying(port, "Clock") as clock:
        await clock.says("Clock joined")
        async with staying(port, "Clock") as other:
            assert await other.end() == 1
            assert "this name is taken" in other.stderr.splitlines()[-1]
            assert "Traceback" not in other.stderr
