"""Both builds of streamws in one process: compiled modules, and the `.py` files they are made from."""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

SOURCES = Path(__file__).parents[2] / "streamws"


def compiled_modules() -> list[str]:
    """Return the names of the compiled modules. As in `setup.py`, each has a `.pyx` or a `.pxd` beside its `.py`."""
    typed = {path.with_suffix("") for suffix in ("pyx", "pxd") for path in SOURCES.rglob(f"*.{suffix}")}
    return sorted(".".join(path.relative_to(SOURCES).parts) for path in typed)


class _Sources:
    """Finds the modules of a package in a folder, under another name, and ignores extension modules."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name and not name.startswith(self._name + "."):
            return None
        place = self._folder.joinpath(*name.split(".")[1:])
        if (place / "__init__.py").exists():
            return importlib.util.spec_from_file_location(
                name, place / "__init__.py", submodule_search_locations=[str(place)]
            )
        return importlib.util.spec_from_file_location(name, place.with_suffix(".py"))


def package_folder() -> Path:
    """Return the folder of the installed package."""
    spec = importlib.util.find_spec("streamws")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def use_pure() -> None:
    """Make `import streamws` load the `.py` files. To be called before the first import."""
    assert "streamws" not in sys.modules, "streamws was imported already"
    sys.meta_path.insert(0, _Sources("streamws", package_folder()))


def load_pure(name: str = "streamws_pure") -> ModuleType:
    """Import a second copy of the package, from its `.py` files and under another name."""
    if name not in sys.modules:
        # Behind the hooks of a fuzzer, which instrument what the finders behind them find.
        place = sys.meta_path.index(importlib.machinery.PathFinder)
        sys.meta_path.insert(place, _Sources(name, package_folder()))
    return importlib.import_module(name)


@cache
def is_compiled() -> bool:
    """Return whether the installed package is compiled. It may not be compiled in part."""
    kinds = {str(importlib.import_module(f"streamws.{name}").__file__).endswith(".py") for name in compiled_modules()}
    assert len(kinds) == 1, "the package is compiled in part"
    return kinds == {False}
