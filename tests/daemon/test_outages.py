"""daemon/cache_worker.py in a daemon: caches that are away, hang or come back."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from django_pgnudge import caches
from django_pgnudge.daemon import cache_worker, invalidation, receivers
from tests.daemon.running import PRICES, Heard, fill, running, stored
from tests.fakes import FlakyCache, event
from tests.waiting import until

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

    from django_pgnudge.events import Event

pytestmark = pytest.mark.usefixtures("flaky_caches")


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


async def test_a_restarted_cache_is_cleared_though_no_delete_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, asked = ["one"], set()

    def incarnation(alias: str) -> str:
        asked.add((alias, run[0]))
        return run[0]

    monkeypatch.setattr(cache_worker, "HEARTBEAT", 0.01)
    monkeypatch.setattr(caches, "incarnation", incarnation)
    async with running() as (daemon, feed):
        feed.say(event(PRICES, 1))
        await until(lambda: daemon.status().batches)
        await until(lambda: ("default", "one") in asked)
        fill()
        run[0] = "two"
        await until(lambda: stored() == set())
