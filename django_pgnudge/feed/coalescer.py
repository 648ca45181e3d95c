"""Changes merged per table: the hop between the decoder and the consumer.

Nothing queues per row or per transaction. A decoder adds to the open transaction; a committed
one is held until it is released (once it is visible, or at once), and what is released merges
into one pending set of tables that the consumer takes whole. Memory is bounded: at most
``max_tables`` tables and ``max_keys`` keys a table in each set, and as many held transactions as
the server has sessions that can wait in COMMIT.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import DecodeError
from ..events import Batch, Event, Key, Resync

__all__ = ["Coalescer", "Transaction"]


class _Table:
    """What is pending for one table."""

    __slots__ = ("count", "first_seen", "keys")

    def __init__(self, first_seen: float) -> None:
        self.first_seen = first_seen
        self.count = 0
        self.keys: set[Key] | None = set()


class _Changes:
    """Pending tables in order of arrival, or the knowledge that they were too many."""

    __slots__ = ("committed_at", "lsn", "max_keys", "max_tables", "overflow", "tables")

    def __init__(self, max_tables: int, max_keys: int) -> None:
        self.max_tables = max_tables
        self.max_keys = max_keys
        self.tables: dict[str, _Table] = {}
        self.overflow = False
        self.lsn = 0
        self.committed_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self.tables) or self.overflow

    def add(self, payload: str, seen: float, count: int, keys: set[Key] | list[Key] | None) -> None:
        if self.overflow:
            return
        table = self.tables.get(payload)
        if table is None:
            if len(self.tables) >= self.max_tables:
                self.overflow = True
                self.tables.clear()
                return
            table = self.tables[payload] = _Table(seen)
        elif seen < table.first_seen:
            table.first_seen = seen
        table.count += count
        if keys is None:
            table.keys = None
        elif table.keys is not None:
            table.keys.update(keys)
            if len(table.keys) > self.max_keys:
                table.keys = None

    def is_whole(self, payload: str) -> bool:
        """Whether any row of this table may have changed."""
        table = self.tables.get(payload)
        return self.overflow if table is None else table.keys is None

    def merge(self, other: _Changes) -> None:
        self.lsn = max(self.lsn, other.lsn)
        if other.committed_at is not None:
            self.committed_at = min(self.committed_at or other.committed_at, other.committed_at)
        if other.overflow:
            self.overflow = True
            self.tables.clear()
        for payload, table in other.tables.items():
            self.add(payload, table.first_seen, table.count, table.keys)


class Transaction(_Changes):
    """One transaction of the stream, from its BEGIN to its release.

    ``lsn`` is the end of its commit record and ``committed_at`` the server's time of it, 0 and
    None until the commit has arrived.
    """

    __slots__ = ("started", "xid")

    def __init__(self, xid: int, started: float, max_tables: int, max_keys: int) -> None:
        super().__init__(max_tables, max_keys)
        self.xid = xid
        self.started = started


class Coalescer:
    """The decoder's sink, and what the feed takes batches from."""

    def __init__(
        self, *, max_tables: int, max_keys: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_tables = max_tables
        self._max_keys = max_keys
        self._clock = clock
        self._ready = self._empty()
        self._streamed: set[int] | None = None
        self._watched: frozenset[int] | None = None
        self.open: Transaction | None = None
        self.held: list[Transaction] = []

    def _empty(self) -> _Changes:
        return _Changes(self._max_tables, self._max_keys)

    # What the decoder tells.

    def begin(self, xid: int) -> None:
        if self.open is not None:
            raise DecodeError(f"transaction {xid} begins inside transaction {self.open.xid}")
        if self._streamed is not None and (self._watched is None or xid in self._watched):
            self._streamed.add(xid)
        self.open = Transaction(xid, self._clock(), self._max_tables, self._max_keys)

    def rows(self, payload: str, count: int, keys: list[Key] | None) -> None:
        if self.open is None:
            raise DecodeError(f"a change of {payload!r} comes outside a transaction")
        self.open.add(payload, self._clock(), count, keys)

    def wants_keys(self, payload: str) -> bool:
        # Where any row may have changed already, the keys of a transaction that will be merged
        # with that before long are not worth reading.
        return not any(
            changes is not None and changes.is_whole(payload)
            for changes in (self.open, self._ready)
        )

    def message(self, content: str) -> None:
        self.rows(content, 1, None)

    def commit(self, lsn: int, committed_at: float) -> None:
        done, self.open = self.open, None
        if done is None:
            raise DecodeError("a COMMIT comes without its BEGIN")
        if done:
            done.lsn, done.committed_at = lsn, committed_at
            self.held.append(done)

    # What the feed asks.

    def release(self, visible: Callable[[Transaction], bool] | None = None) -> bool:
        """Make held transactions available that are visible (all, without a judge).

        True if something is available now.
        """
        if self.held:
            kept = []
            for transaction in self.held:
                if visible is None or visible(transaction):
                    self._ready.merge(transaction)
                else:
                    kept.append(transaction)
            self.held = kept
        return bool(self._ready)

    def release_open(self) -> bool:
        """Make what the open transaction changed so far available, before its commit arrives.

        Only a few of its rows may have arrived, so its tables are nudged as a whole.
        """
        early = self.open
        if early:
            for table in early.tables.values():
                table.keys = None
            self._ready.merge(early)
            self.open = Transaction(early.xid, early.started, self._max_tables, self._max_keys)
        return bool(self._ready)

    @property
    def ready(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._ready)

    def take(self) -> Batch | Resync | None:
        """Everything available, as one batch; ``Resync("overflow")`` if it was too much."""
        taken = self._ready
        if not taken:
            return None
        self._ready = self._empty()
        if taken.overflow:
            return Resync("overflow")
        events = tuple(
            Event(
                payload,
                table.first_seen,
                table.count,
                None if table.keys is None else frozenset(table.keys),
            )
            for payload, table in taken.tables.items()
        )
        return Batch(events, taken.lsn, taken.committed_at)

    def watch(self, xids: frozenset[int] | None = None) -> None:
        """Note which of these 32-bit xids (any, if None) begin in the stream from here on.

        What was noted before is kept, so that a watch for any xid can be narrowed.
        """
        self._streamed = self._streamed or set()
        self._watched = xids
        if xids is not None:
            self._streamed &= xids

    def unwatch(self) -> None:
        self._streamed = self._watched = None

    @property
    def watching(self) -> bool:
        """Whether xids are being noted: the handshake is not over."""
        return self._streamed is not None

    def streamed(self, xid: int) -> bool:
        """Whether a transaction with this 32-bit xid began while xids were noted."""
        return self._streamed is not None and xid in self._streamed

    def reset(self) -> None:
        """Forget what has not been released: its stream ended, and a Resync will cover it."""
        self.open = None
        self.held = []
        self.unwatch()
