"""A chat service in FastAPI, with rooms and tokens. streamws serves its WebSockets. It prints URLs for two users.

pip install 'streamws[uvicorn]' fastapi
python docs/examples/fastapi_chat.py localhost 8000
"""

import asyncio
import hmac
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Query, WebSocket, WebSocketDisconnect, WebSocketException
from pydantic import BaseModel, Field, ValidationError

from streamws import Limits, Timeouts
from streamws.asgi.uvicorn import Protocol

SECRET = b"from your configuration"
PATIENCE = 5.0
"""The seconds after which a client that does not read is closed."""


class Say(BaseModel):
    """From a client."""

    text: str = Field(max_length=1000)


class Said(BaseModel):
    """To everyone in a room."""

    user: str
    text: str


class Rooms:
    """The members of each room in this process.

    All fan-out is here. With several processes, let `publish` pass the message to a broker instead.
    """

    def __init__(self) -> None:
        self._members: defaultdict[str, set[WebSocket]] = defaultdict(set)

    @asynccontextmanager
    async def join(self, room: str, member: WebSocket) -> AsyncGenerator[None]:
        """Be in a room during the block."""
        members = self._members[room]
        members.add(member)
        try:
            yield
        finally:
            members.discard(member)
            if not members:
                self._members.pop(room, None)

    async def publish(self, room: str, message: Said) -> None:
        """Send a message to everyone in a room."""
        text = message.model_dump_json()
        await asyncio.gather(*[self._send(member, text) for member in self._members[room]])

    async def _send(self, member: WebSocket, text: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await member.send_text(text)
        except TimeoutError:
            await member.close(1013, "too slow")
        except (WebSocketDisconnect, RuntimeError):
            pass  # it has left, and its endpoint ends


def token_of(user: str) -> str:
    """Return a token for a user. A web application does this after a login."""
    return f"{user}.{hmac.digest(SECRET, user.encode(), 'sha256').hex()}"


async def authenticate(token: Annotated[str, Query()] = "") -> str:
    """Return the user of a token. Without a valid one, the handshake is refused with 403."""
    user = token.rpartition(".")[0]
    if not hmac.compare_digest(token.encode(), token_of(user).encode()):
        raise WebSocketException(1008, "no valid token")
    return user


app = FastAPI()
rooms = Rooms()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.websocket("/rooms/{room}")
async def chat(websocket: WebSocket, room: str, user: Annotated[str, Depends(authenticate)]) -> None:
    await websocket.accept()
    async with rooms.join(room, websocket):
        await rooms.publish(room, Said(user="", text=f"{user} is here"))
        try:
            async for text in websocket.iter_text():
                await rooms.publish(room, Said(user=user, text=Say.model_validate_json(text).text))
        except ValidationError:
            await websocket.close(1007, "not a valid message")
    await rooms.publish(room, Said(user="", text=f"{user} has left"))


class ChatProtocol(Protocol):
    """Messages are small here, and silent clients are dropped early."""

    limits = Limits(max_message_size=4096)
    timeouts = Timeouts(ping_interval=10, ping_timeout=10)


if __name__ == "__main__":
    for name in ("Ann", "Bob"):
        print(f"ws://{sys.argv[1]}:{sys.argv[2]}/rooms/garden?token={token_of(name)}", flush=True)
    uvicorn.run(app, host=sys.argv[1], port=int(sys.argv[2]), ws=ChatProtocol)
