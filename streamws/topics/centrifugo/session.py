"""One connection that speaks the JSON client protocol of Centrifugo."""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from math import ceil
from random import random
from time import time
from typing import Generic
from uuid import uuid4

from ...errors import BrokerError, ConnectionClosed, DecodeError, LimitExceeded, describe
from ...wire.protocol import shorten
from . import commands, replies
from .channels import Channels, Identity
from .codes import CentrifugoDisconnect, CentrifugoError, DisconnectCode, ErrorCode, UnsubscribeCode
from .commands import BadRequest, Command
from .replies import Encoded
from .settings import AnyClient, Connected, Function, Settings, check_awaitable, check_type

logger: logging.Logger = logging.getLogger("streamws.topics")

_MAX_TTL = 365 * 24 * 3600
"""The most seconds that clients are told until a connection expires."""

_BURST = 10.0
"""A client that was quiet may send the commands of so many seconds at once."""

_BATCH = 32
"""The commands of one message after which other tasks run."""


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
        "_identity",
        "_last_command",
        "_loop",
        "_ping",
        "_settings",
        "_tasks",
        "_tokens",
        "_unusable",
    )

    def __init__(self, client: AnyClient, settings: Settings[AnyClient]) -> None:
        self._client = client
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._connected = False
        self._unusable = False  # whether the command `connect` has failed
        self._identity = Identity(str(uuid4()))
        self._channels = Channels(client, settings, self._identity)
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
                for number, command in enumerate(commands.decode_commands(message), 1):
                    await self._process(command)
                    if not self._connected:
                        break  # `connect` has failed: ignore the commands behind it
                    if number % _BATCH == 0:
                        await asyncio.sleep(0)
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
        who = self._identity
        logger.info("Centrifugo client %s of user %r: disconnected with %d %s", who.id, who.user, code, reason)
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
        await self._client.send(replies.reply(number, method, result))

    # Commands --------------------------------------------------------------------------------------------------

    async def unsubscribe(self, channel: str, reason: str) -> bool:
        """End a subscription for the program; return whether there was one."""
        return await self._channels.unsubscribe(channel, UnsubscribeCode.SERVER, reason)

    async def _process(self, command: Command) -> None:
        """Carry out a command.

        :raises BadRequest, CentrifugoDisconnect: if the connection must be closed.
        """
        if not self._connected:
            if not isinstance(command, commands.Connect):
                raise BadRequest("the first command must be connect")
            if self._unusable:
                raise BadRequest("connect has failed")
        elif isinstance(command, commands.Connect):
            raise BadRequest("connected already")
        if isinstance(command, commands.Pong):
            if not self._awaiting_pong:
                raise BadRequest("a pong without a ping")
            self._awaiting_pong = False
            return
        allowed = self._count_command()
        if isinstance(command, commands.Send):
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
        await self._client.send(replies.error_reply(number, error.code, error.message, error.temporary))

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
            logger.info("Centrifugo client %s of user %r: %s", self._identity.id, self._identity.user, error)
            await self._refuse(number, CentrifugoError(ErrorCode.LIMIT_EXCEEDED))
        except BrokerError as error:
            logger.warning("Centrifugo client %s: a command has failed: %s", self._identity.id, describe(error))
            await self._refuse(number, CentrifugoError(ErrorCode.INTERNAL))
        except Exception as error:
            if isinstance(error, ConnectionClosed) and self._client.outcome is not None:
                raise  # this connection has ended, and not another one to which the application has sent something
            logger.exception("Centrifugo client %s: a command has failed", self._identity.id)
            await self._refuse(number, CentrifugoError(ErrorCode.INTERNAL))

    async def _carry_out(self, command: Command) -> None:
        match command:
            case commands.Connect():
                result = await self._connect(command)
                await self._reply(command.id, "connect", result)
            case commands.Refresh():
                result = await self._refresh(command)
                await self._reply(command.id, "refresh", result)
            case commands.Subscribe():
                await self._channels.subscribe(command)
            case commands.Unsubscribe():
                await self._channels.leave(command.channel)
                await self._reply(command.id, "unsubscribe", "{}")
            case commands.Publish():
                await self._channels.publish(command)
                await self._reply(command.id, "publish", "{}")
            case commands.Presence():
                result = await self._channels.presence(command.channel)
                await self._reply(command.id, "presence", result)
            case commands.PresenceStats():
                result = await self._channels.presence_stats(command.channel)
                await self._reply(command.id, "presence_stats", result)
            case commands.History():
                result = await self._channels.history(command)
                await self._reply(command.id, "history", result)
            case commands.Call():
                self._begin_call(command)
            case commands.NotServed():
                raise CentrifugoError(command.code)
            case commands.Pong() | commands.Send():
                pass  # they have no reply, and `_process` has carried them out

    # Who the client is -----------------------------------------------------------------------------------------

    async def _connect(self, command: commands.Connect) -> Encoded:
        self._unusable = True  # unless it succeeds: clients do not try again on the same connection
        connect = self._settings.connect
        if connect is None:
            connected = Connected()
        else:
            connected = await check_awaitable("connect", connect(self._client, command.token, command.data))
            check_type("connect", connected, Connected)
        expires_at = connected.expires_at
        if expires_at is not None and expires_at <= time():
            raise CentrifugoError(ErrorCode.TOKEN_EXPIRED)
        self._identity.user = connected.user
        self._identity.info = "" if connected.info is None else replies.encode(connected.info)
        data = None if connected.data is None else replies.encode(connected.data)
        ttl = self._expire_at(expires_at)
        self._connected = True
        self._ping.cancel()
        # Clients that connect at the same time should not all be pinged at the same time.
        self._ping = self._loop.call_later(self._settings.ping_interval * random(), self._send_ping)
        ping = ceil(self._settings.ping_interval)
        return replies.connect_result(self._identity.id, data=data, ttl=ttl, ping=ping)

    async def _refresh(self, command: commands.Refresh) -> Encoded:
        connect = self._settings.connect
        if connect is None:
            raise CentrifugoError(ErrorCode.NOT_AVAILABLE)
        try:
            connected = await check_awaitable("connect", connect(self._client, command.token, None))
        except CentrifugoError as error:
            if error.code not in (ErrorCode.TOKEN_EXPIRED, ErrorCode.EXPIRED):
                raise
            # After an error, the client would give up. After this code it connects again, with another token.
            raise CentrifugoDisconnect(DisconnectCode.EXPIRED) from error
        check_type("connect", connected, Connected)
        if connected.user != self._identity.user:
            raise CentrifugoDisconnect(DisconnectCode.INVALID_TOKEN, "invalid token: it is for another user")
        expires_at = connected.expires_at
        if expires_at is not None and expires_at <= time():
            raise CentrifugoDisconnect(DisconnectCode.EXPIRED)
        self._identity.info = "" if connected.info is None else replies.encode(connected.info)
        ttl = self._expire_at(expires_at)
        return replies.refresh_result(self._identity.id, ttl=ttl)

    def _expire_at(self, expires_at: float | None) -> int | None:
        """Set when the connection expires, and return the seconds until then, for the client."""
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
            await self._client.send(replies.PING)

    def _check_pong(self) -> None:
        settings = self._settings
        if not self._awaiting_pong:
            self._ping = self._loop.call_later(settings.ping_interval - settings.pong_timeout, self._send_ping)
        elif self._busy:  # the pong may have arrived, and is read after the command that is carried out now
            self._ping = self._loop.call_later(settings.pong_timeout, self._check_pong)
        else:
            self._disconnect_soon(DisconnectCode.NO_PONG)

    # Functions and messages of the application -----------------------------------------------------------------

    def _begin_call(self, command: commands.Call) -> None:
        """Call a function in a task, because it may take long and other commands must not wait for it.

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

    async def _call(self, command: commands.Call, function: Function[AnyClient]) -> None:
        try:
            result = await function(self._client, command.data)
        finally:
            self._calls -= 1
        await self._reply(command.id, "rpc", replies.encode_object([("data", result)]))

    async def _call_beside(self, command: commands.Call, function: Function[AnyClient]) -> None:
        try:
            await self._attempt(command.id, self._call(command, function))
        except ConnectionClosed:
            pass
        except CentrifugoDisconnect as error:
            await self._disconnect(error.code, error.reason)

    async def _receive(self, command: commands.Send) -> None:
        on_message = self._settings.on_message
        if on_message is None:
            raise CentrifugoDisconnect(DisconnectCode.NOT_AVAILABLE)
        try:
            await check_awaitable("message", on_message(self._client, command.data))
        except CentrifugoDisconnect:
            raise
        except Exception as error:
            if isinstance(error, ConnectionClosed) and self._client.outcome is not None:
                raise
            logger.exception("Centrifugo client %s: the function for messages raised", self._identity.id)
