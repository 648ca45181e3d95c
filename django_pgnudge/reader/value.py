"""One cached value: from what the user said to the recipe the protocol reads by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT

from django_pgnudge import caches
from django_pgnudge.conf import conf
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.memo import Memo
from django_pgnudge.reader import token_age
from django_pgnudge.reader.dependencies import REMEMBERED, DependsOn, resolver
from django_pgnudge.reader.entries import (
    NO_ANSWER,
    NOT_BELIEVED,
    UNREADABLE,
    Hit,
    Miss,
    Plan,
    judge,
)
from django_pgnudge.reader.executor import Place, alook, arun, lifetime, look, run
from django_pgnudge.reader.keys import Names
from django_pgnudge.reader.lease_clock import LeaseClock
from django_pgnudge.reader.nested import note, note_unkept
from django_pgnudge.reader.protocol import (
    FORBIDDEN,
    MOST_COVERAGES,
    Read,
    Recipe,
    Store,
    read_on,
    store_entry,
)
from django_pgnudge.reader.scope import entry_name, on_loop, scope_of
from django_pgnudge.reader.single_flight import flights

if TYPE_CHECKING:
    from django_pgnudge.reader.entries import Believes, Judgement, Stamp
    from django_pgnudge.reader.keys import Coverage, Lease

logger = get_logger("django_pgnudge.nudged")

WAIT: Final = 2.0
"""Seconds to wait for another caller who computes the same value."""

seen_tokens: Final = token_age.TokenAges()
sights: Final[dict[tuple[str, str], LeaseClock]] = {}
"""Of leases, by what they stand for: a cache alias and the lease's name."""
coverages: Final[Memo[str, Coverage]] = Memo(MOST_COVERAGES)
plans: Final[Memo[tuple[object, ...], Plan]] = Memo(REMEMBERED)
"""By the entry's key, which names the database, and what the value stands on."""


@dataclass(frozen=True, slots=True)
class NudgedOptions:
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
        return conf.first_cache() if self.cache is None else self.cache

    @property
    def database(self) -> str:
        """The database whose stream keeps the values fresh."""
        return conf.nudged_home().database if self.using is None else self.using


@dataclass(frozen=True, slots=True)
class Planned:
    """The keys of a value, where it is, and whom to ask whether a lease there counts.

    It is good as long as ``grounds`` are: what it was made from.
    """

    grounds: tuple[object, ...]
    plan: Plan
    place: Place
    believes: Believes


class Value:
    """A value by its name in the cache and what it stands on.

    ``since`` is when what the computation is handed began to be read, if it is handed anything
    that was; ``handed`` says whether it is.
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
    ) -> None:
        self.name = name
        self.options = options
        self.what = what
        self.depends_on = tuple(depends_on)
        self.alias = options.alias
        self.using = options.database
        self.scope = scope_of(self.using)
        self._handed = handed
        self._since = since
        self._planned: Planned | None = None

    def get(self, compute: Callable[[], Any], *, look_first: bool = True) -> Any:
        """The value; blocks."""
        planned = self._plan()
        if planned is None:
            return self._alone(compute)
        place = planned.place
        answer = look(place, planned.plan.question)
        if answer is FORBIDDEN:
            return self._alone(compute)
        state = judge(planned.plan, answer, planned.believes, look_first)
        if isinstance(state, Hit):
            note(place.ground, state.stamp)
            return state.value
        if self._is_news(place, state):
            planned = self._plan()
            if planned is None:
                return self._alone(compute)
            place = planned.place
            answer = look(place, planned.plan.question)
            if answer is FORBIDDEN:
                return self._alone(compute)
            state = judge(planned.plan, answer, planned.believes, look_first)
        recipe = self._recipe(planned)
        if on_loop():
            recipe = replace(recipe, wait=0.0)
        return self.noted(run(read_on(recipe, flights, state, look_first), place, compute), place)

    async def aget(self, compute: Callable[[], Awaitable[Any]], *, look_first: bool = True) -> Any:
        """The value; awaits."""
        planned = await self._aplan()
        if planned is None:
            return await self._alone(compute)
        place = planned.place
        answer = await alook(place, planned.plan.question)
        if answer is FORBIDDEN:
            return await self._alone(compute)
        state = judge(planned.plan, answer, planned.believes, look_first)
        if isinstance(state, Hit):
            note(place.ground, state.stamp)
            return state.value
        if self._is_news(place, state):
            planned = await self._aplan()
            if planned is None:
                return await self._alone(compute)
            place = planned.place
            answer = await alook(place, planned.plan.question)
            if answer is FORBIDDEN:
                return await self._alone(compute)
            state = judge(planned.plan, answer, planned.believes, look_first)
        recipe = self._recipe(planned, on_loop=True)
        steps = read_on(recipe, flights, state, look_first)
        return self.noted(await arun(steps, place, compute), place)

    def _is_news(self, place: Place, state: Judgement) -> bool:
        """Whether the tables must be read again before anything is stored in this epoch."""
        lease = state.lease if isinstance(state, Miss) else None
        return lease is not None and not self._knows(place, lease.epoch)

    def _knows(self, place: Place, epoch: str) -> bool:
        return resolver(self.using, self.scope).knows(place.ground, epoch)

    def noted(self, done: Read, place: Place) -> Any:
        """The value of a reading, noted for whoever is computing with it."""
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
        """How and where to read it; None where it cannot be cached at all."""
        planned = self._plan()
        if planned is None:
            return None
        return self._recipe(planned, on_loop=on_loop, store=store), planned.place

    def _alone(self, compute: Callable[[], Any]) -> Any:
        note_unkept(self.what)
        return compute()

    async def _aplan(self) -> Planned | None:
        """``_plan`` for a task: PostgreSQL is asked in a thread, and almost never."""
        if resolver(self.using, self.scope).may_ask(self.depends_on):
            return await sync_to_async(self._plan)()
        return self._plan()

    def _plan(self) -> Planned | None:
        """The keys to ask for, and where; None where it cannot be cached at all."""
        mine, home = resolver(self.using, self.scope), conf.nudged_home()
        grounds = mine, mine.registry.generation, home
        planned = self._planned
        if planned is not None and planned.grounds == grounds and not mine.doubted:
            return planned
        if self.alias not in home.caches:
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
            generation = mine.registry.generation
            dependencies = mine.dependencies(self.depends_on)
            if generation == mine.registry.generation:
                break
        if dependencies is None:
            return None
        identity = mine.identity()
        if identity is None:
            self._warn(
                f"no identity {self.using}",
                "the role of the database %r may not call pg_control_system(), which tells one"
                " database from another, so values are computed and not cached. GRANT EXECUTE ON"
                " FUNCTION pg_control_system() TO it.",
                self.using,
            )
            return None
        names = Names.of(identity)
        entry = names.entry(entry_name(self.name, self.scope))
        plan = plans.get((entry, dependencies))
        if plan is None:
            plan = plans[entry, dependencies] = Plan.of(names, entry, dependencies)
        place = Place(self.alias, self.using, self.what, names.lease, self.scope)
        self._planned = Planned((mine, generation, home), plan, place, _believing(place, home.skew))
        return self._planned

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
            lease=conf.nudged_home().lease,
            on_loop=on_loop,
            believes=planned.believes,
            coverages=coverages,
            may_store=partial(self._may_store, planned),
            vouch=partial(self._vouch, planned.place),
            refuse=self._refuse,
            store=store,
            # Another caller may have been handed what was read long before.
            hands_over=not self._handed,
        )

    def _may_store(
        self, planned: Planned, lease: Lease | None, coverage: Coverage | None, why: str
    ) -> bool:
        if lease is None or coverage is None:
            self._warn_of_no_lease(why)
            return False
        if not self._knows(planned.place, lease.epoch):
            return False
        # Behind that: it may be another thread that has read the tables in this epoch, and then
        # these are the names of those before.
        mine = resolver(self.using, self.scope)
        if planned.grounds[:2] != (mine, mine.registry.generation):
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
            return  # and that was said
        # Another database may answer by this name since: its leases have other names.
        resolver(self.using, self.scope).doubt()
        hint = {
            NOT_BELIEVED: "Set the clocks of this host and of runnudge's by one source (NTP).",
            UNREADABLE: "Give the cache a KEY_PREFIX that no other program uses.",
        }.get(why, f"Is runnudge running for the database {self.using!r}?")
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
        used = token_age.used_here()
        if used is not None and (why := used.against(place.ground, stamp)):
            self._refuse(why)
            return False
        return seen_tokens.all_since((stamp.epoch, *stamp.tokens.values()), self._since)

    def _warn(self, once: str, words: str, *args: object) -> None:
        if may_log(once):
            logger.warning(f"nudged: {words}", *args)


def _refusal(alias: str) -> str | None:
    try:
        return caches.values(alias).refusal()
    except Exception:  # a server that is away, of which the reading will complain
        return None


def _believing(place: Place, skew: float) -> Believes:
    """Whether a lease counts in this process, by what it has seen of leases there."""
    sight = sights.setdefault(place.ground, LeaseClock())
    return partial(sight.believes, skew=skew)
