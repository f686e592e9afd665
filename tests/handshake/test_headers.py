"""`Headers`, an immutable mapping of header fields."""

import copy
import pickle
import sys
from http.cookies import SimpleCookie
from typing import Any

import pytest

from streamws.errors import InvalidHeader
from streamws.handshake.headers import HeaderFields, Headers, is_token
from streamws.handshake.request_reader import RequestReader
from streamws.options import Limits


def test_headers_ignore_case_and_join_fields() -> None:
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


def test_headers_join_cookies_with_semicolon() -> None:
    headers = Headers([("Cookie", "sid=abc"), ("A", "1"), ("cookie", "theme=dark"), ("Set-Cookie", "x"), ("A", "2")])
    cookies = "sid=abc; theme=dark"
    assert headers["Cookie"] == headers["COOKIE"] == headers.get("cookie") == cookies
    assert dict(headers) == {"Cookie": cookies, "A": "1, 2", "Set-Cookie": "x"}
    assert list(headers.items()) == [("Cookie", cookies), ("A", "1, 2"), ("Set-Cookie", "x")]
    assert headers.get_all("Cookie") == ("sid=abc", "theme=dark")
    assert {name: morsel.value for name, morsel in SimpleCookie(headers["Cookie"]).items()} == {
        "sid": "abc",
        "theme": "dark",
    }
    assert Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])["Set-Cookie"] == "a=1, b=2"


@pytest.mark.parametrize("padding", [0, 10_000])
def test_headers_find_same_values_in_short_and_long_heads(padding: int) -> None:
    headers = Headers([("Pad", "x" * padding), ("A", "1"), ("a", "2"), ("Cookie", "3"), ("cookie", "4"), ("B", "")])
    names = list(headers)
    assert names == ["Pad", "A", "Cookie", "B"]
    assert [headers[name.upper()] for name in names] == ["x" * padding, "1, 2", "3; 4", ""]
    assert headers.get_all("A") == ("1", "2")
    assert headers.get_all("Coo\u212aie") == ()  # the Kelvin sign, whose lowercase is "k"
    assert "Coo\u212aie" not in headers
    assert headers.get("nothing") is None
    assert copy.copy(headers) == headers == Headers.from_wire(headers.wire)


def test_headers_iterate_over_each_name_once_in_order() -> None:
    headers = Headers([("B", "1"), ("a", "2"), ("b", "3")])
    assert list(headers) == ["B", "a"]
    assert len(headers) == 2
    assert dict(headers) == {"B": "1, 3", "a": "2"}
    assert list(headers.items_all()) == [("B", "1"), ("a", "2"), ("b", "3")]
    assert repr(headers) == "Headers([('B', '1'), ('a', '2'), ('b', '3')])"
    assert headers.wire == b"\r\nB: 1\r\na: 2\r\nb: 3"


def test_empty_headers_contain_nothing() -> None:
    headers = Headers()
    assert (len(headers), list(headers), list(headers.items_all()), headers.wire) == (0, [], [], b"")
    assert not headers
    assert repr(headers) == "Headers([])"


@pytest.mark.parametrize(
    "fields", ["Host: a", "ab", b"Host: a", ["Host: a"], [("Host",)], [("Host", "a", "b")], 3, [4]]
)
def test_headers_of_other_type_are_refused_with_accepted_types(fields: Any) -> None:
    with pytest.raises(InvalidHeader, match=r"headers must be a mapping or \(name, value\) pairs, not "):
        Headers(fields)


@pytest.mark.parametrize("name", ["ost", "Host: a", "Host: a\r\nB", "", ".ost", "B: 1\r\nHost", "é"])
def test_headers_find_only_whole_names(name: str) -> None:
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
def test_headers_compare_fields_without_case_of_names(other: object, equal: bool) -> None:
    headers = Headers([("a", "1"), ("B", "2")])
    assert (headers == other) is equal
    if equal and isinstance(other, Headers):
        assert hash(headers) == hash(other)


def test_headers_can_be_rebuilt_copied_and_pickled() -> None:
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
def test_headers_refuse_fields_that_would_break_message(fields: HeaderFields) -> None:
    with pytest.raises(InvalidHeader):
        Headers(fields)


@pytest.mark.parametrize("value", ["a\tb", "é", "日本", "~!\"#$%&'()*+,-./:;<=>?@[]^_`{|}"])
def test_headers_keep_every_valid_value(value: str) -> None:
    assert Headers({"A": value})["a"] == value


@pytest.mark.parametrize(("value", "text"), [(b"caf\xc3\xa9", "café"), (b"caf\xe9", "café"), (b"\xff\xc3", "ÿÃ")])
def test_headers_decode_utf8_or_else_latin1(value: bytes, text: str) -> None:
    headers = Headers.from_wire(b"\r\nHost: a\r\nA: " + value + b" \t")
    assert headers["A"] == text
    assert ("A", text) in list(headers.items_all())


def test_headers_of_browser_use_little_memory() -> None:
    request = RequestReader(Limits()).feed(
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
def test_is_token_accepts_only_tokens(text: str, good: bool) -> None:
    assert is_token(text) is good
