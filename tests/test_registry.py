"""registry.py and catalog.py, on the models of tests.shop."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_pgnudge.errors import ConfigError
from django_pgnudge.registry import Registry, UnknownLabelError, split_db_table
from tests.shop import models

if TYPE_CHECKING:
    from servers.postgres import DatabaseServer

    from tests.fix_servers import Database

AWKWARD = "public.Preis.Liste, größe: INSERT"


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize(
    ("db_table", "parts"),
    [
        ("shop_product", (None, "shop_product")),
        ('"stock"."item"', ("stock", "item")),
        ('stock"."item', ("stock", "item")),
        ('"only"', (None, "only")),
        ('"a.b"."c"', ("a.b", "c")),
        ('"we""ird"."ta""ble"', ('we"ird', 'ta"ble')),
        ("a.b", (None, "a.b")),
        ('odd"', (None, 'odd"')),
    ],
)
def test_db_table_is_split_as_djangos_quoting_has_it(
    db_table: str, parts: tuple[str | None, str]
) -> None:
    assert split_db_table(db_table) == parts


@pytest.mark.parametrize(
    ("entry", "payload"),
    [
        (models.Product, "public.shop_product"),
        ("shop.Product", "public.shop_product"),
        ("shop.product", "public.shop_product"),
        ("shop.PRODUCT", "public.shop_product"),
        ("shop.CheapProduct", "public.shop_product"),
        ("public.shop_product", "public.shop_product"),
        ("shop_product", "public.shop_product"),
        ("shop.Product_categories", "public.shop_product_categories"),
        ("shop.Product.categories", "public.shop_product_categories"),
        ("shop.Product.categories.through", "public.shop_product_categories"),
        ("shop.Item", "stock.item"),
        ("stock.item", "stock.item"),
        ('"stock"."item"', "stock.item"),
        ("shop.Awkward", AWKWARD),
        (AWKWARD, AWKWARD),
        ("legacy.price_list", "legacy.price_list"),
        ("prices", "prices"),
        ("prices:all", "prices:all"),
        ("nobody.knows", "nobody.knows"),
        ('"shop"."Nothing"', "shop.Nothing"),
        ("two words.Here", "two words.Here"),
    ],
)
def test_labels_tables_and_own_nudges_have_a_payload(
    registry: Registry, entry: Any, payload: str
) -> None:
    assert registry.payload_of(entry) == payload


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("shop.Prodct", "Did you mean 'shop.Product'?"),
        ("shop.nothing", "names no model of the app 'shop'"),
        ("shopp.Product", "there is no app 'shopp'. Did you mean 'shop.Product'?"),
        ("shop.Product.category", "Did you mean 'categories'?"),
        ("shop.Product.name", "no many-to-many field"),
    ],
)
def test_what_can_only_be_a_wrong_label_is_an_error(
    registry: Registry, entry: str, words: str
) -> None:
    with pytest.raises(UnknownLabelError) as caught:
        registry.payload_of(entry)
    assert words in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def test_the_way_to_write_a_table_like_a_label_is_named(registry: Registry) -> None:
    with pytest.raises(UnknownLabelError, match=r"""is written '"shop"\."nothing"'"""):
        registry.payload_of("shop.nothing")


def test_a_swapped_model_is_refused_with_its_successor(registry: Registry) -> None:
    with (
        override_settings(AUTH_USER_MODEL="shop.Category"),
        pytest.raises(UnknownLabelError, match=r"swapped out: name 'shop\.Category'"),
    ):
        registry.payload_of("auth.User")


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


def test_refresh_takes_two_statements_and_nothing_else_asks(
    postgres: DatabaseServer, django_postgres: Database, registry: Registry
) -> None:
    with CaptureQueriesContext(connection) as queries:
        registry.refresh(connection)
    assert len(queries) == 2
    with CaptureQueriesContext(connection) as queries:
        registry.payload_of("shop.Product")
        registry.models_of("public.shop_order_2025")
        registry.unknown("public.never")
        registry.pk_values("public.shop_order_2025", ("2025-02-03", 1))
    assert len(queries) == 0


def test_leaves_have_the_roots_model(
    postgres: DatabaseServer, django_postgres: Database, registry: Registry
) -> None:
    generation = registry.generation
    registry.refresh(connection)
    assert registry.generation > generation
    leaf = "public.shop_order_2026_h1"
    assert registry.root_of(leaf) == "public.shop_order"
    assert registry.lineage(leaf) == (leaf, "public.shop_order_2026", "public.shop_order")
    assert registry.models_of(leaf) == (models.Order,)
    index = "public.shop_order_2025_pkey"
    assert registry.lineage(index) == (index,), "indexes of partitions are no tables"
    assert registry.root_of("public.shop_product") == "public.shop_product"
    assert registry.descendants("public.shop_order") >= {leaf, "public.shop_order_2025"}
    with override_settings(PGNUDGE={"TABLES": ["shop.Order"]}):
        assert registry.selected(leaf)
        assert registry.feed_tables() is None, "partitions made later have to pass"


def test_the_primary_key_index_may_have_another_order_than_the_model(
    postgres: DatabaseServer, django_postgres: Database, registry: Registry
) -> None:
    registry.refresh(connection)
    assert registry.pk_columns("public.shop_order") == ("placed_on", "id")
    values = registry.pk_values("public.shop_order_2025", ("2025-02-03", 9))
    assert values == (9, dt.date(2025, 2, 3))


def test_a_primary_key_that_is_not_the_models_says_nothing_about_obj_pk(
    django_postgres: Database, registry: Registry
) -> None:
    django_postgres.execute(
        "ALTER TABLE legacy.price_list DROP CONSTRAINT price_list_pkey, ADD nr serial PRIMARY KEY"
    )
    registry.refresh(connection)
    assert registry.pk_values("legacy.price_list", (1,)) is None


def test_unqualified_tables_follow_search_path(
    postgres: DatabaseServer, django_postgres: Database, registry: Registry
) -> None:
    django_postgres.execute("CREATE SCHEMA tenant", "CREATE TABLE tenant.shop_product (id int)")
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO tenant, public")
    registry.refresh(connection)
    assert registry.payload_of("shop.Product") == "tenant.shop_product"
    assert registry.models_of("tenant.shop_product")[0] is models.Product
    assert registry.models_of("public.shop_product") == ()
    assert registry.payload_of("shop.Category") == "public.shop_category"
    assert registry.payload_of("shop.Awkward") == AWKWARD


def test_inheriting_tables_are_read_with_their_parents(
    django_postgres: Database, registry: Registry
) -> None:
    django_postgres.execute("CREATE TABLE old_products () INHERITS (shop_product)")
    registry.refresh(connection)
    assert registry.models_of("public.old_products")[0] is models.Product
    assert registry.root_of("public.old_products") == "public.old_products", "it is no partition"


def test_a_partition_made_later_is_unknown_once_and_then_known(
    django_postgres: Database, registry: Registry
) -> None:
    registry.refresh(connection)
    leaf = "public.shop_order_2027"
    django_postgres.execute(
        "CREATE TABLE shop_order_2027 PARTITION OF shop_order"
        " FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')"
    )
    assert registry.unknown(leaf)
    registry.refresh(connection)
    assert not registry.unknown(leaf)
    assert registry.root_of(leaf) == "public.shop_order"
    assert not registry.unknown("public.shop_product")


def test_a_name_in_no_catalog_is_unknown_only_once(
    django_postgres: Database, registry: Registry
) -> None:
    registry.refresh(connection)
    assert not registry.unknown("prices"), "no table is called so"
    assert registry.unknown("public.prices")
    registry.refresh(connection)
    assert not registry.unknown("public.prices")


def test_a_table_that_means_nothing_may_have_been_attached_since(
    django_postgres: Database, registry: Registry
) -> None:
    django_postgres.execute("CREATE TABLE loaded (LIKE shop_order INCLUDING ALL)")
    registry.refresh(connection)
    django_postgres.execute(
        "ALTER TABLE shop_order ATTACH PARTITION loaded"
        " FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')"
    )
    assert registry.unknown("public.loaded")
    registry.refresh(connection)
    assert not registry.unknown("public.loaded")
    assert registry.root_of("public.loaded") == "public.shop_order"


def test_a_schema_may_be_called_like_an_app(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.Item._meta, "db_table", '"shop"."box"')
    assert Registry().payload_of("shop.box") == "shop.box"


def test_what_was_asked_about_is_remembered_within_bounds(
    django_postgres: Database, registry: Registry
) -> None:
    for number in range(10_001):
        registry.unknown(f"own.nudge {number}")
    registry.refresh(connection)
    assert registry.unknown("own.nudge 1")
