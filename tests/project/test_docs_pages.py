"""The documentation by itself: its pages, links and commands, and that it builds."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import django_pgnudge
from django_pgnudge import errors, operations, signals, testing
from django_pgnudge.checks.ids import DOCS, IDS
from tests import ROOT
from tests.doc_pages import DOCS_DIR, PAGES, blocks, python_blocks, text_of


def test_the_two_commands_are_the_same_everywhere() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    demo = "python -m pip install -e '.[demo]' && python example_project/manage.py demo"
    test = "python -m pip install -e '.[test]' && pytest -n 3"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"$ {demo}\n" in readme
    assert f"$ {test}\n" in readme
    assert f"$ {demo}\n" in text_of("quickstart.md")
    assert f"$ {test}\n" in text_of("contributing.md")
    for path in PAGES:
        for named in re.findall(r"\.\[(\w+)\]'|django-pgnudge\[(\w+)\]", path.read_text("utf-8")):
            assert named[0] in extras or named[1] in extras, (path.name, named)


def test_the_shop_of_the_readme_is_the_one_of_the_quickstart() -> None:
    first = {block.page: block.code for block in reversed(python_blocks("settings"))}
    assert first["README.md"] == first["quickstart.md"]


def test_files_that_the_readme_links_to_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        assert (ROOT / target).exists(), target


def test_pages_that_the_readme_links_to_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    root = DOCS.rsplit("/", 1)[0]
    linked = re.findall(rf"\]\({re.escape(root)}/(\w[^)#]*)\.html", readme)
    assert {"nudged", "signals", "emit", "settled", "rules", "deployment"} <= set(linked)
    for page in linked:
        assert (DOCS_DIR / f"{page}.md").exists(), page


def test_every_page_is_listed_once_and_by_need() -> None:
    listed: dict[str, list[str]] = {}
    for block in blocks():
        if block.page == "index.md" and block.language == "{toctree}":
            caption = re.search(r":caption: (.+)", block.code)
            assert caption
            listed[caption[1]] = re.findall(r"^[\w-]+$", block.code, re.MULTILINE)
    assert list(listed) == ["Tutorial", "How-to guides", "Reference", "Explanation", "Project"]
    pages = [page for each in listed.values() for page in each]
    assert sorted(pages) == sorted(
        path.stem for path in DOCS_DIR.glob("*.md") if path.stem != "index"
    )


def test_the_glossary_is_in_order_and_has_each_word_once() -> None:
    (glossary,) = [block.code for block in blocks() if block.language == "{glossary}"]
    words = re.findall(r"^(\S.*)$", glossary, re.MULTILINE)
    assert words == sorted(set(words), key=str.lower)
    linked = {
        name
        for path in PAGES
        for name in re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", path.read_text("utf-8"))
    }
    assert linked <= set(words)


def test_pages_hold_no_addresses_of_machines_and_no_trailing_spaces() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(?:tmp|work|home|root)/", text), path.name
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path.name


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    lacking = [
        name for name in ("sphinx", "myst_parser", "furo") if not importlib.util.find_spec(name)
    ]
    if lacking:
        pytest.skip(f"the extra 'docs' is not installed: {', '.join(lacking)}")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d",
         str(tmp_path / "doctrees"), str(DOCS_DIR), str(tmp_path / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    for number in IDS:
        html = (tmp_path / "html" / "checks.html").read_text(encoding="utf-8")
        assert f'id="django-pgnudge-{number.lower()}"' in html
    api = (tmp_path / "html" / "api.html").read_text(encoding="utf-8")
    for module in (django_pgnudge, errors, operations, signals, testing):
        # An error that can be imported from two modules has its entry where they all are.
        names = set(module.__all__)
        for name in names if module is errors else names - set(errors.__all__):
            assert f'id="{module.__name__}.{name}"' in api, name
