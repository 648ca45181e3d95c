"""From what the feed brings to deletes in the caches and signals to receivers.

A batch becomes deletes at once, and each cache alias works on its own in a `CacheWorker`. Receivers
are told in a second stage, after the deletes of the healthy caches; what comes while a receiver is
busy merges there. So neither a dead cache nor a slow receiver stops the reading of the feed.
"""

from __future__ import annotations

import asyncio
import collections
import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from django_pgnudge import caches
from django_pgnudge.daemon.cache_worker import CacheWorker
from django_pgnudge.daemon.catalog_refresh import CatalogRefresh
from django_pgnudge.daemon.invalidation import Invalidation, Repeater
from django_pgnudge.daemon.merging import rename_events, spell_out
from django_pgnudge.daemon.receivers import Receivers
from django_pgnudge.daemon.resync import Resyncer
from django_pgnudge.daemon.rule_callables import RuleCallables
from django_pgnudge.daemon.third_party import ThirdParty
from django_pgnudge.decoding.nudges import SETTLE_PREFIX
from django_pgnudge.errors import NotCurrentError
from django_pgnudge.feed.changes import MAX_REQUESTS
from django_pgnudge.log import get_logger
from django_pgnudge.memo import Memo
from django_pgnudge.reader.keys import Names, ended_tokens
from django_pgnudge.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from django_pgnudge.daemon.merging import Submission
    from django_pgnudge.events import Batch, Event
    from django_pgnudge.registry import Registry
    from django_pgnudge.rules import RuleSet

logger = get_logger("django_pgnudge.daemon")

SETTLE_TIMEOUT: Final = 60.0
"""Seconds for which answers to ``settled`` are kept."""

MAX_ANSWERS: Final = 1000
"""How many answers to ``settled`` are kept; they share one key of each cache."""

SETTLE_PATIENCE: Final = 5.0
"""Seconds a request of ``settled`` waits for the names of tables to be looked up."""

MAX_ROUTES: Final = 10_000
"""Payloads remembered; an application's own nudges may have any number of them."""


class _Route(NamedTuple):
    """What the registry says of a payload, as of its last refresh."""

    selected: bool
    lineage: tuple[str, ...]
    root: str


class Dispatcher:
    """Deletes keys and tells receivers, for one database's feed.

    ``nudged`` are the aliases of caches that hold nudged values.
    """

    def __init__(
        self, using: str, registry: Registry, rules: RuleSet, nudged: Sequence[str]
    ) -> None:
        self.third_party = ThirdParty(registry)
        self.workers: dict[str, CacheWorker] = {**self.third_party.workers}
        self.nudged = tuple(nudged)
        self.catalog_refresh = CatalogRefresh(using, registry, self.dispatch)
        self.receivers = Receivers(using, registry, self._answer)
        self._registry = registry
        self._rules = rules
        self._callables = RuleCallables(rules)
        self._resyncer = Resyncer(using, rules, self._callables)
        self._resync_thread = Thread("pgnudge resync")
        self._repeater = Repeater(self.submit)
        self._routes: Memo[str, _Route] = Memo(MAX_ROUTES)
        self._generation = -1
        self._requests: dict[str, None] = {}
        self._settling: asyncio.Task[None] | None = None
        self._answered: collections.deque[str] = collections.deque(maxlen=MAX_ANSWERS)

    async def take(self, batch: Batch) -> None:
        """Dispatch a batch of the feed, and answer the requests of ``settled`` in it."""
        requests = [e.payload for e in batch.events if e.payload.startswith(SETTLE_PREFIX)]
        events = batch.events
        if requests:
            events = tuple(e for e in events if not e.payload.startswith(SETTLE_PREFIX))
        events = spell_out(events, self._rules.payloads)
        # Before the selection: what is not selected by its own name may be by its root's.
        self.catalog_refresh.add([e for e in events if self._registry.may_mean_more(e.payload)])
        events = tuple([e for e in events if self._route(e.payload).selected])
        if events:
            same = events == batch.events
            await self.dispatch(batch if same else replace(batch, events=events))
        if requests:
            # Any role may send them: those past the limit stay unanswered, and are sent again.
            room = MAX_REQUESTS - len(self._requests)
            self._requests.update(dict.fromkeys(requests[:room]))
            if self._settling is None or self._settling.done():
                self._settling = asyncio.create_task(self._settle(), name="pgnudge settle")

    async def dispatch(self, batch: Batch) -> None:
        """Hand the keys and tokens of each event to the caches, and the batch to receivers."""
        tokens: set[str] = set()
        if self.nudged and (names := self.names()) is not None:
            for event in batch.events:
                for payload in self._route(event.payload).lineage:
                    seen = self._registry.seen_as(event, payload)
                    tokens |= ended_tokens(names, (payload,), seen)
        # Only events that callables of rules are asked about wait for them.
        asked: list[Event] = []
        others: list[Event] = []
        for event in batch.events:
            (asked if self._rules.asks_about(event.payload) else others).append(event)
        invalidations = self._callables.invalidations_at_once(others)
        invalidations |= self.third_party.changed(batch.events)
        fires = bool(invalidations or asked)
        for alias in self.nudged:
            invalidations.setdefault(alias, Invalidation()).tokens |= tokens
        submissions = self._submit_all(invalidations)
        if asked:
            submissions += self._submit_all(await self._callables.invalidations(asked))
        if any(self._route(event.payload).root != event.payload for event in batch.events):
            renamed = rename_events(batch.events, self._registry.seen_at_root)
            batch = replace(batch, events=renamed)
        self.receivers.add_batch(batch, submissions, fires=fires)

    async def resync(self, reason: str) -> None:
        """Take anything for changed: end all nudged values, and clear by ``PGNUDGE["RESYNC"]``."""
        # First, since readers trust their leases, and what is cleared by rules may take its time.
        submissions = [self.submit(alias, Invalidation(epoch=True)) for alias in self.nudged]
        submissions += self._submit_all(self.third_party.everything())
        if self._resyncer.is_call():
            self._resyncer.call_soon(reason)
        else:
            submissions += await self._clear()
        self.receivers.add_resync(reason, submissions)

    async def clear_again(self) -> None:
        """The registry has been read since `resync`, and rules name more caches or tenants."""
        if not self._resyncer.is_call():
            self.receivers.add_submissions(await self._clear())

    def submit(self, alias: str, invalidation: Invalidation) -> Submission:
        """Hand work to the cache's worker."""
        worker = self.worker(alias)
        return worker, worker.submit(invalidation)

    def worker(self, alias: str) -> CacheWorker:
        """The worker of a cache, made when it is first needed."""
        worker = self.workers.get(alias)
        if worker is None:
            worker = self.workers[alias] = CacheWorker(
                alias, recovery=self._recovery, fallback=self._resyncer.fallback
            )
        return worker

    def names(self) -> Names | None:
        """The names of keys of nudged values; None until the database has told its identity.

        Until then this daemon has no lease, and its first one begins a new epoch.
        """
        identity = self._registry.identity
        return None if identity is None else Names.of(identity)

    async def aclose(self) -> None:
        """Dispatch nothing more. Caches that answer finish their deletes."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        await self.catalog_refresh.aclose()
        self._resyncer.close()
        for worker in self.workers.values():
            worker.close()

    # Inside.

    def _route(self, payload: str) -> _Route:
        registry = self._registry
        if self._generation != registry.generation:
            self._routes.clear()
            self._generation = registry.generation
        route = self._routes.get(payload)
        if route is None:
            route = self._routes[payload] = _Route(
                registry.selected(payload), registry.lineage(payload), registry.root_of(payload)
            )
        return route

    def _submit_all(self, invalidations: dict[str, Invalidation]) -> list[Submission]:
        submissions = []
        for alias, invalidation in invalidations.items():
            submissions.append(self.submit(alias, invalidation))
            if invalidation.later:
                self._repeater.add(alias, invalidation.later)
        return submissions

    async def _clear(self) -> list[Submission]:
        """Delete all that rules name, by ``RESYNC``."""
        submissions = []
        for alias in {ref.alias for ref in self._rules.cache_refs()}:
            # Callables of rules may query, in a mode that asks them.
            compute = functools.partial(self._resyncer.invalidation, alias)
            submissions.append(self.submit(alias, await self._resync_thread.run(compute)))
        return submissions

    def _recovery(self, alias: str) -> Invalidation:
        """What to clear in a cache that was away; called in its thread."""
        invalidation = Invalidation()
        if self._resyncer.is_call():
            self._resyncer.call_soon("cache")
        else:
            invalidation.merge(self._resyncer.invalidation(alias))
        invalidation.epoch = alias in self.nudged
        return invalidation

    async def _settle(self) -> None:
        """Have requests answered after all that came before them, and after unknown names of it
        have been looked up.

        All waiting requests are answered together: the catalogs are read once for all of them.
        """
        while self._requests:
            requests, self._requests = self._requests, {}
            if await self.catalog_refresh.resolve(SETTLE_PATIENCE):
                self.receivers.add_requests(requests)
            else:
                logger.warning(
                    "A call of settled() goes unanswered: the tables cannot be looked up."
                )

    async def _answer(self, requests: Collection[str]) -> None:
        """Tell whoever waits in ``settled`` that every cache and receiver has seen it."""
        if self._resyncer.calls():
            raise NotCurrentError('the function of PGNUDGE["RESYNC"] has not done its work yet')
        for worker in list(self.workers.values()):
            await worker.call(lambda: None)
        names = self.names()
        if names is None:
            return
        self._answered += [request.removeprefix(SETTLE_PREFIX) for request in requests]
        answers = list(self._answered)
        for alias in self.nudged:
            store = functools.partial(_store, alias, names.settled, answers)
            await self.worker(alias).call(store)


def _store(alias: str, key: str, answers: list[str]) -> None:
    with caches.writing_value_store(alias) as values:
        values.set(key, answers, SETTLE_TIMEOUT)
