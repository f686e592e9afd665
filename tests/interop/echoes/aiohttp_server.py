"""The server of aiohttp, `web.WebSocketResponse`. Compression is on by default."""

from aiohttp import WSMsgType, web

from interop.echoes import common


async def echo(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse(compress=True, max_msg_size=common.MAX_MESSAGE_SIZE)
    await response.prepare(request)
    async for message in response:
        if message.type is WSMsgType.BINARY:
            await response.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await response.send_str(message.data)
    return response


async def start() -> int:
    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, common.HOST, 0).start()
    port: int = runner.addresses[0][1]
    return port


if __name__ == "__main__":
    common.serve(start)
