"""Echoes of JSON, decoded and encoded by hand and as typed messages, for `echoes.JsonEchoCase`."""

import json
from typing import Annotated, Literal

import msgspec
import pydantic

from streamws import Client
from streamws.messages import Json


class OrderStruct(msgspec.Struct, tag="order"):
    id: int
    symbol: str
    prices: list[float]


class CancelStruct(msgspec.Struct, tag="cancel"):
    id: int


class OrderModel(pydantic.BaseModel):
    type: Literal["order"]
    id: int
    symbol: str
    prices: list[float]


class CancelModel(pydantic.BaseModel):
    type: Literal["cancel"]
    id: int


Structs = OrderStruct | CancelStruct
Models = Annotated[OrderModel | CancelModel, pydantic.Field(discriminator="type")]
ADAPTER: pydantic.TypeAdapter[OrderModel | CancelModel] = pydantic.TypeAdapter(Models)
STRUCTS = Json(Structs)
MODELS: Json[OrderModel | CancelModel] = Json(Models)


async def json_by_hand(client: Client) -> None:
    encode = json.JSONEncoder(separators=(",", ":")).encode  # `json.dumps` would make an encoder for each message
    async for message in client:
        await client.send(encode(json.loads(message)))


async def msgspec_by_hand(client: Client) -> None:
    decode = msgspec.json.Decoder(Structs).decode
    encode = msgspec.json.Encoder().encode
    async for message in client:
        await client.send(encode(decode(message)), text=True)


async def msgspec_typed(client: Client) -> None:
    messages = client.typed(STRUCTS)
    async for message in messages:
        await messages.send(message)


async def pydantic_by_hand(client: Client) -> None:
    async for message in client:
        await client.send(ADAPTER.dump_json(ADAPTER.validate_json(message)), text=True)


async def pydantic_typed(client: Client) -> None:
    messages = client.typed(MODELS)
    async for message in messages:
        await messages.send(message)


HANDLERS = {
    "json": json_by_hand,
    "msgspec-by-hand": msgspec_by_hand,
    "msgspec": msgspec_typed,
    "pydantic-by-hand": pydantic_by_hand,
    "pydantic": pydantic_typed,
}
