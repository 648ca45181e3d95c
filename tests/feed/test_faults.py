"""What a feed does when the server, the link or itself fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from servers.process import free_port

from django_pgnudge import Batch, ConfigError, PgNudgeError, ServerError, WalFeed
from django_pgnudge.decoding import DECODERS
from django_pgnudge.errors import ConnectionLostError, ProtocolError
from django_pgnudge.feed import slot, stream
from tests.fix_servers import own_database
from tests.waiting import until

from .following import feed_of, following, run
from .inside import stream_of

PLAIN = "CREATE TABLE t (id serial PRIMARY KEY, name text)"
QUICK: dict[str, Any] = {"backoff": (0.01, 0.1)}


def through(proxy: Any, database: Any, /, **options: Any) -> Any:
    return feed_of(database, host=proxy.host, port=proxy.port, **options)


async def goes_on(seen: Any, database: Any) -> None:
    """A write made now is nudged."""
    before = seen.counts["public.t"]
    await run(database.execute, "INSERT INTO t DEFAULT VALUES")
    await seen.until(lambda: seen.counts["public.t"] > before, "the write after the fault")


async def test_pg_terminate_backend_makes_a_new_slot_and_a_resync(feed_server, database):
    database.execute(PLAIN)
    feed = feed_of(database)
    async with following(feed) as seen:
        first = (feed.slot_name, feed.connection_pid)
        await run(database.execute, f"SELECT pg_terminate_backend({feed.connection_pid})")
        await seen.resync("reconnected")
        assert feed.slot_name != first[0]
        # Its walsender says goodbye first and drops it then.
        await until(lambda: database.slots() == [feed.slot_name], blocks=True)
        assert feed.last_error is None
        await goes_on(seen, database)
    assert database.slots() == []


async def test_a_hard_abort_without_a_goodbye_leaves_no_slot(feed_server, database):
    feed = feed_of(database)
    async with following(feed) as seen:
        old = feed.slot_name
        stream_of(feed).connection.session.data_to_send()
        transport = stream_of(feed).connection._transport  # noqa: SLF001 - no goodbye
        assert transport is not None
        transport.abort()
        await seen.resync("reconnected")
        await until(lambda: old not in database.slots(), blocks=True)


async def test_an_immediate_restart_of_the_server_is_a_resync(feed_server, postgres_factory):
    server = postgres_factory()
    database = own_database(server, feed_server.plugin)
    database.execute(PLAIN)
    async with following(feed_of(database)) as seen:
        await run(server.restart, "immediate")
        await seen.resync("reconnected")
        await goes_on(seen, database)


async def test_a_server_that_is_down_at_the_start_is_waited_for(feed_server, postgres_factory):
    server = postgres_factory()
    database = own_database(server, feed_server.plugin)
    database.execute(PLAIN)
    feed = feed_of(database)
    server.kill()
    async with following(feed, live=False) as seen:
        await until(lambda: isinstance(feed.last_error, ConnectionLostError), blocks=True)
        assert not seen.items
        await run(server.start)
        await seen.resync("connected")
        await goes_on(seen, database)


async def test_a_server_that_is_shut_down_in_order_says_so(feed_server, postgres_factory):
    server = postgres_factory()
    database = own_database(server, feed_server.plugin)
    database.execute(PLAIN)
    feed = feed_of(database)
    async with following(feed) as seen:
        ends = []
        stream = stream_of(feed)
        stream.connection.closed.add_done_callback(lambda closed: ends.append(closed.result()))
        await run(server.restart, "fast")
        await until(lambda: ends, blocks=True)
        assert str(ends[0]) == "the server is shutting down"
        await seen.resync("reconnected")
        await goes_on(seen, database)


async def test_a_link_that_is_cut_is_a_resync(feed_server, database, proxy_to):
    database.execute(PLAIN)
    proxy = proxy_to((database.postgres.host, database.postgres.port))
    async with following(through(proxy, database)) as seen:
        await run(proxy.cut)
        await seen.resync("reconnected")
        await goes_on(seen, database)


async def test_a_silent_link_is_noticed_and_left(database, proxy_to):
    database.execute(PLAIN)
    proxy = proxy_to((database.postgres.host, database.postgres.port))
    feed = through(proxy, database, status_interval=0.05, liveness_timeout=0.3, connect_timeout=0.5)
    async with following(feed) as seen:
        await run(proxy.stall)
        await until(lambda: feed.slot_name is None, blocks=True)
        await run(proxy.resume)
        await seen.resync("reconnected")
        await goes_on(seen, database)


async def test_a_quiet_server_is_not_taken_for_lost(database):
    """The server answers every status, so silence is never a lack of changes."""
    database.execute(PLAIN)
    feed = feed_of(database, status_interval=0.02, liveness_timeout=1.0)
    async with following(feed) as seen:
        # Longer than that, as no answer comes before its status was sent.
        for _ in range(60):
            await moves(stream_of(feed).connection)
        await goes_on(seen, database)
    assert seen.resyncs == ["connected"]


async def test_a_server_that_never_answers_is_left_after_the_timeout(database, proxy_to):
    database.execute(PLAIN)
    proxy = proxy_to((database.postgres.host, database.postgres.port))
    proxy.half_open(True)
    feed = through(proxy, database, connect_timeout=0.2)
    async with following(feed, live=False) as seen:
        await until(lambda: "handshake within" in str(feed.last_error), blocks=True)
        await run(proxy.half_open, False)
        await seen.resync("connected")
        await goes_on(seen, database)


async def test_nothing_listens_and_the_feed_says_so(unused_tcp_port):
    feed = WalFeed(host="127.0.0.1", port=unused_tcp_port, user="u", database="d", **QUICK)
    async with following(feed, live=False) as seen:
        await until(lambda: feed.last_error, blocks=True)
        assert f"u@127.0.0.1:{unused_tcp_port}/d" in str(feed.last_error)
        assert not seen.items


@pytest.mark.parametrize(
    "banner", [b"-ERR unknown command\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n"]
)
async def test_a_server_of_another_kind_is_told_apart(banner):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)
        with contextlib.suppress(ConnectionResetError):  # told apart before all was read
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        feed = WalFeed(host="127.0.0.1", port=port, user="u", database="d", **QUICK)
        async with following(feed, live=False):
            await until(lambda: feed.last_error, blocks=True)
            assert isinstance(feed.last_error, ProtocolError)


async def test_giving_up_raises_the_error_from_the_iteration(database):
    asked: list[Exception] = []

    def give_up(error: Exception) -> bool:
        asked.append(error)
        return len(asked) == 2

    feed = feed_of(database, user="nobody_here", give_up=give_up)
    async with feed:
        with pytest.raises(ServerError, match="nobody_here") as caught:
            await anext(feed)
        with pytest.raises(StopAsyncIteration):
            await anext(feed)
    assert [type(error) for error in asked] == [ServerError, ServerError]
    assert caught.value.sqlstate == "28000"


@pytest.mark.parametrize(
    ("options", "sqlstate", "words"),
    [
        ({"database": "no_such_database"}, "3D000", "no_such_database"),
        ({"plugin": "pgoutput", "publication": "missing"}, "42704", "publication .missing. does"),
    ],
)
async def test_what_the_server_refuses_keeps_its_sqlstate(database, options, sqlstate, words):
    feed = feed_of(database, **options)
    async with following(feed, live=False):
        await until(lambda: feed.last_error, blocks=True)
        assert isinstance(feed.last_error, ServerError)
        assert feed.last_error.sqlstate == sqlstate
        with pytest.raises(ServerError, match=words):
            raise feed.last_error


async def test_a_role_without_replication_is_refused_by_the_server(database):
    name = f"plain_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    feed = feed_of(database, user=name, password="x")
    try:
        async with following(feed, live=False):
            await until(lambda: feed.last_error, blocks=True)
            assert isinstance(feed.last_error, ServerError)
            assert feed.last_error.sqlstate == "42501"
    finally:
        database.execute(f"DROP ROLE {name}")


async def test_a_server_without_logical_decoding_says_what_to_set(postgres_factory):
    server = postgres_factory(settings={"wal_level": "replica"})
    feed = feed_of(own_database(server, "pgoutput"))
    async with following(feed, live=False):
        await until(lambda: feed.last_error, blocks=True)
        assert isinstance(feed.last_error, ServerError)
        assert "wal_level" in feed.last_error.message


async def test_auto_falls_back_to_a_plugin_the_server_has(feed_server, database, caplog):
    """wal2json if it is there and allowed, else test_decoding; told, and why."""
    caplog.set_level("DEBUG", "django_pgnudge.feed")
    offered = feed_server.postgres.plugins
    feed = feed_of(database, plugin="auto", publication=None)
    if not {"wal2json", "test_decoding"} & set(offered):
        async with following(feed, live=False):
            await until(lambda: feed.last_error, blocks=True)
            assert isinstance(feed.last_error, ServerError)
            assert feed.last_error.sqlstate == "58P01"
        return
    async with following(feed):
        expected = "wal2json" if "wal2json" in offered else "test_decoding"
        assert feed.plugin_in_use == expected
        assert f"with {expected}" in caplog.text


async def test_auto_prefers_pgoutput_where_a_publication_is_named(database):
    database.execute("CREATE PUBLICATION chosen FOR ALL TABLES")
    async with following(feed_of(database, plugin="auto", publication="chosen")) as seen:
        assert seen.feed.plugin_in_use == "pgoutput"


async def test_a_publication_dropped_while_streaming_is_waited_for(database):
    database.execute(PLAIN, 'CREATE PUBLICATION "with ""quotes"", comma" FOR TABLE t')
    options = {"plugin": "pgoutput", "publication": 'with "quotes", comma'}
    async with following(feed_of(database, **options)) as seen:
        await goes_on(seen, database)
        await run(database.execute, 'DROP PUBLICATION "with ""quotes"", comma"')
        await run(database.execute, "INSERT INTO t DEFAULT VALUES")
        await until(lambda: "does not exist" in str(seen.feed.last_error), blocks=True)
        await run(database.execute, 'CREATE PUBLICATION "with ""quotes"", comma" FOR TABLE t')
        await seen.resync("reconnected")
        await goes_on(seen, database)


async def test_a_bug_of_ours_is_raised_and_never_hangs(database, monkeypatch):
    database.execute(PLAIN)
    feed = feed_of(database)
    async with feed:
        assert (await anext(feed)).reason == "connected"

        def broken(self: object, buffer: bytes, pos: int) -> int:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(DECODERS[feed.plugin_in_use], "scan", broken)
        await run(database.execute, "INSERT INTO t VALUES (1)")
        with pytest.raises(ZeroDivisionError, match="a bug"):
            async with asyncio.timeout(20):
                await anext(feed)
        with pytest.raises(StopAsyncIteration):
            await anext(feed)


async def test_a_bug_in_a_helper_task_is_raised_too(database, monkeypatch):
    async def broken(self: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(stream.Stream, "_watch_liveness", broken)
    async with feed_of(database) as feed:
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(20):
                async for _ in feed:
                    pass


async def test_an_old_server_is_refused_with_its_version(database, monkeypatch):
    monkeypatch.setattr(slot, "MINIMUM_VERSION", 990000)
    async with feed_of(database) as feed:
        with pytest.raises(ConfigError, match=r"is PostgreSQL 1[4-9]; 99 or later"):
            await anext(feed)


async def test_one_resync_the_consumer_has_not_taken_covers_any_number(database):
    feed = feed_of(database)
    async with feed:
        for _ in range(3):
            pid = await until(lambda: feed.connection_pid, blocks=True)
            await run(database.execute, f"SELECT pg_terminate_backend({pid})")
            await until(lambda: feed.connection_pid not in (pid, None), blocks=True)
        assert (await anext(feed)).reason == "connected"
        await run(database.execute, "SELECT pg_logical_emit_message(true, 'pgnudge', 'next')")
        assert isinstance(await anext(feed), Batch)


async def test_the_end_of_the_loop_without_a_close_is_quiet(database):
    """A feed that was iterated without the context manager stops with aclose()."""
    feed = feed_of(database)
    async for item in feed:
        assert item.reason == "connected"
        break
    await feed.aclose()
    assert database.slots() == []


def test_no_password_is_in_the_representation_of_anything():
    feed = WalFeed(user="u", database="d", password="hunter2")
    assert "hunter2" not in repr(vars(feed))
    assert "hunter2" not in repr(feed)


def test_every_error_of_the_package_has_one_root():
    from django_pgnudge import errors

    assert all(issubclass(getattr(errors, name), PgNudgeError) for name in errors.__all__)


async def moves(connection: Any) -> None:
    """Wait for something to arrive."""
    last = connection.last_inbound
    await until(lambda: connection.last_inbound > last, blocks=True)


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_every_attempt_but_the_first_asks_where_the_server_is(database):
    database.execute(PLAIN)
    right = database.feed_options()
    asked = []

    async def locate():
        asked.append(1)
        if len(asked) == 1:
            raise ConnectionLostError("nobody knows")
        return {"host": right["host"], "port": right["port"], "ssl": False}

    dead = free_port()
    feed = feed_of(database, host="127.0.0.1", port=dead, locate=locate, plugin="test_decoding")
    async with following(feed) as seen:
        assert len(asked) == 2
        await goes_on(seen, database)
        await run(database.execute, f"SELECT pg_terminate_backend({feed.connection_pid})")
        await seen.resync("reconnected")
        assert len(asked) == 3


async def test_a_bug_of_who_is_asked_reaches_the_consumer(database):
    async def locate():
        raise ZeroDivisionError

    feed = feed_of(database, host="127.0.0.1", port=free_port(), locate=locate)
    async with feed:
        with pytest.raises(ZeroDivisionError):
            await anext(aiter(feed))
