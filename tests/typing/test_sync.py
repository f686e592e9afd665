"""Types of the blocking client. mypy and pyright check the assertions; pytest checks that the names exist."""

import inspect
import ssl
from collections.abc import Iterator
from typing import assert_type

import streamws
from streamws import CloseOutcome, ConnectionStats, DecodeError, DeflateTerms, PeerCertificate, Request, Response, State
from streamws.hints import SYNC_HINTS
from streamws.messages import Json
from streamws.sync import Client, Typed, connect


def on_error(ws: Client, data: str | bytes, error: DecodeError) -> None:
    ws.send("error", text=True)


def use(context: ssl.SSLContext) -> None:
    with connect("wss://localhost", ssl=context, subprotocols=["a"], headers={"A": "b"}) as ws:
        assert_type(ws, Client)
        assert_type(ws.read_message(), str | bytes)
        assert_type(ws.read_message(timeout=0.5), str | bytes)
        assert_type(iter(ws), Iterator[str | bytes])
        for message in ws:
            assert_type(message, str | bytes)
        ws.send("text")
        ws.send(memoryview(b"bytes"), compress=False, text=True)
        assert_type(ws.ping(), float)
        assert_type(ws.ping(b"payload", timeout=1), float)
        assert_type(ws.subprotocol, str | None)
        assert_type(ws.request, Request)
        assert_type(ws.response, Response)
        assert_type(ws.compression, DeflateTerms | None)
        assert_type(ws.state, State)
        assert_type(ws.latency, float | None)
        assert_type(ws.stats, ConnectionStats)
        assert_type(ws.outcome, CloseOutcome | None)
        assert_type(ws.addr, str)
        assert_type(ws.port, int)
        assert_type(ws.get_extra_info("peercert"), PeerCertificate | None)
        numbers = ws.typed(Json(list[int]), on_error)
        assert_type(numbers, Typed[list[int], list[int]])
        assert_type(numbers.read_message(timeout=1), list[int])
        numbers.send([1])
        for item in numbers:
            assert_type(item, list[int])
        ws.abort()
        ws.close(4000, "reason", timeout=1)


def test_parameters_are_those_of_the_asyncio_client() -> None:
    blocking = inspect.signature(connect).parameters
    asyncio = inspect.signature(streamws.connect).parameters
    assert asyncio.keys() - blocking.keys() == {"backoff", "retry"}
    assert blocking.keys() <= asyncio.keys()
    for name, parameter in blocking.items():
        assert parameter.default == asyncio[name].default


def test_methods_are_those_of_the_asyncio_client() -> None:
    names = {name for name in vars(Client) if not name.startswith("_") and name not in SYNC_HINTS}
    assert names - {"ping"} <= set(dir(streamws.Client))
    assert "ping" in dir(streamws.Writer)
