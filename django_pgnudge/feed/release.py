"""When to release what the stream brought: once a new snapshot sees it, or at once.

A releaser is told when the stream has brought something. It works in callbacks: the query for a
snapshot is sent inside the stream's read callback, and its result is used inside the side
connection's, so that a commit needs no task switch on its way to the consumer.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ..backoff import Backoff
from ..errors import ConnectionLostError, PgNudgeError
from ..log import get_logger
from .changes import StreamedTransaction, Transaction
from .coalescer import Coalescer
from .queries import Visibility
from .side_connection import SideConnection

log = get_logger("django_pgnudge.feed")

_RECHECK = (0.001, 0.05)
"""While a transaction is not visible, query again after the first, doubling up to the second."""

_POLL = 0.05
"""Seconds between two queries that are sent only to release something early."""

_RETRY = (0.1, 5.0)
"""After a query that failed: the first pause, doubling up to the second."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom a releaser calls: ``wake`` when something is available, ``abort`` when the stream cannot
    go on, ``bug`` when the fault is ours."""

    wake: Callable[[], None]
    abort: Callable[[ConnectionLostError], None]
    bug: Callable[[Exception], None]


class Releaser(ABC):
    """Releases what the coalescer holds; ``max_batch_wait`` seconds after its BEGIN came also
    what it has of a transaction that is still arriving."""

    def __init__(self, coalescer: Coalescer, reports: Reports, max_batch_wait: float) -> None:
        self._coalescer = coalescer
        self._reports = reports
        self._max_batch_wait = max_batch_wait
        self._timer: asyncio.TimerHandle | None = None
        # Kept, since in Python 3.11 asking for it is a system call.
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """The stream is live, and its consumer knows. What came already is due."""
        self.attend()

    @abstractmethod
    def attend(self) -> None:
        """Release what is due: the stream may have brought something."""

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _attend_in(self, seconds: float) -> None:
        when = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.attend()

    def _until_early(self, transaction: Transaction) -> float:
        """Seconds until a transaction has been arriving for long enough."""
        return transaction.started + self._max_batch_wait - time.time()


class CommitReleaser(Releaser):
    """Treats everything that has committed as visible.

    A streamed transaction waits for its COMMIT: until then it may be rolled back.
    """

    def attend(self) -> None:
        coalescer = self._coalescer
        early = coalescer.open
        if early is not None and early.untold(early.told):
            wait = self._until_early(early)
            if wait <= 0:
                coalescer.release_open()
            else:
                self._attend_in(wait)
        if coalescer.release():
            self._reports.wake()


class VisibilityReleaser(Releaser):
    """Queries a new snapshot, one query at a time and only while something waits for it.

    What arrives while a query is on its way is released by its result, if that sees it. Else it is
    released by the next query, which is sent when the result comes. Where something is held and
    there is no result for ``blind`` seconds, the stream is given up: what is held grows with every
    commit, and a Resync covers it all.
    """

    def __init__(
        self,
        coalescer: Coalescer,
        reports: Reports,
        max_batch_wait: float,
        side: SideConnection,
        *,
        blind: float,
    ) -> None:
        super().__init__(coalescer, reports, max_batch_wait)
        self._side = side
        self._blind = blind
        self._running = False
        self._recheck = Backoff(*_RECHECK, least=1.0)
        self._retry = Backoff(*_RETRY, least=1.0)
        self._is_querying = False
        self._queried_at = -_POLL
        self._queried_for: Transaction | None = None
        self._recheck_at = 0.0
        self._recovering = False
        self._is_querying_outcomes = False
        self._blind_since: float | None = None

    def start(self) -> None:
        self._running = True
        super().start()

    def stop(self) -> None:
        self._running = False
        super().stop()

    def attend(self) -> None:
        if self._is_querying or self._retry.attempts or not self._running:
            return
        wait = self._until_query()
        if wait is None:
            return
        if wait <= 0:
            self._query()
        else:
            self._attend_in(wait)

    def _until_query(self) -> float | None:
        """Seconds until the next query is due; None if nothing waits for one."""
        held, early = self._coalescer.held, self._coalescer.open
        if held and held[-1] is not self._queried_for:
            return 0.0
        now = self._loop.time()
        waits = []
        if held:
            waits.append(self._recheck_at - now)
        if early is not None and early.untold(early.told):
            waits.append(max(self._until_early(early), self._queried_at + _POLL - now))
        if not self._recovering and any(each.untold for each in self._coalescer.streams.values()):
            waits.append(self._queried_at + _POLL - now)
        return min(waits, default=None)

    def _query(self) -> None:
        super().stop()
        held = self._coalescer.held
        newest = held[-1] if held else None
        if newest is not self._queried_for:
            self._queried_for = newest
            self._recheck.reset()
        self._queried_at = self._loop.time()
        if self._blind_since is None and held:
            self._blind_since = self._queried_at
        self._is_querying = True
        self._side.ask_visibility(self._on_result)

    def _on_result(self, seen: Visibility | Exception) -> None:
        self._is_querying = False
        if not self._running:
            return
        try:
            if isinstance(seen, PgNudgeError):
                self._on_failure(seen)
            elif isinstance(seen, Exception):
                raise seen
            else:
                self._release(seen)
        except Exception as error:
            self._reports.bug(error)

    def _release(self, seen: Visibility) -> None:
        self._retry.reset()
        self._blind_since = None
        coalescer = self._coalescer
        early = coalescer.open
        if early is not None and self._until_early(early) <= 0 and seen.sees(early):
            coalescer.release_open()
        self._release_streamed(seen)
        if coalescer.release(seen.sees):
            self._reports.wake()
        if not coalescer.held:
            self._queried_for = None
        else:
            self._recheck_at = self._loop.time() + self._recheck.next_delay()
        self.attend()

    def _release_streamed(self, seen: Visibility) -> None:
        """Of streamed transactions that have ended, query which committed.

        A snapshot tells that they have ended, and not how. A standby's does not tell even that:
        there they wait for their COMMIT.
        """
        self._recovering = seen.replayed is not None
        if self._recovering or self._is_querying_outcomes:
            return
        ended = [
            each
            for each in self._coalescer.streams.values()
            if each.untold and seen.snapshot.sees(each.xid)
        ]
        if ended:
            xids = frozenset(xid for each in ended for xid in (each.xid, *each.untold))
            self._is_querying_outcomes = True
            self._side.ask_outcomes(seen.snapshot, xids, partial(self._on_outcomes, ended))

    def _on_outcomes(
        self,
        ended: Iterable[StreamedTransaction],
        committed: frozenset[int] | Exception,
    ) -> None:
        self._is_querying_outcomes = False
        if not self._running:
            return
        if isinstance(committed, PgNudgeError):
            log.debug("cannot tell how streamed transactions ended: %s", committed)
            return
        if isinstance(committed, Exception):
            self._reports.bug(committed)
            return
        for streamed in ended:
            if self._coalescer.release_streamed(streamed, committed):
                self._reports.wake()

    def _on_failure(self, error: PgNudgeError) -> None:
        """Release nothing that no snapshot has seen: hold it, and query again."""
        is_first = not self._retry.attempts
        pause = self._retry.next_delay()
        loop = self._loop
        if self._blind_since is not None:
            blind = loop.time() - self._blind_since
            if blind >= self._blind:
                self._reports.abort(
                    ConnectionLostError(f"could not read a snapshot for {blind:.0f} s: {error}")
                )
                return
        if is_first:
            log.warning("cannot check visibility, nudges are held: %s", error)
        self._timer = loop.call_later(pause, self._query)
