"""System calls on a non-blocking socket, in plain Python.

`sockets.pyx` is the same in C: the same names, results and exceptions.
"""

import os


def send_now(descriptor: int, data: bytes) -> int:
    """Write bytes to a socket.

    :returns: the number of bytes written. After an error it is 0: the transport will get the same error when it writes
        the bytes.
    """
    try:
        return os.write(descriptor, data)
    except OSError:
        return 0


def send_parts_now(descriptor: int, parts: list[bytes]) -> int:
    """Write several parts at once, at most the first 64; otherwise like `send_now`."""
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
