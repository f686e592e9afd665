"""The tests on the page about testing pass, and each of them can fail."""

import re
import sys
from pathlib import Path

import pytest

from helpers.blocks import ROOT, examples
from helpers.processes import python_environment, run

PAGE = ROOT / "docs" / "howto" / "testing.md"
FILES = {example.name: example.source for example in examples() if example.kind == "file"}

MISTAKES = [
    ("chat", 'f"hello {text}"', 'f"bye {text}"', "test_server_greets"),
    ("chat", "Response(404)", "Response(403)", "test_server_refuses_other_paths"),
    ("chat", 'raise ValueError("a name must not be empty")', "return", "test_empty_name_is_an_error"),
    ("chat", '"/chat"', "request.path", "test_server_refuses_other_paths"),
    ("weather", "float(await client.read_message())", "20.0", "test_client_reads_the_temperature"),
    ("weather", "except ConnectionClosed", "except ZeroDivisionError", "test_server_closes_without_an_answer"),
]


async def run_tests(folder: Path, files: dict[str, str], *options: str) -> tuple[int, str]:
    [settings] = re.findall("^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (folder / "pyproject.toml").write_text(settings)
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_asyncio.plugin", *options, str(folder)]
    # Other plugins are not needed, and loading them takes longer than the tests.
    environment = python_environment() | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    finished = await run(*command, environment=environment)
    return finished.status, finished.output.decode() + finished.errors


async def test_tests_of_the_page_pass(tmp_path: Path) -> None:
    status, output = await run_tests(tmp_path, FILES, "-W", "error")
    assert status == 0, output
    tests = sum(source.count("async def test_") for source in FILES.values())
    assert f"{tests} passed" in output
    assert tests == 10


async def test_tests_of_the_page_find_mistakes(tmp_path: Path) -> None:
    # All mistakes in one run, each in a folder of its own: starting pytest is most of the time.
    for number, (name, right, wrong, _) in enumerate(MISTAKES):
        assert FILES[name].count(right) == 1, right
        folder = tmp_path / f"mistake_{number}"
        folder.mkdir()
        changed = FILES | {name: FILES[name].replace(right, wrong)}
        tests = {f"test_{name}": changed[f"test_{name}"], name: changed[name]}
        for file, source in tests.items():
            renamed = source.replace(f"from {name} import", f"from {name}_{number} import")
            (folder / f"{file}_{number}.py").write_text(renamed)
    status, output = await run_tests(tmp_path, {})
    assert status == 1
    for number, (name, _, _, test) in enumerate(MISTAKES):
        assert f"/mistake_{number}/test_{name}_{number}.py::{test}" in output, output


@pytest.mark.parametrize("name", FILES)
def test_files_of_the_page_are_complete(name: str) -> None:
    assert "from streamws import" in FILES[name]
