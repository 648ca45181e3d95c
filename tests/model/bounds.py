"""The guards of the protocol, each of which can be taken out, and the bounds of one exploration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Guards:
    """What keeps the promise. The first values are the protocol; the others take a guard out."""

    # The reader.
    tokens_are_compared: bool = True
    epochs_are_compared: bool = True
    lease_is_judged_by: Literal["the cache's clock", "its time to live", "nothing"] = (
        "the cache's clock"
    )
    stamp_comes_before_query: bool = True
    tokens_are_made_once: bool = True
    stores_only_in_epochs_it_read_the_map_in: bool = True
    names_are_of_that_map: bool = True
    epoch_is_seen_before_map_is_read: bool = True

    # The daemon's rounds.
    deletes_wait_until_visible: bool = True
    a_round: Literal["one message", "two requests", "three requests"] = "one message"
    gap_ends_epoch: bool = True
    lost_memory_ends_epoch: bool = True
    mark: Literal["a name", "a count"] = "a name"

    # The renewal.
    clock_is_asked_before_proof: bool = True
    proof_waits: bool = True
    mark_is_looked_at_in_the_write: bool = True
    mark_is_raised_in_the_step_that_adopts: bool = True
    only_leases_younger_than_resync_are_adopted: bool = True
    map_is_proved_by: Literal[
        "versions, since the stream began", "versions, since the first proof", "its present state"
    ] = "versions, since the stream began"

    def without(self, **changes: Any) -> Guards:
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may go on at once. There is no bound on commits, ticks, renewals, deaths and reads.

    ``length``: of the lease, in ticks. ``unheard``: commits a daemon may be behind. ``losses``: the
    cache may come back with an older memory, with none, or as a replica that lagged; one older
    memory at a time. ``delays``: a request may arrive at any time after its sender has gone on, or
    twice; one at a time. ``held_commits``: a commit is in the log before a snapshot sees it.
    ``map_changes``: the table leaves and enters the publication, or if they are changes of
    ``names``, its rows come to be named otherwise. ``deaths``: a daemon may die, and
    another start in its place. ``gaps``: it may lose its stream, and live on.

    ``running``: how many daemons are there at the beginning; the first has written a lease.
    ``replaced``: a value is stored under it, and the commit that replaced it is still to be heard.

    ``hasty``: a reader queries at once after it has its stamp, since a query later on reads nothing
    older; and a Resync's two requests are one step. ``symmetric``: two daemons that change places
    are the same state (and their names in a trace are of no use).
    """

    readers: int = 1
    daemons: int = 1
    length: int = 1
    unheard: int = 2
    losses: bool = False
    delays: bool = False
    running: int = 0
    replaced: bool = False
    deaths: bool = True
    gaps: bool = True
    hasty: bool = False
    symmetric: bool = False
    held_commits: bool = False
    map_changes: bool = False
    names: bool = False
    guards: Guards = field(default_factory=Guards)
