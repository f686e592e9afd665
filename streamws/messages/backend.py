"""Interface between `Json` and a library that encodes and decodes JSON."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Backend(NamedTuple):
    """Encodes and decodes JSON of one type."""

    encode: Callable[[Any], bytes]
    decode: Callable[[str | bytes], Any]
    explain: Callable[[Exception], str]
    """Describe an error by its position and reason, without the whole message."""
