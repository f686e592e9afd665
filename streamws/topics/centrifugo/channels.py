"""`Channels`: what one client does with topics, which it calls channels."""

import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Generic

import attrs

from ...errors import BrokerError, ConnectionClosed, DecodeError, LimitExceeded, UsageError, describe
from ...messages.json import Json
from ..topic import Topic
from ..values import Joined, Position, Publication
from . import commands, replies
from .codes import CentrifugoError, DisconnectCode, ErrorCode, UnsubscribeCode
from .commands import JsonValue
from .frames import PresenceFrame, encode_info, encode_publication, publication_frame
from .replies import Encoded
from .settings import Action, AnyClient, AnyTopic, Settings, check_awaitable, check_type

logger: logging.Logger = logging.getLogger("streamws.topics")


@attrs.define
class Identity:
    """Who a client is.

    :param id: the id of the connection.
    :param user: the id of the user; empty for an anonymous one.
    :param info: the encoded `info` of `Connected`; empty for None.
    """

    id: str
    user: str = ""
    info: str = ""


class Channels(Generic[AnyClient]):
    """The subscriptions of one connection, and its other commands about channels."""

    __slots__ = ("_beginning", "_channels", "_client", "_identity", "_settings")

    def __init__(self, client: AnyClient, settings: Settings[AnyClient], identity: Identity) -> None:
        self._client = client
        self._settings = settings
        self._identity = identity
        self._channels: dict[str, AnyTopic] = {}  # those to which the client has subscribed
        # The channel to which the client is about to subscribe. None if there is none, or if the program has ended it.
        self._beginning: str | None = None

    async def _find(self, action: Action, channel: str) -> AnyTopic:
        """Return the topic of a channel.

        :raises CentrifugoError: if there is none, or if the client is not allowed to do this with it.
        """
        if not await self._is_allowed(action, channel):
            raise CentrifugoError(ErrorCode.PERMISSION_DENIED)
        topic = self._settings.find(channel)
        if topic is None:
            raise CentrifugoError(ErrorCode.UNKNOWN_CHANNEL)
        check_type("find", topic, Topic)
        if topic.name != channel:
            raise ValueError(f"find({channel!r}) must return the topic of this name, not {topic!r}")
        return topic

    async def _is_allowed(self, action: Action, channel: str) -> bool:
        settings = self._settings
        if settings.authorize is None:
            return False
        size = len(channel.encode())
        if size > settings.max_name:
            raise LimitExceeded(f"the name of a channel has {size} bytes (TopicLimits.max_name: {settings.max_name})")
        allowed = await check_awaitable("authorize", settings.authorize(self._client, action, channel))
        return check_type("authorize", allowed, bool)

    async def subscribe(self, command: commands.Subscribe) -> None:
        """Begin a subscription, and reply."""
        channel = command.channel
        if channel in self._channels:
            raise CentrifugoError(ErrorCode.ALREADY_SUBSCRIBED)
        self._beginning = channel
        try:
            await self._begin(command)
        except UsageError:
            self._check_beginning()
            raise
        finally:
            self._beginning = None

    async def _begin(self, command: commands.Subscribe) -> None:
        channel = command.channel
        topic = await self._find("subscribe", channel)
        present = await self._is_allowed("presence", channel)
        positioned = topic.history is not None
        trusted = isinstance(topic.codec, Json)
        since = None
        if command.since is not None and positioned:
            since = await self._position(topic, command.since)
        self._check_beginning()
        sending: list[Coroutine[object, None, None]] = []

        def reply(joined: Joined, publications: Sequence[Publication[Any]]) -> None:
            recovered = joined.recovered and len(publications) <= self._settings.max_history
            if command.reject_unrecovered and since is not None and not recovered:
                raise CentrifugoError(ErrorCode.UNRECOVERABLE_POSITION)
            missed = [encode_publication(publication, True, trusted) for publication in publications if recovered]
            # A client that recovers keeps its position, and moves on with each publication that it handles.
            position = joined.position
            if recovered and since is not None:
                position = Position(position.epoch, since.offset)
            result = replies.subscribe_result(
                position if positioned else None,
                recovering=command.since is not None,
                recovered=recovered,
                publications=missed,
            )
            self._beginning = None
            # It is sent now: later publications come after it.
            sending.append(self._client.send(replies.reply(command.id, "subscribe", result)))

        async def unsubscribe() -> None:
            await self.unsubscribe(channel, UnsubscribeCode.INSUFFICIENT_STATE, "insufficient state")

        def lose(*_: object) -> Coroutine[object, None, None]:
            # The subscription ends now: the client must not get what follows the gap, or is of another epoch.
            topic._stop(self._client)
            return unsubscribe()

        self._channels[channel] = topic
        try:
            await topic.join(
                self._client,
                since=since,
                backlog=self._settings.backlog,
                slow_code=DisconnectCode.SLOW,
                frame=publication_frame(positioned, trusted),
                presence_frame=self._presence_frame(channel) if present and command.join_leave else None,
                on_gap=lose,
                on_epoch=lose if positioned else None,
                on_joined=reply,
            )
        except BaseException:
            self._channels.pop(channel, None)
            for coroutine in sending:
                coroutine.close()
            raise
        await sending[0]
        who = self._identity
        if present and channel in self._channels:  # the program may have ended the subscription meanwhile
            try:
                await topic.presence.enter(self._client, who.user, who.info, connection=who.id)
            except BrokerError as error:
                logger.warning("Centrifugo client %s is not present in %r: %s", who.id, channel, describe(error))

    def _check_beginning(self) -> None:
        """Check that the program has not ended the subscription that is about to begin."""
        if self._beginning is None:
            raise CentrifugoError(ErrorCode.PERMISSION_DENIED)

    def _presence_frame(self, channel: str) -> PresenceFrame:
        frames = self._settings.presence_frames
        frame = frames.get(channel)
        if frame is None:
            frame = frames[channel] = PresenceFrame(channel)
        return frame

    async def _position(self, topic: AnyTopic, position: Position) -> Position:
        """Return a position that a client gave. Without an epoch it means the current one."""
        if position.epoch:
            return position
        page = await topic.read_history(limit=0)
        return Position(page.position.epoch, position.offset)

    async def leave(self, channel: str) -> bool:
        """End a subscription without telling the client; return whether there was one."""
        topic = self._channels.pop(channel, None)
        if topic is None:
            return False
        await topic.leave(self._client)
        return True

    async def unsubscribe(self, channel: str, code: int, reason: str) -> bool:
        """End a subscription and tell the client; return whether there was one."""
        if channel == self._beginning:
            self._beginning = None  # the reply will be an error
            await self.leave(channel)
            return True
        if not await self.leave(channel):
            return False
        with suppress(ConnectionClosed):
            await self._client.send(replies.unsubscribe_push(channel, code, reason))
        return True

    async def publish(self, command: commands.Publish) -> None:
        """Publish to a channel."""
        topic = await self._find("publish", command.channel)
        await topic.publish(self._decode(topic, command.data), client=self._client)

    def _decode(self, topic: AnyTopic, data: JsonValue) -> object:
        """Decode data of a client with the codec of a topic.

        :raises DecodeError: if it is not valid.
        """
        try:
            message: object = topic.codec.decode(replies.encode(data))
        except DecodeError:
            raise
        except Exception as error:
            # The text of the error may not be meant for clients.
            raise DecodeError("the data is not valid for this channel") from error
        return message

    async def presence(self, channel: str) -> Encoded:
        """Return the members of a channel."""
        topic = await self._find("presence", channel)
        connections = await topic.presence.connections()
        members = {id: replies.client_info(user, id, encode_info(data)) for id, (user, data) in connections.items()}
        return replies.presence_result(members)

    async def presence_stats(self, channel: str) -> Encoded:
        """Return the numbers of members and connections of a channel."""
        topic = await self._find("presence", channel)
        members, connections = await topic.presence.count()
        return replies.presence_stats_result(connections, members)

    async def history(self, command: commands.History) -> Encoded:
        """Return publications of a channel."""
        topic = await self._find("history", command.channel)
        if topic.history is None:
            raise CentrifugoError(ErrorCode.NOT_AVAILABLE)
        most = self._settings.max_history
        limit = most if command.limit < 0 else min(command.limit, most)
        since = None if command.since is None else await self._position(topic, command.since)
        if since is not None and command.reverse:
            page = await topic.read_history()
            before = [publication for publication in page.publications if publication.position.offset < since.offset]
            publications = before[len(before) - limit :] if limit < len(before) else before
        else:
            page = await topic.read_history(since=since, limit=limit, newest=command.reverse)
            publications = [*page.publications]
        # In the same epoch, the offsets tell the client what is missing.
        if since is not None and since.epoch != page.position.epoch:
            raise CentrifugoError(ErrorCode.UNRECOVERABLE_POSITION)
        if command.reverse:
            publications.reverse()
        trusted = isinstance(topic.codec, Json)
        encoded = [encode_publication(publication, True, trusted) for publication in publications]
        return replies.history_result(encoded, page.position)
