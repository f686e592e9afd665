"""What the reference shows in addition to what autodoc makes of the docstrings.

Methods are shown as users write them: with `await`, or as a statement or decorator. Attributes show their defaults with
units, and the `:param:` fields of their class, which `help` shows with the class. Three directives make overviews:
`.. options:: NAME` is a table of the options of a class, `.. errors::` the tree of the errors, and
`.. arguments:: NAME` a table of the arguments of a command.
"""

import argparse
import enum
import inspect
import re
from collections.abc import Coroutine, Iterator
from typing import Any, get_origin

import attrs
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective
from sphinx.util.rst import escape

import streamws
import streamws.messages
import streamws.topics
from streamws.cli import connect, demo, echo
from streamws.hints import Hint

STATEMENTS = {
    "Client.__aiter__": "async for message in client",
    "Client.message": "@client.message",
    "Client.ping": "@client.ping",
    "Client.pong": "@client.pong",
    "Client.closed": "@client.closed",
    "Connecting.__await__": "await connect(url)",
    "Connecting.__aenter__": "async with connect(url) as client",
    "Connecting.__aiter__": "async for client in connect(url)",
    "MessageReader.__aiter__": "async for piece in reader",
    "Router.route": '@router.route("/rooms/<name>")',
    "Subscription.__aenter__": "async with topic.subscribe() as feed",
    "Subscription.__aiter__": "async for item in feed",
    "Topics.__aenter__": "async with Topics(broker) as topics",
    "Typed.__aiter__": "async for message in messages",
    "Typed.message": "@messages.message",
    "WebSocketServer.connection": "@socket.connection",
    "WebSocketServer.request": "@socket.request",
    "WebSocketServer.__enter__": "with socket as server",
}
for name, owner in ("Client", "client"), ("Request", "request"):
    STATEMENTS[f"{name}.__getitem__"] = f"{owner}[KEY]"
    STATEMENTS[f"{name}.__setitem__"] = f"{owner}[KEY] = value"
    STATEMENTS[f"{name}.__delitem__"] = f"del {owner}[KEY]"
    STATEMENTS[f"{name}.__contains__"] = f"KEY in {owner}"
"""Methods that users do not call by name, and what users write instead."""

GIVEN = {"Server", "Client", "Connecting", "MessageReader", "Writer", "FragmentWriter", "DataFrameWriter"}
GIVEN |= {"Close", "CloseOutcome", "DeflateTerms", "Request", "Query", "ConnectionStats", "ServerStats"}
GIVEN |= {"Topic", "Subscription", "Presence", "Publication", "Position", "Gap", "Published", "Joined", "Record"}
GIVEN |= {"HistoryPage", "Connection", "Member", "PresenceCount", "PresenceEvent", "Outgoing", "Page", "TopicsStats"}
"""Classes whose constructors are not shown, since the library creates their objects."""

OPTIONS = {"Limits", "Timeouts", "Compression", "Backoff", "TopicLimits", "History"}
"""Classes whose constructors are not shown, since their attributes say the same."""

INTERNAL = {"Headers.from_wire", "Headers.wire", "Response.encode", "Response.from_wire"}
INTERNAL |= {"Subscription.put", "Subscription.put_gap", "Subscription.end"}
"""Methods that only the library itself calls."""

SECONDS = {"Timeouts", "Backoff"}
"""Classes whose options are in seconds, except for `NUMBERS`."""

NUMBERS = {"factor", "jitter", "max_attempts"}

JSON_VALUE = re.compile(r"bool \| int \| float \| str \| list\[bool.*?\] \| dict\[str, bool.*?\| None\] \| None")
"""How the type alias appears in a signature."""

KiB = 1024


def resolve(name: str) -> Any:
    """Return the object that has a dotted name in the package, `streamws.messages` or `streamws.topics`, or None."""
    first, *others = name.split(".")
    package = next((part for part in (streamws.messages, streamws.topics) if first in part.__all__), streamws)
    found: Any = getattr(package, first, None)  # some names of the package are loaded when they are used
    for part in others:
        found = inspect.getattr_static(found, part, None)
    return found


def default_of(kind: type[attrs.AttrsInstance], attribute: str) -> str | None:
    """Return the default of an attribute with its unit, or None if it has none."""
    default: Any = attrs.fields_dict(kind)[attribute].default
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = getattr(kind(), attribute)  # it follows from another option
    if kind.__name__ in SECONDS and attribute not in NUMBERS and default is not None:
        return " to ".join(f"{value:g} s" for value in (default if isinstance(default, tuple) else (default,)))
    if kind is streamws.Limits and default is not None and default % KiB == 0:
        size = default // KiB
        return f"{size} KiB" if size % KiB else f"{size // KiB} MiB"
    return f"{default:g}" if isinstance(default, float) else repr(default)


def split_fields(kind: type) -> tuple[str, dict[str, str]]:
    """Return the docstring of a class without its `:param:` fields, and the text of each field."""
    text, *fields = re.split(r"^:param (\w+): ", inspect.getdoc(kind) or "", flags=re.MULTILINE)
    texts = [" ".join(field.split()) for field in fields[1::2]]
    return text.strip(), dict(zip(fields[::2], (text[0].upper() + text[1:] for text in texts), strict=True))


# Descriptions of objects ------------------------------------------------------------------------------------


def shorten_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: object, arguments: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Hide constructors that are not for users, and the coroutines around results."""
    if arguments is None:
        return None
    if isinstance(obj, type):
        if obj.__name__ in GIVEN | OPTIONS or issubclass(obj, (enum.Enum, BaseException)):
            return "", None
        if attrs.has(obj):
            arguments = re.sub(
                r"attr_dict\['(\w+)'\]\.default", lambda found: f"{default_of(obj, found[1])}", arguments
            )
    arguments = arguments.replace("*misplaced: ~typing.Never", "*")  # there only for the error about it
    arguments = JSON_VALUE.sub("~streamws.topics.JsonValue", arguments)
    arguments = arguments.replace("streamws.serving.Routes", "streamws.routing.Router")  # the only implementation
    if returned is not None:
        returned = re.sub(r"^\S*\bCoroutine\[\w+, \w+, (.*)\]$", r"\1", returned)
    return arguments, returned


def move_fields(app: Sphinx, what: str, name: str, obj: Any, options: object, lines: list[str]) -> None:
    """Show the `:param:` fields of a class with its attributes, if its constructor is not shown."""
    owner, _, member = re.sub(r"^streamws\.([a-z]+\.)*", "", name).rpartition(".")
    if isinstance(obj, type) and obj.__name__ in GIVEN | OPTIONS:
        lines[:] = split_fields(obj)[0].splitlines()
    elif owner in GIVEN | OPTIONS and member in (fields := split_fields(resolve(owner))[1]):
        lines[:] = [fields[member]]


def is_awaited(function: object) -> bool:
    """Return whether a call of the function is awaited."""
    if not inspect.isfunction(function):
        return False
    returned = inspect.signature(function).return_annotation
    return inspect.iscoroutinefunction(function) or get_origin(returned) is Coroutine


def show_as_written(app: Sphinx, domain: str, objtype: str, content: addnodes.desc_content) -> None:
    """Rewrite the signatures of methods and attributes."""
    for signature in content.parent.children:
        if not isinstance(signature, addnodes.desc_signature) or "." not in signature.get("fullname", ""):
            continue
        name = signature["fullname"]
        if name in STATEMENTS:
            signature.clear()
            signature += addnodes.desc_name("", STATEMENTS[name])
            signature["_toc_name"] = STATEMENTS[name]
            continue
        owner, _, member = name.rpartition(".")
        kind = resolve(owner)
        if is_awaited(resolve(name)):
            if isinstance(signature[0], addnodes.desc_annotation):
                del signature[0]  # "async"
            keyword = [addnodes.desc_sig_keyword("", "await"), addnodes.desc_sig_space()]
            signature.insert(0, addnodes.desc_annotation("", "", *keyword))
        elif attrs.has(kind) and member in attrs.fields_dict(kind):
            default = default_of(kind, member)
            if default is not None:
                equals = [addnodes.desc_sig_space(), addnodes.desc_sig_punctuation("", "="), addnodes.desc_sig_space()]
                signature += addnodes.desc_annotation("", "", *equals, nodes.Text(default))


def skip_internal(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: object) -> bool | None:
    """Hide internal methods, and names of other libraries."""
    if isinstance(obj, Hint):
        return True
    function = getattr(obj, "fget", getattr(obj, "__func__", obj))
    return True if getattr(function, "__qualname__", None) in INTERNAL else None


def name_values(app: Sphinx, config: Config) -> None:
    """Tell the template of the pages which classes show all members, with and without a docstring."""
    classes = {name: getattr(streamws, name) for name in streamws.__all__}
    config.autosummary_context["values"] = [
        name for name, kind in classes.items() if attrs.has(kind) or isinstance(kind, enum.EnumType)
    ]


# Overviews --------------------------------------------------------------------------------------------------


def table(*rows: tuple[str, ...]) -> list[str]:
    """Return the lines of a table, in reStructuredText. The first row is its head."""
    lines = [".. list-table::", "   :header-rows: 1", "   :class: overview", ""]
    for first, *others in rows:
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    return lines


class Options(SphinxDirective):
    """A table of the options of a class."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        kind = resolve(self.arguments[0])
        self.env.note_dependency(inspect.getfile(kind))
        text, fields = split_fields(kind)
        rows = [
            (
                f":py:attr:`{option.name} <streamws.{kind.__name__}.{option.name}>`",
                f"{default_of(kind, option.name)}",
                fields[option.name],
            )
            for option in attrs.fields(kind)
        ]
        lines = [text, "", *table(("Option", "Default", "Meaning"), *rows)]
        return self.parse_text_to_nodes("\n".join(lines))


class Arguments(SphinxDirective):
    """A table of the arguments of a command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        commands = argparse.ArgumentParser().add_subparsers()
        echo.add_echo(commands)
        demo.add_demo(commands)
        connect.add_connect(commands)
        for module in (echo, connect, demo):
            self.env.note_dependency(inspect.getfile(module))
        command = commands.choices[self.arguments[0]]
        formatter = command._get_formatter()
        rows = [
            (f"``{formatter._format_action_invocation(action)}``", escape(formatter._expand_help(action)))
            for action in command._actions
            if "--help" not in action.option_strings
        ]
        return self.parse_text_to_nodes("\n".join(table(("Argument", "Meaning"), *rows)))


class Errors(SphinxDirective):
    """The tree of the errors, with the first paragraph of each docstring."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(inspect.getfile(streamws.StreamwsError))
        return self.parse_text_to_nodes("\n".join(self._branch(streamws.StreamwsError, "")))

    def _branch(self, error: type[Exception], indent: str) -> Iterator[str]:
        summary = " ".join((inspect.getdoc(error) or "").partition("\n\n")[0].split())
        names = [f":py:exc:`{error.__name__} <streamws.{error.__name__}>`"]
        names += [
            f":py:exc:`{base.__name__}`"
            for base in error.__bases__
            if base is not Exception and not issubclass(base, streamws.StreamwsError)
        ]
        yield f"{indent}- {', '.join(names)} -- {summary}"
        yield ""
        for derived in error.__subclasses__():
            if derived.__name__ in streamws.__all__:
                yield from self._branch(derived, indent + "  ")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    for name in [*STATEMENTS, *GIVEN, *OPTIONS, *INTERNAL]:
        if resolve(name) is None:
            raise ValueError(f"docs/_ext/reference.py names streamws.{name}, which does not exist")
    app.connect("autodoc-process-docstring", move_fields)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("autodoc-skip-member", skip_internal)
    app.connect("config-inited", name_values)
    app.connect("object-description-transform", show_as_written)
    app.add_directive("options", Options)
    app.add_directive("arguments", Arguments)
    app.add_directive("errors", Errors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
