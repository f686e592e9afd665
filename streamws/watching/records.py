"""Log records about the ends of connections, with additional attributes for structured logs."""

import logging

from ..connection import Connection
from .counting import stats_of

logger: logging.Logger = logging.getLogger("streamws")


def log_end(connection: Connection, remote: str, line: str) -> None:
    """Log how a connection has ended.

    :param remote: the address of the peer, or the name of the server.
    :param line: the line, with places for `remote` and for the outcome.
    """
    outcome = connection.outcome()
    assert outcome is not None
    stats = stats_of(connection)
    fields = connection.log_fields()
    fields["outcome"] = str(outcome)
    fields["cause"] = outcome.cause.value
    fields["code"] = outcome.code
    fields["initiator"] = outcome.initiator.value
    fields["duration"] = stats.duration
    fields["messages_received"] = stats.messages_received
    fields["messages_sent"] = stats.messages_sent
    fields["bytes_received"] = stats.bytes_received
    fields["bytes_sent"] = stats.bytes_sent
    logger.info(line, remote, outcome, extra=fields)
