"""Headless browsers: Chromium over the DevTools protocol, Firefox over WebDriver BiDi."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from helpers.processes import running

CHROMIUM = (
    "chromium",
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
FIREFOX = ("firefox-esr", "--headless", "--no-remote", "--remote-debugging-port=0")
FIREFOX_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,  # none
    "services.settings.server": "data:,",
}


class Page:
    """A page in a browser."""

    events: tuple[str, ...] = ()
    """The events with which the browser reports errors of the page."""

    def __init__(self, browser: ClientConnection) -> None:
        self._browser = browser
        self._session: dict[str, str] = {}
        self._calls = 0
        self.complaints: list[Any] = []
        """The errors that the browser reported for the page."""

    async def open(self, url: str) -> None:
        """Load a page."""
        raise NotImplementedError

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page; if it is a promise, await it."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the tab."""
        raise NotImplementedError

    async def _call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": parameters, **self._session}
        await self._browser.send(json.dumps(call))
        while (said := await self._receive()).get("id") != self._calls:
            pass
        assert "error" not in said, said
        return said["result"]

    async def _receive(self) -> Any:
        said = json.loads(await self._browser.recv())
        if said.get("method") in self.events:
            self.complaints.append(said["params"])
        return said


class ChromiumPage(Page):
    """A page in Chromium."""

    events = ("Log.entryAdded", "Runtime.exceptionThrown")
    _target = ""

    async def open(self, url: str) -> None:
        self._session = {}
        self._target = (await self._call("Target.createTarget", url="about:blank"))["targetId"]
        session = await self._call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Log", "Page", "Runtime"):
            await self._call(f"{domain}.enable")
        await self._call("Page.navigate", url=url)
        while (await self._receive()).get("method") != "Page.loadEventFired":
            pass

    async def evaluate(self, expression: str) -> Any:
        answer = await self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the page, as on another screen."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self._call("Emulation.setDeviceMetricsOverride", **size)

    async def prefer(self, scheme: str) -> None:
        """Choose the color scheme, as a user does: `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self._call("Emulation.setEmulatedMedia", features=[feature])

    async def close(self) -> None:
        self._session = {}
        await self._call("Target.closeTarget", targetId=self._target)


class FirefoxPage(Page):
    """A page in Firefox."""

    events = ("log.entryAdded",)
    _context = ""

    async def open(self, url: str) -> None:
        if not self._context:
            await self._call("session.new", capabilities={})
            await self._call("session.subscribe", events=self.events)
        self._context = (await self._call("browsingContext.create", type="tab"))["context"]
        await self._call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, expression: str) -> Any:
        answer = await self._call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer
        value = answer["result"].get("value")
        return None if value is None else json.loads(value)

    async def close(self) -> None:
        await self._call("browsingContext.close", context=self._context)


@asynccontextmanager
async def _browser(announcement: str, *command: str) -> AsyncIterator[str]:
    """Run a browser until the end of the block, which must end within a minute.

    :param announcement: What the browser prints in front of the address at which it can be controlled.
    """
    async with asyncio.timeout(60), running(*command) as process:
        assert process.stderr is not None
        output = ""
        async for line in process.stderr:
            output += line.decode()
            if announcement in output:
                break
        _, found, address = output.partition(announcement)
        assert found, output
        yield address.strip()


def chromium_browser(folder: Path) -> AbstractAsyncContextManager[str]:
    """Run Chromium; gives the URL of its DevTools.

    :param folder: The folder for the browser's own files.
    """
    return _browser("DevTools listening on ", *CHROMIUM, f"--user-data-dir={folder}", "about:blank")


@asynccontextmanager
async def chromium(url: str, folder: Path) -> AsyncIterator[ChromiumPage]:
    """Show a page in Chromium until the end of the block, which must end within a minute.

    :param folder: The folder for the browser's own files.
    """
    async with (
        chromium_browser(folder) as address,
        connect(address, proxy=None, max_size=None) as browser,
    ):
        page = ChromiumPage(browser)
        await page.open(url)
        yield page


@asynccontextmanager
async def firefox(url: str, folder: Path) -> AsyncIterator[FirefoxPage]:
    """Show a page in Firefox. The same as `chromium` otherwise."""
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in FIREFOX_PREFERENCES.items()]
    (folder / "user.js").write_text("\n".join(lines))
    async with (
        _browser("WebDriver BiDi listening on ", *FIREFOX, "--profile", str(folder), "about:blank") as address,
        connect(f"{address}/session", proxy=None, max_size=None) as browser,
    ):
        page = FirefoxPage(browser)
        await page.open(url)
        yield page
