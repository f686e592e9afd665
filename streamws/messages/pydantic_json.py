"""JSON by pydantic."""

from functools import partial
from typing import Any

from ..errors import MissingExtra, describe
from .backend import Backend

try:
    from pydantic import TypeAdapter, ValidationError
except ImportError as _error:
    raise MissingExtra("JSON by pydantic needs pydantic: pip install 'streamws[pydantic]'") from _error

_FEW = 20
"""The number of errors up to which the first one is shown. pydantic makes all of them to show one."""


def make_backend(kind: Any) -> Backend:
    """Make the back end for a type.

    :raises pydantic.errors.PydanticUserError: if pydantic does not support the type.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    # The peer uses the same names in both directions. (`warnings="error"` would make this four times as expensive.)
    encode = partial(adapter.serializer.to_json, by_alias=True)
    return Backend(encode, adapter.validator.validate_json, _explain)


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return describe(error)
    count = error.error_count()
    if count > _FEW:
        return f"{count} validation errors for {error.title}"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    more = f" (and {count - 1} more)" if count > 1 else ""
    return first["msg"] + (f" - at {place}" if place else "") + more
