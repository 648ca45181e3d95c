"""What a role or a database sets reaches no session of ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge import WalFeed
from tests.feed.following import following, run
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fix_servers import Database

SETTINGS = {
    "search_path": "evil, public, pg_catalog",
    "lock_timeout": "1",
    "statement_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "1",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Kathmandu",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "synchronous_commit": "on",
    "row_security": "off",
    "work_mem": "64",
}
"""Of a role and of a database; times in milliseconds."""

FROM_17 = {"transaction_timeout": "30"}
"""It is over once it is set to nothing, which takes a moment after the login."""

TYPES = ("oid", "name", "text", '"char"', "int2", "int4", "int8", "bool", "xid")

FUNCTIONS = {
    "pg_current_snapshot()": "pg_snapshot",
    "pg_is_in_recovery()": "bool",
    "pg_current_wal_insert_lsn()": "pg_lsn",
    "current_schemas(bool)": "name[]",
    "to_regclass(text)": "regclass",
    "quote_ident(text)": "text",
    "format_type(oid, int4)": "text",
    "has_function_privilege(text, text)": "bool",
    "pg_logical_emit_message(bool, text, text)": "pg_lsn",
    "strpos(text, text)": "int4",
    "md5(text)": "text",
}


def planted() -> list[str]:
    """A schema whose operators, functions and types note who uses them."""
    note = "INSERT INTO evil.caught VALUES (current_query());"
    made = [
        "CREATE SCHEMA evil",
        "GRANT USAGE ON SCHEMA evil TO PUBLIC",
        "CREATE TABLE evil.caught (query pg_catalog.text)",
        "GRANT INSERT ON evil.caught TO PUBLIC",
        (
            "CREATE FUNCTION evil.caught_type() RETURNS bool LANGUAGE plpgsql AS"
            f" $$ BEGIN {note} RETURN true; END $$"
        ),
        "CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.caught_type())",
    ]
    for at, of in enumerate(TYPES):
        kind = f"pg_catalog.{of}"
        for name, sign in (("eq", "="), ("ne", "<>")):
            answer = (
                "a OPERATOR(pg_catalog.=) b" if sign == "=" else "NOT a OPERATOR(pg_catalog.=) b"
            )
            made += [
                (
                    f"CREATE FUNCTION evil.{name}_{at}(a {kind}, b {kind}) RETURNS bool"
                    f" LANGUAGE plpgsql AS $$ BEGIN {note} RETURN {answer}; END $$"
                ),
                (
                    f"CREATE OPERATOR evil.{sign} (LEFTARG = {kind}, RIGHTARG = {kind},"
                    f" FUNCTION = evil.{name}_{at})"
                ),
            ]
    for signature, returns in FUNCTIONS.items():
        name, _, rest = signature.partition("(")
        kinds = [f"pg_catalog.{kind}" for kind in rest[:-1].split(", ") if kind]
        places = ", ".join(f"${place}" for place in range(1, len(kinds) + 1))
        made.append(
            f"CREATE FUNCTION evil.{name}({', '.join(kinds)}) RETURNS pg_catalog.{returns}"
            f" LANGUAGE plpgsql AS $$ BEGIN {note} RETURN pg_catalog.{name}({places}); END $$"
        )
    return made


def version(database: Database) -> int:
    return int(database.execute("SELECT current_setting('server_version_num')")[0][0])


@contextmanager
def hostile(database: Database, *, whose: str, **settings: str) -> Iterator[dict[str, Any]]:
    """Keywords for the login of a role that has been set up so, by itself or by its database."""
    role = f"hostile_{database.name}"
    database.execute(
        *planted(),
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz)",
        "CREATE TABLE of_bytes (id bytea PRIMARY KEY)",
        f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'x'",
    )
    try:
        for name, value in settings.items():
            written = value if "," in value else f"'{value}'"
            target = f"ROLE {role}" if whose == "role" else f"DATABASE {database.name}"
            database.postgres.execute(f"ALTER {target} SET {name} TO {written}")
        yield {"user": role, "password": "x"}
    finally:
        database.postgres.execute(f"ALTER DATABASE {database.name} RESET ALL")
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("whose", ["role", "database"])
async def test_what_a_role_or_a_database_sets_does_not_reach_the_feed(
    feed_server: Any, database: Database, whose: str
) -> None:
    given = dict(SETTINGS)
    if version(database) >= 170000:
        given |= FROM_17
    options = database.feed_options()
    wanted = {
        "search_path": "public",
        "default_transaction_isolation": "serializable",
        "default_transaction_read_only": "off",
        "default_transaction_deferrable": "off",
        **{name: "0" for name in given if name.endswith("_timeout")},
    }
    ours = " ".join(f"-c {name}={value}" for name, value in wanted.items())
    with (
        hostile(database, whose=whose, **given) as login,
        # A deferrable transaction would wait for this one, and so does the slot.
        database.connect(options=ours) as writer,
        database.connect(options=ours) as other,
    ):
        other.execute("BEGIN")
        other.execute("INSERT INTO t VALUES (0)")
        feed = WalFeed(**options | login)
        async with following(feed, live=False) as seen:
            await until(lambda: waits_for_a_slot(writer), blocks=True)
            other.execute("COMMIT")
            await seen.until(lambda: seen.resyncs)
            assert feed.last_error is None
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM of_bytes")
            # It takes longer to decode than any of the timeouts allows.
            await run(writer.execute, "INSERT INTO t SELECT generate_series(1, 80000), now()")
            await run(writer.execute, "INSERT INTO of_bytes VALUES (decode('00ff5c', 'hex'))")
            await seen.payload("public.t")
            await seen.payload("public.of_bytes")
            assert seen.keys("public.of_bytes") == {(r"\x00ff5c",)}
            await feed.catch_up()
            survey = await feed.survey()
            assert "public.t" in survey.covered
            await run(writer.execute, "ALTER TABLE t ADD note text")
            survey = await feed.survey()
            assert survey.moved.payloads == {"public.t"}
            await feed.relearn(survey)
            other.execute("COMMIT")
            assert seen.resyncs == ["connected"]
        assert writer.execute("SELECT query FROM evil.caught").fetchall() == []


def waits_for_a_slot(connection: Any) -> bool:
    return bool(
        connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION%'"
            " AND wait_event_type = 'Lock'"
        ).fetchone()[0]
    )
