"""Typed messages: `Json` and other codecs, and `Typed`, which sends and reads with them."""

from ..channel import Channel
from .codec import Codec
from .json import Json, JsonConverter
from .typed import Typed

__all__ = ["Channel", "Codec", "Json", "JsonConverter", "Typed"]
