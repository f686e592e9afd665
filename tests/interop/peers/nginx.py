"""nginx as a reverse proxy of the tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from helpers.processes import free_port, listens, running

CONFIGURATION = """
daemon off;
{main}
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""
SERVER = """
    server {{
        listen 127.0.0.1:{port}{parameters};
        {server}
    }}
"""


@asynccontextmanager
async def nginx(server: str, folder: Path, *, main: str = "", parameters: str = "") -> AsyncIterator[int]:
    """Run nginx. Yields its port.

    :param server: directives of the server block, without `listen`.
    :param folder: for its files.
    :param main: directives outside all blocks.
    :param parameters: further parameters of `listen`, each with a space before it.
    """
    port = free_port()
    http = SERVER.format(port=port, parameters=parameters, server=server)
    async with nginx_with(http, port, folder, main=main):
        yield port


@asynccontextmanager
async def nginx_with(http: str, port: int, folder: Path, *, main: str = "") -> AsyncIterator[None]:
    """Run nginx.

    :param http: directives of the `http` block.
    :param port: a port on which it listens then.
    """
    configuration, log = folder / "nginx.conf", folder / "nginx.log"
    configuration.write_text(CONFIGURATION.format(main=main, folder=folder, http=http))
    with log.open("wb") as errors:
        async with running("nginx", "-p", folder, "-c", configuration, "-e", "stderr", errors=errors) as process:
            await listens(port)
            assert process.returncode is None, log.read_text()
            yield
