"""A feed from a standby, which PostgreSQL 16 and later can decode on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import psycopg
import pytest

from django_pgnudge import WalFeed
from django_pgnudge.daemon.connect_hints import explain
from django_pgnudge.errors import ServerError
from django_pgnudge.registry.catalog import read_identity
from tests.waiting import until

from ..fix_servers import installations
from .following import following, run
from .standby import Standby


@pytest.fixture
def standby(postgres_factory: Any) -> Iterator[Standby]:
    able = [each for each in installations() if each.version[0] >= 16 and each.bindir is not None]
    if not able:
        pytest.skip("no PostgreSQL 16 or later here: a standby cannot be decoded on before")
    primary = postgres_factory(able[0])
    primary.create_database("app")
    primary.execute("CREATE TABLE t (id int PRIMARY KEY)", "app")
    primary.execute("CREATE PUBLICATION every FOR ALL TABLES", "app")
    made = Standby(primary)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def feed_of(standby: Standby, **options: Any) -> WalFeed:
    return WalFeed(
        host=standby.primary.host,
        port=standby.port,
        user=standby.primary.user,
        database="app",
        publication="every",
        **options,
    )


async def test_a_standby_that_cannot_decode_is_said_to_be_one(postgres_factory: Any) -> None:
    before = [each for each in installations() if each.version[0] < 16 and each.bindir is not None]
    if not before:
        pytest.skip("no PostgreSQL before 16 here: later ones decode on a standby")
    standby = Standby(postgres_factory(before[0]))
    standby.start()
    try:
        feed = WalFeed(
            host=standby.primary.host,
            port=standby.port,
            user=standby.primary.user,
            database="postgres",
            plugin="test_decoding",
            give_up=lambda error: explain(error) is not None,
        )
        async with feed:
            with pytest.raises(ServerError, match="recovery") as refused:
                await anext(aiter(feed))
    finally:
        standby.stop()
    assert "is a standby" in (explain(refused.value) or "")


def test_a_standby_is_the_same_database_as_its_primary_before_and_after_its_promotion(standby):
    def identity(port: int) -> str | None:
        where = {"host": standby.primary.host, "port": port, "user": standby.primary.user}
        with psycopg.connect(dbname="app", **where) as connection:
            return read_identity(cast("Any", connection.cursor()))

    expected = identity(standby.primary.port)
    assert expected
    assert identity(standby.port) == expected
    standby.promote()
    assert standby.rows("SELECT pg_is_in_recovery()") == [(False,)]
    assert identity(standby.port) == expected


async def test_an_idle_primary_that_holds_up_the_start_is_told_with_what_to_do(standby, caplog):
    primary = standby.primary
    await run(primary.execute, "CHECKPOINT", "app")  # and nothing is logged after that
    feed = feed_of(standby, connect_timeout=0.5)
    async with following(feed, live=False) as seen:
        await until(lambda: "call pg_log_standby_snapshot() there" in caplog.text, blocks=True)
        assert not seen.resyncs
        await run(primary.execute, "SELECT pg_log_standby_snapshot()", "app")
        await seen.resync("connected")


async def test_a_standby_s_feed_nudges_what_its_own_snapshots_see(standby):
    primary = standby.primary
    feed = feed_of(standby)
    async with following(feed, live=False) as seen:

        def is_live() -> bool:
            # A slot on a standby waits for the primary to log what is running.
            primary.execute("SELECT pg_log_standby_snapshot()", "app")
            return bool(seen.resyncs)

        await until(is_live, blocks=True)
        assert await run(standby.rows, "SELECT pg_is_in_recovery()") == [(True,)]
        for number in range(20):
            await run(primary.execute, f"INSERT INTO t VALUES ({number})", "app")
            await seen.until(lambda: (number,) in (seen.keys("public.t") or ()))
            assert (number,) in await run(standby.rows, "SELECT id FROM t")
        await feed.catch_up()
    assert seen.resyncs == ["connected"]
