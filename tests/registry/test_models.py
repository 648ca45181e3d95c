"""registry/models.py: models, keys and partitions behind the name of a table."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import override_settings

from django_pgnudge.events import Event
from django_pgnudge.registry import Registry
from tests.shop import models

if TYPE_CHECKING:
    from tests.fix_servers import Database


def test_a_table_has_its_model_its_proxies_and_no_heirs(registry: Registry) -> None:
    assert registry.models_of("public.shop_product") == (models.Product, models.CheapProduct)
    assert registry.models_of("public.shop_place") == (models.Place,)
    assert registry.models_of("public.shop_restaurant") == (models.Restaurant,)
    through = models.Product.categories.through
    assert registry.models_of("public.shop_product_categories") == (through,)
    assert registry.models_of("prices") == ()


@pytest.mark.parametrize(
    ("payload", "key", "values"),
    [
        ("public.shop_product", (7,), (7,)),
        ("public.shop_restaurant", (7,), (7,)),
        ("public.shop_bistro", (7,), (7,)),
        (
            "public.shop_token",
            ("6ba7b810-9dad-11d1-80b4-00c04fd430c8",),
            (uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),),
        ),
        ("public.shop_day", ("2026-02-03",), (dt.date(2026, 2, 3),)),
        ("public.shop_rate", ("1.50",), (Decimal("1.50"),)),
        ("public.shop_flag", (True,), (True,)),
        ("public.shop_coupon", ("a b",), ("a b",)),
        (
            "public.shop_moment",
            ("2026-02-03 04:05:06.7+00",),
            (dt.datetime(2026, 2, 3, 4, 5, 6, 700000, dt.UTC),),
        ),
        ("public.shop_line", (1, 2), (1, 2)),
        ("public.shop_line", (1,), None),
        ("public.shop_day", ("infinity",), ("infinity",)),
        ("nobody.knows", (1, "x"), (1, "x")),
    ],
)
def test_keys_become_what_obj_pk_is(
    registry: Registry, payload: str, key: Any, values: Any
) -> None:
    found = registry.pk_values(payload, key)
    assert found == values
    assert str(found) == str(values)


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
def test_a_naive_datetime_key_is_in_local_time_as_django_reads_it(registry: Registry) -> None:
    key = registry.pk_values("public.shop_moment", ("2026-02-03 04:00:00+00",))
    assert key == (dt.datetime(2026, 2, 3, 5),)  # noqa: DTZ001


def test_tables_and_exclude_select(registry: Registry) -> None:
    assert registry.selected("public.shop_product")
    assert not registry.selected("public.django_session")
    assert not registry.selected("other.django_migrations")
    with override_settings(PGNUDGE={"TABLES": ["shop.Product", "stock.*"], "EXCLUDE": []}):
        assert registry.selected("public.shop_product")
        assert registry.selected("stock.anything") or registry.selected("stock.item")
        assert not registry.selected("public.shop_category")
        assert registry.selected("prices"), "own nudges are not tables"
        assert registry.feed_tables() == ["public.shop_product", "stock.*"]
    with override_settings(PGNUDGE={"EXCLUDE": ["shop.Product"]}):
        assert not registry.selected("public.shop_product")
    assert registry.feed_tables() is None


def test_a_primary_key_that_is_not_the_models_says_nothing_about_obj_pk(
    django_postgres: Database, registry: Registry
) -> None:
    django_postgres.execute(
        "ALTER TABLE legacy.price_list DROP CONSTRAINT price_list_pkey, ADD nr serial PRIMARY KEY"
    )
    registry.refresh(connection)
    assert registry.pk_values("legacy.price_list", (1,)) is None


def test_a_change_is_seen_under_each_table_s_own_key(
    django_postgres: Database, registry: Registry
) -> None:
    django_postgres.execute(
        "CREATE TABLE up (a int, b int, PRIMARY KEY (a, b))",
        "CREATE TABLE turned (PRIMARY KEY (b, a)) INHERITS (up)",
        "CREATE TABLE shorter (PRIMARY KEY (a)) INHERITS (up)",
        "CREATE TABLE keyless () INHERITS (turned)",
    )
    registry.refresh(connection)

    def seen(payload: str, *key: int) -> object:
        return registry.seen_as(Event(payload, 0.0, 1, frozenset({key})), "public.up")

    assert seen("public.turned", 2, 1) == Event("public.up", 0.0, 1, frozenset({(1, 2)}))
    assert seen("public.shorter", 1) == Event("public.up", 0.0, 1, None)
    assert seen("public.keyless", 1) == Event("public.up", 0.0, 1, None)
    assert seen("public.turned", 1) == Event("public.up", 0.0, 1, None), "a key that is none"
    assert seen("public.up", 1, 2) == Event("public.up", 0.0, 1, frozenset({(1, 2)}))


def test_models_see_an_heir_s_change_under_their_own_table(
    django_postgres: Database, registry: Registry
) -> None:
    django_postgres.execute(
        "CREATE TABLE other_key (nr int PRIMARY KEY) INHERITS (shop_product)",
        "CREATE TABLE same_key (PRIMARY KEY (id)) INHERITS (shop_product)",
    )
    registry.refresh(connection)
    for payload, keys in (("public.other_key", None), ("public.same_key", frozenset({(7,)}))):
        event = Event(payload, 0.0, 1, frozenset({(7,)}))
        expected = Event("public.shop_product", 0.0, 1, keys)
        assert dict(registry.seen_by_models(event)) == {
            models.Product: expected,
            models.CheapProduct: expected,
        }
        pks = registry.pk_values(payload, (7,), "public.shop_product")
        assert pks == (None if keys is None else (7,))


def test_a_partition_made_later_is_unknown_once_and_then_known(
    django_postgres: Database, registry: Registry
) -> None:
    registry.refresh(connection)
    leaf = "public.shop_order_2027"
    django_postgres.execute(
        "CREATE TABLE shop_order_2027 PARTITION OF shop_order"
        " FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')"
    )
    assert registry.may_mean_more(leaf)
    registry.refresh(connection)
    assert not registry.may_mean_more(leaf)
    assert registry.root_of(leaf) == "public.shop_order"
    assert not registry.may_mean_more("public.shop_product")


def test_a_name_in_no_catalog_is_unknown_only_once(
    django_postgres: Database, registry: Registry
) -> None:
    registry.refresh(connection)
    assert not registry.may_mean_more("prices"), "no table is called so"
    assert registry.may_mean_more("public.prices")
    registry.refresh(connection)
    assert not registry.may_mean_more("public.prices")


def test_a_table_that_means_nothing_may_have_been_attached_since(
    django_postgres: Database, registry: Registry
) -> None:
    django_postgres.execute("CREATE TABLE loaded (LIKE shop_order INCLUDING ALL)")
    registry.refresh(connection)
    django_postgres.execute(
        "ALTER TABLE shop_order ATTACH PARTITION loaded"
        " FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')"
    )
    assert registry.may_mean_more("public.loaded")
    registry.refresh(connection)
    assert not registry.may_mean_more("public.loaded")
    assert registry.root_of("public.loaded") == "public.shop_order"


def test_what_was_asked_about_is_remembered_within_bounds(
    django_postgres: Database, registry: Registry
) -> None:
    for number in range(10_001):
        registry.may_mean_more(f"own.nudge {number}")
    registry.refresh(connection)
    assert registry.may_mean_more("own.nudge 1")


def test_a_registry_that_is_read_anew_is_never_seen_half_read(registry: Registry) -> None:
    """Other threads go on to ask it what a name means."""
    seen: list[str] = []

    class Looked(dict[Any, Any]):
        def items(self) -> Any:
            for item in super().items():
                seen.append(registry.payload_of("shop_product"))
                yield item

    registry._by_table = Looked(registry._by_table)  # noqa: SLF001 - half of it is read
    registry._index()  # noqa: SLF001 - as `refresh` does
    assert set(seen) == {"public.shop_product"}
