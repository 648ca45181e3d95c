"""The two races between a commit in the log and its becoming visible, on real servers.

A synchronous standby that does not exist keeps a COMMIT waiting, its record written and sent,
for as long as a test likes; cancelling the wait ends it, and the transaction is visible.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import psycopg
import pytest
from servers.postgres import open_server

from django_pgnudge.errors import ConnectionLostError
from django_pgnudge.feed.side_connection import SideConnection
from tests import fix_servers
from tests.fix_servers import own_database
from tests.waiting import until

from .following import feed_of, following, run
from .inside import coalescer_of, running_at_handshake, stream_of
from .test_faults import moves

if TYPE_CHECKING:
    from servers.base import DatabaseServer

    from tests.fix_servers import Database, FeedServer

SETTINGS = fix_servers.SETTINGS | {
    "synchronous_standby_names": "nobody",
    "synchronous_commit": "local",
}
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class SlowCommit:
    """A transaction whose COMMIT waits for the standby until it is let go."""

    def __init__(self, database: Database, sql: str, *, prepare: str = "") -> None:
        self._database = database
        self.connection = database.connect()
        self.connection.execute("SET synchronous_commit = on")
        self.connection.execute("BEGIN")
        if prepare:
            self.connection.execute(prepare)
        self.connection.execute(sql)
        self._thread = threading.Thread(target=self._commit)

    def _commit(self) -> None:
        self.connection.execute("COMMIT")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def waits(self) -> bool:
        return bool(self._database.execute(BLOCKED)[0][0])

    def let_go(self) -> None:
        self._database.execute(f"SELECT pg_cancel_backend({self.connection.info.backend_pid})")
        self._thread.join(20)
        assert not self._thread.is_alive()

    def __exit__(self, *exc_info: object) -> None:
        if self._thread.is_alive():
            self.let_go()
        self.connection.close()


@pytest.fixture(scope="module")
def slow_server(feed_server: FeedServer) -> Iterator[DatabaseServer]:
    """A server whose transactions may wait for a standby."""
    installation = feed_server.postgres.installation
    with open_server(installation, settings=SETTINGS, in_memory=True) as server:
        yield server


@pytest.fixture
def slow(slow_server: DatabaseServer, feed_server: FeedServer) -> Database:
    database = own_database(slow_server, feed_server.plugin)
    database.execute(
        "CREATE TABLE price (id int PRIMARY KEY, v int)",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "INSERT INTO price VALUES (1, 1)",
    )
    return database


def price(database: Database) -> int:
    return int(database.execute("SELECT v FROM price WHERE id = 1")[0][0])


UPDATE = "UPDATE price SET v = 2 WHERE id = 1"


async def test_without_visibility_a_nudge_comes_while_the_old_row_is_still_read(slow):
    async with following(feed_of(slow, visibility=False)) as seen:
        with SlowCommit(slow, UPDATE) as commit:
            await until(commit.waits, blocks=True)
            await seen.payload("public.price")
            assert await run(price, slow) == 1, "whoever refetches keeps the old value for good"
            await run(commit.let_go)
            assert await run(price, slow) == 2


async def test_with_visibility_a_nudge_comes_when_the_new_row_is_read(slow):
    async with following(feed_of(slow)) as seen:
        with SlowCommit(slow, UPDATE) as commit:
            await until(commit.waits, blocks=True)
            await until(lambda: coalescer_of(seen.feed).held, blocks=True)
            await run(slow.execute, "INSERT INTO other VALUES (1)")
            await seen.payload("public.other")
            assert seen.counts == {"public.other": 1}, "the held one delays no other"
            await run(commit.let_go)
            await seen.payload("public.price")
            assert await run(price, slow) == 2
    assert seen.resyncs == ["connected"]


async def test_a_held_transaction_does_not_stop_status_and_keepalives(slow):
    feed = feed_of(slow, status_interval=0.02, liveness_timeout=1.0)
    async with following(feed) as seen:
        with SlowCommit(slow, UPDATE) as commit:
            await until(lambda: coalescer_of(feed).held, blocks=True)
            connection = stream_of(feed).connection
            for _ in range(60):
                await moves(connection)
            assert not seen.counts
            await run(commit.let_go)
            await seen.payload("public.price")
    assert seen.resyncs == ["connected"]


async def test_subtransactions_become_visible_with_their_parent(slow):
    savepoints = "SAVEPOINT a; INSERT INTO price VALUES (7, 7); RELEASE a; SAVEPOINT b"
    async with following(feed_of(slow)) as seen:
        with SlowCommit(slow, UPDATE, prepare=savepoints) as commit:
            await until(lambda: coalescer_of(seen.feed).held, blocks=True)
            await run(slow.execute, "INSERT INTO other VALUES (1)")
            await seen.payload("public.other")
            assert seen.counts == {"public.other": 1}
            await run(commit.let_go)
            await seen.payload("public.price")
    assert seen.keys("public.price") == {(1,), (7,)}


async def test_what_is_held_stays_held_while_the_checking_connection_is_broken(slow, monkeypatch):
    broken = False
    ask = SideConnection.ask_visibility

    def refusing(self: SideConnection, answered: Callable[[Any], None]) -> None:
        if broken:
            answered(ConnectionLostError("no answer today"))
        else:
            ask(self, answered)

    monkeypatch.setattr(SideConnection, "ask_visibility", refusing)
    async with following(feed_of(slow)) as seen:
        broken = True
        await run(slow.execute, "INSERT INTO other VALUES (1)")
        await until(lambda: coalescer_of(seen.feed).held, blocks=True)
        assert not seen.counts, "never let through unchecked"
        broken = False
        await seen.payload("public.other")
    assert seen.resyncs == ["connected"]


async def test_a_stream_that_is_blind_for_too_long_ends_in_a_resync(slow):
    """Only the second connection is refused; what is held must not grow for ever."""
    feed = feed_of(slow, status_interval=0.05, liveness_timeout=0.3)
    async with following(feed) as seen:
        with pytest.MonkeyPatch.context() as patch:

            def refused(self: SideConnection, answered: Callable[[Any], None]) -> None:
                answered(ConnectionLostError("too many connections for database"))

            patch.setattr(SideConnection, "ask_visibility", refused)
            await run(slow.execute, "INSERT INTO other VALUES (1)")
            await until(lambda: "could not read a snapshot" in str(feed.last_error), blocks=True)
        await seen.resync("reconnected")
        assert not coalescer_of(feed).held


async def test_a_terminated_checking_connection_is_opened_again(slow):
    async with following(feed_of(slow)) as seen:
        await run(slow.execute, "INSERT INTO other VALUES (1)")
        await seen.payload("public.other")
        await run(
            slow.execute,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
            " current_database() AND backend_type = 'client backend' AND application_name ="
            " 'django_pgnudge'",
        )
        await run(slow.execute, "INSERT INTO other VALUES (2)")
        await seen.until(lambda: seen.counts["public.other"] == 2)
    assert seen.resyncs == ["connected"], "the stream itself was not harmed"


async def held_at_the_handshake(slow: Database, feed: Any, then: Callable[..., Any]) -> None:
    """Bring a transaction into the handshake's hole, and do something.

    The slot is consistent once every transaction older than its second look has ended. The one
    that begins after that look, writes its commit record before the third and waits for the
    standby meanwhile is in no stream.
    """
    first, second = slow.connect(), slow.connect()

    def walsender_waits_for(connection: psycopg.Connection[Any]) -> bool:
        # Both by the virtual transaction of whoever holds the xid waited for.
        return bool(
            slow.execute(
                "SELECT 1 FROM pg_locks w JOIN pg_locks h USING (transactionid)"
                f" WHERE NOT w.granted AND h.granted AND h.pid = {connection.info.backend_pid}"
                " AND w.pid IN (SELECT pid FROM pg_stat_activity"
                " WHERE backend_type = 'walsender')"
            )
        )

    try:
        first.execute("BEGIN; INSERT INTO other VALUES (100)")
        async with following(feed, live=False) as seen:
            await until(lambda: walsender_waits_for(first), blocks=True)
            second.execute("BEGIN; INSERT INTO other VALUES (101)")
            first.execute("COMMIT")
            await until(lambda: walsender_waits_for(second), blocks=True)
            with SlowCommit(slow, UPDATE) as commit:
                await until(commit.waits, blocks=True)
                second.execute("COMMIT")
                await seen.resync("connected")
                assert await run(price, slow) == 1, "what the refetch of the Resync reads"
                await run(commit.let_go)
                assert await run(price, slow) == 2
                await then(seen)
    finally:
        first.close()
        second.close()


async def test_without_visibility_a_commit_around_the_handshake_is_never_told(slow):
    async def then(seen: Any) -> None:
        await run(slow.execute, "INSERT INTO other VALUES (1)")
        await seen.until(lambda: (1,) in (seen.keys("public.other") or ()))
        assert "public.price" not in seen.counts
        assert seen.resyncs == ["connected"]

    await held_at_the_handshake(slow, feed_of(slow, visibility=False), then)


async def test_with_visibility_a_commit_around_the_handshake_is_a_resync(slow):
    async def then(seen: Any) -> None:
        await seen.resync("handshake")
        assert "public.price" not in seen.counts, "it is in no stream"

    await held_at_the_handshake(slow, feed_of(slow), then)


async def test_a_transaction_running_at_the_handshake_that_is_streamed_needs_no_resync(slow):
    """It began after the slot was made, so its rows come, and nothing more is needed."""
    feed = feed_of(slow)
    observed: list[bool] = []
    reached = asyncio.Event()
    ask = SideConnection.running_xids
    late = slow.connect()

    async def running(self: SideConnection) -> frozenset[int]:
        await run(late.execute, "BEGIN; UPDATE price SET v = 3")
        found = await ask(self)
        observed.append(bool(found))
        reached.set()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SideConnection, "running_xids", running)
        async with following(feed) as seen:
            await reached.wait()
            assert observed == [True]
            assert running_at_handshake(feed)
            await run(late.execute, "COMMIT")
            await seen.payload("public.price")
            await until(lambda: not coalescer_of(feed).is_watching_xids, blocks=True)
            assert seen.resyncs == ["connected"]
    late.close()


async def test_a_transaction_running_at_the_handshake_that_aborts_needs_no_resync(slow):
    feed = feed_of(slow)
    ask = SideConnection.running_xids
    late = slow.connect()

    async def running(self: SideConnection) -> frozenset[int]:
        await run(late.execute, "BEGIN; UPDATE price SET v = 3")
        return await ask(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SideConnection, "running_xids", running)
        async with following(feed) as seen:
            await run(late.execute, "ROLLBACK")
            await until(lambda: not coalescer_of(feed).is_watching_xids, blocks=True)
            assert seen.resyncs == ["connected"]
    late.close()
