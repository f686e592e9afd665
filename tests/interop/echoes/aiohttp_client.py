"""The client of aiohttp, `ClientSession.ws_connect`. The argument `compress`, its window bits, turns compression on."""

from aiohttp import ClientSession, WSMsgType

from interop.echoes.common import MAX_MESSAGE_SIZE, Arguments, client_parser, run_cases


async def echo(url: str) -> None:
    async with (
        ClientSession() as session,
        session.ws_connect(url, compress=15, max_msg_size=MAX_MESSAGE_SIZE) as connection,
    ):
        async for message in connection:
            if message.type is WSMsgType.BINARY:
                await connection.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await connection.send_str(message.data)


if __name__ == "__main__":
    run_cases(echo, client_parser().parse_args(namespace=Arguments()))
