"""The frame that is being received, before its payload is complete."""

from ..codes import CloseCode
from ..errors import ProtocolViolation
from .deflate import DeflatedFrame
from .payload import Payload, Utf8Check, rotate_key, unmask, unmask_into

# Plain integers: a lookup in the enum costs more than the comparison.
_CONTINUATION = 0x0
_TEXT = 0x1
_BINARY = 0x2
_RSV1 = 0x40


class PartialFrame:
    """The frame being received, and the message that it belongs to.

    A parser has one, and uses it for one frame after the other. While `active`, the header of the frame is known and a
    part of its payload is missing. A reader takes the payload that has arrived so far with `release`.

    If a reader is already waiting for these bytes, copying them twice is avoided: with `lending`, they stay in the
    receive buffer, which is lent to this object, and `release_into` unmasks them from there into the reader's buffer.
    """

    __slots__ = (
        "_key",
        "_lent",
        "_lent_end",
        "_lent_start",
        "_payload",
        "_utf8",
        "active",
        "compressed",
        "fin",
        "lending",
        "length",
        "message",
        "missing",
        "opcode",
        "received",
        "released",
    )

    def __init__(self) -> None:
        self._payload: Payload | None = None
        self._key = 0  # the masking key of the frame
        self._utf8: Utf8Check | None = None  # checks the text message under way
        self._lent: bytes | bytearray = b""  # the receive buffer, while bytes in it are lent
        self._lent_start = 0  # where the lent bytes begin
        self._lent_end = 0  # where they end; 0 if nothing is lent
        self.lending: bool = False
        """Whether bytes of an incomplete binary frame stay in the receive buffer. The caller must then call `keep`
        before that buffer is overwritten."""
        self.active: bool = False
        """Whether a frame is under way whose header is known."""
        self.opcode: int = 0
        """The opcode of the frame."""
        self.fin: bool = False
        """Whether the frame is the last one of its message."""
        self.length: int = 0
        """The declared length of the frame's payload."""
        self.missing: int = 0
        """The number of bytes of the payload that have not arrived."""
        self.released: int = 0
        """The number of bytes of the payload that a reader has taken."""
        self.message: int = 0
        """The opcode of the fragmented message under way, or 0."""
        self.compressed: bool = False
        """Whether the message under way is compressed; meaningless between messages."""
        self.received: int = 0
        """The number of bytes received of the message under way; meaningless between messages."""

    def in_data_frame(self) -> bool:
        """Return whether a data frame is under way."""
        return self.active and self.opcode < 8

    def in_message(self) -> bool:
        """Return whether a message has begun and not ended."""
        return self.message != 0 or (self.active and self.opcode < 8)

    def in_fragmented(self) -> bool:
        """Return whether the message under way has more than one frame."""
        return self.message != 0 or (self.active and not self.fin)

    # Called by the parser --------------------------------------------------------------------------------------

    def begin(self, first: int, length: int, key: int) -> None:
        """Begin a frame.

        :param first: the first byte of its header.
        :param length: the declared length of its payload, in bytes.
        :param key: its masking key; 0 if it is not masked.
        """
        self.active = True
        self.opcode = first & 0x0F
        self.fin = first >= 0x80
        self.length = self.missing = length
        self._key = key
        self.released = 0
        self._payload = Payload()
        if self.opcode < 8 and self.message == 0:
            self.received = 0
            self.compressed = first & _RSV1 != 0

    def append(self, data: bytes | bytearray, start: int, end: int) -> None:
        """Add the next bytes of the payload, `data[start:end]`.

        :raises ProtocolViolation: with 1007, if they make a text invalid (RFC 6455 section 8.1).
        """
        payload = self._payload
        assert payload is not None
        size = end - start
        if size == 0:
            return
        offset = self.length - self.missing
        before = payload.size
        self.missing -= size
        if self.lending and self.missing and before == 0 and self._is_binary():
            self._lent = data
            self._lent_start = start
            self._lent_end = end
        else:
            payload.append(data, start, end, rotate_key(self._key, offset), self.length - self.released)
        if self.opcode >= 8:
            return
        self.received += size
        if not self.compressed and (self.message or self.opcode) == _TEXT:
            if self._utf8 is None:
                self._utf8 = Utf8Check()
            if not payload.check_text(self._utf8, before):
                raise invalid_text()

    def finish(self) -> bytes:
        """End the frame, whose payload is complete; return the bytes that were not released."""
        payload = self._payload
        assert payload is not None
        self.active = False
        self._payload = None
        return payload.take()

    def add_fragment(self, opcode: int, payload: bytes) -> None:
        """Count and check a fragment that arrived in one chunk, so that `begin` was not called for it.

        :raises ProtocolViolation: with 1007, if it makes a text invalid (RFC 6455 section 8.1).
        """
        self.received = len(payload) if self.message == 0 else self.received + len(payload)
        if not self.compressed and (self.message or opcode) == _TEXT:
            if self._utf8 is None:
                self._utf8 = Utf8Check()
            if not self._utf8.feed(payload, 0, len(payload)):
                raise invalid_text()

    def end_text(self) -> None:
        """End the text message under way.

        :raises ProtocolViolation: with 1007, if it ends inside a character.
        """
        if self._utf8 is not None and not self._utf8.complete():
            raise invalid_text()

    def drop(self) -> None:
        """Discard the bytes that have arrived, but keep the sizes and the type of the message."""
        self._payload = None
        self._lent_start = self._lent_end = 0

    def _is_binary(self) -> bool:
        return self.opcode < 8 and not self.compressed and (self.message or self.opcode) == _BINARY

    # Called by readers -----------------------------------------------------------------------------------------

    def buffered(self) -> int:
        """Return the number of payload bytes that have arrived and were not released."""
        lent = self._lent_end - self._lent_start
        return lent + self._payload.size if self._payload is not None and self.opcode < 8 else 0

    def release(self) -> bytes:
        """Take the buffered bytes of the data frame. The rest arrives as a `DataFrame`, or is released later."""
        size = self.buffered()
        if size == 0 or self._payload is None:
            return b""
        self.released += size
        if self._lent_end == 0:
            return self._payload.take()
        start = self._lent_start
        end = self._lent_end
        key = self._lent_key()
        self._lent_start = self._lent_end = 0
        return unmask(self._lent, start, end, key)

    def release_compressed(self) -> DeflatedFrame:
        """Take the buffered bytes of a compressed frame. The first bytes of a frame keep the frame's opcode."""
        opcode = _CONTINUATION if self.released else self.opcode
        return DeflatedFrame(opcode, self.release(), False)

    def release_into(self, target: memoryview) -> int:
        """Unmask lent bytes into a writable buffer, as many as fit; return their number, 0 if nothing is lent."""
        size = self._lent_end - self._lent_start
        if size > len(target):
            size = len(target)
        if size:
            start = self._lent_start
            unmask_into(target, self._lent, start, start + size, self._lent_key())
            self.released += size
            self._lent_start += size
            if self._lent_start == self._lent_end:
                self._lent_start = self._lent_end = 0
        return size

    def keep(self) -> None:
        """Copy the lent bytes that were not released, because the receive buffer will be overwritten."""
        if self._lent_end:
            payload = self._payload
            if payload is not None:
                expected = self.length - self.released
                payload.append(self._lent, self._lent_start, self._lent_end, self._lent_key(), expected)
            self._lent_start = self._lent_end = 0

    def _lent_key(self) -> int:
        """Return the masking key, rotated to the first lent byte. The lent bytes are the last ones that arrived."""
        return rotate_key(self._key, self.length - self.missing - (self._lent_end - self._lent_start))


def invalid_text() -> ProtocolViolation:
    """Return the violation of RFC 6455 section 8.1."""
    return ProtocolViolation("a text message is not valid UTF-8", CloseCode.INVALID_DATA)
