"""What `RedisBroker` keeps in Redis: the keys, the scripts that change them, and the form of what is kept.

A topic has:

- the channel `{prefix:topic}` for publications and presence events, with `@1` after it in database 1, and so on;
- the hash `{prefix:topic}:meta`: `epoch`, `offset`, `run` (of the server that made the last change), `former` (the
  epochs of earlier runs, newest first, and the offset at which each has ended), and for its history `bytes` and `ms`;
- the stream `{prefix:topic}:stream`: its history. The id of a publication is its offset and the size of its payload;
- the keys `{prefix:topic}:once:...`: the idempotency keys, with the epoch and the offset of their publications;
- the hashes `{prefix:topic}:members` and `{prefix:topic}:users`: who is present, and with how many connections.

The processes have:

- the sorted set `{prefix}:processes`: when each of them is dead, if no other heartbeat follows;
- the sets `{prefix}:processes:...`: the topics and connections of each that are present.

In a cluster, each partition of the topics has such sets, with the prefix `{prefix:number}`.

If Redis was restarted or has failed over, it may have lost its last changes, and give the same offsets again. So each
run has an epoch of its own. It continues the epoch before: a position of that one is still valid up to its end.
"""

import hashlib
import json
import struct
from binascii import crc_hqx
from itertools import count
from typing import Literal, NamedTuple

from ..values import Connection, Position, PresenceEvent, Record, new_tuple

_TOPIC = """
local meta, stream = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = redis.call('HMGET', meta, 'epoch', 'offset', 'run', 'former', 'bytes', 'ms')
local epoch, offset, former = known[1], tonumber(known[2] or 0), known[4] or ''
if not epoch or known[3] ~= ARGV[1] then
  local fresh = redis.sha1hex(ARGV[1] .. meta .. clock[1] .. '.' .. clock[2])
  if epoch then
    former = epoch .. ':' .. offset .. ' ' .. former
    if #former > 500 then
      former = string.match(string.sub(former, 1, 500), '^.* ')
    end
  else
    redis.call('DEL', stream)
  end
  epoch = string.sub(fresh, 1, 16)
  redis.call('HSET', meta, 'epoch', epoch, 'offset', offset, 'run', ARGV[1], 'former', former)
end
redis.call('PEXPIRE', meta, ARGV[2])

local function trim(bytes, size, ms, most)
  local count, batch = redis.call('XLEN', stream), 2
  while count > 0 do
    local oldest, dropped = redis.call('XRANGE', stream, '-', '+', 'COUNT', batch), {}
    for _, entry in ipairs(oldest) do
      local _, _, time = struct.unpack('<c1I8I8', entry[2][2])
      if count <= size and bytes <= most and now < time + ms then
        break
      end
      dropped[#dropped + 1] = entry[1]
      bytes = bytes - tonumber(string.match(entry[1], '%d+$')) - 64
      count = count - 1
    end
    if #dropped > 0 then
      redis.call('XDEL', stream, unpack(dropped))
    end
    if #dropped < #oldest then
      return bytes
    end
    batch = 100
  end
  return 0
end
"""
"""The beginning of the scripts for a topic. KEYS: meta, stream. ARGV: run, milliseconds to remember the topic."""

_PUBLISH = """
if KEYS[3] then
  local earlier = redis.call('GET', KEYS[3])
  if earlier then
    return {string.match(earlier, '^%S+'), tonumber(string.match(earlier, '%d+$')), 1}
  end
end
local channel, kind, key, body = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local size, ms, most = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
offset = offset + 1
local message = struct.pack('<c1I8I8i4c16', kind, offset, now, tonumber(key), epoch) .. body
if size > 0 then
  local length = #body - math.max(tonumber(key), 0)
  local bytes = tonumber(known[5] or 0)
  if redis.call('XLEN', stream) == 0 then
    bytes = 0
  end
  redis.call('XADD', stream, offset .. '-' .. length, 'm', message)
  redis.call('HSET', meta, 'offset', offset, 'bytes', trim(bytes + length + 64, size, ms, most), 'ms', ms)
  redis.call('PEXPIRE', stream, ms)
else
  redis.call('HSET', meta, 'offset', offset)
  redis.call('DEL', stream)
end
if KEYS[3] then
  redis.call('SET', KEYS[3], epoch .. ' ' .. offset, 'PX', ARGV[10])
end
redis.call('PUBLISH', channel, message)
return {epoch, offset, 0}
"""
"""More KEYS: the idempotency key, if there is one. More ARGV: channel, kind, length of the key or -1, key and payload;
size, milliseconds and bytes of the history, or 0; milliseconds to remember the idempotency key."""

_READ = """
local since, at, limit, reverse = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
if known[6] then
  local bytes = trim(tonumber(known[5]), math.huge, tonumber(known[6]), math.huge)
  redis.call('HSET', meta, 'bytes', bytes)
end
local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local first = oldest and tonumber(string.match(oldest[1], '^%d+')) or offset + 1
local after, valid = 0, at < 0
if at >= 0 and since == epoch then
  after, valid = at, true
elseif at >= 0 then
  -- What is older than this run may be known already, if the epoch has been lost with the last changes.
  after = tonumber(string.match(former, ':(%d+)') or 0)
  for other, last in string.gmatch(former, '(%S+):(%d+)') do
    if other == since then
      after, valid = math.min(at, tonumber(last)), at <= tonumber(last)
    end
  end
end
local complete = valid and first - 1 <= after and after <= offset
local entries = {}
if limit ~= 0 and after < offset then
  local command = {reverse and 'XREVRANGE' or 'XRANGE', stream}
  local low = string.format('%.0f', after + 1)
  command[3], command[4] = reverse and '+' or low, reverse and low or '+'
  if limit > 0 then
    command[5], command[6] = 'COUNT', limit
  end
  entries = redis.call(unpack(command))
end
return {epoch, offset, complete and 1 or 0, entries}
"""
"""More ARGV: epoch and offset of the position, or -1; the most publications or -1; whether these are the newest."""

_ENTER = """
local members, users, channel = KEYS[1], KEYS[2], ARGV[1]
local connection, process, user, data = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local known = redis.call('HGET', members, connection)
if known then
  known = cjson.decode(known)
  if known[3] == user then
    redis.call('HSET', members, connection, cjson.encode({known[1], process, user, data}))
    return 0
  end
end
-- First of all the new user: a key that is emptied while its slot moves to another server cannot be filled again.
local first = redis.call('HINCRBY', users, user, 1) == 1
if known then
  local left = redis.call('HINCRBY', users, known[3], -1)
  if left <= 0 then
    redis.call('HDEL', users, known[3])
  end
  redis.call('PUBLISH', channel, 'l' .. cjson.encode({known[3], known[4], connection, left <= 0}))
end
local number = redis.call('HINCRBY', members, '', 1)
redis.call('HSET', members, connection, cjson.encode({number, process, user, data}))
redis.call('PUBLISH', channel, 'j' .. cjson.encode({user, data, connection, first}))
return 1
"""
"""KEYS: members, users. ARGV: channel, connection, process, user, data."""

_EXIT = """
local members, users, channel = KEYS[1], KEYS[2], ARGV[1]
local connection, process = ARGV[2], ARGV[3]
local known = redis.call('HGET', members, connection)
if not known then
  return 0
end
known = cjson.decode(known)
if known[2] ~= process then
  return 0
end
redis.call('HDEL', members, connection)
local left = redis.call('HINCRBY', users, known[3], -1)
if left <= 0 then
  redis.call('HDEL', users, known[3])
end
if redis.call('HLEN', members) == 1 then
  redis.call('DEL', members)
end
redis.call('PUBLISH', channel, 'l' .. cjson.encode({known[3], known[4], connection, left <= 0}))
return 1
"""
"""KEYS: members, users. ARGV: channel, connection, process."""

_BEAT = """
local processes, clock = KEYS[1], redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local before = redis.call('ZSCORE', processes, ARGV[1])
redis.call('ZADD', processes, now + ARGV[2], ARGV[1])
local dead = redis.call('ZRANGEBYSCORE', processes, '-inf', now, 'LIMIT', 0, 10)
local state = before and (now < tonumber(before) and 2 or 1) or 0
return {state, redis.call('SCARD', KEYS[2]), dead}
"""
"""KEYS: processes, with the time at which each is dead; entries of the process. ARGV: process, milliseconds to live.
Returns 2 if the process was alive until now, 1 if it is late, or 0 if it is not known; the number of its entries; and
dead processes."""

_BURY = """
local processes, clock = KEYS[1], redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ends = redis.call('ZSCORE', processes, ARGV[1])
if not ends or now < tonumber(ends) then
  return 0
end
if ARGV[2] == '1' then
  redis.call('ZREM', processes, ARGV[1])
  redis.call('DEL', KEYS[2])
end
return 1
"""
"""KEYS: processes, entries of the process. ARGV: process, whether to forget it. Returns whether it is dead."""


class Script:
    """A script for Redis. If it cannot run to its end, Redis refuses it before it has done anything.

    :param takes_run: whether its first argument is the run of the server.
    :param always: whether it also runs while Redis has no memory left, because it needs little or frees some.
    """

    __slots__ = ("sha", "takes_run", "text")

    def __init__(self, text: str, takes_run: bool, always: bool) -> None:
        self.text: str = f"#!lua{' flags=allow-oom' if always else ''}\n{text}"
        self.sha: str = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.takes_run: bool = takes_run


class Scripts:
    """All scripts.

    :param sharded: whether they publish with `SPUBLISH`, for a cluster.
    """

    __slots__ = ("all", "beat", "bury", "enter", "exit", "publish", "read")

    def __init__(self, sharded: bool) -> None:
        command = "redis.call('SPUBLISH'" if sharded else "redis.call('PUBLISH'"
        texts = (_TOPIC + _PUBLISH, _TOPIC + _READ, _ENTER, _EXIT, _BEAT, _BURY)
        scripts = [
            Script(
                text.replace("redis.call('PUBLISH'", command),
                takes_run=_TOPIC in text,
                always=text not in (_TOPIC + _PUBLISH, _ENTER),
            )
            for text in texts
        ]
        self.all: list[Script] = scripts
        self.publish: Script = scripts[0]
        self.read: Script = scripts[1]
        self.enter: Script = scripts[2]
        self.exit: Script = scripts[3]
        self.beat: Script = scripts[4]
        self.bury: Script = scripts[5]


SLOTS = 16384
"""The number of slots of a cluster."""


def slot_of(key: bytes) -> int:
    """Return the slot of a key in a cluster: that of the text between its first braces."""
    begin = key.find(b"{") + 1
    end = key.find(b"}", begin)
    return crc_hqx(key[begin:end] if 0 < begin < end else key, 0) % SLOTS


class Keys:
    """The names of the keys and channels with a prefix.

    :param database: the number of the database. Redis does not separate the channels of databases: their names do it.
    :raises ValueError: if the names with this prefix could be those with another prefix.
    """

    __slots__ = ("_after", "_prefix", "processes")

    def __init__(self, prefix: str, database: int = 0) -> None:
        if not prefix or not prefix.isprintable() or any(character in prefix for character in "{:}"):
            raise ValueError(f"prefix must be printable text without {{, : and }}, not {prefix!r}")
        self._prefix = prefix
        self._after = f"@{database}" if database else ""
        self.processes: str = f"{{{prefix}}}:processes"
        """The key of the processes that have a heartbeat."""

    def processes_of_partitions(self, partitions: int) -> list[str]:
        """Return names for this key in a cluster: one for each partition of its slots, which all have the same size."""
        names: dict[int, str] = {}
        for number in count():
            name = f"{{{self._prefix}:{number}}}:processes"
            names.setdefault(slot_of(name.encode()) * partitions // SLOTS, name)
            if len(names) == partitions:
                break
        return [names[partition] for partition in range(partitions)]

    def topic(self, topic: str) -> str:
        """Return the beginning of the keys of a topic."""
        return f"{{{self._prefix}:{topic}}}"

    def channel(self, topic: str) -> str:
        """Return the channel of a topic."""
        return f"{{{self._prefix}:{topic}}}{self._after}"

    def once(self, topic: str, idempotency: str) -> str:
        """Return the key for an idempotency key. It is hashed, so that it has no braces."""
        digest = hashlib.blake2b(idempotency.encode(), digest_size=16).hexdigest()
        return f"{self.topic(topic)}:once:{digest}"


HEAD = struct.Struct("<cQQi16s")
"""The beginning of a publication: `t` for text or `b` for binary, the offset, the milliseconds since 1970, the length
of the key or -1, and the epoch. The key and the payload follow. Presence events are `j` or `l`, and JSON.
"""


def parse_record(message: bytes, epoch: str | None = None) -> Record:
    """Parse a publication.

    :param epoch: the epoch of its position, if it was continued; None for the epoch in which it was made.
    :raises struct.error: if it is too short.
    """
    kind, offset, time, length, made = HEAD.unpack_from(message)
    body = message[HEAD.size :]
    key = None
    if length >= 0:
        key = body[:length].decode()
        body = body[length:]
    position = new_tuple(Position, (epoch or made.decode(), offset))
    return new_tuple(Record, (body.decode() if kind == b"t" else body, position, key, time / 1000))


def parse_event(message: bytes) -> PresenceEvent:
    """Parse a presence event."""
    kind: Literal["join", "leave"] = "join" if message[:1] == b"j" else "leave"
    user, data, connection, changed = json.loads(message[1:])
    return PresenceEvent(kind, user, data, connection, changed)


class Member(NamedTuple):
    """A connection that is present, and the process that has it."""

    process: str
    connection: Connection


def parse_members(reply: list[bytes]) -> dict[str, Member]:
    """Parse who is present in a topic: the fields and values of the hash."""
    found: list[tuple[int, str, Member]] = []
    for place in range(0, len(reply), 2):
        if reply[place]:
            number, process, user, data = json.loads(reply[place + 1])
            found.append((number, reply[place].decode(), Member(process, Connection(user, data))))
    return {connection: member for _, connection, member in sorted(found)}
