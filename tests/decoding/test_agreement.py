"""One workload on a real server, through every plugin it has: the batches are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.feed import WalFeed
from tests.feed.following import following, run

if TYPE_CHECKING:
    from tests.fix_servers import Database, FeedServer

NAMES = [
    "Mixed Case", 'quo"te', 'a"}b', '"},', "dot.ted", "comma, separated", "colon: INSERT: x",
    ": INSERT", "new\nline", "Größe", "日本", "it's", "[integer]:1", "back\\slash", "old-key",
]  # fmt: skip


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


SCHEMA = [
    "CREATE TABLE t (id int PRIMARY KEY, name text, big text)",
    "CREATE TABLE textual (id text PRIMARY KEY, v int)",
    'CREATE TABLE flag ("on" bool PRIMARY KEY)',
    "CREATE TABLE uuids (id uuid PRIMARY KEY)",
    "CREATE TABLE numerics (v int, id numeric(12,2) PRIMARY KEY)",
    "CREATE TABLE floats (id float8 PRIMARY KEY)",
    "CREATE TABLE times (id timestamptz PRIMARY KEY, d date, i interval)",
    "CREATE TABLE bytes (id bytea PRIMARY KEY)",
    "CREATE TABLE chars (id char(5) PRIMARY KEY, v varchar(9))",
    "CREATE TYPE mood AS ENUM ('sad', 'it''s ok')",
    "CREATE TABLE enums (id mood PRIMARY KEY)",
    "CREATE TABLE arrays (id int[] PRIMARY KEY)",
    "CREATE TABLE bits (id bit(4) PRIMARY KEY)",
    "CREATE TABLE pair (b text, x int, a bigint, PRIMARY KEY (a, b))",
    "CREATE TABLE fully (id int PRIMARY KEY, v text)",
    "ALTER TABLE fully REPLICA IDENTITY FULL",
    "CREATE TABLE byindex (id int PRIMARY KEY, v int NOT NULL UNIQUE)",
    "ALTER TABLE byindex REPLICA IDENTITY USING INDEX byindex_v_key",
    "CREATE TABLE without (v int)",
    "CREATE TABLE nothing (id int PRIMARY KEY)",
    "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
    "CREATE TABLE dropped (gone int, id int PRIMARY KEY, v text)",
    "ALTER TABLE dropped DROP COLUMN gone",
    *(f"CREATE SCHEMA {quote(name)}" for name in NAMES),
    *(
        f'CREATE TABLE {quote(name)}.{quote(name)} (x "text", {quote(name)} int PRIMARY KEY)'
        for name in NAMES
    ),
]

WORK = [
    "INSERT INTO t SELECT i, 'it''s: UPDATE: ', repeat('x', 9999) FROM generate_series(1, 50) i",
    "UPDATE t SET name = 'table public.x: INSERT: id[integer]:7' WHERE id <= 3",
    "UPDATE t SET id = id + 1000 WHERE id = 50",
    "DELETE FROM t WHERE id = 1050",
    "INSERT INTO textual VALUES ('it''s \"q\" \\ ,.:[]', 1), ('', 2)",
    "INSERT INTO textual VALUES (E'new\\nline\\ttab', 3), ('日本', 4)",
    "UPDATE textual SET id = 'moved' WHERE id = ''",
    "INSERT INTO flag VALUES (true), (false)",
    "INSERT INTO uuids VALUES ('0b4e8c2a-0000-4000-8000-000000000001')",
    "INSERT INTO numerics VALUES (1, 1.50), (2, -0.1), (3, 1234567890.12)",
    "INSERT INTO floats VALUES (0.1), (1e300), (-0.5)",
    "INSERT INTO times VALUES ('2026-11-20 22:20:00.5+02', '2026-11-20', '1 day 2 hours')",
    "INSERT INTO bytes VALUES ('\\x00ff'), ('')",
    "INSERT INTO chars VALUES ('ab', 'x')",
    "INSERT INTO enums VALUES ('it''s ok')",
    "INSERT INTO arrays VALUES ('{1,2}')",
    "INSERT INTO bits VALUES (B'0101')",
    "INSERT INTO pair VALUES ('it''s', 1, 9223372036854775807), ('é', NULL, -1)",
    "UPDATE pair SET x = 2, b = 'z' WHERE a = -1",
    "DELETE FROM pair WHERE a > 0",
    "INSERT INTO fully VALUES (1, 'new-tuple: id[integer]:9')",
    "UPDATE fully SET id = 2, v = NULL",
    "DELETE FROM fully",
    "INSERT INTO byindex VALUES (1, 10)",
    "UPDATE byindex SET id = 2",
    "INSERT INTO without VALUES (1), (2)",
    "INSERT INTO nothing VALUES (1)",
    "INSERT INTO dropped VALUES (1, 'x')",
    "UPDATE dropped SET id = 2",
    *(f"INSERT INTO {quote(name)}.{quote(name)} VALUES ('x', 1)" for name in NAMES),
    *(f"UPDATE {quote(name)}.{quote(name)} SET x = 'y'" for name in NAMES),
    'TRUNCATE t, pair, "comma, separated"."comma, separated", "new\nline"."new\nline"',
    "SELECT pg_logical_emit_message(true, 'pgnudge', E'Größe, \"q\" \\\\ new\\nline')",
    "SELECT pg_logical_emit_message(true, 'pgnudge', '\\xff'::bytea)",
    "SELECT pg_logical_emit_message(true, 'pgnudge, sz: 1 content:x', 'other')",
    "SELECT pg_logical_emit_message(false, 'pgnudge', 'not transactional')",
    "SELECT pg_logical_emit_message(true, 'other', 'not ours')",
]
END = "SELECT pg_logical_emit_message(true, 'pgnudge', 'the end')"

Seen = dict[str, tuple[int, Any]]
_seen: dict[str, dict[str, Seen]] = {}


@pytest.fixture
def workload(database: Database) -> Database:
    database.execute(*SCHEMA)
    return database


async def seen_by(database: Database, **options: Any) -> Seen:
    async with following(WalFeed(**database.feed_options(**options))) as follower:
        await run(database.execute, *WORK, END)
        await follower.payload("the end")
        assert follower.resyncs == ["connected"]
        return {
            payload: (follower.counts[payload], follower.keys(payload))
            for payload in follower.counts
        }


async def test_every_change_is_seen_and_every_plugin_agrees(
    feed_server: FeedServer, workload: Database
) -> None:
    seen = await seen_by(workload)
    # TRUNCATE means any row, so keys are looked at without it as well.
    assert seen["public.t"] == (56, None)
    assert seen["public.textual"][1] == {
        ("it's \"q\" \\ ,.:[]",), ("",), ("new\nline\ttab",), ("日本",), ("moved",),
    }  # fmt: skip
    assert seen["public.flag"] == (2, {(True,), (False,)})
    assert seen["public.numerics"] == (3, {("1.50",), ("-0.10",), ("1234567890.12",)})
    assert seen["public.times"] == (1, {("2026-11-20 20:20:00.5+00",)})
    assert seen["public.bytes"] == (2, {("\\x00ff",), ("\\x",)})
    assert seen["public.chars"] == (1, {("ab   ",)})
    assert seen["public.arrays"] == (1, {("{1,2}",)})
    assert seen["public.bits"] == (1, {("0101",)})
    assert seen["public.fully"] == (3, {(1,), (2,)})
    assert seen["public.without"] == (2, None)
    assert seen["public.byindex"] == (2, None)
    assert seen["public.nothing"] == (1, None)
    assert seen["public.dropped"] == (2, {(1,), (2,)})
    for name in NAMES:
        truncated = name in ("comma, separated", "new\nline")
        assert seen[f"{name}.{name}"] == (2 + truncated, None if truncated else {(1,)}), name
    assert 'Größe, "q" \\ new\nline' in seen
    assert not {"other", "not transactional", "not ours"} & set(seen)
    server = _seen.setdefault(feed_server.postgres.name, {})
    server[feed_server.plugin] = seen
    for plugin, other in server.items():
        assert seen == other, f"{feed_server.plugin} and {plugin} differ"


async def test_tables_are_filtered_alike(feed_server: FeedServer, workload: Database) -> None:
    tables = ["public.t", "*.dot.ted", 'a"}b.*', "Mixed Case.Mixed Case", "it's.*"]
    seen = await seen_by(workload, tables=tables)
    tables_seen = {payload for payload in seen if "." in payload}
    assert tables_seen == {
        "public.t", "dot.ted.dot.ted", 'a"}b.a"}b', "Mixed Case.Mixed Case", "it's.it's",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "name"), [("LATIN1", "größe"), ("EUC_JP", "日本"), ("SQL_ASCII", "größe")]
)
async def test_databases_in_other_encodings_are_read(
    feed_server: FeedServer, database: Database, encoding: str, name: str
) -> None:
    postgres = feed_server.postgres
    other = f"{database.name}_{encoding.lower()}"
    postgres.execute(f"CREATE DATABASE {other} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        theirs = type(database)(postgres, other, feed_server.plugin)

        def execute(*statements: str) -> None:
            with theirs.connect(client_encoding="UTF8") as connection:
                for statement in statements:
                    connection.execute(statement.encode())

        execute(f'CREATE TABLE "{name}" ("{name}" text PRIMARY KEY)')
        async with following(WalFeed(**theirs.feed_options())) as follower:
            await run(execute, f"INSERT INTO \"{name}\" VALUES ('{name}')")
            await follower.payload(f"public.{name}")
            assert follower.keys(f"public.{name}") == {(name,)}
            if encoding == "SQL_ASCII":
                latin1 = "SELECT pg_logical_emit_message(true, 'pgnudge', '\\xe9'::bytea)"
                await run(execute, latin1, f"INSERT INTO \"{name}\" VALUES (E'\\xe9')")
                await follower.until(lambda: follower.counts[f"public.{name}"] == 2)
                assert follower.keys(f"public.{name}") is None, "what is no text names no row"
                assert follower.counts["\\xe9"] == 1
            assert follower.resyncs == ["connected"]
    finally:
        postgres.drop_database(other)
