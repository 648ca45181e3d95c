"""A thread for each cache alias, so that none waits for another.

A ``CacheWorker`` merges what it has not done yet, so a cache that is down costs bounded memory and
loses no delete. It keeps trying. After an outage it asks for everything of that alias to be
cleared, because a cache that was away may have come back with keys that had been deleted.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django_pgnudge import caches
from django_pgnudge.backoff import Backoff
from django_pgnudge.caches import Done
from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.errors import CacheError, PgNudgeError
from django_pgnudge.log import get_logger, plural
from django_pgnudge.threads import set_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django_pgnudge.caches import Mark, Refusal
    from django_pgnudge.caches.rounds import Packed, Pipeline
    from django_pgnudge.daemon.cache_memory import CacheMemory

logger = get_logger("django_pgnudge.daemon")

T = TypeVar("T")

BACKOFF: Final = (0.1, 5.0)
OPEN_AGAIN_AFTER: Final = 1.0
"""Seconds, so that a connection which breaks every time is not made for every round."""

HEARTBEAT: Final = 5.0
"""Seconds of idleness after which a cache is asked whether it is still the same server."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a submission: ``done`` False means it is kept and will be tried again."""

    done: bool
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """A round that is under way, with what is to be done if it fails, and who waits for it."""

    round: Packed
    invalidation: Invalidation
    future: asyncio.Future[Outcome]


class CacheWorker:
    """Deletes in one cache alias, in a thread of its own.

    ``recovery`` says what to clear after an outage, and ``fallback`` what to do instead of what the
    backend cannot do; both are called in the thread.
    """

    def __init__(
        self,
        alias: str,
        *,
        recovery: Callable[[str], Invalidation],
        fallback: Callable[[str, Sequence[Refusal]], Invalidation],
    ) -> None:
        self.alias = alias
        self.down_since: float | None = None
        """Unix time since which the cache fails, None while it works."""
        self.last_error: str | None = None
        self.deleted = 0
        self.outages = 0
        self._recovery = recovery
        self._fallback = fallback
        self._wake = threading.Condition()
        self._pending = Invalidation()
        self._waiting: list[asyncio.Future[Outcome]] = []
        self._closing = False
        self._slow = False
        self._incarnation: str | None = None
        self._calls: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self.memory: CacheMemory | None = None
        """Set if the cache holds nudged values. Each round of deletes then raises its mark."""
        self._next_heartbeat = 0.0
        self._thread: threading.Thread | None = None
        self._pipeline: Pipeline | None = None
        self._pipeline_from = 0.0
        """By ``time.monotonic``, when a pipeline may be opened again."""
        self._resting = False
        """Whether the thread waits for something to do, and all that was sent is answered."""
        self._sent: _Sent | None = None

    def submit(self, invalidation: Invalidation) -> asyncio.Future[Outcome]:
        """Take over ``invalidation``; the future is done when it is done or put off.

        Call from the event loop.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        with self._wake:
            if not self._send(invalidation, future):
                self._pending.merge(invalidation)
                self._pending.bound()
                if self.healthy:
                    self._waiting.append(future)
                else:
                    future.set_result(Outcome(done=False))
            self._wake.notify()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._loop, name=f"pgnudge cache {self.alias}", daemon=True
            )
            self._thread.start()
        return future

    def _send(self, invalidation: Invalidation, future: asyncio.Future[Outcome]) -> bool:
        """Write the deletes here and now if the thread has nothing to do but wait for answers."""
        if not (self._resting and invalidation and self.healthy) or self._calls or self._pending:
            return False
        if (sent := self._send_round(invalidation, waiting=False)) is None:
            return False
        self._resting = False
        self._sent = _Sent(sent, invalidation, future)
        return True

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Call in the thread once all that was submitted is done; CacheError if it is not.

        Call from the event loop.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._wake:
            self._calls.append((function, future))
        self.submit(Invalidation())
        return future

    @property
    def healthy(self) -> bool:
        """Whether it is worth waiting for this cache."""
        return self.down_since is None and not self._slow

    def put_off(self) -> None:
        """Do not wait for this cache until it answers again."""
        with self._wake:
            was_slow, self._slow = self._slow, True
        if not was_slow and self.down_since is None:
            logger.warning(
                "Cache %r neither answers nor fails; other caches and receivers go on without it. "
                "A socket timeout in its settings would tell why.", self.alias,
            )  # fmt: skip

    def pending(self) -> int:
        """How many keys and patterns wait."""
        with self._wake:
            return self._pending.size()

    def close(self) -> None:
        """End the thread once it is idle; what a broken cache still waits for is given up."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def _loop(self) -> None:
        backoff = Backoff(*BACKOFF, least=0.5)
        failed = False
        while True:
            with self._wake:
                if failed:
                    self._wake.wait_for(lambda: self._closing, timeout=backoff.next_delay())
                elif not (self._pending or self._calls or self._closing):
                    self._resting = True
                    self._wake.wait(timeout=HEARTBEAT)
                    self._resting = False
                sent, self._sent = self._sent, None
                if self._closing and sent is None and (failed or not self._pending):
                    self._close_pipeline()
                    return
                invalidation, self._pending = self._pending, Invalidation()
                waiting, self._waiting = self._waiting, []
                calls, self._calls = self._calls, deque()
            if sent is not None:
                deleted = self._received(sent.round)
                if deleted is None:
                    invalidation.merge(sent.invalidation)
                    waiting.append(sent.future)
                else:
                    self.deleted += deleted
                    self._slow = False
                    set_outcome(sent.future, Outcome(done=True, deleted=deleted))
                    if not (invalidation or calls or waiting or self._heartbeat_is_due()):
                        continue
            outcome = self._attempt(invalidation)
            failed = not outcome.done
            if outcome.done:
                backoff.reset()
            for future in waiting:
                set_outcome(future, outcome)
            for function, called in calls:
                self._answer(function, called, outcome)
            if outcome.done:
                self._open_pipeline()

    def _answer(
        self, function: Callable[[], Any], called: asyncio.Future[Any], outcome: Outcome
    ) -> None:
        try:
            if not outcome.done:
                raise CacheError(f"cache {self.alias!r} is away: {self.last_error}")
            result = function()
        except PgNudgeError as exc:
            set_outcome(called, error=exc)
        except Exception as exc:
            set_outcome(called, error=CacheError(f"cache {self.alias!r} failed: {exc!r}"))
        else:
            set_outcome(called, result)

    def _attempt(self, invalidation: Invalidation) -> Outcome:
        restarted = False
        try:
            if self.down_since is not None or self._heartbeat_is_due():
                # Asked before the deletes: a server that restarts in between shows next time.
                restarted = self._is_other_server()
            if self.down_since is not None or restarted:
                invalidation.merge(self._recovery(self.alias))
            deleted = self._perform(invalidation)
        except BaseException as exc:
            # Whatever it is, neither the work nor this thread must be lost.
            self._failed(invalidation, exc)
            return Outcome(done=False)
        self.deleted += deleted
        if self.down_since is not None:
            logger.warning(
                "Cache %r is back after %.1f s; cleared what it may have kept (%s).",
                self.alias, time.time() - self.down_since, plural(deleted, "key"),
            )  # fmt: skip
        elif restarted:
            logger.warning(
                "Cache %r was restarted; cleared what it may have reloaded (%s).",
                self.alias, plural(deleted, "key"),
            )  # fmt: skip
        self.down_since = self.last_error = None
        self._slow = False
        return Outcome(done=True, deleted=deleted)

    def _heartbeat_is_due(self) -> bool:
        return time.monotonic() >= self._next_heartbeat

    def _perform(self, invalidation: Invalidation) -> int:
        """How many keys were deleted. In the thread; may be repeated after an error."""
        if not invalidation:
            return 0
        if (sent := self._send_round(invalidation, waiting=True)) is not None:
            deleted = self._received(sent)
            if deleted is not None:
                return deleted
        memory, mark = self.memory, None
        if memory is not None and invalidation.epoch:
            # First, since readers trust it.
            with caches.writing_value_store(self.alias) as values:
                values.delete([memory.names.lease])
        if memory is not None and memory.begun and not invalidation.begins_epoch():
            mark = memory.next_mark()
        done = self._run(invalidation, mark)
        deleted = done.deleted
        if done.refusals:
            deleted += self._run(self._fallback(self.alias, done.refusals)).deleted
        if memory is not None:
            self._count(memory, invalidation, mark, done)
        return deleted

    def _run(self, invalidation: Invalidation, mark: Mark | None = None) -> Done:
        if invalidation.everything:
            caches.clear(self.alias)
            return Done(0)
        return caches.run(self.alias, invalidation.round(mark))

    def _count(
        self, memory: CacheMemory, invalidation: Invalidation, mark: Mark | None, done: Done
    ) -> None:
        """See to it that the mark has been raised behind the round, in an epoch that still is."""
        if mark is not None and not memory.took(mark, done.marked):
            self.say_forgotten()
        elif mark is not None and not done.refusals:
            return
        if memory.begun:
            # The mark may be among what was cleared. Whatever came back with an older memory
            # before it is written again ends with the epoch.
            memory.begin()
        if not memory.count(invalidation.tokens):
            self.say_forgotten()

    # The short way: a round in one write; the thread waits for the answers. On failure assume that
    # nothing was done: the round is run step by step, which retries and tells what is wrong.

    def _open_pipeline(self) -> None:
        """Make the connection if there can be one. The cache has answered a moment ago."""
        if self._pipeline is not None or time.monotonic() < self._pipeline_from:
            return
        self._pipeline_from = time.monotonic() + OPEN_AGAIN_AFTER
        try:
            self._pipeline = caches.pipeline(self.alias)
        except CacheError as exc:
            logger.debug("%s", exc)
        else:
            if self._pipeline is None:
                self._pipeline_from = float("inf")

    def _send_round(self, invalidation: Invalidation, *, waiting: bool) -> Packed | None:
        """Write the whole of it, or nothing and say None.

        Without ``waiting`` only what can be written without waiting is. In the thread, or by
        whoever holds the lock while the thread rests.
        """
        memory, pipeline = self.memory, self._pipeline
        if pipeline is None or not invalidation.is_plain():
            return None
        if memory is not None and not memory.begun:
            return None
        mark = None if memory is None else memory.next_mark()
        try:
            packed = pipeline.pack(invalidation.round(mark))
            if not (waiting or packed.small):
                return None
            pipeline.send(packed)
        except Exception as exc:
            self._drop_pipeline(exc)
            return None
        return packed

    def _received(self, sent: Packed) -> int | None:
        """How many keys a round sent at once has deleted; None if it is to be done again."""
        done = self._receive(sent)
        if done is not None and (
            sent.mark is None or self.memory is None or self.memory.took(sent.mark, done.marked)
        ):
            return None if done.refused else done.deleted
        # Is it another server?
        self._next_heartbeat = 0.0
        return None

    def _receive(self, sent: Packed) -> Done | None:
        """What came of it; None if that is not known."""
        assert self._pipeline is not None
        try:
            done = self._pipeline.receive(sent)
        except Exception as exc:
            self._drop_pipeline(exc)
            return None
        if done.refused:
            self._drop_pipeline(CacheError(done.refused))
            self._pipeline_from = float("inf")
        return done

    def _drop_pipeline(self, exc: Exception) -> None:
        logger.debug("Cache %r: %r; what was sent at once is done again.", self.alias, exc)
        self._pipeline_from = time.monotonic() + OPEN_AGAIN_AFTER
        self._close_pipeline()

    def _close_pipeline(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    # The cache's memory, and failures.

    def say_forgotten(self) -> None:
        """The cache has lost memory. In the thread."""
        logger.warning("Cache %r lost memory; nudged values begin anew.", self.alias)
        # Is it another server? Then plain keys are cleared too.
        self._next_heartbeat = 0.0

    def _is_other_server(self) -> bool:
        found = self._ask_incarnation()
        self._next_heartbeat = time.monotonic() + HEARTBEAT
        last, self._incarnation = self._incarnation, found
        return last is not None and last != found

    def _ask_incarnation(self) -> str | None:
        return caches.incarnation(self.alias)

    def _failed(self, invalidation: Invalidation, exc: BaseException) -> None:
        with self._wake:
            self._pending.merge(invalidation)
            self._pending.bound()
        if self.down_since is None:
            self.down_since = time.time()
            self.outages += 1
            logger.error(
                "%s. Its deletes are kept and retried; other caches go on.", str(exc).rstrip(".")
            )
        elif str(exc) != self.last_error:
            logger.error("%s. Still retrying.", str(exc).rstrip("."))
        self.last_error = str(exc)
