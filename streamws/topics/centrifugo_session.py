"""One connection that speaks the JSON client protocol of Centrifugo."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import cache
from math import ceil
from random import random
from time import time
from typing import Any, Generic, Literal, Protocol, TypeAlias
from uuid import uuid4
from weakref import WeakValueDictionary

import attrs
from typing_extensions import TypeVar

from ..channel import Channel, Recipient
from ..errors import BrokerError, ConnectionClosed, DecodeError, LimitExceeded, describe
from ..messages.json import Json
from ..wire.protocol import shorten
from . import centrifugo_protocol as protocol
from .centrifugo_protocol import (
    BadRequest,
    CentrifugoDisconnect,
    CentrifugoError,
    Command,
    DisconnectCode,
    Encoded,
    ErrorCode,
    JsonValue,
    UnsubscribeCode,
)
from .topic import Topic
from .values import Joined, Position, PresenceEvent, Publication

logger = logging.getLogger("streamws.topics")

Action: TypeAlias = Literal["subscribe", "publish", "presence", "history"]
"""What a client may be allowed to do with a topic."""

_MAX_TTL = 365 * 24 * 3600
"""The most seconds that clients are told until a connection expires."""

_BURST = 10.0
"""A client that was quiet may send as many commands at once as in so many seconds."""


@attrs.frozen
class Connected:
    """Who has connected: the result of the `connect` function of a `CentrifugoEndpoint`.

    :param user: the id of the user; empty for an anonymous one.
    :param data: anything that JSON can express, for the client: it gets this with its event `connected`.
    :param info: anything that JSON can express, for others: presence, joins and leaves have it as `conn_info`.
    :param expires_at: when the connection expires, in seconds since 1970, as the claim `exp` of a token says. Until
        then the client has to send a new token. None if it never expires.
    """

    user: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    data: object = attrs.field(default=None, kw_only=True)
    info: object = attrs.field(default=None, kw_only=True)
    expires_at: float | None = attrs.field(default=None, kw_only=True)


class EndpointClient(Channel, Recipient, Protocol):
    """The methods of a connection that an endpoint needs. `Client` has them."""


AnyClient = TypeVar("AnyClient", bound=EndpointClient, default=EndpointClient)

AnyTopic: TypeAlias = Topic[Any]

Connect: TypeAlias = Callable[[AnyClient, str, JsonValue], Awaitable[Connected]]
Authorize: TypeAlias = Callable[[AnyClient, Action, str], Awaitable[bool]]
OnMessage: TypeAlias = Callable[[AnyClient, JsonValue], Awaitable[None]]
Function: TypeAlias = Callable[[AnyClient, JsonValue], Awaitable[Encoded]]
"""Calls a function of the application with decoded JSON, and encodes its result."""


class PresenceFrame:
    """Makes the pushes that tell of joins and leaves in a channel."""

    __slots__ = ("__weakref__", "_channel")

    def __init__(self, channel: str) -> None:
        self._channel = channel

    def __call__(self, event: PresenceEvent) -> Encoded:
        info = protocol.client_info(event.user, event.connection, _decode_info(event.data))
        return protocol.push(self._channel, event.kind, protocol.encode_object([("info", info)]))


@cache
def publication_frame(positioned: bool, trusted: bool) -> Callable[[Publication[Any]], Encoded]:
    """Return a function that makes the push of a publication; always the same one, so that the push is made once.

    :param positioned: whether the topic has a history.
    :param trusted: whether the payloads are known to be JSON.
    """

    def frame(publication: Publication[Any]) -> Encoded:
        return protocol.push(publication.topic, "pub", encode_publication(publication, positioned, trusted))

    return frame


def encode_publication(publication: Publication[Any], positioned: bool, trusted: bool) -> Encoded:
    """Encode a publication. A payload that is not JSON becomes a string."""
    payload = publication.payload
    try:
        data = protocol.embed(payload, trusted=trusted)
    except ValueError:
        data = protocol.encode(payload if isinstance(payload, str) else b64encode(payload).decode())
    return protocol.publication(data, offset=publication.position.offset if positioned else 0)


def _decode_info(data: str) -> Encoded | None:
    """Return the data of a member as JSON; the application may have stored any text."""
    if not data:
        return None
    try:
        return protocol.embed(data, trusted=False)
    except ValueError:
        return protocol.encode(data)


@attrs.frozen(kw_only=True)
class Settings(Generic[AnyClient]):
    """What the sessions of an endpoint share."""

    find: Callable[[str], AnyTopic | None]
    connect: Connect[AnyClient] | None
    authorize: Authorize[AnyClient] | None
    functions: Mapping[str, Function[AnyClient]] | None
    on_message: OnMessage[AnyClient] | None
    ping_interval: float
    pong_timeout: float
    connect_timeout: float
    expiry_grace: float
    max_history: int
    max_calls: int
    max_command_rate: float | None
    backlog: int
    presence_frames: "WeakValueDictionary[str, PresenceFrame]" = attrs.field(
        factory=lambda: WeakValueDictionary[str, PresenceFrame](), init=False
    )
    """One for each topic, so that the connections share what is sent."""


class Session(Generic[AnyClient]):
    """Carries out the commands of one connection, one after the other; functions run beside them."""

    __slots__ = (
        "_awaiting_pong",
        "_busy",
        "_calls",
        "_channels",
        "_client",
        "_connected",
        "_expires_at",
        "_expiry",
        "_id",
        "_info",
        "_last_command",
        "_loop",
        "_ping",
        "_settings",
        "_tasks",
        "_tokens",
        "_unusable",
        "_user",
    )

    def __init__(self, client: AnyClient, settings: Settings[AnyClient]) -> None:
        self._client = client
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._connected = False
        self._unusable = False  # whether the command `connect` has failed
        self._id = str(uuid4())
        self._user = ""
        self._info = ""  # the encoded `info` of `Connected`; empty for None
        self._channels: dict[str, AnyTopic] = {}  # those to which the client has subscribed
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = 0  # the functions that run now
        self._busy = False  # whether a command is being carried out: nothing is read meanwhile
        self._awaiting_pong = False
        self._expires_at: float | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._ping = self._loop.call_later(settings.connect_timeout, self._disconnect_soon, DisconnectCode.STALE)
        self._tokens = (settings.max_command_rate or 0.0) * _BURST  # the commands that the client may send now
        self._last_command = self._loop.time()

    # The connection --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry out commands until the connection ends."""
        client = self._client
        try:
            while True:
                message = await client.read_message()
                self._busy = True
                for command in protocol.decode_commands(message):
                    await self._process(command)
                self._busy = False
        except ConnectionClosed:
            pass
        except BadRequest as error:
            await self._disconnect(DisconnectCode.BAD_REQUEST, f"bad request: {error}")
        except CentrifugoDisconnect as error:
            await self._disconnect(error.code, error.reason)
        finally:
            await self._end()

    async def _disconnect(self, code: int, reason: str) -> None:
        logger.info("Centrifugo client %s of user %r: disconnected with %d %s", self._id, self._user, code, reason)
        await self._client.close(code, shorten(reason))

    def _disconnect_soon(self, code: DisconnectCode) -> None:
        self._spawn(self._disconnect(code, code.reason))

    def _spawn(self, coroutine: Coroutine[object, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        self._ping.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _reply(self, number: int, method: str, result: Encoded) -> None:
        await self._client.send(protocol.reply(number, method, result))

    # Commands --------------------------------------------------------------------------------------------------

    async def _process(self, command: Command) -> None:
        """Carry out a command.

        :raises BadRequest, CentrifugoDisconnect: if the connection must be closed.
        """
        if not self._connected:
            if not isinstance(command, protocol.Connect):
                raise BadRequest("the first command must be connect")
            if self._unusable:
                raise BadRequest("connect has failed")
        elif isinstance(command, protocol.Connect):
            raise BadRequest("connected already")
        if isinstance(command, protocol.Pong):
            if not self._awaiting_pong:
                raise BadRequest("a pong without a ping")
            self._awaiting_pong = False
            return
        allowed = self._count_command()
        if isinstance(command, protocol.Send):
            if not allowed:  # there is no reply that could say so
                raise CentrifugoDisconnect(DisconnectCode.TOO_MANY_REQUESTS)
            await self._receive(command)
        elif not allowed:
            await self._refuse(command.id, CentrifugoError(ErrorCode.TOO_MANY_REQUESTS))
        else:
            await self._attempt(command.id, self._carry_out(command))

    def _count_command(self) -> bool:
        """Count a command, and return whether the client may send it now."""
        rate = self._settings.max_command_rate
        if rate is None:
            return True
        now = self._loop.time()
        self._tokens = min(rate * _BURST, self._tokens + (now - self._last_command) * rate)
        self._last_command = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def _refuse(self, number: int, error: CentrifugoError) -> None:
        await self._client.send(protocol.error_reply(number, error.code, error.message, error.temporary))

    async def _attempt(self, number: int, work: Awaitable[None]) -> None:
        """Await the work of a command, and answer with an error if it fails.

        :raises BadRequest, CentrifugoDisconnect, ConnectionClosed: if the connection must be closed, or has ended.
        """
        try:
            await work
        except (BadRequest, CentrifugoDisconnect):
            raise
        except CentrifugoError as error:
            await self._refuse(number, error)
        except DecodeError as error:
            await self._refuse(number, CentrifugoError(ErrorCode.BAD_REQUEST, f"bad request: {error.reason}"))
        except LimitExceeded as error:
            logger.info("Centrifugo client %s of user %r: %s", self._id, self._user, error)
            await self._refuse(number, CentrifugoError(ErrorCode.LIMIT_EXCEEDED))
        except BrokerError as error:
            logger.warning("Centrifugo client %s: a command has failed: %s", self._id, describe(error))
            await self._refuse(number, CentrifugoError(ErrorCode.INTERNAL))
        except Exception as error:
            if isinstance(error, ConnectionClosed) and self._client.outcome is not None:
                raise  # this connection has ended; not another one, to which the application has sent something
            logger.exception("Centrifugo client %s: a command has failed", self._id)
            await self._refuse(number, CentrifugoError(ErrorCode.INTERNAL))

    async def _carry_out(self, command: Command) -> None:
        match command:
            case protocol.Connect():
                await self._connect(command)
            case protocol.Refresh():
                await self._refresh(command)
            case protocol.Subscribe():
                await self._subscribe(command)
            case protocol.Unsubscribe():
                await self.leave(command.channel)
                await self._reply(command.id, "unsubscribe", "{}")
            case protocol.Publish():
                await self._publish(command)
            case protocol.Presence():
                await self._presence(command)
            case protocol.PresenceStats():
                await self._presence_stats(command)
            case protocol.History():
                await self._history(command)
            case protocol.Call():
                self._begin_call(command)
            case protocol.NotServed():
                raise CentrifugoError(command.code)
            case protocol.Pong() | protocol.Send():
                pass  # they have no reply, and `_process` has carried them out

    # Who the client is -----------------------------------------------------------------------------------------

    async def _connect(self, command: protocol.Connect) -> None:
        self._unusable = True  # unless it succeeds: clients do not try again on the same connection
        connect = self._settings.connect
        connected = Connected() if connect is None else await connect(self._client, command.token, command.data)
        expires_at = connected.expires_at
        if expires_at is not None and expires_at <= time():
            raise CentrifugoError(ErrorCode.TOKEN_EXPIRED)
        self._user = connected.user
        self._info = "" if connected.info is None else protocol.encode(connected.info)
        data = None if connected.data is None else protocol.encode(connected.data)
        ttl = self._expire_at(expires_at)
        self._connected = True
        self._ping.cancel()
        # Clients that connect at the same time should not all be pinged at the same time.
        self._ping = self._loop.call_later(self._settings.ping_interval * random(), self._send_ping)
        ping = ceil(self._settings.ping_interval)
        await self._reply(command.id, "connect", protocol.connect_result(self._id, data=data, ttl=ttl, ping=ping))

    async def _refresh(self, command: protocol.Refresh) -> None:
        connect = self._settings.connect
        if connect is None:
            raise CentrifugoError(ErrorCode.NOT_AVAILABLE)
        connected = await connect(self._client, command.token, None)
        if connected.user != self._user:
            raise CentrifugoDisconnect(DisconnectCode.INVALID_TOKEN, "invalid token: it is for another user")
        expires_at = connected.expires_at
        if expires_at is not None and expires_at <= time():
            raise CentrifugoError(ErrorCode.EXPIRED)
        ttl = self._expire_at(expires_at)
        await self._reply(command.id, "refresh", protocol.refresh_result(self._id, ttl=ttl))

    def _expire_at(self, expires_at: float | None) -> int | None:
        """Let the connection expire, and return the seconds until then, which clients are told."""
        self._expires_at = expires_at
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if expires_at is None:
            return None
        self._check_expiry()
        return max(1, int(min(expires_at - time(), _MAX_TTL)))

    def _check_expiry(self) -> None:
        assert self._expires_at is not None
        seconds = self._expires_at + self._settings.expiry_grace - time()
        if seconds > 0:  # the system's clock may have been set meanwhile
            self._expiry = self._loop.call_later(min(seconds, _MAX_TTL), self._check_expiry)
        else:
            self._disconnect_soon(DisconnectCode.EXPIRED)

    # Pings -----------------------------------------------------------------------------------------------------

    def _send_ping(self) -> None:
        if self._client.outcome is None:
            self._awaiting_pong = True
            self._spawn(self._ping_client())
            self._ping = self._loop.call_later(self._settings.pong_timeout, self._check_pong)

    async def _ping_client(self) -> None:
        with suppress(ConnectionClosed):
            await self._client.send(protocol.PING)

    def _check_pong(self) -> None:
        settings = self._settings
        if not self._awaiting_pong:
            self._ping = self._loop.call_later(settings.ping_interval - settings.pong_timeout, self._send_ping)
        elif self._busy:  # the pong may have arrived, and is read after the command that is carried out now
            self._ping = self._loop.call_later(settings.pong_timeout, self._check_pong)
        else:
            self._disconnect_soon(DisconnectCode.NO_PONG)

    # Topics ----------------------------------------------------------------------------------------------------

    async def _find(self, action: Action, channel: str) -> AnyTopic:
        """Return a topic of which the client may make use.

        :raises CentrifugoError: if there is no such topic, or the client is not allowed to.
        """
        if not await self._is_allowed(action, channel):
            raise CentrifugoError(ErrorCode.PERMISSION_DENIED)
        topic = self._settings.find(channel)
        if topic is None:
            raise CentrifugoError(ErrorCode.UNKNOWN_CHANNEL)
        return topic

    async def _is_allowed(self, action: Action, channel: str) -> bool:
        authorize = self._settings.authorize
        return authorize is not None and await authorize(self._client, action, channel)

    async def _subscribe(self, command: protocol.Subscribe) -> None:
        channel = command.channel
        if channel in self._channels:
            raise CentrifugoError(ErrorCode.ALREADY_SUBSCRIBED)
        topic = await self._find("subscribe", channel)
        present = await self._is_allowed("presence", channel)
        positioned = topic.history is not None
        trusted = isinstance(topic.codec, Json)
        since = None
        if command.since is not None and positioned:
            since = await self._position(topic, command.since)
        sending: list[Coroutine[object, None, None]] = []

        def reply(joined: Joined, publications: Sequence[Publication[Any]]) -> None:
            recovered = joined.recovered and len(publications) <= self._settings.max_history
            if command.reject_unrecovered and command.since is not None and not recovered:
                raise CentrifugoError(ErrorCode.UNRECOVERABLE_POSITION)
            missed = [encode_publication(publication, True, trusted) for publication in publications if recovered]
            result = protocol.subscribe_result(
                joined.position if positioned else None,
                recovering=command.since is not None,
                recovered=recovered,
                publications=missed,
            )
            # It is sent now: later publications come after it.
            sending.append(self._client.send(protocol.reply(command.id, "subscribe", result)))

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
        if present and channel in self._channels:  # the program may have ended the subscription meanwhile
            try:
                await topic.presence.enter(self._client, self._user, self._info, connection=self._id)
            except BrokerError as error:
                logger.warning("Centrifugo client %s is not present in %r: %s", self._id, channel, describe(error))

    def _presence_frame(self, channel: str) -> PresenceFrame:
        frames = self._settings.presence_frames
        frame = frames.get(channel)
        if frame is None:
            frame = frames[channel] = PresenceFrame(channel)
        return frame

    async def _position(self, topic: AnyTopic, position: protocol.Position) -> Position:
        """Return a position that a client gave. Without an epoch it means the current one."""
        epoch, offset = position
        if not epoch:
            epoch = (await topic.read_history(limit=0)).position.epoch
        return Position(epoch, offset)

    async def leave(self, channel: str) -> bool:
        """End a subscription without telling the client; return whether there was one."""
        topic = self._channels.pop(channel, None)
        if topic is None:
            return False
        await topic.leave(self._client)
        return True

    async def unsubscribe(self, channel: str, code: int, reason: str) -> bool:
        """End a subscription and tell the client; return whether there was one."""
        if not await self.leave(channel):
            return False
        with suppress(ConnectionClosed):
            await self._client.send(protocol.unsubscribe_push(channel, code, reason))
        return True

    async def _publish(self, command: protocol.Publish) -> None:
        topic = await self._find("publish", command.channel)
        await topic.publish(self._decode(topic, command.data), client=self._client)
        await self._reply(command.id, "publish", "{}")

    def _decode(self, topic: AnyTopic, data: JsonValue) -> object:
        """Decode data of a client with the codec of a topic.

        :raises DecodeError: if it is not valid.
        """
        try:
            message: object = topic.codec.decode(protocol.encode(data))
        except DecodeError:
            raise
        except Exception as error:
            # The text of the error may not be meant for clients.
            raise DecodeError("the data is not valid for this channel") from error
        return message

    async def _presence(self, command: protocol.Presence) -> None:
        topic = await self._find("presence", command.channel)
        connections = await topic.presence.connections()
        members = {id: protocol.client_info(user, id, _decode_info(data)) for id, (user, data) in connections.items()}
        await self._reply(command.id, "presence", protocol.presence_result(members))

    async def _presence_stats(self, command: protocol.PresenceStats) -> None:
        topic = await self._find("presence", command.channel)
        members, connections = await topic.presence.count()
        await self._reply(command.id, "presence_stats", protocol.presence_stats_result(connections, members))

    async def _history(self, command: protocol.History) -> None:
        topic = await self._find("history", command.channel)
        if topic.history is None:
            raise CentrifugoError(ErrorCode.NOT_AVAILABLE)
        most = self._settings.max_history
        limit = most if command.limit < 0 else min(command.limit, most)
        since = None if command.since is None else await self._position(topic, command.since)
        if since is not None and command.reverse:
            page = await topic.read_history()
            if page.position.epoch != since.epoch:
                raise CentrifugoError(ErrorCode.UNRECOVERABLE_POSITION)
            before = [publication for publication in page.publications if publication.position.offset < since.offset]
            publications = before[len(before) - limit :] if limit < len(before) else before
        else:
            page = await topic.read_history(since=since, limit=limit, newest=command.reverse)
            if since is not None and not page.complete:
                raise CentrifugoError(ErrorCode.UNRECOVERABLE_POSITION)
            publications = [*page.publications]
        if command.reverse:
            publications.reverse()
        trusted = isinstance(topic.codec, Json)
        encoded = [encode_publication(publication, True, trusted) for publication in publications]
        await self._reply(command.id, "history", protocol.history_result(encoded, page.position))

    # Functions and messages of the application -----------------------------------------------------------------

    def _begin_call(self, command: protocol.Call) -> None:
        """Call a function beside the commands that follow, because it may take long.

        :raises CentrifugoError: if there is no such function, or if too many run already.
        """
        functions = self._settings.functions
        if functions is None:
            raise CentrifugoError(ErrorCode.NOT_AVAILABLE)
        function = functions.get(command.method)
        if function is None:
            raise CentrifugoError(ErrorCode.METHOD_NOT_FOUND)
        if self._calls >= self._settings.max_calls:
            raise CentrifugoError(ErrorCode.TOO_MANY_REQUESTS)
        self._calls += 1
        self._spawn(self._call_beside(command, function))

    async def _call(self, command: protocol.Call, function: Function[AnyClient]) -> None:
        try:
            result = await function(self._client, command.data)
        finally:
            self._calls -= 1
        await self._reply(command.id, "rpc", protocol.encode_object([("data", result)]))

    async def _call_beside(self, command: protocol.Call, function: Function[AnyClient]) -> None:
        try:
            await self._attempt(command.id, self._call(command, function))
        except ConnectionClosed:
            pass
        except CentrifugoDisconnect as error:
            await self._disconnect(error.code, error.reason)

    async def _receive(self, command: protocol.Send) -> None:
        on_message = self._settings.on_message
        if on_message is None:
            raise CentrifugoDisconnect(DisconnectCode.NOT_AVAILABLE)
        try:
            await on_message(self._client, command.data)
        except CentrifugoDisconnect:
            raise
        except Exception as error:
            if isinstance(error, ConnectionClosed) and self._client.outcome is not None:
                raise
            logger.exception("Centrifugo client %s: the function for messages raised", self._id)
