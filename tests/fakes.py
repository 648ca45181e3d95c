"""A feed that says what a test tells it, and caches that fail when told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from django.core.cache.backends.locmem import LocMemCache
from django.db import connections

from django_pgnudge.errors import ConnectionLostError
from django_pgnudge.events import Batch, Event, Resync
from django_pgnudge.feed.fingerprint import Fingerprint, Moved
from django_pgnudge.feed.survey import Survey
from django_pgnudge.registry import models

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from django_pgnudge.events import FeedItem, Key, ResyncReason
    from django_pgnudge.registry import Registry
    from django_pgnudge.registry.catalog import Catalog


async def _nothing() -> object:
    return None


class FakeFeed:
    """Stands in for WalFeed: ``say`` what it yields, look at ``options`` and ``closed``."""

    server_version = 150020
    plugin_in_use = "test_decoding"
    slot_name: str | None = "pgnudge_fake"

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.items: asyncio.Queue[FeedItem | Exception] = asyncio.Queue()
        self.closed = False
        self.current = True
        """Whether a proof succeeds."""
        self.tables: frozenset[str] = frozenset()
        """What is covered."""
        self.moved = Moved()
        """What has moved of the map, until it is accepted."""
        self.relearned: list[Survey] = []
        self.caught_up: Callable[[], Awaitable[object]] = _nothing
        self.surveyed: Callable[[], Awaitable[object]] = _nothing
        """What catching up, and a survey, wait for."""

    async def catch_up(self) -> None:
        await self.caught_up()
        if not self.current:
            raise ConnectionLostError("the fake feed is not current")

    async def survey(self) -> Survey:
        await self.surveyed()
        stream: Any = None
        return Survey(stream, self.tables, self.moved, Fingerprint({}), steady=True)

    async def relearn(self, survey: Survey) -> None:
        self.relearned.append(survey)

    def accept(self, survey: Survey) -> None:
        self.moved = Moved()

    def connected(self, reason: ResyncReason = "connected") -> None:
        self.items.put_nowait(Resync(reason))

    def say(self, *events: Event | str, lsn: int = 0, committed_at: float | None = None) -> None:
        made = tuple(Event(e, 0.0) if isinstance(e, str) else e for e in events)
        self.items.put_nowait(Batch(made, lsn, committed_at))

    def fail(self, error: Exception) -> None:
        self.items.put_nowait(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.closed = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FeedItem:
        item = await self.items.get()
        if isinstance(item, Exception):
            raise item
        return item


def event(payload: str, *pks: int, keys: Collection[Key] | None = None, count: int = 1) -> Event:
    """An event for rows with these single-column keys; of any row if none are given."""
    if pks:
        keys = [(pk,) for pk in pks]
    return Event(payload, 0.0, count, frozenset(keys) if keys is not None else None)


def describe(registry: Registry, catalog: Catalog) -> None:
    """Let a registry read this of its database."""
    with mock.patch.object(models, "read_catalog", return_value=catalog):
        registry.refresh(connections["default"])


class FlakyCache(LocMemCache):
    """Local memory that is down, or hangs, when told by alias."""

    down: set[str] = set()
    hang: dict[str, Any] = {}

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__(name, params)
        self._name = name

    def make_key(self, key: str, version: int | None = None) -> str:
        if self._name in self.hang:
            self.hang[self._name].wait()
        if self._name in self.down:
            msg = f"{self._name} is down"
            raise ConnectionError(msg)
        return str(super().make_key(key, version))

    def names(self) -> set[str]:
        """The keys that it holds, also while it is away."""
        return {key.split(":", 2)[2] for key in self._cache}  # type: ignore[attr-defined]
