"""Unread data of connections with @socket.connection (ARCHITECTURE.md, Promises, 1)."""

import asyncio
import logging

import pytest
from websockets.asyncio.client import connect

from streamws import Client, Limits, WebSocketServer


async def test_server_discards_unread_data_with_one_warning_per_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    socket = WebSocketServer("127.0.0.1", 0, limits=Limits(read_high=1000, read_low=1000))

    @socket.connection
    def on_connection(client: Client) -> None:
        pass

    async with asyncio.timeout(10), socket:
        port = socket.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", proxy=None) as peer:
            for _ in range(3):
                await peer.send(bytes(2000))
                await (await peer.ping())
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "discarded" in warnings[0]
