"""Extensions in the opening handshake: their grammar, and what two sides agree on (RFC 6455 section 9.1, RFC 7692)."""

import functools
import re

import attrs

from ..options import Compression
from .headers import TCHAR

__all__ = ["DeflateTerms", "accept_offer", "check_answer", "make_offers", "parse_extensions"]

_DEFLATE = "permessage-deflate"
_SERVER_TAKEOVER = "server_no_context_takeover"
_CLIENT_TAKEOVER = "client_no_context_takeover"
_SERVER_BITS = "server_max_window_bits"
_CLIENT_BITS = "client_max_window_bits"

_FLAGS = frozenset({_SERVER_TAKEOVER, _CLIENT_TAKEOVER})
_BITS = re.compile(r"[89]|1[0-5]")  # without leading zeros (RFC 7692 section 7.1.2)
_MOST_BITS = 15
_LEAST_BITS = 9  # zlib cannot compress with a window of 8 bits

_NAME = re.compile(rf"[ \t]*({TCHAR}+)[ \t]*")
_VALUE = re.compile(rf'[ \t]*(?:({TCHAR}+)|"((?:[^"\\]|\\.)*)")[ \t]*')
_TOKEN = re.compile(rf"{TCHAR}+")

Parameters = list[tuple[str, str | None]]


@attrs.frozen
class DeflateTerms:
    """What was agreed on of permessage-deflate, as one side sees it."""

    window_bits: int
    """How far what this side sends refers back: at most 2**window_bits bytes."""
    takeover: bool
    """Whether this side's messages refer to the ones before them."""
    peer_window_bits: int
    """The same of what it receives."""
    peer_takeover: bool
    """Whether the messages that it receives may."""


def parse_extensions(value: str) -> list[tuple[str, Parameters]]:
    """The extensions of a Sec-WebSocket-Extensions field, each with its parameters; a value may be quoted.

    :raises ValueError: if the field is malformed.
    """
    extensions: list[tuple[str, Parameters]] = []
    place = 0
    while place < len(value):
        if value[place] in " \t,":  # empty items of a list are passed over (RFC 9110 section 5.6.1.2)
            place += 1
            continue
        name, place = _expect(_NAME, value, place)
        parameters: Parameters = []
        while value[place : place + 1] == ";":
            parameter, place = _expect(_NAME, value, place + 1)
            said = None
            if value[place : place + 1] == "=":
                said, place = _expect(_VALUE, value, place + 1)
            parameters.append((parameter, said))
        if place < len(value) and value[place] != ",":
            raise _malformed(value)
        extensions.append((name, parameters))
    return extensions


def _expect(pattern: re.Pattern[str], value: str, place: int) -> tuple[str, int]:
    match = pattern.match(value, place)
    if match is None:
        raise _malformed(value)
    if match[1] is not None:
        return match[1], match.end()
    # What a quoted string says must be a token all the same (RFC 6455 section 9.1).
    text = re.sub(r"\\(.)", r"\1", match[2])
    if not _TOKEN.fullmatch(text):
        raise _malformed(value)
    return text, match.end()


def _malformed(value: str) -> ValueError:
    return ValueError(f"Sec-WebSocket-Extensions is malformed: {value!r:.80}")


def _read(parameters: Parameters, bare: str | None) -> dict[str, int | None]:
    """The parameters of permessage-deflate; `bare` is the one with bits that may come without a value.

    :raises ValueError: if one is unknown, comes twice, or has a value that it must not have (RFC 7692 section 7.1).
    """
    known: dict[str, int | None] = {}
    for name, value in parameters:
        if name in known:
            raise ValueError(f"{name} comes twice")
        if name in _FLAGS:
            if value is not None:
                raise ValueError(f"{name} has a value: {value:.20}")
            known[name] = None
        elif name in (_SERVER_BITS, _CLIENT_BITS):
            if value is None:
                if name != bare:
                    raise ValueError(f"{name} lacks its value")
                known[name] = None
            elif not _BITS.fullmatch(value):
                raise ValueError(f"{name} is {value:.20}, not a number from 8 to 15")
            else:
                known[name] = int(value)
        else:
            raise ValueError(f"{name:.40} is no parameter of {_DEFLATE}")
    return known


def _write(parameters: dict[str, int | None]) -> str:
    parts = [name if value is None else f"{name}={value}" for name, value in parameters.items()]
    return "; ".join([_DEFLATE, *parts])


# The server's side ----------------------------------------------------------------------------------------------


def accept_offer(offers: str, compression: Compression) -> tuple[str, DeflateTerms] | None:
    """What a server answers to the offers of a client, and what is agreed on then; None if it takes none of them.

    :param offers: the value of the request's Sec-WebSocket-Extensions.
    :raises ValueError: if that is malformed.

    The first offer that can be accepted is (RFC 7692 section 5.1); one with a parameter that is unknown, comes twice
    or has a bad value cannot, nor one with a window of 8 bits.
    """
    return (_usual_answer if len(offers) <= _USUAL_SIZE else _answer)(offers, compression)


def _answer(offers: str, compression: Compression) -> tuple[str, DeflateTerms] | None:
    for name, parameters in parse_extensions(offers):
        if name == _DEFLATE:
            try:
                offer = _read(parameters, _CLIENT_BITS)
            except ValueError:
                continue  # to be declined, as if it had not been made (section 7.1)
            answer = _accept(offer, compression)
            if answer is not None:
                return answer
    return None


_usual_answer = functools.lru_cache(maxsize=64)(_answer)  # the clients of a server offer much the same
_USUAL_SIZE = 256  # characters; it is not for them to say how much is kept


def _accept(offer: dict[str, int | None], compression: Compression) -> tuple[str, DeflateTerms] | None:
    server_bits = offer.get(_SERVER_BITS) or _MOST_BITS
    client_bits = offer.get(_CLIENT_BITS) or _MOST_BITS
    if server_bits < _LEAST_BITS or client_bits < _LEAST_BITS:
        return None
    terms = DeflateTerms(
        window_bits=min(server_bits, compression.window_bits),
        takeover=compression.takeover and _SERVER_TAKEOVER not in offer,
        # What the client did not offer to limit cannot be limited.
        peer_window_bits=min(client_bits, compression.peer_window_bits) if _CLIENT_BITS in offer else _MOST_BITS,
        peer_takeover=compression.peer_takeover and _CLIENT_TAKEOVER not in offer,
    )
    answer: dict[str, int | None] = {}
    if not terms.takeover:
        answer[_SERVER_TAKEOVER] = None
    if not terms.peer_takeover:
        answer[_CLIENT_TAKEOVER] = None
    if terms.window_bits < _MOST_BITS or _SERVER_BITS in offer:
        answer[_SERVER_BITS] = terms.window_bits
    if terms.peer_window_bits < _MOST_BITS:
        answer[_CLIENT_BITS] = terms.peer_window_bits
    return _write(answer), terms


# The client's side ----------------------------------------------------------------------------------------------


def make_offers(compression: Compression) -> str:
    """What a client offers: what it would like, and behind it what it takes from a server that cannot do that."""
    own: dict[str, int | None] = {}
    if not compression.takeover:
        own[_CLIENT_TAKEOVER] = None
    own[_CLIENT_BITS] = compression.window_bits if compression.window_bits < _MOST_BITS else None
    asked: dict[str, int | None] = {}
    if not compression.peer_takeover:
        asked[_SERVER_TAKEOVER] = None
    if compression.peer_window_bits < _MOST_BITS:
        asked[_SERVER_BITS] = compression.peer_window_bits
    offers = [_write(asked | own), _write(own)] if asked else [_write(own)]
    return ", ".join(offers)


def check_answer(answer: str, compression: Compression) -> DeflateTerms | None:
    """What a server has agreed to, of what `make_offers` offered; None if to nothing.

    :param answer: the value of the response's Sec-WebSocket-Extensions, "" without one.
    :raises ValueError: if it is no answer to the offers (RFC 6455 section 4.1, RFC 7692 section 7.1).
    """
    agreed = parse_extensions(answer)
    if not agreed:
        return None
    name, parameters = agreed[0]
    if len(agreed) > 1 or name != _DEFLATE:
        raise ValueError(f"it uses an extension that was not offered: {answer!r:.80}")
    said = _read(parameters, None)
    client_bits = said.get(_CLIENT_BITS) or _MOST_BITS
    if client_bits < _LEAST_BITS:
        raise ValueError(f"{_CLIENT_BITS} is {client_bits}, and this side needs {_LEAST_BITS}")
    return DeflateTerms(
        window_bits=min(client_bits, compression.window_bits),
        takeover=compression.takeover and _CLIENT_TAKEOVER not in said,
        peer_window_bits=max(said.get(_SERVER_BITS) or _MOST_BITS, _LEAST_BITS),
        peer_takeover=_SERVER_TAKEOVER not in said,
    )
