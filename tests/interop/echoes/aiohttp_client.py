"""aiohttp's `ClientSession.ws_connect`. Compression is on with the window bits that it offers."""

from aiohttp import ClientSession, WSMsgType

from interop.echoes.common import MAX_MESSAGE_SIZE, Arguments, client_parser, go_through_cases


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
    go_through_cases(echo, client_parser().parse_args(namespace=Arguments()))
