"""feed/walfeed.py: what its arguments do, on every server and output plugin, and how it ends."""

from __future__ import annotations

import pytest

from django_pgnudge import Batch, ConfigError, WalFeed
from django_pgnudge.errors import AuthenticationError
from tests.waiting import until

from .following import feed_of, following, run
from .inside import coalescer_of
from .tables import AWKWARD, PLAIN, quoted

pytestmark = pytest.mark.usefixtures("feed_server")


async def test_the_table_filter_holds_with_every_plugin(database):
    for name in ["b", "starling", *(quoted(name) for name in ["a", *AWKWARD])]:
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    database.execute("CREATE SCHEMA s", "CREATE TABLE s.a (id int PRIMARY KEY)")
    wanted = [f"public.{name}" for name in ["a", *AWKWARD]]
    async with following(feed_of(database, tables=wanted)) as seen:
        for name in ["b", "s.a", "starling", "a", *map(quoted, AWKWARD)]:
            await run(database.execute, f"INSERT INTO {name} VALUES (1)")
        await run(database.execute, "TRUNCATE b, a")
        await seen.until(lambda: seen.counts["public.a"] == 2)
    assert set(seen.counts) == set(wanted)


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (["s.*"], {"s.a", "s.b"}),
        (["*.a"], {"public.a", "s.a"}),
        (["*.*"], {"public.a", "s.a", "s.b"}),
    ],
)
async def test_a_star_stands_for_a_schema_or_a_table(database, tables, expected):
    database.execute("CREATE SCHEMA s")
    for name in ["a", "s.a", "s.b", "last"]:
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    tables = [*tables, "public.last"]
    async with following(feed_of(database, tables=tables)) as seen:
        for name in ["a", "s.a", "s.b", "last"]:
            await run(database.execute, f"INSERT INTO {name} VALUES (1)")
        await seen.payload("public.last")
    assert set(seen.counts) - {"public.last"} == expected


async def test_keys_are_collected_only_where_they_are_asked_for(database):
    database.execute("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    async with following(feed_of(database, keys=["public.a"])) as seen:
        await run(database.execute, "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
        await seen.payload("public.b")
    assert seen.keys("public.a") == {(1,)}
    assert seen.keys("public.b") is None


async def test_more_keys_than_the_limit_mean_any_row(database):
    database.execute(PLAIN)
    async with following(feed_of(database, max_keys=10)) as seen:
        await run(database.execute, "INSERT INTO t SELECT generate_series(1, 11)")
        await seen.payload("public.t")
    (event,) = seen.events
    assert (event.keys, event.count) == (None, 11)


async def test_two_databases_are_two_feeds(feed_server, database):
    server = feed_server.postgres
    name = f"{database.name}_two"
    server.create_database(name)
    try:
        other = type(database)(server, name, database.plugin)
        for each in (database, other):
            each.execute(PLAIN)
        async with (
            following(feed_of(database)) as first,
            following(feed_of(other)) as second,
        ):
            await run(database.execute, "INSERT INTO t VALUES (1)")
            await run(other.execute, "INSERT INTO t SELECT generate_series(1, 3)")
            await first.payload("public.t")
            await second.payload("public.t")
        assert first.counts == {"public.t": 1}
        assert second.counts == {"public.t": 3}
    finally:
        server.drop_database(name)


async def test_a_slow_consumer_gets_bigger_batches_and_no_overflow(database):
    database.execute(PLAIN, "CREATE TABLE last (id int)")
    feed = feed_of(database, raw_queue_size=4)

    def write() -> None:
        with database.connect() as connection:
            for number in range(200):
                connection.execute(f"INSERT INTO t VALUES ({number})")
            connection.execute("INSERT INTO last VALUES (1)")

    async with feed:
        items = aiter(feed)
        assert (await anext(items)).reason == "connected"
        await run(write)
        seen: dict[str, int] = {}
        while "public.last" not in seen:
            batch = await anext(items)
            assert isinstance(batch, Batch)
            for event in batch.events:
                seen[event.payload] = seen.get(event.payload, 0) + event.count
    assert seen == {"public.t": 200, "public.last": 1}


async def test_a_debounce_gathers_what_comes_meanwhile(database):
    database.execute(PLAIN)
    feed = feed_of(database, debounce=60)
    async with following(feed) as seen:
        await run(database.execute, "INSERT INTO t VALUES (1)")
        await seen.payload("public.t")
        await run(database.execute, "INSERT INTO t VALUES (2)")
        await until(lambda: coalescer_of(feed).ready, blocks=True)
    assert seen.counts == {"public.t": 1}


async def test_more_tables_than_the_queue_holds_are_a_resync(database):
    tables = [f"t{number}" for number in range(6)]
    for table in tables:
        database.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
    async with following(feed_of(database, raw_queue_size=5)) as seen:
        await run(database.execute, ";".join(f"INSERT INTO {table} VALUES (1)" for table in tables))
        await seen.resync("overflow")
        await run(database.execute, "INSERT INTO t0 VALUES (2)")
        await seen.payload("public.t0")
    assert seen.counts == {"public.t0": 1}


async def test_failsafe_resyncs_come_by_the_clock(database):
    async with following(feed_of(database, failsafe=0.01)) as seen:
        await seen.resync("failsafe", times=3)
    assert seen.resyncs[0] == "connected"


async def test_a_closed_feed_has_left_nothing(database):
    database.execute(PLAIN)
    feed = feed_of(database)
    async with following(feed) as seen:
        assert feed.slot_name in await run(database.slots)
        assert feed.connection_pid
        assert feed.server_version // 10_000 == database.postgres.installation.version[0]
        assert feed.plugin_in_use == database.plugin
        assert feed.last_error is None
        temporary = await run(
            database.execute,
            "SELECT temporary, plugin FROM pg_replication_slots"
            f" WHERE slot_name = '{feed.slot_name}'",
        )
        assert temporary == [(True, database.plugin)]
    assert database.slots() == [], "the slot is gone when aclose() returns"
    assert (feed.slot_name, feed.connection_pid) == (None, None)
    await feed.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(feed)
    assert seen.resyncs == ["connected"]


async def test_closing_while_connecting_leaves_nothing(database):
    """A slot waits for running transactions to end; its maker does not have to."""
    database.execute(PLAIN)
    blocker = database.connect()
    try:
        blocker.execute("BEGIN; INSERT INTO t VALUES (1)")
        feed = feed_of(database)
        async with following(feed, live=False):
            await until(database.slots, blocks=True)
        assert database.slots() == []
    finally:
        blocker.close()


async def test_a_long_transaction_delays_the_start_and_is_told(database, caplog):
    database.execute(PLAIN)
    blocker = database.connect()
    try:
        blocker.execute("BEGIN; INSERT INTO t VALUES (1)")
        feed = feed_of(database, connect_timeout=0.5)
        async with following(feed, live=False) as seen:
            await until(lambda: "waiting for running transactions" in caplog.text, blocks=True)
            assert str(blocker.info.backend_pid) in caplog.text
            blocker.execute("COMMIT")
            await seen.resync("connected")
            await run(database.execute, "INSERT INTO t VALUES (2)")
            await seen.until(lambda: (2,) in (seen.keys("public.t") or ()))
    finally:
        blocker.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"plugin": "decoderbufs"},
        {"plugin": "pgoutput", "publication": None},
        {"status_interval": 0},
        {"status_interval": 30, "liveness_timeout": 30},
        {"connect_timeout": 0},
        {"debounce": -1},
        {"max_batch_wait": -0.1},
        {"failsafe": 0},
        {"backoff": (0, 5)},
        {"backoff": (2, 1)},
        {"raw_queue_size": 0},
        {"max_keys": -1},
        {"tables": []},
        {"tables": "public.t"},
        {"tables": ["t"]},
        {"keys": "public.t"},
        {"ssl": "require"},
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        WalFeed(user="u", database="d", **wrong)


def test_the_refusal_is_a_value_error_too():
    with pytest.raises(ValueError, match="debounce"):
        WalFeed(user="u", database="d", debounce=-1)


async def test_a_server_that_does_not_ask_for_the_method_required_is_not_followed(database):
    """The test's servers let everybody in."""
    feed = WalFeed(
        **database.feed_options(), require_auth="scram-sha-256", give_up=lambda error: True
    )
    async with feed:
        with pytest.raises(AuthenticationError, match="did not complete authentication"):
            await anext(aiter(feed))
