"""What this copy of streamws is: its version and its build."""

import os

VERSION = "0.1.0"

COMPILED: bool = not __file__.endswith(".py")
"""Whether this is the compiled build."""

PLAIN: bool = os.environ.get("STREAMWS_PLAIN", "") not in ("", "0")
"""Whether `STREAMWS_PLAIN` asks for the plain ways instead of the internals of CPython and asyncio."""
