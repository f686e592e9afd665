"""picows, its core: callbacks. The settings are the defaults, with aiofastnet, as it is installed."""

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.clients.common import Arguments, run


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin, frame.rsv1)


async def echo(arguments: Arguments) -> None:
    transport, _ = await ws_connect(Echo, arguments.url, ssl_context=arguments.context)
    await transport.wait_disconnected()


if __name__ == "__main__":
    run(echo)
