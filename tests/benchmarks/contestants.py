"""The libraries under measurement, by name: the scripts of each, with their options."""

from typing import Literal

from benchmarks.deflate import Settings

Role = Literal["server", "client"]
LOOPS = ("uvloop", "asyncio")
REFERENCES = ("picows", "picows-iter", "streamws", "streamws-sync", "uvicorn-websockets-sansio")
"""The library that the others are compared with: the first of these that was measured.

picows' core has no compression, so picows-iter takes its place there. Where neither takes part, several ways of using
streamws are compared with `async for`, topics with streamws without them, the other blocking clients with that of
streamws, and servers of ASGI applications with uvicorn's default.
"""

_SCRIPTS: dict[str, list[str]] = {
    "streamws": ["streamws"],
    "streamws-speed": ["streamws"],
    "streamws-pure": ["streamws", "--pure"],
    "picows": ["picows"],
    "picows-iter": ["picows_iter"],
    "aiohttp": ["aiohttp"],
    "websockets": ["websockets"],
}
_WAYS: dict[str, list[str]] = {
    "streamws-messages": ["streamws", "--way", "messages"],
    "streamws-callback": ["streamws", "--way", "callback"],
}
_TYPED: dict[str, list[str]] = {
    "streamws-json": ["streamws", "--way", "json"],
    "streamws-msgspec-by-hand": ["streamws", "--way", "msgspec-by-hand"],
    "streamws-msgspec": ["streamws", "--way", "msgspec"],
    "streamws-pydantic-by-hand": ["streamws", "--way", "pydantic-by-hand"],
    "streamws-pydantic": ["streamws", "--way", "pydantic"],
}
_TOPICS: dict[str, list[str]] = {"streamws-topics": ["streamws", "--way", "topics"]}
_HIREDIS: dict[str, list[str]] = {"hiredis": ["hiredis"]}
_ENGINES: dict[str, list[str]] = {
    "wse-server": ["wse_engine"],
    "wse-server-cores": ["wse_engine", "--all-cores"],
}
_CHANNELS: dict[str, list[str]] = {
    "litestar-channels": ["channels", "--library", "litestar"],
    "broadcaster": ["channels", "--library", "broadcaster"],
}
_BLOCKING: dict[str, list[str]] = {
    "streamws-sync": ["streamws_sync"],
    "websockets-sync": ["websockets_sync"],
    "websocket-client": ["websocket_client"],
}
_ASGI: dict[str, list[str]] = {
    name: ["asgi", "--way", name]
    for name in (
        "uvicorn-streamws",
        "uvicorn-websockets-sansio",
        "uvicorn-websockets",
        "uvicorn-wsproto",
        "hypercorn",
        "granian",
    )
}
_WITH_ZLIB_NG: dict[str, list[str]] = {
    "picows-iter-ng": ["picows_iter", "--zlib-ng"],
    "aiohttp-ng": ["aiohttp", "--zlib-ng"],
    "websockets-ng": ["websockets", "--zlib-ng"],
}
GENERAL = tuple(_SCRIPTS)
"""The libraries that take part in nearly all cases."""
WAYS = ("streamws", *_WAYS)
"""`async for` and the other ways to read messages with streamws, which the case `callbacks` compares."""
TYPED = ("streamws", *_TYPED)
"""Text as it is, JSON by hand, and typed messages, which the case `typed` compares."""
TOPICS = ("streamws", *_TOPICS)
"""Without topics: `broadcast`, to clients that the application has in a dict; and with topics."""
REDIS = ("hiredis", *TOPICS)
"""What delivers publications at Redis: the least, `broadcast` to clients that the application has in a dict, topics."""
CHANNELS = tuple(_CHANNELS)
"""Libraries with topics, in ASGI applications under uvicorn with its default WebSocket class. The second one has no
history."""
ENGINES = tuple(_ENGINES)
"""Servers that are no libraries for asyncio. They take part where they can do the same as the libraries."""
BLOCKING = tuple(_BLOCKING)
"""Blocking clients, which the cases `sync` and `sync-one` compare."""
ASGI = tuple(_ASGI)
"""Servers of ASGI applications; uvicorn with its WebSocket classes and ours."""
SERVERS = (*_SCRIPTS, *_WAYS, *_TYPED, *_TOPICS, *_HIREDIS, *_CHANNELS, *_ENGINES, *_BLOCKING, *_ASGI)
SERVERS_WITH_ZLIB_NG = tuple(_WITH_ZLIB_NG)
"""Measured only if named, and only in cases with compression."""

_EVERY_SCRIPT = ("streamws", "uvloop")
_PACKAGES: dict[str, tuple[str, ...]] = {
    "streamws-speed": ("isal", "zlib-ng"),
    "picows": ("picows", "aiofastnet"),
    "picows-iter": ("picows", "aiofastnet", "zlib-ng"),
    "aiohttp": ("aiohttp", "zlib-ng"),
    "websockets": ("websockets", "zlib-ng"),
    **dict.fromkeys(_TYPED, ("msgspec", "pydantic")),
    "hiredis": ("hiredis", "redis"),
    "litestar-channels": ("uvicorn", "websockets", "litestar"),
    "broadcaster": ("uvicorn", "websockets", "starlette", "broadcaster"),
    "websockets-sync": ("websockets",),
    "websocket-client": ("websocket-client",),
    **dict.fromkeys(_ASGI, ("uvicorn", "fastapi")),
    "uvicorn-websockets": ("uvicorn", "fastapi", "websockets"),
    "uvicorn-websockets-sansio": ("uvicorn", "fastapi", "websockets"),
    "uvicorn-wsproto": ("uvicorn", "fastapi", "wsproto"),
    "hypercorn": ("hypercorn", "fastapi"),
    "granian": ("granian", "fastapi"),
    "wse-server": ("wse-server",),
    "wse-server-cores": ("wse-server",),
}


def packages(server: str) -> tuple[str, ...]:
    """Return the packages that an interpreter needs for a library, by their names on PyPI."""
    return (*_EVERY_SCRIPT, *_PACKAGES.get(server.removesuffix("-ng"), ()))


def streams(server: str) -> bool:
    """Return whether a server can receive and send a frame piece by piece, so that a frame may have any size."""
    return server.startswith("streamws")


def command(server: str, role: Role, settings: Settings | None = None) -> list[str] | None:
    """Return the command that starts a library's server or client, or None if there is nothing to measure.

    `streamws` and `streamws-pure` run without zlib-ng and isal, and `streamws-speed` runs with them. It is measured
    only with compression: elsewhere it would repeat the measurement of `streamws`. picows' core has no compression.

    :returns: The path of the script in this folder, then its options.
    """
    scripts = _SCRIPTS | _WAYS | _TYPED | _TOPICS | _HIREDIS | _CHANNELS | _ENGINES | _BLOCKING | _ASGI | _WITH_ZLIB_NG
    name, *options = scripts[server]
    script = [f"{role}s/{name}_{role}.py", *options]
    if settings is not None:
        script += ["--deflate", str(settings)]
        if server == "picows":
            return None
    elif server in _WITH_ZLIB_NG:
        return None
    if server == "streamws-speed":
        return None if settings is None else script
    if server.startswith("streamws"):
        return [*script, "--no-speed"]
    return script
