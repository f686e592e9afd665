"""The parameters of a request: its query and its cookies."""

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

__all__ = ["Query", "parse_cookies"]


class Query(Mapping[str, str]):
    """The query of a request as an immutable mapping, decoded like an HTML form.

    `query["room"]` is the value of a parameter. If it is given several times, that is the first value; `getlist`
    returns all of them. Percent-encoded bytes that are not UTF-8 become U+FFFD, and a plus sign becomes a space.

    :param text: the query string, without a question mark.
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, text: str) -> None:
        self._pairs = parse_qsl(text, keep_blank_values=True)
        self._values: dict[str, list[str]] = {}
        for name, value in self._pairs:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def getlist(self, name: str) -> list[str]:
        """Return all values of a parameter, in order; empty if there are none."""
        return list(self._values.get(name, ()))

    def __repr__(self) -> str:
        return f"Query({self._pairs!r})"


def parse_cookies(text: str) -> dict[str, str]:
    """Return the cookies in a Cookie field by their names (RFC 6265 section 4.2.1).

    Items that are not cookies are ignored, so that a broken one does not hide the others. Of several cookies with one
    name, the first one counts: a browser sends the one with the most specific path first (section 5.4).
    """
    cookies: dict[str, str] = {}
    for item in text.split(";"):
        name, separator, value = item.partition("=")
        name = name.strip(" \t")
        if separator and name:
            value = value.strip(" \t")
            if len(value) >= 2 and value.startswith('"') and value.endswith('"'):
                value = value[1:-1]  # section 4.1.1: the quotes are not part of the octets of the value
            cookies.setdefault(name, value)
    return cookies
