"""Topics: one message to all who follow a topic."""

from importlib import import_module
from typing import TYPE_CHECKING

from ..channel import Recipient
from ..options import TopicLimits
from .broker import Broker, Outgoing, Page, Receiver, WatchedBroker
from .centrifugo.codes import CentrifugoDisconnect, CentrifugoError
from .centrifugo.commands import JsonValue
from .centrifugo.endpoint import CentrifugoEndpoint, Rpc
from .centrifugo.settings import Connected
from .memory import MemoryBroker
from .presence import Presence
from .stats import BrokerConnection, BrokerStats, TopicsStats
from .subscription import Subscription
from .topic import Topic
from .topics import Topics
from .values import (
    Connection,
    Gap,
    History,
    HistoryPage,
    Joined,
    Member,
    Position,
    PresenceCount,
    PresenceEvent,
    Publication,
    Published,
    Record,
)

if TYPE_CHECKING:
    from .redis.broker import RedisBroker as RedisBroker

__all__ = [
    "Broker",
    "BrokerConnection",
    "BrokerStats",
    "CentrifugoDisconnect",
    "CentrifugoEndpoint",
    "CentrifugoError",
    "Connected",
    "Connection",
    "Gap",
    "History",
    "HistoryPage",
    "Joined",
    "JsonValue",
    "Member",
    "MemoryBroker",
    "Outgoing",
    "Page",
    "Position",
    "Presence",
    "PresenceCount",
    "PresenceEvent",
    "Publication",
    "Published",
    "Receiver",
    "Recipient",
    "Record",
    "Rpc",
    "Subscription",
    "Topic",
    "TopicLimits",
    "Topics",
    "TopicsStats",
    "WatchedBroker",
]

# Not in __all__: `from streamws.topics import *` needs no extra.
_LOADED_WHEN_USED = {"RedisBroker": "redis.broker"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _LOADED_WHEN_USED:
            found = getattr(import_module(f"{__name__}.{_LOADED_WHEN_USED[name]}"), name)
            globals()[name] = found
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LOADED_WHEN_USED})
