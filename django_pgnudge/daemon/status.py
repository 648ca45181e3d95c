"""What a daemon has done so far. Its parts count, each in one thread, and this is the sum."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django_pgnudge.log import plural
from django_pgnudge.wire import LSN

if TYPE_CHECKING:
    from collections import Counter


@dataclass(frozen=True, slots=True)
class Status:
    seconds: float
    """Since the start."""
    lsn: int
    """The end of the newest commit that has been published."""
    batches: int
    """Published; those that came while receivers were busy count as one."""
    deleted: int
    """Keys, in all caches."""
    resyncs: Counter[str]
    """By reason."""
    outages: int
    """Of caches."""
    renewals: int
    """Of leases."""

    def __str__(self) -> str:
        parts = (
            "1 batch" if self.batches == 1 else f"{self.batches} batches",
            f"{plural(self.deleted, 'key')} deleted",
            plural(self.resyncs.total(), "Resync"),
            f"{plural(self.outages, 'outage')} of caches",
            plural(self.renewals, "lease renewal"),
        )
        ran = timedelta(seconds=int(self.seconds))
        return f"{ran}, at LSN {LSN(self.lsn)}: {', '.join(parts)}"
