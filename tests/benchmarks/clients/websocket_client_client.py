"""websocket-client, a blocking client without a thread."""

from websocket import WebSocketConnectionClosedException, create_connection

from benchmarks.clients.common import Arguments, parser
from benchmarks.servers.common import prepare_process

if __name__ == "__main__":
    arguments = parser().parse_args(namespace=Arguments())
    prepare_process(arguments)
    connection = create_connection(arguments.url, http_no_proxy=["*"])
    try:
        while True:
            opcode, data = connection.recv_data()
            connection.send(data, opcode)
    except WebSocketConnectionClosedException:
        pass
