"""System calls on a non-blocking socket, in plain Python.

`sockets.pyx` is the same in C: the same names, results and exceptions.
"""

import os
from collections.abc import Sequence

_MAX_PARTS = 1024
"""The most parts that one system call writes (`IOV_MAX`)."""


def send_now(descriptor: int, data: bytes) -> int:
    """Write bytes to a socket.

    :returns: the number of bytes written; 0 if the socket accepts none now.
    :raises OSError: if the connection is broken.
    """
    try:
        return os.write(descriptor, data)
    except (BlockingIOError, InterruptedError):
        return 0


def send_parts_now(descriptor: int, parts: Sequence[bytes | memoryview], first: int, start: int) -> int:
    """Write several parts in as few system calls as possible, up to a few hundred KiB; otherwise like `send_now`.

    :param parts: a list of `bytes`, or of views of single bytes.
    :param first: the index of the first part to write.
    :param start: the number of bytes of this part to leave out.
    """
    try:
        return os.writev(descriptor, [memoryview(parts[first])[start:], *parts[first + 1 : first + _MAX_PARTS]])
    except (BlockingIOError, InterruptedError):
        return 0


def receive_now(descriptor: int, buffer: memoryview) -> int:
    """Read from a socket into a buffer.

    :returns: the number of bytes read; 0 at the end of the stream, -1 if there is nothing to read now.
    :raises OSError: if the connection is broken.
    """
    try:
        return os.readv(descriptor, [buffer])
    except (BlockingIOError, InterruptedError):
        return -1
