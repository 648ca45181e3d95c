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
from django_pgnudge.caches.value_store import MARK_TIMEOUT
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

    def next_mark(self) -> int:
        """What the next round raises the mark to."""
        assert self.number is not None
        return caches.values(self.alias).next_mark(self.number)

    def raised(self, before: str | None, number: int) -> bool:
        """The mark was raised to ``number``; False if what it was ``before`` shows that the cache
        has forgotten something since the last round.
        """
        stands = before == str(self.number)
        if stands:
            # Else the next count shows it too, and what follows from it.
            self.number = number
        return stands

    def count(self, ended: Collection[str] = ()) -> bool:
        """Count a round that ends these tokens, and delete them in the same step; False as for
        `raised`."""
        return self.number is not None and self.look(ended) is not None

    def look(self, ended: Collection[str] = ()) -> tuple[Lease | None, float, bool] | None:
        """The lease there is, the time, and whether all have one clock, with a round counted and
        tokens ``ended`` in the same step; None as for `raised`.
        """
        assert self.number is not None
        with caches.writing_value_store(self.alias) as values:
            seen = values.witness(self.names.lease, self.mark, self.number, ended)
            one_clock = values.one_clock
        if seen.mark is None:
            self.number = None
            return None
        self.number = seen.mark
        return Lease.parse(seen.lease or ""), seen.now, one_clock
