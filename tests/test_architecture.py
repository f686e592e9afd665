"""Who may import whom: the layers of ARCHITECTURE.md, held against the sources."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.builds import package_folder

# Each module may import those in earlier rows, and those to its left in its own row, so there are no cycles.
LAYERS = """
    about codes errors options keys extra_info keywords
    wire.frames wire.payload wire.deflate wire.partial wire.parser wire.protocol
    channel
    awaiting.checks awaiting.internals awaiting.operation awaiting.waiter awaiting.lazy
    net.sockets net.iteration net.loops net.signals net.addresses net.poll net.network net.gate net.selector net.binding
    net.quota net.accepting
    net.tls.engine net.tls.openssl net.tls.layer net.transports
    handshake.url handshake.headers handshake.parameters handshake.forwarding handshake.head handshake.lines
    handshake.request_reader handshake.response_reader
    handshake.extensions handshake.agreement handshake.summary handshake.server handshake.client
    streams.hub streams.queue streams.inflation streams.skipping streams.inbox streams.reads streams.reader
    streams.iterators streams.outbox streams.turns streams.pings streams.keepalive streams.shared streams.pieces
    streams.writer
    messages.backend messages.msgspec_json messages.pydantic_json messages.cattrs_json messages.codec messages.json
    messages.typed
    topics.values topics.checks topics.roster topics.held topics.stats topics.counting topics.broker topics.memory
    topics.retrying topics.broker_subscription topics.presence_changes topics.attendance
    topics.publishing topics.outlet topics.group topics.framing topics.sending topics.ahead topics.audience topics.core
    topics.presence topics.subscription topics.topic topics.topics topics.testing
    topics.centrifugo.codes topics.centrifugo.commands topics.centrifugo.replies topics.centrifugo.frames
    topics.centrifugo.settings topics.centrifugo.channels topics.centrifugo.session topics.centrifugo.endpoint
    topics.redis.link topics.redis.address topics.redis.keeper topics.redis.scripts topics.redis.subscriber
    topics.redis.server topics.redis.servers topics.redis.cluster topics.redis.presence topics.redis.broker
    connection callbacks watching.stats watching.counting watching.records client watching.observer
    serving lifespan server hints
    connecting.reconnecting connecting.proxies connecting.routes connecting.attempt connecting.connect
    sync.loop_thread sync.link sync.typed sync.client sync.connecting
    routing watching.prometheus
    asgi.events asgi.denial asgi.uvicorn asgi.scope asgi.receiving asgi.missing asgi.client
    __init__
    cli.terminal cli.connect cli.site cli.echo cli.demo cli.main __main__
"""
# What a package may see of the others, and what of the outside it may not.
SEES = {"wire": "wire about codes errors options", "handshake": "handshake codes errors options keys extra_info"}
SEES["awaiting"] = SEES["wire"] + " awaiting"
SEES["net"] = SEES["awaiting"] + " net"
SEES["streams"] = SEES["net"] + " streams"
SEES["messages"] = "wire channel messages about codes errors options"
SEES["topics"] = SEES["streams"] + " messages channel topics"
KEEPS_OUT = {"wire": {"asyncio", "httptools", "socket", "ssl"}, "handshake": {"asyncio", "socket", "ssl"}}

ORDER = {name: (row, place) for row, line in enumerate(LAYERS.splitlines()) for place, name in enumerate(line.split())}
ROOT = package_folder()
SOURCES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = {name: path for name, path in SOURCES.items() if not name.endswith(".__init__")}
IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
CIMPORT = re.compile(r"^(?:from (\.*)([\w.]*) c?import|c?import ([\w.]+))", re.MULTILINE)


def absolute(module: str, level: int, name: str) -> str:
    """Return the full name of the module in `from <level dots><name> import`."""
    package = ["streamws", *module.split(".")][: -level or None] if level else []
    return ".".join([*package, *([name] if name else [])])


def imports(module: str) -> Iterator[str]:
    """Yield the full names of all modules that a module imports, including its `.pxd` and `.pyx`."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node.level, node.module or "")
            inner = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name if name.removeprefix("streamws.") in SOURCES else base for name in inner)
    for path in (MODULES[module].with_suffix(suffix) for suffix in (".pxd", ".pyx")):
        for dots, name, plain in CIMPORT.findall(path.read_text() if path.exists() else ""):
            yield plain or absolute(module, len(dots), name)


def inside(module: str) -> list[str]:
    """Return the modules of the package that a module imports."""
    return [name.removeprefix("streamws.") for name in imports(module) if name.startswith("streamws.")]


def is_optional(node: ast.stmt) -> bool:
    """Return whether the statement imports an optional third-party module."""
    if not isinstance(node, ast.Try):
        return False
    caught = [handler.type.id for handler in node.handlers if isinstance(handler.type, ast.Name)]
    relative = [part for part in ast.walk(node) if isinstance(part, ast.ImportFrom) and part.level]
    return caught == ["ImportError"] and not relative


def is_for_types(node: ast.stmt) -> bool:
    """Return whether the statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    assert module in ORDER, "a new module needs a place in LAYERS, and in ARCHITECTURE.md"
    upward = [name for name in inside(module) if ORDER[name] >= ORDER[module]]
    assert not upward


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] in SEES])
def test_package_imports_only_packages_below_it(module: str) -> None:
    package = module.split(".")[0]
    assert {name.split(".")[0] for name in inside(module)} <= set(SEES[package].split())
    assert not {name.split(".")[0] for name in imports(module)} & KEEPS_OUT.get(package, set())


@pytest.mark.parametrize("module", SOURCES)
def test_imports_stand_at_the_top(module: str) -> None:
    tree = ast.parse(SOURCES[module].read_text())
    at_top = [node for node in tree.body if isinstance(node, IMPORTS) or is_optional(node) or is_for_types(node)]
    every = [node for node in ast.walk(tree) if isinstance(node, IMPORTS)]
    allowed = {part for node in at_top for part in ast.walk(node)}
    assert [f"line {node.lineno}" for node in every if node not in allowed] == []
    defined = [node.lineno for node in tree.body if isinstance(node, DEFINITIONS)]
    assert max([node.lineno for node in at_top], default=0) < min(defined, default=sys.maxsize)


def test_package_init_holds_public_names_and_nothing_else() -> None:
    body = ast.parse((ROOT / "__init__.py").read_text()).body
    kinds = [type(node) for node in body if not isinstance(node, ast.ImportFrom)]
    # The docstring; names for type checkers; __all__; names that are loaded when used, and __getattr__ for them.
    loading = [ast.Expr, ast.If, ast.Assign, ast.Assign, ast.If]
    assert kinds == loading
    inner = {name: SOURCES[name] for name in SOURCES if name.endswith(".__init__")}
    for package in ("messages", "topics", "asgi", "sync"):
        body = ast.parse(inner.pop(f"{package}.__init__").read_text()).body
        kinds = [type(node) for node in body if not isinstance(node, ast.ImportFrom)]
        assert kinds == (loading if package == "topics" else [ast.Expr, ast.Assign])
    assert [path.read_text() for path in inner.values()] == [""] * len(inner)


def test_modules_are_found() -> None:
    assert Path(ROOT, "wire", "parser.py") == MODULES["wire.parser"]
    assert set(inside("wire.parser")) == {
        "codes",
        "errors",
        "wire.deflate",
        "wire.frames",
        "wire.partial",
        "wire.payload",
    }
    assert "streams.writer" in inside("client")
