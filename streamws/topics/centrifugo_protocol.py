"""The JSON client protocol of Centrifugo, without I/O: commands in, replies and pushes out.

A message holds one command or reply, or several in lines of their own. A command has an id and one member with the name
of its method; the reply has the same id. A push is a reply without an id, and `{}` is a ping or a pong.
"""

import enum
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias, TypeVar

import attrs

from ..errors import StreamwsError

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""A decoded JSON value."""

Encoded: TypeAlias = str
"""JSON in one line."""

Position: TypeAlias = tuple[str, int]
"""The epoch and the offset of a publication."""

MAX_ID: Final = 2**32 - 1
MAX_OFFSET: Final = 2**64 - 1


class ErrorCode(enum.IntEnum):
    """The codes with which the protocol answers a command that failed. Applications use 400 to 1999."""

    INTERNAL = 100
    UNAUTHORIZED = 101
    UNKNOWN_CHANNEL = 102
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    LIMIT_EXCEEDED = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    TOKEN_EXPIRED = 109
    EXPIRED = 110
    TOO_MANY_REQUESTS = 111
    UNRECOVERABLE_POSITION = 112

    @property
    def message(self) -> str:
        """The text of the protocol for this code."""
        return "internal server error" if self is ErrorCode.INTERNAL else self.name.lower().replace("_", " ")


class DisconnectCode(enum.IntEnum):
    """The close codes of the protocol. Clients reconnect after 3000 to 3499, and not after 3500 to 3999.

    Applications use 4000 to 4499, after which clients reconnect, and 4500 to 4999, after which they do not.
    """

    SHUTDOWN = 3001
    SERVER_ERROR = 3004
    EXPIRED = 3005
    SLOW = 3008
    INSUFFICIENT_STATE = 3010
    FORCE_RECONNECT = 3011
    NO_PONG = 3012
    TOO_MANY_REQUESTS = 3013
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    FORCE_DISCONNECT = 3503
    CONNECTION_LIMIT = 3504
    CHANNEL_LIMIT = 3505
    INAPPROPRIATE_PROTOCOL = 3506
    PERMISSION_DENIED = 3507
    NOT_AVAILABLE = 3508

    @property
    def reason(self) -> str:
        """The text of the protocol for this code."""
        match self:
            case DisconnectCode.SERVER_ERROR:
                return "internal server error"
            case DisconnectCode.EXPIRED:
                return "connection expired"
            case _:
                return self.name.lower().replace("_", " ")


class UnsubscribeCode(enum.IntEnum):
    """The codes with which a server ends a subscription. Clients subscribe again after 2500 and above."""

    SERVER = 2000
    INSUFFICIENT_STATE = 2500


_TEMPORARY: Final = frozenset({ErrorCode.INTERNAL, ErrorCode.TOO_MANY_REQUESTS})
"""The errors after which a client may try the same command again."""


_MESSAGES: Mapping[int, str] = {code: code.message for code in ErrorCode}

_REASONS: Mapping[int, str] = {code: code.reason for code in DisconnectCode}


class CentrifugoError(StreamwsError):
    """Raise it in a function of a `CentrifugoEndpoint` to answer the command with an error. The client sees all of it.

    :param code: a code of the protocol, such as 103, or one of your own from 400 to 1999.
    :param message: the text for it; by default the text of the protocol for this code.
    :param temporary: whether the client may try again: it does so by itself for `connect`, `refresh` and `subscribe`.
        By default, only 100 and 111 are temporary.
    :raises ValueError: for another code, or for a code of your own without a message.
    """

    def __init__(self, code: int, message: str = "", temporary: bool | None = None) -> None:
        text = _MESSAGES.get(code)
        if text is None and not 400 <= code <= 1999:
            raise ValueError(f"code must be one of the protocol, or from 400 to 1999, not {code!r}")
        message = message or text or ""
        if not message:
            raise ValueError(f"code {code} needs a message")
        super().__init__(code, message, temporary)
        self.code: int = int(code)
        self.message: str = message
        self.temporary: bool = code in _TEMPORARY if temporary is None else temporary

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


class CentrifugoDisconnect(StreamwsError):
    """Raise it in a function of a `CentrifugoEndpoint` to close the connection.

    :param code: clients connect again after 3000 to 3499 and 4000 to 4499, and do not after 3500 to 3999 and 4500 to
        4999. Codes of your own are 4000 to 4999.
    :param reason: at most 123 bytes in UTF-8; by default the text of the protocol for this code.
    :raises ValueError: for another code, or a longer reason.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        if not 3000 <= code <= 4999:
            raise ValueError(f"code must be from 3000 to 4999, not {code!r}")
        if len(reason.encode()) > 123:
            raise ValueError(f"reason must be at most 123 bytes in UTF-8, not {reason!r}")
        reason = reason or _REASONS.get(code, "")
        super().__init__(code, reason)
        self.code: int = int(code)
        self.reason: str = reason

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()


class BadRequest(Exception):
    """The client sent something that is not a command; the text says why, in a few words."""


# Commands ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Pong:
    """The answer to a ping of the server: an empty command."""


@attrs.frozen
class Connect:
    """The first command of a connection."""

    id: int
    token: str
    data: JsonValue
    name: str
    version: str


@attrs.frozen
class Refresh:
    """Replaces the token of a connection before it expires."""

    id: int
    token: str


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
    """A method that exists in the protocol and is not served, or that does not exist."""

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
            raise BadRequest("not JSON: the message is binary") from None
    begin, length, empty = 0, len(message), True
    while begin < length:  # line by line, because a message may have very many lines
        end = message.find("\n", begin)
        if end < 0:
            end = length
        line = message[begin:end]
        begin = end + 1
        if line and not line.isspace():
            empty = False
            yield _decode_command(line)
    if empty:
        raise BadRequest("empty message")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def _decode_command(line: str) -> Command:
    try:
        command: JsonValue = _decoder.decode(line)
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
    return _text(members, "epoch"), _integer(members, "offset", 0, MAX_OFFSET)


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
    if _integer(members, "type", 0, 2**31 - 1):
        return NotServed(number, ErrorCode.NOT_AVAILABLE)  # maps, and other kinds of subscriptions
    since = _position(members) if _boolean(members, "recover") else None
    reject = bool(_integer(members, "flag", 0, 2**63 - 1) & _REJECT_UNRECOVERED)
    return Subscribe(number, channel, since, _boolean(members, "join_leave"), reject)


def _publish(number: int, members: _Members) -> Command:
    channel = _channel(members)
    if "data" not in members:
        raise BadRequest("data is required")
    if _integer(members, "type", 0, 2**31 - 1):
        return NotServed(number, ErrorCode.NOT_AVAILABLE)  # maps
    return Publish(number, channel, members["data"])


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


# Replies and pushes ---------------------------------------------------------------------------------------------

PING: Final = "{}"


def encode(value: object) -> Encoded:
    """Encode a value as JSON.

    :raises ValueError, TypeError, RecursionError: if JSON cannot express it.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


def embed(payload: str | bytes, *, trusted: bool) -> Encoded:
    """Return an encoded publication as JSON in one line, which can be a part of a push.

    :param trusted: whether the payload is known to be JSON.
    :raises ValueError: if it is not JSON.
    """
    text = payload if isinstance(payload, str) else str(payload, "utf-8")
    if trusted and "\n" not in text:
        return text
    value = _decoder.decode(text)
    return encode(value) if "\n" in text else text


def encode_object(members: Iterable[tuple[str, Encoded | None]]) -> Encoded:
    """Return an object with these members, without those whose value is None."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in members if value is not None) + "}"


def _true(value: bool) -> Encoded | None:
    """Return true, or None to leave the member out: clients take that for false."""
    return "true" if value else None


def reply(number: int, method: str, result: Encoded) -> Encoded:
    """Return the reply to a command."""
    return f'{{"id":{number},"{method}":{result}}}'


def error_reply(number: int, code: int, message: str, temporary: bool) -> Encoded:
    """Return the reply to a command that failed."""
    members = [("code", str(code)), ("message", encode(message)), ("temporary", _true(temporary))]
    return reply(number, "error", encode_object(members))


def connect_result(client: str, *, data: Encoded | None, ttl: int | None, ping: int) -> Encoded:
    """Return the result of `connect`.

    :param client: the id of the connection.
    :param ttl: the seconds until the connection expires; None if it does not.
    :param ping: the seconds between two pings of the server, which the client must answer.
    """
    members = [("client", encode(client)), *_expiry(ttl), ("data", data), ("ping", str(ping)), ("pong", "true")]
    return encode_object(members)


def refresh_result(client: str, *, ttl: int | None) -> Encoded:
    """Return the result of `refresh`. The parameters are those of `connect_result`."""
    return encode_object([("client", encode(client)), *_expiry(ttl)])


def _expiry(ttl: int | None) -> list[tuple[str, Encoded | None]]:
    return [] if ttl is None else [("expires", "true"), ("ttl", str(ttl))]


def subscribe_result(
    position: Position | None, *, recovering: bool, recovered: bool, publications: Iterable[Encoded]
) -> Encoded:
    """Return the result of `subscribe`.

    :param position: the position after which the pushes begin; None if the channel has no history.
    :param recovering: whether the client asked for the publications since a position.
    :param recovered: whether `publications` are all of them.
    """
    epoch = offset = None
    if position is not None:
        epoch, offset = encode(position[0]), str(position[1])
    pushed = ",".join(publications)
    return encode_object(
        [
            ("recoverable", _true(position is not None)),
            ("epoch", epoch),
            ("publications", f"[{pushed}]" if pushed else None),
            ("recovered", _true(recovered)),
            ("offset", offset),
            ("positioned", _true(position is not None)),
            ("was_recovering", _true(recovering)),
        ]
    )


def publication(data: Encoded, *, offset: int, key: str | None = None) -> Encoded:
    """Return a publication, for a push and for results.

    :param offset: its offset; 0 if the channel has no history.
    """
    members = [
        ("data", data),
        ("offset", str(offset) if offset else None),
        ("key", None if key is None else encode(key)),
    ]
    return encode_object(members)


def client_info(user: str, client: str, info: Encoded | None) -> Encoded:
    """Return the description of a member."""
    return encode_object([("user", encode(user)), ("client", encode(client)), ("conn_info", info)])


def presence_result(members: Mapping[str, Encoded]) -> Encoded:
    """Return the result of `presence`: the description of each member, by the id of its connection."""
    inner = ",".join(f"{encode(client)}:{info}" for client, info in members.items())
    return f'{{"presence":{{{inner}}}}}'


def presence_stats_result(clients: int, users: int) -> Encoded:
    """Return the result of `presence_stats`."""
    return f'{{"num_clients":{clients},"num_users":{users}}}'


def history_result(publications: Iterable[Encoded], position: Position) -> Encoded:
    """Return the result of `history`."""
    epoch, offset = position
    return f'{{"publications":[{",".join(publications)}],"epoch":{encode(epoch)},"offset":{offset}}}'


def push(channel: str, kind: str, content: Encoded) -> Encoded:
    """Return a push for a channel."""
    return f'{{"push":{{"channel":{encode(channel)},"{kind}":{content}}}}}'


def unsubscribe_push(channel: str, code: int, reason: str) -> Encoded:
    """Return the push that tells a client that a subscription ended."""
    return push(channel, "unsubscribe", encode_object([("code", str(code)), ("reason", encode(reason))]))


def message_push(data: Encoded) -> Encoded:
    """Return a push with data that belongs to no channel."""
    return f'{{"push":{{"message":{{"data":{data}}}}}}}'
