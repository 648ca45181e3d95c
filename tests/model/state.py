"""What the model remembers: one moment of caches, daemons, readers and network, as tuples.

Moments are kept as ages in ticks, so a state does not know how late it is, and what is older than a
lease is all alike. Versions of the row are kept as the time since each was replaced. Random values
are numbers, named anew in the order in which they are met, so that states which differ in nothing
but luck are one. What can never be served again is forgotten. With this the states are finite
although commits, ticks, renewals and reads go on for ever.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "CUT_OFF", "FAR", "NOBODY", "NOTHING", "SINCE_ANOTHER_LIFE", "TRUE_NOW", "UNREAD", "Daemon",
    "Entry", "Late", "Lease", "Memory", "Proof", "Reader", "World", "older",
]  # fmt: skip

NOTHING: Final = 0
"""No token, no epoch: random values are numbers from 1."""

TRUE_NOW: Final = -1
"""The age of a version that no commit has replaced."""

UNREAD: Final = -2
"""A reader's value before its query."""

FAR: Final = 9
"""A mark that no count can bring back to the daemon's own."""

CUT_OFF: Final = -1
"""``behind`` of a daemon whose stream is broken: it hears nothing and does not know it."""

NOBODY: Final = -1

SINCE_ANOTHER_LIFE: Final = 9
"""The keeper of a lease that was written by a process that has ended."""


class Lease(NamedTuple):
    """``age``: since the cache's clock said t. ``fingerprint``: of the map that was proven."""

    age: int
    epoch: int
    keeper: int
    fingerprint: int


class Entry(NamedTuple):
    """A value with what it was stored under; ``value`` is the time since it ceased to be true."""

    epoch: int
    fingerprint: int
    token: int
    value: int


class Memory(NamedTuple):
    """What one cache server remembers.

    ``marks``: for each daemon how far its mark here is behind the daemon's own number.
    """

    lease: Lease | None
    token: int
    entry: Entry | None
    marks: tuple[int, ...]


class Proof(NamedTuple):
    """A renewal under way: ``age`` since t was asked, ``left`` how many commits it waits for."""

    age: int
    left: int
    fingerprint: int


class Daemon(NamedTuple):
    """``epoch`` is NOTHING until a Resync is through, ``swept`` once it has deleted the lease.

    ``behind``: commits in its stream that it has not yet heard. ``remembered``: the fingerprint of
    its last proof, where a guard lets it rest on that.
    """

    epoch: int
    swept: bool
    behind: int
    resynced: int
    proof: Proof | None
    remembered: int


class Reader(NamedTuple):
    """A reader on its way from its stamp, or its query, to the store."""

    epoch: int
    fingerprint: int
    token: int
    value: int


class Late(NamedTuple):
    """A request in the network: a lease write, the making of a token, or the counting of a round.

    A lease write compares the mark when it arrives; ``stands`` and ``stands_saved`` say how that
    would end with the cache's memory and with the saved one.
    """

    lease: Lease | None = None
    stands: bool = True
    stands_saved: bool = True
    token: int = NOTHING
    counts: int = NOBODY


class World(NamedTuple):
    """``saved`` is an older memory of the server, or a replica that lags.

    ``streamed``: the table's changes are in the stream. ``fingerprint``: the versions of the
    catalog rows that say so. ``logged``: a commit is in the log, and no snapshot sees it yet.
    """

    cache: Memory
    saved: Memory | None
    daemons: tuple[Daemon | None, ...]
    readers: tuple[Reader, ...]
    late: Late | None
    streamed: bool
    fingerprint: int
    logged: bool


def older(age: int, dead: int) -> int:
    """An age one tick on; those past ``dead`` are all alike, and what is true stays true."""
    return age + 1 if 0 <= age < dead else age
