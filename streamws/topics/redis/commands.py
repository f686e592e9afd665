"""The connection on which one process runs its scripts at Redis."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..stats import BrokerConnection
from .address import Address
from .keeper import Keeper
from .link import Argument, Link, checked, is_error
from .scripts import BEAT, BURY, ENTER, EXIT, PUBLISH, READ, Script

_SCRIPTS = (PUBLISH, READ, ENTER, EXIT, BEAT, BURY)


def is_forgotten(reply: Any) -> bool:
    """Return whether Redis has forgotten a script. The script has not run."""
    return is_error(reply, "NOSCRIPT")


class Commands:
    """Runs scripts. What is sent in one loop iteration leaves in one write.

    :param prepare: called with each new connection, before others use it.
    """

    def __init__(self, address: Address, timeout: float, prepare: Callable[[Link], Awaitable[None]]) -> None:
        self._prepare = prepare
        self._keeper = Keeper(address, timeout, lambda: Link(timeout), self._load, "publications")

    @property
    def stats(self) -> BrokerConnection:
        """The counters of the connection. They may be read in any thread."""
        return self._keeper.stats

    async def open(self) -> None:
        """Begin to connect; see `Keeper.open`."""
        await self._keeper.open()

    async def close(self) -> None:
        """End the connection."""
        await self._keeper.close()

    async def _load(self, link: Link) -> None:
        """Load the scripts."""
        for reply in [link.call("SCRIPT", "LOAD", script.text) for script in _SCRIPTS]:
            checked(await reply)
        await self._prepare(link)

    @property
    def link(self) -> Link:
        """The connection.

        :raises BrokerUnavailable: if there is none.
        """
        return self._keeper.link

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script.

        :raises BrokerUnavailable: if there is no connection.
        :raises BrokerError: if it fails otherwise.
        """
        return await run(self.link, script, keys, *arguments)


async def run(link: Link, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
    """Run a script on a connection.

    :raises BrokerError: if it fails.
    """
    (reply,) = await run_all(link, script, [(keys, arguments)])
    return reply


async def run_all(link: Link, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]) -> list[Any]:
    """Run a script several times, for different keys.

    :param calls: the keys and arguments of each.
    :raises BrokerError: if one fails.
    """
    sent = [link.call("EVALSHA", script.sha, len(keys), *keys, *arguments) for keys, arguments in calls]
    replies = [await call for call in sent]
    for place, reply in enumerate(replies):
        if is_forgotten(reply):
            keys, arguments = calls[place]
            replies[place] = await link.call("EVAL", script.text, len(keys), *keys, *arguments)
    return [checked(reply) for reply in replies]
