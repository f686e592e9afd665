"""The numbers of RFC 6455 as enums, and the outcome of a connection."""

import enum

import attrs


class Opcode(enum.IntEnum):
    """The type of a frame (RFC 6455 section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(enum.IntEnum):
    """Close codes (RFC 6455 section 7.4.1 and the IANA registry).

    `NO_STATUS`, `ABNORMAL` and `TLS_HANDSHAKE` are never sent. They describe what this side observed: a Close frame
    without a code, a connection that ended without a Close frame, and a failed TLS handshake.
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
    """Return whether a Close frame may carry `code` (RFC 6455 section 7.4.2)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


CLEAN_CODES = frozenset({CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS})
"""The codes of a clean end. Every other code names a failure."""


def escape(text: str) -> str:
    r"""Return `text` with an escape such as `\n` or `\u202e` for each character that is not printable.

    The result is one line, and it cannot control a terminal. Escaped are control characters (line ends too), characters
    that are invisible or change the direction of text, spaces other than `" "`, and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else ascii(char)[1:-1] for char in text])


@attrs.frozen
class Close:
    """The payload of a Close frame (RFC 6455 section 5.5.1).

    `code` is 1005 (`CloseCode.NO_STATUS`) if the frame had no code; `reason` is then empty.
    """

    code: int
    reason: str = ""

    def __str__(self) -> str:
        """Return code and reason in one line, whatever the peer wrote: `1001 "server restart"`."""
        if not self.reason:
            return str(self.code)
        # An unescaped quote would let a peer end the reason early and forge the rest of a log line.
        reason = escape(self.reason).replace('"', '\\"')
        return f'{self.code} "{reason}"'


class Cause(enum.StrEnum):
    """Why a connection ended."""

    CLEAN = "clean"
    """The closing handshake was completed with 1000, 1001 or no code."""
    PEER_ERROR = "peer error"
    """The peer closed with a code that names a failure."""
    CLOSED_WITH_ERROR = "closed with error"
    """The application on this side closed with a code that names a failure."""
    PROTOCOL_ERROR = "protocol error"
    """The peer violated RFC 6455, or sent a message that cannot be decoded. The code that was sent tells the kind of
    violation: 1002 or 1007."""
    LIMIT = "limit"
    """The peer exceeded one of `streamws.Limits`, or sent text where only binary is accepted, or the reverse."""
    KEEPALIVE = "keepalive"
    """The peer sent nothing for `Timeouts.ping_timeout` after a ping, or received nothing while both directions were
    paused."""
    HANDLER_ERROR = "handler error"
    """The handler or a callback raised an exception."""
    LOCAL_CANCEL = "local cancel"
    """The handler was cancelled, or a writer was left in the middle of a message."""
    CLOSE_TIMEOUT = "close timeout"
    """The closing handshake was not completed within `Timeouts.close`."""
    RESET = "reset"
    """The TCP connection ended without a complete closing handshake."""


class Side(enum.StrEnum):
    """One end of the connection."""

    LOCAL = "local"
    """This side."""
    REMOTE = "remote"
    """The peer."""


@attrs.frozen
class CloseOutcome:
    """How a connection ended: its initiator, the Close frames of both sides, and the cause.

    :param cause: why the connection ended.
    :param initiator: the side that caused the end: it sent the first Close frame, violated the protocol, exceeded a
        limit, or dropped the connection.
    :param received: the peer's Close frame; None if it sent none.
    :param sent: this side's Close frame; None if it sent none.
    :param detail: more about the cause, for people: the rule that the peer broke, the limit that it exceeded, an
        exception.
    :param withheld: the Close frame that this side could not send, because a data frame was left incomplete: the
        peer would take the Close frame for payload.
    """

    cause: Cause
    initiator: Side
    received: Close | None
    sent: Close | None
    detail: str = ""
    withheld: Close | None = None

    @property
    def clean(self) -> bool:
        """Whether the closing handshake was completed with 1000, 1001 or no code."""
        return self.cause is Cause.CLEAN

    @property
    def code(self) -> int:
        """The initiator's close code, else the other side's, else 1006 (RFC 6455 section 7.1.5)."""
        close = self._decisive()
        return CloseCode.ABNORMAL if close is None else close.code

    @property
    def reason(self) -> str:
        """The reason given with `code`."""
        close = self._decisive()
        return "" if close is None else close.reason

    @property
    def _own(self) -> Close | None:
        return self.sent or self.withheld

    def _decisive(self) -> Close | None:
        if self.initiator is Side.LOCAL:
            return self._own or self.received
        return self.received or self._own

    def __str__(self) -> str:
        """Return one line for a log: which side closed the connection, with which code, and why.

        For example: `closed by this side with 1011: the handler raised ValueError('x')`.
        """
        own = self._own
        own_failure = own is not None and own.code not in CLEAN_CODES
        # The initiator of a fault is the peer, but this side closed the connection because of it.
        local = self.initiator is Side.LOCAL or (own_failure and self.cause in _FAULTS)
        first, second = (own, self.received) if local else (self.received, own)
        closer, other = ("this side", "the peer") if local else ("the peer", "this side")
        if first is None:
            text = "connection lost without a closing handshake"
            if second is not None:
                text += f" ({other} closed {self._with(second, own=not local)})"
        else:
            text = f"closed by {closer} {self._with(first, own=local)}"
            if second is not None and (second.code != first.code or second.reason not in ("", first.reason)):
                text += f", by {other} {self._with(second, own=not local)}"
        why = self._why(other, lost=first is None)
        if not why:
            return text
        # Either the cause of the Close frame, or an event after it.
        was_cause = local and own_failure and self.cause not in (Cause.RESET, Cause.CLOSE_TIMEOUT)
        return text + (": " if was_cause or first is None else "; ") + why

    def _with(self, close: Close, *, own: bool) -> str:
        """Describe a Close frame; this side's reason is left out if `detail` repeats it."""
        if close.code == CloseCode.NO_STATUS:
            text = "without a code"
        elif own and close.reason in self.detail:
            text = f"with {close.code}"
        else:
            text = f"with {close}"
        return f"{text} (could not be sent)" if own and self.sent is None else text

    def _why(self, other: str, lost: bool) -> str:
        """Return what the outcome says about its cause.

        :param other: the side that did not close first.
        :param lost: whether there was no closing handshake.
        """
        detail = escape(self.detail)
        if self.cause is Cause.RESET and not lost:
            text = f"connection lost before {other} answered"
            return f"{text}: {detail}" if detail else text
        if self.cause is Cause.CLOSE_TIMEOUT:
            text = f"{other} did not answer"
        elif self._own is not None and self._own.code == CloseCode.UNSUPPORTED_DATA and self.cause is Cause.LIMIT:
            text = "the peer sent the wrong type of message"
        else:
            text = _FAULTS.get(self.cause, "")
        return f"{text} ({detail})" if text and detail else text or detail


_FAULTS = {
    Cause.PROTOCOL_ERROR: "the peer broke the protocol",
    Cause.LIMIT: "the peer exceeded a limit",
    Cause.KEEPALIVE: "the peer did not respond",
}
"""Causes that are the peer's fault and make this side close the connection, as the outcome names them."""
