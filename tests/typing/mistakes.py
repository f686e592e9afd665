"""Mistakes that a type checker must find. `test_mistakes.py` checks them; this file is never run."""

import asyncio

import streamws
from streamws import (
    Accept,
    Backoff,
    Client,
    CloseOutcome,
    Compression,
    DataFrame,
    Key,
    Limits,
    MessageReader,
    Opcode,
    Request,
    Response,
    Router,
    State,
    Target,
    Timeouts,
    WebSocketServer,
    Writer,
    connect,
)
from streamws.messages import Json, Typed
from streamws.topics import History, MemoryBroker, Position, Publication, Topic, TopicLimits, Topics


async def sending(client: Client, writer: Writer) -> None:
    await client.send(1)  # type: ignore[arg-type]
    await client.send(None)  # type: ignore[arg-type]
    await client.send({"json": True})  # type: ignore[arg-type]
    await client.send(["text"])  # type: ignore[arg-type]
    await writer.send(1.5)  # type: ignore[arg-type]
    await client.send("text", compress="yes")  # type: ignore[arg-type]
    await writer.send("text", Compression())  # type: ignore[arg-type]
    await writer.feed(["text"], compress=1.5)  # type: ignore[arg-type]
    writer.fragment(compress=9)  # type: ignore[arg-type]
    writer.data_frame(1, compress=True)  # type: ignore[call-arg]
    await writer.ping(5)  # type: ignore[arg-type]
    await writer.feed([1])  # type: ignore[list-item]
    await writer.feed(1)  # type: ignore[arg-type]
    await writer.write_frame(b"payload")  # type: ignore[arg-type]
    DataFrame(Opcode.TEXT, "text")  # type: ignore[arg-type]
    async with writer.fragment("text"):  # type: ignore[arg-type]
        pass
    async with writer.fragment() as stream:
        await stream.send(1)  # type: ignore[arg-type]
    with writer.fragment():  # type: ignore[attr-defined]
        pass
    writer.data_frame()  # type: ignore[call-arg]
    writer.data_frame(1.5)  # type: ignore[arg-type]
    writer.data_frame(b"payload")  # type: ignore[arg-type]
    writer.data_frame(1, "text")  # type: ignore[arg-type]
    await writer.data_frame(1).write(1)  # type: ignore[arg-type]
    with writer.data_frame(1):  # type: ignore[attr-defined]
        pass
    async with writer.data_frame(1) as frame:
        await frame.send(b"a")  # type: ignore[attr-defined]
        frame.write(b"a")  # type: ignore[unused-coroutine]


async def using_names_of_other_libraries(client: Client) -> None:
    await client.recv()  # type: ignore[attr-defined]
    await client.send_json({})  # type: ignore[attr-defined]
    await client.accept()  # type: ignore[attr-defined]
    await connect("ws://localhost/").send("text")  # type: ignore[attr-defined]


async def forgetting_await(client: Client) -> None:
    client.close()  # type: ignore[unused-coroutine]
    client.send("text")  # type: ignore[unused-coroutine]
    client.read_message()  # type: ignore[unused-coroutine]
    text: str = client.read_message()  # type: ignore[assignment]
    for message in client:  # type: ignore[attr-defined]
        print(message, text)


async def reading(client: Client, reader: MessageReader) -> None:
    text: str = await client.read_message()  # type: ignore[assignment]
    data: bytes = await reader.get(Opcode.TEXT)  # type: ignore[assignment]
    text = await reader.get(Opcode.BINARY)  # type: ignore[assignment]
    text = await reader.get()  # type: ignore[assignment]
    await reader.get(Opcode.PING)  # type: ignore[call-overload]
    await reader.get("text")  # type: ignore[call-overload]
    text = await reader.read()  # type: ignore[assignment]
    await reader.read("1")  # type: ignore[arg-type]
    await reader.readuntil("separator")  # type: ignore[arg-type]
    await reader.readinto(b"read-only")  # type: ignore[arg-type]
    async for data in client.text():  # type: ignore[assignment]
        print(data)
    async for text in client.binary():  # type: ignore[assignment]
        print(text)
    async for text in client:  # type: ignore[assignment]
        print(text)
    reader.type = Opcode.PING  # type: ignore[assignment]
    print(text, data)


async def changing(client: Client, outcome: CloseOutcome, limits: Limits) -> None:
    client.state = State.OPEN  # type: ignore[misc]
    client.outcome = outcome  # type: ignore[misc]
    outcome.detail = "mine"  # type: ignore[misc]
    outcome.withheld = None  # type: ignore[misc]
    limits.max_skip = 1  # type: ignore[misc]


async def closing(client: Client) -> None:
    await client.close("reason")  # type: ignore[arg-type]
    await client.close(1000, 4000)  # type: ignore[arg-type]
    print(client.outcome.code)  # type: ignore[union-attr]
    if client.closed:  # type: ignore[truthy-function]
        print("always, and an error at run time")


def calling_back(client: Client) -> None:
    @client.message  # type: ignore[type-var]
    async def on_text(text: str) -> None: ...

    @client.message  # type: ignore[type-var]
    async def on_nothing() -> None: ...

    @client.message  # type: ignore[type-var]
    def on_message(reader: MessageReader) -> str:
        return ""

    @client.ping  # type: ignore[type-var]
    def on_ping(payload: str) -> None: ...

    @client.closed  # type: ignore[type-var]
    def on_closed(code: int, reason: str) -> None: ...


async def typing_messages(client: Client) -> None:
    numbers = client.typed(Json(list[int]))
    await numbers.send("text")  # type: ignore[arg-type]
    await numbers.send(["text"])  # type: ignore[list-item]
    text: str = await numbers.read_message()  # type: ignore[assignment]
    numbers.send([1])  # type: ignore[unused-coroutine]
    client.typed(int)  # type: ignore[arg-type]
    Json(5)  # type: ignore[call-overload]
    Json(int, using="orjson")  # type: ignore[call-overload]
    Json(int).encode("text")  # type: ignore[arg-type]
    await client.send(b"text", None, True)  # type: ignore[call-arg]
    Typed(text, Json(int))  # type: ignore[type-var]

    @numbers.message  # type: ignore[arg-type]
    async def on_text(text: str) -> None: ...

    client.typed(Json(int), on_error=lambda error: None)  # type: ignore[arg-type, misc]


def serving() -> None:
    async def handler(client: Client, path: str) -> None: ...

    def plain(client: Client) -> None: ...

    WebSocketServer("localhost", 0, handler=handler)  # type: ignore[arg-type]
    WebSocketServer("localhost", 0, handler=plain)  # type: ignore[arg-type]
    WebSocketServer("localhost", "8765")  # type: ignore[arg-type]
    WebSocketServer("localhost", 0, ssl=True)  # type: ignore[arg-type]
    WebSocketServer("localhost", 0, timeouts=10)  # type: ignore[arg-type]
    WebSocketServer("localhost", 0, compression="deflate")  # type: ignore[arg-type]
    WebSocketServer("localhost", 0, handler)  # type: ignore[arg-type]
    WebSocketServer("localhost", 0, max_size=None)  # type: ignore[call-arg]
    socket = WebSocketServer("localhost", 0)
    socket.clients[("localhost", 1)]  # type: ignore[index]
    socket.clients[1] = socket  # type: ignore[index]
    socket.broadcast(1)  # type: ignore[arg-type]
    socket.broadcast("text", compress="yes")  # type: ignore[arg-type]

    @socket.connection  # type: ignore[type-var]
    async def on_connection(reader: MessageReader) -> None: ...

    @socket.request  # type: ignore[type-var]
    def on_request(request: Request) -> int:
        return 403

    @socket.request  # type: ignore[type-var]
    def on_request_too(request: Request) -> str:
        return "chat"

    WebSocketServer("localhost", 0, trusted_proxies=True)  # type: ignore[arg-type]
    router = Router()

    @router.route("/rooms/<name>")  # type: ignore[type-var]
    async def room(name: str) -> None: ...

    @router.route("/rooms/<name>")  # type: ignore[type-var]
    def plain_room(client: Client, name: str) -> None: ...

    router.route(5)  # type: ignore[arg-type]
    streamws.Rooter()  # type: ignore[attr-defined]

    with socket as server:
        server.broadcast("text")  # type: ignore[attr-defined]


def storing(client: Client, request: Request) -> None:
    name: Key[str] = Key("name")
    client[name] = 1  # type: ignore[misc]
    client["name"]  # type: ignore[index]
    request["name"] = "x"  # type: ignore[index]
    number: int = request[name]  # type: ignore[assignment]
    client.get(name).upper()  # type: ignore[union-attr]
    Accept(subprotocol=["chat"])  # type: ignore[arg-type]
    print(number)


async def connecting() -> None:
    connect()  # type: ignore[call-arg]
    connect(b"ws://localhost/")  # type: ignore[arg-type]
    connect(("localhost", 8765))  # type: ignore[arg-type]
    connect("localhost", 8765)  # type: ignore[call-arg, arg-type]
    connect(Target("ws://localhost/"))  # type: ignore[arg-type]
    connect(lambda: None)  # type: ignore[arg-type, return-value]
    connect("ws://localhost/", headers="Cookie: a=b")  # type: ignore[arg-type]
    connect("ws://localhost/", headers={"X-Number": 1})  # type: ignore[arg-type]
    connect("wss://localhost/", ssl=True)  # type: ignore[arg-type]
    connect("ws://localhost/", local_address="localhost")  # type: ignore[arg-type]
    connect("ws://localhost/", proxy=("localhost", 1080))  # type: ignore[arg-type]
    connect("ws://localhost/", timeouts=10)  # type: ignore[arg-type]
    connect("ws://localhost/", compression="deflate")  # type: ignore[arg-type]
    connect("ws://localhost/", backoff=1.5)  # type: ignore[arg-type]
    connect("ws://localhost/", retry=OSError)  # type: ignore[arg-type]
    connect("ws://localhost/", open_timeout=10)  # type: ignore[call-arg]
    connect("ws://localhost/", max_size=None)  # type: ignore[call-arg]
    client: Client = connect("ws://localhost/")  # type: ignore[assignment]
    with connect("ws://localhost/"):  # type: ignore[attr-defined]
        pass
    for client in connect("ws://localhost/"):  # type: ignore[attr-defined]
        await client.close()
    async for message in connect("ws://localhost/"):
        print(message.upper())  # type: ignore[attr-defined]
    Target()  # type: ignore[call-arg]
    Target(b"ws://localhost/")  # type: ignore[arg-type]
    Target("ws://localhost/").url = "ws://localhost/"  # type: ignore[misc]
    Backoff(1)  # type: ignore[call-arg]
    Backoff(first="1")  # type: ignore[arg-type]
    Backoff(restart=5)  # type: ignore[arg-type]
    Backoff(max_attempts=1.5)  # type: ignore[arg-type]


def retrying() -> None:
    async def retry_later(error: Exception) -> bool:
        return True

    def retry_refused(error: OSError) -> bool:
        return True

    async def number() -> int:
        return 1

    connect("ws://localhost/", retry=retry_later)  # type: ignore[arg-type]
    connect("ws://localhost/", retry=retry_refused)  # type: ignore[arg-type]
    connect(number)  # type: ignore[arg-type]


def configuring(loop: asyncio.AbstractEventLoop) -> None:
    Limits(1)  # type: ignore[call-arg]
    Limits(max_message_size="1 MiB")  # type: ignore[arg-type]
    Limits(max_message_size=None)  # type: ignore[arg-type]
    Limits(max_size=1)  # type: ignore[call-arg]
    Timeouts(close="10")  # type: ignore[arg-type]
    Compression(9)  # type: ignore[call-arg]
    Compression(level="9")  # type: ignore[arg-type]
    Compression(window_bits=None)  # type: ignore[arg-type]
    Compression().level = 1  # type: ignore[misc]
    Response("200")  # type: ignore[arg-type]
    Response(200, {"json": True})  # type: ignore[arg-type]


def of_bytes(publication: Publication[bytes]) -> str:
    return str(publication.data)


def number_of(publication: Publication[int]) -> int:
    return publication.data


async def topics(topics: Topics, topic: Topic[int], client: Client) -> None:
    await topic.publish("text")  # type: ignore[arg-type]
    topic.publish_soon(b"bytes")  # type: ignore[arg-type]
    await topic.publish(1, key=1)  # type: ignore[arg-type]
    await topic.publish(1, "key")  # type: ignore[call-arg]
    await topic.join(1)  # type: ignore[type-var]
    await topic.join(client, slow="wait")  # type: ignore[arg-type]
    await topic.join(client, slow="never")  # type: ignore[arg-type]
    await topic.join(client, since=3)  # type: ignore[arg-type]
    await topic.join(client, since=("epoch", 3))  # type: ignore[arg-type]
    await topic.join(client, frame=of_bytes)  # type: ignore[arg-type]
    await topic.join(client, frame=number_of)  # type: ignore[arg-type]
    topic.subscribe(slow="never")  # type: ignore[arg-type]
    topics.topic("name", int)  # type: ignore[call-overload]
    topics.topic("name", Json(int), history=10)  # type: ignore[call-overload]
    topics.topic(1, Json(int))  # type: ignore[call-overload]
    other: Topic[str] = topics.topic("name", Json(int))  # type: ignore[arg-type]
    other.name = "other"
    await topic.presence.enter(client, 1)  # type: ignore[arg-type]
    Topics()  # type: ignore[call-arg]
    Topics(MemoryBroker)  # type: ignore[arg-type]
    Topics(MemoryBroker(), limits=Limits())  # type: ignore[arg-type]
    TopicLimits(max_name="many")  # type: ignore[arg-type]
    History(size=1.5)  # type: ignore[arg-type]
    Position("epoch", "3")  # type: ignore[arg-type]
