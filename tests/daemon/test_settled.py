"""daemon/receivers.py: when a request to settle is answered."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from django_pgnudge.daemon import cache_worker, receivers
from django_pgnudge.reader.keys import Names
from django_pgnudge.registry.catalog import Catalog
from tests.daemon.running import IDENTITY, PRICES, Heard, fill, running, stored
from tests.fakes import FlakyCache, describe, event
from tests.waiting import until

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = pytest.mark.usefixtures("flaky_caches")


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
            parents, roots = {leaf: (PRICES,)}, {leaf: PRICES}
            describe(daemon.registry, Catalog(parents=parents, roots=roots, identity=IDENTITY))
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
