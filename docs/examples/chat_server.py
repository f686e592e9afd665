"""A chat server: the path of the URL is the room, and the first message is the name of the user.

    python docs/examples/chat_server.py localhost 8765

To try it, run `streamws connect ws://localhost:8765/garden` in several terminals.
"""

import asyncio
import logging
import sys

from streamws import Client, Limits, WebSocketServer

NAME_SECONDS = 60  # the time for a client to send its name


class Chat:
    """The rooms, and the clients in each room."""

    def __init__(self, host: str, port: int) -> None:
        limits = Limits(max_message_size=4096, max_write_backlog=256 * 1024)
        self.socket = WebSocketServer(host, port, handler=self.handle, limits=limits)
        self.rooms: dict[str, dict[str, Client]] = {}

    async def handle(self, client: Client) -> None:
        """Serve one client, from its name to the end of the connection."""
        messages = client.text()  # a binary message would close the connection with 1003
        try:
            async with asyncio.timeout(NAME_SECONDS):
                name = (await anext(messages, "")).strip()
        except TimeoutError:
            name = ""
        path = client.request.path
        if not name or name in self.rooms.get(path, {}):
            await client.close(1008, "this name is taken" if name else "a name is missing")
            return
        room = self.rooms.setdefault(path, {})
        room[name] = client
        self.tell(room, f"* {name} joined; in this room: {', '.join(room)}")
        try:
            async for text in messages:
                self.tell(room, f"{name}: {text}")
        finally:  # also if the connection was lost, because the loop then raises ConnectionClosedError
            del room[name]
            self.tell(room, f"* {name} left")
            if not room:
                self.rooms.pop(path, None)

    def tell(self, room: dict[str, Client], text: str) -> None:
        """Send a text to everyone in the room without waiting. A client that is too slow is closed."""
        self.socket.broadcast(text, to=list(room.values()))


def main(host: str, port: int) -> None:
    """Serve until Ctrl-C."""
    logging.basicConfig(level=logging.INFO)
    Chat(host, port).socket.run()


if __name__ == "__main__":
    host, port = sys.argv[1:] or ("localhost", "8765")
    main(host, int(port))
