"""What is covered, and that every change of it comes: tables of every kind, on real servers."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from django_pgnudge.decoding import TableFilter
from django_pgnudge.feed.coverage import Carried, covered
from django_pgnudge.feed.queries import Visibility
from django_pgnudge.feed.visibility import Snapshot

from .following import Follower, feed_of, following, run

if TYPE_CHECKING:
    from servers.base import DatabaseServer

    from tests.fix_servers import Database, FeedServer

# Each is a table with the columns id and v, made by these statements, and what a query of it reads.
KINDS: dict[str, tuple[str, ...]] = {
    "keyed": ("CREATE TABLE keyed (id int PRIMARY KEY, v int)",),
    "nokey": ("CREATE TABLE nokey (id int, v int)",),
    "deferred": ("CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, v int)",),
    "deferred_full": (
        "CREATE TABLE deferred_full (id int PRIMARY KEY DEFERRABLE, v int)",
        "ALTER TABLE deferred_full REPLICA IDENTITY FULL",
    ),
    "by_index": (
        "CREATE TABLE by_index (id int NOT NULL, v int)",
        "CREATE UNIQUE INDEX by_index_id ON by_index (id)",
        "ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id",
    ),
    "index_gone": (
        "CREATE TABLE index_gone (id int PRIMARY KEY, u int NOT NULL DEFAULT 0, v int)",
        "CREATE UNIQUE INDEX index_gone_u ON index_gone (id, u)",
        "ALTER TABLE index_gone REPLICA IDENTITY USING INDEX index_gone_u",
        "DROP INDEX index_gone_u",
    ),
    "nothing": (
        "CREATE TABLE nothing (id int PRIMARY KEY, v int)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
    ),
    "unlogged": ("CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, v int)",),
    "generated": (
        ("CREATE TABLE generated (id int PRIMARY KEY, v int,"
         " g int GENERATED ALWAYS AS (v * 2) STORED)"),
    ),
    "stored_outside": (
        ("CREATE TABLE stored_outside (id int PRIMARY KEY, v int,"
         " t text DEFAULT repeat('x', 9000))"),
        "ALTER TABLE stored_outside ALTER t SET STORAGE EXTERNAL",
    ),
    "parent": (
        "CREATE TABLE parent (id int PRIMARY KEY, v int)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "CREATE TABLE grandchild (PRIMARY KEY (id)) INHERITS (child)",
    ),
    "parent_of_nokey": (
        "CREATE TABLE parent_of_nokey (id int PRIMARY KEY, v int)",
        "CREATE TABLE child_nokey () INHERITS (parent_of_nokey)",
    ),
    "parent_of_unlogged": (
        "CREATE TABLE parent_of_unlogged (id int PRIMARY KEY, v int)",
        "CREATE UNLOGGED TABLE child_unlogged (PRIMARY KEY (id)) INHERITS (parent_of_unlogged)",
    ),
    "root": (
        "CREATE TABLE root (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (100)",
        ("CREATE TABLE branch PARTITION OF root FOR VALUES FROM (100) TO (200)"
         " PARTITION BY RANGE (id)"),
        "CREATE TABLE twig PARTITION OF branch FOR VALUES FROM (100) TO (200)",
    ),
    "root_of_attached": (
        "CREATE TABLE root_of_attached (id int, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE attached (v int, id int NOT NULL PRIMARY KEY)",
        "ALTER TABLE root_of_attached ATTACH PARTITION attached FOR VALUES FROM (0) TO (100)",
    ),
    "root_of_nokey": (
        "CREATE TABLE root_of_nokey (id int, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf_nokey PARTITION OF root_of_nokey FOR VALUES FROM (0) TO (100)",
    ),
    "root_of_unlogged": (
        "CREATE TABLE root_of_unlogged (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
        ("CREATE UNLOGGED TABLE leaf_unlogged PARTITION OF root_of_unlogged"
         " FOR VALUES FROM (0) TO (100)"),
    ),
    "root_of_foreign": (
        "CREATE EXTENSION IF NOT EXISTS postgres_fdw",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE TABLE root_of_foreign (id int, v int) PARTITION BY RANGE (id)",
        ("CREATE FOREIGN TABLE leaf_foreign PARTITION OF root_of_foreign"
         " FOR VALUES FROM (0) TO (100) SERVER elsewhere"),
    ),
}  # fmt: skip
STATEMENTS = (
    "INSERT INTO {} (id) VALUES ({id})",
    "UPDATE {} SET v = 1",
    "UPDATE {} SET id = id + 1",
    "DELETE FROM {}",
    "INSERT INTO {} (id) VALUES ({id})",
    "TRUNCATE ONLY {}",
    "INSERT INTO {} (id) VALUES ({id})",
    "TRUNCATE {top}",
)
PARTS = {
    "parent": ("parent", "child", "grandchild"),
    "parent_of_nokey": ("parent_of_nokey", "child_nokey"),
    "parent_of_unlogged": ("parent_of_unlogged", "child_unlogged"),
    "root": ("leaf", "twig"),
    "root_of_attached": ("attached",),
    "root_of_nokey": ("leaf_nokey",),
    "root_of_unlogged": ("leaf_unlogged",),
    "root_of_foreign": ("leaf_foreign",),
}
"""Of those that have several, the tables with rows."""

NEVER = {"unlogged", "parent_of_unlogged", "root_of_unlogged", "root_of_foreign"}
UNIDENTIFIED = {
    "nokey", "deferred", "index_gone", "nothing", "parent_of_nokey", "root_of_nokey"
}  # fmt: skip


def make(database: Database, *, kinds: set[str] | None = None) -> set[str]:
    """Make tables of these kinds (all); what this server can have."""
    made = set()
    for kind, statements in KINDS.items():
        if kinds is not None and kind not in kinds:
            continue
        try:
            database.execute(*statements)
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
            continue
        made.add(kind)
    return made


def names(payloads: frozenset[str], among: set[str]) -> set[str]:
    return {kind for kind in among if f"public.{kind}" in payloads}


async def silent(seen: Follower, database: Database, kind: str) -> list[str]:
    """The statements that change what a query of this table reads and of which nothing comes.

    What the server refuses changes nothing.
    """
    parts = PARTS.get(kind, (kind,))
    lineage = {f"public.{name}" for name in (kind, "branch", *parts)}
    missing = []
    with closing(database.postgres.connect(database.name)) as writer:
        for part in parts:
            first = 110 if part == "twig" else 10
            for place, template in enumerate(STATEMENTS):
                sql = template.format(part, id=first + 3 * place, top=kind)
                before = sum(seen.counts[name] for name in lineage)
                try:
                    await run(writer.execute, sql)
                except psycopg.errors.ObjectNotInPrerequisiteState:
                    continue  # It has no replica identity.
                await seen.feed.catch_up()
                if sum(seen.counts[name] for name in lineage) == before:
                    missing.append(sql)
    return missing


async def test_every_change_of_what_is_covered_comes(feed_server: FeedServer, database: Database):
    made = make(database)
    async with following(feed_of(database)) as seen:
        found = names(await seen.feed.covered(), made)
        assert [sql for kind in found for sql in await silent(seen, database, kind)] == []
    left_out = NEVER | (UNIDENTIFIED if feed_server.plugin == "wal2json" else set())
    assert found == made - left_out


PUBLICATIONS = {
    "of all, as roots": "FOR ALL TABLES WITH (publish_via_partition_root)",
    "of a root": "FOR TABLE root, keyed",
    "of a root, as root": "FOR TABLE root, keyed WITH (publish_via_partition_root)",
    "of a leaf": "FOR TABLE leaf, keyed",
    "of a leaf, as root": "FOR TABLE leaf, twig, keyed WITH (publish_via_partition_root)",
    "of a branch and a leaf": "FOR TABLE branch, leaf, parent, keyed",
    "without TRUNCATE": "FOR ALL TABLES WITH (publish = 'insert, update, delete')",
    "without UPDATE": "FOR ALL TABLES WITH (publish = 'insert, delete, truncate')",
    "of a parent alone": "FOR TABLE ONLY parent, keyed",
    "of a column": "FOR TABLE keyed (id), generated (id)",
    "of rows": "FOR TABLE keyed WHERE (id < 0), root",
    "of rows of a leaf": "FOR TABLE root, leaf WHERE (id < 0), keyed",
    "of a schema": "FOR TABLES IN SCHEMA public",
    "of a schema and rows": "FOR TABLES IN SCHEMA public, TABLE keyed WHERE (id < 0)",
}
EXPECTED = {
    "of all, as roots": {"keyed", "generated", "parent"},
    "of a root": {"keyed", "root"},
    "of a root, as root": {"keyed"},
    "of a leaf": {"keyed"},
    "of a leaf, as root": {"keyed", "root"},
    "of a branch and a leaf": {"keyed", "root", "parent"},
    "without TRUNCATE": set(),
    "without UPDATE": set(),
    "of a parent alone": {"keyed"},
    "of a column": {"keyed", "generated"},
    "of rows": {"root"},
    "of rows of a leaf": {"keyed"},
    "of a schema": {"keyed", "generated", "parent", "root"},
    # The schema has all rows sent; not to rely on that costs little.
    "of a schema and rows": {"generated", "parent", "root"},
}
PUBLISHED = {"keyed", "generated", "parent", "root"}


def publish(database: Database, options: str) -> None:
    try:
        database.execute(f"CREATE PUBLICATION nudge {options}")
    except psycopg.errors.SyntaxError:
        pytest.skip("this server has no such publication")


@pytest.mark.parametrize("publication", PUBLICATIONS)
async def test_every_change_of_what_a_publication_covers_comes(
    postgres: DatabaseServer, database: Database, publication: str
):
    make(database, kinds=PUBLISHED)
    publish(database, PUBLICATIONS[publication])
    async with following(feed_of(database, publication="nudge")) as seen:
        found = names(await seen.feed.covered(), PUBLISHED)
        assert [sql for kind in found for sql in await silent(seen, database, kind)] == []
    assert found == EXPECTED[publication]


@pytest.mark.parametrize(
    ("publication", "kind"),
    [
        ("of all, as roots", "root"),
        ("of a leaf", "root"),
        ("without TRUNCATE", "keyed"),
        ("without UPDATE", "keyed"),
        ("of a parent alone", "parent"),
        ("of rows", "keyed"),
        ("of rows of a leaf", "root"),
    ],
)
async def test_what_a_publication_does_not_cover_is_changed_in_silence(
    postgres: DatabaseServer, database: Database, publication: str, kind: str
):
    make(database, kinds=PUBLISHED)
    publish(database, PUBLICATIONS[publication])
    async with following(feed_of(database, publication="nudge")) as seen:
        assert await silent(seen, database, kind)


async def test_a_root_has_no_keys_where_a_partition_is_known_by_others(
    postgres: DatabaseServer, database: Database
):
    """The row's old id is not in the log, and so neither in the stream."""
    make(database, kinds={"root"})
    database.execute(
        "ALTER TABLE root ADD u int NOT NULL DEFAULT 0",
        "CREATE UNIQUE INDEX leaf_u ON leaf (u)",
        "ALTER TABLE leaf REPLICA IDENTITY USING INDEX leaf_u",
        "INSERT INTO root (id) VALUES (1)",
    )
    publish(database, "FOR TABLE root WITH (publish_via_partition_root)")
    async with following(feed_of(database, publication="nudge")) as seen:
        await run(database.execute, "UPDATE root SET id = 2 WHERE id = 1")
        await seen.feed.catch_up()
    assert seen.counts == {"public.root": 1}
    assert seen.keys("public.root") is None


async def test_a_root_is_covered_only_if_its_partitions_are_followed_too(
    feed_server: FeedServer, database: Database
):
    make(database, kinds={"root", "parent"})
    tables = ["public.root", "public.leaf", "public.parent"]
    async with following(feed_of(database, tables=tables)) as seen:
        found = await seen.feed.covered()
        assert "public.leaf" in found
        assert not found & {"public.root", "public.parent"}
        assert await silent(seen, database, "root")


async def test_two_tables_of_one_payload_are_covered_only_if_both_are(
    feed_server: FeedServer, database: Database
):
    database.execute(
        'CREATE SCHEMA a; CREATE SCHEMA "a.b"',
        'CREATE TABLE "a.b".c (id int PRIMARY KEY); CREATE UNLOGGED TABLE a."b.c" (id int)',
        'CREATE TABLE "a.b".d (id int PRIMARY KEY); CREATE TABLE a."b.d" (id int PRIMARY KEY)',
        'CREATE TABLE "a.b".e (id int PRIMARY KEY); CREATE VIEW a."b.e" AS SELECT 1',
    )
    async with following(feed_of(database)) as seen:
        found = await seen.feed.covered()
    assert {name for name in found if name.startswith("a.b")} == {"a.b.d"}


async def test_what_is_asked_for_coverage_waits_for_nobodys_lock(
    feed_server: FeedServer, database: Database
):
    make(database)
    async with following(feed_of(database)) as seen:
        with closing(database.postgres.connect(database.name)) as other:
            other.execute("BEGIN")
            other.execute("LOCK TABLE root, parent, keyed IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(10):
                assert "public.root" in await seen.feed.covered()
            held = await run(
                database.execute,
                "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                " WHERE c.relname IN ('root', 'leaf', 'keyed') AND NOT l.granted",
            )
            assert held == [(0,)]


# While the map moves.


async def counts(seen: Follower, payload: str) -> None:
    """Wait until the table is covered."""
    async with asyncio.timeout(20):
        while payload not in await seen.feed.covered():
            pass


async def test_a_table_made_later_is_covered_too(feed_server: FeedServer, database: Database):
    async with following(feed_of(database)) as seen:
        await run(database.execute, "CREATE TABLE later (id int PRIMARY KEY)")
        await counts(seen, "public.later")


async def test_a_table_taken_out_of_the_publication_in_mid_stream_is_covered_no_longer(
    postgres: DatabaseServer, database: Database
):
    make(database, kinds={"keyed", "root"})
    publish(database, "FOR TABLE keyed, root")
    async with following(feed_of(database, publication="nudge")) as seen:
        assert {"public.keyed", "public.root"} <= await seen.feed.covered()
        await run(database.execute, "ALTER PUBLICATION nudge DROP TABLE keyed")
        assert "public.keyed" not in await seen.feed.covered()
        assert await silent(seen, database, "keyed")


async def test_a_partition_that_is_not_carried_takes_its_root_along(
    feed_server: FeedServer, database: Database
):
    make(database, kinds={"root"})
    async with following(feed_of(database)) as seen:
        assert "public.root" in await seen.feed.covered()
        try:
            await run(
                database.execute,
                "CREATE UNLOGGED TABLE late PARTITION OF root FOR VALUES FROM (500) TO (600)",
            )
        finally:
            assert "public.root" not in await seen.feed.covered()


@pytest.mark.parametrize(
    "around",
    [
        ("DROP TABLE keyed", "ADD TABLE keyed"),
        ("SET (publish = 'insert')", "SET (publish = 'insert, update, delete, truncate')"),
    ],
)
async def test_a_publication_changed_and_changed_back_is_noticed(
    postgres: DatabaseServer, database: Database, around: tuple[str, str]
):
    make(database, kinds={"keyed"})
    publish(database, "FOR TABLE keyed")
    async with following(feed_of(database, publication="nudge")) as seen:
        assert "public.keyed" in await seen.feed.covered()
        for change in around:
            await run(database.execute, f"ALTER PUBLICATION nudge {change}")
        assert "public.keyed" not in await seen.feed.covered()
        await counts(seen, "public.keyed")


@pytest.mark.parametrize("held", ["FOR TABLE other", "FOR TABLE keyed WITH (publish = 'insert')"])
async def test_a_table_counts_once_everything_has_ended_that_changed_it_unpublished(
    postgres: DatabaseServer, database: Database, held: str
):
    """What a transaction changed before the table was published never comes, though it commits
    later."""
    make(database, kinds={"keyed"})
    database.execute("CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO keyed VALUES (1, 1)")
    publish(database, held)
    async with following(feed_of(database, publication="nudge")) as seen:
        with closing(database.postgres.connect(database.name)) as writer:
            writer.execute("BEGIN")
            writer.execute("UPDATE keyed SET v = 2")
            await run(
                database.execute,
                "ALTER PUBLICATION nudge SET TABLE keyed",
                "ALTER PUBLICATION nudge SET (publish = 'insert, update, delete, truncate')",
            )
            for _ in range(3):
                assert "public.keyed" not in await seen.feed.covered()
            writer.execute("COMMIT")
        await counts(seen, "public.keyed")
        await seen.feed.catch_up()
        assert not seen.counts["public.keyed"], "or there is nothing to wait for"


async def test_a_schema_renamed_counts_once_what_names_it_as_before_has_ended(
    feed_server: FeedServer, database: Database
):
    database.execute("CREATE SCHEMA a", "CREATE TABLE a.t (id int PRIMARY KEY)")
    async with following(feed_of(database)) as seen:
        with closing(database.postgres.connect(database.name)) as writer:
            writer.execute("BEGIN")
            writer.execute("INSERT INTO a.t VALUES (1)")
            await run(database.execute, "ALTER SCHEMA a RENAME TO b")
            for _ in range(3):
                assert "b.t" not in await seen.feed.covered()
            writer.execute("COMMIT")
        await counts(seen, "b.t")


# The same, without a server.


def found(*rows: tuple[str, str, str, str, str | None], tables: list[str] | None = None) -> Any:
    return covered(rows, TableFilter(tables))


def view(snapshot: str, *, standby: bool = False) -> Visibility:
    return Visibility(Snapshot.parse(snapshot), 1 if standby else None)  # type: ignore[arg-type]


T = ("s", "t", "s", "t")


def test_a_table_is_covered_if_all_its_parts_are() -> None:
    root, leaf = ("s", "r", "s", "r", ""), ("s", "r", "s", "l")
    assert found(root, (*leaf, "1")) == {"s.r": {("s.r", ""), ("s.l", "1")}}
    assert found(root, (*leaf, None)) == {}
    assert found(root, (*leaf, "1"), tables=["s.r"]) == {}


def test_what_was_known_before_the_stream_began_counts_at_once() -> None:
    known = found((*T, "1"))
    assert Carried(known).take(known, frozenset(), None) == {"s.t"}


def test_what_is_new_counts_at_once_where_nothing_runs() -> None:
    assert Carried({}).take(found((*T, "1")), frozenset({7}), view("8:9:")) == {"s.t"}


def test_what_moved_is_missing_once() -> None:
    carried = Carried(found((*T, "1")))
    after = found((*T, "2"))
    assert carried.moved(after)
    assert carried.take(after, frozenset(), view("9:9:")) == frozenset()
    assert not carried.moved(after)
    assert carried.take(after, frozenset(), view("9:9:")) == {"s.t"}


def test_what_moved_waits_for_what_ran_then_and_for_nothing_else() -> None:
    carried = Carried({})
    after = found((*T, "1"))
    assert not carried.take(after, frozenset({7}), view("7:9:7"))
    assert not carried.take(after, frozenset(), view("7:9:7,8"))
    assert carried.take(after, frozenset(), view("8:9:8")) == {"s.t"}


def test_what_moves_again_waits_again() -> None:
    carried = Carried({})
    carried.take(found((*T, "1")), frozenset({7}), view("7:9:7"))
    carried.take(found((*T, "2")), frozenset({8}), view("8:9:8"))
    assert not carried.take(found((*T, "2")), frozenset(), view("8:9:8"))
    assert not carried.take(found(), frozenset(), view("9:9:"))
    assert not carried.take(found((*T, "2")), frozenset({8}), view("8:9:8"))
    assert carried.take(found((*T, "2")), frozenset(), view("9:9:"))


def test_on_a_standby_what_moved_counts_with_the_next_stream() -> None:
    carried = Carried({})
    after = found((*T, "1"))
    for _ in range(3):
        assert not carried.take(after, frozenset(), view("9:9:", standby=True))
    assert Carried(after).take(after, frozenset(), None) == {"s.t"}
