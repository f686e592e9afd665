"""Attempts to connect that fail."""

import asyncio
import re
from typing import Any

import pytest

from helpers.waiting import PATIENCE
from streamws import StreamwsError, connect


async def failing(url: str, kind: type[StreamwsError], **options: Any) -> Any:
    """Return the error with which an attempt to connect fails."""
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(kind) as caught:
            await connect(url, **options)
    assert type(caught.value) is kind
    return caught.value


def message_of(error: BaseException) -> str:
    """Return the message of an error, with SERVER in place of an address."""
    return re.sub(r"127\.0\.0\.1:\d+", "SERVER", str(error))
