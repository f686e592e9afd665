"""A chat service: rooms, users with tokens, and typed messages in JSON. It prints links to its page for two users.

    pip install 'streamws[routing,msgspec]'
    python docs/examples/chat_service.py localhost 8765

If REDIS_URL is set, several processes share the rooms. This needs 'streamws[redis]', too.
"""

import asyncio
import hmac
import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from streamws import BrokerError, Client, Key, Limits, Request, Response, Router, WebSocketServer, topics
from streamws.messages import Json
from streamws.topics import Gap, History, MemoryBroker, Position, PresenceEvent, Publication, Topics

PAGE = Path(__file__).with_suffix(".html").read_text()
HISTORY = History(size=100, seconds=3600)
USER: Key[str] = Key("user")
EXPIRES: Key[float] = Key("when the token expires")


class Say(Struct, tag="say"):
    """From a client: say something in the room."""

    text: str


class Said(Struct, tag="said"):
    """To everyone in a room. A client that comes back sends the last position in its query."""

    user: str
    text: str
    position: Position


class Here(Struct, tag="here"):
    """To a client that has joined: who is in the room."""

    users: list[str]


class Member(Struct, tag="member"):
    """To everyone in a room: a user has come or gone."""

    user: str
    here: bool


class Missing(Struct, tag="missing"):
    """To a client: messages after this position are lost."""

    after: Position


class Line(Struct):
    """What is published in the topic of a room."""

    user: str
    text: str


FROM_CLIENTS = Json(Say)
TO_CLIENTS = Json(Said | Here | Member | Missing)


def show(publication: Publication[Line]) -> str:
    """Make the message for the clients in a room."""
    line = publication.data
    return TO_CLIENTS.encode(Said(line.user, line.text, publication.position)).decode()


def show_presence(event: PresenceEvent) -> str:
    """Make the message about a user who comes or goes. A user who closes one of two tabs is still here."""
    here = event.kind == "join" or not event.changed
    return TO_CLIENTS.encode(Member(event.user, here)).decode()


async def tell_gap(client: Client, gap: Gap) -> None:
    """Tell a client that messages are lost."""
    await client.send(TO_CLIENTS.encode(Missing(gap.since)), text=True)


class Chat:
    """The rooms, and their clients."""

    def __init__(self, host: str, port: int, secret: bytes, redis_url: str | None = None) -> None:
        self.topics = Topics(topics.RedisBroker(redis_url, prefix="chat") if redis_url else MemoryBroker())
        router = Router()
        router.route("/rooms/<string(maxlength=100):room>")(self.serve)
        limits = Limits(max_message_size=4096)
        self.server: WebSocketServer = WebSocketServer(host, port, handler=router, limits=limits, lifespan=self.run)
        self.server.request(self.authenticate)
        self._secret = secret

    @asynccontextmanager
    async def run(self, server: WebSocketServer) -> AsyncGenerator[None, None]:
        """Keep the topics open as long as the server runs."""
        async with self.topics:
            yield

    def token(self, user: str, seconds: float = 3600) -> str:
        """Return a token for a user. A web application does this after a login."""
        claim = f"{user}.{time.time() + seconds:.0f}"  # without a dot in the number
        return f"{claim}.{hmac.digest(self._secret, claim.encode(), 'sha256').hex()}"

    async def authenticate(self, request: Request) -> Response | None:
        """Serve the page, and let in those who have a valid token."""
        if request.path == "/":
            return Response(200, PAGE, content_type="text/html; charset=utf-8")
        claim, _, signature = request.query.get("token", "").rpartition(".")
        expected = hmac.digest(self._secret, claim.encode(), "sha256").hex()
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            return Response(401, "no valid token\n")
        user, _, expires = claim.rpartition(".")
        if float(expires) < time.time():
            return Response(401, "the token has expired\n")
        request[USER], request[EXPIRES] = user, float(expires)
        return None

    async def serve(self, client: Client, room: str) -> None:
        """Serve a client until it leaves, or until its token expires."""
        try:
            async with asyncio.timeout(client[EXPIRES] - time.time()):
                await self._talk(client, room)
        except BrokerError:
            await client.close(1013, "try again later")
        except TimeoutError:
            await client.close(4401, "the token has expired")

    async def _talk(self, client: Client, name: str) -> None:
        query = client.request.query
        since = Position(query["epoch"], int(query["offset"])) if "epoch" in query else None
        room = self.topics.topic(f"room:{name}", Json(Line), history=HISTORY)
        joined = await room.join(client, since=since, frame=show, presence_frame=show_presence, on_gap=tell_gap)
        if since is not None and not joined.recovered:
            await tell_gap(client, Gap(since))
        await room.presence.enter(client, client[USER])
        await client.send(TO_CLIENTS.encode(Here(sorted(await room.presence.members()))), text=True)
        async for message in client.typed(FROM_CLIENTS):  # a message that is not valid closes the connection
            await room.publish(Line(client[USER], message.text))


if __name__ == "__main__":
    address = sys.argv[1:3]
    chat = Chat(sys.argv[1], int(sys.argv[2]), b"from your configuration", os.environ.get("REDIS_URL"))
    for name in ("Ann", "Bob"):
        print(f"http://{':'.join(address)}/#{chat.token(name)}", flush=True)
    chat.server.run(drain=5)
