"""The daemon's steps: its stream, its rounds of deletes, the renewal of the lease."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from tests.model.bounds import Bounds
from tests.model.state import (
    CUT_OFF,
    FAR,
    NOTHING,
    SINCE_ANOTHER_LIFE,
    Daemon,
    Late,
    Lease,
    Memory,
    Proof,
    World,
)

Steps: TypeAlias = Iterator[tuple[str, World]]

FRESH: Final = 99
"""A random value never made before; `naming` gives it a number."""


class Daemons:
    """What daemons do, within ``bounds``."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.guards = bounds.guards
        self.dead = bounds.length + 1
        """The age of what is older than a lease."""

    def live_lease(self, world: World) -> Lease | None:
        lease = world.cache.lease
        ends = self.guards.lease_is_judged_by != "nothing"
        return None if lease is None or (ends and lease.age == self.dead) else lease

    # Daemons: their life and their stream. daemon/core and feed.

    def _daemon_starts(self, world: World, me: int) -> Steps:
        """A new process: it knows no epoch, its mark is in no memory, and it keeps no lease."""

        def memory(it: Memory) -> Memory:
            lease = it.lease
            if lease is not None and lease.keeper == me:
                lease = lease._replace(keeper=SINCE_ANOTHER_LIFE)
            return it._replace(lease=lease, marks=with_item(it.marks, me, FAR))

        late = world.late
        if late is not None and late.lease is not None and late.lease.keeper == me:
            late = late._replace(lease=late.lease._replace(keeper=SINCE_ANOTHER_LIFE))
        elif late is not None and late.counts == me:
            late = None
        begun = world._replace(
            cache=memory(world.cache), saved=world.saved and memory(world.saved), late=late
        )
        daemon = Daemon(NOTHING, 0, 0, self.dead, None, self._first_look(world))
        yield f"daemon {me}: starts; its stream is live", self._with_daemon(begun, me, daemon)

    def _daemon_lives(self, world: World, me: int, daemon: Daemon) -> Steps:
        if self.bounds.deaths:
            yield f"daemon {me}: dies", self._with_daemon(world, me, None)
        if daemon.behind == CUT_OFF:
            yield from self._daemon_is_cut_off(world, me, daemon)
            return
        if self.bounds.gaps:
            cut = daemon._replace(behind=CUT_OFF)
            if cut.proof is not None and (cut.proof.left or not cut.proof.looked):
                cut = cut._replace(proof=None)
            yield f"daemon {me}: loses its stream", self._with_daemon(world, me, cut)
        yield from self._daemon_deletes(world, me, daemon)
        if daemon.epoch == NOTHING:
            yield self._daemon_resyncs(world, me, daemon)
        elif daemon.proof is None:
            yield from self._daemon_begins_renewal(world, me, daemon)
        elif daemon.proof.left == 0:
            if daemon.proof.looked:
                yield from self._daemon_writes_lease(world, me, daemon, daemon.proof)
            else:
                yield self._daemon_looks_at_map(world, me, daemon, daemon.proof)

    def _daemon_is_cut_off(self, world: World, me: int, daemon: Daemon) -> Steps:
        """It goes on in its epoch until the next stream brings a Resync. It proves nothing
        meanwhile, but what it has proven before it may still write."""
        back = daemon._replace(behind=0, remembered=self._first_look(world))
        if self.guards.gap_ends_epoch:
            back = back._replace(epoch=NOTHING, swept=0, resynced=self.dead, proof=None)
        yield f"daemon {me}: its stream is live again", self._with_daemon(world, me, back)
        if daemon.epoch == NOTHING:
            return
        if daemon.proof is not None:
            yield from self._daemon_writes_lease(world, me, daemon, daemon.proof)
        elif (lease := self._adoptable(world, me, daemon)) and lease.epoch != daemon.epoch:
            yield self._daemon_adopts(world, me, daemon, lease)

    def _first_look(self, world: World) -> int:
        """The fingerprint of the map is taken before a stream begins."""
        by = self.guards.map_is_proved_by
        return world.fingerprint if by == "versions, since the stream began" else NOTHING

    def _daemon_resyncs(self, world: World, me: int, daemon: Daemon) -> tuple[str, World]:
        """The lease goes first; what has a later t is proven after that."""
        after, words = world, ""
        for swept in range(daemon.swept, 3 if self.bounds.hasty else daemon.swept + 1):
            if swept == 0:
                words = "deletes the lease"
                after = after._replace(cache=after.cache._replace(lease=None))
                daemon = daemon._replace(swept=1)
                if not self.bounds.losses:
                    # Nothing can come between that matters.
                    after, daemon = self._marked_anew(after, me), daemon._replace(swept=2)
            elif swept == 1:
                words = "sets a mark that no memory has"
                after = self._marked_anew(after, me)
                daemon = daemon._replace(swept=2)
            else:
                words = "asks the cache's clock and begins an epoch"
                daemon = daemon._replace(epoch=FRESH, swept=0, resynced=0)
        return f"daemon {me}: Resync: {words}", self._with_daemon(after, me, daemon)

    # Rounds of deletes: daemon/workers and caches/pipeline.

    def _daemon_deletes(self, world: World, me: int, daemon: Daemon) -> Steps:
        """One message: the tokens, the mark, the tokens again."""
        three = self.guards.a_round == "three requests"
        if daemon.half and three:
            yield self._daemon_ends_round(world, me, daemon)
            return
        if not daemon.behind and not self.bounds.losses:
            return
        if daemon.behind and not daemon.half and self.guards.a_round != "one message":
            deleted = world._replace(cache=world.cache._replace(token=NOTHING))
            words = f"daemon {me}: deletes the token, the first of {self.guards.a_round}"
            yield words, self._with_daemon(deleted, me, daemon._replace(half=1))
            return
        heard = daemon
        if daemon.behind:
            heard = self._heard(daemon)._replace(half=0)
        cache = world.cache._replace(token=NOTHING) if daemon.behind else world.cache
        words = f"daemon {me}: " + ("deletes the token" if daemon.behind else "counts a round")
        stands = cache.marks[me] == 0
        if stands or not self.guards.lost_memory_ends_epoch:
            after = self._counted(self._with_daemon(world._replace(cache=cache), me, heard), me)
        else:
            words += "; its mark shows that the cache lost memory"
            heard = self._lost(heard)
            after = self._with_daemon(world._replace(cache=cache), me, heard)
        yield words, after
        if stands and self._may_delay(world):
            yield (
                f"{words}, by a second request, as the first is slow",
                self._delayed(after, Late(counts=me)),
            )

    def _daemon_ends_round(self, world: World, me: int, daemon: Daemon) -> tuple[str, World]:
        """The second and the third request of a round that is three."""
        if daemon.half == 2:
            deleted = world._replace(cache=world.cache._replace(token=NOTHING))
            heard = self._heard(daemon)._replace(half=0)
            return f"daemon {me}: deletes the token again", self._with_daemon(deleted, me, heard)
        if world.cache.marks[me] == 0:
            counted = self._with_daemon(world, me, daemon._replace(half=2))
            return f"daemon {me}: counts the round", self._counted(counted, me)
        lost = self._with_daemon(world, me, self._lost(daemon)._replace(half=2))
        return f"daemon {me}: counts the round; its mark shows that the cache lost memory", lost

    def _heard(self, daemon: Daemon) -> Daemon:
        """One commit less to come."""
        proof = daemon.proof
        if proof is not None:
            proof = proof._replace(left=max(0, proof.left - 1))
        return daemon._replace(behind=daemon.behind - 1, proof=proof)

    def _lost(self, daemon: Daemon) -> Daemon:
        """The mark does not stand: a new epoch is to begin."""
        return daemon._replace(epoch=NOTHING, swept=0, proof=None, resynced=self.dead)

    def _counted(self, world: World, me: int) -> World:
        """A number more in the cache and in the daemon; a saved memory is one more behind."""
        if not self.bounds.losses:
            return self._unmark(world, me)
        saved = world.saved
        if saved is not None and saved.marks[me] != FAR:
            behind = saved.marks[me] + 1 if self.guards.mark == "a count" else FAR
            marks = with_item(saved.marks, me, FAR if behind > 2 else behind)
            world = world._replace(saved=saved._replace(marks=marks))
        return self._unmark(world, me)

    def _marked_anew(self, world: World, me: int) -> World:
        """A random number, which stands in no other memory."""
        saved = world.saved
        if saved is not None:
            world = world._replace(saved=saved._replace(marks=with_item(saved.marks, me, FAR)))
        cache = world.cache._replace(marks=with_item(world.cache.marks, me, 0))
        return self._unmark(world._replace(cache=cache), me)

    def _unmark(self, world: World, me: int) -> World:
        """A lease write under way finds another mark than it expects."""
        late = world.late
        if (
            late is not None
            and late.lease is not None
            and late.lease.keeper == me
            and self.guards.mark_is_looked_at_in_the_write
        ):
            return world._replace(late=late._replace(stands=False))
        return world

    # The renewal of the lease: daemon/lease.

    def _daemon_begins_renewal(self, world: World, me: int, daemon: Daemon) -> Steps:
        """Asks for the clock and the lease, then for the log's end."""
        if (lease := self._adoptable(world, me, daemon)) is not None:
            if daemon.epoch != lease.epoch:
                yield self._daemon_adopts(world, me, daemon, lease)
            return
        if daemon.half:
            # The cache's thread does one thing at a time.
            return
        left = daemon.behind if self.guards.proof_waits else 0
        proof = Proof(0, left, not self.bounds.map_changes)
        words = f"daemon {me}: begins a renewal: asks the cache's clock and the end of the log"
        yield words, self._with_daemon(world, me, daemon._replace(proof=proof))

    def _adoptable(self, world: World, me: int, daemon: Daemon) -> Lease | None:
        """The lease of another that lets it stand by."""
        lease = self.live_lease(world)
        if lease is None or lease.keeper == me:
            return None
        if self.guards.only_leases_younger_than_resync_are_adopted:
            return lease if lease.age < daemon.resynced else None
        return lease

    def _daemon_looks_at_map(
        self, world: World, me: int, daemon: Daemon, proof: Proof
    ) -> tuple[str, World]:
        """Behind the log's end. What has moved is remembered as it is, and ends the epoch."""
        known = daemon.remembered
        words = f"daemon {me}: looks at the map"
        daemon = daemon._replace(remembered=self._looked(world))
        if known not in (NOTHING, daemon.remembered):
            moved = daemon._replace(epoch=NOTHING, proof=None)
            return f"{words}, which has moved", self._with_daemon(world, me, moved)
        if not world.streamed:
            # The lease would not cover the table.
            unproven = self._with_daemon(world, me, daemon._replace(proof=None))
            return f"{words}: the table is not in the stream", unproven
        looked = daemon._replace(proof=proof._replace(looked=True))
        return f"{words}, which has not moved", self._with_daemon(world, me, looked)

    def _looked(self, world: World) -> int:
        by_state = self.guards.map_is_proved_by == "its present state"
        return NOTHING if by_state else world.fingerprint

    def _daemon_adopts(
        self, world: World, me: int, daemon: Daemon, lease: Lease
    ) -> tuple[str, World]:
        """One step reads the lease and raises the mark: a memory with this mark is one in which
        the other daemon had done the deletes that its lease speaks of."""
        words = f"daemon {me}: finds another's lease"
        if self.guards.mark_is_raised_in_the_step_that_adopts:
            if world.cache.marks[me] != 0:
                lost = self._lost(daemon)
                return f"{words}; its mark shows lost memory", self._with_daemon(world, me, lost)
            world = self._counted(world, me)
        adopted = self._with_daemon(world, me, daemon._replace(epoch=lease.epoch))
        return f"{words}, and makes its epoch its own", adopted

    def _daemon_writes_lease(self, world: World, me: int, daemon: Daemon, proof: Proof) -> Steps:
        """Sends the lease; the cache writes it if the mark stands, in one step."""
        guards = self.guards
        done = daemon._replace(proof=None)
        age = proof.age if guards.clock_is_asked_before_proof else 0
        lease = Lease(age, daemon.epoch, me)
        after = self._with_daemon(world, me, done)
        stands = world.cache.marks[me] == 0 or not guards.lost_memory_ends_epoch
        if not stands:
            yield f"daemon {me}: writes no lease, for its mark does not stand", after
            return
        written = self._written(after, lease)
        yield f"daemon {me}: writes the lease", written
        if self._may_delay(world):
            saved = world.saved
            anyway = not guards.mark_is_looked_at_in_the_write
            late = Late(lease, True, anyway or (saved is not None and saved.marks[me] == 0))
            yield f"daemon {me}: sends the lease, which is slow", self._delayed(after, late)
            words = f"daemon {me}: writes the lease; its client sends the request twice"
            yield words, self._delayed(written, late)

    def _written(self, world: World, lease: Lease) -> World:
        if self.guards.lease_is_judged_by == "its time to live":
            lease = lease._replace(age=0)
        return world._replace(cache=world.cache._replace(lease=lease))

    # What all steps need.

    def _may_delay(self, world: World) -> bool:
        return self.bounds.delays and world.late is None

    def _delayed(self, world: World, late: Late) -> World:
        return world._replace(late=late)

    def _with_daemon(self, world: World, me: int, daemon: Daemon | None) -> World:
        return world._replace(daemons=with_item(world.daemons, me, daemon))


def with_item(items: tuple, index: int, item: object) -> tuple:
    return (*items[:index], item, *items[index + 1 :])
