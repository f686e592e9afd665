"""Connecting, tokens and pings, with exact JSON on real sockets."""

import asyncio
import time
from typing import Any

import pytest

from helpers.waiting import within
from streamws import Client
from streamws.topics import CentrifugoError, Connected, JsonValue
from streamws.topics.centrifugo import session
from streamws.topics.centrifugo.commands import decode_commands
from topics.centrifugo.endpoints import Open, by_token

# Connecting ----------------------------------------------------------------------------------------------------------


async def test_client_connects_without_functions(open_endpoint: Open) -> None:
    peer = await (await open_endpoint()).visit()
    await peer.ask('{"id":7,"connect":{}}', '{"id":7,"connect":{"client":"c1","ping":25,"pong":true}}')


async def test_connect_function_gets_token_and_data_and_its_answer_is_sent(open_endpoint: Open) -> None:
    calls: list[tuple[str, JsonValue]] = []

    async def note(client: Client, token: str, data: JsonValue) -> Connected:
        calls.append((token, data))
        return Connected("ada", data=[1, "é"], expires_at=time.time() + 61)

    peer = await (await open_endpoint(connect=note)).visit()
    await peer.ask(
        '{"id":1,"connect":{"token":"t","data":{"a":null},"name":"js"}}',
        '{"id":1,"connect":{"client":"c1","expires":true,"ttl":60,"data":[1,"é"],"ping":25,"pong":true}}',
    )
    assert calls == [("t", {"a": None})]


async def test_connect_function_disconnects(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(connect=by_token)).visit()
    await peer.say('{"id":1,"connect":{}}')
    assert await peer.end() == (3500, "invalid token")


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (CentrifugoError(109), '{"code":109,"message":"token expired"}'),
        (CentrifugoError(100), '{"code":100,"message":"internal server error","temporary":true}'),
        (CentrifugoError(1999, 'not "today"', True), '{"code":1999,"message":"not \\"today\\"","temporary":true}'),
    ],
)
async def test_connect_function_answers_with_an_error(open_endpoint: Open, error: CentrifugoError, reply: str) -> None:
    async def refuse(client: Client, token: str, data: JsonValue) -> Connected:
        raise error

    peer = await (await open_endpoint(connect=refuse)).visit()
    await peer.ask('{"id":1,"connect":{}}', f'{{"id":1,"error":{reply}}}')
    # Clients open another connection after that.
    await peer.say('{"id":2,"connect":{}}')
    assert await peer.end() == (3501, "bad request: connect has failed")


async def test_commands_behind_connect_are_dropped_if_it_fails(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "streamws.topics")

    async def refuse(client: Client, token: str, data: JsonValue) -> Connected:
        raise CentrifugoError(109)

    peer = await (await open_endpoint(connect=refuse, connect_timeout=0.05)).visit()
    # Clients subscribe at once, without waiting for the reply to `connect`.
    await peer.say('{"id":1,"connect":{}}', '{"id":2,"subscribe":{"channel":"news"}}', '{"id":3,"rpc":{}}')
    await peer.hear('{"id":1,"error":{"code":109,"message":"token expired"}}')
    assert await peer.end() == (3502, "stale")  # and not a bad request
    assert [record.args[-2] for record in caplog.records if isinstance(record.args, tuple)] == [3502]


def test_tokens_are_not_shown() -> None:
    (connecting,) = decode_commands('{"id":1,"connect":{"token":"secret","data":"secret"}}')
    (refreshing,) = decode_commands('{"id":1,"refresh":{"token":"secret"}}')
    assert repr(connecting) == "Connect(id=1, name='', version='')"
    assert repr(refreshing) == "Refresh(id=1)"


async def test_connect_function_that_raises_is_logged(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(client: Client, token: str, data: JsonValue) -> Connected:
        raise LookupError("secret")

    peer = await (await open_endpoint(connect=fail)).visit()
    await peer.ask(
        '{"id":1,"connect":{}}',
        '{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}',
    )
    assert "LookupError: secret" in caplog.text


async def test_connect_function_must_return_connected(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def forget(client: Client, token: str, data: JsonValue) -> Any:
        return Connected() if token == "t" else None

    made = await open_endpoint(connect=forget)
    internal = '"error":{"code":100,"message":"internal server error","temporary":true}'
    await (await made.visit()).ask('{"id":1,"connect":{}}', f'{{"id":1,{internal}}}')
    await (await made.visit("t")).ask('{"id":2,"refresh":{"token":"x"}}', f'{{"id":2,{internal}}}')
    assert caplog.text.count("TypeError: connect must return Connected, not NoneType") == 2


def test_connected_checks_its_values() -> None:
    wrong: dict[str, Any]
    for wrong in ({"user": 5}, {"user": None}, {"expires_at": "tomorrow"}, {"expires_at": True}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            Connected(**wrong)
    with pytest.raises(ValueError, match="expires_at"):
        Connected(expires_at=float("nan"))
    assert Connected(expires_at=5).expires_at == 5


async def test_token_that_has_expired_is_refused(open_endpoint: Open) -> None:
    async def late(client: Client, token: str, data: JsonValue) -> Connected:
        return Connected(expires_at=time.time() - 1)

    peer = await (await open_endpoint(connect=late)).visit()
    await peer.ask('{"id":1,"connect":{}}', '{"id":1,"error":{"code":109,"message":"token expired"}}')


async def test_client_that_does_not_connect_is_disconnected(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(connect_timeout=0.01)).visit()
    assert await peer.end() == (3502, "stale")


# Tokens --------------------------------------------------------------------------------------------------------------


async def test_token_is_refreshed(open_endpoint: Open) -> None:
    calls: list[tuple[str, JsonValue]] = []

    async def note(client: Client, token: str, data: JsonValue) -> Connected:
        calls.append((token, data))
        seconds = {"first": 30.5, "second": 90.5, "short": -1.0}.get(token)
        return Connected("ada", expires_at=None if seconds is None else time.time() + seconds)

    peer = await (await open_endpoint(connect=note)).visit()
    await peer.ask(
        '{"id":1,"connect":{"token":"first"}}',
        '{"id":1,"connect":{"client":"c1","expires":true,"ttl":30,"ping":25,"pong":true}}',
    )
    await peer.ask(
        '{"id":2,"refresh":{"token":"second"}}', '{"id":2,"refresh":{"client":"c1","expires":true,"ttl":90}}'
    )
    await peer.ask('{"id":4,"refresh":{"token":"for ever"}}', '{"id":4,"refresh":{"client":"c1"}}')
    await peer.say('{"id":3,"refresh":{"token":"short"}}')
    # Clients connect again after this code, with another token. After an error they would not.
    assert await peer.end() == (3005, "connection expired")
    assert calls == [("first", None), ("second", None), ("for ever", None), ("short", None)]


@pytest.mark.parametrize("code", [109, 110])
async def test_refresh_with_an_expired_token_lets_the_client_connect_again(open_endpoint: Open, code: int) -> None:
    async def check(client: Client, token: str, data: JsonValue) -> Connected:
        if token == "old":
            raise CentrifugoError(code)
        return Connected("ada")

    peer = await (await open_endpoint(connect=check)).visit("new")
    await peer.say('{"id":2,"refresh":{"token":"old"}}')
    assert await peer.end() == (3005, "connection expired")


async def test_refresh_that_fails_leaves_the_connection_open(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(client: Client, token: str, data: JsonValue) -> Connected:
        if token == "fail":
            raise LookupError("no database")
        if token == "refuse":
            raise CentrifugoError(103)
        return Connected("ada")

    peer = await (await open_endpoint(connect=check)).visit("new")
    await peer.ask(
        '{"id":2,"refresh":{"token":"fail"}}',
        '{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}',
    )
    assert "LookupError: no database" in caplog.text
    await peer.ask(
        '{"id":3,"refresh":{"token":"refuse"}}', '{"id":3,"error":{"code":103,"message":"permission denied"}}'
    )
    await peer.ask('{"id":4,"refresh":{"token":"good"}}', '{"id":4,"refresh":{"client":"c1"}}')


async def test_token_of_another_user_is_refused(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(connect=by_token)).visit("ada")
    await peer.say('{"id":2,"refresh":{"token":"bob"}}')
    assert await peer.end() == (3500, "invalid token: it is for another user")


async def test_refresh_is_not_available_without_connect_function(open_endpoint: Open) -> None:
    peer = await (await open_endpoint()).visit("")
    await peer.ask('{"id":2,"refresh":{"token":"t"}}', '{"id":2,"error":{"code":108,"message":"not available"}}')


async def test_connection_that_is_not_refreshed_in_time_is_disconnected(open_endpoint: Open) -> None:
    async def brief(client: Client, token: str, data: JsonValue) -> Connected:
        return Connected(expires_at=time.time() + 0.01)

    peer = await (await open_endpoint(connect=brief, expiry_grace=0.01)).visit("")
    assert await peer.end() == (3005, "connection expired")


async def test_refreshed_connection_lives_on(open_endpoint: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(session, "time", lambda: now)

    async def brief(client: Client, token: str, data: JsonValue) -> Connected:
        return Connected(expires_at=1000.01 if token == "brief" else 4600.0)

    made = await open_endpoint(connect=brief, expiry_grace=0.01)
    one, other = await made.visit("brief"), await made.visit("brief")
    await one.ask('{"id":2,"refresh":{"token":"long"}}', '{"id":2,"refresh":{"client":"c1","expires":true,"ttl":3600}}')
    now = 1001.0
    assert await other.end() == (3005, "connection expired")
    await one.ask('{"id":3,"rpc":{}}', '{"id":3,"error":{"code":108,"message":"not available"}}')


# Pings ---------------------------------------------------------------------------------------------------------------


async def test_server_sends_pings_and_the_client_answers(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(ping_interval=0.02, pong_timeout=0.019)).visit()
    await peer.ask('{"id":1,"connect":{}}', '{"id":1,"connect":{"client":"c1","ping":1,"pong":true}}')
    for _ in range(3):
        await peer.hear("{}")
        await peer.say("{}")


async def test_client_without_pong_is_disconnected(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(ping_interval=0.02, pong_timeout=0.01)).visit()
    await peer.ask('{"id":1,"connect":{}}', '{"id":1,"connect":{"client":"c1","ping":1,"pong":true}}', "{}")
    assert await peer.end() == (3012, "no pong")


async def test_pong_is_not_missed_while_a_command_is_carried_out(open_endpoint: Open) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow(client: Client, action: str, topic: str) -> bool:
        asked.set()
        await answered.wait()
        return False

    made = await open_endpoint(authorize=slow, ping_interval=0.02, pong_timeout=0.01)
    peer = await made.visit()
    await peer.ask('{"id":1,"connect":{}}', '{"id":1,"connect":{"client":"c1","ping":1,"pong":true}}')
    await peer.say('{"id":2,"history":{"channel":"news"}}')
    await within(asked.wait())
    await peer.hear("{}")
    await peer.say("{}")
    await asyncio.sleep(0.03)  # several deadlines of the pong
    answered.set()
    await peer.hear('{"id":2,"error":{"code":103,"message":"permission denied"}}')


async def test_pong_without_ping_is_a_bad_request(open_endpoint: Open) -> None:
    peer = await (await open_endpoint()).visit("")
    await peer.say("{}")
    assert await peer.end() == (3501, "bad request: a pong without a ping")
