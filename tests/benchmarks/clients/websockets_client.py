"""The asyncio client of websockets."""

from functools import partial

from websockets.asyncio.client import connect

from benchmarks.clients.common import echo_messages, run

if __name__ == "__main__":
    run(partial(echo_messages, connect))
