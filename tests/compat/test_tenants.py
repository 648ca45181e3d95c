"""django-tenants: each tenant's rules, pages and values follow its own schema, and no other's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.compat.conftest import Site

pytestmark = pytest.mark.slow

PROJECT = "tenants_site"
PACKAGES = ("django-tenants",)
PUBLISHED = ["acme.shop_product", "public.shared_plan", "umbrella.shop_product"]
OWN = ["plans", "product:1", "product:2", "products"]


def check(site: Site, *names: str) -> None:
    for name in names:
        assert site.step("stale", ["/"], f"{name}.test") == []
        assert site.step("warm", ["/"], f"{name}.test") == [], site.said("worker")[-3000:]
        assert site.step("get", "/", None, f"{name}.test")[1].startswith(f"{name}\n{name}'s")


def test_each_tenant_s_migrations_published_its_tables_and_the_checks_are_silent(
    site: Site,
) -> None:
    assert site.step("published") == PUBLISHED
    assert site.step("problems") == []


def test_a_tenant_s_migrations_go_back_and_again_without_the_others(site: Site) -> None:
    site.step("migrate", "acme", "0001")
    assert site.step("published") == PUBLISHED[1:]
    site.step("migrate", "acme", "0002")
    assert site.step("published") == PUBLISHED


def test_a_change_of_one_tenant_reaches_its_pages_and_leaves_the_other_s(site: Site) -> None:
    check(site, "acme", "umbrella")
    site.step("raise_price", "acme")
    assert site.step("stale", ["/"], "acme.test") == []
    assert site.step("get", "/", None, "umbrella.test")[2] == 0, "still served without its view"
    check(site, "acme", "umbrella")
    site.sql("UPDATE umbrella.shop_product SET price = price + 10")
    check(site, "acme", "umbrella")
    assert site.step("totals", "acme", "umbrella") == [2, 11]
    site.sql("TRUNCATE acme.shop_product RESTART IDENTITY")
    site.sql("INSERT INTO acme.shop_product (name, price) VALUES ('acme''s', 5)")
    check(site, "acme", "umbrella")
    assert site.step("totals", "acme", "umbrella") == [5, 11]
    site.forget_the_past()


def test_a_change_of_a_shared_table_reaches_every_tenant(site: Site) -> None:
    check(site, "acme", "umbrella")
    site.step("raise_plans")
    check(site, "acme", "umbrella")


def test_a_starred_rule_deletes_the_keys_of_the_tenant_that_changed(site: Site) -> None:
    site.step("fill", "acme", "umbrella")
    site.sql("UPDATE acme.shop_product SET price = 7 WHERE id = 1")
    assert site.step("settled", 10)
    assert site.step("left", "acme", "umbrella") == {
        "": ["plans", "umbrella:product:1", "umbrella:products"],
        "acme": ["plans", "product:2"],
        "umbrella": OWN,
    }


def test_a_rule_for_a_shared_table_deletes_the_keys_of_every_tenant(site: Site) -> None:
    site.step("fill", "acme", "umbrella")
    site.step("raise_plans")
    assert site.step("settled", 10)
    left = site.step("left", "acme", "umbrella")
    assert "plans" not in left[""]
    assert [left[name] for name in ("acme", "umbrella")] == [OWN[1:], OWN[1:]]


def test_receivers_get_the_models_and_an_event_for_each_tenant(site: Site) -> None:
    assert site.step("settled", 10)
    site.step("heard", True)
    site.sql("UPDATE acme.shop_product SET price = 8; UPDATE umbrella.shop_product SET price = 8")
    assert site.step("settled", 10)
    heard = site.step("heard", True)
    assert heard["heard"] == [[["acme.shop_product", "umbrella.shop_product"], ["shop.Product"]]]
    assert sorted(heard["heard of"]) == [
        ["shop.Product", "acme.shop_product", [[1]]],
        ["shop.Product", "umbrella.shop_product", [[1]]],
    ]


def test_a_tenant_that_is_made_while_the_daemon_runs_is_followed_at_once(site: Site) -> None:
    site.step("add_tenant", "initech")
    assert "initech.shop_product" in site.step("published")
    assert site.step("problems") == []
    check(site, "initech", "acme")
    site.step("fill", "acme", "initech")
    site.sql("UPDATE initech.shop_product SET price = 99")
    assert site.step("settled", 10)
    left = site.step("left", "acme", "initech")
    assert (left["initech"], left["acme"]) == (["plans", "product:2"], OWN)
    check(site, "initech", "acme")
    assert site.step("totals", "initech") == [99]
    site.step("heard", True)
    site.sql("UPDATE initech.shop_product SET price = 98")
    assert site.step("settled", 10)
    assert site.step("heard", True)["heard"] == [[["initech.shop_product"], ["shop.Product"]]]


def test_a_tenant_that_is_dropped_takes_its_tables_out_of_the_publication(site: Site) -> None:
    site.step("add_tenant", "brief")
    check(site, "brief", "acme")
    site.step("drop_tenant", "brief")
    assert "brief.shop_product" not in site.step("published")
    check(site, "acme", "umbrella")


def test_a_resync_clears_the_keys_of_every_tenant(site: Site) -> None:
    site.step("fill", "acme", "umbrella")
    site.sql(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
        f" WHERE database = '{site.database}'"
    )
    site.wait_for("Resync (reconnected)")
    check(site, "acme", "umbrella")
    assert site.step("left", "acme", "umbrella") == {"": [], "acme": [], "umbrella": []}
