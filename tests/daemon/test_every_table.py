"""A rule for every table: one round of deletes a batch, also where only clear() is possible."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from django_pgnudge import caches, page
from django_pgnudge.daemon import Daemon
from django_pgnudge.daemon import core as daemon_module
from tests.fakes import FakeFeed, event
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pytest_django.fixtures import Settings


@asynccontextmanager
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeFeed]:
    monkeypatch.setattr(daemon_module, "feed_connection", lambda using: {"host": "nowhere"})
    feeds: list[FakeFeed] = []

    def make(**given: Any) -> FakeFeed:
        feeds.append(FakeFeed(**given))
        return feeds[-1]

    daemon = Daemon(feed_class=make)

    async def refresh(patience: float | None) -> bool:
        return True

    daemon.dispatcher.catalog_refresh.refresh = refresh  # type: ignore[method-assign]
    task = asyncio.create_task(daemon.run())
    try:
        await until(lambda: feeds)
        yield feeds[0]
    finally:
        daemon.stop()
        async with asyncio.timeout(10):
            await task


async def test_a_batch_of_many_tables_is_one_round(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PGNUDGE = {"INVALIDATE": {"*": [page(prefix="*"), "menu"]}}
    rounds: list[Any] = []
    run = caches.run

    def counted(alias: str, given: Any) -> Any:
        rounds.extend(given.deletes.values())
        return run(alias, given)

    monkeypatch.setattr(caches, "run", counted)
    async with running(monkeypatch) as feed:
        feed.say(*(event(f"public.table_{number}", 1, 2) for number in range(50)))
        await until(lambda: rounds)
    (deletes,) = rounds
    assert deletes.keys == {"menu"}
    assert len(deletes.patterns) == 2


async def test_a_cache_without_patterns_is_cleared(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.CACHES = {
        "default": settings.CACHES["default"],
        "fast": settings.CACHES["fast"],
        "pages": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": tmp_path,
        },
    }
    settings.PGNUDGE = {"INVALIDATE": {"*": {"keys": "*", "cache": "pages"}}, "RESYNC": "clear"}
    django_caches["pages"].set("page", 1)
    async with running(monkeypatch) as feed:
        feed.say("public.anything")
        await until(lambda: django_caches["pages"].get("page") is None)
