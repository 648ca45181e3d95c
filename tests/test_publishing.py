"""The operations on publications, as `migrate` runs them: again, by schema, in parts, backwards."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.state import ProjectState
from django.test import override_settings

from django_pgnudge.errors import ConfigError
from django_pgnudge.migrating import dependency_for
from django_pgnudge.operations import (
    AddToPublication,
    CreatePublication,
    RemoveFromPublication,
)
from tests.test_operations import backwards, forwards, published

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.postgres import DatabaseServer

    from tests.fix_servers import Database

PUBLISHING = {
    "public.publishing_thing",
    "public.publishing_later",
    "public.auth_user",
    "public.auth_user_groups",
}


@pytest.fixture
def state() -> ProjectState:
    return ProjectState.from_apps(apps)


@pytest.fixture
def app(django_postgres: Database) -> Iterator[Database]:
    """A database without the app's tables, whose migrations are then run."""
    installed = ["django.contrib.contenttypes", "django.contrib.auth", "django_pgnudge",
                 "tests.publishing"]  # fmt: skip
    with override_settings(INSTALLED_APPS=installed):
        yield django_postgres


def migrate(*arguments: str, **options: Any) -> None:
    call_command("migrate", *arguments, verbosity=0, skip_checks=True, **options)


@pytest.mark.usefixtures("column_lists")
def test_run_again_it_adds_what_is_lacking(django_postgres: Database, state: ProjectState) -> None:
    first = CreatePublication("p", ["shop.Product"])
    forwards(first, state)
    forwards(first, state)
    assert set(published(django_postgres, "p")) == {"public.shop_product"}
    forwards(CreatePublication("p", ["shop.Product", "shop.Category", "shop.Order"]), state)
    forwards(CreatePublication("p", ["shop.Product", "shop.Category", "shop.Order"]), state)
    assert published(django_postgres, "p") == {
        "public.shop_product": {"id"},
        "public.shop_category": {"id"},
        "public.shop_order_2025": {"id", "placed_on"},
        "public.shop_order_2026_h1": {"id", "placed_on"},
    }


def test_each_schema_brings_its_own_tables_and_the_last_takes_the_publication_along(
    django_postgres: Database, state: ProjectState
) -> None:
    django_postgres.execute(
        *(f"CREATE SCHEMA {each}" for each in ("acme", "umbrella")),
        *(f"CREATE TABLE {each}.shop_product (LIKE public.shop_product INCLUDING ALL)"
          for each in ("acme", "umbrella")),
        "DROP TABLE public.shop_product CASCADE",
    )  # fmt: skip
    operation = CreatePublication("p", ["shop.Product", "shop.Category"])

    def at(schema: str, run: Any) -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute(f"SET search_path = {schema}, public")
        run(operation, state)
        return set(published(django_postgres, "p"))

    assert at("acme", forwards) == {"acme.shop_product", "public.shop_category"}
    both = {"acme.shop_product", "umbrella.shop_product", "public.shop_category"}
    assert at("umbrella", forwards) == both

    class Shared:
        """As the router of django-tenants: a tenant has no tables of the shared apps."""

        def allow_migrate(
            self, db: str, app_label: str, model_name: str | None = None, **hints: Any
        ) -> bool:
            return model_name != "category"

    with override_settings(DATABASE_ROUTERS=[Shared()]):
        assert at("acme", backwards) == {"umbrella.shop_product", "public.shop_category"}
        at("umbrella", backwards)
    assert django_postgres.execute("SELECT 1 FROM pg_publication") == []
    at("umbrella", backwards)


def test_tenants_that_are_migrated_at_once_make_one_publication(
    django_postgres: Database, state: ProjectState
) -> None:
    tenants = [f"t{number}" for number in range(4)]
    for each in tenants:
        django_postgres.execute(
            f"CREATE SCHEMA {each}",
            f"CREATE TABLE {each}.shop_product (LIKE public.shop_product INCLUDING ALL)",
        )
    errors: list[BaseException] = []
    start = threading.Barrier(len(tenants))

    def tenant(schema: str) -> None:
        own = connections["default"]
        try:
            with own.cursor() as cursor:
                cursor.execute(f"SET search_path = {schema}, public")
            start.wait(10)
            with own.schema_editor() as editor:
                CreatePublication("p", ["shop.Product"]).database_forwards(
                    "shop", editor, state, state
                )
        except BaseException as error:
            errors.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=tenant, args=[each]) for each in tenants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(published(django_postgres, "p")) == {f"{each}.shop_product" for each in tenants}


@pytest.mark.usefixtures("column_lists")
def test_tables_are_added_and_taken_out_and_each_reverse_undoes_it(
    django_postgres: Database, state: ProjectState
) -> None:
    forwards(CreatePublication("p", ["shop.Product"]), state)
    add = AddToPublication("p", ["shop.Category", "shop.Line", "shop.Order"])
    forwards(add, state)
    forwards(add, state)
    added = published(django_postgres, "p")
    assert added["public.shop_line"] == {"order_id", "number"}
    assert len(added) == 5
    remove = RemoveFromPublication("p", ["shop.Line", "shop.Order", "shop.Token"])
    forwards(remove, state)
    assert set(published(django_postgres, "p")) == {"public.shop_product", "public.shop_category"}
    backwards(RemoveFromPublication("p", ["shop.Line", "shop.Order"]), state)
    assert published(django_postgres, "p") == added
    backwards(add, state)
    assert published(django_postgres, "p") == {"public.shop_product": {"id"}}
    forwards(RemoveFromPublication("p", ["shop.Product"]), state)
    assert django_postgres.execute("SELECT pubname FROM pg_publication") == [("p",)]


def test_heirs_are_added_and_taken_out_by_themselves(
    django_postgres: Database, state: ProjectState
) -> None:
    forwards(CreatePublication("p", ["shop.Product"]), state)
    django_postgres.execute("CREATE TABLE old_products (PRIMARY KEY (id)) INHERITS (shop_product)")
    forwards(AddToPublication("p", ["shop.Product"]), state)
    assert set(published(django_postgres, "p")) == {"public.shop_product", "public.old_products"}
    forwards(RemoveFromPublication("p", ["shop.Product"]), state)
    assert published(django_postgres, "p") == {}


@pytest.mark.usefixtures("column_lists")
@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE shop_product REPLICA IDENTITY FULL",
        (
            "CREATE UNIQUE INDEX u ON shop_product (name, price);"
            " ALTER TABLE shop_product REPLICA IDENTITY USING INDEX u"
        ),
        (
            "ALTER TABLE shop_product DROP CONSTRAINT shop_product_pkey CASCADE;"
            " ALTER TABLE shop_product ADD PRIMARY KEY (name)"
        ),
    ],
)
def test_a_list_that_an_altered_table_made_too_short_is_made_anew(
    postgres: DatabaseServer, django_postgres: Database, state: ProjectState, change: str
) -> None:
    forwards(CreatePublication("p", ["shop.Product", "shop.Category"]), state)
    django_postgres.execute("INSERT INTO shop_product VALUES (1, 'a', 1)", *change.split("; "))
    with pytest.raises(psycopg.Error, match="does not cover the replica identity"):
        django_postgres.execute("UPDATE shop_product SET price = 2")
    forwards(AddToPublication("p", ["shop.Product"]), state)
    django_postgres.execute("UPDATE shop_product SET price = 2", "DELETE FROM shop_product")
    assert set(published(django_postgres, "p")) == {"public.shop_product", "public.shop_category"}


def test_a_publication_for_all_tables_is_left_as_it_is(
    django_postgres: Database, state: ProjectState
) -> None:
    django_postgres.execute("CREATE PUBLICATION p FOR ALL TABLES")
    operation = CreatePublication("p", ["shop.Product"])
    forwards(operation, state)
    backwards(operation, state)
    assert django_postgres.execute("SELECT puballtables FROM pg_publication") == [(True,)]


def test_nothing_is_added_to_a_publication_that_is_not_there(
    django_postgres: Database, state: ProjectState
) -> None:
    add = AddToPublication("p", ["shop.Product"])
    with pytest.raises(ConfigError, match="'default' has no publication 'p'"):
        forwards(add, state)
    backwards(add, state)


@pytest.mark.parametrize(
    ("label", "dependency"),
    [
        ("auth.User", ("auth", "0001_initial")),
        ("auth.User.groups", ("auth", "0001_initial")),
        ("auth.User_groups", ("auth", "0001_initial")),
        ("shop.Product", ("shop", "0001_initial")),
    ],
)
def test_a_model_of_an_app_that_is_not_depended_on_is_refused_with_the_dependency_to_add(
    label: str, dependency: tuple[str, str], django_postgres: Database
) -> None:
    with pytest.raises(ConfigError) as caught:
        forwards(CreatePublication("p", [label]), ProjectState())
    assert str(caught.value).endswith(f"Add {dependency!r} to the migration's dependencies.")
    assert repr(label) in str(caught.value)


def test_the_dependency_is_the_migration_that_first_has_the_model(app: Database) -> None:
    assert "'0003_later'" in dependency_for("publishing.Later")
    assert "'0001_initial'" in dependency_for("publishing.Thing.others")
    assert dependency_for("publishing.Nothing") == ""


def test_migrations_run_forwards_and_backwards(app: Database) -> None:
    migrate()
    assert set(published(app, "things")) == PUBLISHING
    migrate("publishing", "0002")
    assert set(published(app, "things")) == {
        "public.publishing_thing", "public.publishing_thing_others"
    }  # fmt: skip
    migrate("publishing", "zero")
    assert app.execute("SELECT 1 FROM pg_publication") == []
    migrate()
    assert set(published(app, "things")) == PUBLISHING


def test_a_faked_migration_makes_nothing_and_the_next_says_what_is_missing(app: Database) -> None:
    migrate("publishing", "0001")
    migrate("publishing", "0002", fake=True)
    assert app.execute("SELECT 1 FROM pg_publication") == []
    with pytest.raises(ConfigError, match="One that was faked has created nothing"):
        migrate()
    migrate("publishing", "0001", fake=True)
    migrate()
    assert set(published(app, "things")) == PUBLISHING


@pytest.mark.usefixtures("column_lists")
def test_sqlmigrate_shows_every_statement_both_ways(app: Database) -> None:
    def shown(name: str, **options: Any) -> list[str]:
        out = io.StringIO()
        call_command("sqlmigrate", "publishing", name, stdout=out, **options)
        return [line for line in out.getvalue().splitlines() if "PUBLICATION" in line]

    assert shown("0002") == [
        (
            'CREATE PUBLICATION "things" FOR TABLE "publishing_thing" ("id"),'
            ' "publishing_thing_others" ("id");'
        )
    ]
    assert shown("0002", backwards=True) == ['DROP PUBLICATION "things";']
    add = (
        'ALTER PUBLICATION "things" ADD TABLE "publishing_later" ("id"), "auth_user" ("id"),'
        ' "auth_user_groups" ("id");'
    )
    assert shown("0003") == [
        add, 'ALTER PUBLICATION "things" DROP TABLE "publishing_thing_others";'
    ]  # fmt: skip
    assert shown("0003", backwards=True) == [
        'ALTER PUBLICATION "things" ADD TABLE "publishing_thing_others" ("id");',
        (
            'ALTER PUBLICATION "things" DROP TABLE "publishing_later", "auth_user",'
            ' "auth_user_groups";'
        ),
    ]
