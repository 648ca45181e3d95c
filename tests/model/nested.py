"""A value whose function calls another: the outer one is kept with what the inner one stands on.

Each cache has its own lease, token and deletes, and the daemon's worker for one may be behind that
for the other. A stamp is either as good as when it was taken or dead, so no random values are
needed: a delete turns what carries the token into ``DEAD``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from tests.model.state import TRUE_NOW, UNREAD, older

NO_TOKEN: Final = 0
ALIVE: Final = 1
DEAD: Final = 2
OVER: Final = -1
"""The age of a lease that is over, or was never written."""

Steps: TypeAlias = "Iterator[tuple[str, NestedWorld]]"


@dataclass(frozen=True, slots=True)
class NestedBounds:
    """``caches``: one for both values, or one for each. ``outer_reads``: the outer function queries
    the row itself before it calls the inner one; otherwise it knows the row by the inner one only.

    The other three are guards.
    """

    caches: int
    outer_reads: bool
    length: int = 1
    unheard: int = 2
    another_cache_s_lease_is_no_ground_to_store: bool = True
    stamps_of_inner_values_are_collected: bool = True
    two_tokens_of_one_key_are_not_stored: bool = True


class Stored(NamedTuple):
    """``token``: the one there is, or none if the entry does not carry the row's token."""

    token: int
    value: int


class NestedCache(NamedTuple):
    """One cache and the daemon's worker for it. ``left``: commits that the proof waits for."""

    lease: int
    token: int
    inner: Stored | None
    outer: Stored | None
    behind: int
    proof: int
    left: int


class Call(NamedTuple):
    """A function that runs: its stamp, and the oldest it has read; ``called``: by the inner too."""

    token: int
    value: int
    called: bool


class NestedWorld(NamedTuple):
    """The outer value is kept in the first cache and the inner one in the last."""

    caches: tuple[NestedCache, ...]
    outer: Call | None
    inner: Call | None


class Nesting:
    """The steps of two values, one of which calls the other."""

    def __init__(self, bounds: NestedBounds) -> None:
        self.bounds = bounds
        self.dead = bounds.length + 1

    def beginning(self) -> NestedWorld:
        cache = NestedCache(OVER, NO_TOKEN, None, None, 0, OVER, 0)
        return NestedWorld((cache,) * self.bounds.caches, None, None)

    def served_too_old(self, world: NestedWorld) -> bool:
        return any(
            it is not None and cache.lease != OVER and it.value > self.bounds.length
            for cache in world.caches
            for it in (cache.inner, cache.outer)
        )

    def steps(self, world: NestedWorld) -> Steps:
        yield (
            "time: a tick passes",
            self._each_value(world, self._older)._replace(
                caches=tuple(map(self._aged, self._each_value(world, self._older).caches))
            ),
        )
        yield from self._writer(world)
        for number in range(len(world.caches)):
            yield from self._daemon(world, number)
        yield "daemon: Resync: all epochs end", self.beginning()
        yield from self._inner(world)
        yield from self._outer(world)

    # Database and daemon.

    def _writer(self, world: NestedWorld) -> Steps:
        if all(cache.behind < self.bounds.unheard for cache in world.caches):
            replaced = self._each_value(world, lambda value: 0 if value == TRUE_NOW else value)
            caches = tuple(cache._replace(behind=cache.behind + 1) for cache in replaced.caches)
            yield "writer: commits", replaced._replace(caches=caches)

    def _daemon(self, world: NestedWorld, number: int) -> Steps:
        cache = world.caches[number]
        who = f"daemon, cache {'AB'[number]}"
        if cache.behind:
            deleted = cache._replace(
                token=NO_TOKEN,
                inner=_unless_carried(cache.inner),
                outer=_unless_carried(cache.outer),
                behind=cache.behind - 1,
                left=max(0, cache.left - 1),
            )
            after = self._with(world, number, deleted)
            if number == 0:
                after = after._replace(outer=_died(after.outer))
            if number == self.bounds.caches - 1:
                after = after._replace(inner=_died(after.inner))
            yield f"{who}: deletes the token", after
        if cache.proof == OVER:
            begun = cache._replace(proof=0, left=cache.behind)
            words = "begins a renewal: asks the cache's clock and the end of the log"
            yield f"{who}: {words}", self._with(world, number, begun)
        elif cache.left == 0:
            written = cache._replace(lease=cache.proof, proof=OVER)
            yield f"{who}: writes the lease", self._with(world, number, written)

    # Readers.

    def _inner(self, world: NestedWorld) -> Steps:
        last = self.bounds.caches - 1
        cache = world.caches[last]
        if world.inner is None:
            if cache.lease != OVER:
                stamped = self._with(world, last, cache._replace(token=ALIVE))
                call = Call(ALIVE, TRUE_NOW, False)
                yield "inner: takes its stamp and queries", stamped._replace(inner=call)
        else:
            done = world._replace(inner=None)
            if world.inner.token == ALIVE:
                stored = cache._replace(inner=Stored(*world.inner[:2]))
                done = self._with(done, last, stored)
            yield "inner: stores what it read under its stamp", done

    def _outer(self, world: NestedWorld) -> Steps:
        cache, call = world.caches[0], world.outer
        if call is None:
            if cache.lease != OVER and self.bounds.outer_reads:
                stamped = self._with(world, 0, cache._replace(token=ALIVE))
                call = Call(ALIVE, TRUE_NOW, False)
                yield "outer: takes its stamp and queries", stamped._replace(outer=call)
            elif cache.lease != OVER:
                call = Call(NO_TOKEN, UNREAD, False)
                yield "outer: takes its stamp", world._replace(outer=call)
        elif not call.called:
            yield from self._outer_calls(world, call)
        else:
            done = world._replace(outer=None)
            if call.token != DEAD:
                done = self._with(done, 0, cache._replace(outer=Stored(*call[:2])))
            yield "outer: stores what it came to", done

    def _outer_calls(self, world: NestedWorld, call: Call) -> Steps:
        last = self.bounds.caches - 1
        cache = world.caches[last]
        if cache.lease == OVER:
            # The inner value has no stamp, so the outer one is not stored.
            yield "outer: calls inner, which computes without a lease", world._replace(outer=None)
            return
        if cache.inner is not None:
            after = self._with_inner(call, cache.inner.value)
            yield "outer: calls inner, which is a hit", world._replace(outer=after)
        stamped = self._with(world, last, cache._replace(token=ALIVE))
        after = self._with_inner(call, TRUE_NOW)
        yield "outer: calls inner, which computes", stamped._replace(outer=after)

    def _with_inner(self, call: Call, value: int) -> Call | None:
        """The outer call once the inner one has returned under a token that is there; None if the
        value will not be stored."""
        bounds = self.bounds
        token = call.token
        if bounds.caches == 2:
            if bounds.another_cache_s_lease_is_no_ground_to_store:
                return None
        elif bounds.stamps_of_inner_values_are_collected:
            if token == DEAD and bounds.two_tokens_of_one_key_are_not_stored:
                return None
            token = ALIVE
        return Call(token, max(call.value, value), True)

    # Time, and all values at once.

    def _older(self, value: int) -> int:
        return older(value, self.dead)

    def _aged(self, cache: NestedCache) -> NestedCache:
        lease, proof = self._older(cache.lease), self._older(cache.proof)
        return cache._replace(
            lease=OVER if lease == self.dead else lease,
            proof=OVER if proof == self.dead else proof,
            left=0 if proof == self.dead else cache.left,
        )

    def _each_value(self, world: NestedWorld, change) -> NestedWorld:
        def stored(it):
            return it and it._replace(value=change(it.value))

        caches = tuple(
            cache._replace(inner=stored(cache.inner), outer=stored(cache.outer))
            for cache in world.caches
        )
        return NestedWorld(caches, stored(world.outer), stored(world.inner))

    def _with(self, world: NestedWorld, number: int, cache: NestedCache) -> NestedWorld:
        caches = (*world.caches[:number], cache, *world.caches[number + 1 :])
        return world._replace(caches=caches)


def _unless_carried(it: Stored | None) -> Stored | None:
    """What is left of an entry when the token is deleted."""
    return it if it is not None and it.token == NO_TOKEN else None


def _died(it: Call | None) -> Call | None:
    return it._replace(token=DEAD) if it is not None and it.token == ALIVE else it
