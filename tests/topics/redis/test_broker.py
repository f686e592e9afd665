"""`RedisBroker`: the promises of a broker, and what happens when Redis fails."""

import asyncio
import logging
import re
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from helpers.blocks import ROOT
from helpers.programs import script
from helpers.waiting import iterations, until
from streamws import BrokerError, BrokerUnavailable, PublishTimeout
from streamws.topics import Broker, Gap, History, Outgoing, RedisBroker, TopicLimits, Topics
from streamws.topics.redis.link import Link
from streamws.topics.redis.scripts import Member
from streamws.topics.testing import RemoteBrokerContract, WatchedBrokerContract
from topics.broker_contract import HISTORY, Collector, MakeBroker, Node, Strict
from topics.channels import Channel
from topics.fixtures import OpenTopics
from topics.redis_following import available, following, published, unavailable
from topics.redis_server import RedisServer, Sentinel, free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no Redis for Windows")

PATIENT = TopicLimits(publish_timeout=5)
DATA = ("--appendonly", "yes", "--appendfsync", "always")
"""Options of a server that loses nothing when it is killed."""

prefixes = (f"test-{number}" for number in count())


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for the tests that do not disturb others."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make_broker(shared_server: RedisServer) -> MakeBroker:
    """Makes brokers with a prefix of the test's own."""
    prefix = next(prefixes)
    return lambda: RedisBroker(shared_server.url, prefix=prefix)


class TestRedisBroker(Strict, RemoteBrokerContract, WatchedBrokerContract):
    @pytest.fixture(autouse=True)
    def _use(self, shared_server: RedisServer) -> None:
        self.server = shared_server
        self.prefix = next(prefixes)
        self.made: list[RedisBroker] = []

    def make_broker(self) -> RedisBroker:
        self.made.append(RedisBroker(self.server.url, prefix=self.prefix))
        return self.made[-1]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()

    async def kill(self, broker: Broker) -> None:
        assert isinstance(broker, RedisBroker)
        let_time_pass(self.server, self.prefix, await die(broker))
        for other in self.made:
            if other is not broker:
                await other._presence.look_after()


# Opening ---------------------------------------------------------------------------------------------------------


async def test_server_that_is_down_at_the_start_is_used_when_it_is_there(
    open_topics: OpenTopics, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path)
    topics = await open_topics(RedisBroker(server.url))
    topic = topics.topic("t")
    with pytest.raises(
        BrokerUnavailable, match=rf"Redis at 127\.0\.0\.1:{server.port} is not available: ConnectionRefused"
    ):
        await topic.publish("1")
    with pytest.raises(BrokerUnavailable, match="not available"):
        await topic.subscribe().__aenter__()
    try:
        server.start()
        await published(topic, "1")
        async with following(topic) as follower:
            await published(topic, "2")
            await follower.has("2")
    finally:
        server.kill()


async def test_broker_works_for_one_receiver_while_it_is_open(shared_server: RedisServer) -> None:
    broker = RedisBroker(shared_server.url, prefix=next(prefixes))
    for call in (
        broker.subscribe("t"),
        broker.publish([Outgoing("t", "1", None, None, None)]),
        broker.enter("t", "c1", "ann", ""),
    ):
        with pytest.raises(BrokerUnavailable, match="not connected yet"):
            await call
    for _ in range(2):
        async with Node(broker) as node:
            with pytest.raises(BrokerError, match="is in use: make another one"):
                await broker.open(Collector())
            await node.broker.subscribe("t")
            await node.publish("1")
            await node.receive(1)


@pytest.mark.parametrize("redis_server", [("--requirepass", "s3cret/%")], indirect=True)
async def test_login_and_database(redis_server: RedisServer) -> None:
    place = f"127.0.0.1:{redis_server.port}"
    for login, reason in (("", "NOAUTH"), (":wrong@", "WRONGPASS"), ("nobody:s3cret%2F%25@", "WRONGPASS")):
        broker = RedisBroker(f"redis://{login}{place}")
        with pytest.raises(BrokerError, match=f"Redis at {place} cannot be used: .*{reason}"):
            await broker.open(Collector())
    with pytest.raises(BrokerError, match=r"cannot be used: .*DB index is out of range"):
        await RedisBroker(f"redis://:s3cret%2F%25@{place}/99").open(Collector())
    broker = RedisBroker(f"redis://default:s3cret%2F%25@{place}/3?client_name=chat")
    assert repr(broker) == f"<RedisBroker at {place}>"
    async with Node(broker) as node:
        await node.publish("1")
    async with Node(RedisBroker(f"redis://:s3cret%2F%25@{place}/4")) as node:
        assert not (await node.read()).records
    async with Node(RedisBroker(f"redis://:s3cret%2F%25@{place}?db=3")) as node:
        assert [record.payload for record in (await node.read()).records] == ["1"]


async def test_user_of_the_guide_may_do_everything(redis_server: RedisServer) -> None:
    (line,) = re.findall("`user (chat [^`]*)`", (ROOT / "docs/howto/several-processes.md").read_text("utf-8"))
    assert b"OK" in redis_server.ask("ACL", "SETUSER", *line.split())
    url = redis_server.url.replace("//", "//chat:password@")
    async with Node(RedisBroker(url, prefix="chat")) as node:
        await node.broker.subscribe("t")
        await node.publish("1", idempotency="1")
        assert len((await node.read()).records) == 1
        await node.broker.enter("t", "c1", "ann", "")
        await node.broker.enter("t", "c1", "bob", "")
        await node.broker.exit("t", "c1")
        await node.receive(1)
        assert b"OK" in redis_server.ask("SCRIPT", "FLUSH")
        await node.publish("2")
        await node.broker._presence.look_after()  # type: ignore[attr-defined]
        await node.broker.unsubscribe("t")
    async with Node(RedisBroker(url, prefix="chat")) as node:
        assert await node.broker.connections("t") == {}
    with pytest.raises(BrokerError, match=r"cannot be used: .*NOPERM"):
        await RedisBroker(url, prefix="other").open(Collector())


async def test_applications_with_other_prefixes_or_databases_share_nothing(redis_server: RedisServer) -> None:
    brokers = [
        RedisBroker(redis_server.url),
        RedisBroker(f"{redis_server.url}/1"),
        RedisBroker(redis_server.url, prefix="other"),
    ]
    async with Node(brokers[0]) as one, Node(brokers[1]) as two, Node(brokers[2]) as three:
        nodes = (one, two, three)
        for node in nodes:
            await node.broker.subscribe("t")
        for number, node in enumerate(nodes, 1):
            await node.broker.enter("t", "c", f"user {number}", "")
            for _ in range(number):
                await node.publish(str(number))
        for number, node in enumerate(nodes, 1):
            await node.receive(number)
            assert node.receiver.payloads == [str(number)] * number
            assert [event.user for event in node.receiver.events] == [f"user {number}"]
            assert node.receiver.offsets == [*range(1, number + 1)]


@pytest.mark.parametrize("prefix", ["", "chat:eu", "{chat", "chat}", "\ud800", "\n"])
def test_prefix_must_not_be_ambiguous(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix must be printable text without "):
        RedisBroker("redis://localhost", prefix=prefix)


async def test_unix_socket(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--unixsocket", "redis.sock")
    server.start()
    try:
        async with Node(RedisBroker(f"unix://{tmp_path}/redis.sock")) as node:
            await node.publish("1")
            assert [record.payload for record in (await node.read()).records] == ["1"]
    finally:
        server.kill()


async def test_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    file, key = certificate
    options = ["--tls-cert-file", str(file), "--tls-key-file", str(key), "--tls-auth-clients", "no"]
    port = RedisServer(tmp_path).port
    server = RedisServer(tmp_path, "--tls-port", str(port), *options)
    server.start()
    try:
        with pytest.raises(BrokerError, match=r"cannot be used: .*certificate verify failed"):
            await RedisBroker(f"rediss://localhost:{port}").open(Collector())
        async with Node(RedisBroker(f"rediss://localhost:{port}?ssl_ca_certs={file}")) as node:
            await node.broker.subscribe("t")
            await node.publish("1")
            await node.receive(1)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://localhost", "Redis URL must specify one of the following schemes"),
        ("redis://localhost?timeout=5", "not a valid Redis URL: unknown option 'timeout'"),
        ("redis://localhost:99999", "the port is not valid"),
        ("redis://:s3/cret@localhost", "special characters of a password must be percent-encoded"),
        ("redis://localhost/one", "the database must be a number"),
        ("redis://ann:12/s3cret@localhost", "special characters of a password must be percent-encoded"),
        ("redis://:s3?cret@localhost", "special characters of a password must be percent-encoded"),
    ],
)
def test_invalid_url_is_an_error_that_shows_no_password(url: str, error: str) -> None:
    with pytest.raises(ValueError, match=error) as raised:
        RedisBroker(url)
    assert "s3" not in "".join(traceback.format_exception_only(raised.value))
    assert raised.value.__cause__ is None or "s3" not in str(raised.value.__cause__)


@pytest.mark.parametrize("value", [0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["timeout", "presence_timeout", "remember"])
def test_seconds_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive number of seconds, not {value}"):
        RedisBroker("redis://localhost", **{name: value})  # type: ignore[arg-type]


async def test_times_may_be_longer_than_redis_can_count(shared_server: RedisServer) -> None:
    for_ever = 1e20
    broker = RedisBroker(shared_server.url, prefix=next(prefixes), remember=for_ever, presence_timeout=for_ever)
    async with Node(broker) as node:
        await node.publish("1", history=History(seconds=for_ever))
        await node.broker.enter("t", "c", "ann", "")
        assert [record.payload for record in (await node.read()).records] == ["1"]


def test_address_is_shown_without_the_login() -> None:
    assert repr(RedisBroker("redis://ann:s3cret@[::1]:6380/2")) == "<RedisBroker at [::1]:6380>"
    assert repr(RedisBroker("unix://ann:s3cret@/run/redis.sock")) == "<RedisBroker at /run/redis.sock>"


@pytest.mark.parametrize("redis_server", [["--rename-command", "AUTH", "LOGIN"]], indirect=True)
async def test_password_that_the_server_quotes_is_not_shown(
    redis_server: RedisServer, open_topics: OpenTopics, caplog: pytest.LogCaptureFixture
) -> None:
    topics = await open_topics(RedisBroker(f"redis://ann:s3cret@127.0.0.1:{redis_server.port}"))
    with pytest.raises(BrokerUnavailable, match=r"unknown command 'AUTH'$"):
        await topics.topic("t").publish("1")
    assert "AUTH" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "redis_server", [["--user", "ann", "on", "nopass", "~*", "&*", "+@all", "--user", "default", "off"]], indirect=True
)
async def test_user_without_a_password(redis_server: RedisServer) -> None:
    async with Node(RedisBroker(f"redis://ann@127.0.0.1:{redis_server.port}")) as node:
        await node.publish("1")


async def test_without_the_extra_the_error_says_what_to_install() -> None:
    source = """
import sys
sys.modules["hiredis"] = None
import streamws.topics
assert "RedisBroker" in dir(streamws.topics)
try:
    streamws.topics.RedisBroker
except streamws.MissingExtra as error:
    print(error)
    assert isinstance(error, ImportError)
"""
    async with script(source) as program:
        assert await program.end() == 0, program.stderr
        assert program.stdout == "RedisBroker needs redis-py and hiredis: pip install 'streamws[redis]'\n"


# Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redis_server", [DATA], indirect=True)
async def test_restart_with_the_data_loses_nothing(redis_server: RedisServer, open_topics: OpenTopics) -> None:
    topics = await open_topics(RedisBroker(redis_server.url), limits=PATIENT)
    other = await open_topics(RedisBroker(redis_server.url))
    topic, elsewhere = (opened.topic("t", history=History()) for opened in (topics, other))
    async with following(topic) as follower:
        await published(topic, "1", "2")
        await follower.has("1", "2")
        before = follower.last
        redis_server.restart()
        await published(elsewhere, "3", "4")
        await follower.has("1", "2", "3", "4")
        assert follower.last is not None
        assert before is not None
        assert follower.last.offset == 4
        async with following(elsewhere, since=before) as another:
            await another.has("3", "4")
            assert another.recovered


async def test_restart_without_the_data_is_a_gap(redis_server: RedisServer, open_topics: OpenTopics) -> None:
    topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History())
    async with following(topic) as follower:
        await published(topic, "1", "2")
        await follower.has("1", "2")
        before = follower.last
        redis_server.restart()
        await until(lambda: follower.gaps)
        await published(topic, "3")
        await follower.has("1", "2", "gap", "3")
        assert follower.gaps == [Gap(before)] if before else False
        async with following(topic, since=before) as another:
            await another.has("gap", "3")
            assert not another.recovered


async def test_restart_with_older_data_is_a_gap_without_duplicates(
    redis_server: RedisServer, open_topics: OpenTopics
) -> None:
    topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History())
    async with following(topic) as follower:
        await published(topic, "1", "2")
        await follower.has("1", "2")
        second = follower.last
        assert b"OK" in redis_server.ask("SAVE")
        await published(topic, "3 lost", "4 lost")
        await follower.has("1", "2", "3 lost", "4 lost")
        fourth = follower.last
        for number in range(2):  # the second one forgets the first one, too
            redis_server.restart()
            await published(topic, f"new {number}", f"newer {number}", f"newest {number}")
            await until(lambda: follower.items[-1] == f"newest {number}")  # noqa: B023
        assert follower.items == [
            *("1", "2", "3 lost", "4 lost"),
            *("gap", "new 0", "newer 0", "newest 0"),
            *("gap", "new 1", "newer 1", "newest 1"),
        ]
        for since, recovered in ((second, True), (fourth, False), (follower.gaps[1].since, False)):
            async with following(topic, since=since) as another:
                await until(lambda: another.items[-1:] == ["newest 1"])
                assert another.items == [*["gap"] * (not recovered), "new 1", "newer 1", "newest 1"]
                assert another.recovered is recovered


async def test_older_data_after_all_has_been_deleted_are_a_gap_without_duplicates(
    redis_server: RedisServer, open_topics: OpenTopics
) -> None:
    topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History())
    async with following(topic) as follower:
        await published(topic, "1", "2")
        assert b"OK" in redis_server.ask("SAVE")
        assert b"OK" in redis_server.ask("FLUSHALL")
        await published(topic, "3")
        await follower.has("1", "2", "gap", "3")
        redis_server.restart()
        await published(topic, "4")
        await follower.has("1", "2", "gap", "3", "gap", "4")


async def test_server_that_hangs(redis_server: RedisServer, open_topics: OpenTopics) -> None:
    topics = await open_topics(RedisBroker(redis_server.url, timeout=0.1))
    topic = topics.topic("t", history=History())
    async with following(topic) as follower:
        await published(topic, "1")
        redis_server.signal(signal.SIGSTOP)
        with pytest.raises(PublishTimeout):
            await topic.publish("2", timeout=0.01, idempotency="2")
        with pytest.raises(BrokerError, match=r"no sign of life for 0\.1 s"):
            await topic.publish("2", idempotency="2")
        with pytest.raises(BrokerUnavailable, match="not available"):
            await topic.publish("2", idempotency="2")
        redis_server.signal(signal.SIGCONT)
        await published(topic, "2", "3")
        await follower.has("1", "2", "3")


async def test_subscriber_that_is_thrown_out_misses_nothing(redis_server: RedisServer, open_topics: OpenTopics) -> None:
    topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History())
    without = topics.topic("without history")
    async with following(topic) as follower, following(without) as other:
        await published(topic, "1")
        await published(without, "1")
        await follower.has("1")
        await other.has("1")
        assert b":1" in redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await published(topic, "2", "3")
        await published(without, "2")
        await follower.has("1", "2", "3")
        # Without a history, what was published before the subscription was renewed is lost.
        await until(lambda: other.gaps)
        await published(without, "3")
        await other.has("1", "gap", "3")


async def test_subscriber_whose_output_buffer_is_full_misses_nothing(
    redis_server: RedisServer, open_topics: OpenTopics
) -> None:
    assert b"OK" in redis_server.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 200kb 0 0")
    topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History(size=100, max_bytes=10_000_000))
    async with following(topic) as follower:
        for _ in range(40):
            assert topic.publish_soon("x" * 20_000)
        await until(lambda: len(follower.items) == 40)
        await published(topic, "end")
        await until(lambda: follower.items[-1] == "end")
        assert not follower.gaps
        assert b"omem" in redis_server.ask("CLIENT", "LIST")
        assert b"client-output-buffer-limit" in redis_server.ask("CONFIG", "GET", "client-output-buffer-limit")


async def test_order_of_publish_soon_is_kept_while_the_server_is_away(
    redis_server: RedisServer, open_topics: OpenTopics
) -> None:
    topics = await open_topics(RedisBroker(redis_server.url), limits=PATIENT)
    topic = topics.topic("t", history=History(size=1000))
    redis_server.kill()
    await unavailable(topic.read_history)
    for number in range(600):
        assert topic.publish_soon(str(number))
    await asyncio.sleep(0.02)
    redis_server.start()
    await until(lambda: topics._core.publisher.waiting == 0)
    page = await topic.read_history()
    assert [publication.data for publication in page.publications] == [str(number) for number in range(600)]
    assert topics.failed == 0


async def test_failover_by_sentinel(tmp_path: Path, open_topics: OpenTopics) -> None:
    with ExitStack() as stack:

        def started(server: RedisServer) -> RedisServer:
            server.start()
            stack.callback(server.kill)
            return server

        folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
        for folder in folders:
            folder.mkdir()
        master = started(RedisServer(folders[0], "--repl-diskless-sync-delay", "0"))
        replica = started(RedisServer(folders[1], "--replicaof", "127.0.0.1", str(master.port)))
        # A Sentinel asks the master for its replicas every ten seconds only, and at the start.
        await until(lambda: b"connected_slaves:1" in master.ask("INFO", "replication"))
        sentinel = started(Sentinel(folders[2], master))
        await until(lambda: b"slaves=1" in sentinel.ask("INFO", "sentinel"))
        nobody = f"redis://127.0.0.1:{free_port()}"
        broker = RedisBroker("redis://mymaster/0", sentinels=[nobody, sentinel.url])
        assert repr(broker) == "<RedisBroker at mymaster (by Sentinel)>"
        topics = await open_topics(broker)
        topic = topics.topic("t", history=History())
        async with following(topic) as follower:
            await published(topic, "1", "2")
            await follower.has("1", "2")
            await until(lambda: b":2" in replica.ask("XLEN", "{streamws:t}:stream"))
            master.kill()
            await available(partial(topic.publish, "3", idempotency="3"), patience=40)
            await follower.has("1", "2", "3")
            assert b":3" in replica.ask("XLEN", "{streamws:t}:stream")


async def test_server_that_becomes_a_replica_is_not_available(
    redis_server: RedisServer, open_topics: OpenTopics
) -> None:
    topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History())
    async with following(topic) as follower:
        await published(topic, "1")
        assert b"OK" in redis_server.ask("REPLICAOF", "127.0.0.1", str(free_port()))
        with pytest.raises(BrokerUnavailable, match="READONLY"):
            await topic.publish("2")
        with pytest.raises(BrokerUnavailable, match="not available: the server is a replica now"):
            await topic.publish("2")
        assert b"OK" in redis_server.ask("REPLICAOF", "NO", "ONE")
        await published(topic, "3")
        await follower.has("1", "3")


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_both_connections_go_to_the_same_server(
    redis_server: RedisServer, tmp_path: Path, open_topics: OpenTopics, kind: str
) -> None:
    (tmp_path / "new").mkdir()
    new = RedisServer(tmp_path / "new")
    new.start()
    try:
        broker = RedisBroker(redis_server.url)
        topics = await open_topics(broker)
        topic = topics.topic("t", history=History())
        async with following(topic) as follower:
            await published(topic, "1")
            await follower.has("1")
            # The address is that of a new server. The old one is still there, and loses only one of the connections.
            broker._addresses[0]._port = new.port
            assert b":1" in redis_server.ask("CLIENT", "KILL", "TYPE", kind)
            await until(lambda: int(new.ask("PUBSUB", "NUMSUB", "{streamws:t}").split(b":")[-1]))
            await available(partial(topic.publish, "2"))
            await until(lambda: follower.items[-1] == "2")
            assert follower.items == ["1", "gap", "2"]
    finally:
        new.kill()


async def test_sentinels_that_do_not_know_the_master(redis_server: RedisServer, open_topics: OpenTopics) -> None:
    with pytest.raises(ValueError, match="with sentinels, the host of the URL must be the name of the master"):
        RedisBroker("unix:///run/redis.sock", sentinels=["redis://localhost:26379"])
    nobody = f"redis://127.0.0.1:{free_port()}"
    topics = await open_topics(RedisBroker("redis://mymaster", sentinels=[nobody, redis_server.url]))
    with pytest.raises(
        BrokerUnavailable, match=r"no Sentinel has the address of the master: .*Refused.*unknown command"
    ):
        await topics.topic("t").publish("1")


async def test_full_memory(redis_server: RedisServer) -> None:
    async with Node(RedisBroker(redis_server.url)) as node:
        await node.broker.subscribe("t")
        await node.broker.enter("t", "c1", "ann", "")
        await node.publish("1")
        redis_server.ask("CONFIG", "SET", "maxmemory", "1")  # and nothing may be evicted
        with pytest.raises(BrokerUnavailable, match="Redis is not available: OOM"):
            await node.publish("2")
        with pytest.raises(BrokerUnavailable, match="OOM"):
            await node.broker.enter("t", "c2", "bob", "")
        # What followers need works.
        assert [record.payload for record in (await node.read()).records] == ["1"]
        await node.broker._presence.look_after()  # type: ignore[attr-defined]
        await node.broker.exit("t", "c1")
        assert await node.broker.connections("t") == {}
        redis_server.ask("CONFIG", "SET", "maxmemory", "0")
        await node.publish("3")
        await node.receive(2)
        assert (node.receiver.payloads, node.receiver.offsets) == (["1", "3"], [1, 2])


async def test_server_that_has_lost_its_replicas_is_looked_up_again(
    redis_server: RedisServer, open_topics: OpenTopics
) -> None:
    topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History())
    async with following(topic) as follower:
        await published(topic, "1")
        redis_server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        with pytest.raises(BrokerUnavailable, match="NOREPLICAS"):
            await topic.publish("2")
        with pytest.raises(BrokerUnavailable, match="not available: the server has lost its replicas"):
            await topic.publish("2")
        redis_server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        await published(topic, "3")
        await follower.has("1", "3")


async def test_flushed_scripts_are_loaded_again(redis_server: RedisServer) -> None:
    async with Node(RedisBroker(redis_server.url)) as node:
        await node.broker.subscribe("t")
        for number in range(3):
            assert b"OK" in redis_server.ask("SCRIPT", "FLUSH")
            if number == 0:
                await node.publish("0")
            elif number == 1:
                assert len((await node.read()).records) == 1
            else:
                batch = [Outgoing("t", str(place), None, None, HISTORY) for place in range(1, 6)]
                assert len(await node.broker.publish(batch)) == 5
        await node.receive(6)
        assert node.receiver.payloads == ["0", "1", "2", "3", "4", "5"]


async def test_publications_of_one_loop_iteration_leave_in_one_write(make_broker: MakeBroker) -> None:
    async with Node(make_broker()) as node:
        link = node.broker._servers.server("").link()  # type: ignore[attr-defined]
        writes: list[bytes] = []
        transport, link._transport = (
            link._transport,
            type("", (), {"write": writes.append, "is_closing": lambda: False}),
        )
        tasks = [asyncio.create_task(node.publish(str(number))) for number in range(10)]
        await until(lambda: writes)
        assert len(writes) == 1
        link._transport = transport
        transport.write(writes[0])
        await asyncio.gather(*tasks)
        assert [record.payload for record in (await node.read()).records] == ["5", "6", "7", "8", "9"]


async def test_many_topics_are_subscribed_again(redis_server: RedisServer) -> None:
    async with Node(RedisBroker(redis_server.url)) as node:
        await asyncio.gather(*(node.broker.subscribe(f"t{number}") for number in range(1100)))
        await asyncio.gather(*(node.broker.unsubscribe(f"t{number}") for number in range(50)))
        lost: list[str] = []
        node.receiver.lost = lost.extend  # type: ignore[assignment]
        assert b":1" in redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: len(lost) == 1050)
        assert sorted(lost) == sorted(f"t{number}" for number in range(50, 1100))
        for number in (0, 49, 50, 1099):
            await node.publish("1", topic=f"t{number}")
        await node.receive(2)
        assert node.receiver.topics == ["t50", "t1099"]


async def test_server_that_refuses_to_end_a_subscription(redis_server: RedisServer) -> None:
    assert b"OK" in redis_server.ask("CONFIG", "SET", "busy-reply-threshold", "1")
    async with Node(RedisBroker(redis_server.url)) as node:
        await node.broker.subscribe("one")
        script = asyncio.create_task(asyncio.to_thread(redis_server.ask, "EVAL", "while true do end", "0"))
        await until(lambda: b"BUSY" in redis_server.ask("PING"))
        await node.broker.unsubscribe("one")  # its connection is renewed
        assert b"OK" in redis_server.ask("SCRIPT", "KILL")
        await script
        while not node.receiver.topics:
            with suppress(BrokerError):  # until there are connections again
                await node.broker.subscribe("two")
                await node.publish("1", topic="one")
                await node.publish("2", topic="two")
            await asyncio.sleep(0.01)
        assert "one" not in node.receiver.topics


async def test_subscription_has_ended_if_the_connection_is_lost(redis_server: RedisServer) -> None:
    async with Node(RedisBroker(redis_server.url)) as node:
        await node.broker.subscribe("t")
        redis_server.signal(signal.SIGSTOP)
        task = asyncio.create_task(node.broker.unsubscribe("t"))
        await iterations()
        redis_server.restart()
        await task
        await available(lambda: node.broker.subscribe("another"))
        assert b":0" in redis_server.ask("PUBSUB", "NUMSUB", "{streamws:t}")


async def test_topics_are_told_of_a_loss_when_histories_can_be_read_again(redis_server: RedisServer) -> None:
    broker = RedisBroker(redis_server.url)
    async with Node(broker) as node:
        await broker.subscribe("t")
        allowed = asyncio.Event()
        keeper = broker._servers.server("")._keeper
        connect = keeper._connect

        async def connect_later() -> Link:
            await allowed.wait()
            return await connect()

        keeper._connect = connect_later
        redis_server.ask("CLIENT", "KILL", "TYPE", "normal")
        redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await unavailable(lambda: broker.subscribe("another"))
        await available(lambda: broker.subscribe("another"))  # after the subscription has been renewed
        assert node.receiver.losses == 0
        allowed.set()
        await until(lambda: node.receiver.losses == 1)
        assert await node.read() is not None


async def test_history_is_bounded_in_bytes(make_broker: MakeBroker) -> None:
    async with Node(make_broker()) as node:
        small = History(size=100, max_bytes=1000)
        for number in range(10):
            await node.publish(str(number) * 100, history=small)
        page = await node.read(history=small)
        assert [str(record.payload)[0] for record in page.records] == ["4", "5", "6", "7", "8", "9"]  # 164 bytes each
        await node.publish("x" * 2000, history=small)
        assert not (await node.read(history=small)).records


async def test_publication_that_cannot_be_encoded_fails_alone(make_broker: MakeBroker) -> None:
    async with Node(make_broker()) as node:
        batch = [Outgoing("t", payload, None, None, HISTORY) for payload in ("1", "\ud800", "2")]
        results = await node.broker.publish(batch)
        assert [isinstance(result, BrokerError) for result in results] == [False, True, False]
        assert [record.payload for record in (await node.read()).records] == ["1", "2"]


async def test_other_messages_in_a_channel_are_logged_and_ignored(
    shared_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = next(prefixes)
    async with Node(RedisBroker(shared_server.url, prefix=prefix)) as node:
        await node.broker.subscribe("t")
        for wrong in ("", "x", "j", "j[1]", "l5", "t" * 36):
            shared_server.ask("PUBLISH", f"{{{prefix}:t}}", wrong)
        await node.publish("1")
        await node.receive(1)
        assert node.receiver.payloads == ["1"]
        assert node.receiver.events == []
    assert [record.message.partition(":")[0] for record in caplog.records] == ["topic 't'"] * 6


# Presence --------------------------------------------------------------------------------------------------------


async def die(broker: RedisBroker) -> str:
    """End a broker as the death of its process would: it tells nobody. Return the name of the process in Redis."""
    process, task = broker._presence._process, broker._presence._task
    assert task is not None
    task.cancel()
    await broker._end()
    return process


def let_time_pass(server: RedisServer, prefix: str, process: str) -> None:
    """Let the last heartbeat of a process be long ago."""
    server.ask("ZADD", f"{{{prefix}}}:processes", "1", process)


async def test_connections_of_a_process_that_dies_leave_once(shared_server: RedisServer) -> None:
    prefix = next(prefixes)
    brokers = [RedisBroker(shared_server.url, prefix=prefix) for _ in range(2)]
    async with Node(brokers[0]) as one, Node(brokers[1]) as two:
        dying = RedisBroker(shared_server.url, prefix=prefix)
        await dying.open(Collector())
        for broker in brokers:
            await broker.subscribe("t")
        for number in range(3):
            await dying.enter("t", f"c{number}", "ann", "")
        await one.broker.enter("t", "stays", "bob", "")
        dead = await die(dying)
        await one.broker._presence.look_after()  # type: ignore[attr-defined]
        assert len(await one.broker.connections("t")) == 4
        let_time_pass(shared_server, prefix, dead)
        await asyncio.gather(*(broker._presence.look_after() for broker in brokers * 2))
        assert [*await one.broker.connections("t")] == ["stays"]
        await one.publish("end")
        for node in (one, two):
            await node.receive(1)
            assert [event.kind for event in node.receiver.events] == ["join"] * 4 + ["leave"] * 3
            assert [event.changed for event in node.receiver.events[-3:]] == [False, False, True]


async def test_members_that_no_process_has_leave_when_somebody_asks_who_is_present(shared_server: RedisServer) -> None:
    prefix = next(prefixes)
    brokers = [RedisBroker(shared_server.url, prefix=prefix) for _ in range(2)]
    async with Node(brokers[0]) as one, Node(brokers[1]) as two:
        await one.broker.subscribe("t")
        await one.broker.enter("t", "c1", "ann", "")
        await two.broker.enter("t", "c2", "ann", "")
        # Redis has the members, and lacks the entries: of a process that does not exist any more, and of both nodes.
        for number, process in enumerate(["dead", *(broker._presence._process for broker in brokers)], 3):
            member = f'[{number}, "{process}", "user {number}", "data"]'
            shared_server.ask("HSET", f"{{{prefix}:t}}:members", f"c{number}", member)
            shared_server.ask("HINCRBY", f"{{{prefix}:t}}:users", f"user {number}", "1")
        assert [*await one.broker.connections("t")] == ["c1", "c2", "c5"]
        assert [*await two.broker.connections("t")] == ["c1", "c2"]
        await one.publish("end")
        await one.receive(1)
        assert [(event.kind, event.connection, event.user, event.changed) for event in one.receiver.events] == [
            ("join", "c1", "ann", True),
            ("join", "c2", "ann", False),
            ("leave", "c3", "user 3", True),
            ("leave", "c4", "user 4", True),
            ("leave", "c5", "user 5", True),
        ]


async def test_connection_that_enters_again_while_ghosts_leave_stays(
    shared_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = next(prefixes)
    broker = RedisBroker(shared_server.url, prefix=prefix)
    async with Node(broker) as node:
        member = f'[1, "{broker._presence._process}", "ann", "data"]'
        shared_server.ask("HSET", f"{{{prefix}:t}}:members", "c1", member)
        partition = broker._presence._partition("t")
        find_ghosts = partition._ghosts

        async def enter_then(topic: str, found: Mapping[str, Member]) -> dict[str, list[tuple[str, str]]]:
            ghosts = await find_ghosts(topic, found)
            await node.broker.enter("t", "c1", "ann", "data")
            return ghosts

        monkeypatch.setattr(partition, "_ghosts", enter_then)
        assert [*await node.broker.connections("t")] == ["c1"]
        monkeypatch.undo()
        assert [*await node.broker.connections("t")] == ["c1"]


async def test_heartbeat_stops_with_the_process(shared_server: RedisServer) -> None:
    prefix = next(prefixes)
    dying, other = (RedisBroker(shared_server.url, prefix=prefix, presence_timeout=0.05) for _ in range(2))
    async with Node(other) as node:
        await dying.open(Collector())
        await node.broker.subscribe("t")
        await dying.enter("t", "c1", "ann", "")
        await die(dying)
        await until(lambda: [event.kind for event in node.receiver.events][-1:] == ["leave"])


async def test_process_that_was_taken_for_dead_is_present_again(shared_server: RedisServer) -> None:
    prefix = next(prefixes)
    late, other = (RedisBroker(shared_server.url, prefix=prefix) for _ in range(2))
    async with Node(late) as node, Node(other):
        await node.broker.subscribe("t")
        await node.broker.enter("t", "c1", "ann", "")
        let_time_pass(shared_server, prefix, late._presence._process)
        late._presence._partitions[0]._expires = 0
        await other._presence.look_after()
        assert await other.connections("t") == {}
        await late._presence.look_after()
        assert [*await other.connections("t")] == ["c1"]
        await until(lambda: len(node.receiver.events) == 3)
        assert [event.kind for event in node.receiver.events] == ["join", "leave", "join"]


async def test_process_that_was_taken_for_dead_is_present_again_if_the_other_one_was_interrupted(
    shared_server: RedisServer,
) -> None:
    prefix = next(prefixes)
    late, other = (RedisBroker(shared_server.url, prefix=prefix) for _ in range(2))
    async with Node(late) as node, Node(other):
        await node.broker.enter("t", "c1", "ann", "")
        late_process = late._presence._process
        let_time_pass(shared_server, prefix, late_process)
        part = other._presence._partitions[0]
        exit_ = part._scripts.exit
        await part._servers.run(exit_, part._hashes("t"), part._keys.channel("t"), "c1", late_process)
        assert await other.connections("t") == {}
        # The other one ends before it has noted that, so that Redis seems to know all connections.
        await late._presence.look_after()
        assert [*await other.connections("t")] == ["c1"]


@pytest.mark.parametrize("redis_server", [DATA], indirect=True)
async def test_full_memory_after_a_restart(redis_server: RedisServer) -> None:
    async with Node(RedisBroker(redis_server.url)) as node:
        await node.publish("1")
        await node.broker.enter("t", "c1", "ann", "")
        redis_server.restart("--maxmemory", "1")
        page = await available(node.read)  # connections cannot be restored, but histories can be read
        assert [record.payload for record in page.records] == ["1"]
        redis_server.ask("CONFIG", "SET", "maxmemory", "0")
        await node.broker._presence.look_after()  # type: ignore[attr-defined]
        assert [*await node.broker.connections("t")] == ["c1"]


@pytest.mark.parametrize("restart", [True, False], ids=["restart", "flush"])
async def test_presence_is_restored_after_the_server_has_lost_it(redis_server: RedisServer, restart: bool) -> None:
    brokers = [RedisBroker(redis_server.url) for _ in range(2)]
    async with Node(brokers[0]) as one, Node(brokers[1]) as two:
        await one.broker.subscribe("t")
        await one.broker.enter("t", "c1", "ann", "busy")
        await two.broker.enter("t", "c2", "bob", "")
        await until(lambda: len(one.receiver.events) == 2)
        if restart:
            redis_server.restart()
        else:
            redis_server.ask("FLUSHALL")
        for broker in brokers:
            await available(broker._presence.look_after)
        assert sorted(await one.broker.connections("t")) == ["c1", "c2"]
        await available(lambda: one.broker.subscribe("another"))  # the subscriptions work again, too
        await two.broker.exit("t", "c2")
        await until(lambda: one.receiver.events[-1].kind == "leave")
        assert [*await one.broker.connections("t")] == ["c1"]


async def test_followers_are_told_once_of_each_member_whatever_happens(
    redis_server: RedisServer, open_topics: OpenTopics, channel: Channel
) -> None:
    topics, other = [await open_topics(RedisBroker(redis_server.url)) for _ in range(2)]
    topic, elsewhere = topics.topic("t"), other.topic("t")
    await topic.join(channel, presence_frame=lambda event: f"{event.kind} {event.user}")
    gone = Channel()
    await topic.presence.enter(channel, "ann")
    await elsewhere.presence.enter(gone, "bob")
    await until(lambda: channel.sent == ["join ann", "join bob"])
    redis_server.ask("FLUSHALL")
    for broker in (topics._core.broker, other._core.broker):
        await broker._presence.look_after()  # type: ignore[attr-defined]
    redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await elsewhere.presence.leave(gone)  # it may be told, or be found out
    await until(lambda: "leave bob" in channel.sent)
    await topic.publish("end")
    await until(lambda: channel.sent[-1] == "end")
    assert channel.sent == ["join ann", "join bob", "leave bob", "end"]


async def test_connection_that_left_while_the_server_was_away_is_gone(tmp_path: Path, open_topics: OpenTopics) -> None:
    server = RedisServer(tmp_path, *DATA)
    server.start()
    try:
        async with Node(RedisBroker(server.url)) as node:
            for name in ("c1", "c2"):
                await node.broker.enter("t", name, "ann", "")
            server.kill()
            await unavailable(lambda: node.broker.exit("t", "c1"))
            with pytest.raises(BrokerUnavailable):
                await node.broker.enter("t", "c3", "eve", "")
            server.start()
            await available(lambda: node.broker.exit("t", "c1"))
            assert [*await node.broker.connections("t")] == ["c2"]
    finally:
        server.kill()


async def test_topics_find_out_that_all_has_been_deleted(redis_server: RedisServer, open_topics: OpenTopics) -> None:
    topics: Topics = await open_topics(RedisBroker(redis_server.url))
    topic = topics.topic("t", history=History())
    async with following(topic) as follower:
        await published(topic, "1")
        await follower.has("1")
        redis_server.ask("FLUSHALL")
        await published(topic, "2")
        await follower.has("1", "gap", "2")


async def test_followers_learn_that_all_has_been_deleted_though_nothing_is_published(
    redis_server: RedisServer, open_topics: OpenTopics, channel: Channel
) -> None:
    topics, other = [await open_topics(RedisBroker(redis_server.url)) for _ in range(2)]
    topic, elsewhere = topics.topic("t", history=History()), other.topic("t", history=History())
    await topic.join(channel, presence_frame=lambda event: f"{event.kind} {event.user}")
    gone = Channel()
    await elsewhere.presence.enter(gone, "ann")
    async with following(topic) as follower:
        await published(topic, "1")
        await until(lambda: channel.sent == ["join ann", "1"])
        redis_server.ask("FLUSHALL")
        await elsewhere.presence.leave(gone)  # Redis does not know of it any more
        await topics._core.broker._presence.look_after()  # type: ignore[attr-defined]
        await follower.has("1", "gap")
        await until(lambda: channel.sent == ["join ann", "1", "leave ann"])


async def test_each_loss_and_return_is_logged_once(
    redis_server: RedisServer, open_topics: OpenTopics, channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    topics = await open_topics(RedisBroker(redis_server.url), limits=PATIENT)
    all_topics = [topics.topic(f"t{number}", history=History()) for number in range(20)]
    for topic in all_topics:
        await topic.join(channel, presence_frame=lambda event: event.kind)
        await topic.presence.enter(channel, "ann")
    caplog.set_level(logging.INFO, "streamws.topics")
    redis_server.kill()
    await unavailable(all_topics[0].read_history)
    for topic in all_topics:
        await topic.presence.leave(channel)  # as soon as Redis is there again
    redis_server.start()
    await published(all_topics[0], "1")
    await until(lambda: "1" in channel.sent)
    await until(lambda: len(caplog.records) == 4)
    place = f"Redis at 127.0.0.1:{redis_server.port} for"
    for purpose in ("publications", "subscriptions"):
        lost, connected = [record.message for record in caplog.records if f"{place} {purpose}" in record.message]
        assert lost.startswith("lost the connection")
        assert connected.startswith("connected")


async def test_login_that_a_new_server_refuses_is_logged_once(
    redis_server: RedisServer, open_topics: OpenTopics, caplog: pytest.LogCaptureFixture
) -> None:
    allow_ann = ("ACL", "SETUSER", "ann", "on", ">secret", "~*", "&*", "+@all")
    redis_server.ask(*allow_ann)
    topics = await open_topics(RedisBroker(f"redis://ann:secret@127.0.0.1:{redis_server.port}"), limits=PATIENT)
    topic = topics.topic("t")
    caplog.set_level(logging.INFO, "streamws.topics")
    redis_server.restart()  # without its users
    await until(lambda: caplog.text.count("cannot connect") == 2)
    for purpose in ("publications", "subscriptions"):
        assert f"Redis at 127.0.0.1:{redis_server.port} for {purpose}: WRONGPASS" in caplog.text
    with pytest.raises(BrokerUnavailable, match="is not available: WRONGPASS"):
        await topic.publish("1")
    redis_server.ask(*allow_ann)
    await published(topic, "2")
    await until(lambda: caplog.text.count("connected to Redis") == 2)
    assert caplog.text.count("WRONGPASS") == 2
