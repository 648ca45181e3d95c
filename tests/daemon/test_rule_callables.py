"""daemon/rule_callables.py: callables of rules run in a thread, and hold nothing up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from django.core.cache import caches as django_caches

from django_pgnudge.daemon import rule_callables
from tests.daemon.running import PRICES, fill, running, stored
from tests.fakes import event
from tests.waiting import until

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

    from django_pgnudge.events import Event

pytestmark = pytest.mark.usefixtures("flaky_caches")

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
