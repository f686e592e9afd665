"""`Codec`: how the messages of an application are encoded."""

from typing import Protocol, TypeVar

Received = TypeVar("Received", covariant=True)
Sent = TypeVar("Sent", contravariant=True)


class Codec(Protocol[Received, Sent]):
    """Encodes and decodes the messages of an application. `Json` is one; any class with these members is one too."""

    @property
    def text(self) -> bool:
        """Whether encoded `bytes` are sent as text, which must be UTF-8. A `str` is always sent as text."""
        ...

    def encode(self, message: Sent) -> str | bytes:
        """Encode a message. If this raises an exception, the call that sends raises it, and nothing is sent."""
        ...

    def decode(self, data: str | bytes) -> Received:
        """Decode a message: `str` was received as text, `bytes` as binary.

        Raise an exception if the message is not valid. It becomes the `__cause__` of the `DecodeError` that readers
        get. The peer does not get its text. Raise `DecodeError` yourself if the peer may read the reason.
        """
        ...
