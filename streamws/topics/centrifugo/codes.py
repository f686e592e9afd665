"""The codes of Centrifugo's client protocol, and the errors with which applications send them."""

import enum
from collections.abc import Mapping
from typing import Final

from ...errors import StreamwsError


class ErrorCode(enum.IntEnum):
    """The codes with which the protocol answers a command that failed. Applications use 400 to 1999."""

    INTERNAL = 100
    UNAUTHORIZED = 101
    UNKNOWN_CHANNEL = 102
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    LIMIT_EXCEEDED = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    TOKEN_EXPIRED = 109
    EXPIRED = 110
    TOO_MANY_REQUESTS = 111
    UNRECOVERABLE_POSITION = 112

    @property
    def message(self) -> str:
        """The text of the protocol for this code."""
        return "internal server error" if self is ErrorCode.INTERNAL else self.name.lower().replace("_", " ")


class DisconnectCode(enum.IntEnum):
    """The close codes of the protocol. Clients reconnect after 3000 to 3499, and not after 3500 to 3999.

    Applications use 4000 to 4499, after which clients reconnect, and 4500 to 4999, after which they do not.
    """

    SHUTDOWN = 3001
    SERVER_ERROR = 3004
    EXPIRED = 3005
    SLOW = 3008
    INSUFFICIENT_STATE = 3010
    FORCE_RECONNECT = 3011
    NO_PONG = 3012
    TOO_MANY_REQUESTS = 3013
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    FORCE_DISCONNECT = 3503
    CONNECTION_LIMIT = 3504
    CHANNEL_LIMIT = 3505
    INAPPROPRIATE_PROTOCOL = 3506
    PERMISSION_DENIED = 3507
    NOT_AVAILABLE = 3508

    @property
    def reason(self) -> str:
        """The text of the protocol for this code."""
        match self:
            case DisconnectCode.SERVER_ERROR:
                return "internal server error"
            case DisconnectCode.EXPIRED:
                return "connection expired"
            case _:
                return self.name.lower().replace("_", " ")


class UnsubscribeCode(enum.IntEnum):
    """The codes with which a server ends a subscription. Clients subscribe again after 2500 and above."""

    SERVER = 2000
    INSUFFICIENT_STATE = 2500


_TEMPORARY: Final = frozenset({ErrorCode.INTERNAL, ErrorCode.TOO_MANY_REQUESTS})
"""The errors after which a client may try the same command again."""


_MESSAGES: Mapping[int, str] = {code: code.message for code in ErrorCode}

_REASONS: Mapping[int, str] = {code: code.reason for code in DisconnectCode}


class CentrifugoError(StreamwsError):
    """Raise it in a function of a `CentrifugoEndpoint` to answer the command with an error. The client gets all of it.

    :param code: a code of the protocol, such as 103, or one of your own from 400 to 1999.
    :param message: the text for it; by default the text of the protocol for this code.
    :param temporary: whether the client may try again: it does so by itself for `connect`, `refresh` and `subscribe`.
        By default, only 100 and 111 are temporary.
    :raises ValueError: for another code, or for a code of your own without a message.
    """

    def __init__(self, code: int, message: str = "", temporary: bool | None = None) -> None:
        text = _MESSAGES.get(code)
        if text is None and not 400 <= code <= 1999:
            raise ValueError(f"code must be one of the protocol, or from 400 to 1999, not {code!r}")
        message = message or text or ""
        if not message:
            raise ValueError(f"code {code} needs a message")
        super().__init__(code, message, temporary)
        self.code: int = int(code)
        self.message: str = message
        self.temporary: bool = code in _TEMPORARY if temporary is None else temporary

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


class CentrifugoDisconnect(StreamwsError):
    """Raise it in a function of a `CentrifugoEndpoint` to close the connection.

    :param code: clients connect again after 3000 to 3499 and 4000 to 4499, and do not after 3500 to 3999 and 4500 to
        4999. Codes of your own are 4000 to 4999.
    :param reason: at most 123 bytes in UTF-8; by default the text of the protocol for this code.
    :raises ValueError: for another code, or a longer reason.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        if not 3000 <= code <= 4999:
            raise ValueError(f"code must be from 3000 to 4999, not {code!r}")
        if len(reason.encode()) > 123:
            raise ValueError(f"reason must be at most 123 bytes in UTF-8, not {reason!r}")
        reason = reason or _REASONS.get(code, "")
        super().__init__(code, reason)
        self.code: int = int(code)
        self.reason: str = reason

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".rstrip()
