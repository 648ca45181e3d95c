"""One state for all worlds that differ in nothing but luck.

Two things are done to a world. What can never be served again is forgotten: an entry, or a value on
its way, whose token or epoch nobody can bring back; a lease that is over. And random values are
numbered in the order in which they are met.
"""

from __future__ import annotations

from tests.model.bounds import Bounds, Guards
from tests.model.state import (
    MISNAMED,
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
        if world.process is not None and guards.stores_only_in_epochs_it_read_the_map_in:
            world, readers = _without_dead_names(world._replace(readers=readers), guards)
        alone = not bounds.losses and late is None and cache.token and cache.entry is None
        if alone and all(reader.token != cache.token for reader in readers):
            # A token that nobody carries is as good as one that is still to be made.
            cache = cache._replace(token=NOTHING)
    return World(cache, saved, daemons, readers, late, *world[5:])


def _without_dead_values(world: World) -> tuple[Memory, Memory | None, tuple[Reader, ...]]:
    """The memories and readers without what no lease or token to come will match."""
    cache, saved, _, readers, late = world[:5]
    epochs, tokens = _living_epochs(world), {NOTHING, MISNAMED}
    if late is not None:
        tokens.add(late.token)

    def living(memory: Memory) -> Memory:
        entry = memory.entry
        if entry is None or (
            (entry.token == memory.token or entry.token in tokens) and entry.epoch in epochs
        ):
            return memory
        return memory._replace(entry=None)

    cache = living(cache)
    if saved is not None:
        if saved.lease is not None:
            epochs.add(saved.lease.epoch)
        saved = living(saved)
        tokens.add(saved.token)
    if readers:
        tokens.add(cache.token)
        readers = tuple(
            reader
            for reader in readers
            if reader.names or (reader.token in tokens and reader.epoch in epochs)
        )
    return cache, saved, readers


def _living_epochs(world: World) -> set[int]:
    """The epochs that a lease to come may name, but for one of a saved memory."""
    epochs = {NOTHING} | {each.epoch for each in world.daemons if each is not None}
    for lease in (world.cache.lease, world.late and world.late.lease):
        if lease is not None:
            epochs.add(lease.epoch)
    return epochs


def _without_dead_names(world: World, guards: Guards) -> tuple[World, tuple[Reader, ...]]:
    """A process that knows no epoch to come, and without readers that will store in none."""
    process = world.process
    assert process is not None
    epochs = _living_epochs(world)
    process = process._replace(
        epoch=process.epoch if process.epoch in epochs else NOTHING,
        news=process.news if process.news in epochs else NOTHING,
    )
    readers = world.readers
    if guards.names_are_of_that_map:
        readers = tuple(
            each for each in readers if not each.names or each.epoch in epochs - {NOTHING}
        )
    return world._replace(process=process), readers


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
    def __init__(self) -> None:
        super().__init__({NOTHING: NOTHING, MISNAMED: MISNAMED})

    def __missing__(self, value: int) -> int:
        self[value] = number = len(self) - 1
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
    """Whether there is nothing to do, told quickly; not asked where the map changes."""
    cache, saved, daemons, readers, late = world[:5]
    epochs, tokens = [], []
    for memory in (cache,) if saved is None else (cache, saved):
        lease, token, entry, _ = memory
        if lease is not None:
            epochs.append(lease[1])
        tokens.append(token)
        if entry is not None:
            epochs.append(entry[0])
            tokens.append(entry[1])
    epochs += [daemon[0] for daemon in daemons if daemon is not None]
    if late is not None:
        if late.lease is not None:
            epochs.append(late.lease[1])
        tokens.append(late.token)
    for reader in readers:
        epochs.append(reader[0])
        tokens.append(reader[1])
    return _counts_up(epochs) and _counts_up(tokens)


def _numbered(world: World, map_changes: bool) -> World:
    if len(world.readers) > 1:
        world = world._replace(readers=tuple(sorted(world.readers)))
    if not map_changes and _is_numbered(world):
        return world
    epochs, tokens, fingerprints = _Numbers(), _Numbers(), _Numbers()

    def lease(it: Lease | None) -> Lease | None:
        if it is None:
            return None
        return Lease(it[0], epochs[it[1]], it[2])

    def memory(it: Memory) -> Memory:
        entry = it.entry
        if entry is not None:
            entry = Entry(epochs[entry[0]], tokens[entry[1]], entry[2])
        return Memory(lease(it.lease), tokens[it.token], entry, it.marks)

    def daemon(it: Daemon | None) -> Daemon | None:
        if it is None:
            return None
        return it._replace(epoch=epochs[it.epoch], remembered=fingerprints[it.remembered])

    cache, saved, daemons, readers, late, streamed, fingerprint, logged, process = world
    fingerprint = fingerprints[fingerprint]
    cache = memory(cache)
    saved = None if saved is None else memory(saved)
    daemons = tuple(map(daemon, daemons))
    if late is not None:
        late = Late(lease(late[0]), late[1], late[2], tokens[late[3]], late[4])
    if readers:
        readers = tuple(
            sorted(Reader(epochs[each[0]], tokens[each[1]], each[2], each[3]) for each in readers)
        )
    if process is not None:
        process = process._replace(epoch=epochs[process.epoch], news=epochs[process.news])
    return World(
        cache, saved, daemons, readers, late, streamed, fingerprint, logged, process
    )  # fmt: skip
