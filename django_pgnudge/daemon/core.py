"""The composition root: the one place where the feed and Django meet.

The daemon wires and runs the parts: it finds the server, reads the feed, hands what comes to the
`Dispatcher`, and keeps the leases. The dispatcher decides what a batch deletes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from django.db import connections

from django_pgnudge.backoff import Backoff
from django_pgnudge.conf import conf, did_you_mean
from django_pgnudge.daemon.connect_hints import advise
from django_pgnudge.daemon.dispatch import Dispatcher
from django_pgnudge.daemon.feed_connection import feed_connection
from django_pgnudge.daemon.lease import LeaseKeeper
from django_pgnudge.daemon.proof import Prover
from django_pgnudge.daemon.status import Status
from django_pgnudge.daemon.trial import describe, run_all, try_caches
from django_pgnudge.errors import ConfigError, ConnectionLostError, NotReadyError
from django_pgnudge.events import Resync
from django_pgnudge.feed import WalFeed
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.registry import Registry
from django_pgnudge.rules import RuleSet, load_rules
from django_pgnudge.signals import anyone_listens
from django_pgnudge.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


logger = get_logger("django_pgnudge.daemon")

REFRESH_TIMEOUT: Final = 5.0
"""Seconds the start waits for PostgreSQL to describe its tables; the feed waits longer."""

_WHERE: Final = ("host", "port", "user", "database", "password", "ssl", "require_auth")

_STOPPING: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
"""What ends the daemon. SIGHUP too: the settings of a process cannot be read again, and it is sent
when a terminal closes."""


class Daemon:
    """Reads one database's feed, deletes keys and tells receivers, until stopped.

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
        self.resyncs: Counter[str] = Counter()
        self.connected = False
        """Whether it has ever been."""
        self.registry = Registry(self.using)
        self.rules: RuleSet = load_rules(self.registry)
        self.dispatcher = Dispatcher(self.using, self.registry, self.rules, conf.NUDGED["CACHES"])
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
        self._finder = Thread("pgnudge connection")
        self._began = time.monotonic()
        self._stopping = self._is_trial = False
        self._idle = True
        self._reading: asyncio.Task[None] | None = None
        self.live = asyncio.Event()
        """Set once the feed has been live."""
        self.keepers: dict[str, LeaseKeeper] = {}
        self._prover = Prover(
            feed=lambda: self._feed,
            catalog_refresh=self.dispatcher.catalog_refresh,
            registry=self.registry,
            dispatch=self.dispatcher.dispatch,
            ruled=self._ruled,
            widen=self._widen_filter,
        )
        self._filter: list[str] | None = None
        """The tables that the feed's own filter lets through, as the registry named them."""

    async def run(self) -> None:
        """Run until ``stop``, SIGTERM, SIGHUP or Ctrl-C.

        Raises what ``connect_hints.explain`` explains.
        """
        with self._signals():
            receivers = self.dispatcher.receivers
            sending = asyncio.create_task(receivers.run(), name="pgnudge receivers")
            self._reading = asyncio.create_task(self._read(), name="pgnudge reader")
            leases = [
                asyncio.create_task(self._keep_lease(alias), name=f"pgnudge lease {alias}")
                for alias in self.dispatcher.nudged
            ]
            leases.append(asyncio.create_task(self._watch_map(), name="pgnudge map"))
            try:
                helpers = {sending, *leases}
                await asyncio.wait({self._reading, *helpers}, return_when=asyncio.FIRST_COMPLETED)
                for helper in helpers:
                    if helper.done():
                        helper.result()
                if not self._reading.cancelled():
                    self._reading.result()
                receivers.finish()
                await sending
            finally:
                await _end(self._reading, sending, *leases)
                await self.dispatcher.aclose()
        logger.info("Stopped after %s.", self.status())

    async def check(self, timeout: float = 30.0) -> str:  # noqa: ASYNC109
        """Say what ``run`` would do. Raises NotReadyError with all that would keep it from that.

        Connects once and deletes no key of the site. Waits about ``timeout`` seconds at most, for
        PostgreSQL and for each cache.
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

    def status(self) -> Status:
        """What has been done so far; may be called from any thread."""
        workers = list(self.dispatcher.workers.values())
        return Status(
            seconds=time.monotonic() - self._began,
            lsn=self.dispatcher.receivers.lsn,
            batches=self.dispatcher.receivers.batches,
            deleted=sum(worker.deleted for worker in workers),
            resyncs=self.resyncs.copy(),
            outages=sum(worker.outages for worker in workers),
            renewals=sum(keeper.renewals for keeper in list(self.keepers.values())),
        )

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
                    await self.dispatcher.take(item)

    async def _make_feed(self) -> Any:
        await self.dispatcher.catalog_refresh.refresh(REFRESH_TIMEOUT)
        backoff = Backoff(0.1, 5.0, least=0.5)
        while True:
            try:
                connection = await self._find_server()
                break
            except ConnectionLostError as exc:
                if self._is_trial:
                    raise
                logger.warning("%s Retrying.", exc)
                await asyncio.sleep(backoff.next_delay())
        wanted = self.rules.wants_keys()
        know_tables = self.dispatcher.catalog_refresh.refreshed
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
        # The daemon does not know which rows the values of readers depend on.
        return (
            anyone_listens()
            or bool(self.dispatcher.nudged)
            or self.rules.wants_keys_of_any()
            or self.dispatcher.third_party.wants_rows
        )

    def _ruled(self) -> frozenset[str]:
        """The payloads whose changes invalidate more than nudged values."""
        ruled = self.rules.payloads()
        return ruled.union(self.registry.tables()) if self.dispatcher.third_party.workers else ruled

    async def _find_server(self) -> dict[str, Any]:
        """Blocking look-ups go to a thread that does not hold up the exit."""
        return await self._finder.run(functools.partial(feed_connection, self.using))

    async def _locate(self) -> dict[str, Any]:
        """Where to reconnect: another of several hosts may have become the primary."""
        try:
            found = await self._find_server()
        except ConfigError as exc:
            if not self.connected:
                raise
            # It was right before. Perhaps a service file is being replaced.
            raise ConnectionLostError(str(exc)) from exc
        return {name: found[name] for name in _WHERE if name in found}

    def _give_up(self, exc: Exception) -> bool:
        """Asked by the feed, which logs what it is going to try again."""
        if self._is_trial:
            return True
        advice = advise(exc)
        if advice is None:
            return False
        if not self.connected:
            return True
        if may_log(("hint", self.using)):
            logger.error("Still trying, but waiting will not help. %s", advice)
        return False

    async def _resync(self, reason: str) -> None:
        self.resyncs[reason] += 1
        if reason in {"connected", "reconnected"}:
            self.connected = True
            self._log_connected()
        level = logging.INFO if reason in {"connected", "failsafe"} else logging.WARNING
        logger.log(level, 'Resync (%s): clearing by PGNUDGE["RESYNC"] = %r.', reason, conf.RESYNC)
        await self.dispatcher.resync(reason)
        cleared = self.rules.cache_refs()
        if not self._stopping:
            # Before the next batch: what changed of the map before this stream is not in it.
            # Nothing is in hand meanwhile.
            self._idle = True
            try:
                await self._prover.read_map(REFRESH_TIMEOUT)
            finally:
                self._idle = False
            if self.rules.cache_refs() != cleared:
                # Tenants were made meanwhile, and keys for them.
                await self.dispatcher.clear_again()
        if self.connected:
            self.live.set()
        for keeper in self.keepers.values():
            keeper.kick()

    def _log_connected(self) -> None:
        feed = self._feed
        version = getattr(feed, "server_version", 0)
        logger.info(
            "Connected to PostgreSQL %d.%d (database alias %r) through %s, slot %s.",
            version // 10_000, version % 10_000, self.using,
            getattr(feed, "plugin_in_use", None), getattr(feed, "slot_name", None),
        )  # fmt: skip

    async def _keep_lease(self, alias: str) -> None:
        keeper = self.keepers[alias] = LeaseKeeper(
            self.dispatcher.worker(alias),
            self.dispatcher.names,
            length=lambda: float(conf.NUDGED["LEASE"]),
            skew=lambda: float(conf.NUDGED["SKEW"]),
            prove=self._prover.prove,
        )
        await self.live.wait()
        await keeper.run()

    async def _watch_map(self) -> None:
        await self.live.wait()
        await self._prover.watch()

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


async def _end(*tasks: asyncio.Task[None] | None) -> None:
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
