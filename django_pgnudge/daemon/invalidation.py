"""What is to be deleted in one cache: it merges, it is bounded, and it can be done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from django_pgnudge import caches
from django_pgnudge.caches.store import CHUNK
from django_pgnudge.errors import UnsupportedError
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

    def perform(self, alias: str) -> tuple[int, list[Refusal]]:
        """Delete: how many keys, and what the backend cannot do. May be repeated after an error."""
        if self.everything:
            caches.clear(alias)
            return 0, []
        # First, since readers trust them.
        if self.tokens:
            with caches.writing_value_store(alias) as values:
                values.delete(self.tokens)
        count = 0
        refusals = []
        # The keys first: they are quick, and what stops a version must not keep them alive.
        for ref, kills in self.kills.items():
            try:
                count += caches.delete(ref, kills)
            except UnsupportedError as exc:
                refusals.append(Refusal(ref, exc))
        for ref in self.versions:
            try:
                count += caches.clear_version(ref)
            except UnsupportedError as exc:
                refusals.append(Refusal(ref, exc, whole_version=True))
        return count, refusals


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something the backend cannot do at all."""

    ref: CacheRef
    error: UnsupportedError
    whole_version: bool = False


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
