"""`streamws demo`: a chat of several rooms, with a web page that shows presence, history and recovery."""

import argparse
import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import time
from typing import Any, TypedDict

from .. import topics
from ..about import BUILD, __version__
from ..client import Client
from ..errors import BrokerError, DecodeError, MissingExtra, describe
from ..keys import Key
from ..net.accepting import Server
from ..server import WebSocketServer
from ..topics.broker import Broker
from ..topics.centrifugo.codes import CentrifugoError
from ..topics.centrifugo.commands import JsonValue
from ..topics.centrifugo.endpoint import CentrifugoEndpoint, Rpc
from ..topics.centrifugo.settings import Connected
from ..topics.memory import MemoryBroker
from ..topics.topic import Topic
from ..topics.topics import Topics
from ..topics.values import History
from .site import DEFAULT_HOST, DEFAULT_PORT, STOP, answer, authorities, authority, fail, page

logger: logging.Logger = logging.getLogger("streamws.demo")

ROOMS = ("lobby", "python", "clock")
"""The server itself writes to the last one."""

MAX_NAME = 30
MAX_TEXT = 2000
"""The most characters of a name and of a message."""

INTERVAL = 3.0
"""The seconds between two messages of the server."""


def add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `demo` command to the command line."""
    parser = commands.add_parser(
        "demo",
        help="run a chat of several rooms, with a web page that shows presence, history and recovery",
        description="Run a chat of several rooms, until Ctrl-C. Its web page shows who is there, has the history after "
        "a reload, and has a switch that cuts the connection, to see how missed messages are recovered.",
    )
    parser.add_argument(
        "--host", default=DEFAULT_HOST, help=f'address to listen on, "" for all interfaces (default: {DEFAULT_HOST})'
    )
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        help=f"port to listen on, 0 for any free port (default: {DEFAULT_PORT})",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="share the rooms with all processes that use the same Redis, such as redis://localhost",
    )
    parser.add_argument("--verbose", action="store_true", help="log each connection on stderr")
    parser.set_defaults(run=_demo, parser=parser)


def _demo(options: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    try:
        broker = None if options.redis is None else topics.RedisBroker(options.redis, prefix="streamws-demo")
        server = DemoServer(options.host, options.port, broker)
    except MissingExtra as error:
        return fail(str(error))
    except ValueError as error:
        parser: argparse.ArgumentParser = options.parser
        parser.error(str(error))
    try:
        server.run()
    except OSError as error:
        return fail(error.strerror or str(error))
    except BrokerError as error:
        return fail(str(error))
    return 0


class Message(TypedDict):
    """A message of the chat."""

    name: str
    text: str
    time: int
    """When it was sent, in milliseconds since 1970."""


class _Messages:
    """The codec of the messages. It needs none of the packages that `Json` needs."""

    text = True

    def encode(self, message: Message) -> str:
        return json.dumps(message)

    def decode(self, data: str | bytes) -> Message:
        message: Message = json.loads(data)
        return message


_USER: Key[str] = Key("user")


class DemoServer(WebSocketServer):
    """A server of the chat, which answers plain HTTP with the web page, and prints where it listens."""

    def __init__(self, address: str, port: int, broker: Broker | None = None) -> None:
        """Create the server; the first arguments are those of `WebSocketServer`.

        :param broker: keeps the topics; without one, this process does.
        """
        self._topics = Topics(broker or MemoryBroker())
        self._clock = "Clock" if broker is None else f"Clock of process {os.getpid()}"
        codec = _Messages()
        history = History(size=100, seconds=3600)
        self._rooms: dict[str, Topic[Message]] = {
            f"room:{name}": self._topics.topic(f"room:{name}", codec, history=history) for name in ROOMS
        }
        endpoint = CentrifugoEndpoint(
            self._topics, connect=self._welcome, authorize=self._authorize, rpc={"say": Rpc(self._say)}
        )
        super().__init__(address, port, handler=endpoint, lifespan=self._live)
        self._host = address
        content = page("demo.html")
        self.request(partial(answer, content))

    async def start(self) -> Server:
        """Start listening, and print the addresses."""
        server = await super().start()
        addresses = [sock.getsockname() for sock in self.sockets]
        print("\n".join(_greeting(self._host, addresses)), flush=True)
        return server

    @asynccontextmanager
    async def _live(self, _: WebSocketServer) -> AsyncGenerator[None, None]:
        async with self._topics, asyncio.TaskGroup() as tasks:
            clock = tasks.create_task(self._count())
            yield
            clock.cancel()

    async def _count(self) -> None:
        """Write a number to the last room every few seconds, so that people see whether messages are missing."""
        number = 0
        while True:
            number += 1
            try:
                await self._publish(f"room:{ROOMS[-1]}", self._clock, f"tick {number}")
            except BrokerError as error:
                logger.warning("tick %d is lost: %s", number, describe(error))
            await asyncio.sleep(INTERVAL)

    async def _publish(self, channel: str, name: str, text: str) -> None:
        await self._rooms[channel].publish({"name": name, "text": text, "time": round(time() * 1000)})

    # Functions of the endpoint ---------------------------------------------------------------------------------

    async def _welcome(self, client: Client, token: str, data: JsonValue) -> Connected:
        name = data.get("name") if isinstance(data, dict) else None
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
            raise CentrifugoError(400, f"a name of 1 to {MAX_NAME} characters is required")
        client[_USER] = name.strip()
        return Connected(client[_USER])

    async def _authorize(self, client: Client, action: str, topic: str) -> bool:
        return topic in self._rooms and action != "publish"

    async def _say(self, client: Client, data: JsonValue) -> object:
        """Publish a message with the name of its sender. A client that published by itself could use any name."""
        channel, text = (data.get("channel"), data.get("text")) if isinstance(data, dict) else (None, None)
        if not isinstance(channel, str) or channel not in self._rooms or not isinstance(text, str):
            raise DecodeError("expected a channel and a text")
        if not text.strip() or len(text) > MAX_TEXT:
            raise CentrifugoError(400, f"a message of 1 to {MAX_TEXT} characters is required")
        await self._publish(channel, client[_USER], text)
        return None


def _greeting(host: str, addresses: Sequence[Any]) -> list[str]:
    """Return the lines that say where the server listens.

    :param host: the value of `--host`.
    :param addresses: the addresses of the listening sockets.
    """
    return [
        f"Chat (streamws {__version__}, {BUILD}) on " + ", ".join(authority(*address[:2]) for address in addresses),
        *(f"  in a browser         http://{place}/" for place in authorities(host, addresses)),
        "Open it in several tabs, and switch the connection of one of them off and on.",
        STOP,
    ]
