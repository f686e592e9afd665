"""Values of topics: positions, publications, gaps, and the settings of a history."""

from collections.abc import Mapping
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, final

import attrs

from ..errors import DecodeError, describe
from ..messages.codec import Codec
from ..options import MiB, check_positive_int, check_positive_seconds

T = TypeVar("T")

_Tuple = TypeVar("_Tuple", bound=tuple[Any, ...])


class _NewTuple(Protocol):
    def __call__(self, kind: type[_Tuple], fields: tuple[object, ...], /) -> _Tuple: ...


new_tuple: _NewTuple = tuple.__new__
"""Makes a `NamedTuple` from a tuple of all fields. The constructor of a `NamedTuple` is a Python function, which takes
twice as long. Several are made for each publication."""

Slow = Literal["disconnect", "drop-oldest", "drop-newest", "latest"]
"""What happens to a follower that reads too slowly; see `Topic.join`."""

SlowFeed = Literal["wait", "disconnect", "drop-oldest", "drop-newest", "latest"]
"""What happens to a subscription that is read too slowly; see `Topic.subscribe`."""


class Position(NamedTuple):
    """A place in a topic: after the publication with this offset.

    :param epoch: changes whenever the broker has forgotten the last offset of the topic. Offsets of two epochs cannot
        be compared.
    :param offset: the number of publications of the topic in this epoch, up to here.
    """

    epoch: str
    offset: int


class Gap(NamedTuple):
    """Publications are missing between a position and the next publication that is delivered.

    :param since: the last position up to which nothing is missing.
    """

    since: Position


class Published(NamedTuple):
    """The result of a publication.

    :param position: the position of the publication. None if the broker did not keep it: the topic has no follower
        and no history.
    :param duplicate: whether nothing was published now, because a publication with the same idempotency key was made
        before.
    """

    position: Position | None
    duplicate: bool = False


class Joined(NamedTuple):
    """The result of joining a topic.

    :param position: the follower gets all publications after this position.
    :param recovered: whether nothing is missing between `since` and `position`. False without `since`.
    """

    position: Position
    recovered: bool


class Record(NamedTuple):
    """A publication as a broker keeps and delivers it: encoded.

    :param payload: the encoded message: `str` is text, `bytes` is binary.
    :param position: the position after it.
    :param key: what the message is about, for the policy `latest`.
    :param time: when it was published, in seconds since 1970.
    """

    payload: str | bytes
    position: Position
    key: str | None
    time: float


@final
class Publication(Generic[T]):
    """A message that was published in a topic."""

    __slots__ = ("_codec", "_data", "_record", "topic")

    def __init__(self, topic: str, record: Record, codec: Codec[T, Any]) -> None:
        self.topic: str = topic
        """The name of the topic."""
        self._record = record
        self._codec: Codec[T, Any] | None = codec  # None once `_data` is decoded
        self._data: T

    @property
    def data(self) -> T:
        """The message. It is decoded when it is first asked for; all followers of this process share the object.

        :raises DecodeError: if it cannot be decoded.
        """
        codec = self._codec
        if codec is not None:
            try:
                self._data = codec.decode(self._record.payload)
            except DecodeError:
                raise
            except Exception as error:
                raise DecodeError(describe(error)) from error
            self._codec = None
        return self._data

    @property
    def payload(self) -> str | bytes:
        """The encoded message: `str` is sent as text, `bytes` as binary."""
        return self._record.payload

    @property
    def position(self) -> Position:
        """The position after this publication. To continue after it later, pass it as `since`."""
        return self._record.position

    @property
    def key(self) -> str | None:
        """What the message is about, as given to `publish`."""
        return self._record.key

    @property
    def time(self) -> float:
        """When it was published, in seconds since 1970, by the clock of the broker."""
        return self._record.time

    def __repr__(self) -> str:
        epoch, offset = self.position
        key = "" if self.key is None else f", key {self.key!r}"
        return f"<Publication {offset} in {self.topic!r}, epoch {epoch}{key}>"


class HistoryPage(NamedTuple, Generic[T]):
    """Publications that were read from the history of a topic.

    :param publications: oldest first.
    :param position: the position of the topic: that of its last publication, whether or not the history still has
        it.
    :param complete: whether nothing is missing between `since` and `position`, apart from what `limit` left out.
    """

    publications: tuple[Publication[T], ...]
    position: Position
    complete: bool


@attrs.frozen
class History:
    """How many publications a topic keeps. The oldest ones are dropped as soon as one of the bounds is exceeded.

    :param size: the most publications.
    :param seconds: how long a publication is kept, in seconds.
    :param max_bytes: the most bytes of all publications together. Each counts 64 bytes more than its payload.
    """

    size: int = attrs.field(default=100, validator=check_positive_int)
    seconds: float = attrs.field(default=300.0, validator=check_positive_seconds)
    max_bytes: int = attrs.field(default=MiB, validator=check_positive_int)


class Connection(NamedTuple):
    """One connection of a member.

    :param user: the user whose connection it is.
    :param data: what the application has given to `Presence.enter`.
    """

    user: str
    data: str


class Member(NamedTuple):
    """A user that is present in a topic, with one connection or several.

    :param user: the user, as given to `Presence.enter`.
    :param data: the data of the connection that entered last.
    :param connections: the data of each connection, by the ids of the connections, in the order in which they
        entered.
    """

    user: str
    data: str
    connections: Mapping[str, str]


class PresenceCount(NamedTuple):
    """How many are present in a topic.

    :param members: the number of users.
    :param connections: the number of their connections.
    """

    members: int
    connections: int


class PresenceEvent(NamedTuple):
    """A connection has entered a topic or left it.

    :param kind: what has happened, `"join"` or `"leave"`.
    :param user: whose connection it is.
    :param data: the data of the connection.
    :param connection: the id of the connection.
    :param changed: whether the member has come or gone with it: it is the user's first connection, or was the last one.
    """

    kind: Literal["join", "leave"]
    user: str
    data: str
    connection: str
    changed: bool
