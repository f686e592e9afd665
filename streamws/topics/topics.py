"""`Topics`: the topics of an application."""

from types import TracebackType
from typing import Any, TypeVar, final, overload
from weakref import WeakValueDictionary

from ..errors import LimitExceeded, UsageError
from ..messages.codec import Codec
from ..options import TopicLimits, options_of
from .broker import Broker
from .checks import check_function, check_text, is_broker, is_codec
from .core import Core
from .publishing import OnError
from .stats import TopicsStats
from .topic import Topic
from .values import History

T = TypeVar("T")


@final
class Raw:
    """A `Codec` that changes nothing: `str` is text, `bytes` is binary."""

    __slots__ = ()

    text: bool = False

    def encode(self, message: str | bytes) -> str | bytes:
        """Return the message."""
        return message

    def decode(self, data: str | bytes) -> str | bytes:
        """Return the message."""
        return data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Raw)

    def __hash__(self) -> int:
        return hash(Raw)


_RAW = Raw()


class Topics:
    """The topics of an application: `async with Topics(MemoryBroker()) as topics`, usually in the server's `lifespan`.

    :param broker: keeps the topics and delivers their publications.
    :param limits: bounds and deadlines.
    :param on_error: called with the name of the topic and the error for each publication of `publish_soon` that has
        failed. By default, they are logged.

    It belongs to the event loop on which it is entered.
    """

    def __init__(self, broker: Broker, *, limits: TopicLimits | None = None, on_error: OnError | None = None) -> None:
        if not is_broker(broker):
            raise TypeError(f"broker must be a Broker, not {broker!r}: write Topics(MemoryBroker())")
        check_function("on_error", on_error)
        self._core = Core(broker, options_of("limits", TopicLimits, limits), on_error)
        self._topics: WeakValueDictionary[str, Topic[Any]] = WeakValueDictionary()

    def __repr__(self) -> str:
        state = "open" if self._core.is_open else "not open"
        return f"<Topics on {self._core.broker!r}, {self.followed} followed, {state}>"

    async def __aenter__(self) -> "Topics":
        """Open the broker.

        :raises BrokerError: if the broker refuses its work for good, for example because of a wrong password.
        """
        await self._core.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the publications of `publish_soon`, for up to `TopicLimits.close_timeout`; end everything else.

        Subscriptions end. Connections stay open, and get no more publications.
        """
        await self._core.close()

    @overload
    def topic(self, name: str, codec: Codec[T, T], *, history: History | None = None) -> Topic[T]: ...
    @overload
    def topic(self, name: str, *, history: History | None = None) -> Topic[str | bytes]: ...
    def topic(self, name: str, codec: Codec[Any, Any] = _RAW, *, history: History | None = None) -> Topic[Any]:
        """Return a topic. The same name gives the same topic, in all processes with the same broker.

        :param name: the name; any text of 1 to `TopicLimits.max_name` bytes.
        :param codec: encodes and decodes the messages; without it, they are `str` or `bytes`.
        :param history: how many publications are kept, for those that join later or come back; None to keep none.
        :raises UsageError: if the program uses the topic with another codec or history.
        :raises LimitExceeded: if the name is too long.
        :raises ValueError: if the name is empty or not valid Unicode.
        """
        topic = self._topics.get(name)
        if topic is None:
            self._check_name(name)
            if not is_codec(codec):
                raise TypeError(f"codec must be a Codec, not {codec!r}: write Json(Move), for example")
            if history is not None:
                options_of("history", History, history)
            topic = self._topics[name] = Topic(self._core, name, codec, history)
            return topic
        if topic.codec is not codec and topic.codec != codec:
            raise UsageError(f"topic {name!r} is used with another codec: pass an equal one, or the same object")
        if topic.history is not history and topic.history != history:
            raise UsageError(f"topic {name!r} is used with another history: {topic.history!r}")
        return topic

    def find(self, name: str) -> Topic[object] | None:
        """Return the topic of a name if the program uses it, otherwise None.

        A program uses a topic while it refers to the `Topic`, or while connections follow it.
        """
        return self._topics.get(name)

    def _check_name(self, name: str) -> None:
        check_text("the name of a topic", name)
        if not name:
            raise ValueError("the name of a topic must not be empty")
        try:
            size = len(name.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"the name of a topic must be valid Unicode: {error}") from error
        most = self._core.limits.max_name
        if size > most:
            raise LimitExceeded(f"the name of a topic has {size} bytes (TopicLimits.max_name: {most})")

    @property
    def limits(self) -> TopicLimits:
        """The bounds and deadlines."""
        return self._core.limits

    @property
    def stats(self) -> TopicsStats:
        """Counters of the topics in this process, and of the broker. They may be read in any thread, at any time."""
        return self._core.stats()

    @property
    def failed(self) -> int:
        """The number of publications of `publish_soon` that have failed after it had returned True."""
        return self._core.publisher.failed

    @property
    def followed(self) -> int:
        """The number of topics that have followers in this process."""
        return len(self._core.audiences)
