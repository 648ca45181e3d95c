"""rules/ruleset.py: rules for the tables of every schema."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import override_settings

from django_pgnudge import invalidates
from django_pgnudge.events import Event
from django_pgnudge.registry import Registry
from django_pgnudge.rules import Deletes, RuleSet
from django_pgnudge.rules import ruleset as ruleset_module
from tests.fix_servers import Database
from tests.rules.deleting import DEFAULT, PRODUCT, event, rules
from tests.shop import models


@pytest.fixture
def tenants(django_postgres: Database) -> Registry:
    """Two tenants' tables beside those of ``public``."""
    for each in ("acme", "umbrella"):
        django_postgres.execute(
            f"CREATE SCHEMA {each}",
            *(
                f"CREATE TABLE {each}.shop_{table} (LIKE public.shop_{table} INCLUDING ALL)"
                for table in ("product", "place", "restaurant", "product_categories", "day")
            ),
        )
    registry = Registry()
    registry.refresh(connection)
    return registry


def fired(ruleset: RuleSet, change: Event) -> tuple[set[str], set[str]]:
    deletes = ruleset.deletes(change).get(DEFAULT, Deletes())
    return deletes.keys, deletes.patterns


def test_a_starred_rule_fires_for_the_table_of_each_schema_with_its_name_in_the_keys(
    tenants: Registry,
) -> None:
    ruleset = rules({"*.shop_product": ["{schema}:products", "{schema}:product:{pk}"]}, tenants)
    assert fired(ruleset, event("acme.shop_product", 1)) == (
        {"acme:products", "acme:product:1"}, set(),
    )  # fmt: skip
    assert fired(ruleset, event("umbrella.shop_product")) == (
        {"umbrella:products"}, {"umbrella:product:*"},
    )  # fmt: skip
    assert fired(ruleset, event("acme.shop_place", 1)) == (set(), set())
    assert fired(ruleset, event("shop_product")) == (set(), set()), "an own nudge"
    assert ruleset.payloads() == ruleset.wants_keys() == {
        "public.shop_product", "acme.shop_product", "umbrella.shop_product",
    }  # fmt: skip
    assert ruleset.wants_keys_of_any()
    everything = ruleset.everything()[DEFAULT]
    assert (everything.keys, everything.patterns) == (set(), {"*:products", "*:product:*"})


def test_a_starred_rule_fires_for_a_schema_made_since(tenants: Registry) -> None:
    """As soon as a change of it comes: a tenant's first rows are not lost until the next look."""
    ruleset = rules({"*.shop.Product": "{schema}:product:{pk}"}, tenants)
    assert fired(ruleset, event("initech.shop_product", 3)) == ({"initech:product:3"}, set())


def test_a_starred_model_rule_fires_for_its_parents_and_writes_keys_as_the_model_does(
    tenants: Registry,
) -> None:
    ruleset = rules(
        {
            "*.shop.Restaurant": "{schema}:{table}:{pk}",
            "*.shop.Product.categories": "{schema}:m2m",
            "*.shop.Day": "{schema}:{pk}",
            "*.shop.Item": "{schema}:item",
        },
        tenants,
    )
    both = {"acme:shop_restaurant:5"}
    assert fired(ruleset, event("acme.shop_restaurant", 5))[0] == both
    assert fired(ruleset, event("acme.shop_place", 5))[0] == both
    assert fired(ruleset, event("umbrella.shop_product_categories", 1))[0] == {"umbrella:m2m"}
    assert fired(ruleset, event("acme.shop_day", "2026-02-03"))[0] == {"acme:2026-02-03"}
    assert fired(ruleset, event("stock.item", 1))[0] == {"stock:item"}, "its schema is its own"
    assert fired(ruleset, event("acme.item", 1))[0] == set()


def test_a_starred_callable_gets_the_table_that_changed_and_each_at_a_resync(
    tenants: Registry,
) -> None:
    def key(change: Event) -> str:
        return f"by {change.payload}"

    ruleset = rules({"*.shop_product": key, "acme.*": "acme"}, tenants)
    assert fired(ruleset, event("acme.shop_product", 1))[0] == {"by acme.shop_product", "acme"}
    assert fired(ruleset, event("acme.shop_place", 1))[0] == {"acme"}
    assert ruleset.asks_about("initech.shop_product")
    assert not ruleset.asks_about("acme.shop_place")
    assert ruleset.everything()[DEFAULT].keys == {
        "acme", "by acme.shop_product", "by public.shop_product", "by umbrella.shop_product",
    }  # fmt: skip


def test_a_rule_for_every_table_fires_for_each_and_for_no_own_nudge(tenants: Registry) -> None:
    ruleset = rules({"*": ["all", "{schema}.{table}"], PRODUCT: "products"}, tenants)
    for payload, keys in (
        ("acme.shop_product", {"all", "acme.shop_product"}),
        (PRODUCT, {"all", "public.shop_product", "products"}),
        ("unheard.of", {"all", "unheard.of"}),
    ):
        assert ruleset.deletes(event(payload))[DEFAULT].keys == keys
    assert ruleset.deletes(event("prices")) == {}
    assert ruleset.deletes(event("*")) == {}
    assert {"acme.shop_product", PRODUCT} <= ruleset.payloads()
    assert ruleset.everything()[DEFAULT].keys == {"all", "products"}
    assert ruleset.everything()[DEFAULT].patterns == {"*.*"}


def test_a_rule_for_every_table_deletes_the_keys_of_each_tenant(
    tenants: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ruleset_module, "names_tenants", lambda alias: True)
    ruleset = rules({"*": "pages", "*.shop_product": "products"}, tenants)
    found = ruleset.deletes(event("acme.shop_product"))
    served = {ref.tenant for ref, deletes in found.items() if "pages" in deletes.keys}
    assert served >= {"acme", "public"}
    assert [r.tenant for r, deletes in found.items() if "products" in deletes.keys] == ["acme"]


def test_a_rule_for_every_table_may_stand_beside_models() -> None:
    invalidates("*", "all")
    assert rules({}).deletes(event("public.anything"))[DEFAULT].keys == {"all"}


def test_a_model_is_that_of_each_schema_where_a_starred_rule_or_the_site_says_so(
    tenants: Registry,
) -> None:
    assert tenants.models_of("acme.shop_product") == ()
    rules({"*.shop_product": "x"}, tenants)
    product = models.Product, models.CheapProduct
    assert tenants.models_of("acme.shop_product") == product
    assert tenants.models_of("acme.shop_place") == ()
    change = event("acme.shop_product", 1)
    assert dict(tenants.seen_by_models(change)) == dict.fromkeys(product, change)
    with override_settings(PGNUDGE={"NUDGED": {"SCOPE": "tests.checks.test_server.path_of"}}):
        tenants.refresh(connection)
        assert tenants.models_of("acme.shop_place") == (models.Place,)
        assert not tenants.may_mean_more("acme.shop_place"), (
            "the catalogs need not be read again for it"
        )
        assert tenants.payload_of("shop.Place") == "public.shop_place", "a label still means one"
