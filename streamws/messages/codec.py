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
        """Encode a message. What it raises, the call that sends raises; nothing is sent then."""
        ...

    def decode(self, data: str | bytes) -> Received:
        """Decode a message: `str` was received as text, `bytes` as binary.

        Raise an exception if the message is not valid. Readers get it as the `__cause__` of a `DecodeError`. Its text
        stays in this process; raise `DecodeError` if the peer may read the reason.
        """
        ...
