"""checks/facts.py: what is read of real servers, and what is said of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.core.checks import INFO
from django.db import connections, transaction

from django_pgnudge.checks import anchor
from tests.checks.asking import ask_server, check_server, ids
from tests.fix_django import pointed

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.checks import CheckMessage
    from pytest_django import DjangoDbBlocker
    from servers.postgres import DatabaseServer, Postgres

    from tests.fix_servers import Database


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
