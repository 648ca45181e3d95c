"""rules/ruleset.py: which rules a change fires, and what they delete."""

from __future__ import annotations

import logging

import pytest
from django.db import connection

from django_pgnudge.events import Event
from django_pgnudge.registry import Registry
from django_pgnudge.rules import CacheRef, Deletes
from tests.fix_servers import Database
from tests.rules.deleting import DEFAULT, PRODUCT, event, rules
from tests.shop.cachekeys import order_keys


def test_caches_and_versions_are_kept_apart() -> None:
    found = rules(
        {
            "shop.Product": [
                "plain",
                {"keys": ["a", "b"], "cache": "fast"},
                {"keys": "c", "cache": "default", "version": 2},
                {"key": "literal.key"},
            ],
            "public.shop_product": {"keys": "d", "version": 2},
        }
    )
    assert found.deletes(event(PRODUCT, 1)) == {
        DEFAULT: Deletes({"plain", "literal.key"}, set()),
        CacheRef("fast"): Deletes({"a", "b"}, set()),
        CacheRef("default", 2): Deletes({"c", "d"}, set()),
    }
    assert found.cache_refs() == {DEFAULT, CacheRef("fast"), CacheRef("default", 2)}
    assert found.deletes(event("public.shop_category", 1)) == {}


def test_own_nudges_have_rules() -> None:
    found = rules({"prices": ["prices", "{table}:all"]})
    assert found.deletes(event("prices"))[DEFAULT].keys == {"prices", "prices:all"}


def test_automatic_many_to_many_tables_have_rules() -> None:
    found = rules({"shop.Product.categories": "links", "shop.Product_categories": "others"})
    deletes = found.deletes(event("public.shop_product_categories", 1))
    assert deletes[DEFAULT].keys == {"links", "others"}


def test_a_proxy_and_its_model_share_a_table() -> None:
    found = rules({"shop.CheapProduct": "cheap:{pk}", "shop.Product": "product:{pk}"})
    assert found.deletes(event(PRODUCT, 1))[DEFAULT].keys == {"cheap:1", "product:1"}


def test_a_child_model_dies_with_the_tables_of_all_its_parents() -> None:
    found = rules({"shop.Bistro": "bistro:{pk}", "shop.Place": "place:{pk}"})
    for table in ("shop_restaurant", "shop_bistro"):
        assert found.deletes(event(f"public.{table}", 7))[DEFAULT].keys == {"bistro:7"}
    assert found.deletes(event("public.shop_place", 7))[DEFAULT].keys == {"bistro:7", "place:7"}
    assert found.wants_keys() == {
        "public.shop_bistro", "public.shop_restaurant", "public.shop_place"}  # fmt: skip


def test_a_table_named_as_such_is_that_table_only() -> None:
    assert rules({"public.shop_bistro": "b"}).deletes(event("public.shop_place", 7)) == {}


def test_a_child_with_a_key_of_its_own_dies_wholly_with_its_parent() -> None:
    seen: list[Event] = []
    found = rules({"shop.Franchise": ["franchise:{pk}", seen.append]})
    assert found.deletes(event("public.shop_franchise", "x"))[DEFAULT].keys == {"franchise:x"}
    deletes = found.deletes(event("public.shop_place", 7))[DEFAULT]
    assert (deletes.keys, deletes.patterns) == (set(), {"franchise:*"})
    assert [change.keys for change in seen] == [frozenset({("x",)}), None]
    assert "public.shop_place" not in found.wants_keys()


def test_partitions_fire_the_rules_of_their_root(django_postgres: Database) -> None:
    registry = Registry()
    seen: list[str] = []
    found = rules(
        {
            "shop.Order": ["orders", lambda change: seen.append(change.payload)],
            "public.shop_order_2026_h1": "first-half",
        },
        registry,
    )
    leaf = "public.shop_order_2026_h1"
    assert found.deletes(event(leaf))[DEFAULT].keys == {"first-half"}
    assert [found.asks_about(table) for table in ("public.shop_order", leaf)] == [True, False]
    registry.refresh(connection)
    assert [found.asks_about(table) for table in (leaf, PRODUCT)] == [True, False]
    assert found.deletes(event(leaf))[DEFAULT].keys == {"first-half", "orders"}
    assert seen == ["public.shop_order"]
    assert {leaf, "public.shop_order"} <= found.wants_keys()


def test_a_key_that_is_not_the_models_deletes_the_keys_of_all_rows(
    django_postgres: Database,
) -> None:
    django_postgres.execute(
        "ALTER TABLE legacy.price_list DROP CONSTRAINT price_list_pkey, ADD nr serial PRIMARY KEY"
    )
    registry = Registry()
    registry.refresh(connection)
    deletes = rules({"shop.PriceList": "price:{pk}"}, registry).deletes(
        event("legacy.price_list", 1)
    )
    assert deletes[DEFAULT].patterns == {"price:*"}


def test_an_heir_fires_its_parent_s_rules_by_the_parent_s_key(django_postgres: Database) -> None:
    django_postgres.execute(
        "CREATE TABLE other_key (nr int PRIMARY KEY) INHERITS (shop_product)",
        "CREATE TABLE same_key (PRIMARY KEY (id)) INHERITS (shop_product)",
        "CREATE TABLE up (a int, b int, PRIMARY KEY (a, b))",
        "CREATE TABLE turned (PRIMARY KEY (b, a)) INHERITS (up)",
    )
    registry = Registry()
    registry.refresh(connection)
    seen: list[Event] = []
    given = {"shop.Product": ["product:{pk}", seen.append], "public.up": "up:{pk[0]}:{pk[1]}"}
    found = rules(given, registry)
    deletes = found.deletes(event("public.other_key", 7))[DEFAULT]
    assert (deletes.keys, deletes.patterns) == (set(), {"product:*"})
    deletes = found.deletes(event("public.same_key", 7))[DEFAULT]
    assert (deletes.keys, deletes.patterns) == ({"product:7"}, set())
    assert [(each.payload, each.keys) for each in seen] == [(PRODUCT, None), (PRODUCT, {(7,)})]
    deletes = found.deletes(event("public.turned", (2, 1)))[DEFAULT]
    assert (deletes.keys, deletes.patterns) == ({"up:1:2"}, set())


def test_a_leaf_s_key_is_the_model_s_though_the_root_has_none(django_postgres: Database) -> None:
    django_postgres.execute(
        "DROP TABLE shop_order CASCADE",
        "CREATE TABLE shop_order (id int, placed_on date) PARTITION BY RANGE (placed_on)",
        "CREATE TABLE leaf PARTITION OF shop_order (PRIMARY KEY (placed_on, id)) DEFAULT",
    )
    registry = Registry()
    registry.refresh(connection)
    seen: list[Event] = []
    found = rules({"shop.Order": ["order:{pk[0]}", seen.append]}, registry)
    deletes = found.deletes(event("public.leaf", ("2026-02-03", 7)))[DEFAULT]
    assert (deletes.keys, deletes.patterns) == ({"order:7"}, set())
    assert [(each.payload, each.keys) for each in seen] == [("public.shop_order", None)]


@pytest.mark.parametrize(
    "name",
    [
        "raises_for_rows",
        "raises",
        "exits",
        "returns_nonsense",
        "returns_a_number",
        "returns_bytes",
        "fails_halfway",
    ],
)
def test_a_raising_function_is_logged_with_its_rule_and_nothing_is_lost(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"tests.shop.cachekeys.{name}"
    with caplog.at_level(logging.ERROR, "django_pgnudge.rules"):
        deletes = rules({"shop.Product": [path, "products"]}).deletes(event(PRODUCT, 1))[DEFAULT]
    assert "PGNUDGE[\"INVALIDATE\"]['shop.Product']" in caplog.text
    assert path in caplog.text
    known = {"all-of-it"} if name == "raises_for_rows" else set()
    assert deletes == Deletes({"products"} | known, whole=name != "raises_for_rows")


def test_functions_that_are_not_asked_cost_the_whole_version() -> None:
    def never(change: Event) -> None:
        pytest.fail("asked")

    found = rules({"shop.Product": [never, "products"], "shop.Order": {"keys": "a", "version": 2}})
    assert found.deletes(event(PRODUCT, 1), ask=False) == {
        DEFAULT: Deletes({"products"}, whole=True)
    }
    assert found.deletes(event("public.shop_order"), ask=False) == {
        CacheRef(version=2): Deletes({"a"})
    }


def test_everything_is_all_that_any_change_could_delete() -> None:
    found = rules(
        {
            "shop.Bistro": ["bistros", "bistro:{pk}"],
            "shop.Order": {"keys": [order_keys, "x:*"], "cache": "fast", "version": 4},
            "prices": "prices",
        }
    )
    assert found.everything() == {
        DEFAULT: Deletes({"bistros", "prices"}, {"bistro:*"}),
        CacheRef("fast", 4): Deletes({"orders"}, {"order:*", "x:*"}),
    }


def test_a_function_is_asked_once_for_everything_however_many_tables_fire_it() -> None:
    seen: list[Event] = []
    rules({"shop.Bistro": seen.append}).everything()
    assert [change.payload for change in seen] == ["public.shop_bistro"]


def test_rules_loaded_before_the_registry_was_refreshed_follow_it(
    django_postgres: Database,
) -> None:
    registry = Registry()
    found = rules({"shop.Product": "products"}, registry)
    django_postgres.execute("CREATE SCHEMA tenant", "CREATE TABLE tenant.shop_product (id int)")
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO tenant, public")
    registry.refresh(connection)
    assert found.deletes(event("tenant.shop_product"))[DEFAULT].keys == {"products"}
    assert found.deletes(event(PRODUCT)) == {}


def test_only_rules_that_look_at_rows_want_keys() -> None:
    found = rules(
        {
            "shop.Product": ["a", "b:*", "{table}"],
            "shop.Category": "c:{pk}",
            "shop.Coupon": order_keys,
        }
    )
    assert found.wants_keys() == {"public.shop_category", "public.shop_coupon"}
    assert found.payloads() == {PRODUCT, "public.shop_category", "public.shop_coupon"}
