"""The example dashboard.py: its pages, its programs, and what they may do. `tests/interop/peers` has its page."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from dashboard import PRICES, Alert, Dashboard, Price

from helpers.programs import Program
from helpers.waiting import until, within
from streamws import Client, Connecting, HandshakeRefused, connect
from streamws.messages import Json
from streamws.topics import RedisBroker, Topics
from topics.redis_server import RedisServer

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "dashboard.py"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Stands in for the library, which these tests do not run."""
    file = tmp_path / "centrifuge.js"
    file.write_text("// the library")
    return file


@pytest.fixture
async def dashboard(library: Path) -> AsyncIterator[Dashboard]:
    dashboard = Dashboard("127.0.0.1", 0, secret=b"secret", library=library, interval=3600)
    async with dashboard.server:
        yield dashboard


def opened(dashboard: Dashboard, path: str, login: str = "") -> Connecting:
    headers = {"Authorization": f"Bearer {login}"} if login else {}
    return connect(f"ws://127.0.0.1:{dashboard.server.port}{path}", headers=headers, proxy=None)


async def fetch(dashboard: Dashboard, path: str, login: str = "") -> tuple[int, str]:
    """Return the status and the body of a plain response."""
    with pytest.raises(HandshakeRefused) as response:
        await opened(dashboard, path, login)
    return response.value.status, response.value.body.decode()


async def ask(page: Client, method: str, /, **parameters: object) -> Any:
    """Send a command as the page does, and return its result or error, after pushes."""
    number = page.stats.messages_sent + 1
    await page.send(json.dumps({"id": number, method: parameters}))
    while (reply := json.loads(await within(page.read_message()))).get("id") != number:
        pass
    return reply.get(method, reply.get("error"))


async def pushed(page: Client, kind: str) -> Any:
    """Return the next push of a kind."""
    while kind not in (push := json.loads(await within(page.read_message())).get("push", {})):
        pass
    return push[kind]


async def end(client: Client) -> tuple[int, str]:
    """Return the code and the reason with which the server closes the connection."""
    await within(client.wait_closed())
    assert client.outcome is not None
    return client.outcome.code, client.outcome.reason


async def sign_in(dashboard: Dashboard, page: Client, user: str) -> None:
    """Connect as a page does: with a token for which the token of the link was exchanged."""
    status, token = await fetch(dashboard, "/token", dashboard.tokens.make("login", user, 60))
    assert status == 200
    assert "client" in await ask(page, "connect", token=token)


PERMISSION_DENIED = {"code": 103, "message": "permission denied"}


async def test_program_prints_links_with_which_users_log_in(library: Path) -> None:
    async with Program("-u", str(EXAMPLE), "127.0.0.1", "0", str(library)) as program:
        links = [await program.says(rf"^http://127\.0\.0\.1:0/#({name}\..*)$") for name in ("Ann", "Bob")]
        address = await program.logs(r"serving ws://(\S+)")
        for path, body in {"/": "<!doctype html>", "/centrifuge.js": "// the library"}.items():
            with pytest.raises(HandshakeRefused) as response:
                await connect(f"ws://{address}{path}", proxy=None)
            assert response.value.status == 200
            assert response.value.body.decode().startswith(body)
        for link in links:
            async with connect(f"ws://{address}/alerts", headers={"Authorization": f"Bearer {link}"}, proxy=None):
                pass
        assert await program.interrupt() == 0
        assert "Traceback" not in program.stderr


async def test_only_users_with_permission_publish_alerts(dashboard: Dashboard) -> None:
    async with opened(dashboard, "/connection") as ann, opened(dashboard, "/connection") as bob:
        for page, user in ((ann, "Ann"), (bob, "Bob")):
            await sign_in(dashboard, page, user)
            assert (await ask(page, "subscribe", channel="alerts"))["recoverable"]
        assert await ask(bob, "publish", channel="alerts", data={"text": "no"}) == PERMISSION_DENIED
        assert await ask(ann, "publish", channel="alerts", data={"text": "fire"}) == {}
        assert (await pushed(bob, "pub"))["data"] == {"text": "fire"}
        assert (await ask(ann, "publish", channel="alerts", data={"level": 5}))["code"] == 107
        for page in (ann, bob):
            assert await ask(page, "publish", channel="chat", data={"user": "Eve", "text": "hi"}) == PERMISSION_DENIED
            assert await ask(page, "publish", channel="prices", data={"pair": "X", "value": 1}) == PERMISSION_DENIED
            assert await ask(page, "presence", channel="prices") == PERMISSION_DENIED


async def test_chat_has_the_names_of_its_users_and_shows_who_is_there(dashboard: Dashboard) -> None:
    async with opened(dashboard, "/connection") as ann:
        await sign_in(dashboard, ann, "Ann")
        await ask(ann, "subscribe", channel="chat", join_leave=True)
        async with opened(dashboard, "/connection") as bob:
            await sign_in(dashboard, bob, "Bob")
            await ask(bob, "subscribe", channel="chat")
            while (await pushed(ann, "join"))["info"]["user"] != "Bob":
                pass
            assert await ask(bob, "rpc", method="say", data="hello") == {"data": None}
            assert (await pushed(ann, "pub"))["data"] == {"user": "Bob", "text": "hello"}
            members = (await ask(ann, "presence", channel="chat"))["presence"].values()
            assert sorted(member["user"] for member in members) == ["Ann", "Bob"]
        assert (await pushed(ann, "leave"))["info"]["user"] == "Bob"
        (said,) = (await ask(ann, "history", channel="chat", limit=20))["publications"]
        assert said["data"] == {"user": "Bob", "text": "hello"}


async def test_program_that_comes_back_gets_the_alerts_that_it_missed(dashboard: Dashboard) -> None:
    login = dashboard.tokens.make("login", "Bob", 60)
    async with opened(dashboard, "/connection") as ann, opened(dashboard, "/alerts", login) as program:
        await sign_in(dashboard, ann, "Ann")
        await until(lambda: dashboard.topics.followed == 2)  # the prices, and now the alerts
        for text in ("one", "two", "three"):
            await ask(ann, "publish", channel="alerts", data={"text": text})
        first = json.loads(await within(program.read_message()))
        assert first["text"] == "one"
        position = f"epoch={first['epoch']}&offset={first['offset']}"
        async with opened(dashboard, f"/alerts?{position}", login) as again:
            assert [json.loads(await within(again.read_message()))["text"] for _ in range(2)] == ["two", "three"]


async def test_price_far_from_its_average_is_an_alert(dashboard: Dashboard) -> None:
    async with opened(dashboard, "/connection") as ann:
        await sign_in(dashboard, ann, "Ann")
        await ask(ann, "subscribe", channel="alerts")
        for value in (1.0, 1.0, 1.002, 1.02):
            await dashboard.prices.publish(Price("AUD/USD", value))
        assert (await pushed(ann, "pub"))["data"] == {"text": "AUD/USD is at 1.02, +1.4% from its average"}


async def test_two_processes_publish_each_price_and_each_alert_once(library: Path, redis_server: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        both = [
            Dashboard("127.0.0.1", 0, secret=b"secret", library=library, interval=1e9, redis_url=redis_server.url)
            for _ in range(2)
        ]
        for dashboard in both:
            await stack.enter_async_context(dashboard.server)
        published = 1
        while not all("AUD/USD" in dashboard.values for dashboard in both):  # until both watch the prices
            await both[0].prices.publish(Price("AUD/USD", 1.0))
            published += 1
        await both[0].prices.publish(Price("AUD/USD", 1.02))
        await until(lambda: all(dashboard.values["AUD/USD"] == 1.02 for dashboard in both))
    async with Topics(RedisBroker(redis_server.url, prefix="dashboard")) as topics:
        prices = await topics.topic("prices", Json(Price), history=both[0].prices.history).read_history(limit=0)
        assert prices.position.offset == published + len(PRICES)
        alerts = await topics.topic("alerts", Json(Alert), history=both[0].alerts.history).read_history()
        [alert] = alerts.publications
        assert alert.data.text.startswith("AUD/USD is at 1.02, ")


async def test_tokens_are_refused_if_they_have_expired_or_have_another_purpose(dashboard: Dashboard) -> None:
    tokens = dashboard.tokens
    for login in ("", "Ann", "Ann.9999999999.00", tokens.make("login", "Ann", -1), tokens.make("connect", "Ann", 60)):
        assert await fetch(dashboard, "/token", login) == (401, "log in first\n")
        for path in ("/alerts", "/%61lerts"):
            async with opened(dashboard, path, login) as program:
                assert await end(program) == (4401, "log in first")
    async with opened(dashboard, "/connection") as page:
        assert (await ask(page, "connect", token=tokens.make("connect", "Ann", -1)))["code"] == 109
    for token in ("", "Ann.9999999999.00", tokens.make("login", "Ann", 60)):
        async with opened(dashboard, "/connection") as page:
            await page.send(json.dumps({"id": 1, "connect": {"token": token}}))
            assert await end(page) == (3500, "invalid token")


async def test_page_sends_a_new_token_before_the_old_one_expires(dashboard: Dashboard) -> None:
    async with opened(dashboard, "/connection") as page:
        await sign_in(dashboard, page, "Ann")
        assert (await ask(page, "refresh", token=dashboard.tokens.make("connect", "Ann", 90)))["ttl"] in range(85, 91)
