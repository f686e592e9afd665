"""`SystemExit` and `KeyboardInterrupt` in a handler or callback end the program on every loop (promise 1)."""

import signal

import pytest

from helpers.programs import script

PROGRAM = """
import asyncio, importlib, logging, os, sys
from contextlib import suppress
from streamws import StreamwsError, WebSocketServer, connect

logging.getLogger("streamws").addHandler(logging.NullHandler())
place, kind, way, error = {place!r}, {kind!r}, {way!r}, {error}
new_loop = importlib.import_module({loop!r}).new_event_loop
loop = None if way == "async with" else new_loop()

def end(*arguments):
    raise error

async def end_at_once(*arguments):
    raise error

async def end_later(*arguments):
    await asyncio.sleep(0)
    raise error

async def end_at_message(client):
    await client.read_message()  # the task is woken from inside the callback that received the message
    raise error

async def echo(client):
    async for message in client:
        await client.send(message)

callback = globals()[kind]
side, _, name = place.partition(" ")
handler = None if place == "connection" or side == "server" else callback if place == "handler" else echo
server = WebSocketServer("127.0.0.1", 0, loop=loop, handler=handler)
if place == "request":
    server.request(callback)
elif place == "connection":
    server.connection(callback)
elif side == "server":
    server.connection(lambda client: getattr(client, name)(callback) and None)

async def use():
    with suppress(StreamwsError):
        client = await connect(f"ws://127.0.0.1:{{server.port}}/")
        if side == "client":
            getattr(client, name)(callback)
        if name in ("", "message"):
            await client.send("a message")
        await client.writer.pong()
        client.writer.ping()
        for other in server.clients.values():
            other.writer.ping()
        if name == "closed":
            await client.close()
        await client.wait_closed()
    await asyncio.sleep(3)
    print("still serving", flush=True)
    os._exit(3)

async def main():
    async with server:
        await use()

if way == "async with":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
else:
    async def use_when_started():
        while not server.sockets:
            await asyncio.sleep(0)
        await use()

    using = loop.create_task(use_when_started())
    try:
        if way == "run":
            server.run()
        else:
            with server:
                loop.run_forever()
    finally:
        using.cancel()
        loop.run_until_complete(asyncio.wait([using]))
        loop.close()
"""

LOOPS = ["asyncio", "uvloop"]
OF_CLIENTS = [f"{side} {name}" for side in ("server", "client") for name in ("message", "ping", "pong", "closed")]
PLACES = [
    ("handler", "end_at_once"),
    ("handler", "end_later"),
    ("handler", "end_at_message"),
    *((place, kind) for place in ("connection", "request") for kind in ("end", "end_later")),
    *((place, "end" if number % 2 else "end_at_once") for number, place in enumerate(OF_CLIENTS)),
]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("place", "kind"), PLACES)
async def test_exit_ends_the_program_with_its_status(place: str, kind: str, loop: str) -> None:
    source = PROGRAM.format(place=place, kind=kind, way="async with", loop=loop, error="SystemExit(7)")
    async with script(source) as program:
        assert (await program.end(), program.stdout, program.stderr) == (7, "", "")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("place", ["handler", "server message"])
@pytest.mark.parametrize("way", ["run", "with"])
async def test_exit_ends_a_program_with_a_loop_of_its_own(way: str, place: str, loop: str) -> None:
    kind = "end_at_message" if place == "handler" else "end"
    source = PROGRAM.format(place=place, kind=kind, way=way, loop=loop, error="SystemExit(7)")
    async with script(source) as program:
        assert (await program.end(), program.stdout, program.stderr) == (7, "", "")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", ["async with", "run", "with"])
async def test_keyboard_interrupt_ends_the_program(way: str, loop: str) -> None:
    source = PROGRAM.format(place="handler", kind="end_at_message", way=way, loop=loop, error="KeyboardInterrupt()")
    async with script(source) as program:
        status = await program.end()
    assert (status, program.stdout) == (-signal.SIGINT, "")
    assert program.stderr.rstrip().endswith("KeyboardInterrupt")
