"""Whether a transaction of the stream is visible to a new snapshot: pure logic.

COMMIT writes its record, the walsender sends it, and only then (after waiting for synchronous
standbys, if any) does the transaction become visible. Source: PostgreSQL documentation,
"System Information Functions", ``pg_snapshot``; ``ProcArrayEndTransaction`` in the sources.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import ProtocolError

_SNAPSHOT = re.compile(r"(\d{1,20}):(\d{1,20}):((?:\d{1,20}(?:,\d{1,20})*)?)", re.ASCII)
_HALF = 1 << 31
_MASK = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``pg_current_snapshot()``: 64-bit xids, epoch and all.

    Everything below ``xmin`` has ended; nothing from ``xmax`` on has; between them the
    transactions in ``in_progress`` have not.
    """

    xmin: int
    xmax: int
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read ``xmin:xmax:xip,xip``."""
        match = _SNAPSHOT.fullmatch(text)
        if match is None:
            raise ProtocolError(f"{text[:60]!r} is not a pg_snapshot")
        listed = frozenset(int(xid) for xid in match[3].split(",") if xid)
        return cls(int(match[1]), int(match[2]), listed)

    def widen(self, xid: int) -> int:
        """The 64-bit xid of a 32-bit one, which is less than 2**31 away from ``xmax``."""
        distance = (xid - self.xmax) & _MASK
        return self.xmax + (distance if distance < _HALF else distance - (1 << 32))

    def sees(self, xid: int) -> bool:
        """Whether the transaction with this 32-bit xid has ended, so that its rows are seen."""
        full = self.widen(xid)
        if full >= self.xmax:
            return False
        return full < self.xmin or full not in self.in_progress


class Handshake:
    """The transactions that were in progress when a stream went live.

    A transaction whose commit record lies before the slot's consistent point is in no stream. It
    may have become visible after the consumer refetched on the first Resync. So each of them must
    either come through the stream or have aborted. If one did neither, a Resync is due.

    The steps: `observe` with each new snapshot until it says True (all have ended), then
    `conclude` with their outcomes and a position in the log that lies behind their ends, then
    `due` whenever the stream has moved, until it is not None.
    """

    def __init__(self, running: Iterable[int]) -> None:
        self.running = frozenset(running)
        """32-bit xids."""
        self._committed: frozenset[int] | None = None
        self._until = 0

    def observe(self, snapshot: Snapshot) -> bool:
        """Whether every one of the transactions has ended."""
        return all(snapshot.sees(xid) for xid in self.running)

    def conclude(self, committed: Iterable[int], until: int) -> None:
        """These 32-bit xids committed; all ended before the LSN ``until``."""
        self._committed = frozenset(committed)
        self._until = until

    def due(self, stream_lsn: int, streamed: Callable[[int], bool]) -> bool | None:
        """Whether a Resync is due; None while the stream has not passed their ends."""
        if self._committed is None:
            return None
        missing = any(not streamed(xid) for xid in self._committed)
        if not missing:
            return False
        return True if stream_lsn >= self._until else None
