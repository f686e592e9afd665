"""`Writer` and `FragmentWriter`: messages, fragments, frames, pings, and the order of senders."""

import asyncio
import pickle
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from helpers.frames import client_frame as frame
from helpers.frames import client_header as header
from helpers.frames import xor
from helpers.peers import Peer, pair
from helpers.waiting import iterations, within
from streamws import (
    Cause,
    Client,
    ConnectionClosed,
    ConnectionClosedError,
    DataFrame,
    Limits,
    Opcode,
    Side,
    State,
    WebSocketServer,
    WriteError,
    connect,
)
from streamws.streams.shared import SharedMessage

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION


async def end(client: Client, peer: Peer) -> None:
    """Close from the peer, which must read nothing but the answer."""
    peer.send_close()
    assert await peer.read_close() == (1000, "")
    await client.wait_closed()


# Whole messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("text", (0x81, b"text")),
        ("grüße", (0x81, "grüße".encode())),
        ("", (0x81, b"")),
        (b"bytes", (0x82, b"bytes")),
        (b"", (0x82, b"")),
        (bytearray(b"array"), (0x82, b"array")),
        (memoryview(b"view"), (0x82, b"view")),
        (memoryview(b"s-t-e-p")[::2], (0x82, b"step")),
        (memoryview(b"abcdefgh").cast("I"), (0x82, b"abcdefgh")),
    ],
    ids=["text", "wide text", "empty text", "bytes", "no bytes", "bytearray", "memoryview", "strided", "wide items"],
)
async def test_writer_sends(data: str | bytes, expected: tuple[int, bytes]) -> None:
    async with pair() as (client, peer):
        await client.send(data)
        assert await peer.read_frame() == expected


LONG = "ä".encode() * 200_000
"""Text that is written in several parts in both roles."""


@pytest.mark.parametrize(
    "data",
    ["grüße".encode(), bytearray(b"array"), memoryview(b"v-i-e-w")[::2], b"", "grüße", LONG],
    ids=["bytes", "bytearray", "strided", "no bytes", "str", "long"],
)
@pytest.mark.parametrize("how", ["client", "writer", "broadcast", "in turn", "client role"])
async def test_bytes_are_sent_as_text(data: str | bytes, how: str) -> None:
    expected = data if isinstance(data, str) else bytes(data).decode()
    got: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def handler(client: Client) -> None:
        if how == "client":
            await client.send(data, text=True)
        elif how == "writer":
            await client.writer.send(data, None, text=True)
        elif how == "broadcast":
            assert server.broadcast(data, text=True) == 1
        elif how == "in turn":
            async with client.writer.fragment() as stream:
                await stream.send("first")
                waiting = asyncio.ensure_future(client.send(data, text=True))
                await iterations()
            await waiting
        else:
            got.put_nowait(await client.read_message())
        await client.wait_closed()

    server = WebSocketServer("127.0.0.1", 0, handler=handler)
    async with server, connect(f"ws://127.0.0.1:{server.port}", proxy=None) as client:
        if how == "in turn":
            assert await client.read_message() == "first"
        if how == "client role":
            await client.send(data, text=True)
            assert await within(got.get()) == expected
        else:
            assert await within(client.read_message()) == expected


@pytest.mark.parametrize("compress", [None, True, False])
async def test_bytes_are_sent_as_compressed_text(compress: bool | None) -> None:
    async def handler(client: Client) -> None:
        await client.send(LONG, compress, text=True)

    server = WebSocketServer("127.0.0.1", 0, handler=handler, compression=True)
    async with server, connect(f"ws://127.0.0.1:{server.port}", proxy=None, compression=True) as client:
        assert await within(client.read_message()) == LONG.decode()


@pytest.mark.parametrize(
    "bad", [b"\xff", b"a\xc3", b"\xed\xa0\x80", LONG[:-1]], ids=["byte", "end", "surrogate", "long"]
)
async def test_bytes_that_are_not_utf8_are_not_sent_as_text(bad: bytes) -> None:
    async with pair() as (client, peer):
        with pytest.raises(UnicodeDecodeError):
            await client.send(bad, text=True)
        with pytest.raises(UnicodeDecodeError):
            await client.writer.send(bad, text=True)
        with pytest.raises(UnicodeDecodeError):
            WebSocketServer(port=0).broadcast(bad, text=True)
        await client.send("next")
        assert await peer.read_frame() == (0x81, b"next")


async def test_text_is_refused_like_other_messages() -> None:
    async with pair() as (client, _):
        wrong: Any = 7
        with pytest.raises(TypeError, match="message must be str or bytes-like, not int"):
            await client.send(wrong, text=True)
        client.abort()
        with pytest.raises(ConnectionClosedError, match=r"^cannot send: "):
            await client.send(b"too late", text=True)


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 300_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, str])
async def test_writer_sends_message_of_size(kind: type[bytes | bytearray | str], size: int) -> None:
    payload = bytes(97 + n % 26 for n in range(size))
    async with pair() as (client, peer):
        sending = asyncio.create_task(client.send(payload.decode() if kind is str else kind(payload)))
        assert await peer.read_frame() == (0x81 if kind is str else 0x82, payload)
        await sending


async def test_writer_sends_buffer_as_it_was_at_the_call() -> None:
    async with pair() as (client, peer):
        for size in (3, 100_000):
            buffer = bytearray(b"a" * size)
            first = client.send(buffer)
            second = client.send(memoryview(buffer))
            buffer[:] = b"b" * size
            assert [payload for _, payload in await peer.read_frames(2)] == [b"a" * size] * 2
            await first
            await second


@pytest.mark.parametrize("data", [1, None, ["text"], 1.5, object()])
@pytest.mark.parametrize("busy", [True, False])
async def test_writer_send_refuses_other_types(data: object, busy: bool) -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment():
            if busy:
                with pytest.raises(TypeError, match="str or bytes-like"):
                    await client.send(data)  # type: ignore[arg-type]
        if not busy:
            with pytest.raises(TypeError, match=type(data).__name__):
                await client.send(data)  # type: ignore[arg-type]
        assert await peer.read_frame() == (0x82, b"")
        await end(client, peer)


async def test_writer_send_raises_when_awaited_after_close() -> None:
    async with pair() as (client, peer):
        await end(client, peer)
        for operation in (client.send("late"), client.writer.pong()):
            with pytest.raises(ConnectionClosed) as caught:
                await operation
            assert type(caught.value) is ConnectionClosed
            assert caught.value.outcome.code == 1000


async def test_writer_send_raises_while_closing() -> None:
    async with pair() as (client, peer):
        closing = asyncio.create_task(client.close(1011))
        await peer.read_close()
        with pytest.raises(ConnectionClosedError):
            await client.send("late")
        peer.send_close(1011)
        await closing


async def test_writer_keeps_order_of_many_senders() -> None:
    async with pair() as (client, peer):
        tasks = [asyncio.create_task(client.send(str(number))) for number in range(200)]
        assert await peer.read_frames(200) == [(0x81, b"%d" % number) for number in range(200)]
        await asyncio.gather(*tasks)


# Fragments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parts", "expected"),
    [
        (None, ["a", "b"], [(0x01, b"a"), (0x00, b"b"), (0x80, b"")]),
        (None, [b"a", b"", b"b"], [(0x02, b"a"), (0x00, b""), (0x00, b"b"), (0x80, b"")]),
        (None, ["a", b"b"], [(0x01, b"a"), (0x00, b"b"), (0x80, b"")]),
        (None, [bytearray(b"a"), memoryview(b"b")], [(0x02, b"a"), (0x00, b"b"), (0x80, b"")]),
        (TEXT, [b"a", "b"], [(0x01, b"a"), (0x00, b"b"), (0x80, b"")]),
        (BINARY, ["a"], [(0x02, b"a"), (0x80, b"")]),
        (None, [], [(0x82, b"")]),
        (TEXT, [], [(0x81, b"")]),
        (BINARY, [], [(0x82, b"")]),
        (None, ["a" * 70000], [(0x01, b"a" * 70000), (0x80, b"")]),
    ],
)
async def test_fragment_writer_sends_parts_as_fragments(
    kind: Opcode | None, parts: list[str | bytes], expected: list[tuple[int, bytes]]
) -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment(kind) as stream:
            for part in parts:
                await stream.send(part)
        assert await peer.read_frames(len(expected)) == expected
        await client.send("next")
        assert await peer.read_frame() == (0x81, b"next")


async def test_fragment_writer_sends_each_part_at_once() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            await stream.send("one")
            assert await peer.read_frame() == (0x01, b"one")
            await stream.send("two")
            assert await peer.read_frame() == (0x00, b"two")
        assert await peer.read_frame() == (0x80, b"")


@pytest.mark.parametrize("kind", [CONTINUATION, Opcode.PING, Opcode.CLOSE])
async def test_writer_fragment_refuses_other_kinds(kind: Opcode) -> None:
    async with pair() as (client, _):
        with pytest.raises(ValueError, match=kind.name):
            client.writer.fragment(kind)


async def test_fragment_writer_refuses_part_of_other_type_and_goes_on() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            with pytest.raises(TypeError, match="int"):
                await stream.send(1)  # type: ignore[arg-type]
            await stream.send("a")
        assert await peer.read_frames(2) == [(0x01, b"a"), (0x80, b"")]


async def test_fragment_writer_refuses_invalid_utf8_and_goes_on() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment(TEXT) as stream:
            for bad in (b"\xff", b"\xc3\xc3"):
                with pytest.raises(WriteError, match="UTF-8"):
                    await stream.send(bad)
            await stream.send(b"\xc3")
            with pytest.raises(WriteError, match="UTF-8"):
                await stream.send("a")
            await stream.send(memoryview(b"\xa9"))
        assert await peer.read_frames(3) == [(0x01, b"\xc3"), (0x00, b"\xa9"), (0x80, b"")]
        await end(client, peer)


async def test_fragment_writer_left_inside_a_character_closes_with_1011() -> None:
    async with pair() as (client, peer):
        with pytest.raises(WriteError, match="inside a character"):
            async with client.writer.fragment(TEXT) as stream:
                await stream.send(b"\xc3")
        assert await peer.read_frame() == (0x01, b"\xc3")
        assert (await peer.read_close())[0] == 1011
        assert client.outcome is not None
        assert "inside a character" in client.outcome.detail


async def test_fragment_writer_left_by_exception_before_first_part_lets_connection_go_on() -> None:
    async with pair() as (client, peer):
        with pytest.raises(KeyError):
            async with client.writer.fragment():
                raise KeyError("mine")
        await client.send("next")
        assert await peer.read_frame() == (0x81, b"next")
        assert client.state is State.OPEN


async def test_fragment_writer_left_by_exception_after_first_part_closes_with_1011() -> None:
    async with pair() as (client, peer):
        with pytest.raises(KeyError):  # noqa: PT012
            async with client.writer.fragment() as stream:
                await stream.send("part")
                raise KeyError("mine")
        assert await peer.read_frame() == (0x01, b"part")
        assert (await peer.read_close())[0] == 1011
        assert client.outcome is not None
        assert client.outcome.cause is Cause.LOCAL_CANCEL
        assert client.outcome.initiator is Side.LOCAL
        assert "KeyError" in client.outcome.detail
        with pytest.raises(ConnectionClosedError):
            await client.send("next")


async def test_fragment_writer_cancelled_after_first_part_closes_with_1011() -> None:
    async with pair() as (client, peer):

        async def write() -> None:
            async with client.writer.fragment() as stream:
                await stream.send("part")
                await asyncio.Event().wait()

        writing = asyncio.create_task(write())
        assert await peer.read_frame() == (0x01, b"part")
        waiting = asyncio.create_task(client.send("next"))
        await asyncio.sleep(0)
        writing.cancel()
        assert (await peer.read_close())[0] == 1011
        for task, error in ((writing, asyncio.CancelledError), (waiting, ConnectionClosedError)):
            with pytest.raises(error):
                await task


async def test_fragment_writer_raises_when_connection_closes_inside_it() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            async with client.writer.fragment() as stream:
                await stream.send("part")
                peer.send_close()
                await client.wait_closed()
                await stream.send("late")


async def test_fragment_writer_raises_at_its_end_when_connection_closed_inside_it() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            async with client.writer.fragment() as stream:
                await stream.send("part")
                peer.send_close()
                await client.wait_closed()


async def test_fragment_writer_cannot_be_entered_on_closed_connection() -> None:
    async with pair() as (client, peer):
        await end(client, peer)
        with pytest.raises(ConnectionClosed):
            async with client.writer.fragment():
                raise AssertionError("entered")


async def test_fragment_writer_is_good_for_one_message() -> None:
    async with pair() as (client, peer):
        stream = client.writer.fragment()
        with pytest.raises(WriteError, match="outside the `async with"):
            await stream.send("before")
        async with stream:
            pass
        with pytest.raises(WriteError, match="outside the `async with"):
            await stream.send("after")
        with pytest.raises(WriteError, match="one message"):
            async with stream:
                raise AssertionError("entered")
        assert await peer.read_frame() == (0x82, b"")
        await end(client, peer)


async def test_writer_ping_pong_and_answers_go_between_fragments() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            await stream.send("one")
            pinging = asyncio.create_task(client.writer.ping(b"p"))
            await client.writer.pong(b"q")
            await asyncio.sleep(0)
            await stream.send("two")
            frames = await peer.read_frames(4)
            assert sorted(frames) == [(0x00, b"two"), (0x01, b"one"), (0x89, b"p"), (0x8A, b"q")]
            peer.send(Opcode.PONG, b"p")
            await pinging
            await peer.settle()
        assert await peer.read_frame() == (0x80, b"")


async def test_client_closes_between_fragments() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            async with client.writer.fragment() as stream:
                await stream.send("one")
                closing = asyncio.create_task(client.close())
                assert await peer.read_frame() == (0x01, b"one")
                assert await peer.read_close() == (1000, "")
                peer.send_close()
                await closing


# Turns ------------------------------------------------------------------------------------------------------


async def test_other_senders_wait_for_fragments_in_order() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            await stream.send("part")

            async def fragments() -> None:
                async with client.writer.fragment() as stream:
                    await stream.send("2a")
                    await asyncio.sleep(0)
                    await stream.send("2b")

            tasks = []
            for sender in (
                lambda: client.send("1"),
                fragments,
                lambda: client.send("3"),
                lambda: client.writer.write_frame(DataFrame(TEXT, b"4")),
                lambda: client.writer.feed(["5"]),
                lambda: client.send("6"),
            ):
                tasks.append(asyncio.create_task(sender()))
                await asyncio.sleep(0)
            assert await peer.read_frame() == (0x01, b"part")
            await peer.settle()
            assert not any(task.done() for task in tasks)
        assert await peer.read_frames(10) == [
            (0x80, b""),
            (0x81, b"1"),
            (0x01, b"2a"),
            (0x00, b"2b"),
            (0x80, b""),
            (0x81, b"3"),
            (0x81, b"4"),
            (0x01, b"5"),
            (0x80, b""),
            (0x81, b"6"),
        ]
        await asyncio.gather(*tasks)


async def test_send_that_waits_for_its_turn_keeps_its_kind() -> None:
    messages: list[str | bytes] = ["", b"", "text", b"binary"]
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            await stream.send("part")
            tasks = [asyncio.create_task(client.send(message)) for message in messages]
            await asyncio.sleep(0)
        frames = await peer.read_frames(6)
        assert frames[2:] == [(0x81, b""), (0x82, b""), (0x81, b"text"), (0x82, b"binary")]
        await asyncio.gather(*tasks)


async def test_send_that_cannot_be_encoded_in_its_turn_fails_alone() -> None:
    async with pair() as (client, peer):
        view = memoryview(b"gone")
        async with client.writer.fragment() as stream:
            await stream.send("part")
            bad = [client.send("\ud800"), client.send(view)]
            good = client.send("good")
            view.release()
        assert await peer.read_frames(3) == [(0x01, b"part"), (0x80, b""), (0x81, b"good")]
        for sending, error in zip(bad, (UnicodeEncodeError, ValueError), strict=True):
            with pytest.raises(error):
                await sending
        await good


@pytest.mark.parametrize("way", ["send", "broadcast"])
async def test_messages_that_wait_for_their_turn_are_bounded(way: str) -> None:
    async with pair(Limits(max_write_backlog=100_000)) as (client, peer):
        count = 0
        sending = []
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            async with client.writer.fragment() as stream:
                await stream.send("part")
                while client.outcome is None:
                    if way == "send":
                        sending.append(client.send(bytes(1000)))
                    else:
                        client.writer._send_shared(SharedMessage(bytes(1000), None))
                    count += 1
                    assert count < 1000, "nothing bounds what waits"
        assert 90 < count < 100
        for awaitable in sending:
            with pytest.raises(ConnectionClosed):
                await awaitable
        assert await peer.read_frame() == (0x01, b"part")
        assert (await peer.read_close())[0] == 1008


async def test_send_without_await_keeps_its_turn() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            await stream.send("part")
            queued = client.send("queued")
        await client.send("later")
        frames = await peer.read_frames(4)
        assert frames == [(0x01, b"part"), (0x80, b""), (0x81, b"queued"), (0x81, b"later")]
        await queued


@pytest.mark.parametrize("begun", [True, False])
async def test_send_cancelled_while_it_waits_for_its_turn_is_never_sent(begun: bool) -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            await stream.send("part")
            tasks = [asyncio.create_task(client.send(str(number))) for number in range(3)]
            if begun:
                await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.wait([tasks[1]])
        frames = await peer.read_frames(4)
        assert frames == [(0x01, b"part"), (0x80, b""), (0x81, b"0"), (0x81, b"2")]
        await end(client, peer)


async def test_fragment_writer_cancelled_while_it_waits_for_its_turn_passes_it_on() -> None:
    async with pair() as (client, peer):

        async def fragments() -> None:
            async with client.writer.fragment() as stream:
                await stream.send("never")

        for delay in (False, True):
            async with client.writer.fragment() as stream:
                await stream.send("part")
                waiting = asyncio.create_task(fragments())
                await asyncio.sleep(0)
                sending = asyncio.create_task(client.send("next"))  # queued after the one that waits
                if not delay:
                    waiting.cancel()
            waiting.cancel()  # it has got the turn, but has not run yet
            await sending
            assert waiting.cancelled() or waiting.cancelling()
            assert await peer.read_frames(3) == [(0x01, b"part"), (0x80, b""), (0x81, b"next")]
            await asyncio.wait([waiting])


async def test_nested_fragment_writers_of_one_task_do_not_wedge_others() -> None:
    async with pair() as (client, peer):
        with pytest.raises(WriteError, match="this task is sending a message in parts and would wait for itself"):
            async with client.writer.fragment(), client.writer.fragment():
                raise AssertionError("entered")
        await client.send("next")
        assert await peer.read_frame() == (0x81, b"next")


@pytest.mark.parametrize("block", ["fragment", "data_frame"])
async def test_writer_refuses_to_wait_for_the_task_that_calls_it(block: str) -> None:
    async with pair() as (client, peer):
        stream = client.writer.fragment() if block == "fragment" else client.writer.data_frame(3)
        with pytest.raises(WriteError, match="this task is sending a message in parts and would wait for itself"):
            async with stream:
                await client.send("in between")
        await client.send("next")
        assert await peer.read_frame() == (0x81, b"next")
        async with client.writer.fragment() as fragments:
            await fragments.send("part")
            for sender in (client.send("never"), client.writer.feed(["never"])):
                with pytest.raises(
                    WriteError, match="this task is sending a message in parts and would wait for itself"
                ):
                    await sender
        assert await peer.read_frames(2) == [(0x01, b"part"), (0x80, b"")]
        await end(client, peer)


async def test_writer_feeds_long_list_and_lets_others_run() -> None:
    async with pair() as (client, _):
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await client.writer.feed("" for _ in range(10_000))
        counting.cancel()
        assert turns > 5


async def test_waiting_senders_raise_when_connection_closes() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ConnectionClosed):  # noqa: PT012
            async with client.writer.fragment() as stream:
                await stream.send("part")

                async def fragments() -> None:
                    async with client.writer.fragment():
                        raise AssertionError("entered")

                tasks = [
                    asyncio.create_task(client.send("1")),
                    asyncio.create_task(fragments()),
                    asyncio.create_task(client.writer.write_frame(DataFrame(TEXT, b"3"))),
                ]
                await asyncio.sleep(0)
                peer.send_close()
                await client.wait_closed()
                for task in tasks:
                    with pytest.raises(ConnectionClosed):
                        await task


# Frames as they are -----------------------------------------------------------------------------------------


async def test_writer_writes_frames_as_they_are() -> None:
    async with pair() as (client, peer):
        for item in (
            DataFrame(TEXT, b"whole"),
            DataFrame(BINARY, b"one", fin=False),
            DataFrame(CONTINUATION, b"", fin=False),
            DataFrame(CONTINUATION, b"three"),
            DataFrame(BINARY, b""),
        ):
            await client.writer.write_frame(item)
        assert await peer.read_frames(5) == [
            (0x81, b"whole"),
            (0x02, b"one"),
            (0x00, b""),
            (0x80, b"three"),
            (0x82, b""),
        ]


async def test_writer_copies_frames_of_client() -> None:
    async with pair() as (client, peer):

        async def copy() -> None:
            async for item in client.frames():
                await client.writer.write_frame(item)

        copying = asyncio.create_task(copy())
        peer.write(frame(TEXT, b"one", fin=False) + frame(CONTINUATION, b"two") + frame(BINARY, b"three"))
        assert await peer.read_frames(3) == [(0x01, b"one"), (0x80, b"two"), (0x82, b"three")]
        peer.send_close()
        await copying


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.CLOSE])
async def test_writer_write_frame_refuses_control_frames(opcode: Opcode) -> None:
    async with pair() as (client, peer):
        with pytest.raises(WriteError, match=opcode.name):
            await client.writer.write_frame(DataFrame(opcode, b""))
        await end(client, peer)


async def test_writer_write_frame_refuses_stray_continuation() -> None:
    async with pair() as (client, peer):
        with pytest.raises(WriteError, match="CONTINUATION"):
            await client.writer.write_frame(DataFrame(CONTINUATION, b"stray"))
        await client.writer.write_frame(DataFrame(TEXT, b"whole"))
        with pytest.raises(WriteError, match="CONTINUATION"):
            await client.writer.write_frame(DataFrame(CONTINUATION, b"stray", fin=False))
        assert await peer.read_frame() == (0x81, b"whole")
        await end(client, peer)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_writer_write_frame_refuses_new_message_inside_message(opcode: Opcode) -> None:
    async with pair() as (client, peer):
        await client.writer.write_frame(DataFrame(TEXT, b"one", fin=False))
        with pytest.raises(WriteError, match="under way"):
            await client.writer.write_frame(DataFrame(opcode, b"two"))
        await client.writer.write_frame(DataFrame(CONTINUATION, b"two"))
        assert await peer.read_frames(2) == [(0x01, b"one"), (0x80, b"two")]


async def test_writer_write_frame_refuses_continuation_inside_fragment_writer() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            await stream.send("one")
            with pytest.raises(WriteError, match="CONTINUATION"):
                await client.writer.write_frame(DataFrame(CONTINUATION, b"mine"))
        assert await peer.read_frames(2) == [(0x01, b"one"), (0x80, b"")]


async def test_writer_write_frame_refuses_invalid_utf8_and_passes_the_turn_on() -> None:
    async with pair() as (client, peer):
        for fin in (True, False):
            with pytest.raises(WriteError, match="UTF-8"):
                await client.writer.write_frame(DataFrame(TEXT, b"\xff", fin))
        await client.send("next")
        await client.writer.write_frame(DataFrame(TEXT, b"\xc3", fin=False))
        with pytest.raises(WriteError, match="inside a character"):
            await client.writer.write_frame(DataFrame(CONTINUATION, b""))
        await client.writer.write_frame(DataFrame(CONTINUATION, b"\xa9"))
        assert await peer.read_frames(3) == [(0x81, b"next"), (0x01, b"\xc3"), (0x80, b"\xa9")]
        await end(client, peer)


async def test_other_senders_wait_for_last_frame() -> None:
    async with pair() as (client, peer):
        await client.writer.write_frame(DataFrame(TEXT, b"one", fin=False))
        sending = asyncio.create_task(client.send("next"))
        await asyncio.sleep(0)
        await client.writer.write_frame(DataFrame(CONTINUATION, b"two"))
        await sending
        assert await peer.read_frames(3) == [(0x01, b"one"), (0x80, b"two"), (0x81, b"next")]


async def test_writer_write_frame_raises_after_close() -> None:
    async with pair() as (client, peer):
        await client.writer.write_frame(DataFrame(TEXT, b"one", fin=False))
        peer.send_close()
        await client.wait_closed()
        for item in (DataFrame(CONTINUATION, b"two"), DataFrame(CONTINUATION, b"two")):
            with pytest.raises(ConnectionClosed):
                await client.writer.write_frame(item)


# Feeding ----------------------------------------------------------------------------------------------------


async def some_parts() -> AsyncIterator[str | bytes]:
    yield "one"
    await asyncio.sleep(0)
    yield b"two"


async def failing_parts() -> AsyncIterator[str]:
    yield "one"
    raise KeyError("mine")


def failing_list() -> Iterator[str]:
    yield "one"
    raise KeyError("mine")


async def test_writer_feeds_iterables() -> None:
    async with pair() as (client, peer):
        await client.writer.feed(["one", "two"])
        await client.writer.feed(bytes([number]) for number in range(2))
        await client.writer.feed(some_parts())
        await client.writer.feed([b"one"], TEXT)
        await client.writer.feed([])
        assert await peer.read_frames(12) == [
            (0x01, b"one"),
            (0x00, b"two"),
            (0x80, b""),
            (0x02, b"\0"),
            (0x00, b"\1"),
            (0x80, b""),
            (0x01, b"one"),
            (0x00, b"two"),
            (0x80, b""),
            (0x01, b"one"),
            (0x80, b""),
            (0x82, b""),
        ]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
async def test_writer_feeds_message_back(opcode: Opcode, size: int) -> None:
    async with pair() as (client, peer):

        async def echo() -> None:
            async for reader in client.messages():
                await client.writer.feed(reader)

        echoing = asyncio.create_task(echo())
        peer.send(opcode, b"x" * size)
        first, payload = await peer.read_frame()
        assert first & 0x0F == opcode
        while not first & 0x80:
            first, part = await peer.read_frame()
            payload += part
        assert payload == b"x" * size
        peer.send_close()
        await echoing


async def test_writer_feeds_part_of_frame_before_it_is_complete() -> None:
    async with pair() as (client, peer):
        feeding: list[asyncio.Task[None]] = []
        peer.write(header(BINARY, 10) + xor(b"0123456789")[:4])
        async for reader in client.messages():
            feeding.append(asyncio.create_task(client.writer.feed(reader)))
            break
        assert await peer.read_frame() == (0x02, b"0123")
        peer.write(xor(b"0123456789")[4:])
        assert await peer.read_frame() == (0x00, b"456789")
        assert await peer.read_frame() == (0x80, b"")
        await feeding[0]


@pytest.mark.parametrize("source", [failing_parts, failing_list])
async def test_writer_closes_with_1011_when_source_fails(source: type[AsyncIterator[str]]) -> None:
    async with pair() as (client, peer):
        with pytest.raises(KeyError):
            await client.writer.feed(source())
        assert await peer.read_frame() == (0x01, b"one")
        assert (await peer.read_close())[0] == 1011


@pytest.mark.parametrize("source", ["text", b"bytes", bytearray(b"array"), memoryview(b"view")])
async def test_writer_feed_refuses_whole_message(source: str) -> None:
    async with pair() as (client, peer):
        with pytest.raises(WriteError, match="send"):
            await client.writer.feed(source)
        await end(client, peer)


# Pings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", ["text", b"bytes", bytearray(b"array"), memoryview(b"view"), b"x" * 125])
async def test_writer_ping_returns_round_trip_time(payload: str | bytes) -> None:
    async with pair() as (client, peer):
        pinging = asyncio.create_task(client.writer.ping(payload))
        first, sent = await peer.read_frame()
        assert (first, sent) == (0x89, payload.encode() if isinstance(payload, str) else bytes(payload))
        peer.send(Opcode.PONG, sent)
        assert 0 <= await pinging < 10


async def test_writer_pings_without_payload_differ() -> None:
    async with pair() as (client, peer):
        pinging = [asyncio.create_task(client.writer.ping()) for _ in range(2)]
        (_, first), (_, second) = await peer.read_frames(2)
        assert first != second
        peer.send(Opcode.PONG, second)
        await asyncio.gather(*pinging)


async def test_pong_for_later_ping_answers_earlier_ones() -> None:
    async with pair() as (client, peer):
        pinging = [asyncio.create_task(client.writer.ping(b"%d" % number)) for number in range(3)]
        await peer.read_frames(3)
        peer.send(Opcode.PONG, b"unasked for")
        peer.send(Opcode.PONG, b"1")
        await asyncio.gather(*pinging[:2])
        assert not pinging[2].done()
        peer.send(Opcode.PONG, b"0")
        peer.send(Opcode.PONG, b"2")
        await pinging[2]


@pytest.mark.parametrize("payload", [b"x" * 126, "ä" * 63])
async def test_writer_refuses_payload_over_125_bytes(payload: str | bytes) -> None:
    async with pair() as (client, peer):
        with pytest.raises(ValueError, match="126"):
            await client.writer.ping(payload)
        with pytest.raises(ValueError, match="126"):
            await client.writer.pong(payload)
        await end(client, peer)


async def test_writer_does_not_wait_for_the_pong_of_a_refused_ping() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ValueError, match="126"):
            await client.writer.ping(b"x" * 126)
        pinging = asyncio.create_task(client.writer.ping(b"p"))
        await peer.read_frame()
        assert [ping.payload for ping in client._connection.pings._waiting or ()] == [b"p"]
        peer.send(Opcode.PONG, b"p")
        await pinging


@pytest.mark.parametrize("payload", [b"", b"x", "text"])
async def test_writer_ping_raises_when_closed(payload: str | bytes) -> None:
    async with pair() as (client, peer):
        await end(client, peer)
        with pytest.raises(ConnectionClosed):
            await client.writer.ping(payload)


async def test_writer_ping_raises_when_connection_ends_before_pong() -> None:
    async with pair() as (client, peer):
        pinging = asyncio.create_task(client.writer.ping())
        await peer.read_frame()
        await peer.close()
        with pytest.raises(ConnectionClosedError):
            await pinging


async def test_writer_ping_cancelled_leaves_connection_as_it_is() -> None:
    async with pair() as (client, peer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.writer.ping(b"p"), 0.01)
        assert await peer.read_frame() == (0x89, b"p")
        peer.send(Opcode.PONG, b"p")
        await peer.settle()
        assert client.latency is not None


async def test_writer_forgets_many_pings_for_which_no_task_waits() -> None:
    # A peer may never answer pings, but send data. The keepalive does not close such a connection.
    async with pair() as (client, peer):
        awaited = asyncio.create_task(client.writer.ping(b"awaited"))
        assert await peer.read_frame() == (0x89, b"awaited")
        for number in range(64):
            _ = client.writer.ping(b"%d" % number)
            assert await peer.read_frame() == (0x89, b"%d" % number)
        peer.send(Opcode.PONG, b"0")
        await peer.settle()
        assert client.latency is None
        peer.send(Opcode.PONG, b"awaited")
        assert await awaited == client.latency


async def test_writer_ping_is_answered_though_many_others_are_sent_before_it_is_awaited() -> None:
    async with pair() as (client, peer):
        pings = [client.writer.ping(b"%d" % number) for number in range(200)]
        for number in range(200):
            assert await peer.read_frame() == (0x89, b"%d" % number)
        waiting = asyncio.gather(*pings[:100])
        await asyncio.sleep(0)
        peer.send(Opcode.PONG, b"199")
        assert len(await within(waiting)) == 100
        for ping in pings[100:]:
            assert await within(ping) > 0


async def test_writer_ping_without_await_is_sent() -> None:
    async with pair() as (client, peer):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dropped = [client.writer.ping(b"p"), client.writer.pong(b"q")]
            dropped.clear()
        assert caught == []
        assert await peer.read_frames(2) == [(0x89, b"p"), (0x8A, b"q")]
        peer.send(Opcode.PONG, b"p")
        await peer.settle()
        assert client.latency is not None


@pytest.mark.parametrize("payload", [b"", b"x" * 125, "text"])
async def test_writer_sends_pong(payload: str | bytes) -> None:
    async with pair() as (client, peer):
        await client.writer.pong(payload)
        expected = payload.encode() if isinstance(payload, str) else payload
        assert await peer.read_frame() == (0x8A, expected)


# After the end ------------------------------------------------------------------------------------------------


async def send_fragments(client: Client) -> None:
    async with client.writer.fragment():
        raise AssertionError("entered")


async def send_data_frame(client: Client) -> None:
    async with client.writer.data_frame(1):
        raise AssertionError("entered")


SENDS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "send": lambda client: client.send("text"),
    "send bytes": lambda client: client.send(bytes(300_000)),
    "fragment": send_fragments,
    "data_frame": send_data_frame,
    "write_frame": lambda client: client.writer.write_frame(DataFrame(Opcode.TEXT, b"text")),
    "feed": lambda client: client.writer.feed(["text"]),
    "ping": lambda client: client.writer.ping(),
    "pong": lambda client: client.writer.pong(),
}


@pytest.mark.parametrize("call", SENDS.values(), ids=SENDS)
async def test_send_after_close_says_that_it_cannot_send_and_why(call: Callable[[Client], Awaitable[object]]) -> None:
    async with pair() as (client, peer):
        peer.send_close(1001, "bye")
        await client.wait_closed()
        with pytest.raises(ConnectionClosed) as caught:
            await call(client)
        assert str(caught.value) == 'cannot send: closed by the peer with 1001 "bye"'
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        with pytest.raises(ConnectionClosed) as read:
            await client.read_message()
        assert str(read.value) == 'closed by the peer with 1001 "bye"'


async def test_send_that_waited_for_its_turn_says_that_it_cannot_send_and_why() -> None:
    async with pair() as (client, peer):
        with pytest.raises(ConnectionClosedError, match=r"^cannot send: connection lost"):  # noqa: PT012
            async with client.writer.fragment() as stream:
                await stream.send("part")
                waiting = asyncio.create_task(client.send("text"))
                await iterations()
                await peer.close()
                await client.wait_closed()
        with pytest.raises(ConnectionClosedError, match=r"^cannot send: connection lost without a closing handshake$"):
            await waiting
