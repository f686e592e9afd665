"""The web page, the health check and the printed addresses of the servers of the command line."""

import base64
import hashlib
import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ..handshake.head import Request, Response

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 8765

STOP = "Press Ctrl-C to stop."


def fail(reason: str) -> int:
    """Print why the command cannot go on, and return its exit code."""
    print(f"streamws: {reason}", file=sys.stderr)
    return 1


def answer(content: Response, request: Request) -> Response | None:
    """Answer plain HTTP: with the page at /, and with 200 at /healthz.

    :returns: None for an opening handshake.
    """
    upgrades = request.headers.get("Upgrade", "").lower().split(",")
    if "websocket" in [upgrade.strip() for upgrade in upgrades]:
        return None
    if request.method not in ("GET", "HEAD"):
        return Response(405, f"{request.method} is not allowed\n", {"Allow": "GET, HEAD"})
    if request.path == "/":
        return content
    if request.path == "/healthz":
        return Response(200, "ok")
    return Response(404, "not found; the web page is at /, the health check at /healthz\n")


def page(name: str) -> Response:
    """Return the response with a page, and a Content-Security-Policy that allows nothing but its own code.

    :param name: the file in this package.
    """
    # Read as text: browsers compute the hashes with LF line ends, even if the file was checked out with CRLF.
    text = files("streamws.cli").joinpath(name).read_text("utf-8")
    sources = {kind: _hashes(text, kind) for kind in ("script", "style")}
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
        text,
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        },
        content_type="text/html; charset=utf-8",
    )


def _hashes(text: str, element: str) -> str:
    """Return the hashes of a page's inline `element`s for a Content-Security-Policy (CSP level 3, section 2.3.1)."""
    contents = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
    digests = [hashlib.sha256(content.encode()).digest() for content in contents]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def authorities(host: str, addresses: Sequence[Any]) -> list[str]:
    """Return the host and port of each URL at which the server can be reached."""
    ports = {address[1] for address in addresses}
    if len(ports) > 1:  # with port 0, each address of the host got a port of its own
        return [authority(*address[:2]) for address in addresses]
    name = "localhost" if host in ("", "0.0.0.0", "::") else host
    return [authority(name, ports.pop())]


def authority(host: str, port: int) -> str:
    """Return an address as a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
