"""The example hub.py: its broker keeps the promises, and its hub serves processes."""

from pathlib import Path

from hub import HubBroker
from test_hub import TestHubBroker as TestHubBroker  # pytest runs these tests here, too

from helpers.programs import Program
from helpers.waiting import until
from streamws.topics import Publication, Topics

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


async def test_processes_share_topics_through_the_hub() -> None:
    async with Program("-u", str(EXAMPLES / "hub.py"), "127.0.0.1", "0") as program:
        port = await program.logs(r"serving ws://127\.0\.0\.1:(\d+)")
        url = f"ws://127.0.0.1:{port}"
        async with Topics(HubBroker(url)) as one, Topics(HubBroker(url)) as two:
            async with one.topic("news").subscribe() as feed:
                await two.topic("news").publish("hello")
                item = await anext(feed)
                assert isinstance(item, Publication)
                assert item.data == "hello"
            assert await program.interrupt() == 0
            await until(lambda: one.stats.broker and not one.stats.broker.connected)
        assert "Traceback" not in program.stderr
