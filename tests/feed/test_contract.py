"""The contract of a feed, on every server and output plugin there is."""

from __future__ import annotations

import time

import pytest

from django_pgnudge import WalFeed

from .following import feed_of, following, run
from .tables import AWKWARD, PLAIN, quoted

pytestmark = pytest.mark.usefixtures("feed_server")


async def test_what_was_written_before_connecting_is_not_nudged(database):
    database.execute(PLAIN, "INSERT INTO t SELECT generate_series(1, 100)")
    async with following(feed_of(database)) as seen:
        await run(database.execute, "INSERT INTO t VALUES (101)")
        await seen.payload("public.t")
    assert seen.resyncs == ["connected"]
    assert seen.counts == {"public.t": 1}
    assert seen.keys("public.t") == {(101,)}


async def test_a_transaction_of_fifty_rows_is_one_event_of_fifty(database):
    database.execute(PLAIN)
    async with following(feed_of(database)) as seen:
        before = time.time()
        await run(database.execute, "INSERT INTO t SELECT generate_series(1, 50)")
        await seen.payload("public.t")
    (batch,) = seen.batches
    (event,) = batch.events
    assert (event.payload, event.count) == ("public.t", 50)
    assert event.keys == {(n,) for n in range(1, 51)}
    assert before - 1 < event.first_seen < time.time() + 1
    assert before - 1 < batch.committed_at < time.time() + 1
    assert batch.lsn > 0


async def test_update_delete_and_a_changed_key_give_every_key_touched(database):
    database.execute(PLAIN, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    async with following(feed_of(database)) as seen:
        await run(database.execute, "UPDATE t SET name = 'x' WHERE id = 1")
        await seen.until(lambda: seen.counts["public.t"] == 1)
        assert seen.keys("public.t") == {(1,)}
        await run(database.execute, "UPDATE t SET id = 20 WHERE id = 2")
        await seen.until(lambda: seen.counts["public.t"] == 2)
        assert seen.keys("public.t") == {(1,), (2,), (20,)}
        await run(database.execute, "DELETE FROM t WHERE id = 3")
        await seen.until(lambda: seen.counts["public.t"] == 3)
    assert seen.keys("public.t") == {(1,), (2,), (20,), (3,)}


async def test_keys_of_every_type_read_the_same_with_every_plugin(database):
    database.execute(
        "CREATE TABLE u (k uuid PRIMARY KEY, v int)",
        "CREATE TABLE s (k text PRIMARY KEY)",
        "CREATE TABLE b (k bool PRIMARY KEY)",
        "CREATE TABLE n (k numeric PRIMARY KEY)",
        "CREATE TABLE z (k timestamptz PRIMARY KEY)",
        "CREATE TABLE l (k bigint PRIMARY KEY)",
        "CREATE DOMAIN whole AS int",
        "CREATE TABLE d (k whole PRIMARY KEY)",
        'CREATE TABLE c (v text, "k ]2[" text, k1 int, PRIMARY KEY (k1, "k ]2["))',
    )
    async with following(feed_of(database)) as seen:
        await run(
            database.execute,
            "INSERT INTO u VALUES ('7a1f0000-0000-0000-0000-00000000abcd', 1);"
            "INSERT INTO s VALUES (E'it''s [text]:''1'' \"x\" é \\\\ , null'), ('null'), ('42');"
            "INSERT INTO b VALUES (true), (false);"
            "INSERT INTO n VALUES (1.50), (3);"
            "INSERT INTO z VALUES ('2026-11-20 12:00:00+02');"
            "INSERT INTO l VALUES (9223372036854775807), (-1);"
            "INSERT INTO d VALUES (5);"
            "INSERT INTO c VALUES ('v', 'x]:1 ', 7)",
        )
        await seen.payload("public.c")
    assert seen.keys("public.u") == {("7a1f0000-0000-0000-0000-00000000abcd",)}
    assert seen.keys("public.s") == {("it's [text]:'1' \"x\" é \\ , null",), ("null",), ("42",)}
    assert seen.keys("public.b") == {(True,), (False,)}
    assert seen.keys("public.n") == {("1.50",), ("3",)}
    assert seen.keys("public.z") == {("2026-11-20 10:00:00+00",)}
    assert seen.keys("public.l") == {(9223372036854775807,), (-1,)}
    assert seen.keys("public.d") == {(5,)}
    assert seen.keys("public.c") == {(7, "x]:1 ")}


async def test_a_table_without_a_primary_key_nudges_for_any_row(database):
    database.execute("CREATE TABLE nokey (x text)")
    async with following(feed_of(database)) as seen:
        await run(database.execute, "INSERT INTO nokey VALUES ('id[integer]:1')")
        await seen.payload("public.nokey")
    assert seen.keys("public.nokey") is None


async def test_auto_takes_the_plugin_that_leaves_no_change_out(feed_server, database, caplog):
    """wal2json sends nothing for an UPDATE of a table without a replica identity."""
    if feed_server.plugin == "pgoutput":
        pytest.skip("pgoutput refuses such an UPDATE itself")
    database.execute("CREATE TABLE nokey (x int)", "INSERT INTO nokey VALUES (1)")
    async with following(feed_of(database, plugin="auto")) as seen:
        assert seen.feed.plugin_in_use == "test_decoding"
        await run(database.execute, "UPDATE nokey SET x = 2")
        await seen.payload("public.nokey")
        assert "public.nokey" in await seen.feed.covered()
    assert "without a replica identity (public.nokey)" in caplog.text


async def test_what_a_plugin_leaves_out_is_not_covered(feed_server, database):
    database.execute(
        "CREATE TABLE nokey (x int)",
        "CREATE TABLE keyed (x int PRIMARY KEY)",
        "CREATE UNLOGGED TABLE unlogged (x int PRIMARY KEY)",
        "CREATE VIEW seen AS SELECT * FROM keyed",
        "CREATE TABLE root (x int) PARTITION BY LIST (x)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1)",
    )
    async with following(feed_of(database)) as seen:
        covered = await seen.feed.covered()
    assert "public.keyed" in covered
    assert not covered & {"public.unlogged", "public.seen"}
    left_out = {"public.nokey", "public.root", "public.leaf"}
    assert covered & left_out == (set() if feed_server.plugin == "wal2json" else left_out)


async def test_keys_outside_the_replica_identity_are_not_trusted(database):
    """Such a key can change without its old value being sent."""
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, other int NOT NULL UNIQUE)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_other_key",
        "CREATE TABLE f (id int PRIMARY KEY, other int)",
        "ALTER TABLE f REPLICA IDENTITY FULL",
        "INSERT INTO t VALUES (1, 1); INSERT INTO f VALUES (1, 1)",
    )
    async with following(feed_of(database)) as seen:
        await run(database.execute, "UPDATE t SET id = 2; UPDATE f SET id = 2")
        await seen.payload("public.f")
    assert seen.keys("public.t") is None
    assert seen.keys("public.f") == {(1,), (2,)}


async def test_truncate_nudges_every_table_it_empties(database):
    tables = ["public.t", 'public."Mixed Case"', 'public."comma, name"']
    for table in tables:
        database.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
    async with following(feed_of(database)) as seen:
        await run(database.execute, f"TRUNCATE {', '.join(tables)}")
        await seen.payload("public.comma, name")
    assert seen.counts == {"public.t": 1, "public.Mixed Case": 1, "public.comma, name": 1}
    assert all(event.keys is None for event in seen.events)


async def test_awkward_names_arrive_plain_and_unquoted(database):
    schema = 'My "schema", v1.0: x'
    database.execute(f"CREATE SCHEMA {quoted(schema)}")
    for name in AWKWARD:
        for place in ("public", schema):
            table = f"{quoted(place)}.{quoted(name)}"
            database.execute(f'CREATE TABLE {table} ("id, of: it" int PRIMARY KEY, v text)')
    async with following(feed_of(database)) as seen:
        for place in ("public", schema):
            for name in AWKWARD:
                table = f"{quoted(place)}.{quoted(name)}"
                await run(
                    database.execute,
                    f"INSERT INTO {table} VALUES (1, 'table a.b: INSERT: x[text]:''y'''), (2, '')",
                )
        await seen.payload(f"{schema}.{AWKWARD[-1]}")
    expected = {f"{place}.{name}" for place in ("public", schema) for name in AWKWARD}
    assert seen.counts == dict.fromkeys(expected, 2)
    for payload in expected:
        assert seen.keys(payload) == {(1,), (2,)}


async def test_what_was_rolled_back_is_not_nudged(database):
    database.execute(PLAIN, "CREATE TABLE other (id int PRIMARY KEY)", "CREATE TABLE last (id int)")

    def write() -> None:
        with database.connect() as connection:
            connection.execute("BEGIN; INSERT INTO t VALUES (1); ROLLBACK")
            connection.execute(
                "BEGIN; INSERT INTO other VALUES (1); SAVEPOINT a; INSERT INTO t VALUES (2);"
                "INSERT INTO other VALUES (2); ROLLBACK TO a; INSERT INTO other VALUES (3); COMMIT"
            )
            connection.execute("INSERT INTO last VALUES (1)")

    async with following(feed_of(database)) as seen:
        await run(write)
        await seen.payload("public.last")
    assert seen.counts == {"public.other": 2, "public.last": 1}
    assert seen.keys("public.other") == {(1,), (3,)}


async def test_a_partition_arrives_as_the_leaf(database):
    database.execute(
        "CREATE TABLE root (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    )
    async with following(feed_of(database)) as seen:
        await run(database.execute, "INSERT INTO root VALUES (1, '2026-05-05')")
        await seen.payload("public.leaf")
    assert seen.counts == {"public.leaf": 1}
    assert seen.keys("public.leaf") == {(1, "2026-05-05")}


async def test_writes_of_every_kind_nudge(database):
    database.execute(
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE)",
        "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (10, 1), (11, 1), (12, 2)",
    )

    def copy() -> None:
        with database.connect() as connection, connection.cursor() as cursor:
            with cursor.copy("COPY parent FROM STDIN") as pipe:
                pipe.write(b"7\n8\n9\n")

    async with following(feed_of(database)) as seen:
        await run(database.execute, "DELETE FROM parent WHERE id = 1")
        await seen.until(lambda: seen.counts["public.child"] == 2, "the cascade")
        assert seen.keys("public.child") == {(10,), (11,)}
        await run(copy)
        await seen.until(lambda: seen.counts["public.parent"] == 4, "the COPY")
        await run(
            database.execute,
            "INSERT INTO parent VALUES (2) ON CONFLICT (id) DO UPDATE SET id = excluded.id",
        )
        await seen.until(lambda: seen.counts["public.parent"] == 5, "the upsert")


async def test_an_emitted_message_nudges_exactly_if_it_commits(database):
    database.execute(PLAIN)
    emit = "SELECT pg_logical_emit_message(true, 'pgnudge', '{}')"

    def write() -> None:
        with database.connect() as connection:
            connection.execute(f"BEGIN; {emit.format('undone')}; ROLLBACK")
            connection.execute("SELECT pg_logical_emit_message(true, 'other', 'not ours')")
            connection.execute("SELECT pg_logical_emit_message(false, 'pgnudge', 'not bound')")
            connection.execute(
                f"BEGIN; {emit.format('prices: é, ')}; INSERT INTO t VALUES (1); END"
            )
            connection.execute(emit.format("alone"))

    async with following(feed_of(database)) as seen:
        await run(write)
        await seen.payload("alone")
    assert seen.counts == {"prices: é, ": 1, "public.t": 1, "alone": 1}


async def test_the_keys_of_a_table_made_later_are_learnt(database):
    options = {"status_interval": 0.1, "liveness_timeout": 10}
    async with following(feed_of(database, **options)) as seen:
        await run(database.execute, PLAIN)
        await run(database.execute, "INSERT INTO t VALUES (1)")
        await seen.payload("public.t")
        assert seen.keys("public.t") is None, "not known at first, so any row"
        number = 1
        while not any(event.keys for event in seen.events):
            number += 1
            await run(database.execute, f"INSERT INTO t VALUES ({number})")
            await seen.until(lambda: seen.counts["public.t"] == number)
    assert seen.events[-1].keys == {(number,)}


async def test_a_table_dropped_or_renamed_while_streaming_stops_nothing(database):
    database.execute(PLAIN, "CREATE TABLE gone (id int PRIMARY KEY)")
    async with following(feed_of(database)) as seen:
        await run(database.execute, "INSERT INTO gone VALUES (1)")
        await run(database.execute, "DROP TABLE gone")
        await run(database.execute, "INSERT INTO t VALUES (1)")
        await run(database.execute, "ALTER TABLE t RENAME TO renamed")
        await run(database.execute, "ALTER TABLE renamed ADD COLUMN more int DEFAULT 5")
        await run(database.execute, "INSERT INTO renamed VALUES (2)")
        await seen.payload("public.renamed")
    assert seen.counts == {"public.gone": 1, "public.t": 1, "public.renamed": 1}
    assert seen.resyncs == ["connected"]


async def test_rows_of_a_megabyte_and_more_pass(database):
    database.execute(
        "CREATE TABLE big (id int PRIMARY KEY, body text)",
        "ALTER TABLE big ALTER body SET STORAGE EXTERNAL",
        "CREATE TABLE last (id int PRIMARY KEY)",
    )
    async with following(feed_of(database)) as seen:
        await run(database.execute, "INSERT INTO big SELECT 1, repeat('x', 1024 * 1024)")
        await run(database.execute, "INSERT INTO big SELECT 2, repeat('y', 40 * 1024 * 1024)")
        await run(database.execute, "INSERT INTO last VALUES (1)")
        await seen.payload("public.last")
    assert seen.counts == {"public.big": 2, "public.last": 1}
    assert seen.resyncs == ["connected"]


async def test_a_latin_1_database_gives_its_names_as_text(feed_server, database):
    server = feed_server.postgres
    name = f"{database.name}_latin1"
    server.execute(
        f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        latin = type(database)(server, name, database.plugin)
        utf8 = "SET client_encoding TO 'UTF8'"
        latin.execute(utf8, 'CREATE TABLE "préçis" ("clé" text PRIMARY KEY)')
        async with following(feed_of(latin)) as seen:
            await run(latin.execute, utf8, "INSERT INTO \"préçis\" VALUES ('ünï')")
            await run(latin.execute, utf8, "SELECT pg_logical_emit_message(true, 'pgnudge', 'à')")
            await seen.payload("à")
        assert seen.keys("public.préçis") == {("ünï",)}
    finally:
        server.drop_database(name)


async def test_names_in_an_encoding_that_python_has_not_are_not_covered(feed_server, database):
    """They come escaped, and nobody could tell a change of theirs from another's."""
    server = feed_server.postgres
    name = f"{database.name}_euc_tw"
    server.execute(
        f"CREATE DATABASE {name} ENCODING 'EUC_TW' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )

    def execute(*statements: str) -> None:
        with server.connect(name, client_encoding="UTF8") as connection:
            for statement in statements:
                connection.execute(statement)

    try:
        execute(
            'CREATE TABLE "中" (id int PRIMARY KEY)',
            PLAIN,
            "CREATE PUBLICATION pgnudge_all FOR ALL TABLES",
        )
        options = {**database.feed_options(), "database": name}
        async with following(WalFeed(**options)) as seen:
            assert (await seen.feed.survey()).covered == {"public.t"}
            await run(execute, 'INSERT INTO "中" VALUES (1)')
            await run(execute, "INSERT INTO t SELECT generate_series(1, 3)")
            await seen.payload("public.t")
        assert seen.counts["public.t"] == 3
        assert seen.resyncs == ["connected"]
    finally:
        server.drop_database(name)
