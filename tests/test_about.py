"""What the package says of itself: its version, its build, and the signatures of compiled methods."""

import importlib
import inspect
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import streamws
from helpers.builds import is_compiled, load_pure
from streamws import Client, DataFrameWriter, FragmentWriter, Writer, about

METHODS = [
    f"{kind.__name__}.{name}"
    for kind in (Client, Writer, FragmentWriter, DataFrameWriter)
    for name, method in vars(kind).items()
    if callable(method) and not name.startswith("_")
]


def again(monkeypatch: pytest.MonkeyPatch, plain: str | None) -> ModuleType:
    """A fresh copy of the module, with `STREAMWS_PLAIN` set."""
    if plain is None:
        monkeypatch.delenv("STREAMWS_PLAIN", raising=False)
    else:
        monkeypatch.setenv("STREAMWS_PLAIN", plain)
    spec = importlib.util.spec_from_file_location("fresh", Path(str(load_pure().about.__file__)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version_is_that_of_the_installed_package() -> None:
    assert streamws.__version__ == about.__version__ == version("streamws")


def test_build_is_the_one_that_was_loaded() -> None:
    assert is_compiled() == about.COMPILED
    assert ("compiled" if is_compiled() else "pure Python") == about.BUILD
    assert (load_pure().about.COMPILED, load_pure().about.BUILD) == (False, "pure Python")


@pytest.mark.parametrize(("value", "plain"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_plain_ways_are_taken_when_the_environment_asks(
    value: str | None, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert again(monkeypatch, value).PLAIN is plain


ENUM_DEFAULTS = {"Writer.data_frame"}
"""Methods with a default that Python cannot read from a compiled method before 3.13."""


@pytest.mark.parametrize("name", METHODS)
def test_compiled_method_shows_the_signature_of_its_source(name: str) -> None:
    kind, method = name.split(".")
    if name in ENUM_DEFAULTS and is_compiled() and sys.version_info < (3, 13):
        with pytest.raises(ValueError, match="invalid signature"):
            inspect.signature(getattr(getattr(streamws, kind), method))
        return
    shown, written = (
        inspect.signature(getattr(getattr(package, kind), method)).parameters.values()
        for package in (streamws, load_pure())
    )
    assert [(one.name, one.default) for one in shown] == [(one.name, one.default) for one in written]
    assert [one.kind for one in shown][1:] == [one.kind for one in written][1:]  # `self` is positional-only in C


def test_methods_are_found() -> None:
    assert {"Client.send", "Writer.feed", "FragmentWriter.send", "DataFrameWriter.write"} <= set(METHODS)
