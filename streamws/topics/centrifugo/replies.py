"""The replies and pushes that clients receive in Centrifugo's JSON client protocol, encoded without I/O.

A reply has the id of its command. A push has no id, and `{}` is a ping.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from ..values import Position
from .commands import decoder

Encoded: TypeAlias = str
"""JSON in one line."""

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
    value = decoder.decode(text)
    return encode(value) if "\n" in text else text


def encode_object(members: Iterable[tuple[str, Encoded | None]]) -> Encoded:
    """Return an object with these members, without those whose value is None."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in members if value is not None) + "}"


def _true(value: bool) -> Encoded | None:
    """Return true, or None to leave the member out: clients read a missing member as false."""
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
