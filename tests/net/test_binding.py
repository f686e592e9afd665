"""Sockets to listen on: one port for all addresses, Unix paths, abstract names."""

import asyncio
import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from streamws.net import binding
from streamws.net.binding import bind_tcp, bind_unix, file_number, is_abstract, remove_file, shown_path


async def bound(hosts: str | list[str] | None, port: int = 0, reuse_port: bool | None = None) -> list[tuple[str, int]]:
    """Return the addresses that `bind_tcp` binds, and close the sockets."""
    sockets = await bind_tcp(asyncio.get_running_loop(), hosts, port, reuse_port=reuse_port)
    addresses = [sock.getsockname()[:2] for sock in sockets]
    for sock in sockets:
        sock.close()
    return addresses


# TCP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        (["127.0.0.1", "127.0.0.2", "::1"], ["127.0.0.1", "127.0.0.2", "::1"]),
        (["127.0.0.1", "127.0.0.1"], ["127.0.0.1"]),
        ("", ["0.0.0.0", "::"]),
        (None, ["0.0.0.0", "::"]),
        ([""], ["0.0.0.0", "::"]),
    ],
)
async def test_port_0_gives_all_addresses_one_port(hosts: str | list[str] | None, expected: list[str]) -> None:
    addresses = await bound(hosts)
    assert sorted(host for host, _ in addresses) == expected
    assert len({port for _, port in addresses}) == 1
    assert addresses[0][1] > 0


async def test_no_address_is_an_error() -> None:
    with pytest.raises(OSError, match="the host name has no address"):
        await bound([])


async def test_given_port_is_bound() -> None:
    ((_, port),) = await bound("127.0.0.1")
    assert await bound(["127.0.0.1", "::1"], port) == [("127.0.0.1", port), ("::1", port)]


async def test_another_port_is_tried_if_the_first_is_in_use_on_the_second_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bind = binding._bind
    ports: list[int] = []

    def in_use_at_first(sock: socket.socket, address: tuple[object, ...], port: int, reuse_port: bool | None) -> None:
        ports.append(port)
        if len(ports) == 2:
            raise OSError(errno.EADDRINUSE, "in use")
        bind(sock, address, port, reuse_port)

    monkeypatch.setattr(binding, "_bind", in_use_at_first)
    addresses = await bound(["127.0.0.1", "127.0.0.2"])
    port = addresses[0][1]
    assert addresses == [("127.0.0.1", port), ("127.0.0.2", port)]
    assert (ports[0], ports[2:]) == (0, [0, port])


async def test_no_other_port_is_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def in_use(sock: socket.socket, address: tuple[object, ...], port: int, reuse_port: bool | None) -> None:
        calls.append(port)
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(binding, "_bind", in_use)
    with pytest.raises(OSError, match="in use"):
        await bound("127.0.0.1")
    assert calls == [0] * binding._PORT_ATTEMPTS


async def test_given_port_that_is_in_use_is_tried_once_and_all_sockets_are_closed() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken, pytest.raises(OSError, match="in use") as caught:
        await bound(["127.0.0.1", "127.0.0.2"], taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT], ids=["switched off", "not there"])
async def test_system_without_ipv6_listens_on_ipv4(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    create, bind = socket.socket, binding._bind

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6 and number == errno.EAFNOSUPPORT:
            raise OSError(number, os.strerror(number))
        return create(family, kind)

    def switched_off(sock: socket.socket, address: tuple[object, ...], port: int, reuse_port: bool | None) -> None:
        if sock.family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))
        bind(sock, address, port, reuse_port)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    monkeypatch.setattr(binding, "_bind", switched_off)
    for hosts in ("", None):
        assert [host for host, _ in await bound(hosts)] == ["0.0.0.0"]
    for named in ("::1", ["127.0.0.1", "::1"]):  # an address that is named must be available
        with pytest.raises(OSError, match=os.strerror(number)):
            await bound(named)


async def test_reuse_port_lets_two_sockets_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = await bind_tcp(asyncio.get_running_loop(), "127.0.0.1", 0, reuse_port=True)
    with first:
        port = first.getsockname()[1]
        first.listen()
        assert await bound("127.0.0.1", port, reuse_port=True) == [("127.0.0.1", port)]
        with pytest.raises(OSError, match="in use"):
            await bound("127.0.0.1", port)
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match="reuse_port is not supported on this system"):
        await bound("127.0.0.1", reuse_port=True)


# Unix sockets -----------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A path at which there is nothing."""
    return str(tmp_path / "socket")


def test_file_that_a_server_left_is_replaced(path: str) -> None:
    bind_unix(path, None).close()
    before = file_number(path)
    with bind_unix(path, None) as sock:
        assert sock.getsockname() == path
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        sock.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    assert before is not None


def test_path_of_a_server_that_runs_is_not_taken(path: str) -> None:
    with bind_unix(path, None) as sock:
        sock.listen()
        number = file_number(path)
        with pytest.raises(OSError, match="a server is listening there") as caught:
            bind_unix(path, None)
        assert caught.value.errno == errno.EADDRINUSE
        assert file_number(path) == number
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_path_of_a_server_with_a_full_backlog_is_not_taken(path: str) -> None:
    with bind_unix(path, None) as sock:
        sock.listen(0)
        waiting = []
        try:
            with suppress(BlockingIOError):
                for _ in range(10):
                    waiting.append(socket.socket(socket.AF_UNIX))
                    waiting[-1].setblocking(False)
                    waiting[-1].connect(path)
            with pytest.raises(OSError, match="a server is listening there"):
                bind_unix(path, None)
        finally:
            for client in waiting:
                client.close()


def test_file_that_is_not_a_socket_is_not_removed(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(OSError, match="the file is not a socket") as caught:
        bind_unix(path, None)
    assert caught.value.errno == errno.EADDRINUSE
    assert Path(path).read_text() == "precious"


def test_link_to_a_file_is_not_removed(path: str, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("precious")
    os.symlink(target, path)
    with pytest.raises(OSError, match="the file is not a socket"):
        bind_unix(path, None)
    target.unlink()
    with pytest.raises(OSError, match="in use"):  # the link leads nowhere
        bind_unix(path, None)
    assert os.path.islink(path)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
def test_mode_is_that_of_the_file(mode: int, path: str) -> None:
    with bind_unix(path, mode):
        assert stat.S_IMODE(os.stat(path).st_mode) == mode


def test_mode_is_by_default_that_of_the_umask(path: str) -> None:
    before = os.umask(0o027)
    try:
        with bind_unix(path, None):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o750
    finally:
        os.umask(before)


def test_abstract_name_is_not_a_file() -> None:
    name = f"\0streamws-{os.getpid()}"
    assert is_abstract(name)
    assert not is_abstract("/run/socket")
    assert shown_path(name) == f"@streamws-{os.getpid()}"
    assert file_number(name) is None
    with bind_unix(name, None) as sock:
        assert sock.getsockname() == name.encode()
        with pytest.raises(OSError, match="a server is listening there") as caught:
            bind_unix(name, None)
        assert caught.value.errno == errno.EADDRINUSE
    remove_file(name, None)
    bind_unix(name, None).close()  # nothing is left of it


def test_file_is_removed_unless_another_server_has_replaced_it(path: str) -> None:
    first = bind_unix(path, None)
    number = file_number(path)
    first.close()
    second = bind_unix(path, None)
    # A file system may give a new file the number of the old one at once.
    os.rename(path, path + ".kept")
    third = bind_unix(path, None)
    assert file_number(path) != file_number(path + ".kept")
    remove_file(path, file_number(path + ".kept"))
    assert os.path.exists(path)
    remove_file(path, file_number(path))
    assert not os.path.exists(path)
    remove_file(path, number)  # it is gone already
    second.close()
    third.close()
