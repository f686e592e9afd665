"""The programs that the documentation is made of.

A block of the language `python` is a program. What it is part of stands in a comment right above it:

    (no comment)                    the block is a program that ends by itself
    <!-- program: NAME -->          the first block of the program NAME
    <!-- continues: NAME -->        a further block of it
    <!-- handler: NAME -->          a function: the handler of a server, which is put around it
    <!-- connection: NAME -->       a function: the @socket.connection callback of a server
    <!-- client: NAME -->           a program that talks to a server, and ends by itself

and above a block of the language `text`:

    <!-- output: NAME -->           what the program NAME prints, exactly

A program that does not end by itself is talked to by the function for it in `docs/test_guide.py`; the servers of
clients are in `docs/test_client_guide.py`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

PRELUDE = "import asyncio, streamws; from streamws import *\n"
"""What a lone function stands behind; one line."""

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

PEM = re.compile(r'"([\w-]+\.pem)"')
"""A file that the commands of the page about certificates make, as programs name it."""

_BLOCK = re.compile(
    r"(?:^<!-- (?P<role>[a-z]+): (?P<name>[\w-]+) -->\n)?^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Example:
    """A program of a page."""

    page: Path
    name: str
    source: str = ""
    """Its lines have the numbers that they have on the page, so that tracebacks point there."""
    kind: str = "program"
    output: str | None = None
    blocks: int = field(default=0)

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.name}"

    def add(self, text: str, line: int) -> None:
        """Append a block that begins in `line`, counted from 1."""
        self.source += "\n" * (line - 1 - self.source.count("\n")) + text
        self.blocks += 1


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples() -> list[Example]:
    """Every program of every page."""
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
                assert role in ("program", "client", *EPILOGUES), f"{page}:{line}: {role}?"
                assert name not in found, f"{page}:{line}: {name} is there already"
                example = found[name] = Example(page, name, kind=role)
            if role in EPILOGUES:
                example.source = PRELUDE
            example.add(match["text"], line)
        else:
            assert match["role"] is None, f"{page}:{line}: a comment above a {match['language']} block"
    for example in found.values():
        if example.kind in EPILOGUES:
            (*_, function) = re.findall(r"^(?:async )?def (\w+)", example.source, re.MULTILINE)
            example.source += EPILOGUES[example.kind].format(function=function)
    return list(found.values())
