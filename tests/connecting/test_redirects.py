"""Redirects: which are followed, and which fields and credentials are sent to the next server."""

import asyncio
import socket
import ssl as tls
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.attempts import failing
from helpers.frames import answer, server_close
from helpers.peers import Peer, Script, ScriptedServer, echo, full_listener, scripted, silent
from helpers.waiting import within
from streamws import ConnectTimeout, HandshakeRefused, RedirectError, Target, Timeouts, connect

Place = Callable[[], str]


def redirecting(places: dict[str, Place | str], *, status: str = "302 Found", field: str = "Location") -> Script:
    """Return a script that redirects some paths, and accepts all others."""

    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        path = head.split(b" ")[1].decode()
        if path in places:
            place = places[path]
            location = place if isinstance(place, str) else place()
            peer.write(answer(status, f"{field}: {location}", body=b"over there"))
            await peer.read_rest()
        else:
            peer.write(peer.acceptance())
            peer.write(server_close((await peer.read_close())[0]))

    return script


def lines(server: ScriptedServer) -> list[str]:
    """Return the request lines that the server received."""
    return [head.split(b"\r\n")[0].decode() for head in server.heads]


@pytest.mark.parametrize("status", ["301 X", "302 X", "303 X", "307 X", "308 X"])
@pytest.mark.parametrize("field", ["Location", "location"])
async def test_client_follows_redirect(status: str, field: str) -> None:
    script = redirecting({"/a?b": "/c?d"}, status=status, field=field)
    async with scripted(script) as server, connect(f"{server.url}/a?b") as client:
        assert client.request.target == "/c?d"
    assert lines(server) == ["GET /a?b HTTP/1.1", "GET /c?d HTTP/1.1"]
    keys = [peer.fields["sec-websocket-key"] for peer in server.peers]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("d", "/a/d"),
        ("../d", "/d"),
        ("./", "/a/"),
        ("?e", "/a/b?e"),
        ("//127.0.0.1:{port}/d", "/d"),
        ("ws://127.0.0.1:{port}/d", "/d"),
        ("http://127.0.0.1:{port}/d?e", "/d?e"),
        ("HTTP://127.0.0.1:{port}", "/"),
        ("/d#fragment", "/d"),
        ("/ü", "/%C3%BC"),
    ],
)
async def test_client_follows_location_in_each_form(location: str, target: str) -> None:
    server: ScriptedServer
    script = redirecting({"/a/b": lambda: location.format(port=server.port)})
    async with scripted(script) as server, connect(f"{server.url}/a/b") as client:
        assert client.request.target == target


async def test_client_follows_maximum_number_of_redirects() -> None:
    script = redirecting({"/0": "/1", "/1": "/2", "/2": "/3"})
    async with scripted(script) as server, connect(f"{server.url}/0", max_redirects=3):
        assert len(server.peers) == 4


async def test_client_refuses_redirect_over_maximum() -> None:
    async with scripted(redirecting({"/0": "/1", "/1": "/2", "/2": "/3"})) as server:
        error = await failing(f"{server.url}/0", RedirectError, max_redirects=2)
        assert len(server.peers) == 3
    assert str(error) == "cannot follow the redirect to '/3': more than 2 redirects (max_redirects)"
    assert (error.status, error.headers["location"], error.body) == (302, "/3", b"over there")
    assert isinstance(error.__cause__, HandshakeRefused)


@pytest.mark.parametrize("location", ["", "/", "?"])
async def test_client_detects_redirect_loop(location: str) -> None:
    async with scripted(redirecting({"/": location})) as server:
        error = await failing(server.url, RedirectError)
        assert len(server.peers) == 6
    assert str(error) == f"cannot follow the redirect to {location!r}: more than 5 redirects (max_redirects)"


async def test_client_follows_no_redirect_when_told_to() -> None:
    async with scripted(redirecting({"/": "/a"})) as server:
        error = await failing(server.url, HandshakeRefused, max_redirects=0)
    assert (error.status, error.headers["Location"], error.body) == (302, "/a", b"over there")


@pytest.mark.parametrize("status", ["300 X", "304 X", "305 X", "201 X"])
async def test_client_does_not_follow_other_status(status: str) -> None:
    async with scripted(redirecting({"/": "/a"}, status=status)) as server:
        await failing(server.url, HandshakeRefused)
        assert len(server.peers) == 1


async def test_redirect_without_location_is_refusal() -> None:
    async with scripted(redirecting({"/": "/a"}, field="Place")) as server:
        error = await failing(server.url, HandshakeRefused)
    assert str(error) == "302 Found: over there"


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("ftp://a/", "it must start with"),
        ("mailto:a@b.example", "it must start with"),
        ("//a:99999/", "its port must be a number from 1 to 65535"),
        ("https://", "it has no host"),
        ("/a b", "it contains a space or a control character"),
        ("//[::1/", "its host is malformed"),
    ],
)
async def test_client_refuses_redirect_to_invalid_location(location: str, why: str) -> None:
    async with scripted(redirecting({"/": location})) as server:
        error = await failing(server.url, RedirectError)
    assert str(error).startswith(f"cannot follow the redirect to {location!r}: ")
    assert why in str(error)
    assert error.status == 302


async def test_error_does_not_show_password_of_location() -> None:
    async with scripted(redirecting({"/": "ftp://user:secret@a/"})) as server:
        error = await failing(server.url, RedirectError)
    assert "secret" not in str(error) + repr(error.__cause__)
    assert "***@" in str(error)


async def test_client_times_out_when_server_stalls_after_redirect() -> None:
    with full_listener() as (host, port):
        async with scripted(redirecting({"/": f"ws://{host}:{port}/"})) as server:
            error = await failing(server.url, ConnectTimeout, timeouts=Timeouts(open=0.15))
    assert str(error) == f"not connected within 0.15 s (Timeouts.open); still waiting for a connection to {host}:{port}"


async def test_one_deadline_covers_all_redirects() -> None:
    async with scripted(silent) as slow, scripted(redirecting({"/": lambda: slow.url})) as server:
        error = await failing(server.url, ConnectTimeout, timeouts=Timeouts(open=0.15))
    assert str(error).endswith(f"the response of 127.0.0.1:{slow.port}")


# Secrets --------------------------------------------------------------------------------------------------------

SECRETS = {"Authorization": "Bearer secret", "cookie": "a=secret", "Proxy-Authorization": "secret"}
OTHERS = {"X-One": "1", "Host": "example.org"}


@pytest.mark.parametrize("in_target", [False, True])
async def test_client_sends_no_secrets_to_other_origin(in_target: bool) -> None:
    async with scripted(echo) as other, scripted(redirecting({"/": lambda: f"{other.url}/"})) as server:
        headers = SECRETS | OTHERS
        if in_target:
            way = connect(lambda: Target(server.url, headers), origin="http://a", subprotocols=["b.secret"])
        else:
            way = connect(server.url, headers=headers, origin="http://a", subprotocols=["b.secret"])
        async with way:
            pass
    (first,), (second,) = server.peers, other.peers
    assert all(first.fields[name.lower()] == value for name, value in headers.items())
    assert first.fields["sec-websocket-protocol"] == "b.secret"
    assert b"secret" not in second.head
    assert second.fields["host"] == f"127.0.0.1:{other.port}"
    assert "x-one" not in second.fields  # any field of the application may be a secret
    assert second.fields["origin"] == "http://a"
    assert "sec-websocket-protocol" not in second.fields  # many servers want tokens there


async def test_client_sends_no_credentials_of_url_to_other_origin() -> None:
    async with (
        scripted(echo) as other,
        scripted(redirecting({"/": lambda: other.url})) as server,
        connect(server.url.replace("//", "//user:secret@")),
    ):
        pass
    assert "authorization" in server.peers[0].fields
    assert "authorization" not in other.peers[0].fields


async def test_client_sends_credentials_of_location_to_other_origin() -> None:
    async with scripted(echo) as other:
        location = other.url.replace("//", "//a:b@")
        async with scripted(redirecting({"/": location})) as server, connect(server.url):
            pass
    assert other.peers[0].fields["authorization"] == "Basic YTpi"


async def test_client_sends_no_secrets_when_other_origin_redirects_back() -> None:
    server: ScriptedServer
    async with (
        scripted(redirecting({"/": lambda: f"{server.url}/back"})) as other,
        scripted(redirecting({"/": lambda: other.url})) as server,
        connect(server.url.replace("//", "//user:secret@"), headers=SECRETS | {"Authorization": "Bearer secret"}),
    ):
        assert len(server.peers) == 2
    assert b"secret" in server.heads[0]
    assert b"secret" not in other.heads[0] + server.heads[1]


async def test_client_sends_all_fields_to_same_origin() -> None:
    script = redirecting({"/": "/a"})
    async with (
        scripted(script) as server,
        connect(server.url, headers=SECRETS | OTHERS, subprotocols=["b.secret"]),
    ):
        pass
    for peer in server.peers:
        assert peer.fields["sec-websocket-protocol"] == "b.secret"
        assert all(peer.fields[name.lower()] == value for name, value in (SECRETS | OTHERS).items())


async def test_client_sends_credentials_of_url_to_same_origin() -> None:
    server: ScriptedServer
    script = redirecting({"/": lambda: f"http://127.0.0.1:{server.port}/a"})
    async with scripted(script) as server, connect(server.url.replace("//", "//user:secret@")):
        pass
    assert [peer.fields["authorization"] for peer in server.peers] == ["Basic dXNlcjpzZWNyZXQ="] * 2


# Schemes and sockets----------------------------------------------------------------------------------------------


async def test_client_refuses_redirect_from_wss_to_ws(
    server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with scripted(redirecting({"/": "http://127.0.0.1:1/"}), ssl=server_context) as server:
        error = await failing(server.url, RedirectError, ssl=client_context)
    assert (
        str(error)
        == "cannot follow the redirect to 'http://127.0.0.1:1/': it leads from wss:// to ws://, which is not encrypted"
    )


async def test_client_follows_redirect_from_wss_to_wss(
    server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with (
        scripted(echo, ssl=server_context) as other,
        scripted(redirecting({"/": lambda: other.url.replace("wss:", "https:")}), ssl=server_context) as server,
        connect(server.url, ssl=client_context, headers=SECRETS) as client,
    ):
        assert client.port == other.port
    assert b"secret" not in other.heads[0]


async def test_client_follows_redirect_from_ws_to_wss(
    server_context: tls.SSLContext, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting() -> tls.SSLContext:
        return tls.create_default_context(cafile=str(certificate[0]))

    monkeypatch.setattr("streamws.connecting.routes._default_context", trusting)
    async with (
        scripted(echo, ssl=server_context) as other,
        scripted(redirecting({"/": lambda: other.url})) as server,
        connect(server.url, headers=SECRETS) as client,
    ):
        assert client.port == other.port
    assert b"secret" not in other.heads[0]


async def test_server_hostname_applies_only_to_first_origin(
    server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    names = []
    server_context.sni_callback = lambda _, name, context: names.append(name)
    async with (
        scripted(echo, ssl=server_context) as other,
        scripted(redirecting({"/": lambda: other.url}), ssl=server_context) as server,
        connect(server.url, ssl=client_context, server_hostname="localhost"),
    ):
        pass
    assert names == ["localhost", None]  # SNI does not contain IP addresses (RFC 6066 section 3)


async def test_client_refuses_redirect_to_other_origin_over_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with scripted(redirecting({"/": "http://other.example/"}), path=path):
        error = await failing("ws://localhost", RedirectError, path=path)
    assert (
        str(error)
        == "cannot follow the redirect to 'http://other.example/': it leads to another server than sock= or path="
    )


async def test_client_follows_redirect_within_server_of_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with scripted(redirecting({"/": "/a"}), path=path) as server, connect("ws://localhost", path=path):
        assert len(server.peers) == 2


async def test_client_refuses_redirect_on_given_socket() -> None:
    async with scripted(redirecting({"/": "/a"})) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        error = await failing("ws://example.org", RedirectError, sock=sock)
    assert str(error) == "cannot follow the redirect to '/a': sock= can be used for one connection only"


async def test_attempt_cancelled_after_redirect_leaves_nothing_open() -> None:
    async with scripted(silent) as slow, scripted(redirecting({"/": lambda: slow.url})) as server:

        async def attempt() -> None:
            await connect(server.url)

        task = asyncio.create_task(attempt())
        await within(slow.peer())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)
