"""Non-blocking system calls on a socket's descriptor, in plain Python.

`sockets.pyx` is the same in C: the same names, results and exceptions.
"""

import os


def send_now(descriptor: int, data: bytes) -> int:
    """Hand bytes to a socket that does not block; returns how many it took, 0 also for an error."""
    try:
        return os.write(descriptor, data)
    except OSError:
        return 0


def send_parts_now(descriptor: int, parts: list[bytes]) -> int:
    """The same for several pieces at once, of which it takes the first 64 at most."""
    try:
        return os.writev(descriptor, parts[:64])
    except OSError:
        return 0


def receive_now(descriptor: int, buffer: memoryview) -> int:
    """Fill a buffer from a socket that does not block; returns how many bytes came: 0 at the end, -1 for none yet.

    :raises OSError: if the connection is broken.
    """
    try:
        return os.readv(descriptor, [buffer])
    except (BlockingIOError, InterruptedError):
        return -1
