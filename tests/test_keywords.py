"""Keyword arguments of other libraries raise a TypeError that says what to write here."""

import inspect
import pydoc
import re
from collections.abc import Callable
from typing import Any

import aiohttp
import aiohttp.web
import attrs
import picows
import pytest
import websocket
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.sync.client
import websockets.sync.server

import streamws
import streamws.sync
from streamws import WebSocketServer, connect
from streamws.keywords import CONNECT, SERVER, SYNC_CONNECT

FUNCTIONS: list[tuple[str, Callable[..., object], dict[str, str]]] = [
    ("connect", connect, CONNECT),
    ("WebSocketServer", WebSocketServer, SERVER),
    ("connect", streamws.sync.connect, SYNC_CONNECT),
]
CASES = [(name, function, keyword, hint) for name, function, hints in FUNCTIONS for keyword, hint in hints.items()]

NOTHING = {"args", "kwargs", "self"}
NOTHING |= {"create_connection", "create_server", "legacy", "proxy_ssl", "proxy_server_hostname"}
NOTHING |= {"method", "proxy_headers"}
NOTHING |= {"auto_ping_strategy", "disconnect_on_exception", "proxy_ssl_context", "read_buffer_init_size"}
NOTHING |= {"use_aiofastnet", "class_", "options"}
"""Parameters of other libraries that have no counterpart in streamws."""


@pytest.mark.parametrize(("name", "function", "keyword", "hint"), CASES)
def test_keyword_of_another_library_is_a_type_error_that_says_what_to_write(
    name: str, function: Callable[..., object], keyword: str, hint: str
) -> None:
    for arguments in ([], ["ws://localhost/"]):
        with pytest.raises(TypeError) as error:
            function(*arguments, **{keyword: 5})
        assert str(error.value) == f"{name}() has no parameter {keyword!r}: {hint}"
        assert error.value.__context__ is None


@pytest.mark.parametrize(("name", "function", "keyword", "hint"), CASES)
def test_hint_names_parameters_and_options_that_exist(
    name: str, function: Callable[..., object], keyword: str, hint: str
) -> None:
    parameters = inspect.signature(function).parameters
    assert keyword not in parameters
    named = 0
    for code in re.findall("`([^`]+)`", hint):
        accept = re.fullmatch(r"Accept\((\w+)=\.\.\.\)", code)
        option = re.fullmatch(r"(\w+)=([A-Z]\w+)\((.*)\)", code)
        argument = re.fullmatch(r"(\w+)=[^(].*", code)
        if accept:
            assert accept[1] in inspect.signature(streamws.Accept).parameters
        elif option:
            kind = getattr(streamws, option[2])
            assert option[2] in str(parameters[option[1]].annotation)
            assert set(re.findall(r"(\w+)=", option[3])) <= set(attrs.fields_dict(kind))
        elif argument:
            assert argument[1] in parameters
        named += 1
    assert named or hint.startswith(("leave it out: ", "write them into the URL", "call `connect` again"))


def parameters_of(*functions: Callable[..., object]) -> set[str]:
    return {name for function in functions for name in inspect.signature(function).parameters}


def test_parameters_of_other_libraries_have_hints() -> None:
    of_connect = parameters_of(
        websockets.asyncio.client.connect.__init__,
        websockets.sync.client.connect,
        aiohttp.ClientSession._ws_connect,
        picows.ws_connect,
    )
    of_server = parameters_of(
        websockets.asyncio.server.Server.__init__,
        websockets.sync.server.serve,
        aiohttp.web.WebSocketResponse,
        picows.ws_create_server,
    )
    assert {"max_size", "heartbeat", "extra_headers"} <= of_connect
    assert of_connect - set(inspect.signature(connect).parameters) - NOTHING <= set(CONNECT)
    of_blocking = parameters_of(
        websockets.sync.client.connect, websocket.create_connection, websocket.WebSocket.connect
    )
    of_blocking |= set(re.findall(r"^        (\w+): ", websocket.create_connection.__doc__ or "", re.MULTILINE))
    assert {"sslopt", "header", "receive_timeout"} <= of_blocking | set(SYNC_CONNECT)
    assert of_blocking - set(inspect.signature(streamws.sync.connect).parameters) - NOTHING <= set(SYNC_CONNECT)
    assert {"process_request", "max_msg_size", "host"} <= of_server
    assert of_server - set(inspect.signature(WebSocketServer).parameters) - NOTHING <= set(SERVER)


# Everything else stays what it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [connect, WebSocketServer, streamws.sync.connect])
def test_unknown_keyword_is_the_usual_error(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"\(\) got an unexpected keyword argument 'limit'"):
        function("ws://localhost/", limit=5)


def test_other_type_errors_are_not_changed() -> None:
    value: Any = 5
    with pytest.raises(TypeError, match=r"^limits must be a Limits"):
        connect("ws://localhost/", limits=value)
    with pytest.raises(TypeError, match=r"^limits must be a Limits"):
        WebSocketServer("localhost", 0, limits=value)


@pytest.mark.parametrize("function", [connect, WebSocketServer.__init__, streamws.sync.connect])
def test_functions_show_their_parameters_alone(function: Callable[..., object]) -> None:
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    shown = pydoc.plain(pydoc.render_doc(function))
    assert ":param limits: limits, in bytes." in shown
    assert "keywords" not in shown


class Chat(WebSocketServer):
    """A subclass may have parameters of these names."""

    def __init__(self, host: str) -> None:
        super().__init__(host, 0)


def test_subclass_may_have_a_parameter_that_has_a_hint() -> None:
    assert "localhost:0" in repr(Chat(host="localhost"))
