"""URLs: how they are parsed, which are refused and why, and the targets of redirects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamws.errors import InvalidURL
from streamws.handshake.url import Url, basic_authorization, join_url, parse_url, without_password

LONG_LABEL = "a" * 64

GOOD = {
    "ws://example.org": Url(False, "example.org", 80, "/"),
    "wss://example.org": Url(True, "example.org", 443, "/"),
    "WSS://Example.ORG/Path": Url(True, "example.org", 443, "/Path"),
    "ws://example.org:8080/a/b?c=d&e": Url(False, "example.org", 8080, "/a/b?c=d&e"),
    "ws://example.org?a": Url(False, "example.org", 80, "/?a"),
    "ws://example.org:/": Url(False, "example.org", 80, "/"),
    "ws://example.org:65535": Url(False, "example.org", 65535, "/"),
    "ws://example.org.:1": Url(False, "example.org.", 1, "/"),
    "ws://my_host-1": Url(False, "my_host-1", 80, "/"),
    "ws://127.0.0.1:443": Url(False, "127.0.0.1", 443, "/"),
    "ws://[::1]:9": Url(False, "::1", 9, "/"),
    "wss://[2001:DB8:0::1]/": Url(True, "2001:db8::1", 443, "/"),
    "ws://[fe80::1%25eth0]/": Url(False, "fe80::1%eth0", 80, "/"),
    "ws://bücher.example/straße?q=ü": Url(False, "xn--bcher-kva.example", 80, "/stra%C3%9Fe?q=%C3%BC"),
    "ws://example.org//a//": Url(False, "example.org", 80, "//a//"),
    'ws://example.org/%20%zz"<>\\^`{|}[]': Url(False, "example.org", 80, "/%20%zz%22%3C%3E%5C%5E%60%7B%7C%7D%5B%5D"),
    "ws://example.org/a:b@c;d=e,f!g'(h)*~?i/j?k": Url(False, "example.org", 80, "/a:b@c;d=e,f!g'(h)*~?i/j?k"),
    "ws://user:pass@example.org": Url(False, "example.org", 80, "/", ("user", "pass")),
    "ws://us%40er:p%2Fa%3Ass%C3%BC@example.org": Url(False, "example.org", 80, "/", ("us@er", "p/a:ssü")),
    "ws://user@example.org": Url(False, "example.org", 80, "/", ("user", "")),
    "ws://user:a@b@example.org": Url(False, "example.org", 80, "/", ("user", "a@b")),
}

SCHEME = "it must start with ws:// or wss://"
NO_HOST = "it has no host"
HOST = "its host is malformed"
PORT = "its port must be a number from 1 to 65535"
SIGNS = "it contains a space or a control character"
HALF = "it contains a surrogate, which is half of a character"
FRAGMENT = "it must not have a fragment (#)"

BAD = {
    "": SCHEME,
    "please connect me": SIGNS,
    "example.org": SCHEME,
    "example.org/chat": SCHEME,
    "//example.org": SCHEME,
    "localhost:8765": SCHEME,
    "http://example.org": SCHEME,
    "https://example.org": SCHEME,
    "file:///etc/passwd": SCHEME,
    "ws:example.org": NO_HOST,
    "ws:/example.org": NO_HOST,
    "ws://": NO_HOST,
    "ws:///path": NO_HOST,
    "ws://:80": NO_HOST,
    "ws://user@": NO_HOST,
    "ws://user:pass@:80/": NO_HOST,
    "ws://?q": NO_HOST,
    "ws://example.org#": FRAGMENT,
    "ws://example.org/#top": FRAGMENT,
    "ws://example.org/a?b#c": FRAGMENT,
    "ws://example.org:0": PORT,
    "ws://example.org:65536": PORT,
    "ws://example.org:99999": PORT,
    "ws://example.org:-1": PORT,
    "ws://example.org:http": PORT,
    "ws://::1": NO_HOST,
    "ws:// example.org": SIGNS,
    " ws://example.org": SIGNS,
    "ws://example.org ": SIGNS,
    "ws://example.org/a b": SIGNS,
    "ws://example.org/\r\nX: y": SIGNS,
    "ws://example.org/\x00": SIGNS,
    "ws://example.org/\t": SIGNS,
    "ws://exa\x7fmple.org/": SIGNS,
    "ws://[::1": HOST,
    "ws://::1]": HOST,
    "ws://[127.0.0.1]": HOST,
    "ws://[example.org]": HOST,
    "ws://[v1.example]": HOST,
    "ws://[fe80::1%25ü]": HOST,
    "ws://[fe80::1%25a$b]": HOST,
    "ws://[::12345]": HOST,
    "ws://exa$mple.org": HOST,
    "ws://exa%20mple.org": HOST,
    "ws://a..b": HOST,
    "ws://.example.org": HOST,
    f"ws://{LONG_LABEL}.example": HOST,
    f"ws://ü{LONG_LABEL}.example": HOST,
    "ws://example.org/\ud800": HALF,
    "ws://example.org?\udcff": HALF,
    "ws://\udcff:pass@example.org": HALF,
    "ws://user:\udcff@example.org": HALF,
    "ws://\udcff": HALF,
    "ws://a\u2100b": HOST,  # one character that normalizes to "a/c"
    "ws://a\u200eb\u0627": HOST,
}


@pytest.mark.parametrize("text", GOOD)
def test_parser_returns_parts_of_url(text: str) -> None:
    assert parse_url(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD, ids=ascii)
def test_parser_refuses_invalid_url_with_reason(text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    assert str(caught.value) == f"{without_password(text)!r:.200} is not a valid WebSocket URL: {BAD[text]}"


@pytest.mark.parametrize("value", [None, b"ws://example.org", 80])
def test_parser_refuses_url_of_other_type(value: object) -> None:
    with pytest.raises(TypeError, match=f"the URL must be a str, not {type(value).__name__}"):
        parse_url(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "ws://user:secret@example.org:99999",
        "ws://user:secret@example.org#",
        "http://user:secret@example.org",
        "ws://user:secret@",
        "ws://user:secret@exa\u2100mple.org",
        "ws://user:secret@[::1",
        "ws://user:sec/ret@example.org",
        "ws://user:sec?ret@example.org",
        "ws://user:sec#ret@example.org",
        "ws://user:se/@secret@example.org",
        "ws://secret@a..b",
        "ws://user:se cret@example.org",
    ],
)
def test_error_does_not_show_password(text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    assert "ret" not in str(caught.value)
    assert "***@" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_error_shortens_long_url() -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url("http://example.org/" + "a" * 10_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ws://example.org:99999/a@b", "ws://example.org:99999/a@b"),
        ("ws://example.org/a:b@c", "ws://example.org/a:b@c"),
        ("ws://user@example.org/a@b", "ws://***@example.org/a@b"),
    ],
)
def test_without_password_removes_user_and_password(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_url_as_text_contains_no_credentials() -> None:
    url = parse_url("wss://user:secret@Example.org:443/a?b")
    assert str(url) == "wss://example.org/a?b"
    assert "secret" not in repr(url)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("ws://example.org:80", "example.org"),
        ("wss://example.org:443", "example.org"),
        ("ws://example.org:443", "example.org:443"),
        ("wss://example.org:80", "example.org:80"),
        ("ws://[::1]", "[::1]"),
        ("ws://[::1]:81", "[::1]:81"),
        ("ws://[fe80::1%25eth0]:81", "[fe80::1]:81"),
    ],
)
def test_authority_omits_default_port_and_zone(text: str, authority: str) -> None:
    assert parse_url(text).authority == authority


@given(st.text(st.characters(), max_size=60))
def test_parser_accepts_or_refuses_any_text(text: str) -> None:
    for url in (text, f"ws://{text}", f"ws://a/{text}"):
        try:
            found = parse_url(url)
        except InvalidURL:
            continue
        assert (found.authority + found.target).isascii()
        assert found.target.startswith("/")
        assert not set(found.authority + found.target) & set(" \r\n\t#")
        assert 0 < found.port < 65536


# Redirects ------------------------------------------------------------------------------------------------------

BASE = parse_url("ws://user:secret@example.org:8080/a/b?c")
SECURE = parse_url("wss://example.org/a/b?c")


@pytest.mark.parametrize(
    ("base", "location", "place"),
    [
        (BASE, "d", "ws://example.org:8080/a/d"),
        (BASE, "../d?e", "ws://example.org:8080/d?e"),
        (BASE, "/d", "ws://example.org:8080/d"),
        (BASE, "?e", "ws://example.org:8080/a/b?e"),
        (BASE, "", "ws://example.org:8080/a/b?c"),
        (BASE, "/d#fragment", "ws://example.org:8080/d"),
        (BASE, "//other.example/d", "ws://other.example/d"),
        (BASE, "http://other.example", "ws://other.example/"),
        (BASE, "https://other.example/", "wss://other.example/"),
        (BASE, "wss://other.example:1/", "wss://other.example:1/"),
        (SECURE, "/d", "wss://example.org/d"),
        (SECURE, "//other.example", "wss://other.example/"),
        (SECURE, "ws://other.example", "ws://other.example/"),
        (parse_url("ws://[::1]:81/a"), "b", "ws://[::1]:81/b"),
        (parse_url("ws://[fe80::1%25eth0]:81/a"), "b", "ws://[fe80::1%25eth0]:81/b"),
    ],
)
def test_location_is_resolved_against_base(base: Url, location: str, place: str) -> None:
    assert join_url(base, location) == parse_url(place)


@pytest.mark.parametrize(
    "location", ["ftp://a/", "mailto:a@b", "https://", "https:///a", "/a b", "//a:99999", "//a..b", "//[::1"]
)
def test_invalid_location_is_refused(location: str) -> None:
    with pytest.raises(InvalidURL):
        join_url(BASE, location)


def test_origin_consists_of_scheme_host_and_port() -> None:
    assert parse_url("ws://Example.org/a").origin == parse_url("ws://example.org:80/b").origin
    others = ["wss://example.org", "ws://example.org:81", "ws://www.example.org", "wss://example.org:80"]
    assert parse_url("ws://example.org").origin not in [parse_url(other).origin for other in others]


def test_basic_authorization_encodes_utf_8_in_base64() -> None:
    assert basic_authorization(("Aladdin", "open sesame")) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617
    assert basic_authorization(("test", "123£")) == "Basic dGVzdDoxMjPCow=="
