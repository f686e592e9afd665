"""Addresses of sockets, as the application and the log show them."""

import socket
from typing import Any


def is_tcp(sock: socket.socket) -> bool:
    """Return whether a socket is a TCP socket, not a Unix socket."""
    return sock.family in (socket.AF_INET, socket.AF_INET6)


def peer_name(transport: Any) -> str:
    """Return the peer's address, for a log line."""
    name = transport.get_extra_info("peername")
    return address_text(name) if isinstance(name, tuple) else name or "a peer"


def peer_address(transport: Any, number: int) -> tuple[str, int]:
    """Return the host and port of a connection's peer; for a Unix socket its path, and `number` instead of a port.

    :param transport: the connection's transport, which may be closed; None if it is not known.
    """
    if transport is None:
        return "", number
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple) and len(peer) >= 2:
        return str(peer[0]), int(peer[1])
    path = peer or transport.get_extra_info("sockname")  # on the server's side, only this side has a path
    return address_text(path) if path else "", number


def address_text(name: Any) -> str:
    """Return the name of a socket as "host:port", or as the path of a Unix socket; "@" begins an abstract name."""
    if isinstance(name, bytes):
        return name.decode(errors="replace").replace("\0", "@")
    if not isinstance(name, tuple):
        return str(name)
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
