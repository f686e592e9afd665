"""Types of typed messages. mypy and pyright check the assertions; pytest checks that the codecs can be made."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Literal, TypedDict, assert_type

import attrs
import msgspec
import pydantic
from cattrs.preconf.json import make_converter
from cattrs.preconf.msgspec import MsgspecJsonConverter

from streamws import Client, CloseOutcome, DecodeError, WebSocketServer
from streamws.messages import Channel, Codec, Json, Typed


class Move(msgspec.Struct, tag="move"):
    x: int


class Chat(msgspec.Struct, tag="chat"):
    text: str


class Model(pydantic.BaseModel):
    kind: Literal["model"]


class Other(pydantic.BaseModel):
    kind: Literal["other"]


@attrs.frozen
class Parcel:
    x: int


@dataclasses.dataclass
class Plain:
    x: int


class Point(TypedDict):
    x: int


Either = Move | Chat


def making_codecs() -> None:
    assert_type(Json(Move), Json[Move])
    assert_type(Json(Move | Chat), Json[Move | Chat])
    assert_type(Json(Either), Json[Move | Chat])
    assert_type(Json(list[Move | Chat]), Json[list[Move | Chat]])
    assert_type(Json(Model | Other), Json[Model | Other])
    discriminated: Json[Model | Other] = Json(Annotated[Model | Other, pydantic.Field(discriminator="kind")])
    assert_type(discriminated.decode('{"kind":"other"}'), Model | Other)
    assert_type(Json(Parcel | None), Json[Parcel | None])
    assert_type(Json(Plain), Json[Plain])
    assert_type(Json(Point), Json[Point])
    assert_type(Json(list[int]), Json[list[int]])
    assert_type(Json(dict[str, int | None]), Json[dict[str, int | None]])
    assert_type(Json(tuple[int, str]), Json[tuple[int, str]])
    assert_type(Json(Literal["a", "b"]), Json[Literal["a", "b"]])
    assert_type(Json(int, using="pydantic"), Json[int])
    assert_type(Json(Parcel, using=make_converter()), Json[Parcel])


def choosing_a_converter(converter: MsgspecJsonConverter) -> None:
    assert_type(Json(Parcel | None, using=converter), Json[Parcel | None])


def using_codecs(codec: Json[Move | Chat]) -> None:
    assert_type(codec.encode(Move(1)), bytes)
    assert_type(codec.decode("{}"), Move | Chat)
    assert_type(codec.decode(b"{}"), Move | Chat)
    assert_type(codec.text, bool)


class Packed:
    """A codec of one's own, which receives and sends different types."""

    text = False

    def encode(self, message: Move) -> bytes:
        return str(message.x).encode()

    def decode(self, data: str | bytes) -> Chat:
        return Chat(str(data))


class Lines:
    """A codec of one's own for text."""

    @property
    def text(self) -> bool:
        return True

    def encode(self, message: list[str]) -> str:
        return "\n".join(message)

    def decode(self, data: str | bytes) -> list[str]:
        return str(data).split("\n")


def being_codecs() -> None:
    packed: Codec[Chat, Move] = Packed()
    lines: Codec[list[str], list[str]] = Lines()
    wider: Codec[object, Move] = Json(Move)
    codecs: list[object] = [packed, lines, wider]
    assert codecs


async def reading(client: Client) -> None:
    moves = client.typed(Json(Move | Chat))
    assert_type(moves, Typed[Move | Chat, Move | Chat])
    async for move in moves:
        assert_type(move, Move | Chat)
    assert_type(aiter(moves), AsyncIterator[Move | Chat])
    assert_type(await moves.read_message(), Move | Chat)
    await assert_type(moves.read_message(), Coroutine[object, None, Move | Chat])
    assert_type(asyncio.create_task(moves.read_message()), asyncio.Task[Move | Chat])
    assert_type(await asyncio.wait_for(moves.read_message(), 1), Move | Chat)


async def sending(client: Client, socket: WebSocketServer) -> None:
    moves = client.typed(Json(Move | Chat))
    await assert_type(moves.send(Move(1)), Coroutine[object, None, None])
    packed = client.typed(Packed())
    assert_type(packed, Typed[Chat, Move])
    await packed.send(Move(1))
    await client.send(b"text", text=True)
    assert_type(socket.broadcast(Packed().encode(Move(1)), text=Packed.text), int)


def calling_back(client: Client) -> None:
    moves = client.typed(Json(Move))

    @moves.message
    async def on_move(move: Move) -> None: ...

    unchanged: Callable[[Move], Coroutine[object, None, None]] = on_move

    @moves.message
    def on_anything(message: object) -> None: ...

    nothing: Callable[[Move], None] = on_anything
    callbacks: list[object] = [unchanged, nothing]
    assert callbacks


async def answer(client: Client, message: str | bytes, error: DecodeError) -> None:
    assert_type(error.reason, str)
    assert_type(error.outcome, CloseOutcome | None)
    await client.send(error.reason)


def handling_errors(client: Client) -> None:
    client.typed(Json(Move), answer)
    client.typed(Json(Move), on_error=lambda client, message, error: None)


class Queue:
    """A channel without a connection."""

    def send(self, data: str | bytes | bytearray | memoryview, *, text: bool = False) -> Coroutine[object, None, None]:
        return asyncio.sleep(0)

    async def read_message(self) -> str | bytes:
        return ""

    async def close(self, code: int = 1000, reason: str = "") -> None: ...

    @property
    def outcome(self) -> CloseOutcome | None:
        return None


def log(queue: Queue, message: str | bytes, error: DecodeError) -> None: ...


def being_channels(client: Client, queue: Queue) -> None:
    channels: list[Channel] = [client, queue]
    assert channels
    assert_type(Typed(client, Json(Move)), Typed[Move, Move])
    assert_type(Typed(client, Json(Move), answer), Typed[Move, Move])
    assert_type(Typed(queue, Packed(), log), Typed[Chat, Move])


def test_codecs_can_be_made() -> None:
    making_codecs()
    being_codecs()
