"""`CentrifugoEndpoint`: serves the topics to clients of Centrifugo."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar, overload

from ...errors import DecodeError
from ...messages.codec import Codec
from ...options import MiB, check_seconds
from ..checks import check_function
from ..topics import Topics
from . import replies
from .commands import JsonValue
from .replies import Encoded
from .session import Session
from .settings import AnyClient, AnyTopic, Authorize, Connect, EndpointClient, OnMessage, Settings, check_awaitable

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")
_Caller = TypeVar("_Caller", bound=EndpointClient, contravariant=True)


class Rpc(Generic[_Caller]):
    """A function that clients may call.

    :param function: a coroutine function, called with the client and the decoded data. What it returns is the result.
    :param request: the codec of the data, such as `Json(Order)`. Without codecs, the function takes what JSON contains,
        and returns anything that JSON can express.
    :param result: the codec of the result; `Json(None)` if there is none.
    """

    __slots__ = ("_call",)

    @overload
    def __init__(self, function: Callable[[_Caller, JsonValue], Awaitable[object]]) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[[_Caller, _Request], Awaitable[_Result]],
        request: Codec[_Request, _Request],
        result: Codec[_Result, _Result],
    ) -> None: ...
    def __init__(
        self,
        function: Callable[[_Caller, Any], Awaitable[Any]],
        request: Codec[Any, Any] | None = None,
        result: Codec[Any, Any] | None = None,
    ) -> None:
        if (request is None) != (result is None):
            raise TypeError("Rpc needs the codecs of the data and of the result, or none of them")

        name = getattr(function, "__name__", "the function")

        async def call(client: _Caller, data: JsonValue) -> Encoded:
            if request is None or result is None:
                return replies.encode(await check_awaitable(name, function(client, data)))
            try:
                decoded = request.decode(replies.encode(data))
            except DecodeError:
                raise
            except Exception as error:
                # The text of the error may not be meant for clients.
                raise DecodeError("the data is not valid for this function") from error
            return replies.embed(result.encode(await check_awaitable(name, function(client, decoded))), trusted=False)

        self._call: Callable[[_Caller, JsonValue], Awaitable[Encoded]] = call


class CentrifugoEndpoint(Generic[AnyClient]):
    """A handler that speaks the JSON client protocol of Centrifugo: `WebSocketServer(..., handler=endpoint)`.

    The clients of Centrifugo that speak JSON, such as those for JavaScript and Python, work without a change. What they
    call a channel is a topic. They get a payload that is not JSON as a string.

    The functions are called with the connection. They may raise `CentrifugoError` to answer with an error,
    `DecodeError` to refuse data that is not valid, and `CentrifugoDisconnect` to close the connection. Other exceptions
    are logged, and the client gets the error 100.

    The commands of a client are carried out one after the other. Only the functions of `rpc` run beside them; they are
    cancelled when the connection ends. The other functions are not cancelled: give them deadlines if they may hang.

    :param topics: the topics.
    :param connect: a coroutine function that is called when a client connects, with its token and data, and again with
        the new token and None when it refreshes its token. It returns a `Connected`. Without it, everybody is
        anonymous.
    :param authorize: a coroutine function that returns whether a client may do something with a topic: `"subscribe"`,
        `"publish"`, `"history"` or `"presence"`. A client that may use `"presence"` is present itself while it is
        subscribed. Without it, all of this is refused.
    :param rpc: the functions that clients may call, by their names.
    :param message: a coroutine function that is called with what clients send without waiting for a reply. Without it,
        a client that does so is disconnected.
    :param find: returns the topic of a name, or None. By default, `topics.find`, which knows the topics that the
        program refers to. It is called after `authorize`.
    :param ping_interval: the seconds between two pings. Clients that miss them connect again.
    :param pong_timeout: the seconds in which a client must answer a ping.
    :param connect_timeout: the seconds in which a client must send its first command.
    :param expiry_grace: the seconds for which a connection stays open after it has expired.
    :param max_history: the most publications in a reply. A client that has missed more cannot recover them.
    :param max_calls: the most functions of `rpc` that run for one client at the same time.
    :param max_command_rate: the most commands of one client a second; None for no limit. A client that was quiet may
        send ten times as many at once.
    :param backlog: the most bytes of one topic that wait for a client that reads too slowly. With more of them, it is
        disconnected, and recovers when it connects again.
    :raises ValueError, TypeError: if an argument is not valid.
    """

    __slots__ = ("_sessions", "_settings")

    def __init__(
        self,
        topics: Topics,
        *,
        connect: Connect[AnyClient] | None = None,
        authorize: Authorize[AnyClient] | None = None,
        rpc: Mapping[str, Rpc[AnyClient]] | None = None,
        message: OnMessage[AnyClient] | None = None,
        find: Callable[[str], AnyTopic | None] | None = None,
        ping_interval: float = 25.0,
        pong_timeout: float = 8.0,
        connect_timeout: float = 15.0,
        expiry_grace: float = 25.0,
        max_history: int = 300,
        max_calls: int = 100,
        max_command_rate: float | None = 100.0,
        backlog: int = MiB,
    ) -> None:
        if not isinstance(topics, Topics):
            raise TypeError(f"topics must be a Topics, not {topics!r}")
        for name, entry in ({} if rpc is None else rpc).items():
            if not isinstance(entry, Rpc):
                raise TypeError(f"rpc[{name!r}] must be an Rpc, not {entry!r}: write Rpc(function)")
        check_function("find", find)
        seconds = {
            "ping_interval": ping_interval,
            "pong_timeout": pong_timeout,
            "connect_timeout": connect_timeout,
            "expiry_grace": expiry_grace,
        }
        for name, value in seconds.items():
            check_seconds(name, value)
        for name, number in {"max_history": max_history, "max_calls": max_calls, "backlog": backlog}.items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, not {number!r}")
        if pong_timeout >= ping_interval:
            raise ValueError(f"pong_timeout ({pong_timeout}) must be below ping_interval ({ping_interval})")
        if max_command_rate is not None and not max_command_rate > 0:
            raise ValueError(f"max_command_rate must be more than 0, or None, not {max_command_rate!r}")
        functions = None if rpc is None else {name: entry._call for name, entry in rpc.items()}
        self._settings: Settings[AnyClient] = Settings(
            find=topics.find if find is None else find,
            connect=connect,
            authorize=authorize,
            functions=functions,
            on_message=message,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
            connect_timeout=connect_timeout,
            expiry_grace=expiry_grace,
            max_history=max_history,
            max_calls=max_calls,
            max_command_rate=max_command_rate,
            backlog=backlog,
            max_name=topics.limits.max_name,
        )
        self._sessions: dict[EndpointClient, Session[AnyClient]] = {}

    async def __call__(self, client: AnyClient) -> None:
        """Serve one connection until it ends."""
        session = Session(client, self._settings)
        self._sessions[client] = session
        try:
            await session.run()
        finally:
            del self._sessions[client]

    async def unsubscribe(self, client: AnyClient, topic: str, reason: str = "") -> bool:
        """End the subscription of a client, for example because it may not follow the topic any more.

        The client does not subscribe again by itself.

        :param client: the connection.
        :param topic: the name of the topic.
        :param reason: a text for the client.
        :returns: whether there was a subscription.
        """
        session = self._sessions.get(client)
        return session is not None and await session.unsubscribe(topic, reason or "server unsubscribed")
