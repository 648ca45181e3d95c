"""A thread for each cache alias, so that none waits for another.

A ``CacheWorker`` merges what it has not done yet, so a cache that is down costs bounded memory and
no truth; it keeps trying, and after an outage it asks for everything of that alias to be cleared,
because a cache that was away may have come back with keys that had been deleted.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django_pgnudge import caches
from django_pgnudge.daemon.express import Express
from django_pgnudge.daemon.invalidation import Invalidation, Refusal
from django_pgnudge.errors import CacheError, PgNudgeError
from django_pgnudge.log import get_logger
from django_pgnudge.threads import set_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from django_pgnudge.caches.rounds import Round
    from django_pgnudge.daemon.cache_memory import CacheMemory

logger = get_logger("django_pgnudge.daemon")

T = TypeVar("T")

BACKOFF: Final = (0.1, 5.0)
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

    round: Round
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
        fallback: Callable[[str, list[Refusal]], Invalidation],
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
        """Of a cache that holds nudged values: behind every round of deletes it is counted."""
        self._next_heartbeat = 0.0
        self._thread: threading.Thread | None = None
        self._express = Express(alias)
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
        if (sent := self._express_round(invalidation, waiting=False)) is None:
            return False
        self._resting = False
        self._sent = _Sent(sent, invalidation, future)
        return True

    def _express_round(self, invalidation: Invalidation, *, waiting: bool) -> Round | None:
        if self.memory is not None and not self.memory.begun:
            return None
        memory = self.memory
        mark = None if memory is None else (memory.mark, memory.next_mark())
        return self._express.send(invalidation, mark, waiting=waiting)

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
        """Wait for this cache no more until it answers again."""
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
        failures = 0
        while True:
            with self._wake:
                if failures:
                    self._wake.wait_for(lambda: self._closing, timeout=self._delay(failures))
                elif not (self._pending or self._calls or self._closing):
                    self._resting = True
                    self._wake.wait(timeout=HEARTBEAT)
                    self._resting = False
                sent, self._sent = self._sent, None
                if self._closing and sent is None and (failures or not self._pending):
                    self._express.close()
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
            failures = 0 if outcome.done else failures + 1
            for future in waiting:
                set_outcome(future, outcome)
            for function, called in calls:
                self._answer(function, called, outcome)
            if outcome.done:
                self._express.open()

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
                "Cache %r is back after %.1f s; cleared what it may have kept (%d keys).",
                self.alias, time.time() - self.down_since, deleted,
            )  # fmt: skip
        elif restarted:
            logger.warning(
                "Cache %r was restarted; cleared what it may have reloaded (%d keys).",
                self.alias, deleted,
            )  # fmt: skip
        self.down_since = self.last_error = None
        self._slow = False
        return Outcome(done=True, deleted=deleted)

    def _heartbeat_is_due(self) -> bool:
        return time.monotonic() >= self._next_heartbeat

    def _received(self, sent: Round) -> int | None:
        """How many keys a round sent at once has deleted; None if it is to be done again."""
        answer = self._express.receive(sent)
        if answer is not None and (
            sent.raised is None
            or self.memory is None
            or self.memory.raised(answer.mark, sent.raised)
        ):
            return None if answer.refused else answer.deleted
        # Is it another server?
        self._next_heartbeat = 0.0
        return None

    def _perform(self, invalidation: Invalidation) -> int:
        if invalidation and (sent := self._express_round(invalidation, waiting=True)) is not None:
            quickly = self._received(sent)
            if quickly is not None:
                return quickly
        if invalidation.epoch and self.memory is not None:
            # First, since readers trust it.
            with caches.writing_value_store(self.alias) as values:
                values.delete([self.memory.names.lease])
        deleted, refusals = invalidation.perform(self.alias)
        if refusals:
            deleted += self._fallback(self.alias, refusals).perform(self.alias)[0]
        if self.memory is not None and invalidation:
            if invalidation.epoch or invalidation.versions or invalidation.everything or refusals:
                # The mark may be among what was cleared. Whatever came back with an older memory
                # before it is written again ends with the epoch.
                self.memory.begin()
            self.count_round(invalidation.tokens)
        return deleted

    def count_round(self, tokens: Collection[str]) -> None:
        """Raise the mark; end the epoch of a cache that has forgotten something. In the thread.

        ``tokens`` are deleted in the same step, though they have been deleted before: the server
        may have been replaced since, by one that remembers exactly the round before.
        """
        memory = self.memory
        assert memory is not None
        for _ in range(3):
            known = memory.begun
            if memory.count(tokens):
                return
            if known:
                self.say_forgotten()
            memory.begin()
        raise CacheError(f"cache {self.alias!r} forgets what it was told a moment ago")

    def say_forgotten(self) -> None:
        """The cache has lost memory. In the thread."""
        logger.warning("Cache %r lost memory; nudged values begin anew.", self.alias)
        # Is it another server? Then plain keys are cleared too.
        self._next_heartbeat = 0.0

    def _is_other_server(self) -> bool:
        found = caches.incarnation(self.alias)
        self._next_heartbeat = time.monotonic() + HEARTBEAT
        known, self._incarnation = self._incarnation, found
        return known is not None and known != found

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

    def _delay(self, failures: int) -> float:
        low, high = BACKOFF
        delay: float = min(high, low * 2 ** min(failures - 1, 30))
        return delay * random.uniform(0.5, 1.0)  # noqa: S311
