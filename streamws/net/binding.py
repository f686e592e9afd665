"""Sockets to listen on: TCP addresses and Unix paths."""

import errno
import os
import socket
import stat
import sys
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from contextlib import suppress

_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]

_PORT_ATTEMPTS = 20
"""How often to try another free port, if the one chosen for the first address is in use on another address."""


async def bind_tcp(
    loop: AbstractEventLoop, hosts: str | Sequence[str] | None, port: int, *, reuse_port: bool | None
) -> list[socket.socket]:
    """Return bound sockets for all addresses of the hosts.

    :param hosts: one or several names or addresses; "" or None for all interfaces.
    :param port: 0 for a free port, which is the same for all addresses.
    :param reuse_port: whether other sockets may be bound to the same address and port (SO_REUSEPORT).
    :raises OSError: if a name is unknown or an address is not available.
    """
    names = [hosts] if hosts is None or isinstance(hosts, str) else list(hosts)
    addresses: list[_Address] = []
    for name in names:
        found = await loop.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses += [(family, address) for family, _, _, _, address in found]
    addresses = list(dict.fromkeys(addresses))
    for attempt in range(_PORT_ATTEMPTS):
        try:
            return _bind_all(addresses, port, reuse_port, names)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE or attempt == _PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _bind_all(
    addresses: Sequence[_Address], port: int, reuse_port: bool | None, required: Sequence[str | None]
) -> list[socket.socket]:
    """Bind a socket to each address. If the port is 0, all get the port that the first one got.

    :param required: the addresses that must be available; others may be of a family that the system does not use.
    """
    sockets: list[socket.socket] = []
    unavailable: OSError | None = None
    try:
        for family, address in addresses:
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # this system lacks IPv6, for example
                if address[0] in required:
                    raise
                unavailable = error
                continue
            sockets.append(sock)
            try:
                _bind(sock, address, port, reuse_port)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or address[0] in required:
                    raise
                # IPv6 is there, but switched off.
                unavailable = error
                sockets.pop().close()
                continue
            port = port or sock.getsockname()[1]
        if not sockets:
            raise unavailable or OSError("the host name has no address")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(sock: socket.socket, address: tuple[object, ...], port: int, reuse_port: bool | None) -> None:
    if sys.platform != "win32":  # there it would let two servers share a port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError("reuse_port is not supported on this system")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        # IPv4 has sockets of its own.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address[0], port, *address[2:]))


def bind_unix(path: str, mode: int | None) -> socket.socket:
    """Return a socket that is bound to a path. A file that a server has left there is replaced.

    :param path: a path, or an abstract name (Linux), which begins with a NUL character.
    :param mode: the permissions of the file; None for those that the umask gives.
    :raises OSError: if a server listens there, or the file is not a socket, or the path is not available.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            sock.bind(path)
        if mode is not None:
            os.chmod(path, mode)  # nobody can connect before the socket listens
    except BaseException:
        sock.close()
        raise
    return sock


def is_abstract(path: str) -> bool:
    """Return whether the name of a Unix socket is abstract: it is not a file."""
    return path.startswith("\0")


def shown_path(path: str) -> str:
    """Return a path as messages show it: an abstract name with "@" for its NUL character, as other programs do."""
    return path.replace("\0", "@")


def _remove_stale(path: str) -> None:
    """Remove the file of a Unix socket on which nobody listens.

    :raises OSError: if a server listens there, or the file is not a socket.
    """
    if is_abstract(path):
        raise OSError(errno.EADDRINUSE, "a server is listening there")
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EADDRINUSE, "the file is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a server with a full backlog would keep the caller waiting
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
            except BlockingIOError:
                pass
        raise OSError(errno.EADDRINUSE, "a server is listening there")


def file_number(path: str) -> int | None:
    """Return the inode of the file of a Unix socket; None for an abstract name."""
    return None if is_abstract(path) else os.stat(path).st_ino


def remove_file(path: str, number: int | None) -> None:
    """Remove the file of a Unix socket, unless another server has replaced it since.

    :param number: what `file_number` returned for it.
    """
    with suppress(FileNotFoundError):
        if number is not None and os.stat(path).st_ino == number:
            os.unlink(path)
