"""The page of `python -m streamws echo`, in headless Chromium."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from helpers.processes import python_environment, running
from interop.peers.browser import Page, chromium

# Clicks and types like a person, and waits for what a person would see.
HANDS = r"""
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
"""
TALK = """
(async () => {
  await state("open");
  enter("text", "grüß dich, 🌍 <b>");
  await lines(3);
  enter("hex", "00 ff 2a");
  await lines(5);
  enter("hex", "0x");
  await lines(6);
  const file = new DataTransfer();
  file.items.add(new File([new Uint8Array(300000)], "zeros"));
  page("file").files = file.files;
  page("file").form.requestSubmit();
  await lines(8);
  page("code").value = 4000;
  enter("reason", "done");
  await state("closed");
  await lines(9);
  page("reconnect").click();
  await state("open");
  return Array.from(page("log").children, (line) => line.dataset.kind + ": " + line.lastChild.textContent);
})()
"""


@asynccontextmanager
async def visit(folder: Path) -> AsyncIterator[Page]:
    # -P: import the streamws under test, not one in the working directory.
    command = [sys.executable, "-P", "-m", "streamws", "echo", "--host", "127.0.0.1", "--port", "0"]
    async with running(*command, environment=python_environment()) as process:
        assert process.stdout is not None
        url = None
        async with asyncio.timeout(20):
            while url is None and (line := await process.stdout.readline()):
                url = re.search(r"http://\S+", line.decode())
        assert url is not None, "the server did not say where it is"
        async with chromium(url[0], folder) as page:
            yield page


async def test_page_sends_receives_and_closes(tmp_path: Path) -> None:
    async with visit(tmp_path) as page:
        await page.evaluate(HANDS)
        lines = await page.evaluate(TALK)
        assert page.complaints == []

    zeros = "300000 bytes: " + " ".join(["00"] * 512) + " \u2026"
    assert lines[:9] == [
        "note: connected",
        "sent: grüß dich, 🌍 <b>",
        "received: grüß dich, 🌍 <b>",
        "sent: 3 bytes: 00 ff 2a",
        "received: 3 bytes: 00 ff 2a",
        "note: not hex: write pairs of the digits 0-9 and a-f",
        f"sent: {zeros}",
        f"received: {zeros}",
        "note: closed with 4000",
    ]
    assert lines[9:] == ["note: connected"]
