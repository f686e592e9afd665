"""`Headers`: an immutable multi-value mapping of header fields."""

import copy
import pickle
import sys
from typing import Any

import pytest

from streamws.errors import InvalidHeader
from streamws.handshake.head import HeaderFields, Headers, HeadReader, is_token
from streamws.options import Limits


def test_headers_find_names_in_any_case_and_join_fields() -> None:
    headers = Headers([("Host", "a"), ("X-One", "1"), ("x-one", " 2 "), ("Empty", "")])
    assert headers["host"] == headers["HOST"] == "a"
    assert headers["X-ONE"] == "1, 2"
    assert headers.get_all("x-One") == ("1", "2")
    assert headers["empty"] == ""
    assert headers.get("nothing") is None
    assert headers.get_all("nothing") == ()
    assert "EMPTY" in headers
    assert "nothing" not in headers
    others: list[object] = [3, b"host", None]
    assert not any(headers.__contains__(key) for key in others)
    with pytest.raises(KeyError, match="nothing"):
        headers["nothing"]


def test_headers_iterate_in_order_each_name_once() -> None:
    headers = Headers([("B", "1"), ("a", "2"), ("b", "3")])
    assert list(headers) == ["B", "a"]
    assert len(headers) == 2
    assert dict(headers) == {"B": "1, 3", "a": "2"}
    assert list(headers.items_all()) == [("B", "1"), ("a", "2"), ("b", "3")]
    assert repr(headers) == "Headers([('B', '1'), ('a', '2'), ('b', '3')])"
    assert headers.wire == b"\r\nB: 1\r\na: 2\r\nb: 3"


def test_headers_empty() -> None:
    headers = Headers()
    assert (len(headers), list(headers), list(headers.items_all()), headers.wire) == (0, [], [], b"")
    assert not headers
    assert repr(headers) == "Headers([])"


@pytest.mark.parametrize(
    "fields", ["Host: a", "ab", b"Host: a", ["Host: a"], [("Host",)], [("Host", "a", "b")], 3, [4]]
)
def test_headers_name_the_accepted_types_for_another_one(fields: Any) -> None:
    with pytest.raises(InvalidHeader, match="headers are a mapping, or pairs of a name and a value, not "):
        Headers(fields)


@pytest.mark.parametrize("name", ["ost", "Host: a", "Host: a\r\nB", "", ".ost", "B: 1\r\nHost", "é"])
def test_headers_find_whole_names_only(name: str) -> None:
    headers = Headers({"Host": "a", "B": "1"})
    assert name not in headers
    assert headers.get_all(name) == ()


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (Headers([("a", "1"), ("B", "2")]), True),
        (Headers([("b", "2"), ("A", "1")]), True),
        ({"A": "1", "b": "2"}, True),
        (Headers([("a", "1")]), False),
        (Headers([("a", "1"), ("b", "2"), ("b", "2")]), False),
        ({"A": "1", "b": "3"}, False),
        ({"A": "1", "b": "\n"}, False),
        ([("a", "1"), ("B", "2")], False),
    ],
)
def test_headers_equality(other: object, equal: bool) -> None:
    headers = Headers([("a", "1"), ("B", "2")])
    assert (headers == other) is equal
    if equal and isinstance(other, Headers):
        assert hash(headers) == hash(other)


def test_headers_of_headers_copy_and_pickle() -> None:
    headers = Headers({"A": "1"})
    assert Headers(headers) == headers == copy.copy(headers) == pickle.loads(pickle.dumps(headers))


@pytest.mark.parametrize(
    "fields",
    [
        [("A", "b\rc")],
        [("A", "b\nc")],
        [("A", "b\r\nX: y")],
        [("A", "\0")],
        [("A", "\x7f")],
        [("A", "\x1f")],
        [("A", "\ud800")],
        [("", "b")],
        [("A B", "c")],
        [("A:", "c")],
        [("A\r\n", "c")],
        [("é", "c")],
        [("A", 1)],
        [(b"A", "b")],
        {"A": "ok", "B": "\n"},
    ],
)
def test_headers_refuse_malformed_fields(fields: HeaderFields) -> None:
    with pytest.raises(InvalidHeader):
        Headers(fields)


@pytest.mark.parametrize("value", ["a\tb", "é", "日本", "~!\"#$%&'()*+,-./:;<=>?@[]^_`{|}"])
def test_headers_keep_every_valid_value(value: str) -> None:
    assert Headers({"A": value})["a"] == value


@pytest.mark.parametrize(("value", "text"), [(b"caf\xc3\xa9", "café"), (b"caf\xe9", "café"), (b"\xff\xc3", "ÿÃ")])
def test_headers_decode_utf8_else_latin1(value: bytes, text: str) -> None:
    headers = Headers.from_wire(b"\r\nHost: a\r\nA: " + value + b" \t")
    assert headers["A"] == text
    assert ("A", text) in list(headers.items_all())


def test_headers_of_a_browser_are_small() -> None:
    request = HeadReader(Limits()).feed(
        b"GET / HTTP/1.1\r\n"
        b"Host: server.example.com:8765\r\n"
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Origin: http://server.example.com\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Connection: keep-alive, Upgrade\r\n"
        b"Upgrade: websocket\r\n\r\n"
    )
    assert request is not None
    headers = request.headers
    assert sys.getsizeof(headers) + sys.getsizeof(headers.wire) < 600
    assert not hasattr(headers, "__dict__")


@pytest.mark.parametrize(("text", "good"), [("a", True), ("!#$%&'*+-.^_`|~09Az", True), ("", False), ("a b", False)])
def test_is_token(text: str, good: bool) -> None:
    assert is_token(text) is good
