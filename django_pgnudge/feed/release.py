"""When what the stream brought may be released: once a new snapshot sees it, or at once.

A judge is told when the stream has brought something. It works in callbacks: the question is
sent inside the stream's read callback and its answer judged inside the checker's, so that a
commit needs no task switch on its way to the consumer.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ..errors import ConnectionLostError, PgNudgeError
from ..log import get_logger
from .changes import StreamedTransaction, Transaction
from .coalescer import Coalescer
from .queries import SnapshotView
from .side_connection import SideConnection

log = get_logger("django_pgnudge.feed")

# While a transaction is not visible, ask again after this long, doubling up to the second.
_RECHECK = (0.001, 0.05)

# How long after a question another one is asked only to release something early.
_POLL = 0.05

# After a question that failed: the first pause, doubling up to the second.
_RETRY = (0.1, 5.0)


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom a judge calls: ``wake`` when something is available, ``abort`` when the stream cannot
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
        """The stream is live, and its consumer knows: what came already is due."""
        self.attend()

    @abstractmethod
    def attend(self) -> None:
        """Look after what there is: the stream may have brought something."""

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
    """Takes everything that has committed for visible.

    That leaves a streamed transaction to its COMMIT: until it comes, it may be rolled back.
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
    """Asks for a new snapshot, one question at a time and only while something waits for it.

    What arrives while a question is on its way is judged by its answer, if that already sees
    it, and else by the next, which is asked when the answer comes. Where something is held and
    there is no answer for ``blind`` seconds, the stream is given up: what is held grows with every
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
        self._asking = False
        self._asked_at = -_POLL
        self._asked_for: Transaction | None = None
        self._recheck_at = 0.0
        self._delay = _RECHECK[0]
        self._recovering = False
        self._asking_outcomes = False
        self._failures = 0
        self._blind_since: float | None = None

    def start(self) -> None:
        self._running = True
        super().start()

    def stop(self) -> None:
        self._running = False
        super().stop()

    def attend(self) -> None:
        if self._asking or self._failures or not self._running:
            return
        wait = self._until_question()
        if wait is None:
            return
        if wait <= 0:
            self._ask()
        else:
            self._attend_in(wait)

    def _until_question(self) -> float | None:
        """Seconds until the next question is due; None if nothing waits for one."""
        held, early = self._coalescer.held, self._coalescer.open
        if held and held[-1] is not self._asked_for:
            return 0.0
        now = self._loop.time()
        waits = []
        if held:
            waits.append(self._recheck_at - now)
        if early is not None and early.untold(early.told):
            waits.append(max(self._until_early(early), self._asked_at + _POLL - now))
        if not self._recovering and any(each.untold for each in self._coalescer.streams.values()):
            waits.append(self._asked_at + _POLL - now)
        return min(waits, default=None)

    def _ask(self) -> None:
        super().stop()
        held = self._coalescer.held
        newest = held[-1] if held else None
        if newest is not self._asked_for:
            self._asked_for, self._delay = newest, _RECHECK[0]
        self._asked_at = self._loop.time()
        if self._blind_since is None and held:
            self._blind_since = self._asked_at
        self._asking = True
        self._side.look(self._on_view)

    def _on_view(self, view: SnapshotView | Exception) -> None:
        self._asking = False
        if not self._running:
            return
        try:
            if isinstance(view, PgNudgeError):
                self._on_failure(view)
            elif isinstance(view, Exception):
                raise view
            else:
                self._releaser(view)
        except Exception as error:
            self._reports.bug(error)

    def _releaser(self, view: SnapshotView) -> None:
        self._failures, self._blind_since = 0, None
        coalescer = self._coalescer
        early = coalescer.open
        if early is not None and self._until_early(early) <= 0 and view.sees(early):
            coalescer.release_open()
        self._release_streamed(view)
        if coalescer.release(view.sees):
            self._reports.wake()
        if not coalescer.held:
            self._asked_for = None
        else:
            self._recheck_at = self._loop.time() + self._delay
            self._delay = min(self._delay * 2, _RECHECK[1])
        self.attend()

    def _release_streamed(self, view: SnapshotView) -> None:
        """Of streamed transactions that have ended, ask what committed.

        A snapshot tells that they have ended, and not how. On a standby it does not tell at all:
        there they wait for their COMMIT.
        """
        self._recovering = view.replayed is not None
        if self._recovering or self._asking_outcomes:
            return
        ended = [
            each
            for each in self._coalescer.streams.values()
            if each.untold and view.snapshot.sees(each.xid)
        ]
        if ended:
            xids = frozenset(xid for each in ended for xid in (each.xid, *each.untold))
            self._asking_outcomes = True
            self._side.ask_outcomes(view.snapshot, xids, partial(self._on_outcomes, ended))

    def _on_outcomes(
        self,
        ended: Iterable[StreamedTransaction],
        committed: frozenset[int] | Exception,
    ) -> None:
        self._asking_outcomes = False
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
        """Never let anything through unchecked: hold it, and ask again."""
        self._failures += 1
        loop = self._loop
        if self._blind_since is not None:
            blind = loop.time() - self._blind_since
            if blind >= self._blind:
                self._reports.abort(
                    ConnectionLostError(f"no snapshot was to be had for {blind:.0f} s: {error}")
                )
                return
        if self._failures == 1:
            log.warning("cannot check visibility, nudges are held: %s", error)
        first, most = _RETRY
        pause = min(most, first * 2 ** min(self._failures - 1, 10))
        self._timer = loop.call_later(pause, self._ask)
