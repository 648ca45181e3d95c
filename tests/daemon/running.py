"""A daemon on a feed that is a fake, and two caches that fail when told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.cache import caches as django_caches

from django_pgnudge.daemon import Daemon
from django_pgnudge.registry.catalog import Catalog
from tests.fakes import FakeFeed, FlakyCache, describe
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FLAKY = "tests.fakes.FlakyCache"
PRICES = "legacy.prices"
IDENTITY = "identity"


@asynccontextmanager
async def running(
    *, catalog: Callable[[], Catalog] = Catalog, described: bool = False, **options: Any
) -> AsyncIterator[tuple[Daemon, FakeFeed]]:
    """A daemon that has connected, with its feed; stopped afterwards.

    ``catalog`` is what a look at the database finds, and ``described`` whether the database counts
    as looked at before the feed is made.
    """
    feeds: list[FakeFeed] = []

    def make(**given: Any) -> FakeFeed:
        feeds.append(FakeFeed(**given))
        return feeds[-1]

    daemon = Daemon(feed_class=make, **options)

    async def refresh(patience: float | None) -> bool:
        describe(daemon.registry, replace(catalog(), identity=IDENTITY))
        daemon.dispatcher.catalog_refresh.refreshed = described
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
    cache = django_caches[alias]
    assert isinstance(cache, FlakyCache)
    return cache.names().intersection(names)


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
