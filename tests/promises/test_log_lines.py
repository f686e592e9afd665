"""Peers cannot forge lines in the log."""

import asyncio
import logging

import pytest
from websockets.asyncio.client import connect

from streamws import Client, Close, WebSocketServer


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("bye", "bye"), ("añadió", "añadió"), ("a\nINFO b", r"a\nINFO b"), ("\x1b[2J\u2028", r"\x1b[2J\u2028")],
)
def test_close_shows_its_reason_in_one_printable_line(reason: str, shown: str) -> None:
    assert str(Close(1000, reason)) == f'1000 "{shown}"'


async def test_server_logs_the_end_in_one_line_whatever_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamws")

    async def handler(client: Client) -> None:
        await client.wait_closed()

    socket = WebSocketServer("127.0.0.1", 0, handler=handler)
    async with asyncio.timeout(10), socket:
        url = f"ws://127.0.0.1:{socket.sockets[0].getsockname()[1]}"
        async with connect(url, proxy=None) as peer:
            await peer.close(1000, "bye\nINFO all is well")
    assert "\n" not in "".join(record.getMessage() for record in caplog.records)
