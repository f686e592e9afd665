"""The targets of the fuzzer: functions that take any bytes, and fail if the package processes them wrongly.

The first bytes of the input choose settings; the rest is what a peer sends. Each target that concerns compiled modules
runs both builds and compares them. `run.py` calls the targets with a coverage-guided fuzzer, and `test_corpus.py` with
the inputs of `corpus/`.
"""

import functools
import importlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import attrs

from fuzz import reference
from helpers.virtual import packages
from helpers.wires import plain

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

MODULES = [
    "options",
    "errors",
    "connecting.proxies",
    "connecting.reconnecting",
    "handshake.client",
    "handshake.extensions",
    "handshake.head",
    "handshake.request_reader",
    "handshake.response_reader",
    "handshake.server",
    "handshake.url",
    "wire.deflate",
    "wire.parser",
    "wire.payload",
    "wire.protocol",
]


def _build(package: str) -> Any:
    names = {name.rpartition(".")[2] + "_of_server" * (name == "handshake.server"): name for name in MODULES}
    modules = {key: importlib.import_module(f"{package}.{name}") for key, name in names.items()}
    return SimpleNamespace(package=package, **modules)


PACKAGES = packages()
BUILDS = [_build(package) for package in PACKAGES]
"""Both builds, or only one. One build alone is still compared with references, and cut streams with uncut ones."""

PURE = BUILDS[-1]
"""The build whose coverage guides the fuzzer, for modules that are not compiled."""


class Input:
    """The bytes of the fuzzer, read from the beginning to the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def byte(self) -> int:
        """Return the next byte, or 0 at the end."""
        place = self._place
        self._place = place + 1
        return self._data[place] if place < len(self._data) else 0

    def take(self, size: int) -> bytes:
        """Return up to `size` bytes."""
        place = self._place
        self._place = place + size
        return self._data[place : place + size]

    def rest(self) -> bytes:
        return self._data[self._place :]

    def cutter(self) -> "Cutter":
        return Cutter(self.byte(), self.byte())


class Cutter:
    """Cuts a stream into chunks of two lengths, alternately."""

    def __init__(self, first: int, second: int) -> None:
        self._lengths = (1 + (first & 15), 1 + second)

    def cut(self, stream: bytes) -> Iterator[bytes]:
        place = number = 0
        while place < len(stream):
            # After the beginning, a long stream continues in long chunks.
            length = self._lengths[number & 1] if number < 64 else 1000
            yield stream[place : place + length]
            place += length
            number += 1


def same(results: Iterable[Any]) -> Any:
    """Return the only result of all builds and ways."""
    first, *others = results
    for other in others:
        assert other == first, f"{other!r} is not {first!r}"
    return first


# HTTP heads -----------------------------------------------------------------------------------------------------

TIGHT = {"max_request_line": 40, "max_header_line": 60, "max_headers": 8, "max_head": 400}
"""Limits that short inputs exceed."""

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

_FIELDS = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*)*")


def request(data: bytes) -> None:
    """The request of a client, and the answer of a server."""
    source = Input(data)
    settings, cutter, stream = source.byte(), source.cutter(), source.rest()
    cut = list(cutter.cut(stream))
    same([_served(build, settings, chunks) for build in BUILDS for chunks in ([stream], cut)])


def _check_error(error: object) -> None:
    """Check that the text of an error is one line of a log, and not long."""
    assert str(error).isprintable(), str(error)
    assert len(str(error)) < 1500


@functools.cache
def _limits(package: str, tight: int) -> Any:
    limits = importlib.import_module(f"{package}.options").Limits
    return limits(**TIGHT) if tight else limits()


@functools.cache
def _policy(package: str, settings: int) -> Any:
    build = BUILDS[PACKAGES.index(package)]
    return build.server_of_server.Policy(
        origins=(None, "*", ["https://example.org", "null"], [])[settings >> 1 & 3],
        subprotocols=["chat.v2", "chat"],
        server_header="streamws" if settings & 8 else None,
        compression=build.options.Compression(takeover=bool(settings & 16)) if settings & 32 else None,
    )


def _feed(reader: Any, chunks: list[bytes]) -> tuple[Any, bytes]:
    """Feed a reader of a request or response until it has a result; return that and the bytes of the other chunks."""
    received = None
    unread = list(chunks)
    while unread and received is None:
        received = reader.feed(unread.pop(0))
    return received, b"".join(unread)


def _served(build: Any, settings: int, chunks: list[bytes]) -> object:
    """Return how a server accepts or refuses a request."""
    reader = build.request_reader.RequestReader(_limits(build.package, settings & 1))
    try:
        received, unread = _feed(reader, chunks)
    except build.errors.HandshakeRefused as refused:
        return _refusal(build, refused, "GET", chunks)
    if received is None:
        return None
    rest = reader.rest + unread
    policy = _policy(build.package, settings & 62)
    seen = (received.method, received.target, received.headers.wire, rest)
    checks = build is PURE and len(chunks) == 1  # the other builds and chunks give the same
    if checks:
        _check_request(received, reader.fields)
    try:
        agreement = build.server_of_server.accept_request(received, reader.fields, policy)
    except build.errors.HandshakeRefused as refused:
        return (*seen, *_refusal(build, refused, received.method, chunks))
    if checks:
        if settings >> 1 & 3 in (0, 3) and "Origin" in received.headers:
            _check_same_host(received.headers["Origin"], received.host)
        _check_agreement(build, received, agreement)
    return (*seen, agreement.encoded)


def _check_request(received: Any, fields: dict[bytes, bytes]) -> None:
    """Check that a request contains nothing that a proxy in front of the server could read in another way."""
    assert _FIELDS.fullmatch(received.headers.wire)
    names = {name.lower() for name in received.headers}
    assert names == {name.decode() for name in fields if name}
    assert "transfer-encoding" not in names
    assert not received.headers.get("Content-Length", "0").strip("0")
    assert len(received.headers.get_all("Host")) == 1 or (received.version == "1.0" and "Host" not in received.headers)
    for text in (received.method, received.target, received.path, received.host):
        assert text.isascii()
        assert text.isprintable()
    assert "?" not in received.path
    assert repr(received.headers).isprintable()


def _check_agreement(build: Any, received: Any, agreement: Any) -> None:
    """Check an accepted handshake, and that the response has only the fields that it should have."""
    assert received.method == "GET"
    assert received.headers["Sec-WebSocket-Version"] == "13"
    answer = _read_response(build, agreement.encoded)
    assert answer.status == 101
    allowed = {"upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions"}
    assert {name.lower() for name in answer.headers} <= {*allowed, "server"}
    assert agreement.subprotocol in (None, "chat", "chat.v2")
    _check_terms(agreement.terms)


def _check_same_host(origin: str, host: str) -> None:
    """Check that an accepted origin is an HTTP origin of the host that the request names (RFC 6454)."""
    origin_parts, host_parts = urlsplit(origin), urlsplit(f"//{host}")
    assert origin_parts.scheme in ("http", "https"), origin
    assert origin_parts.hostname
    if ":" not in origin_parts.hostname:  # an IPv6 address has several forms
        assert origin_parts.hostname == host_parts.hostname


def _refusal(build: Any, refused: Any, method: str, chunks: list[bytes]) -> tuple[int, str]:
    if build is PURE and len(chunks) == 1:  # all others are equal
        _check_refusal(build, refused, method)
    return refused.status, refused.reason


def _check_refusal(build: Any, refused: Any, method: str) -> None:
    """Check that a refusal becomes one well-formed response, which ends the connection."""
    _check_error(refused.reason)
    response = _read_response(build, build.server_of_server.error_response(refused).encode())
    assert response.status == refused.status
    assert response.body == f"{refused.reason}\n".encode()
    assert "close" in response.headers["Connection"]
    if method == "HEAD":
        encoded = build.server_of_server.error_response(refused).encode(method)
        assert encoded.endswith(b"\r\n\r\n")


def _read_response(build: Any, encoded: bytes) -> Any:
    reader = build.response_reader.ResponseReader(_limits(build.package, 0))
    response = reader.feed(encoded)
    assert response is not None
    assert reader.rest == b""
    return response


def response(data: bytes) -> None:
    """The response of a server or proxy, as a client reads it."""
    source = Input(data)
    settings, cutter, stream = source.byte(), source.cutter(), source.rest()
    result = same(_read(PURE, settings, chunks) for chunks in ([stream], list(cutter.cut(stream))))
    if isinstance(result, tuple):
        _check_answer(PURE, settings, PURE.head.Response.from_wire(result[0], *result[1:3]))


def _read(build: Any, settings: int, chunks: list[bytes]) -> object:
    """Return the results of the response reader for chunks and the end of the connection."""
    reader = build.response_reader.ResponseReader(_limits(build.package, settings & 1), connect=bool(settings & 2))
    try:
        received, unread = _feed(reader, chunks)
    except build.errors.InvalidHandshake as error:
        _check_error(error)
        return str(error).partition(" it starts with ")[0]  # as many bytes as have arrived
    assert reader.started is any(map(bool, chunks))
    ended = received is None
    received = reader.finish() if received is None else received
    if received is None:
        return None
    assert _FIELDS.fullmatch(received.headers.wire)
    assert received.status == 101 or received.status not in range(100, 200)
    upgraded = received.status == 101 or (settings & 2 and 200 <= received.status < 300)
    assert upgraded or not reader.rest
    assert not (upgraded and ended)
    rest = reader.rest + unread if upgraded else b""
    return received.status, received.headers, received.body, rest


def _check_answer(build: Any, settings: int, received: Any) -> None:
    """Check how a client, and its reconnecting loop, process a response."""
    compression = _compression(0, 0) if settings & 4 else None
    url = build.url.parse_url("wss://example.org/chat?room=1")
    options = build.client.request_options((), None, None, ["chat.v2", "chat"], compression)
    handshake = attrs.evolve(build.client.begin_handshake(url, options), key=KEY)
    try:
        agreement = build.client.check_response(handshake, received)
    except (build.errors.InvalidHandshake, build.errors.HandshakeRefused) as error:
        _check_error(error)
    else:
        assert received.status == 101
        assert received.headers["Sec-WebSocket-Accept"] == ACCEPT
        assert agreement.subprotocol in (None, "chat", "chat.v2")
        assert compression is not None or agreement.terms is None
        _check_terms(agreement.terms)
    refusal = build.proxies.refused_by_proxy("http://proxy.example:3128", received)
    _check_error(refusal)
    assert build.reconnecting.retry_after(received.headers.get("Retry-After", "")) >= 0
    if "Location" in received.headers:
        _check_redirect(build, url, received.headers["Location"])


# Extensions -----------------------------------------------------------------------------------------------------


def _check_terms(terms: Any) -> None:
    if terms is not None:
        assert 8 <= terms.window_bits <= 15
        assert 8 <= terms.peer_window_bits <= 15


@functools.cache
def _compression(bits: int, flags: int) -> Any:
    return PURE.options.Compression(
        window_bits=9 + (bits & 15) % 7,
        peer_window_bits=9 + (bits >> 4) % 7,
        takeover=bool(flags & 1),
        peer_takeover=bool(flags & 2),
    )


def extensions(data: bytes) -> None:
    """Offers and answers of permessage-deflate."""
    source = Input(data)
    module = PURE.extensions
    own, others = [_compression(source.byte() & 127, source.byte() & 3) for _ in range(2)]
    value = source.rest().decode("latin-1")
    # Two sides of this package agree, and on the same.
    accepted = module.accept_offer(module.make_offers(own), others)
    assert accepted is not None
    _check_mirrored(module.check_answer(accepted[0], own), accepted[1])
    try:
        parsed = module.parse_extensions(value)
    except ValueError as error:
        _check_error(error)
    else:
        spelled = ", ".join(
            "; ".join([name, *(key if setting is None else f'{key}="{setting}"' for key, setting in parameters)])
            for name, parameters in parsed
        )
        assert module.parse_extensions(spelled) == parsed
        assert module.parse_extensions(spelled.replace('"', "").replace(" ", "\t ")) == parsed
    try:
        accepted = module.accept_offer(value, own)
    except ValueError as error:
        _check_error(error)
    else:
        if accepted is not None:
            answer, terms = accepted
            _check_terms(terms)
            assert terms.window_bits <= own.window_bits
            assert own.takeover or not terms.takeover
            ((name, parameters),) = module.parse_extensions(answer)
            assert name == "permessage-deflate"
            offered = [offer for name, offer in module.parse_extensions(value) if name == "permessage-deflate"]
            # RFC 7692 section 7.1.2.2: without that parameter in the offer, the answer must not have it.
            assert any(_allows(dict(offer), dict(parameters)) for offer in offered), answer
    try:
        terms = module.check_answer(value, own)
    except ValueError as error:
        _check_error(error)
    else:
        _check_terms(terms)


def _allows(offer: dict[str, str | None], answer: dict[str, str | None]) -> bool:
    """Return whether an answer is allowed for an offer (RFC 7692 section 7.1)."""
    if "server_no_context_takeover" in offer and "server_no_context_takeover" not in answer:
        return False
    if "client_max_window_bits" in answer and "client_max_window_bits" not in offer:
        return False
    bits = offer.get("server_max_window_bits", "15")
    if bits is None or not bits.isdecimal():  # only another offer of the list can have been accepted
        return False
    return int(answer.get("server_max_window_bits") or 15) <= int(bits)


def _check_mirrored(one: Any, other: Any) -> None:
    """Check that each side can inflate all that the other side may send."""
    for sender, receiver in ((one, other), (other, one)):
        assert sender.window_bits <= receiver.peer_window_bits
        assert sender.takeover <= receiver.peer_takeover


# URLs -----------------------------------------------------------------------------------------------------------


def url(data: bytes) -> None:
    """URLs of servers and proxies, and the target of a redirect."""
    source = Input(data)
    settings = source.byte()
    text = source.rest().decode("utf-8", "surrogateescape" if settings & 1 else "replace")
    if settings & 2:
        text = "ws://" + text
    base = PURE.url.parse_url("wss://[fe80::1%25eth0]:8443/a/b?c" if settings & 4 else "ws://example.org/a/b?c")
    _check_url(PURE, text)
    _check_redirect(PURE, base, text.encode("utf-8", "replace").decode())  # a field is never half of a character
    _check_secret(PURE, PURE.url.parse_url, f"ws://user:hunter2@{text}")
    _check_secret(PURE, PURE.proxies.parse_proxy, f"socks5://user:hunter2@{text}")
    try:
        proxy = PURE.proxies.parse_proxy(text)
    except PURE.errors.InvalidURL as error:
        _check_error(error)
    else:
        assert 0 < proxy.port < 65536
        assert str(proxy).isprintable()
        assert str(proxy).isascii()


def _check_url(build: Any, text: str) -> None:
    try:
        parsed = build.url.parse_url(text)
    except build.errors.InvalidURL as error:
        _check_error(error)
        return
    assert not re.search(r"[\x00-\x20\x7f]", text)
    again = build.url.parse_url(str(parsed))
    assert (again.secure, again.host, again.port, again.target) == (
        parsed.secure,
        parsed.name,
        parsed.port,
        parsed.target,
    )
    assert 0 < parsed.port < 65536
    # The request for it is one that a server of this package accepts, and it names the same host and path.
    options = build.client.request_options((), None, None, (), None)
    handshake = build.client.begin_handshake(parsed, options)
    reader = build.request_reader.RequestReader(build.options.Limits(max_request_line=1 << 20, max_head=1 << 21))
    received = reader.feed(handshake.encoded)
    assert received is not None
    assert (received.target, received.host, reader.rest) == (parsed.target, parsed.authority, b"")
    build.server_of_server.accept_request(received, reader.fields, build.server_of_server.Policy())


def _check_redirect(build: Any, base: Any, location: str) -> None:
    try:
        target = build.url.join_url(base, location)
    except build.errors.InvalidURL as error:
        _check_error(error)
    else:
        assert target.host
        assert target.target.startswith("/")
        assert re.fullmatch(r'[!"$-~]+', target.target)


def _check_secret(build: Any, parse: Callable[[str], Any], text: str) -> None:
    """Check that no error shows a password."""
    try:
        parsed = parse(text)
    except build.errors.InvalidURL as error:
        shown = str(error)
    else:
        shown = repr(parsed)
    # What follows the password may hold the word too.
    assert shown.count("hunter2") < text.count("hunter2"), shown


# Frames ---------------------------------------------------------------------------------------------------------


def frames(data: bytes) -> None:
    """A stream of frames, which either role receives: messages, control frames and what is sent in answer."""
    source = Input(data)
    settings, cutter, stream = source.byte(), source.cutter(), source.rest()
    server, deflate, release = bool(settings & 1), bool(settings & 2), settings >> 2 & 3
    chunks = [stream] if settings & 16 else list(cutter.cut(stream))
    expected = reference.parse(stream, server, deflate)
    got = same(_received(build, server, deflate, release, chunks) for build in BUILDS)[-1]
    assert got == expected, f"{got!r} is not {expected!r}"


def _received(build: Any, server: bool, deflate: bool, release: int, chunks: list[bytes]) -> list[Any]:
    """Return the results of a connection for chunks: after each chunk, and the messages and control frames at the end.

    :param release: whether a reader takes what has arrived of a frame: 1 as it is, 2 and 3 from lent buffers too.
    """
    deflater = build.deflate.Deflater(_compression(0, 0), 9, False) if deflate else None
    protocol = build.protocol.Protocol(server, deflater)
    protocol.change(build.protocol.Change.OPENED)
    frame = protocol.parser.frame
    seen: list[Any] = []
    joined = _Joined()
    for chunk in chunks:
        frame.lending = release > 1
        received = bytearray(chunk)  # like the buffer of a loop, it must live while bytes in it are lent
        items = protocol.receive(received, len(received))
        events = [plain(item) for item in items]
        for event in events:
            joined.add(event)
        if release and frame.in_data_frame():
            # A reader that has the beginning of a frame: the rest of the frame continues the message.
            opcode = CONTINUATION if frame.released else frame.opcode
            buffer = bytearray(3 if release == 3 else 0)
            part = bytes(buffer[: frame.release_into(memoryview(buffer))])
            if frame.compressed and not part:
                deflated = frame.release_compressed()
                assert not deflated.fin
                opcode, part = deflated.opcode, deflated.payload
            elif release == 2 or not part:
                part += frame.release()
            if part:
                event = ("DeflatedFrame" if frame.compressed else "DataFrame", opcode, part, False)
                joined.add(event)
                events.append(event)
        frame.keep()
        control = [plain(event) for event in protocol.control]
        protocol.process_control()
        for event in [("Ping", payload) for payload in protocol.pings] + control:
            joined.add(event)
        seen.append((events, control, protocol.pings, frame.active, frame.missing, frame.buffered(), frame.received))
        protocol.pings = []
        assert 0 <= frame.missing <= frame.length
    assert protocol.failed == any(event[0] == "violation" for event in joined.control)
    if build is PURE:
        _check_due(protocol, server, joined.control)
    # Sorted: a chunk's control frames are seen after its data, so only the order among each kind is the same.
    return [*seen, _Sorted([*joined.messages, *joined.control])]


class _Joined:
    """Collects the messages and the control frames that a protocol returned, in the form of `reference`."""

    def __init__(self) -> None:
        self.messages: list[reference.Event] = []
        self.control: list[reference.Event] = []
        self._begun: list[Any] = []  # opcode, whether compressed, and the bytes of the message under way

    def add(self, event: Any) -> None:
        match event:
            case ("bytes", payload):
                self._whole(BINARY, payload)
            case ("str", text) | ("WideText", text, _):
                self._whole(TEXT, text.encode())
            case ("DataFrame" | "DeflatedFrame" as kind, opcode, payload, fin):
                assert bool(self._begun) == (opcode == CONTINUATION)
                self._begun = self._begun or [opcode, kind == "DeflatedFrame", b""]
                assert self._begun[1] == (kind == "DeflatedFrame")
                self._begun[2] += payload
                if fin:
                    self.messages.append(("message", *self._begun))
                    self._begun = []
            case ("CloseFrame", code, reason):
                self.control.append(("close", code, reason))
            case (kind, value):
                self.control.append((kind.lower(), value))

    def _whole(self, opcode: int, payload: bytes) -> None:
        assert not self._begun
        self.messages.append(("message", opcode, False, payload))


class _Sorted(list[reference.Event]):
    """Events. Two are equal if the events of each kind are equal and in the same order."""

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, list)
        kinds = {event[0] for event in [*self, *other]}
        return all([e for e in self if e[0] == kind] == [e for e in other if e[0] == kind] for kind in kinds)

    __hash__ = None


def _check_due(protocol: Any, server: bool, control: list[reference.Event]) -> None:
    """Check what is sent in answer: pongs for the last pings, and one Close frame."""
    answers = reference.parse(b"".join(protocol.due), not server, False)
    pings = [event[1] for event in control if event[0] == "ping"]
    expected: list[reference.Event] = [("pong", payload) for payload in pings[-16:]]
    ends = [event for event in control if event[0] in ("close", "violation")]
    assert len(ends) <= 1
    closes = [event[:2] for event in answers if event[0] == "close"]
    assert [event for event in answers if event[0] != "close"] == expected
    assert closes == [("close", event[1]) for event in ends]
    outcome = protocol.outcome()
    assert repr(outcome.detail).isprintable()
    assert not ends or protocol.close_sent is not None


def send(data: bytes) -> None:
    """Sending in either role: the peer receives everything, in whichever way it is sent."""
    source = Input(data)
    settings = source.byte()
    orders: list[tuple[int, int, bytes]] = []
    while len(orders) < 12 and (first := source.byte()):
        # Sizes on both sides of the boundaries of the header's forms and of the kernels; large ones are slow.
        size = source.byte() * (1, 1, 1, 300 if settings >> 5 == 7 else 17)[first >> 6]
        orders.append((first & 7, first >> 3 & 7, (source.take(4) * (size // 4 + 1))[:size]))
    same(_sent(build, bool(settings & 1), bool(settings & 2), orders) for build in BUILDS)


_FAST = PURE.options.Compression(level=1, mem_level=1, window_bits=9, threshold=4)
_SMALL = PURE.options.Compression(level=9, mem_level=1, window_bits=9)


def _sent(build: Any, server: bool, deflate: bool, orders: list[tuple[int, int, bytes]]) -> list[Any]:
    """Send with a protocol, and return the sent bytes and the errors."""
    deflater = build.deflate.Deflater(_FAST, 9, False) if deflate else None
    protocol = build.protocol.Protocol(server, deflater)
    protocol.change(build.protocol.Change.OPENED)
    stream = b""
    expected: list[reference.Event] = []
    fragments = b""
    for order, how, payload in orders:
        if order in (5, 6):
            control = "ping" if order == 5 else "pong"
            stream += getattr(protocol, control)(payload[:125])
            expected.append((control, payload[:125]))
            continue
        text = payload.decode("latin-1") if how & 1 else None
        forms = (payload, bytearray(payload), memoryview(payload), memoryview(payload + payload)[: len(payload)])
        content = forms[how >> 1] if text is None else text
        encoded = payload if text is None else text.encode()
        opcode = BINARY if text is None else TEXT
        if order in (0, 1) and not protocol.sending:
            compressed = protocol.compresses(content, order == 1 or None)
            stream += protocol.compressed_message(content) if compressed else protocol.message(content)
            expected.append(("message", opcode, encoded))
        elif order == 2 and not protocol.sending:
            stream += protocol.begin_frame(BINARY, len(payload))
            middle = len(payload) // 2 + how % 4
            for part in (payload[:middle], payload[middle:]):
                stream += protocol.frame_part(part)
            assert protocol.unsent == 0
            expected.append(("message", BINARY, payload))
        elif order in (3, 4, 7):
            before = protocol.sending
            kind = before or (TEXT if how & 4 else opcode)
            try:
                stream += protocol.fragment(kind, content, order == 4, order == 7 or None)
            except build.errors.WriteError:
                assert kind == TEXT  # it would not be UTF-8
                continue
            fragments = fragments + encoded if before else encoded
            if order == 4:
                expected.append(("message", kind, fragments))
    got: list[reference.Event] = []
    for event in reference.parse(stream, not server, deflate):
        match event:
            case ("message", kind, compressed, bytes(payload)):
                assert not (compressed and payload.endswith(b"\x00\x00\xff\xff"))  # RFC 7692 section 7.2.1
                whole = zlib.decompressobj(-9).decompress(payload + b"\x00\x00\xff\xff") if compressed else payload
                got.append(("message", kind, whole))
            case _:
                got.append(event)
    assert got == expected, f"{got!r} is not {expected!r}"
    return got


# Kernels --------------------------------------------------------------------------------------------------------


def payload(data: bytes) -> None:
    """Masking, UTF-8 and the encoding of frames, at any offset in a buffer."""
    source = Input(data)
    start, split, repeat = source.byte() & 31, source.byte(), source.byte()
    key = int.from_bytes(source.take(4), "little")
    text = source.rest() * (1 + (repeat & 7))
    masked = bytes(byte ^ key >> 8 * (i & 3) & 255 for i, byte in enumerate(text))
    buffer = b"\xaa" * start + masked + b"\xbb" * (repeat >> 3)
    end = start + len(text)
    split = min(split, len(text))
    same(_kernels(build, text, buffer, start, end, split, key) for build in BUILDS)


def _kernels(build: Any, text: bytes, buffer: bytes, start: int, end: int, split: int, key: int) -> object:
    kernels = build.payload
    assert kernels.unmask(buffer, start, end, key) == text
    assert kernels.unmask(bytearray(buffer), start, end, key) == text
    middle = start + split
    rotated = kernels.rotate_key(key, split)
    assert kernels.unmask(buffer, middle, end, rotated) == text[split:]
    room = bytearray(b"\xcc" * (len(text) + 2))
    kernels.unmask_into(memoryview(room)[1:-1], buffer, start, end, key)
    assert room == b"\xcc" + text + b"\xcc"
    collected = kernels.Payload()
    collected.append(buffer, start, middle, key, len(text))
    collected.append(buffer, middle, end, rotated, len(text))
    assert collected.size == len(text)
    try:
        decoded, error = text.decode(), None
    except UnicodeDecodeError as failure:
        decoded, error = None, failure
    prefix = error is None or error.reason == "unexpected end of data"
    check = kernels.Utf8Check()
    began = check.feed(text, 0, split)
    copied = check.copy()
    assert check.feed(text, split, len(text)) is (began and prefix) or not began
    assert copied.feed(text, split, len(text)) is prefix
    assert check.complete() is copied.complete() is (error is None)
    assert collected.check_text(kernels.Utf8Check(), 0) is prefix
    assert collected.take() == text
    try:
        unmasked = kernels.unmask_text(buffer, start, end, key)
    except UnicodeDecodeError as failure:
        unmasked = failure
    if decoded is None:
        assert isinstance(unmasked, UnicodeDecodeError)
        assert unmasked.object == text
    else:
        assert (unmasked if isinstance(unmasked, str) else unmasked.text) == decoded
        assert isinstance(unmasked, str) or unmasked.size == len(text)
    ways: list[Any] = [text, bytearray(text), memoryview(text)]
    if decoded is not None:
        ways.append(decoded)
    frame = same(kernels.encode_frame(0x82, way, key) for way in ways)
    header = kernels.encode_header(0x82, len(text), key)
    assert frame[: len(header)] == header
    assert reference.parse(frame, key != 0, False) == [("message", BINARY, False, text)]
    return frame


# Compression ----------------------------------------------------------------------------------------------------

_MOST_INFLATED = 1 << 16


def deflate(data: bytes) -> None:
    """Compressed messages: any bytes as the peer's data, and any bytes as our own."""
    source = Input(data)
    settings, most, cutter = source.byte(), source.byte(), source.cutter()
    bits, takeover, text = 9 + (settings & 7) % 7, bool(settings & 8), bool(settings & 16)
    stream = source.rest()
    payloads = stream.split(b"\xff\x00\xff", 2)
    if settings & 32:  # our own data, from a peer that compresses it
        peer = zlib.compressobj(1, zlib.DEFLATED, -bits, 1)
        payloads = [(peer.compress(part) + peer.flush(zlib.Z_SYNC_FLUSH))[:-4] for part in payloads]
    size = (1, 7, 100, 1 << 20)[most & 3]
    results = same(_inflated(build, bits, takeover, text, size, most >> 2, cutter, payloads) for build in BUILDS)
    history = b"" if takeover else None
    for got, compressed in zip(results, payloads, strict=False):
        if not isinstance(got, bytes):
            break
        # A message that ends in the middle of a block is corrupt. Whether that is seen depends on its last bits.
        assert reference.inflate(compressed, bits, history) in (got, None)
        history = None if history is None else (history + got)[-(1 << bits) :]
    if settings & 32 and not text and not most >> 2 & 7 and (takeover or len(payloads) == 1):
        wanted = stream.split(b"\xff\x00\xff", 2)
        assert results == wanted or len(stream) > _MOST_INFLATED
    if settings & 64:
        same(_deflated(build, bits, takeover, list(cutter.cut(stream))[:20]) for build in BUILDS)


def _inflated(
    build: Any, bits: int, takeover: bool, text: bool, most: int, skip: int, cutter: Cutter, payloads: list[bytes]
) -> list[object]:
    """Return the inflated messages, and an error if the last message is not whole.

    :param skip: for each message a bit: whether its second half is skipped.
    """
    inflater = build.deflate.Inflater(bits, takeover)
    results: list[object] = []
    budget = _MOST_INFLATED
    for number, compressed in enumerate(payloads):
        inflated = b""
        parts = [*cutter.cut(compressed), b""]
        try:
            for place, part in enumerate(parts):
                fin = place == len(parts) - 1
                opcode = CONTINUATION if place else TEXT if text else BINARY
                frame = build.deflate.DeflatedFrame(opcode, part, fin)
                if skip >> number & 1 and place > len(parts) // 2:
                    if inflater.skip(frame, 1000) > 1000 and inflater.pending:
                        return [*results, "too much to skip"]
                    continue
                inflater.feed(frame)
                while inflater.pending:
                    piece = inflater.take(most)
                    assert len(piece) <= most
                    inflated += piece
                    budget -= len(piece)
                    if budget < 0:
                        return [*results, "too much"]
        except build.errors.ProtocolViolation as violation:
            same([violation.code, 1007])
            return [*results, (violation.code, violation.reason)]
        assert inflater.ended
        skipped = skip >> number & 1
        assert skipped or not text or inflated.decode().isascii() in (True, False)
        results.append(("skipped", inflated) if skipped else inflated)
    return results


def _deflated(build: Any, bits: int, takeover: bool, parts: list[bytes]) -> list[bytes]:
    """Compress the parts of a message and a whole message, and check that zlib inflates them."""
    deflater = build.deflate.Deflater(_FAST if takeover else _SMALL, bits, takeover)
    stream = zlib.decompressobj(-bits)
    sent = []
    for number, part in enumerate([*parts, b""]):
        fin = number == len(parts)
        compressed = deflater.compress(part, fin)
        sent.append(compressed)
        assert stream.decompress(compressed + (b"\x00\x00\xff\xff" if fin else b"")) == part
    whole = b"".join(parts)
    compressed = deflater.compress_message(whole)
    stream = stream if takeover else zlib.decompressobj(-bits)
    assert stream.decompress(compressed + b"\x00\x00\xff\xff") == whole
    return [*sent, compressed]


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (request, response, extensions, url, frames, send, payload, deflate)
}

WORDS: dict[str, list[str] | list[bytes]] = {
    "request": [
        "GET ", "HEAD ", "CONNECT ", "OPTIONS * ", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "\r\n", "\r\n\r\n", "Host: a\r\n",
        "Upgrade: websocket\r\n", "Connection: Upgrade\r\n", "Sec-WebSocket-Version: 13\r\n", "Content-Length: 0\r\n",
        f"Sec-WebSocket-Key: {KEY.decode()}\r\n", "Sec-WebSocket-Protocol: chat\r\n", "Origin: http://a\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate\r\n", "Transfer-Encoding: chunked\r\n", "http://", "[::1]:80",
        "Cookie: a=b\r\n", "Origin: null\r\n", "Proxy-Connection: close\r\n",
    ],
    "response": [
        "HTTP/1.1 ", "HTTP/1.0 ", "101 Switching Protocols\r\n", "200 OK\r\n", "404 ", "503 ", "100 ", "000 ",
        "407 ", "\r\n\r\n", "Upgrade: websocket\r\n", "Connection: upgrade\r\n", "Content-Length: 5\r\n", "302 ",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", "Sec-WebSocket-Protocol: chat\r\n", "Location: /\r\n",
        "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", "Content-Type: text/html\r\n", "<title>", "&#x110000;",
        "Content-Encoding: gzip\r\n", "Retry-After: 120\r\n", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate\r\n", "Location: wss://a:1/b?c\r\n",
    ],
    "extensions": [
        "permessage-deflate", "; ", ", ", "=", '"', "\\", "server_no_context_takeover", "client_no_context_takeover",
        "server_max_window_bits", "client_max_window_bits", "=8", "=9", "=15", '="10"', "x-webkit-deflate-frame",
    ],
    "url": [
        "ws://", "wss://", "http://", "https://", "socks5h://", "user:pass@", "[::1]", "[fe80::1%25eth0]", ":8765",
        "?", "#", "%", "%2F", "//", "/../", "xn--", "@", "é", "\u212a", "\u3002", "\ufeff",
    ],
    "frames": [
        b"\x81\x80", b"\x82\x80", b"\x01\x81", b"\x80\x80", b"\xc1\x81", b"\x89\x80", b"\x8a\x80", b"\x88\x82",
        b"\x81\xfe\x00\x7e", b"\x82\x7e\x00\x7e", b"\x82\x7f" + bytes(5) + b"\x01\x00\x00", b"\x81\x00", b"\x82\x01",
        b"\x88\x02\x03\xe8", b"\x89\x00", bytes(4), "\u20ac\xe9\U0001d11e".encode(), b"\xed\xa0", b"\xf4\x8f",
    ],
    "send": [],
    "payload": [b"\xf0\x9d\x84\x9e", b"\xed\x9f\xbf", b"\xed\xa0\x80", b"\xe2\x82\xac", b"\xc2\x80", b"\xc1\xbf"],
    "deflate": [b"\xff\x00\xff", b"\x00\x00\xff\xff", b"\x03\x00", b"\x01\x00\x00\xff\xff", b"\x4a\x04\x02\x00"],
}  # fmt: skip
"""Words that the fuzzer puts into its inputs."""
