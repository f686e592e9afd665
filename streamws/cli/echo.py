"""`streamws echo`: a server that sends each message back, with a web page to try it."""

import argparse
import logging
import shlex
from collections.abc import Sequence
from functools import partial
from ssl import Purpose, SSLContext, create_default_context
from typing import Any, Literal

from ..about import BUILD, __version__
from ..client import Client
from ..net.accepting import Server
from ..server import WebSocketServer
from .site import DEFAULT_HOST, DEFAULT_PORT, STOP, answer, authorities, authority, fail, page


def add_echo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `echo` command to the command line."""
    parser = commands.add_parser(
        "echo",
        help="run a server that sends each message back, with a web page to try it",
        description="Run a server that sends each message back, until Ctrl-C. On the same port, browsers find a web "
        "page to try it.",
    )
    parser.add_argument("--host", help=f'address to listen on, "" for all interfaces (default: {DEFAULT_HOST})')
    parser.add_argument("--port", type=int, help=f"port to listen on, 0 for any free port (default: {DEFAULT_PORT})")
    parser.add_argument("--path", metavar="UNIX", help="listen on this Unix socket instead")
    parser.add_argument("--certificate", metavar="PEM", help="serve wss:// and https:// with this certificate")
    parser.add_argument("--key", metavar="PEM", help="the certificate's private key, unless it is in the same file")
    parser.add_argument(
        "--origins",
        metavar="ORIGIN",
        nargs="+",
        help='origins of other web pages that may connect, such as https://example.org; "*" for all',
    )
    parser.add_argument("--verbose", action="store_true", help="log each connection on stderr")
    parser.set_defaults(run=_echo, parser=parser)


def _echo(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    if options.path is not None and (options.host is not None or options.port is not None):
        parser.error("--path cannot be used with --host or --port")
    if options.key is not None and options.certificate is None:
        parser.error("--key needs --certificate")
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    if options.path is None:
        options.host = DEFAULT_HOST if options.host is None else options.host
        options.port = DEFAULT_PORT if options.port is None else options.port
    origins = "*" if options.origins == ["*"] else options.origins
    try:
        context = _tls(options.certificate, options.key)
        server = EchoServer(options.host, options.port, options.path, context, origins)
    except OSError as error:
        return fail(f"cannot use the certificate {options.certificate}: {error.strerror or error}")
    except ValueError as error:
        parser.error(str(error))
    try:
        server.run()
    except OSError as error:
        return fail(error.strerror or str(error))
    return 0


def _tls(certificate: str | None, key: str | None) -> SSLContext | None:
    if certificate is None:
        return None
    context = create_default_context(Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


class EchoServer(WebSocketServer):
    """A server that sends each message back, answers plain HTTP with the web page, and prints where it listens."""

    def __init__(
        self,
        address: str | None,
        port: int | None,
        path: str | None,
        ssl: SSLContext | None,
        origins: Sequence[str] | Literal["*"] | None,
    ) -> None:
        """Create the server; the arguments are those of `WebSocketServer`."""
        super().__init__(address, port, path=path, ssl=ssl, origins=origins, handler=_send_back)
        self._host = address
        self._secure = ssl is not None
        content = page("chat.html")
        self.request(partial(answer, content))

    async def start(self) -> Server:
        """Start listening, and print the addresses."""
        server = await super().start()
        addresses = [sock.getsockname() for sock in self.sockets]
        print("\n".join(_greeting(self._host, self._secure, addresses)), flush=True)
        return server


async def _send_back(client: Client) -> None:
    async for message in client:
        await client.send(message)


# The greeting -----------------------------------------------------------------------------------------------


def _greeting(host: str | None, secure: bool, addresses: Sequence[Any]) -> list[str]:
    """Return the lines that say where the server listens and how to connect to it.

    :param host: the value of `--host`; None for a Unix socket.
    :param addresses: the addresses of the listening sockets.
    """
    name = f"Echo server (streamws {__version__}, {BUILD})"
    if host is None:
        return [f"{name} on the Unix socket {addresses[0]}", *_unix_hints(addresses[0], secure), STOP]
    s = "s" if secure else ""
    lines = [f"{name} on " + ", ".join(authority(*address[:2]) for address in addresses)]
    for place in authorities(host, addresses):
        lines += [
            f"  in a browser         http{s}://{place}/",
            f"  from any client      ws{s}://{place}/",
            f"  from a terminal      streamws connect ws{s}://{place}/",
        ]
    return [*lines, STOP]


def _unix_hints(path: str, secure: bool) -> list[str]:
    s = "s" if secure else ""
    place = shlex.quote(path)
    return [
        f"  health check         curl --unix-socket {place} http{s}://localhost/healthz",
        f"  from a terminal      streamws connect --path {place} ws{s}://localhost/",
    ]
