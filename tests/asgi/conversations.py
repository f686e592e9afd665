"""Conversations with `application.py` under an ASGI server, and what is special about each server."""

import asyncio
import itertools
import json
from typing import Any

import attrs
import pytest
import websockets.asyncio.client

from streamws import Client, Connecting, ConnectionClosed, HandshakeRefused, connect


@attrs.frozen
class Server:
    """An ASGI server that runs the application."""

    url: str
    codes: bool = True
    """Whether it tells the close code of the peer; else it is 1006."""
    sends_codes: bool = True
    """Whether it sends close codes such as 1007 and 1011; else it sends 1000."""
    tells_reasons: bool = True
    """Whether it tells the application the reason of the peer."""
    sends_reasons: bool = True
    """Whether it sends the reason of the application."""
    abrupt: int = 1005
    """The code that it tells if the peer has gone without a Close frame."""
    answers: bool = True
    """Whether it offers the extension `websocket.http.response`, and sends additional header fields."""
    headers: bool = True
    """Whether it sends the additional header fields of `accept`."""
    empty: bool = True
    """Whether it sends empty messages."""


_names = itertools.count(1)


def open_(server: Server, path: str, query: str = "", **options: Any) -> Connecting:
    return connect(f"{url_of(server, path)}{query}", proxy=None, compression=True, **options)


def url_of(server: Server, path: str) -> str:
    """Return a URL whose query has a new name."""
    return f"{server.url}{path}?name={next(_names)}"


async def report(server: Server, client: Client | str) -> list[Any]:
    """Return the cause, initiator, code and reason of a connection that ends, as the application sees it.

    :param client: the connection, or the value of its name.
    """
    name = client if isinstance(client, str) else client.request.query["name"]
    async with connect(f"{server.url}/report?name={name}", proxy=None) as reporting:
        facts: list[Any] = json.loads(await reporting.read_message())
        return facts


def expected_close(server: Server, code: int, reason: str) -> list[Any]:
    """Return what a server reports if the peer has closed with a code."""
    if not server.codes:
        return ["reset", "remote", 1006, ""]
    cause = "clean" if code in (1000, 1001) else "peer error"
    return [cause, "remote", code, reason if server.tells_reasons else ""]


class Conversations:
    """The tests. A subclass has a fixture `server`."""

    async def test_echo(self, server: Server) -> None:
        messages: list[str | bytes] = ["a", b"\0", "grüß dich", "x" * 70_000, bytes(300_000)]
        messages += ["", b""] if server.empty else []
        async with open_(server, "/echo") as client:
            for message in messages:
                await client.send(message)
            assert [await client.read_message() for _ in messages] == messages
        assert await report(server, client) == expected_close(server, 1000, "")

    async def test_echo_to_websockets(self, server: Server) -> None:
        url = url_of(server, "/echo")
        async with websockets.asyncio.client.connect(url, proxy=None) as other:
            sent: list[str | bytes] = ["a", b"\0", "ü" * 100_000]
            for message in sent:
                await other.send(message)
                assert await other.recv() == message
            await other.close(4002, "mine")
        assert await report(server, url.partition("name=")[2]) == expected_close(server, 4002, "mine")

    async def test_typed_messages(self, server: Server) -> None:
        async with open_(server, "/typed") as client:
            await client.send('{"type":"move","x":1,"y":2}')
            assert await client.read_message() == '{"type":"move","x":2,"y":2}'
            await client.send('{"type":"move","x":"one"}')
            with pytest.raises(ConnectionClosed) as caught:
                await client.read_message()
        assert caught.value.outcome.received is not None
        code = 1007 if server.sends_codes else 1000
        assert caught.value.outcome.received.code == code
        if server.sends_reasons:
            assert "Expected `int`" in caught.value.outcome.received.reason
        assert (await report(server, client))[:3] == ["closed with error", "local", code]

    async def test_request_subprotocol_and_headers(self, server: Server) -> None:
        options = {"subprotocols": ["chat.v2", "chat.v1"], "headers": {"Cookie": "a=1; b=2"}}
        async with open_(server, "/request", "&a=b%20c&d=%C3%BC", **options) as client:
            facts = json.loads(await client.read_message())
            assert client.subprotocol == "chat.v1"
            if server.headers:
                assert client.response.headers["X-Room"] == "red"
            own = client.get_extra_info("sockname")
        assert facts == {
            "target": client.request.target,
            "query": {"name": client.request.query["name"], "a": "b c", "d": "ü"},
            "cookies": {"a": "1", "b": "2"},
            "subprotocols": ["chat.v2", "chat.v1"],
            "host": server.url.removeprefix("ws://"),
            "remote": list(own) if isinstance(own, tuple) else None,
            "secure": False,
        }

    async def test_close_has_code_and_reason(self, server: Server) -> None:
        async with open_(server, "/close") as client:
            await client.send("x")
            await client.wait_closed()
        await self.check_close(server, client, 4001, "enough")

    async def test_close_after_a_cancelled_read(self, server: Server) -> None:
        async with open_(server, "/close_while_reading") as client:
            await client.wait_closed()
        await self.check_close(server, client, 1011, "")

    async def test_end_of_the_block_closes_with_1000(self, server: Server) -> None:
        async with open_(server, "/leave") as client:
            assert await client.read_message() == "bye"
            await client.wait_closed()
        await self.check_close(server, client, 1000, "")

    async def test_error_closes_with_1011(self, server: Server) -> None:
        async with open_(server, "/fail") as client:
            await client.wait_closed()
        await self.check_close(server, client, 1011, "")

    async def check_close(self, server: Server, client: Client, code: int, reason: str) -> None:
        """Check the end of a connection that the application has closed."""
        if code == 1011 and not server.sends_codes:
            code = 1000
        assert client.outcome is not None
        assert client.outcome.received is not None
        assert client.outcome.received.code == code
        assert client.outcome.received.reason == (reason if server.sends_reasons else "")
        assert (await report(server, client))[1:] == ["local", code, reason]

    async def test_refusal(self, server: Server) -> None:
        with pytest.raises(HandshakeRefused) as caught:
            await open_(server, "/refuse")
        if server.answers:
            assert (caught.value.status, caught.value.body) == (401, b"token expired\n")
            assert caught.value.headers["X-Why"] == "token"
        else:
            assert caught.value.status == 403
        with pytest.raises(HandshakeRefused) as caught:
            await open_(server, "/forbid")
        assert caught.value.status == 403

    async def test_cancelled_reads_lose_nothing(self, server: Server) -> None:
        async with open_(server, "/cancel") as client:
            assert await client.read_message() == "go"
            for message in "abc":
                await client.send(message)
            assert json.loads(await client.read_message()) == ["a", "b", "c"]

    @pytest.mark.parametrize("path", ["/echo", "/watch"])
    async def test_close_of_the_peer_is_seen_with_and_without_a_reader(self, server: Server, path: str) -> None:
        async with open_(server, path) as client:
            await client.close(4003, "done")
        assert await report(server, client) == expected_close(server, 4003, "done")

    @pytest.mark.parametrize("path", ["/echo", "/watch", "/flood"])
    async def test_abrupt_end_is_seen(self, server: Server, path: str) -> None:
        client = await open_(server, path)
        if path == "/flood":
            await client.read_message()
        client.abort()
        cause = "reset" if server.abrupt == 1006 else "clean"
        assert await report(server, client) == [cause, "remote", server.abrupt, ""]

    async def test_close_of_the_peer_ends_the_sender(self, server: Server) -> None:
        client = await open_(server, "/flood")
        await client.read_message()
        await client.close()
        assert await report(server, client) == expected_close(server, 1000, "")

    async def test_many_connections_at_once(self, server: Server) -> None:
        async def talk(number: int) -> None:
            async with open_(server, "/echo") as client:
                for message in range(20):
                    await client.send(f"{number}: {message}")
                    assert await client.read_message() == f"{number}: {message}"

        await asyncio.gather(*[talk(number) for number in range(8)])
