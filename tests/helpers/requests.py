"""Requests of opening handshakes, as values."""

from streamws import Request


def fields_of(request: Request) -> dict[bytes, bytes]:
    """Return the header fields of a request as `RequestReader.fields` has them, without the checks."""
    fields: dict[bytes, bytes] = {}
    for name, value in request.headers.items_all():
        key = name.lower().encode()
        fields[key] = b",".join([fields[key], value.encode()]) if key in fields else value.encode()
    return fields
