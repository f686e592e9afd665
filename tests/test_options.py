"""The options: defaults, invalid values, and the relations between options."""

import re
from typing import Any

import attrs
import pytest

from streamws import Backoff, Compression, Limits, Timeouts, WebSocketServer, connect
from streamws.options import KiB, MiB, TopicLimits, compression_of
from streamws.topics import History

GiB = 1024 * MiB
SIZES = {
    "max_message_size": MiB,
    "max_stream_size": None,
    "read_high": 256 * KiB,
    "read_low": 64 * KiB,
    "write_high": 64 * KiB,
    "write_low": 16 * KiB,
    "max_total_backlog": 256 * MiB,
    "max_write_backlog": 16 * MiB,
    "max_control_backlog": 1000,
    "max_skip": 4 * MiB,
    "max_request_line": 8 * KiB,
    "max_header_line": 8 * KiB,
    "max_headers": 128,
    "max_head": 64 * KiB,
    "max_clients": None,
    "max_handshakes": 256,
    "max_clients_per_address": None,
    "max_handshakes_per_address": None,
}
SECONDS = {"open": 10, "close": 10, "ping_interval": 20, "ping_timeout": 20}
BACKOFF = {
    "first": 0.5,
    "factor": 2,
    "most": 60,
    "jitter": 0.5,
    "stable": 10,
    "restart": (5, 30),
    "max_retry_after": 600,
    "max_attempts": None,
}
COMPRESSION = {
    "threshold": 256,
    "text": True,
    "binary": True,
    "level": 6,
    "mem_level": 5,
    "window_bits": 12,
    "peer_window_bits": 12,
    "negotiate_window_bits": True,
    "takeover": False,
    "peer_takeover": False,
}
FLAGS = [name for name, value in COMPRESSION.items() if isinstance(value, bool)]
NUMBERS = [name for name in COMPRESSION if name not in FLAGS]
RANGES = {"level": (0, 9), "mem_level": (1, 9), "window_bits": (9, 15), "peer_window_bits": (9, 15)}
MARKS = ("read_high", "read_low", "write_high", "write_low")


def test_limits_have_defaults() -> None:
    assert attrs.asdict(Limits()) == SIZES


@pytest.mark.parametrize(("total", "each"), [(64 * MiB, 4 * MiB), (GiB, 64 * MiB), (1, 1)])
def test_default_of_the_backlog_of_one_connection_follows_from_the_total(total: int, each: int) -> None:
    assert Limits(max_total_backlog=total).max_write_backlog == each
    assert Limits(max_total_backlog=total, max_write_backlog=100).max_write_backlog == 100


def test_timeouts_have_defaults() -> None:
    assert attrs.asdict(Timeouts()) == SECONDS


@pytest.mark.parametrize("name", [name for name in SIZES if name not in MARKS])
@pytest.mark.parametrize("value", [1, 2**40])
def test_limits_accept_size(name: str, value: int) -> None:
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
def test_limits_refuse_none_for_a_required_limit(name: str) -> None:
    value: Any = None
    with pytest.raises(TypeError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("kind", ["read", "write"])
def test_limits_refuse_low_mark_above_high_mark(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"{kind}_low \(11\) must not be above {kind}_high \(10\)"):
        Limits(**{f"{kind}_high": 10, f"{kind}_low": 11})


def test_limits_accept_equal_marks() -> None:
    limits = Limits(read_high=10, read_low=10, write_high=10, write_low=10)
    assert (limits.read_high, limits.read_low) == (10, 10)


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [None, 1, 0.001, 1e9])
def test_timeouts_accept_seconds(name: str, value: float | None) -> None:
    assert getattr(Timeouts(**{name: value}), name) == value


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0, -1, -0.5, float("inf"), float("nan")])
def test_timeouts_refuse_seconds(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", ["1", True, b"1"])
def test_timeouts_refuse_other_types(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number of seconds"):
        Timeouts(**{name: value})


def test_backoff_has_defaults() -> None:
    assert attrs.asdict(Backoff()) == BACKOFF


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("first", 0),
        ("first", 60),
        ("most", 0.5),
        ("most", 1e9),
        ("factor", 1),
        ("factor", 1.5),
        ("jitter", 0),
        ("jitter", 1),
        ("stable", 0),
        ("restart", (0, 0)),
        ("restart", (1.5, 2)),
        ("max_retry_after", 0),
        ("max_attempts", 1),
    ],
)
def test_backoff_accepts_values(name: str, value: Any) -> None:
    assert getattr(Backoff(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("first", "most", "stable", "max_retry_after") for value in (-1, float("inf"))]
    + [("factor", value) for value in (0.9, 0, -2, float("inf"), float("nan"))]
    + [("jitter", value) for value in (-0.1, 1.1, float("nan"))]
    + [("restart", value) for value in ((2, 1), (-1, 1), (1, float("inf")), (float("nan"), 1))]
    + [("max_attempts", value) for value in (0, -1)],
)
def test_backoff_refuses_values(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Backoff(**{name: value})


@pytest.mark.parametrize("name", BACKOFF)
@pytest.mark.parametrize("value", ["1", True, b"1", ("1", "2"), (1,)])
def test_backoff_refuses_other_types(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be"):
        Backoff(**{name: value})


def test_backoff_refuses_first_wait_above_the_longest() -> None:
    with pytest.raises(ValueError, match=r"first \(2\) must not be above most \(1\)"):
        Backoff(first=2, most=1)


def test_compression_has_defaults() -> None:
    assert attrs.asdict(Compression()) == COMPRESSION


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name, (least, most) in RANGES.items() for value in (least, most)],
        *[(name, value) for name in FLAGS for value in (True, False)],
        *[("threshold", value) for value in (0, 1, 2**40)],
    ],
)
def test_compression_accepts_values(name: str, value: Any) -> None:
    assert getattr(Compression(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, (least, most) in RANGES.items() for value in (least - 1, most + 1, -1, 2**40)]
    + [("threshold", -1)],
)
def test_compression_refuses_number_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*, not {value}$"):
        Compression(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [1.5, "9", True, b"9", None])
def test_compression_refuses_values_that_are_not_numbers(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be an int"):
        Compression(**{name: value})


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_compression_refuses_values_that_are_not_bools(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be True or False"):
        Compression(**{name: value})


def test_compression_is_switched_on_and_off() -> None:
    assert compression_of(True) == Compression()
    assert compression_of(False) is None
    assert compression_of(None) is None
    wanted = Compression(level=1)
    assert compression_of(wanted) is wanted


@pytest.mark.parametrize("value", [1, 0, "deflate", 15, {"level": 1}])
def test_compression_argument_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^compression must be True, False or a Compression"):
        WebSocketServer("localhost", 0, compression=value)
    with pytest.raises(TypeError, match=r"^compression must be True, False or a Compression"):
        connect("ws://localhost", compression=value)


@pytest.mark.parametrize("options", [Limits(), Timeouts(), Backoff(), Compression()])
def test_options_are_frozen_values(options: Limits | Timeouts | Backoff | Compression) -> None:
    name = attrs.fields(type(options))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(options, name, 1)
    assert options == type(options)()
    assert hash(options) == hash(type(options)())


@pytest.mark.parametrize("kind", [Limits, Timeouts, Backoff, Compression])
def test_options_are_keyword_only(kind: type[object]) -> None:
    with pytest.raises(TypeError):
        kind(1)  # type: ignore[call-arg]


ARGUMENTS: list[tuple[str, Any, str]] = [
    ("limits", 4096, "limits must be a Limits, not 4096: write limits=Limits(max_message_size=...)"),
    ("limits", 0, "limits must be a Limits, not 0: write limits=Limits(max_message_size=...)"),
    ("limits", {}, "limits must be a Limits, not {}: write limits=Limits(max_message_size=...)"),
    ("limits", {"max_clients": 9}, "limits must be a Limits, not {'max_clients': 9}: write limits=Limits("),
    ("limits", Limits, "limits must be a Limits, not <class 'streamws.options.Limits'>: write limits=Limits("),
    ("timeouts", 10, "timeouts must be a Timeouts, not 10: write timeouts=Timeouts(open=...)"),
    ("timeouts", Limits(), "timeouts must be a Timeouts, not Limits("),
    ("compression", "deflate", "not 'deflate': write compression=True, or compression=Compression(level=...)"),
    ("compression", 9, "compression must be True, False or a Compression, not 9: write compression="),
]


@pytest.mark.parametrize(("name", "value", "message"), ARGUMENTS)
def test_argument_of_another_type_is_an_error_that_says_what_to_write(name: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        WebSocketServer("localhost", 0, **{name: value})
    with pytest.raises(TypeError, match=re.escape(message)):
        connect("ws://localhost/", **{name: value})


def test_backoff_of_another_type_is_an_error_that_says_what_to_write() -> None:
    for value in (3, 0, {"first": 3}):
        message = f"backoff must be a Backoff, not {value!r}: write backoff=Backoff(first=...)"
        with pytest.raises(TypeError, match=re.escape(message)):
            connect("ws://localhost/", backoff=value)  # type: ignore[arg-type]


def test_topic_limits_have_defaults_and_are_checked() -> None:
    assert attrs.asdict(TopicLimits()) == {
        "max_topics_per_client": 256,
        "max_name": 255,
        "max_publication_size": MiB,
        "max_publications_per_client": None,
        "max_publish_soon": 16 * MiB,
        "max_held": MiB,
        "publish_timeout": 10.0,
        "broker_timeout": 10.0,
        "close_timeout": 10.0,
    }
    for name, value in attrs.asdict(TopicLimits()).items():
        for wrong in (0, -1):
            with pytest.raises(ValueError, match=f"{name} must be "):
                TopicLimits(**{name: wrong})
        wrong_types: list[Any] = ["1", True, [1]] + ([] if value is None else [None])
        for wrong_type in wrong_types:
            with pytest.raises(TypeError, match=f"{name} must be "):
                TopicLimits(**{name: wrong_type})
    assert TopicLimits(max_publications_per_client=0.5).max_publications_per_client == 0.5


def test_history_is_checked() -> None:
    assert attrs.asdict(History()) == {"size": 100, "seconds": 300.0, "max_bytes": MiB}
    for name in attrs.asdict(History()):
        with pytest.raises(ValueError, match=f"{name} must be "):
            History(**{name: 0})
        wrong: Any = "1"
        with pytest.raises(TypeError, match=f"{name} must be "):
            History(**{name: wrong})
