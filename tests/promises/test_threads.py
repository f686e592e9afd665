"""Calls from other threads than that of the event loop (promise 14)."""

import asyncio
import gc
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from helpers.fixtures import Connect, Serve, echo, url_of
from helpers.frames import BINARY, PING, PONG, TEXT
from helpers.frames import client_frame as frame
from helpers.peers import pair
from helpers.waiting import PATIENCE, until, within
from streamws import (
    Client,
    Compression,
    DataFrame,
    FragmentWriter,
    MessageReader,
    Opcode,
    UsageError,
    WebSocketServer,
    connect,
)

Call = Callable[[Client], Coroutine[Any, Any, Any]]


def from_thread(work: Callable[[], Any]) -> Any:
    """Call a function in another thread, while the loop of this thread is blocked, and return the result."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return future.result()


# --- what a call sends

CALLS: dict[str, tuple[Call, tuple[int, bytes]]] = {
    "send": (lambda client: client.send("text"), (TEXT, b"text")),
    "send bytes": (lambda client: client.writer.send(b"bytes"), (BINARY, b"bytes")),
    "ping": (lambda client: client.writer.ping("a"), (PING, b"a")),
    "pong": (lambda client: client.writer.pong(b"b"), (PONG, b"b")),
    "write_frame": (lambda client: client.writer.write_frame(DataFrame(Opcode.TEXT, b"c")), (TEXT, b"c")),
    "feed": (lambda client: client.writer.feed(["d"]), (0x01, b"d")),
    "close": (lambda client: client.close(1000, "bye"), (0x88, b"\x03\xe8bye")),
}


@pytest.mark.parametrize("name", CALLS)
async def test_call_from_another_thread_sends_in_the_thread_of_the_loop(name: str) -> None:
    call, sent = CALLS[name]
    loop = asyncio.get_running_loop()
    async with pair() as (client, peer):
        future = from_thread(lambda: asyncio.run_coroutine_threadsafe(call(client), loop))
        assert client._connection.outbox.written == 0
        assert await peer.read_frame() == sent
        if name == "ping":
            peer.send(PONG, b"a")
            assert await within(asyncio.wrap_future(future)) > 0
        elif name == "close":
            peer.send_close()
            await within(asyncio.wrap_future(future))
        else:
            assert await within(asyncio.wrap_future(future)) is None


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "memoryview"])
async def test_call_from_another_thread_copies_data_that_can_change(kind: Callable[[bytes], Any]) -> None:
    loop = asyncio.get_running_loop()
    async with pair() as (client, peer):

        def work(make: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
            data = kind(b"before")
            asyncio.run_coroutine_threadsafe(make(data), loop)
            data[:] = b"after!"

        for send in (client.send, client.writer.send, client.writer.ping, client.writer.pong):
            from_thread(partial(work, send))
            assert (await peer.read_frame())[1] == b"before"
        async with client.writer.fragment() as stream:
            from_thread(lambda: work(stream.send))
            assert await peer.read_frame() == (0x02, b"before")
        assert await peer.read_frame() == (0x80, b"")
        async with client.writer.data_frame(6) as whole:
            from_thread(lambda: work(whole.write))
            assert await peer.read_frame() == (BINARY, b"before")


async def test_broadcast_from_another_thread_sends_in_the_thread_of_the_loop(serve: Serve, connect: Connect) -> None:
    server = await serve(echo)
    raws = [await connect(server) for _ in range(2)]
    await until(lambda: len(server.clients) == 2)
    loop = asyncio.get_running_loop()

    def broadcast() -> Any:
        data = bytearray(b"before")
        later: Any = server.broadcast(data)
        future = asyncio.run_coroutine_threadsafe(later, loop)
        data[:] = b"after!"
        return future

    future = from_thread(broadcast)
    assert [client._connection.outbox.written for client in server.clients.values()] == [0, 0]
    assert await within(asyncio.wrap_future(future)) == 2
    assert [await raw.read_frame() for raw in raws] == [(BINARY, b"before")] * 2
    one = next(iter(server.clients.values()))
    chosen = from_thread(lambda: asyncio.run_coroutine_threadsafe(server.broadcast("b", to=iter([one])), loop))  # type: ignore[arg-type]
    assert await within(asyncio.wrap_future(chosen)) == 1
    from_thread(lambda: loop.call_soon_threadsafe(server.broadcast, "c"))
    assert (await raws[1].read_frame())[1] == b"c"


async def test_bad_arguments_are_errors_at_the_call() -> None:
    async with pair() as (client, _):
        bad: Any = 5
        for call in (client.send, client.writer.send):
            with pytest.raises(TypeError, match="message must be str or bytes-like, not int"):
                from_thread(partial(call, bad))


@pytest.mark.parametrize("takeover", [True, False])
async def test_no_message_is_lost_when_many_threads_send(takeover: bool, serve: Serve) -> None:
    threads, each = 8, 200
    compression = Compression(takeover=takeover, threshold=0)
    server = await serve(echo, compression=compression)
    loop = asyncio.get_running_loop()
    async with connect(url_of(server), compression=compression) as client:
        assert client.compression is not None
        messages = [
            [f"thread {thread}, message {n}, {'and text ' * 20}" for n in range(each)] for thread in range(threads)
        ]

        def work(mine: list[str]) -> None:
            for message in mine:
                asyncio.run_coroutine_threadsafe(client.send(message), loop).result(PATIENCE)

        working = asyncio.gather(*(asyncio.to_thread(work, mine) for mine in messages))
        received = [str(await within(client.read_message())) for _ in range(threads * each)]
        await within(working)
        # The messages of one thread arrive in the order in which it sent them.
        for thread, mine in enumerate(messages):
            assert [message for message in received if message.startswith(f"thread {thread},")] == mine


# --- what is an error

AWAITED: dict[str, Call] = {
    **{name: call for name, (call, _) in CALLS.items()},
    "wait_closed": lambda client: client.wait_closed(),
}


@pytest.mark.parametrize("name", AWAITED)
async def test_await_in_another_thread_is_an_error(name: str) -> None:
    async def use(call: Call, client: Client) -> None:
        await call(client)

    async with pair() as (client, peer):
        named = {"send bytes": "send", "feed": "fragment"}.get(name, name)
        with pytest.raises(UsageError, match=rf"cannot \w+ .*{named}.*in this thread.*run_coroutine_threadsafe\("):
            from_thread(lambda: asyncio.run(use(AWAITED[name], client)))
        assert client._connection.outbox.written == 0
        await client.send("works")
        assert await peer.read_frame() == (TEXT, b"works")


async def test_broadcast_awaited_in_another_thread_is_an_error(serve: Serve) -> None:
    server = await serve(echo)

    async def use() -> None:
        later: Any = server.broadcast("a")
        await later

    with pytest.raises(UsageError, match=r"call_soon_threadsafe\(server\.broadcast, data\)"):
        from_thread(lambda: asyncio.run(use()))


READS: dict[str, Callable[[Client], object]] = {
    "async for": aiter,
    "read_message": lambda client: client.read_message(),
    "read_frame": lambda client: client.read_frame(),
    "messages": lambda client: client.messages(),
    "frames": lambda client: client.frames(),
    "text": lambda client: client.text(),
    "binary": lambda client: client.binary(),
}


@pytest.mark.parametrize("name", READS)
async def test_read_in_another_thread_is_an_error(name: str) -> None:
    async with pair() as (client, peer):
        with pytest.raises(UsageError, match=rf"cannot use .*{name}.* in this thread.*run_coroutine_threadsafe\("):
            from_thread(lambda: READS[name](client))
        peer.write(frame(TEXT, b"works"))
        assert await client.read_message() == "works"


READER_CALLS: dict[str, Callable[[MessageReader], object]] = {
    "get": lambda reader: reader.get(),
    "read": lambda reader: reader.read(1),
    "readexactly": lambda reader: reader.readexactly(1),
    "readinto": lambda reader: reader.readinto(bytearray(1)),
    "readline": lambda reader: reader.readline(),
    "async for": anext,
    "text": lambda reader: anext(reader.text()),
}


@pytest.mark.parametrize("name", READER_CALLS)
async def test_reader_in_another_thread_is_an_error(name: str) -> None:
    async with pair() as (client, peer):
        peer.write(frame(TEXT, b"works"))
        reader = await anext(client.messages())
        with pytest.raises(UsageError, match="cannot use a MessageReader in this thread"):
            from_thread(lambda: READER_CALLS[name](reader))
        assert await reader.get() == "works"


async def test_writer_in_parts_in_another_thread_is_an_error() -> None:
    async def enter(stream: FragmentWriter) -> None:
        async with stream:
            pass

    async def send(part: Awaitable[None]) -> None:
        await part

    async with pair() as (client, peer):
        async with client.writer.fragment() as stream:
            with pytest.raises(UsageError, match=r"cannot await stream\.send\(\.\.\.\) in this thread"):
                from_thread(lambda: asyncio.run(send(stream.send("a"))))
            await stream.send("b")
        assert await peer.read_frames(2) == [(0x01, b"b"), (0x80, b"")]
        async with client.writer.data_frame(1) as whole:
            with pytest.raises(UsageError, match=r"cannot await frame\.write\(\.\.\.\) in this thread"):
                from_thread(lambda: asyncio.run(send(whole.write("a"))))
            await whole.write(b"b")
        assert await peer.read_frame() == (BINARY, b"b")
        with pytest.raises(UsageError, match=r"cannot use writer\.fragment\(\)"):
            from_thread(lambda: asyncio.run(enter(client.writer.fragment())))


@pytest.mark.parametrize("name", ["send", "ping", "pong"])
async def test_call_that_is_not_awaited_is_a_warning(name: str) -> None:
    call, _ = CALLS[name]

    def forget() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call(client)  # type: ignore[unused-coroutine]
            gc.collect()
        texts.extend(str(warning.message) for warning in caught if warning.category is RuntimeWarning)

    texts: list[str] = []
    async with pair() as (client, _):
        from_thread(forget)
        assert client._connection.outbox.written == 0
    [text] = texts
    assert f"_{name}_from_another_thread' was never awaited" in text


# --- a loop in another thread than the one that made the server or the connection


@contextmanager
def running(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Run a loop in another thread."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_loop_may_run_in_another_thread_than_the_one_that_started_the_server(
    own_loop: asyncio.AbstractEventLoop,
) -> None:
    clients: list[Client] = []

    async def handler(client: Client) -> None:
        clients.append(client)
        await echo(client)

    server = WebSocketServer("127.0.0.1", 0, loop=own_loop, handler=handler)
    with server, running(own_loop):

        async def use() -> None:
            async with connect(url_of(server)) as client:
                await client.send("in the loop")
                assert await within(client.read_message()) == "in the loop"
                with pytest.raises(UsageError):
                    await clients[0].send("in another thread")
                future = asyncio.run_coroutine_threadsafe(clients[0].send("from another thread"), own_loop)
                await within(asyncio.wrap_future(future))
                assert await within(client.read_message()) == "from another thread"

        asyncio.run(use())


def test_loop_may_move_to_another_thread_and_back(own_loop: asyncio.AbstractEventLoop) -> None:
    async def open_connection() -> Client:
        return await connect(url_of(server))

    async def exchange(text: str) -> None:
        await client.send(text)  # before the loop has received anything in its new thread
        assert await within(client.read_message()) == text

    async def close() -> None:
        await client.close()

    server = WebSocketServer("127.0.0.1", 0, loop=own_loop, handler=echo)
    with server:
        client = own_loop.run_until_complete(open_connection())
        own_loop.run_until_complete(exchange("in the first thread"))
        from_thread(lambda: own_loop.run_until_complete(exchange("in the second thread")))
        with running(own_loop):
            asyncio.run_coroutine_threadsafe(exchange("in the third thread"), own_loop).result(PATIENCE)
            with pytest.raises(UsageError, match="cannot await"):
                asyncio.run(close())
        own_loop.run_until_complete(exchange("in the first thread again"))
        client.send("while the loop stands still").close()
        assert own_loop.run_until_complete(client.read_message()) == "while the loop stands still"
        own_loop.run_until_complete(close())
