"""aiohttp's `web.WebSocketResponse`."""

import asyncio

from aiohttp import WSMsgType, web

from benchmarks.servers.common import BROADCAST, HOST, MAX_MESSAGE_SIZE, TRANSFER, Arguments, run

clients: set[web.WebSocketResponse] = set()


async def opened(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE_SIZE)
    await response.prepare(request)
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    response = await opened(request)
    async for message in response:
        if message.type is WSMsgType.BINARY:
            await response.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await response.send_str(message.data)
    return response


async def broadcast_on_command(request: web.Request) -> web.WebSocketResponse:
    response = await opened(request)
    clients.add(response)
    try:
        async for message in response:
            for _ in range(int(message.data)):
                for client in list(clients):
                    await client.send_bytes(BROADCAST)
                await asyncio.sleep(0)
    finally:
        clients.discard(response)
    return response


async def upload(request: web.Request) -> web.WebSocketResponse:
    response = await opened(request)
    received = 0
    async for message in response:
        if message.type is WSMsgType.BINARY:
            received += len(message.data)
        elif message.type is WSMsgType.TEXT:
            await response.send_str(str(received))
            received = 0
    return response


async def download(request: web.Request) -> web.WebSocketResponse:
    response = await opened(request)
    async for message in response:
        for _ in range(int(message.data) // len(TRANSFER)):
            await response.send_bytes(TRANSFER)
    return response


HANDLERS = {"echo": echo, "broadcast": broadcast_on_command, "upload": upload, "download": download}


async def start(arguments: Arguments) -> int:
    application = web.Application()
    application.router.add_get("/", HANDLERS[arguments.handler])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, arguments.port)
    await site.start()
    port: int = runner.addresses[0][1]
    return port


if __name__ == "__main__":
    run(start)
