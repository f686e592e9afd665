"""The chaos run: it ends well after a short run, and its checks notice each promise that is broken."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chaos.attending import Attending
from chaos.following import Following
from chaos.record import Record
from chaos.truth import Truth
from streamws.topics import Position

RUN = Path(__file__).with_name("chaos") / "run.py"

Message = dict[str, Any]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no Redis for Windows")
def test_short_run_ends_well() -> None:
    command = [sys.executable, str(RUN), "--small", "--minutes", "0.03", "--phases", "always", "--seed", "5"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "| **gaps in silence** | **0** |" in run.stdout


# The checks of one follower --------------------------------------------------------------------------------------


class Case:
    """A follower that has joined the topic `news` at offset 10, and what was found wrong."""

    def __init__(self, latest: bool = False, whole: bool = False) -> None:
        clock: Iterator[int] = count()
        self.record = Record(quiet=True)
        self.truth = Truth(self.record, lambda: next(clock))
        self.following = Following("follower", "news", self.truth, self.record, latest=latest, whole=whole)
        self.receive(joined(10))

    def receive(self, *messages: Message) -> None:
        for message in messages:
            self.following.receive(message)

    def come_back(self, *messages: Message) -> None:
        """Connect again, and receive."""
        self.following.cut()
        self.receive(*messages)

    @property
    def wrong(self) -> list[str]:
        """The kinds of the faults."""
        self.truth.finish()
        return [fault.partition(":")[0] for fault in self.record.faults]


def joined(offset: int, recovered: bool = False, epoch: str = "a") -> Message:
    return {"joined": [epoch, offset], "recovered": recovered}


def item(offset: int, name: str = "", epoch: str = "a", key: str | None = None) -> Message:
    """Return the message of a publication; by default its name is `p` and its offset."""
    return {"payload": f"{name or f'p.{offset}'} xxx", "at": [epoch, offset], "key": key}


def items(*offsets: int, epoch: str = "a") -> list[Message]:
    return [item(offset, epoch=epoch) for offset in offsets]


def gap(offset: int, epoch: str = "a") -> Message:
    return {"gap": [epoch, offset]}


@pytest.mark.parametrize(
    "messages",
    [
        items(11, 12, 13),
        [*items(11), gap(11), *items(14)],
        [gap(12), *items(11, 12, 14)],  # told when it is dropped, while others still wait
        [gap(10), *items(13), gap(13), *items(17)],
        [*items(11), item(12, epoch="b")],  # a new epoch that continues
        [*items(11), gap(11), item(1, "p.12", epoch="b")],
        [*items(11), gap(11, epoch="b"), item(20, epoch="c")],  # b continues a, and brought nothing
        # A slow follower is told while others still wait: Redis has lost its data twice.
        [gap(11), gap(2, epoch="b"), *items(11), item(1, "p.12", "b"), item(2, "p.13", "b"), item(1, "p.15", "c")],
    ],
)
def test_follower_that_gets_everything_or_is_told_is_no_fault(messages: list[Message]) -> None:
    case = Case()
    case.receive(*messages)
    assert case.wrong == []


@pytest.mark.parametrize(
    ("messages", "wrong"),
    [
        (items(12), "gaps in silence"),
        (items(11, 13), "gaps in silence"),
        ([*items(11), gap(12), *items(13)], "gaps in silence"),  # another place
        ([gap(10), *items(13, 15)], "gaps in silence"),  # told of another one before
        ([*items(11), item(13, epoch="b")], "gaps in silence"),
        ([*items(11), item(1, "p.12", epoch="b")], "gaps in silence"),
        ([*items(11), gap(11), item(1, "p.12", epoch="b"), item(3, "p.13", epoch="b")], "gaps in silence"),
        (items(11, 11), "duplicates"),
        ([item(11), item(12, "p.11")], "duplicates"),
        (items(11, 12, 11), "out of order"),
        ([item(11, "p.12"), item(12, "p.11")], "out of order"),
        ([item(10, "p.10")], "duplicates"),  # from before it joined
    ],
)
def test_broken_promise_is_found(messages: list[Message], wrong: str) -> None:
    case = Case()
    case.receive(*messages)
    assert wrong in case.wrong


def test_follower_that_comes_back_gets_what_it_has_missed() -> None:
    case = Case()
    case.receive(*items(11, 12))
    assert case.following.since == Position("a", 12)
    case.come_back(*items(13), joined(13, recovered=True), *items(14))  # the result may come after what was missed
    case.come_back(joined(20), *items(18, 19, 20, 21))
    case.come_back(joined(30), *items(31))
    case.come_back(joined(40))
    assert case.following.since == Position("a", 40)
    case.come_back(joined(45, recovered=True), *items(41))
    assert case.wrong == []


@pytest.mark.parametrize(
    ("messages", "wrong"),
    [
        ([joined(20, recovered=True), *items(14)], "gaps in silence"),
        ([joined(20), *items(22)], "gaps in silence"),
        ([joined(20), *items(19, 21)], "gaps in silence"),
        ([joined(12, recovered=True), *items(12)], "duplicates"),
        ([joined(12, recovered=True), *items(11)], "out of order"),
        ([joined(5, epoch="b"), item(6, "p.11", epoch="b")], "out of order"),
    ],
)
def test_broken_promise_to_follower_that_comes_back_is_found(messages: list[Message], wrong: str) -> None:
    case = Case()
    case.receive(*items(11, 12))
    case.come_back(*messages)
    assert wrong in case.wrong


def test_gap_that_was_told_over_an_earlier_connection_does_not_count() -> None:
    case = Case()
    case.receive(gap(10))
    case.come_back(joined(12, recovered=True), *items(12))
    assert case.wrong == ["gaps in silence"]


def test_what_arrives_before_the_result_of_joining_is_dropped_with_its_connection() -> None:
    case = Case()
    case.come_back(*items(11, 12))
    case.come_back(joined(12, recovered=True), *items(11, 12))
    assert case.wrong == []


def test_epoch_that_does_not_continue_the_one_before_is_a_gap_in_silence() -> None:
    case = Case()
    case.receive(*items(11, 12), item(13, epoch="b"))
    case.truth.see("news", Position("b", 11), "q.1", None)  # somebody else has got another publication there
    assert case.wrong == ["gaps in silence"]


def test_gap_is_needless_if_nothing_can_be_missing() -> None:
    case = Case(whole=True)
    case.receive(gap(10))
    case.come_back(joined(12))
    assert case.record.figures["needless gaps"] == 2


def test_follower_of_latest_may_lack_what_a_newer_publication_replaces() -> None:
    case = Case(latest=True)
    for offset in (11, 12):
        case.truth.see("news", Position("a", offset), f"p.{offset}", "red")
    case.receive(item(13, key="blue"), item(14, key="red"))
    case.following.finish(Position("a", 14))
    assert case.wrong == []


def test_key_that_follower_of_latest_never_gets_is_a_gap_in_silence() -> None:
    case = Case(latest=True)
    case.truth.see("news", Position("a", 11), "p.11", "red")
    case.receive(item(12, key="blue"), item(13, key="blue"))
    case.following.finish(Position("a", 13))
    assert case.wrong == ["gaps in silence"]


@pytest.mark.parametrize(
    ("messages", "wrong"), [([], ["missing at the end"]), ([gap(11)], []), (items(12), []), ([gap(11), *items(13)], [])]
)
def test_follower_that_neither_has_the_last_publication_nor_is_told_is_a_fault(
    messages: list[Message], wrong: list[str]
) -> None:
    case = Case()
    case.receive(*items(11), *messages)
    case.following.finish(Position("a", 12))
    assert case.wrong == wrong


# The publications ------------------------------------------------------------------------------------------------


def test_publication_with_two_positions_was_made_twice() -> None:
    case = Case()
    case.truth.attempt("news", "p.1")
    case.truth.see("news", Position("a", 1), "p.1", None)
    case.truth.see("news", Position("b", 1), "p.1", None)  # continued
    case.truth.see("sports", Position("a", 7), "p.1", None)
    assert case.wrong == []
    case.truth.see("news", Position("b", 2), "p.1", None)
    assert case.wrong == ["made twice"]


def test_publication_may_be_made_again_after_data_were_lost_but_not_in_one_epoch() -> None:
    case = Case()
    case.truth.attempt("news", "p.11")
    case.receive(*items(11))
    case.truth.data_lost()
    case.receive(gap(11), item(1, "p.11", epoch="b"))
    assert case.wrong == []
    case.truth.attempt("news", "p.12")
    case.receive(item(2, "p.12", epoch="b"), item(3, "p.12", epoch="b"))
    assert case.wrong == ["made twice", "duplicates"]


def test_publication_may_be_made_again_in_one_epoch_after_only_its_idempotency_key_was_lost() -> None:
    case = Case()
    case.truth.attempt("news", "p.11")
    case.receive(*items(11))
    case.truth.attempt("sports", "p.1")
    case.truth.data_lost(in_parts="news")
    case.receive(item(12, "p.11"))
    assert case.wrong == []
    for offset in (1, 2):
        case.truth.see("sports", Position("a", offset), "p.1", None)
    assert case.wrong == ["made twice"]
    case.record.faults.clear()
    case.truth.attempt("news", "p.12")
    case.receive(item(13, "p.12"), item(14, "p.12"))
    assert case.wrong == ["made twice", "duplicates"]


def test_two_publications_at_one_position_contradict_each_other() -> None:
    case = Case()
    case.truth.see("news", Position("a", 1), "p.1", None)
    case.truth.see("news", Position("a", 1), "p.2", None)
    assert case.wrong == ["contradictions"]


# Presence --------------------------------------------------------------------------------------------------------


def event(kind: str, connection: str) -> Message:
    return {"event": kind, "connection": connection, "user": "ann"}


def test_follower_knows_who_is_present() -> None:
    record = Record(quiet=True)
    attending = Attending("follower", record)
    attending.begin()
    attending.receive(event("leave", "1"))  # was present before
    attending.receive(event("join", "2"))
    attending.receive({"present": ["1", "3"]})  # read before these events
    assert attending.present == {"2", "3"}
    attending.receive(event("leave", "3"))
    attending.receive(event("join", "3"))
    attending.receive(event("leave", "2"))
    assert attending.present == {"3"}
    assert not record.faults


@pytest.mark.parametrize("kind", ["join", "leave"])
def test_event_that_is_told_twice_is_a_fault(kind: str) -> None:
    record = Record(quiet=True)
    attending = Attending("follower", record)
    attending.receive(event(kind, "1"))
    attending.receive(event(kind, "1"))
    assert record.figures["presence differences"] == 1


def test_leave_may_be_told_twice_if_data_can_be_lost() -> None:
    record = Record(quiet=True)
    attending = Attending("follower", record, keeps_all=False)
    attending.receive(event("leave", "1"))
    attending.receive(event("leave", "1"))
    assert not record.faults


@pytest.mark.parametrize(("drops", "faults"), [(True, 0), (False, 1)])
def test_slow_follower_knows_less_only_after_a_gap_and_until_it_comes_back(drops: bool, faults: int) -> None:
    record = Record(quiet=True)
    attending = Attending("follower", record, drops=drops)
    attending.begin()
    attending.receive(event("join", "1"))
    assert attending.knows
    attending.note_gap()
    assert attending.knows is not drops
    attending.receive(event("join", "1"))
    assert record.figures["presence differences"] == faults
    attending.begin()
    assert attending.knows
