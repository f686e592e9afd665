"""The pages of the examples chat_service.py and market_data.py, in headless Chromium."""

import asyncio
from pathlib import Path

from chat_service import TO_CLIENTS, Chat, Here, Said
from market_data import SYMBOLS, Market

from interop.peers.browser import chromium
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
