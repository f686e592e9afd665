"""Writes docs/reference/ from the docstrings of the package: python docs/build_reference.py

It reads the sources, not the modules, so that it does not matter how the package was built. A test compares
what it would write with what is there.
"""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from streamws import Backoff, Compression, Limits, Timeouts

ROOT = Path(__file__).parents[1]

PAGES: dict[str, tuple[str, str, list[tuple[str, list[str]]]]] = {
    "server.md": (
        "Server",
        "`from streamws import WebSocketServer, Request, Response, Headers`",
        [
            ("server.py", ["WebSocketServer"]),
            ("handshake/head.py", ["Request", "Response"]),
            ("handshake/headers.py", ["Headers"]),
        ],
    ),
    "connect.md": (
        "Connect",
        "`from streamws import connect, Connecting, Target, is_transient`. There are examples in "
        "[Connecting](../topics/connecting.md).",
        [
            ("connecting/connect.py", ["connect", "Connecting", "Target"]),
            ("connecting/reconnecting.py", ["is_transient"]),
        ],
    ),
    "client.md": (
        "Client",
        "`from streamws import Client, State, DataFrame, DeflateTerms`",
        [
            ("client.py", ["Client"]),
            ("wire/protocol.py", ["State"]),
            ("wire/frames.py", ["DataFrame"]),
            ("handshake/extensions.py", ["DeflateTerms"]),
        ],
    ),
    "reader.md": (
        "Reader",
        "`from streamws import MessageReader`",
        [("streams/reader.py", ["MessageReader"])],
    ),
    "writer.md": (
        "Writer",
        "`from streamws import Writer, FragmentWriter, DataFrameWriter`; they are reached as `client.writer`.",
        [("streams/writer.py", ["Writer", "FragmentWriter", "DataFrameWriter"])],
    ),
    "errors.md": (
        "Errors",
        "All can be imported from `streamws`.",
        [
            (
                "errors.py",
                [
                    "StreamwsError",
                    "ConnectionClosed",
                    "ConnectionClosedError",
                    "IncompleteMessage",
                    "ReadError",
                    "ConcurrencyError",
                    "StaleReader",
                    "WriteError",
                    "ProtocolViolation",
                    "HandshakeError",
                    "HandshakeRefused",
                    "InvalidHandshake",
                    "RedirectError",
                    "ConnectError",
                    "ProxyError",
                    "ConnectTimeout",
                    "ReconnectError",
                    "InvalidURL",
                    "InvalidHeader",
                    "UsageError",
                ],
            )
        ],
    ),
    "codes.md": (
        "Codes",
        "`from streamws import Opcode, CloseCode, Close, CloseOutcome, Cause, Side`",
        [("codes.py", ["CloseOutcome", "Cause", "Side", "Close", "CloseCode", "Opcode"])],
    ),
}

INTERNAL = {
    "Headers.from_wire",
    "Headers.wire",
    "Response.encode",
    "Response.from_wire",
}
"""Methods that one part of the package has for another."""

ALIASES = {
    "Buffer": "bytes | bytearray | memoryview",
    "Handler": "Callable[[Client], Awaitable[None]]",
    "HeaderFields": "Mapping[str, str] | Iterable[tuple[str, str]]",
    "TargetFactory": "Callable[[], str | Target | Awaitable[str | Target]]",
    "tls.SSLContext": "ssl.SSLContext",
}
"""Names of types that are none of the package's public names."""

SPECIAL = {
    "__aiter__": "async for ... in {name}",
    "__await__": "await {name}",
    "__aenter__": "async with {name} as client",
    "__enter__": "with {name} as server",
}
NOUNS = {"WebSocketServer": "socket", "MessageReader": "reader", "FragmentWriter": "stream", "DataFrameWriter": "frame"}
NOUNS |= {"Connecting": "connect(url)"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def pages() -> dict[str, str]:
    """The text of every page by its file name."""
    texts = {name: _page(*page) for name, page in PAGES.items()}
    module = ast.get_docstring(_module("errors.py")) or ""
    tree = module[module.index("StreamwsError") :]
    lines = [line.removeprefix("    ") for line in tree.splitlines()]
    texts["errors.md"] = texts["errors.md"].replace("\n## ", "\n```text\n" + "\n".join(lines) + "\n```\n\n## ", 1)
    texts["options.md"] = _options()
    return texts


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (ROOT / "docs" / "reference" / name).write_text(text, "utf-8")


# Classes ----------------------------------------------------------------------------------------------------


def _page(title: str, start: str, sources: list[tuple[str, list[str]]]) -> str:
    parts = [f"# {title}", start]
    for source, names in sources:
        nodes = {node.name: node for node in _module(source).body if isinstance(node, ast.ClassDef | Function)}
        for name in names:
            node = nodes[name]
            parts += _class(node) if isinstance(node, ast.ClassDef) else _function(node)
    return "\n\n".join(parts) + "\n"


def _module(source: str) -> ast.Module:
    return ast.parse((ROOT / "streamws" / source).read_text("utf-8"))


def _class(node: ast.ClassDef) -> Iterator[str]:
    bases = [ast.unparse(base) for base in node.bases]
    is_error = node.name.endswith("Error") or any(base.endswith(("Error", "Closed")) for base in bases)
    yield f"## {node.name}"
    if bases and is_error:
        yield f"Derives from {' and '.join(f'`{base}`' for base in bases)}."
    methods = [member for member in node.body if isinstance(member, Function)]
    init = next((method for method in methods if method.name == "__init__"), None)
    yield _text(ast.get_docstring(node) or "", _types(init) if init is not None else {})
    if init is not None and ast.get_docstring(init):
        yield f"### `{_signature(node.name, init, returns=False)}`"
        yield _text(ast.get_docstring(init) or "", _types(init))
    attributes = list(_attributes(node.body))
    if init is not None:
        attributes += _attributes(init.body)
    if attributes:
        yield "\n".join(f"- {line}" for line in attributes)
    for method in methods:
        decorators = [ast.unparse(decorator) for decorator in method.decorator_list]
        docstring = ast.get_docstring(method)
        if not docstring or f"{node.name}.{method.name}" in INTERNAL or "overload" in decorators:
            continue
        if method.name in SPECIAL:
            title = SPECIAL[method.name].format(name=NOUNS.get(node.name, node.name.lower()))
        elif method.name.startswith("_"):
            continue
        elif "property" in decorators:
            title = f"{method.name}: {_type(method.returns)}"
        elif "Decorator:" in docstring:
            title = f"@{NOUNS.get(node.name, node.name.lower())}.{method.name}"
        else:
            title = _signature(method.name, method)
        yield f"### `{title}`"
        yield _text(docstring, _types(method))


def _function(node: Function) -> Iterator[str]:
    yield f"## {node.name}"
    yield f"### `{_signature(node.name, node)}`"
    yield _text(ast.get_docstring(node) or "", _types(node))


def _attributes(body: list[ast.stmt]) -> Iterator[str]:
    """The attributes that a docstring stands under, or that an enumeration or a value class has."""
    for statement, follower in zip(body, [*body[1:], None], strict=True):
        described = ""
        if isinstance(follower, ast.Expr) and isinstance(follower.value, ast.Constant):
            described = _inline(str(follower.value.value))
        if isinstance(statement, ast.AnnAssign):
            name = ast.unparse(statement.target).removeprefix("self.")
            kind = f": {_type(statement.annotation)}"
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            name = ast.unparse(statement.targets[0]).removeprefix("self.")
            kind = f" = {ast.unparse(statement.value)}"
        elif isinstance(statement, ast.Assign) and described:
            name, kind = ast.unparse(statement.targets[0]).removeprefix("self."), ""
        else:
            continue
        if not name.startswith("_"):
            yield f"`{name}{kind}`" + (f" \u2013 {described}" if described else "")


# Functions --------------------------------------------------------------------------------------------------


def _signature(name: str, method: Function, *, returns: bool = True) -> str:
    types = {name: kind for name, kind in _types(method).items() if name != "self"}
    arguments = ", ".join(f"{name}: {kind}" for name, kind in types.items())
    result = _type(method.returns) if returns else ""
    awaited = re.fullmatch(r"Coroutine\[\w+, \w+, (.*)\]", result)
    if awaited:
        result = awaited[1]
    coroutine = awaited or (isinstance(method, ast.AsyncFunctionDef) and "AsyncIterator" not in result)
    prefix = "await " if coroutine else ""
    if len(arguments) > 90:  # then the list of parameters says it better
        arguments = ", ".join(types)
    return f"{prefix}{name}({arguments})" + (f" -> {result}" if result else "")


def _type(annotation: ast.expr | None) -> str:
    text = "" if annotation is None else ast.unparse(annotation)
    for alias, meaning in ALIASES.items():
        text = re.sub(rf"(?<![.\w]){re.escape(alias)}\b", meaning, text)
    return re.sub(r"^'(\w+)'$", r"\1", text)


def _types(method: Function) -> dict[str, str]:
    """What stands behind each parameter's name: its type and default."""
    arguments = method.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    first = len(names) - len(arguments.kwonlyargs) - len(arguments.defaults)
    defaults = [None] * first + [*arguments.defaults, *arguments.kw_defaults]
    types = {}
    for argument, default in zip(names, defaults, strict=True):
        types[argument.arg] = _type(argument.annotation) + (f" = {ast.unparse(default)}" if default is not None else "")
    return types


# Docstrings -------------------------------------------------------------------------------------------------


def _text(docstring: str, types: dict[str, str] | None = None) -> str:
    """A docstring as Markdown: its fields become lists, whichever way they are written."""
    lines: list[str] = []
    section = ""
    for line in docstring.splitlines():
        field = re.match(r":(param|raises|returns?)\s*([^:]*): *(.*)", line)
        heading = re.fullmatch(r"(Args|Returns|Raises):", line)
        if heading:
            section = heading[1]
            lines.append("")
        elif section and line.startswith("    ") and not line.startswith("     "):
            name, _, rest = line.strip().partition(": ")
            if section == "Returns":
                lines.append(_field("returns", "", line.strip(), types))
            else:
                lines.append(_field("param" if section == "Args" else "raises", name, rest, types))
        elif field:
            if lines and lines[-1] and not lines[-1].startswith(("-", "  ")):
                lines.append("")
            lines.append(_field(field[1], field[2], field[3], types))
        elif not line.strip():
            section = ""
            lines.append("")
        else:
            lines.append(("  " if lines and lines[-1].startswith(("-", "  ")) else "") + line.strip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip().replace("``", "`")


def _field(kind: str, name: str, text: str, types: dict[str, str] | None) -> str:
    if kind == "param":
        described = (types or {}).get(name, "")
        return f"- `{name}{': ' + described if described else ''}` \u2013 {text}"
    if kind == "raises":
        return f"- raises {', '.join(f'`{error.strip()}`' for error in name.split(','))}: {text}"
    return f"- returns: {text}"


def _inline(text: str) -> str:
    return " ".join(text.split())


# Options ----------------------------------------------------------------------------------------------------


def _options() -> str:
    module = _module("options.py")
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    parts = [
        "# Options",
        "`from streamws import Limits, Timeouts, Compression, Backoff`. Give them to a server or to `connect` as "
        "`limits=`, `timeouts=` and `compression=`, and to `connect` as `backoff=`. All are frozen; "
        "`attrs.evolve(limits, max_clients=100)` makes a changed copy.",
    ]
    kinds = (
        ("Limits", Limits, _size),
        ("Timeouts", Timeouts, _seconds),
        ("Compression", Compression, _plain),
        ("Backoff", Backoff, _wait),
    )
    for name, options, unit in kinds:
        parts += [f"## {name}", _text(ast.get_docstring(classes[name]) or "")]
        described = dict(_described(classes[name].body))
        rows = ["| option | default | |", "|---|---|---|"]
        rows += [
            f"| `{option.name}` | {unit(option.name, option.default)} | {described[option.name]} |"
            for option in attrs.fields(options)
        ]
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _described(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, follower in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(follower, ast.Expr):
            assert isinstance(follower.value, ast.Constant)
            yield ast.unparse(statement.target), _inline(str(follower.value.value))


def _size(name: str, value: Any) -> str:
    if value is None:
        return "`None`"
    if name in ("max_clients", "max_headers", "max_control_backlog"):
        return f"{value}"
    for unit, size in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if value % size == 0:
            return f"{value // size} {unit}"
    return f"{value} bytes"


def _plain(name: str, value: int | bool) -> str:
    return f"`{value}`"


def _seconds(name: str, value: float | None) -> str:
    return "`None`" if value is None else f"{value:g} s"


def _wait(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return " to ".join(_seconds(name, part) for part in value)
    return f"{value:g}" if name in ("factor", "jitter") else _seconds(name, value)


if __name__ == "__main__":
    main()
