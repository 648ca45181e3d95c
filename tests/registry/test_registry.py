"""registry.py and catalog.py, on the models of tests.shop."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_pgnudge.errors import ConfigError, UnknownLabelError
from django_pgnudge.events import Event
from django_pgnudge.names import own
from django_pgnudge.registry import Registry, split_db_table
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
        ("shopp.product", "Did you mean 'shop.Product'?"),
        ("SHOP.product", "Did you mean 'shop.Product'?"),
        (
            "Product",
            "Did you mean 'shop.Product'? If it is what emit() sends, write own('Product').",
        ),
        ("product", "Did you mean 'shop.Product'?"),
        ("prodct", "Did you mean 'shop.Product'?"),
        ("shop_prodct", "Did you mean 'shop.Product'?"),
        ("Shop_Product", "Did you mean 'shop.Product'?"),
        ("Prices", "write own('Prices')"),
    ],
)
def test_what_can_only_be_a_wrong_label_is_an_error(
    registry: Registry, entry: str, words: str
) -> None:
    with pytest.raises(UnknownLabelError) as caught:
        registry.payload_of(entry)
    assert words in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def test_what_is_said_to_be_an_own_nudge_is_one_and_words_near_no_table_are(
    registry: Registry,
) -> None:
    for name in ("Product", "shop_prodct", "shop_product", "Prices"):
        assert registry.payload_of(own(name)) == name
        assert registry.model_of(own(name)) is None
    for name in ("prices", "größe: 'x'", "weather 7"):
        assert registry.payload_of(name) == name
    with pytest.raises(TypeError, match="without a dot"):
        own("shop.Product")


def test_a_schema_that_is_known_is_no_slip_of_an_app(registry: Registry) -> None:
    assert registry.payload_of("public.shop_product2") == "public.shop_product2"


def test_the_way_to_write_a_table_like_a_label_is_named(registry: Registry) -> None:
    with pytest.raises(UnknownLabelError, match=r"""is written '"shop"\."nothing"'"""):
        registry.payload_of("shop.nothing")


def test_a_swapped_model_is_refused_with_its_successor(registry: Registry) -> None:
    with (
        override_settings(AUTH_USER_MODEL="shop.Category"),
        pytest.raises(UnknownLabelError, match=r"swapped out: use 'shop\.Category'"),
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


class _Elsewhere:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "django_cache" else None

    db_for_read = db_for_write


@pytest.mark.parametrize("location", ["kept", '"stock"."kept"'])
def test_the_table_of_a_cache_is_never_followed(settings: Any, location: str) -> None:
    settings.CACHES = settings.CACHES | {
        "table": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": location},
        "broken": {"BACKEND": "no.such.backend"},
    }
    payload = "public.kept" if location == "kept" else "stock.kept"
    settings.PGNUDGE = {"TABLES": ["*.*"]}
    registry = Registry()
    assert not registry.selected(payload)
    assert not registry.may_mean_more(payload)
    assert registry.selected("public.shop_product")
    assert Registry("other").selected(payload)
    settings.DATABASE_ROUTERS = [f"{__name__}._Elsewhere"]
    assert Registry().selected(payload)
    assert not Registry("other").selected(payload)


def test_refresh_takes_four_statements_and_nothing_else_asks(
    postgres: DatabaseServer, django_postgres: Database, registry: Registry
) -> None:
    with CaptureQueriesContext(connection) as queries:
        registry.refresh(connection)
    assert len(queries) == 8
    with CaptureQueriesContext(connection) as queries:
        registry.payload_of("shop.Product")
        registry.models_of("public.shop_order_2025")
        registry.may_mean_more("public.never")
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


def test_what_an_index_includes_is_no_key(django_postgres: Database, registry: Registry) -> None:
    django_postgres.execute("CREATE TABLE t (a int, b int, PRIMARY KEY (a) INCLUDE (b))")
    registry.refresh(connection)
    assert registry.pk_columns("public.t") == ("a",)


def test_a_column_is_known_by_its_base_type(django_postgres: Database, registry: Registry) -> None:
    django_postgres.execute(
        "CREATE DOMAIN near AS numeric(9,2)", "CREATE DOMAIN far AS near",
        "CREATE SCHEMA odd", "CREATE DOMAIN odd.int4 AS text", "CREATE TYPE odd.text AS ENUM ('a')",
        "CREATE TABLE t (a far, b odd.int4, c odd.text, PRIMARY KEY (a, b, c))",
    )  # fmt: skip
    registry.refresh(connection)
    columns = registry.key_columns("public.t") or ()
    assert [column.type for column in columns] == ["numeric", "text", ""]
    assert columns[0].typmod == (9 << 16 | 2) + 4


def test_the_identity_is_the_database_s_and_not_its_name_s(
    postgres: DatabaseServer, django_postgres: Database, other_database: Database
) -> None:
    assert Registry().identity is None
    mine, other = identity("default"), identity("other")
    assert re.fullmatch(r"[0-9]{1,20}-[0-9]{1,10}", mine)
    assert mine.split("-")[0] == other.split("-")[0]
    assert mine != other
    assert identity("default") == mine

    connections["other"].close()
    postgres.drop_database(other_database.name)
    postgres.execute(f'ALTER DATABASE "{django_postgres.name}" RENAME TO "{other_database.name}"')
    try:
        assert identity("other") == mine, "a database that is renamed is the same"
    finally:
        connections["other"].close()
        postgres.execute(
            f'ALTER DATABASE "{other_database.name}" RENAME TO "{django_postgres.name}"'
        )
    postgres.create_database(other_database.name)
    assert identity("other") not in {mine, other}, "another of the same name is another"


def test_any_role_may_ask_for_the_identity_unless_that_was_taken(
    postgres: DatabaseServer, django_postgres: Database
) -> None:
    expected = identity("default")
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE anyone")
        try:
            cursor.execute("SET ROLE anyone")
            registry = Registry()
            registry.refresh(connection)
            assert registry.identity == expected
            cursor.execute("RESET ROLE")
            cursor.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
            cursor.execute("SET ROLE anyone")
            registry.refresh(connection)
            assert registry.identity is None
            assert registry.exists("public.shop_product")
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP ROLE anyone")


def identity(alias: str) -> str:
    registry = Registry(alias)
    registry.refresh(connections[alias])
    connections[alias].close()
    assert registry.identity is not None
    return registry.identity


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


def test_a_schema_may_be_called_like_an_app(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.Item._meta, "db_table", '"shop"."box"')
    assert Registry().payload_of("shop.box") == "shop.box"


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

    registry._by_table = Looked(registry._by_table)
    registry._index()
    assert set(seen) == {"public.shop_product"}
