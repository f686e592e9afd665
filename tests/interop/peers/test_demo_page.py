"""The web page of `streamws demo`, in headless Chromium."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import python_environment, running
from interop.peers.browser import ChromiumPage, chromium
from interop.peers.two_processes import behind_nginx
from topics.redis_server import RedisServer

MISSING = "messages are missing here: the history no longer has them"

# Functions that act and wait like a person.
PERSON = r"""
const page = (id) => document.getElementById(id);
const until = (ready) => new Promise((done) => {
  const observer = new MutationObserver(check);
  function check() {
    if (!ready()) return;
    observer.disconnect();
    done();
  }
  observer.observe(document.body, { attributes: true, characterData: true, childList: true, subtree: true });
  check();
});
const state = (name) => until(() => page("state").textContent === name);
const rename = (name) => {
  page("name").value = name;
  page("name").dispatchEvent(new Event("change"));
};
const say = (text) => {
  page("text").value = text;
  page("send").requestSubmit();
};
const room = (name) => page("rooms").querySelector(`[data-channel="room:${name}"]`);
const unread = (name) => room(name).querySelector(".unread")?.textContent ?? "";
const texts = (selector) => Array.from(document.querySelectorAll(selector), (line) => line.textContent);
const log = () => Array.from(page("log").children, (line) => line.classList.contains("note") ? line.textContent
  : ["name", "what", "mark"].map((name) => line.querySelector("." + name).textContent).join("|"));
const lines = (count) => until(() => page("log").children.length === count);
const people = (...names) => until(() => String(texts("#people li")) === String(names));
const ready = () => until(() => texts("#events li span").filter((text) => text.startsWith("Clock: ")).length === 1);
"""


@asynccontextmanager
async def demo(port: str = "0") -> AsyncIterator[str]:
    """Run the command, and give the URL of the page."""
    # -P: import the streamws under test, not one in the working directory.
    command = [sys.executable, "-P", "-m", "streamws", "demo", "--host", "127.0.0.1", "--port", port]
    async with running(*command, environment=python_environment()) as process:
        assert process.stdout is not None
        url = None
        async with asyncio.timeout(20):
            while url is None and (line := await process.stdout.readline()):
                url = re.search(r"http://\S+", line.decode())
        assert url is not None, "the server did not print its address"
        yield url[0]


@asynccontextmanager
async def visit(url: str, folder: Path, name: str) -> AsyncIterator[ChromiumPage]:
    """Show the page to somebody, whose name is already known."""
    async with chromium(url, folder) as page:
        await page.evaluate(f"localStorage.setItem('name', {name!r})")
        await reload(page, url)
        yield page
        assert page.complaints == []


async def reload(page: ChromiumPage, url: str) -> None:
    await page.close()
    await page.open(url)
    await page.evaluate(PERSON)
    await page.evaluate("ready()")


async def test_people_chat_and_see_who_is_there(tmp_path: Path) -> None:
    async with (
        demo() as url,
        visit(url, tmp_path / "ada", "Ada") as ada,
        visit(url, tmp_path / "bob", "Bob") as bob,
    ):
        await ada.evaluate("people('Ada', 'Bob')")
        await ada.evaluate("say('grüß dich, <b>')")
        await bob.evaluate("lines(1)")
        await bob.evaluate("say('hello\\nAda')")
        for page in (ada, bob):
            await page.evaluate("lines(2)")
            assert await page.evaluate("log()") == ["Ada|grüß dich, <b>|", "Bob|hello\nAda|"]
        assert await ada.evaluate("texts('#log .own .what')") == ["grüß dich, <b>"]

        # Another room: the number of messages that were not seen is shown until it is opened.
        await ada.evaluate("room('python').click()")
        await ada.evaluate("say('import this')")
        await ada.evaluate("lines(1)")
        await bob.evaluate("until(() => unread('python') === '1')")
        await bob.evaluate("room('python').click()")
        assert await bob.evaluate("[unread('python'), log()]") == ["", ["Ada|import this|"]]

        await bob.evaluate("rename('Bert')")
        await ada.evaluate("people('Ada', 'Bert')")
        await bob.close()
        await ada.evaluate("people('Ada')")
        await bob.open(url)  # for its owner, who closes it


async def test_history_is_there_after_a_reload(tmp_path: Path) -> None:
    async with demo() as url, visit(url, tmp_path / "ada", "Ada") as page:
        await page.evaluate("say('one'); say('two')")
        await page.evaluate("lines(2)")
        await reload(page, url)
        assert await page.evaluate("log()") == ["Ada|one|", "Ada|two|"]
        assert await page.evaluate("page('name').value") == "Ada"
        await page.evaluate("say('three')")
        await page.evaluate("lines(3)")


async def test_switch_cuts_the_connection_and_missed_messages_are_recovered(tmp_path: Path) -> None:
    async with (
        demo() as url,
        visit(url, tmp_path / "ada", "Ada") as ada,
        visit(url, tmp_path / "bob", "Bob") as bob,
    ):
        await ada.evaluate("say('before')")
        await bob.evaluate("lines(1)")
        await ada.evaluate("page('switch').click()")
        await ada.evaluate("state('cut')")
        assert await ada.evaluate("page('send-text').disabled")
        await bob.evaluate("people('Bob')")
        await bob.evaluate("say('missed'); say('too')")
        await bob.evaluate("lines(3)")
        assert await ada.evaluate("log()") == ["Ada|before|", "connection cut"]

        await ada.evaluate("page('switch').click()")
        await ada.evaluate("state('connected')")
        await ada.evaluate("lines(5)")
        assert await ada.evaluate("log()") == [
            "Ada|before|",
            "connection cut",
            "connected again: 2 messages recovered",
            "Bob|missed|recovered",
            "Bob|too|recovered",
        ]
        await ada.evaluate("people('Ada', 'Bob')")
        await ada.evaluate("room('python').click()")
        await ada.evaluate("lines(2)")
        assert await ada.evaluate("log()") == ["connection cut", "connected again: nothing was missed"]
        assert await bob.evaluate("log()") == ["Ada|before|", "Bob|missed|", "Bob|too|"]


async def test_page_says_that_messages_are_missing(tmp_path: Path) -> None:
    async with (
        demo() as url,
        visit(url, tmp_path / "ada", "Ada") as ada,
        visit(url, tmp_path / "bob", "Bob") as bob,
    ):
        await ada.evaluate("page('switch').click()")
        await bob.evaluate("(async () => { for (let n = 1; n <= 101; n++) { say(`${n}`); await lines(n); } })()")
        await ada.evaluate("page('switch').click()")
        await ada.evaluate("lines(52)")
        assert await ada.evaluate("log()") == ["connection cut", MISSING, *(f"Bob|{n}|" for n in range(52, 102))]
        await bob.evaluate("say('more')")
        await ada.evaluate("lines(53)")
        assert (await ada.evaluate("log()"))[-1] == "Bob|more|"


async def test_page_continues_when_the_server_has_started_again(tmp_path: Path) -> None:
    async with chromium("about:blank", tmp_path) as page:
        async with demo() as url:
            await reload(page, url)
            await page.evaluate("rename('Ada')")
            await page.evaluate("people('Ada')")
            await page.evaluate("say('before')")
            await page.evaluate("lines(1)")
        await page.evaluate("state('connecting')")
        async with demo(port=url.strip("/").rpartition(":")[2]):
            await page.evaluate("state('connected')")
            await page.evaluate("lines(3)")
            await page.evaluate("say('after')")
            await page.evaluate("lines(4)")
            assert await page.evaluate("log()") == ["Ada|before|", "connection lost", MISSING, "Ada|after|"]
            await page.evaluate("people('Ada')")


async def test_people_chat_through_two_processes_and_one_of_them_dies(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    command = ["-m", "streamws", "demo", "--host", "127.0.0.1", "--redis", redis_server.url, "--port"]
    async with behind_nginx(tmp_path, lambda port: [*command, str(port)]) as processes:
        url = f"http://127.0.0.1:{processes.port}/"
        async with visit(url, tmp_path / "ada", "Ada") as ada:
            [her_process] = [name for name in processes.ports if processes.clients(name)]
            [other_port] = {*processes.ports.values()} - {processes.ports[her_process]}
            async with visit(f"http://127.0.0.1:{other_port}/", tmp_path / "bob", "Bob") as bob:
                for page in (ada, bob):
                    await page.evaluate("people('Ada', 'Bob')")
                await ada.evaluate("say('before')")
                await bob.evaluate("lines(1)")
                await processes.kill(her_process)
                await ada.evaluate("state('connecting')")
                await bob.evaluate("say('missed')")
                await bob.evaluate("lines(2)")
                await ada.evaluate("lines(4)")
                again = ["connection lost", "connected again: 1 message recovered", "Bob|missed|recovered"]
                assert await ada.evaluate("log()") == ["Ada|before|", *again]
                await ada.evaluate("say('after')")
                await bob.evaluate("lines(3)")
                assert await bob.evaluate("log()") == ["Ada|before|", "Bob|missed|", "Ada|after|"]
                for page in (ada, bob):
                    await page.evaluate("people('Ada', 'Bob')")


async def test_messages_are_recovered_once(tmp_path: Path) -> None:
    async with (
        demo() as url,
        visit(url, tmp_path / "ada", "Ada") as ada,
        visit(url, tmp_path / "bob", "Bob") as bob,
    ):
        for n in (1, 2):
            await ada.evaluate("page('switch').click()")
            await bob.evaluate(f"say('{n}')")
            await bob.evaluate(f"lines({n})")
            await ada.evaluate("page('switch').click()")
            await ada.evaluate(f"lines({3 * n})")
        again = ["connection cut", "connected again: 1 message recovered"]
        assert await ada.evaluate("log()") == [*again, "Bob|1|recovered", *again, "Bob|2|recovered"]


async def test_last_messages_stay_in_sight(tmp_path: Path) -> None:
    end = "page('log').scrollHeight - page('log').scrollTop - page('log').clientHeight < 2"
    frame = "await new Promise(requestAnimationFrame)"
    async with demo() as url, visit(url, tmp_path / "ada", "Ada") as page:
        await page.resize(1280, 800)
        for n in range(1, 31):
            await page.evaluate(f"say('{n}')")
            await page.evaluate(f"lines({n})")
        assert await page.evaluate(end)
        for width, height in ((390, 844), (390, 420), (1280, 500)):  # a phone, its keyboard, another window
            await page.resize(width, height)
            waiting = f"innerHeight !== {height} || logBox !== boxOf(page('log')) || !({end})"
            await page.evaluate(f"(async () => {{ while ({waiting}) {frame}; }})()")
        # Somebody who reads earlier messages is not disturbed.
        await page.evaluate("page('log').scrollTop = 0")
        await page.evaluate(f"(async () => {{ while (logAtEnd) {frame}; }})()")
        await page.evaluate("say('31')")
        await page.evaluate("lines(31)")
        assert await page.evaluate("page('log').scrollTop") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_page_fits_the_screen_and_can_be_read(tmp_path: Path, width: int, scheme: str) -> None:
    name = "<img src=x onerror=alert(1)>"
    async with demo() as url, visit(url, tmp_path / "ada", name) as page:
        await page.resize(width, 844)
        await page.prefer(scheme)
        seen: Any = await page.evaluate(r"""
            (async () => {
              say("x".repeat(1500));
              say("y ".repeat(500));
              await lines(2);
              addMessage(shown, { offset: 99, data: { name: "w".repeat(30), text: "z", time: 0 } }, true);
              const light = (color) => {
                const [red, green, blue] = color.match(/[\d.]+/g).slice(0, 3).map((part) => {
                  const share = part / 255;
                  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
                });
                return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
              };
              const behind = (element) => {
                const color = getComputedStyle(element).backgroundColor;
                return color === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : color;
              };
              const contrast = (selector) => Math.min(...Array.from(document.querySelectorAll(selector), (element) => {
                const both = [light(getComputedStyle(element).color), light(behind(element))];
                return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
              }));
              const box = (id) => page(id).getBoundingClientRect();
              return {
                overflow: [
                  document.documentElement.scrollWidth - innerWidth,
                  document.documentElement.scrollHeight - innerHeight,
                  page("log").scrollWidth - page("log").clientWidth,
                ],
                visible: ["state", "rooms", "log", "text", "send-text", "name", "people", "events", "switch"].every(
                  (id) => box(id).width > 0 && box(id).height > 0 && box(id).bottom <= innerHeight
                ),
                beside: box("side").left >= box("log").right,
                dark: light(behind(page("log"))) < 0.5,
                contrast: Math.min(
                  contrast("header :not(input), #rooms *, #log li *, #send-text, #side h2, #people li, #events li *"),
                  ...Array.from({ length: 36 }, (_, tenth) => {
                    document.querySelector(".own .name").style.setProperty("--hue", 10 * tenth);
                    return contrast(".own .name");
                  }),
                ),
              };
            })()
        """)
    contrast = seen.pop("contrast")
    assert seen == {"overflow": [0, 0, 0], "visible": True, "beside": width == 1280, "dark": scheme == "dark"}
    assert contrast >= 4.5  # WCAG 2, level AA
