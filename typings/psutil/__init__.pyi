"""The few parts of psutil that the tests and benchmarks use."""

from typing import NamedTuple

class pcputimes(NamedTuple):
    user: float
    system: float
    children_user: float
    children_system: float

class pmem(NamedTuple):
    rss: int
    vms: int

class addr(NamedTuple):
    ip: str
    port: int

class pconn(NamedTuple):
    fd: int
    family: int
    type: int
    laddr: addr
    raddr: addr
    status: str

CONN_LISTEN: str

class Process:
    def __init__(self, pid: int | None = None) -> None: ...
    def cpu_times(self) -> pcputimes: ...
    def num_fds(self) -> int: ...
    def memory_info(self) -> pmem: ...
    def net_connections(self, kind: str = "inet") -> list[pconn]: ...
