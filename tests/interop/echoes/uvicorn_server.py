"""An ASGI application under uvicorn, with our class: the installed build, or the pure build (`--pure`)."""

import argparse
from typing import Any

from interop.echoes.common import HOST, MAX_MESSAGE_SIZE, serve


class Arguments(argparse.Namespace):
    pure: bool


def main(arguments: Arguments) -> None:
    if arguments.pure:
        from helpers.builds import use_pure

        use_pure()
    # Not at the top, because the lines above decide which build is imported.
    import uvicorn

    from helpers.uvicorn_servers import start_server
    from streamws import Compression
    from streamws.asgi.uvicorn import Protocol

    class Compressing(Protocol):
        # Compress every message, with context takeover if the client accepts it.
        compression = Compression(threshold=0, takeover=True, peer_takeover=True)

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({**event, "type": "websocket.send"})

    async def start() -> int:
        config = uvicorn.Config(
            echo,
            HOST,
            0,
            ws=Compressing,
            ws_max_size=MAX_MESSAGE_SIZE,
            ws_ping_interval=None,
            lifespan="off",
            log_level="warning",
        )
        _, port = await start_server(config)
        return port

    serve(start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pure", action="store_true", help="import the .py sources instead of the C modules")
    main(parser.parse_args(namespace=Arguments()))
