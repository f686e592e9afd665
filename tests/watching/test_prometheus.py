"""`streamws.watching.prometheus.Collector`, scraped over HTTP as Prometheus does it."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import DuplicateTimeseries

from helpers.blocks import ROOT
from helpers.fixtures import Serve, url_of
from helpers.programs import script
from helpers.waiting import until
from streamws import Cause, Client, Compression, HandshakeRefused, WebSocketServer, connect
from streamws.watching.prometheus import Collector

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def echo(client: Client) -> None:
    async for message in client:
        await client.send(message)


@asynccontextmanager
async def scraping(
    servers: WebSocketServer | Mapping[str, WebSocketServer], openmetrics: bool = False
) -> AsyncIterator[str]:
    """Scrape once, from the HTTP server of prometheus-client, which runs in a thread of its own."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(servers))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    # `server_close()` waits for the threads of its requests only if they are no daemons: each closes its socket last.
    server.daemon_threads = False  # type: ignore[attr-defined]
    accept = {"Accept": CONTENT_TYPE_LATEST} if openmetrics else {}

    def scrape() -> str:
        with urlopen(HttpRequest(f"http://127.0.0.1:{server.server_port}/metrics", headers=accept)) as response:
            return str(response.read().decode())

    try:
        yield await asyncio.to_thread(scrape)
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()


def samples(text: str, openmetrics: bool = False) -> Samples:
    parse = parse_openmetrics if openmetrics else parse_text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
async def test_scrape_shows_what_the_server_did(serve: Serve, openmetrics: bool) -> None:
    socket = await serve(echo, hosts=["127.0.0.1"], compression=Compression(threshold=0))
    async with connect(url_of(socket), proxy=None, compression=True) as client:
        await client.send("hello " * 100)
        await client.read_message()
    with pytest.raises(HandshakeRefused):
        await connect(url_of(socket).replace("127.0.0.1", "localhost"), proxy=None)
    await until(lambda: not socket.clients)
    async with connect(url_of(socket), proxy=None), scraping({"chat": socket}, openmetrics) as text:
        stats = socket.stats
        found = samples(text, openmetrics)

    def value(name: str, **labels: str) -> float:
        return found[f"streamws_{name}", frozenset({"server": "chat", **labels}.items())]

    assert value("connections") == 1
    assert value("handshakes") == 0
    assert value("connections_opened_total") == 2
    assert {cause: value("connections_closed_total", cause=cause.name.lower()) for cause in Cause} == {
        cause: float(cause is Cause.CLEAN) for cause in Cause
    }
    assert value("handshakes_refused_total", status="400") == 1
    assert value("handshakes_failed_total") == 0
    assert value("messages_received_total") == value("messages_sent_total") == 1
    assert value("received_bytes_total") == stats.bytes_received > 0
    assert value("sent_bytes_total") == stats.bytes_sent > 0
    assert value("received_inflated_bytes_total") == value("sent_inflated_bytes_total") == 600
    assert 0 < value("received_compressed_bytes_total") == stats.compressed_received < 100
    assert 0 < value("sent_compressed_bytes_total") == stats.compressed_sent < 100
    assert value("backlog_bytes") == value("backlog_max_bytes") == 0
    assert stats.started_at is not None
    assert value("start_time_seconds") == pytest.approx(stats.started_at.timestamp())
    # No metric has other labels than these, and none is missing in the documentation.
    assert {name for _, labels in found for name, _ in labels} == {"server", "cause", "status"}
    page = (ROOT / "docs" / "howto" / "metrics-and-logs.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(streamws_\w+)`", page, re.MULTILINE))
    assert documented - {"streamws_round_trip_seconds"} == {name for name, _ in found}


async def test_scrape_shows_the_round_trip_once_it_is_known(serve: Serve) -> None:
    socket = await serve(echo)
    async with connect(url_of(socket), proxy=None):
        async with scraping(socket) as text:
            assert "\nstreamws_round_trip_seconds{" not in text
        await until(lambda: socket.clients)
        [client] = socket.clients.values()
        trip = await client.writer.ping()
        async with scraping(socket) as text:
            assert samples(text)["streamws_round_trip_seconds", frozenset({("server", "127.0.0.1:0")})] == trip


async def test_several_servers_share_a_registry(serve: Serve) -> None:
    chat, admin = await serve(echo), await serve(echo)
    async with connect(url_of(chat), proxy=None), scraping({"chat": chat, "admin": admin}) as text:
        found = samples(text)
    assert found["streamws_connections", frozenset({("server", "chat")})] == 1
    assert found["streamws_connections", frozenset({("server", "admin")})] == 0
    assert text.count("# TYPE streamws_connections gauge") == 1


async def test_second_collector_in_a_registry_is_refused(serve: Serve) -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(await serve(echo)))
    with pytest.raises(DuplicateTimeseries):
        registry.register(Collector(await serve(echo)))


def test_collector_takes_servers_only() -> None:
    for wrong in ("localhost:8765", {"chat": "localhost:8765"}, [WebSocketServer("", 0, handler=echo)]):
        with pytest.raises(
            TypeError, match="Collector takes a WebSocketServer, or a mapping of labels to servers, not"
        ):
            Collector(wrong)  # type: ignore[arg-type]


async def test_without_the_extra_the_error_says_what_to_install() -> None:
    source = """
import sys
sys.modules["prometheus_client"] = None
from streamws import MissingExtra
try:
    import streamws.watching.prometheus
except MissingExtra as error:
    print(error)
    assert isinstance(error, ImportError)
"""
    async with script(source) as program:
        assert await program.end() == 0, program.stderr
        assert program.stdout == (
            "streamws.watching.prometheus needs prometheus-client: pip install 'streamws[prometheus]'\n"
        )
