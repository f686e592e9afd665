"""Headless Chromium, driven by the DevTools protocol."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from helpers.processes import running

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)


class Page:
    """A page of the browser."""

    def __init__(self, browser: ClientConnection) -> None:
        self._browser = browser
        self._target = ""
        self._session: dict[str, str] = {}
        self._calls = 0
        self.complaints: list[Any] = []
        """Errors in the page that the browser reported."""

    async def open(self, url: str) -> None:
        """Load the page."""
        self._target = (await self._call("Target.createTarget", url="about:blank"))["targetId"]
        session = await self._call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Log", "Page", "Runtime"):
            await self._call(f"{domain}.enable")
        await self._call("Page.navigate", url=url)
        while (await self._receive()).get("method") != "Page.loadEventFired":
            pass

    async def evaluate(self, expression: str) -> Any:
        """Evaluate an expression in the page, and return its value. A promise is awaited."""
        answer = await self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def close(self) -> None:
        """Close the tab."""
        self._session = {}
        await self._call("Target.closeTarget", targetId=self._target)

    async def _call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": parameters, **self._session}
        await self._browser.send(json.dumps(call))
        while (said := await self._receive()).get("id") != self._calls:
            pass
        assert "error" not in said, said["error"]
        return said["result"]

    async def _receive(self) -> Any:
        said = json.loads(await self._browser.recv())
        if said.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.complaints.append(said["params"])
        return said


@asynccontextmanager
async def chromium(url: str, folder: Path) -> AsyncIterator[Page]:
    """Run Chromium with a page while the block runs, which must end within a minute.

    The browser keeps its files in `folder`.
    """
    command = ["chromium", *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    async with asyncio.timeout(60), running(*command) as process:
        assert process.stderr is not None
        said = ""
        async for line in process.stderr:
            said += line.decode()
            if "DevTools listening on " in said:
                break
        _, found, address = said.partition("DevTools listening on ")
        assert found, said
        async with connect(address.strip(), proxy=None, max_size=None) as browser:
            page = Page(browser)
            await page.open(url)
            yield page
