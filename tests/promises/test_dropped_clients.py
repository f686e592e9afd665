"""An ended connection is freed without the garbage collector. An unclosed client that is dropped causes a warning."""

import asyncio
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from helpers.fixtures import Serve, echo, url_of
from helpers.waiting import iterations, until, within
from streamws import Client, CloseOutcome, MessageReader, connect

Register = Callable[[Client], object]


def message(client: Client) -> None:
    @client.message
    async def on_message(reader: MessageReader) -> None:
        await reader.get()


def message_that_uses_the_client(client: Client) -> None:
    @client.message
    async def on_message(reader: MessageReader) -> None:
        await client.send(await reader.get())


def ping(client: Client) -> None:
    @client.ping
    def on_ping(payload: bytes) -> None:
        client.writer.pong(payload).close()


def pong(client: Client) -> None:
    @client.pong
    async def on_pong(payload: bytes) -> None:
        assert client.id


def closed(client: Client) -> None:
    @client.closed
    async def on_closed(outcome: CloseOutcome) -> None:
        assert client.outcome is outcome


def after_the_end(client: Client) -> None:
    @client.closed
    def on_closed(outcome: CloseOutcome) -> None:
        ping(client)
        pong(client)


CALLBACKS: list[Register] = [message, message_that_uses_the_client, ping, pong, closed, after_the_end]


async def use(client: Client, how: str) -> None:
    """Let callbacks run on both sides, then end the connection."""
    await client.send("a message")
    await client.writer.pong(b"x")
    await within(client.writer.ping(b"x"))
    await iterations()
    if how == "closed":
        await client.close()
    else:
        client._connection.abort()
        await client.wait_closed()


async def freed(references: list["weakref.ref[object]"]) -> None:
    """Wait until the objects are freed, which needs no more than some loop iterations."""
    await until(lambda: not any(reference() for reference in references))


@contextmanager
def no_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def references_to(client: Client) -> list["weakref.ref[object]"]:
    return [weakref.ref(client), weakref.ref(client._connection)]


@pytest.mark.parametrize("how", ["closed", "lost"])
@pytest.mark.parametrize("register", CALLBACKS)
async def test_client_with_callback_is_freed_at_its_end(register: Register, how: str, serve: Serve) -> None:
    async def ping_back(client: Client) -> None:
        client.writer.ping().close()
        await echo(client)

    server = await serve(ping_back)
    with no_collector():
        client = await connect(url_of(server))
        references = references_to(client)
        register(client)
        await use(client, how)
        del client
        await freed(references)


@pytest.mark.parametrize("how", ["closed", "lost"])
@pytest.mark.parametrize("register", CALLBACKS)
async def test_client_of_a_server_with_callback_is_freed_at_its_end(register: Register, how: str, serve: Serve) -> None:
    references: list[weakref.ref[object]] = []

    def on_connection(client: Client) -> None:
        references.extend(references_to(client))
        register(client)

    server = await serve(connection=on_connection)
    with no_collector():
        client = await connect(url_of(server))
        await use(client, how)
        assert len(references) == 2
        await freed(references)


async def test_client_of_a_handler_that_refers_to_it_is_freed_at_its_end(serve: Serve) -> None:
    references: list[weakref.ref[object]] = []

    async def handler(client: Client) -> None:
        references.extend(references_to(client))

        async def answer(data: str | bytes) -> None:
            await client.send(data)

        async for data in client:
            await answer(data)

    server = await serve(handler)
    with no_collector():
        client = await connect(url_of(server))
        await use(client, "closed")
        assert len(references) == 2
        await freed(references)


# --- dropped clients


@contextmanager
def unclosed() -> Iterator[list[str]]:
    """Collect the warnings about clients that were dropped unclosed."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
        found.extend(str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning))


async def test_client_dropped_unclosed_says_so(serve: Serve) -> None:
    server = await serve(echo)
    with unclosed() as found:
        client = await connect(url_of(server))
        shown = repr(client)
        del client
    assert found == [f"unclosed {shown}: use `async with`, or await close()"]


async def test_client_dropped_in_a_loop_over_its_messages_says_so_when_the_loop_is_left(serve: Serve) -> None:
    async def count(client: Client) -> None:
        for number in range(3):
            await client.send(str(number))
        await client.wait_closed()

    server = await serve(count)
    seen: list[str] = []
    with unclosed() as found:
        async for text in (await connect(url_of(server))).text():
            seen.append(text)
            assert found == []
            if text == "2":
                break
        del text
    assert seen == ["0", "1", "2"]
    assert len(found) == 1


@pytest.mark.parametrize("loop", ["__aiter__", "messages", "frames", "binary"])
async def test_loop_over_a_client_keeps_it(loop: str, serve: Serve) -> None:
    server = await serve(echo)
    client = await connect(url_of(server))
    reference = weakref.ref(client)
    iterator = getattr(client, loop)()
    with unclosed() as found:
        del client
        assert reference() is not None
        assert found == []
        await reference().close()  # type: ignore[union-attr]
        del iterator
    assert found == []
    assert reference() is None


@pytest.mark.parametrize("how", ["closed", "closing", "closed by the server", "async with", "async for", "callback"])
async def test_client_that_need_not_be_closed_says_nothing(how: str, serve: Serve) -> None:
    server = await serve(echo)
    url = url_of(server)
    with unclosed() as found:
        if how == "async with":
            async with connect(url):
                pass
        elif how == "async for":
            async for client in connect(url):
                await client.close()
                break
            del client
            await iterations()
        else:
            client = await connect(url)
            if how == "closed":
                await client.close()
            elif how == "closing":
                closing = asyncio.ensure_future(client.close())
                await iterations(1)
                closing.cancel()
                await asyncio.wait([closing])
                del closing
            elif how == "closed by the server":
                await next(iter(server.clients.values())).close()
                await client.wait_closed()
            else:
                client.message(print)
            del client
    assert found == []
