"""One cached value: from what the user said to the recipe the protocol reads by."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_pgnudge.conf import conf
from django_pgnudge.fresh.dependencies import DependsOn, tables
from django_pgnudge.fresh.driving import (
    Place,
    alook,
    arun,
    flights,
    lifetime,
    look,
    run,
)
from django_pgnudge.fresh.entries import Hit, Plan, judge
from django_pgnudge.fresh.keys import Names
from django_pgnudge.fresh.reading import Recipe, Store, read, read_on, store_entry
from django_pgnudge.fresh.scope import entry_name, on_loop, scope_of
from django_pgnudge.fresh.seldom import seldom
from django_pgnudge.fresh.sightings import Sightings

if TYPE_CHECKING:
    from django_pgnudge.fresh.entries import Stamp
    from django_pgnudge.fresh.keys import Coverage, Dependency

__all__ = ["WAIT", "Options", "Value"]

logger = logging.getLogger("django_pgnudge.nudged")

WAIT: Final = 2.0
"""Seconds to wait for another caller who computes the same value."""

REMEMBERED: Final = 4096

sightings = Sightings()
coverages: dict[str, Coverage] = {}
plans: dict[tuple[str, frozenset[Dependency]], Plan] = {}
"""By the entry's key, which names the database, and what the value stands on."""


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
        return conf.nudged_home()[1][0] if self.cache is None else self.cache

    @property
    def database(self) -> str:
        """The database whose stream keeps the values fresh."""
        return conf.nudged_home()[0] if self.using is None else self.using


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
        using = options.database
        self.names = Names.of(using)
        scope = scope_of(using)
        self.entry = self.names.entry(entry_name(name, scope))
        self.place = Place(options.alias, using, what, scope)
        self._handed = handed
        self._since = since

    def get(self, compute: Callable[[], Any], *, look_first: bool = True) -> Any:
        """The value; blocks."""
        plan = self._plan()
        if plan is None:
            return compute()
        if not look_first:
            return run(read(self._recipe(plan), flights, look_first=False), self.place, compute)
        state = judge(plan, look(self.place, plan.question) or {})
        if isinstance(state, Hit):
            return state.value
        recipe = self._recipe(plan)
        if on_loop():
            recipe = replace(recipe, wait=0.0)
        return run(read_on(recipe, flights, state), self.place, compute)

    async def aget(self, compute: Callable[[], Awaitable[Any]], *, look_first: bool = True) -> Any:
        """The value; awaits."""
        plan = await self._aplan()
        if plan is None:
            return await compute()
        if not look_first:
            recipe = self._recipe(plan, on_loop=True)
            return await arun(read(recipe, flights, look_first=False), self.place, compute)
        state = judge(plan, await alook(self.place, plan.question) or {})
        if isinstance(state, Hit):
            return state.value
        recipe = self._recipe(plan, on_loop=True)
        return await arun(read_on(recipe, flights, state), self.place, compute)

    async def arecipe(self, store: Store = store_entry) -> Recipe | None:
        """``recipe`` for a task."""
        plan = await self._aplan()
        return None if plan is None else self._recipe(plan, on_loop=True, store=store)

    def recipe(self, *, on_loop: bool, store: Store = store_entry) -> Recipe | None:
        """How to read it; None where it cannot be cached at all."""
        plan = self._plan()
        return None if plan is None else self._recipe(plan, on_loop=on_loop, store=store)

    async def _aplan(self) -> Plan | None:
        """``_plan`` for a task: PostgreSQL is asked in a thread, and almost never."""
        if tables(self.place.using, self.place.scope).may_ask(self.depends_on):
            return await sync_to_async(self._plan)()
        return self._plan()

    def _plan(self) -> Plan | None:
        """The keys to ask for; None where it cannot be cached at all."""
        if self.place.alias not in conf.nudged_home()[1]:
            if seldom(f"no lease in {self.place.alias}"):
                logger.warning(
                    "nudged: no lease is kept in the cache %r, so %s is called each time. Name it"
                    ' in PGNUDGE["NUDGED"]["CACHES"].',
                    self.place.alias,
                    self.what,
                )
            return None
        dependencies = tables(self.place.using, self.place.scope).dependencies(self.depends_on)
        if dependencies is None:
            return None
        plan = plans.get((self.entry, dependencies))
        if plan is None:
            if len(plans) >= REMEMBERED:
                plans.clear()
            plan = plans[self.entry, dependencies] = Plan.of(self.names, self.entry, dependencies)
        return plan

    def _recipe(self, plan: Plan, *, on_loop: bool = False, store: Store = store_entry) -> Recipe:
        alias, timeout = self.place.alias, self.options.timeout
        return Recipe(
            plan=plan,
            alias=alias,
            timeout=timeout,
            lifetime=lifetime(alias, timeout),
            wait=self.options.wait,
            on_loop=on_loop,
            coverages=coverages,
            may_store=self._may_store(plan),
            vouch=self._vouch,
            store=store,
        )

    def _may_store(self, plan: Plan) -> Callable[[Coverage | None], bool]:
        def may_store(coverage: Coverage | None) -> bool:
            using = self.place.using
            if coverage is None:
                if seldom(f"no lease {self.place.alias}"):
                    logger.warning(
                        "nudged: there is no lease in the cache %r, so values are computed and not"
                        " cached. Is runnudge running for the database %r?",
                        self.place.alias,
                        using,
                    )
                return False
            lacking = plan.uncovered(coverage)
            if lacking and seldom(f"uncovered {self.what}"):
                logger.warning(
                    "nudged: the stream does not carry %s, so %s is called each time. Let the"
                    " table in by TABLES and EXCLUDE of PGNUDGE, and add it to the publication if"
                    " there is one; a table of another name is written 'schema.table'.",
                    ", ".join(lacking),
                    self.what,
                )
            return not lacking

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
