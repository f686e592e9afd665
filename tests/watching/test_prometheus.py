"""`streamws.watching.prometheus.Collector`, scraped over HTTP as Prometheus does it."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import DuplicateTimeseries

from helpers.blocks import ROOT
from helpers.fixtures import Serve, url_of
from helpers.programs import script
from helpers.waiting import until
from streamws import Cause, Client, Compression, HandshakeRefused, WebSocketServer, connect
from streamws.topics import BrokerConnection, BrokerStats, History, MemoryBroker, Topics
from streamws.watching.prometheus import Collector
from topics.channels import Channel
from topics.flaky import FlakyBroker

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
    documented = {name for name in documented if not name.startswith(("streamws_topics_", "streamws_broker_"))}
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


class Watched(FlakyBroker):
    """A broker with connections of its own."""

    @property
    def stats(self) -> BrokerStats:
        out = BrokerConnection(True, 2, 3, 400, 0.25, "reset")
        return BrokerStats(5, {"out": out, "in": BrokerConnection(False)})


EXPOSITION = """\
# HELP streamws_topics_followed Topics with followers.
# TYPE streamws_topics_followed gauge
streamws_topics_followed{topics="chat"} 1.0
streamws_topics_followed{topics="hub"} 0.0
# HELP streamws_topics_followers Followers of all topics.
# TYPE streamws_topics_followers gauge
streamws_topics_followers{topics="chat"} 2.0
streamws_topics_followers{topics="hub"} 0.0
# HELP streamws_topics_present Connections that are present, counted once for each topic.
# TYPE streamws_topics_present gauge
streamws_topics_present{topics="chat"} 1.0
streamws_topics_present{topics="hub"} 0.0
# HELP streamws_topics_recovering Topics that read what they may have lost.
# TYPE streamws_topics_recovering gauge
streamws_topics_recovering{topics="chat"} 0.0
streamws_topics_recovering{topics="hub"} 0.0
# HELP streamws_topics_publish_soon_bytes Bytes of publications of publish_soon that wait.
# TYPE streamws_topics_publish_soon_bytes gauge
streamws_topics_publish_soon_bytes{topics="chat"} 66.0
streamws_topics_publish_soon_bytes{topics="hub"} 0.0
# HELP streamws_topics_joined_total Followers that joined.
# TYPE streamws_topics_joined_total counter
streamws_topics_joined_total{topics="chat"} 2.0
streamws_topics_joined_total{topics="hub"} 0.0
# HELP streamws_topics_recovered_total Followers that came back and missed nothing.
# TYPE streamws_topics_recovered_total counter
streamws_topics_recovered_total{topics="chat"} 1.0
streamws_topics_recovered_total{topics="hub"} 0.0
# HELP streamws_topics_not_recovered_total Followers that came back and missed something.
# TYPE streamws_topics_not_recovered_total counter
streamws_topics_not_recovered_total{topics="chat"} 0.0
streamws_topics_not_recovered_total{topics="hub"} 0.0
# HELP streamws_topics_published_total Publications that the broker accepted.
# TYPE streamws_topics_published_total counter
streamws_topics_published_total{topics="chat"} 2.0
streamws_topics_published_total{topics="hub"} 0.0
# HELP streamws_topics_publish_failed_total Publications that failed, other than by a timeout.
# TYPE streamws_topics_publish_failed_total counter
streamws_topics_publish_failed_total{topics="chat"} 0.0
streamws_topics_publish_failed_total{topics="hub"} 0.0
# HELP streamws_topics_publish_timed_out_total Publications that timed out.
# TYPE streamws_topics_publish_timed_out_total counter
streamws_topics_publish_timed_out_total{topics="chat"} 0.0
streamws_topics_publish_timed_out_total{topics="hub"} 0.0
# HELP streamws_topics_publish_refused_total Publications that a limit prevented.
# TYPE streamws_topics_publish_refused_total counter
streamws_topics_publish_refused_total{topics="chat"} 0.0
streamws_topics_publish_refused_total{topics="hub"} 0.0
# HELP streamws_topics_publish_soon_failed_total Publications of publish_soon that failed or timed out.
# TYPE streamws_topics_publish_soon_failed_total counter
streamws_topics_publish_soon_failed_total{topics="chat"} 0.0
streamws_topics_publish_soon_failed_total{topics="hub"} 0.0
# HELP streamws_topics_received_total Publications that the broker delivered.
# TYPE streamws_topics_received_total counter
streamws_topics_received_total{topics="chat"} 1.0
streamws_topics_received_total{topics="hub"} 0.0
# HELP streamws_topics_gaps_total Gaps that the history could not fill.
# TYPE streamws_topics_gaps_total counter
streamws_topics_gaps_total{topics="chat"} 0.0
streamws_topics_gaps_total{topics="hub"} 0.0
# HELP streamws_topics_dropped_total Publications and presence events that slow followers did not get.
# TYPE streamws_topics_dropped_total counter
streamws_topics_dropped_total{topics="chat"} 0.0
streamws_topics_dropped_total{topics="hub"} 0.0
# HELP streamws_topics_replaced_total Publications that the policy latest replaced by newer ones.
# TYPE streamws_topics_replaced_total counter
streamws_topics_replaced_total{topics="chat"} 0.0
streamws_topics_replaced_total{topics="hub"} 0.0
# HELP streamws_topics_disconnected_total Followers that were disconnected because they were slow.
# TYPE streamws_topics_disconnected_total counter
streamws_topics_disconnected_total{topics="chat"} 0.0
streamws_topics_disconnected_total{topics="hub"} 0.0
# HELP streamws_broker_losses_total How often the broker said that publications may be lost.
# TYPE streamws_broker_losses_total counter
streamws_broker_losses_total{topics="chat"} 0.0
streamws_broker_losses_total{topics="hub"} 1.0
# HELP streamws_broker_subscriptions Topics that the broker delivers.
# TYPE streamws_broker_subscriptions gauge
streamws_broker_subscriptions{topics="chat"} 1.0
streamws_broker_subscriptions{topics="hub"} 5.0
# HELP streamws_broker_kept_topics Topics that the broker keeps in this process.
# TYPE streamws_broker_kept_topics gauge
streamws_broker_kept_topics{topics="chat"} 1.0
# HELP streamws_broker_connected Whether a connection of the broker is established.
# TYPE streamws_broker_connected gauge
streamws_broker_connected{connection="out",topics="hub"} 1.0
streamws_broker_connected{connection="in",topics="hub"} 0.0
# HELP streamws_broker_requests_waiting Requests to the broker that have no answer yet.
# TYPE streamws_broker_requests_waiting gauge
streamws_broker_requests_waiting{connection="out",topics="hub"} 3.0
streamws_broker_requests_waiting{connection="in",topics="hub"} 0.0
# HELP streamws_broker_backlog_bytes Bytes to the broker that are not written yet.
# TYPE streamws_broker_backlog_bytes gauge
streamws_broker_backlog_bytes{connection="out",topics="hub"} 400.0
streamws_broker_backlog_bytes{connection="in",topics="hub"} 0.0
# HELP streamws_broker_round_trip_seconds Round trip to the broker, when it was last measured.
# TYPE streamws_broker_round_trip_seconds gauge
streamws_broker_round_trip_seconds{connection="out",topics="hub"} 0.25
# HELP streamws_broker_reconnects_total How often a connection of the broker was established again.
# TYPE streamws_broker_reconnects_total counter
streamws_broker_reconnects_total{connection="out",topics="hub"} 2.0
streamws_broker_reconnects_total{connection="in",topics="hub"} 0.0
"""


async def test_exposition_of_topics_is_exact_and_documented(channel: Channel) -> None:
    registry = CollectorRegistry(auto_describe=True)
    async with Topics(MemoryBroker()) as chat, Topics(Watched()) as hub:
        registry.register(Collector(topics={"chat": chat, "hub": hub}))
        topic = chat.topic("news", history=History())
        position = (await topic.publish("1")).position
        await topic.join(channel)
        await topic.presence.enter(channel, "ann")
        async with topic.subscribe(since=position):
            await topic.publish("2")
            hub._core.lost()
            assert topic.publish_soon("34")
            text = generate_latest(registry).decode()
    assert text == EXPOSITION
    page = (ROOT / "docs" / "howto" / "metrics-and-logs.md").read_text("utf-8")
    documented = re.findall(r"^\| `(streamws_(?:topics|broker)_\w+)`", page, re.MULTILINE)
    assert documented == re.findall(r"^# HELP (\w+)", EXPOSITION, re.MULTILINE)


async def test_topics_alone_and_servers_alone_have_their_own_metrics_only(serve: Serve) -> None:
    topics = Topics(MemoryBroker())
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(topics=topics))
    assert {labels for _, labels in samples(generate_latest(registry).decode())} == {frozenset({("topics", "default")})}
    # One collector for the servers and one for the topics may be in the same registry.
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector(await serve(echo)))
    registry.register(Collector(topics=topics))
    text = generate_latest(registry).decode()
    assert "\nstreamws_connections{" in text
    assert "\nstreamws_topics_followed{" in text


async def test_scrape_of_servers_and_topics_does_not_fail_while_topics_close(serve: Serve) -> None:
    registry = CollectorRegistry(auto_describe=True)
    socket, topics = await serve(echo), Topics(MemoryBroker())
    registry.register(Collector(socket, topics=topics))
    failures: list[BaseException] = []
    texts: list[str] = []
    end = threading.Event()

    def scrape() -> None:
        try:
            while not end.is_set():
                texts.append(generate_latest(registry).decode())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    closed = 'streamws_topics_followed{topics="default"} 0.0'
    try:
        await until(lambda: texts)
        assert closed in texts[0]
        async with topics:
            for number in range(200):
                channel = Channel()
                await topics.topic(str(number)).join(channel)
                await topics.topic(str(number)).presence.enter(channel, "ann")
            await until(lambda: failures or 'streamws_topics_followers{topics="default"} 200.0' in texts[-1])
        await until(lambda: failures or closed in texts[-1])
    finally:
        end.set()
        thread.join()
    assert failures == []


def test_collector_takes_topics_only() -> None:
    for wrong in ("chat", {"chat": MemoryBroker()}, [Topics(MemoryBroker())], Topics):
        with pytest.raises(TypeError, match="topics must be a Topics, or a mapping of labels to several, not"):
            Collector(topics=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Collector needs servers or topics: write Collector\(socket\), or"):
        Collector()


async def test_server_without_topics_does_not_load_them() -> None:
    source = """
import sys
from streamws import WebSocketServer
from streamws.watching.prometheus import Collector
from prometheus_client import CollectorRegistry, generate_latest
registry = CollectorRegistry()
registry.register(Collector(WebSocketServer("localhost", 0, handler=print)))
print(b"streamws_connections" in generate_latest(registry), "streamws.topics" in sys.modules)
"""
    async with script(source) as program:
        assert await program.end() == 0, program.stderr
        assert program.stdout == "True False\n"


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
