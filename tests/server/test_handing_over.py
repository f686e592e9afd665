"""What a @socket.request callback hands over: values by `Key`, and `Accept`."""

import asyncio
import logging

import pytest

from helpers.fixtures import Connect, Serve, echo, url_of
from helpers.frames import request
from helpers.waiting import within
from streamws import (
    Accept,
    Client,
    HandshakeRefused,
    InvalidHeader,
    Key,
    Request,
    UsageError,
)
from streamws import connect as connect_to

USER: Key[str] = Key("user")
VISITS: Key[int] = Key("visits")


async def greet(client: Client) -> None:
    client[VISITS] = client.get(VISITS, 0) + 1
    await client.send(f"{client[USER]} {client[VISITS]} {client.request[VISITS]} {USER in client}")


def identify(request: Request) -> None:
    request[USER] = request.query["user"]


async def identify_later(request: Request) -> Accept:
    await asyncio.sleep(0)
    request[USER] = request.query["user"]
    return Accept()


# Values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", [identify, identify_later])
async def test_handler_finds_what_the_request_callback_stored(callback: object, serve: Serve) -> None:
    server = await serve(greet, request=callback)  # type: ignore[arg-type]
    for user in ("alice", "bob"):
        async with connect_to(url_of(server, f"/?user={user}")) as client:
            assert await within(client.read_message()) == f"{user} 1 1 True"


async def test_connection_callback_finds_what_the_request_callback_stored(serve: Serve) -> None:
    server = await serve(connection=greet, request=identify)
    async with connect_to(url_of(server, "/?user=alice")) as client:
        assert await within(client.read_message()) == "alice 1 1 True"


async def test_client_of_connect_stores_values(serve: Serve) -> None:
    server = await serve(echo)
    async with connect_to(url_of(server)) as client, connect_to(url_of(server)) as other:
        client[USER] = "alice"
        assert (client[USER], client.get(USER), USER in client) == ("alice", "alice", True)
        assert (other.get(USER), other.get(USER, "nobody"), USER in other) == (None, "nobody", False)
        await client.close()
        assert client[USER] == "alice"  # after the end too
        del client[USER]
        with pytest.raises(KeyError, match=r"^<Key 'user'>$"):
            client[USER]
        with pytest.raises(KeyError, match=r"^<Key 'user'>$"):
            del client[USER]


async def test_client_refuses_anything_but_a_key(serve: Serve) -> None:
    async with connect_to(url_of(await serve(echo))) as client:
        with pytest.raises(TypeError, match=r"write USER: Key\[User\] = Key\('user'\) once"):
            client["user"]  # type: ignore[index]
        with pytest.raises(TypeError, match=r"write USER: Key\[User\] = Key\('user'\) once"):
            client["user"] = "alice"  # type: ignore[index]
        with pytest.raises(TypeError, match="write `async for`"):
            for _ in client:  # type: ignore[attr-defined]
                pass


async def test_connection_that_stores_nothing_has_no_mapping(serve: Serve) -> None:
    server = await serve(echo)
    async with connect_to(url_of(server, "/?a=1"), headers={"Cookie": "a=1"}) as client:
        await client.send("x")
        await within(client.read_message())
        for each in (client, *server.clients.values()):
            assert each.request._derived is None


# Accept --------------------------------------------------------------------------------------------------------


async def test_accept_adds_fields_to_the_response(serve: Serve) -> None:
    fields = [("Set-Cookie", "a=1; Secure"), ("Set-Cookie", "b=2"), ("X-Request-Id", "é")]
    server = await serve(echo, request=lambda request: Accept(fields), compression=True)
    async with connect_to(url_of(server), compression=True) as client:
        headers = client.response.headers
        assert headers.get_all("Set-Cookie") == ("a=1; Secure", "b=2")
        assert headers["X-Request-Id"] == "é"
        assert headers["Server"] == "streamws"
        await client.send("works")
        assert await within(client.read_message()) == "works"
        [on_server] = server.clients.values()
        assert on_server.response.headers == headers


async def test_accept_replaces_the_server_field(serve: Serve) -> None:
    server = await serve(echo, request=lambda request: Accept({"server": "mine"}))
    async with connect_to(url_of(server)) as client:
        assert client.response.headers.get_all("Server") == ("mine",)


async def test_accept_chooses_the_subprotocol(serve: Serve) -> None:
    def newest(request: Request) -> Accept:
        return Accept(subprotocol=max(request.subprotocols))

    # Not one of the server's own, which are only the default.
    server = await serve(echo, request=newest, subprotocols=["chat.v1"])
    async with connect_to(url_of(server), subprotocols=["chat.v1", "chat.v2"]) as client:
        assert client.subprotocol == "chat.v2"
        assert [each.subprotocol for each in server.clients.values()] == ["chat.v2"]


async def test_accept_without_subprotocol_leaves_the_choice_to_the_server(serve: Serve) -> None:
    server = await serve(echo, request=lambda request: Accept(), subprotocols=["chat.v1"])
    async with connect_to(url_of(server), subprotocols=["chat.v2", "chat.v1"]) as client:
        assert client.subprotocol == "chat.v1"


@pytest.mark.parametrize(("offered", "shown"), [(["chat.v1", "x"], "chat.v1, x"), ([], "none")])
async def test_accept_with_subprotocol_that_was_not_offered_is_an_error_of_the_server(
    offered: list[str], shown: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, request=lambda request: Accept(subprotocol="chat.v2"))
    with pytest.raises(HandshakeRefused) as refused:
        await connect_to(url_of(server), subprotocols=offered)
    assert (refused.value.status, refused.value.body) == (500, b"the server failed to handle the request\n")
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().endswith(
        f": @socket.request chose the subprotocol 'chat.v2', but the client offers {shown}: "
        "choose one of request.subprotocols, or refuse the request"
    )


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request({"Origin": "https://evil.example"}), 403),
        (request({"Upgrade": None}), 426),
        (request({"Sec-WebSocket-Key": "x"}), 400),
        (request(version="1.0"), 505),
    ],
)
async def test_accept_does_not_replace_the_checks(head: bytes, status: int, serve: Serve, connect: Connect) -> None:
    raw = await connect(
        await serve(echo, request=lambda request: Accept({"Set-Cookie": "a=1"}, "chat.v2")), upgrade=False
    )
    await raw.send(head)
    answer = await raw.read_answer()
    assert answer.status == status
    assert "set-cookie" not in answer.headers


async def test_accept_with_invalid_field_fails_the_request_and_sends_nothing_of_it(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(echo, request=lambda request: Accept({"X": f"{request.query['x']}"}))
    raw = await connect(server, upgrade=False)
    await raw.send(request(target="/?x=a%0d%0aSet-Cookie:%20b=c"))
    answer = await raw.read_until_eof()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in answer
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], InvalidHeader)


async def test_values_belong_to_the_thread_of_the_loop_but_can_be_read_anywhere(serve: Serve) -> None:
    async with connect_to(url_of(await serve(echo))) as client:
        client[USER] = "alice"
        assert await asyncio.to_thread(lambda: client[USER]) == "alice"
        with pytest.raises(UsageError, match=r"client.get_extra_info\(\)"):
            await asyncio.to_thread(client.get_extra_info, "socket")
