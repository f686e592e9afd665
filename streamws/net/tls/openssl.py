"""The choice of the engine for a connection. In the pure build it is always `engine.Engine`."""

import ssl

from .engine import Engine


def engine(context: ssl.SSLContext, server_side: bool, server_hostname: str | None) -> Engine:
    """Create the TLS engine of one connection, with the certificates and settings of `context`.

    :param server_side: whether this side is the server.
    :param server_hostname: for a client, the name that the server's certificate must have.
    :raises ssl.SSLError: if the context cannot be used.
    :raises ValueError: if the name cannot be used.
    """
    return Engine(context, server_side, server_hostname)
