"""System calls on a non-blocking socket, in plain Python.

`sockets.pyx` is the same in C: the same names, results and exceptions.
"""

import os


def send_now(descriptor: int, data: bytes) -> int:
    """Write bytes to a socket.

    :returns: the bytes that it took; 0 also after an error, which shows again when the transport writes.
    """
    try:
        return os.write(descriptor, data)
    except OSError:
        return 0


def send_parts_now(descriptor: int, parts: list[bytes]) -> int:
    """The same for several parts at once, of which at most 64 are written."""
    try:
        return os.writev(descriptor, parts[:64])
    except OSError:
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
