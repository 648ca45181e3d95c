"""The second stage: receivers are told, after the deletes of the caches that answer.

What comes while a cache is waited for or a receiver is busy merges here, one event a table.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async

from django_pgnudge.daemon.merging import Pending, by_model
from django_pgnudge.errors import PgNudgeError
from django_pgnudge.log import get_logger, plural
from django_pgnudge.signals import anyone_listens, resynced, send_changes, send_resynced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from django_pgnudge.daemon.merging import Submission
    from django_pgnudge.events import Batch
    from django_pgnudge.registry import Registry

logger = get_logger("django_pgnudge.daemon")

CACHE_PATIENCE: Final = 5.0
"""Seconds receivers wait for a cache that neither answers nor fails; it is not waited for again
until it does. How long a socket may hang is the user's to set (SOCKET_TIMEOUT)."""

RECEIVER_PATIENCE: Final = 10.0
"""Seconds after which receivers that still run are worth a warning."""

SHOWN_TABLES: Final = 5
"""Tables named in a batch's log line."""


class Receivers:
    """Merges, waits for caches, logs a line a batch, sends the signals."""

    def __init__(
        self,
        using: str,
        registry: Registry,
        answer: Callable[[Collection[str]], Awaitable[None]],
    ) -> None:
        self.batches = 0
        self.lsn = 0
        """The end of the newest commit that has been published."""
        self._using = using
        self._registry = registry
        self._answer = answer
        self._pending = Pending()
        self._wake = asyncio.Event()
        self._draining = False
        self._unanswered = Pending()
        self._answering: asyncio.Task[None] | None = None

    def add_batch(self, batch: Batch, submissions: list[Submission], *, fires: bool) -> None:
        """Tell receivers of ``batch`` once ``submissions`` are done or put off.

        ``fires`` says whether rules fire for it: what concerns neither these nor receivers, as most
        commits of a large site, is a line at DEBUG.
        """
        self._pending.add_batch(batch, fires=fires)
        self._pending.submissions += submissions
        self._wake.set()

    def add_resync(self, reason: str, submissions: list[Submission]) -> None:
        """Tell receivers that anything may have changed, likewise."""
        self._pending.add_reason(reason)
        self._pending.submissions += submissions
        self._wake.set()

    def add_submissions(self, submissions: list[Submission]) -> None:
        """Publish nothing before these are done or put off either."""
        self._pending.submissions += submissions

    def add_requests(self, requests: Iterable[str]) -> None:
        """Answer these when everything added before has been published."""
        self._pending.add_requests(requests)
        self._wake.set()

    def finish(self) -> None:
        """Let ``run`` return when nothing waits any more."""
        self._draining = True
        self._wake.set()

    async def run(self) -> None:
        """Publish until ``finish``."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._pending:
                    pending, self._pending = self._pending, Pending()
                    await self._publish(pending)
                if self._draining:
                    if self._answering is not None:
                        await self._answering
                    return
        finally:
            if self._answering is not None:
                self._answering.cancel()

    async def _publish(self, pending: Pending) -> None:
        deleted, away = await _when_deleted(pending.submissions)
        if resynced.receivers:
            for reason in pending.reasons:
                await _patiently(send_resynced, reason, self._using)
        if pending.batch is not None:
            await self._publish_batch(pending.batch, deleted, away, fires=pending.fires)
        if pending.requests:
            # In a task of its own: caches that do not answer must not keep receivers waiting.
            self._unanswered.add_requests(pending.requests)
            if self._answering is None or self._answering.done():
                self._answering = asyncio.create_task(self._answer_all(), name="pgnudge answers")

    async def _answer_all(self) -> None:
        """All that wait at once: any number of requests costs as much as one."""
        while requests := self._unanswered.requests:
            self._unanswered = Pending()
            try:
                async with asyncio.timeout(CACHE_PATIENCE):
                    await self._answer(requests)
            except TimeoutError:
                logger.warning("A call of settled() goes unanswered: a cache does not answer.")
            except PgNudgeError as exc:
                logger.warning("A call of settled() goes unanswered: %s", exc)

    async def _publish_batch(
        self, batch: Batch, deleted: int, away: list[str], *, fires: bool
    ) -> None:
        self.batches += 1
        is_heard = anyone_listens()
        concerns = fires or bool(away) or is_heard
        _log_batch(batch, deleted, away, logging.INFO if concerns else logging.DEBUG)
        if is_heard:
            changes = by_model(batch.events, self._registry.seen_by_models)
            await _patiently(send_changes, batch, changes, self._using)
        self.lsn = max(self.lsn, batch.lsn)


async def _when_deleted(
    submissions: list[Submission],
) -> tuple[int, list[str]]:
    """How many keys were deleted, and the aliases that did not do it (yet)."""
    if waiting := [future for _, future in submissions if not future.done()]:
        await asyncio.wait(waiting, timeout=CACHE_PATIENCE)
    deleted, away = 0, set()
    for worker, future in submissions:
        if not future.done():
            worker.put_off()
        if future.done() and future.result().done:
            deleted += future.result().deleted
        else:
            away.add(worker.alias)
    return deleted, sorted(away)


async def _patiently(send: Callable[..., None], *args: Any) -> None:
    """Call receivers in Django's thread for synchronous code, with a line if they take long."""
    warning = asyncio.get_running_loop().call_later(
        RECEIVER_PATIENCE, logger.warning,
        "Receivers have been busy for %d s; what comes meanwhile is merged for them. "
        "Caches are not held up.", RECEIVER_PATIENCE,
    )  # fmt: skip
    try:
        await sync_to_async(send)(*args)
    finally:
        warning.cancel()


def _log_batch(batch: Batch, deleted: int, away: list[str], level: int) -> None:
    if not logger.isEnabledFor(level):
        return
    shown = [
        f"{event.payload} ({plural(event.count, 'row')})" for event in batch.events[:SHOWN_TABLES]
    ]
    if (more := len(batch.events) - SHOWN_TABLES) > 0:
        shown.append(f"{more} more tables")
    took = ""
    if batch.committed_at is not None:
        took = f", {max(0.0, time.time() - batch.committed_at) * 1000:.1f} ms from commit"
    kept = f", kept for {', '.join(map(repr, away))} until it answers" if away else ""
    logger.log(level, "%s: %s deleted%s%s", ", ".join(shown), plural(deleted, "key"), took, kept)
