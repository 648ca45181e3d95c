"""rules.py, ruleparse.py, keyspecs.py and registration.py."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import override_settings

from django_pgnudge import invalidates
from django_pgnudge.errors import ConfigError, RuleError
from django_pgnudge.events import Event, Key
from django_pgnudge.registry import Registry
from django_pgnudge.rules import CacheRef, Deletes, RuleSet, load_rules
from django_pgnudge.rules.keyspecs import Fixed, glob_escape, parse_key
from django_pgnudge.rules.parsing import read_rules
from django_pgnudge.rules.registration import registrations, sandbox
from tests.fix_servers import Database
from tests.shop import models
from tests.shop.cachekeys import order_keys

DEFAULT = CacheRef()
PRODUCT = "public.shop_product"
DISCOVERED = registrations()  # at import: what Django found when it loaded the apps


@pytest.fixture(autouse=True)
def _only_the_tests_own_rules() -> Iterator[None]:
    with sandbox():
        yield


def rules(invalidate: dict[str, Any], registry: Registry | None = None) -> RuleSet:
    with override_settings(PGNUDGE={"INVALIDATE": invalidate}):
        return load_rules(registry or Registry())


def event(payload: str, *keys: Key | Any) -> Event:
    """A change of these rows; without any, of nobody knows which."""
    rows = frozenset(key if isinstance(key, tuple) else (key,) for key in keys)
    return Event(payload, 1.0, max(1, len(rows)), rows or None)


def deleted(keys: Any, change: Event, label: str = "shop.Product") -> tuple[set[str], set[str]]:
    deletes = rules({label: keys}).deletes(change)[DEFAULT]
    return deletes.keys, deletes.patterns


@pytest.mark.parametrize(
    ("entry", "keys", "patterns"),
    [
        ("products", {"products"}, set()),
        ("product:{pk}", {"product:1", "product:2"}, set()),
        ("product:{pk[0]}:x", {"product:1:x", "product:2:x"}, set()),
        ("{table}:list", {"shop_product:list"}, set()),
        ("{schema}/{table}/{pk}", {"public/shop_product/1", "public/shop_product/2"}, set()),
        ("{{table}}:{pk}", {"{table}:1", "{table}:2"}, set()),
        ("prices:*", set(), {"prices:*"}),
        ("prices[1]?:*", set(), {"prices[[]1][?]:*"}),
        ("p:{pk}:*", set(), {"p:1:*", "p:2:*"}),
        ("[x]:{pk}:*", set(), {"[[]x]:1:*", "[[]x]:2:*"}),
        ("{table}:*", set(), {"shop_product:*"}),
        ("odd[?]key", {"odd[?]key"}, set()),
        ("shop.products:all", {"shop.products:all"}, set()),
        ({"key": "shop.products"}, {"shop.products"}, set()),
        ({"key": "any*{at} all"}, {"any*{at} all"}, set()),
        ("tests.shop.cachekeys.order_keys", {"orders", "literal*", "order:1", "order:2"}, set()),
        (order_keys, {"orders", "literal*", "order:1", "order:2"}, set()),
        (lambda change: None, set(), set()),
        (lambda change: "one", {"one"}, set()),
        (lambda change: (x for x in ["one", "two*"]), {"one"}, {"two*"}),
    ],
)
def test_an_entry_is_read_by_its_shape(entry: Any, keys: set[str], patterns: set[str]) -> None:
    assert deleted([entry], event(PRODUCT, 1, 2)) == (keys, patterns)


@pytest.mark.parametrize(
    ("entry", "keys", "patterns"),
    [
        ("products", {"products"}, set()),
        ("product:{pk}", set(), {"product:*"}),
        ("line:{pk[0]}:{pk[0]}", set(), {"line:*:*"}),
        ("a*[b]?\\:{pk}", set(), {"a*[[]b][?]\\\\:*"}),
        ("[b]?\\:{pk}", set(), {"[[]b][?]\\\\:*"}),
        ("{table}:list", {"shop_product:list"}, set()),
        (order_keys, {"orders"}, {"order:*"}),
    ],
)
def test_a_change_of_unknown_rows_turns_templates_into_patterns(
    entry: Any, keys: set[str], patterns: set[str]
) -> None:
    assert deleted([entry], event(PRODUCT)) == (keys, patterns)


@pytest.mark.parametrize("text", ["plain", "a*b", "[x]", "[", "a?b", "]", "!x", "[!x]", "*"])
def test_an_escaped_text_matches_only_itself(text: str) -> None:
    glob = glob_escape(text)
    assert fnmatch.fnmatchcase(text, glob)
    for other in ("plainx", "axb", "x", "a", text + "x", text.replace("*", "y").replace("?", "y")):
        assert fnmatch.fnmatchcase(other, glob) == (other == text)


@pytest.mark.parametrize(
    ("label", "payload", "key", "text"),
    [
        ("shop.Token", "public.shop_token", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", None),
        ("shop.Day", "public.shop_day", "2026-02-03", None),
        ("shop.Rate", "public.shop_rate", "1.50", None),
        ("shop.Flag", "public.shop_flag", True, "True"),
        ("shop.Coupon", "public.shop_coupon", "größe", None),
        (
            "shop.Moment",
            "public.shop_moment",
            "2026-02-03 04:05:06+00",
            "2026-02-03 04:05:06+00:00",
        ),
        ("shop.Line", "public.shop_line", (1, 2), "(1, 2)"),
        ("legacy.unknown", "legacy.unknown", "raw text", None),
        ("shop.Awkward", "public.Preis.Liste, größe: INSERT", 5, "5"),
        ("shop.Item", "stock.item", 5, "5"),
    ],
)
def test_pk_is_written_as_python_writes_obj_pk(
    label: str, payload: str, key: Any, text: str | None
) -> None:
    keys, _ = deleted("k:{pk}", event(payload, key), label)
    assert keys == {f"k:{key if text is None else text}"}


@pytest.mark.parametrize(
    ("model", "key", "fields"),
    [
        (models.Token, None, {}),
        (models.Day, "2026-02-03", {"date": "2026-02-03"}),
        (models.Moment, "2026-02-03 03:05:06.12+00", {"at": "2026-02-03T04:05:06.12+01:00"}),
        (models.Rate, "1.50", {"value": "1.5"}),
        (models.Flag, False, {"is_set": False}),
        (models.Coupon, "a b", {"code": "a b"}),
        (models.Line, (3, 4), {"order_id": 3, "number": 4}),
    ],
)
def test_a_key_made_from_a_fetched_object_is_the_key_that_is_deleted(
    django_postgres: Database, model: Any, key: Any, fields: dict[str, Any]
) -> None:
    model.objects.create(**fields)
    fetched = model.objects.get()
    payload = Registry().payload_of(model)
    change = event(payload, str(fetched.pk) if key is None else key)
    assert deleted("k:{pk}", change, model._meta.label)[0] == {f"k:{fetched.pk}"}


def test_columns_of_a_composite_key_are_counted_in_the_models_order(
    django_postgres: Database,
) -> None:
    registry = Registry()
    registry.refresh(connection)
    order = rules({"shop.Order": "order:{pk[0]}:{pk[1]}"}, registry)
    change = event("public.shop_order_2025", ("2025-02-03", 9))
    assert order.deletes(change)[DEFAULT].keys == {"order:9:2025-02-03"}


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


def test_a_column_too_many_of_a_table_without_model_widens() -> None:
    assert deleted("k:{pk[1]}", event("a.b", 1), "a.b") == (set(), {"k:*"})


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


@pytest.mark.parametrize("entry", ["*", "**", "{pk}*", "*{pk}", "{pk}"])
def test_a_pattern_for_everything_is_the_whole_version(entry: str) -> None:
    found = rules({"shop.Product": entry})
    assert found.deletes(event(PRODUCT))[DEFAULT] == Deletes(whole=True)
    assert found.everything()[DEFAULT].whole
    empty = found.deletes(event("public.shop_coupon", ""))
    assert empty == {}
    coupon = rules({"shop.Coupon": entry}).deletes(event("public.shop_coupon", ""))[DEFAULT]
    assert coupon == (Deletes({""}) if entry == "{pk}" else Deletes(whole=True))


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


def test_keys_are_escaped_where_they_go_into_a_pattern() -> None:
    deletes = deleted("c:{pk}:*", event("public.shop_coupon", "a*[b"), "shop.Coupon")
    assert deletes == (set(), {"c:a[*][[]b:*"})


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


@pytest.mark.parametrize(
    ("value", "number", "words"),
    [
        ([], "E007", "is empty"),
        ("", "E007", "not a key"),
        (None, "E007", "not a key"),
        ([1], "E007", "1 is not a key"),
        ({}, "E007", "without 'keys'"),
        ({"keys": []}, "E007", "'keys' is empty"),
        ({"keys": "a", "cahce": "x"}, "E007", "Did you mean 'cache'?"),
        ({"keys": "a", "cache": 1}, "E007", "alias of CACHES"),
        ({"keys": "a", "version": "2"}, "E007", "whole number"),
        ({"keys": "a", "version": True}, "E007", "whole number"),
        ({"key": ""}, "E007", "literal key"),
        ({"key": "a", "cache": "fast"}, "E007", "literal key"),
        ({"keys": "a", "cache": "fats"}, "E010", "Did you mean 'fast'?"),
        ("p:{id}", "E008", "The fields are {pk}"),
        ("p:{}", "E008", "The fields are {pk}"),
        ("p:{pk:>5}", "E008", "The fields are {pk}"),
        ("p:{pk!r}", "E008", "The fields are {pk}"),
        ("p:{pk.id}", "E008", "The fields are {pk}"),
        ("p:{pk[x]}", "E008", "The fields are {pk}"),
        ("p:{pk", "E008", "malformed"),
        ("p:}", "E008", "malformed"),
        ("p:{pk[1]}", "E008", "Columns are counted from 0, and it has 1"),
        ("tests.shop.unimportable.keys", "E009", "RuntimeError: not today"),
    ],
)
def test_a_malformed_rule_names_itself_and_what_is_allowed(
    value: Any,
    number: str,
    words: str,
) -> None:
    with override_settings(PGNUDGE={"INVALIDATE": {"shop.Product": value}}):
        assert [problem.id for problem in read_rules(Registry())[1]] == [number]
    with pytest.raises(ImproperlyConfigured) as caught:
        rules({"shop.Product": value})
    assert words in str(caught.value)
    assert "shop.Product" in str(caught.value)


def test_an_unknown_label_is_improperly_configured() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Did you mean 'shop\.Product'"):
        rules({"shop.Produkt": "x"})


@pytest.mark.parametrize(
    ("entry", "doubt"),
    [
        ("nobody.has.this", ""),
        ("tests.products", "does not define"),
        ("tests.nothing.products", "No module named"),
        ("tests.shop.cachekeys.nothing", "does not define"),
        ("tests.shop.cachekeys.not_callable", "which is not callable"),
    ],
)
def test_what_is_no_importable_callable_is_a_key(entry: str, doubt: str) -> None:
    found = parse_key(entry)
    assert found == Fixed(entry)
    assert isinstance(found, Fixed)
    assert doubt in found.doubt
    assert bool(doubt) is bool(found.doubt)
    assert parse_key({"key": entry}) == Fixed(entry)


def test_a_module_that_fails_to_import_is_told_and_never_while_django_starts() -> None:
    invalidates(models.Product, "tests.shop.unimportable.keys")
    with pytest.raises(ImproperlyConfigured, match="not today"):
        rules({})


def test_rules_in_code_are_as_good_as_those_in_the_setting() -> None:
    invalidates(models.Product, "products", "product:{pk}", version=2)

    @invalidates("shop.Category", cache="fast")
    def category_keys(change: Event) -> list[str]:
        return ["categories"]

    found = rules({"shop.Product": "more"})
    assert category_keys(event("x")) == ["categories"], "decorating leaves the function as it is"
    assert found.deletes(event(PRODUCT, 1)) == {
        DEFAULT: Deletes({"more"}, set()),
        CacheRef("default", 2): Deletes({"products", "product:1"}, set()),
    }
    assert found.deletes(event("public.shop_category")) == {
        CacheRef("fast"): Deletes({"categories"}, set())
    }


def test_a_mistake_in_code_is_raised_where_it_is_made() -> None:
    with pytest.raises(ConfigError, match="The fields are"):
        invalidates(models.Product, "p:{id}")
    with pytest.raises(ConfigError, match="version='2'"):
        invalidates(models.Product, "p", version="2")  # type: ignore[call-overload]
    assert registrations() == ()


def test_what_only_the_registry_knows_of_a_rule_in_code_is_found_on_loading() -> None:
    invalidates("shop.Produkt", "p")
    with pytest.raises(ImproperlyConfigured, match=r"invalidates\(shop\.Produkt"):
        rules({})


def test_cachekeys_modules_are_found_as_admin_modules_are() -> None:
    assert {entry.target for entry in DISCOVERED} == {models.Coupon}
    assert [([*entry.specs], entry.version) for entry in DISCOVERED] == [
        (["default"], None),
        (["fast"], 3),
    ]


@pytest.mark.parametrize("again", [0, -1, 3601, True, "2"])
def test_again_is_a_number_of_seconds(again: Any) -> None:
    with override_settings(PGNUDGE={"INVALIDATE": {"public.t": {"keys": "k", "again": again}}}):
        _, problems = read_rules(Registry())
    assert [problem.id for problem in problems] == ["E007"]
    with pytest.raises(RuleError, match="again"):
        invalidates("public.t", "k", again=again)


def test_again_names_what_is_deleted_once_more_and_when() -> None:
    rules = [{"keys": ["a", "p:{pk}"], "again": 2}, {"keys": "b"}, {"keys": "c", "again": 5.0}]
    with override_settings(PGNUDGE={"INVALIDATE": {"public.t": rules}}):
        (deletes,) = load_rules(Registry()).deletes(event("public.t", 1)).values()
    assert deletes.keys == {"a", "b", "c", "p:1"}
    assert deletes.later == {2.0: Deletes(keys={"a", "p:1"}), 5.0: Deletes(keys={"c"})}


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
