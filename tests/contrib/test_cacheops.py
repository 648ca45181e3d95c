"""contrib.cacheops: what django-cacheops has cached is right after changes from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contrib.conftest import is_seen, outage, restart, stays
from tests.contrib.data import CHANGES

if TYPE_CHECKING:
    from tests.compat.conftest import Site

pytestmark = pytest.mark.slow

PROJECT = "tests.contrib.cacheops_site"
PACKAGES = ("django-cacheops",)


def test_the_checks_find_nothing_to_say(site: Site) -> None:
    assert site.step("problems") == []


@pytest.mark.parametrize(
    ("query", "statement"),
    [
        ("items", "UPDATE shop_product SET name = name || '!'"),
        ("products", "UPDATE shop_review SET stars = stars"),
        ("product 1", "UPDATE shop_product SET name = name || '!' WHERE id = 2"),
        ("restaurant 1", "UPDATE shop_place SET name = name || '!' WHERE id = 2"),
        (
            "token 1",
            "UPDATE shop_token SET id = id WHERE id <> '{TOKEN}1'".replace(
                "{TOKEN}", "0" * 8 + "-0000-0000-0000-00000000000"
            ),
        ),
    ],
)
def test_an_unrelated_change_leaves_queries_alone(query: str, statement: str, site: Site) -> None:
    stays(site, query, statement)


def test_a_decorated_function_is_ended_by_each_of_its_samples(site: Site) -> None:
    is_seen(site, "pair", "UPDATE shop_product SET name = name || '!' WHERE id = 1")
    is_seen(site, "pair", "INSERT INTO shop_category (name) VALUES ('blue')")


@pytest.mark.parametrize(("query", "statement"), CHANGES)
def test_a_change_from_elsewhere_is_seen(query: str, statement: str, site: Site) -> None:
    is_seen(site, query, statement)


def test_a_change_during_an_outage_is_seen(site: Site) -> None:
    outage(site, "categories", "UPDATE shop_category SET name = name || '1'")


def test_a_server_that_was_put_back_serves_nothing_old(site: Site) -> None:
    restart(site, "categories", "UPDATE shop_category SET name = name || '2'")
