"""What the daemon knows of the memory of one cache that holds nudged values: mark and epoch.

The mark is a number in the cache that every round of deletes changes. A cache that has forgotten
rounds, since it restarted with an older memory or a replica took over, has an older number, or
none. Then its tokens may be such as had been ended, and nothing stored under them may be
served again: a new epoch begins.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from django_pgnudge import caches
from django_pgnudge.caches.value_store import MARK_TIMEOUT, Mark
from django_pgnudge.errors import CacheError
from django_pgnudge.reader.keys import Lease, Names

if TYPE_CHECKING:
    from collections.abc import Collection


class CacheMemory:
    """Used in the thread of the cache's worker."""

    def __init__(self, alias: str, names: Names) -> None:
        self.alias = alias
        self.names = names
        self.mark = names.mark(secrets.token_hex(8))
        self.epoch = ""
        """What every entry names that may be served under this daemon's lease."""
        self.began_at = 0.0
        """When the lease that there was had been deleted, for the epoch to begin; in seconds by
        the clock of the cache."""
        self.number: int | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a number to count on from."""
        return self.number is not None

    def begin(self) -> None:
        """Delete the lease, and begin a new epoch and a mark at a number no older memory holds."""
        with caches.writing_value_store(self.alias) as values:
            values.delete([self.names.lease])
            number = secrets.randbits(40)
            values.set(self.mark, number, MARK_TIMEOUT)
            self.began_at = values.now(self.names.lease)
        self.number = number
        self.epoch = secrets.token_hex(8)

    def next_mark(self) -> Mark:
        """What the next round expects and raises."""
        assert self.number is not None
        raised = caches.values(self.alias).next_mark(self.number)
        return Mark(self.mark, self.names.lease, self.number, raised)

    def took(self, mark: Mark, marked: bool) -> bool:
        """A round has raised the mark; False if the mark was not the one expected: the cache has
        forgotten something since the last round."""
        if marked:
            # Else the next look shows it too, and what follows from it.
            self.number = mark.raised
        return marked

    def count(self, ended: Collection[str]) -> bool:
        """Raise the mark behind a round that ends these tokens, and delete them in the same step.

        False if the cache has forgotten something: then a new epoch has begun.
        """
        remembers = True
        for _ in range(3):
            if self.begun:
                if self.look(ended) is not None:
                    return remembers
                remembers = False
            self.begin()
        raise CacheError(f"cache {self.alias!r} forgets what it was told a moment ago")

    def look(self, ended: Collection[str] = ()) -> tuple[Lease | None, float, bool] | None:
        """The lease there is, the time, and whether all have one clock, with the mark raised and
        tokens ``ended`` in the same step; None if the cache has forgotten something.
        """
        mark = self.next_mark()
        with caches.writing_value_store(self.alias) as values:
            seen = values.witness(mark, ended)
            one_clock = values.one_clock
        if not self.took(mark, seen.marked):
            self.number = None
            return None
        return Lease.parse(seen.lease or ""), seen.now, one_clock
