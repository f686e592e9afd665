"""A blocking client, for scripts, notebooks and threads: `connect`, `Client` and `Typed`."""

from .client import Client
from .connecting import connect
from .typed import Typed

__all__ = ["Client", "Typed", "connect"]
