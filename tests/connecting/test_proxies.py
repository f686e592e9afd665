"""Proxies: connecting through them, their refusals, and those that the environment selects."""

import asyncio
import re
import socket
import ssl as tls
from typing import Any

import pytest

from helpers.attempts import failing
from helpers.frames import answer
from helpers.peers import Peer, answering, echo, full_listener, scripted, silent
from helpers.processes import free_port
from helpers.proxies import proxy_server
from helpers.waiting import within
from streamws import (
    ConnectTimeout,
    InvalidURL,
    ProxyError,
    Timeouts,
    connect,
    is_transient,
)
from streamws.connecting import proxies
from streamws.connecting.proxies import Proxy, parse_proxy, proxy_of_environment
from streamws.handshake.url import parse_url

SOON = Timeouts(open=0.15)
KINDS = ["http", "socks4", "socks4a", "socks5", "socks5h"]


# Through --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_client_opens_through_proxy(kind: str) -> None:
    async with (
        scripted(echo) as server,
        proxy_server(kind) as proxy,
        connect(server.url, proxy=proxy.url(kind)) as client,
    ):
        await client.send("a" * 100)
        assert await within(client.read_message()) == "a" * 100
    assert proxy.asked == [("127.0.0.1", server.port)]
    assert client.outcome is not None
    assert client.outcome.clean


@pytest.mark.parametrize("kind", KINDS)
async def test_client_opens_tls_through_proxy(
    kind: str, server_context: tls.SSLContext, client_context: tls.SSLContext
) -> None:
    async with (
        scripted(echo, ssl=server_context) as server,
        proxy_server(kind) as proxy,
        connect(server.url, proxy=proxy.url(kind), ssl=client_context) as client,
    ):
        await client.send("a" * 100)
        assert await within(client.read_message()) == "a" * 100


@pytest.mark.parametrize("kind", ["http", "socks4a", "socks5", "socks5h"])
async def test_proxy_resolves_the_host(kind: str) -> None:
    async with (
        scripted(echo) as server,
        proxy_server(kind, target=("127.0.0.1", server.port)) as proxy,
        connect("ws://known-to-the-proxy.example/a", proxy=proxy.url(kind)),
    ):
        pass
    assert proxy.asked == [("known-to-the-proxy.example", 80)]
    assert server.peers[0].fields["host"] == "known-to-the-proxy.example"


async def test_client_resolves_the_host_for_socks4() -> None:
    async with (
        scripted(echo) as server,
        proxy_server("socks4") as proxy,
        connect(f"ws://localhost:{server.port}", proxy=proxy.url("socks4")),
    ):
        pass
    assert proxy.asked == [("127.0.0.1", server.port)]


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize(("host", "told"), [("::1", "::1"), ("fe80::1%25lo", "fe80::1")])
async def test_client_sends_ipv6_address_without_zone_to_the_proxy(kind: str, host: str, told: str) -> None:
    async with (
        scripted(echo) as server,
        proxy_server(kind, target=("127.0.0.1", server.port)) as proxy,
        connect(f"ws://[{host}]:81", proxy=proxy.url(kind)),
    ):
        pass
    assert proxy.asked == [(f"[{told}]" if kind == "http" else told, 81)]


async def test_client_sends_no_headers_for_the_server_to_the_proxy() -> None:
    async with scripted(echo) as server, proxy_server("http") as proxy:
        url = server.url.replace("//", "//user:secret@") + "/path?token=secret"
        async with connect(url, proxy=proxy.url("http"), user_agent="thing", headers={"Cookie": "secret"}):
            pass
    place = f"127.0.0.1:{server.port}"
    assert proxy.heads == [f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: thing\r\n\r\n".encode()]
    assert b"roxy" not in server.heads[0]


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
async def test_client_sends_proxy_authorization_from_the_url(kind: str) -> None:
    async with (
        scripted(echo) as server,
        proxy_server(kind, credentials=("us@er", "pa:ss")) as proxy,
        connect(server.url, proxy=proxy.url(kind, "us%40er:pa%3Ass@")),
    ):
        pass
    assert "authorization" not in server.peers[0].fields
    assert b"Proxy-Authorization" not in server.heads[0]


async def test_client_sends_the_user_to_socks4() -> None:
    async with (
        scripted(echo) as server,
        proxy_server("socks4", credentials=("user", "")) as proxy,
        connect(server.url, proxy=proxy.url("socks4", "user@")),
    ):
        pass


@pytest.mark.parametrize("kind", KINDS)
async def test_client_connects_to_the_proxy_from_a_local_address(kind: str) -> None:
    async with (
        scripted(echo) as server,
        proxy_server(kind) as proxy,
        connect(server.url, proxy=proxy.url(kind), local_address=("127.0.0.2", 0)),
    ):
        pass
    assert proxy.clients[0][0] == "127.0.0.2"


async def test_client_follows_each_redirect_through_the_proxy() -> None:
    async def script(peer: Peer) -> None:
        head = await peer.read_head()
        if b" /a " in head:
            peer.write(peer.acceptance())
            await peer.close_after_client()
        else:
            peer.write(answer("302 Found", "Location: http://other.example/a"))
            await peer.read_rest()

    async with (
        scripted(script) as server,
        proxy_server("http", target=("127.0.0.1", server.port)) as proxy,
        connect("ws://first.example", proxy=proxy.url("http")),
    ):
        pass
    assert proxy.asked == [("first.example", 80), ("other.example", 80)]


# Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "why"),
    [
        (answer("407 X", body=b"who?"), 407, "407 Proxy Authentication Required: who?"),
        (answer("502 X", "Content-Type: text/html", body=b"<title>No</title>"), 502, "502 Bad Gateway: No"),
        (answer("403 X"), 403, "403 Forbidden: the answer has no body"),
        (answer("101 X", length=False), 101, "101 Switching Protocols: the answer has no body"),
        (answer("302 X", "Location: http://a/"), 302, "302 Found: the answer has no body"),
    ],
)
@pytest.mark.parametrize("close", [False, True])
async def test_client_raises_status_and_body_of_http_proxy_refusal(
    data: bytes, status: int, why: str, close: bool
) -> None:
    async with scripted(answering(data, close=close)) as proxy:
        error = await failing("ws://a.example", ProxyError, proxy=f"http://user:secret@127.0.0.1:{proxy.port}")
    assert str(error) == f"the proxy http://127.0.0.1:{proxy.port} answered {why}"
    assert error.status == status
    assert data.endswith(b"\r\n\r\n" + error.body)
    assert not is_transient(error) or status in (502,)


async def test_client_raises_when_http_proxy_refuses_credentials() -> None:
    async with proxy_server("http", credentials=("user", "secret")) as proxy:
        error = await failing("ws://a.example", ProxyError, proxy=proxy.url("http", "user:wrong@"))
    assert (error.status, error.body) == (407, b"who?")


@pytest.mark.parametrize(
    ("kind", "credentials", "given", "why"),
    [
        ("socks5", ("user", "secret"), "", "No acceptable authentication methods were offered"),
        ("socks5", ("user", "secret"), "user:wrong@", "Username and password authentication failure"),
        ("socks4", ("user", ""), "", "identd report different user-ids"),
    ],
)
async def test_client_raises_when_socks_proxy_refuses_credentials(
    kind: str, credentials: tuple[str, str], given: str, why: str
) -> None:
    async with proxy_server(kind, credentials=credentials) as proxy:
        error = await failing("ws://127.0.0.1:9", ProxyError, proxy=proxy.url(kind, given))
    assert str(error).startswith(f"the proxy {proxy.url(kind)} does not connect to 127.0.0.1:9: ")
    assert why in str(error)
    assert "wrong" not in str(error)


@pytest.mark.parametrize(
    ("kind", "refusal", "why"),
    [
        ("socks5", b"\5\5\0\1" + bytes(6), "Connection refused by destination host"),
        ("socks5h", b"\5\4\0\1" + bytes(6), "Host unreachable"),
        ("socks4", b"\0\x5b" + bytes(6), "Request rejected or failed"),
        ("socks5", b"\5\0\0\x09", "Invalid address type: 0X9"),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "Unexpected SOCKS version number"),
        ("socks5", b"\5", "Connection closed unexpectedly"),
        ("socks4a", b"\0", "Connection closed unexpectedly"),
    ],
)
async def test_client_raises_the_reason_of_socks_proxy_refusal(kind: str, refusal: bytes, why: str) -> None:
    async with proxy_server(kind, refusal=refusal) as proxy:
        error = await failing("ws://127.0.0.1:9", ProxyError, proxy=proxy.url(kind))
    assert str(error).startswith(f"the proxy {proxy.url(kind)} does not connect to 127.0.0.1:9: ")
    assert why in str(error)
    assert error.status is None


@pytest.mark.parametrize("kind", KINDS)
async def test_client_says_when_proxy_is_not_reachable(kind: str) -> None:
    port = free_port()
    error = await failing("ws://127.0.0.1:9", ProxyError, proxy=f"{kind}://127.0.0.1:{port}")
    assert str(error) == f"cannot connect to the proxy {kind}://127.0.0.1:{port}: Connection refused"
    assert error.status is None
    assert is_transient(error)


@pytest.mark.parametrize("kind", KINDS)
async def test_client_says_when_proxy_host_is_unknown(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*place: object, **options: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    error = await failing("ws://127.0.0.1:9", ProxyError, proxy=f"{kind}://proxy.example")
    assert f"the proxy {kind}://proxy.example:{80 if kind == 'http' else 1080}: " in str(error)
    assert "Name or service not known" in str(error)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"SSH-2.0\r\n", "did not answer in HTTP: the server does not speak HTTP/1.1: it begins with b'SSH-2.0"),
        (b"\x05\x00", "did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\n\n", "did not answer in HTTP: the head of the answer is malformed"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", "sent something of its own into the tunnel"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 9000, "did not answer in HTTP: a line in the head"),
    ],
)
async def test_client_refuses_malformed_response_of_http_proxy(data: bytes, why: str) -> None:
    async with scripted(answering(data)) as proxy:
        error = await failing("ws://a.example", ProxyError, proxy=f"127.0.0.1:{proxy.port}")
    assert str(error).startswith(f"the proxy http://127.0.0.1:{proxy.port} {why}")


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 Conn"])
async def test_client_says_when_http_proxy_closes(data: bytes) -> None:
    async with scripted(answering(data, close=True)) as proxy:
        error = await failing("ws://a.example", ProxyError, proxy=f"127.0.0.1:{proxy.port}")
    assert str(error) == f"the proxy http://127.0.0.1:{proxy.port} closed the connection without an answer"


async def test_client_says_when_http_proxy_resets() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.reset()

    async with scripted(script) as proxy:
        error = await failing("ws://a.example", ProxyError, proxy=f"127.0.0.1:{proxy.port}")
    assert str(error) == f"the connection to the proxy http://127.0.0.1:{proxy.port} broke: Connection reset by peer"


@pytest.mark.parametrize("kind", ["http", "socks4", "socks5"])
@pytest.mark.parametrize("accepts", [True, False])
async def test_client_times_out_when_proxy_stalls(kind: str, accepts: bool) -> None:
    with full_listener() as (host, port):
        async with scripted(silent) as proxy:
            url = f"{kind}://{host}:{proxy.port if accepts else port}"
            error = await failing("ws://127.0.0.1:9", ConnectTimeout, proxy=url, timeouts=SOON)
    assert str(error) == f"no connection within 0.15 s; last it waited for the proxy {url}"


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 Connection est", b"HTTP/1.1 502 X\r\nContent-Length: 9\r\n"])
async def test_client_times_out_when_http_proxy_stalls_in_its_head(data: bytes) -> None:
    async with scripted(answering(data)) as proxy:
        error = await failing("ws://a.example", ConnectTimeout, proxy=f"127.0.0.1:{proxy.port}", timeouts=SOON)
    assert str(error).endswith(f"last it waited for the proxy http://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("fields", [[], ["Content-Length: 9"]])
async def test_client_raises_the_received_part_of_a_proxy_refusal_that_stalls(fields: list[str]) -> None:
    data = answer("407 Proxy Authentication Required", *fields, body=b"who?", length=False)
    async with scripted(answering(data)) as proxy:
        error = await failing("ws://a.example", ProxyError, proxy=f"127.0.0.1:{proxy.port}", timeouts=SOON)
    place = f"http://127.0.0.1:{proxy.port}"
    assert str(error) == f"the proxy {place} answered 407 Proxy Authentication Required: who?"
    assert (error.status, error.body) == (407, b"who?")
    assert isinstance(error.__cause__, TimeoutError)


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_client_times_out_when_server_behind_proxy_stalls(kind: str) -> None:
    async with scripted(silent) as server, proxy_server(kind) as proxy:
        error = await failing(server.url, ConnectTimeout, proxy=proxy.url(kind), timeouts=SOON)
    assert str(error).endswith(f"last it waited for the answer of 127.0.0.1:{server.port}")


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_client_cancelled_at_the_proxy_leaves_nothing_behind(kind: str) -> None:
    async with scripted(silent) as proxy:

        async def attempt() -> None:
            await connect("ws://127.0.0.1:9", proxy=f"{kind}://127.0.0.1:{proxy.port}")

        task = asyncio.create_task(attempt())
        await within(proxy.peer())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)


# URLs of proxies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://p", Proxy("http", "p", 80, None)),
        ("http://p:3128/", Proxy("http", "p", 3128, None)),
        ("p:3128", Proxy("http", "p", 3128, None)),
        ("user:pa%40ss@p:3128", Proxy("http", "p", 3128, ("user", "pa@ss"))),
        ("socks5://p", Proxy("socks5", "p", 1080, None)),
        ("SOCKS5H://P:1", Proxy("socks5h", "p", 1, None)),
        ("socks4a://user@p", Proxy("socks4a", "p", 1080, ("user", ""))),
        ("http://[::1]:8080", Proxy("http", "::1", 8080, None)),
    ],
)
def test_proxy_url_is_parsed(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy


KNOWN = "it must begin with http://, socks4://, socks4a://, socks5:// or socks5h://"


@pytest.mark.parametrize(
    ("text", "shown", "why"),
    [
        ("https://p:3128", "https://p:3128", KNOWN),
        ("https://user:secret@p", "https://***@p", KNOWN),
        ("ftp://p", "ftp://p", KNOWN),
        ("", "http://", "a host is missing"),
        ("http://", "http://", "a host is missing"),
        ("http://user:secret@", "http://***@", "a host is missing"),
        ("user:secret@p:0", "http://***@p:0", "a port is a number from 1 to 65535"),
        ("http://p:99999", "http://p:99999", "a port is a number from 1 to 65535"),
        ("http://a b", "http://a b", "it has a space or a control character"),
        ("http://p\n", r"http://p\n", "it has a space or a control character"),
        ("http://a..b", "http://a..b", "its host is malformed"),
        (
            "socks5://user:secr\u00e9t@p",
            "socks5://***@p",
            "SOCKS takes up to 255 characters of ASCII for user name and password",
        ),
        (
            f"socks5://user:{'secret' * 50}@p",
            "socks5://***@p",
            "SOCKS takes up to 255 characters of ASCII for user name and password",
        ),
    ],
)
def test_connect_refuses_bad_proxy_url_at_once(text: str, shown: str, why: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        connect("ws://a", proxy=text)
    assert str(caught.value) == f"'{shown}' is not the URL of a proxy: {why}"


def test_proxy_is_shown_without_credentials() -> None:
    proxy = parse_proxy("http://user:secret@[::1]:8080")
    assert str(proxy) == "http://[::1]:8080"
    assert "secret" not in repr(proxy)


async def test_client_names_the_package_to_install_for_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "_socks", None)
    error = await failing("ws://a.example", ProxyError, proxy="socks5://p")
    assert str(error) == "the proxy socks5://p:1080 needs python-socks: pip install 'streamws[socks]'"
    assert not is_transient(error)


# The environment ------------------------------------------------------------------------------------------------

WS = "ws://a.example"
WSS = "wss://a.example"
HTTP = "http://p:1"


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        (WS, {}, None),
        (WS, {"http_proxy": HTTP}, HTTP),
        (WS, {"HTTP_PROXY": HTTP}, HTTP),
        (WS, {"http_proxy": HTTP, "HTTP_PROXY": "http://upper:1"}, HTTP),
        (WS, {"http_proxy": "", "HTTP_PROXY": HTTP}, None),  # lower case comes first, and is empty
        (WS, {"http_proxy": "p:1"}, HTTP),
        (WS, {"https_proxy": HTTP}, None),
        (WS, {"ws_proxy": HTTP, "http_proxy": "http://other:1"}, HTTP),
        (WS, {"wss_proxy": HTTP}, None),
        (WSS, {"https_proxy": HTTP}, HTTP),
        (WSS, {"HTTPS_PROXY": HTTP}, HTTP),
        (WSS, {"http_proxy": HTTP}, None),
        (WSS, {"wss_proxy": HTTP, "https_proxy": "http://other:1"}, HTTP),
        (WS, {"all_proxy": HTTP}, HTTP),
        (WSS, {"ALL_PROXY": "socks5://p:1"}, "socks5://p:1"),
        (WSS, {"all_proxy": "http://other:1", "https_proxy": HTTP}, HTTP),
        (WS, {"socks_proxy": "socks4://p:1"}, "socks4://p:1"),
        (WS, {"SOCKS_PROXY": "p:1"}, "socks5h://p:1"),
        (WS, {"socks_proxy": "socks://p:1"}, "socks5h://p:1"),
        (WSS, {"ALL_PROXY": "SOCKS://u:s@p:1/"}, "socks5h://u:s@p:1"),
        (WS, {"socks_proxy": "p:1", "http_proxy": HTTP}, HTTP),
        (WS, {"socks_proxy": "p:1", "all_proxy": HTTP}, "socks5h://p:1"),
        (WS, {"all_proxy": HTTP, "no_proxy": "a.example"}, None),
        (WS, {"all_proxy": HTTP, "NO_PROXY": "b.example, A.EXAMPLE"}, None),
        (WS, {"all_proxy": HTTP, "no_proxy": ".example"}, None),
        (WS, {"all_proxy": HTTP, "no_proxy": "example"}, None),
        (WS, {"all_proxy": HTTP, "no_proxy": "*"}, None),
        (WS, {"all_proxy": HTTP, "no_proxy": "a.example:80"}, None),
        (WS, {"all_proxy": HTTP, "no_proxy": "a.example:81"}, HTTP),
        (WS, {"all_proxy": HTTP, "no_proxy": "b.example,x-a.example"}, HTTP),
        ("ws://[::1]:81", {"all_proxy": HTTP, "no_proxy": "::1"}, None),
        ("ws://127.0.0.1", {"all_proxy": HTTP, "no_proxy": "localhost,127.0.0.1"}, None),
    ],
)
def test_environment_selects_the_proxy(
    url: str, variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_of_environment(parse_url(url))
    assert found == (None if proxy is None else parse_proxy(proxy))


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_client_uses_the_proxy_of_the_environment(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(echo) as server, proxy_server(kind, credentials=("user", "pass")) as proxy:
        monkeypatch.setenv("all_proxy", proxy.url(kind, "user:pass@"))
        async with connect(server.url):
            pass
        assert proxy.asked == [("127.0.0.1", server.port)]


@pytest.mark.parametrize("none", [None, False])
async def test_client_ignores_the_environment_if_told_to(none: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{free_port()}")
    async with scripted(echo) as server, connect(server.url, proxy=none):
        pass


async def test_client_uses_no_proxy_with_a_given_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{free_port()}")
    async with scripted(echo) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        async with connect("ws://a.example", sock=sock):
            pass


@pytest.mark.parametrize("name", ["http_proxy", "socks_proxy", "all_proxy"])
@pytest.mark.parametrize("text", ["https://user:secret@p", "http://p:x"])
async def test_client_refuses_bad_proxy_url_of_the_environment_when_it_connects(
    text: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, text)
    error = await failing(WS, InvalidURL)
    assert re.search("is not the URL of a proxy: (it must begin with http://|a port)", str(error))
    assert str(error).endswith(f"; it is what {name} says")
    assert "secret" not in str(error)
