"""Negotiation of permessage-deflate in the opening handshake, and the syntax of extensions (RFC 7692, RFC 6455)."""

import functools
import re

import attrs

from ..options import Compression
from .headers import TCHAR

__all__ = ["DeflateTerms", "accept_offer", "check_answer", "make_offers", "parse_extensions"]

_DEFLATE = "permessage-deflate"
_SERVER_NO_TAKEOVER = "server_no_context_takeover"
_CLIENT_NO_TAKEOVER = "client_no_context_takeover"
_SERVER_BITS = "server_max_window_bits"
_CLIENT_BITS = "client_max_window_bits"

_FLAGS = frozenset({_SERVER_NO_TAKEOVER, _CLIENT_NO_TAKEOVER})
_BITS = re.compile(r"[89]|1[0-5]")  # without leading zeros (RFC 7692 section 7.1.2)
_MAX_BITS = 15

_NAME = re.compile(rf"[ \t]*({TCHAR}+)[ \t]*")
_VALUE = re.compile(rf'[ \t]*(?:({TCHAR}+)|"((?:[^"\\]|\\.)*)")[ \t]*')
_TOKEN = re.compile(rf"{TCHAR}+")

Parameters = list[tuple[str, str | None]]


@attrs.frozen
class DeflateTerms:
    """The agreed parameters of permessage-deflate, from the point of view of this side (RFC 7692 section 7.1).

    :param window_bits: this side compresses with a window of at most 2**window_bits bytes.
    :param takeover: whether this side's messages may refer to earlier ones (context takeover).
    :param peer_window_bits: the peer compresses with a window of at most 2**peer_window_bits bytes.
    :param peer_takeover: whether the peer's messages may refer to earlier ones.
    """

    window_bits: int
    takeover: bool
    peer_window_bits: int
    peer_takeover: bool


def parse_extensions(value: str) -> list[tuple[str, Parameters]]:
    """Parse the value of a Sec-WebSocket-Extensions field (RFC 6455 section 9.1).

    :returns: the name and the parameters of each extension, in order.
    :raises ValueError: if the value is malformed.
    """
    extensions: list[tuple[str, Parameters]] = []
    position = 0
    while position < len(value):
        if value[position] in " \t,":  # empty items of a list are ignored (RFC 9110 section 5.6.1.2)
            position += 1
            continue
        name, position = _match(_NAME, value, position)
        parameters: Parameters = []
        while value[position : position + 1] == ";":
            parameter, position = _match(_NAME, value, position + 1)
            setting = None
            if value[position : position + 1] == "=":
                setting, position = _match(_VALUE, value, position + 1)
            parameters.append((parameter, setting))
        if position < len(value) and value[position] != ",":
            raise _malformed(value)
        extensions.append((name, parameters))
    return extensions


def _match(pattern: re.Pattern[str], value: str, position: int) -> tuple[str, int]:
    """Return the token at a position, without its quotes, and the position after it."""
    match = pattern.match(value, position)
    if match is None:
        raise _malformed(value)
    if match[1] is not None:
        return match[1], match.end()
    # The content of a quoted string must be a token too (RFC 6455 section 9.1).
    text = re.sub(r"\\(.)", r"\1", match[2])
    if not _TOKEN.fullmatch(text):
        raise _malformed(value)
    return text, match.end()


def _malformed(value: str) -> ValueError:
    return ValueError(f"malformed Sec-WebSocket-Extensions: {value!r:.80}")


def _parse_parameters(parameters: Parameters, optional_value: str | None) -> dict[str, int | None]:
    """Check the parameters of permessage-deflate and convert their values.

    :param optional_value: the name of the parameter that may have no value although it is a number.
    :raises ValueError: if one is unknown or repeated, or has a wrong value (RFC 7692 section 7.1).
    """
    known: dict[str, int | None] = {}
    for name, value in parameters:
        if name in known:
            raise ValueError(f"{name} is repeated")
        if name in _FLAGS:
            if value is not None:
                raise ValueError(f"{name} must not have a value, but has {value:.20}")
            known[name] = None
        elif name in (_SERVER_BITS, _CLIENT_BITS):
            if value is None:
                if name != optional_value:
                    raise ValueError(f"{name} has no value")
                known[name] = None
            elif not _BITS.fullmatch(value):
                raise ValueError(f"{name} must be a number from 8 to 15, not {value:.20}")
            else:
                known[name] = int(value)
        else:
            raise ValueError(f"{name:.40} is not a parameter of {_DEFLATE}")
    return known


def _format(parameters: dict[str, int | None]) -> str:
    items = [name if value is None else f"{name}={value}" for name, value in parameters.items()]
    return "; ".join([_DEFLATE, *items])


# Server ---------------------------------------------------------------------------------------------------------


def accept_offer(offers: str, compression: Compression) -> tuple[str, DeflateTerms] | None:
    """Choose the first acceptable offer of a client (RFC 7692 section 5.1).

    An offer is declined if it has an unknown, repeated or invalid parameter.

    :param offers: the value of the request's Sec-WebSocket-Extensions.
    :returns: the value for the response's Sec-WebSocket-Extensions, and what it means; None if no offer is acceptable.
    :raises ValueError: if the value is malformed.
    """
    return (_choose_cached if len(offers) <= _MAX_CACHED_SIZE else _choose)(offers, compression)


def _choose(offers: str, compression: Compression) -> tuple[str, DeflateTerms] | None:
    for name, parameters in parse_extensions(offers):
        if name == _DEFLATE:
            try:
                offer = _parse_parameters(parameters, _CLIENT_BITS)
            except ValueError:
                continue  # an invalid offer is declined, it does not fail the handshake (section 7.1)
            return _answer(offer, compression)
    return None


_choose_cached = functools.lru_cache(maxsize=64)(_choose)  # most clients of a server send the same offers
_MAX_CACHED_SIZE = 256  # in characters, so that clients cannot fill memory


def _answer(offer: dict[str, int | None], compression: Compression) -> tuple[str, DeflateTerms]:
    server_bits = offer.get(_SERVER_BITS) or _MAX_BITS
    client_bits = offer.get(_CLIENT_BITS) or _MAX_BITS
    # A server may limit the client's window only if the client offered that (section 7.1.2.2).
    limits_client = _CLIENT_BITS in offer and compression.negotiate_window_bits
    terms = DeflateTerms(
        window_bits=min(server_bits, compression.window_bits),
        takeover=compression.takeover and _SERVER_NO_TAKEOVER not in offer,
        peer_window_bits=min(client_bits, compression.peer_window_bits) if limits_client else _MAX_BITS,
        peer_takeover=compression.peer_takeover and _CLIENT_NO_TAKEOVER not in offer,
    )
    answer: dict[str, int | None] = {}
    if not terms.takeover:
        answer[_SERVER_NO_TAKEOVER] = None
    if not terms.peer_takeover:
        answer[_CLIENT_NO_TAKEOVER] = None
    if _SERVER_BITS in offer or (terms.window_bits < _MAX_BITS and compression.negotiate_window_bits):
        answer[_SERVER_BITS] = terms.window_bits
    if terms.peer_window_bits < _MAX_BITS:
        answer[_CLIENT_BITS] = terms.peer_window_bits
    return _format(answer), terms


# Client ---------------------------------------------------------------------------------------------------------


def make_offers(compression: Compression) -> str:
    """Return the offers of a client, the value of the request's Sec-WebSocket-Extensions.

    The first offer asks the server for everything that `compression` wants. If that is more than a server must support,
    a second one leaves the server free.
    """
    own: dict[str, int | None] = {}
    if not compression.takeover:
        own[_CLIENT_NO_TAKEOVER] = None
    if compression.negotiate_window_bits:
        own[_CLIENT_BITS] = compression.window_bits if compression.window_bits < _MAX_BITS else None
    asked: dict[str, int | None] = {}
    if not compression.peer_takeover:
        asked[_SERVER_NO_TAKEOVER] = None
    if compression.negotiate_window_bits and compression.peer_window_bits < _MAX_BITS:
        asked[_SERVER_BITS] = compression.peer_window_bits
    offers = [_format(asked | own), _format(own)] if asked else [_format(own)]
    return ", ".join(offers)


def check_answer(answer: str, compression: Compression | None) -> DeflateTerms | None:
    """Check a server's answer to the offers of `make_offers`.

    :param answer: the value of the response's Sec-WebSocket-Extensions, "" if it has none.
    :param compression: what was offered; None for no compression.
    :returns: the agreed parameters; None for no compression.
    :raises ValueError: if it is not a valid answer to the offers (RFC 6455 section 4.1, RFC 7692 section 7.1).
    """
    if compression is None:
        if answer:
            raise _not_offered(answer)
        return None
    agreed = parse_extensions(answer)
    if not agreed:
        return None
    name, parameters = agreed[0]
    if len(agreed) > 1 or name != _DEFLATE:
        raise _not_offered(answer)
    chosen = _parse_parameters(parameters, None)
    if _CLIENT_BITS in chosen and not compression.negotiate_window_bits:
        raise ValueError(f"the server chose {_CLIENT_BITS}, which was not offered")  # RFC 7692 section 7.1.2.2
    return DeflateTerms(
        window_bits=min(chosen.get(_CLIENT_BITS) or _MAX_BITS, compression.window_bits),
        takeover=compression.takeover and _CLIENT_NO_TAKEOVER not in chosen,
        peer_window_bits=chosen.get(_SERVER_BITS) or _MAX_BITS,
        peer_takeover=_SERVER_NO_TAKEOVER not in chosen,
    )


def _not_offered(answer: str) -> ValueError:
    return ValueError(f"the server chose an extension that was not offered: {answer!r:.80}")
