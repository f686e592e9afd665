"""Open and end connections for a long time; check that nothing is lost or left over: `soak.py --minutes 60`.

One process holds a server, clients, peers that misbehave in either role, and the checks. Conversations open, talk,
fragment, compress, cancel, close, cut, reset, stall and send garbage, in random order, on each loop, with and without
TLS. Messages are numbered, so that lost, doubled and reordered ones are noticed. After each round all conversations
end. Then the number of descriptors, tasks and clients must be the same as after the first round, and the number of
objects and the memory must not be much larger.

It exits with 1 if anything was wrong.
"""

import argparse
import asyncio
import ctypes
import gc
import logging
import random
import socket
import ssl as tls
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import uvloop

from helpers.frames import BINARY, CLOSE, PING, TEXT, answer, client_frame, frame, request
from streamws import (
    Backoff,
    Client,
    Compression,
    ConnectionClosed,
    Limits,
    MessageReader,
    Opcode,
    StreamwsError,
    Timeouts,
    WebSocketServer,
    connect,
)
from streamws.handshake.server import accept_key

TESTS = Path(__file__).resolve().parent
CERTIFICATE = TESTS / "helpers" / "localhost.pem"
CORPUS = TESTS / "fuzz" / "corpus"

PATIENT = Timeouts(open=60, close=60, ping_interval=5, ping_timeout=60)
"""For conversations that must end well, even on a busy machine."""

STRICT = Timeouts(open=2, close=2, ping_interval=1, ping_timeout=2)
"""For peers that misbehave."""

LIMITS = Limits(max_write_backlog=1 << 20, max_message_size=1 << 20)
PATIENCE = 180.0
"""The seconds that a conversation may take; every deadline above ends it earlier."""

MORE_OBJECTS = 1.02, 300
"""The number of objects known to the garbage collector may grow by this factor and this number."""

MORE_MEMORY = 1.1, 8 << 20
"""The same for the resident memory, in bytes."""


TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
"""Gives memory that is free back to the system, if the C library can do that (glibc).

It holds back more and more of it while large and small objects are mixed.
"""


class State(NamedTuple):
    """What the process holds while no conversation is under way."""

    descriptors: int
    tasks: int
    clients: int
    objects: int
    memory: int
    """Resident memory, in bytes."""

    def differences(self, first: "State") -> list[str]:
        """Return a line for each figure that differs from `first`."""
        found = [
            f"{getattr(self, name)} {name}, {getattr(first, name)} after the first round"
            for name in ("descriptors", "tasks", "clients")
            if getattr(self, name) != getattr(first, name)
        ]
        for name, (factor, more) in (("objects", MORE_OBJECTS), ("memory", MORE_MEMORY)):
            if getattr(self, name) > getattr(first, name) * factor + more:
                found.append(f"{getattr(self, name):,} {name}, {getattr(first, name):,} after the first round")
        return found


class Record:
    """Figures, and everything that went wrong."""

    def __init__(self) -> None:
        self.conversations: Counter[str] = Counter()
        self.messages = 0
        self.size = 0
        """The bytes of these messages."""
        self.wrong: Counter[str] = Counter()

    def fault(self, text: str) -> None:
        """Record a fault; print it if it is new."""
        text = text[:500]
        if not self.wrong[text]:
            print(f"WRONG: {text}", file=sys.stderr, flush=True)
        self.wrong[text] += 1


class Numbers:
    """Numbers the messages of a conversation, and checks that they arrive once, in order and unchanged."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._sent: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def message(self, name: str, size: int, text: bool) -> str | bytes:
        """Return the next message that is sent under a name."""
        number = self._sent[name] = self._sent.get(name, 0) + 1
        start = f"{name}:{number}:"
        body = start + "é" * ((size - len(start)) // 2) if number % 3 else start + "x" * (size - len(start))
        return body if text else body.encode()

    def arrived(self, message: str | bytes, where: str) -> str:
        """Check a message; return the name it was sent under.

        :param where: which end got it: an echo comes to both ends.
        """
        text = message if isinstance(message, str) else message.decode()
        name, number, body = text.split(":", 2)
        key = f"{name} {where}"
        expected = self._seen.get(key, 0) + 1
        if int(number) != expected:
            self._record.fault(f"lost or doubled: message {number} instead of {expected} at {where}")
        if body.strip("éx") or len(set(body)) > 1:
            self._record.fault(f"changed: message {number} at {where}")
        self._seen[key] = int(number)
        self._record.messages += 1
        self._record.size += len(message)
        return name

    def finish(self, name: str, *places: str) -> None:
        """Check that all messages of a conversation that ended well have arrived."""
        for where in places:
            if (seen := self._seen.get(f"{name} {where}", 0)) != self._sent.get(name, 0):
                self._record.fault(f"lost: {self._sent.get(name, 0) - seen} messages of {name} at the end, at {where}")

    def clear(self) -> None:
        """Forget all conversations. No conversation may be under way, because its messages may still arrive."""
        self._sent.clear()
        self._seen.clear()


class Faults(logging.Handler):
    """Records log lines of level ERROR."""

    def __init__(self, record: Record) -> None:
        super().__init__(logging.ERROR)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        error = f": {record.exc_info[1]!r}" if record.exc_info and record.exc_info[1] else ""
        self._record.fault(f"logged by {record.name}: {record.getMessage()}{error}")


class Soak:
    """One loop's server and peers."""

    def __init__(self, record: Record, secure: bool, seed: int) -> None:
        self.record = record
        self.numbers = Numbers(record)
        self.random = random.Random(seed)
        self.server_ssl = self.client_ssl = None
        if secure:
            self.server_ssl = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)
            self.server_ssl.load_cert_chain(CERTIFICATE)
            self.client_ssl = tls.create_default_context(cafile=CERTIFICATE)
            self.client_ssl.check_hostname = False
        self.followers: set[Client] = set()
        # The first bytes of each input are the settings of the target.
        self.inputs = {
            name: [path.read_bytes()[3:] for path in sorted((CORPUS / name).iterdir())]
            for name in ("request", "response", "frames")
        }
        self._names = 0

    # The server ------------------------------------------------------------------------------------------------

    async def handle(self, client: Client) -> None:
        """Serve a connection by the path that it asks for."""
        with suppress(ConnectionClosed):
            match client.request.path:
                case "/echo":
                    async for message in client:
                        self.numbers.arrived(message, "server")
                        await client.send(message)
                case "/pieces":
                    async for reader in client.messages():
                        await self._echo_pieces(client, reader)
                case "/callback":
                    self._echo_by_callback(client)
                    await client.wait_closed()
                case "/push":
                    await self._push(client)
                case "/follow":
                    self.followers.add(client)
                    try:
                        await client.wait_closed()
                    finally:
                        self.followers.discard(client)
                case "/asleep":  # it reads nothing, and ends by itself
                    await asyncio.sleep(self.random.random() * 3)
                case _:
                    async for _ in client.frames():
                        pass

    async def _echo_pieces(self, client: Client, reader: MessageReader) -> None:
        parts = []
        async with client.writer.fragment(reader.type) as stream:
            while part := await reader.read(self.random.randrange(1, 5000)):
                parts.append(part)
                await stream.send(part)
            # Before the end is sent: the client may check the numbers as soon as it has the last frame.
            whole = b"".join(parts)
            self.numbers.arrived(whole.decode() if reader.type is Opcode.TEXT else whole, "server")

    def _echo_by_callback(self, client: Client) -> None:
        @client.message
        async def echo(reader: MessageReader) -> None:
            message = await reader.get()
            self.numbers.arrived(message, "server")
            await client.send(message)

    async def _push(self, client: Client) -> None:
        name = client.request.query_string
        for message in self._messages(name, self.random.randrange(50)):
            await client.send(message)

    async def broadcast(self, server: WebSocketServer) -> None:
        """Send numbered messages to all followers."""
        while True:
            for _ in range(self.random.randrange(1, 5)):
                server.broadcast(self.numbers.message("feed", 300, True), self.followers)
            await asyncio.sleep(0.02)

    # Conversations ---------------------------------------------------------------------------------------------

    def _messages(self, name: str, count: int) -> list[str | bytes]:
        return [
            self.numbers.message(
                name, self.random.choice([0, 20, 100, 125, 126, 500, 3000, 70_000]), self.random.random() < 0.5
            )
            for _ in range(count)
        ]

    def _name(self, path: str) -> str:
        self._names += 1
        return f"{path}-{self._names}"

    def _connect(self, path: str) -> Any:
        takeover = self.random.random() < 0.5
        settings = Compression(threshold=0, takeover=takeover, peer_takeover=takeover)
        return connect(
            f"{'wss' if self.client_ssl else 'ws'}://127.0.0.1:{self.port}{path}",
            ssl=self.client_ssl,
            compression=self.random.choice([None, True, settings]),
            limits=LIMITS,
            timeouts=PATIENT,
            proxy=None,
        )

    async def echo(self) -> None:
        """Send and read at the same time, in a random way, then close from a random side."""
        path = self.random.choice(["/echo", "/pieces", "/callback"])
        name, count = self._name(path), self.random.randrange(1, 60)
        async with self._connect(path) as client:
            sending = asyncio.create_task(self._send(client, self._messages(name, count)))
            try:
                for _ in range(count):
                    self.numbers.arrived(await self._read(client), "client")
            finally:
                await sending
            self.numbers.finish(name, "server", "client")
        if client.outcome is None or not client.outcome.clean:
            self.record.fault(f"an unclean end of a clean conversation: {client.outcome}")

    async def _send(self, client: Client, messages: Sequence[str | bytes]) -> None:
        for message in messages:
            way = self.random.randrange(6)
            if way == 0:
                middle = len(message) // 2
                async with client.writer.fragment() as stream:
                    await stream.send(message[:middle])
                    await stream.send(message[middle:])
            elif way == 1 and isinstance(message, bytes):
                async with client.writer.data_frame(len(message)) as data:
                    await data.write(message[:10])
                    await asyncio.sleep(0)
                    await data.write(message[10:])
            elif way == 2:
                _ = client.writer.ping()  # its pong need not be awaited
                await client.send(message, compress=True)
            else:
                await client.send(message)

    async def _read(self, client: Client) -> str | bytes:
        way = self.random.randrange(5)
        if way == 0:
            async for reader in client.messages():
                if reader.type is Opcode.TEXT:
                    return "".join([part async for part in reader.text()])
                return b"".join([piece async for piece in reader])
        if way == 1:
            frames = [await client.read_frame()]
            while not frames[-1].fin:
                frames.append(await client.read_frame())
            whole = b"".join([each.payload for each in frames])
            return whole.decode() if frames[0].opcode is Opcode.TEXT else whole
        if way == 2:  # cancelled reads lose nothing
            while True:
                with suppress(TimeoutError):
                    return await asyncio.wait_for(client.read_message(), self.random.random() * 0.01)
        return await client.read_message()

    async def pushed(self) -> None:
        """Read what the server sends until its handler ends and the connection closes."""
        name = self._name("/push")
        async with self._connect(f"/push?{name}") as client:
            _ = client.writer.ping()
            async for message in client:
                self.numbers.arrived(message, "client")
        self.numbers.finish(name, "client")

    async def follow(self) -> None:
        """Read broadcasts for a time, and check that none is missing."""
        last = 0
        async with self._connect("/follow") as client:
            for _ in range(self.random.randrange(1, 60)):
                number = int((await client.read_message()).split(":")[1])
                if last and number != last + 1:
                    self.record.fault(f"lost or doubled: broadcast {number} behind {last}")
                last = number
                self.record.messages += 1

    async def cancelled(self) -> None:
        """Cancel a task at any point between connecting and closing."""
        task = asyncio.create_task(self.random.choice([self.echo, self.follow, self.pushed])())
        await asyncio.sleep(self.random.random() ** 2 * 0.2)
        task.cancel()
        with suppress(asyncio.CancelledError, ConnectionClosed):
            await task

    async def misused(self) -> None:
        """Connect our client to a server that misbehaves: garbage, resets, stalls, cut messages."""
        with suppress(StreamwsError):
            async with connect(
                f"{'wss' if self.client_ssl else 'ws'}://127.0.0.1:{self.rogue_port}/",
                ssl=self.client_ssl,
                compression=self.random.choice([None, True]),
                limits=LIMITS,
                timeouts=STRICT,
                backoff=Backoff(first=0),
                proxy=None,
            ) as client:
                if self.random.random() < 0.5:
                    await client.send(bytes(self.random.choice([10, 200_000])))
                async for _ in client:
                    pass

    def _accepted(self, head: bytes) -> bytes:
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = f"Sec-WebSocket-Accept: {accept_key(key).decode()}"
        return answer("101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", accept, length=False)

    async def serve_badly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, and misbehave."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            way = self.random.randrange(6)
            if way == 0:
                writer.write(self.random.choice(self.inputs["response"]))
            elif way > 1:
                writer.write(self._accepted(head))
                writer.write(frame(TEXT, b"hello") * 3)
            if way == 2:
                writer.write(self.random.choice(self.inputs["frames"]))
            elif way == 3:
                writer.write(frame(BINARY, bytes(60_000))[: self.random.randrange(60_000)])
            elif way == 4:
                await asyncio.sleep(self.random.random() * 4)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await writer.drain()
            self._reset(writer) if self.random.random() < 0.5 else writer.close()
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

    # Raw peers of the server -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _raw(self, path: str | None) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect without streamws.

        :param path: of the handshake; None for none.
        """
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.strict_port, ssl=self.client_ssl, limit=1 << 16
        )
        try:
            if path is not None:
                extension = {"Sec-WebSocket-Extensions": "permessage-deflate"} if self.random.random() < 0.5 else {}
                writer.write(request(extension, target=path))
                await reader.readuntil(b"\r\n\r\n")
            yield reader, writer
        finally:
            writer.transport.abort()

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        """End a connection with a TCP reset."""
        sock = writer.get_extra_info("socket")
        if sock is not None:  # else the connection has ended already
            with suppress(OSError):  # the peer was faster
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def cut(self) -> None:
        """Talk to the server, and end the connection at any byte: by a reset, at once, or after half-closing."""
        path = self.random.choice(["/echo", "/pieces", "/callback", "/asleep", "/other"])
        name = self._name(path)
        messages = self._messages(name, self.random.randrange(1, 12))
        stream = b"".join(
            client_frame(TEXT, message.encode()) if isinstance(message, str) else client_frame(BINARY, message)
            for message in messages
        )
        stream = stream[: self.random.randrange(len(stream) + 1)]
        async with self._raw(path) as (reader, writer):
            writer.write(stream)
            if self.random.random() < 0.5:
                await asyncio.sleep(self.random.random() * 0.05)
            if self.random.random() < 0.5:
                self._reset(writer)
            elif writer.can_write_eof():
                writer.write_eof()
                while await reader.read(1 << 16):
                    pass

    async def garbage(self) -> None:
        """Send an input of the fuzzer's corpus, as a request or as frames, and read until the connection ends."""
        path, kind = self.random.choice([(None, "request"), ("/other", "frames")])
        async with self._raw(path) as (reader, writer):
            with suppress(TimeoutError):
                for garbage in self.random.choices(self.inputs[kind], k=3):
                    writer.write(garbage)
                writer.write(client_frame(CLOSE, b"\x03\xe8"))
                async with asyncio.timeout(1):
                    while await reader.read(1 << 16):
                        pass

    async def stall(self) -> None:
        """Stop in the middle: of the handshake, of a frame, or of reading while the server sends."""
        way = self.random.randrange(4)
        async with self._raw("/echo" if way > 1 else None) as (reader, writer):
            with suppress(TimeoutError):
                if way == 1:
                    writer.write(request()[:40])
                elif way == 2:
                    writer.write(client_frame(BINARY, b"1:1:" + bytes(60))[:20])
                elif way == 3:
                    writer.write(client_frame(PING, bytes(100)) * 20_000)
                await asyncio.sleep(self.random.random() * min(8, self.round_length))
                async with asyncio.timeout(1):
                    while await reader.read(1 << 16):
                        pass

    # The rounds ------------------------------------------------------------------------------------------------

    async def run(self, seconds: float, connections: int, label: str) -> None:
        """Hold conversations for a time, in rounds."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.record.fault(f"unhandled: {context}"))
        server, strict = [
            WebSocketServer(
                "127.0.0.1", 0, handler=self.handle, ssl=self.server_ssl, compression=True, limits=LIMITS, timeouts=each
            )
            for each in (PATIENT, STRICT)
        ]
        rogue = await asyncio.start_server(self.serve_badly, "127.0.0.1", 0, ssl=self.server_ssl)
        self.rogue_port = rogue.sockets[0].getsockname()[1]
        async with server, strict, rogue:
            self.port, self.strict_port = server.port, strict.port
            feed = asyncio.create_task(self.broadcast(server))
            self.own_tasks = asyncio.all_tasks()
            begun = time.monotonic()
            first: State | None = None
            rounds = max(3, round(seconds / 60))
            for _ in range(rounds):
                await self._round(seconds / rounds, connections)
                state = await self._quiet([server, strict], first, label)
                first = first or state
                self._show(label, time.monotonic() - begun, state)
            feed.cancel()

    async def _round(self, seconds: float, connections: int) -> None:
        self.round_length = seconds
        end = time.monotonic() + seconds
        kinds: list[Callable[[], Awaitable[None]]] = [
            *[self.echo] * 4, *[self.cut] * 3, self.pushed, self.follow, self.cancelled, self.misused, self.garbage
        ]  # fmt: skip

        async def work(number: int) -> None:
            while time.monotonic() < end:
                # A few do nothing but stall, because that takes much longer than anything else.
                kind = self.stall if number % 10 == 9 else self.random.choice(kinds)
                self.record.conversations[kind.__name__] += 1
                # The server may end a connection of a peer that misbehaves at any time.
                ends = (OSError, EOFError) if kind in (self.cut, self.garbage, self.stall) else ()
                try:
                    async with asyncio.timeout(PATIENCE):
                        with suppress(*ends):
                            await kind()
                except Exception as error:
                    self.record.fault(f"{kind.__name__}: {error!r}")

        await asyncio.gather(*[work(number) for number in range(connections)])

    async def _quiet(self, servers: list[WebSocketServer], first: State | None, label: str) -> State:
        """Wait until all that ends by itself has ended, and return the state of the process."""
        before = None
        for _ in range(100):
            gc.collect()
            if TRIM is not None:
                TRIM(0)
            state = State(
                psutil.Process().num_fds(),
                len(asyncio.all_tasks()),
                sum(len(server.clients) for server in servers),
                len(gc.get_objects()),
                psutil.Process().memory_info().rss,
            )
            if state.tasks == len(self.own_tasks) and not state.clients:
                # The first time, it is quiet when no descriptor is closed any more.
                if (state.descriptors == before) if first is None else not state.differences(first):
                    break
                before = state.descriptors
            self.numbers.clear()
            await asyncio.sleep(0.2)
        else:
            for task in asyncio.all_tasks() - self.own_tasks:
                self.record.fault(f"left after a round: {task.get_coro()!r} ({label})")
            for difference in state.differences(first or state._replace(clients=0)):
                self.record.fault(f"left after a round: {difference} ({label})")
        return state

    def _show(self, label: str, seconds: float, state: State) -> None:
        record = self.record
        lost = sum(count for text, count in record.wrong.items() if text.startswith("lost"))
        print(
            f"{label}, {seconds:.0f} s: {sum(record.conversations.values()):,} conversations, "
            f"{record.messages:,} messages ({record.size / 1e6:,.0f} MB), lost or doubled {lost}, "
            f"other faults {sum(record.wrong.values()) - lost}; left: {state.descriptors} descriptors, "
            f"{state.tasks} tasks, {state.clients} clients, {state.objects:,} objects, {state.memory / 2**20:.1f} MiB",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="the time for all loops together (default: 10)")
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], default="both", help="(default: both)")
    parser.add_argument("--tls", choices=["no", "yes", "both"], default="both", help="(default: both)")
    parser.add_argument("--connections", type=int, default=50, help="conversations at a time (default: 50)")
    parser.add_argument("--seed", type=int, default=None, help="the seed of the random choices")
    options = parser.parse_args(arguments)
    record = Record()
    logging.getLogger().addHandler(Faults(record))
    logging.getLogger("streamws").setLevel(logging.ERROR)
    warnings.simplefilter("error", ResourceWarning)
    sys.unraisablehook = lambda unraisable: record.fault(
        f"unraisable: {unraisable.exc_value!r} in {unraisable.object!r}"
    )
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]]
    factories = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}")
    phases = [
        (loop, secure)
        for loop in factories
        for secure in (False, True)
        if options.loop in (loop, "both") and options.tls in ("yes" if secure else "no", "both")
    ]
    for loop, secure in phases:
        with asyncio.Runner(loop_factory=factories[loop]) as runner:
            label = f"{loop}{' with TLS' * secure}"
            soak = Soak(record, secure, seed)
            runner.run(soak.run(options.minutes * 60 / len(phases), options.connections, label))
    print(", ".join(f"{kind} {count:,}" for kind, count in sorted(record.conversations.items())))
    for text, count in record.wrong.items():
        print(f"WRONG, {count} times: {text}")
    return 1 if record.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
