"""Extensions in the opening handshake: their grammar, and the negotiation of permessage-deflate."""

from collections.abc import Callable
from functools import partial

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.requests import fields_of
from streamws import Compression, HandshakeRefused, InvalidHandshake
from streamws.handshake.agreement import Agreement
from streamws.handshake.client import begin_handshake, check_response, request_options
from streamws.handshake.extensions import (
    DeflateTerms,
    accept_offer,
    check_answer,
    make_offers,
    parse_extensions,
)
from streamws.handshake.head import Request, Response
from streamws.handshake.headers import Headers
from streamws.handshake.server import Policy, accept_key, accept_request
from streamws.handshake.url import parse_url

DEFLATE = "permessage-deflate"
SERVER_TAKEOVER, CLIENT_TAKEOVER = "server_no_context_takeover", "client_no_context_takeover"
SERVER_BITS, CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"
FLAGS = [SERVER_TAKEOVER, CLIENT_TAKEOVER]
BITS = [SERVER_BITS, CLIENT_BITS]

FULL = Compression(window_bits=15, peer_window_bits=15, takeover=True, peer_takeover=True)
"""A server's options without limits of their own, so that its response contains only what the client requested."""

NAMELESS = Compression(negotiate_window_bits=False)

fuzz = settings(max_examples=60, deadline=None)


# The grammar -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        (" \t, ,,", []),
        ("a", [("a", [])]),
        (",a,,b,", [("a", []), ("b", [])]),
        ("a, a", [("a", []), ("a", [])]),
        ("a;b", [("a", [("b", None)])]),
        ("a;b=1", [("a", [("b", "1")])]),
        (" a\t;\tb = 1 ;c ", [("a", [("b", "1"), ("c", None)])]),
        ("a; b; b=2, c; d", [("a", [("b", None), ("b", "2")]), ("c", [("d", None)])]),
        ('a; b="1"', [("a", [("b", "1")])]),
        (r'a; b="\1\2"', [("a", [("b", "12")])]),
        ('a; b="1" , c', [("a", [("b", "1")]), ("c", [])]),
        ("!#$%&'*+-.^_`|~09azAZ", [("!#$%&'*+-.^_`|~09azAZ", [])]),
    ],
)
def test_parser_returns_extensions(value: str, expected: object) -> None:
    assert parse_extensions(value) == expected


MALFORMED = [
    "a b",
    ";",
    "a;",
    "a;;b",
    "a; b=",
    "a; =1",
    "a; b=1 2",
    "a=1",
    "a/b",
    "(a)",
    '"a"',
    'a; "b"',
    'a; b="',
    'a; b="1',
    'a; b="1\\"',
    'a; b=""',
    'a; b="1,2"',
    'a; b="1 2"',
    r'a; b="\""',
    'a; b="1"2',
    "a; b=ü",
    "ä",
    "a\x00",
    "a; b='(1)'",
]


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("before", ["", f"{DEFLATE}, "])
def test_parser_refuses_malformed_extensions(value: str, before: str) -> None:
    with pytest.raises(ValueError, match=r"^malformed Sec-WebSocket-Extensions"):
        parse_extensions(before + value)


def complaint(function: Callable[[str], object], value: str) -> str:
    """Return the message of the error that a function raises for the value."""
    try:
        function(value)
    except ValueError as error:
        return str(error)
    return ""


words = st.sampled_from([DEFLATE, *FLAGS, *BITS, ";", ",", "=", '"', "\\", " ", "\t", "8", "9", "15", "08", "x", "\n"])
fields = st.lists(words | st.characters(max_codepoint=255), max_size=12).map("".join)


@fuzz
@given(value=fields)
def test_parser_raises_only_value_error(value: str) -> None:
    for function in (
        parse_extensions,
        partial(accept_offer, compression=FULL),
        partial(check_answer, compression=FULL),
    ):
        assert len(complaint(function, value)) < 250


def test_parser_parses_long_field_in_linear_time() -> None:
    # Each of these would take minutes if the parser backtracked.
    for value in ("a" * 60_000 + "(", " " * 60_000 + "(", "a; b=" + '"' * 2 + "\\a" * 30_000, "a;b," * 15_000):
        assert len(complaint(parse_extensions, value)) < 250


# Valid parameters (RFC 7692 section 7.1) ----------------------------------------------------------------------------

NUMBERS = ["8", "9", "10", "11", "12", "13", "14", "15", '"9"', r'"1\5"']
NO_NUMBERS = ["7", "16", "08", "09", "+9", "-9", "9.0", "0", "1", "x", "015", "0x9", "1_0", "99999999999999999999"]

OFFERS = [
    *[(flag, f"; {flag}") for flag in FLAGS],
    *[(f"{bits}={number}", None) for bits in BITS for number in NUMBERS],
    (CLIENT_BITS, ""),
    *[(f"{flag}={value}", "declined") for flag in FLAGS for value in ("1", "true", '"1"')],
    *[(f"{name}; {name}", "declined") for name in FLAGS],
    *[(f"{name}=10; {name}=10", "declined") for name in BITS],
    (f"{CLIENT_BITS}; {CLIENT_BITS}=10", "declined"),
    (SERVER_BITS, "declined"),
    *[(f"{bits}={number}", "declined") for bits in BITS for number in NO_NUMBERS],
    ("x", "declined"),
    ("x=1", "declined"),
    (SERVER_TAKEOVER.upper(), "declined"),
]


@pytest.mark.parametrize(("parameters", "expected"), OFFERS)
def test_server_accepts_only_valid_offer(parameters: str, expected: str | None) -> None:
    answer = accept_offer(f"{DEFLATE}; {parameters}", FULL)
    if expected == "declined":
        assert answer is None
        return
    assert answer is not None
    if expected is None:  # the response repeats a number, except 15, the client's default
        name, _, value = parameters.partition("=")
        bits = int(value.strip('"').replace("\\", ""))
        expected = "" if name == CLIENT_BITS and bits == 15 else f"; {name}={bits}"
    assert answer[0] == DEFLATE + expected


@pytest.mark.parametrize("parameters", [parameters for parameters, said in OFFERS if said == "declined"])
def test_server_accepts_next_offer_if_first_is_not_valid(parameters: str) -> None:
    offers = f"{DEFLATE}; {parameters}, {DEFLATE}; {SERVER_BITS}=10, {DEFLATE}; {SERVER_BITS}=11"
    answer = accept_offer(offers, FULL)
    assert answer is not None
    assert answer[0] == f"{DEFLATE}; {SERVER_BITS}=10"


@pytest.mark.parametrize("offers", ["", "x", "permessage-bzip2, x; y=1", DEFLATE.upper(), f"x-{DEFLATE}"])
def test_server_declines_other_extensions(offers: str) -> None:
    assert accept_offer(offers, FULL) is None


def test_server_ignores_other_extensions_before_its_own() -> None:
    answer = accept_offer(f"x; y, {DEFLATE}, {DEFLATE}; {SERVER_TAKEOVER}", FULL)
    assert answer == (DEFLATE, DeflateTerms(15, True, 15, True))


ANSWERS = [
    ("", DeflateTerms(15, True, 15, True)),
    (f"; {SERVER_TAKEOVER}", DeflateTerms(15, True, 15, False)),
    (f"; {CLIENT_TAKEOVER}", DeflateTerms(15, False, 15, True)),
    (f"; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}", DeflateTerms(15, False, 15, False)),
    *[(f"; {SERVER_BITS}={bits}", DeflateTerms(15, True, bits, True)) for bits in range(8, 16)],
    *[(f"; {CLIENT_BITS}={bits}", DeflateTerms(bits, True, 15, True)) for bits in range(8, 16)],
    (f'; {CLIENT_BITS}="9"', DeflateTerms(9, True, 15, True)),
]


@pytest.mark.parametrize(("parameters", "terms"), ANSWERS)
def test_client_accepts_parameters_in_response(parameters: str, terms: DeflateTerms) -> None:
    assert check_answer(DEFLATE + parameters, FULL) == terms


WRONG_ANSWERS = [
    *[f"; {flag}=1" for flag in FLAGS],
    *[f"; {flag}; {flag}" for flag in FLAGS],
    *[f"; {bits}=9; {bits}=9" for bits in BITS],
    *[f"; {bits}" for bits in BITS],
    *[f"; {bits}={number}" for bits in BITS for number in NO_NUMBERS],
    "; x",
    f", {DEFLATE}",
    ", x",
]


@pytest.mark.parametrize("parameters", WRONG_ANSWERS)
def test_client_refuses_invalid_parameters_in_response(parameters: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_answer(DEFLATE + parameters, FULL)


@pytest.mark.parametrize("answer", ["x", "permessage-bzip2", DEFLATE.upper()])
def test_client_refuses_other_extension(answer: str) -> None:
    with pytest.raises(ValueError, match="not offered"):
        check_answer(answer, FULL)


# Options of each side ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compression", "offers", "answer", "terms"),
    [
        (
            Compression(),
            DEFLATE,
            f"; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}; {SERVER_BITS}=12",
            DeflateTerms(
                12, False, 15, False
            ),  # a server cannot limit a client that did not offer it (RFC 7692 section 7.1.2.2)
        ),
        (
            Compression(),
            f"{DEFLATE}; {CLIENT_BITS}",
            f"; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}; {SERVER_BITS}=12; {CLIENT_BITS}=12",
            DeflateTerms(12, False, 12, False),
        ),
        (
            Compression(),
            f"{DEFLATE}; {CLIENT_BITS}=10; {SERVER_BITS}=9",
            f"; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}; {SERVER_BITS}=9; {CLIENT_BITS}=10",
            DeflateTerms(9, False, 10, False),
        ),
        (Compression(takeover=True), DEFLATE, f"; {CLIENT_TAKEOVER}; {SERVER_BITS}=12", None),
        (Compression(peer_takeover=True), DEFLATE, f"; {SERVER_TAKEOVER}; {SERVER_BITS}=12", None),
        (FULL, f"{DEFLATE}; {SERVER_TAKEOVER}", f"; {SERVER_TAKEOVER}", DeflateTerms(15, False, 15, True)),
        (FULL, f"{DEFLATE}; {CLIENT_TAKEOVER}", f"; {CLIENT_TAKEOVER}", DeflateTerms(15, True, 15, False)),
        (FULL, f"{DEFLATE}; {CLIENT_BITS}", "", DeflateTerms(15, True, 15, True)),
        (FULL, f"{DEFLATE}; {SERVER_BITS}=15", f"; {SERVER_BITS}=15", DeflateTerms(15, True, 15, True)),
        (
            Compression(),
            f"{DEFLATE}; {SERVER_BITS}=8; {CLIENT_BITS}=8",
            f"; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}; {SERVER_BITS}=8; {CLIENT_BITS}=8",
            DeflateTerms(8, False, 8, False),
        ),
        (NAMELESS, DEFLATE, f"; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}", DeflateTerms(12, False, 15, False)),
        (
            NAMELESS,
            f"{DEFLATE}; {CLIENT_BITS}=10",
            f"; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}",
            DeflateTerms(12, False, 15, False),
        ),
        (
            NAMELESS,
            f"{DEFLATE}; {SERVER_BITS}=10",  # the answer must then name the window (RFC 7692 section 7.1.2.1)
            f"; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}; {SERVER_BITS}=10",
            DeflateTerms(10, False, 15, False),
        ),
    ],
)
def test_server_responds_according_to_its_options(
    compression: Compression, offers: str, answer: str, terms: DeflateTerms | None
) -> None:
    accepted = accept_offer(offers, compression)
    assert accepted is not None
    assert accepted[0] == DEFLATE + answer
    assert terms in (None, accepted[1])


@pytest.mark.parametrize(
    ("compression", "offers"),
    [
        (
            Compression(),
            f"{DEFLATE}; {SERVER_TAKEOVER}; {SERVER_BITS}=12; {CLIENT_TAKEOVER}; {CLIENT_BITS}=12, "
            f"{DEFLATE}; {CLIENT_TAKEOVER}; {CLIENT_BITS}=12",
        ),
        (FULL, f"{DEFLATE}; {CLIENT_BITS}"),
        (NAMELESS, f"{DEFLATE}; {SERVER_TAKEOVER}; {CLIENT_TAKEOVER}, {DEFLATE}; {CLIENT_TAKEOVER}"),
        (attrs.evolve(FULL, negotiate_window_bits=False), DEFLATE),
        (
            Compression(window_bits=15, peer_window_bits=9, takeover=True, peer_takeover=True),
            f"{DEFLATE}; {SERVER_BITS}=9; {CLIENT_BITS}, {DEFLATE}; {CLIENT_BITS}",
        ),
    ],
)
def test_client_offers_parameters_of_its_options(compression: Compression, offers: str) -> None:
    assert make_offers(compression) == offers


def test_client_uses_smaller_window_than_response_allows() -> None:
    terms = check_answer(f"{DEFLATE}; {SERVER_BITS}=15", Compression())
    assert terms == DeflateTerms(window_bits=12, takeover=False, peer_window_bits=15, peer_takeover=True)


def test_client_refuses_limit_of_its_window_that_was_not_offered() -> None:
    with pytest.raises(ValueError, match=f"the server chose {CLIENT_BITS}, which was not offered"):
        check_answer(f"{DEFLATE}; {CLIENT_BITS}=15", NAMELESS)
    assert check_answer(f"{DEFLATE}; {SERVER_BITS}=10", NAMELESS) == DeflateTerms(12, False, 10, True)


compressions = st.builds(
    Compression,
    window_bits=st.integers(9, 15),
    peer_window_bits=st.integers(9, 15),
    negotiate_window_bits=st.booleans(),
    takeover=st.booleans(),
    peer_takeover=st.booleans(),
)


@fuzz
@given(client=compressions, server=compressions)
def test_both_sides_agree_on_same_parameters(client: Compression, server: Compression) -> None:
    accepted = accept_offer(make_offers(client), server)
    assert accepted is not None
    answer, terms = accepted
    seen = check_answer(answer, client)
    assert seen is not None
    # Each side inflates with a window that is at least as large as the one with which the other side compresses.
    assert terms.peer_window_bits >= seen.window_bits
    assert seen.peer_window_bits >= terms.window_bits
    assert (seen.takeover, seen.peer_takeover) == (terms.peer_takeover, terms.takeover)
    if client.negotiate_window_bits and server.negotiate_window_bits:
        assert (seen.window_bits, seen.peer_window_bits) == (terms.peer_window_bits, terms.window_bits)
        assert seen.window_bits == min(client.window_bits, server.peer_window_bits)
        assert seen.peer_window_bits == min(client.peer_window_bits, server.window_bits)
    if client.negotiate_window_bits:
        assert terms.window_bits <= client.peer_window_bits
    else:
        assert "window_bits" not in make_offers(client)
    assert seen.takeover is (client.takeover and server.peer_takeover)
    assert seen.peer_takeover is (client.peer_takeover and server.takeover)


# In requests and responses -----------------------------------------------------------------------------------------


def request(*extensions: str) -> Request:
    fields = [
        ("Host", "localhost"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        *[("Sec-WebSocket-Extensions", value) for value in extensions],
    ]
    return Request("GET", "/", Headers(fields))


def accept(asked: Request, policy: Policy) -> Agreement:
    return accept_request(asked, fields_of(asked), policy)


@pytest.mark.parametrize("compression", [None, FULL])
@pytest.mark.parametrize("value", [value for value in MALFORMED if value.isascii() and value.isprintable()])
def test_server_answers_malformed_extensions_with_400(value: str, compression: Compression | None) -> None:
    policy = Policy(compression=compression)
    if compression is None:
        accept(request(value), policy)  # the field is not read when compression is off
    else:
        with pytest.raises(HandshakeRefused) as caught:
            accept(request(value), policy)
        assert caught.value.status == 400


@pytest.mark.parametrize("compression", [None, FULL])
def test_server_reads_offers_over_several_fields(compression: Compression | None) -> None:
    offers = ("x; y=1", f"{DEFLATE}; {SERVER_BITS}=7", f"{DEFLATE}; {SERVER_BITS}=9, {DEFLATE}")
    verdict = accept(request(*offers), Policy(compression=compression))
    assert verdict.response.headers.get("Sec-WebSocket-Extensions") == (
        None if compression is None else f"{DEFLATE}; {SERVER_BITS}=9"
    )
    assert verdict.terms == (None if compression is None else DeflateTerms(9, True, 15, True))


@pytest.mark.parametrize("offers", [(), ("x",), (f"{DEFLATE}; x",)])
def test_server_omits_field_when_it_accepts_no_offer(offers: tuple[str, ...]) -> None:
    verdict = accept(request(*offers), Policy(compression=FULL))
    assert "Sec-WebSocket-Extensions" not in verdict.response.headers
    assert verdict.terms is None


def answered(compression: Compression | None, *extensions: str) -> DeflateTerms | None:
    """Return the parameters that a client accepts from a response with these fields."""
    handshake = begin_handshake(parse_url("ws://localhost/"), request_options((), None, None, (), compression))
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(handshake.key).decode()),
        *[("Sec-WebSocket-Extensions", value) for value in extensions],
    ]
    return check_response(handshake, Response.from_wire(101, Headers(fields))).terms


def test_client_continues_without_compression_if_server_has_none() -> None:
    assert answered(FULL) is None
    assert answered(None) is None


@pytest.mark.parametrize("answer", [*[DEFLATE + value for value in WRONG_ANSWERS], "x", *MALFORMED[:5]])
def test_client_refuses_invalid_extension_in_response(answer: str) -> None:
    with pytest.raises(InvalidHandshake):
        answered(FULL, answer)


def test_client_without_compression_refuses_any_extension() -> None:
    with pytest.raises(InvalidHandshake, match="not offered"):
        answered(None, DEFLATE)


@pytest.mark.parametrize("second", ["x", DEFLATE, f"{DEFLATE}; {CLIENT_BITS}=9"])
def test_client_refuses_second_field(second: str) -> None:
    with pytest.raises(InvalidHandshake):
        answered(FULL, DEFLATE, second)
