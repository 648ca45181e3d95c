"""One cached value: from what the user said to the recipe the protocol reads by."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_pgnudge.conf import conf
from django_pgnudge.fresh.dependencies import DependsOn, tables
from django_pgnudge.fresh.driving import Place, arun, flights, lifetime, on_loop, run
from django_pgnudge.fresh.entries import Plan
from django_pgnudge.fresh.keys import Names
from django_pgnudge.fresh.reading import Recipe, Store, read, store_entry
from django_pgnudge.fresh.seldom import seldom
from django_pgnudge.fresh.sightings import Sightings

if TYPE_CHECKING:
    from django_pgnudge.fresh.entries import Stamp
    from django_pgnudge.fresh.keys import Coverage

__all__ = ["WAIT", "Options", "Value"]

logger = logging.getLogger("django_pgnudge.nudged")

WAIT: Final = 2.0
"""Seconds to wait for another caller who computes the same value."""

sightings = Sightings()
coverages: dict[str, Coverage] = {}


@dataclass(frozen=True, slots=True)
class Options:
    """Where and for how long values are kept.

    None takes the first of ``PGNUDGE["NUDGED"]["CACHES"]`` and ``PGNUDGE["DATABASE"]``.
    """

    timeout: Any = DEFAULT_TIMEOUT
    cache: str | None = None
    using: str | None = None
    wait: float = WAIT

    @property
    def alias(self) -> str:
        """The cache."""
        return str(conf.NUDGED["CACHES"][0]) if self.cache is None else self.cache

    @property
    def database(self) -> str:
        """The database whose stream keeps the values fresh."""
        return conf.DATABASE if self.using is None else self.using


class Value:
    """A value by its name in the cache and what it stands on.

    ``since`` is when what the computation is handed began to be read, if it is handed anything
    that was; ``handed`` says whether it is.
    """

    def __init__(
        self,
        name: str,
        depends_on: Iterable[DependsOn],
        options: Options,
        what: str,
        *,
        handed: bool = False,
        since: float | None = None,
    ) -> None:
        self.options = options
        self.what = what
        self.depends_on = tuple(depends_on)
        self.names = Names(options.database)
        self.entry = self.names.entry(name)
        self.place = Place(options.alias, options.database, what)
        self._handed = handed
        self._since = since

    def get(self, compute: Callable[[], Any], *, look_first: bool = True) -> Any:
        """The value; blocks."""
        recipe = self.recipe(on_loop=False)
        if recipe is None:
            return compute()
        if on_loop():
            recipe = replace(recipe, wait=0.0)
        return run(read(recipe, flights, look_first=look_first), self.place, compute)

    async def aget(self, compute: Callable[[], Awaitable[Any]], *, look_first: bool = True) -> Any:
        """The value; awaits."""
        recipe = await self.arecipe()
        if recipe is None:
            return await compute()
        return await arun(read(recipe, flights, look_first=look_first), self.place, compute)

    async def arecipe(self, store: Store = store_entry) -> Recipe | None:
        """``recipe`` for a task: PostgreSQL is asked in a thread, and almost never."""
        make = functools.partial(self.recipe, on_loop=True, store=store)
        if tables(self.options.database).may_ask(self.depends_on):
            return await sync_to_async(make)()
        return make()

    def recipe(self, *, on_loop: bool, store: Store = store_entry) -> Recipe | None:
        """How to read it; None where it cannot be cached at all."""
        options = self.options
        if options.alias not in conf.NUDGED["CACHES"]:
            if seldom(f"no lease in {options.alias}"):
                logger.warning(
                    "nudged: no lease is kept in the cache %r, so %s is called each time. Name it"
                    ' in PGNUDGE["NUDGED"]["CACHES"].',
                    options.alias,
                    self.what,
                )
            return None
        dependencies = tables(options.database).dependencies(self.depends_on)
        if dependencies is None:
            return None
        return Recipe(
            plan=Plan.of(self.names, self.entry, dependencies),
            alias=options.alias,
            timeout=options.timeout,
            lifetime=lifetime(options.alias, options.timeout),
            wait=options.wait,
            on_loop=on_loop,
            coverages=coverages,
            may_store=self._may_store(dependencies),
            vouch=self._vouch,
            store=store,
        )

    def _may_store(self, dependencies: Any) -> Callable[[Coverage | None], bool]:
        needed = frozenset(each.payload for each in dependencies if "." in each.payload)

        def may_store(coverage: Coverage | None) -> bool:
            using = self.options.database
            if coverage is None:
                if seldom(f"no lease {self.options.alias}"):
                    logger.warning(
                        "nudged: there is no lease in the cache %r, so values are computed and not"
                        " cached. Is runnudge running for the database %r?",
                        self.options.alias,
                        using,
                    )
                return False
            lacking = sorted(needed - coverage)
            if lacking and seldom(f"uncovered {self.what}"):
                logger.warning(
                    "nudged: the stream does not carry %s, so %s is called each time. Let the"
                    " table in by TABLES and EXCLUDE of PGNUDGE, and add it to the publication if"
                    " there is one; a table of another name is written 'schema.table'.",
                    ", ".join(lacking),
                    self.what,
                )
            elsewhere = tables(using).elsewhere(self.depends_on)
            if elsewhere is not None and seldom(f"elsewhere {self.what}"):
                logger.warning(
                    "nudged: a database router reads a model of %s from %r, which may lag behind"
                    " %r, so it is called each time.",
                    self.what,
                    elsewhere,
                    using,
                )
            return not lacking and elsewhere is None

        return may_store

    def _vouch(self, stamp: Stamp) -> bool:
        if not self._handed:
            return True
        if self._since is None and seldom(f"handed {self.what}"):
            logger.warning(
                "nudged: %s is handed model instances that were read before, outside a request, so"
                " it is not cached: pass primary keys, or read and call inside"
                " 'with nudged.reading():'.",
                self.what,
            )
        return sightings.all_since(stamp.tokens, self._since)
