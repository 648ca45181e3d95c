"""How a value is read: the protocol without I/O, as a generator of `steps`.

The rule it exists for: tokens are taken before the function runs, and what is stored carries them.
Whatever a reader stores late, under tokens the daemon has deleted meanwhile, is never served.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from django_pgnudge.fresh.entries import Hit, Judgement, Miss, Plan, Stamp, judge, new_token, pack
from django_pgnudge.fresh.steps import (
    Add,
    Begin,
    Compute,
    Delete,
    GetMany,
    Join,
    Set,
    Sleep,
    Step,
)

if TYPE_CHECKING:
    from django_pgnudge.fresh.flights import Flight, Flights
    from django_pgnudge.fresh.keys import Coverage

__all__ = ["LOCK_SECONDS", "Recipe", "Store", "read", "read_on", "stamp_now", "store_entry"]

LOCK_SECONDS: Final = 30
"""How long a process that died keeps the lock of the value it computed."""

POLL: Final = (0.02, 0.2)
"""Seconds between two looks at whether another process has stored the value: at first, at most."""

ROW_TOKEN_SECONDS: Final = 86_400
"""Tokens of rows last at least so long: there are as many as rows, and they must not pile up."""

Steps: TypeAlias = Generator[Step, Any, Any]
Store: TypeAlias = "Callable[[Recipe, Any, Stamp], Step | None]"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a reader knows of its value.

    ``coverages`` remembers the lists of what streams carry, by their digests. ``may_store`` is
    asked with the one of the lease, None if there is no lease. ``store`` makes the step that
    keeps the value, or None. ``vouch`` says whether all that the function is handed was read
    under these tokens too. ``timeout`` is the entry's, in the user's words; ``lifetime`` what it
    comes to in seconds. ``wait`` is how long to wait for others who compute the same value; 0 for
    not at all, and no lock either.
    """

    plan: Plan
    alias: str
    timeout: Any
    lifetime: float | None
    wait: float
    on_loop: bool
    coverages: dict[str, Coverage]
    may_store: Callable[[Coverage | None], bool]
    vouch: Callable[[Stamp], bool]
    store: Store
    clock: Callable[[], float] = time.monotonic


def store_entry(recipe: Recipe, value: Any, stamp: Stamp) -> Step | None:
    """Keep the value under the plan's key."""
    return Set(recipe.plan.entry, pack(stamp, value), recipe.timeout)


def read(recipe: Recipe, flights: Flights, *, look_first: bool = True) -> Steps:
    """The value, from the cache or computed; ``look_first=False`` computes in any case."""
    plan = recipe.plan
    found = yield Begin(plan.asked())
    return (yield from read_on(recipe, flights, _judged(plan, found, look_first), look_first))


def read_on(recipe: Recipe, flights: Flights, first: Judgement, look_first: bool = True) -> Steps:
    """``read``, once what the cache answered has been judged."""
    plan = recipe.plan
    if isinstance(first, Hit):
        return first.value
    if not (yield from _may_store(recipe, first)):
        return (yield Compute())
    if not recipe.wait or not look_first:
        return (yield from _compute(recipe, first))
    deadline = recipe.clock() + recipe.wait
    while True:
        flight, mine = flights.join_or_start((recipe.alias, plan.entry), on_loop=recipe.on_loop)
        if flight is None:
            return (yield from _compute(recipe, first))
        if mine:
            with flights.flying(flight):
                return (yield from _compute_for_all(recipe, deadline))
        landed = yield from _wait(flight, flights, deadline - recipe.clock())
        # What the other computed may be older than what this caller has seen committed: the
        # tokens tell, so it is looked up and not handed over.
        again = _judged(plan, (yield GetMany(plan.asked())))
        if isinstance(again, Hit):
            return again.value
        if not (yield from _may_store(recipe, again)):
            return (yield Compute())
        if not landed:
            return (yield from _compute(recipe, again))


def stamp_now(recipe: Recipe) -> Generator[Step, Any, Stamp | None]:
    """The tokens as they are, for whoever keeps the value elsewhere; None where none is to be."""
    state = _judged(recipe.plan, (yield Begin(recipe.plan.asked())))
    if not (yield from _may_store(recipe, state)):
        return None
    state = yield from _take_stamp(recipe, state)
    if not (yield from _may_store(recipe, state)):
        return None
    return state.stamp if isinstance(state, Miss) else None


def _take_stamp(recipe: Recipe, state: Judgement) -> Generator[Step, Any, Judgement]:
    """Make the tokens that are missing and look again: another process may have been first."""
    plan = recipe.plan
    if not isinstance(state, Miss) or not state.missing:
        return state
    for key in state.missing:
        yield Add(key, new_token(), _token_timeout(recipe, key))
    return _judged(plan, (yield GetMany(plan.asked())))


def _wait(flight: Flight, flights: Flights, seconds: float) -> Steps:
    with flights.waiting(flight) as safe:
        return safe and seconds > 0 and (yield Join(flight, seconds))


def _compute_for_all(recipe: Recipe, deadline: float) -> Steps:
    """Compute while the others wait: those of this process for the flight, of others for the lock.

    The lock is the cache's ``add``, and never more than a courtesy: nothing rests on it.
    """
    plan = recipe.plan
    pause = POLL[0]
    locked = yield Add(plan.lock, new_token(), LOCK_SECONDS)
    while not locked and (left := deadline - recipe.clock()) > 0:
        yield Sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311
        pause = min(POLL[1], pause * 1.5)
        found = yield GetMany([*plan.asked(), plan.lock])
        state = _judged(plan, found)
        if isinstance(state, Hit):
            return state.value
        if not (yield from _may_store(recipe, state)):
            return (yield Compute())
        if plan.lock not in found:
            locked = yield Add(plan.lock, new_token(), LOCK_SECONDS)
    try:
        # Someone may have stored it between the first look and the lock.
        state = _judged(plan, (yield GetMany(plan.asked())))
        if isinstance(state, Hit):
            return state.value
        return (yield from _compute(recipe, state))
    finally:
        if locked:
            yield Delete(plan.lock)


def _compute(recipe: Recipe, state: Judgement) -> Steps:
    """Take the tokens, then call the function, then keep what it returned under those tokens."""
    state = yield from _take_stamp(recipe, state)
    if isinstance(state, Hit):
        return state.value
    stamp = state.stamp if (yield from _may_store(recipe, state)) else None
    if stamp is not None and not recipe.vouch(stamp):
        stamp = None
    value = yield Compute()
    if stamp is not None and (step := recipe.store(recipe, value, stamp)) is not None:
        yield step
    return value


def _judged(plan: Plan, found: Mapping[str, Any] | None, may_hit: bool = True) -> Judgement:
    state = judge(plan, found or {})
    if isinstance(state, Hit) and not may_hit:
        assert found is not None
        return judge(plan, {key: found[key] for key in found if key != plan.entry})
    return state


def _may_store(recipe: Recipe, state: Judgement) -> Generator[Step, Any, bool]:
    """Whether there was a lease whose stream carries all that the value stands on."""
    if not isinstance(state, Miss) or state.coverage is None:
        return recipe.may_store(None)
    coverage = recipe.coverages.get(state.coverage)
    if coverage is None:
        key = recipe.plan.coverage_key(state.coverage)
        listed = ((yield GetMany([key])) or {}).get(key)
        if not isinstance(listed, frozenset | set | list | tuple):
            return False
        coverage = recipe.coverages[state.coverage] = frozenset(listed)
    return recipe.may_store(coverage)


def _token_timeout(recipe: Recipe, key: str) -> float | None:
    if key in recipe.plan.lasting or recipe.lifetime is None:
        return None
    return max(ROW_TOKEN_SECONDS, int(recipe.lifetime) + 60)
