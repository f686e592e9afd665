"""State shared by the connections of a loop: deadlines on one timer, writes gathered in a loop iteration, buffers."""

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from streamws.net.loops import Deadlines, LoopShare, is_uvloop, share_of


class Calls:
    """Functions that record the order of their calls."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._called = asyncio.Event()
        self._functions: dict[str, Callable[[], None]] = {}

    def __getitem__(self, name: str) -> Callable[[], None]:
        def called() -> None:
            self.names.append(name)
            self._called.set()

        return self._functions.setdefault(name, called)

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(5):
            while len(self.names) < count:
                self._called.clear()
                await self._called.wait()
        return self.names


@pytest.fixture
async def calls() -> Calls:
    return Calls()


@pytest.fixture
async def deadlines() -> AsyncIterator[Deadlines]:
    deadlines = Deadlines(asyncio.get_running_loop(), 0.02)
    yield deadlines
    deadlines.close()


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch, deadlines: Deadlines) -> list[asyncio.TimerHandle]:
    """The timers that `deadlines` starts."""
    timers: list[asyncio.TimerHandle] = []

    class Loop:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio.get_running_loop(), name)

        def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
            timers.append(asyncio.get_running_loop().call_at(when, callback))
            return timers[-1]

    monkeypatch.setattr(deadlines, "_loop", Loop())
    return timers


# Deadlines --------------------------------------------------------------------------------------------------


async def test_deadlines_expire_in_order_of_begin(deadlines: Deadlines, calls: Calls) -> None:
    for name in "abc":
        deadlines.add(calls[name])
    assert len(deadlines) == 3
    assert await calls.until(3) == ["a", "b", "c"]
    assert len(deadlines) == 0


async def test_deadlines_do_not_expire_early(deadlines: Deadlines, calls: Calls) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    deadlines.add(calls["a"])
    await calls.until(1)
    assert loop.time() - begun >= 0.019  # the loop runs timers that are due within the resolution of its clock


async def test_deadlines_share_one_timer(deadlines: Deadlines, calls: Calls, timers: list[asyncio.TimerHandle]) -> None:
    for number in range(100):
        deadlines.add(calls[str(number)])
    assert len(timers) == 1
    await calls.until(100)


async def test_deadlines_discarded_do_not_expire(deadlines: Deadlines, calls: Calls) -> None:
    for name in "abc":
        deadlines.add(calls[name])
    deadlines.discard(calls["a"])
    deadlines.discard(calls["c"])
    deadlines.discard(calls["never added"])
    assert calls["a"] not in deadlines
    assert calls["b"] in deadlines
    deadlines.add(calls["last"])
    assert await calls.until(2) == ["b", "last"]


async def test_deadlines_added_again_restart(deadlines: Deadlines, calls: Calls) -> None:
    deadlines.add(calls["a"])
    deadlines.add(calls["b"])
    deadlines.add(calls["a"])
    assert len(deadlines) == 2
    assert await calls.until(2) == ["b", "a"]


async def test_deadlines_added_later_expire_later(deadlines: Deadlines, calls: Calls) -> None:
    deadlines.add(calls["a"])
    await calls.until(1)
    deadlines.add(calls["b"])
    assert await calls.until(2) == ["a", "b"]


async def test_deadline_that_expires_may_add_itself(deadlines: Deadlines) -> None:
    count = 0
    done = asyncio.Event()

    def again() -> None:
        nonlocal count
        count += 1
        if count < 3:
            deadlines.add(again)
        else:
            done.set()

    deadlines.add(again)
    async with asyncio.timeout(5):
        await done.wait()
    assert len(deadlines) == 0


async def test_deadline_that_expires_may_discard_others(deadlines: Deadlines, calls: Calls) -> None:
    def first() -> None:
        calls["first"]()
        deadlines.discard(calls["second"])

    deadlines.add(first)
    deadlines.add(calls["second"])
    deadlines.add(calls["third"])
    assert await calls.until(2) == ["first", "third"]


async def test_deadline_that_raises_does_not_keep_others_from_expiring(calls: Calls) -> None:
    loop = asyncio.get_running_loop()
    raised: list[object] = []
    loop.set_exception_handler(lambda loop, context: raised.append(context["exception"]))
    deadlines = Deadlines(loop, 0.02)

    def fail() -> None:
        raise KeyError("mine")

    deadlines.add(fail)
    deadlines.add(calls["other"])
    assert await calls.until(1) == ["other"]
    assert [type(error) for error in raised] == [KeyError]
    deadlines.close()


async def test_deadlines_without_seconds_never_expire(calls: Calls) -> None:
    deadlines = Deadlines(asyncio.get_running_loop(), None)
    deadlines.add(calls["a"])
    assert len(deadlines) == 0
    deadlines.discard(calls["a"])
    deadlines.close()


async def test_deadlines_closed_forget_all_waits(
    deadlines: Deadlines, calls: Calls, timers: list[asyncio.TimerHandle]
) -> None:
    deadlines.add(calls["a"])
    deadlines.close()
    assert len(deadlines) == 0
    assert [timer.cancelled() for timer in timers] == [True]
    deadlines.close()
    deadlines.add(calls["b"])
    assert await calls.until(1) == ["b"]


# The share --------------------------------------------------------------------------------------------------


async def test_loop_has_one_share() -> None:
    loop = asyncio.get_running_loop()
    assert share_of(loop) is share_of(loop)
    assert isinstance(share_of(loop), LoopShare)
    assert share_of(loop).large_buffer is share_of(loop).large_buffer


def test_share_is_freed_with_its_loop() -> None:
    loop = asyncio.new_event_loop()
    share = weakref.ref(share_of(loop))
    loop.close()
    del loop
    gc.collect()
    assert share() is None


def test_loops_have_shares_of_their_own() -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    assert share_of(loops[0]) is not share_of(loops[1])
    for loop in loops:
        loop.close()


# The kind of loop -------------------------------------------------------------------------------------------


def test_uvloop_is_recognised_also_if_subclassed() -> None:
    class Mine(uvloop.Loop):
        pass

    for loop in (uvloop.new_event_loop(), Mine()):
        assert is_uvloop(loop)
        loop.close()


def test_transports_of_uvloop_are_greedy_and_ours_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = uvloop.new_event_loop(), uvloop.new_event_loop()
    assert not share_of(first).greedy
    monkeypatch.setattr(sys, "platform", "win32")  # where streamws uses the transports of the loop
    assert share_of(second).greedy
    first.close()
    second.close()


def test_asyncio_loop_is_not_uvloop() -> None:
    loop = asyncio.SelectorEventLoop()
    assert not is_uvloop(loop)
    assert not share_of(loop).greedy
    loop.close()
