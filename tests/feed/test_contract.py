"""The contract of a feed, on every server and output plugin there is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from django_pgnudge import Batch, ConfigError, WalFeed
from django_pgnudge.errors import AuthenticationError
from tests.waiting import until

from .following import feed_of, following, run

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.usefixtures("feed_server")

PLAIN = "CREATE TABLE t (id serial PRIMARY KEY, name text)"
# A name for every trap: quotation marks, dots, commas, colons, spaces, a newline, other scripts,
# a backslash, what looks like a row, and what a wildcard or an escape could be mistaken for.
AWKWARD = [
    "Mixed Case",
    'with "quotes"',
    "dotted.name",
    "comma, name",
    "colon: INSERT: id[integer]:1",
    "line\nbreak",
    "Ünïcödé таблица 表",
    "back\\slash",
    "apostro'phe",
    "star*",
    "table public.t",
    '","columns":[{',
]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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


async def test_the_table_filter_holds_with_every_plugin(database):
    for name in ["b", "starling", *(quoted(name) for name in ["a", *AWKWARD])]:
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    database.execute("CREATE SCHEMA s", "CREATE TABLE s.a (id int PRIMARY KEY)")
    wanted = [f"public.{name}" for name in ["a", *AWKWARD]]
    async with following(feed_of(database, tables=wanted)) as seen:
        for name in ["b", "s.a", "starling", "a", *map(quoted, AWKWARD)]:
            await run(database.execute, f"INSERT INTO {name} VALUES (1)")
        await run(database.execute, "TRUNCATE b, a")
        await seen.until(lambda: seen.counts["public.a"] == 2)
    assert set(seen.counts) == set(wanted)


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (["s.*"], {"s.a", "s.b"}),
        (["*.a"], {"public.a", "s.a"}),
        (["*.*"], {"public.a", "s.a", "s.b"}),
    ],
)
async def test_a_star_stands_for_a_schema_or_a_table(database, tables, expected):
    database.execute("CREATE SCHEMA s")
    for name in ["a", "s.a", "s.b", "last"]:
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    tables = [*tables, "public.last"]
    async with following(feed_of(database, tables=tables)) as seen:
        for name in ["a", "s.a", "s.b", "last"]:
            await run(database.execute, f"INSERT INTO {name} VALUES (1)")
        await seen.payload("public.last")
    assert set(seen.counts) - {"public.last"} == expected


async def test_keys_are_collected_only_where_they_are_asked_for(database):
    database.execute("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    async with following(feed_of(database, keys=["public.a"])) as seen:
        await run(database.execute, "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
        await seen.payload("public.b")
    assert seen.keys("public.a") == {(1,)}
    assert seen.keys("public.b") is None


async def test_more_keys_than_the_limit_mean_any_row(database):
    database.execute(PLAIN)
    async with following(feed_of(database, max_keys=10)) as seen:
        await run(database.execute, "INSERT INTO t SELECT generate_series(1, 11)")
        await seen.payload("public.t")
    (event,) = seen.events
    assert (event.keys, event.count) == (None, 11)


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


async def test_two_databases_are_two_feeds(feed_server, database):
    server = feed_server.postgres
    name = f"{database.name}_two"
    server.create_database(name)
    try:
        other = type(database)(server, name, database.plugin)
        for each in (database, other):
            each.execute(PLAIN)
        async with (
            following(feed_of(database)) as first,
            following(feed_of(other)) as second,
        ):
            await run(database.execute, "INSERT INTO t VALUES (1)")
            await run(other.execute, "INSERT INTO t SELECT generate_series(1, 3)")
            await first.payload("public.t")
            await second.payload("public.t")
        assert first.counts == {"public.t": 1}
        assert second.counts == {"public.t": 3}
    finally:
        server.drop_database(name)


async def test_a_slow_consumer_gets_bigger_batches_and_no_overflow(database):
    database.execute(PLAIN, "CREATE TABLE last (id int)")
    feed = feed_of(database, raw_queue_size=4)

    def write() -> None:
        with database.connect() as connection:
            for number in range(200):
                connection.execute(f"INSERT INTO t VALUES ({number})")
            connection.execute("INSERT INTO last VALUES (1)")

    async with feed:
        items = aiter(feed)
        assert (await anext(items)).reason == "connected"
        await run(write)
        seen: dict[str, int] = {}
        while "public.last" not in seen:
            batch = await anext(items)
            assert isinstance(batch, Batch)
            for event in batch.events:
                seen[event.payload] = seen.get(event.payload, 0) + event.count
    assert seen == {"public.t": 200, "public.last": 1}


async def test_a_debounce_gathers_what_comes_meanwhile(database):
    database.execute(PLAIN)
    feed = feed_of(database, debounce=60)
    async with following(feed) as seen:
        await run(database.execute, "INSERT INTO t VALUES (1)")
        await seen.payload("public.t")
        await run(database.execute, "INSERT INTO t VALUES (2)")
        await until(lambda: feed._coalescer.ready, blocks=True)
    assert seen.counts == {"public.t": 1}


async def test_more_tables_than_the_queue_holds_are_a_resync(database):
    tables = [f"t{number}" for number in range(6)]
    for table in tables:
        database.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
    async with following(feed_of(database, raw_queue_size=5)) as seen:
        await run(database.execute, ";".join(f"INSERT INTO {table} VALUES (1)" for table in tables))
        await seen.resync("overflow")
        await run(database.execute, "INSERT INTO t0 VALUES (2)")
        await seen.payload("public.t0")
    assert seen.counts == {"public.t0": 1}


async def test_failsafe_resyncs_come_by_the_clock(database):
    async with following(feed_of(database, failsafe=0.01)) as seen:
        await seen.resync("failsafe", times=3)
    assert seen.resyncs[0] == "connected"


async def test_a_closed_feed_has_left_nothing(database):
    database.execute(PLAIN)
    feed = feed_of(database)
    async with following(feed) as seen:
        assert feed.slot_name in await run(database.slots)
        assert feed.connection_pid
        assert feed.server_version // 10_000 == database.postgres.installation.version[0]
        assert feed.plugin_in_use == database.plugin
        assert feed.last_error is None
        temporary = await run(
            database.execute,
            "SELECT temporary, plugin FROM pg_replication_slots"
            f" WHERE slot_name = '{feed.slot_name}'",
        )
        assert temporary == [(True, database.plugin)]
    assert database.slots() == [], "the slot is gone when aclose() returns"
    assert (feed.slot_name, feed.connection_pid) == (None, None)
    await feed.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(feed)
    assert seen.resyncs == ["connected"]


async def test_closing_while_connecting_leaves_nothing(database):
    """A slot waits for running transactions to end; its maker does not have to."""
    database.execute(PLAIN)
    blocker = database.connect()
    try:
        blocker.execute("BEGIN; INSERT INTO t VALUES (1)")
        feed = feed_of(database)
        async with following(feed, live=False):
            await until(database.slots, blocks=True)
        assert database.slots() == []
    finally:
        blocker.close()


async def test_a_long_transaction_delays_the_start_and_is_told(database, caplog):
    database.execute(PLAIN)
    blocker = database.connect()
    try:
        blocker.execute("BEGIN; INSERT INTO t VALUES (1)")
        feed = feed_of(database, connect_timeout=0.5)
        async with following(feed, live=False) as seen:
            await until(lambda: "waiting for running transactions" in caplog.text, blocks=True)
            assert str(blocker.info.backend_pid) in caplog.text
            blocker.execute("COMMIT")
            await seen.resync("connected")
            await run(database.execute, "INSERT INTO t VALUES (2)")
            await seen.until(lambda: (2,) in (seen.keys("public.t") or ()))
    finally:
        blocker.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"plugin": "decoderbufs"},
        {"plugin": "pgoutput", "publication": None},
        {"status_interval": 0},
        {"status_interval": 30, "liveness_timeout": 30},
        {"connect_timeout": 0},
        {"debounce": -1},
        {"max_batch_wait": -0.1},
        {"failsafe": 0},
        {"backoff": (0, 5)},
        {"backoff": (2, 1)},
        {"raw_queue_size": 0},
        {"max_keys": -1},
        {"tables": []},
        {"tables": "public.t"},
        {"tables": ["t"]},
        {"keys": "public.t"},
        {"ssl": "require"},
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        WalFeed(user="u", database="d", **wrong)


def test_the_refusal_is_a_value_error_too():
    with pytest.raises(ValueError, match="debounce"):
        WalFeed(user="u", database="d", debounce=-1)


async def test_a_server_that_does_not_ask_for_the_method_required_is_not_followed(database):
    """The test's servers let everybody in."""
    feed = WalFeed(
        **database.feed_options(), require_auth="scram-sha-256", give_up=lambda error: True
    )
    async with feed:
        with pytest.raises(AuthenticationError, match="did not complete authentication"):
            await anext(aiter(feed))
