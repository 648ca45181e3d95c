"""What the model remembers: one moment of caches, daemons, readers and network, as tuples.

Moments are kept as ages in ticks, so a state does not know how late it is, and what is older than a
lease is all alike. Versions of the row are kept as the time since each was replaced. Random values
are numbers, named anew in the order in which they are met, so that states which differ in nothing
but luck are one. What can never be served again is forgotten. With this the states are finite
although commits, ticks, renewals and reads go on for ever.
"""

from __future__ import annotations

from typing import Final, NamedTuple

NOTHING: Final = 0
"""No token, no epoch: random values are numbers from 1."""

MISNAMED: Final = -1
"""The token of a name that the map does not give to the row: no daemon ends it."""

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
    """``age``: since the cache's clock said t."""

    age: int
    epoch: int
    keeper: int


class Entry(NamedTuple):
    """A value with what it was stored under; ``value`` is the time since it ceased to be true."""

    epoch: int
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
    """A renewal under way: ``age`` since t was asked, ``left`` how many commits it waits for.

    ``looked``: the map has been looked at since, and it is the one that was known.
    """

    age: int
    left: int
    looked: bool


class Daemon(NamedTuple):
    """``epoch`` is NOTHING until a Resync is through; ``swept`` says how far it is: 1 once it has
    deleted the lease, 2 once it has a new mark too.

    ``behind``: commits in its stream that it has not yet heard. ``remembered``: the fingerprint of
    the map that it has read last. ``half``: of a round that is several
    requests the tokens are deleted (1), or it is counted too (2).
    """

    epoch: int
    swept: int
    behind: int
    resynced: int
    proof: Proof | None
    remembered: int
    half: int = 0


class Reader(NamedTuple):
    """A reader on its way from its names, its stamp or its query to the store.

    ``names``: until it has a stamp, those that it will ask for: 1 the row's by the map, 2 by one
    that is not the map. ``epoch`` is then the one in which its process had read that map.
    """

    epoch: int
    token: int
    value: int
    names: int = 0


class Process(NamedTuple):
    """What the process of the readers knows of the map, for all of them: it was read after
    ``epoch`` had been seen, and is ``right`` still; ``news`` is an epoch seen since."""

    epoch: int
    news: int
    right: bool


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
    process: Process | None = None


def older(age: int, dead: int) -> int:
    """An age one tick on; those past ``dead`` are all alike, and what is true stays true."""
    return age + 1 if 0 <= age < dead else age
