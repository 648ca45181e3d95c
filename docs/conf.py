"""Sphinx configuration: no warning under ``-W -n``, and nothing taken from the network."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from django.conf import settings

_ROOT = Path(__file__).parent.parent
_INIT = (_ROOT / "django_pgnudge" / "__init__.py").read_text(encoding="utf-8")

# The API reference imports the package, whose modules read settings when they are imported.
sys.path.insert(0, str(_ROOT))
if not settings.configured:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "docs"}}
    )

project = "django-pgnudge"
author = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "authors"
][0]["name"]
copyright = author  # noqa: A001 - Sphinx's name for it
release = version = _INIT.split('__version__ = "', 1)[1].split('"', 1)[0]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
# Tables of results are parts of a page.
exclude_patterns = ["_build", "performance/*", "servers/*"]
nitpicky = True
# Types in signatures are Python's, Django's and the package's own names for them: nothing here
# documents those, and no inventory is fetched from the network.
nitpick_ignore_regex = [("py:(class|obj|exc|data)", r".*")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"django-pgnudge {release}"
# Nothing is fetched when a page is built or read.
html_theme_options = {"top_of_page_buttons": []}
