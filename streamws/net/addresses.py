"""Addresses for people: in log lines and errors."""

from typing import Any


def peer_name(transport: Any) -> str:
    """The peer's address, for a log line."""
    name = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else name or "a peer"
