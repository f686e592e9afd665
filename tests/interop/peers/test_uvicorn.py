"""`streamws.asgi.uvicorn.Protocol` in uvicorn's own tests of its WebSocket classes, and the Autobahn cases."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.processes import python_environment
from interop.conformance import BUILDS, QUICK, run_against_server
from interop.peers.distributions import unpacked
from interop.test_conformance import check_quick_cases

ITS_CLASSES = ("wsproto", "websockets-sansio")
ITS_PARSERS = ("httptools", "h11")

DIFFERENT = {
    "test_server_keepalive_ping_pong": "asks whether the class is one of uvicorn's own",
    "test_server_keepalive_disabled": "asks whether the class is one of uvicorn's own",
    "test_duplicate_handshake": "the application raises: uvicorn drops the TCP connection, we close with 1011",
    "test_asgi_return_value": "the application fails: uvicorn drops the TCP connection, we close with 1011",
    "test_close_transport_on_asgi_return": "the application returns: uvicorn drops the TCP connection, we close with "
    "1000, as the test's own docstring asks",
    "test_close_resumes_reads_paused_on_an_unconsumed_message": "uvicorn pauses reading at the first unread message; "
    "we pause at ws_max_queue messages, so that pings are answered while the application is busy",
}
"""The tests that fail with our class, and why."""


# Not async: an async test may take a minute, and this one takes longer.
def test_uvicorns_tests_pass_with_our_class_but_for_those_listed(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    folder = unpacked("uvicorn", tmp_path, pytestconfig)
    shutil.copy(Path(__file__).with_name("uvicorn_conftest.py"), folder / "tests" / "protocols" / "conftest.py")
    results = tmp_path / "results.xml"
    # Not with uvicorn's options: they need plugins, and its tests of other modules do.
    options = ["--rootdir", str(folder), "-o", "addopts=", "-p", "no:asyncio", "-p", "no:cacheprovider", "-n", "6"]
    environment = python_environment()
    if pytestconfig.getoption("build") == "pure":
        environment["STREAMWS_TEST_PURE"] = "1"
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={results}"]
    command.append(str(folder / "tests/protocols/test_websocket.py"))
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert results.exists(), ended.stdout
    failed: dict[str, set[str]] = {}
    passed: dict[str, int] = {}
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        name, _, parameters = case.attrib["name"].partition("[")
        found = re.match(f"({'|'.join([*ITS_CLASSES, 'streamws'])})-({'|'.join(ITS_PARSERS)})", parameters)
        if found is None or case.find("skipped") is not None:
            continue
        if case.find("failure") is None and case.find("error") is None:
            passed[found[1]] = passed.get(found[1], 0) + 1
        else:
            failed.setdefault(found[1], set()).add(f"{name} {found[2]}")
    expected = {f"{name} {parser}" for name in DIFFERENT for parser in ITS_PARSERS}
    assert failed == {"streamws": expected}, ended.stdout
    assert passed["streamws"] > 100


@pytest.mark.parametrize("build", BUILDS)
async def test_build_passes_quick_conformance_cases_under_uvicorn(build: str, tmp_path: Path) -> None:
    check_quick_cases(await run_against_server(build, QUICK, tmp_path, seconds=120, at_once=8, peer="uvicorn"))
