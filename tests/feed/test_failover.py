"""A name that leads to another server from some moment on, while connections to the old stay open.

Two real servers, a primary and its standby, and a proxy in front that is the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from django_pgnudge import WalFeed
from django_pgnudge.errors import ConnectionLostError, OtherServerError
from tests.waiting import until

from ..fix_servers import installations
from .following import following, run
from .standby import Standby

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.proxy import Proxy


@pytest.fixture
def make_pair(postgres_factory: Any) -> Iterator[Callable[..., Standby]]:
    made: list[Standby] = []

    def make(installation: Any = None) -> Standby:
        primary = postgres_factory(installation)
        primary.create_database("app")
        primary.execute("CREATE TABLE t (id int PRIMARY KEY)", "app")
        primary.execute("CREATE PUBLICATION every FOR ALL TABLES", "app")
        made.append(Standby(primary))
        made[-1].start()
        return made[-1]

    try:
        yield make
    finally:
        for standby in made:
            standby.stop()


def feed_through(proxy: Proxy, standby: Standby, **options: Any) -> WalFeed:
    return WalFeed(
        host=proxy.host,
        port=proxy.port,
        user=standby.primary.user,
        database="app",
        publication="every",
        **options,
    )


async def test_a_survey_meets_a_promoted_standby_and_the_feed_follows_it(
    make_pair, proxy_to, caplog
):
    standby = await run(make_pair)
    proxy = proxy_to(standby.primary.port)
    async with following(feed_through(proxy, standby)) as seen:
        assert "public.t" in (await seen.feed.survey()).covered
        await run(standby.promote)
        # The old primary lives on, and so do the connections to it.
        proxy.target = (proxy.host, standby.port)
        await seen.feed.catch_up()
        with pytest.raises(OtherServerError, match=r"timeline 2.*; the stream .* timeline 1"):
            await seen.feed.survey()
        await seen.resync("reconnected")
        await run(standby.rows, "INSERT INTO t VALUES (1)")
        await seen.payload("public.t")
        assert "public.t" in (await seen.feed.survey()).covered
    assert "the stream ended, reconnecting: a new connection to" in caplog.text


async def test_a_second_connection_made_again_meets_the_same_server_or_ends_the_stream(
    make_pair, proxy_to
):
    standby = await run(make_pair)
    primary = standby.primary
    proxy = proxy_to(primary.port)
    async with following(feed_through(proxy, standby)) as seen:
        await run(primary.execute, "INSERT INTO t VALUES (1)", "app")
        await seen.payload("public.t")
        await run(standby.promote)
        proxy.target = (proxy.host, standby.port)
        find = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'django_pgnudge' AND backend_type = 'client backend'"
        )
        assert await run(primary.execute, find, "app") == [(True,)]
        # To see whether this is visible a connection is needed.
        await run(primary.execute, "INSERT INTO t VALUES (2)", "app")
        await seen.resync("reconnected")
        await run(standby.rows, "INSERT INTO t VALUES (3)")
        await seen.until(lambda: (3,) in (seen.keys("public.t") or ()))
    assert (2,) not in (seen.keys("public.t") or ()), "the new primary does not have it"


async def test_a_standby_that_is_promoted_in_place_is_another_server(make_pair, proxy_to):
    able = [each for each in installations() if each.version[0] >= 16 and each.bindir is not None]
    if not able:
        pytest.skip("no PostgreSQL 16 or later here: a standby cannot be decoded on before")
    standby = await run(make_pair, able[0])
    proxy = proxy_to(standby.port)
    async with following(feed_through(proxy, standby), live=False) as seen:

        def is_live() -> bool:
            # A slot on a standby waits for the primary to log what is running.
            standby.primary.execute("SELECT pg_log_standby_snapshot()", "app")
            return bool(seen.resyncs)

        await until(is_live, blocks=True)
        assert not (await seen.feed.survey()).moved
        await run(standby.promote)
        with pytest.raises(OtherServerError, match=r"meets a primary.*stream comes from a standby"):
            await seen.feed.survey()
        await seen.resync("reconnected")
        assert not (await seen.feed.survey()).moved


async def test_without_a_new_connection_there_is_no_survey_and_the_stream_goes_on(
    database, proxy_to
):
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    proxy = proxy_to(database.postgres.port)
    options = database.feed_options(host=proxy.host, port=proxy.port)
    async with following(WalFeed(**options)) as seen:
        await seen.feed.survey()
        proxy.refuse()
        with pytest.raises(ConnectionLostError, match="cannot connect"):
            await seen.feed.survey()
        await run(database.execute, "INSERT INTO t VALUES (1)")
        await seen.payload("public.t")
        proxy.listen()
        await seen.feed.survey()
    assert seen.resyncs == ["connected"]


async def test_a_survey_asks_where_the_server_is(make_pair):
    standby = await run(make_pair)
    primary = standby.primary
    where = {"port": primary.port}

    async def locate() -> dict[str, Any]:
        return where

    feed = WalFeed(
        host=primary.host,
        port=primary.port,
        user=primary.user,
        database="app",
        publication="every",
        locate=locate,
    )
    async with following(feed) as seen:
        await feed.survey()
        where["port"] = standby.port
        with pytest.raises(OtherServerError, match="meets a standby"):
            await feed.survey()
        where["port"] = primary.port
        await seen.resync("reconnected")
        await feed.survey()
