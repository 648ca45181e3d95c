"""What is to be deleted in one cache: it merges, it is bounded, and it can be repeated later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from django_pgnudge.caches import Mark, Round
from django_pgnudge.caches.store import CHUNK
from django_pgnudge.rules import CacheRef, Kills

SHARES: Final = 4
"""What comes within this part of a delay is deleted again together."""

MAX_PENDING: Final = 100_000
"""Keys kept for a cache that is down; past them its whole versions are cleared instead."""


@dataclass(slots=True)
class Invalidation:
    """What is to be deleted in one alias."""

    kills: dict[CacheRef, Kills] = field(default_factory=dict)
    versions: set[CacheRef] = field(default_factory=set)
    everything: bool = False
    tokens: set[str] = field(default_factory=set)
    """Tokens of nudged values."""
    epoch: bool = False
    """Whether all nudged values end, those of tokens that nobody can name too."""
    later: dict[float, Invalidation] = field(default_factory=dict)
    """What to do once more, by the seconds to wait; not part of the work itself."""

    def __bool__(self) -> bool:
        return bool(self.kills or self.versions or self.everything or self.tokens or self.epoch)

    def size(self) -> int:
        keys = sum(len(kills.keys) + len(kills.patterns) for kills in self.kills.values())
        return keys + len(self.tokens)

    def is_plain(self) -> bool:
        """Whether it is so few plain keys and tokens that one command of each kind will do."""
        return not (
            self.versions
            or self.everything
            or self.epoch
            or any(kills.patterns for kills in self.kills.values())
            or self.size() > CHUNK
        )

    def add(self, ref: CacheRef, kills: Kills) -> None:
        """Merge; ``kills`` is copied, never kept."""
        if kills.whole:
            self.versions.add(ref)
        mine = self.kills.get(ref)
        if mine is None:
            self.kills[ref] = Kills(keys=set(kills.keys), patterns=set(kills.patterns))
        else:
            mine.keys |= kills.keys
            mine.patterns |= kills.patterns
        for delay, again in kills.later.items():
            self.later.setdefault(delay, Invalidation()).add(ref, again)

    def bound(self) -> None:
        """Forget single keys past the limit, for whole versions and the epoch."""
        if self.size() > MAX_PENDING:
            self.versions |= set(self.kills)
            self.kills.clear()
            if self.tokens:
                self.tokens = set()
                self.epoch = True

    def merge(self, other: Invalidation) -> None:
        for ref, kills in other.kills.items():
            self.add(ref, kills)
        self.versions |= other.versions
        self.everything |= other.everything
        self.tokens |= other.tokens
        self.epoch |= other.epoch

    def begins_epoch(self) -> bool:
        """Whether what proves nudged values may be among what is deleted."""
        return bool(self.epoch or self.versions or self.everything)

    def round(self, mark: Mark | None = None) -> Round:
        """What to run, ``everything`` and the epoch aside."""
        return Round(self.tokens, self.kills, self.versions, mark)


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
