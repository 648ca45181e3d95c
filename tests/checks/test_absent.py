"""checks/absent.py: names that are no table here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connections

from django_pgnudge import own
from tests.checks.asking import check_server, ids

if TYPE_CHECKING:
    from tests.fix_servers import Database


def test_a_view_and_a_name_that_is_a_table_too_are_told_as_that(django_postgres: Database) -> None:
    django_postgres.execute(
        "CREATE MATERIALIZED VIEW totals AS SELECT 1 AS x",
        "CREATE VIEW latest AS SELECT 1 AS x",
        "CREATE TABLE stock_levels (id int PRIMARY KEY)",
    )
    found = check_server(
        RESYNC="keys",
        INVALIDATE={
            "public.totals": "a",
            "public.latest": "b",
            "public.stock_level": "c",
            "stock_levels": "d",
            own("stock_levels"): "e",
        },
    )
    assert ids(found) == ["W028"] * len(found)
    said = " ".join(f"{each.msg} {each.hint}" for each in found)
    assert "public.totals of the database 'default' is a materialised view" in said
    assert "emit()" in said
    assert "public.latest of the database 'default' is a view" in said
    assert "Did you mean 'public.stock_levels'?" in said


def test_an_own_nudge_with_the_name_of_a_table_is_told_unless_it_is_declared(
    django_postgres: Database,
) -> None:
    django_postgres.execute("CREATE TABLE stock_levels (id int PRIMARY KEY)")
    (found,) = check_server(INVALIDATE={"stock_levels": "d"}, RESYNC="keys")
    assert found.id == "django_pgnudge.W028"
    assert "own('stock_levels')" in str(found.hint)
    assert check_server(INVALIDATE={own("stock_levels"): "d"}, RESYNC="keys") == []


def test_a_table_that_a_migration_will_make_is_not_missed(django_postgres: Database) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
        assert cursor.fetchone() == (True,)
    django_postgres.execute("DROP TABLE shop_rate CASCADE")
    asked = {"INVALIDATE": {"shop.Rate": "rates"}, "RESYNC": "keys"}
    assert ids(check_server(**asked)) == ["W028"]
    django_postgres.execute("DELETE FROM django_migrations WHERE app = 'shop'")
    assert check_server(**asked) == []
