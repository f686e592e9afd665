"""Encodes publications and presence events: each one once for all connections."""

from base64 import b64encode
from collections.abc import Callable
from functools import cache
from typing import Any

from ..values import PresenceEvent, Publication
from . import replies
from .replies import Encoded


class PresenceFrame:
    """Makes the pushes that tell of joins and leaves in a channel."""

    __slots__ = ("__weakref__", "_channel")

    def __init__(self, channel: str) -> None:
        self._channel = channel

    def __call__(self, event: PresenceEvent) -> Encoded:
        info = replies.client_info(event.user, event.connection, encode_info(event.data))
        return replies.push(self._channel, event.kind, replies.encode_object([("info", info)]))


@cache
def publication_frame(positioned: bool, trusted: bool) -> Callable[[Publication[Any]], Encoded]:
    """Return a function that makes the push of a publication; always the same one, so that the push is made once.

    :param positioned: whether the topic has a history.
    :param trusted: whether the payloads are known to be JSON.
    """

    def frame(publication: Publication[Any]) -> Encoded:
        return replies.push(publication.topic, "pub", encode_publication(publication, positioned, trusted))

    return frame


def encode_publication(publication: Publication[Any], positioned: bool, trusted: bool) -> Encoded:
    """Encode a publication. A payload that is not JSON becomes a string."""
    payload = publication.payload
    try:
        data = replies.embed(payload, trusted=trusted)
    except ValueError:
        data = replies.encode(payload if isinstance(payload, str) else b64encode(payload).decode())
    return replies.publication(data, offset=publication.position.offset if positioned else 0)


def encode_info(data: str) -> Encoded | None:
    """Return the data of a member as JSON; the application may have stored any text."""
    if not data:
        return None
    try:
        return replies.embed(data, trusted=False)
    except ValueError:
        return replies.encode(data)
