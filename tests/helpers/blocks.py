"""Collects the programs in the documentation.

Each `python` block is a program, or a part of one. A comment right above the block says which:

    (no comment)                    a program that ends by itself
    <!-- program: NAME -->          the first block of the program NAME
    <!-- continues: NAME -->        another block of the program NAME
    <!-- handler: NAME -->          a function: the handler of a server, which is added
    <!-- connection: NAME -->       a function: the @socket.connection callback of a server, which is added
    <!-- asgi: NAME -->             an ASGI application, `app`, which uvicorn serves
    <!-- uvicorn: NAME -->          a program that runs uvicorn on port 8000
    <!-- client: NAME -->           a program that talks to a server, and ends by itself
    <!-- before: NAME-before -->    what the program NAME is with another library
    <!-- file: NAME -->             the file NAME.py, which `docs/test_testing.py` uses

A comment above a `text` block says what it shows:

    <!-- output: NAME -->           the exact output of the program NAME

`docs/test_guide.py` has a function for each program that does not end by itself, which talks to it.
`docs/test_client_guide.py` has the servers of the clients.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

PRELUDE = "import asyncio, streamws; from streamws import *\n"
"""The line before a lone function. One line, so that line numbers stay those of the page."""

EPILOGUES = {
    "handler": """
WebSocketServer("localhost", 8765, handler={function}).run()
""",
    "connection": """
socket = WebSocketServer("localhost", 8765)
socket.connection({function})
socket.run()
""",
}

UVICORN = """
import uvicorn
uvicorn.run(app, host="localhost", port=8765)
"""

PEM = re.compile(r'"([\w-]+\.pem)"')
"""The name of a file that the commands on the page about certificates create."""

_BLOCK = re.compile(
    r"(?:^<!-- (?P<role>[a-z]+): (?P<name>[\w-]+) -->\n)?^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Example:
    """A program on a page."""

    page: Path
    name: str
    source: str = ""
    """Its line numbers are those of the page, so that tracebacks point there."""
    kind: str = "program"
    output: str | None = None
    blocks: int = field(default=0)

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.name}"

    def add(self, text: str, line: int) -> None:
        """Append a block that begins at `line` of the page, counted from 1."""
        self.source += "\n" * (line - 1 - self.source.count("\n")) + text
        self.blocks += 1


def pages() -> list[Path]:
    """Return all pages of the documentation."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples() -> list[Example]:
    """Return all programs on all pages."""
    return [example for page in pages() for example in _examples_of(page)]


def _examples_of(page: Path) -> list[Example]:
    found: dict[str, Example] = {}
    text = page.read_text("utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        role, name = match["role"] or "program", match["name"] or f"line-{line}"
        if role == "output":
            assert match["language"] == "text"
            found[name].output = match["text"]
        elif match["language"] == "python":
            if role == "continues":
                example = found[name]
            else:
                known = ("program", "asgi", "uvicorn", "client", "before", "file", *EPILOGUES)
                assert role in known, f"{page}:{line}: {role}?"
                assert name not in found, f"{page}:{line}: {name} is there already"
                example = found[name] = Example(page, name, kind=role)
            if role in EPILOGUES:
                example.source = PRELUDE
            example.add(match["text"], line)
        else:
            assert match["role"] is None, f"{page}:{line}: a comment above a {match['language']} block"
    for example in found.values():
        if example.kind == "asgi":
            example.source += UVICORN
        if example.kind in EPILOGUES:
            (*_, function) = re.findall(r"^(?:async )?def (\w+)", example.source, re.MULTILINE)
            example.source += EPILOGUES[example.kind].format(function=function)
    return list(found.values())
