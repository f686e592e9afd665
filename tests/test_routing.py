"""`Router`: which handler gets a connection, with which parameters, and which requests get 404."""

import functools
import logging
from collections.abc import Mapping
from uuid import UUID

import pytest

import streamws
from helpers.fixtures import Connect, Serve
from helpers.frames import TEXT, request, text
from helpers.processes import output_of
from streamws import Client, MissingExtra, Request, Response, Router, UsageError, connect
from streamws.hints import ROUTER_HINTS
from streamws.routing import RouteHandler


async def tell(client: Client, **parameters: object) -> None:
    """Send the parameters to the client."""
    await client.send(repr(parameters))


def get(path: str, fields: Mapping[str, str] | None = None) -> bytes:
    return request(fields, target=path)


def parameters(router: Router, path: str) -> Mapping[str, object] | None:
    """Return the parameters that the handler of a path gets; None if there is no route."""
    found = router.find(path)
    return found.keywords if isinstance(found, functools.partial) else None if found is None else {}


def routed(*rules: str) -> Router:
    """Make a router with these rules."""
    router = Router()
    for rule in rules:
        router.route(rule)(tell)
    return router


# Connections -------------------------------------------------------------------------------------------------------


async def test_server_calls_the_handler_of_the_path_with_its_parameters(serve: Serve, connect: Connect) -> None:
    router = Router()

    @router.route("/rooms/<name>/<int:seat>")
    async def room(client: Client, name: str, seat: int) -> None:
        await client.send(f"{name!r} {seat!r} {client.request.path}")

    @router.route("/")
    async def root(client: Client) -> None:
        await client.send("root")

    server = await serve(router)
    raw = await connect(server, get("/rooms/red/7?seat=9"))
    assert await raw.read_frame() == (TEXT, b"'red' 7 /rooms/red/7")
    raw = await connect(server, get("/?a=b"))
    assert await raw.read_frame() == (TEXT, b"root")


async def test_server_answers_404_before_the_handshake(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(routed("/rooms/<name>"))
    raw = await connect(server, upgrade=False)
    with caplog.at_level(logging.INFO, "streamws"):
        await raw.send(get("/room/red?token=secret"))
        answer = await raw.read_answer()
    assert (answer.status, answer.reason, answer.body) == (404, "Not Found", b"no route for /room/red\n")
    assert answer.headers["connection"] == "close"
    assert "location" not in answer.headers
    assert await raw.read_until_eof() == b""
    assert "secret" not in caplog.text
    host, port = raw.address
    assert caplog.messages == [f"{host}:{port} refused with 404: no route for /room/red"]


async def test_client_learns_that_there_is_no_route(serve: Serve) -> None:
    server = await serve(routed("/chat"))
    with pytest.raises(streamws.HandshakeRefused, match="404 Not Found: no route for /"):
        await connect(f"ws://127.0.0.1:{server.port}/")


async def test_server_asks_for_the_route_last(serve: Serve, connect: Connect) -> None:
    asked = []

    def check(request: Request) -> Response | None:
        asked.append(request.path)
        return Response(401) if request.path == "/secret" else None

    server = await serve(routed("/chat"), request=check, hosts=["localhost"], origins=["https://good.example"])
    statuses = []
    for path, fields in [
        ("/secret", {}),
        ("/nowhere", {"Host": "evil.example"}),
        ("/nowhere", {"Origin": "https://evil.example"}),
        ("/nowhere", {"Sec-WebSocket-Version": "8"}),
        ("/nowhere", {}),
        ("/chat", {}),
    ]:
        raw = await connect(server, upgrade=False)
        await raw.send(get(path, {"Host": "localhost", **fields}))
        statuses.append((await raw.read_answer()).status)
    assert statuses == [401, 400, 403, 426, 404, 101]
    assert asked == ["/secret", "/nowhere", "/nowhere", "/nowhere", "/nowhere", "/chat"]


async def test_handler_of_a_route_owns_its_connection(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    @router.route("/end/<int:code>")
    async def end(client: Client, code: int) -> None:
        if code == 1011:
            raise ValueError("a mistake")

    server = await serve(router)
    for code in (1000, 1011):
        raw = await connect(server, get(f"/end/{code}"))
        assert (await raw.read_frame())[1][:2] == code.to_bytes(2, "big")
    assert "the handler raised" in caplog.text


async def test_router_serves_routes_that_are_added_later(serve: Serve, connect: Connect) -> None:
    router = Router()
    server = await serve(router)
    router.route("/late")(tell)
    raw = await connect(server, get("/late"))
    assert await raw.read_frame() == (TEXT, b"{}")


async def test_method_can_be_a_handler(serve: Serve, connect: Connect) -> None:
    class Rooms:
        async def enter(self, client: Client, name: str) -> None:
            async for message in client:
                await client.send(f"{name}: {message!r}")

    router = Router()
    router.route("/<name>")(Rooms().enter)
    raw = await connect(await serve(router), get("/red"))
    await raw.send(text("hi"))
    assert await raw.read_frame() == (TEXT, b"red: 'hi'")


# Matching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "path", "expected"),
    [
        ("/rooms/<name>", "/rooms/red", {"name": "red"}),
        ("/rooms/<name>", "/rooms/a+b%20c", {"name": "a+b c"}),
        ("/rooms/<name>", "/rooms/%C3%A4", {"name": "ä"}),
        ("/r\u00e4ume/<name>", "/r%c3%a4ume/x", {"name": "x"}),
        ("/rooms/<name>", "/%72ooms/red", {"name": "red"}),
        ("/rooms/<name>", "/rooms/a%2Fb%2fc", {"name": "a/b/c"}),
        ("/rooms/<name>", "/rooms/a%252Fb", {"name": "a%2Fb"}),
        ("/files/<path:file>", "/files/a/b%2Fc/", {"file": "a/b/c/"}),
        ("/users/<int:id>", "/users/007", {"id": 7}),
        ("/at/<float:place>", "/at/1.5", {"place": 1.5}),
        ("/at/<float(min=1, max=2.5):place>", "/at/1.5", {"place": 1.5}),
        ("/<int(fixed_digits=2, signed=True):id>", "/-7", {"id": -7}),
        ("/<any(red, blue):color>", "/blue", {"color": "blue"}),
        (
            "/<uuid:key>",
            "/00000000-0000-0000-0000-0000000000ff",
            {"key": UUID(int=255)},
        ),
        ("/<kind>-<int:id>.json", "/user-5.json", {"kind": "user", "id": 5}),
        ("/a/", "/a/", {}),
        ("/a//b", "/a//b", {}),
        ("//a", "//a", {}),
        ("/.", "/.", {}),
        ("/files/<path:file>", "/files/./.", {"file": "./."}),
        ("/a", "/a", {}),
    ],
)
def test_route_matches(rule: str, path: str, expected: Mapping[str, object]) -> None:
    assert parameters(routed(rule), path) == expected


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("/a", "/a/"),
        ("/a/", "/a"),
        ("/a", "//a"),
        ("/a/b", "/a//b"),
        ("/a", "/A"),
        ("/a", "a"),
        ("/a", "*"),
        ("/a", ""),
        ("/a/b", "/a%2Fb"),
        ("/rooms/<name>", "/rooms/"),
        ("/rooms/<name>", "/rooms/a/b"),
        ("/rooms/<name>", "/rooms/%ff"),
        ("/rooms/<name>", "/rooms/%ed%a0%af"),  # a surrogate in UTF-8
        ("/users/<int:id>", "/users/-1"),
        ("/users/<int:id>", "/users/" + "9" * 5000),
        ("/users/<int(max=5):id>", "/users/6"),
        ("/<any(red, blue):color>", "/green"),
    ],
)
def test_route_does_not_match(rule: str, path: str) -> None:
    assert parameters(routed(rule), path) is None


def test_rule_with_more_fixed_text_wins() -> None:
    router = routed("/<path:rest>", "/rooms/<name>", "/rooms/new")
    assert parameters(router, "/rooms/new") == {}
    assert parameters(router, "/rooms/old") == {"name": "old"}
    assert parameters(router, "/rooms/old/1") == {"rest": "rooms/old/1"}


def test_paths_match_exactly_also_if_a_rule_with_a_slash_at_its_end_is_similar() -> None:
    router = routed("/a/", "/<name>", "/<path:rest>/")
    assert parameters(router, "/a/") == {}
    assert parameters(router, "/a") == {"name": "a"}
    assert parameters(router, "/b") == {"name": "b"}
    assert parameters(router, "/b/") == {"rest": "b"}
    assert parameters(router, "/b/c") is None


# Registration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("rooms", "must start with a slash"),
        ("", "must start with a slash"),
        ("/<name", "malformed url rule"),
        ("/<number:name>", "the converter 'number' does not exist$"),
        ("/<int(size=1):name>", "unexpected keyword argument 'size'"),
        ("/<int(max=many):id>", "max of 'id' must be a number, not 'many'"),
        ("/<int(min='1'):id>", "min of 'id' must be a number, not '1'"),
        ("/<int(two):id>", "fixed_digits of 'id' must be a number, not 'two'"),
        ("/<float(max=True):place>", "max of 'place' must be a number, not True"),
        ("/<float(signed=yes):place>", "signed of 'place' must be True or False, not 'yes'"),
        ("/<string(length=two):name>", "'two'"),
        ("/<any(1, 2):name>", "not a valid rule"),
        ("/<name>/<int:name>", "it has a parameter twice"),
        ("/rooms?name=<name>", r"without a query, not '\?'"),
        ("/a#b", "not '#'"),
        ("/r%C3%A4ume", "write the path decoded"),
    ],
)
def test_router_refuses_a_rule_that_is_not_valid(rule: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        Router().route(rule)
    assert repr(rule) in str(error.value)


def test_router_refuses_a_route_without_a_rule() -> None:
    with pytest.raises(TypeError, match=r'write @router.route\("/rooms/<name>"\)'):
        Router().route(tell)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a rule must be str, not bytes"):
        Router().route(b"/")  # type: ignore[arg-type]


async def no_parameter(client: Client) -> None: ...
async def other_parameter(client: Client, user: str) -> None: ...
async def client_missing(name: str) -> None: ...
async def positional(client: Client, name: str, /) -> None: ...
def plain(client: Client, name: str) -> None: ...


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (no_parameter, r"calls no_parameter\(client, name=...\): got an unexpected keyword argument 'name'"),
        (other_parameter, "missing a required argument: 'user'"),
        (client_missing, "multiple values for argument 'name'"),
        (positional, "positional"),
        (plain, "write `async def plain`"),
        ("text", "must be a coroutine function"),
    ],
)
def test_router_refuses_a_handler_that_does_not_take_the_parameters(handler: RouteHandler, reason: str) -> None:
    router = Router()
    with pytest.raises(TypeError, match=reason):
        router.route("/rooms/<name>")(handler)
    assert router.find("/rooms/red") is None


def test_handler_may_have_optional_parameters() -> None:
    async def handler(client: Client, name: str, more: int = 0) -> None: ...

    router = Router()
    assert router.route("/rooms/<name>")(handler) is handler
    assert parameters(router, "/rooms/red") == {"name": "red"}


def test_handler_may_have_several_routes() -> None:
    router = Router()

    @router.route("/")
    @router.route("/rooms/<name>")
    async def handler(client: Client, name: str = "lobby") -> None: ...

    assert parameters(router, "/") == {}
    assert parameters(router, "/rooms/red") == {"name": "red"}


@pytest.mark.parametrize("equal", ["/a/<int:id>", "/a/<int:number>"])
def test_router_refuses_two_equal_rules(equal: str) -> None:
    router = routed("/a/<int:id>", "/a/<id>", "/a/<path:id>", "/a/<int(max=5):id>")
    with pytest.raises(UsageError, match=r"there is a route for .* already: '/a/<int:id>' of tell"):
        router.route(equal)(tell)


@pytest.mark.parametrize("equal", ["/<b>", "/<string:b>", "/<default:b>"])
def test_names_of_parameters_do_not_make_rules_differ(equal: str) -> None:
    with pytest.raises(UsageError, match="there is a route"):
        routed("/<a>").route(equal)(tell)


# Routers in routers ------------------------------------------------------------------------------------------------


def test_included_routes_have_the_prefix() -> None:
    inner = routed("/rooms/<name>", "/")
    outer = routed("/")
    outer.include("/api/v1", inner)
    assert parameters(outer, "/api/v1/rooms/red") == {"name": "red"}
    assert parameters(outer, "/api/v1/") == {}
    assert parameters(outer, "/api/v1") is None
    assert parameters(outer, "/rooms/red") is None
    assert parameters(inner, "/rooms/red") == {"name": "red"}


def test_included_router_may_get_more_routes_later() -> None:
    inner, middle, outer = Router(), Router(), Router()
    middle.include("/b", inner)
    outer.include("/a", middle)
    outer.include("", inner)
    inner.route("/late")(tell)
    assert [path for path in ("/late", "/b/late", "/a/b/late", "/a/late") if outer.find(path)] == ["/late", "/a/b/late"]
    assert middle.find("/b/late")


def test_including_an_equal_rule_changes_nothing() -> None:
    inner, outer = routed("/first", "/same"), routed("/api/same")
    with pytest.raises(UsageError, match="there is a route for '/api/same' already"):
        outer.include("/api", inner)
    assert outer.find("/api/first") is None
    inner.route("/later")(tell)
    assert outer.find("/api/later") is None


def test_route_that_an_outer_router_has_already_is_added_nowhere() -> None:
    inner, outer = Router(), routed("/api/same")
    outer.include("/api", inner)
    with pytest.raises(UsageError, match="there is a route for '/api/same' already"):
        inner.route("/same")(tell)
    assert inner.find("/same") is None


def test_router_that_is_included_twice_with_the_same_prefixes_is_refused() -> None:
    inner, left, right, outer = Router(), Router(), Router(), Router()
    for middle in (left, right):
        middle.include("", inner)
        outer.include("", middle)
    with pytest.raises(UsageError, match="there is a route for '/twice' already"):
        inner.route("/twice")(tell)
    assert [router.find("/twice") for router in (inner, left, right, outer)] == [None] * 4


@pytest.mark.parametrize("prefix", ["api", "/", "/api/", "/<name>", "/a?b", "/%C3%A4"])
def test_router_refuses_a_prefix_that_is_not_valid(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"prefix|rule"):
        Router().include(prefix, Router())


def test_router_cannot_include_itself() -> None:
    inner, outer = Router(), Router()
    outer.include("/a", inner)
    for including, included in [(outer, outer), (inner, outer)]:
        with pytest.raises(UsageError, match="a router cannot include itself"):
            including.include("/b", included)


def test_router_shows_its_rules() -> None:
    assert repr(routed("/a", "/b/<int:c>")) == "<Router /a, /b/<int:c>>"
    assert repr(Router()) == "<Router without routes>"


@pytest.mark.parametrize(("name", "text"), ROUTER_HINTS.items())
def test_router_names_what_it_has_instead_of_what_others_have(name: str, text: str) -> None:
    router = Router()
    with pytest.raises(AttributeError) as error:
        getattr(router, name)
    assert str(error.value) == f"'Router' object has no attribute {name!r}: {text}"
    assert not hasattr(router, name)
    assert {"route", "include", "find"} <= set(dir(router))
    assert name not in dir(router)


# Without the extra -------------------------------------------------------------------------------------------------


async def test_werkzeug_is_loaded_only_with_router() -> None:
    program = """
import sys, streamws
from streamws import *
assert "Router" in dir(streamws)
print("werkzeug" in sys.modules)
streamws.Router
print("werkzeug" in sys.modules)
"""
    assert (await output_of(program)).split() == ["False", "True"]


WITHOUT = """
import sys
sys.modules["werkzeug"] = None
import streamws
try:
    {code}
except ImportError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("code", ["streamws.Router", "from streamws import Router", "import streamws.routing"])
async def test_router_without_werkzeug_says_what_to_install(code: str) -> None:
    expected = "MissingExtra streamws.Router needs werkzeug: pip install 'streamws[routing]'"
    assert (await output_of(WITHOUT.format(code=code))).strip() == expected


def test_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'streamws' has no attribute 'Rooter'"):
        streamws.Rooter  # type: ignore[attr-defined] # noqa: B018


def test_missing_extra_is_an_import_error() -> None:
    assert issubclass(MissingExtra, ImportError)
