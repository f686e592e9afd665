"""Attributes of `Client` that ASGI does not allow: the error says what to write instead."""

from ..awaiting.internals import set_class_attribute
from ..client import Client
from ..errors import UsageError
from ..hints import HINTS, Hint, add_hints


class NotInAsgi(UsageError, AttributeError):
    """An attribute of `Client` that needs more than ASGI offers. `hasattr` is False."""


class Missing(Hint):
    """An attribute of `Client` that `AsgiClient` cannot have, and a sentence about what to write instead."""

    __slots__ = ()

    def __get__(self, instance: object, owner: type) -> object:
        try:
            return super().__get__(instance, owner)
        except AttributeError as error:
            raise NotInAsgi(str(error)) from None


_WHOLE = "an ASGI application receives whole messages: write `async for message in client`"

MISSING = {
    "writer": "an ASGI application sends whole messages: write `await client.send(message)`; the server sends pings",
    "read_frame": _WHOLE,
    "frames": _WHOLE,
    "messages": _WHOLE,
    "message": _WHOLE,
    "ping": "ASGI servers answer pings, and do not tell the application",
    "pong": "ASGI servers send pings, and do not tell the application about the pongs",
    "abort": "an ASGI application cannot drop a connection: write `await client.close(1011)`",
    "stats": "ASGI servers do not tell the counters of the connection: count your messages",
    "latency": "ASGI servers do not tell the round-trip time of their pings",
    "compression": "ASGI servers negotiate the compression, and do not tell it",
    "response": "ASGI servers make the response of the opening handshake, and do not tell it",
}
"""The attributes of `Client` that ASGI does not allow, and what to write instead."""

_SIMILAR = """
    recv close_code close_reason close_exc open remote_address request_headers path drain
    receive receive_str receive_bytes receive_json send_str send_bytes send_json exception
    receive_text iter_text iter_bytes iter_json send_text client headers query_params url emit sid
    write_message read write
"""
"""Names of other libraries that `Client` does not have either. What is written instead is the same."""


def add_missing(kind: type) -> None:
    """Give a class the attributes that raise these errors."""
    for name, text in MISSING.items():
        set_class_attribute(kind, name, Missing(name, text))
    hints = {name: HINTS[Client][name] for name in _SIMILAR.split()}
    hints["path_params"] = 'write `client.scope["path_params"]`'
    hints["send_denial_response"] = "write `await client.refuse(Response(...))`"
    add_hints(kind, hints)
