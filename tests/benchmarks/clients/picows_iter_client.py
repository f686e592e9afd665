"""picows' async-iterator interface, `picows.websockets`."""

from functools import partial

from picows.websockets import connect

from benchmarks.clients.common import echo_messages, run

if __name__ == "__main__":
    run(partial(echo_messages, connect))
