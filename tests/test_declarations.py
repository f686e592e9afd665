"""Each `.pxd` declares what the `.py` beside it defines: slots, methods, functions and their parameters."""

import ast
import re

import attrs
import pytest

from helpers.builds import SOURCES

MODULES = {
    ".".join(path.relative_to(SOURCES).with_suffix("").parts): path.with_suffix("")
    for path in sorted(SOURCES.rglob("*.pxd"))
}

_CLASS = re.compile(r"cdef class (\w+)(?:\(\w+\))?:")
_ATTRIBUTE = re.compile(r"cdef (?:public |readonly )?[\w ]+[ *](\w+)(?:\[\d+\])?")
_VARIABLES = re.compile(r"cdef (?:\w+ )+?(\w+(?:, \w+)*)")
_FUNCTION = re.compile(r"(?:cdef|cpdef) (?:[\w ]+[ *])?(\w+)\((.*)\)(?: noexcept| except.*)?")
_LOCALS = re.compile(r"@cython\.locals\((.*)\)")

Parameters = list[tuple[str, bool]]
"""Name of each parameter, and whether it has a default."""


@attrs.define
class Function:
    parameters: Parameters
    locals: set[str] = attrs.field(factory=set)
    """Names of its variables: those with a C type in a `.pxd`, all of them in a `.py`."""


@attrs.define
class Scope:
    """A module or a class."""

    names: set[str] = attrs.field(factory=set)
    """Slots of a class, variables of a module."""
    bases: list[str] = attrs.field(factory=list)
    """Names of the base classes in a `.py`."""
    assigned: set[str] = attrs.field(factory=set)
    """Attributes that `__init__` sets."""
    functions: dict[str, Function] = attrs.field(factory=dict)
    classes: dict[str, "Scope"] = attrs.field(factory=dict)


def statements(text: str) -> list[str]:
    """Return the lines of a `.pxd`, with statements that take several lines joined, and without comments."""
    joined: list[str] = []
    for line in re.sub(r"[ ]*#.*", "", text).splitlines():
        if joined and joined[-1].count("(") > joined[-1].count(")"):
            joined[-1] += " " + line.strip()
        elif line.strip():
            joined.append(line)
    return joined


def declared(text: str) -> Scope:
    """Return what a `.pxd` declares."""
    module = scope = Scope()
    local_names: set[str] = set()
    for statement in statements(text):
        line = statement.strip()
        if not statement.startswith(" "):
            scope = module
        if re.fullmatch(r"cdef class \w+", line):
            continue  # only announced
        if match := _LOCALS.fullmatch(line):
            local_names = set(re.findall(r"(\w+)=", match[1]))
        elif match := _CLASS.fullmatch(line):
            scope = module.classes[match[1]] = Scope()
        elif match := _FUNCTION.fullmatch(line):
            scope.functions[match[1]] = Function(parameters_declared(match[2]), local_names)
            local_names = set()
        elif scope is module and (match := _VARIABLES.fullmatch(line)):
            scope.names.update(match[1].split(", "))
        elif match := _ATTRIBUTE.fullmatch(line):
            scope.names.add(match[1])
        else:
            known = ("from ", "import ", "cimport ", "@cython.final", "pass")
            assert line.startswith(known), f"this test cannot read {line!r}"
    return module


def parameters_declared(text: str) -> Parameters:
    """Return the parameters of a function in a `.pxd`."""
    found = [re.fullmatch(r".*?(\w+)(=\*)?", part.strip()) for part in text.split(",") if part.strip()]
    return [(match[1], match[2] is not None) for match in found if match is not None]


def defined(body: list[ast.stmt]) -> Scope:
    """Return what a module or class defines."""
    scope = Scope()
    for node in body:
        if isinstance(node, ast.ClassDef):
            scope.classes[node.name] = defined(node.body)
            scope.classes[node.name].bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        elif isinstance(node, ast.FunctionDef):
            scope.functions[node.name] = Function(parameters_defined(node.args), variables(node))
            if node.name == "__init__":
                scope.assigned = attributes_set(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.ImportFrom)):
            scope.names |= names_bound(node)
    return scope


def parameters_defined(arguments: ast.arguments) -> Parameters:
    """Return the parameters of a function in a `.py`."""
    names = [argument.arg for argument in arguments.args]
    required = len(names) - len(arguments.defaults)
    return [(name, place >= required) for place, name in enumerate(names)]


def variables(function: ast.FunctionDef) -> set[str]:
    """Return the names of parameters and local variables."""
    stored = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {argument.arg for argument in function.args.args}


def attributes_set(function: ast.FunctionDef) -> set[str]:
    """Return the names of the attributes that a method sets on `self`."""
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if isinstance(node.value, ast.Name) and node.value.id == "self"
    }


def names_bound(node: ast.Assign | ast.AnnAssign | ast.ImportFrom) -> set[str]:
    """Return the names that a statement of a module or class binds: those in the value, if it is `__slots__`."""
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    if names == {"__slots__"}:
        assert node.value is not None
        slots = ast.literal_eval(node.value)
        return {slots} if isinstance(slots, str) else set(slots)
    return names


DECLARED = {name: declared(path.with_suffix(".pxd").read_text()) for name, path in MODULES.items()}
DEFINED = {name: defined(ast.parse(path.with_suffix(".py").read_text()).body) for name, path in MODULES.items()}
CLASSES = {name: scope for module in DEFINED.values() for name, scope in module.classes.items()}


def lineage(name: str) -> list[Scope]:
    """Return the class of that name and its bases, as far as they are in modules with a `.pxd`."""
    if name not in CLASSES:
        return []
    return [CLASSES[name], *(scope for base in CLASSES[name].bases for scope in lineage(base))]


def compared(module: str, names: set[str]) -> set[str]:
    """Return the names that a `.pxd` and a `.py` must share: not the private ones if a `.pyx` is compiled instead."""
    if MODULES[module].with_suffix(".pyx").exists():
        names = {name for name in names if not name.startswith("_")}
    return names - {"__weakref__"}


def check(declaration: Function, definition: Function, name: str) -> None:
    assert declaration.parameters == definition.parameters, name
    assert declaration.locals <= definition.locals, f"{name} has no such variable"


@pytest.mark.parametrize("module", MODULES)
def test_pxd_declares_the_slots_of_each_class(module: str) -> None:
    for name, scope in DECLARED[module].classes.items():
        assert compared(module, scope.names) == compared(module, DEFINED[module].classes[name].names), name


@pytest.mark.parametrize("module", MODULES)
def test_init_sets_slots_of_its_class_and_the_bases_only(module: str) -> None:
    for name in DECLARED[module].classes:
        assert CLASSES[name].assigned <= {slot for scope in lineage(name) for slot in scope.names}, name


@pytest.mark.parametrize("module", MODULES)
def test_pxd_declares_methods_with_the_parameters_that_they_have(module: str) -> None:
    for name, scope in DECLARED[module].classes.items():
        for method, declaration in scope.functions.items():
            owner = next(owner for owner in lineage(name) if method in owner.functions)
            check(declaration, owner.functions[method], f"{name}.{method}")


@pytest.mark.parametrize("module", MODULES)
def test_pxd_declares_functions_with_the_parameters_that_they_have(module: str) -> None:
    for name, declaration in DECLARED[module].functions.items():
        check(declaration, DEFINED[module].functions[name], name)


@pytest.mark.parametrize("module", MODULES)
def test_pxd_declares_variables_that_the_module_has(module: str) -> None:
    assert DECLARED[module].names <= DEFINED[module].names


def test_pxd_is_read_whole() -> None:
    parser = DECLARED["wire.parser"].classes["Parser"]
    assert {"_partial_header", "_mask_bit", "frame", "has_control"} <= parser.names
    receive = parser.functions["_receive_frame"]
    assert receive.parameters == [(name, False) for name in ("self", "data", "pos", "end", "events")]
    assert {"b", "first", "second", "i"} <= receive.locals
    connection = DECLARED["connection"].classes["Connection"]
    assert connection.functions["fail"].parameters[-1] == ("detail", True)
