"""The current loop iteration: when gathered frames are written, and which reads and sends let others run."""

import asyncio

import pytest

from streamws.net import iteration as module
from streamws.net.iteration import LONGEST, LOOK_EVERY, Flushable, Iteration

# Gathered writes --------------------------------------------------------------------------------------------


class Flushed(Flushable):
    def __init__(self) -> None:
        self.times = 0

    def end_iteration(self) -> None:
        self.times += 1


async def test_iteration_flushes_when_it_ends() -> None:
    iteration = Iteration()
    first, second = Flushed(), Flushed()
    number = iteration.number
    iteration.begin(asyncio.get_running_loop())
    iteration.add(first)
    iteration.begin(asyncio.get_running_loop())
    iteration.add(second)
    assert (first.times, second.times, iteration.number) == (0, 0, number)
    await asyncio.sleep(0)
    assert (first.times, second.times, iteration.number) == (1, 1, number + 1)
    await asyncio.sleep(0)
    assert (first.times, iteration.number) == (1, number + 1)


async def test_iteration_begins_anew_after_its_end() -> None:
    iteration = Iteration()
    flushed = Flushed()
    for times in range(1, 4):
        iteration.begin(asyncio.get_running_loop())
        iteration.add(flushed)
        await asyncio.sleep(0)
        assert flushed.times == times


async def test_outbox_added_by_a_flush_is_flushed_in_the_next_iteration() -> None:
    iteration = Iteration()
    late = Flushed()

    class Sender(Flushable):
        def end_iteration(self) -> None:
            iteration.begin(asyncio.get_running_loop())
            iteration.add(late)

    iteration.begin(asyncio.get_running_loop())
    iteration.add(Sender())
    await asyncio.sleep(0)
    assert late.times == 0
    await asyncio.sleep(0)
    assert late.times == 1


async def test_iteration_flushes_others_when_one_flush_raises() -> None:
    loop = asyncio.get_running_loop()
    raised: list[object] = []
    loop.set_exception_handler(lambda loop, context: raised.append(context["exception"]))
    iteration = Iteration()
    flushed = Flushed()

    class Failing(Flushable):
        def end_iteration(self) -> None:
            raise KeyError("mine")

    iteration.begin(loop)
    iteration.add(Failing())
    iteration.add(flushed)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert flushed.times == 1
    assert [type(error) for error in raised] == [KeyError]


# Fairness ---------------------------------------------------------------------------------------------------


class Clock:
    """The time that the module sees. It passes only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def spend_until_over(iteration: Iteration, clock: Clock, seconds: float) -> float:
    """Do operations of so many seconds each until one must let others run; return the time until then."""
    loop = asyncio.get_running_loop()
    began = clock.now
    while not iteration.spend(loop):
        clock.now += seconds
    return clock.now - began


async def test_first_operations_do_not_even_look_at_the_time(clock: Clock) -> None:
    iteration = Iteration()
    for _ in range(LOOK_EVERY - 1):
        clock.now += 1
        assert not iteration.spend(asyncio.get_running_loop())
    assert clock.looks == 0


@pytest.mark.parametrize("seconds", [1e-7, 1e-6, 1e-5, 1e-4])
async def test_operations_may_go_on_for_a_few_milliseconds(clock: Clock, seconds: float) -> None:
    iteration = Iteration()
    for _ in range(10):
        assert LONGEST <= spend_until_over(iteration, clock, seconds) < 2.5 * LONGEST
        await asyncio.sleep(0)


async def test_quick_operations_seldom_look_at_the_time(clock: Clock) -> None:
    iteration = Iteration()
    count = spend_until_over(iteration, clock, 1e-7) / 1e-7
    assert count / clock.looks > 50


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.1])
async def test_slow_operations_are_looked_at_more_often_once_they_are_known(clock: Clock, seconds: float) -> None:
    iteration = Iteration()
    for _ in range(4):
        spend_until_over(iteration, clock, seconds)
        await asyncio.sleep(0)
    assert spend_until_over(iteration, clock, seconds) <= LONGEST + 2 * seconds


@pytest.mark.parametrize("count", [1, 20, 500])
async def test_every_iteration_counts_anew(clock: Clock, count: int) -> None:
    iteration = Iteration()
    loop = asyncio.get_running_loop()
    for _ in range(50):
        for _ in range(count):
            clock.now += LONGEST / 2 / count
            assert not iteration.spend(loop)
        await asyncio.sleep(0)
        clock.now += 1


@pytest.mark.parametrize("count", [20, 500])
async def test_every_batch_counts_anew(clock: Clock, count: int) -> None:
    iteration = Iteration()
    loop = asyncio.get_running_loop()
    number = iteration.number
    for _ in range(50):
        iteration.begin_batch()
        for _ in range(count):
            clock.now += LONGEST / 2 / count
            assert not iteration.spend(loop)
        iteration.end_batch()
        clock.now += 1
    await asyncio.sleep(0)
    assert iteration.number == number  # batches need no callback of the loop


async def test_next_task_of_the_iteration_has_a_time_of_its_own(clock: Clock) -> None:
    iteration = Iteration()
    spend_until_over(iteration, clock, 1e-5)
    assert LONGEST <= spend_until_over(iteration, clock, 1e-5) < 2.5 * LONGEST
