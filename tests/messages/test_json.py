"""`Json`: each library, valid and invalid messages, and the choice of the library."""

import json
import math
import subprocess
import sys
from typing import Annotated, Any, Literal

import attrs
import msgspec
import pydantic
import pytest
from cattrs.errors import StructureHandlerNotFoundError
from cattrs.preconf import msgspec as by_msgspec
from cattrs.preconf.json import make_converter
from typing_extensions import TypeAliasType

from messages.kinds import (
    ALL,
    CONVERTER,
    AttrsChat,
    AttrsMove,
    Kinds,
    ModelChat,
    ModelMove,
    Pair,
    Plain,
    Point,
    StructChat,
    StructMove,
    Tree,
)
from streamws import DecodeError, EncodeError, StreamwsError
from streamws.messages import Json
from streamws.messages.json import Library

LIBRARIES: tuple[Library, ...] = ("msgspec", "pydantic", "cattrs")
MiB = 1 << 20

every_kind = pytest.mark.parametrize("kinds", ALL, ids=lambda kinds: kinds.library)
every_library = pytest.mark.parametrize("library", LIBRARIES)


def reason_of(codec: Json[Any], data: str | bytes) -> str:
    """Return why a message cannot be decoded."""
    with pytest.raises(DecodeError) as raised:
        codec.decode(data)
    assert raised.value.__cause__ is not None
    assert str(raised.value) == f"cannot decode the message: {raised.value.reason}"
    return raised.value.reason


# Messages ---------------------------------------------------------------------------------------------------


@every_kind
def test_tagged_union_is_encoded_and_decoded(kinds: Kinds) -> None:
    codec = kinds.codec
    assert codec.text is True
    for message, encoded in (
        (kinds.move(x=1, y=-2), {"type": "move", "x": 1, "y": -2}),
        (kinds.chat(text="hi"), {"type": "chat", "text": "hi", "moves": []}),
    ):
        data = codec.encode(message)
        assert type(data) is bytes
        assert json.loads(data) == encoded
        assert codec.decode(data) == codec.decode(data.decode()) == message


@every_kind
def test_nested_messages_and_every_character_arrive_unchanged(kinds: Kinds) -> None:
    text = 'grüße, "日本"\\\n\u2028\x00\x7f 🏳️‍🌈'
    message = kinds.chat(text=text, moves=[kinds.move(x=1), kinds.move(x=2, y=3)])
    assert kinds.codec.decode(kinds.codec.encode(message)) == message
    assert kinds.codec.decode(json.dumps({"type": "chat", "text": text})) == kinds.chat(text=text)


@every_library
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (list[int], [1, 2, 3]),
        (list[int], []),
        (dict[str, float | None], {"a": 1.5, "ü": None}),
        (int | str, "text"),
        (int | str, -1),
        (Point, {"x": 1, "y": 2}),
        (list[Point], [{"x": 1, "y": 2}]),
        (Plain, Plain(1, 2)),
        (Plain | None, None),
        (Pair, Pair(1, 2)),
        (Tree, Tree([Tree([]), Tree([Tree([])])])),
        (bool, True),
        (str, ""),
        (Literal["yes", "no"], "no"),
        (int, 2**63 - 1),
        (float, 1e308),
    ],
    ids=str,
)
def test_plain_types_are_encoded_and_decoded_by_each_library(library: Library, kind: Any, value: object) -> None:
    codec = Json(kind, using=library)
    assert codec.decode(codec.encode(value)) == value
    assert codec.decode(codec.encode(value).decode()) == value


@every_library
def test_whitespace_is_ignored_and_last_of_equal_names_wins(library: Library) -> None:
    assert Json(Point, using=library).decode(' {"x": 1,\r\n\t"x": 2, "y": 3} ') == {"x": 2, "y": 3}


@every_kind
def test_unknown_fields_are_ignored(kinds: Kinds) -> None:
    assert kinds.codec.decode('{"type":"move","x":1,"z":[{}]}') == kinds.move(x=1)


@every_library
def test_output_has_no_spaces_and_no_escapes_of_letters(library: Library) -> None:
    assert Json(dict[str, list[int]], using=library).encode({"ü": [1, 2]}) == '{"ü":[1,2]}'.encode()


def test_models_are_encoded_by_alias_as_they_are_decoded() -> None:
    class Event(pydantic.BaseModel):
        kind: str = pydantic.Field(alias="event-type")

    codec = Json(Event)
    event = codec.decode('{"event-type":"joined"}')
    assert event.kind == "joined"
    assert codec.encode(event) == b'{"event-type":"joined"}'


# Invalid messages -------------------------------------------------------------------------------------------

INVALID: dict[str, str | bytes] = {
    "empty": "",
    "blank": " \n",
    "a word": "hello",
    "cut": '{"type":"move","x":1',
    "two values": '{"type":"move","x":1}{}',
    "comma at the end": '{"type":"move","x":1,}',
    "single quotes": "{'type':'move','x':1}",
    "a number": "1",
    "null": "null",
    "a list": "[]",
    "no tag": '{"x":1}',
    "unknown tag": '{"type":"jump","x":1}',
    "tag of another type": '{"type":[1],"x":1}',
    "missing field": '{"type":"move"}',
    "wrong type": '{"type":"move","x":{}}',
    "wrong type inside": '{"type":"chat","text":"a","moves":[{"type":"move","x":"one"}]}',
    "byte order mark": "\ufeff" + '{"type":"move","x":1}',
    "no UTF-8": b'{"type":"chat","text":"\xff"}',
    "UTF-16": '{"type":"move","x":1}'.encode("utf-16"),
    "deep arrays": "[" * MiB,
    "deep objects": '{"a":' * (MiB // 5),
    "deep inside": '{"type":"move","x":1,"z":' + "[" * MiB,
    "deep field": '{"type":"move","x":' + "[" * 100_000 + "]" * 100_000 + "}",
    "huge number": '{"type":"move","x":' + "9" * MiB + "}",
}


@every_kind
@pytest.mark.parametrize("name", INVALID)
def test_invalid_message_is_a_decode_error_with_a_short_reason(kinds: Kinds, name: str) -> None:
    reason = reason_of(kinds.codec, INVALID[name])
    assert 0 < len(reason) <= 500
    assert reason.isprintable()


@every_library
@pytest.mark.parametrize("name", ["empty", "cut", "deep arrays", "deep objects", "huge number", "UTF-16"])
def test_invalid_message_of_a_plain_type_is_a_decode_error(library: Library, name: str) -> None:
    reason_of(Json(dict[str, Any], using=library), INVALID[name])


@pytest.mark.parametrize(
    ("kinds", "data", "reason"),
    [
        (ALL[0], '{"type":"move","x":"a"}', "Expected `int`, got `str` - at `$.x`"),
        (ALL[0], '{"type":"move","x"}', "JSON is malformed: expected ':' (byte 18)"),
        (ALL[1], '{"type":"move","x":[]}', "Input should be a valid integer - at move.x"),
        (ALL[1], '{"type":"move","x":[],"y":[]}', "Input should be a valid integer - at move.x (and 1 more)"),
        (ALL[1], '{"x"}', "Invalid JSON: expected `:` at line 1 column 5"),
        (ALL[2], '{"type":"move"}', "KeyError: 'x'"),
        (ALL[2], '{"x"}', "JSONDecodeError: Expecting ':' delimiter: line 1 column 5 (char 4)"),
    ],
)
def test_reason_is_that_of_the_library(kinds: Kinds, data: str, reason: str) -> None:
    assert reason_of(kinds.codec, data) == reason


def test_converter_with_detailed_validation_names_the_place() -> None:
    codec = Json(list[AttrsMove], using=make_converter())
    assert reason_of(codec, '[{"x":1},{"x":"a"}]') == "invalid value for type, expected int @ $[1].x"
    assert reason_of(codec, '[{},{"y":2}]') == "required field missing @ $[0].x (and 1 more)"


@every_kind
def test_reason_does_not_contain_the_whole_message(kinds: Kinds) -> None:
    for data in ('{"type":"' + "secret " * 10_000 + '"}', '{"type":"move","x":"' + "secret " * 10_000 + '"}'):
        assert reason_of(kinds.codec, data).count("secret") < 100


@every_library
def test_many_errors_in_one_message_are_one_short_reason(library: Library) -> None:
    reason = reason_of(Json(list[int], using=library), json.dumps(["x"] * 10_000))
    assert {
        "msgspec": "Expected `int`, got `str` - at `$[0]`",
        "pydantic": "10000 validation errors for list[int]",
        "cattrs": "ValueError: invalid literal for int() with base 10: 'x'",
    }[library] == reason


# Messages that cannot be encoded ----------------------------------------------------------------------------


@every_library
def test_object_of_unknown_type_is_not_encoded(library: Library) -> None:
    with pytest.raises(EncodeError, match=r"^cannot encode dict as JSON: ") as raised:
        Json(dict[str, Any], using=library).encode({"a": object()})
    assert raised.value.__cause__ is not None
    assert isinstance(raised.value, StreamwsError)
    assert isinstance(raised.value, ValueError)


@every_library
def test_circular_object_is_not_encoded(library: Library) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(EncodeError):
        Json(list[Any], using=library).encode(circle)


@every_library
def test_lone_surrogate_is_not_encoded(library: Library) -> None:
    with pytest.raises(EncodeError):
        Json(str, using=library).encode("\ud800")


def test_cattrs_sends_no_number_that_is_not_json() -> None:
    with pytest.raises(EncodeError):
        Json(float, using="cattrs").encode(math.nan)


# The choice of the library ----------------------------------------------------------------------------------


class Boxed(pydantic.BaseModel):
    value: int


class Letter(msgspec.Struct):
    value: int


@pydantic.dataclasses.dataclass
class Checked:
    value: int


@attrs.define
class Parcel:
    value: int


class Typed(Point):
    """A `TypedDict` whose fields are of pydantic."""

    box: list[Boxed]


@pytest.mark.parametrize(
    ("kind", "invalid"),
    [
        (Letter, "Expected `int`, got `array` - at `$.value`"),
        (list[Letter], "Expected `array`, got `object`"),
        (dict[str, Letter] | None, "Expected `object`, got `array` - at `$[...]`"),
        (Annotated[Letter, msgspec.Meta(title="a letter")], "Expected `int`, got `array` - at `$.value`"),
        (Plain, "Object missing required field `x`"),
        (int, "Expected `int`, got `object`"),
        (Boxed, "Input should be a valid integer - at value"),
        (list[Boxed], "Input should be a valid array"),
        (Checked, "Input should be a valid integer - at value"),
        (Annotated[int, pydantic.Field(gt=0)], "Input should be a valid integer"),
        (TypeAliasType("Alias", list[Boxed]), "Input should be a valid array"),
        (Tree, "Object missing required field `branches`"),
        (pydantic.IPvAnyAddress, "value is not a valid IPv4 or IPv6 address"),
        (Typed, "Field required - at x (and 2 more)"),
        (Parcel, "TypeError: int() argument must be a string, a bytes-like object or a real number, not 'list'"),
        (list[Parcel], "TypeError: string indices must be integers, not 'str'"),
    ],
    ids=str,
)
def test_library_is_that_of_the_type(kind: Any, invalid: str) -> None:
    assert reason_of(Json(kind), '{"value":[]}') == invalid


def test_type_of_several_libraries_needs_a_choice() -> None:
    with pytest.raises(TypeError, match="has types of msgspec and pydantic: choose one of them with using="):
        Json(Letter | Boxed)
    assert Json(Parcel, using="msgspec").decode('{"value":1}') == Parcel(1)
    assert Json(AttrsMove | None, using=CONVERTER).decode("null") is None


def test_converter_of_another_json_library_is_used() -> None:
    codec = Json(AttrsMove, using=by_msgspec.make_converter())
    assert codec.encode(AttrsMove(1, 2)) == b'{"x":1,"y":2}'
    assert reason_of(codec, "[").startswith("DecodeError: ")


def test_unknown_library_is_refused() -> None:
    with pytest.raises(ValueError, match="one of 'msgspec', 'pydantic', 'cattrs' or a converter, not 'j'"):
        Json(int, using="j")  # type: ignore[call-overload]


def test_type_that_the_library_does_not_support_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="not supported"):
        Json(StructMove | Letter)
    with pytest.raises(pydantic.errors.PydanticSchemaGenerationError):
        Json(Boxed | subprocess.Popen[bytes])
    with pytest.raises(StructureHandlerNotFoundError):
        Json(object, using="cattrs")


def test_same_codec_may_be_used_for_different_types_of_one_union() -> None:
    assert Json(StructMove | StructChat).encode(StructChat("a")) == b'{"type":"chat","text":"a","moves":[]}'
    assert Json(ModelMove | ModelChat).decode('{"type":"chat","text":"a"}') == ModelChat(text="a")
    # cattrs can tell classes apart by their fields, too.
    assert Json(AttrsMove | AttrsChat).decode('{"text":"a"}') == AttrsChat("a")


WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in {missing!r} else found(name, *more)
import streamws
from streamws.messages import Json
try:
    codec = Json({kind})
    codec.decode("x")
except streamws.StreamwsError as error:
    print(error)
    assert isinstance(error, ImportError) is isinstance(error, streamws.MissingExtra) is ("install" in str(error))
"""


@pytest.mark.parametrize(
    ("missing", "kind", "said"),
    [
        (LIBRARIES, "int", "Json needs msgspec, pydantic or cattrs: pip install 'streamws[msgspec]'"),
        (LIBRARIES, "int, using='msgspec'", "JSON by msgspec needs msgspec: pip install 'streamws[msgspec]'"),
        (LIBRARIES, "int, using='pydantic'", "JSON by pydantic needs pydantic: pip install 'streamws[pydantic]'"),
        (LIBRARIES, "int, using='cattrs'", "JSON by cattrs needs cattrs: pip install 'streamws[cattrs]'"),
        (LIBRARIES[:1], "int", "cannot decode the message: Invalid JSON: expected value at line 1 column 1"),
        (LIBRARIES[:2], "int", "cannot decode the message: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_missing_library_is_named_or_another_is_used(missing: tuple[str, ...], kind: str, said: str) -> None:
    program = WITHOUT.format(missing=missing, kind=kind)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_libraries_are_imported_only_when_used() -> None:
    program = "import sys, streamws.messages; print({'msgspec', 'pydantic', 'cattrs'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
