"""JSON by cattrs, for classes of attrs."""

from functools import partial
from typing import Any

from ..errors import MissingExtra, describe
from .backend import Backend

try:
    from cattrs import BaseValidationError, transform_error
    from cattrs.preconf.json import JsonConverter, make_converter
except ImportError as _error:
    raise MissingExtra("JSON by cattrs needs cattrs: pip install 'streamws[cattrs]'") from _error


def make_backend(kind: Any, converter: Any = None) -> Backend:
    """Make the back end for a type.

    :param converter: a converter of `cattrs.preconf`; None for a new one.
    :raises cattrs.errors.StructureHandlerNotFoundError: if the converter does not support the type.
    """
    if converter is None:
        # Detailed validation collects every error: a bad message of 1 MiB would take seconds.
        converter = make_converter(detailed_validation=False)
    dumps = converter.dumps
    if isinstance(converter, JsonConverter):  # of Python's `json`
        dumps = partial(dumps, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    converter.get_structure_hook(kind)  # raises for most types that it does not support
    loads = converter.loads

    def encode(message: object) -> bytes:
        data = dumps(message, unstructure_as=kind)
        return data.encode() if isinstance(data, str) else data

    def decode(data: str | bytes) -> Any:
        # `json.loads` would accept bytes in UTF-16 and UTF-32, too.
        return loads(data if isinstance(data, str) else data.decode(), kind)

    return Backend(encode, decode, _explain)


def _explain(error: Exception) -> str:
    if not isinstance(error, BaseValidationError):
        return describe(error)
    first, *others = transform_error(error)
    return f"{first} (and {len(others)} more)" if others else first
