"""`Framing`: the messages that followers get for publications and presence events."""

import asyncio
import logging
from typing import Any

from ..messages.codec import Codec
from ..options import ITEM_OVERHEAD
from ..streams.shared import SharedMessage
from .group import Frame
from .values import Position, PresenceEvent, Publication, Record

logger: logging.Logger = logging.getLogger("streamws.topics")


class Framing:
    """Makes the messages for the followers of one topic. Followers that join at once share the messages of the history.

    :param name: the name of the topic.
    :param most: the most bytes of shared messages.
    """

    __slots__ = ("_codec", "_forgetting", "_most", "_name", "_shared", "_size")

    def __init__(self, name: str, codec: Codec[Any, Any], most: int) -> None:
        self._name = name
        self._codec = codec
        self._most = most
        self._shared: dict[tuple[Frame | None, Position], SharedMessage] = {}
        self._size = 0  # of the shared messages, in bytes
        self._forgetting = False  # whether they will be forgotten in the next loop iteration

    def publication(self, record: Record) -> Publication[Any]:
        """Return a publication, for frame functions and feeds."""
        return Publication(self._name, record, self._codec)

    def make(self, frame: Frame, item: Publication[Any] | PresenceEvent) -> SharedMessage | None:
        """Call a frame function; return None if it raises."""
        try:
            message = SharedMessage(frame(item), None)
            if isinstance(message.data, str) and not message.data.isascii():
                message.data.encode()  # now, not for one connection after another
            return message
        except Exception:
            logger.exception("topic %r: %r raised; nothing is sent", self._name, frame)
            return None

    def message(self, frame: Frame | None, record: Record, share: bool) -> SharedMessage | None:
        """Return the message of a publication for one follower; None if the frame function raises.

        :param share: whether to keep it for other followers that join now.
        """
        message = self._shared.get((frame, record.position))
        if message is None:
            if frame is None:
                message = SharedMessage(record.payload, None)
            else:
                message = self.make(frame, self.publication(record))
            if share and message is not None:
                self._share(message, frame, record.position)
        return message

    def _share(self, message: SharedMessage, frame: Frame | None, position: Position) -> None:
        self._size += len(message.data) + ITEM_OVERHEAD
        if self._size > self._most:
            self._forget()
        else:
            self._shared[frame, position] = message

    def forget_soon(self) -> None:
        """Forget the shared messages in the next loop iteration.

        Not at once: if many followers come back together, several of them join in one iteration.
        """
        if self._shared and not self._forgetting:
            self._forgetting = True
            asyncio.get_running_loop().call_soon(self._forget)

    def _forget(self) -> None:
        self._shared.clear()
        self._size = 0
        self._forgetting = False
