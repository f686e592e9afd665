"""The client of Java's standard library."""

from pathlib import Path

from helpers.processes import run
from interop.serving import Served, serving
from streamws import Client, Close, Limits

SOURCE = Path(__file__).parent / "Client.java"


async def connect(served: Served, path: str) -> list[str]:
    """Return the output of the client."""
    ended = await run("java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", SOURCE, served.url + path)
    assert (ended.status, ended.errors) == (0, "")
    return ended.output.decode().splitlines()


def java_hash(text: str) -> int:
    """Compute `String.hashCode` of Java, for characters of one UTF-16 unit."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


async def test_client_receives_echoes_and_closes() -> None:
    # The client sends large messages in fragments, which count 64 bytes each on top of the 1 MiB.
    async with serving(limits=Limits(max_message_size=2 << 20)) as served:
        seen = await connect(served, "/echo")
        outcome = await served.outcomes.get()

    assert seen == [
        "text ",
        "text grüß dich, 🌍",
        f"text {1 << 19} {java_hash('ü1' * (1 << 18))}",
        f"binary {1 << 20}",
        "pong 3",
        "close 4001 ",
    ]
    assert outcome.received == Close(4001, "done")


async def test_client_sees_fragments_ping_and_close() -> None:
    async def leave(client: Client) -> None:
        await client.writer.feed(["a", "ü", "b"])
        await client.writer.ping(b"there?")
        await client.close(3000, "bye")

    async with serving(leave) as served:
        seen = await connect(served, "/wait")
        outcome = await served.outcomes.get()

    assert seen == ["text aüb", "ping 6", "close 3000 bye"]
    assert outcome.sent == Close(3000, "bye")  # the program may exit before its Close frame was sent
