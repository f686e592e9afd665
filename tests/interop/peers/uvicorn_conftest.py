"""The `conftest.py` that `test_uvicorn.py` puts beside uvicorn's tests: they run with our class too."""

import os
from typing import Any

import pytest
from uvicorn.importer import import_from_string

if "STREAMWS_TEST_PURE" in os.environ:
    from helpers.builds import use_pure

    use_pure()

PROTOCOLS = {
    "wsproto": "uvicorn.protocols.websockets.wsproto_impl:WSProtocol",
    "websockets-sansio": "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol",
}


@pytest.fixture(params=[*PROTOCOLS, "streamws"])
def ws_protocol_cls(request: pytest.FixtureRequest) -> Any:
    if request.param in PROTOCOLS:
        return import_from_string(PROTOCOLS[request.param])
    # Not at the top, because the lines above decide which build is imported.
    from streamws.asgi.uvicorn import Protocol
    from streamws.net.loops import Deadlines

    class WithTimer(Protocol):
        """`Protocol` with two attributes of uvicorn's own classes: tests set the one and look at the other."""

        def _set_close_timeout(self, seconds: float) -> None:
            self._shared.environment.close_deadlines = Deadlines(self.loop, seconds)

        close_timeout = property(None, _set_close_timeout)

        @property
        def close_timer(self) -> object:
            """The timer of the closing handshake while the peer's Close frame has not arrived."""
            connection = self._connection
            if connection is None or self.transport.is_closing():
                return None
            deadlines = self._shared.environment.close_deadlines
            return deadlines if connection.close_overdue in deadlines else None

    return WithTimer


class MoreOfTransport:
    """The methods of `asyncio.Transport` that uvicorn's mock of a transport lacks."""

    write: Any
    close: Any

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Do nothing, because the mock holds nothing back."""

    def set_protocol(self, protocol: object) -> None:
        """Do nothing, because the tests call the first protocol."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def abort(self) -> None:
        self.close()


@pytest.fixture(autouse=True)
def whole_mock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    mock = request.module.MockWriteTransport
    monkeypatch.setattr(request.module, "MockWriteTransport", type("MockWriteTransport", (MoreOfTransport, mock), {}))
