"""The protocol as steps: what reader, daemon, database, cache and network may do next.

Each step is one request to a server, or one thing that befalls one. Any step may come between any
two others. A step is a method that yields what it is called and the world after it.
"""

from __future__ import annotations

from tests.model.daemons import FRESH, Daemons, Steps, with_item
from tests.model.naming import named
from tests.model.state import (
    CUT_OFF,
    FAR,
    MISNAMED,
    NOTHING,
    TRUE_NOW,
    UNREAD,
    Daemon,
    Entry,
    Late,
    Lease,
    Memory,
    Process,
    Reader,
    World,
)


class Protocol(Daemons):
    """The steps of one row's value in one cache, within ``bounds``."""

    def beginning(self) -> World:
        """An empty cache and nobody there, or daemons of which the first has written a lease."""
        bounds = self.bounds
        cache = self._empty()
        daemons: list[Daemon | None] = [None] * bounds.daemons
        if bounds.running:
            lease = Lease(0, FRESH, 0)
            marks = (0,) * bounds.running + (FAR,) * (bounds.daemons - bounds.running)
            cache = cache._replace(lease=lease, marks=marks)
            behind = 0
            if bounds.replaced:
                cache = cache._replace(token=FRESH, entry=Entry(FRESH, FRESH, 0))
                behind = 1
            for me in range(bounds.running):
                since_start = self.guards.map_is_proved_by == "versions, since the stream began"
                remembers = NOTHING if self.guards.map_is_proved_by == "its present state" else 1
                if me and not since_start:
                    # It has not proved anything yet.
                    remembers = NOTHING
                daemons[me] = Daemon(FRESH + me, 0, behind, self.dead, None, remembers)
        world = World(
            cache=cache,
            saved=None,
            daemons=tuple(daemons),
            readers=(),
            late=None,
            streamed=True,
            fingerprint=1,
            logged=False,
            process=Process(NOTHING, NOTHING, True) if bounds.names else None,
        )
        return named(world, bounds)

    def steps(self, world: World) -> Steps:
        for words, after in self._steps(world):
            yield words, named(after, self.bounds)

    def _steps(self, world: World) -> Steps:
        yield "time: a tick passes", self._aged(world)
        yield from self._database(world)
        if world.process is not None:
            yield from self._process_learns(world, world.process)
        if len(world.readers) < self.bounds.readers:
            yield from self._reader_begins(world)
        for number, reader in enumerate(world.readers):
            yield from self._reader_goes_on(world, number, reader)
        for number, daemon in enumerate(world.daemons):
            if daemon is None:
                yield from self._daemon_starts(world, number)
            else:
                yield from self._daemon_lives(world, number, daemon)
        yield from self._faults(world)

    # What is promised.

    def served_too_old(self, world: World) -> bool:
        """Whether a reader would be served what ceased to be true more than a lease ago."""
        return (entry := self.served(world)) is not None and entry.value > self.bounds.length

    def served(self, world: World) -> Entry | None:
        """What a reader that asked the cache would be served. (``judge`` in the code.)"""
        guards = self.guards
        lease, token, entry = self.live_lease(world), world.cache.token, world.cache.entry
        if lease is None or entry is None:
            return None
        matches = token == entry.token != NOTHING or entry.token == MISNAMED
        if guards.tokens_are_compared and not matches:
            return None
        if guards.epochs_are_compared and lease.epoch != entry.epoch:
            return None
        return entry

    # The database.

    def _database(self, world: World) -> Steps:
        if any(each and each.behind >= self.bounds.unheard for each in world.daemons):
            return
        if not self.bounds.held_commits:
            yield "writer: commits", self._told(self._replaced(world))
        elif not world.logged:
            logged = world._replace(logged=True)
            if not self.guards.deletes_wait_until_visible:
                logged = self._told(logged)
            yield "writer: its commit is in the log, and waits to become visible", logged
        else:
            visible = self._replaced(world._replace(logged=False))
            if self.guards.deletes_wait_until_visible:
                visible = self._told(visible)
            yield "writer: its commit becomes visible", visible
        if self.bounds.names:
            yield "DDL: the table's rows are named otherwise", self._renamed(world)
        elif self.bounds.map_changes:
            words = "leaves" if world.streamed else "enters"
            yield (
                f"DDL: the table {words} the publication",
                world._replace(streamed=not world.streamed, fingerprint=FRESH),
            )

    def _renamed(self, world: World) -> World:
        """What stands on the row's token stands on one that no daemon ends: at worst, since they
        learn of it at once. Whoever knows the map knows an old one."""
        cache, entry, process = world.cache, world.cache.entry, world.process
        if entry is not None:
            cache = cache._replace(entry=entry._replace(token=MISNAMED))
        readers = tuple(
            each._replace(names=2) if each.names else each._replace(token=MISNAMED)
            for each in world.readers
        )
        return world._replace(
            cache=cache._replace(token=NOTHING),
            readers=tuple(sorted(readers)),
            fingerprint=FRESH,
            process=process and process._replace(right=False),
        )

    def _told(self, world: World) -> World:
        """The commit is on its way to every daemon whose stream carries it."""
        if not world.streamed:
            return world
        daemons = tuple(
            each._replace(behind=each.behind + 1) if each and each.behind != CUT_OFF else each
            for each in world.daemons
        )
        return world._replace(daemons=daemons)

    def _replaced(self, world: World) -> World:
        """What was true until this moment is not any longer."""

        def memory(it: Memory) -> Memory:
            if it.entry is None or it.entry.value != TRUE_NOW:
                return it
            return it._replace(entry=it.entry._replace(value=0))

        readers = tuple(
            each._replace(value=0) if each.value == TRUE_NOW else each for each in world.readers
        )
        return world._replace(
            cache=memory(world.cache), saved=world.saved and memory(world.saved), readers=readers
        )

    # Readers: reader/protocol and fresh/entries.

    def _reader_begins(self, world: World) -> Steps:
        """A miss, or a reader that computes in any case. Without a lease it stores nothing, and
        so leaves no trace."""
        if world.process is not None:
            names = 1 if world.process.right else 2
            reader = Reader(world.process.epoch, NOTHING, UNREAD, names)
            yield "reader: names its tokens by the map", self._with_reader(world, reader)
        elif not self.guards.stamp_comes_before_query:
            reader = Reader(NOTHING, NOTHING, TRUE_NOW)
            yield "reader: queries the database", self._with_reader(world, reader)
        else:
            yield from self._reader_stamps(world, TRUE_NOW if self.bounds.hasty else UNREAD)

    def _process_learns(self, world: World, process: Process) -> Steps:
        """An epoch that it does not know has a process read the catalogs anew: reader/dependencies.
        Any of its threads may do that at any time, and all of them know what was read."""
        lease = self.live_lease(world)
        before = self.guards.epoch_is_seen_before_map_is_read
        if before and lease is not None and lease.epoch not in process[:2]:
            seen = world._replace(process=process._replace(news=lease.epoch))
            yield "process: sees an epoch that it does not know", seen
        if not before and lease is not None and process.epoch != lease.epoch:
            noted = world._replace(process=process._replace(epoch=lease.epoch))
            yield "process: has read the catalogs, and notes the epoch that there is", noted
        if process.news or not process.right:
            epoch = process.news or process.epoch
            read = world._replace(process=Process(epoch, NOTHING, True))
            yield "process: reads the catalogs", read

    def _reader_stamps_by_names(self, world: World, without: World, reader: Reader) -> Steps:
        """As below. It has named its tokens by a map which was read in one epoch, and stores
        nothing in another."""
        guards, lease, process = self.guards, self.live_lease(world), world.process
        if lease is None or process is None:
            return
        knows = reader.epoch if guards.names_are_of_that_map else process.epoch
        if guards.stores_only_in_epochs_it_read_the_map_in and knows != lease.epoch:
            return
        value = TRUE_NOW if self.bounds.hasty else UNREAD
        if reader.names == 1:
            yield from self._reader_stamps(without, value)
        else:
            stamped = self._with_reader(without, Reader(lease.epoch, MISNAMED, value))
            yield "reader: takes as its stamp a token that is not the row's by the map", stamped

    def _reader_stamps(self, world: World, value: int) -> Steps:
        """One request makes the token if it is missing, and reads lease, token and clock."""
        cache, lease = world.cache, self.live_lease(world)
        if lease is None:
            return
        reader = Reader(lease.epoch, cache.token or FRESH, value)
        made = cache._replace(token=reader.token)
        after = self._with_reader(world._replace(cache=made), reader)
        if cache.token:
            yield "reader: takes the lease's epoch and the token as its stamp", after
            return
        yield "reader: makes a token, and takes it and the lease's epoch as its stamp", after
        if self._may_delay(world):
            late = Late(token=FRESH)
            if self.guards.tokens_are_made_once:
                words = "reader: asks for a token to be made, and gives up waiting"
                yield words, self._delayed(world, late)
            else:
                words = "reader: makes a token as its stamp; its client sends the request twice"
                yield words, self._delayed(after, late)

    def _reader_goes_on(self, world: World, number: int, reader: Reader) -> Steps:
        others = world.readers[:number] + world.readers[number + 1 :]
        without = world._replace(readers=others)
        if reader.names:
            yield from self._reader_stamps_by_names(world, without, reader)
        elif reader.token == NOTHING:
            yield from self._reader_stamps(without, reader.value)
        elif reader.value == UNREAD:
            read = reader._replace(value=TRUE_NOW)
            yield "reader: queries the database", self._with_reader(without, read)
        else:
            stored = world.cache._replace(entry=Entry(*reader[:3]))
            yield "reader: stores what it read under its stamp", without._replace(cache=stored)

    def _with_reader(self, world: World, reader: Reader) -> World:
        return world._replace(readers=tuple(sorted((*world.readers, reader))))

    # What may befall cache and network.

    def _faults(self, world: World) -> Steps:
        if world.late is not None:
            yield self._arrives(world._replace(late=None), world.late)
        if not self.bounds.losses:
            return
        late = world.late
        if world.saved is None:
            saved = world._replace(saved=world.cache)
            if late is not None:
                saved = saved._replace(late=late._replace(stands_saved=late.stands))
            yield "cache: its memory is saved (or is as far as a replica has come)", saved
        back = world.saved or self._empty()
        if self.guards.lease_is_judged_by == "its time to live" and back.lease is not None:
            # A replica that is told a time to live begins to count when it is told.
            back = back._replace(lease=back.lease._replace(age=0))
        lost = world._replace(cache=back, saved=None)
        if late is not None:
            stands = late.stands_saved
            if world.saved is None:
                stands = late.lease is None or not self.guards.mark_is_looked_at_in_the_write
            lost = lost._replace(late=late._replace(stands=stands))
        yield "cache: comes back with the saved memory (or the replica is promoted)", lost

    def _arrives(self, world: World, late: Late) -> tuple[str, World]:
        cache = world.cache
        if late.lease is not None:
            if late.stands:
                return "network: the late lease arrives", self._written(world, late.lease)
            return "network: the late lease arrives, and its mark does not stand", world
        if late.token:
            made = cache._replace(token=cache.token or late.token)
            return "network: the late request for a token arrives", world._replace(cache=made)
        me = late.counts
        mark = cache.marks[me]
        may_fit = self.guards.mark == "a count" and mark != FAR
        counted = mark - 1 if may_fit else FAR
        marks = with_item(cache.marks, me, counted)
        words = f"network: the late round of daemon {me} arrives"
        return words, world._replace(cache=cache._replace(marks=marks))

    # Time.

    def _aged(self, world: World) -> World:
        dead = self.dead

        def older(age: int) -> int:
            return age + 1 if 0 <= age < dead else age

        def lease(it: Lease | None) -> Lease | None:
            return None if it is None else it._replace(age=older(it.age))

        def memory(it: Memory) -> Memory:
            entry = it.entry
            if entry is not None:
                entry = entry._replace(value=older(entry.value))
            return it._replace(lease=lease(it.lease), entry=entry)

        def daemon(it: Daemon | None) -> Daemon | None:
            if it is None:
                return None
            proof = it.proof
            if proof is not None:
                age = older(proof.age)
                proof = None if age == dead else proof._replace(age=age)
            return it._replace(resynced=older(it.resynced), proof=proof)

        late = world.late
        if late is not None and late.lease is not None:
            late = late._replace(lease=lease(late.lease))
        return world._replace(
            cache=memory(world.cache),
            saved=world.saved and memory(world.saved),
            daemons=tuple(map(daemon, world.daemons)),
            readers=tuple(each._replace(value=older(each.value)) for each in world.readers),
            late=late,
        )

    def _empty(self) -> Memory:
        return Memory(None, NOTHING, None, (FAR,) * self.bounds.daemons)
