"""The lease: what lets a reader trust a cached value, renewed only with a proof.

A renewal of one cache goes in this order:

1. raise the mark, and ask the cache for the time;
2. only then ask PostgreSQL for the end of its log, and wait until the stream has passed it and
   everything that was visible then has been handed to the caches;
3. once the cache has done all of its deletes, and still has the mark, write the lease, which
   names the time of step 1 and the epoch.

However late step 3 arrives, the time it names has not become younger: whatever a reader serves
under it was true at some moment after step 1, so within the lease's length. Reader and daemon ask
one clock, the cache's. A cache that lost memory has lost the mark, which is written behind every
round of deletes; then a new epoch begins.

Two daemons may follow one database. The one that finds a lease of the other,
proved after its own epoch began, stands by and takes that epoch over: since then it has deleted
whatever the other has.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from django_pgnudge import caches
from django_pgnudge.caches.value_store import MARK_TIMEOUT
from django_pgnudge.daemon.cache_memory import CacheMemory
from django_pgnudge.daemon.cache_worker import CacheWorker
from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.daemon.proof import Proof
from django_pgnudge.errors import NotCurrentError, PgNudgeError
from django_pgnudge.log import get_logger
from django_pgnudge.reader.keys import Lease, Names

logger = get_logger("django_pgnudge.daemon")

AGAIN_AFTER: Final = 0.02
"""Seconds before a renewal in an epoch that ended meanwhile is begun again."""

ROUNDS: Final = 4
"""Renewals in the length of a lease, so that one that fails is made good before it ends."""


class _EpochEndedError(PgNudgeError):
    """A new epoch began after the renewal did, which proves nothing for it."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    """Under way since ``at``, by the clock of the cache, in an epoch of its memory."""

    memory: CacheMemory
    epoch: str
    at: float


class LeaseKeeper:
    """Renews the lease in one cache; `run` until cancelled, `kick` to renew at once."""

    def __init__(
        self,
        worker: CacheWorker,
        names: Callable[[], Names | None],
        *,
        length: Callable[[], float],
        skew: Callable[[], float],
        prove: Callable[[], Awaitable[Proof]],
    ) -> None:
        """``prove`` shows that the caches' workers have been handed everything, or raises."""
        self._worker = worker
        self._names = names
        self._length = length
        self._skew = skew
        self._prove = prove
        self._keeper = secrets.token_hex(8)
        self._map = 0
        """That of the last proof; a prover's first is 0."""
        self._kicked = asyncio.Event()
        self.renewals = 0
        self.tried = asyncio.Event()
        """Set once the first renewal has succeeded or failed."""
        self.problem: str | None = None
        """Why the last renewal failed; None if it did not."""

    def kick(self) -> None:
        """Renew now: a Resync has ended what was served."""
        self._kicked.set()

    async def run(self) -> None:
        while True:
            self._kicked.clear()
            began = asyncio.get_running_loop().time()
            try:
                await self._renew()
            except _EpochEndedError:
                await asyncio.sleep(AGAIN_AFTER)
                continue
            except PgNudgeError as error:
                self._tell(str(error))
            else:
                self._tell(None)
            self.tried.set()
            with contextlib.suppress(TimeoutError):
                # A lease counts from when its proof began, so the next one is timed from there.
                async with asyncio.timeout_at(began + self._length() / ROUNDS):
                    await self._kicked.wait()

    async def _renew(self) -> None:
        names = self._names()
        if names is None:
            raise NotCurrentError(
                "PostgreSQL has not told which database this is: it does not answer, or the role"
                " may not call pg_control_system()"
            )
        length = self._length()
        # The next one begins a round after the last, so that it is told when the lease ends.
        patience = length * (ROUNDS - 1) / ROUNDS
        async with _within(patience, f"the proof took longer than {patience:g} s"):
            renewal = await self._worker.call(lambda: self._open(names))
            if renewal is None:
                # Another daemon of this database holds the lease; it proves what we would.
                return
            proof = await self._prove()
            if proof.map != self._map:
                self._worker.submit(Invalidation(epoch=True))
                self._map = proof.map
            await self._worker.call(lambda: self._close(renewal, length, proof.covered))
        self.renewals += 1

    def _open(self, names: Names) -> _Renewal | None:
        """Step 1, in the worker's thread: None if another daemon holds the lease."""
        worker = self._worker
        with caches.writing_value_store(worker.alias) as values:
            if (refusal := values.refusal()) is not None:
                raise NotCurrentError(f"cache {worker.alias!r} cannot hold them: {refusal}")
            memory = worker.memory
            if memory is None or memory.names is not names:
                memory = worker.memory = CacheMemory(worker.alias, names)
            if not memory.begun:
                memory.begin()
            # In one step: a lease that was read before the cache lost memory tells nothing of it.
            seen = memory.look()
            if seen is None:
                worker.say_forgotten()
                memory.begin()
                raise _EpochEndedError
            values.touch(memory.mark, MARK_TIMEOUT)
            lease, now, one_clock = seen
            skew = self._skew()
            if (
                lease is not None
                and lease.keeper != self._keeper
                and lease.holds(now, skew)
                and lease.proven > memory.began_at + (0.0 if one_clock else skew)
            ):
                memory.epoch = lease.epoch
                return None
        return _Renewal(memory, memory.epoch, now)

    def _close(self, renewal: _Renewal, length: float, covered: frozenset[str]) -> None:
        """Step 3, in the worker's thread, behind every delete submitted before."""
        memory = renewal.memory
        if memory is not self._worker.memory or memory.epoch != renewal.epoch:
            raise _EpochEndedError
        assert memory.number is not None
        digest = hashlib.sha256("\0".join(sorted(covered)).encode()).hexdigest()[:16]
        name = memory.names.coverage(digest)
        lease = Lease(renewal.at, length, memory.epoch, digest, self._keeper)
        with caches.writing_value_store(memory.alias) as values:
            if values.get(name) is None:
                values.set(name, sorted(covered), MARK_TIMEOUT)
            # A second bound, should a clock stand still.
            seconds = math.ceil(length) + 1
            if not values.grant(
                memory.names.lease, lease.text(), seconds, memory.mark, memory.number
            ):
                raise NotCurrentError(f"cache {memory.alias!r} lost memory meanwhile")

    def _tell(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            logger.warning(
                "Cannot renew the lease in cache %r, so nudged values are computed, not served: %s",
                self._worker.alias, problem,
            )  # fmt: skip
        elif problem is None and self.problem is not None:
            logger.info("The lease in cache %r is renewed again.", self._worker.alias)
        self.problem = problem


@contextlib.asynccontextmanager
async def _within(seconds: float, words: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NotCurrentError(words) from None
