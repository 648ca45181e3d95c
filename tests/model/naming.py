"""One state for all worlds that differ in nothing but luck.

Two things are done to a world. What can never be served again is forgotten: an entry, or a value on
its way, whose token or epoch nobody can bring back; a lease that is over. And random values are
numbered in the order in which they are met.
"""

from __future__ import annotations

from tests.model.bounds import Bounds
from tests.model.state import (
    NOBODY,
    NOTHING,
    SINCE_ANOTHER_LIFE,
    Daemon,
    Entry,
    Late,
    Lease,
    Memory,
    Reader,
    World,
)

__all__ = ["named"]


def named(world: World, bounds: Bounds) -> World:
    """The world that stands for all that are like ``world``."""
    world = _without_the_dead(world, bounds)
    if bounds.symmetric and len(world.daemons) > 1:
        world = _in_order(world)
    return _numbered(world, bounds.map_changes)


def _without_the_dead(world: World, bounds: Bounds) -> World:
    guards = bounds.guards
    cache, saved, daemons, readers, late = world[:5]
    if guards.lease_is_judged_by != "nothing":
        dead = bounds.length + 1
        if cache.lease is not None and cache.lease.age == dead:
            cache = cache._replace(lease=None)
        if (
            saved is not None
            and saved.lease is not None
            and saved.lease.age == dead
            and guards.lease_is_judged_by == "the cache's clock"
        ):
            saved = saved._replace(lease=None)
        if late is not None and not world.daemons[1:] and late.lease and late.lease.age == dead:
            late = None
    if late is not None and late.lease is not None and not late.stands:
        # It writes nothing, unless the memory comes back in which its mark stands.
        late = late if saved is not None and late.stands_saved else None
    if guards.tokens_are_compared and guards.epochs_are_compared:
        cache, saved, readers = _without_dead_values(
            world._replace(cache=cache, saved=saved, late=late)
        )
        alone = not bounds.losses and late is None and cache.token and cache.entry is None
        if alone and all(reader.token != cache.token for reader in readers):
            # A token that nobody carries is as good as one that is still to be made.
            cache = cache._replace(token=NOTHING)
    return World(cache, saved, daemons, readers, late, *world[5:])


def _without_dead_values(world: World) -> tuple[Memory, Memory | None, tuple[Reader, ...]]:
    """The memories and readers without what no lease or token to come will match."""
    cache, saved, daemons, readers, late = world[:5]
    epochs, tokens, fingerprints = {NOTHING}, {NOTHING}, {NOTHING, world.fingerprint}
    for daemon in daemons:
        if daemon is not None:
            epochs.add(daemon.epoch)
            if daemon.proof is not None:
                fingerprints.add(daemon.proof.fingerprint)
    for lease in (cache.lease, late and late.lease):
        if lease is not None:
            epochs.add(lease.epoch)
            fingerprints.add(lease.fingerprint)
    if late is not None:
        tokens.add(late.token)

    def living(memory: Memory) -> Memory:
        entry = memory.entry
        if entry is None or (
            (entry.token == memory.token or entry.token in tokens)
            and entry.epoch in epochs
            and entry.fingerprint in fingerprints
        ):
            return memory
        return memory._replace(entry=None)

    cache = living(cache)
    if saved is not None:
        if saved.lease is not None:
            epochs.add(saved.lease.epoch)
            fingerprints.add(saved.lease.fingerprint)
        saved = living(saved)
        tokens.add(saved.token)
    if readers:
        tokens.add(cache.token)
        readers = tuple(
            reader
            for reader in readers
            if reader.token in tokens
            and reader.epoch in epochs
            and reader.fingerprint in fingerprints
        )
    return cache, saved, readers


def _in_order(world: World) -> World:
    """Two daemons that change places are the same two: the one that comes first by what it is."""
    cache, saved, daemons, _, late = world[:5]

    def standing(me: int) -> tuple:
        it = daemons[me]
        alike = () if it is None else (it.behind, it.resynced, it.swept, it.proof or ())
        marks = cache.marks[me], -1 if saved is None else saved.marks[me]
        keeps = cache.lease is not None and cache.lease.keeper == me
        return alike, marks, keeps

    if standing(0) <= standing(1):
        return world

    def lease(it: Lease | None) -> Lease | None:
        if it is None or it.keeper == SINCE_ANOTHER_LIFE:
            return it
        return it._replace(keeper=1 - it.keeper)

    def memory(it: Memory) -> Memory:
        return it._replace(lease=lease(it.lease), marks=it.marks[::-1])

    if late is not None:
        late = late._replace(
            lease=lease(late.lease),
            counts=late.counts if late.counts == NOBODY else 1 - late.counts,
        )
    return world._replace(
        cache=memory(cache), saved=saved and memory(saved), daemons=daemons[::-1], late=late
    )


class _Numbers(dict[int, int]):
    def __missing__(self, value: int) -> int:
        self[value] = number = len(self)
        return number


def _counts_up(values: list[int]) -> bool:
    top = 0
    for value in values:
        if value > top:
            if value != top + 1:
                return False
            top = value
    return True


def _is_numbered(world: World) -> bool:
    """Whether there is nothing to do, told quickly."""
    cache, saved, daemons, readers, late = world[:5]
    epochs, tokens = [], []
    for memory in (cache,) if saved is None else (cache, saved):
        lease, token, entry, _ = memory
        if lease is not None:
            epochs.append(lease[1])
        tokens.append(token)
        if entry is not None:
            epochs.append(entry[0])
            tokens.append(entry[2])
    epochs += [daemon[0] for daemon in daemons if daemon is not None]
    if late is not None:
        if late.lease is not None:
            epochs.append(late.lease[1])
        tokens.append(late.token)
    for reader in readers:
        epochs.append(reader[0])
        tokens.append(reader[2])
    return _counts_up(epochs) and _counts_up(tokens)


def _numbered(world: World, map_changes: bool) -> World:
    if len(world.readers) > 1:
        world = world._replace(readers=tuple(sorted(world.readers)))
    if not map_changes and _is_numbered(world):
        return world
    epochs, tokens, fingerprints = _Numbers(), _Numbers(), _Numbers()
    epochs[NOTHING] = tokens[NOTHING] = fingerprints[NOTHING] = NOTHING

    def lease(it: Lease | None) -> Lease | None:
        if it is None:
            return None
        return Lease(it[0], epochs[it[1]], it[2], fingerprints[it[3]])

    def memory(it: Memory) -> Memory:
        entry = it.entry
        if entry is not None:
            entry = Entry(epochs[entry[0]], fingerprints[entry[1]], tokens[entry[2]], entry[3])
        return Memory(lease(it.lease), tokens[it.token], entry, it.marks)

    def daemon(it: Daemon | None) -> Daemon | None:
        if it is None:
            return None
        epoch, swept, behind, resynced, proof, remembered = it
        if proof is not None:
            proof = proof._replace(fingerprint=fingerprints[proof.fingerprint])
        return Daemon(
            epochs[epoch], swept, behind, resynced, proof, fingerprints[remembered]
        )  # fmt: skip

    cache, saved, daemons, readers, late, streamed, fingerprint, logged = world
    fingerprint = fingerprints[fingerprint]
    cache = memory(cache)
    saved = None if saved is None else memory(saved)
    daemons = tuple(map(daemon, daemons))
    if late is not None:
        late = Late(lease(late[0]), late[1], late[2], tokens[late[3]], late[4])
    if readers:
        readers = tuple(
            sorted(
                Reader(epochs[each[0]], fingerprints[each[1]], tokens[each[2]], each[3])
                for each in readers
            )
        )
    return World(
        cache, saved, daemons, readers, late, streamed, fingerprint, logged
    )  # fmt: skip
