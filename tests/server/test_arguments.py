"""Arguments of a server, and the errors for bad ones and for addresses that cannot be bound."""

import asyncio
import errno
import functools
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fixtures import Serve, address_of, echo
from streamws import Client, Limits, Request, Timeouts, UsageError, WebSocketServer

ONE_OF = "give exactly one of address and port, sock, or path to listen on; given: "


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, ValueError, ONE_OF + "none"),
        ({"address": "localhost"}, ValueError, "port is missing: give a port with the address, 0 for any free port"),
        ({"port": -1}, ValueError, "port must be from 0 to 65535, not -1"),
        ({"port": 65536}, ValueError, "port must be from 0 to 65535, not 65536"),
        ({"port": "80"}, TypeError, "port must be an int, not '80'"),
        ({"port": True}, TypeError, "port must be an int, not True"),
        ({"port": 0, "path": "/x"}, ValueError, ONE_OF + "address and port, path"),
        ({"path": ""}, ValueError, "path must not be empty"),
        ({"path": "/x", "mode": "660"}, TypeError, "mode must be an int such as 0o660, not '660'"),
        ({"path": "/x", "mode": True}, TypeError, "mode must be an int such as 0o660, not True"),
        ({"path": "/x", "mode": -1}, ValueError, "mode must be from 0 to 0o777, not -0o1"),
        ({"path": "/x", "mode": 0o1000}, ValueError, "mode must be from 0 to 0o777, not 0o1000"),
        ({"port": 0, "mode": 0o660}, ValueError, "mode is for the file of a Unix socket: give a path with it"),
        ({"path": "\0x", "mode": 0o660}, ValueError, "mode is for the file of a Unix socket: give a path with it"),
        ({"address": "::1", "path": "/x"}, ValueError, ONE_OF + "address and port, path"),
        ({"address": "::1", "port": 0, "path": "/x"}, ValueError, ONE_OF + "address and port, path"),
        (
            {"port": 0, "handler": "echo"},
            TypeError,
            "handler must be a coroutine function that takes a Client",
        ),
        ({"port": 0, "ssl": True}, TypeError, "ssl must be an ssl.SSLContext, not True"),
        ({"port": 0, "origins": "https://a.example"}, ValueError, 'origins must be "*" or a list such as'),
        ({"port": 0, "origins": ["a.example"]}, ValueError, "'a.example' in origins must be like"),
        ({"port": 0, "subprotocols": ["a b"]}, ValueError, "'a b' in subprotocols is not a token"),
        ({"port": 0, "subprotocols": "chat"}, ValueError, "subprotocols must be a list of names, not 'chat'"),
        ({"port": 0, "server_header": "a\r\nb: c"}, ValueError, "Server"),
    ],
)
def test_server_refuses_arguments(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        WebSocketServer(**arguments)


@pytest.mark.parametrize("place", [{"port": 0}, {"address": "::1", "port": 0}, {"path": "/x"}])
def test_server_refuses_a_socket_with_another_address(place: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(ValueError, match=ONE_OF):
        WebSocketServer(sock=sock, **place)


@pytest.mark.parametrize(
    ("options", "values", "kind", "message"),
    [
        (Limits, {"max_message_size": 0}, ValueError, "max_message_size must be at least 1, not 0"),
        (Limits, {"max_handshakes": 0}, ValueError, "max_handshakes must be at least 1, not 0"),
        (Limits, {"max_clients": 1.5}, TypeError, "max_clients must be an int, not 1.5"),
        (Limits, {"max_head": True}, TypeError, "max_head must be an int, not True"),
        (Limits, {"read_low": 2, "read_high": 1}, ValueError, "read_low (2) must not be above read_high (1)"),
        (Limits, {"write_low": 2, "write_high": 1}, ValueError, "write_low (2) must not be above write_high"),
        (Timeouts, {"close": 0}, ValueError, "close must be more than 0 seconds, not 0; None disables it"),
        (Timeouts, {"open": float("nan")}, ValueError, "open must be more than 0 seconds, not nan"),
        (Timeouts, {"open": float("inf")}, ValueError, "open must be more than 0 seconds, not inf"),
        (Timeouts, {"ping_timeout": "1"}, TypeError, "ping_timeout must be a number of seconds or None"),
    ],
)
def test_server_refuses_bad_options(
    options: Callable[..., object], values: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        options(**values)


# --- handler and callbacks


async def serve_one(client: Client) -> None: ...


class Application:
    async def serve_one(self, client: Client) -> None: ...

    def serve_badly(self, client: Client) -> None: ...

    def __call__(self, client: Client) -> Awaitable[None]:
        return serve_one(client)


def plain(client: Client) -> None:
    if client.id:
        return
    print(client)


async def asynchronous_generator(client: Client) -> AsyncIterator[str]:
    yield ""


def generator(client: Client) -> Iterator[str]:
    yield ""


def wrapper(client: Client) -> Awaitable[None] | None:
    return serve_one(client) if client.id else None


def either(client: Client, found: Awaitable[None] | None = None) -> Awaitable[None] | None:
    return found or None


def raises(client: Client) -> Awaitable[None]:
    raise ValueError


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (plain, "write `async def plain`, not `def plain`"),
        (lambda client: None, "write `async def"),
        (Application().serve_badly, "write `async def serve_badly`, not `def serve_badly`"),
        (generator, "is a generator: leave out `yield`"),
        (asynchronous_generator, "is a generator: leave out `yield`"),
        (b"serve", "that takes a Client, not b'serve'"),
    ],
)
def test_server_refuses_a_handler_that_is_no_coroutine_function(handler: Any, message: str) -> None:
    with pytest.raises(TypeError, match="handler must be a coroutine function.*" + re.escape(message)):
        WebSocketServer(port=0, handler=handler)


@pytest.mark.parametrize(
    "handler",
    [
        serve_one,
        Application().serve_one,
        Application(),
        functools.partial(Application.serve_one, Application()),
        lambda client: serve_one(client),
        wrapper,
        either,
        raises,
    ],
)
def test_server_accepts_anything_that_may_return_an_awaitable(handler: Any) -> None:
    assert "not started" in repr(WebSocketServer(port=0, handler=handler))


@pytest.mark.parametrize("arguments", [("localhost", 0, serve_one), (serve_one, "localhost", 0), (serve_one, 0)])
def test_server_refuses_a_positional_handler(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r"WebSocketServer\(address, port, handler=handler\)"):
        WebSocketServer(*arguments)


@pytest.mark.parametrize("name", ["connection", "request"])
def test_server_refuses_a_callback_that_is_no_function(name: str) -> None:
    with pytest.raises(UsageError, match=rf"@socket\.{name} registers a function that takes a \w+, not str"):
        getattr(WebSocketServer(port=0), name)("/path")


def notified(client: Client) -> None: ...


def asked(request: Request) -> None: ...


def test_decorators_return_the_function() -> None:
    server = WebSocketServer(port=0)
    assert server.connection(notified) is notified
    assert server.request(asked) is asked


def test_server_refuses_a_second_handler_or_callback() -> None:
    with_handler = WebSocketServer(port=0, handler=echo)
    with_callback = WebSocketServer(port=0)
    with_callback.connection(notified)
    for server in (with_handler, with_callback):
        with pytest.raises(UsageError, match=r"already has a handler or a @socket\.connection callback"):
            server.connection(notified)


def test_server_refuses_a_second_request_callback() -> None:
    server = WebSocketServer(port=0)
    server.request(asked)
    with pytest.raises(UsageError, match=r"already has a @socket\.request callback"):
        server.request(asked)


async def test_server_does_not_start_without_a_handler() -> None:
    with pytest.raises(UsageError, match=r"pass handler=, or register one with @socket\.connection"):
        await WebSocketServer("127.0.0.1", 0).start()


async def test_server_does_not_start_twice(serve: Serve) -> None:
    server = await serve(echo)
    with pytest.raises(UsageError, match="this server was already started: make a new one"):
        await server.start()


async def test_server_does_not_start_again_after_close(serve: Serve) -> None:
    server = await serve(echo)
    await server.close()
    with pytest.raises(UsageError, match="this server was already started: make a new one"):
        await server.start()


async def test_server_does_not_start_on_another_loop() -> None:
    other = asyncio.new_event_loop()
    try:
        server = WebSocketServer("127.0.0.1", 0, handler=echo, loop=other)
        with pytest.raises(UsageError, match="this server belongs to another event loop"):
            await server.start()
    finally:
        other.close()


async def test_server_shows_address_and_state() -> None:
    server = WebSocketServer("127.0.0.1", 0, handler=echo)
    assert repr(server) == "<WebSocketServer on 127.0.0.1:0, not started>"
    assert (server.sockets, dict(server.clients)) == ((), {})
    async with server:
        assert repr(server).endswith(", 0 clients>")
    assert repr(WebSocketServer(path="/x", handler=echo)) == "<WebSocketServer on /x, not started>"
    assert repr(WebSocketServer(path="\0x", handler=echo)) == "<WebSocketServer on @x, not started>"
    several = WebSocketServer(["127.0.0.1", "::1"], 8765, handler=echo)
    assert repr(several) == "<WebSocketServer on 127.0.0.1:8765, [::1]:8765, not started>"
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        by_socket = WebSocketServer(sock=sock, handler=echo)
        assert repr(by_socket) == f"<WebSocketServer on 127.0.0.1:{sock.getsockname()[1]}, not started>"
    assert repr(by_socket).startswith("<WebSocketServer on <socket.socket [closed]")


async def test_server_that_never_started_can_be_closed() -> None:
    await WebSocketServer("127.0.0.1", 0, handler=echo).close()


# --- places that cannot be had


async def refused_start(**place: Any) -> OSError:
    server = WebSocketServer(handler=echo, **place)
    with pytest.raises(OSError, match="cannot listen on ") as caught:
        await server.start()
    assert "None" not in str(caught.value), "it is for people to read"
    await server.close()
    return caught.value


async def test_server_names_the_port_that_is_in_use(serve: Serve) -> None:
    _, port = address_of(await serve(echo))
    error = await refused_start(address="127.0.0.1", port=port)
    assert error.errno == errno.EADDRINUSE
    reason = os.strerror(errno.EADDRINUSE)
    assert str(error) == f"[Errno {errno.EADDRINUSE}] cannot listen on '127.0.0.1', port {port}: {reason}"


async def test_server_names_the_address_that_is_not_local() -> None:
    # RFC 5737: an address for documentation, which no machine has
    error = await refused_start(address="192.0.2.1", port=0)
    assert "cannot listen on '192.0.2.1', port 0: " in str(error)


async def test_server_does_not_take_the_path_of_another_one(tmp_path: Path) -> None:
    path = tmp_path / "ws"
    async with WebSocketServer(path=path, handler=echo):
        error = await refused_start(path=path)
        assert error.errno == errno.EADDRINUSE
        assert str(error) == f"[Errno {errno.EADDRINUSE}] cannot listen on {path}: a server is listening there"
        assert path.exists()
    assert not path.exists()


async def test_server_does_not_take_the_abstract_name_of_another_one() -> None:
    name = f"\0streamws-{os.getpid()}"
    async with WebSocketServer(path=name, handler=echo):
        error = await refused_start(path=name)
    shown = f"@{name[1:]}"
    assert str(error) == f"[Errno {errno.EADDRINUSE}] cannot listen on {shown}: a server is listening there"


async def test_server_does_not_remove_a_file_that_is_not_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "ws"
    path.write_text("precious")
    error = await refused_start(path=path)
    assert str(error).endswith(f"cannot listen on {path}: the file is not a socket")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("place", ["", "missing/s", "x" * 200], ids=["a folder", "no folder", "too long"])
async def test_server_names_the_path_that_cannot_be_bound(place: str, tmp_path: Path) -> None:
    path = tmp_path / place
    error = await refused_start(path=path)
    assert f"cannot listen on {path}: " in str(error)


async def test_server_can_start_again_after_bind_failed(serve: Serve) -> None:
    first = await serve(echo)
    host, port = address_of(first)
    server = WebSocketServer(host, port, handler=echo)
    with pytest.raises(OSError, match="cannot listen"):
        await server.start()
    await first.close()
    async with server:
        assert address_of(server) == (host, port)
