"""Sphinx configuration: no warning under ``-W -n``, and nothing taken from the network."""

from __future__ import annotations

import tomllib
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_INIT = (_ROOT / "django_pgnudge" / "__init__.py").read_text(encoding="utf-8")

project = "django-pgnudge"
author = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "authors"
][0]["name"]
copyright = author  # noqa: A001 - Sphinx's name for it
release = version = _INIT.split('__version__ = "', 1)[1].split('"', 1)[0]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
# Tables of results are parts of a page.
exclude_patterns = ["_build", "performance/*", "servers/*"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"django-pgnudge {release}"
# Nothing is fetched when a page is built or read.
html_theme_options = {"top_of_page_buttons": []}
