"""The application as an ASGI server imports it: on the build under test, which the environment names."""

import importlib
import os

from helpers.builds import use_pure

if os.environ["BUILD_UNDER_TEST"] == "pure":
    use_pure()

application = importlib.import_module("asgi.application").application
