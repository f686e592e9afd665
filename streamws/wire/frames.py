"""Frames as objects (RFC 6455 section 5.2).

A message that arrives in one frame gets no such object: the parser returns its `str` or `bytes`.
"""

import attrs

from ..codes import Close, Opcode

Buffer = bytes | bytearray | memoryview
"""Bytes-like objects: what can be sent as a binary message."""


def _opcode(value: int) -> Opcode:
    return Opcode(value)


@attrs.frozen
class DataFrame:
    """One data frame: a whole message (`fin` set, opcode TEXT or BINARY) or a fragment of one.

    The first fragment has the opcode of the message, the others are CONTINUATION; the last one has `fin` set
    (RFC 6455 section 5.4). The payload of a text fragment may begin or end inside a character.
    """

    opcode: Opcode = attrs.field(converter=_opcode)
    payload: bytes
    fin: bool = True


@attrs.frozen
class Ping:
    """A ping (RFC 6455 section 5.5.2)."""

    payload: bytes


@attrs.frozen
class Pong:
    """A pong (RFC 6455 section 5.5.3)."""

    payload: bytes


@attrs.frozen
class CloseFrame:
    """A Close frame (RFC 6455 section 5.5.1)."""

    close: Close


@attrs.frozen
class Violation:
    """The peer broke a rule of the protocol at this place in the stream. Nothing behind it is read."""

    code: int
    """The close code that this side sends."""
    reason: str
    """The rule, for the Close frame and the outcome."""
