"""permessage-deflate (RFC 7692) for the load: what is asked of a server, and the messages that are sent to it.

The messages are records as an exchange sends them, 1 KiB of JSON each and no two alike: names and words that return
from one to the next, numbers and identifiers that do not. They are compressed before the measurement, each in the
context of the ones before it where that was agreed; the last one ends with a full flush, so that the first may follow.
"""

import json
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TAIL = b"\x00\x00\xff\xff"
"""How the compressed data of each message ends before that is cut off (section 7.2.1)."""

RECORDS = 256
SIZE = 1024

_PARAMETER = re.compile(r'^([a-z_]+)(?:="?(\d+)"?)?$')
_PLACES = ["amsterdam", "chicago", "frankfurt", "london", "new york", "paris", "singapore", "tokyo", "zurich"]
_WORDS = ["amended", "at", "cancelled", "desk", "filled", "from", "hedge", "limit", "market", "order", "partly"]


@dataclass(frozen=True)
class Settings:
    """What both ends compress with; None for what a server has by default."""

    window_bits: int | None = None
    mem_level: int | None = None
    level: int | None = None
    takeover: bool = True

    def __str__(self) -> str:
        """As an argument of a command."""
        if self.window_bits is None:
            return "default"
        return f"{self.window_bits},{self.mem_level},{self.level},{int(self.takeover)}"

    @classmethod
    def parse(cls, text: str) -> "Settings":
        if text == "default":
            return cls()
        window_bits, mem_level, level, takeover = map(int, text.split(","))
        return cls(window_bits, mem_level, level, bool(takeover))

    @property
    def parameters(self) -> str:
        """The extension with these parameters, as one end says them to the other; as a browser does by default."""
        if self.window_bits is None:
            return "permessage-deflate; client_max_window_bits"
        return "permessage-deflate" + "".join(f"; {name}" for name in self._named())

    def _named(self) -> Iterator[str]:
        yield f"server_max_window_bits={self.window_bits}"
        yield f"client_max_window_bits={self.window_bits}"
        if not self.takeover:
            yield "server_no_context_takeover"
            yield "client_no_context_takeover"


@dataclass(frozen=True)
class Agreement:
    """What a server agreed to."""

    server_bits: int
    client_bits: int
    client_takeover: bool

    @classmethod
    def of(cls, head: bytes, asked: Settings) -> "Agreement":
        """What the answer to a handshake says; raises `ValueError` if that is not what was asked for."""
        lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
        fields = [value.strip() for name, _, value in lines if name.lower() == "sec-websocket-extensions"]
        extension, *rest = [part.strip() for part in ";".join(fields).split(";")]
        matches = [_PARAMETER.match(part) for part in rest]
        if extension != "permessage-deflate" or None in matches:
            raise ValueError(f"not a good answer to the offer of compression: {fields}")
        said = {match[1]: match[2] for match in matches if match is not None}
        server_bits, client_bits = (int(said.get(f"{role}_max_window_bits") or 15) for role in ("server", "client"))
        if asked.window_bits is not None:
            # What a server does not say of the other end's window is up to that end.
            client_bits = min(client_bits, asked.window_bits)
            if (server_bits, client_bits) != (asked.window_bits, asked.window_bits):
                raise ValueError(f"another window than was asked for: {fields}")
            if asked.takeover and {"server_no_context_takeover", "client_no_context_takeover"} & said.keys():
                raise ValueError(f"contexts were to be taken over: {fields}")
            if not asked.takeover and "server_no_context_takeover" not in said:
                raise ValueError(f"contexts were not to be taken over: {fields}")
        takeover = asked.takeover and "client_no_context_takeover" not in said
        return cls(server_bits, client_bits, takeover)


def records() -> list[bytes]:
    """Different ones, the same ones every time."""
    source = random.Random(5)
    return [_record(source, number) for number in range(RECORDS)]


def _record(source: random.Random, number: int) -> bytes:
    trades: list[dict[str, object]] = []
    record = {"type": "trades", "sequence": 73_000_000 + number, "venue": source.choice(_PLACES), "trades": trades}
    while True:
        text = _encoded(record)
        if len(text) > SIZE - 180:
            break
        trades.append(
            {
                "id": f"{source.getrandbits(48):012x}",
                "symbol": source.choice(["BTC", "ETH", "EUR", "SOL", "XAU"]) + "-USD",
                "price": round(source.uniform(1, 90_000), 2),
                "quantity": round(source.random() * 10, 6),
                "side": source.choice(["buy", "sell"]),
                "time": f"2026-11-22T{source.randrange(24):02}:{source.randrange(60):02}:{source.random() * 60:06.3f}Z",
            }
        )
    record["note"] = ""
    missing = SIZE - len(_encoded(record))
    record["note"] = " ".join(source.choice(_WORDS) for _ in range(missing))[:missing]
    return _encoded(record)


def _encoded(record: object) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def compressed(messages: Sequence[bytes], agreement: Agreement) -> list[bytes]:
    """Payloads for the messages, in their order; the first one may come after the last one."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -agreement.client_bits)
    payloads = []
    for number, message in enumerate(messages, 1):
        starts_anew = number == len(messages) or not agreement.client_takeover
        flush = zlib.Z_FULL_FLUSH if starts_anew else zlib.Z_SYNC_FLUSH
        payloads.append((compressor.compress(message) + compressor.flush(flush)).removesuffix(TAIL))
    return payloads
