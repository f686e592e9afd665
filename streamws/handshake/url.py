"""Parsing of WebSocket URLs (RFC 6455 section 3)."""

import ipaddress
import re
from base64 import b64encode
from collections.abc import Callable, Collection
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import attrs

from ..errors import InvalidURL

_SECURE = {"ws": False, "http": False, "wss": True, "https": True}
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_UNSAFE_REASON = "it contains a space or a control character"
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # as in a command-line argument that is not UTF-8
_NAME = re.compile(r"[0-9A-Za-z_.\-]+")
_ZONE = re.compile(r"[0-9A-Za-z._~\-]+")  # RFC 6874 section 2
_PATH = "/:@!$&'()*+,;=-._~%"  # RFC 3986 section 3.3; "%" because the path may be percent-encoded already
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//([^/?#]*)")
_USERINFO = ":!$&'()*+,;=-._~%[]"  # RFC 3986 section 3.2.1, and brackets, which `urlsplit` refuses
_MAX_HOST = 300
"""The most characters of a host and its port. A host name has at most 253 (RFC 1035 section 2.3.4)."""


@attrs.frozen
class Url:
    """A WebSocket URL, parsed."""

    secure: bool
    """Whether the scheme is wss, so that the connection uses TLS."""
    host: str
    """The host name or IP address, in ASCII and without brackets."""
    port: int
    target: str
    """Path and query, as sent in the request line."""
    credentials: tuple[str, str] | None = attrs.field(default=None, repr=False)
    """User name and password."""

    @property
    def name(self) -> str:
        """The host without the zone of an IPv6 address, which has no meaning on other machines (RFC 6874 section 1)."""
        return self.host.partition("%")[0]

    @property
    def authority(self) -> str:
        """The value of the Host field: the host, and the port unless it is the default one."""
        host = bracketed(self.name)
        return f"{host}:{self.port}" if self.port != default_port(self.secure) else host

    @property
    def host_and_port(self) -> str:
        """Host and port, for messages."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def origin(self) -> tuple[bool, str, int]:
        """Scheme, host and port (RFC 6454 section 4). A URL's secrets may only be sent to URLs of the same origin."""
        return self.secure, self.host.lower(), self.port

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.target}"


def default_port(secure: bool) -> int:
    """Return the port of a URL that names none (RFC 6455 section 3)."""
    return 443 if secure else 80


def bracketed(host: str) -> str:
    """Return a host as it is written in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def parse_url(text: str, schemes: tuple[str, ...] = ("ws", "wss")) -> Url:
    """Parse a URL.

    :param text: such as "wss://user:password@example.org:8765/path?query". Host, path and query may contain characters
        outside ASCII, which are encoded.
    :raises InvalidURL: if it is not a valid WebSocket URL; the message says why.
    """
    if not isinstance(text, str):
        raise TypeError(f"the URL must be a str, not {type(text).__name__}")
    parts, host, port, credentials = split_url(text, schemes, _invalid)
    if "#" in text:
        raise _invalid(text, "it must not have a fragment (#)")  # RFC 6455 section 3
    secure = _SECURE[parts.scheme]
    target = quote(parts.path or "/", safe=_PATH)
    if parts.query:
        target += "?" + quote(parts.query, safe=_PATH + "?")
    return Url(secure, host, default_port(secure) if port is None else port, target, credentials)


def split_url(
    text: str, schemes: Collection[str], invalid: Callable[[str, str], InvalidURL]
) -> tuple[SplitResult, str, int | None, tuple[str, str] | None]:
    """Split a URL into its parts, the host in ASCII, the port if it has one, and user name and password.

    :param invalid: makes the error from the URL and the reason.
    :raises InvalidURL: if it is malformed or has another scheme.
    """
    if _UNSAFE.search(text):
        raise invalid(text, _UNSAFE_REASON)
    if _SURROGATE.search(text):
        raise invalid(text, "it contains a surrogate, which is half of a character")
    splittable = _splittable(text)
    if splittable is None:
        raise invalid(text, "its host is malformed")
    # The standard library's errors may contain the password, so they are not chained.
    try:
        parts = urlsplit(splittable)
    except ValueError:
        raise invalid(text, "its host is malformed") from None
    if parts.scheme not in schemes:
        *others, last = [f"{scheme}://" for scheme in schemes]
        raise invalid(text, f"it must start with {', '.join(others)} or {last}")
    if not parts.hostname:
        raise invalid(text, "it has no host")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise invalid(text, "its port must be a number from 1 to 65535")
    # Brackets enclose an IPv6 address (RFC 3986 section 3.2.2). The RFC's "IPvFuture" is not in use.
    in_brackets = parts.netloc.rpartition("@")[2].startswith("[")
    host = None if in_brackets and ":" not in parts.hostname else ascii_host(parts.hostname)
    if host is None:
        raise invalid(text, "its host is malformed")
    credentials = None
    if parts.username is not None:
        credentials = (unquote(parts.username), unquote(parts.password or ""))
    return parts, host, port, credentials


def _splittable(text: str) -> str | None:
    """Return a URL that the standard library can split in linear time; None if its host is too long.

    `urlsplit` normalizes all characters before the path, which takes quadratic time for some. So the user name and the
    password are percent-encoded here, and the length of the host is limited.
    """
    match = _AUTHORITY.match(text)
    if match is None:
        return text
    userinfo, _, host = match[1].rpartition("@")
    if len(host) > _MAX_HOST:
        return None
    start = match.start(1)
    return text[:start] + quote(userinfo, safe=_USERINFO) + text[start + len(userinfo) :]


def ascii_host(name: str) -> str | None:
    """Return a host name or IP address in ASCII; None if it is not valid."""
    if ":" in name:
        address, percent, zone = name.partition("%")
        zone = unquote(percent + zone)[1:]  # RFC 6874 section 2: in a URL the "%" before the zone is percent-encoded
        if percent and not _ZONE.fullmatch(zone):
            return None
        try:
            return str(ipaddress.IPv6Address(address + percent + zone))
        except ValueError:
            return None
    try:
        host = name.encode("idna").decode()  # as the resolver does; it rejects labels that are empty or too long
    except UnicodeError:
        return None
    return host if _NAME.fullmatch(host) else None


def _invalid(text: str, reason: str) -> InvalidURL:
    return InvalidURL(f"{without_password(text)!r:.200} is not a valid WebSocket URL: {reason}")


_SECRET = re.compile(
    r"//(?:[^/?#]*@"
    r"|[^/?#:]*:(?![0-9]*[/?#]).*@)",  # a password with a "/", "?" or "#" that should have been percent-encoded
    re.DOTALL,
)


def without_password(text: str) -> str:
    """Return a URL, valid or not, with "***" in place of user name and password."""
    # Search only up to the last "@". Otherwise the pattern would search to the end of the text from each "//".
    start, at, rest = text.rpartition("@")
    return _SECRET.sub("//***@", start + at) + rest


def join_url(base: Url, location: str) -> Url:
    """Return the URL that a Location field refers to (RFC 9110 section 10.2.2). http and https stand for ws and wss.

    :raises InvalidURL: if it is not a valid WebSocket URL.
    """
    # urljoin only resolves relative references for schemes that it knows.
    scheme = "https" if base.secure else "http"
    authority = base.authority.replace(bracketed(base.name), bracketed(base.host.replace("%", "%25")))
    if _UNSAFE.search(location):
        raise _invalid(location, _UNSAFE_REASON)
    splittable = _splittable(location.partition("#")[0])
    if splittable is None:
        raise _invalid(location, "its host is malformed")
    try:
        joined = urljoin(f"{scheme}://{authority}{base.target}", splittable)
    except ValueError:
        raise _invalid(location, "its host is malformed") from None
    return parse_url(joined, tuple(_SECURE))


def basic_authorization(credentials: tuple[str, str]) -> str:
    """Return the value of an Authorization field for a user name and a password (RFC 7617)."""
    return "Basic " + b64encode(":".join(credentials).encode()).decode()
