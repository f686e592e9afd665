"""`Key`: a typed key for a value that the application stores with a connection."""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, overload

__all__ = ["Key", "check_key", "typed_get"]

_T = TypeVar("_T")
_D = TypeVar("_D")


class Key(Generic[_T]):
    """A typed key for a value that is stored with a connection: `request[KEY] = value`, `client[KEY]`.

    Make each key once, as a constant of a module: `USER: Key[User] = Key("user")`. Two keys are different even if they
    have the same name, so that the keys of different modules never collide.

    :param name: a name for error messages and `repr`.
    :raises TypeError: if the name is not `str`.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a Key must be str, not {name!r}")
        self.name: str = name
        """The name, for error messages and `repr`."""

    def __repr__(self) -> str:
        return f"<Key {self.name!r}>"


def check_key(key: object) -> None:
    """Check that a key is a `Key`.

    :raises TypeError: if it is not.
    """
    if isinstance(key, int):  # iterating tries the keys 0, 1, ...
        raise TypeError("values are stored by Key, not by int; to iterate over messages, write `async for`")
    if not isinstance(key, Key):
        raise TypeError(
            f"values are stored by Key, not by {key!r:.80}: write USER: Key[User] = Key('user') once in a module, "
            "and use USER as the key"
        )


class _BoundGet(Protocol):
    @overload
    def __call__(self, key: Key[_T], default: None = None) -> _T | None: ...

    @overload
    def __call__(self, key: Key[_T], default: _D) -> _T | _D: ...


class _Get(Protocol):
    @overload
    def __get__(self, keyed: None, owner: object) -> Callable[..., object]: ...

    @overload
    def __get__(self, keyed: object, owner: object) -> _BoundGet: ...


def typed_get(get: Any) -> _Get:
    """Give a method `get` its overloads. A compiled class cannot define the same method several times."""
    typed: _Get = get
    return typed
