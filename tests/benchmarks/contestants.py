"""The libraries that are measured, by name: the scripts of each, and their options."""

from typing import Literal

from benchmarks.deflate import Settings

Role = Literal["server", "client"]
LOOPS = ("uvloop", "asyncio")
REFERENCES = ("picows", "picows-iter")
"""What the others are compared with: the first of these that was measured. picows' core has no compression."""

_SCRIPTS: dict[str, list[str]] = {
    "streamws": ["streamws"],
    "streamws-speed": ["streamws"],
    "streamws-pure": ["streamws", "--pure"],
    "picows": ["picows"],
    "picows-iter": ["picows_iter"],
    "aiohttp": ["aiohttp"],
    "websockets": ["websockets"],
}
_WITH_ZLIB_NG: dict[str, list[str]] = {
    "picows-iter-ng": ["picows_iter", "--zlib-ng"],
    "aiohttp-ng": ["aiohttp", "--zlib-ng"],
    "websockets-ng": ["websockets", "--zlib-ng"],
}
SERVERS = tuple(_SCRIPTS)
OTHERS = tuple(_WITH_ZLIB_NG)
"""Measured when they are asked for, in the cases with compression."""


def streams(server: str) -> bool:
    """Whether a server takes and sends parts of a frame, so that a message of any size may come in one."""
    return server.startswith("streamws")


def command(server: str, loop: str, role: Role, settings: Settings | None = None) -> list[str] | None:
    """How to start a library's server or client on a loop; None where the pair makes no sense.

    `streamws` and `streamws-pure` go without aiofastnet's transports and without zlib-ng, and `streamws-speed` is
    streamws with them: servers use the former on asyncio only, and the latter where they compress. picows' core has no
    compression.
    """
    name, *options = (_SCRIPTS | _WITH_ZLIB_NG)[server]
    script = [f"{role}s/{name}_{role}.py", *options]
    if settings is not None:
        script += ["--deflate", str(settings)]
        if server == "picows":
            return None
    elif server in _WITH_ZLIB_NG:
        return None
    if server == "streamws-speed":
        return script if loop == "asyncio" or role == "client" or settings is not None else None
    if server.startswith("streamws"):
        return [*script, "--no-speed"]
    return script
