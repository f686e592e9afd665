"""picows' core, which calls back for each frame, used as in its `examples/echo_server.py` and `broadcast_server.py`.

It has its default settings: it answers pings itself, sends none unless asked, and uses aiofastnet if it is installed.
"""

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.servers.common import BROADCAST, HOST, TRANSFER, Arguments, run

clients: set[WSTransport] = set()
tasks: set[asyncio.Task[None]] = set()


def answer_close(transport: WSTransport, frame: WSFrame) -> None:
    transport.send_close(frame.get_close_code(), frame.get_close_message())
    transport.disconnect()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            answer_close(transport, frame)
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin, frame.rsv1)


class Broadcast(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        clients.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            answer_close(transport, frame)
        else:
            turns, in_turn = map(int, frame.get_payload_as_ascii_text().split())
            task = asyncio.ensure_future(broadcast(turns, in_turn))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def broadcast(turns: int, in_turn: int) -> None:
    for _ in range(turns):
        for _ in range(in_turn):
            for client in clients:
                client.send(WSMsgType.BINARY, BROADCAST)
        await asyncio.sleep(0)


class Upload(WSListener):
    def __init__(self) -> None:
        self.received = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            self.received += len(frame.get_payload_as_memoryview())
        elif frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, str(self.received))
            self.received = 0
        else:
            answer_close(transport, frame)


class Download(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.missing = 0
        self.paused = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            answer_close(transport, frame)
        else:
            self.missing = int(frame.get_payload_as_ascii_text())
            self.send_more()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send_more()

    def send_more(self) -> None:
        while self.missing and not self.paused:
            self.missing -= len(TRANSFER)
            self.transport.send(WSMsgType.BINARY, TRANSFER)


LISTENERS = {"echo": Echo, "broadcast": Broadcast, "upload": Upload, "download": Download}


async def start(arguments: Arguments) -> int:
    listener = LISTENERS[arguments.handler]

    def accept(request: WSUpgradeRequest) -> WSListener:
        return listener()

    server = await ws_create_server(
        accept,
        HOST,
        arguments.port,
        ssl=arguments.context,
        backlog=arguments.backlog,
        enable_auto_ping=arguments.ping is not None,
        auto_ping_idle_timeout=arguments.ping or 10,
        auto_ping_reply_timeout=arguments.ping or 10,
    )
    port: int = server.sockets[0].getsockname()[1]
    return port


if __name__ == "__main__":
    run(start)
