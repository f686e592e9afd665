"""A client of Chrome's DevTools protocol: it opens a page, prints its title, and saves a picture of it.

    chromium --headless --remote-debugging-port=9222
    python docs/examples/devtools.py localhost:9222 https://example.org/ page.png

Commands and their results are JSON. A result has the `id` of its command; every other message is an event.
The picture comes as one message of some megabytes.
"""

import asyncio
import base64
import itertools
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from streamws import Client, ConnectionClosed, Limits, connect

SECONDS = 30  # the time for one command, and for one event
PICTURES = Limits(max_message_size=64 << 20)


class CommandFailed(Exception):
    """The browser has refused a command."""


class Browser:
    """The commands of a browser, over one connection. Any number of tasks may wait for results."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = itertools.count(1)
        self._results: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}

    async def call(self, method: str, session: str = "", **parameters: object) -> dict[str, Any]:
        """Send a command and return its result.

        :param session: the page that the command is for; "" for the browser itself.
        """
        number = next(self._numbers)
        result: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._results[number] = result
        command: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        try:
            await self._client.send(json.dumps(command))
            async with asyncio.timeout(SECONDS):
                return await result
        finally:
            del self._results[number]

    def event(self, method: str, session: str) -> asyncio.Future[dict[str, Any]]:
        """Return a future that gets the parameters of the next event of this name."""
        future = self._events[session, method] = asyncio.get_running_loop().create_future()
        return future

    async def read(self) -> None:
        """Give results and events to those who wait for them, until the connection ends."""
        try:
            while True:
                self._process(json.loads(await self._client.read_message()))
        except ConnectionClosed as error:
            for future in [*self._results.values(), *self._events.values()]:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # asyncio then does not warn if nobody awaits the future

    def _process(self, message: dict[str, Any]) -> None:
        if "id" in message:
            future = self._results.get(message["id"])
        else:
            future = self._events.pop((message.get("sessionId", ""), message["method"]), None)
        if future is None or future.done():
            return  # nobody waits for it
        if "error" in message:
            future.set_exception(CommandFailed(message["error"]["message"]))
        else:
            future.set_result(message.get("result", message.get("params", {})))


@asynccontextmanager
async def browser_at(address: str) -> AsyncGenerator[Browser, None]:
    """Connect to a browser, and read from it until the end of the block."""
    answer = await asyncio.to_thread(urlopen, f"http://{address}/json/version", timeout=SECONDS)
    with answer:
        url = json.load(answer)["webSocketDebuggerUrl"]
    async with connect(url, limits=PICTURES, proxy=None) as client:
        browser = Browser(client)
        reading = asyncio.create_task(browser.read())
        try:
            yield browser
        finally:
            await client.close()
            await reading


async def main(address: str, page: str, picture: str) -> None:
    """Open a page in a new tab, print its title, save a picture of it, and close the tab."""
    async with browser_at(address) as browser:
        target = (await browser.call("Target.createTarget", url="about:blank"))["targetId"]
        try:
            session = (await browser.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
            await browser.call("Page.enable", session)
            loaded = browser.event("Page.loadEventFired", session)
            result = await browser.call("Page.navigate", session, url=page)
            if "errorText" in result:
                sys.exit(f"cannot open {page}: {result['errorText']}")
            async with asyncio.timeout(SECONDS):
                await loaded
            title = await browser.call("Runtime.evaluate", session, expression="document.title")
            print(title["result"]["value"])
            shot = await browser.call("Page.captureScreenshot", session, format="png")
            await asyncio.to_thread(Path(picture).write_bytes, base64.b64decode(shot["data"]))
        finally:
            await browser.call("Target.closeTarget", targetId=target)


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except (CommandFailed, ConnectionClosed, OSError) as error:  # TimeoutError is an OSError
        sys.exit(f"{type(error).__name__}: {error}")
