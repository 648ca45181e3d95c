"""The composition root: the one place where the feed and Django meet.

A batch becomes deletes at once, and every cache alias works on its own in `cache_worker`.
Receivers are told in a second stage, after the deletes of the healthy caches; what comes while a
receiver is busy merges there. So neither a dead cache nor a slow receiver stops the reading.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import logging
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from django.db import connections

from django_pgnudge import caches
from django_pgnudge.conf import conf, did_you_mean
from django_pgnudge.daemon.again import Repeater
from django_pgnudge.daemon.cache_worker import CacheWorker
from django_pgnudge.daemon.catalog_refresh import CatalogRefresh
from django_pgnudge.daemon.connect_hints import advise
from django_pgnudge.daemon.feed_connection import feed_connection
from django_pgnudge.daemon.invalidation import Invalidation
from django_pgnudge.daemon.lease import LeaseKeeper
from django_pgnudge.daemon.merging import rename_events, spell_out
from django_pgnudge.daemon.proof import Prover
from django_pgnudge.daemon.receivers import Receivers
from django_pgnudge.daemon.resync import Resyncer
from django_pgnudge.daemon.rule_callables import RuleCallables
from django_pgnudge.daemon.table_routes import TableRoutes
from django_pgnudge.daemon.trial import describe, run_all, try_caches
from django_pgnudge.decoding.nudges import SETTLE_PREFIX
from django_pgnudge.errors import ConfigError, ConnectionLostError, NotCurrentError, NotReadyError
from django_pgnudge.events import Batch, Resync
from django_pgnudge.feed import WalFeed
from django_pgnudge.feed.changes import MAX_REQUESTS
from django_pgnudge.log import get_logger
from django_pgnudge.reader.keys import Names, killed_tokens
from django_pgnudge.registry import Registry
from django_pgnudge.rules import RuleSet, load_rules
from django_pgnudge.signals import anyone_listens
from django_pgnudge.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from django_pgnudge.daemon.merging import Delete
    from django_pgnudge.events import Event

logger = get_logger("django_pgnudge.daemon")

REFRESH_TIMEOUT: Final = 5.0
"""Seconds the start waits for PostgreSQL to describe its tables; the feed waits longer."""

SETTLE_TIMEOUT: Final = 60.0
"""Seconds for which answers to ``settled`` are kept."""

MAX_ANSWERS: Final = 1000
"""How many answers to ``settled`` are kept; they share one key of each cache."""

SETTLE_PATIENCE: Final = 5.0
"""Seconds a request of ``settled`` waits for the names of tables to be looked up."""

_WHERE: Final = ("host", "port", "user", "database", "password", "ssl", "require_auth")

_STOPPING: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
"""What ends the daemon. SIGHUP too: the settings of a process cannot be read again, and it is sent
when a terminal closes."""

REPEAT_AFTER: Final = 60.0
"""Seconds after which the fix for the same failure is worth another line."""


class Daemon:
    """Reads one database's feed, kills keys and tells receivers, until stopped.

    ``feed_options`` go over ``PGNUDGE["FEED"]``; ``feed_class`` is for tests.
    """

    def __init__(
        self,
        using: str | None = None,
        *,
        plugin: str | None = None,
        publication: str | None = None,
        feed_options: dict[str, Any] | None = None,
        feed_class: Callable[..., Any] = WalFeed,
    ) -> None:
        self.using = using or conf.DATABASE
        if self.using not in connections:
            raise ConfigError(
                f"There is no database {self.using!r}. DATABASES has"
                f" {', '.join(map(repr, connections))}."
                f"{did_you_mean(self.using, connections)} Correct --database."
            )
        self.resyncs = 0
        self.connected_at: float | None = None
        self.workers: dict[str, CacheWorker] = {}
        self.registry = Registry(self.using)
        self.rules: RuleSet = load_rules(self.registry)
        self.receivers = Receivers(self.using, self.registry, self._answer)
        self._feed_class = feed_class
        self._feed: Any = None
        self._options = {
            "plugin": plugin or conf.PLUGIN,
            "publication": publication or conf.PUBLICATION,
            **conf.FEED,
            **(feed_options or {}),
        }
        if self._options["plugin"] == "pgoutput" and self._options["publication"] is None:
            raise ConfigError(
                "The plugin pgoutput streams a publication, and none is named. Give --publication,"
                ' or set PGNUDGE["PUBLICATION"]; CreatePublication makes one in a migration.'
            )
        self._resyncer = Resyncer(self.using, self.rules)
        self._rule_callables = RuleCallables(self.rules)
        self._resync_thread = Thread("pgnudge resync")
        self._finder = Thread("pgnudge connection")
        self.catalog_refresh = CatalogRefresh(self.using, self.registry, self._kill)
        self._stopping = self._is_trial = False
        self._idle = True
        self._reading: asyncio.Task[None] | None = None
        self._explained_at = -REPEAT_AFTER
        self._nudged: tuple[str, ...] = tuple(conf.NUDGED["CACHES"])
        self._answered: collections.deque[str] = collections.deque(maxlen=MAX_ANSWERS)
        self._routes = TableRoutes(self.registry)
        self._repeater = Repeater(self._submit)
        self.live = asyncio.Event()
        """Set once the feed has been live."""
        self.keepers: dict[str, LeaseKeeper] = {}
        self._prover = Prover(
            feed=lambda: self._feed,
            catalog_refresh=self.catalog_refresh,
            registry=self.registry,
            kill=self._kill,
            ruled=self.rules.payloads,
            widen=self._widen_filter,
        )
        self._filter: list[str] | None = None
        """The tables that the feed's own filter lets through, as the registry named them."""
        self._requests: dict[str, None] = {}
        self._settling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run until ``stop``, SIGTERM, SIGHUP or Ctrl-C.

        Raises what ``mistakes.explain`` explains.
        """
        with self._signals():
            receivers = asyncio.create_task(self.receivers.run(), name="pgnudge publisher")
            self._reading = asyncio.create_task(self._read(), name="pgnudge reader")
            leases = [
                asyncio.create_task(self._keep_lease(alias), name=f"pgnudge lease {alias}")
                for alias in self._nudged
            ]
            leases.append(asyncio.create_task(self._watch_map(), name="pgnudge map"))
            try:
                helpers = {receivers, *leases}
                await asyncio.wait({self._reading, *helpers}, return_when=asyncio.FIRST_COMPLETED)
                for helper in helpers:
                    if helper.done():
                        helper.result()
                if not self._reading.cancelled():
                    self._reading.result()
                self.receivers.finish()
                await receivers
            finally:
                await _end(self._reading, receivers, *leases, self._settling)
                await self.catalog_refresh.aclose()
                self._resyncer.close()
                for worker in self.workers.values():
                    worker.close()
        logger.info("Stopped.")

    async def check(self, timeout: float = 30.0) -> str:  # noqa: ASYNC109
        """Say what ``run`` would do. Raises NotReadyError with all that would keep it from that.

        Connects once, deletes no key of the site's, and waits no longer than ``timeout`` seconds
        and a little, for PostgreSQL and for each cache.
        """
        self._is_trial = True

        async def try_server() -> None:
            try:
                async with asyncio.timeout(timeout), await self._make_feed() as self._feed:
                    await anext(aiter(self._feed))
                    self._log_connected()
            except TimeoutError:
                raise NotReadyError(
                    f"PostgreSQL (database {self.using!r}) was not followed within {timeout:g} s."
                    " A slot is made when the transactions that are open then have ended: see"
                    " pg_stat_activity and pg_prepared_xacts, or give --timeout more seconds."
                ) from None

        _, counts = await run_all(
            timeout + 5, try_server, functools.partial(try_caches, self.rules, timeout)
        )
        return describe(self.rules, lambda rule: self.registry.payload_of(rule.target), counts)

    def stop(self) -> None:
        """Finish the batch in hand and return from ``run``."""
        self._stopping = True
        if self._idle and self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            self._feed = await stack.enter_async_context(await self._make_feed())
            iterator = aiter(self._feed)
            while not self._stopping:
                self._idle = True
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    return
                finally:
                    self._idle = False
                if isinstance(item, Resync):
                    await self._resync(item.reason)
                else:
                    await self._invalidate(item)

    async def _make_feed(self) -> Any:
        await self.catalog_refresh.refresh(REFRESH_TIMEOUT)
        delay = 0.1
        while True:
            try:
                connection = await self._find_server()
                break
            except ConnectionLostError as exc:
                if self._is_trial:
                    raise
                logger.warning("%s Retrying.", exc)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
        wanted = self.rules.wants_keys()
        know_tables = self.catalog_refresh.refreshed
        # Until PostgreSQL has told schemas and partitions, ours may be the wrong names.
        self._filter = (self.registry.feed_tables() or None) if know_tables else None
        if "tables" in self._options:
            self._filter = None
        return self._feed_class(
            **{
                **connection,
                "tables": self._filter,
                "keys": self._wants_all_keys() or (wanted if know_tables else bool(wanted)),
                "give_up": self._give_up,
                "locate": self._locate,
                **self._options,
            }
        )

    def _widen_filter(self) -> bool:
        """Have the feed begin anew if its filter leaves out what belongs to a followed table."""
        if self._filter is None:
            return False
        tables = self.registry.feed_tables()
        if tables is not None and set(tables) <= set(self._filter):
            return False
        self._filter = tables
        self._feed.restart(tables=tables)
        return True

    def _wants_all_keys(self) -> bool:
        # Which rows' tokens readers stand on is not known here.
        return anyone_listens() or bool(self._nudged) or self.rules.wants_keys_of_any()

    async def _find_server(self) -> dict[str, Any]:
        """Blocking look-ups go to a thread that does not hold up the exit."""
        return await self._finder.run(functools.partial(feed_connection, self.using))

    async def _locate(self) -> dict[str, Any]:
        """Where to connect to again: of several hosts another one may be the primary since."""
        try:
            found = await self._find_server()
        except ConfigError as exc:
            if self.connected_at is None:
                raise
            # It was right before: a service file that is being replaced, say.
            raise ConnectionLostError(str(exc)) from exc
        return {name: found[name] for name in _WHERE if name in found}

    def _give_up(self, exc: Exception) -> bool:
        """Asked by the feed, which logs what it is going to try again."""
        if self._is_trial:
            return True
        advice = advise(exc)
        if advice is None:
            return False
        if self.connected_at is None:
            return True
        now = time.monotonic()
        if now - self._explained_at > REPEAT_AFTER:
            self._explained_at = now
            logger.error("Still trying, but waiting will not help. %s", advice)
        return False

    async def _resync(self, reason: str) -> None:
        self.resyncs += 1
        if reason in {"connected", "reconnected"}:
            self.connected_at = time.time()
            self._log_connected()
        level = logging.INFO if reason in {"connected", "failsafe"} else logging.WARNING
        logger.log(level, 'Resync (%s): clearing by PGNUDGE["RESYNC"] = %r.', reason, conf.RESYNC)
        # First, since readers trust their leases, and what is cleared by rules may take its time.
        deletes = [self._submit(alias, Invalidation(epoch=True)) for alias in self._nudged]
        if self._resyncer.is_call():
            self._resyncer.call_soon(reason)
        else:
            deletes += await self._clear()
        cleared = self.rules.cache_refs()
        self.receivers.add_resync(reason, deletes)
        if not self._stopping:
            # Before the next batch: what changed of the map before this stream is not in it.
            # Nothing is in hand meanwhile.
            self._idle = True
            try:
                await self._prover.read_map(REFRESH_TIMEOUT)
            finally:
                self._idle = False
            if self.rules.cache_refs() != cleared and not self._resyncer.is_call():
                # Tenants were made meanwhile, and keys for them.
                self.receivers.add_deletes(await self._clear())
        if self.connected_at is not None:
            self.live.set()
        for keeper in self.keepers.values():
            keeper.kick()

    async def _clear(self) -> list[Delete]:
        """Have all that rules could kill deleted, by ``RESYNC``."""
        deletes = []
        for alias in {ref.alias for ref in self.rules.cache_refs()}:
            # Callables of rules may query, in a mode that asks them.
            compute = functools.partial(self._resyncer.invalidation, alias)
            deletes.append(self._submit(alias, await self._resync_thread.run(compute)))
        return deletes

    def _log_connected(self) -> None:
        feed = self._feed
        version = getattr(feed, "server_version", 0)
        logger.info(
            "Connected to PostgreSQL %d.%d (database alias %r) through %s, slot %s.",
            version // 10_000, version % 10_000, self.using,
            getattr(feed, "plugin_in_use", None), getattr(feed, "slot_name", None),
        )  # fmt: skip

    async def _invalidate(self, batch: Batch) -> None:
        requests = [e.payload for e in batch.events if e.payload.startswith(SETTLE_PREFIX)]
        events = batch.events
        if requests:
            events = tuple(e for e in events if not e.payload.startswith(SETTLE_PREFIX))
        events = spell_out(events, self.rules.payloads)
        # Before the selection: what is not selected by its own name may be by its root's.
        self.catalog_refresh.add([e for e in events if self.registry.unknown(e.payload)])
        events = tuple([e for e in events if self._routes[e.payload].selected])
        if events:
            await self._kill(batch if events == batch.events else replace(batch, events=events))
        if requests:
            # Any role may send them: those past the limit stay unanswered, and are sent again.
            room = MAX_REQUESTS - len(self._requests)
            self._requests.update(dict.fromkeys(requests[:room]))
            if self._settling is None or self._settling.done():
                self._settling = asyncio.create_task(self._settle(), name="pgnudge settle")

    async def _settle(self) -> None:
        """Have requests answered behind what came before them, and behind what that still means.

        All that wait at once: any number of them has the catalogs read as often as one.
        """
        while self._requests:
            requests, self._requests = self._requests, {}
            if await self.catalog_refresh.resolve(SETTLE_PATIENCE):
                self.receivers.add_requests(requests)
            else:
                logger.warning(
                    "A call of settled() goes unanswered: the tables cannot be looked up."
                )

    async def _kill(self, batch: Batch) -> None:
        tokens: set[str] = set()
        if self._nudged and (names := self._names()) is not None:
            for event in batch.events:
                for payload in self._routes[event.payload].lineage:
                    seen = self.registry.seen_as(event, payload)
                    tokens |= killed_tokens(names, (payload,), seen)
        # Nothing but what callables of rules alone can name waits for them.
        asked: list[Event] = []
        others: list[Event] = []
        for event in batch.events:
            (asked if self.rules.asks_about(event.payload) else others).append(event)
        invalidations = self._rule_callables.invalidations_at_once(others)
        fires = bool(invalidations or asked)
        for alias in self._nudged:
            invalidations.setdefault(alias, Invalidation()).tokens |= tokens
        deletes = self._submit_all(invalidations)
        if asked:
            deletes += self._submit_all(await self._rule_callables.invalidations(asked))
        if any(self._routes[event.payload].root != event.payload for event in batch.events):
            renamed = rename_events(batch.events, self.registry.seen_at_root)
            batch = replace(batch, events=renamed)
        self.receivers.add_batch(batch, deletes, fires=fires)

    def _submit_all(self, invalidations: dict[str, Invalidation]) -> list[Delete]:
        deletes = []
        for alias, invalidation in invalidations.items():
            deletes.append(self._submit(alias, invalidation))
            if invalidation.later:
                self._repeater.add(alias, invalidation.later)
        return deletes

    def _submit(self, alias: str, invalidation: Invalidation) -> Delete:
        worker = self._worker(alias)
        return worker, worker.submit(invalidation)

    def _worker(self, alias: str) -> CacheWorker:
        worker = self.workers.get(alias)
        if worker is None:
            worker = self.workers[alias] = CacheWorker(
                alias, recovery=self._recovery, fallback=self._resyncer.fallback
            )
        return worker

    def _names(self) -> Names | None:
        """Of the keys of nudged values; None while it is not known which database this is.

        Until then there is no lease of this daemon's, and its first one begins a new epoch.
        """
        identity = self.registry.identity
        return None if identity is None else Names.of(identity)

    async def _keep_lease(self, alias: str) -> None:
        keeper = self.keepers[alias] = LeaseKeeper(
            self._worker(alias),
            self._names,
            length=lambda: float(conf.NUDGED["LEASE"]),
            skew=lambda: float(conf.NUDGED["SKEW"]),
            prove=self._prover.prove,
        )
        await self.live.wait()
        await keeper.run()

    async def _watch_map(self) -> None:
        await self.live.wait()
        await self._prover.watch()

    async def _answer(self, requests: Collection[str]) -> None:
        """Tell whoever waits in ``settled`` that every cache and receiver has seen it."""
        if self._resyncer.calls():
            raise NotCurrentError('the function of PGNUDGE["RESYNC"] has not done its work yet')
        for worker in list(self.workers.values()):
            await worker.call(lambda: None)
        names = self._names()
        if names is None:
            return
        self._answered += [request.removeprefix(SETTLE_PREFIX) for request in requests]
        answers = list(self._answered)
        for alias in self._nudged:
            answer = functools.partial(_set, alias, names.settled, answers, SETTLE_TIMEOUT)
            await self._worker(alias).call(answer)

    def _recovery(self, alias: str) -> Invalidation:
        """What to clear in a cache that was away; called in its thread."""
        invalidation = Invalidation()
        if self._resyncer.is_call():
            self._resyncer.call_soon("cache")
        else:
            invalidation.merge(self._resyncer.invalidation(alias))
        invalidation.epoch = alias in self._nudged
        return invalidation

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        installed = []
        for number in _STOPPING:
            # Not the main thread (tests), or no Unix: then stop() is the way.
            with contextlib.suppress(RuntimeError, ValueError, NotImplementedError):
                loop.add_signal_handler(number, self._on_signal, number)
                installed.append(number)
        try:
            yield
        finally:
            for number in installed:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        for each in _STOPPING:
            loop.remove_signal_handler(each)
            # SIGINT's own default would unwind through whatever hangs; a second one must not.
            signal.signal(each, signal.SIG_DFL)
        logger.info("%s: finishing the batch in hand.", signal.Signals(number).name)
        self.stop()


def _set(alias: str, *args: Any) -> None:
    with caches.writing_value_store(alias) as values:
        values.set(*args)


async def _end(*tasks: asyncio.Task[None] | None) -> None:
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
