"""One cached value: from the user's options to the recipe that the protocol reads by."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.core.cache import caches as django_caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache

from django_pgnudge import caches
from django_pgnudge.conf import conf
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.reader.entries import (
    NO_ANSWER,
    NO_LEASE,
    NOT_BELIEVED,
    UNREADABLE,
    Hit,
    Miss,
    Plan,
    judge,
)
from django_pgnudge.reader.executor import Place, aask_cache, arun, ask_cache, lifetime, run
from django_pgnudge.reader.keys import Names
from django_pgnudge.reader.nested import note, note_unkept, used_here
from django_pgnudge.reader.observers import DeclaredObserver, ValueObserver, how_to_check
from django_pgnudge.reader.protocol import (
    FORBIDDEN,
    Read,
    Recipe,
    Steps,
    Store,
    read_on,
    store_entry,
)
from django_pgnudge.reader.scope import entry_name, on_loop, scope_of
from django_pgnudge.reader.single_flight import flights
from django_pgnudge.reader.state import reader_state
from django_pgnudge.registry.trees import is_tree, models_now

if TYPE_CHECKING:
    from django.db.models import Model

    from django_pgnudge.reader.dependencies import DependsOn
    from django_pgnudge.reader.entries import Believes, Judgement, Stamp
    from django_pgnudge.reader.keys import Coverage, Lease
    from django_pgnudge.reader.protocol import Observer

logger = get_logger("django_pgnudge.nudged")

WAIT: Final = 2.0
"""Seconds to wait for another caller who computes the same value."""


@dataclass(frozen=True, slots=True)
class NudgedOptions:
    """Where and for how long values are kept.

    None takes the first of ``PGNUDGE["NUDGED"]["CACHES"]`` and ``PGNUDGE["DATABASE"]``.
    """

    timeout: Any = DEFAULT_TIMEOUT
    cache: str | None = None
    using: str | None = None
    wait: float = WAIT
    is_observed: bool = False
    """Whether values depend on what they read, besides what is named."""

    @property
    def alias(self) -> str:
        """The cache."""
        return conf.first_cache() if self.cache is None else self.cache

    @property
    def database(self) -> str:
        """The database whose stream keeps the values fresh."""
        return conf.DATABASE if self.using is None else self.using


@dataclass(frozen=True, slots=True)
class Planned:
    """The keys of a value, where it is, and the function that says whether a lease there counts.

    Valid as long as the registry has this ``generation``, ``conf`` that of ``settings``, and Django
    these ``models``, if it depends on a tree of models.
    """

    generation: int
    settings: int
    models: list[type[Model]] | None
    assumed: frozenset[str] | None
    plan: Plan
    place: Place
    believes: Believes


class Value:
    """A value, by its name in the cache and what it depends on.

    ``handed``: the computation is handed objects that were read before. ``since`` is when reading
    them began, if that is known. ``shows_earlier``: nothing names them, so if the value is observed
    it depends on all that was read since then. ``family`` names the values that are computed by one
    function: what one of them reads is assumed of the others.
    """

    def __init__(
        self,
        name: str,
        depends_on: Iterable[DependsOn],
        options: NudgedOptions,
        what: str,
        *,
        handed: bool = False,
        since: float | None = None,
        shows_earlier: bool = False,
        family: str | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.what = what
        self._family = what if family is None else family
        self.depends_on = tuple(depends_on)
        self.alias = options.alias
        self.state = reader_state(options.database)
        self.scope = scope_of(self.state.using)
        self._resolver = self.state.resolver(self.scope)
        self._handed = handed
        self._since = since
        self._is_observed = options.is_observed
        self._shows_earlier = shows_earlier and options.is_observed
        self._has_tree = any(map(is_tree, self.depends_on))
        self._planned: Planned | None = None

    def get(self, compute: Callable[[], Any], *, may_hit: bool = True) -> Any:
        """The value; blocks."""
        planned, has_planned_again = self._plan(), False
        while planned is not None:
            answer = ask_cache(planned.place, planned.plan.question)
            if answer is FORBIDDEN:
                break
            found = judge(planned.plan, answer, planned.believes, may_hit)
            if isinstance(found, Hit):
                note(planned.place.ground, found.stamp)
                return found.value
            if has_planned_again or not self._must_read_tables(planned.place, found):
                steps, place = self._miss(planned, found, may_hit), planned.place
                return self.noted(run(steps, place, compute), place)
            planned, has_planned_again = self._plan(), True
        return self._alone(compute)

    async def aget(self, compute: Callable[[], Awaitable[Any]], *, may_hit: bool = True) -> Any:
        """``get`` for a task: the same lines, with await."""
        planned, has_planned_again = await self._aplan(), False
        while planned is not None:
            answer = await aask_cache(planned.place, planned.plan.question)
            if answer is FORBIDDEN:
                break
            found = judge(planned.plan, answer, planned.believes, may_hit)
            if isinstance(found, Hit):
                note(planned.place.ground, found.stamp)
                return found.value
            if has_planned_again or not self._must_read_tables(planned.place, found):
                steps, place = self._miss(planned, found, may_hit, is_task=True), planned.place
                return self.noted(await arun(steps, place, compute), place)
            planned, has_planned_again = await self._aplan(), True
        return await self._alone(compute)

    def _miss(
        self, planned: Planned, found: Judgement, may_hit: bool, *, is_task: bool = False
    ) -> Steps:
        """How to go on after the cache's answer was judged."""
        recipe = self._recipe(planned, on_loop=is_task)
        if not is_task and on_loop():
            recipe = replace(recipe, wait=0.0)
        return read_on(recipe, flights, found, may_hit)

    def _must_read_tables(self, place: Place, found: Judgement) -> bool:
        """Whether the tables must be read again before anything is stored in this epoch."""
        lease = found.lease if isinstance(found, Miss) else None
        return lease is not None and not self._resolver.knows(place.ground, lease.epoch)

    def noted(self, done: Read, place: Place) -> Any:
        """The value that was read, noted for the computation that uses it."""
        if done.stamp is None:
            note_unkept(self.what)
        else:
            note(place.ground, done.stamp)
        return done.value

    def delete(self) -> None:
        """Forget it."""
        planned = self._plan()
        if planned is not None:
            caches.values(self.alias).drop([planned.plan.entry])

    async def arecipe(self, store: Store = store_entry) -> tuple[Recipe, Place] | None:
        """``recipe`` for a task."""
        planned = await self._aplan()
        if planned is None:
            return None
        return self._recipe(planned, on_loop=True, store=store), planned.place

    def recipe(self, *, on_loop: bool, store: Store = store_entry) -> tuple[Recipe, Place] | None:
        """How and where to read it; None if it cannot be cached."""
        planned = self._plan()
        if planned is None:
            return None
        return self._recipe(planned, on_loop=on_loop, store=store), planned.place

    def _alone(self, compute: Callable[[], Any]) -> Any:
        note_unkept(self.what)
        return compute()

    async def _aplan(self) -> Planned | None:
        """``_plan`` for a task: asks PostgreSQL in a thread, if it must be asked."""
        if self._resolver.may_ask(self.depends_on):
            return await sync_to_async(self._plan)()
        return self._plan()

    def _plan(self) -> Planned | None:
        """The keys to ask for, and where; None if it cannot be cached."""
        resolver, planned, settings = self._resolver, self._planned, conf.generation
        assumed = self.state.learned.of(self._family) if self._is_observed else None
        models = models_now() if self._has_tree else None
        if (
            planned is not None
            and planned.generation == resolver.registry.generation
            and planned.settings == settings
            and planned.models is models
            and (planned.assumed is assumed or planned.assumed == assumed)
            and not resolver.doubted
        ):
            return planned
        if self.alias not in conf.NUDGED["CACHES"]:
            self._warn(
                f"no lease in {self.alias}",
                "no lease is kept in the cache %r, so %s is called each time. Name it"
                ' in PGNUDGE["NUDGED"]["CACHES"].',
                self.alias,
                self.what,
            )
            return None
        if (refusal := _refusal(self.alias)) is not None:
            self._warn(
                f"refused {self.alias}",
                "the cache %r cannot hold nudged values, so they are computed: %s.",
                self.alias,
                refusal,
            )
            return None
        while True:
            # First: another thread may read the tables meanwhile.
            generation = resolver.registry.generation
            dependencies = resolver.dependencies(self.depends_on)
            if generation == resolver.registry.generation:
                break
        if dependencies is None:
            return None
        identity = resolver.identity()
        if identity is None:
            self._warn(
                f"no identity {self.state.using}",
                "the role of the database %r may not call pg_control_system(), which tells one"
                " database from another, so values are computed and not cached. GRANT EXECUTE ON"
                " FUNCTION pg_control_system() TO it.",
                self.state.using,
            )
            return None
        names = Names.of(identity)
        entry = names.entry(entry_name(self.name, self.scope))
        plans = self.state.plans
        plan = plans.get((entry, dependencies, assumed))
        if plan is None:
            plan = Plan.of(names, entry, dependencies, assumed or frozenset())
            plans[entry, dependencies, assumed] = plan
        place = self.place(names.lease)
        believes = partial(self.state.clock(place.ground).believes, skew=conf.NUDGED["SKEW"])
        self._planned = Planned(generation, settings, models, assumed, plan, place, believes)
        return self._planned

    def place(self, lease: str) -> Place:
        """Where it lives; ``lease`` is the name of the lease that stands for it."""
        explains = not self._is_observed
        return Place(
            self.state, self.alias, self.what, lease, self.scope, explains, self._shows_earlier
        )

    def _recipe(
        self, planned: Planned, *, on_loop: bool = False, store: Store = store_entry
    ) -> Recipe:
        timeout = self.options.timeout
        return Recipe(
            plan=planned.plan,
            alias=self.alias,
            timeout=timeout,
            lifetime=lifetime(self.alias, timeout),
            wait=self.options.wait,
            lease=conf.NUDGED["LEASE"],
            on_loop=on_loop,
            believes=planned.believes,
            coverages=self.state.coverages,
            may_store=partial(self._may_store, planned),
            observer=self._observer(planned),
            vouch=self._look_at if self._shows_earlier else partial(self._vouch, planned.place),
            refuse=self._refuse,
            store=store,
            # Another caller may have been handed objects that were read long before.
            hands_over=not self._handed,
        )

    def _observer(self, planned: Planned) -> Observer | None:
        names = planned.plan.names
        if self._is_observed:
            return ValueObserver(
                self.what,
                self._family,
                self.state,
                names,
                knows=planned.assumed is not None,
                plan_again=self._plan_again,
                vouch=partial(self._vouch, planned.place) if self._shows_earlier else None,
            )
        how = how_to_check(self.state)
        if how == "off":
            return None
        return DeclaredObserver(self.what, self._resolver, names, how)

    def _plan_again(self) -> Plan | None:
        planned = self._plan()
        return None if planned is None else planned.plan

    def _may_store(
        self, planned: Planned, lease: Lease | None, coverage: Coverage | None, why: str
    ) -> bool:
        if lease is None or coverage is None:
            self._warn_of_no_lease(why)
            return False
        if not self._resolver.knows(planned.place.ground, lease.epoch):
            return False
        # After that: if another thread has read the tables in this epoch, the planned names are
        # those of the tables before.
        if planned.generation != self._resolver.registry.generation:
            return False
        lacking = planned.plan.uncovered(coverage)
        if lacking:
            self._warn(
                f"uncovered {self.what}",
                "the stream does not carry %s, so %s is called each time. Let the table in by"
                " TABLES and EXCLUDE of PGNUDGE, and add it to the publication if there is one; a"
                " table of another name is written 'schema.table'.",
                ", ".join(lacking),
                self.what,
            )
        return not lacking

    def _warn_of_no_lease(self, why: str) -> None:
        if why == NO_ANSWER:
            return  # which is logged already
        # The alias may lead to another database by now, whose leases have other names.
        self._resolver.doubt()
        hint = {
            NO_LEASE: _no_lease_hint(self.alias, self.state.using),
            NOT_BELIEVED: "Set the clocks of this host and of runnudge's by one source (NTP).",
            UNREADABLE: "Give the cache a KEY_PREFIX that no other program uses.",
        }.get(why, f"Is runnudge running for the database {self.state.using!r}?")
        self._warn(
            f"no lease {self.alias}",
            "cache %r: %s, so values are computed and not cached. %s",
            self.alias,
            why,
            hint,
        )

    def _refuse(self, why: str) -> None:
        self._warn(f"private {self.what}", "%s is not cached: %s.", self.what, why)

    def _vouch(self, place: Place, stamp: Stamp) -> bool:
        if not self._handed:
            return True
        if self._since is None:
            self._warn(
                f"handed {self.what}",
                "%s is handed model instances that were read before, outside a request, so"
                " it is not cached: pass primary keys, or read and call inside"
                " 'with nudged.reading():'.",
                self.what,
            )
        is_old = self._look_at(stamp, self._since)
        used = used_here()
        if used is not None and (why := used.against(place.ground, stamp)):
            self._refuse(why)
            return False
        return is_old

    def _look_at(self, stamp: Stamp, since: float | None = math.inf) -> bool:
        """Note that these tokens stand; whether they all did at ``since``."""
        return self.state.token_ages.all_since((stamp.epoch, *stamp.tokens.values()), since)

    def _warn(self, once: str, words: str, *args: object) -> None:
        if may_log(once):
            logger.warning(f"nudged: {words}", *args)


def _no_lease_hint(alias: str, using: str) -> str:
    if isinstance(django_caches[alias], LocMemCache):
        return "It is in the memory of this process, which runnudge cannot reach: use Redis, say."
    return f"Is runnudge running for the database {using!r}?"


def _refusal(alias: str) -> str | None:
    try:
        return caches.values(alias).refusal()
    except Exception:  # the server is away, which reading will log
        return None
