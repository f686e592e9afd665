"""Random conversations over one connection: whatever both ends do, and however bytes arrive, nothing is lost.

At each end, tasks read, send, fail and are cancelled, while hypothesis decides when the network delivers bytes and how
much time passes. The models `Speaker` and `Listener` predict the result.
"""

import asyncio
import gc
import importlib
import os
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from helpers.listening import Listener
from helpers.speaking import Command, Fate, Order, Part, Sending, Speaker, encoded
from helpers.taps import BINARY, TEXT, Tap
from helpers.virtual import ALL, NoSocket, VirtualLoop, agree, build_of, connected, packages
from streamws.wire.deflate import PIECE

LIMITS = {
    "max_message_size": 1 << 20,
    "read_high": 400,
    "read_low": 100,
    "write_high": 300,
    "write_low": 100,
}
TIMEOUTS = {"close": 5, "ping_interval": 20, "ping_timeout": 20}

EXAMPLES = int(os.environ.get("STREAMWS_CONVERSATIONS") or 0)
"""The number of random conversations; 0 for the few of a usual run, which are always the same."""

fuzz = settings(
    max_examples=EXAMPLES or 30,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)

ends = st.integers(0, 1)
kinds = st.sampled_from([None, TEXT, BINARY])
sizes = st.sampled_from([0, 1, 3, 20, 20, 124, 125, 126, 127, 300, 1000, 65535, 65536])
small_sizes = st.sampled_from([0, 1, 2, 5, 130, 500])
moves = st.sampled_from([1, 2, 5, 30, 200, ALL, ALL])
choices = st.integers(0, 3)
wishes = st.sampled_from([None, None, True, False])
compressions = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([0, 10, 200]),
        "window_bits": st.sampled_from([9, 12, 15]),
        "peer_window_bits": st.sampled_from([9, 15]),
        "takeover": st.booleans(),
        "peer_takeover": st.booleans(),
        "binary": st.sampled_from([True, True, False]),
        "level": st.sampled_from([0, 1, 6]),
    }
)

Method = TypeVar("Method", bound=Callable[..., None])

_kinds: list[str] = []
_arguments: dict[str, dict[str, st.SearchStrategy[Any]]] = {}


def happens(often: int, **arguments: st.SearchStrategy[Any]) -> Callable[[Method], Method]:
    """Decorate a method that may be a step of a conversation.

    All steps share one rule, because hypothesis disables whole rules at random, and most conversations should send
    messages.

    :param often: The weight of the step in the random choice.
    """

    def add(method: Method) -> Method:
        _kinds.extend([method.__name__] * often)
        _arguments[method.__name__] = arguments
        return method

    return add


class Step:
    """One step of a conversation: a method, with its arguments."""

    def __init__(self, kind: str, arguments: dict[str, Any]) -> None:
        self.kind = kind
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


@st.composite
def steps(draw: st.DrawFn) -> Step:
    kind = draw(st.deferred(lambda: st.sampled_from(_kinds)))
    return Step(kind, {name: draw(strategy) for name, strategy in _arguments[kind].items()})


class End:
    """One end of the connection, with its tasks and models."""

    def __init__(self, loop: VirtualLoop, endpoint: Any, server: bool, terms: Mapping[str, Any] | None) -> None:
        """Create an end.

        :param terms: The agreed parameters of compression.
        """
        self.loop = loop
        self.client = endpoint.client
        self.connection = endpoint.connection
        self.transport = endpoint.transport
        self.streamws = endpoint.streamws
        sent, received = (0, False), (0, False)
        if terms is not None:
            sent = (terms["window_bits"], terms["takeover"])
            received = (terms["peer_window_bits"], terms["peer_takeover"])
        self.written, self.arrived, self.visible = (
            Tap(not server, *sent),
            Tap(server, *received),
            Tap(server, *received),
        )
        self.transport.on_written = self.written.feed
        self.transport.on_received = self._received
        self.speaker = Speaker(endpoint, self.written)
        self.listener = Listener(endpoint, self.visible, self.arrived)
        self.tasks: list[asyncio.Task[None]] = []
        self.frame_writer: asyncio.Task[None] | None = None  # the task that calls write_frame
        self.pongs = 0  # the number of tasks that wait for a pong

    def _received(self, data: bytes) -> None:
        if not self.connection.protocol.failed:
            self.arrived.feed(data)
        if self.connection.protocol.close_sent is None:
            self.visible.feed(data)

    @property
    def is_open(self) -> bool:
        return bool(self.connection.protocol.open)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        return task

    def messages_in_parts(self) -> list[Sending]:
        """Return the messages that tasks are sending in parts, on command."""
        return [sending for sending in self.speaker.told if sending.fate is Fate.OPEN]

    async def ping(self) -> None:
        self.pongs += 1
        try:
            assert await self.client.writer.ping() >= 0
        except self.streamws.ConnectionClosed:
            assert not self.is_open
        finally:
            self.pongs -= 1

    async def pong(self) -> None:
        try:
            await self.client.writer.pong(b"unsolicited")
        except self.streamws.ConnectionClosed:
            assert not self.is_open

    async def close(self, code: int) -> None:
        await self.client.close(code)
        assert self.client.state == 3

    def check(self) -> None:
        """Check the invariants that hold whenever no task is ready to run."""
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                task.result()
        self.listener.check_waiting()
        self.speaker.check_waiting()


class Conversation(RuleBasedStateMachine):
    """A server's end, a client's end, and the network between them."""

    packages = ("streamws", "streamws")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.held = 0
        self.numbers = 0

    @initialize(
        capacity=st.sampled_from([0, 150, ALL]),
        socket=st.sampled_from([NoSocket(), None]),
        flowing=st.booleans(),
        piece=st.sampled_from([ALL, 3, 50]),
        how=st.sampled_from(["client", "stream", "frames"]),
        last=ends,
        drained=st.booleans(),
        stalled=st.booleans(),
        compressions=st.none() | st.tuples(compressions, compressions),
        inflated=st.sampled_from([PIECE, 30]),
    )
    def connect(
        self,
        capacity: int,
        socket: NoSocket | None,
        flowing: bool,
        piece: int,
        how: str,
        last: int,
        drained: bool,
        stalled: bool,
        compressions: tuple[dict[str, Any], dict[str, Any]] | None,
        inflated: int,
    ) -> None:
        """Open the connection.

        :param flowing: Whether bytes move without a step of the network.
        :param piece: How many bytes move at a time then.
        :param how: How the remaining messages are read at the end.
        :param last: Which end closes the connection.
        :param drained: Whether everything is delivered and read before.
        :param stalled: Whether the network delivers nothing after the close.
        :param inflated: The number of bytes that are inflated at a time.
        """
        self.inflate_at_a_time(inflated)
        endpoints = connected(
            self.loop,
            self.packages,
            capacity=capacity,
            socket=socket,
            limits=LIMITS,
            timeouts=TIMEOUTS,
            compressions=compressions,
        )
        terms = (None, None) if compressions is None else agree(self.packages, compressions)
        self.ends = [
            End(self.loop, endpoint, server, terms)
            for endpoint, server, terms in zip(endpoints, (True, False), terms, strict=True)
        ]
        self.flowing, self.piece, self.how = flowing, piece, how
        self.last, self.drained, self.stalled = self.ends[last], drained, stalled

    def inflate_at_a_time(self, size: int) -> None:
        for package in self.packages:
            importlib.import_module(f"{package}.streams.inflation").PIECE = size  # type: ignore[attr-defined]

    @rule(what=steps())
    def step(self, what: Step) -> None:
        getattr(self, what.kind)(**what.arguments)

    # The loop --------------------------------------------------------------------------------------------------

    def end_step(self) -> None:
        """Run the tasks that are ready, unless further steps are to happen before."""
        if self.held:
            self.held -= 1
            return
        self.run_and_check()
        if self.flowing:
            self.move_all()

    def run_and_check(self) -> None:
        """Run until no task is ready, and check the invariants."""
        self.held = 0
        self.loop.settle()
        for end in self.ends:
            end.check()
        assert not self.loop.errors

    def call(self, function: Callable[[], object], in_task: bool = False) -> None:
        """Call the function inside the event loop."""

        async def call() -> None:
            function()

        if in_task:
            self.loop.create_task(call())
        else:
            self.loop.call_soon(function)

    @happens(9, steps=st.integers(1, 3))
    def hold(self, steps: int) -> None:
        """Let the next steps happen before any task runs."""
        self.held = steps

    @happens(3)
    def iterate_loop(self) -> None:
        """Run one iteration of the event loop."""
        self.loop.iterate()

    @happens(2, seconds=st.sampled_from([1, 6, 21]))
    def pass_time(self, seconds: int) -> None:
        """Let time pass. An end whose ping is not answered in time fails the connection."""
        self.loop.pass_time(seconds)
        self.run_and_check()

    # The network -----------------------------------------------------------------------------------------------

    @happens(24, end=ends, size=moves, times=st.integers(1, 3), in_task=st.booleans())
    def move(self, end: int, size: int, times: int, in_task: bool) -> None:
        transport = self.ends[end].transport
        for _ in range(times):
            self.call(lambda: transport.move(size), in_task)
        self.end_step()

    @happens(4, flowing=st.booleans())
    def flow(self, flowing: bool) -> None:
        """Move all bytes after each step from now on, or only in `move`."""
        self.flowing = flowing
        self.end_step()

    @happens(1, end=ends)
    def reset(self, end: int) -> None:
        for each in (self.ends[end], self.ends[1 - end]):
            self.call(partial(each.transport.drop, ConnectionResetError(104, "reset"), 0))
        self.end_step()

    # Sending ---------------------------------------------------------------------------------------------------

    def content(self, size: int, text: bool) -> Part:
        """Return data that differs from that of recent messages."""
        self.numbers += 1
        some = (f"{self.numbers}\né€𝄞" if self.numbers % 2 else f"{self.numbers}\n") * (size // 2 + 1)
        return some[:size] if text else some.encode()[:size]

    @happens(21, end=ends, size=sizes, text=st.booleans(), compress=wishes)
    def send(self, end: int, size: int, text: bool, compress: bool | None) -> None:
        self.ends[end].start(self.ends[end].speaker.send(self.content(size, text), compress))
        self.end_step()

    @happens(
        15,
        end=ends,
        how=st.sampled_from(["fragment", "feed", "write_frame", "data_frame"]),
        kind=kinds,
        size=sizes,
        parts=st.lists(small_sizes, max_size=2),
        compress=wishes,
    )
    def send_in_parts(
        self, end: int, how: str, kind: int | None, size: int, parts: list[int], compress: bool | None
    ) -> None:
        """Start to send a message in parts.

        :param size: The size of a data frame.
        :param parts: The first parts of a fragmented message.
        """
        here = self.ends[end]
        if how == "write_frame" and here.frame_writer is not None and not here.frame_writer.done():
            return  # only one task at a time may do so
        if how in ("write_frame", "data_frame"):
            kind = kind or BINARY
        commands: asyncio.Queue[Command] = asyncio.Queue()
        content = encoded(self.content(size, True)) if how == "data_frame" else b""
        task = here.start(here.speaker.send_in_pieces(how, kind, commands, content, compress))
        if how == "write_frame":
            here.frame_writer = task
        for part in parts:
            commands.put_nowait([self.content(part, kind != BINARY)])
        self.end_step()

    def command(self, end: int, which: int, command: Command) -> Sending | None:
        """Give the next command to a task that sends in parts."""
        sendings = self.ends[end].messages_in_parts()
        if not sendings:
            return None
        sending = sendings[which % len(sendings)]
        assert sending.commands is not None
        if sending.how == "write_frame" and isinstance(command, list):
            command = [b"".join(map(encoded, command))]  # one part, so that the message can end at any time
        sending.commands.put_nowait(command)
        return sending

    @happens(15, end=ends, which=choices, size=small_sizes, cut=st.booleans())
    def send_part(self, end: int, which: int, size: int, cut: bool) -> None:
        text = self.content(size, True)
        assert isinstance(text, str)
        data = text.encode()
        middle = size // 2 if cut else 0  # possibly inside a character
        self.command(end, which, [data[:middle], data[middle:]] if cut else [text])
        self.end_step()

    @happens(12, end=ends, which=choices)
    def finish(self, end: int, which: int) -> None:
        self.command(end, which, Order.FINISH)
        self.end_step()

    @happens(1, end=ends, which=choices)
    def fail(self, end: int, which: int) -> None:
        self.run_and_check()
        self.stop_sending(end, lambda: self.command(end, which, Order.FAIL))

    def stop_sending(self, end: int, stop: Callable[[], Sending | None]) -> None:
        """Stop a task, which may be sending in parts."""
        here = self.ends[end]
        was_open = here.is_open
        middle = {sending for sending in here.messages_in_parts() if sending.in_pieces and sending.how != "write_frame"}
        stopped = stop()
        waiting = {sending for sending in here.messages_in_parts() if sending is not stopped}
        self.run_and_check()
        if stopped is not None and stopped in middle and was_open and stopped.fate is not Fate.OPEN:
            if stopped.parts:
                assert here.client.outcome.code == 1011
                assert here.client.outcome.cause == "local cancel"
            elif all(sending.fate is Fate.OPEN for sending in waiting):
                assert here.is_open, "nothing was sent of the message"

    @happens(6, end=ends, ping=st.booleans())
    def send_control(self, end: int, ping: bool) -> None:
        self.ends[end].start(self.ends[end].ping() if ping else self.ends[end].pong())
        self.end_step()

    # Reading ---------------------------------------------------------------------------------------------------

    @happens(24, end=ends, how=st.sampled_from(["read_message", "read_frame", "begin"]))
    def read(self, end: int, how: str) -> None:
        self.ends[end].start(getattr(self.ends[end].listener, how)())
        self.end_step()

    @happens(
        9,
        end=ends,
        how=st.sampled_from(["client", "stream", "stream", "readinto", "frames", "text", "binary"]),
        count=st.integers(1, 3),
    )
    def iterate(self, end: int, how: str, count: int) -> None:
        self.ends[end].start(self.ends[end].listener.iterate(how, count))
        self.end_step()

    @happens(
        24,
        end=ends,
        how=st.sampled_from(["read", "all", "readexactly", "readinto", "readline", "chunk", "get"]),
        size=st.sampled_from([1, 2, 10, 100, 1000]),
    )
    def read_stream(self, end: int, how: str, size: int) -> None:
        listener = self.ends[end].listener
        if listener.begun is not None:
            self.ends[end].start(listener.read_stream(listener.begun, how, size))
        self.end_step()

    @happens(3, end=ends)
    def leave(self, end: int) -> None:
        self.run_and_check()
        listener = self.ends[end].listener
        if listener.begun is not None and listener.waiting is None:
            listener.leave(listener.begun)

    # Ending ----------------------------------------------------------------------------------------------------

    @happens(12, end=ends)
    def cancel_read(self, end: int) -> None:
        waiting = self.ends[end].listener.waiting
        if waiting is not None and waiting.task is not None:
            self.cancel_task(end, waiting.task)

    @happens(5, end=ends, which=choices)
    def cancel(self, end: int, which: int) -> None:
        if not self.held:
            self.run_and_check()
        tasks = self.ends[end].tasks
        if tasks:
            self.cancel_task(end, tasks[which % len(tasks)])

    def cancel_task(self, end: int, task: "asyncio.Task[Any]") -> None:
        here = self.ends[end]

        def cancel() -> Sending | None:
            task.cancel()
            here.listener.forget(task)
            return next((sending for sending in here.speaker.told if sending.task is task), None)

        if self.held:
            cancel()
            self.end_step()
        else:
            self.stop_sending(end, cancel)

    @happens(1, end=ends, code=st.sampled_from([1000, 1001, 4000]))
    def close(self, end: int, code: int) -> None:
        self.ends[end].start(self.ends[end].close(code))
        self.end_step()

    # The end ---------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if hasattr(self, "ends"):
                self.finish_all()
        finally:
            self.inflate_at_a_time(PIECE)
            self.loop.end()

    def move_all(self) -> None:
        rounds = 0
        while any(end.transport.can_move for end in self.ends):
            rounds += 1
            for end in self.ends:
                if end.transport.can_move:
                    self.call(partial(end.transport.move, self.piece if rounds < 20 else ALL))
            self.run_and_check()

    def read_on(self) -> None:
        """Start a reader at each end, which first finishes the message under way."""
        for end in self.ends:
            listener = end.listener
            if listener.begun is not None and listener.waiting is None:
                end.start(listener.read_stream(listener.begun, "all", 0))
                self.run_and_check()
            if listener.waiting is None:
                end.start(listener.iterate(self.how))
                self.run_and_check()

    def finish_all(self) -> None:
        self.run_and_check()
        for end in self.ends:
            for sending in end.messages_in_parts():
                assert sending.commands is not None
                sending.commands.put_nowait(Order.FINISH)
        self.run_and_check()
        if self.drained:
            self.drain()
        self.last.start(self.last.close(1000))
        self.run_and_check()
        if not self.stalled:
            self.move_all()
        self.loop.pass_time(6)  # the closing end reaches its deadline, and the other one notices when it reads on
        self.run_and_check()
        for _ in range(4):  # the start of a message, its end, and the next messages
            self.read_on()
            self.move_all()
        self.loop.pass_time(6)
        self.run_and_check()
        for end in self.ends:
            assert not end.tasks, "tasks hang"
            assert end.client.state == 3
            assert end.client.outcome is not None
            assert end.client.outcome.cause != "protocol error"
            end.listener.check_all_read()
            end.speaker.check_written()
        gc.collect(0)
        assert not self.loop.errors

    def drain(self) -> None:
        """Deliver and read everything that was sent."""
        while any(end.transport.can_move or end.listener.waiting is None for end in self.ends):
            self.read_on()
            self.move_all()
            if not all(end.is_open for end in self.ends):
                return
        for end, other in zip(self.ends, reversed(self.ends), strict=True):
            assert end.pongs == 0, "a ping has no pong"
            assert all(sending.fate is not Fate.OPEN for sending in end.speaker.sendings)
            assert len(end.visible.messages) == len(other.written.messages)
            end.listener.check_all_read()
            end.speaker.check_written()


class BetweenPure(Conversation):
    packages = (packages()[-1], packages()[-1])


class CompiledServerPureClient(Conversation):
    packages = (packages()[0], packages()[-1])


class PureServerCompiledClient(Conversation):
    packages = (packages()[-1], packages()[0])


MACHINES = {
    "-".join(map(build_of, machine.packages)): machine
    for machine in (Conversation, BetweenPure, CompiledServerPureClient, PureServerCompiledClient)
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_conversation_loses_nothing(machine: type[Conversation]) -> None:
    run_state_machine_as_test(machine, settings=fuzz)
