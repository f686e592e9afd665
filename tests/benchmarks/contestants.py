"""The servers that are measured, by name: the script of each and its options."""

LOOPS = ("uvloop", "asyncio")
REFERENCE = "picows"

_SCRIPTS: dict[str, list[str]] = {
    "streamws": ["streamws_server.py"],
    "streamws-speed": ["streamws_server.py"],
    "streamws-pure": ["streamws_server.py", "--pure"],
    "picows": ["picows_server.py"],
    "picows-iter": ["picows_iter_server.py"],
    "aiohttp": ["aiohttp_server.py"],
    "websockets": ["websockets_server.py"],
}
SERVERS = tuple(_SCRIPTS)


def streams(server: str) -> bool:
    """Whether a server takes and sends parts of a frame, so that a message of any size may come in one."""
    return server.startswith("streamws")


def command(server: str, loop: str) -> list[str] | None:
    """How to start a server on a loop; None where the pair makes no sense.

    On uvloop, streamws does what it does by default. On asyncio, `streamws` and `streamws-pure` go without
    aiofastnet's transports, and `streamws-speed` is streamws with them.
    """
    script = _SCRIPTS[server]
    if server == "streamws-speed":
        return script if loop == "asyncio" else None
    if server.startswith("streamws") and loop == "asyncio":
        return [*script, "--no-speed"]
    return script
