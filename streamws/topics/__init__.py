"""Topics: one message to all who follow a topic."""

from ..channel import Recipient
from ..options import TopicLimits
from .broker import Broker, Outgoing, Page, Receiver
from .centrifugo.codes import CentrifugoDisconnect, CentrifugoError
from .centrifugo.commands import JsonValue
from .centrifugo.endpoint import CentrifugoEndpoint, Rpc
from .centrifugo.settings import Connected
from .memory import MemoryBroker
from .presence import Presence
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

__all__ = [
    "Broker",
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
]
