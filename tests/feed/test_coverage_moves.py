"""feed/coverage.py: what is covered while tables and publications change under a feed."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.decoding import TableFilter
from django_pgnudge.feed.coverage import Carried, covered
from django_pgnudge.feed.queries import Visibility
from django_pgnudge.feed.visibility import Snapshot

from .covering import make, publish, silent
from .following import Follower, feed_of, following, run

if TYPE_CHECKING:
    from servers.base import DatabaseServer

    from tests.fix_servers import Database, FeedServer


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
