"""Broadcasting to a collection that changes meanwhile."""

import asyncio

from websockets.asyncio.client import connect

from streamws import Client, Limits, WebSocketServer


async def test_server_broadcasts_to_a_view_that_a_client_leaves_meanwhile() -> None:
    room: dict[int, Client] = {}
    loop = asyncio.get_running_loop()
    left: asyncio.Future[None] = loop.create_future()

    async def handler(client: Client) -> None:
        room[client.id] = client
        try:
            async for _ in client:
                pass
        finally:
            del room[client.id]

    socket = WebSocketServer("127.0.0.1", 0, handler=handler, limits=Limits(max_write_backlog=100_000))

    def tell() -> None:  # outside any task, where a failing connection resumes its reader at once
        before = len(room)
        try:
            socket.broadcast(bytes(1_000_000), to=room.values())
        except RuntimeError as error:
            left.set_exception(error)
            return
        # On a busy machine, the other client may be too slow as well and leave at the same time.
        if len(room) < before:
            left.set_result(None)
        else:
            loop.call_soon(tell)

    async with asyncio.timeout(10), socket:
        url = f"ws://127.0.0.1:{socket.sockets[0].getsockname()[1]}"
        async with connect(url, proxy=None) as slow, connect(url, proxy=None, max_size=None) as other:
            for peer in (slow, other):
                await (await peer.ping())
            slow.transport.pause_reading()
            loop.call_soon(tell)
            try:
                await left
            finally:
                slow.transport.resume_reading()
