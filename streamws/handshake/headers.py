"""`Headers`: HTTP header fields as an immutable mapping, stored as the bytes on the wire."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from ..errors import InvalidHeader

__all__ = ["TCHAR", "HeaderFields", "Headers", "check_field", "encode_field", "is_token", "reserved_name"]

TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""Regular expression for one character of a token (RFC 9110 section 5.6.2)."""

_TOKEN = re.compile(TCHAR + "+")
_INDEX_FROM = 2048  # the size of the fields, in bytes, above which an index is worth its memory
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_RESERVED = re.compile(
    rb"\r\n(upgrade|connection|sec-websocket-[^:]*|content-length|transfer-encoding):", re.IGNORECASE
)


def is_token(text: str) -> bool:
    """Return whether `text` is a token: a valid header name, method or subprotocol (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


@functools.lru_cache(maxsize=256)
def _field_start(name: str) -> bytes:
    """Return the bytes with which each field called `name` starts, in lowercase."""
    # No field has a name that is not a token, and "\r\n:" starts no field.
    return b"\r\n%b:" % (name.lower().encode() if is_token(name) else b"")


def _separator(name: str) -> str:
    """Return the text that joins the values of several fields called `name`."""
    # A comma may be part of a cookie (RFC 6265 section 4.1.1). HTTP/2 and 3 split and join cookies in the same way
    # (RFC 9113 section 8.2.3).
    return "; " if name.lower() == "cookie" else ", "


def _decode(value: bytes) -> str:
    """Decode a value as UTF-8 if it is valid UTF-8, otherwise as Latin-1, which never fails (RFC 9110 section 5.5)."""
    value = value.strip(b" \t")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def encode_field(name: object, value: object) -> bytes:
    """Return one header field as bytes, with a CRLF before it.

    :raises InvalidHeader: if the name or the value must not be sent.
    """
    if not (isinstance(name, str) and isinstance(value, str)):
        raise InvalidHeader(f"header name and value must be str, not {name!r:.80} and {value!r:.80}")
    check_field(name, value)
    value = value.strip(" \t")
    try:
        return f"\r\n{name}: {value}".encode()
    except UnicodeEncodeError as error:
        raise InvalidHeader(f"the value of header {name} cannot be encoded as UTF-8: {value!r:.80}") from error


def check_field(name: str, value: str) -> None:
    """Check one header field.

    :raises InvalidHeader: if the name is not a token, or the value contains a control character such as CR, LF or NUL.
    """
    if not is_token(name):
        raise InvalidHeader(f"header name {name!r:.80} is not a token (RFC 9110 section 5.6.2)")
    if _CONTROL.search(value):
        raise InvalidHeader(f"the value of header {name} contains a control character: {value!r:.80}")


class Headers(Mapping[str, str]):
    """HTTP header fields: an immutable mapping that ignores the case of names and keeps the order of fields.

    `headers["Accept"]` is the value of a field. If several fields have that name, their values are joined with ", "
    (RFC 9110 section 5.3), and those of `Cookie` with "; " (RFC 9113 section 8.2.3). `get_all` returns them one by one,
    which `Set-Cookie` needs. Iterating yields each name once, with the spelling and at the position of its first field.
    Two `Headers` are equal if each name has the same values in the same order; a `Headers` and another mapping are
    compared in the same way.

    Values are read as UTF-8 if they are valid UTF-8, otherwise as Latin-1. The fields are stored as the bytes on
    the wire and decoded on access, so that an idle connection keeps a few hundred bytes for them, not kilobytes.

    :param fields: a mapping, or an iterable of (name, value) pairs. Text outside ASCII is sent as UTF-8.
    :raises InvalidHeader: if a name is not a token, or a value contains a control character such as CR, LF or NUL.
    """

    __slots__ = ("_index", "_wire")
    _wire: bytes
    _index: dict[str, list[str]] | None
    """All values by lowercase name. It is made when the application iterates over large fields: `dict(headers)` looks
    up each name, and searching all bytes for each name would take quadratic time."""

    def __init__(self, fields: "HeaderFields" = ()) -> None:
        self._index = None
        if isinstance(fields, Headers):
            self._wire = fields._wire
            return
        pairs = cast(Mapping[str, str], fields).items() if isinstance(fields, Mapping) else fields
        try:
            self._wire = b"".join([encode_field(name, value) for name, value in pairs])
        except InvalidHeader:
            raise
        except (TypeError, ValueError) as error:
            kind = type(fields).__name__  # not the value: it may be a secret
            raise InvalidHeader(f"headers must be a mapping or (name, value) pairs, not {kind}") from error

    @classmethod
    def from_wire(cls, wire: bytes) -> "Headers":
        """Make `Headers` from bytes that are known to be valid, without checking them.

        :param wire: for each field a CRLF, the name, a colon and the value; nothing after the last value.
        """
        headers: Headers = cls.__new__(cls)
        headers._index = None
        headers._wire = wire
        return headers

    @property
    def wire(self) -> bytes:
        """The fields as bytes, each with a CRLF before it; nothing follows the last value."""
        return self._wire

    def get_all(self, name: str) -> tuple[str, ...]:
        """Return the values of all fields called `name`, in order; empty if there are none."""
        return tuple(self._find(name))

    def _find(self, name: str) -> list[str]:
        """Return the values of all fields called `name`, in order."""
        index = self._index
        if index is not None:
            return index.get(name.lower(), []) if name.isascii() else []
        wire, start = self._wire, _field_start(name)
        lower = wire.lower()
        values = []
        place = lower.find(start)
        while place >= 0:
            place += len(start)
            end = wire.find(b"\r", place)
            values.append(_decode(wire[place:] if end < 0 else wire[place:end]))
            place = lower.find(start, place)
        return values

    def items_all(self) -> Iterator[tuple[str, str]]:
        """Iterate over all fields as (name, value) pairs, with names spelled as they were sent."""
        for line in self._wire.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            yield name.decode("latin-1"), _decode(value)

    def __getitem__(self, name: str) -> str:
        values = self._find(name)
        if not values:
            raise KeyError(name)
        return values[0] if len(values) == 1 else _separator(name).join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _field_start(name) in self._wire.lower()

    def __iter__(self) -> Iterator[str]:
        names: dict[str, str] = {}
        for name, _ in self.items_all():
            names.setdefault(name.lower(), name)
        if len(self._wire) > _INDEX_FROM:
            self._index = self._by_lower_name()
        return iter(names.values())

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.items_all()})

    def _by_lower_name(self) -> dict[str, list[str]]:
        """Return all values by lowercase name: equal for equal `Headers`."""
        values: dict[str, list[str]] = {}
        for name, value in self.items_all():
            values.setdefault(name.lower(), []).append(value)
        return values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if not isinstance(other, Headers):
            try:
                other = Headers(cast(Mapping[str, str], other))  # checks that the other mapping is str to str
            except InvalidHeader:
                return False
        return self._wire == other._wire or self._by_lower_name() == other._by_lower_name()

    def __hash__(self) -> int:
        return hash(frozenset((name, tuple(values)) for name, values in self._by_lower_name().items()))

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return Headers.from_wire, (self._wire,)

    def __repr__(self) -> str:
        return f"Headers({list(self.items_all())!r})"


HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]
"""Types that are accepted as header fields: a mapping (such as `Headers`), or (name, value) pairs."""


def reserved_name(fields: Headers) -> str | None:
    """Return the name of a field that belongs to the opening handshake itself; None if there is none."""
    match = _RESERVED.search(fields.wire)
    return None if match is None else match[1].decode()
