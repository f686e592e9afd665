"""Attributes that users of other libraries look for: the error names what streamws has instead.

They are descriptors that raise `AttributeError`. So they cost nothing until they are used, `hasattr` is False, and type
checkers do not know them. `__getattr__` would make each call of a method of a compiled class slower.
"""

from .awaiting.internals import set_class_attribute
from .client import Client
from .errors import ConnectionClosed, HandshakeError
from .handshake.head import Request, Response
from .net.accepting import Server
from .server import WebSocketServer
from .streams.pieces import DataFrameWriter, FragmentWriter
from .streams.reader import MessageReader
from .streams.writer import Writer

_ALREADY_OPEN = "the connection is open already; leave this call out"
_OUTCOME = "ask `client.outcome`, which is None while the connection is open"
_TYPED = "make `messages = client.typed(Json(Message))` with `streamws.messages.Json`"
_SEND_JSON = f"{_TYPED}, and write `await messages.send(value)`"
_ENTER = "make a topic for each room (`streamws.topics`), and write `await topic.join(client)`"
_PUBLISH = "make a topic (`streamws.topics`), and write `await topic.publish(message)`"
_LEAVE = "make a topic for each room (`streamws.topics`), and write `await topic.leave(client)`"
_PARAMETERS = "a `streamws.Router` passes the parameters of a path to the handler, as keyword arguments"

HINTS: dict[type, dict[str, str]] = {
    Client: {
        # websockets
        "recv": "write `message = await client.read_message()`",
        "recv_streaming": "write `async for reader in client.messages()`, and then `async for piece in reader`",
        "close_code": "write `client.outcome.code`; outcome is None while the connection is open",
        "close_reason": "write `client.outcome.reason`; outcome is None while the connection is open",
        "close_exc": _OUTCOME,
        "open": "write `client.state is State.OPEN`",
        "remote_address": "write `client.remote`, which is the address and port",
        "local_address": "write `client.get_extra_info('sockname')`",
        "request_headers": "write `client.request.headers`",
        "response_headers": "write `client.response.headers`",
        "path": "write `client.request.path`",
        "drain": "not needed: `await client.send(message)` waits while the peer reads too slowly",
        # aiohttp
        "receive": "write `message = await client.read_message()`",
        "receive_str": "write `message = await client.read_message()`, which is str for text and bytes for binary",
        "receive_bytes": "write `message = await client.read_message()`, which is str for text and bytes for binary",
        "receive_json": f"{_TYPED}, and write `value = await messages.read_message()`",
        "send_str": "write `await client.send(text)`; str is sent as text",
        "send_bytes": "write `await client.send(data)`; bytes are sent as binary",
        "send_json": _SEND_JSON,
        "send_json_bytes": _SEND_JSON,
        "send_frame": "write `await client.writer.write_frame(DataFrame(...))`",
        "prepare": _ALREADY_OPEN,
        "exception": _OUTCOME,
        # Starlette and FastAPI
        "accept": _ALREADY_OPEN,
        "receive_text": "write `message = await client.read_message()`, which is str for text and bytes for binary",
        "iter_text": "write `async for text in client.text()`",
        "iter_bytes": "write `async for data in client.binary()`",
        "iter_json": f"{_TYPED}, and write `async for value in messages`",
        "send_text": "write `await client.send(text)`; str is sent as text",
        "send_denial_response": "return a `Response` from a `@socket.request` callback",
        "client": "write `client.remote`, which is the address and port",
        "headers": "write `client.request.headers`",
        "cookies": "write `client.request.cookies`",
        "query_params": "write `client.request.query`",
        "path_params": _PARAMETERS,
        "url": "write `client.request.target`",
        # picows
        "send_ping": "write `await client.writer.ping()`",
        "send_pong": "write `await client.writer.pong()`",
        "send_close": "write `await client.close(code, reason)`",
        "send_reuse_external_bytearray": "write `await client.send(data)`",
        "measure_roundtrip_time": "write `await client.writer.ping()`, which returns the time in seconds",
        "disconnect": "write `await client.close()`",
        "wait_disconnected": "write `await client.wait_closed()`",
        "close_handshake": _OUTCOME,
        "is_disconnected": "write `client.state is State.CLOSED`",
        "on_ws_connected": "write `@socket.connection`, or pass a handler to the server",
        "on_ws_frame": "write `async for message in client`, or register a callback with `@client.message`",
        "on_ws_disconnected": "register a callback with `@client.closed`",
        # socket.io
        "emit": "write `await client.send(json.dumps([event, data]))`; there are no events, only messages",
        "on": "there are no events, only messages: write `async for message in client`, or `@client.message`",
        "event": "there are no events, only messages: write `async for message in client`, or `@client.message`",
        "join": _ENTER,
        "subscribe": _ENTER,
        "unsubscribe": _LEAVE,
        "publish": _PUBLISH,
        "enter_room": _ENTER,
        "leave_room": _LEAVE,
        "sid": "write `client.id`",
        # Tornado, asyncio, and JavaScript
        "write_message": "write `await client.send(message)`",
        "on_message": "write `async for message in client`, or register a callback with `@client.message`",
        "on_close": "register a callback with `@client.closed`",
        "read": "write `message = await client.read_message()`",
        "write": "write `await client.send(message)`",
        # Methods of the writer and of the server
        "fragment": "write `client.writer.fragment()`",
        "data_frame": "write `client.writer.data_frame(length)`",
        "write_frame": "write `client.writer.write_frame(frame)`",
        "feed": "write `client.writer.feed(source)`",
        "broadcast": "write `socket.broadcast(message)`; `to=clients` chooses the clients",
    },
    MessageReader: {
        "data": "write `message = await reader.get()`",
        "json": "write `value = json.loads(await reader.get())`",
        "recv": "write `message = await reader.get()`",
        "msg_type": "write `reader.type`",
        "get_payload_as_bytes": "write `data = await reader.get(Opcode.BINARY)`",
        "get_payload_as_utf8_text": "write `text = await reader.get(Opcode.TEXT)`",
        "get_payload_as_ascii_text": "write `text = await reader.get(Opcode.TEXT)`",
        "get_payload_as_memoryview": "write `data = await reader.get(Opcode.BINARY)`, or `reader.readinto(buffer)`",
    },
    WebSocketServer: {
        "connections": "write `socket.clients.values()`",
        "handler": "pass it to the server: WebSocketServer(address, port, handler=handler)",
        "serve": "write `async with socket: await socket.serve_forever()`, or `socket.run()`",
        "listen": "write `await socket.start()`, or `socket.run()`",
        "stop": "write `await socket.close()`",
        "shutdown": "write `await socket.close()`",
        "send": "write `socket.broadcast(message)`",
        "emit": "write `socket.broadcast(json.dumps([event, data]))`; there are no events, only messages",
        "on": "register a callback for each connection with `@socket.connection`, or pass a handler to the server",
        "event": "register a callback for each connection with `@socket.connection`, or pass a handler to the server",
        "message": "register `@client.message` for each client, in the `@socket.connection` callback",
        "publish": _PUBLISH,
        "enter_room": _ENTER,
        "leave_room": _LEAVE,
        "websocket": 'make a `streamws.Router`: write `@router.route("/path")`, and pass handler=router',
        "websocket_route": 'make a `streamws.Router`: write `@router.route("/path")`, and pass handler=router',
        "route": 'make a `streamws.Router`: write `@router.route("/path")`, and pass handler=router',
        "add_routes": 'make a `streamws.Router`: write `@router.route("/path")`, and pass handler=router',
    },
    Server: {
        "broadcast": "write `socket.broadcast(message)`, with the WebSocketServer",
        "clients": "write `socket.clients`, with the WebSocketServer",
        "connections": "write `socket.clients.values()`, with the WebSocketServer",
        "port": "write `socket.port`, with the WebSocketServer",
    },
    Writer: {
        "write": "write `await client.send(message)`, or `client.writer.fragment()` for a message in parts",
        "drain": "not needed: `await client.send(message)` waits while the peer reads too slowly",
        "close": "write `await client.close()`",
        "send_text": "write `await client.send(text)`; str is sent as text",
        "send_bytes": "write `await client.send(data)`; bytes are sent as binary",
        "send_json": _SEND_JSON,
    },
    FragmentWriter: {
        "write": "write `await stream.send(part)`",
        "close": "leave the block: that ends the message",
    },
    DataFrameWriter: {
        "send": "write `await frame.write(part)`",
        "close": "write as many bytes as were declared: that ends the message",
    },
    ConnectionClosed: {
        "code": "write `error.outcome.code`",
        "reason": "write `error.outcome.reason`",
        "rcvd": "write `error.outcome.received`",
        "sent": "write `error.outcome.sent`",
    },
    HandshakeError: {
        "response": "write `error.status`, `error.headers` and `error.body`",
        "status_code": "write `error.status`",
    },
    Response: {
        "status_code": "write `response.status`",
        "reason_phrase": "write `response.reason`",
        "text": "write `response.body.decode()`",
    },
    Request: {
        "match_info": _PARAMETERS,
        "path_params": _PARAMETERS,
        "query_params": "write `request.query`",
        "remote_address": "write `request.remote`, which is the address and port",
        "local_address": "write `request.get_extra_info('sockname')`",
        "client": "write `request.remote`, which is the address and port",
        "rel_url": "write `request.target`",
        "raw_path": "write `request.path`, which is percent-encoded as sent",
        "url": "write `request.target`",
    },
}
"""What to write instead, by class and name."""

ROUTER_HINTS: dict[str, str] = {
    "websocket": 'write `@router.route("/rooms/<name>")`',
    "get": 'write `@router.route("/rooms/<name>")`',
    "add_get": 'write `@router.route("/rooms/<name>")`',
    "add_route": 'write `router.route("/rooms/<name>")(handler)`',
    "include_router": 'write `router.include("/api", other)`',
    "mount": 'write `router.include("/api", other)`',
}
"""The same for `Router`, which is imported only when it is used."""

_NOT_CONNECTED = "it is not connected yet: write `async with connect(url) as client`, or `client = await connect(url)`"
CONNECTING_HINTS = {name: _NOT_CONNECTED for name in [*vars(Client), *HINTS[Client]] if not name.startswith("_")}
"""The same for `Connecting`, which is imported only when `connect` is used."""

_READ = "write `message = ws.read_message()`, which is str for text and bytes for binary"
_SEND_TEXT = "write `ws.send(text)`; str is sent as text"
_SEND_BINARY = "write `ws.send(data)`; bytes are sent as binary"
SYNC_HINTS: dict[str, str] = {
    # websockets and its blocking client
    "recv": "write `message = ws.read_message()`",
    "recv_streaming": "messages are read whole: write `ws.read_message()`",
    "recv_bufsize": "write `limits=Limits(read_high=...)` in `connect`, in bytes",
    "close_code": "write `ws.outcome.code`; outcome is None while the connection is open",
    "close_reason": "write `ws.outcome.reason`; outcome is None while the connection is open",
    "remote_address": "write `ws.addr` and `ws.port`",
    "local_address": "write `ws.get_extra_info('sockname')`",
    # websocket-client
    "recv_data": _READ,
    "recv_frame": _READ,
    "receive": _READ,
    "send_text": _SEND_TEXT,
    "send_str": _SEND_TEXT,
    "send_binary": _SEND_BINARY,
    "send_bytes": _SEND_BINARY,
    "settimeout": "write `ws.read_message(timeout=...)`",
    "gettimeout": "write `ws.read_message(timeout=...)`",
    "timeout": "write `ws.read_message(timeout=...)`",
    "connected": "write `ws.state is State.OPEN`",
    "status": "write `ws.response.status`",
    "headers": "write `ws.response.headers`",
    "getstatus": "write `ws.response.status`",
    "getheaders": "write `ws.response.headers`",
    "getsubprotocol": "write `ws.subprotocol`",
    "shutdown": "write `ws.abort()`",
    "sock": "write `ws.get_extra_info('socket')`",
    "pong": "leave it out: pings are always answered",
    "run_forever": "write `for message in ws`",
    # The other client of streamws
    "writer": "messages are sent whole: write `ws.send(data)`",
    "wait_closed": "write `ws.close()`, or read until the end: `for message in ws`",
}
"""The same for `streamws.sync.Client`, which is imported only when it is used."""


class Hint:
    """A name that a class does not have, and a sentence about what it has instead."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self.__doc__ = f"There is no such attribute: {text}."  # `help` lists everything in a class

    def __get__(self, instance: object, owner: type) -> object:
        found = owner if instance is None else instance
        subject = f"type object {owner.__name__!r}" if instance is None else f"{owner.__name__!r} object"
        message = f"{subject} has no attribute {self._name!r}: {self._text}"
        raise AttributeError(message, name=self._name, obj=found)


def _dir(instance: object) -> list[str]:
    """Return the names of the attributes that exist."""
    kind = type(instance)
    return [name for name in object.__dir__(instance) if not isinstance(_find(kind, name), Hint)]


def _find(kind: type, name: str) -> object:
    """Return an attribute of a class without calling a descriptor, and without filling the cache of the class."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def add_hints(kind: type, hints: dict[str, str]) -> None:
    """Give a class hints. A name that it already has stays what it is."""
    for name, text in hints.items():
        if _find(kind, name) is None:
            set_class_attribute(kind, name, Hint(name, text))
    set_class_attribute(kind, "__dir__", _dir)


for _kind, _hints in HINTS.items():
    add_hints(_kind, _hints)
