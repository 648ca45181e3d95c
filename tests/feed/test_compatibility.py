"""What code written for the public pgnudge package relies on holds here, under the same tests.

Every test runs twice, on pgnudge 1.4.0 and on this package; only the import differs.
"""

from __future__ import annotations

import asyncio
import inspect
from types import ModuleType
from typing import Any

import pgnudge
import pytest

import django_pgnudge
from tests.waiting import until

from .following import following, run

PLAIN = "CREATE TABLE t (id serial PRIMARY KEY, name text)"


@pytest.fixture(params=[pgnudge, django_pgnudge], ids=["pgnudge", "django_pgnudge"])
def package(request: pytest.FixtureRequest) -> ModuleType:
    package: ModuleType = request.param
    return package


@pytest.fixture(params=["wal2json", "test_decoding"])
def feed(
    request: pytest.FixtureRequest, package: ModuleType, any_postgres: Any, database: Any
) -> Any:
    if package is pgnudge and any_postgres.installation.version < (15, 0):
        pytest.skip("pgnudge needs PostgreSQL 15")
    if request.param not in any_postgres.plugins:
        pytest.skip(f"no {request.param} on {any_postgres.name}")
    database.execute(PLAIN)
    values = database.feed_options(plugin=request.param)
    return package.WalFeed(**values, debounce=0.05, backoff=(0.01, 0.1))


async def test_the_first_item_is_resync_connected_and_then_come_batches(package, feed, database):
    async with feed:
        iterator = aiter(feed)
        first = await anext(iterator)
        assert first == package.Resync("connected")
        await run(database.execute, "INSERT INTO t SELECT generate_series(1, 50)")
        match await anext(iterator):
            case package.Batch(events=(event,)) as batch:
                assert (event.payload, event.count) == ("public.t", 50)
                assert isinstance(event.first_seen, float)
                assert batch.payloads() == ("public.t",)
            case other:
                pytest.fail(f"{other!r} is not a batch of one event")


async def test_writes_before_connecting_are_not_replayed(feed, database):
    database.execute("INSERT INTO t VALUES (1)")
    async with following(feed) as seen:
        await run(database.execute, "INSERT INTO t VALUES (2)")
        await seen.payload("public.t")
    assert seen.counts == {"public.t": 1}


async def test_truncate_nudges_every_table(feed, database):
    database.execute("CREATE TABLE u (id int)")
    async with following(feed) as seen:
        await run(database.execute, "TRUNCATE t, u")
        await seen.payload("public.u")
        await seen.payload("public.t")


async def test_a_lost_connection_is_a_resync_reconnected_with_a_new_slot(feed, database):
    async with following(feed) as seen:
        slot, pid = feed.slot_name, feed.connection_pid
        await run(database.execute, f"SELECT pg_terminate_backend({pid})")
        await seen.resync("reconnected")
        await until(lambda: feed.connection_pid not in (None, pid), blocks=True)
        assert feed.slot_name != slot
        assert feed.last_error is None
        await run(database.execute, "INSERT INTO t VALUES (1)")
        await seen.payload("public.t")


async def test_closing_ends_the_iteration_and_can_be_repeated(feed, database):
    async with following(feed) as seen:
        assert feed.connection_pid is not None
    assert seen.resyncs == ["connected"]
    await feed.aclose()
    assert feed.connection_pid is None
    assert feed.slot_name is None
    with pytest.raises(StopAsyncIteration):
        await anext(feed)
    await until(lambda: database.slots() == [], blocks=True)


async def test_iterating_starts_the_feed_without_the_context_manager(feed):
    async for item in feed:
        assert item.reason == "connected"
        break
    await feed.aclose()


async def test_a_failure_to_connect_is_kept_in_last_error_and_not_raised(package):
    feed = package.WalFeed(
        host="127.0.0.1",
        port=1,
        user="u",
        database="d",
        plugin="test_decoding",
        backoff=(0.01, 0.02),
    )
    task = None
    async with feed:
        task = asyncio.ensure_future(anext(feed))
        await until(lambda: feed.last_error is not None, blocks=True)
        assert not task.done()
    with pytest.raises(StopAsyncIteration):
        await task


async def test_failsafe_gives_resyncs(package, database):
    database.execute(PLAIN)
    feed = package.WalFeed(**database.feed_options(plugin="test_decoding"), failsafe=0.05)
    async with following(feed) as seen:
        await seen.resync("failsafe", times=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"plugin": "no_such_plugin"},
        {"status_interval": 0},
        {"status_interval": 10, "liveness_timeout": 10},
        {"debounce": -1},
        {"max_batch_wait": -1},
        {"failsafe": 0},
        {"backoff": (0, 1)},
        {"raw_queue_size": 0},
        {"tables": []},
    ],
)
def test_arguments_that_cannot_be_are_a_config_error_and_a_value_error(package, wrong):
    with pytest.raises(package.ConfigError):
        package.WalFeed(user="u", database="d", **wrong)
    with pytest.raises(ValueError):  # noqa: PT011  # the words are each package's own
        package.WalFeed(user="u", database="d", **wrong)


def test_every_keyword_of_pgnudge_is_a_keyword_here_of_the_same_kind():
    theirs = inspect.signature(pgnudge.WalFeed).parameters
    ours = inspect.signature(django_pgnudge.WalFeed).parameters
    assert [name for name in theirs if name not in ours] == []
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind
        required = parameter.default is parameter.empty
        assert required == (ours[name].default is parameter.empty), name


def test_the_items_are_frozen_dataclasses_with_slots_and_the_same_leading_fields():
    for name in ("Event", "Batch", "Resync"):
        theirs, ours = getattr(pgnudge, name), getattr(django_pgnudge, name)
        assert ours.__dataclass_params__.frozen
        assert hasattr(ours, "__slots__")
        fields = list(theirs.__dataclass_fields__)
        assert list(ours.__dataclass_fields__)[: len(fields)] == fields
    for package in (pgnudge, django_pgnudge):
        event = package.Event("public.t", 1.0)
        assert (event.payload, event.first_seen, event.count) == ("public.t", 1.0, 1)
        assert package.Batch((event,)) == package.Batch(events=(event,))
        with pytest.raises(AttributeError):
            event.count = 2
