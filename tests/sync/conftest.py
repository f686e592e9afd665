"""Fixtures for the tests of the blocking client. Nothing here may import streamws at the top (see `../conftest.py`)."""

import importlib
import inspect
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from helpers.leaks import open_sockets

_SECONDS = 30
"""Seconds that a test may take."""


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def fresh_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test with a loop thread of its own, on each loop; check that the test leaves nothing behind."""
    loop_thread: Any = importlib.import_module("streamws.sync.loop_thread")
    if request.param == "asyncio":
        monkeypatch.setattr(loop_thread, "fast_loops", None)
    else:
        pytest.importorskip("uvloop")
    sockets = open_sockets()

    def expire(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"the test took over {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(_SECONDS)
    yield
    thread, loop_thread._process.thread = loop_thread._process.thread, None
    left = [] if thread is None else list(thread.served)
    if thread is not None:
        thread.stop()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert not left, "a connection was left open"
    assert "streamws.sync" not in [thread.name for thread in threading.enumerate()]
    if not inspect.iscoroutinefunction(request.function):  # `nothing_left` checks the sockets of the others
        assert open_sockets() <= sockets


@pytest.fixture
def elsewhere(fresh_thread: None) -> Iterator[Any]:
    """Servers in another thread: an `Elsewhere`."""
    with importlib.import_module("helpers.elsewhere").Elsewhere() as servers:
        yield servers
