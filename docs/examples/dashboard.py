"""A dashboard in the browser: prices, alerts and a chat, with users, tokens and permissions.

    pip install 'streamws[routing,msgspec]'
    npm install centrifuge
    python docs/examples/dashboard.py localhost 8765

It prints a link to its page for Ann, who may publish alerts, and one for Bob, who may not. Stop the program, start it
again, and see how the pages come back. Programs follow the alerts at `/alerts`, with any WebSocket client.

If REDIS_URL is set, several processes share the topics. This needs 'streamws[redis]', too.
"""

import asyncio
import hmac
import json
import os
import random
import sys
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import fmean

from msgspec import Struct

from streamws import (
    BrokerError,
    BrokerUnavailable,
    Client,
    Key,
    Limits,
    Request,
    Response,
    Router,
    WebSocketServer,
    topics,
)
from streamws.messages import Json
from streamws.topics import (
    CentrifugoDisconnect,
    CentrifugoEndpoint,
    CentrifugoError,
    Connected,
    Gap,
    History,
    JsonValue,
    MemoryBroker,
    Position,
    Publication,
    Rpc,
    Subscription,
    Topics,
)

PAGE = Path(__file__).with_suffix(".html").read_text()
LIBRARY = "node_modules/centrifuge/dist/centrifuge.js"
USER: Key[str] = Key("user")
MAY_ALERT = {"Ann"}
PRICES = {"EUR/USD": 1.1, "GBP/USD": 1.3, "USD/JPY": 150.0}


class Price(Struct):
    pair: str
    value: float


class Alert(Struct):
    text: str


class Said(Struct):
    user: str
    text: str


class Tokens:
    """Makes and checks tokens. A token is good for one purpose: to log in, or to connect."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, purpose: str, user: str, seconds: float) -> str:
        """Return a token for a user."""
        claim = f"{user}.{time.time() + seconds:.0f}"
        return f"{claim}.{self._sign(purpose, claim)}"

    def check(self, purpose: str, token: str) -> tuple[str, float] | None:
        """Return the user of a token, and when it expires; None if it is not valid."""
        claim, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(purpose, claim).encode()):
            return None
        user, _, expires_at = claim.rpartition(".")
        return user, float(expires_at)

    def _sign(self, purpose: str, claim: str) -> str:
        return hmac.digest(self._secret, f"{purpose}.{claim}".encode(), "sha256").hex()


def with_position(publication: Publication[Alert]) -> str:
    """Make the message for a program: an alert, and the position after which the program can continue."""
    epoch, offset = publication.position
    return json.dumps({"text": publication.data.text, "epoch": epoch, "offset": offset})


class Dashboard:
    """The topics, and the server.

    :param secret: signs the tokens.
    :param library: the file `centrifuge.js` of the package.
    :param interval: the seconds between two prices.
    :param token_seconds: the seconds for which a token of a page is valid. The page fetches another one in time.
    :param redis_url: where the topics are; None if this process has them.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        secret: bytes,
        library: Path,
        interval: float = 0.5,
        token_seconds: float = 60,
        redis_url: str | None = None,
    ) -> None:
        self.tokens = Tokens(secret)
        self.topics = Topics(topics.RedisBroker(redis_url, prefix="dashboard") if redis_url else MemoryBroker())
        self.prices = self.topics.topic("prices", Json(Price), history=History(size=50, seconds=60))
        self.alerts = self.topics.topic("alerts", Json(Alert), history=History(size=1000, seconds=24 * 3600))
        self.chat = self.topics.topic("chat", Json(Said), history=History(size=50, seconds=3600))
        endpoint = CentrifugoEndpoint(
            self.topics,
            connect=self.connect,
            authorize=self.authorize,
            rpc={"say": Rpc(self.say, Json(str), Json(None))},
        )
        router = Router()
        router.route("/connection")(endpoint)
        router.route("/alerts")(self.send_alerts)
        limits = Limits(max_message_size=4096)
        self.server: WebSocketServer = WebSocketServer(host, port, handler=router, limits=limits, lifespan=self.run)
        self.server.request(self.answer)
        self._files = {
            "/": Response(200, PAGE, content_type="text/html; charset=utf-8"),
            "/centrifuge.js": Response(200, library.read_bytes(), content_type="text/javascript; charset=utf-8"),
        }
        self.values = dict(PRICES)  # the last price of each pair
        self._interval = interval
        self._token_seconds = token_seconds

    # Plain HTTP, and who may connect ----------------------------------------------------------------------------

    def answer(self, request: Request) -> Response | None:
        """Serve the page and its tokens, and note the user of a program."""
        if request.path in self._files:
            return self._files[request.path]
        login = self.tokens.check("login", request.headers.get("Authorization", "").removeprefix("Bearer "))
        user = None if login is None or login[1] <= time.time() else login[0]
        if request.path == "/token":
            if user is None:
                return Response(401, "log in first\n")
            return Response(200, self.tokens.make("connect", user, self._token_seconds))
        if user is not None:
            request[USER] = user
        return None

    # Pages ------------------------------------------------------------------------------------------------------

    async def connect(self, client: Client, token: str, data: JsonValue) -> Connected:
        """Check the token of a page. This is called again whenever the page has fetched another token."""
        checked = self.tokens.check("connect", token)
        if checked is None:
            raise CentrifugoDisconnect(3500)
        user, expires_at = checked
        if expires_at <= time.time():
            raise CentrifugoError(109)
        client[USER] = user
        return Connected(user, expires_at=expires_at)

    async def authorize(self, client: Client, action: str, topic: str) -> bool:
        """Return whether a page may do something with a topic."""
        match action:
            case "subscribe" | "history":
                return True
            case "presence":
                return topic == "chat"
            case _:  # publish; in the chat, pages call `say`
                return topic == "alerts" and client[USER] in MAY_ALERT

    async def say(self, client: Client, text: str) -> None:
        """Say something in the chat. The function adds the name, so that nobody can use that of another user."""
        await self.chat.publish(Said(client[USER], text), client=client)

    # Programs ---------------------------------------------------------------------------------------------------

    async def send_alerts(self, client: Client) -> None:
        """Send the alerts to a program, beginning after the position in its query."""
        if USER not in client:
            await client.close(4401, "log in first")
            return
        query = client.request.query
        since = Position(query["epoch"], int(query["offset"])) if "epoch" in query else None
        try:
            await self.alerts.join(client, since=since, frame=with_position)
        except BrokerError:
            await client.close(1013, "try again later")
        await client.wait_closed()

    # The program itself -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def run(self, server: WebSocketServer) -> AsyncGenerator[None, None]:
        """Publish and watch prices, as long as the server runs."""
        async with self.topics, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._watch_prices()), group.create_task(self._publish_prices())]
            yield
            for task in tasks:
                task.cancel()

    # All processes publish and watch the prices, so that any of them may end. The idempotency keys let the broker take
    # each price and each alert only once.

    async def _publish_prices(self) -> None:
        while True:
            now = int(time.time() / self._interval)
            for pair in PRICES:
                price = Price(pair, round(self.values[pair] * random.uniform(0.998, 1.002), 4))
                self.prices.publish_soon(price, idempotency=f"{pair} {now}")
            await asyncio.sleep(self._interval)

    async def _watch_prices(self) -> None:
        """Publish an alert when a price is far from the average of the last ones."""
        while True:
            with suppress(BrokerUnavailable):  # when the program starts
                async with self.prices.subscribe() as feed:
                    await self._watch(feed)
            await asyncio.sleep(1)

    async def _watch(self, feed: Subscription[Price]) -> None:
        last: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=10))
        async for item in feed:
            if isinstance(item, Gap):
                last.clear()
                continue
            price, values = item.data, last[item.data.pair]
            self.values[price.pair] = price.value
            values.append(price.value)
            change = price.value / fmean(values) - 1
            if abs(change) > 0.004:
                alert = Alert(f"{price.pair} is at {price.value}, {change:+.1%} from its average")
                self.alerts.publish_soon(alert, idempotency=str(item.position))
                values.clear()


if __name__ == "__main__":
    host, port = sys.argv[1:3]
    library = Path(sys.argv[3] if sys.argv[3:] else LIBRARY)
    redis_url = os.environ.get("REDIS_URL")
    dashboard = Dashboard(host, int(port), secret=b"from your configuration", library=library, redis_url=redis_url)
    for name in ("Ann", "Bob"):
        print(f"http://{host}:{port}/#{dashboard.tokens.make('login', name, 24 * 3600)}", flush=True)
    dashboard.server.run(drain=5)
