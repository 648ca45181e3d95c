"""django-oscar: catalogue pages follow prices, stock and categories; baskets stay private."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.compat.conftest import Site

pytestmark = pytest.mark.slow

PROJECT = "oscar_site"
PACKAGES = ("django-oscar",)


def test_the_checks_find_nothing_to_say(site: Site) -> None:
    assert site.step("problems") == []


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        ("price", ()),
        ("allocate", ()),
        ("order", ()),
        ("move", ("Fact", "Films")),
        ("move", ("Films", "Books")),
        ("rename", ("Books", "Paper")),
        ("hide", ("Fiction",)),
        ("attribute", ()),
        ("new_product", ("Drama",)),
        ("delete_product", ()),
        ("delete_category", ("Drama",)),
    ],
)
def test_pages_are_right_after(step: str, arguments: tuple[object, ...], site: Site) -> None:
    before = site.check()
    site.step(step, *arguments)
    after = site.step("paths")
    assert site.step("stale", [path for path in before if path in after]) == []
    site.check()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE partner_stockrecord SET price = price * 2",
        "UPDATE partner_stockrecord SET num_in_stock = 0 WHERE id = 1",
        "UPDATE catalogue_category SET name = name || '!'",
        "UPDATE catalogue_product SET is_public = NOT is_public WHERE id = 2",
        "DELETE FROM catalogue_productcategory WHERE product_id = 1",
        "TRUNCATE partner_stockrecord CASCADE",
    ],
)
def test_pages_are_right_after_sql_from_elsewhere(statement: str, site: Site) -> None:
    before = site.check()
    site.sql(statement)
    assert site.step("stale", before) == []
    site.check()


def test_rules_delete_the_keys_that_they_name(site: Site) -> None:
    site.forget_the_past()
    site.step("fill")
    site.sql("UPDATE catalogue_product SET rating = 3 WHERE id = 2")
    assert site.step("settled", 10)
    assert site.step("left") == ["menu", "other", "product:1"]
    site.step("move", "Fact!", "Fiction!")
    assert site.step("settled", 10)
    assert site.step("left") == ["other", "product:1"], site.said("runnudge")[-1500:]


@pytest.mark.parametrize("detail", [False, True])
def test_a_page_of_oscar_s_shows_nobody_another_s_basket(detail: bool, site: Site) -> None:
    path = site.step("product_path") if detail else "/catalogue/"
    names = [f"{name} {detail}" for name in ("ann", "bob")]
    for name in names:
        site.step("basket_shown", name, path)
    site.sql("UPDATE catalogue_product SET is_public = true")
    site.step("new_stock")
    assert site.step("settled", 10)
    empty = site.step("basket_shown", names[1], path)
    site.step("put_in_basket", names[0])
    full = site.step("basket_shown", names[0], path)
    assert full != empty
    for _ in range(3):
        assert site.step("basket_shown", names[1], path) == empty
        assert site.step("basket_shown", names[0], path) == full
