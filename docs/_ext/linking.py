"""Links that nobody has to write: from code to the reference, and from RFCs to their sections.

In docstrings and on pages, code in single backticks is linked if it is the name of an object in the reference, or
a name in `python.inv`. Inside the docstrings of a class, the names of its members are known without the class.
"""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.ext.intersphinx import InventoryAdapter
from sphinx.transforms.post_transforms import SphinxPostTransform

VARIABLES = {
    "client.writer": "Writer",
    "client.request": "Request",
    "client.response": "Response",
    "client.outcome": "CloseOutcome",
    "client.stats": "ConnectionStats",
    "socket.stats": "ServerStats",
    "client": "Client",
    "socket": "WebSocketServer",
    "reader": "MessageReader",
    "writer": "Writer",
}
"""The types of the variables that the documentation uses, longer names first."""

MODULES = {
    "asyncio.events.AbstractEventLoop": "asyncio.AbstractEventLoop",
    "asyncio.events.AbstractServer": "asyncio.Server",
}
"""Names that annotations have in CPython's modules, and those that Python's documentation uses."""

_NAME = re.compile(r"(?:@|await |async for \w+ in )?(?P<name>[A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?", re.DOTALL)
_RFC = re.compile(r"\bRFC (\d+)(?: sections? (\d+(?:\.\d+)*))?")
_LINKED = (nodes.reference, nodes.title, nodes.literal_block, addnodes.pending_xref, addnodes.desc_signature)


class Linking(SphinxPostTransform):
    """Makes references of code and RFCs, before Sphinx and MyST resolve references."""

    default_priority = 5

    def run(self, **kwargs: object) -> None:
        domain = self.env.get_domain("py")
        assert isinstance(domain, PythonDomain)
        self._objects = domain.objects
        self._python = InventoryAdapter(self.env).main_inventory
        for reference in list(self.document.findall(addnodes.pending_xref)):
            if reference.get("refdomain") == "py":
                self._make_public(reference)
            elif reference.get("reftype") == "myst":
                self._unlink_repository(reference)
        for literal in list(self.document.findall(nodes.literal)):
            if not _is_inside(literal, *_LINKED):
                self._link_code(literal)
        for text in list(self.document.findall(nodes.Text)):
            if "RFC " in text and not _is_inside(text, nodes.literal, *_LINKED):
                text.parent.replace(text, list(_with_rfcs(text)))

    def _make_public(self, reference: addnodes.pending_xref) -> None:
        """Refer to the name that users import. Annotations have the name of the module that defines a class."""
        target = reference["reftarget"]
        if _is_no_class(target):
            reference.replace_self(reference.children)
            return
        if target in MODULES:
            reference["reftarget"] = MODULES[target]
            return
        parts = target.split(".")
        # Of `streamws.streams.reader.MessageReader`, one of the ends is the public name.
        ends = range(1, len(parts)) if parts[0] == "streamws" else [0]
        for end in ends:
            public = ".".join(["streamws", *parts[end:]])
            if public in self._objects:
                reference["reftarget"] = public
                reference["reftype"] = "obj"
                return

    def _unlink_repository(self, reference: addnodes.pending_xref) -> None:
        """Leave only the text of a link to a file or folder outside of the documentation: the site does not have it."""
        path = Path(self.env.doc2path(self.env.docname)).parent / reference["reftarget"]
        if path.exists() and not path.resolve().is_relative_to(self.env.srcdir):
            reference.replace_self(reference.children)

    def _link_code(self, literal: nodes.literal) -> None:
        match = _NAME.fullmatch(literal.astext())
        target = None if match is None else self._target(match["name"], _described_class(literal))
        if target is not None:
            code = literal.deepcopy()
            literal.replace_self(addnodes.pending_xref("", code, refdomain="py", reftype="obj", reftarget=target))

    def _target(self, name: str, described: str | None) -> str | None:
        """Return the full name of a known object.

        :param described: the class whose description mentions the name.
        """
        candidates = [f"streamws.{name.removeprefix('streamws.')}"]
        if described is not None:
            candidates.insert(0, f"{described}.{name}")
        for variable, kind in VARIABLES.items():
            if name.startswith(f"{variable}."):
                candidates.append(f"streamws.{kind}.{name.removeprefix(variable + '.')}")
        for candidate in candidates:
            if candidate in self._objects:
                return candidate
        kinds = [kind for kind, names in self._python.items() if name in names]
        # Names such as `str` are in the inventory for signatures. Links from each of them in a text would be noise.
        return name if kinds and ("." in name or "py:exception" in kinds) else None


def _is_no_class(target: str) -> bool:
    """Return whether an annotation has a type variable, or a special form that Python's documentation lacks."""
    module, _, name = target.rpartition(".")
    return module == "typing_extensions" or isinstance(getattr(sys.modules.get(module), name, None), TypeVar)


def _ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def _is_inside(node: nodes.Node, *kinds: type[nodes.Element]) -> bool:
    return any(isinstance(ancestor, kinds) for ancestor in _ancestors(node))


def _described_class(node: nodes.Node) -> str | None:
    """Return the full name of the class whose description contains a node."""
    for ancestor in _ancestors(node):
        if isinstance(ancestor, addnodes.desc) and ancestor["objtype"] in ("class", "exception"):
            signature = ancestor[0]
            assert isinstance(signature, addnodes.desc_signature)
            return f"{signature['module']}.{signature['fullname']}"
    return None


def _with_rfcs(text: nodes.Text) -> Iterator[nodes.Node]:
    """Split a text into plain text and links to RFCs."""
    end = 0
    for match in _RFC.finditer(text):
        yield nodes.Text(text[end : match.start()])
        number, section = match.groups()
        place = f"https://www.rfc-editor.org/rfc/rfc{number}" + (f"#section-{section}" if section else "")
        yield nodes.reference("", match[0], refuri=place, internal=False)
        end = match.end()
    yield nodes.Text(text[end:])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    # Their type variables must be known when only other pages are built again.
    for package in ("asgi", "connecting.connect", "messages", "sync"):
        import_module(f"streamws.{package}")
    app.add_post_transform(Linking)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
