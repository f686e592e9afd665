"""JSON by msgspec."""

from ..errors import MissingExtra, describe
from .backend import Backend

try:
    import msgspec
except ImportError as _error:
    raise MissingExtra("JSON by msgspec needs msgspec: pip install 'streamws[msgspec]'") from _error


def make_backend(kind: object) -> Backend:
    """Make the back end for a type.

    :raises TypeError: if msgspec does not support the type.
    """
    return Backend(msgspec.json.Encoder().encode, msgspec.json.Decoder(kind).decode, _explain)


def _explain(error: Exception) -> str:
    return str(error) if isinstance(error, msgspec.MsgspecError) else describe(error)
