"""Wagtail: pages below `nudged_page` are what their view makes, whatever happens to the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.compat.conftest import Site

pytestmark = pytest.mark.slow

PROJECT = "wagtail_site"
PACKAGES = ("wagtail",)


def test_the_checks_find_nothing_to_say(site: Site) -> None:
    assert site.step("problems") == []


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        ("publish", ("news-1", "News of today")),
        ("save_draft", ("news-1", "Not yet")),
        ("unpublish", ("news-2",)),
        ("republish", ("news-2",)),
        ("move", ("guides-1", "news")),
        ("move", ("news", "guides")),
        ("move", ("news", "guides-2")),
        ("copy", ("guides", "copied")),
        ("reorder", ("guides-1", 0)),
        ("delete", ("news-2",)),
        ("rename_author", ()),
        ("retag", ("guides-1",)),
        ("banner", ("Changed",)),
        ("change_and_fail", ("news-1",)),
        ("alter_the_table", ()),
    ],
)
def test_pages_are_right_after(step: str, arguments: tuple[object, ...], site: Site) -> None:
    before = site.check()
    site.step(step, *arguments)
    assert site.step("stale", before) == [], "also where a page has gone"
    site.check()


RAW = [
    "UPDATE wagtailcore_page SET title = title || '!'",
    "UPDATE wagtail_site_author SET name = 'Grace'",
    "UPDATE wagtailcore_page SET show_in_menus = NOT show_in_menus WHERE depth = 3",
    (
        "UPDATE wagtailcore_page SET slug = replace(slug, 'copied', 'renamed'),"
        " url_path = replace(url_path, '/copied/', '/renamed/')"
    ),
    "UPDATE taggit_tag SET name = 'rouge ' || id",
    "TRUNCATE wagtail_site_articletag",
    "DELETE FROM wagtailcore_pageviewrestriction",
]


@pytest.mark.parametrize("statement", RAW)
def test_pages_are_right_after_sql_from_elsewhere(statement: str, site: Site) -> None:
    before = site.check()
    site.sql(statement)
    assert site.step("stale", before) == []
    site.check()


def test_what_wagtail_caches_of_its_sites_follows_sql_from_elsewhere(site: Site) -> None:
    site.check()
    site.sql("UPDATE wagtailcore_site SET port = 8001")
    assert site.step("stale", site.step("paths")) == []
    site.sql("UPDATE wagtailcore_site SET port = 80")
    site.check()


def test_a_page_that_becomes_private_is_served_to_nobody_else(site: Site) -> None:
    path = site.step("address", "guides-2")
    assert path in site.check()
    assert site.step("get", path)[0] == 200
    site.step("restrict", "guides-2")
    assert site.step("stale", [path]) == []
    assert site.step("get", path)[0] == 302
    site.step("release", "guides-2")
    assert site.step("stale", [path]) == []
    assert site.step("get", path)[0] == 200
