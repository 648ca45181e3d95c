"""Catalogs are named with their schema: what a search_path finds before them is not asked."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from django.db import connection

from django_pgnudge.checks.absent import views
from django_pgnudge.registry.published import find_family, find_publication, find_published

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fix_servers import Database

TABLES = (
    "pg_attribute", "pg_class", "pg_index", "pg_inherits", "pg_namespace", "pg_publication",
    "pg_publication_namespace", "pg_publication_rel", "pg_publication_tables",
)  # fmt: skip

FUNCTIONS = {
    "to_jsonb(anyelement)": "jsonb",
    "to_regclass(text)": "regclass",
    "unnest(int2[])": "int2",
}


@contextmanager
def planted() -> Iterator[None]:
    """A search_path on which empty objects with the names of PostgreSQL's own come first."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA planted")
        for name in TABLES:
            cursor.execute(f"CREATE VIEW planted.{name} AS SELECT 1 AS planted")
        for signature, returned in FUNCTIONS.items():
            cursor.execute(
                f"CREATE FUNCTION planted.{signature} RETURNS {returned}"
                f" LANGUAGE sql AS 'SELECT NULL::{returned}'"
            )
        for name in ("int2", "oid", "text"):
            cursor.execute(f"CREATE TYPE planted.{name} AS (planted pg_catalog.int4)")
        cursor.execute("SET search_path TO planted, public, pg_catalog")
        try:
            yield
        finally:
            cursor.execute("RESET search_path")


@pytest.fixture
def published(django_postgres: Database) -> Database:
    django_postgres.execute("CREATE PUBLICATION p FOR TABLE shop_product, shop_order")
    django_postgres.execute("CREATE VIEW seen AS SELECT 1 AS id")
    return django_postgres


@pytest.mark.usefixtures("published")
def test_what_is_published_is_read_from_the_real_catalogs() -> None:
    state = find_publication(connection, "p")
    tables = find_published(connection, "p")
    family = find_family(connection, "p", None, "shop_order")
    assert state is not None
    assert tables
    assert all(table.primary_key for table in tables)
    assert len(family) > 1
    with planted():
        assert find_publication(connection, "p") == state
        assert find_published(connection, "p") == tables
        assert find_family(connection, "p", None, "shop_order") == family


@pytest.mark.usefixtures("published")
def test_views_are_read_from_the_real_catalogs() -> None:
    found = views(connection)
    assert "public.seen" in found
    with planted():
        assert found.items() <= views(connection).items()
