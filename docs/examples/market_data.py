"""A feed of market data: each client gets the prices that it follows, as fast as it can read them.

    pip install 'streamws[msgspec]'
    python docs/examples/market_data.py localhost 8765

The page at http://localhost:8765/ is a client. Other clients connect to ws://localhost:8765/feed, and send
`{"symbols": ["EUR/USD"]}` to follow symbols. While a client reads slowly, a newer price of a symbol replaces an older
one that still waits. So a slow client gets fewer prices, but no outdated ones.
"""

import asyncio
import logging
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from streamws import Client, Limits, Request, Response, WebSocketServer
from streamws.messages import Json

SYMBOLS = ("EUR/USD", "GBP/USD", "USD/JPY")
PAGE = Path(__file__).with_suffix(".html").read_text()


class Follow(Struct):
    """From a client: the symbols that it wants to follow from now on."""

    symbols: set[str]


class Price(Struct):
    """A price, and the number of older ones of this symbol that this client did not get."""

    symbol: str
    price: float
    skipped: int = 0


FROM_CLIENTS = Json(Follow)
TO_CLIENTS = Json(list[Price])


class Feed:
    """The prices that one client has yet to get: the latest of each symbol."""

    def __init__(self, client: Client) -> None:
        self.symbols: set[str] = set()
        self._client = client
        self._waiting: dict[str, Price] = {}
        self._changed = asyncio.Event()

    def put(self, symbol: str, price: float) -> None:
        """Add a price; it replaces the older one of this symbol, if that still waits."""
        if symbol in self.symbols:
            older = self._waiting.get(symbol)
            self._waiting[symbol] = Price(symbol, price, 0 if older is None else older.skipped + 1)
            self._changed.set()

    async def run(self) -> None:
        """Send the waiting prices, again and again. `send` waits while the client reads slowly."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            prices, self._waiting = list(self._waiting.values()), {}
            await self._client.send(TO_CLIENTS.encode(prices), text=True)


class Market:
    """The server, and the feeds of its clients."""

    def __init__(self, host: str, port: int, seconds: float = 0.05) -> None:
        """:param seconds: the time between two changes of all prices."""
        limits = Limits(max_message_size=4096, write_high=16 << 10, write_low=4 << 10)
        self.server: WebSocketServer = WebSocketServer(
            host, port, handler=self.serve, limits=limits, lifespan=self.change_prices
        )
        self.server.request(self.answer)
        self.feeds: set[Feed] = set()
        self._seconds = seconds

    async def answer(self, request: Request) -> Response | None:
        """Serve the page and let clients connect to the feed; refuse all other paths."""
        if request.path == "/feed":
            return None
        if request.path == "/":
            return Response(200, PAGE, content_type="text/html; charset=utf-8")
        return Response(404, "there is nothing here\n")

    async def serve(self, client: Client) -> None:
        """Send prices to a client, and read which symbols it follows."""
        feed = Feed(client)
        self.feeds.add(feed)
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(feed.run())
                async for message in client.typed(FROM_CLIENTS):
                    feed.symbols = message.symbols
                sending.cancel()
        finally:
            self.feeds.discard(feed)

    @asynccontextmanager
    async def change_prices(self, server: WebSocketServer) -> AsyncGenerator[None, None]:
        """Change the prices as long as the server runs."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._change_prices())
            yield
            task.cancel()

    async def _change_prices(self) -> None:
        prices = dict.fromkeys(SYMBOLS, 1.0)
        while True:
            for symbol in SYMBOLS:
                prices[symbol] *= random.uniform(0.999, 1.001)
                for feed in self.feeds:
                    feed.put(symbol, round(prices[symbol], 5))
            await asyncio.sleep(self._seconds)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    Market(sys.argv[1], int(sys.argv[2])).server.run()
