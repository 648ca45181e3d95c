"""The lease: what lets a reader trust a cached value, renewed only with a proof.

A renewal of one cache goes in this order:

1. write a mark and a fresh grant, whose time to live is the lease's and starts here;
2. only then ask PostgreSQL for the end of its log, and wait until the stream has passed it and
   everything that was visible then has been handed to the caches;
3. once the cache has done all of its deletes, and still has the mark, write the lease, which
   names the grant.

However late step 3 arrives, the grant has not become younger: whatever a reader serves under it
was true at some moment after step 1, so within the lease's length. No clock is compared with
another. A cache that lost memory has lost the mark, which is written behind every round of
deletes; then the epoch is ended before the next grant.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from django.core.cache import caches

from django_pgnudge.daemon.proof import NotCurrentError, Proof
from django_pgnudge.daemon.work import Work
from django_pgnudge.daemon.workers import CacheWorker
from django_pgnudge.errors import PgNudgeError
from django_pgnudge.fresh.keys import Lease, Names
from django_pgnudge.log import get_logger

__all__ = ["LeaseKeeper", "Marks"]

logger = get_logger("django_pgnudge.daemon")

ROUNDS: Final = 4
"""Renewals in the length of a lease, so that one that fails is made good before it ends."""

MARK_TIMEOUT: Final = 86_400
"""Seconds; every renewal writes the mark anew."""


class Marks:
    """The mark in one cache: a number that every round of deletes raises by one.

    A cache that has forgotten rounds has an older number, or none. It is raised in one step of
    the cache's own: between a look and a write the server could be replaced. Used in the thread of
    the cache's worker.
    """

    def __init__(self, alias: str, names: Names) -> None:
        self.alias = alias
        self.key = names.mark(secrets.token_hex(8))
        self._number: int | None = None

    def reset(self) -> None:
        """Begin anew, at a number that no older memory holds."""
        self._number = secrets.randbits(40)
        caches[self.alias].set(self.key, self._number, MARK_TIMEOUT)

    def advance(self) -> bool:
        """Count a round; False if the cache has forgotten something since the last."""
        if self._number is None:
            return False
        try:
            found: int = caches[self.alias].incr(self.key)
        except ValueError:
            return False
        return self.counted(found)

    @property
    def begun(self) -> bool:
        """Whether there is a number to count on from."""
        return self._number is not None

    def counted(self, found: int) -> bool:
        """The cache has counted a round and said ``found``; False as for ``advance``."""
        assert self._number is not None
        self._number += 1
        return found == self._number

    def lost(self) -> bool:
        """Whether the cache has forgotten something since the last round."""
        return bool(caches[self.alias].get(self.key) != self._number)

    def keep(self) -> None:
        """Put off its end."""
        caches[self.alias].touch(self.key, MARK_TIMEOUT)


class LeaseKeeper:
    """Renews the lease in one cache; `run` until cancelled, `kick` to renew at once."""

    def __init__(
        self,
        worker: CacheWorker,
        names: Names,
        *,
        length: Callable[[], float],
        prove: Callable[[], Awaitable[Proof]],
    ) -> None:
        """``prove`` shows that the caches' workers have been handed everything, or raises."""
        self._worker = worker
        self._names = names
        self._length = length
        self._prove = prove
        self._grant = ""
        """The grant that the lease names, as far as this daemon wrote it."""
        self._opened = ""
        """The grant of the renewal under way."""
        self._opened_at = 0.0
        self._slot = 0
        self._map = 0
        """That of the last proof; a prover's first is 0."""
        self._kicked = asyncio.Event()
        self.renewed = 0
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
            try:
                await self._renew()
            except PgNudgeError as error:
                self._tell(str(error))
            else:
                self._tell(None)
            self.tried.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._length() / ROUNDS):
                    await self._kicked.wait()

    async def _renew(self) -> None:
        length = self._length()
        async with _within(length / 2, f"the proof took longer than {length / 2:g} s"):
            if not await self._worker.call(self._open(length)):
                # Another daemon of this database holds the lease; it proves what we would.
                return
            proof = await self._prove()
            if proof.map != self._map:
                self._worker.submit(Work(tokens={self._names.epoch}))
                self._map = proof.map
            await self._worker.call(self._close(length, proof.covered))
        self.renewed += 1

    def _open(self, length: float) -> Callable[[], bool]:
        """Step 1, in the worker's thread: False if another daemon holds the lease."""
        slot, grant = 1 - self._slot, secrets.token_hex(16)

        def open_() -> bool:
            cache = caches[self._worker.alias]
            marks = self._marks()
            found = cache.get_many([self._names.lease, *self._names.grants])
            lease = Lease.held(self._names, found)
            if lease is not None and lease.grant != self._grant:
                return False
            self._worker.count_round()
            marks.keep()
            self._opened_at = time.monotonic()
            cache.set(self._names.grants[slot], grant, length)
            self._slot, self._opened = slot, grant
            return True

        return open_

    def _close(self, length: float, covered: frozenset[str]) -> Callable[[], None]:
        """Step 3, in the worker's thread, behind every delete submitted before."""

        def close() -> None:
            cache = caches[self._worker.alias]
            marks = self._marks()
            digest = hashlib.sha256("\0".join(sorted(covered)).encode()).hexdigest()[:16]
            name = self._names.coverage(digest)
            if cache.get(name) is None:
                cache.set(name, sorted(covered), MARK_TIMEOUT)
            lease = Lease(self._opened, digest)
            if marks.lost():
                raise NotCurrentError(f"cache {self._worker.alias!r} lost memory meanwhile")
            # Should a grant be written twice by a client that retries, and once late, the lease
            # itself ends in time.
            left = length - (time.monotonic() - self._opened_at)
            cache.set(self._names.lease, lease.packed(), max(1, math.ceil(left)))
            if marks.lost():
                cache.delete(self._names.lease)
                raise NotCurrentError(f"cache {self._worker.alias!r} lost memory meanwhile")
            self._grant = self._opened

        return close

    def _marks(self) -> Marks:
        marks = self._worker.marks
        assert marks is not None
        return marks

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
