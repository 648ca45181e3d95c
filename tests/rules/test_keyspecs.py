"""rules/keyspecs.py: what an entry of a rule is read as, and the keys that it gives."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from django.core.cache.utils import make_template_fragment_key
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from django_pgnudge import fragment, page, site
from django_pgnudge.registry import Registry
from django_pgnudge.rules import Deletes
from django_pgnudge.rules.keyspecs import Fixed, glob_escape, parse_key
from tests.fix_servers import Database
from tests.rules.deleting import DEFAULT, PRODUCT, deleted, event, rules
from tests.shop import models
from tests.shop.cachekeys import order_keys


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


def test_a_column_too_many_of_a_table_without_model_widens() -> None:
    assert deleted("k:{pk[1]}", event("a.b", 1), "a.b") == (set(), {"k:*"})


@pytest.mark.parametrize("entry", ["*", "**", "{pk}*", "*{pk}", "{pk}"])
def test_a_pattern_for_everything_is_the_whole_version(entry: str) -> None:
    found = rules({"shop.Product": entry})
    assert found.deletes(event(PRODUCT))[DEFAULT] == Deletes(whole=True)
    assert found.everything()[DEFAULT].whole
    empty = found.deletes(event("public.shop_coupon", ""))
    assert empty == {}
    coupon = rules({"shop.Coupon": entry}).deletes(event("public.shop_coupon", ""))[DEFAULT]
    assert coupon == (Deletes({""}) if entry == "{pk}" else Deletes(whole=True))


def test_keys_are_escaped_where_they_go_into_a_pattern() -> None:
    deletes = deleted("c:{pk}:*", event("public.shop_coupon", "a*[b"), "shop.Coupon")
    assert deletes == (set(), {"c:a[*][[]b:*"})


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


@pytest.mark.parametrize(
    ("entry", "there", "not_there"),
    [
        (
            fragment("*"),
            [make_template_fragment_key("menu"), make_template_fragment_key("side", ["en"])],
            ["views.decorators.cache.cache_page..GET.a.b", "template.other"],
        ),
        (
            page(prefix="*"),
            [
                "views.decorators.cache.cache_page..GET.a.b.en-us.UTC",
                "views.decorators.cache.cache_header.products.a.en-us.UTC",
            ],
            [make_template_fragment_key("menu"), "views.decorators.cache.other"],
        ),
        (
            site(prefix="*"),
            ["views.decorators.cache.cache_page.anything.GET.a.b.en-us.UTC"],
            [make_template_fragment_key("menu")],
        ),
    ],
)
def test_a_star_means_all_that_django_caches(
    entry: Any, there: list[str], not_there: list[str]
) -> None:
    _, patterns = deleted([entry], event(PRODUCT))
    for key in there:
        assert any(fnmatch.fnmatchcase(key, glob) for glob in patterns), key
    for key in not_there:
        assert not any(fnmatch.fnmatchcase(key, glob) for glob in patterns), key


def test_all_fragments_cannot_vary_on_a_value() -> None:
    with pytest.raises(ImproperlyConfigured, match="names all fragments"):
        rules({"*": fragment("*", 7)})
