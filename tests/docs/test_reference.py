"""The reference has a page for every public name, and says what the commands say.

The pages of the names are made when the site is built, and so are the tables of options, errors and arguments. What is
tested here is that each of them is asked for.
"""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import pydoc
import re

import attrs
import pytest

import streamws
import streamws.topics
from helpers.blocks import ROOT
from streamws import about
from streamws.cli import demo, echo
from streamws.cli.main import main

DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text("utf-8")


def test_reference_has_a_page_for_every_public_name() -> None:
    summaries = re.findall(r"^\.\. autosummary::\n((?:   .*\n|\n)*)", page("index.md"), re.MULTILINE)
    names = re.findall(r"^   (\w+)$", "".join(summaries), re.MULTILINE)
    assert sorted(names) == sorted({*streamws.__all__, *streamws._LOADED_WHEN_USED})
    assert all("   :toctree: api\n   :template: page\n" in summary for summary in summaries)


def test_reference_has_a_table_of_every_class_of_options() -> None:
    classes = [
        name
        for name in streamws.__all__
        if attrs.has(getattr(streamws, name)) and getattr(streamws, name).__module__ == "streamws.options"
    ]
    assert sorted(re.findall(r"^\.\. options:: (\w+)$", page("options.md"), re.MULTILINE)) == sorted(classes)


def test_reference_has_the_arguments_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+)  ", capsys.readouterr().out, re.MULTILINE)
    sections = re.findall(
        r"^## streamws (\w+)\n(?:(?!## ).*\n)*?\.\. arguments:: \1$", page("command-line.md"), re.MULTILINE
    )
    assert len(commands) >= 2
    assert sections == commands


def test_reference_has_what_the_command_line_says() -> None:
    greeting = echo._greeting("localhost", False, [("127.0.0.1", 8765)])
    text = "\n".join(greeting).replace(about.BUILD, "compiled", 1)
    assert "$ streamws echo\n" + text + "\n```" in page("command-line.md")
    text = "\n".join(demo._greeting("localhost", [("127.0.0.1", 8765)])).replace(about.BUILD, "compiled", 1)
    assert "$ streamws demo\n" + text + "\n```" in page("command-line.md")


def test_inventory_of_python_has_names_that_exist() -> None:
    first, *lines = (DOCS / "python.inv").read_text("utf-8").splitlines()
    assert first == "# Sphinx inventory version 1"
    entries = [line.split() for line in lines if not line.startswith("#")]
    assert entries == sorted(entries, key=lambda entry: entry[0].lower())
    for name, kind, location in entries:
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module or "builtins"), attribute)
        if kind == "exception":
            assert issubclass(found, BaseException)
        assert re.fullmatch(r"library/[a-z.-]+\.html", location)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.walk_packages(streamws.__path__, "streamws.")])
def test_docstring_examples_give_what_they_say(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


SUMS = {"messages_received", "messages_sent", "bytes_received", "bytes_sent"} | {
    f"{kind}_{way}" for kind in ("compressed", "inflated") for way in ("received", "sent")
}
"""The attributes of `ServerStats` that `ConnectionStats` describes."""


@pytest.mark.parametrize(
    "kind",
    [
        *(streamws.Limits, streamws.Timeouts, streamws.Compression, streamws.Backoff, streamws.Target),
        *(streamws.ConnectionStats, streamws.ServerStats, streamws.CloseOutcome, streamws.DeflateTerms),
        *(streamws.Request, streamws.topics.TopicLimits, streamws.topics.History, streamws.topics.Connected),
        *(streamws.topics.TopicsStats, streamws.topics.BrokerStats, streamws.topics.BrokerConnection),
    ],
)
def test_help_describes_every_attribute_with_its_default(kind: type[attrs.AttrsInstance]) -> None:
    shown = inspect.getdoc(kind) or ""
    fields = [field for field in attrs.fields(kind) if not field.name.startswith("_")]
    described = re.findall(r"^:param (\w+): \w", shown, re.MULTILINE)
    assert described == [field.name for field in fields if kind is not streamws.ServerStats or field.name not in SUMS]
    parameters = inspect.signature(kind).parameters
    for field in fields:
        if field.default is not attrs.NOTHING and not isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
            assert parameters[field.name].default == field.default
    text = pydoc.plain(pydoc.render_doc(kind))
    assert all(line in text for line in shown.splitlines())


TUPLES = [kind for kind in vars(streamws.topics).values() if hasattr(kind, "_fields")]


def test_help_describes_every_field_of_a_named_tuple() -> None:
    assert len(TUPLES) > 10
    for kind in TUPLES:
        described = re.findall(r"^:param (\w+): \w", inspect.getdoc(kind) or "", re.MULTILINE)
        assert described == list(kind._fields), kind


def test_sums_of_a_server_are_counters_of_its_connections() -> None:
    names = [field.name for field in attrs.fields(streamws.ConnectionStats)]
    assert set(names[: len(SUMS)]) == SUMS <= {field.name for field in attrs.fields(streamws.ServerStats)}
    assert "from `messages_received` to `inflated_sent`" in (streamws.ServerStats.__doc__ or "")
    assert (names[0], names[len(SUMS) - 1]) == ("messages_received", "inflated_sent")
