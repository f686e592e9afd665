"""`Settings`: the functions of the application and the limits, which all connections of an endpoint share."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Generic, Literal, Protocol, TypeAlias
from weakref import WeakValueDictionary

import attrs
from typing_extensions import TypeVar

from ...channel import Channel, Recipient
from ..topic import Topic
from .commands import JsonValue
from .frames import PresenceFrame
from .replies import Encoded

Action: TypeAlias = Literal["subscribe", "publish", "presence", "history"]
"""What a client may be allowed to do with a topic."""


_T = TypeVar("_T")


def _check_time(_: object, field: "attrs.Attribute[float | None]", value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field.name} must be a number of seconds since 1970, or None, not {value!r}")
    if value != value:
        raise ValueError(f"{field.name} must be a number of seconds since 1970, or None, not {value!r}")


def _check_user(_: object, field: "attrs.Attribute[str]", value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{field.name} must be str, not {value!r}")


def check_type(function: str, result: object, kind: type[_T]) -> _T:
    """Return what a function of the application returned, after a check of its type."""
    if not isinstance(result, kind):
        raise TypeError(f"{function} must return {kind.__name__}, not {type(result).__name__}")
    return result


def check_awaitable(function: str, result: Awaitable[_T]) -> Awaitable[_T]:
    """Return what a coroutine function of the application returned when it was called, after a check."""
    if not isawaitable(result):
        raise TypeError(f"{function} must be a coroutine function (async def); it returned {type(result).__name__}")
    return result


@attrs.frozen
class Connected:
    """Who has connected: the result of the `connect` function of a `CentrifugoEndpoint`.

    :param user: the id of the user; empty for an anonymous one.
    :param data: anything that JSON can express, for the client: it gets this with its event `connected`.
    :param info: anything that JSON can express, for others: presence, joins and leaves have it as `conn_info`
        (`connInfo` in JavaScript).
    :param expires_at: when the connection expires, in seconds since 1970, as the claim `exp` of a token says. Until
        then the client has to send a new token. None if it never expires.
    """

    user: str = attrs.field(default="", validator=_check_user)
    data: object = attrs.field(default=None, kw_only=True)
    info: object = attrs.field(default=None, kw_only=True)
    expires_at: float | None = attrs.field(default=None, kw_only=True, validator=_check_time)


class EndpointClient(Channel, Recipient, Protocol):
    """The methods of a connection that an endpoint needs. `Client` has them."""


AnyClient = TypeVar("AnyClient", bound=EndpointClient, default=EndpointClient)

AnyTopic: TypeAlias = Topic[Any]

Connect: TypeAlias = Callable[[AnyClient, str, JsonValue], Awaitable[Connected]]
Authorize: TypeAlias = Callable[[AnyClient, Action, str], Awaitable[bool]]
OnMessage: TypeAlias = Callable[[AnyClient, JsonValue], Awaitable[None]]
Function: TypeAlias = Callable[[AnyClient, JsonValue], Awaitable[Encoded]]
"""Calls a function of the application with decoded JSON, and encodes its result."""


@attrs.frozen(kw_only=True)
class Settings(Generic[AnyClient]):
    """What the sessions of an endpoint share."""

    find: Callable[[str], AnyTopic | None]
    connect: Connect[AnyClient] | None
    authorize: Authorize[AnyClient] | None
    functions: Mapping[str, Function[AnyClient]] | None
    on_message: OnMessage[AnyClient] | None
    ping_interval: float
    pong_timeout: float
    connect_timeout: float
    expiry_grace: float
    max_history: int
    max_calls: int
    max_command_rate: float | None
    backlog: int
    max_name: int
    presence_frames: "WeakValueDictionary[str, PresenceFrame]" = attrs.field(
        factory=lambda: WeakValueDictionary[str, PresenceFrame](), init=False
    )
    """One for each topic, so that the connections share what is sent."""
