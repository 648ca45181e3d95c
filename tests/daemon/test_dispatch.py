"""daemon/dispatch.py: what a batch deletes, and what is said of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from tests.daemon.running import PRICES, Heard, fill, running, stored
from tests.fakes import event
from tests.waiting import until

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = pytest.mark.usefixtures("flaky_caches")


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
