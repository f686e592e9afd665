"""Header fields as a value: an immutable mapping, held as the bytes of the wire."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from ..errors import InvalidHeader

__all__ = ["TCHAR", "HeaderFields", "Headers", "encode_field", "is_token"]

TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""A pattern for one character of a token (RFC 9110 section 5.6.2)."""

_TOKEN = re.compile(TCHAR + "+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_token(text: str) -> bool:
    """Whether `text` is a token of RFC 9110 section 5.6.2: a header name, a method, a subprotocol."""
    return _TOKEN.fullmatch(text) is not None


@functools.lru_cache(maxsize=256)
def _field(name: str) -> re.Pattern[bytes]:
    """A pattern whose group is the value of each field `name`."""
    if not is_token(name):
        return re.compile(rb"(?!)")
    return re.compile(rb"\r\n" + re.escape(name.encode()) + rb":[ \t]*([^\r]*)", re.IGNORECASE)


def _decode(value: bytes) -> str:
    """A field value as text: UTF-8 if it is valid, else latin-1, which never fails (RFC 9110 section 5.5)."""
    try:
        return value.rstrip(b" \t").decode()
    except UnicodeDecodeError:
        return value.rstrip(b" \t").decode("latin-1")


def encode_field(name: object, value: object) -> bytes:
    """One field as bytes, after a CRLF; raises `InvalidHeader` if it must not be sent."""
    if not (isinstance(name, str) and isinstance(value, str)):
        raise InvalidHeader(f"a header is a pair of str, not {name!r:.80} and {value!r:.80}")
    if not is_token(name):
        raise InvalidHeader(f"{name!r:.80} is not a header name: it must be a token of RFC 9110")
    if _CONTROL.search(value):
        raise InvalidHeader(f"the value of header {name} has a control character: {value!r:.80}")
    value = value.strip(" \t")
    try:
        return f"\r\n{name}: {value}".encode()
    except UnicodeEncodeError as error:
        raise InvalidHeader(f"the value of header {name} cannot be encoded: {value!r:.80}") from error


class Headers(Mapping[str, str]):
    """Header fields: an immutable mapping that ignores the case of names and keeps the order of fields.

    `headers["Accept"]` is the value; several fields of that name are joined with ", " (RFC 9110 section 5.3;
    for Set-Cookie, which must not be joined, use `get_all`). Iterating gives each name once, as first seen.
    Two are equal when each name has the same values in the same order; a plain mapping compares likewise.

    Held as the bytes of the wire and decoded when asked: some hundred bytes a connection, not kilobytes.
    Values beyond ASCII are read as UTF-8 where that is valid and as latin-1 otherwise.

    Args:
        fields: a mapping, or an iterable of (name, value) pairs. Text beyond ASCII is sent as UTF-8.

    Raises:
        InvalidHeader: a name is no token, or a value has a control character (CR, LF and NUL among them).
    """

    __slots__ = ("_wire",)
    _wire: bytes

    def __init__(self, fields: "HeaderFields" = ()) -> None:
        if isinstance(fields, Headers):
            self._wire = fields._wire
            return
        pairs = cast(Mapping[str, str], fields).items() if isinstance(fields, Mapping) else fields
        try:
            self._wire = b"".join([encode_field(name, value) for name, value in pairs])
        except InvalidHeader:
            raise
        except (TypeError, ValueError) as error:
            kind = type(fields).__name__  # not the value, which may be a secret
            raise InvalidHeader(f"headers are a mapping, or pairs of a name and a value, not {kind}") from error

    @classmethod
    def from_wire(cls, wire: bytes) -> "Headers":
        """Headers of bytes that are known to be good; they are not checked.

        Args:
            wire: for each field CRLF, name, colon and value; nothing behind the last value.
        """
        headers: Headers = cls.__new__(cls)
        headers._wire = wire
        return headers

    @property
    def wire(self) -> bytes:
        """The fields as bytes, each one after a CRLF; nothing behind the last value."""
        return self._wire

    def get_all(self, name: str) -> tuple[str, ...]:
        """The values of every field `name`, in order; empty if there is none."""
        return tuple([_decode(value) for value in _field(name).findall(self._wire)])

    def items_all(self) -> Iterator[tuple[str, str]]:
        """Every field as (name, value), names as they were written."""
        for line in self._wire.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            yield name.decode("latin-1"), _decode(value.lstrip(b" \t"))

    def __getitem__(self, name: str) -> str:
        values = _field(name).findall(self._wire)
        if not values:
            raise KeyError(name)
        return _decode(values[0]) if len(values) == 1 else ", ".join(map(_decode, values))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _field(name).search(self._wire) is not None

    def __iter__(self) -> Iterator[str]:
        names: dict[str, str] = {}
        for name, _ in self.items_all():
            names.setdefault(name.lower(), name)
        return iter(names.values())

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.items_all()})

    def _folded(self) -> dict[str, tuple[str, ...]]:
        return {name.lower(): self.get_all(name) for name in self}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if not isinstance(other, Headers):
            try:
                other = Headers(cast(Mapping[str, str], other))  # which checks that it is one
            except InvalidHeader:
                return False
        return self._wire == other._wire or self._folded() == other._folded()

    def __hash__(self) -> int:
        return hash(frozenset(self._folded().items()))

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return Headers.from_wire, (self._wire,)

    def __repr__(self) -> str:
        return f"Headers({list(self.items_all())!r})"


HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]
"""What is taken where header fields are asked for; `Headers` is one of them."""
