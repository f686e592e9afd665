"""The client of aiohttp, `ClientSession.ws_connect`."""

from aiohttp import ClientSession, WSMsgType

from benchmarks.clients.common import Arguments, run
from benchmarks.servers.common import MAX_MESSAGE_SIZE


async def echo(arguments: Arguments) -> None:
    async with (
        ClientSession() as session,
        session.ws_connect(arguments.url, ssl=arguments.context or True, max_msg_size=MAX_MESSAGE_SIZE) as connection,
    ):
        async for message in connection:
            if message.type is WSMsgType.BINARY:
                await connection.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await connection.send_str(message.data)


if __name__ == "__main__":
    run(echo)
