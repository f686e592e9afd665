"""The pages of the examples chat_service.py, market_data.py and dashboard.py, in headless Chromium."""

import asyncio
from pathlib import Path

from chat_service import TO_CLIENTS, Chat, Here, Said
from dashboard import LIBRARY, Alert, Dashboard
from dashboard import Said as Line
from market_data import SYMBOLS, Market

from interop.peers.browser import chromium
from interop.peers.programs import FOLDER
from streamws import connect

HELPERS = """
const until = async (ready) => { while (!ready()) await new Promise((done) => setTimeout(done, 10)); };
const text = (name) => document.querySelector(name).textContent;
const all = (name) => Array.from(document.querySelectorAll(name), (item) => item.textContent);
"""


async def test_page_of_chat_service_shows_and_sends_messages(tmp_path: Path) -> None:
    chat = Chat("127.0.0.1", 0, secret=b"secret")
    async with chat.server:
        address = f"127.0.0.1:{chat.server.port}"
        async with chromium(f"http://{address}/#{chat.token('Ann')}", tmp_path) as page:
            await page.evaluate(HELPERS)
            await page.evaluate("until(() => text('#here') === 'Ann')")
            async with connect(f"ws://{address}/rooms/garden?token={chat.token('Bob')}", proxy=None) as bob:
                heard = bob.typed(TO_CLIENTS)
                assert await heard.read_message() == Here(["Ann", "Bob"])
                await page.evaluate("until(() => text('#here') === 'Ann, Bob')")
                await page.evaluate("element('text').value = '<b>hi</b>'; element('form').requestSubmit()")
                assert await heard.read_message() == Said("Ann", "<b>hi</b>")
                await bob.send('{"type": "say", "text": "hello"}')
                await page.evaluate("until(() => text('#said').includes('Bob: hello'))")
                assert await page.evaluate("all('#said li')") == ["Ann: <b>hi</b>", "Bob: hello"]
            await page.evaluate("until(() => text('#here') === 'Ann')")
            await chat.server.close()
            await page.evaluate("until(() => text('#here').startsWith('nobody: closed with 1001'))")
        assert page.complaints == []


async def test_page_of_market_data_shows_prices(tmp_path: Path) -> None:
    market = Market("127.0.0.1", 0)
    async with market.server, asyncio.timeout(60):
        async with chromium(f"http://127.0.0.1:{market.server.port}/", tmp_path) as page:
            await page.evaluate(HELPERS)
            await page.evaluate("until(() => all('#prices tr').length === 3)")
            assert sorted((await page.evaluate("all('#prices td')"))[::3]) == sorted(SYMBOLS)
            await page.evaluate("globalThis.before = String(all('#prices td'))")
            await page.evaluate("until(() => String(all('#prices td')) !== before)")
            assert await page.evaluate("text('#state')") == "connected"
            await market.server.close()
            await page.evaluate("until(() => text('#state').startsWith('closed with 1001'))")
        assert page.complaints == []


def make_dashboard(port: int = 0) -> Dashboard:
    return Dashboard("127.0.0.1", port, secret=b"secret", library=FOLDER / LIBRARY, token_seconds=3)


async def test_page_of_dashboard_recovers_and_survives_a_restart(tmp_path: Path) -> None:
    dashboard = make_dashboard()
    link = f"/#{dashboard.tokens.make('login', 'Ann', 600)}"
    async with dashboard.server:
        port = dashboard.server.port
        async with chromium(f"http://127.0.0.1:{port}{link}", tmp_path) as page:
            await page.evaluate(HELPERS)
            await page.evaluate("until(() => text('#state') === 'connected' && all('#prices li').length === 3)")
            await page.evaluate("until(() => text('#members') === 'Ann')")
            await page.evaluate(
                "globalThis.put = (form, text) => { document.querySelector(form + ' input').value = text;"
                " document.querySelector(form).requestSubmit(); }"
            )
            await page.evaluate("put('#alert', '<b>fire</b>')")
            await page.evaluate("until(() => all('#alerts li').includes('<b>fire</b>'))")
            await page.evaluate("put('#say', 'hello')")
            await page.evaluate("until(() => String(all('#chat li')) === 'Ann: hello')")
            # The page recovers what it misses while its connection is cut.
            for client in [*dashboard.server.clients.values()]:
                client.abort()
            await page.evaluate("until(() => text('#state') === 'connecting')")
            for number in range(3):
                await dashboard.chat.publish(Line("Bob", str(number)))
            await page.evaluate("until(() => all('#chat li').length === 4)")
            assert await page.evaluate("all('#chat li')") == ["Ann: hello", "Bob: 0", "Bob: 1", "Bob: 2"]
            # A token lasts for three seconds. The page has fetched another one by then.
            await page.evaluate("until(() => performance.getEntriesByName(location.origin + '/token').length >= 3)")
            assert await page.evaluate("text('#state')") == "connected"
            assert page.complaints == []
            # After a restart, the page shows what the new process knows.
            await dashboard.server.close()
            restarted = make_dashboard(port)
            async with restarted.server:
                await restarted.alerts.publish(Alert("restarted"))
                await page.evaluate(
                    "until(() => text('#state') === 'connected' && all('#alerts li').includes('restarted'))"
                )
                await page.evaluate("until(() => all('#chat li').length === 0)")
                assert "<b>fire</b>" not in await page.evaluate("all('#alerts li')")
