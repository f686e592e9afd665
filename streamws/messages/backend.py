"""What `Json` needs of a library that encodes and decodes JSON."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Backend(NamedTuple):
    """Encodes and decodes JSON of one type."""

    encode: Callable[[Any], bytes]
    decode: Callable[[str | bytes], Any]
    explain: Callable[[Exception], str]
    """Returns the position and the reason of an error, without the whole message."""
