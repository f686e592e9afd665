"""The documentation as a site: `sphinx-build -W --keep-going -b html docs docs/_build/html`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "docs" / "_ext")]

# The reference is made from the .py sources of this checkout, however the package is installed.
from helpers.builds import use_pure  # noqa: E402

if "streamws" not in sys.modules:
    use_pure()

project = "streamws"
copyright = "the streamws authors"
release = version = version_of("streamws")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "linking",
    "reference",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True
nitpick_ignore_regex = [("py:class", r"streamws\..*\._T")]  # type variables

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Single backticks in docstrings are code, which the extension `linking` links where it is a known name.
default_role = "code"
autosummary_generate = True
special = "__aiter__,__await__,__aenter__,__enter__,__getitem__,__setitem__,__delitem__,__contains__"
autodoc_default_options = {"members": True, "special-members": special}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_display_short_literal_types = True
smartquotes_action = "D"  # dashes; quotes belong to strings
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

# An inventory of the names that are linked to, so that the site is built without a network. Its format is version 1 of
# Sphinx's inventories, which is plain text: a name, its kind, and its page.
intersphinx_mapping = {"python": ("https://docs.python.org/3/", "python.inv")}

copybutton_prompt_text = "$ "

COLORS = {"color-api-name": "var(--color-foreground-primary)", "color-api-pre-name": "var(--color-foreground-muted)"}

pygments_dark_style = "a11y-high-contrast-dark"
html_theme = "furo"
html_title = f"streamws {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": COLORS | {"color-brand-primary": "#0b6e69", "color-brand-content": "#0b6e69"},
    "dark_css_variables": COLORS | {"color-brand-primary": "#5cc8bf", "color-brand-content": "#5cc8bf"},
}
