"""`Key`, and values that are stored by keys with a request."""

import copy

import pytest

from streamws import Key, Request
from streamws.handshake.headers import Headers

NAME: Key[str] = Key("name")
OTHER: Key[str] = Key("name")


def make() -> Request:
    return Request("GET", "/", Headers())


def test_key_shows_its_name() -> None:
    assert repr(NAME) == "<Key 'name'>"
    assert NAME.name == "name"
    assert repr(Key[int]("number")) == "<Key 'number'>"


def test_key_refuses_name_that_is_not_text() -> None:
    with pytest.raises(TypeError, match=r"^the name of a Key must be str, not 1$"):
        Key(1)  # type: ignore[arg-type]


def test_request_stores_values_by_the_identity_of_the_key() -> None:
    request = make()
    request[NAME] = "alice"
    assert request[NAME] == "alice"
    assert (NAME in request, OTHER in request) == (True, False)
    assert (request.get(OTHER), request.get(OTHER, "nobody"), request.get(NAME, "nobody")) == (None, "nobody", "alice")
    request[OTHER] = "bob"
    assert (request[NAME], request[OTHER]) == ("alice", "bob")
    del request[NAME]
    assert (NAME in request, OTHER in request) == (False, True)


@pytest.mark.parametrize("used", [False, True])
def test_missing_value_raises_key_error_that_names_the_key(used: bool) -> None:
    request = make()
    if used:
        request[OTHER] = "bob"
    with pytest.raises(KeyError, match=r"^<Key 'name'>$"):
        request[NAME]
    with pytest.raises(KeyError, match=r"^<Key 'name'>$"):
        del request[NAME]


def test_anything_but_a_key_raises_type_error_that_says_what_to_write() -> None:
    request = make()
    says = (
        r"^values are stored by Key, not by 'name': write USER: Key\[User\] = Key\('user'\) once in a module, and use"
    )
    with pytest.raises(TypeError, match=says):
        request["name"]  # type: ignore[index]
    with pytest.raises(TypeError, match=says):
        request["name"] = "alice"  # type: ignore[index]
    with pytest.raises(TypeError, match=says):
        del request["name"]  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=says):
        request.get("name")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=says):
        _ = "name" in request
    with pytest.raises(TypeError, match=r"not by int; to iterate over messages, write `async for`$"):
        list(request)  # type: ignore[call-overload]


def test_values_do_not_change_what_a_request_is() -> None:
    request, same = make(), make()
    request[NAME] = "alice"
    assert request == same
    assert hash(request) == hash(same)
    assert copy.copy(request)[NAME] == "alice"


def test_request_that_stores_nothing_has_no_mapping() -> None:
    request = make()
    assert NAME not in request
    assert request.get(NAME) is None
    assert request._derived is None
