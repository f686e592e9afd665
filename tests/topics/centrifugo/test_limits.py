"""Bad input, limits and failures, with exact JSON on real sockets."""

import asyncio
import json
from typing import Any

import pytest

from helpers.waiting import until, within
from streamws import BrokerUnavailable, Client, Limits
from streamws.messages import Json
from streamws.topics import CentrifugoEndpoint, History, JsonValue, MemoryBroker, Rpc, TopicLimits, Topics
from topics.centrifugo.endpoints import POSITION, PRICE, Open, allow, same
from topics.flaky import FlakyBroker

FIRST = "bad request: the first command must be connect"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("hello", "bad request: not JSON"),
        (b"\x08\xff\x12", "bad request: not JSON, but binary: the Protobuf protocol is not served"),
        ("", "bad request: not JSON"),
        ("[" * 50_000, "bad request: not JSON"),
        ('{"id":1,"subscribe":{"channel":"news"}}', FIRST),
        ('{"id":1,"teleport":{}}', FIRST),
        ('{"send":{"data":1}}', FIRST),
        ("{}", FIRST),
        ('{"id":1,"connect":{"token":1}}', "bad request: token must be a string"),
    ],
)
async def test_connection_that_begins_badly_is_disconnected(
    open_endpoint: Open, message: str | bytes, reason: str
) -> None:
    peer = await (await open_endpoint(authorize=allow)).visit()
    await peer.client.send(message)
    assert await peer.end() == (3501, reason)


async def test_commands_in_front_of_a_bad_one_are_carried_out(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(rpc={"same": Rpc(same)})).visit("")
    await peer.say('{"id":2,"history":{"channel":"a"}}', "oops", '{"id":3,"history":{"channel":"a"}}')
    await peer.hear('{"id":2,"error":{"code":103,"message":"permission denied"}}')
    assert await peer.end() == (3501, "bad request: not JSON")


async def test_second_connect_is_a_bad_request(open_endpoint: Open) -> None:
    peer = await (await open_endpoint()).visit("")
    await peer.say('{"id":2,"connect":{}}')
    assert await peer.end() == (3501, "bad request: connected already")


async def test_methods_that_are_not_served_are_refused(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(authorize=allow)).visit("")
    await peer.say(
        '{"id":2,"teleport":{}}',
        '{"id":3,"ping":{}}',
        '{"id":4,"sub_refresh":{"channel":"news","token":"t"}}',
        '{"id":5,"subscribe":{"channel":"news","type":1}}',
        '{"id":6,"publish":{"channel":"news","type":1,"key":"k","data":1}}',
    )
    await peer.hear('{"id":2,"error":{"code":104,"message":"method not found"}}')
    await peer.hear(*(f'{{"id":{place},"error":{{"code":108,"message":"not available"}}}}' for place in range(3, 7)))


async def test_ids_need_no_order(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(rpc={"same": Rpc(same)})).visit("")
    ids = [4_294_967_295, 3, 3, 1, 2]
    await peer.say(*(f'{{"id":{number},"rpc":{{"method":"same","data":{number}}}}}' for number in ids))
    await peer.hear(*(f'{{"id":{number},"rpc":{{"data":{number}}}}}' for number in ids))


async def test_data_that_is_not_valid_for_a_channel_is_refused(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
    _topic = made.topics.topic("prices", PRICE)
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"publish":{"channel":"prices","data":{"pair":"x"}}}',
        '{"id":2,"error":{"code":107,"message":"bad request: Object missing required field `value`"}}',
    )


async def test_publication_that_is_too_large_is_refused(open_endpoint: Open) -> None:
    made = await open_endpoint(TopicLimits(max_publication_size=10), authorize=allow)
    _topic = made.topics.topic("news", Json(str))
    peer = await made.visit("")
    await peer.ask('{"id":2,"publish":{"channel":"news","data":"12345678"}}', '{"id":2,"publish":{}}')
    await peer.ask(
        '{"id":3,"publish":{"channel":"news","data":"123456789"}}',
        '{"id":3,"error":{"code":106,"message":"limit exceeded"}}',
    )


async def test_message_that_is_too_large_closes_the_connection(open_endpoint: Open) -> None:
    made = await open_endpoint(server={"limits": Limits(max_message_size=1000)})
    peer = await made.visit("")
    await peer.say('{"id":2,"rpc":{"data":"' + "x" * 1000 + '"}}')
    code, _ = await peer.end()
    assert code == 1009


async def test_flood_of_commands_is_answered_with_errors(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(max_command_rate=0.5, rpc={"same": Rpc(same)})).visit("")
    for number in range(2, 6):  # connect was the first of five
        await peer.ask(f'{{"id":{number},"rpc":{{"method":"same"}}}}', f'{{"id":{number},"rpc":{{"data":null}}}}')
    await peer.ask(
        '{"id":6,"rpc":{"method":"same"}}',
        '{"id":6,"error":{"code":111,"message":"too many requests","temporary":true}}',
    )
    await peer.say('{"send":{"data":1}}')
    assert await peer.end() == (3013, "too many requests")


async def test_flood_does_not_keep_other_clients_waiting(open_endpoint: Open) -> None:
    made = await open_endpoint(max_command_rate=None)
    flooder, other = await made.visit(""), await made.visit("")
    flood = [f'{{"id":{number},"rpc":{{}}}}' for number in range(2, 10_002)]
    await flooder.say(*flood)
    await other.ask('{"id":2,"rpc":{}}', '{"id":2,"error":{"code":108,"message":"not available"}}')
    seen = json.loads(await within(flooder.client.read_message()))["id"]
    assert seen == 2
    while seen < 10_001:
        seen = json.loads(await within(flooder.client.read_message()))["id"]


async def test_flood_of_messages_without_reply_does_not_keep_other_clients_waiting(open_endpoint: Open) -> None:
    received = 0

    async def count(client: Client, data: JsonValue) -> None:
        nonlocal received
        received += 1

    made = await open_endpoint(max_command_rate=None, message=count)
    flooder, other = await made.visit(""), await made.visit("")
    await flooder.say(*['{"send":{}}'] * 10_000)
    await until(lambda: received > 0)
    await other.ask('{"id":2,"rpc":{}}', '{"id":2,"error":{"code":108,"message":"not available"}}')
    assert received < 10_000
    await until(lambda: received == 10_000)


async def test_publications_of_a_client_are_limited(open_endpoint: Open) -> None:
    made = await open_endpoint(TopicLimits(max_publications_per_client=2), authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    publish = '"publish":{"channel":"news","data":1}}'
    await peer.say(*(f'{{"id":{place},{publish}' for place in (2, 3, 4)))
    await peer.hear('{"id":2,"publish":{}}', '{"id":3,"publish":{}}')
    await peer.hear('{"id":4,"error":{"code":106,"message":"limit exceeded"}}')


async def test_slow_client_is_disconnected(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow, backlog=100_000)
    topic = made.topics.topic("news", Json(str))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    (client,) = made.served()
    text = "x" * 50_000
    async with asyncio.timeout(20):
        while client.outcome is None:  # this side reads nothing meanwhile
            await topic.publish(text)
            await asyncio.sleep(0)
    assert client.outcome.sent is not None
    assert client.outcome.sent.code == 3008


async def test_end_of_another_connection_is_an_error_of_the_function(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    gone: list[Client] = []

    async def tell(client: Client, data: JsonValue) -> object:
        await gone[0].send("hello")
        return None

    async def note(client: Client, data: JsonValue) -> None:
        await gone[0].send("hello")

    async def ask(client: Client, action: str, topic: str) -> bool:
        await gone[0].send("hello")
        return True

    made = await open_endpoint(authorize=ask, rpc={"tell": Rpc(tell)}, message=note)
    other = await made.visit("")
    gone += made.served()
    await other.client.close()
    peer = await made.visit("")
    internal = '"error":{"code":100,"message":"internal server error","temporary":true}'
    await peer.ask('{"id":2,"rpc":{"method":"tell"}}', f'{{"id":2,{internal}}}')
    await peer.say('{"send":{"data":1}}')
    await peer.ask('{"id":3,"history":{"channel":"news"}}', f'{{"id":3,{internal}}}')
    assert caplog.text.count("ConnectionClosed: cannot send: ") == 3


async def test_server_closes_clients_with_the_code_of_the_protocol(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    made = await open_endpoint(authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    closing = asyncio.create_task(made.server.close(3001, "shutdown"))
    assert await peer.end() == (3001, "shutdown")
    await closing
    assert caplog.text == ""


async def test_client_is_told_that_the_broker_has_failed(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    broker = FlakyBroker()
    made = await open_endpoint(broker=broker, authorize=allow)
    topic = made.topics.topic("news", Json(int), history=History())
    peer = await made.visit("")
    broker.fail()
    commands = ["subscribe", "publish", "presence", "presence_stats", "history"]
    for number, command in enumerate(commands, 2):
        await peer.ask(
            f'{{"id":{number},"{command}":{{"channel":"news","data":1}}}}',
            f'{{"id":{number},"error":{{"code":100,"message":"internal server error","temporary":true}}}}',
        )
    assert "Traceback" not in caplog.text
    assert [record.levelname for record in caplog.records if "a command has failed" in record.message] == [
        "WARNING"
    ] * 5
    broker.recover()
    await peer.ask(
        '{"id":9,"subscribe":{"channel":"news"}}',
        f'{{"id":9,"subscribe":{{{POSITION},"offset":0,"positioned":true}}}}',
    )
    # What was lost while the broker was away is in the history, and is delivered.
    broker.lose = 1
    await topic.publish(1)
    await topic.publish(2)
    await peer.hear(*(f'{{"push":{{"channel":"news","pub":{{"data":{n},"offset":{n}}}}}}}' for n in (1, 2)))


async def test_client_follows_although_its_presence_has_failed(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    class NoPresence(MemoryBroker):
        async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
            raise BrokerUnavailable("no presence today")

    made = await open_endpoint(broker=NoPresence(), authorize=allow)
    topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    await topic.publish(1)
    await peer.hear('{"push":{"channel":"news","pub":{"data":1}}}')
    await until(lambda: "Centrifugo client c1 is not present in 'news'" in caplog.text)


async def test_endpoint_checks_its_numbers() -> None:
    def wrong(name: str) -> dict[str, Any]:
        return {name: 0}

    topics = Topics(MemoryBroker())
    for name in ("ping_interval", "pong_timeout", "connect_timeout", "expiry_grace"):
        with pytest.raises(ValueError, match=f"^{name} must be more than 0 seconds"):
            CentrifugoEndpoint(topics, **wrong(name))
    for name in ("max_history", "max_calls", "backlog"):
        with pytest.raises(ValueError, match=f"^{name} must be at least 1, not 0$"):
            CentrifugoEndpoint(topics, **wrong(name))
    with pytest.raises(ValueError, match=r"^pong_timeout \(30\) must be below ping_interval \(25\)$"):
        CentrifugoEndpoint(topics, pong_timeout=30, ping_interval=25)
    with pytest.raises(ValueError, match=r"^max_command_rate must be more than 0, or None, not 0$"):
        CentrifugoEndpoint(topics, max_command_rate=0)
    with pytest.raises(TypeError, match=r"^Rpc needs the codecs of the data and of the result, or none of them$"):
        Rpc(same, PRICE)  # type: ignore[call-overload]
