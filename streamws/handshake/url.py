"""WebSocket URLs (RFC 6455 section 3), taken apart."""

import ipaddress
import re
from base64 import b64encode
from collections.abc import Callable, Collection
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import attrs

from ..errors import InvalidURL

_SECURE = {"ws": False, "http": False, "wss": True, "https": True}
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # as in arguments of the command line that are not UTF-8
_NAME = re.compile(r"[0-9A-Za-z_.\-]+")
_ZONE = re.compile(r"[0-9A-Za-z._~\-]+")  # RFC 6874 section 2
_PATH = "/:@!$&'()*+,;=-._~%"  # RFC 3986 section 3.3, with what is percent-encoded already


@attrs.frozen
class Url:
    """Where a WebSocket is."""

    secure: bool
    """Whether the connection goes over TLS: wss."""
    host: str
    """The name or the address, in ASCII and without brackets."""
    port: int
    target: str
    """Path and query as they stand in the request line."""
    credentials: tuple[str, str] | None = attrs.field(default=None, repr=False)
    """User name and password."""

    @property
    def name(self) -> str:
        """The host for others, to whom the zone of an address means nothing (RFC 6874 section 1)."""
        return self.host.partition("%")[0]

    @property
    def authority(self) -> str:
        """What the Host field says: without the port where it is the scheme's."""
        host = bracketed(self.name)
        return f"{host}:{self.port}" if self.port != default_port(self.secure) else host

    @property
    def host_and_port(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def origin(self) -> tuple[bool, str, int]:
        """What two URLs share if secrets for the one may go to the other (RFC 6454 section 4)."""
        return self.secure, self.host.lower(), self.port

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.target}"


def default_port(secure: bool) -> int:
    return 443 if secure else 80


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def parse_url(text: str, schemes: tuple[str, ...] = ("ws", "wss")) -> Url:
    """Take a URL apart.

    :param text: such as "wss://user:password@example.org:8765/path?query". Characters beyond ASCII in host, path and
        query are encoded.
    :raises InvalidURL: if it is no URL of a WebSocket; the message says what is wrong with it.
    """
    if not isinstance(text, str):
        raise TypeError(f"a URL is str, not {type(text).__name__}")
    parts, host, port, credentials = split_url(text, schemes, _invalid)
    if "#" in text:
        raise _invalid(text, "a fragment (#) has no meaning for a WebSocket")  # RFC 6455 section 3
    secure = _SECURE[parts.scheme]
    target = quote(parts.path or "/", safe=_PATH)
    if parts.query:
        target += "?" + quote(parts.query, safe=_PATH + "?")
    return Url(secure, host, default_port(secure) if port is None else port, target, credentials)


def split_url(
    text: str, schemes: Collection[str], invalid: Callable[[str, str], InvalidURL]
) -> tuple[SplitResult, str, int | None, tuple[str, str] | None]:
    """The parts of a URL, of them the host in ASCII, the port if there is one, and user name and password.

    :param invalid: makes the error for the URL and what is wrong with it.
    :raises InvalidURL: if it is malformed, or has another scheme.
    """
    if _UNSAFE.search(text):
        raise invalid(text, "it has a space or a control character")
    if _SURROGATE.search(text):
        raise invalid(text, "it has half a character (a surrogate)")
    # Not chained: what the standard library says of a URL may have the password in it.
    try:
        parts = urlsplit(text)
    except ValueError:
        raise invalid(text, "its host is malformed") from None
    if parts.scheme not in schemes:
        *others, last = [f"{scheme}://" for scheme in schemes]
        raise invalid(text, f"it must begin with {', '.join(others)} or {last}")
    if not parts.hostname:
        raise invalid(text, "a host is missing")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise invalid(text, "a port is a number from 1 to 65535")
    # In brackets there is an IPv6 address (RFC 3986 section 3.2.2); of those of the future none has come.
    in_brackets = parts.netloc.rpartition("@")[2].startswith("[")
    host = None if in_brackets and ":" not in parts.hostname else _host(parts.hostname)
    if host is None:
        raise invalid(text, "its host is malformed")
    credentials = None
    if parts.username is not None:
        credentials = (unquote(parts.username), unquote(parts.password or ""))
    return parts, host, port, credentials


def _host(name: str) -> str | None:
    """A host name or address in ASCII; None if it is neither."""
    if ":" in name:
        address, percent, zone = name.partition("%")
        zone = unquote(percent + zone)[1:]  # RFC 6874 section 2: the % before a zone stands percent-encoded in a URL
        if percent and not _ZONE.fullmatch(zone):
            return None
        try:
            return str(ipaddress.IPv6Address(address + percent + zone))
        except ValueError:
            return None
    try:
        host = name.encode("idna").decode()  # the resolver does no other, and raises where a label is empty or too long
    except UnicodeError:
        return None
    return host if _NAME.fullmatch(host) else None


def _invalid(text: str, why: str) -> InvalidURL:
    return InvalidURL(f"{without_password(text)!r:.200} is not the URL of a WebSocket: {why}")


_USER = re.compile(
    r"//(?:[^/?#]*@"
    r"|[^/?#]*:(?![0-9]*(?:[/?#]|$)).*@)"  # a "/", "?" or "#" in a password that was not percent-encoded
)


def without_password(text: str) -> str:
    """A URL that may be shown."""
    return _USER.sub("//***@", text)


def join_url(base: Url, location: str) -> Url:
    """Where a redirect leads (RFC 9110 section 10.2.2). http and https stand for ws and wss.

    :raises InvalidURL: if that is no URL of a WebSocket.
    """
    # urljoin knows what is relative of the schemes of the web only.
    scheme = "https" if base.secure else "http"
    place = base.authority.replace(bracketed(base.name), bracketed(base.host.replace("%", "%25")))
    try:
        joined = urljoin(f"{scheme}://{place}{base.target}", location.partition("#")[0])
    except ValueError:
        raise _invalid(location, "its host is malformed") from None
    return parse_url(joined, tuple(_SECURE))


def basic_authorization(credentials: tuple[str, str]) -> str:
    """The value of an Authorization field for a user name and a password (RFC 7617)."""
    return "Basic " + b64encode(":".join(credentials).encode()).decode()
