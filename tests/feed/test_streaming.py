"""Transactions that the server streams while they run, on every server with pgoutput.

A small ``logical_decoding_work_mem`` makes the server stream what is larger than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge.feed.coalescer import Coalescer
from django_pgnudge.feed.side_connection import SideConnection
from django_pgnudge.wire import LSN
from tests.fix_servers import own_database
from tests.waiting import until

from .following import Follower, feed_of, following, run
from .inside import changed_by_open_streams, coalescer_of, running_at_handshake, side_of, stream_of
from .test_snapshots import SETTINGS, SlowCommit

if TYPE_CHECKING:
    from tests.fix_servers import Database

ROWS = 4000
TABLES = ("a", "b", "c", "last")


def big(table: str, start: int = 0) -> str:
    """A statement that changes more than the server keeps in memory."""
    numbers = f"generate_series({start + 1}, {start + ROWS})"
    return f"INSERT INTO {table} SELECT n, repeat('x', 100) FROM {numbers} n"


def prepare(database: Any) -> None:
    database.execute(
        f"ALTER DATABASE {database.name} SET logical_decoding_work_mem = '64kB'",
        *(f"CREATE TABLE {table} (id int PRIMARY KEY, body text)" for table in TABLES),
        "CREATE PUBLICATION every FOR ALL TABLES",
    )


@pytest.fixture
def streaming(postgres: Any, database: Database) -> Database:
    prepare(database)
    return database


def streaming_feed(database: Any, **options: Any) -> Any:
    return feed_of(database, **({"plugin": "pgoutput", "publication": "every"} | options))


@contextmanager
def transaction(database: Any) -> Iterator[Callable[..., Any]]:
    """Run statements in one transaction that is ended by one of them; yields an async function."""
    with closing(database.postgres.connect(database.name)) as connection:
        connection.execute("BEGIN")

        async def execute(*statements: str) -> None:
            for statement in statements:
                await run(connection.execute, statement)

        yield execute


async def streamed(feed: Any, *tables: str) -> None:
    """Wait until these tables' changes have come in blocks."""
    wanted = {f"public.{table}" for table in tables}
    await until(lambda: wanted <= changed_by_open_streams(feed), blocks=True)


async def told_last(seen: Follower, database: Any) -> None:
    """Wait until everything that was committed before has come."""
    before = seen.counts["public.last"]
    await run(database.execute, "INSERT INTO last SELECT coalesce(max(id), 0) + 1 FROM last")
    await seen.until(lambda: seen.counts["public.last"] > before)


@asynccontextmanager
async def half_way(database: Any, **options: Any) -> AsyncIterator[tuple[Any, Follower, Any]]:
    """A followed feed that has had a part of a transaction, table ``a``; yields the feed, its
    follower, and an async function for the statements that go on with it."""
    feed = streaming_feed(database, **options)
    async with following(feed) as seen:
        with transaction(database) as execute:
            await execute(big("a"))
            await streamed(feed, "a")
            yield feed, seen, execute


@asynccontextmanager
async def held_back(feed: Any) -> AsyncIterator[None]:
    """Nothing of the stream is read meanwhile, so no COMMIT comes."""
    connection: Any = stream_of(feed).connection
    kept: list[bytes] = []
    connection.data_received = kept.append
    try:
        yield
    finally:
        del connection.data_received
        for data in kept:
            connection.data_received(data)


async def test_a_streamed_transaction_nudges_every_row(streaming, monkeypatch):
    commits = []
    commit = Coalescer.stream_commit

    def noted(self: Coalescer, *args: Any) -> None:
        commits.append(args)
        commit(self, *args)

    monkeypatch.setattr(Coalescer, "stream_commit", noted)
    async with following(streaming_feed(streaming)) as seen:
        with transaction(streaming) as execute:
            await execute(big("a"), "INSERT INTO b VALUES (7, 'x')", "COMMIT")
        await told_last(seen, streaming)
        await seen.until(lambda: seen.counts["public.a"] == ROWS)
    assert len(commits) == 1
    assert seen.counts == {"public.a": ROWS, "public.b": 1, "public.last": 1}
    assert seen.keys("public.a") is None
    assert seen.resyncs == ["connected"]


async def test_one_that_is_rolled_back_nudges_nothing(streaming):
    async with half_way(streaming) as (feed, seen, execute):
        await execute("ROLLBACK")
        await told_last(seen, streaming)
        assert seen.counts == {"public.last": 1}
        assert not coalescer_of(feed).streams


async def test_a_savepoint_rolled_back_nudges_nothing_of_it(streaming):
    async with half_way(streaming) as (feed, seen, execute):
        await execute("SAVEPOINT one", "SAVEPOINT two", big("b"), "RELEASE two")
        await streamed(feed, "b")
        await execute("ROLLBACK TO one", big("c"), "SAVEPOINT three", big("a", ROWS))
        await execute("COMMIT")
        await told_last(seen, streaming)
    assert seen.counts == {"public.a": 2 * ROWS, "public.c": ROWS, "public.last": 1}


async def test_two_streams_and_small_transactions_interleave(streaming):
    feed = streaming_feed(streaming)
    async with following(feed) as seen:
        with transaction(streaming) as one, transaction(streaming) as two:
            for step in range(3):
                await one(big("a", step * ROWS))
                await two(big("b", step * ROWS))
                await told_last(seen, streaming)
                await streamed(feed, "a", "b")
                assert seen.counts == {"public.last": step + 1}
            await two("ROLLBACK")
            await one("COMMIT")
        await told_last(seen, streaming)
    assert seen.counts == {"public.a": 3 * ROWS, "public.last": 4}


async def test_truncate_and_messages_come_in_blocks_too(streaming):
    await run(streaming.execute, big("b"))
    feed = streaming_feed(streaming)
    async with following(feed) as seen:
        with transaction(streaming) as execute:
            await execute(
                "SELECT pg_logical_emit_message(true, 'pgnudge', 'prices')",
                "TRUNCATE b, c",
                "SELECT pg_logical_emit_message(true, 'other', 'not ours')",
                big("a"),
            )
            wanted = {"prices", "public.b"}
            await until(lambda: wanted <= changed_by_open_streams(feed), blocks=True)
            await told_last(seen, streaming)
            assert seen.counts == {"public.last": 1}
            await execute("COMMIT")
        await told_last(seen, streaming)
    assert seen.counts == {
        "prices": 1, "public.a": ROWS, "public.b": 1, "public.c": 1, "public.last": 2
    }  # fmt: skip


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
async def test_a_prepared_transaction_nudges_at_commit_prepared(streaming, ending):
    name = f"two phases {streaming.name}"
    async with half_way(streaming) as (_, seen, execute):
        await execute(f"PREPARE TRANSACTION '{name}'")
        await told_last(seen, streaming)
        assert seen.counts == {"public.last": 1}
        await run(streaming.execute, f"{ending} PREPARED '{name}'")
        await told_last(seen, streaming)
    expected = {"public.last": 2} | ({"public.a": ROWS} if ending == "COMMIT" else {})
    assert seen.counts == expected


async def test_a_stream_that_breaks_in_the_middle_is_a_resync(streaming):
    async with half_way(streaming) as (feed, seen, execute):
        await run(streaming.execute, f"SELECT pg_terminate_backend({feed.connection_pid})")
        await until(lambda: not coalescer_of(feed).streams, blocks=True)
        await execute("COMMIT")
        await seen.resync("reconnected")
        await told_last(seen, streaming)
    assert seen.counts == {"public.last": 1}


async def test_a_row_of_megabytes_comes_in_a_block(streaming):
    await run(streaming.execute, "ALTER TABLE a ALTER body SET STORAGE EXTERNAL")
    feed = streaming_feed(streaming)
    async with following(feed) as seen:
        with transaction(streaming) as execute:
            await execute("INSERT INTO a SELECT 1, repeat('x', 20 * 1024 * 1024)", big("b"))
            await streamed(feed, "a", "b")
            await execute("COMMIT")
        await told_last(seen, streaming)
    assert seen.counts == {"public.a": 1, "public.b": ROWS, "public.last": 1}


# Early: what a snapshot shows visible is nudged, whatever of it has not been decoded.


async def test_what_is_visible_is_nudged_though_its_commit_has_not_come(streaming):
    async with half_way(streaming) as (feed, seen, execute):
        async with held_back(feed):
            await execute(big("b"), "COMMIT")
            await seen.payload("public.a")
            assert 0 < seen.counts["public.a"] <= ROWS
            assert "public.b" not in seen.counts, "the rest has not been read"
            assert seen.keys("public.a") is None
            assert coalescer_of(feed).streams, "its COMMIT has not come"
        await told_last(seen, streaming)
    assert seen.counts == {"public.a": ROWS, "public.b": ROWS, "public.last": 1}


async def test_what_is_rolled_back_is_not_nudged_early(streaming):
    async with half_way(streaming) as (feed, seen, execute):
        (half,) = coalescer_of(feed).streams.values()
        async with held_back(feed):
            await execute("ROLLBACK")
            await until(lambda: half.aborted, blocks=True)
            assert not seen.counts
        await told_last(seen, streaming)
    assert seen.counts == {"public.last": 1}


async def test_a_savepoint_rolled_back_is_not_nudged_early(streaming):
    async with half_way(streaming) as (feed, seen, execute):
        await execute("SAVEPOINT one", big("b"))
        await streamed(feed, "b")
        async with held_back(feed):
            await execute("ROLLBACK TO one", "COMMIT")
            await seen.payload("public.a")
        await told_last(seen, streaming)
    assert seen.counts == {"public.a": ROWS, "public.last": 1}


async def test_nothing_is_nudged_early_before_it_is_visible(postgres, postgres_factory):
    """COMMIT has written its record and waits for a standby that does not exist."""
    database = own_database(postgres_factory(settings=SETTINGS), "pgoutput")
    prepare(database)
    feed = streaming_feed(database)
    async with following(feed) as seen:
        with SlowCommit(database, big("b"), prepare=big("a")) as commit:
            await until(commit.waits, blocks=True)
            await until(lambda: coalescer_of(feed).held, blocks=True)
            await told_last(seen, database)
            assert seen.counts == {"public.last": 1}
            await run(commit.let_go)
            await seen.until(lambda: seen.counts["public.b"] == ROWS)
        later = SlowCommit(database, big("b", ROWS), prepare=big("a", ROWS))
        await streamed(feed, "a", "b")
        async with held_back(feed):
            with later:
                await until(later.waits, blocks=True)
                looks = await snapshots(3)
                assert looks
                assert seen.counts["public.a"] == ROWS, "no snapshot sees it"
                await run(later.let_go)
                await seen.until(lambda: seen.counts["public.a"] > ROWS)


async def snapshots(number: int) -> int:
    """Wait until a feed has had so many answers about what is visible."""
    answers = 0
    ask = SideConnection.ask_visibility

    def counting(self: SideConnection, answered: Callable[[Any], None]) -> None:
        def told(view: Any) -> None:
            nonlocal answers
            answered(view)
            answers += 1

        ask(self, told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SideConnection, "ask_visibility", counting)
        await until(lambda: answers >= number, blocks=True)
    return answers


async def test_without_visibility_a_streamed_transaction_waits_for_its_commit(streaming):
    async with half_way(streaming, visibility=False, max_batch_wait=0) as (_, seen, execute):
        await told_last(seen, streaming)
        assert seen.counts == {"public.last": 1}
        await execute("COMMIT")
        await told_last(seen, streaming)
    assert seen.counts == {"public.a": ROWS, "public.last": 2}


# The lease's proof, and the handshake.


async def test_catching_up_does_not_wait_for_a_transaction_that_runs(streaming):
    async with half_way(streaming) as (feed, seen, execute):
        await feed.catch_up()
        assert not seen.counts
        await execute("COMMIT")
        await feed.catch_up()
        assert seen.counts == {"public.a": ROWS}


async def test_what_a_transaction_has_written_so_far_is_flushed_for_whoever_catches_up(streaming):
    feed = streaming_feed(streaming)
    behind = "SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()"
    async with following(feed):
        side: Any = side_of(feed)
        with transaction(streaming) as execute:
            # Until the server has something in its buffers that nobody has flushed.
            while not int((await side.rows(behind, at_least=1))[0][0]):
                await execute("INSERT INTO a SELECT coalesce(max(id), 0) + 1 FROM a")
            end = await side.log_end()
            await side.flush()
            flushed = "SELECT pg_current_wal_flush_lsn()::text"
            assert LSN.parse((await side.rows(flushed, at_least=1))[0][0]) >= end


async def test_catching_up_waits_for_the_rest_of_what_is_visible(streaming):
    async with half_way(streaming) as (feed, seen, execute):
        async with held_back(feed):
            await execute(big("b"), "COMMIT")
            await seen.payload("public.a")
            proof = asyncio.ensure_future(feed.catch_up())
            await feed.covered()
            await feed.covered()
            assert not proof.done(), "the stream has not passed its COMMIT"
        await proof
        assert seen.counts == {"public.a": ROWS, "public.b": ROWS}


async def test_those_who_catch_up_at_once_each_prove_their_own_moment(streaming):
    feed = streaming_feed(streaming)
    async with following(feed) as seen:
        async with held_back(feed):
            proofs = []
            for number in range(3):
                await run(streaming.execute, f"INSERT INTO a VALUES ({number})")
                proofs.append(asyncio.ensure_future(feed.catch_up()))
                await feed.covered()
            assert not any(proof.done() for proof in proofs)
            # Whoever gives up takes nothing from the others.
            proofs.pop(1).cancel()
        await asyncio.gather(*proofs)
        assert seen.counts == {"public.a": 3}


async def test_one_running_at_the_handshake_counts_once_its_commit_has_come(streaming):
    feed = streaming_feed(streaming)
    ask = SideConnection.running_xids
    with transaction(streaming) as execute:

        async def running(self: SideConnection) -> frozenset[int]:
            await execute(big("a"))
            return await ask(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SideConnection, "running_xids", running)
            async with following(feed) as seen:
                await streamed(feed, "a")
                (xid,) = coalescer_of(feed).streams
                assert xid in running_at_handshake(feed)
                assert not coalescer_of(feed).has_streamed(xid)
                await execute("COMMIT")
                await told_last(seen, streaming)
                await until(lambda: not coalescer_of(feed).is_watching_xids, blocks=True)
    assert seen.resyncs == ["connected"]
    assert seen.counts == {"public.a": ROWS, "public.last": 1}
