"""`Json`: messages in JSON, by msgspec, pydantic or cattrs."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Generic, Literal, Protocol, TypeVar, final, get_args, get_origin, get_type_hints, overload

from typing_extensions import TypeForm, is_typeddict

from ..errors import DecodeError, EncodeError, MissingExtra, describe
from .backend import Backend

Message = TypeVar("Message")

Library = Literal["msgspec", "pydantic", "cattrs"]

_LIBRARIES: tuple[Library, ...] = get_args(Library)

_MARKS: dict[str, Library] = {
    "__struct_fields__": "msgspec",
    "__get_pydantic_core_schema__": "pydantic",
    "__is_pydantic_dataclass__": "pydantic",
    "__attrs_attrs__": "cattrs",
}
"""Attributes of the classes of each library."""


class JsonConverter(Protocol):
    """A converter of `cattrs.preconf`, for any JSON library. The types of its methods depend on the library."""

    @property
    def dumps(self) -> Callable[..., str | bytes]:
        """Encodes an object as JSON."""
        ...

    @property
    def loads(self) -> Callable[..., object]:
        """Decodes JSON to an object of a type."""
        ...


@final
class Json(Generic[Message]):
    """A `Codec` for messages in JSON: `Json(Move)`, `Json(Move | Chat)`, `Json(list[int])`.

    Types of msgspec, pydantic and attrs are encoded and decoded by msgspec, pydantic and cattrs. Other types (builtins,
    dataclasses, each `TypedDict`, and so on) are encoded and decoded by the first of these libraries that is installed.

    Messages are sent as text. Binary messages are decoded too, because many clients send JSON as bytes.

    :param kind: the type of the messages. For several types, use a union that its library can tell apart.
    :param using: the library to use, or a converter of `cattrs.preconf`; by default the library of the type.
    :raises MissingExtra: if the library is not installed; the error message says what to install.
    :raises TypeError: if the type has parts from several libraries; choose one with `using`.

    If the library does not support the type, the library's own error is raised.
    """

    __slots__ = ("_backend", "_kind", "_using")

    text: bool = True
    """JSON is sent as text."""

    # The first overload is for older type checkers, which do not know `TypeForm`.
    @overload
    def __init__(self, kind: type[Message], *, using: Library | JsonConverter | None = None) -> None: ...
    @overload
    def __init__(self, kind: TypeForm[Message], *, using: Library | JsonConverter | None = None) -> None: ...
    def __init__(self, kind: object, *, using: Library | JsonConverter | None = None) -> None:
        self._backend = _make_backend(kind, using)
        self._kind = kind
        self._using = using

    def __eq__(self, other: object) -> bool:
        """Return whether the other codec is made from the same type and library."""
        if not isinstance(other, Json):
            return NotImplemented
        return self is other or (self._kind == other._kind and self._using == other._using)

    def __hash__(self) -> int:
        return hash(Json)  # not of the type, which need not be hashable: an `Annotated` with a list, for example

    def encode(self, message: Message) -> bytes:
        """Encode a message as JSON in UTF-8.

        :raises EncodeError: if the message cannot be encoded.
        """
        try:
            return self._backend.encode(message)
        except Exception as error:
            raise self._encode_error(message, error) from error

    def decode(self, data: str | bytes) -> Message:
        """Decode a message.

        :raises DecodeError: if the message is not valid; `reason` says where and why.
        """
        try:
            message: Message = self._backend.decode(data)
        except Exception as error:
            raise self._decode_error(error) from error
        return message

    def _encode_error(self, message: object, error: Exception) -> EncodeError:
        return EncodeError(f"cannot encode {type(message).__name__} as JSON: {describe(error)}")

    def _decode_error(self, error: Exception) -> DecodeError:
        return DecodeError(self._backend.explain(error))


def _make_backend(kind: object, using: Library | JsonConverter | None) -> Backend:
    if using is None:
        return _maker(_library_of(kind))(kind)
    if not isinstance(using, str):
        return _maker("cattrs")(kind, using)
    if using not in _LIBRARIES:
        raise ValueError(f"using must be one of {', '.join(map(repr, _LIBRARIES))} or a converter, not {using!r}")
    return _maker(using)(kind)


def _maker(library: Library) -> Callable[..., Backend]:
    """Load the module of a library, which is imported only when it is used, and return the function in it.

    :raises MissingExtra: if the library is not installed.
    """
    make: Callable[..., Backend] = import_module(f"{__package__}.{library}_json").make_backend
    return make


def _library_of(kind: object) -> Library:
    """Return the library that a type belongs to; if it belongs to none, the first one that is installed."""
    libraries = sorted({*_libraries_in(kind, {})})
    if len(libraries) > 1:
        raise TypeError(f"{kind!r} has types of {' and '.join(libraries)}: choose one of them with using=")
    if libraries:
        return libraries[0]
    for library in _LIBRARIES:
        if find_spec(library) is not None:
            return library
    raise MissingExtra("Json needs msgspec, pydantic or cattrs: pip install 'streamws[msgspec]'")


def _libraries_in(kind: object, seen: dict[int, object]) -> Iterator[Library]:
    """Yield the libraries of the types inside a type."""
    if id(kind) in seen:
        return  # a recursive type
    seen[id(kind)] = kind  # keeps it alive, so that no other type gets its id
    origin = get_origin(kind)
    if origin is Literal:
        return
    if isinstance(kind, type):
        yield from (library for mark, library in _MARKS.items() if hasattr(kind, mark))
    inner: list[object] = [origin, getattr(kind, "__value__", None)]  # of a generic, and of a type alias
    if origin is Annotated:
        kind, *metadata = get_args(kind)
        inner.append(kind)
        for item in metadata:
            module = type(item).__module__.partition(".")[0]
            if module in _LIBRARIES:
                yield module
    else:
        inner += get_args(kind)
    if dataclasses.is_dataclass(kind) or is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, tuple)):
        inner += _fields_of(kind)
    for part in inner:
        yield from _libraries_in(part, seen)


def _fields_of(kind: object) -> Iterable[object]:
    """Return the types of the fields of a dataclass, `TypedDict` or `NamedTuple`."""
    try:
        return get_type_hints(kind, include_extras=True).values()
    except NameError:
        return ()  # a type that only the library can find, or that does not exist
