"""What the server processes and the clients of a run agree on: topics, histories, sizes, deadlines."""

from streamws.topics import History

TOPICS: dict[str, History | None] = {
    "long": History(5000, 600, max_bytes=8 << 20),
    "short": History(20, 600),
    "brief": History(1000, 2.0),
    "bytes": History(1000, 600, max_bytes=20_000),
    "keyed": History(200, 600),
    "none": None,
    "people": History(5000, 600),
}
"""The topics, with histories that differ in their bounds."""

PEOPLE = "people"
"""The topic with presence."""

KEYED = "keyed"
"""The topic whose publications have keys."""

LONG = ("long", "people")
"""The topics whose histories have everything that a follower of the run can miss."""

FLOODED = "short"
"""The topic with many large publications at once."""

BACKLOG = 16_384
"""The bytes that may wait for a slow follower."""

HELD = 65_536
"""The bytes that a topic holds back: so few that it has to read the history again."""

REDIS_TIMEOUT = 1.0
CALL_TIMEOUT = 1.5
PRESENCE_TIMEOUT = 3.0
"""Deadlines in seconds. Harm often lasts longer."""
