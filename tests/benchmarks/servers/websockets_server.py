"""The asyncio server of websockets."""

from typing import Any

from websockets.asyncio.server import broadcast, serve
from websockets.extensions import permessage_deflate
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from zlib_ng import zlib_ng

from benchmarks.deflate import Settings
from benchmarks.servers.common import Arguments, run
from benchmarks.servers.iterating import start_serving


def compression(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `serve` for these settings; the defaults are 12 window bits, memory level 5, level 6."""
    factory = ServerPerMessageDeflateFactory(
        server_no_context_takeover=not settings.takeover,
        client_no_context_takeover=not settings.takeover,
        server_max_window_bits=settings.window_bits,
        client_max_window_bits=settings.window_bits,
        compress_settings={"level": settings.level, "memLevel": settings.mem_level},
    )
    return {"compression": None, "extensions": [factory]}


async def start(arguments: Arguments) -> int:
    if arguments.zlib_ng:
        vars(permessage_deflate)["zlib"] = zlib_ng
    return await start_serving(arguments, serve, broadcast, compression)


if __name__ == "__main__":
    run(start)
