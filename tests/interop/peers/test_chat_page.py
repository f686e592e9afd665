"""The web page of `streamws echo`, in headless Chromium."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import python_environment, running
from interop.peers.browser import ChromiumPage, chromium

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
const lines = (count) => until(() => page("log").children.length === count);
const enter = (id, value) => {
  page(id).value = value;
  page(id).form.requestSubmit();
};
const sendFile = (data) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([data], "a file"));
  page("file").files = transfer.files;
  page("file").form.requestSubmit();
};
const shown = (line) => line.querySelector(".what").textContent;
const log = () => Array.from(page("log").children, (line) => line.dataset.kind + ": " + shown(line));
"""


@asynccontextmanager
async def visit(folder: Path) -> AsyncIterator[ChromiumPage]:
    # -P: import the streamws under test, not one in the working directory.
    command = [sys.executable, "-P", "-m", "streamws", "echo", "--host", "127.0.0.1", "--port", "0"]
    async with running(*command, environment=python_environment()) as process:
        assert process.stdout is not None
        url = None
        async with asyncio.timeout(20):
            while url is None and (line := await process.stdout.readline()):
                url = re.search(r"http://\S+", line.decode())
        assert url is not None, "the server did not print its address"
        async with chromium(url[0], folder) as page:
            await page.evaluate(PERSON)
            yield page
            assert page.complaints == []


async def test_page_sends_receives_and_closes(tmp_path: Path) -> None:
    async with visit(tmp_path) as page:
        log = await page.evaluate("""
            (async () => {
              await state("open");
              enter("text", "grüß dich, 🌍 <b>");
              await lines(3);
              enter("text", "");
              await lines(5);
              enter("hex", "00 ff 2a");
              await lines(7);
              enter("hex", "");
              await lines(9);
              enter("hex", "0x");
              await lines(10);
              page("code").value = 4000;
              enter("reason", "done");
              await state("closed");
              await lines(11);
              page("reconnect").click();
              await state("open");
              await lines(12);
              return log();
            })()
        """)

    assert log == [
        "note: connected",
        "sent: grüß dich, 🌍 <b>",
        "received: grüß dich, 🌍 <b>",
        "sent: empty message",
        "received: empty message",
        "sent: 3 bytes: 00 ff 2a",
        "received: 3 bytes: 00 ff 2a",
        "sent: 0 bytes",
        "received: 0 bytes",
        "note: not sent: hex needs pairs of the digits 0-9 and a-f",
        'note: closed by this page with 4000 "done"',
        "note: connected",
    ]


async def test_page_shows_the_time_of_each_message(tmp_path: Path) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=1)  # the browser counts milliseconds
    async with visit(tmp_path) as page:
        times = await page.evaluate("""
            (async () => {
              await state("open");
              enter("text", "hello");
              await lines(3);
              return Array.from(page("log").children, (line) => {
                const time = line.querySelector("time");
                const moment = new Date(time.dateTime);
                return [time.textContent, time.dateTime, moment.toLocaleTimeString("en-GB")];
              });
            })()
        """)
    assert len(times) == 3
    for text, moment, local in times:
        assert text == local
        assert begun <= datetime.fromisoformat(moment) <= datetime.now(UTC)


LONG = "ab" * 1500
LINES = "\n".join(f"line {number}" for number in range(20))
PAIRS = "x" + "🌍" * 300  # the cut must not fall inside a surrogate pair


@pytest.mark.parametrize(
    ("send", "cut", "label", "whole"),
    [
        (f"enter('text', {LONG!r})", "ab" * 200 + "…", "Show all 3,000 characters", LONG),
        (f"enter('text', {LINES!r})", LINES[: LINES.index("\nline 8")] + "…", "Show all 149 characters", LINES),
        (f"enter('text', {PAIRS!r})", "x" + "🌍" * 199 + "…", "Show all 601 characters", PAIRS),
        (
            "sendFile(new Uint8Array(300000).fill(10))",
            " ".join(["0a"] * 64) + " …",
            "Show all 300,000 bytes",
            " ".join(["0a"] * 300_000),
        ),
    ],
    ids=["characters", "lines", "surrogate pairs", "bytes"],
)
async def test_page_cuts_long_messages_and_shows_all_of_them_on_request(
    tmp_path: Path, send: str, cut: str, label: str, whole: str
) -> None:
    async with visit(tmp_path) as page:
        seen = await page.evaluate(f"""
            (async () => {{
              await state("open");
              {send};
              await lines(3);
              const seen = [];
              for (const line of Array.from(page("log").children).slice(1)) {{
                const button = line.querySelector("button");
                const look = () => seen.push([shown(line), button.textContent, button.ariaExpanded]);
                look();
                button.click();
                look();
                button.click();
                look();
              }}
              return seen;
            }})()
        """)
    states = [[cut, label, "false"], [whole, "Show less", "true"], [cut, label, "false"]]
    assert seen == states * 2  # for the message sent, and for its echo


async def test_page_shows_a_message_whole_up_to_the_limit(tmp_path: Path) -> None:
    async with visit(tmp_path) as page:
        buttons = await page.evaluate("""
            (async () => {
              await state("open");
              enter("text", "x".repeat(400));
              enter("text", Array(8).fill("line").join("\\n"));
              sendFile(new Uint8Array(64));
              await lines(7);
              return page("log").querySelectorAll("button").length;
            })()
        """)
    assert buttons == 0


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_page_fits_the_screen_with_each_form_in_one_row(tmp_path: Path, width: int) -> None:
    async with visit(tmp_path) as page:
        await page.resize(width, 844)
        rows: list[Any] = await page.evaluate("""
            (async () => {
              await state("open");
              enter("text", "x".repeat(3000));
              sendFile(new Uint8Array(3000));
              await lines(5);
              page("close").click();
              await state("closed");
              await lines(6);
              for (const button of page("log").querySelectorAll("button")) button.click();
              const top = (element) => element.getBoundingClientRect().top;
              const height = (element) => element.getBoundingClientRect().height;
              return [
                document.documentElement.scrollWidth,
                page("log").scrollWidth - page("log").clientWidth,
                document.documentElement.scrollHeight - innerHeight,
                ...Array.from(document.forms, (form) => {
                  const controls = [...form.querySelectorAll("textarea, input, button")];
                  return new Set(controls.map((control) => Math.round(top(control) + height(control) / 2))).size;
                }),
                Math.round(top(page("reconnect")) + height(page("reconnect")) / 2)
                  - Math.round(top(page("state")) + height(page("state")) / 2),
              ];
            })()
        """)
    assert rows == [width, 0, 0, 1, 1, 1, 1, 0]
