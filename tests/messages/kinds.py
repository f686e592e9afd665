"""The same messages as types of each library, for the tests of typed messages."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import attrs
import msgspec
import pydantic
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union
from typing_extensions import TypedDict

from streamws.messages import Json


class StructMove(msgspec.Struct, tag="move"):
    x: int
    y: int = 0


class StructChat(msgspec.Struct, tag="chat"):
    text: str
    moves: list[StructMove] = []


class ModelMove(pydantic.BaseModel):
    type: Literal["move"] = "move"
    x: int
    y: int = 0


class ModelChat(pydantic.BaseModel):
    type: Literal["chat"] = "chat"
    text: str
    moves: list[ModelMove] = []


@attrs.frozen
class AttrsMove:
    x: int
    y: int = 0


@attrs.frozen
class AttrsChat:
    text: str
    moves: list[AttrsMove] = attrs.field(factory=list)


class Point(TypedDict):
    x: int
    y: int


@dataclasses.dataclass
class Plain:
    x: int
    y: int = 0


@dataclasses.dataclass
class Tree:
    branches: "list[Tree]"


class Pair(NamedTuple):
    x: int
    y: int


CONVERTER = make_converter(detailed_validation=False)
configure_tagged_union(
    AttrsMove | AttrsChat, CONVERTER, tag_name="type", tag_generator=lambda kind: kind.__name__[5:].lower()
)


class Kinds(NamedTuple):
    """A tagged union of one library."""

    library: str
    move: Callable[..., Any]
    chat: Callable[..., Any]
    codec: Json[Any]


STRUCTS = Kinds("msgspec", StructMove, StructChat, Json(StructMove | StructChat))
MODELS = Kinds(
    "pydantic",
    ModelMove,
    ModelChat,
    Json(Annotated[ModelMove | ModelChat, pydantic.Field(discriminator="type")]),
)
CLASSES = Kinds("cattrs", AttrsMove, AttrsChat, Json(AttrsMove | AttrsChat, using=CONVERTER))
ALL = [STRUCTS, MODELS, CLASSES]
