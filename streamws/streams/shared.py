"""A message for many connections."""

from ..wire.frames import Buffer
from ..wire.protocol import Protocol, unchanging


class SharedMessage:
    """One message for many connections of a server. It is encoded once for all connections that can share the frame."""

    __slots__ = ("_compressed", "_frame", "compress", "data")

    def __init__(self, data: str | Buffer, compress: bool | None, text: bool = False) -> None:
        """Create a message.

        :param text: whether bytes-like data is text.
        :raises TypeError: if `data` is neither `str` nor bytes-like.
        :raises UnicodeDecodeError: if `text` is true, and `data` is not valid UTF-8.
        """
        # On some connections the message may have to wait for its turn.
        self.data: str | bytes = unchanging(data)
        if text and isinstance(self.data, bytes):
            self.data = self.data.decode()
        self.compress: bool | None = compress
        self._frame: bytes | None = None  # the uncompressed frame
        self._compressed: dict[int, bytes] = {}  # the compressed frames, by window bits

    def frame_for(self, protocol: Protocol) -> bytes | None:
        """Return the message as a frame for a connection; None if it must be compressed for that connection alone."""
        if protocol.deflater is None or not protocol.compresses(self.data, self.compress):
            if self._frame is None:
                self._frame = protocol.message(self.data)
            return self._frame
        if protocol.deflater.takeover:
            return None
        bits = protocol.deflater.window_bits
        if bits not in self._compressed:
            self._compressed[bits] = protocol.compressed_message(self.data)
        return self._compressed[bits]
