"""The version of this package, and which of its two builds this is."""

import os

__version__ = "0.1.0"  # named only here: pyproject.toml takes it from this line

# This module is compiled with the others, so its own file tells which build was loaded.
COMPILED: bool = not __file__.endswith((".py", ".pyc"))
"""Whether the compiled build is loaded, and not the pure one."""

BUILD: str = "compiled" if COMPILED else "pure Python"
"""The build as the command line and the test report name it."""

PLAIN: bool = os.environ.get("STREAMWS_PLAIN", "") not in ("", "0")
"""Whether `STREAMWS_PLAIN` in the environment asks for the plain ways, not CPython and asyncio internals."""
