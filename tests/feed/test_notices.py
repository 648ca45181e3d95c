"""What the server warns of in the stream: made good, logged, and never passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from servers.postgres import find_installations

from django_pgnudge import WalFeed
from django_pgnudge.errors import ConnectionLostError, ServerError
from django_pgnudge.feed.notices import Notices
from tests.fix_servers import own_database
from tests.hostile import HostileServer, Peer
from tests.waiting import until
from tests.wire import backend

from .following import feed_of, following, run

if TYPE_CHECKING:
    from tests.fix_servers import Database, FeedServer
    from tests.hostile import Script

LEFT_OUT = 'no tuple identifier for UPDATE in table "public"."nokey"'


def warning(text: str, severity: str = "WARNING") -> ServerError:
    return ServerError(text, sqlstate="01000", severity=severity)


# On real servers.


@pytest.mark.parametrize("change", ["UPDATE nokey SET v = v + 1", "DELETE FROM nokey"])
async def test_a_table_without_identity_that_comes_later_nudges_for_any_row(
    feed_server: FeedServer, database: Database, caplog: Any, change: str
):
    async with following(feed_of(database)) as seen:
        await run(
            database.execute,
            "CREATE TABLE nokey (id int, v int)",
            "CREATE TABLE keyed (id int PRIMARY KEY)",
            "INSERT INTO nokey SELECT n FROM generate_series(1, 500) n",
        )
        await seen.until(lambda: seen.counts["public.nokey"] == 500)
        if feed_server.plugin == "pgoutput":
            pytest.skip("the server refuses such a change")
        await run(database.execute, f"BEGIN; {change}; INSERT INTO keyed VALUES (1); COMMIT")
        await seen.until(lambda: seen.counts["public.nokey"] == 1000)
        assert seen.counts["public.keyed"] == 1, "in the same transaction"
        assert seen.keys("public.nokey") is None
        assert ("public.nokey" in await seen.feed.covered()) is (feed_server.plugin != "wal2json")
    assert seen.resyncs == ["connected"], "and no Resync for each row"
    warned = caplog.text.count("give it a primary key")
    assert warned == (1 if feed_server.plugin == "wal2json" else 0)


async def test_a_warning_is_sent_whatever_the_role_has_set(
    feed_server: FeedServer, database: Database
):
    if feed_server.plugin != "wal2json":
        pytest.skip("only wal2json warns of a row")
    database.execute(
        f"ALTER DATABASE {database.name} SET client_min_messages = error",
        "CREATE TABLE nokey (id int)",
        "INSERT INTO nokey VALUES (1)",
    )
    async with following(feed_of(database)) as seen:
        await run(database.execute, "DELETE FROM nokey")
        await seen.payload("public.nokey")


async def test_a_warning_of_a_rolled_back_change_nudges_nothing(
    feed_server: FeedServer, database: Database
):
    database.execute("CREATE TABLE nokey (id int)", "INSERT INTO nokey VALUES (1)")
    if feed_server.plugin == "pgoutput":
        database.execute("ALTER TABLE nokey REPLICA IDENTITY FULL")
    async with following(feed_of(database)) as seen:
        await run(database.execute, "BEGIN; DELETE FROM nokey; ROLLBACK")
        await run(database.execute, "SELECT pg_logical_emit_message(true, 'pgnudge', 'end')")
        await seen.payload("end")
    assert seen.counts == {"end": 1}


async def test_a_publication_that_goes_in_mid_stream_is_a_resync_once_it_is_back(
    postgres: Any, database: Database
):
    """An error up to PostgreSQL 17; from 18 on a warning, and the stream would go on without."""
    create = "CREATE PUBLICATION nudge FOR TABLE t"
    database.execute("CREATE TABLE t (id serial PRIMARY KEY)", create)
    async with following(feed_of(database, publication="nudge")) as seen:
        await run(database.execute, "INSERT INTO t DEFAULT VALUES")
        await seen.payload("public.t")
        await run(database.execute, "DROP PUBLICATION nudge")
        await run(database.execute, "INSERT INTO t DEFAULT VALUES")
        await until(lambda: "does not exist" in str(seen.feed.last_error), blocks=True)
        with pytest.raises(ConnectionLostError):
            await seen.feed.catch_up()
        await run(database.execute, create)
        await seen.resync("reconnected")
        before = seen.counts["public.t"]
        await run(database.execute, "INSERT INTO t DEFAULT VALUES")
        await seen.until(lambda: seen.counts["public.t"] > before)


async def test_auto_never_takes_a_plugin_that_leaves_changes_out(
    postgres_factory: Any, caplog: Any
):
    """Also where the other one may not be used."""
    able = [
        each for each in find_installations() if {"wal2json", "test_decoding"} <= set(each.plugins)
    ]
    if not able:
        pytest.skip("no wal2json here")
    server = postgres_factory(able[0], settings={"output_plugin_libraries": "wal2json"})
    database = own_database(server, "auto")
    database.execute("CREATE TABLE nokey (x int)")
    feed = feed_of(database)
    async with following(feed, live=False) as seen:
        await until(lambda: feed.last_error is not None, blocks=True)
        assert "test_decoding" in str(feed.last_error)
        assert "without a replica identity (public.nokey)" in caplog.text
        await run(database.execute, "ALTER TABLE nokey ADD PRIMARY KEY (x)")
        await seen.resync("connected")
        assert feed.plugin_in_use == "wal2json"


# On a server that says exactly this.


def sends(*data: bytes) -> Script:
    """Streams this once; later connections stay silent."""
    rest = [data]

    async def script(peer: Peer) -> None:
        sql = await peer.serve()
        if sql:
            await peer.send(backend.copy_both(), *(rest.pop() if rest else ()))
        await peer.forever()

    return script


def hostile_feed(server: HostileServer, **options: Any) -> WalFeed:
    chosen: dict[str, Any] = {
        "host": "127.0.0.1", "port": server.port, "user": "u", "database": "d",
        "plugin": "wal2json", "visibility": False, "backoff": (0.01, 0.1),
    }  # fmt: skip
    return WalFeed(**(chosen | options))


def begin(xid: int = 7) -> bytes:
    return backend.xlog(b'{"action":"B","xid":%d,"timestamp":"2026-11-20 12:00:00+00"}' % xid)


def commit(xid: int = 7) -> bytes:
    return backend.xlog(b'{"action":"C","xid":%d,"timestamp":"2026-11-20 12:00:00+00"}' % xid)


END = (
    begin(9)
    + backend.xlog(b'{"action":"I","schema":"public","table":"end","columns":[]}')
    + commit(9)
)


@pytest.mark.parametrize(
    "data",
    [
        backend.notice("something is odd", "WARNING"),
        begin() + backend.notice("something is odd", "WARNING") + commit(),
        backend.notice("something is odd", "A LEVEL OF THE FUTURE"),
        backend.notice('skipped loading publication "nudge"', "WARNING", "55000"),
        # Two names, or three: nobody knows.
        begin()
        + backend.notice('no tuple identifier for UPDATE in table "a"."b"."c"', "WARNING")
        + commit(),
        begin()
        + backend.notice('no tuple identifier for UPDATE in table "t"', "WARNING")
        + commit(),
        # Of no transaction.
        backend.notice(LEFT_OUT, "WARNING"),
    ],
)
async def test_a_warning_that_names_no_table_ends_in_a_resync(data: bytes, caplog: Any) -> None:
    async with HostileServer(sends(data)) as server:
        async with following(hostile_feed(server)) as seen:
            await seen.resync("reconnected")
    assert "the stream ended, reconnecting" in caplog.text


async def test_a_notice_is_logged_once_and_nothing_else(caplog: Any) -> None:
    caplog.set_level("INFO", "django_pgnudge.feed")
    said = backend.notice("by\nthe\x1b[31mway")
    async with HostileServer(sends(said * 3 + END)) as server:
        async with following(hostile_feed(server)) as seen:
            await seen.payload("public.end")
    assert seen.resyncs == ["connected"]
    assert caplog.text.count(r"by\nthe\x1b[31mway") == 1
    assert "\x1b" not in caplog.text


async def test_a_thousand_warnings_a_second_are_one_event_and_one_line(caplog: Any) -> None:
    data = begin() + backend.notice(LEFT_OUT, "WARNING") * 1000 + commit() + END
    async with HostileServer(sends(data)) as server:
        async with following(hostile_feed(server)) as seen:
            await seen.payload("public.end")
    assert seen.counts == {"public.nokey": 1000, "public.end": 1}
    assert len([event for event in seen.events if event.payload == "public.nokey"]) == 1
    assert seen.resyncs == ["connected"]
    assert caplog.text.count("leaves out changes") == 1


async def test_a_warning_of_a_table_that_is_not_followed_is_nobodys(caplog: Any) -> None:
    data = begin() + backend.notice(LEFT_OUT, "WARNING") + commit() + END
    async with HostileServer(sends(data)) as server:
        async with following(hostile_feed(server, tables=["public.end"])) as seen:
            await seen.payload("public.end")
    assert seen.counts == {"public.end": 1}
    assert "leaves out" not in caplog.text


async def test_a_server_that_warns_again_and_again_is_not_met_in_a_tight_loop() -> None:
    async def script(peer: Peer) -> None:
        await peer.serve()
        await peer.send(backend.copy_both(), backend.notice("odd", "WARNING"))
        await peer.forever()

    async with HostileServer(script) as server:
        async with following(hostile_feed(server, backoff=(0.001, 1000.0))) as seen:
            await seen.resync("reconnected", times=3)
            # As after so many failures.
            assert seen.feed._backoff.attempts >= 3  # noqa: SLF001 - the next wait is not seen


def test_what_is_said_is_remembered_within_bounds() -> None:
    told: list[str] = []
    notices = Notices(lambda schema, table: True, told.append)
    for number in range(3000):
        notices.take(warning(f'no tuple data for DELETE in table "s"."t{number}"'))
    assert len(told) == 3000
    assert len(notices._said) <= 1000  # noqa: SLF001 - it is bounded


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ('no tuple identifier for DELETE in table "s"."t"', "s.t"),
        ('no tuple data for UPDATE in table "S x"."t\n"', "S x.t\n"),
        ('no old tuple data for DELETE in table "s.a"."t"', "s.a.t"),
        ('no tuple identifier for DELETE in table "s"."t" or so', None),
        ('no tuple identifier for DELETE in table "s�"."t"', None),
    ],
)
def test_a_warning_names_its_table(text: str, payload: str | None) -> None:
    told: list[str] = []
    notices = Notices(lambda schema, table: True, told.append)
    if payload is None:
        with pytest.raises(ConnectionLostError, match="no tuple"):
            notices.take(warning(text))
    else:
        notices.take(warning(text))
        assert told == [payload]


async def test_the_last_error_says_what_was_warned_of() -> None:
    async with HostileServer(sends(backend.notice("odd\n", "WARNING"))) as server:
        feed = hostile_feed(server, backoff=(30.0, 60.0))
        async with following(feed):
            await until(lambda: feed.last_error is not None, blocks=True)
            assert r"changes may be missing from the stream: 'WARNING 00000: odd\n'" in str(
                feed.last_error
            )
