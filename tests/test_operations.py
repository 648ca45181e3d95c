"""operations.py, on every server there is."""

from __future__ import annotations

import io
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations import Migration
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter
from django.db.utils import ConnectionHandler
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_pgnudge import operations
from django_pgnudge.errors import ConfigError
from django_pgnudge.operations import (
    AddToPublication,
    CreatePublication,
    RemoveFromPublication,
)
from django_pgnudge.registry import published as published_tables

if TYPE_CHECKING:
    from pathlib import Path

    from django.db.migrations.operations.base import Operation
    from pytest_django import DjangoDbBlocker
    from servers.postgres import DatabaseServer

    from tests.fix_servers import Database

AWKWARD = 'na"me, with % and "quotes"'
EVERY = [
    "shop.Product", "Category", "shop.Product.categories", "shop.Item", "shop.Awkward",
    "shop.PriceList", "shop.Line", "shop.Order", "shop.Token",
]  # fmt: skip


@pytest.fixture
def state() -> ProjectState:
    return ProjectState.from_apps(apps)


def forwards(operation: Operation, state: ProjectState) -> None:
    with connection.schema_editor() as editor:
        operation.database_forwards("shop", editor, state, state)


def backwards(operation: Operation, state: ProjectState) -> None:
    with connection.schema_editor() as editor:
        operation.database_backwards("shop", editor, state, state)


def published(database: Database, name: str) -> dict[str, set[str]]:
    """The tables of a publication and their columns."""
    with database.connect() as asking:
        if asking.info.server_version < 150000:
            rows: Any = asking.execute(
                "SELECT schemaname, tablename, NULL FROM pg_publication_tables WHERE pubname = %s",
                [name],
            )
        else:
            rows = asking.execute(
                "SELECT schemaname, tablename, attnames FROM pg_publication_tables"
                " WHERE pubname = %s", [name])  # fmt: skip
        return {f"{schema}.{table}": set(names or ()) for schema, table, names in rows}


@pytest.mark.usefixtures("column_lists")
def test_primary_keys_are_published_and_the_reverse_drops_it(
    postgres: DatabaseServer, django_postgres: Database, state: ProjectState
) -> None:
    operation = CreatePublication(AWKWARD, models=EVERY)
    forwards(operation, state)
    assert published(django_postgres, AWKWARD) == {
        "public.shop_product": {"id"},
        "public.shop_category": {"id"},
        "public.shop_product_categories": {"id"},
        "stock.item": {"id"},
        "public.Preis.Liste, größe: INSERT": {"id"},
        "legacy.price_list": {"code"},
        "public.shop_line": {"order_id", "number"},
        "public.shop_token": {"id"},
        "public.shop_order_2025": {"id", "placed_on"},
        "public.shop_order_2026_h1": {"id", "placed_on"},
    }
    django_postgres.execute(
        "INSERT INTO shop_product (id, name, price) VALUES (1, 'a', 1)",
        "UPDATE shop_product SET name = 'b'",
        "DELETE FROM shop_product",
        "INSERT INTO shop_order VALUES (1, '2025-02-03')",
        "UPDATE shop_order SET id = 2",
        "DELETE FROM shop_order",
    )
    backwards(operation, state)
    assert published(django_postgres, AWKWARD) == {}


@pytest.mark.usefixtures("column_lists")
def test_before_postgresql_15_whole_tables_are_published(
    django_postgres: Database, state: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (operations, published_tables):
        monkeypatch.setattr(module, "server_version", lambda connection: 140000)
    forwards(CreatePublication("p", ["shop.Product"]), state)
    assert published(django_postgres, "p") == {"public.shop_product": {"id", "name", "price"}}


def test_partitions_made_later_and_truncated_alone_are_published(
    postgres: DatabaseServer, django_postgres: Database, state: ProjectState
) -> None:
    forwards(CreatePublication("p", ["shop.Order"]), state)
    with django_postgres.connect() as slot:
        slot.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput', true)")
        django_postgres.execute(
            "CREATE TABLE shop_order_2027 PARTITION OF shop_order"
            " FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
            "INSERT INTO shop_order VALUES (1, '2027-02-03')",
            "TRUNCATE shop_order_2025",
        )
        changes = slot.execute(
            "SELECT data FROM pg_logical_slot_get_binary_changes("
            "'s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')"
        ).fetchall()
    kinds = [bytes(row[0])[:1] for row in changes]
    assert kinds.count(b"I") == 1
    assert kinds.count(b"T") == 1
    assert any(b"shop_order_2027" in bytes(row[0]) for row in changes)


REFUSED = {
    "no primary key": "ALTER TABLE legacy.price_list DROP CONSTRAINT price_list_pkey",
    "or a DEFERRABLE one": (
        "ALTER TABLE legacy.price_list DROP CONSTRAINT price_list_pkey;"
        " ALTER TABLE legacy.price_list ADD PRIMARY KEY (code) DEFERRABLE"
    ),
    "REPLICA IDENTITY NOTHING": "ALTER TABLE legacy.price_list REPLICA IDENTITY NOTHING",
    "unlogged": "ALTER TABLE legacy.price_list SET UNLOGGED",
    "is not a table": "DROP TABLE legacy.price_list; CREATE VIEW legacy.price_list AS SELECT 1",
    "has no table": "DROP TABLE legacy.price_list",
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_table_that_must_not_be_published_is_refused_before_anything_is_made(
    why: str, django_postgres: Database, state: ProjectState
) -> None:
    django_postgres.execute(*REFUSED[why].split("; "))
    with pytest.raises(ConfigError, match=why) as caught:
        forwards(CreatePublication("p", ["shop.Product", "shop.PriceList"]), state)
    assert "price_list" in str(caught.value)
    assert "shop.PriceList" in str(caught.value)
    assert django_postgres.execute("SELECT 1 FROM pg_publication") == []


def test_every_table_that_is_refused_is_named(
    django_postgres: Database, state: ProjectState
) -> None:
    django_postgres.execute(
        "ALTER TABLE shop_token REPLICA IDENTITY NOTHING",
        "ALTER TABLE shop_order_2025 REPLICA IDENTITY NOTHING",
    )
    with pytest.raises(ConfigError) as caught:
        forwards(CreatePublication("p", ["shop.Token", "shop.Order"]), state)
    assert "public.shop_token" in str(caught.value)
    assert "public.shop_order_2025" in str(caught.value), "a partition can be refused by itself"


def test_what_is_refused_is_what_the_server_would_have_failed_on(
    django_postgres: Database,
) -> None:
    django_postgres.execute(
        "ALTER TABLE shop_order_2025 REPLICA IDENTITY NOTHING",
        "CREATE PUBLICATION p FOR TABLE shop_order",
        "INSERT INTO shop_order VALUES (1, '2025-02-03')",
    )
    with pytest.raises(psycopg.Error, match="does not have a replica identity"):
        django_postgres.execute("DELETE FROM shop_order")


@pytest.mark.usefixtures("column_lists")
@pytest.mark.parametrize(
    ("identity", "columns"),
    [
        ("USING INDEX shop_product_name_price", {"id", "name", "price"}),
        ("FULL", {"id", "name", "price"}),
        ("DEFAULT", {"id"}),
    ],
)
def test_the_columns_cover_the_replica_identity(
    postgres: DatabaseServer,
    django_postgres: Database,
    state: ProjectState,
    identity: str,
    columns: set[str],
) -> None:
    django_postgres.execute(
        "CREATE UNIQUE INDEX shop_product_name_price ON shop_product (name, price)",
        f"ALTER TABLE shop_product REPLICA IDENTITY {identity}",
    )
    forwards(CreatePublication("p", ["shop.Product"]), state)
    assert published(django_postgres, "p") == {"public.shop_product": columns}
    django_postgres.execute(
        "INSERT INTO shop_product (id, name, price) VALUES (1, 'a', 1)",
        "UPDATE shop_product SET name = 'b'",
        "DELETE FROM shop_product",
    )


def test_an_index_identity_makes_a_table_without_primary_key_publishable(
    django_postgres: Database, state: ProjectState
) -> None:
    django_postgres.execute(
        "ALTER TABLE legacy.price_list DROP CONSTRAINT price_list_pkey",
        "ALTER TABLE legacy.price_list ALTER code SET NOT NULL",
        "CREATE UNIQUE INDEX u ON legacy.price_list (code)",
        "ALTER TABLE legacy.price_list REPLICA IDENTITY USING INDEX u",
    )
    forwards(CreatePublication("p", ["shop.PriceList"]), state)
    django_postgres.execute("INSERT INTO legacy.price_list VALUES ('a')",
                            "DELETE FROM legacy.price_list")  # fmt: skip


def test_a_key_with_a_generated_column_is_published_with_the_whole_table(
    postgres: DatabaseServer, django_postgres: Database, state: ProjectState
) -> None:
    """Up to 17: there a list cannot name one. From 18 on it has to, or UPDATE fails."""
    django_postgres.execute(
        "ALTER TABLE legacy.price_list DROP CONSTRAINT price_list_pkey,"
        " ADD up varchar(9) GENERATED ALWAYS AS (upper(code)) STORED",
        "ALTER TABLE legacy.price_list ADD PRIMARY KEY (code, up)",
    )
    forwards(CreatePublication("p", ["shop.PriceList"]), state)
    assert "legacy.price_list" in published(django_postgres, "p")
    django_postgres.execute(
        "INSERT INTO legacy.price_list VALUES ('a')",
        "UPDATE legacy.price_list SET code = 'b'",
        "DELETE FROM legacy.price_list",
    )


def test_an_identity_that_the_server_would_refuse_to_update_is_refused_before(
    postgres: DatabaseServer, django_postgres: Database, state: ProjectState
) -> None:
    """From 18 on all of a row is its identity, and generated columns are not published."""
    django_postgres.execute(
        "ALTER TABLE shop_product ADD up varchar(50) GENERATED ALWAYS AS (upper(name)) STORED,"
        " REPLICA IDENTITY FULL",
        "INSERT INTO shop_product (id, name, price) VALUES (1, 'a', 1)",
        "CREATE PUBLICATION by_hand FOR TABLE shop_product",
    )
    try:
        django_postgres.execute("UPDATE shop_product SET name = 'b'")
        fails = False
    except psycopg.Error:
        fails = True
    django_postgres.execute("DROP PUBLICATION by_hand")
    operation = CreatePublication("p", ["shop.Product"])
    with pytest.raises(ConfigError, match="has up in its") if fails else nullcontext():
        forwards(operation, state)
    django_postgres.execute("UPDATE shop_product SET name = 'b'")


@pytest.mark.usefixtures("column_lists")
def test_an_heir_without_the_parents_key_is_refused(
    django_postgres: Database, state: ProjectState
) -> None:
    django_postgres.execute("CREATE TABLE old_products () INHERITS (shop_product)")
    with pytest.raises(ConfigError, match=r"public\.old_products .* has no primary key"):
        forwards(CreatePublication("p", ["shop.Product"]), state)
    django_postgres.execute("ALTER TABLE old_products REPLICA IDENTITY FULL")
    forwards(CreatePublication("p", ["shop.Product"]), state)
    assert published(django_postgres, "p") == {
        "public.shop_product": {"id"},
        "public.old_products": {"id", "name", "price"},
    }
    django_postgres.execute(
        "INSERT INTO old_products VALUES (1, 'a', 1)",
        "INSERT INTO shop_product VALUES (2, 'a', 1)",
        "UPDATE shop_product SET name = 'b'",
        "DELETE FROM shop_product",
    )


class NotHere:
    """A router that keeps publications to itself."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return not hints.get("publication")


def test_a_router_can_keep_it_out(django_postgres: Database, state: ProjectState) -> None:
    operation = CreatePublication("p", ["shop.Product"])
    with override_settings(DATABASE_ROUTERS=[NotHere()]):
        forwards(operation, state)
        backwards(operation, state)
    assert django_postgres.execute("SELECT 1 FROM pg_publication") == []


@pytest.mark.parametrize("operation", [CreatePublication, AddToPublication, RemoveFromPublication])
def test_on_another_database_system_nothing_is_done(
    operation: Any, state: ProjectState, django_db_blocker: DjangoDbBlocker, tmp_path: Path
) -> None:
    """As the operations of django.contrib.postgres: such sites are tested on SQLite."""
    # Django leaves one in memory open.
    file = tmp_path / "site.sqlite3"
    sqlite = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": file}})[
        "default"
    ]
    publish = operation("p", ["nobody.Here"])
    with (
        django_db_blocker.unblock(),
        CaptureQueriesContext(sqlite) as queries,
        sqlite.schema_editor(atomic=False) as editor,
    ):
        publish.database_forwards("shop", editor, state, state)
        publish.database_backwards("shop", editor, state, state)
    sqlite.close()
    assert not [each for each in queries if "PUBLICATION" in each["sql"]]


class ElsewhereRouter:
    """One app's tables are in another database."""

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        return False if model_name == "product" else None


def test_a_table_that_a_router_keeps_from_this_database_is_left_out_if_it_is_not_there(
    django_postgres: Database, state: ProjectState
) -> None:
    operation = CreatePublication("p", ["shop.Category", "shop.Product"])
    django_postgres.execute("ALTER TABLE shop_product RENAME TO away")
    with override_settings(DATABASE_ROUTERS=[ElsewhereRouter()]):
        forwards(operation, state)
        assert set(published(django_postgres, "p")) == {"public.shop_category"}
        backwards(operation, state)
        assert django_postgres.execute("SELECT 1 FROM pg_publication") == []
        forwards(CreatePublication("p", ["shop.Product"]), state)
        assert django_postgres.execute("SELECT 1 FROM pg_publication") == [], "nothing is left"


@pytest.mark.parametrize("label", ["shop.Produkt", "Produkt", "nobody.Here", "legacy.price_list"])
def test_a_label_that_is_not_in_the_migrations_state_is_refused(
    label: str, django_postgres: Database, state: ProjectState
) -> None:
    with pytest.raises(ConfigError, match=label.rsplit(".", maxsplit=1)[-1]):
        forwards(CreatePublication("p", [label]), state)


@pytest.mark.parametrize(
    ("name", "models"), [("", ["a.B"]), ("p", []), ("p", [1]), (None, ["a.B"])]
)
def test_arguments_that_make_no_publication_are_refused(name: Any, models: Any) -> None:
    with pytest.raises(ConfigError, match="CreatePublication"):
        CreatePublication(name, models)


def test_it_can_be_written_into_a_migration_file_and_described() -> None:
    operation = CreatePublication("shop", models=("shop.Product", "shop.Order"))
    text, imports = OperationWriter(operation, indentation=0).serialize()
    space: dict[str, Any] = {}
    exec("\n".join(imports) + "\noperations = [\n" + text + "\n]", space)
    (written,) = space["operations"]
    assert (written.name, written.models) == ("shop", ["shop.Product", "shop.Order"])
    assert operation.describe() == "Create publication shop for shop.Product, shop.Order"
    assert operation.migration_name_fragment == "publication_shop"
    assert operation.formatted_description().startswith("+ ")
    assert CreatePublication("p", "shop.Product").models == ["shop.Product"]


@pytest.mark.usefixtures("column_lists")
def test_sqlmigrate_shows_it_before_the_tables_are_made(
    django_postgres: Database, state: ProjectState
) -> None:
    django_postgres.execute("DROP TABLE shop_token")

    class Publish(Migration):
        operations = [CreatePublication("100 %", ["shop.Token", "shop.Item"])]

    migration = Publish("0002", "shop")
    with redirect_stdout(io.StringIO()), connection.schema_editor(collect_sql=True) as editor:
        migration.apply(state, editor, collect_sql=True)
    expected = 'CREATE PUBLICATION "100 %" FOR TABLE "shop_token" ("id"), "stock"."item" ("id");'
    assert expected in editor.collected_sql
