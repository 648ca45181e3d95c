"""What stands between us and the server: a pooler, a proxy that hangs up on who is silent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from servers.middlemen import HAProxy, PgBouncer

from django_pgnudge import WalFeed
from django_pgnudge.daemon.connect_hints import explain
from django_pgnudge.errors import ServerError
from django_pgnudge.feed.address import Address
from django_pgnudge.feed.connect import connect
from django_pgnudge.feed.idle_limit import IdleLimit
from tests.fix_servers import missing
from tests.waiting import until

from .following import following

if TYPE_CHECKING:
    from tests.fix_servers import Database

IDLE = 1500
"""Milliseconds."""


def through(middleman: Any, database: Database, **options: Any) -> WalFeed:
    found = {**database.feed_options(), "host": "127.0.0.1", "port": middleman.port, **options}
    return WalFeed(**found)


@pytest.fixture
def needs_pgbouncer() -> None:
    if PgBouncer.installed() is None:
        pytest.skip(missing("pgbouncer"))


@pytest.fixture
def needs_haproxy() -> None:
    if HAProxy.installed() is None:
        pytest.skip(missing("haproxy"))


@pytest.mark.usefixtures("needs_pgbouncer")
@pytest.mark.parametrize(
    ("ignored", "advice"),
    [
        ("extra_float_digits", "refuses replication connections: name the server itself"),
        ("replication", "has made an ordinary session of it: name the server itself"),
    ],
)
async def test_a_pooler_in_place_of_the_server_is_told(
    any_postgres: Any, database: Database, ignored: str, advice: str
) -> None:
    with PgBouncer(any_postgres, f"ignore_startup_parameters = {ignored}") as pooler:
        feed = through(pooler, database, give_up=lambda error: True)
        with pytest.raises(ServerError) as refused:
            async with feed:
                await anext(aiter(feed))
    assert advice in (explain(refused.value) or "")


@pytest.mark.usefixtures("needs_pgbouncer")
async def test_queries_through_a_pooler_have_the_settings_that_they_rely_on(
    any_postgres: Any, database: Database
) -> None:
    """It refuses them at startup, and gives each query another session."""
    asked = (
        "SELECT pg_catalog.current_setting('search_path'),"
        " pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('DateStyle')"
    )
    database.execute(
        f'ALTER DATABASE "{database.name}" SET search_path = public',
        f"ALTER DATABASE \"{database.name}\" SET lock_timeout = '1h'",
        f"ALTER DATABASE \"{database.name}\" SET DateStyle = 'SQL, DMY'",
    )
    with PgBouncer(any_postgres) as pooler:
        address = Address(
            host="127.0.0.1", port=pooler.port, user="postgres", database=database.name
        )
        connection = await connect(address, replication=False)
        try:
            for _ in range(3):
                ((path, patience, style),) = await connection.rows(asked, columns=3)
                assert (path, patience, str(style)[:3]) == ("pg_catalog, pg_temp", "2s", "ISO")
        finally:
            await connection.close()
    ((left, *_),) = database.execute(asked)
    assert left == "public", "nothing of ours stays in the pool's sessions"


@pytest.mark.usefixtures("needs_haproxy")
async def test_a_proxy_that_hangs_up_on_who_is_silent_is_spoken_to(
    any_postgres: Any, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with HAProxy(any_postgres, idle=IDLE) as proxy:
        async with following(through(proxy, database)) as seen:
            await seen.resync("reconnected", 2)
            slot_name, began = seen.feed.slot_name, time.monotonic()
            await until(lambda: time.monotonic() > began + 3 * IDLE / 1000, blocks=True)
            assert seen.feed.slot_name == slot_name, "it lives longer than the proxy's patience"
            database.execute("INSERT INTO t VALUES (1)")
            await seen.payload("public.t")
            assert seen.resyncs.count("reconnected") == 2
    assert "hangs up after 1.5 s in which nothing was said" in caplog.text


@pytest.mark.parametrize(
    ("silences", "interval"),
    [
        ([3.0, 3.1], 3.1 / 3),
        ([3.0, 6.0], None),
        ([3.0, 6.0, 6.2], 6.2 / 3),
        ([0.1, 0.1], None),
        ([12.0, 12.0], None),
        ([3.0], None),
    ],
)
def test_two_alike_silences_tell_how_long_a_connection_may_be_idle(
    silences: list[float], interval: float | None
) -> None:
    limit = IdleLimit()
    assert [limit.ended(each, 10) for each in silences][-1] == interval


def test_what_was_told_once_is_told_again_only_by_two_more() -> None:
    limit = IdleLimit()
    found = [limit.ended(3, 10) for _ in range(3)]
    assert found == [None, 1.0, None]
