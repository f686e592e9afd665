"""The shortest way to OpenSSL that there is: from plain Python, the standard library's."""

import ssl

from .engine import Engine


def engine(context: ssl.SSLContext, server_side: bool, server_hostname: str | None) -> Engine:
    """TLS of one connection, with the certificates and settings of `context`.

    :param server_hostname: the name that the server's certificate must have, as a client.
    :raises ssl.SSLError, ValueError: if the context or the name does not suit.
    """
    return Engine(context, server_side, server_hostname)
