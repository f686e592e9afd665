"""The subscriptions at one server of a cluster, while its connection is replaced."""

import asyncio
from collections.abc import Iterable

from helpers.waiting import iterations
from streamws import BrokerError
from streamws.topics.redis.address import Address
from streamws.topics.redis.scripts import Keys
from streamws.topics.redis.subscriber import Subscriber, SubscriberLink
from topics.broker_contract import Collector


class Confirming(SubscriberLink):
    """A connection that confirms each change at once, or fails after its end."""

    def __init__(self) -> None:
        super().__init__(1.0, lambda channel, message: None, lambda channel: None, sharded=True)
        self.subscribed: list[bytes] = []

    def change(self, channels: Iterable[bytes], ends: bool = False) -> "list[asyncio.Future[None]]":
        futures: list[asyncio.Future[None]] = []
        for channel in channels:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if self.ended.done():
                future.set_exception(BrokerError("the connection has ended"))
                future.exception()
            else:
                self.subscribed.append(channel)
                future.set_result(None)
            futures.append(future)
        return futures


async def test_topics_that_move_while_an_old_connection_is_still_mended_are_subscribed_later() -> None:
    answered = asyncio.Event()
    doubts: list[None] = []

    async def until_answered() -> None:
        await answered.wait()

    address, keys = Address("redis://localhost", cluster=True), Keys("streamws")
    subscriber = Subscriber(address, 1.0, keys, True, lambda: doubts.append(None), lambda link: None, until_answered)
    subscriber._receiver = Collector()
    old, new = Confirming(), Confirming()
    subscriber._link = old
    subscriber.adopt({str(number).encode(): str(number) for number in range(150)})
    subscriber.mend()
    await iterations()
    assert len(old.subscribed) == 100  # the others follow when the histories of these can be read
    old.ended.set_result(None)
    subscriber._link = new
    subscriber.adopt({b"moved": "moved"})
    subscriber.mend()  # too early
    doubts.clear()
    answered.set()
    await iterations()
    assert doubts
    subscriber.mend()
    await iterations()
    assert new.subscribed == [b"moved"]
    await subscriber.close()
