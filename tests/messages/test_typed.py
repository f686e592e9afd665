"""Typed messages on real sockets: reading, sending, callbacks, bad messages, and channels that are no `Client`."""

import asyncio
import gc
import inspect
import json
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import msgpack
import pytest
import uvloop

from helpers.fixtures import Serve, outcome_of, url_of
from helpers.frames import client_frame, close_payload
from helpers.peers import pair
from helpers.waiting import cancelled, iterations, until
from messages.kinds import ALL, Kinds, StructChat, StructMove
from streamws import (
    Cause,
    Client,
    CloseOutcome,
    Compression,
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    DecodeError,
    EncodeError,
    IncompleteMessage,
    Opcode,
    State,
    UsageError,
    WebSocketServer,
    connect,
)
from streamws.messages import Json, Typed
from streamws.wire.frames import Buffer

TEXT, BINARY = Opcode.TEXT, Opcode.BINARY
CODEC = Json(StructMove | StructChat)
MOVE = b'{"type":"move","x":1,"y":0}'
BAD = b'{"type":"move","x":"one"}'
REASON = "Expected `int`, got `str` - at `$.x`"

every_kind = pytest.mark.parametrize("kinds", ALL, ids=lambda kinds: kinds.library)


class MsgPack:
    """A codec for binary messages."""

    text = False

    def encode(self, message: object) -> bytes:
        data: bytes = msgpack.packb(message)
        return data

    def decode(self, data: str | bytes) -> object:
        if isinstance(data, str):
            raise DecodeError("expected a binary message")
        return msgpack.unpackb(data)


class Lines:
    """A codec whose messages are `str`, and whose errors are of no special type."""

    text = False

    def encode(self, message: list[str]) -> str:
        return "\n".join(message)

    def decode(self, data: str | bytes) -> list[str]:
        if isinstance(data, bytes):
            raise LookupError("secret")
        return data.split("\n")


# Reading and sending ----------------------------------------------------------------------------------------


async def echo_typed(codec: Json[Any], compression: bool | None) -> list[object]:
    """Let a client and a server exchange typed messages; return what came back."""
    back: list[object] = []

    async def handler(client: Client) -> None:
        messages = client.typed(codec)
        async for message in messages:
            await messages.send(message)

    async with (
        asyncio.timeout(10),
        WebSocketServer("127.0.0.1", 0, handler=handler) as server,
        connect(url_of(server), compression=compression) as client,
    ):
        messages = client.typed(codec)
        for message in EXCHANGED[codec]:
            await messages.send(message)
            back.append(await messages.read_message())
    assert outcome_of(client).clean
    return back


EXCHANGED: dict[Json[Any], list[object]] = {
    kinds.codec: [
        kinds.move(x=1),
        kinds.chat(text="grüße", moves=[kinds.move(x=2, y=3)]),
        kinds.chat(text="a" * 100_000),
        kinds.chat(text="ü" * 300_000),
    ]
    for kinds in ALL
}


@every_kind
@pytest.mark.parametrize("compression", [True, None])
@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_typed_messages_go_both_ways(
    kinds: Kinds, compression: bool | None, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(echo_typed(kinds.codec, compression)) == EXCHANGED[kinds.codec]


async def test_json_is_sent_as_text_and_bytes_of_other_codecs_as_binary() -> None:
    async with pair() as (client, peer):
        await client.typed(CODEC).send(StructMove(1))
        await client.typed(MsgPack()).send({"x": 1})
        await client.typed(Lines()).send(["a", "ü"])
        assert await peer.read_frames(3) == [(0x81, MOVE), (0x82, b"\x81\xa1x\x01"), (0x81, "a\nü".encode())]


async def test_messages_are_sent_at_the_call() -> None:
    async with pair() as (client, peer):
        messages = client.typed(CODEC)
        for number in range(3):
            messages.send(StructMove(number)).close()
        assert [json.loads(payload)["x"] for _, payload in await peer.read_frames(3)] == [0, 1, 2]


async def test_typed_messages_keep_their_order_with_messages_in_parts() -> None:
    async with pair() as (client, peer):
        async with client.writer.fragment(TEXT) as stream:
            await stream.send("par")
            waiting = asyncio.create_task(client.typed(CODEC).send(StructMove(1)))
            await iterations()
            await stream.send("ts")
        await waiting
        assert await peer.read_frames(4) == [(0x01, b"par"), (0x00, b"ts"), (0x80, b""), (0x81, MOVE)]


async def test_send_from_another_thread_is_done_in_the_loop() -> None:
    async with pair() as (client, peer):
        loop = asyncio.get_running_loop()
        messages = client.typed(CODEC)

        def work() -> None:
            asyncio.run_coroutine_threadsafe(messages.send(StructMove(1)), loop).result(5)

        await asyncio.to_thread(work)
        assert await peer.read_frame() == (0x81, MOVE)


async def test_message_that_cannot_be_encoded_raises_and_nothing_is_sent() -> None:
    async with pair() as (client, peer):
        messages: Typed[Any, Any] = client.typed(CODEC)
        with pytest.raises(EncodeError, match="cannot encode object as JSON"):
            await messages.send(object())
        with pytest.raises(TypeError):
            await client.typed(MsgPack()).send(object())
        await peer.settle()
        await messages.send(StructMove(1))
        assert await peer.read_frame() == (0x81, MOVE)


async def test_send_after_close_says_why_the_connection_ended() -> None:
    async with pair() as (client, peer):
        peer.send_close(4000, "bye")
        await client.wait_closed()
        with pytest.raises(ConnectionClosedError, match='cannot send: closed by the peer with 4000 "bye"'):
            await client.typed(CODEC).send(StructMove(1))


@pytest.mark.parametrize("payload", [MOVE, b"  " + MOVE])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_json_is_decoded_from_text_and_from_binary(opcode: Opcode, payload: bytes) -> None:
    async with pair() as (client, peer):
        peer.send(opcode, payload)
        assert await client.typed(CODEC).read_message() == StructMove(1)


async def test_iteration_ends_after_a_clean_close() -> None:
    async with pair() as (client, peer):
        peer.write(client_frame(TEXT, MOVE) * 3 + client_frame(Opcode.CLOSE, close_payload(1000)))
        messages = client.typed(CODEC)
        assert [message async for message in messages] == [StructMove(1)] * 3
        assert [message async for message in messages] == []
        with pytest.raises(ConnectionClosed) as raised:
            await messages.read_message()
        assert raised.value.outcome == client.outcome


async def test_iteration_raises_after_an_unclean_end() -> None:
    async with pair() as (client, peer):
        peer.send_close(4000)
        with pytest.raises(ConnectionClosedError):
            await anext(aiter(client.typed(CODEC)))
    async with pair() as (client, peer):
        peer.send(TEXT, b'{"type":', fin=False)
        peer.half_close()
        with pytest.raises(IncompleteMessage):
            await anext(aiter(client.typed(CODEC)))
    async with pair() as (client, peer):
        peer.send(TEXT, b'{"type":', fin=False)
        peer.send_close(1000)
        with pytest.raises(IncompleteMessage):
            await anext(aiter(client.typed(CODEC)))


async def test_cancelled_read_loses_nothing() -> None:
    async with pair() as (client, peer):
        messages = client.typed(CODEC)
        task = asyncio.create_task(messages.read_message())
        peer.send(TEXT, MOVE[:5], fin=False)
        await peer.settle()
        task.cancel()
        assert await cancelled(task)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter(messages)), 0)
        peer.send(Opcode.CONTINUATION, MOVE[5:])
        assert await messages.read_message() == StructMove(1)


async def test_second_reader_is_refused_and_the_first_goes_on() -> None:
    async with pair() as (client, peer):
        messages = client.typed(CODEC)
        first = asyncio.create_task(messages.read_message())
        await iterations()
        with pytest.raises(ConcurrencyError):
            await messages.read_message()
        with pytest.raises(ConcurrencyError):
            async for _ in messages:
                pass
        peer.send(TEXT, MOVE)
        assert await first == StructMove(1)


async def test_reads_of_the_client_and_of_several_codecs_are_mixed() -> None:
    async with pair() as (client, peer):
        for _ in range(3):
            peer.send(TEXT, MOVE)
        assert await client.typed(CODEC).read_message() == StructMove(1)
        assert await client.read_message() == MOVE.decode()
        assert await client.typed(Json(dict[str, Any])).read_message() == json.loads(MOVE)


# Bad messages -----------------------------------------------------------------------------------------------


async def test_bad_message_closes_with_1007_and_raises() -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(client.typed(CODEC).read_message())
        peer.write(client_frame(TEXT, BAD) + client_frame(TEXT, MOVE))
        assert await peer.read_close() == (1007, REASON)
        peer.send_close(1007)
        with pytest.raises(DecodeError, match=r"^cannot decode the message: Expected `int`") as raised:
            await reading
        assert raised.value.__cause__ is not None
        assert raised.value.outcome == outcome_of(client)
        assert outcome_of(client).cause is Cause.PROTOCOL_ERROR
        with pytest.raises(ConnectionClosedError):
            await client.read_message()


@every_kind
async def test_bad_message_to_a_client_closes_with_1007(serve: Serve, kinds: Kinds) -> None:
    seen: asyncio.Queue[CloseOutcome] = asyncio.Queue()

    async def handler(client: Client) -> None:
        await client.send("[" * (1 << 20))
        await client.wait_closed()
        seen.put_nowait(outcome_of(client))

    server = await serve(handler)
    async with connect(url_of(server)) as client:
        with pytest.raises(DecodeError):
            await anext(aiter(client.typed(kinds.codec)))
        assert client.state is not State.OPEN
    assert (await seen.get()).code == 1007


async def test_handler_that_ends_with_a_decode_error_is_no_failure(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(client: Client) -> None:
        async with asyncio.TaskGroup() as group:  # raises an exception group
            group.create_task(client.typed(CODEC).read_message())

    caplog.set_level(logging.INFO, "streamws")
    server = await serve(handler)
    async with connect(url_of(server)) as client:
        await client.send(BAD, text=True)
        await client.wait_closed()
    assert outcome_of(client).code == 1007
    await until(lambda: not server.clients)
    lines = [record.getMessage() for record in caplog.records if "1007" in record.getMessage()]
    assert len(lines) == 2  # of the server and of the client
    assert {record.levelno for record in caplog.records} == {logging.INFO}


async def test_decode_error_without_a_connection_is_a_failure_of_the_handler(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(client: Client) -> None:
        CODEC.decode(await client.read_message())

    server = await serve(handler)
    async with connect(url_of(server)) as client:
        await client.send(BAD, text=True)
        await client.wait_closed()
    assert outcome_of(client).code == 1011
    assert "DecodeError" in caplog.text


async def test_error_of_own_codec_is_the_cause_and_is_not_told_to_the_peer() -> None:
    async with pair() as (client, peer):
        reading = asyncio.create_task(client.typed(Lines()).read_message())
        peer.send(BINARY, b"a")
        assert await peer.read_close() == (1007, "the message could not be decoded")
        peer.send_close(1007)
        with pytest.raises(DecodeError, match=r"^cannot decode the message: LookupError: secret$") as raised:
            await reading
        assert isinstance(raised.value.__cause__, LookupError)
    async with pair() as (client, peer):
        reading = asyncio.create_task(client.typed(MsgPack()).read_message())  # type: ignore[arg-type]
        peer.send(TEXT, b"a")
        assert await peer.read_close() == (1007, "expected a binary message")
        peer.send_close(1007)
        with pytest.raises(DecodeError):
            await reading


@pytest.mark.parametrize("codec", [CODEC, Lines()], ids=["Json", "own"])
async def test_decode_error_is_freed_without_the_garbage_collector(codec: Any) -> None:
    async with pair() as (client, peer):
        peer.send(BINARY, b"\xff")
        gc.disable()
        try:
            await client.typed(codec).read_message()
        except DecodeError as raised:
            error = weakref.ref(raised)
        finally:
            gc.enable()
        assert error() is None


async def test_long_reason_is_cut_to_fit_into_the_close_frame() -> None:
    class Wordy(Lines):
        def decode(self, data: str | bytes) -> list[str]:
            raise DecodeError("ü" * 1000)

    async with pair() as (client, peer):
        reading = asyncio.create_task(client.typed(Wordy()).read_message())
        peer.send(TEXT, b"a")
        assert await peer.read_close() == (1007, "ü" * 61)
        peer.send_close(1007)
        with pytest.raises(DecodeError) as raised:
            await reading
        assert raised.value.reason == "ü" * 500


async def test_on_error_gets_the_message_and_reading_goes_on() -> None:
    seen: list[tuple[Client, str | bytes, str]] = []

    async def answer(client: Client, message: str | bytes, error: DecodeError) -> None:
        seen.append((client, message, error.reason))
        assert error.outcome is None
        await client.send("no")

    async with pair() as (client, peer):
        messages = client.typed(CODEC, on_error=answer)
        peer.send(TEXT, BAD)
        peer.send(BINARY, b"\xff")
        peer.send(TEXT, MOVE)
        assert await messages.read_message() == StructMove(1)
        assert await peer.read_frames(2) == [(0x81, b"no")] * 2
        assert [entry[:2] for entry in seen] == [(client, BAD.decode()), (client, b"\xff")]
        assert seen[0][2] == REASON
        assert client.state is State.OPEN


async def test_on_error_may_be_a_plain_function_and_may_raise() -> None:
    def give_up(client: Client, message: str | bytes, error: DecodeError) -> None:
        if message == BAD.decode():
            raise error

    async with pair() as (client, peer):
        messages = client.typed(CODEC, give_up)
        peer.send(TEXT, b"x")
        peer.send(TEXT, BAD)
        peer.send(TEXT, MOVE)
        with pytest.raises(DecodeError, match="Expected"):
            await messages.read_message()
        assert client.state is State.OPEN
        assert await messages.read_message() == StructMove(1)


# Callbacks --------------------------------------------------------------------------------------------------


async def test_callback_gets_decoded_messages_in_order() -> None:
    async with pair() as (client, peer):
        messages = client.typed(CODEC)

        @messages.message
        async def on_message(message: StructMove | StructChat) -> None:
            await messages.send(message)

        peer.write(client_frame(TEXT, MOVE) * 2)
        assert await peer.read_frames(2) == [(0x81, MOVE)] * 2
        peer.send(TEXT, MOVE[:3], fin=False)
        peer.send(Opcode.CONTINUATION, MOVE[3:])
        assert await peer.read_frame() == (0x81, MOVE)
        assert inspect.iscoroutinefunction(on_message)


async def test_callback_may_be_a_plain_function() -> None:
    async with pair() as (client, peer):
        seen: list[StructMove | StructChat] = []
        client.typed(CODEC).message(seen.append)
        peer.send(TEXT, MOVE)
        await until(lambda: seen)
        assert seen == [StructMove(1)]


async def test_bad_message_for_a_callback_closes_with_1007(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (client, peer):
        outcomes: list[CloseOutcome] = []
        seen: list[StructMove | StructChat] = []
        client.closed(outcomes.append)
        client.typed(CODEC).message(seen.append)
        peer.write(client_frame(TEXT, MOVE) + client_frame(TEXT, BAD) + client_frame(TEXT, MOVE))
        assert await peer.read_close() == (1007, REASON)
        await peer.close()
        await until(lambda: outcomes)
        assert seen == [StructMove(1)]
        assert outcomes == [client.outcome]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_bad_message_for_a_callback_goes_to_on_error() -> None:
    async with pair() as (client, peer):
        seen: list[StructMove | StructChat] = []

        def answer(client: Client, message: str | bytes, error: DecodeError) -> None:
            client.send("no").close()

        client.typed(CODEC, answer).message(seen.append)
        peer.write(client_frame(TEXT, BAD) + client_frame(TEXT, MOVE))
        assert await peer.read_frame() == (0x81, b"no")
        await until(lambda: seen)


async def test_callback_that_raises_closes_with_1011_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as (client, peer):
        messages = client.typed(CODEC)

        @messages.message
        def on_message(message: StructMove | StructChat) -> None:
            raise LookupError(message)

        peer.send(TEXT, MOVE)
        assert await peer.read_close() == (1011, "")
        await peer.close()
        await client.wait_closed()
    assert "on_message raised an exception" in caplog.text
    assert "LookupError: StructMove(x=1, y=0)" in caplog.text


async def test_second_callback_and_what_is_no_function_are_refused() -> None:
    async with pair() as (client, _):
        messages = client.typed(CODEC)
        messages.message(lambda message: None)
        with pytest.raises(UsageError, match="twice"):
            messages.message(lambda message: None)
        with pytest.raises(UsageError, match="must be a function, not NoneType"):
            messages.message(None)  # type: ignore[arg-type]


# Broadcasts ------------------------------------------------------------------------------------------------


async def test_broadcast_sends_encoded_messages_as_text(serve: Serve) -> None:
    async def handler(client: Client) -> None:
        await client.wait_closed()

    server = await serve(handler)
    async with connect(url_of(server)) as one, connect(url_of(server), compression=Compression()) as two:
        await until(lambda: len(server.clients) == 2)
        assert server.broadcast(CODEC.encode(StructChat("grüße")), text=CODEC.text) == 2
        for client in (one, two):
            assert await client.typed(CODEC).read_message() == StructChat("grüße")


# Other channels ---------------------------------------------------------------------------------------------


class Queues:
    """A channel without a connection."""

    def __init__(self, *messages: str | bytes) -> None:
        self.messages = list(messages)
        self.sent: list[tuple[object, bool]] = []
        self.closed: tuple[int, str] | None = None

    def send(self, data: str | Buffer, *, text: bool = False) -> Coroutine[object, None, None]:
        self.sent.append((data, text))
        return asyncio.sleep(0)

    async def read_message(self) -> str | bytes:
        return self.messages.pop(0)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = (code, reason)

    @property
    def outcome(self) -> CloseOutcome | None:
        return None


async def test_any_channel_can_have_typed_messages() -> None:
    channel = Queues(MOVE, BAD)
    messages = Typed(channel, CODEC)
    await messages.send(StructMove(1))
    assert channel.sent == [(MOVE, True)]
    assert await messages.read_message() == StructMove(1)
    with pytest.raises(DecodeError):
        await messages.read_message()
    assert channel.closed == (1007, REASON)
    with pytest.raises(UsageError, match="Queues calls no functions: use async for or read_message"):
        messages.message(print)


async def test_on_error_gets_the_channel() -> None:
    channel = Queues(BAD, MOVE)

    def answer(bad: Queues, message: str | bytes, error: DecodeError) -> None:
        bad.sent.append((message, False))

    assert [await Typed(channel, CODEC, answer).read_message()] == [StructMove(1)]
    assert channel.sent == [(BAD, False)]
