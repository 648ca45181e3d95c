"""What a batch and a Resync mean for the caches of third-party packages.

Each has a worker as a cache of rules has: failures are retried, what comes meanwhile merges, and
after an outage or a restart of its server all of it is invalidated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django_pgnudge.daemon.cache_worker import CacheWorker
from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.decoding.nudges import is_nudge
from django_pgnudge.errors import CacheError, PgNudgeError
from django_pgnudge.memo import Memo
from django_pgnudge.signals import between_requests
from django_pgnudge.third_party import Rows, Table, ThirdPartyCache, registered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_pgnudge.events import Event
    from django_pgnudge.registry import Registry

AGAIN: Final = 5.0
"""Seconds after which all is done once more: a reader that read before a commit may have filled
the cache behind the first time. These packages cannot tell."""

MAX_TABLES: Final = 10_000
"""Payloads whose parents and partitions are remembered."""


class ThirdPartyWorker(CacheWorker):
    """Invalidates one package's cache, in a thread of its own."""

    def __init__(self, cache: ThirdPartyCache, registry: Registry) -> None:
        super().__init__(
            cache.name,
            recovery=lambda alias: Invalidation(everything=True),
            fallback=lambda alias, refusals: Invalidation(),
        )
        self._cache = cache
        self._registry = registry

    def _perform(self, invalidation: Invalidation) -> int:
        if not invalidation:
            return 0
        try:
            with between_requests():
                if invalidation.everything:
                    return self._cache.invalidate_all(self._registry)
                return self._cache.invalidate(invalidation.changes, self._registry)
        except PgNudgeError:
            raise
        except Exception as exc:
            raise CacheError(f"{self.alias} failed: {type(exc).__name__}: {exc}") from exc

    def _ask_incarnation(self) -> str | None:
        return self._cache.incarnation()

    def _open_pipeline(self) -> None:
        """There is none."""


class ThirdParty:
    """The registered caches, and what is to be invalidated in each."""

    def __init__(self, registry: Registry) -> None:
        caches = registered()
        self.workers = {cache.name: ThirdPartyWorker(cache, registry) for cache in caches}
        self.wants_rows = any(cache.wants_rows for cache in caches)
        self._registry = registry
        self._generation = -1
        self._concerned: Memo[str, tuple[tuple[str, bool], ...]] = Memo(MAX_TABLES)

    def changed(self, events: Iterable[Event]) -> dict[str, Invalidation]:
        """What to invalidate for changes, by worker."""
        if not self.workers:
            return {}
        now = Invalidation()
        for event in events:
            for payload, above in self._tables(event.payload):
                rows = self._rows(event, payload) if above and self.wants_rows else None
                now.add_change(Table(*self._registry.split(payload)), rows)
        return self._for_all(now) if now else {}

    def everything(self) -> dict[str, Invalidation]:
        """What to invalidate when anything may have changed, by worker."""
        return self._for_all(Invalidation(everything=True))

    def _for_all(self, now: Invalidation) -> dict[str, Invalidation]:
        found = {}
        for name in self.workers:
            found[name] = Invalidation(later={AGAIN: Invalidation()})
            found[name].merge(now)
            found[name].later[AGAIN].merge(now)
        return found

    def _tables(self, payload: str) -> tuple[tuple[str, bool], ...]:
        """The tables that a change concerns, and whether each is the table or above it.

        A change of a parent may be a change of its partitions, as a publication can tell it.
        """
        if is_nudge(payload):
            return ()
        if self._generation != self._registry.generation:
            self._concerned.clear()
            self._generation = self._registry.generation
        found = self._concerned.get(payload)
        if found is None:
            found = (
                *((each, True) for each in self._registry.lineage(payload)),
                *((each, False) for each in self._registry.descendants(payload)),
            )
            self._concerned[payload] = found
        return found

    def _rows(self, event: Event, payload: str) -> Rows:
        if event.keys is None:
            return None
        rows = set()
        for key in event.keys:
            row = self._registry.pk_values(event.payload, key, payload)
            if row is None:
                return None
            rows.add(row)
        return frozenset(rows)
