"""`streamws echo`: a server that sends each message back, with a web page to try it."""

import argparse
import base64
import hashlib
import logging
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.resources import files
from ssl import Purpose, SSLContext, create_default_context
from typing import Any, Literal

from ..about import BUILD, __version__
from ..client import Client
from ..handshake.head import Request, Response
from ..net.accepting import Server
from ..server import WebSocketServer

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 8765


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
        return _fail(f"cannot use the certificate {options.certificate}: {error.strerror or error}")
    except ValueError as error:
        parser.error(str(error))
    try:
        server.run()
    except OSError as error:
        return _fail(error.strerror or str(error))
    return 0


def _fail(reason: str) -> int:
    print(f"streamws: {reason}", file=sys.stderr)
    return 1


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
        self._page = _page()
        self.request(self._answer)

    async def start(self) -> Server:
        """Start listening, and print the addresses."""
        server = await super().start()
        addresses = [sock.getsockname() for sock in self.sockets]
        print("\n".join(_greeting(self._host, self._secure, addresses)), flush=True)
        return server

    def _answer(self, request: Request) -> Response | None:
        upgrades = request.headers.get("Upgrade", "").lower().split(",")
        if "websocket" in [upgrade.strip() for upgrade in upgrades]:
            return None
        if request.method not in ("GET", "HEAD"):
            return Response(405, f"{request.method} is not allowed\n", {"Allow": "GET, HEAD"})
        if request.path == "/":
            return self._page
        if request.path == "/healthz":
            return Response(200, "ok")
        return Response(404, "not found; the web page is at /, the health check at /healthz\n")


async def _send_back(client: Client) -> None:
    async for message in client:
        await client.send(message)


def _page() -> Response:
    """Return the response with the web page, and a Content-Security-Policy that allows nothing but its own code."""
    # Read as text: browsers compute the hashes with LF line ends, even if the file was checked out with CRLF.
    page = files("streamws.cli").joinpath("chat.html").read_text("utf-8")
    sources = {kind: _hashes(page, kind) for kind in ("script", "style")}
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {sources['script']}",
            f"style-src {sources['style']}",
            "img-src data:",  # the empty icon
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return Response(
        200,
        page,
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        },
        content_type="text/html; charset=utf-8",
    )


def _hashes(page: str, element: str) -> str:
    """Return the hashes of a page's inline `element`s for a Content-Security-Policy (CSP level 3, section 2.3.1)."""
    contents = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    digests = [hashlib.sha256(content.encode()).digest() for content in contents]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


# The greeting -----------------------------------------------------------------------------------------------


def _greeting(host: str | None, secure: bool, addresses: Sequence[Any]) -> list[str]:
    """Return the lines that say where the server listens and how to connect to it.

    :param host: the value of `--host`; None for a Unix socket.
    :param addresses: the addresses of the listening sockets.
    """
    name = f"Echo server (streamws {__version__}, {BUILD})"
    if host is None:
        return [f"{name} on the Unix socket {addresses[0]}", *_unix_hints(addresses[0], secure), _STOP]
    s = "s" if secure else ""
    lines = [f"{name} on " + ", ".join(_authority(*address[:2]) for address in addresses)]
    for authority in _authorities(host, addresses):
        lines += [
            f"  in a browser         http{s}://{authority}/",
            f"  from any client      ws{s}://{authority}/",
            f"  from a terminal      streamws connect ws{s}://{authority}/",
        ]
    return [*lines, _STOP]


_STOP = "Press Ctrl-C to stop."


def _unix_hints(path: str, secure: bool) -> list[str]:
    s = "s" if secure else ""
    place = shlex.quote(path)
    return [
        f"  health check         curl --unix-socket {place} http{s}://localhost/healthz",
        f"  from a terminal      streamws connect --path {place} ws{s}://localhost/",
    ]


def _authorities(host: str, addresses: Sequence[Any]) -> list[str]:
    """Return the host and port of each URL at which the server can be reached."""
    ports = {address[1] for address in addresses}
    if len(ports) > 1:  # with port 0, each address of the host got a port of its own
        return [_authority(*address[:2]) for address in addresses]
    name = "localhost" if host in ("", "0.0.0.0", "::") else host
    return [_authority(name, ports.pop())]


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
