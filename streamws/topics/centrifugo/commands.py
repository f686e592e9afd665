"""The commands that clients send in Centrifugo's JSON client protocol, decoded without I/O.

A message holds one command, or several, each in a line of its own. A command has an id and one member with the name
of its method. `{}` is a pong.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from math import isinf
from typing import Final, TypeAlias, TypeVar

import attrs

from ..values import Position
from .codes import ErrorCode

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""A decoded JSON value."""

MAX_ID: Final = 2**32 - 1
MAX_OFFSET: Final = 2**64 - 1


class BadRequest(Exception):
    """The client sent something that is not a command; the text says why, in a few words."""


@attrs.frozen
class Pong:
    """The answer to a ping of the server: an empty command."""


@attrs.frozen
class Connect:
    """The first command of a connection."""

    id: int
    token: str = attrs.field(repr=False)
    data: JsonValue = attrs.field(repr=False)
    name: str
    version: str


@attrs.frozen
class Refresh:
    """Replaces the token of a connection before it expires."""

    id: int
    token: str = attrs.field(repr=False)


@attrs.frozen
class Subscribe:
    """Follow a channel, after the position of the last publication that the client has, if it recovers."""

    id: int
    channel: str
    since: Position | None
    join_leave: bool
    reject_unrecovered: bool


@attrs.frozen
class Unsubscribe:
    """Leave a channel."""

    id: int
    channel: str


@attrs.frozen
class Publish:
    """Publish to a channel."""

    id: int
    channel: str
    data: JsonValue


@attrs.frozen
class Presence:
    """Ask for the members of a channel."""

    id: int
    channel: str


@attrs.frozen
class PresenceStats:
    """Ask for the number of members of a channel."""

    id: int
    channel: str


@attrs.frozen
class History:
    """Ask for publications of a channel.

    `limit` is the most publications to return: 0 for none, and below 0 for all of them.
    """

    id: int
    channel: str
    limit: int
    since: Position | None
    reverse: bool


@attrs.frozen
class Call:
    """Call a function of the server, and wait for its result."""

    id: int
    method: str
    data: JsonValue


@attrs.frozen
class Send:
    """Data for the application of the server. It has no reply."""

    data: JsonValue


@attrs.frozen
class NotServed:
    """A command that is not served, or that the protocol does not have; `code` answers it."""

    id: int
    code: ErrorCode


Command: TypeAlias = (
    Pong
    | Connect
    | Refresh
    | Subscribe
    | Unsubscribe
    | Publish
    | Presence
    | PresenceStats
    | History
    | Call
    | Send
    | NotServed
)

_Members: TypeAlias = dict[str, JsonValue]


def decode_commands(message: str | bytes) -> Iterator[Command]:
    """Yield the commands of a message. A command is decoded when it is asked for.

    :raises BadRequest: at the first line that is not a command.
    """
    if isinstance(message, bytes):
        try:
            message = message.decode()
        except UnicodeDecodeError:
            raise BadRequest("not JSON, but binary: the Protobuf protocol is not served") from None
    begin, length = 0, len(message)
    while True:  # line by line, because a message may have very many lines
        end = message.find("\n", begin)
        if end < 0:
            end = length
        yield _decode_command(message[begin:end])
        begin = end + 1
        if begin >= length:  # a line feed after the last line is optional
            return


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _decode_float(digits: str) -> float:
    number = float(digits)
    if isinf(number):  # JSON has no infinity
        raise ValueError(f"{digits} is too large")
    return number


decoder: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_decode_float)


def _decode_command(line: str) -> Command:
    try:
        command: JsonValue = decoder.decode(line)
    except (ValueError, RecursionError):
        raise BadRequest("not JSON") from None
    if not isinstance(command, dict):
        raise BadRequest("a command must be an object")
    if not command:
        return Pong()
    number = _integer(command, "id", 0, MAX_ID)
    method = next((name for name in _METHODS if command.get(name) is not None), None)
    if number == 0 and method != "send":
        raise BadRequest("a command needs an id")
    if method is None:
        return NotServed(number, ErrorCode.METHOD_NOT_FOUND)
    members = command[method]
    if not isinstance(members, dict):
        raise BadRequest(f"{method} must be an object")
    return _METHODS[method](number, members)


def _text(members: _Members, name: str) -> str:
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string")
    if not value.isascii():
        _check_encodable(value)
    return value


def _check_encodable(text: str) -> None:
    """Check that a text has no half of a surrogate pair, which JSON can express and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest("invalid Unicode") from None


def _channel(members: _Members) -> str:
    channel = _text(members, "channel")
    if not channel:
        raise BadRequest("a channel is required")
    return channel


def _integer(members: _Members, name: str, least: int, most: int) -> int:
    value = members.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"{name} must be an integer from {least} to {most}")
    return value


def _boolean(members: _Members, name: str) -> bool:
    value = members.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def _position(members: _Members) -> Position:
    return Position(_text(members, "epoch"), _integer(members, "offset", 0, MAX_OFFSET))


def _connect(number: int, members: _Members) -> Connect:
    return Connect(
        number, _text(members, "token"), members.get("data"), _text(members, "name"), _text(members, "version")
    )


def _refresh(number: int, members: _Members) -> Refresh:
    token = _text(members, "token")
    if not token:
        raise BadRequest("a token is required")
    return Refresh(number, token)


_REJECT_UNRECOVERED = 2


def _subscribe(number: int, members: _Members) -> Command:
    channel = _channel(members)
    if _integer(members, "type", 0, 2**31 - 1) or members.get("tf") is not None:
        return NotServed(number, ErrorCode.NOT_AVAILABLE)  # maps, other kinds of subscriptions, and filters by tags
    since = _position(members) if _boolean(members, "recover") else None
    reject = bool(_integer(members, "flag", 0, 2**63 - 1) & _REJECT_UNRECOVERED)
    return Subscribe(number, channel, since, _boolean(members, "join_leave"), reject)


def _publish(number: int, members: _Members) -> Command:
    channel = _channel(members)
    if _integer(members, "type", 0, 2**31 - 1):
        return NotServed(number, ErrorCode.NOT_AVAILABLE)  # maps
    return Publish(number, channel, members.get("data"))


def _history(number: int, members: _Members) -> History:
    since = members.get("since")
    if since is not None and not isinstance(since, dict):
        raise BadRequest("since must be an object")
    return History(
        number,
        _channel(members),
        _integer(members, "limit", -(2**31), 2**31 - 1),
        None if since is None else _position(since),
        _boolean(members, "reverse"),
    )


def _call(number: int, members: _Members) -> Call:
    return Call(number, _text(members, "method"), members.get("data"))


def _send(_: int, members: _Members) -> Send:
    return Send(members.get("data"))


_OnChannel = TypeVar("_OnChannel", Unsubscribe, Presence, PresenceStats)


def _on_channel(kind: Callable[[int, str], _OnChannel]) -> Callable[[int, _Members], _OnChannel]:
    return lambda number, members: kind(number, _channel(members))


def _not_available(number: int, _: _Members) -> NotServed:
    return NotServed(number, ErrorCode.NOT_AVAILABLE)


# In the order of the protocol: of several methods in one command, the first one counts.
_METHODS: Mapping[str, Callable[[int, _Members], Command]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": _on_channel(Unsubscribe),
    "publish": _publish,
    "presence": _on_channel(Presence),
    "presence_stats": _on_channel(PresenceStats),
    "history": _history,
    "ping": _not_available,  # no client has this method: in this version of the protocol the server sends pings
    "send": _send,
    "rpc": _call,
    "refresh": _refresh,
    "sub_refresh": _not_available,
}
