"""The proof: that the caches have seen the log, and that the map is the one they were told by.

The map is what turns a change in the log into tokens and keys: names, partitions, coverage, primary
keys, the publication, and the server that all of it is read from. A proof that counts from a moment
*t* does this, in this order, all of it behind *t*:

1. the stream passes the end of the log, and the reader has dealt with what it brought;
2. a connection is made anew, as everybody else's would be, and must meet the stream's server;
3. what is covered is read, or known of the same map, and then
4. a fingerprint of the row versions the map rests on (`django_pgnudge.feed.fingerprint`).

Why that is enough. Let a change of the map become visible at *d*. If *d* is before step 4, the
fingerprint differs from the one of the last proof, though the map may be back where it was: every
table that moved is taken for changed in any row, under its names and parents of before and after,
behind everything that was handed to the caches by the old map, and before the proof is given. What
the old map made wrong is thereby over. If *d* is behind step 4, it is behind *t* too: what a reader
is served was true at some moment behind *t*, as a lease promises, and the next proof sees the
change. The coverage is read before the fingerprint, so what it gained by a change, that change is
seen to have moved. The first fingerprint is taken before the slot is made, and the registry is read
after it, so a change while a stream begins is no exception.

A change is judged by what new snapshots see. One that has been written but not become visible, as
while a synchronous standby is waited for, may already decide what the server sends; where it locks
out writers, as ALTER TABLE does, nothing can be lost meanwhile. ALTER PUBLICATION locks out none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from django_pgnudge.errors import NotCurrentError, PgNudgeError
from django_pgnudge.events import Batch, Event
from django_pgnudge.log import get_logger

if TYPE_CHECKING:
    from django_pgnudge.daemon.catalog_refresh import CatalogRefresh
    from django_pgnudge.feed.fingerprint import Moved
    from django_pgnudge.feed.survey import Survey
    from django_pgnudge.registry import Registry

logger = get_logger("django_pgnudge.daemon")

WATCH: Final = 10.0
"""Seconds after which the map is looked at although nobody has asked for a proof."""

SHOWN: Final = 5
"""Tables named in a log line."""


class Proven(Protocol):
    """The feed, as far as a proof needs it."""

    slot_name: str | None

    async def catch_up(self) -> None: ...

    async def survey(self) -> Survey: ...

    async def relearn(self, survey: Survey) -> None: ...

    def accept(self, survey: Survey) -> None: ...


@dataclass(frozen=True, slots=True)
class Proof:
    """``covered`` are the payloads whose every change reaches the caches.

    ``map`` is another number once the map has moved so that readers may name tables and rows
    wrongly, or that it is not known which tables it concerns: then whatever was computed before is
    over, and the epoch has to end.
    """

    covered: frozenset[str]
    map: int


class Prover:
    """Gives proofs to the keepers of all caches, one after the other."""

    def __init__(
        self,
        *,
        feed: Callable[[], Proven],
        catalog_refresh: CatalogRefresh,
        registry: Registry,
        dispatch: Callable[[Batch], Awaitable[None]],
        ruled: Callable[[], Collection[str]],
        widen: Callable[[], bool] = lambda: False,
    ) -> None:
        """``dispatch`` hands a batch to caches and receivers; ``ruled`` tells the payloads that
        rules name; ``widen`` has the feed begin anew, and says so, if by the registry it leaves
        out tables that are followed."""
        self._feed = feed
        self._catalog_refresh = catalog_refresh
        self._registry = registry
        self._dispatch = dispatch
        self._ruled = ruled
        self._widen = widen
        self._lock = asyncio.Lock()
        self._map = 0
        self._read_for: str | None = None
        """The slot of the stream during which the registry was read, or of an older one."""
        self._covered: frozenset[str] = frozenset()
        self._proved_at = 0.0

    async def read_map(self, patience: float) -> bool:
        """Read the registry for a stream that has begun, before anything of it is dispatched.

        False if PostgreSQL does not describe its tables within ``patience`` seconds; the first
        proof then makes up for it.
        """
        slot = self._feed().slot_name
        done = await self._catalog_refresh.refresh(patience)
        if done:
            self._read_for = slot
        return done

    async def prove(self) -> Proof:
        """Raises a PgNudgeError, mostly NotCurrentError, where there is no proof."""
        feed = self._feed()
        # Proofs of several caches wait for the stream side by side, and look at the map in turn.
        await feed.catch_up()
        slot = feed.slot_name
        async with self._lock:
            if feed.slot_name != slot:
                raise NotCurrentError("the stream began anew meanwhile")
            # What any look at the catalogs, ours or another, has found to have left by now has
            # moved in this survey, or in one before.
            former = frozenset(self._registry.former_parents)
            survey = await feed.survey()
            if feed.slot_name != self._read_for:
                await self._begin(feed)
            told = await self._follow(feed, survey) if survey.moved else frozenset()
            self._registry.former_parents -= former
            if self._widen():
                raise NotCurrentError("the stream begins anew, for tables that came since")
            if not await self._catalog_refresh.resolve_new():
                raise NotCurrentError("names that may be new partitions cannot be looked up")
            covered = self._registry.wholly_selected(survey.covered)
            if self._covered - covered - told:
                # Nothing that was looked at tells why.
                self._map += 1
            self._covered = covered
            self._proved_at = time.monotonic()
            return Proof(covered, self._map)

    async def watch(self) -> None:
        """Look at the map also while nobody needs a proof: rules follow it too."""
        while True:
            await asyncio.sleep(WATCH)
            if time.monotonic() - self._proved_at >= WATCH:
                try:
                    async with asyncio.timeout(WATCH):
                        await self.prove()
                except (PgNudgeError, TimeoutError) as error:
                    logger.debug("The map cannot be looked at: %s", error)

    async def _begin(self, feed: Proven) -> None:
        """Make up for a registry that could not be read when the stream began."""
        slot = feed.slot_name
        await self._refresh()
        self._map += 1
        await self._fire(self._ruled())
        self._read_for = slot

    async def _follow(self, feed: Proven, survey: Survey) -> frozenset[str]:
        """Read the map anew, and end what was told by the old one: of which payloads."""
        moved = survey.moved
        concerned = self._with_parents(moved.payloads)
        if moved.publication:
            concerned |= {*self._covered, *survey.covered, *self._ruled()}
        await feed.relearn(survey)
        await self._refresh()
        concerned |= self._with_parents(moved.payloads)
        logger.info("The catalogs have changed (%s) and were read again.", _what(moved))
        await self._fire(concerned)
        if moved.publication or moved.reading or moved.payloads - moved.stored:
            # Readers name rows and tables by what they have read, and read it again in an epoch
            # that is new to them. One who read it between a change and its change back has to.
            self._map += 1
        feed.accept(survey)
        return frozenset(concerned)

    async def _refresh(self) -> None:
        if not await self._catalog_refresh.refresh(None):
            raise NotCurrentError("the catalogs cannot be read (see the line before)")

    def _with_parents(self, payloads: Collection[str]) -> set[str]:
        named = {name for payload in payloads for name in self._registry.lineage(payload)}
        former = {parent for child, parent in self._registry.former_parents if child in payloads}
        return named | former

    async def _fire(self, payloads: Collection[str]) -> None:
        now = time.time()
        events = [Event(name, now) for name in sorted(payloads) if self._registry.selected(name)]
        if events:
            await self._dispatch(Batch(tuple(events)))


def _what(moved: Moved) -> str:
    names = sorted(moved.payloads)
    words = names[:SHOWN]
    if len(names) > SHOWN:
        words.append(f"{len(names) - SHOWN} more tables")
    if moved.publication:
        words.append("the publication")
    if moved.reading:
        words.append("views, functions, policies, enums or settings")
    return ", ".join(words)
