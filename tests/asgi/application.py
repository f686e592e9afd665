"""An ASGI application on `from_scope`, which the tests run under ASGI servers. `conversations.py` talks to it."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from messages.kinds import StructMove
from streamws import CloseOutcome, Response
from streamws.asgi import AsgiClient, Receive, Scope, Send, from_scope
from streamws.messages import Json

OUTCOMES: defaultdict[str, asyncio.Queue[CloseOutcome]] = defaultdict(asyncio.Queue)
"""The outcome of each connection, by the name in its query."""

MOVES = Json(StructMove)


async def echo(client: AsgiClient) -> None:
    async for message in client:
        await client.send(message)


async def typed(client: AsgiClient) -> None:
    moves = client.typed(MOVES)
    async for move in moves:
        move.x += 1
        await moves.send(move)


async def request(client: AsgiClient) -> None:
    await client.accept("chat.v1", {"X-Room": "red"})
    facts = {
        "target": client.request.target,
        "query": dict(client.request.query),
        "cookies": dict(client.request.cookies),
        "subprotocols": client.request.subprotocols,
        "host": client.request.host,
        "remote": client.remote,
        "secure": client.request.secure,
    }
    await client.send(json.dumps(facts))
    await client.read_message()


async def close(client: AsgiClient) -> None:
    await client.read_message()
    await client.close(4001, "enough")


async def close_while_reading(client: AsgiClient) -> None:
    """Close while the server waits for a message, for which a read waited that was cancelled."""
    await client.accept()
    async with asyncio.timeout(0.01) as deadline:
        await client.read_message()
    assert deadline.expired()


async def refuse(client: AsgiClient) -> None:
    await client.refuse(Response(401, "token expired\n", {"X-Why": "token"}))


async def forbid(client: AsgiClient) -> None:
    await client.close()


async def fail(client: AsgiClient) -> None:
    await client.accept()
    raise ZeroDivisionError("a test")


async def leave(client: AsgiClient) -> None:
    await client.send("bye")


async def cancel(client: AsgiClient) -> None:
    """Cancel reads that wait, and read messages that arrive after that."""
    for _ in range(3):
        task = asyncio.create_task(client.read_message())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
    await client.send("go")
    await client.send(json.dumps([await client.read_message() for _ in range(3)]))
    await client.read_message()


async def watch(client: AsgiClient) -> None:
    """Wait for the end without reading."""
    await client.wait_closed()


async def flood(client: AsgiClient) -> None:
    """Send until the connection ends."""
    while True:
        await client.send(bytes(10_000))
        await asyncio.sleep(0)


async def report(client: AsgiClient) -> None:
    """Tell the outcome of the connection of this name."""
    outcome = await OUTCOMES[client.request.query["name"]].get()
    facts = [outcome.cause, outcome.initiator, outcome.code, outcome.reason]
    await client.send(json.dumps(facts))
    await client.read_message()


HANDLERS: Mapping[str, Callable[[AsgiClient], Awaitable[None]]] = {
    f"/{handler.__name__}": handler
    for handler in (
        echo, typed, request, close, close_while_reading, refuse, forbid, fail, leave, cancel, watch, flood, report
    )
}  # fmt: skip


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path: Any = scope["path"]
    client = from_scope(scope, receive, send)
    if path != "/report":
        client.closed(OUTCOMES[client.request.query["name"]].put_nowait)
    try:
        async with client:
            await HANDLERS[path](client)
    except (TimeoutError, ZeroDivisionError):
        if path == "/fail":
            raise


async def lifespan(receive: Receive, send: Any) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
