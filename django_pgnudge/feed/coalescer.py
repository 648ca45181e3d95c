"""Changes merged per table: the hop between the decoder and the consumer.

Nothing queues per row or per transaction. A decoder adds to the open transaction; a committed
one is held until it is released (once it is visible, or at once), and what is released merges
into one pending set of tables that the consumer takes whole. Memory is bounded: at most
``max_tables`` tables, `changes.MAX_NUDGES` own nudges and ``max_keys`` keys a table in each set,
and as many held and streamed transactions as the server has sessions (and prepared transactions)
that can be in one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from ..errors import DecodeError
from ..events import Batch, Event, Key, Resync
from .changes import Changes, StreamedTransaction, Transaction


class Coalescer:
    """The decoder's sink, and what the feed takes batches from."""

    def __init__(
        self, *, max_tables: int, max_keys: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_tables = max_tables
        self._max_keys = max_keys
        self._clock = clock
        self._ready = self._empty()
        self._streamed_xids: set[int] | None = None
        """Of the watched transactions, those that the stream has brought; None without a watch."""
        self._watched: frozenset[int] | None = None
        """The xids to watch for; None for any."""
        self._into: Changes | None = None
        self._block: StreamedTransaction | None = None
        self.streams: dict[int, StreamedTransaction] = {}
        """By xid: what arrives in blocks before it has ended."""
        self.open: Transaction | None = None
        """What arrives as a whole, after its COMMIT."""
        self.held: list[Transaction] = []

    def _empty(self) -> Changes:
        return Changes(self._max_tables, self._max_keys)

    # What the decoder tells.

    def begin(self, xid: int) -> None:
        if self._into is not None:
            raise self._inside(f"the BEGIN of {xid}")
        if self._streamed_xids is not None:
            self._count_in(xid)
        self.open = Transaction(xid, self._clock(), self._max_tables, self._max_keys)
        self._into = self.open

    def rows(self, payload: str, count: int, keys: list[Key] | None) -> None:
        if self._into is None:
            raise DecodeError(f"a change of {payload!r} comes outside a transaction")
        self._into.add(payload, self._clock(), count, keys)

    def wants_keys(self, payload: str) -> bool:
        # Where any row may have changed already, keys add nothing: the transaction will be merged
        # with that soon.
        into = self._into
        return not (self._ready.is_whole(payload) or (into is not None and into.is_whole(payload)))

    def message(self, content: str) -> None:
        self.rows(content, 1, None)

    def commit(self, lsn: int, committed_at: float) -> None:
        done, self.open = self.open, None
        if done is None:
            raise DecodeError("a COMMIT comes without its BEGIN")
        self._into = None
        if done:
            done.lsn, done.committed_at = lsn, committed_at
            self.held.append(done)

    def stream_start(self, xid: int) -> None:
        if self._into is not None:
            raise self._inside(f"a block of {xid}")
        block = self.streams.get(xid)
        if block is None:
            block = StreamedTransaction(xid, self._max_tables, self._max_keys)
            self.streams[xid] = block
        self._block, self._into = block, block.part(xid)

    def stream_made_by(self, xid: int) -> None:
        if self._block is None:
            raise DecodeError(f"a change of {xid} comes outside a block")
        self._into = self._block.part(xid)

    def stream_stop(self) -> None:
        if self._block is None:
            raise DecodeError("a block ends without its start")
        self._block.end_block()
        self._block = self._into = None

    def stream_commit(self, xid: int, lsn: int, committed_at: float) -> None:
        if self._into is not None:
            raise self._inside(f"the COMMIT of {xid}")
        done = self.streams.pop(xid, None)
        if done is None:
            raise DecodeError(f"the COMMIT of {xid} comes without its changes")
        if self._streamed_xids is not None:
            self._count_in(xid)
        self.open = done.commit(self._clock())
        self.commit(lsn, committed_at)

    def stream_abort(self, xid: int, subxid: int) -> None:
        if self._into is not None:
            raise self._inside(f"the ROLLBACK of {subxid}")
        if subxid == xid:
            self.streams.pop(xid, None)
        elif xid in self.streams:
            self.streams[xid].abort(subxid)

    def _inside(self, what: str) -> DecodeError:
        around = self._block if self.open is None else self.open
        return DecodeError(f"{what} comes inside transaction {around.xid if around else '?'}")

    def _count_in(self, xid: int) -> None:
        assert self._streamed_xids is not None
        if self._watched is None or xid in self._watched:
            self._streamed_xids.add(xid)

    # What the feed asks.

    def release(self, visible: Callable[[Transaction], bool] | None = None) -> bool:
        """Make held transactions available that are visible (all of them, without ``visible``).

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
        if self.open is not None:
            self.open.tell_early(self._ready, self.open.told)
        return bool(self._ready)

    def release_streamed(self, streamed: StreamedTransaction, committed: Collection[int]) -> bool:
        """Likewise for a streamed transaction, which has ended; these xids of it committed."""
        if streamed.xid not in committed:
            streamed.aborted = True
        elif self.streams.get(streamed.xid) is streamed:
            streamed.tell_early(self._ready, committed)
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
                pending.first_seen,
                pending.count,
                None if pending.keys is None else frozenset(pending.keys),
            )
            for payload, pending in taken.pending.items()
        )
        return Batch(events, taken.lsn, taken.committed_at)

    def forget_keys(self, payloads: Collection[str]) -> None:
        """Take a change that waits for these tables for one of any row: its keys are unreliable."""
        if payloads:
            parts = [part for streamed in self.streams.values() for part in streamed.parts]
            for changes in (self._ready, *self.held, *parts):
                changes.forget_keys(payloads)
            if self.open is not None:
                self.open.forget_keys(payloads)

    def watch_xids(self, xids: frozenset[int] | None = None) -> None:
        """Watch which of these 32-bit xids (any, if None) the stream brings from here on.

        One that arrives as a whole counts when it begins, since its COMMIT is on the way; one that
        arrives in blocks when its COMMIT has come. What has been seen before is kept, so that the
        xids can be narrowed.
        """
        self._streamed_xids = self._streamed_xids or set()
        self._watched = xids
        if xids is not None:
            self._streamed_xids &= xids

    def stop_watching_xids(self) -> None:
        self._streamed_xids = self._watched = None

    @property
    def is_watching_xids(self) -> bool:
        """Whether the handshake is not over."""
        return self._streamed_xids is not None

    def has_streamed(self, xid: int) -> bool:
        """Whether the stream brought a transaction with this 32-bit xid during the watch."""
        return self._streamed_xids is not None and xid in self._streamed_xids

    def reset(self) -> None:
        """Forget what has not been released: its stream ended, and a Resync will cover it."""
        self.open = self._block = self._into = None
        self.streams = {}
        self.held = []
        self.stop_watching_xids()
