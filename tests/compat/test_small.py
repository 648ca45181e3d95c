"""django-mptt, django-simple-history and Django REST framework, in one project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.compat.conftest import Site

pytestmark = pytest.mark.slow

PROJECT = "small_site"
PACKAGES = ("django-mptt", "django-simple-history", "djangorestframework")


def test_the_checks_find_nothing_to_say(site: Site) -> None:
    assert site.step("problems") == []


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        ("move", ("Fiction 1", "Fact", "first-child")),
        ("move", ("Fact", "Fiction", "last-child")),
        ("drag", ("Fiction 2", "Fact 1")),
        ("rebuild", ()),
        ("edit", ("Edited",)),
        ("revert", ()),
        ("post_by_api", ("Posted",)),
        ("patch_by_api", ("Patched",)),
        ("bulk_create", ()),
        ("read_by_nobody", ()),
        ("delete_shelf", ("Fact 2",)),
    ],
)
def test_pages_are_right_after(step: str, arguments: tuple[object, ...], site: Site) -> None:
    before = site.check()
    site.step(step, *arguments)
    assert site.step("stale", before) == [], "also where a book has gone"
    site.check()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE small_site_shelf SET name = name || '!'",
        "UPDATE small_site_book SET title = title || '!'",
        "UPDATE small_site_historicalbook SET title = 'redacted'",
        "DELETE FROM small_site_book_readers",
        "TRUNCATE small_site_historicalbook CASCADE",
    ],
)
def test_pages_are_right_after_sql_from_elsewhere(statement: str, site: Site) -> None:
    before = site.check()
    site.sql(statement)
    assert site.step("stale", before) == []
    site.check()


def test_each_format_of_the_api_is_kept_by_itself(site: Site) -> None:
    site.check()
    for _ in range(2):
        assert site.step("rendered", "application/json") == ["application/json", "["]
        kind, first = site.step("rendered", "text/html")
        assert (kind, first.strip()) in {("text/html", ""), ("text/html", "<")}


def test_rules_delete_the_keys_that_they_name(site: Site) -> None:
    site.forget_the_past()
    site.step("fill")
    site.step("patch_by_api", "Patched again")
    assert site.step("settled", 10)
    assert site.step("left") == ["readers", "tree"]
    site.step("rebuild")
    site.sql("UPDATE small_site_shelf SET name = 'x' WHERE id = 1")
    assert site.step("settled", 10)
    assert site.step("left") == ["readers"]
