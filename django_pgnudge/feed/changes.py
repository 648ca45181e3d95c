"""What transactions changed, merged per table: pure logic, bounded memory."""

from __future__ import annotations

from collections.abc import Collection

from ..decoding.nudges import SETTLE_PREFIX, is_nudge
from ..events import ANY_NUDGE, Key

MAX_PARTS = 64
"""How many subtransactions of one streamed transaction are kept apart."""


MAX_NUDGES = 1000
"""How many own nudges are kept apart; the others become `ANY_NUDGE`."""

MAX_REQUESTS = 256
"""How many requests to settle are kept. The others stay unanswered, which is safe."""


class PendingTable:
    """What is pending for one table."""

    __slots__ = ("count", "first_seen", "keys")

    def __init__(self, first_seen: float) -> None:
        self.first_seen = first_seen
        self.count = 0
        self.keys: set[Key] | None = set()


class Changes:
    """Pending tables in order of arrival, or the knowledge that they were too many.

    Own nudges are among them. They have bounds of their own, since a role that may write messages
    could use up those of the tables.
    """

    __slots__ = (
        "committed_at", "lsn", "max_keys", "max_tables", "nudges", "overflow", "pending",
        "requests",
    )  # fmt: skip

    def __init__(self, max_tables: int, max_keys: int) -> None:
        self.max_tables = max_tables
        self.max_keys = max_keys
        self.pending: dict[str, PendingTable] = {}
        self.nudges = self.requests = 0
        """How many of ``pending`` are own nudges, and of these requests to settle."""
        self.overflow = False
        self.lsn = 0
        self.committed_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self.pending) or self.overflow

    def add(self, payload: str, seen: float, count: int, keys: set[Key] | list[Key] | None) -> None:
        if self.overflow:
            return
        pending = self.pending.get(payload)
        if pending is None:
            # As is_nudge has it, without the call: this is done for each table of each transaction.
            if "." not in payload:
                self._add_nudge(payload, seen, count)
                return
            if len(self.pending) >= self.max_tables and self._is_full():
                self.overflow = True
                self.pending.clear()
                return
            pending = self.pending[payload] = PendingTable(seen)
        elif seen < pending.first_seen:
            pending.first_seen = seen
        pending.count += count
        mine = pending.keys
        if mine is not None:
            if keys is None:
                pending.keys = None
            else:
                mine.update(keys)
                if len(mine) > self.max_keys:
                    pending.keys = None

    def _is_full(self) -> bool:
        return len(self.pending) - self.nudges >= self.max_tables

    def _add_nudge(self, payload: str, seen: float, count: int) -> None:
        """Add an own nudge that is not pending, if there is room, else `ANY_NUDGE`."""
        if payload.startswith(SETTLE_PREFIX):
            if self.requests >= MAX_REQUESTS:
                return
            self.requests += 1
        elif self.nudges - self.requests >= MAX_NUDGES:
            payload = ANY_NUDGE
        pending = self.pending.get(payload)
        if pending is None:
            pending = self.pending[payload] = PendingTable(seen)
            pending.keys = None
            self.nudges += 1
        pending.count += count

    def is_whole(self, payload: str) -> bool:
        """Whether any row of this table may have changed."""
        pending = self.pending.get(payload)
        return self.overflow if pending is None else pending.keys is None

    def forget_keys(self, payloads: Collection[str]) -> None:
        for payload in self.pending.keys() & payloads:
            self.pending[payload].keys = None

    def merge(self, other: Changes) -> None:
        if other.lsn > self.lsn:
            self.lsn = other.lsn
        moment = other.committed_at
        if moment is not None and (self.committed_at is None or moment < self.committed_at):
            self.committed_at = moment
        if other.overflow:
            self.overflow = True
            self.pending.clear()
        for payload, pending in other.pending.items():
            self.add(payload, pending.first_seen, pending.count, pending.keys)

    def untold(self, told: set[str]) -> bool:
        """Whether there are tables that were not told early."""
        return self.overflow or not self.pending.keys() <= told

    def tell_early(self, into: Changes, told: set[str]) -> None:
        """Hand over the tables that were not told early, each for any of its rows.

        The transaction is visible, so what still comes of a table that was told is covered.
        """
        if self.overflow:
            into.overflow, self.overflow = True, False
            into.pending.clear()
        for payload in [payload for payload in self.pending if payload not in told]:
            pending = self.pending.pop(payload)
            into.add(payload, pending.first_seen, pending.count, None)
            told.add(payload)
        self.nudges = sum(map(is_nudge, self.pending))
        self.requests = sum(payload.startswith(SETTLE_PREFIX) for payload in self.pending)
        if len(told) > self.max_tables:
            # Telling a table again does no harm.
            told.clear()


class Transaction(Changes):
    """One transaction of the stream, from its BEGIN to its release.

    ``lsn`` is the end of its commit record and ``committed_at`` the server's time of it, 0 and
    None until the commit has arrived.
    """

    __slots__ = ("started", "told", "xid")

    def __init__(self, xid: int, started: float, max_tables: int, max_keys: int) -> None:
        super().__init__(max_tables, max_keys)
        self.xid = xid
        self.started = started
        self.told: set[str] = set()
        """The tables told while the transaction was still arriving."""


class StreamedTransaction:
    """A transaction that arrives in blocks and may not have ended: who changed what in it.

    Its changes are kept by the subtransaction that made them, since each may be rolled back
    alone. Past `MAX_PARTS` subtransactions, or more tables in all than one transaction may have,
    they are merged: then what a subtransaction did is nudged though it was rolled back.
    """

    __slots__ = ("_max_keys", "_max_tables", "_merged", "_parts", "_told", "aborted", "xid")

    def __init__(self, xid: int, max_tables: int, max_keys: int) -> None:
        self.xid = xid
        self.aborted = False
        """Whether it is known to have been rolled back, before the stream says so."""
        self._max_tables = max_tables
        self._max_keys = max_keys
        self._parts: dict[int, Changes] = {}
        self._merged = False
        self._told: set[str] = set()

    def part(self, xid: int) -> Changes:
        """Where the changes of this subtransaction, or of the transaction itself, go."""
        found = self._parts.get(xid)
        if found is None:
            if len(self._parts) >= MAX_PARTS:
                self._merge()
            if self._merged:
                xid = self.xid
            found = self._parts.setdefault(xid, Changes(self._max_tables, self._max_keys))
        return found

    @property
    def parts(self) -> Collection[Changes]:
        """All of it, by who made it."""
        return self._parts.values()

    def end_block(self) -> None:
        """Keep within bounds: one block is bounded by the server's memory, and not their number."""
        if sum(len(part.pending) for part in self._parts.values()) > self._max_tables:
            self._merge()

    def abort(self, subxid: int) -> None:
        """A subtransaction was rolled back."""
        if subxid != self.xid:
            self._parts.pop(subxid, None)

    def commit(self, started: float) -> Transaction:
        """The whole of it."""
        done = Transaction(self.xid, started, self._max_tables, self._max_keys)
        self._gather(done)
        return done

    @property
    def untold(self) -> frozenset[int]:
        """The xids that changed tables which were not told early."""
        if self.aborted:
            return frozenset()
        return frozenset(xid for xid, part in self._parts.items() if part.untold(self._told))

    def tell_early(self, into: Changes, committed: Collection[int]) -> None:
        """It is visible, and of what it did before it ended, these xids were not rolled back."""
        for xid in self.untold:
            if xid in committed:
                self._parts[xid].tell_early(into, self._told)

    def _merge(self) -> None:
        merged = Changes(self._max_tables, self._max_keys)
        self._gather(merged)
        self._parts = {self.xid: merged}
        self._merged = True

    def _gather(self, into: Changes) -> None:
        for part in self._parts.values():
            into.merge(part)
        # In the order in which the tables were first seen.
        into.pending = dict(sorted(into.pending.items(), key=_first_seen))


def _first_seen(item: tuple[str, PendingTable]) -> float:
    return item[1].first_seen
