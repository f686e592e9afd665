"""permessage-deflate (RFC 7692) for the load generator: the offer to a server, and the messages sent to it.

The messages are like records of a trading exchange: 1 KiB of JSON each, all different, with names and words that recur
and numbers and identifiers that do not. They are compressed before the measurement; with context takeover, each may
refer to those before it. The last one ends with a full flush, so that the first one may follow it again.
"""

import json
import random
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TAIL = b"\x00\x00\xff\xff"
"""The end of the compressed data of each message, which the sender removes (RFC 7692 section 7.2.1)."""

RECORDS = 256
RECORD_SIZE = 1024

_PARAMETER = re.compile(r'^([a-z_]+)(?:="?(\d+)"?)?$')
_PLACES = ["amsterdam", "chicago", "frankfurt", "london", "new york", "paris", "singapore", "tokyo", "zurich"]
_WORDS = ["amended", "at", "cancelled", "desk", "filled", "from", "hedge", "limit", "market", "order", "partly"]


@dataclass(frozen=True)
class Settings:
    """Settings for compression at both ends. `None` means the server's default."""

    window_bits: int | None = None
    mem_level: int | None = None
    level: int | None = None
    takeover: bool = True

    def __str__(self) -> str:
        """Return the settings as an argument of a command; `parse` reads it."""
        if self.window_bits is None:
            return "default"
        return f"{self.window_bits},{self.mem_level},{self.level},{int(self.takeover)}"

    @classmethod
    def parse(cls, text: str) -> "Settings":
        """Read the settings from an argument of a command."""
        if text == "default":
            return cls()
        window_bits, mem_level, level, takeover = map(int, text.split(","))
        return cls(window_bits, mem_level, level, bool(takeover))

    @property
    def description(self) -> str:
        """The settings in words."""
        if self.window_bits is None:
            return "compressed as it comes: each library with its own defaults"
        takeover = "" if self.takeover else ", no context takeover"
        return (
            f"compressed by all with window bits {self.window_bits}, memory level {self.mem_level}, level {self.level}"
            f"{takeover or ', context takeover'}"
        )

    @property
    def parameters(self) -> str:
        """The extension with these parameters, as a value of the field Sec-WebSocket-Extensions.

        With the server's defaults it is the offer of a browser.
        """
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
    """The parameters that a server accepted."""

    server_bits: int
    client_bits: int
    client_takeover: bool

    @classmethod
    def from_response(cls, head: bytes, wanted: Settings) -> "Agreement":
        """Read the parameters from the head of a response.

        :raises ValueError: If they are not those that were wanted.
        """
        lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
        fields = [value.strip() for name, _, value in lines if name.lower() == "sec-websocket-extensions"]
        extension, *rest = [part.strip() for part in ";".join(fields).split(";")]
        matches = [_PARAMETER.match(part) for part in rest]
        if extension != "permessage-deflate" or None in matches:
            raise ValueError(f"the server must accept permessage-deflate, not {fields}")
        accepted = {match[1]: match[2] for match in matches if match is not None}
        server_bits, client_bits = (int(accepted.get(f"{role}_max_window_bits") or 15) for role in ("server", "client"))
        if wanted.window_bits is not None:
            # A server that names no client_max_window_bits leaves the window to the client (RFC 7692 section 7.1.2.2).
            client_bits = min(client_bits, wanted.window_bits)
            if (server_bits, client_bits) != (wanted.window_bits, wanted.window_bits):
                raise ValueError(f"the windows must have {wanted.window_bits} bits; the server accepted {fields}")
            if wanted.takeover and {"server_no_context_takeover", "client_no_context_takeover"} & accepted.keys():
                raise ValueError(f"context takeover must be on in both directions; the server accepted {fields}")
            if not wanted.takeover and "server_no_context_takeover" not in accepted:
                raise ValueError(f"context takeover must be off; the server accepted {fields}")
        takeover = wanted.takeover and "client_no_context_takeover" not in accepted
        return cls(server_bits, client_bits, takeover)


def records() -> list[bytes]:
    """Return records that all differ, and that are the same in every run."""
    source = random.Random(5)
    return [_record(source, number) for number in range(RECORDS)]


def _record(source: random.Random, number: int) -> bytes:
    trades: list[dict[str, object]] = []
    record = {"type": "trades", "sequence": 73_000_000 + number, "venue": source.choice(_PLACES), "trades": trades}
    while True:
        text = _to_json(record)
        if len(text) > RECORD_SIZE - 180:
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
    missing = RECORD_SIZE - len(_to_json(record))
    record["note"] = " ".join(source.choice(_WORDS) for _ in range(missing))[:missing]
    return _to_json(record)


def _to_json(record: object) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def compressed(messages: Sequence[bytes], agreement: Agreement) -> list[bytes]:
    """Return the payloads for the messages, in order. After the last one, the first one may follow again."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -agreement.client_bits)
    payloads = []
    for number, message in enumerate(messages, 1):
        next_starts_anew = number == len(messages) or not agreement.client_takeover
        flush = zlib.Z_FULL_FLUSH if next_starts_anew else zlib.Z_SYNC_FLUSH
        payloads.append((compressor.compress(message) + compressor.flush(flush)).removesuffix(TAIL))
    return payloads
