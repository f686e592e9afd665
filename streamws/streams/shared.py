"""A message for many connections."""

from ..wire.frames import Buffer
from ..wire.protocol import Protocol, check_data


class SharedMessage:
    """One message for many connections of a server. It is encoded once for all connections that can share the frame."""

    __slots__ = ("_frames", "compress", "data")

    def __init__(self, data: str | Buffer, compress: bool | None) -> None:
        """Create a message.

        :raises TypeError: if `data` is neither `str` nor bytes-like.
        """
        check_data(data)
        # Copy mutable data: on some connections the message may have to wait for its turn.
        self.data: str | bytes = data if isinstance(data, str) else bytes(data)
        self.compress: bool | None = compress
        self._frames: dict[int, bytes] = {}  # by window bits; 0 for the uncompressed frame

    def frame_for(self, protocol: Protocol) -> bytes | None:
        """Return the message as a frame for a connection; None if it must be compressed for that connection alone."""
        bits = 0
        deflater = protocol.deflater
        if deflater is not None and protocol.compresses(self.data, self.compress):
            if deflater.takeover:
                return None
            bits = deflater.window_bits
        frame = self._frames.get(bits)
        if frame is None:
            frame = protocol.compressed_message(self.data) if bits else protocol.message(self.data)
            self._frames[bits] = frame
        return frame
