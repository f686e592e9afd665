"""The pages of the examples chat_service.py, market_data.py and dashboard.py, in headless Chromium.

Those of chat_service.py and dashboard.py also with two processes behind nginx, which share their topics in Redis.
"""

import asyncio
from pathlib import Path

from chat_service import TO_CLIENTS, Chat, Here, Member, Said
from dashboard import LIBRARY, Alert, Dashboard
from dashboard import Said as Line
from market_data import SYMBOLS, Market

from helpers.blocks import ROOT
from interop.peers.browser import chromium
from interop.peers.programs import FOLDER
from interop.peers.two_processes import behind_nginx
from streamws import connect
from streamws.messages import Json
from streamws.topics import RedisBroker, Topics
from topics.redis_server import RedisServer

EXAMPLES = ROOT / "docs" / "examples"

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
                assert await heard.read_message() == Member("Bob", here=True)
                assert await heard.read_message() == Here(["Ann", "Bob"])
                await page.evaluate("until(() => text('#here') === 'Ann, Bob')")
                await page.evaluate("element('text').value = '<b>hi</b>'; element('form').requestSubmit()")
                said = await heard.read_message()
                assert isinstance(said, Said)
                assert (said.user, said.text) == ("Ann", "<b>hi</b>")
                await bob.send('{"type": "say", "text": "hello"}')
                await page.evaluate("until(() => text('#said').includes('Bob: hello'))")
                assert await page.evaluate("all('#said li')") == ["Ann: <b>hi</b>", "Bob: hello"]
            await page.evaluate("until(() => text('#here') === 'Ann')")
            await chat.server.close()
            await page.evaluate("until(() => text('#here').startsWith('nobody: closed with 1001'))")
        assert page.complaints == []


async def test_page_of_chat_service_recovers_at_the_other_process(redis_server: RedisServer, tmp_path: Path) -> None:
    async with behind_nginx(
        tmp_path,
        lambda port: [str(EXAMPLES / "chat_service.py"), "127.0.0.1", str(port)],
        REDIS_URL=redis_server.url,
    ) as processes:
        tokens = {name: await processes.running[8001].says(rf"#({name}[.].*)$") for name in ("Ann", "Bob")}
        async with chromium(f"http://127.0.0.1:{processes.port}/#{tokens['Ann']}", tmp_path) as page:
            await page.evaluate(HELPERS)
            await page.evaluate("until(() => text('#here') === 'Ann')")
            [her_process] = [name for name in processes.ports if processes.clients(name)]
            [other_port] = {*processes.ports.values()} - {processes.ports[her_process]}
            room = f"ws://127.0.0.1:{other_port}/rooms/garden?token={tokens['Bob']}"
            async with connect(room, proxy=None) as bob:
                await page.evaluate("until(() => text('#here') === 'Ann, Bob')")
                await bob.send('{"type": "say", "text": "hello"}')
                await page.evaluate("until(() => all('#said li').length === 1)")
                await processes.kill(her_process)
                await page.evaluate("until(() => text('#here').startsWith('nobody: closed with 1006'))")
                await bob.send('{"type": "say", "text": "missed"}')
                await page.evaluate("until(() => all('#said li').length === 2)")
                await page.evaluate("element('text').value = 'back'; element('form').requestSubmit()")
                await page.evaluate("until(() => all('#said li').length === 3)")
                assert await page.evaluate("all('#said li')") == ["Bob: hello", "Bob: missed", "Ann: back"]
                assert await page.evaluate("text('#here')") == "Ann, Bob"
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


async def test_page_of_dashboard_recovers_at_the_other_process(redis_server: RedisServer, tmp_path: Path) -> None:
    async with (
        behind_nginx(
            tmp_path,
            lambda port: [str(EXAMPLES / "dashboard.py"), "127.0.0.1", str(port), str(FOLDER / LIBRARY)],
            REDIS_URL=redis_server.url,
        ) as processes,
        Topics(RedisBroker(redis_server.url, prefix="dashboard")) as topics,
    ):
        chat = topics.topic("chat", Json(Line), history=make_dashboard().chat.history)
        login = await processes.running[8002].says(r"#(Ann[.].*)$")
        async with chromium(f"http://127.0.0.1:{processes.port}/#{login}", tmp_path) as page:
            await page.evaluate(HELPERS)
            await page.evaluate("until(() => text('#state') === 'connected' && all('#prices li').length === 3)")
            await page.evaluate("until(() => text('#members') === 'Ann')")
            [its_process] = [name for name in processes.ports if processes.clients(name)]
            await chat.publish(Line("Bob", "hello"))
            await page.evaluate("until(() => all('#chat li').length === 1)")
            await processes.kill(its_process)
            await page.evaluate("until(() => text('#state') === 'connecting')")
            await chat.publish(Line("Bob", "missed"))
            await page.evaluate("until(() => text('#state') === 'connected' && all('#chat li').length === 2)")
            await page.evaluate(
                "document.querySelector('#say input').value = 'back'; document.querySelector('#say').requestSubmit()"
            )
            await page.evaluate("until(() => all('#chat li').length === 3)")
            assert await page.evaluate("all('#chat li')") == ["Bob: hello", "Bob: missed", "Ann: back"]
            # The other process publishes prices, too.
            await page.evaluate("globalThis.before = String(all('#prices li'))")
            await page.evaluate("until(() => String(all('#prices li')) !== before)")
            assert page.complaints == []
