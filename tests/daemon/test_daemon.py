"""daemon: what a batch and a Resync do, and what nothing may stop. The feed is a fake here."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import caches as django_caches

from django_pgnudge import caches
from django_pgnudge.daemon import (
    Daemon,
    cache_worker,
    catalog_refresh,
    invalidation,
    receivers,
    rule_callables,
)
from django_pgnudge.daemon import core as daemon_module
from django_pgnudge.decoding import KeyColumn
from django_pgnudge.errors import ConfigError, ConnectionLostError, ServerError
from django_pgnudge.reader.keys import Names
from django_pgnudge.registry.catalog import Catalog
from django_pgnudge.signals import model_changed, resynced, tables_changed
from tests.fakes import FakeFeed, FlakyCache, event
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pytest_django.fixtures import Settings

    from django_pgnudge.events import Event

FLAKY = "tests.fakes.FlakyCache"
PRICES = "legacy.prices"
IDENTITY = "identity"


@pytest.fixture(autouse=True)
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two caches that can be broken, one rule each, no waiting."""
    settings.CACHES = {
        alias: {"BACKEND": FLAKY, "LOCATION": alias, "TIMEOUT": None}
        for alias in ("default", "fast")
    }
    settings.PGNUDGE = {
        "INVALIDATE": {
            PRICES: [
                {"keys": ["prices", "price:{pk}"]},
                {"keys": ["prices"], "cache": "fast"},
            ]
        }
    }
    monkeypatch.setattr(daemon_module, "feed_connection", lambda using: {"host": "nowhere"})
    monkeypatch.setattr(cache_worker, "BACKOFF", (0.005, 0.01))
    FlakyCache.down.clear()
    FlakyCache.hang.clear()
    yield
    FlakyCache.down.clear()
    for released in FlakyCache.hang.values():
        released.set()
    FlakyCache.hang.clear()
    for alias in ("default", "fast"):
        django_caches[alias].clear()


@asynccontextmanager
async def running(*, tables: Any = None, **options: Any) -> AsyncIterator[tuple[Daemon, FakeFeed]]:
    """A daemon that has connected, with its feed; stopped afterwards."""
    feeds: list[FakeFeed] = []

    def make(**given: Any) -> FakeFeed:
        feeds.append(FakeFeed(**given))
        return feeds[-1]

    daemon = Daemon(feed_class=make, **options)

    async def refresh(patience: float | None) -> bool:
        if tables:
            tables(daemon.registry)
        daemon.registry._catalog = replace(daemon.registry._catalog, identity=IDENTITY)
        return True

    daemon.dispatcher.catalog_refresh.refresh = refresh  # type: ignore[method-assign]
    task = asyncio.create_task(daemon.run())
    try:
        await until(lambda: feeds)
        yield daemon, feeds[0]
    finally:
        daemon.stop()
        async with asyncio.timeout(10):
            await task
        assert feeds[0].closed


def stored(alias: str = "default", *keys: str) -> set[str]:
    names = keys or ("prices", "price:1", "price:2", "other")
    prefix = ":1:"
    cache: Any = django_caches[alias]
    return {key for key in names if prefix + key in cache._cache}


def fill() -> None:
    FlakyCache.down.clear()
    for alias in ("default", "fast"):
        for key in ("prices", "price:1", "price:2", "other"):
            django_caches[alias].set(key, 1)


class Heard:
    """A receiver of all three signals that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.stored: list[set[str]] = []

    def tables(self, **given: Any) -> None:
        self.stored.append(stored())
        self.calls.append(("tables", given))

    def model(self, **given: Any) -> None:
        self.calls.append(("model", given))

    def resync(self, **given: Any) -> None:
        self.stored.append(stored())
        self.calls.append(("resync", given))

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def heard() -> Iterator[Heard]:
    listener = Heard()
    tables_changed.connect(listener.tables)
    model_changed.connect(listener.model)
    resynced.connect(listener.resync)
    yield listener
    tables_changed.disconnect(listener.tables)
    model_changed.disconnect(listener.model)
    resynced.disconnect(listener.resync)


async def test_a_row_deletes_its_keys_in_every_cache_of_its_rules() -> None:
    async with running() as (daemon, feed):
        fill()
        feed.say(event(PRICES, 1))
        await until(lambda: daemon.status().batches == 1)
        assert stored() == {"price:2", "other"}
        assert stored("fast") == {"price:1", "price:2", "other"}


async def test_a_change_that_concerns_neither_rules_nor_receivers_is_a_line_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def levels(table: str) -> list[str]:
        return [each.levelname for each in caplog.records if table in each.getMessage()]

    caplog.set_level(logging.DEBUG, "django_pgnudge")
    async with running() as (daemon, feed):
        feed.say(event("public.auth_user", 3))
        await until(lambda: daemon.status().batches == 1)
        feed.say(event(PRICES, 1))
        await until(lambda: daemon.status().batches == 2)
        assert levels("public.auth_user") == ["DEBUG"]
        assert levels(PRICES) == ["INFO"]


async def test_a_change_that_receivers_hear_of_is_a_line_at_info(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "django_pgnudge")
    async with running() as (daemon, feed):
        feed.say(event("public.auth_user", 3))
        await until(lambda: daemon.status().batches == 1)
    assert [each.levelname for each in caplog.records if "auth_user" in each.getMessage()] == [
        "INFO"
    ]


async def test_keys_are_gone_before_receivers_hear(heard: Heard) -> None:
    async with running() as (_, feed):
        fill()
        feed.say(event(PRICES))
        await until(lambda: heard.calls)
        assert heard.names() == ["tables"]
        assert heard.stored == [{"other"}]
        given = heard.calls[0][1]
        assert given["tables"] == {PRICES}
        assert given["models"] == frozenset()
        assert given["using"] == "default"
        assert given["batch"].payloads() == (PRICES,)


async def test_model_changed_fires_once_for_each_model(heard: Heard) -> None:
    async with running() as (_, feed):
        feed.say(event("public.auth_user", 3), "public.auth_group", "public.unknown")
        await until(lambda: len(heard.calls) == 3)
    assert heard.calls[0][1]["models"] == {User, Group}
    sent = {given["sender"]: given["event"] for name, given in heard.calls if name == "model"}
    assert sent[User].keys == {(3,)}
    assert sent[Group].keys is None


@pytest.mark.parametrize(
    ("mode", "left", "left_fast"),
    [
        ("versions", set(), set()),
        ("keys", {"other"}, {"price:1", "price:2", "other"}),
        ("clear", set(), set()),
    ],
)
async def test_a_resync_clears_by_setting_and_then_tells(
    mode: str, left: set[str], left_fast: set[str], settings: Settings, heard: Heard
) -> None:
    settings.PGNUDGE = {**settings.PGNUDGE, "RESYNC": mode}
    django_caches["default"].set("v2", 1, version=2)
    async with running() as (_, feed):
        fill()
        feed.connected()
        await until(lambda: heard.calls)
    assert heard.calls[0][0] == "resync"
    assert heard.calls[0][1]["reason"] == "connected"
    assert heard.stored == [left]
    assert stored("fast") == left_fast
    assert (django_caches["default"].get("v2", version=2) is None) == (mode == "clear")


CALLED: list[dict[str, Any]] = []


def clear_my_way(**given: Any) -> None:
    CALLED.append(given)
    if len(CALLED) < 3:
        msg = "not yet"
        raise ConnectionError(msg)


@pytest.mark.usefixtures("heard")
async def test_a_resync_of_ones_own_is_called_until_it_succeeds(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PGNUDGE = {**settings.PGNUDGE, "RESYNC": f"{__name__}.clear_my_way"}
    CALLED.clear()
    async with running() as (_, feed):
        fill()
        feed.connected("overflow")
        await until(lambda: len(CALLED) == 3)
        assert CALLED == [{"reason": "overflow", "using": "default"}] * 3
        assert stored() == {"prices", "price:1", "price:2", "other"}
    assert "clear_my_way' raised; it will be called again" in caplog.text


async def test_a_dead_cache_holds_up_neither_the_other_nor_receivers(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as (daemon, feed):
        fill()
        FlakyCache.down.add("default")
        feed.say(event(PRICES, 1))
        feed.say(event(PRICES, 2))
        await until(lambda: heard.calls and not stored("fast") & {"prices"})
        assert daemon.dispatcher.workers["default"].down_since is not None
        assert "default is down" in (daemon.dispatcher.workers["default"].last_error or "")
        assert "prices" in stored()
    assert "Cache 'default'" in caplog.text
    assert "kept and retried" in caplog.text


async def test_after_an_outage_the_whole_version_is_cleared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with running() as (daemon, feed):
        fill()
        FlakyCache.down.add("default")
        feed.say(event(PRICES, 1))
        await until(lambda: daemon.status().batches == 1)
        # What had been deleted before the outage may have come back with it.
        FlakyCache.down.discard("default")
        await until(lambda: daemon.dispatcher.workers["default"].healthy)
        assert stored() == set()
        assert "other" in stored("fast")
    assert "is back after" in caplog.text


def row_keys(changed: Event) -> list[str]:
    return [f"price:{pk}" for (pk,) in changed.keys or ()]


async def test_keys_only_an_event_could_tell_survive_the_outage(settings: Settings) -> None:
    settings.PGNUDGE = {"INVALIDATE": {PRICES: [f"{__name__}.row_keys"]}, "RESYNC": "keys"}
    async with running() as (daemon, feed):
        fill()
        FlakyCache.down.add("default")
        feed.say(event(PRICES, 1), lsn=1)
        await until(lambda: daemon.status().lsn == 1)
        feed.say(event(PRICES, 2), lsn=2)
        await until(lambda: daemon.status().lsn == 2)
        FlakyCache.down.discard("default")
        # It is healthy again after the attempt under way, which may know the first event only.
        worker = daemon.dispatcher.workers["default"]
        await until(lambda: worker.healthy and stored() == {"prices", "other"})


async def test_work_for_a_dead_cache_is_bounded_and_nothing_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.PGNUDGE = {**settings.PGNUDGE, "RESYNC": "keys"}
    monkeypatch.setattr(invalidation, "MAX_PENDING", 50)
    async with running() as (daemon, feed):
        fill()
        FlakyCache.down.add("default")
        for start in range(0, 400, 20):
            feed.say(event(PRICES, *range(start, start + 20)))
        await until(lambda: feed.items.empty() and daemon.status().batches)
        assert daemon.dispatcher.workers["default"].pending() <= 50
        FlakyCache.down.discard("default")
        # "other" too: the version, as its keys were too many. The attempt under way may know fewer.
        worker = daemon.dispatcher.workers["default"]
        await until(lambda: worker.healthy and stored() == set())


async def test_a_cache_that_hangs_is_waited_for_once_and_not_for_ever(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(receivers, "CACHE_PATIENCE", 0.05)
    async with running() as (daemon, feed):
        fill()
        FlakyCache.hang["default"] = threading.Event()
        feed.say(event(PRICES, 1))
        await until(lambda: len(heard.calls) == 1)
        monkeypatch.setattr(receivers, "CACHE_PATIENCE", 3600)
        feed.say(event(PRICES, 2))
        await until(lambda: len(heard.calls) == 2)
        # A machine may be too slow for so little patience; then this one is not waited for either.
        await until(lambda: "prices" not in stored("fast"))
        FlakyCache.hang.pop("default").set()
        await until(lambda: daemon.dispatcher.workers["default"].healthy)
        await until(lambda: stored() == {"other"})
    assert "neither answers nor fails" in caplog.text


async def test_a_question_to_a_cache_that_hangs_does_not_keep_receivers_from_hearing(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(receivers, "CACHE_PATIENCE", 0.05)
    async with running() as (_, feed):
        FlakyCache.hang["default"] = threading.Event()
        feed.say("pgnudge:settle:x", event(PRICES, 1))
        await until(lambda: "goes unanswered" in caplog.text)
        feed.say(event(PRICES, 2))
        await until(lambda: len(heard.calls) == 2)
        FlakyCache.hang.pop("default").set()


REQUEST = "0" * 32
SETTLE = f"pgnudge:settle:{REQUEST}"


def answered() -> bool:
    return REQUEST in (django_caches["default"].get(Names(IDENTITY).settled) or ())


async def test_settled_is_answered_behind_what_an_unknown_name_turns_out_to_mean() -> None:
    leaf, known = "legacy.prices_2029", asyncio.Event()
    async with running() as (daemon, feed):

        async def refresh(patience: float | None) -> bool:
            await known.wait()
            daemon.registry._catalog = Catalog(
                parents={leaf: (PRICES,)}, roots={leaf: PRICES}, identity=IDENTITY
            )
            daemon.registry._index()
            return True

        daemon.dispatcher.catalog_refresh.refresh = refresh  # type: ignore[method-assign]
        fill()
        feed.say(event(leaf, 1), SETTLE)
        feed.say(event(PRICES, 2), lsn=5)
        await until(lambda: daemon.status().lsn == 5)
        assert not answered()
        known.set()
        await until(answered)
        assert stored() == {"other"}


async def test_any_number_of_requests_to_settle_waits_in_one_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, waits = asyncio.Event(), []
    async with running() as (daemon, feed):

        async def resolve(patience: float | None) -> bool:
            waits.append(patience)
            await known.wait()
            return True

        monkeypatch.setattr(daemon.dispatcher.catalog_refresh, "resolve", resolve)
        feed.say("pgnudge:settle:first")
        await until(lambda: waits)
        for number in range(600):
            feed.say(event(PRICES), f"pgnudge:settle:{number:032x}", lsn=number)
        feed.say(event(PRICES), lsn=601)
        await until(lambda: daemon.status().lsn == 601)
        assert len(waits) == 1
        known.set()
        await until(lambda: len(waits) == 2)
        feed.say(SETTLE)
        await until(answered)


async def test_settled_is_not_answered_while_the_catalogs_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as (daemon, feed):

        async def refresh(patience: float | None) -> bool:
            return False

        daemon.dispatcher.catalog_refresh.refresh = refresh  # type: ignore[method-assign]
        feed.say(event("legacy.prices_2030", 1), SETTLE)
        await until(lambda: "goes unanswered" in caplog.text)
        assert not answered()


async def test_settled_is_not_answered_before_a_resync_of_ones_own_has_succeeded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PGNUDGE = {**settings.PGNUDGE, "RESYNC": f"{__name__}.clear_when_told"}
    MAY_CLEAR.clear()
    try:
        async with running() as (_, feed):
            feed.connected()
            feed.say(SETTLE)
            await until(lambda: "goes unanswered" in caplog.text)
            assert not answered()
            MAY_CLEAR.set()

            def at_last() -> bool:
                if feed.items.empty():
                    feed.say(SETTLE)
                return answered()

            await until(at_last)
    finally:
        MAY_CLEAR.set()


MAY_CLEAR = threading.Event()


def clear_when_told(**given: Any) -> None:
    MAY_CLEAR.wait()


async def test_settled_is_not_answered_while_a_cache_is_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as (_, feed):
        fill()
        FlakyCache.down.add("fast")
        feed.say(event(PRICES, 1), SETTLE)
        await until(lambda: "goes unanswered" in caplog.text)
        assert not answered()
        FlakyCache.down.discard("fast")


async def test_a_restarted_cache_is_cleared_though_no_delete_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = ["one"]
    monkeypatch.setattr(cache_worker, "HEARTBEAT", 0.01)
    monkeypatch.setattr(caches, "incarnation", lambda alias: run[0])
    async with running() as (daemon, feed):
        feed.say(event(PRICES, 1))
        await until(lambda: daemon.status().batches)
        await until(lambda: daemon.dispatcher.workers["default"]._incarnation == "one")
        fill()
        run[0] = "two"
        await until(lambda: stored() == set())


async def test_a_receiver_that_raises_stops_nobody(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(**given: Any) -> None:
        msg = "receiver trouble"
        raise RuntimeError(msg)

    tables_changed.connect(bad)
    # Receivers are called in the order in which they were connected.
    tables_changed.disconnect(heard.tables)
    tables_changed.connect(heard.tables)
    try:
        async with running() as (daemon, feed):
            feed.say(PRICES)
            feed.say(PRICES, lsn=7)
            await until(lambda: daemon.status().lsn == 7)
    finally:
        tables_changed.disconnect(bad)
    assert heard.names()
    assert "receiver trouble" in caplog.text


async def test_a_receiver_that_blocks_holds_up_no_deletes_and_hears_it_merged(heard: Heard) -> None:
    release = threading.Event()

    def slow(**given: Any) -> None:
        release.wait(10)

    async with running() as (_, feed):
        tables_changed.connect(slow)
        try:
            fill()
            feed.say(event(PRICES, 1))
            await until(lambda: heard.calls)
            for pk in (1, 2):
                feed.say(event(PRICES, pk))
            await until(lambda: stored() == {"other"})
            assert len(heard.calls) == 1
        finally:
            release.set()
            tables_changed.disconnect(slow)
        await until(lambda: len(heard.calls) == 2)
    merged: Event = heard.calls[1][1]["batch"].events[0]
    assert merged.keys == frozenset({(1,), (2,)})
    assert merged.count == 2


async def test_an_async_receiver_runs_on_the_daemons_loop() -> None:
    loops = []

    async def receiver(**given: Any) -> None:
        loops.append(asyncio.get_running_loop())

    tables_changed.connect(receiver)
    try:
        async with running() as (_, feed):
            feed.say(PRICES)
            await until(lambda: loops)
    finally:
        tables_changed.disconnect(receiver)
    assert loops == [asyncio.get_running_loop()]


@pytest.mark.parametrize("early", [False, True])
async def test_stop_does_not_wait_for_tables_to_be_described(
    early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as (daemon, feed):
        asked = asyncio.Event()

        async def refresh(patience: float | None) -> bool:
            # For the stream that has begun; a proof, which may ask just then, has no patience.
            if patience is not None:
                asked.set()
            await asyncio.Event().wait()
            return True

        monkeypatch.setattr(daemon.dispatcher.catalog_refresh, "refresh", refresh)
        if early:
            # While the Resync is still being dealt with.
            monkeypatch.setattr(
                daemon.dispatcher.receivers, "add_resync", lambda *given: daemon.stop()
            )
        feed.connected()
        if early:
            await until(lambda: feed.closed)
        else:
            await asked.wait()
        assert asked.is_set() is not early


async def test_a_request_waits_for_what_is_cleared_for_tenants_that_a_resync_has_learned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as (daemon, feed):
        learned, cleared = asyncio.Event(), asyncio.get_running_loop().create_future()
        answered = asyncio.Event()
        refs = iter([{"before"}, {"before", "after"}])

        async def clear() -> list[Any]:
            if learned.is_set():
                return [(SimpleNamespace(alias="default"), cleared)]
            learned.set()
            return []

        async def answer(requests: Any) -> None:
            answered.set()

        monkeypatch.setattr(daemon.dispatcher, "_clear", clear)
        monkeypatch.setattr(daemon.rules, "cache_refs", lambda: next(refs))
        monkeypatch.setattr(daemon.dispatcher.receivers, "_answer", answer)
        feed.connected()
        await until(daemon.live.is_set)
        daemon.dispatcher.receivers.add_requests(["a request"])
        for _ in range(200):
            await asyncio.sleep(0)
        assert not answered.is_set()
        cleared.set_result(cache_worker.Outcome(done=True))
        await asyncio.wait_for(answered.wait(), 10)


async def test_stop_finishes_the_batch_in_hand(heard: Heard) -> None:
    release = threading.Event()
    entered = threading.Event()

    def slow(**given: Any) -> None:
        entered.set()
        release.wait(10)

    tables_changed.connect(slow)
    try:
        async with running() as (daemon, feed):
            feed.say(PRICES, lsn=1)
            await until(entered.is_set)
            feed.say(PRICES, lsn=2)
            await until(feed.items.empty)
            daemon.stop()
            await until(lambda: feed.closed)
            assert daemon.status().lsn == 0
            release.set()
        assert daemon.status().lsn == 2
        assert len(heard.calls) == 2
    finally:
        release.set()
        tables_changed.disconnect(slow)


async def test_a_bug_of_the_feed_ends_the_daemon_with_it() -> None:
    feed = FakeFeed()
    feed.fail(ZeroDivisionError())
    daemon = Daemon(feed_class=lambda **options: feed)
    with pytest.raises(ZeroDivisionError):
        await daemon.run()
    assert feed.closed


async def test_excluded_tables_are_nobodys_business(settings: Settings, heard: Heard) -> None:
    settings.PGNUDGE = {
        **settings.PGNUDGE,
        "EXCLUDE": ["audit.*"],
        "TABLES": ["legacy.*", "audit.*"],
    }
    async with running() as (_, feed):
        assert feed.options["tables"] is None  # nothing is known of PostgreSQL's schemas
        feed.say("audit.log")
        feed.say("audit.log", PRICES)
        await until(lambda: heard.calls)
    assert [given["tables"] for _, given in heard.calls] == [{PRICES}]


async def made_feed() -> FakeFeed:
    """The feed of a daemon that knows its tables."""
    daemon = Daemon(feed_class=FakeFeed)
    daemon.dispatcher.catalog_refresh.refreshed = True

    async def refresh(patience: float | None) -> bool:
        return True

    daemon.dispatcher.catalog_refresh.refresh = refresh  # type: ignore[method-assign]
    feed: FakeFeed = await daemon._make_feed()
    return feed


async def test_the_feed_is_asked_for_the_keys_that_rules_or_receivers_use(
    heard: Heard, settings: Settings
) -> None:
    async with running() as (_, feed):
        assert feed.options["keys"] is True
    tables_changed.disconnect(heard.tables)
    model_changed.disconnect(heard.model)
    feed = await made_feed()
    assert feed.options["keys"] is True, "nudged values may stand on any row"
    settings.PGNUDGE = {**settings.PGNUDGE, "NUDGED": {"CACHES": []}}
    feed = await made_feed()
    assert PRICES in feed.options["keys"]  # and the tables of the test app's rules


async def test_settings_and_options_reach_the_feed(settings: Settings) -> None:
    settings.PGNUDGE = {
        "PLUGIN": "wal2json", "PUBLICATION": "p", "FEED": {"debounce": 1.0, "failsafe": 9.0}
    }  # fmt: skip
    async with running(plugin="pgoutput", feed_options={"debounce": 2.0}) as (_, feed):
        options = feed.options
    assert options["host"] == "nowhere"
    assert (options["plugin"], options["publication"]) == ("pgoutput", "p")
    assert (options["debounce"], options["failsafe"]) == (2.0, 9.0)


def attached_to_prices(leaf: str, **more: Any) -> Catalog:
    key = (KeyColumn("code", "text"),)
    return Catalog(
        parents={leaf: (PRICES,)},
        roots={leaf: PRICES},
        primary_keys={leaf: key, PRICES: key},
        **more,
    )


async def test_a_partition_made_meanwhile_nudges_its_root_once_it_is_known(heard: Heard) -> None:
    leaf = "legacy.prices_2027"

    made = False

    def learn(registry: Any) -> None:
        if not made:
            return
        registry._catalog = attached_to_prices(leaf)
        registry._index()

    async with running(tables=learn) as (_, feed):
        fill()
        made = True
        feed.say(event(leaf, 1))
        await until(lambda: stored() == {"price:2", "other"})
        await until(lambda: any(PRICES in given["tables"] for _, given in heard.calls))
        before = len(heard.calls)
        feed.say(event(leaf, 2), event(PRICES, 3))
        await until(lambda: len(heard.calls) > before)
    assert heard.calls[-1][1]["tables"] == {PRICES}
    assert heard.calls[-1][1]["batch"].events[0].keys == {(2,), (3,)}


async def test_a_table_attached_as_a_partition_later_is_found_though_it_was_not_selected(
    settings: Settings, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_refresh, "STALE_AFTER", 0.0)
    settings.PGNUDGE = {**settings.PGNUDGE, "TABLES": [PRICES]}
    leaf, tables = "legacy.loaded", {"legacy.loaded": ("legacy", "loaded")}
    attached = False

    def learn(registry: Any) -> None:
        registry._catalog = (
            attached_to_prices(leaf, tables=tables) if attached else Catalog(tables=tables)
        )
        registry._index()

    async with running(tables=learn) as (_, feed):
        feed.connected()
        await until(lambda: heard.calls)
        fill()
        attached = True
        feed.say(event(leaf, 1))
        await until(lambda: stored() == {"price:2", "other"})
        await until(lambda: len(heard.calls) == 2)
    assert heard.calls[1][1]["tables"] == {PRICES}


async def test_a_partition_is_kept_in_mind_while_the_catalogs_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog_refresh, "RETRY_REFRESH", 0.001)
    leaf = "legacy.prices_2028"
    tries = []
    async with running() as (daemon, feed):

        async def refresh(patience: float | None) -> bool:
            tries.append(daemon.dispatcher.catalog_refresh._unresolved)
            if len(tries) < 3:
                return False
            daemon.registry._catalog = attached_to_prices(leaf)
            daemon.registry._index()
            return True

        daemon.dispatcher.catalog_refresh.refresh = refresh  # type: ignore[method-assign]
        fill()
        feed.say(event(leaf, 1))
        await until(lambda: stored() == {"price:2", "other"})
    assert len(tries) == 3


async def test_catalogs_are_read_now_and_then_for_tables_that_mean_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = []

    def learn(registry: Any) -> None:
        reads.append(1)
        registry._catalog = Catalog(tables={"legacy.log": ("legacy", "log")})
        registry._index()

    async with running(tables=learn) as (daemon, feed):
        for lsn in range(1, 20):
            feed.say("legacy.log", lsn=lsn)
        await until(lambda: daemon.status().lsn == 19)
        assert len(reads) == 1
        assert [event.count for event in daemon.dispatcher.catalog_refresh._unresolved] == [19]


QUERIED: list[str] = []


def price_keys(changed: Event) -> list[str]:
    QUERIED.append(threading.current_thread().name)
    return ["price:2"]


async def test_callables_of_rules_run_in_a_thread_where_they_may_query(
    settings: Settings,
) -> None:
    settings.PGNUDGE = {"INVALIDATE": {PRICES: [f"{__name__}.price_keys"]}}
    QUERIED.clear()
    async with running() as (_, feed):
        fill()
        feed.say(event(PRICES, 1))
        await until(lambda: stored() == {"prices", "price:1", "other"})
    assert QUERIED == ["pgnudge rules"]


RETURNS = threading.Event()


def hangs(changed: Event) -> list[str]:
    RETURNS.wait()
    return ["price:1"]


def exits(changed: Event) -> list[str]:
    raise SystemExit


async def test_a_callable_that_hangs_costs_its_version_and_holds_up_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PGNUDGE = {
        "INVALIDATE": {
            PRICES: [f"{__name__}.hangs", {"keys": ["prices"], "cache": "fast"}],
            "legacy.log": ["other"],
        }
    }
    monkeypatch.setattr(rule_callables, "PATIENCE", 0.05)
    RETURNS.clear()
    try:
        async with running() as (daemon, feed):
            fill()
            feed.say(event(PRICES, 1))
            await until(lambda: stored() == set())
            await until(lambda: stored("fast") == {"price:1", "price:2", "other"})
            monkeypatch.setattr(rule_callables, "PATIENCE", 3600)
            fill()
            feed.say("legacy.log")
            await until(lambda: stored() == {"prices", "price:1", "price:2"})
            feed.say(event(PRICES, 1))
            await until(lambda: stored() == set())
            RETURNS.set()

            def answers_again() -> bool:
                if feed.items.empty():
                    feed.say(event(PRICES, 1))
                return "answer again" in caplog.text

            await until(answers_again)
            # Whatever was still to be cleared for the silence is, when this has been published.
            feed.say(event(PRICES, 1), lsn=1)
            await until(lambda: daemon.status().lsn == 1)
            fill()
            feed.say(event(PRICES, 1))
            await until(lambda: stored() == {"prices", "price:2", "other"})
    finally:
        RETURNS.set()
    assert caplog.text.count("has not returned for 0.05 s") == 1


async def test_what_needs_no_callable_does_not_wait_for_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PGNUDGE = {
        "INVALIDATE": {PRICES: [f"{__name__}.hangs"], "legacy.log": ["other"]}
    }  # fmt: skip
    monkeypatch.setattr(rule_callables, "PATIENCE", 3600)
    RETURNS.clear()
    try:
        async with running() as (daemon, feed):
            fill()
            feed.say(event(PRICES, 1), event("legacy.log"))
            await until(lambda: stored() == {"prices", "price:1", "price:2"})
            assert daemon.status().batches == 0
            RETURNS.set()
            await until(lambda: stored() == {"prices", "price:2"})
    finally:
        RETURNS.set()


async def test_a_callable_that_hangs_holds_up_no_resync_by_keys(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PGNUDGE = {
        "INVALIDATE": {PRICES: [f"{__name__}.hangs", {"keys": ["prices"], "cache": "fast"}]},
        "RESYNC": "keys",
    }
    monkeypatch.setattr(rule_callables, "PATIENCE", 0.05)
    RETURNS.clear()
    try:
        async with running() as (_, feed):
            for _ in range(2):
                fill()
                feed.connected()
                await until(lambda: stored() == set())
                await until(lambda: stored("fast") == {"price:1", "price:2", "other"})
    finally:
        RETURNS.set()
    assert caplog.text.count("has not returned") == 1


async def test_a_callable_that_exits_costs_its_version_but_no_session(settings: Settings) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.PGNUDGE = {"INVALIDATE": {PRICES: [f"{__name__}.exits"]}}
    session = "django.contrib.sessions.cacheabc"
    async with running() as (_, feed):
        fill()
        django_caches["default"].set(session, 1)
        feed.say(event(PRICES, 1))
        await until(lambda: stored() == set())
        assert stored("default", session) == {session}


async def test_a_backend_without_patterns_says_what_it_did_not_delete(
    settings: Settings, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    files = {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(tmp_path),
    }
    settings.CACHES = {"default": files, "fast": files}
    async with running() as (daemon, feed):
        fill()
        feed.say(event(PRICES))
        feed.say(event(PRICES), lsn=2)
        await until(lambda: daemon.status().lsn == 2)
        assert django_caches["default"].get("prices") is None
        assert django_caches["default"].get("price:1") == 1
        feed.connected()
        await until(lambda: "cannot list its keys" in caplog.text)
        settings.PGNUDGE = {**settings.PGNUDGE, "RESYNC": "clear"}
        feed.say(event(PRICES))
        await until(lambda: django_caches["default"].get("other") is None)
        assert daemon.dispatcher.workers["default"].healthy
    assert caplog.text.count("'default' (FileBasedCache) cannot delete by pattern") == 1


async def test_a_line_for_connect_resync_and_batch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running() as (daemon, feed):
        fill()
        feed.connected()
        await until(lambda: daemon.status().resyncs)
        feed.connected("reconnected")
        fill()
        feed.say(event(PRICES, 1, count=5), *(f"public.t{n}" for n in range(7)), committed_at=1.0)
        await until(lambda: daemon.status().batches)
    assert "1 batch, " in caplog.messages[-1]
    assert "2 Resyncs, 0 outages of caches" in caplog.messages[-1]
    lines = {record.getMessage().split()[0]: record for record in caplog.records}
    text = caplog.text
    assert "Connected to PostgreSQL 15.20 (database alias 'default') through test_decoding" in text
    assert "Resync (connected)" in text
    assert lines["Resync"].levelno == logging.WARNING
    assert f"{PRICES} (5 rows), public.t0 (1 row)" in text
    assert "3 more tables: " in text
    assert "ms from commit" in text


async def test_servers_that_do_not_answer_cost_one_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[threading.Thread] = []

    def find(using: str) -> dict[str, Any]:
        tries.append(threading.current_thread())
        if len(tries) < 3:
            msg = "None of the hosts answers."
            raise ConnectionLostError(msg)
        return {"host": "nowhere"}

    monkeypatch.setattr(daemon_module, "feed_connection", find)
    async with running():
        pass
    assert len(tries) == 3
    assert len(set(tries)) == 1
    assert "None of the hosts answers. Retrying." in caplog.text


async def test_a_reconnect_asks_again_where_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {"host": "first", "port": 1, "ssl": False, "connect_timeout": 3.0}
    monkeypatch.setattr(daemon_module, "feed_connection", lambda using: found)
    async with running() as (daemon, feed):
        found = found | {"host": "second"}
        assert await feed.options["locate"]() == {"host": "second", "port": 1, "ssl": False}

        def gone(using: str) -> dict[str, Any]:
            msg = "the service file has gone"
            raise ConfigError(msg)

        monkeypatch.setattr(daemon_module, "feed_connection", gone)
        with pytest.raises(ConfigError):
            await feed.options["locate"]()
        daemon.connected = True  # what was right once may be again
        with pytest.raises(ConnectionLostError, match="service file"):
            await feed.options["locate"]()


async def test_a_permanent_mistake_ends_a_start_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    daemon = Daemon(feed_class=FakeFeed)
    wrong = ServerError("password authentication failed", sqlstate="28P01")
    assert not daemon._give_up(ConnectionLostError("refused"))
    assert daemon._give_up(wrong)
    daemon.connected = True
    for _ in range(3):
        assert not daemon._give_up(wrong)
    assert caplog.text.count("waiting will not help") == 1
