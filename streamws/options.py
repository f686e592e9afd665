"""The options, with defaults and units. All classes are frozen; `attrs.evolve` makes a changed copy."""

from typing import Any, TypeVar

import attrs

KiB = 1024
MiB = 1024 * KiB

_Kind = TypeVar("_Kind", bound=attrs.AttrsInstance)

ITEM_OVERHEAD = 64
"""Bytes added for each unread message or fragment when unread data is counted against `read_high`; also the least that
each fragment counts, on average, against `max_message_size`. This bounds the number of tiny and empty fragments."""


def _positive_int(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, not {value!r}")


def check_positive_int(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
    """Validate an attribute of a class of attrs: an int of at least 1."""
    _positive_int(instance, attribute, value)


def _positive_int_or_none(instance: object, attribute: "attrs.Attribute[Any]", value: int | None) -> None:
    if value is not None:
        _positive_int(instance, attribute, value)


def _positive_seconds_or_none(instance: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None:
        check_seconds(attribute.name, value, "; None disables it")


def check_positive_seconds(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    """Validate an attribute of a class of attrs: a deadline, in seconds."""
    check_seconds(attribute.name, value)


def check_seconds(name: str, value: float, hint: str = "") -> None:
    """Check a deadline, in seconds.

    :param hint: the end of the error text.
    :raises ValueError, TypeError: unless it is a positive number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be more than 0 seconds, not {value!r}{hint}")


def _sixteenth(limits: "Limits") -> int:
    """Return the default of `max_write_backlog`."""
    total: object = limits.max_total_backlog  # not validated yet
    return max(1, total // 16) if isinstance(total, int) else 1


_SIXTEENTH: Any = attrs.Factory(_sixteenth, takes_self=True)


@attrs.frozen(kw_only=True)
class Limits:
    """Caps on what one connection can make this process buffer, in bytes.

    :param max_message_size: the largest message that is read as a whole (`async for`, `read_message`, `get`), and
        the largest frame that is read as a whole (`read_frame`). Each fragment counts at least 64 bytes, on
        average. A larger message or frame closes the connection with 1009.
    :param max_stream_size: the largest message that a `MessageReader` reads in pieces. `None` means no limit. A
        larger message closes the connection with 1009.
    :param read_high: high-water mark for received data: with more unread bytes than this, reading from the network
        pauses. Each unread message or fragment counts 64 bytes more than its payload.
    :param read_low: low-water mark for received data: reading resumes when the unread bytes have fallen to this.
    :param write_high: high-water mark for sent data: with more bytes than this not yet written to the socket,
        `send` waits.
    :param write_low: low-water mark for sent data: waiting senders resume when the bytes not yet written have
        fallen to this.
    :param max_total_backlog: the largest total backlog of all connections of a server together, in bytes. A
        connection counts only while its backlog is over `write_high` and more is sent. If the total is larger, the
        connections with the largest backlogs are dropped until a sixteenth is free; their outcomes have the code
        1008. A broadcast counts only where each connection has its own copy: with TLS, and with transports of the
        event loop. A client does not use this limit.
    :param max_write_backlog: the largest backlog of one connection, in bytes that have not been written to the
        socket; with TLS, encrypted bytes. If the backlog is larger when another message is sent, the peer is too
        slow, and the connection closes with 1008. The default is a sixteenth of `max_total_backlog`: 16 MiB.
    :param max_control_backlog: the most pings received while writing to the peer is paused, and the most pings and
        pongs that wait for their callbacks. One more closes the connection with 1008.
    :param max_skip: the most bytes of one message that are skipped if its reader leaves it early. Skipping more
        closes the connection with 1008. With `Compression.peer_takeover`, messages that nothing reads count as
        well: they must be inflated, because later messages refer back to them.
    :param max_request_line: the longest request line. A longer one is answered with 414.
    :param max_header_line: the longest header line. A longer one is answered with 431.
    :param max_headers: the most header lines. More are answered with 431.
    :param max_head: the longest HTTP head. A longer one is answered with 431. A client applies these four limits to
        the server's response, and raises `InvalidHandshake`.
    :param max_clients: the most connections that a server holds at once. Further ones are answered with 503. `None`
        means no limit.
    :param max_handshakes: the most connections of a server that wait for their client at once: for its TLS
        handshake or its request. While there are so many, further ones wait in the queue of the system, and those
        that have waited for more than a second are dropped.
    :param max_clients_per_address: the most connections that a server holds at once for one remote address
        (`Request.remote`). Further ones are answered with 429. IPv6 addresses count by their network of 64 bits.
        Connections of a Unix socket do not count, unless a trusted proxy has forwarded their addresses. `None`
        means no limit.
    :param max_handshakes_per_address: the most opening handshakes that are under way at once for one remote
        address, from the accepted connection to the response; the time of a `@socket.request` callback counts too.
        Further ones are answered with 429, or dropped if their TLS handshake is not complete. Behind a trusted
        proxy, a handshake counts from its request. Addresses count as for `max_clients_per_address`. `None` means
        no limit.
    """

    max_message_size: int = attrs.field(default=MiB, validator=_positive_int)
    max_stream_size: int | None = attrs.field(default=None, validator=_positive_int_or_none)
    read_high: int = attrs.field(default=256 * KiB, validator=_positive_int)
    read_low: int = attrs.field(default=64 * KiB, validator=_positive_int)
    write_high: int = attrs.field(default=64 * KiB, validator=_positive_int)
    write_low: int = attrs.field(default=16 * KiB, validator=_positive_int)
    max_total_backlog: int = attrs.field(default=256 * MiB, validator=_positive_int)
    max_write_backlog: int = attrs.field(default=_SIXTEENTH, validator=_positive_int)
    max_control_backlog: int = attrs.field(default=1000, validator=_positive_int)
    max_skip: int = attrs.field(default=4 * MiB, validator=_positive_int)
    max_request_line: int = attrs.field(default=8 * KiB, validator=_positive_int)
    max_header_line: int = attrs.field(default=8 * KiB, validator=_positive_int)
    max_headers: int = attrs.field(default=128, validator=_positive_int)
    max_head: int = attrs.field(default=64 * KiB, validator=_positive_int)
    max_clients: int | None = attrs.field(default=None, validator=_positive_int_or_none)
    max_handshakes: int = attrs.field(default=256, validator=_positive_int)
    max_clients_per_address: int | None = attrs.field(default=None, validator=_positive_int_or_none)
    max_handshakes_per_address: int | None = attrs.field(default=None, validator=_positive_int_or_none)

    def __attrs_post_init__(self) -> None:
        if self.read_low > self.read_high:
            raise ValueError(f"read_low ({self.read_low}) must not be above read_high ({self.read_high})")
        if self.write_low > self.write_high:
            raise ValueError(f"write_low ({self.write_low}) must not be above write_high ({self.write_high})")


@attrs.frozen(kw_only=True)
class Timeouts:
    """Timeouts in seconds. `None` disables one.

    :param open: for the opening handshake. A server counts from the accepted connection, TLS included, and then
        answers with 408. `connect` counts a whole attempt (name lookup, proxy, TLS, redirects and the response),
        and then raises `ConnectTimeout`.
    :param close: for the closing handshake. After it, the TCP connection is aborted.
    :param ping_interval: the interval between keepalive pings.
    :param ping_timeout: for an answer to a keepalive ping; any received bytes count as one. After it, the
        connection closes with 1011. The time does not count while this side has paused reading, nor while the ping
        waits behind data that the peer is still receiving. If writing is paused too, and the peer receives nothing
        for this time, the connection closes as well. Time that does not count is measured in quarters of this
        timeout.
    """

    open: float | None = attrs.field(default=10.0, validator=_positive_seconds_or_none)
    close: float | None = attrs.field(default=10.0, validator=_positive_seconds_or_none)
    ping_interval: float | None = attrs.field(default=20.0, validator=_positive_seconds_or_none)
    ping_timeout: float | None = attrs.field(default=20.0, validator=_positive_seconds_or_none)


def _bool(instance: object, attribute: "attrs.Attribute[Any]", value: bool) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be True or False, not {value!r}")


def _int_in_range(least: int, most: int) -> Any:
    """Return a validator of an int from `least` to `most`."""

    def check(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{attribute.name} must be an int, not {value!r}")
        if not least <= value <= most:
            raise ValueError(f"{attribute.name} must be from {least} to {most}, not {value!r}")

    return check


def _int_from_zero(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be an int, not {value!r}")
    if value < 0:
        raise ValueError(f"{attribute.name} must be 0 or more, not {value!r}")


@attrs.frozen(kw_only=True)
class Compression:
    """Settings for compressing messages (permessage-deflate, RFC 7692), if the peer agrees to compression.

    By default each message is compressed by itself: an idle connection holds no compressor, and a broadcast is
    compressed once for all clients. With `takeover`, small messages that resemble each other compress much better, but
    each connection needs memory for it.

    :param threshold: the smallest message to compress, in bytes (characters for text). A fragmented message is
        judged by its first fragment.
    :param text: whether text messages are compressed.
    :param binary: whether binary messages are compressed.
    :param level: the compression level on zlib's scale, from 0 (none) to 9 (smallest result). With the `speed`
        extra, the levels 1 to 6 all use ISA-L's fast level, which compresses about as well as zlib's level 6.
    :param mem_level: the memory of zlib's compressor in addition to its window: 2**(mem_level + 9) bytes. ISA-L and
        zlib-ng choose their memory themselves.
    :param window_bits: the window for sent messages: compressed data refers back at most 2**window_bits bytes.
        zlib's compressor needs four times that memory, the peer's decompressor needs it once.
    :param peer_window_bits: the same for received messages, if the peer agrees.
    :param negotiate_window_bits: whether the opening handshake names the windows of both sides. Set it to False for
        peers that do not support the window parameters: a client then offers none, and a server names its window
        only if the client asks for it. Sent messages still keep to `window_bits`, and received ones may refer back
        32 KiB.
    :param takeover: whether sent messages refer back to earlier ones (context takeover, RFC 7692 section 7.1.1).
        Each connection then holds a compressor, which is freed when nothing was sent for `Timeouts.ping_interval`.
    :param peer_takeover: the same for received messages, if the peer agrees. Each connection then holds as much
        received data as the window is large.
    """

    threshold: int = attrs.field(default=256, validator=_int_from_zero)
    text: bool = attrs.field(default=True, validator=_bool)
    binary: bool = attrs.field(default=True, validator=_bool)
    level: int = attrs.field(default=6, validator=_int_in_range(0, 9))
    mem_level: int = attrs.field(default=5, validator=_int_in_range(1, 9))
    window_bits: int = attrs.field(default=12, validator=_int_in_range(9, 15))
    peer_window_bits: int = attrs.field(default=12, validator=_int_in_range(9, 15))
    negotiate_window_bits: bool = attrs.field(default=True, validator=_bool)
    takeover: bool = attrs.field(default=False, validator=_bool)
    peer_takeover: bool = attrs.field(default=False, validator=_bool)


def compression_of(value: Compression | bool | None) -> Compression | None:
    """Return the settings that a `compression=` argument stands for; None for no compression."""
    if value is None or isinstance(value, Compression):
        return value
    if not isinstance(value, bool):
        write = "write compression=True, or compression=Compression(level=...)"
        raise TypeError(f"compression must be True, False or a Compression, not {value!r}: {write}")
    return Compression() if value else None


def _seconds(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{attribute.name} must be a number of seconds, not {value!r}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{attribute.name} must be 0 seconds or more, not {value!r}")


def _number(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{attribute.name} must be a number, not {value!r}")


def _seconds_range(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    numbers = [number for number in value if isinstance(number, (int, float))] if isinstance(value, tuple) else []
    if len(numbers) != 2:
        raise TypeError(f"{attribute.name} must be a tuple of two numbers of seconds, not {value!r}")
    low, high = numbers
    if not 0 <= low <= high < float("inf"):
        raise ValueError(f"{attribute.name} must be (least, most) with 0 <= least <= most seconds, not {value!r}")


@attrs.frozen(kw_only=True)
class Backoff:
    """Waits between the attempts of `async for client in connect()`, in seconds.

    :param first: the wait after the first failed attempt, and after a stable connection has ended. With 0, later
        waits still grow, starting from 0.25 seconds.
    :param factor: the factor by which each wait is longer than the one before; at least 1.
    :param most: the longest wait.
    :param jitter: the share of each wait that is random, from 0 to 1, so that many clients do not reconnect at the
        same time.
    :param stable: the time for which a connection must have been open before the waits start again from `first`.
    :param restart: the shortest and the longest wait after the server closed with 1012 or 1013; the wait is random
        in between.
    :param max_retry_after: the longest wait that a server can ask for with `Retry-After`.
    :param max_attempts: the number of failures since the last stable connection after which `ReconnectError` is
        raised. `None` means no limit. A connection that did not end cleanly before it was stable counts as a
        failure.
    """

    first: float = attrs.field(default=0.5, validator=_seconds)
    factor: float = attrs.field(default=2.0, validator=_number)
    most: float = attrs.field(default=60.0, validator=_seconds)
    jitter: float = attrs.field(default=0.5, validator=_number)
    stable: float = attrs.field(default=10.0, validator=_seconds)
    restart: tuple[float, float] = attrs.field(default=(5.0, 30.0), validator=_seconds_range)
    max_retry_after: float = attrs.field(default=600.0, validator=_seconds)
    max_attempts: int | None = attrs.field(default=None, validator=_positive_int_or_none)

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor must be at least 1, not {self.factor!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {self.jitter!r}")
        if self.first > self.most:
            raise ValueError(f"first ({self.first}) must not be above most ({self.most})")


def _rate_or_none(instance: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{attribute.name} must be a number a second or None, not {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{attribute.name} must be more than 0 a second, not {value!r}; None disables it")


@attrs.frozen(kw_only=True)
class TopicLimits:
    """Bounds and deadlines of `Topics`.

    :param max_topics_per_client: the most topics that one connection follows or is present in at once. One more
        raises `LimitExceeded`.
    :param max_name: the longest name of a topic, in bytes of UTF-8, and the longest key and idempotency key of a
        publication, in characters. A longer one raises `LimitExceeded`.
    :param max_publication_size: the largest publication, in bytes (characters for text). A larger one raises
        `LimitExceeded`.
    :param max_publications_per_client: the most publications a second of one connection, if it is passed to
        `publish` as `client`. A connection that was quiet may make as many at once, and at least one. One more raises
        `LimitExceeded`. `None` means no limit.
    :param max_publish_soon: the most bytes that wait in `publish_soon`; each publication counts 64 bytes more than
        its payload. If there is no room, `publish_soon` returns False.
    :param max_held: the most bytes that one topic holds back while it reads the history, because a follower joins
        or because the broker has lost publications. If more is published meanwhile, it reads the history again.
    :param publish_timeout: the seconds after which `publish` raises `PublishTimeout`, and after which a publication
        of `publish_soon` has failed if the broker is not available.
    :param broker_timeout: the seconds after which any other call to the broker has failed.
    :param close_timeout: the seconds for which the end of `async with Topics(...)` waits for the publications of
        `publish_soon`, and then again for the broker to close.
    """

    max_topics_per_client: int = attrs.field(default=256, validator=_positive_int)
    max_name: int = attrs.field(default=255, validator=_positive_int)
    max_publication_size: int = attrs.field(default=MiB, validator=_positive_int)
    max_publications_per_client: float | None = attrs.field(default=None, validator=_rate_or_none)
    max_publish_soon: int = attrs.field(default=16 * MiB, validator=_positive_int)
    max_held: int = attrs.field(default=MiB, validator=_positive_int)
    publish_timeout: float = attrs.field(default=10.0, validator=check_positive_seconds)
    broker_timeout: float = attrs.field(default=10.0, validator=check_positive_seconds)
    close_timeout: float = attrs.field(default=10.0, validator=check_positive_seconds)


def options_of(name: str, kind: type[_Kind], value: _Kind | None) -> _Kind:
    """Return the options that an argument such as `limits=` stands for; the defaults for None.

    :raises TypeError: if it is something else.
    """
    if value is None:
        return kind()
    if not isinstance(value, kind):
        example = f"{name}={kind.__name__}({attrs.fields(kind)[0].name}=...)"
        raise TypeError(f"{name} must be a {kind.__name__}, not {value!r}: write {example}")
    return value
