"""The blocking client of websockets."""

from websockets.sync.client import connect

from benchmarks.clients.common import Arguments, parser
from benchmarks.servers.common import MAX_MESSAGE_SIZE, prepare_process

if __name__ == "__main__":
    arguments = parser().parse_args(namespace=Arguments())
    prepare_process(arguments)
    with connect(
        arguments.url,
        ssl=arguments.context,
        compression=None,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=None,
        proxy=None,
    ) as connection:
        for message in connection:
            connection.send(message)
