"""The numbers of RFC 6455 by name, and what is known about how a connection ended."""

import enum

import attrs


class Opcode(enum.IntEnum):
    """What a frame is (RFC 6455 section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(enum.IntEnum):
    """Why a connection closes (RFC 6455 section 7.4.1 and the IANA registry).

    `NO_STATUS`, `ABNORMAL` and `TLS_HANDSHAKE` are never sent: they stand for what was seen locally.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


def is_sendable(code: int) -> bool:
    """Whether `code` may stand in a Close frame (RFC 6455 section 7.4.2)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


@attrs.frozen
class Close:
    """The content of a Close frame.

    `code` is 1005 (`CloseCode.NO_STATUS`) for a frame that carried none; `reason` is then empty.
    """

    code: int
    reason: str = ""

    def __str__(self) -> str:
        # In one line of a log, whatever the peer wrote.
        reason = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in self.reason)
        return f"{self.code} {reason}".rstrip()


class Cause(enum.StrEnum):
    """Why a connection ended, in a word."""

    CLEAN = "clean"
    """The closing handshake was completed, with 1000, 1001 or without a code."""
    PEER_ERROR = "peer error"
    """The closing handshake was completed, and the peer began it with a code that names a failure."""
    CLOSED_WITH_ERROR = "closed with error"
    """This side's application closed with a code that names a failure."""
    PROTOCOL_ERROR = "protocol error"
    """The peer broke a rule of RFC 6455; the code sent says which kind of rule."""
    LIMIT = "limit"
    """The peer went over a limit of `streamws.Limits`, or sent a message of a kind that is not taken."""
    KEEPALIVE = "keepalive"
    """The peer gave no sign of life within `Timeouts.ping_timeout`."""
    HANDLER_ERROR = "handler error"
    """The handler or a callback raised."""
    LOCAL_CANCEL = "local cancel"
    """This side's handler was cancelled, or a writer was left in the middle of a message."""
    CLOSE_TIMEOUT = "close timeout"
    """The peer did not answer the closing handshake within `Timeouts.close`."""
    RESET = "reset"
    """The TCP connection ended without a closing handshake."""


class Side(enum.StrEnum):
    """Which end of the connection."""

    LOCAL = "local"
    REMOTE = "remote"


@attrs.frozen
class CloseOutcome:
    """How a connection ended: who began, what each side said, and why."""

    cause: Cause
    """The reason in a word."""
    initiator: Side
    """The side that ended it: the first to send Close, to break a rule, or to drop the connection."""
    received: Close | None
    """The peer's Close frame, if one came."""
    sent: Close | None
    """This side's Close frame, if one was sent."""
    detail: str = ""
    """A sentence for people, such as the rule that the peer broke."""
    withheld: Close | None = None
    """The Close frame that this side could not send: a data frame was under way that will never be complete, and
    within it a peer would take anything for payload."""

    @property
    def clean(self) -> bool:
        """Whether the closing handshake was completed and no side named a failure."""
        return self.cause is Cause.CLEAN

    @property
    def code(self) -> int:
        """The close code: the initiator's, else the other side's, else 1006 (RFC 6455 section 7.1.5)."""
        close = self._decisive()
        return CloseCode.ABNORMAL if close is None else close.code

    @property
    def reason(self) -> str:
        """The reason that came with `code`."""
        close = self._decisive()
        return "" if close is None else close.reason

    def _decisive(self) -> Close | None:
        sent = self.sent or self.withheld
        return (sent or self.received) if self.initiator is Side.LOCAL else (self.received or sent)

    def __str__(self) -> str:
        closes = {"received": self.received, "sent": self.sent, "could not send": self.withheld}
        said = [f"{verb} {close}" for verb, close in closes.items() if close is not None]
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.cause}, by the {self.initiator} side ({', '.join(said) or 'no Close frame'}){detail}"
