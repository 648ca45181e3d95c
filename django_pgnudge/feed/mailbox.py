"""What waits for the consumer: one Resync, one batch of merged changes, and the feed's end.

All of it is bounded: a Resync that was not taken covers any number, and a `Coalescer` bounds the
changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..events import FeedItem, Resync, ResyncReason
from .coalescer import Coalescer


class Mailbox:
    """The mailbox of one consumer. After a batch the next one waits ``debounce`` seconds."""

    def __init__(self, coalescer: Coalescer, debounce: float) -> None:
        self._coalescer = coalescer
        self._debounce = debounce
        self._waiter: asyncio.Future[None] | None = None
        self._last_batch = -1e9
        self._error: BaseException | None = None
        self._error_raised = False
        self._takes = 0
        self._recheck = asyncio.Event()
        self.pending_resync: Resync | None = None
        self.closed = False
        """Whether the iteration ends once the mailbox is empty."""

    async def take(self) -> FeedItem:
        """The next item; raises the feed's error once, and then StopAsyncIteration."""
        self._takes += 1
        self.check_again()
        while True:
            wait = None
            if self.pending_resync is not None:
                resync, self.pending_resync = self.pending_resync, None
                return resync
            if self._coalescer.ready:
                wait = self._last_batch + self._debounce - time.monotonic()
                if wait <= 0:
                    item = self._coalescer.take()
                    if item is not None:
                        self._last_batch = time.monotonic()
                        return item
            if self.closed:
                raise StopAsyncIteration
            if self._error is not None:
                if self._error_raised:
                    raise StopAsyncIteration
                self._error_raised = True
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                if wait is None:
                    await self._waiter
                else:
                    await asyncio.wait([self._waiter], timeout=wait)
            finally:
                self._waiter = None

    def wake(self) -> None:
        """Let a consumer that waits look again: there is something to take, or there was an end."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def resync(self, reason: ResyncReason) -> None:
        """Put a Resync in, unless one waits already."""
        if self.pending_resync is None:
            self.pending_resync = Resync(reason)
        self.wake()

    def fail(self, error: BaseException) -> bool:
        """Raise this error from `take`; False if there was one before."""
        if self._error is not None:
            return False
        self._error = error
        self.wake()
        return True

    async def dealt_with(self, is_live: Callable[[], bool]) -> bool:
        """Wait until the consumer has dealt with all that has come; False if ``is_live`` says no
        before. A consumer has dealt with an item when it takes the next one.

        Whoever changes what ``is_live`` says calls `check_again`.
        """
        is_busy = self._waiter is None
        has_items = self._coalescer.ready or self.pending_resync is not None
        needed = self._takes + is_busy + has_items
        while self._takes < needed:
            if not is_live():
                return False
            self._recheck.clear()
            await self._recheck.wait()
        return True

    def check_again(self) -> None:
        """Have `dealt_with` look again."""
        self._recheck.set()
