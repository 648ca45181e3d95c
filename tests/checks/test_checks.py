"""checks/: without a database, and of real servers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import INFO, Tags, run_checks
from django.core.checks import registry as check_registry
from django.db import connections, transaction
from django.db.migrations.state import ProjectState
from django.http import HttpResponse
from django.test import override_settings

import django_pgnudge.checks
from django_pgnudge import nudged, nudged_page, own, page
from django_pgnudge.checks import IDS, anchor, facts, server, static
from django_pgnudge.operations import AddToPublication
from django_pgnudge.rules.registration import sandbox
from tests.fix_django import pointed
from tests.shop.models import Category, Product, Restaurant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.core.checks import CheckMessage
    from pytest_django import DjangoDbBlocker
    from servers.postgres import DatabaseServer, Postgres

    from tests.fix_servers import Database

REDIS = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
CACHES = {
    "default": REDIS,
    "own": {**REDIS, "KEY_PREFIX": "own"},
    "fast": {**REDIS, "LOCATION": "redis://127.0.0.1:1/1"},
    "same": REDIS,
    "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "dummy": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
    "files": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/x"},
    "broken": {"BACKEND": "django.core.cache.backends.nothing.NoCache"},
    "hashed": {**REDIS, "KEY_FUNCTION": "tests.checks.test_checks.hashed"},
}


def hashed(key: str, prefix: str, version: int) -> str:
    return str(hash((key, prefix, version)))


@pytest.fixture(autouse=True)
def _shared_caches_and_no_rules_in_code() -> Iterator[None]:
    with sandbox(), override_settings(CACHES=CACHES):
        yield


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(found.id).removeprefix("django_pgnudge.") for found in messages]


def check(**pgnudge: Any) -> list[CheckMessage]:
    """The checks that need no connection."""
    with override_settings(PGNUDGE=pgnudge):
        return static.run()


def ask_server(**pgnudge: Any) -> list[CheckMessage]:
    with override_settings(PGNUDGE=pgnudge):
        return server.run(["default"])


def check_server(**pgnudge: Any) -> list[CheckMessage]:
    """Without what is true of every server that nobody has changed."""
    return [found for found in ask_server(**pgnudge) if found.level > INFO]


def rules(*keys: Any, cache: str = "own") -> dict[str, Any]:
    return {"shop.Product": {"keys": list(keys), "cache": cache}}


def test_sound_settings_are_silent() -> None:
    assert check() == []
    assert check(INVALIDATE=rules("products", "product:{pk}", "p:*")) == []


@pytest.mark.parametrize(
    ("pgnudge", "expected"),
    [
        ({"PLUGN": "auto"}, "E002"),
        ({"CONNECTION": {"hots": "x"}}, "E002"),
        ({"PLUGIN": "decoderbufs"}, "E003"),
        ({"PLUGIN": "pgoutput"}, "E003"),
        ({"DATABASE": "nowhere"}, "E004"),
        ({"FEED": {"debounced": 1}}, "E005"),
        ({"INVALIDATE": {"shop.Prodct": "x"}}, "E006"),
        ({"TABLES": ["shop.Prodct"]}, "E006"),
        ({"EXCLUDE": ["shop.Prodct"]}, "E006"),
        ({"INVALIDATE": {"shop.Product": []}}, "E007"),
        ({"INVALIDATE": {"shop.Product": "p:{id}"}}, "E008"),
        ({"INVALIDATE": {"shop.Line": "p:{pk[2]}"}}, "E008"),
        ({"INVALIDATE": {"shop.Product": "tests.shop.unimportable.keys"}}, "E009"),
        ({"INVALIDATE": rules("tests.shop.cachekeys.nothing")}, "W007"),
        ({"INVALIDATE": rules(page(), cache="files"), "RESYNC": "keys"}, "E011"),
        ({"INVALIDATE": {"Product": "x"}}, "E006"),
        ({"INVALIDATE": {"shop_produkt": "x"}}, "E006"),
        ({"INVALIDATE": {"Prices": "x"}}, "E006"),
        ({"TABLES": ["shop_produkt"]}, "E006"),
        ({"INVALIDATE": rules("x", cache="flast")}, "E010"),
        ({"INVALIDATE": rules("x", cache="broken"), "RESYNC": "keys"}, "E010"),
        ({"INVALIDATE": rules("p:*", cache="files"), "RESYNC": "keys"}, "E011"),
        ({"INVALIDATE": rules("p:{pk}:*", cache="hashed"), "RESYNC": "keys"}, "E011"),
        ({"INVALIDATE": rules("p:{pk}", cache="files"), "RESYNC": "keys"}, "W003"),
        ({"INVALIDATE": rules("p", cache="local")}, "W002"),
        ({"INVALIDATE": rules("p", cache="dummy"), "RESYNC": "keys"}, "W002"),
        ({"INVALIDATE": {"sessions.Session": "s"}, "RESYNC": "keys"}, "W004"),
        ({"INVALIDATE": rules("p", cache="default")}, "W008"),
        ({"INVALIDATE": rules("p", cache="same")}, "W008"),
        ({"INVALIDATE": rules("p"), "RESYNC": "clear"}, "W008"),
        ({"FEED": {"debounce": "0.2"}}, "E003"),
        ({"FEED": {"backoff": "0.1"}}, "E003"),
        ({"INVALIDATE": rules("p"), "TABLES": ["shop.Category"]}, "W004"),
        ({"INVALIDATE": rules("p", cache="files")}, "W005"),
    ],
)
def test_each_mistake_has_its_number_and_is_alone(pgnudge: dict[str, Any], expected: str) -> None:
    found = check(**pgnudge)
    assert ids(found) == [expected]
    assert found[0].hint is not None
    assert found[0].hint.endswith(anchor(expected))
    assert found[0].is_serious() == expected.startswith("E")


def test_a_setting_that_is_no_dictionary_is_one_message() -> None:
    with override_settings(PGNUDGE=["default"]):
        assert ids(static.run()) == ["E001"]
        assert server.run(["default"]) == []


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ({"keys": "p", "cache": "own"}, {}),
        ({"keys": "p", "version": 2}, {}),
        ({"keys": "p", "cache": "fast"}, {}),
        ("p", {"RESYNC": "keys"}),
        ("p", {"RESYNC": "tests.checks.test_checks.hashed"}),
        ({"keys": "p", "cache": "fast"}, {"RESYNC": "clear"}),
    ],
)
def test_what_a_resync_leaves_to_other_code_is_not_told(rule: Any, more: dict[str, Any]) -> None:
    assert check(INVALIDATE={"shop.Product": rule}, **more) == []


def test_the_version_that_is_the_default_cache_s_own_is_shared_however_it_is_named() -> None:
    rule = {"keys": "p", "version": 1}
    (found,) = check(INVALIDATE={"shop.Product": rule})
    assert found.id == "django_pgnudge.W008"
    assert "'default', version 1" in str(found.msg)
    assert "KEY_PREFIX" in str(found.hint)


def test_another_database_system_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    assert ids(check()) == ["W009"]
    assert check_server() == []


@pytest.mark.parametrize(
    ("connection", "environment", "expected"),
    [
        ({"host": "one,two"}, {}, ["W010"]),
        ({"hostaddr": "192.0.2.1,192.0.2.2"}, {}, ["W010"]),
        ({"host": "one,two", "target_session_attrs": "any"}, {}, ["W010"]),
        ({"host": "one,two", "target_session_attrs": "read-write"}, {}, []),
        ({"host": "one,two"}, {"PGTARGETSESSIONATTRS": "primary"}, []),
        ({"host": "one"}, {"PGPORT": "5432,5433"}, []),
        ({}, {"PGHOSTADDR": "192.0.2.1,192.0.2.2"}, ["W010"]),
        ({"host": "one"}, {}, []),
    ],
)
def test_several_hosts_are_told_which_server_to_look_for(
    connection: dict[str, Any],
    environment: dict[str, str],
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ids(check(CONNECTION=connection)) == expected


def test_a_wrong_label_in_tables_is_told_once_though_rules_are_compared_with_it() -> None:
    assert ids(check(INVALIDATE=rules("p"), TABLES=["shop.Nope"])) == ["E006"]


@pytest.mark.parametrize("name", ["shop.Prodct", "Product", "shop_produkt"])
def test_a_slip_in_what_a_nudged_value_depends_on_is_found(name: str) -> None:
    @nudged(name, own("prices"))
    def total() -> int:
        return 1

    (found,) = check()
    assert ids([found]) == ["E006"]
    assert "total" in found.msg
    assert ids(check(NUDGED={"LEASE": "long"})) == ["E003"]


def test_mistakes_do_not_hide_each_other() -> None:
    found = check(
        PLUGIN="x",
        INVALIDATE={"shop.Nope": "a", "shop.Product": ["p:{x}"], "shop.Line": "b"},
        RESYNC="keys",
        NOPE=1,
    )
    assert sorted(ids(found)) == ["E002", "E003", "E006", "E008"]


@pytest.mark.parametrize(
    ("engine", "alias", "resync", "expected"),
    [
        ("cache", "default", "clear", ["W001"]),
        ("cached_db", "same", "clear", ["W001"]),
        ("cache", "fast", "clear", []),
        ("cache", "default", "versions", []),
        ("cache", "default", "keys", []),
        ("db", "default", "clear", []),
    ],
)
def test_sessions_in_a_cache_that_a_resync_clears_are_told(
    engine: str, alias: str, resync: str, expected: list[str]
) -> None:
    with override_settings(
        SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}", SESSION_CACHE_ALIAS=alias
    ):
        found = ids(check(INVALIDATE=rules("p"), RESYNC=resync))
        assert [each for each in found if each == "W001"] == expected


def test_a_server_is_asked_only_if_its_alias_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(facts, "read_facts", never)
    monkeypatch.setattr(server, "read_facts", never)
    assert django_pgnudge.checks.check_database(databases=None) == []
    assert django_pgnudge.checks.check_database(databases=["other"]) == []


def test_checks_are_registered_and_those_of_the_database_under_their_tag() -> None:
    registered = check_registry.registry.get_checks(include_deployment_checks=True)
    assert django_pgnudge.checks.check_settings in registered
    assert Tags.database in django_pgnudge.checks.check_database.tags
    with override_settings(PGNUDGE={"NOPE": 1}):
        assert ids(run_checks(tags=["pgnudge"])) == ["E002"]


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


def test_who_may_write_own_nudges_is_told_and_the_hint_changes_it(
    postgres: DatabaseServer, django_postgres: Database
) -> None:
    role = f"nudge_{django_postgres.name}"
    owner = f"owner_{django_postgres.name}"
    django_postgres.execute(f"CREATE ROLE {role} REPLICATION", f"CREATE ROLE {owner}")

    def look() -> list[CheckMessage]:
        with connections["default"].cursor() as cursor:
            cursor.execute(f"SET ROLE {owner}")
            try:
                return ask_server(CONNECTION={"user": role})
            finally:
                cursor.execute("RESET ROLE")

    def follow(found: CheckMessage) -> None:
        statements = re.findall(r"(?:REVOKE|GRANT) [^;]*;", str(found.hint))
        django_postgres.execute(*statements)

    def may(name: str) -> list[bool]:
        return [row[0] for row in django_postgres.execute(
            f"SELECT has_function_privilege('{name}', oid, 'EXECUTE') FROM pg_proc"
            " WHERE proname = 'pg_logical_emit_message'")]  # fmt: skip

    try:
        (found,) = look()
        assert ids([found]) == ["I031"]
        assert found.level == INFO
        assert str(found.hint).endswith(anchor("I031"))
        follow(found)
        assert look() == []
        assert may("public") == [False, False]
        assert may(role) == may(owner) == [True, True]
        functions = re.search(r"FUNCTION (.*?) FROM", str(found.hint))
        assert functions is not None
        django_postgres.execute(f"REVOKE EXECUTE ON FUNCTION {functions[1]} FROM {role}")
        (found,) = look()
        assert ids([found]) == ["I032"]
        assert f"may not write own nudges: {role}." in found.msg
        follow(found)
        assert look() == []
    finally:
        django_postgres.execute(f"DROP OWNED BY {role}, {owner}", f"DROP ROLE {role}, {owner}")


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
    assert found[0].msg.endswith("page tests.checks.test_checks.listed.")
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


SCOPED = {"SCOPE": "tests.checks.test_checks.path_of"}


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


def test_replication_is_seen_by_attribute_by_superuser_and_by_membership(
    django_postgres: Database,
) -> None:
    role = f"plain_{django_postgres.name}"

    def look() -> list[str]:
        return ids(check_server(CONNECTION={"user": role}))

    assert look() == ["W021"]
    django_postgres.execute(f"CREATE ROLE {role}")
    try:
        assert look() == ["W021"]
        django_postgres.execute(f"ALTER ROLE {role} REPLICATION")
        assert look() == []
        django_postgres.execute(f"ALTER ROLE {role} NOREPLICATION SUPERUSER")
        assert look() == []
        django_postgres.execute(
            f"ALTER ROLE {role} NOSUPERUSER", "CREATE ROLE rds_replication", "CREATE ROLE between",
            "GRANT rds_replication TO between",
        )  # fmt: skip
        assert look() == ["W021"], "the role exists, and this one is no member"
        django_postgres.execute(f"GRANT between TO {role}")
        assert look() == []
    finally:
        django_postgres.execute(
            f"DROP ROLE {role}",
            "DROP ROLE IF EXISTS between",
            "DROP ROLE IF EXISTS rds_replication",
        )


def test_a_server_that_is_not_set_up_is_told(
    postgres: DatabaseServer,
    postgres_factory: Callable[..., Postgres],
    django_db_blocker: DjangoDbBlocker,
) -> None:
    settings = {"wal_level": "replica"}
    knows_libraries = bool(postgres.execute(
        "SELECT 1 FROM pg_settings WHERE name = 'output_plugin_libraries'"))  # fmt: skip
    if knows_libraries:
        settings["output_plugin_libraries"] = "pgoutput"
    unready = postgres_factory(settings=settings)
    with django_db_blocker.unblock(), pointed(unready, {"default": "postgres"}):
        found = check_server(PLUGIN="wal2json")
        assert ids(found) == ["W020", *(["W022"] if knows_libraries else [])]
        assert ids(check_server(PLUGIN="pgoutput", PUBLICATION="p")) == ["W020", "W024"]
    assert "is 'replica', not 'logical'" in found[0].msg
    if knows_libraries:
        assert "output_plugin_libraries is 'pgoutput'" in found[1].msg


@pytest.mark.parametrize("plugin", ["wal2json", "test_decoding", "auto"])
def test_a_plugin_that_is_not_installed_is_told_and_no_slot_stays(
    plugin: str, postgres: DatabaseServer, django_postgres: Database
) -> None:
    there = plugin == "auto" or plugin in postgres.installation.plugins
    knows_libraries = django_postgres.execute(
        "SELECT 1 FROM pg_settings WHERE name = 'output_plugin_libraries'"
    )
    found = check_server(PLUGIN=plugin)
    assert ids(found) == ([] if there else ["W022" if knows_libraries else "W023"])
    assert django_postgres.slots() == []
    with transaction.atomic():
        assert "W023" not in ids(check_server(PLUGIN=plugin)), "no slot in somebody's transaction"


def test_a_plugin_is_not_tried_for_longer_than_a_second_and_then_nothing_is_said(
    django_postgres: Database,
) -> None:
    """A slot waits for transactions that are writing; such a wait says nothing about the plugin."""
    with django_postgres.connect() as writing, writing.transaction(force_rollback=True):
        writing.execute("INSERT INTO shop_category (name) VALUES ('x')")
        assert check_server(PLUGIN="test_decoding") == []
        assert django_postgres.slots() == []


def test_every_number_in_the_source_is_in_the_table_and_the_other_way_round() -> None:
    package = Path(django_pgnudge.__file__).parent
    used = set()
    for path in package.rglob("*.py"):
        if path.name != "ids.py":
            used |= set(re.findall(r'"([EWI]\d{3})"', path.read_text()))
    assert used == set(IDS)
    assert settings.PGNUDGE == {}


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        (
            {
                "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
                "LOCATION": ["127.0.0.1:1", "127.0.0.1:2"],
            },
            "several memcached servers",
        ),
        (
            {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": ["redis://127.0.0.1:1/0", "redis://127.0.0.1:1/1"],
                "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"},
            },
            "several servers",
        ),
        ({"BACKEND": "django.core.cache.backends.dummy.DummyCache"}, "keeps nothing"),
        ({"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}, None),
    ],
)
def test_a_cache_that_cannot_hold_nudged_values_is_told(
    settings: Any, cache: dict[str, Any], words: str | None
) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"]}, "values": cache}
    settings.PGNUDGE = {"NUDGED": {"CACHES": ["values"]}}
    found = [each for each in static.run() if each.id == "django_pgnudge.W006"]
    assert len(found) == (words is not None)
    assert words is None or words in found[0].msg
