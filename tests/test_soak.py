"""The soak command: it ends well after a short run, and it notices what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from soak import Numbers, Record, State

SOAK = Path(__file__).with_name("soak.py")
STATE = State(descriptors=12, tasks=2, clients=0, objects=30_000, memory=50 << 20)


def test_short_run_ends_well() -> None:
    command = [
        sys.executable,
        str(SOAK),
        "--minutes",
        "0.02",
        "--connections",
        "10",
        "--loop",
        "uvloop",
        "--tls",
        "yes",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("lost or doubled 0, other faults 0") == 3


@pytest.mark.parametrize(
    "change", [{"descriptors": 13}, {"tasks": 3}, {"clients": 1}, {"objects": 31_000}, {"memory": 64 << 20}]
)
def test_state_names_each_thing_that_has_grown(change: dict[str, int]) -> None:
    assert STATE.differences(STATE) == []
    [difference] = STATE._replace(**change).differences(STATE)
    assert next(iter(change)) in difference


@pytest.mark.parametrize(
    ("arriving", "fault"),
    [
        ([0, 2], "lost or doubled: message 3 instead of 2 at server"),
        ([0, 0], "lost or doubled: message 1 instead of 2 at server"),
        ([1, 0, 2], "lost or doubled: message 2 instead of 1 at server"),
        ([0, 1], "lost: 1 messages of name at the end, at server"),
    ],
)
def test_message_that_is_lost_doubled_or_reordered_is_a_fault(arriving: list[int], fault: str) -> None:
    record = Record()
    numbers = Numbers(record)
    messages = [numbers.message("name", 20, number != 1) for number in range(3)]
    for number in arriving:
        numbers.arrived(messages[number], "server")
    numbers.finish("name", "server")
    assert fault in record.wrong


def test_message_that_was_changed_is_a_fault() -> None:
    record = Record()
    numbers = Numbers(record)
    message = str(numbers.message("name", 20, True))
    numbers.arrived(message[:-1] + "x", "server")
    assert record.wrong == {"changed: message 1 at server": 1}


def test_messages_that_all_arrive_are_no_fault() -> None:
    record = Record()
    numbers = Numbers(record)
    for size in (0, 20, 3000):
        numbers.arrived(numbers.message("name", size, size != 20), "server")
    numbers.finish("name", "server")
    assert not record.wrong
