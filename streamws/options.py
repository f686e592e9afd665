"""Every knob, with its default and unit: one class a subject. All are frozen; `attrs.evolve` changes one."""

from typing import Any

import attrs

KiB = 1024
MiB = 1024 * KiB

ITEM_OVERHEAD = 64
"""Bytes that each unread message or fragment counts on top of its payload against the marks; and the least that
fragments count on average against `max_message_size`. So tiny and empty ones are bounded too."""


def _count(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, not {value!r}")


def _count_or_none(instance: object, attribute: "attrs.Attribute[Any]", value: int | None) -> None:
    if value is not None:
        _count(instance, attribute, value)


def _seconds_or_none(instance: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{attribute.name} must be a number of seconds or None, not {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{attribute.name} must be above 0 seconds, not {value!r}; None switches it off")


@attrs.frozen(kw_only=True)
class Limits:
    """How much of what a connection may hold. Sizes are in bytes."""

    max_message_size: int = attrs.field(default=MiB, validator=_count)
    """The largest message that is read as a whole (`async for`, `read_message`, `get`) or as a whole frame
    (`read_frame`). Its fragments count 64 bytes each at least, on average. A larger one closes the
    connection with 1009."""

    max_stream_size: int | None = attrs.field(default=None, validator=_count_or_none)
    """The largest message that a `MessageReader` streams; None for no limit. A larger one closes with 1009."""

    read_high: int = attrs.field(default=256 * KiB, validator=_count)
    """Received and unread bytes above which reading from the network pauses."""

    read_low: int = attrs.field(default=64 * KiB, validator=_count)
    """Received and unread bytes at which reading goes on."""

    write_high: int = attrs.field(default=64 * KiB, validator=_count)
    """Bytes sent and not yet taken by the network above which `send` waits."""

    write_low: int = attrs.field(default=16 * KiB, validator=_count)
    """Bytes sent and not yet taken by the network at which waiting senders go on."""

    max_write_backlog: int = attrs.field(default=16 * MiB, validator=_count)
    """A peer that has left more than this many bytes untaken when a further message is sent to it is too slow:
    the connection closes with 1008."""

    max_control_backlog: int = attrs.field(default=1000, validator=_count)
    """Pings received while the peer takes nothing off the network, and pings and pongs whose callbacks have not run;
    one more closes the connection with 1008."""

    max_skip: int = attrs.field(default=4 * MiB, validator=_count)
    """Bytes of a message left early that are passed over; past it the connection closes with 1008. Also those that no
    one reads of compressed messages, where later ones refer to them (`Compression.peer_takeover`)."""

    max_request_line: int = attrs.field(default=8 * KiB, validator=_count)
    """The longest request line; 414 past it."""

    max_header_line: int = attrs.field(default=8 * KiB, validator=_count)
    """The longest header line; 431 past it."""

    max_headers: int = attrs.field(default=128, validator=_count)
    """The most header lines; 431 past it."""

    max_head: int = attrs.field(default=64 * KiB, validator=_count)
    """The longest HTTP head in all; 431 past it. These limits of the head hold for a server's answer too:
    `InvalidHandshake` past them."""

    max_clients: int | None = attrs.field(default=None, validator=_count_or_none)
    """The most connections a server holds at once; further ones are answered 503. None for no limit."""

    def __attrs_post_init__(self) -> None:
        if self.read_low > self.read_high:
            raise ValueError(f"read_low ({self.read_low}) must not be above read_high ({self.read_high})")
        if self.write_low > self.write_high:
            raise ValueError(f"write_low ({self.write_low}) must not be above write_high ({self.write_high})")


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long what may take, in seconds; None switches a deadline off."""

    open: float | None = attrs.field(default=10.0, validator=_seconds_or_none)
    """From the accepted connection to the answered handshake, TLS included; 408 past it. For `connect`, all of an
    attempt: names, proxies, TLS, redirects and the answer; `ConnectTimeout` past it."""

    close: float | None = attrs.field(default=10.0, validator=_seconds_or_none)
    """For the closing handshake; past it the connection is dropped."""

    ping_interval: float | None = attrs.field(default=20.0, validator=_seconds_or_none)
    """Between keepalive pings."""

    ping_timeout: float | None = attrs.field(default=20.0, validator=_seconds_or_none)
    """For any sign of life after a keepalive ping; past it the connection closes with 1011. It stands still while this
    side has paused reading, and while the ping is behind data that the peer is still taking."""


def _flag(instance: object, attribute: "attrs.Attribute[Any]", value: bool) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be True or False, not {value!r}")


def _from_to(least: int, most: int) -> Any:
    """A validator of numbers in a range."""

    def check(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{attribute.name} must be an int, not {value!r}")
        if not least <= value <= most:
            raise ValueError(f"{attribute.name} must be from {least} to {most}, not {value!r}")

    return check


def _size(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be an int, not {value!r}")
    if value < 0:
        raise ValueError(f"{attribute.name} must be 0 or more, not {value!r}")


@attrs.frozen(kw_only=True)
class Compression:
    """How messages are compressed (permessage-deflate, RFC 7692), if the peer agrees to it.

    As it is, nothing is taken over from message to message: an idle connection then holds no compressor, and a
    broadcast is compressed once for all. Taking over compresses small messages that are like one another much better,
    and costs memory for each connection.
    """

    threshold: int = attrs.field(default=256, validator=_size)
    """Bytes, of text characters, below which a message is sent as it is. One in fragments goes by its first part."""

    text: bool = attrs.field(default=True, validator=_flag)
    """Whether text messages are compressed."""

    binary: bool = attrs.field(default=True, validator=_flag)
    """Whether binary messages are compressed."""

    level: int = attrs.field(default=6, validator=_from_to(0, 9))
    """How hard it tries, 0 (not at all) to 9, on zlib's scale. With the `speed` extra 1 to 6 are the same: ISA-L's
    fast one, which makes of a message about what zlib makes at 6."""

    mem_level: int = attrs.field(default=5, validator=_from_to(1, 9))
    """How much memory zlib's compressor takes beside its window: 2**(mem_level + 9) bytes. ISA-L and zlib-ng take
    what they need."""

    window_bits: int = attrs.field(default=12, validator=_from_to(9, 15))
    """How far what is sent refers back: at most 2**window_bits bytes. zlib's compressor holds four times as many, the
    peer's decompressor as many."""

    peer_window_bits: int = attrs.field(default=12, validator=_from_to(9, 15))
    """The same of what is received, as far as the peer agrees."""

    takeover: bool = attrs.field(default=False, validator=_flag)
    """Whether messages that are sent refer back to the ones before them: a compressor for each connection, unless it
    has sent nothing for a while (`Timeouts.ping_interval`)."""

    peer_takeover: bool = attrs.field(default=False, validator=_flag)
    """The same of what is received, as far as the peer agrees: of each connection as much is kept as its window is
    large."""


def compression_of(value: Compression | bool | None) -> Compression | None:
    """What a user means by `compression=`."""
    if value is None or isinstance(value, Compression):
        return value
    if not isinstance(value, bool):
        raise TypeError(f"compression must be True, False or a Compression, not {value!r}")
    return Compression() if value else None


def _seconds(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{attribute.name} must be a number of seconds, not {value!r}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{attribute.name} must be 0 seconds or more, not {value!r}")


def _number(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{attribute.name} must be a number, not {value!r}")


def _range(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    numbers = [part for part in value if isinstance(part, (int, float))] if isinstance(value, tuple) else []
    if len(numbers) != 2:
        raise TypeError(f"{attribute.name} must be a tuple of two numbers of seconds, not {value!r}")
    low, high = numbers
    if not 0 <= low <= high < float("inf"):
        raise ValueError(f"{attribute.name} must be the least and the most seconds, not {value!r}")


@attrs.frozen(kw_only=True)
class Backoff:
    """How long `async for client in connect()` waits between attempts, in seconds."""

    first: float = attrs.field(default=0.5, validator=_seconds)
    """Before the second attempt, and before the first one after a stable connection has ended. Also with 0 the later
    waits grow, from 0.25 seconds on."""

    factor: float = attrs.field(default=2.0, validator=_number)
    """By how much each wait is longer than the one before; at least 1."""

    most: float = attrs.field(default=60.0, validator=_seconds)
    """The longest wait."""

    jitter: float = attrs.field(default=0.5, validator=_number)
    """The share of each wait that is random, 0 to 1, so that many clients do not come back together."""

    stable: float = attrs.field(default=10.0, validator=_seconds)
    """How long a connection must have been open for the waits to begin anew."""

    restart: tuple[float, float] = attrs.field(default=(5.0, 30.0), validator=_range)
    """The least and the most after a server closed with 1012 or 1013; in between it is random."""

    max_retry_after: float = attrs.field(default=600.0, validator=_seconds)
    """The longest that a server's `Retry-After` is heeded."""

    max_attempts: int | None = attrs.field(default=None, validator=_count_or_none)
    """Failures since the last stable connection after which it gives up; None to go on for ever. A connection that
    ended badly before it was stable is one."""

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor must be at least 1, not {self.factor!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {self.jitter!r}")
        if self.first > self.most:
            raise ValueError(f"first ({self.first}) must not be above most ({self.most})")
