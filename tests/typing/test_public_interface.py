"""Types of the public interface: `mypy --strict` checks the assertions, and pytest checks that the names exist."""

import ast
import asyncio
import inspect
import socket
import ssl
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal, assert_type

import pytest
from prometheus_client import CollectorRegistry, Metric

import streamws
from streamws import (
    Accept,
    Backoff,
    Cause,
    Client,
    Close,
    CloseCode,
    CloseOutcome,
    Compression,
    ConnectError,
    Connecting,
    ConnectionClosed,
    ConnectionStats,
    ConnectTimeout,
    DataFrame,
    DataFrameWriter,
    DeflateTerms,
    FragmentWriter,
    HandshakeError,
    HandshakeRefused,
    Headers,
    IncompleteMessage,
    InvalidHandshake,
    InvalidHeader,
    InvalidURL,
    Key,
    Limits,
    MessageReader,
    MissingExtra,
    Observer,
    Opcode,
    PeerCertificate,
    ProtocolViolation,
    ProxyError,
    Query,
    ReconnectError,
    RedirectError,
    Request,
    Response,
    Router,
    Server,
    ServerStats,
    Side,
    State,
    StreamwsError,
    Target,
    Timeouts,
    UsageError,
    WebSocketServer,
    Writer,
    connect,
    is_transient,
)
from streamws.messages import Json, Typed
from streamws.watching.prometheus import Collector


async def reading(client: Client) -> None:
    async for message in client:
        assert_type(message, str | bytes)
    assert_type(aiter(client), AsyncIterator[str | bytes])
    await assert_type(client.read_message(), Coroutine[object, None, str | bytes])
    assert_type(await client.read_message(), str | bytes)
    await assert_type(client.read_frame(), Coroutine[object, None, DataFrame])
    assert_type(await client.read_frame(), DataFrame)
    async for reader in client.messages():
        assert_type(reader, MessageReader)
    async for text in client.text():
        assert_type(text, str)
    async for data in client.binary():
        assert_type(data, bytes)
    async for frame in client.frames():
        assert_type(frame, DataFrame)


async def reading_as_tasks(client: Client) -> None:
    assert_type(asyncio.create_task(client.read_message()), asyncio.Task[str | bytes])
    assert_type(await asyncio.wait_for(client.read_message(), 1), str | bytes)
    both = await asyncio.gather(client.read_message(), client.read_frame())
    assert_type(both, tuple[str | bytes, DataFrame])
    assert_type(await asyncio.gather(client.send(""), client.writer.ping()), tuple[None, float])
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(client.writer.ping()), asyncio.Task[float])
        group.create_task(client.send(b""))


async def streaming(reader: MessageReader) -> None:
    assert_type(reader.type, Literal[Opcode.TEXT, Opcode.BINARY])
    assert_type(await reader.get(), str | bytes)
    assert_type(await reader.get(Opcode.TEXT), str)
    assert_type(await reader.get(Opcode.BINARY), bytes)
    assert_type(await reader.get(kind=Opcode.TEXT), str)
    assert_type(await reader.get(reader.type), str | bytes)
    assert_type(await reader.get(None), str | bytes)
    assert_type(await reader.read(), bytes)
    assert_type(await reader.read(10), bytes)
    assert_type(await reader.readexactly(10), bytes)
    assert_type(await reader.readinto(bytearray(10)), int)
    assert_type(await reader.readinto(memoryview(bytearray(10))), int)
    assert_type(await reader.readline(), bytes)
    assert_type(await reader.readuntil(), bytes)
    assert_type(await reader.readuntil(b"x"), bytes)
    assert_type(reader.at_eof(), bool)
    async for chunk in reader:
        assert_type(chunk, bytes)
    async for text in reader.text():
        assert_type(text, str)
    async with reader as entered:
        assert_type(entered, MessageReader)
    reader.leave()


async def writing(client: Client, writer: Writer) -> None:
    assert_type(client.writer, Writer)
    for data in ("text", b"bytes", bytearray(), memoryview(b"")):
        await assert_type(client.send(data), Coroutine[object, None, None])
        await assert_type(writer.send(data), Coroutine[object, None, None])
        await assert_type(client.send(data, False), Coroutine[object, None, None])
        await assert_type(client.send(b"text", text=True), Coroutine[object, None, None])
        await assert_type(writer.send(data, compress=None), Coroutine[object, None, None])
    await assert_type(writer.ping(), Coroutine[object, None, float])
    assert_type(await writer.ping("text"), float)
    assert_type(await writer.ping(b"bytes"), float)
    await assert_type(writer.pong(b""), Coroutine[object, None, None])
    assert_type(writer.fragment(), FragmentWriter)
    assert_type(writer.fragment(compress=True), FragmentWriter)
    await writer.feed(["part"], compress=False)
    async with writer.fragment(Opcode.TEXT) as stream:
        assert_type(stream, FragmentWriter)
        await assert_type(stream.send("part"), Coroutine[object, None, None])
        await stream.send(bytearray())
    assert_type(writer.data_frame(1), DataFrameWriter)
    async with writer.data_frame(length=1, kind=Opcode.TEXT) as frame:
        assert_type(frame, DataFrameWriter)
        for part in ("text", b"bytes", bytearray(), memoryview(b"")):
            await assert_type(frame.write(part), Coroutine[object, None, None])
        assert_type(frame.length, int)
        assert_type(frame.remaining, int)
    await writer.write_frame(DataFrame(Opcode.TEXT, b"payload"))


async def feeding(
    writer: Writer,
    reader: MessageReader,
    texts: Iterable[str],
    chunks: AsyncIterator[bytes],
    views: Sequence[memoryview],
    both: AsyncIterator[str | bytes],
) -> None:
    await writer.feed(reader)
    await writer.feed(texts, Opcode.TEXT)
    await writer.feed(chunks, kind=Opcode.BINARY)
    await writer.feed(views)
    await writer.feed(both)


async def closing(client: Client) -> None:
    await client.close()
    await client.close(CloseCode.GOING_AWAY, "reason")
    await client.close(code=4000, reason="reason")
    await client.close(timeout=2.5)
    await client.wait_closed()
    assert_type(client.abort(), None)


def reading_attributes(client: Client) -> None:
    assert_type(client.addr, str)
    assert_type(client.backlog, int)
    assert_type(client.port, int)
    assert_type(client.id, int)
    assert_type(client.request, Request)
    assert_type(client.response, Response)
    assert_type(client.subprotocol, str | None)
    assert_type(client.compression, DeflateTerms | None)
    assert_type(client.state, State)
    assert_type(client.latency, float | None)
    assert_type(client.outcome, CloseOutcome | None)
    assert_type(client.stats, ConnectionStats)


def calling_back(client: Client) -> None:
    @client.message
    async def on_message(reader: MessageReader) -> None: ...

    unchanged: Callable[[MessageReader], Coroutine[object, object, None]] = on_message

    @client.ping
    def on_ping(payload: bytes) -> None: ...

    @client.pong
    async def on_pong(payload: bytes) -> None: ...

    on_ping(payload=b"")

    @client.closed
    def on_closed(outcome: CloseOutcome) -> None: ...

    on_closed(typing.cast(CloseOutcome, None))
    client.message(unchanged)


class Watcher(Observer):
    def opened(self, client: Client) -> None:
        assert_type(client.stats.round_trip, float | None)

    def closed(self, client: Client, outcome: CloseOutcome, stats: ConnectionStats) -> None:
        assert_type(stats.messages_received, int)
        assert_type(stats.opened_at, datetime)
        assert_type(stats.duration, float)


def watching(socket: WebSocketServer) -> None:
    assert_type(socket.stats, ServerStats)
    assert_type(socket.stats.closed, Mapping[Cause, int])
    assert_type(socket.stats.refused, Mapping[int, int])
    assert_type(socket.stats.started_at, datetime | None)
    WebSocketServer("", 0, observer=Watcher())
    connect("ws://localhost/", observer=Watcher())
    registry = CollectorRegistry()
    registry.register(Collector(socket))
    registry.register(Collector({"chat": socket}))
    assert_type(Collector(socket).collect(), Iterator[Metric])
    missing: list[type[ImportError]] = [MissingExtra]
    assert missing


class Method:
    """Callbacks can be methods, and can have optional parameters."""

    async def on_message(self, reader: MessageReader, more: int = 0) -> None: ...

    def on_anything(self, argument: object) -> None: ...


def calling_back_methods(client: Client, socket: WebSocketServer, method: Method) -> None:
    client.message(method.on_message)
    client.ping(method.on_anything)
    client.closed(method.on_anything)
    socket.connection(method.on_anything)


def reading_outcome(
    outcome: CloseOutcome, close: Close, error: ConnectionClosed, incomplete: IncompleteMessage
) -> None:
    assert_type(outcome.cause, Cause)
    assert_type(outcome.initiator, Side)
    assert_type(outcome.received, Close | None)
    assert_type(outcome.sent, Close | None)
    assert_type(outcome.withheld, Close | None)
    assert_type(outcome.detail, str)
    assert_type(outcome.clean, bool)
    assert_type(outcome.code, int)
    assert_type(outcome.reason, str)
    assert_type(close.code, int)
    assert_type(close.reason, str)
    assert_type(error.outcome, CloseOutcome)
    assert_type(incomplete.outcome, CloseOutcome)
    assert_type(incomplete.received, int)
    assert_type(incomplete.missing, int | None)


def reading_violation(violation: ProtocolViolation) -> None:
    assert_type(violation.reason, str)
    assert_type(violation.code, int)
    errors: list[type[StreamwsError]] = [HandshakeError, ConnectionClosed, UsageError, InvalidHeader]
    values: list[type[ValueError]] = [InvalidHeader]
    runtime: list[type[RuntimeError]] = [UsageError]
    assert errors
    assert values
    assert runtime


def framing() -> None:
    frame = DataFrame(Opcode.TEXT, b"payload", fin=False)
    assert_type(frame.opcode, Opcode)
    assert_type(frame.payload, bytes)
    assert_type(frame.fin, bool)


def reading_request(request: Request, headers: Headers) -> None:
    assert_type(request.method, str)
    assert_type(request.target, str)
    assert_type(request.path, str)
    assert_type(request.query_string, str)
    assert_type(request.query, Query)
    assert_type(request.query["room"], str)
    assert_type(request.query.get("room"), str | None)
    assert_type(request.query.getlist("room"), list[str])
    assert_type(request.cookies, Mapping[str, str])
    assert_type(request.subprotocols, tuple[str, ...])
    assert_type(request.remote, tuple[str, int])
    assert_type(request.secure, bool)
    assert_type(request.host, str)
    assert_type(request.headers, Headers)
    assert_type(headers["Accept"], str)
    assert_type(headers.get("Accept"), str | None)
    assert_type(headers.get_all("Accept"), tuple[str, ...])
    assert_type(headers.items_all(), Iterator[tuple[str, str]])
    mapping: Mapping[str, str] = headers
    Headers(mapping)
    Headers([("Accept", "*/*")])


NUMBER: Key[int] = Key("number")


def storing(request: Request, client: Client) -> None:
    request[NUMBER] = 1
    assert_type(request[NUMBER], int)
    assert_type(request.get(NUMBER), int | None)
    assert_type(request.get(NUMBER, ""), int | str)
    assert_type(NUMBER in request, bool)
    del request[NUMBER]
    client[NUMBER] = 1
    assert_type(client[NUMBER], int)
    assert_type(client.get(NUMBER), int | None)
    assert_type(client.get(NUMBER, ""), int | str)
    assert_type(NUMBER in client, bool)
    del client[NUMBER]
    assert_type(NUMBER.name, str)


def asking_the_transport(request: Request, client: Client) -> None:
    assert_type(client.remote, tuple[str, int])
    assert_type(client.get_extra_info("peercert"), PeerCertificate | None)
    assert_type(client.get_extra_info("cipher"), tuple[str, str, int] | None)
    assert_type(client.get_extra_info("ssl_object"), ssl.SSLObject | None)
    assert_type(client.get_extra_info("peername"), object)
    assert_type(client.get_extra_info("peercert", 1), object)
    certificate = request.get_extra_info("peercert")
    if certificate is not None:
        for kind, name in certificate.get("subjectAltName", ()):
            assert_type((kind, name), tuple[str, str])


def making_responses() -> None:
    accept = Accept([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], subprotocol="chat")
    assert_type(accept.headers, Headers)
    assert_type(accept.subprotocol, str | None)
    Accept({"X-Request-Id": "1"})
    response = Response(200, "body", {"X-Header": "value"}, content_type="text/plain")
    assert_type(response.status, int)
    assert_type(response.reason, str)
    assert_type(response.headers, Headers)
    assert_type(response.body, bytes)
    Response(503, b"body", [("Retry-After", "5")])


async def handler(client: Client) -> None: ...


@asynccontextmanager
async def lifespan(socket: WebSocketServer) -> AsyncGenerator[None]:
    yield


class Pool:
    """A lifespan may be any function that returns an async context manager."""

    def __init__(self, socket: WebSocketServer) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: object) -> None: ...


WebSocketServer(port=0, handler=handler, lifespan=Pool)


async def serving(context: ssl.SSLContext) -> None:
    socket = WebSocketServer(
        "localhost",
        0,
        handler=handler,
        lifespan=lifespan,
        ssl=context,
        origins=["https://example.org"],
        trusted_proxies=["10.0.0.0/8", "unix"],
        subprotocols=("chat",),
        limits=Limits(max_message_size=10),
        compression=Compression(level=1, takeover=True),
        timeouts=Timeouts(close=None),
        server_header=None,
    )
    assert_type(socket.clients, Mapping[int, Client])
    assert_type(socket.broadcast("text"), int)
    assert_type(socket.broadcast(b"bytes", socket.clients.values()), int)
    assert_type(socket.broadcast("text", compress=False), int)
    assert_type(socket.broadcast(b"text", text=True), int)
    assert_type(socket.limits, Limits)
    assert_type(socket.timeouts, Timeouts)
    server = await socket.start()
    assert_type(server, Server)
    async with socket as entered:
        assert_type(entered, WebSocketServer)
        await entered.serve_forever()
    await socket.close()
    assert_type(await socket.close(1012, "restart"), None)
    assert_type(await socket.drain(30), None)
    await socket.drain(seconds=2.5, code=4000, reason="restart")
    server.close_clients(1012, reason="restart")


def serving_on_own_loop(loop: asyncio.AbstractEventLoop) -> None:
    socket = WebSocketServer("localhost", 8765, loop=loop, origins="*")
    with socket as server:
        assert_type(server, Server)
    socket.run()


def registering(socket: WebSocketServer) -> None:
    @socket.connection
    async def on_connection(client: Client) -> None: ...

    unchanged: Callable[[Client], Coroutine[object, object, None]] = on_connection
    socket.connection(unchanged)

    @socket.request
    def on_request(request: Request) -> Response | None:
        return Response(403) if request.path == "/private" else None

    refused: Response | None = on_request(typing.cast(Request, None))
    assert refused

    @socket.request
    async def on_request_too(request: Request) -> Response:
        return Response(404)


async def routing(router: Router) -> None:
    @router.route("/rooms/<name>/<int:seat>")
    async def room(client: Client, name: str, seat: int) -> None: ...

    unchanged: Callable[[Client, str, int], Coroutine[object, object, None]] = room
    await unchanged(typing.cast(Client, None), "red", 7)
    router.route("/")(handler)
    assert_type(router.include("/api", Router()), None)
    assert_type(router.find("/"), Callable[[Client], Awaitable[None]] | None)
    WebSocketServer("localhost", 0, handler=router)


async def connecting(context: ssl.SSLContext, sock: socket.socket) -> None:
    connecting = connect(
        "wss://example.org/feed",
        headers={"Authorization": "Bearer token"},
        origin="https://example.org",
        user_agent=None,
        subprotocols=["chat"],
        ssl=context,
        server_hostname="example.org",
        local_address=("0.0.0.0", 0),
        proxy="socks5://localhost:1080",
        max_redirects=0,
        limits=Limits(max_message_size=10),
        compression=Compression(level=1, takeover=True),
        timeouts=Timeouts(open=None),
        backoff=Backoff(first=1, factor=1.5, most=10.5, restart=(1, 2.5), max_attempts=3),
        retry=is_transient,
    )
    assert_type(connecting, Connecting)
    assert_type(await connecting, Client)
    async with connecting as client:
        assert_type(client, Client)
    async for client in connecting:
        assert_type(client, Client)
    assert_type(aiter(connecting), AsyncGenerator[Client, None])
    async with aclosing(aiter(connecting)) as clients:
        async for client in clients:
            assert_type(client, Client)
    connect("ws://localhost/", headers=[("Cookie", "a=b")], sock=sock, proxy=None)
    connect("ws://localhost/", path=Path("chat.sock"), proxy=False)
    connect("ws://localhost/", path="chat.sock", proxy=True)
    connect("ws://localhost/", compression=True)
    connect("ws://localhost/", compression=None)
    connect("ws://localhost/", compression=Compression())


async def connecting_in_tasks() -> None:
    opening: Awaitable[Client] = connect("ws://localhost/")
    assert_type(await asyncio.wait_for(opening, 1), Client)
    both = await asyncio.gather(connect("ws://localhost/1"), connect("ws://localhost/2"))
    assert_type(both, tuple[Client, Client])


class Tokens:
    """Methods and lambdas can return the URL or target of each attempt."""

    async def target(self) -> Target:
        return Target("ws://localhost/", {"Authorization": "Bearer token"})

    def url(self) -> str:
        return "ws://localhost/"


def connecting_to_url_of_a_function(tokens: Tokens) -> None:
    async def either() -> str | Target:
        return "ws://localhost/"

    connect(tokens.target)
    connect(tokens.url)
    connect(either)
    connect(lambda: "ws://localhost/")
    connect(lambda: Target("ws://localhost/", headers=[("Cookie", "a=b")]))
    connect(lambda: tokens.target())


def deciding_to_retry(error: HandshakeRefused) -> None:
    def retry(error: Exception) -> bool:
        if isinstance(error, HandshakeRefused):
            return error.status == 401
        return is_transient(error)

    connect("ws://localhost/", retry=retry)
    connect("ws://localhost/", retry=lambda error: isinstance(error, OSError))
    assert_type(is_transient(error), bool)


def failing_to_connect(
    refused: HandshakeRefused, failed: HandshakeError, proxy: ProxyError, gave_up: ReconnectError
) -> None:
    assert_type(refused.status, int)
    assert_type(refused.reason, str)
    assert_type(refused.phrase, str)
    assert_type(failed.status, int | None)
    assert_type(failed.headers, Mapping[str, str])
    assert_type(failed.body, bytes)
    assert_type(proxy.status, int | None)
    assert_type(gave_up.attempts, tuple[Exception, ...])
    assert_type(gave_up.count, int)
    kinds: list[type[HandshakeError]] = [HandshakeRefused, InvalidHandshake, RedirectError]
    system: list[type[OSError]] = [ConnectError, ProxyError, ConnectTimeout]
    values: list[type[ValueError]] = [InvalidURL]
    assert kinds
    assert system
    assert values


@pytest.mark.parametrize("name", streamws.__all__)
def test_public_name_exists_and_has_docstring(name: str) -> None:
    value = getattr(streamws, name)
    assert inspect.isclass(value) or inspect.isfunction(value)
    assert inspect.getdoc(value)
    assert value.__name__ == name
    assert value.__module__.partition(".")[0] == "streamws"


def test_public_names_are_sorted() -> None:
    assert streamws.__all__ == sorted(streamws.__all__)


KINDS = [
    Client,
    Connecting,
    MessageReader,
    Writer,
    FragmentWriter,
    DataFrameWriter,
    WebSocketServer,
    Headers,
    Request,
    Response,
    Router,
    Server,
    Json,
    Typed,
]


@pytest.mark.parametrize("kind", KINDS)
def test_public_methods_have_docstrings(kind: type[object]) -> None:
    bare = [
        name
        for name, value in vars(kind).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property)) and not value.__doc__
    ]
    assert bare == []


def test_package_is_marked_as_typed() -> None:
    assert streamws.__file__ is not None
    assert (Path(streamws.__file__).parent / "py.typed").exists()


def annotations(kind: type[object]) -> Iterator[tuple[str, ast.expr]]:
    """Yield the annotations of a class's public methods and attributes, from its source."""
    assert streamws.__file__ is not None
    source = Path(streamws.__file__).parent.joinpath(*kind.__module__.split(".")[1:]).with_suffix(".py")
    [body] = [
        node
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    ]
    for node in ast.walk(body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_") and not node.name.endswith("__"):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            for annotation in [node.returns, *(argument.annotation for argument in arguments)]:
                if annotation is not None:
                    yield node.name, annotation
        elif isinstance(node, ast.AnnAssign) and (node in body.body or isinstance(node.target, ast.Attribute)):
            name = ast.unparse(node.target).removeprefix("self.")
            if not name.startswith("_"):
                yield name, node.annotation


@pytest.mark.parametrize("name", streamws.__all__)
def test_public_class_is_annotated_without_any(name: str) -> None:
    value = getattr(streamws, name)
    if inspect.isclass(value):
        vague = [where for where, annotation in annotations(value) if "Any" in ast.unparse(annotation)]
        assert vague == []
