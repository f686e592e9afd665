"""The text of a response in one line, for errors and log lines."""

import html
import re

from ..errors import in_one_line
from .head import Response

_MAX_SHOWN = 600
"""The most characters of a peer's text that are processed for an error message."""

_TITLE = re.compile("<title", re.IGNORECASE)
_WANTS_TLS = re.compile(
    "plain HTTP request was sent|HTTP request to an HTTPS|plain HTTP to an SSL|host and port requires TLS",
    re.IGNORECASE,
)
"""The messages of nginx, Go's net/http, Apache and Tomcat to a client that did not use TLS on a TLS port."""


def summary_of(response: Response) -> str:
    """Return the text of a body in one line, or its content type if it is not readable text."""
    content_type = response.headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    body = response.body.decode("utf-8", "replace")
    title = _title(body) if "html" in content_type else None
    if body and encoding != "identity":  # the request did not ask for it, but some servers always compress
        summary = f"the response body is {_one_line(content_type)}, encoded as {_one_line(encoding)}"
    elif title is not None:
        summary = _one_line(title)
    elif content_type in ("text/plain", "application/json") or content_type.endswith("+json"):
        summary = _one_line(body)
    elif body:
        summary = f"the response body is {_one_line(content_type)}"
    else:
        summary = ""
    if response.status == 400 and _WANTS_TLS.search(body):
        summary += " (this port speaks TLS: use wss://)"
    return summary or "the response has no body"


def _title(page: str) -> str | None:
    """Return the beginning of the title of an HTML page; None if it has no title."""
    tag = _TITLE.search(page)
    if tag is None:
        return None
    _, end, rest = page[tag.end() :].partition(">")
    # Cut first: `unescape` raises ValueError for more digits than `int` converts. That limit is at least 640.
    return html.unescape(rest[:_MAX_SHOWN].partition("<")[0]) if end else None


def _one_line(text: str) -> str:
    """Return a peer's text in one printable line of at most 200 characters."""
    line = in_one_line(text[:_MAX_SHOWN])
    return line[:200] + "..." if len(line) > 200 else line
