"""The address of a client behind proxies: `Forwarded` (RFC 7239) and `X-Forwarded-For`.

Each proxy appends the address from which it received the request. So the address that the last trusted proxy has
appended is true, and everything before it may be forged by the client.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence

import attrs

from .headers import TCHAR, Headers

__all__ = ["UNKNOWN", "Forwarding", "TrustedProxies", "network_of"]

UNKNOWN = ("unknown", 0)
"""The remote address of a client whose proxy has forwarded no address that can be trusted (RFC 7239 section 6.2)."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# One pair of a Forwarded field with the separator after it. Possessive, so that it takes linear time.
_PAIR = re.compile(
    rf"[ \t]*+(?:({TCHAR}++)=(?:({TCHAR}++)|\"((?:[\t !#-\[\]-~]|\\[\t -~])*+)\"))?+[ \t]*+([;,]|$)",
)
_QUOTED_PAIR = re.compile(r"\\(.)")
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::(?:([0-9]{1,5})|_[A-Za-z0-9._\-]+))?")
_OBFUSCATED = re.compile(r"_[A-Za-z0-9._\-]{1,63}")
_UNIX = "unix:"
"""What nginx appends to X-Forwarded-For for the peer of a Unix socket."""
_SECURE = {"https": True, "wss": True, "http": False, "ws": False}


@attrs.frozen
class _Hop:
    """The peer of one proxy, as that proxy has named it."""

    remote: tuple[str, int]
    address: _Address | None = None
    """The IP address; None for any other name."""
    unix: bool = False
    """Whether it is connected by a Unix socket."""
    scheme: str | None = None
    """The scheme with which it asked the proxy; None if it is not known."""


_UNKNOWN_HOP = _Hop(UNKNOWN)


class TrustedProxies:
    """The proxies whose header fields are believed.

    :param entries: networks such as "10.0.0.0/8", addresses, or "unix" for the peers of Unix sockets.
    :raises ValueError: if an entry is not valid.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, entries: Sequence[str]) -> None:
        if isinstance(entries, str):
            raise ValueError(f'trusted_proxies must be a list such as ["10.0.0.0/8", "unix"], not {entries!r}')
        self._unix = "unix" in entries
        self._networks = [_parse_network(entry) for entry in entries if entry != "unix"]

    def trusts(self, peer: tuple[str, int]) -> bool:
        """Return whether a peer of a socket is a trusted proxy. For a Unix socket, its path and 0."""
        host, port = peer
        if not port:
            return self._unix and bool(host)
        address = _parse_address(host.partition("%")[0])
        return address is not None and self.trusts_address(address)

    def trusts_address(self, address: _Address) -> bool:
        """Return whether the address is that of a trusted proxy."""
        return any(address in network for network in self._networks)

    def find_client(self, hops: Iterable[_Hop]) -> tuple[_Hop | None, int]:
        """Return the nearest hop that is not a trusted proxy, and its place; None if there are no hops.

        If all are trusted, return the farthest one.

        :param hops: the hops, the nearest one first. Those after the result are not read: the client has chosen them.
        """
        hop, place = None, -1
        for hop in hops:
            place += 1
            if not (self._unix if hop.unix else hop.address is not None and self.trusts_address(hop.address)):
                break
        return hop, place


def _parse_network(entry: object) -> _Network:
    try:
        return ipaddress.ip_network(str(entry))
    except ValueError as error:
        raise ValueError(
            f'{entry!r} in trusted_proxies must be a network such as "10.0.0.0/8", an address or "unix": {error}'
        ) from error


def _parse_address(text: str) -> _Address | None:
    """Return an IP address, with IPv4 addresses written as IPv6 as what they are; None if it is malformed."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(host: str) -> str:
    """Return the text under which a remote address is counted: itself, or for IPv6 its network of 64 bits.

    One user of IPv6 usually has a whole network of that size.
    """
    if ":" not in host:
        return host
    address = _parse_address(host.partition("%")[0])
    if not isinstance(address, ipaddress.IPv6Address):
        return host if address is None else str(address)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


class Forwarding:
    """The address and scheme of a client, as a trusted proxy has forwarded them. They are parsed at first use.

    :param proxies: the trusted proxies, of which the peer of the connection is one.
    :param headers: the header fields of the request.
    """

    __slots__ = ("_headers", "_known", "_proxies", "_remote", "_secure")

    def __init__(self, proxies: TrustedProxies, headers: Headers) -> None:
        self._proxies = proxies
        self._headers = headers
        self._known = False
        self._remote: tuple[str, int] | None = None
        self._secure: bool | None = None

    @property
    def remote(self) -> tuple[str, int] | None:
        """The address of the client; None if the proxy forwards none."""
        self._read()
        return self._remote

    @property
    def secure(self) -> bool | None:
        """Whether the client uses TLS; None if the proxy does not say."""
        self._read()
        return self._secure

    def _read(self) -> None:
        if self._known:
            return
        self._known = True
        headers, proxies = self._headers, self._proxies
        items = _items(headers.get_all("X-Forwarded-For"))
        hop, _ = proxies.find_client(_read_forwarded(headers.get_all("Forwarded")))
        other, place = proxies.find_client(_parse_node(item, lenient=True) for item in reversed(items))
        found = [each.remote for each in (hop, other) if each is not None]
        schemes = [hop.scheme] if hop is not None and hop.scheme is not None else []
        named = _items(headers.get_all("X-Forwarded-Proto"))
        if named:
            # Usually the proxy that the client can reach has set one. But each proxy may have appended its own.
            schemes.append(named[-1 - place] if len(named) == len(items) else named[-1])
        if found:
            # If they differ, one is forged: the client has sent the field that the proxy does not know.
            self._remote = max(found) if found[0][0] == found[-1][0] else UNKNOWN
        if schemes:
            self._secure = all(_SECURE.get(scheme.lower(), False) for scheme in schemes)


def _items(lines: tuple[str, ...]) -> list[str]:
    """Return the items of a list in one or several fields, without empty ones (RFC 9110 section 5.6.1)."""
    return [text for line in lines for item in line.split(",") if (text := item.strip(" \t"))]


def _read_forwarded(lines: tuple[str, ...]) -> Iterator[_Hop]:
    """Yield the hops in Forwarded fields, the nearest one first; one unknown hop for a field that is malformed.

    (RFC 7239 section 4)
    """
    for line in reversed(lines):
        elements = _parse_elements(line)
        if elements is None:
            yield _UNKNOWN_HOP
            continue
        for element in reversed(elements):
            hop = _parse_node(element["for"], lenient=False) if "for" in element else _UNKNOWN_HOP
            yield attrs.evolve(hop, scheme=element.get("proto"))


def _parse_elements(line: str) -> list[dict[str, str]] | None:
    """Return the elements of a Forwarded field, with parameter names in lowercase; None if it is malformed."""
    elements: list[dict[str, str]] = []
    element: dict[str, str] = {}
    start = 0
    while True:
        match = _PAIR.match(line, start)
        if match is None:
            return None
        name, token, quoted, separator = match.groups()
        if name is not None:
            name = name.lower()
            if name in element:  # section 4: each parameter may occur once
                return None
            element[name] = token if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        if separator != ";":
            if element:
                elements.append(element)
            element = {}
        if not separator:
            return elements
        start = match.end()


def _parse_node(text: str, *, lenient: bool) -> _Hop:
    """Return the hop of an address with an optional port, or an obfuscated name (RFC 7239 section 6).

    :param lenient: whether to accept what proxies write into X-Forwarded-For: IPv6 without brackets, and "unix:".
    """
    if lenient:
        if text == _UNIX:
            return _Hop(UNKNOWN, unix=True)
        if text.count(":") > 1 and not text.startswith("["):
            return _hop(text, 0)
    match = _NODE.fullmatch(text)
    if match is None:
        return _UNKNOWN_HOP
    inside, outside, digits = match.groups()
    port = int(digits or 0)
    if port > 65535:
        return _UNKNOWN_HOP
    if inside is None and _OBFUSCATED.fullmatch(outside):
        return _Hop((outside, port))
    return _hop(inside or outside, port)


def _hop(text: str, port: int) -> _Hop:
    address = None if "%" in text else _parse_address(text)  # a zone has no meaning on another machine
    return _UNKNOWN_HOP if address is None else _Hop((str(address), port), address)
