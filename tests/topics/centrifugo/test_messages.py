"""The messages of the JSON protocol, without a connection."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamws.topics import Position
from streamws.topics.centrifugo import replies
from streamws.topics.centrifugo.codes import DisconnectCode, ErrorCode
from streamws.topics.centrifugo.commands import (
    BadRequest,
    Call,
    Command,
    Connect,
    History,
    NotServed,
    Pong,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Send,
    Subscribe,
    Unsubscribe,
    decode_commands,
)

COMMANDS: list[tuple[str, Command]] = [
    ("{}", Pong()),
    ('{"id":1,"connect":{}}', Connect(1, "", None, "", "")),
    (
        '{"id":1,"connect":{"token":"t","data":{"a":[1]},"name":"js","version":"2","headers":{"x":"y"}}}',
        Connect(1, "t", {"a": [1]}, "js", "2"),
    ),
    ('{"id":2,"refresh":{"token":"t"}}', Refresh(2, "t")),
    ('{"id":3,"subscribe":{"channel":"news"}}', Subscribe(3, "news", None, False, False)),
    (
        '{"id":3,"subscribe":{"channel":"news","recover":true,"epoch":"e","offset":7,"join_leave":true,"flag":3}}',
        Subscribe(3, "news", Position("e", 7), True, True),
    ),
    ('{"id":3,"subscribe":{"channel":"news","recover":true}}', Subscribe(3, "news", Position("", 0), False, False)),
    ('{"id":3,"subscribe":{"channel":"news","epoch":"e","flag":1}}', Subscribe(3, "news", None, False, False)),
    ('{"id":3,"subscribe":{"channel":"news","type":1}}', NotServed(3, ErrorCode.NOT_AVAILABLE)),
    ('{"id":3,"subscribe":{"channel":"news","tf":{"op":"eq"}}}', NotServed(3, ErrorCode.NOT_AVAILABLE)),
    ('{"id":3,"subscribe":{"channel":"news","tf":null}}', Subscribe(3, "news", None, False, False)),
    ('{"id":4,"unsubscribe":{"channel":"news"}}', Unsubscribe(4, "news")),
    ('{"id":5,"publish":{"channel":"news"}}', Publish(5, "news", None)),
    ('{"id":5,"publish":{"channel":"news","data":null}}', Publish(5, "news", None)),
    ('{"id":5,"publish":{"channel":"news","data":[1,"\\u00e9"]}}', Publish(5, "news", [1, "é"])),
    ('{"id":5,"publish":{"channel":"news","data":1,"type":1,"key":"k"}}', NotServed(5, ErrorCode.NOT_AVAILABLE)),
    ('{"id":6,"presence":{"channel":"news"}}', Presence(6, "news")),
    ('{"id":7,"presence_stats":{"channel":"news"}}', PresenceStats(7, "news")),
    ('{"id":8,"history":{"channel":"news"}}', History(8, "news", 0, None, False)),
    (
        '{"id":8,"history":{"channel":"news","limit":-1,"since":{"offset":3,"epoch":"e"},"reverse":true}}',
        History(8, "news", -1, Position("e", 3), True),
    ),
    ('{"id":9,"rpc":{"method":"add","data":[1,2]}}', Call(9, "add", [1, 2])),
    ('{"id":9,"rpc":{}}', Call(9, "", None)),
    ('{"send":{"data":"x"}}', Send("x")),
    ('{"id":10,"send":{"data":"x"}}', Send("x")),
    ('{"id":11,"ping":{}}', NotServed(11, ErrorCode.NOT_AVAILABLE)),
    ('{"id":12,"sub_refresh":{"channel":"news","token":"t"}}', NotServed(12, ErrorCode.NOT_AVAILABLE)),
    ('{"id":13,"teleport":{}}', NotServed(13, ErrorCode.METHOD_NOT_FOUND)),
    ('{"id":13,"method":1,"params":{}}', NotServed(13, ErrorCode.METHOD_NOT_FOUND)),
    ('{"id":13}', NotServed(13, ErrorCode.METHOD_NOT_FOUND)),
    ('{"id":4294967295,"presence":null,"rpc":{"method":"m"}}', Call(2**32 - 1, "m", None)),
    # Of several methods the first one of the protocol counts.
    ('{"id":14,"rpc":{"method":"m"},"unsubscribe":{"channel":"news"}}', Unsubscribe(14, "news")),
]


@pytest.mark.parametrize(("line", "command"), COMMANDS)
def test_command_is_decoded(line: str, command: Command) -> None:
    assert list(decode_commands(line)) == [command]
    assert list(decode_commands(line.encode())) == [command]


BAD: list[tuple[str | bytes, str]] = [
    ("", "not JSON"),
    ("\n", "not JSON"),
    (" ", "not JSON"),
    ("hello", "not JSON"),
    ('{"id":1', "not JSON"),
    ('{"id":NaN}', "not JSON"),
    ('{"id":1,"rpc":{"data":-Infinity}}', "not JSON"),
    ('{"id":' + "1" * 5000 + "}", "not JSON"),
    ('{"id":1,"rpc":{"data":[1e999]}}', "not JSON"),
    ('{"id":1,"rpc":{"data":-1e999}}', "not JSON"),
    ("[" * 100_000, "not JSON"),
    ('{"id":1}{"id":2}', "not JSON"),
    (b"\x08\xff", "not JSON, but binary: the Protobuf protocol is not served"),
    ("[]", "a command must be an object"),
    ("null", "a command must be an object"),
    ('{"id":-1,"rpc":{}}', "id must be an integer from 0 to 4294967295"),
    ('{"id":4294967296,"rpc":{}}', "id must be an integer from 0 to 4294967295"),
    ('{"id":1.0,"rpc":{}}', "id must be an integer from 0 to 4294967295"),
    ('{"id":true,"rpc":{}}', "id must be an integer from 0 to 4294967295"),
    ('{"id":"1","rpc":{}}', "id must be an integer from 0 to 4294967295"),
    ('{"rpc":{"method":"m"}}', "a command needs an id"),
    ('{"id":0,"subscribe":{"channel":"news"}}', "a command needs an id"),
    ('{"teleport":{}}', "a command needs an id"),
    ('{"id":1,"connect":[]}', "connect must be an object"),
    ('{"send":"x"}', "send must be an object"),
    ('{"id":1,"connect":{"token":5}}', "token must be a string"),
    ('{"id":1,"connect":{"token":"\\ud800"}}', "invalid Unicode"),
    ('{"id":1,"refresh":{}}', "a token is required"),
    ('{"id":1,"subscribe":{}}', "a channel is required"),
    ('{"id":1,"subscribe":{"channel":["news"]}}', "channel must be a string"),
    ('{"id":1,"subscribe":{"channel":"news","recover":1}}', "recover must be true or false"),
    (
        '{"id":1,"subscribe":{"channel":"news","recover":true,"offset":-1}}',
        "offset must be an integer from 0 to 18446744073709551615",
    ),
    ('{"id":1,"publish":{"channel":"","data":1}}', "a channel is required"),
    ('{"id":1,"history":{"channel":"news","since":3}}', "since must be an object"),
    ('{"id":1,"presence":{}}', "a channel is required"),
]


@pytest.mark.parametrize(("message", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_anything_else_is_a_bad_request(message: str | bytes, reason: str) -> None:
    with pytest.raises(BadRequest) as caught:
        list(decode_commands(message))
    assert str(caught.value) == reason


def test_batch_gives_its_commands_up_to_the_first_bad_one() -> None:
    commands = decode_commands('{"id":1,"connect":{}}\n{"id":3,"rpc":{"method":"a\\nb"}}\r\n {}\nhello\n{}\n')
    assert next(commands) == Connect(1, "", None, "", "")
    assert next(commands) == Call(3, "a\nb", None)
    assert next(commands) == Pong()
    with pytest.raises(BadRequest, match=r"^not JSON$"):
        next(commands)
    assert list(commands) == []


@pytest.mark.parametrize("message", ["{}", "{}\n", b"{}\n", " {} "])
def test_last_line_may_end(message: str | bytes) -> None:
    assert list(decode_commands(message)) == [Pong()]


@pytest.mark.parametrize("message", ["{}\n\n", "\n{}", "{}\n\n{}", "{}\n \n"])
def test_empty_line_is_a_bad_request(message: str) -> None:
    # A message could have a million of them.
    with pytest.raises(BadRequest, match=r"^not JSON$"):
        list(decode_commands(message))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
METHODS = ["connect", "subscribe", "publish", "presence", "history", "rpc", "send", "refresh", "unsubscribe", "ping"]
MEMBERS = ["channel", "data", "token", "epoch", "offset", "since", "limit", "recover", "flag", "type", "method"]


@given(
    st.text()
    | st.binary()
    | JSON.map(json.dumps)
    | st.fixed_dictionaries(
        {"id": st.just(1) | JSON},
        optional={name: st.dictionaries(st.sampled_from(MEMBERS), JSON) | JSON for name in METHODS},
    ).map(json.dumps)
)
def test_any_message_gives_commands_or_a_bad_request(message: str | bytes) -> None:
    try:
        found = [repr(command) for command in decode_commands(message)]
    except BadRequest as error:
        found = [str(error)]
    assert found
    assert all(map(str.isprintable, found))


# Values ------------------------------------------------------------------------------------------------------------


@given(JSON)
def test_encoded_value_is_one_line_that_decodes_to_it(value: Any) -> None:
    text = replies.encode(value)
    assert "\n" not in text
    assert json.loads(text.encode()) == value
    assert json.loads(replies.embed(json.dumps(value, indent=1), trusted=True)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object(), {1, 2}])
def test_value_that_json_cannot_express_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        replies.encode(value)


def test_half_of_a_surrogate_pair_is_escaped() -> None:
    assert replies.encode("é\ud800") == '"\\u00e9\\ud800"'


@pytest.mark.parametrize(
    ("payload", "trusted", "embedded"),
    [
        ('{"a": 1}', True, '{"a": 1}'),
        (b'{"a":"\xc3\xa9"}', False, '{"a":"é"}'),
        ('{\n  "a": 1\n}', True, '{"a":1}'),
        ("[1,\n2]", False, "[1,2]"),
    ],
)
def test_payload_is_embedded_in_one_line(payload: str | bytes, trusted: bool, embedded: str) -> None:
    assert replies.embed(payload, trusted=trusted) == embedded


@pytest.mark.parametrize("payload", ["hello", '{"a":1}}', "", b"\xff", "NaN", "\n", "1\n2"])
def test_payload_that_is_not_json_is_refused(payload: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is that of the decoder
        replies.embed(payload, trusted=False)


# Replies and pushes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (replies.reply(3, "unsubscribe", "{}"), '{"id":3,"unsubscribe":{}}'),
        (
            replies.error_reply(3, 103, "permission denied", False),
            '{"id":3,"error":{"code":103,"message":"permission denied"}}',
        ),
        (
            replies.error_reply(3, 400, 'a "b"\n', True),
            '{"id":3,"error":{"code":400,"message":"a \\"b\\"\\n","temporary":true}}',
        ),
        (
            replies.connect_result("c", data=None, ttl=None, ping=25),
            '{"client":"c","ping":25,"pong":true}',
        ),
        (
            replies.connect_result("c", data='{"a":1}', ttl=60, ping=5),
            '{"client":"c","expires":true,"ttl":60,"data":{"a":1},"ping":5,"pong":true}',
        ),
        (replies.refresh_result("c", ttl=None), '{"client":"c"}'),
        (replies.refresh_result("c", ttl=60), '{"client":"c","expires":true,"ttl":60}'),
        (replies.subscribe_result(None, recovering=False, recovered=False, publications=[]), "{}"),
        (
            replies.subscribe_result(Position("e", 0), recovering=False, recovered=False, publications=[]),
            '{"recoverable":true,"epoch":"e","offset":0,"positioned":true}',
        ),
        (
            replies.subscribe_result(
                Position("e", 2),
                recovering=True,
                recovered=True,
                publications=['{"data":1,"offset":1}', '{"data":2,"offset":2}'],
            ),
            '{"recoverable":true,"epoch":"e","publications":[{"data":1,"offset":1},{"data":2,"offset":2}],'
            '"recovered":true,"offset":2,"positioned":true,"was_recovering":true}',
        ),
        (replies.publication("1", offset=0), '{"data":1}'),
        (replies.publication("1", offset=7, key="k"), '{"data":1,"offset":7,"key":"k"}'),
        (replies.client_info("u", "c", None), '{"user":"u","client":"c"}'),
        (replies.client_info("u", "c", "[1]"), '{"user":"u","client":"c","conn_info":[1]}'),
        (replies.presence_result({}), '{"presence":{}}'),
        (replies.presence_result({"c": "{}", "d": "{}"}), '{"presence":{"c":{},"d":{}}}'),
        (replies.presence_stats_result(3, 2), '{"num_clients":3,"num_users":2}'),
        (replies.history_result([], Position("e", 5)), '{"publications":[],"epoch":"e","offset":5}'),
        (replies.history_result(["{}", "{}"], Position("e", 5)), '{"publications":[{},{}],"epoch":"e","offset":5}'),
        (replies.push('a"b', "pub", '{"data":1}'), '{"push":{"channel":"a\\"b","pub":{"data":1}}}'),
        (
            replies.unsubscribe_push("a", 2500, "insufficient state"),
            '{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}',
        ),
    ],
)
def test_reply_is_exact(encoded: str, expected: str) -> None:
    assert encoded == expected
    json.loads(encoded)


def test_texts_of_codes_are_those_of_the_protocol() -> None:
    assert ErrorCode(100).message == "internal server error"
    assert ErrorCode(104).message == "method not found"
    assert ErrorCode(112).message == "unrecoverable position"
    assert DisconnectCode(3001).reason == "shutdown"
    assert DisconnectCode(3004).reason == "internal server error"
    assert DisconnectCode(3005).reason == "connection expired"
    assert DisconnectCode(3008).reason == "slow"
    assert DisconnectCode(3503).reason == "force disconnect"
