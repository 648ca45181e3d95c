"""What is explored: the protocol within several bounds, and without each of its guards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeAlias

from tests.model import protocol
from tests.model.bounds import Bounds, Guards
from tests.model.explorer import Explored, explore
from tests.model.nested import NestedBounds, Nesting

AnyBounds: TypeAlias = Bounds | NestedBounds


class Model(Protocol):
    """Something to explore."""

    def beginning(self) -> Any: ...

    def steps(self, world: Any) -> Iterator[tuple[str, Any]]: ...

    def served_too_old(self, world: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class Scenario:
    """The whole protocol within bounds: nothing is ever served too old."""

    name: str
    bounds: AnyBounds


@dataclass(frozen=True, slots=True)
class Removal:
    """A guard and the bounds within which its absence shows. ``found_as``: the failure of issue 8
    that it closes, if it is one of those."""

    guard: str
    bounds: AnyBounds
    found_as: str = ""


SMALL: Final = Bounds(unheard=1, running=1, deaths=False, gaps=False, hasty=True)

TINY: Final = replace(SMALL, length=0)
"""A lease of no ticks ends with the tick in which its t was asked."""

TWO: Final = replace(TINY, daemons=2, running=2, symmetric=True)

SCENARIOS: Final = [
    Scenario("two readers, and commits that become visible late", Bounds(2, held_commits=True)),
    Scenario("one reader, and a lease of two ticks", Bounds(length=2, held_commits=True)),
    Scenario("a request that comes late or twice", Bounds(delays=True)),
    Scenario(
        "memory lost, or a lagging replica promoted", Bounds(unheard=1, losses=True, gaps=False)
    ),
    Scenario("both of these", replace(TINY, losses=True, delays=True)),
    Scenario(
        "rounds of two requests, and memory lost",
        replace(TINY, losses=True, guards=Guards(a_round="two requests")),
    ),
    Scenario("two readers, and memory lost", replace(TINY, readers=2, losses=True)),
    Scenario("a table that leaves the publication and enters", Bounds(map_changes=True)),
    Scenario("rows that come to be named otherwise", Bounds(map_changes=True, names=True)),
    Scenario("two daemons", Bounds(daemons=2, unheard=1, hasty=True, symmetric=True)),
    Scenario("two daemons, and a request late or twice", replace(TWO, delays=True)),
    Scenario("two daemons, and a table that leaves", replace(TWO, deaths=True, map_changes=True)),
    Scenario("values in values, two caches", NestedBounds(2, outer_reads=True, unheard=1)),
    Scenario("the same, the row is known by the inner", NestedBounds(2, outer_reads=False)),
    Scenario("values in values, one cache", NestedBounds(1, outer_reads=True)),
    Scenario("the same, the row is known by the inner", NestedBounds(1, outer_reads=False)),
]

DEEP: Final = [
    Scenario(
        "one daemon that may die, memory lost, and a request late or twice",
        replace(SMALL, running=0, deaths=True, losses=True, delays=True),
    ),
    Scenario(
        "two daemons that may die, and a request late or twice",
        replace(TWO, deaths=True, delays=True),
    ),
    Scenario(
        "two daemons, the second starts behind a commit, and memory lost",
        replace(TWO, running=1, replaced=True, losses=True),
    ),
    Scenario(
        "two daemons, and rows that come to be named otherwise",
        replace(TWO, map_changes=True, names=True),
    ),
]
"""What takes minutes: run by hand."""


def _out(**guards: Any) -> Guards:
    return Guards().without(**guards)


def _removal(guard: str, found_as: str, guards: Guards, **bounds: Any) -> Removal:
    return Removal(guard, replace(SMALL, guards=guards, **bounds), found_as)


REMOVALS: Final = [
    _removal("tokens are compared", "", _out(tokens_are_compared=False)),
    _removal("epochs are compared", "", _out(epochs_are_compared=False), gaps=True),
    _removal("a lease ends", "", _out(lease_is_judged_by="nothing")),
    _removal("the stamp comes before the query", "", _out(stamp_comes_before_query=False)),
    _removal(
        "requests that make tokens are sent once", "B3",
        _out(tokens_are_made_once=False), delays=True,
    ),
    _removal(
        "the lease is judged by the cache's clock: its write comes late or twice", "B3",
        _out(lease_is_judged_by="its time to live"), delays=True,
    ),
    _removal(
        "the lease is judged by the cache's clock: a replica that lags is promoted", "B8",
        _out(lease_is_judged_by="its time to live"), losses=True,
    ),
    _removal(
        "the fingerprint is of row versions, not of what they say", "C1",
        _out(map_is_proved_by="its present state"), map_changes=True,
    ),
    _removal(
        "the first fingerprint is taken before the stream begins, not at the first proof", "C1",
        _out(map_is_proved_by="versions, since the first proof"),
        length=0, daemons=2, running=2, map_changes=True,
    ),
    _removal(
        "a reader stores only in an epoch in which its map was read", "",
        _out(stores_only_in_epochs_it_read_the_map_in=False),
        length=0, map_changes=True, names=True,
    ),
    _removal(
        "the names that a reader asks for are of that map", "",
        _out(names_are_of_that_map=False), length=0, map_changes=True, names=True,
    ),
    _removal(
        "the epoch is seen before the map is read", "",
        _out(epoch_is_seen_before_map_is_read=False), length=0, map_changes=True, names=True,
    ),
    _removal(
        "deletes wait until the commit is visible", "",
        _out(deletes_wait_until_visible=False), held_commits=True,
    ),
    _removal(
        "the step that raises the mark deletes the tokens too", "",
        _out(a_round="three requests"), length=0, losses=True,
    ),
    _removal("a gap in the stream ends the epoch", "", _out(gap_ends_epoch=False), gaps=True),
    _removal(
        "the mark shows lost memory, which ends the epoch", "",
        _out(lost_memory_ends_epoch=False), losses=True,
    ),
    _removal(
        "the mark is looked at in the step that writes the lease", "",
        _out(mark_is_looked_at_in_the_write=False), length=0, losses=True, delays=True,
    ),
    _removal(
        "the mark is a name made for each round, not a count", "",
        _out(mark="a count"), length=0, losses=True, delays=True,
    ),
    _removal(
        "the mark is raised in the step that adopts an epoch", "",
        _out(mark_is_raised_in_the_step_that_adopts=False),
        length=0, daemons=2, replaced=True, losses=True,
    ),
    _removal("the clock is asked before the proof", "", _out(clock_is_asked_before_proof=False)),
    _removal("the proof waits for the stream", "", _out(proof_waits=False)),
    _removal(
        "only a lease younger than the own Resync is adopted", "",
        _out(only_leases_younger_than_resync_are_adopted=False),
        length=0, daemons=2, running=2, hasty=False, gaps=True,
    ),
    Removal(
        "a value that stands on another cache's lease is not stored",
        NestedBounds(2, True, unheard=1, another_cache_s_lease_is_no_ground_to_store=False),
        "B1",
    ),
    Removal(
        "the stamps of inner values are collected",
        NestedBounds(1, False, unheard=1, stamps_of_inner_values_are_collected=False),
        "B1",
    ),
    Removal(
        "a value under two tokens of one key is not stored",
        NestedBounds(1, True, unheard=1, two_tokens_of_one_key_are_not_stored=False),
        "B1",
    ),
]  # fmt: skip


def run(bounds: AnyBounds, *, limit: int = 1_000_000) -> Explored[Any]:
    model: Model
    model = Nesting(bounds) if isinstance(bounds, NestedBounds) else protocol.Protocol(bounds)
    return explore(model.beginning(), model.steps, model.served_too_old, limit=limit)
