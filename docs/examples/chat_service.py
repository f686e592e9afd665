"""A chat service: rooms, users with tokens, and typed messages in JSON. It prints links to its page for two users.

pip install 'streamws[routing,msgspec]'
python docs/examples/chat_service.py localhost 8765
"""

import asyncio
import hmac
import sys
import time
from collections import defaultdict
from pathlib import Path

from msgspec import Struct

from streamws import Client, Key, Limits, Request, Response, Router, WebSocketServer
from streamws.messages import Json

PAGE = Path(__file__).with_suffix(".html").read_text()
USER: Key[str] = Key("user")
EXPIRES: Key[float] = Key("when the token expires")


class Say(Struct, tag="say"):
    """From a client: say something in the room."""

    text: str


class Said(Struct, tag="said"):
    """To everyone in a room."""

    user: str
    text: str


class Here(Struct, tag="here"):
    """To everyone in a room, when someone joins or leaves."""

    users: list[str]


FROM_CLIENTS = Json(Say)
TO_CLIENTS = Json(Said | Here)


class Chat:
    """The rooms, and the clients in each room."""

    def __init__(self, host: str, port: int, secret: bytes) -> None:
        router = Router()
        router.route("/rooms/<room>")(self.serve)
        limits = Limits(max_message_size=4096, max_write_backlog=1 << 20)
        self.server = WebSocketServer(host, port, handler=router, limits=limits)
        self.server.request(self.authenticate)
        self.rooms: defaultdict[str, set[Client]] = defaultdict(set)
        self._secret = secret

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
        members = self.rooms[room]
        members.add(client)
        self._tell_who_is_here(members)
        try:
            async with asyncio.timeout(client[EXPIRES] - time.time()):
                async for message in client.typed(FROM_CLIENTS):  # a message that is not valid closes the connection
                    self._tell(members, Said(client[USER], message.text))
        except TimeoutError:
            await client.close(4401, "the token has expired")
        finally:
            members.discard(client)
            self._tell_who_is_here(members)
            if not members:
                self.rooms.pop(room, None)

    def _tell_who_is_here(self, members: set[Client]) -> None:
        self._tell(members, Here(sorted({client[USER] for client in members})))

    def _tell(self, members: set[Client], message: Said | Here) -> None:
        """Send without waiting. A client that reads too slowly is closed (`max_write_backlog`)."""
        self.server.broadcast(TO_CLIENTS.encode(message), to=members, text=True)


if __name__ == "__main__":
    address, chat = sys.argv[1:3], Chat(sys.argv[1], int(sys.argv[2]), secret=b"from your configuration")
    for name in ("Ann", "Bob"):
        print(f"http://{':'.join(address)}/#{chat.token(name)}", flush=True)
    chat.server.run()
