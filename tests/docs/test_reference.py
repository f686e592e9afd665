"""The reference pages say what the docstrings say, and of every public name."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
from types import ModuleType

import pytest

import streamws
from helpers.blocks import ROOT
from streamws import about
from streamws.cli import echo
from streamws.cli.main import main


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_reference", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES: dict[str, str] = load("docs/build_reference.py").pages()


@pytest.mark.parametrize("name", PAGES)
def test_reference_page_is_what_the_docstrings_give(name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text("utf-8") == PAGES[name], "run: python docs/build_reference.py"


def test_reference_has_every_public_name() -> None:
    titles = [title for page in PAGES.values() for title in re.findall(r"^## (\w+)$", page, re.MULTILINE)]
    assert sorted(titles) == sorted(streamws.__all__)


@pytest.mark.parametrize("command", ["echo", "connect"])
def test_reference_has_every_option_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text("utf-8")
    (section,) = re.findall(f"^## streamws {command}\n(.*?)(?=^## |\\Z)", page, re.MULTILINE | re.DOTALL)
    options = set(re.findall(r"--[a-z]+[a-z-]*", capsys.readouterr().out)) - {"--help"}
    assert options == set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))


def test_reference_has_what_the_command_line_says() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text("utf-8")
    greeting = "\n".join(echo._greeting("localhost", False, [("127.0.0.1", 8765)]))
    assert greeting.replace(about.BUILD, "compiled", 1) in page


@pytest.mark.parametrize("name", [module.name for module in pkgutil.walk_packages(streamws.__path__, "streamws.")])
def test_docstring_examples_give_what_they_say(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
