"""Subscriptions, recovery, history and presence, with exact JSON on real sockets."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from helpers.waiting import iterations, until, within
from streamws import Client
from streamws.messages import Json
from streamws.topics import (
    CentrifugoDisconnect,
    CentrifugoError,
    Connected,
    History,
    JsonValue,
    MemoryBroker,
    Topic,
    TopicLimits,
)
from topics.centrifugo.endpoints import (
    POSITION,
    PRICE,
    USER,
    Open,
    OpenEndpoint,
    Price,
    allow,
    by_token,
    news,
    publications,
)
from topics.flaky import FlakyBroker


async def test_client_subscribes_publishes_and_unsubscribes(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
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


async def test_publisher_that_subscribes_gets_its_own_publication_first(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
    _topic = made.topics.topic("prices", Json(int))
    peer = await made.visit("")
    await peer.say('{"id":2,"subscribe":{"channel":"prices"}}', '{"id":3,"publish":{"channel":"prices","data":5}}')
    await peer.hear(
        '{"id":2,"subscribe":{}}', '{"push":{"channel":"prices","pub":{"data":5}}}', '{"id":3,"publish":{}}'
    )


async def test_everything_is_refused_without_authorize(open_endpoint: Open) -> None:
    made = await open_endpoint()
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


async def test_authorize_is_asked_for_each_action(open_endpoint: Open) -> None:
    asked: list[tuple[str, str, str]] = []

    async def note(client: Client, action: str, topic: str) -> bool:
        asked.append((client[USER], action, topic))
        return action == "subscribe"

    made = await open_endpoint(connect=by_token, authorize=note)
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


async def test_authorize_that_raises_is_logged(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(client: Client, action: str, topic: str) -> bool:
        if topic == "own":
            raise CentrifugoError(450, "own error")
        if topic == "end":
            raise CentrifugoDisconnect(4501, "go away")
        raise LookupError("secret")

    peer = await (await open_endpoint(authorize=fail)).visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news"}}',
        '{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}',
    )
    assert "LookupError: secret" in caplog.text
    await peer.ask('{"id":3,"subscribe":{"channel":"own"}}', '{"id":3,"error":{"code":450,"message":"own error"}}')
    await peer.say('{"id":4,"subscribe":{"channel":"end"}}')
    assert await peer.end() == (4501, "go away")


@pytest.mark.parametrize("answer", [None, 1, "yes", asyncio.Event()])
async def test_authorize_must_return_a_bool(open_endpoint: Open, caplog: pytest.LogCaptureFixture, answer: Any) -> None:
    async def vague(client: Client, action: str, topic: str) -> bool:
        return answer  # type: ignore[no-any-return]

    made = await open_endpoint(authorize=vague)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news"}}',
        '{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}',
    )
    assert f"TypeError: authorize must return bool, not {type(answer).__name__}" in caplog.text
    assert made.topics.followed == 0


async def test_topic_that_the_program_does_not_use_is_unknown(open_endpoint: Open) -> None:
    peer = await (await open_endpoint(authorize=allow)).visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"error":{"code":102,"message":"unknown channel"}}'
    )


async def test_find_makes_topics_when_they_are_asked_for(open_endpoint: Open) -> None:
    made: OpenEndpoint

    def find(name: str) -> Topic[int] | None:
        return made.topics.topic(name, Json(int)) if name.startswith("room:") else None

    made = await open_endpoint(authorize=allow, find=find)
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"room:1"}}', '{"id":2,"subscribe":{}}')
    await made.topics.topic("room:1", Json(int)).publish(3)
    await peer.hear('{"push":{"channel":"room:1","pub":{"data":3}}}')
    await peer.ask(
        '{"id":3,"subscribe":{"channel":"hall:1"}}', '{"id":3,"error":{"code":102,"message":"unknown channel"}}'
    )


async def test_find_must_return_the_topic_of_the_name(open_endpoint: Open, caplog: pytest.LogCaptureFixture) -> None:
    made: OpenEndpoint

    def find(name: str) -> Topic[int]:
        return made.topics.topic(name.lower(), Json(int))

    made = await open_endpoint(authorize=allow, find=find)
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"News"}}',
        '{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}',
    )
    assert "ValueError: find('News') must return the topic of this name, not <Topic 'news'>" in caplog.text


async def test_second_subscription_of_a_channel_is_refused(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    await peer.ask(
        '{"id":3,"subscribe":{"channel":"news"}}', '{"id":3,"error":{"code":105,"message":"already subscribed"}}'
    )
    await peer.say('{"id":4,"unsubscribe":{"channel":"news"}}', '{"id":5,"subscribe":{"channel":"news"}}')
    await peer.hear('{"id":4,"unsubscribe":{}}', '{"id":5,"subscribe":{}}')


async def test_number_of_channels_and_their_names_are_limited(open_endpoint: Open) -> None:
    limits = TopicLimits(max_topics_per_client=2, max_name=5)
    made: OpenEndpoint

    def find(name: str) -> Topic[int]:
        return made.topics.topic(name, Json(int))

    asked: list[str] = []

    async def authorize(client: Client, action: str, topic: str) -> bool:
        asked.append(topic)
        return True

    made = await open_endpoint(limits, authorize=authorize, find=find)
    peer = await made.visit("")
    for name in ("a", "éé"):
        await peer.ask(f'{{"id":2,"subscribe":{{"channel":"{name}"}}}}', '{"id":2,"subscribe":{}}')
    await peer.say('{"id":3,"subscribe":{"channel":"c"}}', '{"id":4,"publish":{"channel":"ééé","data":1}}')
    await peer.hear(*(f'{{"id":{number},"error":{{"code":106,"message":"limit exceeded"}}}}' for number in (3, 4)))
    assert "ééé" not in asked


async def test_several_subscriptions_are_independent(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
    names = [f"topic {number}" for number in range(20)]
    topics = [made.topics.topic(name, Json(str)) for name in names]
    peer = await made.visit("")
    await peer.say(*(f'{{"id":{place},"subscribe":{{"channel":"{name}"}}}}' for place, name in enumerate(names, 2)))
    await peer.hear(*(f'{{"id":{place},"subscribe":{{}}}}' for place in range(2, 22)))
    for topic in reversed(topics):
        await topic.publish(topic.name)
    await peer.hear(*(f'{{"push":{{"channel":"{name}","pub":{{"data":"{name}"}}}}}}' for name in reversed(names)))


async def test_program_ends_a_subscription(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
    topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    (client,) = made.served()
    assert await made.endpoint.unsubscribe(client, "news", "no longer allowed")
    await topic.publish(1)
    await peer.hear('{"push":{"channel":"news","unsubscribe":{"code":2000,"reason":"no longer allowed"}}}')
    assert not await made.endpoint.unsubscribe(client, "news")
    await peer.ask('{"id":3,"subscribe":{"channel":"news"}}', '{"id":3,"subscribe":{}}')


async def test_program_ends_a_subscription_before_it_has_begun(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow(client: Client, action: str, topic: str) -> bool:
        asked.set()
        await answered.wait()
        return True

    made = await open_endpoint(authorize=slow)
    topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.say('{"id":2,"subscribe":{"channel":"news"}}')
    await within(asked.wait())
    (client,) = made.served()
    assert await made.endpoint.unsubscribe(client, "news")
    assert not await made.endpoint.unsubscribe(client, "news")
    answered.set()
    await peer.hear('{"id":2,"error":{"code":103,"message":"permission denied"}}')
    await topic.publish(1)
    await peer.ask('{"id":3,"subscribe":{"channel":"news"}}', '{"id":3,"subscribe":{}}')
    assert caplog.text == ""


async def test_program_ends_a_subscription_while_the_broker_is_asked(
    open_endpoint: Open, caplog: pytest.LogCaptureFixture
) -> None:
    broker = FlakyBroker()
    made = await open_endpoint(broker=broker, authorize=allow)
    topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    broker.hang()
    await peer.say('{"id":2,"subscribe":{"channel":"news"}}')
    await until(lambda: made.topics.followed == 1)
    (client,) = made.served()
    assert await made.endpoint.unsubscribe(client, "news")
    broker.go_on()
    await peer.hear('{"id":2,"error":{"code":103,"message":"permission denied"}}')
    await topic.publish(1)
    await peer.ask('{"id":3,"presence":{"channel":"news"}}', '{"id":3,"presence":{"presence":{}}}')
    assert caplog.text == ""


async def test_payloads_of_other_codecs_reach_clients_as_json(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
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


# Recovery and history ------------------------------------------------------------------------------------------------


async def test_subscription_to_a_topic_with_history_has_a_position(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
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
async def test_client_recovers_what_it_has_missed(
    open_endpoint: Open, offset: int, missed: Sequence[int], epoch: str
) -> None:
    made = await open_endpoint(authorize=allow)
    topic = await news(made, 10, 20, 30, 40)
    peer = await made.visit("")
    found = f'"publications":[{publications(*missed)}],' if missed else ""
    await peer.ask(
        f'{{"id":2,"subscribe":{{"channel":"news","recover":true,{epoch}"offset":{offset}}}}}',
        # As in Centrifugo, the position is that of the client: it moves on with each publication that it handles.
        f'{{"id":2,"subscribe":{{{POSITION},{found}"recovered":true,"offset":{offset},"positioned":true,'
        '"was_recovering":true}}',
    )
    await topic.publish(50)
    await peer.hear('{"push":{"channel":"news","pub":{"data":50,"offset":5}}}')


@pytest.mark.parametrize(
    "since",
    ['"epoch":"e1","offset":0', '"epoch":"other","offset":4', '"epoch":"e1","offset":9'],
    ids=["too old", "other epoch", "from the future"],
)
async def test_client_is_told_that_it_cannot_recover(open_endpoint: Open, since: str) -> None:
    made = await open_endpoint(authorize=allow)
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


async def test_client_that_has_missed_more_than_the_limit_cannot_recover(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow, max_history=2)
    _topic = await news(made, 10, 20, 30)
    peer = await made.visit("")
    await peer.ask(
        '{"id":2,"subscribe":{"channel":"news","recover":true,"epoch":"e1","offset":0}}',
        f'{{"id":2,"subscribe":{{{POSITION},"offset":3,"positioned":true,"was_recovering":true}}}}',
    )


async def test_topic_without_history_cannot_be_recovered(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    for flag in (0, 2):  # 2 rejects positions that cannot be recovered: a client would ask again and again
        await peer.ask(
            f'{{"id":2,"subscribe":{{"channel":"news","recover":true,"epoch":"e1","offset":0,"flag":{flag}}}}}',
            '{"id":2,"subscribe":{"was_recovering":true}}',
        )
        await peer.ask('{"id":3,"unsubscribe":{"channel":"news"}}', '{"id":3,"unsubscribe":{}}')


async def test_client_that_was_alone_in_a_quiet_channel_has_missed_nothing(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
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
        f'{{"id":6,"subscribe":{{{POSITION},"publications":[{publications(1)}],"recovered":true,"offset":0,'
        '"positioned":true,"was_recovering":true}}',
    )


async def test_publication_that_nobody_could_get_ends_the_epoch(open_endpoint: Open) -> None:
    topics = (await open_endpoint()).topics
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


async def test_client_recovers_at_once_with_the_new_epoch_after_a_restart_with_all_data(open_endpoint: Open) -> None:
    broker = FlakyBroker()
    made = await open_endpoint(broker=broker, authorize=allow)
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
        '"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}',
    )


async def test_client_is_unsubscribed_to_recover_if_the_broker_has_lost_something(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
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
        ('"limit":9,"since":{"offset":0,"epoch":"e1"}', [2, 3, 4]),
        ('"limit":9,"since":{"offset":9,"epoch":"e1"}', []),
    ],
)
async def test_client_reads_the_history(open_endpoint: Open, parameters: str, found: Sequence[int]) -> None:
    made = await open_endpoint(authorize=allow)
    _topic = await news(made, 10, 20, 30, 40)
    peer = await made.visit("")
    comma = "," if parameters else ""
    await peer.ask(
        f'{{"id":2,"history":{{"channel":"news"{comma}{parameters}}}}}',
        f'{{"id":2,"history":{{"publications":[{publications(*found)}],"epoch":"e1","offset":4}}}}',
    )


@pytest.mark.parametrize("since", ['{"offset":4,"epoch":"other"}', '{"offset":4,"epoch":"other"},"reverse":true'])
async def test_history_of_another_epoch_is_an_error(open_endpoint: Open, since: str) -> None:
    made = await open_endpoint(authorize=allow)
    _topic = await news(made, 10, 20, 30, 40)
    peer = await made.visit("")
    await peer.ask(
        f'{{"id":2,"history":{{"channel":"news","limit":9,"since":{since}}}}}',
        '{"id":2,"error":{"code":112,"message":"unrecoverable position"}}',
    )


async def test_history_in_a_reply_is_limited(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow, max_history=2)
    _topic = await news(made, 10, 20, 30)
    peer = await made.visit("")
    for limit in (-1, 3):
        await peer.ask(
            f'{{"id":2,"history":{{"channel":"news","limit":{limit}}}}}',
            f'{{"id":2,"history":{{"publications":[{publications(1, 2)}],"epoch":"e1","offset":3}}}}',
        )


async def test_topic_without_history_has_none(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    await peer.ask('{"id":2,"history":{"channel":"news"}}', '{"id":2,"error":{"code":108,"message":"not available"}}')


# Presence ------------------------------------------------------------------------------------------------------------


def info(user: str, client: str) -> str:
    return f'{{"user":"{user}","client":"{client}","conn_info":{{"data":null}}}}'


async def test_presence_has_the_connections_of_subscribers(open_endpoint: Open) -> None:
    made = await open_endpoint(connect=by_token, authorize=allow)
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


async def test_joins_and_leaves_are_pushed_to_those_who_ask(open_endpoint: Open) -> None:
    made = await open_endpoint(connect=by_token, authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    ada, bob = await made.visit("ada"), await made.visit("bob")
    await ada.ask('{"id":2,"subscribe":{"channel":"news","join_leave":true}}', '{"id":2,"subscribe":{}}')
    await ada.hear(f'{{"push":{{"channel":"news","join":{{"info":{info("ada", "c1")}}}}}}}')
    await bob.ask('{"id":2,"subscribe":{"channel":"news"}}', '{"id":2,"subscribe":{}}')
    await ada.hear(f'{{"push":{{"channel":"news","join":{{"info":{info("bob", "c2")}}}}}}}')
    await bob.ask('{"id":3,"unsubscribe":{"channel":"news"}}', '{"id":3,"unsubscribe":{}}')
    await ada.hear(f'{{"push":{{"channel":"news","leave":{{"info":{info("bob", "c2")}}}}}}}')


async def test_client_that_may_not_use_presence_is_not_present(open_endpoint: Open) -> None:
    async def members(client: Client, action: str, topic: str) -> bool:
        return action != "presence" or client[USER] != "guest"

    made = await open_endpoint(connect=by_token, authorize=members)
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


async def test_refresh_changes_what_others_see_from_then_on(open_endpoint: Open) -> None:
    async def connect(client: Client, token: str, data: JsonValue) -> Connected:
        return Connected("ada", info=token)

    made = await open_endpoint(connect=connect, authorize=allow)
    _topic = made.topics.topic("news", Json(int))
    peer = await made.visit("first")
    await peer.ask('{"id":2,"refresh":{"token":"second"}}', '{"id":2,"refresh":{"client":"c1"}}')
    await peer.ask('{"id":3,"subscribe":{"channel":"news"}}', '{"id":3,"subscribe":{}}')
    await peer.ask(
        '{"id":4,"presence":{"channel":"news"}}',
        '{"id":4,"presence":{"presence":{"c1":{"user":"ada","client":"c1","conn_info":"second"}}}}',
    )


async def test_members_that_the_program_has_entered_are_shown(open_endpoint: Open) -> None:
    made = await open_endpoint(authorize=allow)
    topic = made.topics.topic("news", Json(int))
    peer = await made.visit("")
    (client,) = made.served()
    await topic.presence.enter(client, "ada", "not JSON", connection="own")
    await peer.ask(
        '{"id":2,"presence":{"channel":"news"}}',
        '{"id":2,"presence":{"presence":{"own":{"user":"ada","client":"own","conn_info":"not JSON"}}}}',
    )
