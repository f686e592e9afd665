"""Frames that break a rule, and valid frames at the boundaries (ARCHITECTURE.md, Wire rules)."""

import asyncio
import logging

import pytest

from helpers.fixtures import Connect, Serve, client_of, echo
from helpers.frames import BINARY, CLOSE, PING, PONG, TEXT, binary, close, close_of, frames, request, text, xor
from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.frames import frame as server_frame
from helpers.peers import RawClient
from helpers.waiting import within
from streamws import Cause, Client, Close, CloseOutcome, Limits, Side

MAX = 1000
LIMITS = Limits(max_message_size=MAX)

split = pytest.mark.parametrize("split", [0, 1], ids=["whole", "split"])


def lines_about(raw: RawClient, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines that were logged about a connection after it opened."""
    name = "{}:{}".format(*raw.address)
    lines = [record.getMessage() for record in caplog.records if record.name == "streamws"]
    return [line for line in lines if name in line and "opened" not in line]


# Each is sent on a new connection, and the server must answer with a Close frame with this code.
BAD = [
    *(
        pytest.param(frame(TEXT | bit, b"x"), 1002, id=f"{name} on text")
        for name, bit in [("rsv1", 0x40), ("rsv2", 0x20), ("rsv3", 0x10), ("all rsv", 0x70)]
    ),
    pytest.param(frame(PING | 0x40), 1002, id="rsv1 on ping"),
    pytest.param(frame(CLOSE | 0x40), 1002, id="rsv1 on close"),
    pytest.param(frame(0x01, b"a", fin=False) + frame(0xC0, b"b"), 1002, id="rsv1 on a continuation"),
    *(
        pytest.param(bytes((first, 0x80)), 1002, id=f"the first bytes of opcode {first & 15:x}")
        for first in (0x83, 0x84, 0x85, 0x86, 0x87, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x03)
    ),
    *(
        pytest.param(server_frame(first), 1002, id=f"unmasked {name}")
        for name, first in [("text", TEXT), ("ping", PING), ("close", CLOSE)]
    ),
    pytest.param(server_frame(TEXT, b"x" * 70000)[:10], 1002, id="unmasked large frame"),
    pytest.param(b"\x82\xfe\x00\x7d" + bytes(129), 1002, id="125 in 16 bits"),
    pytest.param(b"\x82\xfe\x00\x00" + bytes(4), 1002, id="0 in 16 bits"),
    pytest.param(b"\x82\xff" + (65535).to_bytes(8, "big") + bytes(4), 1002, id="65535 in 64 bits"),
    pytest.param(b"\x82\xff" + (1 << 63).to_bytes(8, "big") + bytes(4), 1002, id="top bit of the length"),
    pytest.param(b"\x82\xff" + b"\xff" * 8 + bytes(4), 1002, id="all bits of the length"),
    *(
        pytest.param(header(first, 126), 1002, id=f"{name} of 126 bytes")
        for name, first in [("ping", PING), ("pong", PONG), ("close", CLOSE)]
    ),
    *(
        pytest.param(frame(first, fin=False), 1002, id=f"fragmented {name}")
        for name, first in [("ping", PING), ("pong", PONG), ("close", CLOSE)]
    ),
    pytest.param(frame(0x80, b"x"), 1002, id="stray last continuation"),
    pytest.param(frame(0x00, b"x", fin=False), 1002, id="stray continuation"),
    pytest.param(frame(0x01, b"a", fin=False) + text("b"), 1002, id="text inside a message"),
    pytest.param(frame(0x02, b"a", fin=False) + frame(0x02, b"b", fin=False), 1002, id="binary inside a message"),
    pytest.param(frame(CLOSE, b"\x03"), 1002, id="close of one byte"),
    *(
        pytest.param(close(code), 1002, id=f"close code {code}")
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    ),
    *(
        pytest.param(frame(TEXT, payload), 1007, id=f"text {payload!r}")
        for payload in (
            *(b"\xff", b"\x80", b"abc\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"),
            b"x" * 200 + b"\xff",
        )
    ),
    pytest.param(header(TEXT, 500) + xor(b"ab\xc3\x28"), 1007, id="bad text in an open frame"),
    pytest.param(
        frame(0x01, b"ok \xe2\x82", fin=False) + frame(0x00, b"\x28", fin=False), 1007, id="bad text across fragments"
    ),
    pytest.param(frame(0x01, b"\xe2\x82", fin=False) + frame(0x80), 1007, id="text that ends inside a character"),
    pytest.param(frame(CLOSE, b"\x03\xe8\xff"), 1007, id="close reason"),
    pytest.param(frame(CLOSE, b"\x03\xe8ab\xe2\x82"), 1007, id="close reason cut inside a character"),
    pytest.param(header(BINARY, MAX + 1), 1009, id="declared length"),
    pytest.param(header(TEXT, MAX + 1), 1009, id="declared length of text"),
    pytest.param(header(BINARY, 1 << 62), 1009, id="huge declared length"),
    pytest.param(frame(0x02, bytes(600), fin=False) + header(0x80, 600), 1009, id="sum of the fragments"),
    pytest.param(frame(0x01, fin=False) + frame(0x00, fin=False) * 16, 1009, id="empty fragments"),
]


@split
@pytest.mark.parametrize(("data", "code"), BAD)
async def test_server_closes_on_bad_input(
    data: bytes, code: int, split: int, serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamws")
    server = await serve(echo, limits=LIMITS)
    bystander = await connect(server)
    await bystander.send(frame(0x01, b"half ", fin=False))
    raw = await connect(server)
    client = client_of(server, raw)
    await raw.send(data, split)
    sent, reason = close_of(await raw.read_until_eof())
    assert (sent, bool(reason)) == (code, True)
    raw.close()
    await within(client.wait_closed())
    cause = Cause.LIMIT if code == 1009 else Cause.PROTOCOL_ERROR
    assert client.outcome == CloseOutcome(cause, Side.REMOTE, None, Close(code, reason), reason)
    fault = "exceeded a limit" if code == 1009 else "broke the protocol"
    assert str(client.outcome) == f"closed by this side with {code}: the peer {fault} ({reason})"
    assert lines_about(raw, caplog) == ["{}:{}: {}".format(*raw.address, client.outcome)]
    await bystander.send(frame(0x80, b"and half"))
    assert await bystander.read_frame() == (TEXT, b"half and half")


@split
async def test_server_answers_frames_before_a_broken_rule_and_none_after(
    split: int, serve: Serve, connect: Connect
) -> None:
    raw = await connect(await serve(echo))
    before = text("a") + frame(PING, b"p") + frame(0x02, b"b", fin=False) + frame(0x80, b"c")
    await raw.send(before + frame(0x80, b"x") + text("after") + frame(PING) + close(), split)
    *answers, (first, payload) = frames(await raw.read_until_eof())
    assert sorted(answers) == [(TEXT, b"a"), (BINARY, b"bc"), (PONG, b"p")]
    assert (first, payload[:2]) == (CLOSE, b"\x03\xea")


@split
async def test_server_refuses_a_queued_message_over_the_limit(split: int, serve: Serve, connect: Connect) -> None:
    """The message was received before any read, and the read that reaches it refuses it."""
    come = asyncio.Event()

    async def handler(client: Client) -> None:
        await come.wait()
        await echo(client)

    raw = await connect(await serve(handler, limits=LIMITS))
    await raw.send(text("a") + binary(bytes(MAX + 1)) + frame(PING), split)
    assert await raw.read_frame() == (PONG, b"")
    come.set()
    assert await raw.read_frame() == (TEXT, b"a")
    assert close_of(await raw.read_until_eof())[0] == 1009


@split
@pytest.mark.parametrize(
    ("code", "cause"),
    [
        *((code, Cause.CLEAN) for code in (None, 1000, 1001)),
        *((code, Cause.PEER_ERROR) for code in (1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)),
        *((code, Cause.PEER_ERROR) for code in (3000, 4999)),
    ],
)
async def test_server_answers_close_with_its_code(
    code: int | None,
    cause: Cause,
    split: int,
    serve: Serve,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "streamws")
    server = await serve(echo)
    raw = await connect(server)
    client = client_of(server, raw)
    reason = "" if code is None else "größer"
    await raw.send(text("a") + close(code, reason), split)
    answer = b"\x88\x00" if code is None else b"\x88\x02" + code.to_bytes(2, "big")
    assert await raw.read_until_eof() == b"\x81\x01a" + answer
    await within(client.wait_closed())
    number = code or 1005
    assert client.outcome == CloseOutcome(cause, Side.REMOTE, Close(number, reason), Close(number))
    assert lines_about(raw, caplog) == ["{}:{}: {}".format(*raw.address, client.outcome)]


@pytest.mark.parametrize("last", [close(), frame(0x83)], ids=["close", "broken rule"])
async def test_server_answers_frames_received_with_the_request(last: bytes, serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo), request() + text("a") + text("b") + last)
    first, second, (end, _) = frames(await raw.read_until_eof())
    assert (first, second, end) == ((TEXT, b"a"), (TEXT, b"b"), CLOSE)


async def test_server_reads_nothing_after_close(serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo))
    await raw.send(close() + text("after") + frame(PING) + frame(0x83))
    assert await raw.read_until_eof() == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize("split", [0, 1, 1009], ids=["whole", "split", "in large pieces"])
@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x82\x00"),
        (1, b"\x82\x01"),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
async def test_server_echoes_a_message_at_a_boundary_of_length(
    size: int, head: bytes, split: int, serve: Serve, connect: Connect
) -> None:
    raw = await connect(await serve(echo))
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    message = binary(payload)
    tail = message[-20:] if split == 1 else message  # header and end byte by byte, the rest at once
    await raw.send(message[: len(message) - len(tail)][:14], split)
    await raw.send(message[14 : len(message) - len(tail)])
    await raw.send(tail, split)
    assert await raw.read(len(head) + size) == head + payload


@split
async def test_server_echoes_a_message_of_the_maximum_size(split: int, serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo, limits=LIMITS))
    await raw.send(binary(bytes(MAX)), split)
    assert await raw.read_frame() == (BINARY, bytes(MAX))
    await raw.send(frame(0x02, bytes(500), fin=False) + frame(0x80, bytes(MAX - 500)), split)
    assert await raw.read_frame() == (BINARY, bytes(MAX))


@split
async def test_server_answers_pings_between_fragments(split: int, serve: Serve, connect: Connect) -> None:
    raw = await connect(await serve(echo))
    await raw.send(frame(0x01, "é".encode()[:1], fin=False) + frame(PING, bytes(125)), split)
    assert await raw.read_frame() == (PONG, bytes(125))
    rest = frame(0x00, "é".encode()[1:], fin=False)
    await raw.send(frame(0x00, fin=False) + frame(PONG, b"unasked for") + rest + frame(PING), split)
    assert await raw.read_frame() == (PONG, b"")
    await raw.send(frame(0x80, b"!"), split)
    assert await raw.read_frame() == (TEXT, "é!".encode())
