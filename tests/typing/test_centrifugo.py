"""Types of `CentrifugoEndpoint`. mypy and pyright check the assertions; pytest checks that endpoints can be made."""

from collections.abc import Callable, Coroutine
from typing import Literal, assert_type

import msgspec

from streamws import Client, Key, WebSocketServer
from streamws.messages import Json
from streamws.topics import (
    CentrifugoDisconnect,
    CentrifugoEndpoint,
    CentrifugoError,
    Connected,
    History,
    JsonValue,
    MemoryBroker,
    Rpc,
    Topic,
    Topics,
)
from streamws.topics.centrifugo.settings import EndpointClient


class Order(msgspec.Struct):
    pair: str


class Receipt(msgspec.Struct):
    number: int


USER: Key[str] = Key("user")
ORDER, RECEIPT = Json(Order), Json(Receipt)
TOPICS = Topics(MemoryBroker())


async def connect(client: Client, token: str, data: JsonValue) -> Connected:
    client[USER] = token
    if isinstance(data, dict):
        name: JsonValue = data["name"]
        assert name != data
    return Connected(token, data={"any": ["thing"]}, info=5, expires_at=1.5)


async def authorize(client: Client, action: Literal["subscribe", "publish", "presence", "history"], topic: str) -> bool:
    return action != "publish"


async def authorize_any(client: EndpointClient, action: str, topic: str) -> bool:
    return True


async def buy(client: Client, order: Order) -> Receipt:
    raise CentrifugoError(400, "no", temporary=True)


async def echo(client: EndpointClient, data: JsonValue) -> object:
    raise CentrifugoDisconnect(4500, "go away")


async def note(client: Client, data: JsonValue) -> None:
    pass


def find(name: str) -> Topic[Order] | None:
    return TOPICS.topic(name, ORDER, history=History())


def test_making_endpoints() -> None:
    anonymous = CentrifugoEndpoint(TOPICS)
    assert_type(anonymous, CentrifugoEndpoint[EndpointClient])
    WebSocketServer("127.0.0.1", 0, handler=anonymous)

    endpoint = CentrifugoEndpoint(
        TOPICS,
        connect=connect,
        authorize=authorize,
        rpc={"buy": Rpc(buy, ORDER, RECEIPT), "echo": Rpc(echo)},
        message=note,
        find=find,
    )
    assert_type(endpoint, CentrifugoEndpoint[Client])
    WebSocketServer("127.0.0.1", 0, handler=endpoint)
    handler: Callable[[Client], Coroutine[object, None, None]] = endpoint
    assert callable(handler)

    assert_type(CentrifugoEndpoint(TOPICS, authorize=authorize_any), CentrifugoEndpoint[EndpointClient])
    # Functions for any connection can be mixed with functions for a Client.
    mixed = CentrifugoEndpoint(TOPICS, connect=connect, authorize=authorize_any)
    assert_type(mixed, CentrifugoEndpoint[Client])


def test_values_have_the_types_that_they_say() -> None:
    connected = Connected()
    assert_type(connected.user, str)
    assert_type(connected.expires_at, float | None)
    error = CentrifugoError(103)
    assert_type((error.code, error.message, error.temporary), tuple[int, str, bool])
    disconnect = CentrifugoDisconnect(3500)
    assert_type((disconnect.code, disconnect.reason), tuple[int, str])
    assert (str(error), str(disconnect)) == ("103 permission denied", "3500 invalid token")


async def mistakes(endpoint: CentrifugoEndpoint[Client], client: Client) -> None:
    """Each of these is an error, or the comment that ignores it would be one."""
    CentrifugoEndpoint(MemoryBroker())  # type: ignore[arg-type]
    CentrifugoEndpoint(TOPICS, connect=note)  # type: ignore[arg-type]
    CentrifugoEndpoint(TOPICS, authorize=connect)  # type: ignore[arg-type]
    CentrifugoEndpoint(TOPICS, rpc={"buy": buy})  # type: ignore[dict-item]
    CentrifugoEndpoint(TOPICS, find=find("news"))  # type: ignore[arg-type]
    Rpc(buy)  # type: ignore[arg-type]
    Rpc(buy, RECEIPT, RECEIPT)  # type: ignore[arg-type]
    Rpc(buy, ORDER, ORDER)  # type: ignore[arg-type]
    Rpc(buy, ORDER)  # type: ignore[call-overload]
    Connected(5)  # type: ignore[arg-type]
    Connected("ada", 5)  # type: ignore[call-arg]
    CentrifugoError("103")  # type: ignore[arg-type]
    CentrifugoDisconnect()  # type: ignore[call-arg]
    assert_type(await endpoint.unsubscribe(client, "news"), bool)
    await endpoint.unsubscribe("news", client)  # type: ignore[arg-type]
