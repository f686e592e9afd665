"""picows' async-iterator interface, `picows.websockets`.

Two variants were measured and not chosen: a loop over `recv()` costs the same for small messages and twice as much for
messages of 64 KiB, and a longer queue (`max_queue`) makes no difference.

picows-iter compresses with level 6 and memory level 8. It has no settings for them, nor for its response: it answers
every offer with windows of 15 bits and context takeover. For cases with other settings, `prepare_zlib` changes the
functions that it imports from `zlib`, and `process_response` changes the parameters in its response, which it applies.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from zlib_ng import zlib_ng

from benchmarks.deflate import Settings
from benchmarks.servers.common import Arguments, run
from benchmarks.servers.iterating import start_serving

if TYPE_CHECKING:
    from picows.websockets import Request, Response


def prepare_zlib(settings: Settings, use_zlib_ng: bool) -> None:
    """Replace the functions of `zlib` that picows imports. Call it before the import of `picows.websockets`."""
    codec: Any = zlib_ng if use_zlib_ng else zlib
    compressobj, decompressobj = codec.compressobj, codec.decompressobj
    if settings.window_bits is not None:
        compressobj = partial(compressobj, level=settings.level, memLevel=settings.mem_level)
    zlib.compressobj, zlib.decompressobj = compressobj, decompressobj


def compression(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `serve` for these settings."""

    def accept_parameters(connection: object, request: Request, response: Response) -> Response:
        response.headers["Sec-WebSocket-Extensions"] = settings.parameters
        return response

    return {"process_response": accept_parameters}


async def start(arguments: Arguments) -> int:
    if arguments.deflate is not None:
        prepare_zlib(arguments.deflate, arguments.zlib_ng)
    # Not at the top, because it imports the functions that `prepare_zlib` replaces.
    from picows.websockets import broadcast, serve

    return await start_serving(arguments, serve, broadcast, compression)


if __name__ == "__main__":
    run(start)
