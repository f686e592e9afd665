"""Deadlines that share one timer."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import cast

from streamws.net.loops import Deadlines


class Timer:
    """The handle that `call_at` returns."""

    def __init__(self, clock: "Clock", callback: Callable[[], None]) -> None:
        self._clock = clock
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._clock.timers -= 1


class Clock:
    """An event loop whose time a test sets."""

    def __init__(self) -> None:
        self.timers = 0
        """The number of timers that are set."""
        self.errors: list[object] = []
        """The exceptions that were reported to the loop."""
        self._now = 0.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Timer]] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self, callback)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        self.timers += 1
        return timer

    def call_exception_handler(self, context: dict[str, object]) -> None:
        self.errors.append(context["exception"])

    def move_to(self, when: float) -> None:
        while self._heap and self._heap[0][0] <= when:
            self._now, _, timer = heapq.heappop(self._heap)
            callback = timer.callback
            timer.cancel()
            if callback is not None:
                callback()
        self._now = when

    def deadlines(self, seconds: float | None) -> Deadlines:
        return Deadlines(cast(asyncio.AbstractEventLoop, self), seconds)


class Wait:
    """A callback that records when it was called, and can start its deadline again."""

    def __init__(self, clock: Clock, again: Deadlines | None = None) -> None:
        self._clock = clock
        self._again = again
        self.calls: list[float] = []

    def __call__(self) -> None:
        self.calls.append(self._clock.time())
        if self._again is not None:
            self._again.add(self)


def test_deadlines_call_each_callback_in_time() -> None:
    clock = Clock()
    deadlines = clock.deadlines(10)
    early, late, gone, put_off = (Wait(clock) for _ in range(4))
    for wait in (early, gone, put_off):
        deadlines.add(wait)
    clock.move_to(4)
    deadlines.add(late)
    deadlines.add(put_off)
    deadlines.discard(gone)
    clock.move_to(100)
    assert (early.calls, late.calls, gone.calls, put_off.calls) == ([10], [14], [], [14])
    assert (len(deadlines), clock.timers) == (0, 0)


def test_deadlines_use_one_timer_however_often_waits_restart() -> None:
    clock = Clock()
    deadlines = clock.deadlines(10)
    waits = [Wait(clock, deadlines) for _ in range(5)]
    for number, wait in enumerate(waits):
        clock.move_to(number)
        deadlines.add(wait)
    for now in range(5, 200):
        clock.move_to(now)
        assert clock.timers == 1
    assert [wait.calls for wait in waits] == [list(range(10 + n, 200, 10)) for n in range(5)]


def test_deadlines_go_on_after_a_callback_that_raises() -> None:
    clock = Clock()
    deadlines = clock.deadlines(10)

    def fail() -> None:
        raise ValueError("a mistake")

    wait = Wait(clock)
    deadlines.add(fail)
    deadlines.add(wait)
    clock.move_to(10)
    assert wait.calls == [10]
    assert [repr(error) for error in clock.errors] == ["ValueError('a mistake')"]


def test_deadlines_closed_by_a_callback_call_no_other() -> None:
    clock = Clock()
    deadlines = clock.deadlines(10)
    wait = Wait(clock)
    deadlines.add(deadlines.close)
    deadlines.add(wait)
    clock.move_to(100)
    assert (wait.calls, clock.timers) == ([], 0)


def test_deadlines_without_seconds_never_end() -> None:
    clock = Clock()
    deadlines = clock.deadlines(None)
    deadlines.add(Wait(clock))
    assert (len(deadlines), clock.timers) == (0, 0)
