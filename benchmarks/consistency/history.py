"""What was true when, and whether a read can have been right. Pure: no server and no clock.

The definitions are in the package's docstring.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.consistency.records import ABSENT, UNKNOWN, Read, Seen, Value, Write

EXAMPLES: Final = 20

GONE: Final = "gone"
"""The path of a write after which its rows are not there."""


class RowHistory:
    """The versions of one row. Add everything, then ask."""

    def __init__(self) -> None:
        self._versions: dict[int, tuple[float, float]] = {}
        self._gone: list[int] = []
        self.totals: dict[int, int | None] = {}
        self._frozen: tuple[list[int], list[float], list[float]] | None = None

    def add(
        self, version: int, begun: float, ended: float, total: int | None = None,
        *, gone: bool = False,
    ) -> None:  # fmt: skip
        """A transaction that wrote it; a number lost in a crash may come twice.

        ``gone`` is a version that nobody can read: with it the row went away.
        """
        if gone:
            self._gone.append(version)
        earlier = self._versions.get(version)
        if earlier is not None:
            begun, ended = min(begun, earlier[0]), min(ended, earlier[1])
        self._versions[version] = begun, ended
        self.totals[version] = total
        self._frozen = None

    def absent(self, by: float) -> float | None:
        """Until when the row may have been away for who looked before ``by``, at the most."""
        ends = [self.moments(version) for version in self._gone if self._versions[version][0] <= by]
        return max((found[1] for found in ends if found is not None), default=None)

    def saw(self, version: int, at: float) -> None:
        """Somebody was given it at that time, so it was visible by then."""
        known = self._versions.get(version)
        if known is not None and at < known[1]:
            self._versions[version] = known[0], at
            self._frozen = None

    def moments(self, version: int) -> tuple[float, float] | None:
        """Between which moments it may have been the newest visible version.

        None: nobody ever committed it.
        """
        if version not in self._versions:
            return None
        versions, begun, ended = self._frozen or self._freeze()
        place = bisect_left(versions, version)
        return begun[place], ended[place + 1]

    def _freeze(self) -> tuple[list[int], list[float], list[float]]:
        versions = sorted(self._versions)
        begun: list[float] = []
        latest = -math.inf
        for version in versions:
            latest = max(latest, self._versions[version][0])
            begun.append(latest)
        ended = [UNKNOWN]
        for version in reversed(versions):
            ended.append(min(ended[-1], self._versions[version][1]))
        ended.reverse()
        self._frozen = versions, begun, ended
        return self._frozen


class History:
    """The versions of every row."""

    def __init__(self, writes: Iterable[Write] = ()) -> None:
        self._rows: dict[tuple[str, int], RowHistory] = {}
        for write in writes:
            self.add(write)

    def add(self, write: Write) -> None:
        for seen in write.value:
            self.row(seen).add(
                seen.version, write.begun, write.ended, seen.total, gone=write.path == GONE
            )

    def row(self, seen: Seen) -> RowHistory:
        return self._rows.setdefault((seen.table, seen.row), RowHistory())

    def observe(self, reads: Iterable[Read]) -> None:
        """Whoever was given a version proves that it was visible by then."""
        for read in reads:
            if not read.private:
                for seen in read.value:
                    self.row(seen).saw(seen.version, read.ended)

    def moments(self, value: Value, by: float = UNKNOWN) -> tuple[float, float] | None:
        """Between which moments the whole value may have been true; they may be the wrong way
        round. ``by`` is when it had been read.

        None: a part of it was never committed. A row that is not there may have been away at any
        time before it came back, so it tells only when the value was over.
        """
        first, last = -math.inf, UNKNOWN
        for seen in value:
            row = self.row(seen)
            if seen.version == ABSENT:
                until = row.absent(by)
                if until is None:
                    return None
                last = min(last, until)
                continue
            found = row.moments(seen.version)
            if found is None or row.totals[seen.version] != seen.total:
                return None
            first, last = max(first, found[0]), min(last, found[1])
        return first, last


@dataclass
class Tally:
    """What was counted of one kind of reads."""

    reads: int = 0
    hits: int = 0
    private: int = 0
    regressions: int = 0
    ages: array[float] = field(default_factory=lambda: array("d"))

    def report(self) -> dict[str, Any]:
        ages = sorted(self.ages)
        return {
            "reads": self.reads,
            "hits": self.hits,
            "private": self.private,
            "regressions": self.regressions,
            "stale": len(ages),
            "staleness": {
                name: round(ages[min(len(ages) - 1, int(len(ages) * part))], 6)
                for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
            }
            if ages
            else {},
        }


class Checker:
    """Judges reads against a history.

    bound: seconds by which a `nudged` value may be stale, or None to judge none by age.
    """

    def __init__(self, history: History, bound: float | None) -> None:
        self.history = history
        self.bound = bound
        self.tallies: dict[str, Tally] = {}
        self.violations: Counter[str] = Counter()
        self.examples: list[dict[str, Any]] = []
        self._newest: dict[tuple[str, str, int], int] = {}

    def check(self, reads: Iterable[Read]) -> None:
        """Judge all of them; `reads` is gone through twice."""
        self.history.observe(reads)
        for read in reads:
            self.read(read)

    def read(self, read: Read) -> None:
        """Judge one."""
        tally = self.tallies.setdefault(read.kind, Tally())
        tally.reads += 1
        tally.hits += read.hit
        if read.private:
            tally.private += 1
            return
        moments = self.history.moments(read.value, read.ended)
        if moments is None:
            self.violate("never committed", read)
            return
        first, last = moments
        if first > read.ended:
            self.violate("not yet committed", read)
        elif first > last and "nested" not in read.kind:
            # A value inside another may be older than the other's own rows, within the lease.
            self.violate("of two moments", read, apart=first - last)
        age = read.begun - last
        if age > 0:
            tally.ages.append(age)
        if age > 0 and self._is_nudged(read) and self.bound is not None and age > self.bound:
            self.violate("beyond the lease", read, age=age, goes_back=self._goes_back(read))
        tally.regressions += self._goes_back(read)
        self._remember(read)

    def at_the_end(self, key: str, kind: str, cached: Value, true: Value, at: float) -> bool:
        """Compare a cached value with the database after everything is quiet; whether it is so."""
        if cached == true:
            return True
        read = Read(kind, "end", key, at, at, True, cached)
        moments = self.history.moments(cached)
        # JSON knows no infinity: a value that may still be true has no end.
        until = moments[1] if moments and math.isfinite(moments[1]) else None
        self.violate("stale at the end", read, true=true, true_until=until)
        return False

    def violate(self, what: str, read: Read, **more: Any) -> None:
        self.violations[what] += 1
        if sum(example["violation"] == what for example in self.examples) < EXAMPLES:
            self.examples.append({"violation": what, **read._asdict(), **more})

    def _is_nudged(self, read: Read) -> bool:
        return read.kind.startswith("nudged")

    def _goes_back(self, read: Read) -> bool:
        return any(
            seen.version < self._newest.get((read.reader, seen.table, seen.row), seen.version)
            for seen in read.value
        )

    def _remember(self, read: Read) -> None:
        for seen in read.value:
            place = (read.reader, seen.table, seen.row)
            if seen.version > self._newest.get(place, -1):
                self._newest[place] = seen.version


def stored_late(reads: Iterable[Read], again: float) -> defaultdict[str, set[Value]]:
    """Plain values, by key, that somebody stored longer after reading them than the rules' second
    delete comes: nothing deletes those.
    """
    late: defaultdict[str, set[Value]] = defaultdict(set)
    for read in reads:
        if read.kind.startswith("plain") and read.lag > again:
            late[read.key].add(read.value)
    return late
