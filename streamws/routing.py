"""`Router`: a handler for each path. It needs werkzeug (the extra `routing`), so it is imported only when used."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Concatenate, TypeVar
from urllib.parse import unquote

from .client import Client
from .errors import MissingExtra, UsageError
from .hints import ROUTER_HINTS, add_hints
from .serving import Handler, Routes, check_handler

try:
    from werkzeug.exceptions import HTTPException
    from werkzeug.routing import BaseConverter, FloatConverter, IntegerConverter, Map, Rule
except ImportError as _error:
    raise MissingExtra("streamws.Router needs werkzeug: pip install 'streamws[routing]'") from _error

RouteHandler = Callable[Concatenate[Client, ...], Awaitable[None]]

_OnRoute = TypeVar("_OnRoute", bound=RouteHandler)

_VARIABLE = re.compile(r"<(?:([^<>]*):)?(\w+)>")
_NOT_IN_PATH = re.compile("[?#]|%[0-9A-Fa-f]{2}")
_ENCODED_SLASH = re.compile("%2[Ff]")
_SLASH = "\ud82f"
"""Stands for a percent-encoded slash while a path is matched. No percent-encoded path decodes to a lone surrogate."""


class Router(Routes):
    """Chooses the handler of each connection by the path of its request: `WebSocketServer(..., handler=router)`.

    Rules are those of werkzeug: `"/rooms/<name>"`, `"/users/<int:id>"`, `"/files/<path:file>"`. Parameters are passed
    to the handler as keyword arguments. A path without a route gets 404 before the handshake.

    Paths are matched exactly, after percent-decoding: a slash at the end counts, and there are no redirects. If several
    rules match, the one with more fixed text wins.
    """

    __slots__ = ("_map", "_parents", "_rules", "_urls")

    def __init__(self) -> None:
        self._map = Map(merge_slashes=False, redirect_defaults=False)
        self._urls = self._map.bind("")
        self._rules: dict[str, tuple[str, RouteHandler]] = {}  # by their patterns, which have no names of parameters
        self._parents: list[tuple[str, Router]] = []  # the routers that include this one, with the prefix

    def __repr__(self) -> str:
        return f"<Router {', '.join(rule for rule, handler in self._rules.values()) or 'without routes'}>"

    def route(self, rule: str) -> Callable[[_OnRoute], _OnRoute]:
        """Decorator: call the coroutine function with the `Client` of each connection whose path matches the rule.

        The function owns the connection, like the `handler` of a `WebSocketServer`. It gets the parameters of the rule
        as keyword arguments. A function may have several routes. Returns the function unchanged.

        :param rule: the path, not percent-encoded. `<name>` is text without a slash. Other types are `<int:name>`,
            `<float:name>`, `<uuid:name>`, `<any(red, blue):name>`, and `<path:name>`, which may contain slashes.
        :raises ValueError: if the rule is not valid.
        :raises TypeError: if the function is not a coroutine function, or does not take these parameters.
        :raises UsageError: if there is an equal rule already.
        """
        if callable(rule):
            raise TypeError('a route needs a rule: write @router.route("/rooms/<name>")')
        _check_rule(rule)

        def register(handler: _OnRoute) -> _OnRoute:
            check_handler(handler)
            _check_parameters(rule, handler)
            self._add([(rule, handler)])
            return handler

        return register

    def include(self, prefix: str, router: "Router") -> None:
        """Add all routes of another router, including those that it gets later, with a prefix before their rules.

        :param prefix: the prefix, such as "/api", without parameters and without a slash at its end; "" for none.
        :raises ValueError: if the prefix is not valid.
        :raises UsageError: if there is an equal rule already, or if the other router includes this one.
        """
        if prefix and (not prefix.startswith("/") or prefix.endswith("/") or "<" in prefix):
            raise ValueError(f'a prefix must be like "/api", without parameters and a slash at its end, not {prefix!r}')
        _check_rule(prefix or "/")
        if any(included is router for _, included in self._with_parents()):
            raise UsageError("a router cannot include itself")
        self._add([(prefix + rule, handler) for rule, handler in router._rules.values()])
        router._parents.append((prefix, self))

    def find(self, path: str) -> Handler | None:
        """Return the handler for a path, with its parameters bound; None if there is no route.

        :param path: the path as in `Request.path`, percent-encoded.
        """
        try:
            text = unquote(_ENCODED_SLASH.sub(_SLASH, path), errors="strict")
            handler, values = self._urls.match(_enclosed(text))
        except (HTTPException, ValueError):  # no route, not UTF-8, or a number of thousands of digits
            return None
        found: Handler = handler
        if values:
            found = partial(handler, **{name: _with_slashes(value) for name, value in values.items()})
        return found

    def _with_parents(self, prefix: str = "") -> "list[tuple[str, Router]]":
        """Return this router and all that include it, with the prefixes that rules of this one have there."""
        found = [(prefix, self)]
        for outer, parent in self._parents:
            found += parent._with_parents(outer + prefix)
        return found

    def _add(self, routes: list[tuple[str, RouteHandler]]) -> None:
        """Add routes here and in all routers that include this one, or nowhere."""
        added: dict[tuple[Router, str], tuple[str, RouteHandler]] = {}
        for prefix, router in self._with_parents():
            for rule, handler in routes:
                pattern = _pattern(prefix + rule)
                equal = router._rules.get(pattern) or added.get((router, pattern))
                if equal is not None:
                    other, owner = equal
                    name = getattr(owner, "__qualname__", repr(owner))
                    raise UsageError(f"there is a route for {prefix + rule!r} already: {other!r} of {name}")
                added[router, pattern] = prefix + rule, handler
        for (router, pattern), (rule, handler) in added.items():
            router._rules[pattern] = rule, handler
            router._map.add(Rule(_enclosed(rule), endpoint=handler))


def _enclosed(path: str) -> str:
    """Return a path or rule between two parts that are always the same.

    werkzeug treats slashes at the beginning and the end of a path specially. Enclosed ones are matched exactly.
    """
    return f"/.{path}/."


def _with_slashes(value: object) -> object:
    return value.replace(_SLASH, "/") if isinstance(value, str) else value


def _pattern(rule: str) -> str:
    """Return the rule without the names of its parameters: equal rules have equal patterns."""
    return _VARIABLE.sub(lambda found: f"<{'' if found[1] in (None, 'default', 'string') else found[1]}>", rule)


class _CheckedRule(Rule):
    """A rule that checks the arguments of its numbers. werkzeug itself would fail when it matches a path."""

    def get_converter(
        self, variable_name: str, converter_name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> BaseConverter:
        """Make the converter of a parameter.

        :raises TypeError: if one of its arguments has the wrong type.
        """
        converter = super().get_converter(variable_name, converter_name, args, kwargs)
        if isinstance(converter, (IntegerConverter, FloatConverter)):
            for name in ("fixed_digits", "min", "max"):
                value: object = getattr(converter, name)
                if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                    raise TypeError(f"{name} of {variable_name!r} must be a number, not {value!r}")
            if not isinstance(converter.signed, bool):
                raise TypeError(f"signed of {variable_name!r} must be True or False, not {converter.signed!r}")
        return converter


def _check_rule(rule: str) -> None:
    """Check a rule.

    :raises ValueError: if it cannot be parsed, can never match, or has a parameter twice.
    :raises TypeError: if it is not `str`.
    """
    if not isinstance(rule, str):
        raise TypeError(f"a rule must be str, not {type(rule).__name__}")
    names = [found[2] for found in _VARIABLE.finditer(rule)]
    if len(set(names)) < len(names):
        raise ValueError(f"{rule!r} is not a valid rule: it has a parameter twice")
    try:
        Map([_CheckedRule(rule)])
    except (ValueError, LookupError, TypeError, SyntaxError, re.error) as error:
        # A TypeError is one of a converter, about its arguments. A LookupError has quotes around its text.
        reason = error.args[0] if isinstance(error, LookupError) else error
        raise ValueError(f"{rule!r} is not a valid rule: {reason}") from error
    wrong = _NOT_IN_PATH.search(_VARIABLE.sub("", rule))
    if wrong:
        raise ValueError(f"{rule!r} is not a valid rule: write the path decoded and without a query, not {wrong[0]!r}")


def _check_parameters(rule: str, handler: RouteHandler) -> None:
    """Check whether a handler takes the parameters of its rule.

    :raises TypeError: if it does not.
    """
    try:
        signature = inspect.signature(handler)
    except ValueError:  # some built-in functions have none
        return
    names = [found[2] for found in _VARIABLE.finditer(rule)]
    try:
        signature.bind(None, **dict.fromkeys(names))
    except TypeError as error:
        name = getattr(handler, "__qualname__", repr(handler))
        call = ", ".join(["client", *(f"{parameter}=..." for parameter in names)])
        raise TypeError(f"{name} cannot be the handler of {rule!r}, which calls {name}({call}): {error}") from error


add_hints(Router, ROUTER_HINTS)
