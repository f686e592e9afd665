"""The reader of responses: which responses it accepts and refuses, and its limits, however a response is split."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamws.errors import InvalidHandshake
from streamws.handshake.headers import Headers
from streamws.handshake.response_reader import MAX_BODY, ResponseReader
from streamws.options import Limits

HEAD_101 = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
BIG = bytes(range(256)) * 300

Result = tuple[int, Headers, bytes, bytes] | str | None


def read(pieces: Iterable[bytes], limits: Limits | None = None, *, end: bool = True, connect: bool = False) -> Result:
    """Feed the chunks to a reader, and then the end of the connection.

    :returns: The result of the reader.
    """
    reader = ResponseReader(limits or Limits(), connect=connect)
    behind = b""
    response = None
    try:
        for piece in pieces:
            if response is None:
                response = reader.feed(piece)
            else:
                behind += piece
    except InvalidHandshake as error:
        return str(error)
    if response is None and end:
        response = reader.finish()
    if response is None:
        return None
    ends_http = response.status == 101 or (connect and 200 <= response.status < 300)
    return response.status, response.headers, response.body, reader.rest + (behind if ends_http else b"")


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


GOOD: dict[str, tuple[bytes, int, bytes]] = {
    "length": (head("404 Not Found", "Content-Length: 5") + b"no\r\n!", 404, b"no\r\n!"),
    "length and more": (head("404 Not Found", "Content-Length: 2") + b"noHTTP/1.1", 404, b"no"),
    "length and another response": (
        head("404 Not Found", "Content-Length: 2") + b"no" + head("200 OK", "Content-Length: 3") + b"yes",
        404,
        b"no",
    ),
    "length and a handshake": (
        head("404 Not Found", "Content-Length: 2") + b"no" + head("101 X", "Upgrade: websocket", "Connection: Upgrade"),
        404,
        b"no",
    ),
    "length zero": (head("404 Not Found", "Content-Length: 0"), 404, b""),
    "length cut": (head("404 Not Found", "Content-Length: 9") + b"no", 404, b"no"),
    "chunked": (
        head("401 X", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n",
        401,
        b"abcde",
    ),
    "chunked cut": (head("401 X", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n5\r\nde", 401, b"abcde"),
    "chunked broken": (head("401 X", "Transfer-Encoding: chunked") + b"3\r\nabc\r\nzz\r\n", 401, b"abc"),
    "to the end": (head("500 X", "Connection: close") + b"all\r\n\r\nof it", 500, b"all\r\n\r\nof it"),
    "old": (b"HTTP/1.0 503 X\r\nA: b\r\n\r\nsorry", 503, b"sorry"),
    "no body": (head("204 X") + b"none", 204, b""),
    "no phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    "announced upgrade": (
        head("426 X", "Upgrade: websocket", "Connection: Upgrade, close", "Content-Length: 3") + b"use",
        426,
        b"use",
    ),
    "interim": (head("103 X", "Link: a") + head("100 X") + head("403 X", "Content-Length: 2") + b"no", 403, b"no"),
    "latin-1": (head("403 \xff", "A: \xff", "Content-Length: 2") + b"no", 403, b"no"),
}


@pytest.mark.parametrize("name", GOOD)
def test_reader_returns_response_in_any_chunks(name: str) -> None:
    data, status, body = GOOD[name]
    found = read([data])
    assert isinstance(found, tuple)
    assert (found[0], found[2]) == (status, body)
    assert "Link" not in found[1]
    assert read(bytewise(data)) == found


@pytest.mark.parametrize(
    "pieces", [[HEAD_101 + b"\x81\x01a"], [HEAD_101, b"\x81\x01a"], bytewise(HEAD_101 + b"\x81\x01a")]
)
def test_reader_leaves_bytes_after_101(pieces: list[bytes]) -> None:
    assert read(pieces) == (101, Headers({"Upgrade": "websocket", "Connection": "Upgrade"}), b"", b"\x81\x01a")


@pytest.mark.parametrize("fields", ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"])
def test_reader_accepts_101_with_any_fields(fields: str) -> None:
    found = read([f"HTTP/1.1 101 X\r\n{fields}\r\n".encode() + b"\x81\x00"])
    assert isinstance(found, tuple)
    assert (found[0], found[2:]) == (101, (b"", b"\x81\x00"))


@pytest.mark.parametrize("piece", [1000, 65536, 10**9])
@pytest.mark.parametrize("framing", ["Connection: close", "Content-Length: 76800"])
def test_reader_reads_64_kib_of_body(framing: str, piece: int) -> None:
    data = head("500 X", framing) + BIG
    reader = ResponseReader(Limits())
    response = None
    for place in range(0, len(data), piece):
        assert response is None
        response = reader.feed(data[place : place + piece])
        if response is not None:
            break
    assert response is not None
    assert response.body == BIG[:MAX_BODY]


def test_reader_returns_nothing_before_head_is_complete() -> None:
    reader = ResponseReader(Limits())
    assert not reader.started
    for byte in bytewise(HEAD_101[:-1]):
        assert reader.feed(byte) is None
        assert reader.started
    assert reader.finish() is None


def test_reader_returns_partial_body() -> None:
    reader = ResponseReader(Limits())
    assert reader.feed(head("503 X", "Content-Length: 100") + b"bu") is None
    assert reader.feed(b"sy") is None
    response = reader.finish()
    assert response is not None
    assert (response.status, response.body) == (503, b"busy")


MALFORMED = "malformed response head: "
HTTP_1_0 = "invalid handshake response: it is HTTP/1.0"
BARE_LF = MALFORMED + "a line ends with LF instead of CRLF"
TLS = "the response is TLS, not HTTP: use wss:// on this port"

BAD: dict[bytes, str] = {
    b"\x15\x03\x01\x00\x02\x02\x46": TLS,
    b"\x16\x03\x03\x00\x7a\x02": TLS,
    b"SSH-2.0-OpenSSH_9.2\r\n": "the response is not HTTP/1.1: it starts with b'S",
    b"\x00\x00\x06\x04\x00": r"the response is not HTTP/1.1: it starts with b'\x00",
    b"HTTP/2 101 X\r\n\r\n": "the response is not HTTP/1.1: it starts with b'HTTP/2",
    b"http/1.1 101 X\r\n\r\n": "the response is not HTTP/1.1",
    b"\r\nHTTP/1.1 101 X\r\n\r\n": "the response is not HTTP/1.1",
    b"HTTP/1.2 101 X\r\n\r\n": MALFORMED,
    b"HTTP/1.1 99 X\r\n\r\n": MALFORMED,
    b"HTTP/1.1 1000 X\r\n\r\n": MALFORMED,
    b"HTTP/1.1 abc X\r\n\r\n": MALFORMED,
    b"HTTP/1.1  101 X\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\n": BARE_LF,
    b"HTTP/1.1 101 X\r\nA: b\n": BARE_LF,
    b"HTTP/1.1 101 X\r\nA: b\r\n\n": BARE_LF,
    b"HTTP/1.1 101 X\r\nA : b\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\r\nA: b\r\n c\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\r\nA: b\x00\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\r\nA: b\rc\r\n\r\n": MALFORMED,
    b"HTTP/1.1 101 X\r\nno colon\r\n\r\n": MALFORMED,
    b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n": MALFORMED,
    b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n": MALFORMED,
    b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": MALFORMED,
    b"HTTP/1.0 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n": HTTP_1_0,
    b"HTTP/1.1 100 X\r\n\r\n" * 11: "more than 10 interim responses, the last one 100",
}


@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data)[:60])
def test_reader_refuses_invalid_response(data: bytes) -> None:
    whole, by_bytes = read([data]), read(bytewise(data))
    for found in (whole, by_bytes):
        assert isinstance(found, str)
        assert found.startswith(BAD[data][:50])
    if "is not HTTP/1.1" not in BAD[data]:  # this reason includes the received bytes
        assert whole == by_bytes


def test_reader_accepts_up_to_ten_interim_responses() -> None:
    found = read([head("102 X") * 10 + HEAD_101])
    assert isinstance(found, tuple)
    assert found[0] == 101


LIMITS = Limits(max_header_line=40, max_headers=3, max_head=120)
LINE = "X: " + "a" * 37
LIMIT_LINE = "response head too large: a line of the head is longer than 40 bytes (Limits.max_header_line)"
LIMIT_COUNT = "response head too large: more than 3 header lines (Limits.max_headers)"
LIMIT_HEAD = "response head too large: the head is longer than 120 bytes (Limits.max_head)"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (head("200 X", LINE), 200),
        (head("200 X", LINE + "a"), LIMIT_LINE),
        (head("200 " + "a" * 27), 200),
        (head("200 " + "a" * 28), LIMIT_LINE),
        (head("200 X", "A: 1", "B: 2", "C: 3"), 200),
        (head("200 X", "A: 1", "B: 2", "C: 3", "D: 4"), LIMIT_COUNT),
        (head("200 " + "a" * 12, LINE, LINE, "A: 12"), 200),
        (head("200 " + "a" * 12, LINE, LINE, "A: 123"), LIMIT_HEAD),
        (head("200 X", LINE + "a")[:-4], LIMIT_LINE),  # before the line ends
        (b"HTTP/1.1 200 X\r\nA: 1\r\nB: 2\r\nC: 3\r\nD", LIMIT_COUNT),
        (
            head("100 X", "A: 1", "B: 2", "C: 3") + head("200 X", "A: 1", "B: 2", "C: 3"),
            200,
        ),  # the limit applies to each response
    ],
    ids=ascii,
)
def test_reader_applies_limits_exactly_in_any_chunks(data: bytes, expected: int | str) -> None:
    found = read([data], LIMITS)
    assert (found[0] if isinstance(found, tuple) else found) == expected
    assert read(bytewise(data), LIMITS) == found


def test_reader_does_not_count_body_against_limit_of_head() -> None:
    found = read([head("200 X", "Content-Length: 1000") + b"a" * 1000], LIMITS)
    assert isinstance(found, tuple)
    assert len(found[2]) == 1000


PARTS = [b"HTTP/1.1 ", b"HTTP/1.0 ", b"200 X", b"101 X", b"100 X", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"A: b"]
PARTS += [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"abc", b":", b"\x00"]
SOUP = st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join)
ANSWERS = st.one_of(SOUP, SOUP.map(lambda soup: b"HTTP/1.1 200 X\r\n" + soup), st.sampled_from([*BAD]))
ANSWERS = st.one_of(ANSWERS, st.sampled_from([data for data, _, _ in GOOD.values()]), st.binary(max_size=50))


@given(data=ANSWERS, cuts=st.lists(st.integers(0, 200), max_size=8), connect=st.booleans(), end=st.booleans())
def test_reader_returns_same_result_in_any_chunks(data: bytes, cuts: list[int], connect: bool, end: bool) -> None:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:stop] for start, stop in pairwise(places)]
    whole = read([data], LIMITS, end=end, connect=connect)
    cut = read(pieces, LIMITS, end=end, connect=connect)
    if isinstance(whole, str) and "is not HTTP/1.1" in whole:
        assert isinstance(cut, str)
    else:
        assert cut == whole


@pytest.mark.parametrize("fields", [[], ["Content-Length: 5"], ["Transfer-Encoding: chunked"]])
def test_reader_reads_no_body_after_response_to_connect(fields: list[str]) -> None:
    found = read([head("200 X", *fields) + b"hello"], connect=True)
    assert isinstance(found, tuple)
    assert (found[0], found[2:]) == (200, (b"", b"hello"))
