"""Choose the build and the loop for the tests, and check that no test leaves anything behind.

Nothing here may import streamws before `pytest_configure` has chosen the build.
"""

import asyncio
import gc
import importlib
import inspect
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import none

from helpers.builds import is_compiled, package_folder, use_pure
from helpers.leaks import LeakCheck
from helpers.pairwise import covering

pytest.register_assert_rewrite("helpers.fixtures", "helpers.frames", "helpers.peers", "topics.centrifugo.endpoints")
pytest.register_assert_rewrite("streamws.topics.testing")

PATIENCE = 60.0
"""Seconds that a test may take."""

TESTS = Path(__file__).parent
PAIRWISE = [TESTS / "wire", TESTS / "test_compression.py"]
"""Tests with so many parameters that the full product would prove little more than each pair of values."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("streamws")
    group.addoption(
        "--build",
        choices=["installed", "pure"],
        default="installed",
        help="test streamws as it is installed, or its .py files even if it is compiled",
    )
    group.addoption(
        "--loop", choices=["asyncio", "uvloop"], default="asyncio", help="the event loop of the async tests"
    )
    group.addoption(
        "--every-case",
        action="store_true",
        help="also run the conformance cases of compression that take minutes (tests/interop/test_every_case.py), "
        "and each test with the full product of its parameters",
    )
    group.addoption(
        "--peers",
        action="store_true",
        help="also run tests/interop/peers, which need browsers, programs and packages that .ci/run installs",
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the whole suite in several processes. A part of it starts faster in this process."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    # One more than there are cores: many tests wait for deadlines and for other processes.
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_configure(config: pytest.Config) -> None:
    # `connect()` would use these proxies, but the tests connect to this machine only.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    # The path of a Unix socket has at most 103 bytes on macOS and 107 on Linux. TMPDIR may be too long for that.
    if os.name == "posix":
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/tmp")
    if config.getoption("build") == "pure":
        use_pure()
    config.pluginmanager.import_plugin("helpers.fixtures")
    config.pluginmanager.import_plugin("helpers.certificates")
    config.pluginmanager.import_plugin("topics.fixtures")
    config.pluginmanager.import_plugin("topics.centrifugo.endpoints")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test with the parameter `wire` on both builds."""
    # Not a parametrized fixture, because streamws must not be imported before `--build` has been read.
    if "wire" in metafunc.fixturenames:
        wires = importlib.import_module("helpers.wires").wires
        metafunc.parametrize("wire", wires(), ids=lambda wire: wire.build, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the tests in `PAIRWISE`, for each build and role, with each pair of values of the other parameters."""
    if config.getoption("every_case"):
        return
    tests: defaultdict[object, list[pytest.Function]] = defaultdict(list)
    paths = {path for path in {item.path for item in items} if any(path.is_relative_to(place) for place in PAIRWISE)}
    for item in items:
        if isinstance(item, pytest.Function) and item.path in paths:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            tests[item.path, item.originalname, parameters.get("wire"), parameters.get("server")].append(item)
    left_out: set[pytest.Item] = set()
    for cases in tests.values():
        if len(cases) > 1:
            # By identity: some values cannot be hashed, and all cases share the objects given to `parametrize`.
            chosen = covering([{name: id(value) for name, value in case.callspec.params.items()} for case in cases])
            left_out.update(case for place, case in enumerate(cases) if place not in chosen)
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


@given(none())
def _draws_nothing(_: None) -> None:
    """Make Hypothesis create its source of random numbers. It warns if nothing refers to that but frozen objects."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    # Thousands of test items live until the end. The garbage collector would visit them again and again while they are
    # made, and after each test if they were not frozen.
    gc.disable()
    try:
        return (yield)
    finally:
        _draws_nothing()
        gc.collect()
        gc.freeze()
        gc.enable()


def _description(config: pytest.Config) -> str:
    about = importlib.import_module("streamws.about")
    assert is_compiled() == about.COMPILED
    plain = ", plain ways" if about.PLAIN else ""
    return f"streamws {about.__version__}, {about.BUILD}{plain}, on {config.getoption('loop')}: {package_folder()}"


def pytest_report_header(config: pytest.Config) -> str:
    return _description(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.get_verbosity() < 0:  # there was no header
        terminalreporter.write_line(_description(config))


def _loop_factory(config: pytest.Config) -> LoopFactory:
    if config.getoption("loop") == "uvloop":
        import uvloop

        factory: LoopFactory = uvloop.new_event_loop
        return factory
    return asyncio.SelectorEventLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, LoopFactory]:
    return {str(config.getoption("loop")): _loop_factory(config)}


@pytest.fixture
def own_loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that does not run, for tests that are not async."""
    loop = _loop_factory(request.config)()
    yield loop
    loop.close()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> None:
    """Check that an async test leaves no task, no open socket and no exception that was never retrieved."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("check_loop")


@pytest.fixture
async def check_loop() -> AsyncIterator[None]:
    check = LeakCheck(PATIENCE)
    yield
    findings = await check.findings()
    if findings:
        pytest.fail("the test left behind:\n" + "\n".join(findings), pytrace=False)
