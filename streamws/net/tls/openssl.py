"""Makes the engine of a connection. In plain Python it is always the standard library's."""

import ssl

from .engine import Engine


def engine(context: ssl.SSLContext, server_side: bool, server_hostname: str | None) -> Engine:
    """TLS of one connection, with the certificates and settings of `context`.

    :param server_side: the role.
    :param server_hostname: for a client, the name that the server's certificate must have.
    :raises ssl.SSLError, ValueError: if the context or the name cannot be used.
    """
    return Engine(context, server_side, server_hostname)
