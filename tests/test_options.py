"""Every knob: defaults, what is refused, and the relations between them."""

from pathlib import Path
from typing import Any

import attrs
import pytest

import streamws.options
from streamws import Limits, Timeouts
from streamws.options import KiB, MiB

SIZES = {
    "max_message_size": MiB,
    "max_stream_size": None,
    "read_high": 256 * KiB,
    "read_low": 64 * KiB,
    "write_high": 64 * KiB,
    "write_low": 16 * KiB,
    "max_write_backlog": 16 * MiB,
    "max_control_backlog": 1000,
    "max_skip": 4 * MiB,
    "max_request_line": 8 * KiB,
    "max_header_line": 8 * KiB,
    "max_headers": 128,
    "max_head": 64 * KiB,
    "max_clients": None,
}
SECONDS = {"open": 10, "close": 10, "ping_interval": 20, "ping_timeout": 20}
MARKS = ("read_high", "read_low", "write_high", "write_low")


def test_limits_have_defaults() -> None:
    assert attrs.asdict(Limits()) == SIZES


def test_timeouts_have_defaults() -> None:
    assert attrs.asdict(Timeouts()) == SECONDS


@pytest.mark.parametrize("name", [name for name in SIZES if name not in MARKS])
@pytest.mark.parametrize("value", [1, 2**40])
def test_limits_take_size(name: str, value: int) -> None:
    assert getattr(Limits(**{name: value}), name) == value


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -1])
def test_limits_refuse_size_below_one(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not {value}"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [1.5, "1", True, b"1"])
def test_limits_refuse_other_types(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an int"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", [name for name, default in SIZES.items() if default is not None])
def test_limits_refuse_none_where_there_is_always_a_limit(name: str) -> None:
    value: Any = None
    with pytest.raises(TypeError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("kind", ["read", "write"])
def test_limits_refuse_low_mark_above_high_mark(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"{kind}_low \(11\) must not be above {kind}_high \(10\)"):
        Limits(**{f"{kind}_high": 10, f"{kind}_low": 11})


def test_limits_take_equal_marks() -> None:
    limits = Limits(read_high=10, read_low=10, write_high=10, write_low=10)
    assert (limits.read_high, limits.read_low) == (10, 10)


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [None, 1, 0.001, 1e9])
def test_timeouts_take_seconds(name: str, value: float | None) -> None:
    assert getattr(Timeouts(**{name: value}), name) == value


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0, -1, -0.5, float("inf"), float("nan")])
def test_timeouts_refuse_seconds(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0 seconds"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", ["1", True, b"1"])
def test_timeouts_refuse_other_types(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number of seconds"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("options", [Limits(), Timeouts()])
def test_options_are_frozen_values(options: Limits | Timeouts) -> None:
    name = attrs.fields(type(options))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(options, name, 1)
    assert options == type(options)()
    assert hash(options) == hash(type(options)())


@pytest.mark.parametrize("kind", [Limits, Timeouts])
def test_options_are_given_by_name(kind: type[object]) -> None:
    with pytest.raises(TypeError):
        kind(1)  # type: ignore[call-arg]


def test_every_option_is_described() -> None:
    source = Path(streamws.options.__file__).read_text()
    for name in [*SIZES, *SECONDS]:
        _, _, behind = source.partition(f"    {name}: ")
        assert behind.split("\n", 1)[1].startswith('    """'), name
