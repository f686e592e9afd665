"""Checks of what applications pass to topics."""

from inspect import CO_COROUTINE

from ..codes import is_sendable
from .values import Position


def is_broker(value: object) -> bool:
    """Return whether a value looks like a `Broker`."""
    return not isinstance(value, type) and callable(getattr(value, "read_history", None))


def is_codec(value: object) -> bool:
    """Return whether a value looks like a `Codec`."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in ("text", "encode", "decode"))


def check_function(name: str, value: object) -> None:
    """Check that a value is a function that is not a coroutine function, or None."""
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r}")
    if getattr(getattr(value, "__code__", None), "co_flags", 0) & CO_COROUTINE:
        raise TypeError(f"{name} must be a function that returns at once: write `def`, not `async def`")


def check_since(since: object) -> None:
    """Check that a value is a position, or None."""
    if since is None:
        return
    epoch: object
    offset: object
    epoch, offset = since if isinstance(since, Position) else (None, None)
    if not (isinstance(epoch, str) and isinstance(offset, int)):
        raise TypeError(f"since must be a Position, not {since!r}: write Position(epoch, offset), of str and int")


def check_backlog(backlog: object) -> None:
    """Check that a value is a number of bytes, and not 0."""
    if not isinstance(backlog, int):
        raise TypeError(f"backlog must be int, a number of bytes, not {backlog!r}")
    if backlog < 1:
        raise ValueError(f"backlog must be at least 1 byte, not {backlog!r}")


def check_slow_code(code: object) -> None:
    """Check that a value is a code for a Close frame."""
    if not (isinstance(code, int) and is_sendable(code)):
        raise ValueError(f"slow_code must be a close code that may be sent, such as 1013 or 4000, not {code!r}")


def check_limit(limit: object) -> None:
    """Check that a value is a number of publications, or None."""
    if limit is not None and not (isinstance(limit, int) and limit >= 0):
        raise ValueError(f"limit must be a number of publications, or None for all, not {limit!r}")


def check_text(name: str, value: object) -> None:
    """Check that a value is `str`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
