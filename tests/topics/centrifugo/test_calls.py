"""Functions and messages of the application, with exact JSON on real sockets."""

import asyncio

import pytest

from helpers.waiting import within
from streamws import Client
from streamws.messages import Json
from streamws.topics import CentrifugoDisconnect, CentrifugoError, JsonValue, Rpc
from topics.centrifugo.endpoints import PRICE, Open, Price, same


async def convert(client: Client, price: Price) -> list[float]:
    return [price.value * 2]


async def test_typed_function_is_called(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(rpc={"convert": Rpc(convert, PRICE, Json(list[float]))})).visit("")
    await peer.ask(
        '{"id":2,"rpc":{"method":"convert","data":{"pair":"x","value":1.25}}}', '{"id":2,"rpc":{"data":[2.5]}}'
    )
    await peer.ask(
        '{"id":3,"rpc":{"method":"convert","data":{"pair":"x","value":"1"}}}',
        '{"id":3,"error":{"code":107,"message":"bad request: Expected `float`, got `str` - at `$.value`"}}',
    )
    await peer.ask('{"id":4,"rpc":{"method":"revert"}}', '{"id":4,"error":{"code":104,"message":"method not found"}}')


async def test_function_without_codecs_takes_json(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(rpc={"same": Rpc(same)})).visit("")
    for data in ('{"a":[1,null,true,"é\\n"]}', "null", "0", '""'):
        await peer.ask(f'{{"id":2,"rpc":{{"method":"same","data":{data}}}}}', f'{{"id":2,"rpc":{{"data":{data}}}}}')
    await peer.ask('{"id":3,"rpc":{"method":"same"}}', '{"id":3,"rpc":{"data":null}}')


async def test_function_that_fails_is_logged(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(client: Client, data: JsonValue) -> object:
        if data == "own":
            raise CentrifugoError(450, "own error")
        if data == "bytes":
            return b"not JSON"
        if data == "end":
            raise CentrifugoDisconnect(4501, "go away")
        raise LookupError("secret")

    peer = await (await open_endpoint(rpc={"fail": Rpc(fail)})).visit("")
    await peer.ask(
        '{"id":2,"rpc":{"method":"fail","data":"own"}}', '{"id":2,"error":{"code":450,"message":"own error"}}'
    )
    assert caplog.text == ""
    internal = '"error":{"code":100,"message":"internal server error","temporary":true}'
    await peer.ask('{"id":3,"rpc":{"method":"fail"}}', f'{{"id":3,{internal}}}')
    await peer.ask('{"id":4,"rpc":{"method":"fail","data":"bytes"}}', f'{{"id":4,{internal}}}')
    assert "LookupError: secret" in caplog.text
    assert "bytes is not JSON serializable" in caplog.text
    await peer.say('{"id":5,"rpc":{"method":"fail","data":"end"}}')
    assert await peer.end() == (4501, "go away")


async def test_functions_run_beside_other_commands_up_to_a_limit(open_endpoint: Open) -> None:
    ready = asyncio.Event()

    async def wait(client: Client, data: JsonValue) -> object:
        await ready.wait()
        return data

    peer = await (await open_endpoint(rpc={"wait": Rpc(wait), "same": Rpc(same)}, max_calls=3)).visit("")
    await peer.say(*(f'{{"id":{place},"rpc":{{"method":"wait","data":{place}}}}}' for place in (2, 3, 4, 5)))
    await peer.hear('{"id":5,"error":{"code":111,"message":"too many requests","temporary":true}}')
    await peer.ask('{"id":6,"history":{"channel":"a"}}', '{"id":6,"error":{"code":103,"message":"permission denied"}}')
    ready.set()
    await peer.hear(*(f'{{"id":{place},"rpc":{{"data":{place}}}}}' for place in (2, 3, 4)))
    await peer.ask('{"id":7,"rpc":{"method":"same"}}', '{"id":7,"rpc":{"data":null}}')


async def test_functions_are_cancelled_with_their_connection(open_endpoint: Open) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(client: Client, data: JsonValue) -> object:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()
        return None

    made = await open_endpoint(rpc={"wait": Rpc(wait)})
    peer = await made.visit("")
    await peer.say('{"id":2,"rpc":{"method":"wait"}}')
    await within(began.wait())
    await peer.client.close()
    await within(ended.wait())


async def test_messages_without_reply_go_to_the_program(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    received: list[JsonValue] = []

    async def note(client: Client, data: JsonValue) -> None:
        received.append(data)
        if data == "fail":
            raise LookupError("secret")
        if data == "end":
            raise CentrifugoDisconnect(4500, "enough")

    peer = await (await open_endpoint(message=note)).visit("")
    await peer.say('{"send":{"data":[1]}}', '{"send":{"data":"fail"}}', '{"id":9,"send":{"data":null}}')
    await peer.say('{"send":{"data":"end"}}')
    assert await peer.end() == (4500, "enough")
    assert received == [[1], "fail", None, "end"]
    assert "LookupError: secret" in caplog.text


async def test_client_whose_messages_nobody_takes_is_disconnected(open_endpoint: Open) -> None:
    peer = await (await open_endpoint()).visit("")
    await peer.say('{"send":{"data":1}}')
    assert await peer.end() == (3508, "not available")
