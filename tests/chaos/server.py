"""One server process of the run: `python -m chaos.server PORT URL...`. Clients follow, publish, and are present."""

import argparse
import asyncio
import gc
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psutil
import uvloop

from chaos import arrangement
from streamws import BrokerError, Client, ConnectionClosed, LimitExceeded, Limits, Timeouts, WebSocketServer
from streamws.topics import (
    Gap,
    Joined,
    Position,
    PresenceEvent,
    Publication,
    RedisBroker,
    Subscription,
    Topic,
    TopicLimits,
    Topics,
)

LIMITS = TopicLimits(
    max_held=arrangement.HELD,
    publish_timeout=arrangement.CALL_TIMEOUT,
    broker_timeout=arrangement.CALL_TIMEOUT,
    close_timeout=arrangement.CALL_TIMEOUT,
)

Text = str | bytes


def show(publication: Publication[Text]) -> str:
    return json.dumps({"payload": publication.payload, "at": publication.position, "key": publication.key})


def show_joined(joined: Joined) -> str:
    return json.dumps({"joined": joined.position, "recovered": joined.recovered})


def show_gap(gap: Gap) -> str:
    return json.dumps({"gap": gap.since})


def show_event(event: PresenceEvent) -> str:
    return json.dumps({"event": event.kind, "connection": event.connection, "user": event.user})


def tell_gap(client: Client, gap: Gap) -> Awaitable[None]:
    return client.send(show_gap(gap))  # sent at this call, before later publications


def fill_soon(client: Client) -> None:
    """Let the system keep little for the connection, so that a slow client soon has a backlog."""
    sock = client.get_extra_info("socket")
    assert sock is not None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)


class Process:
    """The topics of one process, and what its clients do with them."""

    def __init__(self, port: int, urls: Sequence[str], cluster: bool) -> None:
        self.topics = Topics(
            RedisBroker(
                urls,
                cluster=cluster,
                timeout=arrangement.REDIS_TIMEOUT,
                presence_timeout=arrangement.PRESENCE_TIMEOUT,
            ),
            limits=LIMITS,
            on_error=lambda topic, error: None,
        )
        # A slow client soon has a backlog in the topic.
        limits = Limits(write_high=8192, write_low=2048)
        timeouts = Timeouts(close=2)
        self.server = WebSocketServer(
            "127.0.0.1", port, handler=self.handle, lifespan=self.lifespan, limits=limits, timeouts=timeouts
        )
        self.own: set[Topic[Text]] = set()

    @asynccontextmanager
    async def lifespan(self, server: WebSocketServer) -> AsyncIterator[None]:
        async with self.topics:
            yield

    async def serve(self) -> None:
        """Serve until SIGTERM."""
        async with self.server:
            await self.server.serve_forever(signals=(signal.SIGTERM,), drain=1.0)

    def topic(self, name: str) -> Topic[Text]:
        return self.topics.topic(name, history=arrangement.TOPICS[name])

    async def handle(self, client: Client) -> None:
        kinds = {
            "/join": self.join,
            "/feed": self.feed,
            "/publish": self.publish,
            "/member": self.member,
            "/ask": self.ask,
        }
        try:
            await kinds[client.request.path](client, dict(client.request.query))
        except ConnectionClosed:
            pass
        except LimitExceeded:
            await client.close(1013, "too slow")
        except BrokerError as error:
            await client.close(1013, str(error)[:100])

    # Followers -------------------------------------------------------------------------------------------------

    async def join(self, client: Client, query: dict[str, str]) -> None:
        """Send the publications of a topic; with `presence`, also who comes and leaves."""
        fill_soon(client)
        topic = self.topic(query["topic"])
        presence = "presence" in query
        sent: list[Awaitable[None]] = []

        def replay(joined: Joined, publications: Sequence[Publication[Text]]) -> None:
            sent.append(client.send(show_joined(joined)))
            sent.extend(client.send(show(publication)) for publication in publications)

        joined = await topic.join(
            client,
            since=_since(query),
            slow=query["slow"],  # type: ignore[arg-type]  # one of the policies
            backlog=arrangement.BACKLOG,
            frame=show,
            on_gap=tell_gap,
            presence_frame=show_event if presence else None,
            on_joined=replay if "replay" in query else None,
        )
        if sent:
            await asyncio.gather(*sent, return_exceptions=True)
        else:
            await client.send(show_joined(joined))
        if presence:
            await client.send(json.dumps({"present": [*await topic.presence.connections()]}))
        await client.wait_closed()

    async def feed(self, client: Client, query: dict[str, str]) -> None:
        """Pass on what a subscription of the program gets, as fast as the client reads."""
        fill_soon(client)
        topic = self.topic(query["topic"])
        slow: Any = query["slow"]
        async with topic.subscribe(since=_since(query), slow=slow, backlog=arrangement.BACKLOG) as feed:
            await client.send(show_joined(feed.joined))
            passing = asyncio.create_task(_pass_on(feed, client))
            ended = asyncio.create_task(client.wait_closed())
            try:
                await asyncio.wait([passing, ended], return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended.cancel()
                passing.cancel()
                await asyncio.gather(passing, ended, return_exceptions=True)
            if not passing.cancelled():
                passing.result()

    # Publishers and members ------------------------------------------------------------------------------------

    async def publish(self, client: Client, query: dict[str, str]) -> None:
        async for request in client.text():
            wanted = json.loads(request)
            topic, name, key = self.topic(wanted["topic"]), wanted["name"], wanted["key"]
            answer: dict[str, Any] = {"name": name}
            if "soon" in wanted:
                answer["accepted"] = topic.publish_soon(wanted["payload"], key=key)
            else:
                try:
                    made = await topic.publish(wanted["payload"], key=key, idempotency=name)
                    answer |= {"at": made.position, "duplicate": made.duplicate}
                except BrokerError as error:
                    answer["error"] = str(error)
            await client.send(json.dumps(answer))

    async def member(self, client: Client, query: dict[str, str]) -> None:
        """Be present with an id, until a message arrives or the connection ends."""
        presence = self.topic(arrangement.PEOPLE).presence
        await presence.enter(client, query["user"], "data", connection=query["id"])
        await client.send("entered")
        async for _ in client:
            await presence.leave(client)

    # Questions of the run itself -------------------------------------------------------------------------------

    async def ask(self, client: Client, query: dict[str, str]) -> None:
        async for question in client.text():
            if question == "state":
                answer: dict[str, Any] = self.state()
            else:
                try:
                    present = await self.topic(arrangement.PEOPLE).presence.connections()
                    answer = {"present": sorted(present)}
                except BrokerError as error:
                    answer = {"error": str(error)}
            await client.send(json.dumps(answer))

    def state(self) -> dict[str, int]:
        """Return the sizes of all that could grow."""
        gc.collect()
        core = self.topics._core
        process = psutil.Process()
        return {
            "memory": process.memory_info().rss,
            "descriptors": process.num_fds(),
            "tasks": len(asyncio.all_tasks()),
            "clients": len(self.server.clients),
            "topics": len(core.audiences),
            "connections": len(core.outlets),
            "objects": len(gc.get_objects()),
        }


def _since(query: dict[str, str]) -> Position | None:
    return Position(query["epoch"], int(query["offset"])) if "epoch" in query else None


async def _pass_on(feed: Subscription[Text], client: Client) -> None:
    async for item in feed:
        await client.send(show_gap(item) if isinstance(item, Gap) else show(item))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    process = Process(options.port, options.urls, options.cluster)
    factory = uvloop.new_event_loop if options.loop == "uvloop" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(process.serve())


if __name__ == "__main__":
    main()
