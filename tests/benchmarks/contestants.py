"""The libraries that are measured, by name: the scripts of each, and their options."""

from typing import Literal

Role = Literal["server", "client"]
LOOPS = ("uvloop", "asyncio")
REFERENCE = "picows"

_SCRIPTS: dict[str, list[str]] = {
    "streamws": ["streamws"],
    "streamws-speed": ["streamws"],
    "streamws-pure": ["streamws", "--pure"],
    "picows": ["picows"],
    "picows-iter": ["picows_iter"],
    "aiohttp": ["aiohttp"],
    "websockets": ["websockets"],
}
SERVERS = tuple(_SCRIPTS)


def streams(server: str) -> bool:
    """Whether a server takes and sends parts of a frame, so that a message of any size may come in one."""
    return server.startswith("streamws")


def command(server: str, loop: str, role: Role) -> list[str] | None:
    """How to start a library's server or client on a loop; None where the pair makes no sense.

    `streamws` and `streamws-pure` go without aiofastnet's transports, and `streamws-speed` is streamws with them, which
    servers use on asyncio only.
    """
    name, *options = _SCRIPTS[server]
    script = [f"{role}s/{name}_{role}.py", *options]
    if server == "streamws-speed":
        return script if loop == "asyncio" or role == "client" else None
    if server.startswith("streamws"):
        return [*script, "--no-speed"]
    return script
