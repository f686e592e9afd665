"""uvicorn in the event loop of the caller."""

import uvicorn


async def start_server(config: uvicorn.Config) -> tuple[uvicorn.Server, int]:
    """Start a server, and return it with its port. `await server.shutdown()` stops it.

    These are the steps of `serve()`, without its signal handlers, and without the clock of its main loop, which takes
    0.1 s.
    """
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return server, port
