"""Whether a lease may be believed by the clock it is judged with.

A cache that tells the time (Redis, a table in PostgreSQL) gives all hosts one clock. With other
caches each host uses its own clock. There a lease counts only for a reader whose clock is at most
``SKEW`` seconds off, and only after the reader has seen it renewed. Otherwise, on a host whose
clock is an hour late, a lease would look young when the daemon has been dead for an hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from django_pgnudge.reader.keys import Lease

_AGO: Final = float("-inf")


class LeaseClock:
    """What this process has seen of the leases of one database in one cache.

    Threads may use it at once: a late update only makes a lease count later.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._refused = _AGO
        self._accepted = _AGO

    def believes(self, lease: Lease, now: float, one_clock: bool, *, skew: float) -> bool:
        """Whether a lease that is not over counts."""
        proven = lease.proven
        if proven - now > skew:
            # Once it is in the past by this clock it would still not be known how old it is.
            self._refused = max(self._refused, proven)
            self._accepted = _AGO
            return False
        if proven == self._accepted:
            return True
        if proven <= self._refused:
            return False
        if not one_clock:
            if self._first is None:
                self._first = proven
            if proven <= self._first:
                return False
        self._accepted = proven
        return True
