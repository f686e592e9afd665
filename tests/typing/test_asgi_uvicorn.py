"""Types of `streamws.asgi.uvicorn`: mypy and pyright check the assertions; pytest checks that the class can be made."""

from collections.abc import Sequence
from typing import Any, Literal, assert_type

import uvicorn

from streamws import Compression, Limits, Timeouts
from streamws.asgi.uvicorn import Protocol


class Mine(Protocol):
    limits = Limits(max_message_size=1024)
    timeouts = Timeouts(close=1)
    compression = False
    origins = ("https://example.org",)
    hosts = ("example.org",)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """An application without types, as uvicorn takes it."""


def test_uvicorn_takes_the_class_and_settings_have_their_types() -> None:
    assert uvicorn.Config(application, ws=Mine, log_config=None).ws is Mine
    assert_type(Protocol.limits, Limits | None)
    assert_type(Protocol.timeouts, Timeouts | None)
    assert_type(Protocol.compression, Compression | bool | None)
    assert_type(Protocol.origins, Sequence[str] | Literal["*"] | None)
    assert_type(Protocol.hosts, Sequence[str] | None)
    assert (Protocol.limits, Protocol.origins, Mine.limits) == (None, "*", Limits(max_message_size=1024))
