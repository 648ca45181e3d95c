"""Names of tables that mean nothing yet: looked up in PostgreSQL, and dispatched again if they do.

A table may be a partition made since the catalogs were last read. Its events are kept until they
have been read again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from django.db import connections

from django_pgnudge.daemon.merging import merge_events
from django_pgnudge.events import Batch, Event
from django_pgnudge.log import get_logger
from django_pgnudge.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from django_pgnudge.registry import Registry

logger = get_logger("django_pgnudge.daemon")

RETRY_REFRESH: Final = 5.0

STALE_AFTER: Final = 10.0
"""Seconds between two looks at tables that have no meaning and may have been attached since."""

SHARE: Final = 0.1
"""How much of the time the catalogs may be read for requests to settle, which any role may send."""

LONGEST_PAUSE: Final = 3.0
"""Seconds after which they may be read again all the same, or nobody would be answered."""


class CatalogRefresh:
    """Refreshes the registry when a name asks for it; dispatches what then means more."""

    def __init__(
        self, using: str, registry: Registry, dispatch: Callable[[Batch], Awaitable[None]]
    ) -> None:
        self.refreshed = False
        """Whether PostgreSQL has ever described its tables."""
        self._using = using
        self._registry = registry
        self._dispatch = dispatch
        self._thread = Thread("pgnudge registry")
        self._task: asyncio.Task[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unresolved: tuple[Event, ...] = ()
        self._new = self._new_at_work = False
        """Whether names that were in no catalog wait, and are being looked up."""
        self._asked_again = 0.0
        """By ``time.monotonic``, when the catalogs may next be read for a request to settle."""

    def add(self, events: Sequence[Event]) -> None:
        """Keep what may mean more than is known, until the registry has been refreshed."""
        if not events:
            return
        self._unresolved = merge_events((*self._unresolved, *events))
        if not all(self._registry.exists(event.payload) for event in events):
            self._new = True
            self.refresh_soon()
        elif self._timer is None:
            # A busy table without a model must not have the catalogs read all the time.
            wait = max(0.0, STALE_AFTER - self._registry.age())
            self._timer = asyncio.get_running_loop().call_later(wait, self.refresh_soon)

    def refresh_soon(self) -> asyncio.Task[bool]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._refresh_and_replay())
        return self._task

    async def resolve(self, patience: float | None) -> bool:
        """Look up what waits, and return when what it means has been dispatched.

        At once for names that were in no catalog; for others there is a bound to how often the
        catalogs are read. False if PostgreSQL does not describe its tables in that time.
        """
        try:
            async with asyncio.timeout(patience):
                if self._task is not None:
                    await asyncio.wait([self._task])
                if self._unresolved and not self._new:
                    await asyncio.sleep(self._asked_again - time.monotonic())
                if not self._unresolved:
                    return True
                # What came while the catalogs were read came perhaps after that.
                task = self.refresh_soon()
                await asyncio.wait([task])
                return task.result()
        except TimeoutError:
            return False

    async def resolve_new(self) -> bool:
        """The same for names that were in no catalog when they came; others mean nothing as long
        as the map is the one that was read."""
        return not (self._new or self._new_at_work) or await self.resolve(None)

    async def _refresh_and_replay(self) -> bool:
        """Names that meant nothing may be partitions made since: dispatch their events again."""
        waiting, self._unresolved = self._unresolved, ()
        self._new_at_work, self._new = self._new, False
        began = time.monotonic()
        done = await self.refresh(None)
        ended = time.monotonic()
        self._asked_again = ended + min((ended - began) / SHARE, LONGEST_PAUSE)
        if not (done and await self._replay(waiting)):
            self._unresolved = merge_events((*waiting, *self._unresolved))
            self._new, self._new_at_work = self._new or self._new_at_work, False
            if self._unresolved and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(
                    RETRY_REFRESH, self.refresh_soon
                )
            return False
        self._new_at_work = False
        # What came meanwhile came perhaps after the catalogs were read.
        self._task, came, self._unresolved = None, self._unresolved, ()
        self.add(came)
        return True

    async def _replay(self, waiting: Sequence[Event]) -> bool:
        """Dispatch those that mean more by now; False if that failed, and is to be done again."""
        found = tuple([event for event in waiting if self._means_more(event.payload)])
        if not found:
            return True
        try:
            await self._dispatch(Batch(events=found))
        except Exception:
            logger.exception(
                "Changes of tables that were looked up (%s) could not be dispatched. They are kept,"
                " and tried again in %g s.",
                ", ".join(event.payload for event in found[:5]),
                RETRY_REFRESH,
            )
            return False
        return True

    def _means_more(self, payload: str) -> bool:
        """Whether a name that was unknown has become a followed table's, and not only its own."""
        registry = self._registry
        has_meaning = len(registry.lineage(payload)) > 1 or bool(registry.models_of(payload))
        return has_meaning and registry.selected(payload)

    async def refresh(self, patience: float | None) -> bool:
        """Read the catalogs; False if PostgreSQL does not describe its tables in that time."""

        def refresh() -> None:
            connection = connections[self._using]
            try:
                self._registry.refresh(connection)
            finally:
                connection.close()

        try:
            async with asyncio.timeout(patience):
                await self._thread.run(refresh)
        except TimeoutError:
            logger.info("PostgreSQL does not yet answer; its tables are looked up later.")
            return False
        except Exception as exc:
            # The feed will tell what is wrong, or it passes.
            logger.info("Could not read the tables of database %r: %s", self._using, exc)
            return False
        self.refreshed = True
        return True

    async def aclose(self) -> None:
        """Look nothing up any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
