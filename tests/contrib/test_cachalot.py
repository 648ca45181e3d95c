"""contrib.cachalot: what django-cachalot has cached is right after changes from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contrib.conftest import heat, is_seen, outage, restart, stays
from tests.contrib.data import CHANGES

if TYPE_CHECKING:
    from tests.compat.conftest import Site

pytestmark = pytest.mark.slow

PROJECT = "tests.contrib.cachalot_site"
PACKAGES = ("django-cachalot",)


def test_the_checks_find_nothing_to_say(site: Site) -> None:
    assert site.step("problems") == []


@pytest.mark.parametrize(
    ("query", "statement"),
    [
        ("items", "UPDATE shop_product SET name = name || '!'"),
        ("products", "UPDATE shop_review SET stars = stars"),
        ("products", "INSERT INTO plain_table VALUES (0) ON CONFLICT (id) DO UPDATE SET id = 0"),
        ("orders", "UPDATE shop_product SET name = name || '!'; UPDATE stock.item SET id = id"),
    ],
)
def test_an_unrelated_change_leaves_queries_alone(query: str, statement: str, site: Site) -> None:
    stays(site, query, statement)


def test_a_change_is_seen_by_the_alias_of_a_replica(site: Site) -> None:
    before = heat(site, "products", "replica")
    site.sql("UPDATE shop_product SET name = name || '+'")
    assert site.step("settled", 20)
    now = site.step("truth", "products")
    assert now != before
    assert site.step("read", "products", "replica")[0] == now


def test_what_cachalot_does_itself_goes_on(site: Site) -> None:
    heat(site, "products")
    site.step("update", "by Django")
    assert site.step("read", "products")[0] == site.step("truth", "products")
    heat(site, "products")


def test_the_last_invalidation_is_told(site: Site) -> None:
    for table in ("shop_product", "plain_table"):
        before = site.step("get_last_invalidation", table)
        if table == "shop_product":
            site.sql("UPDATE shop_product SET name = name")
        else:
            site.sql("INSERT INTO plain_table SELECT coalesce(max(id), 0) + 1 FROM plain_table")
        assert site.step("settled", 20)
        assert site.step("get_last_invalidation", table) > before


@pytest.mark.parametrize(("query", "statement"), CHANGES)
def test_a_change_from_elsewhere_is_seen(query: str, statement: str, site: Site) -> None:
    is_seen(site, query, statement)


def test_a_change_during_an_outage_is_seen(site: Site) -> None:
    outage(site, "categories", "UPDATE shop_category SET name = name || '1'")


def test_a_server_that_was_put_back_serves_nothing_old(site: Site) -> None:
    restart(site, "categories", "UPDATE shop_category SET name = name || '2'")
