"""What is to be deleted in one cache: it merges, it is bounded, and it can be repeated later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from django_pgnudge.caches import Mark, Round
from django_pgnudge.caches.store import CHUNK
from django_pgnudge.rules import CacheRef, Deletes
from django_pgnudge.third_party import Rows, Table

SHARES: Final = 4
"""What comes within this part of a delay is deleted again together."""

MAX_PENDING: Final = 100_000
"""Keys kept for a cache that is down; past them its whole versions are cleared instead."""


@dataclass(slots=True)
class Invalidation:
    """What is to be deleted in one alias."""

    deletes: dict[CacheRef, Deletes] = field(default_factory=dict)
    versions: set[CacheRef] = field(default_factory=set)
    everything: bool = False
    tokens: set[str] = field(default_factory=set)
    """Tokens of nudged values."""
    epoch: bool = False
    """Whether all nudged values end, those of tokens that nobody can name too."""
    changes: dict[Table, Rows] = field(default_factory=dict)
    """Tables that changed, for the cache of a third-party package."""
    later: dict[float, Invalidation] = field(default_factory=dict)
    """What to do once more, by the seconds to wait; not part of the work itself."""

    def __bool__(self) -> bool:
        return bool(
            self.deletes
            or self.versions
            or self.everything
            or self.tokens
            or self.epoch
            or self.changes
        )

    def size(self) -> int:
        keys = sum(len(deletes.keys) + len(deletes.patterns) for deletes in self.deletes.values())
        rows = sum(1 if rows is None else len(rows) for rows in self.changes.values())
        return keys + len(self.tokens) + rows

    def is_plain(self) -> bool:
        """Whether it is so few plain keys and tokens that one command of each kind will do."""
        return not (
            self.versions
            or self.everything
            or self.epoch
            or any(deletes.patterns for deletes in self.deletes.values())
            or self.size() > CHUNK
        )

    def add(self, ref: CacheRef, deletes: Deletes) -> None:
        """Merge; ``deletes`` is copied, never kept."""
        if deletes.whole:
            self.versions.add(ref)
        mine = self.deletes.get(ref)
        if mine is None:
            self.deletes[ref] = Deletes(keys=set(deletes.keys), patterns=set(deletes.patterns))
        else:
            mine.keys |= deletes.keys
            mine.patterns |= deletes.patterns
        for delay, again in deletes.later.items():
            self.later.setdefault(delay, Invalidation()).add(ref, again)

    def add_change(self, table: Table, rows: Rows) -> None:
        """Rows of a table, None for any, changed."""
        known = self.changes.get(table, frozenset())
        self.changes[table] = None if known is None or rows is None else known | rows

    def bound(self) -> None:
        """Forget single keys and rows past the limit, for whole versions, tables and the epoch."""
        if self.size() > MAX_PENDING:
            self.changes = dict.fromkeys(self.changes)
            self.versions |= set(self.deletes)
            self.deletes.clear()
            if self.tokens:
                self.tokens = set()
                self.epoch = True

    def merge(self, other: Invalidation) -> None:
        for ref, deletes in other.deletes.items():
            self.add(ref, deletes)
        self.versions |= other.versions
        self.everything |= other.everything
        self.tokens |= other.tokens
        self.epoch |= other.epoch
        for table, rows in other.changes.items():
            self.add_change(table, rows)

    def begins_epoch(self) -> bool:
        """Whether what proves nudged values may be among what is deleted."""
        return bool(self.epoch or self.versions or self.everything)

    def round(self, mark: Mark | None = None) -> Round:
        """What to run, ``everything`` and the epoch aside."""
        return Round(self.tokens, self.deletes, self.versions, mark)


class Repeater:
    """Submits work a second time, ``delay`` seconds later or a little more.

    Memory is bounded: of each cache and delay there are a few gatherings at a time, each of which
    is bounded as a worker's own work is.
    """

    def __init__(self, submit: Callable[[str, Invalidation], object]) -> None:
        self._submit = submit
        self._open: dict[tuple[str, float], Invalidation] = {}

    def add(self, alias: str, later: dict[float, Invalidation]) -> None:
        """Take over ``later``: work by the seconds to wait. Call from the event loop."""
        loop = asyncio.get_running_loop()
        for delay, invalidation in later.items():
            gathering = self._open.get((alias, delay))
            if gathering is None:
                gathering = self._open[alias, delay] = Invalidation()
                # Whoever comes last into a gathering waits for the whole delay too.
                loop.call_later(delay / SHARES, self._open.pop, (alias, delay))
                loop.call_later(delay + delay / SHARES, self._submit, alias, gathering)
            gathering.merge(invalidation)
            gathering.bound()
