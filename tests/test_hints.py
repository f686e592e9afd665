"""Names of other libraries raise an AttributeError that says what to write here. Other names do what they always do."""

import ast
import copy
import inspect
import pickle
import pydoc
import re
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from unittest import mock

import aiohttp
import aiohttp.web
import picows
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

import streamws
from helpers.fixtures import url_of
from helpers.peers import pair
from streamws import (
    Client,
    Connecting,
    ConnectionClosed,
    DataFrameWriter,
    FragmentWriter,
    HandshakeError,
    Headers,
    MessageReader,
    Request,
    Response,
    Server,
    State,
    WebSocketServer,
    connect,
)
from streamws.awaiting.checks import class_shows_dictionary
from streamws.hints import HINTS, Hint
from streamws.messages import Json, Typed

CASES = [(kind, name) for kind, hints in HINTS.items() for name in hints]
ROLES: dict[str, list[type]] = {
    "client": [Client],
    "client.writer": [streamws.Writer],
    "client.outcome": [streamws.CloseOutcome],
    "client.request": [Request],
    "client.response": [Response],
    "messages": [Typed],
    "reader": [MessageReader],
    "stream": [FragmentWriter],
    "frame": [DataFrameWriter],
    "socket": [WebSocketServer],
    "request": [Request],
    "response": [Response],
    "error": [ConnectionClosed, HandshakeError],
    "error.outcome": [streamws.CloseOutcome],
}
"""The expressions in hints that stand for an object, and its class."""


@asynccontextmanager
async def objects() -> AsyncIterator[dict[type, object]]:
    """Return an object of each class."""

    async def handler(client: Client) -> None:
        await client.send("text")
        await client.wait_closed()

    async with WebSocketServer("127.0.0.1", 0, handler=handler) as socket, connect(url_of(socket)) as client:
        outcome = streamws.CloseOutcome(streamws.Cause.CLEAN, streamws.Side.LOCAL, None, None)
        yield {
            Client: client,
            MessageReader: await anext(client.messages()),
            WebSocketServer: socket,
            Server: socket._server,
            streamws.Writer: client.writer,
            FragmentWriter: client.writer.fragment(),
            DataFrameWriter: client.writer.data_frame(1),
            ConnectionClosed: ConnectionClosed(outcome),
            HandshakeError: HandshakeError("said"),
            Response: client.response,
            Request: client.request,
            streamws.CloseOutcome: outcome,
            Typed: client.typed(Json(list[int])),
        }


def is_hint(kind: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(kind, name, None), Hint)


async def test_every_hint_is_an_attribute_error_with_name_and_object() -> None:
    async with objects() as found:
        assert found.keys() >= HINTS.keys()
        for kind, name in CASES:
            with pytest.raises(AttributeError) as error:
                getattr(found[kind], name)
            assert str(error.value) == f"{kind.__name__!r} object has no attribute {name!r}: {HINTS[kind][name]}"
            assert (error.value.name, error.value.obj) == (name, found[kind])
            assert not hasattr(found[kind], name)
            assert getattr(found[kind], name, 5) == 5
            assert name not in dir(found[kind])


async def test_dir_has_what_it_has_without_hints() -> None:
    async with objects() as all_found:
        for found in [*all_found.values(), connect("ws://localhost/")]:
            kept = [name for name in object.__dir__(found) if not is_hint(type(found), name)]
            assert dir(found) == sorted(kept)
        assert {"send", "read_message", "writer", "id"} <= set(dir(all_found[Client]))


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_class_has_the_hint_too(kind: type, name: str) -> None:
    with pytest.raises(AttributeError, match=f"^type object '{kind.__name__}' has no attribute '{name}': ") as error:
        getattr(kind, name)
    assert (error.value.name, error.value.obj) == (name, kind)
    assert is_hint(kind, name)


def mentioned(text: str) -> Iterator[ast.expr]:
    """Yield the expressions of the code in a hint."""
    for code in re.findall("`([^`]+)`", text):
        source = code.removeprefix("@")
        if source.startswith("async"):
            source += ": pass" if ":" not in source else ""
            source = f"async def f():\n {source}"
        elif "await " in source:
            source = f"async def f():\n {source}"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.expr):
                yield node


async def test_hints_name_what_exists() -> None:
    async with objects() as found:
        for kind, name in CASES:
            checked = 0
            for node in mentioned(HINTS[kind][name]):
                if not isinstance(node, ast.Attribute):
                    continue
                owner = ast.unparse(node.value)
                if owner in ROLES:
                    assert any(hasattr(found[role], node.attr) for role in ROLES[owner]), (owner, node.attr)
                    checked += 1
                elif owner == "streamws" or owner[0].isupper():
                    where = streamws if owner == "streamws" else getattr(streamws, owner)
                    assert hasattr(where, node.attr), (owner, node.attr)
                    checked += 1
            assert checked or re.search("`Response`|WebSocketServer|leave|as many bytes", HINTS[kind][name]), name


@pytest.mark.parametrize(
    ("library", "of_theirs"),
    [
        ("websockets", [ClientConnection, ServerConnection]),
        ("aiohttp", [aiohttp.ClientWebSocketResponse, aiohttp.web.WebSocketResponse]),
        ("picows", [picows.WSTransport, picows.WSListener]),
    ],
)
def test_names_of_other_libraries_have_hints(library: str, of_theirs: list[type]) -> None:
    theirs = {name for kind in of_theirs for name in dir(kind) if not name.startswith("_")}
    expected = {
        "websockets": {"recv", "recv_streaming", "close_code", "close_reason", "remote_address"},
        "aiohttp": {"receive", "receive_str", "receive_json", "receive_bytes", "send_str", "send_bytes", "send_json"}
        | {"prepare", "exception", "close_code"},
        "picows": {"send_ping", "send_close", "disconnect", "wait_disconnected", "on_ws_frame"},
    }[library]
    assert expected <= theirs, "the library has renamed them"
    assert expected <= set(HINTS[Client])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            Client,
            ["local_address", "remote_address", "cookies", "query_params", "send_json", "receive_json", "iter_json"],
        ),
        (Request, ["local_address", "remote_address", "client", "query_params"]),
    ],
)
def test_help_says_of_a_hint_that_there_is_no_such_attribute(kind: type, names: list[str]) -> None:
    shown = pydoc.plain(pydoc.render_doc(kind))
    for name in names:
        assert f"{name}\n |      There is no such attribute: {HINTS[kind][name]}.\n" in shown


# Names that exist, and typing errors -------------------------------------------------------------------------------


def test_no_hint_hides_an_attribute() -> None:
    for kind, hints in HINTS.items():
        for name in hints:
            assert is_hint(kind, name), f"{kind.__name__} has {name}: remove the hint"


async def test_unknown_name_is_the_usual_error_with_the_usual_suggestion() -> None:
    async with pair() as (client, _):
        with pytest.raises(AttributeError, match=r"object has no attribute 'read_mesage'$") as error:
            client.read_mesage  # type: ignore[attr-defined] # noqa: B018
        assert (error.value.name, error.value.obj) == ("read_mesage", client)
        if sys.version_info >= (3, 12):  # in 3.11, only the interpreter itself prints suggestions
            [line] = traceback.TracebackException.from_exception(error.value).format_exception_only()
            assert "Did you mean" in line
            assert "read_message" in line


# Not connected yet -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["send", "read_message", "close", "writer", "state", "outcome", "message", "recv"])
def test_connect_that_was_not_awaited_says_that_await_is_missing(name: str) -> None:
    connecting = connect("ws://localhost/")
    with pytest.raises(AttributeError) as error:
        getattr(connecting, name)
    assert str(error.value) == (
        f"'Connecting' object has no attribute {name!r}: it is not connected yet: "
        "write `async with connect(url) as client`, or `client = await connect(url)`"
    )
    assert not hasattr(connecting, name)
    assert name not in dir(connecting)


def test_unknown_name_of_connect_is_the_usual_error() -> None:
    with pytest.raises(AttributeError, match=r"^'Connecting' object has no attribute 'nothing'$"):
        connect("ws://localhost/").nothing  # type: ignore[attr-defined] # noqa: B018


# Tools that look at objects ----------------------------------------------------------------------------------------


async def test_tools_that_look_at_objects_work() -> None:
    async with pair() as (client, _):
        assert copy.copy(client.request) == copy.deepcopy(client.request) == client.request
        members = dict(inspect.getmembers(client))
        assert members["id"] == client.id
        assert "recv" not in members
    request = Request("GET", "/", Headers())
    assert pickle.loads(pickle.dumps(request)) == request
    assert "read_message" in pydoc.render_doc(Client)
    assert "read_message" in dict(inspect.getmembers(Client))


def test_mocks_of_the_classes_work() -> None:
    for kind in [*HINTS, Connecting]:
        mock.create_autospec(kind)
    client = mock.create_autospec(Client, instance=True)
    client.send("text")
    client.send.assert_called_once_with("text")
    with pytest.raises(AttributeError):
        client.read_mesage()


class Chat(WebSocketServer):
    """A subclass may have methods of these names."""

    def send(self) -> str:
        return "mine"


def test_subclass_may_define_a_name_that_has_a_hint() -> None:
    chat = Chat("127.0.0.1", 0)
    assert chat.send() == "mine"
    assert "send" in dir(chat)
    chat.handler = 5  # type: ignore[attr-defined]
    assert chat.handler == 5  # type: ignore[attr-defined]


def test_check_of_the_interpreter_passes() -> None:
    assert class_shows_dictionary()


# The state ---------------------------------------------------------------------------------------------------------


def test_state_is_printed_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    print(State.OPEN)
    assert capsys.readouterr().out == "OPEN\n"
    assert f"{State.CLOSED} {State.OPEN:>6} {State.CLOSING!s}" == "CLOSED   OPEN CLOSING"
    assert "%s %d" % (State.OPEN, State.OPEN) == "OPEN 1"  # noqa: UP031
    assert repr(State.OPEN) == "<State.OPEN: 1>"
    assert int(State.OPEN) == 1
