"""A message that many connections are sent."""

from ..wire.frames import Buffer
from ..wire.protocol import Protocol, check_data


class SharedMessage:
    """One message for many connections of a server: made into a frame once for all that can take the same one."""

    __slots__ = ("_frames", "compress", "data")

    def __init__(self, data: str | Buffer, compress: bool | None) -> None:
        """Raises `TypeError` if `data` is neither `str` nor bytes-like."""
        check_data(data)
        # A copy of what can change: some may have to wait for their turn.
        self.data: str | bytes = data if isinstance(data, str) else bytes(data)
        self.compress: bool | None = compress
        self._frames: dict[int, bytes] = {}

    def frame_for(self, protocol: Protocol) -> bytes | None:
        """The message as a frame; None where it is compressed with reference to what that one was sent before."""
        bits = 0
        deflater = protocol.deflater
        if deflater is not None and protocol.deflates(self.data, self.compress):
            if deflater.takeover:
                return None
            bits = deflater.window_bits
        frame = self._frames.get(bits)
        if frame is None:
            frame = protocol.deflated_message(self.data) if bits else protocol.message(self.data)
            self._frames[bits] = frame
        return frame
