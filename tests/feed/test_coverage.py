"""What is covered, and that every change of it comes: tables of every kind, on real servers."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from .covering import NEVER, PUBLISHED, UNIDENTIFIED, make, names, publish, silent
from .following import feed_of, following, run

if TYPE_CHECKING:
    from servers.base import DatabaseServer

    from tests.fix_servers import Database, FeedServer


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
