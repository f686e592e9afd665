"""The types of `get_extra_info`."""

import ssl
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from socket import socket
from typing import Any, Literal, Protocol, TypedDict, overload

__all__ = ["PeerCertificate", "typed_extra_info"]

_Name = tuple[tuple[tuple[str, str], ...], ...]


class PeerCertificate(TypedDict, total=False):
    """The verified certificate of a peer, as `ssl.SSLSocket.getpeercert` returns it.

    It is empty if the peer sent a certificate that was not verified (`ssl.CERT_NONE`).
    """

    subject: _Name
    """The subject, such as `((("commonName", "alice"),),)`."""
    issuer: _Name
    """The issuer, in the same form."""
    subjectAltName: tuple[tuple[str, str], ...]
    """The other names of the subject, such as `(("DNS", "example.org"), ("email", "a@example.org"))`."""
    version: int
    """The version of X.509, usually 3."""
    serialNumber: str
    """The serial number, in hexadecimal digits."""
    notBefore: str
    """When the certificate becomes valid; `ssl.cert_time_to_seconds` converts it."""
    notAfter: str
    """When the certificate expires; `ssl.cert_time_to_seconds` converts it."""
    OCSP: tuple[str, ...]
    """The URLs of OCSP responders."""
    caIssuers: tuple[str, ...]
    """The URLs of the issuer's certificate."""
    crlDistributionPoints: tuple[str, ...]
    """The URLs of revocation lists."""


class _BoundExtraInfo(Protocol):
    @overload
    def __call__(self, name: Literal["peercert"]) -> PeerCertificate | None: ...

    @overload
    def __call__(self, name: Literal["ssl_object"]) -> ssl.SSLObject | None: ...

    @overload
    def __call__(self, name: Literal["sslcontext"]) -> ssl.SSLContext | None: ...

    @overload
    def __call__(self, name: Literal["cipher"]) -> tuple[str, str, int] | None: ...

    @overload
    def __call__(self, name: Literal["compression"]) -> str | None: ...

    @overload
    def __call__(self, name: Literal["socket"]) -> socket | TransportSocket | None: ...

    @overload
    def __call__(self, name: str, default: object = None) -> object: ...


class _ExtraInfo(Protocol):
    @overload
    def __get__(self, connected: None, owner: object) -> Callable[..., object]: ...

    @overload
    def __get__(self, connected: object, owner: object) -> _BoundExtraInfo: ...


def typed_extra_info(get_extra_info: Any) -> _ExtraInfo:
    """Give a method `get_extra_info` its overloads. A compiled class cannot define the same method several times."""
    typed: _ExtraInfo = get_extra_info
    return typed
