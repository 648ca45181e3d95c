"""registry/catalog.py: what is read of a database's catalogs."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from django.db import connection, connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_pgnudge.registry import Registry
from tests.registry.test_labels import AWKWARD
from tests.shop import models

if TYPE_CHECKING:
    from servers.postgres import DatabaseServer

    from tests.fix_servers import Database


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
