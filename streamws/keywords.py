"""Keyword arguments that users of other libraries write: the error names what streamws has instead."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., object])

_MESSAGE_SIZE = "write `limits=Limits(max_message_size=...)`, in bytes"
_UNREAD = "write `limits=Limits(read_high=...)`, in bytes"
_UNSENT = "write `limits=Limits(write_high=...)`, in bytes"
_OPEN = "write `timeouts=Timeouts(open=...)`, in seconds"
_CLOSE = "write `timeouts=Timeouts(close=...)`, in seconds"
_PING_INTERVAL = "write `timeouts=Timeouts(ping_interval=...)`, in seconds"
_PING_TIMEOUT = "write `timeouts=Timeouts(ping_timeout=...)`, in seconds"
_COMPRESSION = "write `compression=True`, or `compression=Compression(...)`"
_LOGGER = "leave it out: the logger is `logging.getLogger('streamws')`"
_PONGS = "leave it out: pings are always answered"
_CONTEXT = "write `ssl=context`, with an `ssl.SSLContext`"
_REQUEST = "register a callback with `@socket.request`"
_ACCEPT_HEADERS = "return `Accept(headers=...)` from a `@socket.request` callback"
_PROXIES = "write `trusted_proxies=[...]`"

BOTH: dict[str, str] = {
    # websockets
    "max_size": _MESSAGE_SIZE,
    "max_queue": _UNREAD,
    "read_limit": _UNREAD,
    "write_limit": _UNSENT,
    "open_timeout": _OPEN,
    "close_timeout": _CLOSE,
    "ping_interval": _PING_INTERVAL,
    "ping_timeout": _PING_TIMEOUT,
    "extensions": _COMPRESSION,
    "logger": _LOGGER,
    # aiohttp
    "max_msg_size": _MESSAGE_SIZE,
    "writer_limit": _UNSENT,
    "timeout": "write `timeouts=Timeouts(open=..., close=...)`, in seconds",
    "receive_timeout": "write `async with asyncio.timeout(...)` around the read",
    "heartbeat": "write `timeouts=Timeouts(ping_interval=..., ping_timeout=...)`, in seconds",
    "autoping": _PONGS,
    "autoclose": "leave it out: a Close frame of the peer is always answered",
    "compress": _COMPRESSION,
    "protocols": "write `subprotocols=[...]`",
    "decode_text": "leave it out: text is read as `str`; the payloads of `client.frames()` are `bytes`",
    "ssl_context": _CONTEXT,
    # picows
    "max_frame_size": _MESSAGE_SIZE,
    "websocket_handshake_timeout": _OPEN,
    "enable_auto_ping": "leave it out, or write `timeouts=Timeouts(ping_interval=None)` for no pings",
    "enable_auto_pong": _PONGS,
    "auto_ping_idle_timeout": _PING_INTERVAL,
    "auto_ping_reply_timeout": _PING_TIMEOUT,
    "logger_name": _LOGGER,
    # asyncio
    "ssl_handshake_timeout": _OPEN,
    "ssl_shutdown_timeout": _CLOSE,
    # The options themselves
    "max_message_size": _MESSAGE_SIZE,
}
"""What to write instead, in both roles, by the name of another library."""

CONNECT: dict[str, str] = BOTH | {
    # websockets
    "uri": "write `connect(url)`",
    "additional_headers": "write `headers=...`",
    "extra_headers": "write `headers=...`",
    "user_agent_header": "write `user_agent=...`",
    "process_exception": "write `retry=...`, a function that returns whether to try again",
    "reconnect_delays": "write `backoff=Backoff(first=..., most=...)`, in seconds",
    # aiohttp
    "auth": "write user name and password into the URL, or the field `Authorization` into `headers=...`",
    "cookies": 'write `headers={"Cookie": "name=value"}`',
    "params": "write them into the URL",
    "proxy_auth": "write user name and password into the URL of the proxy, `proxy=...`",
    "verify_ssl": _CONTEXT,
    "fingerprint": _CONTEXT,
    # picows
    "ws_listener_factory": "leave it out, and read with `async for message in client`",
    "socket_factory": "write `sock=...`, with a connected socket",
    # asyncio
    "host": "write `connect(url)`, with the host in the URL",
    "port": "write `connect(url)`, with the port in the URL",
    "local_addr": "write `local_address=(host, port)`",
}

_AGAIN = "call `connect` again in a loop; there is no reconnecting"
SYNC_CONNECT: dict[str, str] = CONNECT | {
    "uri": "write `connect(url)`",
    "receive_timeout": "write `ws.read_message(timeout=...)`",
    "backoff": _AGAIN,
    "retry": _AGAIN,
    "process_exception": _AGAIN,
    "reconnect_delays": _AGAIN,
    # websocket-client
    "header": "write `headers=...`",
    "cookie": 'write `headers={"Cookie": "name=value"}`',
    "host": "write it into `headers=...`",
    "suppress_origin": "leave it out: without `origin=...` no `Origin` is sent",
    "sslopt": _CONTEXT,
    "sockopt": "write `sock=...`, with a connected socket",
    "socket": "write `sock=...`, with a connected socket",
    "http_proxy_host": "write the URL of the proxy, `proxy=...`",
    "http_proxy_port": "write the URL of the proxy, `proxy=...`",
    "proxy_type": "write the URL of the proxy, `proxy=...`",
    "http_no_proxy": "write `proxy=False`",
    "enable_multithread": "leave it out: threads can always share a connection",
    "redirect_limit": "write `max_redirects=...`",
    "skip_utf8_validation": "leave it out: text is always checked (RFC 6455 section 8.1)",
}
"""The same for `streamws.sync.connect`."""

SERVER: dict[str, str] = BOTH | {
    # websockets
    "ws_handler": "write `handler=...`",
    "process_request": _REQUEST,
    "process_response": _ACCEPT_HEADERS,
    "select_subprotocol": "return `Accept(subprotocol=...)` from a `@socket.request` callback",
    "extra_headers": _ACCEPT_HEADERS,
    # picows and asyncio
    "ws_listener_factory": "write `handler=...`",
    "host": "write `WebSocketServer(address, port)`",
    "start_serving": "leave it out: the server listens when it is started",
    "reuse_address": "leave it out: an address can be used again at once",
    # uvicorn and Socket.IO
    "uds": "write `path=...`",
    "ws_max_size": _MESSAGE_SIZE,
    "ws_ping_interval": _PING_INTERVAL,
    "ws_ping_timeout": _PING_TIMEOUT,
    "limit_concurrency": "write `limits=Limits(max_clients=...)`",
    "proxy_headers": _PROXIES,
    "forwarded_allow_ips": _PROXIES,
    "ssl_certfile": _CONTEXT,
    "ssl_keyfile": _CONTEXT,
    "cors_allowed_origins": "write `origins=[...]`",
}


def explains(name: str, hints: Mapping[str, str]) -> Callable[[_Function], _Function]:
    """Decorator: the error about an unexpected keyword argument says what to write instead.

    To type checkers, `help` and `inspect.signature`, the function stays what it is.

    :param name: the name of the function, for the error.
    :param hints: what to write, by the names of keyword arguments that the function does not have.
    """

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def explained(*arguments: object, **keywords: object) -> object:
            try:
                return function(*arguments, **keywords)
            except TypeError:
                wrong = next((keyword for keyword in keywords if keyword in hints), None)
                if wrong is None:
                    raise
            raise TypeError(f"{name}() has no parameter {wrong!r}: {hints[wrong]}")

        return cast(_Function, explained)

    return decorate
