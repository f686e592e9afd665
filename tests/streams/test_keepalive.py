"""The time that a peer has to answer a keepalive ping, step by step."""

from collections.abc import Iterator

import pytest

from helpers.virtual import ALL, Endpoint, VirtualLoop, build_of, connected, packages

INTERVAL = 10
TIMEOUT = 4
HIGH = 1000
PING = 6
"""The size of a ping of the server."""

Pair = tuple[Endpoint, Endpoint]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    try:
        assert not loop.errors
    finally:
        loop.end()


@pytest.fixture(params=packages(), ids=build_of)
def ends(request: pytest.FixtureRequest, loop: VirtualLoop) -> Iterator[Pair]:
    """A server's end, which pings, and its peer. Written bytes count as not received until they are moved."""
    limits = {"read_high": HIGH, "read_low": 100, "write_high": HIGH, "write_low": 100}
    timeouts = {"close": 5, "ping_interval": INTERVAL, "ping_timeout": TIMEOUT}
    package = str(request.param)
    ours, peer = connected(loop, (package, package), limits=limits, timeouts=timeouts)
    peer.connection.keepalive.close()
    yield ours, peer
    drop(loop, (ours, peer))


def drop(loop: VirtualLoop, ends: Pair) -> None:
    """Drop the connections that are still open, because a client that is not closed causes a warning."""
    for end in ends:
        end.connection.abort()
    loop.settle()


def is_open(end: Endpoint) -> bool:
    return end.client.outcome is None


def check_deadline(loop: VirtualLoop, end: Endpoint, seconds: int = TIMEOUT) -> None:
    """Check that a connection fails after `seconds`, and not before."""
    for _ in range(seconds - 1):
        loop.pass_time(1)
        assert is_open(end)
    loop.pass_time(1)
    assert not is_open(end)
    assert end.client.outcome.cause == "keepalive"


def write(end: Endpoint, size: int) -> None:
    """Send a message and do not wait."""
    end.client.send(bytes(size)).close()


def test_peer_that_receives_a_ping_and_is_silent_is_closed_in_time(loop: VirtualLoop, ends: Pair) -> None:
    """An acknowledgement of the ping by the peer's TCP stack is not a sign of life."""
    ours, _ = ends
    loop.pass_time(INTERVAL)
    ours.transport.move(ALL)
    check_deadline(loop, ours)


def test_peer_that_receives_no_ping_is_closed_in_time(loop: VirtualLoop, ends: Pair) -> None:
    ours, _ = ends
    loop.pass_time(INTERVAL)
    check_deadline(loop, ours)


def test_acknowledged_data_behind_a_ping_is_no_sign_of_life(loop: VirtualLoop, ends: Pair) -> None:
    ours, _ = ends
    loop.pass_time(INTERVAL)
    for _ in range(TIMEOUT - 1):
        write(ours, 100)
        loop.pass_time(1)
        ours.transport.move(ALL)
        assert is_open(ours)
    loop.pass_time(1)
    assert not is_open(ours)


def test_time_begins_when_the_data_before_a_ping_was_received(loop: VirtualLoop, ends: Pair) -> None:
    ours, _ = ends
    write(ours, 500)
    loop.pass_time(INTERVAL)
    for _ in range(2 * TIMEOUT):
        ours.transport.move(50)
        loop.pass_time(1)
        assert is_open(ours)
    ours.transport.move(ALL)
    loop.pass_time(1)
    check_deadline(loop, ours)


def test_gathered_data_before_a_ping_counts(loop: VirtualLoop, ends: Pair) -> None:
    ours, _ = ends
    for _ in range(9):
        write(ours, 10)  # after a burst, the frames of the next iteration are gathered
    loop.settle()
    ours.transport.move(ALL)
    loop.call_later(INTERVAL - 0.1, write, ours, 400)  # in the iteration of the ping, and before it
    loop.pass_time(INTERVAL)
    for _ in range(TIMEOUT + 2):
        ours.transport.move(50)
        loop.pass_time(1)
    assert is_open(ours)


def test_time_does_not_count_while_reading_is_paused(loop: VirtualLoop, ends: Pair) -> None:
    ours, peer = ends
    write(peer, 2 * HIGH)
    peer.transport.move(ALL)
    assert ours.connection.inbox.paused
    loop.pass_time(INTERVAL)
    ours.transport.move(ALL)
    for _ in range(3 * TIMEOUT):
        loop.pass_time(1)
        assert is_open(ours)
    assert ours.transport.get_write_buffer_size() > 0, "a pong is sent instead of a ping"
    # From now on an answer could be seen.
    ours.connection.inbox.discard_unread()
    assert not ours.connection.inbox.paused
    loop.pass_time(1)
    check_deadline(loop, ours)


def test_peer_that_receives_nothing_while_both_directions_are_paused_is_closed_in_time(
    loop: VirtualLoop, ends: Pair
) -> None:
    ours, peer = ends
    write(peer, 2 * HIGH)
    peer.transport.move(ALL)
    write(ours, 2 * HIGH)
    loop.pass_time(INTERVAL)
    assert ours.connection.inbox.paused
    assert ours.connection.outbox.paused
    check_deadline(loop, ours)
    assert ours.client.outcome.detail == f"the peer read nothing for {TIMEOUT} s, and this side waits to send"


def test_peer_that_receives_slowly_while_both_directions_are_paused_is_kept(loop: VirtualLoop, ends: Pair) -> None:
    ours, peer = ends
    write(peer, 2 * HIGH)
    peer.transport.move(ALL)
    write(ours, 2 * HIGH)
    loop.pass_time(INTERVAL)
    for _ in range(3):
        for _ in range(TIMEOUT - 1):
            loop.pass_time(1)
        ours.transport.move(10)
        loop.pass_time(1)
        assert is_open(ours)
    check_deadline(loop, ours)


def test_time_counts_from_when_both_directions_are_paused(loop: VirtualLoop, ends: Pair) -> None:
    ours, peer = ends
    write(peer, 2 * HIGH)
    peer.transport.move(ALL)
    loop.pass_time(INTERVAL)
    ours.transport.move(ALL)
    for _ in range(TIMEOUT):
        loop.pass_time(1)
    write(ours, 2 * HIGH)
    loop.pass_time(1)
    check_deadline(loop, ours)


def test_interval_shorter_than_the_timeout_sends_one_ping_at_a_time(loop: VirtualLoop) -> None:
    timeouts = {"close": 5, "ping_interval": 1, "ping_timeout": TIMEOUT}
    ours, peer = connected(loop, ("streamws", "streamws"), timeouts=timeouts)
    peer.connection.keepalive.close()
    loop.pass_time(1)
    for _ in range(TIMEOUT - 1):
        loop.pass_time(1)
        assert ours.transport.get_write_buffer_size() == PING
    loop.pass_time(1)
    assert not is_open(ours)
    drop(loop, (ours, peer))
