"""`CentrifugoEndpoint` on real sockets, with exact JSON."""

import asyncio
import gc
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from helpers.fixtures import Serve, url_of
from helpers.waiting import iterations, until, within
from streamws import (
    BrokerUnavailable,
    Client,
    ConnectionClosed,
    Key,
    Limits,
    WebSocketServer,
    connect,
)
from streamws.messages import Json
from streamws.topics import (
    Broker,
    CentrifugoDisconnect,
    CentrifugoEndpoint,
    CentrifugoError,
    Connected,
    History,
    JsonValue,
    MemoryBroker,
    Rpc,
    Topic,
    TopicLimits,
    Topics,
    centrifugo_session,
    memory,
)
from streamws.wire.frames import Buffer
from topics.channels import Channel
from topics.flaky import FlakyBroker


class Price(msgspec.Struct):
    pair: str
    value: float


PRICE = Json(Price)
USER: Key[str] = Key("user")


@pytest.fixture(autouse=True)
def _known_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number the connections and the epochs, and send no early pings, so that what is sent is known."""
    clients, epochs = itertools.count(1), itertools.count(1)
    monkeypatch.setattr(centrifugo_session, "random", lambda: 1.0)
    monkeypatch.setattr(centrifugo_session, "uuid4", lambda: f"c{next(clients)}")
    monkeypatch.setattr(memory, "token_hex", lambda _: f"e{next(epochs)}")


async def allow(client: Client, action: str, topic: str) -> bool:
    return True


async def by_token(client: Client, token: str, data: JsonValue) -> Connected:
    """Let in everybody who has a name as the token."""
    if not token:
        raise CentrifugoDisconnect(3500)
    client[USER] = token
    return Connected(token, data={"hello": token}, info={"data": data})


class Peer:
    """A client that sends and receives text."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def say(self, *lines: str) -> None:
        """Send commands in one message."""
        await self.client.send("\n".join(lines))

    async def hear(self, *expected: str) -> None:
        """Receive messages, which must be these."""
        assert [await within(self.client.read_message()) for _ in expected] == list(expected)

    async def ask(self, command: str, *expected: str) -> None:
        await self.say(command)
        await self.hear(*expected)

    async def greet(self, token: str = "") -> None:
        """Connect."""
        await self.say(f'{{"id":1,"connect":{{"token":"{token}"}}}}')
        reply = json.loads(await within(self.client.read_message()))
        assert reply["connect"]["ping"] == 25

    async def end(self) -> tuple[int, str]:
        """Receive the end of the connection, and nothing else."""
        with pytest.raises(ConnectionClosed) as caught:
            await within(self.client.read_message())
        received = caught.value.outcome.received
        assert received is not None
        return received.code, received.reason


class House:
    """A server with an endpoint, and its clients."""

    def __init__(self, topics: Topics, endpoint: CentrifugoEndpoint[Any], server: WebSocketServer) -> None:
        self.topics = topics
        self.endpoint = endpoint
        self.server = server
        self._peers: list[Client] = []

    async def visit(self, token: str | None = None) -> Peer:
        """Open a connection; with a token, connect too."""
        client = await connect(url_of(self.server))
        self._peers.append(client)
        peer = Peer(client)
        if token is not None:
            await peer.greet(token)
        return peer

    async def close(self) -> None:
        for client in self._peers:
            await client.close()

    def served(self) -> list[Client]:
        return list(self.server.clients.values())


Open = Callable[..., Awaitable[House]]


@pytest.fixture
async def house(serve: Serve) -> AsyncIterator[Open]:
    """Start a server with an endpoint, whose arguments are given."""
    async with asyncio.timeout(20):
        opened: list[tuple[House, Topics]] = []

        async def start(
            limits: TopicLimits | None = None, server: Any = None, broker: Broker | None = None, **options: Any
        ) -> House:
            topics = Topics(broker or MemoryBroker(), limits=limits)
            await topics.__aenter__()
            endpoint: CentrifugoEndpoint[Any] = CentrifugoEndpoint(topics, **options)
            made = House(topics, endpoint, await serve(endpoint, **(server or {})))
            opened.append((made, topics))
            return made

        yield start
        for made, topics in opened:
            await made.close()
            await made.server.close()
            await topics.__aexit__(None, None, None)


# Connecting ----------------------------------------------------------------------------------------------------


async def test_client_connects_without_functions(house: Open) -> None:
    peer = await (await house()).visit()
    await peer.ask('{"id":7,"connect":{}}', '{"id":7,"connect":{"client":"c1","ping":25,"pong":true}}')


async def test_connect_function_gets_token_and_data_and_its_answer_is_sent(house: Open) -> None:
    calls: list[tuple[str, JsonValue]] = []

    async def note(client: Client, token: str, data: JsonValue) -> Connected:
        calls.append((token, data))
        return Connected("ada", data=[1, "é"], expires_at=time.time() + 61)

    peer = await (await house(connect=note)).visit()
    await peer.ask(
        '{"id":1,"connect":{"token":"t","data":{"a":null},"name":"js"}}',
        '{"id":1,"connect":{"client":"c1","expires":true,"ttl":60,"data":[1,"é"],"ping":25,"pong":true}}',
    )
    assert calls == [("t", {"a": None})]


async def test_connect_function_disconnects(house: Open) -> None:
    peer = await (await house(connect=by_token)).visit()
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
async def test_connect_function_answers_with_an_error(house: Open, error: CentrifugoError, reply: str) -> None:
    async def refuse(client: Client, token: str, data: JsonValue) -> Connected:
        raise error

    peer = await (await house(connect=refuse)).visit()
    await peer.ask('{"id":1,"connect":{}}', f'{{"id":1,"error":{reply}}}')
    # Clients open another connection after that.
    await peer.say('{"id":2,"connect":{}}')
    assert await peer.end() == (3501, "bad request: connect has failed")


async def test_connect_function_that_raises_is_logged(house: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(client: Client, token: str, data: JsonValue) -> Connected:
        raise LookupError("secret")

    peer = await (await house(connect=fail)).visit()
    await peer.ask(
        '{"id":1,"connect":{}}',
        '{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}',
    )
    assert "LookupError: secret" in caplog.text


async def test_token_that_has_expired_is_refused(house: Open) -> None:
    async def late(client: Client, token: str, data: JsonValue) -> Connected:
        return Connected(expires_at=time.time() - 1)

    peer = await (await house(connect=late)).visit()
    await peer.ask('{"id":1,"connect":{}}', '{"id":1,"error":{"code":109,"message":"token expired"}}')


async def test_client_that_does_not_connect_is_disconnected(house: Open) -> None:
    peer = await (await house(connect_timeout=0.01)).visit()
    assert await peer.end() == (3502, "stale")


# Tokens --------------------------------------------------------------------------------------------------------


async def test_token_is_refreshed(house: Open) -> None:
    calls: list[tuple[str, JsonValue]] = []

    async def note(client: Client, token: str, data: JsonValue) -> Connected:
        calls.append((token, data))
        seconds = {"first": 30.5, "second": 90.5, "short": -1.0}.get(token)
        return Connected("ada", expires_at=None if seconds is None else time.time() + seconds)

    peer = await (await house(connect=note)).visit()
    await peer.ask(
        '{"id":1,"connect":{"token":"first"}}',
        '{"id":1,"connect":{"client":"c1","expires":true,"ttl":30,"ping":25,"pong":true}}',
    )
    await peer.ask(
        '{"id":2,"refresh":{"token":"second"}}', '{"id":2,"refresh":{"client":"c1","expires":true,"ttl":90}}'
    )
    await peer.ask('{"id":3,"refresh":{"token":"short"}}', '{"id":3,"error":{"code":110,"message":"expired"}}')
    await peer.ask('{"id":4,"refresh":{"token":"for ever"}}', '{"id":4,"refresh":{"client":"c1"}}')
    assert calls == [("first", None), ("second", None), ("short", None), ("for ever", None)]


async def test_token_of_another_user_is_refused(house: Open) -> None:
    peer = await (await house(connect=by_token)).visit("ada")
    await peer.say('{"id":2,"refresh":{"token":"bob"}}')
    assert await peer.end() == (3500, "invalid token: it is for another user")


async def test_refresh_is_not_available_without_connect_function(house: Open) -> None:
    peer = await (await house()).visit("")
    await peer.ask('{"id":2,"refresh":{"token":"t"}}', '{"id":2,"error":{"code":108,"message":"not available"}}')


async def test_connection_that_is_not_refreshed_in_time_is_disconnected(house: Open) -> None:
    async def brief(client: Client, token: str, data: JsonValue) -> Connected:
        return Connected(expires_at=time.time() + 0.01)

    peer = await (await house(connect=brief, expiry_grace=0.01)).visit("")
    assert await peer.end() == (3005, "connection expired")


async def test_refreshed_connection_lives_on(house: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(centrifugo_session, "time", lambda: now)

    async def brief(client: Client, token: str, data: JsonValue) -> Connected:
        return Connected(expires_at=1000.01 if token == "brief" else 4600.0)

    made = await house(connect=brief, expiry_grace=0.01)
    one, other = await made.visit("brief"), await made.visit("brief")
    await one.ask('{"id":2,"refresh":{"token":"long"}}', '{"id":2,"refresh":{"client":"c1","expires":true,"ttl":3600}}')
    now = 1001.0
    assert await other.end() == (3005, "connection expired")
    await one.ask('{"id":3,"rpc":{}}', '{"id":3,"error":{"code":108,"message":"not available"}}')


# Pings ---------------------------------------------------------------------------------------------------------


async def test_server_sends_pings_and_the_client_answers(house: Open) -> None:
    peer = await (await house(ping_interval=0.02, pong_timeout=0.019)).visit()
    await peer.ask('{"id":1,"connect":{}}', '{"id":1,"connect":{"client":"c1","ping":1,"pong":true}}')
    for _ in range(3):
        await peer.hear("{}")
        await peer.say("{}")


async def test_client_without_pong_is_disconnected(house: Open) -> None:
    peer = await (await house(ping_interval=0.02, pong_timeout=0.01)).visit()
    await peer.ask('{"id":1,"connect":{}}', '{"id":1,"connect":{"client":"c1","ping":1,"pong":true}}', "{}")
    assert await peer.end() == (3012, "no pong")


async def test_pong_is_not_missed_while_a_command_is_carried_out(house: Open) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow(client: Client, action: str, topic: str) -> bool:
        asked.set()
        await answered.wait()
        return False

    made = await house(authorize=slow, ping_interval=0.02, pong_timeout=0.01)
    peer = await made.visit()
    await peer.ask('{"id":1,"connect":{}}', '{"id":1,"connect":{"client":"c1","ping":1,"pong":true}}')
    await peer.say('{"id":2,"history":{"channel":"news"}}')
    await within(asked.wait())
    await peer.hear("{}")
    await peer.say("{}")
    await asyncio.sleep(0.03)  # several deadlines of the pong
    answered.set()
    await peer.hear('{"id":2,"error":{"code":103,"message":"permission denied"}}')


async def test_pong_without_ping_is_a_bad_request(house: Open) -> None:
    peer = await (await house()).visit("")
    await peer.say("{}")
    assert await peer.end() == (3501, "bad request: a pong without a ping")


# Subscribing ---------------------------------------------------------------------------------------------------


async def test_client_subscribes_publishes_and_unsubscribes(house: Open) -> None:
    made = await house(authorize=allow)
    prices = made.topics.topic("prices", PRICE)
    one, two = await made.visit(""), await made.visit("")
    await one.ask('{"id":2,"subscribe":{"channel":"prices"}}', '{"id":2,"subscribe":{}}')
    await prices.publish(Price("EUR/USD", 1.5))
    await one.hear('{"push":{"channel":"prices","pub":{"data":{"pair":"EUR/USD","value":1.5}}}}')
    await two.ask(
        '{"id":5,"publish":{"channel":"prices","data":{"value":2,"pair":"é","more":1}}}', '{"id":5,"publish":{}}'
    )
    await one.hear('{"push":{"channel":"prices","pub":{"data":{"pair":"é","value":2.0}}}}')
    await one.ask('{"id":3,"unsubscribe":{"channel":"prices"}}', '{"id":3,"unsubscribe":{}}')
    await prices.publish(Price("EUR/USD", 3))
    await one.ask('{"id":4,"unsubscribe":{"channel":"prices"}}', '{"id":4,"unsubscribe":{}}')
    assert made.topics.followed == 0


async def test_publisher_that_subscribes_gets_its_own_publication_first(house: Open) -> None:
    made = await house(authorize=allow)
    _topic = made.topics.topic("prices", Json(int))
    peer = await made.visit("")
    await peer.say('{"id":2,"subscribe":{"channel":"prices"}}', '{"id":3,"publish":{"channel":"prices","data":5}}')
    await peer.hear(
        '{"id":2,"subscribe":{}}', '{"push":{"channel":"prices","pub":{"data":5}}}', '{"id":3,"publish":{}}'
    )


async def test_everything_is_refused_without_authorize(house: Open) -> None:
    made = await house()
    _topic = made.topics.topic("news", history=History())
    peer = await made.visit("")
    await peer.say(
        '{"id":2,"subscribe":{"channel":"news"}}',
        '{"id":3,"publish":{"channel":"news","data":1}}',
        '{"id":4,"presence":{"channel":"news"}}',
        '{"id":5,"presence_stats":{"channel":"news"}}',
        '{"id":6,"history":{"channel":"news"}}',
    )
    denied = [f'{{"id":{number},"error":{{"code":103,"message":"permission denied"}}}}' for number in range(2, 7)]
    await peer.hear(*denied)


async def test_authorize_is_asked_for_each_action(house: Open) -> None:
    asked: list[tuple[str, str, str]] = []

    async def note(client: Client, action: str, topic: str) -> bool:
        asked.append((client[USER], action, topic))
        return action == "subscribe"

    made = await house(connect=by_token, authorize=note)
    _topic = made.topics.topic("news", history=History())
    peer = await made.visit("ada")
    await peer.say(
        '{"id":2,"subscribe":{"channel":"news"}}',
        '{"id":3,"publish":{"channel":"news","data":1}}',
        '{"id":4,"presence_stats":{"channel":"news"}}',
    )
    await peer.hear(
        '{"id":2,"subscribe":{"recoverable":true,"epoch":"e1","offset":0,"positioned":true}}',
        '{"id":3,"error":{"code":103,"message":"permission denied"}}',
        '{"id":4,"error":{"code":103,"message":"permission denied"}}',
    )
    actions = [("subscribe", "news"), ("presence", "news"), ("publish", "news"), ("presence", "news")]
    assert asked == [("ada", action, topic) for action, topic in actions]


async def test_authorize_that_raises_is_logged(house: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(client: Client, action: str, topic: str) -> bool:
        if topic == "own":
            raise CentrifugoError(450, "own error")
        if topic == "end":
            raise CentrifugoDisconnect(4501, "go away")
        raise LookupError("secret")

    peer = await (await house(authorize=fail)).visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news"}}',
        '{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}',
    )
    assert "LookupError: secret" in caplog.text
    await peer.ask('{"id":3,"subscribe":{"channel":"own"}}', '{"id":3,"error":{"code":450,"message":"own error"}}')
    await peer.say('{"id":4,"subscribe":{"channel":"end"}}')
    assert await peer.end() == (4501, "go away")


async def test_topic_that_the_program_does_not_use_is_unknown(house: Open) -> None:
    peer = await (await house(authorize=allow)).visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"error":{"code":102,"message":"unknown channel"}}'
    )


async def test_find_makes_topics_when_they_are_asked_for(house: Open) -> None:
    made: House

    def find(name: str) -> Topic[int] | None:
        return made.topics.topic(name, Json(int)) if name.startswith("room:") else None

    made = await house(authorize=allow, find=find)
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"room:1"}}', '{"id":2,"subscribe":{}}')
    await made.topics.topic("room:1", Json(int)).publish(3)
    await peer.hear('{"push":{"channel":"room:1","pub":{"data":3}}}')
    await peer.ask(
        '{"id":3,"subscribe":{"channel":"hall:1"}}', '{"id":3,"error":{"code":102,"message":"unknown channel"}}'
    )


async def test_second_subscription_of_a_channel_is_refused(house: Open) -> None:
    made = await house(authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    await peer.ask(
        '{"id":3,"subscribe":{"channel":"news"}}', '{"id":3,"error":{"code":105,"message":"already subscribed"}}'
    )
    await peer.say('{"id":4,"unsubscribe":{"channel":"news"}}', '{"id":5,"subscribe":{"channel":"news"}}')
    await peer.hear('{"id":4,"unsubscribe":{}}', '{"id":5,"subscribe":{}}')


async def test_number_of_channels_and_their_names_are_limited(house: Open) -> None:
    limits = TopicLimits(max_topics_per_client=2, max_name=5)
    made: House

    def find(name: str) -> Topic[int]:
        return made.topics.topic(name, Json(int))

    made = await house(limits, authorize=allow, find=find)
    peer = await made.visit("")
    for name in "ab":
        await peer.ask(f'{{"id":2,"subscribe":{{"channel":"{name}"}}}}', '{"id":2,"subscribe":{}}')
    await peer.say('{"id":3,"subscribe":{"channel":"c"}}', '{"id":4,"publish":{"channel":"abcdef","data":1}}')
    await peer.hear(*(f'{{"id":{number},"error":{{"code":106,"message":"limit exceeded"}}}}' for number in (3, 4)))


async def test_several_subscriptions_are_independent(house: Open) -> None:
    made = await house(authorize=allow)
    names = [f"topic {number}" for number in range(20)]
    topics = [made.topics.topic(name, Json(str)) for name in names]
    peer = await made.visit("")
    await peer.say(*(f'{{"id":{place},"subscribe":{{"channel":"{name}"}}}}' for place, name in enumerate(names, 2)))
    await peer.hear(*(f'{{"id":{place},"subscribe":{{}}}}' for place in range(2, 22)))
    for topic in reversed(topics):
        await topic.publish(topic.name)
    await peer.hear(*(f'{{"push":{{"channel":"{name}","pub":{{"data":"{name}"}}}}}}' for name in reversed(names)))


async def test_program_ends_a_subscription(house: Open) -> None:
    made = await house(authorize=allow)
    topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    (client,) = made.served()
    assert await made.endpoint.unsubscribe(client, "news", "no longer allowed")
    await topic.publish(1)
    await peer.hear('{"push":{"channel":"news","unsubscribe":{"code":2000,"reason":"no longer allowed"}}}')
    assert not await made.endpoint.unsubscribe(client, "news")
    await peer.ask('{"id":3,"subscribe":{"channel":"news"}}', '{"id":3,"subscribe":{}}')


async def test_payloads_of_other_codecs_reach_clients_as_json(house: Open) -> None:
    made = await house(authorize=allow)
    topic = made.topics.topic("raw")
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"raw"}}', '{"id":2,"subscribe":{}}')
    for payload in ('{"a": 1}', '{\n"a": 1\n}', "hello", b"\xff\x00", b"[1]"):
        await topic.publish(payload)
    await peer.hear(
        *(
            f'{{"push":{{"channel":"raw","pub":{{"data":{data}}}}}}}'
            for data in ('{"a": 1}', '{"a":1}', '"hello"', '"/wA="', "[1]")
        )
    )
    await peer.say('{"id":3,"publish":{"channel":"raw","data":"text"}}')
    await peer.hear('{"push":{"channel":"raw","pub":{"data":"text"}}}', '{"id":3,"publish":{}}')


# Recovery and history ------------------------------------------------------------------------------------------

POSITION = '"recoverable":true,"epoch":"e1"'


async def news(made: House, *numbers: int, history: History | None = None) -> Topic[int]:
    """Publish numbers in a topic with a history."""
    topic = made.topics.topic("news", Json(int), history=history or History(size=3))
    for number in numbers:
        await topic.publish(number)
    return topic


def publications(*numbers: int) -> str:
    return ",".join(f'{{"data":{number * 10},"offset":{number}}}' for number in numbers)


async def test_subscription_to_a_topic_with_history_has_a_position(house: Open) -> None:
    made = await house(authorize=allow)
    topic = await news(made, 10, 20)
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news"}}',
        '{"id":2,"subscribe":{"recoverable":true,"epoch":"e1","offset":2,"positioned":true}}',
    )
    await topic.publish(30)
    await peer.hear('{"push":{"channel":"news","pub":{"data":30,"offset":3}}}')


@pytest.mark.parametrize(
    ("offset", "missed"), [(1, [2, 3, 4]), (3, [4]), (4, [])], ids=["all that is kept", "some", "nothing"]
)
@pytest.mark.parametrize("epoch", ['"epoch":"e1",', ""])
async def test_client_recovers_what_it_has_missed(house: Open, offset: int, missed: Sequence[int], epoch: str) -> None:
    made = await house(authorize=allow)
    topic = await news(made, 10, 20, 30, 40)
    peer = await made.visit("")
    found = f'"publications":[{publications(*missed)}],' if missed else ""
    await peer.ask(
        f'{{"id":2,"subscribe":{{"channel":"news","recover":true,{epoch}"offset":{offset}}}}}',
        f'{{"id":2,"subscribe":{{{POSITION},{found}"recovered":true,"offset":4,"positioned":true,'
        '"was_recovering":true}}',
    )
    await topic.publish(50)
    await peer.hear('{"push":{"channel":"news","pub":{"data":50,"offset":5}}}')


@pytest.mark.parametrize(
    "since",
    ['"epoch":"e1","offset":0', '"epoch":"other","offset":4', '"epoch":"e1","offset":9'],
    ids=["too old", "other epoch", "from the future"],
)
async def test_client_is_told_that_it_cannot_recover(house: Open, since: str) -> None:
    made = await house(authorize=allow)
    _topic = await news(made, 10, 20, 30, 40)
    peer = await made.visit("")
    await peer.ask(
        f'{{"id":2,"subscribe":{{"channel":"news","recover":true,"flag":2,{since}}}}}',
        '{"id":2,"error":{"code":112,"message":"unrecoverable position"}}',
    )
    await peer.ask(
        f'{{"id":3,"subscribe":{{"channel":"news","recover":true,{since}}}}}',
        f'{{"id":3,"subscribe":{{{POSITION},"offset":4,"positioned":true,"was_recovering":true}}}}',
    )


async def test_client_that_has_missed_more_than_the_limit_cannot_recover(house: Open) -> None:
    made = await house(authorize=allow, max_history=2)
    _topic = await news(made, 10, 20, 30)
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news","recover":true,"epoch":"e1","offset":0}}',
        f'{{"id":2,"subscribe":{{{POSITION},"offset":3,"positioned":true,"was_recovering":true}}}}',
    )


async def test_topic_without_history_cannot_be_recovered(house: Open) -> None:
    made = await house(authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news","recover":true,"epoch":"e1","offset":0}}',
        '{"id":2,"subscribe":{"was_recovering":true}}',
    )


async def test_client_that_was_alone_in_a_quiet_channel_has_missed_nothing(house: Open) -> None:
    made = await house(authorize=allow)
    topic = await news(made)
    peer = await made.visit("")
    for number in (2, 4):
        recover = ',"recover":true,"epoch":"e1"' if number == 4 else ""
        first, last = ('"recovered":true,', ',"was_recovering":true') if number == 4 else ("", "")
        await peer.ask(
            f'{{"id":{number},"subscribe":{{"channel":"news"{recover}}}}}',
            f'{{"id":{number},"subscribe":{{{POSITION},{first}"offset":0,"positioned":true{last}}}}}',
        )
        await peer.ask(
            f'{{"id":{number + 1},"unsubscribe":{{"channel":"news"}}}}', f'{{"id":{number + 1},"unsubscribe":{{}}}}'
        )
        await until(lambda: made.topics.followed == 0)
    await topic.publish(10)
    await peer.ask(
        '{"id":6,"subscribe":{"channel":"news","recover":true,"epoch":"e1"}}',
        f'{{"id":6,"subscribe":{{{POSITION},"publications":[{publications(1)}],"recovered":true,"offset":1,'
        '"positioned":true,"was_recovering":true}}',
    )


async def test_publication_that_nobody_could_get_ends_the_epoch(house: Open) -> None:
    topics = (await house()).topics
    topic = topics.topic("quiet", Json(int))
    async with topic.subscribe() as feed:
        position = feed.joined.position
    await until(lambda: topics.followed == 0)
    async with topic.subscribe(since=position) as feed:
        assert feed.joined.recovered
    await until(lambda: topics.followed == 0)
    await topic.publish(1)
    async with topic.subscribe(since=position) as feed:
        assert not feed.joined.recovered


async def test_client_recovers_at_once_with_the_new_epoch_after_a_restart_with_all_data(house: Open) -> None:
    broker = FlakyBroker()
    made = await house(broker=broker, authorize=allow)
    topic = await news(made, 10)
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news"}}',
        f'{{"id":2,"subscribe":{{{POSITION},"offset":1,"positioned":true}}}}',
    )
    broker.restart()
    await topic.publish(20)
    epoch = broker.memory._store.topics["news"].epoch
    await peer.hear('{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}')
    await peer.ask(
        '{"id":3,"subscribe":{"channel":"news","recover":true,"epoch":"e1","offset":1}}',
        f'{{"id":3,"subscribe":{{"recoverable":true,"epoch":"{epoch}","publications":[{{"data":20,"offset":2}}],'
        '"recovered":true,"offset":2,"positioned":true,"was_recovering":true}}',
    )


async def test_client_is_unsubscribed_to_recover_if_the_broker_has_lost_something(house: Open) -> None:
    made = await house(authorize=allow)
    topic = await news(made, 10)
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news"}}',
        f'{{"id":2,"subscribe":{{{POSITION},"offset":1,"positioned":true}}}}',
    )
    broker = made.topics._core.broker
    assert isinstance(broker, MemoryBroker)
    kept = broker._store.topics["news"]
    kept.epoch, kept.offset = "e2", 0
    kept.records.clear()
    kept.times.clear()
    await topic.publish(20)
    await peer.hear('{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}')
    await peer.ask(
        '{"id":3,"subscribe":{"channel":"news","recover":true,"epoch":"e1","offset":1}}',
        '{"id":3,"subscribe":{"recoverable":true,"epoch":"e2","offset":1,"positioned":true,"was_recovering":true}}',
    )


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ("", []),
        ('"limit":0', []),
        ('"limit":2', [2, 3]),
        ('"limit":-1', [2, 3, 4]),
        ('"limit":100', [2, 3, 4]),
        ('"limit":2,"reverse":true', [4, 3]),
        ('"limit":-1,"reverse":true', [4, 3, 2]),
        ('"limit":0,"reverse":true', []),
        ('"limit":9,"since":{"offset":2,"epoch":"e1"}', [3, 4]),
        ('"limit":1,"since":{"offset":2,"epoch":"e1"}', [3]),
        ('"limit":9,"since":{"offset":2}', [3, 4]),
        ('"limit":9,"since":{"offset":4,"epoch":"e1"}', []),
        ('"limit":9,"since":{"offset":4,"epoch":"e1"},"reverse":true', [3, 2]),
        ('"limit":1,"since":{"offset":4,"epoch":"e1"},"reverse":true', [3]),
        ('"limit":0,"since":{"offset":4,"epoch":"e1"},"reverse":true', []),
    ],
)
async def test_client_reads_the_history(house: Open, parameters: str, found: Sequence[int]) -> None:
    made = await house(authorize=allow)
    _topic = await news(made, 10, 20, 30, 40)
    peer = await made.visit("")
    comma = "," if parameters else ""
    await peer.ask(
        f'{{"id":2,"history":{{"channel":"news"{comma}{parameters}}}}}',
        f'{{"id":2,"history":{{"publications":[{publications(*found)}],"epoch":"e1","offset":4}}}}',
    )


@pytest.mark.parametrize(
    "since",
    [
        '{"offset":0,"epoch":"e1"}',
        '{"offset":9,"epoch":"e1"}',
        '{"offset":4,"epoch":"other"}',
        '{"offset":4,"epoch":"other"},"reverse":true',
    ],
)
async def test_history_that_is_gone_is_an_error(house: Open, since: str) -> None:
    made = await house(authorize=allow)
    _topic = await news(made, 10, 20, 30, 40)
    peer = await made.visit("")
    await peer.ask(
        f'{{"id":2,"history":{{"channel":"news","limit":9,"since":{since}}}}}',
        '{"id":2,"error":{"code":112,"message":"unrecoverable position"}}',
    )


async def test_history_in_a_reply_is_limited(house: Open) -> None:
    made = await house(authorize=allow, max_history=2)
    _topic = await news(made, 10, 20, 30)
    peer = await made.visit("")
    for limit in (-1, 3):
        await peer.ask(
            f'{{"id":2,"history":{{"channel":"news","limit":{limit}}}}}',
            f'{{"id":2,"history":{{"publications":[{publications(1, 2)}],"epoch":"e1","offset":3}}}}',
        )


async def test_topic_without_history_has_none(house: Open) -> None:
    made = await house(authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"history":{"channel":"news"}}', '{"id":2,"error":{"code":108,"message":"not available"}}')


# Presence ------------------------------------------------------------------------------------------------------


def info(user: str, client: str) -> str:
    return f'{{"user":"{user}","client":"{client}","conn_info":{{"data":null}}}}'


async def test_presence_has_the_connections_of_subscribers(house: Open) -> None:
    made = await house(connect=by_token, authorize=allow)
    topic = made.topics.topic("news", Json(int))
    ada, again, bob = await made.visit("ada"), await made.visit("ada"), await made.visit("bob")
    for peer in (ada, again, bob):
        await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    await bob.ask(
        '{"id":3,"presence_stats":{"channel":"news"}}', '{"id":3,"presence_stats":{"num_clients":3,"num_users":2}}'
    )
    await again.ask('{"id":3,"unsubscribe":{"channel":"news"}}', '{"id":3,"unsubscribe":{}}')
    await bob.ask(
        '{"id":4,"presence":{"channel":"news"}}',
        f'{{"id":4,"presence":{{"presence":{{"c1":{info("ada", "c1")},"c3":{info("bob", "c3")}}}}}}}',
    )
    await ada.client.close()
    await until(lambda: len(made.served()) == 2)
    await iterations()
    assert [*await topic.presence.connections()] == ["c3"]


async def test_joins_and_leaves_are_pushed_to_those_who_ask(house: Open) -> None:
    made = await house(connect=by_token, authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    ada, bob = await made.visit("ada"), await made.visit("bob")
    await ada.ask('{"id":2,"subscribe":{"channel":"news","join_leave":true}}', '{"id":2,"subscribe":{}}')
    await ada.hear(f'{{"push":{{"channel":"news","join":{{"info":{info("ada", "c1")}}}}}}}')
    await bob.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    await ada.hear(f'{{"push":{{"channel":"news","join":{{"info":{info("bob", "c2")}}}}}}}')
    await bob.ask('{"id":3,"unsubscribe":{"channel":"news"}}', '{"id":3,"unsubscribe":{}}')
    await ada.hear(f'{{"push":{{"channel":"news","leave":{{"info":{info("bob", "c2")}}}}}}}')


async def test_client_that_may_not_use_presence_is_not_present(house: Open) -> None:
    async def members(client: Client, action: str, topic: str) -> bool:
        return action != "presence" or client[USER] != "guest"

    made = await house(connect=by_token, authorize=members)
    _topic = made.topics.topic("news", Json(int))
    guest, ada = await made.visit("guest"), await made.visit("ada")
    await guest.ask('{"id":2,"subscribe":{"channel":"news","join_leave":true}}', '{"id":2,"subscribe":{}}')
    await ada.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    await ada.ask(
        '{"id":3,"presence":{"channel":"news"}}',
        f'{{"id":3,"presence":{{"presence":{{"c2":{info("ada", "c2")}}}}}}}',
    )
    # No join came before this reply.
    await guest.ask('{"id":3,"rpc":{}}', '{"id":3,"error":{"code":108,"message":"not available"}}')


async def test_members_that_the_program_has_entered_are_shown(house: Open) -> None:
    made = await house(authorize=allow)
    topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    (client,) = made.served()
    await topic.presence.enter(client, "ada", "not JSON", connection="own")
    await peer.ask(
        '{"id":2,"presence":{"channel":"news"}}',
        '{"id":2,"presence":{"presence":{"own":{"user":"ada","client":"own","conn_info":"not JSON"}}}}',
    )


# Functions and messages ----------------------------------------------------------------------------------------


async def convert(client: Client, price: Price) -> list[float]:
    return [price.value * 2]


async def same(client: Client, data: JsonValue) -> object:
    return data


async def test_typed_function_is_called(house: Open) -> None:
    peer = await (await house(rpc={"convert": Rpc(convert, PRICE, Json(list[float]))})).visit("")
    await peer.ask(
        '{"id":2,"rpc":{"method":"convert","data":{"pair":"x","value":1.25}}}', '{"id":2,"rpc":{"data":[2.5]}}'
    )
    await peer.ask(
        '{"id":3,"rpc":{"method":"convert","data":{"pair":"x","value":"1"}}}',
        '{"id":3,"error":{"code":107,"message":"bad request: Expected `float`, got `str` - at `$.value`"}}',
    )
    await peer.ask('{"id":4,"rpc":{"method":"revert"}}', '{"id":4,"error":{"code":104,"message":"method not found"}}')


async def test_function_without_codecs_takes_json(house: Open) -> None:
    peer = await (await house(rpc={"same": Rpc(same)})).visit("")
    for data in ('{"a":[1,null,true,"é\\n"]}', "null", "0", '""'):
        await peer.ask(f'{{"id":2,"rpc":{{"method":"same","data":{data}}}}}', f'{{"id":2,"rpc":{{"data":{data}}}}}')
    await peer.ask('{"id":3,"rpc":{"method":"same"}}', '{"id":3,"rpc":{"data":null}}')


async def test_function_that_fails_is_logged(house: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(client: Client, data: JsonValue) -> object:
        if data == "own":
            raise CentrifugoError(450, "own error")
        if data == "bytes":
            return b"not JSON"
        if data == "end":
            raise CentrifugoDisconnect(4501, "go away")
        raise LookupError("secret")

    peer = await (await house(rpc={"fail": Rpc(fail)})).visit("")
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


async def test_functions_run_beside_other_commands_up_to_a_limit(house: Open) -> None:
    ready = asyncio.Event()

    async def wait(client: Client, data: JsonValue) -> object:
        await ready.wait()
        return data

    peer = await (await house(rpc={"wait": Rpc(wait), "same": Rpc(same)}, max_calls=3)).visit("")
    await peer.say(*(f'{{"id":{place},"rpc":{{"method":"wait","data":{place}}}}}' for place in (2, 3, 4, 5)))
    await peer.hear('{"id":5,"error":{"code":111,"message":"too many requests","temporary":true}}')
    await peer.ask('{"id":6,"history":{"channel":"a"}}', '{"id":6,"error":{"code":103,"message":"permission denied"}}')
    ready.set()
    await peer.hear(*(f'{{"id":{place},"rpc":{{"data":{place}}}}}' for place in (2, 3, 4)))
    await peer.ask('{"id":7,"rpc":{"method":"same"}}', '{"id":7,"rpc":{"data":null}}')


async def test_functions_are_cancelled_with_their_connection(house: Open) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(client: Client, data: JsonValue) -> object:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()
        return None

    made = await house(rpc={"wait": Rpc(wait)})
    peer = await made.visit("")
    await peer.say('{"id":2,"rpc":{"method":"wait"}}')
    await within(began.wait())
    await peer.client.close()
    await within(ended.wait())


async def test_messages_without_reply_go_to_the_program(house: Open, caplog: pytest.LogCaptureFixture) -> None:
    received: list[JsonValue] = []

    async def note(client: Client, data: JsonValue) -> None:
        received.append(data)
        if data == "fail":
            raise LookupError("secret")
        if data == "end":
            raise CentrifugoDisconnect(4500, "enough")

    peer = await (await house(message=note)).visit("")
    await peer.say('{"send":{"data":[1]}}', '{"send":{"data":"fail"}}', '{"id":9,"send":{"data":null}}')
    await peer.say('{"send":{"data":"end"}}')
    assert await peer.end() == (4500, "enough")
    assert received == [[1], "fail", None, "end"]
    assert "LookupError: secret" in caplog.text


async def test_client_whose_messages_nobody_takes_is_disconnected(house: Open) -> None:
    peer = await (await house()).visit("")
    await peer.say('{"send":{"data":1}}')
    assert await peer.end() == (3508, "not available")


# Bad input and limits ------------------------------------------------------------------------------------------

FIRST = "bad request: the first command must be connect"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("hello", "bad request: not JSON"),
        (b"\x08\xff\x12", "bad request: not JSON: the message is binary"),
        ("", "bad request: empty message"),
        ("[" * 50_000, "bad request: not JSON"),
        ('{"id":1,"subscribe":{"channel":"news"}}', FIRST),
        ('{"id":1,"teleport":{}}', FIRST),
        ('{"send":{"data":1}}', FIRST),
        ("{}", FIRST),
        ('{"id":1,"connect":{"token":1}}', "bad request: token must be a string"),
    ],
)
async def test_connection_that_begins_badly_is_disconnected(house: Open, message: str | bytes, reason: str) -> None:
    peer = await (await house(authorize=allow)).visit()
    await peer.client.send(message)
    assert await peer.end() == (3501, reason)


async def test_commands_in_front_of_a_bad_one_are_carried_out(house: Open) -> None:
    peer = await (await house(rpc={"same": Rpc(same)})).visit("")
    await peer.say('{"id":2,"history":{"channel":"a"}}', "oops", '{"id":3,"history":{"channel":"a"}}')
    await peer.hear('{"id":2,"error":{"code":103,"message":"permission denied"}}')
    assert await peer.end() == (3501, "bad request: not JSON")


async def test_second_connect_is_a_bad_request(house: Open) -> None:
    peer = await (await house()).visit("")
    await peer.say('{"id":2,"connect":{}}')
    assert await peer.end() == (3501, "bad request: connected already")


async def test_methods_that_are_not_served_are_refused(house: Open) -> None:
    peer = await (await house(authorize=allow)).visit("")
    await peer.say(
        '{"id":2,"teleport":{}}',
        '{"id":3,"ping":{}}',
        '{"id":4,"sub_refresh":{"channel":"news","token":"t"}}',
        '{"id":5,"subscribe":{"channel":"news","type":1}}',
        '{"id":6,"publish":{"channel":"news","type":1,"key":"k","data":1}}',
    )
    await peer.hear('{"id":2,"error":{"code":104,"message":"method not found"}}')
    await peer.hear(*(f'{{"id":{place},"error":{{"code":108,"message":"not available"}}}}' for place in range(3, 7)))


async def test_ids_need_no_order(house: Open) -> None:
    peer = await (await house(rpc={"same": Rpc(same)})).visit("")
    ids = [4_294_967_295, 3, 3, 1, 2]
    await peer.say(*(f'{{"id":{number},"rpc":{{"method":"same","data":{number}}}}}' for number in ids))
    await peer.hear(*(f'{{"id":{number},"rpc":{{"data":{number}}}}}' for number in ids))


async def test_data_that_is_not_valid_for_a_channel_is_refused(house: Open) -> None:
    made = await house(authorize=allow)
    _topic = made.topics.topic("prices", PRICE)
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"publish":{"channel":"prices","data":{"pair":"x"}}}',
        '{"id":2,"error":{"code":107,"message":"bad request: Object missing required field `value`"}}',
    )


async def test_publication_that_is_too_large_is_refused(house: Open) -> None:
    made = await house(TopicLimits(max_publication_size=10), authorize=allow)
    _topic = made.topics.topic("news", Json(str))
    peer = await made.visit("")
    await peer.ask('{"id":2,"publish":{"channel":"news","data":"12345678"}}', '{"id":2,"publish":{}}')
    await peer.ask(
        '{"id":3,"publish":{"channel":"news","data":"123456789"}}',
        '{"id":3,"error":{"code":106,"message":"limit exceeded"}}',
    )


async def test_message_that_is_too_large_closes_the_connection(house: Open) -> None:
    made = await house(server={"limits": Limits(max_message_size=1000)})
    peer = await made.visit("")
    await peer.say('{"id":2,"rpc":{"data":"' + "x" * 1000 + '"}}')
    code, _ = await peer.end()
    assert code == 1009


async def test_flood_of_commands_is_answered_with_errors(house: Open) -> None:
    peer = await (await house(max_command_rate=0.5, rpc={"same": Rpc(same)})).visit("")
    for number in range(2, 6):  # connect was the first of five
        await peer.ask(f'{{"id":{number},"rpc":{{"method":"same"}}}}', f'{{"id":{number},"rpc":{{"data":null}}}}')
    await peer.ask(
        '{"id":6,"rpc":{"method":"same"}}',
        '{"id":6,"error":{"code":111,"message":"too many requests","temporary":true}}',
    )
    await peer.say('{"send":{"data":1}}')
    assert await peer.end() == (3013, "too many requests")


async def test_flood_does_not_keep_other_clients_waiting(house: Open) -> None:
    made = await house(max_command_rate=None)
    flooder, other = await made.visit(""), await made.visit("")
    flood = [f'{{"id":{number},"rpc":{{}}}}' for number in range(2, 10_002)]
    await flooder.say(*flood)
    await other.ask('{"id":2,"rpc":{}}', '{"id":2,"error":{"code":108,"message":"not available"}}')
    seen = json.loads(await within(flooder.client.read_message()))["id"]
    assert seen == 2
    while seen < 10_001:
        seen = json.loads(await within(flooder.client.read_message()))["id"]


async def test_publications_of_a_client_are_limited(house: Open) -> None:
    made = await house(TopicLimits(max_publications_per_client=2), authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    publish = '"publish":{"channel":"news","data":1}}'
    await peer.say(*(f'{{"id":{place},{publish}' for place in (2, 3, 4)))
    await peer.hear('{"id":2,"publish":{}}', '{"id":3,"publish":{}}')
    await peer.hear('{"id":4,"error":{"code":106,"message":"limit exceeded"}}')


async def test_slow_client_is_disconnected(house: Open) -> None:
    made = await house(authorize=allow, backlog=100_000)
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
    house: Open, caplog: pytest.LogCaptureFixture
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

    made = await house(authorize=ask, rpc={"tell": Rpc(tell)}, message=note)
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
    house: Open, caplog: pytest.LogCaptureFixture
) -> None:
    made = await house(authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    closing = asyncio.create_task(made.server.close(3001, "shutdown"))
    assert await peer.end() == (3001, "shutdown")
    await closing
    assert caplog.text == ""


async def test_client_is_told_that_the_broker_has_failed(house: Open, caplog: pytest.LogCaptureFixture) -> None:
    broker = FlakyBroker()
    made = await house(broker=broker, authorize=allow)
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


async def test_client_follows_although_its_presence_has_failed(house: Open, caplog: pytest.LogCaptureFixture) -> None:
    class NoPresence(MemoryBroker):
        async def enter(self, topic: str, connection: str, user: str, data: str) -> None:
            raise BrokerUnavailable("no presence today")

    made = await house(broker=NoPresence(), authorize=allow)
    topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    await topic.publish(1)
    await peer.hear('{"push":{"channel":"news","pub":{"data":1}}}')
    await until(lambda: "Centrifugo client c1 is not present in 'news'" in caplog.text)


class Foreign(Channel):
    """A connection that is not of streamws. Its `send` does nothing before it is awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.received: asyncio.Queue[str | None] = asyncio.Queue()

    async def send(self, data: str | Buffer, *, text: bool = False) -> None:
        await super().send(data)

    async def read_message(self) -> str:
        message = await self.received.get()
        if message is None:
            self.end()
            assert self.outcome is not None
            raise ConnectionClosed(self.outcome)
        return message


async def test_connection_that_is_not_of_streamws_is_served() -> None:
    async def allow_any(client: object, action: str, topic: str) -> bool:
        return True

    async with asyncio.timeout(10), Topics(MemoryBroker()) as topics:
        topic = topics.topic("news", Json(int), history=History())
        foreign = Foreign()
        serving = asyncio.create_task(CentrifugoEndpoint(topics, authorize=allow_any)(foreign))
        foreign.received.put_nowait('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}')
        await until(lambda: len(foreign.sent) == 2)
        await topic.publish(1)
        foreign.received.put_nowait('{"id":3,"presence_stats":{"channel":"news"}}')
        await until(lambda: len(foreign.sent) == 4)
        assert foreign.sent[1:] == [
            f'{{"id":2,"subscribe":{{{POSITION},"offset":0,"positioned":true}}}}',
            '{"push":{"channel":"news","pub":{"data":1,"offset":1}}}',
            '{"id":3,"presence_stats":{"num_clients":1,"num_users":1}}',
        ]
        foreign.received.put_nowait(None)
        await serving
        await until(lambda: topics.followed == 0)
        assert await topic.presence.connections() == {}


async def test_function_that_has_not_begun_when_the_connection_ends_is_never_called() -> None:
    calls: list[JsonValue] = []

    async def note(client: Foreign, data: JsonValue) -> object:
        calls.append(data)
        return None

    async with asyncio.timeout(10), Topics(MemoryBroker()) as topics:
        foreign = Foreign()
        for message in ('{"id":1,"connect":{}}', '{"id":2,"rpc":{"method":"note"}}', None):
            foreign.received.put_nowait(message)
        await CentrifugoEndpoint(topics, rpc={"note": Rpc(note)})(foreign)
    assert calls == []
    gc.collect()  # a coroutine that was never awaited would warn now


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
