"""checks/server.py: rules, declared tables and migrations are compared with a real server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.migrations.state import ProjectState
from django.http import HttpResponse
from django.test import override_settings

from django_pgnudge import nudged, nudged_page
from django_pgnudge.operations import AddToPublication
from tests.checks.asking import check, check_server, ids, rules
from tests.shop.models import Category, Product, Restaurant

if TYPE_CHECKING:
    from servers.postgres import DatabaseServer

    from tests.fix_servers import Database


def test_a_ready_server_is_silent(postgres: DatabaseServer, django_postgres: Database) -> None:
    assert check_server(INVALIDATE=rules("product:{pk}"), PLUGIN="pgoutput") == []


def test_rules_are_compared_with_the_tables(django_postgres: Database) -> None:
    django_postgres.execute(
        "ALTER TABLE legacy.price_list DROP CONSTRAINT price_list_pkey",
        "ALTER TABLE shop_day DROP CONSTRAINT shop_day_pkey, ADD nr serial PRIMARY KEY",
        "DROP TABLE shop_rate",
    )
    found = check_server(
        INVALIDATE={
            "legacy.price_list": "p:{pk}",
            "shop.Day": "d:{pk}",
            "shop.Rate": "rates",
            "shop.Order": "order:{pk}",
            "nobody.knows": "x",
            "prices": "y",
        }
    )
    assert ids(found) == ["W027", "W027", "W028", "W028"]
    assert "legacy.price_list, which has no primary key" in found[0].msg
    assert "has the primary key (nr), which is not its model's" in found[1].msg
    assert "no table public.shop_rate" in found[2].msg
    assert "what emit() sends has no dot" in str(found[3].hint)


@pytest.mark.usefixtures("column_lists")
def test_a_publication_is_compared_with_the_rules(
    postgres: DatabaseServer, django_postgres: Database
) -> None:
    invalidate = {**rules("p"), "shop.Order": "o", "prices": "x"}

    def look() -> list[str]:
        return ids(check_server(INVALIDATE=invalidate, PUBLICATION='awk"ward'))

    assert look() == ["W024"]
    django_postgres.execute('CREATE PUBLICATION "awk""ward"')
    assert look() == ["W025", "W025"]
    django_postgres.execute('ALTER PUBLICATION "awk""ward" ADD TABLE shop_order, shop_product')
    assert look() == []
    django_postgres.execute('ALTER PUBLICATION "awk""ward" SET (publish_via_partition_root = true)')
    assert look() == []
    django_postgres.execute("ALTER TABLE shop_product REPLICA IDENTITY NOTHING")
    assert look() == ["W026"]
    django_postgres.execute(
        "ALTER TABLE shop_product REPLICA IDENTITY DEFAULT",
        "ALTER TABLE shop_product DROP CONSTRAINT shop_product_pkey CASCADE",
    )
    assert look() == ["W026"]
    django_postgres.execute("ALTER TABLE shop_product ADD PRIMARY KEY (id) DEFERRABLE")
    assert look() == ["W026"], "a DEFERRABLE key is no replica identity"
    django_postgres.execute('ALTER PUBLICATION "awk""ward" SET (publish = \'insert\')')
    assert look() == ["W029"]
    django_postgres.execute(
        "ALTER TABLE shop_product REPLICA IDENTITY FULL",
        'ALTER PUBLICATION "awk""ward" SET (publish = \'insert, update, delete, truncate\')',
        'ALTER PUBLICATION "awk""ward" SET TABLE shop_order, shop_product WHERE (price > 1)',
    )
    (message,) = check_server(INVALIDATE=invalidate, PUBLICATION='awk"ward')
    assert (ids([message]), "public.shop_product (it has a WHERE)" in message.msg) == (
        ["W029"],
        True,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("REPLICA IDENTITY FULL", "REPLICA IDENTITY FULL, which no column list covers"),
        ("REPLICA IDENTITY USING INDEX u", "name, price in its replica identity"),
        (
            "DROP CONSTRAINT shop_product_pkey CASCADE, ADD PRIMARY KEY (name)",
            "name in its replica identity",
        ),
    ],
)
def test_a_column_list_that_does_not_cover_the_replica_identity_is_told_and_the_hint_mends_it(
    postgres: DatabaseServer, django_postgres: Database, change: str, words: str
) -> None:
    if django_postgres.postgres.execute("SHOW server_version_num")[0][0] < "150000":
        pytest.skip("column lists came with 15")
    django_postgres.execute(
        "INSERT INTO shop_product VALUES (1, 'a', 1)",
        "CREATE UNIQUE INDEX u ON shop_product (name, price)",
        "CREATE PUBLICATION p FOR TABLE shop_product (id), shop_order",
    )
    assert check_server(PUBLICATION="p") == []
    django_postgres.execute(f"ALTER TABLE shop_product {change}")
    (found,) = check_server(PUBLICATION="p")
    assert ids([found]) == ["W040"]
    assert f"public.shop_product, which has {words}" in found.msg
    with pytest.raises(psycopg.Error, match="does not cover the replica identity"):
        django_postgres.execute("UPDATE shop_product SET price = 2")
    assert "AddToPublication('p', ['shop.Product'])" in str(found.hint)
    state = ProjectState.from_apps(apps)
    with connections["default"].schema_editor() as editor:
        AddToPublication("p", ["shop.Product"]).database_forwards("shop", editor, state, state)
    assert check_server(PUBLICATION="p") == []
    django_postgres.execute("UPDATE shop_product SET price = 2")


@pytest.mark.usefixtures("column_lists")
def test_a_list_that_partitions_take_from_their_root_is_compared_with_their_identity(
    django_postgres: Database,
) -> None:
    django_postgres.execute(
        "CREATE PUBLICATION p FOR TABLE shop_order (id, placed_on)"
        " WITH (publish_via_partition_root)",
    )
    assert check_server(PUBLICATION="p") == []
    django_postgres.execute("ALTER TABLE shop_order_2025 REPLICA IDENTITY FULL")
    (found,) = check_server(PUBLICATION="p")
    assert (ids([found]), "public.shop_order_2025" in found.msg) == (["W040"], True)
    with pytest.raises(psycopg.Error, match="does not cover the replica identity"):
        django_postgres.execute(
            "INSERT INTO shop_order VALUES (1, '2025-02-03')", "UPDATE shop_order SET id = 2"
        )


def listed(request: Any) -> HttpResponse:
    return HttpResponse()


def names() -> list[str]:
    return []


def test_a_publication_is_compared_with_what_values_say_that_they_depend_on(
    django_postgres: Database,
) -> None:
    django_postgres.execute("CREATE PUBLICATION p FOR TABLE shop_product, shop_order")
    nudged(Product, "prices", nudged.row("shop.Order", (1, "2025-02-03")))(names)
    assert check_server(PUBLICATION="p") == []
    nudged_page(60, Category, Restaurant)(listed)
    nudged(Category, "nobody.knows", "shop.Nothing", using="other")(names)
    found = check_server(PUBLICATION="p")
    assert ids(found) == ["W041", "W041", "W041"]
    assert [re.findall(r"contain (\S+),", each.msg)[0] for each in found] == [
        "public.shop_category", "public.shop_place", "public.shop_restaurant"
    ]  # fmt: skip
    assert found[0].msg.endswith("page tests.checks.test_server.listed.")
    assert "AddToPublication('p', ['shop.Category'])" in str(found[0].hint)
    django_postgres.execute(
        "ALTER PUBLICATION p ADD TABLE shop_category, shop_place, shop_restaurant"
    )
    assert check_server(PUBLICATION="p") == []


@pytest.fixture
def tenants(django_postgres: Database) -> Database:
    django_postgres.execute(
        *(f"CREATE SCHEMA {each}" for each in ("acme", "umbrella")),
        *(
            f"CREATE TABLE {each}.shop_{table} (LIKE public.shop_{table} INCLUDING ALL)"
            for each in ("acme", "umbrella")
            for table in ("product", "category")
        ),
        "DROP TABLE public.shop_category CASCADE",
    )
    return django_postgres


def path_of(alias: str) -> tuple[str, ...]:
    return ("acme", "public")


SCOPED = {"SCOPE": "tests.checks.test_server.path_of"}


def test_a_model_s_rule_on_a_site_with_tenants_says_which_table_it_means(
    tenants: Database,
) -> None:
    invalidate = {"shop.Product": "p", "shop.Category": "c", "shop.Line": "l"}
    assert ids(check_server(INVALIDATE=invalidate)) == ["W028"], "a site without tenants"
    found = check_server(INVALIDATE=invalidate, NUDGED=SCOPED)
    assert ids(found) == ["W028", "W043"]
    assert "no table public.shop_category" in found[0].msg
    assert "acme.shop_category, umbrella.shop_category." in str(found[0].hint)
    assert "means public.shop_product and no other schema's table" in found[1].msg
    assert "write '*.shop.Product', and {schema} in its keys." in str(found[1].hint)
    starred = {f"*.{label}": key for label, key in invalidate.items()}
    assert check_server(INVALIDATE=starred, NUDGED=SCOPED) == []


def test_a_starred_rule_is_compared_with_the_tables_and_the_publication(
    tenants: Database,
) -> None:
    tenants.execute("CREATE PUBLICATION p FOR TABLE acme.shop_product, public.shop_product")
    found = check_server(
        INVALIDATE={"*.shop_product": "p:{pk}", "*.shop_prodct": "x", "*.shop_flag": "f"},
        PUBLICATION="p",
    )
    assert ids(found) == ["W025", "W025", "W028"]
    assert "public.shop_flag" in found[0].msg
    assert "umbrella.shop_product" in found[1].msg
    assert "no table *.shop_prodct" in found[2].msg
    assert ids(check(INVALIDATE={"*.shop.Prodct": "x"})) == ["E006"]
    assert ids(check(TABLES=["*.shop.Prodct"])) == ["E006"]
    assert ids(check(INVALIDATE={"*.shop.Line": "l:{pk[2]}"})) == ["E008"]


def test_a_migration_that_publishes_what_it_does_not_depend_on_is_told(
    django_postgres: Database,
) -> None:
    """It passes here, as the table is there; on a new database it may not."""
    installed = [*settings.INSTALLED_APPS, "tests.publishing"]
    with override_settings(INSTALLED_APPS=installed):
        assert check_server() == []
        careless = {"publishing": "tests.publishing.careless.migrations"}
        with override_settings(MIGRATION_MODULES=careless):
            (found,) = check_server()
    assert ids([found]) == ["W042"]
    assert "publishing.0002_publication publishes 'auth.User.groups'" in found.msg
    assert "Add ('auth', '0001_initial') to the migration's dependencies." in str(found.hint)
